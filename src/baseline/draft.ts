/** A draft policy out of a baseline: least privilege that covers it, each rule with its evidence as a comment. */
import { Document, isMap, isSeq, type Node, type Scalar, type YAMLMap, type YAMLSeq } from 'yaml'
import { assess, type DecideItem, decideText, numbered } from './assess.ts'
import { type BaselineFile, type BaselineFlow, requestsOf } from './baseline-file.ts'
import { opcuaConduitNode, opcuaConduitsOf, opcuaEvidence, opcuaName, opcuaRuleNode } from './opcua-draft.ts'
import { byAddress, type Places, type ProposedZone, propose } from './places.ts'
import { buildRules, type DraftRule, evidenceText, plural, spanText, valuesText } from './rules.ts'

export interface DraftOptions {
  /** Reads: ranges with at most this many unused addresses between them become one. */
  slack: number
  /** A write seen fewer times than this is listed to decide on. */
  rare: number
}

export const DRAFT_DEFAULTS: DraftOptions = { slack: 8, rare: 10 }

export interface Draft {
  /** The policy document. */
  text: string
  rules: number
  decide: DecideItem[]
}

/** A busiest second that is this many times the 99th percentile is an event of its own, not a rate. */
const OUTLIER = 4
const HEAD_ROOM = 1.5

/** Between two zones, to one port. */
export interface ZonePair {
  id: string
  client: ProposedZone
  target: ProposedZone
  port: number
}

/** The flows of one conduit. */
interface ConduitPart extends ZonePair {
  flows: BaselineFlow[]
}

export function draftPolicy(baseline: BaselineFile, options: DraftOptions = DRAFT_DEFAULTS): Draft {
  const { allow, opcua, decide } = assess(baseline, options)
  const places = propose(allow, baseline.flows, opcua)
  const circular = new Set(places.circular)
  const items: Omit<DecideItem, 'id'>[] = [...decide]
  for (const flow of allow.filter((one) => circular.has(one))) {
    const why = 'the two ask each other: put them into zones by hand'
    items.push({ ...flow, kind: 'mutual', why, flow: null })
  }
  const loops = new Set(places.circular.map(({ client, target }) => `${client} ${target}`))
  for (const { row, services } of opcua) {
    if (!loops.has(`${row.client} ${row.target}`)) continue
    const { client, target, port, first, last } = row
    const why = 'the two ask each other by OPC UA: put them into zones by hand'
    const requests = requestsOf(row, services)
    const nothing = { unit: null, function: null, sub: null, flow: null }
    items.push({ kind: 'mutual', client, target, port, ...nothing, requests, first, last, why, services })
  }
  const conduits = conduitsOf(
    allow.filter((flow) => !circular.has(flow)),
    places,
  )
  const opcuaConduits = opcuaConduitsOf(
    opcua.filter(({ row }) => !loops.has(`${row.client} ${row.target}`)),
    places,
    conduits.length,
  )
  const limits = conduits.map((one) => limitsOf(one, baseline, items))
  const all = numbered(items)
  const nameOf = (address: string): string => places.assetOf.get(address)?.name ?? address
  const rules = conduits.map(({ flows }) => buildRules(flows, { slack: options.slack, nameOf }))
  const document = new Document({
    facility: 'Draft: name the facility',
    assessment_date: (baseline.last ?? '1970-01-01').slice(0, 10),
    standard: 'IEC 62443-3-2:2020',
    zones: places.zones.map((zone) => zoneNode(zone, [...conduits, ...opcuaConduits])),
    conduits: [
      ...conduits.map((one, i) => conduitNode(one, rules[i], limits[i], nameOf)),
      ...opcuaConduits.map((one) => opcuaConduitNode(one, nameOf)),
    ],
  })
  document.commentBefore = heading(baseline, all.length)
  const placed = new Set<DecideItem>()
  style(document)
  for (const [i, one] of conduits.entries()) {
    const sequence = document.getIn(['conduits', i, 'protocols_allowed', 0, 'rules']) as YAMLSeq
    for (const [n, rule] of rules[i].entries()) {
      ;(sequence.items[n] as Node).commentBefore = evidenceText(rule)
        .map((line) => ` ${line}`)
        .join('\n')
    }
    const own = all.filter((item) => item.services === undefined && isBetween(item, one, places))
    for (const item of own) placed.add(item)
    if (own.length > 0) sequence.comment = own.flatMap((item) => decideLines(item, nameOf)).join('\n')
  }
  for (const [i, one] of opcuaConduits.entries()) {
    const path = ['conduits', conduits.length + i, 'protocols_allowed', 0, 'rules']
    const sequence = document.getIn(path) as YAMLSeq
    for (const [n, rule] of one.rules.entries()) {
      ;(sequence.items[n] as Node).commentBefore = opcuaEvidence(rule)
        .map((line) => ` ${line}`)
        .join('\n')
    }
    const own = all.filter((item) => item.services !== undefined && isBetween(item, one, places))
    for (const item of own) placed.add(item)
    if (own.length > 0) sequence.comment = own.flatMap((item) => decideLines(item, nameOf)).join('\n')
  }
  const left = all.filter((item) => !placed.has(item))
  if (left.length > 0) {
    const title = ' To decide, between no two of the zones above:'
    document.comment = [title, ...left.flatMap((item) => decideLines(item, nameOf))].join('\n')
  }
  const opcuaRules = opcuaConduits.reduce((sum, one) => sum + one.rules.length, 0)
  return { text: document.toString({ lineWidth: 0 }), rules: rules.flat().length + opcuaRules, decide: all }
}

