/** Captures of every kind that is read, damaged in every way, against what their generator knows of them. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import * as fc from 'fast-check'
import t from 'tap'
import { BaselineCollector } from '../../src/baseline/baseline.ts'
import type { BaselineFile } from '../../src/baseline/baseline-file.ts'
import { CaptureReader } from '../../src/baseline/capture.ts'
import { type Ingested, ingest } from '../../src/baseline/ingest.ts'
import { Reassembly } from '../../src/baseline/reassembly.ts'
import type { ByteSource } from '../../src/baseline/source.ts'
import { writeLossyCapture } from '../support/lossy-capture.ts'
import { adu, u16 } from '../support/modbus.ts'
import { Connection, FLAG, ipPacket, LINKS, type Packet, pcapFile, pcapngFile, random } from '../support/traffic.ts'

const directory = mkdtempSync(join(tmpdir(), 'headgate-capture-'))
t.teardown(() => rmSync(directory, { recursive: true, force: true }))
const fixture = (name: string) => new URL(`../fixtures/captures/${name}`, import.meta.url).pathname

interface Learned {
  baseline: BaselineFile
  ingested: Ingested
}

async function learnFile(file: string, options: { ports?: number[]; anyPort?: boolean } = {}): Promise<Learned> {
  const collector = new BaselineCollector()
  const { ports = [502], anyPort = false } = options
  const ingested = await ingest(file, collector, { ports, anyPort })
  return { baseline: collector.toFile(), ingested }
}

let number = 0
function learnBytes(bytes: Uint8Array, options: { ports?: number[]; anyPort?: boolean } = {}): Promise<Learned> {
  const file = join(directory, `${number++}.pcap`)
  writeFileSync(file, bytes)
  return learnFile(file, options)
}

/** Requests by function code. */
function counts(baseline: BaselineFile): Record<number, number> {
  const sums: Record<number, number> = {}
  for (const flow of baseline.flows) sums[flow.function] = (sums[flow.function] ?? 0) + flow.requests
  return sums
}

const CLIENT = { host: '10.0.1.5', port: 40001 }
const TARGET = { host: '10.0.2.9', port: 502 }
const START = 1_700_000_000_000_000
const READ = [3, ...u16(10), ...u16(4)]
const READ_ANSWER = [3, 8, 0, 1, 0, 2, 0, 3, 0, 4]
const WRITE = [6, ...u16(100), ...u16(7)]

/** 30 reads and 10 writes on one connection. */
function someTraffic(link = 'ethernet', client = CLIENT, target = TARGET, extensions = false): Packet[] {
  const packets: Packet[] = []
  const one = new Connection(packets, client, target, START, LINKS[link].wrap)
  one.extensions = extensions
  one.open()
  for (let i = 0; i < 30; i++) {
    one.ask(1, READ, READ_ANSWER, 200_000)
    if (i % 3 === 0) one.ask(1, WRITE, WRITE)
  }
  one.close()
  return packets
}
const SOME = { 3: 30, 6: 10 }

t.test('real captures: requests by function as Zeek and tshark count them', async (t) => {
  const zeek: Record<string, Record<number, number>> = {
    // Zeek's log has a row for each transaction, and two for FC 7 and FC 17 (request and response).
    'modbus-all-functions.pcap': zeekCounts(),
    'modbus-coils.pcap': { 1: 8, 15: 8 },
    'modbus-encapsulated-interface.pcap': { 43: 2 },
  }
  const tshark = spawnSync('tshark', ['--version']).status === 0
  for (const [name, expected] of Object.entries(zeek)) {
    const { baseline } = await learnFile(fixture(name))
    t.strictSame(counts(baseline), expected, `${name}: Zeek`)
    if (tshark) t.strictSame(counts(baseline), tsharkCounts(fixture(name)), `${name}: tshark`)
  }
  if (!tshark) t.comment('tshark is not installed: not compared with it')
})

