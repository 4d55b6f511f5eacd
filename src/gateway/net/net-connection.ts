/** A connection pair on two of Node's sockets. */
import net from 'node:net'
import { HEAD_ROOM } from '../../protocols/session.ts'
import { Connection, type Peer } from '../connection.ts'
import type { Slots } from '../data-plane.ts'
import type { ListenerPlan } from '../plan.ts'
import type { NetTransport } from './net-transport.ts'

/** Bytes queued for one side above which the other side is no longer read. */
const QUEUE_HIGH = 128 * 1024

export class NetConnection extends Connection {
  private readonly transport: NetTransport
  private readonly client: net.Socket
  private target: net.Socket | null = null
  /** The client's bytes being read: slices of them may be queued, as nobody writes there again. */
  private chunk: Uint8Array | null = null
  private targetEnded = false

  constructor(transport: NetTransport, listener: ListenerPlan, peer: Peer, slots: Slots, client: net.Socket) {
    super(transport.plane, listener, peer, slots)
    this.transport = transport
    this.client = client
    client.on('data', (chunk) => this.onClientData(chunk))
    client.on('end', () => this.onClientEnd())
    client.on('drain', () => {
      this.resumeTarget()
      this.resumeClient()
    })
    client.on('error', () => this.clientLost())
    client.on('close', () => this.clientClosed())
    this.startDial()
    this.plane.register(this)
  }

  // ------------------------------------------------------------------------------------------------------- client

  private onClientData(chunk: Buffer): void {
    if (this.ending !== '') return
    this.plane.clock.read()
    this.carried(chunk.length, 0)
    // Room before the bytes for the part of a frame that came before them.
    let buf: Uint8Array = chunk
    let start = 0
    const room = this.session.clientRoom
    if (room > 0) {
      buf = new Uint8Array(room + chunk.length)
      buf.set(chunk, room)
      start = room
    }
    this.chunk = buf
    this.session.onClientBytes(buf, start, buf.length)
    this.chunk = null
    this.awaitTurn()
    if (this.congested) this.client.pause()
  }

  private awaitTurn(): void {
    if (!this.session.waiting || this.gone) return
    this.plane.waiting.add(this)
    this.transport.startPacing()
  }

  /** No more is to be read from the client: too much waits for its answers, for its target, or to be read by it. */
  private get congested(): boolean {
    if (this.session.congested) return true
    if (this.target !== null && this.target.writableLength > QUEUE_HIGH) return true
    return this.client.writableLength > QUEUE_HIGH && !this.session.monitoring
  }

  private resumeClient(): void {
    if (this.client.isPaused() && !this.congested) this.client.resume()
  }

  override onTimer(): number {
    const wait = super.onTimer()
    this.resumeClient()
    return wait
  }

  override afterCall(): void {
    this.resumeClient()
  }

  private onClientEnd(): void {
    if (this.ending !== '') return
    this.plane.clock.read()
    if (this.session.monitoring) this.target?.end()
    this.session.onClientEnd()
  }

  private clientLost(): void {
    if (this.ending === '') this.ending = 'client reset'
    this.hangUp()
  }

  private clientClosed(): void {
    this.plane.clock.read()
    const target = this.target
    this.end()
    if (target === null || target.destroyed) return
    if (target.connecting) target.destroy()
    else target.destroySoon()
  }

  toClient(buf: Uint8Array, from: number, to: number): void {
    if (this.client.destroyed || this.client.writableEnded) return
    this.carried(0, to - from)
    this.client.write(Buffer.from(buf.subarray(from, to)))
    if (this.client.writableLength > QUEUE_HIGH) this.target?.pause()
  }

  private resumeTarget(): void {
    this.target?.resume()
  }

  // ------------------------------------------------------------------------------------------------------- target

  protected dial(): void {
    const { host, port } = this.listener.target
    const { readArea } = this.transport
    const target = net.connect({
      host,
      port,
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: 30_000,
      onread: {
        buffer: readArea,
        callback: (length) => {
          if (this.target === target) this.onTargetData(length)
          return true
        },
      },
    })
    let why = 'connection closed'
    this.target = target
    target.on('connect', () => this.connected())
    target.on('drain', () => this.resumeClient())
    target.on('error', (error: NodeJS.ErrnoException) => {
      why = error.code ?? error.message
    })
    target.on('end', () => {
      if (this.target === target) this.onTargetEnd()
    })
    target.on('close', () => {
      if (this.target === target) this.onTargetClosed(why)
    })
  }

  private onTargetData(length: number): void {
    if (this.gone) return
    this.plane.clock.read()
    this.session.onTargetBytes(this.transport.readBuffer, HEAD_ROOM, HEAD_ROOM + length)
    this.awaitTurn()
    this.resumeClient()
  }

  private onTargetEnd(): void {
    this.targetEnded = true
    if (this.ending !== '') return
    this.plane.clock.read()
    if (this.session.monitoring) this.client.end()
    else this.session.onTargetEnd()
  }

  private onTargetClosed(why: string): void {
    this.target = null
    this.plane.clock.read()
    if (this.targetEnded && this.session.monitoring) return
    this.targetFailed(why)
    this.resumeClient()
  }

  toTarget(buf: Uint8Array, from: number, to: number): void {
    const bytes = buf.subarray(from, to)
    this.target?.write(buf === this.chunk ? bytes : Buffer.from(bytes))
  }

  protected hangUp(): void {
    const target = this.target
    this.target = null
    // A socket that is still connecting would stay until it is connected, or until the system gives up.
    if (target?.connecting) target.destroy()
    else target?.resetAndDestroy()
  }

  // ------------------------------------------------------------------------------------------------------- ending

  protected close(): void {
    this.client.end()
    this.client.resume()
    const target = this.target
    this.target = null
    if (target === null) return
    if (target.connecting) target.destroy()
    else target.destroySoon()
  }

  protected abort(rst: boolean): void {
    if (rst) this.client.resetAndDestroy()
    else this.client.destroy()
    this.hangUp()
  }
}
