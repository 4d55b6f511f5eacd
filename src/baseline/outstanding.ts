/**
 * Which request a captured response answers, and by what the pair departs from what a strict conduit lets through.
 * The same checks as inline (`checkResponse`, `matchResponse`); nothing is allocated for a message.
 */
import type { Quirk } from '../policy/model.ts'
import { FAULT } from '../protocols/modbus/faults.ts'
import { checkResponse, matchResponse, noteRequest, OWED_WORDS } from '../protocols/modbus/response.ts'

/** The quirks that a rule may tolerate, and what none can. */
export type Deviation = Quirk | 'malformed' | 'mismatched'

/** Index of each in `Deviations`. */
export const DEVIATIONS: readonly Deviation[] = [
  'unit-mismatch',
  'zero-transaction-id',
  'transaction-id-mismatch',
  'vendor-exceptions',
  'trailing-bytes',
  'malformed',
  'mismatched',
]
const [UNIT, ZERO, TRANSACTION, EXCEPTION, TRAILING, MALFORMED, MISMATCHED] = DEVIATIONS.map((_, i) => 1 << i)

/** Requests of one connection that are remembered; a client with more under way is answered in order all the same. */
const RING = 32
const WORDS = 1 + OWED_WORDS

/** The requests of one connection that wait for their responses, each with what the caller keeps of it. */
export class Outstanding<Kept> {
  /** What the latest response was found to be: bits in the order of `DEVIATIONS`. */
  bits = 0
  private readonly words = new Int32Array(RING * WORDS)
  private readonly kept: (Kept | null)[] = new Array(RING).fill(null)
  private head = 0
  private tail = 0

  /** Notes the request `buf[adu…end)`. */
  push(buf: Uint8Array, adu: number, end: number, kept: Kept): void {
    if (this.tail - this.head === RING) this.head++
    const slot = this.tail++ & (RING - 1)
    this.words[slot * WORDS] = keyAt(buf, adu)
    noteRequest(buf, adu + 7, end, this.words, slot * WORDS + 1)
    this.kept[slot] = kept
  }

  /**
   * Finds the request that `buf[adu…end)` answers: by its identifiers, else the oldest of the same function.
   * @returns what was kept of it, with `bits` set; null where it answers none
   */
  take(buf: Uint8Array, adu: number, end: number): Kept | null {
    const key = (keyAt(buf, adu) & ~0xff) | (buf[adu + 7] & 0x7f)
    this.bits = shapeOf(buf, adu, end)
    let found = -1
    for (let n = this.head; n !== this.tail && found === -1; n++) if (this.keyOf(n) === key) found = n
    for (let n = this.head; n !== this.tail && found === -1; n++) if ((this.keyOf(n) & 0xff) === (key & 0xff)) found = n
    if (found === -1) return null
    const slot = found & (RING - 1)
    const asked = this.words[slot * WORDS]
    if (((asked ^ key) & 0xff00) !== 0) this.bits |= UNIT
    if (asked >>> 16 !== key >>> 16) this.bits |= key >>> 16 === 0 ? ZERO : TRANSACTION
    const sound = (this.bits & MALFORMED) === 0
    if (sound && matchResponse(buf, adu + 7, end, this.words, slot * WORDS + 1) !== 0) this.bits |= MISMATCHED
    const kept = this.kept[slot]
    this.remove(found)
    return kept
  }

  private keyOf(n: number): number {
    return this.words[(n & (RING - 1)) * WORDS]
  }

  /** Those before it move up by one: they are few, and mostly none. */
  private remove(n: number): void {
    for (let i = n; i !== this.head; i--) {
      const to = i & (RING - 1)
      const from = (i - 1) & (RING - 1)
      this.words.copyWithin(to * WORDS, from * WORDS, (from + 1) * WORDS)
      this.kept[to] = this.kept[from]
    }
    this.head++
  }
}

/** Transaction identifier, unit identifier, function code. */
const keyAt = (buf: Uint8Array, adu: number): number =>
  (buf[adu] << 24) | (buf[adu + 1] << 16) | (buf[adu + 6] << 8) | buf[adu + 7]

/** What is wrong with the form of a response, whatever it answers. */
function shapeOf(buf: Uint8Array, adu: number, end: number): number {
  if ((buf[adu + 2] | buf[adu + 3]) !== 0) return MALFORMED
  const fault = checkResponse(buf, adu + 7, end)
  if (fault === 0) return 0
  if (fault === FAULT.TRAILING) return TRAILING
  return fault === FAULT.EXCEPTION_CODE ? EXCEPTION : MALFORMED
}
