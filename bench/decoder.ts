/**
 * Nanoseconds a frame without sockets: the decision alone on whole buffers beside the same checks as a loop in C, the
 * whole session (request and response, with state, counters and limits off), and the parsers of other libraries.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import net from 'node:net'
import { join } from 'node:path'
import { LiveBaseline } from '../src/baseline/live.ts'
import { PairTable } from '../src/protocols/modbus/decide.ts'
import {
  MAX_ADU,
  type ModbusHost,
  ModbusSession,
  type SessionTerms,
  type Shadow,
} from '../src/protocols/modbus/session.ts'
import { REASON } from '../src/protocols/reason.ts'
import { OPEN_GATE } from '../src/protocols/session.ts'
import { RESPONSE_BOUNDS_US } from '../src/records/counters.ts'
import { compiled, scratch } from './machine.ts'
import { opcuaChunks } from './opcua-chunks.ts'
import { figure, median, medianRatio, ratioText, say, table } from './stats.ts'
import { FRAMES, ROUNDS, timed } from './timed.ts'

/** A read of the size that a saturated connection delivers. */
const FRAMES_PER_READ = 64

/** Reads of holding and input registers at many addresses, one in eight of them outside the allowed ranges. */
function requests(allAllowed: boolean): Buffer {
  const frames: Buffer[] = []
  for (let i = 0; i < FRAMES_PER_READ; i++) {
    const outside = !allAllowed && i % 8 === 7
    const frame = Buffer.from([i >> 8, i & 0xff, 0, 0, 0, 6, 1, i % 3 === 0 ? 4 : 3, 0, 0, 0, 10])
    frame.writeUInt16BE(outside ? 5000 + i : i, 8)
    frames.push(frame)
  }
  return Buffer.concat(frames)
}

function responses(): Buffer {
  const frames: Buffer[] = []
  for (let i = 0; i < FRAMES_PER_READ; i++) {
    frames.push(Buffer.from([i >> 8, i & 0xff, 0, 0, 0, 23, 1, i % 3 === 0 ? 4 : 3, 20, ...new Array(20).fill(i)]))
  }
  return Buffer.concat(frames)
}

const pairTable = (): PairTable =>
  new PairTable(
    [
      {
        index: 0,
        terms: {
          name: 'reads',
          action: 'allow',
          unitIds: null,
          functions: [
            { code: 3, sub: null },
            { code: 4, sub: null },
          ],
          addresses: { 'holding-registers': [[0, 999]], 'input-registers': [[0, 127]] },
          values: null,
          onDeny: null,
          mode: null,
          tolerate: [],
        },
      },
    ],
    null,
  )

/** The loop of the session over a read's frames, with the decision and nothing else; the C loop turn by turn with it. */
function decisions(program: string | null): { own: number[]; c: number[] } {
  const buf = new Uint8Array(requests(false))
  const rules = pairTable()
  let allowed = 0
  let frames = 0
  const c: number[] = []
  const pass = (): void => {
    const end = buf.length
    let o = 0
    while (end - o >= 6) {
      const length = (buf[o + 4] << 8) | buf[o + 5]
      if (length < 2 || length > 254) throw new Error('not a frame')
      const next = o + 6 + length
      if (next > end) break
      if ((buf[o + 2] | buf[o + 3]) === 0 && rules.decide(buf, o + 6, next) === REASON.allow) allowed++
      frames++
      o = next
    }
  }
  const own = timed(FRAMES_PER_READ, pass, () => {
    if (program !== null) c.push(cLoop(program, allowed / frames))
  })
  return { own, c }
}

/**
 * @param learned monitor mode, with or without a baseline that is kept; null: enforce mode
 * @param shadowed a shadow policy, the same as the one in force, judges each request
 */
function session(learned: boolean | null, shadowed = false): number[] {
  let sent = 0
  const baseline = new LiveBaseline()
  const track = baseline.open(1n, 2n, 502)
  if (track === null) throw new Error('the baseline has no room')
  const host: ModbusHost = {
    toTarget: (_, from, to) => {
      sent += to - from
    },
    toClient: (_, from, to) => {
      sent += to - from
    },
    finish: () => {},
    reset: () => {},
    soon: () => {},
    redial: () => true,
    witness: (fromClient, buf, adu, end) => {
      baseline.clock[0] = Date.now() * 1000
      if (fromClient) baseline.request(track, buf, adu, end)
      else baseline.response(track, buf, adu, end, true)
    },
    dropTarget: () => {},
    report: () => {
      throw new Error('no frame of this run is to be denied')
    },
  }
  const cells = new Float64Array(new SharedArrayBuffer(1 << 17))
  const at = {
    requests: 0,
    responses: 8192,
    bytesIn: 8300,
    bytesOut: 8301,
    pending: 8302,
    rules: 8310,
    tolerated: 8320,
  }
  const terms: SessionTerms = {
    monitor: learned !== null,
    onDeny: 'exception',
    ruleOnDeny: [null],
    ruleMonitor: new Uint8Array(1),
    tolerate: new Uint8Array(1),
    responseMs: 5000,
    idleMs: 60_000,
    partialFrameMs: 3000,
    pace: false,
    paceQueue: 16,
    paceMs: 1000,
    counters: { cells, ...at, histogram: 8330 },
    gate: OPEN_GATE,
    bounds: Int32Array.from(RESPONSE_BOUNDS_US),
    witnessed: learned === true,
  }
  const clock = { us: 0, ms: 0 }
  const other = pairTable()
  let verdict = 0
  let differences = 0
  const shadow: Shadow = {
    judge: (buf, adu, end) => {
      verdict = other.decide(buf, adu + 6, end)
    },
    settle: (_buf, _adu, _end, reason) => {
      if (reason !== verdict) differences++
    },
  }
  const tested = new ModbusSession(host, clock, terms, pairTable(), null, shadowed ? shadow : null)
  const asked = inBuffer(requests(true))
  const answered = inBuffer(responses())
  const ns = timed(FRAMES_PER_READ, () => {
    clock.us += 300
    tested.onClientBytes(asked, MAX_ADU, asked.length)
    clock.us += 300
    tested.onTargetBytes(answered, MAX_ADU, answered.length)
  })
  if (tested.pending !== 0 || sent === 0 || differences > 0) throw new Error('the session did not pair all responses')
  return ns
}

