/** Gathers what OPC UA connections do, whatever they come from: by client and server, service and node. */
import { RuleTable } from '../protocols/opcua/decide.ts'
import type { BaselineOpcUa, BaselineService } from './baseline-file.ts'
import { Blocks } from './blocks.ts'
import { OpcUaPair, ServiceEntry, serviceName } from './opcua-entry.ts'
import { OpcUaTrack } from './opcua-track.ts'
import type { Rate } from './rate.ts'

/** What may be kept at most: bounds the memory that a scan can take. */
export interface OpcUaBounds {
  pairs: number
  nodes: number
  /** Bytes of messages that have come in part, of all connections. */
  gathered: number
}

/** What has happened between a client and a server since it was taken before; rates as whoever takes it has them. */
export type OpcUaShare<S> = Omit<BaselineOpcUa, 'services'> & {
  services: Record<string, Omit<BaselineService, 'rate'> & { seconds: S }>
}

export class OpcUaGatherer {
  dropped = 0
  /** One cell: the time of what is given next, in microseconds since 1970. */
  readonly clock: Float64Array
  readonly blocks: Blocks
  /** No rule at all: what walks requests, and follows the aliases of nodes. */
  readonly table = new RuleTable([])
  /** One cell: nodes that may still be kept. */
  readonly nodesLeft: Int32Array
  private readonly maxPairs: number
  private readonly pairs = new Map<string, OpcUaPair>()
  private readonly rate: () => Rate
  private stirredPairs: OpcUaPair[] = []

  constructor(bounds: OpcUaBounds, clock: Float64Array, rate: () => Rate) {
    this.maxPairs = bounds.pairs
    this.nodesLeft = Int32Array.of(bounds.nodes)
    this.blocks = new Blocks(bounds.gathered)
    this.clock = clock
    this.rate = rate
  }

  /**
   * A connection begins.
   * @param whole all of it will be seen
   * @returns null: there are too many pairs
   */
  open(client: bigint, target: bigint, port: number, whole: boolean): OpcUaTrack | null {
    const pair = this.pairOf(client, target, port)
    if (pair === null) return null
    pair.opened++
    this.seen(pair)
    return new OpcUaTrack(this, pair, whole)
  }

  /** A connection was opened by its server. @returns the pair that it belongs to */
  reverse(pair: OpcUaPair): OpcUaPair {
    const other = this.pairOf(pair.target, pair.client, pair.port)
    if (other === null) return pair
    pair.opened = Math.max(0, pair.opened - 1)
    other.opened++
    other.reversed++
    this.seen(other)
    return other
  }

  private pairOf(client: bigint, target: bigint, port: number): OpcUaPair | null {
    const key = `${client} ${target} ${port}`
    const known = this.pairs.get(key)
    if (known !== undefined) return known
    if (this.pairs.size >= this.maxPairs) {
      this.dropped++
      return null
    }
    const pair = new OpcUaPair(client, target, port)
    this.pairs.set(key, pair)
    return pair
  }

  seen(pair: OpcUaPair): void {
    pair.span.include(this.clock)
    if (pair.stirred) return
    pair.stirred = true
    this.stirredPairs.push(pair)
  }

  /** @param fn index of the service */
  service(pair: OpcUaPair, fn: number): ServiceEntry {
    let service = pair.services[fn]
    if (service === null) {
      service = new ServiceEntry(pair, fn, this.rate())
      pair.services[fn] = service
    }
    service.stir()
    return service
  }

  /** Whether there is something to take. */
  get stirred(): boolean {
    return this.stirredPairs.length > 0
  }

  /**
   * What has happened since it was taken before, and forgets it.
   * @param most nodes and services that are taken at one time; the rest is for the next call
   * @param secondsOf takes the seconds of a rate
   */
  take<S>(most: number, secondsOf: (rate: Rate) => S): OpcUaShare<S>[] {
    const shares: OpcUaShare<S>[] = []
    let left = most
    while (left > 0 && this.stirredPairs.length > 0) {
      const [pair] = this.stirredPairs
      const services: OpcUaShare<S>['services'] = {}
      while (left > 0 && pair.stirredServices.length > 0) {
        const [service] = pair.stirredServices
        const row = { ...service.row(left), seconds: secondsOf(service.rate) }
        left -= 1 + row.nodes.length
        services[serviceName(service)] = row
        const rest = service.stirredNodes.length > 0
        service.forget()
        // Its further nodes come with counts of nothing.
        if (rest) {
          service.stirred = true
          break
        }
        pair.stirredServices.shift()
      }
      // All connections of it may have turned out to be its other end's.
      if (pair.opened + pair.gapBytes + pair.garbage > 0 || Object.keys(services).length > 0)
        shares.push({ ...pair.row(), services })
      const rest = pair.stirredServices.length > 0
      pair.forget()
      if (rest) {
        pair.stirred = true
        break
      }
      this.stirredPairs.shift()
    }
    return shares
  }
}
