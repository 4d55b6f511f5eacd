/**
 * The gateway as the server of its client: connection, secure channel, renewal of its tokens (OPC 10000-6 §7.1,
 * OPC 10000-4 §5.6.2). Who the client is comes before any RSA operation, and so does how often it has asked.
 */
import { randomBytes } from 'node:crypto'
import { REASON } from '../../reason.ts'
import { CHUNK, MAX_HELLO, MESSAGE, u32 } from '../chunk.ts'
import type { ChannelFacts } from '../objections.ts'
import { type Certificate, readCertificate, splitChain } from '../security/certificate.ts'
import {
  MAX_OPEN_CHUNK,
  type OpenBody,
  type OpenHeader,
  openAsymmetric,
  readOpenHeader,
  SEQUENCE_HEADER,
  sealOpen,
} from '../security/open-chunk.ts'
import { policyByUri, SECURITY_MODE, type SecurityModeValue, type SecurityPolicy } from '../security/policies.ts'
import {
  DEPRECATED_POLICIES,
  OPCUA_SECURITY_MODES,
  type OpcUaSecurityMode,
  type OpcUaSecurityPolicy,
} from '../security.ts'
import { MODE } from '../terms.ts'
import { Channel, isSecured, MAX_CHUNK } from './channel.ts'
import { ChunkReader, type ChunkSink } from './chunk-reader.ts'
import {
  type ClientHello,
  type Hello,
  type OpenRequest,
  readHello,
  readOpenRequest,
  writeHello,
  writeOpenResponse,
} from './messages.ts'
import type { OpenGuard } from './open-guard.ts'
import { STATUS_CODE } from './status.ts'
import type { TerminateTerms } from './terms.ts'

/** Lifetimes of tokens that are granted, in milliseconds. */
const LEAST_LIFETIME = 1000
const GREATEST_LIFETIME = 3_600_000

export interface FrontOwner {
  readonly terms: TerminateTerms
  readonly guard: OpenGuard
  /** The client's address. */
  readonly peer: string
  toClient(bytes: Uint8Array, from: number, to: number): void
  ms(): number
  /** Whether a rule is for clients with this certificate. */
  knowsCertificate(thumbprint: string): boolean
  onHello(hello: ClientHello): void
  /** A client that may open this channel asks for it: `grant` is owed. */
  onOpenRequest(lifetime: number): void
  /** One chunk of a request, opened in `channel`. @returns false where no more are wanted */
  onRequest(final: number): boolean
  /** The client closes its channel. */
  onClose(): void
  rejectClient(der: Uint8Array): void
  /** The client must be cut. @param status that it is told, @param reason of `REASON` */
  onRefusal(status: number, reason: number, why: string): void
  /** The same in monitor mode, where it goes on. */
  onWouldRefuse(why: string): void
}

type Phase = 'hello' | 'greeted' | 'acknowledged' | 'opening' | 'open' | 'over'

/** What a client is told of every failure of security: which it was, the records say. */
const DENIED = STATUS_CODE.BadSecurityChecksFailed

export class Front implements ChunkSink {
  readonly channel = new Channel()
  phase: Phase = 'hello'
  /** What is known of the client's channel, before there is one as well. */
  readonly facts: ChannelFacts = {
    endpointUrl: '',
    reversed: false,
    policy: null,
    mode: MODE.undecided,
    certificate: '',
    serverCertificate: '',
  }
  private readonly owner: FrontOwner
  private readonly reader = new ChunkReader(this)
  private receiveSize = MAX_CHUNK
  /** The request that waits for its grant. */
  private asked: { requestId: number; request: OpenRequest } | null = null
  private tokenId = 0

  constructor(owner: FrontOwner) {
    this.owner = owner
  }

  get held(): number {
    return this.reader.held
  }

  feed(buf: Uint8Array, start: number, end: number): void {
    if (this.phase !== 'over') this.reader.feed(buf, start, end)
  }

  /** Nothing more is read. */
  end(): void {
    this.phase = 'over'
    this.reader.reset()
  }

  get modeName(): OpcUaSecurityMode {
    return OPCUA_SECURITY_MODES[this.channel.mode - 1]
  }

  /** Answers Hello. @param receive the largest chunk that is taken, @param send the largest that is sent */
  acknowledge(hello: Hello): void {
    this.receiveSize = hello.receiveBuffer
    this.channel.sendSize = hello.sendBuffer
    this.phase = 'acknowledged'
    const message = writeHello(hello, null)
    this.owner.toClient(message, 0, message.length)
  }

  // ---------------------------------------------------------------------------------------------------------- sink

  most(type: number): number {
    switch (this.phase) {
      case 'hello':
        return type === MESSAGE.HEL ? MAX_HELLO : 0
      case 'acknowledged':
        return type === MESSAGE.OPN ? MAX_OPEN_CHUNK : 0
      case 'open':
        return type === MESSAGE.OPN ? MAX_OPEN_CHUNK : isSecured(type) ? this.receiveSize : 0
      default:
        return 0
    }
  }

