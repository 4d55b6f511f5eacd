/** What was kept, held against the document in force: what no longer fits it goes, and that is said. */
import type { Modes } from '../../policy/load.ts'
import type { Policy } from '../../policy/model.ts'
import type { EventInput } from '../../records/catalogue.ts'
import { said } from './host.ts'
import type { RolloutState } from './state.ts'

const CAUSES = {
  cutover: 'a cut-over',
  rollback: 'a roll-back',
  'automatic-rollback': 'an automatic roll-back',
  promotion: 'a promotion, which keeps modes',
} as const

export interface Settled {
  state: RolloutState
  /** What is to be said, in order. */
  events: EventInput[]
  /** Conduits that are watched no longer. */
  unwatched: string[]
}

/**
 * @param modes in force
 * @param starting the gateway starts: modes that stay in place of the document's are said
 */
export function settle(state: RolloutState, document: Policy, modes: Modes, starting: boolean): Settled {
  const next = structuredClone(state)
  const events: EventInput[] = []
  const unwatched: string[] = []
  const written = new Map(document.conduits.map((conduit) => [conduit.id, conduit.mode]))
  for (const [conduit, kept] of Object.entries(next.overrides)) {
    const mode = written.get(conduit)
    if (mode === kept.documentMode) {
      if (!starting || mode === kept.mode) continue
      const detail = `the document says ${mode}; ${kept.mode} since ${kept.since}, by ${CAUSES[kept.cause]}, stays until it is changed there or by a command`
      events.push({
        event: 'mode.restored',
        conduit,
        mode: kept.mode,
        document_mode: mode,
        cause: kept.cause,
        ...said(kept.who, kept.why),
        detail,
      })
      continue
    }
    delete next.overrides[conduit]
    delete next.latest[conduit]
    const detail =
      mode === undefined
        ? `the document no longer has it; ${kept.mode} by ${CAUSES[kept.cause]} is forgotten`
        : `the document now says ${mode}, where it said ${kept.documentMode}: it counts again, and ${kept.mode} by ${CAUSES[kept.cause]} is forgotten`
    events.push({ event: 'mode.superseded', conduit, mode, document_mode: mode, detail })
  }
  for (const [conduit, plan] of Object.entries(next.planned)) {
    const mode = modes.get(conduit)
    if (mode === 'monitor') continue
    delete next.planned[conduit]
    const detail = mode === undefined ? 'the document no longer has the conduit' : 'the document has it enforce already'
    events.push({ event: 'cutover.cancelled', conduit, at: plan.at, detail })
  }
  for (const conduit of Object.keys(next.watches)) {
    if (modes.get(conduit) === 'enforce') continue
    delete next.watches[conduit]
    unwatched.push(conduit)
  }
  return { state: next, events, unwatched }
}
