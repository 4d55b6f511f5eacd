/**
 * Cuts one direction of a TCP stream into Modbus/TCP frames (MODBUS Messaging on TCP/IP V1.0b §3.1.3). Frames are
 * handed out where they lie; only one that spans two segments is put together elsewhere.
 *
 * Where bytes are missing, or the stream is met in its middle, the next frame must be found again: a place counts as
 * a frame boundary only where the bytes from there on are frames that keep the specification, up to the segment's end.
 */
import { FUNCTION_CODES } from '../protocols/modbus/function-codes.ts'
import { checkRequest } from '../protocols/modbus/request.ts'
import { checkResponse } from '../protocols/modbus/response.ts'

const HEADER = 7
const LENGTH_END = 6
const MAX_ADU = 260
/** Frames in a row that settle a boundary, wherever the segment ends. */
const ENOUGH = 4

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

  /** @param synced false where the stream's first byte was not seen */
  constructor(stream: Stream, sink: FrameSink<Stream>, fromClient: boolean, synced: boolean) {
    this.stream = stream
    this.sink = sink
    this.fromClient = fromClient
    this.synced = synced
  }

  /** Bytes of this direction are missing. */
  lose(): void {
    this.skipped += this.carried
    this.carried = 0
    this.synced = false
  }

  feed(buf: Uint8Array, start: number, end: number, us: number): void {
    let at = start
    if (!this.synced) {
      at = findBoundary(buf, start, end, this.fromClient, true)
      this.skipped += at - start
      if (at === end) return
      this.synced = true
    } else if (this.carried > 0) {
      at = this.complete(buf, start, end, us)
      if (at < 0) return
    }
    while (end - at >= LENGTH_END) {
      const length = (buf[at + 4] << 8) | buf[at + 5]
      if (length < 2 || length > 254) {
        this.sink.onGarbage(this.stream, this.fromClient, buf, at, end, us)
        const next = findBoundary(buf, at + 1, end, this.fromClient, false)
        this.skipped += next - at
        this.synced = next < end
        at = next
        continue
      }
      const next = at + LENGTH_END + length
      if (next > end) break
      this.sink.onFrame(this.stream, this.fromClient, buf, at, next, us)
      at = next
    }
    if (at < end) this.keep(buf, at, end)
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
      const next = findBoundary(buf, at, end, this.fromClient, false)
      this.skipped += carried + next - at
      this.synced = next < end
      return next < end ? next : -1
    }
    while (at < end && this.carried < LENGTH_END + length) carry[this.carried++] = buf[at++]
    if (this.carried < LENGTH_END + length) return -1
    const { carried } = this
    this.carried = 0
    this.sink.onFrame(this.stream, this.fromClient, carry, 0, carried, us)
    return at
  }
}

/**
 * @param aligned `start` is the start of a segment, where a frame is likely to begin: whole frames by their headers
 *   are enough there. Elsewhere there must be two at least, each of them one that the specification defines, without a
 *   fault: a single one may be what another frame carries as its registers.
 * @returns the first place in [start, end) that a frame certainly begins at; `end` where there is none
 */
function findBoundary(buf: Uint8Array, start: number, end: number, fromClient: boolean, aligned: boolean): number {
  if (aligned && isChain(buf, start, end, fromClient, false, 1)) return start
  for (let at = aligned ? start + 1 : start; at + HEADER < end; at++) {
    if ((buf[at + 2] | buf[at + 3] | buf[at + 4]) === 0 && isChain(buf, at, end, fromClient, true, 2)) return at
  }
  return end
}

/**
 * Whether the bytes from `at` are frames of one direction, one after the other, to the end of the segment.
 * @param strict every frame is whole, of a function that the specification defines, and without a fault
 * @param least how many there must be
 */
export function isChain(
  buf: Uint8Array,
  start: number,
  end: number,
  fromClient: boolean,
  strict: boolean,
  least: number,
): boolean {
  let at = start
  for (let frames = 0; frames < ENOUGH; frames++) {
    if (at === end) return frames >= least
    if (end - at <= HEADER) return !strict && frames >= least
    const length = (buf[at + 4] << 8) | buf[at + 5]
    if ((buf[at + 2] | buf[at + 3]) !== 0 || length < 2 || length > 254) return false
    const next = at + LENGTH_END + length
    if (next > end) return !strict && frames >= least
    const code = fromClient ? buf[at + HEADER] : buf[at + HEADER] & 0x7f
    if (code === 0 || code > 0x7f) return false
    if (strict) {
      if (!FUNCTION_CODES.has(code)) return false
      const fault = fromClient ? checkRequest(buf, at + HEADER, next) : checkResponse(buf, at + HEADER, next)
      if (fault !== 0) return false
    }
    at = next
  }
  return true
}
