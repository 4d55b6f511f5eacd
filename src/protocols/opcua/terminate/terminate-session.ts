/**
 * One connection of a terminating conduit, without its sockets: the client's secure channel ends here, and another one
 * of the same security policy and mode leads to the server. Bodies pass from one to the other as bytes, chunk by chunk;
 * a message is gathered where it has to be rewritten, or where a rule reaches into it.
 *
 * In monitor mode the channels end here all the same, so that certificates and signatures are judged as ever: what the
 * rules would deny is recorded, and passes.
 */
import { REASON, WOULD_DENY } from '../../reason.ts'
import type { Clock, RequestLimiter, Session } from '../../session.ts'
import { Cursor, copyOf, dateTime, NodeRef, Writer } from '../binary.ts'
import { type ChannelRules, PairRules } from '../channel-rules.ts'
import { CHUNK, MESSAGE, SHORT_TYPE_ID, typeIdAt } from '../chunk.ts'
import { answersByItem, VERDICT } from '../decide.ts'
import { describeDenied, describeItems, describeRequest } from '../describe.ts'
import { Exchanges, SEND } from '../exchanges.ts'
import { isRefusal, writeResponseHeader, writeServiceFault } from '../headers.ts'
import { namespaceArrayOf, writeNamespaceRead } from '../namespaces.ts'
import { type Objection, toTerminated } from '../objections.ts'
import { isRefused } from '../refused.ts'
import { spliceResponse } from '../rewrite.ts'
import { functionLabel, functionOfRequest, isResponse, REQUEST, SERVICE_FAULT, serviceOf } from '../services.ts'
import { SessionContext } from '../session-context.ts'
import type { FieldSource, OpcUaShadow } from '../shadow.ts'
import {
  channelCell,
  noItems,
  type OpcUaFields,
  type OpcUaReport,
  type OpcUaWitness,
  policyIndex,
  VISIBILITY,
} from '../terms.ts'
import type { Channel } from './channel.ts'
import { Front, type FrontOwner } from './front.ts'
import { Link, type LinkOwner } from './link.ts'
import { type ClientHello, type Hello, writeCloseSession, writeError } from './messages.ts'
import type { OpenGuard } from './open-guard.ts'
import { type Activating, type Creating, least, REWRITTEN, type Refusal, SessionServices } from './services.ts'
import type { SessionStore } from './session-store.ts'
import { KIND, MAX_OUTSTANDING, Slots } from './slots.ts'
import { STATUS_CODE, statusName } from './status.ts'
import type { Target, TerminateHost, TerminateShared, TerminateTerms } from './terms.ts'

/** Until the channel is open. */
const HANDSHAKE_MS = 20_000
/** How long a server may take to close the sessions of a client that is cut. */
const CLOSING_MS = 1000
/** How long a session that is stopped waits for what is outstanding. */
const DRAIN_MS = 5000
/** Own answers to the client that wait for a response to end, above which no more are read from it. */
const MAX_ANSWERS = 64
/** Requests outstanding above which no more are read from the client. */
const OUTSTANDING_HIGH = MAX_OUTSTANDING - 64
/** Cells of a function in the counters: one a reason for denials, one a reason for would-denials. */
const VERDICTS = WOULD_DENY * 2
/** How often a session in use is noted in the store. */
const TOUCH_MS = 1000

const FLOW = { none: 0, pass: 1, gather: 2, drop: 3 } as const

/** What one direction is in the middle of. */
class Flow {
  state: number = FLOW.none
  /** The sender's request id. */
  requestId = 0
  typeId = 0
  slot = -1
  bytes = 0
  chunks = 0
  /** It counts towards the limits of requests, and is not noted among the outstanding ones yet. */
  limited = false
  /** Where it would be denied, the index of the first item that is; else -1. */
  doubted = -1
  /** Bytes of a message that is gathered: [0, bytes). */
  gathered: Uint8Array = NO_BYTES

  begin(requestId: number): void {
    this.state = FLOW.none
    this.requestId = requestId
    this.typeId = 0
    this.slot = -1
    this.doubted = -1
    this.bytes = 0
    this.chunks = 0
  }

  add(buf: Uint8Array, from: number, to: number): void {
    const length = this.bytes + to - from
    if (length > this.gathered.length) {
      const larger = new Uint8Array(Math.max(length, 2 * this.gathered.length, 4096))
      larger.set(this.gathered.subarray(0, this.bytes))
      this.gathered = larger
    }
    this.gathered.set(buf.subarray(from, to), this.bytes)
  }

  end(): void {
    this.state = FLOW.none
    this.gathered = NO_BYTES
  }
}

const NO_BYTES = new Uint8Array(0)

/** A session that this connection has opened or taken over. */
interface Held {
  slot: number
  key: Buffer
  token: Uint8Array
  name: string
  user: string
  touchedMs: number
  /** It was made on this connection, and not activated yet. */
  fresh: boolean
}

export class TerminateSession implements Session, FrontOwner, LinkOwner, FieldSource {
  terms: TerminateTerms
  /** Sees all messages; null: nobody wants to. */
  private witness: OpcUaWitness | null = null
  readonly target: Target
  readonly guard: OpenGuard
  readonly peer: string
  private readonly host: TerminateHost
  private readonly clock: Clock
  private readonly store: SessionStore
  private pairRules: PairRules
  private limiter: RequestLimiter | null
  /** null: no policy judges beside. */
  private shadow: OpcUaShadow | null
  /** The request at hand waits to be whole before the shadow policy judges it. */
  private besideLater = false
  private rules: ChannelRules
  private readonly front: Front
  private readonly link: Link
  private readonly services: SessionServices
  private readonly exchanges: Exchanges
  private readonly slots = new Slots()
  private readonly request = new Flow()
  private readonly response = new Flow()
  /** Sessions by the hex of their tokens. */
  private readonly held = new Map<string, Held>()
  private lastToken: Uint8Array = NO_BYTES
  private lastHeld: Held | null = null
  private lastContext: SessionContext
  private readonly cursor = new Cursor()
  private readonly token = new NodeRef()
  private readonly writer = new Writer(128)
  /** Answers of Headgate's own that wait until a response has gone through. */
  private answers: { requestId: number; body: Uint8Array }[] = []
  /** An ActivateSession response that waits for the server's namespaces. */
  private activated: { clientId: number; body: Uint8Array } | null = null
  private hello: ClientHello | null = null
  private readonly startedMs: number
  private lastMs: number
  private heldSince = -1
  private channelAt = -1
  /** Why no more requests are taken; '' while they are. */
  private stopping = ''
  private stoppedMs = 0
  /** Why the connection ends; '' while it does not. */
  private ending = ''
  private endedMs = 0
  private disposed = false

  /**
   * @param rules of the pair of addresses
   * @param peer the client's address
   * @param shadow null: none judges beside; then it costs nothing
   */
  constructor(
    host: TerminateHost,
    clock: Clock,
    terms: TerminateTerms,
    rules: PairRules,
    target: Target,
    shared: TerminateShared,
    peer: string,
    limiter: RequestLimiter | null,
    shadow: OpcUaShadow | null = null,
  ) {
    this.host = host
    this.clock = clock
    this.terms = terms
    this.target = target
    this.guard = shared.guard
    this.store = shared.store
    this.peer = peer
    this.pairRules = rules
    this.limiter = limiter
    this.shadow = shadow
    this.front = new Front(this)
    this.link = new Link(this)
    this.services = new SessionServices(
      terms,
      target,
      shared.store,
      shared.guard,
      this.front.channel,
      this.link.channel,
      peer,
    )
    this.exchanges = new Exchanges(terms.subscriptionsPerSession)
    this.rules = NO_RULES
    this.lastContext = new SessionContext(target.namespaces, target.owners)
    this.startedMs = clock.ms
    this.lastMs = clock.ms
  }