function inBuffer(frames: Buffer): Buffer {
  const buf = Buffer.allocUnsafeSlow(MAX_ADU + frames.length)
  frames.copy(buf, MAX_ADU)
  return buf
}

/** One round of the C loop, which is to be run between two of the decoder's. */
function cLoop(program: string, allowed: number): number {
  const file = join(scratch, 'frames')
  writeFileSync(file, requests(false))
  const [, last] = execFileSync(program, [file, String(FRAMES * 2), '2'], { encoding: 'utf8' })
    .trim()
    .split('\n')
  const [ns, share] = last.split(' ').map(Number)
  if (Math.abs(share - allowed) > 1e-6) throw new Error(`the C loop allows ${share}, the decoder ${allowed}`)
  return ns
}

/** What the client of `modbus-serial` makes of a read of responses: its port's parser alone, fed through its socket. */
function modbusSerial(): number[] | null {
  const require = createRequire(import.meta.url)
  if (!existsSync(join(import.meta.dirname, '../node_modules/modbus-serial'))) return null
  const TcpPort = require('modbus-serial/ports/tcpport.js')
  const socket = new net.Socket()
  const port = new TcpPort({ socket })
  let frames = 0
  port.on('data', () => {
    frames++
  })
  const chunk = responses()
  const ns = timed(FRAMES_PER_READ, () => socket.emit('data', chunk))
  socket.destroy()
  return frames === 0 ? null : ns
}

/** The parser of `jsmodbus`'s client: its response handler alone, without a socket. */
function jsmodbus(): number[] | null {
  const require = createRequire(import.meta.url)
  if (!existsSync(join(import.meta.dirname, '../node_modules/jsmodbus'))) return null
  const { default: Handler } = require('jsmodbus/dist/tcp-client-response-handler.js')
  const handler = new Handler()
  const chunk = responses()
  let frames = 0
  const ns = timed(FRAMES_PER_READ, () => {
    handler.handleData(chunk)
    while (handler.shift() !== undefined) frames++
  })
  return frames % FRAMES_PER_READ !== 0 || frames === 0 ? null : ns
}

export function decoder(): void {
  const program = compiled('decoder')
  const { own, c } = decisions(program)
  const rows = [
    [
      'Headgate: frame, specification check, decision by address tables',
      figure(median(own)),
      program === null ? '-' : ratioText(medianRatio(own, c)),
    ],
  ]
  if (program !== null) rows.push(['the same checks in C (gcc -O2)', figure(median(c)), ratioText(1)])
  rows.push([
    'Headgate: whole session, a request and its response, with state and counters',
    figure(median(session(null))),
    '',
  ])
  rows.push(['the same, and a shadow policy judges', figure(median(session(null, true))), ''])
  rows.push(['the whole session in monitor mode', figure(median(session(false))), ''])
  rows.push(['the same, and a baseline is kept', figure(median(session(true))), ''])
  for (const [what, ns] of opcuaChunks()) rows.push([what, figure(median(ns)), ''])
  const others = { jsmodbus: jsmodbus(), 'modbus-serial': modbusSerial() }
  for (const [name, ns] of Object.entries(others)) {
    if (ns === null) continue
    const ratio = program === null ? '-' : ratioText(median(ns) / median(c))
    rows.push([`${name}: parser of responses`, figure(median(ns)), ratio])
  }
  say('\n### Decoder\n')
  say(`Whole buffers of ${FRAMES_PER_READ} frames, one CPU, medians of ${ROUNDS}.\n`)
  say(table(['', 'ns a frame', 'to C'], rows))
  for (const [name, ns] of Object.entries(others)) if (ns === null) say(`\n${name}: skipped, not installed`)
  if (program === null) say('C loop: skipped, no gcc')
}
