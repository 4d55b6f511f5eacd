/** What a cut-over is held to, before and after: defaults, and the words that go over the control socket. */
import type { Thresholds } from './state.ts'

export const CUTOVER_DEFAULTS = {
  watchMinutes: 30,
  minBaselineDays: 14,
  /** What may happen in the time that is watched without a roll-back; one more is too many. */
  thresholds: { denials: 3, timeouts: 10, lost: 3 } satisfies Thresholds,
} as const

/** A planned cut-over that is due later than this (the gateway was down, the clock was set) is not made any more. */
export const LATE_MS = 15 * 60_000

/** How far ahead a cut-over may be planned. */
export const AHEAD_MS = 366 * 86_400_000

/** A check that speaks against a cut-over. */
export interface Refusal {
  conduit: string
  check: 'baseline' | 'decide' | 'would-deny' | 'policy' | 'state'
  /** What was found, and what was expected. */
  found: string
  mend: string
}