  // ------------------------------------------------------------------------------------------------- Session's face

  get pending(): number {
    return this.slots.size
  }

  readonly clientRoom = 0
  readonly targetRoom = 0

  get congested(): boolean {
    if (this.ending !== '') return false
    const { phase } = this.front
    if (phase === 'greeted' || phase === 'opening') return true
    return this.slots.size >= OUTSTANDING_HIGH || this.answers.length >= MAX_ANSWERS
  }

  get drained(): boolean {
    return this.slots.size === 0
  }

  /** Bytes of chunks that are not whole yet. */
  get heldBytes(): number {
    return this.front.held + this.link.held
  }

  get waiting(): boolean {
    return false
  }

  /** Never a pipe of bytes: the channels end here in either mode. */
  get monitoring(): boolean {
    return false
  }

  onPace(): void {}

  onClientBytes(buf: Uint8Array, start: number, end: number): void {
    if (this.ending !== '') return
    this.lastMs = this.clock.ms
    this.terms.counters.cells[this.terms.counters.bytesIn] += end - start
    this.front.feed(buf, start, end)
  }

  onTargetBytes(buf: Uint8Array, start: number, end: number): void {
    this.link.feed(buf, start, end)
  }

  onClientEnd(): void {
    this.finish('client closed')
  }

  onTargetEnd(): void {
    this.onTargetLost(true)
  }

  onTargetLost(connected: boolean): void {
    if (this.ending !== '') {
      this.finish(this.ending)
      return
    }
    const status = connected ? STATUS_CODE.BadConnectionClosed : STATUS_CODE.BadServerNotConnected
    this.sayError(status, connected ? 'The connection to the server was lost.' : 'The server cannot be reached.')
    this.finish(connected ? 'target lost' : 'target unreachable')
  }

  close(why: string): void {
    if (this.ending !== '' || this.stopping !== '') return
    this.stopping = why
    this.stoppedMs = this.clock.ms
    this.maybeStop()
  }

  private maybeStop(): void {
    if (this.stopping === '' || this.ending !== '') return
    if (this.awaited > 0 && ((this.clock.ms - this.stoppedMs) | 0) < DRAIN_MS) return
    this.cut(STATUS_CODE.BadShutdown, this.stopping)
  }

  /** Requests that are worth waiting for: not those that wait for news. */
  private get awaited(): number {
    let awaited = 0
    for (const at of this.slots.each()) if (this.slots.types[at] !== REQUEST.Publish) awaited++
    return awaited
  }

  adopt(
    terms: TerminateTerms,
    rules: PairRules,
    limiter: RequestLimiter | null,
    shadow: OpcUaShadow | null = null,
  ): void {
    const moved = this.channelAt !== -1
    this.uncountChannel()
    this.terms.counters.cells[this.terms.counters.sessions] -= this.held.size
    this.terms.counters.cells[this.terms.counters.pending] -= this.slots.size
    for (const at of this.slots.each()) this.release(at)
    this.terms = terms
    this.pairRules = rules
    this.limiter = limiter
    this.shadow = shadow
    this.services.terms = terms
    this.exchanges.subscriptionLimit = terms.subscriptionsPerSession
    this.terms.counters.cells[this.terms.counters.sessions] += this.held.size
    this.terms.counters.cells[this.terms.counters.pending] += this.slots.size
    for (const at of this.slots.each()) this.acquire(at)
    if (!moved) return
    this.countChannel()
    this.rules = this.rulesOfChannel()
    const why = this.objection()
    if (why !== '') this.cut(STATUS_CODE.BadSecurityChecksFailed, why)
    else this.compareChannel(true)
  }

  /** @param witness sees all messages from now on; null: nobody */
  watch(witness: OpcUaWitness | null): void {
    this.witness = witness
    if (this.channelAt !== -1) this.tellWitness()
  }

  private tellWitness(): void {
    this.witness?.sawChannel(this.front.channel.policy.name, this.front.modeName, this.hello?.endpointUrl ?? '')
  }

  /** What the present terms have against a channel that is open; '' for nothing. */
  private objection(): string {
    const { peer, chain, policy } = this.front.channel
    if (peer === null) return ''
    const { clients, securityModes, securityPolicies, monitor, servers } = this.terms
    const status = clients.judge(peer, chain, policy, Date.now())
    if (status !== 'Good') return `client certificate ${peer.thumbprintHex}: ${status}`
    if (!this.pairRules.knowsCertificate(peer.thumbprintHex)) return 'no rule for the client certificate any more'
    const { peer: server, chain: serverChain } = this.link.channel
    const judged = server === null ? 'Good' : servers.judge(server, serverChain, policy, Date.now())
    if (judged !== 'Good') return `server certificate ${server?.thumbprintHex}: ${judged}`
    const allowed = securityPolicies.has(policy.name) && securityModes.has(this.front.modeName)
    return allowed || monitor ? '' : 'security policy or mode are no longer allowed'
  }

  dispose(): void {
    if (this.disposed) return
    this.disposed = true
    this.ending ||= 'gone'
    this.front.end()
    this.letGo()
    for (const at of this.slots.each()) this.forget(at)
    this.exchanges.clear()
    this.uncountChannel()
    this.terms.counters.cells[this.terms.counters.sessions] -= this.held.size
    this.held.clear()
  }

  onTimer(): number {
    const { ms } = this.clock
    if (this.ending !== '') {
      if (((ms - this.endedMs) | 0) >= CLOSING_MS) this.finish(this.ending)
      return CLOSING_MS
    }
    if (this.front.phase !== 'open') {
      if (((ms - this.startedMs) | 0) >= HANDSHAKE_MS) {
        this.refuse(STATUS_CODE.BadTimeout, REASON.timeout, `no secure channel within ${HANDSHAKE_MS} ms`)
      }
      return 1000
    }
    this.maybeStop()
    const idle = this.terms.idleMs - ((ms - this.lastMs) | 0)
    if (idle <= 0) this.cut(STATUS_CODE.BadTimeout, 'idle')
    else if (this.front.channel.expires(ms) === 0)
      this.cut(STATUS_CODE.BadSecureChannelClosed, 'the client does not renew')
    this.checkPartial(ms)
    this.checkOverdue()
    if (this.ending !== '') return CLOSING_MS
    return Math.max(1, Math.min(1000, idle, this.terms.responseMs, this.link.renewal(ms)))
  }

  /** Tells of requests that the server has not answered in time. */
  private checkOverdue(): void {
    const { slots, terms } = this
    for (;;) {
      const slot = slots.overdue(this.clock.us, terms.responseMs * 1000, REQUEST.Publish)
      if (slot === -1) return
      const fn = functionOfRequest(slots.types[slot])
      const request_id = slots.clientIdOf(slot)
      const fields = () => ({ ...this.channelFields(), function: functionLabel(fn), request_id })
      const detail = `no answer within ${terms.responseMs} ms`
      this.report('timeout', REASON.timeout, terms.monitor, fn, detail, fields)
    }
  }

