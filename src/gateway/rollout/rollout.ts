/**
 * Conduits on their way from monitor to enforce, and back: cut-overs at once or at a time, the watch over each, the
 * roll-back, and what of it outlives a restart. Knows no worker and no socket: its host puts modes into force.
 *
 * Every change is written before it is made, so that a gateway that is killed in between comes back with what was
 * decided. A cut-over that cannot be written is not made. A roll-back is made all the same: it must not depend on a disk.
 */
import { performance } from 'node:perf_hooks'
import type { Modes } from '../../policy/load.ts'
import type { Finding, Mode, Policy } from '../../policy/model.ts'
import type { EventInput } from '../../records/catalogue.ts'
import { type BaselineView, checks } from './checks.ts'
import { Ledger } from './ledger.ts'
import { type Override, type Planned, type RolloutState, StateFile, type Thresholds, type Who } from './state.ts'
import { AHEAD_MS, LATE_MS, type Refusal } from './terms.ts'
import { WatchCounts } from './watch.ts'

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

type Terms = Pick<CutoverTerms, 'minBaselineDays' | 'baseline'>

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
const CLOCKS: Clocks = { steady: () => performance.now(), wall: () => Date.now() }

/** How often what is only a matter of record is written. */
const SAVE_MS = 5000
const RETRY_MS = 5000
/** How often what goes wrong without a cut-over is noted. */
const SAMPLE_MS = 10_000

export class Rollout {
  private readonly file: StateFile
  private readonly ledger: Ledger
  private readonly host: RolloutHost
  private readonly clocks: Clocks
  private state: RolloutState
  private problem: string
  private readonly watching = new Map<string, WatchCounts>()
  /** What went wrong before, by conduit, for those that do not enforce. */
  private readonly before = new Map<string, WatchCounts>()
  /** When a roll-back that could not be made is tried again, by the steady clock. */
  private readonly retry = new Map<string, number>()
  private savedMs = 0
  private sampledMs = Number.NEGATIVE_INFINITY
  private saveFailed = false

  /** Reads what was kept. @param directory of the state */
  constructor(directory: string, host: RolloutHost, clocks: Clocks = CLOCKS) {
    this.file = new StateFile(directory)
    this.ledger = new Ledger(directory)
    this.host = host
    this.clocks = clocks
    const { state, problem } = this.file.read()
    this.state = state
    this.problem = problem
  }

  // ---------------------------------------------------------------------------------------- document against state

  /** Modes that stand in place of a document's own: those that were changed while it said what it says. */
  modesFor(document: Policy): Modes {
    const modes = new Map<string, Mode>()
    for (const { id, mode } of document.conduits) {
      const kept = this.state.overrides[id]
      if (kept !== undefined && kept.documentMode === mode) modes.set(id, kept.mode)
    }
    return modes
  }

  /** The gateway starts: says what it has kept, and goes on with what was under way. */
  start(): void {
    if (this.problem !== '') {
      this.host.record({ event: 'state.unreadable', file: this.file.path, detail: this.problem })
    }
    this.settle(true)
    for (const [conduit, watch] of Object.entries(this.state.watches)) {
      // Not longer than it was to take, wherever the clock stands by now.
      const left = Math.min(Date.parse(watch.until) - this.clocks.wall(), watch.minutes * 60_000)
      this.watching.set(conduit, this.counting(conduit, left, watch.counts))
    }
  }

  /** Another document is in force: what of the state no longer fits it goes. */
  reloaded(): void {
    this.settle(false)
  }

