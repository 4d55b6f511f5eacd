/**
 * The decision on one Modbus request: compiled tables for one (client, target) pair of addresses.
 *
 * The order is that of the answer a server would give (MODBUS Application Protocol V1.1b3 §7.1, figure 9): unit and
 * function first, then the request's own form, then addresses, then values. The common case (one rule, address ranges
 * at most) is two look-ups and a scan of its ranges; everything else takes the general path.
 */
import { REASON } from '../reason.ts'
import { FAULT, faultException } from './faults.ts'
import { checkRequest, readLimit } from './request.ts'

/** The terms of a rule that a decision needs; the checked policy's rule has this shape. */
export interface RuleTerms {
  readonly name: string
  readonly action: 'allow' | 'deny'
  /** Inclusive ranges of unit identifiers; null: any. */
  readonly unitIds: readonly (readonly [number, number])[] | null
  readonly functions: readonly { readonly code: number; readonly sub: number | null }[]
  readonly addresses: Readonly<Partial<Record<Table, readonly (readonly [number, number])[]>>> | null
  readonly values: Readonly<Partial<Record<Table, readonly ValueTerms[]>>> | null
  readonly onDeny: OnDeny | null
  readonly mode: 'monitor' | null
  readonly tolerate: readonly string[]
}

export interface ValueTerms {
  readonly range: readonly [number, number]
  readonly min: number | null
  readonly max: number | null
  readonly maxStep: number | null
}

export type Table = 'coils' | 'discrete-inputs' | 'input-registers' | 'holding-registers'
export type OnDeny = 'exception' | 'drop' | 'reset'

/** Last known values of the holding registers that a `max_step` is set on, for one target. */
export interface PresentValues {
  /** The value last read or written, 0…65535, or -1 where none is known. */
  get(unit: number, register: number): number
  /** `value` -1 forgets. Registers that no rule has a step for are ignored. */
  set(unit: number, register: number, value: number): void
}

/** What of the address tables a request touches. */
const WINDOW = {
  none: 0,
  /** Start address and quantity at PDU offsets 1 and 3. */
  span: 1,
  /** One address at PDU offset 1. */
  one: 2,
  /** Not decided by one rule's ranges alone: several rules, sub-functions, values, FC 23, files. */
  general: 3,
} as const

/** A program: what is done with a request of one function, for the units of one row. In 32-bit words. */
const PROGRAM = {
  window: 0,
  /** Index of the rule that is named. */
  rule: 1,
  /** Its address ranges in the pool: [first, last). */
  first: 2,
  last: 3,
  /** FC 1…4 decided by ranges alone: the largest quantity (V1.1b3 §6.1 to §6.4); else 0. */
  quantity: 4,
  words: 5,
} as const

const COILS = 0
const DISCRETE_INPUTS = 1
const INPUT_REGISTERS = 2
const HOLDING_REGISTERS = 3
const TABLES: readonly Table[] = ['coils', 'discrete-inputs', 'input-registers', 'holding-registers']
/** Functions without a place in the four tables. */
const NO_TABLE = -1
/** File records (FC 20, 21): data, yet in none of the four tables, so a rule with `addresses` cannot allow them. */
const FILES = 4

function tableOf(code: number): number {
  switch (code) {
    case 1:
    case 5:
    case 15:
      return COILS
    case 2:
      return DISCRETE_INPUTS
    case 4:
      return INPUT_REGISTERS
    case 3:
    case 6:
    case 16:
    case 22:
    case 23:
    case 24:
      return HOLDING_REGISTERS
    case 20:
    case 21:
      return FILES
    default:
      return NO_TABLE
  }
}

const WRITES_ONE = (code: number): boolean => code === 5 || code === 6 || code === 22 || code === 24

/** One rule, ready to be matched. */
class Matcher {
  readonly index: number
  readonly terms: RuleTerms
  readonly deny: boolean
  readonly monitor: boolean
  /** By table: flat [low, high, …], empty: no address of it; null: any address. */
  readonly ranges: (Int32Array | null)[]

  constructor(index: number, terms: RuleTerms) {
    this.index = index
    this.terms = terms
    this.deny = terms.action === 'deny'
    this.monitor = terms.mode === 'monitor'
    this.ranges = TABLES.map((table) => (terms.addresses === null ? null : flatten(terms.addresses[table] ?? [])))
    this.ranges.push(terms.addresses === null ? null : new Int32Array(0))
  }