function heading(baseline: BaselineFile, decide: number): string {
  const span =
    baseline.first === null || baseline.last === null
      ? 'no traffic was seen'
      : `${baseline.first.slice(0, 16).replace('T', ' ')} to ${baseline.last.slice(0, 16).replace('T', ' ')} UTC (${spanText(Date.parse(baseline.last) - Date.parse(baseline.first))})`
  return [
    ' Draft policy, learned from traffic. It allows what was seen and no more, and it blocks nothing: every conduit',
    ' is in monitor mode. Names, roles, zones and Purdue levels are proposals, made from addresses and from who asks',
    ' whom. Before it is enforced: name the assets, check the zones, add gateway.listeners, and settle what is marked',
    ' "decide".',
    ` Learned from: ${baseline.sources.map((one) => one.name).join(', ') || 'nothing'}`,
    ` Traffic: ${span}`,
    ` To decide: ${decide}`,
  ].join('\n')
}

function conduitsOf(flows: readonly BaselineFlow[], places: Places): ConduitPart[] {
  const parts = new Map<string, ConduitPart>()
  const sorted = [...flows].sort(
    (a, b) => byAddress(a.client, b.client) || byAddress(a.target, b.target) || a.unit - b.unit,
  )
  for (const flow of sorted) {
    const client = places.zoneOf.get(flow.client) as ProposedZone
    const target = places.zoneOf.get(flow.target) as ProposedZone
    const key = `${client.id} ${target.id} ${flow.port}`
    const part = parts.get(key) ?? { id: `C${parts.size + 1}`, client, target, port: flow.port, flows: [] }
    parts.set(key, part)
    part.flows.push(flow)
  }
  return [...parts.values()]
}

function zoneNode(zone: ProposedZone, conduits: readonly ZonePair[]): Record<string, unknown> {
  return {
    zone_id: zone.id,
    name: zone.name,
    purdue_level: zone.level,
    ...(zone.networks.length > 0 ? { networks: zone.networks } : {}),
    assets: zone.assets,
    allowed_conduits: conduits.filter((one) => one.client === zone || one.target === zone).map((one) => one.id),
  }
}

function conduitNode(
  one: ConduitPart,
  rules: readonly DraftRule[],
  limits: Record<string, unknown>,
  nameOf: (address: string) => string,
): Record<string, unknown> {
  return {
    conduit_id: one.id,
    name: `${one.client.name} to ${one.target.name}`,
    connects: [one.target.id, one.client.id],
    mode: 'monitor',
    protocols_allowed: [
      {
        protocol: 'Modbus/TCP',
        port: one.port,
        direction: `${one.client.id} -> ${one.target.id}`,
        rules: rules.map((rule) => ruleNode(rule, nameOf)),
        limits,
      },
    ],
  }
}

export function ruleNode(rule: DraftRule, nameOf: (address: string) => string): Record<string, unknown> {
  return {
    name: rule.name,
    from: rule.from.map(nameOf),
    to: rule.to.map(nameOf),
    unit_ids: rule.unitIds.map(plain),
    functions: rule.functions,
    ...(rule.addresses === null
      ? {}
      : {
          addresses: Object.fromEntries(
            Object.entries(rule.addresses).map(([table, ranges]) => [table, (ranges as string[]).map(plain)]),
          ),
        }),
    ...(rule.values === undefined || rule.addresses === null
      ? {}
      : {
          values: Object.fromEntries(
            Object.entries(rule.addresses).map(([table, ranges]) => [table, bounds(ranges, rule.values)]),
          ),
        }),
  }
}

const bounds = (ranges: readonly string[], values: DraftRule['values']) =>
  Object.fromEntries(ranges.map((range) => [range, { min: values?.least, max: values?.greatest }]))

/** `7` as a number, `0-9` as text. */
const plain = (text: string): string | number => (/^\d+$/.test(text) ? Number(text) : text)

