/**
 * Reads weeks of evidence as the person would who has to say "now": what would have been denied, ranked by how legitimate
 * it looks against how dangerous it is, each with the lines that would allow it; what is still to be decided; and
 * whether each conduit is ready to enforce, or what stands in the way.
 */
import { blockHolds, parseAddress } from '../policy/address.ts'
import type { Conduit, ModbusTable, Policy } from '../policy/model.ts'
import { decideText, functionText } from './assess.ts'
import { type BaselineFile, type BaselineFlow, flowKey, NO_RATE } from './baseline-file.ts'
import { coverage, standing } from './coverage.ts'
import { type Decision, type OpenDecision, openDecisions, spanOf } from './decisions.ts'
import { ruleNode } from './draft.ts'
import { tableOf } from './function-tables.ts'
import { isAboutOpcUa } from './opcua-assess.ts'
import {
  decidedGrants,
  isOpenedByNow,
  type SightedGrant,
  sightedGrant,
  sightedRuleNode,
  sightedRules,
  sightedStanding,
} from './opcua-sighted.ts'
import { type Grant, namesIn, opcuaPlaceOf, placeOf, ruleLines } from './patch.ts'
import { rangeText } from './ranges.ts'
import { type Rank, rank } from './rank.ts'
import { buildRules, spanText } from './rules.ts'
import type { Sighting, Sightings } from './sightings.ts'

/** How long a baseline has to be, unless asked otherwise: two weeks, with two weekends. */
export const MIN_BASELINE_MS = 14 * 86_400_000
const DAY_MS = 86_400_000

export interface AnalyzeInput {
  sightings: Sightings
  /** null: the evidence alone. */
  policy: Policy | null
  baseline: BaselineFile | null
  decisions: readonly Decision[]
  minBaselineMs: number
}

/** Something that a person may allow, or decide against. */
export interface Choice {
  /** As short as tells it from the others: at least four letters and digits. */
  id: string
  key: string
  /** Conduits that it is about. */
  conduits: string[]
  /** One line: who, whom, what. */
  what: string
  /** The rule that would allow it, as lines of the document, and what is granted by it; null: no rule can. */
  lines: string[] | null
  grants: Grant[]
  /** The same of OPC UA. */
  opcua: SightedGrant[]
  /** Why no rule can. */
  obstacle: string | null
}

/** Traffic that would have been denied. */
export interface Candidate extends Choice, Rank {
  sighting: Sighting
  answers: { good: number; exceptions: number } | null
}

export interface DecideChoice extends Choice {
  item: OpenDecision
}

export interface ConduitVerdict {
  conduit: string
  mode: Conduit['mode']
  ready: boolean
  /** What stands in the way of enforcing. */
  obstacles: string[]
  notes: string[]
}

export interface Analysis {
  /** Milliseconds since 1970: of evidence and baseline together; null: there is nothing. */
  first: number | null
  last: number | null
  /** How long was watched, in milliseconds. */
  watched: number
  verdicts: ConduitVerdict[]
  /** Legitimate and harmless first. */
  candidates: Candidate[]
  /** Of the baseline; those that a candidate shows as well are there. */
  decide: DecideChoice[]
  /** Items of the baseline that candidates show: settled with them. */
  shown: { item: OpenDecision; by: Candidate[] }[]
  /** Kinds in the evidence that need no decision any more. */
  settled: { allowed: number; denied: number; rejected: number }
  /** New kinds of traffic by day (UTC), every day from the first to the last. */
  curve: { day: string; kinds: number }[]
}

