/**
 * One Modbus/TCP connection pair, without its sockets: takes bytes by offset from the client or the target, and tells
 * its host what to forward, what to answer and when to close.
 *
 * Enforce: whole frames alone move on. Allowed frames of one read leave as one write of the buffer they came in;
 * a denied one is cut out, and its answer takes its place in the order of the connection's requests. A response
 * passes only if it answers an outstanding request.
 * Monitor: the bytes move on first, untouched, and are read afterwards.
 *
 * Sources: MODBUS Messaging on TCP/IP Implementation Guide V1.0b §3.1.3 (MBAP header), MODBUS Application Protocol
 * V1.1b3 §7 (exceptions).
 */
import { REASON, WOULD_DENY } from '../reason.ts'
import { type Clock, HEAD_ROOM, type RequestLimiter, type Session, type SessionHost } from '../session.ts'
import type { OnDeny, PairTable } from './decide.ts'
import { FAULT } from './faults.ts'
import { expectsResponse } from './request.ts'
import { awaitsRead, checkResponse, matchResponse, noteRead, noteRequest } from './response.ts'

/** MBAP header and the largest PDU (V1.0b §3.1.3). */
export const MAX_ADU = 260
/** Bytes of a frame before the unit identifier: transaction and protocol identifiers, length. */
const LENGTH_END = 6
/** A request of FC 1…4 (V1.1b3 §6.1 to §6.4): its bytes, and its length field. */
const READ_ADU = 12
const READ_LENGTH = 6
/** Bytes of its response before the byte count. */
const READ_HEAD = 8

/** Outstanding requests of one connection above which no more are read from its client. */
export const OUTSTANDING_HIGH = 256
/** In monitor mode nothing may wait: beyond this the oldest is given up. */
const OUTSTANDING_MONITOR = 4096
/** Requests that were given up and whose late answers must be told from new ones. */
const STALE_MAX = 16
/** MBAP header and PDU of an exception response (V1.1b3 §7). */
const ANSWER_ADU = 9
/** Answers for which there is room before the responses that they stand between, and a part of a frame. */
const ANSWERS_BESIDE = Math.floor((HEAD_ROOM - MAX_ADU) / ANSWER_ADU)
/** Denied requests of one read, with none allowed among them, whose answers are kept before they are written. */
const ANSWERS_KEPT = 16

/** An entry of the ring of outstanding requests, in 32-bit words. */
const ENTRY = {
  /** Transaction identifier << 16 | unit identifier << 8 | function code. */
  key: 0,
  status: 1,
  /** Microseconds on the worker's clock, modulo 2^32. */
  time: 2,
  /** Three words by `noteRequest`. */
  expected: 3,
  /** Index of the rule that allowed it. */
  rule: 6,
  /** Forwarded: first register << 16 | quantity, where a rule wants values known. Answer: exception code. Held: slot << 16 | bytes. */
  extra: 7,
  words: 8,
} as const

const STATUS = { forwarded: 1, held: 2, answer: 3, silent: 4, close: 5 } as const

/** Bits of `SessionTerms.tolerate`. */
export const TOLERATE = {
  'unit-mismatch': 1,
  'zero-transaction-id': 2,
  'transaction-id-mismatch': 4,
  'vendor-exceptions': 8,
  'trailing-bytes': 16,
} as const

/** Exception codes that Headgate sends (V1.1b3 §7; DESIGN: which reason gets which). */
const EXCEPTION = { function: 1, address: 2, value: 3, busy: 6, unreachable: 0x0a, noAnswer: 0x0b } as const

export function exceptionOf(reason: number): number {
  switch (reason) {
    case REASON.address:
      return EXCEPTION.address
    case REASON.value:
    case REASON.malformed:
      return EXCEPTION.value
    case REASON.rate:
    case REASON.evidence:
      return EXCEPTION.busy
    default:
      return EXCEPTION.function
  }
}

/** Where a conduit's counters stand in `cells`; see records/counters.ts for the layout. */
export interface SessionCells {
  cells: Float64Array
  requests: number
  responses: number
  bytesIn: number
  bytesOut: number
  pending: number
  rules: number
  tolerated: number
  histogram: number
}

/** What the policy says to all sessions of one conduit and protocol; made anew on each reload. */
export interface SessionTerms {
  monitor: boolean
  onDeny: OnDeny
  /** By rule index; null: the protocol's. */
  ruleOnDeny: readonly (OnDeny | null)[]
  /** By rule index: 1 where the rule's own mode is monitor. */
  ruleMonitor: Uint8Array
  /** By rule index: bits of `TOLERATE`. */
  tolerate: Uint8Array
  responseMs: number
  idleMs: number
  partialFrameMs: number
  pace: boolean
  paceQueue: number
  paceMs: number
  counters: SessionCells
  /** One cell: not 0 while an enforcing conduit denies everything (`evidence.required`). Other threads write it. */
  gate: Int32Array
  /** Upper bounds of the response time histogram, in microseconds. */
  bounds: Int32Array
  /** Monitor mode: the host is shown every frame. */
  witnessed: boolean
}

/** Another policy that judges the same requests beside the one in force. Allocates nothing where the two agree. */
export interface Shadow {
  /** `buf[adu…end)` is a request whose header is sound; comes before anything is learned of it. */
  judge(buf: Uint8Array, adu: number, end: number): void
  /** What became of it by the policy in force: `REASON.allow` where it passes, else why it is or would be denied. */
  settle(buf: Uint8Array, adu: number, end: number, reason: number): void
}

export type ReportKind = 'request' | 'response' | 'tolerated' | 'timeout'

/** What a Modbus session asks of its host beside what all sessions do. */
export interface ModbusHost extends SessionHost {
  /** Answers wait for the responses that follow them: `onTimer` is to be called within some 40 ms, whatever comes. */
  soon(): void
  /** Off the allowed path: one verdict, for the records. `buf` is null where no frame is at hand. */
  report(
    kind: ReportKind,
    reason: number,
    would: boolean,
    rule: number,
    buf: Uint8Array | null,
    adu: number,
    end: number,
    detail: string,
    exception: number,
  ): void
  /**
   * Where `SessionTerms.witnessed`: a frame has gone by, `buf[adu…end)`; or, where `end` is `adu`, bytes that are none.
   * Takes what it needs of it, and allocates nothing.
   */
  witness(fromClient: boolean, buf: Uint8Array, adu: number, end: number): void
}

// Answers of Headgate's own that no response comes with are gathered here, and so are more than fit before responses.
const GATHER = new Uint8Array(1 << 18)
const NO_RING = new Int32Array(0)

/** The bytes that were looked at last, to be read in words: nearly always the memory that all reads land in. */
let viewed: Uint8Array | null = null
let view: DataView = new DataView(new ArrayBuffer(0))

function viewOf(buf: Uint8Array): DataView {
  if (buf !== viewed) {
    viewed = buf
    view = new DataView(buf.buffer, buf.byteOffset, buf.byteLength)
  }
  return view
}
const NO_BYTES = new Uint8Array(0)
/** Cells a function code has: one a reason for denials, one a reason for would-denials. */
const VERDICTS = WOULD_DENY * 2
const PASSES = 0
const TAKEN = 1
const OVER = 2

/** What a session goes by. */
interface Terms {
  terms: SessionTerms
  table: PairTable
  limiter: RequestLimiter | null
  shadow: Shadow | null
}

export class ModbusSession implements Session {
  private readonly host: ModbusHost
  private readonly clock: Clock
  private terms: SessionTerms
  private table: PairTable
  private limiter: RequestLimiter | null
  private shadow: Shadow | null
  private nextTerms: Terms | null = null

