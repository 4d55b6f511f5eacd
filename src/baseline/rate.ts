/** How many events fall into one second: a histogram of the seconds that have any. */

/** Up to here every count has a bucket of its own; above it 64 share an octave, each named by its greatest count. */
const EXACT = 128

export class Rate {
  private second = Number.NaN
  private inSecond = 0
  private readonly buckets = new Map<number, number>()

  /** @param second since 1970 */
  count(second: number): void {
    // A packet that is late by a little belongs to the second that is under way.
    if (second === this.second || second === this.second - 1) {
      this.inSecond++
      return
    }
    this.settle()
    this.second = second
    this.inSecond = 1
  }

  private settle(): void {
    if (this.inSecond === 0) return
    const bucket = bucketOf(this.inSecond)
    this.buckets.set(bucket, (this.buckets.get(bucket) ?? 0) + 1)
    this.inSecond = 0
  }

  /** Pairs of events in a second, and how many seconds had as many; ascending. */
  histogram(): [number, number][] {
    this.settle()
    this.second = Number.NaN
    return [...this.buckets].sort((a, b) => a[0] - b[0])
  }
}

function bucketOf(count: number): number {
  if (count < EXACT) return count
  const step = 2 ** (Math.floor(Math.log2(count)) - 6)
  return Math.ceil(count / step) * step
}

export interface RateFigures {
  p50: number
  p99: number
  max: number
}

/** @param histogram ascending, not empty for figures other than 0 */
export function figuresOf(histogram: readonly (readonly [number, number])[]): RateFigures {
  const seconds = histogram.reduce((sum, [, n]) => sum + n, 0)
  const at = (share: number): number => {
    let left = Math.ceil(seconds * share)
    for (const [count, n] of histogram) {
      left -= n
      if (left <= 0) return count
    }
    return 0
  }
  return { p50: at(0.5), p99: at(0.99), max: histogram.at(-1)?.[0] ?? 0 }
}

export function mergeHistograms(
  a: readonly (readonly [number, number])[],
  b: readonly (readonly [number, number])[],
): [number, number][] {
  const sum = new Map<number, number>()
  for (const [count, seconds] of [...a, ...b]) sum.set(count, (sum.get(count) ?? 0) + seconds)
  return [...sum].sort((x, y) => x[0] - y[0])
}
