/** An ASA or ISA-3000 configuration as a zone-and-conduit document: what its rules let through, pair by pair. */
import { stringify } from 'yaml'
import {
  ANY_MODBUS,
  ANY_PORT,
  ANY_TRANSPORT,
  ANY4,
  blockSpans,
  ICMP,
  ICMP6,
  modbusFunctions,
  spansToBlocks,
  TCP,
  UDP,
} from '../flows.ts'
import { EMPTY, equal, intersect, type Spans, union, within } from '../sets.ts'
import { soundOf } from '../zone-names.ts'
import { type AsaConfig, type Interface, type Note, readAsaConfig } from './config.ts'
import { type AsaFlow, effectiveFlows, levelOf } from './effective.ts'

export interface Imported {
  /** The document, YAML, with what could not be carried over as comments at its head. */
  text: string
  /** Lines of the configuration without an equivalent, in their order. */
  notes: Note[]
  /** What a person has to decide. */
  decide: string[]
}

/** @param file name of the configuration, for the comment at the head */
export function importAsa(file: string, text: string): Imported {
  return new Importer(readAsaConfig(text)).document(file)
}

interface DocumentRule {
  name: string
  from: string[]
  to: string[]
  functions?: (number | string)[]
  services?: string[]
}

interface DocumentProtocol {
  protocol: string
  [key: string]: unknown
}

const NAMES_OF_PORTS: ReadonlyMap<number, string> = new Map([
  [22, 'SSH'],
  [25, 'SMTP'],
  [53, 'DNS'],
  [80, 'HTTP'],
  [102, 'ISO-TSAP'],
  [123, 'NTP'],
  [161, 'SNMP'],
  [389, 'LDAP'],
  [443, 'HTTPS'],
  [445, 'SMB'],
  [514, 'syslog'],
  [1433, 'SQL Server'],
  [2404, 'IEC 60870-5-104'],
  [3389, 'RDP'],
  [5450, 'PI-to-PI'],
  [20000, 'DNP3'],
  [44818, 'EtherNet/IP'],
])
const MODBUS_PORT = 502
const OPCUA_PORT = 4840
/** An interface with everything else behind it is a list of blocks; a longer one nobody reads. */
const MAX_NETWORKS = 256

class Importer {
  private readonly config: AsaConfig
  private readonly flows: AsaFlow[]
  private readonly networks: Map<string, Spans>
  private readonly ids = new Map<string, string>()
  private readonly decide: string[] = []
  private readonly notes: Note[]

  constructor(config: AsaConfig) {
    this.config = config
    const { flows, networks } = effectiveFlows(config)
    this.flows = flows
    const blocks = [...config.interfaces.flatMap((one) => one.networks), ...config.routes.map(({ block }) => block)]
    const traffic = [...config.lists.values()].flat().flatMap((entry) => entry.traffic)
    const sets = [
      blockSpans(blocks),
      ...config.networkGroups.values(),
      ...traffic.flatMap(({ from, to }) => [from, to]),
    ]
    const written = sets.some(isSix)
    // Where nothing of IPv6 is configured, "everything else" means IPv4.
    this.networks = new Map([...networks].map(([nameif, set]) => [nameif, written ? set : intersect(set, ANY4)]))
    this.notes = [...config.notes]
    for (const one of config.interfaces) this.ids.set(one.nameif, this.zoneId(one))
  }

  private zoneId({ nameif, description }: Interface): string {
    const said = /\bzone:?\s+([A-Za-z0-9][\w-]*)/i.exec(description ?? '')?.[1]
    const base = said ?? ((soundOf(nameif) || nameif).toUpperCase().replaceAll(/[^A-Z0-9-]+/g, '-') || 'ZONE')
    const taken = [...this.ids.values()]
    let id = base
    for (let n = 2; taken.includes(id); n++) id = `${base}-${n}`
    return id
  }

  document(file: string): Imported {
    const conduits = this.conduits()
    const zones = this.config.interfaces.map((one) => this.zone(one, conduits))
    const gateway = this.gateway()
    this.notes.sort((a, b) => a.line - b.line)
    if (this.config.interfaces.length === 0) this.decide.push('no interface has a nameif, so there are no zones')
    const document = { zones, conduits, ...(gateway === null ? {} : { gateway }) }
    const head = [
      `Imported from ${file.replaceAll(/[^\x20-\x7e]/g, '?')} by headgate import isa3000. It watches and blocks nothing until \`mode: enforce\`.`,
      ...section('To decide:', this.decide),
      ...section(
        'Lines without an equivalent:',
        this.notes.map(({ line, text, why }) => `${line}: ${printable(text)} (${why})`),
      ),
    ]
    const text = `${head.map((line) => (line === '' ? '#' : `# ${line}`)).join('\n')}\n${stringify(document, { lineWidth: 120 })}`
    return { text, notes: this.notes, decide: this.decide }
  }

