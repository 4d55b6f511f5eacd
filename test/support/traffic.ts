/**
 * Makes captures: TCP connections that carry Modbus/TCP, in pcap or pcapng, with what goes wrong in real ones.
 * Nothing of the reader under test is used here.
 */
import { adu, u16 } from './modbus.ts'

export interface Packet {
  /** Microseconds since 1970. */
  us: number
  /** From the link layer on. */
  bytes: Buffer
  /** Bytes on the wire, where the capture cut it short. */
  original?: number
}

export interface Endpoint {
  host: string
  port: number
}

const u32 = (value: number): number[] => [(value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255]

export const FLAG = { fin: 1, syn: 2, rst: 4, push: 8, ack: 16 } as const

/** How IP packets are wrapped. */
export type Link = (ip: Buffer, v6: boolean) => Buffer

const etherType = (v6: boolean): number[] => (v6 ? [0x86, 0xdd] : [0x08, 0x00])
const MACS = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]

/** Link types by LINKTYPE_ number, with the bytes they set before the IP packet. */
export const LINKS: Readonly<Record<string, { type: number; wrap: Link }>> = {
  ethernet: { type: 1, wrap: (ip, v6) => Buffer.from([...MACS, ...etherType(v6), ...ip]) },
  vlan: { type: 1, wrap: (ip, v6) => Buffer.from([...MACS, 0x81, 0, 0, 7, ...etherType(v6), ...ip]) },
  qinq: {
    type: 1,
    wrap: (ip, v6) => Buffer.from([...MACS, 0x88, 0xa8, 0, 9, 0x81, 0, 0, 7, ...etherType(v6), ...ip]),
  },
  sll: {
    type: 113,
    wrap: (ip, v6) => Buffer.from([0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, ...etherType(v6), ...ip]),
  },
  sll2: {
    type: 276,
    wrap: (ip, v6) => Buffer.from([...etherType(v6), 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, ...ip]),
  },
  raw: { type: 101, wrap: (ip) => ip },
  null: { type: 0, wrap: (ip, v6) => Buffer.from([v6 ? 30 : 2, 0, 0, 0, ...ip]) },
  loop: { type: 108, wrap: (ip, v6) => Buffer.from([0, 0, 0, v6 ? 24 : 2, ...ip]) },
}

export interface Segment {
  from: Endpoint
  to: Endpoint
  sequence: number
  acknowledged: number
  flags: number
  payload: Uint8Array
}

/** @param extensions IPv6 extension headers before TCP: hop-by-hop and destination options */
export function ipPacket(segment: Segment, extensions = false): { ip: Buffer; v6: boolean } {
  const { from, to, payload } = segment
  const tcp = [
    ...u16(from.port),
    ...u16(to.port),
    ...u32(segment.sequence),
    ...u32(segment.acknowledged),
    0x50,
    segment.flags,
    ...u16(8192),
    0,
    0,
    0,
    0,
    ...payload,
  ]
  if (!from.host.includes(':')) {
    const octets = (host: string) => host.split('.').map(Number)
    const head = [
      0x45,
      0,
      ...u16(20 + tcp.length),
      0,
      0,
      0x40,
      0,
      64,
      6,
      0,
      0,
      ...octets(from.host),
      ...octets(to.host),
    ]
    return { ip: Buffer.from([...head, ...tcp]), v6: false }
  }
  const between = extensions ? [60, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0] : []
  const head = [0x60, 0, 0, 0, ...u16(between.length + tcp.length), extensions ? 0 : 6, 64]
  return { ip: Buffer.from([...head, ...groups(from.host), ...groups(to.host), ...between, ...tcp]), v6: true }
}

/** `fd00::5` as 16 bytes. */
function groups(host: string): number[] {
  const [left, right] = host
    .split('::')
    .map((part) => (part === '' ? [] : part.split(':').map((g) => Number.parseInt(g, 16))))
  const tail = right ?? []
  return [...left, ...new Array<number>(8 - left.length - tail.length).fill(0), ...tail].flatMap(u16)
}

/** One TCP connection, whose packets go to a list. */
export class Connection {
  readonly client: Endpoint
  readonly target: Endpoint
  /** Counted by what is sent. */
  readonly packets: Packet[]
  us: number
  extensions = false
  private readonly wrap: Link
  private clientNext: number
  private targetNext: number
  private transaction = 0

  constructor(packets: Packet[], client: Endpoint, target: Endpoint, us: number, wrap: Link = LINKS.ethernet.wrap) {
    this.packets = packets
    this.client = client
    this.target = target
    this.us = us
    this.wrap = wrap
    // Near the wrap of 32 bits, where arithmetic on sequence numbers goes wrong first.
    this.clientNext = 0xffff_ff00
    this.targetNext = 0x7fff_ff80
  }

  private send(fromClient: boolean, flags: number, payload: Uint8Array = new Uint8Array(0)): void {
    const [sequence, acknowledged] = fromClient
      ? [this.clientNext, this.targetNext]
      : [this.targetNext, this.clientNext]
    const [from, to] = fromClient ? [this.client, this.target] : [this.target, this.client]
    const first = flags === FLAG.syn
    const segment = { from, to, sequence, acknowledged: first ? 0 : acknowledged, flags, payload }
    const { ip, v6 } = ipPacket(segment, this.extensions)
    this.packets.push({ us: this.us, bytes: this.wrap(ip, v6) })
    const taken = payload.length + ((flags & (FLAG.syn | FLAG.fin)) === 0 ? 0 : 1)
    if (fromClient) this.clientNext = (this.clientNext + taken) >>> 0
    else this.targetNext = (this.targetNext + taken) >>> 0
    this.us += 100
  }

