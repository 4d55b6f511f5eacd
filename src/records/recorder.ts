/**
 * Takes events from the gateway, completes them, and gives them to the log and to syslog. On the main thread; never
 * throws and never waits.
 */
import { randomBytes } from 'node:crypto'
import pino from 'pino'
import type { SyslogSink } from '../policy/model.ts'
import { EVENTS, type EventInput, type EventRecord, type SeverityName } from './catalogue.ts'
import { type SinkReport, type SinkResult, SyslogClient } from './syslog.ts'

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

export interface RecorderOptions {
  level: 'debug' | 'info' | 'warn' | 'error'
  /** File descriptor of the log; 1 is stdout. */
  fd?: number
}

export class Recorder {
  private readonly log: pino.Logger
  private readonly destination: ReturnType<typeof pino.destination>
  private sinks: SyslogClient[] = []
  private gateway = ''
  private policy = ''
  private sequence = 0
  /** Tells the events of this start of the gateway from those of another. */
  private readonly start = `${Date.now().toString(36)}-${randomBytes(4).toString('hex')}`
  /** Events by sink and result. */
  readonly results = new Map<string, Record<SinkResult, number>>()

  constructor(options: RecorderOptions) {
    this.destination = pino.destination({ fd: options.fd ?? 1, sync: false, maxLength: LOG_BACKLOG })
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
    this.results.set('log', { sent: 0, lost: 0 })
  }

  /** Takes over what a policy says of the records. Sinks that stay the same keep their connections. */
  configure(gateway: string, policySha256: string, sinks: readonly SyslogSink[]): void {
    this.gateway = gateway
    this.policy = policySha256
    const wanted = new Map(sinks.map((sink) => [`${sink.url} ${sink.facility}`, sink]))
    const kept = new Map(this.sinks.map((client) => [client.key, client]))
    for (const [key, client] of kept) if (!wanted.has(key)) void client.close()
    const report: SinkReport = {
      counted: (sink, result, count) => this.count(sink, result, count),
      down: (sink, detail) => this.record({ event: 'sink.down', sink, detail }),
      up: (sink, lost) => {
        this.record({ event: 'sink.up', sink })
        if (lost > 0) this.record({ event: 'events.lost', sink, count: lost })
      },
    }
    this.sinks = [...wanted].map(([key, sink]) => {
      if (!this.results.has(sink.url)) this.results.set(sink.url, { sent: 0, lost: 0 })
      return kept.get(key) ?? new SyslogClient(sink, report, key)
    })
  }

  record(input: EventInput): void {
    const { event, severity, time, ...fields } = input
    const record = {
      time: new Date(time ?? Date.now()).toISOString(),
      event,
      severity: severity ?? EVENTS[event][0],
      id: `${this.start}-${(this.sequence++).toString(36).padStart(7, '0')}`,
      gateway: this.gateway,
      policy: this.policy,
    } as unknown as EventRecord
    for (const [key, value] of Object.entries(fields)) {
      if (value !== undefined && value !== null && value !== '') record[key] = value
    }
    this.log[PINO_LEVEL[record.severity]](record)
    this.count('log', 'sent', 1)
    for (const sink of this.sinks) sink.write(record)
  }

  private count(sink: string, result: SinkResult, count: number): void {
    const results = this.results.get(sink)
    if (results !== undefined) results[result] += count
  }

  /** Lets the sinks send what they hold, for a bounded time, and flushes the log. */
  async close(): Promise<void> {
    await Promise.all(this.sinks.map((sink) => sink.close()))
    this.sinks = []
    try {
      this.destination.flushSync()
    } catch {
      // Stdout is gone; there is nobody left to tell.
    }
  }
}
