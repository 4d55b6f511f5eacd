/** Sets of integers as sorted, disjoint, inclusive ranges; neighbours are joined: 0-9 and 10-19 are 0-19. */
import type { Range } from '../policy/model.ts'

/** Adds range after range; the common case, a range that is there already, costs few comparisons and no memory. */
export class RangeSet {
  /** Flat: low, high, low, high … */
  private readonly bounds: number[] = []
  private hint = 0

  /** How many ranges there are. */
  get size(): number {
    return this.bounds.length / 2
  }

  /** How many integers there are in all. */
  get total(): number {
    let sum = 0
    for (let i = 0; i < this.bounds.length; i += 2) sum += this.bounds[i + 1] - this.bounds[i] + 1
    return sum
  }

  /**
   * @param low ≤ `high`
   * @param room whether there may be one more range
   * @returns false where it would have been one too many, and was not added
   */
  add(low: number, high: number, room = true): boolean {
    const { bounds, hint } = this
    if (hint < bounds.length && low >= bounds[hint] && high <= bounds[hint + 1]) return true
    // The first range that ends at low - 1 or later, and the first that begins beyond high + 1.
    const from = this.search(low - 1)
    let to = from
    while (to < bounds.length && bounds[to] <= high + 1) to += 2
    if (to === from) {
      if (!room) return false
      bounds.splice(from, 0, low, high)
    } else {
      if (low < bounds[from]) bounds[from] = low
      bounds[from + 1] = Math.max(high, bounds[to - 1])
      if (to > from + 2) bounds.splice(from + 2, to - from - 2)
    }
    this.hint = from
    return true
  }

  private search(end: number): number {
    const { bounds } = this
    let low = 0
    let high = bounds.length / 2
    while (low < high) {
      const middle = (low + high) >> 1
      if (bounds[2 * middle + 1] < end) low = middle + 1
      else high = middle
    }
    return 2 * low
  }

  toRanges(): [number, number][] {
    return Array.from({ length: this.bounds.length / 2 }, (_, i) => [this.bounds[2 * i], this.bounds[2 * i + 1]])
  }
}

/** @returns the union, with ranges joined where at most `slack` integers lie between them */
export function joinRanges(ranges: readonly Range[], slack = 0): [number, number][] {
  const joined: [number, number][] = []
  for (const [low, high] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = joined.at(-1)
    if (last !== undefined && low <= last[1] + 1 + slack) last[1] = Math.max(last[1], high)
    else joined.push([low, high])
  }
  return joined
}

/** @returns what of `ranges` is in none of `others` */
export function subtractRanges(ranges: readonly Range[], others: readonly Range[]): [number, number][] {
  let left = joinRanges(ranges)
  for (const [low, high] of others) {
    left = left.flatMap(([from, to]): [number, number][] => {
      if (high < from || low > to) return [[from, to]]
      const parts: [number, number][] = [
        [from, low - 1],
        [high + 1, to],
      ]
      return parts.filter(([first, last]) => first <= last)
    })
  }
  return left
}

export const rangeText = ([low, high]: Range): string => (low === high ? `${low}` : `${low}-${high}`)
