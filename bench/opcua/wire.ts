/**
 * One end of a secure channel for the benchmarks, thinner than any stack: chunks are made from templates, and those
 * that come are opened only where somebody wants to look. Its cryptography is Headgate's own.
 */
import { createPrivateKey, type KeyObject, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { Cursor, dateTime, Writer } from '../../src/protocols/opcua/binary.ts'
import { AT, MESSAGE, messageSize, messageType, setU32, u32 } from '../../src/protocols/opcua/chunk.ts'
import {
  RequestHeader,
  ResponseHeader,
  walkRequestHeader,
  walkResponseHeader,
  writeRequestHeader,
  writeResponseHeader,
} from '../../src/protocols/opcua/headers.ts'
import { type Certificate, readCertificate } from '../../src/protocols/opcua/security/certificate.ts'
import { channelKeys } from '../../src/protocols/opcua/security/derive.ts'
import { openAsymmetric, readOpenHeader, sealOpen } from '../../src/protocols/opcua/security/open-chunk.ts'
import {
  policyByName,
  policyByUri,
  SECURITY_MODE,
  type SecurityModeValue,
  type SecurityPolicy,
} from '../../src/protocols/opcua/security/policies.ts'
import type { ChannelKeys } from '../../src/protocols/opcua/security/symmetric.ts'
import { REQUEST, RESPONSE } from '../../src/protocols/opcua/services.ts'

export const BUFFER = 65_536

export interface Own {
  certificate: Certificate
  key: KeyObject
}

export type ModeName = keyof typeof SECURITY_MODE

/** A certificate (DER) and a key (PEM), at `PATH.der` and `PATH.pem`. */
export function readOwnFiles(path: string): Own {
  const certificate = readCertificate(readFileSync(`${path}.der`))
  if (certificate === null) throw new Error(`${path}.der is no certificate`)
  return { certificate, key: createPrivateKey(readFileSync(`${path}.pem`)) }
}

/** Cuts a stream of bytes into messages. @param onMessage gets each at [start, end) of the buffer */
export function frames(socket: Socket, onMessage: (buf: Buffer, start: number, end: number) => void): void {
  let carry: Buffer | null = null
  socket.on('data', (chunk: Buffer) => {
    const buf = carry === null ? chunk : Buffer.concat([carry, chunk])
    let at = 0
    while (buf.length - at >= 8) {
      const size = messageSize(buf, at)
      if (size < 8 || size > 1 << 24) throw new Error(`a message of ${size} bytes`)
      if (buf.length - at < size) break
      onMessage(buf, at, at + size)
      at += size
    }
    carry = at === buf.length ? null : buf.subarray(at)
  })
}

/** The channel as one end has it, once it is open. */
export class Channel {
  id = 0
  token = 0
  sequence = 50
  policy: SecurityPolicy = policyByName('None')
  mode: SecurityModeValue = SECURITY_MODE.None
  peer: Certificate | null = null
  sending: ChannelKeys | null = null
  receiving: ChannelKeys | null = null
  private readonly out = new Uint8Array(BUFFER + 128)

  /** Sends a message of one chunk. */
  send(socket: Socket, type: number, requestId: number, body: Uint8Array): void {
    const { out } = this
    setU32(out, 0, type)
    out[3] = 0x46
    setU32(out, AT.channel, this.id)
    setU32(out, AT.token, this.token)
    setU32(out, AT.sequence, ++this.sequence)
    setU32(out, AT.request, requestId)
    out.set(body, AT.body)
    let end = AT.body + body.length
    setU32(out, 4, end)
    if (this.sending !== null) end = this.sending.seal(out, 0, end)
    socket.write(Buffer.from(out.subarray(0, end)))
  }

  /** Where the body of a chunk lies; throws where it is not genuine. */
  open(buf: Uint8Array, start: number, end: number): { buf: Uint8Array; requestId: number; at: number; end: number } {
    const { receiving } = this
    if (receiving === null) return { buf, requestId: u32(buf, start + AT.request), at: start + AT.body, end }
    if (!receiving.open(buf, start, end)) throw new Error('a chunk that is not genuine')
    const { plain, plainStart, plainEnd } = receiving
    return { buf: plain, requestId: u32(plain, plainStart + 4), at: plainStart + 8, end: plainEnd }
  }

  private keys(own: Uint8Array, other: Uint8Array): void {
    if (this.mode === SECURITY_MODE.None) return
    this.sending = channelKeys(this.policy, this.mode, own, other)
    this.receiving = channelKeys(this.policy, this.mode, other, own)
  }

  // ------------------------------------------------------------------------------------------------- the client's role

  private nonce: Uint8Array = new Uint8Array(0)

  /** @param server null with None */
  openRequest(policy: SecurityPolicy, mode: SecurityModeValue, own: Own | null, server: Certificate | null): Buffer {
    this.policy = policy
    this.mode = mode
    this.peer = server
    this.nonce = randomBytes(policy.nonceBytes)
    const body = writeRequestHeader(
      new Writer().numericNodeId(0, REQUEST.OpenSecureChannel),
      null,
      1,
      dateTime(Date.now()),
      10_000,
    )
      .u32(0)
      .u32(0)
      .u32(mode)
      .byteString(policy.nonceBytes === 0 ? null : this.nonce)
      .u32(3_600_000)
    return sealOpen(0, policy.uri, ++this.sequence, 1, body.written(), this.sealing(own))
  }

  private sealing(own: Own | null) {
    const { peer, policy } = this
    if (peer === null || own === null) return null
    const { certificate, key } = own
    return { policy, certificates: certificate.der, key, thumbprint: peer.thumbprint, receiver: peer.key }
  }

  takeOpenResponse(own: Own | null, buf: Uint8Array, start: number, end: number): void {
    const body = this.openBody(own, buf, start, end)
    const cursor = new Cursor().open(body, 0, body.length)
    const typeId = cursor.typeId()
    walkResponseHeader(cursor, new ResponseHeader())
    cursor.skip(4)
    this.id = cursor.u32()
    this.token = cursor.u32()
    cursor.skip(12)
    cursor.bytes()
    if (typeId !== RESPONSE.OpenSecureChannel || !cursor.finish()) throw new Error('no OpenSecureChannel response')
    this.keys(this.nonce, body.slice(Math.max(0, cursor.from), Math.max(0, cursor.to)))
  }

  private openBody(own: Own | null, buf: Uint8Array, start: number, end: number): Uint8Array {
    if (messageType(buf, start) !== MESSAGE.OPN) throw new Error(`not OPN: ${Buffer.from(buf.subarray(start, end))}`)
    const header = readOpenHeader(buf, start, end)
    if (header === null) throw new Error('a malformed OPN')
    if (this.peer === null || own === null) return buf.subarray(header.end + 8, end)
    const opened = openAsymmetric(this.policy, own.key, this.peer.key, buf, start, header.end, end)
    if (opened === null) throw new Error('an OPN that is not genuine')
    return opened.body
  }

  // ------------------------------------------------------------------------------------------------- the server's role

  /** Takes an OPN of a client, and answers it. */
  takeOpenRequest(own: Own, buf: Uint8Array, start: number, end: number): Buffer {
    const header = readOpenHeader(buf, start, end)
    const policy = header === null ? undefined : policyByUri(header.policyUri)
    if (header === null || policy === undefined) throw new Error('a malformed OPN')
    this.policy = policy
    if (policy.name !== 'None') this.peer = readCertificate(header.certificates)
    let requestId = u32(buf, header.end + 4)
    let body: Uint8Array = buf.subarray(header.end + 8, end)
    if (this.peer !== null) {
      const opened = openAsymmetric(policy, own.key, this.peer.key, buf, start, header.end, end)
      if (opened === null) throw new Error('an OPN that is not genuine')
      requestId = opened.requestId
      body = opened.body
    }
    const cursor = new Cursor().open(body, 0, body.length)
    cursor.typeId()
    const request = new RequestHeader()
    walkRequestHeader(cursor, request)
    cursor.skip(8)
    this.mode = cursor.u32() as SecurityModeValue
    cursor.bytes()
    const nonce = randomBytes(policy.nonceBytes)
    this.keys(nonce, body.slice(Math.max(0, cursor.from), Math.max(0, cursor.to)))
    this.id ||= randomBytes(3).readUIntLE(0, 3) + 1
    this.token++
    const now = dateTime(Date.now())
    const response = writeResponseHeader(
      new Writer().numericNodeId(0, RESPONSE.OpenSecureChannel),
      request.requestHandle,
      0,
      now,
    )
      .u32(0)
      .u32(this.id)
      .u32(this.token)
      .i64(now)
      .u32(3_600_000)
      .byteString(policy.nonceBytes === 0 ? null : nonce)
    return sealOpen(this.id, policy.uri, ++this.sequence, requestId, response.written(), this.sealing(own))
  }
}

/** HEL with an endpoint URL, or ACK. */
export function hello(url: string | null): Buffer {
  const text = Buffer.from(url ?? '')
  const message = Buffer.alloc(28 + (url === null ? 0 : 4 + text.length))
  setU32(message, 0, url === null ? MESSAGE.ACK : MESSAGE.HEL)
  message[3] = 0x46
  setU32(message, 4, message.length)
  setU32(message, 12, BUFFER)
  setU32(message, 16, BUFFER)
  if (url !== null) {
    setU32(message, 28, text.length)
    message.set(text, 32)
  }
  return message
}
