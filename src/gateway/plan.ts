/**
 * A policy as a worker uses it: for each listener its conduit's terms, and for each pair of addresses its table,
 * compiled when the pair is first seen.
 */

import { rateOf } from '../limits/gcra.ts'
import { SharedPresentValues } from '../limits/present-values.ts'
import type { ConnectionTerms, RequestTerms } from '../limits/shared-limits.ts'
import { blockHolds, formatAddress } from '../policy/address.ts'
import type { Conduit, Listener, ModbusProtocol, Policy, Quirk } from '../policy/model.ts'
import { PairTable } from '../protocols/modbus/decide.ts'
import { type SessionTerms, TOLERATE } from '../protocols/modbus/session.ts'
import { OPEN_GATE } from '../protocols/session.ts'
import { type CellBases, type CounterLayout, RESPONSE_BOUNDS_US } from '../records/counters.ts'

/** What a worker needs of its surroundings to compile a policy. */
export interface PlanContext {
  layout: CounterLayout
  cells: Float64Array
  /** Memory of `SharedPresentValues`. */
  values: SharedArrayBuffer
  /** Index of each target that has had a rule with `max_step`, by `host:port`; kept over reloads. */
  targets: ReadonlyMap<string, number>
  /** `SessionTerms.gate`; absent: nothing shuts it. */
  gate?: Int32Array
}

export class Plan {
  readonly policy: Policy
  private readonly context: PlanContext
  /** By `host:port`. */
  readonly listeners = new Map<string, ListenerPlan>()
  private readonly assets = new Map<bigint, string>()

  constructor(policy: Policy, context: PlanContext) {
    this.policy = policy
    this.context = context
    for (const zone of policy.zones) for (const asset of zone.assets) this.assets.set(asset.address.base, asset.name)
    const conduits = new Map<string, ConduitPlan>()
    for (const listener of policy.gateway?.listeners ?? []) {
      let plan = conduits.get(listener.conduit)
      if (plan === undefined) {
        plan = conduitPlan(policy, listener, context)
        conduits.set(listener.conduit, plan)
      }
      const key = listenKey(listener.listen)
      const terms = plan.termsFor(listener.target.name)
      this.listeners.set(key, { key, ...listener.listen, conduit: plan, target: listener.target, terms })
    }
  }

  /** Counts CPU time that the worker has used, in microseconds. */
  countCpu(us: number): void {
    this.context.cells[this.context.layout.cpu] += us
  }

  assetName(address: bigint): string | undefined {
    return this.assets.get(address)
  }
}

export interface ListenerPlan {
  key: string
  host: string
  port: number
  conduit: ConduitPlan
  target: Listener['target']
  /** The conduit's, counting this target's response times. */
  terms: SessionTerms
}

export const listenKey = (listen: { host: string; port: number }): string =>
  listen.host.includes(':') ? `[${listen.host}]:${listen.port}` : `${listen.host}:${listen.port}`

function conduitPlan(policy: Policy, listener: Listener, context: PlanContext): ConduitPlan {
  const conduit = policy.conduits.find((c) => c.id === listener.conduit)
  const protocol = conduit?.protocols.find((p) => p.kind === listener.protocol)
  const bases = context.layout.conduits.find((b) => b.conduit === listener.conduit && b.protocol === listener.protocol)
  if (conduit === undefined || protocol?.kind !== 'modbus' || bases === undefined) {
    throw new Error(`listener ${listenKey(listener.listen)}: conduit ${listener.conduit} has no ${listener.protocol}`)
  }
  return new ConduitPlan(conduit, protocol, bases, context)
}

export class ConduitPlan {
  readonly conduit: Conduit
  readonly protocol: ModbusProtocol
  readonly bases: CellBases
  readonly cells: Float64Array
  /** What all listeners of the conduit share; sessions get theirs from `termsFor`. */
  readonly terms: SessionTerms
  readonly connectionTerms: ConnectionTerms
  /** null: no limit on requests. */
  readonly requestTerms: RequestTerms | null
  /** Tags of this conduit's clients and targets in the shared limits. */
  readonly clientTag: number
  readonly targetTag: number
  private readonly context: PlanContext
  private readonly tables = new Map<string, PairTable>()

  constructor(conduit: Conduit, protocol: ModbusProtocol, bases: CellBases, context: PlanContext) {
    this.conduit = conduit
    this.protocol = protocol
    this.bases = bases
    this.cells = context.cells
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
    const orNone = (limit: number | null): number => limit ?? Number.POSITIVE_INFINITY
    const rate = limits.newConnectionsPerSecond
    this.connectionTerms = {
      perClient: orNone(limits.connectionsPerClient),
      perTarget: orNone(limits.connectionsPerTarget),
      newConnections: rate === null ? null : rateOf(rate, Math.ceil(rate)),
    }
    const { requestsPerClientPerSecond: perClient, requestsPerTargetPerSecond: perTarget, inFlightPerTarget } = limits
    this.requestTerms =
      perClient === null && perTarget === null && inFlightPerTarget === null
        ? null
        : {
            perClient: perClient === null ? null : rateOf(perClient, limits.burst),
            perTarget: perTarget === null ? null : rateOf(perTarget, limits.burst),
            inFlightPerTarget: orNone(inFlightPerTarget),
          }
    this.clientTag = tag(`${conduit.id}\n${protocol.kind}\nclient`)
    this.targetTag = tag(`${conduit.id}\n${protocol.kind}\ntarget`)
  }

  termsFor(target: string): SessionTerms {
    const { histogram } = this.bases.targets.find((one) => one.name === target) ?? { histogram: -1 }
    return { ...this.terms, counters: { ...this.terms.counters, histogram } }
  }

  /** The rules for a pair of addresses, compiled; null where no rule knows the pair. */
  table(client: bigint, target: Listener['target']): PairTable | null {
    const indexes: number[] = []
    for (const [index, rule] of this.protocol.rules.entries()) {
      const holds = (blocks: ModbusProtocol['rules'][number]['from'], address: bigint): boolean =>
        blocks.some((block) => blockHolds(block, address))
      if (holds(rule.from, client) && holds(rule.to, target.address.base)) indexes.push(index)
    }
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
    for (const rule of this.protocol.rules) {
      for (const limit of rule.values?.['holding-registers'] ?? []) {
        if (limit.maxStep !== null) watched.fill(1, limit.range[0], limit.range[1] + 1)
      }
    }
    return new SharedPresentValues(this.context.values, target, watched)
  }
}

export const targetKey = (target: Listener['target']): string => `${formatAddress(target.address.base)} ${target.port}`

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

/** FNV-1a, 32 bits, never 0. */
function tag(text: string): number {
  let h = 0x811c9dc5 | 0
  for (const byte of Buffer.from(text)) h = Math.imul(h ^ byte, 0x01000193)
  return h | 1
}
