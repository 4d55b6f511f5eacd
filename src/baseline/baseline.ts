/** The baseline of captures: what their streams hold, as the file that `headgate learn` writes. */
import { formatAddress } from '../policy/address.ts'
import {
  BASELINE_VERSION,
  type BaselineConnection,
  type BaselineFile,
  type BaselineFlow,
  earlier,
  later,
} from './baseline-file.ts'
import { type Track, timeText } from './entry.ts'
import { type Bounds, Gatherer } from './gatherer.ts'
import { type OpcUaBounds, OpcUaGatherer } from './opcua-gatherer.ts'
import { OpcUaTrack } from './opcua-track.ts'
import { figuresOf, Histogram, type Rate } from './rate.ts'
import type { Flow, FlowSink } from './reassembly.ts'

/** 32 MiB of values, some 64 MiB of ranges. */
const BOUNDS: Bounds = { entries: 100_000, pairs: 50_000, pages: 16_384, ranges: 4_000_000 }
/** 16 MiB of messages that have come in part, some 60 MiB of nodes. */
const OPCUA_BOUNDS: OpcUaBounds = { pairs: 50_000, nodes: 100_000, gathered: 16 << 20 }

export class BaselineCollector extends Gatherer implements FlowSink {
  readonly opcua = new OpcUaGatherer(OPCUA_BOUNDS, this.clock, () => this.rate())

  constructor() {
    super(BOUNDS)
  }

  protected rate(): Rate {
    return new Histogram()
  }

  onOpen(flow: Flow, us: number): void {
    this.clock[0] = us
    const { clientAddress, targetAddress, targetPort, handshake } = flow
    flow.state =
      flow.protocol === 'opcua'
        ? this.opcua.open(clientAddress, targetAddress, targetPort, handshake)
        : this.open(clientAddress, targetAddress, targetPort)
  }

  onBytes(flow: Flow, fromClient: boolean, buf: Uint8Array, from: number, to: number, us: number): void {
    const track = flow.state as OpcUaTrack | null
    if (track === null) return
    this.clock[0] = us
    track.sawBytes(fromClient, buf, from, to)
  }

  onClose(flow: Flow, us: number): void {
    const track = flow.state as Track | OpcUaTrack | null
    if (track === null) return
    this.clock[0] = us
    if (track instanceof OpcUaTrack) {
      track.close()
      return
    }
    if (flow.target.seen) track.pair.targetSeen = true
    // Where the target's direction was not captured at all nobody knows what it did.
    this.close(track, flow.answered ? true : flow.handshake ? false : null)
  }

  onGap(flow: Flow, fromClient: boolean, bytes: number): void {
    const track = flow.state as Track | OpcUaTrack | null
    if (track === null) return
    if (track instanceof OpcUaTrack) track.lose(fromClient, bytes)
    else track.pair.gapBytes += bytes
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
    const opcua = this.opcua.take(Number.POSITIVE_INFINITY, rateRow).map((row) => ({
      ...row,
      services: Object.fromEntries(
        Object.entries(row.services).map(([name, { seconds, ...service }]) => [name, { ...service, rate: seconds }]),
      ),
    }))
    const [begin, end] = [
      [...opcua.map((one) => one.first)].sort()[0] ?? null,
      [...opcua.map((one) => one.last)].sort().at(-1) ?? null,
    ]
    return {
      format: 'headgate-baseline',
      version: BASELINE_VERSION,
      first: earlier(first <= last ? timeText(first) : null, begin),
      last: later(first <= last ? timeText(last) : null, end),
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
      opcua,
    }
  }
}

function rateRow(rate: Rate) {
  const seconds = (rate as Histogram).rows()
  return { ...figuresOf(seconds), seconds }
}
