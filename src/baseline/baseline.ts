/**
 * Gathers the baseline: who asks whom for what, how often, of which addresses, with which values. Each request costs
 * a few look-ups and no allocation, unless it is of a kind that was not seen before.
 */
import { formatAddress } from '../policy/address.ts'
import { MODBUS_TABLES } from '../policy/model.ts'
import { checkRequest } from '../protocols/modbus/request.ts'
import {
  BASELINE_VERSION,
  type BaselineConnection,
  type BaselineFile,
  type BaselineFlow,
  groupValues,
  type ValueRow,
} from './baseline-file.ts'
import { DEVIATIONS, Outstanding } from './outstanding.ts'
import { RangeSet } from './ranges.ts'
import { figuresOf, Rate } from './rate.ts'
import type { Flow, FlowSink } from './reassembly.ts'

/** Kinds of request, and pairs of client and target, that are kept apart: bounds the memory that a scan can take. */
const MAX_ENTRIES = 100_000
const MAX_PAIRS = 50_000
/** Deviations that show in the response alone: its form, not which request it answers. */
const SHAPE = DEVIATIONS.reduce((bits, name, i) => (/vendor|trailing|malformed/.test(name) ? bits | (1 << i) : bits), 0)
/** Pages of 256 addresses written to; 32 MiB in all. */
const MAX_PAGES = 16_384

const [COILS, DISCRETE_INPUTS, INPUT_REGISTERS, HOLDING_REGISTERS] = [0, 1, 2, 3]

/** Least and greatest value written to each address of a table, and how often it was written. */
class WrittenValues {
  private readonly pages = new Map<number, { least: Uint16Array; greatest: Uint16Array; writes: Uint32Array }>()

  /**
   * One write, of a value between `least` and `greatest`.
   * @returns false where it could not be kept: no page is left
   */
  add(address: number, least: number, greatest: number, budget: { pages: number }): boolean {
    let page = this.pages.get(address >> 8)
    if (page === undefined) {
      if (budget.pages === 0) return false
      budget.pages--
      page = {
        least: new Uint16Array(256).fill(0xffff),
        greatest: new Uint16Array(256),
        writes: new Uint32Array(256),
      }
      this.pages.set(address >> 8, page)
    }
    const at = address & 0xff
    if (least < page.least[at]) page.least[at] = least
    if (greatest > page.greatest[at]) page.greatest[at] = greatest
    page.writes[at]++
    return true
  }

  rows(): ValueRow[] {
    const all: ValueRow[] = []
    for (const [high, { least, greatest, writes }] of [...this.pages].sort((a, b) => a[0] - b[0])) {
      for (let at = 0; at < 256; at++) {
        if (writes[at] === 0) continue
        const address = (high << 8) | at
        all.push({ range: [address, address], min: least[at], max: greatest[at], writes: writes[at] })
      }
    }
    return groupValues(all)
  }
}

/** One client, target, unit, function and sub-function. */
class Entry {
  readonly unit: number
  readonly code: number
  readonly sub: number
  requests = 0
  responses = 0
  malformed = 0
  first: number
  last: number
  exceptions: Map<number, number> | null = null
  /** By `DEVIATIONS`; null: none. */
  deviations: number[] | null = null
  readonly rate = new Rate()
  readonly addresses: (RangeSet | null)[] = [null, null, null, null]
  readonly values: (WrittenValues | null)[] = [null, null, null, null]

  constructor(unit: number, code: number, sub: number, us: number) {
    this.unit = unit
    this.code = code
    this.sub = sub
    this.first = us
    this.last = us
  }

  touch(table: number, low: number, quantity: number): void {
    let set = this.addresses[table]
    if (set === null) {
      set = new RangeSet()
      this.addresses[table] = set
    }
    set.add(low, low + quantity - 1)
  }
}

class Host {
  requests = 0
  open = 0
  concurrent = 0
  readonly rate = new Rate()
  readonly connecting = new Rate()
}

