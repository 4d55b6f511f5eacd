/** Reads a Cisco ASA or ISA-3000 configuration, as far as it says who may reach whom, and lists what it cannot carry over. */
import { parseAddress } from '../../policy/address.ts'
import type { AddressBlock } from '../../policy/model.ts'
import type { Spans } from '../sets.ts'
import { Inspections } from './inspection.ts'
import { TRAP_LEVELS } from './names.ts'
import { Objects } from './objects.ts'
import { readStatements, type Statement } from './statements.ts'
import { Cursor, ipv6Network, networkOf, options, type Traffic, Unread } from './words.ts'

/** A line of the configuration that a document has no word for, or that says less here than there. */
export interface Note {
  line: number
  text: string
  why: string
}

export interface Interface {
  nameif: string
  hardware: string
  /** 0…100; null where it is not given (ASA: 0, or 100 for `inside`). */
  level: number | null
  /** Networks that are connected. */
  networks: AddressBlock[]
  description: string | null
  line: number
}

export interface Entry {
  line: number
  text: string
  action: 'permit' | 'deny'
  traffic: Traffic[]
}

export interface AccessGroup {
  list: string
  where: 'in' | 'out' | 'global'
  nameif: string | null
  line: number
}

/** Where Modbus is looked into, in the order in which it is tried. */
export interface Inspection {
  traffic: Traffic[]
  /** null: on every interface. */
  nameif: string | null
  /** Content that passes. */
  content: Spans
  action: 'drop' | 'reset'
  line: number
}

export interface LogHost {
  nameif: string
  address: AddressBlock
  transport: 'udp' | 'tcp'
  port: number
  line: number
}

export interface AsaConfig {
  interfaces: Interface[]
  routes: { nameif: string; block: AddressBlock; line: number }[]
  lists: Map<string, Entry[]>
  groups: AccessGroup[]
  /** Interfaces of one security level may reach each other. */
  sameSecurity: boolean
  inspections: Inspection[]
  logging: { enabled: boolean; trap: (typeof TRAP_LEVELS)[number] | null; hosts: LogHost[] }
  /** Hosts that the configuration has a name for. */
  hosts: { name: string; address: AddressBlock; line: number }[]
  /** Named sets of networks. */
  networkGroups: Map<string, Spans>
  notes: Note[]
}

const MAX_NOTES = 2000

export function readAsaConfig(text: string): AsaConfig {
  return new Reader(readStatements(text)).read()
}

class Reader {
  private readonly statements: Statement[]
  private readonly config: AsaConfig = {
    interfaces: [],
    routes: [],
    lists: new Map(),
    groups: [],
    sameSecurity: false,
    inspections: [],
    logging: { enabled: false, trap: null, hosts: [] },
    hosts: [],
    networkGroups: new Map(),
    notes: [],
  }
  private readonly objects = new Objects()
  private readonly inspections: Inspections

  constructor(statements: Statement[]) {
    this.statements = statements
    const listing = {
      note: (place: { line: number; text: string }, why: string) => this.note(place, why),
      try: (statement: Statement, read: () => void) => this.try(statement, read),
      unknown: (statement: Statement, why: string) => this.unknown(statement, why),
    }
    this.inspections = new Inspections(listing, this.config.lists)
  }

  read(): AsaConfig {
    // What is referred to may stand behind what refers to it.
    for (const statement of this.statements) {
      this.objects.collect(statement)
      this.inspections.collect(statement)
    }
    for (const statement of this.statements) this.statement(statement)
    this.config.inspections = this.inspections.applyPolicies()
    this.config.notes.sort((a, b) => a.line - b.line)
    return this.config
  }

  private note({ line, text }: { line: number; text: string }, why: string): void {
    if (this.config.notes.length < MAX_NOTES) this.config.notes.push({ line, text, why })
  }

  /** Runs `read`; where the line cannot be read, it is listed. */
  private try(statement: Statement, read: () => void): void {
    try {
      read()
    } catch (error) {
      if (!(error instanceof Unread)) throw error
      this.note(statement, error.message)
    }
  }

