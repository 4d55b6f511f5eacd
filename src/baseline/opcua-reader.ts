/**
 * What a captured OPC UA connection asks for, as far as it can be read: its services on channels in clear (None and
 * Sign); of encrypted ones how many messages, and how they were opened. Reads the heads of chunks alone (OPC 10000-6
 * §6.7.2, §7.1.2). Where bytes are missing, or the capture begins in the middle, the next chunk is found again.
 */
import {
  AT,
  CHUNK,
  HEADER,
  MAX_HELLO,
  MAX_TYPE_ID_BYTES,
  MESSAGE,
  messageSize,
  messageType,
  typeIdAt,
  u32,
} from '../protocols/opcua/chunk.ts'
import { readHello, readOpen, requestedMode } from '../protocols/opcua/opening.ts'
import { OPCUA_SECURITY_MODES, policyOf } from '../protocols/opcua/security.ts'
import { FUNCTION, functionLabel, functionOfRequest, isResponse, SERVICE_FAULT } from '../protocols/opcua/services.ts'

/** Chunks larger than this are none. */
const MAX_CHUNK = 64 << 20
/** Bytes of OPN that are looked at: certificates of a chain included. */
const MAX_OPEN = 16_384
const TYPES = new Set<number>(Object.values(MESSAGE))
const KINDS = new Set<number>(Object.values(CHUNK))

/** Bytes that must be there of a chunk before it can be told what it is. */
function headOf(type: number, size: number): number {
  if (type === MESSAGE.MSG) return Math.min(size, AT.body + MAX_TYPE_ID_BYTES)
  if (type === MESSAGE.OPN) return Math.min(size, MAX_OPEN)
  return Math.min(size, type === MESSAGE.HEL ? MAX_HELLO : HEADER)
}

/** Whether a chunk's header stands at `at`. */
export function isHeader(buf: Uint8Array, at: number, end: number): boolean {
  if (end - at < HEADER || !TYPES.has(messageType(buf, at)) || !KINDS.has(buf[at + 3])) return false
  const size = messageSize(buf, at)
  return size >= HEADER && size <= MAX_CHUNK
}

/** Whether bytes that a segment begins with are chunks up to its end. */
export function isChunked(buf: Uint8Array, start: number, end: number): boolean {
  let at = start
  while (at < end && isHeader(buf, at, end)) at += messageSize(buf, at)
  return at >= end && at > start
}

/** One direction: heads of chunks, in order. */
class Chunks {
  private head: Uint8Array = new Uint8Array(64)
  private length = 0
  /** Bytes of a chunk whose head has been handed out. */
  private left = 0
  private synced: boolean
  /** Bytes that belong to no chunk. */
  skipped = 0

  constructor(synced: boolean) {
    this.synced = synced
  }

  lose(): void {
    this.skipped += this.length
    this.length = 0
    this.left = 0
    this.synced = false
  }

  /** @param take is given the head of each chunk, whose bytes are this object's again on return */
  feed(buf: Uint8Array, from: number, to: number, take: (head: Uint8Array, length: number) => void): void {
    let at = from
    while (at < to) {
      if (this.left > 0) {
        const step = Math.min(this.left, to - at)
        this.left -= step
        at += step
        continue
      }
      if (!this.synced) {
        const next = this.find(buf, at, to, at === from)
        this.skipped += next - at
        at = next
        if (at === to) return
        this.synced = true
      }
      const need = this.length < HEADER ? HEADER : headOf(messageType(this.head, 0), messageSize(this.head, 0))
      const step = Math.min(need - this.length, to - at)
      this.keep(buf, at, at + step)
      at += step
      if (this.length < HEADER) return
      if (!isHeader(this.head, 0, this.length)) {
        this.lose()
        continue
      }
      const size = messageSize(this.head, 0)
      if (this.length < headOf(messageType(this.head, 0), size)) continue
      take(this.head, this.length)
      this.left = size - this.length
      this.length = 0
    }
  }

  private keep(buf: Uint8Array, from: number, to: number): void {
    const length = this.length + to - from
    if (this.head.length < length) {
      const grown = new Uint8Array(Math.max(length, 2 * this.head.length))
      grown.set(this.head.subarray(0, this.length))
      this.head = grown
    }
    for (let i = from; i < to; i++) this.head[this.length++] = buf[i]
  }