export function analyze(input: AnalyzeInput): Analysis {
  const { sightings, policy, baseline, decisions } = input
  const rejected = new Set(decisions.map((one) => one.id))
  const settled = { allowed: 0, denied: 0, rejected: 0 }
  const kinds = new Map<string, number>()
  for (const { protocol, kind, client, units } of sightings.all.values()) {
    // Of OPC UA an ordinary session uses a dozen services.
    if (kind === 'request' && protocol === 'modbus')
      kinds.set(client, (kinds.get(client) ?? 0) + Math.max(1, units.total))
  }
  const flows = new Map((baseline?.flows ?? []).map((flow) => [flowKey(flow), flow]))
  const candidates: Candidate[] = []
  for (const sighting of withoutDoubles(sightings)) {
    if (rejected.has(sighting.id)) {
      settled.rejected++
      continue
    }
    const grants = grantsOf(sighting, flows, policy)
    const opcua = sighting.protocol === 'opcua' ? sightedGrant(sighting) : null
    const stands = policy === null ? 'open' : standingOf(policy, sighting, grants, opcua, sightings)
    if (stands !== 'open') {
      settled[stands]++
      continue
    }
    candidates.push(candidateOf(sighting, grants, opcua, input, flows, kinds.get(sighting.client) ?? 0))
  }
  candidates.sort((a, b) => b.legitimacy - b.danger - (a.legitimacy - a.danger) || b.sighting.count - a.sighting.count)
  const open = policy === null || baseline === null ? [] : openDecisions(policy, baseline, decisions)
  const decide: DecideChoice[] = []
  const shown: Analysis['shown'] = []
  for (const item of open) {
    const by = candidates.filter(({ sighting }) => isOf(item, sighting))
    if (by.length > 0) shown.push({ item, by })
    else decide.push(decideChoice(item, policy as Policy))
  }
  shorten([...candidates, ...decide])
  const span = baseline === null ? null : spanOf(baseline)
  const first = Math.min(sightings.first, span?.first ?? Number.POSITIVE_INFINITY)
  const last = Math.max(sightings.last, span?.last ?? Number.NEGATIVE_INFINITY)
  const watched = span === null ? Math.max(0, sightings.last - sightings.first) : span.watched
  const whole = { candidates, decide, shown, watched, last }
  return {
    first: Number.isFinite(first) ? first : null,
    last: Number.isFinite(last) ? last : null,
    watched: Number.isFinite(watched) ? watched : 0,
    verdicts: verdictsOf(input, whole),
    candidates,
    decide,
    shown,
    settled,
    curve: curveOf(sightings, baseline),
  }
}

/** Whether the evidence shows what an item of the baseline is about. */
const isOf = (item: OpenDecision, one: Sighting): boolean =>
  item.client === one.client &&
  (item.services === undefined ? one.protocol === 'modbus' : one.protocol === 'opcua' && isAboutOpcUa(item, one)) &&
  (item.target === null || (item.target === one.target && (item.port === null || item.port === one.port))) &&
  (item.function === null || item.function === one.function)

/** A connection that would be refused says nothing beside the requests that it carried. */
function withoutDoubles(sightings: Sightings): Sighting[] {
  const all = [...sightings.all.values()]
  const asked = new Set(
    all.filter((one) => one.kind === 'request').map((one) => `${one.client} ${one.target} ${one.port}`),
  )
  return all.filter(
    (one) =>
      one.kind !== 'connection' || one.reason !== 'pair' || !asked.has(`${one.client} ${one.target} ${one.port}`),
  )
}

/** Reasons that a rule can mend. */
const MENDED = new Set(['pair', 'unit', 'function', 'address', 'value'])

/** What would have to be allowed: a flow for each unit. Nothing, where no rule can do it. */
function grantsOf(one: Sighting, known: ReadonlyMap<string, BaselineFlow>, policy: Policy | null): Grant[] {
  const { kind, function: code, sub, client, target, port, reason } = one
  if (kind !== 'request' || code === null || code === 0 || code > 127 || !MENDED.has(reason)) return []
  const values =
    reason === 'value' && one.greatest >= one.least ? { least: one.least, greatest: one.greatest } : undefined
  const units = one.units.toRanges().flatMap(([low, high]) => Array.from({ length: high - low + 1 }, (_, i) => low + i))
  return units.map((unit) => {
    const table = tableOf(code)
    const ranges = one.addresses.toRanges()
    const seen: BaselineFlow = {
      client,
      target,
      port,
      unit,
      function: code,
      sub,
      requests: one.count,
      responses: one.responses,
      exceptions: {},
      malformed: 0,
      deviations: {},
      first: new Date(one.first).toISOString(),
      last: new Date(one.last).toISOString(),
      addresses: table === null || ranges.length === 0 ? {} : { [table]: [...ranges, ...one.written.toRanges()] },
      values: {},
      rate: NO_RATE,
    }
    const learned = known.get(flowKey(seen))
    if (!one.partial || learned === undefined || policy === null) return { flow: seen, values }
    // The baseline has all of it: what the policy does not allow of that is what was seen here.
    const place = placeOf(policy, learned)
    const rest = typeof place === 'string' ? learned : coverage(place.protocol, learned).rest
    return { flow: rest === null ? seen : { ...seen, addresses: rest.addresses }, values }
  })
}

