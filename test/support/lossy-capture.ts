/**
 * Writes a large capture of Modbus/TCP as a bad tap has it: frames pipelined and cut into segments anywhere, segments
 * lost, late and twice. What can be counted of it is worked out from what was sent, not from the bytes: nothing of the
 * reader under test is used here.
 */
import { closeSync, openSync, writeSync } from 'node:fs'
import { FLAG, ipPacket, LINKS, random } from './traffic.ts'

const CONNECTIONS = 64
const NOTHING = new Uint8Array(0)
const HEADERS = 14 + 20 + 20
const START_US = 1.7e15
/** Time from one packet to the next. */
const STEP_US = 10

export interface Lossy {
  /** Requests that were sent, and those of them whose bytes are all in the capture. */
  sent: number
  whole: number
  /** By function code: those that can be told without a guess. */
  countable: Record<number, number>
  lostBytes: number
}

interface Segment {
  start: number
  end: number
  lost: boolean
}

/** One direction of a connection, as its sender knows it. */
class Side {
  readonly frames: { start: number; end: number; code: number }[] = []
  readonly segments: Segment[] = []
  next = 0
  transaction = 0
  readonly template: Buffer

  constructor(from: { host: string; port: number }, to: { host: string; port: number }) {
    const { ip } = ipPacket({ from, to, sequence: 0, acknowledged: 0, flags: 0, payload: NOTHING })
    this.template = LINKS.ethernet.wrap(ip, false)
  }
}

/** A record of the file: 16 bytes of its own, whose time is set as it is written, then the packet. */
function record(
  side: Side,
  sequence: number,
  acknowledged: number,
  payload: Uint8Array,
  flags: number = FLAG.push | FLAG.ack,
): Buffer {
  const bytes = Buffer.alloc(16 + HEADERS + payload.length)
  bytes.writeUInt32LE(HEADERS + payload.length, 8)
  bytes.writeUInt32LE(HEADERS + payload.length, 12)
  side.template.copy(bytes, 16)
  bytes.writeUInt16BE(40 + payload.length, 16 + 14 + 2)
  bytes.writeUInt32BE(sequence >>> 0, 16 + 34 + 4)
  bytes.writeUInt32BE(acknowledged >>> 0, 16 + 34 + 8)
  bytes[16 + 34 + 13] = flags
  bytes.set(payload, 16 + HEADERS)
  return bytes
}

class Writer {
  private readonly fd: number
  private batch: Buffer[] = []
  private size = 0
  /** Packets that come late, and after how many others. */
  private late: { bytes: Buffer; due: number }[] = []
  private count = 0

  constructor(file: string) {
    this.fd = openSync(file, 'w')
    const head = Buffer.alloc(24)
    head.writeUInt32LE(0xa1b2c3d4, 0)
    head.writeUInt16LE(2, 4)
    head.writeUInt16LE(4, 6)
    head.writeUInt32LE(262144, 16)
    head.writeUInt32LE(1, 20)
    writeSync(this.fd, head)
  }

  put(bytes: Buffer, delay = 0): void {
    if (delay > 0) {
      const due = this.count + delay
      const before = this.late.findIndex((one) => one.due > due)
      this.late.splice(before === -1 ? this.late.length : before, 0, { bytes, due })
    } else this.write(bytes)
    while (this.late.length > 0 && this.late[0].due <= this.count) {
      this.write((this.late.shift() as { bytes: Buffer }).bytes)
    }
  }

  private write(bytes: Buffer): void {
    const us = START_US + this.count++ * STEP_US
    bytes.writeUInt32LE(Math.floor(us / 1e6), 0)
    bytes.writeUInt32LE(us % 1e6, 4)
    this.batch.push(bytes)
    this.size += bytes.length
    if (this.size > 1 << 20) this.flush()
  }

  private flush(): void {
    writeSync(this.fd, Buffer.concat(this.batch))
    this.batch = []
    this.size = 0
  }

  close(): void {
    for (const { bytes } of this.late.splice(0)) this.write(bytes)
    this.flush()
    closeSync(this.fd)
  }
}

/** A request and its response, of small and of large values: unit 1. */
function exchange(transaction: number, next: () => number): [Buffer, Buffer] {
  const value = () => (next() < 0.7 ? Math.floor(next() * 8) : Math.floor(next() * 65536))
  const address = Math.floor(next() * 200)
  const quantity = 1 + Math.floor(next() * 40)
  const kind = next()
  if (kind < 0.6) {
    const request = frame(transaction, 3, 5)
    request.writeUInt16BE(address, 8)
    request.writeUInt16BE(quantity, 10)
    const response = frame(transaction, 3, 2 + 2 * quantity)
    response[8] = 2 * quantity
    for (let i = 0; i < quantity; i++) response.writeUInt16BE(value(), 9 + 2 * i)
    return [request, response]
  }
  if (kind < 0.8) {
    const request = frame(transaction, 6, 5)
    request.writeUInt16BE(address, 8)
    request.writeUInt16BE(value(), 10)
    return [request, Buffer.from(request)]
  }
  const request = frame(transaction, 16, 6 + 2 * quantity)
  request.writeUInt16BE(address, 8)
  request.writeUInt16BE(quantity, 10)
  request[12] = 2 * quantity
  for (let i = 0; i < quantity; i++) request.writeUInt16BE(value(), 13 + 2 * i)
  const response = frame(transaction, 16, 5)
  request.copy(response, 8, 8, 12)
  return [request, response]
}

