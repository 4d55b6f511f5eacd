/**
 * A syslog sink: takes events, and sees that they arrive, in order and at least once, without ever making anyone wait.
 *
 * While the receiver keeps up, events pass through a bounded queue in memory. When it is away or slow, they go to the
 * spool, and come from there until it is empty. What was sent may still be lost with the connection, so it is held until
 * that can no longer be; a connection that fails gives it back to the front of the spool. What neither memory nor spool
 * can hold is counted, and told when the sink is back.
 */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { SEVERITIES, type Spool as SpoolTerms, type SyslogSink } from '../../policy/model.ts'
import type { EventInput, EventRecord } from '../catalogue.ts'
import { MAX_DATAGRAM, MAX_STREAM, message } from '../formats/message.ts'
import { Losses, type Lost } from '../losses.ts'
import { LINK_TIMING, type Link, type LinkTiming, openLink } from './link.ts'
import { type Position, Spool } from './spool.ts'

/** Events that wait in memory for a receiver that is connected; all that wait where there is no spool. */
export const MEMORY_EVENTS = 10_000
const MEMORY_BYTES = 16 << 20
/** Messages in one turn of the event loop. */
const TURN = 200
/** An orderly end that comes so long after a message says that it was read. */
const READ_MS = 5000
const CLOSE_MS = 1500

export interface SinkTiming extends LinkTiming {
  /** First and longest pause between two tries. */
  backoffMs: readonly [number, number]
}

const TIMING: SinkTiming = { ...LINK_TIMING, backoffMs: [500, 30_000] }

export type SinkResult = 'sent' | 'spooled' | 'lost'

export interface SinkReport {
  tell(event: EventInput): void
  count(sink: string, result: SinkResult, count: number): void
}

interface Entry {
  body: string
  time: string
  /** Where the spool is when this has arrived; null: it did not come from there. */
  at: Position | null
  sentMs: number
}

export class Sink {
  /** As the policy names it. */
  readonly name: string
  /** Tells it from sinks with other settings. */
  readonly key: string
  private readonly terms: SyslogSink
  private readonly report: SinkReport
  private readonly timing: SinkTiming
  private readonly events: ReadonlySet<string> | null
  private readonly families: readonly string[]
  private readonly least: number
  private readonly spool: Spool | null
  private readonly losses = new Losses()
  private queue: Entry[] = []
  private queueAt = 0
  private queueBytes = 0
  private sent: Entry[] = []
  private sentAt = 0
  private sentBytes = 0
  private link: Link | null = null
  private open = false
  private openedMs = 0
  private failures = 0
  private down = false
  private retry: NodeJS.Timeout | null = null
  private turn = false
  private closed = false
  private readonly timer: NodeJS.Timeout

  constructor(terms: SyslogSink, spool: SpoolTerms | null, report: SinkReport, timing: SinkTiming = TIMING) {
    this.terms = terms
    this.name = terms.url
    this.key = sinkKey(terms, spool)
    this.report = report
    this.timing = timing
    const names = terms.events ?? []
    this.families = names.filter((name) => name.endsWith('.*')).map((name) => name.slice(0, -1))
    this.events = terms.events === null ? null : new Set(names)
    this.least = SEVERITIES.indexOf(terms.minSeverity)
    this.spool =
      spool === null
        ? null
        : new Spool(join(spool.directory, directoryOf(terms.url)), spool.maxBytes, {
            failed: (detail) => this.report.tell({ event: 'spool.failed', sink: this.name, detail }),
            resumed: () => this.report.tell({ event: 'spool.resumed', sink: this.name }),
          })
    this.timer = setInterval(() => this.settle(), 1000)
    this.timer.unref()
    this.connect(false)
  }

  /** Events that have not been sent yet, in bytes: on the disk, and in memory. */
  get backlog(): { spool: number; memory: number } {
    return { spool: this.spool?.bytes ?? 0, memory: this.queueBytes + this.sentBytes }
  }

  get up(): boolean {
    return this.open && !this.down
  }

  private wants(event: EventRecord): boolean {
    if (SEVERITIES.indexOf(event.severity) > this.least) return false
    if (this.events === null || this.events.has(event.event)) return true
    return this.families.some((family) => event.event.startsWith(family))
  }

  /**
   * Takes an event; never waits and never throws.
   * @param body the event as JSON text
   */
  write(event: EventRecord, body: string): void {
    if (this.closed || !this.wants(event)) return
    const { spool } = this
    const memory = this.queue.length - this.queueAt < MEMORY_EVENTS && this.queueBytes + body.length <= MEMORY_BYTES
    if (spool !== null && (!this.open || !memory || !spool.drained)) {
      if (spool.append(body, event.time)) this.report.count(this.name, 'spooled', 1)
      else this.report.count(this.name, 'lost', 1)
    } else if (memory) {
      this.queue.push({ body, time: event.time, at: null, sentMs: 0 })
      this.queueBytes += body.length
    } else {
      this.losses.add(event.time)
      this.report.count(this.name, 'lost', 1)
    }
    this.schedule()
  }

  private schedule(): void {
    if (this.turn || this.link === null || !this.link.ready) return
    this.turn = true
    setImmediate(() => {
      this.turn = false
      this.pump()
    })
  }

  private take(): Entry | null {
    const entry = this.queue[this.queueAt]
    if (entry !== undefined) {
      this.queueBytes -= entry.body.length
      if (++this.queueAt === this.queue.length) {
        this.queue = []
        this.queueAt = 0
      }
      return entry
    }
    const spooled = this.spool?.next() ?? null
    return spooled === null ? null : { body: spooled.body, time: '', at: spooled.end, sentMs: 0 }
  }

