/**
 * One OPC UA connection pair whose secure channel is the client's and the server's own: takes bytes by offset from
 * either side, reads as much of them as the channel lets be read, and tells its host what to forward, what to answer
 * and when to close.
 *
 * Enforce: a chunk is judged by its head, and its bytes then move on as they come; allowed chunks of one read leave as
 * one write of the buffer they came in. Where a rule needs a message's body, the message is gathered first. On a channel
 * in clear a denied request is answered with a ServiceFault, and what follows is numbered anew in both directions; on
 * a channel that is signed or encrypted nothing can be answered or left out, so that the connection ends with an ERR.
 * Monitor: the bytes move on first, untouched, and are read afterwards.
 *
 * Sources: OPC 10000-6 §6.7 (secure conversation), §7.1 (connection protocol); OPC 10000-4 §5.5 (secure channels).
 */
import { REASON } from '../../reason.ts'
import type { Clock, RequestLimiter, Session } from '../../session.ts'
import { AT, CHUNK, HEADER, MAX_HELLO, MESSAGE, messageSize, messageType, u32 } from '../chunk.ts'
import { CONNECTION_STATUS } from '../errors.ts'
import type { InspectRules } from '../objections.ts'
import type { OpcUaShadow } from '../shadow.ts'
import { FATE, type Stream } from '../stream.ts'
import { MODE, type OpcUaHost, type OpcUaTerms, type OpcUaWitness } from '../terms.ts'
import { ChannelOpening } from './channel-opening.ts'
import { Records } from './records.ts'
import { Refusals, typeText } from './refusals.ts'
import { ChunkRelay, type RelayOwner } from './relay.ts'
import { Requests } from './requests.ts'
import { Responses } from './responses.ts'
import { Sounding } from './sounding.ts'
import { InspectState, PHASE, PUBLISH } from './state.ts'

/** Outstanding requests of one connection above which no more are read from its client. */
const OUTSTANDING_HIGH = 512
/** Bytes of a request's head within which its request handle stands, save for tokens of absurd length. */
const REQUEST_HEAD = 320
/** Bytes of a response's head up to its service result. */
const RESPONSE_HEAD = AT.body + 4 + 16
const MAX_OPEN = 65_536
const MAX_ERROR = HEADER + 8 + 4096

export class InspectSession implements Session, RelayOwner {
  /** Sees all bytes; null: nobody wants to. */
  witness: OpcUaWitness | null = null
  private readonly state: InspectState
  private readonly records: Records
  private readonly refusals: Refusals
  private readonly relay: ChunkRelay
  private readonly opening: ChannelOpening
  private readonly requests: Requests
  private readonly responses: Responses
  private readonly soundings: Sounding
  private next: { terms: OpcUaTerms; rules: InspectRules; limiter: RequestLimiter | null } | null = null
  private lastActivity: number

  /** @param shadow null: none judges beside; then it costs nothing */
  constructor(
    host: OpcUaHost,
    clock: Clock,
    terms: OpcUaTerms,
    rules: InspectRules,
    limiter: RequestLimiter | null,
    shadow: OpcUaShadow | null = null,
  ) {
    const state = new InspectState(host, clock, terms, rules, limiter, shadow)
    const records = new Records(state)
    const refusals = new Refusals(state, records)
    this.state = state
    this.records = records
    this.refusals = refusals
    this.relay = new ChunkRelay(state, this)
    this.opening = new ChannelOpening(state, records, refusals)
    this.requests = new Requests(state, records, refusals, this.relay)
    this.responses = new Responses(state, records, refusals, this.relay)
    this.soundings = new Sounding(state, records, refusals, this.opening, this.requests, this.responses)
    this.lastActivity = clock.ms
  }

  get pending(): number {
    return this.state.outstanding.size
  }

  readonly clientRoom = 0
  readonly targetRoom = 0

  get congested(): boolean {
    const { state } = this
    // With reverse connect it is the target that asks: its bytes wait here, and the server's answers must be read.
    if (state.through || state.reversed) return false
    return this.relay.held.length > 0 || state.outstanding.size >= OUTSTANDING_HIGH
  }

