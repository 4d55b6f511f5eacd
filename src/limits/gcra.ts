/**
 * The generic cell rate algorithm (ITU-T I.371 annex A, virtual scheduling form) on 32-bit integers in shared memory,
 * so that a rate means the same with one worker thread and with many.
 *
 * Times are microseconds on the machine's monotonic clock modulo 2^32. Threads read it once a batch, so that one may be
 * behind another. A theoretical arrival time further ahead than the burst and that allow cannot come from this
 * algorithm: it has wrapped while the client was silent, or is of a rate with a greater burst.
 */

/** A rate, as the algorithm wants it. */
export interface Rate {
  /** Emission interval in microseconds, ≥ 1. */
  interval: number
  /** Burst: how far the theoretical arrival time may run ahead, in microseconds. */
  tolerance: number
}

/** Longest run ahead that 32-bit differences tell apart from the past. */
const MAX_AHEAD = 2 ** 30
/** How far one thread's reading of the clock may be behind another's. */
const MAX_LAG = 2 ** 21

/**
 * @param perSecond events a second, > 0
 * @param burst events that may come at once, ≥ 1
 */
export function rateOf(perSecond: number, burst: number): Rate {
  const interval = Math.min(MAX_AHEAD, Math.max(1, Math.round(1e6 / perSecond)))
  return { interval, tolerance: Math.min(MAX_AHEAD, interval * (Math.max(1, burst) - 1)) }
}

/**
 * Counts one event against the rate, if the rate allows it.
 * @param cells shared words; `cells[at]` is the theoretical arrival time
 * @param us the present time in microseconds, as a wrapping signed 32-bit integer
 * @returns whether it is allowed; nothing is counted where it is not
 */
export function conforms(cells: Int32Array, at: number, rate: Rate, us: number): boolean {
  for (;;) {
    const tat = Atomics.load(cells, at)
    let ahead = (tat - us) | 0
    if (ahead < 0 || ahead > rate.tolerance + rate.interval + MAX_LAG) ahead = 0
    if (ahead > rate.tolerance) return false
    if (Atomics.compareExchange(cells, at, tat, (us + ahead + rate.interval) | 0) === tat) return true
  }
}

/** Takes back one event that `conforms` counted. */
export function takeBack(cells: Int32Array, at: number, rate: Rate): void {
  Atomics.sub(cells, at, rate.interval)
}