  onChunk(type: number, buf: Uint8Array, start: number, end: number): boolean {
    if (type === MESSAGE.HEL) this.takeHello(buf, start, end)
    else if (type === MESSAGE.OPN) this.takeOpen(buf, start, end)
    else return this.takeChunk(type, buf, start, end)
    return this.phase !== 'over'
  }

  onBadChunk(tooLarge: boolean): void {
    if (tooLarge) this.refuse(STATUS_CODE.BadTcpMessageTooLarge, REASON.malformed, 'a chunk is larger than was agreed')
    else this.refuse(STATUS_CODE.BadTcpMessageTypeInvalid, REASON.malformed, 'a message that may not come now')
  }

  private refuse(status: number, reason: number, why: string): void {
    if (this.phase === 'over') return
    this.owner.onRefusal(status, reason, why)
  }

  private takeHello(buf: Uint8Array, start: number, end: number): void {
    const hello = readHello(buf, start, end, true)
    if (hello === null) {
      this.refuse(STATUS_CODE.BadConnectionRejected, REASON.malformed, 'a malformed Hello')
      return
    }
    this.facts.endpointUrl = hello.endpointUrl
    const { endpointUrls } = this.owner.terms
    if (endpointUrls !== null && !endpointUrls.has(hello.endpointUrl)) {
      this.refuse(STATUS_CODE.BadTcpEndpointUrlInvalid, REASON.security, `endpoint URL ${hello.endpointUrl}`)
      return
    }
    this.phase = 'greeted'
    this.owner.onHello(hello)
  }

  private takeChunk(type: number, buf: Uint8Array, start: number, end: number): boolean {
    const { channel } = this
    if (!channel.open(buf, start, end, this.owner.ms())) {
      this.refuse(DENIED, REASON.security, `a message is refused: ${channel.refusal}`)
      return false
    }
    if (type === MESSAGE.CLO) {
      this.owner.onClose()
      return false
    }
    return this.owner.onRequest(buf[start + 3])
  }

  // ------------------------------------------------------------------------------------------------------- opening

  private takeOpen(buf: Uint8Array, start: number, end: number): void {
    const header = readOpenHeader(buf, start, end)
    if (header === null || buf[start + 3] !== CHUNK.final) {
      this.refuse(DENIED, REASON.malformed, 'a malformed OPN')
      return
    }
    const policy = policyByUri(header.policyUri)
    if (policy === undefined) {
      this.refuse(STATUS_CODE.BadSecurityPolicyRejected, REASON.security, `security policy ${shown(header.policyUri)}`)
      return
    }
    const { channel } = this
    const renews = channel.isOpen
    if (renews && (policy !== channel.policy || header.channelId !== channel.id)) {
      this.refuse(DENIED, REASON.security, 'a renewal of another channel, or with another security policy')
      return
    }
    if (!renews && !this.mayUse(policy.name)) return
    const peer = this.identify(policy, header)
    if (peer === undefined) return
    const opened = peer === null ? clear(buf, header.end, end) : this.unseal(policy, peer, buf, start, header, end)
    if (opened === null) return
    if (!channel.takeSequence(opened.sequence)) {
      this.refuse(DENIED, REASON.security, 'sequence number of the OPN')
      return
    }
    const request = readOpenRequest(opened.body)
    if (request === null || request.renew !== renews) {
      this.refuse(DENIED, REASON.malformed, 'a malformed OpenSecureChannel request')
      return
    }
    if (!this.agrees(policy, request, renews)) return
    if (!renews) {
      channel.policy = policy
      channel.mode = request.mode as SecurityModeValue
      channel.peer = peer
    }
    this.asked = { requestId: opened.requestId, request }
    const lifetime = Math.min(GREATEST_LIFETIME, Math.max(LEAST_LIFETIME, request.lifetime))
    if (renews) this.grant(lifetime)
    else {
      this.phase = 'opening'
      this.owner.onOpenRequest(lifetime)
    }
  }

  private mayUse(name: OpcUaSecurityPolicy): boolean {
    const { terms } = this.owner
    this.facts.policy = name
    // None is there for discovery, which the rules see to.
    if (name === 'None' || terms.securityPolicies.has(name)) return true
    if (terms.monitor && !DEPRECATED_POLICIES.includes(name)) {
      this.owner.onWouldRefuse(`security policy ${name}`)
      return true
    }
    this.refuse(STATUS_CODE.BadSecurityPolicyRejected, REASON.security, `security policy ${name}`)
    return false
  }

