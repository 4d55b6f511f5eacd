/** A baseline as the checks of a cut-over look at it. */
import { decideText } from '../../baseline/assess.ts'
import type { BaselineFlow } from '../../baseline/baseline-file.ts'
import { leadsTo, opcuaStanding, placesOf, standing } from '../../baseline/coverage.ts'
import { baselineSpan, readBaseline, unresolvedDecisions } from '../../baseline/decisions.ts'
import { serviceGrant } from '../../baseline/opcua-assess.ts'
import { formatAddress, parseAddress } from '../../policy/address.ts'
import type { Policy } from '../../policy/model.ts'
import { functionOfName } from '../../protocols/opcua/services.ts'
import { flowKey, type NormalTraffic, OPCUA_UNIT } from '../conduit-plan.ts'
import type { BaselineView } from './checks.ts'

const DAY_MS = 86_400_000
/** Flows that are told apart; a baseline of more is a network of its own. */
const MAX_FLOWS = 50_000

type Pair = Pick<BaselineFlow, 'client' | 'target' | 'port'>

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

/**
 * Flows of a conduit that were seen and that the rules allow. What was seen and is not allowed is denied on purpose.
 * @param at a baseline file, or the directory of one; null, or one that cannot be read: nothing is known
 */
export function normalTraffic(policy: Policy, conduit: string, at: string | null): NormalTraffic {
  const clients = new Set<bigint>()
  const flows = new Set<string>()
  try {
    const baseline = at === null ? null : readBaseline(at)
    const note = (row: Pair, unit: number, code: number): void => {
      const [client, target] = [parseAddress(row.client), parseAddress(row.target)]
      if (client === null || target === null || flows.size >= MAX_FLOWS) return
      clients.add(client)
      flows.add(flowKey(client, target, row.port, unit, code))
    }
    const carries = (kind: 'modbus' | 'opcua', row: Pair): boolean =>
      placesOf(policy, kind).some((place) => place.conduit.id === conduit && leadsTo(policy, place, row))
    for (const flow of baseline?.flows ?? []) {
      if (carries('modbus', flow) && standing(policy, flow) === 'allowed') note(flow, flow.unit, flow.function)
    }
    for (const row of baseline?.opcua ?? []) {
      if (!carries('opcua', row)) continue
      for (const name of Object.keys(row.services)) {
        if (opcuaStanding(policy, serviceGrant(row, name)) === 'allowed') note(row, OPCUA_UNIT, functionOfName(name))
      }
    }
  } catch {
    // The checks before the cut-over have said so; known assets count all the same.
  }
  return { clients, flows }
}