  private checkPartial(ms: number): void {
    if (this.front.held === 0 && this.link.held === 0) {
      this.heldSince = -1
      return
    }
    if (this.heldSince === -1) this.heldSince = ms
    else if (
      ((ms - this.heldSince) | 0) >= this.terms.partialFrameMs &&
      ((ms - this.lastMs) | 0) >= this.terms.partialFrameMs
    ) {
      this.cut(STATUS_CODE.BadTimeout, 'part of a chunk, and no more of it')
    }
  }

  // -------------------------------------------------------------------------------------- what front and link ask

  ms(): number {
    return this.clock.ms
  }

  toClient(bytes: Uint8Array, from: number, to: number): void {
    // The client's last was an ERR.
    if (this.ending !== '') return
    this.terms.counters.cells[this.terms.counters.bytesOut] += to - from
    this.host.toClient(bytes, from, to)
  }

  toTarget(bytes: Uint8Array, from: number, to: number): void {
    this.host.toTarget(bytes, from, to)
  }

  knowsCertificate(thumbprint: string): boolean {
    return this.terms.monitor || this.pairRules.knowsCertificate(thumbprint)
  }

  rejectClient(der: Uint8Array): void {
    this.host.rejected('clients', der)
  }

  rejectServer(der: Uint8Array): void {
    this.host.rejected('servers', der)
  }

  redial(): void {
    this.host.redialTarget()
  }

  onHello(hello: ClientHello): void {
    this.hello = hello
    this.services.helloUrl = hello.endpointUrl
    const { messageBytes, chunks } = this.terms
    this.link.greet(
      {
        receiveBuffer: Math.min(MAX_BUFFER, hello.receiveBuffer),
        sendBuffer: Math.min(MAX_BUFFER, hello.sendBuffer),
        maxMessage: least(hello.maxMessage, messageBytes),
        maxChunks: least(hello.maxChunks, chunks),
      },
      hello.endpointUrl,
    )
  }

  onAcknowledge(acknowledge: Hello): void {
    const { hello } = this
    if (hello === null) return
    this.front.acknowledge({
      receiveBuffer: Math.min(MAX_BUFFER, hello.sendBuffer, acknowledge.receiveBuffer),
      sendBuffer: Math.min(MAX_BUFFER, hello.receiveBuffer, acknowledge.sendBuffer),
      maxMessage: least(acknowledge.maxMessage, this.terms.messageBytes),
      maxChunks: least(acknowledge.maxChunks, this.terms.chunks),
    })
  }

  onOpenRequest(lifetime: number): void {
    const { policy, mode } = this.front.channel
    this.wantedLifetime = lifetime
    this.link.open(policy, mode, lifetime)
  }

  private wantedLifetime = 0

  onOpen(lifetime: number): void {
    this.front.grant(Math.max(1000, Math.min(this.wantedLifetime, lifetime)))
    this.rules = this.rulesOfChannel()
    this.countChannel()
    this.tellChannel('opened', REASON.allow, false, '')
    this.tellWitness()
    this.compareChannel(false)
  }

  /** Asks the shadow policy about a channel that is open. @param anew another one has been asked before */
  private compareChannel(anew: boolean): void {
    const { shadow, link, terms } = this
    if (shadow === null) return
    const { facts } = this.front
    facts.serverCertificate = link.channel.peer?.thumbprintHex ?? ''
    const reason = terms.monitor ? (this.objectionInForce()?.reason ?? REASON.allow) : REASON.allow
    shadow.opened({ ...facts }, reason, this, anew)
  }

  /** The same of one that ends: where it is the policy that has something against it. */
  private compareRefused(): void {
    const { shadow } = this
    if (shadow === null || this.channelAt !== -1) return
    const objection = this.objectionInForce()
    if (objection !== null) shadow.refused({ ...this.front.facts }, objection.reason, this)
  }

  private objectionInForce(): Objection | null {
    return toTerminated(this.terms, { pair: this.pairRules, reverse: null }, this.front.facts)
  }

  private rulesOfChannel(): ChannelRules {
    const { policy, peer } = this.front.channel
    return this.pairRules.forChannel({
      policy: policy.name,
      mode: this.front.modeName,
      certificate: peer?.thumbprintHex ?? '',
    })
  }

  private countChannel(): void {
    const { policy, mode } = this.front.channel
    this.channelAt = channelCell(VISIBILITY.inspected, policyIndex(policy.name), mode - 1)
    this.terms.counters.cells[this.terms.counters.channels + this.channelAt]++
  }

  private uncountChannel(): void {
    if (this.channelAt === -1) return
    this.terms.counters.cells[this.terms.counters.channels + this.channelAt]--
    this.channelAt = -1
  }

  onFailure(status: number, why: string): void {
    if (this.ending !== '') {
      this.finish(this.ending)
      return
    }
    const security = status === STATUS_CODE.BadSecurityChecksFailed
    this.tellChannel('channel', security ? REASON.security : REASON.state, false, why)
    if (security) this.compareRefused()
    this.sayError(status, 'The connection to the server cannot be used.')
    this.finish(why)
  }

  onRefusal(status: number, reason: number, why: string): void {
    this.refuse(status, reason, why)
  }

  onWouldRefuse(why: string): void {
    this.tellChannel('channel', REASON.security, true, why)
  }

  private refuse(status: number, reason: number, why: string): void {
    if (this.ending !== '') return
    this.tellChannel('channel', reason, false, why)
    if (reason === REASON.security) this.compareRefused()
    this.cut(status, why)
  }

  // -------------------------------------------------------------------------------------------------------- ending

  private sayError(status: number, text: string): void {
    const message = writeError(status, text)
    this.toClient(message, 0, message.length)
  }

  /** Ends the client's connection; its sessions are closed on the server first, so that none is left behind. */
  private cut(status: number, why: string): void {
    if (this.ending !== '') return
    this.sayError(status, 'The connection is closed by a gateway.')
    if (this.link.phase !== 'open' || this.held.size === 0) {
      this.finish(why)
      return
    }
    this.ending = why
    this.endedMs = this.clock.ms
    this.front.end()
    this.abortRequest()
    for (const { slot, key, token } of this.held.values()) {
      this.store.remove(slot, key)
      this.sendOwn(REQUEST.CloseSession, writeCloseSession(token, 1, Date.now()), KIND.ownClose, null)
    }
  }

  /** A request of which the server has a part gets no more. */
  private abortRequest(): void {
    const { request } = this
    if (request.state === FLOW.pass && request.slot !== -1) {
      const body = new Writer().u32(STATUS_CODE.BadConnectionClosed).string(null).written()
      this.sendChunks(this.link.channel, this.slots.idOf(request.slot), CHUNK.abort, body, 0, body.length, false)
    }
    request.end()
  }

  private finish(why: string): void {
    if (this.ending === '' || this.link.phase !== 'over') {
      this.ending = why
      this.endedMs = this.clock.ms
      this.front.end()
      this.link.close()
    }
    this.host.finish(why)
  }

  onClose(): void {
    this.finish('client closed')
  }

  // ------------------------------------------------------------------------------------------------------- requests

