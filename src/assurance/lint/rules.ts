/** The lints: each finds its own in a checked policy, and nothing else. */
import { blocksOverlap, blockWithin } from '../../policy/address.ts'
import {
  type AnyProtocol,
  CHANGING_SERVICES,
  deniesWriting,
  type Inspected,
  isInspected,
  writingRules,
} from '../../policy/claim-scope.ts'
import { parseDirection } from '../../policy/direction.ts'
import type { Path, SourceDocument } from '../../policy/document.ts'
import { show } from '../../policy/findings.ts'
import type { AddressBlock, Conduit, OpcUaRule, Policy, Position, Zone } from '../../policy/model.ts'
import { ALL_SERVICES } from '../../policy/opcua-notations.ts'
import { zoneBlocks } from '../../policy/zones.ts'
import { FUNCTION_GROUPS, selectorName } from '../../protocols/modbus/function-codes.ts'
import { REQUEST } from '../../protocols/opcua/services.ts'
import type { LintId } from './catalogue.ts'
import {
  isBelowDmz,
  isControl,
  isDmz,
  isEnterprise,
  isSafetyZone,
  reachesOperations,
  safetyAndControlAssets,
} from './levels.ts'

export interface Hit {
  id: LintId
  position: Position
  /** What was found there. */
  message: string
  /** Names by which a suppression may mean it: ids of zones and conduits, `CONDUIT/RULE`. */
  at: string[]
}

export interface LintInput {
  policy: Policy
  source: SourceDocument
  /** The day, for dates in the document. */
  now: Date
}

type Rule = Inspected['rules'][number]
/** Finds its own; `hit` adds a finding. */
type LintRule = (input: LintInput) => Hit[]

const zoneOf = (policy: Policy, id: string): Zone | undefined => policy.zones.find((zone) => zone.id === id)
const ends = (policy: Policy, conduit: Conduit): Zone[] => conduit.connects.flatMap((id) => zoneOf(policy, id) ?? [])
const zonePosition = ({ policy, source }: LintInput, zone: Zone): Position =>
  source.position(zonePath(policy, source, zone))

/** Zones are found again by their id: entries that could not be read are no zones of the policy. */
function zonePath(_: Policy, { value }: SourceDocument, zone: Zone): Path {
  const zones = (value as { zones: { zone_id?: unknown }[] }).zones
  return ['zones', zones.findIndex((one) => one?.zone_id === zone.id)]
}

/** Where a conduit's key stands, or the conduit where it has none. */
function conduitKey({ source }: LintInput, conduit: Conduit, key: string): Position {
  const { conduits } = source.value as { conduits: { conduit_id?: unknown }[] }
  return source.keyPosition(['conduits', conduits.findIndex((one) => one?.conduit_id === conduit.id), key])
}

/** Each protocol that Headgate looks into, with its conduit. */
function* inspectedOf(policy: Policy): Generator<[Conduit, Inspected]> {
  for (const conduit of policy.conduits) {
    for (const protocol of conduit.protocols as AnyProtocol[]) if (isInspected(protocol)) yield [conduit, protocol]
  }
}

function* rulesOf(policy: Policy): Generator<[Conduit, Inspected, Rule]> {
  for (const [conduit, protocol] of inspectedOf(policy)) {
    for (const rule of protocol.rules) if (rule.action === 'allow') yield [conduit, protocol, rule]
  }
}

const ruleAt = (conduit: Conduit, rule: Rule): string[] => [conduit.id, `${conduit.id}/${rule.name}`]

const sisConduit: LintRule = (input) =>
  input.policy.conduits.flatMap((conduit) => {
    const zone = ends(input.policy, conduit).find(isSafetyZone)
    if (zone === undefined) return []
    const message = `found conduit ${conduit.id}, which touches ${zone.id}, a zone of a safety instrumented system`
    return [{ id: 'sis-conduit', position: conduitKey(input, conduit, 'connects'), message, at: [conduit.id, zone.id] }]
  })

