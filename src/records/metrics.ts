/**
 * The Prometheus page. The data plane's counts are read from shared cells when they are asked for; what a reload or a
 * worker's death retires is added to totals, so that no counter ever goes back.
 */
import { Counter, collectDefaultMetrics, Gauge, type Metric, Registry } from 'prom-client'
import { QUIRKS } from '../policy/model.ts'
import { functionName } from '../protocols/modbus/function-codes.ts'
import { functionLabel } from '../protocols/opcua/services.ts'
import { CHANNEL_CELLS, channelLabels } from '../protocols/opcua/terms.ts'
import { REASONS, WOULD_DENY } from '../protocols/reason.ts'
import {
  type CellBases,
  type CounterLayout,
  HISTOGRAM_CELLS,
  RESPONSE_BOUNDS_US,
  VERDICTS,
  WATCHED,
} from './counters.ts'
import type { Recorder } from './recorder.ts'

/** Counts of one conduit's protocol, in the layout of its cells but with rules by name. */
interface Totals {
  /** All cells before the rules. */
  cells: Float64Array
  rules: Map<string, [number, number, number]>
  /** Histograms by target. */
  targets: Map<string, Float64Array>
}

/** A certificate or a revocation list that a conduit relies on. */
export interface CertificateExpiry {
  conduit: string
  kind: string
  name: string
  thumbprint: string
  notAfter: number
}

interface Source {
  layout: CounterLayout
  cells: Float64Array
}

/** After a reload, connections that it ends count where they did until they are gone: so many layouts are read. */
const LAYOUTS_READ = 4

/** Cells of a block before its rules: the same for every layout. */
const BLOCK = (bases: CellBases): number => bases.rules - bases.requests

/** Cells that count what there is now. */
const isGauge = (bases: CellBases, at: number): boolean =>
  at === bases.open || at === bases.pending || (at >= bases.channels && at < bases.rules)

const verdictOf = (cell: number): { verdict: string; reason: string } => ({
  verdict: cell === 0 ? 'allow' : cell < WOULD_DENY ? 'deny' : 'would_deny',
  reason: cell === 0 ? '' : REASONS[cell % WOULD_DENY],
})

export class Metrics {
  readonly registry = new Registry()
  private readonly retired = new Map<string, Totals>()
  /** CPU time in microseconds by worker, of what it no longer counts in. */
  private readonly retiredCpu = new Map<number, number>()
  /** By worker, the latest first. */
  private readonly sources = new Map<number, Source[]>()
  /** Of the policy in force: what is shown. */
  private layout: CounterLayout = { conduits: [], cpu: 0, size: 0 }
  private readonly families: Metric[] = []
  private expiries: readonly CertificateExpiry[] = []
  private readonly recorder: Recorder
  private readonly requests
  private readonly responses
  private readonly connections
  private readonly open
  private readonly pending
  private readonly bytes
  private readonly ruleRequests
  private readonly tolerated
  private readonly shadowRequests
  private readonly shadowConnections
  private readonly shadowInfo
  private readonly knownDenials
  private readonly targetFailures
  private readonly knownLost
  private readonly rollbacks
  private readonly channels
  private readonly sessions
  private readonly certificateExpiry
  private readonly workerCpu
  private readonly enforcing
  private readonly policyInfo
  private readonly reloads
  private readonly restarts
  private readonly events
  private readonly drift
  private readonly driftTime
  private drifts = 0
  private readonly sinkUp
  private readonly spoolBytes
  private readonly evidenceWritable
  private readonly evidenceRecords

