/**
 * What one turn of the loop has read and is yet to send. All that is ready is read first, and then all of it is sent:
 * a peer that is woken by the first write of a turn finds the others' when it runs, which halves the switches between
 * processes where they share a processor (bench: proxy, 50 connections).
 *
 * Bytes stay where they were read; the next read lands behind them.
 */
import { AREA, type Memory } from './memory.ts'

/** Writes that wait at one time. */
const MAX_WRITES = 256

/** Bytes that are copied faster by hand than by a call. */
const SMALL = 64

/** One of a connection's two sockets. */
export interface Outlet {
  /** Sends bytes [from, to) of the memory, now. */
  send(from: number, to: number): void
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

  constructor(memory: Memory) {
    this.memory = memory
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
      const at = this.next++
      const outlet = this.outlets[at]
      this.outlets[at] = null
      outlet?.send(this.from[at], this.to[at])
    }
    this.next = 0
    this.count = 0
  }
}
