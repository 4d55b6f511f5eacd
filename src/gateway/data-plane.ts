/**
 * A worker's share of the gateway, whatever its transport: the plan in force, who is admitted, the connections there
 * are, their time-outs, and the events on their way to the main thread.
 */
import { type BaselineShare, LiveBaseline } from '../baseline/live.ts'
import type { SharedLimits } from '../limits/shared-limits.ts'
import { RECORD_DEFAULTS } from '../policy/model.ts'
import { REASON, REASONS } from '../protocols/reason.ts'
import type { EventInput, EventName } from '../records/catalogue.ts'
import { WATCHED } from '../records/counters.ts'
import { WorkerClock } from './clock.ts'
import { type Connection, countConnection, countWatched, type Peer } from './connection.ts'
import type { ListenerPlan, Plan } from './plan.ts'
import { compareAdmission } from './shadow.ts'
import { Storm } from './storm.ts'
import { TimerWheel } from './timer-wheel.ts'

const SWEEP_MS = 1000
/** How often the main thread gets what the baseline has more of, and how many of its rows at one time. */
const SHARE_MS = 5000
const SHARE_ROWS = 256

/** Shared-limit slots of a client and a target. */
export type Slots = readonly [client: number, target: number]

export class DataPlane {
  readonly clock = new WorkerClock()
  readonly wheel = new TimerWheel(this.clock.ms)
  readonly limits: SharedLimits
  readonly storm: Storm
  /** Connections with requests that wait to be paced. */
  readonly waiting = new Set<Connection>()
  /** Connections that have asked to be looked at since the latest tick, and those that did before it. */
  private soon = new Set<Connection>()
  private due = new Set<Connection>()
  private readonly connections = new Set<Connection>()
  private plan: Plan | null = null
  private sweptMs = 0
  private wall = Date.now()
  /** When `wall` was read, on the worker's clock. */
  private wallAt = 0
  /** CPU time of this thread that has been counted, in microseconds. */
  private countedUs = 0
  private events: EventInput[] = []
  /** null: none is asked for. */
  baseline: LiveBaseline | null = null
  private baselineDirectory = ''
  private sharedMs = 0
  /** Takes what the baseline has more of to the main thread. */
  onRejected: (conduit: string, list: 'clients' | 'servers', der: Uint8Array) => void = () => {}
  onShare: (share: BaselineShare) => void = () => {}
  private draining = false
  /** Called once when all connections have ended after `drain`. */
  onDrained: () => void = () => {}
  private readonly send: (events: EventInput[]) => void
  private readonly worker: number

  /** @param send takes a batch of events to the main thread */
  constructor(limits: SharedLimits, worker: number, send: (events: EventInput[]) => void) {
    this.limits = limits
    this.worker = worker
    this.send = send
    this.storm = new Storm(RECORD_DEFAULTS.stormMs, (event) => this.events.push({ ...event, worker: this.worker }))
  }

  get size(): number {
    return this.connections.size
  }

  /** Milliseconds since the epoch, read once for all that one turn of the loop has to tell. */
  wallMs(): number {
    if (this.clock.us !== this.wallAt) {
      this.wallAt = this.clock.us
      this.wall = Date.now()
    }
    return this.wall
  }

  /** Puts a plan into force: between two frames, as no frame is being read when this is called. */
  adopt(plan: Plan): void {
    this.plan = plan
    this.adoptBaseline(plan.policy.gateway?.baseline?.directory ?? '')
    this.storm.interval = plan.policy.gateway?.stormMs ?? RECORD_DEFAULTS.stormMs
    this.clock.read()
    for (const connection of [...this.connections]) {
      connection.adopt(plan.listeners.get(connection.listener.key))
      connection.afterCall()
    }
  }

  /** What was learned for one directory does not count for another. */
  private adoptBaseline(directory: string): void {
    if (directory === this.baselineDirectory) return
    this.shareAll()
    this.baselineDirectory = directory
    this.baseline = directory === '' ? null : new LiveBaseline()
  }

  /** Gives some of what the baseline has more of. */
  private share(): void {
    const { baseline } = this
    if (baseline === null || !baseline.stirred) {
      this.sharedMs = this.clock.ms
      return
    }
    this.onShare(baseline.take(SHARE_ROWS))
    if (!baseline.stirred) this.sharedMs = this.clock.ms
  }

  private shareAll(): void {
    while (this.baseline?.stirred === true) this.share()
  }

  listener(key: string): ListenerPlan | undefined {
    return this.plan?.listeners.get(key)
  }

  /**
   * Admits a client at a listener, by the conduit's address pairs and then its limits, before its target is dialled.
   * @returns the slots that its connection holds, or null when it is refused
   */
  admit(listener: ListenerPlan, peer: Peer): Slots | null {
    const { conduit } = listener
    const { monitor } = conduit
    let would = 0
    if (!conduit.knows(peer.address, listener.target)) {
      if (!monitor) return this.refuse(listener, peer, REASON.pair, 'no rule for this client and target')
      would = REASON.pair
    }
    const slots = this.holdSlots(listener, peer)
    if (slots === null) return this.refuse(listener, peer, REASON.rate, 'no room to count another client')
    if (!this.limits.connect(slots[0], slots[1], conduit.connectionTerms, this.clock.us, monitor)) {
      if (!monitor) {
        this.releaseSlots(slots)
        return this.refuse(listener, peer, REASON.rate, 'over a limit of connections')
      }
      if (would === 0) would = REASON.rate
    }
    countConnection(listener, would, would !== 0)
    if (listener.shadow !== null) compareAdmission(this, listener, peer, would)
    if (would !== 0) this.tellPair('connection.would_refuse', listener, peer, would, '')
    return slots
  }

