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
 * Whether a channel is signed or encrypted stands in a message that is encrypted itself. It is inferred: encrypted
 * chunks are multiples of the cipher's block, and a signed channel's first answer has a known type id in clear. Until
 * the server has answered, no more than the first message of a channel passes (decision 0012).
 *
 * Sources: OPC 10000-6 §6.7 (secure conversation), §7.1 (connection protocol); OPC 10000-4 §5.5 (secure channels).
 */
import { REASON, WOULD_DENY } from '../reason.ts'
import type { Clock, RequestLimiter, Session } from '../session.ts'
import type { ChannelRules, PairRules } from './channel-rules.ts'
import {
  AT,
  CHUNK,
  follows,
  HEADER,
  MAX_HELLO,
  MAX_TYPE_ID_BYTES,
  MESSAGE,
  messageSize,
  messageType,
  NO_TYPE_ID,
  SHORT_TYPE_ID,
  setU32,
  typeIdAt,
  typeIdLength,
  u32,
} from './chunk.ts'
import { VERDICT } from './decide.ts'
import { describeDenied, describeRequest } from './describe.ts'
import { CONNECTION_STATUS, errorMessage, faultMessage } from './errors.ts'
import { Exchanges, SEND } from './exchanges.ts'
import { STATUS } from './headers.ts'
import {
  issuedToken,
  type OpenHeader,
  readAcknowledge,
  readHello,
  readOpen,
  readReverseHello,
  requestedMode,
  requestHandle,
  requestType,
} from './opening.ts'
import { Outstanding } from './outstanding.ts'
import { bodyFaultText } from './requests.ts'
import { OPCUA_SECURITY_MODES, type OpcUaSecurityPolicy, policyOf } from './security.ts'
import {
  FUNCTION,
  functionLabel,
  functionOfRequest,
  isResponse,
  REQUEST,
  RESPONSE,
  SERVICE_FAULT,
  SERVICES,
} from './services.ts'
import { SessionContext } from './session-context.ts'
import { FATE, Stream } from './stream.ts'
import { readActivateRequest, readCreateRequest } from './terminate/session-services.ts'
import {
  CHANNEL_MODES,
  channelCell,
  MODE,
  type OpcUaFields,
  type OpcUaHost,
  type OpcUaReport,
  type OpcUaTerms,
  policyIndex,
  VISIBILITIES,
  VISIBILITY,
} from './terms.ts'

/** The rules for a pair of addresses: for a client that connects, and for a server that does (RHE). */
export interface InspectRules {
  pair: PairRules
  /** null: this server may not open connections to that client. */
  reverse: PairRules | null
}

/** What comes next on the connection. */
const PHASE = { hello: 0, acknowledge: 1, open: 2, opening: 3, channel: 4, closed: 5 } as const

/** Cells a function has: one a reason for denials, one a reason for would-denials. */
const VERDICTS = WOULD_DENY * 2
/** Outstanding requests of one connection above which no more are read from its client. */
const OUTSTANDING_HIGH = 512
const OUTSTANDING_MOST = 4096
/** Bytes of a request's head within which its request handle stands, save for tokens of absurd length. */
const REQUEST_HEAD = 320
/** Bytes of a response's head up to its service result. */
const RESPONSE_HEAD = AT.body + 4 + 16
const MAX_OPEN = 65_536
const MAX_ERROR = HEADER + 8 + 4096
/** Answers of Headgate's own that wait for the end of a message to the client. */
const MAX_FAULTS = 64
/** Bytes of a client that wait until its channel's mode is known, or for a limit: one read, and what a pause lets by. */
const MAX_HELD = 1 << 20

const PUBLISH = functionOfRequest(REQUEST.Publish)
const NO_BYTES = new Uint8Array(0)

export class InspectSession implements Session {
  private readonly host: OpcUaHost
  private readonly clock: Clock
  private terms: OpcUaTerms
  private rules: InspectRules
  private limiter: RequestLimiter | null
  private next: { terms: OpcUaTerms; rules: InspectRules; limiter: RequestLimiter | null } | null = null

  private readonly up = new Stream(true)
  private readonly down = new Stream(false)
  private phase: number = PHASE.hello
  /** The server has opened the connection. */
  private reversed = false
  /** The bytes move on before they are looked at. */
  private through: boolean
  /** No OPC UA: what passes is not looked at any more. */
  private blind = false
  private over = false
  private closing = ''
  /** The connection ends as soon as what was allowed has been sent. */
  private cutting: { status: number; why: string } | null = null
  /** The direction that is being walked. */
  private walking: Stream | null = null
  /** Behind the present message, which is RHE, the other direction's begin. */
  private turning = false
  private lastActivity: number
  private phaseSince: number

  private endpointUrl = ''
  /** Largest chunks, in bytes: what HEL and ACK say. */
  private upMost = 0xffffffff
  private downMost = 0xffffffff

  // The secure channel.
  private channel = 0
  private policy: OpcUaSecurityPolicy | null = null
  private certificate = ''
  private serverCertificate = ''
  private mode: number = MODE.undecided
  /** Bytes of a message's signature. */
  private signature = 0
  /** Tokens of a channel in clear: the one in force, and the one before it. */
  private token = -1
  private formerToken = -1
  /** An OPN of the client has not been answered. */
  private renewing = false
  /** null: no mode is known yet, so no rule holds. */
  private channelRules: ChannelRules | null = null
  /** Cell of the gauge that this channel is counted in; -1: none. */
  private gauge = -1
  private sessions = 0
  /** Of the session that was asked for last, as its client says. */
  private sessionName = ''
  private userName = ''
  private downgraded = false
  /** Why the channel would be refused, in monitor mode. */
  private refused: number = REASON.allow
  /** The limits have counted the message that is being gathered. */
  private countedEarly = false

  // While the mode is not known.
  /** The client's first message has passed without a sign of what it is. */
  private sounding = false
  /** Numbers at the places where a signed chunk has them, of the chunk before. */
  private soundSequence = -1
  private soundRequest = -1
  private soundOpen = false

  private readonly outstanding = new Outstanding(OUTSTANDING_MOST)
  private exchanges: Exchanges | null = null
  private context: SessionContext | null = null
  private faults: { request: number; handle: number; status: number }[] = []
  /** Bytes of the client that wait. */
  private held: Uint8Array = NO_BYTES
  /** They wait for a limit of requests. */
  private pacing = false

  constructor(host: OpcUaHost, clock: Clock, terms: OpcUaTerms, rules: InspectRules, limiter: RequestLimiter | null) {
    this.host = host
    this.clock = clock
    this.terms = terms
    this.rules = rules
    this.limiter = limiter
    this.through = terms.monitor
    this.lastActivity = clock.ms
    this.phaseSince = clock.ms
  }

  get pending(): number {
    return this.outstanding.size
  }

  readonly partial = false

  get congested(): boolean {
    // With reverse connect it is the target that asks: its bytes wait here, and the server's answers must be read.
    if (this.through || this.reversed) return false
    return this.held.length > 0 || this.outstanding.size >= OUTSTANDING_HIGH
  }

  get drained(): boolean {
    return this.outstanding.countOthers(PUBLISH) === 0
  }

  get waiting(): boolean {
    return this.pacing
  }

  get monitoring(): boolean {
    return this.through
  }

  // ------------------------------------------------------------------------------------------------------- policy

  /** Takes new terms between two messages: at once where the way of the bytes stays the same. */
  adopt(terms: OpcUaTerms, rules: InspectRules, limiter: RequestLimiter | null): void {
    this.next = { terms, rules, limiter }
    this.adoptNext()
  }

  private adoptNext(): void {
    const { next } = this
    if (next === null || this.over) return
    const turns = next.terms.monitor !== this.terms.monitor
    if (turns && !(this.up.idle && this.down.idle && this.held.length === 0)) return
    this.next = null
    this.countPending(-this.outstanding.size)
    this.countChannel(-1)
    this.terms.counters.cells[this.terms.counters.sessions] -= this.sessions
    this.terms = next.terms
    this.rules = next.rules
    this.limiter = next.limiter
    for (let n = this.outstanding.countOthers(PUBLISH); n > 0; n--) this.limiter?.acquire(this.clock.us, true)
    this.terms.counters.cells[this.terms.counters.pending] += this.outstanding.size
    this.terms.counters.cells[this.terms.counters.sessions] += this.sessions
    // Chunks that are numbered anew stay so, for otherwise the channel would break.
    this.through = next.terms.monitor && !this.up.renumbering && !this.down.renumbering
    if (this.blind && !next.terms.monitor) this.cut(CONNECTION_STATUS.badTcpMessageTypeInvalid, 'not OPC UA')
    else this.reassess()
    if (this.gauge === -1) this.countChannel(1)
    if (this.cutting !== null) this.finishCut()
  }

