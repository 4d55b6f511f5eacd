/**
 * Many writes in one system call: Linux's asynchronous I/O (io_submit(2)), which on sockets that do not block carries
 * each write out before it returns. It saves more than calls. A peer that shares the processor is woken by each write;
 * between system calls the kernel may let it run at once, for that one message, while inside of one call it does not:
 * at 500 connections two processes changed places 0.7 times a transaction, and do so 0.01 times now (bench: proxy).
 *
 * `struct iocb` and `struct io_event` (linux/aio_abi.h), little-endian as the only processors that have this binding.
 */
import type { Holdings } from './holdings.ts'
import { AREA } from './memory.ts'
import type { Syscalls } from './syscalls.ts'

const IOCB_CMD_PWRITE = 1
/** Words of `struct iocb`: data, key, flags, opcode and priority, descriptor, pointer, length, offset, and more. */
const IOCB_WORDS = AREA.iocbBytes / 4
const OPCODE = 4
const DESCRIPTOR = 5
const POINTER = 6
const LENGTH = 8
/** Words of `struct io_event`: data, iocb, result, and a second one. */
const EVENT_WORDS = AREA.ioEventBytes / 4
const RESULT = 4
const WORD = 2 ** 32

export class SendBatch {
  private readonly sys: Syscalls
  private readonly context: number
  private readonly held: Holdings
  private readonly iocbs: Int32Array
  private readonly events: Int32Array
  /** By place in the batch, what `submit` has heard of. */
  private readonly results = new Int32Array(AREA.batch)

  private constructor(sys: Syscalls, held: Holdings) {
    const { bytes } = sys.memory
    this.sys = sys
    this.held = held
    this.context = held.context
    this.iocbs = new Int32Array(bytes.buffer, bytes.byteOffset + AREA.iocbs, AREA.batch * IOCB_WORDS)
    this.events = new Int32Array(bytes.buffer, bytes.byteOffset + AREA.ioEvents, AREA.batch * EVENT_WORDS)
    this.iocbs.fill(0)
    for (let place = 0; place < AREA.batch; place++) {
      const { iocbs, iocbBytes, iocbPointers } = AREA
      const pointer = sys.memory.pointer(iocbs + place * iocbBytes, iocbBytes)
      bytes.writeBigUInt64LE(BigInt(pointer), iocbPointers + place * 8)
      this.iocbs[place * IOCB_WORDS] = place
      this.iocbs[place * IOCB_WORDS + OPCODE] = IOCB_CMD_PWRITE
    }
  }

  /**
   * @param held notes the context, which nobody else would destroy if the worker dies; gives that of one which did
   * @returns null where the kernel does not have it, or not for sockets, or `fs.aio-max-nr` contexts' worth is in use
   */
  static open(sys: Syscalls, held: Holdings): SendBatch | null {
    if (held.context !== 0) sys.ioDestroy(held.context)
    held.context = sys.ioSetup(AREA.batch)
    if (held.context === 0) return null
    const batch = new SendBatch(sys, held)
    if (batch.works()) return batch
    batch.close()
    return null
  }

  /** Whether two sockets of a pair get what is sent to them. */
  private works(): boolean {
    const { sys } = this
    const sockets = sys.socketPair()
    const { bytes } = sys.memory
    bytes.write('ab', AREA.head, 'latin1')
    for (const [place, fd] of sockets.entries()) this.stage(place, fd, AREA.head + place, 1)
    let works = this.submit(2) === 2 && this.result(0) === 1 && this.result(1) === 1
    for (const [place, fd] of sockets.entries()) {
      works = works && sys.recv(fd, AREA.head + 2) === 1 && bytes[AREA.head + 2] === bytes[AREA.head + 1 - place]
      sys.close(fd)
    }
    return works
  }

  /** Puts a write of `length` bytes of the memory from `at` into the batch. @param place below `AREA.batch`, from 0 on */
  stage(place: number, fd: number, at: number, length: number): void {
    const { iocbs } = this
    const pointer = this.sys.memory.pointer(at, length)
    const word = place * IOCB_WORDS
    iocbs[word + DESCRIPTOR] = fd
    iocbs[word + POINTER] = pointer
    iocbs[word + POINTER + 1] = pointer / WORD
    iocbs[word + LENGTH] = length
  }

  /**
   * Carries out the first `count` that are staged, in their order.
   * @returns how many the kernel has taken: not those from the first on that it does not take at all
   */
  submit(count: number): number {
    const taken = this.sys.ioSubmit(this.context, count)
    const { events, results } = this
    let heard = 0
    while (heard < taken) {
      const more = this.sys.ioGetEvents(this.context, taken - heard)
      for (let n = 0; n < more; n++) {
        const event = n * EVENT_WORDS
        results[events[event]] = events[event + RESULT]
      }
      heard += more
    }
    return taken
  }

  /** What became of the write at a place: bytes sent, or an errno, negated. */
  result(place: number): number {
    return this.results[place]
  }

  close(): void {
    this.sys.ioDestroy(this.context)
    this.held.context = 0
  }
}
