/** What a checked policy allows, as flows. */
import { isCalled } from '../policy/claim-scope.ts'
import { parseDirection } from '../policy/direction.ts'
import type {
  AddressBlock,
  Conduit,
  ConduitProtocol,
  ModbusProtocol,
  ModbusRule,
  ModbusTable,
  OpcUaProtocol,
  OtherProtocol,
  Policy,
  Zone,
} from '../policy/model.ts'
import { zoneBlocks } from '../policy/zones.ts'
import {
  ANY_CONTENT,
  ANY_PORT,
  ANY_TRANSPORT,
  blockSpans,
  difference,
  type Flow,
  flow,
  ICMP,
  ICMP6,
  isEmpty,
  modbusContent,
  opcuaContent,
  TCP,
  UDP,
} from './flows.ts'
import { type Span, type Spans, span, spans, subtract, union } from './sets.ts'

/** What one protocol of one conduit allows. */
export interface ProtocolFlows {
  conduit: Conduit
  protocol: ConduitProtocol
  flows: Flow[]
}

export interface PolicyFlows {
  protocols: ProtocolFlows[]
  /** What the document says and a set cannot. */
  notes: string[]
}

/** @param blocksOf addresses of a zone: those that the document gives, or others that stand for them */
export function policyFlows(policy: Policy, blocksOf: (zone: Zone) => AddressBlock[] = zoneBlocks): PolicyFlows {
  const notes: string[] = []
  const protocols = policy.conduits.flatMap((conduit) =>
    conduit.protocols.map((protocol) => ({
      conduit,
      protocol,
      flows: flowsOf(policy, conduit, protocol, blocksOf, notes).filter((one) => !isEmpty(one)),
    })),
  )
  return { protocols, notes }
}

/** Zones that a protocol's direction goes from and to; null where it has none that can be read. */
export function endsOf(
  policy: Policy,
  conduit: Conduit,
  protocol: ConduitProtocol,
): { from: Zone; to: Zone; both: boolean } | null {
  const direction = protocol.direction === null ? null : parseDirection(protocol.direction)
  if (direction === null) return null
  const zones = policy.zones.filter((zone) => conduit.connects.includes(zone.id))
  const from = zones.find((zone) => isCalled(zone, direction.initiator))
  const to = zones.find((zone) => isCalled(zone, direction.responder))
  return from === undefined || to === undefined ? null : { from, to, both: direction.both }
}

function flowsOf(
  policy: Policy,
  conduit: Conduit,
  protocol: ConduitProtocol,
  blocksOf: (zone: Zone) => AddressBlock[],
  notes: string[],
): Flow[] {
  if (protocol.kind === 'other') return otherFlows(policy, conduit, protocol, blocksOf, notes)
  const ends = endsOf(policy, conduit, protocol)
  // A rule that is prose is from zone to zone, whatever stands for their addresses.
  const blocks = (rule: { fromProse: boolean; name: string; from: AddressBlock[]; to: AddressBlock[] }) => {
    if (!rule.fromProse || ends === null) return rule
    const back = rule.name.endsWith('(back)')
    return { from: blocksOf(back ? ends.to : ends.from), to: blocksOf(back ? ends.from : ends.to) }
  }
  return protocol.kind === 'modbus'
    ? modbusFlows(conduit, protocol, blocks, notes)
    : opcuaFlows(conduit, protocol, blocks, notes)
}

type BlocksOf = (rule: { fromProse: boolean; name: string; from: AddressBlock[]; to: AddressBlock[] }) => {
  from: AddressBlock[]
  to: AddressBlock[]
}

function modbusFlows(conduit: Conduit, protocol: ModbusProtocol, blocks: BlocksOf, notes: string[]): Flow[] {
  const of = (rule: ModbusRule): Flow[] => {
    const { from, to } = blocks(rule)
    return modbusBoxes(rule).map((box) =>
      flow({ from: blockSpans(from), to: blockSpans(to), transport: TCP, port: span(protocol.port), ...box }),
    )
  }
  for (const rule of protocol.rules) {
    const steps = Object.values(rule.values ?? {}).some((limits) => limits.some(({ maxStep }) => maxStep !== null))
    if (steps) notes.push(`${conduit.id}, rule "${rule.name}": max_step is left out: it is of no set of flows`)
  }
  return lessDenied(protocol.rules, of)
}

/** What rules allow, less what those with action: deny take from it. */
function lessDenied<Rule extends { action: 'allow' | 'deny' }>(
  rules: readonly Rule[],
  of: (rule: Rule) => Flow[],
): Flow[] {
  const allowed = rules.filter((rule) => rule.action === 'allow').flatMap(of)
  const denied = rules.filter((rule) => rule.action === 'deny').flatMap(of)
  return denied.length === 0 ? allowed : difference(allowed, denied)
}

const TABLE_OF: ReadonlyMap<number, ModbusTable> = new Map([
  [1, 'coils'],
  [2, 'discrete-inputs'],
  [3, 'holding-registers'],
  [4, 'input-registers'],
  [5, 'coils'],
  [6, 'holding-registers'],
  [15, 'coils'],
  [16, 'holding-registers'],
  [22, 'holding-registers'],
  [23, 'holding-registers'],
  [24, 'holding-registers'],
])
/** File records are data in none of the four tables, so that a rule with `addresses` cannot allow them. */
const FILE_RECORDS = [20, 21]
const WRITES_VALUES = [5, 6, 15, 16, 22, 23]

