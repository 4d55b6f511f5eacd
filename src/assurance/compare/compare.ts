/** What one configuration allows that the other does not, as sets: not as lines, orders or names. */
import type { Policy, Zone } from '../../policy/model.ts'
import { zoneBlocks } from '../../policy/zones.ts'
import {
  ANY_CONTENT,
  blockSpans,
  difference,
  type Flow,
  flow as flowBetween,
  meet,
  spansToBlocks,
} from '../../render/flows.ts'
import { policyFlows } from '../../render/policy-flows.ts'
import { EMPTY, overlaps, type Spans, union } from '../../render/sets.ts'
import type { Side } from './side.ts'
import { matchInterfaces, type Standing, unknownZone } from './zones.ts'

/** Flows of one side, with the places that they come from. */
export interface Source {
  flow: Flow
  line: number
  /** Conduit or access-list entry, as the side writes it. */
  what: string
}

/** A set of addresses with the name that a person knows it by. */
export interface Named {
  name: string
  set: Spans
}

export interface Comparison {
  a: Side
  b: Side
  /** What `a` allows and `b` does not, and the other way round. */
  onlyA: Flow[]
  onlyB: Flow[]
  sourcesA: Source[]
  sourcesB: Source[]
  names: Named[]
  /** What the comparison does not say. */
  notes: string[]
  /** Whether there was anything to compare. */
  comparable: boolean
}

/** @param interfaces zone of an interface, by nameif, where its name does not tell */
export function compare(a: Side, b: Side, interfaces: ReadonlyMap<string, string> = new Map()): Comparison {
  const notes: string[] = []
  const names: Named[] = []
  const lifted: Spans[] = []
  const [sourcesA, sourcesB] = sourcesOf(a, b, { notes, names, lifted, interfaces })
  const saturate = (sources: Source[]): Source[] =>
    sources.map((source) => ({ ...source, flow: raise(source.flow, lifted) }))
  const [left, right] = [saturate(sourcesA), saturate(sourcesB)]
  const flowsA = left.map(({ flow }) => flow)
  const flowsB = right.map(({ flow }) => flow)
  return {
    a,
    b,
    onlyA: difference(flowsA, flowsB),
    onlyB: difference(flowsB, flowsA),
    sourcesA: left,
    sourcesB: right,
    names,
    notes: [...new Set(notes)],
    comparable: left.length > 0 || right.length > 0,
  }
}

/** Addresses of a zone that one side gives and the other does not mean the whole zone. */
function raise(flow: Flow, lifted: readonly Spans[]): Flow {
  const whole = (set: Spans): Spans => lifted.reduce((all, zone) => (overlaps(all, zone) ? union(all, zone) : all), set)
  return lifted.length === 0 ? flow : { ...flow, from: whole(flow.from), to: whole(flow.to) }
}

interface Context {
  notes: string[]
  names: Named[]
  lifted: Spans[]
  interfaces: ReadonlyMap<string, string>
}

function sourcesOf(a: Side, b: Side, context: Context): [Source[], Source[]] {
  if (a.kind === 'document' && b.kind === 'document') return documents(a, b, context)
  if (a.kind === 'asa' && b.kind === 'asa') {
    for (const side of [a, b]) {
      for (const [nameif, set] of side.effective.networks) name(context, nameif, set)
      for (const host of side.config.hosts) name(context, host.name, blockSpans([host.address]))
    }
    return [asaSources(a), asaSources(b)]
  }
  if (a.kind === 'document' && b.kind === 'asa') return documentAndFirewall(a, b, context)
  const [right, left] = sourcesOf(b, a, context)
  return [left, right]
}

function name({ names }: Context, text: string, set: Spans): void {
  if (set.length > 0) names.push({ name: text, set })
}

const asaSources = ({ effective }: Extract<Side, { kind: 'asa' }>): Source[] =>
  effective.flows.map(({ flow, entry, ingress, egress }) => ({
    flow,
    line: entry?.line ?? 0,
    what: entry?.text ?? `security levels of ${ingress} and ${egress}`,
  }))

function documentSources(
  policy: Policy,
  standing: ReadonlyMap<string, Standing>,
  notes: string[],
  firewall: boolean,
): Source[] {
  const blocksOf = (zone: Zone) => standing.get(zone.id)?.blocks ?? zoneBlocks(zone)
  const { protocols, notes: said } = policyFlows(policy, blocksOf)
  notes.push(...said)
  const insides = policy.zones.map((zone) => {
    const set = blockSpans(blocksOf(zone))
    return flowBetween({ from: set, to: set })
  })
  const crossing = (flows: Flow[], where: string): Flow[] => {
    if (!firewall || !flows.some((one) => insides.some((inside) => meet(one, inside) !== null))) return flows
    notes.push(`${where}: what stays within a zone is not compared: it crosses no firewall`)
    return difference(flows, insides)
  }
  return protocols.flatMap(({ conduit, protocol, flows }) =>
    crossing(flows, `${conduit.id}, ${protocol.protocol}`).map((flow) => ({
      // No ISA-3000 looks into OPC UA: to a firewall its connections are all alike.
      flow: firewall && protocol.kind === 'opcua' ? { ...flow, content: ANY_CONTENT } : flow,
      line: protocol.position.line,
      what: `${conduit.id}, ${protocol.protocol}`,
    })),
  )
}

