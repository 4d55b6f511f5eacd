/** What speaks against a cut-over: each check with what it found, and what would mend it. */
import type { Policy } from '../../policy/model.ts'
import type { Ledger, WouldDeny } from './ledger.ts'
import { allowedByNow } from './settled.ts'
import type { Refusal } from './terms.ts'

/** What the baseline says of a conduit's traffic. */
export interface BaselineView {
  /** Days from the first to the last of it; null: there is none, and why. */
  days: number | null
  why: string
  /** Items that nobody has decided on yet, as lines for a person. */
  undecided: readonly string[]
}

/** Kinds of would-deny that are named one by one. */
const NAMED = 5

const days = (n: number): string => `${n.toFixed(n < 10 ? 1 : 0)} day${n === 1 ? '' : 's'}`

/**
 * @param policy in force
 * @param minDays 0: no baseline is asked for
 * @param now milliseconds since the epoch
 */
export function checks(
  policy: Policy,
  conduit: string,
  minDays: number,
  baseline: BaselineView,
  ledger: Ledger,
  now: number,
): Refusal[] {
  const refusals: Refusal[] = []
  if (minDays > 0 && baseline.days === null) {
    const mend =
      'with gateway.baseline one is written each half minute: let it monitor for that long; --min-baseline 0 asks for none'
    refusals.push({ conduit, check: 'baseline', found: `${baseline.why}, expected ${days(minDays)}`, mend })
  } else if (baseline.days !== null && baseline.days < minDays) {
    const mend = `let it monitor for ${days(minDays - baseline.days)} more, or ask for less by --min-baseline`
    refusals.push({
      conduit,
      check: 'baseline',
      found: `the baseline spans ${days(baseline.days)}, expected ${days(minDays)}`,
      mend,
    })
  }
  for (const found of baseline.undecided.slice(0, NAMED)) {
    const mend = 'decide on it: a rule that allows it, or one with "action: deny"; "headgate analyze" shows the lines'
    refusals.push({ conduit, check: 'decide', found, mend })
  }
  if (baseline.undecided.length > NAMED) {
    const found = `${baseline.undecided.length - NAMED} more items to decide on`
    refusals.push({ conduit, check: 'decide', found, mend: '"headgate analyze" lists them all' })
  }
  const kinds = ledger.recent(conduit, now).filter((kind) => !allowedByNow(policy, kind))
  for (const kind of kinds.slice(0, NAMED)) {
    const mend =
      'allow it ("headgate analyze" shows the lines) or stop it at its source, and wait until 24 hours were quiet'
    refusals.push({ conduit, check: 'would-deny', found: told(kind), mend })
  }
  if (kinds.length > NAMED || ledger.overflowed(conduit, now)) {
    const more = ledger.overflowed(conduit, now) ? 'more than could be kept' : `${kinds.length - NAMED} more`
    const found = `${more} kinds of would-deny of known assets in the last 24 hours`
    refusals.push({ conduit, check: 'would-deny', found, mend: '"headgate analyze" lists them all' })
  }
  return refusals
}

function told({ client, target, what, reason, count, last }: WouldDeny): string {
  const times = count === 1 ? 'once' : `${count} times`
  const when = new Date(last).toISOString()
  return `${client} would have been denied in the last 24 hours: ${what} of ${target} (${reason}), ${times}, last at ${when}`
}
