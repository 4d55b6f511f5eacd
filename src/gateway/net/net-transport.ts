/** The portable transport: the relay on Node's `net`, where the kernel's own interface is not to be had or not wanted. */
import net from 'node:net'
import { parseAddress } from '../../policy/address.ts'
import { HEAD_ROOM } from '../../protocols/session.ts'
import type { DataPlane } from '../data-plane.ts'
import type { ListenerPlan } from '../plan.ts'
import { TimerWheel } from '../timer-wheel.ts'
import type { Transport } from '../transport.ts'
import { descriptorsLeft } from './descriptors-left.ts'
import { NetConnection } from './net-connection.ts'

const READ_BYTES = 65536
const PACE_MS = 2
/** Connections of one worker; the kernel's own limit on descriptors is usually lower. */
const MAX_CONNECTIONS = 32_768
/**
 * A connection is shed while fewer descriptors than this are left, for itself to its target, for what other threads open
 * at the same moment, and for those being shed: with none left, Node.js would close it without a word to anybody.
 */
const SPARE = 8

export class NetTransport implements Transport {
  readonly plane: DataPlane
  /** Targets' bytes land here, with room before them for the session's part of a frame. */
  readonly readBuffer = new Uint8Array(new ArrayBuffer(HEAD_ROOM + READ_BYTES))
  readonly readArea = this.readBuffer.subarray(HEAD_ROOM)
  private readonly servers = new Map<string, net.Server>()
  /** Listeners that are closed until there are descriptors again. */
  private readonly resting = new Map<string, ListenerPlan>()
  private readonly shared: boolean
  private readonly ticker: NodeJS.Timeout
  private pacer: NodeJS.Timeout | null = null

  /** @param shared whether other workers listen on the same addresses (SO_REUSEPORT) */
  constructor(plane: DataPlane, shared: boolean) {
    this.plane = plane
    this.shared = shared
    this.ticker = setInterval(() => {
      plane.clock.read()
      this.watchDescriptors()
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
    server.on('drop', () => this.exhausted('too many connections'))
    server.on('connection', (socket) => this.accept(key, socket))
    const failed = (error: NodeJS.ErrnoException): void => {
      if (this.servers.get(key) === server) this.servers.delete(key)
      done(error.code ?? error.message)
    }
    server.once('error', failed)
    this.servers.set(key, server)
    server.listen({ host: listener.host, port: listener.port, backlog: 4096, reusePort: this.shared }, () => {
      server.off('error', failed)
      server.on('error', (error: NodeJS.ErrnoException) => this.exhausted(`accept: ${error.code ?? error.message}`))
      done(null)
    })
  }

  unlisten(key: string): void {
    this.resting.delete(key)
    this.servers.get(key)?.close()
    this.servers.delete(key)
  }

  private exhausted(detail: string): void {
    this.plane.tell('descriptors.exhausted', detail)
  }

  /**
   * With no descriptor left at all, Node.js closes what waits to be accepted, or tries again without end: listeners are
   * closed instead, until there are some.
   */
  private watchDescriptors(): void {
    if (this.resting.size > 0 && descriptorsLeft(SPARE + this.resting.size)) {
      const listeners = [...this.resting.values()]
      this.resting.clear()
      for (const listener of listeners) this.reopen(listener)
      return
    }
    if (this.servers.size === 0 || descriptorsLeft(1)) return
    this.exhausted('no descriptor is left: listeners are closed until there are some')
    for (const key of [...this.servers.keys()]) {
      const listener = this.plane.listener(key)
      this.unlisten(key)
      if (listener !== undefined) this.resting.set(key, listener)
    }
  }

  private reopen(listener: ListenerPlan): void {
    this.listen(listener, (code) => {
      if (code === null) return
      this.exhausted(`listen: ${code}; ${listener.key} is not listened on`)
      this.resting.set(listener.key, listener)
    })
  }

  private accept(key: string, socket: net.Socket): void {
    const { plane } = this
    socket.on('error', () => {})
    plane.clock.read()
    if (!descriptorsLeft(SPARE)) {
      this.exhausted(`accept: fewer than ${SPARE} descriptors are left; connections are shed`)
      socket.resetAndDestroy()
      return
    }
    const listener = plane.listener(key)
    const text = socket.remoteAddress
    // A client that has gone again already has no address any more.
    const address = text === undefined ? null : parseAddress(text)
    if (listener === undefined || text === undefined || address === null) {
      socket.destroy()
      return
    }
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
    this.resting.clear()
    for (const key of [...this.servers.keys()]) this.unlisten(key)
    clearInterval(this.ticker)
    if (this.pacer !== null) clearInterval(this.pacer)
  }
}
