/** A whole gateway: records, metrics page, control socket and workers, from its policy's file to its last event. */

import { BaselineKeeper } from '../baseline/keeper.ts'
import { formatFinding } from '../policy/findings.ts'
import { loadPolicy, type Modes } from '../policy/load.ts'
import type { Finding, Policy } from '../policy/model.ts'
import type { EventInput } from '../records/catalogue.ts'
import { MetricsServer } from '../records/http.ts'
import { Metrics } from '../records/metrics.ts'
import { Recorder } from '../records/recorder.ts'
import { VERSION } from '../version.ts'
import { type Certificates, expiryEvents, loadCertificates, RejectedKeeper } from './certificates.ts'
import type { NormalTraffic } from './conduit-plan.ts'
import { carryOut } from './control/acts.ts'
import { ControlServer } from './control/server.ts'
import { keptUntilRestart, modesOf, NO_MODES, overlaid } from './in-force.ts'
import { unavailable } from './linux/syscalls.ts'
import { listenKey } from './plan.ts'
import { promotable, type Replaced, replaceDocument } from './promote.ts'
import { baselineView, normalTraffic } from './rollout/baseline.ts'
import { Refused, type RolloutHost, said } from './rollout/host.ts'
import { Rollout } from './rollout/rollout.ts'
import type { Who } from './rollout/state.ts'
import { ShadowPolicy } from './shadow-policy.ts'
import { statusOf } from './status.ts'
import { ListenError, Supervisor } from './supervisor.ts'

/** The gateway cannot start: one line for a person. */
export class StartError extends Error {}

/** How often planned cut-overs and watches are looked at. */
const TICK_MS = 500
/** How often the shadow policy's file is looked at. */
const SHADOW_MS = 2000
/** How often it is told that a certificate expires. */
const EXPIRY_MS = 24 * 3_600_000

export class Gateway {
  /** In force, with the modes in force. */
  private policy: Policy
  /** The same as its document says it. */
  private document: Policy
  /** The document itself; null: the policy came without one. */
  private bytes: Uint8Array | null
  private readonly recorder: Recorder
  private readonly metrics: Metrics
  private readonly page: MetricsServer
  private readonly supervisor: Supervisor
  private readonly io: 'epoll' | 'net'
  /** Why the portable transport is used where it was not asked for. */
  private readonly ioDetail: string
  /** null: modes are the document's. */
  readonly rollout: Rollout | null
  private readonly control: ControlServer | null
  private ready = false
  /** null: the policy asks for none. */
  private keeper: BaselineKeeper | null = null
  private readonly started = performance.now()
  /** What changes the policy in force comes one after another. */
  private turn: Promise<unknown> = Promise.resolve()
  private ticking: NodeJS.Timeout | undefined
  private expiring: NodeJS.Timeout | undefined
  private rejected = new RejectedKeeper()
  private certificates: Certificates = { pki: new Map(), expiries: [], warnings: [] }
  private busy = false
  private readonly shadow = new ShadowPolicy((event) => this.recorder.record(event))
  private shadowMs = 0
  /** SHA-256 of the shadow policy that judges; null: none. */
  private judging: string | null = null

  /** @param bytes the document that the policy was made of */
  constructor(policy: Policy, bytes: Uint8Array | null = null) {
    this.document = policy
    this.bytes = bytes
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
    const { control } = gateway
    this.rollout = control === null ? null : new Rollout(control.stateDirectory, this.rolloutHost())
    this.control =
      control === null
        ? null
        : new ControlServer(
            control.socket,
            (request, asker) => carryOut(this, request, asker),
            (detail) => this.recorder.record({ event: 'control.failed', control: control.socket, detail }),
          )
    this.policy = this.withModes(policy, bytes)
    this.supervisor = new Supervisor(this.policy, this.io, this.recorder, this.metrics, (event) =>
      this.rollout?.hear(event),
    )
    this.supervisor.onRejected = (conduit, list, der) => {
      const event = this.rejected.keep(this.policy, conduit, list, der, Date.now())
      if (event !== null) this.recorder.record(event)
    }
    this.supervisor.onShare = (worker, share) => this.keeper?.take(worker, share)
  }

