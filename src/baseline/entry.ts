/** What a baseline keeps of one flow, one pair of hosts, one host: counts and sets that grow in place. */
import { formatAddress } from '../policy/address.ts'
import { MODBUS_TABLES } from '../policy/model.ts'
import { type BaselineConnection, type BaselineFlow, groupValues, type ValueRow } from './baseline-file.ts'
import { DEVIATIONS, Outstanding } from './outstanding.ts'
import { RangeSet } from './ranges.ts'
import type { Rate } from './rate.ts'

/** What all of a baseline may take of memory; a scan must not have more. */
export interface Budget {
  /** Pages of 256 addresses written to, 2 KiB each. */
  pages: number
  /** Ranges of addresses. */
  ranges: number
}

/** Least and greatest value written to each address of a table, and how often it was written. */
class WrittenValues {
  private readonly pages = new Map<number, { least: Uint16Array; greatest: Uint16Array; writes: Uint32Array }>()

  /**
   * One write, of a value between `least` and `greatest`.
   * @returns false where it could not be kept: no page is left
   */
  add(address: number, least: number, greatest: number, budget: Budget): boolean {
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

  /** Those written since `forget`. */
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

  /** Begins the counts anew; extremes stay. */
  forget(): void {
    for (const { writes } of this.pages.values()) writes.fill(0)
  }
}

/** First and last time, in microseconds since 1970. */
export class Span {
  private readonly ends = new Float64Array(2)

  constructor() {
    this.forget()
  }

  get first(): number {
    return this.ends[0]
  }

  get last(): number {
    return this.ends[1]
  }

  /** @param clock one cell: the time */
  include(clock: Float64Array): void {
    const { ends } = this
    if (clock[0] < ends[0]) ends[0] = clock[0]
    if (clock[0] > ends[1]) ends[1] = clock[0]
  }

  forget(): void {
    this.ends[0] = Number.POSITIVE_INFINITY
    this.ends[1] = Number.NEGATIVE_INFINITY
  }
}

/** One client, target, unit, function and sub-function. */
export class Entry {
  readonly pair: Pair
  readonly unit: number
  readonly code: number
  readonly sub: number
  requests = 0
  responses = 0
  malformed = 0
  readonly span = new Span()
  exceptions: Map<number, number> | null = null
  /** By `DEVIATIONS`; null: none. */
  deviations: number[] | null = null
  readonly rate: Rate
  readonly addresses: (RangeSet | null)[] = [null, null, null, null]
  readonly values: (WrittenValues | null)[] = [null, null, null, null]
  /** Something happened since `forget`. */
  stirred = false

  constructor(pair: Pair, unit: number, code: number, sub: number, rate: Rate) {
    this.pair = pair
    this.unit = unit
    this.code = code
    this.sub = sub
    this.rate = rate
  }

  /** @returns false where the addresses could not be kept: too many ranges apart */
  touch(table: number, low: number, quantity: number, budget: Budget): boolean {
    let set = this.addresses[table]
    if (set === null) {
      set = new RangeSet()
      this.addresses[table] = set
    }
    const before = set.size
    const kept = set.add(low, low + quantity - 1, budget.ranges > 0)
    budget.ranges -= set.size - before
    return kept
  }

  /** @returns false where the value could not be kept */
  write(table: number, address: number, least: number, greatest: number, budget: Budget): boolean {
    let values = this.values[table]
    if (values === null) {
      values = new WrittenValues()
      this.values[table] = values
    }
    return values.add(address, least, greatest, budget)
  }

  /** Counts `bits` of `DEVIATIONS`. */
  deviates(bits: number): void {
    this.deviations ??= new Array<number>(DEVIATIONS.length).fill(0)
    for (let i = 0; i < DEVIATIONS.length; i++) if ((bits & (1 << i)) !== 0) this.deviations[i]++
  }

  row(): Omit<BaselineFlow, 'rate'> {
    const addresses: BaselineFlow['addresses'] = {}
    const values: BaselineFlow['values'] = {}
    for (const [i, table] of MODBUS_TABLES.entries()) {
      const used = this.addresses[i]
      if (used !== null && used.size > 0) addresses[table] = used.toRanges()
      const written = this.values[i]?.rows() ?? []
      if (written.length > 0) values[table] = written
    }
    return {
      ...this.pair.names(),
      unit: this.unit,
      function: this.code,
      sub: this.sub < 0 ? null : this.sub,
      requests: this.requests,
      responses: this.responses,
      exceptions: Object.fromEntries(this.exceptions ?? []),
      malformed: this.malformed,
      deviations: Object.fromEntries(
        DEVIATIONS.flatMap((name, i) => (this.deviations?.[i] ? [[name, this.deviations[i]]] : [])),
      ),
      first: timeText(this.span.first),
      last: timeText(this.span.last),
      addresses,
      values,
    }
  }

  /** Begins the counts anew; what was used and written stays, so that it is not asked for again. */
  forget(): void {
    this.requests = this.responses = this.malformed = 0
    this.span.forget()
    this.exceptions = null
    this.deviations = null
    for (const written of this.values) written?.forget()
    this.stirred = false
  }
}

/** A client, or a target at its port. */
export class Host {
  requests = 0
  open = 0
  concurrent = 0
  readonly rate: Rate
  /** New connections. */
  readonly connecting: Rate
  stirred = false

  constructor(rate: () => Rate) {
    this.rate = rate()
    this.connecting = rate()
  }
}

/** One client and one target. */
export class Pair {
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
  readonly span = new Span()
  stirred = false

  constructor(clientAddress: bigint, targetAddress: bigint, port: number, client: Host, target: Host) {
    this.clientAddress = clientAddress
    this.targetAddress = targetAddress
    this.port = port
    this.client = client
    this.target = target
  }

  names(): { client: string; target: string; port: number } {
    return {
      client: formatAddress(this.clientAddress),
      target: formatAddress(this.targetAddress),
      port: this.port,
    }
  }

  row(): BaselineConnection {
    return {
      ...this.names(),
      opened: this.opened,
      unanswered: this.unanswered,
      idle: this.idle,
      malformed: this.malformed,
      unsolicited: this.unsolicited,
      targetSeen: this.targetSeen,
      gapBytes: this.gapBytes,
      first: timeText(this.span.first),
      last: timeText(this.span.last),
    }
  }

  /** Begins the counts anew. */
  forget(): void {
    this.opened = this.unanswered = this.idle = this.malformed = this.unsolicited = this.gapBytes = 0
    this.span.forget()
    this.stirred = false
  }
}

/** A connection's part: its pair, and the entry of its latest request. */
export class Track {
  readonly pair: Pair
  key = -1
  entry: Entry | null = null
  requests = 0
  readonly outstanding = new Outstanding<Entry>()

  constructor(pair: Pair) {
    this.pair = pair
  }
}

/** Latest time that ISO 8601 with four digits of year holds. */
const LAST_US = Date.UTC(9999, 11, 31) * 1000

/** Microseconds since 1970 as ISO 8601 with milliseconds. A clock gone wild is held to the years 1970…9999. */
export function timeText(us: number): string {
  return new Date(Math.floor(Math.min(LAST_US, Math.max(0, us)) / 1000)).toISOString()
}