  private zone(one: Interface, conduits: { conduit_id: string; connects: string[] }[]): Record<string, unknown> {
    const id = this.ids.get(one.nameif) as string
    const set = this.networks.get(one.nameif) ?? EMPTY
    const blocks = spansToBlocks(set)
    this.decide.push(
      `${id}: purdue_level and security_level_target (security-level ${levelOf(one)} in line ${one.line})`,
    )
    const few = blocks.length <= MAX_NETWORKS
    if (!few || blocks.length === 0) this.decide.push(`${id}: its networks, which the configuration does not say`)
    return {
      zone_id: id,
      name: one.description ?? one.nameif,
      ...(few && blocks.length > 0 ? { networks: blocks.map(({ text }) => text) } : {}),
      ...this.assets(set),
      allowed_conduits: conduits.filter(({ connects }) => connects.includes(id)).map(({ conduit_id }) => conduit_id),
    }
  }

  private assets(set: Spans): { assets?: { name: string; address: string }[] } {
    const assets: { name: string; address: string }[] = []
    for (const { name, address } of this.hosts()) {
      if (intersect(blockSpans([address]), set).length > 0) assets.push({ name, address: address.text })
    }
    return assets.length === 0 ? {} : { assets }
  }

  /** Hosts with a name, each address and each name once; a name that is a zone's is none of a host. */
  private hosts(): AsaConfig['hosts'] {
    const zones = new Set([...this.ids.values()].flatMap((id) => [id, id.split('-')[0]]))
    return this.config.hosts.filter(
      ({ name, address }, index, all) =>
        !zones.has(name) &&
        all.findIndex((other) => other.address.base === address.base || other.name === name) === index,
    )
  }

  private conduits() {
    const pairs = new Map<string, { a: string; b: string; flows: AsaFlow[] }>()
    for (const flow of this.flows) {
      const ends = [flow.ingress, flow.egress].sort((a, b) => this.order(a) - this.order(b))
      const key = ends.join('\n')
      const pair = pairs.get(key) ?? { a: ends[0], b: ends[1], flows: [] }
      pair.flows.push(flow)
      pairs.set(key, pair)
    }
    const found: { conduit_id: string; name: string; connects: string[]; protocols_allowed: DocumentProtocol[] }[] = []
    for (const { a, b, flows } of pairs.values()) {
      const connects = [this.ids.get(a) as string, this.ids.get(b) as string]
      // Each inspected protocol stands once in a conduit: another port of it is another conduit.
      for (const protocols of this.protocols(flows)) {
        const id = `C${found.length + 1}-${connects.join('-')}`
        found.push({ conduit_id: id, name: `${connects.join(' and ')}`, connects, protocols_allowed: protocols })
      }
    }
    return found
  }

  private order(nameif: string): number {
    return this.config.interfaces.findIndex((one) => one.nameif === nameif)
  }

  private protocols(flows: readonly AsaFlow[]): DocumentProtocol[][] {
    const modbus = new Map<number, AsaFlow[]>()
    const opcua: AsaFlow[] = []
    const others: AsaFlow[] = []
    for (const one of flows) {
      const { transport, port, content } = one.flow
      const single = equal(transport, TCP) && port.length === 1 && port[0][0] === port[0][1] ? Number(port[0][0]) : null
      const inspected = within(content, ANY_MODBUS)
      if (single !== null && (inspected || single === MODBUS_PORT))
        modbus.set(single, [...(modbus.get(single) ?? []), one])
      else if (single === OPCUA_PORT) opcua.push(one)
      else if (inspected) {
        for (const [low, high] of port) {
          for (let at = low; at <= high && at - low < 64n; at++) {
            modbus.set(Number(at), [...(modbus.get(Number(at)) ?? []), one])
          }
        }
      } else others.push(one)
    }
    const conduits: DocumentProtocol[][] = [[]]
    for (const [index, [port, own]] of [...modbus].sort(([a], [b]) => a - b).entries()) {
      conduits[index] ??= []
      conduits[index].push(this.modbus(port, own))
    }
    if (opcua.length > 0) conduits[0].push(this.opcua(opcua))
    for (const one of others.flatMap(byTransport)) {
      const other = this.other(one)
      if (other !== null) conduits[0].push(other)
    }
    return conduits.filter((protocols) => protocols.length > 0)
  }

  /** `A -> B` where all of them go one way. */
  private direction(flows: readonly AsaFlow[]): { direction?: string } {
    const ways = new Set(flows.map(({ ingress, egress }) => `${this.ids.get(ingress)} -> ${this.ids.get(egress)}`))
    return ways.size === 1 ? { direction: [...ways][0] } : {}
  }

  private modbus(port: number, flows: readonly AsaFlow[]): DocumentProtocol {
    const rules = this.named(flows).map(([name, one]): DocumentRule => {
      const { content } = one.flow
      if (!within(content, ANY_MODBUS)) {
        const line = one.entry?.line
        this.decide.push(
          `which functions of Modbus pass: nothing looks into port ${port}${line === undefined ? '' : `, opened in line ${line}`}`,
        )
      }
      const functions = modbusFunctions(content)
      const names = functions.map(({ code, sub }) => (sub === null ? code : `${code}/${sub}`))
      return { name, ...this.ends(one), functions: functions.length === 127 ? ['all'] : names }
    })
    const reset = flows.some(({ inspected }) => inspected === 'reset')
    const drop = flows.some(({ inspected }) => inspected === 'drop')
    return {
      protocol: 'Modbus/TCP',
      port,
      ...this.direction(flows),
      rules,
      ...(reset ? { on_deny: 'reset' } : drop ? { on_deny: 'drop' } : {}),
    }
  }