  private ring: Int32Array = NO_RING
  private mask = -1
  private head = 0
  private tail = 0
  private forwarded = 0
  private held = 0
  private heldBytes: Uint8Array = NO_BYTES
  private heldSlot = 0
  /** Keys of requests that were given up and whose answers may still come. */
  private stale: Int32Array = NO_RING
  private staleCount = 0

  private clientPart: Uint8Array = NO_BYTES
  private clientPartLength = 0
  private clientPartSince = 0
  private targetPart: Uint8Array = NO_BYTES
  private targetPartLength = 0
  private targetPartSince = 0

  private lastActivity: number
  /** Why `passRun` has stopped at a request: the verdict on it; -1: there is none yet. */
  private decided = -1
  /** No limits, nothing held, nothing to remember, no shadow: an allowed request has only to be noted and sent. */
  private plain = false
  private targetDown = false
  private closing = false
  /** Answers are due, and wait for the responses that follow them. */
  private deferring = false
  /** A denial asks for a reset, once what was allowed before it has been sent. */
  private resetting = false
  private clientEnded = false
  /** Entries of the ring that are answers of Headgate's own. */
  private answers = 0
  /** Where what goes to the client is gathered, and where it begins there. */
  private into: Uint8Array = GATHER
  private begin = 0
  /** Where the responses of the read at hand begin that are neither gathered nor sent. */
  private run = 0
  /** The end of what is gathered; -1: not gathering. */
  private gathered = -1
  /** Why the connection ends, once that is known. */
  private endReason = ''
  /** The same, once all answers are gathered and only have to leave. */
  private finishing = ''

  /** @param shadow null: none judges beside; then it costs nothing */
  constructor(
    host: ModbusHost,
    clock: Clock,
    terms: SessionTerms,
    table: PairTable,
    limiter: RequestLimiter | null,
    shadow: Shadow | null = null,
  ) {
    this.host = host
    this.clock = clock
    this.terms = terms
    this.table = table
    this.limiter = limiter
    this.shadow = shadow
    this.lastActivity = clock.ms
    this.settle()
  }

  /** Requests that the target owes an answer. */
  get pending(): number {
    return this.forwarded
  }

  get clientRoom(): number {
    return this.clientPartLength
  }

  get targetRoom(): number {
    const { answers } = this
    return this.targetPartLength + (answers <= ANSWERS_BESIDE ? answers * ANSWER_ADU : 0)
  }

  /** True while no more should be read from the client. */
  get congested(): boolean {
    return this.tail - this.head >= OUTSTANDING_HIGH && !this.terms.monitor
  }

  /** True when nothing is owed to the client any more. */
  get drained(): boolean {
    return this.head === this.tail
  }

  /** True where requests wait to be paced: `onPace` wants to be called every few milliseconds. */
  get waiting(): boolean {
    return this.held > 0
  }

  /** The specification fault behind the latest report. */
  get fault(): number {
    return this.table.fault
  }

  /** What would have been allowed in place of what was denied. */
  explain(reason: number, code: number): string {
    return this.table.explain(reason, code)
  }

  get monitoring(): boolean {
    return this.terms.monitor
  }

  /**
   * Takes new terms between two frames: at once, or, where the mode changes, as soon as no frame is partly through (a
   * part that monitor mode has forwarded cannot be taken back).
   */
  adopt(terms: SessionTerms, table: PairTable, limiter: RequestLimiter | null, shadow: Shadow | null = null): void {
    this.nextTerms = { terms, table, limiter, shadow }
    this.adoptNext()
  }

  private adoptNext(): void {
    const next = this.nextTerms
    if (next === null) return
    if (next.terms.monitor !== this.terms.monitor && !this.betweenFrames()) return
    this.nextTerms = null
    const outstanding = this.forwarded
    this.settleOutstanding(-outstanding)
    this.terms = next.terms
    this.table = next.table
    this.limiter = next.limiter
    this.shadow = next.shadow
    for (let i = 0; i < outstanding; i++) this.limiter?.acquire(this.clock.us, true)
    this.forwarded = outstanding
    this.terms.counters.cells[this.terms.counters.pending] += outstanding
    // What is under way was allowed by the former rules; their indexes mean nothing to the new ones.
    for (let n = this.head; n !== this.tail; n++) this.ring[this.at(n) + ENTRY.rule] = -1
    if (this.held > 0) this.judgeHeld()
    this.settle()
  }

  /** What is held back has not been sent yet: the new rules have it. */
  private judgeHeld(): void {
    const { table, terms } = this
    for (let n = this.head; n !== this.tail; n++) {
      const at = this.at(n)
      if (this.ring[at + ENTRY.status] !== STATUS.held) continue
      const extra = this.ring[at + ENTRY.extra]
      const o = (extra >>> 16) * MAX_ADU
      const next = o + (extra & 0xffff)
      const reason = table.decide(this.heldBytes, o + 6, next)
      this.ring[at + ENTRY.rule] = table.rule
      if (reason === REASON.allow || (table.rule >= 0 && terms.ruleMonitor[table.rule] === 1)) continue
      this.held--
      const exception = this.countDenial(this.heldBytes, o, next, reason, '')
      if (exception > 0) this.becomeAnswer(at, exception)
      else this.ring[at + ENTRY.status] = STATUS.silent
    }
    this.packHeld()
    if (this.resetting) this.host.reset('request denied')
  }

  /** Slots are taken and given back in turn; where one was given back out of turn, the rest moves up. */
  private packHeld(): void {
    const packed = new Uint8Array(this.heldBytes.length)
    let slot = 0
    for (let n = this.head; n !== this.tail; n++) {
      const at = this.at(n)
      if (this.ring[at + ENTRY.status] !== STATUS.held) continue
      const extra = this.ring[at + ENTRY.extra]
      const from = (extra >>> 16) * MAX_ADU
      const length = extra & 0xffff
      packed.set(this.heldBytes.subarray(from, from + length), slot * MAX_ADU)
      this.ring[at + ENTRY.extra] = (slot++ << 16) | length
    }
    this.heldBytes = packed
    this.heldSlot = slot % Math.floor(packed.length / MAX_ADU)
  }

  /** No frame is partly through, and no answer of Headgate's own waits for its place. */
  private betweenFrames(): boolean {
    if (this.clientPartLength > 0 || this.targetPartLength > 0) return false
    for (let n = this.head; n !== this.tail; n++) {
      const status = this.ring[this.at(n) + ENTRY.status]
      if (status !== STATUS.forwarded && status !== STATUS.silent) return false
    }
    return true
  }

  /** The connection is gone: gives back what it held of shared limits and gauges. */
  dispose(): void {
    this.settleOutstanding(-this.forwarded)
    this.head = this.tail
    this.held = 0
    this.closing = true
  }

  private settle(): void {
    this.plain =
      this.limiter === null &&
      this.held === 0 &&
      this.staleCount === 0 &&
      !this.targetDown &&
      !this.table.learns &&
      this.shadow === null
  }

  private at(n: number): number {
    return (n & this.mask) * ENTRY.words
  }

  // ---------------------------------------------------------------------------------------------- client → target

  /**
   * Bytes from the client. `buf` must have `clientRoom` writable bytes before `start`; its content from there to
   * `end` is the session's to change.
   */
  onClientBytes(buf: Uint8Array, start: number, end: number): void {
    const { counters } = this.terms
    this.lastActivity = this.clock.ms
    counters.cells[counters.bytesIn] += end - start
    if (this.terms.monitor) {
      this.host.toTarget(buf, start, end)
      this.watchClient(buf, this.prependClientPart(buf, start), end)
    } else if (!this.closing) this.enforceClient(buf, this.prependClientPart(buf, start), end)
    if (this.nextTerms !== null) this.adoptNext()
  }

