/** What came out of a diode: delivery, loss, order, repeats, and how long it took. */
import type { Datagram } from './datagram.ts'

export interface Flow {
  total: number
  delivered: number
  lost: number
  /** Came after one with a greater number. */
  reordered: number
  duplicates: number
  /** Not of this run, or not a datagram of ours at all. */
  foreign: number
  /** In milliseconds, by the receiver's clock less the sender's, less the stated offset. */
  latency: { min: number; p50: number; p99: number; max: number } | null
}

export class Tally {
  private run = ''
  private total = 0
  private seen = new Uint8Array(0)
  private latencies = new Float64Array(0)
  private delivered = 0
  private highest = -1
  private reordered = 0
  private duplicates = 0
  private foreign = 0

  get complete(): boolean {
    return this.total > 0 && this.delivered === this.total
  }

  get begun(): boolean {
    return this.total > 0
  }

  /** @param atUs when it came. @returns whether it is of the run that is counted */
  take(datagram: Datagram | null, atUs: number): boolean {
    if (datagram === null) {
      this.foreign++
      return false
    }
    if (this.total === 0) {
      this.run = datagram.run
      this.total = datagram.total
      this.seen = new Uint8Array(datagram.total)
      this.latencies = new Float64Array(datagram.total)
    }
    const { run, sequence, total, sentUs } = datagram
    if (run !== this.run || total !== this.total) {
      this.foreign++
      return false
    }
    if (this.seen[sequence] === 1) {
      this.duplicates++
      return true
    }
    this.seen[sequence] = 1
    if (sequence < this.highest) this.reordered++
    else this.highest = sequence
    this.latencies[this.delivered++] = (atUs - sentUs) / 1000
    return true
  }

  /** @param offsetMs the receiver's clock less the sender's, as the operator states it */
  flow(offsetMs: number): Flow {
    const { total, delivered, reordered, duplicates, foreign } = this
    const sorted = this.latencies.subarray(0, delivered).sort()
    const at = (share: number): number =>
      Math.round((sorted[Math.min(delivered - 1, Math.floor(share * delivered))] - offsetMs) * 1000) / 1000
    const latency = delivered === 0 ? null : { min: at(0), p50: at(0.5), p99: at(0.99), max: at(1) }
    return { total, delivered, lost: total - delivered, reordered, duplicates, foreign, latency }
  }
}
