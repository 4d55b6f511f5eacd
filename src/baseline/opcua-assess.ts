/**
 * OPC UA in a draft: what a rule may allow by itself (discovery, sessions, browsing, reading, subscriptions; writes and
 * calls that are routine, node by node), and what a person has to decide on: rare writes, changes of the address space,
 * and channels that hide what they carry.
 */
import { parseEndpointUrl } from '../policy/opcua-notations.ts'
import { isComplaint } from '../policy/values.ts'
import type { ServiceClass } from '../protocols/opcua/services.ts'
import { functionChanges, functionOfName, READ_ONLY_GROUPS, SERVICES } from '../protocols/opcua/services.ts'
import type { DecideItem } from './assess.ts'
import {
  type BaselineFile,
  type BaselineNode,
  type BaselineOpcUa,
  type BaselineService,
  requestsOf,
} from './baseline-file.ts'
import { methodText, patternOf } from './opcua-nodes.ts'
import { plural } from './rules.ts'

/** What one rule may allow, for one client and one server. */
export interface OpcUaGrant {
  row: BaselineOpcUa
  /** Names of services; `all` for a channel that hides them. */
  services: string[]
  /** What the channel has to be; null: whatever the protocol allows. */
  securityMode: string | null
  /** The nodes or methods of its one service that it is for, all with one attribute; null: any. */
  nodes: BaselineNode[] | null
}

/** A service of a row alone: where it changes something, of the nodes that are known of it. */
export function serviceGrant(row: BaselineOpcUa, name: string): OpcUaGrant {
  const { nodes } = row.services[name]
  const isNarrow = nodes.length > 0 && functionChanges(functionOfName(name))
  return { row, services: [name], securityMode: null, nodes: isNarrow ? nodes : null }
}

const GROUP_OF = new Map<string, ServiceClass>(SERVICES.map(({ name, group }) => [name, group]))
const HARMLESS = new Set<string | undefined>(READ_ONLY_GROUPS)
/** Routine where it is frequent. */
const WRITES = new Set<string | undefined>(['write', 'history-write', 'method'])
/** Rare nodes of one client, server and service that are decided on one by one; the rest together. */
const ONE_BY_ONE = 16
/** Nodes that a line spells out. */
const SHOWN_NODES = 4

/** Whether a rule can name a node, or the method on it. */
const isNamed = ({ node, method }: BaselineNode): boolean =>
  method === null ? patternOf(node) !== null : methodText([node, method]) !== null

/** `ns=2;s=Line1.Setpoint`, `ns=2;s=Line1/ns=2;s=Ack`; another attribute than Value is told. */
export const nodeName = ({ node, method, attribute }: BaselineNode): string =>
  `${node}${method === null ? '' : `/${method}`}${attribute === null || attribute === 'Value' ? '' : ` (${attribute})`}`

/** Some nodes by name, the first of them spelt out. */
export const nodeNames = (nodes: readonly BaselineNode[]): string =>
  `${nodes.slice(0, SHOWN_NODES).map(nodeName).join(', ')}${nodes.length > SHOWN_NODES ? ' …' : ''}`

const times = (n: number): string => (n === 1 ? 'once' : `${n} times`)

/** Nodes that one rule can hold: those of one attribute. */
const byAttribute = (nodes: readonly BaselineNode[]): BaselineNode[][] => [
  ...Map.groupBy(nodes, ({ attribute }) => attribute).values(),
]