  get drained(): boolean {
    return this.state.drained
  }

  get waiting(): boolean {
    return this.relay.pacing
  }

  get monitoring(): boolean {
    return this.state.through
  }

  /** Takes new terms between two messages: at once where the way of the bytes stays the same. */
  adopt(
    terms: OpcUaTerms,
    rules: InspectRules,
    limiter: RequestLimiter | null,
    shadow: OpcUaShadow | null = null,
  ): void {
    this.next = { terms, rules, limiter }
    this.state.shadow = shadow
    this.adoptNext()
    // A shadow changes no bytes: it need not wait.
    if (this.next !== null) this.opening.compare(true)
  }

  private adoptNext(): void {
    const { state, next } = this
    if (next === null || state.over) return
    const turns = next.terms.monitor !== state.terms.monitor
    if (turns && !(state.up.idle && state.down.idle && this.relay.held.length === 0)) return
    this.next = null
    this.records.countPending(-state.outstanding.size)
    this.records.countChannel(-1)
    state.terms.counters.cells[state.terms.counters.sessions] -= this.records.sessions
    state.terms = next.terms
    state.rules = next.rules
    state.limiter = next.limiter
    for (let n = state.outstanding.countOthers(PUBLISH); n > 0; n--) state.limiter?.acquire(state.clock.us, true)
    state.terms.counters.cells[state.terms.counters.pending] += state.outstanding.size
    state.terms.counters.cells[state.terms.counters.sessions] += this.records.sessions
    // Chunks that are numbered anew stay so, for otherwise the channel would break.
    state.through = next.terms.monitor && !state.up.renumbering && !state.down.renumbering
    if (state.blind && !next.terms.monitor) state.cut(CONNECTION_STATUS.badTcpMessageTypeInvalid, 'not OPC UA')
    else this.opening.reassess()
    if (this.records.gauge === -1) this.records.countChannel(1)
    if (!state.stopped) this.opening.compare(true)
    if (state.cutting !== null) this.relay.finishCut()
  }

  onClientBytes(buf: Uint8Array, start: number, end: number): void {
    const { state } = this
    if (state.through) state.host.toTarget(buf, start, end)
    if (this.witness !== null) this.witness.sawBytes(true, buf, start, end)
    this.take(state.reversed ? state.down : state.up, buf, start, end)
  }

  onTargetBytes(buf: Uint8Array, start: number, end: number): void {
    const { state } = this
    if (state.through) state.host.toClient(buf, start, end)
    if (this.witness !== null) this.witness.sawBytes(false, buf, start, end)
    this.take(state.reversed ? state.up : state.down, buf, start, end)
  }

  private take(stream: Stream, buf: Uint8Array, start: number, end: number): void {
    const { state } = this
    this.lastActivity = state.clock.ms
    const { counters } = state.terms
    counters.cells[stream.up ? counters.bytesIn : counters.bytesOut] += end - start
    if (state.blind || state.over) return
    this.relay.take(stream, buf, start, end)
    this.settle()
  }

  /** After each event: ends what is to end, and takes over a new policy where no message is partly through. */
  private settle(): void {
    if (this.state.cutting !== null) this.relay.finishCut()
    if (this.next !== null) this.adoptNext()
  }

  passes(stream: Stream, buf: Uint8Array, o: number, end: number): number {
    if (this.state.mode > MODE.sign) {
      return stream.up ? this.requests.passHidden(buf, o, end) : this.responses.passHidden(buf, o, end)
    }
    return stream.up ? this.requests.passRequests(buf, o, end) : this.responses.passResponses(buf, o, end)
  }

  get sounding(): boolean {
    return this.soundings.spent
  }

