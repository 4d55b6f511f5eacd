/**
 * Syslog over TCP (RFC 6587) and TLS (RFC 5425, with the cipher suites of RFC 9662). Syslog has no acknowledgement, so
 * what the kernels of both sides may hold is in doubt until as much has been sent behind it.
 */
import { readFileSync } from 'node:fs'
import net from 'node:net'
import tls from 'node:tls'
import type { SyslogSink } from '../../policy/model.ts'
import { frame } from '../formats/message.ts'
import type { Link, LinkEvents, LinkTiming } from './link.ts'

/** What may wait in the process for the kernel to take it. */
const HIGH_WATER = 256 << 10
/** More than the buffers of both kernels together hold (Linux: up to 4 MiB to send, 6 MiB received). */
const DOUBT_BYTES = 12 << 20

/**
 * RFC 9662 §4: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 must be there, TLS 1.3 is preferred; those with forward secrecy and
 * authenticated encryption only. RSA key exchange and CBC, which RFC 5425 asked for, are not offered.
 */
const CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
].join(':')

export class StreamLink implements Link {
  readonly doubt = { bytes: DOUBT_BYTES }
  private readonly socket: net.Socket
  private readonly framing: SyslogSink['framing']
  private readonly watch: NodeJS.Timeout
  private connected = false
  private closing: ((orderly: boolean) => void) | null = null
  private progress = 0
  private progressed = Date.now()

  constructor(sink: SyslogSink, events: LinkEvents, timing: LinkTiming) {
    this.framing = sink.framing
    this.socket = open(sink)
    this.socket.unref()
    let why = ''
    let ended = false
    const { socket } = this
    socket.once(sink.transport === 'tls' ? 'secureConnect' : 'connect', () => {
      this.connected = true
      this.progressed = Date.now()
      events.opened()
    })
    // Whatever a receiver says back is of no use here, yet it must be read for its end to be seen.
    socket.resume()
    socket.on('drain', () => events.drained())
    socket.on('end', () => {
      ended = true
    })
    socket.on('error', (error: NodeJS.ErrnoException & { reason?: string }) => {
      // OpenSSL wraps its reason in addresses and lines of its source. A refused address of a name with several is told
      // as an AggregateError without words.
      why ||= error.reason !== undefined ? `TLS: ${error.reason}` : error.message || error.code || 'failed'
    })
    socket.on('close', () => {
      clearInterval(this.watch)
      this.connected = false
      const orderly = ended && why === ''
      if (this.closing !== null) this.closing(orderly)
      else events.closed(why || (ended ? 'the receiver has closed the connection' : 'connection closed'), orderly)
    })
    const begun = Date.now()
    this.watch = setInterval(
      () => {
        const now = Date.now()
        if (!this.connected) {
          if (now - begun >= timing.connectMs) socket.destroy(new Error(`no connection within ${timing.connectMs} ms`))
          return
        }
        const done = socket.bytesWritten - socket.writableLength
        if (socket.writableLength === 0 || done !== this.progress) {
          this.progress = done
          this.progressed = now
        } else if (now - this.progressed >= timing.stallMs) {
          why = `the receiver has taken nothing for ${timing.stallMs} ms`
          socket.resetAndDestroy()
          socket.destroy()
        }
      },
      Math.min(1000, timing.stallMs / 4),
    )
    this.watch.unref()
  }

  get ready(): boolean {
    return this.connected && this.socket.writableLength < HIGH_WATER
  }

  send(message: Buffer): void {
    this.socket.write(frame(message, this.framing))
  }

  end(ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.socket.destroy(), ms)
      this.closing = (orderly) => {
        clearTimeout(timer)
        resolve(orderly)
      }
      if (this.socket.closed || !this.connected) {
        this.socket.destroy()
        this.closing(false)
      } else this.socket.end()
    })
  }

  destroy(): void {
    this.closing = () => {}
    clearInterval(this.watch)
    this.socket.destroy()
  }
}

function open({ host, port, transport, tls: terms }: SyslogSink): net.Socket {
  const keepAlive = { keepAlive: true, keepAliveInitialDelay: 30_000, noDelay: true }
  if (transport === 'tcp') return net.connect({ host, port, ...keepAlive })
  const name = terms?.serverName ?? host
  try {
    return tls.connect({
      host,
      port,
      // Read each time, so that renewed certificates count from the next connection on.
      ca: terms?.ca ? readFileSync(terms.ca) : undefined,
      cert: terms?.cert ? readFileSync(terms.cert) : undefined,
      key: terms?.key ? readFileSync(terms.key) : undefined,
      // RFC 6066 §3: a server name is no address; the check below is by the name that was asked for, either way.
      servername: net.isIP(name) === 0 ? name : '',
      checkServerIdentity: (_, certificate) => tls.checkServerIdentity(name, certificate),
      minVersion: 'TLSv1.2',
      ciphers: CIPHERS,
      rejectUnauthorized: true,
    })
  } catch (error) {
    const socket = new net.Socket()
    process.nextTick(() => socket.destroy(error as Error))
    return socket
  }
}
