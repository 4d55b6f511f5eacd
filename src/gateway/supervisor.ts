/**
 * The main thread's side of the gateway: starts the workers, gives them policies, takes their events, and replaces
 * those that die. Knows no frame.
 */
import { closeSync, writeSync } from 'node:fs'
import net from 'node:net'
import { availableParallelism } from 'node:os'
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { BaselineShare } from '../baseline/live.ts'
import { SharedSessions, sessionsBytes } from '../limits/opcua-sessions.ts'
import { valuesBytes } from '../limits/present-values.ts'
import { limitsBytes, SharedLimits } from '../limits/shared-limits.ts'
import type { PkiData } from '../pki/load.ts'
import type { Policy } from '../policy/model.ts'
import type { EventInput } from '../records/catalogue.ts'
import { cellsBytes, layoutOf } from '../records/counters.ts'
import type { Metrics } from '../records/metrics.ts'
import type { Recorder } from '../records/recorder.ts'
import { WorkerClock } from './clock.ts'
import type { NormalTraffic } from './conduit-plan.ts'
import { Holdings, holdingsBytes } from './linux/holdings.ts'
import type { FromWorker, ToWorker, WorkerSetup } from './messages.ts'
import { steppedTargets } from './modbus-conduit.ts'
import { listenKey } from './plan.ts'
import { workerHeap } from './worker-heap.ts'

const MAX_WORKERS = 64
/** When workers die this often within a minute, they are not victims of an accident: others come less often. */
const MAX_RESTARTS = 10
const RESTART_MS = 100
const RETRY_MS = 5000
const AGE_MS = 60_000
/** Targets whose register values can be remembered (`max_step`). */
const MAX_STEPPED = 127

/** A listener's address cannot be had. */
export class ListenError extends Error {
  readonly code: string
  constructor(listen: string, code: string, what = '') {
    const why: Record<string, string> = {
      EADDRINUSE: 'the address is in use',
      EACCES: 'no permission (ports below 1024 need CAP_NET_BIND_SERVICE)',
      EADDRNOTAVAIL: 'this machine has no such address',
    }
    super(`cannot listen on ${listen}${what}: ${why[code] ?? code}`)
    this.code = code
  }
}

interface Member {
  index: number
  worker: Worker
  /** Memory of `Holdings`: what nobody else closes when the worker dies. Of whoever takes its place as well. */
  holdings: SharedArrayBuffer
  /** Resolved when the policy of this version is in force, or its listeners have failed. */
  waiting: Map<number, (failure: ListenError | null) => void>
  drained: () => void
  stopping: boolean
  /** The worker's eventfd; -1: it takes its messages by itself. */
  wakeFd: number
}

/** What an eventfd is written (eventfd(2)): 1, as a 64-bit integer of the machine's byte order. */
const ONE = new Uint8Array(new BigUint64Array([1n]).buffer)

export class Supervisor {
  private readonly recorder: Recorder
  private readonly metrics: Metrics
  private readonly heard: (event: EventInput) => void
  private readonly io: 'epoll' | 'net'
  private readonly members: Member[] = []
  private readonly workers: number
  private readonly limits: SharedArrayBuffer
  private readonly values = new SharedArrayBuffer(valuesBytes())
  private readonly sessions = new SharedArrayBuffer(sessionsBytes())
  private readonly targets = new Map<string, number>()
  private readonly clock = new WorkerClock()
  private readonly aging: NodeJS.Timeout
  private restarts: number[] = []
  private policy: Policy
  private shadow: Policy | null = null
  /** Certificates of terminating conduits, by conduit. */
  private pki = new Map<string, PkiData>()
  private normal: ReadonlyMap<string, NormalTraffic> = new Map()
  private version = 0
  private stopping = false
  private hurried: () => void = () => {}
  /** Takes what a worker has for the baseline. */
  onShare: (worker: number, share: BaselineShare) => void = () => {}
  /** Takes the certificate of a peer that is not trusted. */
  onRejected: (conduit: string, list: 'clients' | 'servers', der: Uint8Array) => void = () => {}

