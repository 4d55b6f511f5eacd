/**
 * What has gone wrong on one conduit since its cut-over, beyond what went wrong before: a target that has always been slow
 * is no reason to go back.
 */
import type { Thresholds } from './state.ts'

/** What a conduit's past is looked at for, and how often it is noted. In milliseconds. */
const PAST_MS = 3_600_000
const EVERY_MS = 60_000

type Rates = Pick<Thresholds, 'timeouts' | 'lost'>
const NONE: Rates = { timeouts: 0, lost: 0 }

export class WatchCounts {
  /** By the steady clock: when the watch is over. */
  readonly deadline: number
  private readonly begun: number
  private readonly base: Thresholds
  private readonly carried: Thresholds
  /** Expected of each, in a millisecond. */
  private readonly expected: Rates
  private readonly samples: { at: number; counts: Thresholds }[]

  /**
   * @param now of the steady clock
   * @param base what the conduit has counted by now
   * @param carried what this watch had counted before a restart
   * @param expected what goes wrong anyway, in a millisecond
   */
  constructor(now: number, leftMs: number, base: Thresholds, carried: Thresholds, expected: Rates = NONE) {
    this.begun = now
    this.deadline = now + leftMs
    this.base = base
    this.carried = carried
    this.expected = expected
    this.samples = [{ at: now, counts: base }]
  }

  /** @param now of the steady clock @param counted what the conduit has counted by now */
  counts(now: number, counted: Thresholds): Thresholds {
    const beyond = (key: keyof Rates): number =>
      Math.max(0, Math.round(counted[key] - this.base[key] - this.expected[key] * (now - this.begun)))
    return {
      denials: this.carried.denials + counted.denials - this.base.denials,
      timeouts: this.carried.timeouts + beyond('timeouts'),
      lost: this.carried.lost + beyond('lost'),
    }
  }

  /** Notes what was counted by now, for `rates`. */
  sample(now: number, counts: Thresholds): void {
    if (now - (this.samples.at(-1)?.at ?? 0) < EVERY_MS) return
    this.samples.push({ at: now, counts })
    while (this.samples.length > 2 && now - this.samples[1].at > PAST_MS) this.samples.shift()
  }

  /** How much went wrong in a millisecond of the last hour, or of as much of it as is known. */
  rates(now: number, counted: Thresholds): Rates {
    const [oldest] = this.samples
    const ms = Math.max(now - oldest.at, EVERY_MS)
    return {
      timeouts: Math.max(0, counted.timeouts - oldest.counts.timeouts) / ms,
      lost: Math.max(0, counted.lost - oldest.counts.lost) / ms,
    }
  }
}