  onRequest(final: number): boolean {
    const { channel } = this.front
    const { request } = this
    const { plain, bodyStart, bodyEnd, requestId } = channel
    const first = request.state === FLOW.none
    if (!first && requestId !== request.requestId) {
      this.refuse(STATUS_CODE.BadTcpInternalError, REASON.malformed, 'chunks of two messages mixed')
      return false
    }
    if (final === CHUNK.abort) {
      this.witness?.sawChunk(true, requestId, final, plain, bodyStart, bodyEnd, null)
      if (!first) this.abortedByClient()
      return true
    }
    if (final !== CHUNK.final && final !== CHUNK.intermediate) {
      this.refuse(STATUS_CODE.BadTcpMessageTypeInvalid, REASON.malformed, 'a chunk that is neither C, F nor A')
      return false
    }
    if (first) {
      request.begin(requestId)
      this.beginRequest(plain, bodyStart, bodyEnd, final === CHUNK.final)
      if (this.ending !== '') return false
    }
    this.witness?.sawChunk(true, requestId, final, plain, bodyStart, bodyEnd, this.lastContext.aliases)
    request.chunks++
    const bytes = request.bytes + bodyEnd - bodyStart
    if (request.state !== FLOW.drop) {
      const fits = bytes <= this.terms.messageBytes && request.chunks <= this.terms.chunks
      this.shadow?.sized(request.chunks, bytes, fits, functionOfRequest(Math.max(0, request.typeId)), this)
      if (!fits) this.tooLarge(plain, bodyStart, bodyEnd)
    }
    if (request.state === FLOW.pass) this.passRequest(final, plain, bodyStart, bodyEnd)
    else if (request.state === FLOW.gather) this.gatherRequest(final, plain, bodyStart, bodyEnd)
    request.bytes = bytes
    if (final === CHUNK.final) request.end()
    return this.ending === ''
  }

  private abortedByClient(): void {
    const { request } = this
    if (request.state === FLOW.pass && request.slot !== -1) {
      const { plain, bodyStart, bodyEnd } = this.front.channel
      const id = this.slots.idOf(request.slot)
      this.sendChunks(this.link.channel, id, CHUNK.abort, plain, bodyStart, bodyEnd, false)
      this.forget(request.slot)
    }
    this.letGo()
    request.end()
  }

  private tooLarge(plain: Uint8Array, from: number, to: number): void {
    const { request } = this
    const { slot, state } = request
    if (state === FLOW.pass && slot !== -1 && request.bytes > 0) {
      const body = new Writer().u32(STATUS_CODE.BadRequestTooLarge).string(null).written()
      this.sendChunks(this.link.channel, this.slots.idOf(slot), CHUNK.abort, body, 0, body.length, false)
    }
    const handle = slot === -1 ? this.handle : this.slots.handles[slot]
    if (slot !== -1) this.forget(slot)
    this.letGo()
    request.gathered = NO_BYTES
    request.state = FLOW.drop
    const limit = `over ${this.terms.messageBytes} bytes or ${this.terms.chunks} chunks`
    this.deny(STATUS_CODE.BadRequestTooLarge, REASON.malformed, -1, limit, handle, plain, from, to)
  }

  /** Of the request that is being begun. */
  private handle = 0

  /** Decides what is done with a message, by its first chunk. @param whole whether that is all of it */
  private beginRequest(plain: Uint8Array, from: number, to: number, whole: boolean): void {
    const { request, cursor, token, terms } = this
    request.state = FLOW.drop
    const typeId = typeIdAt(plain, from, to)
    cursor.open(plain, from, to)
    cursor.typeId()
    cursor.nodeId(token)
    cursor.skip(8)
    this.handle = cursor.u32()
    if (cursor.fault !== 0 || typeId === SHORT_TYPE_ID) {
      this.deny(STATUS_CODE.BadDecodingError, REASON.malformed, -1, 'no request header', 0, plain, from, to)
      return
    }
    request.typeId = typeId
    if (this.stopping !== '') {
      this.answer(request.requestId, this.fault(this.handle, STATUS_CODE.BadServerHalted))
      return
    }
    if (terms.gate[0] !== 0 && !terms.monitor) {
      const why = 'evidence is required, and cannot be written'
      this.deny(STATUS_CODE.BadUserAccessDenied, REASON.evidence, -1, why, this.handle, plain, from, to)
      return
    }
    this.besideLater = false
    const over = this.limiter !== null && !this.limiter.acquire(this.clock.us, terms.monitor)
    if (over) {
      this.judgeBeside(typeId, plain, from, to, whole)
      this.settleBeside(REASON.rate)
      if (!terms.monitor) {
        this.deny(
          STATUS_CODE.BadServerTooBusy,
          REASON.rate,
          -1,
          'over a limit of requests',
          this.handle,
          plain,
          from,
          to,
        )
        return
      }
      this.wouldDeny(REASON.rate, -1, 'over a limit of requests', plain, from, to)
    }
    request.limited = this.limiter !== null
    const kind = this.decide(typeId, plain, from, to, whole, over)
    if (kind === -1) {
      this.letGo()
      return
    }
    this.useSession(plain)
    // A message of one chunk is looked at where it lies.
    if (kind !== KIND.pass && kind !== KIND.closeSession) {
      request.state = FLOW.gather
      return
    }
    const note =
      kind === KIND.closeSession ? Buffer.from(plain.subarray(token.start, token.stop)).toString('hex') : null
    request.slot = this.track(typeId, kind, note)
    if (request.slot !== -1) request.state = FLOW.pass
  }

  /** A request that counts towards the limits, and will not be sent. */
  private letGo(): void {
    if (!this.request.limited) return
    this.request.limited = false
    this.limiter?.release()
  }

  /**
   * The decision on a service.
   * @returns how it is carried; -1 where it was denied, which is then told and answered
   */
  private decide(
    typeId: number,
    plain: Uint8Array,
    from: number,
    to: number,
    whole: boolean,
    settled: boolean,
  ): number {
    const { table } = this.rules
    const verdict = table.service(typeId)
    const { rule, wouldRule, wouldReason } = table
    if (this.shadow !== null && !settled) {
      this.besideLater = this.besideWaits(typeId, verdict, whole)
      if (this.besideLater && verdict !== REASON.allow && verdict !== VERDICT.body) return KIND.exchange
      if (!this.besideLater) {
        this.judgeBeside(typeId, plain, from, to, whole)
        this.settleBeside(verdict === REASON.allow ? verdict : this.reasonOf(verdict, typeId))
      }
    }
    if (verdict === REASON.allow || verdict === VERDICT.body) {
      if (verdict === REASON.allow && wouldRule !== -1) {
        this.wouldDeny(wouldReason, wouldRule, table.explain(wouldReason, wouldRule, typeId), plain, from, to)
      } else if (verdict === REASON.allow) this.allowed(typeId, rule)
    } else {
      if (!this.denyService(typeId, verdict, plain, from, to)) return -1
    }
    switch (typeId) {
      case REQUEST.GetEndpoints:
        return KIND.endpoints
      case REQUEST.FindServers:
        return KIND.servers
      case REQUEST.CreateSession:
        return KIND.create
      case REQUEST.ActivateSession:
        return KIND.activate
      case REQUEST.CloseSession:
        return KIND.closeSession
      default:
        if (this.besideLater) return KIND.exchange
        return this.exchanges.needsRequest(verdict, typeId, this.contextOf(plain)) ? KIND.exchange : KIND.pass
    }
  }

  /** Why a service is denied, whose verdict the table has given. */
  private reasonOf(verdict: number, typeId: number): number {
    return this.rules.elsewhere(typeId) ? REASON.security : verdict
  }

