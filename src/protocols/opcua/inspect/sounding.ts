/**
 * Finds out whether a channel is signed or encrypted, which stands in a message that is encrypted itself. It is inferred:
 * encrypted chunks are multiples of the cipher's block, and a signed channel's first answer has a known type id in clear.
 * Until the server has answered, no more than the first message of a channel passes (decision 0012).
 */
import { REASON } from '../../reason.ts'
import { AT, CHUNK, follows, typeIdAt, u32 } from '../chunk.ts'
import { CONNECTION_STATUS } from '../errors.ts'
import { FUNCTION, functionOfRequest, isResponse } from '../services.ts'
import { FATE } from '../stream.ts'
import { MODE } from '../terms.ts'
import type { ChannelOpening } from './channel-opening.ts'
import type { Records } from './records.ts'
import type { Refusals } from './refusals.ts'
import type { Requests } from './requests.ts'
import type { Responses } from './responses.ts'
import type { InspectState } from './state.ts'

/** Bytes of the cipher's block in all policies that Headgate knows (AES-CBC). */
const BLOCK = 16

/** Whether a chunk of this size cannot be encrypted: what stands behind its token id is no number of blocks. */
const isUnaligned = (size: number): boolean => (size - AT.sequence) % BLOCK !== 0

export class Sounding {
  private readonly state: InspectState
  private readonly records: Records
  private readonly refusals: Refusals
  private readonly opening: ChannelOpening
  private readonly requests: Requests
  private readonly responses: Responses
  /** The client's first message has passed without a sign of what it is. */
  private begun = false
  /** Numbers at the places where a signed chunk has them, of the chunk before. */
  private sequence = -1
  private request = -1
  private open = false

  constructor(
    state: InspectState,
    records: Records,
    refusals: Refusals,
    opening: ChannelOpening,
    requests: Requests,
    responses: Responses,
  ) {
    this.state = state
    this.records = records
    this.refusals = refusals
    this.opening = opening
    this.requests = requests
    this.responses = responses
  }

  /** The mode is not known, and the one message has passed that may pass before it is. */
  get spent(): boolean {
    return this.state.mode === MODE.undecided && this.begun && !this.open
  }

  /** A chunk from the client while nobody knows whether the channel is signed or encrypted. */
  sound(buf: Uint8Array, o: number, here: number, size: number): number {
    const { state } = this
    if (!state.through && this.spent) return FATE.hold
    const late = this.open
    const sequence = u32(buf, o + AT.sequence)
    const request = u32(buf, o + AT.request)
    const typeId = typeIdAt(buf, o + AT.body, Math.min(here, o + size))
    const plain =
      isUnaligned(size) ||
      (!late && functionOfRequest(typeId) !== FUNCTION.unknown) ||
      (this.sequence !== -1 && follows(sequence, this.sequence)) ||
      (late && request === this.request)
    if (plain) {
      if (!this.opening.settleMode(MODE.sign)) return FATE.stop
      if (late || this.begun) {
        const fate = this.denyFirst(buf, o, here)
        if (fate !== FATE.pass) return fate
      }
      return this.requests.plainRequest(buf, o, here, size)
    }
    if (!this.mayHide()) {
      const detail = 'neither a known service nor encrypted as the policy allows it'
      const may = this.refusals.refuseChannel(REASON.security, detail, CONNECTION_STATUS.badSecurityModeRejected)
      if (!may) {
        state.shadow?.refused({ ...state.facts, mode: MODE.signAndEncrypt }, REASON.security, this.records)
        return FATE.stop
      }
    }
    const shut = late ? FATE.pass : this.requests.shut(0, buf, o, here)
    if (shut !== FATE.pass) return shut
    if (!late) {
      state.up.chunks = 0
      state.up.bytes = 0
    }
    if (!this.refusals.withinLimits(state.up, size)) return this.refusals.tooLarge(state.up, here - o)
    this.begun = true
    this.sequence = sequence
    this.request = request
    this.open = buf[o + 3] === CHUNK.intermediate
    if (!late) this.records.count(FUNCTION.encrypted, REASON.allow, -1)
    return FATE.pass
  }

  /** The first message has passed as if it were encrypted, and the channel is not. */
  private denyFirst(buf: Uint8Array, o: number, here: number): number {
    const detail = 'a first message of no service'
    return this.requests.denyRequest(buf, o, here, REASON.service, -1, FUNCTION.unknown, detail)
  }

  /** Whether an encrypted channel would be allowed. */
  private mayHide(): boolean {
    const { state } = this
    if (!state.terms.securityModes.has('SignAndEncrypt')) return false
    const { policy, certificate } = state
    return state.pair.forChannel({ policy: policy ?? 'None', mode: 'SignAndEncrypt', certificate }).hidden !== -1
  }

  /** The server's first chunks tell what the channel is. */
  answerTells(buf: Uint8Array, o: number, here: number, size: number): number {
    const typeId = typeIdAt(buf, o + AT.body, here)
    if (isUnaligned(size) || isResponse(typeId)) {
      const { begun } = this
      if (!this.opening.settleMode(MODE.sign)) return FATE.stop
      if (!begun) return this.responses.plainResponse(buf, o, here, size)
      // It has answered in clear what was no known service.
      return this.denyFirst(buf, o, here)
    }
    if (buf[o + 3] === CHUNK.abort) {
      // What it could not send says nothing; the client may try another message.
      this.begun = false
      this.open = false
      return FATE.pass
    }
    if (!this.opening.settleMode(MODE.signAndEncrypt)) return FATE.stop
    // The request that this answers has passed before anybody knew what it was.
    this.state.shadow?.hidden(FUNCTION.encrypted, this.records)
    return this.responses.hiddenResponse(buf, o)
  }
}
