/** A gateway with its targets: for each conduit a listener, and a raw target of its own behind it. */
import type { Policy } from '../../src/policy/model.ts'
import { freePort, TestGateway } from './gateway.ts'
import { type ConduitText, type GatewayText, modbusPolicy } from './policy.ts'
import { answer } from './server.ts'
import { connect, type Peer, RawTarget, type Script } from './sockets.ts'

export type ConduitPlan = Omit<ConduitText, 'id' | 'listen' | 'target'> & {
  /** What the target does; by default it answers as the specification has it. */
  script?: Script
  /** Where the listener and its target are; by default 127.0.0.1. */
  host?: string
}

export class Site<Name extends string> {
  readonly gateway: TestGateway
  private readonly targets: Map<Name, RawTarget>
  private readonly conduits: ConduitText[]
  private readonly options: GatewayText
  /** Tells clients apart: events of one client are collapsed, those of another are not. */
  private clients = 0

  private constructor(
    gateway: TestGateway,
    targets: Map<Name, RawTarget>,
    conduits: ConduitText[],
    options: GatewayText,
  ) {
    this.gateway = gateway
    this.targets = targets
    this.conduits = conduits
    this.options = options
  }

  static async open<Name extends string>(
    io: 'epoll' | 'net',
    plans: Record<Name, ConduitPlan>,
    options: GatewayText = {},
  ): Promise<Site<Name>> {
    const targets = new Map<Name, RawTarget>()
    const conduits: ConduitText[] = []
    for (const [id, { script = answer, host = '127.0.0.1', ...plan }] of Object.entries(plans) as [
      Name,
      ConduitPlan,
    ][]) {
      const target = await RawTarget.open(script, 0, host)
      targets.set(id, target)
      const listen = { host, port: await freePort(host) }
      conduits.push({ id, ...plan, listen, target: { host, port: target.port } })
    }
    const gateway: GatewayText = { io, metrics: { host: '127.0.0.1', port: await freePort() }, ...options }
    return new Site(await TestGateway.start(modbusPolicy(conduits, gateway)), targets, conduits, gateway)
  }

  target(name: Name): RawTarget {
    return this.targets.get(name) as RawTarget
  }

  /** A client at a conduit's listener, from an address of its own where none is given. */
  async connect(name: Name, from?: string): Promise<Peer> {
    const { listen } = this.conduits.find(({ id }) => id === name) as ConduitText
    this.clients++
    const own = `127.7.${this.clients >> 8}.${this.clients & 255 || 1}`
    return connect(listen.port, listen.host, from ?? (listen.host.includes(':') ? undefined : own))
  }

  /** The policy with some conduits changed. */
  policy(changes: Partial<Record<Name, Partial<ConduitText>>>): Policy {
    const conduits = this.conduits.map((conduit) => ({ ...conduit, ...changes[conduit.id as Name] }))
    return modbusPolicy(conduits, this.options)
  }

  async close(): Promise<number | null> {
    const code = await this.gateway.stop()
    await Promise.all([...this.targets.values()].map((target) => target.close()))
    return code
  }
}
