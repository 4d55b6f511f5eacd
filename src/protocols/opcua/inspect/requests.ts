/**
 * Requests on a channel that is open: each is judged by its service, and where rules reach further by its whole body; a
 * denied one is answered on a channel in clear, else it is the end of the connection. Of those that encryption hides,
 * nothing but their number is known.
 */
import { REASON, WOULD_DENY } from '../../reason.ts'
import type { ChannelRules } from '../channel-rules.ts'
import {
  AT,
  CHUNK,
  MAX_TYPE_ID_BYTES,
  MESSAGE,
  messageSize,
  messageType,
  NO_TYPE_ID,
  SHORT_TYPE_ID,
  typeIdAt,
  typeIdLength,
  u32,
} from '../chunk.ts'
import { VERDICT } from '../decide.ts'
import { CONNECTION_STATUS } from '../errors.ts'
import { SEND } from '../exchanges.ts'
import { STATUS } from '../headers.ts'
import { requestHandle } from '../opening.ts'
import { bodyFaultText } from '../requests.ts'
import { FUNCTION, functionLabel, functionOfRequest, REQUEST } from '../services.ts'
import { FATE } from '../stream.ts'
import { readActivateRequest, readCreateRequest } from '../terminate/session-services.ts'
import { CHANNEL_MODES, MODE } from '../terms.ts'
import type { Records } from './records.ts'
import type { Refusals } from './refusals.ts'
import type { ChunkRelay } from './relay.ts'
import { type InspectState, PHASE } from './state.ts'

// Of this file, so that they are folded: what is imported is loaded at each use (bench: decoder, OPC UA).
const CREATE_SESSION = functionOfRequest(REQUEST.CreateSession)
const ACTIVATE_SESSION = functionOfRequest(REQUEST.ActivateSession)
const PUBLISH = functionOfRequest(REQUEST.Publish)
const VERDICTS = WOULD_DENY * 2

export class Requests {
  private readonly state: InspectState
  private readonly records: Records
  private readonly refusals: Refusals
  private readonly relay: ChunkRelay
  /** The limits have counted the message that is being gathered. */
  private countedEarly = false

  constructor(state: InspectState, records: Records, refusals: Refusals, relay: ChunkRelay) {
    this.state = state
    this.records = records
    this.refusals = refusals
    this.relay = relay
  }

  /**
   * Takes the requests at `o` that are whole, of one chunk and allowed by their service alone: nearly all traffic ends
   * here, so this loop is kept small (bench: decoder, OPC UA).
   * @returns the offset behind the last of them
   */
  passRequests(buf: Uint8Array, o: number, end: number): number {
    const { state } = this
    const { up, channelRules, outstanding, mode, channel, token, signature, exchanges, context } = state
    if (state.phase !== PHASE.channel || channelRules === null || up.open || up.renumbering) return o
    if (state.limiter !== null || state.shadow !== null || state.terms.gate[0] !== 0 || mode > MODE.sign) return o
    if (state.terms.monitor && state.refused !== REASON.allow) return o
    const { table } = channelRules
    const { cells, requests, rules, pending } = state.terms.counters
    const most = Math.min(state.upMost, state.terms.messageBytes)
    const { us } = state.clock
    let count = 0
    while (end - o >= AT.body + MAX_TYPE_ID_BYTES) {
      const size = messageSize(buf, o)
      if (messageType(buf, o) !== MESSAGE.MSG || buf[o + 3] !== CHUNK.final || size > most || size > end - o) break
      // The type id in its usual form, and not a part of the signature.
      if ((buf[o + 24] | (buf[o + 25] << 8)) !== 1 || size < AT.body + 4 + signature) break
      if (u32(buf, o + AT.channel) !== channel) break
      if (mode === MODE.none && u32(buf, o + AT.token) !== token) break
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
      count++
      if (table.rule >= 0) cells[rules + table.rule * 3]++
      o += size
    }
    cells[pending] += count
    return o
  }