  /** Holds the channel that there is to new rules. */
  private reassess(): void {
    if (this.phase <= PHASE.acknowledge) return
    const { endpointUrls } = this.terms
    if (endpointUrls !== null && !endpointUrls.has(this.endpointUrl)) {
      this.refuseChannel(
        REASON.security,
        `endpoint URL ${this.endpointUrl}`,
        CONNECTION_STATUS.badTcpEndpointUrlInvalid,
      )
    }
    if (this.phase < PHASE.opening || this.stopped) return
    this.refused = REASON.allow
    if (!this.admitPolicy() || !this.admitServer(this.serverCertificate)) return
    if (this.mode === MODE.undecided) return
    this.settleRules()
  }

  private get pair(): PairRules {
    return this.reversed ? (this.rules.reverse ?? this.rules.pair) : this.rules.pair
  }

  // -------------------------------------------------------------------------------------------------------- bytes

  onClientBytes(buf: Uint8Array, start: number, end: number): void {
    if (this.through) this.host.toTarget(buf, start, end)
    this.take(this.reversed ? this.down : this.up, buf, start, end)
  }

  onTargetBytes(buf: Uint8Array, start: number, end: number): void {
    if (this.through) this.host.toClient(buf, start, end)
    this.take(this.reversed ? this.up : this.down, buf, start, end)
  }

  private take(stream: Stream, buf: Uint8Array, start: number, end: number): void {
    this.lastActivity = this.clock.ms
    const { counters } = this.terms
    counters.cells[stream.up ? counters.bytesIn : counters.bytesOut] += end - start
    if (this.blind || this.over) return
    if (stream.up && this.held.length > 0) this.hold(buf, start, end)
    else this.walk(stream, buf, start, end)
    if (!stream.up && this.held.length > 0) this.resume()
    this.settle()
  }

  /** After each event: ends what is to end, and takes over a new policy where no message is partly through. */
  private settle(): void {
    if (this.cutting !== null) this.finishCut()
    if (this.next !== null) this.adoptNext()
  }

  /** Judges what comes in one direction, and forwards what may pass. */
  private walk(stream: Stream, buf: Uint8Array, start: number, end: number): void {
    let o = start
    // buf[run…o) is to be forwarded.
    let run = start
    this.walking = stream
    while (o < end && !(this.turning && stream.left === 0)) {
      if (stream.left > 0) {
        const to = o + Math.min(stream.left, end - o)
        stream.left -= to - o
        if (stream.fate !== FATE.pass) {
          this.forward(stream, buf, run, o)
          if (stream.fate === FATE.gather) stream.gather(buf, o, to)
          run = to
        }
        o = to
        if (stream.left > 0) break
        if (stream.fate === FATE.gather || (!stream.up && this.faults.length > 0)) {
          this.forward(stream, buf, run, o)
          run = o
          this.chunkEnded(stream)
        }
        if (this.stopped) break
        continue
      }
      if (stream.partLength > 0) {
        o = this.completePart(stream, buf, o, end)
        run = o
        if (this.stopped) break
        continue
      }
      const passed = stream.up ? this.passRequests(buf, o, end) : this.passResponses(buf, o, end)
      if (passed !== o) {
        o = passed
        continue
      }
      const size = end - o >= HEADER ? messageSize(buf, o) : 0
      const need = this.needed(stream, buf, o, end, size)
      if (this.stopped) break
      if (end - o < need) {
        this.forward(stream, buf, run, o)
        stream.keep(buf, o, end, this.clock.ms)
        run = o = end
        break
      }
      const fate = this.judge(stream, buf, o, Math.min(end, o + size), size)
      if (fate === FATE.hold) {
        this.forward(stream, buf, run, o)
        this.hold(buf, o, end)
        run = o = end
        break
      }
      if (fate === FATE.stop) break
      stream.fate = fate
      stream.left = size
      if (o + size > end) stream.since = this.clock.ms
    }
    this.forward(stream, buf, run, o)
    this.walking = null
    if (!this.turning || stream.left > 0) return
    // Behind RHE the server's own messages begin.
    this.turning = false
    this.reversed = true
    if (o < end) this.walk(this.down, buf, o, end)
  }

  private get stopped(): boolean {
    return this.cutting !== null || this.blind
  }

  private forward(stream: Stream, buf: Uint8Array, from: number, to: number): void {
    if (to <= from || this.through) return
    if (stream.up !== this.reversed) this.host.toTarget(buf, from, to)
    else this.host.toClient(buf, from, to)
  }

  /** Adds to the head of a chunk that is held what it lacks, and judges it. @returns the offset behind what it took */
  private completePart(stream: Stream, buf: Uint8Array, start: number, end: number): number {
    const { ms } = this.clock
    let o = start
    let size = 0
    for (;;) {
      size = stream.partLength >= HEADER ? messageSize(stream.part, 0) : 0
      const need = this.needed(stream, stream.part, 0, stream.partLength, size)
      if (this.stopped) return end
      if (stream.partLength >= need) break
      if (o === end) return end
      const to = o + Math.min(need - stream.partLength, end - o)
      stream.keep(buf, o, to, ms)
      o = to
    }
    const { part, partLength: length } = stream
    const fate = this.judge(stream, part, 0, length, size)
    stream.partLength = 0
    if (fate === FATE.hold) {
      this.hold(part, 0, length)
      this.hold(buf, o, end)
      return end
    }
    if (fate === FATE.stop) return o
    stream.fate = fate
    stream.left = size - length
    if (fate === FATE.pass) this.forward(stream, part, 0, length)
    else if (fate === FATE.gather) stream.gather(part, 0, length)
    if (stream.left === 0) this.chunkEnded(stream)
    return o
  }

  /** All bytes of a chunk have gone where they go. */
  private chunkEnded(stream: Stream): void {
    if (stream.fate === FATE.gather && !stream.open) this.gathered(stream)
    if (!stream.up) this.sendFaults()
  }

  /** Bytes from the client that come before their time. */
  private hold(buf: Uint8Array, from: number, to: number): void {
    const length = this.held.length + to - from
    if (length > MAX_HELD) {
      this.cut(CONNECTION_STATUS.badRequestTooLarge, 'too many requests before the first answer')
      return
    }
    const held = new Uint8Array(length)
    held.set(this.held)
    held.set(buf.subarray(from, to), this.held.length)
    this.held = held
  }

  private resume(): void {
    if (this.held.length === 0 || this.over || this.stopped || this.soundsOut) return
    const bytes = this.held
    this.held = NO_BYTES
    this.pacing = false
    this.walk(this.up, bytes, 0, bytes.length)
  }

  /** The mode is not known, and the one message has passed that may pass before it is. */
  private get soundsOut(): boolean {
    return this.mode === MODE.undecided && this.sounding && !this.soundOpen
  }

  // ------------------------------------------------------------------------------------------------------ framing

