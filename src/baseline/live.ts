/**
 * The baseline that a gateway keeps while it monitors: a worker's share. Counts are made where the frames are and kept
 * in place; what has changed goes to the main thread every few seconds, some rows at a time, so that no frame waits long.
 */
import { formatAddress } from '../policy/address.ts'
import type { BaselineConnection, BaselineFlow } from './baseline-file.ts'
import type { Entry, Host, Pair } from './entry.ts'
import { type Bounds, Gatherer } from './gatherer.ts'
import { type OpcUaBounds, OpcUaGatherer, type OpcUaShare } from './opcua-gatherer.ts'
import { type Rate, Recent } from './rate.ts'

/** Of one worker: 4 MiB of values and 4 MiB of ranges, beside some 2 KiB a flow. */
const BOUNDS: Bounds = { entries: 10_000, pairs: 5_000, pages: 2_048, ranges: 250_000 }
/** 16 MiB of messages that have come in part, some 30 MiB of nodes. */
const OPCUA_BOUNDS: OpcUaBounds = { pairs: 5_000, nodes: 50_000, gathered: 16 << 20 }

/** Seconds since 1970, each with its events so far. */
export type Seconds = [second: number, events: number][]

export interface HostShare {
  address: string
  /** Of a target; absent: a client. */
  port?: number
  requests: number
  seconds: Seconds
  connecting: Seconds
  /** Most connections of this worker that were open at one time, ever. */
  concurrent: number
}

/** What happened since the share before it. */
export interface BaselineShare {
  hosts: HostShare[]
  connections: BaselineConnection[]
  flows: (Omit<BaselineFlow, 'rate'> & { seconds: Seconds })[]
  opcua: OpcUaShare<Seconds>[]
  /** Messages, addresses and values that there was no room for. */
  dropped: number
}

export class LiveBaseline extends Gatherer {
  readonly opcua = new OpcUaGatherer(OPCUA_BOUNDS, this.clock, () => this.rate())
  private entriesStirred: Entry[] = []
  private pairsStirred: Pair[] = []

  constructor() {
    super(BOUNDS)
  }

  protected rate(): Rate {
    return new Recent()
  }

  protected override stir(pair: Pair, entry: Entry | null): void {
    if (!pair.stirred) {
      pair.stirred = true
      pair.client.stirred = true
      pair.target.stirred = true
      this.pairsStirred.push(pair)
    }
    if (entry !== null && !entry.stirred) {
      entry.stirred = true
      this.entriesStirred.push(entry)
    }
  }

  /** Whether there is something to take. */
  get stirred(): boolean {
    return this.pairsStirred.length > 0 || this.dropped > 0 || this.opcua.stirred || this.opcua.dropped > 0
  }

  /** @param most rows of flows, services and nodes that are taken at one time; the rest is for the next call */
  take(most: number): BaselineShare {
    const flows = this.entriesStirred.splice(0, most).map((entry) => {
      const row = { ...entry.row(), seconds: secondsOf(entry.rate) }
      entry.forget()
      return row
    })
    const opcua = this.opcua.take(most - flows.length, secondsOf)
    const dropped = this.dropped + this.opcua.dropped
    const share: BaselineShare = { hosts: [], connections: [], flows, opcua, dropped }
    this.dropped = 0
    this.opcua.dropped = 0
    if (this.entriesStirred.length > 0) return share
    for (const pair of this.pairsStirred) {
      const { clientAddress, targetAddress, port, client, target } = pair
      share.connections.push(pair.row())
      pair.forget()
      if (client.stirred) share.hosts.push(hostShare(client, { address: formatAddress(clientAddress) }))
      if (target.stirred) share.hosts.push(hostShare(target, { address: formatAddress(targetAddress), port }))
    }
    this.pairsStirred = []
    return share
  }
}

const secondsOf = (rate: Rate): Seconds => (rate as Recent).take()

function hostShare(host: Host, name: { address: string; port?: number }): HostShare {
  const share = {
    ...name,
    requests: host.requests,
    seconds: secondsOf(host.rate),
    connecting: secondsOf(host.connecting),
    concurrent: host.concurrent,
  }
  host.requests = 0
  host.stirred = false
  return share
}
