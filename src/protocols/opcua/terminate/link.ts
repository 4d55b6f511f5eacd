/**
 * The gateway as a client of the server: connection, discovery of the server's certificate, secure channel, renewal of
 * its tokens (OPC 10000-6 §7.1, OPC 10000-4 §5.5.4, §5.6.2).
 */
import { randomBytes } from 'node:crypto'
import { Cursor, dateTime, Writer } from '../binary.ts'
import { CHUNK, HEADER, MESSAGE } from '../chunk.ts'
import { ResponseHeader, walkResponseHeader, writeRequestHeader } from '../headers.ts'
import { type Certificate, readCertificate, splitChain } from '../security/certificate.ts'
import { MAX_OPEN_CHUNK, openAsymmetric, readOpenHeader, type Sealing, sealOpen } from '../security/open-chunk.ts'
import { NONE, SECURITY_MODE, type SecurityModeValue, type SecurityPolicy } from '../security/policies.ts'
import { REQUEST, RESPONSE } from '../services.ts'
import { Channel, isSecured, MAX_CHUNK } from './channel.ts'
import { ChunkReader, type ChunkSink } from './chunk-reader.ts'
import { atAuthority, type Endpoint, readEndpoints } from './endpoints.ts'
import {
  type Hello,
  readError,
  readHello,
  readOpenResponse,
  writeCloseChannel,
  writeHello,
  writeOpenRequest,
} from './messages.ts'
import { STATUS_CODE, statusName } from './status.ts'
import type { Target, TerminateTerms } from './terms.ts'

/** A token is renewed when so much of its life is over (OPC 10000-4 §5.6.2.1). */
const RENEW = 0.75
/** Chunks and bytes of the server's endpoints that are read, before it is known who it is. */
const MAX_DISCOVERY = 1 << 20

export interface LinkOwner {
  readonly terms: TerminateTerms
  readonly target: Target
  toTarget(bytes: Uint8Array, from: number, to: number): void
  ms(): number
  /** The server has acknowledged: what it takes and sends. */
  onAcknowledge(acknowledge: Hello): void
  /** The secure channel is open. @param lifetimeMs of the server's token */
  onOpen(lifetimeMs: number): void
  /** One chunk of a response, opened in `channel`. @returns false where no more are wanted */
  onResponse(final: number): boolean
  redial(): void
  rejectServer(der: Uint8Array): void
  /** The server cannot be worked with. @param status for the client */
  onFailure(status: number, why: string): void
}

type Phase = 'down' | 'hello' | 'ready' | 'discovering' | 'opening' | 'open' | 'over'

export class Link implements ChunkSink {
  readonly channel = new Channel()
  phase: Phase = 'down'
  private readonly owner: LinkOwner
  private readonly reader = new ChunkReader(this)
  private hello: Hello = { receiveBuffer: MAX_CHUNK, sendBuffer: MAX_CHUNK, maxMessage: 0, maxChunks: 0 }
  private endpointUrl = ''
  private policy: SecurityPolicy = NONE
  private mode: SecurityModeValue = SECURITY_MODE.None
  private wantedLifetime = 0
  private nonce: Uint8Array = new Uint8Array(0)
  /** Of OPN and CLO: apart from those of MSG, which `Slots` gives. */
  private requestId = 0x80000000
  private renewing = false
  /** A channel of None on which the server's endpoints are asked for. */
  private scout: Channel | null = null
  private found: Uint8Array = new Uint8Array(0)

  constructor(owner: LinkOwner) {
    this.owner = owner
  }

  /** Milliseconds of a chunk that is not whole: 0 where there is none. */
  get held(): number {
    return this.reader.held
  }

  /** Says Hello; the answer is `onAcknowledge`. @param endpointUrl as the client has it */
  greet(hello: Hello, endpointUrl: string): void {
    this.hello = hello
    this.endpointUrl = atAuthority(endpointUrl, this.owner.target.authority)
    this.sayHello()
  }

  private sayHello(): void {
    this.phase = 'hello'
    this.reader.reset()
    this.send(writeHello(this.hello, this.endpointUrl))
  }

  private send(bytes: Uint8Array): void {
    this.owner.toTarget(bytes, 0, bytes.length)
  }

  feed(buf: Uint8Array, start: number, end: number): void {
    if (this.phase !== 'over' && this.phase !== 'down') this.reader.feed(buf, start, end)
  }

  // ------------------------------------------------------------------------------------------------------- opening

