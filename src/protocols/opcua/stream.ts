/** One direction of a connection: what of a chunk or a message is still to come, and how its chunks are numbered. */
import { follows, SEQUENCE_WRAP, setU32, u32 } from './chunk.ts'

/** What becomes of a chunk's bytes. */
export const FATE = {
  pass: 1,
  /** They go no further. */
  swallow: 2,
  /** They are kept until the message is whole. */
  gather: 3,
  /** The connection ends. */
  stop: 4,
  /** Not now: the direction waits. */
  hold: 5,
} as const

const NO_BYTES = new Uint8Array(0)

export class Stream {
  /** The client's requests; else the server's answers. */
  readonly up: boolean

  /** The head of a chunk of which not enough has come to judge it. */
  part: Uint8Array = NO_BYTES
  partLength = 0
  /** When what is incomplete began, in milliseconds on the worker's clock. */
  since = 0
  /** Bytes of a judged chunk that are still to come. */
  left = 0
  /** `FATE` of them, and of the message's further chunks. */
  fate: number = FATE.pass

  /** Between the first chunk of a message and its last. */
  open = false
  request = 0
  fn = 0
  rule = -1
  chunks = 0
  bytes = 0

  /** Sequence number of the chunk received last; -1: none that could be read. */
  sequence = -1
  /** The number that went on last. */
  sent = 0
  /** Chunks were left out or put in, so that what goes on is numbered anew. */
  renumbering = false

  /** The message that is being gathered: whole chunks. */
  gathered: Uint8Array = NO_BYTES
  gatheredLength = 0

  constructor(up: boolean) {
    this.up = up
  }

  /** Nothing is partly through. */
  get idle(): boolean {
    return this.left === 0 && this.partLength === 0 && !this.open
  }

  /** Adds [from, to) to the head that is held. */
  keep(buf: Uint8Array, from: number, to: number, ms: number): void {
    const length = this.partLength + to - from
    if (this.part.length < length) {
      const grown = new Uint8Array(Math.max(512, length))
      grown.set(this.part.subarray(0, this.partLength))
      this.part = grown
    }
    if (this.partLength === 0) this.since = ms
    this.part.set(buf.subarray(from, to), this.partLength)
    this.partLength = length
  }

  gather(buf: Uint8Array, from: number, to: number): void {
    const length = this.gatheredLength + to - from
    if (this.gathered.length < length) {
      const grown = new Uint8Array(Math.max(4096, length, 2 * this.gathered.length))
      grown.set(this.gathered.subarray(0, this.gatheredLength))
      this.gathered = grown
    }
    this.gathered.set(buf.subarray(from, to), this.gatheredLength)
    this.gatheredLength = length
  }

  /** What was gathered has been dealt with; a large buffer goes back to the heap. */
  release(): void {
    this.gatheredLength = 0
    if (this.gathered.length > 1 << 16) this.gathered = NO_BYTES
  }

  /** The next number of its own, from where on numbers are this gateway's. */
  next(): number {
    this.renumbering = true
    this.sent = this.sent > SEQUENCE_WRAP ? 1 : this.sent + 1
    return this.sent
  }

  /** Takes the number of a chunk. @returns whether it may follow the one before */
  take(sequence: number): boolean {
    const may = this.sequence === -1 || follows(sequence, this.sequence)
    this.sequence = sequence
    return may
  }

  /** A chunk in clear goes on, whose number stands at `at`: as it is, or as the next number of its own. */
  number(buf: Uint8Array, at: number): void {
    if (this.renumbering) setU32(buf, at, this.next())
    else this.sent = u32(buf, at)
  }
}