function zeekCounts(): Record<number, number> {
  const codes: Record<string, number> = {
    READ_COILS: 1,
    READ_DISCRETE_INPUTS: 2,
    READ_HOLDING_REGISTERS: 3,
    READ_INPUT_REGISTERS: 4,
    WRITE_SINGLE_COIL: 5,
    WRITE_SINGLE_REGISTER: 6,
    READ_EXCEPTION_STATUS: 7,
    DIAGNOSTICS: 8,
    WRITE_MULTIPLE_COILS: 15,
    WRITE_MULTIPLE_REGISTERS: 16,
    REPORT_SLAVE_ID: 17,
    READ_FILE_RECORD: 20,
    WRITE_FILE_RECORD: 21,
    MASK_WRITE_REGISTER: 22,
    READ_WRITE_MULTIPLE_REGISTERS: 23,
    READ_FIFO_QUEUE: 24,
    ENCAP_INTERFACE_TRANSPORT: 43,
  }
  const log = readFileSync(fixture('modbus-all-functions.zeek-modbus_detailed.log'), 'utf8')
  const sums: Record<number, number> = {}
  for (const line of log.split('\n')) {
    if (line.startsWith('#') || line === '') continue
    const code = codes[line.split('\t')[8]]
    if (code === undefined) throw new Error(`function of ${line}`)
    sums[code] = (sums[code] ?? 0) + 1
  }
  for (const code of [7, 17]) sums[code] /= 2
  return sums
}

function tsharkCounts(file: string): Record<number, number> {
  const fields = ['-T', 'fields', '-e', 'modbus.func_code', '-e', 'tcp.dstport']
  const { stdout } = spawnSync('tshark', ['-r', file, '-Y', 'modbus && tcp.dstport == 502', ...fields], {
    encoding: 'utf8',
  })
  const sums: Record<number, number> = {}
  for (const line of stdout.trim().split('\n')) {
    for (const code of line.split('\t')[0].split(',')) sums[Number(code)] = (sums[Number(code)] ?? 0) + 1
  }
  return sums
}

t.test('file formats', async (t) => {
  const packets = someTraffic()
  for (const little of [true, false]) {
    for (const nano of [true, false]) {
      const { baseline } = await learnBytes(pcapFile(packets, { little, nano }))
      t.strictSame(counts(baseline), SOME, `pcap ${little ? 'little' : 'big'} ${nano ? 'nano' : 'micro'}`)
      t.equal(baseline.first, new Date(START / 1000).toISOString())
    }
    for (const resolution of [3, 6, 9, 0x80 | 20]) {
      const { baseline, ingested } = await learnBytes(pcapngFile(packets, { little, resolution }))
      t.strictSame(counts(baseline), SOME, `pcapng ${little ? 'little' : 'big'} resolution ${resolution}`)
      t.strictSame(ingested.notes, [])
      t.ok(Math.abs(Date.parse(baseline.first as string) - START / 1000) <= 1, 'the time is what was meant')
    }
    const late = await learnBytes(pcapngFile(packets, { little, offset: 1_600_000_000 }))
    t.equal(late.baseline.first, new Date(START / 1000).toISOString(), 'time stamps with an offset')
    t.strictSame(counts((await learnBytes(pcapngFile(packets, { little, kind: 'simple' }))).baseline), SOME)
    t.strictSame(counts((await learnBytes(pcapngFile(packets, { little, kind: 'obsolete' }))).baseline), SOME)
  }
  t.strictSame(counts((await learnBytes(gzipSync(pcapFile(packets)))).baseline), SOME, 'gzip')
  t.strictSame(counts((await learnBytes(gzipSync(pcapngFile(packets)))).baseline), SOME, 'gzip of pcapng')
  const two = Buffer.concat([
    pcapngFile(packets),
    pcapngFile(someTraffic('sll2', { ...CLIENT, port: 40002 }), { linkType: 276, little: false }),
  ])
  t.strictSame(counts((await learnBytes(two)).baseline), { 3: 60, 6: 20 }, 'sections of both byte orders and links')
})

t.test('link types, tags and addresses', async (t) => {
  for (const [name, { type }] of Object.entries(LINKS)) {
    const { baseline } = await learnBytes(pcapFile(someTraffic(name), { linkType: type }))
    t.strictSame(counts(baseline), SOME, name)
    for (const extensions of [false, true]) {
      const client = { host: 'fd00::5', port: 40001 }
      const six = someTraffic(name, client, { host: 'fd00:0:0:2::9', port: 502 }, extensions)
      const learned = await learnBytes(pcapFile(six, { linkType: type }))
      t.strictSame(counts(learned.baseline), SOME, `${name} IPv6 ${extensions ? 'with extension headers' : ''}`)
      t.strictSame([learned.baseline.flows[0].client, learned.baseline.flows[0].target], ['fd00::5', 'fd00:0:0:2::9'])
    }
  }
  // Ethernet fills short frames up; what fills them is no payload.
  const padded = someTraffic().map(({ us, bytes }) => ({ us, bytes: Buffer.concat([bytes, Buffer.alloc(6)]) }))
  const filled = await learnBytes(pcapFile(padded))
  t.strictSame(counts(filled.baseline), SOME, 'padding')
  t.strictSame(filled.ingested.notes, [])
  const { ingested, baseline } = await learnBytes(pcapFile(someTraffic(), { linkType: 105 }))
  t.strictSame(baseline.flows, [])
  t.match(ingested.notes.join('\n'), /link type 105 \(IEEE 802.11\), which is not read/)
})

