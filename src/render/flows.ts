/**
 * What a document or a firewall allows, as a set: who may send what to whom. Two configurations say the same where their
 * sets are equal, whatever words they are written in. A flow is a box: a product of sets, one for each dimension.
 */
import { formatAddress } from '../policy/address.ts'
import type { AddressBlock } from '../policy/model.ts'
import { intersect, numbers, type Span, type Spans, size, span, spans, subtract, union } from './sets.ts'

export const DIMENSIONS = [
  'from',
  'to',
  'transport',
  'sourcePort',
  'port',
  'content',
  'unit',
  'address',
  'value',
] as const
export type Dimension = (typeof DIMENSIONS)[number]

/** Addresses are of the 128-bit space of `policy/address.ts`; `transport` is the IP protocol number. */
export type Flow = Readonly<Record<Dimension, Spans>>

const TOP = (1n << 128n) - 1n
export const ANY_ADDRESS: Spans = [[0n, TOP]]
/** IPv4 is held as IPv4-mapped IPv6; ASA's `any6` and nftables' `ip6` mean all that is not. */
export const ANY4: Spans = [[0xffffn << 32n, (0xffffn << 32n) | 0xffffffffn]]
export const ANY6: Spans = subtract(ANY_ADDRESS, ANY4)
export const ANY_PORT = span(0, 65535)
export const ANY_TRANSPORT = span(0, 255)
export const TCP = span(6)
export const UDP = span(17)
export const ICMP = span(1)
export const ICMP6 = span(58)

/** Content: what the bytes of a connection are. 0 stands for all that is no message of a protocol that is looked into. */
const MODBUS_BASE = 1n << 32n
const OPCUA_BASE = 1n << 33n
const CONTENT_TOP = (1n << 34n) - 1n
export const ANY_CONTENT: Spans = [[0n, CONTENT_TOP]]
/** Every message of OPC UA; of Modbus, every function code 1…127. */
export const ANY_OPCUA: Spans = [[OPCUA_BASE, OPCUA_BASE | 0xffff_ffffn]]
export const ANY_MODBUS: Spans = [[MODBUS_BASE | (1n << 16n), MODBUS_BASE | (127n << 16n) | 0xffffn]]

/** A function code with its sub-functions, or one of them. */
export function modbusContent(code: number, sub: number | null): Spans {
  const base = MODBUS_BASE | (BigInt(code) << 16n)
  return sub === null ? [[base, base | 0xffffn]] : [[base | BigInt(sub), base | BigInt(sub)]]
}
/** A request of OPC UA by its type id. */
export const opcuaContent = (service: number): Spans => span(OPCUA_BASE | BigInt(service))

/** More sub-functions of one code than this are told by those that are not there. */
const FEW = 16

export interface ModbusFunctions {
  code: number
  /** null: all of the code, but for `without`. */
  sub: number | null
  without: number[]
}

/** The functions of some content, by code. */
export function modbusFunctions(content: Spans): ModbusFunctions[] {
  const found: ModbusFunctions[] = []
  for (let code = 1; code <= 127; code++) {
    const all = modbusContent(code, null)
    const some = intersect(content, all)
    const subs = (set: Spans): number[] => [...numbers(set)].map((n) => n % 0x10000)
    if (some.length === 0) continue
    if (size(some) <= FEW) for (const sub of subs(some)) found.push({ code, sub, without: [] })
    else found.push({ code, sub: null, without: size(subtract(all, some)) <= 0x1000n ? subs(subtract(all, some)) : [] })
  }
  return found
}

export function opcuaServices(content: Spans, all: readonly number[]): number[] {
  return all.filter((service) => intersect(content, opcuaContent(service)).length > 0)
}

/** Neither address nor unit nor value is looked at. */
const OPEN = {
  transport: ANY_TRANSPORT,
  sourcePort: ANY_PORT,
  port: ANY_PORT,
  content: ANY_CONTENT,
  unit: span(0, 255),
  address: span(0, 65535),
  value: span(0, 65535),
}

/** A flow with all that is not given left open. */
export const flow = (given: Pick<Flow, 'from' | 'to'> & Partial<Flow>): Flow => ({ ...OPEN, ...given })

