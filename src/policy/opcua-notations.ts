/** The notations of an OPC UA rule: services, NodeIds and patterns of them, attributes, methods, thumbprints, URLs. */
import { ATTRIBUTES } from '../protocols/opcua/attributes.ts'
import { OPCUA_SERVICE_GROUPS, SERVICES, servicesIn } from '../protocols/opcua/services.ts'
import { didYouMean } from './findings.ts'
import { type MethodPattern, type NodePattern, OPCUA_SECURITY_MODES, type OpcUaSecurityMode } from './model.ts'
import { Complaint, isComplaint } from './values.ts'

/** What every rule may allow: all services but those of the channel, and the one that wraps another. */
export const ALL_SERVICES: readonly number[] = SERVICES.filter(
  ({ group }) => group !== 'channel' && group !== 'sessionless',
)
  .map(({ request }): number => request)
  .sort((a, b) => a - b)

export const serviceNames = (): string[] => [
  ...OPCUA_SERVICE_GROUPS,
  'all',
  ...SERVICES.filter(({ request }) => ALL_SERVICES.includes(request)).map(({ name }) => name),
]

/**
 * An entry of a rule's `services`: a group (`browse`), a service by the specification's name (`Browse`), or `all`.
 * @returns type ids of requests
 */
export function parseService(value: unknown): number[] | Complaint {
  if (value === 'all') return [...ALL_SERVICES]
  const group = OPCUA_SERVICE_GROUPS.find((one) => one === value)
  if (group !== undefined) return servicesIn(group)
  const service = SERVICES.find(({ name }) => name === value)
  if (service !== undefined && ALL_SERVICES.includes(service.request)) return [service.request]
  const near = typeof value === 'string' ? didYouMean(value, serviceNames()) : ''
  return new Complaint(
    `an OPC UA service by its name (Read), a group (${OPCUA_SERVICE_GROUPS.join(', ')}) or all${near}`,
  )
}

/** `Value`, or a number 1 to 27. @returns the attribute's id */
export function parseAttribute(value: unknown): number | Complaint {
  const id = typeof value === 'number' ? value : typeof value === 'string' ? ATTRIBUTES.indexOf(value) : -1
  if (Number.isInteger(id) && id > 0 && id < ATTRIBUTES.length) return id
  const near = typeof value === 'string' ? didYouMean(value, ATTRIBUTES.slice(1)) : ''
  return new Complaint(`an attribute by its name (Value, DisplayName, …) or number, 1 to 27${near}`)
}

const NODE = 'a NodeId such as "i=2258", "ns=2;s=Line1.*", "ns=3;i=1001-1099" or "nsu=urn:plant:cell;g=…"'
const GUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/**
 * A NodeId as text (OPC 10000-6 §5.3.1.10), a range of numeric ones, or a glob of string ones. In a namespace URI,
 * `%3B` stands for a semicolon and `%25` for a percent sign.
 */
export function parseNodePattern(value: unknown): NodePattern | Complaint {
  if (typeof value !== 'string' || value.length > 4096) return new Complaint(NODE)
  const match = /^(?:ns=(\d{1,5});|nsu=([^;]+);)?([isgb])=(.+)$/s.exec(value)
  if (match === null) return new Complaint(NODE)
  const [, index, uri, type, text] = match
  if (index !== undefined && Number(index) > 65_535) return new Complaint(`${NODE}; namespace indexes end at 65535`)
  const namespace = uri === undefined ? Number(index ?? 0) : unescapeUri(uri)
  const id = parseIdentifier(type, text)
  return isComplaint(id) ? id : { text: value, namespace, id }
}

