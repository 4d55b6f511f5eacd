/** A policy as a worker uses it: its listeners, and what each conduit's protocol is to it. */
import type { Listener, Policy } from '../policy/model.ts'
import type { ConduitPlan, PlanContext } from './conduit-plan.ts'
import { ModbusConduit } from './modbus-conduit.ts'
import { OpcUaConduit } from './opcua-conduit.ts'

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
      const place = `${listener.protocol} ${listener.conduit}`
      let plan = conduits.get(place)
      if (plan === undefined) {
        plan = conduitPlan(policy, listener, context)
        conduits.set(place, plan)
      }
      const key = listenKey(listener.listen)
      this.listeners.set(key, { key, ...listener.listen, conduit: plan, target: listener.target })
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
}

export const listenKey = (listen: { host: string; port: number }): string =>
  listen.host.includes(':') ? `[${listen.host}]:${listen.port}` : `${listen.host}:${listen.port}`

function conduitPlan(policy: Policy, listener: Listener, context: PlanContext): ConduitPlan {
  const conduit = policy.conduits.find((c) => c.id === listener.conduit)
  const protocol = conduit?.protocols.find((p) => p.kind === listener.protocol)
  const bases = context.layout.conduits.find((b) => b.conduit === listener.conduit && b.protocol === listener.protocol)
  if (conduit !== undefined && bases !== undefined) {
    if (protocol?.kind === 'modbus') return new ModbusConduit(conduit, protocol, bases, context)
    if (protocol?.kind === 'opcua') return new OpcUaConduit(conduit, protocol, bases, context)
  }
  throw new Error(`listener ${listenKey(listener.listen)}: conduit ${listener.conduit} has no ${listener.protocol}`)
}
