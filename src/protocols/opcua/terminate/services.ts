/**
 * The four services that a gateway cannot pass as bytes (OPC 10000-4 §5.5.2, §5.5.4, §5.7.2, §5.7.3): what they say of
 * addresses, certificates, nonces and signatures is between two neighbours, and the gateway is a neighbour to both.
 */
import { randomBytes } from 'node:crypto'
import { REASON } from '../../reason.ts'
import { Cursor, Writer } from '../binary.ts'
import { isRefusal, RequestHeader, ResponseHeader, walkRequestHeader, walkResponseHeader } from '../headers.ts'
import { readCertificate, splitChain } from '../security/certificate.ts'
import { policyByUri, SECURITY_MODE, SECURITY_POLICIES, type SecurityPolicy } from '../security/policies.ts'
import { sign, verify } from '../security/rsa.ts'
import { DEPRECATED_POLICIES, policyOf } from '../security.ts'
import { REQUEST, RESPONSE } from '../services.ts'
import type { Channel } from './channel.ts'
import {
  atAuthority,
  type Disguise,
  disguiseApplication,
  disguiseEndpoints,
  readApplication,
  readEndpoints,
  splitUrl,
  TOKEN_TYPE,
  type TokenPolicy,
  writeApplication,
  writeEndpoints,
} from './endpoints.ts'
import type { OpenGuard } from './open-guard.ts'
import {
  readActivateRequest,
  readActivateResponse,
  readCreateRequest,
  readCreateResponse,
  type Signature,
  type UserToken,
  writeActivateRequest,
  writeActivateResponse,
  writeCreateRequest,
  writeCreateResponse,
} from './session-services.ts'
import { MAX_NONCE, type SessionRecord, type SessionStore } from './session-store.ts'
import { STATUS_CODE } from './status.ts'
import type { Target, TerminateTerms } from './terms.ts'
import { isFramed, openSecret, sealFramedSecret, sealSecret, TOKEN_ENCODING } from './user-token.ts'

/** Length of the nonces of sessions, in bytes; the least that is taken (§5.7.2.2). */
const NONCE = 32
/** Longest session name and user name that are remembered. */
const SHOWN = 64

/** A message that must not go on. */
export interface Refusal {
  status: number
  reason: number
  detail: string
  /** It is the policy that has something against it, and not the protocol. */
  byPolicy?: true
}

/** A session that is being made. */
export interface Creating {
  slot: number
  ownNonce: Uint8Array
  clientNonce: Uint8Array
  /** Leaf; empty with None. */
  clientCertificate: Uint8Array
  authority: string
  name: string
}

export interface Activating {
  slot: number
  key: Buffer
  token: Uint8Array
  user: string
  name: string
}

/** A session that was made: what its responses are told apart by. */
export interface Created {
  body: Uint8Array
  key: Buffer
  token: Uint8Array
  name: string
}

const NULL_SIGNATURE: Signature = { algorithm: null, signature: null }

export class SessionServices {
  terms: TerminateTerms
  /** Endpoint URL of the client's Hello. */
  helloUrl = ''
  private readonly target: Target
  private readonly store: SessionStore
  private readonly guard: OpenGuard
  /** Towards the client, and towards the server. */
  private readonly front: Channel
  private readonly link: Channel
  private readonly peer: string

  constructor(
    terms: TerminateTerms,
    target: Target,
    store: SessionStore,
    guard: OpenGuard,
    front: Channel,
    link: Channel,
    peer: string,
  ) {
    this.terms = terms
    this.target = target
    this.store = store
    this.guard = guard
    this.front = front
    this.link = link
    this.peer = peer
  }

  private get secured(): boolean {
    return this.front.mode !== SECURITY_MODE.None
  }

  private disguise(authority: string): Disguise {
    const { own, monitor, securityModes, securityPolicies, userTokens } = this.terms
    return {
      authority,
      applicationUri: own.applicationUri,
      certificates: own.chain,
      offers: (uri, mode) => {
        const policy = policyOf(uri)
        if (policy === null) return false
        if (monitor && policyByUri(uri) !== undefined && !DEPRECATED_POLICIES.includes(policy)) return true
        return securityPolicies.has(policy) && securityModes.has(MODE_NAMES[mode] as never)
      },
      takesToken: (type) => monitor || userTokens.has(type),
    }
  }

