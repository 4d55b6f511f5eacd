/**
 * The messages that Headgate speaks for itself: Hello, Acknowledge and Error of the connection (OPC 10000-6 §7.1.2),
 * OpenSecureChannel and CloseSecureChannel (OPC 10000-4 §5.6), CloseSession.
 */
import { Cursor, copyOf, dateTime, Writer } from '../binary.ts'
import { CHUNK, HEADER, MAX_URL, MESSAGE, MIN_BUFFER, setU32 } from '../chunk.ts'
import {
  isBad,
  RequestHeader,
  ResponseHeader,
  walkRequestHeader,
  walkResponseHeader,
  writeRequestHeader,
  writeResponseHeader,
} from '../headers.ts'
import { REQUEST, RESPONSE, SERVICE_FAULT } from '../services.ts'

/** What HEL and ACK say. Sizes in bytes; 0 for no limit. */
export interface Hello {
  receiveBuffer: number
  sendBuffer: number
  maxMessage: number
  maxChunks: number
}

export interface ClientHello extends Hello {
  endpointUrl: string
}

/** @returns null where it is not well formed, or its buffers are smaller than §7.1.2.3 allows */
export function readHello(buf: Uint8Array, start: number, end: number, withUrl: boolean): ClientHello | null {
  const cursor = new Cursor().open(buf, start + HEADER, end)
  if (cursor.u32() !== 0 && !withUrl) return null
  const [receiveBuffer, sendBuffer, maxMessage, maxChunks] = [cursor.u32(), cursor.u32(), cursor.u32(), cursor.u32()]
  let endpointUrl = ''
  if (withUrl) {
    cursor.bytes()
    if (cursor.to - cursor.from > MAX_URL) return null
    if (cursor.from !== -1) endpointUrl = Buffer.from(buf.subarray(cursor.from, cursor.to)).toString('utf8')
  }
  if (!cursor.finish() || receiveBuffer < MIN_BUFFER || sendBuffer < MIN_BUFFER) return null
  return { receiveBuffer, sendBuffer, maxMessage, maxChunks, endpointUrl }
}

/** HEL with an endpoint URL; ACK without. */
export function writeHello(hello: Hello, endpointUrl: string | null): Buffer {
  const writer = new Writer()
    .u32(endpointUrl === null ? MESSAGE.ACK : MESSAGE.HEL)
    .u32(0)
    .u32(0)
    .u32(hello.receiveBuffer)
    .u32(hello.sendBuffer)
    .u32(hello.maxMessage)
    .u32(hello.maxChunks)
  if (endpointUrl !== null) writer.string(endpointUrl)
  return framed(writer)
}

export const writeError = (status: number, reason: string): Buffer =>
  framed(new Writer().u32(MESSAGE.ERR).u32(0).u32(status).string(reason))

function framed(writer: Writer): Buffer {
  const message = Buffer.from(writer.written())
  message[3] = CHUNK.final
  setU32(message, 4, message.length)
  return message
}

/** Status and reason of an ERR; the reason as far as it can be read. */
export function readError(buf: Uint8Array, start: number, end: number): { status: number; reason: string } {
  const cursor = new Cursor().open(buf, start + HEADER, end)
  const status = cursor.u32()
  cursor.bytes()
  const reason =
    cursor.from === -1 ? '' : Buffer.from(buf.subarray(cursor.from, Math.min(cursor.to, cursor.from + 512)))
  return { status, reason: reason.toString('utf8').replaceAll(/\p{Cc}/gu, ' ') }
}

export const REQUEST_TYPE = { issue: 0, renew: 1 } as const

export interface OpenRequest {
  requestHandle: number
  renew: boolean
  mode: number
  nonce: Uint8Array
  /** Milliseconds. */
  lifetime: number
}

/** @param body what an OPN carries, TypeId first */
export function readOpenRequest(body: Uint8Array): OpenRequest | null {
  const cursor = new Cursor().open(body, 0, body.length)
  const header = new RequestHeader()
  if (cursor.typeId() !== REQUEST.OpenSecureChannel) return null
  walkRequestHeader(cursor, header)
  cursor.u32()
  const type = cursor.u32()
  const mode = cursor.u32()
  cursor.bytes()
  const nonce = cursor.from === -1 ? new Uint8Array(0) : copyOf(body, cursor.from, cursor.to)
  const lifetime = cursor.u32()
  if (!cursor.finish() || type > REQUEST_TYPE.renew) return null
  return { requestHandle: header.requestHandle, renew: type === REQUEST_TYPE.renew, mode, nonce, lifetime }
}

export function writeOpenRequest(request: OpenRequest, now: number): Uint8Array {
  const writer = new Writer().numericNodeId(0, REQUEST.OpenSecureChannel)
  writeRequestHeader(writer, null, request.requestHandle, dateTime(now), 10_000)
  writer
    .u32(0)
    .u32(request.renew ? REQUEST_TYPE.renew : REQUEST_TYPE.issue)
    .u32(request.mode)
    .byteString(request.nonce.length === 0 ? null : request.nonce)
    .u32(request.lifetime)
  return writer.written()
}

export interface OpenResponse {
  channelId: number
  tokenId: number
  /** Milliseconds. */
  lifetime: number
  nonce: Uint8Array
}

export function writeOpenResponse(requestHandle: number, response: OpenResponse, now: number): Uint8Array {
  const writer = new Writer().numericNodeId(0, RESPONSE.OpenSecureChannel)
  writeResponseHeader(writer, requestHandle, 0, dateTime(now))
  return writer
    .u32(0)
    .u32(response.channelId)
    .u32(response.tokenId)
    .i64(dateTime(now))
    .u32(response.lifetime)
    .byteString(response.nonce.length === 0 ? null : response.nonce)
    .written()
}

/** @returns the status where the server has refused; null where the response is not well formed */
export function readOpenResponse(body: Uint8Array): OpenResponse | number | null {
  const cursor = new Cursor().open(body, 0, body.length)
  const header = new ResponseHeader()
  const type = cursor.typeId()
  walkResponseHeader(cursor, header)
  if (cursor.fault !== 0) return null
  if (isBad(header.serviceResult)) return header.serviceResult
  if (type === SERVICE_FAULT || type !== RESPONSE.OpenSecureChannel) return null
  cursor.u32()
  const [channelId, tokenId] = [cursor.u32(), cursor.u32()]
  cursor.skip(8)
  const lifetime = cursor.u32()
  cursor.bytes()
  const nonce = cursor.from === -1 ? new Uint8Array(0) : copyOf(body, cursor.from, cursor.to)
  return cursor.finish() ? { channelId, tokenId, lifetime, nonce } : null
}

export function writeCloseChannel(requestHandle: number, now: number): Uint8Array {
  const writer = new Writer().numericNodeId(0, REQUEST.CloseSecureChannel)
  return writeRequestHeader(writer, null, requestHandle, dateTime(now), 0).written()
}

/** @param token as encoded */
export function writeCloseSession(token: Uint8Array, requestHandle: number, now: number): Uint8Array {
  const writer = new Writer().numericNodeId(0, REQUEST.CloseSession)
  return writeRequestHeader(writer, token, requestHandle, dateTime(now), 1000).boolean(true).written()
}
