/**
 * A syslog sink: RFC 5424 messages with structured data, over UDP (RFC 5426) or TCP with octet counting (RFC 6587
 * §3.4.1). Never blocks: what cannot be sent waits in a bounded queue, and what does not fit there is counted as lost.
 */
import dgram from 'node:dgram'
import net from 'node:net'
import { hostname } from 'node:os'
import type { SyslogSink } from '../policy/model.ts'
import { type EventRecord, SEVERITIES } from './catalogue.ts'

/** Private enterprise number reserved for documentation and examples (RFC 5612): Headgate has none of its own. */
const SD_ID = 'headgate@32473'
/** RFC 5426 §3.2: receivers take 2048 octets; larger datagrams may not arrive. */
const MAX_DATAGRAM = 2048
const QUEUE_EVENTS = 10_000
const BACKOFF_MS = [500, 30_000] as const

/** What became of events. */
export type SinkResult = 'sent' | 'lost'

export interface SinkReport {
  counted(sink: string, result: SinkResult, count: number): void
  down(sink: string, detail: string): void
  up(sink: string, lost: number): void
}

/** Printable US-ASCII without spaces, as the header fields want it (RFC 5424 §6). */
const token = (text: string, most: number): string => text.replace(/[^\x21-\x7e]/g, '_').slice(0, most) || '-'

/** RFC 5424 §6.3.3: quote, backslash and bracket are escaped. Control characters never pass: a value is one line. */
export function paramValue(value: string | number): string {
  return String(value)
    .toWellFormed()
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, ' ')
    .replace(/["\\\]]/g, '\\$&')
}

const HOST = token(hostname(), 255)

/** One event as an RFC 5424 message (§6), without framing. */
export function rfc5424(event: EventRecord, facility: number): string {
  const severity = SEVERITIES.indexOf(event.severity)
  const { time, event: name, severity: _, detail: detailField, gateway, ...fields } = event
  const data = Object.entries(fields)
    .map(([key, value]) => ` ${token(key, 32)}="${paramValue(value)}"`)
    .join('')
  const detail = detailField === undefined ? '' : ` detail="${paramValue(detailField)}"`
  const host = gateway === undefined ? HOST : token(String(gateway), 255)
  return `<${facility * 8 + severity}>1 ${time} ${host} headgate ${process.pid} ${token(name, 32)} [${SD_ID}${data}${detail}] ${summary(event)}`
}

/** The message part: what a person reads first. */
export function summary(event: EventRecord): string {
  const who =
    event.client === undefined
      ? ''
      : ` ${event.client_asset ?? event.client} -> ${event.target_asset ?? event.target ?? '?'}`
  const what = event.function === undefined ? '' : ` ${event.function}`
  const why = event.reason === undefined ? '' : ` (${event.reason})`
  const more = event.detail === undefined || event.detail === '' ? '' : `: ${event.detail}`
  return `${event.event}${who}${what}${why}${more}`
    .toWellFormed()
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, ' ')
}

/** Cut to at most `most` bytes, between two characters. */
function clip(message: string, most: number): Buffer {
  const bytes = Buffer.from(message)
  if (bytes.length <= most) return bytes
  let end = most
  while (end > 0 && (bytes[end] & 0xc0) === 0x80) end--
  return bytes.subarray(0, end)
}

/** One sink of the policy's `gateway.syslog`. */
export class SyslogClient {
  readonly name: string
  /** Tells it from sinks with other settings. */
  readonly key: string
  private readonly sink: SyslogSink
  private readonly report: SinkReport
  private readonly queue: Buffer[] = []
  private udp: dgram.Socket | null = null
  private tcp: net.Socket | null = null
  private connected = false
  private failures = 0
  private lost = 0
  private isDown = false
  private retry: NodeJS.Timeout | null = null
  private closed = false

  constructor(sink: SyslogSink, report: SinkReport, key: string) {
    this.sink = sink
    this.key = key
    this.name = sink.url
    this.report = report
    if (sink.transport === 'tcp') this.connect()
    else this.openUdp()
  }

  /** Queues one event; never blocks and never throws. */
  write(event: EventRecord): void {
    if (this.closed) return
    const message = rfc5424(event, this.sink.facility)
    if (this.udp !== null) {
      this.sendDatagram(clip(message, MAX_DATAGRAM))
      return
    }
    if (this.queue.length >= QUEUE_EVENTS) {
      this.lost++
      this.report.counted(this.name, 'lost', 1)
      return
    }
    const bytes = Buffer.from(message)
    this.queue.push(Buffer.concat([Buffer.from(`${bytes.length} `), bytes]))
    this.drain()
  }

  private openUdp(): void {
    const socket = dgram.createSocket(net.isIPv6(this.sink.host) ? 'udp6' : 'udp4')
    socket.on('error', (error) => this.fail(error.message))
    socket.unref()
    this.udp = socket
  }

  private sendDatagram(bytes: Buffer): void {
    this.udp?.send(bytes, this.sink.port, this.sink.host, (error) => {
      this.report.counted(this.name, error === null ? 'sent' : 'lost', 1)
      if (error === null) this.recover()
      else this.fail(error.message)
    })
  }

  private connect(): void {
    this.retry = null
    if (this.closed) return
    const socket = net.connect({ host: this.sink.host, port: this.sink.port, noDelay: true, keepAlive: true })
    this.tcp = socket
    socket.unref()
    socket.setTimeout(10_000, () => {
      if (!this.connected) socket.destroy(new Error('no connection within 10 s'))
    })
    let why = 'connection closed'
    socket.on('connect', () => {
      this.connected = true
      this.failures = 0
      this.recover()
      this.drain()
    })
    // Whatever a receiver says back is of no use here, yet it must be read for its FIN to be seen.
    socket.resume()
    socket.on('drain', () => this.drain())
    socket.on('error', (error) => {
      why = error.message
    })
    socket.on('close', () => {
      this.connected = false
      this.tcp = null
      if (this.closed) return
      this.fail(why)
      // Full jitter keeps many gateways from coming back in step.
      const most = Math.min(BACKOFF_MS[1], BACKOFF_MS[0] * 2 ** this.failures++)
      this.retry = setTimeout(() => this.connect(), BACKOFF_MS[0] + Math.random() * most)
      this.retry.unref()
    })
  }

  private drain(): void {
    const socket = this.tcp
    if (socket === null || !this.connected) return
    let taken = 0
    while (taken < this.queue.length && socket.writableLength < 1 << 20) socket.write(this.queue[taken++])
    if (taken === 0) return
    this.queue.splice(0, taken)
    this.report.counted(this.name, 'sent', taken)
  }

  private fail(detail: string): void {
    if (this.isDown) return
    this.isDown = true
    this.report.down(this.name, detail)
  }

  private recover(): void {
    if (!this.isDown) return
    this.isDown = false
    const lost = this.lost
    this.lost = 0
    this.report.up(this.name, lost)
  }

  /** Sends what is queued, for a second at most. */
  async close(): Promise<void> {
    const until = Date.now() + 1000
    while (this.connected && (this.queue.length > 0 || (this.tcp?.writableLength ?? 0) > 0) && Date.now() < until) {
      this.drain()
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    this.closed = true
    if (this.retry !== null) clearTimeout(this.retry)
    this.tcp?.end()
    this.tcp?.destroySoon()
    const udp = this.udp
    this.udp = null
    if (udp !== null) await new Promise<void>((resolve) => setImmediate(() => udp.close(() => resolve())))
  }
}
