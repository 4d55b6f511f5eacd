/** What a roll-out asks of its host, is asked for, and says in events; who speaks, and what is not done. */
import { performance } from 'node:perf_hooks'
import type { Modes } from '../../policy/load.ts'
import type { Finding, Policy } from '../../policy/model.ts'
import type { EventInput } from '../../records/catalogue.ts'
import type { BaselineView } from './checks.ts'
import type { Thresholds, Who } from './state.ts'
import type { Refusal } from './terms.ts'

/** What a cut-over is asked for with. */
export interface CutoverTerms {
  /** Milliseconds since the epoch; null: at once. */
  at: number | null
  watchMinutes: number
  minBaselineDays: number
  /** Path of the baseline; null: the one that the gateway keeps. */
  baseline: string | null
  thresholds: Thresholds
  force: boolean
}

/** What was asked for is not done. */
export class Refused extends Error {
  readonly refusals: readonly Refusal[]
  constructor(message: string, refusals: readonly Refusal[] = []) {
    super(message)
    this.refusals = refusals
  }
}

export interface RolloutHost {
  record(event: EventInput): void
  /** The document in force, with its own modes. */
  document(): Policy
  /** The mode in force of each conduit. */
  modes(): Modes
  /** Errors that the document would have with these modes. */
  errorsWith(modes: Modes): Finding[]
  /** Puts these modes into force, between two frames. Rejects where it cannot; then nothing has changed. */
  apply(modes: Modes, because: (conduit: string) => Partial<EventInput>): Promise<void>
  /** What has gone wrong on a conduit since the gateway's start. */
  counts(conduit: string): Thresholds
  /** @param at path of the baseline; null: the one that the gateway keeps */
  baseline(conduit: string, at: string | null): BaselineView
  rolledBack(conduit: string, cause: 'rollback' | 'automatic-rollback'): void
}

/** Time that nobody sets, and time that anybody can. In milliseconds. */
export interface Clocks {
  steady(): number
  wall(): number
}
export const CLOCKS: Clocks = { steady: () => performance.now(), wall: () => Date.now() }

export const GATEWAY: Who = { user: 'headgate', source: 'gateway' }

export const said = (who: Who, why: string): Pick<EventInput, 'user' | 'user_source' | 'why'> => ({
  user: who.user,
  user_source: who.source,
  why,
})

export const forcedBy = (force: boolean): Pick<EventInput, 'forced'> => (force ? { forced: 'yes' } : {})