  /** The same of requests that encryption hides: whole chunks of messages of one, which the rules let pass unseen. */
  passHidden(buf: Uint8Array, o: number, end: number): number {
    const { state } = this
    const { up, channelRules, channel, limiter, shadow, terms } = state
    if (state.mode !== MODE.signAndEncrypt || state.phase !== PHASE.channel || channelRules === null || up.open)
      return o
    if (limiter !== null || shadow !== null || terms.gate[0] !== 0 || state.refused !== REASON.allow) return o
    const { cells, requests, rules } = terms.counters
    const most = Math.min(state.upMost, terms.messageBytes)
    let count = 0
    while (end - o >= AT.body) {
      const size = messageSize(buf, o)
      if (messageType(buf, o) !== MESSAGE.MSG || buf[o + 3] !== CHUNK.final) break
      if (size < AT.body || size > most || size > end - o || u32(buf, o + AT.channel) !== channel) break
      count++
      o += size
    }
    cells[requests + FUNCTION.encrypted * VERDICTS] += count
    if (channelRules.hidden >= 0) cells[rules + channelRules.hidden * 3] += count
    return o
  }

  /** A chunk of a request in clear. */
  plainRequest(buf: Uint8Array, o: number, here: number, size: number): number {
    const { state } = this
    const { up } = state
    const chunk = buf[o + 3]
    if (state.mode === MODE.none && !state.isToken(buf, o)) {
      return this.refusals.refuse(up, here - o, REASON.state, 'token id', CONNECTION_STATUS.badSecurityChecksFailed)
    }
    if (chunk !== CHUNK.final && chunk !== CHUNK.intermediate && chunk !== CHUNK.abort) {
      return this.refusals.malformed(up, here - o, `chunk type ${chunk}`)
    }
    const first = !up.open
    // On a channel that cannot be answered, requests over a limit wait: before anything of the chunk is noted.
    const waits = first && state.mode === MODE.sign && state.limiter !== null && !state.terms.monitor
    if (waits && !state.limiter?.acquire(state.clock.us, false)) {
      this.relay.pacing = true
      return FATE.hold
    }
    const before = up.sequence
    const sequence = u32(buf, o + AT.sequence)
    if (!up.take(sequence)) {
      if (waits) state.limiter?.release()
      const detail = `sequence number ${sequence} behind ${before}`
      return this.refusals.refuse(up, here - o, REASON.state, detail, CONNECTION_STATUS.badSequenceNumberInvalid)
    }
    const request = u32(buf, o + AT.request)
    if (first) {
      state.doubted = -1
      up.request = request
      up.chunks = 0
      up.bytes = 0
      if (chunk === CHUNK.abort) {
        if (waits) state.limiter?.release()
        return this.refusals.malformed(up, here - o, 'the abort of no message')
      }
    } else if (request !== up.request) {
      return this.refusals.malformed(up, here - o, 'chunks of two messages are interleaved')
    }
    const fits = this.refusals.withinLimits(up, size)
    if (state.shadow !== null) {
      const fn = first
        ? functionOfRequest(typeIdAt(buf, o + AT.body, Math.min(here, o + size - state.signature)))
        : up.fn
      state.shadow.sized(up.chunks, up.bytes, fits, fn, this.records)
    }
    if (!fits) {
      if (waits) state.limiter?.release()
      return this.refusals.tooLarge(up, here - o)
    }
    up.open = chunk === CHUNK.intermediate
    let fate = up.fate
    if (first) {
      const typeId = typeIdAt(buf, o + AT.body, Math.min(here, o + size - state.signature))
      up.fn = functionOfRequest(typeId)
      fate = this.decide(buf, o, here, size, typeId, waits)
      // The message's further chunks share its fate.
      up.fate = fate
    } else if (chunk === CHUNK.abort) fate = this.aborted(fate)
    if (fate === FATE.pass && state.mode === MODE.none) up.number(buf, o + AT.sequence)
    return fate
  }

  /** The client takes its message back, whose chunks so far have had this fate. */
  private aborted(fate: number): number {
    const { state } = this
    const { up } = state
    if (fate === FATE.gather) {
      // None of it has gone on, so neither does its abort; on a signed channel all of it has to.
      if (state.mode === MODE.none && !state.through) {
        up.release()
        // Its numbers are missing from here on.
        up.renumbering = true
        return FATE.swallow
      }
      this.forwardGathered()
      return FATE.pass
    }
    if (fate === FATE.pass) this.records.forget(state.outstanding.find(up.request))
    return fate
  }

  private forwardGathered(): void {
    const { up } = this.state
    this.relay.forward(up, up.gathered, 0, up.gatheredLength)
    up.release()
  }

