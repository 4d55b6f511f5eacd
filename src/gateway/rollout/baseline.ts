/** A baseline as the checks of a cut-over look at it. */
import { decideText } from '../../baseline/assess.ts'
import { baselineSpan, unresolvedDecisions } from '../../baseline/decisions.ts'
import { formatAddress, parseAddress } from '../../policy/address.ts'
import type { Policy } from '../../policy/model.ts'
import type { BaselineView } from './checks.ts'

const DAY_MS = 86_400_000

/** @param at a baseline file, or the directory of one; null: there is none */
export function baselineView(policy: Policy, conduit: string, at: string | null): BaselineView {
  if (at === null) return { days: null, why: 'no baseline is kept', undecided: [] }
  try {
    const { watched } = baselineSpan(at)
    const names = new Map(
      policy.zones.flatMap((zone) => zone.assets.map((asset) => [formatAddress(asset.address.base), asset.name])),
    )
    const nameOf = (text: string): string => {
      const address = parseAddress(text)
      return (address === null ? undefined : names.get(formatAddress(address))) ?? text
    }
    const open = unresolvedDecisions(policy, at).filter((item) => item.conduits.includes(conduit))
    return { days: watched / DAY_MS, why: '', undecided: open.map((item) => decideText(item, nameOf)) }
  } catch (error) {
    return { days: null, why: (error as Error).message, undecided: [] }
  }
}