const sisWithBpcs: LintRule = (input) =>
  input.policy.zones.flatMap((zone) => {
    const { safety, control } = safetyAndControlAssets(zone)
    if (safety.length === 0 || control.length === 0) return []
    const message = `found ${show(safety[0])} of a safety instrumented system and ${show(control[0])} of process control in zone ${zone.id}`
    return [{ id: 'sis-with-bpcs', position: zonePosition(input, zone), message, at: [zone.id] }]
  })

/** Conduits from level 4 or above to below the DMZ, told apart by what they reach. */
const levelJumps: LintRule = (input) =>
  input.policy.conduits.flatMap((conduit): Hit[] => {
    const zones = ends(input.policy, conduit)
    const above = zones.find(isEnterprise)
    const below = zones.find(isBelowDmz)
    if (above === undefined || below === undefined) return []
    const message = `found conduit ${conduit.id} between ${above.id} (level ${level(above)}) and ${below.id} (level ${level(below)})`
    const position = conduitKey(input, conduit, 'connects')
    const id = isControl(below) ? 'enterprise-to-control' : 'bypasses-dmz'
    return [{ id, position, message, at: [conduit.id, above.id, below.id] }]
  })

const level = ({ purdueLevel }: Zone): string => [...new Set<number | string>(purdueLevel ?? ['?'])].join('-')

const ENDS_HERE = /terminate|ends? in|no (?:direct )?(?:traffic )?traversal|proxy|proxies|relay/i

const dmzTraversal: LintRule = (input) =>
  input.policy.zones.filter(isDmz).flatMap((dmz) => [...rulesThrough(input, dmz), ...sameProtocolThrough(input, dmz)])

/** A rule or a listener of a conduit of the DMZ whose far end is in a zone behind it. */
function rulesThrough({ policy }: LintInput, dmz: Zone): Hit[] {
  const hits: Hit[] = []
  const beyond = (conduit: Conduit, blocks: readonly AddressBlock[]): Zone | undefined =>
    policy.zones.find(
      (zone) =>
        !conduit.connects.includes(zone.id) &&
        zoneBlocks(zone).some((one) => blocks.some((block) => blocksOverlap(one, block))),
    )
  for (const [conduit, , rule] of rulesOf(policy)) {
    if (!conduit.connects.includes(dmz.id)) continue
    const far = beyond(conduit, [...rule.from, ...rule.to])
    if (far === undefined) continue
    const message = `found rule ${show(rule.name)} of ${conduit.id}, which reaches ${far.id} past ${dmz.id}`
    hits.push({ id: 'dmz-traversal', position: rule.position, message, at: [...ruleAt(conduit, rule), dmz.id] })
  }
  for (const listener of policy.gateway?.listeners ?? []) {
    const conduit = policy.conduits.find((one) => one.id === listener.conduit)
    if (conduit === undefined || !conduit.connects.includes(dmz.id)) continue
    const far = beyond(conduit, [listener.target.address])
    if (far === undefined) continue
    const message = `found a listener of ${conduit.id} for ${listener.target.name}, which is in ${far.id} past ${dmz.id}`
    hits.push({ id: 'dmz-traversal', position: listener.position, message, at: [conduit.id, dmz.id] })
  }
  return hits
}

/** The same protocol and port in and out of the DMZ in one direction, where nothing says that it ends there. */
function sameProtocolThrough({ policy }: LintInput, dmz: Zone): Hit[] {
  if (dmz.securityRequirements.some((text) => ENDS_HERE.test(text))) return []
  const hops = policy.conduits
    .filter((conduit) => conduit.connects.includes(dmz.id))
    .flatMap((conduit) => conduit.protocols.flatMap((protocol) => hopsOf(policy, conduit, protocol)))
  return hops.flatMap((inward): Hit[] => {
    if (inward.to !== dmz || ENDS_HERE.test(inward.protocol.direction ?? '')) return []
    const outward = hops.find(
      (one) => one.from === dmz && one.to !== inward.from && one.port === inward.port && one.port !== null,
    )
    if (outward === undefined || ENDS_HERE.test(outward.protocol.direction ?? '')) return []
    const message = `found ${inward.protocol.protocol} (port ${inward.port}) from ${inward.from.id} into ${dmz.id}, and the same from there to ${outward.to.id}: one session may pass through`
    const at = [inward.conduit.id, outward.conduit.id, dmz.id]
    return [{ id: 'dmz-traversal', position: inward.protocol.position, message, at }]
  })
}

