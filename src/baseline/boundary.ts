/**
 * Finds where Modbus/TCP frames begin again behind missing bytes, or in the middle of a stream. No guess: what looks like
 * a frame may be what another one, whose head is lost, carries as its registers.
 *
 * A place is believed to be a boundary where
 * - a segment begins, and frames by their headers follow from there to its end, one of them whole; or
 * - a segment begins, and two frames that keep the specification follow, over any number of segments; or
 * - two frames that keep the specification begin in one segment;
 * and the frames that follow end with a segment, at a place that is believed, or are four. Where the sender has counted its
 * transaction identifiers up, they go on from there: no further than the missing bytes have room for frames. Of a segment
 * that begins with the rest of a lost frame, a frame that is alone behind it is not believed.
 */
import { FUNCTION_CODES } from '../protocols/modbus/function-codes.ts'
import { checkRequest } from '../protocols/modbus/request.ts'
import { checkResponse } from '../protocols/modbus/response.ts'

/** Unit identifier and function code follow the length field: MODBUS Messaging on TCP/IP V1.0b §3.1.3. */
const HEADER = 7
const LENGTH_END = 6
/** Frames in a row that settle a boundary, wherever the segment ends. */
const ENOUGH = 4

/** The shortest frame, in bytes: a function code alone. */
const LEAST_ADU = 8
/** Bytes passed over, more than a lost frame leaves, after which a sender is not expected to count on: it began anew. */
const PATIENCE = 260

const [NONE, OPEN, BELIEVED] = [0, 1, 2]

interface Piece {
  bytes: Uint8Array
  us: number
}

/** One direction's bytes since its frames were lost, as far as they may still turn out to be frames. */
export class BoundarySearch {
  private held = new Uint8Array(0)
  /** Where in `held` each segment begins; of the first one, its beginning may be gone: then it is negative. */
  private segments: { at: number; us: number }[] = []
  /** The latest transaction identifier of a sender that counts; -1: it does not. */
  private last = -1
  /** Bytes between that frame and `held`, and those of them that were there. */
  private between = 0
  private passed = 0

  get empty(): boolean {
    return this.segments.length === 0
  }

  /**
   * The next segment, `buf[start…end)`, at least one byte.
   * @returns what of it and of those before it is frames from its first byte on, in order; null: none so far
   */
  add(buf: Uint8Array, start: number, end: number, us: number, fromClient: boolean): Piece[] | null {
    const at = this.held.length
    const grown = new Uint8Array(at + end - start)
    grown.set(this.held)
    grown.set(buf.subarray(start, end), at)
    this.held = grown
    this.segments.push({ at, us })
    const found = this.find(at, fromClient)
    return found === -1 ? null : this.take(found)
  }

  /** Bytes that are held. */
  get size(): number {
    return this.held.length
  }

  /**
   * Bytes are missing, whose number is known.
   * @param last transaction identifier of the frame before them, where the sender counts them; -1: it does not
   * @param between bytes between that frame and what comes next
   */
  begin(last: number, between: number): void {
    this.clear()
    this.last = last
    this.between = between
    this.passed = 0
  }

  /** More bytes are missing: how many; 0: nobody knows. */
  lose(missing: number): void {
    if (missing === 0) this.last = -1
    this.pass(this.held.length)
    this.between += missing
    this.clear()
  }

  private pass(bytes: number): void {
    this.between += bytes
    this.passed += bytes
  }

  private clear(): void {
    this.held = new Uint8Array(0)
    this.segments = []
  }

  /**
   * What is common, without a copy: nothing is held, and `buf[start…end)` is a segment that begins with a frame.
   */
  begins(buf: Uint8Array, start: number, end: number, fromClient: boolean): boolean {
    return this.empty && this.follows(buf, start, end, 0) && isChain(buf, start, end, fromClient, false, 1)
  }

