/** Rates out of evidence, whose events stand for many requests: as if they came evenly. */
import { figuresOf } from './rate.ts'
import type { Sighting } from './sightings.ts'

export const rateRow = (seconds: [number, number][]) => ({ ...figuresOf(seconds), seconds })

/** Requests a second of one kind: its interval where it keeps one, else its mean. */
export function perSecond(one: Sighting): number {
  const seconds = Math.max(1, (one.last - one.first) / 1000)
  const { regular } = one.intervals
  return Math.max(1, Math.ceil(Math.max(one.count / seconds, regular === null ? 0 : 1000 / Math.max(1, regular.ms))))
}