  private pump(): void {
    const { link } = this
    const most = this.terms.transport === 'udp' ? MAX_DATAGRAM : MAX_STREAM
    let count = 0
    while (link !== null && link === this.link && link.ready && count < TURN) {
      const entry = this.take()
      if (entry === null) break
      const event = parse(entry.body)
      if (event === null) continue
      entry.sentMs = Date.now()
      this.sent.push(entry)
      this.sentBytes += entry.body.length
      link.send(message(event, this.terms, most))
      count++
    }
    if (count === 0) return
    this.report.count(this.name, 'sent', count)
    this.settle()
    this.schedule()
  }

  /** Forgets what can no longer be lost. */
  private settle(): void {
    const doubt = this.link?.doubt
    if (doubt === undefined) return
    const before = Date.now() - ('ms' in doubt ? doubt.ms : 0)
    while (this.sentAt < this.sent.length) {
      const entry = this.sent[this.sentAt]
      if ('ms' in doubt ? entry.sentMs > before : this.sentBytes - entry.body.length < doubt.bytes) break
      this.arrived()
    }
    this.compact()
  }

  private arrived(): void {
    const entry = this.sent[this.sentAt++]
    this.sentBytes -= entry.body.length
    if (entry.at !== null) this.spool?.confirm(entry.at)
  }

  private compact(): void {
    if (this.sentAt < 1024 && this.sentAt < this.sent.length) return
    this.sent.splice(0, this.sentAt)
    this.sentAt = 0
  }

  // ------------------------------------------------------------------------------------------------- the connection

  private connect(probe: boolean): void {
    this.retry = null
    if (this.closed) return
    const link = openLink(
      this.terms,
      {
        opened: () => this.opened(),
        drained: () => this.schedule(),
        closed: (why, orderly) => this.lose(why, orderly),
      },
      this.timing,
      probe,
    )
    this.link = link
  }

  private opened(): void {
    this.open = true
    this.openedMs = Date.now()
    if (this.down) {
      this.down = false
      this.report.tell({ event: 'sink.up', sink: this.name })
    }
    for (const losses of [this.losses, this.spool?.losses]) {
      const lost: Lost | null = losses?.take() ?? null
      if (lost !== null) this.report.tell({ event: 'events.lost', sink: this.name, ...lost })
    }
    this.schedule()
  }

  private lose(why: string, orderly: boolean): void {
    this.settle()
    this.link = null
    if (this.open && Date.now() - this.openedMs > this.timing.backoffMs[1]) this.failures = 0
    this.open = false
    if (orderly) {
      const before = Date.now() - READ_MS
      while (this.sentAt < this.sent.length && this.sent[this.sentAt].sentMs < before) this.arrived()
    }
    this.giveBack()
    if (this.closed) return
    if (!this.down) {
      this.down = true
      this.report.tell({ event: 'sink.down', sink: this.name, detail: why })
    }
    const [first, most] = this.timing.backoffMs
    const wait = Math.min(most, first * 2 ** Math.min(this.failures++, 16))
    // Jitter keeps many gateways from coming back in step.
    this.retry = setTimeout(() => this.connect(true), wait / 2 + (Math.random() * wait) / 2)
    this.retry.unref()
  }

  /** What was sent and may be lost, and what waits in memory, goes back to the front. */
  private giveBack(): void {
    const entries = [...this.sent.slice(this.sentAt), ...this.queue.slice(this.queueAt)]
    this.sent = []
    this.sentAt = 0
    this.sentBytes = 0
    this.queue = []
    this.queueAt = 0
    this.queueBytes = 0
    if (this.spool !== null) {
      this.spool.prepend(entries.map((entry) => entry.body))
      return
    }
    for (const entry of entries) this.queueBytes += entry.body.length
    this.queue = entries
  }

  /** Sends what it can within a second and a half; the rest goes to the spool, or is lost. */
  async close(): Promise<void> {
    const until = Date.now() + CLOSE_MS
    // One that is just being connected is worth waiting for as well; one that is away is not.
    while ((this.open || (this.link !== null && !this.down)) && this.pending && Date.now() < until) {
      this.pump()
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    this.closed = true
    clearInterval(this.timer)
    if (this.retry !== null) clearTimeout(this.retry)
    const { link } = this
    const orderly = link !== null && this.open && (await link.end(Math.max(200, until - Date.now())))
    if (orderly) while (this.sentAt < this.sent.length) this.arrived()
    link?.destroy()
    this.giveBack()
    const left = this.queue.length
    if (left > 0) this.report.count(this.name, 'lost', left)
    this.spool?.close()
  }

  private get pending(): boolean {
    return this.queueAt < this.queue.length || (this.spool !== null && !this.spool.drained)
  }
}

function parse(body: string): EventRecord | null {
  try {
    const event = JSON.parse(body) as EventRecord
    return typeof event.event === 'string' && typeof event.time === 'string' ? event : null
  } catch {
    return null
  }
}

/** Two sinks with the same key are the same. */
export const sinkKey = (terms: SyslogSink, spool: SpoolTerms | null): string => JSON.stringify([terms, spool])

/** A name for the sink's own directory in the spool. */
const directoryOf = (url: string): string =>
  `${url.replace(/[^A-Za-z0-9.-]+/g, '-').slice(0, 64)}-${createHash('sha256').update(url).digest('hex').slice(0, 8)}`