  /** The client's certificate, judged; null with None; undefined where the client was refused. */
  private identify(policy: SecurityPolicy, header: OpenHeader): Certificate | null | undefined {
    const { owner, channel } = this
    const { own, clients } = owner.terms
    if (policy.name === 'None') return null
    if (Buffer.compare(header.thumbprint, own.certificate.thumbprint) !== 0) {
      this.refuse(DENIED, REASON.security, 'encrypted to another certificate than the present one of the gateway')
      return undefined
    }
    const ders = splitChain(header.certificates)
    const known = channel.peer
    if (known !== null && (ders === null || Buffer.compare(ders[0], known.der) !== 0)) {
      this.refuse(DENIED, REASON.security, 'a renewal with another certificate')
      return undefined
    }
    const chain = known === null ? (ders ?? []).map((der) => readCertificate(der)) : [known, ...channel.chain]
    const [leaf] = chain
    if (!leaf || chain.includes(null)) {
      this.refuse(DENIED, REASON.security, 'a certificate that cannot be read')
      return undefined
    }
    const sent = chain.slice(1) as Certificate[]
    const status = clients.judge(leaf, sent, policy, Date.now())
    if (status !== 'Good') {
      if (status === 'BadCertificateUntrusted' || status === 'BadCertificateChainIncomplete')
        owner.rejectClient(leaf.der)
      this.refuse(DENIED, REASON.security, `client certificate ${leaf.thumbprintHex}: ${status}`)
      return undefined
    }
    this.facts.certificate = leaf.thumbprintHex
    if (!owner.knowsCertificate(leaf.thumbprintHex)) {
      this.refuse(DENIED, REASON.security, `no rule for client certificate ${leaf.thumbprintHex}`)
      return undefined
    }
    channel.chain = sent
    return leaf
  }

  private unseal(
    policy: SecurityPolicy,
    peer: Certificate,
    buf: Uint8Array,
    start: number,
    header: OpenHeader,
    end: number,
  ): OpenBody | null {
    const { owner } = this
    if (!owner.guard.allows(owner.peer, owner.ms())) {
      this.refuse(STATUS_CODE.BadTcpServerTooBusy, REASON.rate, 'too many key exchanges')
      return null
    }
    const opened = openAsymmetric(policy, owner.terms.own.key, peer.key, buf, start, header.end, end)
    if (opened === null) this.refuse(DENIED, REASON.security, 'the OPN is not genuine')
    return opened
  }

  private agrees(policy: SecurityPolicy, { mode, nonce }: OpenRequest, renews: boolean): boolean {
    const { owner, channel } = this
    const secured = policy.name !== 'None'
    const modes: number[] = secured ? [SECURITY_MODE.Sign, SECURITY_MODE.SignAndEncrypt] : [SECURITY_MODE.None]
    if (!modes.includes(mode) || (renews && mode !== channel.mode)) {
      this.refuse(
        STATUS_CODE.BadSecurityModeRejected,
        REASON.security,
        `message security mode ${mode} with ${policy.name}`,
      )
      return false
    }
    if (secured && (nonce.length !== policy.nonceBytes || !owner.guard.isFresh(nonce))) {
      this.refuse(DENIED, REASON.security, 'a nonce of the wrong length, or one that was used before')
      return false
    }
    const name = OPCUA_SECURITY_MODES[mode - 1]
    if (!renews) this.facts.mode = mode - 1
    if (!secured || renews || owner.terms.securityModes.has(name)) return true
    if (owner.terms.monitor) {
      owner.onWouldRefuse(`message security mode ${name}`)
      return true
    }
    this.refuse(STATUS_CODE.BadSecurityModeRejected, REASON.security, `message security mode ${name}`)
    return false
  }

  /** Gives the client the token that it has asked for. @param lifetime in milliseconds */
  grant(lifetime: number): void {
    const { asked, channel, owner } = this
    if (asked === null) return
    this.asked = null
    const { requestId, request } = asked
    const first = !channel.isOpen
    if (first) {
      channel.id = (randomBytes(4).readUInt32LE() >>> 1) + 1
      this.tokenId = randomBytes(2).readUInt16LE()
    }
    const nonce = randomBytes(channel.policy.nonceBytes)
    channel.addToken(++this.tokenId, nonce, request.nonce, owner.ms(), lifetime, false)
    const response = { channelId: channel.id, tokenId: this.tokenId, lifetime, nonce }
    const body = writeOpenResponse(request.requestHandle, response, Date.now())
    const { policy, peer } = channel
    const { own } = owner.terms
    const sealing =
      peer === null
        ? null
        : { policy, certificates: own.chain, key: own.key, thumbprint: peer.thumbprint, receiver: peer.key }
    const chunk = sealOpen(channel.id, policy.uri, channel.nextSequence(), requestId, body, sealing)
    this.phase = 'open'
    owner.toClient(chunk, 0, chunk.length)
  }
}

function clear(buf: Uint8Array, from: number, end: number): OpenBody {
  return { sequence: u32(buf, from), requestId: u32(buf, from + 4), body: buf.subarray(from + SEQUENCE_HEADER, end) }
}

/** A peer's text as an event may carry it. */
const shown = (text: string): string => JSON.stringify(text.slice(0, 128))
