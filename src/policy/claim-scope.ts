/** What a claim of the document speaks of, and what the document has there: rules, limits, modes, each with its line. */
import { isWrite } from '../protocols/modbus/function-codes.ts'
import { blocksOverlap, blockWithin } from './address.ts'
import { deniedFunction, deniedService } from './denied.ts'
import { parseDirection } from './direction.ts'
import type { Path, SourceDocument } from './document.ts'
import { show } from './findings.ts'
import type {
  AddressBlock,
  Conduit,
  ConduitProtocol,
  ModbusProtocol,
  OpcUaProtocol,
  Policy,
  Position,
  Zone,
} from './model.ts'
import { zoneBlocks } from './zones.ts'

/** A place of the document that speaks for or against a claim. */
export interface Place extends Position {
  what: string
}

/** A protocol that Headgate looks into. */
export type Inspected = ModbusProtocol | OpcUaProtocol
export type AnyProtocol = ConduitProtocol | OpcUaProtocol
type Rule = Inspected['rules'][number]

/** One protocol of one conduit that a claim speaks of, with the ways to their keys in the document. */
export interface Carried {
  conduit: Conduit
  protocol: AnyProtocol
  conduitPath: Path
  path: Path
}

export interface Scope {
  policy: Policy
  source: SourceDocument
  /** Where the claim stands. */
  zone: Zone | null
  conduit: Conduit | null
  /** Every protocol of every conduit that the claim speaks of. */
  carried: Carried[]
  /** Conduits that the claim speaks of, those that allow no protocol included. */
  conduits: { conduit: Conduit; path: Path }[]
}

export const isInspected = (protocol: AnyProtocol): protocol is Inspected => protocol.kind !== 'other'

export const inspected = (scope: Scope): (Carried & { protocol: Inspected })[] =>
  scope.carried.filter((one): one is Carried & { protocol: Inspected } => isInspected(one.protocol))

export const place = (scope: Scope, path: Path, what: string): Place => ({
  ...scope.source.position(path),
  what,
})

export const rulePlace = (rule: Rule): Place => ({
  ...rule.position,
  what: rule.fromProse ? 'the direction, which is the rule' : `rule "${rule.name}"`,
})

/** Why what the rules of a protocol say is not enforced by this gateway (yet); null where it is. */
export function notEnforced(scope: Scope, { conduit, protocol, conduitPath }: Carried): [string, Place] | null {
  if (conduit.mode === 'monitor') {
    const why = `conduit ${conduit.id} is in monitor mode, which blocks nothing`
    return [why, { ...scope.source.keyPosition([...conduitPath, 'mode']), what: `mode of ${conduit.id}` }]
  }
  const carried = scope.policy.gateway?.listeners.some(
    (one) => one.conduit === conduit.id && (one.protocol as string) === protocol.kind,
  )
  if (carried !== true) {
    const why = `no listener of this document's gateway carries ${protocol.protocol} of conduit ${conduit.id}`
    return [why, { ...protocol.position, what: `${protocol.protocol} of ${conduit.id}` }]
  }
  const trial = isInspected(protocol) ? protocol.rules.find((rule) => rule.mode === 'monitor') : undefined
  return trial === undefined ? null : [`rule "${trial.name}" is still in monitor`, rulePlace(trial)]
}

/** Rules that allow writing: Modbus functions that write or program, OPC UA services that change the server. */
export function writingRules(protocol: Inspected): Rule[] {
  if (protocol.kind !== 'modbus') return protocol.rules.filter((rule) => rule.action === 'allow' && changes(rule))
  return protocol.rules.filter(
    (rule) => rule.action === 'allow' && rule.functions.some((selector) => isWrite(selector.code)),
  )
}

/** Requests of OPC UA that change values, history, nodes, or call (OPC 10000-4 §5.8, §5.11.4, §5.11.5, §5.12). */
export const CHANGING_SERVICES: ReadonlySet<number> = new Set([488, 494, 500, 506, 673, 700, 712])
const changes = (rule: Rule): boolean =>
  'services' in rule && (rule.services as number[]).some((service) => CHANGING_SERVICES.has(service))

