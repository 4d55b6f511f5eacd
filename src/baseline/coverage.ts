/** How far a policy's rules allow what a baseline has. */
import { blockHolds, parseAddress } from '../policy/address.ts'
import {
  type Conduit,
  MODBUS_TABLES,
  type ModbusProtocol,
  type ModbusRule,
  type ModbusTable,
  type OpcUaProtocol,
  type OpcUaRule,
  type Policy,
  type Range,
} from '../policy/model.ts'
import { ATTRIBUTES } from '../protocols/opcua/attributes.ts'
import { hasNodes } from '../protocols/opcua/requests.ts'
import { REQUEST, SERVICES } from '../protocols/opcua/services.ts'
import { type BaselineFlow, type BaselineNode, type BaselineOpcUa, valuesWithin } from './baseline-file.ts'
import { isTarget } from './listeners.ts'
import type { OpcUaGrant } from './opcua-assess.ts'
import { hasMethod, hasNode } from './opcua-nodes.ts'
import { joinRanges } from './ranges.ts'

/** What the rules of one protocol say of a flow. */
export interface Coverage {
  /** The part that no rule allows: the flow with the addresses that are left; null: all of it is allowed. */
  rest: BaselineFlow | null
  /** The deny rule that stands against it; null: none. */
  deniedBy: ModbusRule | null
}

export function coverage(protocol: ModbusProtocol, flow: BaselineFlow): Coverage {
  const rules = protocol.rules.filter((rule) => speaksOf(rule, flow))
  const deniedBy = rules.find((rule) => rule.action === 'deny' && touches(rule, flow)) ?? null
  const allowing = rules.filter((rule) => rule.action === 'allow')
  return { rest: restOf(allowing, flow), deniedBy }
}

export interface ProtocolPlace<P extends CarriedProtocol = CarriedProtocol> {
  conduit: Conduit
  /** Index of the conduit in the document, and of the protocol in it. */
  at: [number, number]
  protocol: P
}

type CarriedProtocol = ModbusProtocol | OpcUaProtocol

export function placesOf(policy: Policy, kind: CarriedProtocol['kind']): ProtocolPlace[] {
  return policy.conduits.flatMap((conduit, i) =>
    conduit.protocols.flatMap((protocol, j): ProtocolPlace[] =>
      protocol.kind !== 'other' && protocol.kind === kind ? [{ conduit, at: [i, j], protocol }] : [],
    ),
  )
}

export const modbusOf = (policy: Policy): ProtocolPlace<ModbusProtocol>[] =>
  placesOf(policy, 'modbus') as ProtocolPlace<ModbusProtocol>[]

/** What a policy says of services and their nodes: all are allowed, a rule denies one of them, or neither. */
export function opcuaStanding(policy: Policy, grant: OpcUaGrant): 'allowed' | 'denied' | 'open' {
  const rest = opcuaRest(policy, grant)
  if (rest === null) return 'allowed'
  const denied = rulesFor(policy, rest.row).some((rule) => rule.action === 'deny' && denies(rule, rest))
  return denied ? 'denied' : 'open'
}

/** The part of a grant that no rule allows: fewer services, or fewer nodes; null: all of it is allowed. */
export function opcuaRest(policy: Policy, grant: OpcUaGrant): OpcUaGrant | null {
  const rules = rulesFor(policy, grant.row).filter((rule) => rule.action === 'allow')
  if (grant.nodes !== null) {
    const nodes = grant.nodes.filter((one) => !rules.some((rule) => has(rule, grant.services[0], one)))
    return nodes.length === 0 ? null : nodes.length === grant.nodes.length ? grant : { ...grant, nodes }
  }
  const services = grant.services.includes('all')
    ? ALL_OPCUA.filter((name) => !rules.some((rule) => isWhole(rule, name)))
    : grant.services.filter((name) => !rules.some((rule) => isWhole(rule, name)) && !isRead(rules, grant, name))
  if (services.length === 0) return null
  return grant.services.includes('all') || services.length === grant.services.length ? grant : { ...grant, services }
}