/** What a policy makes of it now: what it allows, or denies by a rule that says so, needs no decision. */
function standingOf(
  policy: Policy,
  one: Sighting,
  grants: readonly Grant[],
  opcua: SightedGrant | string | null,
  { policies, last: until }: Sightings,
): 'allowed' | 'denied' | 'open' {
  if (opcua !== null && typeof opcua !== 'string') {
    const stands = sightedStanding(policy, opcua, one.rule)
    if (stands !== 'open') return stands
  }
  if (isOpenedByNow(policy, one)) return 'allowed'
  if (grants.length === 0) {
    // No rule speaks of limits and of form: what has not been seen for a day under this very policy is over.
    const since = policies.get(policy.sha256) ?? Number.POSITIVE_INFINITY
    // Of OPC UA, what comes once a week must not pass for mended.
    const ofForm = one.protocol === 'modbus' || one.reason === 'malformed' || one.reason === 'rate'
    return until - Math.max(since, one.last) >= (ofForm ? DAY_MS : MIN_BASELINE_MS) ? 'allowed' : 'open'
  }
  const all = grants.map(({ flow, values }) => {
    const stands = standing(policy, flow)
    return stands === 'allowed' && values !== undefined && !allowsValues(policy, flow, values) ? 'open' : stands
  })
  if (all.every((stands) => stands === 'allowed')) return 'allowed'
  return all.every((stands) => stands === 'denied') ? 'denied' : 'open'
}

/** Whether a rule that allows the flow has no bounds for its values, or has them within. */
function allowsValues(
  policy: Policy,
  flow: BaselineFlow,
  { least, greatest }: { least: number; greatest: number },
): boolean {
  const place = placeOf(policy, flow)
  if (typeof place === 'string') return false
  return place.protocol.rules.some((rule) => {
    const alone = { ...place.protocol, rules: [rule] }
    if (rule.action !== 'allow' || coverage(alone, flow).rest !== null) return false
    return Object.entries(flow.addresses).every(([table, ranges]) => {
      const limits = rule.values?.[table as ModbusTable] ?? []
      const touching = limits.filter(({ range: [low, high] }) => ranges.some((one) => one[0] <= high && one[1] >= low))
      return touching.every(
        ({ min, max, maxStep }) =>
          maxStep === null && (min === null || least >= min) && (max === null || greatest <= max),
      )
    })
  })
}

function candidateOf(
  sighting: Sighting,
  grants: Grant[],
  opcua: SightedGrant | string | null,
  { sightings, policy, baseline }: AnalyzeInput,
  flows: ReadonlyMap<string, BaselineFlow>,
  kindsOfClient: number,
): Candidate {
  const answers = answersOf(sighting, grants, flows)
  const { client, target, port } = sighting
  const ranked = rank(sighting, {
    clientKnown: knownIn(policy, client, sighting.clientAsset),
    targetKnown: knownIn(policy, target, sighting.targetAsset) === 'asset',
    answers,
    timeouts: sightings.timeouts.get(`${client} ${target} ${port}`) ?? 0,
    kindsOfClient,
    until: sightings.last,
  })
  const names = policy === null ? namesOf(sighting) : namesIn(policy)
  const made =
    opcua === null
      ? linesFor(grants, policy, names, sighting)
      : typeof opcua === 'string'
        ? { lines: null, obstacle: opcua }
        : opcuaLines([opcua], policy, names)
  const limits =
    opcua === null && sighting.reason === 'rate' && sighting.kind === 'request'
      ? limitLines(sighting, policy, baseline)
      : null
  const { lines, obstacle } =
    limits === null ? made : { lines: limits, obstacle: 'a limit does, not a rule: change it by hand' }
  return {
    id: sighting.id,
    key: sighting.id,
    conduits: [sighting.conduit],
    what: whatText(sighting, names),
    lines,
    grants: made.lines === null ? [] : grants,
    opcua: made.lines === null || opcua === null || typeof opcua === 'string' ? [] : [opcua],
    obstacle,
    ...ranked,
    ...(opcua !== null && sighting.partial
      ? { contra: [...ranked.contra, 'events stand for more items than they list: others show again'] }
      : {}),
    sighting,
    answers,
  }
}