  /**
   * The first chunk of a request in clear.
   * @param counted whether the limits have counted it already
   */
  private decide(buf: Uint8Array, o: number, here: number, size: number, typeId: number, counted: boolean): number {
    const { state } = this
    const { up, context, exchanges, shadow } = state
    const { table } = state.channelRules as ChannelRules
    const uncount = (fate: number): number => {
      if (counted && fate !== FATE.pass && fate !== FATE.gather) state.limiter?.release()
      return fate
    }
    if (typeId === SHORT_TYPE_ID) return uncount(this.refusals.malformed(up, here - o, 'the type id is cut off'))
    const shut = this.shut(typeId, buf, o, here)
    if (shut !== FATE.pass) return uncount(shut)
    const verdict = table.service(typeId)
    const end = Math.min(here, o + size - state.signature)
    const whole = here - o === size && !up.open
    const needed = exchanges !== null && context !== null && exchanges.needsRequest(verdict, typeId, context)
    if (context !== null && (needed || shadow?.needsBody(typeId) === true)) {
      // All of it is at hand: where it may go on as it is, it is not copied.
      if (whole && table.decide(buf, o + AT.body, end, context) === REASON.allow) {
        shadow?.judge(typeId, buf, o + AT.body, end, true, context)
        const fate = this.admitWhole(buf, o + AT.body, end, REASON.allow, counted)
        if (fate === FATE.pass) this.identify(buf, o + AT.body, end)
        return uncount(fate)
      }
      this.countedEarly = counted
      return FATE.gather
    }
    shadow?.judge(typeId, buf, o + AT.body, end, whole, context)
    if (verdict !== REASON.allow) return uncount(this.denyService(buf, o, end, typeId))
    const fate = this.admit(buf, o, end, counted)
    if (fate === FATE.pass && whole) this.identify(buf, o + AT.body, end)
    return uncount(fate)
  }

  /** Tells the shadow policy what becomes of the request that it has judged, or would where the conduit enforces. */
  private settle(verdict: number): void {
    const { shadow, channelRules } = this.state
    if (shadow !== null && channelRules !== null) shadow.settle(verdict, channelRules.table.denials, this.records)
  }

  /** Notes for the records what a session is called, and who says that it is theirs. The password is not looked at. */
  private identify(buf: Uint8Array, at: number, end: number): void {
    const { state } = this
    const { fn } = state.up
    if (fn === CREATE_SESSION) state.sessionName = shown(readCreateRequest(buf, at, end)?.sessionName)
    else if (fn === ACTIVATE_SESSION) state.userName = shown(readActivateRequest(buf, at, end)?.user.userName)
  }

  /** A service that the rules do not allow. @param end of what is there of its body */
  private denyService(buf: Uint8Array, o: number, end: number, typeId: number): number {
    const { state } = this
    const rules = state.channelRules as ChannelRules
    const { table } = rules
    const { rule } = table
    const fn = functionOfRequest(typeId)
    let reason: number = REASON.service
    let detail = table.explain(reason, rule, typeId)
    if (fn === FUNCTION.unknown) detail = typeId === NO_TYPE_ID ? 'no service of namespace 0' : `no service: ${typeId}`
    else if (rules.elsewhere(typeId)) {
      reason = REASON.security
      detail = rules.discoveryOnly
        ? 'None is for discovery alone'
        : 'allowed on a channel of other security or with another certificate'
      this.records.downgrade(`${functionLabel(fn)} on a channel of the mode ${CHANNEL_MODES[state.mode]}`)
    }
    this.settle(reason)
    const fate = this.denyRequest(buf, o, end, reason, rule, fn, detail)
    return fate === FATE.pass ? this.note(fn, state.clock.us) : fate
  }

