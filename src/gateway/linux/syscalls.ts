/**
 * The system calls of the data plane, through koffi: the only file that calls foreign functions. Pointers go as
 * numbers, which koffi passes without allocating, and come from `Memory` alone.
 *
 * Numbers are those of Linux on x86-64 and arm64 (asm-generic), where `struct epoll_event` differs: it is packed on
 * x86-64 only, so other machines use the portable transport.
 */
import { createRequire } from 'node:module'
import { getSystemErrorName } from 'node:util'
import type { Holdings } from './holdings.ts'
import { AREA, Memory } from './memory.ts'

export const EPOLLIN = 0x1
export const EPOLLOUT = 0x4
export const EPOLLERR = 0x8
export const EPOLLHUP = 0x10
/** The peer has sent FIN; what it sent before may still be unread. */
export const EPOLLRDHUP = 0x2000
/** Told once for each arrival, not at every wait while there is something. */
export const EPOLLET = 1 << 31

export const ERRNO = {
  EINTR: 4,
  EAGAIN: 11,
  ENOMEM: 12,
  ENFILE: 23,
  EMFILE: 24,
  EPIPE: 32,
  ENOBUFS: 105,
  EINPROGRESS: 115,
} as const

const AF_INET = 2
const AF_INET6 = 10
const SOCK_STREAM = 1
const SOCK_NONBLOCK = 0o4000
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_REUSEADDR = 2
const SO_ERROR = 4
const SO_KEEPALIVE = 9
const SO_LINGER = 13
const SO_REUSEPORT = 15
const SO_PEERCRED = 17
const IPPROTO_TCP = 6
const TCP_NODELAY = 1
const TCP_KEEPIDLE = 4
const TCP_KEEPINTVL = 5
const TCP_KEEPCNT = 6
const TCP_CONGESTION = 13
const TCP_USER_TIMEOUT = 18
const IPPROTO_IPV6 = 41
const IPV6_V6ONLY = 26
const MSG_NOSIGNAL = 0x4000
const SHUT_WR = 1
const EFD_NONBLOCK = 0o4000
const EFD_CLOEXEC = 0o2000000
const CLOCK_MONOTONIC = 1
const TFD_NONBLOCK = 0o4000
const TFD_CLOEXEC = 0o2000000
const EPOLL_CLOEXEC = 0o2000000
const EPOLL_CTL_ADD = 1
const EPOLL_CTL_DEL = 2
const EPOLL_CTL_MOD = 3
const MAPPED = 0xffffn
const AF_UNIX = 1
const PROT_READ = 1
const PROT_WRITE = 2
const MAP_PRIVATE = 0x02
const MAP_ANONYMOUS = 0x20
const MAP_32BIT = 0x40
/** Numbers of asynchronous I/O's calls on x86-64, for which libc has no functions (io_setup(2)). */
const NR = { io_setup: 206, io_destroy: 207, io_getevents: 208, io_submit: 209 } as const

/** Dead peers are found after 30 s of silence and three probes, or when sent bytes stay unacknowledged for 30 s. */
const KEEPALIVE = { idle: 30, interval: 10, count: 3, userTimeoutMs: 30_000 } as const

/** A system call that failed: which, and the name of its errno. */
export class SyscallError extends Error {
  readonly code: string
  readonly call: string
  readonly errno: number
  constructor(call: string, errno: number) {
    const code = getSystemErrorName(-errno)
    super(`${call}: ${code}`)
    this.call = call
    this.errno = errno
    this.code = code
  }
}

type Call = (...args: number[]) => number

/** Why this machine cannot have the binding, or null where it can. */
export function unavailable(): string | null {
  if (process.platform !== 'linux') return `the platform is ${process.platform}, not linux`
  if (process.arch !== 'x64') return `the processor is ${process.arch}, not x64`
  try {
    new Syscalls()
    return null
  } catch (error) {
    return `koffi cannot be used: ${(error as Error).message.split('\n', 1)[0]}`
  }
}

