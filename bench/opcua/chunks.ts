/** Nanoseconds a chunk without sockets: an inspecting session on a None channel, and the decision on Reads alone. */
import { readFileSync } from 'node:fs'
import type { OpcUaConduit } from '../../src/gateway/opcua-conduit.ts'
import { Plan } from '../../src/gateway/plan.ts'
import { checkPolicy } from '../../src/policy/load.ts'
import { parseNodePattern, parseService } from '../../src/policy/opcua-notations.ts'
import { dateTime, Writer } from '../../src/protocols/opcua/binary.ts'
import { AT, MESSAGE, setU32 } from '../../src/protocols/opcua/chunk.ts'
import { RuleTable } from '../../src/protocols/opcua/decide.ts'
import { writeRequestHeader, writeResponseHeader } from '../../src/protocols/opcua/headers.ts'
import { policyByName, SECURITY_MODE } from '../../src/protocols/opcua/security/policies.ts'
import { REQUEST, RESPONSE } from '../../src/protocols/opcua/services.ts'
import { SessionContext } from '../../src/protocols/opcua/session-context.ts'
import { REASON } from '../../src/protocols/reason.ts'
import { HEAD_ROOM, type Session } from '../../src/protocols/session.ts'
import { layoutOf } from '../../src/records/counters.ts'
import { filledIn } from '../machine.ts'
import { figure, median, say, table } from '../stats.ts'
import { Channel, hello } from './wire.ts'

const ROUNDS = 7
const CHUNKS = 1_000_000
/** Chunks of one read of a saturated connection. */
const BATCH = 64

/** A Read of `nodes` nodes, TypeId first. */
function readBody(nodes: number): Uint8Array {
  const writer = writeRequestHeader(new Writer().numericNodeId(0, REQUEST.Read), null, 1, dateTime(Date.now()), 10_000)
  writer.double(0).u32(2).i32(nodes)
  for (let i = 0; i < nodes; i++) writer.u8(3).u16(2).string(`Line1.Value${i}`).u32(13).i32(-1).u16(0).i32(-1)
  return writer.written().slice()
}

function responseBody(): Uint8Array {
  const now = dateTime(Date.now())
  const writer = writeResponseHeader(new Writer().numericNodeId(0, RESPONSE.Read), 1, 0, now).i32(1)
  return writer.u8(0x0d).u8(11).double(1).i64(now).i64(now).i32(-1).written().slice()
}

/** Chunks of the same message one behind the other, whose sequence numbers and request ids are set anew each time. */
class Batch {
  readonly buf: Uint8Array
  readonly end: number
  private readonly size: number
  private sequence: number

  constructor(body: Uint8Array, channel: Channel, sequence: number, count = BATCH) {
    this.size = AT.body + body.length
    this.buf = new Uint8Array(HEAD_ROOM + count * this.size)
    this.end = this.buf.length
    this.sequence = sequence
    for (let at = HEAD_ROOM; at < this.end; at += this.size) {
      setU32(this.buf, at, MESSAGE.MSG)
      this.buf[at + 3] = 0x46
      setU32(this.buf, at + 4, this.size)
      setU32(this.buf, at + AT.channel, channel.id)
      setU32(this.buf, at + AT.token, channel.token)
      this.buf.set(body, at + AT.body)
    }
  }

  next(): void {
    for (let at = HEAD_ROOM; at < this.end; at += this.size) {
      setU32(this.buf, at + AT.sequence, ++this.sequence)
      setU32(this.buf, at + AT.request, this.sequence)
    }
  }
}

/** Nanoseconds of CPU a chunk, in each round. */
function timed(perPass: number, pass: () => void): number[] {
  const passes = Math.ceil(CHUNKS / perPass)
  for (let i = 0; i < passes / 4; i++) pass()
  return Array.from({ length: ROUNDS }, () => {
    const start = process.cpuUsage()
    for (let i = 0; i < passes; i++) pass()
    return (process.cpuUsage(start).user * 1000) / (passes * perPass)
  })
}

