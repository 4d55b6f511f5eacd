/**
 * What of a baseline a draft may allow by itself, and what a person has to decide: rare writes, programming, scans,
 * malformed traffic and the like are never allowed silently.
 */
import { MODBUS_TABLES, QUIRKS } from '../policy/model.ts'
import { FUNCTION_GROUPS, functionClass, isWrite, selectorName } from '../protocols/modbus/function-codes.ts'
import { type BaselineFile, type BaselineFlow, valuesWithin } from './baseline-file.ts'
import { assessOpcUa, isAboutOpcUa, type OpcUaGrant } from './opcua-assess.ts'
import { joinRanges, rangeText, subtractRanges } from './ranges.ts'
import { plural } from './rules.ts'

export type DecideKind =
  | 'rare-write'
  | 'program'
  | 'diagnostics'
  | 'file-write'
  | 'unknown-function'
  | 'refused'
  | 'unanswered'
  | 'scan'
  | 'malformed'
  | 'deviation'
  | 'no-request'
  | 'same-host'
  | 'mutual'
  | 'rate'
  | 'opaque'
  | 'unlisted'
  | 'out-of-place'

/** One thing that was seen and that the draft does not allow. */
export interface DecideItem {
  /** `D1`, `D2` … in the order of the report. */
  id: string
  kind: DecideKind
  client: string
  /** null: several (a scan). */
  target: string | null
  port: number | null
  unit: number | null
  function: number | null
  sub: number | null
  requests: number
  first: string
  last: string
  /** One line: what was seen, and why a person should look at it. */
  why: string
  /** The flow that a rule could allow; null where no rule should. */
  flow: BaselineFlow | null
  /** OPC UA: the services that it is about, and what a rule could allow; absent: Modbus. */
  services?: string[]
  opcua?: OpcUaGrant | null
}

export interface Assessment {
  allow: BaselineFlow[]
  opcua: OpcUaGrant[]
  decide: DecideItem[]
}

export interface AssessOptions {
  /** A write seen fewer times than this is rare. */
  rare: number
}

/** Sub-functions of FC 8 that only read a counter or echo; the others restart, silence or clear (V1.1b3 §6.8.1). */
const HARMLESS_DIAGNOSTICS = new Set([0, 2, 11, 12, 13, 14, 15, 16, 17, 18])
/** Ranges that a line spells out. */
const SHOWN_RANGES = 8
/** Requests without success that make a client a scanner, where they are half of all it does. */
const SCAN_PROBES = 10

export function assess(baseline: BaselineFile, options: AssessOptions): Assessment {
  const pairs = new Map(baseline.connections.map((one) => [`${one.client} ${one.target} ${one.port}`, one]))
  const seen = (flow: BaselineFlow): boolean =>
    pairs.get(`${flow.client} ${flow.target} ${flow.port}`)?.targetSeen === true
  const scanners = findScanners(baseline, seen)
  const allow: BaselineFlow[] = []
  const decide: Omit<DecideItem, 'id'>[] = []
  for (const flow of baseline.flows) {
    if (flow.malformed > 0) decide.push(malformed(flow))
    if (flow.malformed === flow.requests || scanners.has(flow.client)) continue
    const objection = objectionTo(flow, seen(flow), options)
    if (objection === null) {
      const { common, seldom } = splitRare(flow, options.rare)
      if (common !== null) allow.push(common)
      if (seldom !== null) decide.push(item('rare-write', seldom, rareText(seldom)))
      if (Object.keys(flow.deviations).length > 0) decide.push(deviation(flow))
    } else decide.push(item(objection[0], flow, objection[1]))
  }
  for (const scanner of scanners) decide.push(scanItem(baseline, scanner))
  const asked = new Set(baseline.flows.map((one) => `${one.client} ${one.target} ${one.port}`))
  for (const one of baseline.connections) {
    const { client, target, port, first, last } = one
    const place = { client, target, port, unit: null, function: null, sub: null, first, last, flow: null }
    if (one.malformed > 0) {
      const why = `${plural(one.malformed, 'request')} that are no Modbus/TCP frame (protocol identifier or MBAP length)`
      decide.push({ ...place, kind: 'malformed', requests: one.malformed, why })
    }
    if (one.unsolicited > 0) {
      const why = `${plural(one.unsolicited, 'response')} that answer no request: they would not reach the client`
      decide.push({ ...place, kind: 'deviation', requests: 0, why })
    }
    const silent = !asked.has(`${client} ${target} ${port}`)
    if (silent && one.malformed === 0 && !scanners.has(client)) {
      const why = `${plural(one.opened, 'connection')}, of which ${one.unanswered} were not answered, and no request`
      decide.push({ ...place, kind: 'no-request', requests: 0, why })
    }
  }
  const opcua = assessOpcUa(baseline, options.rare)
  return { allow, opcua: opcua.allow, decide: numbered([...decide, ...opcua.decide]) }
}

