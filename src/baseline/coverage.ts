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
import { SERVICES } from '../protocols/opcua/services.ts'
import { type BaselineFlow, valuesWithin } from './baseline-file.ts'
import type { OpcUaGrant } from './opcua-assess.ts'
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

/** What a policy says of services: all are allowed, a rule denies one of them, or neither. Nodes are not asked about. */
export function opcuaStanding(policy: Policy, { row, services }: OpcUaGrant): 'allowed' | 'denied' | 'open' {
  const ids = SERVICES.filter(({ name, group }) =>
    services.includes('all') ? group !== 'channel' && group !== 'sessionless' : services.includes(name),
  ).map(({ request }) => request)
  const holds = (blocks: OpcUaRule['from'], text: string): boolean => {
    const address = parseAddress(text)
    return address !== null && blocks.some((block) => blockHolds(block, address))
  }
  let denied = false
  for (const place of placesOf(policy, 'opcua') as ProtocolPlace<OpcUaProtocol>[]) {
    if (!leadsTo(policy, place, row)) continue
    const rules = place.protocol.rules.filter((rule) => holds(rule.from, row.client) && holds(rule.to, row.target))
    if (rules.some((rule) => rule.action === 'deny' && rule.services.some((id) => ids.includes(id)))) denied = true
    const allowing = rules.filter((rule) => rule.action === 'allow')
    if (ids.length > 0 && ids.every((id) => allowing.some((rule) => rule.services.includes(id)))) return 'allowed'
  }
  return denied ? 'denied' : 'open'
}

/** Whether the rules of a protocol are asked about a target's port: the conduit's, or one of its listeners'. */
export const leadsTo = (
  policy: Policy,
  { conduit, protocol }: ProtocolPlace,
  flow: Pick<BaselineFlow, 'target' | 'port'>,
): boolean =>
  protocol.port === flow.port ||
  (policy.gateway?.listeners ?? []).some(
    ({ conduit: id, target }) =>
      id === conduit.id && target.port === flow.port && target.address.base === parseAddress(flow.target),
  )

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