t.test('what it holds: ranges, values, rates, exceptions, connections', async (t) => {
  const packets: Packet[] = []
  const one = new Connection(packets, CLIENT, TARGET, START).open()
  for (let i = 0; i < 10; i++) one.ask(1, [3, ...u16(i * 10), ...u16(10)], [3, 20, ...new Array(20).fill(0)], 90_000)
  one.us = START + 5_000_000
  one.ask(1, [3, ...u16(300), ...u16(2)], [0x83, 2])
  one.ask(2, [16, ...u16(50), ...u16(2), 4, ...u16(7), ...u16(65535)], [16, ...u16(50), ...u16(2)])
  one.ask(2, [16, ...u16(51), ...u16(2), 4, ...u16(3), ...u16(9)], [16, ...u16(51), ...u16(2)])
  one.ask(2, [15, ...u16(8), ...u16(3), 1, 0b101], [15, ...u16(8), ...u16(3)])
  one.ask(2, [23, ...u16(0), ...u16(5), ...u16(90), ...u16(1), 2, ...u16(77)], [23, 10, ...new Array(10).fill(0)])
  one.ask(2, [8, ...u16(0), 0xaa, 0x55], [8, ...u16(0), 0xaa, 0x55])
  one.ask(1, [3, ...u16(0), ...u16(0)], [0x83, 3])
  one.bytes(true, adu(1, 1, [3, 0, 0, 0, 1], 7))
  one.close()
  new Connection(packets, { ...CLIENT, port: 40002 }, TARGET, START + 6e6).refused()
  const { baseline } = await learnBytes(pcapFile(packets))
  const flow = (code: number) => baseline.flows.filter((row) => row.function === code)
  const [reads] = flow(3)
  t.equal(reads.requests, 12)
  t.equal(reads.responses, 10)
  t.strictSame(reads.exceptions, { 2: 1, 3: 1 })
  t.equal(reads.malformed, 1)
  t.strictSame(reads.addresses, {
    'holding-registers': [
      [0, 99],
      [300, 301],
    ],
  })
  t.strictSame(reads.rate, {
    p50: 2,
    p99: 10,
    max: 10,
    seconds: [
      [2, 1],
      [10, 1],
    ],
  })
  t.strictSame(flow(16)[0].values, {
    'holding-registers': [
      { range: [50, 50], min: 7, max: 7, writes: 1 },
      { range: [51, 51], min: 3, max: 65535, writes: 2 },
      { range: [52, 52], min: 9, max: 9, writes: 1 },
    ],
  })
  t.strictSame(flow(15)[0].values, {
    coils: [
      { range: [8, 8], min: 1, max: 1, writes: 1 },
      { range: [9, 9], min: 0, max: 0, writes: 1 },
      { range: [10, 10], min: 1, max: 1, writes: 1 },
    ],
  })
  t.strictSame(flow(23)[0].addresses, {
    'holding-registers': [
      [0, 4],
      [90, 90],
    ],
  })
  t.equal(flow(8)[0].sub, 0)
  const [pair] = baseline.connections
  t.match(pair, { opened: 2, unanswered: 1, malformed: 1, targetSeen: true })
  t.match(baseline.clients[0], { requests: 18, concurrent: 1 })
})

/** Sorted by time, as a capture has them. */
const inOrder = (packets: Packet[]): Packet[] => packets.sort((a, b) => a.us - b.us)