  constructor(recorder: Recorder, version: string) {
    this.recorder = recorder
    const registers = [this.registry]
    collectDefaultMetrics({ register: this.registry })
    // Gauges with the name of a counter, which Prometheus's own linter rejects; the same by type are there beside them.
    for (const what of ['handles', 'requests', 'resources']) {
      this.registry.removeSingleMetric(`nodejs_active_${what}_total`)
    }
    const counter = (name: string, help: string, labelNames: string[]): Counter => {
      const family = new Counter({ name: `headgate_${name}`, help, labelNames, registers })
      this.families.push(family)
      return family
    }
    const gauge = (name: string, help: string, labelNames: string[]): Gauge =>
      new Gauge({ name: `headgate_${name}`, help, labelNames, registers })
    gauge('build_info', 'Version of Headgate and of Node.js; always 1.', ['version', 'node'])
      .labels({ version, node: process.versions.node })
      .set(1)
    this.policyInfo = gauge('policy_info', 'SHA-256 of the policy in force; always 1.', ['sha256', 'file'])
    this.reloads = new Counter({
      name: 'headgate_policy_reloads_total',
      help: 'Reloads of the policy.',
      labelNames: ['result'],
      registers,
    })
    for (const result of ['loaded', 'rejected']) this.reloads.labels({ result }).inc(0)
    this.restarts = new Counter({
      name: 'headgate_worker_restarts_total',
      help: 'Worker threads that died and were replaced.',
      registers,
    })
    this.drift = gauge('drift_findings', 'What the latest look of headgate drift found; absent before the first.', [])
    this.driftTime = gauge('drift_checked_timestamp_seconds', 'Time of the latest look of headgate drift.', [])
    this.drift.remove()
    this.driftTime.remove()
    this.enforcing = gauge('conduit_enforcing', '1 where the conduit enforces, 0 where it monitors.', ['conduit'])
    this.open = gauge('connections', 'Open client connections.', ['conduit', 'protocol'])
    this.pending = gauge('pending_requests', 'Requests that a target owes an answer.', ['conduit'])
    this.channels = gauge('opcua_channels', 'Open secure channels by how much of them is seen.', [
      'conduit',
      'visibility',
      'policy',
      'mode',
    ])
    this.sessions = gauge('opcua_sessions', 'Open OPC UA sessions, as far as they are seen.', ['conduit'])
    this.certificateExpiry = gauge(
      'certificate_expiry_seconds',
      'Seconds until a certificate or a revocation list expires; negative: it has.',
      ['conduit', 'kind', 'name', 'thumbprint'],
    )
    const verdicts = ['conduit', 'protocol', 'verdict', 'reason']
    this.connections = counter('connections_total', 'Client connections by verdict.', verdicts)
    this.requests = counter('requests_total', 'Requests by function and verdict.', [
      'conduit',
      'protocol',
      'function',
      'verdict',
      'reason',
    ])
    this.responses = counter('responses_total', 'Responses by verdict.', verdicts)
    this.bytes = counter('bytes_total', 'Bytes received from clients (in) and sent to them (out).', [
      'conduit',
      'protocol',
      'direction',
    ])
    this.ruleRequests = counter('rule_requests_total', 'Requests that a rule allowed, or came nearest to allowing.', [
      'conduit',
      'rule',
      'verdict',
    ])
    this.tolerated = counter('tolerated_total', 'Responses that passed for a quirk their rule tolerates.', [
      'conduit',
      'quirk',
    ])
    this.shadowRequests = counter(
      'shadow_requests_total',
      'Requests by what the shadow policy makes of them: same, would_deny (and its reason), would_allow (and the reason in force).',
      verdicts,
    )
    this.shadowConnections = counter('shadow_connections_total', 'Connections alike.', verdicts)
    this.shadowInfo = gauge('shadow_info', 'SHA-256 of the shadow policy that judges; absent where none does.', [
      'sha256',
      'file',
    ])
    this.knownDenials = counter('known_client_denials_total', 'Denials of clients whose traffic was normal before.', [
      'conduit',
    ])
    this.targetFailures = counter(
      'target_failures_total',
      'Requests that a target did not answer in time, and targets that could not be reached.',
      ['conduit'],
    )
    this.knownLost = counter(
      'known_client_connections_lost_total',
      'Connections of known clients that ended otherwise than by their ends.',
      ['conduit'],
    )
    this.rollbacks = new Counter({
      name: 'headgate_rollbacks_total',
      help: 'Conduits that went back to monitor: by hand (rollback), or by themselves (automatic-rollback).',
      labelNames: ['conduit', 'cause'],
      registers,
    })
    this.workerCpu = counter('worker_cpu_seconds_total', 'CPU time of each worker thread.', ['worker'])
    this.events = counter('events_total', 'Events by sink and what became of them.', ['sink', 'result'])
    this.sinkUp = gauge('sink_up', '1 where the sink takes events.', ['sink'])
    this.spoolBytes = gauge('spool_bytes', 'Bytes that wait for the sink on the disk.', ['sink'])
    this.evidenceWritable = gauge(
      'evidence_writable',
      '1 while evidence can be written; absent where none is asked for.',
      ['directory'],
    )
    this.evidenceRecords = counter('evidence_records_total', 'Evidence records by what became of them.', ['result'])
    // The histogram's buckets come ready-made from the cells, which prom-client's own class has no call for.
    const name = 'headgate_response_seconds'
    const histogram = {
      name,
      get: async () => ({
        name,
        help: "A target's time to answer.",
        type: 'histogram',
        values: this.histogramValues(name),
      }),
      reset: () => {},
    }
    this.registry.registerMetric(histogram as unknown as Metric)
  }

