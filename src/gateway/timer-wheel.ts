/**
 * Time-outs of all connections of a worker: a wheel of lists, without a timer object for each connection.
 *
 * A connection is looked at no later than its shortest time-out after it was last looked at, so nothing has to be
 * re-armed when a frame comes: whatever begins after one look ends after the next.
 */
const TICK_MS = 20
const SLOTS = 512

export interface Timed {
  /** Does what is due; returns in how many milliseconds it wants to be called again, or 0 to be left alone. */
  onTimer(): number
}

export class TimerWheel {
  private readonly slots: { timed: Timed; due: number }[][] = Array.from({ length: SLOTS }, () => [])
  private tick: number

  /** @param ms the worker's clock, in milliseconds */
  constructor(ms: number) {
    this.tick = Math.floor(ms / TICK_MS)
  }

  /** How often `advance` wants to be called, in milliseconds. */
  static readonly interval = TICK_MS

  add(timed: Timed, ms: number, delay: number): void {
    this.place({ timed, due: Math.floor((ms + delay) / TICK_MS) + 1 })
  }

  private place(entry: { timed: Timed; due: number }): void {
    // What is due beyond the wheel's turn waits in the last slot, and is placed again from there.
    const at = Math.min(Math.max(entry.due, this.tick + 1), this.tick + SLOTS - 1)
    this.slots[((at % SLOTS) + SLOTS) % SLOTS].push(entry)
  }

  /** Calls all that is due. */
  advance(ms: number): void {
    const now = Math.floor(ms / TICK_MS)
    // The clock of 32 bits has wrapped: what was due is due now.
    if (now < this.tick) this.tick = now - 1
    let turns = Math.min(now - this.tick, SLOTS)
    this.tick = now - turns
    for (; turns > 0; turns--) {
      this.tick++
      const slot = ((this.tick % SLOTS) + SLOTS) % SLOTS
      const entries = this.slots[slot]
      if (entries.length === 0) continue
      this.slots[slot] = []
      for (const entry of entries) {
        if (entry.due > this.tick) {
          this.place(entry)
          continue
        }
        const delay = entry.timed.onTimer()
        if (delay <= 0) continue
        entry.due = Math.floor((ms + delay) / TICK_MS) + 1
        this.place(entry)
      }
    }
  }
}
