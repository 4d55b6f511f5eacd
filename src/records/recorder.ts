/**
 * Takes events from the gateway, completes them, and gives them to the log, the evidence and the sinks. On the main
 * thread; never throws and never waits.
 */
import { randomBytes } from 'node:crypto'
import pino from 'pino'
import type { Evidence, Gateway } from '../policy/model.ts'
import { EVENTS, type EventInput, type EventRecord, type SeverityName } from './catalogue.ts'
import { ClockWatch } from './clock-watch.ts'
import { EvidenceWriter } from './evidence/writer.ts'
import { Losses } from './losses.ts'
import { MEMORY_EVENTS, Sink, type SinkReport, type SinkResult, sinkKey } from './sinks/sink.ts'

const PINO_LEVEL: Record<SeverityName, 'fatal' | 'error' | 'warn' | 'info' | 'debug'> = {
  emergency: 'fatal',
  alert: 'fatal',
  critical: 'fatal',
  error: 'error',
  warning: 'warn',
  notice: 'info',
  info: 'info',
  debug: 'debug',
}

/** Log lines that may wait for a slow reader of stdout, in bytes. */
const LOG_BACKLOG = 8 << 20
/** How long the end waits for the log's reader. */
const FLUSH_MS = 1000

export interface RecorderOptions {
  level: 'debug' | 'info' | 'warn' | 'error'
  /** File descriptor of the log; 1 is stdout. */
  fd?: number
}

export type RecordTerms = Pick<Gateway, 'name' | 'syslog' | 'spool' | 'evidence'>