  /** A worker counts in `cells` from now on, laid out by `layout`. What it counted before is kept. */
  attach(worker: number, layout: CounterLayout, memory: SharedArrayBuffer): void {
    this.layout = layout
    const sources = [{ layout, cells: new Float64Array(memory) }, ...(this.sources.get(worker) ?? [])]
    for (const source of sources.splice(LAYOUTS_READ)) this.keep(worker, source)
    this.sources.set(worker, sources)
  }

  /** A worker counts no more: adds its counts to the totals. */
  retire(worker: number): void {
    for (const source of this.sources.get(worker) ?? []) this.keep(worker, source)
    this.sources.delete(worker)
  }

  private keep(worker: number, { layout, cells }: Source): void {
    this.retiredCpu.set(worker, (this.retiredCpu.get(worker) ?? 0) + cells[layout.cpu])
    for (const bases of layout.conduits) this.fold(bases, cells, this.totals(this.retired, bases), false)
  }

  /** Open connections of a worker. */
  openConnections(worker: number): number {
    const sources = this.sources.get(worker) ?? []
    return sources.reduce(
      (all, { layout, cells }) => layout.conduits.reduce((sum, bases) => sum + cells[bases.open], all),
      0,
    )
  }

  policyLoaded(sha256: string, file: string, modes: ReadonlyMap<string, boolean>): void {
    this.policyInfo.reset()
    this.policyInfo.labels({ sha256, file }).set(1)
    this.enforcing.reset()
    for (const [conduit, enforcing] of modes) this.enforcing.labels({ conduit }).set(enforcing ? 1 : 0)
  }

  /** What expires, in milliseconds since 1970. */
  certificates(expiries: readonly CertificateExpiry[]): void {
    this.expiries = expiries
  }

  reloaded(result: 'loaded' | 'rejected'): void {
    this.reloads.labels({ result }).inc()
  }

  /** @param shadow null: none judges */
  shadowLoaded(shadow: { sha256: string; file: string } | null): void {
    this.shadowInfo.reset()
    if (shadow !== null) this.shadowInfo.labels({ sha256: shadow.sha256, file: shadow.file }).set(1)
  }

  rolledBack(conduit: string, cause: 'rollback' | 'automatic-rollback'): void {
    this.rollbacks.labels({ conduit, cause }).inc()
  }

  /** What a look at the drift found. @returns what the one before it found */
  drifted(total: number): number {
    const before = this.drifts
    this.drifts = total
    this.drift.set(total)
    this.driftTime.set(Math.floor(Date.now() / 1000))
    return before
  }

  /** What a conduit's cut-over is watched by, counted since the gateway's start, over all its protocols. */
  watched(conduit: string): Record<keyof typeof WATCHED, number> {
    const counts = { denials: 0, timeouts: 0, lost: 0 }
    const add = (at: (cell: number) => number): void => {
      for (const key of ['denials', 'timeouts', 'lost'] as const) counts[key] += at(WATCHED[key])
    }
    for (const { layout, cells } of [...this.sources.values()].flat()) {
      for (const bases of layout.conduits) if (bases.conduit === conduit) add((cell) => cells[bases.watched + cell])
    }
    for (const bases of this.layout.conduits) {
      const kept = bases.conduit === conduit ? this.retired.get(this.key(bases)) : undefined
      if (kept !== undefined) add((cell) => kept.cells[bases.watched - bases.requests + cell])
    }
    return counts
  }