  private settle(starting: boolean): void {
    const next = structuredClone(this.state)
    const events: EventInput[] = []
    const modes = this.host.modes()
    const written = new Map(this.host.document().conduits.map((conduit) => [conduit.id, conduit.mode]))
    for (const [conduit, kept] of Object.entries(next.overrides)) {
      const document = written.get(conduit)
      if (document === kept.documentMode) {
        if (!starting || document === kept.mode) continue
        const detail = `the document says ${document}; ${kept.mode} since ${kept.since}, by ${CAUSES[kept.cause]}, stays until it is changed there or by a command`
        events.push({
          event: 'mode.restored',
          conduit,
          mode: kept.mode,
          document_mode: document,
          cause: kept.cause,
          ...said(kept.who, kept.why),
          detail,
        })
        continue
      }
      delete next.overrides[conduit]
      delete next.latest[conduit]
      const detail =
        document === undefined
          ? `the document no longer has it; ${kept.mode} by ${CAUSES[kept.cause]} is forgotten`
          : `the document now says ${document}, where it said ${kept.documentMode}: it counts again, and ${kept.mode} by ${CAUSES[kept.cause]} is forgotten`
      events.push({ event: 'mode.superseded', conduit, mode: document, document_mode: document, detail })
    }
    for (const [conduit, plan] of Object.entries(next.planned)) {
      const mode = modes.get(conduit)
      if (mode === 'monitor') continue
      delete next.planned[conduit]
      const detail =
        mode === undefined ? 'the document no longer has the conduit' : 'the document has it enforce already'
      events.push({ event: 'cutover.cancelled', conduit, at: plan.at, detail })
    }
    for (const conduit of Object.keys(next.watches)) {
      if (modes.get(conduit) === 'enforce') continue
      delete next.watches[conduit]
      this.watching.delete(conduit)
    }
    if (JSON.stringify(next) !== JSON.stringify(this.state)) {
      this.state = next
      this.save()
    }
    for (const event of events) this.host.record(event)
  }

  /** A promotion keeps the modes in force, whatever the candidate says. @returns what takes it back. @throws Refused */
  keepModes(candidate: Policy, who: Who, why: string): () => void {
    const former = this.state
    const next = structuredClone(this.state)
    const modes = this.host.modes()
    for (const { id, mode } of candidate.conduits) {
      const present = modes.get(id)
      delete next.overrides[id]
      if (present === undefined || present === mode) continue
      const kept: Override = { mode: present, documentMode: mode, since: this.now(), cause: 'promotion', who, why }
      next.overrides[id] = kept
      next.latest[id] = kept
    }
    this.write(next)
    return () => {
      this.state = former
      this.save()
    }
  }

  // ---------------------------------------------------------------------------------------------------------- acts

  /** @throws Refused */
  async cutover(
    conduits: readonly string[],
    terms: CutoverTerms,
    who: Who,
    why: string,
  ): Promise<Record<string, unknown>> {
    this.known(conduits)
    const now = this.clocks.wall()
    for (const conduit of conduits) {
      if (this.host.modes().get(conduit) === 'enforce') throw new Refused(`${conduit} enforces already`)
      const plan = this.state.planned[conduit]
      if (plan !== undefined) {
        throw new Refused(
          `${conduit} has a cut-over planned for ${plan.at}, by ${plan.who.user}: "headgate cancel ${conduit}" first`,
        )
      }
    }
    if (terms.at !== null && terms.at <= now) {
      throw new Refused(`${new Date(terms.at).toISOString()} is past: it is ${new Date(now).toISOString()}`)
    }
    if (terms.at !== null && terms.at - now > AHEAD_MS) {
      throw new Refused(`${new Date(terms.at).toISOString()} is more than a year ahead`)
    }
    const overridden = this.check(conduits, terms)
    if (terms.at === null) {
      await this.enforce(conduits, () => ({ ...terms, who, why }))
      return { conduits, overridden }
    }
    const at = new Date(terms.at).toISOString()
    const { watchMinutes, minBaselineDays, baseline, thresholds, force } = terms
    const next = structuredClone(this.state)
    const plan: Planned = {
      at,
      asked: this.now(),
      watchMinutes,
      minBaselineDays,
      baseline,
      thresholds,
      force,
      who,
      why,
    }
    for (const conduit of conduits) next.planned[conduit] = plan
    this.write(next)
    for (const conduit of conduits) {
      this.host.record({ event: 'cutover.scheduled', conduit, at, ...said(who, why), ...forcedBy(terms.force) })
    }
    return { conduits, at, overridden }
  }

  /** @throws Refused @returns the checks that were overridden */
  private check(conduits: readonly string[], terms: Terms & { force: boolean }): Refusal[] {
    const refusals = conduits.flatMap((conduit) => this.refusals(conduit, terms))
    const errors = this.errors(conduits)
    if (errors.length > 0 || (refusals.length > 0 && !terms.force)) {
      const all = [...errors, ...refusals]
      throw new Refused(
        `${all.length} thing${all.length === 1 ? '' : 's'} stand${all.length === 1 ? 's' : ''} against it`,
        all,
      )
    }
    return refusals
  }

