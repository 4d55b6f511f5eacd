/** The portable transport: the relay on Node's `net`, where the kernel's own interface is not to be had or not wanted. */
import net from 'node:net'
import { parseAddress } from '../../policy/address.ts'
import { HEAD_ROOM } from '../../protocols/session.ts'
import type { DataPlane } from '../data-plane.ts'
import type { ListenerPlan } from '../plan.ts'
import { TimerWheel } from '../timer-wheel.ts'
import type { Transport } from '../transport.ts'
import { NetConnection } from './net-connection.ts'

const READ_BYTES = 65536
const PACE_MS = 2
/** Connections of one worker; the kernel's own limit on descriptors is usually lower. */
const MAX_CONNECTIONS = 32_768

export class NetTransport implements Transport {
  readonly plane: DataPlane
  /** Targets' bytes land here, with room before them for the session's part of a frame. */
  readonly readBuffer = new Uint8Array(new ArrayBuffer(HEAD_ROOM + READ_BYTES))
  readonly readArea = this.readBuffer.subarray(HEAD_ROOM)
  private readonly servers = new Map<string, net.Server>()
  private readonly shared: boolean
  private readonly ticker: NodeJS.Timeout
  private pacer: NodeJS.Timeout | null = null

  /** @param shared whether other workers listen on the same addresses (SO_REUSEPORT) */
  constructor(plane: DataPlane, shared: boolean) {
    this.plane = plane
    this.shared = shared
    this.ticker = setInterval(() => {
      plane.clock.read()
      plane.tick()
    }, TimerWheel.interval)
  }

  listen(listener: ListenerPlan, done: (code: string | null) => void): void {
    const { key } = listener
    const server = net.createServer({
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: 30_000,
    })
    server.maxConnections = MAX_CONNECTIONS
    server.on('drop', () => this.plane.tell('descriptors.exhausted', 'too many connections'))
    server.on('connection', (socket) => this.accept(key, socket))
    const failed = (error: NodeJS.ErrnoException): void => done(error.code ?? error.message)
    server.once('error', failed)
    server.listen({ host: listener.host, port: listener.port, backlog: 4096, reusePort: this.shared }, () => {
      server.off('error', failed)
      server.on('error', (error: NodeJS.ErrnoException) => {
        this.plane.tell('descriptors.exhausted', `accept: ${error.code ?? error.message}`)
      })
      this.servers.set(key, server)
      done(null)
    })
  }

  unlisten(key: string): void {
    this.servers.get(key)?.close()
    this.servers.delete(key)
  }

  private accept(key: string, socket: net.Socket): void {
    const { plane } = this
    const listener = plane.listener(key)
    const text = socket.remoteAddress
    plane.clock.read()
    // A client that has gone again already has no address any more.
    const address = text === undefined ? null : parseAddress(text)
    if (listener === undefined || text === undefined || address === null) {
      socket.destroy()
      return
    }
    socket.on('error', () => {})
    const peer = { address, text: text.replace(/^::ffff:(?=\d+\.)/, ''), port: socket.remotePort ?? 0 }
    const slots = plane.admit(listener, peer)
    if (slots === null) {
      socket.resetAndDestroy()
      return
    }
    new NetConnection(this, listener, peer, slots, socket)
  }

  /** Begins to look after connections whose requests wait to be paced. */
  startPacing(): void {
    if (this.pacer !== null) return
    this.pacer = setInterval(() => {
      this.plane.clock.read()
      this.plane.pace()
      if (this.plane.waiting.size > 0 || this.pacer === null) return
      clearInterval(this.pacer)
      this.pacer = null
    }, PACE_MS)
  }

  run(): void {}

  stop(): void {
    for (const key of [...this.servers.keys()]) this.unlisten(key)
    clearInterval(this.ticker)
    if (this.pacer !== null) clearInterval(this.pacer)
  }
}