export class Recorder {
  /**
   * One cell that all workers read: 1 while conduits that enforce deny everything, since evidence is required and cannot
   * be written.
   */
  readonly gate = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))
  /** Events by sink and what became of them. */
  readonly results = new Map<string, Record<SinkResult, number>>()
  private readonly log: pino.Logger
  private readonly destination: ReturnType<typeof pino.destination>
  private readonly clock: ClockWatch
  private sinkList: Sink[] = []
  /** Sinks that end, so that their spools are theirs until then. */
  private readonly ending = new Set<Promise<void>>()
  private sinkGeneration = 0
  /** Events for sinks that are yet to begin; null: there are none such. */
  private held: { record: EventRecord; body: string }[] | null = null
  private heldLost = new Losses()
  private evidence: EvidenceWriter | null = null
  private required = false
  private gateway = ''
  private policy = ''
  private sequence = 0
  private logEnded = false
  /** Tells the events of this start of the gateway from those of another, and sorts after those before it. */
  private readonly start = `${Date.now().toString(36).padStart(9, '0')}-${randomBytes(4).toString('hex')}`

  constructor(options: RecorderOptions) {
    this.destination = pino.destination({
      fd: options.fd ?? 1,
      sync: false,
      maxLength: LOG_BACKLOG,
      retryEAGAIN: () => !this.logEnded,
    })
    this.destination.on('drop', () => this.count('log', 'lost', 1))
    // A reader that has gone (EPIPE) must not stop the gateway.
    this.destination.on('error', () => this.count('log', 'lost', 1))
    this.log = pino(
      {
        level: options.level,
        base: null,
        timestamp: false,
        messageKey: 'message',
        formatters: { level: (label) => ({ level: label }) },
      },
      this.destination,
    )
    this.clock = new ClockWatch((event) => this.record(event))
  }

  get sinks(): readonly Sink[] {
    return this.sinkList
  }

  /** null: the policy asks for no evidence. */
  get evidenceState(): Pick<EvidenceWriter, 'directory' | 'writable' | 'written' | 'lost'> | null {
    return this.evidence
  }

  /**
   * Takes over what a policy says of the records. What stays the same goes on undisturbed. Resolves when the evidence is
   * open, or it is known that it cannot be.
   */
  async configure(policySha256: string, terms: RecordTerms): Promise<void> {
    this.gateway = terms.name
    this.policy = policySha256
    this.configureSinks(terms)
    await this.configureEvidence(terms.evidence ?? null)
  }

  /**
   * A sink whose settings change is another one, with the same spool: it begins when the former has ended. What happens
   * in the meantime is held for it.
   */
  private configureSinks({ syslog, spool }: RecordTerms): void {
    const wanted = new Map(syslog.map((sink) => [sinkKey(sink, spool ?? null), sink]))
    const kept = this.sinkList.filter((sink) => wanted.delete(sink.key))
    for (const former of this.sinkList.filter((sink) => !kept.includes(sink))) {
      const ended = former.close().finally(() => this.ending.delete(ended))
      this.ending.add(ended)
    }
    this.sinkList = kept
    const report: SinkReport = {
      tell: (event) => this.record(event),
      count: (sink, result, count) => this.count(sink, result, count),
    }
    const generation = ++this.sinkGeneration
    const begin = (): void => {
      // A later reload has its own sinks, and takes over what is held.
      if (generation !== this.sinkGeneration) return
      const { held, heldLost } = this
      this.held = null
      this.heldLost = new Losses()
      const lost = heldLost.take()
      for (const terms of wanted.values()) {
        const sink = new Sink(terms, spool ?? null, report)
        this.sinkList.push(sink)
        for (const { record, body } of held ?? []) sink.write(record, body)
        if (lost !== null) {
          this.count(sink.name, 'lost', lost.count)
          this.record({ event: 'events.lost', sink: sink.name, ...lost })
        }
      }
    }
    if (this.ending.size === 0 || wanted.size === 0) begin()
    else {
      this.held ??= []
      void Promise.all(this.ending).then(begin)
    }
  }

  private async configureEvidence(terms: Evidence | null): Promise<void> {
    const former = this.evidence
    this.required = terms?.required ?? false
    if (former !== null && terms !== null && former.directory === terms.directory && former.key === terms.key) {
      former.configure(terms)
      this.setGate()
      return
    }
    if (former !== null) {
      // Whoever reads the files that end must learn why they do.
      const detail = terms === null ? 'the policy asks for no evidence' : `goes on in ${terms.directory}`
      const severity = terms === null ? 'warning' : 'notice'
      this.give(this.complete({ event: 'evidence.closed', severity, evidence_file: former.directory, detail }), former)
    }
    this.evidence = null
    if (terms !== null) {
      const writer: EvidenceWriter = new EvidenceWriter(terms, {
        tell: (event, chained) => this.give(this.complete(event), chained ? writer : null),
        writable: () => this.setGate(),
      })
      this.evidence = writer
    }
    await former?.close()
    await this.evidence?.open()
    this.setGate()
  }

  private setGate(): void {
    const deny = this.required && this.evidence !== null && !this.evidence.writable
    Atomics.store(this.gate, 0, deny ? 1 : 0)
  }

  /** Takes an event; never waits and never throws. */
  record(input: EventInput): void {
    this.give(this.complete(input), this.evidence)
  }

  private complete(input: EventInput): EventRecord {
    const { event, severity, time, ...fields } = input
    const record = {
      time: new Date(time ?? Date.now()).toISOString(),
      event,
      severity: severity ?? EVENTS[event][0],
      id: `${this.start}-${(this.sequence++).toString(36).padStart(7, '0')}`,
      gateway: this.gateway,
      policy: this.policy,
    } as unknown as EventRecord
    for (const key in fields) {
      const value = fields[key as keyof typeof fields]
      if (value !== undefined && value !== null && value !== '') record[key] = value
    }
    return record
  }

  private give(record: EventRecord, evidence: EvidenceWriter | null): EventRecord {
    const body = JSON.stringify(record)
    evidence?.append(body, record.time)
    for (const sink of this.sinkList) sink.write(record, body)
    if (this.held !== null && this.held.length < MEMORY_EVENTS) this.held.push({ record, body })
    else if (this.held !== null) this.heldLost.add(record.time)
    if (!this.logEnded) this.log[PINO_LEVEL[record.severity]](record)
    this.count('log', 'sent', 1)
    return record
  }

  private count(sink: string, result: SinkResult, count: number): void {
    let results = this.results.get(sink)
    if (results === undefined) {
      results = { sent: 0, spooled: 0, lost: 0 }
      this.results.set(sink, results)
    }
    results[result] += count
  }

  /** Lets the sinks send what they hold, for a bounded time, signs the evidence, and flushes the log. */
  async close(): Promise<void> {
    this.clock.stop()
    // Sinks that wait for these begin, and take what was held for them.
    await Promise.all(this.ending)
    const last = this.sinkList
    await Promise.all(last.map((sink) => sink.close()))
    this.sinkList = []
    await this.evidence?.close()
    await this.endLog()
  }

  /** Stdout may be gone, full, or a pipe that nobody reads: it is waited for, but not for ever. */
  private async endLog(): Promise<void> {
    await new Promise<void>((resolve) => {
      const patience = setTimeout(resolve, FLUSH_MS)
      const done = (): void => {
        clearTimeout(patience)
        resolve()
      }
      this.destination.once('close', done).once('error', done)
      this.destination.end()
    })
    this.logEnded = true
    this.destination.destroy()
  }
}