  /** A service that the rules do not allow. @returns whether it passes all the same, since the conduit monitors */
  private denyService(typeId: number, verdict: number, buf: Uint8Array, at: number, end: number): boolean {
    const { table, discoveryOnly } = this.rules
    const { rule } = table
    const reason = this.reasonOf(verdict, typeId)
    const elsewhere = reason !== verdict
    const why = elsewhere
      ? 'allowed on channels of another security policy, mode or certificate'
      : table.explain(verdict, rule, typeId)
    if (this.terms.monitor) {
      this.wouldDeny(reason, rule, why, buf, at, end)
      return true
    }
    const status =
      discoveryOnly || elsewhere ? STATUS_CODE.BadSecurityModeInsufficient : STATUS_CODE.BadUserAccessDenied
    this.deny(status, reason, rule, why, this.handle, buf, at, end)
    return false
  }

  // --------------------------------------------------------------------------------------------------------- shadow

  /**
   * Whether the shadow policy judges the request that is being begun later, when all of it is there.
   * @param verdict of `RuleTable.service`, @param whole whether all of it is there already
   */
  private besideWaits(typeId: number, verdict: number, whole: boolean): boolean {
    // Whose session it is, is judged with the whole of it.
    if (verdict === VERDICT.body || (verdict === REASON.allow && typeId === REQUEST.ActivateSession)) return true
    return !whole && !REWRITTEN.has(typeId) && this.shadow?.needsBody(typeId) === true
  }

  private judgeBeside(typeId: number, buf: Uint8Array, at: number, end: number, whole: boolean): void {
    this.shadow?.judge(typeId, buf, at, end, whole, this.contextOf(buf))
  }

  /** Tells the shadow policy what becomes of the request that it has judged, or would where the conduit enforces. */
  private settleBeside(verdict: number): void {
    this.shadow?.settle(verdict, this.rules.table.denials, this)
  }

  shadowFields(): OpcUaFields {
    const { requestId } = this.request
    const { lastHeld: held } = this
    return {
      ...this.channelFields(),
      ...(this.channelAt === -1 ? {} : { request_id: requestId, session: held?.name, user: held?.user || undefined }),
    }
  }

  // ------------------------------------------------------------------------------------------------------- requests

  private passRequest(final: number, plain: Uint8Array, from: number, to: number): void {
    const id = this.slots.idOf(this.request.slot)
    this.sendChunks(this.link.channel, id, final, plain, from, to, false)
  }

  private gatherRequest(final: number, plain: Uint8Array, from: number, to: number): void {
    const { request } = this
    if (final === CHUNK.final && request.bytes === 0) {
      this.wholeRequest(plain, from, to)
      return
    }
    request.add(plain, from, to)
    if (final === CHUNK.final) this.wholeRequest(request.gathered, 0, request.bytes + to - from)
  }

  private wholeRequest(buf: Uint8Array, at: number, end: number): void {
    const { services } = this
    switch (this.request.typeId) {
      case REQUEST.GetEndpoints:
      case REQUEST.FindServers: {
        const made = services.discoveryRequest(buf, at, end)
        const kind = this.request.typeId === REQUEST.GetEndpoints ? KIND.endpoints : KIND.servers
        if (made === null) this.refuseRequest(MALFORMED, buf, at, end)
        else this.send(kind, made.authority, made.body, 0, made.body.length)
        return
      }
      case REQUEST.CreateSession: {
        const made = services.createRequest(buf, at, end)
        if ('status' in made) {
          this.refuseRequest(made, buf, at, end)
          return
        }
        if (made.would !== null) this.wouldDeny(made.would.reason, -1, made.would.detail, buf, at, end)
        if (!this.send(KIND.create, made.note, made.body, 0, made.body.length)) this.store.cancel(made.note.slot)
        return
      }
      case REQUEST.ActivateSession: {
        if (this.besideLater) this.judgeBeside(REQUEST.ActivateSession, buf, at, end, true)
        const made = services.activateRequest(buf, at, end)
        const against = 'status' in made ? made : made.would
        // What the protocol forbids is refused by any policy.
        if (this.besideLater && (against === null || against.byPolicy)) {
          this.settleBeside(against?.reason ?? REASON.allow)
        }
        if ('status' in made) {
          this.refuseRequest(made, buf, at, end)
          return
        }
        if (made.would !== null) this.wouldDeny(made.would.reason, -1, made.would.detail, buf, at, end)
        this.send(KIND.activate, made.note, made.body, 0, made.body.length)
        return
      }
      default:
        this.wholeByRules(buf, at, end)
    }
  }

  private refuseRequest({ status, reason, detail }: Refusal, buf: Uint8Array, at: number, end: number): void {
    this.letGo()
    this.deny(status, reason, this.rules.first, detail, this.handle, buf, at, end)
  }

  /** A message that rules reach into, or whose answer they need. */
  private wholeByRules(buf: Uint8Array, at: number, end: number): void {
    const { exchanges } = this
    const { table } = this.rules
    const context = this.contextOf(buf)
    let verdict = table.decide(buf, at, end, context)
    const { rule } = table
    const typeId = this.request.typeId
    const byBody = table.service(typeId) === VERDICT.body
    if (byBody) verdict = table.decide(buf, at, end, context)
    if (this.besideLater) {
      this.judgeBeside(typeId, buf, at, end, true)
      this.settleBeside(byBody || verdict === REASON.allow ? verdict : this.reasonOf(verdict, typeId))
    }
    if (!byBody && verdict !== REASON.allow && this.besideLater) {
      // It was gathered for the shadow policy alone.
      if (!this.denyService(typeId, verdict, buf, at, end)) {
        this.letGo()
        return
      }
      verdict = REASON.allow
    }
    if (verdict !== REASON.allow && this.terms.monitor) {
      const partly = verdict === VERDICT.partly
      const reason = partly ? table.denials.reason(0) : verdict
      const by = partly ? table.denials.rule(0) : rule
      if (byBody) this.wouldDeny(reason, by, table.explain(reason, by, typeId), buf, at, end, true)
      verdict = REASON.allow
    } else if (verdict !== REASON.allow && verdict !== VERDICT.partly) {
      this.letGo()
      this.deniedWhole(verdict, rule, buf, at, end)
      return
    } else if (byBody) {
      if (verdict === VERDICT.partly) this.deniedItems(buf, at, end)
      else if (table.wouldRule !== -1) {
        const { wouldReason, wouldRule } = table
        this.wouldDeny(wouldReason, wouldRule, table.explain(wouldReason, wouldRule, typeId), buf, at, end)
      } else this.allowed(typeId, rule)
    }
    const slot = this.track(typeId, KIND.exchange, null)
    if (slot === -1) return
    const id = this.slots.idOf(slot)
    const sent = exchanges.send(id, table, verdict, buf, at, end, context)
    if (sent === SEND.refuse) {
      this.forget(slot)
      this.deny(exchanges.status, exchanges.reason, rule, 'over a limit of the session', this.handle, buf, at, end)
      return
    }
    if (!exchanges.wants(id)) this.slots.kinds[slot] = KIND.pass
    if (sent === SEND.rewritten) {
      const { buf: out, length } = exchanges.out
      this.sendChunks(this.link.channel, id, CHUNK.final, out, 0, length, false)
    } else this.sendChunks(this.link.channel, id, CHUNK.final, buf, at, end, false)
  }

  /** Sends a whole request of the client's. @returns false where there was no room for it */
  private send(kind: number, note: unknown, body: Uint8Array, from: number, to: number): boolean {
    const slot = this.track(this.request.typeId, kind, note)
    if (slot === -1) return false
    this.sendChunks(this.link.channel, this.slots.idOf(slot), CHUNK.final, body, from, to, false)
    return true
  }