interface Hop {
  conduit: Conduit
  protocol: Conduit['protocols'][number]
  from: Zone
  to: Zone
  port: number | null
}

function hopsOf(policy: Policy, conduit: Conduit, protocol: Conduit['protocols'][number]): Hop[] {
  const direction = protocol.direction === null ? null : parseDirection(protocol.direction)
  if (direction === null) return []
  const called = (name: string) =>
    ends(policy, conduit).find((zone) => zone.id === name || zone.id.split('-')[0] === name)
  const from = called(direction.initiator)
  const to = called(direction.responder)
  if (from === undefined || to === undefined) return []
  const hop = { conduit, protocol, from, to, port: protocol.port }
  return direction.both ? [hop, { ...hop, from: to, to: from }] : [hop]
}

const conduitNotAllowed: LintRule = (input) =>
  input.policy.conduits.flatMap((conduit) =>
    ends(input.policy, conduit).flatMap((zone): Hit[] => {
      if (zone.allowedConduits === null || zone.allowedConduits.includes(conduit.id)) return []
      const { line } = input.source.keyPosition([...zonePath(input.policy, input.source, zone), 'allowed_conduits'])
      const message = `found conduit ${conduit.id}, which allowed_conduits of zone ${zone.id} (line ${line}) does not name`
      const position = conduitKey(input, conduit, 'connects')
      return [{ id: 'conduit-not-allowed', position, message, at: [conduit.id, zone.id] }]
    }),
  )

const conduitBelowTarget: LintRule = (input) =>
  input.policy.conduits.flatMap((conduit) =>
    ends(input.policy, conduit).flatMap((zone): Hit[] => {
      const { securityLevel } = conduit
      if (securityLevel === null || zone.securityLevelTarget === null || securityLevel >= zone.securityLevelTarget)
        return []
      const message = `found security level SL ${securityLevel} of conduit ${conduit.id}, below SL-T ${zone.securityLevelTarget} of zone ${zone.id}`
      const position = conduitKey(input, conduit, 'security_level')
      return [{ id: 'conduit-below-target', position, message, at: [conduit.id, zone.id] }]
    }),
  )

const overlappingZones: LintRule = (input) =>
  input.policy.zones.flatMap((zone, index) =>
    input.policy.zones.slice(0, index).flatMap((other): Hit[] => {
      const pair = zone.networks.flatMap((a) => other.networks.filter((b) => blocksOverlap(a, b)).map((b) => [a, b]))[0]
      if (pair === undefined) return []
      const message = `found ${pair[0].text} in zone ${zone.id}, which overlaps ${pair[1].text} of zone ${other.id}`
      const position = input.source.position([...zonePath(input.policy, input.source, zone), 'networks'])
      return [{ id: 'overlapping-zones', position, message, at: [zone.id, other.id] }]
    }),
  )

const assetOutsideZone: LintRule = (input) =>
  input.policy.zones.flatMap((zone) =>
    zone.assets.flatMap((asset): Hit[] => {
      if (zone.networks.length === 0 || blockWithin(asset.address, zone.networks)) return []
      const path = zonePath(input.policy, input.source, zone)
      const raw = (input.source.value as { zones: { assets: { name?: unknown }[] }[] }).zones[path[1] as number].assets
      const index = raw.findIndex((one) => one?.name === asset.name)
      const networks = zone.networks.map(({ text }) => text).join(', ')
      const message = `found ${asset.name} at ${asset.address.text}, which is not in ${zone.id}'s networks: ${networks}`
      const position = input.source.position([...path, 'assets', index, 'address'])
      return [{ id: 'asset-outside-zone', position, message, at: [zone.id, asset.name] }]
    }),
  )