  /** `host:port` that a client reaches the gateway by: of the URL that it has used, in this request or in its Hello. */
  private authorityOf(url: string | null): string {
    return splitUrl(url ?? '')?.authority ?? splitUrl(this.helloUrl)?.authority ?? this.target.authority
  }

  private targetUrl(url: string | null): string {
    return atAuthority(url ?? '', this.target.authority)
  }

  // ----------------------------------------------------------------------------------------------------- discovery

  /** GetEndpoints or FindServers with the server's address. @returns the body and the authority, or null: malformed */
  discoveryRequest(buf: Uint8Array, at: number, end: number): { body: Uint8Array; authority: string } | null {
    const cursor = new Cursor().open(buf, at, end)
    cursor.typeId()
    walkRequestHeader(cursor, new RequestHeader())
    const urlAt = cursor.at
    cursor.bytes()
    if (cursor.fault !== 0) return null
    const url = cursor.from === -1 ? null : Buffer.from(buf.subarray(cursor.from, cursor.to)).toString('utf8')
    const writer = new Writer(256).raw(buf.subarray(at, urlAt)).string(this.targetUrl(url))
    return { body: writer.raw(buf.subarray(cursor.at, end)).written(), authority: this.authorityOf(url) }
  }

  /** What the client is told in place of the server's endpoints; null: malformed. */
  endpointsResponse(buf: Uint8Array, at: number, end: number, authority: string): Uint8Array | null {
    const cursor = new Cursor().open(buf, at, end)
    if (cursor.typeId() !== RESPONSE.GetEndpoints) return null
    walkResponseHeader(cursor, new ResponseHeader())
    const head = buf.subarray(at, cursor.at)
    const endpoints = readEndpoints(cursor)
    if (!cursor.finish()) return null
    const writer = new Writer(4096).raw(head)
    writeEndpoints(writer, disguiseEndpoints(endpoints, this.disguise(authority)))
    return writer.written()
  }

  /** The server alone, by the gateway's address: other servers that it knows of lie on other conduits. */
  serversResponse(buf: Uint8Array, at: number, end: number, authority: string): Uint8Array | null {
    const cursor = new Cursor().open(buf, at, end)
    if (cursor.typeId() !== RESPONSE.FindServers) return null
    walkResponseHeader(cursor, new ResponseHeader())
    const head = buf.subarray(at, cursor.at)
    const count = cursor.count(20)
    const applications = []
    for (let i = 0; i < count && cursor.fault === 0; i++) applications.push(readApplication(cursor))
    if (!cursor.finish()) return null
    const uri = this.target.endpoints?.[0]?.server.applicationUri
    const servers = applications.filter(({ type, applicationUri }) =>
      uri === undefined || uri === null ? type === 0 || type === 2 : applicationUri === uri,
    )
    const disguise = this.disguise(authority)
    const writer = new Writer(1024).raw(head).i32(servers.length)
    for (const server of servers) writeApplication(writer, disguiseApplication(server, disguise))
    return writer.written()
  }

  // ------------------------------------------------------------------------------------------------- CreateSession