  private prependClientPart(buf: Uint8Array, start: number): number {
    const length = this.clientPartLength
    if (length === 0) this.clientPartSince = this.clock.ms
    const from = start - length
    for (let i = 0; i < length; i++) buf[from + i] = this.clientPart[i]
    this.clientPartLength = 0
    return from
  }

  private enforceClient(buf: Uint8Array, start: number, end: number): void {
    const { cells, requests, rules } = this.terms.counters
    const table = this.table
    let o = start
    // buf[from…to) are the allowed frames of this read: cut-out frames are closed up, so that one write takes them.
    let from = start
    let to = start
    while (end - o >= LENGTH_END) {
      let decided = -1
      if (this.plain && this.terms.gate[0] === 0) {
        const passed = this.passRun(buf, o, end)
        decided = this.decided
        if (to === from) from = to = o
        else move(buf, to, o, passed)
        to += passed - o
        o = passed
        if (end - o < LENGTH_END) break
      }
      const length = (buf[o + 4] << 8) | buf[o + 5]
      if (length < 2 || length > 254) {
        if (to > from) this.host.toTarget(buf, from, to)
        from = to
        this.undelimited(buf, o, end)
        o = end
        break
      }
      const next = o + LENGTH_END + length
      if (next > end) break
      const identified = (buf[o + 2] | buf[o + 3]) === 0
      const shut = decided === -1 && this.terms.gate[0] !== 0
      let reason = decided
      if (shut) reason = REASON.evidence
      else if (!identified) reason = REASON.malformed
      else if (decided === -1) reason = table.decide(buf, o + 6, next)
      // What is denied for its header, or for want of evidence, is so by any policy.
      const shadow = identified && !shut ? this.shadow : null
      if (shadow !== null) shadow.judge(buf, o, next)
      let cell = reason
      if (reason !== REASON.allow || table.wouldRule !== -1) {
        cell = this.judge(buf, o, next, reason, identified && !shut)
        if (cell < 0) {
          if (shadow !== null) shadow.settle(buf, o, next, reason)
          o = next
          if (this.closing) break
          continue
        }
      }
      if (!this.plain) {
        if (this.staleCount > 0 && this.remembers(buf, o)) {
          // What was not sent yet is answered with the rest of what was outstanding.
          from = to
          this.recycle('a transaction identifier came again while its late answer may still arrive')
        }
        const admitted = this.admit(buf, o, next, cell)
        if (shadow !== null) shadow.settle(buf, o, next, admitted === OVER ? REASON.rate : REASON.allow)
        if (admitted !== PASSES) {
          o = next
          if (this.closing) break
          continue
        }
      }
      const code = buf[o + 7]
      cells[requests + code * VERDICTS + cell]++
      if (table.rule >= 0) cells[rules + table.rule * 3 + (cell === REASON.allow ? 0 : 2)]++
      if (code !== 8 || expectsResponse(buf, o + 7, next)) this.push(buf, o, next, STATUS.forwarded)
      if (to === from) from = to = o
      else move(buf, to, o, next)
      to += next - o
      o = next
    }
    if (to > from) this.host.toTarget(buf, from, to)
    if (this.answersDue()) this.answerOrDefer()
    if (this.gathered >= 0) this.flush()
    if (this.resetting) this.host.reset('request denied')
    else if (o < end && !this.closing) this.keepClientPart(buf, o, end, o !== start)
  }

  /**
   * Takes the requests at `o` that are allowed, up to the first of which more is to be said: nearly all traffic ends
   * here, so this loop is kept small, and counts once for each run of requests alike (bench: decoder, session).
   * @returns the offset behind the last of them
   */
  private passRun(buf: Uint8Array, o: number, end: number): number {
    const { table, ring, mask } = this
    const { us } = this.clock
    const first = this.tail
    const full = this.head + mask + 1
    let tail = first
    let alike = 0
    let code = 0
    let rule = -1
    // Of reads of the unit and function that were asked last.
    let aimed = -1
    let aimedRule = -1
    let limit = 0
    let low = 0
    let high = 0
    this.decided = -1
    const view = viewOf(buf)
    while (end - o >= LENGTH_END && tail !== full) {
      const at = (tail & mask) * ENTRY.words
      let next = o + READ_ADU
      let key = 0
      let by = -1
      let passes = false
      // A read, by its protocol identifier and length: three loads, where byte by byte there are fourteen.
      if (next <= end) {
        const identifiers = view.getInt32(o)
        const header = view.getInt32(o + 4)
        if ((identifiers & 0xffff) === 0 && header >>> 16 === READ_LENGTH) {
          const target = header & 0xffff
          if (target !== aimed) {
            table.aim(target)
            aimed = target
            aimedRule = table.rule
            limit = table.limit
            low = table.low
            high = table.high
          }
          const window = view.getInt32(o + 8)
          const first = window >>> 16
          const quantity = window & 0xffff
          const one = quantity <= limit && quantity !== 0 && first >= low && first + quantity - 1 <= high
          if (one || table.allowsRead(first, quantity)) {
            passes = true
            key = (identifiers & ~0xffff) | target
            by = aimedRule
            noteRead(target & 0xff, quantity, ring, at + ENTRY.expected)
          }
        }
      }
      if (!passes) {
        const length = (buf[o + 4] << 8) | buf[o + 5]
        next = o + LENGTH_END + length
        if ((buf[o + 2] | buf[o + 3]) !== 0 || length < 2 || length > 254 || next > end) break
        const reason = table.decide(buf, o + LENGTH_END, next)
        if (reason !== REASON.allow || table.wouldRule !== -1) {
          this.decided = reason
          break
        }
        by = table.rule
        key = (view.getUint16(o) << 16) | view.getUint16(o + 6)
        if ((key & 0xff) !== 8) noteRequest(buf, o + 7, next, ring, at + ENTRY.expected)
      }
      if ((key & 0xff) !== code || by !== rule) {
        // Diagnostics may want no response.
        if ((key & 0xff) === 8) {
          this.decided = REASON.allow
          break
        }
        if (alike > 0) this.countPassed(code, rule, alike)
        alike = 0
        code = key & 0xff
        rule = by
      }
      alike++
      tail++
      ring[at] = key
      ring[at + ENTRY.status] = STATUS.forwarded
      ring[at + ENTRY.time] = us
      ring[at + ENTRY.rule] = rule
      o = next
    }
    if (alike > 0) {
      this.countPassed(code, rule, alike)
      this.tail = tail
      this.forwarded += tail - first
      this.terms.counters.cells[this.terms.counters.pending] += tail - first
    }
    return o
  }

  private countPassed(code: number, rule: number, times: number): void {
    const { cells, requests, rules } = this.terms.counters
    cells[requests + code * VERDICTS + REASON.allow] += times
    if (rule >= 0) cells[rules + rule * 3] += times
  }