const writesFromAbove: LintRule = ({ policy }) =>
  [...inspectedOf(policy)].flatMap(([conduit, protocol]) =>
    writingRules(protocol).flatMap((rule): Hit[] => {
      const zone = policy.zones.find(
        (one) =>
          reachesOperations(one) &&
          mayBeIn(policy, conduit, protocol, rule, one) &&
          !deniesWriting(protocol, rule, zoneBlocks(one)),
      )
      if (zone === undefined) return []
      const message = `found writing allowed to clients of ${zone.id} (level ${level(zone)}) by rule ${show(rule.name)}`
      return [{ id: 'writes-from-above', position: rule.position, message, at: [...ruleAt(conduit, rule), zone.id] }]
    }),
  )

/** Whether clients of a rule may be in a zone: by address, or by the arrow where the rule is prose. */
function mayBeIn(policy: Policy, conduit: Conduit, protocol: Inspected, rule: Rule, zone: Zone): boolean {
  if (rule.fromProse) {
    const [hop] = hopsOf(policy, conduit, protocol as Conduit['protocols'][number])
    return hop !== undefined && (rule.name.endsWith('(back)') ? hop.to : hop.from) === zone
  }
  return zoneBlocks(zone).some((one) => rule.from.some((block) => blocksOverlap(one, block)))
}

/** Modbus has 127 function codes. */
const EVERY_FUNCTION = FUNCTION_GROUPS.all.length

/** Services of channels that Headgate cannot look into: rules for them can say no more than all. */
const isBlind = (protocol: Inspected): boolean =>
  protocol.kind === 'opcua' && protocol.handling === 'inspect' && protocol.securityModes.includes('SignAndEncrypt')

function allowsAll(protocol: Inspected, rule: Rule): boolean {
  if ('functions' in rule) return rule.functions.filter(({ sub }) => sub === null).length >= EVERY_FUNCTION
  return rule.services.length >= ALL_SERVICES.length && (rule.fromProse || !isBlind(protocol))
}

const allFunctions: LintRule = ({ policy }) =>
  [...rulesOf(policy)].flatMap(([conduit, protocol, rule]): Hit[] => {
    if (!allowsAll(protocol, rule)) return []
    const what = protocol.kind === 'modbus' ? 'function' : 'service'
    const message = rule.fromProse
      ? `found no restriction of ${what}s in ${show(rule.name)}: all are allowed`
      : `found every ${what} allowed by rule ${show(rule.name)}`
    return [{ id: 'all-functions', position: rule.position, message, at: ruleAt(conduit, rule) }]
  })

const WRITES = new Set(FUNCTION_GROUPS.write.map(({ code }) => code))

const writeAnyUnit: LintRule = ({ policy }) =>
  [...rulesOf(policy)].flatMap(([conduit, , rule]): Hit[] => {
    if (!('unitIds' in rule) || rule.unitIds !== null) return []
    const write = rule.functions.find(({ code }) => WRITES.has(code))
    if (write === undefined) return []
    const message = `found ${selectorName(write)} allowed to any unit identifier by rule ${show(rule.name)}`
    return [{ id: 'write-any-unit', position: rule.position, message, at: ruleAt(conduit, rule) }]
  })

/** A call is as narrow as the methods that the rule names. */
const changesAnyNode = ({ nodes, methods, services }: OpcUaRule): boolean =>
  nodes === null &&
  services.some((service) => CHANGING_SERVICES.has(service) && (service !== REQUEST.Call || methods === null))

const writeAnyAddress: LintRule = ({ policy }) =>
  [...inspectedOf(policy)].flatMap(([conduit, protocol]) =>
    writingRules(protocol).flatMap((rule): Hit[] => {
      const open = 'unitIds' in rule ? rule.addresses === null : !isBlind(protocol) && changesAnyNode(rule)
      if (!open) return []
      const what = 'unitIds' in rule ? 'any register and coil' : 'any node'
      const message = `found writing allowed to ${what} by rule ${show(rule.name)}`
      return [{ id: 'write-any-address', position: rule.position, message, at: ruleAt(conduit, rule) }]
    }),
  )