/** Names as the evidence has them. */
export const namesOf =
  ({ client, clientAsset, target, targetAsset }: Sighting) =>
  (address: string): string =>
    (address === client ? clientAsset : address === target ? targetAsset : null) ?? address

function knownIn(policy: Policy | null, text: string, asset: string | null): 'asset' | 'network' | 'no' {
  if (asset !== null) return 'asset'
  const address = parseAddress(text)
  if (policy === null || address === null) return 'no'
  if (policy.zones.some((zone) => zone.assets.some((one) => one.address.base === address))) return 'asset'
  return policy.zones.some((zone) => zone.networks.some((block) => blockHolds(block, address))) ? 'network' : 'no'
}

/** From the evidence; else from the baseline, which counts all of the flow. */
function answersOf(
  one: Sighting,
  grants: readonly Grant[],
  flows: ReadonlyMap<string, BaselineFlow>,
): { good: number; exceptions: number } | null {
  if (one.responses + one.exceptions > 0) return { good: one.responses, exceptions: one.exceptions }
  const learned = grants.flatMap(({ flow }) => flows.get(flowKey(flow)) ?? [])
  if (learned.length === 0) return null
  const exceptions = learned.flatMap((flow) => Object.values(flow.exceptions)).reduce((sum, n) => sum + n, 0)
  return { good: learned.reduce((sum, flow) => sum + flow.responses, 0), exceptions }
}

function linesFor(
  grants: readonly Grant[],
  policy: Policy | null,
  names: (address: string) => string,
  sighting: Sighting | null,
): { lines: string[] | null; obstacle: string | null } {
  if (grants.length === 0) return { lines: null, obstacle: sighting === null ? 'no rule should' : mendText(sighting) }
  const [{ flow, values }] = grants
  if (policy !== null) {
    const place = placeOf(policy, flow)
    if (typeof place === 'string') return { lines: null, obstacle: place }
  }
  const rules = buildRules(
    grants.map((one) => one.flow),
    { slack: 0, nameOf: names },
  )
  const lines = rules.flatMap((rule) => ruleLines(ruleNode(values === undefined ? rule : { ...rule, values }, names)))
  return { lines, obstacle: null }
}

function opcuaLines(
  grants: readonly SightedGrant[],
  policy: Policy | null,
  names: (address: string) => string,
): { lines: string[] | null; obstacle: string | null } {
  const place = policy === null ? null : opcuaPlaceOf(policy, grants[0])
  if (typeof place === 'string') return { lines: null, obstacle: place }
  const lines = sightedRules(grants, names).flatMap((rule) => ruleLines(sightedRuleNode(rule, names)))
  return { lines, obstacle: null }
}

