/**
 * One OPC UA connection's part in a baseline: its messages, chunk by chunk, as a capture has them or as a session that
 * terminates reads them. A message costs a few look-ups and no memory, unless it names a node that was not seen before.
 */
import { CHUNK, typeIdAt, typeIdLength, u32 } from '../protocols/opcua/chunk.ts'
import { Exchanges } from '../protocols/opcua/exchanges.ts'
import { isBad } from '../protocols/opcua/headers.ts'
import { Outstanding } from '../protocols/opcua/outstanding.ts'
import { FUNCTION, functionOfRequest, REQUEST, SERVICE_FAULT, servicesIn } from '../protocols/opcua/services.ts'
import { type Aliases, SessionContext } from '../protocols/opcua/session-context.ts'
import type { OpcUaWitness } from '../protocols/opcua/terms.ts'
import { includeNumbers } from '../protocols/opcua/values.ts'
import type { ChannelEntry, ChannelKind, OpcUaPair, ServiceEntry } from './opcua-entry.ts'
import type { OpcUaGatherer } from './opcua-gatherer.ts'
import { OpcUaReader } from './opcua-reader.ts'

/** Requests of a connection whose responses are waited for. */
const MAX_OUTSTANDING = 1024
/** Bytes of a response up to its service result. */
const RESULT_AT = 8 + 4

/** Services whose nodes are listed; of those in `WRITING` with the attribute that is written. */
const LISTED: ReadonlySet<number> = new Set([
  REQUEST.Read,
  REQUEST.HistoryRead,
  REQUEST.Write,
  REQUEST.HistoryUpdate,
  REQUEST.Call,
  REQUEST.CreateMonitoredItems,
  REQUEST.Browse,
  REQUEST.TranslateBrowsePathsToNodeIds,
  REQUEST.RegisterNodes,
])
const WRITING: ReadonlySet<number> = new Set([REQUEST.Write, REQUEST.HistoryUpdate])

const DISCOVERY: ReadonlySet<number> = new Set(servicesIn('discovery'))
const OPEN = functionOfRequest(REQUEST.OpenSecureChannel)
const CALL = functionOfRequest(REQUEST.Call)
const NO_BYTES = new Uint8Array(0)

/** A message of one direction that has come in part. */
class Assembly {
  open = false
  request = 0
  typeId = 0
  /** Its nodes, or its results, are wanted. */
  wanted = false
  /** Where it is counted; null: nowhere. */
  service: ServiceEntry | null = null
  buf: Uint8Array = NO_BYTES
  length = 0
}

export class OpcUaTrack implements OpcUaWitness {
  pair: OpcUaPair
  private readonly gatherer: OpcUaGatherer
  private readonly reader: OpcUaReader
  private readonly outstanding = new Outstanding(MAX_OUTSTANDING)
  private readonly up = new Assembly()
  private readonly down = new Assembly()
  /** Follows what RegisterNodes brings, where no session does. */
  private exchanges: Exchanges | null = null
  private context: SessionContext | null = null
  /** Where its channel is counted; null: nothing of it was seen. */
  private kind: ChannelEntry | null = null

  /** @param whole all of the connection will be seen */
  constructor(gatherer: OpcUaGatherer, pair: OpcUaPair, whole: boolean) {
    this.gatherer = gatherer
    this.pair = pair
    this.reader = new OpcUaReader(this, whole)
  }

  // ------------------------------------------------------------------------------------------------ what is seen

  /** Bytes of one direction as they were received: chunks are found in them. */
  sawBytes(fromClient: boolean, buf: Uint8Array, from: number, to: number): void {
    this.gatherer.seen(this.pair)
    this.reader.feed(fromClient, buf, from, to)
  }

  /** Bytes of one direction are missing. */
  lose(fromClient: boolean, bytes: number): void {
    this.pair.gapBytes += bytes
    this.gatherer.seen(this.pair)
    this.reader.lose(fromClient)
  }

  sawChannel(policy: string, mode: string, endpointUrl: string): void {
    if (endpointUrl !== '') this.pair.url(endpointUrl)
    this.request('OpenSecureChannel')
    this.channelAnswered()
    this.channel({ policy, mode })
  }

  sawChunk(
    fromClient: boolean,
    requestId: number,
    flag: number,
    buf: Uint8Array,
    from: number,
    to: number,
    aliases: Aliases | null,
  ): void {
    this.gatherer.seen(this.pair)
    if (flag === CHUNK.abort) {
      this.abort(fromClient, requestId)
      return
    }
    const one = fromClient ? this.up : this.down
    if (one.open && one.request !== requestId) this.drop(fromClient)
    const first = !one.open
    if (first) this.begin(fromClient, requestId, buf, from, to)
    if (first && flag === CHUNK.final) this.whole(fromClient, buf, from, to, aliases)
    else {
      this.add(fromClient, buf, from, to)
      if (flag === CHUNK.final) this.end(fromClient, aliases)
    }
  }