  private refusals(conduit: string, { minBaselineDays, baseline }: Terms): Refusal[] {
    return checks(
      this.host.document(),
      conduit,
      minBaselineDays,
      this.host.baseline(conduit, baseline),
      this.ledger,
      this.clocks.wall(),
    )
  }

  /** What is only a warning while a conduit monitors may be an error to enforce; nothing overrides that. */
  private errors(conduits: readonly string[]): Refusal[] {
    const modes = new Map(this.host.modes())
    for (const conduit of conduits) modes.set(conduit, 'enforce')
    const mend = 'mend the document, and "headgate reload"'
    return this.host.errorsWith(modes).map(({ file, line, column, message }) => ({
      conduit: conduits.join(', '),
      check: 'policy',
      found: `${file}:${line}:${column}: ${message}`,
      mend,
    }))
  }

  private async enforce(
    conduits: readonly string[],
    termsOf: (conduit: string) => Omit<CutoverTerms, 'at'> & { who: Who; why: string },
  ): Promise<void> {
    const former = this.state
    const next = structuredClone(former)
    const modes = new Map(this.host.modes())
    const now = this.clocks.wall()
    for (const conduit of conduits) {
      const { watchMinutes, thresholds, baseline, who, why } = termsOf(conduit)
      delete next.planned[conduit]
      this.override(next, conduit, 'enforce', 'cutover', who, why)
      modes.set(conduit, 'enforce')
      if (watchMinutes <= 0) continue
      const until = new Date(now + watchMinutes * 60_000).toISOString()
      const counts = { denials: 0, timeouts: 0, lost: 0 }
      next.watches[conduit] = {
        since: this.now(),
        until,
        minutes: watchMinutes,
        thresholds,
        counts,
        baseline,
        who,
        why,
      }
    }
    this.write(next)
    for (const conduit of conduits) {
      const watch = next.watches[conduit]
      if (watch !== undefined) this.watching.set(conduit, this.counting(conduit, watch.minutes * 60_000, watch.counts))
    }
    try {
      await this.host.apply(modes, (conduit) => {
        const { who, why, force } = termsOf(conduit)
        return { cause: 'cutover', ...said(who, why), until: next.watches[conduit]?.until, ...forcedBy(force) }
      })
    } catch (error) {
      for (const conduit of conduits) this.watching.delete(conduit)
      this.state = former
      this.save()
      throw new Refused(`the mode could not be changed: ${(error as Error).message}`)
    }
  }

  /** @throws Refused */
  async rollback(conduits: readonly string[], who: Who, why: string): Promise<Record<string, unknown>> {
    this.known(conduits)
    for (const conduit of conduits) {
      if (this.host.modes().get(conduit) === 'enforce') continue
      const planned =
        this.state.planned[conduit] === undefined ? '' : `; "headgate cancel ${conduit}" cancels what is planned`
      throw new Refused(`${conduit} monitors already${planned}`)
    }
    await this.monitor(conduits, 'rollback', who, why)
    return { conduits }
  }

  private async monitor(
    conduits: readonly string[],
    cause: 'rollback' | 'automatic-rollback',
    who: Who,
    why: string,
  ): Promise<void> {
    const next = structuredClone(this.state)
    const modes = new Map(this.host.modes())
    for (const conduit of conduits) {
      this.override(next, conduit, 'monitor', cause, who, why)
      delete next.watches[conduit]
      modes.set(conduit, 'monitor')
    }
    const former = this.state
    this.state = next
    this.save()
    try {
      await this.host.apply(modes, () => ({ cause, ...said(who, why) }))
    } catch (error) {
      this.state = former
      this.save()
      throw new Refused(`the mode could not be changed: ${(error as Error).message}`)
    }
    for (const conduit of conduits) {
      this.watching.delete(conduit)
      this.host.rolledBack(conduit, cause)
    }
  }

  private override(
    state: RolloutState,
    conduit: string,
    mode: Mode,
    cause: 'cutover' | 'rollback' | 'automatic-rollback',
    who: Who,
    why: string,
  ): void {
    const documentMode = this.host.document().conduits.find((one) => one.id === conduit)?.mode ?? 'monitor'
    const change: Override = { mode, documentMode, since: this.now(), cause, who, why }
    state.latest[conduit] = change
    if (documentMode === mode) delete state.overrides[conduit]
    else state.overrides[conduit] = change
  }