  /**
   * A request that the rules allow, all or some of it.
   * @param end of what is there of its body
   * @param counted whether the limits have counted it already
   * @param partly whether it is counted as denied
   */
  private admit(buf: Uint8Array, o: number, end: number, counted: boolean, partly = false): number {
    const { state } = this
    const { up } = state
    const { table } = state.channelRules as ChannelRules
    const { rule, wouldRule } = table
    let cell: number = REASON.allow
    if (wouldRule !== -1) {
      cell = WOULD_DENY + table.wouldReason
      this.records.reportRequest(table.wouldReason, true, wouldRule, up.fn, '', buf, o, end, table.wouldAt)
    }
    if (state.refused !== REASON.allow && cell === REASON.allow) cell = WOULD_DENY + state.refused
    let over = false
    if (!counted && state.limiter !== null && !state.limiter.acquire(state.clock.us, state.terms.monitor)) {
      const detail = 'over a limit of requests'
      // Where nothing can be answered it would wait.
      over = state.mode === MODE.none
      if (!state.terms.monitor) {
        this.settle(REASON.rate)
        return this.denyRequest(buf, o, end, REASON.rate, rule, up.fn, detail, STATUS.badTooManyOperations)
      }
      if (cell === REASON.allow) {
        cell = WOULD_DENY + REASON.rate
        this.records.reportRequest(REASON.rate, true, rule, up.fn, detail, buf, o, end, -1)
      }
    }
    if (!state.outstanding.add(up.request, up.fn, state.clock.us)) {
      if (!counted) state.limiter?.release()
      return this.refusals.malformed(up, end - o, `request id ${up.request} is in use, or too many are`)
    }
    if (state.doubted !== -1) state.outstanding.doubtNewest(state.doubted)
    state.terms.counters.cells[state.terms.counters.pending]++
    // A Publish waits for as long as nothing happens: it is not what a limit of requests in flight is meant for.
    if (up.fn === PUBLISH) state.limiter?.release()
    if (!partly) this.records.count(up.fn, cell, rule)
    if (state.shadow !== null) this.settle(over ? REASON.rate : partly ? VERDICT.partly : REASON.allow)
    return FATE.pass
  }

  /** A request that passes though it would be denied is answered like any other. */
  private note(fn: number, us: number): number {
    const { state } = this
    const { up } = state
    state.limiter?.acquire(us, true)
    if (state.outstanding.add(up.request, fn, us)) {
      if (state.doubted !== -1) state.outstanding.doubtNewest(state.doubted)
      state.terms.counters.cells[state.terms.counters.pending]++
      if (fn === PUBLISH) state.limiter?.release()
    } else state.limiter?.release()
    return FATE.pass
  }

  /** The conduit denies everything while evidence cannot be written. */
  shut(typeId: number, buf: Uint8Array, o: number, here: number): number {
    const { state } = this
    if (state.terms.gate[0] === 0 || state.terms.monitor) return FATE.pass
    const fn = state.mode > MODE.sign ? FUNCTION.encrypted : functionOfRequest(typeId)
    return this.denyRequest(buf, o, here, REASON.evidence, -1, fn, 'evidence cannot be written')
  }

  /** A chunk of a request that encryption hides. */
  hiddenRequest(buf: Uint8Array, o: number, here: number, size: number): number {
    const { state } = this
    const { up } = state
    if (!up.open) {
      if (state.limiter !== null) {
        if (!state.limiter.acquire(state.clock.us, state.terms.monitor)) {
          if (!state.terms.monitor) {
            this.relay.pacing = true
            return FATE.hold
          }
        }
        // Its answer cannot be told from others.
        state.limiter.release()
      }
      const shut = this.shut(0, buf, o, here)
      if (shut !== FATE.pass) return shut
      up.chunks = 0
      up.bytes = 0
      const rule = (state.channelRules as ChannelRules).hidden
      state.shadow?.hidden(FUNCTION.encrypted, this.records)
      this.records.count(
        FUNCTION.encrypted,
        state.refused === REASON.allow ? REASON.allow : WOULD_DENY + state.refused,
        rule,
      )
    }
    const fits = this.refusals.withinLimits(up, size)
    state.shadow?.sized(up.chunks, up.bytes, fits, FUNCTION.encrypted, this.records)
    if (!fits) return this.refusals.tooLarge(up, here - o)
    up.open = buf[o + 3] === CHUNK.intermediate
    return FATE.pass
  }