  /** Opens a channel of that security; the answer is `onOpen`. */
  open(policy: SecurityPolicy, mode: SecurityModeValue, lifetime: number): void {
    this.policy = policy
    this.mode = mode
    this.wantedLifetime = lifetime
    if (this.phase === 'ready') this.begin()
  }

  private begin(): void {
    const { policy, mode, owner, channel } = this
    const { target, terms } = owner
    if (mode !== SECURITY_MODE.None) {
      if (target.certificate === null || target.endpoints === null) {
        this.discover()
        return
      }
      if (this.endpoint(target.endpoints) === undefined) {
        this.fail(STATUS_CODE.BadSecurityPolicyRejected, `the server has no endpoint of ${policy.name} and this mode`)
        return
      }
      const judged = this.judge(target.certificate, target.chain, terms)
      if (judged !== '') {
        target.certificate = null
        this.fail(STATUS_CODE.BadSecurityChecksFailed, judged)
        return
      }
    }
    channel.policy = policy
    channel.mode = mode
    channel.peer = mode === SECURITY_MODE.None ? null : target.certificate
    channel.chain = target.chain
    this.phase = 'opening'
    this.requestToken(false)
  }

  private endpoint(endpoints: readonly Endpoint[]): Endpoint | undefined {
    return endpoints.find(({ policyUri, mode }) => policyUri === this.policy.uri && mode === this.mode)
  }

  private requestToken(renew: boolean): void {
    const { channel, policy, mode } = this
    this.nonce = randomBytes(policy.nonceBytes)
    this.renewing = renew
    const request = { requestHandle: ++this.requestId, renew, mode, nonce: this.nonce, lifetime: this.wantedLifetime }
    const body = writeOpenRequest(request, Date.now())
    const sealing = this.sealing()
    this.send(sealOpen(channel.id, policy.uri, channel.nextSequence(), this.requestId, body, sealing))
  }

  private sealing(): Sealing | null {
    const { peer } = this.channel
    if (peer === null) return null
    const { chain, key } = this.owner.terms.own
    return { policy: this.policy, certificates: chain, key, thumbprint: peer.thumbprint, receiver: peer.key }
  }

  /** Why a server's certificate is not taken; '' where it is. */
  private judge(certificate: Certificate, sent: readonly Certificate[], terms: TerminateTerms): string {
    const { serverCertificates, servers } = terms
    if (serverCertificates !== null && !serverCertificates.has(certificate.thumbprintHex)) {
      return `server certificate ${certificate.thumbprintHex} is none of those that the policy names`
    }
    const status = servers.judge(certificate, sent, this.policy, Date.now())
    if (status === 'Good') return ''
    if (status === 'BadCertificateUntrusted' || status === 'BadCertificateChainIncomplete') {
      this.owner.rejectServer(certificate.der)
    }
    return `server certificate ${certificate.thumbprintHex}: ${status}`
  }

  private takeOpen(buf: Uint8Array, start: number, end: number): void {
    const scouting = this.scout !== null
    const channel = this.scout ?? this.channel
    const header = readOpenHeader(buf, start, end)
    const policy = scouting ? NONE : this.policy
    if (header === null || header.policyUri !== policy.uri) {
      this.fail(STATUS_CODE.BadSecurityChecksFailed, 'an OPN of another security policy, or malformed')
      return
    }
    let body: Uint8Array
    let sequence: number
    if (channel.peer === null) {
      const view = new Cursor().open(buf, header.end, end)
      sequence = view.u32()
      body = buf.subarray(header.end + 8, end)
    } else {
      const leaf = splitChain(header.certificates)?.[0]
      const { own } = this.owner.terms
      const same = leaf !== undefined && Buffer.compare(leaf, channel.peer.der) === 0
      const opened =
        same && Buffer.compare(header.thumbprint, own.certificate.thumbprint) === 0
          ? openAsymmetric(policy, own.key, channel.peer.key, buf, start, header.end, end)
          : null
      if (opened === null) {
        this.owner.target.certificate = null
        this.fail(STATUS_CODE.BadSecurityChecksFailed, same ? 'the OPN response is not genuine' : 'another certificate')
        return
      }
      body = opened.body
      sequence = opened.sequence
    }
    if (!channel.takeSequence(sequence)) {
      this.fail(STATUS_CODE.BadSecurityChecksFailed, 'sequence number of the OPN response')
      return
    }
    const response = readOpenResponse(body)
    if (response === null || typeof response === 'number') {
      this.owner.target.certificate = null
      const why =
        response === null ? 'malformed OPN response' : `the server refuses the channel: ${statusName(response)}`
      this.fail(response ?? STATUS_CODE.BadSecurityChecksFailed, why)
      return
    }
    const nonceBytes = scouting || this.mode === SECURITY_MODE.None ? 0 : policy.nonceBytes
    if (nonceBytes > 0 && response.nonce.length !== nonceBytes) {
      this.fail(STATUS_CODE.BadSecurityChecksFailed, 'length of the nonce')
      return
    }
    if (this.renewing && response.channelId !== channel.id) {
      this.fail(STATUS_CODE.BadSecurityChecksFailed, 'another channel in the renewal')
      return
    }
    channel.id = response.channelId
    channel.addToken(
      response.tokenId,
      this.nonce,
      response.nonce,
      this.owner.ms(),
      Math.max(1000, response.lifetime),
      true,
    )
    if (scouting) this.askEndpoints(channel)
    else if (this.renewing) this.renewing = false
    else {
      this.phase = 'open'
      this.owner.onOpen(response.lifetime)
    }
  }