export class Syscalls {
  readonly memory: Memory
  readonly errno: () => number
  private readonly calls: Record<
    | 'socket'
    | 'bind'
    | 'listen'
    | 'accept4'
    | 'connect'
    | 'recv'
    | 'send'
    | 'close'
    | 'shutdown'
    | 'setsockopt'
    | 'getsockopt'
    | 'getsockname'
    | 'epoll_create1'
    | 'epoll_ctl'
    | 'epoll_wait'
    | 'eventfd'
    | 'read'
    | 'socketpair'
    | 'timerfd_create'
    | 'timerfd_settime',
    Call
  >
  private readonly recvCall: Call
  private readonly sendCall: Call
  private readonly submitCall: Call
  private readonly eventsCall: Call

  private readonly held: Holdings | null

  /**
   * @param held notes what is opened and closed; null: nobody asks
   * @throws where koffi or libc cannot be loaded
   */
  constructor(held: Holdings | null = null) {
    this.held = held
    // koffi is loaded here and nowhere else, and only when it is wanted: its absence must not be an import error.
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi').default
    const libc = koffi.load('libc.so.6')
    const call = (prototype: string): Call => libc.func(prototype) as unknown as Call
    this.errno = () => koffi.errno()
    const base = held === null || held.memory === 0 ? this.map(call) : held.memory
    if (held !== null) held.memory = base
    this.memory = new Memory(Buffer.from(koffi.view(BigInt(base), AREA.size) as ArrayBuffer), base)
    this.calls = {
      socket: call('int socket(int, int, int)'),
      bind: call('int bind(int, uintptr_t, uint)'),
      listen: call('int listen(int, int)'),
      accept4: call('int accept4(int, uintptr_t, uintptr_t, int)'),
      connect: call('int connect(int, uintptr_t, uint)'),
      recv: call('int recv(int, uintptr_t, size_t, int)'),
      send: call('int send(int, uintptr_t, size_t, int)'),
      close: call('int close(int)'),
      shutdown: call('int shutdown(int, int)'),
      setsockopt: call('int setsockopt(int, int, int, uintptr_t, uint)'),
      getsockopt: call('int getsockopt(int, int, int, uintptr_t, uintptr_t)'),
      getsockname: call('int getsockname(int, uintptr_t, uintptr_t)'),
      epoll_create1: call('int epoll_create1(int)'),
      epoll_ctl: call('int epoll_ctl(int, int, int, uintptr_t)'),
      epoll_wait: call('int epoll_wait(int, uintptr_t, int, int)'),
      eventfd: call('int eventfd(uint, int)'),
      read: call('int read(int, uintptr_t, size_t)'),
      socketpair: call('int socketpair(int, int, int, uintptr_t)'),
      timerfd_create: call('int timerfd_create(int, int)'),
      timerfd_settime: call('int timerfd_settime(int, int, uintptr_t, uintptr_t)'),
    }
    this.recvCall = this.calls.recv
    this.sendCall = this.calls.send
    // Each with the parameters of its own call: what koffi takes time for.
    this.submitCall = call('long syscall(long, uintptr_t, long, uintptr_t)')
    this.eventsCall = call('long syscall(long, uintptr_t, long, long, uintptr_t, uintptr_t)')
  }

  /**
   * Memory below 2 GiB (MAP_32BIT of mmap(2)): pointers into it are small integers, for which V8 allocates nothing. With
   * larger ones each call would leave a number on the heap, and collections were a worker's longest pauses.
   */
  private map(call: (prototype: string) => Call): number {
    const mmap = call('intptr_t mmap(uintptr_t, size_t, int, int, int, long)')
    const base = mmap(0, AREA.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_32BIT | MAP_ANONYMOUS, -1, 0)
    return this.must('mmap', base)
  }

  private must(name: string, result: number): number {
    if (result < 0) throw new SyscallError(name, this.errno())
    return result
  }

  private opened(fd: number): number {
    if (fd >= 0) this.held?.opened(fd)
    return fd
  }