/** What a conduit's rules say of one service for whatever node: allowed, denied for some node at least, or neither. */
export function serviceStanding(
  policy: Policy,
  conduit: string,
  { client, target, port, service }: { client: string; target: string; port: number; service: string },
): 'allowed' | 'denied' | 'open' {
  const rules = rulesFor(policy, { client, target, port }, conduit)
  const id = ID_OF.get(service) ?? -1
  if (rules.some((rule) => rule.action === 'deny' && rule.services.includes(id))) return 'denied'
  return rules.some((rule) => rule.action === 'allow' && isWhole(rule, service)) ? 'allowed' : 'open'
}

const ALL_OPCUA = SERVICES.filter(({ group }) => group !== 'channel' && group !== 'sessionless').map(({ name }) => name)
const ID_OF: ReadonlyMap<string, number> = new Map(SERVICES.map(({ name, request }) => [name, request]))

/** @param conduit null: any */
function rulesFor(
  policy: Policy,
  row: Pick<BaselineOpcUa, 'client' | 'target' | 'port'>,
  conduit: string | null = null,
): OpcUaRule[] {
  const holds = (blocks: OpcUaRule['from'], text: string): boolean => {
    const address = parseAddress(text)
    return address !== null && blocks.some((block) => blockHolds(block, address))
  }
  return (placesOf(policy, 'opcua') as ProtocolPlace<OpcUaProtocol>[])
    .filter((place) => (conduit === null || place.conduit.id === conduit) && leadsTo(policy, place, row))
    .flatMap(({ protocol }) => protocol.rules)
    .filter((rule) => holds(rule.from, row.client) && holds(rule.to, row.target))
}

/** Whether a rule allows a service for whatever node. Values are not asked about. */
function isWhole(rule: OpcUaRule, name: string): boolean {
  const id = ID_OF.get(name) ?? -1
  if (!rule.services.includes(id)) return false
  if (id === REQUEST.Call && rule.methods !== null) return false
  return !hasNodes(id) || (rule.nodes === null && (rule.attributes === null || !WRITING.has(id)))
}

const WRITING: ReadonlySet<number> = new Set([REQUEST.Write, REQUEST.HistoryUpdate])

/** Whether rules allow all nodes that a service has named, each by one of them. Which attributes were read is not known. */
function isRead(rules: readonly OpcUaRule[], { row }: OpcUaGrant, name: string): boolean {
  const service = Object.hasOwn(row.services, name) ? row.services[name] : null
  if (service === null || service.nodes.length === 0 || service.unlisted + service.unread > 0) return false
  return service.nodes.every((one) => rules.some((rule) => has(rule, name, one)))
}

function has(rule: OpcUaRule, name: string, { node, method, attribute }: BaselineNode): boolean {
  if (isWhole(rule, name)) return true
  if (!rule.services.includes(ID_OF.get(name) ?? -1)) return false
  if (method !== null && rule.methods !== null) return hasMethod(rule.methods, node, method)
  const named = rule.nodes === null || (hasNode(rule.nodes, node) && (method === null || hasNode(rule.nodes, method)))
  return named && (attribute === null || rule.attributes === null || hasAttribute(rule.attributes, attribute))
}

const hasAttribute = (ids: readonly number[], name: string): boolean => ids.includes(ATTRIBUTES.indexOf(name))

/** Whether a deny rule speaks of some of a grant. */
function denies(rule: OpcUaRule, { services, nodes }: OpcUaGrant): boolean {
  const all = services.includes('all') ? ALL_OPCUA : services
  if (!all.some((name) => rule.services.includes(ID_OF.get(name) ?? -1))) return false
  if (nodes === null) return true
  return nodes.some(({ node, method, attribute }) => {
    if (method !== null && rule.methods !== null) return hasMethod(rule.methods, node, method, true)
    if (attribute !== null && rule.attributes !== null && !hasAttribute(rule.attributes, attribute)) return false
    return (
      rule.nodes === null || hasNode(rule.nodes, node, true) || (method !== null && hasNode(rule.nodes, method, true))
    )
  })
}

