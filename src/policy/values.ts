/**
 * The small notations of a policy document: levels, ranges, durations, endpoints. Each function takes a value as YAML
 * gives it and returns what it means, or a `Complaint`: what was expected, for a message.
 */
import { formatAddress, parseAddress, parseBlock } from './address.ts'
import type { AddressBlock, Range } from './model.ts'

/** What was expected where a value cannot be read. */
export class Complaint {
  readonly expected: string
  constructor(expected: string) {
    this.expected = expected
  }
}

const complain = (expected: string): Complaint => new Complaint(expected)
export const isComplaint = (value: unknown): value is Complaint => value instanceof Complaint

/** Word processors make dashes and minus signs of hyphens; all of them mean a range. */
export const plainDashes = (text: string): string => text.replaceAll(/[\u2010-\u2015\u2212]/g, '-')

/** `SL 2`, `SL2`, `SL-2`, `2` → 2 (IEC 62443-3-3: security levels 1 to 4; SL 0 asks for nothing). */
export function parseSecurityLevel(value: unknown): number | Complaint {
  const match = /^(?:SL[\s-]*(?:T|A|C)?[\s-]*)?([0-4])$/i.exec(String(value).trim())
  return match !== null && isText(value) ? Number(match[1]) : complain('a security level: "SL 1" to "SL 4"')
}

/** `1`, `3.5`, `"1-2"` → [low, high], 0 to 5 by the Purdue model. */
export function parsePurdueLevel(value: unknown): Range | Complaint {
  const match = /^([0-5](?:\.5)?)(?:\s*-\s*([0-5](?:\.5)?))?$/.exec(plainDashes(String(value).trim()))
  if (match === null || !isText(value)) return complain('a Purdue level, 0 to 5, or a range such as "1-2"')
  const low = Number(match[1])
  const high = Number(match[2] ?? match[1])
  return low <= high ? [low, high] : complain('a range of Purdue levels from low to high')
}

/** A day of the calendar: `2026-03-31`. */
export function parseDate(value: unknown): string | Complaint {
  const text = String(value).trim()
  const day = /^\d{4}-\d{2}-\d{2}$/.test(text) ? new Date(`${text}T00:00:00Z`) : null
  const real = day !== null && !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text)
  return real ? text : complain('a day, such as 2026-03-31')
}

/** `7`, `"7"`, `"1-16"`, hexadecimal with `0x` → [low, high]. */
export function parseRange(value: unknown, low: number, high: number, what: string): Range | Complaint {
  const expected = `${what} ${low} to ${high}, or a range such as "${low}-${Math.min(high, low + 99)}"`
  const match = /^(\d{1,6}|0x[0-9a-f]{1,5})(?:\s*-\s*(\d{1,6}|0x[0-9a-f]{1,5}))?$/i.exec(
    plainDashes(String(value).trim()),
  )
  if (match === null || !isText(value)) return complain(expected)
  const first = Number(match[1])
  const last = Number(match[2] ?? match[1])
  if (first > last) return complain('a range from low to high')
  return first >= low && last <= high ? [first, last] : complain(expected)
}

const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 }

/** A number of seconds, or a number with a unit: `0.5`, `500ms`, `5s`, `2m`, `1h`. @returns milliseconds */
export function parseDuration(value: unknown, lowMs: number, highMs: number): number | Complaint {
  const expected = `a duration from ${formatDuration(lowMs)} to ${formatDuration(highMs)}, such as 500ms, 5s, 2m, 1h`
  const match = /^(\d{1,9}(?:\.\d{1,3})?)\s*(ms|s|m|min|h|d)?$/.exec(String(value).trim())
  if (match === null || !isText(value)) return complain(expected)
  const ms = Math.round(Number(match[1]) * UNITS[match[2] ?? 's'])
  return ms >= lowMs && ms <= highMs ? ms : complain(expected)
}

/** @returns milliseconds in the largest unit that divides them: `1h`, `90s`, `250ms` */
export function formatDuration(ms: number): string {
  for (const [unit, size] of [
    ['h', 3_600_000],
    ['m', 60_000],
    ['s', 1000],
  ] as const) {
    if (ms >= size && ms % size === 0) return `${ms / size}${unit}`
  }
  return `${ms}ms`
}

/** A CIDR block or a single address. */
export function parseNetwork(value: unknown): AddressBlock | Complaint {
  if (typeof value !== 'string') return complain('an IPv4 or IPv6 address or CIDR block, such as 10.20.0.0/16')
  const block = parseBlock(value.trim())
  if (typeof block === 'string') {
    return complain(
      block === 'not an address'
        ? 'an IPv4 or IPv6 address or CIDR block, such as 10.20.0.0/16'
        : 'a prefix length of 0 to 32 (IPv4) or 0 to 128 (IPv6)',
    )
  }
  return 'hostBits' in block ? complain(`no address bits behind the prefix: ${block.hostBits}`) : block
}

