/** What goes wrong on conduits: on those that were cut over, beyond their past; on the others, as the past to come. */
import type { Clocks, RolloutHost } from './host.ts'
import type { RolloutState, Thresholds } from './state.ts'
import { WatchCounts } from './watch.ts'

/** How often what goes wrong without a cut-over is noted. */
const SAMPLE_MS = 10_000
/** How far a watch's end may be off by the clock before it is written anew. */
const DRIFT_MS = 2000

const NOTHING: Thresholds = { denials: 0, timeouts: 0, lost: 0 }

export class Watches {
  private readonly host: Pick<RolloutHost, 'counts' | 'modes'>
  private readonly clocks: Clocks
  private readonly watching = new Map<string, WatchCounts>()
  /** What went wrong before, by conduit, for those that do not enforce. */
  private readonly before = new Map<string, WatchCounts>()
  private sampledMs = Number.NEGATIVE_INFINITY

  constructor(host: Pick<RolloutHost, 'counts' | 'modes'>, clocks: Clocks) {
    this.host = host
    this.clocks = clocks
  }

  /** @param carried what the watch had counted before a restart */
  begin(conduit: string, leftMs: number, carried: Thresholds): void {
    const now = this.clocks.steady()
    const counted = this.host.counts(conduit)
    const before = this.before.get(conduit)?.rates(now, counted)
    this.watching.set(conduit, new WatchCounts(now, leftMs, counted, carried, before))
  }

  end(conduit: string): void {
    this.watching.delete(conduit)
  }

  get conduits(): string[] {
    return [...this.watching.keys()]
  }

  /** What has gone wrong so far; null: the conduit is not watched. */
  counts(conduit: string): Thresholds | null {
    return this.watching.get(conduit)?.counts(this.clocks.steady(), this.host.counts(conduit)) ?? null
  }

  isOver(conduit: string): boolean {
    return this.clocks.steady() >= (this.watching.get(conduit)?.deadline ?? 0)
  }

  /** Notes what goes wrong on conduits that do not enforce. */
  sample(): void {
    const now = this.clocks.steady()
    if (now - this.sampledMs < SAMPLE_MS) return
    this.sampledMs = now
    for (const [conduit, mode] of this.host.modes()) {
      if (mode === 'enforce') continue
      const counts = this.host.counts(conduit)
      const known = this.before.get(conduit)
      if (known === undefined) this.before.set(conduit, new WatchCounts(now, 0, counts, NOTHING))
      else known.sample(now, counts)
    }
  }

  /**
   * Notes in the state how far each watch is, for a restart, and its end by the clock, which may have been set meanwhile.
   * @returns whether anything has changed
   */
  note(state: RolloutState): boolean {
    const now = this.clocks.steady()
    let changed = false
    for (const [conduit, counting] of this.watching) {
      const watch = state.watches[conduit]
      if (watch === undefined) continue
      const counts = counting.counts(now, this.host.counts(conduit))
      const until = this.clocks.wall() + counting.deadline - now
      if (Math.abs(until - Date.parse(watch.until)) > DRIFT_MS) {
        watch.until = new Date(until).toISOString()
        changed = true
      }
      if (JSON.stringify(counts) === JSON.stringify(watch.counts)) continue
      watch.counts = counts
      changed = true
    }
    return changed
  }
}

const WHAT: Record<keyof Thresholds, string> = {
  denials: 'denials of traffic that was normal before',
  timeouts: 'requests that a target left without an answer, or targets not reached',
  lost: 'lost connections of known clients',
}

/** Which thresholds are exceeded; '': none. */
export function tooMuch(counts: Thresholds, thresholds: Thresholds): string {
  const keys = ['denials', 'timeouts', 'lost'] as const
  return keys
    .filter((key) => counts[key] > thresholds[key])
    .map((key) => `${counts[key]} ${WHAT[key]}, more than ${thresholds[key]}`)
    .join('; ')
}