  /** A request of Headgate's own; only between two of the client's. */
  private sendOwn(typeId: number, body: Uint8Array, kind: number, note: unknown): void {
    const slot = this.slots.take(0, typeId, 1, this.clock.us, kind, note)
    if (slot === -1) return
    this.terms.counters.cells[this.terms.counters.pending]++
    this.sendChunks(this.link.channel, this.slots.idOf(slot), CHUNK.final, body, 0, body.length, false)
  }

  /** Notes a request that goes to the server. @returns its slot; -1 where there is none, which is then answered */
  private track(typeId: number, kind: number, note: unknown): number {
    const { request, slots } = this
    const slot = slots.take(request.requestId, Math.max(0, typeId), this.handle, this.clock.us, kind, note)
    if (slot === -1) {
      this.letGo()
      this.answer(request.requestId, this.fault(this.handle, STATUS_CODE.BadServerTooBusy))
      return -1
    }
    // What waits for news is no load: it counts by its rate alone.
    if (typeId === REQUEST.Publish) this.letGo()
    request.limited = false
    if (request.doubted !== -1) slots.doubt(slot, request.doubted)
    this.terms.counters.cells[this.terms.counters.pending]++
    return slot
  }

  /** The request is answered, or will not be. */
  private forget(slot: number): void {
    const { slots } = this
    if (slots.kinds[slot] === KIND.exchange) this.exchanges.drop(slots.idOf(slot))
    if (slots.kinds[slot] === KIND.create) this.store.cancel((slots.notes[slot] as Creating).slot)
    this.release(slot)
    this.terms.counters.cells[this.terms.counters.pending]--
    slots.give(slot)
  }

  private release(slot: number): void {
    if (this.slots.types[slot] !== REQUEST.Publish && this.slots.kinds[slot] < KIND.ownNamespaces)
      this.limiter?.release()
  }

  private acquire(slot: number): void {
    if (this.slots.types[slot] !== REQUEST.Publish && this.slots.kinds[slot] < KIND.ownNamespaces) {
      this.limiter?.acquire(this.clock.us, true)
    }
  }

  // ------------------------------------------------------------------------------------------------------ responses

  onResponse(final: number): boolean {
    const { channel } = this.link
    const { response, slots } = this
    const { plain, bodyStart, bodyEnd, requestId } = channel
    const first = response.state === FLOW.none
    if (!first && requestId !== response.requestId) {
      this.onFailure(STATUS_CODE.BadTcpInternalError, 'chunks of two responses mixed')
      return false
    }
    if (first) {
      response.begin(requestId)
      this.beginResponse(plain, bodyStart, bodyEnd, final)
    }
    if (this.witness !== null) this.witnessResponse(this.witness, final)
    if (final === CHUNK.abort) {
      this.abortedByServer(plain, bodyStart, bodyEnd)
      return this.ending === ''
    }
    response.chunks++
    const bytes = response.bytes + bodyEnd - bodyStart
    if (response.state !== FLOW.drop && (bytes > this.terms.messageBytes || response.chunks > this.terms.chunks)) {
      this.responseTooLarge()
    }
    const { slot } = response
    if (response.state === FLOW.pass) {
      this.sendChunks(this.front.channel, slots.clientIdOf(slot), final, plain, bodyStart, bodyEnd, true)
      if (final === CHUNK.final) this.answered(slot)
    } else if (response.state === FLOW.gather) {
      if (final === CHUNK.final && response.bytes === 0) this.wholeResponse(slot, plain, bodyStart, bodyEnd)
      else {
        response.add(plain, bodyStart, bodyEnd)
        if (final === CHUNK.final) this.wholeResponse(slot, response.gathered, 0, bytes)
      }
    }
    response.bytes = bytes
    if (final !== CHUNK.final) return this.ending === ''
    response.end()
    if (this.answers.length > 0) this.sendAnswers()
    if (this.stopping !== '') this.maybeStop()
    return this.ending === '' || this.slots.size > 0
  }

  /** Not what answers requests of Headgate's own. */
  private witnessResponse(witness: OpcUaWitness, final: number): void {
    const { slots } = this
    const { slot } = this.response
    if (slot === -1 || slots.kinds[slot] >= KIND.ownNamespaces) return
    const { plain, bodyStart, bodyEnd } = this.link.channel
    witness.sawChunk(false, slots.clientIdOf(slot), final, plain, bodyStart, bodyEnd, null)
  }

  private beginResponse(plain: Uint8Array, from: number, to: number, final: number): void {
    const { response, slots } = this
    response.state = FLOW.drop
    const slot = slots.find(response.requestId)
    if (slot === -1) {
      this.denyResponse(-1, REASON.state, 'a response to no request')
      return
    }
    if (final === CHUNK.abort) {
      response.slot = slot
      return
    }
    const doubted = slots.doubtAt(slot)
    if (doubted !== -1) this.host.answeredOpcUa(slots.clientIdOf(slot), isRefused(plain, from, to, doubted))
    const typeId = typeIdAt(plain, from, to)
    const request = slots.types[slot]
    const expected = serviceOf(request)?.response
    if (typeId !== SERVICE_FAULT && typeId !== expected && (expected !== undefined || !isResponse(typeId))) {
      this.denyResponse(
        request,
        REASON.state,
        `a response of type i=${typeId} to ${serviceOf(request)?.name ?? 'a request'}`,
      )
      if (!this.terms.monitor || slots.kinds[slot] !== KIND.pass) {
        this.giveUp(slot, STATUS_CODE.BadUnknownResponse)
        return
      }
    }
    response.slot = slot
    const kind = slots.kinds[slot]
    response.state = kind === KIND.pass || kind === KIND.closeSession ? FLOW.pass : FLOW.gather
  }

  private abortedByServer(plain: Uint8Array, from: number, to: number): void {
    const { response, slots } = this
    const { slot } = response
    if (slot !== -1) {
      if (slots.kinds[slot] < KIND.ownNamespaces) {
        this.sendChunks(this.front.channel, slots.clientIdOf(slot), CHUNK.abort, plain, from, to, true)
      }
      this.forget(slot)
    }
    response.end()
    if (this.answers.length > 0) this.sendAnswers()
  }

  private responseTooLarge(): void {
    const { response, slots } = this
    const { slot } = response
    this.denyResponse(slots.types[slot], REASON.malformed, 'larger than the policy allows')
    if (response.state === FLOW.pass && response.bytes > 0) {
      const body = new Writer().u32(STATUS_CODE.BadResponseTooLarge).string(null).written()
      this.sendChunks(this.front.channel, slots.clientIdOf(slot), CHUNK.abort, body, 0, body.length, true)
      this.forget(slot)
    } else this.giveUp(slot, STATUS_CODE.BadResponseTooLarge)
    response.slot = -1
    response.gathered = NO_BYTES
    response.state = FLOW.drop
  }

  /** The client gets a fault in place of its response. */
  private giveUp(slot: number, status: number): void {
    const { slots } = this
    const own = slots.kinds[slot] >= KIND.ownNamespaces
    const clientId = slots.clientIdOf(slot)
    const handle = slots.handles[slot]
    const namespaces = slots.kinds[slot] === KIND.ownNamespaces
    this.forget(slot)
    if (namespaces) this.sendActivated()
    if (!own) this.answer(clientId, this.fault(handle, status))
  }