  /** A whole request: each of its items. */
  decideWhole(body: Uint8Array, at: number, end: number): void {
    const { state } = this
    const { up, exchanges, context } = state
    const { table } = state.channelRules as ChannelRules
    if (exchanges === null || context === null) return
    const counted = this.countedEarly
    // What describes the request expects a chunk's head before it.
    const o = at - AT.body
    const typeId = typeIdAt(body, at, end)
    const flat = table.service(typeId) !== VERDICT.body
    const verdict = table.decide(body, at, end, context)
    state.shadow?.judge(typeId, body, at, end, true, context)
    const partly = verdict === VERDICT.partly
    if (flat && verdict !== REASON.allow) {
      // It was gathered for the shadow policy alone.
      if (this.denyService(body, o, end, typeId) === FATE.pass) this.passNoted(body, at, end)
      else if (counted) state.limiter?.release()
      return
    }
    if (partly || verdict !== REASON.allow) {
      const reason = partly ? table.denials.reason(0) : verdict
      const { rule } = table
      const detail = verdict === REASON.malformed ? bodyFaultText(table.fault) : table.explain(reason, rule)
      const whole = !partly || state.mode !== MODE.none || state.terms.monitor
      if (whole) this.settle(partly && state.mode === MODE.none ? VERDICT.partly : reason)
      if (!whole) {
        this.records.count(up.fn, reason, rule)
        this.records.reportRequest(reason, false, rule, up.fn, detail, body, o, end, -2)
      } else if (this.denyRequest(body, o, end, reason, rule, up.fn, detail) !== FATE.pass) {
        if (counted) state.limiter?.release()
        return
      } else {
        this.note(up.fn, state.clock.us)
        this.passNoted(body, at, end)
        return
      }
    }
    const fate = this.admitWhole(body, at, end, verdict, counted)
    if (fate !== FATE.pass) {
      if (counted) state.limiter?.release()
    } else if (partly) this.relay.emit(up, exchanges.out.written())
    else {
      this.identify(body, at, end)
      this.relay.forwardWhole(up)
    }
  }

  /** A whole request that passes though it would be denied: what it brings is learnt. */
  private passNoted(body: Uint8Array, at: number, end: number): void {
    const { up, exchanges, context, channelRules } = this.state
    if (exchanges === null || context === null || channelRules === null) return
    exchanges.send(up.request, channelRules.table, REASON.allow, body, at, end, context)
    this.relay.forwardWhole(up)
  }

  /** A whole request, all or some of which (`VERDICT.partly`) the rules allow: what its answer brings is waited for. */
  private admitWhole(body: Uint8Array, at: number, end: number, verdict: number, counted: boolean): number {
    const { state } = this
    const { up, exchanges, context } = state
    const { table, inner } = state.channelRules as ChannelRules
    if (exchanges === null || context === null) return FATE.stop
    const o = at - AT.body
    const sent = exchanges.send(up.request, table, verdict, body, at, end, context)
    // What is remembered for the shadow policy alone denies nothing.
    if (sent === SEND.refuse && inner && !state.terms.monitor) {
      const { status, reason } = exchanges
      return this.denyRequest(body, o, end, reason, table.rule, up.fn, 'too much is outstanding', status)
    }
    const fate = this.admit(body, o, end, counted, verdict === VERDICT.partly)
    if (fate !== FATE.pass) exchanges.drop(up.request)
    return fate
  }

  /**
   * A request that is denied: answered on a channel in clear, else the end of the connection.
   * @param end of what is there of its chunk, or of its body
   * @param at offset of the item that is told; -1: the first, -2: the first that is denied
   * @returns `FATE.pass` where it is only noted
   */
  denyRequest(
    buf: Uint8Array,
    o: number,
    end: number,
    reason: number,
    rule: number,
    fn: number,
    detail: string,
    status: number = STATUS.badUserAccessDenied,
  ): number {
    const { state } = this
    const would = state.terms.monitor
    this.records.count(fn, would ? WOULD_DENY + reason : reason, rule)
    this.records.reportRequest(reason, would, rule, fn, detail, buf, o, end, fn === FUNCTION.encrypted ? -3 : -2)
    if (would) return FATE.pass
    if (state.mode !== MODE.none || state.phase !== PHASE.channel) {
      state.cut(
        status === STATUS.badUserAccessDenied ? CONNECTION_STATUS.badUserAccessDenied : status,
        'request denied',
      )
      return FATE.stop
    }
    const body = o + AT.body
    this.relay.answer(state.up.request, requestHandle(buf, body, end, typeIdLength(buf, body)), status)
    // The chunks behind it go the same way; a number is missing from here on.
    state.up.renumbering = true
    return state.stopped ? FATE.stop : FATE.swallow
  }
}

const MAX_SHOWN = 128

const shown = (text: string | null | undefined): string => text?.slice(0, MAX_SHOWN) ?? ''