t.test("out of order, duplicated, overlapping: the generator's own counts", async (t) => {
  for (let seed = 1; seed <= 8; seed++) {
    const next = random(seed)
    const packets: Packet[] = []
    const expected: Record<number, number> = {}
    for (let c = 0; c < 4; c++) {
      const one = new Connection(packets, { host: `10.0.1.${c}`, port: 40000 + c }, TARGET, START + c * 37).open()
      for (let i = 0; i < 500; i++) {
        const frames = 1 + Math.floor(next() * 4)
        const requests: Buffer[] = []
        const responses: Buffer[] = []
        for (let f = 0; f < frames; f++) {
          const write = next() < 0.3
          expected[write ? 6 : 3] = (expected[write ? 6 : 3] ?? 0) + 1
          requests.push(adu(i * 4 + f, 1, write ? WRITE : READ))
          responses.push(adu(i * 4 + f, 1, write ? WRITE : READ_ANSWER))
        }
        // Frames pipelined, and cut into segments anywhere.
        for (const piece of cut(Buffer.concat(requests), next)) one.bytes(true, piece)
        for (const piece of cut(Buffer.concat(responses), next)) one.bytes(false, piece)
        one.us += 5000
      }
      one.close()
    }
    const shaken: Packet[] = []
    for (const packet of inOrder(packets)) {
      const late = next() < 0.1 ? Math.floor(next() * 3000) : 0
      shaken.push({ ...packet, us: packet.us + late })
      if (next() < 0.1) shaken.push({ ...packet, us: packet.us + Math.floor(next() * 20_000) })
    }
    const { baseline, ingested } = await learnBytes(pcapFile(inOrder(shaken)))
    t.strictSame(counts(baseline), expected, `seed ${seed}`)
    t.equal(ingested.streams.gaps, 0, 'no gap where nothing is missing')
    t.ok(ingested.streams.outOfOrder > 0 && ingested.streams.retransmitted > 0, 'the capture did shake')
    const answered = baseline.flows.reduce((sum, flow) => sum + flow.responses, 0)
    t.equal(
      answered,
      Object.values(expected).reduce((a, b) => a + b),
      'as many responses',
    )
  }
})

function cut(bytes: Buffer, next: () => number): Buffer[] {
  if (next() < 0.6) return [bytes]
  const at = Math.floor(next() * (bytes.length + 1))
  return [bytes.subarray(0, at), bytes.subarray(at)].filter((piece) => piece.length > 0)
}

t.test('overlapping segments: the bytes that came first stand', async (t) => {
  const packets: Packet[] = []
  const frames = Buffer.concat([adu(1, 1, READ), adu(2, 1, READ), adu(3, 1, WRITE)])
  const segment = (from: number, to: number, us: number): void => {
    const { ip } = ipPacket({
      from: CLIENT,
      to: TARGET,
      sequence: (1000 + from) >>> 0,
      acknowledged: 1,
      flags: FLAG.ack,
      payload: frames.subarray(from, to),
    })
    packets.push({ us: START + us, bytes: LINKS.ethernet.wrap(ip, false) })
  }
  segment(0, 12, 0)
  segment(6, 20, 1)
  segment(15, 30, 2)
  segment(0, frames.length, 3)
  const { baseline } = await learnBytes(pcapFile(packets))
  t.strictSame(counts(baseline), { 3: 2, 6: 1 })
})

t.test('lost segments: the rest is counted, and so is the gap', async (t) => {
  for (let seed = 1; seed <= 8; seed++) {
    const next = random(100 + seed)
    const packets: Packet[] = []
    const one = new Connection(packets, CLIENT, TARGET, START).open()
    let sent = 0
    let lost = 0
    const kept = new Set<Packet>(packets)
    for (let i = 0; i < 400; i++) {
      const before = packets.length
      // One segment of frames, so that a boundary is at the start of the next.
      const frames = 1 + Math.floor(next() * 3)
      one.bytes(true, Buffer.concat(Array.from({ length: frames }, (_, f) => adu(i * 3 + f, 1, READ))))
      one.bytes(false, Buffer.concat(Array.from({ length: frames }, (_, f) => adu(i * 3 + f, 1, READ_ANSWER))))
      one.us += 50_000
      const drop = i > 0 && i < 399 && next() < 0.05
      if (!drop) {
        kept.add(packets[before])
        sent += frames
      } else lost += frames
      kept.add(packets[before + 1])
    }
    one.close()
    const { baseline, ingested } = await learnBytes(
      pcapFile(packets.filter((packet) => kept.has(packet) || packet.us > one.us - 1000)),
    )
    t.strictSame(counts(baseline), { 3: sent }, `seed ${seed}: what was captured`)
    t.equal(ingested.streams.gapBytes, 12 * lost, 'what was not')
    t.ok(lost > 0)
    t.match(ingested.notes.join('\n'), /gaps? in TCP streams/)
  }
})