  /**
   * A request that the rules do not allow. Answers it, and returns -1; or, where its nearest rule only monitors,
   * returns the cell that counts it.
   * @param decided whether the rules were asked
   */
  private judge(buf: Uint8Array, o: number, next: number, reason: number, decided: boolean): number {
    const { table, terms } = this
    if (!decided) {
      table.rule = -1
      table.fault = 0
      table.wouldRule = -1
    }
    if (table.wouldRule !== -1) {
      this.host.report('request', table.wouldReason, true, table.wouldRule, buf, o, next, '', 0)
      if (reason === REASON.allow) return WOULD_DENY + table.wouldReason
    }
    if (table.rule >= 0 && terms.ruleMonitor[table.rule] === 1) {
      this.host.report('request', reason, true, table.rule, buf, o, next, '', 0)
      return WOULD_DENY + reason
    }
    const detail = reason === REASON.evidence ? 'evidence cannot be written' : 'protocol identifier is not 0'
    this.deny(buf, o, next, reason, decided ? '' : detail)
    return -1
  }

  private deny(buf: Uint8Array, o: number, next: number, reason: number, detail: string): void {
    const exception = this.countDenial(buf, o, next, reason, detail)
    if (exception > 0) this.answer(buf, o, exception)
  }

  /** Counts and reports a denial. @returns the exception that the client is owed; 0: none */
  private countDenial(buf: Uint8Array, o: number, next: number, reason: number, detail: string): number {
    const { counters, ruleOnDeny, onDeny } = this.terms
    const rule = this.table.rule
    const action = rule >= 0 ? (ruleOnDeny[rule] ?? onDeny) : onDeny
    const exception = action === 'exception' ? exceptionOf(reason) : 0
    counters.cells[counters.requests + buf[o + 7] * VERDICTS + reason]++
    if (rule >= 0) counters.cells[counters.rules + rule * 3 + 1]++
    this.host.report('request', reason, false, rule, buf, o, next, detail, exception)
    if (action === 'reset') {
      this.closing = true
      this.resetting = true
    }
    return exception
  }

  /** The frame's end cannot be known, so nothing after it can: the connection ends once what came before is answered. */
  private undelimited(buf: Uint8Array, o: number, end: number): void {
    const { counters } = this.terms
    this.table.rule = -1
    this.table.fault = 0
    counters.cells[counters.requests + REASON.malformed]++
    const length = (buf[o + 4] << 8) | buf[o + 5]
    this.host.report('request', REASON.malformed, false, -1, buf, o, end, `MBAP length ${length}, expected 2…254`, 0)
    if (this.terms.onDeny === 'reset') {
      this.closing = true
      this.resetting = true
    } else this.endAfterAnswers()
  }

  private endAfterAnswers(): void {
    this.closing = true
    this.pushEntry(0, STATUS.close, 0)
    this.drain()
  }

  /**
   * An allowed request that is not plain: paced, limited, or its target is down.
   * @returns `PASSES`, `TAKEN` when it was held or answered here, or `OVER` when it was denied for a limit
   */
  private admit(buf: Uint8Array, o: number, next: number, cell: number): number {
    if (this.targetDown) {
      if (!this.host.redial()) {
        this.countRequest(buf[o + 7], REASON.timeout)
        this.answer(buf, o, EXCEPTION.unreachable)
        return TAKEN
      }
      this.targetDown = false
      this.settle()
    }
    if (this.held > 0) return this.hold(buf, o, next)
    if (this.limiter !== null) {
      const monitored = this.table.rule >= 0 && this.terms.ruleMonitor[this.table.rule] === 1
      if (!this.limiter.acquire(this.clock.us, monitored)) {
        if (!monitored) return this.terms.pace ? this.hold(buf, o, next) : this.overRate(buf, o, next)
        if (cell === REASON.allow) this.host.report('request', REASON.rate, true, this.table.rule, buf, o, next, '', 0)
      }
    }
    if (this.table.learns) this.table.learnRequest(buf, o + 6, next)
    return PASSES
  }

  private overRate(buf: Uint8Array, o: number, next: number): number {
    this.deny(buf, o, next, REASON.rate, '')
    return OVER
  }

  /** Keeps an allowed request back until a limit lets it pass. Bounded in number (here) and in time (`onPace`). */
  private hold(buf: Uint8Array, o: number, next: number): number {
    const { paceQueue } = this.terms
    if (this.held === 0 && this.heldBytes.length < paceQueue * MAX_ADU) {
      this.heldBytes = new Uint8Array(paceQueue * MAX_ADU)
    }
    if (this.held >= paceQueue || this.held * MAX_ADU >= this.heldBytes.length) return this.overRate(buf, o, next)
    const slots = Math.floor(this.heldBytes.length / MAX_ADU)
    const slot = this.heldSlot
    this.heldSlot = (slot + 1) % slots
    this.heldBytes.set(buf.subarray(o, next), slot * MAX_ADU)
    this.push(buf, o, next, STATUS.held)
    this.ring[this.at(this.tail - 1) + ENTRY.extra] = (slot << 16) | (next - o)
    this.held++
    this.settle()
    return TAKEN
  }

  /** Sends what was held back as far as the limits now allow, and gives up what has waited too long. */
  onPace(): void {
    this.releaseHeld()
    this.drain()
    if (this.gathered >= 0) this.flush()
  }

  private releaseHeld(): void {
    const { counters, paceMs } = this.terms
    for (let n = this.head; n !== this.tail && this.held > 0; n++) {
      const at = this.at(n)
      if (this.ring[at + ENTRY.status] !== STATUS.held) continue
      const extra = this.ring[at + ENTRY.extra]
      const o = (extra >>> 16) * MAX_ADU
      const next = o + (extra & 0xffff)
      this.table.rule = this.ring[at + ENTRY.rule]
      if (this.targetDown) {
        if (!this.host.redial()) {
          this.countRequest(this.heldBytes[o + 7], REASON.timeout)
          this.becomeAnswer(at, EXCEPTION.unreachable)
          this.held--
          continue
        }
        this.targetDown = false
      }
      if (this.limiter === null || this.limiter.acquire(this.clock.us, false)) {
        this.held--
        this.countRequest(this.heldBytes[o + 7], REASON.allow)
        if (this.table.rule >= 0) counters.cells[counters.rules + this.table.rule * 3]++
        this.ring[at + ENTRY.time] = this.clock.us
        if (this.table.learns) {
          this.table.learnRequest(this.heldBytes, o + 6, next)
          this.ring[at + ENTRY.extra] = registersOf(this.heldBytes, o)
        }
        if (this.heldBytes[o + 7] === 8 && !expectsResponse(this.heldBytes, o + 7, next)) {
          this.ring[at + ENTRY.status] = STATUS.silent
          this.limiter?.release()
        } else {
          this.ring[at + ENTRY.status] = STATUS.forwarded
          this.forwarded++
          counters.cells[counters.pending]++
        }
        this.host.toTarget(this.heldBytes, o, next)
      } else if (((this.clock.us - this.ring[at + ENTRY.time]) | 0) > paceMs * 1000) {
        this.held--
        this.countRequest(this.heldBytes[o + 7], REASON.rate)
        this.host.report('request', REASON.rate, false, this.table.rule, this.heldBytes, o, next, 'held too long', 6)
        this.becomeAnswer(at, EXCEPTION.busy)
      } else break
    }
    this.settle()
  }

  private countRequest(code: number, cell: number): void {
    const { counters } = this.terms
    counters.cells[counters.requests + code * VERDICTS + cell]++
  }

  /** A frame that trickles in keeps the time of its first byte; `fresh` tells that this is a new one. */
  private keepClientPart(buf: Uint8Array, o: number, end: number, fresh: boolean): void {
    if (this.clientPart.length === 0) this.clientPart = new Uint8Array(MAX_ADU)
    for (let i = o; i < end; i++) this.clientPart[i - o] = buf[i]
    if (fresh) this.clientPartSince = this.clock.ms
    this.clientPartLength = end - o
  }

