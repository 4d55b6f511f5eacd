/** Sets of integers as sorted, disjoint, inclusive ranges; neighbours are joined: 0-9 and 10-19 are 0-19. */
import type { Range } from '../policy/model.ts'

/** Adds range after range; the common case, a range that is there already, costs one comparison. */
export class RangeSet {
  /** Flat: low, high, low, high … */
  private bounds: number[] = []
  private hint = 0

  /** @param low ≤ `high` */
  add(low: number, high: number): void {
    const { bounds, hint } = this
    if (hint < bounds.length && low >= bounds[hint] && high <= bounds[hint + 1]) return
    // The first range that ends at low - 1 or later, and the first that begins beyond high + 1.
    const from = this.search(low - 1)
    let to = from
    while (to < bounds.length && bounds[to] <= high + 1) to += 2
    if (to === from) this.bounds.splice(from, 0, low, high)
    else {
      const merged = [Math.min(low, bounds[from]), Math.max(high, bounds[to - 1])]
      if (to === from + 2) {
        bounds[from] = merged[0]
        bounds[from + 1] = merged[1]
      } else bounds.splice(from, to - from, ...merged)
    }
    this.hint = from
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