  /** A response has gone through: what is counted of it, and what it means for a session. */
  private answered(slot: number): void {
    const { slots, terms } = this
    const { counters } = terms
    counters.cells[counters.responses + REASON.allow]++
    if (slots.types[slot] !== REQUEST.Publish) this.time(slots.times[slot])
    if (slots.kinds[slot] === KIND.closeSession) this.drop(slots.notes[slot] as string)
    this.forget(slot)
  }

  private time(since: number): void {
    const { bounds, counters } = this.terms
    const us = (this.clock.us - since) | 0
    let bucket = 0
    while (bucket < bounds.length && us > bounds[bucket]) bucket++
    counters.cells[counters.histogram + bucket]++
    counters.cells[counters.histogram + bounds.length + 1] += us
  }

  private wholeResponse(slot: number, buf: Uint8Array, at: number, end: number): void {
    const { services, slots } = this
    const note = slots.notes[slot]
    switch (slots.kinds[slot]) {
      case KIND.endpoints:
        this.reply(slot, services.endpointsResponse(buf, at, end, note as string), buf, at, end)
        return
      case KIND.servers:
        this.reply(slot, services.serversResponse(buf, at, end, note as string), buf, at, end)
        return
      case KIND.create:
        this.created(slot, note as Creating, buf, at, end)
        return
      case KIND.activate:
        this.activate(slot, note as Activating, buf, at, end)
        return
      case KIND.exchange:
        this.exchanged(slot, buf, at, end)
        return
      case KIND.ownNamespaces: {
        const uris = namespaceArrayOf(buf, at, end)
        if (uris !== null) this.target.namespaces.set(uris)
        this.forget(slot)
        this.sendActivated()
        return
      }
      default:
        // CloseSession of Headgate's own.
        this.forget(slot)
        if (this.slots.size === 0 || this.awaited === 0) this.finish(this.ending)
    }
  }

  /** A response as it was rewritten; where `body` is null, as it came: a fault. */
  private reply(slot: number, body: Uint8Array | null, buf: Uint8Array, at: number, end: number): void {
    const clientId = this.slots.clientIdOf(slot)
    if (body === null && !isRefusal(buf, at, end)) {
      this.denyResponse(this.slots.types[slot], REASON.malformed, 'malformed')
      this.giveUp(slot, STATUS_CODE.BadUnknownResponse)
      return
    }
    this.answered(slot)
    if (body === null) this.sendChunks(this.front.channel, clientId, CHUNK.final, buf, at, end, true)
    else this.sendChunks(this.front.channel, clientId, CHUNK.final, body, 0, body.length, true)
  }

  private refuseResponse(slot: number, { status, reason, detail }: Refusal): void {
    this.denyResponse(this.slots.types[slot], reason, detail)
    this.giveUp(slot, status)
  }

  private created(slot: number, note: Creating, buf: Uint8Array, at: number, end: number): void {
    const made = this.services.createResponse(buf, at, end, note)
    // The place in the store is either the session's now, or was given back.
    this.slots.kinds[slot] = KIND.activate
    if (made === null) this.reply(slot, null, buf, at, end)
    else if ('status' in made) this.refuseResponse(slot, made)
    else {
      this.hold(made.token, {
        slot: note.slot,
        key: made.key,
        token: made.token,
        name: made.name,
        user: '',
        touchedMs: 0,
        fresh: true,
      })
      this.reply(slot, made.body, buf, at, end)
    }
  }

  private activate(slot: number, note: Activating, buf: Uint8Array, at: number, end: number): void {
    const made = this.services.activateResponse(buf, at, end, note)
    if (made === null) {
      this.reply(slot, null, buf, at, end)
      return
    }
    if ('status' in made) {
      this.refuseResponse(slot, made)
      return
    }
    const { key, token, name, user } = note
    const hex = key.toString('hex')
    const fresh = this.held.get(Buffer.from(token).toString('hex'))?.fresh ?? !this.target.namespaces.known
    this.hold(token, { slot: note.slot, key, token, name, user, touchedMs: 0, fresh: false })
    const owner = `${this.peer} ${this.front.channel.peer?.thumbprintHex ?? ''} ${user}`
    let context = this.target.contexts.get(hex)
    if (context === undefined) context = new SessionContext(this.target.namespaces, this.target.owners, owner)
    else context.owner = owner
    this.target.remember(hex, context)
    this.lastToken = NO_BYTES
    if (!fresh || this.activated !== null || this.request.state === FLOW.pass) {
      this.reply(slot, made, buf, at, end)
      return
    }
    // Rules may name nodes by their namespaces' URIs, which may be others since the server was started: they are learned
    // with each new session, before its first request.
    const clientId = this.slots.clientIdOf(slot)
    this.answered(slot)
    this.activated = { clientId, body: Uint8Array.from(made) }
    const writer = new Writer(128)
    writeNamespaceRead(writer, token, 1, dateTime(Date.now()))
    this.sendOwn(REQUEST.Read, writer.written(), KIND.ownNamespaces, null)
  }

  private sendActivated(): void {
    const { activated } = this
    if (activated === null) return
    this.activated = null
    this.answer(activated.clientId, activated.body)
  }

  private exchanged(slot: number, buf: Uint8Array, at: number, end: number): void {
    const { exchanges, slots } = this
    const sent = exchanges.answer(slots.idOf(slot), buf, at, end)
    if (sent === SEND.refuse) {
      this.denyResponse(slots.types[slot], exchanges.reason, 'not what the request is owed')
      this.giveUp(slot, exchanges.status)
      return
    }
    const clientId = slots.clientIdOf(slot)
    this.answered(slot)
    if (sent === SEND.rewritten) {
      this.sendChunks(this.front.channel, clientId, CHUNK.final, exchanges.out.buf, 0, exchanges.out.length, true)
    } else this.sendChunks(this.front.channel, clientId, CHUNK.final, buf, at, end, true)
  }

  // ------------------------------------------------------------------------------------------------------- sessions

  private hold(token: Uint8Array, held: Held): void {
    const hex = Buffer.from(token).toString('hex')
    if (!this.held.has(hex)) this.terms.counters.cells[this.terms.counters.sessions]++
    this.held.set(hex, held)
    this.lastToken = NO_BYTES
  }

  /** The session of that token has ended. */
  private drop(hex: string): void {
    const held = this.held.get(hex)
    if (held === undefined) return
    this.held.delete(hex)
    this.lastToken = NO_BYTES
    this.lastHeld = null
    this.store.remove(held.slot, held.key)
    this.target.contexts.delete(held.key.toString('hex'))
    this.terms.counters.cells[this.terms.counters.sessions]--
  }

  /** Finds the session of the request that is being begun, whose token lies in `plain`. */
  private useSession(plain: Uint8Array): void {
    this.findSession(plain)
    const { lastHeld: held } = this
    if (held === null || ((this.clock.ms - held.touchedMs) | 0) < TOUCH_MS) return
    held.touchedMs = this.clock.ms
    this.store.touch(held.slot, held.key)
  }

  private findSession(plain: Uint8Array): void {
    const { token, lastToken } = this
    const length = token.stop - token.start
    if (length === lastToken.length) {
      let at = 0
      while (at < length && plain[token.start + at] === lastToken[at]) at++
      if (at === length) return
    }
    this.lastToken = copyOf(plain, token.start, token.stop)
    this.lastHeld = this.held.get(Buffer.from(this.lastToken).toString('hex')) ?? null
    const known = this.lastHeld === null ? undefined : this.target.contexts.get(this.lastHeld.key.toString('hex'))
    this.lastContext = known ?? new SessionContext(this.target.namespaces, this.target.owners)
  }

