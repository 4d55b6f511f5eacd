/**
 * What a server says of itself and of its endpoints (OPC 10000-4 §7.2, §7.14, §7.42), and what of it a client of the
 * gateway is told: the same from GetEndpoints, FindServers and CreateSession.
 */
import { type Cursor, copyOf, textAt, type Writer } from '../binary.ts'
import { policyByUri } from '../security/policies.ts'

/** Of more than this a server is not believed. */
const MAX_ENDPOINTS = 200
const MAX_TOKEN_POLICIES = 50
const MAX_URLS = 100

/** UserTokenType (OPC 10000-4 §7.43). */
export const TOKEN_TYPE = { Anonymous: 0, UserName: 1, Certificate: 2, IssuedToken: 3 } as const

export interface TokenPolicy {
  policyId: string
  type: number
  issuedTokenType: string | null
  issuerEndpointUrl: string | null
  /** null or '': the endpoint's. */
  policyUri: string | null
}

export interface Application {
  applicationUri: string | null
  productUri: string | null
  /** LocalizedText as encoded. */
  name: Uint8Array
  /** ApplicationType: 0 server, 1 client, 2 both, 3 discovery server. */
  type: number
  gatewayServerUri: string | null
  discoveryProfileUri: string | null
  discoveryUrls: string[]
}

export interface Endpoint {
  url: string | null
  server: Application
  certificate: Uint8Array
  mode: number
  policyUri: string | null
  tokens: TokenPolicy[]
  transport: string | null
  level: number
}

const BINARY_TRANSPORT = 'http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary'

function text(cursor: Cursor): string | null {
  cursor.bytes()
  return cursor.from === -1 ? null : textAt(cursor.buf, cursor.from, cursor.to)
}

function count(cursor: Cursor, least: number, most: number): number {
  const count = cursor.count(least)
  if (count > most) cursor.fail(3)
  return cursor.fault === 0 ? count : 0
}

export function readApplication(cursor: Cursor): Application {
  const [applicationUri, productUri] = [text(cursor), text(cursor)]
  const nameAt = cursor.at
  cursor.skipLocalizedText()
  const name = copyOf(cursor.buf, nameAt, cursor.at)
  const type = cursor.u32()
  const [gatewayServerUri, discoveryProfileUri] = [text(cursor), text(cursor)]
  const urls = count(cursor, 4, MAX_URLS)
  const discoveryUrls = Array.from({ length: urls }, () => text(cursor) ?? '')
  return { applicationUri, productUri, name, type, gatewayServerUri, discoveryProfileUri, discoveryUrls }
}

export function writeApplication(writer: Writer, application: Application): void {
  writer.string(application.applicationUri).string(application.productUri).raw(application.name)
  writer.u32(application.type).string(application.gatewayServerUri).string(application.discoveryProfileUri)
  writer.i32(application.discoveryUrls.length)
  for (const url of application.discoveryUrls) writer.string(url)
}

/** The array of EndpointDescription at the cursor; a fault of the cursor's where it is not well formed. */
export function readEndpoints(cursor: Cursor): Endpoint[] {
  const endpoints: Endpoint[] = []
  const endpointCount = count(cursor, 30, MAX_ENDPOINTS)
  for (let i = 0; i < endpointCount && cursor.fault === 0; i++) {
    const url = text(cursor)
    const server = readApplication(cursor)
    cursor.bytes()
    const certificate = cursor.from === -1 ? new Uint8Array(0) : copyOf(cursor.buf, cursor.from, cursor.to)
    const mode = cursor.u32()
    const policyUri = text(cursor)
    const tokens: TokenPolicy[] = []
    const tokenCount = count(cursor, 16, MAX_TOKEN_POLICIES)
    for (let k = 0; k < tokenCount && cursor.fault === 0; k++) {
      tokens.push({
        policyId: text(cursor) ?? '',
        type: cursor.u32(),
        issuedTokenType: text(cursor),
        issuerEndpointUrl: text(cursor),
        policyUri: text(cursor),
      })
    }
    endpoints.push({ url, server, certificate, mode, policyUri, tokens, transport: text(cursor), level: cursor.u8() })
  }
  return endpoints
}

export function writeEndpoints(writer: Writer, endpoints: readonly Endpoint[]): void {
  writer.i32(endpoints.length)
  for (const endpoint of endpoints) {
    writer.string(endpoint.url)
    writeApplication(writer, endpoint.server)
    writer.byteString(endpoint.certificate).u32(endpoint.mode).string(endpoint.policyUri).i32(endpoint.tokens.length)
    for (const token of endpoint.tokens) {
      writer.string(token.policyId).u32(token.type).string(token.issuedTokenType).string(token.issuerEndpointUrl)
      writer.string(token.policyUri)
    }
    writer.string(endpoint.transport).u8(endpoint.level)
  }
}

/** `host:port` of an `opc.tcp` URL, and the path behind it; null where it is none. */
export function splitUrl(url: string): { authority: string; path: string } | null {
  const match = /^opc\.tcp:\/\/(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::(\d{1,5}))?((?:\/[^\s]*)?)$/.exec(url)
  return match === null ? null : { authority: `${match[1]}:${match[2] ?? 4840}`, path: match[3] }
}

/** `url` with another `host:port`. */
export const atAuthority = (url: string, authority: string): string =>
  `opc.tcp://${authority}${splitUrl(url)?.path ?? ''}`

/** What a client is to be told in place of what the server says. */
export interface Disguise {
  /** `host:port` that the client reaches the gateway by. */
  authority: string
  applicationUri: string
  /** DER, the leaf first. */
  certificates: Uint8Array
  /** Whether an endpoint of that security is offered. */
  offers(policyUri: string, mode: number): boolean
  /** Whether users may be told by that type of token. */
  takesToken(type: number): boolean
}

export function disguiseApplication(application: Application, disguise: Disguise): Application {
  const urls = application.discoveryUrls.filter((url) => url.startsWith('opc.tcp:'))
  return {
    ...application,
    applicationUri: disguise.applicationUri,
    gatewayServerUri: null,
    discoveryUrls: [...new Set(urls.map((url) => atAuthority(url, disguise.authority)))],
  }
}

/**
 * The endpoints that a client is offered: those of the server's that the policy allows and the gateway can end, by the
 * gateway's address and certificate. Tokens of users' certificates are left out: nobody but the user can sign with them.
 */
export function disguiseEndpoints(endpoints: readonly Endpoint[], disguise: Disguise): Endpoint[] {
  const offered: Endpoint[] = []
  for (const endpoint of endpoints) {
    const { policyUri } = endpoint
    if (policyUri === null || policyByUri(policyUri) === undefined || !disguise.offers(policyUri, endpoint.mode))
      continue
    if (endpoint.transport !== BINARY_TRANSPORT || endpoint.url === null) continue
    const tokens = endpoint.tokens.filter(
      ({ type, policyUri: by }) =>
        type !== TOKEN_TYPE.Certificate && disguise.takesToken(type) && (!by || policyByUri(by) !== undefined),
    )
    if (tokens.length === 0 && endpoint.tokens.length > 0) continue
    offered.push({
      ...endpoint,
      url: atAuthority(endpoint.url, disguise.authority),
      server: disguiseApplication(endpoint.server, disguise),
      certificate: disguise.certificates,
      tokens,
    })
  }
  return offered
}