  coversUnit(unit: number): boolean {
    return this.terms.unitIds === null || this.terms.unitIds.some(([low, high]) => unit >= low && unit <= high)
  }

  coversFunction(code: number): boolean {
    return this.terms.functions.some((selector) => selector.code === code)
  }

  /** Whether any selector for `code` asks for a sub-function or MEI type. */
  narrowed(code: number): boolean {
    return !this.terms.functions.some((selector) => selector.code === code && selector.sub === null)
  }

  coversSub(code: number, sub: number): boolean {
    for (const selector of this.terms.functions) {
      if (selector.code === code && (selector.sub === null || selector.sub === sub)) return true
    }
    return false
  }

  /** All of low…high lies in one of the table's ranges. */
  within(table: number, low: number, high: number): boolean {
    const ranges = this.ranges[table]
    if (ranges === null) return true
    for (let i = 0; i < ranges.length; i += 2) if (low >= ranges[i] && high <= ranges[i + 1]) return true
    return false
  }

  /** Any of low…high lies in one of the table's ranges. */
  touches(table: number, low: number, high: number): boolean {
    const ranges = this.ranges[table]
    if (ranges === null) return true
    for (let i = 0; i < ranges.length; i += 2) if (low <= ranges[i + 1] && high >= ranges[i]) return true
    return false
  }
}

/** Sorted, with neighbours joined: [0-9] and [10-19] are [0-19], so that a request across both is within. */
function flatten(ranges: readonly (readonly [number, number])[]): Int32Array {
  const sorted = [...ranges].sort((a, b) => a[0] - b[0])
  const flat: number[] = []
  for (const [low, high] of sorted) {
    const last = flat.length - 1
    if (last > 0 && low <= flat[last] + 1) flat[last] = Math.max(flat[last], high)
    else flat.push(low, high)
  }
  return Int32Array.from(flat)
}

const word = (buf: Uint8Array, at: number): number => (buf[at] << 8) | buf[at + 1]

/**
 * The compiled rules of one pair. `decide` leaves its findings in fields, so that nothing is allocated: they hold
 * until the next call.
 */
export class PairTable {
  /** Index of the rule that allowed, or came nearest to allowing; -1: none. */
  rule = -1
  /** Index of a deny rule in monitor mode that matched; -1: none. */
  wouldRule = -1
  wouldReason = 0
  /** The specification fault behind `malformed` (or behind `address`, on overflow); 0: none. */
  fault = 0
  /** Of reads as `aim` has found them: the most that one may ask for, and the first of the ranges that it may touch. */
  limit = 0
  low = 0
  high = 0
  private aimed = 0
  /** Whether any rule wants to know the present value of registers. */
  readonly learns: boolean
  /** All rules of the pair, in the document's order, with their indexes in the conduit's protocol. */
  readonly matchers: readonly Matcher[]
  readonly present: PresentValues | null

  // Two small tables instead of one of 65 536 entries: they stay in the first-level cache.
  private readonly rows = new Uint8Array(256)
  private readonly cells: Uint16Array
  /** By row, for a function that no rule has: the rule that came nearest, and the reason. */
  private readonly outsideRule: Int32Array
  private readonly outsideReason: Uint8Array
  private readonly programs: Int32Array
  private readonly pool: Int32Array
  private readonly candidates: Matcher[][] = [[]]

