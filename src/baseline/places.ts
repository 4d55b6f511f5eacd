/** Assets and zones, proposed from addresses and from who asks whom. */
import { parseAddress } from '../policy/address.ts'
import { functionClass, isWrite } from '../protocols/modbus/function-codes.ts'
import { type BaselineFlow, NO_RATE, requestsOf } from './baseline-file.ts'
import type { OpcUaGrant } from './opcua-assess.ts'

export interface ProposedAsset {
  name: string
  address: string
  role: string
}

export interface ProposedZone {
  id: string
  name: string
  level: string
  /** Blocks that no other zone has hosts in. */
  networks: string[]
  assets: ProposedAsset[]
}

export interface Places {
  zones: ProposedZone[]
  /** By address. */
  assetOf: Map<string, ProposedAsset>
  zoneOf: Map<string, ProposedZone>
  /** Flows between hosts that ask each other, directly or in a circle: no order of zones fits them. */
  circular: BaselineFlow[]
}

const PREFIX: Readonly<Record<string, string>> = {
  plc: 'PLC',
  gateway: 'GW',
  historian: 'HIST',
  hmi: 'HMI',
  'engineering-workstation': 'EWS',
  'opcua-server': 'OPC',
}

/** A client that writes at most this share of its requests, or this often, writes rarely: an engineering workstation. */
const FEW_WRITES = { share: 0.01, number: 10 }

/**
 * @param flows those that rules will allow
 * @param all all of the baseline: what a host tries tells its role, allowed or not
 * @param opcua OPC UA that rules will allow
 */
export function propose(
  modbus: readonly BaselineFlow[],
  all: readonly BaselineFlow[] = modbus,
  opcua: readonly OpcUaGrant[] = [],
): Places {
  const servers = opcua.map(asFlow)
  const flows = [...modbus, ...servers]
  const { tiers, circular } = tiersOf(flows)
  const addresses = [...tiers.keys()].sort(byAddress)
  const numbers = new Map<string, number>()
  const assetOf = new Map<string, ProposedAsset>()
  const targets = new Set(modbus.map((flow) => flow.target))
  const servicing = new Set(servers.map((flow) => flow.target))
  const asks = new Map<string, BaselineFlow[]>()
  for (const flow of [...all, ...servers]) {
    const own = asks.get(flow.client)
    if (own === undefined) asks.set(flow.client, [flow])
    else own.push(flow)
  }
  for (const address of addresses) {
    const own = asks.get(address) ?? []
    const serves = servicing.has(address) && !targets.has(address)
    const role = serves ? 'opcua-server' : roleOf(own, targets.has(address))
    const number = (numbers.get(role) ?? 0) + 1
    numbers.set(role, number)
    assetOf.set(address, { name: `${PREFIX[role]}-${String(number).padStart(2, '0')}`, address, role })
  }
  const zones = new Map<string, ProposedZone>()
  const zoneOf = new Map<string, ProposedZone>()
  const inOrder = [...addresses].sort((a, b) => (tiers.get(a) as number) - (tiers.get(b) as number))
  for (const address of inOrder) {
    const tier = tiers.get(address) as number
    const key = `${tier} ${subnetOf(address)}`
    let zone = zones.get(key)
    if (zone === undefined) {
      const [kind, name, level] = tier === 0 ? ['CONTROL', 'Control', '1-2'] : ['OPERATIONS', 'Operations', '3']
      zone = { id: `Z${zones.size + 1}-${kind}`, name: `${name} ${subnetOf(address)}`, level, networks: [], assets: [] }
      zones.set(key, zone)
    }
    zone.assets.push(assetOf.get(address) as ProposedAsset)
    zoneOf.set(address, zone)
  }
  for (const [key, zone] of zones) {
    const subnet = key.split(' ')[1]
    const shared = [...zones.keys()].some((other) => other !== key && other.split(' ')[1] === subnet)
    if (!shared) zone.networks.push(subnet)
  }
  return { zones: [...zones.values()], assetOf, zoneOf, circular }
}

/** A grant as a flow that tells who asks whom, and whether it writes. */
function asFlow({ row, services }: OpcUaGrant): BaselineFlow {
  const { client, target, port, first, last } = row
  const writes = services.some((name) => name === 'Write' || name === 'Call' || name === 'HistoryUpdate')
  const requests = requestsOf(row, services)
  const none = { responses: 0, exceptions: {}, malformed: 0, deviations: {}, addresses: {}, values: {} }
  const flow = { client, target, port, unit: 0, function: writes ? 6 : 3, sub: null, requests, first, last }
  return { ...flow, rate: NO_RATE, ...none }
}

/** Targets that ask nobody are tier 0; a client is one above the highest of its targets. */
function tiersOf(flows: readonly BaselineFlow[]): { tiers: Map<string, number>; circular: BaselineFlow[] } {
  const asked = new Map<string, Set<string>>()
  for (const { client, target } of flows) {
    const targets = asked.get(client) ?? new Set()
    asked.set(client, targets.add(target))
  }
  const tiers = new Map<string, number>()
  const under = new Set<string>()
  const broken = new Set<string>()
  // Its depth is the length of a chain of hosts that ask one another: bounded, for a hostile capture can have any.
  const visit = (host: string, depth: number): number => {
    const known = tiers.get(host)
    if (known !== undefined) return known
    under.add(host)
    let tier = 0
    for (const target of asked.get(host) ?? []) {
      if (under.has(target) || depth > 100) broken.add(`${host} ${target}`)
      else tier = Math.max(tier, 1 + visit(target, depth + 1))
    }
    under.delete(host)
    tiers.set(host, tier)
    return tier
  }
  for (const { client, target } of flows) {
    visit(client, 0)
    visit(target, 0)
  }
  const circular = flows.filter(({ client, target }) => broken.has(`${client} ${target}`))
  return { tiers, circular }
}

/** @param asks what the host asks of others */
function roleOf(asks: readonly BaselineFlow[], isTarget: boolean): string {
  if (isTarget) return asks.length > 0 ? 'gateway' : 'plc'
  const sum = (some: readonly BaselineFlow[]): number => some.reduce((total, flow) => total + flow.requests, 0)
  const changing = asks.filter((flow) => isWrite(flow.function))
  const writes = sum(changing)
  if (writes === 0) return 'historian'
  const programs = changing.some((flow) => functionClass(flow.function) !== 'public')
  const few = writes <= sum(asks) * FEW_WRITES.share || writes < FEW_WRITES.number
  return programs || few ? 'engineering-workstation' : 'hmi'
}

/** The /24 of an IPv4 address, the /64 of an IPv6 address. */
function subnetOf(address: string): string {
  if (!address.includes(':')) return `${address.split('.').slice(0, 3).join('.')}.0/24`
  const base = ((parseAddress(address) as bigint) >> 64n) & 0xffff_ffff_ffff_ffffn
  const groups = [48n, 32n, 16n, 0n].map((shift) => ((base >> shift) & 0xffffn).toString(16))
  return `${groups.join(':').replace(/(:0)+$/, '')}::/64`
}

export const byAddress = (a: string, b: string): number => {
  const [x, y] = [parseAddress(a) ?? 0n, parseAddress(b) ?? 0n]
  return x < y ? -1 : x > y ? 1 : 0
}
