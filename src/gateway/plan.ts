/** A policy as a worker uses it: its listeners, and what each conduit's protocol is to it. */
import type { Listener, Policy } from '../policy/model.ts'
import type { ConduitPlan, PlanContext } from './conduit-plan.ts'
import { ModbusConduit } from './modbus-conduit.ts'
import { OpcUaConduit } from './opcua-conduit.ts'
import { TerminateConduit } from './terminate-conduit.ts'

export class Plan {
  readonly policy: Policy
  private readonly context: PlanContext
  /** By `host:port`. */
  readonly listeners = new Map<string, ListenerPlan>()
  private readonly assets = new Map<bigint, string>()

  /** @param shadow the policy that judges beside; null: none */
  constructor(policy: Policy, context: PlanContext, shadow: Policy | null = null) {
    this.policy = policy
    this.context = shadow === null ? context : { ...context, beside: shadow }
    for (const zone of policy.zones) for (const asset of zone.assets) this.assets.set(asset.address.base, asset.name)
    const conduits = new Map<string, ConduitPlan>()
    const shadows = new ShadowPlans(shadow, context)
    for (const listener of policy.gateway?.listeners ?? []) {
      const place = `${listener.protocol} ${listener.conduit}`
      let plan = conduits.get(place)
      if (plan === undefined) {
        plan = conduitPlan(policy, listener, this.context)
        conduits.set(place, plan)
      }
      const key = listenKey(listener.listen)
      const { listen, target } = listener
      this.listeners.set(key, { key, ...listen, conduit: plan, target, shadow: shadows.listener(listener) })
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
  /** null: no policy judges beside. */
  shadow: ShadowListener | null
}

/** What a shadow policy says of a listener. */
export interface ShadowListener {
  /** SHA-256 of its document. */
  sha256: string
  /** null: it has no such listener, or not for this protocol. */
  conduit: ConduitPlan | null
  /** The protocol that its listener there is for, where that is another; null: it has none, or it is the same. */
  instead: string | null
  target: Listener['target']
}

/** Protocols as a document names them. */
const PROTOCOLS: Readonly<Record<string, string>> = { modbus: 'Modbus/TCP', opcua: 'OPC UA' }

export const listenKey = (listen: { host: string; port: number }): string =>
  listen.host.includes(':') ? `[${listen.host}]:${listen.port}` : `${listen.host}:${listen.port}`

function conduitPlan(policy: Policy, listener: Listener, context: PlanContext): ConduitPlan {
  const conduit = policy.conduits.find((c) => c.id === listener.conduit)
  const protocol = conduit?.protocols.find((p) => p.kind === listener.protocol)
  const { conduits } = context.layout
  // A shadow policy's conduit counts nothing itself, so that any bases do.
  const bases =
    conduits.find((b) => b.conduit === listener.conduit && b.protocol === listener.protocol) ??
    (context.role === undefined ? undefined : conduits[0])
  if (conduit !== undefined && bases !== undefined) {
    if (protocol?.kind === 'modbus') return new ModbusConduit(conduit, protocol, bases, context)
    if (protocol?.kind === 'opcua') {
      // A shadow policy judges and carries nothing: it needs no certificates.
      const terminates = protocol.handling === 'terminate' && context.role === undefined
      const Kind = terminates ? TerminateConduit : OpcUaConduit
      return new Kind(conduit, protocol, bases, context)
    }
  }
  throw new Error(`listener ${listenKey(listener.listen)}: conduit ${listener.conduit} has no ${listener.protocol}`)
}

/** A shadow policy's conduits, by the listeners of the policy in force. Their limits are counted apart. */
class ShadowPlans {
  private readonly policy: Policy | null
  private readonly context: PlanContext
  private readonly plans = new Map<string, ConduitPlan>()

  constructor(policy: Policy | null, context: PlanContext) {
    this.policy = policy
    this.context = { ...context, role: 'shadow\n' }
  }

  listener(listener: Listener): ShadowListener | null {
    const { policy } = this
    if (policy === null) return null
    const { sha256 } = policy
    const key = listenKey(listener.listen)
    const there = policy.gateway?.listeners.filter((one) => listenKey(one.listen) === key) ?? []
    const same = there.find((one) => one.protocol === listener.protocol)
    if (same === undefined) {
      return { sha256, conduit: null, instead: PROTOCOLS[there[0]?.protocol] ?? null, target: listener.target }
    }
    const place = `${same.protocol} ${same.conduit}`
    let plan = this.plans.get(place)
    if (plan === undefined) {
      try {
        plan = conduitPlan(policy, same, this.context)
      } catch {
        // A shadow must not stop what carries the traffic: this listener is not compared.
        return null
      }
      this.plans.set(place, plan)
    }
    return { sha256, conduit: plan, instead: null, target: same.target }
  }
}