  private refuse(listener: ListenerPlan, peer: Peer, reason: number, detail: string): null {
    countConnection(listener, reason, false)
    if (listener.shadow !== null) compareAdmission(this, listener, peer, reason)
    if (this.knows(peer) || listener.conduit.normal?.clients.has(peer.address) === true) {
      countWatched(listener, WATCHED.denials)
    }
    this.tellPair('connection.refused', listener, peer, reason, detail)
    return null
  }

  private tellPair(event: EventName, listener: ListenerPlan, peer: Peer, reason: number, detail: string): void {
    const key = `${event} ${listener.key} ${peer.text} ${reason}`
    const fields = { reason: REASONS[reason], mode: listener.conduit.conduit.mode, detail }
    this.storm.say(key, this.wallMs(), () => ({ event, ...this.pairFields(listener, peer), ...fields }))
  }

  /** Whether a client is an asset of the document. */
  knows(peer: Peer): boolean {
    return this.plan?.assetName(peer.address) !== undefined
  }

  pairFields(listener: ListenerPlan, peer: Peer): Partial<EventInput> {
    const { conduit, target } = listener
    return {
      conduit: conduit.conduit.id,
      protocol: conduit.protocol.kind,
      mode: conduit.conduit.mode,
      client: peer.text,
      client_port: peer.port,
      client_asset: this.plan?.assetName(peer.address),
      target: target.host,
      target_port: target.port,
      target_asset: this.plan?.assetName(target.address.base),
    }
  }

  holdSlots(listener: Pick<ListenerPlan, 'conduit' | 'target'>, peer: Peer): Slots | null {
    const { conduit, target } = listener
    const client = this.limits.holdSlot(conduit.clientTag, peer.address, this.clock.us)
    if (client === -1) return null
    const slot = this.limits.holdSlot(
      conduit.targetTag,
      (target.address.base << 16n) | BigInt(target.port),
      this.clock.us,
    )
    if (slot !== -1) return [client, slot]
    this.limits.releaseSlot(client)
    return null
  }

  releaseSlots(slots: Slots): void {
    this.limits.releaseSlot(slots[0])
    this.limits.releaseSlot(slots[1])
  }

  register(connection: Connection): void {
    this.connections.add(connection)
    connection.admitted()
    this.wheel.add(connection, this.clock.ms, 0)
  }

  forget(connection: Connection): void {
    this.connections.delete(connection)
    this.waiting.delete(connection)
    this.soon.delete(connection)
    this.due.delete(connection)
  }

  /** Has a connection looked at, as by its timer, at the next tick but one: what has just begun to wait is given time. */
  lookSoon(connection: Connection): void {
    this.soon.add(connection)
  }

  /** Says that something is wrong that is no connection's own. */
  tell(event: EventName, detail: string): void {
    this.storm.say(`${event} ${detail}`, this.wallMs(), () => ({ event, detail }))
  }

  /** Requests that wait for a limit get their turn. Every few milliseconds while there are any. */
  pace(): void {
    for (const connection of [...this.waiting]) {
      connection.session.onPace()
      connection.afterCall()
      if (!connection.session.waiting) this.waiting.delete(connection)
    }
  }

  /** Time-outs and events. Every `TimerWheel.interval` milliseconds. */
  tick(): void {
    for (const connection of this.due) connection.onTimer()
    this.due.clear()
    const { soon } = this
    this.soon = this.due
    this.due = soon
    this.wheel.advance(this.clock.ms)
    if (this.clock.ms - this.sweptMs >= SWEEP_MS || this.clock.ms < this.sweptMs) {
      this.sweptMs = this.clock.ms
      this.storm.sweep(this.wallMs())
      this.countCpu()
    }
    const since = (this.clock.ms - this.sharedMs) | 0
    if (since >= SHARE_MS || since < 0) this.share()
    this.flushEvents()
    if (this.draining && this.connections.size === 0) {
      this.draining = false
      this.onDrained()
    }
  }

  private countCpu(): void {
    // Node.js before 22.19 does not tell.
    const { user, system } = process.threadCpuUsage?.() ?? { user: 0, system: 0 }
    this.plan?.countCpu(user + system - this.countedUs)
    this.countedUs = user + system
  }

  /** Whether nothing needs `tick` soon. */
  get idle(): boolean {
    return this.connections.size === 0 && this.events.length === 0 && !this.draining
  }

  flushEvents(): void {
    if (this.events.length === 0) return
    this.send(this.events)
    this.events = []
  }

  /** No more requests are taken; connections close as what is outstanding is answered. */
  drain(): void {
    this.clock.read()
    this.draining = true
    for (const connection of [...this.connections]) {
      connection.session.close('gateway stopping')
      connection.afterCall()
    }
  }

  /** Closes what is left, and tells what storm control has held back. */
  stop(): void {
    for (const connection of [...this.connections]) connection.reset('gateway stopping')
    this.storm.sweep(this.wallMs(), true)
    this.shareAll()
    this.flushEvents()
  }
}
