/**
 * As much of an OPC UA client as discovery takes (OPC 10000-4 §5.5.4, OPC 10000-6 §6.7, §7.1): Hello, a secure channel
 * without security, GetEndpoints, and one request that must be refused. It holds no session, and changes nothing.
 */
import type net from 'node:net'
import { Cursor, dateTime, textAt, Writer } from '../../protocols/opcua/binary.ts'
import { AT, HEADER, MESSAGE, messageSize, messageType, u32 } from '../../protocols/opcua/chunk.ts'
import { ResponseHeader, walkResponseHeader, writeRequestHeader } from '../../protocols/opcua/headers.ts'
import { OPCUA_SECURITY_MODES, type OpcUaSecurityMode, policyUri } from '../../protocols/opcua/security.ts'
import { REQUEST, RESPONSE, SERVICE_FAULT } from '../../protocols/opcua/services.ts'
import { type Place, type ReachOptions, reach } from './reach.ts'

/** What a server may send for one request, in bytes. */
const MAX_MESSAGE = 1 << 20
const BUFFER = 65_535
const LIFETIME_MS = 60_000

export interface Endpoint {
  url: string
  /** null: a number that is no mode. */
  mode: OpcUaSecurityMode | null
  policy: string
}

/** Why there is no answer: an ERR message's status, a ServiceFault's, or that the connection ended. */
export class OpcUaFailure extends Error {
  /** Status code; 0: none was given. */
  readonly status: number
  constructor(message: string, status = 0) {
    super(message)
    this.status = status
  }
}

export const statusText = (status: number): string => `0x${status.toString(16).padStart(8, '0')}`

interface Message {
  type: number
  /** Behind the sequence header: TypeId first. */
  body: Buffer
  channel: number
}

export class OpcUaClient {
  private readonly socket: net.Socket
  private readonly timeoutMs: number
  private readonly url: string
  private held = Buffer.alloc(0)
  private wake: () => void = () => {}
  private ended = ''
  private channel = 0
  private token = 0
  private sequence = 0

  private constructor(socket: net.Socket, url: string, timeoutMs: number) {
    this.socket = socket
    this.url = url
    this.timeoutMs = timeoutMs
    socket.on('data', (data) => {
      this.held = this.held.length === 0 ? data : Buffer.concat([this.held, data])
      if (this.held.length > 2 * MAX_MESSAGE) socket.destroy(new Error('too much was sent'))
      this.wake()
    })
    const end = (why: string): void => {
      this.ended ||= why
      this.wake()
    }
    socket.on('error', () => end('the connection was reset'))
    socket.on('end', () => end('the connection was closed'))
    socket.on('close', () => end('the connection was closed'))
  }

  /** @throws OpcUaFailure */
  static async open(place: Place, options: ReachOptions): Promise<OpcUaClient> {
    const reached = await reach(place, options)
    if (reached.socket === null) throw new OpcUaFailure(`not connected: ${reached.reach}`)
    const host = place.host.includes(':') ? `[${place.host}]` : place.host
    const client = new OpcUaClient(reached.socket, `opc.tcp://${host}:${place.port}`, options.timeoutMs)
    try {
      await client.hello()
      await client.openChannel()
    } catch (error) {
      client.close()
      throw error
    }
    return client
  }

  close(): void {
    this.socket.destroy()
  }

  private send(type: string, write: (writer: Writer) => void): void {
    const writer = new Writer(512)
    for (const letter of type) writer.u8(letter.charCodeAt(0))
    writer.u32(0)
    write(writer)
    this.socket.write(Buffer.from(writer.patchU32(4, writer.length).written()))
  }

  private async hello(): Promise<void> {
    this.send('HELF', (writer) => writer.u32(0).u32(BUFFER).u32(BUFFER).u32(MAX_MESSAGE).u32(64).string(this.url))
    const { type } = await this.receive()
    if (type !== MESSAGE.ACK) throw new OpcUaFailure('no acknowledgement of the Hello')
  }

  private async openChannel(): Promise<void> {
    this.send('OPNF', (writer) => {
      writer.u32(0).string(policyUri('None')).byteString(null).byteString(null)
      writer.u32(++this.sequence).u32(this.sequence)
      this.header(writer, REQUEST.OpenSecureChannel)
      // Version, Issue, mode None, no nonce, lifetime (OPC 10000-4 §5.6.2).
      writer.u32(0).u32(0).u32(1).byteString(null).u32(LIFETIME_MS)
    })
    const cursor = await this.response(RESPONSE.OpenSecureChannel)
    cursor.u32()
    this.channel = cursor.u32()
    this.token = cursor.u32()
    if (cursor.fault !== 0) throw new OpcUaFailure('a malformed OpenSecureChannel response')
  }

  private header(writer: Writer, typeId: number): void {
    writeRequestHeader(writer.numericNodeId(0, typeId), null, this.sequence, dateTime(Date.now()), this.timeoutMs)
  }

  private request(typeId: number, write: (writer: Writer) => void): void {
    this.send('MSGF', (writer) => {
      writer
        .u32(this.channel)
        .u32(this.token)
        .u32(++this.sequence)
        .u32(this.sequence)
      this.header(writer, typeId)
      write(writer)
    })
  }