  private statement(statement: Statement): void {
    const { words } = statement
    const attempt = (read: (one: Statement) => void) => () => this.try(statement, () => read.call(this, statement))
    const readers: Record<string, () => void> = {
      interface: () => this.interface(statement),
      route: attempt(this.route),
      name: attempt(this.named),
      names: () => {},
      object: () => this.object(statement),
      'object-group': () => this.group(statement),
      'access-list': () => this.accessList(statement),
      'access-group': attempt(this.accessGroup),
      'same-security-traffic': () => this.sameSecurity(statement),
      'class-map': () => this.inspections.classMap(statement),
      'policy-map': () =>
        words[1] === 'type' ? this.inspections.inspectMap(statement) : this.inspections.policyMap(statement),
      'service-policy': () => this.inspections.servicePolicy(statement),
      logging: attempt(this.logging),
    }
    const verb = words[0] === 'ipv6' && words[1] === 'route' ? 'route' : words[0]
    if (Object.hasOwn(readers, verb)) readers[verb]()
    else this.unknown(statement, OTHER.get(verb) ?? 'a zone-and-conduit document has no word for it')
  }

  private sameSecurity(statement: Statement): void {
    if (statement.words[2] === 'inter-interface') this.config.sameSecurity = true
    else this.note(statement, 'traffic in and out of one interface crosses no boundary between zones')
  }

  /** A statement, and all beneath it, that says nothing of zones and conduits. */
  private unknown(statement: Statement, why: string): void {
    this.note(statement, why)
    for (const child of statement.children) this.unknown(child, `part of "${statement.words.slice(0, 2).join(' ')}"`)
  }

  private interface(statement: Statement): void {
    const found: Interface = {
      nameif: '',
      hardware: statement.words.slice(1).join(' '),
      level: null,
      networks: [],
      description: null,
      line: statement.line,
    }
    const other: [Statement, string][] = []
    for (const child of statement.children) {
      const [verb, second, third, fourth] = child.words
      if (verb === 'nameif' && second !== undefined) found.nameif = second
      else if (verb === 'security-level' && /^\d+$/.test(second ?? '')) found.level = Number(second)
      else if (verb === 'description') found.description = child.text.slice('description'.length).trim()
      else if (verb === 'ip' && second === 'address' && fourth !== undefined) {
        this.try(child, () => found.networks.push(networkOf(third, fourth)))
      } else if (verb === 'ipv6' && second === 'address' && third?.includes('/')) {
        this.try(child, () => found.networks.push(ipv6Network(third)))
      } else if (!(verb === 'no' && ['shutdown', 'ip', 'nameif', 'security-level'].includes(second ?? ''))) {
        other.push([child, verb === 'shutdown' ? 'the interface is down' : 'it is about the port, not about the zone'])
      }
    }
    for (const [child, why] of other) this.note(child, why)
    if (found.nameif === '') this.note(statement, 'an interface without nameif carries nothing')
    else this.config.interfaces.push(found)
  }

  /** `route IF NET MASK GATEWAY [metric]`, `ipv6 route IF NET/LEN GATEWAY`. */
  private route({ words, line }: Statement): void {
    const six = words[0] === 'ipv6'
    const [nameif, network, mask] = words.slice(six ? 2 : 1)
    const zero = (text: string): string => (text === '0' ? '0.0.0.0' : text)
    const block = six ? ipv6Network(network ?? '') : networkOf(zero(network ?? ''), zero(mask ?? ''))
    this.config.routes.push({ nameif, block, line })
  }

  private named({ words, line }: Statement): void {
    const base = parseAddress(words[1] ?? '')
    if (base === null || words[2] === undefined) throw new Unread('not `name ADDRESS NAME`')
    this.config.hosts.push({ name: words[2], address: { base, bits: 128, text: words[1] }, line })
  }

  private object(statement: Statement): void {
    const [, kind, name] = statement.words
    if (kind === 'service') {
      this.try(statement, () => {
        this.objects.serviceObject(name)
      })
      return
    }
    if (kind !== 'network') {
      this.unknown(statement, 'an object of a kind that Headgate has no word for')
      return
    }
    for (const child of statement.children) {
      const [verb] = child.words
      if (verb === 'nat')
        this.note(child, 'address translation: zones and rules are written with the addresses behind it')
      else if (verb === 'fqdn') this.note(child, 'a name of the DNS: rules are written with addresses')
      else if (!['host', 'subnet', 'range', 'description'].includes(verb)) this.note(child, 'not known in an object')
    }
    const host = statement.children.find(({ words }) => words[0] === 'host')
    const base = parseAddress(host?.words[1] ?? '')
    if (host !== undefined && base !== null) {
      this.config.hosts.push({ name, address: { base, bits: 128, text: host.words[1] }, line: statement.line })
    }
    if (statement.children.some(({ words }) => ['host', 'subnet', 'range'].includes(words[0]))) {
      this.try(statement, () => {
        this.objects.networkObject(name)
      })
    }
  }

