/**
 * A Modbus session without sockets, for tests: notes all it asks of its host, and holds it to the buffers it is given.
 * What lies around the bytes is filled with a guard, so that a read outside shows as a different outcome.
 */
import type { ModbusConduit } from '../../src/gateway/modbus-conduit.ts'
import { Plan } from '../../src/gateway/plan.ts'
import { valuesBytes } from '../../src/limits/present-values.ts'
import type { Policy } from '../../src/policy/model.ts'
import { type ModbusHost, ModbusSession, type ReportKind } from '../../src/protocols/modbus/session.ts'
import { REASONS, WOULD_DENY } from '../../src/protocols/reason.ts'
import { HEAD_ROOM, type RequestLimiter } from '../../src/protocols/session.ts'
import { layoutOf } from '../../src/records/counters.ts'
import { type ConduitText, modbusPolicy } from './policy.ts'

export interface Report {
  kind: ReportKind
  reason: string
  would: boolean
  rule: number
  exception: number
  detail: string
}

export interface HarnessOptions {
  guard?: number
  limiter?: RequestLimiter | null
}

const PLACE = { listen: { host: '127.0.0.1', port: 1 }, target: { host: '127.0.0.2', port: 502 } }

/** A policy with one conduit, for sessions without sockets. */
export const sessionPolicy = (conduit: Omit<ConduitText, 'id' | 'listen' | 'target'>): Policy =>
  modbusPolicy([{ id: 'C1', ...PLACE, ...conduit }])

export function planOf(policy: Policy): ModbusConduit {
  const layout = layoutOf(policy)
  const targets = new Map([[`127.0.0.2 502`, 0]])
  const stepped = policy.conduits.some((conduit) =>
    conduit.protocols.some(
      (protocol) =>
        protocol.kind === 'modbus' &&
        protocol.rules.some((rule) => rule.values?.['holding-registers']?.some((limit) => limit.maxStep !== null)),
    ),
  )
  const plan = new Plan(policy, {
    layout,
    cells: new Float64Array(layout.size),
    values: new SharedArrayBuffer(stepped ? valuesBytes() : 8),
    targets: stepped ? targets : new Map(),
  })
  const [listener] = plan.listeners.values()
  return listener.conduit as ModbusConduit
}

/** A limiter that counts, and says no while `full`. */
export class CountingLimiter implements RequestLimiter {
  held = 0
  full = false

  acquire(_us: number, force: boolean): boolean {
    if (!this.full || force) this.held++
    return !this.full
  }

  release(): void {
    this.held--
  }
}

export class SessionHarness implements ModbusHost {
  readonly clock = { us: 1000, ms: 1 }
  readonly session: ModbusSession
  plan: ModbusConduit
  readonly reports: Report[] = []
  readonly targetWrites: Buffer[] = []
  readonly clientWrites: Buffer[] = []
  /** `finish` or `reset`, once the session asked for it. */
  ended = ''
  /** What `witness` was shown: who sent it, and the bytes; none where it was no frame. */
  readonly witnessed: [fromClient: boolean, hex: string][] = []
  drops = 0
  redials = 0
  /** How often the session has asked to be looked at soon. */
  soons = 0
  redialling = true
  private readonly guard: number
  private current: { buf: Uint8Array; start: number; end: number } | null = null

  constructor(policy: Policy, { guard = 0xaa, limiter = null }: HarnessOptions = {}) {
    this.guard = guard
    this.plan = planOf(policy)
    const listener = policy.gateway?.listeners[0]
    if (listener === undefined) throw new Error('no listener')
    const table = this.plan.table(0xffff7f000001n, listener.target) ?? this.plan.noTable()
    this.session = new ModbusSession(this, this.clock, this.plan.terms, table, limiter)
  }

  witness(fromClient: boolean, buf: Uint8Array, adu: number, end: number): void {
    this.witnessed.push([fromClient, Buffer.from(buf.subarray(adu, end)).toString('hex')])
  }

  /** A reload. What is counted from now on is counted by the new plan. */
  adopt(policy: Policy, limiter: RequestLimiter | null): void {
    const listener = policy.gateway?.listeners[0]
    if (listener === undefined) throw new Error('no listener')
    this.plan = planOf(policy)
    const table = this.plan.table(0xffff7f000001n, listener.target) ?? this.plan.noTable()
    this.session.adopt(this.plan.terms, table, limiter)
  }