  /**
   * @param rules the pair's rules with their indexes
   * @param present last known register values of the target, where a rule has `max_step`
   */
  constructor(rules: readonly { index: number; terms: RuleTerms }[], present: PresentValues | null) {
    this.matchers = rules.map(({ index, terms }) => new Matcher(index, terms))
    this.present = present
    this.learns = present !== null
    const rowOf = new Map<string, number>()
    const known = new Map<string, number>()
    const rowUnits: number[] = []
    for (let unit = 0; unit < 256; unit++) {
      const key = this.matchers.map((m) => (m.coversUnit(unit) ? '1' : '0')).join('')
      let row = rowOf.get(key)
      if (row === undefined) {
        row = rowUnits.push(unit) - 1
        rowOf.set(key, row)
      }
      this.rows[unit] = row
    }
    const nearest = rowUnits.map((unit) => this.nearestTo(unit))
    this.outsideRule = Int32Array.from(nearest, ({ rule }) => rule)
    this.outsideReason = Uint8Array.from(nearest, ({ reason }) => reason)
    this.cells = new Uint16Array(rowUnits.length << 8)
    // Program 0 stands for "no rule".
    const programs: number[] = new Array(PROGRAM.words).fill(0)
    const pool: number[] = []
    for (const [row, unit] of rowUnits.entries()) {
      const ofUnit = this.matchers.filter((m) => m.coversUnit(unit))
      for (let code = 1; code < 128; code++) {
        const matching = ofUnit.filter((m) => m.coversFunction(code))
        if (matching.length === 0) continue
        const ordered = [...matching.filter((m) => m.deny), ...matching.filter((m) => !m.deny)]
        const key = `${code}:${ordered.map((m) => m.index).join(',')}`
        let program = known.get(key)
        if (program === undefined) {
          program = this.addProgram(code, ordered, programs, pool)
          known.set(key, program)
        }
        this.cells[(row << 8) | code] = program
      }
    }
    this.programs = Int32Array.from(programs)
    this.pool = Int32Array.from(pool)
  }

  private addProgram(code: number, matching: Matcher[], programs: number[], pool: number[]): number {
    const table = tableOf(code)
    const [only] = matching
    const simple =
      matching.length === 1 &&
      !only.deny &&
      !only.narrowed(code) &&
      only.terms.values === null &&
      code !== 23 &&
      table !== FILES &&
      code !== 20 &&
      code !== 21
    let window: number = WINDOW.general
    let quantity = 0
    const first = pool.length
    if (simple) {
      const ranges = table === NO_TABLE ? null : only.ranges[table]
      window = ranges === null ? WINDOW.none : WRITES_ONE(code) ? WINDOW.one : WINDOW.span
      quantity = readLimit(code)
      if (ranges !== null) pool.push(...ranges)
      else if (quantity > 0) pool.push(0, 65535)
    }
    programs.push(window, only.index, first, pool.length, quantity)
    return this.candidates.push(matching) - 1
  }

  /**
   * Decides on one request. Allocates nothing, throws nothing, reads `buf[unitAt…end)` alone.
   * @param unitAt offset of the unit identifier (MBAP header, last byte)
   * @param end offset behind the PDU, which has at least its function code
   * @returns `REASON.allow` or the reason of the denial
   */
  decide(buf: Uint8Array, unitAt: number, end: number): number {
    const pdu = unitAt + 1
    const { programs } = this
    const program = this.cells[(this.rows[buf[unitAt]] << 8) | buf[pdu]]
    const at = program * PROGRAM.words
    this.wouldRule = -1
    this.fault = 0
    this.rule = programs[at + PROGRAM.rule]
    // Reads are nearly all traffic: their specification check and their window in one go (bench: decoder).
    const limit = programs[at + PROGRAM.quantity]
    if (limit !== 0 && end - pdu === 5) {
      const low = (buf[pdu + 1] << 8) | buf[pdu + 2]
      const quantity = (buf[pdu + 3] << 8) | buf[pdu + 4]
      if (quantity >= 1 && quantity <= limit && low + quantity <= 65536) {
        return this.within(at, low, low + quantity - 1) ? REASON.allow : REASON.address
      }
    }
    return this.decideOther(program, buf, unitAt, end)
  }

  /**
   * Says what reads of one unit and function may be, for a caller with many alike: those of 1…`limit` that lie within
   * `low`…`high` are allowed by `rule`; of all others `allowsRead` knows.
   * @param target unit identifier << 8 | function code
   */
  aim(target: number): void {
    const { programs, pool } = this
    const at = this.cells[(this.rows[target >>> 8] << 8) | (target & 0xff)] * PROGRAM.words
    const first = programs[at + PROGRAM.first]
    this.aimed = at
    this.rule = programs[at + PROGRAM.rule]
    this.limit = first < programs[at + PROGRAM.last] ? programs[at + PROGRAM.quantity] : 0
    this.low = pool[first]
    this.high = pool[first + 1]
  }

  /**
   * Whether a read of what `aim` has found is allowed by a rule with ranges alone: `decide` for a frame whose length is
   * that of a read.
   * @param low first address
   * @returns false where it is not, or where more than that has to be looked at
   */
  allowsRead(low: number, quantity: number): boolean {
    // Without a limit, the program is not one of a read, or not so simple.
    if (quantity > this.limit || quantity === 0 || low + quantity > 65536) return false
    return this.within(this.aimed, low, low + quantity - 1)
  }