/** A single address. */
export function parseHost(value: unknown): AddressBlock | Complaint {
  const base = typeof value === 'string' ? parseAddress(value.trim()) : null
  if (base === null) return complain('one IPv4 or IPv6 address, such as 10.20.1.10')
  return { base, bits: 128, text: formatAddress(base) }
}

export interface Endpoint {
  host: string
  /** null where the text has none. */
  port: number | null
}

/** `10.0.0.1:502`, `[fd00::1]:502`, `plc-01:502`; without a port the port is null. */
export function splitEndpoint(text: string): Endpoint | null {
  const match = /^(?:\[([^\]]*)\]|([^:[\]\s]+)|([0-9a-f:.]*:[0-9a-f:.]*))(?::(\d{1,5}))?$/i.exec(text.trim())
  if (match === null) return null
  const whole = parseAddress(text.trim())
  if (whole !== null) return { host: text.trim(), port: null }
  const port = match[4] === undefined ? null : Number(match[4])
  if (port !== null && (port < 1 || port > 65535)) return null
  const host = match[1] ?? match[2]
  return host === undefined ? null : { host, port }
}

/** An address of this machine with a port, as a listener needs it. */
export function parseListen(value: unknown): { host: string; port: number } | Complaint {
  const endpoint = typeof value === 'string' ? splitEndpoint(value) : null
  if (endpoint === null || endpoint.port === null || parseAddress(endpoint.host) === null) {
    return complain('an address and a port, such as "10.30.1.1:502" or "[fd00::1]:502"')
  }
  return { host: endpoint.host, port: endpoint.port }
}

/** Facilities of RFC 5424 §6.2.1 that a gateway may use, by name. */
export const FACILITIES: Readonly<Record<string, number>> = {
  user: 1,
  daemon: 3,
  auth: 4,
  syslog: 5,
  authpriv: 10,
  audit: 13,
  alert: 14,
  ...Object.fromEntries(Array.from({ length: 8 }, (_, n) => [`local${n}`, 16 + n])),
}

/** A facility's name (`local0`) or number, 0 to 23. */
export function parseFacility(value: unknown): number | Complaint {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 23) return value
  const number = typeof value === 'string' ? FACILITIES[value.toLowerCase()] : undefined
  return number ?? complain(`a syslog facility: ${Object.keys(FACILITIES).join(', ')}, or 0 to 23`)
}

const BYTE_UNITS: Record<string, number> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 }

/** A number of bytes, or a number with a unit: `65536`, `64 MiB`, `64M`, `1GiB` (units are powers of 1024). */
export function parseBytes(value: unknown, low: number, high: number): number | Complaint {
  const expected = `a size from ${formatBytes(low)} to ${formatBytes(high)}, such as 64 MiB or 1 GiB`
  const match = /^(\d{1,15})\s*(?:([kmgt])(?:i?b)?|b)?$/i.exec(String(value).trim())
  if (match === null || !isText(value)) return complain(expected)
  const bytes = Number(match[1]) * BYTE_UNITS[(match[2] ?? '').toLowerCase()]
  return bytes >= low && bytes <= high ? bytes : complain(expected)
}

/** @returns bytes in the largest unit that divides them: `1 GiB`, `64 KiB`, `1000` */
export function formatBytes(bytes: number): string {
  const units = ['', ' KiB', ' MiB', ' GiB', ' TiB']
  let unit = 0
  let size = bytes
  for (; size >= 1024 && size % 1024 === 0 && unit < units.length - 1; unit++) size /= 1024
  return `${size}${units[unit]}`
}

const SYSLOG_PORTS = { udp: 514, tcp: 601, tls: 6514 } as const

export interface SyslogUrl {
  transport: keyof typeof SYSLOG_PORTS
  host: string
  port: number
}

/** `udp://host:514` (RFC 5426), `tcp://host:601` (RFC 6587), `tls://host:6514` (RFC 5425). */
export function parseSyslogUrl(value: unknown): SyslogUrl | Complaint {
  const match = typeof value === 'string' ? /^(udp|tcp|tls):\/\/(.+?)\/?$/.exec(value.trim()) : null
  const endpoint = match === null ? null : splitEndpoint(match[2])
  if (match === null || endpoint === null || !/^[A-Za-z0-9.:_-]{1,253}$/.test(endpoint.host)) {
    return complain('a syslog receiver: "udp://host:port", "tcp://host:port" or "tls://host:port"')
  }
  const transport = match[1] as SyslogUrl['transport']
  return { transport, host: endpoint.host, port: endpoint.port ?? SYSLOG_PORTS[transport] }
}

const isText = (value: unknown): boolean => typeof value === 'string' || typeof value === 'number'
