/**
 * The way to a secure channel: Hello, ReverseHello, Acknowledge, OpenSecureChannel and its end, and which rules hold for
 * the channel that there is. OPC 10000-6 §6.7.4 and §7.1.2; OPC 10000-4 §5.5.
 */
import { REASON } from '../../reason.ts'
import type { ChannelRules } from '../channel-rules.ts'
import { AT, typeIdAt, u32 } from '../chunk.ts'
import { CONNECTION_STATUS } from '../errors.ts'
import {
  type ChannelFacts,
  type Objection,
  toEndpoint,
  toMode,
  toPair,
  toPolicy,
  toReverse,
  toServer,
} from '../objections.ts'
import {
  issuedToken,
  type OpenHeader,
  readAcknowledge,
  readHello,
  readOpen,
  readReverseHello,
  requestedMode,
  requestType,
} from '../opening.ts'
import { OPCUA_SECURITY_MODES, type OpcUaSecurityPolicy, policyOf } from '../security.ts'
import { FUNCTION, functionOfRequest, REQUEST, RESPONSE } from '../services.ts'
import { FATE } from '../stream.ts'
import { MODE } from '../terms.ts'
import type { Records } from './records.ts'
import type { Refusals } from './refusals.ts'
import { type InspectState, PHASE } from './state.ts'

export class ChannelOpening {
  private readonly state: InspectState
  private readonly records: Records
  private readonly refusals: Refusals
  /** An OPN of the client has not been answered. */
  renewing = false

  constructor(state: InspectState, records: Records, refusals: Refusals) {
    this.state = state
    this.records = records
    this.refusals = refusals
  }

  /** Holds the channel that there is to new rules. */
  reassess(): void {
    const { state } = this
    if (state.phase <= PHASE.acknowledge) return
    this.admit(toEndpoint(state.terms, state.endpointUrl))
    if (state.phase < PHASE.opening || state.stopped) return
    state.refused = REASON.allow
    if (!this.admitPolicy() || !this.admitServer(state.serverCertificate)) return
    if (state.mode === MODE.undecided) return
    this.settleRules()
  }

  hello(buf: Uint8Array, o: number, here: number): number {
    const { state } = this
    const hello = readHello(buf, o, here)
    if (hello === null) return this.refusals.malformed(state.up, here - o, 'Hello')
    state.endpointUrl = hello.endpointUrl
    const objection = toEndpoint(state.terms, hello.endpointUrl)
    this.records.count(FUNCTION.Hello, objection === null ? REASON.allow : REASON.security, -1)
    if (!this.admit(objection)) return FATE.stop
    if (!state.reversed && !state.rules.pair.allows && !this.admit(toPair())) return FATE.stop
    state.upMost = hello.sendBuffer
    state.downMost = hello.receiveBuffer
    state.enter(PHASE.acknowledge)
    return FATE.pass
  }

  reverseHello(buf: Uint8Array, o: number, here: number): number {
    const { state } = this
    const hello = readReverseHello(buf, o, here)
    if (hello === null) return this.refusals.malformed(state.up, here - o, 'ReverseHello')
    state.endpointUrl = hello.endpointUrl
    const objection = state.rules.reverse === null ? toReverse() : toEndpoint(state.terms, hello.endpointUrl)
    this.records.count(FUNCTION.ReverseHello, objection === null ? REASON.allow : REASON.security, -1)
    if (!this.admit(objection, { ...state.facts, reversed: true })) return FATE.stop
    state.turning = true
    state.enter(PHASE.hello)
    return FATE.pass
  }

  acknowledge(buf: Uint8Array, o: number, here: number): number {
    const { state } = this
    const answer = readAcknowledge(buf, o, here)
    if (answer === null) return this.refusals.malformed(state.down, here - o, 'Acknowledge')
    // The server revises what the client has offered, downwards (OPC 10000-6 §7.1.2.4).
    state.upMost = Math.min(state.upMost, answer.receiveBuffer)
    state.downMost = Math.min(state.downMost, answer.sendBuffer)
    state.enter(PHASE.open)
    return FATE.pass
  }