/** The highest rate that the hosts of a conduit keep to, with head room; a second far beyond it is to be decided on. */
function limitsOf(one: ConduitPart, baseline: BaselineFile, items: Omit<DecideItem, 'id'>[]): Record<string, unknown> {
  const asking = new Set(one.flows.map((flow) => flow.client))
  const asked = new Set(one.flows.map((flow) => flow.target))
  const clients = baseline.clients.filter((host) => asking.has(host.address))
  const targets = baseline.targets.filter((host) => host.port === one.port && asked.has(host.address))
  let greatest = 1
  const rate = (figures: { p99: number; max: number }): number => {
    const outlier = figures.max > OUTLIER * Math.max(1, figures.p99) && figures.max > 20
    const steady = outlier ? Math.ceil(figures.p99 * OUTLIER) : figures.max
    greatest = Math.max(greatest, steady)
    return Math.max(1, Math.ceil(figures.p99 * HEAD_ROOM), steady)
  }
  for (const { address, rate: figures } of clients) {
    if (figures.max <= OUTLIER * Math.max(1, figures.p99) || figures.max <= 20) continue
    const flow = one.flows.find((each) => each.client === address) as BaselineFlow
    const why = `${figures.max} requests in one second (99 of 100 seconds: at most ${figures.p99}): over the drafted limit`
    const nothing = { target: null, port: null, unit: null, function: null, sub: null, flow: null }
    items.push({
      ...nothing,
      kind: 'rate',
      client: address,
      requests: figures.max,
      first: flow.first,
      last: flow.last,
      why,
    })
  }
  const most = (values: number[]): number => values.reduce((a, b) => Math.max(a, b), 1)
  return {
    connections: {
      per_client: cap(2 * most(clients.map((host) => host.concurrent)) + 2, 65535),
      per_target: cap(2 * most(targets.map((host) => host.concurrent)) + 2, 65535),
      new_per_second: cap(Math.max(5, 2 * most(clients.map((host) => host.connecting.max))), 100_000),
    },
    requests: {
      per_client_per_second: cap(most(clients.map((host) => rate(host.rate))), 1_000_000),
      per_target_per_second: cap(most(targets.map((host) => rate(host.rate))), 1_000_000),
      // A second's worth may come at the end of one second, and the next at the start of the next.
      burst: cap(2 * greatest, 100_000),
    },
  }
}

const cap = (value: number, limit: number): number => Math.min(value, limit)

function isBetween(item: DecideItem, one: ZonePair, places: Places): boolean {
  if (item.target === null || item.port !== one.port) return false
  return places.zoneOf.get(item.client) === one.client && places.zoneOf.get(item.target) === one.target
}

/** An item as comment lines, with the rule that would allow it where there is one. */
export function decideLines(item: DecideItem, nameOf: (address: string) => string): string[] {
  const times = item.first === item.last ? item.first : `${item.first} to ${item.last}`
  const lines = [` decide ${decideText(item, nameOf)}`, `   ${plural(item.requests, 'request')}, ${times}`]
  if (item.kind === 'opaque') return lines
  if (item.opcua != null) {
    const rule = opcuaRuleNode({ grants: [item.opcua], name: `${item.id} ${opcuaName(item.opcua, nameOf)}` }, nameOf)
    const document = new Document([rule])
    style(document)
    return [...lines, '   to allow it:', ...document.toString({ lineWidth: 0 }).trimEnd().split('\n')]
  }
  if (item.flow === null || item.kind === 'same-host') return lines
  const values = valuesText([item.flow])
  if (values !== null) lines.push(`   values written: ${values}`)
  const [rule] = buildRules([item.flow], { slack: 0, nameOf })
  const document = new Document([ruleNode({ ...rule, name: `${item.id} ${rule.name}` }, nameOf)])
  style(document)
  return [...lines, '   to allow it:', ...document.toString({ lineWidth: 0 }).trimEnd().split('\n')]
}

const FLOW_KEYS = new Set([
  'networks',
  'allowed_conduits',
  'connects',
  'from',
  'to',
  'unit_ids',
  'functions',
  'services',
  'attributes',
  'security_modes',
  'security_policies',
])
const FLOW_MAPS = new Set(['addresses', 'connections', 'requests'])

/** Lists of short things on one line. */
function style(document: Document): void {
  const walk = (node: unknown): void => {
    if (isSeq(node)) {
      for (const one of (node as YAMLSeq).items) walk(one)
    } else if (isMap(node)) {
      for (const pair of (node as YAMLMap).items) {
        const key = String((pair.key as Scalar).value)
        const value = pair.value
        if (FLOW_KEYS.has(key) && isSeq(value)) value.flow = true
        else if (FLOW_MAPS.has(key) && isMap(value)) value.flow = true
        else if (key === 'assets' && isSeq(value)) for (const asset of value.items) if (isMap(asset)) asset.flow = true
        walk(value)
      }
    }
  }
  walk(document.contents)
}
