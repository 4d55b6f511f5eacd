/**
 * Gathers a baseline, whatever the traffic comes from: who asks whom for what, how often, of which addresses, with which
 * values. A message costs a few look-ups and no memory, unless it is of a kind that was not seen before.
 */
import { checkRequest } from '../protocols/modbus/request.ts'
import { type Budget, Entry, Host, Pair, Track } from './entry.ts'
import { DEVIATIONS } from './outstanding.ts'
import type { Rate } from './rate.ts'

/** What may be kept at most: bounds the memory that a scan can take. */
export interface Bounds extends Budget {
  /** Kinds of request. */
  entries: number
  /** Pairs of client and target. */
  pairs: number
}

/** Deviations that show in the response alone: its form, not which request it answers. */
const SHAPE = DEVIATIONS.reduce((bits, name, i) => (/vendor|trailing|malformed/.test(name) ? bits | (1 << i) : bits), 0)

const [COILS, DISCRETE_INPUTS, INPUT_REGISTERS, HOLDING_REGISTERS] = [0, 1, 2, 3]

export abstract class Gatherer {
  /** Messages, addresses and values that were not kept because there were too many. */
  dropped = 0
  /**
   * One cell: the time of what is given next, in microseconds since 1970. As an argument or a field, a number of this
   * size would cost memory each time.
   */
  readonly clock = new Float64Array(1)
  protected readonly clients = new Map<bigint, Host>()
  protected readonly targets = new Map<string, Host>()
  protected readonly pairs = new Map<string, Pair>()
  private readonly bounds: Bounds

  protected constructor(bounds: Bounds) {
    this.bounds = { ...bounds }
  }

  protected abstract rate(): Rate

  /** What is noted here happens to an entry, and to its pair and hosts. */
  protected stir(_pair: Pair, _entry: Entry | null): void {}

  /**
   * A connection begins.
   * @returns what to name it by; null: there are too many pairs
   */
  open(client: bigint, target: bigint, port: number): Track | null {
    const place = `${target} ${port}`
    const key = `${client} ${place}`
    let pair = this.pairs.get(key)
    if (pair === undefined) {
      if (this.pairs.size >= this.bounds.pairs) {
        this.dropped++
        return null
      }
      const asking = this.clients.get(client) ?? new Host(() => this.rate())
      this.clients.set(client, asking)
      const asked = this.targets.get(place) ?? new Host(() => this.rate())
      this.targets.set(place, asked)
      pair = new Pair(client, target, port, asking, asked)
      this.pairs.set(key, pair)
    }
    pair.opened++
    pair.client.connecting.count(Math.floor(this.clock[0] / 1e6))
    for (const host of [pair.client, pair.target]) host.concurrent = Math.max(host.concurrent, ++host.open)
    this.seen(pair, null)
    return new Track(pair)
  }

  /**
   * It ends.
   * @param answered whether the target took the connection; null: nobody knows
   */
  close({ pair, requests }: Track, answered: boolean | null): void {
    pair.client.open--
    pair.target.open--
    if (answered === false) pair.unanswered++
    else if (requests === 0) pair.idle++
    this.seen(pair, null)
  }

  private seen(pair: Pair, entry: Entry | null): void {
    pair.span.include(this.clock)
    this.stir(pair, entry)
  }

  /** What a client sent is no frame. */
  garbage(track: Track): void {
    track.requests++
    track.pair.malformed++
    this.seen(track.pair, null)
  }

  /** `buf[adu…end)` is a frame by its MBAP length. */
  request(track: Track, buf: Uint8Array, adu: number, end: number): void {
    const { pair } = track
    const pdu = adu + 7
    const second = Math.floor(this.clock[0] / 1e6)
    track.requests++
    pair.client.requests++
    pair.client.rate.count(second)
    pair.target.requests++
    pair.target.rate.count(second)
    if ((buf[adu + 2] | buf[adu + 3]) !== 0) {
      pair.malformed++
      this.seen(pair, null)
      return
    }
    const code = buf[pdu]
    const sub = subOf(buf, pdu, end)
    const key = keyOf(buf[adu + 6], code, sub)
    let entry = track.key === key ? track.entry : null
    if (entry === null) {
      entry = this.entryOf(pair, key, buf[adu + 6], code, sub)
      if (entry === null) {
        this.seen(pair, null)
        return
      }
      track.key = key
      track.entry = entry
    }
    this.seen(pair, entry)
    entry.requests++
    entry.span.include(this.clock)
    entry.rate.count(second)
    if (code === 0 || code > 127 || checkRequest(buf, pdu, end) !== 0) entry.malformed++
    else this.uses(entry, buf, pdu)
    track.outstanding.push(buf, adu, end, entry)
  }

  private entryOf(pair: Pair, key: number, unit: number, code: number, sub: number): Entry | null {
    let entry = pair.entries.get(key)
    if (entry === undefined) {
      if (this.bounds.entries === 0) {
        this.dropped++
        return null
      }
      this.bounds.entries--
      entry = new Entry(pair, unit, code, sub, this.rate())
      pair.entries.set(key, entry)
    }
    return entry
  }