  /** The connection ends. */
  close(): void {
    this.drop(true)
    this.drop(false)
    this.gatherer.seen(this.pair)
  }

  // --------------------------------------------------------------------------------------------- what a reader says

  url(text: string): void {
    this.pair.url(text)
  }

  channel(kind: ChannelKind): void {
    this.kind = this.pair.channel(kind)
  }

  garbage(bytes: number): void {
    this.pair.garbage += bytes
  }

  /** It is the server that has opened the connection (OPC 10000-6 §7.1.3): it asks for nothing, and the other end does. */
  reverse(): void {
    this.pair = this.gatherer.reverse(this.pair)
  }

  /** A request of which nothing more is looked at. @param name of its service */
  request(name: 'OpenSecureChannel' | 'CloseSecureChannel'): void {
    this.count(functionOfRequest(REQUEST[name]))
  }

  /** OpenSecureChannel has been answered. */
  channelAnswered(): void {
    this.answered(this.gatherer.service(this.pair, OPEN), false)
  }

  /** A message that encryption hides. */
  hidden(fromClient: boolean): void {
    if (fromClient) {
      this.count(FUNCTION.encrypted)
      if (this.kind !== null) this.kind.requests++
    } else this.answered(this.gatherer.service(this.pair, FUNCTION.encrypted), false)
  }

  /** A message begins whose body, without signature, is or begins with `buf[from…to)`. */
  begin(fromClient: boolean, requestId: number, buf: Uint8Array, from: number, to: number): void {
    const one = fromClient ? this.up : this.down
    const typeId = typeIdAt(buf, from, to)
    one.open = true
    one.request = requestId
    one.typeId = typeId
    one.length = 0
    if (!fromClient) {
      one.service = null
      one.wanted = this.exchanges?.wants(requestId) === true
      this.response(requestId, typeId, buf, from, to)
      return
    }
    const fn = functionOfRequest(Math.max(0, typeId))
    one.service = this.count(fn)
    if (this.kind !== null && !DISCOVERY.has(typeId)) this.kind.requests++
    one.wanted = LISTED.has(typeId) || typeId === REQUEST.UnregisterNodes
    this.owe(requestId, fn)
  }

  /** All of its body is at hand. */
  whole(fromClient: boolean, buf: Uint8Array, from: number, to: number, aliases: Aliases | null): void {
    const one = fromClient ? this.up : this.down
    one.open = false
    if (!one.wanted) return
    one.wanted = false
    if (fromClient) this.asked(one, buf, from, to, aliases)
    else this.exchanges?.answer(one.request, buf, from, to)
  }

  /** Some more of its body. */
  add(fromClient: boolean, buf: Uint8Array, from: number, to: number): void {
    const one = fromClient ? this.up : this.down
    if (!one.wanted || from >= to) return
    const length = one.length + to - from
    if (length > one.buf.length) {
      const larger = this.gatherer.blocks.lend(length)
      if (larger === null) {
        this.unread(one)
        return
      }
      for (let i = 0; i < one.length; i++) larger[i] = one.buf[i]
      if (one.buf !== NO_BYTES) this.gatherer.blocks.give(one.buf)
      one.buf = larger
    }
    const { buf: own } = one
    for (let i = from, at = one.length; i < to; i++) own[at++] = buf[i]
    one.length = length
  }

  /** Its last byte has been added. */
  end(fromClient: boolean, aliases: Aliases | null): void {
    const one = fromClient ? this.up : this.down
    if (one.open) this.whole(fromClient, one.buf, 0, one.length, aliases)
    this.release(one)
  }

  /** The rest of a message will not be seen, or cannot be told. */
  drop(fromClient: boolean): void {
    const one = fromClient ? this.up : this.down
    if (one.open) this.unread(one)
    one.open = false
    this.release(one)
  }

  /** What cannot be delimited: see `OpcUaReader`. */
  blur(fromClient: boolean): void {
    this.unread(fromClient ? this.up : this.down)
  }

  /** Whether `buf[from…to)` is, to its last byte, the body of a request that names nodes. */
  fits(buf: Uint8Array, from: number, to: number): boolean {
    const { walker } = this.gatherer.table
    if (!walker.open(buf, from, to)) return false
    while (walker.next());
    return walker.fault === 0
  }