  // -------------------------------------------------------------------------------------------------- hot path

  /** Reads at most `AREA.readBytes` to `at`. @returns bytes read, 0 at the end of the stream, or -1 (see `errno`) */
  recv(fd: number, at: number): number {
    return this.recvCall(fd, this.memory.pointer(at, AREA.readBytes), AREA.readBytes, 0)
  }

  /** Sends `length` bytes of the memory from `at`. @returns bytes sent, or -1 (see `errno`) */
  send(fd: number, at: number, length: number): number {
    return this.sendCall(fd, this.memory.pointer(at, length), length, MSG_NOSIGNAL)
  }

  /** Waits for events, which then stand in `memory.words`. @returns their number; interrupted: 0 */
  wait(epoll: number, timeoutMs: number): number {
    const { epoll: at, events } = AREA
    return this.calls.epoll_wait(epoll, this.memory.pointer(at, events * 12), events, timeoutMs)
  }

  /**
   * Submits the first `count` of `AREA.iocbPointers` (io_submit(2)).
   * @param context of `ioSetup`
   * @returns how many the kernel has taken, in their order
   */
  ioSubmit(context: number, count: number): number {
    const pointers = this.memory.pointer(AREA.iocbPointers, count * 8)
    return Math.max(0, this.submitCall(NR.io_submit, context, count, pointers))
  }

  /** Waits until `count` of what was submitted is done, told in `AREA.ioEvents`. @returns how many; interrupted: fewer */
  ioGetEvents(context: number, count: number): number {
    const events = this.memory.pointer(AREA.ioEvents, count * AREA.ioEventBytes)
    const done = this.eventsCall(NR.io_getevents, context, count, count, events, 0)
    if (done < 0 && this.errno() !== ERRNO.EINTR) throw new SyscallError('io_getevents', this.errno())
    return Math.max(0, done)
  }

  // ------------------------------------------------------------------------------------------- asynchronous I/O

  /** A context for so many operations at one time (io_setup(2)). @returns 0 where there is none to be had */
  ioSetup(operations: number): number {
    this.memory.bytes.writeBigUInt64LE(0n, AREA.context)
    // The same function of libc with another call's parameters, too seldom called for one of its own.
    const result = this.submitCall(NR.io_setup, operations, this.memory.pointer(AREA.context, 8), 0)
    return result < 0 ? 0 : Number(this.memory.bytes.readBigUInt64LE(AREA.context))
  }

  /** @param context of `ioSetup`, of this thread or of one that is no more */
  ioDestroy(context: number): void {
    this.submitCall(NR.io_destroy, context, 0, 0)
  }

  /** Two sockets joined to each other (socketpair(2)). */
  socketPair(): [number, number] {
    const at = AREA.option
    const kind = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC
    this.must('socketpair', this.calls.socketpair(AF_UNIX, kind, 0, this.memory.pointer(at, 8)))
    return [this.opened(this.memory.bytes.readInt32LE(at)), this.opened(this.memory.bytes.readInt32LE(at + 4))]
  }

  // ---------------------------------------------------------------------------------------------------- epoll

  epoll(): number {
    return this.opened(this.must('epoll_create1', this.calls.epoll_create1(EPOLL_CLOEXEC)))
  }

  watch(epoll: number, fd: number, events: number): void {
    this.control(epoll, EPOLL_CTL_ADD, fd, events)
  }

  rewatch(epoll: number, fd: number, events: number): void {
    this.control(epoll, EPOLL_CTL_MOD, fd, events)
  }

  unwatch(epoll: number, fd: number): void {
    this.control(epoll, EPOLL_CTL_DEL, fd, 0)
  }

  private control(epoll: number, operation: number, fd: number, events: number): void {
    // The option area serves: the event is read during the call.
    const at = AREA.option
    this.memory.bytes.writeInt32LE(events, at)
    this.memory.bytes.writeInt32LE(fd, at + 4)
    this.memory.bytes.writeInt32LE(0, at + 8)
    this.must('epoll_ctl', this.calls.epoll_ctl(epoll, operation, fd, this.memory.pointer(at, 12)))
  }