  open(): this {
    this.send(true, FLAG.syn)
    this.send(false, FLAG.syn | FLAG.ack)
    this.send(true, FLAG.ack)
    return this
  }

  refused(): this {
    this.send(true, FLAG.syn)
    this.send(false, FLAG.rst | FLAG.ack)
    return this
  }

  close(): this {
    this.send(true, FLAG.fin | FLAG.ack)
    this.send(false, FLAG.fin | FLAG.ack)
    this.send(true, FLAG.ack)
    return this
  }

  /** Bytes of one direction as they are. */
  bytes(fromClient: boolean, payload: Uint8Array): this {
    this.send(fromClient, FLAG.push | FLAG.ack, payload)
    return this
  }

  /** A request and its response (null: none comes), and `pause` microseconds after it. */
  ask(unit: number, request: ArrayLike<number>, response: ArrayLike<number> | null, pause = 0): this {
    const transaction = this.transaction++ & 0xffff
    this.bytes(true, adu(transaction, unit, request))
    if (response !== null) this.bytes(false, adu(transaction, unit, response))
    this.us += pause
    return this
  }
}

export interface FileOptions {
  little?: boolean
  nano?: boolean
  linkType?: number
}

/** A pcap file. */
export function pcapFile(packets: readonly Packet[], options: FileOptions = {}): Buffer {
  const { little = true, nano = false, linkType = 1 } = options
  const length = packets.reduce((sum, { bytes }) => sum + 16 + bytes.length, 24)
  const out = Buffer.alloc(length)
  const u32At = (value: number, at: number) => (little ? out.writeUInt32LE(value, at) : out.writeUInt32BE(value, at))
  const u16At = (value: number, at: number) => (little ? out.writeUInt16LE(value, at) : out.writeUInt16BE(value, at))
  u32At(nano ? 0xa1b23c4d : 0xa1b2c3d4, 0)
  u16At(2, 4)
  u16At(4, 6)
  u32At(262144, 16)
  u32At(linkType, 20)
  let at = 24
  for (const { us, bytes, original } of packets) {
    u32At(Math.floor(us / 1e6), at)
    u32At((us % 1e6) * (nano ? 1000 : 1), at + 4)
    u32At(bytes.length, at + 8)
    u32At(original ?? bytes.length, at + 12)
    bytes.copy(out, at + 16)
    at += 16 + bytes.length
  }
  return out
}

/**
 * A pcapng file: `kind` chooses the block that packets are in; `resolution` is if_tsresol (6: microseconds),
 * `offset` if_tsoffset (seconds that time stamps lack).
 */
export function pcapngFile(
  packets: readonly Packet[],
  options: FileOptions & { kind?: 'enhanced' | 'simple' | 'obsolete'; resolution?: number; offset?: number } = {},
): Buffer {
  const { little = true, linkType = 1, kind = 'enhanced', resolution = 6, offset = 0 } = options
  const n32 = (value: number): number[] => (little ? u32(value).reverse() : u32(value))
  const n16 = (value: number): number[] => (little ? u16(value).reverse() : u16(value))
  const pad = (bytes: ArrayLike<number>): number[] => [
    ...Array.from(bytes),
    ...new Array<number>((4 - (bytes.length % 4)) % 4).fill(0),
  ]
  const block = (type: number, body: number[]): Buffer =>
    Buffer.from([...n32(type), ...n32(body.length + 12), ...body, ...n32(body.length + 12)])
  const unit = (resolution & 0x80) !== 0 ? 2 ** (resolution & 0x7f) : 10 ** resolution
  const time = (us: number): number[] => {
    const ticks = (BigInt(us - offset * 1e6) * BigInt(unit)) / 1_000_000n
    return [...n32(Number(ticks >> 32n)), ...n32(Number(ticks & 0xffffffffn))]
  }
  const eight = [...u32(Math.floor(offset / 2 ** 32)), ...u32(offset % 2 ** 32)]
  const shift = offset === 0 ? [] : [...n16(14), ...n16(8), ...(little ? eight.reverse() : eight)]
  const blocks = [
    block(0x0a0d0d0a, [...n32(0x1a2b3c4d), ...n16(1), ...n16(0), ...n32(0xffffffff), ...n32(0xffffffff)]),
    block(1, [...n16(linkType), 0, 0, ...n32(0), ...n16(9), ...n16(1), resolution, 0, 0, 0, ...shift, ...n32(0)]),
    // A block that no reader has to know.
    block(0x0bad, [1, 2, 3, 4]),
  ]
  for (const { us, bytes, original = bytes.length } of packets) {
    const sizes = [...n32(bytes.length), ...n32(original)]
    if (kind === 'simple') blocks.push(block(3, [...n32(original), ...pad(bytes)]))
    else if (kind === 'obsolete') blocks.push(block(2, [...n16(0), ...n16(0), ...time(us), ...sizes, ...pad(bytes)]))
    else blocks.push(block(6, [...n32(0), ...time(us), ...sizes, ...pad(bytes)]))
  }
  return Buffer.concat(blocks)
}

/** A generator of numbers in [0, 1) that gives the same ones for the same seed (mulberry32). */
export function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