t.test('a million requests, lost, late, twice and cut anywhere: exactly those that can be told', async (t) => {
  const file = join(directory, 'lossy.pcap')
  const sent = writeLossyCapture(file, 1_000_000, 7)
  const { baseline, ingested } = await learnFile(file)
  rmSync(file)
  t.strictSame(counts(baseline), sent.countable)
  const countable = Object.values(sent.countable).reduce((a, b) => a + b)
  t.ok(
    sent.sent >= 1_000_000 && sent.whole < sent.sent && countable > 0.9995 * sent.whole,
    `${countable} of ${sent.whole}`,
  )
  t.ok(
    ingested.streams.gaps > 10_000 && ingested.streams.outOfOrder > 10_000 && ingested.streams.retransmitted > 10_000,
  )
  t.equal(ingested.streams.gapBytes, sent.lostBytes)
  t.equal(ingested.streams.midstream, 0)
})

t.test('a gap within a frame whose length is known: the next one is where it ends', async (t) => {
  const inner = adu(9, 1, WRITE)
  const packets: Packet[] = []
  const one = new Connection(packets, CLIENT, TARGET, START).open()
  one.ask(1, READ, READ_ANSWER, 10_000)
  // Its registers are frames from end to end, and what follows is one as well: by their bytes, all of them may be.
  const long = adu(1, 1, [16, ...u16(0), ...u16(18), 36, ...inner, ...inner, ...inner])
  const lost: Packet[] = []
  for (const [from, to] of [
    [0, 7],
    [7, 13],
    [13, 25],
    [25, 37],
    [37, 49],
  ]) {
    one.bytes(true, long.subarray(from, to))
    if (from === 7 || from === 25) lost.push(packets.at(-1) as Packet)
  }
  for (let i = 0; i < 5; i++) one.ask(1, READ, READ_ANSWER, 10_000)
  one.close()
  const { baseline, ingested } = await learnBytes(pcapFile(packets.filter((packet) => !lost.includes(packet))))
  t.strictSame(counts(baseline), { 3: 6 })
  t.equal(ingested.streams.gapBytes, 18)
  t.equal(ingested.streams.skippedBytes, 7 + 12 + 12)
})

t.test('a sender that counts its transactions goes on counting behind a gap', async (t) => {
  for (const [name, transaction, requests] of [
    ['what counts on is a frame', 42, { 3: 45 }],
    ['what does not is what a lost one carried', 9, { 3: 44 }],
  ] as const) {
    const packets: Packet[] = []
    const one = new Connection(packets, CLIENT, TARGET, START).open()
    for (let i = 0; i < 40; i++) one.ask(1, READ, READ_ANSWER, 10_000)
    // Frames 40 and 41 are lost but for a segment's worth of bytes, which are those of a frame.
    one.bytes(true, Buffer.alloc(24))
    packets.pop()
    one.bytes(true, adu(transaction, 1, READ))
    one.bytes(true, Buffer.concat([42, 43, 44, 45].map((id) => adu(id + 1, 1, READ))))
    one.close()
    t.strictSame(counts((await learnBytes(pcapFile(packets))).baseline), requests, name)
  }
})

t.test('a gap within a frame: never a guess', async (t) => {
  const inside: Record<string, number[]> = {
    'one write to the end': [...adu(9, 1, WRITE)],
    'two writes, and more': [...adu(9, 1, WRITE), ...adu(9, 1, WRITE), 0, 0],
    'two of no known function': [...adu(9, 1, [65, 1, 2]), ...adu(9, 1, [65, 1, 2])],
    'two that break the specification': [...adu(9, 1, [3, 0, 0, 0, 0]), ...adu(9, 1, [3, 0, 0, 0, 0])],
  }
  for (const [name, inner] of Object.entries(inside)) {
    const packets: Packet[] = []
    const one = new Connection(packets, CLIENT, TARGET, START).open()
    one.ask(1, READ, READ_ANSWER, 10_000)
    // A write whose registers look like frames, cut in two; its first half is lost.
    const long = adu(7, 1, [16, ...u16(0), ...u16(inner.length / 2 + 2), inner.length + 4, 1, 2, 3, 4, ...inner])
    one.bytes(true, long.subarray(0, 14))
    packets.pop()
    one.bytes(true, long.subarray(14))
    one.us += 10_000
    one.bytes(false, adu(7, 1, [16, ...u16(0), ...u16(13)]))
    one.us += 5_000_000
    for (let i = 0; i < 5; i++) one.ask(1, READ, READ_ANSWER, 10_000)
    one.close()
    const { baseline, ingested } = await learnBytes(pcapFile(packets))
    t.strictSame(counts(baseline), { 3: 6 }, name)
    t.equal(ingested.streams.gapBytes, 14)
    t.equal(ingested.streams.skippedBytes, long.length - 14)
  }
})

