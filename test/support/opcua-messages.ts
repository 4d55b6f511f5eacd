/** OPC UA messages for tests: node-opcua's encodings, and rules as the checked policy has them. */
import { BinaryStream } from 'node-opcua'
import type { NodePattern } from '../../src/policy/model.ts'
import { parseMethod, parseNodePattern, parseService } from '../../src/policy/opcua-notations.ts'
import { isComplaint } from '../../src/policy/values.ts'
import { ATTRIBUTES } from '../../src/protocols/opcua/attributes.ts'
import { Writer } from '../../src/protocols/opcua/binary.ts'
import { RuleTable, type RuleTerms } from '../../src/protocols/opcua/decide.ts'
import { REQUEST, RESPONSE } from '../../src/protocols/opcua/services.ts'

/** What node-opcua's classes of messages have. */
export interface Encodable {
  encode(stream: BinaryStream): void
  decode(stream: BinaryStream): void
  constructor: { name: string }
}

/** The type id of a message, by the name of node-opcua's class: `ReadRequest`. */
export function typeIdOf(message: Encodable): number {
  const name = message.constructor.name
  const [, service, kind] = /^(.*)(Request|Response)$/.exec(name) ?? []
  const ids: Record<string, number> = kind === 'Request' ? REQUEST : RESPONSE
  if (!(service in ids)) throw new Error(`no service of ${name}`)
  return ids[service]
}

/** A message as it stands in a chunk behind the sequence header: TypeId and body. */
export function encodeMessage(message: Encodable): Uint8Array {
  const stream = new BinaryStream(Buffer.alloc(1 << 20))
  message.encode(stream)
  const typeId = new Writer().numericNodeId(0, typeIdOf(message)).written()
  return Uint8Array.from([...typeId, ...stream.buffer.subarray(0, stream.length)])
}

/** Decodes a message of known class; throws where node-opcua cannot, or where bytes are left. */
export function decodeMessage<T extends Encodable>(into: T, bytes: Uint8Array): T {
  const typeId = new Writer().numericNodeId(0, typeIdOf(into)).written()
  if (Buffer.compare(bytes.subarray(0, typeId.length), typeId) !== 0) throw new Error('another type id')
  const stream = new BinaryStream(Buffer.from(bytes.subarray(typeId.length)))
  into.decode(stream)
  if (stream.length !== stream.buffer.length) throw new Error(`${stream.buffer.length - stream.length} bytes are left`)
  return into
}

function sound<T>(value: T): Exclude<T, { expected: string }> {
  if (isComplaint(value)) throw new Error(`expected ${value.expected}`)
  return value as Exclude<T, { expected: string }>
}

export const pattern = (text: string): NodePattern => sound(parseNodePattern(text)) as NodePattern

/** A rule in the words of a policy. */
export interface RuleText {
  name?: string
  action?: 'allow' | 'deny'
  services?: string[]
  nodes?: string[]
  attributes?: string[]
  values?: Record<string, { min?: number; max?: number }>
  methods?: string[]
  mode?: 'monitor'
}

export function ruleTerms(text: RuleText, index: number): RuleTerms {
  return {
    name: text.name ?? `rule-${index + 1}`,
    action: text.action ?? 'allow',
    services: (text.services ?? ['all']).flatMap((one) => sound(parseService(one)) as number[]),
    nodes: text.nodes?.map(pattern) ?? null,
    attributes: text.attributes?.map((name) => ATTRIBUTES.indexOf(name)) ?? null,
    values:
      text.values === undefined
        ? null
        : Object.entries(text.values).map(([node, { min = null, max = null }]) => ({ node: pattern(node), min, max })),
    methods: text.methods?.flatMap((one) => sound(parseMethod(one)) as RuleTerms['methods'] & object) ?? null,
    mode: text.mode ?? null,
  }
}

export const ruleTable = (...rules: RuleText[]): RuleTable =>
  new RuleTable(rules.map((rule, index) => ({ index, terms: ruleTerms(rule, index) })))
