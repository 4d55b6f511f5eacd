/** What cannot pass, nor be left out: in enforce mode the connection ends of it; while monitoring it is noted. */
import { REASON, WOULD_DENY } from '../../reason.ts'
import { AT } from '../chunk.ts'
import { CONNECTION_STATUS } from '../errors.ts'
import { FUNCTION, functionOfRequest, REQUEST } from '../services.ts'
import { FATE, type Stream } from '../stream.ts'
import type { Records } from './records.ts'
import { type InspectState, PHASE } from './state.ts'

export class Refusals {
  private readonly state: InspectState
  private readonly records: Records

  constructor(state: InspectState, records: Records) {
    this.state = state
    this.records = records
  }

  misplaced(stream: Stream, buf: Uint8Array, o: number, here: number): number {
    const detail = `${typeText(buf, o)} out of its place`
    return this.refuse(stream, here - o, REASON.state, detail, CONNECTION_STATUS.badTcpMessageTypeInvalid)
  }

  malformed(stream: Stream, length: number, detail: string): number {
    return this.refuse(stream, length, REASON.malformed, detail, CONNECTION_STATUS.badTcpMessageTypeInvalid)
  }

  /** Counts a chunk of a message. @returns whether the message may still be of that size */
  withinLimits(stream: Stream, size: number): boolean {
    const { terms } = this.state
    stream.chunks++
    stream.bytes += size - AT.body
    return stream.chunks <= terms.chunks && stream.bytes <= terms.messageBytes
  }

  tooLarge(stream: Stream, length: number): number {
    const { chunks, messageBytes } = this.state.terms
    stream.fate = FATE.pass
    const detail = `a message of more than ${messageBytes} bytes or ${chunks} chunks`
    return this.refuse(stream, length, REASON.rate, detail, CONNECTION_STATUS.badTcpMessageTooLarge)
  }

  /** A message that cannot pass, nor be left out: the connection ends. @returns `FATE.pass` where it is only noted */
  refuse(stream: Stream, length: number, reason: number, detail: string, status: number): number {
    const { state } = this
    const would = state.terms.monitor
    const cell = would ? WOULD_DENY + reason : reason
    if (stream.up) this.records.count(FUNCTION.unknown, cell, -1)
    else state.terms.counters.cells[state.terms.counters.responses + cell]++
    const kind = stream.up ? 'request' : 'response'
    this.records.report(kind, reason, would, -1, FUNCTION.unknown, detail, () => ({ length }))
    if (would) return FATE.pass
    state.cut(status, detail)
    return FATE.stop
  }

  /** The channel itself is not allowed. @returns true where that is only noted */
  refuseChannel(reason: number, detail: string, status: number): boolean {
    const { state } = this
    const would = state.terms.monitor
    if (state.refused === REASON.allow || !would) {
      const fn = functionOfRequest(REQUEST.OpenSecureChannel)
      this.records.report('channel', reason, would, -1, fn, detail, null)
      if (state.phase >= PHASE.open) this.records.count(fn, would ? WOULD_DENY + reason : reason, -1)
    }
    state.refused = reason
    if (would) return true
    state.cut(status, detail)
    return false
  }
}

export const typeText = (buf: Uint8Array, o: number): string => String.fromCharCode(buf[o], buf[o + 1], buf[o + 2])