/** A session on a None channel that is open, and what it has forwarded. */
function inspecting(): { session: Session; channel: Channel; forwarded: () => number } {
  const file = filledIn('opcua-policy.yaml', {
    BENCH_LISTEN: 4841,
    BENCH_TARGET: 4840,
    BENCH_IO: 'net',
    BENCH_RULE: '',
    BENCH_SERVICES: '[discovery, session, browse, read]',
    BENCH_OPCUA: '{ handling: inspect, security_modes: [None] }',
  })
  const { policy } = checkPolicy(file, readFileSync(file))
  if (policy === null) throw new Error(`${file} is not usable`)
  const layout = layoutOf(policy)
  const context = {
    layout,
    cells: new Float64Array(layout.size),
    values: new SharedArrayBuffer(1 << 16),
    targets: new Map(),
  }
  const plan = new Plan(policy, context as never)
  const [listener] = plan.listeners.values()
  let bytes = 0
  const forward = (_: Uint8Array, from: number, to: number): void => {
    bytes += to - from
  }
  const refuse = (why: string) => {
    throw new Error(`the session was ended: ${why}`)
  }
  const host = {
    toTarget: forward,
    toClient: forward,
    finish: refuse,
    reset: refuse,
    redial: () => false,
    dropTarget: refuse,
    reportOpcUa: () => {},
  }
  const conduit = listener.conduit as OpcUaConduit
  const session = conduit.open(host as never, { us: 1, ms: 1 }, listener.target, 0xffff7f000001n, null, null)
  const feed = (take: 'onClientBytes' | 'onTargetBytes', message: Uint8Array): void => {
    const buf = new Uint8Array(HEAD_ROOM + message.length)
    buf.set(message, HEAD_ROOM)
    session[take](buf, HEAD_ROOM, buf.length)
  }
  const none = policyByName('None')
  const [channel, server] = [new Channel(), new Channel()]
  feed('onClientBytes', hello('opc.tcp://127.0.0.1:4841'))
  feed('onTargetBytes', hello(null))
  const opening = channel.openRequest(none, SECURITY_MODE.None, null, null)
  feed('onClientBytes', opening)
  const opened = server.takeOpenRequest(null as never, opening, 0, opening.length)
  feed('onTargetBytes', opened)
  channel.takeOpenResponse(null, opened, 0, opened.length)
  return { session, channel, forwarded: () => bytes }
}

export function chunks(): void {
  const { session, channel, forwarded } = inspecting()
  const requests = new Batch(readBody(1), channel, channel.sequence)
  const responses = new Batch(responseBody(), channel, channel.sequence)
  const numbering = median(
    timed(2 * BATCH, () => {
      requests.next()
      responses.next()
    }),
  )
  const before = forwarded()
  const again = inspecting()
  const [asked, answered] = [
    new Batch(readBody(1), again.channel, again.channel.sequence),
    new Batch(responseBody(), again.channel, again.channel.sequence),
  ]
  const whole = timed(2 * BATCH, () => {
    asked.next()
    again.session.onClientBytes(asked.buf, HEAD_ROOM, asked.end)
    answered.next()
    again.session.onTargetBytes(answered.buf, HEAD_ROOM, answered.end)
  })
  if (again.forwarded() <= before) throw new Error('nothing was forwarded')
  session.dispose()
  again.session.dispose()

  const rows = [['session, a chunk (Read and its response, batched)', figure(median(whole) - numbering)]]
  const terms = {
    name: 'reads',
    action: 'allow' as const,
    services: parseService('read') as number[],
    nodes: null,
    attributes: null,
    values: null,
    methods: null,
    mode: null,
  }
  const context = new SessionContext()
  const narrow = { ...terms, nodes: [parseNodePattern('ns=2;s=Line1.*') as never], attributes: [13] }
  for (const [name, rule, nodes] of [
    ['decision by service alone', terms, 1],
    ['decision on a Read of one node, by node and attribute', narrow, 1],
    ['the same, of 50 nodes', narrow, 50],
  ] as const) {
    const rules = new RuleTable([{ index: 0, terms: rule }])
    const body = readBody(nodes)
    const decide =
      rule === narrow ? () => rules.decide(body, 0, body.length, context) : () => rules.service(REQUEST.Read)
    if (decide() !== REASON.allow) throw new Error(`${name}: denied`)
    rows.push([name, figure(median(timed(nodes === 1 ? 1 : 20, () => void decide())) * (nodes === 1 ? 1 : 20))])
  }
  say('\n### OPC UA, without sockets\n')
  say(table(['what', 'ns'], rows))
}