  /** The frame at `at` may come next. @param behind its distance from what is held */
  private follows(buf: Uint8Array, at: number, end: number, behind: number): boolean {
    if (this.last === -1 || this.passed > PATIENCE || end - at < 2) return true
    const step = (((buf[at] << 8) | buf[at + 1]) - this.last) & 0xffff
    return step >= 1 && step <= 1 + (this.between + behind) / LEAST_ADU
  }

  /** @param newest where the newest segment begins */
  private find(newest: number, fromClient: boolean): number {
    const { held, segments } = this
    const whole =
      this.follows(held, newest, held.length, newest) && isChain(held, newest, held.length, fromClient, false, 1)
    const believed = whole ? newest : -1
    let open = -1
    let segment = 0
    for (let at = 0; at < held.length && at !== believed; at++) {
      while (segment + 1 < segments.length && segments[segment + 1].at <= at) segment++
      const verdict = this.judge(at, segment, believed, fromClient)
      if (verdict === BELIEVED) return at
      if (verdict === OPEN && open === -1) open = at
    }
    if (believed === -1) this.drop(open === -1 ? held.length : open)
    return believed
  }

  private judge(start: number, segment: number, believed: number, fromClient: boolean): number {
    const { held, segments } = this
    const end = held.length
    const aligned = segments[segment].at === start
    const segmentEnd = segments[segment + 1]?.at ?? end
    if (!this.follows(held, start, end, start)) return NONE
    let at = start
    for (let frames = 1; ; frames++) {
      if (!mayBegin(held, at, end)) return NONE
      const next = at + LENGTH_END + held[at + 5]
      if (end - at <= HEADER || next > end) return OPEN
      if (!keepsSpecification(held, at, next, fromClient)) return NONE
      if (frames === 1 && !aligned && next >= segmentEnd) return NONE
      const settled = next === believed || frames === ENOUGH || next === end || segments.some((one) => one.at === next)
      if (settled && (frames > 1 || next === believed)) return BELIEVED
      if (next === end) return OPEN
      at = next
    }
  }

  /** What lies before `to` is no frame. */
  private drop(to: number): void {
    this.pass(to)
    this.held = this.held.slice(to)
    this.segments = this.segments
      .filter((_, i, all) => (all[i + 1]?.at ?? Number.POSITIVE_INFINITY) > to)
      .map(({ at, us }) => ({ at: at - to, us }))
    if (this.held.length === 0) this.segments = []
  }

  private take(from: number): Piece[] {
    const { held, segments } = this
    this.clear()
    return segments
      .map(({ at, us }, i) => ({
        bytes: held.subarray(Math.max(at, from), Math.max(segments[i + 1]?.at ?? held.length, from)),
        us,
      }))
      .filter(({ bytes }) => bytes.length > 0)
  }
}

/** What there is of `buf[at…end)` may be the beginning of a frame's MBAP header, of protocol 0, and its function code. */
function mayBegin(buf: Uint8Array, at: number, end: number): boolean {
  const left = end - at
  if (left > 2 && buf[at + 2] !== 0) return false
  if (left > 3 && buf[at + 3] !== 0) return false
  if (left > 4 && buf[at + 4] !== 0) return false
  return left <= 5 || (buf[at + 5] >= 2 && buf[at + 5] <= 254)
}

/** A function that the specification defines, without a fault. */
function keepsSpecification(buf: Uint8Array, at: number, end: number, fromClient: boolean): boolean {
  const code = fromClient ? buf[at + HEADER] : buf[at + HEADER] & 0x7f
  if (!FUNCTION_CODES.has(code)) return false
  return (fromClient ? checkRequest(buf, at + HEADER, end) : checkResponse(buf, at + HEADER, end)) === 0
}

/** @returns the first place in [start, end) of one segment, not at its start, that is believed; `end`: none */
export function findBoundary(buf: Uint8Array, start: number, end: number, fromClient: boolean): number {
  for (let at = start; at + HEADER < end; at++) {
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
    if (strict && !keepsSpecification(buf, at, next, fromClient)) return false
    at = next
  }
  return true
}
