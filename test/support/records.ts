/** For the tests of the records: events as a gateway makes them, sinks of a policy, and receivers of syslog. */
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Evidence, RECORD_DEFAULTS, type SyslogSink } from '../../src/policy/model.ts'
import type { EventInput, EventRecord } from '../../src/records/catalogue.ts'
import { EvidenceWriter } from '../../src/records/evidence/writer.ts'
import { Sink, type SinkResult, type SinkTiming } from '../../src/records/sinks/sink.ts'

/** A directory that is gone when the test has ended. */
export function scratch(t: { teardown(run: () => void): unknown }): string {
  const directory = mkdtempSync(join(tmpdir(), 'headgate-records-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** A denied write, number `n`. */
export const denied = (n: number, more: Partial<EventRecord> = {}): EventRecord =>
  ({
    time: new Date(1_771_840_800_000 + n).toISOString(),
    event: 'request.denied',
    severity: 'warning',
    id: `test-${String(n).padStart(7, '0')}`,
    gateway: 'gw-unit3',
    policy: 'a'.repeat(64),
    conduit: 'C1',
    protocol: 'modbus',
    mode: 'enforce',
    rule: 'historian reads',
    reason: 'function',
    client: '10.30.1.5',
    client_port: 40_000,
    target: '10.20.1.10',
    target_port: 502,
    transaction_id: n & 0xffff,
    unit_id: 1,
    function: 'write-single-register',
    function_code: 6,
    ...more,
  }) as EventRecord

export const sinkTerms = (url: string, more: Partial<SyslogSink> = {}): SyslogSink => {
  const { protocol, hostname, port } = new URL(url)
  const transport = protocol.slice(0, -1) as SyslogSink['transport']
  return {
    url,
    transport,
    host: hostname.replace(/^\[|\]$/g, ''),
    port: Number(port),
    format: 'rfc5424',
    framing: 'octet-counting',
    facility: 16,
    enterpriseNumber: 32473,
    minSeverity: 'debug',
    events: null,
    tls: transport === 'tls' ? { ca: null, cert: null, key: null, serverName: null } : null,
    ...more,
  }
}

/** A sink with what it has told and counted. */
export class TestSink {
  readonly told: EventInput[] = []
  readonly counts: Record<SinkResult, number> = { sent: 0, spooled: 0, lost: 0 }
  readonly sink: Sink

  constructor(terms: SyslogSink, spool: { directory: string; maxBytes: number } | null, timing?: Partial<SinkTiming>) {
    const report = {
      tell: (event: EventInput) => void this.told.push(event),
      count: (_: string, result: SinkResult, count: number) => {
        this.counts[result] += count
      },
    }
    const fast: SinkTiming = { connectMs: 2000, stallMs: 30_000, backoffMs: [20, 100], ...timing }
    this.sink = new Sink(terms, spool, report, fast)
  }

  write(event: EventRecord): void {
    this.sink.write(event, JSON.stringify(event))
  }

  names(): string[] {
    return this.told.map((event) => event.event)
  }
}

/** A receiver of syslog over TCP with octet counting; it can be told to stop reading. */
export class Receiver {
  readonly messages: string[] = []
  /** Ids of the events that came, in order, repeats included; and each at its first coming. */
  readonly ids: string[] = []
  readonly seen = new Set<string>()
  readonly sockets = new Set<net.Socket>()
  private readonly server: net.Server
  private reading: boolean
  port = 0

  private constructor(reading: boolean) {
    this.reading = reading
    this.server = net.createServer((socket) => this.take(socket))
  }

  static async listen(port = 0, reading = true): Promise<Receiver> {
    const receiver = new Receiver(reading)
    await new Promise<void>((resolve, reject) => {
      receiver.server.once('error', reject)
      receiver.server.listen(port, '127.0.0.1', resolve)
    })
    receiver.port = (receiver.server.address() as net.AddressInfo).port
    return receiver
  }

  private take(socket: net.Socket): void {
    this.sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => this.sockets.delete(socket))
    let held = Buffer.alloc(0)
    if (!this.reading) {
      socket.pause()
      return
    }
    socket.on('data', (data) => {
      held = held.length === 0 ? data : Buffer.concat([held, data])
      let at = 0
      for (;;) {
        const space = held.indexOf(0x20, at)
        if (space < 0) break
        const length = Number(held.toString('latin1', at, space))
        if (held.length < space + 1 + length) break
        this.message(held.toString('utf8', space + 1, space + 1 + length))
        at = space + 1 + length
      }
      held = held.subarray(at)
    })
  }

  private message(message: string): void {
    const id = / id="([^"]*)"/.exec(message)?.[1] ?? ''
    this.messages.push(message)
    this.ids.push(id)
    this.seen.add(id)
  }

  reset(): void {
    for (const socket of this.sockets) socket.resetAndDestroy()
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy()
    await new Promise((resolve) => this.server.close(resolve))
  }
}

export const evidenceTerms = (directory: string, more: Partial<Evidence> = {}): Evidence => ({
  directory,
  required: false,
  key: join(directory, 'evidence.key'),
  checkpointRecords: RECORD_DEFAULTS.checkpointRecords,
  checkpointMs: RECORD_DEFAULTS.checkpointMs,
  rotateBytes: RECORD_DEFAULTS.rotateBytes,
  rotateDaily: true,
  ...more,
})

/** An evidence writer with what it has told. */
export class TestEvidence {
  readonly told: EventInput[] = []
  readonly states: boolean[] = []
  readonly writer: EvidenceWriter

  constructor(terms: Evidence) {
    let number = 0
    const writer: EvidenceWriter = new EvidenceWriter(terms, {
      tell: (event, chained) => {
        this.told.push(event)
        const record = {
          time: new Date().toISOString(),
          severity: 'info',
          id: `own-${number++}`,
          ...event,
        } as EventRecord
        if (chained) writer.append(JSON.stringify(record), record.time)
        return record
      },
      writable: (yes) => void this.states.push(yes),
    })
    this.writer = writer
  }

  append(event: EventRecord): void {
    this.writer.append(JSON.stringify(event), event.time)
  }

  names(): string[] {
    return this.told.map((event) => event.event)
  }
}
