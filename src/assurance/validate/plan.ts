/**
 * What a host in a zone must be able to reach and what it must not, by the document: each as a probe. Nothing is aimed at
 * that the document does not name: listeners of the gateway, assets, and for a safety zone without assets a few addresses
 * of its networks.
 */
import { blockHolds, formatAddress, parseAddress } from '../../policy/address.ts'
import { parseDirection } from '../../policy/direction.ts'
import type { Asset, Conduit, ConduitProtocol, Listener, Policy, Zone } from '../../policy/model.ts'
import { zoneBlocks } from '../../policy/zones.ts'
import { isSafetyZone } from '../lint/levels.ts'
import { ModbusClient } from './modbus-client.ts'
import { modbusProbes, tableOf } from './modbus-probes.ts'
import { opcuaProbes } from './opcua-probes.ts'
import { fail, type Observed, type Probe, pass, untried } from './probe.ts'
import { localAddressTowards, type Place, REACH_WORDS, type Reach, type ReachOptions, reach } from './reach.ts'

/**
 * Ports that lead to control systems and out of them, tried where the document allows nothing on them: FTP, SSH, Telnet,
 * HTTP, S7, HTTPS, SMB, Modbus, RDP, OPC UA, VNC, DNP3, EtherNet/IP.
 */
export const FORBIDDEN_PORTS = [21, 22, 23, 80, 102, 443, 445, 502, 3389, 4840, 5900, 20_000, 44_818]

export interface PlanOptions {
  from: Zone
  /** Bound, where the operator gave it. */
  source: string | null
  timeoutMs: number
  /** Ports tried beside those that the document has. */
  ports: readonly number[]
  /** Only these assets, listeners or addresses; null: all. */
  targets: readonly string[] | null
  allowWriteBack: boolean
  /** A refusal on a path that must not be there is a failure, as something was reached. */
  refusedFails: boolean
}

/** The validation cannot be made as asked: one line for the operator. */
export class CannotValidate extends Error {}

/** The zone by its id or the part of it before the first dash. */
export function zoneOf(policy: Policy, text: string): Zone {
  const exact = policy.zones.find(({ id }) => id === text)
  const short = policy.zones.filter(({ id }) => id.split('-')[0] === text)
  const zone = exact ?? (short.length === 1 ? short[0] : undefined)
  if (zone !== undefined) return zone
  const ids = policy.zones.map(({ id }) => id).join(', ')
  throw new CannotValidate(`--from ${text}: expected a zone of the document: ${ids}`)
}