  /** What the rules remember of the session whose token the walker stands on. */
  private contextOf(plain: Uint8Array): SessionContext {
    if (plain === this.front.channel.plain) this.findSession(plain)
    return this.lastContext
  }

  // -------------------------------------------------------------------------------------------------------- sending

  /** Sends bytes of a message in as many chunks as the other end's buffer asks for; the last has the flag `final`. */
  private sendChunks(
    channel: Channel,
    requestId: number,
    final: number,
    body: Uint8Array,
    from: number,
    to: number,
    toClient: boolean,
  ): void {
    const room = channel.bodyRoom
    let at = from
    do {
      const next = Math.min(to, at + room)
      const flag = next === to ? final : CHUNK.intermediate
      const end = channel.seal(MESSAGE.MSG, flag, requestId, body, at, next)
      if (toClient) this.toClient(channel.chunk, 0, end)
      else this.host.toTarget(channel.chunk, 0, end)
      at = next
    } while (at < to)
  }

  private fault(handle: number, status: number): Uint8Array {
    return writeServiceFault(this.writer.reset(), handle, status, dateTime(Date.now())).written()
  }

  /** An answer of Headgate's own: at once, or when the response that is under way has gone through. */
  private answer(requestId: number, body: Uint8Array): void {
    if (this.response.state === FLOW.pass && this.response.bytes > 0) {
      this.answers.push({ requestId, body: Uint8Array.from(body) })
      return
    }
    this.sendChunks(this.front.channel, requestId, CHUNK.final, body, 0, body.length, true)
  }

  private sendAnswers(): void {
    const { answers } = this
    this.answers = []
    for (const { requestId, body } of answers) {
      this.sendChunks(this.front.channel, requestId, CHUNK.final, body, 0, body.length, true)
    }
  }

  // -------------------------------------------------------------------------------------------------------- records

  private count(typeId: number, verdict: number, rule: number): void {
    const { counters } = this.terms
    counters.cells[counters.requests + functionOfRequest(Math.max(0, typeId)) * VERDICTS + verdict]++
    if (rule < 0) return
    const cell = verdict === REASON.allow ? 0 : verdict < WOULD_DENY ? 1 : 2
    counters.cells[counters.rules + rule * 3 + cell]++
  }

  private allowed(typeId: number, rule: number): void {
    this.count(typeId, REASON.allow, rule)
  }

  /** @param items whether `denials` of the rules' table says which of the request's items are meant */
  private deny(
    status: number,
    reason: number,
    rule: number,
    detail: string,
    handle: number,
    buf: Uint8Array,
    at: number,
    end: number,
    items = false,
  ): void {
    const { typeId, requestId } = this.request
    this.count(typeId, reason, rule)
    this.tellRequest(reason, false, rule, detail, buf, at, end, items, status)
    this.answer(requestId, this.fault(handle, status))
  }

  private wouldDeny(
    reason: number,
    rule: number,
    detail: string,
    buf: Uint8Array,
    at: number,
    end: number,
    items = false,
  ): void {
    this.count(this.request.typeId, WOULD_DENY + reason, rule)
    this.tellRequest(reason, true, rule, detail, buf, at, end, items, 0)
  }

  /** Some items of a request are denied, and are taken out of it. */
  private deniedItems(buf: Uint8Array, at: number, end: number): void {
    const { table } = this.rules
    const reason = table.denials.reason(0)
    const rule = table.denials.rule(0)
    const { typeId } = this.request
    this.count(typeId, reason, rule)
    const why = table.explain(reason, rule, typeId)
    this.tellRequest(reason, false, rule, why, buf, at, end, true, STATUS_CODE.BadUserAccessDenied)
  }

  /** All of a request is denied: each of its items, where the service answers them one by one. */
  private deniedWhole(reason: number, rule: number, buf: Uint8Array, at: number, end: number): void {
    const { table } = this.rules
    const { walker, denials } = table
    const { typeId, requestId } = this.request
    const why = table.explain(reason, rule, typeId)
    const status = STATUS_CODE.BadUserAccessDenied
    const service = serviceOf(typeId)
    if (denials.count === 0 || denials.count !== walker.count || !answersByItem(typeId) || service === undefined) {
      this.deny(status, reason, rule, why, this.handle, buf, at, end)
      return
    }
    this.count(typeId, reason, rule)
    this.tellRequest(reason, false, rule, why, buf, at, end, true, status)
    const none = new Writer().numericNodeId(0, service.response)
    writeResponseHeader(none, this.handle, 0, dateTime(Date.now())).i32(0).i32(-1)
    const response = new Writer(256)
    spliceResponse(response, none.buf, 0, none.length, typeId, denials.indexes(), walker.count)
    this.answer(requestId, response.written())
  }

  private denyResponse(request: number, reason: number, detail: string): void {
    const { counters, monitor } = this.terms
    counters.cells[counters.responses + reason]++
    this.report('response', reason, monitor && request !== -1, functionOfRequest(Math.max(0, request)), detail)
  }

  private tellRequest(
    reason: number,
    would: boolean,
    rule: number,
    detail: string,
    buf: Uint8Array,
    at: number,
    end: number,
    items: boolean,
    status: number,
  ): void {
    const { typeId, requestId } = this.request
    const { denials } = this.rules.table
    const { aliases } = this.lastContext
    const fn = functionOfRequest(Math.max(0, typeId))
    const denied = items && denials.count > 0 ? denials : null
    this.request.doubted = would ? (denied?.index(0) ?? 0) : -1
    this.host.reportOpcUa({
      kind: 'request',
      reason,
      would,
      rule,
      fn,
      detail,
      request: requestId,
      items: (most) => describeItems(fn, buf, at, end, denied, reason, most, aliases),
      fields: () => ({
        ...this.channelFields(),
        ...(items ? describeDenied(buf, at, end, denials, aliases) : describeRequest(buf, at, end, -1, aliases)),
        request_id: requestId,
        session: this.lastHeld?.name,
        user: this.lastHeld?.user || undefined,
        status: status === 0 ? undefined : statusName(status),
        length: end - at,
      }),
    })
  }

  private tellChannel(kind: OpcUaReport['kind'], reason: number, would: boolean, detail: string): void {
    this.report(kind, reason, would, 0, detail)
  }

  /** Tells of what is no request. */
  private report(
    kind: OpcUaReport['kind'],
    reason: number,
    would: boolean,
    fn: number,
    detail: string,
    fields = (): OpcUaFields => this.channelFields(),
  ): void {
    this.host.reportOpcUa({ kind, reason, would, rule: -1, fn, detail, fields, request: 0, items: noItems })
  }

  private channelFields(): OpcUaFields {
    const { channel } = this.front
    const open = channel.isOpen
    return {
      security_policy: open ? channel.policy.name : undefined,
      security_mode: open ? this.front.modeName : undefined,
      visibility: 'inspected',
      certificate: channel.peer?.thumbprintHex,
      server_certificate: this.link.channel.peer?.thumbprintHex,
      endpoint_url: this.hello?.endpointUrl,
      channel_id: open ? channel.id : undefined,
    }
  }
}

const MAX_BUFFER = 65_536
const NO_RULES = new PairRules([], new Set()).forChannel({ policy: 'None', mode: 'None', certificate: '' })
const MALFORMED: Refusal = { status: STATUS_CODE.BadDecodingError, reason: REASON.malformed, detail: 'malformed' }