t.test('frames that do not begin with a segment are found again behind a gap', async (t) => {
  const packets: Packet[] = []
  const one = new Connection(packets, CLIENT, TARGET, START).open()
  const stream = Buffer.concat(Array.from({ length: 40 }, (_, i) => adu(i, 1, READ)))
  for (let at = 0; at < stream.length; at += 50) one.bytes(true, stream.subarray(at, at + 50))
  packets.splice(5, 1)
  const { baseline, ingested } = await learnBytes(pcapFile(packets))
  // Bytes 100…149 are lost, and with them frames 8…12, of the first the head alone is there. Frames 13, 14 and 15 begin
  // in the segment of bytes 150…199, and the one after them keeps the specification as well.
  t.strictSame(counts(baseline), { 3: 8 + 27 })
  t.equal(ingested.streams.gapBytes, 50)
})

t.test('without handshake, one direction, snapped, fragments, foreign ports', async (t) => {
  const packets = someTraffic()
  const rest = packets.slice(3)
  const middle = await learnBytes(pcapFile(rest))
  t.strictSame(counts(middle.baseline), SOME, 'without a handshake')
  t.match(middle.ingested.notes, ['1 connection whose beginning is not in the capture'])
  const fromClient = packets.filter(({ bytes }) => bytes.readUInt16BE(36) === 502)
  const half = await learnBytes(pcapFile(fromClient))
  t.strictSame(counts(half.baseline), SOME, 'requests alone')
  t.match(half.ingested.notes.join('\n'), /one direction alone/)
  t.equal(half.baseline.connections[0].targetSeen, false)
  const answers = await learnBytes(pcapFile(packets.filter((packet) => !fromClient.includes(packet))))
  t.strictSame(counts(answers.baseline), {}, 'responses alone are no requests')
  // 60 bytes hold the headers and the first 6 of each frame.
  const snapped = packets.map(({ us, bytes }) => ({ us, bytes: bytes.subarray(0, 60), original: bytes.length }))
  const short = await learnBytes(pcapFile(snapped))
  t.strictSame(counts(short.baseline), {})
  t.match(short.ingested.notes.join('\n'), /80 packets cut short by the capture/)
  const fragment = Buffer.from(packets[3].bytes)
  fragment[14 + 6] = 0x20
  const parts = await learnBytes(pcapFile([{ us: START, bytes: fragment }]))
  t.match(parts.ingested.notes, ['1 IP fragment not put together'])
  const foreign = someTraffic('ethernet', CLIENT, { ...TARGET, port: 10502 })
  t.strictSame(counts((await learnBytes(pcapFile(foreign))).baseline), {}, 'another port')
  t.strictSame(counts((await learnBytes(pcapFile(foreign), { ports: [10502] })).baseline), SOME, 'named')
  const anywhere = await learnBytes(pcapFile(foreign), { anyPort: true })
  t.strictSame(counts(anywhere.baseline), SOME, 'by content')
  t.equal(anywhere.baseline.flows[0].port, 10502)
  const late = await learnBytes(pcapFile(foreign.slice(3)), { anyPort: true })
  t.strictSame(counts(late.baseline), SOME, 'by content, without a handshake')
})