/** Limits that hold what the baseline saw, with room for half as much again; null: it has not seen the hosts. */
function limitLines(one: Sighting, policy: Policy | null, baseline: BaselineFile | null): string[] | null {
  const client = baseline?.clients.find((host) => host.address === one.client)
  const target = baseline?.targets.find((host) => host.address === one.target && host.port === one.port)
  if (client === undefined || target === undefined) return null
  const conduit = policy?.conduits.find(({ id }) => id === one.conduit)
  const limits = conduit?.protocols.find((protocol) => protocol.kind === 'modbus')?.limits
  const room = (max: number, now: number | null | undefined): number => Math.max(Math.ceil(1.5 * max), now ?? 0, 1)
  const perClient = room(client.rate.max, limits?.requestsPerClientPerSecond)
  const perTarget = room(target.rate.max, limits?.requestsPerTargetPerSecond)
  const burst = Math.max(2 * Math.max(client.rate.max, target.rate.max), limits?.burst ?? 1)
  return [
    'limits:',
    `  requests: { per_client_per_second: ${perClient}, per_target_per_second: ${perTarget}, burst: ${burst} }`,
  ]
}

/** Why no rule mends it, and what does. */
function mendText({ kind, reason }: Sighting): string {
  if (reason === 'rate') {
    return kind === 'connection' ? 'a limit does: see limits.connections' : 'a limit does: see limits.requests'
  }
  if (reason === 'malformed') return 'what breaks the specification is not let through; mend the sender'
  if (kind === 'response') return 'a response: "tolerate" of its rule, where the device has a known quirk'
  return 'no rule can'
}

/** One line: who, whom, what. */
export function whatText(one: Sighting, names: (address: string) => string): string {
  const host = (address: string): string => {
    const name = names(address)
    return name === address ? address : `${name} (${address})`
  }
  const port = one.port === (one.protocol === 'opcua' ? 4840 : 502) ? '' : ` port ${one.port}`
  const units = one.units.size === 0 ? '' : ` unit ${one.units.toRanges().slice(0, 4).map(rangeText).join(', ')}`
  const code = one.function === null ? '' : ` ${functionText(one.function, one.sub)}`
  const service = [one.service, one.node, one.method, one.attribute].flatMap((part) =>
    part === null ? [] : ` ${part}`,
  )
  const ranges = one.addresses.toRanges()
  const shown = ranges.slice(0, 4).map(rangeText).join(', ')
  const addresses = ranges.length === 0 ? '' : ` ${shown}${ranges.length > 4 ? ' …' : ''}`
  const kind = one.kind === 'request' ? '' : ` (${one.kind})`
  return `${host(one.client)} -> ${host(one.target)}${port}${units}${code}${service.join('')}${addresses}${kind}`
}

function decideChoice(item: OpenDecision, policy: Policy): DecideChoice {
  const names = namesIn(policy)
  const grants = item.flow === null || item.kind === 'same-host' ? [] : [{ flow: item.flow }]
  const wanted = item.opcua == null || item.kind === 'opaque' ? [] : decidedGrants(item.opcua)
  const { lines, obstacle } =
    wanted.length > 0 ? opcuaLines(wanted, policy, names) : linesFor(grants, policy, names, null)
  return {
    id: item.key,
    key: item.key,
    conduits: item.conduits,
    what: decideText(item, names).replace(/^\S+ /, ''),
    lines,
    grants: lines === null ? [] : grants,
    opcua: lines === null ? [] : wanted,
    obstacle: item.kind === 'opaque' ? 'decide by hand what its line says' : obstacle,
    item,
  }
}

/** As few letters as tell one from the others. */
function shorten(choices: Choice[]): void {
  const unique = (length: number): boolean =>
    new Set(choices.map((one) => one.key.slice(0, length))).size === choices.length
  let length = 4
  while (length < 8 && !unique(length)) length++
  for (const one of choices) one.id = one.key.slice(0, length)
}