  // ------------------------------------------------------------------------------------------ outstanding requests

  private push(buf: Uint8Array, o: number, next: number, status: number): void {
    if (this.tail - this.head >= this.ring.length / ENTRY.words) this.grow()
    const at = this.at(this.tail++)
    const ring = this.ring
    ring[at] = (buf[o] << 24) | (buf[o + 1] << 16) | (buf[o + 6] << 8) | buf[o + 7]
    ring[at + ENTRY.status] = status
    ring[at + ENTRY.time] = this.clock.us
    ring[at + ENTRY.rule] = this.table.rule
    noteRequest(buf, o + 7, next, ring, at + ENTRY.expected)
    if (status !== STATUS.forwarded) return
    if (this.table.learns) ring[at + ENTRY.extra] = registersOf(buf, o)
    this.forwarded++
    this.terms.counters.cells[this.terms.counters.pending]++
  }

  private pushEntry(key: number, status: number, extra: number): void {
    if (this.tail - this.head >= this.ring.length / ENTRY.words) this.grow()
    const at = this.at(this.tail++)
    this.ring[at] = key
    this.ring[at + ENTRY.status] = status
    this.ring[at + ENTRY.extra] = extra
    this.ring[at + ENTRY.rule] = -1
  }

  private grow(): void {
    const entries = this.ring.length / ENTRY.words
    const ring = new Int32Array(Math.max(16, entries * 2) * ENTRY.words)
    const mask = ring.length / ENTRY.words - 1
    for (let n = this.head; n !== this.tail; n++) {
      const from = this.at(n)
      ring.set(this.ring.subarray(from, from + ENTRY.words), (n & mask) * ENTRY.words)
    }
    this.ring = ring
    this.mask = mask
  }

  /** Answers a denied request in its place: after the answers to the requests before it, or when its read is through. */
  private answer(buf: Uint8Array, o: number, exception: number): void {
    const key = (buf[o] << 24) | (buf[o + 1] << 16) | (buf[o + 6] << 8) | buf[o + 7]
    this.pushEntry(key, STATUS.answer, exception)
    this.answers++
    if (this.tail - this.head >= ANSWERS_KEPT && this.forwarded === 0) this.drain()
  }

  /**
   * Answers come next. With responses to follow they wait for these, though not for long: a client that pipelines gets
   * all as one write, and goes on with as many requests (bench: proxy, 10 % denied).
   */
  private answerOrDefer(): void {
    if (this.forwarded === 0 || this.closing) this.drain()
    else if (!this.deferring) {
      this.deferring = true
      this.host.soon()
    }
  }

  private becomeAnswer(at: number, exception: number): void {
    this.ring[at + ENTRY.status] = STATUS.answer
    this.ring[at + ENTRY.extra] = exception
    this.answers++
  }

  /** Writes an exception response (V1.1b3 §7) behind what is gathered. */
  private emit(key: number, exception: number): void {
    this.answers--
    if (this.gathered < 0) this.gatherInto(GATHER, 0)
    else if (this.gathered + ANSWER_ADU > this.into.length) this.send()
    const { into, gathered: at } = this
    into[at] = key >>> 24
    into[at + 1] = key >>> 16
    into[at + 2] = 0
    into[at + 3] = 0
    into[at + 4] = 0
    into[at + 5] = 3
    into[at + 6] = key >>> 8
    into[at + 7] = key | 0x80
    into[at + 8] = exception
    this.gathered = at + ANSWER_ADU
  }

  private gatherInto(buf: Uint8Array, at: number): void {
    this.into = buf
    this.begin = at
    this.gathered = at
  }

  /**
   * Responses from `run` on are to leave with answers between them, or without what is cut out. Where the answers that
   * are due fit before them, the responses move up to make room for each, within the buffer they came in.
   */
  private gatherFrom(buf: Uint8Array, run: number): void {
    if (this.gathered >= 0) return
    if (this.answers <= ANSWERS_BESIDE) this.gatherInto(buf, run - this.answers * ANSWER_ADU)
    else this.gatherInto(GATHER, 0)
  }

  /** Gathers the responses [run, to). */
  private gather(buf: Uint8Array, to: number): void {
    const from = this.run
    this.run = to
    this.gatherFrom(buf, from)
    if (this.into === buf) move(buf, this.gathered, from, to)
    else {
      if (this.gathered + (to - from) > GATHER.length) this.send()
      GATHER.set(buf.subarray(from, to), this.gathered)
    }
    this.gathered += to - from
  }

  /** Sends what is gathered. What comes behind it is gathered anew. */
  private send(): void {
    const { into, begin, gathered } = this
    if (gathered > begin) {
      const { counters } = this.terms
      counters.cells[counters.bytesOut] += gathered - begin
      this.host.toClient(into, begin, gathered)
    }
    this.gatherInto(GATHER, 0)
  }

  private flush(): void {
    this.send()
    this.gathered = -1
    if (this.finishing !== '') this.host.finish(this.finishing)
  }

  /** Takes off the head of the ring what is settled, and emits the answers that were waiting for it. */
  private drain(): void {
    this.deferring = false
    while (this.head !== this.tail) {
      const at = this.at(this.head)
      const status = this.ring[at + ENTRY.status]
      if (status === STATUS.forwarded || status === STATUS.held) return
      this.head++
      if (status === STATUS.answer) this.emit(this.ring[at], this.ring[at + ENTRY.extra])
      else if (status === STATUS.close) this.endNow('malformed')
    }
    if (this.clientEnded && !this.terms.monitor) this.endNow('client closed')
    // A ring that a burst has made large goes back to the heap.
    if (this.ring.length > 1024 * ENTRY.words) {
      this.ring = NO_RING
      this.mask = -1
    }
  }

  private endNow(why: string): void {
    this.finishing = this.endReason === '' ? why : this.endReason
    if (this.gathered < 0) this.gatherInto(GATHER, 0)
    if (this.gathered === this.begin) this.flush()
  }

  private settleOutstanding(by: number): void {
    const { counters } = this.terms
    this.forwarded += by
    counters.cells[counters.pending] += by
    if (this.limiter !== null) for (let i = by; i < 0; i++) this.limiter.release()
  }

  // ---------------------------------------------------------------------------------------------- target → client

  /** Bytes from the target; the same demands on `buf` as with `onClientBytes`. */
  onTargetBytes(buf: Uint8Array, start: number, end: number): void {
    this.lastActivity = this.clock.ms
    const { counters } = this.terms
    if (this.terms.monitor) {
      counters.cells[counters.bytesOut] += end - start
      this.host.toClient(buf, start, end)
      this.watchTarget(buf, this.prependTargetPart(buf, start), end)
      if (this.closing && this.drained) this.endNow(this.endReason)
    } else this.enforceTarget(buf, this.prependTargetPart(buf, start), end)
    if (this.nextTerms !== null) this.adoptNext()
  }

  private prependTargetPart(buf: Uint8Array, start: number): number {
    const length = this.targetPartLength
    if (length === 0) this.targetPartSince = this.clock.ms
    const from = start - length
    for (let i = 0; i < length; i++) buf[from + i] = this.targetPart[i]
    this.targetPartLength = 0
    return from
  }