  /**
   * How many bytes of the message at `o` must be there before it can be judged; a message that can be none ends the
   * connection, or, in monitor mode, what is looked at of it.
   * @param size of the message; 0 while its header is not there
   */
  private needed(stream: Stream, buf: Uint8Array, o: number, end: number, size: number): number {
    if (end - o < HEADER) return HEADER
    const type = messageType(buf, o)
    let least = HEADER
    let most = MAX_OPEN
    let need = size
    switch (type) {
      case MESSAGE.MSG:
        least = AT.body
        most = stream.up ? this.upMost : this.downMost
        need = Math.min(size, stream.up ? REQUEST_HEAD : RESPONSE_HEAD)
        break
      case MESSAGE.CLO:
        least = AT.body
        most = Math.min(MAX_OPEN, this.upMost)
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
  private judge(stream: Stream, buf: Uint8Array, o: number, here: number, size: number): number {
    const type = messageType(buf, o)
    if (type === MESSAGE.MSG) {
      // The server may still answer what it was asked before the client closed.
      const late = this.phase === PHASE.closed && !stream.up && this.channel !== 0
      if (this.phase !== PHASE.channel && !late) return this.misplaced(stream, buf, o, here)
      if (u32(buf, o + AT.channel) !== this.channel) {
        const detail = `secure channel ${u32(buf, o + AT.channel)}, expected ${this.channel}`
        return this.refuse(stream, here - o, REASON.state, detail, CONNECTION_STATUS.badTcpSecureChannelUnknown)
      }
      return stream.up ? this.request(buf, o, here, size) : this.response(buf, o, here, size)
    }
    if (buf[o + 3] !== CHUNK.final) {
      return this.malformed(stream, here - o, `${typeText(buf, o)} in more than one chunk`)
    }
    switch (type) {
      case MESSAGE.HEL:
        if (stream.up && this.phase === PHASE.hello) return this.hello(buf, o, here)
        break
      case MESSAGE.RHE:
        if (stream.up && this.phase === PHASE.hello && !this.reversed) return this.reverseHello(buf, o, here)
        break
      case MESSAGE.ACK:
        if (!stream.up && this.phase === PHASE.acknowledge) return this.acknowledge(buf, o, here)
        break
      case MESSAGE.ERR:
        if (!stream.up && this.phase !== PHASE.hello) {
          this.phase = PHASE.closed
          return FATE.pass
        }
        break
      case MESSAGE.OPN:
        if (stream.up && !this.renewing && (this.phase === PHASE.open || this.phase === PHASE.channel)) {
          return this.openRequest(buf, o, here)
        }
        if (!stream.up && this.renewing) return this.openResponse(buf, o, here)
        break
      case MESSAGE.CLO:
        if (stream.up && this.phase === PHASE.channel) return this.closeRequest(buf, o, here)
    }
    return this.misplaced(stream, buf, o, here)
  }

  private enter(phase: number): void {
    this.phase = phase
    this.phaseSince = this.clock.ms
  }

  private misplaced(stream: Stream, buf: Uint8Array, o: number, here: number): number {
    const detail = `${typeText(buf, o)} out of its place`
    return this.refuse(stream, here - o, REASON.state, detail, CONNECTION_STATUS.badTcpMessageTypeInvalid)
  }

  private malformed(stream: Stream, length: number, detail: string): number {
    return this.refuse(stream, length, REASON.malformed, detail, CONNECTION_STATUS.badTcpMessageTypeInvalid)
  }

  /** Where the next message begins cannot be known any more. */
  private garbled(stream: Stream, length: number, detail: string): void {
    this.malformed(stream, length, detail)
    if (!this.terms.monitor) return
    this.countChannel(-1)
    this.blind = true
    this.countChannel(1)
  }

  // ------------------------------------------------------------------------------------------------------ opening

  private hello(buf: Uint8Array, o: number, here: number): number {
    const hello = readHello(buf, o, here)
    if (hello === null) return this.malformed(this.up, here - o, 'Hello')
    this.endpointUrl = hello.endpointUrl
    const { endpointUrls } = this.terms
    if (endpointUrls !== null && !endpointUrls.has(hello.endpointUrl)) {
      this.count(FUNCTION.Hello, REASON.security, -1)
      const detail = `endpoint URL ${hello.endpointUrl}, expected ${listText(endpointUrls)}`
      if (!this.refuseChannel(REASON.security, detail, CONNECTION_STATUS.badTcpEndpointUrlInvalid)) return FATE.stop
    } else this.count(FUNCTION.Hello, REASON.allow, -1)
    if (!this.reversed && !this.rules.pair.allows) {
      const detail = 'no rule for this client and target'
      if (!this.refuseChannel(REASON.pair, detail, CONNECTION_STATUS.badUserAccessDenied)) return FATE.stop
    }
    this.upMost = hello.sendBuffer
    this.downMost = hello.receiveBuffer
    this.enter(PHASE.acknowledge)
    return FATE.pass
  }

  private reverseHello(buf: Uint8Array, o: number, here: number): number {
    const hello = readReverseHello(buf, o, here)
    if (hello === null) return this.malformed(this.up, here - o, 'ReverseHello')
    this.endpointUrl = hello.endpointUrl
    const { endpointUrls } = this.terms
    let detail = ''
    if (this.rules.reverse === null) detail = 'a server may not open connections to this client'
    else if (endpointUrls !== null && !endpointUrls.has(hello.endpointUrl)) {
      detail = `endpoint URL ${hello.endpointUrl}, expected ${listText(endpointUrls)}`
    }
    this.count(FUNCTION.ReverseHello, detail === '' ? REASON.allow : REASON.security, -1)
    if (detail !== '' && !this.refuseChannel(REASON.security, detail, CONNECTION_STATUS.badTcpEndpointUrlInvalid)) {
      return FATE.stop
    }
    this.turning = true
    this.enter(PHASE.hello)
    return FATE.pass
  }

  private acknowledge(buf: Uint8Array, o: number, here: number): number {
    const answer = readAcknowledge(buf, o, here)
    if (answer === null) return this.malformed(this.down, here - o, 'Acknowledge')
    // The server revises what the client has offered, downwards (OPC 10000-6 §7.1.2.4).
    this.upMost = Math.min(this.upMost, answer.receiveBuffer)
    this.downMost = Math.min(this.downMost, answer.sendBuffer)
    this.enter(PHASE.open)
    return FATE.pass
  }

  private openRequest(buf: Uint8Array, o: number, here: number): number {
    const header = readOpen(buf, o, here)
    if (header === null) return this.malformed(this.up, here - o, 'OpenSecureChannel')
    const policy = policyOf(header.policyUri)
    if (this.phase === PHASE.channel) {
      if (header.channel !== this.channel || policy !== this.policy || header.sender !== this.certificate) {
        const detail = 'a renewal with another channel, policy or certificate'
        const status = CONNECTION_STATUS.badSecurityChecksFailed
        return this.refuse(this.up, here - o, REASON.state, detail, status)
      }
    } else {
      this.policy = policy
      this.certificate = header.sender
      this.mode = policy === 'None' ? MODE.none : MODE.undecided
      if (policy === null) {
        const detail = `security policy ${header.policyUri.slice(0, 128)}, which Headgate does not know`
        const status = CONNECTION_STATUS.badSecurityPolicyRejected
        if (!this.refuseChannel(REASON.security, detail, status)) return FATE.stop
      }
      if (!this.admitPolicy() || !this.admitServer(header.receiver)) return FATE.stop
    }
    if ((policy === 'None') !== (header.sender === '')) {
      return this.malformed(this.up, here - o, 'a certificate without a security policy, or the other way round')
    }
    if (policy === 'None' && !this.openInClear(buf, o, here, header)) return FATE.stop
    if (this.terms.gate[0] !== 0 && !this.terms.monitor) {
      const status = CONNECTION_STATUS.badUserAccessDenied
      return this.refuse(this.up, here - o, REASON.evidence, 'evidence cannot be written', status)
    }
    this.count(functionOfRequest(REQUEST.OpenSecureChannel), REASON.allow, -1)
    this.renewing = true
    if (this.phase === PHASE.open) this.enter(PHASE.opening)
    return FATE.pass
  }

  /** The body of an OPN request on a channel in clear. @returns whether it may pass */
  private openInClear(buf: Uint8Array, o: number, here: number, header: OpenHeader): boolean {
    const { up } = this
    const body = header.sequenceAt + 8
    const may = up.take(u32(buf, header.sequenceAt))
    let detail = may ? '' : 'sequence number'
    if (typeIdAt(buf, body, here) !== REQUEST.OpenSecureChannel || buf[body] !== 1) detail = 'OpenSecureChannel'
    else if (requestedMode(buf, body, here) !== 1) detail = 'a security mode other than None with the policy None'
    else if (requestType(buf, body, here) !== (this.phase === PHASE.channel ? 1 : 0)) detail = 'request type'
    if (detail !== '' && this.malformed(up, here - o, detail) !== FATE.pass) return false
    up.number(buf, header.sequenceAt)
    return true
  }

  private openResponse(buf: Uint8Array, o: number, here: number): number {
    const header = readOpen(buf, o, here)
    if (header === null) return this.malformed(this.down, here - o, 'OpenSecureChannel response')
    const first = this.phase === PHASE.opening
    if (policyOf(header.policyUri) !== this.policy || (!first && header.channel !== this.channel)) {
      return this.malformed(this.down, here - o, 'OpenSecureChannel response with another policy or channel')
    }
    if (!this.admitServer(header.sender)) return FATE.stop
    this.serverCertificate = header.sender
    if (this.policy === 'None') {
      const { down } = this
      const body = header.sequenceAt + 8
      const may = down.take(u32(buf, header.sequenceAt))
      const issued = typeIdAt(buf, body, here) === RESPONSE.OpenSecureChannel ? issuedToken(buf, body, here) : null
      if (!may || issued === null || issued.channel !== header.channel) {
        const fate = this.malformed(down, here - o, 'OpenSecureChannel response')
        if (fate !== FATE.pass) return fate
      } else {
        this.formerToken = this.token
        this.token = issued.token
      }
      down.number(buf, header.sequenceAt)
    }
    this.renewing = false
    this.terms.counters.cells[this.terms.counters.responses]++
    if (!first) return FATE.pass
    this.channel = header.channel
    this.enter(PHASE.channel)
    if (this.mode === MODE.undecided) this.countChannel(1)
    else if (!this.settleMode(MODE.none)) return FATE.stop
    return FATE.pass
  }

  private closeRequest(buf: Uint8Array, o: number, here: number): number {
    if (u32(buf, o + AT.channel) !== this.channel) return this.misplaced(this.up, buf, o, here)
    if (this.mode === MODE.none || this.mode === MODE.sign) {
      const { up } = this
      const typeId = typeIdAt(buf, o + AT.body, here - this.signature)
      if (!up.take(u32(buf, o + AT.sequence)) || typeId !== REQUEST.CloseSecureChannel) {
        return this.malformed(up, here - o, 'CloseSecureChannel')
      }
      if (this.mode === MODE.none) up.number(buf, o + AT.sequence)
    }
    this.count(functionOfRequest(REQUEST.CloseSecureChannel), REASON.allow, -1)
    this.phase = PHASE.closed
    return FATE.pass
  }

  /** The policy and the client's certificate of a channel that is asked for. @returns false where it is refused */
  private admitPolicy(): boolean {
    const { pair, policy, certificate } = this
    if (policy === null) return true
    const status = CONNECTION_STATUS.badSecurityPolicyRejected
    if (policy === 'None') {
      if (pair.forChannel({ policy, mode: 'None', certificate: '' }).first !== -1) return true
      this.downgrade('a channel of the policy None')
      return this.refuseChannel(REASON.security, 'security policy None', status)
    }
    if (!this.terms.securityPolicies.has(policy) || !pair.knowsPolicy(policy)) {
      this.downgrade(`a channel of the policy ${policy}`)
      return this.refuseChannel(REASON.security, `security policy ${policy}`, status)
    }
    if (pair.knowsCertificate(certificate)) return true
    const detail = 'no rule for a client with this certificate'
    return this.refuseChannel(REASON.security, detail, CONNECTION_STATUS.badSecurityChecksFailed)
  }

  /** @param thumbprint of the server's certificate, as the client names it, or as the server shows it */
  private admitServer(thumbprint: string): boolean {
    const pins = this.terms.serverCertificates
    if (thumbprint === '' || pins === null || pins.has(thumbprint)) return true
    this.serverCertificate = thumbprint
    const detail = `server certificate ${thumbprint}, expected ${listText(pins)}`
    return this.refuseChannel(REASON.security, detail, CONNECTION_STATUS.badSecurityChecksFailed)
  }

  // --------------------------------------------------------------------------------------------------------- mode

  /** The mode is known. @returns whether the channel may go on */
  private settleMode(mode: number): boolean {
    this.countChannel(-1)
    this.mode = mode
    this.signature = mode === MODE.sign ? signatureBytes(this.policy) : 0
    const may = this.settleRules()
    this.countChannel(1)
    if (may) {
      const { first } = this.channelRules as ChannelRules
      this.report('opened', REASON.allow, false, first, functionOfRequest(REQUEST.OpenSecureChannel), '', null)
    }
    return may
  }

  /** The rules that hold for the channel. @returns whether they allow it at all */
  private settleRules(): boolean {
    const { policy, certificate } = this
    const mode = OPCUA_SECURITY_MODES[this.mode]
    const rules = this.pair.forChannel({ policy: policy ?? 'None', mode, certificate })
    this.channelRules = rules
    // What is under way is settled with those that there are.
    if (rules.inner) {
      this.exchanges ??= new Exchanges(null)
      this.context ??= new SessionContext()
    }
    this.refused = REASON.allow
    if (mode !== 'None' && !this.terms.securityModes.has(mode)) {
      this.downgrade(`a channel of the mode ${mode}`)
      const detail = `security mode ${mode}, expected ${listText(this.terms.securityModes)}`
      return this.refuseChannel(REASON.security, detail, CONNECTION_STATUS.badSecurityModeRejected)
    }
    if (rules.first === -1) {
      this.downgrade(`a channel of ${policy} with the mode ${mode}`)
      const detail = `no rule for a channel of ${policy} with the mode ${mode}`
      return this.refuseChannel(REASON.security, detail, CONNECTION_STATUS.badSecurityModeRejected)
    }
    if (mode === 'SignAndEncrypt' && rules.hidden === -1) {
      const detail = 'encryption hides what the rules speak of'
      return this.refuseChannel(REASON.security, detail, CONNECTION_STATUS.badSecurityModeRejected)
    }
    return true
  }

  /** Says once of a channel that it asks for less than the policy wants. */
  private downgrade(what: string): void {
    if (this.downgraded) return
    this.downgraded = true
    const wanted = [...this.terms.securityModes].join(' or ')
    const detail = `${what}, where the policy wants ${wanted} and ${listText(this.terms.securityPolicies)}`
    this.report('downgraded', REASON.security, this.terms.monitor, -1, FUNCTION.unknown, detail, null)
  }

  /** A chunk from the client while nobody knows whether the channel is signed or encrypted. */
  private sound(buf: Uint8Array, o: number, here: number, size: number): number {
    if (!this.through && this.soundsOut) return FATE.hold
    const late = this.soundOpen
    const sequence = u32(buf, o + AT.sequence)
    const request = u32(buf, o + AT.request)
    const typeId = typeIdAt(buf, o + AT.body, Math.min(here, o + size))
    const plain =
      isUnaligned(size) ||
      (!late && functionOfRequest(typeId) !== FUNCTION.unknown) ||
      (this.soundSequence !== -1 && follows(sequence, this.soundSequence)) ||
      (late && request === this.soundRequest)
    if (plain) {
      if (!this.settleMode(MODE.sign)) return FATE.stop
      if (late || this.sounding) {
        const fate = this.denyRequest(
          buf,
          o,
          here,
          REASON.service,
          -1,
          FUNCTION.unknown,
          'a first message of no service',
        )
        if (fate !== FATE.pass) return fate
      }
      return this.plainRequest(buf, o, here, size)
    }
    if (!this.mayHide()) {
      const detail = 'neither a known service nor encrypted as the policy allows it'
      if (!this.refuseChannel(REASON.security, detail, CONNECTION_STATUS.badSecurityModeRejected)) return FATE.stop
    }
    const shut = late ? FATE.pass : this.shut(0, buf, o, here)
    if (shut !== FATE.pass) return shut
    if (!late) {
      this.up.chunks = 0
      this.up.bytes = 0
    }
    if (!this.withinLimits(this.up, size)) return this.tooLarge(this.up, here - o)
    this.sounding = true
    this.soundSequence = sequence
    this.soundRequest = request
    this.soundOpen = buf[o + 3] === CHUNK.intermediate
    if (!late) this.count(FUNCTION.encrypted, REASON.allow, -1)
    return FATE.pass
  }

  /** Whether an encrypted channel would be allowed. */
  private mayHide(): boolean {
    if (!this.terms.securityModes.has('SignAndEncrypt')) return false
    const { policy, certificate } = this
    return this.pair.forChannel({ policy: policy ?? 'None', mode: 'SignAndEncrypt', certificate }).hidden !== -1
  }

  /** The server's first chunks tell what the channel is. */
  private answerTells(buf: Uint8Array, o: number, here: number, size: number): number {
    const typeId = typeIdAt(buf, o + AT.body, here)
    if (isUnaligned(size) || isResponse(typeId)) {
      const { sounding } = this
      if (!this.settleMode(MODE.sign)) return FATE.stop
      if (!sounding) return this.plainResponse(buf, o, here, size)
      // It has answered in clear what was no known service.
      return this.denyRequest(buf, o, here, REASON.service, -1, FUNCTION.unknown, 'a first message of no service')
    }
    if (buf[o + 3] === CHUNK.abort) {
      // What it could not send says nothing; the client may try another message.
      this.sounding = false
      this.soundOpen = false
      return FATE.pass
    }
    return this.settleMode(MODE.signAndEncrypt) ? this.hiddenResponse(buf, o) : FATE.stop
  }

  // ----------------------------------------------------------------------------------------------------- requests

  private request(buf: Uint8Array, o: number, here: number, size: number): number {
    if (this.mode === MODE.undecided) return this.sound(buf, o, here, size)
    if (this.mode === MODE.signAndEncrypt) return this.hiddenRequest(buf, o, here, size)
    return this.plainRequest(buf, o, here, size)
  }

  /**
   * Takes the requests at `o` that are whole, of one chunk and allowed by their service alone: nearly all traffic ends
   * here, so this loop is kept small (bench: decoder, OPC UA).
   * @returns the offset behind the last of them
   */
  private passRequests(buf: Uint8Array, o: number, end: number): number {
    const { up, channelRules, outstanding, mode, channel, exchanges, context } = this
    if (this.phase !== PHASE.channel || channelRules === null || up.open || up.renumbering) return o
    if (this.limiter !== null || this.terms.gate[0] !== 0 || mode > MODE.sign) return o
    if (this.terms.monitor && this.refused !== REASON.allow) return o
    const { table } = channelRules
    const { cells, requests, rules, pending } = this.terms.counters
    const most = Math.min(this.upMost, this.terms.messageBytes)
    const signature = this.signature
    const { us } = this.clock
    while (end - o >= AT.body + MAX_TYPE_ID_BYTES) {
      const size = messageSize(buf, o)
      if (messageType(buf, o) !== MESSAGE.MSG || buf[o + 3] !== CHUNK.final || size > most || size > end - o) break
      // The type id in its usual form, and not a part of the signature.
      if ((buf[o + 24] | (buf[o + 25] << 8)) !== 1 || size < AT.body + 4 + signature) break
      if (u32(buf, o + AT.channel) !== channel) break
      if (mode === MODE.none && u32(buf, o + AT.token) !== this.token) break
      const sequence = u32(buf, o + AT.sequence)
      if (sequence !== up.sequence + 1) break
      const typeId = buf[o + 26] | (buf[o + 27] << 8)
      if (table.service(typeId) !== REASON.allow || table.wouldRule !== -1) break
      if (exchanges !== null && (context === null || exchanges.needsRequest(REASON.allow, typeId, context))) break
      const fn = functionOfRequest(typeId)
      // Whose session it is, is read elsewhere.
      if (fn === CREATE_SESSION || fn === ACTIVATE_SESSION) break
      if (!outstanding.add(u32(buf, o + AT.request), fn, us)) break
      up.sequence = sequence
      up.sent = sequence
      cells[requests + fn * VERDICTS]++
      cells[pending]++
      if (table.rule >= 0) cells[rules + table.rule * 3]++
      o += size
    }
    return o
  }

  /** A chunk of a request in clear. */
  private plainRequest(buf: Uint8Array, o: number, here: number, size: number): number {
    const { up } = this
    const chunk = buf[o + 3]
    if (this.mode === MODE.none && !this.isToken(buf, o)) {
      return this.refuse(up, here - o, REASON.state, 'token id', CONNECTION_STATUS.badSecurityChecksFailed)
    }
    if (chunk !== CHUNK.final && chunk !== CHUNK.intermediate && chunk !== CHUNK.abort) {
      return this.malformed(up, here - o, `chunk type ${chunk}`)
    }
    const first = !up.open
    // On a channel that cannot be answered, requests over a limit wait: before anything of the chunk is noted.
    const waits = first && this.mode === MODE.sign && this.limiter !== null && !this.terms.monitor
    if (waits && !this.limiter?.acquire(this.clock.us, false)) {
      this.pacing = true
      return FATE.hold
    }
    const before = up.sequence
    const sequence = u32(buf, o + AT.sequence)
    if (!up.take(sequence)) {
      if (waits) this.limiter?.release()
      const detail = `sequence number ${sequence} behind ${before}`
      return this.refuse(up, here - o, REASON.state, detail, CONNECTION_STATUS.badSequenceNumberInvalid)
    }
    const request = u32(buf, o + AT.request)
    if (first) {
      up.request = request
      up.chunks = 0
      up.bytes = 0
      if (chunk === CHUNK.abort) {
        if (waits) this.limiter?.release()
        return this.malformed(up, here - o, 'the abort of no message')
      }
    } else if (request !== up.request) {
      return this.malformed(up, here - o, 'chunks of two messages are interleaved')
    }
    if (!this.withinLimits(up, size)) {
      if (waits) this.limiter?.release()
      return this.tooLarge(up, here - o)
    }
    up.open = chunk === CHUNK.intermediate
    let fate = up.fate
    if (first) {
      const typeId = typeIdAt(buf, o + AT.body, Math.min(here, o + size - this.signature))
      up.fn = functionOfRequest(typeId)
      fate = this.decide(buf, o, here, size, typeId, waits)
      // The message's further chunks share its fate.
      up.fate = fate
    } else if (chunk === CHUNK.abort) fate = this.aborted(fate)
    if (fate === FATE.pass && this.mode === MODE.none) up.number(buf, o + AT.sequence)
    return fate
  }

  /** The client takes its message back, whose chunks so far have had this fate. */
  private aborted(fate: number): number {
    const { up } = this
    if (fate === FATE.gather) {
      // None of it has gone on, so neither does its abort; on a signed channel all of it has to.
      if (this.mode === MODE.none && !this.through) {
        up.release()
        return FATE.swallow
      }
      this.forwardGathered()
      return FATE.pass
    }
    if (fate === FATE.pass) this.forget(this.outstanding.find(up.request))
    return fate
  }

  private forwardGathered(): void {
    const { up } = this
    this.forward(up, up.gathered, 0, up.gatheredLength)
    up.release()
  }

  /** Forgets an outstanding request that nobody will answer. */
  private forget(at: number): void {
    if (at === -1) return
    const fn = this.outstanding.functionAt(at)
    this.outstanding.remove(at)
    this.terms.counters.cells[this.terms.counters.pending]--
    if (fn !== PUBLISH) this.limiter?.release()
  }

  private withinLimits(stream: Stream, size: number): boolean {
    stream.chunks++
    stream.bytes += size - AT.body
    return stream.chunks <= this.terms.chunks && stream.bytes <= this.terms.messageBytes
  }

  private tooLarge(stream: Stream, length: number): number {
    const { chunks, messageBytes } = this.terms
    stream.fate = FATE.pass
    const detail = `a message of more than ${messageBytes} bytes or ${chunks} chunks`
    return this.refuse(stream, length, REASON.rate, detail, CONNECTION_STATUS.badTcpMessageTooLarge)
  }

  private isToken(buf: Uint8Array, o: number): boolean {
    const token = u32(buf, o + AT.token)
    return token === this.token || token === this.formerToken
  }

  /**
   * The first chunk of a request in clear.
   * @param counted whether the limits have counted it already
   */
  private decide(buf: Uint8Array, o: number, here: number, size: number, typeId: number, counted: boolean): number {
    const { up, context, exchanges } = this
    const rules = this.channelRules as ChannelRules
    const { table } = rules
    const uncount = (fate: number): number => {
      if (counted && fate !== FATE.pass && fate !== FATE.gather) this.limiter?.release()
      return fate
    }
    if (typeId === SHORT_TYPE_ID) return uncount(this.malformed(up, here - o, 'the type id is cut off'))
    const shut = this.shut(typeId, buf, o, here)
    if (shut !== FATE.pass) return uncount(shut)
    const verdict = table.service(typeId)
    if (exchanges !== null && context !== null && exchanges.needsRequest(verdict, typeId, context)) {
      if (here - o === size && !up.open) {
        // All of it is at hand: where it may go on as it is, it is not copied.
        const end = o + size - this.signature
        const whole = table.decide(buf, o + AT.body, end, context)
        if (whole === REASON.allow) return uncount(this.admitWhole(buf, o + AT.body, end, whole, counted))
      }
      this.countedEarly = counted
      return FATE.gather
    }
    if (verdict !== REASON.allow) return uncount(this.denyService(buf, o, here, size, typeId))
    const end = Math.min(here, o + size - this.signature)
    const fate = this.admit(buf, o, end, counted)
    if (fate === FATE.pass && here - o === size && !up.open) this.identify(buf, o + AT.body, end)
    return uncount(fate)
  }

  /** Notes for the records what a session is called, and who says that it is theirs. The password is not looked at. */
  private identify(buf: Uint8Array, at: number, end: number): void {
    const { fn } = this.up
    if (fn === CREATE_SESSION) this.sessionName = shown(readCreateRequest(buf, at, end)?.sessionName)
    else if (fn === ACTIVATE_SESSION) this.userName = shown(readActivateRequest(buf, at, end)?.user.userName)
  }

  /** A service that the rules do not allow. */
  private denyService(buf: Uint8Array, o: number, here: number, size: number, typeId: number): number {
    const rules = this.channelRules as ChannelRules
    const { table } = rules
    const { rule } = table
    const fn = functionOfRequest(typeId)
    const end = Math.min(here, o + size - this.signature)
    let reason: number = REASON.service
    let detail = table.explain(reason, rule, typeId)
    if (fn === FUNCTION.unknown) detail = typeId === NO_TYPE_ID ? 'no service of namespace 0' : `no service: ${typeId}`
    else if (rules.elsewhere(typeId)) {
      reason = REASON.security
      detail = rules.discoveryOnly
        ? 'None is for discovery alone'
        : 'allowed on a channel of other security or with another certificate'
      this.downgrade(`${functionLabel(fn)} on a channel of the mode ${CHANNEL_MODES[this.mode]}`)
    }
    const fate = this.denyRequest(buf, o, end, reason, rule, fn, detail)
    return fate === FATE.pass ? this.note(fn, this.clock.us) : fate
  }

  /**
   * A request that the rules allow, all or some of it.
   * @param end of what is there of its body
   * @param counted whether the limits have counted it already
   * @param partly whether it is counted as denied
   */
  private admit(buf: Uint8Array, o: number, end: number, counted: boolean, partly = false): number {
    const { up } = this
    const { table } = this.channelRules as ChannelRules
    const { rule, wouldRule } = table
    let cell: number = REASON.allow
    if (wouldRule !== -1) {
      cell = WOULD_DENY + table.wouldReason
      this.reportRequest(table.wouldReason, true, wouldRule, up.fn, '', buf, o, end, table.wouldAt)
    }
    if (this.refused !== REASON.allow && cell === REASON.allow) cell = WOULD_DENY + this.refused
    if (!counted && this.limiter !== null && !this.limiter.acquire(this.clock.us, this.terms.monitor)) {
      const detail = 'over a limit of requests'
      if (!this.terms.monitor) {
        return this.denyRequest(buf, o, end, REASON.rate, rule, up.fn, detail, STATUS.badTooManyOperations)
      }
      if (cell === REASON.allow) {
        cell = WOULD_DENY + REASON.rate
        this.reportRequest(REASON.rate, true, rule, up.fn, detail, buf, o, end, -1)
      }
    }
    if (!this.outstanding.add(up.request, up.fn, this.clock.us)) {
      if (!counted) this.limiter?.release()
      return this.malformed(up, end - o, `request id ${up.request} is in use, or too many are`)
    }
    this.terms.counters.cells[this.terms.counters.pending]++
    // A Publish waits for as long as nothing happens: it is not what a limit of requests in flight is meant for.
    if (up.fn === PUBLISH) this.limiter?.release()
    if (!partly) this.count(up.fn, cell, rule)
    return FATE.pass
  }

  /** A request that passes though it would be denied is answered like any other. */
  private note(fn: number, us: number): number {
    const { up } = this
    this.limiter?.acquire(us, true)
    if (this.outstanding.add(up.request, fn, us)) {
      this.terms.counters.cells[this.terms.counters.pending]++
      if (fn === PUBLISH) this.limiter?.release()
    } else this.limiter?.release()
    return FATE.pass
  }

  /** The conduit denies everything while evidence cannot be written. */
  private shut(typeId: number, buf: Uint8Array, o: number, here: number): number {
    if (this.terms.gate[0] === 0 || this.terms.monitor) return FATE.pass
    const fn = this.mode > MODE.sign ? FUNCTION.encrypted : functionOfRequest(typeId)
    return this.denyRequest(buf, o, here, REASON.evidence, -1, fn, 'evidence cannot be written')
  }

  /** A chunk of a request that encryption hides. */
  private hiddenRequest(buf: Uint8Array, o: number, here: number, size: number): number {
    const { up } = this
    if (!up.open) {
      if (this.limiter !== null) {
        if (!this.limiter.acquire(this.clock.us, this.terms.monitor)) {
          if (!this.terms.monitor) {
            this.pacing = true
            return FATE.hold
          }
        }
        // Its answer cannot be told from others.
        this.limiter.release()
      }
      const shut = this.shut(0, buf, o, here)
      if (shut !== FATE.pass) return shut
      up.chunks = 0
      up.bytes = 0
      const rule = (this.channelRules as ChannelRules).hidden
      this.count(FUNCTION.encrypted, this.refused === REASON.allow ? REASON.allow : WOULD_DENY + this.refused, rule)
    }
    if (!this.withinLimits(up, size)) return this.tooLarge(up, here - o)
    up.open = buf[o + 3] === CHUNK.intermediate
    return FATE.pass
  }

  // ---------------------------------------------------------------------------------------------------- responses

  private response(buf: Uint8Array, o: number, here: number, size: number): number {
    if (this.mode === MODE.undecided) return this.answerTells(buf, o, here, size)
    if (this.mode === MODE.signAndEncrypt) return this.hiddenResponse(buf, o)
    return this.plainResponse(buf, o, here, size)
  }

  private hiddenResponse(buf: Uint8Array, o: number): number {
    this.down.open = buf[o + 3] === CHUNK.intermediate
    if (!this.down.open) this.terms.counters.cells[this.terms.counters.responses]++
    return FATE.pass
  }

  /** The counterpart of `passRequests`. */
  private passResponses(buf: Uint8Array, o: number, end: number): number {
    const { down, outstanding, mode, channel, exchanges } = this
    if (this.phase !== PHASE.channel || mode > MODE.sign || down.open || down.renumbering) return o
    if (this.limiter !== null || this.faults.length > 0 || this.closing !== '') return o
    const { cells, responses, pending } = this.terms.counters
    const most = Math.min(this.downMost, this.terms.messageBytes)
    while (end - o >= AT.body + 4) {
      const size = messageSize(buf, o)
      if (messageType(buf, o) !== MESSAGE.MSG || buf[o + 3] !== CHUNK.final || size > most || size > end - o) break
      if ((buf[o + 24] | (buf[o + 25] << 8)) !== 1 || u32(buf, o + AT.channel) !== channel) break
      if (mode === MODE.none && u32(buf, o + AT.token) !== this.token) break
      const sequence = u32(buf, o + AT.sequence)
      if (sequence !== down.sequence + 1) break
      const request = u32(buf, o + AT.request)
      const at = outstanding.find(request)
      if (at === -1 || exchanges?.wants(request) === true) break
      const fn = outstanding.functionAt(at)
      // Sessions are counted elsewhere, and faults looked at.
      if (fn === CREATE_SESSION || fn === CLOSE_SESSION) break
      if (RESPONSE_OF[fn] !== (buf[o + 26] | (buf[o + 27] << 8))) break
      if (fn !== PUBLISH) this.measure((this.clock.us - outstanding.timeAt(at)) | 0)
      outstanding.remove(at)
      down.sequence = sequence
      down.sent = sequence
      cells[responses]++
      cells[pending]--
      o += size
    }
    return o
  }

  /** A chunk of a response in clear. */
  private plainResponse(buf: Uint8Array, o: number, here: number, size: number): number {
    const { down, outstanding, exchanges } = this
    const chunk = buf[o + 3]
    if (this.mode === MODE.none && !this.isToken(buf, o)) {
      return this.refuse(down, here - o, REASON.state, 'token id', CONNECTION_STATUS.badSecurityChecksFailed)
    }
    const before = down.sequence
    const sequence = u32(buf, o + AT.sequence)
    if (!down.take(sequence)) {
      const detail = `sequence number ${sequence} behind ${before}`
      return this.refuse(down, here - o, REASON.state, detail, CONNECTION_STATUS.badSequenceNumberInvalid)
    }
    const request = u32(buf, o + AT.request)
    const first = !down.open
    let at = outstanding.find(request)
    if (first) {
      down.request = request
      down.chunks = 0
      down.bytes = 0
      down.fate = FATE.pass
      const detail = chunk === CHUNK.abort ? '' : this.mismatch(buf, o, here, size, at)
      if (at === -1 || detail !== '') {
        down.open = false
        const what = at === -1 ? 'answers no outstanding request' : detail
        const status = CONNECTION_STATUS.badCommunicationError
        const fate = this.refuse(down, here - o, REASON.state, what, status)
        if (fate !== FATE.pass) return fate
        at = -1
      } else {
        down.fn = outstanding.functionAt(at)
        if (down.fn !== PUBLISH) this.measure((this.clock.us - outstanding.timeAt(at)) | 0)
        if (exchanges?.wants(request) === true && chunk !== CHUNK.abort) down.fate = FATE.gather
        if (chunk !== CHUNK.abort) this.countSession(buf, o, here)
      }
    } else if (request !== down.request) {
      return this.malformed(down, here - o, 'chunks of two messages are interleaved')
    }
    if (!this.withinLimits(down, size)) return this.tooLarge(down, here - o)
    down.open = chunk === CHUNK.intermediate
    let { fate } = down
    if (chunk === CHUNK.abort) {
      exchanges?.drop(request)
      if (fate === FATE.gather) {
        this.forward(down, down.gathered, 0, down.gatheredLength)
        down.release()
        fate = FATE.pass
      }
    }
    if (!down.open) this.answered(at)
    if (fate === FATE.pass && this.mode === MODE.none) down.number(buf, o + AT.sequence)
    return fate
  }

  /** @returns what is wrong with the first chunk of an answer to the request at `at`; '' where nothing is */
  private mismatch(buf: Uint8Array, o: number, here: number, size: number, at: number): string {
    if (at === -1) return ''
    const typeId = typeIdAt(buf, o + AT.body, Math.min(here, o + size - this.signature))
    if (typeId === SERVICE_FAULT || RESPONSE_OF[this.outstanding.functionAt(at)] === typeId) return ''
    // Headgate has let a request pass that is none, or would have denied it.
    if (this.outstanding.functionAt(at) === FUNCTION.unknown) return ''
    return `type id ${typeId} does not answer ${functionLabel(this.outstanding.functionAt(at))}`
  }

  /** The last chunk of an answer has come. */
  private answered(at: number): void {
    this.terms.counters.cells[this.terms.counters.responses]++
    this.forget(at)
    if (this.closing !== '' && this.drained) this.cut(CONNECTION_STATUS.badConnectionClosed, this.closing)
  }

  private countSession(buf: Uint8Array, o: number, here: number): void {
    const { fn } = this.down
    if (fn !== CREATE_SESSION && fn !== CLOSE_SESSION) return
    const result = o + AT.body + typeIdLength(buf, o + AT.body) + 12
    if (here < result + 4 || u32(buf, result) >>> 30 !== 0) return
    if (typeIdAt(buf, o + AT.body, here) !== RESPONSE_OF[fn]) return
    const by = fn === CREATE_SESSION ? 1 : this.sessions > 0 ? -1 : 0
    this.sessions += by
    this.terms.counters.cells[this.terms.counters.sessions] += by
  }

  /** Counts how long the server took to answer, in microseconds. */
  private measure(took: number): void {
    const { counters, bounds } = this.terms
    if (counters.histogram === -1) return
    let bucket = 0
    while (bucket < bounds.length && took > bounds[bucket]) bucket++
    counters.cells[counters.histogram + bucket]++
    counters.cells[counters.histogram + bounds.length + 1] += took
  }

  // ----------------------------------------------------------------------------------------------- whole messages

  /** A message that was gathered is whole. */
  private gathered(stream: Stream): void {
    const { gathered, gatheredLength: length } = stream
    const first = messageSize(gathered, 0)
    let body = gathered
    let at: number = AT.body
    let end = first - this.signature
    if (first < length) {
      body = joined(gathered, length, this.signature)
      at = 0
      end = body.length
    }
    if (stream.up) this.decideWhole(body, at, end)
    else this.answerWhole(body, at, end)
    stream.release()
    stream.fate = FATE.pass
  }

  /** A whole request: each of its items. */
  private decideWhole(body: Uint8Array, at: number, end: number): void {
    const { up, exchanges, context } = this
    const { table } = this.channelRules as ChannelRules
    if (exchanges === null || context === null) return
    const counted = this.countedEarly
    // What describes the request expects a chunk's head before it.
    const o = at - AT.body
    const verdict = table.decide(body, at, end, context)
    const partly = verdict === VERDICT.partly
    if (partly || verdict !== REASON.allow) {
      const reason = partly ? table.denials.reason(0) : verdict
      const { rule } = table
      const detail = verdict === REASON.malformed ? bodyFaultText(table.fault) : table.explain(reason, rule)
      const whole = !partly || this.mode !== MODE.none || this.terms.monitor
      if (!whole) {
        this.count(up.fn, reason, rule)
        this.reportRequest(reason, false, rule, up.fn, detail, body, o, end, -2)
      } else if (this.denyRequest(body, o, end, reason, rule, up.fn, detail) !== FATE.pass) {
        if (counted) this.limiter?.release()
        return
      } else {
        this.note(up.fn, this.clock.us)
        // Passed all the same: what it brings is learnt.
        exchanges.send(up.request, table, REASON.allow, body, at, end, context)
        this.forwardWhole(up)
        return
      }
    }
    const fate = this.admitWhole(body, at, end, verdict, counted)
    if (fate !== FATE.pass) {
      if (counted) this.limiter?.release()
    } else if (partly) this.emit(up, exchanges.out.written())
    else this.forwardWhole(up)
  }

  /** A whole request, all or some of which (`VERDICT.partly`) the rules allow: what its answer brings is waited for. */
  private admitWhole(body: Uint8Array, at: number, end: number, verdict: number, counted: boolean): number {
    const { up, exchanges, context } = this
    const { table } = this.channelRules as ChannelRules
    if (exchanges === null || context === null) return FATE.stop
    const o = at - AT.body
    const sent = exchanges.send(up.request, table, verdict, body, at, end, context)
    if (sent === SEND.refuse && !this.terms.monitor) {
      const { status, reason } = exchanges
      return this.denyRequest(body, o, end, reason, table.rule, up.fn, 'too much is outstanding', status)
    }
    const fate = this.admit(body, o, end, counted, verdict === VERDICT.partly)
    if (fate !== FATE.pass) exchanges.drop(up.request)
    return fate
  }

  private answerWhole(body: Uint8Array, at: number, end: number): void {
    const { down, exchanges } = this
    if (exchanges === null) return
    const sent = exchanges.answer(down.request, body, at, end)
    if (this.through || sent === SEND.asItIs) this.forwardWhole(down)
    else if (sent === SEND.rewritten && this.mode === MODE.none) this.emit(down, exchanges.out.written())
    else if (this.mode === MODE.none) {
      const handle = u32(body, at + typeIdLength(body, at) + 8)
      this.faults.push({ request: down.request, handle, status: exchanges.status })
    } else this.cut(CONNECTION_STATUS.badCommunicationError, 'the server does not answer what was asked')
  }

  /** Forwards what was gathered as it is. */
  private forwardWhole(stream: Stream): void {
    const { gathered, gatheredLength: length } = stream
    if (this.mode === MODE.none) {
      for (let o = 0; o < length; o += messageSize(gathered, o)) stream.number(gathered, o + AT.sequence)
    }
    this.forward(stream, gathered, 0, length)
  }

  /** Sends a message of Headgate's own making, in as many chunks as it takes. */
  private emit(stream: Stream, body: Uint8Array): void {
    const most = Math.min(stream.up ? this.upMost : this.downMost, 65_536) - AT.body
    const chunk = new Uint8Array(AT.body + Math.min(most, body.length))
    chunk.set([0x4d, 0x53, 0x47])
    setU32(chunk, AT.channel, this.channel)
    setU32(chunk, AT.token, u32(stream.gathered, AT.token))
    setU32(chunk, AT.request, stream.request)
    for (let from = 0; from < body.length; from += most) {
      const part = body.subarray(from, from + most)
      chunk[3] = from + most >= body.length ? CHUNK.final : CHUNK.intermediate
      setU32(chunk, 4, AT.body + part.length)
      setU32(chunk, AT.sequence, stream.next())
      chunk.set(part, AT.body)
      this.forward(stream, chunk, 0, AT.body + part.length)
    }
  }

  // ------------------------------------------------------------------------------------------------------ denials

  /**
   * A request that is denied: answered on a channel in clear, else the end of the connection.
   * @param end of what is there of its chunk, or of its body
   * @param at offset of the item that is told; -1: the first, -2: the first that is denied
   * @returns `FATE.pass` where it is only noted
   */
  private denyRequest(
    buf: Uint8Array,
    o: number,
    end: number,
    reason: number,
    rule: number,
    fn: number,
    detail: string,
    status: number = STATUS.badUserAccessDenied,
  ): number {
    const would = this.terms.monitor
    this.count(fn, would ? WOULD_DENY + reason : reason, rule)
    this.reportRequest(reason, would, rule, fn, detail, buf, o, end, fn === FUNCTION.encrypted ? -3 : -2)
    if (would) return FATE.pass
    if (this.mode !== MODE.none || this.phase !== PHASE.channel) {
      this.cut(status === STATUS.badUserAccessDenied ? CONNECTION_STATUS.badUserAccessDenied : status, 'request denied')
      return FATE.stop
    }
    const body = o + AT.body
    this.answer(this.up.request, requestHandle(buf, body, end, typeIdLength(buf, body)), status)
    // The chunks behind it go the same way; a number is missing from here on.
    this.up.renumbering = true
    return this.stopped ? FATE.stop : FATE.swallow
  }

  /** Answers a request on a channel in clear with a ServiceFault, as soon as no message to the client is under way. */
  private answer(request: number, handle: number, status: number): void {
    if (this.faults.length >= MAX_FAULTS) {
      this.cut(CONNECTION_STATUS.badUserAccessDenied, 'too many denied requests at one time')
      return
    }
    this.faults.push({ request, handle, status })
    if (this.walking !== this.down) this.sendFaults()
  }

  private sendFaults(): void {
    const { down, faults } = this
    if (faults.length === 0 || down.open || down.left > 0) return
    for (const { request, handle, status } of faults) {
      const bytes = faultMessage(this.channel, this.token, down.next(), request, handle, status, Date.now())
      this.forward(down, bytes, 0, bytes.length)
    }
    faults.length = 0
  }

  /** A message that cannot pass, nor be left out: the connection ends. @returns `FATE.pass` where it is only noted */
  private refuse(stream: Stream, length: number, reason: number, detail: string, status: number): number {
    const would = this.terms.monitor
    const cell = would ? WOULD_DENY + reason : reason
    if (stream.up) this.count(FUNCTION.unknown, cell, -1)
    else this.terms.counters.cells[this.terms.counters.responses + cell]++
    const kind = stream.up ? 'request' : 'response'
    this.report(kind, reason, would, -1, FUNCTION.unknown, detail, () => ({ length }))
    if (would) return FATE.pass
    this.cut(status, detail)
    return FATE.stop
  }

  /** The channel itself is not allowed. @returns true where that is only noted */
  private refuseChannel(reason: number, detail: string, status: number): boolean {
    const would = this.terms.monitor
    if (this.refused === REASON.allow || !would) {
      const fn = functionOfRequest(REQUEST.OpenSecureChannel)
      this.report('channel', reason, would, -1, fn, detail, null)
      if (this.phase >= PHASE.open) this.count(fn, would ? WOULD_DENY + reason : reason, -1)
    }
    this.refused = reason
    if (would) return true
    this.cut(status, detail)
    return false
  }

  /** The connection is to end, once what was allowed has been sent. */
  private cut(status: number, why: string): void {
    if (this.cutting === null && !this.over) this.cutting = { status, why }
  }

  private finishCut(): void {
    const { cutting, down } = this
    if (cutting === null || this.over) return
    this.cutting = null
    this.over = true
    this.held = NO_BYTES
    this.pacing = false
    if (!this.through && (down.left === 0 || down.fate !== FATE.pass)) {
      const bytes = errorMessage(cutting.status, cutting.why)
      if (this.reversed) this.host.toTarget(bytes, 0, bytes.length)
      else this.host.toClient(bytes, 0, bytes.length)
    }
    this.host.finish(cutting.why)
  }

  // ------------------------------------------------------------------------------------------------------ records

  private count(fn: number, cell: number, rule: number): void {
    const { cells, requests, rules } = this.terms.counters
    cells[requests + fn * VERDICTS + cell]++
    if (rule >= 0) cells[rules + rule * 3 + (cell === REASON.allow ? 0 : cell < WOULD_DENY ? 1 : 2)]++
  }

  private countPending(by: number): void {
    const { counters } = this.terms
    counters.cells[counters.pending] += by
    for (let at = 0; at < this.outstanding.size; at++) {
      if (this.outstanding.functionAt(at) !== PUBLISH) this.limiter?.release()
    }
  }

  /** Counts the channel among those that are open, or no longer (-1). */
  private countChannel(by: 1 | -1): void {
    const { cells, channels } = this.terms.counters
    if (by === -1) {
      if (this.gauge !== -1) cells[this.gauge]--
      this.gauge = -1
    } else if (this.phase >= PHASE.channel) {
      this.gauge = channels + channelCell(this.visibility, policyIndex(this.policy), this.mode)
      cells[this.gauge]++
    }
  }

  private get visibility(): number {
    if (this.blind) return VISIBILITY.blind
    return this.mode <= MODE.sign ? VISIBILITY.inspected : VISIBILITY.headerOnly
  }

  /** @param at offset of the item that is told; -1: the first, -2: the first that is denied, -3: nothing can be read */
  private reportRequest(
    reason: number,
    would: boolean,
    rule: number,
    fn: number,
    detail: string,
    buf: Uint8Array,
    o: number,
    end: number,
    at: number,
  ): void {
    const { table } = this.channelRules ?? {}
    this.report('request', reason, would, rule, fn, detail, () => {
      const fields: OpcUaFields = { function: functionLabel(fn), request_id: this.up.request }
      if (at === -3 || this.mode > MODE.sign) return fields
      const body = o + AT.body
      const denied = at === -2 && table !== undefined && table.denials.count > 0 && reason >= REASON.node
      return {
        ...(denied ? describeDenied(buf, body, end, table.denials) : describeRequest(buf, body, end, Math.max(at, -1))),
        ...fields,
      }
    })
  }

  private report(
    kind: OpcUaReport['kind'],
    reason: number,
    would: boolean,
    rule: number,
    fn: number,
    detail: string,
    more: (() => OpcUaFields) | null,
  ): void {
    const fields = (): OpcUaFields => ({
      endpoint_url: this.endpointUrl.slice(0, 256),
      ...(this.phase >= PHASE.open && this.policy !== null
        ? { security_policy: this.policy, security_mode: CHANNEL_MODES[this.mode] }
        : {}),
      ...(this.phase >= PHASE.channel ? { channel_id: this.channel, visibility: VISIBILITIES[this.visibility] } : {}),
      certificate: this.certificate,
      server_certificate: this.serverCertificate,
      session: this.sessionName,
      user: this.userName,
      ...more?.(),
    })
    this.host.reportOpcUa({ kind, reason, would, rule, fn, detail, fields })
  }

  // ---------------------------------------------------------------------------------------------- ends and timers

  onClientEnd(): void {
    if (this.terms.monitor || this.over) return
    this.over = true
    this.host.finish('client closed')
  }

  onTargetEnd(): void {
    if (this.over) return
    this.over = true
    this.host.finish('target closed')
  }

  onTargetLost(connected: boolean): void {
    this.cut(CONNECTION_STATUS.badCommunicationError, connected ? 'target lost' : 'target unreachable')
    this.finishCut()
  }

  onPace(): void {
    this.resume()
    this.settle()
  }

  close(why: string): void {
    if (this.over || this.closing !== '') return
    this.closing = why
    if (this.mode > MODE.sign || this.drained || this.phase !== PHASE.channel) {
      this.cut(CONNECTION_STATUS.badConnectionClosed, why)
      this.finishCut()
    }
  }

  onTimer(): number {
    const { terms, clock } = this
    let wait = Math.min(terms.partialFrameMs, terms.idleMs)
    if (terms.monitor || this.over) return Math.max(1, wait)
    for (const stream of [this.up, this.down]) {
      if (stream.left === 0 && stream.partLength === 0) continue
      const left = terms.partialFrameMs - ((clock.ms - stream.since) | 0)
      if (left <= 0) this.late(stream, `no whole message within ${terms.partialFrameMs} ms`)
      else wait = Math.min(wait, left)
    }
    if (this.phase < PHASE.channel) {
      const left = terms.partialFrameMs - ((clock.ms - this.phaseSince) | 0)
      const what = this.phase === PHASE.hello ? 'Hello' : 'secure channel'
      const owes = this.phase === PHASE.acknowledge || this.phase === PHASE.opening ? this.down : this.up
      if (left <= 0) this.late(owes, `no ${what} within ${terms.partialFrameMs} ms`)
      else wait = Math.min(wait, left)
    }
    const idle = terms.idleMs - ((clock.ms - this.lastActivity) | 0)
    if (idle <= 0) this.cut(CONNECTION_STATUS.badConnectionClosed, 'idle')
    else wait = Math.min(wait, idle)
    this.settle()
    return Math.max(1, Math.ceil(wait))
  }

  private late(stream: Stream, detail: string): void {
    if (this.stopped) return
    this.refuse(stream, 0, REASON.timeout, detail, CONNECTION_STATUS.badTimeout)
  }

  dispose(): void {
    this.countPending(-this.outstanding.size)
    this.outstanding.clear()
    this.countChannel(-1)
    this.terms.counters.cells[this.terms.counters.sessions] -= this.sessions
    this.sessions = 0
    this.over = true
    this.held = NO_BYTES
    this.pacing = false
  }
}

const CREATE_SESSION = functionOfRequest(REQUEST.CreateSession)
const ACTIVATE_SESSION = functionOfRequest(REQUEST.ActivateSession)
const CLOSE_SESSION = functionOfRequest(REQUEST.CloseSession)

/** Type ids of responses by the index of the function; -1 where there is none. */
const RESPONSE_OF = Int32Array.from({ length: FUNCTION.services + SERVICES.length }, (_, fn) =>
  fn < FUNCTION.services ? -1 : SERVICES[fn - FUNCTION.services].response,
)

/** Bytes of the cipher's block in all policies that Headgate knows (AES-CBC). */
const BLOCK = 16

/** Whether a chunk of this size cannot be encrypted: what stands behind its token id is no number of blocks. */
const isUnaligned = (size: number): boolean => (size - AT.sequence) % BLOCK !== 0

/** HMAC-SHA1 with the policies that were withdrawn, else HMAC-SHA256 (OPC 10000-7 §6.6). */
const signatureBytes = (policy: OpcUaSecurityPolicy | null): number =>
  policy === 'Basic128Rsa15' || policy === 'Basic256' ? 20 : 32

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

const MAX_SHOWN = 128

const shown = (text: string | null | undefined): string => text?.slice(0, MAX_SHOWN) ?? ''

const typeText = (buf: Uint8Array, o: number): string => String.fromCharCode(buf[o], buf[o + 1], buf[o + 2])

const listText = (list: ReadonlySet<string>): string => {
  const texts = [...list]
  return texts.length > 4 ? `${texts.slice(0, 4).join(', ')} …` : texts.join(', ')
}
