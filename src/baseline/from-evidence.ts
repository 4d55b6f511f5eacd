/**
 * A baseline out of evidence: what monitoring conduits carried and their policy did not allow. What it allowed is in no
 * event, so this complements a policy (`learn --evidence … --policy`), or learns all where the policy allowed nothing.
 */
import { type BaselineConnection, type BaselineFile, emptyBaseline, type ValueRow } from './baseline-file.ts'
import { perSecond, rateRow } from './evidence-rate.ts'
import { tableOf } from './function-tables.ts'
import { opcuaFromEvidence } from './opcua-evidence.ts'
import { plural } from './rules.ts'
import type { Sighting, Sightings } from './sightings.ts'

/** Exceptions whose code the evidence does not tell. */
const UNKNOWN_EXCEPTION = '0'

const iso = (ms: number): string => new Date(ms).toISOString()

/** @param files names of the evidence files, for the list of sources */
export function baselineFromEvidence(sightings: Sightings, files: readonly string[]): BaselineFile {
  const baseline = emptyBaseline()
  const all = [...sightings.all.values()].filter((one) => one.kind === 'request' && one.happened === 'would-deny')
  const seen = all.filter((one) => one.protocol === 'modbus')
  const opcua = all.filter((one) => one.protocol === 'opcua')
  const clients = new Map<string, Sighting[]>()
  const targets = new Map<string, Sighting[]>()
  const pairs = new Map<string, Sighting[]>()
  let shared = 0
  for (const one of seen) {
    for (const [map, key] of [
      [clients, one.client],
      [targets, `${one.target} ${one.port}`],
      [pairs, `${one.client} ${one.target} ${one.port}`],
    ] as const) {
      const known = map.get(key)
      if (known === undefined) map.set(key, [one])
      else known.push(one)
    }
    if (one.units.total > 1) shared++
    baseline.flows.push(...flowsOf(one))
  }
  for (const [address, own] of clients) {
    const rate = rateRow(rateOf(own))
    const none = rateRow([])
    baseline.clients.push({ address, requests: countOf(own), rate, connecting: none, concurrent: 1 })
  }
  for (const [place, own] of targets) {
    const [address, port] = place.split(' ')
    const hosts = new Set(own.map((one) => one.client)).size
    baseline.targets.push({
      address,
      port: Number(port),
      requests: countOf(own),
      rate: rateRow(rateOf(own)),
      concurrent: hosts,
    })
  }
  for (const own of pairs.values()) baseline.connections.push(connectionOf(own))
  baseline.opcua = opcuaFromEvidence(sightings, opcua)
  const [first, last] = spanOf(all)
  baseline.first = first
  baseline.last = last
  const notes = [
    'what the policy allowed is in no event: this is what it did not allow',
    'rates are means of minutes, summed up over what one host does: limits may be too wide',
  ]
  if (shared > 0) notes.push(`${plural(shared, 'kind')} of several units: how many requests each had is an equal share`)
  if (sightings.dropped > 0) notes.push(`${plural(sightings.dropped, 'event')} of too many kinds are left out`)
  const denied = [...sightings.all.values()].filter((one) => one.happened === 'denied').length
  if (opcua.length > 0) {
    const unlisted = baseline.opcua
      .flatMap(({ services }) => Object.values(services))
      .reduce((n, one) => n + one.unlisted, 0)
    notes.push('of OPC UA no event tells the answers, nor the nodes that were read for a reason other than their nodes')
    if (unlisted > 0)
      notes.push(`${plural(unlisted, 'item')} of OPC UA are in events that stand for several, and name the node of one`)
  }
  const others = [...sightings.all.values()].filter((one) => one.protocol === 'opcua' && one.kind !== 'request').length
  if (others > 0) notes.push(`${plural(others, 'kind')} of channels, connections and responses of OPC UA are left out`)
  if (denied > 0) notes.push(`${plural(denied, 'kind')} that a conduit denied are left out`)
  const found = Number.isFinite(sightings.first)
  baseline.sources.push({
    name: files.join(', '),
    packets: sightings.records,
    bytes: 0,
    first: found ? iso(sightings.first) : null,
    last: found ? iso(sightings.last) : null,
    notes,
  })
  return baseline
}

const countOf = (own: readonly Sighting[]): number => own.reduce((sum, one) => sum + one.count, 0)

function spanOf(own: readonly Sighting[]): [string, string] | [null, null] {
  if (own.length === 0) return [null, null]
  return [iso(Math.min(...own.map((one) => one.first))), iso(Math.max(...own.map((one) => one.last)))]
}

const rateOf = (own: readonly Sighting[]): [number, number][] => [
  [own.reduce((sum, one) => sum + perSecond(one), 0), 60],
]

function flowsOf(one: Sighting): BaselineFile['flows'] {
  const { client, target, port, function: code, sub } = one
  if (code === null) return []
  const units = one.units.toRanges().flatMap(([low, high]) => Array.from({ length: high - low + 1 }, (_, i) => low + i))
  const share = (n: number): number => Math.ceil(n / Math.max(1, units.length))
  const malformed = one.reason === 'malformed'
  const at = tableOf(code)
  const ranges = [...one.addresses.toRanges(), ...one.written.toRanges()]
  const addresses = at === null || ranges.length === 0 || malformed ? {} : { [at]: ranges }
  const written = code === 23 ? one.written.toRanges() : one.addresses.toRanges()
  const known = at !== null && one.greatest >= one.least && !malformed
  const rows: ValueRow[] = written.map((range) => ({
    range,
    min: one.least,
    max: one.greatest,
    writes: share(one.count),
  }))
  const exceptions: Record<string, number> = {}
  if (one.exceptions > 0) exceptions[UNKNOWN_EXCEPTION] = share(one.exceptions)
  return units.map((unit) => ({
    client,
    target,
    port,
    unit,
    function: code,
    sub,
    requests: share(one.count),
    // Which unit answered is not told: a scan that a few answer must not look as if all did.
    responses: one.exceptions === 0 ? share(one.responses) : Math.floor(one.responses / units.length),
    exceptions,
    malformed: malformed ? share(one.count) : 0,
    deviations: {},
    first: iso(one.first),
    last: iso(one.last),
    addresses,
    values: known ? { [at]: rows } : {},
    rate: rateRow([[perSecond(one), 60]]),
  }))
}

function connectionOf(own: readonly Sighting[]): BaselineConnection {
  const [{ client, target, port }] = own
  const [first, last] = spanOf(own) as [string, string]
  const answered = own.some((one) => one.responses + one.exceptions > 0)
  const none = { unanswered: 0, idle: 0, malformed: 0, unsolicited: 0, gapBytes: 0 }
  return { client, target, port, opened: 1, ...none, targetSeen: answered, first, last }
}