  /** Renews the token when it is due. @returns milliseconds until it is */
  renewal(ms: number): number {
    const token = this.channel.newest
    if (this.phase !== 'open' || token === undefined) return 1000
    const due = RENEW * token.lifetimeMs - ((ms - token.sinceMs) | 0)
    if (due > 0) return due
    if (!this.renewing) this.requestToken(true)
    else if (this.channel.expires(ms) === 0)
      this.fail(STATUS_CODE.BadConnectionClosed, 'the server does not renew the token')
    return 1000
  }

  // ----------------------------------------------------------------------------------------------------- discovery

  /** Asks the server, without security, who it is; what it says is held against the trust list (§5.5.4). */
  private discover(): void {
    this.phase = 'discovering'
    this.scout = new Channel()
    this.scout.sendSize = this.channel.sendSize
    this.found = new Uint8Array(0)
    this.nonce = new Uint8Array(0)
    this.renewing = false
    const request = { requestHandle: 1, renew: false, mode: SECURITY_MODE.None, nonce: this.nonce, lifetime: 60_000 }
    const body = writeOpenRequest(request, Date.now())
    this.send(sealOpen(0, NONE.uri, this.scout.nextSequence(), 1, body, null))
  }

  private askEndpoints(scout: Channel): void {
    const writer = new Writer().numericNodeId(0, REQUEST.GetEndpoints)
    writeRequestHeader(writer, null, 2, dateTime(Date.now()), 10_000)
    writer.string(this.endpointUrl).i32(-1).i32(-1)
    const body = writer.written()
    const end = scout.seal(MESSAGE.MSG, CHUNK.final, 2, body, 0, body.length)
    this.owner.toTarget(scout.chunk, 0, end)
  }

  private takeEndpoints(scout: Channel, final: number): void {
    const { plain, bodyStart, bodyEnd } = scout
    if (scout.requestId !== 2 || final === CHUNK.abort || this.found.length + bodyEnd - bodyStart > MAX_DISCOVERY) {
      this.fail(STATUS_CODE.BadServerNotConnected, 'the server does not tell its endpoints')
      return
    }
    this.found = Buffer.concat([this.found, plain.subarray(bodyStart, bodyEnd)])
    if (final !== CHUNK.final) return
    const why = this.learn(this.found)
    if (why !== '') {
      this.fail(STATUS_CODE.BadSecurityChecksFailed, why)
      return
    }
    const close = writeCloseChannel(3, Date.now())
    const end = scout.seal(MESSAGE.CLO, CHUNK.final, 3, close, 0, close.length)
    this.owner.toTarget(scout.chunk, 0, end)
    this.scout = null
    this.owner.redial()
    this.sayHello()
  }