const ENCRYPTION = /sign ?and ?encrypt|\bencrypted\b|\bencryption\b/i

const opcuaSecurity: LintRule = (input) =>
  [...inspectedOf(input.policy)].flatMap(([conduit, protocol]): Hit[] => {
    if (protocol.kind !== 'opcua') return []
    const modes = protocol.securityModes
    const hits: Hit[] = []
    const hit = (id: LintId, message: string) =>
      hits.push({ id, position: protocol.position, message, at: [conduit.id] })
    const where = `${protocol.protocol} of ${conduit.id}`
    if (modes.includes('None')) hit('opcua-none', `found security mode None allowed for ${where}`)
    const requirements = ends(input.policy, conduit).flatMap((zone) => zone.securityRequirements)
    const claim = [...conduit.controls, ...requirements].find((text) => ENCRYPTION.test(text))
    if (claim !== undefined && modes.some((mode) => mode !== 'SignAndEncrypt')) {
      const message = `found security mode ${modes.join(' or ')} for ${where}, while the document claims ${show(claim)}`
      hit('opcua-below-claim', message)
    }
    return hits
  })

const noLimits: LintRule = (input) =>
  [...inspectedOf(input.policy)].flatMap(([conduit, protocol]): Hit[] => {
    const { connectionsPerClient, connectionsPerTarget, newConnectionsPerSecond, ...limits } = protocol.limits
    const all = [
      connectionsPerClient,
      connectionsPerTarget,
      newConnectionsPerSecond,
      limits.requestsPerClientPerSecond,
      limits.requestsPerTargetPerSecond,
      limits.inFlightPerTarget,
    ]
    if (all.some((figure) => figure !== null)) return []
    const message = `found no limits for ${protocol.protocol} of ${conduit.id}`
    return [{ id: 'no-limits', position: protocol.position, message, at: [conduit.id] }]
  })

const records: LintRule = (input) => {
  const { gateway, conduits } = input.policy
  const enforcing = conduits.filter(
    ({ mode, id }) => mode === 'enforce' && gateway?.listeners.some((one) => one.conduit === id),
  )
  if (gateway === null || enforcing.length === 0) return []
  const position = input.source.keyPosition(['gateway'])
  const at = enforcing.map(({ id }) => id)
  const hits: Hit[] = []
  const said = `${at.join(', ')} enforce${at.length === 1 ? 's' : ''}`
  if (gateway.evidence === null)
    hits.push({
      id: 'enforce-without-evidence',
      position,
      message: `found no evidence in the gateway, while ${said}`,
      at,
    })
  if (gateway.syslog.length === 0)
    hits.push({ id: 'enforce-without-siem', position, message: `found no syslog in the gateway, while ${said}`, at })
  return hits
}

const monitorOverdue: LintRule = (input) =>
  input.policy.conduits.flatMap((conduit): Hit[] => {
    const until = conduit.monitorUntil
    if (until === null || input.now.toISOString().slice(0, 10) <= until) return []
    const trial = (conduit.protocols as AnyProtocol[])
      .flatMap((protocol) => (isInspected(protocol) ? (protocol.rules as Rule[]) : []))
      .find((rule) => rule.mode === 'monitor')
    if (conduit.mode !== 'monitor' && trial === undefined) return []
    const what = conduit.mode === 'monitor' ? `conduit ${conduit.id}` : `rule ${show(trial?.name)} of ${conduit.id}`
    const message = `found ${what} still in monitor, expected to enforce after ${until}`
    return [{ id: 'monitor-overdue', position: conduitKey(input, conduit, 'monitor_until'), message, at: [conduit.id] }]
  })

export const LINT_RULES: readonly LintRule[] = [
  sisConduit,
  sisWithBpcs,
  levelJumps,
  dmzTraversal,
  conduitNotAllowed,
  conduitBelowTarget,
  overlappingZones,
  assetOutsideZone,
  writesFromAbove,
  allFunctions,
  writeAnyUnit,
  writeAnyAddress,
  opcuaSecurity,
  noLimits,
  records,
  monitorOverdue,
]
