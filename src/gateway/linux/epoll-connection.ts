/** A connection pair on two descriptors of the kernel's own. */
import { Connection, type Peer } from '../connection.ts'
import type { Slots } from '../data-plane.ts'
import type { ListenerPlan } from '../plan.ts'
import type { EpollTransport } from './epoll-transport.ts'
import { AREA } from './memory.ts'
import type { Outlet } from './outbox.ts'
import { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, ERRNO, SyscallError } from './syscalls.ts'

/** Bytes queued for one side above which the other side is no longer read. */
const QUEUE_HIGH = 128 * 1024
/** What tells that a side can be read: bytes, or FIN. */
const READABLE = EPOLLIN | EPOLLRDHUP
/** Beside bytes, there is something that is told once only. */
const ENDS = EPOLLRDHUP | EPOLLHUP | EPOLLERR

/** One of the two sockets. Its fields are few: there are two of these for each idle connection. */
class Side implements Outlet {
  fd = -1
  private readonly connection: EpollConnection
  /** Events waited for; -1: none, not even a hang-up. */
  events = 0
  /** Bytes that the kernel had no room for, oldest first. */
  queue: Buffer[] | null = null
  queued = 0
  /** More than one read takes may be there: the kernel, which tells an arrival once, is to be asked again. */
  more = false
  /** The peer has sent FIN. */
  ended = false
  /** FIN is to be sent once the queue is empty. */
  ending = false
  shut = false
  failed = false
  mark = 0

  constructor(connection: EpollConnection) {
    this.connection = connection
  }

  send(from: number, to: number): void {
    this.connection.sendNow(this, from, to)
  }

  sent(from: number, to: number, sent: number): void {
    this.connection.fellShort(this, from, to, sent)
  }

  settle(): void {
    this.connection.settle()
  }
}

export class EpollConnection extends Connection {
  private readonly transport: EpollTransport
  private readonly client = new Side(this)
  private readonly target = new Side(this)
  /** Why the target's side has failed, where it is known. */
  private failure = ''
  /** A session's call is under way: what fails in it is looked at when it returns. */
  private busy = false

  constructor(transport: EpollTransport, listener: ListenerPlan, peer: Peer, slots: Slots, fd: number) {
    super(transport.plane, listener, peer, slots)
    this.transport = transport
    this.client.fd = fd
    this.client.events = READABLE | EPOLLET
    transport.attach(fd, this, READABLE | EPOLLET)
    this.startDial()
    this.plane.register(this)
    this.settle()
  }

  /** An event of the epoll set on either descriptor. */
  onEvent(fd: number, events: number): void {
    if (fd === this.client.fd) {
      if ((events & EPOLLOUT) !== 0) this.flush(this.client)
      if ((events & ~EPOLLOUT) !== 0 && this.client.fd === fd) this.readClient(events)
    } else if (fd === this.target.fd) {
      if (this.dialling !== -1) {
        this.dialled()
        return
      }
      if ((events & EPOLLOUT) !== 0) this.flush(this.target)
      if ((events & ~EPOLLOUT) !== 0 && this.target.fd === fd) this.readTarget(events)
    }
    this.settle()
  }

  // ------------------------------------------------------------------------------------------------------- client

  private readClient(events: number): void {
    const { sys, outbox } = this.transport
    const { client } = this
    if ((client.events & EPOLLIN) === 0) {
      this.hungUp(client, events)
      return
    }
    const at = outbox.place(this.session.clientRoom)
    const length = sys.recv(client.fd, at)
    if (length > 0) {
      client.more = length === AREA.readBytes || (events & ENDS) !== 0
      if (this.ending !== '') return
      outbox.landed(at + length)
      this.carried(length, 0)
      this.busy = true
      this.session.onClientBytes(sys.memory.bytes, at, at + length)
      this.busy = false
      if (this.session.waiting && !this.gone) this.plane.waiting.add(this)
    } else if (length === 0) this.clientEnded()
    else if (sys.errno() !== ERRNO.EAGAIN) this.client.failed = true
  }

  /** A side that is not to be read now: epoll reports its errors and its end all the same. */
  private hungUp(side: Side, events: number): void {
    if ((events & EPOLLERR) !== 0) side.failed = true
    else if ((events & EPOLLHUP) !== 0) {
      // Both directions are closed. Waited for again when it is to be read.
      this.transport.sys.unwatch(this.transport.epoll, side.fd)
      side.events = -1
    }
  }

