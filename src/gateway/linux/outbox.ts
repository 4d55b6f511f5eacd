/**
 * What one turn of the loop has read and is yet to send. All that is ready is read first, and then all of it is sent:
 * a peer that is woken by the first write of a turn finds the others' when it runs, which halves the switches between
 * processes where they share a processor (bench: proxy, 50 connections).
 *
 * Bytes stay where they were read; the next read lands behind them.
 */
import { AREA, type Memory } from './memory.ts'
import type { SendBatch } from './send-batch.ts'

/** Writes that wait at one time. */
const MAX_WRITES = AREA.batch
/** Writes below which a batch costs more than it saves. */
const FEW = 4

/** Bytes that are copied faster by hand than by a call. */
const SMALL = 64

/** One of a connection's two sockets. */
export interface Outlet {
  /** -1: closed. */
  readonly fd: number
  /** Bytes that wait for the kernel to have room: what is sent now waits behind them. */
  readonly queued: number
  /** The batch that it last had a write in. */
  mark: number
  /** Sends bytes [from, to) of the memory, now. */
  send(from: number, to: number): void
  /** Of those bytes a batch has sent `sent`, or an errno, negated: takes note of that, and does no more. */
  sent(from: number, to: number, sent: number): void
  /** After `sent`, once all of the batch have had theirs: draws the consequences. */
  settle(): void
}

export class Outbox {
  private readonly memory: Memory
  private readonly outlets: (Outlet | null)[] = new Array(MAX_WRITES).fill(null)
  private readonly from = new Int32Array(MAX_WRITES)
  private readonly to = new Int32Array(MAX_WRITES)
  private next = 0
  private count = 0
  /** Where free memory begins. */
  private end: number = AREA.head
  private readonly batch: SendBatch | null
  private mark = 0
  /** The writes in the batch, by their places there. */
  private readonly staged = new Int32Array(MAX_WRITES)

  /** @param batch null: each write is a system call of its own */
  constructor(memory: Memory, batch: SendBatch | null) {
    this.memory = memory
    this.batch = batch
  }

  /**
   * Where the next read goes: `AREA.readBytes` from here, and `room` bytes before, are free. To be followed by
   * `landed` before anything is added.
   * @param room at most `HEAD_ROOM`
   */
  place(room: number): number {
    if (this.count > 0 && this.end + room + AREA.readBytes > AREA.turnEnd) this.flush()
    if (this.count === 0) this.end = AREA.head
    return this.end + room
  }

  /** A read has filled memory up to `end`. */
  landed(end: number): void {
    this.end = end
  }

  /** Bytes [from, to) of what was read are to be sent. */
  add(outlet: Outlet, from: number, to: number): void {
    if (this.count === MAX_WRITES) this.flush()
    const at = this.count++
    this.outlets[at] = outlet
    this.from[at] = from
    this.to[at] = to
  }

  /**
   * Bytes from elsewhere are to be sent: they are copied.
   * @returns false where there is no room for so many
   */
  addCopy(outlet: Outlet, buf: Uint8Array, from: number, to: number): boolean {
    const at = this.end
    if (at + to - from > AREA.turnEnd) return false
    const { bytes } = this.memory
    if (to - from > SMALL) bytes.set(from === 0 && to === buf.length ? buf : buf.subarray(from, to), at)
    else for (let i = from; i < to; i++) bytes[at + i - from] = buf[i]
    this.end = at + to - from
    this.add(outlet, at, this.end)
    return true
  }

  /** The turn is over: sends all, and frees the memory. */
  finish(): void {
    this.flush()
    this.end = AREA.head
  }

  /** Sends all, in order. May be called from within itself. */
  flush(): void {
    while (this.next < this.count) {
      if (this.batch !== null && this.count - this.next >= FEW && this.flushBatch(this.batch)) continue
      const at = this.next++
      const outlet = this.outlets[at]
      this.outlets[at] = null
      outlet?.send(this.from[at], this.to[at])
    }
    this.next = 0
    this.count = 0
  }

  /**
   * Sends the next writes in one batch, up to the first whose outlet has one there already: what the kernel does not
   * take of the one must go before the other.
   * @returns false where they are few, or the first is not taken: it is to be sent by itself
   */
  private flushBatch(batch: SendBatch): boolean {
    const { outlets, from, to, staged } = this
    const mark = ++this.mark
    let count = 0
    let at = this.next
    for (; at < this.count; at++) {
      const outlet = outlets[at]
      if (outlet === null) continue
      if (outlet.mark === mark) break
      if (outlet.fd === -1 || outlet.queued > 0) {
        // Nobody's, or kept.
        outlets[at] = null
        outlet.send(from[at], to[at])
        continue
      }
      outlet.mark = mark
      staged[count] = at
      batch.stage(count++, outlet.fd, from[at], to[at] - from[at])
    }
    if (count < FEW) return false
    const taken = batch.submit(count)
    this.next = taken === count ? at : staged[taken]
    let short: Outlet[] | null = null
    for (let place = 0; place < taken; place++) {
      const write = staged[place]
      const outlet = outlets[write] as Outlet
      outlets[write] = null
      const sent = batch.result(place)
      if (sent === to[write] - from[write]) continue
      outlet.sent(from[write], to[write], sent)
      short ??= []
      short.push(outlet)
    }
    // Any of these may flush what follows.
    if (short !== null) for (const outlet of short) outlet.settle()
    return taken > 0
  }
}
