/** A progress bar on stderr: bytes, rate, time left. None where stderr is not a terminal. */
const WIDTH = 24
const EVERY_MS = 100

export class Progress {
  private readonly shown = process.stderr.isTTY === true
  private start = performance.now()
  private drawn = 0
  private name = ''

  /** @param size bytes in all; null where that is not known */
  update(name: string, done: number, size: number | null): void {
    if (!this.shown) return
    const now = performance.now()
    if (name !== this.name) {
      this.name = name
      this.start = now
    } else if (now - this.drawn < EVERY_MS) return
    this.drawn = now
    const seconds = Math.max(1e-3, (now - this.start) / 1000)
    const rate = done / seconds
    const parts = [name, `${(done / 1e6).toFixed(1)} MB`, `${(rate / 1e6).toFixed(1)} MB/s`]
    if (size !== null && size > 0) {
      const full = Math.round(WIDTH * Math.min(1, done / size))
      parts.splice(1, 0, `[${'='.repeat(full)}${' '.repeat(WIDTH - full)}]`)
      if (rate > 0) parts.push(`${Math.ceil(Math.max(0, size - done) / rate)} s left`)
    }
    const columns = process.stderr.columns ?? 80
    process.stderr.write(`\r\x1b[K${parts.join('  ').slice(0, columns - 1)}`)
  }

  clear(): void {
    if (this.shown && this.drawn > 0) process.stderr.write('\r\x1b[K')
    this.name = ''
    this.drawn = 0
  }
}
