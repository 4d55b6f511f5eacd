/** Names, objects and groups of an ASA configuration, and the traffic that entries describe with them. */
import { parseAddress } from '../../policy/address.ts'
import { ANY_ADDRESS, ANY_PORT, ANY4, ANY6, blockSpans, TCP, UDP } from '../flows.ts'
import { EMPTY, type Spans, union } from '../sets.ts'
import type { Statement } from './statements.ts'
import {
  Cursor,
  dotted,
  ipv6Network,
  networkOf,
  operator,
  type Service,
  serviceOf,
  spanOf,
  type Traffic,
  transportOf,
  Unread,
} from './words.ts'

export class Objects {
  private readonly names = new Map<string, bigint>()
  private readonly networks = new Map<string, Statement>()
  private readonly services = new Map<string, Statement>()
  private readonly groups = new Map<string, Statement>()

  /** Takes up what a statement defines. */
  collect(statement: Statement): void {
    const [verb, kind, name] = statement.words
    if (name === undefined) return
    if (verb === 'name') {
      const address = parseAddress(kind)
      if (address !== null) this.names.set(name, address)
    } else if (verb === 'object' && kind === 'network') this.networks.set(name, statement)
    else if (verb === 'object' && kind === 'service') this.services.set(name, statement)
    else if (verb === 'object-group') this.groups.set(name, statement)
  }

  /** An address, or a name for one; null where it is neither. */
  addressOf(text: string): bigint | null {
    return this.names.get(text) ?? parseAddress(text)
  }

  /** `PROTOCOL SOURCE [PORT] DESTINATION [PORT]`, each of which may be an object or a group. */
  traffic(cursor: Cursor): Traffic[] {
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

  private protocols(cursor: Cursor): Service[] {
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

  host(text: string): Spans {
    const base = this.addressOf(text)
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

  networkObject(name: string): Spans {
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

  networkGroup(name: string, depth: number): Spans {
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

  serviceObject(name: string): Service {
    const child = this.services.get(name)?.children.find(({ words }) => words[0] === 'service')
    if (child === undefined) throw new Unread(`no object service is called ${name}`)
    return serviceOf(new Cursor(child.words.slice(1)))
  }

  serviceGroup(name: string, depth: number): Service[] {
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

  protocolGroup(name: string, depth: number): Spans {
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
}