t.test('not Modbus on the port: counted as malformed once, and frames after it are found', async (t) => {
  const packets: Packet[] = []
  const one = new Connection(packets, CLIENT, TARGET, START).open()
  one.bytes(true, Buffer.from('GET / HTTP/1.1\r\nHost: plc\r\n\r\n'))
  for (let i = 0; i < 3; i++) one.ask(1, READ, READ_ANSWER)
  one.close()
  const { baseline } = await learnBytes(pcapFile(packets))
  t.strictSame(counts(baseline), { 3: 3 })
  t.equal(baseline.connections[0].malformed, 1)
  const http: Packet[] = []
  const web = new Connection(http, CLIENT, { ...TARGET, port: 80 }, START).open()
  for (let i = 0; i < 20; i++) web.bytes(i % 2 === 0, Buffer.from(`GET /${i} HTTP/1.1\r\nHost: plc\r\n\r\n`))
  t.strictSame((await learnBytes(pcapFile(http), { anyPort: true })).baseline.connections, [], 'nor on any port')
})

t.test('time that goes back, and empty files', async (t) => {
  const packets = someTraffic()
  for (const packet of packets.slice(40)) packet.us -= 3_600_000_000
  const { baseline, ingested } = await learnBytes(pcapFile(packets))
  t.strictSame(counts(baseline), SOME)
  t.match(ingested.notes.join('\n'), /time goes back by more than a second 1 time/)
  t.ok((baseline.first as string) < (baseline.last as string))
  t.match((await learnBytes(new Uint8Array(0))).ingested.notes, ['the file is empty'])
  t.strictSame((await learnBytes(pcapFile([]))).ingested.notes, [])
  for (const junk of ['hello, world', '{"json": true}', 'abc', '\x1f\x8bnot gzip at all']) {
    await t.rejects(
      learnBytes(Buffer.from(junk)),
      /not a capture file|shorter than a magic|incorrect/,
      JSON.stringify(junk),
    )
  }
  await t.rejects(learnFile(join(directory, 'missing.pcap')), /no such file/)
  await t.rejects(learnFile(directory), /is a directory/)
})

/** A source out of memory, handed out in pieces. */
function memory(bytes: Uint8Array, piece = 1 << 20): ByteSource {
  let position = 0
  return {
    name: 'memory',
    size: bytes.length,
    damage: null,
    get position() {
      return position
    },
    async read(buffer, at, length) {
      const take = Math.min(piece, length, bytes.length - position)
      buffer.set(bytes.subarray(position, position + take), at)
      position += take
      return take
    },
    async close() {},
  }
}

async function survives(bytes: Uint8Array, piece?: number): Promise<Record<number, number>> {
  const collector = new BaselineCollector()
  const streams = new Reassembly(collector, { ports: [502], anyPort: true })
  await new CaptureReader(memory(bytes, piece), streams).read()
  streams.finish()
  return counts(collector.toFile())
}

t.test('any chunking of the file gives the same', async (t) => {
  for (const file of [pcapFile(someTraffic()), pcapngFile(someTraffic())]) {
    for (const piece of [1, 3, 17, 100, 4096])
      t.strictSame(await survives(file, piece), SOME, `${piece} bytes at a time`)
  }
})

t.test('cut at every byte: what is whole is used, nothing throws', async (t) => {
  const packets = someTraffic().slice(0, 13)
  for (const file of [pcapFile(packets), pcapngFile(packets)]) {
    let before = 0
    for (let length = 0; length <= file.length; length++) {
      const seen = Object.values(await survives(file.subarray(0, length))).reduce((a, b) => a + b, 0)
      if (seen < before) t.fail(`${length} bytes give ${seen} requests, one less gave ${before}`)
      before = seen
    }
    t.ok(before > 3)
  }
  const file = gzipSync(pcapFile(someTraffic()))
  const { baseline, ingested } = await learnBytes(file.subarray(0, file.length - 20))
  t.ok((counts(baseline)[3] ?? 0) > 5, 'of a gzip file that breaks off, what came before')
  t.equal(ingested.notes.length > 0, true)
})

t.test('mutated anywhere: nothing throws, nothing is kept for ever', async (t) => {
  const files = [pcapFile(someTraffic('qinq')), pcapngFile(someTraffic('sll2'), { linkType: 276 })]
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...files),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 30 }),
      async (file, changes) => {
        const copy = Buffer.from(file)
        for (const [at, value] of changes) copy[at % copy.length] = value
        await survives(copy)
      },
    ),
    { numRuns: 300 },
  )
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), async (bytes) => {
      await survives(Buffer.concat([pcapFile([]), bytes]))
      await survives(Buffer.concat([pcapngFile([]), bytes]))
    }),
    { numRuns: 300 },
  )
  t.pass('survived')
})
