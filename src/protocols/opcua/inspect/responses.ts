/** Responses on a channel that is open: one passes if it answers an outstanding request, in the service's own type. */
import { REASON } from '../../reason.ts'
import type { ChannelRules } from '../channel-rules.ts'
import { AT, CHUNK, MESSAGE, messageSize, messageType, typeIdAt, typeIdLength, u32 } from '../chunk.ts'
import { CONNECTION_STATUS } from '../errors.ts'
import { SEND } from '../exchanges.ts'
import { isRefused } from '../refused.ts'
import { FUNCTION, functionLabel, functionOfRequest, REQUEST, SERVICE_FAULT, SERVICES } from '../services.ts'
import { FATE } from '../stream.ts'
import { MODE, type OpcUaTerms } from '../terms.ts'
import type { Records } from './records.ts'
import type { Refusals } from './refusals.ts'
import type { ChunkRelay } from './relay.ts'
import { type InspectState, PHASE } from './state.ts'

/** Type ids of responses by the index of the function; -1 where there is none. */
const RESPONSE_OF = Int32Array.from({ length: FUNCTION.services + SERVICES.length }, (_, fn) =>
  fn < FUNCTION.services ? -1 : SERVICES[fn - FUNCTION.services].response,
)

// Of this file, as in `requests.ts`.
const CREATE_SESSION = functionOfRequest(REQUEST.CreateSession)
const CLOSE_SESSION = functionOfRequest(REQUEST.CloseSession)
const PUBLISH = functionOfRequest(REQUEST.Publish)

export class Responses {
  private readonly state: InspectState
  private readonly records: Records
  private readonly refusals: Refusals
  private readonly relay: ChunkRelay

  constructor(state: InspectState, records: Records, refusals: Refusals, relay: ChunkRelay) {
    this.state = state
    this.records = records
    this.refusals = refusals
    this.relay = relay
  }

  hiddenResponse(buf: Uint8Array, o: number): number {
    const { state } = this
    state.down.open = buf[o + 3] === CHUNK.intermediate
    if (!state.down.open) state.terms.counters.cells[state.terms.counters.responses]++
    return FATE.pass
  }

  /** The counterpart of `passRequests`. */
  passResponses(buf: Uint8Array, o: number, end: number): number {
    const { state } = this
    const { down, outstanding, mode, channel, token, exchanges } = state
    if (state.phase !== PHASE.channel || mode > MODE.sign || down.open || down.renumbering) return o
    if (state.limiter !== null || this.relay.faults.length > 0 || state.closing !== '') return o
    const { terms } = state
    const { cells, responses, pending } = terms.counters
    const most = Math.min(state.downMost, terms.messageBytes)
    const { us } = state.clock
    let count = 0
    while (end - o >= AT.body + 4) {
      const size = messageSize(buf, o)
      if (messageType(buf, o) !== MESSAGE.MSG || buf[o + 3] !== CHUNK.final || size > most || size > end - o) break
      if ((buf[o + 24] | (buf[o + 25] << 8)) !== 1 || u32(buf, o + AT.channel) !== channel) break
      if (mode === MODE.none && u32(buf, o + AT.token) !== token) break
      const sequence = u32(buf, o + AT.sequence)
      if (sequence !== down.sequence + 1) break
      const request = u32(buf, o + AT.request)
      const at = outstanding.find(request)
      if (at === -1 || outstanding.doubted(at) || exchanges?.wants(request) === true) break
      const fn = outstanding.functionAt(at)
      // Sessions are counted elsewhere, and faults looked at.
      if (fn === CREATE_SESSION || fn === CLOSE_SESSION) break
      if (RESPONSE_OF[fn] !== (buf[o + 26] | (buf[o + 27] << 8))) break
      if (fn !== PUBLISH) measure(terms, (us - outstanding.timeAt(at)) | 0)
      outstanding.remove(at)
      down.sequence = sequence
      down.sent = sequence
      count++
      o += size
    }
    cells[responses] += count
    cells[pending] -= count
    return o
  }

  /** The counterpart of `Requests.passHidden`. */
  passHidden(buf: Uint8Array, o: number, end: number): number {
    const { state } = this
    const { down, channel, terms } = state
    if (state.mode !== MODE.signAndEncrypt || state.phase !== PHASE.channel || down.open) return o
    const { cells, responses } = terms.counters
    let count = 0
    while (end - o >= AT.body) {
      const size = messageSize(buf, o)
      if (messageType(buf, o) !== MESSAGE.MSG || buf[o + 3] !== CHUNK.final) break
      if (size < AT.body || size > state.downMost || size > end - o || u32(buf, o + AT.channel) !== channel) break
      count++
      o += size
    }
    cells[responses] += count
    return o
  }