  /** Notes addresses and values of a request that keeps the specification. */
  private uses(entry: Entry, buf: Uint8Array, pdu: number): void {
    const address = (buf[pdu + 1] << 8) | buf[pdu + 2]
    const quantity = (buf[pdu + 3] << 8) | buf[pdu + 4]
    switch (entry.code) {
      case 1:
        this.touched(entry, COILS, address, quantity)
        return
      case 2:
        this.touched(entry, DISCRETE_INPUTS, address, quantity)
        return
      case 3:
        this.touched(entry, HOLDING_REGISTERS, address, quantity)
        return
      case 4:
        this.touched(entry, INPUT_REGISTERS, address, quantity)
        return
      case 5:
        this.touched(entry, COILS, address, 1)
        this.written(entry, COILS, address, buf[pdu + 3] === 0 ? 0 : 1)
        return
      case 6:
        this.touched(entry, HOLDING_REGISTERS, address, 1)
        this.written(entry, HOLDING_REGISTERS, address, quantity)
        return
      case 15:
        this.touched(entry, COILS, address, quantity)
        // V1.1b3 §6.11: the first coil is the least significant bit of the first byte.
        for (let i = 0; i < quantity; i++) {
          this.written(entry, COILS, address + i, (buf[pdu + 6 + (i >> 3)] >> (i & 7)) & 1)
        }
        return
      case 16:
        this.touched(entry, HOLDING_REGISTERS, address, quantity)
        this.registers(entry, address, quantity, buf, pdu + 6)
        return
      case 22: {
        // V1.1b3 §6.16: (current AND and_mask) OR (or_mask AND NOT and_mask), whatever the current value is.
        const least = ((buf[pdu + 5] << 8) | buf[pdu + 6]) & ~quantity & 0xffff
        this.touched(entry, HOLDING_REGISTERS, address, 1)
        this.written(entry, HOLDING_REGISTERS, address, least, least | quantity)
        return
      }
      case 24:
        this.touched(entry, HOLDING_REGISTERS, address, 1)
        return
      case 23: {
        const from = (buf[pdu + 5] << 8) | buf[pdu + 6]
        const number = (buf[pdu + 7] << 8) | buf[pdu + 8]
        this.touched(entry, HOLDING_REGISTERS, address, quantity)
        this.touched(entry, HOLDING_REGISTERS, from, number)
        this.registers(entry, from, number, buf, pdu + 10)
        return
      }
    }
  }

  private registers(entry: Entry, address: number, quantity: number, buf: Uint8Array, at: number): void {
    for (let i = 0; i < quantity; i++) {
      this.written(entry, HOLDING_REGISTERS, address + i, (buf[at + 2 * i] << 8) | buf[at + 2 * i + 1])
    }
  }

  private touched(entry: Entry, table: number, address: number, quantity: number): void {
    if (!entry.touch(table, address, quantity, this.bounds)) this.dropped++
  }

  private written(entry: Entry, table: number, address: number, least: number, greatest = least): void {
    if (!entry.write(table, address, least, greatest, this.bounds)) this.dropped++
  }

  /**
   * `buf[adu…end)` is a frame from the target.
   * @param whole nothing of the client's direction is missing: a response that answers nothing is one
   */
  response(track: Track, buf: Uint8Array, adu: number, end: number, whole: boolean): void {
    const { pair, outstanding } = track
    const pdu = adu + 7
    const exception = (buf[pdu] & 0x80) !== 0
    pair.targetSeen = true
    let entry: Entry | null | undefined = outstanding.take(buf, adu, end)
    if (entry === null) {
      // Its request may be among what the capture lacks: then it is counted by its own unit and function.
      if (whole) pair.unsolicited++
      entry = pair.entries.get(keyOf(buf[adu + 6], buf[pdu] & 0x7f, exception ? -1 : subOf(buf, pdu, end)))
      if (entry === undefined) {
        this.stir(pair, null)
        return
      }
    } else if (outstanding.bits !== 0) entry.deviates(whole ? outstanding.bits : outstanding.bits & SHAPE)
    this.stir(pair, entry)
    if (!exception) {
      entry.responses++
      return
    }
    const number = end - pdu > 1 ? buf[pdu + 1] : 0
    entry.exceptions ??= new Map()
    entry.exceptions.set(number, (entry.exceptions.get(number) ?? 0) + 1)
  }
}

/** Sub-function of FC 8, MEI type of FC 43; -1 where the function has none, or the PDU is cut short. */
function subOf(buf: Uint8Array, pdu: number, end: number): number {
  if (buf[pdu] === 8 && end - pdu > 2) return (buf[pdu + 1] << 8) | buf[pdu + 2]
  if (buf[pdu] === 43 && end - pdu > 1) return buf[pdu + 1]
  return -1
}

/** Small where there is no sub-function: a larger number would cost memory at each look-up. */
const keyOf = (unit: number, code: number, sub: number): number => (sub + 1) * 65536 + ((unit << 8) | code)