function parseIdentifier(type: string, text: string): NodePattern['id'] | Complaint {
  switch (type) {
    case 'i': {
      const range = /^(\d{1,10})(?:-(\d{1,10}))?$/.exec(text)
      const low = Number(range?.[1])
      const high = Number(range?.[2] ?? range?.[1])
      if (range === null || high > 0xffffffff || low > high)
        return new Complaint('numbers 0 to 4294967295 behind i=, or a range from low to high such as i=1001-1099')
      return { type: 'numeric', range: [low, high] }
    }
    case 's':
      return { type: 'string', glob: text }
    case 'g':
      if (!GUID.test(text)) return new Complaint('a GUID such as 09087e75-8e5e-499b-954f-f2a9603db28a behind g=')
      return { type: 'guid', guid: text.toLowerCase() }
    default:
      if (Buffer.from(text, 'base64').toString('base64') !== text) return new Complaint('bytes in base64 behind b=')
      return { type: 'opaque', base64: text }
  }
}

const unescapeUri = (uri: string): string => uri.replaceAll(/%3b/gi, ';').replaceAll('%25', '%')

/** Methods of the standard that change nothing, by name: those of the object that has them, and those of its type. */
const READ_ONLY_METHODS: Readonly<Record<string, readonly string[]>> = {
  GetMonitoredItems: ['i=11492', 'i=11489'],
  ResendData: ['i=12873', 'i=12871'],
  ConditionRefresh: ['i=3875'],
  ConditionRefresh2: ['i=12912'],
}

/** `OBJECT/METHOD`, a method alone (on any object), or one of the read-only methods of the standard by its name. */
export function parseMethod(value: unknown): MethodPattern[] | Complaint {
  const named = typeof value === 'string' && Object.hasOwn(READ_ONLY_METHODS, value) ? READ_ONLY_METHODS[value] : null
  if (named !== null) {
    return named.map((text) => ({ text: `${value}`, object: null, method: parseNodePattern(text) as NodePattern }))
  }
  if (typeof value === 'string') {
    // A string NodeId may hold a slash of its own: a split counts where a NodeId stands on both sides of it.
    for (const { index } of value.matchAll(/\/(?=(?:ns=|nsu=|[isgb]=))/g)) {
      const object = parseNodePattern(value.slice(0, index))
      const method = parseNodePattern(value.slice(index + 1))
      if (!isComplaint(object) && !isComplaint(method)) return [{ text: value, object, method }]
    }
    const method = parseNodePattern(value)
    if (!isComplaint(method)) return [{ text: value, object: null, method }]
  }
  const names = Object.keys(READ_ONLY_METHODS)
  const near = typeof value === 'string' ? didYouMean(value, names) : ''
  return new Complaint(`OBJECT/METHOD as NodeIds ("ns=2;s=Line1/ns=2;s=Ack"), a method, or ${names.join(', ')}${near}`)
}

/** SHA-1 of a certificate in DER: 40 hexadecimal digits, colons and spaces do not matter. @returns lower case */
export function parseThumbprint(value: unknown): string | Complaint {
  const digits = typeof value === 'string' ? value.replaceAll(/[:\s]/g, '').toLowerCase() : ''
  return /^[0-9a-f]{40}$/.test(digits)
    ? digits
    : new Complaint('the SHA-1 thumbprint of a certificate: 40 hexadecimal digits')
}

/** `opc.tcp://host[:port][/path]`, as a client writes it in its Hello. */
export function parseEndpointUrl(value: unknown): string | Complaint {
  const valid = typeof value === 'string' && value.length < 4096 && /^opc\.tcp:\/\/[^\s/]+(?:\/\S*)?$/i.test(value)
  return valid ? value : new Complaint('an endpoint URL such as opc.tcp://10.20.1.5:4840/UA')
}

/** What the prose of `security_mode` asks for; null where it speaks of something else. */
export function parseModeProse(text: string): OpcUaSecurityMode | null {
  const word = text.toLowerCase().replaceAll(/[\s_&+-]+|and/g, '')
  return OPCUA_SECURITY_MODES.find((mode) => mode.toLowerCase().replaceAll('and', '') === word) ?? null
}