  /** The sender takes its message back. */
  abort(fromClient: boolean, requestId: number): void {
    const one = fromClient ? this.up : this.down
    if (one.open) {
      one.wanted = false
      one.open = false
      this.release(one)
      if (!fromClient) return
    }
    const at = this.outstanding.find(requestId)
    if (at === -1) return
    const service = this.pair.services[this.outstanding.functionAt(at)]
    this.outstanding.remove(at)
    this.exchanges?.drop(requestId)
    if (!fromClient && service !== null) this.answered(service, true)
  }

  // ---------------------------------------------------------------------------------------------------- counting

  private count(fn: number): ServiceEntry {
    const { clock } = this.gatherer
    const service = this.gatherer.service(this.pair, fn)
    service.requests++
    service.span.include(clock)
    service.rate.count(Math.floor(clock[0] / 1e6))
    return service
  }

  private answered(service: ServiceEntry, fault: boolean): void {
    this.pair.responses++
    service.stir()
    if (fault) {
      this.pair.faults++
      service.faults++
    } else service.responses++
  }

  private owe(requestId: number, fn: number): void {
    const { outstanding } = this
    const before = outstanding.find(requestId)
    if (before !== -1) outstanding.remove(before)
    // Where so many are owed, their answers are not among what is seen.
    if (outstanding.size === MAX_OUTSTANDING) outstanding.clear()
    outstanding.add(requestId, fn, 0)
  }

  private response(requestId: number, typeId: number, buf: Uint8Array, from: number, to: number): void {
    const result = from + typeIdLength(buf, from) + RESULT_AT
    const fault = typeId === SERVICE_FAULT || (result + 4 <= to && isBad(u32(buf, result)))
    const at = this.outstanding.find(requestId)
    const service = at === -1 ? null : this.pair.services[this.outstanding.functionAt(at)]
    if (at !== -1) this.outstanding.remove(at)
    if (service !== null) {
      this.answered(service, fault)
      return
    }
    this.pair.responses++
    if (fault) this.pair.faults++
  }

  private unread(one: Assembly): void {
    if (one.wanted && one.service !== null) {
      one.service.unread++
      one.service.stir()
    }
    one.wanted = false
  }

  private release(one: Assembly): void {
    if (one.buf !== NO_BYTES) this.gatherer.blocks.give(one.buf)
    one.buf = NO_BYTES
    one.length = 0
  }

  /** A whole request: the nodes that it names. */
  private asked(one: Assembly, buf: Uint8Array, from: number, to: number, aliases: Aliases | null): void {
    const service = one.service as ServiceEntry
    if (!this.fits(buf, from, to)) {
      service.malformed++
      return
    }
    if (LISTED.has(one.typeId)) this.list(service, one.typeId, buf, from, to, aliases ?? this.context?.aliases ?? null)
    if (aliases !== null) return
    if (one.typeId === REQUEST.RegisterNodes || one.typeId === REQUEST.UnregisterNodes)
      this.registers(one, buf, from, to)
  }

  private list(
    service: ServiceEntry,
    typeId: number,
    buf: Uint8Array,
    from: number,
    to: number,
    aliases: Aliases | null,
  ): void {
    const { table, nodesLeft } = this.gatherer
    const { walker } = table
    const writes = WRITING.has(typeId)
    walker.open(buf, from, to)
    while (walker.next()) {
      const real = aliases === null ? null : aliases.resolve(buf, walker.node)
      const other = service.fn === CALL ? walker.other : null
      const realOther = other === null || aliases === null ? null : aliases.resolve(buf, other)
      const entry = service.node(
        real === null ? buf : real.buf,
        real === null ? walker.node : real.ref,
        realOther === null ? buf : realOther.buf,
        realOther === null ? other : realOther.ref,
        writes ? walker.attribute : 0,
        writes,
        nodesLeft,
      )
      if (entry === null) {
        service.unlisted++
        continue
      }
      entry.requests++
      if (!entry.stirred) {
        entry.stirred = true
        service.stirredNodes.push(entry)
      }
      if (entry.written !== null && walker.valueAt !== -1) {
        includeNumbers(buf, walker.valueAt, walker.itemEnd, walker.values, entry.written)
      }
    }
  }

  /** Nodes get other names, or lose them: what the server says of it is waited for. */
  private registers(one: Assembly, buf: Uint8Array, from: number, to: number): void {
    this.exchanges ??= new Exchanges(null)
    this.context ??= new SessionContext()
    const { table } = this.gatherer
    table.walker.open(buf, from, to)
    this.exchanges.drop(one.request)
    this.exchanges.send(one.request, table, 0, buf, from, to, this.context)
  }
}
