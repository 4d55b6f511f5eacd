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
import { Sink, type SinkReport, type SinkResult, sinkKey } from './sinks/sink.ts'

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
  private evidence: EvidenceWriter | null = null
  private required = false
  private gateway = ''
  private policy = ''
  private sequence = 0
  private closed = false
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

  private configureSinks({ syslog, spool }: RecordTerms): void {
    const wanted = new Map(syslog.map((sink) => [sinkKey(sink, spool ?? null), sink]))
    const kept = this.sinkList.filter((sink) => wanted.delete(sink.key))
    const former = this.sinkList.filter((sink) => !kept.includes(sink))
    this.sinkList = kept
    const report: SinkReport = {
      tell: (event) => this.record(event),
      count: (sink, result, count) => this.count(sink, result, count),
    }
    const begin = (): void => {
      // A later reload may have come first.
      for (const [key, sink] of this.closed ? [] : wanted) {
        if (this.sinkList.every((one) => one.key !== key)) this.sinkList.push(new Sink(sink, spool ?? null, report))
      }
    }
    if (former.length === 0) begin()
    else {
      const ended = Promise.all(former.map((sink) => sink.close())).then(begin)
      this.ending.add(ended)
      void ended.finally(() => this.ending.delete(ended))
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
    await Promise.all([...this.sinkList.map((sink) => sink.close()), ...this.ending])
    this.closed = true
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
