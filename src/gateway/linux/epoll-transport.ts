/**
 * The data plane's own event loop: one epoll set, blocking in `epoll_wait`, never in Node's loop. Connections are
 * edge-triggered: a read that does not fill the buffer has emptied the socket, so no second `recv` has to find EAGAIN,
 * and what arrives later is told anew; where more may be there, the kernel is asked again (`Side.more`). A socket that
 * is not to be read is simply not waited for.
 */
import { closeSync, openSync } from 'node:fs'
import { formatAddress, parseAddress } from '../../policy/address.ts'
import type { DataPlane } from '../data-plane.ts'
import type { ListenerPlan } from '../plan.ts'
import { TimerWheel } from '../timer-wheel.ts'
import type { Transport } from '../transport.ts'
import { EpollConnection } from './epoll-connection.ts'
import { EventOrder } from './event-order.ts'
import type { Holdings } from './holdings.ts'
import { Outbox } from './outbox.ts'
import { SendBatch } from './send-batch.ts'
import { EPOLLIN, ERRNO, SyscallError, Syscalls } from './syscalls.ts'

/** Connections taken at one turn of the loop, so that a burst of them does not keep established ones waiting. */
const ACCEPTS_PER_TURN = 64
/** How soon a request that waits to be paced is looked at again. */
const PACE_MS = 1
/** How long a worker without connections sleeps at most: messages wake it by its eventfd. */
const IDLE_MS = 500

export class EpollTransport implements Transport {
  readonly plane: DataPlane
  readonly sys: Syscalls
  readonly epoll: number
  readonly outbox: Outbox
  private readonly batch: SendBatch | null
  private readonly order = new EventOrder()
  /** Written to by the main thread when it has sent a message. */
  readonly wakeFd: number
  /**
   * Expires every `TimerWheel.interval` while there are connections: a time-out of `epoll_wait` would be set and
   * cleared by the kernel each time that the worker sleeps, which one connection alone has it do twice a transaction.
   */
  private readonly timerFd: number
  private ticking = false
  private readonly shared: boolean
  private readonly listeners = new Map<number, string>()
  /** Connections by the descriptors of both their sides. */
  private readonly byFd: (EpollConnection | null)[] = []
  /** The turn of the loop at which each descriptor was last attached. */
  private readonly attachedAt: number[] = []
  private turn = 0
  private readonly onWake: () => void
  private spare = openSpare()
  /** Listeners that are not waited for until the next tick: their connections can be neither taken nor shed. */
  private readonly resting = new Set<number>()
  private stopped = false
  private tickedMs = 0

  /**
   * @param shared whether other workers listen on the same addresses (SO_REUSEPORT)
   * @param held notes the descriptors there are, for the main thread
   * @param onWake takes the messages that are waiting
   */
  constructor(plane: DataPlane, shared: boolean, held: Holdings, onWake: () => void) {
    this.sys = new Syscalls(held)
    this.batch = SendBatch.open(this.sys, held)
    this.outbox = new Outbox(this.sys.memory, this.batch)
    this.epoll = this.sys.epoll()
    this.wakeFd = this.sys.eventfd()
    this.timerFd = this.sys.timer()
    this.plane = plane
    this.shared = shared
    this.onWake = onWake
    for (const fd of [this.wakeFd, this.timerFd]) this.sys.watch(this.epoll, fd, EPOLLIN)
  }

  listen(listener: ListenerPlan, done: (code: string | null) => void): void {
    const address = parseAddress(listener.host)
    if (address === null) {
      done('EADDRNOTAVAIL')
      return
    }
    try {
      const fd = this.sys.listener(address, listener.port, this.shared)
      this.listeners.set(fd, listener.key)
      this.sys.watch(this.epoll, fd, EPOLLIN)
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      done(error.code)
      return
    }
    done(null)
  }

  unlisten(key: string): void {
    for (const [fd, listening] of this.listeners) {
      if (listening !== key) continue
      this.listeners.delete(fd)
      this.resting.delete(fd)
      this.sys.close(fd)
    }
  }

  attach(fd: number, connection: EpollConnection, events: number): void {
    while (this.byFd.length <= fd) {
      this.byFd.push(null)
      this.attachedAt.push(0)
    }
    this.byFd[fd] = connection
    this.attachedAt[fd] = this.turn
    this.sys.watch(this.epoll, fd, events)
  }

