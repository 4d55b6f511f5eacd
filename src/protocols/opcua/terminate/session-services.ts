/** CreateSession and ActivateSession (OPC 10000-4 §5.7.2, §5.7.3): what is read of them, and what stands in its place. */
import { Cursor, copyOf, NodeRef, Writer } from '../binary.ts'
import { RequestHeader, ResponseHeader, walkRequestHeader, walkResponseHeader } from '../headers.ts'
import { REQUEST, RESPONSE } from '../services.ts'
import {
  type Application,
  type Endpoint,
  readApplication,
  readEndpoints,
  writeApplication,
  writeEndpoints,
} from './endpoints.ts'

const NO_BYTES = new Uint8Array(0)

export interface Signature {
  algorithm: string | null
  signature: Uint8Array | null
}

function bytes(cursor: Cursor): Uint8Array | null {
  cursor.bytes()
  return cursor.from === -1 ? null : copyOf(cursor.buf, cursor.from, cursor.to)
}

function text(cursor: Cursor): string | null {
  const read = bytes(cursor)
  return read === null ? null : Buffer.from(read).toString('utf8')
}

const readSignature = (cursor: Cursor): Signature => ({ algorithm: text(cursor), signature: bytes(cursor) })

const writeSignature = (writer: Writer, { algorithm, signature }: Signature): Writer =>
  writer.string(algorithm).byteString(signature)

export interface CreateRequest {
  /** TypeId and RequestHeader, as they came. */
  head: Uint8Array
  application: Application
  serverUri: string | null
  endpointUrl: string | null
  sessionName: string | null
  nonce: Uint8Array
  certificate: Uint8Array
  /** RequestedSessionTimeout and MaxResponseMessageSize, as they came. */
  tail: Uint8Array
}

/** @param body [at, end), TypeId first. @returns null where it is not well formed */
export function readCreateRequest(buf: Uint8Array, at: number, end: number): CreateRequest | null {
  const cursor = new Cursor().open(buf, at, end)
  if (cursor.typeId() !== REQUEST.CreateSession) return null
  walkRequestHeader(cursor, new RequestHeader())
  const head = copyOf(buf, at, cursor.at)
  const request = {
    head,
    application: readApplication(cursor),
    serverUri: text(cursor),
    endpointUrl: text(cursor),
    sessionName: text(cursor),
    nonce: bytes(cursor) ?? NO_BYTES,
    certificate: bytes(cursor) ?? NO_BYTES,
    tail: copyOf(buf, cursor.at, cursor.at + 12),
  }
  cursor.skip(12)
  return cursor.finish() ? request : null
}

export function writeCreateRequest(request: CreateRequest): Uint8Array {
  const writer = new Writer(1024).raw(request.head)
  writeApplication(writer, request.application)
  return writer
    .string(request.serverUri)
    .string(request.endpointUrl)
    .string(request.sessionName)
    .byteString(request.nonce.length === 0 ? null : request.nonce)
    .byteString(request.certificate.length === 0 ? null : request.certificate)
    .raw(request.tail)
    .written()
}

export interface CreateResponse {
  /** TypeId, ResponseHeader and SessionId, as they came. */
  head: Uint8Array
  /** AuthenticationToken as encoded. */
  token: Uint8Array
  /** Milliseconds. */
  timeout: number
  nonce: Uint8Array
  certificate: Uint8Array
  endpoints: Endpoint[]
  /** ServerSoftwareCertificates, as they came. */
  software: Uint8Array
  signature: Signature
  maxRequest: number
}

export function readCreateResponse(buf: Uint8Array, at: number, end: number): CreateResponse | null {
  const cursor = new Cursor().open(buf, at, end)
  const node = new NodeRef()
  if (cursor.typeId() !== RESPONSE.CreateSession) return null
  walkResponseHeader(cursor, new ResponseHeader())
  cursor.nodeId(node)
  const head = copyOf(buf, at, cursor.at)
  cursor.nodeId(node)
  const token = copyOf(buf, node.start, node.stop)
  const timeout = cursor.double()
  const nonce = bytes(cursor) ?? NO_BYTES
  const certificate = bytes(cursor) ?? NO_BYTES
  const endpoints = readEndpoints(cursor)
  const software = skipSignedCertificates(cursor)
  const signature = readSignature(cursor)
  const maxRequest = cursor.u32()
  return cursor.finish()
    ? { head, token, timeout, nonce, certificate, endpoints, software, signature, maxRequest }
    : null
}

export function writeCreateResponse(response: CreateResponse): Uint8Array {
  const writer = new Writer(4096).raw(response.head).raw(response.token).double(response.timeout)
  writer.byteString(response.nonce.length === 0 ? null : response.nonce)
  writer.byteString(response.certificate.length === 0 ? null : response.certificate)
  writeEndpoints(writer, response.endpoints)
  writer.raw(response.software)
  return writeSignature(writer, response.signature).u32(response.maxRequest).written()
}