  /** The window of a simple program lies in one of its ranges. */
  private within(at: number, low: number, high: number): boolean {
    const { programs, pool } = this
    const last = programs[at + PROGRAM.last]
    for (let i = programs[at + PROGRAM.first]; i < last; i += 2) {
      if (low >= pool[i] && high <= pool[i + 1]) return true
    }
    return false
  }

  private decideOther(program: number, buf: Uint8Array, unitAt: number, end: number): number {
    const pdu = unitAt + 1
    if (program === 0) return this.outside(buf[unitAt])
    const at = program * PROGRAM.words
    const window = this.programs[at + PROGRAM.window]
    const fault = checkRequest(buf, pdu, end)
    if (fault !== 0) return this.faulty(fault, program, buf, pdu, end)
    if (window === WINDOW.none) return REASON.allow
    if (window === WINDOW.general) return this.general(program, buf, unitAt, end)
    const low = (buf[pdu + 1] << 8) | buf[pdu + 2]
    const high = window === WINDOW.one ? low : low + ((buf[pdu + 3] << 8) | buf[pdu + 4]) - 1
    return this.within(at, low, high) ? REASON.allow : REASON.address
  }

  /** No rule has this function for this unit: which rule came nearest, and by what it missed. */
  private outside(unit: number): number {
    const row = this.rows[unit]
    this.rule = this.outsideRule[row]
    return this.outsideReason[row]
  }

  private nearestTo(unit: number): { rule: number; reason: number } {
    const allowing = this.matchers.filter((matcher) => !matcher.deny)
    const covering = allowing.find((matcher) => matcher.coversUnit(unit))
    if (covering !== undefined) return { rule: covering.index, reason: REASON.function }
    if (allowing.length > 0) return { rule: allowing[0].index, reason: REASON.unit }
    return { rule: -1, reason: this.matchers.length === 0 ? REASON.pair : REASON.function }
  }

  /** No allow rule has this function. A deny rule is not to be named: what one that monitors denies would pass. */
  private unallowed(candidates: readonly Matcher[], unit: number): number {
    const nearest = candidates.find((candidate) => !candidate.deny)
    if (nearest === undefined) return this.outside(unit)
    this.rule = nearest.index
    return REASON.function
  }

  private faulty(fault: number, program: number, buf: Uint8Array, pdu: number, end: number): number {
    const candidates = this.candidates[program]
    const code = buf[pdu]
    const sub = subOf(code, buf, pdu, end)
    // A function that only deny rules name is denied for what it is, however it is formed; so is a malformed request
    // whose sub-function no allow rule names.
    const allowed = candidates.some((c) => !c.deny && (sub === -1 || c.coversSub(code, sub)))
    const reason = !allowed ? REASON.function : faultException(fault) === 2 ? REASON.address : REASON.malformed
    if (allowed) this.fault = fault
    // What a malformed request would touch cannot be known: a deny rule for its function has it, so that an allow rule
    // that monitors does not let it through.
    const judge =
      candidates.find((c) => c.deny && !c.monitor && (sub === -1 || c.coversSub(code, sub))) ??
      (allowed ? candidates.find((c) => !c.deny) : undefined)
    if (judge === undefined) return this.unallowed(candidates, buf[pdu - 1])
    this.rule = judge.index
    return reason
  }

  /** Several rules, sub-functions, values, FC 23 or files. Deny rules stand first among the candidates. */
  private general(program: number, buf: Uint8Array, unitAt: number, end: number): number {
    const pdu = unitAt + 1
    const code = buf[pdu]
    const sub = subOf(code, buf, pdu, end)
    const table = tableOf(code)
    const candidates = this.candidates[program]
    let nearest = -1
    let reason = 0
    for (let i = 0; i < candidates.length; i++) {
      const matcher = candidates[i]
      let stage: number = REASON.allow
      if (sub !== -1 && !matcher.coversSub(code, sub)) stage = REASON.function
      else if (!this.addressed(matcher, table, code, buf, pdu)) stage = REASON.address
      else if (!matcher.deny && matcher.terms.values !== null && !this.valued(matcher, buf, unitAt, end)) {
        stage = REASON.value
      }
      if (matcher.deny) {
        if (stage !== REASON.allow) continue
        const verdict = matcher.terms.addresses === null || table === NO_TABLE ? REASON.function : REASON.address
        if (matcher.monitor) {
          if (this.wouldRule === -1) {
            this.wouldRule = matcher.index
            this.wouldReason = verdict
          }
          continue
        }
        this.rule = matcher.index
        return verdict
      }
      if (stage === REASON.allow) {
        this.rule = matcher.index
        return REASON.allow
      }
      // REASON's order is the order of the stages: the later the stage, the nearer the rule.
      if (stage > reason) {
        reason = stage
        nearest = matcher.index
      }
    }
    if (nearest === -1) return this.unallowed(candidates, buf[unitAt])
    this.rule = nearest
    return reason
  }

