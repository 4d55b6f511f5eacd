/** Traffic of the last days beside the document: what was seen, and no rule allows. */
import { functionText } from '../../baseline/assess.ts'
import { type BaselineFile, type BaselineFlow, requestsOf } from '../../baseline/baseline-file.ts'
import { opcuaRest, opcuaStanding, standing } from '../../baseline/coverage.ts'
import { baselinePath, readBaseline } from '../../baseline/decisions.ts'
import { nodeNames, type OpcUaGrant, serviceGrant } from '../../baseline/opcua-assess.ts'
import { formatAddress, parseAddress } from '../../policy/address.ts'
import type { Policy } from '../../policy/model.ts'
import { SERVICES } from '../../protocols/opcua/services.ts'
import { type Drift, type Look, seen, unseen } from './drift.ts'

const DAY_MS = 86_400_000
const MAX_DRIFTS = 200

/** @param at a baseline file, or the directory that a gateway keeps one in */
export function lookAtBaseline(policy: Policy, at: string, days: number, now: Date): Look {
  let baseline: BaselineFile
  try {
    baseline = readBaseline(at)
  } catch (error) {
    return unseen('baseline', (error as Error).message)
  }
  const since = now.getTime() - days * DAY_MS
  const recent = baseline.flows.filter(({ last }) => Date.parse(last) >= since)
  const services = grantsOf(baseline).filter(
    ({ row, services: [name] }) => Date.parse(row.services[name].last) >= since,
  )
  const strange = [
    ...recent.filter((flow) => standing(policy, flow) === 'open').map((flow) => flowText(policy, flow)),
    ...services.filter((grant) => opcuaStanding(policy, grant) === 'open').map((grant) => serviceText(policy, grant)),
  ]
  const found = strange.slice(0, MAX_DRIFTS).map((detail): Drift => ({ kind: 'baseline', detail }))
  if (strange.length > MAX_DRIFTS) {
    found.push({ kind: 'baseline', detail: `${strange.length - MAX_DRIFTS} more kinds of traffic that no rule allows` })
  }
  return seen(
    'baseline',
    `${recent.length + services.length} kinds of traffic in the last ${days} days of ${baselinePath(at)}`,
    found,
  )
}

const CARRIED: ReadonlySet<string> = new Set(
  SERVICES.filter(({ group }) => group !== 'channel' && group !== 'sessionless').map(({ name }) => name),
)

/** Each service of OPC UA, with its nodes where it changes them. */
function grantsOf({ opcua }: BaselineFile): OpcUaGrant[] {
  return opcua.flatMap((row) =>
    Object.keys(row.services)
      .filter((name) => CARRIED.has(name))
      .map((name) => serviceGrant(row, name)),
  )
}

/** An address, with the name of its asset where it has one. */
function hostText(policy: Policy, text: string): string {
  const address = parseAddress(text)
  const asset = policy.zones.flatMap(({ assets }) => assets).find((one) => one.address.base === address)
  return asset === undefined ? text : `${asset.name} (${formatAddress(asset.address.base)})`
}

function serviceText(policy: Policy, grant: OpcUaGrant): string {
  const { row, services, nodes } = opcuaRest(policy, grant) ?? grant
  const [name] = services
  const of = nodes === null ? '' : ` of ${nodeNames(nodes)}`
  const [from, to] = [row.client, row.target].map((text) => hostText(policy, text))
  const requests = nodes === null ? requestsOf(row, services) : nodes.reduce((sum, one) => sum + one.requests, 0)
  return `found ${name}${of} from ${from} to ${to} port ${row.port}, ${requests} requests, the last at ${row.services[name].last}; expected none that no rule allows`
}

function flowText(
  policy: Policy,
  { client, target, port, unit, function: code, sub, requests, last }: BaselineFlow,
): string {
  const [from, to] = [client, target].map((text) => hostText(policy, text))
  return `found ${functionText(code, sub)} from ${from} to ${to} port ${port} unit ${unit}, ${requests} requests, the last at ${last}; expected none that no rule allows`
}