  createRequest(
    buf: Uint8Array,
    at: number,
    end: number,
  ): { body: Uint8Array; note: Creating; would: Refusal | null } | Refusal {
    const request = readCreateRequest(buf, at, end)
    if (request === null) return malformed('CreateSession')
    const { own, scope, maxSessions, monitor } = this.terms
    const { peer } = this.front
    let leaf: Uint8Array = new Uint8Array(0)
    if (peer !== null) {
      leaf = splitChain(request.certificate)?.[0] ?? leaf
      if (Buffer.compare(leaf, peer.der) !== 0) {
        return refused('BadSecurityChecksFailed', 'the certificate of CreateSession is not that of the channel')
      }
      const uri = request.application.applicationUri
      if (uri === null || !peer.uris.includes(uri)) {
        const detail = `application URI ${JSON.stringify(uri)}, and the certificate has ${peer.uris.join(' ') || 'none'}`
        return refused('BadCertificateUriInvalid', detail)
      }
      if (request.nonce.length < NONCE || !this.guard.isFresh(request.nonce)) {
        return refused('BadNonceInvalid', 'a nonce that is too short, or was used before')
      }
    }
    let would: Refusal | null = null
    let slot = this.store.reserve(scope, maxSessions)
    if (slot === -1) {
      const over = { status: STATUS_CODE.BadTooManySessions, reason: REASON.rate, detail: 'over the limit of sessions' }
      if (!monitor) return over
      would = over
      slot = this.store.reserve(scope, Number.POSITIVE_INFINITY)
      if (slot === -1) return over
    }
    const ownNonce = randomBytes(NONCE)
    const name = request.sessionName ?? ''
    const body = writeCreateRequest({
      ...request,
      application: { ...request.application, applicationUri: own.applicationUri },
      serverUri: null,
      endpointUrl: this.targetUrl(request.endpointUrl),
      // The server's own records shall say who is behind the gateway.
      sessionName: `${name.slice(0, 200)} [${this.peer} through Headgate]`,
      nonce: ownNonce,
      certificate: this.secured ? own.chain : new Uint8Array(0),
    })
    const authority = this.authorityOf(request.endpointUrl)
    const note = {
      slot,
      ownNonce,
      clientNonce: request.nonce,
      clientCertificate: leaf,
      authority,
      name: shorten(name),
    }
    return { body, note, would }
  }

  /** @returns null where the server has refused: its answer passes as it is */
  createResponse(buf: Uint8Array, at: number, end: number, note: Creating): Created | Refusal | null {
    if (isRefusal(buf, at, end)) {
      this.store.cancel(note.slot)
      return null
    }
    const made = this.judgeCreated(buf, at, end, note)
    if ('status' in made) this.store.cancel(note.slot)
    return made
  }

  private judgeCreated(buf: Uint8Array, at: number, end: number, note: Creating): Created | Refusal {
    const response = readCreateResponse(buf, at, end)
    if (response === null) return malformed('the response to CreateSession')
    const { own } = this.terms
    const { policy } = this.front
    const server = this.link.peer
    if (response.nonce.length > MAX_NONCE || (this.secured && response.nonce.length < NONCE)) {
      return refused('BadNonceInvalid', "length of the server's nonce")
    }
    if (server !== null) {
      const leaf = splitChain(response.certificate)?.[0]
      if (leaf === undefined || Buffer.compare(leaf, server.der) !== 0) {
        return refused(
          'BadSecurityChecksFailed',
          "the server's certificate in CreateSession is not that of the channel",
        )
      }
      const { algorithm, signature } = response.signature
      const signed = (certificates: Uint8Array): boolean =>
        signature !== null && verify(policy, server.key, signature, certificates, note.ownNonce)
      if (algorithm !== policy.signature.uri || !(signed(own.certificate.der) || signed(own.chain))) {
        return refused('BadApplicationSignatureInvalid', "the server's signature in CreateSession does not hold")
      }
      // Said under the server's key now, and so better than what discovery has said.
      if (response.endpoints.length > 0) this.target.endpoints = response.endpoints
    } else if (this.target.certificate === null) this.learnCertificate(response.certificate, policy)
    if (this.target.endpoints === null) this.target.endpoints = response.endpoints
    const ownNonce = randomBytes(NONCE)
    const key = this.target.keyOf(response.token)
    this.store.commit(note.slot, key, {
      thumbprint: this.front.peer?.thumbprint ?? new Uint8Array(0),
      policy: SECURITY_POLICIES.indexOf(policy),
      mode: this.front.mode,
      ownNonce,
      serverNonce: response.nonce,
      timeoutMs: response.timeout,
      name: note.name,
      user: '',
    })
    const { token } = response
    const body = writeCreateResponse({
      ...response,
      nonce: ownNonce,
      certificate: own.chain,
      endpoints: disguiseEndpoints(response.endpoints, this.disguise(note.authority)),
      signature: this.secured
        ? {
            algorithm: policy.signature.uri,
            signature: sign(policy, own.key, note.clientCertificate, note.clientNonce),
          }
        : NULL_SIGNATURE,
      maxRequest: least(response.maxRequest, this.terms.messageBytes),
    })
    return { body, key, token, name: note.name }
  }

