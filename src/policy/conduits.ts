/** Conduits: what they connect, their mode, and each protocol that they allow. */
import type { Check } from './check.ts'
import type { Path } from './document.ts'
import { didYouMean, show } from './findings.ts'
import { buildLimits, buildTimeouts } from './limits-section.ts'
import { buildRules } from './modbus-rules.ts'
import type { AddressBlock, Conduit, ConduitProtocol, ModbusProtocol, Mode, OtherProtocol, Range } from './model.ts'
import { buildOpcUa, isOpcUa } from './opcua-section.ts'
import { type RuleContext, references } from './rule-context.ts'
import {
  type ConduitDocument,
  type ModbusDocument,
  modbusSchema,
  type OpcUaDocument,
  type OtherProtocolDocument,
  opcuaSchema,
  otherProtocolSchema,
} from './schema.ts'
import { parseDate, parseRange, parseSecurityLevel } from './values.ts'
import type { Zones } from './zones.ts'

/** How documents write the name of the protocol. */
export const isModbus = (protocol: string): boolean => /^modbus([\s/_-]*tcp)?(\/ip)?$/i.test(protocol.trim())

/** @param modes by conduit id: what stands in place of the document's own */
export function buildConduits(check: Check, zones: Zones, raw: unknown, modes: ReadonlyMap<string, Mode>): Conduit[] {
  const conduits: Conduit[] = []
  for (const [index, conduit] of (Array.isArray(raw) ? raw : []).entries()) {
    const path = ['conduits', index]
    if (typeof conduit !== 'object' || conduit === null || typeof conduit.conduit_id !== 'string') continue
    const document = conduit as ConduitDocument
    const mode = modes.get(document.conduit_id) ?? (document.mode === 'enforce' ? 'enforce' : 'monitor')
    const built = buildConduit(check, zones, document, mode, path)
    if (conduits.some((one) => one.id === built.id)) {
      check.error([...path, 'conduit_id'], 'duplicate-name', `found conduit ${show(built.id)} twice, expected it once`)
    }
    conduits.push(built)
  }
  const ids = conduits.map((one) => one.id)
  for (const [index, zone] of zones.all.entries()) {
    for (const [at, id] of (zone.allowedConduits ?? []).entries()) {
      if (ids.includes(id)) continue
      const message = `found ${show(id)}, expected a conduit of this document${didYouMean(id, ids)}`
      check.error(['zones', index, 'allowed_conduits', at], 'dangling-reference', message)
    }
  }
  return conduits
}

function buildConduit(check: Check, zones: Zones, raw: ConduitDocument, mode: Mode, path: Path): Conduit {
  const connects = (Array.isArray(raw.connects) ? raw.connects : []).flatMap((text, index) =>
    typeof text === 'string' ? (zones.zone(check, text, [...path, 'connects', index]) ?? []) : [],
  )
  if (connects.length === 2 && connects[0] === connects[1]) {
    check.error([...path, 'connects'], 'bad-value', `found zone ${connects[0].id} twice, expected two zones`)
  }
  const level = parseSecurityLevel(raw.security_level)
  const until = raw.monitor_until === undefined ? null : parseDate(raw.monitor_until)
  const protocols: ConduitProtocol[] = []
  const raws: readonly unknown[] = Array.isArray(raw.protocols_allowed) ? raw.protocols_allowed : []
  for (const [index, protocol] of raws.entries()) {
    const at = [...path, 'protocols_allowed', index]
    const name = (protocol as { protocol?: unknown } | null)?.protocol
    const modbus = typeof name === 'string' && isModbus(name)
    const opcua = typeof name === 'string' && isOpcUa(name)
    check.structure(modbus ? modbusSchema : opcua ? opcuaSchema : otherProtocolSchema, protocol, at)
    if (typeof name !== 'string') continue
    const context = { check, zones, connects, enforce: mode === 'enforce' }
    if (!modbus && !opcua) {
      protocols.push(buildOther(context, protocol as OtherProtocolDocument, at))
      continue
    }
    const kind = modbus ? 'modbus' : 'opcua'
    if (protocols.some((one) => one.kind === kind)) {
      const message = `found ${modbus ? 'Modbus/TCP' : 'OPC UA'} twice in one conduit, expected it once: put the rules together`
      check.error(at, 'duplicate-name', message)
    }
    if (modbus) protocols.push(buildModbus(context, protocol as ModbusDocument, at))
    else protocols.push(buildOpcUa(context, protocol as OpcUaDocument, at))
  }
  return {
    id: raw.conduit_id,
    name: typeof raw.name === 'string' ? raw.name : raw.conduit_id,
    connects: [connects[0]?.id ?? '', connects[1]?.id ?? ''],
    securityLevel: typeof level === 'number' ? level : null,
    mode,
    monitorUntil: typeof until === 'string' ? until : null,
    protocols,
    controls: (Array.isArray(raw.controls) ? raw.controls : []).map(String),
    position: check.source.position(path),
  }
}

function buildOther(context: RuleContext, document: OtherProtocolDocument, path: Path): OtherProtocol {
  const { check } = context
  if (document.rules !== undefined) {
    const message = `found rules for ${show(document.protocol)}, which this version does not carry: they are not enforced here`
    check.warn([...path, 'rules'], 'not-in-this-version', message)
  }
  const raw = { ...check.soundPart(document, path), protocol: document.protocol }
  const blocks = (list: string[] | undefined, key: string): AddressBlock[] | null =>
    list === undefined ? null : references(context, list, [...path, key]).flatMap((one) => one.blocks)
  return {
    kind: 'other',
    protocol: raw.protocol,
    transport: raw.transport ?? transportOf(raw.protocol),
    port: raw.port ?? null,
    ports: raw.ports?.map((one) => parseRange(one, 1, 65535, '') as Range) ?? null,
    from: blocks(raw.from, 'from'),
    to: blocks(raw.to, 'to'),
    direction: raw.direction ?? null,
    securityMode: raw.security_mode ?? null,
    position: check.source.position(path),
  }
}

/** What a protocol that Headgate does not carry runs on, by its name. */
function transportOf(protocol: string): OtherProtocol['transport'] {
  if (/\b(ntp|ptp|snmp|tftp|syslog|dhcp|bacnet|udp)\b/i.test(protocol)) return 'udp'
  if (/\b(icmp|ping)\b/i.test(protocol)) return 'icmp'
  return 'tcp'
}

function buildModbus(context: RuleContext, document: ModbusDocument, path: Path): ModbusProtocol {
  const { check } = context
  // Rules are read one by one, each as far as it is sound; of the other keys only those that are.
  const raw = { ...check.soundPart(document, path), protocol: document.protocol }
  if (document.rules !== undefined) raw.rules = Array.isArray(document.rules) ? document.rules : []
  return {
    kind: 'modbus',
    protocol: raw.protocol,
    port: raw.port ?? 502,
    direction: raw.direction ?? null,
    rules: buildRules(context, raw, path),
    limits: buildLimits(check, raw, path),
    onDeny: raw.on_deny ?? 'exception',
    timeouts: buildTimeouts(raw),
    position: check.source.position(path),
  }
}
