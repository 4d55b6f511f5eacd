/**
 * OPC UA in a baseline out of evidence: by client and server, the services that a policy did not allow, the nodes that their
 * events name, and the channels that were opened. What the policy allowed is in no event, and answers are told by item.
 */
import { hasNodes } from '../protocols/opcua/requests.ts'
import { SERVICES } from '../protocols/opcua/services.ts'
import type { BaselineNode, BaselineOpcUa, BaselineService } from './baseline-file.ts'
import { MAX_LISTED } from './baseline-file.ts'
import { perSecond, rateRow } from './evidence-rate.ts'
import type { Sighting, Sightings } from './sightings.ts'

const iso = (ms: number): string => new Date(ms).toISOString()

/** @param seen requests of OPC UA that would have been denied */
export function opcuaFromEvidence(sightings: Sightings, seen: readonly Sighting[]): BaselineOpcUa[] {
  const pairs = Map.groupBy(seen, ({ client, target, port }) => `${client} ${target} ${port}`)
  return [...pairs].map(([key, own]) => {
    const [{ client, target, port }] = own
    const services = Map.groupBy(own, (one) => one.service ?? 'unknown')
    const channels = sightings.channels.get(key)
    return {
      ...{
        client,
        target,
        port,
        opened: [...(channels?.kinds.values() ?? [])].reduce((sum, one) => sum + one.opened, 0),
      },
      services: Object.fromEntries([...services].map(([name, some]) => [name, serviceOf(name, some)])),
      ...{ reversed: 0, responses: 0, faults: 0, garbage: 0, gapBytes: 0 },
      channels: [...(channels?.kinds.values() ?? [])],
      endpoint_urls: [...(channels?.urls ?? [])],
      first: iso(Math.min(...own.map((one) => one.first))),
      last: iso(Math.max(...own.map((one) => one.last))),
    }
  })
}

/** Services that change nodes which are there: of them the attribute that is written counts, or the method. */
const CHANGING: ReadonlySet<string> = new Set(['Write', 'HistoryUpdate', 'Call'])
const READING: ReadonlySet<string> = new Set(
  SERVICES.filter(({ request, group }) => hasNodes(request) && group !== 'node-management').map(({ name }) => name),
)

function serviceOf(name: string, own: readonly Sighting[]): BaselineService {
  const nodes = new Map<string, BaselineNode>()
  let unlisted = 0
  for (const { node, method, attribute, named, unnamed, least, greatest } of own) {
    // Of what reads the node is not told apart, and does not matter to the rule.
    if (node === null || !READING.has(name)) continue
    unlisted += unnamed
    const key = CHANGING.has(name) ? JSON.stringify([node, method, attribute]) : node
    const one = nodes.get(key)
    if (one === undefined && nodes.size >= MAX_LISTED) unlisted += named
    else {
      const [low, high] = greatest >= least ? [least, greatest] : [null, null]
      nodes.set(key, {
        ...{ node, method: name === 'Call' ? method : null, attribute: CHANGING.has(name) ? attribute : null },
        requests: named + (one?.requests ?? 0),
        least: low === null ? (one?.least ?? null) : Math.min(low, one?.least ?? low),
        greatest: high === null ? (one?.greatest ?? null) : Math.max(high, one?.greatest ?? high),
      })
    }
  }
  const sum = (some: readonly Sighting[]): number => some.reduce((all, one) => all + one.requests, 0)
  return {
    requests: sum(own),
    ...{ responses: 0, faults: 0, unread: 0 },
    malformed: sum(own.filter((one) => one.reason === 'malformed')),
    unlisted,
    first: iso(Math.min(...own.map((one) => one.first))),
    last: iso(Math.max(...own.map((one) => one.last))),
    rate: rateRow([[own.reduce((all, one) => all + perSecond(one), 0), 60]]),
    nodes: [...nodes.values()],
  }
}
