/** The baseline of captures: what their streams hold, as the file that `headgate learn` writes. */
import { formatAddress } from '../policy/address.ts'
import { BASELINE_VERSION, type BaselineConnection, type BaselineFile, type BaselineFlow } from './baseline-file.ts'
import { type Track, timeText } from './entry.ts'
import { type Bounds, Gatherer } from './gatherer.ts'
import { figuresOf, Histogram, type Rate } from './rate.ts'
import type { Flow, FlowSink } from './reassembly.ts'

/** 32 MiB of values, some 64 MiB of ranges. */
const BOUNDS: Bounds = { entries: 100_000, pairs: 50_000, pages: 16_384, ranges: 4_000_000 }

export class BaselineCollector extends Gatherer implements FlowSink {
  constructor() {
    super(BOUNDS)
  }

  protected rate(): Rate {
    return new Histogram()
  }

  onOpen(flow: Flow, us: number): void {
    this.clock[0] = us
    flow.state = this.open(flow.clientAddress, flow.targetAddress, flow.targetPort)
  }

  onClose(flow: Flow, us: number): void {
    const track = flow.state as Track | null
    if (track === null) return
    this.clock[0] = us
    if (flow.target.seen) track.pair.targetSeen = true
    // Where the target's direction was not captured at all nobody knows what it did.
    this.close(track, flow.answered ? true : flow.handshake ? false : null)
  }

  onGap(flow: Flow, _fromClient: boolean, bytes: number): void {
    const track = flow.state as Track | null
    if (track !== null) track.pair.gapBytes += bytes
  }

  onGarbage(flow: Flow, fromClient: boolean, _buf: Uint8Array, _at: number, _end: number, us: number): void {
    const track = flow.state as Track | null
    this.clock[0] = us
    if (track !== null && fromClient) this.garbage(track)
  }

  onFrame(flow: Flow, fromClient: boolean, buf: Uint8Array, adu: number, end: number, us: number): void {
    const track = flow.state as Track | null
    if (track === null) return
    this.clock[0] = us
    if (fromClient) this.request(track, buf, adu, end)
    else this.response(track, buf, adu, end, !flow.incomplete)
  }

  /** The baseline as plain data. Ends the second under way: call it once, when all is read. */
  toFile(): BaselineFile {
    const flows: BaselineFlow[] = []
    const connections: BaselineConnection[] = []
    let first = Number.POSITIVE_INFINITY
    let last = Number.NEGATIVE_INFINITY
    for (const pair of this.pairs.values()) {
      first = Math.min(first, pair.span.first)
      last = Math.max(last, pair.span.last)
      connections.push(pair.row())
      for (const entry of pair.entries.values()) flows.push({ ...entry.row(), rate: rateRow(entry.rate) })
    }
    return {
      format: 'headgate-baseline',
      version: BASELINE_VERSION,
      first: first <= last ? timeText(first) : null,
      last: first <= last ? timeText(last) : null,
      sources: [],
      clients: [...this.clients].map(([address, host]) => ({
        address: formatAddress(address),
        requests: host.requests,
        rate: rateRow(host.rate),
        connecting: rateRow(host.connecting),
        concurrent: host.concurrent,
      })),
      targets: [...this.targets].map(([place, host]) => {
        const [address, port] = place.split(' ')
        return {
          address: formatAddress(BigInt(address)),
          port: Number(port),
          requests: host.requests,
          rate: rateRow(host.rate),
          concurrent: host.concurrent,
        }
      }),
      connections,
      flows,
    }
  }
}

function rateRow(rate: Rate) {
  const seconds = (rate as Histogram).rows()
  return { ...figuresOf(seconds), seconds }
}