export const isEmpty = (one: Flow): boolean => DIMENSIONS.some((dimension) => one[dimension].length === 0)

/** What both allow; null where that is nothing. */
export function meet(a: Flow, b: Flow): Flow | null {
  const both: Record<string, Spans> = {}
  for (const dimension of DIMENSIONS) {
    const common = a[dimension] === b[dimension] ? a[dimension] : intersect(a[dimension], b[dimension])
    if (common.length === 0) return null
    both[dimension] = common
  }
  return both as Flow
}

/** More boxes than anybody reads; beyond it the difference is not worked out. */
const MAX_BOXES = 20_000
/** The difference of two configurations has too many pieces to be told. */
export class TooManyPieces extends Error {
  constructor() {
    super(`they differ in more than ${MAX_BOXES} pieces`)
  }
}

/** What `one` allows and `other` does not: at most a box for each dimension. */
export function without(one: Flow, other: Flow): Flow[] {
  if (meet(one, other) === null) return [one]
  const pieces: Flow[] = []
  let rest: Flow = one
  for (const dimension of DIMENSIONS) {
    const outside = subtract(rest[dimension], other[dimension])
    if (outside.length > 0) pieces.push({ ...rest, [dimension]: outside })
    rest = { ...rest, [dimension]: intersect(rest[dimension], other[dimension]) }
  }
  return pieces
}

/** What some of `flows` allows and none of `others` does. @throws TooManyPieces */
export function difference(flows: readonly Flow[], others: readonly Flow[]): Flow[] {
  const found: Flow[] = []
  for (const one of flows) {
    let pieces: Flow[] = [one]
    for (const other of [...others, ...found]) {
      pieces = pieces.flatMap((piece) => without(piece, other))
      if (pieces.length + found.length > MAX_BOXES) throw new TooManyPieces()
      if (pieces.length === 0) break
    }
    found.push(...pieces)
  }
  return merge(found)
}

/** Fewer boxes for the same set: those that differ in one dimension alone become one. */
export function merge(flows: readonly Flow[]): Flow[] {
  let boxes = [...flows]
  for (const dimension of DIMENSIONS) {
    const groups = new Map<string, Flow>()
    for (const one of boxes) {
      const key = keyOf(one, dimension)
      const same = groups.get(key)
      groups.set(key, same === undefined ? one : { ...same, [dimension]: union(same[dimension], one[dimension]) })
    }
    boxes = [...groups.values()]
  }
  return boxes
}

function keyOf(one: Flow, but: Dimension): string {
  let key = ''
  for (const dimension of DIMENSIONS) {
    if (dimension !== but) key += `${one[dimension].map(([low, high]) => `${low}-${high}`).join(',')};`
  }
  return key
}

export const blockSpans = (blocks: readonly AddressBlock[]): Spans =>
  spans(blocks.map(({ base, bits }): Span => [base, base | ((1n << BigInt(128 - bits)) - 1n)]))

/** The least CIDR blocks that make up a set of addresses. */
export function spansToBlocks(set: Spans): AddressBlock[] {
  const blocks: AddressBlock[] = []
  for (const [low, high] of splitFamilies(set)) {
    for (let at = low; at <= high; ) {
      let free = 0
      while (free < 128 && ((at >> BigInt(free)) & 1n) === 0n && at + (1n << BigInt(free + 1)) - 1n <= high) free++
      const bits = 128 - free
      blocks.push({ base: at, bits, text: blockText(at, bits) })
      at += 1n << BigInt(free)
    }
  }
  return blocks
}

/** A range across the border of IPv4-mapped addresses is written as two. */
const splitFamilies = (set: Spans): Spans => [...intersect(set, ANY6), ...intersect(set, ANY4)]

export const isIPv4 = (block: AddressBlock): boolean => block.bits >= 96 && block.base >> 32n === 0xffffn

function blockText(base: bigint, bits: number): string {
  const four = bits >= 96 && base >> 32n === 0xffffn
  const prefix = four ? bits - 96 : bits
  const address = formatAddress(base)
  return prefix === (four ? 32 : 128) ? address : `${address}/${prefix}`
}
