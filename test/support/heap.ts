/** How much the heap grows. */

/**
 * The least that `round` has made the heap grow by, in bytes, of five times: others may allocate meanwhile, and a
 * collection may come between.
 */
export function leastGrown(round: () => void): number {
  let least = Number.POSITIVE_INFINITY
  for (let i = 0; i < 5; i++) {
    const before = process.memoryUsage().heapUsed
    round()
    const grown = process.memoryUsage().heapUsed - before
    if (grown >= 0) least = Math.min(least, grown)
  }
  return least
}