function verdictsOf(
  { sightings, policy, baseline, minBaselineMs }: AnalyzeInput,
  {
    candidates,
    decide,
    shown,
    watched,
    last,
  }: Pick<Analysis, 'candidates' | 'decide' | 'shown' | 'watched'> & { last: number },
): ConduitVerdict[] {
  const seen = [...new Set([...sightings.all.values()].map((one) => one.conduit))].filter((id) => id !== '')
  const conduits: { id: string; mode: Conduit['mode'] }[] =
    policy?.conduits.filter((one) => one.protocols.some(({ kind }) => kind === 'modbus' || kind === 'opcua')) ??
    seen.map((id) => ({ id, mode: 'monitor' as const }))
  return conduits.map(({ id, mode }) => {
    const own = candidates.filter((one) => one.conduits.includes(id))
    const ids = (some: readonly Choice[]): string => {
      const shown = some.slice(0, 8).map((one) => one.id)
      return `${shown.join(', ')}${some.length > 8 ? ` and ${some.length - 8} more` : ''}`
    }
    const obstacles: string[] = []
    const notes: string[] = []
    const wanted = own.filter((one) => one.suggestion !== 'reject')
    const latest = wanted.filter((one) => one.pro.includes('known client') && one.sighting.last > last - DAY_MS)
    const older = wanted.filter((one) => !latest.includes(one))
    const [is, are] = ['kind of traffic', 'kinds of traffic']
    if (latest.length > 0) {
      obstacles.push(
        `${latest.length} ${latest.length === 1 ? is : are} of known assets would have been denied in the last 24 hours: ${ids(latest)}`,
      )
    }
    if (older.length > 0) {
      obstacles.push(
        `${older.length} ${older.length === 1 ? is : are} would be denied and may be legitimate: ${ids(older)}`,
      )
    }
    const harmful = own.filter((one) => one.suggestion === 'reject')
    // What the draft would not allow by itself wants a person's word, however clear it looks.
    const asked = new Set(shown.flatMap(({ by }) => by))
    const undecided = [...decide.filter((one) => one.conduits.includes(id)), ...harmful.filter((one) => asked.has(one))]
    if (undecided.length > 0) obstacles.push(`${undecided.length} to be decided: ${ids(undecided)}`)
    if (watched < minBaselineMs) {
      const what = baseline === null ? 'the evidence covers' : 'the baseline has'
      obstacles.push(`${what} ${watched > 0 ? spanText(watched) : 'nothing'}, expected ${spanText(minBaselineMs)}`)
    }
    if (harmful.length > 0) {
      const verb = mode === 'enforce' ? 'is denied' : 'will be denied'
      notes.push(`${harmful.length} ${harmful.length === 1 ? is : are} ${verb}, as it looks rightly: ${ids(harmful)}`)
    }
    return { conduit: id, mode, ready: obstacles.length === 0, obstacles, notes }
  })
}

/** A kind is new on the day that it was first seen: in the baseline, or in the evidence. */
function curveOf(sightings: Sightings, baseline: BaselineFile | null): Analysis['curve'] {
  const firsts = new Map<string, number>()
  const note = (key: string, time: number): void => {
    if (Number.isFinite(time)) firsts.set(key, Math.min(firsts.get(key) ?? Number.POSITIVE_INFINITY, time))
  }
  for (const { client, target, port, function: code, sub, first } of baseline?.flows ?? []) {
    note([client, target, port, code, sub].join(' '), Date.parse(first))
  }
  for (const { client, target, port, services } of baseline?.opcua ?? []) {
    for (const [name, { first }] of Object.entries(services))
      note([client, target, port, name].join(' '), Date.parse(first))
  }
  for (const { kind, client, target, port, function: code, sub, service, first } of sightings.all.values()) {
    if (kind === 'request')
      note([client, target, port, ...(service === null ? [code, sub] : [service])].join(' '), first)
  }
  const days = new Map<number, number>()
  for (const time of firsts.values()) {
    const day = Math.floor(time / DAY_MS)
    days.set(day, (days.get(day) ?? 0) + 1)
  }
  const ends = [
    sightings.first,
    sightings.last,
    ...[baseline?.first, baseline?.last].map((one) => (one ? Date.parse(one) : Number.NaN)),
  ]
  const known = ends.filter(Number.isFinite)
  if (known.length === 0) return []
  const [from, to] = [Math.floor(Math.min(...known) / DAY_MS), Math.floor(Math.max(...known) / DAY_MS)]
  // A clock that was wrong for a while must not make a curve of decades.
  return Array.from({ length: Math.min(to - from + 1, 3660) }, (_, i) => ({
    day: new Date((from + i) * DAY_MS).toISOString().slice(0, 10),
    kinds: days.get(from + i) ?? 0,
  }))
}