  /** @throws Refused */
  cancel(conduits: readonly string[], who: Who, why: string): Record<string, unknown> {
    this.known(conduits)
    const next = structuredClone(this.state)
    for (const conduit of conduits) {
      if (next.planned[conduit] === undefined) throw new Refused(`${conduit} has no cut-over planned`)
      delete next.planned[conduit]
    }
    const former = this.state.planned
    this.write(next)
    for (const conduit of conduits) {
      this.host.record({ event: 'cutover.cancelled', conduit, at: former[conduit].at, ...said(who, why) })
    }
    return { conduits }
  }

  private known(conduits: readonly string[]): void {
    const modes = this.host.modes()
    for (const conduit of conduits) {
      if (!modes.has(conduit)) throw new Refused(`no conduit ${conduit}; there are: ${[...modes.keys()].join(', ')}`)
    }
    if (new Set(conduits).size !== conduits.length) throw new Refused('a conduit is named twice')
  }

  // ------------------------------------------------------------------------------------------------------ in the run

  /** Takes the events of the workers. */
  hear(event: EventInput): void {
    this.ledger.hear(event, this.clocks.wall(), this.host.document().sha256)
  }

  /** What is due: planned cut-overs, watches, and what is to be written. Every half second or so. */
  async tick(): Promise<void> {
    await this.due()
    for (const conduit of [...this.watching.keys()]) await this.look(conduit)
    this.sample()
    const now = this.clocks.steady()
    if (now - this.savedMs < SAVE_MS) return
    this.savedMs = now
    this.keepCounts()
    this.saveLedger()
  }

  private async due(): Promise<void> {
    const now = this.clocks.wall()
    const due = Object.entries(this.state.planned).filter(([, plan]) => Date.parse(plan.at) <= now)
    if (due.length === 0) return
    const ready: string[] = []
    for (const [conduit, plan] of due) {
      const why = this.against(conduit, plan, now)
      if (why === '') ready.push(conduit)
      else this.fail(conduit, plan, why)
    }
    if (ready.length === 0) return
    const plans = this.state.planned
    try {
      await this.enforce(ready, (conduit) => plans[conduit])
    } catch (error) {
      for (const conduit of ready) this.fail(conduit, plans[conduit], (error as Error).message)
    }
  }

  /** Why a cut-over that is due is not made; '' where nothing speaks against it. */
  private against(conduit: string, plan: Planned, now: number): string {
    const late = now - Date.parse(plan.at)
    if (late > LATE_MS) {
      return `it was due ${Math.round(late / 60_000)} minutes ago, and the gateway was not there or the clock was set; ask again`
    }
    const found = [...this.errors([conduit]), ...(plan.force ? [] : this.refusals(conduit, plan))]
    return found.map((one) => one.found).join('; ')
  }

  private fail(conduit: string, plan: Planned, detail: string): void {
    const next = structuredClone(this.state)
    delete next.planned[conduit]
    this.state = next
    this.save()
    this.host.record({ event: 'cutover.failed', conduit, at: plan.at, detail, ...said(plan.who, plan.why) })
  }

  private counting(conduit: string, leftMs: number, carried: Thresholds): WatchCounts {
    const before = this.before.get(conduit)?.rates(this.clocks.steady(), this.host.counts(conduit))
    return new WatchCounts(this.clocks.steady(), leftMs, this.host.counts(conduit), carried, before)
  }

  private async look(conduit: string): Promise<void> {
    const counting = this.watching.get(conduit)
    const watch = this.state.watches[conduit]
    if (counting === undefined || watch === undefined) return
    const now = this.clocks.steady()
    const counts = counting.counts(now, this.host.counts(conduit))
    const why = tooMuch(counts, watch.thresholds)
    if (why !== '') {
      if (now < (this.retry.get(conduit) ?? 0)) return
      const detail = `${why}; back to monitor`
      try {
        await this.monitor([conduit], 'automatic-rollback', GATEWAY, why)
        this.host.record({ event: 'cutover.rolled_back', conduit, mode: 'monitor', ...counts, detail })
      } catch (error) {
        this.retry.set(conduit, now + RETRY_MS)
        this.host.record({
          event: 'cutover.failed',
          conduit,
          detail: `${why}, yet: ${(error as Error).message}`,
          ...counts,
        })
      }
      return
    }
    if (now < counting.deadline) return
    const next = structuredClone(this.state)
    delete next.watches[conduit]
    this.state = next
    this.watching.delete(conduit)
    this.save()
    this.host.record({ event: 'cutover.kept', conduit, mode: 'enforce', ...counts, ...said(watch.who, watch.why) })
  }