  /** Before a descriptor is closed. */
  detach(fd: number): void {
    this.byFd[fd] = null
  }

  run(): void {
    const { sys, plane } = this
    const { words } = sys.memory
    while (!this.stopped) {
      const count = sys.wait(this.epoll, this.patience())
      plane.clock.read()
      this.turn = (this.turn + 1) | 0
      const order = this.order.arrange(words, count)
      let due = false
      for (let n = 0; n < count; n++) {
        const i = order === null ? n : order[n]
        const fd = words[i * 3 + 1]
        const connection = fd < this.byFd.length ? this.byFd[fd] : null
        if (connection !== null) {
          // A descriptor attached at this very turn: the event is that of the socket which had its number before.
          if (this.attachedAt[fd] !== this.turn) connection.onEvent(fd, words[i * 3])
        } else if (this.listeners.has(fd)) {
          // Those that are established do not wait for a burst of new ones.
          this.outbox.flush()
          this.accept(fd)
        } else if (fd === this.timerFd) {
          sys.quiet(fd)
          due = true
        } else if (fd === this.wakeFd) {
          sys.quiet(fd)
          this.onWake()
        }
      }
      if (plane.waiting.size > 0) plane.pace()
      this.outbox.finish()
      const { ms } = plane.clock
      if (due || ms - this.tickedMs >= TimerWheel.interval || ms < this.tickedMs) {
        this.tickedMs = ms
        plane.tick()
        this.outbox.finish()
        if (this.resting.size > 0) this.wakeListeners()
        if (this.ticking && this.idle) this.tickOn(false)
      }
      if (!this.ticking && !this.idle) this.tickOn(true)
    }
    this.batch?.close()
  }

  private patience(): number {
    if (this.plane.waiting.size > 0) return PACE_MS
    return this.ticking ? -1 : IDLE_MS
  }

  private get idle(): boolean {
    return this.plane.idle && this.resting.size === 0
  }

  private tickOn(on: boolean): void {
    this.ticking = on
    this.sys.every(this.timerFd, on ? TimerWheel.interval : 0)
  }

  private accept(listenFd: number): void {
    const { sys, plane } = this
    const listener = plane.listener(this.listeners.get(listenFd) as string)
    for (let i = 0; i < ACCEPTS_PER_TURN; i++) {
      const fd = sys.accept(listenFd)
      if (fd < 0) {
        this.shed(listenFd, sys.errno())
        return
      }
      const { address, port } = sys.readAddress()
      const peer = { address, text: formatAddress(address), port }
      const slots = listener === undefined ? null : plane.admit(listener, peer)
      if (listener === undefined || slots === null) sys.reset(fd)
      else new EpollConnection(this, listener, peer, slots, fd)
    }
  }

  /**
   * No descriptor is left for a connection that waits: it is taken on a spare one and closed, for otherwise it would
   * wait on, and wake the loop without end.
   */
  private shed(listenFd: number, errno: number): void {
    if (errno !== ERRNO.EMFILE && errno !== ERRNO.ENFILE && errno !== ERRNO.ENOMEM && errno !== ERRNO.ENOBUFS) return
    this.plane.tell(
      'descriptors.exhausted',
      `accept4: ${new SyscallError('accept4', errno).code}; connections are shed`,
    )
    if (this.spare !== -1) closeSync(this.spare)
    let shed = 0
    while (shed < ACCEPTS_PER_TURN) {
      const fd = this.sys.accept(listenFd)
      if (fd < 0) break
      this.sys.reset(fd)
      shed++
    }
    this.spare = openSpare()
    if (shed > 0) return
    // Another thread has taken the spare one as well.
    this.sys.unwatch(this.epoll, listenFd)
    this.resting.add(listenFd)
  }

  private wakeListeners(): void {
    for (const fd of this.resting) this.sys.watch(this.epoll, fd, EPOLLIN)
    this.resting.clear()
    if (this.spare === -1) this.spare = openSpare()
  }

  stop(): void {
    this.stopped = true
    for (const fd of this.listeners.keys()) this.sys.close(fd)
    this.listeners.clear()
  }
}

/** A descriptor kept for the day when there is no other. */
function openSpare(): number {
  try {
    return openSync('/dev/null', 'r')
  } catch {
    return -1
  }
}
