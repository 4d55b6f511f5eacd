/**
 * Finds the chunks of an OPC UA connection in its bytes (OPC 10000-6 §6.7.2, §7.1.2), and what its channels are: in
 * clear (None and Sign) messages can be read; of encrypted ones there is no more than how many they are, and how their
 * channel was opened. Where bytes are missing, or what is seen begins in the middle, the next chunk is found again.
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
import { policyByName } from '../protocols/opcua/security/policies.ts'
import { OPCUA_SECURITY_MODES, policyOf } from '../protocols/opcua/security.ts'
import { functionOfRequest, isResponse } from '../protocols/opcua/services.ts'
import type { OpcUaTrack } from './opcua-track.ts'

/** Chunks larger than this are none. */
const MAX_CHUNK = 64 << 20
/** Bytes of OPN that are looked at: certificates of a chain included. */
const MAX_OPEN = 16_384
const TYPES = new Set<number>(Object.values(MESSAGE))
const KINDS = new Set<number>(Object.values(CHUNK))

/** Bytes of a message up to the service result of its response. */
const MESSAGE_HEAD = AT.body + MAX_TYPE_ID_BYTES + 16

/** Bytes that must be there of a chunk before it can be told what it is. */
function headOf(type: number, size: number): number {
  if (type === MESSAGE.MSG) return Math.min(size, MESSAGE_HEAD)
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

/** One direction: chunks, in order. */
class Chunks {
  private readonly up: boolean
  private readonly reader: OpcUaReader
  private head: Uint8Array = new Uint8Array(64)
  private length = 0
  /** Bytes of a chunk whose head has been handed out. */
  private left = 0
  private synced: boolean
  /** Bytes that belong to no chunk. */
  skipped = 0

  constructor(reader: OpcUaReader, up: boolean, synced: boolean) {
    this.reader = reader
    this.up = up
    this.synced = synced
  }

  lose(): void {
    this.skipped += this.length
    this.length = 0
    this.left = 0
    this.synced = false
  }

  feed(buf: Uint8Array, from: number, to: number): void {
    let at = from
    while (at < to) {
      if (this.left > 0) {
        const step = Math.min(this.left, to - at)
        this.left -= step
        this.reader.more(this.up, buf, at, at + step)
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
      if (this.length === 0 && isHeader(buf, at, to)) {
        const size = messageSize(buf, at)
        const here = Math.min(size, to - at)
        if (here >= headOf(messageType(buf, at), size)) {
          this.left = size - here
          this.reader.chunk(this.up, buf, at, at + here, size)
          at += here
          continue
        }
      }
      const need = this.length < HEADER ? HEADER : headOf(messageType(this.head, 0), messageSize(this.head, 0))
      const step = Math.min(need - this.length, to - at)
      this.keep(buf, at, at + step)
      at += step
      if (this.length < HEADER) return
      if (!isHeader(this.head, 0, this.length)) {
        this.lose()
        this.reader.lost(this.up)
        continue
      }
      const size = messageSize(this.head, 0)
      const { length } = this
      if (length < headOf(messageType(this.head, 0), size)) continue
      this.left = size - length
      this.length = 0
      this.reader.chunk(this.up, this.head, 0, length, size)
    }
  }

  private keep(buf: Uint8Array, from: number, to: number): void {
    const length = this.length + to - from
    if (this.head.length < length) {
      const grown = new Uint8Array(Math.max(length, 2 * this.head.length))
      for (let i = 0; i < this.length; i++) grown[i] = this.head[i]
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

/** Lengths of signatures: of a channel whose opening was not seen, the one is taken that its requests keep to. */
const SIGNATURES = [0, 32, 20]

export class OpcUaReader {
  private readonly up: Chunks
  private readonly down: Chunks
  private readonly track: OpcUaTrack
  private policy = 'unknown'
  private mode = 'unknown'
  private told = false
  /** Bytes of a message's signature; -1: not known. */
  private signature = -1
  /** The server has opened the connection. */
  private reversed = false
  /** Behind an intermediate chunk the next is the message's as well. */
  private upOpen = false
  private downOpen = false
  /** Bytes of the chunk under way that are body and have not come yet. */
  private upBody = 0
  private downBody = 0

  /** @param whole the connection's beginning will be seen */
  constructor(track: OpcUaTrack, whole: boolean) {
    this.track = track
    this.up = new Chunks(this, true, whole)
    this.down = new Chunks(this, false, whole)
  }

  feed(fromClient: boolean, buf: Uint8Array, from: number, to: number): void {
    const chunks = fromClient ? this.up : this.down
    const before = chunks.skipped
    chunks.feed(buf, from, to)
    if (chunks.skipped > before) this.track.garbage(chunks.skipped - before)
  }

  lose(fromClient: boolean): void {
    const chunks = fromClient ? this.up : this.down
    chunks.lose()
    this.lost(fromClient)
  }

  /** The chunk under way will not be seen to its end. @param up from whoever opened the connection */
  lost(up: boolean): void {
    const fromClient = up !== this.reversed
    this.track.drop(fromClient)
    if (fromClient) this.upOpen = false
    else this.downOpen = false
    this.setBody(fromClient, 0)
  }

  private setBody(fromClient: boolean, left: number): void {
    if (fromClient) this.upBody = left
    else this.downBody = left
  }

  /** The head of a chunk of `size` bytes, or all of it: `buf[at…end)`. */
  chunk(up: boolean, buf: Uint8Array, at: number, end: number, size: number): void {
    const type = messageType(buf, at)
    if (type === MESSAGE.RHE && up && !this.reversed) {
      this.reversed = true
      this.track.reverse()
      return
    }
    const fromClient = up !== this.reversed
    this.setBody(fromClient, 0)
    if (type === MESSAGE.HEL) {
      const hello = readHello(buf, at, end)
      if (hello !== null && hello.endpointUrl !== '') this.track.url(hello.endpointUrl)
    } else if (type === MESSAGE.OPN) this.open(fromClient, buf, at, end)
    else if (type === MESSAGE.CLO && fromClient) this.track.request('CloseSecureChannel')
    else if (type === MESSAGE.MSG) this.message(fromClient, buf, at, end, size)
  }

  /** Further bytes of the chunk under way. */
  more(up: boolean, buf: Uint8Array, from: number, to: number): void {
    const fromClient = up !== this.reversed
    const left = fromClient ? this.upBody : this.downBody
    if (left === 0) return
    const step = Math.min(left, to - from)
    this.track.add(fromClient, buf, from, from + step)
    this.setBody(fromClient, left - step)
    // The body has ended before the chunk does: behind it is the signature.
    if (left === step && !(fromClient ? this.upOpen : this.downOpen)) this.track.end(fromClient, null)
  }

  private open(fromClient: boolean, buf: Uint8Array, at: number, end: number): void {
    if (!fromClient) {
      this.track.channelAnswered()
      return
    }
    this.track.request('OpenSecureChannel')
    const header = readOpen(buf, at, end)
    if (header === null) return
    const policy = policyOf(header.policyUri) ?? 'unknown'
    // A renewal is of the channel that there is.
    if (header.channel !== 0 && this.policy === policy) return
    this.policy = policy
    this.told = false
    const mode = policy === 'None' ? requestedMode(buf, header.sequenceAt + 8, end) : 0
    this.mode = policy === 'None' ? (OPCUA_SECURITY_MODES[mode - 1] ?? 'None') : 'unknown'
    this.signature = policy === 'None' ? 0 : policy === 'unknown' ? -1 : policyByName(policy).macBytes
    if (this.mode !== 'unknown') this.tell()
  }

  private tell(): void {
    if (this.told) return
    this.told = true
    this.track.channel({ policy: this.policy, mode: this.mode })
  }

  private message(fromClient: boolean, buf: Uint8Array, at: number, end: number, size: number): void {
    const continued = fromClient ? this.upOpen : this.downOpen
    const flag = buf[at + 3]
    const open = flag === CHUNK.intermediate
    if (fromClient) this.upOpen = open
    else this.downOpen = open
    const body = at + AT.body
    if (size < AT.body) return
    const requestId = u32(buf, at + AT.request)
    if (!continued) {
      this.infer(fromClient, buf, at, end)
      this.tell()
    }
    if (this.mode === 'SignAndEncrypt') {
      if (!continued) this.track.hidden(fromClient)
      return
    }
    if (flag === CHUNK.abort) {
      this.track.abort(fromClient, requestId)
      return
    }
    const whole = end - at === size
    if (!continued) this.track.begin(fromClient, requestId, buf, body, end)
    if (this.signature === -1) this.learnSignature(buf, body, whole && !continued && !open ? end : body)
    if (this.signature === -1) {
      // Where its body ends cannot be told.
      this.track.blur(fromClient)
      if (!open) this.track.end(fromClient, null)
      return
    }
    const stop = Math.max(body, at + size - this.signature)
    if (whole && !continued && !open) {
      this.track.whole(fromClient, buf, body, stop, null)
      return
    }
    this.track.add(fromClient, buf, body, Math.min(stop, end))
    this.setBody(fromClient, Math.max(0, stop - end))
    if (!open && stop <= end) this.track.end(fromClient, null)
  }

  private infer(fromClient: boolean, buf: Uint8Array, at: number, end: number): void {
    if (this.mode !== 'unknown' || u32(buf, at + AT.channel) === 0) return
    const typeId = typeIdAt(buf, at + AT.body, end)
    const visible = fromClient ? functionOfRequest(Math.max(0, typeId)) !== 0 : isResponse(typeId)
    // In clear a known type id stands where encryption leaves chance: of 2^32 first bytes some forty are one.
    if (this.policy !== 'unknown') this.mode = visible ? 'Sign' : 'SignAndEncrypt'
    else this.mode = visible ? 'in clear' : 'SignAndEncrypt'
  }

  private learnSignature(buf: Uint8Array, body: number, end: number): void {
    for (const length of SIGNATURES) {
      if (end - length <= body || !this.track.fits(buf, body, end - length)) continue
      this.signature = length
      return
    }
  }
}