  /** @param heard is given every event of the workers */
  constructor(
    policy: Policy,
    io: 'epoll' | 'net',
    recorder: Recorder,
    metrics: Metrics,
    heard: (event: EventInput) => void = () => {},
  ) {
    this.heard = heard
    this.policy = policy
    this.io = io
    this.recorder = recorder
    this.metrics = metrics
    const asked = policy.gateway?.workers ?? 0
    this.workers = Math.min(MAX_WORKERS, asked > 0 ? asked : availableParallelism())
    this.limits = new SharedArrayBuffer(limitsBytes(this.workers))
    this.aging = setInterval(() => {
      this.clock.read()
      new SharedLimits(this.limits, 0).age(this.clock.us)
    }, AGE_MS)
    this.aging.unref()
  }

  /** Starts the workers and opens the listeners. Rejects with `ListenError`. */
  async start(pki: Map<string, PkiData> = new Map()): Promise<void> {
    this.pki = pki
    await this.probe(this.policy)
    for (let index = 0; index < this.workers; index++) this.members[index] = this.spawn(index)
    await this.distribute(this.policy)
  }

  /** Lets another policy judge beside the one in force, from the next `reload` (or start) on; null: none. */
  judgeBeside(shadow: Policy | null): void {
    this.shadow = shadow
  }

  /** Says what is normal on conduits whose cut-over is watched, from the next `reload` (or start) on. */
  expect(normal: ReadonlyMap<string, NormalTraffic>): void {
    this.normal = normal
  }

  /**
   * Puts another policy into force in all workers. Rejects with `ListenError`, and changes nothing, where a new
   * listener's address cannot be had.
   */
  async reload(policy: Policy, pki: Map<string, PkiData> = this.pki): Promise<void> {
    await this.probe(policy)
    const former = this.policy
    const formerPki = this.pki
    this.policy = policy
    this.pki = pki
    try {
      await this.distribute(policy)
    } catch (error) {
      // Some workers have it already.
      this.policy = former
      this.pki = formerPki
      await this.distribute(former).catch(() => {})
      throw error
    }
  }

  /**
   * Opens and closes each new listener alone: with SO_REUSEPORT, which the workers use, a second gateway on the same
   * address would be no error, and would take half of the connections.
   */
  private async probe(policy: Policy): Promise<void> {
    const former = this.members.length === 0 ? [] : (this.policy.gateway?.listeners ?? [])
    const open = new Set(former.map((listener) => listenKey(listener.listen)))
    for (const { listen } of policy.gateway?.listeners ?? []) {
      if (open.has(listenKey(listen))) continue
      await new Promise<void>((resolve, reject) => {
        const server = net.createServer()
        server.once('error', (error: NodeJS.ErrnoException) =>
          reject(new ListenError(listenKey(listen), error.code ?? error.message)),
        )
        server.listen({ ...listen, exclusive: true }, () => server.close(() => resolve()))
      })
    }
  }

  private async distribute(policy: Policy): Promise<void> {
    for (const key of [...steppedTargets(policy), ...(this.shadow === null ? [] : steppedTargets(this.shadow))]) {
      if (!this.targets.has(key) && this.targets.size < MAX_STEPPED) this.targets.set(key, this.targets.size)
    }
    const version = ++this.version
    const failures = await Promise.all(this.members.map((member) => this.give(member, policy, version)))
    const failure = failures.find((failed) => failed !== null)
    if (failure !== undefined && failure !== null) throw failure
  }

  private give(member: Member, policy: Policy, version: number): Promise<ListenError | null> {
    // The one that takes a dead worker's place is given the policy then in force.
    if (member.worker.threadId === -1) return Promise.resolve(null)
    const layout = layoutOf(policy)
    const cells = new SharedArrayBuffer(cellsBytes(layout))
    return new Promise((resolve) => {
      member.waiting.set(version, (failure) => {
        this.metrics.attach(member.index, layout, cells)
        resolve(failure)
      })
      const { targets, shadow, pki, normal } = this
      this.say(member, { type: 'policy', version, policy, layout, cells, targets, shadow, pki, normal })
    })
  }

  private say(member: Member, message: ToWorker): void {
    member.worker.postMessage(message)
    this.wake(member)
  }

  private wake(member: Member): void {
    if (member.wakeFd !== -1 && member.worker.threadId !== -1) writeSync(member.wakeFd, ONE)
  }