  private group(statement: Statement): void {
    const [, kind, name] = statement.words
    this.try(statement, () => {
      if (kind === 'network') this.config.networkGroups.set(name, this.objects.networkGroup(name, 0))
      else if (kind === 'service') this.objects.serviceGroup(name, 0)
      else if (kind === 'protocol') this.objects.protocolGroup(name, 0)
      else if (kind !== 'icmp-type') throw new Unread('an object-group of a kind that Headgate has no word for')
    })
  }

  private accessList(statement: Statement): void {
    const words = [...statement.words]
    const [, list] = words.splice(0, 2)
    if (words[0] === 'line') words.splice(0, 2)
    if (words[0] === 'remark') {
      this.note(statement, 'a remark')
      return
    }
    if (words[0] !== 'extended') {
      this.note(statement, 'only extended access-lists say who may reach whom')
      return
    }
    const action = words[1]
    if (action !== 'permit' && action !== 'deny') {
      this.note(statement, 'expected permit or deny')
      return
    }
    const entries = this.config.lists.get(list) ?? []
    this.config.lists.set(list, entries)
    try {
      const cursor = new Cursor(words.slice(2))
      const traffic = this.objects.traffic(cursor)
      const { inactive, timed, icmp } = options(cursor)
      if (inactive) {
        this.note(statement, 'inactive: not in force, and not carried over')
        return
      }
      if (icmp) this.note(statement, 'a type of ICMP: every type is carried over')
      if (timed && action === 'deny') {
        this.note(statement, 'a time-range: a denial for some of the time is none')
        return
      }
      if (timed) this.note(statement, 'a time-range: carried over as allowed at all times')
      entries.push({ line: statement.line, text: statement.text, action, traffic })
    } catch (error) {
      if (!(error instanceof Unread)) throw error
      const wider = action === 'deny' ? '; what it denies may be allowed by an entry behind it' : ''
      this.note(statement, `${error.message}${wider}`)
    }
  }

  private accessGroup({ words, line }: Statement): void {
    const [, list, where, word, nameif] = words
    if (where === 'global') this.config.groups.push({ list, where, nameif: null, line })
    else if ((where === 'in' || where === 'out') && word === 'interface' && nameif !== undefined) {
      this.config.groups.push({ list, where, nameif, line })
      if (words[5] === 'control-plane') throw new Unread('control-plane: traffic to the device itself, not through it')
    } else throw new Unread('expected `in interface NAME`, `out interface NAME` or `global`')
  }

  private logging(statement: Statement): void {
    const [, what, nameif, address, how] = statement.words
    const { logging } = this.config
    if (what === 'enable') logging.enabled = true
    else if (what === 'trap') {
      const level = TRAP_LEVELS.find(([name], index) => name === nameif || `${index}` === nameif)
      if (level === undefined) throw new Unread(`${nameif} is no level of logging`)
      logging.trap = level
    } else if (what === 'host' && address !== undefined) {
      const base = this.objects.addressOf(address)
      if (base === null) throw new Unread(`${address} is no address`)
      const match = /^(tcp|udp|6|17)\/(\d{1,5})$/.exec(how ?? 'udp/514')
      if (match === null) throw new Unread(`"${how}" is not known for a host of logging`)
      const transport = match[1] === 'tcp' || match[1] === '6' ? 'tcp' : 'udp'
      const block = { base, bits: 128, text: address }
      logging.hosts.push({ nameif, address: block, transport, port: Number(match[2]), line: statement.line })
      if (statement.words.includes('secure')) this.note(statement, 'secure: give the url as tls://, with its ca')
    } else throw new Unread('logging on the device itself')
  }
}

const OTHER: ReadonlyMap<string, string> = new Map(
  Object.entries({
    hostname: 'the name of the device; see gateway.name',
    ASA: 'the version of the software',
    nat: 'address translation: zones and rules are written with the addresses behind it',
    'threat-detection': 'Headgate has limits: see limits of a protocol',
    static: 'address translation: zones and rules are written with the addresses behind it',
    'time-range': 'times: rules are in force at all times',
    http: 'management of the device',
    ssh: 'management of the device',
    telnet: 'management of the device',
    aaa: 'management of the device',
    username: 'management of the device',
    enable: 'management of the device',
    'snmp-server': 'management of the device',
    ntp: 'the clock of the device',
    crypto: 'tunnels: a conduit has no encryption of its own',
    'tunnel-group': 'tunnels: a conduit has no encryption of its own',
    failover: 'redundancy of the device',
  }),
)