  private clientEnded(): void {
    this.client.ended = true
    if (this.ending !== '') return
    if (this.session.monitoring) {
      this.target.ending = true
      this.finishWrites(this.target)
    }
    this.busy = true
    this.session.onClientEnd()
    this.busy = false
  }

  toClient(buf: Uint8Array, from: number, to: number): void {
    if (this.client.fd === -1 || this.client.shut || this.client.ending) return
    this.carried(0, to - from)
    this.write(this.client, buf, from, to)
  }

  // ------------------------------------------------------------------------------------------------------- target

  protected dial(): void {
    const { target, transport } = this
    Object.assign(target, new Side(this))
    try {
      const { address, port } = this.listener.target
      target.fd = transport.sys.connect(address.base, port)
      target.events = EPOLLOUT
      transport.attach(target.fd, this, EPOLLOUT)
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error
      if (error.errno === ERRNO.EMFILE || error.errno === ERRNO.ENFILE) {
        this.plane.tell('descriptors.exhausted', `${error.message}; a target cannot be dialled`)
      }
      // Told to the session when its present call has returned.
      target.failed = true
      this.failure = error.code
    }
  }

  private dialled(): void {
    const { sys } = this.transport
    const errno = sys.connectError(this.target.fd)
    if (errno !== 0) {
      this.drop(this.target, false)
      this.targetFailed(new SyscallError('connect', errno).code)
      this.settle()
      return
    }
    this.connected()
    if (this.target.queued > 0) this.flush(this.target)
    this.finishWrites(this.target)
    this.settle()
  }

  private readTarget(events: number): void {
    const { sys, outbox } = this.transport
    const { target } = this
    if ((target.events & EPOLLIN) === 0) {
      this.hungUp(target, events)
      return
    }
    const at = outbox.place(this.session.targetRoom)
    const length = sys.recv(target.fd, at)
    if (length > 0) {
      target.more = length === AREA.readBytes || (events & ENDS) !== 0
      outbox.landed(at + length)
      this.busy = true
      this.session.onTargetBytes(sys.memory.bytes, at, at + length)
      this.busy = false
      if (this.session.waiting && !this.gone) this.plane.waiting.add(this)
    } else if (length === 0) this.targetEnded()
    else if (sys.errno() !== ERRNO.EAGAIN) this.target.failed = true
  }

  private targetEnded(): void {
    this.target.ended = true
    if (this.ending !== '') return
    if (this.session.monitoring) {
      this.client.ending = true
      this.finishWrites(this.client)
      return
    }
    this.busy = true
    this.session.onTargetEnd()
    this.busy = false
  }

  toTarget(buf: Uint8Array, from: number, to: number): void {
    if (this.target.fd === -1) return
    if (this.dialling !== -1) this.enqueue(this.target, buf, from, to)
    else this.write(this.target, buf, from, to)
  }

  protected hangUp(): void {
    this.drop(this.target, true)
  }

  // ------------------------------------------------------------------------------------------------------ writing

  private write(side: Side, buf: Uint8Array, from: number, to: number): void {
    const { sys, outbox } = this.transport
    if (side.queued > 0) this.enqueue(side, buf, from, to)
    else if (buf === sys.memory.bytes) outbox.add(side, from, to)
    else if (!outbox.addCopy(side, buf, from, to)) {
      outbox.flush()
      this.enqueue(side, buf, from, to)
      this.flush(side)
    }
  }

  /** What the outbox held for a side: its turn is over. */
  sendNow(side: Side, from: number, to: number): void {
    const { sys } = this.transport
    if (side.fd === -1) return
    if (side.queued > 0) {
      this.enqueue(side, sys.memory.bytes, from, to)
      return
    }
    const sent = sys.send(side.fd, from, to - from)
    if (sent === to - from) return
    this.fellShort(side, from, to, sent < 0 ? -sys.errno() : sent)
    this.settle()
  }

  /** Not all that a side's turn had was sent: see `Outlet.sent`. */
  fellShort(side: Side, from: number, to: number, sent: number): void {
    if (sent < 0 && sent !== -ERRNO.EAGAIN) side.failed = true
    else this.enqueue(side, this.transport.sys.memory.bytes, from + Math.max(0, sent), to)
  }