  private enforceTarget(buf: Uint8Array, start: number, end: number): void {
    if (this.deferring) {
      this.gatherFrom(buf, start)
      this.drain()
    }
    let o = start
    this.run = start
    while (end - o >= LENGTH_END) {
      const settled = this.settleRun(buf, o, end)
      if (settled !== o) {
        o = settled
        if (this.answersDue()) this.gatherDue(buf, o)
        continue
      }
      const length = (buf[o + 4] << 8) | buf[o + 5]
      if (length < 2 || length > 254 || (buf[o + 2] | buf[o + 3]) !== 0) {
        if (this.gathered >= 0) {
          this.gather(buf, o)
          // More answers come than there was room for.
          this.send()
        } else if (o > this.run) this.forwardResponses(buf, this.run, o)
        this.garbled(buf, o, end)
        return
      }
      const next = o + LENGTH_END + length
      if (next > end) break
      if (this.accept(buf, o, next)) {
        o = next
        if (this.answersDue()) this.gatherDue(buf, o)
      } else {
        // Cut out: what stood before it goes first.
        this.gather(buf, o)
        o = next
        this.run = o
      }
    }
    if (this.gathered >= 0) {
      this.gather(buf, o)
      this.flush()
    } else if (o > this.run) this.forwardResponses(buf, this.run, o)
    if (o < end) this.keepTargetPart(buf, o, end, o !== start)
    if (this.held > 0) this.onPace()
    else if (this.clientEnded && this.drained) {
      this.drain()
      if (this.gathered >= 0) this.flush()
    }
  }

  /** Answers of Headgate's own, or the end, come next. */
  private answersDue(): boolean {
    return this.head !== this.tail && this.ring[this.at(this.head) + ENTRY.status] > STATUS.held
  }

  /** Gathers the responses up to `o` and the answers that come behind them. */
  private gatherDue(buf: Uint8Array, o: number): void {
    this.gather(buf, o)
    this.drain()
  }

  /**
   * Takes the responses at `o` that answer the requests that are due next, one after the other, and gathers the answers
   * that stand between them: the counterpart of `passRun`.
   * @returns the offset behind the last of them
   */
  private settleRun(buf: Uint8Array, o: number, end: number): number {
    if (!this.plain) return o
    const { ring, mask, tail } = this
    const { us } = this.clock
    const first = this.head
    let head = first
    let alike = 0
    let took = 0
    let answers = 0
    const view = viewOf(buf)
    while (end - o > READ_HEAD && head !== tail) {
      const at = (head & mask) * ENTRY.words
      const status = ring[at + ENTRY.status]
      if (status !== STATUS.forwarded) {
        if (status !== STATUS.answer) break
        this.gather(buf, o)
        this.emit(ring[at], ring[at + ENTRY.extra])
        answers++
        head++
        continue
      }
      const identifiers = view.getInt32(o)
      const header = view.getInt32(o + 4)
      const key = (identifiers & ~0xffff) | (header & 0xffff)
      const count = buf[o + READ_HEAD]
      let next = o + READ_HEAD + 1 + count
      // The registers or coils asked for, by identifiers, length and byte count at once.
      if (
        ring[at] !== key ||
        !awaitsRead(key & 0xff, ring, at + ENTRY.expected, count) ||
        (identifiers & 0xffff) !== 0 ||
        header >>> 16 !== count + 3 ||
        next > end
      ) {
        const length = (buf[o + 4] << 8) | buf[o + 5]
        next = o + LENGTH_END + length
        if ((buf[o + 2] | buf[o + 3]) !== 0 || length < 2 || length > 254 || next > end) break
        if (ring[at] !== (key & ~0x80)) break
        if (checkResponse(buf, o + 7, next) !== 0) break
        if (matchResponse(buf, o + 7, next, ring, at + ENTRY.expected) !== 0) break
      }
      const waited = (us - ring[at + ENTRY.time]) | 0
      if (waited !== took) {
        if (alike > 0) this.measure(took, alike)
        alike = 0
        took = waited
      }
      alike++
      head++
      o = next
    }
    if (head !== first) {
      if (alike > 0) this.measure(took, alike)
      const { cells, responses, pending } = this.terms.counters
      const settled = head - first - answers
      cells[responses] += settled
      cells[pending] -= settled
      this.forwarded -= settled
      // An empty ring begins at its beginning, which is in the cache.
      if (head === tail) head = this.tail = 0
      this.head = head
    }
    return o
  }

  /** Counts how long the target took to answer, in microseconds. */
  private measure(took: number, times: number): void {
    const { counters, bounds } = this.terms
    let bucket = 0
    while (bucket < bounds.length && took > bounds[bucket]) bucket++
    counters.cells[counters.histogram + bucket] += times
    counters.cells[counters.histogram + bounds.length + 1] += took * times
  }

  private forwardResponses(buf: Uint8Array, from: number, to: number): void {
    const { counters } = this.terms
    counters.cells[counters.bytesOut] += to - from
    this.host.toClient(buf, from, to)
  }

  /**
   * Matches a response with the request it answers, and settles that.
   * @returns whether it may pass to the client
   */
  private accept(buf: Uint8Array, o: number, next: number): boolean {
    const { counters } = this.terms
    const pdu = o + 7
    const fault = checkResponse(buf, pdu, next)
    const key = (buf[o] << 24) | (buf[o + 1] << 16) | (buf[o + 6] << 8) | (buf[pdu] & 0x7f)
    if (fault === 0 && this.head !== this.tail) {
      const at = this.at(this.head)
      if (
        this.ring[at] === key &&
        this.ring[at + ENTRY.status] === STATUS.forwarded &&
        matchResponse(buf, pdu, next, this.ring, at + ENTRY.expected) === 0
      ) {
        this.settled(buf, o, next, at)
        this.head++
        counters.cells[counters.responses]++
        return true
      }
    }
    return this.acceptOther(buf, o, next, key, fault)
  }

  /** A response that is not plainly the one expected next: out of order, with a quirk, late, or nobody's. */
  private acceptOther(buf: Uint8Array, o: number, next: number, key: number, fault: number): boolean {
    const { counters, monitor, tolerate } = this.terms
    const pdu = o + 7
    let mismatch = 0
    let found = -1
    let bits = 0
    // First pass: transaction, unit and function agree. Second pass: what a rule tolerates in their place.
    for (let pass = 0; pass < 2 && found === -1; pass++) {
      for (let n = this.head; n !== this.tail; n++) {
        const at = this.at(n)
        if (this.ring[at + ENTRY.status] !== STATUS.forwarded) continue
        const rule = this.ring[at + ENTRY.rule]
        const allowed = rule >= 0 ? tolerate[rule] : 0
        const needed = keyQuirks(this.ring[at], key)
        if (pass === 0 ? needed !== 0 : needed <= 0 || !covers(allowed, needed)) continue
        const shape = shapeQuirk(fault)
        if (fault !== 0 && (shape === 0 || (allowed & shape) === 0)) continue
        const wrong = matchResponse(buf, pdu, next, this.ring, at + ENTRY.expected)
        if (wrong !== 0) {
          mismatch = wrong
          continue
        }
        found = n
        bits = needed | shape
        break
      }
    }
    const rule = found === -1 ? -1 : this.ring[this.at(found) + ENTRY.rule]
    if (found !== -1) {
      const at = this.at(found)
      this.settled(buf, o, next, at)
      this.ring[at + ENTRY.status] = STATUS.silent
      if (found === this.head) this.head++
      counters.cells[counters.responses]++
      if (bits !== 0) this.countQuirks(bits, rule, buf, o, next)
      return true
    }
    let reason: number = REASON.state
    let detail = 'answers no outstanding request'
    if (fault !== 0) {
      reason = REASON.malformed
      detail = ''
    } else if (mismatch !== 0) detail = 'does not answer what was asked'
    else if (this.forget(key)) detail = 'late: its request was given up'
    this.table.fault = fault !== 0 ? fault : mismatch
    counters.cells[counters.responses + (monitor ? WOULD_DENY : 0) + reason]++
    this.host.report('response', reason, monitor, -1, buf, o, next, detail, 0)
    return false
  }

