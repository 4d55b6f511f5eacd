/** Addresses and blocks of addresses, as 128-bit integers; IPv4 is held as IPv4-mapped IPv6 (RFC 4291 §2.5.5.2). */
import ipaddr from 'ipaddr.js'
import type { AddressBlock } from './model.ts'

const MAPPED = 0xffff_0000_0000n

/** @returns the address, or null where the text is not a literal IPv4 or IPv6 address */
export function parseAddress(text: string): bigint | null {
  // Octal, hexadecimal and short forms of IPv4 mean different things to different programs: four decimal parts only.
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return MAPPED | integer(ipaddr.IPv4.parse(text).toByteArray())
  if (!text.includes(':') || text.includes('%') || !ipaddr.IPv6.isValid(text)) return null
  return integer(ipaddr.IPv6.parse(text).toByteArray())
}

const integer = (bytes: readonly number[]): bigint => bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n)

export type BlockError = 'not an address' | 'prefix length out of range' | { hostBits: string }

/** Reads `10.20.0.0/16`, `fd00::/8` or a single address. A block with bits set behind its prefix is an error. */
export function parseBlock(text: string): AddressBlock | BlockError {
  const slash = text.indexOf('/')
  const host = slash === -1 ? text : text.slice(0, slash)
  const base = parseAddress(host)
  if (base === null) return 'not an address'
  const four = !host.includes(':')
  if (slash === -1) return { base, bits: 128, text }
  const prefix = text.slice(slash + 1)
  if (!/^\d{1,3}$/.test(prefix) || Number(prefix) > (four ? 32 : 128)) return 'prefix length out of range'
  const bits = Number(prefix) + (four ? 96 : 0)
  const mask = bits === 0 ? 0n : ((1n << BigInt(bits)) - 1n) << BigInt(128 - bits)
  if ((base & mask) !== base) return { hostBits: `${formatAddress(base & mask)}/${prefix}` }
  return { base, bits, text }
}

/** Canonical text: dotted for IPv4 and IPv4-mapped addresses, RFC 5952 for others. */
export function formatAddress(address: bigint): string {
  const bytes = Array.from({ length: 16 }, (_, i) => Number((address >> BigInt(8 * (15 - i))) & 0xffn))
  if (address >> 32n === 0xffffn) return bytes.slice(12).join('.')
  return new ipaddr.IPv6(bytes).toRFC5952String()
}

export function blockHolds(block: AddressBlock, address: bigint): boolean {
  return (address ^ block.base) >> BigInt(128 - block.bits) === 0n
}

export const blocksOverlap = (a: AddressBlock, b: AddressBlock): boolean =>
  a.bits <= b.bits ? blockHolds(a, b.base) : blockHolds(b, a.base)

/** All of `inner` lies in one of `outer`. */
export const blockWithin = (inner: AddressBlock, outer: readonly AddressBlock[]): boolean =>
  outer.some((block) => block.bits <= inner.bits && blockHolds(block, inner.base))