/** One client and one target. */
class Pair {
  readonly clientAddress: bigint
  readonly targetAddress: bigint
  readonly port: number
  readonly client: Host
  readonly target: Host
  readonly entries = new Map<number, Entry>()
  opened = 0
  unanswered = 0
  idle = 0
  malformed = 0
  unsolicited = 0
  gapBytes = 0
  targetSeen = false
  first: number
  last: number

  constructor(flow: Flow, client: Host, target: Host, us: number) {
    this.clientAddress = flow.clientAddress
    this.targetAddress = flow.targetAddress
    this.port = flow.targetPort
    this.client = client
    this.target = target
    this.first = us
    this.last = us
  }
}

/** A connection's part: its pair, and the entry of its latest request. */
class Track {
  readonly pair: Pair
  key = -1
  entry: Entry | null = null
  requests = 0
  readonly outstanding = new Outstanding<Entry>()

  constructor(pair: Pair) {
    this.pair = pair
  }
}

export class BaselineCollector implements FlowSink {
  /** Kinds of request and values that were not kept because there were too many. */
  dropped = 0
  private readonly clients = new Map<bigint, Host>()
  private readonly targets = new Map<string, Host>()
  private readonly pairs = new Map<string, Pair>()
  private entries = 0
  private readonly budget = { pages: MAX_PAGES }
  private first = Number.POSITIVE_INFINITY
  private last = Number.NEGATIVE_INFINITY

  onOpen(flow: Flow, us: number): void {
    const place = `${flow.targetAddress} ${flow.targetPort}`
    const key = `${flow.clientAddress} ${place}`
    let pair = this.pairs.get(key)
    if (pair === undefined) {
      if (this.pairs.size === MAX_PAIRS) {
        this.dropped++
        return
      }
      const client = this.clients.get(flow.clientAddress) ?? new Host()
      this.clients.set(flow.clientAddress, client)
      const target = this.targets.get(place) ?? new Host()
      this.targets.set(place, target)
      pair = new Pair(flow, client, target, us)
      this.pairs.set(key, pair)
    }
    pair.opened++
    pair.client.connecting.count(Math.floor(us / 1e6))
    for (const host of [pair.client, pair.target]) host.concurrent = Math.max(host.concurrent, ++host.open)
    flow.state = new Track(pair)
    this.seen(pair, us)
  }

  private seen(pair: Pair, us: number): void {
    if (us < pair.first) pair.first = us
    if (us > pair.last) pair.last = us
    if (us < this.first) this.first = us
    if (us > this.last) this.last = us
  }

  onClose(flow: Flow, us: number): void {
    const track = flow.state as Track | null
    if (track === null) return
    const { pair } = track
    pair.client.open--
    pair.target.open--
    if (flow.target.seen) pair.targetSeen = true
    // Where the target's direction was not captured at all nobody knows what it did.
    if (!flow.answered && flow.handshake) pair.unanswered++
    else if (track.requests === 0) pair.idle++
    this.seen(pair, us)
  }

  onGap(flow: Flow, _fromClient: boolean, bytes: number): void {
    const track = flow.state as Track | null
    if (track !== null) track.pair.gapBytes += bytes
  }

  onGarbage(flow: Flow, fromClient: boolean): void {
    const track = flow.state as Track | null
    if (track === null || !fromClient) return
    track.requests++
    track.pair.malformed++
  }

  onFrame(flow: Flow, fromClient: boolean, buf: Uint8Array, adu: number, end: number, us: number): void {
    const track = flow.state as Track | null
    if (track === null) return
    if (fromClient) this.request(track, buf, adu, end, us)
    else this.response(flow, track, buf, adu, end)
  }

  private request(track: Track, buf: Uint8Array, adu: number, end: number, us: number): void {
    const { pair } = track
    const pdu = adu + 7
    const second = Math.floor(us / 1e6)
    track.requests++
    this.seen(pair, us)
    pair.client.requests++
    pair.client.rate.count(second)
    pair.target.requests++
    pair.target.rate.count(second)
    if ((buf[adu + 2] | buf[adu + 3]) !== 0) {
      pair.malformed++
      return
    }
    const code = buf[pdu]
    const sub = subOf(buf, pdu, end)
    const key = keyOf(buf[adu + 6], code, sub)
    let entry = track.key === key ? track.entry : null
    if (entry === null) {
      entry = this.entryOf(pair, key, buf[adu + 6], code, sub, us)
      if (entry === null) return
      track.key = key
      track.entry = entry
    }
    entry.requests++
    if (us < entry.first) entry.first = us
    if (us > entry.last) entry.last = us
    entry.rate.count(second)
    if (code === 0 || code > 127 || checkRequest(buf, pdu, end) !== 0) entry.malformed++
    else this.uses(entry, buf, pdu)
    track.outstanding.push(buf, adu, end, entry)
  }