  /** The policy with the modes that were kept. @throws StartError where it has errors that its document has not */
  private withModes(document: Policy, bytes: Uint8Array | null): Policy {
    const { policy, findings } = overlaid(document, bytes, this.rollout?.modesFor(document) ?? NO_MODES)
    if (policy !== null) return policy
    const errors = findings.filter((finding) => finding.severity === 'error').map(formatFinding)
    throw new StartError(`the modes that were kept need a document without these errors:\n${errors.join('\n')}`)
  }

  /** What is normal on conduits whose cut-over is watched, beside what known assets do. */
  private normal(policy: Policy): Map<string, NormalTraffic> {
    const kept = policy.gateway?.baseline?.directory ?? null
    return new Map(
      this.rollout?.watched.map(([conduit, baseline]) => [conduit, normalTraffic(policy, conduit, baseline ?? kept)]),
    )
  }

  private rolloutHost(): RolloutHost {
    return {
      record: (event) => this.recorder.record(event),
      document: () => this.document,
      modes: () => modesOf(this.policy),
      errorsWith: (modes) =>
        overlaid(this.document, this.bytes, modes).findings.filter((finding) => finding.severity === 'error'),
      apply: (modes, because) => this.switchModes(modes, because),
      counts: (conduit) => this.metrics.watched(conduit),
      baseline: (conduit, at) =>
        baselineView(this.policy, conduit, at ?? this.policy.gateway?.baseline?.directory ?? null),
      rolledBack: (conduit, cause) => this.metrics.rolledBack(conduit, cause),
    }
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
      await this.control?.listen()
      if (gateway?.metrics) {
        const { host, port } = gateway.metrics
        metrics = await this.page.listen(host, port).catch((error: NodeJS.ErrnoException) => {
          throw new ListenError(listenKey({ host, port }), error.code ?? error.message, ' for the metrics page')
        })
      }
      this.shadow.read(gateway?.shadow ?? null)
      this.supervisor.judgeBeside(this.beside())
      this.certificates = await loadCertificates(this.policy)
      this.supervisor.expect(this.normal(this.policy))
      await this.supervisor.start(this.certificates.pki)
    } catch (error) {
      await this.control?.close()
      await this.supervisor.stop(0)
      await this.keeper?.close()
      await this.page.close()
      await this.recorder.close()
      throw error instanceof StartError ? error : new StartError((error as Error).message)
    }
    this.inForce()
    this.tellShadow()
    this.tellCertificates()
    this.expiring = setInterval(() => this.tellExpiry(), EXPIRY_MS)
    this.rollout?.start()
    this.ready = true
    const listeners = gateway?.listeners.map((l) => `${listenKey(l.listen)} -> ${l.target.name}`).join(', ')
    const control = gateway?.control?.socket
    this.recorder.record({ event: 'gateway.ready', version: VERSION, io: this.io, listeners, metrics, control })
    this.ticking = setInterval(() => this.tick(), TICK_MS)
  }

  /** The shadow policy that is to judge; null: none, or it is the one in force. */
  private beside(): Policy | null {
    const { policy } = this.shadow
    return policy === null || policy.sha256 === this.document.sha256 ? null : policy
  }

  private tellShadow(): void {
    const policy = this.beside()
    if ((policy?.sha256 ?? null) === this.judging) return
    this.judging = policy?.sha256 ?? null
    this.metrics.shadowLoaded(policy)
    const { policy: same } = this.shadow
    const detail = same === null ? 'none is asked for' : 'it is the policy in force: there is nothing to compare'
    const file = policy?.file ?? same?.file ?? this.policy.gateway?.shadow
    this.recorder.record({ event: 'shadow.loaded', file, shadow: this.judging, detail: policy === null ? detail : '' })
  }

  /** Lets the shadow policy judge that is now the one, where it was another. */
  private async castShadow(): Promise<void> {
    const policy = this.beside()
    if ((policy?.sha256 ?? null) === this.judging) return
    this.supervisor.judgeBeside(policy)
    await this.supervisor.reload(this.policy)
    this.tellShadow()
  }

  private tick(): void {
    if (this.busy) return
    this.busy = true
    void this.exclusive(async () => {
      await this.rollout?.tick()
      const now = performance.now()
      if (now - this.shadowMs < SHADOW_MS) return
      this.shadowMs = now
      if (!this.shadow.changed) return
      this.shadow.read(this.policy.gateway?.shadow ?? null)
      await this.castShadow()
    })
      .catch((error: Error) => this.recorder.record({ event: 'shadow.rejected', detail: error.message }))
      .finally(() => {
        this.busy = false
      })
  }

  /** One change of the policy after another. */
  exclusive<T>(change: () => Promise<T>): Promise<T> {
    const next = this.turn.then(change)
    this.turn = next.catch(() => {})
    return next
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

  private tellCertificates(): void {
    const { expiries, warnings } = this.certificates
    this.metrics.certificates(expiries)
    for (const { conduit, text } of warnings) {
      this.recorder.record({ event: 'certificate.warning', conduit, protocol: 'opcua', detail: text })
    }
    this.tellExpiry()
  }

  private tellExpiry(): void {
    for (const event of expiryEvents(this.certificates.expiries, Date.now())) this.recorder.record(event)
  }

  private inForce(): void {
    const { policy } = this
    this.showModes()
    this.recorder.record({ event: 'policy.loaded', file: policy.file })
  }

  private showModes(): void {
    const { sha256, file, conduits } = this.policy
    this.metrics.policyLoaded(sha256, file, new Map(conduits.map((c) => [c.id, c.mode === 'enforce'])))
  }

  /** Puts a reloaded policy into force, or says why the one in force stays. @returns '' or why */
  reload(document: Policy | null, findings: readonly Finding[], bytes: Uint8Array | null = null): Promise<string> {
    return this.exclusive(() => this.reloadNow(document, findings, bytes))
  }

  /** As SIGHUP does, for the control socket; not while `exclusive` runs. */
  reloadFile(): Promise<string> {
    return this.exclusive(async () => {
      const { file } = this.policy
      try {
        const { policy, findings, bytes } = loadPolicy(file)
        return await this.reloadNow(policy, findings, bytes)
      } catch (error) {
        return this.reject(file, (error as Error).message)
      }
    })
  }

  private async reloadNow(
    document: Policy | null,
    findings: readonly Finding[],
    bytes: Uint8Array | null,
  ): Promise<string> {
    if (document === null) return this.rejectAll(findings)
    const inPlace = overlaid(document, bytes, this.rollout?.modesFor(document) ?? NO_MODES)
    const { policy } = inPlace
    if (policy === null) return this.rejectAll(inPlace.findings)
    let certificates: Certificates
    try {
      if (policy.gateway === null) throw new Error('no gateway section')
      certificates = await loadCertificates(policy)
      this.supervisor.expect(this.normal(policy))
      await this.supervisor.reload(policy, certificates.pki)
    } catch (error) {
      return this.reject(policy.file, (error as Error).message)
    }
    const former = modesOf(this.policy)
    const kept = keptUntilRestart(this.policy, policy)
    this.policy = policy
    this.document = document
    this.bytes = bytes
    this.certificates = certificates
    this.rejected = new RejectedKeeper()
    await this.recorder.configure(policy.sha256, policy.gateway)
    await this.keepBaseline()
    this.metrics.reloaded('loaded')
    this.inForce()
    this.warn(policy === document ? findings : inPlace.findings)
    this.tellCertificates()
    if (kept !== '') {
      const detail = `changed, but in force from the next start only: ${kept}`
      this.recorder.record({ event: 'policy.warning', file: policy.file, finding: 'needs-restart', detail })
    }
    this.tellModes(former, () => ({ cause: 'reload' }))
    this.rollout?.reloaded()
    this.shadow.read(policy.gateway.shadow)
    await this.castShadow()
    return ''
  }

  /** The shadow policy takes the place of the one in force; modes stay. @throws Refused */
  promote(who: Who, why: string): Promise<Record<string, unknown>> {
    return this.exclusive(() => this.promoteNow(who, why))
  }

  private async promoteNow(who: Who, why: string): Promise<Record<string, unknown>> {
    const { policy: candidate, bytes } = this.shadow
    const { rollout } = this
    const { file } = this.document
    if (candidate === null || bytes === null || rollout === null) {
      throw new Refused('there is no shadow policy that judges: see gateway.shadow')
    }
    const { document, findings } = promotable(
      { candidate, written: bytes, intact: this.shadow.intact },
      this.document,
      this.bytes,
      modesOf(this.policy),
    )
    const forget = rollout.keepModes(document, who, why)
    let replaced: Replaced
    try {
      replaced = replaceDocument(file, bytes, new Date())
    } catch (error) {
      forget()
      throw new Refused(
        `${file} cannot be replaced: ${(error as Error).message}; copy ${candidate.file} over it, and "headgate reload"`,
      )
    }
    const failure = await this.reloadNow(document, findings, bytes)
    if (failure !== '') {
      replaced.undo()
      forget()
      throw new Refused(`the policy in force stays: ${failure}`)
    }
    const detail = `the former is kept as ${replaced.kept}`
    this.recorder.record({ event: 'policy.promoted', file, shadow: candidate.sha256, ...said(who, why), detail })
    return { policy: { file, sha256: document.sha256 }, kept: replaced.kept }
  }

  private tellModes(former: Modes, because: (conduit: string) => Partial<EventInput>): void {
    for (const { id, mode } of this.policy.conduits) {
      const before = former.get(id)
      if (before === undefined || before === mode) continue
      this.recorder.record({ event: 'mode.changed', conduit: id, from_mode: before, mode, ...because(id) })
    }
  }

  /** Puts other modes of the same document into force. Rejects where it cannot. */
  private async switchModes(modes: Modes, because: (conduit: string) => Partial<EventInput>): Promise<void> {
    const { policy, findings } = overlaid(this.document, this.bytes, modes)
    if (policy === null) throw new Error(findings.map(formatFinding).join('; '))
    this.supervisor.expect(this.normal(policy))
    await this.supervisor.reload(policy)
    const former = modesOf(this.policy)
    this.policy = policy
    this.showModes()
    this.tellModes(former, because)
  }

  private rejectAll(findings: readonly Finding[]): string {
    const errors = findings.filter((finding) => finding.severity === 'error')
    for (const { file, line, column, id, message } of errors) {
      this.recorder.record({ event: 'policy.rejected', file, line, column, finding: id, detail: message })
    }
    this.metrics.reloaded('rejected')
    return errors.map(formatFinding).join('\n')
  }

  /** A reload that failed before there was a document to speak of. @returns why */
  reject(file: string, detail: string): string {
    this.recorder.record({ event: 'policy.rejected', file, detail })
    this.metrics.reloaded('rejected')
    return detail
  }

  /** An event of the control socket's. */
  record(event: EventInput): void {
    this.recorder.record(event)
  }

  /** The latest look of `headgate drift`. */
  drifted(total: number): void {
    if (this.metrics.drifted(total) > 0 && total === 0) this.recorder.record({ event: 'drift.resolved' })
  }

  /** What `headgate status` shows. */
  status(): Record<string, unknown> {
    const { policy, document, io, started } = this
    const judging = this.judging !== null
    const shadow = { sha256: this.shadow.policy?.sha256 ?? null, judging }
    return statusOf({ policy, document, io, started, shadow, rollout: this.rollout?.status() ?? null })
  }

  /** Ends a stop that waits for outstanding requests. */
  hurry(): void {
    this.supervisor.hurry()
  }

  async stop(signal: string): Promise<void> {
    this.ready = false
    clearInterval(this.ticking)
    clearInterval(this.expiring)
    this.recorder.record({ event: 'gateway.stopping', signal })
    await this.control?.close()
    await this.turn
    this.rollout?.stop()
    await this.supervisor.stop(this.policy.gateway?.drainMs ?? 0)
    await this.keeper?.close()
    this.recorder.record({ event: 'gateway.stopped' })
    await this.page.close()
    await this.recorder.close()
  }
}