/** An array of SignedSoftwareCertificate: two ByteStrings each. */
function skipSignedCertificates(cursor: Cursor): Uint8Array {
  const at = cursor.at
  const count = cursor.count(8)
  for (let i = 0; i < count && cursor.fault === 0; i++) {
    cursor.bytes()
    cursor.bytes()
  }
  return copyOf(cursor.buf, at, cursor.at)
}

export interface UserToken {
  /** Binary encoding id of the identity token; 0: null, which means anonymous. */
  type: number
  /** Of namespace 0, in binary: what this gateway can read. */
  readable: boolean
  policyId: string
  userName: string | null
  /** Password or token data. */
  secret: Uint8Array | null
  algorithm: string | null
}

export interface ActivateRequest {
  head: Uint8Array
  /** AuthenticationToken as encoded. */
  token: Uint8Array
  signature: Signature
  /** ClientSoftwareCertificates and LocaleIds, as they came. */
  middle: Uint8Array
  user: UserToken
  /** The UserIdentityToken as it came. */
  userRaw: Uint8Array
  userSignature: Signature
}

export function readActivateRequest(buf: Uint8Array, at: number, end: number): ActivateRequest | null {
  const cursor = new Cursor().open(buf, at, end)
  const header = new RequestHeader()
  if (cursor.typeId() !== REQUEST.ActivateSession) return null
  walkRequestHeader(cursor, header)
  const head = copyOf(buf, at, cursor.at)
  const token = copyOf(buf, header.token.start, header.token.stop)
  const signature = readSignature(cursor)
  const middleAt = cursor.at
  skipSignedCertificates(cursor)
  const locales = cursor.count(4)
  for (let i = 0; i < locales && cursor.fault === 0; i++) cursor.bytes()
  const middle = copyOf(buf, middleAt, cursor.at)
  const userAt = cursor.at
  const node = new NodeRef()
  const encoding = cursor.extensionObject(node)
  const user = readUser(buf, node, encoding, cursor)
  const userRaw = copyOf(buf, userAt, cursor.at)
  const userSignature = readSignature(cursor)
  return cursor.finish() && user !== null ? { head, token, signature, middle, user, userRaw, userSignature } : null
}

const USER_NAME = 324
const ISSUED = 940

function readUser(buf: Uint8Array, node: NodeRef, encoding: number, outer: Cursor): UserToken | null {
  const user: UserToken = { type: 0, readable: true, policyId: '', userName: null, secret: null, algorithm: null }
  if (encoding === 0 && node.isNull(buf)) return user
  user.type = node.id
  if (node.namespace !== 0 || node.type !== 0 || encoding !== 1 || outer.from === -1) {
    user.readable = false
    return user
  }
  const cursor = new Cursor().open(buf, outer.from, outer.to)
  user.policyId = text(cursor) ?? ''
  if (user.type === USER_NAME) user.userName = text(cursor)
  if (user.type === USER_NAME || user.type === ISSUED) {
    user.secret = bytes(cursor)
    user.algorithm = text(cursor)
    cursor.finish()
  }
  return cursor.fault === 0 ? user : null
}

/** @param user null: as it came */
export function writeActivateRequest(
  request: ActivateRequest,
  signature: Signature,
  user: UserToken | null,
): Uint8Array {
  const writer = writeSignature(new Writer(1024).raw(request.head), signature).raw(request.middle)
  if (user === null) writer.raw(request.userRaw)
  else {
    const body = new Writer().string(user.policyId)
    if (user.type === USER_NAME) body.string(user.userName)
    body.byteString(user.secret).string(user.algorithm)
    writer.numericNodeId(0, user.type).u8(1).byteString(body.written())
  }
  return writeSignature(writer, request.userSignature).written()
}

export interface ActivateResponse {
  head: Uint8Array
  nonce: Uint8Array
  /** Results and DiagnosticInfos, as they came. */
  tail: Uint8Array
}

export function readActivateResponse(buf: Uint8Array, at: number, end: number): ActivateResponse | null {
  const cursor = new Cursor().open(buf, at, end)
  if (cursor.typeId() !== RESPONSE.ActivateSession) return null
  walkResponseHeader(cursor, new ResponseHeader())
  const head = copyOf(buf, at, cursor.at)
  const nonce = bytes(cursor) ?? NO_BYTES
  return cursor.fault === 0 ? { head, nonce, tail: copyOf(buf, cursor.at, end) } : null
}

export const writeActivateResponse = ({ head, nonce, tail }: ActivateResponse): Uint8Array =>
  new Writer(256)
    .raw(head)
    .byteString(nonce.length === 0 ? null : nonce)
    .raw(tail)
    .written()
