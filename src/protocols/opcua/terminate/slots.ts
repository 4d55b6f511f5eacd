/**
 * Requests that the server owes an answer, by a request id of Headgate's own: so many places, each with a number that
 * tells its present request from those before it. Nothing is allocated for a request.
 */

import { doubtMark, doubtOf, TOLD } from '../marks.ts'

/** Requests of one connection that may be outstanding; most wait for Publish. */
export const MAX_OUTSTANDING = 1024
const BITS = 10

/** What is to become of the response. */
export const KIND = {
  /** Passes chunk by chunk. */
  pass: 0,
  /** Must be whole: `Exchanges` has it. */
  exchange: 1,
  endpoints: 2,
  servers: 3,
  create: 4,
  activate: 5,
  closeSession: 6,
  /** Headgate's own requests. */
  ownNamespaces: 7,
  ownClose: 8,
} as const

export class Slots {
  size = 0
  private ids = new Uint32Array(8)
  private clientIds = new Uint32Array(8)
  types = new Uint32Array(8)
  handles = new Uint32Array(8)
  times = new Int32Array(8)
  kinds = new Uint8Array(8)
  private marks = new Uint8Array(8)
  /** What `kinds` need to remember; null for most. */
  readonly notes: unknown[] = []
  private free: number[] = []
  private used = 0
  private generation = 0

  /** @returns the slot; -1 where all are in use */
  take(clientId: number, type: number, handle: number, us: number, kind: number, note: unknown): number {
    const at = this.free.pop() ?? this.extend()
    if (at === -1) return -1
    this.size++
    this.generation = (this.generation + 1) & 0x1fffff
    // 0 would be no id.
    if (this.generation === 0) this.generation = 1
    this.ids[at] = (this.generation << BITS) | at
    this.clientIds[at] = clientId
    this.types[at] = type
    this.handles[at] = handle
    this.times[at] = us
    this.kinds[at] = kind
    this.marks[at] = 0
    this.notes[at] = note
    return at
  }

  private extend(): number {
    if (this.used === MAX_OUTSTANDING) return -1
    if (this.used === this.ids.length) this.grow()
    return this.used++
  }

  private grow(): void {
    const length = this.ids.length * 2
    const larger = <T extends Uint32Array | Int32Array | Uint8Array>(next: T, array: T): T => {
      next.set(array)
      return next
    }
    this.ids = larger(new Uint32Array(length), this.ids)
    this.clientIds = larger(new Uint32Array(length), this.clientIds)
    this.types = larger(new Uint32Array(length), this.types)
    this.handles = larger(new Uint32Array(length), this.handles)
    this.times = larger(new Int32Array(length), this.times)
    this.kinds = larger(new Uint8Array(length), this.kinds)
    this.marks = larger(new Uint8Array(length), this.marks)
  }

  /** The request id that the server is asked by. */
  idOf = (at: number): number => this.ids[at]

  clientIdOf = (at: number): number => this.clientIds[at]

  /** The request would be denied, the item at `index` of it first: how it is answered is to be told. */
  doubt(at: number, index: number): void {
    this.marks[at] |= doubtMark(index)
  }

  /** The index that `doubt` was given; -1: it was not called. */
  doubtAt = (at: number): number => doubtOf(this.marks[at])

  /** The slot of a request id that the server answers; -1: nothing is owed for it. */
  find(id: number): number {
    const at = id & (MAX_OUTSTANDING - 1)
    return at < this.used && this.ids[at] === id && id !== 0 ? at : -1
  }

  /**
   * A request of the client's that has waited for `limit` microseconds and was not told before; told it is, then. -1: none.
   * @param except the type of request that may wait for any time
   */
  overdue(us: number, limit: number, except: number): number {
    for (let at = 0; at < this.used; at++) {
      if (this.ids[at] === 0 || (this.marks[at] & TOLD) !== 0 || ((us - this.times[at]) | 0) < limit) continue
      if (this.types[at] === except || this.kinds[at] >= KIND.ownNamespaces) continue
      this.marks[at] |= TOLD
      return at
    }
    return -1
  }

  give(at: number): void {
    this.size--
    this.ids[at] = 0
    this.notes[at] = null
    this.free.push(at)
  }

  /** Every slot in use. */
  *each(): Generator<number> {
    for (let at = 0; at < this.used; at++) if (this.ids[at] !== 0) yield at
  }
}
