/** Gathers what OPC UA connections of a capture do, by client and target. */
import { formatAddress } from '../policy/address.ts'
import type { BaselineOpcUa } from './baseline-file.ts'
import { Span, timeText } from './entry.ts'
import { type ChannelKind, OpcUaReader, type OpcUaSink } from './opcua-reader.ts'

/** Pairs that are kept apart, and endpoint URLs of one. */
const MAX_PAIRS = 50_000
const MAX_URLS = 32

class OpcUaPair {
  readonly client: bigint
  readonly target: bigint
  readonly port: number
  opened = 0
  readonly services = new Map<string, number>()
  responses = 0
  faults = 0
  readonly channels = new Map<string, ChannelKind & { opened: number }>()
  readonly urls = new Set<string>()
  garbage = 0
  gapBytes = 0
  readonly span = new Span()

  constructor(client: bigint, target: bigint, port: number) {
    this.client = client
    this.target = target
    this.port = port
  }
}

/** What is kept with a connection. */
export class OpcUaTrack implements OpcUaSink {
  readonly pair: OpcUaPair
  readonly reader: OpcUaReader

  constructor(pair: OpcUaPair, whole: boolean) {
    this.pair = pair
    this.reader = new OpcUaReader(this, whole)
  }

  endpoint(url: string): void {
    if (this.pair.urls.size < MAX_URLS) this.pair.urls.add(url)
  }

  channel({ policy, mode }: ChannelKind): void {
    const key = `${policy} ${mode}`
    const one = this.pair.channels.get(key) ?? { policy, mode, opened: 0 }
    this.pair.channels.set(key, one)
    one.opened++
  }

  request(name: string): void {
    this.pair.services.set(name, (this.pair.services.get(name) ?? 0) + 1)
  }

  response(fault: boolean): void {
    this.pair.responses++
    if (fault) this.pair.faults++
  }

  garbage(bytes: number): void {
    this.pair.garbage += bytes
  }
}

export class OpcUaGatherer {
  dropped = 0
  private readonly pairs = new Map<string, OpcUaPair>()

  /** @param clock one cell: the time, in microseconds since 1970 */
  open(client: bigint, target: bigint, port: number, whole: boolean, clock: Float64Array): OpcUaTrack | null {
    const key = `${client} ${target} ${port}`
    let pair = this.pairs.get(key)
    if (pair === undefined) {
      if (this.pairs.size >= MAX_PAIRS) {
        this.dropped++
        return null
      }
      pair = new OpcUaPair(client, target, port)
      this.pairs.set(key, pair)
    }
    pair.opened++
    pair.span.include(clock)
    return new OpcUaTrack(pair, whole)
  }

  rows(): BaselineOpcUa[] {
    return [...this.pairs.values()].map((pair) => ({
      client: formatAddress(pair.client),
      target: formatAddress(pair.target),
      port: pair.port,
      opened: pair.opened,
      services: Object.fromEntries([...pair.services].sort((a, b) => b[1] - a[1])),
      responses: pair.responses,
      faults: pair.faults,
      channels: [...pair.channels.values()],
      endpoint_urls: [...pair.urls],
      garbage: pair.garbage,
      gapBytes: pair.gapBytes,
      first: timeText(pair.span.first),
      last: timeText(pair.span.last),
    }))
  }
}