  private opcua(flows: readonly AsaFlow[]): DocumentProtocol {
    this.decide.push(`which services of OPC UA pass on port ${OPCUA_PORT}: nothing looks into it`)
    const rules = this.named(flows).map(([name, one]): DocumentRule => ({ name, ...this.ends(one), services: ['all'] }))
    return { protocol: 'OPC UA', port: OPCUA_PORT, ...this.direction(flows), rules }
  }

  /** Rules by their lines, each name once. */
  private named(flows: readonly AsaFlow[]): [string, AsaFlow][] {
    const seen = new Map<string, number>()
    return flows.map((one) => {
      const base = one.entry === null ? 'security levels' : `line ${one.entry.line}`
      const n = (seen.get(base) ?? 0) + 1
      seen.set(base, n)
      return [n === 1 ? base : `${base} (${n})`, one]
    })
  }

  private ends({ flow, ingress, egress, entry }: AsaFlow): { from: string[]; to: string[] } {
    if (!equal(flow.sourcePort, ANY_PORT) && entry !== null) {
      const why = 'rules say nothing of source ports: carried over for any'
      if (!this.notes.some(({ line, why: said }) => line === entry.line && said === why))
        this.notes.push({ line: entry.line, text: entry.text, why })
    }
    return { from: this.references(flow.from, ingress), to: this.references(flow.to, egress) }
  }

  /** The zone where it is all of it, hosts by name, and blocks. */
  private references(set: Spans, nameif: string): string[] {
    const all = this.networks.get(nameif) ?? EMPTY
    const own = intersect(set, all)
    if (equal(own, all) && spansToBlocks(all).length <= MAX_NETWORKS) return [this.ids.get(nameif) as string]
    return spansToBlocks(own.length === 0 ? set : own).map(({ base, bits, text }) => {
      const host = bits === 128 ? this.hosts().find(({ address }) => address.base === base) : undefined
      return host?.name ?? text
    })
  }

  private other(one: AsaFlow): DocumentProtocol | null {
    const { transport, port } = one.flow
    const kind = equal(transport, TCP)
      ? 'tcp'
      : equal(transport, UDP)
        ? 'udp'
        : within(transport, union(ICMP, ICMP6))
          ? 'icmp'
          : equal(transport, ANY_TRANSPORT)
            ? 'any'
            : null
    if (kind === null) {
      const why = 'a protocol of IP that a document has no word for'
      if (one.entry !== null) this.notes.push({ line: one.entry.line, text: one.entry.text, why })
      return null
    }
    const name = port.length === 1 && port[0][0] === port[0][1] ? NAMES_OF_PORTS.get(Number(port[0][0])) : undefined
    const ports = equal(port, ANY_PORT)
      ? null
      : port.map(([low, high]) => (low === high ? Number(low) : `${low}-${high}`))
    const single = ports?.length === 1 && typeof ports[0] === 'number' ? ports[0] : null
    return {
      protocol:
        name ??
        (ports === null
          ? { tcp: 'any tcp', udp: 'any udp', icmp: 'ICMP', any: 'any IP' }[kind]
          : `${kind} ${ports.join(', ').slice(0, 100)}`),
      transport: kind,
      ...(single !== null
        ? { port: single }
        : ports !== null
          ? { ports }
          : kind === 'tcp' || kind === 'udp'
            ? { ports: ['1-65535'] }
            : {}),
      direction: `${this.ids.get(one.ingress)} -> ${this.ids.get(one.egress)}`,
      ...this.ends(one),
    }
  }

  private gateway(): Record<string, unknown> | null {
    const { enabled, trap, hosts } = this.config.logging
    if (hosts.length === 0) return null
    if (!enabled) this.decide.push('logging is not enabled; the receivers are carried over')
    return {
      syslog: hosts.map(({ address, transport, port }) => ({
        url: `${transport}://${address.text.includes(':') ? `[${address.text}]` : address.text}:${port}`,
        ...(trap === null ? {} : { min_severity: trap[1] }),
      })),
    }
  }
}

/** tcp and udp together, as groups of services have them, are two protocols of a document. */
function byTransport(one: AsaFlow): AsaFlow[] {
  if (!equal(one.flow.transport, union(TCP, UDP))) return [one]
  return [TCP, UDP].map((transport) => ({ ...one, flow: { ...one.flow, transport } }))
}

/** Whether a set names addresses of IPv6 by themselves, not as part of any address. */
const isSix = (set: Spans): boolean => !within(set, ANY4) && set.some(([low, high]) => high - low < 1n << 126n)

const section = (title: string, lines: readonly string[]): string[] =>
  lines.length === 0 ? [] : ['', title, ...[...new Set(lines)].map((line) => `  ${line}`)]

const printable = (text: string): string => text.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 200)