export function assessOpcUa(
  baseline: BaselineFile,
  rare: number,
): { allow: OpcUaGrant[]; decide: Omit<DecideItem, 'id'>[] } {
  const allow: OpcUaGrant[] = []
  const decide: Omit<DecideItem, 'id'>[] = []
  decide.push(...silences(baseline.opcua))
  for (const row of baseline.opcua) {
    const object = (
      kind: DecideItem['kind'],
      services: string[],
      requests: number,
      why: string,
      grant: Partial<OpcUaGrant> | null,
    ): void => {
      const { client, target, port } = row
      const [only] = services
      const { first, last } = services.length === 1 && Object.hasOwn(row.services, only) ? row.services[only] : row
      const opcua = grant === null ? null : { row, services, securityMode: null, nodes: null, ...grant }
      const nothing = { unit: null, function: null, sub: null, flow: null }
      decide.push({ kind, client, target, port, ...nothing, requests, first, last, why, services, opcua })
    }
    const names = Object.keys(row.services)
    if (row.client === row.target) {
      const requests = requestsOf(row, names)
      object('same-host', names, requests, 'client and server are one host: no conduit lies between them', null)
      continue
    }
    const of = (groups: ReadonlySet<string | undefined>) => names.filter((name) => groups.has(GROUP_OF.get(name)))
    const harmless = of(HARMLESS)
    if (harmless.length > 0) allow.push({ row, services: harmless, securityMode: null, nodes: null })
    for (const name of of(WRITES)) {
      const service = row.services[name]
      const common = service.nodes.filter((one) => one.requests >= rare && isNamed(one))
      for (const nodes of byAttribute(common)) allow.push({ row, services: [name], securityMode: null, nodes })
      for (const [kind, requests, why, grant] of doubtsOf(name, service, rare))
        object(kind, [name], requests, why, grant)
    }
    for (const name of names) {
      const { requests, malformed } = row.services[name]
      const why = `${malformed} of ${plural(requests, `${name} request`)} break the specification`
      if (malformed > 0) object('malformed', [name], malformed, why, null)
    }
    for (const name of names) {
      const group = GROUP_OF.get(name)
      const why = `${name} changes the server itself`
      if (group === 'node-management' || group === 'registration')
        object('program', [name], requestsOf(row, [name]), why, {})
      else if (group === 'sessionless')
        object('program', [name], requestsOf(row, [name]), 'a request inside a request', null)
    }
    const [unknown, encrypted] = ['unknown', 'encrypted'].map((name) => requestsOf(row, [name]))
    if (unknown > 0) object('unknown-function', ['unknown'], unknown, 'requests of no service', null)
    if (encrypted > 0) {
      const mend =
        'terminate them (handling: terminate), or allow all or nothing (services: [all], security_modes: [SignAndEncrypt])'
      const why = `${plural(encrypted, 'message')} on encrypted channels, into which Headgate cannot look: ${mend}`
      object('opaque', ['encrypted'], encrypted, why, null)
      const last = decide[decide.length - 1]
      last.opcua = { row, services: ['all'], securityMode: 'SignAndEncrypt', nodes: null }
    }
    const clear = row.channels.reduce((sum, { mode, requests }) => sum + (mode === 'None' ? requests : 0), 0)
    if (isTerminated(row) && clear > 0) {
      const why = `${plural(clear, 'request')} on channels in clear beside encrypted ones: a conduit that terminates has None for discovery alone, and would deny them`
      object('opaque', ['None'], clear, why, null)
    }
    const bad = row.endpoint_urls.filter((url) => !isEndpointUrl(url))
    if (bad.length > 0) {
      const shown = bad.slice(0, 3).map((url) => JSON.stringify(url.slice(0, 64)))
      const why = `clients asked for ${plural(bad.length, 'endpoint URL')} that are none: ${shown.join(', ')}${bad.length > 3 ? ' …' : ''}`
      object('malformed', ['OpenSecureChannel'], bad.length, why, null)
    }
    if (row.garbage > 0) object('malformed', [], 0, `${plural(row.garbage, 'byte')} that belong to no chunk`, null)
  }
  return { allow, decide }
}

/** Whether a rule can name an endpoint URL. */
export const isEndpointUrl = (url: string): boolean => !isComplaint(parseEndpointUrl(url))

/** Whether encrypted channels ended where the baseline was made, so that it has what they carried. */
export const isTerminated = ({ channels, services }: BaselineOpcUa): boolean =>
  channels.some(({ mode }) => mode === 'SignAndEncrypt') && !Object.hasOwn(services, 'encrypted')

/** Servers to which a client connected without a word that make it a scanner. */
const SCAN_PROBES = 10

