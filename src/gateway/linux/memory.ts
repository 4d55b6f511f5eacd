/**
 * The one piece of memory that system calls read and write. Every pointer that leaves for the kernel is made here, from
 * an offset and a length that lie within it.
 */

const TURN_BYTES = 1 << 18
const STAGE_BYTES = 1 << 18
const EVENTS = 512
const EPOLL = TURN_BYTES + STAGE_BYTES
const ADDRESS = EPOLL + EVENTS * 12
const OPTION = ADDRESS + 40
const BATCH = 256
const IOCB_BYTES = 64
const IO_EVENT_BYTES = 32
const TIMER_BYTES = 32
const IOCBS = OPTION + 32
const IOCB_POINTERS = IOCBS + BATCH * IOCB_BYTES
const IO_EVENTS = IOCB_POINTERS + BATCH * 8
const CONTEXT = IO_EVENTS + BATCH * IO_EVENT_BYTES
const TIMER = CONTEXT + 8

/** Where things stand in the memory, in bytes. */
export const AREA = {
  /** What one turn of the loop reads: see `Outbox`. */
  head: 0,
  turnEnd: TURN_BYTES,
  /** One `recv` takes at most this. */
  readBytes: 65536,
  /** What is sent from elsewhere is copied here first. */
  stage: TURN_BYTES,
  stageBytes: STAGE_BYTES,
  /** `struct epoll_event` × `events`. */
  epoll: EPOLL,
  events: EVENTS,
  /** `struct sockaddr_in6`, and its length behind it. */
  address: ADDRESS,
  addressBytes: 28,
  addressLength: ADDRESS + 32,
  /** Values of socket options, and of the eventfd. */
  option: OPTION,
  optionBytes: 16,
  /** Writes of one batch at most, and for each a `struct iocb`, its pointer, and a `struct io_event`: see `SendBatch`. */
  batch: BATCH,
  iocbs: IOCBS,
  iocbBytes: IOCB_BYTES,
  iocbPointers: IOCB_POINTERS,
  ioEvents: IO_EVENTS,
  ioEventBytes: IO_EVENT_BYTES,
  /** `aio_context_t`. */
  context: CONTEXT,
  /** `struct itimerspec`. */
  timer: TIMER,
  timerBytes: TIMER_BYTES,
  size: TIMER + TIMER_BYTES,
} as const

export class Memory {
  readonly bytes: Buffer
  /** Words of the epoll area: events, then the descriptor, then a word of no use, for each. */
  readonly words: Int32Array
  private readonly base: number

  /**
   * @param bytes `AREA.size` of them
   * @param base the address of their first
   */
  constructor(bytes: Buffer, base: number) {
    if (bytes.length !== AREA.size) throw new RangeError(`${bytes.length} bytes, not ${AREA.size}`)
    if (!Number.isSafeInteger(base) || base <= 0) throw new RangeError('no address for the memory')
    this.bytes = bytes
    this.base = base
    this.words = new Int32Array(this.bytes.buffer, this.bytes.byteOffset + AREA.epoll, AREA.events * 3)
  }

  /**
   * The pointer to `at`, for a system call that may touch `length` bytes from there.
   * @throws RangeError where any of them lies outside
   */
  pointer(at: number, length: number): number {
    // Written so that NaN and fractions fail as well.
    if (!((at | 0) === at && (length | 0) === length && at >= 0 && length >= 0 && at + length <= AREA.size)) {
      throw new RangeError(`${length} bytes at ${at} are outside of ${AREA.size}`)
    }
    return this.base + at
  }
}