  /**
   * How many bytes of the message at `o` must be there before it can be judged; a message that can be none ends the
   * connection, or, in monitor mode, what is looked at of it.
   * @param size of the message; 0 while its header is not there
   */
  needed(stream: Stream, buf: Uint8Array, o: number, end: number, size: number): number {
    const { state } = this
    if (end - o < HEADER) return HEADER
    const type = messageType(buf, o)
    let least = HEADER
    let most = MAX_OPEN
    let need = size
    switch (type) {
      case MESSAGE.MSG:
        least = AT.body
        most = stream.up ? state.upMost : state.downMost
        need = Math.min(size, stream.up ? REQUEST_HEAD : RESPONSE_HEAD)
        break
      case MESSAGE.CLO:
        least = AT.body
        most = Math.min(MAX_OPEN, state.upMost)
        break
      case MESSAGE.OPN:
        least = AT.body
        break
      case MESSAGE.HEL:
        most = MAX_HELLO
        break
      case MESSAGE.RHE:
        most = MAX_HELLO + MAX_HELLO
        break
      case MESSAGE.ACK:
      case MESSAGE.ERR:
        most = MAX_ERROR
        break
      default:
        this.garbled(stream, end - o, 'no message of OPC UA')
        return 0
    }
    if (size < least || size > most) {
      this.garbled(stream, end - o, `${typeText(buf, o)} of ${size} bytes, expected ${least} to ${most}`)
      return 0
    }
    return need
  }

  /** @param here end of what is there of the message; `size` its length. @returns what becomes of it: `FATE` */
  judge(stream: Stream, buf: Uint8Array, o: number, here: number, size: number): number {
    const { state } = this
    const type = messageType(buf, o)
    if (type === MESSAGE.MSG) {
      // The server may still answer what it was asked before the client closed.
      const late = state.phase === PHASE.closed && !stream.up && state.channel !== 0
      if (state.phase !== PHASE.channel && !late) return this.refusals.misplaced(stream, buf, o, here)
      if (u32(buf, o + AT.channel) !== state.channel) {
        const detail = `secure channel ${u32(buf, o + AT.channel)}, expected ${state.channel}`
        return this.refusals.refuse(
          stream,
          here - o,
          REASON.state,
          detail,
          CONNECTION_STATUS.badTcpSecureChannelUnknown,
        )
      }
      return stream.up ? this.request(buf, o, here, size) : this.response(buf, o, here, size)
    }
    if (buf[o + 3] !== CHUNK.final) {
      return this.refusals.malformed(stream, here - o, `${typeText(buf, o)} in more than one chunk`)
    }
    switch (type) {
      case MESSAGE.HEL:
        if (stream.up && state.phase === PHASE.hello) return this.opening.hello(buf, o, here)
        break
      case MESSAGE.RHE:
        if (stream.up && state.phase === PHASE.hello && !state.reversed) return this.opening.reverseHello(buf, o, here)
        break
      case MESSAGE.ACK:
        if (!stream.up && state.phase === PHASE.acknowledge) return this.opening.acknowledge(buf, o, here)
        break
      case MESSAGE.ERR:
        if (!stream.up && state.phase !== PHASE.hello) {
          state.phase = PHASE.closed
          return FATE.pass
        }
        break
      case MESSAGE.OPN:
        if (stream.up && !this.opening.renewing && (state.phase === PHASE.open || state.phase === PHASE.channel)) {
          return this.opening.openRequest(buf, o, here)
        }
        if (!stream.up && this.opening.renewing) return this.opening.openResponse(buf, o, here)
        break
      case MESSAGE.CLO:
        if (stream.up && state.phase === PHASE.channel) return this.opening.closeRequest(buf, o, here)
    }
    return this.refusals.misplaced(stream, buf, o, here)
  }

  /** Where the next message begins cannot be known any more. */
  private garbled(stream: Stream, length: number, detail: string): void {
    const { state } = this
    this.refusals.malformed(stream, length, detail)
    if (!state.terms.monitor) return
    this.records.countChannel(-1)
    state.blind = true
    this.records.countChannel(1)
  }

  private request(buf: Uint8Array, o: number, here: number, size: number): number {
    const { state } = this
    if (state.mode === MODE.undecided) return this.soundings.sound(buf, o, here, size)
    if (state.mode === MODE.signAndEncrypt) return this.requests.hiddenRequest(buf, o, here, size)
    return this.requests.plainRequest(buf, o, here, size)
  }