  /** A chunk of a response in clear. */
  plainResponse(buf: Uint8Array, o: number, here: number, size: number): number {
    const { state } = this
    const { down, outstanding, exchanges } = state
    const chunk = buf[o + 3]
    if (state.mode === MODE.none && !state.isToken(buf, o)) {
      return this.refusals.refuse(down, here - o, REASON.state, 'token id', CONNECTION_STATUS.badSecurityChecksFailed)
    }
    const before = down.sequence
    const sequence = u32(buf, o + AT.sequence)
    if (!down.take(sequence)) {
      const detail = `sequence number ${sequence} behind ${before}`
      return this.refusals.refuse(down, here - o, REASON.state, detail, CONNECTION_STATUS.badSequenceNumberInvalid)
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
        const fate = this.refusals.refuse(down, here - o, REASON.state, what, status)
        if (fate !== FATE.pass) return fate
        at = -1
      } else {
        down.fn = outstanding.functionAt(at)
        if (down.fn !== PUBLISH) measure(state.terms, (state.clock.us - outstanding.timeAt(at)) | 0)
        const doubted = outstanding.doubtAt(at)
        if (doubted !== -1 && chunk !== CHUNK.abort) {
          const end = Math.min(here, o + size - state.signature)
          state.host.answeredOpcUa(request, isRefused(buf, o + AT.body, end, doubted))
        }
        if (exchanges?.wants(request) === true && chunk !== CHUNK.abort) down.fate = FATE.gather
        if (chunk !== CHUNK.abort) this.countSession(buf, o, here)
      }
    } else if (request !== down.request) {
      return this.refusals.malformed(down, here - o, 'chunks of two messages are interleaved')
    }
    if (!this.refusals.withinLimits(down, size)) return this.refusals.tooLarge(down, here - o)
    down.open = chunk === CHUNK.intermediate
    let { fate } = down
    if (chunk === CHUNK.abort) {
      exchanges?.drop(request)
      if (fate === FATE.gather) {
        this.relay.forward(down, down.gathered, 0, down.gatheredLength)
        down.release()
        fate = FATE.pass
      }
    }
    if (!down.open) this.answered(at)
    if (fate === FATE.pass && state.mode === MODE.none) down.number(buf, o + AT.sequence)
    return fate
  }

  /** @returns what is wrong with the first chunk of an answer to the request at `at`; '' where nothing is */
  private mismatch(buf: Uint8Array, o: number, here: number, size: number, at: number): string {
    const { state } = this
    if (at === -1) return ''
    const typeId = typeIdAt(buf, o + AT.body, Math.min(here, o + size - state.signature))
    if (typeId === SERVICE_FAULT || RESPONSE_OF[state.outstanding.functionAt(at)] === typeId) return ''
    // Headgate has let a request pass that is none, or would have denied it.
    if (state.outstanding.functionAt(at) === FUNCTION.unknown) return ''
    return `type id ${typeId} does not answer ${functionLabel(state.outstanding.functionAt(at))}`
  }

  /** The last chunk of an answer has come. */
  private answered(at: number): void {
    const { state } = this
    state.terms.counters.cells[state.terms.counters.responses]++
    this.records.forget(at)
    if (state.closing !== '' && state.drained) state.cut(CONNECTION_STATUS.badConnectionClosed, state.closing)
  }

  private countSession(buf: Uint8Array, o: number, here: number): void {
    const { state } = this
    const { fn } = state.down
    if (fn !== CREATE_SESSION && fn !== CLOSE_SESSION) return
    const result = o + AT.body + typeIdLength(buf, o + AT.body) + 12
    if (here < result + 4 || u32(buf, result) >>> 30 !== 0) return
    if (typeIdAt(buf, o + AT.body, here) !== RESPONSE_OF[fn]) return
    const by = fn === CREATE_SESSION ? 1 : this.records.sessions > 0 ? -1 : 0
    this.records.sessions += by
    state.terms.counters.cells[state.terms.counters.sessions] += by
  }

  answerWhole(body: Uint8Array, at: number, end: number): void {
    const { state } = this
    const { down, exchanges } = state
    if (exchanges === null) return
    const sent = exchanges.answer(down.request, body, at, end)
    // What is remembered for the shadow policy alone denies nothing.
    const { inner } = state.channelRules as ChannelRules
    if (state.through || sent === SEND.asItIs || !inner) this.relay.forwardWhole(down)
    else if (sent === SEND.rewritten && state.mode === MODE.none) this.relay.emit(down, exchanges.out.written())
    else if (state.mode === MODE.none) {
      const handle = u32(body, at + typeIdLength(body, at) + 8)
      this.relay.faults.push({ request: down.request, handle, status: exchanges.status })
    } else state.cut(CONNECTION_STATUS.badCommunicationError, 'the server does not answer what was asked')
  }
}

/** Counts how long the server took to answer, in microseconds. */
function measure({ counters, bounds }: OpcUaTerms, took: number): void {
  if (counters.histogram === -1) return
  let bucket = 0
  while (bucket < bounds.length && took > bounds[bucket]) bucket++
  counters.cells[counters.histogram + bucket]++
  counters.cells[counters.histogram + bounds.length + 1] += took
}