  private countQuirks(bits: number, rule: number, buf: Uint8Array, o: number, next: number): void {
    const { counters } = this.terms
    for (const [quirk, name] of QUIRK_NAMES.entries()) {
      if ((bits & (1 << quirk)) === 0) continue
      counters.cells[counters.tolerated + quirk]++
      this.host.report('tolerated', REASON.allow, false, rule, buf, o, next, name, 0)
    }
  }

  /** The target has answered: measures how long it took, and gives the request's place in the limits back. */
  private settled(buf: Uint8Array, o: number, next: number, at: number): void {
    const { counters } = this.terms
    this.measure((this.clock.us - this.ring[at + ENTRY.time]) | 0, 1)
    this.forwarded--
    counters.cells[counters.pending]--
    if (this.limiter !== null) this.limiter.release()
    if (this.table.learns) this.learn(buf, o, next, at)
  }

  private learn(buf: Uint8Array, o: number, next: number, at: number): void {
    const key = this.ring[at]
    const code = key & 0xff
    const unit = (key >>> 8) & 0xff
    const registers = this.ring[at + ENTRY.extra]
    if ((buf[o + 7] & 0x80) !== 0) {
      if (code !== 3) this.table.forget(unit, registers >>> 16, registers & 0xffff)
    } else if (code === 3) {
      // Not what a tolerated response carries beyond its byte count.
      this.table.learnResponse(buf, o + 6, Math.min(next, o + 9 + buf[o + 8]), unit, registers >>> 16)
    }
  }

  private garbled(buf: Uint8Array, o: number, end: number): void {
    const { counters } = this.terms
    counters.cells[counters.responses + REASON.malformed]++
    this.table.fault = 0
    this.host.report('response', REASON.malformed, false, -1, buf, o, end, 'not an MBAP header', 0)
    this.recycle('the target does not speak Modbus/TCP')
    this.drain()
    if (this.gathered >= 0) this.flush()
  }

  /** A frame that trickles in keeps the time of its first byte; `fresh` tells that this is a new one. */
  private keepTargetPart(buf: Uint8Array, o: number, end: number, fresh: boolean): void {
    if (this.targetPart.length === 0) this.targetPart = new Uint8Array(MAX_ADU)
    for (let i = o; i < end; i++) this.targetPart[i - o] = buf[i]
    if (fresh) this.targetPartSince = this.clock.ms
    this.targetPartLength = end - o
  }

  // ------------------------------------------------------------------------------------------------ late and lost

  /** Gives up the target's connection with all that is outstanding on it; the next request opens another. */
  private recycle(why: string): void {
    this.host.dropTarget(why)
    this.loseTarget(EXCEPTION.noAnswer)
  }

  private loseTarget(exception: number): void {
    for (let n = this.head; n !== this.tail; n++) {
      const at = this.at(n)
      if (this.ring[at + ENTRY.status] !== STATUS.forwarded) continue
      this.giveUp(at)
      this.becomeAnswer(at, exception)
    }
    this.staleCount = 0
    this.targetPartLength = 0
    this.targetDown = true
    this.settle()
  }

  /** What is owed for it from now on is for the caller to say. */
  private giveUp(at: number): void {
    const { counters } = this.terms
    this.settleOutstanding(-1)
    counters.cells[counters.responses + REASON.timeout]++
    if (this.table.learns) {
      const registers = this.ring[at + ENTRY.extra]
      if ((this.ring[at] & 0xff) !== 3)
        this.table.forget((this.ring[at] >>> 8) & 0xff, registers >>> 16, registers & 0xffff)
    }
  }

  private remembers(buf: Uint8Array, o: number): boolean {
    const key = (buf[o] << 24) | (buf[o + 1] << 16) | (buf[o + 6] << 8) | buf[o + 7]
    for (let i = 0; i < this.staleCount; i++) if (this.stale[i] === key) return true
    return false
  }

  private forget(key: number): boolean {
    for (let i = 0; i < this.staleCount; i++) {
      if (this.stale[i] !== key) continue
      this.stale[i] = this.stale[--this.staleCount]
      this.settle()
      return true
    }
    return false
  }

  /**
   * The target could not be reached (`connected` false) or its connection was lost.
   * Enforce: what is outstanding is answered with 0A or 0B, and the client's connection stays.
   */
  onTargetLost(connected: boolean): void {
    this.loseTarget(connected ? EXCEPTION.noAnswer : EXCEPTION.unreachable)
    this.drain()
    if (this.gathered >= 0) this.flush()
  }

  /** The target has closed its side: what is outstanding is answered with 0B, then the client's side is closed. */
  onTargetEnd(): void {
    this.loseTarget(EXCEPTION.noAnswer)
    this.endReason = 'target closed'
    this.endAfterAnswers()
    if (this.gathered >= 0) this.flush()
  }

  /** The client has closed its side: what is outstanding is still answered. */
  onClientEnd(): void {
    this.clientEnded = true
    if (this.terms.monitor) return
    if (this.clientPartLength > 0) this.cutShort('the client closed in the middle of a frame')
    this.drain()
    if (this.gathered >= 0) this.flush()
  }

  /** Takes no more requests; closes once what is outstanding is answered. */
  close(why: string): void {
    if (this.closing) return
    this.endReason = why
    if (!this.terms.monitor) this.endAfterAnswers()
    else {
      this.closing = true
      if (this.drained) this.endNow(why)
    }
    if (this.gathered >= 0) this.flush()
  }

  private cutShort(detail: string): void {
    const { counters } = this.terms
    this.clientPartLength = 0
    counters.cells[counters.requests + REASON.malformed]++
    this.table.fault = 0
    this.host.report('request', REASON.malformed, false, -1, this.clientPart, 0, 0, detail, 0)
  }

  /**
   * Looks after what is due.
   * @returns in how many milliseconds it wants to be called again, at most
   */
  onTimer(): number {
    const { terms, clock } = this
    // No later than the shortest time-out: whatever begins after this look ends after the next.
    let wait = Math.min(terms.responseMs, terms.partialFrameMs, terms.idleMs)
    for (let n = this.head; n !== this.tail; n++) {
      const at = this.at(n)
      if (this.ring[at + ENTRY.status] !== STATUS.forwarded) continue
      const age = ((clock.us - this.ring[at + ENTRY.time]) | 0) / 1000
      if (age < terms.responseMs) {
        wait = Math.min(wait, terms.responseMs - age)
        break
      }
      this.overdue(at)
    }
    if (!terms.monitor) {
      if (this.clientPartLength > 0 && !this.closing) {
        const left = terms.partialFrameMs - ((clock.ms - this.clientPartSince) | 0)
        if (left <= 0) {
          this.cutShort(`no whole frame within ${terms.partialFrameMs} ms`)
          this.endAfterAnswers()
        } else wait = Math.min(wait, left)
      }
      if (this.targetPartLength > 0) {
        const left = terms.partialFrameMs - ((clock.ms - this.targetPartSince) | 0)
        if (left <= 0) this.garbled(this.targetPart, 0, this.targetPartLength)
        else wait = Math.min(wait, left)
      }
      const idle = (clock.ms - this.lastActivity) | 0
      if (idle >= terms.idleMs) {
        if (!this.closing) {
          this.endReason = 'idle'
          this.endAfterAnswers()
        }
      } else wait = Math.min(wait, terms.idleMs - idle)
    }
    this.drain()
    if (terms.monitor && this.closing && this.drained) this.endNow(this.endReason)
    if (this.gathered >= 0) this.flush()
    if (this.nextTerms !== null) this.adoptNext()
    return Math.max(1, Math.ceil(wait))
  }