  eventfd(): number {
    return this.opened(this.must('eventfd', this.calls.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)))
  }

  /** A timer that is not set. */
  timer(): number {
    return this.opened(
      this.must('timerfd_create', this.calls.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)),
    )
  }

  /** Has a timer expire every `ms` milliseconds, at most 999; 0: no longer. */
  every(fd: number, ms: number): void {
    const { bytes } = this.memory
    for (const at of [AREA.timer, AREA.timer + 16]) {
      bytes.writeBigInt64LE(0n, at)
      bytes.writeBigInt64LE(BigInt(ms * 1_000_000), at + 8)
    }
    const timer = this.memory.pointer(AREA.timer, AREA.timerBytes)
    this.must('timerfd_settime', this.calls.timerfd_settime(fd, 0, timer, 0))
  }

  /** Takes what an eventfd or a timer has counted, so that it is quiet until there is more. */
  quiet(fd: number): void {
    this.calls.read(fd, this.memory.pointer(AREA.option, 8), 8)
  }

  // --------------------------------------------------------------------------------------------------- sockets

  /** A listening socket. Options that accepted sockets inherit (tcp(7)) are set here once. */
  listener(address: bigint, port: number, shared: boolean): number {
    const fd = this.socket(address)
    try {
      this.option(fd, SOL_SOCKET, SO_REUSEADDR, 1)
      if (shared) this.option(fd, SOL_SOCKET, SO_REUSEPORT, 1)
      if (!isFour(address)) this.option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)
      this.tune(fd)
      const length = this.writeAddress(address, port)
      this.must('bind', this.calls.bind(fd, this.memory.pointer(AREA.address, length), length))
      this.must('listen', this.calls.listen(fd, 4096))
      return fd
    } catch (error) {
      this.close(fd)
      throw error
    }
  }

  /** Accepts a connection; its address is in the address area. @returns -1 where there is none, see `errno` */
  accept(fd: number): number {
    this.memory.bytes.writeUInt32LE(AREA.addressBytes, AREA.addressLength)
    const address = this.memory.pointer(AREA.address, AREA.addressBytes)
    const length = this.memory.pointer(AREA.addressLength, 4)
    return this.opened(this.calls.accept4(fd, address, length, SOCK_NONBLOCK | SOCK_CLOEXEC))
  }

  /** Begins to connect. @returns the socket, which is writable once the connection stands or has failed */
  connect(address: bigint, port: number): number {
    const fd = this.socket(address)
    try {
      this.tune(fd)
      const length = this.writeAddress(address, port)
      const result = this.calls.connect(fd, this.memory.pointer(AREA.address, length), length)
      if (result < 0 && this.errno() !== ERRNO.EINPROGRESS) throw new SyscallError('connect', this.errno())
      return fd
    } catch (error) {
      this.close(fd)
      throw error
    }
  }

  private socket(address: bigint): number {
    const family = isFour(address) ? AF_INET : AF_INET6
    return this.opened(this.must('socket', this.calls.socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)))
  }

  private tune(fd: number): void {
    this.option(fd, IPPROTO_TCP, TCP_NODELAY, 1)
    this.option(fd, SOL_SOCKET, SO_KEEPALIVE, 1)
    this.option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE.idle)
    this.option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE.interval)
    this.option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE.count)
    this.option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, KEEPALIVE.userTimeoutMs)
    this.unpaced(fd)
  }

  /**
   * Requests and answers of a few hundred bytes fill no path: a congestion control that paces what is sent (BBR, where
   * it is the system's default) costs a timer for each write and gains nothing. Reno is in every kernel and free to
   * all (tcp(7)); where it is not, the default stays.
   */
  private unpaced(fd: number): void {
    this.memory.bytes.write('reno', AREA.option, 'latin1')
    this.calls.setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, this.memory.pointer(AREA.option, 4), 4)
  }

  private option(fd: number, level: number, name: number, value: number): void {
    this.memory.bytes.writeInt32LE(value, AREA.option)
    this.must('setsockopt', this.calls.setsockopt(fd, level, name, this.memory.pointer(AREA.option, 4), 4))
  }

  /** The error that a connection attempt ended with; 0: it stands. */
  connectError(fd: number): number {
    this.memory.bytes.writeUInt32LE(4, AREA.addressLength)
    const value = this.memory.pointer(AREA.option, 4)
    const length = this.memory.pointer(AREA.addressLength, 4)
    this.must('getsockopt', this.calls.getsockopt(fd, SOL_SOCKET, SO_ERROR, value, length))
    return this.memory.bytes.readInt32LE(AREA.option)
  }

  /** Who is at the other end of a Unix socket (unix(7), `struct ucred`), as of its connect. */
  peer(fd: number): { pid: number; uid: number; gid: number } {
    this.memory.bytes.writeUInt32LE(12, AREA.addressLength)
    const value = this.memory.pointer(AREA.option, 12)
    const length = this.memory.pointer(AREA.addressLength, 4)
    this.must('getsockopt', this.calls.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, value, length))
    const { bytes } = this.memory
    const at = AREA.option
    return { pid: bytes.readInt32LE(at), uid: bytes.readUInt32LE(at + 4), gid: bytes.readUInt32LE(at + 8) }
  }

  /** The local address of a socket. */
  localAddress(fd: number): { address: bigint; port: number } {
    this.memory.bytes.writeUInt32LE(AREA.addressBytes, AREA.addressLength)
    const address = this.memory.pointer(AREA.address, AREA.addressBytes)
    const length = this.memory.pointer(AREA.addressLength, 4)
    this.must('getsockname', this.calls.getsockname(fd, address, length))
    return this.readAddress()
  }

  /** FIN to the peer; what it sends can still be read. */
  shutdown(fd: number): void {
    this.calls.shutdown(fd, SHUT_WR)
  }

  close(fd: number): void {
    this.held?.closing(fd)
    this.calls.close(fd)
  }

  /** Closes with RST. */
  reset(fd: number): void {
    this.memory.bytes.writeInt32LE(1, AREA.option)
    this.memory.bytes.writeInt32LE(0, AREA.option + 4)
    this.calls.setsockopt(fd, SOL_SOCKET, SO_LINGER, this.memory.pointer(AREA.option, 8), 8)
    this.close(fd)
  }

  /** `struct sockaddr_in` or `sockaddr_in6` in the address area. @returns its length */
  private writeAddress(address: bigint, port: number): number {
    const { bytes } = this.memory
    bytes.fill(0, AREA.address, AREA.address + AREA.addressBytes)
    bytes.writeUInt16BE(port, AREA.address + 2)
    if (isFour(address)) {
      bytes.writeUInt16LE(AF_INET, AREA.address)
      bytes.writeUInt32BE(Number(address & 0xffffffffn), AREA.address + 4)
      return 16
    }
    bytes.writeUInt16LE(AF_INET6, AREA.address)
    for (let i = 0; i < 16; i++) bytes[AREA.address + 8 + i] = Number((address >> BigInt(8 * (15 - i))) & 0xffn)
    return 28
  }

  /** The address that `accept` or `localAddress` left in the address area. */
  readAddress(): { address: bigint; port: number } {
    const { bytes } = this.memory
    const port = bytes.readUInt16BE(AREA.address + 2)
    if (bytes.readUInt16LE(AREA.address) === AF_INET) {
      return { address: (MAPPED << 32n) | BigInt(bytes.readUInt32BE(AREA.address + 4)), port }
    }
    const high = bytes.readBigUInt64BE(AREA.address + 8)
    return { address: (high << 64n) | bytes.readBigUInt64BE(AREA.address + 16), port }
  }
}

const isFour = (address: bigint): boolean => address >> 32n === MAPPED
