/** The words of an ASA configuration, taken from the left: protocols, ports, networks, and what may stand behind them. */
import { parseAddress, parseBlock } from '../../policy/address.ts'
import type { AddressBlock } from '../../policy/model.ts'
import { parseFunction } from '../../protocols/modbus/function-codes.ts'
import { ANY_MODBUS, ANY_PORT, ANY_TRANSPORT, ICMP, ICMP6, modbusContent } from '../flows.ts'
import { EMPTY, type Span, type Spans, span, subtract, union } from '../sets.ts'
import { PORTS, PROTOCOLS } from './names.ts'
import type { Statement } from './statements.ts'

/** A line that cannot be read: why. */
export class Unread extends Error {}

/** One kind of traffic that an entry is for. */
export interface Traffic {
  transport: Spans
  from: Spans
  sourcePort: Spans
  to: Spans
  port: Spans
}

/** Protocol and ports, before anybody is named. */
export type Service = Pick<Traffic, 'transport' | 'sourcePort' | 'port'>

/** Words that are taken from the left. */
export class Cursor {
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

export function transportOf(word: string): Spans {
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
export function operator(cursor: Cursor): Spans | null {
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
export function serviceOf(cursor: Cursor): Service {
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
export function options(cursor: Cursor): { inactive: boolean; timed: boolean; icmp: boolean } {
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
export function functionsOf(words: readonly string[]): { content: Spans; actions: string[] } {
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

export const actionsOf = (children: readonly Statement[]): string[] => children.flatMap(({ words }) => words)

export const dotted = (address: bigint | undefined): string =>
  [24n, 16n, 8n, 0n].map((shift) => `${((address ?? 0n) >> shift) & 0xffn}`).join('.')

/** An IPv4 network by address and mask; bits behind the mask are cut off, as the device does. */
export function networkOf(address: string | undefined, mask: string | undefined): AddressBlock {
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

export function ipv6Network(text: string): AddressBlock {
  const block = parseBlock(text)
  if (typeof block === 'string') throw new Unread(`${text} is no network`)
  if (!('hostBits' in block)) return block
  const cut = parseBlock(block.hostBits)
  if (typeof cut === 'string' || 'hostBits' in cut) throw new Unread(`${text} is no network`)
  return cut
}

export function spanOf(low: Spans, high: Spans): Span {
  if (low[0][0] > high[0][0]) throw new Unread('a range of addresses goes upwards')
  return [low[0][0], high[0][0]]
}
