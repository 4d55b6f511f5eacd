/** Reads a Cisco ASA or ISA-3000 configuration, as far as it says who may reach whom, and lists what it cannot carry over. */
import { parseAddress, parseBlock } from '../../policy/address.ts'
import type { AddressBlock } from '../../policy/model.ts'
import { parseFunction } from '../../protocols/modbus/function-codes.ts'
import {
  ANY_ADDRESS,
  ANY_MODBUS,
  ANY_PORT,
  ANY_TRANSPORT,
  ANY4,
  ANY6,
  blockSpans,
  ICMP,
  ICMP6,
  modbusContent,
  TCP,
  UDP,
} from '../flows.ts'
import { EMPTY, equal, type Span, type Spans, span, subtract, union } from '../sets.ts'
import { PORTS, PROTOCOLS, TRAP_LEVELS } from './names.ts'
import { readStatements, type Statement } from './statements.ts'

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

/** One kind of traffic that an entry is for. */
export interface Traffic {
  transport: Spans
  from: Spans
  sourcePort: Spans
  to: Spans
  port: Spans
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

/** A line that cannot be read: why. */
class Unread extends Error {}

const MAX_NOTES = 2000

export function readAsaConfig(text: string): AsaConfig {
  return new Reader(readStatements(text)).read()
}

interface ModbusMap {
  content: Spans
  action: 'drop' | 'reset'
  line: number
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
  private readonly names = new Map<string, bigint>()
  private readonly networks = new Map<string, Statement>()
  private readonly services = new Map<string, Statement>()
  private readonly groups = new Map<string, Statement>()
  private readonly maps = new Map<string, ModbusMap>()
  private readonly modbusClasses = new Map<string, Statement>()
  private readonly classes = new Map<string, Statement>()
  private readonly policies = new Map<string, Statement>()
  private readonly applied: { name: string; nameif: string | null; line: number }[] = []

  constructor(statements: Statement[]) {
    this.statements = statements
  }

