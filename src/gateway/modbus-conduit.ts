/** A Modbus conduit as a worker uses it: tables compiled when a pair of addresses is first seen. */
import { SharedPresentValues } from '../limits/present-values.ts'
import type { Conduit, ModbusProtocol, Policy, Quirk } from '../policy/model.ts'
import { PairTable } from '../protocols/modbus/decide.ts'
import { ModbusSession, type SessionTerms, type Shadow, TOLERATE } from '../protocols/modbus/session.ts'
import { type Clock, OPEN_GATE, type RequestLimiter, type Session } from '../protocols/session.ts'
import { type CellBases, RESPONSE_BOUNDS_US } from '../records/counters.ts'
import { type Beside, ConduitPlan, type PlanContext, rulesFor, type Target, targetKey } from './conduit-plan.ts'
import type { Connection } from './connection.ts'

export class ModbusConduit extends ConduitPlan {
  readonly kind = 'modbus'
  readonly protocol: ModbusProtocol
  /** What all listeners of the conduit share; sessions get theirs from `termsFor`. */
  readonly terms: SessionTerms
  private readonly context: PlanContext
  private readonly tables = new Map<string, PairTable>()
  private readonly byTarget = new Map<string, SessionTerms>()

  constructor(conduit: Conduit, protocol: ModbusProtocol, bases: CellBases, context: PlanContext) {
    super(conduit, protocol, bases, context)
    this.protocol = protocol
    this.context = context
    const { limits, timeouts, rules } = protocol
    this.terms = {
      monitor: conduit.mode === 'monitor',
      onDeny: protocol.onDeny,
      ruleOnDeny: rules.map((rule) => rule.onDeny),
      ruleMonitor: Uint8Array.from(rules, (rule) => (rule.mode === 'monitor' ? 1 : 0)),
      tolerate: Uint8Array.from(rules, (rule) => rule.tolerate.reduce((bits, q: Quirk) => bits | TOLERATE[q], 0)),
      responseMs: timeouts.responseMs,
      idleMs: timeouts.idleMs,
      partialFrameMs: timeouts.partialFrameMs,
      pace: limits.onLimit === 'pace',
      paceQueue: limits.paceQueue,
      paceMs: limits.paceMs,
      counters: { cells: context.cells, ...bases, histogram: -1 },
      gate: context.gate ?? OPEN_GATE,
      bounds: Int32Array.from(RESPONSE_BOUNDS_US),
      witnessed: conduit.mode === 'monitor',
    }
  }

  knows(client: bigint, target: Target): boolean {
    return this.table(client, target) !== null
  }

  open(
    host: Connection,
    clock: Clock,
    target: Target,
    client: bigint,
    limiter: RequestLimiter | null,
    shadow: Beside | null,
  ): Session {
    const table = this.table(client, target) ?? this.noTable()
    return new ModbusSession(host, clock, this.termsFor(target.name), table, limiter, shadow as Shadow | null)
  }

  adopt(session: Session, target: Target, client: bigint, limiter: RequestLimiter | null, shadow: Beside | null): void {
    const table = this.table(client, target) ?? this.noTable()
    ;(session as ModbusSession).adopt(this.termsFor(target.name), table, limiter, shadow as Shadow | null)
  }

  private termsFor(target: string): SessionTerms {
    let terms = this.byTarget.get(target)
    if (terms === undefined) {
      terms = { ...this.terms, counters: { ...this.terms.counters, histogram: this.histogramOf(target) } }
      this.byTarget.set(target, terms)
    }
    return terms
  }

  /** The rules for a pair of addresses, compiled; null where no rule knows the pair. */
  table(client: bigint, target: Target): PairTable | null {
    const indexes = rulesFor(this.protocol.rules, client, target.address.base)
    if (!indexes.some((index) => this.protocol.rules[index].action === 'allow')) return null
    const place = targetKey(target)
    const key = `${indexes.join(',')} ${place}`
    let table = this.tables.get(key)
    if (table === undefined) {
      table = new PairTable(
        indexes.map((index) => ({ index, terms: this.protocol.rules[index] })),
        this.present(place),
      )
      this.tables.set(key, table)
    }
    return table
  }

  /** A table that denies all: for a pair that no rule knows, on a conduit that monitors. */
  noTable(): PairTable {
    let table = this.tables.get('')
    if (table === undefined) {
      table = new PairTable([], null)
      this.tables.set('', table)
    }
    return table
  }

  private present(place: string): SharedPresentValues | null {
    const target = this.context.targets.get(place)
    if (target === undefined) return null
    const watched = new Uint8Array(65536)
    // Readers of the target teach what its writers are held to.
    const protocols = this.context.beside?.conduits.flatMap((conduit) => conduit.protocols) ?? []
    const beside = protocols.flatMap((protocol) => (protocol.kind === 'modbus' ? protocol.rules : []))
    for (const rule of [...this.protocol.rules, ...beside]) {
      for (const limit of rule.values?.['holding-registers'] ?? []) {
        if (limit.maxStep !== null) watched.fill(1, limit.range[0], limit.range[1] + 1)
      }
    }
    return new SharedPresentValues(this.context.values, target, watched)
  }
}

/** Targets on whose conduit a rule wants the present value of registers. */
export function steppedTargets(policy: Policy): string[] {
  const keys = new Set<string>()
  for (const listener of policy.gateway?.listeners ?? []) {
    for (const conduit of policy.conduits) {
      if (conduit.id !== listener.conduit) continue
      for (const protocol of conduit.protocols) {
        if (protocol.kind !== 'modbus') continue
        const stepped = protocol.rules.some((rule) =>
          rule.values?.['holding-registers']?.some((v) => v.maxStep !== null),
        )
        if (stepped) keys.add(targetKey(listener.target))
      }
    }
  }
  return [...keys]
}