  /** Allow rules must hold every address that is touched; deny rules match when any is. */
  private addressed(matcher: Matcher, table: number, code: number, buf: Uint8Array, pdu: number): boolean {
    if (table === NO_TABLE) return true
    if (table === FILES) return matcher.ranges[FILES] === null
    const low = word(buf, pdu + 1)
    const high = WRITES_ONE(code) ? low : low + word(buf, pdu + 3) - 1
    if (code !== 23) return matcher.deny ? matcher.touches(table, low, high) : matcher.within(table, low, high)
    const from = word(buf, pdu + 5)
    const to = from + word(buf, pdu + 7) - 1
    if (matcher.deny) return matcher.touches(table, low, high) || matcher.touches(table, from, to)
    return matcher.within(table, low, high) && matcher.within(table, from, to)
  }

  private valued(matcher: Matcher, buf: Uint8Array, unitAt: number, end: number): boolean {
    const pdu = unitAt + 1
    const unit = buf[unitAt]
    const registers = matcher.terms.values?.['holding-registers']
    const coils = matcher.terms.values?.coils
    const address = word(buf, pdu + 1)
    switch (buf[pdu]) {
      case 5:
        return coils === undefined || keeps(coils, address, buf[pdu + 3] === 0 ? 0 : 1, -1)
      case 15: {
        if (coils === undefined) return true
        const quantity = word(buf, pdu + 3)
        for (let i = 0; i < quantity; i++) {
          // V1.1b3 §6.11: the first coil is the least significant bit of the first data byte.
          if (!keeps(coils, address + i, (buf[pdu + 6 + (i >> 3)] >> (i & 7)) & 1, -1)) return false
        }
        return true
      }
      case 6:
        return this.registersKeep(registers, unit, address, 1, buf, pdu + 3, end)
      case 16:
        return this.registersKeep(registers, unit, address, word(buf, pdu + 3), buf, pdu + 6, end)
      case 23:
        return this.registersKeep(registers, unit, word(buf, pdu + 5), word(buf, pdu + 7), buf, pdu + 10, end)
      case 22: {
        if (registers === undefined) return true
        const and = word(buf, pdu + 3)
        const or = word(buf, pdu + 5)
        const present = this.present === null ? -1 : this.present.get(unit, address)
        // V1.1b3 §6.16: (current AND and_mask) OR (or_mask AND NOT and_mask). Where the current value is not known,
        // the least and the greatest outcome must both keep to the limits.
        if (present !== -1) return keeps(registers, address, (present & and) | (or & ~and & 0xffff), present)
        const least = or & ~and & 0xffff
        return keeps(registers, address, least, -1) && keeps(registers, address, least | and, -1)
      }
      default:
        return true
    }
  }

  private registersKeep(
    limits: readonly ValueTerms[] | undefined,
    unit: number,
    address: number,
    quantity: number,
    buf: Uint8Array,
    at: number,
    end: number,
  ): boolean {
    if (limits === undefined) return true
    for (let i = 0; i < quantity && at + 2 * i + 1 < end; i++) {
      const present = this.present === null ? -1 : this.present.get(unit, address + i)
      if (!keeps(limits, address + i, word(buf, at + 2 * i), present)) return false
    }
    return true
  }

  /** Notes what an allowed write will leave in the registers. Call when the request is sent to the target. */
  learnRequest(buf: Uint8Array, unitAt: number, end: number): void {
    const pdu = unitAt + 1
    const unit = buf[unitAt]
    switch (buf[pdu]) {
      case 6:
        this.learnRegisters(unit, word(buf, pdu + 1), buf, pdu + 3, pdu + 5)
        return
      case 16:
        this.learnRegisters(unit, word(buf, pdu + 1), buf, pdu + 6, end)
        return
      case 23:
        this.learnRegisters(unit, word(buf, pdu + 5), buf, pdu + 10, end)
        return
      case 22: {
        const address = word(buf, pdu + 1)
        const present = this.present?.get(unit, address) ?? -1
        const and = word(buf, pdu + 3)
        const or = word(buf, pdu + 5)
        this.present?.set(unit, address, present === -1 ? -1 : (present & and) | (or & ~and & 0xffff))
      }
    }
  }