  private enqueue(side: Side, buf: Uint8Array, from: number, to: number): void {
    side.queue ??= []
    side.queue.push(Buffer.from(buf.subarray(from, to)))
    side.queued += to - from
  }

  /** Sends what is queued, as far as the kernel takes it. */
  private flush(side: Side): void {
    const { sys } = this.transport
    while (side.queue !== null && side.queue.length > 0) {
      const [first] = side.queue
      const length = Math.min(first.length, AREA.stageBytes)
      sys.memory.bytes.set(first.subarray(0, length), AREA.stage)
      const sent = sys.send(side.fd, AREA.stage, length)
      if (sent < 0) {
        if (sys.errno() !== ERRNO.EAGAIN) side.failed = true
        return
      }
      side.queued -= sent
      if (sent < first.length) {
        side.queue[0] = first.subarray(sent)
        if (sent < length) return
      } else side.queue.shift()
    }
    side.queue = null
    this.finishWrites(side)
  }

  private finishWrites(side: Side): void {
    if (!side.ending || side.shut || side.queued > 0 || side.fd === -1) return
    if (side === this.target && this.dialling !== -1) return
    this.transport.outbox.flush()
    // Now that all is sent, or queued after all.
    if (side.shut || side.queued > 0 || side.fd === -1) return
    side.shut = true
    this.transport.sys.shutdown(side.fd)
  }

  // ------------------------------------------------------------------------------------------------------- ending

  /** After every event: what has failed ends, and each side is waited for as its state wants it. */
  settle(): void {
    const { client, target } = this
    if (this.gone || this.busy) return
    if (client.ended || target.ended || this.ending !== '') {
      // What is over depends on what has been sent.
      this.transport.outbox.flush()
      if (this.gone) return
    }
    if (client.failed) {
      if (this.ending === '') this.ending = 'client reset'
      this.abort(true)
      return
    }
    if (target.failed) {
      this.drop(target, false)
      if (this.ending === '') this.targetFailed(this.failure === '' ? 'ECONNRESET' : this.failure)
      this.failure = ''
      if (this.gone) return
    }
    if (this.over()) {
      this.drop(client, false)
      this.drop(target, false)
      this.end()
      return
    }
    this.watchFor(client, !client.ended && !this.congested, client.queued > 0)
    if (target.fd !== -1 && this.dialling === -1) {
      this.watchFor(target, !target.ended && client.queued <= QUEUE_HIGH, target.queued > 0)
    }
  }

  /** No more is to be read from the client: too much waits for its answers, for its target, or to be read by it. */
  private get congested(): boolean {
    if (this.ending !== '') return false
    if (this.session.congested || this.target.queued > QUEUE_HIGH) return true
    return this.client.queued > QUEUE_HIGH && !this.session.monitoring
  }

  /** Both directions are closed, as far as they will be. */
  private over(): boolean {
    const { client, target } = this
    if (this.ending !== '') return client.shut && client.ended && target.queued === 0
    return client.ended && client.shut && target.ended && target.shut
  }

  private watchFor(side: Side, read: boolean, write: boolean): void {
    const events = (read ? READABLE : 0) | (write ? EPOLLOUT : 0) | EPOLLET
    if ((events === side.events && !side.more) || (side.events === -1 && !read)) return
    if (side.events === -1) this.transport.sys.watch(this.transport.epoll, side.fd, events)
    else this.transport.sys.rewatch(this.transport.epoll, side.fd, events)
    side.events = events
    side.more = false
  }

  protected close(): void {
    this.transport.outbox.flush()
    this.client.ending = true
    this.finishWrites(this.client)
    const { target } = this
    if (target.fd !== -1 && target.queued === 0) this.drop(target, false)
  }

  protected abort(rst: boolean): void {
    this.drop(this.client, rst)
    this.drop(this.target, rst)
    this.end()
  }

  private drop(side: Side, rst: boolean): void {
    this.transport.outbox.flush()
    if (side.fd === -1) return
    const { fd } = side
    side.fd = -1
    side.queue = null
    side.queued = 0
    side.failed = false
    this.transport.detach(fd)
    if (rst) this.transport.sys.reset(fd)
    else this.transport.sys.close(fd)
  }

  override onTimer(): number {
    const wait = super.onTimer()
    this.settle()
    return this.gone ? 0 : wait
  }

  override afterCall(): void {
    this.settle()
  }
}