  private sample(): void {
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

  /** Of a watch: how far it is, for a restart, and its end by the clock, which may have been set meanwhile. */
  private keepCounts(): void {
    const now = this.clocks.steady()
    let changed = false
    for (const [conduit, counting] of this.watching) {
      const watch = this.state.watches[conduit]
      if (watch === undefined) continue
      const counts = counting.counts(now, this.host.counts(conduit))
      const until = this.clocks.wall() + counting.deadline - now
      if (Math.abs(until - Date.parse(watch.until)) > 2000) {
        watch.until = new Date(until).toISOString()
        changed = true
      }
      if (JSON.stringify(counts) === JSON.stringify(watch.counts)) continue
      watch.counts = counts
      changed = true
    }
    if (changed) this.save()
  }

  private saveLedger(): void {
    try {
      this.ledger.save(this.clocks.wall())
    } catch (error) {
      this.failedToSave(error as Error)
    }
  }

  /** Conduits whose cut-over is watched, each with the path of its baseline; null: the one that the gateway keeps. */
  get watched(): [conduit: string, baseline: string | null][] {
    return Object.entries(this.state.watches).map(([conduit, { baseline }]) => [conduit, baseline])
  }

  /** What `status` shows. */
  status(): Pick<RolloutState, 'planned' | 'watches' | 'latest'> {
    const now = this.clocks.steady()
    const watches = structuredClone(this.state.watches)
    for (const [conduit, watch] of Object.entries(watches)) {
      const counting = this.watching.get(conduit)
      if (counting !== undefined) watch.counts = counting.counts(now, this.host.counts(conduit))
    }
    return { planned: this.state.planned, latest: this.state.latest, watches }
  }

  stop(): void {
    this.keepCounts()
    this.saveLedger()
  }

  // --------------------------------------------------------------------------------------------------------- writing

  private now(): string {
    return new Date(this.clocks.wall()).toISOString()
  }

  /** @throws Refused where it cannot be written: what would not outlive a restart is not done */
  private write(next: RolloutState): void {
    try {
      this.file.write(next)
      this.state = next
      this.saveFailed = false
    } catch (error) {
      throw new Refused('the state cannot be written, so it would not outlive a restart', [
        {
          conduit: '',
          check: 'state',
          found: `${this.file.path}: ${(error as Error).message}`,
          mend: 'free the disk, or mend the permissions',
        },
      ])
    }
  }

  private save(): void {
    try {
      this.file.write(this.state)
      this.saveFailed = false
    } catch (error) {
      this.failedToSave(error as Error)
    }
  }

  private failedToSave(error: Error): void {
    if (!this.saveFailed) this.host.record({ event: 'state.failed', file: this.file.path, detail: error.message })
    this.saveFailed = true
  }
}

const NOTHING: Thresholds = { denials: 0, timeouts: 0, lost: 0 }
const GATEWAY: Who = { user: 'headgate', source: 'gateway' }

const CAUSES = {
  cutover: 'a cut-over',
  rollback: 'a roll-back',
  'automatic-rollback': 'an automatic roll-back',
  promotion: 'a promotion, which keeps modes',
} as const

export const said = (who: Who, why: string): Pick<EventInput, 'user' | 'user_source' | 'why'> => ({
  user: who.user,
  user_source: who.source,
  why,
})

const forcedBy = (force: boolean): Pick<EventInput, 'forced'> => (force ? { forced: 'yes' } : {})

const WHAT: Record<keyof Thresholds, string> = {
  denials: 'denials of traffic that was normal before',
  timeouts: 'requests that a target left without an answer, or targets not reached',
  lost: 'lost connections of known clients',
}

/** Which thresholds are exceeded; '': none. */
function tooMuch(counts: Thresholds, thresholds: Thresholds): string {
  const keys = ['denials', 'timeouts', 'lost'] as const
  return keys
    .filter((key) => counts[key] > thresholds[key])
    .map((key) => `${counts[key]} ${WHAT[key]}, more than ${thresholds[key]}`)
    .join('; ')
}