  openRequest(buf: Uint8Array, o: number, here: number): number {
    const { state } = this
    const header = readOpen(buf, o, here)
    if (header === null) return this.refusals.malformed(state.up, here - o, 'OpenSecureChannel')
    const policy = policyOf(header.policyUri)
    if (state.phase === PHASE.channel) {
      if (header.channel !== state.channel || policy !== state.policy || header.sender !== state.certificate) {
        const detail = 'a renewal with another channel, policy or certificate'
        const status = CONNECTION_STATUS.badSecurityChecksFailed
        return this.refusals.refuse(state.up, here - o, REASON.state, detail, status)
      }
    } else {
      state.policy = policy
      state.certificate = header.sender
      state.mode = policy === 'None' ? MODE.none : MODE.undecided
      if (policy === null) {
        const detail = `security policy ${header.policyUri.slice(0, 128)}, which Headgate does not know`
        const status = CONNECTION_STATUS.badSecurityPolicyRejected
        if (!this.refusals.refuseChannel(REASON.security, detail, status)) return FATE.stop
      }
      if (!this.admitPolicy() || !this.admitServer(header.receiver)) return FATE.stop
    }
    if ((policy === 'None') !== (header.sender === '')) {
      return this.refusals.malformed(
        state.up,
        here - o,
        'a certificate without a security policy, or the other way round',
      )
    }
    if (policy === 'None' && !this.openInClear(buf, o, here, header)) return FATE.stop
    if (state.terms.gate[0] !== 0 && !state.terms.monitor) {
      const status = CONNECTION_STATUS.badUserAccessDenied
      return this.refusals.refuse(state.up, here - o, REASON.evidence, 'evidence cannot be written', status)
    }
    this.records.count(functionOfRequest(REQUEST.OpenSecureChannel), REASON.allow, -1)
    this.renewing = true
    if (state.phase === PHASE.open) state.enter(PHASE.opening)
    return FATE.pass
  }

  /** The body of an OPN request on a channel in clear. @returns whether it may pass */
  private openInClear(buf: Uint8Array, o: number, here: number, header: OpenHeader): boolean {
    const { up } = this.state
    const body = header.sequenceAt + 8
    const may = up.take(u32(buf, header.sequenceAt))
    let detail = may ? '' : 'sequence number'
    if (typeIdAt(buf, body, here) !== REQUEST.OpenSecureChannel || buf[body] !== 1) detail = 'OpenSecureChannel'
    else if (requestedMode(buf, body, here) !== 1) detail = 'a security mode other than None with the policy None'
    else if (requestType(buf, body, here) !== (this.state.phase === PHASE.channel ? 1 : 0)) detail = 'request type'
    if (detail !== '' && this.refusals.malformed(up, here - o, detail) !== FATE.pass) return false
    up.number(buf, header.sequenceAt)
    return true
  }

  openResponse(buf: Uint8Array, o: number, here: number): number {
    const { state } = this
    const header = readOpen(buf, o, here)
    if (header === null) return this.refusals.malformed(state.down, here - o, 'OpenSecureChannel response')
    const first = state.phase === PHASE.opening
    if (policyOf(header.policyUri) !== state.policy || (!first && header.channel !== state.channel)) {
      return this.refusals.malformed(state.down, here - o, 'OpenSecureChannel response with another policy or channel')
    }
    if (!this.admitServer(header.sender)) return FATE.stop
    state.serverCertificate = header.sender
    if (state.policy === 'None') {
      const { down } = state
      const body = header.sequenceAt + 8
      const may = down.take(u32(buf, header.sequenceAt))
      const issued = typeIdAt(buf, body, here) === RESPONSE.OpenSecureChannel ? issuedToken(buf, body, here) : null
      if (!may || issued === null || issued.channel !== header.channel) {
        const fate = this.refusals.malformed(down, here - o, 'OpenSecureChannel response')
        if (fate !== FATE.pass) return fate
      } else {
        state.formerToken = state.token
        state.token = issued.token
      }
      down.number(buf, header.sequenceAt)
    }
    this.renewing = false
    state.terms.counters.cells[state.terms.counters.responses]++
    if (!first) return FATE.pass
    state.channel = header.channel
    state.enter(PHASE.channel)
    if (state.mode === MODE.undecided) this.records.countChannel(1)
    else if (!this.settleMode(MODE.none)) return FATE.stop
    return FATE.pass
  }

