/**
 * Cuts a stream into chunks. One that came whole is handed on where it lies; one that came in parts is put together in
 * memory of its own, which is taken only once its header was found good.
 */
import { HEADER, messageSize, messageType } from '../chunk.ts'

export interface ChunkSink {
  /** The most bytes that a message of that type may take now; 0: it may not come now. */
  most(type: number): number
  /** Bytes [start, end) of `buf` are one message. False: no more are wanted. */
  onChunk(type: number, buf: Uint8Array, start: number, end: number): boolean
  /** The stream cannot go on. */
  onBadChunk(tooLarge: boolean): void
}

/** Memory that chunks were put together in, kept for the next. */
const SPARE: Uint8Array[] = []
const SPARE_BYTES = 65_536
const SPARES = 4

export class ChunkReader {
  private readonly sink: ChunkSink
  private readonly header = new Uint8Array(HEADER)
  private part: Uint8Array | null = null
  private length = 0
  private size = 0

  constructor(sink: ChunkSink) {
    this.sink = sink
  }

  /** Bytes of a chunk that is not whole yet. */
  get held(): number {
    return this.length
  }

  /** Forgets what it holds: the stream begins anew. */
  reset(): void {
    if (this.part !== null) release(this.part)
    this.part = null
    this.length = 0
  }

  feed(buf: Uint8Array, start: number, end: number): void {
    let o = start
    if (this.length > 0) {
      o = this.fill(buf, o, end)
      if (o === -1) return
    }
    while (end - o >= HEADER) {
      const size = this.judge(buf, o)
      if (size === 0) return
      if (end - o < size) break
      if (!this.sink.onChunk(messageType(buf, o), buf, o, o + size)) return
      o += size
    }
    if (o < end) this.hold(buf, o, end)
  }

  /** Size of the message that begins at `o`; 0 where it may not be. */
  private judge(buf: Uint8Array, o: number): number {
    const size = messageSize(buf, o)
    const most = this.sink.most(messageType(buf, o))
    if (size >= HEADER && size <= most) return size
    this.sink.onBadChunk(most > 0 && size >= HEADER)
    return 0
  }

  private hold(buf: Uint8Array, o: number, end: number): void {
    this.length = end - o
    if (this.length < HEADER) {
      this.header.set(buf.subarray(o, end))
      return
    }
    this.size = messageSize(buf, o)
    this.part = take(this.size)
    this.part.set(buf.subarray(o, end))
  }

  /** Adds to what is held. @returns where the rest begins; -1 where there is none, or none is wanted */
  private fill(buf: Uint8Array, start: number, end: number): number {
    let o = start
    if (this.part === null) {
      const missing = Math.min(HEADER - this.length, end - o)
      this.header.set(buf.subarray(o, o + missing), this.length)
      this.length += missing
      o += missing
      if (this.length < HEADER) return -1
      const size = this.judge(this.header, 0)
      if (size === 0) return -1
      this.size = size
      this.part = take(size)
      this.part.set(this.header)
    }
    const missing = Math.min(this.size - this.length, end - o)
    this.part.set(buf.subarray(o, o + missing), this.length)
    this.length += missing
    o += missing
    if (this.length < this.size) return -1
    const { part, size } = this
    this.part = null
    this.length = 0
    const more = this.sink.onChunk(messageType(part, 0), part, 0, size)
    release(part)
    return more ? o : -1
  }
}

function take(size: number): Uint8Array {
  if (size <= 1024 || size > SPARE_BYTES) return new Uint8Array(size)
  return SPARE.pop() ?? new Uint8Array(SPARE_BYTES)
}

function release(part: Uint8Array): void {
  if (part.length === SPARE_BYTES && SPARE.length < SPARES) SPARE.push(part)
}
