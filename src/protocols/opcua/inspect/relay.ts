/**
 * The way of the bytes: cuts what comes into chunks wherever reads cut it, has each judged by its head, and forwards,
 * leaves out, gathers or holds its bytes accordingly. Allowed chunks of one read leave as one write of the buffer they
 * came in. What Headgate says itself goes between two messages.
 */
import { AT, CHUNK, HEADER, messageSize, setU32, u32 } from '../chunk.ts'
import { CONNECTION_STATUS, errorMessage, faultMessage } from '../errors.ts'
import { FATE, type Stream } from '../stream.ts'
import { MODE } from '../terms.ts'
import type { InspectState } from './state.ts'

/** Answers of Headgate's own that wait for the end of a message to the client. */
const MAX_FAULTS = 64
/** Bytes of a client that wait until its channel's mode is known, or for a limit: one read, and what a pause lets by. */
const MAX_HELD = 1 << 20

const NO_BYTES = new Uint8Array(0)

/** What a relay asks of the session. Offsets are of `buf`; a fate is one of `FATE`. */
export interface RelayOwner {
  /** Passes what is whole and plainly allowed. @returns the offset behind it */
  passes(stream: Stream, buf: Uint8Array, o: number, end: number): number
  /** How many bytes of the message at `o` must be there to judge it. @param size of it; 0 while its header is not there */
  needed(stream: Stream, buf: Uint8Array, o: number, end: number, size: number): number
  /** @param here end of what is there of the message. @returns its fate */
  judge(stream: Stream, buf: Uint8Array, o: number, here: number, size: number): number
  /** A message that was gathered is whole. */
  gathered(stream: Stream): void
  /** What the client sends waits until it is known what its channel is. */
  readonly sounding: boolean
}

export class ChunkRelay {
  private readonly state: InspectState
  private readonly owner: RelayOwner
  /** The direction that is being walked. */
  private walking: Stream | null = null
  /** Answers of Headgate's own that wait. */
  faults: { request: number; handle: number; status: number }[] = []
  /** Bytes of the client that wait. */
  held: Uint8Array = NO_BYTES
  /** They wait for a limit of requests. */
  pacing = false

  constructor(state: InspectState, owner: RelayOwner) {
    this.state = state
    this.owner = owner
  }

  /** Bytes [start, end) of one direction. */
  take(stream: Stream, buf: Uint8Array, start: number, end: number): void {
    if (stream.up && this.held.length > 0) this.hold(buf, start, end)
    else this.walk(stream, buf, start, end)
    if (!stream.up && this.held.length > 0) this.resume()
  }

  /** Judges what comes in one direction, and forwards what may pass. */
  private walk(stream: Stream, buf: Uint8Array, start: number, end: number): void {
    const { state } = this
    let o = start
    // buf[run…o) is to be forwarded.
    let run = start
    this.walking = stream
    while (o < end && !(state.turning && stream.left === 0)) {
      if (stream.left > 0) {
        const to = o + Math.min(stream.left, end - o)
        stream.left -= to - o
        if (stream.fate !== FATE.pass) {
          this.forward(stream, buf, run, o)
          if (stream.fate === FATE.gather) stream.gather(buf, o, to)
          run = to
        }
        o = to
        if (stream.left > 0) break
        if (stream.fate === FATE.gather || (!stream.up && this.faults.length > 0)) {
          this.forward(stream, buf, run, o)
          run = o
          this.chunkEnded(stream)
        }
        if (state.stopped) break
        continue
      }
      if (stream.partLength > 0) {
        o = this.completePart(stream, buf, o, end)
        run = o
        if (state.stopped) break
        continue
      }
      const passed = this.owner.passes(stream, buf, o, end)
      if (passed !== o) {
        o = passed
        continue
      }
      const size = end - o >= HEADER ? messageSize(buf, o) : 0
      const need = this.owner.needed(stream, buf, o, end, size)
      if (state.stopped) break
      if (end - o < need) {
        this.forward(stream, buf, run, o)
        stream.keep(buf, o, end, state.clock.ms)
        run = o = end
        break
      }
      const fate = this.owner.judge(stream, buf, o, Math.min(end, o + size), size)
      if (fate === FATE.hold) {
        this.forward(stream, buf, run, o)
        this.hold(buf, o, end)
        run = o = end
        break
      }
      if (fate === FATE.stop) break
      stream.fate = fate
      stream.left = size
      if (o + size > end) stream.since = state.clock.ms
    }
    this.forward(stream, buf, run, o)
    this.walking = null
    if (!state.turning || stream.left > 0) return
    // Behind RHE the server's own messages begin.
    state.turning = false
    state.reversed = true
    if (o < end) this.walk(state.down, buf, o, end)
  }

  forward(stream: Stream, buf: Uint8Array, from: number, to: number): void {
    const { state } = this
    if (to <= from || state.through) return
    if (stream.up !== state.reversed) state.host.toTarget(buf, from, to)
    else state.host.toClient(buf, from, to)
  }