  private response(buf: Uint8Array, o: number, here: number, size: number): number {
    const { state } = this
    if (state.mode === MODE.undecided) return this.soundings.answerTells(buf, o, here, size)
    if (state.mode === MODE.signAndEncrypt) return this.responses.hiddenResponse(buf, o)
    return this.responses.plainResponse(buf, o, here, size)
  }

  /** A message that was gathered is whole. */
  gathered(stream: Stream): void {
    const { state } = this
    const { gathered, gatheredLength: length } = stream
    const first = messageSize(gathered, 0)
    let body = gathered
    let at: number = AT.body
    let end = first - state.signature
    if (first < length) {
      body = joined(gathered, length, state.signature)
      at = 0
      end = body.length
    }
    if (stream.up) this.requests.decideWhole(body, at, end)
    else this.responses.answerWhole(body, at, end)
    stream.release()
    stream.fate = FATE.pass
  }

  onClientEnd(): void {
    const { state } = this
    if (state.terms.monitor || state.over) return
    state.over = true
    state.host.finish('client closed')
  }

  onTargetEnd(): void {
    const { state } = this
    if (state.over) return
    state.over = true
    state.host.finish('target closed')
  }

  onTargetLost(connected: boolean): void {
    this.state.cut(CONNECTION_STATUS.badCommunicationError, connected ? 'target lost' : 'target unreachable')
    this.relay.finishCut()
  }

  onPace(): void {
    this.relay.resume()
    this.settle()
  }

  close(why: string): void {
    const { state } = this
    if (state.over || state.closing !== '') return
    state.closing = why
    if (state.mode > MODE.sign || state.drained || state.phase !== PHASE.channel) {
      state.cut(CONNECTION_STATUS.badConnectionClosed, why)
      this.relay.finishCut()
    }
  }

  onTimer(): number {
    const { state } = this
    const { terms, clock } = state
    if (!state.over) this.records.overdue()
    let wait = Math.min(terms.partialFrameMs, terms.idleMs, terms.responseMs)
    if (terms.monitor || state.over) return Math.max(1, wait)
    for (const stream of [state.up, state.down]) {
      if (stream.left === 0 && stream.partLength === 0) continue
      const left = terms.partialFrameMs - ((clock.ms - stream.since) | 0)
      if (left <= 0) this.late(stream, `no whole message within ${terms.partialFrameMs} ms`)
      else wait = Math.min(wait, left)
    }
    if (state.phase < PHASE.channel) {
      const left = terms.partialFrameMs - ((clock.ms - state.phaseSince) | 0)
      const what = state.phase === PHASE.hello ? 'Hello' : 'secure channel'
      const owes = state.phase === PHASE.acknowledge || state.phase === PHASE.opening ? state.down : state.up
      if (left <= 0) this.late(owes, `no ${what} within ${terms.partialFrameMs} ms`)
      else wait = Math.min(wait, left)
    }
    const idle = terms.idleMs - ((clock.ms - this.lastActivity) | 0)
    if (idle <= 0) state.cut(CONNECTION_STATUS.badConnectionClosed, 'idle')
    else wait = Math.min(wait, idle)
    this.settle()
    return Math.max(1, Math.ceil(wait))
  }

  private late(stream: Stream, detail: string): void {
    if (this.state.stopped) return
    this.refusals.refuse(stream, 0, REASON.timeout, detail, CONNECTION_STATUS.badTimeout)
  }

  dispose(): void {
    const { state } = this
    this.records.countPending(-state.outstanding.size)
    state.outstanding.clear()
    this.records.countChannel(-1)
    state.terms.counters.cells[state.terms.counters.sessions] -= this.records.sessions
    this.records.sessions = 0
    state.over = true
    this.relay.drop()
  }
}

/** The bodies of several chunks, one behind the other. */
function joined(chunks: Uint8Array, length: number, signature: number): Uint8Array {
  const body = new Uint8Array(length)
  let at = 0
  for (let o = 0; o < length; o += messageSize(chunks, o)) {
    const part = chunks.subarray(o + AT.body, o + messageSize(chunks, o) - signature)
    body.set(part, at)
    at += part.length
  }
  return body.subarray(0, at)
}