const MAPPED = 0xffff_0000_0000n
const hostText = (address: bigint): string => formatAddress(address)
const where = ({ host, port }: Place): string => (host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`)

interface Context {
  policy: Policy
  options: PlanOptions
  reach: ReachOptions
  clients: ModbusClient[]
}

export interface Plan {
  /** In the order of the document. */
  probes: Probe[]
  /** Ends the connections that probes have left open for one another. */
  close(): void
}

/** @throws CannotValidate */
export async function planProbes(policy: Policy, options: PlanOptions): Promise<Plan> {
  const reach = { source: options.source, timeoutMs: options.timeoutMs }
  const context: Context = { policy, options, reach, clients: [] }
  checkTargets(context)
  const probes: Probe[] = []
  for (const listener of policy.gateway?.listeners ?? []) {
    if (wanted(context, listener.target.name, listener.listen.host, listener.target.host)) {
      probes.push(...(await listenerProbes(context, listener)))
    }
  }
  for (const conduit of policy.conduits) probes.push(...otherProtocols(context, conduit))
  for (const zone of policy.zones) if (zone.id !== options.from.id) probes.push(...zoneProbes(context, zone))
  return {
    probes: [...new Map(probes.map((probe) => [probe.id, probe])).values()],
    close: () => {
      for (const client of context.clients) client.close()
    },
  }
}

// -------------------------------------------------------------------------------------------------------- the targets

function checkTargets({ policy, options: { targets } }: Context): void {
  for (const text of targets ?? []) {
    const asset = policy.zones.flatMap(({ assets }) => assets).find(({ name }) => name === text)
    const address = parseAddress(text)
    const named = policy.zones.flatMap(({ assets }) => assets).some((one) => one.address.base === address)
    const listens = (policy.gateway?.listeners ?? []).some(
      ({ listen, target }) =>
        target.name === text ||
        [listen.host, target.host].some((host) => parseAddress(host) === address && address !== null),
    )
    if (asset === undefined && !named && !listens) {
      throw new CannotValidate(
        `--target ${text}: the document names no such asset, listener or address; it is not probed`,
      )
    }
  }
}

const wanted = ({ options: { targets } }: Context, ...names: string[]): boolean =>
  targets === null ||
  targets.some((text) =>
    names.some((name) => name === text || (parseAddress(name) !== null && parseAddress(name) === parseAddress(text))),
  )

/** The address that the other side sees. @throws CannotValidate where it is none of the zone's */
async function sourceTowards({ options }: Context, place: Place): Promise<bigint | null> {
  const text = options.source ?? (await localAddressTowards(place))
  const address = text === null ? null : parseAddress(text.split('%')[0])
  if (address === null) return null
  if (!zoneBlocks(options.from).some((block) => blockHolds(block, address))) {
    throw new CannotValidate(
      `this host reaches ${where(place)} from ${text}, which is no address of zone ${options.from.id}: run it on a host of that zone, or give --source`,
    )
  }
  return address
}

// ------------------------------------------------------------------------------------------------------ the listeners

async function listenerProbes(context: Context, listener: Listener): Promise<Probe[]> {
  const { policy, options } = context
  const { listen, target } = listener
  const conduit = policy.conduits.find(({ id }) => id === listener.conduit)
  const protocol = conduit?.protocols.find(({ kind }) => kind === listener.protocol)
  if (conduit === undefined || protocol === undefined || protocol.kind === 'other') return []
  const asset = policy.zones.flatMap(({ assets }) => assets).find(({ address }) => address.base === target.address.base)
  const label = `${asset?.name ?? target.name} by ${where(listen)}`
  const base = { conduit: conduit.id, target: label.slice(0, 200) }
  const id = (what: string): string => `${conduit.id}:${where(listen)}:${what}`.slice(0, 200)
  if (parseAddress(listen.host) === 0n || parseAddress(listen.host) === MAPPED) {
    const probe = { ...base, id: id('connect'), group: 'allowed' as const, what: 'connect', expected: 'connects' }
    return [
      untried(probe, `the listener is on every address of the gateway (${listen.host}): which one to try is not said`),
    ]
  }
  const source = await sourceTowards(context, listen)
  if (source === null) {
    const probe = { ...base, id: id('connect'), group: 'allowed' as const, what: 'connect', expected: 'connects' }
    return [{ ...probe, run: async () => fail('no way there from this machine') }]
  }
  const touches = conduit.connects.includes(options.from.id)
  const pair = { protocol, listener, source }
  if (!touches || !pairAllowed(pair)) return [strangerProbe(context, { ...base, id: id('stranger') }, conduit, listen)]
  const probes: Probe[] = [
    {
      ...base,
      id: id('connect'),
      group: 'allowed',
      what: `connect for ${protocol.protocol}`,
      expected: 'connects, and stays',
      run: async () => opened(await closing(listen, context.reach)),
    },
  ]
  const enforcing = conduit.mode === 'enforce'
  if (protocol.kind === 'opcua') {
    const place = {
      conduit: conduit.id,
      protocol,
      place: listen,
      target: base.target,
      options: context.reach,
      carried: enforcing,
    }
    return [...probes, ...opcuaProbes({ ...place, pair: { source, target: target.address.base } })]
  }
  const client = new ModbusClient(listen, context.reach)
  context.clients.push(client)
  const all = modbusProbes({
    conduit,
    protocol,
    listener,
    source,
    target: base.target,
    client,
    allowWriteBack: options.allowWriteBack,
  })
  const reads = all.filter(({ expected }) => expected.startsWith('answered'))
  const denied = all.filter((probe) => !reads.includes(probe))
  probes.push(...(enforcing ? all : reads))
  if (!enforcing && denied.length > 0) {
    const what = `${denied.length} kinds of denied requests`
    const probe = { ...base, id: id('monitor'), group: 'enforcement' as const, what, expected: 'refused' }
    probes.push(untried(probe, 'not sent: the conduit monitors, and would let them pass'))
  }
  return probes
}

interface Pair {
  protocol: Extract<ConduitProtocol, { rules: unknown }>
  listener: Listener
  source: bigint
}

function pairAllowed({ protocol, listener, source }: Pair): boolean {
  if (protocol.kind === 'modbus') return tableOf({ protocol, listener, source }) !== null
  return protocol.rules.some(
    ({ action, from, to }) =>
      action === 'allow' &&
      from.some((block) => blockHolds(block, source)) &&
      to.some((block) => blockHolds(block, listener.target.address.base)),
  )
}

/** A listener of the gateway that this client is no part of. */
function strangerProbe(
  context: Context,
  base: Pick<Probe, 'id' | 'conduit' | 'target'>,
  conduit: Conduit,
  place: Place,
): Probe {
  const probe = {
    ...base,
    group: 'prohibited' as const,
    what: 'connect as a client that no rule has',
    expected: 'no connection, or closed at once',
  }
  if (conduit.mode === 'monitor') return untried(probe, 'not tried: the conduit monitors, and would let it pass')
  return { ...probe, run: async () => closed(context, await closing(place, context.reach), true) }
}

async function closing(place: Place, options: ReachOptions): Promise<{ reach: Reach; code: string }> {
  const { socket, ...reached } = await reach(place, options)
  socket?.destroy()
  return reached
}

const words = ({ reach, code }: { reach: Reach; code: string }): string =>
  reach === 'unreachable' && code !== '' ? `${REACH_WORDS[reach]} (${code})` : REACH_WORDS[reach]

const opened = (reached: { reach: Reach; code: string }): Observed =>
  reached.reach === 'open' ? pass(words(reached)) : fail(words(reached))

/** @param gateway something listens there in any case, so that being closed or refused by it is what was wanted */
function closed({ options }: Context, reached: { reach: Reach; code: string }, gateway: boolean): Observed {
  const text = words(reached)
  switch (reached.reach) {
    case 'open':
      return fail(text)
    case 'closed':
      return gateway ? pass(text) : fail(text)
    case 'refused':
      return !gateway && options.refusedFails ? fail(text) : pass(text)
    default:
      return pass(text)
  }
}

// ------------------------------------------------------------------------------------- protocols that others carry

/** What the document lets this zone open to another without Headgate between: at least one host there must answer. */
function otherProtocols(context: Context, conduit: Conduit): Probe[] {
  const { policy, options } = context
  if (!conduit.connects.includes(options.from.id)) return []
  const other = policy.zones.find(({ id }) => id !== options.from.id && conduit.connects.includes(id))
  if (other === undefined) return []
  return conduit.protocols.flatMap((protocol): Probe[] => {
    const carried = (policy.gateway?.listeners ?? []).some(
      (one) => one.conduit === conduit.id && one.protocol === protocol.kind,
    )
    const { port } = protocol
    if (carried || port === null || !initiates(policy, protocol, options.from)) return []
    const hosts = other.assets.filter(({ name, address }) => wanted(context, name, hostText(address.base)))
    const probe = {
      id: `${conduit.id}:${protocol.protocol}:${port}`.slice(0, 200),
      group: 'allowed' as const,
      conduit: conduit.id,
      target: `${other.id} port ${port}`,
      what: `connect for ${protocol.protocol}, which other devices carry`,
      expected: `one of ${hosts.length} assets answers`,
    }
    if (hosts.length === 0)
      return options.targets === null ? [untried(probe, `zone ${other.id} has no asset with an address`)] : []
    return [
      { ...probe, run: () => anyOf(context, hosts, port) },
      ...(protocol.kind === 'opcua'
        ? hosts.flatMap((asset) =>
            opcuaProbes({
              conduit: conduit.id,
              protocol,
              place: { host: hostText(asset.address.base), port },
              target: `${asset.name} ${hostText(asset.address.base)}:${port}`,
              options: context.reach,
              carried: false,
              pair: { source: 0n, target: asset.address.base },
            }),
          )
        : []),
    ]
  })
}

/** Whether the direction has this zone open connections; one that nobody can read does not. */
function initiates(policy: Policy, { direction }: ConduitProtocol, from: Zone): boolean {
  if (direction === null) return true
  const parsed = parseDirection(direction)
  if (parsed === null) return false
  const called = (text: string): boolean => {
    try {
      return zoneOf(policy, text).id === from.id
    } catch {
      return false
    }
  }
  return called(parsed.initiator) || (parsed.both && called(parsed.responder))
}

async function anyOf(context: Context, hosts: readonly Asset[], port: number): Promise<Observed> {
  const seen: string[] = []
  for (const { name, address } of hosts.slice(0, 32)) {
    const reached = await closing({ host: hostText(address.base), port }, context.reach)
    if (reached.reach === 'open') return pass(`${name}: ${words(reached)}`)
    seen.push(`${name}: ${reached.reach}`)
  }
  return fail(seen.join(', ').slice(0, 1000))
}

// ------------------------------------------------------------------------------------------------ what must not be

function zoneProbes(context: Context, zone: Zone): Probe[] {
  const { policy, options } = context
  const safety = isSafetyZone(zone)
  const allowed = new Set(
    policy.conduits
      .filter(({ connects }) => connects.includes(zone.id) && connects.includes(options.from.id))
      .flatMap((conduit) => directPorts(context, conduit)),
  )
  const named = policy.conduits.flatMap(({ protocols }) => protocols.flatMap(({ port }) => port ?? []))
  const targets = (policy.gateway?.listeners ?? []).map(({ target }) => target.port)
  const ports = [...new Set([...named, ...targets, ...options.ports])]
    .filter((port) => !allowed.has(port))
    .sort((a, b) => a - b)
  const hosts = zone.assets
    .map(({ name, address }) => ({ name, host: hostText(address.base) }))
    .filter(({ name, host }) => wanted(context, name, host))
  const sampled = zone.assets.length === 0 && safety && options.targets === null ? samples(zone) : []
  const probe = { group: safety ? ('isolated' as const) : ('prohibited' as const), conduit: null }
  if (hosts.length + sampled.length === 0) {
    if (options.targets !== null) return []
    const what = safety ? 'reach the safety zone' : 'reach hosts past the gateway'
    return [
      untried(
        { ...probe, id: `zone:${zone.id}`, target: zone.id, what, expected: 'no connection' },
        safety ? 'the document has no address of it' : 'the document has no asset of it with an address',
      ),
    ]
  }
  return [...hosts, ...sampled.map((host) => ({ name: zone.id, host }))].flatMap(({ name, host }) =>
    ports.flatMap((port) =>
      listensAt(policy, host, port) ? [] : [hostProbe(context, probe, { name, host, port }, safety)],
    ),
  )
}

function hostProbe(
  context: Context,
  base: Pick<Probe, 'group' | 'conduit'>,
  { name, host, port }: Place & { name: string },
  safety: boolean,
): Probe {
  return {
    ...base,
    id: `${name}:${where({ host, port })}`.slice(0, 200),
    target: `${name} ${where({ host, port })}`.slice(0, 200),
    what: `connect to port ${port}`,
    expected: safety ? 'nothing answers' : 'no connection',
    run: async () => {
      const reached = await closing({ host, port }, context.reach)
      // A refusal comes from somebody: of a zone that nothing reaches, nobody may answer.
      if (safety && reached.reach === 'refused') return fail(words(reached))
      return closed(context, reached, false)
    },
  }
}

const listensAt = (policy: Policy, host: string, port: number): boolean =>
  (policy.gateway?.listeners ?? []).some(
    ({ listen }) => listen.port === port && parseAddress(listen.host) === parseAddress(host),
  )

/** Ports that this zone may open to the other one without Headgate between. */
function directPorts({ policy, options }: Context, conduit: Conduit): number[] {
  return conduit.protocols.flatMap((protocol) => {
    const carried = (policy.gateway?.listeners ?? []).some(
      (one) => one.conduit === conduit.id && one.protocol === protocol.kind,
    )
    return carried || protocol.port === null || !initiates(policy, protocol, options.from) ? [] : [protocol.port]
  })
}

/** The first, the tenth and the last host of each network, of the first four: enough to see that a way is open. */
function samples({ networks }: Zone): string[] {
  return networks.slice(0, 4).flatMap(({ base, bits }) => {
    const size = 1n << BigInt(128 - bits)
    const four = base >> 32n === MAPPED >> 32n
    const last = four && size > 2n ? size - 2n : size - 1n
    return [...new Set([1n, 10n, last].filter((at) => at <= last && at >= 0n))].map((at) => hostText(base + at))
  })
}
