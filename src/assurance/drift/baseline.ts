/** Traffic of the last days beside the document: what was seen, and no rule allows. */
import { functionText } from '../../baseline/assess.ts'
import type { BaselineFlow } from '../../baseline/baseline-file.ts'
import { standing } from '../../baseline/coverage.ts'
import { baselinePath, readBaseline } from '../../baseline/decisions.ts'
import { formatAddress, parseAddress } from '../../policy/address.ts'
import type { Policy } from '../../policy/model.ts'
import { type Drift, type Look, seen, unseen } from './drift.ts'

const DAY_MS = 86_400_000
const MAX_DRIFTS = 200

/** @param at a baseline file, or the directory that a gateway keeps one in */
export function lookAtBaseline(policy: Policy, at: string, days: number, now: Date): Look {
  let flows: BaselineFlow[]
  try {
    flows = readBaseline(at).flows
  } catch (error) {
    return unseen('baseline', (error as Error).message)
  }
  const since = now.getTime() - days * DAY_MS
  const recent = flows.filter(({ last }) => Date.parse(last) >= since)
  const strange = recent.filter((flow) => standing(policy, flow) === 'open')
  const found = strange
    .slice(0, MAX_DRIFTS)
    .map((flow): Drift => ({ kind: 'baseline', detail: flowText(policy, flow) }))
  if (strange.length > MAX_DRIFTS) {
    found.push({ kind: 'baseline', detail: `${strange.length - MAX_DRIFTS} more kinds of traffic that no rule allows` })
  }
  return seen('baseline', `${recent.length} kinds of traffic in the last ${days} days of ${baselinePath(at)}`, found)
}

function flowText(
  policy: Policy,
  { client, target, port, unit, function: code, sub, requests, last }: BaselineFlow,
): string {
  const nameOf = (text: string): string => {
    const address = parseAddress(text)
    const asset = policy.zones.flatMap(({ assets }) => assets).find((one) => one.address.base === address)
    return asset === undefined ? text : `${asset.name} (${formatAddress(asset.address.base)})`
  }
  return `found ${functionText(code, sub)} from ${nameOf(client)} to ${nameOf(target)} port ${port} unit ${unit}, ${requests} requests, the last at ${last}; expected none that no rule allows`
}
