/**
 * Conduits on their way from monitor to enforce, and back: cut-overs at once or at a time, the watch over each, the
 * roll-back, and what of it outlives a restart. Knows no worker and no socket: its host puts modes into force.
 *
 * Every change is written before it is made, so that a gateway that is killed in between comes back with what was
 * decided. A cut-over that cannot be written is not made. A roll-back is made all the same: it must not depend on a disk.
 */
import type { Modes } from '../../policy/load.ts'
import type { Mode, Policy } from '../../policy/model.ts'
import type { EventInput } from '../../records/catalogue.ts'
import { settle } from './against-document.ts'
import { checks } from './checks.ts'
import { CLOCKS, type Clocks, type CutoverTerms, forcedBy, GATEWAY, Refused, type RolloutHost, said } from './host.ts'
import { StateKeeper } from './keeper.ts'
import { Ledger } from './ledger.ts'
import type { Override, Planned, RolloutState, Who } from './state.ts'
import { AHEAD_MS, LATE_MS, type Refusal } from './terms.ts'
import { tooMuch, Watches } from './watches.ts'

type Terms = Pick<CutoverTerms, 'minBaselineDays' | 'baseline'>

/** How often what is only a matter of record is written. */
const SAVE_MS = 5000
const RETRY_MS = 5000

export class Rollout {
  private readonly keeper: StateKeeper
  private readonly ledger: Ledger
  /** Milliseconds since the epoch; workers go by a document before it counts as in force. */
  private inForceSince = Number.NEGATIVE_INFINITY
  private readonly watches: Watches
  private readonly host: RolloutHost
  private readonly clocks: Clocks
  /** When a roll-back that could not be made is tried again, by the steady clock. */
  private readonly retry = new Map<string, number>()
  private savedMs = 0

  /** Reads what was kept. @param directory of the state */
  constructor(directory: string, host: RolloutHost, clocks: Clocks = CLOCKS) {
    this.keeper = new StateKeeper(directory, (event) => host.record(event))
    this.ledger = new Ledger(directory)
    this.watches = new Watches(host, clocks)
    this.host = host
    this.clocks = clocks
  }

  private get state(): RolloutState {
    return this.keeper.state
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
    const { problem, path } = this.keeper
    if (problem !== '') this.host.record({ event: 'state.unreadable', file: path, detail: problem })
    this.settle(true)
    for (const [conduit, watch] of Object.entries(this.state.watches)) {
      // Not longer than it was to take, wherever the clock stands by now.
      const left = Math.min(Date.parse(watch.until) - this.clocks.wall(), watch.minutes * 60_000)
      this.watches.begin(conduit, left, watch.counts)
    }
  }

  /** Another document is in force: what of the state no longer fits it goes. */
  reloaded(): void {
    this.inForceSince = this.clocks.wall()
    this.settle(false)
  }

  private settle(starting: boolean): void {
    const { state, events, unwatched } = settle(this.state, this.host.document(), this.host.modes(), starting)
    for (const conduit of unwatched) this.watches.end(conduit)
    if (JSON.stringify(state) !== JSON.stringify(this.state)) this.keeper.keep(state)
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
    this.keeper.write(next)
    return () => this.keeper.keep(former)
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
    this.keeper.write(next)
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
    this.keeper.write(next)
    for (const conduit of conduits) {
      const watch = next.watches[conduit]
      if (watch !== undefined) this.watches.begin(conduit, watch.minutes * 60_000, watch.counts)
    }
    try {
      await this.host.apply(modes, (conduit) => {
        const { who, why, force } = termsOf(conduit)
        return { cause: 'cutover', ...said(who, why), until: next.watches[conduit]?.until, ...forcedBy(force) }
      })
    } catch (error) {
      for (const conduit of conduits) this.watches.end(conduit)
      this.keeper.keep(former)
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
    this.keeper.keep(next)
    try {
      await this.host.apply(modes, () => ({ cause, ...said(who, why) }))
    } catch (error) {
      this.keeper.keep(former)
      throw new Refused(`the mode could not be changed: ${(error as Error).message}`)
    }
    for (const conduit of conduits) {
      this.watches.end(conduit)
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
    this.keeper.write(next)
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
    this.ledger.hear(event, this.clocks.wall(), this.host.document().sha256, this.inForceSince)
  }

  /** What is due: planned cut-overs, watches, and what is to be written. Every half second or so. */
  async tick(): Promise<void> {
    await this.due()
    for (const conduit of this.watches.conduits) await this.look(conduit)
    this.watches.sample()
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
    this.keeper.keep(next)
    this.host.record({ event: 'cutover.failed', conduit, at: plan.at, detail, ...said(plan.who, plan.why) })
  }

  private async look(conduit: string): Promise<void> {
    const counts = this.watches.counts(conduit)
    const watch = this.state.watches[conduit]
    if (counts === null || watch === undefined) return
    const now = this.clocks.steady()
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
    if (!this.watches.isOver(conduit)) return
    const next = structuredClone(this.state)
    delete next.watches[conduit]
    this.watches.end(conduit)
    this.keeper.keep(next)
    this.host.record({ event: 'cutover.kept', conduit, mode: 'enforce', ...counts, ...said(watch.who, watch.why) })
  }

  private keepCounts(): void {
    if (this.watches.note(this.state)) this.keeper.keep(this.state)
  }

  private saveLedger(): void {
    this.keeper.attempt(() => this.ledger.save(this.clocks.wall()))
  }

  /** Conduits whose cut-over is watched, each with the path of its baseline; null: the one that the gateway keeps. */
  get watched(): [conduit: string, baseline: string | null][] {
    return Object.entries(this.state.watches).map(([conduit, { baseline }]) => [conduit, baseline])
  }

  /** What `status` shows. */
  status(): Pick<RolloutState, 'planned' | 'watches' | 'latest'> {
    const watches = structuredClone(this.state.watches)
    for (const [conduit, watch] of Object.entries(watches)) watch.counts = this.watches.counts(conduit) ?? watch.counts
    return { planned: this.state.planned, latest: this.state.latest, watches }
  }

  stop(): void {
    this.keepCounts()
    this.saveLedger()
  }

  private now(): string {
    return new Date(this.clocks.wall()).toISOString()
  }
}