/** Gives ids, in order of kind and client. */
export function numbered(items: readonly Omit<DecideItem, 'id'>[]): DecideItem[] {
  return items.map((one, index) => ({ ...one, id: `D${index + 1}` }))
}

/** @returns why a person has to decide on a flow; null where a rule may allow it */
function objectionTo(flow: BaselineFlow, targetSeen: boolean, { rare }: AssessOptions): [DecideKind, string] | null {
  const { function: code, sub } = flow
  if (flow.client === flow.target) return ['same-host', 'client and target are one host: no conduit lies between them']
  if (FUNCTION_GROUPS.program.some((one) => one.code === code)) {
    return ['program', 'programming tools use this function: it can change or stop a controller']
  }
  if (functionClass(code) !== 'public') return ['unknown-function', 'the specification does not define this function']
  if (code === 8 && !HARMLESS_DIAGNOSTICS.has(sub ?? -1)) {
    return ['diagnostics', 'this sub-function restarts, silences or clears the device']
  }
  if (code === 43 && sub !== 14)
    return ['unknown-function', 'what this MEI type carries is not Modbus (CANopen or unknown)']
  if (code === 21)
    return ['file-write', 'file records hold recipes and programs, and rules cannot narrow them to addresses']
  const exceptions = Object.values(flow.exceptions).reduce((sum, n) => sum + n, 0)
  if (targetSeen && flow.responses === 0) {
    if (exceptions > 0) return ['refused', `the target answered with exceptions alone (${exceptions})`]
    return ['unanswered', 'the target never answered']
  }
  const sound = flow.requests - flow.malformed
  if (isWrite(code) && sound < rare)
    return ['rare-write', `a write that was seen ${sound === 1 ? 'once' : `${sound} times`} in all`]
  return null
}

function item(kind: DecideKind, flow: BaselineFlow, why: string): Omit<DecideItem, 'id'> {
  const { client, target, port, unit, function: code, sub, requests, first, last } = flow
  return { kind, client, target, port, unit, function: code, sub, requests, first, last, why, flow }
}

function malformed(flow: BaselineFlow): Omit<DecideItem, 'id'> {
  const why = `${flow.malformed} of ${plural(flow.requests, 'request')} break the specification`
  return { ...item('malformed', flow, why), requests: flow.malformed, flow: null }
}

/** Of a write: the addresses that were written often, and those that were written rarely, each as a flow. */
function splitRare(flow: BaselineFlow, rare: number): { common: BaselineFlow | null; seldom: BaselineFlow | null } {
  const few: BaselineFlow['addresses'] = {}
  const left: BaselineFlow['addresses'] = {}
  let requests = 0
  for (const table of MODBUS_TABLES) {
    const used = flow.addresses[table]
    if (used === undefined) continue
    const rows = (flow.values[table] ?? []).filter(({ writes }) => writes < rare)
    const ranges = joinRanges(rows.map(({ range }) => range))
    if (ranges.length > 0) few[table] = ranges
    requests = rows.reduce((most, { writes }) => Math.max(most, writes), requests)
    const rest = subtractRanges(used, ranges)
    if (rest.length > 0) left[table] = rest
  }
  if (Object.keys(few).length === 0) return { common: flow, seldom: null }
  const part = (addresses: BaselineFlow['addresses']) => ({ ...flow, addresses, values: valuesWithin(flow, addresses) })
  return { common: Object.keys(left).length === 0 ? null : part(left), seldom: { ...part(few), requests } }
}

function rareText({ addresses, requests }: BaselineFlow): string {
  const places = MODBUS_TABLES.flatMap((table) => {
    const ranges = addresses[table] ?? []
    const shown = ranges.slice(0, SHOWN_RANGES).map(rangeText).join(', ')
    return ranges.length === 0 ? [] : [`${table} ${shown}${ranges.length > SHOWN_RANGES ? ' …' : ''}`]
  })
  const often = requests === 1 ? 'written once' : `none written more than ${requests} times`
  return `writes to ${places.join(' and ')}, ${often}`
}

