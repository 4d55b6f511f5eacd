/** From a request on the control socket to what is done: every act is an event with who and why, and so is every refusal. */
import type { EventInput } from '../../records/catalogue.ts'
import { Refused, said } from '../rollout/host.ts'
import type { Rollout } from '../rollout/rollout.ts'
import type { Answer, Request } from './protocol.ts'
import type { Asker } from './server.ts'

/** The gateway as the control socket sees it. */
export interface Controlled {
  readonly rollout: Rollout | null
  status(): Record<string, unknown>
  /** @returns '' or why the policy in force stays */
  reloadFile(): Promise<string>
  /** One change after another. */
  exclusive<T>(change: () => Promise<T>): Promise<T>
  /** @throws Refused */
  promote(who: Asker, why: string): Promise<Record<string, unknown>>
  record(event: EventInput): void
  /** How much drift was found at the latest look; 0: none. */
  drifted(total: number): void
}

type Result = Record<string, unknown>
type Told = Extract<Request, { verb: 'record' | 'drift' }>
type Act = Exclude<Request, Told | { verb: 'status' }>

export async function carryOut(gateway: Controlled, request: Request, asker: Asker): Promise<Answer> {
  if (request.verb === 'status') return { ok: true, result: gateway.status() }
  if (request.verb === 'record' || request.verb === 'drift') {
    tell(gateway, request, asker)
    return { ok: true, result: {} }
  }
  const conduits = 'conduits' in request ? request.conduits : []
  const act: Partial<EventInput> = {
    verb: request.verb,
    conduit: conduits.length === 0 ? undefined : conduits.join(', '),
    ...said(asker, request.reason),
  }
  try {
    const result = await done(gateway, request, asker)
    const overridden = overriddenBy(result)
    gateway.record({
      event: 'control.accepted',
      ...act,
      ...(overridden === '' ? {} : { forced: 'yes', detail: overridden }),
    })
    return { ok: true, result }
  } catch (error) {
    const refusals = error instanceof Refused ? error.refusals : []
    const { message } = error as Error
    const detail = [message, ...refusals.map((one) => one.found)].join('; ')
    gateway.record({ event: 'control.refused', ...act, detail })
    return { ok: false, error: message, refusals }
  }
}

/** What another program of Headgate's has made or found: it changes nothing, and becomes an event with who told it. */
function tell(gateway: Controlled, request: Told, asker: Asker): void {
  const who = { user: asker.user, user_source: asker.source }
  if (request.verb === 'record') {
    const { kind, file, sha256 } = request
    gateway.record({ event: 'artefact.recorded', kind, file, sha256, ...who })
    return
  }
  const { found, total } = request
  for (const { kind, conduit, detail } of found) gateway.record({ event: 'drift.found', kind, conduit, detail, ...who })
  if (total > found.length) {
    const detail = `${total - found.length} more; "headgate drift" tells all`
    gateway.record({ event: 'drift.found', kind: 'more', count: total - found.length, detail, ...who })
  }
  gateway.drifted(total)
}

/** The checks that --force has overridden, as one line. */
function overriddenBy({ overridden }: Result): string {
  return Array.isArray(overridden) ? overridden.map((one: { found: string }) => one.found).join('; ') : ''
}

async function done(gateway: Controlled, request: Act, who: Asker): Promise<Result> {
  const { rollout } = gateway
  if (rollout === null) throw new Refused('this gateway keeps no state')
  switch (request.verb) {
    case 'reload': {
      const why = await gateway.reloadFile()
      if (why !== '') throw new Refused(`the policy in force stays: ${why}`)
      return { policy: gateway.status().policy }
    }
    case 'promote':
      return gateway.promote(who, request.reason)
    case 'cutover': {
      const { conduits, at, force, reason } = request
      const terms = {
        at: at === undefined ? null : Date.parse(at),
        watchMinutes: request.watch_minutes,
        minBaselineDays: request.min_baseline_days,
        baseline: request.baseline ?? null,
        thresholds: { denials: request.max_denials, timeouts: request.max_timeouts, lost: request.max_lost },
        force,
      }
      return gateway.exclusive(() => rollout.cutover(conduits, terms, who, reason))
    }
    case 'rollback':
      return gateway.exclusive(() => rollout.rollback(request.conduits, who, request.reason))
    case 'cancel':
      return gateway.exclusive(async () => rollout.cancel(request.conduits, who, request.reason))
  }
}
