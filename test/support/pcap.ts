/**
 * Reads classic pcap files for tests (pcap savefile format; Ethernet, IPv4, TCP): the payload of each TCP direction, in
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
  const magic = file.readUInt32LE(0)
  const little = magic === 0xa1b2c3d4 || magic === 0xa1b23c4d
  if (!little && file.readUInt32BE(0) !== 0xa1b2c3d4) throw new Error('not a pcap file')
  const u32 = (at: number) => (little ? file.readUInt32LE(at) : file.readUInt32BE(at))
  if (u32(20) !== 1) throw new Error(`link type ${u32(20)}, expected 1 (Ethernet)`)
  for (let at = 24; at < file.length; ) {
    const captured = u32(at + 8)
    if (captured !== u32(at + 12)) throw new Error('packet cut by the capture')
    const segment = readSegment(file.subarray(at + 16, at + 16 + captured))
    if (segment !== null) yield segment
    at += 16 + captured
  }
}

/** @returns null for anything but TCP over IPv4 */
function readSegment(frame: Buffer): Segment | null {
  if (frame.readUInt16BE(12) !== 0x0800) return null
  const packet = frame.subarray(14)
  if (packet[0] >> 4 !== 4 || packet[9] !== 6) return null
  const tcp = packet.subarray((packet[0] & 15) * 4, packet.readUInt16BE(2))
  const address = (offset: number) => [...packet.subarray(offset, offset + 4)].join('.')
  return {
    from: `${address(12)}:${tcp.readUInt16BE(0)}`,
    to: `${address(16)}:${tcp.readUInt16BE(2)}`,
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