  /** @throws OpcUaFailure */
  async endpoints(): Promise<Endpoint[]> {
    this.request(REQUEST.GetEndpoints, (writer) => writer.string(this.url).i32(-1).i32(-1))
    const cursor = await this.response(RESPONSE.GetEndpoints)
    // An endpoint takes more bytes than this in any case; a count that is greater is a lie.
    const count = cursor.count(40)
    const endpoints: Endpoint[] = []
    for (let i = 0; i < count && cursor.fault === 0; i++) endpoints.push(readEndpoint(cursor))
    if (cursor.fault !== 0) throw new OpcUaFailure('a malformed GetEndpoints response')
    return endpoints
  }

  /**
   * Sends a Write of no nodes outside of any session: a server that it reaches refuses it, as it belongs to no session,
   * and even one that would not has nothing to write.
   * @returns the status that it was refused with; 0 where it was answered as if all were well
   * @throws OpcUaFailure where the connection ended instead
   */
  async emptyWrite(): Promise<number> {
    this.request(REQUEST.Write, (writer) => writer.i32(0))
    try {
      await this.response(RESPONSE.Write)
      return 0
    } catch (error) {
      if (error instanceof OpcUaFailure && error.status !== 0 && !error.message.startsWith('ERR')) return error.status
      throw error
    }
  }

  /** A cursor behind the response header. @throws OpcUaFailure */
  private async response(typeId: number): Promise<Cursor> {
    const { body } = await this.receive()
    const cursor = new Cursor().open(body, 0, body.length)
    const found = cursor.typeId()
    const header = new ResponseHeader()
    walkResponseHeader(cursor, header)
    if (cursor.fault !== 0) throw new OpcUaFailure('a malformed response')
    if (found === SERVICE_FAULT || header.serviceResult !== 0) {
      throw new OpcUaFailure(`ServiceFault ${statusText(header.serviceResult)}`, header.serviceResult)
    }
    if (found !== typeId) throw new OpcUaFailure(`a response of type ${found}, expected ${typeId}`)
    return cursor
  }

  /** The next message, put together from its chunks. @throws OpcUaFailure */
  private async receive(): Promise<Message> {
    const parts: Buffer[] = []
    let size = 0
    const deadline = Date.now() + this.timeoutMs
    for (;;) {
      const chunk = await this.chunk(deadline)
      const type = messageType(chunk, 0)
      if (type === MESSAGE.ERR) {
        const status = chunk.length >= 12 ? u32(chunk, HEADER) : 0
        throw new OpcUaFailure(`ERR ${statusText(status)}`, status)
      }
      if (type === MESSAGE.ACK) return { type, body: chunk.subarray(HEADER), channel: 0 }
      const bodyAt = type === MESSAGE.OPN ? openBodyAt(chunk) : AT.body
      if (bodyAt < 0 || bodyAt > chunk.length) throw new OpcUaFailure('a malformed chunk')
      parts.push(chunk.subarray(bodyAt))
      size += chunk.length
      if (size > MAX_MESSAGE) throw new OpcUaFailure('a message that is too long')
      if (chunk[3] === 0x41) throw new OpcUaFailure('the message was taken back')
      if (chunk[3] === 0x46) return { type, body: Buffer.concat(parts), channel: u32(chunk, AT.channel) }
    }
  }

  private async chunk(deadline: number): Promise<Buffer> {
    for (;;) {
      if (this.held.length >= HEADER) {
        const size = messageSize(this.held, 0)
        if (size < HEADER || size > MAX_MESSAGE) throw new OpcUaFailure('bytes that are no OPC UA message')
        if (this.held.length >= size) {
          const chunk = this.held.subarray(0, size)
          this.held = this.held.subarray(size)
          return chunk
        }
      }
      if (this.ended !== '') throw new OpcUaFailure(this.ended)
      const left = deadline - Date.now()
      if (left <= 0) throw new OpcUaFailure('no answer')
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left)
        this.wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
      this.wake = () => {}
    }
  }
}

/** Behind the asymmetric and the sequence header (OPC 10000-6 §6.7.2.3); -1: malformed. */
function openBodyAt(chunk: Buffer): number {
  const cursor = new Cursor().open(chunk, HEADER + 4, chunk.length)
  for (let i = 0; i < 3; i++) cursor.bytes()
  cursor.skip(8)
  return cursor.fault === 0 ? cursor.at : -1
}

/** EndpointDescription (OPC 10000-4 §7.14). */
function readEndpoint(cursor: Cursor): Endpoint {
  const text = (): string => {
    cursor.bytes()
    return textAt(cursor.buf, cursor.from, cursor.to)
  }
  const skipTexts = (count: number): void => {
    for (let i = 0; i < count && cursor.fault === 0; i++) cursor.bytes()
  }
  const url = text().slice(0, 300)
  // ApplicationDescription (§7.2).
  skipTexts(2)
  cursor.skipLocalizedText()
  cursor.skip(4)
  skipTexts(2)
  skipTexts(cursor.count(4))
  cursor.bytes()
  const mode = cursor.u32()
  const policy = text().slice(0, 300)
  const tokens = cursor.count(20)
  for (let i = 0; i < tokens && cursor.fault === 0; i++) {
    cursor.bytes()
    cursor.skip(4)
    skipTexts(3)
  }
  cursor.bytes()
  cursor.skip(1)
  return { url, mode: OPCUA_SECURITY_MODES[mode - 1] ?? null, policy }
}