  private spawn(index: number): Member {
    const setup: WorkerSetup = {
      index,
      workers: this.workers,
      io: this.io,
      limits: this.limits,
      values: this.values,
      sessions: this.sessions,
      holdings: this.members[index]?.holdings ?? new SharedArrayBuffer(holdingsBytes()),
      gate: this.recorder.gate,
    }
    const worker = new Worker(new URL(`./worker${extname(import.meta.url)}`, import.meta.url), {
      workerData: setup,
      resourceLimits: workerHeap(this.io, this.policy),
    })
    const member: Member = {
      index,
      worker,
      holdings: setup.holdings,
      waiting: new Map(),
      drained: () => {},
      stopping: false,
      wakeFd: -1,
    }
    let why = 'exited'
    worker.on('message', (message: FromWorker) => this.onMessage(member, message))
    worker.on('error', (error) => {
      why = error instanceof Error ? error.message : String(error)
    })
    worker.on('exit', () => this.onExit(member, why))
    return member
  }

  private onMessage(member: Member, message: FromWorker): void {
    if (message.type === 'events') {
      for (const event of message.events) {
        this.recorder.record(event)
        this.heard(event)
      }
    } else if (message.type === 'baseline') this.onShare(member.index, message.share)
    else if (message.type === 'drained') member.drained()
    else if (message.type === 'rejected') this.onRejected(message.conduit, message.list, message.der)
    else if (message.type === 'wake') {
      member.wakeFd = message.fd
      this.wake(member)
    } else {
      const failure = message.type === 'failed' ? new ListenError(message.listen, message.code) : null
      member.waiting.get(message.version)?.(failure)
      member.waiting.delete(message.version)
    }
  }

  private onExit(member: Member, why: string): void {
    const lost = this.metrics.openConnections(member.index)
    this.metrics.retire(member.index)
    new SharedLimits(this.limits, 0).forfeit(member.index)
    new SharedSessions(this.sessions, 0).forfeit(member.index)
    for (const fd of new Holdings(member.holdings).take()) closeSync(fd)
    for (const resolve of member.waiting.values()) resolve(null)
    member.drained()
    if (this.stopping || member.stopping) return
    const now = Date.now()
    this.restarts = this.restarts.filter((time) => now - time < 60_000)
    this.restarts.push(now)
    const often = this.restarts.length > MAX_RESTARTS
    this.recorder.record({
      event: often ? 'worker.failed' : 'worker.restarted',
      worker: member.index,
      detail: often ? `${why}; the next is started in ${RETRY_MS / 1000} s` : why,
      connections: lost,
    })
    this.metrics.workerRestarted()
    setTimeout(() => void this.replace(member.index), often ? RETRY_MS : RESTART_MS)
  }

  private async replace(index: number): Promise<void> {
    if (this.stopping) return
    const next = this.spawn(index)
    this.members[index] = next
    const failure = await this.give(next, this.policy, this.version)
    if (failure !== null) this.recorder.record({ event: 'worker.failed', worker: index, detail: failure.message })
  }

  /** Whether a worker lives that can take connections. */
  get alive(): boolean {
    return this.members.some((member) => member.worker.threadId !== -1)
  }

  /** Ends the waiting of `stop`. */
  hurry(): void {
    this.hurried()
  }

  /** Stops accepting, lets outstanding requests finish for at most `drainMs`, and ends the workers. */
  async stop(drainMs: number): Promise<void> {
    this.stopping = true
    clearInterval(this.aging)
    const drained = this.members.map(
      (member) =>
        new Promise<void>((resolve) => {
          member.drained = resolve
          this.say(member, { type: 'drain' })
        }),
    )
    await new Promise<void>((resolve) => {
      const patience = setTimeout(resolve, drainMs)
      this.hurried = () => {
        clearTimeout(patience)
        resolve()
      }
      void Promise.all(drained).then(this.hurried)
    })
    await Promise.all(
      this.members.map(
        (member) =>
          new Promise<void>((resolve) => {
            member.stopping = true
            if (member.worker.threadId === -1) {
              resolve()
              return
            }
            const kill = setTimeout(() => void member.worker.terminate(), 1000)
            member.worker.once('exit', () => {
              clearTimeout(kill)
              resolve()
            })
            this.say(member, { type: 'stop' })
          }),
      ),
    )
  }
}
