/** Events that had to be dropped: how many, and from when to when. */

export interface Lost {
  count: number
  first: string
  last: string
}

export class Losses {
  private lost: Lost | null

  constructor(lost: Lost | null = null) {
    this.lost = lost
  }

  /** @param time of the dropped event, RFC 3339 */
  add(time: string, count = 1): void {
    if (this.lost === null) this.lost = { count, first: time, last: time }
    else {
      this.lost.count += count
      if (time < this.lost.first) this.lost.first = time
      if (time > this.lost.last) this.lost.last = time
    }
  }

  /** What there is, without forgetting it. */
  get some(): Lost | null {
    return this.lost
  }

  /** What there is, once. */
  take(): Lost | null {
    const { lost } = this
    this.lost = null
    return lost
  }
}