  private entryOf(pair: Pair, key: number, unit: number, code: number, sub: number, us: number): Entry | null {
    let entry = pair.entries.get(key)
    if (entry === undefined) {
      if (this.entries === MAX_ENTRIES) {
        this.dropped++
        return null
      }
      this.entries++
      entry = new Entry(unit, code, sub, us)
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
        entry.touch(COILS, address, quantity)
        return
      case 2:
        entry.touch(DISCRETE_INPUTS, address, quantity)
        return
      case 3:
        entry.touch(HOLDING_REGISTERS, address, quantity)
        return
      case 4:
        entry.touch(INPUT_REGISTERS, address, quantity)
        return
      case 5:
        entry.touch(COILS, address, 1)
        this.written(entry, COILS, address, buf[pdu + 3] === 0 ? 0 : 1)
        return
      case 6:
        entry.touch(HOLDING_REGISTERS, address, 1)
        this.written(entry, HOLDING_REGISTERS, address, quantity)
        return
      case 15:
        entry.touch(COILS, address, quantity)
        // V1.1b3 §6.11: the first coil is the least significant bit of the first byte.
        for (let i = 0; i < quantity; i++) {
          this.written(entry, COILS, address + i, (buf[pdu + 6 + (i >> 3)] >> (i & 7)) & 1)
        }
        return
      case 16:
        entry.touch(HOLDING_REGISTERS, address, quantity)
        this.registers(entry, address, quantity, buf, pdu + 6)
        return
      case 22: {
        // V1.1b3 §6.16: (current AND and_mask) OR (or_mask AND NOT and_mask), whatever the current value is.
        const least = ((buf[pdu + 5] << 8) | buf[pdu + 6]) & ~quantity & 0xffff
        entry.touch(HOLDING_REGISTERS, address, 1)
        this.written(entry, HOLDING_REGISTERS, address, least, least | quantity)
        return
      }
      case 24:
        entry.touch(HOLDING_REGISTERS, address, 1)
        return
      case 23: {
        const from = (buf[pdu + 5] << 8) | buf[pdu + 6]
        const number = (buf[pdu + 7] << 8) | buf[pdu + 8]
        entry.touch(HOLDING_REGISTERS, address, quantity)
        entry.touch(HOLDING_REGISTERS, from, number)
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

  private written(entry: Entry, table: number, address: number, least: number, greatest = least): void {
    let values = entry.values[table]
    if (values === null) {
      values = new WrittenValues()
      entry.values[table] = values
    }
    if (!values.add(address, least, greatest, this.budget)) this.dropped++
  }

  private response(flow: Flow, track: Track, buf: Uint8Array, adu: number, end: number): void {
    const { pair, outstanding } = track
    const pdu = adu + 7
    const exception = (buf[pdu] & 0x80) !== 0
    pair.targetSeen = true
    let entry: Entry | null | undefined = outstanding.take(buf, adu, end)
    if (entry === null) {
      // Its request may be among what the capture lacks: then it is counted by its own unit and function.
      if (!flow.incomplete) pair.unsolicited++
      entry = pair.entries.get(keyOf(buf[adu + 6], buf[pdu] & 0x7f, exception ? -1 : subOf(buf, pdu, end)))
      if (entry === undefined) return
    } else if (outstanding.bits !== 0)
      this.deviates(entry, flow.incomplete ? outstanding.bits & SHAPE : outstanding.bits)
    if (!exception) {
      entry.responses++
      return
    }
    const number = end - pdu > 1 ? buf[pdu + 1] : 0
    entry.exceptions ??= new Map()
    entry.exceptions.set(number, (entry.exceptions.get(number) ?? 0) + 1)
  }

  private deviates(entry: Entry, bits: number): void {
    entry.deviations ??= new Array<number>(DEVIATIONS.length).fill(0)
    for (let i = 0; i < DEVIATIONS.length; i++) if ((bits & (1 << i)) !== 0) entry.deviations[i]++
  }

  /** The baseline as plain data. Ends the second under way: call it once, when all is read. */
  toFile(): BaselineFile {
    const flows: BaselineFlow[] = []
    const connections: BaselineConnection[] = []
    for (const pair of this.pairs.values()) {
      const names = {
        client: formatAddress(pair.clientAddress),
        target: formatAddress(pair.targetAddress),
        port: pair.port,
      }
      connections.push({
        ...names,
        opened: pair.opened,
        unanswered: pair.unanswered,
        idle: pair.idle,
        malformed: pair.malformed,
        unsolicited: pair.unsolicited,
        targetSeen: pair.targetSeen,
        gapBytes: pair.gapBytes,
        first: timeText(pair.first),
        last: timeText(pair.last),
      })
      for (const entry of pair.entries.values()) flows.push({ ...names, ...entryRow(entry) })
    }
    return {
      format: 'headgate-baseline',
      version: BASELINE_VERSION,
      first: this.first <= this.last ? timeText(this.first) : null,
      last: this.first <= this.last ? timeText(this.last) : null,
      sources: [],
      clients: [...this.clients].map(([address, host]) => ({
        address: formatAddress(address),
        requests: host.requests,
        rate: rateRow(host.rate),
        connecting: rateRow(host.connecting),
        concurrent: host.concurrent,
      })),
      targets: [...this.targets].map(([place, host]) => {
        const [address, port] = place.split(' ')
        return {
          address: formatAddress(BigInt(address)),
          port: Number(port),
          requests: host.requests,
          rate: rateRow(host.rate),
          concurrent: host.concurrent,
        }
      }),
      connections,
      flows,
    }
  }
}

function entryRow(entry: Entry): Omit<BaselineFlow, 'client' | 'target' | 'port'> {
  const addresses: BaselineFlow['addresses'] = {}
  const values: BaselineFlow['values'] = {}
  for (const [i, table] of MODBUS_TABLES.entries()) {
    const used = entry.addresses[i]
    if (used !== null) addresses[table] = used.toRanges()
    const written = entry.values[i]
    if (written !== null) values[table] = written.rows()
  }
  return {
    unit: entry.unit,
    function: entry.code,
    sub: entry.sub < 0 ? null : entry.sub,
    requests: entry.requests,
    responses: entry.responses,
    exceptions: Object.fromEntries(entry.exceptions ?? []),
    malformed: entry.malformed,
    deviations: Object.fromEntries(
      DEVIATIONS.flatMap((name, i) => (entry.deviations?.[i] ? [[name, entry.deviations[i]]] : [])),
    ),
    first: timeText(entry.first),
    last: timeText(entry.last),
    addresses,
    values,
    rate: rateRow(entry.rate),
  }
}

function rateRow(rate: Rate) {
  const seconds = rate.histogram()
  return { ...figuresOf(seconds), seconds }
}

/** Sub-function of FC 8, MEI type of FC 43; -1 where the function has none, or the PDU is cut short. */
function subOf(buf: Uint8Array, pdu: number, end: number): number {
  if (buf[pdu] === 8 && end - pdu > 2) return (buf[pdu + 1] << 8) | buf[pdu + 2]
  if (buf[pdu] === 43 && end - pdu > 1) return buf[pdu + 1]
  return -1
}

const keyOf = (unit: number, code: number, sub: number): number => ((unit << 8) | code) * 65537 + sub + 1

/** Latest time that ISO 8601 with four digits of year holds. */
const LAST_US = Date.UTC(9999, 11, 31) * 1000

/** Microseconds since 1970 as ISO 8601 with milliseconds. A clock gone wild is held to the years 1970…9999. */
export function timeText(us: number): string {
  return new Date(Math.floor(Math.min(LAST_US, Math.max(0, us)) / 1000)).toISOString()
}