  private overdue(at: number): void {
    const { terms } = this
    const key = this.ring[at]
    const rule = this.ring[at + ENTRY.rule]
    this.giveUp(at)
    const detail = `transaction ${key >>> 16}, unit ${(key >>> 8) & 0xff}, function ${key & 0xff}`
    this.host.report('timeout', REASON.timeout, terms.monitor, rule, null, 0, 0, detail, EXCEPTION.noAnswer)
    if (terms.monitor) {
      this.ring[at + ENTRY.status] = STATUS.silent
      return
    }
    this.becomeAnswer(at, EXCEPTION.noAnswer)
    const quirks = rule >= 0 ? terms.tolerate[rule] : 0
    const unsure = (quirks & (TOLERATE['zero-transaction-id'] | TOLERATE['transaction-id-mismatch'])) !== 0
    if (unsure || this.staleCount === STALE_MAX) {
      // Without transaction identifiers a late answer cannot be told from the next one's.
      this.recycle('a late answer could not be told from the next')
      return
    }
    if (this.stale.length === 0) this.stale = new Int32Array(STALE_MAX)
    this.stale[this.staleCount++] = key
    this.settle()
  }

  // ------------------------------------------------------------------------------------------------------ monitor

  /** Reads what has been forwarded already, and says what enforce mode would have done. */
  private watchClient(buf: Uint8Array, start: number, end: number): void {
    const { counters } = this.terms
    const { cells } = counters
    const table = this.table
    let o = start
    while (end - o >= LENGTH_END) {
      const length = (buf[o + 4] << 8) | buf[o + 5]
      if (length < 2 || length > 254) {
        table.rule = -1
        table.fault = 0
        cells[counters.requests + WOULD_DENY + REASON.malformed]++
        const detail = `MBAP length ${length}, expected 2…254`
        if (this.terms.witnessed) this.host.witness(true, buf, o, o)
        this.host.report('request', REASON.malformed, true, -1, buf, o, end, detail, 0)
        return
      }
      const next = o + LENGTH_END + length
      if (next > end) break
      if (this.terms.witnessed) this.host.witness(true, buf, o, next)
      const code = buf[o + 7]
      let reason: number = REASON.malformed
      const shadow = (buf[o + 2] | buf[o + 3]) === 0 ? this.shadow : null
      if (shadow !== null) shadow.judge(buf, o, next)
      if ((buf[o + 2] | buf[o + 3]) === 0) reason = table.decide(buf, o + 6, next)
      else {
        table.rule = -1
        table.fault = 0
        table.wouldRule = -1
      }
      let rule = table.rule
      if (reason === REASON.allow && table.wouldRule !== -1) {
        reason = table.wouldReason
        rule = table.wouldRule
      }
      if (this.limiter !== null && !this.limiter.acquire(this.clock.us, true) && reason === REASON.allow) {
        reason = REASON.rate
      }
      cells[counters.requests + code * VERDICTS + (reason === REASON.allow ? 0 : WOULD_DENY + reason)]++
      if (rule >= 0) cells[counters.rules + rule * 3 + (reason === REASON.allow ? 0 : 2)]++
      if (reason !== REASON.allow) this.host.report('request', reason, true, rule, buf, o, next, '', 0)
      if (shadow !== null) shadow.settle(buf, o, next, this.strictly(reason, rule))
      if (table.learns) table.learnRequest(buf, o + 6, next)
      if (this.tail - this.head >= OUTSTANDING_MONITOR) {
        const at = this.at(this.head++)
        if (this.ring[at + ENTRY.status] === STATUS.forwarded) this.overdue(at)
      }
      if (code !== 8 || expectsResponse(buf, o + 7, next)) this.push(buf, o, next, STATUS.forwarded)
      else this.limiter?.release()
      o = next
    }
    if (o < end) this.keepClientPart(buf, o, end, o !== start)
  }

  /** What enforce mode would make of a verdict: what a rule in monitor mode denies passes there too. */
  private strictly(reason: number, rule: number): number {
    return rule >= 0 && this.terms.ruleMonitor[rule] === 1 ? REASON.allow : reason
  }

  private watchTarget(buf: Uint8Array, start: number, end: number): void {
    const { counters } = this.terms
    let o = start
    while (end - o >= LENGTH_END) {
      const length = (buf[o + 4] << 8) | buf[o + 5]
      if (length < 2 || length > 254 || (buf[o + 2] | buf[o + 3]) !== 0) {
        this.table.fault = 0
        counters.cells[counters.responses + WOULD_DENY + REASON.malformed]++
        this.host.report('response', REASON.malformed, true, -1, buf, o, end, 'not an MBAP header', 0)
        return
      }
      const next = o + LENGTH_END + length
      if (next > end) break
      if (this.terms.witnessed) this.host.witness(false, buf, o, next)
      this.accept(buf, o, next)
      o = next
    }
    while (this.head !== this.tail && this.ring[this.at(this.head) + ENTRY.status] === STATUS.silent) this.head++
    if (o < end) this.keepTargetPart(buf, o, end, o !== start)
  }
}

/** Moves [from, end) down to `to`. A call of `copyWithin` costs more than a frame moved by hand, in words. */
function move(buf: Uint8Array, to: number, from: number, end: number): void {
  if (to === from) return
  if (end - from > 32) {
    buf.copyWithin(to, from, end)
    return
  }
  const view = viewOf(buf)
  for (; end - from >= 4; from += 4, to += 4) view.setInt32(to, view.getInt32(from))
  for (; from < end; from++) buf[to++] = buf[from]
}

/** In the order of their bits, and of `SessionCells.tolerated`. */
const QUIRK_NAMES = Object.keys(TOLERATE)

/** First register and quantity that a request for holding registers names: register << 16 | quantity. */
function registersOf(buf: Uint8Array, o: number): number {
  const code = buf[o + 7]
  const at = code === 23 ? o + 12 : o + 8
  const quantity = code === 6 || code === 22 ? 1 : buf[at + 3]
  return (buf[at] << 24) | (buf[at + 1] << 16) | quantity
}

/** What a rule must tolerate for a response's key to answer a request's: bits of `TOLERATE`; 0: nothing; -1: never. */
function keyQuirks(request: number, response: number): number {
  if (request === response) return 0
  if (((request ^ response) & 0xff) !== 0) return -1
  let bits = 0
  if (((request ^ response) & 0xff00) !== 0) bits |= TOLERATE['unit-mismatch']
  if (request >>> 16 !== response >>> 16) {
    bits |= response >>> 16 === 0 ? TOLERATE['zero-transaction-id'] : TOLERATE['transaction-id-mismatch']
  }
  return bits
}

/** `transaction-id-mismatch` includes an identifier that is always 0. */
function covers(allowed: number, needed: number): boolean {
  if ((allowed & TOLERATE['transaction-id-mismatch']) !== 0) allowed |= TOLERATE['zero-transaction-id']
  return (needed & ~allowed) === 0
}

function shapeQuirk(fault: number): number {
  if (fault === FAULT.EXCEPTION_CODE) return TOLERATE['vendor-exceptions']
  return fault === FAULT.TRAILING ? TOLERATE['trailing-bytes'] : 0
}
