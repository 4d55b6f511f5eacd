/**
 * Frames by the million through a real gateway, cut at random places: what the target gets, what the client gets, and
 * every verdict counted must be what a session without sockets makes of the same frames one by one.
 *
 *     npm run fuzz [-- FRAMES [SEED [epoll | net]]]     ten million over each transport, half enforced, half monitored
 */
import { functionName } from '../../src/protocols/modbus/function-codes.ts'
import { TRANSPORTS } from './gateway.ts'
import { adu, subRequest, u16 } from './modbus.ts'
import type { RuleText } from './policy.ts'
import { answer } from './server.ts'
import { SessionHarness, sessionPolicy } from './session.ts'
import { Site } from './site.ts'
import { adus, sleep } from './sockets.ts'
import { random } from './traffic.ts'

export interface FuzzOptions {
  io: 'epoll' | 'net'
  /** Frames in all, to both conduits together. */
  frames: number
  seed: number
  /** Called now and then with the frames done. */
  progress?: (frames: number) => void
}

type Mode = 'enforce' | 'monitor'
const MODES: readonly Mode[] = ['enforce', 'monitor']
/** Frames of one connection. */
const BATCH = 5000
const PATIENCE_MS = 60_000

const RULES: RuleText[] = [
  { name: 'reads', functions: ['read'] },
  { name: 'some writes', functions: [6, 16, 22, 23], addresses: { 'holding-registers': ['0-199'] } },
  { name: 'values', functions: [5, 15], values: { coils: { '0-65535': { max: 0 } } } },
  { name: 'echo', unit_ids: ['0-9'], functions: ['diagnostics/return-query-data'] },
  { name: 'never', action: 'deny', functions: ['read'], addresses: { 'input-registers': ['500-600'] } },
]
/** A harness that waits for its turn on a busy machine is no slow client. */
const PLAN = { rules: RULES, timeouts: { responseMs: 120_000, partialFrameMs: 120_000, idleMs: 600_000 } }

/** A request: nearly always one that a client would send, often one that is denied, sometimes anything at all. */
function requestPdu(next: () => number): number[] {
  const int = (below: number): number => Math.floor(next() * below)
  const code = [1, 2, 3, 4, 3, 4, 3, 5, 6, 7, 8, 11, 12, 15, 16, 17, 20, 21, 22, 23, 24, 43, 90, 100][int(24)]
  const address = u16(next() < 0.9 ? int(1000) : int(65_536))
  const bytes = (count: number): number[] => Array.from({ length: count }, () => int(256))
  switch (code) {
    case 1:
    case 2:
      return [code, ...address, ...u16(1 + int(200))]
    case 3:
    case 4:
      return [code, ...address, ...u16(1 + int(20))]
    case 5:
      return [code, ...address, next() < 0.5 ? 0xff : 0, 0]
    case 6:
      return [code, ...address, ...bytes(2)]
    case 8:
      return [code, 0, int(3), ...bytes(2)]
    case 15: {
      const quantity = 1 + int(40)
      return [code, ...address, ...u16(quantity), Math.ceil(quantity / 8), ...bytes(Math.ceil(quantity / 8))]
    }
    case 16: {
      const quantity = 1 + int(20)
      return [code, ...address, ...u16(quantity), 2 * quantity, ...bytes(2 * quantity)]
    }
    case 20:
      return [code, 14, ...subRequest(4, int(100), 1 + int(5)), ...subRequest(3, int(100), 1 + int(5))]
    case 21:
      return [code, 9, ...subRequest(4, int(100), 1), ...bytes(2)]
    case 22:
      return [code, ...address, ...bytes(4)]
    case 23:
      return [code, ...address, ...u16(1 + int(20)), ...address, ...u16(2), 4, ...bytes(4)]
    case 24:
      return [code, ...address]
    case 43:
      return [code, next() < 0.8 ? 14 : 13, 1, 0]
    default:
      return [code]
  }
}

