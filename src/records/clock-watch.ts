/** Tells when somebody sets the system's clock: the times of all records before and after are then no longer one line. */
import type { EventInput } from './catalogue.ts'

const EVERY_MS = 1000
/** Less is a clock that is being disciplined. */
const JUMP_MS = 1000

export class ClockWatch {
  private readonly timer: NodeJS.Timeout
  private offset: number
  private readonly wall: () => number
  private readonly steady: () => number
  private readonly tell: (event: EventInput) => void

  /**
   * @param wall the system's clock, in milliseconds since the epoch
   * @param steady a clock that nobody can set, in milliseconds
   */
  constructor(
    tell: (event: EventInput) => void,
    wall: () => number = Date.now,
    steady: () => number = () => performance.now(),
  ) {
    this.tell = tell
    this.wall = wall
    this.steady = steady
    this.offset = wall() - steady()
    this.timer = setInterval(() => this.look(), EVERY_MS)
    this.timer.unref()
  }

  look(): void {
    const offset = this.wall() - this.steady()
    const jump = Math.round(offset - this.offset)
    // Small steps add up in the offset that is kept, so that a clock that is slewed for days is no jump.
    this.offset = offset
    if (Math.abs(jump) < JUMP_MS) return
    const now = this.wall()
    const detail = `the clock was set ${jump > 0 ? 'forward' : 'back'} by ${Math.abs(jump) / 1000} s, to ${new Date(now).toISOString()} from ${new Date(now - jump).toISOString()}`
    this.tell({ event: 'clock.jumped', offset_ms: jump, detail })
  }

  stop(): void {
    clearInterval(this.timer)
  }
}