function nameZones(
  policy: Policy,
  standing: ReadonlyMap<string, Standing>,
  context: Context,
  alias = new Map<string, string>(),
): void {
  for (const zone of policy.zones) {
    const set = standing.get(zone.id)?.all ?? blockSpans(zoneBlocks(zone))
    const also = alias.get(zone.id)
    name(context, also === undefined ? zone.id : `${zone.id} (${also})`, set)
    for (const asset of zone.assets) name(context, asset.name, blockSpans([asset.address]))
  }
}

function documents(
  a: Extract<Side, { kind: 'document' }>,
  b: Extract<Side, { kind: 'document' }>,
  context: Context,
): [Source[], Source[]] {
  const standing = new Map<string, Standing>()
  const ids = [...new Set([...a.policy.zones, ...b.policy.zones].map(({ id }) => id))]
  for (const [index, id] of ids.entries()) {
    const blocks = [a, b].map(({ policy }) => policy.zones.filter((zone) => zone.id === id).flatMap(zoneBlocks))
    if (blocks[0].length > 0 && blocks[1].length > 0) continue
    const [known] = blocks.filter((one) => one.length > 0)
    const both = [a, b].every(({ policy }) => policy.zones.some((zone) => zone.id === id))
    // Only one side has the zone, and gives its addresses: there is nothing to stand for.
    if (known !== undefined && !both) continue
    const one = known === undefined ? unknownZone(index) : { blocks: known, all: blockSpans(known) }
    standing.set(id, one)
    context.lifted.push(one.all)
    context.notes.push(
      `${id} has no addresses in ${known === undefined ? 'either document' : 'one of the documents'}: it is compared as a whole`,
    )
  }
  nameZones(a.policy, standing, context)
  nameZones(b.policy, standing, context)
  return [
    documentSources(a.policy, standing, context.notes, false),
    documentSources(b.policy, standing, context.notes, false),
  ]
}

function documentAndFirewall(
  a: Extract<Side, { kind: 'document' }>,
  b: Extract<Side, { kind: 'asa' }>,
  context: Context,
): [Source[], Source[]] {
  const matched = matchInterfaces(a.policy, b.config.interfaces, b.effective, context.interfaces)
  const alias = new Map([...matched].map(([nameif, zone]) => [zone.id, nameif]))
  const standing = new Map<string, Standing>()
  for (const [nameif, zone] of matched) {
    const networks = b.effective.networks.get(nameif) ?? EMPTY
    if (zoneBlocks(zone).length > 0 || networks.length === 0) continue
    standing.set(zone.id, { blocks: spansToBlocks(networks), all: networks })
    context.lifted.push(networks)
    context.notes.push(
      `${zone.id} has no addresses in ${a.file}: it is compared as a whole with what is behind ${nameif} of ${b.file}, single hosts standing for the zone`,
    )
  }
  nameZones(a.policy, standing, context, alias)
  for (const { nameif } of b.config.interfaces) {
    if (matched.has(nameif)) continue
    name(context, nameif, b.effective.networks.get(nameif) ?? EMPTY)
    context.notes.push(`interface ${nameif} of ${b.file} is no zone of ${a.file}: say which with --zone ${nameif}=ZONE`)
  }
  for (const host of b.config.hosts) name(context, host.name, blockSpans([host.address]))
  const inScope = scopeOf(a, b, [...matched.values()], context)
  const scoped = { ...a.policy, conduits: a.policy.conduits.filter(inScope) }
  for (const { protocols, id } of scoped.conduits) {
    const opcua = protocols.find((protocol) => protocol.kind === 'opcua')
    if (opcua !== undefined) {
      context.notes.push(
        `${id}: which services of ${opcua.protocol} pass is not compared: an ISA-3000 does not look into it`,
      )
    }
  }
  return [documentSources(scoped, standing, context.notes, true), asaSources(b)]
}

/** A conduit is another firewall's business where this one has no interface in both of its zones. */
function scopeOf(
  a: Extract<Side, { kind: 'document' }>,
  b: Side,
  zones: readonly Zone[],
  { notes }: Context,
): (conduit: Policy['conduits'][number]) => boolean {
  const has = (id: string): boolean => zones.some((zone) => zone.id === id)
  for (const conduit of a.policy.conduits) {
    const missing = conduit.connects.filter((id) => !has(id))
    if (missing.length > 0) {
      notes.push(`conduit ${conduit.id} is not compared: ${b.file} has no interface in ${missing.join(' and ')}`)
    }
  }
  return ({ connects }) => connects.every(has)
}