  /** Adds to the head of a chunk that is held what it lacks, and judges it. @returns the offset behind what it took */
  private completePart(stream: Stream, buf: Uint8Array, start: number, end: number): number {
    const { state } = this
    const { ms } = state.clock
    let o = start
    let size = 0
    for (;;) {
      size = stream.partLength >= HEADER ? messageSize(stream.part, 0) : 0
      const need = this.owner.needed(stream, stream.part, 0, stream.partLength, size)
      if (state.stopped) return end
      if (stream.partLength >= need) break
      if (o === end) return end
      const to = o + Math.min(need - stream.partLength, end - o)
      stream.keep(buf, o, to, ms)
      o = to
    }
    const { part, partLength: length } = stream
    const fate = this.owner.judge(stream, part, 0, length, size)
    stream.partLength = 0
    if (fate === FATE.hold) {
      this.hold(part, 0, length)
      this.hold(buf, o, end)
      return end
    }
    if (fate === FATE.stop) return o
    stream.fate = fate
    stream.left = size - length
    if (fate === FATE.pass) this.forward(stream, part, 0, length)
    else if (fate === FATE.gather) stream.gather(part, 0, length)
    if (stream.left === 0) this.chunkEnded(stream)
    return o
  }

  /** All bytes of a chunk have gone where they go. */
  private chunkEnded(stream: Stream): void {
    if (stream.fate === FATE.gather && !stream.open) this.owner.gathered(stream)
    if (!stream.up) this.sendFaults()
  }

  /** Bytes from the client that come before their time. */
  private hold(buf: Uint8Array, from: number, to: number): void {
    const length = this.held.length + to - from
    if (length > MAX_HELD) {
      this.state.cut(CONNECTION_STATUS.badRequestTooLarge, 'too many requests before the first answer')
      return
    }
    const held = new Uint8Array(length)
    held.set(this.held)
    held.set(buf.subarray(from, to), this.held.length)
    this.held = held
  }

  resume(): void {
    const { state } = this
    if (this.held.length === 0 || state.over || state.stopped || this.owner.sounding) return
    const bytes = this.held
    this.held = NO_BYTES
    this.pacing = false
    this.walk(state.up, bytes, 0, bytes.length)
  }

  /** Forwards what was gathered as it is. */
  forwardWhole(stream: Stream): void {
    const { gathered, gatheredLength: length } = stream
    if (this.state.mode === MODE.none) {
      for (let o = 0; o < length; o += messageSize(gathered, o)) stream.number(gathered, o + AT.sequence)
    }
    this.forward(stream, gathered, 0, length)
  }

  /** Sends a message of Headgate's own making, in as many chunks as it takes. */
  emit(stream: Stream, body: Uint8Array): void {
    const { state } = this
    const most = Math.min(stream.up ? state.upMost : state.downMost, 65_536) - AT.body
    const chunk = new Uint8Array(AT.body + Math.min(most, body.length))
    chunk.set([0x4d, 0x53, 0x47])
    setU32(chunk, AT.channel, state.channel)
    setU32(chunk, AT.token, u32(stream.gathered, AT.token))
    setU32(chunk, AT.request, stream.request)
    for (let from = 0; from < body.length; from += most) {
      const part = body.subarray(from, from + most)
      chunk[3] = from + most >= body.length ? CHUNK.final : CHUNK.intermediate
      setU32(chunk, 4, AT.body + part.length)
      setU32(chunk, AT.sequence, stream.next())
      chunk.set(part, AT.body)
      this.forward(stream, chunk, 0, AT.body + part.length)
    }
  }

  /** Answers a request on a channel in clear with a ServiceFault, as soon as no message to the client is under way. */
  answer(request: number, handle: number, status: number): void {
    const { state } = this
    if (this.faults.length >= MAX_FAULTS) {
      state.cut(CONNECTION_STATUS.badUserAccessDenied, 'too many denied requests at one time')
      return
    }
    this.faults.push({ request, handle, status })
    if (this.walking !== state.down) this.sendFaults()
  }

  private sendFaults(): void {
    const { state, faults } = this
    const { down } = state
    if (faults.length === 0 || down.open || down.left > 0) return
    for (const { request, handle, status } of faults) {
      const bytes = faultMessage(state.channel, state.token, down.next(), request, handle, status, Date.now())
      this.forward(down, bytes, 0, bytes.length)
    }
    faults.length = 0
  }

  /** Nothing more is to come of what waits. */
  drop(): void {
    this.held = NO_BYTES
    this.pacing = false
  }

  /** Ends the connection where it is to end. */
  finishCut(): void {
    const { state } = this
    const { cutting, down } = state
    if (cutting === null || state.over) return
    state.cutting = null
    state.over = true
    this.drop()
    if (!state.through && (down.left === 0 || down.fate !== FATE.pass)) {
      const bytes = errorMessage(cutting.status, cutting.why)
      if (state.reversed) state.host.toTarget(bytes, 0, bytes.length)
      else state.host.toClient(bytes, 0, bytes.length)
    }
    state.host.finish(cutting.why)
  }
}