  workerRestarted(): void {
    this.restarts.inc()
  }

  /** The page, in the text format 0.0.4. */
  async page(): Promise<string> {
    this.collect()
    return this.registry.metrics()
  }

  private key(bases: CellBases): string {
    return `${bases.conduit}\n${bases.protocol}`
  }

  private totals(into: Map<string, Totals>, bases: CellBases): Totals {
    const key = this.key(bases)
    let totals = into.get(key)
    if (totals === undefined) {
      totals = { cells: new Float64Array(BLOCK(bases)), rules: new Map(), targets: new Map() }
      into.set(key, totals)
    }
    return totals
  }

  /** Adds one worker's block to totals; gauges only while the worker lives. */
  private fold(bases: CellBases, cells: Float64Array, totals: Totals, gauges: boolean): void {
    for (let i = 0; i < totals.cells.length; i++) {
      const at = bases.requests + i
      if (gauges || !isGauge(bases, at)) totals.cells[i] += cells[at]
    }
    for (const [i, name] of bases.ruleNames.entries()) {
      const sum = totals.rules.get(name) ?? [0, 0, 0]
      for (let v = 0; v < 3; v++) sum[v] += cells[bases.rules + i * 3 + v]
      totals.rules.set(name, sum)
    }
    for (const { name, histogram } of bases.targets) {
      const sum = totals.targets.get(name) ?? new Float64Array(HISTOGRAM_CELLS)
      for (let i = 0; i < HISTOGRAM_CELLS; i++) sum[i] += cells[histogram + i]
      totals.targets.set(name, sum)
    }
  }

  /** All counts of all workers, living and gone, with the bases to read them by (relative to the block's start). */
  private sum(): { bases: CellBases; totals: Totals }[] {
    const sums = new Map<string, Totals>()
    for (const [key, totals] of this.retired) {
      sums.set(key, {
        cells: totals.cells.slice(),
        rules: new Map([...totals.rules].map(([name, counts]) => [name, [...counts]])),
        targets: new Map([...totals.targets].map(([name, cells]) => [name, cells.slice()])),
      })
    }
    for (const { layout, cells } of [...this.sources.values()].flat()) {
      for (const bases of layout.conduits) this.fold(bases, cells, this.totals(sums, bases), true)
    }
    return this.layout.conduits.map((bases) => ({ bases, totals: this.totals(sums, bases) }))
  }