  /** At the start of a segment a header is enough; elsewhere the bytes from there must be chunks to the segment's end. */
  private find(buf: Uint8Array, from: number, to: number, aligned: boolean): number {
    if (aligned && isHeader(buf, from, to)) return from
    for (let at = from + 1; at + AT.body <= to; at++) if (isHeader(buf, at, to) && isChunked(buf, at, to)) return at
    return to
  }
}

/** Policy and mode of a channel, by their names; `unknown` where its opening was not seen. */
export interface ChannelKind {
  policy: string
  mode: string
}

/** Takes what a connection is found to do. */
export interface OpcUaSink {
  endpoint(url: string): void
  /** A channel was opened, or found open; once its mode is known. */
  channel(kind: ChannelKind): void
  /** @param name of the service; `encrypted` or `unknown` */
  request(name: string): void
  response(fault: boolean): void
  garbage(bytes: number): void
}

export class OpcUaReader {
  private readonly up: Chunks
  private readonly down: Chunks
  private readonly sink: OpcUaSink
  private policy = 'unknown'
  private mode = 'unknown'
  private told = false
  /** Behind an intermediate chunk the next is the message's as well. */
  private upOpen = false
  private downOpen = false

  /** @param whole the capture has the connection's beginning */
  constructor(sink: OpcUaSink, whole: boolean) {
    this.sink = sink
    this.up = new Chunks(whole)
    this.down = new Chunks(whole)
  }

  feed(fromClient: boolean, buf: Uint8Array, from: number, to: number): void {
    const chunks = fromClient ? this.up : this.down
    const before = chunks.skipped
    chunks.feed(buf, from, to, (head, length) => this.chunk(fromClient, head, length))
    if (chunks.skipped > before) this.sink.garbage(chunks.skipped - before)
  }

  lose(fromClient: boolean): void {
    const chunks = fromClient ? this.up : this.down
    chunks.lose()
    if (fromClient) this.upOpen = false
    else this.downOpen = false
  }

  private chunk(fromClient: boolean, head: Uint8Array, length: number): void {
    const type = messageType(head, 0)
    if (type === MESSAGE.HEL) {
      const hello = readHello(head, 0, length)
      if (hello !== null && hello.endpointUrl !== '') this.sink.endpoint(hello.endpointUrl)
    } else if (type === MESSAGE.OPN) this.open(fromClient, head, length)
    else if (type === MESSAGE.CLO && fromClient) this.sink.request('CloseSecureChannel')
    else if (type === MESSAGE.MSG) this.message(fromClient, head, length)
  }

  private open(fromClient: boolean, head: Uint8Array, length: number): void {
    if (!fromClient) return
    this.sink.request('OpenSecureChannel')
    const header = readOpen(head, 0, length)
    if (header === null) return
    const policy = policyOf(header.policyUri) ?? 'unknown'
    // A renewal is of the channel that there is.
    if (header.channel !== 0 && this.policy === policy) return
    this.policy = policy
    this.told = false
    const mode = policy === 'None' ? requestedMode(head, header.sequenceAt + 8, length) : 0
    this.mode = policy === 'None' ? (OPCUA_SECURITY_MODES[mode - 1] ?? 'None') : 'unknown'
    if (this.mode !== 'unknown') this.tell()
  }

  private tell(): void {
    if (this.told) return
    this.told = true
    this.sink.channel({ policy: this.policy, mode: this.mode })
  }

  private message(fromClient: boolean, head: Uint8Array, length: number): void {
    const continued = fromClient ? this.upOpen : this.downOpen
    const open = head[3] === CHUNK.intermediate
    if (fromClient) this.upOpen = open
    else this.downOpen = open
    if (continued) return
    const typeId = typeIdAt(head, AT.body, length)
    const visible = fromClient ? functionOfRequest(Math.max(0, typeId)) !== 0 : isResponse(typeId)
    if (this.mode === 'unknown' && u32(head, AT.channel) !== 0) {
      // In clear a known type id stands where encryption leaves chance: of 2^32 first bytes some forty are one.
      if (this.policy !== 'unknown') this.mode = visible ? 'Sign' : 'SignAndEncrypt'
      else this.mode = visible ? 'in clear' : 'SignAndEncrypt'
    }
    this.tell()
    const hidden = this.mode === 'SignAndEncrypt'
    if (!fromClient) {
      this.sink.response(!hidden && typeId === SERVICE_FAULT)
      return
    }
    const fn = functionOfRequest(Math.max(0, typeId))
    this.sink.request(hidden ? functionLabel(FUNCTION.encrypted) : functionLabel(fn))
  }
}
