/** A probe: what is tried, what the document says must come of it, and how it is tried. */
import type { ProbeGroup, ProbeResult } from '../result.ts'

export interface Probe {
  id: string
  group: ProbeGroup
  conduit: string | null
  /** Asset and address, for a person. */
  target: string
  what: string
  expected: string
  /** It shares a connection with those before it: one after the other. Absent: it stands alone. */
  shares?: true
  run(): Promise<Observed>
}

export type Observed = Pick<ProbeResult, 'observed' | 'outcome'>

export const pass = (observed: string): Observed => ({ observed, outcome: 'pass' })
export const fail = (observed: string): Observed => ({ observed, outcome: 'fail' })
export const skip = (observed: string): Observed => ({ observed, outcome: 'skip' })

/** What cannot be tried at all: told, so that nobody takes it for tested. */
export const untried = (probe: Omit<Probe, 'run'>, why: string): Probe => ({ ...probe, run: async () => skip(why) })
