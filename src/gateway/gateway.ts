/** A whole gateway: records, metrics page and workers, from its policy's file to its last event. */
import { BaselineKeeper } from '../baseline/keeper.ts'
import type { Finding, Policy } from '../policy/model.ts'
import { MetricsServer } from '../records/http.ts'
import { Metrics } from '../records/metrics.ts'
import { Recorder } from '../records/recorder.ts'
import { VERSION } from '../version.ts'
import { unavailable } from './linux/syscalls.ts'
import { listenKey } from './plan.ts'
import { ListenError, Supervisor } from './supervisor.ts'

/** The gateway cannot start: one line for a person. */
export class StartError extends Error {}

export class Gateway {
  private policy: Policy
  private readonly recorder: Recorder
  private readonly metrics: Metrics
  private readonly page: MetricsServer
  private readonly supervisor: Supervisor
  private readonly io: 'epoll' | 'net'
  /** Why the portable transport is used where it was not asked for. */
  private readonly ioDetail: string
  private ready = false
  /** null: the policy asks for none. */
  private keeper: BaselineKeeper | null = null

  constructor(policy: Policy) {
    this.policy = policy
    const { gateway } = policy
    if (gateway === null || gateway.listeners.length === 0) {
      throw new StartError(`${policy.file}: no gateway.listeners: there is nothing to open`)
    }
    this.recorder = new Recorder({ level: gateway.log.level })
    this.metrics = new Metrics(this.recorder, VERSION)
    this.page = new MetricsServer(this.metrics, () => this.ready && this.supervisor.alive)
    const missing = gateway.io === 'net' ? 'asked for' : unavailable()
    this.io = missing === null ? 'epoll' : 'net'
    this.ioDetail = gateway.io === 'net' ? '' : (missing ?? '')
    if (gateway.io === 'epoll' && missing !== null) throw new StartError(`gateway.io: epoll cannot be had: ${missing}`)
    this.supervisor = new Supervisor(policy, this.io, this.recorder, this.metrics)
    this.supervisor.onShare = (worker, share) => this.keeper?.take(worker, share)
  }

  /** Opens all; rejects with `StartError` and one line where something cannot be had. */
  async start(warnings: readonly Finding[]): Promise<void> {
    const { gateway } = this.policy
    if (gateway !== null) await this.recorder.configure(this.policy.sha256, gateway)
    this.recorder.record({ event: 'gateway.starting', version: VERSION, file: this.policy.file })
    this.warn(warnings)
    if (this.ioDetail !== '') this.recorder.record({ event: 'gateway.io', io: this.io, detail: this.ioDetail })
    await this.keepBaseline()
    let metrics: string | undefined
    try {
      if (gateway?.metrics) {
        const { host, port } = gateway.metrics
        metrics = await this.page.listen(host, port).catch((error: NodeJS.ErrnoException) => {
          throw new ListenError(listenKey({ host, port }), error.code ?? error.message, ' for the metrics page')
        })
      }
      await this.supervisor.start()
    } catch (error) {
      await this.supervisor.stop(0)
      await this.keeper?.close()
      await this.page.close()
      await this.recorder.close()
      throw error instanceof StartError ? error : new StartError((error as Error).message)
    }
    this.inForce()
    this.ready = true
    const listeners = gateway?.listeners.map((l) => `${listenKey(l.listen)} -> ${l.target.name}`).join(', ')
    this.recorder.record({ event: 'gateway.ready', version: VERSION, io: this.io, listeners, metrics })
  }

  /** Keeps the baseline that the policy in force asks for, or none. */
  private async keepBaseline(): Promise<void> {
    const { gateway } = this.policy
    const directory = gateway?.baseline?.directory ?? null
    if (directory === (this.keeper?.directory ?? null)) return
    const former = this.keeper
    this.keeper = null
    await former?.close()
    if (gateway === null || directory === null) return
    const watching = (): boolean => this.policy.conduits.some((conduit) => conduit.mode === 'monitor')
    this.keeper = new BaselineKeeper(directory, gateway.name, watching, (event) => this.recorder.record(event))
    await this.keeper.open()
  }

  private warn(warnings: readonly Finding[]): void {
    for (const { file, line, column, id, message } of warnings) {
      this.recorder.record({ event: 'policy.warning', file, line, column, finding: id, detail: message })
    }
  }

  private inForce(): void {
    const { policy } = this
    this.metrics.policyLoaded(
      policy.sha256,
      policy.file,
      new Map(policy.conduits.map((c) => [c.id, c.mode === 'enforce'])),
    )
    this.recorder.record({ event: 'policy.loaded', file: policy.file })
  }

  /** Puts a reloaded policy into force, or says why the one in force stays. */
  async reload(policy: Policy | null, findings: readonly Finding[]): Promise<void> {
    if (policy === null) {
      const errors = findings.filter((finding) => finding.severity === 'error')
      for (const { file, line, column, id, message } of errors) {
        this.recorder.record({ event: 'policy.rejected', file, line, column, finding: id, detail: message })
      }
      this.metrics.reloaded('rejected')
      return
    }
    try {
      if (policy.gateway === null) throw new Error('no gateway section')
      await this.supervisor.reload(policy)
    } catch (error) {
      this.reject(policy.file, (error as Error).message)
      return
    }
    const former = new Map(this.policy.conduits.map((conduit) => [conduit.id, conduit.mode]))
    const kept = keptUntilRestart(this.policy, policy)
    this.policy = policy
    await this.recorder.configure(policy.sha256, policy.gateway)
    await this.keepBaseline()
    this.metrics.reloaded('loaded')
    this.inForce()
    this.warn(findings)
    if (kept !== '') {
      const detail = `changed, but in force from the next start only: ${kept}`
      this.recorder.record({ event: 'policy.warning', file: policy.file, finding: 'needs-restart', detail })
    }
    for (const { id, mode } of policy.conduits) {
      const before = former.get(id)
      if (before !== undefined && before !== mode) {
        this.recorder.record({ event: 'mode.changed', conduit: id, from_mode: before, mode })
      }
    }
  }

  /** A reload that failed before there was a document to speak of. */
  reject(file: string, detail: string): void {
    this.recorder.record({ event: 'policy.rejected', file, detail })
    this.metrics.reloaded('rejected')
  }

  /** Ends a stop that waits for outstanding requests. */
  hurry(): void {
    this.supervisor.hurry()
  }

  async stop(signal: string): Promise<void> {
    this.ready = false
    this.recorder.record({ event: 'gateway.stopping', signal })
    await this.supervisor.stop(this.policy.gateway?.drainMs ?? 0)
    await this.keeper?.close()
    this.recorder.record({ event: 'gateway.stopped' })
    await this.page.close()
    await this.recorder.close()
  }
}

/** Settings of the gateway's that a reload would change but cannot. */
function keptUntilRestart(former: Policy, next: Policy): string {
  const settings = ['metrics', 'workers', 'io', 'log'] as const
  const changed = settings.filter(
    (key) => JSON.stringify(former.gateway?.[key]) !== JSON.stringify(next.gateway?.[key]),
  )
  return changed.map((key) => `gateway.${key}`).join(', ')
}