function request(transaction: number, next: () => number): Buffer {
  const int = (below: number): number => Math.floor(next() * below)
  const unit = int(12)
  const kind = next()
  // Anything whose end can be known: what follows an MBAP length of 0, 1 or 255 is another test's.
  if (kind < 0.1)
    return adu(
      transaction,
      unit,
      Array.from({ length: 1 + int(253) }, () => int(256)),
    )
  const pdu = requestPdu(next)
  if (kind < 0.15) pdu[int(pdu.length)] ^= 1 << int(8)
  else if (kind < 0.18) pdu.push(int(256))
  else if (kind < 0.2 && pdu.length > 1) pdu.pop()
  return adu(transaction, unit, pdu, kind < 0.22 && kind >= 0.2 ? 1 + int(0xffff) : 0)
}

/** A monitor lets anything through to the target, which refuses what it cannot answer within a frame. */
function answerable(frame: Buffer): boolean {
  const word = (at: number): number => (at + 9 <= frame.length ? frame.readUInt16BE(at + 7) : 0)
  switch (frame[7]) {
    case 1:
    case 2:
      return word(3) <= 2000
    case 3:
    case 4:
    case 23:
      return word(3) <= 125
    case 20:
      return frame.length === 23 && word(7) <= 20 && word(14) <= 20
    default:
      return true
  }
}

/** What the target says: its answer, and now and then one that nobody asked for, or the same twice. */
function responses(frame: Buffer): Buffer[] {
  const right = answerable(frame) ? answer(frame) : adu(frame.readUInt16BE(0), frame[6], [frame[7] | 0x80, 3])
  const mark = (frame[1] * 31 + frame.length) % 40
  if (mark === 1) return [adu(frame.readUInt16BE(0) ^ 0x8000, frame[6], [3, 2, 0, 1]), right]
  if (mark === 2) return [right, right]
  // What breaks the specification is not believed; its request is answered by the next, which is right.
  if (mark === 3) return [adu(frame.readUInt16BE(0), frame[6], [frame[7] & 0x7f, 250, 1]), right]
  return [right]
}

type Counts = Record<string, number>

interface Expected {
  stream: Buffer
  toTarget: Buffer
  toClient: Buffer
  requests: Counts
  responses: Counts
}

const concat = (chunks: readonly Buffer[]): Buffer => (chunks.length === 1 ? chunks[0] : Buffer.concat(chunks))

function expect(mode: Mode, count: number, next: () => number): Expected {
  const harness = new SessionHarness(sessionPolicy({ ...PLAN, mode }))
  const frames: Buffer[] = []
  const toTarget: Buffer[] = []
  const toClient: Buffer[] = []
  for (let i = 0; i < count; i++) {
    const frame = request(i & 0xffff, next)
    frames.push(frame)
    harness.client(frame)
    for (const sent of harness.targetWrites.splice(0)) {
      toTarget.push(sent)
      for (const response of responses(sent)) harness.target(response)
    }
    toClient.push(...harness.clientWrites.splice(0))
    harness.reports.length = 0
    harness.witnessed.length = 0
    if (harness.ended !== '') throw new Error(`frame ${frame.toString('hex')} ended the session`)
  }
  const named = Object.entries(harness.requests()).map(([key, value]) => {
    const [code, ...verdict] = key.split(' ')
    return [`${functionName(Number(code))} ${verdict.join(' ')}`, value] as const
  })
  return {
    stream: concat(frames),
    toTarget: concat(toTarget),
    toClient: concat(toClient),
    requests: Object.fromEntries(named),
    responses: harness.responses(),
  }
}

function add(into: Counts, counts: Counts): void {
  for (const [key, value] of Object.entries(counts)) into[key] = (into[key] ?? 0) + value
}

function difference(what: string, found: Buffer, expected: Buffer): string {
  if (found.equals(expected)) return ''
  let at = 0
  while (at < found.length && found[at] === expected[at]) at++
  const around = (bytes: Buffer): string => bytes.subarray(Math.max(0, at - 16), at + 32).toString('hex')
  return `${what}: ${found.length} bytes, expected ${expected.length}; differ at ${at}: ${around(found)}, expected ${around(expected)}`
}

/** Bytes in pieces: of a few bytes in some streams, of some thousands in others. */
async function* pieces(stream: Buffer, next: () => number): AsyncGenerator<Buffer> {
  const most = next() < 0.2 ? 40 : 16_384
  for (let at = 0; at < stream.length; ) {
    const end = Math.min(stream.length, at + 1 + Math.floor(next() * most))
    yield stream.subarray(at, end)
    at = end
    if (next() < (most === 40 ? 0.05 : 0.3)) await new Promise((resolve) => setImmediate(resolve))
  }
}