  /** Notes what a matched response to FC 3 says of the registers from `address` on. */
  learnResponse(buf: Uint8Array, unitAt: number, end: number, unit: number, address: number): void {
    this.learnRegisters(unit, address, buf, unitAt + 3, end)
  }

  /** A write failed or was not answered: what the registers hold is no longer known. */
  forget(unit: number, address: number, quantity: number): void {
    for (let i = 0; i < quantity; i++) this.present?.set(unit, address + i, -1)
  }

  private learnRegisters(unit: number, address: number, buf: Uint8Array, at: number, end: number): void {
    for (let i = at, register = address; i + 1 < end; i += 2, register++) {
      this.present?.set(unit, register, word(buf, i))
    }
  }

  /** What would have been allowed in place of the denied request: one line for a person, off the allowed path. */
  explain(reason: number, code: number): string {
    const matcher = this.matchers.find((m) => m.index === this.rule)
    if (matcher === undefined) return 'no rule for this client and target'
    if (matcher.deny) return `rule "${matcher.terms.name}" denies it`
    const { terms } = matcher
    if (reason === REASON.unit) return `unit identifiers allowed: ${rangesText(terms.unitIds ?? [])}`
    if (reason === REASON.function) {
      const codes = [...new Set(terms.functions.map((f) => (f.sub === null ? `${f.code}` : `${f.code}/${f.sub}`)))]
      return `functions allowed: ${codes.length > 40 ? `${codes.slice(0, 40).join(', ')} …` : codes.join(', ')}`
    }
    if (reason === REASON.address && terms.addresses !== null) {
      const table = tableOf(code)
      const name = TABLES[table]
      if (name === undefined) return 'file records lie in no address table that the rule allows'
      return `${name} allowed: ${rangesText(terms.addresses[name] ?? [])}`
    }
    if (reason === REASON.value) return `values allowed: ${valuesText(terms.values?.[TABLES[tableOf(code)]] ?? [])}`
    return ''
  }
}

/** `100-109: 0 to 4000, steps of at most 200 from a known value`. */
const valuesText = (limits: readonly ValueTerms[]): string =>
  limits
    .slice(0, 8)
    .map(({ range, min, max, maxStep }) => {
      const bounds = min === null && max === null ? [] : [`${min ?? 0} to ${max ?? 65535}`]
      if (maxStep !== null) bounds.push(`steps of at most ${maxStep} from a known value`)
      return `${rangesText([range])}: ${bounds.join(', ')}`
    })
    .join('; ')

function rangesText(ranges: readonly (readonly [number, number])[]): string {
  if (ranges.length === 0) return 'none'
  const parts = ranges.slice(0, 16).map(([low, high]) => (low === high ? `${low}` : `${low}-${high}`))
  return ranges.length > 16 ? `${parts.join(', ')} …` : parts.join(', ')
}

/** Sub-function of FC 8 or MEI type of FC 43; -1: the function has none (or the PDU is cut short). */
function subOf(code: number, buf: Uint8Array, pdu: number, end: number): number {
  if (code === 8 && pdu + 2 < end) return word(buf, pdu + 1)
  if (code === 43 && pdu + 1 < end) return buf[pdu + 1]
  return -1
}

/** Whether `value` at `address` keeps every limit that covers it; a step needs the present value. */
function keeps(limits: readonly ValueTerms[], address: number, value: number, present: number): boolean {
  for (const limit of limits) {
    if (address < limit.range[0] || address > limit.range[1]) continue
    if (limit.min !== null && value < limit.min) return false
    if (limit.max !== null && value > limit.max) return false
    if (limit.maxStep !== null && (present === -1 || Math.abs(value - present) > limit.maxStep)) return false
  }
  return true
}

/** Whether a specification fault is the address overflow that V1.1b3 answers with exception 02. */
export const isOverflow = (fault: number): boolean => fault === FAULT.ADDRESS_OVERFLOW