  /** With None: what passwords are encrypted to, where the trust list has it. */
  private learnCertificate(certificates: Uint8Array, policy: SecurityPolicy): void {
    const chain = (splitChain(certificates) ?? []).map((der) => readCertificate(der))
    const [leaf, ...rest] = chain.filter((certificate) => certificate !== null)
    if (leaf === undefined || this.terms.servers.judge(leaf, rest, policy, Date.now()) !== 'Good') return
    this.target.certificate = leaf
    this.target.chain = rest
  }

  // ----------------------------------------------------------------------------------------------- ActivateSession

  activateRequest(
    buf: Uint8Array,
    at: number,
    end: number,
  ): { body: Uint8Array; note: Activating; would: Refusal | null } | Refusal {
    const request = readActivateRequest(buf, at, end)
    if (request === null) return malformed('ActivateSession')
    const { own } = this.terms
    const { policy, peer } = this.front
    const key = this.target.keyOf(request.token)
    const slot = this.store.find(key)
    if (slot === -1) {
      return {
        status: STATUS_CODE.BadSessionIdInvalid,
        reason: REASON.state,
        detail: 'a session that is not known here',
      }
    }
    const record = this.store.read(slot)
    if (!this.isSameChannel(record)) {
      return refused('BadSecurityChecksFailed', 'a session of another certificate, security policy or mode')
    }
    let signature = NULL_SIGNATURE
    if (peer !== null) {
      const { algorithm, signature: given } = request.signature
      const signed = (certificates: Uint8Array): boolean =>
        given !== null && verify(policy, peer.key, given, certificates, record.ownNonce)
      if (algorithm !== policy.signature.uri || !(signed(own.certificate.der) || signed(own.chain))) {
        return refused('BadApplicationSignatureInvalid', "the client's signature in ActivateSession does not hold")
      }
      const server = this.link.peer
      if (server === null) return refused('BadSecurityChecksFailed', 'no certificate of the server')
      signature = {
        algorithm: policy.signature.uri,
        signature: sign(policy, own.key, server.der, record.serverNonce),
      }
    }
    const user = this.userToken(request.user, record)
    if ('status' in user) return user
    const name = shorten(request.user.userName ?? '')
    const body = writeActivateRequest(request, signature, user.token)
    return { body, note: { slot, key, token: request.token, user: name, name: record.name }, would: user.would }
  }

  private isSameChannel(record: SessionRecord): boolean {
    const { peer, policy, mode } = this.front
    const thumbprint = peer?.thumbprint ?? new Uint8Array(0)
    return (
      Buffer.compare(record.thumbprint, thumbprint) === 0 &&
      SECURITY_POLICIES[record.policy] === policy &&
      record.mode === mode
    )
  }

