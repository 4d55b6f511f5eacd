/** One reading of the time for a batch of input, on a base that all threads of the process share. */
import type { Clock } from '../protocols/session.ts'

export class WorkerClock implements Clock {
  us = 0
  ms = 0
  /** `performance.now()` counts from each thread's own start; the monotonic clock behind it is one. */
  private readonly base = Number(process.hrtime.bigint() / 1000n) / 1000 - performance.now()

  constructor() {
    this.read()
  }

  /** Takes the time. Allocates nothing. */
  read(): void {
    const now = this.base + performance.now()
    this.ms = now | 0
    this.us = (now * 1000) | 0
  }
}