/**
 * Whether the rules of a protocol are asked about a target's port: the conduit's, or one of its listeners'. Of OPC UA also
 * where the server opens the connection: then the listener's target is the client.
 */
export function leadsTo(
  policy: Policy,
  { conduit, protocol }: ProtocolPlace,
  { client, target, port }: Pick<BaselineFlow, 'target' | 'port'> & { client?: string },
): boolean {
  if (protocol.port === port) return true
  const [server, asking] = [parseAddress(target), client === undefined ? null : parseAddress(client)]
  const reversed =
    protocol.kind === 'opcua' && asking !== null && protocol.reverseConnect.some((block) => blockHolds(block, asking))
  const leads = (address: bigint | null): boolean => address !== null && isTarget(policy, conduit.id, { address, port })
  return leads(server) || (reversed && leads(asking))
}

/** What a policy says of a flow: all of it is allowed, a deny rule stands against it, or neither. */
export function standing(policy: Policy, flow: BaselineFlow): 'allowed' | 'denied' | 'open' {
  let denied = false
  for (const place of modbusOf(policy)) {
    if (!leadsTo(policy, place, flow)) continue
    const { rest, deniedBy } = coverage(place.protocol, flow)
    if (deniedBy !== null) denied = true
    else if (rest === null) return 'allowed'
  }
  return denied ? 'denied' : 'open'
}

/** Client, target, unit and function are the rule's. */
function speaksOf(rule: ModbusRule, flow: BaselineFlow): boolean {
  const holds = (blocks: ModbusRule['from'], text: string): boolean => {
    const address = parseAddress(text)
    return address !== null && blocks.some((block) => blockHolds(block, address))
  }
  return (
    holds(rule.from, flow.client) &&
    holds(rule.to, flow.target) &&
    (rule.unitIds === null || rule.unitIds.some(([low, high]) => flow.unit >= low && flow.unit <= high)) &&
    rule.functions.some(({ code, sub }) => code === flow.function && (sub === null || sub === flow.sub))
  )
}

function touches(rule: ModbusRule, flow: BaselineFlow): boolean {
  const { addresses } = rule
  const used = MODBUS_TABLES.filter((table) => flow.addresses[table] !== undefined)
  if (addresses === null || used.length === 0) return true
  return used.some((table) =>
    flow.addresses[table]?.some((one) => addresses[table]?.some(([low, high]) => one[0] <= high && one[1] >= low)),
  )
}

const isFileFunction = (code: number): boolean => code === 20 || code === 21

function restOf(rules: readonly ModbusRule[], flow: BaselineFlow): BaselineFlow | null {
  if (rules.some((rule) => rule.addresses === null)) return null
  const used = MODBUS_TABLES.filter((table) => flow.addresses[table] !== undefined)
  if (used.length === 0) return rules.length > 0 && !isFileFunction(flow.function) ? null : flow
  // FC 23 reads and writes in one request: one rule has to hold both.
  if (flow.function === 23)
    return rules.some((rule) => used.every((table) => outside(rule, table, flow).length === 0)) ? null : flow
  const addresses: BaselineFlow['addresses'] = {}
  let whole = true
  for (const table of used) {
    let left = flow.addresses[table] as [number, number][]
    for (const rule of rules) left = left.filter((one) => !within(one, rule.addresses?.[table] ?? []))
    if (left.length > 0) addresses[table] = left
    if (left.length < (flow.addresses[table] as [number, number][]).length) whole = false
  }
  if (whole) return flow
  if (Object.keys(addresses).length === 0) return null
  return { ...flow, addresses, values: valuesWithin(flow, addresses) }
}

const outside = (rule: ModbusRule, table: ModbusTable, flow: BaselineFlow): Range[] =>
  (flow.addresses[table] ?? []).filter((one) => !within(one, rule.addresses?.[table] ?? []))

const within = (one: Range, ranges: readonly Range[]): boolean =>
  joinRanges(ranges).some(([low, high]) => one[0] >= low && one[1] <= high)
