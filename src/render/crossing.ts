/** What a policy lets cross from one zone to another, as a filter between them has to know it. */
import type { Conduit, ConduitProtocol, Policy, Zone } from '../policy/model.ts'
import { zoneBlocks } from '../policy/zones.ts'
import { blockSpans, type Flow } from './flows.ts'
import { policyFlows } from './policy-flows.ts'
import { EMPTY, intersect, overlaps, type Spans, subtract, union } from './sets.ts'

export interface Crossing {
  conduit: Conduit
  protocol: ConduitProtocol
  from: Zone
  to: Zone
  flow: Flow
}

export interface Crossings {
  crossings: Crossing[]
  /** Addresses behind each zone's side, by zone: its own, and those of rules that are in no zone. */
  sides: Map<string, Spans>
  /** What the policy says and no filter can. */
  notes: string[]
}

/** Flows by the zones that they go from and to. What stays within a zone crosses nothing. */
export function crossingsOf(policy: Policy): Crossings {
  const { protocols, notes } = policyFlows(policy)
  const sides = new Map(policy.zones.map((zone) => [zone.id, blockSpans(zoneBlocks(zone))]))
  const known = [...sides.values()].reduce(union, EMPTY)
  const zone = (id: string): Zone => policy.zones.find((one) => one.id === id) as Zone
  // Addresses that are in no zone are behind the end that the other end of their flow is not.
  for (const { conduit, protocol, flows } of protocols) {
    const [a, b] = conduit.connects
    const sideOf = (id: string): Spans => sides.get(id) ?? EMPTY
    for (const { from, to } of flows) {
      for (const [set, other] of [
        [subtract(from, known), to],
        [subtract(to, known), from],
      ]) {
        if (set.length === 0) continue
        const end = overlaps(other, sideOf(a)) && !overlaps(other, sideOf(b)) ? b : a
        sides.set(end, union(sideOf(end), set))
        notes.push(
          `${conduit.id}, ${protocol.protocol}: some addresses are in no zone; they are taken to be behind ${end}`,
        )
      }
    }
  }
  const crossings = protocols.flatMap(({ conduit, protocol, flows }) =>
    [conduit.connects, [...conduit.connects].reverse()].flatMap(([from, to]) =>
      flows.flatMap((flow): Crossing[] => {
        const cut = {
          ...flow,
          from: intersect(flow.from, sides.get(from) ?? EMPTY),
          to: intersect(flow.to, sides.get(to) ?? EMPTY),
        }
        return cut.from.length === 0 || cut.to.length === 0
          ? []
          : [{ conduit, protocol, from: zone(from), to: zone(to), flow: cut }]
      }),
    ),
  )
  for (const { conduit, protocol, flows } of protocols) {
    for (const id of conduit.connects) {
      const side = sides.get(id) ?? EMPTY
      if (flows.some(({ from, to }) => overlaps(from, side) && overlaps(to, side))) {
        notes.push(`${conduit.id}, ${protocol.protocol}: what stays within ${id} crosses no filter between zones`)
      }
    }
    if (flows.length === 0) notes.push(`${conduit.id}, ${protocol.protocol}: nothing is allowed that has addresses`)
  }
  return { crossings, sides, notes: [...new Set(notes)] }
}