/** A rule's functions as boxes of content, unit, address and value: one for each that is held to other addresses. */
function modbusBoxes(rule: ModbusRule): Pick<Flow, 'content' | 'unit' | 'address' | 'value'>[] {
  const unit = rule.unitIds === null ? span(0, 255) : ranges(rule.unitIds)
  const boxes: Pick<Flow, 'content' | 'unit' | 'address' | 'value'>[] = []
  for (const { code, sub } of rule.functions) {
    if (rule.addresses !== null && FILE_RECORDS.includes(code)) continue
    const table = TABLE_OF.get(code)
    const content = modbusContent(code, sub)
    const address =
      table === undefined || rule.addresses === null ? span(0, 65535) : ranges(rule.addresses[table] ?? [])
    let free = address
    if (table !== undefined && WRITES_VALUES.includes(code)) {
      for (const { range, min, max } of rule.values?.[table] ?? []) {
        const held = subtract(address, subtract(span(0, 65535), ranges([range])))
        free = subtract(free, held)
        if (held.length > 0) boxes.push({ content, unit, address: held, value: span(min ?? 0, max ?? 65535) })
      }
    }
    if (free.length > 0) boxes.push({ content, unit, address: free, value: span(0, 65535) })
  }
  return together(boxes)
}

/** Functions that are held to the same are one box. */
function together(boxes: Pick<Flow, 'content' | 'unit' | 'address' | 'value'>[]) {
  const groups = new Map<string, (typeof boxes)[number]>()
  for (const box of boxes) {
    const key = [box.unit, box.address, box.value].map((set) => set.map(([low, high]) => `${low}-${high}`)).join(';')
    const same = groups.get(key)
    groups.set(key, same === undefined ? box : { ...same, content: union(same.content, box.content) })
  }
  return [...groups.values()]
}

const ranges = (list: readonly (readonly [number, number])[]): Spans =>
  spans(list.map(([low, high]): Span => [BigInt(low), BigInt(high)]))

/** Whether services are hidden from Headgate by encryption that it does not end. */
export const isBlind = ({ handling, securityModes }: OpcUaProtocol): boolean =>
  handling === 'inspect' && securityModes.includes('SignAndEncrypt')

function opcuaFlows(conduit: Conduit, protocol: OpcUaProtocol, blocks: BlocksOf, notes: string[]): Flow[] {
  const blind = isBlind(protocol)
  if (blind) {
    notes.push(`${conduit.id}: what ${protocol.protocol} does on encrypted channels cannot be seen, and is left out`)
  }
  if (
    protocol.rules.some(
      (rule) => rule.nodes !== null || rule.attributes !== null || rule.values !== null || rule.methods !== null,
    )
  ) {
    notes.push(`${conduit.id}: nodes, attributes, values and methods of ${protocol.protocol} are left out`)
  }
  if (protocol.reverseConnect.length > 0) {
    notes.push(`${conduit.id}: connections that ${protocol.protocol} servers open in reverse are left out`)
  }
  return lessDenied(protocol.rules, (rule) => {
    const { from, to } = blocks(rule)
    const content = blind ? ANY_CONTENT : spans(rule.services.flatMap((service) => [...opcuaContent(service)]))
    return [flow({ from: blockSpans(from), to: blockSpans(to), transport: TCP, port: span(protocol.port), content })]
  })
}

const TRANSPORTS: Record<OtherProtocol['transport'], Spans> = {
  tcp: TCP,
  udp: UDP,
  icmp: union(ICMP, ICMP6),
  any: ANY_TRANSPORT,
}

function otherFlows(
  policy: Policy,
  conduit: Conduit,
  protocol: OtherProtocol,
  blocksOf: (zone: Zone) => AddressBlock[],
  notes: string[],
): Flow[] {
  const ends = endsOf(policy, conduit, protocol)
  const ports = portsOf(protocol)
  if (ports === null) {
    notes.push(`${conduit.id}: ${protocol.protocol} has no port, so that no filter can allow it`)
    return []
  }
  if (ends === null && (protocol.from === null || protocol.to === null)) {
    notes.push(`${conduit.id}: ${protocol.protocol} has no direction, so that no filter can tell who opens it`)
    return []
  }
  const one = (from: AddressBlock[], to: AddressBlock[]): Flow =>
    flow({ from: blockSpans(from), to: blockSpans(to), transport: TRANSPORTS[protocol.transport], port: ports })
  if (ends === null) return [one(protocol.from ?? [], protocol.to ?? [])]
  const there = one(protocol.from ?? blocksOf(ends.from), protocol.to ?? blocksOf(ends.to))
  if (!ends.both || protocol.from !== null || protocol.to !== null) return [there]
  return [there, one(blocksOf(ends.to), blocksOf(ends.from))]
}

/** Ports of a protocol that Headgate does not carry; null where it needs one and has none. */
export function portsOf(protocol: OtherProtocol): Spans | null {
  const given = [
    ...(protocol.ports ?? []),
    ...(protocol.port === null ? [] : [[protocol.port, protocol.port] as const]),
  ]
  if (given.length > 0) return ranges(given)
  return protocol.transport === 'icmp' || protocol.transport === 'any' ? ANY_PORT : null
}