  /** The user's token for the server. @returns `token` null: as it came */
  private userToken(
    user: UserToken,
    record: SessionRecord,
  ): { token: UserToken | null; would: Refusal | null } | Refusal {
    const { userTokens, monitor, own } = this.terms
    if (!user.readable) return refused('BadIdentityTokenInvalid', 'a user identity token that cannot be read')
    const type = TYPE_OF.get(user.type)
    if (type === undefined) return refused('BadIdentityTokenInvalid', `a user identity token of type i=${user.type}`)
    if (type === TOKEN_TYPE.Certificate) {
      return refused(
        'BadIdentityTokenRejected',
        'a user certificate: nobody but the user can sign with it to the server',
      )
    }
    let would: Refusal | null = null
    if (!userTokens.has(type)) {
      would = { ...refused('BadIdentityTokenRejected', `user identity token ${TYPE_NAMES[type]}`), byPolicy: true }
      if (!monitor) return would
    }
    if (type === TOKEN_TYPE.Anonymous) return { token: null, would }
    const tokenPolicy = this.tokenPolicy(user.policyId, type)
    if (tokenPolicy === undefined) {
      return refused('BadIdentityTokenInvalid', `no token policy ${JSON.stringify(user.policyId.slice(0, 64))}`)
    }
    const by = tokenPolicy.policyUri ? policyByUri(tokenPolicy.policyUri) : this.front.policy
    if (by === undefined) return refused('BadIdentityTokenInvalid', 'a token policy of an unknown security policy')
    if (by.name === 'None') {
      return user.algorithm
        ? refused('BadIdentityTokenInvalid', 'encrypted, and its policy is None')
        : { token: null, would }
    }
    const server = this.link.peer ?? this.target.certificate
    if (server === null) return refused('BadIdentityTokenRejected', 'the certificate of the server is not trusted')
    const framed = user.secret !== null && isFramed(user.secret)
    const named = framed || user.algorithm === by.encryption.uri
    const secret = named && user.secret !== null ? openSecret(by, own.key, record.ownNonce, user.secret) : null
    if (secret === null) return refused('BadIdentityTokenInvalid', 'a secret that was not encrypted to the gateway')
    const nonce = record.serverNonce
    const sealed = framed
      ? sealFramedSecret(by, server.key, server.thumbprint, nonce, secret, Date.now())
      : sealSecret(by, server.key, nonce, secret)
    secret.fill(0)
    return { token: { ...user, secret: sealed, algorithm: framed ? user.algorithm : by.encryption.uri }, would }
  }

  /** The server's policy of that id, of the endpoint that the channel is for (§7.40.1). */
  private tokenPolicy(policyId: string, type: number): TokenPolicy | undefined {
    const { policy, mode } = this.front
    const endpoint = this.target.endpoints?.find(({ policyUri, mode: its }) => policyUri === policy.uri && its === mode)
    return endpoint?.tokens.find((token) => token.policyId === policyId && token.type === type)
  }

  /** @returns null where the server has refused: its answer passes as it is */
  activateResponse(buf: Uint8Array, at: number, end: number, note: Activating): Uint8Array | Refusal | null {
    if (isRefusal(buf, at, end)) return null
    const response = readActivateResponse(buf, at, end)
    if (response === null) return malformed('the response to ActivateSession')
    if (response.nonce.length > MAX_NONCE || (this.secured && response.nonce.length < NONCE)) {
      return refused('BadNonceInvalid', "length of the server's nonce")
    }
    const ownNonce = randomBytes(NONCE)
    if (!this.store.renew(note.slot, note.key, ownNonce, response.nonce, note.user)) {
      return { status: STATUS_CODE.BadSessionIdInvalid, reason: REASON.state, detail: 'the session is gone' }
    }
    return writeActivateResponse({ ...response, nonce: ownNonce })
  }
}

const MODE_NAMES = ['', 'None', 'Sign', 'SignAndEncrypt']

const TYPE_OF = new Map<number, number>([
  [0, TOKEN_TYPE.Anonymous],
  [TOKEN_ENCODING.Anonymous, TOKEN_TYPE.Anonymous],
  [TOKEN_ENCODING.UserName, TOKEN_TYPE.UserName],
  [TOKEN_ENCODING.X509, TOKEN_TYPE.Certificate],
  [TOKEN_ENCODING.Issued, TOKEN_TYPE.IssuedToken],
])
const TYPE_NAMES = Object.keys(TOKEN_TYPE)

const malformed = (what: string): Refusal => ({
  status: STATUS_CODE.BadDecodingError,
  reason: REASON.malformed,
  detail: `${what} is malformed`,
})

const refused = (status: keyof typeof STATUS_CODE, detail: string): Refusal => ({
  status: STATUS_CODE[status],
  reason: REASON.security,
  detail,
})

/** The lesser of two limits of which 0 means none. */
export const least = (a: number, b: number): number => (a === 0 ? b : b === 0 ? a : Math.min(a, b))

const shorten = (text: string): string => text.slice(0, SHOWN)

/** Services that are rewritten, by the type ids of their requests. */
export const REWRITTEN: ReadonlySet<number> = new Set([
  REQUEST.GetEndpoints,
  REQUEST.FindServers,
  REQUEST.CreateSession,
  REQUEST.ActivateSession,
])