/** @param pdu bytes of the PDU */
function frame(transaction: number, code: number, pdu: number): Buffer {
  const bytes = Buffer.alloc(7 + pdu)
  bytes.writeUInt16BE(transaction & 0xffff, 0)
  bytes.writeUInt16BE(1 + pdu, 4)
  bytes[6] = 1
  bytes[7] = code
  return bytes
}

/** Writes a capture of about so many requests. */
export function writeLossyCapture(file: string, requests: number, seed: number): Lossy {
  const next = random(seed)
  const writer = new Writer(file)
  const sides = Array.from({ length: CONNECTIONS }, (_, i) => {
    const client = { host: `10.0.1.${1 + i}`, port: 40000 + i }
    const target = { host: `10.0.2.${1 + (i >> 3)}`, port: 502 }
    return { client: new Side(client, target), target: new Side(target, client) }
  })
  for (const { client, target } of sides) {
    writer.put(record(client, 0, 0, NOTHING, FLAG.syn))
    writer.put(record(target, 0, 1, NOTHING, FLAG.syn | FLAG.ack))
  }
  let sent = 0
  while (sent < requests) {
    for (const { client, target } of sides) {
      const frames = 1 + Math.floor(next() * 4)
      const pairs = Array.from({ length: frames }, () => exchange(client.transaction++, next))
      send(
        writer,
        client,
        target,
        pairs.map(([request]) => request),
        next,
      )
      send(
        writer,
        target,
        client,
        pairs.map(([, response]) => response),
        next,
      )
      sent += frames
    }
  }
  writer.close()
  const result: Lossy = { sent, whole: 0, countable: {}, lostBytes: 0 }
  for (const { client, target } of sides) {
    tally(client, result)
    for (const { start, end, lost } of target.segments) if (lost) result.lostBytes += end - start
  }
  return result
}

function send(writer: Writer, from: Side, to: Side, frames: Buffer[], next: () => number): void {
  for (const bytes of frames) {
    from.frames.push({ start: from.next, end: from.next + bytes.length, code: bytes[7] })
    from.next += bytes.length
  }
  const all = Buffer.concat(frames)
  let sequence = from.next - all.length
  for (const payload of cut(all, next)) {
    const lost = sequence > 0 && next() < 0.01
    from.segments.push({ start: sequence, end: sequence + payload.length, lost })
    if (!lost) {
      const late = next() < 0.02 ? 1 + Math.floor(next() * 200) : 0
      writer.put(record(from, 1 + sequence, 1 + to.next, payload), late)
      if (next() < 0.01) writer.put(record(from, 1 + sequence, 1 + to.next, payload), 1 + Math.floor(next() * 200))
    }
    sequence += payload.length
  }
}

function cut(bytes: Buffer, next: () => number): Buffer[] {
  const pieces: Buffer[] = []
  let rest = bytes
  while (next() < 0.3 && rest.length > 1) {
    const at = 1 + Math.floor(next() * (rest.length - 1))
    pieces.push(rest.subarray(0, at))
    rest = rest.subarray(at)
  }
  return [...pieces, rest]
}

/** Adds up what can be told of one direction: the rule of `boundary.ts`, applied to frames that are known. */
function tally({ frames, segments }: Side, result: Lossy): void {
  // Runs of segments without a hole in them, as the reader has them.
  const runs: Segment[][] = [[]]
  for (const segment of segments) {
    if (segment.lost) {
      result.lostBytes += segment.end - segment.start
      if ((runs.at(-1) as Segment[]).length > 0) runs.push([])
    } else (runs.at(-1) as Segment[]).push(segment)
  }
  let known = 0
  let at = 0
  for (const run of runs) {
    if (run.length === 0) continue
    const [from, to] = [run[0].start, (run.at(-1) as Segment).end]
    // A frame that began before the hole, with its length field before it, says where the next one begins.
    while (frames[at].end < known) at++
    const { start, end } = frames[at]
    const synced = from === 0 || (start + 6 <= known && known < end && from <= end)
    while (frames[at].end <= from) at++
    const begin = synced ? from : firstCertain(frames, at, run)
    const within = (i: number) => i < frames.length && frames[i].end <= to
    for (let i = at; within(i); i++) {
      if (frames[i].start < from) continue
      result.whole++
      if (frames[i].start < begin) continue
      result.countable[frames[i].code] = (result.countable[frames[i].code] ?? 0) + 1
    }
    known = begin <= to ? to : 0
  }
}

/** Where in a run of segments behind a hole frames can be told again; beyond its end: nowhere. */
function firstCertain(frames: Side['frames'], at: number, run: Segment[]): number {
  const to = (run.at(-1) as Segment).end
  const ends = new Set(run.map(({ end }) => end))
  // Segments that begin with a frame that is whole in them.
  const starts = new Set<number>()
  for (let i = at, s = 0; i < frames.length && frames[i].end <= to; i++) {
    while (run[s].end <= frames[i].start) s++
    if (run[s].start === frames[i].start && frames[i].end <= run[s].end) starts.add(frames[i].start)
  }
  for (let i = at, s = 0; i < frames.length && frames[i].start < to; i++) {
    while (run[s].end <= frames[i].start) s++
    if (frames[i].start < run[0].start) continue
    if (starts.has(frames[i].start)) return frames[i].start
    const begins = run[s].start === frames[i].start
    if (!begins && (frames[i + 1]?.start ?? to) >= run[s].end) continue
    for (let n = 1; n <= 4; n++) {
      const end = frames[i + n - 1]?.end ?? Number.POSITIVE_INFINITY
      if (end > to) break
      if (n === 1 ? begins && starts.has(end) : n === 4 || ends.has(end) || starts.has(end)) return frames[i].start
    }
  }
  return Number.POSITIVE_INFINITY
}