/** Whether deny rules take all the writing that `rule` allows from clients at `from`. */
export function deniesWriting(protocol: Inspected, rule: Rule, from: readonly AddressBlock[]): boolean {
  if (protocol.kind === 'modbus' && 'functions' in rule) {
    return rule.functions
      .filter((selector) => isWrite(selector.code))
      .every((selector) => deniedFunction(protocol.rules, { ...rule, from }, selector))
  }
  if (protocol.kind !== 'opcua' || !('services' in rule)) return false
  return rule.services
    .filter((service) => CHANGING_SERVICES.has(service))
    .every((service) => deniedService(protocol.rules, { ...rule, from }, service))
}

/** Zones that clients of a rule may be in. Addresses that nobody knows may be of any zone whose addresses nobody knows. */
export function clientZones(scope: Scope, carried: Carried, rule: Rule): Zone[] {
  return zonesOf(scope, carried, rule, rule.from, 'initiator')
}

/** Zones that targets of a rule may be in. */
export function targetZones(scope: Scope, carried: Carried, rule: Rule): Zone[] {
  return zonesOf(scope, carried, rule, rule.to, 'responder')
}

function zonesOf(
  { policy }: Scope,
  { conduit, protocol }: Carried,
  rule: Rule,
  blocks: readonly AddressBlock[],
  end: 'initiator' | 'responder',
): Zone[] {
  const ends = policy.zones.filter((zone) => conduit.connects.includes(zone.id))
  if (rule.fromProse) {
    const direction = protocol.direction === null ? null : parseDirection(protocol.direction)
    if (direction === null) return ends
    const back = rule.name.endsWith('(back)')
    const name = direction[back === (end === 'initiator') ? 'responder' : 'initiator']
    return ends.filter((zone) => isCalled(zone, name))
  }
  const unknown = ends.filter((zone) => zoneBlocks(zone).length === 0)
  const known = policy.zones.flatMap(zoneBlocks)
  const stray = blocks.length === 0 || blocks.some((block) => !blockWithin(block, known))
  const met = policy.zones.filter((zone) => zoneBlocks(zone).some((one) => blocks.some((b) => blocksOverlap(one, b))))
  return stray ? [...new Set([...met, ...unknown])] : met
}

/** By id or by the part before the first dash. */
export const isCalled = (zone: Zone, name: string): boolean => zone.id === name || zone.id.split('-')[0] === name

/** Whether all of a zone is at `level` or above, or, with `exactly`, has that level. */
export const atLevel = (zone: Zone, level: number, orAbove: boolean): boolean =>
  zone.purdueLevel !== null && zone.purdueLevel[1] >= level && (orAbove || zone.purdueLevel[0] <= level)

/** What becomes of a claim. */
export interface Outcome {
  status: 'enforced-here' | 'contradicted' | 'not-enforced' | 'enforced-elsewhere' | 'not-machine-checkable'
  by: string
  detail: string
  places?: Place[]
}

/** Held by these rules, where this gateway enforces them. */
export function byRules(scope: Scope, one: Carried, rules: readonly Rule[], why: string): Outcome {
  const places = rules.slice(0, 20).map(rulePlace)
  const by = ruleNames(rules)
  const gap = notEnforced(scope, one)
  if (gap === null) return { status: 'enforced-here', by, detail: why, places }
  return { status: 'not-enforced', by, detail: gap[0], places: [gap[1], ...places] }
}

/** The claim of each of several, as one: what contradicts it counts before what is missing, and that before the rest. */
export function together(outcomes: readonly Outcome[]): Outcome {
  const order: Outcome['status'][] = ['contradicted', 'not-enforced', 'enforced-elsewhere', 'enforced-here']
  const worst = order.flatMap((status) => outcomes.filter((one) => one.status === status))[0]
  if (worst === undefined || worst.status !== 'enforced-here' || outcomes.length === 1) return worst
  const by = [...new Set(outcomes.map((one) => one.by))].join('; ')
  return { ...worst, by, places: outcomes.flatMap((one) => one.places ?? []).slice(0, 20) }
}

export function ruleNames(rules: readonly { name: string; fromProse: boolean }[]): string {
  if (rules.length === 0) return 'no rule: all is denied'
  const names = rules.slice(0, 3).map((rule) => (rule.fromProse ? 'the direction itself' : show(rule.name)))
  const more = rules.length > 3 ? ` and ${rules.length - 3} more` : ''
  return `${rules.length === 1 ? 'rule' : 'rules'} ${names.join(', ')}${more}`
}
