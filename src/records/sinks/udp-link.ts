/**
 * Syslog over UDP (RFC 5426): one message a datagram. That nobody listens is only known where an ICMP message comes
 * back, so a link that follows a failure sends a single message first and waits.
 */
import dgram from 'node:dgram'
import net from 'node:net'
import type { SyslogSink } from '../../policy/model.ts'
import type { Link, LinkEvents } from './link.ts'

/** An ICMP message comes back within the round trip to the receiver. */
const DOUBT_MS = 1000
const PROBE_MS = 500
/** Datagrams in a slice of time: a backlog that is sent at once would be dropped by the receiver's socket. */
const SLICE = 50
const SLICE_MS = 10

export class UdpLink implements Link {
  readonly doubt = { ms: DOUBT_MS }
  private readonly socket: dgram.Socket
  private readonly events: LinkEvents
  private connected = false
  private probing: boolean
  private ended = false
  private sent = 0
  private timer: NodeJS.Timeout | null = null

  /** @param probe whether to send one message alone first */
  constructor({ host, port }: SyslogSink, events: LinkEvents, probe: boolean) {
    this.events = events
    this.probing = probe
    this.socket = dgram.createSocket(net.isIPv6(host) ? 'udp6' : 'udp4')
    this.socket.unref()
    this.socket.on('error', (error) => this.fail(error))
    this.socket.connect(port, host, () => {
      this.connected = true
      if (this.probing) events.drained()
      else events.opened()
    })
  }

  get ready(): boolean {
    return this.connected && !this.ended && this.sent < (this.probing ? 1 : SLICE)
  }

  send(message: Buffer): void {
    this.sent++
    this.socket.send(message, (error) => {
      if (error !== null) this.fail(error)
    })
    this.timer ??= setTimeout(
      () => {
        this.timer = null
        if (this.ended) return
        this.sent = 0
        if (this.probing) {
          this.probing = false
          this.events.opened()
        } else this.events.drained()
      },
      this.probing ? PROBE_MS : SLICE_MS,
    )
    this.timer.unref()
  }

  private fail(error: Error): void {
    if (this.ended) return
    this.destroy()
    this.events.closed(error.message, false)
  }

  end(): Promise<boolean> {
    // What was sent just now leaves with the next turn of the event loop.
    return new Promise((resolve) => {
      setImmediate(() => {
        const failed = this.ended
        this.destroy()
        resolve(!failed)
      })
    })
  }

  destroy(): void {
    if (this.ended) return
    this.ended = true
    if (this.timer !== null) clearTimeout(this.timer)
    this.socket.close()
  }
}
