/**
 * Cuts one direction of a TCP stream into Modbus/TCP frames (MODBUS Messaging on TCP/IP V1.0b §3.1.3). Frames are
 * handed out where they lie; only one that spans two segments is put together elsewhere.
 *
 * Where bytes are missing within a frame whose length is known, the next one begins where that one ends. Where more is
 * missing, or the stream is met in its middle, it must be found again (`boundary.ts`).
 */
import { BoundarySearch, findBoundary } from './boundary.ts'

const LENGTH_END = 6
const MAX_ADU = 260
/** Transaction identifiers in a row that went up by one: such a sender goes on so. */
const COUNTING = 32

/** Takes the frames of one direction. The buffer is the caller's again on return. */
export interface FrameSink<Stream> {
  /** A whole frame, `buf[adu…end)`, by its MBAP length (2…254); its protocol identifier and PDU may be anything. */
  onFrame(stream: Stream, fromClient: boolean, buf: Uint8Array, adu: number, end: number, us: number): void
  /** An MBAP length that is none: what follows cannot be told apart until a boundary is found again. */
  onGarbage(stream: Stream, fromClient: boolean, buf: Uint8Array, at: number, end: number, us: number): void
}

export class Framer<Stream> {
  fromClient: boolean
  /** The next byte is the first of a frame, or of the rest of the one in `carry`. */
  synced: boolean
  /** Bytes passed over while looking for a boundary. */
  skipped = 0
  private readonly stream: Stream
  private readonly sink: FrameSink<Stream>
  private carry: Uint8Array | null = null
  private carried = 0
  /** Bytes that are still to come of a frame of which some are missing. */
  private torn = 0
  /** The latest transaction identifier; -1: none. How many in a row were one more than the one before. */
  private last = -1
  private counted = 0
  private readonly search = new BoundarySearch()

  /** @param synced false where the stream's first byte was not seen */
  constructor(stream: Stream, sink: FrameSink<Stream>, fromClient: boolean, synced: boolean) {
    this.stream = stream
    this.sink = sink
    this.fromClient = fromClient
    this.synced = synced
  }

  /** Bytes of this direction are missing: how many; 0: nobody knows. */
  lose(missing: number): void {
    const { carry, carried } = this
    const torn = carry !== null && carried >= LENGTH_END ? LENGTH_END + carry[5] - carried : this.torn
    this.skipped += carried
    this.carried = 0
    if (missing > 0 && missing <= torn) {
      if (carry !== null && carried > 0) this.count((carry[0] << 8) | carry[1])
      this.torn = torn - missing
      return
    }
    this.torn = 0
    this.skipped += this.search.size
    if (this.synced) this.search.begin(missing > 0 && this.counted >= COUNTING ? this.last : -1, carried + missing)
    else this.search.lose(missing)
    this.synced = false
  }

  feed(buf: Uint8Array, start: number, end: number, us: number): void {
    let at = start
    if (this.torn > 0) {
      at = Math.min(start + this.torn, end)
      this.torn -= at - start
      this.skipped += at - start
      if (at === end) return
    }
    if (!this.synced) {
      if (!this.search.begins(buf, at, end, this.fromClient)) {
        this.seek(buf, at, end, us)
        return
      }
      this.resume(buf, at)
    } else if (this.carried > 0) {
      at = this.complete(buf, start, end, us)
      if (at < 0) return
    }
    while (end - at >= LENGTH_END) {
      const length = (buf[at + 4] << 8) | buf[at + 5]
      if (length < 2 || length > 254) {
        this.sink.onGarbage(this.stream, this.fromClient, buf, at, end, us)
        const next = findBoundary(buf, at + 1, end, this.fromClient)
        this.skipped += next - at
        this.synced = next < end
        at = next
        continue
      }
      const next = at + LENGTH_END + length
      if (next > end) break
      this.hand(buf, at, next, us)
      at = next
    }
    if (at < end) this.keep(buf, at, end)
  }

  private hand(buf: Uint8Array, adu: number, end: number, us: number): void {
    this.count((buf[adu] << 8) | buf[adu + 1])
    this.sink.onFrame(this.stream, this.fromClient, buf, adu, end, us)
  }

  private count(transaction: number): void {
    this.counted = transaction === ((this.last + 1) & 0xffff) ? this.counted + 1 : 0
    this.last = transaction
  }

  private seek(buf: Uint8Array, start: number, end: number, us: number): void {
    const { search } = this
    const before = search.size + end - start
    const pieces = search.add(buf, start, end, us, this.fromClient)
    this.skipped += before - (pieces === null ? search.size : pieces.reduce((sum, { bytes }) => sum + bytes.length, 0))
    if (pieces === null) return
    this.resume(pieces[0].bytes, 0)
    for (const piece of pieces) this.feed(piece.bytes, 0, piece.bytes.length, piece.us)
  }

  /** A frame begins here. Whether the sender counts is no different for what was missed. */
  private resume(buf: Uint8Array, at: number): void {
    this.synced = true
    if (this.last !== -1) this.last = (((buf[at] << 8) | buf[at + 1]) - 1) & 0xffff
  }

  private keep(buf: Uint8Array, at: number, end: number): void {
    this.carry ??= new Uint8Array(MAX_ADU)
    for (let i = at; i < end; i++) this.carry[this.carried++] = buf[i]
  }

  /** @returns where to go on in `buf`; -1: all of it went into the frame that is still not whole */
  private complete(buf: Uint8Array, start: number, end: number, us: number): number {
    const carry = this.carry as Uint8Array
    let at = start
    while (at < end && this.carried < LENGTH_END) carry[this.carried++] = buf[at++]
    if (this.carried < LENGTH_END) return -1
    const length = (carry[4] << 8) | carry[5]
    if (length < 2 || length > 254) {
      const { carried } = this
      this.carried = 0
      this.sink.onGarbage(this.stream, this.fromClient, carry, 0, carried, us)
      const next = findBoundary(buf, at, end, this.fromClient)
      this.skipped += carried + next - at
      this.synced = next < end
      return next < end ? next : -1
    }
    while (at < end && this.carried < LENGTH_END + length) carry[this.carried++] = buf[at++]
    if (this.carried < LENGTH_END + length) return -1
    const { carried } = this
    this.carried = 0
    this.hand(carry, 0, carried, us)
    return at
  }
}