  closeRequest(buf: Uint8Array, o: number, here: number): number {
    const { state } = this
    if (u32(buf, o + AT.channel) !== state.channel) return this.refusals.misplaced(state.up, buf, o, here)
    if (state.mode === MODE.none || state.mode === MODE.sign) {
      const { up } = state
      const typeId = typeIdAt(buf, o + AT.body, here - state.signature)
      if (!up.take(u32(buf, o + AT.sequence)) || typeId !== REQUEST.CloseSecureChannel) {
        return this.refusals.malformed(up, here - o, 'CloseSecureChannel')
      }
      if (state.mode === MODE.none) up.number(buf, o + AT.sequence)
    }
    this.records.count(functionOfRequest(REQUEST.CloseSecureChannel), REASON.allow, -1)
    state.phase = PHASE.closed
    return FATE.pass
  }

  /** @returns false where the channel ends: the policy has something against it, and enforces */
  private admit(objection: Objection | null, facts: ChannelFacts = this.state.facts): boolean {
    if (objection === null) return true
    const { reason, detail, status, downgrade } = objection
    if (downgrade !== '') this.records.downgrade(downgrade)
    if (this.refusals.refuseChannel(reason, detail, status)) return true
    this.state.shadow?.refused(facts, reason, this.records)
    return false
  }

  /** The policy and the client's certificate of a channel that is asked for. @returns false where it is refused */
  private admitPolicy(): boolean {
    const { terms, pair, policy, certificate } = this.state
    return policy === null || this.admit(toPolicy(terms, pair, policy, certificate))
  }

  /** @param thumbprint of the server's certificate, as the client names it, or as the server shows it */
  private admitServer(thumbprint: string): boolean {
    const { state } = this
    const objection = toServer(state.terms, thumbprint)
    if (objection !== null) state.serverCertificate = thumbprint
    return this.admit(objection)
  }

  /** The mode is known. @returns whether the channel may go on */
  settleMode(mode: number): boolean {
    const { state } = this
    this.records.countChannel(-1)
    state.mode = mode
    state.signature = mode === MODE.sign ? signatureBytes(state.policy) : 0
    const may = this.settleRules()
    this.records.countChannel(1)
    if (may) {
      this.compare(false)
      const { first } = state.channelRules as ChannelRules
      this.records.report('opened', REASON.allow, false, first, functionOfRequest(REQUEST.OpenSecureChannel), '', null)
    }
    return may
  }

  /** Asks the shadow policy about a channel that is open. @param anew another one has been asked before */
  compare(anew: boolean): void {
    const { state } = this
    if (state.shadow === null || state.channelRules === null) return
    state.shadow.opened(state.facts, state.strictly, this.records, anew)
    state.remember()
  }

  /** The rules that hold for the channel. @returns whether they allow it at all */
  private settleRules(): boolean {
    const { state } = this
    const { policy, certificate } = state
    const mode = OPCUA_SECURITY_MODES[state.mode]
    const rules = state.pair.forChannel({ policy: policy ?? 'None', mode, certificate })
    state.channelRules = rules
    state.remember()
    state.refused = REASON.allow
    return this.admit(toMode(state.terms, rules, policy, mode))
  }
}

/** HMAC-SHA1 with the policies that were withdrawn, else HMAC-SHA256 (OPC 10000-7 §6.6). */
const signatureBytes = (policy: OpcUaSecurityPolicy | null): number =>
  policy === 'Basic128Rsa15' || policy === 'Basic256' ? 20 : 32