/** Connections without a request: one by one, or, where there are many of a client, as a scan. */
function silences(rows: readonly BaselineOpcUa[]): Omit<DecideItem, 'id'>[] {
  const silent = rows.filter((row) => Object.keys(row.services).length === 0 && row.client !== row.target)
  const nothing = { unit: null, function: null, sub: null, flow: null, services: [], requests: 0 }
  return [...Map.groupBy(silent, ({ client }) => client)].flatMap(([client, own]): Omit<DecideItem, 'id'>[] => {
    if (own.length < SCAN_PROBES) {
      return own.map(({ target, port, opened, first, last }) => {
        const why = `${plural(opened, 'connection')}, and no request of OPC UA`
        return { ...nothing, kind: 'no-request', client, target, port, first, last, why }
      })
    }
    const first = own.reduce((least, row) => (row.first < least ? row.first : least), own[0].first)
    const last = own.reduce((most, row) => (row.last > most ? row.last : most), own[0].last)
    const why = `connected to ${plural(own.length, 'server')} of OPC UA, and asked nothing`
    return [{ ...nothing, kind: 'scan', client, target: null, port: null, first, last, why }]
  })
}

type Doubt = [kind: DecideItem['kind'], requests: number, why: string, grant: Partial<OpcUaGrant> | null]

/** What of a service that changes something is not to be allowed without a word: kind, requests, why, and the grant. */
function doubtsOf(name: string, service: BaselineService, rare: number): Doubt[] {
  const { nodes, requests, malformed, unread, unlisted } = service
  const doubts: Doubt[] = []
  const named = nodes.filter((one) => one.requests < rare && isNamed(one))
  for (const one of named.slice(0, ONE_BY_ONE)) {
    const why = `${name} of ${nodeName(one)}${valueText(one)}, seen ${times(one.requests)} in all`
    doubts.push(['rare-write', one.requests, why, { nodes: [one] }])
  }
  for (const more of byAttribute(named.slice(ONE_BY_ONE))) {
    const most = Math.max(...more.map((one) => one.requests))
    const why = `${name} of ${plural(more.length, 'more node')} (${nodeNames(more)}), none seen more than ${times(most)}`
    doubts.push(['rare-write', more.reduce((sum, one) => sum + one.requests, 0), why, { nodes: more }])
  }
  const nameless = nodes.filter((one) => !isNamed(one))
  if (nameless.length > 0) {
    const why = `${name} of ${plural(nameless.length, 'node')} that no rule can name: ${nodeNames(nameless)}`
    doubts.push(['unlisted', nameless.reduce((sum, one) => sum + one.requests, 0), why, {}])
  } else if (unread + unlisted > 0) {
    const why = `${name} of nodes that are not in the baseline: ${plural(unlisted, 'item')} not kept or not named, ${plural(unread, 'request')} not readable`
    doubts.push(['unlisted', unread + unlisted, why, {}])
  }
  const sound = requests - malformed - unread
  if (nodes.length === 0 && unlisted === 0 && sound > 0)
    doubts.push(['rare-write', sound, `${name} that names no node, seen ${times(sound)} in all`, {}])
  return doubts
}

/** What was written, where it was numbers. */
export const valueText = ({ least, greatest }: BaselineNode): string =>
  least === null ? '' : least === greatest ? ` = ${least}` : ` = ${least}…${greatest}`

export interface DeniedOpcUa {
  kind: string
  reason: string
  service?: string | null
  node?: string | null
  method?: string | null
}

/** Whether what was denied on OPC UA is what an item is about. */
export function isAboutOpcUa(
  { services = [], opcua, kind }: Pick<DecideItem, 'services' | 'opcua' | 'kind'>,
  denied: DeniedOpcUa,
): boolean {
  if (denied.reason === 'pair') return true
  if (services.includes('encrypted')) {
    return (
      denied.reason === 'security' ||
      ['encrypted', 'OpenSecureChannel', 'CloseSecureChannel'].includes(denied.service ?? '')
    )
  }
  if (kind === 'malformed' && services.includes('OpenSecureChannel')) return denied.reason === 'security'
  if (denied.kind !== 'request' || !services.includes(denied.service ?? '')) return false
  if (kind === 'malformed') return denied.reason === 'malformed'
  const nodes = opcua?.nodes ?? null
  if (nodes === null || denied.node === null || denied.node === undefined) return true
  return nodes.some((one) => one.node === denied.node && (one.method === null || one.method === denied.method))
}
