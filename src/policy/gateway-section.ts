/** The document's `gateway`: how this machine carries the conduits. */
import { blockHolds } from './address.ts'
import type { Check } from './check.ts'
import { isModbus } from './conduits.ts'
import { buildControl, buildShadow } from './control-section.ts'
import type { Path } from './document.ts'
import { didYouMean, show } from './findings.ts'
import type { Conduit, ConduitProtocol, Gateway, Listener, OtherProtocol } from './model.ts'
import { isOpcUa } from './opcua-section.ts'
import { buildRecords } from './records-section.ts'
import type { GatewayDocument } from './schema.ts'
import { isComplaint, parseDuration, parseHost, parseListen, splitEndpoint } from './values.ts'
import type { Zones } from './zones.ts'

type ListenerDocument = NonNullable<GatewayDocument['listeners']>[number]

type CarriedProtocol = Exclude<ConduitProtocol, OtherProtocol>

const DEFAULT_DRAIN_MS = 5000
/** Protocols that Headgate carries. */
const PROTOCOLS = ['Modbus/TCP', 'OPC UA'] as const
export function buildGateway(check: Check, zones: Zones, conduits: readonly Conduit[], raw: unknown): Gateway | null {
  if (raw === undefined || typeof raw !== 'object' || raw === null) return null
  const document = raw as GatewayDocument
  if (document.console !== undefined) {
    check.warn(['gateway', 'console'], 'not-in-this-version', 'found console, which this version does not have')
  }
  const listeners: Listener[] = []
  for (const [index, listener] of (Array.isArray(document.listeners) ? document.listeners : []).entries()) {
    const path = ['gateway', 'listeners', index]
    if (typeof listener !== 'object' || listener === null) continue
    const built = buildListener(check, zones, conduits, check.soundPart(listener, path), path)
    if (built === null) continue
    const twin = listeners.find((one) => one.listen.host === built.listen.host && one.listen.port === built.listen.port)
    if (twin !== undefined) {
      check.error(
        [...path, 'listen'],
        'duplicate-address',
        `found ${show(listener.listen)} twice (also line ${twin.position.line}), expected an address and port for each listener`,
      )
    }
    listeners.push(built)
  }
  const sound = (key: string): boolean => check.sound(['gateway', key])
  const metrics = sound('metrics') && document.metrics ? parseListen(document.metrics.listen) : null
  return {
    name: (sound('name') ? document.name : undefined) ?? 'headgate',
    workers: typeof document.workers === 'number' ? document.workers : 0,
    io: document.io ?? 'auto',
    listeners,
    ...buildRecords(check, document),
    metrics: isComplaint(metrics) ? null : metrics,
    control: sound('control') && document.control !== undefined ? buildControl(check, document.control) : null,
    shadow: sound('shadow') && document.shadow !== undefined ? buildShadow(check, document.shadow) : null,
    log: { level: (sound('log') ? document.log?.level : undefined) ?? 'info' },
    drainMs:
      sound('drain') && document.drain !== undefined
        ? (parseDuration(document.drain, 0, Number.MAX_SAFE_INTEGER) as number)
        : DEFAULT_DRAIN_MS,
  }
}

function buildListener(
  check: Check,
  zones: Zones,
  conduits: readonly Conduit[],
  raw: ListenerDocument,
  path: Path,
): Listener | null {
  const ids = conduits.map((one) => one.id)
  const conduit = conduits.find((one) => one.id === raw.conduit)
  if (conduit === undefined && raw.conduit !== undefined) {
    check.error(
      [...path, 'conduit'],
      'dangling-reference',
      `found ${show(raw.conduit)}, expected a conduit of this document${didYouMean(raw.conduit, ids)}`,
    )
  }
  const name = raw.protocol ?? 'Modbus/TCP'
  const kind = isModbus(name) ? 'modbus' : isOpcUa(name) ? 'opcua' : null
  const protocol = conduit?.protocols.find((one): one is CarriedProtocol => one.kind === kind)
  if (kind === null) {
    const known = conduit?.protocols.some((one) => one.protocol === name)
    const message = `found a listener for ${show(name)}, expected Modbus/TCP or OPC UA: this version carries no other protocol`
    if (known) check.warn([...path, 'protocol'], 'not-in-this-version', `${message}; it is not opened`)
    else check.error([...path, 'protocol'], 'dangling-reference', `${message}${didYouMean(name, PROTOCOLS)}`)
    return null
  }
  if (conduit !== undefined && protocol === undefined) {
    const [modbus, opcua] = PROTOCOLS
    const message = `found conduit ${conduit.id}, which does not allow ${kind === 'modbus' ? modbus : opcua}; expected one with it in protocols_allowed`
    check.error([...path, 'conduit'], 'dangling-reference', message)
  }
  if (raw.transparent === true) {
    check.warn(
      [...path, 'transparent'],
      'not-in-this-version',
      'found a transparent listener, which this version does not have; it is not opened',
    )
    return null
  }
  const target = raw.target === undefined ? null : resolveTarget(check, zones, raw.target, [...path, 'target'])
  for (const key of ['listen', 'target'] as const) {
    if (raw[key] === undefined && check.sound([...path, key]))
      check.error(path, 'missing-key', `expected key "${key}" in a listener, found none`)
  }
  const listen = parseListen(raw.listen)
  if (protocol === undefined || conduit === undefined || target === null || isComplaint(listen)) return null
  const port = target.port ?? protocol.port
  if (target.host === listen.host && port === listen.port) {
    check.error(
      [...path, 'target'],
      'loop',
      `found the listener's own address ${show(raw.listen)}, expected the address of a target`,
    )
  }
  if (
    !protocol.rules.some(
      (rule) => rule.action === 'allow' && rule.to.some((block) => blockHolds(block, target.address.base)),
    )
  ) {
    const message = `found ${target.name}, which no rule of conduit ${conduit.id} allows anyone to reach: all is denied`
    check.warn([...path, 'target'], 'unreachable-target', message)
  }
  return {
    conduit: conduit.id,
    protocol: kind,
    listen,
    target: { name: target.name, host: target.host, port, address: target.address },
    position: check.source.position(path),
  }
}

function resolveTarget(check: Check, zones: Zones, text: string, path: Path) {
  // An asset's name may hold a colon; an address with a port is no asset.
  const endpoint = zones.asset(text) === null ? splitEndpoint(text) : { host: text, port: null }
  const asset = endpoint === null ? null : zones.asset(endpoint.host)
  if (asset !== null && endpoint !== null) {
    return { name: asset.name, host: asset.address.text, port: endpoint.port, address: asset.address }
  }
  const address = parseHost(endpoint?.host)
  if (!isComplaint(address) && endpoint !== null)
    return { name: text, host: address.text, port: endpoint.port, address }
  const assets = zones.all.flatMap((zone) => zone.assets.map((one) => one.name))
  const near = didYouMean(endpoint?.host ?? text, assets)
  check.error(
    path,
    'dangling-reference',
    `found ${show(text)}, expected an asset with an address, or an address, each with \`:port\` where needed${near}`,
  )
  return null
}