  private collect(): void {
    for (const family of this.families) family.reset()
    this.open.reset()
    this.pending.reset()
    this.channels.reset()
    this.sessions.reset()
    this.certificateExpiry.reset()
    for (const { notAfter, conduit, kind, name, thumbprint } of this.expiries) {
      this.certificateExpiry.labels({ conduit, kind, name, thumbprint }).set((notAfter - Date.now()) / 1000)
    }
    for (const { bases, totals } of this.sum()) {
      const { conduit, protocol } = bases
      const at = (cell: number): number => totals.cells[cell - bases.requests]
      const verdicts = (family: Counter, base: number, labels: Record<string, string>, always: boolean): void => {
        for (let cell = 0; cell < VERDICTS; cell++) {
          const count = at(base + cell)
          if (count > 0 || (always && cell === 0)) family.labels({ ...labels, ...verdictOf(cell) }).inc(count)
        }
      }
      const nameOf = protocol === 'opcua' ? functionLabel : functionName
      for (let code = 0; code < bases.functions; code++) {
        verdicts(this.requests, bases.requests + code * VERDICTS, { conduit, protocol, function: nameOf(code) }, false)
      }
      verdicts(this.responses, bases.responses, { conduit, protocol }, true)
      verdicts(this.connections, bases.connections, { conduit, protocol }, true)
      this.bytes.labels({ conduit, protocol, direction: 'in' }).inc(at(bases.bytesIn))
      this.bytes.labels({ conduit, protocol, direction: 'out' }).inc(at(bases.bytesOut))
      this.open.labels({ conduit, protocol }).set(at(bases.open))
      this.pending.labels({ conduit }).inc(at(bases.pending))
      for (const [family, base] of [
        [this.shadowRequests, bases.shadow],
        [this.shadowConnections, bases.shadowConnections],
      ] as const) {
        for (let cell = 0; cell < VERDICTS; cell++) {
          const count = at(base + cell)
          if (count === 0) continue
          const verdict = cell === 0 ? 'same' : cell < WOULD_DENY ? 'would_deny' : 'would_allow'
          const reason = cell === 0 ? '' : REASONS[cell % WOULD_DENY]
          family.labels({ conduit, protocol, verdict, reason }).inc(count)
        }
      }
      this.knownDenials.labels({ conduit }).inc(at(bases.watched + WATCHED.denials))
      this.targetFailures.labels({ conduit }).inc(at(bases.watched + WATCHED.timeouts))
      this.knownLost.labels({ conduit }).inc(at(bases.watched + WATCHED.lost))
      if (protocol === 'opcua') {
        for (let cell = 0; cell < CHANNEL_CELLS; cell++) {
          const count = at(bases.channels + cell)
          if (count > 0) this.channels.labels({ conduit, ...channelLabels(cell) }).set(count)
        }
        this.sessions.labels({ conduit }).set(at(bases.sessions))
      }
      for (const [i, quirk] of protocol === 'modbus' ? QUIRKS.entries() : []) {
        const count = at(bases.tolerated + i)
        if (count > 0) this.tolerated.labels({ conduit, quirk }).inc(count)
      }
      for (const rule of bases.ruleNames) {
        const counts = totals.rules.get(rule) ?? [0, 0, 0]
        // A rule that nothing used is shown with its zeros: that is what tells it.
        for (const [v, verdict] of ['allow', 'deny', 'would_deny'].entries()) {
          if (v === 0 || counts[v] > 0) this.ruleRequests.labels({ conduit, rule, verdict }).inc(counts[v])
        }
      }
    }
    for (const worker of new Set([...this.retiredCpu.keys(), ...this.sources.keys()])) {
      const living = (this.sources.get(worker) ?? []).reduce((sum, { layout, cells }) => sum + cells[layout.cpu], 0)
      this.workerCpu.labels({ worker }).inc((living + (this.retiredCpu.get(worker) ?? 0)) / 1e6)
    }
    this.collectRecords()
  }

  private collectRecords(): void {
    const { results, sinks, evidenceState } = this.recorder
    for (const [sink, counts] of results) {
      for (const [result, count] of Object.entries(counts)) this.events.labels({ sink, result }).inc(count)
    }
    this.sinkUp.reset()
    this.spoolBytes.reset()
    for (const sink of sinks) {
      this.sinkUp.labels({ sink: sink.name }).set(sink.up ? 1 : 0)
      this.spoolBytes.labels({ sink: sink.name }).set(sink.backlog.spool)
    }
    this.evidenceWritable.reset()
    if (evidenceState === null) return
    this.evidenceWritable.labels({ directory: evidenceState.directory }).set(evidenceState.writable ? 1 : 0)
    this.evidenceRecords.labels({ result: 'written' }).inc(evidenceState.written)
    this.evidenceRecords.labels({ result: 'lost' }).inc(evidenceState.lost)
  }

  private histogramValues(
    name: string,
  ): { metricName: string; labels: Record<string, string | number>; value: number }[] {
    return this.sum().flatMap(({ bases, totals }) =>
      bases.targets.flatMap(({ name: target }) => {
        const labels = { conduit: bases.conduit, target }
        const cells = totals.targets.get(target) ?? new Float64Array(HISTOGRAM_CELLS)
        let count = 0
        const buckets = RESPONSE_BOUNDS_US.map((us, i) => {
          count += cells[i]
          return { metricName: `${name}_bucket`, labels: { le: us / 1e6, ...labels }, value: count }
        })
        count += cells[RESPONSE_BOUNDS_US.length]
        return [
          ...buckets,
          { metricName: `${name}_bucket`, labels: { le: '+Inf', ...labels }, value: count },
          { metricName: `${name}_sum`, labels, value: cells[RESPONSE_BOUNDS_US.length + 1] / 1e6 },
          { metricName: `${name}_count`, labels, value: count },
        ]
      }),
    )
  }
}