  get toTargetHex(): string {
    return Buffer.concat(this.targetWrites).toString('hex')
  }

  get toClientHex(): string {
    return Buffer.concat(this.clientWrites).toString('hex')
  }

  /** Bytes from the client, alone but for the room that the session wants before them in a buffer of guard bytes. */
  client(bytes: Uint8Array): void {
    this.feed(bytes, this.session.clientRoom, (buf, start, end) => this.session.onClientBytes(buf, start, end))
  }

  target(bytes: Uint8Array): void {
    this.feed(bytes, this.session.targetRoom, (buf, start, end) => this.session.onTargetBytes(buf, start, end))
  }

  private feed(bytes: Uint8Array, room: number, take: (buf: Uint8Array, start: number, end: number) => void): void {
    if (room < 0 || room > HEAD_ROOM) throw new Error(`wants ${room} bytes before`)
    const start = 40 + room
    const buf = new Uint8Array(start + bytes.length + 300).fill(this.guard)
    buf.set(bytes, start)
    const end = start + bytes.length
    this.current = { buf, start: 40, end }
    take(buf, start, end)
    this.current = null
    for (let at = 0; at < buf.length; at++) {
      if ((at < 40 || at >= end) && buf[at] !== this.guard) throw new Error(`wrote outside the bytes, at ${at}`)
    }
  }

  /** Lets time pass, as the wheel of time-outs does: a look at least every 20 ms. */
  pass(ms: number): void {
    for (let left = ms; left > 0; left -= 20) {
      const step = Math.min(20, left)
      this.clock.ms += step
      this.clock.us = (this.clock.us + step * 1000) | 0
      if (this.session.waiting) this.session.onPace()
      if (this.ended === '') this.session.onTimer()
    }
  }

  /** Requests by verdict: `6 deny function` → number. */
  requests(): Record<string, number> {
    const { cells, counters } = { cells: this.plan.cells, counters: this.plan.terms.counters }
    const counts: Record<string, number> = {}
    for (let code = 0; code < 256; code++) {
      for (let cell = 0; cell < 2 * WOULD_DENY; cell++) {
        const count = cells[counters.requests + code * 2 * WOULD_DENY + cell]
        if (count > 0) counts[`${code} ${verdict(cell)}`] = count
      }
    }
    return counts
  }

  responses(): Record<string, number> {
    const counts: Record<string, number> = {}
    for (let cell = 0; cell < 2 * WOULD_DENY; cell++) {
      const count = this.plan.cells[this.plan.terms.counters.responses + cell]
      if (count > 0) counts[verdict(cell)] = count
    }
    return counts
  }

  get pending(): number {
    return this.plan.cells[this.plan.terms.counters.pending]
  }

  private copy(buf: Uint8Array, from: number, to: number): Buffer {
    if (from > to || from < 0 || to > buf.length) throw new Error(`asked to send [${from}, ${to}) of ${buf.length}`)
    if (buf === this.current?.buf && (from < this.current.start || to > this.current.end)) {
      throw new Error(`asked to send [${from}, ${to}) outside [${this.current.start}, ${this.current.end})`)
    }
    return Buffer.from(buf.slice(from, to))
  }

  toTarget(buf: Uint8Array, from: number, to: number): void {
    const bytes = this.copy(buf, from, to)
    if (this.ended === '') this.targetWrites.push(bytes)
  }

  toClient(buf: Uint8Array, from: number, to: number): void {
    const bytes = this.copy(buf, from, to)
    if (this.ended === '') this.clientWrites.push(bytes)
  }

  finish(): void {
    this.ended ||= 'finish'
  }

  reset(): void {
    this.ended ||= 'reset'
  }

  soon(): void {
    this.soons++
  }

  redial(): boolean {
    this.redials++
    return this.redialling
  }

  dropTarget(): void {
    this.drops++
  }

  report(
    kind: ReportKind,
    reason: number,
    would: boolean,
    rule: number,
    _buf: Uint8Array | null,
    _adu: number,
    _end: number,
    detail: string,
    exception: number,
  ): void {
    this.reports.push({ kind, reason: REASONS[reason], would, rule, exception, detail })
  }
}

function verdict(cell: number): string {
  if (cell === 0) return 'allow'
  return `${cell < WOULD_DENY ? 'deny' : 'would_deny'} ${REASONS[cell % WOULD_DENY]}`
}
