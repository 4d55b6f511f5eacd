/**
 * How far requests reach that one event stands for: their units, addresses and values, and how they were answered.
 * Off the allowed path; bounded, whatever is sent.
 */
import { RangeSet, rangeText } from '../baseline/ranges.ts'
import type { EventInput } from '../records/catalogue.ts'
import type { Reach } from './storm.ts'

/** Ranges that are told; of those that are more the text says so. */
const MOST = 24
const MBAP_LENGTH = 7

export class Extent implements Reach {
  private readonly units = new RangeSet()
  private readonly addresses = new RangeSet()
  private readonly written = new RangeSet()
  private least = Number.POSITIVE_INFINITY
  private greatest = Number.NEGATIVE_INFINITY
  private responses = 0
  private exceptions = 0
  private more = false

  /**
   * Takes `buf[adu…end)`, a request's ADU.
   * @param sound it keeps the specification: its fields are where they should be
   */
  request(buf: Uint8Array, adu: number, end: number, sound: boolean): void {
    if (end - adu <= MBAP_LENGTH) return
    const pdu = adu + MBAP_LENGTH
    this.include(this.units, buf[adu + 6], 1)
    if (!sound || end - pdu < 5) return
    const address = word(buf, pdu + 1)
    const second = word(buf, pdu + 3)
    switch (buf[pdu]) {
      case 1:
      case 2:
      case 3:
      case 4:
      case 15:
        this.include(this.addresses, address, second)
        return
      case 5:
        this.include(this.addresses, address, 1)
        this.value(second === 0 ? 0 : 1)
        return
      case 6:
        this.include(this.addresses, address, 1)
        this.value(second)
        return
      case 16:
        this.include(this.addresses, address, second)
        this.values(buf, pdu + 6, end)
        return
      case 22:
        this.include(this.addresses, address, 1)
        return
      case 23:
        this.include(this.addresses, address, second)
        this.include(this.written, word(buf, pdu + 5), word(buf, pdu + 7))
        this.values(buf, pdu + 10, end)
    }
  }

  /** One of the requests was answered. */
  answered(exception: boolean): void {
    if (exception) this.exceptions++
    else this.responses++
  }

  private include(set: RangeSet, low: number, quantity: number): void {
    if (quantity > 0 && !set.add(low, low + quantity - 1, set.size < MOST)) this.more = true
  }

  private values(buf: Uint8Array, at: number, end: number): void {
    for (let i = at; i + 1 < end; i += 2) this.value(word(buf, i))
  }

  private value(value: number): void {
    if (value < this.least) this.least = value
    if (value > this.greatest) this.greatest = value
  }

  fields(): Partial<EventInput> {
    const text = (set: RangeSet): string | undefined =>
      set.size === 0 ? undefined : set.toRanges().map(rangeText).join(', ')
    const known = this.greatest >= this.least
    return {
      units: text(this.units),
      addresses: text(this.addresses),
      write_addresses: text(this.written),
      more_addresses: this.more ? 'yes' : undefined,
      least: known ? this.least : undefined,
      greatest: known ? this.greatest : undefined,
      responses: this.responses + this.exceptions === 0 ? undefined : this.responses,
      exceptions: this.responses + this.exceptions === 0 ? undefined : this.exceptions,
    }
  }
}

const word = (buf: Uint8Array, at: number): number => (buf[at] << 8) | buf[at + 1]
