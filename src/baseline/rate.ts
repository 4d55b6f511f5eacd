/** How many events fall into one second: a histogram of the seconds that have any. */

/** Up to here every count has a bucket of its own; above it 64 share an octave, each named by its greatest count. */
const EXACT = 128

/** Counts events by the second that they fall into. */
export abstract class Rate {
  protected second = Number.NaN
  protected inSecond = 0

  /** @param second since 1970 */
  count(second: number): void {
    // A packet that is late by a little belongs to the second that is under way.
    if (second === this.second || second === this.second - 1) {
      this.inSecond++
      return
    }
    if (this.inSecond > 0) this.settle()
    this.second = second
    this.inSecond = 1
  }

  /** The second under way is over, with at least one event in it. */
  protected abstract settle(): void
}

/** Of all seconds: how many had how many events. */
export class Histogram extends Rate {
  private readonly buckets = new Map<number, number>()

  protected settle(): void {
    const bucket = bucketOf(this.inSecond)
    this.buckets.set(bucket, (this.buckets.get(bucket) ?? 0) + 1)
    this.inSecond = 0
  }

  /** Pairs of events in a second, and how many seconds had as many; ascending. Ends the second under way. */
  rows(): [number, number][] {
    if (this.inSecond > 0) this.settle()
    this.second = Number.NaN
    return [...this.buckets].sort((a, b) => a[0] - b[0])
  }
}

/** Seconds that a `Recent` holds between two calls of `take`: those beyond are counted with the last. */
const RECENT = 16

/** The latest seconds, each by itself: other threads have counted events of the same seconds. */
export class Recent extends Rate {
  private readonly seconds = new Float64Array(RECENT)
  private readonly counts = new Uint32Array(RECENT)
  private length = 0

  protected settle(): void {
    if (this.length < RECENT) this.seconds[this.length++] = this.second
    this.counts[this.length - 1] += this.inSecond
    this.inSecond = 0
  }

  /** Pairs of a second since 1970 and its events so far; forgets them. */
  take(): [number, number][] {
    if (this.inSecond > 0) this.settle()
    this.second = Number.NaN
    const taken = Array.from({ length: this.length }, (_, i): [number, number] => [this.seconds[i], this.counts[i]])
    this.length = 0
    this.counts.fill(0)
    return taken
  }
}

/** The bucket of a histogram that a second with so many events is counted in. */
export function bucketOf(count: number): number {
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