async function connection(site: Site<Mode>, mode: Mode, expected: Expected, next: () => number): Promise<void> {
  const target = site.target(mode)
  target.clear()
  const client = await site.connect(mode)
  for await (const piece of pieces(expected.stream, next)) {
    if (!client.socket.write(piece)) await new Promise((resolve) => client.socket.once('drain', resolve))
  }
  const end = performance.now() + PATIENCE_MS
  const there = (): boolean =>
    client.length >= expected.toClient.length && target.last?.length >= expected.toTarget.length
  while (!there() && client.state === 'open') {
    if (performance.now() > end) break
    await sleep(1)
  }
  const wrong = [
    difference('the target got', target.received, expected.toTarget),
    difference('the client got', client.received, expected.toClient),
  ].filter((one) => one !== '')
  if (wrong.length > 0) {
    await sleep(500)
    const said = site.gateway.events.slice(-5).map(({ event, detail = '' }) => `${event} ${detail}`)
    throw new Error(
      `${mode}: ${wrong.join('; ')}; client ${client.state}; the gateway's last events: ${said.join(', ')}`,
    )
  }
  client.destroy()
}

/**
 * @returns frames sent and verdicts counted
 * @throws Error that says what differed; the same seed makes the same frames again
 */
export async function fuzz({ io, frames, seed, progress }: FuzzOptions): Promise<{ frames: number; verdicts: number }> {
  const next = random(seed)
  const site = await Site.open<Mode>(io, {
    enforce: { ...PLAN, mode: 'enforce' },
    monitor: { ...PLAN, mode: 'monitor' },
  })
  for (const mode of MODES) site.target(mode).script = (frame) => concat(responses(frame))
  const requests: Record<Mode, Counts> = { enforce: {}, monitor: {} }
  const answered: Record<Mode, Counts> = { enforce: {}, monitor: {} }
  let done = 0
  try {
    const share = Math.ceil(frames / MODES.length)
    await Promise.all(
      MODES.map(async (mode) => {
        for (let left = share; left > 0; left -= BATCH) {
          const expected = expect(mode, Math.min(BATCH, left), next)
          await connection(site, mode, expected, next)
          add(requests[mode], expected.requests)
          add(answered[mode], expected.responses)
          done += adus(expected.stream).length
          progress?.(done)
        }
      }),
    )
    let verdicts = 0
    for (const mode of MODES) {
      const counted = await site.gateway.counts(mode)
      compare(`${mode}: requests`, counted.requests, requests[mode])
      // A monitor waits for answers that came amiss, for how long is a matter of time.
      if (mode === 'enforce') compare(`${mode}: responses`, counted.responses, answered[mode])
      verdicts += Object.values(counted.requests).reduce((sum, n) => sum + n, 0)
    }
    return { frames: done, verdicts }
  } finally {
    await site.close()
  }
}

function compare(what: string, found: Counts, expected: Counts): void {
  const wrong = [...new Set([...Object.keys(found), ...Object.keys(expected)])]
    .filter((key) => found[key] !== expected[key])
    .map((key) => `${key} ${found[key] ?? 0}, expected ${expected[key] ?? 0}`)
  if (wrong.length > 0) throw new Error(`${what}: ${wrong.join('; ')}`)
}

if (import.meta.main) {
  const frames = Number(process.argv[2] ?? 10_000_000)
  const seed = Number(process.argv[3] ?? Date.now() | 0)
  if (!(frames >= 1) || !Number.isInteger(seed)) {
    process.stderr.write('usage: npm run fuzz [-- FRAMES [SEED [epoll | net]]]\n')
    process.exit(2)
  }
  for (const io of TRANSPORTS.filter((one) => one === (process.argv[4] ?? one))) {
    const begun = performance.now()
    let told = 0
    const progress = (done: number): void => {
      if (done - told < 500_000) return
      told = done
      process.stdout.write(`${io}: ${done.toLocaleString('en')} frames\n`)
    }
    const { verdicts } = await fuzz({ io, frames, seed, progress })
    const seconds = Math.round((performance.now() - begun) / 1000)
    process.stdout.write(
      `${io}: ${verdicts.toLocaleString('en')} verdicts and all bytes as expected, ${seconds} s, seed ${seed}\n`,
    )
  }
}