  read(): AsaConfig {
    // What is referred to may stand behind what refers to it.
    for (const statement of this.statements) this.collect(statement)
    for (const statement of this.statements) this.statement(statement)
    this.applyPolicies()
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

  private collect(statement: Statement): void {
    const [verb, kind, name] = statement.words
    if (verb === 'name' && name !== undefined) {
      const address = parseAddress(kind ?? '')
      if (address !== null) this.names.set(name, address)
    } else if (verb === 'object' && name !== undefined) {
      if (kind === 'network') this.networks.set(name, statement)
      else if (kind === 'service') this.services.set(name, statement)
    } else if (verb === 'object-group' && name !== undefined) this.groups.set(name, statement)
    else if (verb === 'class-map') {
      if (statement.words[1] === 'type') {
        if (statement.words[2] === 'inspect' && statement.words[3] === 'modbus') {
          this.modbusClasses.set(statement.words.at(-1) ?? '', statement)
        }
      } else this.classes.set(statement.words.at(-1) ?? '', statement)
    } else if (verb === 'policy-map' && kind !== 'type') this.policies.set(kind ?? '', statement)
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
      'class-map': () => this.classMap(statement),
      'policy-map': () => (words[1] === 'type' ? this.inspectMap(statement) : this.policyMap(statement)),
      'service-policy': () => this.servicePolicy(statement),
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
      } else if (!(verb === 'no' && second === 'shutdown')) {
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
        this.serviceObject(name)
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
        this.networkObject(name)
      })
    }
  }

  private group(statement: Statement): void {
    const [, kind, name] = statement.words
    this.try(statement, () => {
      if (kind === 'network') this.config.networkGroups.set(name, this.networkGroup(name, 0))
      else if (kind === 'service') this.serviceGroup(name, 0)
      else if (kind === 'protocol') this.protocolGroup(name, 0)
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
      const traffic = this.traffic(cursor)
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

  /** `PROTOCOL SOURCE [PORT] DESTINATION [PORT]`, each of which may be an object or a group. */
  private traffic(cursor: Cursor): Traffic[] {
    const services = this.protocols(cursor)
    const from = this.address(cursor)
    const sourcePort = this.ports(cursor)
    const to = this.address(cursor)
    const port = this.ports(cursor)
    return services.map((service) => {
      const some = service.transport.every(([low]) => low === 6n || low === 17n)
      if (!some && (sourcePort !== null || port !== null)) throw new Unread('ports go with tcp and udp alone')
      return {
        transport: service.transport,
        from,
        sourcePort: sourcePort ?? service.sourcePort,
        to,
        port: port ?? service.port,
      }
    })
  }

  private protocols(cursor: Cursor): Pick<Traffic, 'transport' | 'sourcePort' | 'port'>[] {
    const word = cursor.next('a protocol')
    if (word === 'object') return [this.serviceObject(cursor.next('a service'))]
    if (word === 'object-group') {
      const name = cursor.next('a group')
      const kind = this.groups.get(name)?.words[1]
      if (kind === 'protocol') return [{ transport: this.protocolGroup(name, 0), sourcePort: ANY_PORT, port: ANY_PORT }]
      if (kind === 'service') return this.serviceGroup(name, 0)
      throw new Unread(`no object-group of protocols or services is called ${name}`)
    }
    return [{ transport: transportOf(word), sourcePort: ANY_PORT, port: ANY_PORT }]
  }

  private address(cursor: Cursor): Spans {
    const word = cursor.next('an address')
    switch (word) {
      case 'any':
        return ANY_ADDRESS
      case 'any4':
        return ANY4
      case 'any6':
        return ANY6
      case 'host':
        return this.host(cursor.next('an address'))
      case 'object':
        return this.networkObject(cursor.next('an object'))
      case 'object-group':
        return this.networkGroup(cursor.next('a group'), 0)
      case 'interface':
        throw new Unread("the device's own address on an interface")
      case 'user':
      case 'user-group':
      case 'object-group-user':
      case 'security-group':
      case 'object-group-security':
        throw new Unread('users and security groups have no address')
    }
    if (word.includes(':')) return blockSpans([ipv6Network(word.includes('/') ? word : `${word}/128`)])
    const mask = cursor.next('a mask')
    return blockSpans([networkOf(this.names.has(word) ? dotted(this.names.get(word)) : word, mask)])
  }

  private host(text: string): Spans {
    const base = this.names.get(text) ?? parseAddress(text)
    if (base === null) throw new Unread(`${text} is no address, and no name of this configuration`)
    return [[base, base]]
  }

  /** null where none are given. */
  private ports(cursor: Cursor): Spans | null {
    const word = cursor.peek()
    if (word === 'object-group' && this.groups.get(cursor.peek(1) ?? '')?.words[1] === 'service') {
      cursor.next('')
      const all = this.serviceGroup(cursor.next('a group'), 0)
      return all.map(({ port }) => port).reduce(union, EMPTY)
    }
    return operator(cursor)
  }

  private networkObject(name: string): Spans {
    const statement = this.networks.get(name)
    if (statement === undefined) throw new Unread(`no object network is called ${name}`)
    for (const { words } of statement.children) {
      if (words[0] === 'host') return this.host(words[1] ?? '')
      if (words[0] === 'subnet')
        return blockSpans([words[1]?.includes(':') ? ipv6Network(words[1]) : networkOf(words[1], words[2])])
      if (words[0] === 'range') return [spanOf(this.host(words[1] ?? ''), this.host(words[2] ?? ''))]
    }
    throw new Unread(`object network ${name} has no address`)
  }

  private networkGroup(name: string, depth: number): Spans {
    const statement = this.expect(name, 'network', depth)
    let all: Spans = EMPTY
    for (const child of statement.children) {
      const [verb, second, third] = child.words
      if (verb === 'description') continue
      if (verb === 'group-object') all = union(all, this.networkGroup(second ?? '', depth + 1))
      else if (verb !== 'network-object') throw new Unread(`"${child.text}" is not known in a group of networks`)
      else if (second === 'host') all = union(all, this.host(third ?? ''))
      else if (second === 'object') all = union(all, this.networkObject(third ?? ''))
      else if (second?.includes(':')) all = union(all, blockSpans([ipv6Network(second)]))
      else all = union(all, blockSpans([networkOf(second, third)]))
    }
    return all
  }

  private serviceObject(name: string): Pick<Traffic, 'transport' | 'sourcePort' | 'port'> {
    const child = this.services.get(name)?.children.find(({ words }) => words[0] === 'service')
    if (child === undefined) throw new Unread(`no object service is called ${name}`)
    return serviceOf(new Cursor(child.words.slice(1)))
  }

  private serviceGroup(name: string, depth: number): Pick<Traffic, 'transport' | 'sourcePort' | 'port'>[] {
    const statement = this.expect(name, 'service', depth)
    const over = statement.words[3]
    const transport = over === 'tcp' ? TCP : over === 'udp' ? UDP : union(TCP, UDP)
    return statement.children.flatMap((child) => {
      const [verb, second, third] = child.words
      if (verb === 'description') return []
      if (verb === 'group-object') return this.serviceGroup(second ?? '', depth + 1)
      if (verb === 'port-object') {
        const port = operator(new Cursor(child.words.slice(1)))
        if (port === null) throw new Unread(`"${child.text}" names no port`)
        return [{ transport, sourcePort: ANY_PORT, port }]
      }
      if (verb !== 'service-object') throw new Unread(`"${child.text}" is not known in a group of services`)
      if (second === 'object') return [this.serviceObject(third ?? '')]
      const cursor = new Cursor(child.words.slice(1))
      if (cursor.peek() === 'tcp-udp') {
        cursor.next('')
        return [{ ...serviceOf(new Cursor(['tcp', ...cursor.rest()])), transport: union(TCP, UDP) }]
      }
      return [serviceOf(cursor)]
    })
  }

  private protocolGroup(name: string, depth: number): Spans {
    const statement = this.expect(name, 'protocol', depth)
    let all: Spans = EMPTY
    for (const { words } of statement.children) {
      if (words[0] === 'group-object') all = union(all, this.protocolGroup(words[1] ?? '', depth + 1))
      else if (words[0] === 'protocol-object') all = union(all, transportOf(words[1] ?? ''))
    }
    return all
  }

  private expect(name: string, kind: string, depth: number): Statement {
    const statement = this.groups.get(name)
    if (statement === undefined || statement.words[1] !== kind)
      throw new Unread(`no object-group ${kind} is called ${name}`)
    if (depth > 16) throw new Unread(`object-group ${name} contains itself`)
    return statement
  }

  private accessGroup({ words, line }: Statement): void {
    const [, list, where, word, nameif] = words
    if (where === 'global') this.config.groups.push({ list, where, nameif: null, line })
    else if ((where === 'in' || where === 'out') && word === 'interface' && nameif !== undefined) {
      this.config.groups.push({ list, where, nameif, line })
      if (words[5] === 'control-plane') throw new Unread('control-plane: traffic to the device itself, not through it')
    } else throw new Unread('expected `in interface NAME`, `out interface NAME` or `global`')
  }

  private classMap(statement: Statement): void {
    const { words } = statement
    if (words[1] === 'type' && !(words[2] === 'inspect' && words[3] === 'modbus')) {
      this.unknown(statement, 'a class for an inspection that Headgate has no word for')
    }
  }

  /** `policy-map type inspect modbus NAME`. */
  private inspectMap(statement: Statement): void {
    const [, , type, protocol, name] = statement.words
    if (type !== 'inspect' || protocol !== 'modbus' || name === undefined) {
      this.unknown(statement, 'an inspection that Headgate has no word for')
      return
    }
    const lists = { allowed: EMPTY, denied: EMPTY, action: 'drop' as 'drop' | 'reset' }
    this.modbusMatches(statement.children, lists, null)
    // Where functions are listed without an action, the list is what passes; else all passes but what is dropped.
    const base = lists.allowed.length > 0 ? lists.allowed : ANY_MODBUS
    this.maps.set(name, { content: subtract(base, lists.denied), action: lists.action, line: statement.line })
  }

  private modbusMatches(
    children: readonly Statement[],
    lists: { allowed: Spans; denied: Spans; action: 'drop' | 'reset' },
    above: string[] | null,
  ): void {
    for (const child of children) {
      const [verb, second] = child.words
      if (verb === 'parameters') this.modbusMatches(child.children, lists, null)
      else if (verb === 'description') continue
      else if (verb === 'class') {
        const inner = this.modbusClasses.get(second ?? '')
        if (inner === undefined) this.note(child, `no class-map type inspect modbus is called ${second}`)
        else this.modbusMatches(inner.children, lists, actionsOf(child.children))
      } else if (verb === 'match') {
        this.try(child, () => {
          const { content, actions } = functionsOf(child.words.slice(1))
          const all = [...actions, ...actionsOf(child.children), ...(above ?? [])]
          const drop = all.some((word) => /^(?:drop|drop-connection|reset|deny|block)$/.test(word))
          if (all.includes('reset')) lists.action = 'reset'
          if (drop) lists.denied = union(lists.denied, content)
          else lists.allowed = union(lists.allowed, content)
        })
      } else this.note(child, 'not known in an inspection of Modbus')
    }
  }

  private policyMap(statement: Statement): void {
    for (const child of statement.children) {
      if (child.words[0] !== 'class') {
        if (child.words[0] !== 'description') this.note(child, 'not known in a policy-map')
        continue
      }
      for (const action of child.children) {
        if (action.words[0] === 'inspect' && action.words[1] === 'modbus') continue
        const why =
          action.words[0] === 'inspect'
            ? `Headgate has no inspection of ${action.words[1]}`
            : 'not known in a policy-map'
        this.note(action, why)
      }
    }
  }

  private servicePolicy(statement: Statement): void {
    const [, name, where, nameif] = statement.words
    if (where === 'global') this.applied.push({ name, nameif: null, line: statement.line })
    else if (where === 'interface' && nameif !== undefined) this.applied.push({ name, nameif, line: statement.line })
    else this.note(statement, 'expected `global` or `interface NAME`')
  }

  /** In the order of the device: policies of interfaces before the global one, classes as they stand. */
  private applyPolicies(): void {
    // Devices come with `service-policy global_policy global`, and excerpts leave it out.
    const applied = [...this.applied]
    if (this.policies.has('global_policy') && !applied.some(({ nameif }) => nameif === null)) {
      applied.push({ name: 'global_policy', nameif: null, line: 0 })
    }
    applied.sort((a, b) => Number(a.nameif === null) - Number(b.nameif === null))
    const used = new Set<string>()
    for (const { name, nameif, line } of applied) {
      const policy = this.policies.get(name)
      if (policy === undefined) {
        this.note({ line, text: `service-policy ${name}` }, `no policy-map is called ${name}`)
        continue
      }
      used.add(name)
      for (const child of policy.children) this.inspection(child, nameif)
    }
    for (const [name, statement] of this.policies) {
      const inspects = statement.children.some(({ children }) => children.some(({ words }) => words[1] === 'modbus'))
      if (inspects && !used.has(name))
        this.note(statement, 'no service-policy applies it: Modbus is not looked into by it')
    }
  }

  private inspection(statement: Statement, nameif: string | null): void {
    const action = statement.children.find(({ words }) => words[0] === 'inspect' && words[1] === 'modbus')
    if (statement.words[0] !== 'class' || action === undefined) return
    const name = action.words[2]
    const map = name === undefined ? { content: ANY_MODBUS, action: 'drop' as const } : this.maps.get(name)
    if (map === undefined) {
      this.note(action, `no policy-map type inspect modbus is called ${name}`)
      return
    }
    this.try(statement, () => {
      const traffic = this.classTraffic(statement.words[1] ?? '')
      this.config.inspections.push({ traffic, nameif, content: map.content, action: map.action, line: action.line })
    })
  }

  /** What a class-map of layer 3 and 4 matches. */
  private classTraffic(name: string): Traffic[] {
    const tcp = (port: Spans): Traffic => ({
      transport: TCP,
      from: ANY_ADDRESS,
      sourcePort: ANY_PORT,
      to: ANY_ADDRESS,
      port,
    })
    if (name === 'class-default') return [tcp(ANY_PORT)]
    const statement = this.classes.get(name)
    if (statement === undefined) {
      if (name === 'inspection_default') return [tcp(span(502))]
      throw new Unread(`no class-map is called ${name}`)
    }
    return statement.children.flatMap((child): Traffic[] => {
      const [verb, what, second] = child.words
      if (verb !== 'match') return []
      if (what === 'any') return [tcp(ANY_PORT)]
      if (what === 'default-inspection-traffic') return [tcp(span(502))]
      if (what === 'port') {
        const port = operator(new Cursor(child.words.slice(3)))
        if (port === null || second !== 'tcp') throw new Unread(`"${child.text}": Modbus runs on ports of tcp`)
        return [tcp(port)]
      }
      if (what !== 'access-list') throw new Unread(`"${child.text}" is not known in a class`)
      const entries = this.config.lists.get(second ?? '')
      if (entries === undefined) throw new Unread(`no access-list is called ${second}`)
      if (entries.some(({ action }) => action === 'deny')) {
        throw new Unread(`access-list ${second} of a class has denials: which traffic is looked into cannot be told`)
      }
      return entries.flatMap(({ traffic }) => traffic)
    })
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
      const base = this.names.get(address) ?? parseAddress(address)
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

/** Words that are taken from the left. */
class Cursor {
  private readonly words: readonly string[]
  private at = 0
  constructor(words: readonly string[]) {
    this.words = words
  }
  peek(ahead = 0): string | undefined {
    return this.words[this.at + ahead]
  }
  next(what: string): string {
    const word = this.words[this.at++]
    if (word === undefined) throw new Unread(`expected ${what} at the end of the line`)
    return word
  }
  rest(): string[] {
    return this.words.slice(this.at)
  }
}

function transportOf(word: string): Spans {
  if (word === 'ip' || word === '0') return ANY_TRANSPORT
  if (word === 'icmp') return ICMP
  if (word === 'icmp6') return ICMP6
  const number = PROTOCOLS.get(word) ?? (/^\d{1,3}$/.test(word) ? Number(word) : null)
  if (number === null || number > 255) throw new Unread(`${word} is no protocol`)
  return span(number)
}

function portOf(word: string): number {
  const port = PORTS.get(word) ?? (/^\d{1,5}$/.test(word) ? Number(word) : null)
  if (port === null || port > 65535) throw new Unread(`${word} is no port`)
  return port
}

/** `eq P`, `neq P`, `lt P`, `gt P`, `range P Q`; null where none of them comes next. */
function operator(cursor: Cursor): Spans | null {
  const word = cursor.peek()
  if (word === undefined || !['eq', 'neq', 'lt', 'gt', 'range'].includes(word)) return null
  cursor.next('')
  const port = portOf(cursor.next('a port'))
  if (word === 'eq') return span(port)
  if (word === 'neq') return subtract(ANY_PORT, span(port))
  if (word === 'lt') return port === 0 ? EMPTY : span(0, port - 1)
  if (word === 'gt') return port === 65535 ? EMPTY : span(port + 1, 65535)
  const last = portOf(cursor.next('a port'))
  if (last < port) throw new Unread(`a range of ports from ${port} down to ${last}`)
  return span(port, last)
}

/** `tcp source eq 1 destination eq 502`, `icmp`, `ip`. */
function serviceOf(cursor: Cursor): Pick<Traffic, 'transport' | 'sourcePort' | 'port'> {
  const transport = transportOf(cursor.next('a protocol'))
  const found = { transport, sourcePort: ANY_PORT, port: ANY_PORT }
  for (let word = cursor.peek(); word !== undefined; word = cursor.peek()) {
    if (word !== 'source' && word !== 'destination') {
      const port = operator(cursor)
      if (port === null) throw new Unread(`"${word}" is not known in a service`)
      found.port = port
      continue
    }
    cursor.next('')
    const port = operator(cursor)
    if (port === null) throw new Unread(`expected a port after ${word}`)
    if (word === 'source') found.sourcePort = port
    else found.port = port
  }
  return found
}

/** What may stand behind the addresses of an entry. */
function options(cursor: Cursor): { inactive: boolean; timed: boolean; icmp: boolean } {
  const found = { inactive: false, timed: false, icmp: false }
  for (let word = cursor.peek(); word !== undefined; word = cursor.peek()) {
    cursor.next('')
    if (word === 'log') {
      // `log [LEVEL] [interval SECONDS]`, `log disable`, `log default`
      while (
        /^(?:\d|[a-z]+)$/.test(cursor.peek() ?? '') &&
        !['inactive', 'time-range', 'interval'].includes(cursor.peek() ?? '')
      )
        cursor.next('')
      if (cursor.peek() === 'interval') {
        cursor.next('')
        cursor.next('a number of seconds')
      }
    } else if (word === 'inactive') found.inactive = true
    else if (word === 'time-range') {
      cursor.next('the name of a time-range')
      found.timed = true
    } else if (
      /^(?:\d{1,3}|echo|echo-reply|unreachable|time-exceeded|redirect|traceroute|[a-z-]+-(?:request|reply))$/.test(word)
    )
      found.icmp = true
    else throw new Unread(`"${word}" is not known at the end of an entry`)
  }
  return found
}

/** `[not] func-code NAME… [action] drop log`. */
function functionsOf(words: readonly string[]): { content: Spans; actions: string[] } {
  const negative = words[0] === 'not'
  const rest = words.slice(negative ? 1 : 0)
  if (rest[0] !== 'func-code') throw new Unread(`"match ${rest[0]}" is not known in an inspection of Modbus`)
  let content: Spans = EMPTY
  let at = 1
  for (
    ;
    at < rest.length && !/^(?:action|drop|drop-connection|reset|log|allow|permit|deny|pass|block)$/.test(rest[at]);
    at++
  ) {
    if (rest[at] === 'range') {
      const [low, high] = [Number(rest[at + 1]), Number(rest[at + 2])]
      if (!(low >= 1 && high <= 127 && low <= high)) throw new Unread('a range of function codes is of 1 to 127')
      for (let code = low; code <= high; code++) content = union(content, modbusContent(code, null))
      at += 2
      continue
    }
    const selectors = parseFunction(rest[at])
    if (selectors === null) throw new Unread(`${rest[at]} is no function of Modbus`)
    for (const { code, sub } of selectors) content = union(content, modbusContent(code, sub))
  }
  if (content.length === 0) throw new Unread('no function is named')
  return { content: negative ? subtract(ANY_MODBUS, content) : content, actions: rest.slice(at) }
}

const actionsOf = (children: readonly Statement[]): string[] => children.flatMap(({ words }) => words)

const dotted = (address: bigint | undefined): string =>
  [24n, 16n, 8n, 0n].map((shift) => `${((address ?? 0n) >> shift) & 0xffn}`).join('.')

/** An IPv4 network by address and mask; bits behind the mask are cut off, as the device does. */
function networkOf(address: string | undefined, mask: string | undefined): AddressBlock {
  const base = parseAddress(address ?? '')
  const bits = parseAddress(mask ?? '')
  if (base === null || bits === null || (address ?? '').includes(':'))
    throw new Unread(`"${address} ${mask}" is no network`)
  const ones = bits & 0xffffffffn
  const inverted = ones ^ 0xffffffffn
  if ((inverted & (inverted + 1n)) !== 0n) throw new Unread(`${mask} is no mask: its bits are not in one run`)
  const prefix = 32 - inverted.toString(2).replace(/^0$/, '').length
  const low = base & ~inverted
  const block = parseBlock(`${dotted(low)}/${prefix}`)
  if (typeof block === 'string' || 'hostBits' in block) throw new Unread(`"${address} ${mask}" is no network`)
  return block
}

function ipv6Network(text: string): AddressBlock {
  const block = parseBlock(text)
  if (typeof block === 'string') throw new Unread(`${text} is no network`)
  if (!('hostBits' in block)) return block
  const cut = parseBlock(block.hostBits)
  if (typeof cut === 'string' || 'hostBits' in cut) throw new Unread(`${text} is no network`)
  return cut
}

function spanOf(low: Spans, high: Spans): Span {
  if (low[0][0] > high[0][0]) throw new Unread('a range of addresses goes upwards')
  return [low[0][0], high[0][0]]
}

/** Whether a set is that of any address. */
export const isAny = (set: Spans): boolean => [ANY_ADDRESS, ANY4, ANY6].some((one) => equal(one, set))