/** Responses that a strict rule would hold back, with the words that let them pass where there are any. */
function deviation(flow: BaselineFlow): Omit<DecideItem, 'id'> {
  const seen = Object.entries(flow.deviations).map(([name, n]) => `${name} (${n})`)
  const quirks = QUIRKS.filter((quirk) => flow.deviations[quirk] !== undefined)
  const mend = quirks.length === 0 ? '' : `; to let them pass, add "tolerate: [${quirks.join(', ')}]" to the rule`
  const why = `responses that a strict rule denies: ${seen.join(', ')}${mend}`
  return { ...item('deviation', flow, why), flow: null }
}

/** Clients most of whose connections and requests lead to nothing, and many of them. */
function findScanners(baseline: BaselineFile, seen: (flow: BaselineFlow) => boolean): Set<string> {
  const tries = new Map<string, { all: number; vain: number }>()
  const count = (client: string, vain: boolean): void => {
    const one = tries.get(client) ?? { all: 0, vain: 0 }
    tries.set(client, one)
    one.all++
    if (vain) one.vain++
  }
  for (const flow of baseline.flows) count(flow.client, seen(flow) && flow.responses === 0)
  for (const pair of baseline.connections) {
    if (pair.unanswered + pair.idle === pair.opened) count(pair.client, true)
  }
  const found = [...tries].filter(([, { all, vain }]) => vain >= SCAN_PROBES && vain * 2 >= all)
  return new Set(found.map(([client]) => client))
}

function scanItem(baseline: BaselineFile, client: string): Omit<DecideItem, 'id'> {
  const pairs = baseline.connections.filter((one) => one.client === client)
  const flows = baseline.flows.filter((one) => one.client === client)
  const units = new Set(flows.map((one) => `${one.target} ${one.unit}`)).size
  const functions = [...new Set(flows.map((one) => one.function))].sort((a, b) => a - b)
  const asked =
    functions.length === 0 ? '' : `, functions ${functions.slice(0, 16).join(', ')}${functions.length > 16 ? ' …' : ''}`
  return {
    kind: 'scan',
    client,
    target: null,
    port: null,
    unit: null,
    function: null,
    sub: null,
    requests: flows.reduce((sum, one) => sum + one.requests, 0),
    first: pairs.reduce((least, one) => (one.first < least ? one.first : least), pairs[0].first),
    last: pairs.reduce((most, one) => (one.last > most ? one.last : most), pairs[0].last),
    why: `tried ${pairs.length} targets and ${units} units${asked}, most of it in vain`,
    flow: null,
  }
}

/** `write-single-register (6)`, `diagnostics/restart-communications-option (8)`. */
export const functionText = (code: number, sub: number | null): string => `${selectorName({ code, sub })} (${code})`

/** `D3 rare-write: 10.0.0.9 -> 10.0.1.1:502 unit 1 write-single-register (6): a write that …` */
export function decideText(one: DecideItem, nameOf: (address: string) => string = (address) => address): string {
  const usual = one.port === (one.services === undefined ? 502 : 4840)
  const target = one.target === null ? '' : ` -> ${nameOf(one.target)}${usual ? '' : ` port ${one.port}`}`
  const unit = one.unit === null ? '' : ` unit ${one.unit}`
  const code = one.function === null ? '' : ` ${functionText(one.function, one.sub)}`
  return `${one.id} ${one.kind}: ${nameOf(one.client)}${target}${unit}${code}: ${one.why}`
}

/** Whether what was denied is what the item is about. */
export function isAbout(
  one: DecideItem,
  denied: {
    kind: string
    client: string
    target: string
    unit: number | null
    function: number | null
    reason: string
    service?: string | null
    node?: string | null
    method?: string | null
  },
): boolean {
  if (one.client !== denied.client || (one.target !== null && one.target !== denied.target)) return false
  const ofOpcUa = denied.service !== null && denied.service !== undefined
  if (one.services !== undefined) {
    // Where no rule speaks of a service, its nodes were not looked at.
    const what = denied.reason === 'service' ? { ...denied, node: null } : denied
    return (ofOpcUa || denied.kind === 'connection') && isAboutOpcUa(one, what)
  }
  if (ofOpcUa) return false
  // What a pair may do at all is at issue as soon as anything between the two is.
  if (denied.reason === 'pair') return true
  if (one.kind === 'rate') return denied.reason === 'rate'
  // What answers a request that is to be decided on stands or falls with it; its unit identifier may be just what is
  // wrong with a response.
  if (denied.kind === 'response') return one.function === null || one.function === denied.function
  if (one.kind === 'deviation') return false
  if (one.unit !== null && denied.unit !== one.unit) return false
  if (one.function !== null && denied.function !== one.function) return false
  // A malformed request of a unit or function that no rule has is denied for that; of one that has, for its form.
  return one.kind !== 'malformed' || (denied.reason !== 'value' && denied.reason !== 'rate')
}