  /** Takes the server's endpoints and certificate over into the target. @returns why not; '' where they are good */
  private learn(message: Uint8Array): string {
    const cursor = new Cursor().open(message, 0, message.length)
    const header = new ResponseHeader()
    const type = cursor.typeId()
    walkResponseHeader(cursor, header)
    if (type !== RESPONSE.GetEndpoints) return `the server refuses GetEndpoints: ${statusName(header.serviceResult)}`
    const endpoints = readEndpoints(cursor)
    if (!cursor.finish()) return "the server's endpoints are malformed"
    const endpoint = this.endpoint(endpoints)
    if (endpoint === undefined) return `the server has no endpoint of ${this.policy.name} and this mode`
    const certificates = (splitChain(endpoint.certificate) ?? []).map((der) => readCertificate(der))
    const [leaf] = certificates
    if (!leaf) return "the server's certificate cannot be read"
    const sent = certificates.filter((certificate) => certificate !== null).slice(1)
    const judged = this.judge(leaf, sent, this.owner.terms)
    if (judged !== '') return judged
    const uri = endpoint.server.applicationUri
    if (uri === null || !leaf.uris.includes(uri)) {
      return `server certificate ${leaf.thumbprintHex}: BadCertificateUriInvalid (the server says ${uri}, its certificate ${leaf.uris.join(' ') || 'none'})`
    }
    this.owner.target.certificate = leaf
    this.owner.target.chain = sent
    this.owner.target.endpoints = endpoints
    return ''
  }

  // ---------------------------------------------------------------------------------------------------------- sink

  most(type: number): number {
    if (type === MESSAGE.ERR) return HEADER + 8 + 4096
    switch (this.phase) {
      case 'hello':
        return type === MESSAGE.ACK ? HEADER + 20 : 0
      case 'discovering':
        return type === MESSAGE.OPN || type === MESSAGE.MSG ? this.hello.receiveBuffer : 0
      case 'opening':
        return type === MESSAGE.OPN ? MAX_OPEN_CHUNK : 0
      case 'open':
        return type === MESSAGE.OPN ? MAX_OPEN_CHUNK : isSecured(type) ? this.hello.receiveBuffer : 0
      default:
        return 0
    }
  }

  onChunk(type: number, buf: Uint8Array, start: number, end: number): boolean {
    switch (type) {
      case MESSAGE.ACK:
        this.takeAcknowledge(buf, start, end)
        break
      case MESSAGE.ERR: {
        const { status, reason } = readError(buf, start, end)
        this.fail(status, `the server ends the connection: ${statusName(status)}${reason === '' ? '' : `, ${reason}`}`)
        break
      }
      case MESSAGE.OPN:
        if (this.phase === 'open' && !this.renewing) {
          this.fail(STATUS_CODE.BadSecurityChecksFailed, 'an OPN response that nobody has asked for')
        } else this.takeOpen(buf, start, end)
        break
      default:
        return this.takeChunk(type, buf, start, end)
    }
    return this.phase !== 'over' && this.phase !== 'down'
  }

  private takeAcknowledge(buf: Uint8Array, start: number, end: number): void {
    const acknowledge = readHello(buf, start, end, false)
    if (acknowledge === null) {
      this.fail(STATUS_CODE.BadConnectionRejected, "the server's Acknowledge is malformed")
      return
    }
    this.phase = 'ready'
    this.channel.sendSize = Math.min(this.hello.sendBuffer, acknowledge.receiveBuffer)
    if (this.wantedLifetime > 0) this.begin()
    else this.owner.onAcknowledge(acknowledge)
  }

  private takeChunk(type: number, buf: Uint8Array, start: number, end: number): boolean {
    const channel = this.scout ?? this.channel
    if (!channel.open(buf, start, end, this.owner.ms())) {
      this.fail(STATUS_CODE.BadSecurityChecksFailed, `a message of the server's is refused: ${channel.refusal}`)
      return false
    }
    if (type === MESSAGE.CLO) {
      this.fail(STATUS_CODE.BadSecureChannelClosed, 'the server has closed the secure channel')
      return false
    }
    const final = buf[start + 3]
    if (this.scout === null) return this.owner.onResponse(final)
    this.takeEndpoints(this.scout, final)
    return this.phase === 'discovering'
  }

  onBadChunk(tooLarge: boolean): void {
    const status = tooLarge ? STATUS_CODE.BadTcpMessageTooLarge : STATUS_CODE.BadTcpMessageTypeInvalid
    this.fail(status, tooLarge ? 'a chunk of the server’s is too large' : 'the server sends what may not come now')
  }

  private fail(status: number, why: string): void {
    if (this.phase === 'over') return
    this.phase = 'over'
    this.reader.reset()
    this.owner.onFailure(status, why)
  }

  /** Says that the channel is no longer needed. A client's role never sends ERR. */
  close(): void {
    if (this.phase === 'open') {
      const body = writeCloseChannel(++this.requestId, Date.now())
      const end = this.channel.seal(MESSAGE.CLO, CHUNK.final, this.requestId, body, 0, body.length)
      this.owner.toTarget(this.channel.chunk, 0, end)
    }
    this.phase = 'over'
    this.reader.reset()
  }
}
