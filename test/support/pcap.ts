/**
 * Reads pcap and pcapng files for tests (Ethernet or BSD loopback, IP, TCP): the payload of each TCP direction, in
 * order, by sequence number. Duplicates are taken once; a gap is an error, for a test must not pass on what is missing.
 */
import { readFileSync } from 'node:fs'

export interface Stream {
  /** `address:port` of the side that sends these bytes. */
  from: string
  to: string
  payload: Buffer
}

/** One TCP connection: `client` sends to port `serverPort`. */
export interface Conversation {
  client: Stream
  server: Stream
}

interface Segment {
  from: string
  to: string
  sequence: number
  syn: boolean
  payload: Buffer
}

/** @returns the connections of `file` to `serverPort`, in order of their first segment */
export function readConversations(file: string, serverPort: number): Conversation[] {
  const conversations = new Map<string, { client: Segment[]; server: Segment[]; from: string; to: string }>()
  for (const segment of readSegments(readFileSync(file))) {
    const toServer = segment.to.endsWith(`:${serverPort}`)
    if (!toServer && !segment.from.endsWith(`:${serverPort}`)) continue
    const [from, to] = toServer ? [segment.from, segment.to] : [segment.to, segment.from]
    const key = `${from} ${to}`
    const conversation = conversations.get(key) ?? { client: [], server: [], from, to }
    conversations.set(key, conversation)
    conversation[toServer ? 'client' : 'server'].push(segment)
  }
  return [...conversations.values()].map(({ client, server, from, to }) => ({
    client: { from, to, payload: reassemble(client) },
    server: { from: to, to: from, payload: reassemble(server) },
  }))
}

function* readSegments(file: Buffer): Generator<Segment> {
  for (const { link, frame } of file.readUInt32LE(0) === 0x0a0d0d0a ? readBlocks(file) : readRecords(file)) {
    // Ethernet, or BSD loopback with its four bytes of address family.
    if (link !== 1 && link !== 0) throw new Error(`link type ${link}, expected 0 or 1`)
    const type = link === 1 ? frame.readUInt16BE(12) : frame[4] >> 4 === 6 ? 0x86dd : 0x0800
    if (type !== 0x0800 && type !== 0x86dd) continue
    const segment = readSegment(frame.subarray(link === 1 ? 14 : 4))
    if (segment !== null) yield segment
  }
}

function* readRecords(file: Buffer): Generator<{ link: number; frame: Buffer }> {
  const magic = file.readUInt32LE(0)
  const little = magic === 0xa1b2c3d4 || magic === 0xa1b23c4d
  if (!little && file.readUInt32BE(0) !== 0xa1b2c3d4) throw new Error('not a pcap file')
  const u32 = (at: number) => (little ? file.readUInt32LE(at) : file.readUInt32BE(at))
  for (let at = 24; at < file.length; ) {
    const captured = u32(at + 8)
    if (captured !== u32(at + 12)) throw new Error('packet cut by the capture')
    yield { link: u32(20), frame: file.subarray(at + 16, at + 16 + captured) }
    at += 16 + captured
  }
}

/** pcapng, little-endian: its interface descriptions and enhanced packet blocks. */
function* readBlocks(file: Buffer): Generator<{ link: number; frame: Buffer }> {
  const links: number[] = []
  for (let at = 0; at < file.length; at += file.readUInt32LE(at + 4)) {
    const type = file.readUInt32LE(at)
    if (type === 1) links.push(file.readUInt16LE(at + 8))
    if (type !== 6) continue
    const captured = file.readUInt32LE(at + 20)
    if (captured !== file.readUInt32LE(at + 24)) throw new Error('packet cut by the capture')
    yield { link: links[file.readUInt32LE(at + 8)], frame: file.subarray(at + 28, at + 28 + captured) }
  }
}

/** @returns null for anything but TCP over IPv4, or over IPv6 without extension headers */
function readSegment(packet: Buffer): Segment | null {
  const six = packet[0] >> 4 === 6
  if (packet[six ? 6 : 9] !== 6) return null
  const tcp = six
    ? packet.subarray(40, 40 + packet.readUInt16BE(4))
    : packet.subarray((packet[0] & 15) * 4, packet.readUInt16BE(2))
  const address = (from: number, to: number) =>
    six ? packet.subarray(from, to).toString('hex') : [...packet.subarray(from, to)].join('.')
  return {
    from: `${six ? address(8, 24) : address(12, 16)}:${tcp.readUInt16BE(0)}`,
    to: `${six ? address(24, 40) : address(16, 20)}:${tcp.readUInt16BE(2)}`,
    sequence: tcp.readUInt32BE(4),
    syn: (tcp[13] & 2) !== 0,
    payload: tcp.subarray((tcp[12] >> 4) * 4),
  }
}

function reassemble(segments: Segment[]): Buffer {
  if (segments.length === 0) return Buffer.alloc(0)
  const first = segments[0]
  const start = (first.sequence + (first.syn ? 1 : 0)) >>> 0
  const pieces = segments
    .filter(({ payload }) => payload.length > 0)
    .map(({ sequence, payload }) => ({ at: (sequence - start) >>> 0, payload }))
    .sort((a, b) => a.at - b.at)
  const parts: Buffer[] = []
  let next = 0
  for (const { at, payload } of pieces) {
    if (at > next) throw new Error(`${at - next} bytes missing at ${next}`)
    if (at + payload.length <= next) continue
    parts.push(payload.subarray(next - at))
    next = at + payload.length
  }
  return Buffer.concat(parts)
}

/** What one side of a connection sent, in the order of the capture. */
export interface Turn {
  fromClient: boolean
  payload: Buffer
}

/** @returns the connections of `file` to `serverPort`, each as its payloads in the order in which they were seen */
export function readTurns(file: string, serverPort: number): Turn[][] {
  const connections = new Map<string, { turns: Turn[]; next: Map<string, number> }>()
  for (const { from, to, sequence, syn, payload } of readSegments(readFileSync(file))) {
    const fromClient = to.endsWith(`:${serverPort}`)
    if (!fromClient && !from.endsWith(`:${serverPort}`)) continue
    const key = fromClient ? `${from} ${to}` : `${to} ${from}`
    const connection = connections.get(key) ?? { turns: [], next: new Map<string, number>() }
    connections.set(key, connection)
    const expected = connection.next.get(from) ?? sequence
    const after = (sequence + payload.length + (syn ? 1 : 0)) >>> 0
    // A segment that was seen before, or a keep-alive's byte.
    if (!syn && ((sequence - expected) | 0) < 0) continue
    if (!syn && payload.length === 0) continue
    if (!syn && sequence !== expected) throw new Error(`bytes missing from ${from}`)
    connection.next.set(from, after)
    if (payload.length > 0) connection.turns.push({ fromClient, payload })
  }
  return [...connections.values()].map(({ turns }) => turns)
}
