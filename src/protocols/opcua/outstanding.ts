import { doubtMark, doubtOf, TOLD } from './marks.ts'

/**
 * The requests of one secure channel that the server owes an answer, by their request ids. Answers come in any order,
 * and those to Publish late; a handful are outstanding at one time, so that a scan from the newest is the quickest way.
 */
export class Outstanding {
  size = 0
  private ids = new Uint32Array(16)
  private functions = new Uint8Array(16)
  private times = new Int32Array(16)
  private marks = new Uint8Array(16)
  private readonly most: number

  /** @param most requests that are kept; beyond, `add` says no */
  constructor(most: number) {
    this.most = most
  }

  /** @param us microseconds on the worker's clock. @returns false where there is no room, or the id is taken */
  add(id: number, fn: number, us: number): boolean {
    if (this.size >= this.most || this.find(id) !== -1) return false
    if (this.size === this.ids.length) this.grow()
    const at = this.size++
    this.ids[at] = id
    this.functions[at] = fn
    this.times[at] = us
    this.marks[at] = 0
    return true
  }

  private grow(): void {
    const length = this.ids.length * 2
    const [ids, functions, times] = [new Uint32Array(length), new Uint8Array(length), new Int32Array(length)]
    const marks = new Uint8Array(length)
    ids.set(this.ids)
    functions.set(this.functions)
    times.set(this.times)
    marks.set(this.marks)
    this.ids = ids
    this.functions = functions
    this.times = times
    this.marks = marks
  }

  /** Place of a request; -1: it is not outstanding. Holds until the next `remove`. */
  find(id: number): number {
    for (let at = this.size - 1; at >= 0; at--) if (this.ids[at] === id) return at
    return -1
  }

  functionAt = (at: number): number => this.functions[at]
  timeAt = (at: number): number => this.times[at]
  idAt = (at: number): number => this.ids[at]

  /** The newest request would be denied, the item at `index` of it first: how it is answered is to be told. */
  doubtNewest(index: number): void {
    this.marks[this.size - 1] |= doubtMark(index)
  }

  /** The same as `doubtAt(at) !== -1`, for a loop that must load nothing of another file. */
  doubted = (at: number): boolean => this.marks[at] > 1

  /** The index that `doubtNewest` was given; -1: it was not called. */
  doubtAt = (at: number): number => doubtOf(this.marks[at])

  /**
   * A request that has waited for `limit` microseconds and was not told before; told it is, then. -1: none.
   * @param except the function that may wait for any time
   */
  overdue(us: number, limit: number, except: number): number {
    for (let at = 0; at < this.size; at++) {
      if ((this.marks[at] & TOLD) !== 0 || this.functions[at] === except || ((us - this.times[at]) | 0) < limit)
        continue
      this.marks[at] |= TOLD
      return at
    }
    return -1
  }

  remove(at: number): void {
    const last = --this.size
    this.ids[at] = this.ids[last]
    this.functions[at] = this.functions[last]
    this.times[at] = this.times[last]
    this.marks[at] = this.marks[last]
  }

  /** How many are outstanding of other functions than this one. */
  countOthers(fn: number): number {
    let count = 0
    for (let at = 0; at < this.size; at++) if (this.functions[at] !== fn) count++
    return count
  }

  clear(): void {
    this.size = 0
  }
}
