/** Writes in batches, on real sockets: what the kernel takes, what it takes in part, and what it refuses. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import fc from 'fast-check'
import t from 'tap'
import { Holdings, holdingsBytes } from '../../../src/gateway/linux/holdings.ts'
import { AREA } from '../../../src/gateway/linux/memory.ts'
import { Outbox, type Outlet } from '../../../src/gateway/linux/outbox.ts'
import { SendBatch } from '../../../src/gateway/linux/send-batch.ts'
import { ERRNO, Syscalls, unavailable } from '../../../src/gateway/linux/syscalls.ts'

const EBADF = 9

/** Rings of asynchronous I/O that are mapped into this process. */
const rings = (): number => readFileSync('/proc/self/maps', 'latin1').split('/[aio]').length - 1

interface Opened {
  sys: Syscalls
  held: Holdings
  batch: SendBatch
}

function open(): Opened | null {
  if (unavailable() !== null) return null
  const held = new Holdings(new SharedArrayBuffer(holdingsBytes()))
  const sys = new Syscalls()
  const batch = SendBatch.open(sys, held)
  return batch === null ? null : { sys, held, batch }
}

const first = open()
first?.batch.close()
const skip = first === null ? 'asynchronous I/O on sockets cannot be had here' : false

/** All that waits at a socket. */
function drained(sys: Syscalls, fd: number): Buffer {
  const parts: Buffer[] = []
  for (;;) {
    const length = sys.recv(fd, AREA.head)
    if (length <= 0) return Buffer.concat(parts)
    parts.push(Buffer.from(sys.memory.bytes.subarray(AREA.head, AREA.head + length)))
  }
}

t.test('each socket gets its own bytes, and results stand by place', { skip }, async (t) => {
  const { sys, batch } = open() as Opened
  const pairs = Array.from({ length: AREA.batch }, () => sys.socketPair())
  const at = AREA.stage
  for (let round = 0; round < 3; round++) {
    for (const [place, [fd]] of pairs.entries()) {
      const text = `${round} to ${place}`
      sys.memory.bytes.write(text.padEnd(16), at + place * 16, 'latin1')
      batch.stage(place, fd, at + place * 16, text.length)
    }
    t.equal(batch.submit(pairs.length), pairs.length)
    for (const [place, [, peer]] of pairs.entries()) {
      const text = `${round} to ${place}`
      if (batch.result(place) !== text.length) t.fail(`${text}: ${batch.result(place)}`)
      if (drained(sys, peer).toString('latin1') !== text) t.fail(`${text} did not arrive`)
    }
  }
  for (const [a, b] of pairs) for (const fd of [a, b]) sys.close(fd)
  batch.close()
})

t.test('what fails, fails alone, and no signal ends the process', { skip }, async (t) => {
  const { sys, batch } = open() as Opened
  const [good, gone, full, last] = Array.from({ length: 4 }, () => sys.socketPair())
  sys.close(gone[1])
  while (sys.send(full[0], AREA.stage, 65536) > 0) {
    // Until the kernel has no more room.
  }
  t.equal(sys.errno(), ERRNO.EAGAIN)
  sys.memory.bytes.write('bytes', AREA.stage, 'latin1')
  for (const [place, [fd]] of [good, gone, full, last].entries()) batch.stage(place, fd, AREA.stage, 5)
  t.equal(batch.submit(4), 4)
  t.strictSame(
    [0, 1, 2, 3].map((place) => batch.result(place)),
    [5, -ERRNO.EPIPE, -ERRNO.EAGAIN, 5],
  )
  t.equal(drained(sys, last[1]).toString('latin1'), 'bytes')

  const closed = sys.socketPair()
  for (const fd of closed) sys.close(fd)
  for (const [place, [fd]] of [good, closed, last].entries()) batch.stage(place, fd, AREA.stage, 5)
  t.equal(batch.submit(3), 1, 'what is no descriptor ends the batch before it')
  t.equal(drained(sys, last[1]).length, 0)
  batch.stage(0, closed[0], AREA.stage, 5)
  const taken = batch.submit(1)
  // Before tap writes: that would leave an errno of its own.
  const errno = sys.errno()
  t.equal(taken, 0)
  t.equal(errno, EBADF)
  t.throws(() => batch.stage(0, last[0], AREA.size - 4, 5), RangeError, 'bytes outside of the memory are not given')
  for (const fd of [...good, gone[0], ...full, ...last]) sys.close(fd)
  batch.close()
})

t.test('the context of a worker that died is given back by the next one', { skip }, async (t) => {
  const before = rings()
  const { sys, held } = open() as Opened
  t.equal(rings(), before + 1)
  const next = SendBatch.open(sys, held)
  t.equal(rings(), before + 1, 'the one left behind is gone')
  next?.close()
  t.equal(rings(), before)
})

/** A side of a connection, as the outbox knows it, with the queue of what the kernel did not take. */
class TestOutlet implements Outlet {
  readonly fd: number
  mark = 0
  private readonly waiting: Buffer[] = []
  private readonly sys: Syscalls
  private readonly batches: { short: number; settled: number }

  constructor(sys: Syscalls, fd: number, batches: { short: number; settled: number }) {
    this.sys = sys
    this.fd = fd
    this.batches = batches
  }

  get queued(): number {
    return this.waiting.reduce((sum, bytes) => sum + bytes.length, 0)
  }

  private keep(from: number, to: number): void {
    this.waiting.push(Buffer.from(this.sys.memory.bytes.subarray(from, to)))
  }

  send(from: number, to: number): void {
    if (this.queued > 0) {
      this.keep(from, to)
      return
    }
    const sent = Math.max(0, this.sys.send(this.fd, from, to - from))
    if (sent < to - from) this.keep(from + sent, to)
  }

  sent(from: number, to: number, sent: number): void {
    if (sent < 0 && sent !== -ERRNO.EAGAIN) throw new Error(`errno ${-sent}`)
    this.batches.short++
    this.keep(from + Math.max(0, sent), to)
  }

  settle(): void {
    this.batches.settled++
  }

  /** Sends what waits, as after EPOLLOUT. */
  retry(): void {
    for (let first = this.waiting.shift(); first !== undefined; first = this.waiting.shift()) {
      const length = Math.min(first.length, AREA.stageBytes)
      this.sys.memory.bytes.set(first.subarray(0, length), AREA.stage)
      const sent = Math.max(0, this.sys.send(this.fd, AREA.stage, length))
      if (sent < first.length) this.waiting.unshift(first.subarray(sent))
      if (sent < length) return
    }
  }
}

t.test('a batch has one write of each outlet, so that what falls short of it goes first', { skip }, async (t) => {
  const { sys, batch } = open() as Opened
  const outbox = new Outbox(sys.memory, batch)
  const pairs = Array.from({ length: 6 }, () => sys.socketPair())
  const outlets = pairs.map(([fd]) => new TestOutlet(sys, fd, { short: 0, settled: 0 }))
  const staged: number[] = []
  const submitted: number[][] = []
  const { stage, submit } = batch
  batch.stage = (place, fd, at, length) => {
    staged[place] = fd
    stage.call(batch, place, fd, at, length)
  }
  batch.submit = (count) => {
    submitted.push(staged.slice(0, count))
    return submit.call(batch, count)
  }
  for (const side of [0, 1, 2, 3, 4, 0, 5, 1, 2, 3, 0, 0]) outbox.addCopy(outlets[side], Buffer.from([side]), 0, 1)
  outbox.finish()
  const fds = pairs.map(([fd]) => fd)
  t.strictSame(submitted, [fds.slice(0, 5), [0, 5, 1, 2, 3].map((side) => fds[side])])
  t.strictSame(
    pairs.map(([, peer]) => drained(sys, peer).length),
    [4, 2, 2, 2, 1, 1],
  )
  for (const pair of pairs) for (const fd of pair) sys.close(fd)
  batch.close()
})

const SIDES = 12
const SOL_SOCKET = 1
const SO_SNDBUF = 7

/** Has the kernel hold as few bytes for sockets as it will. */
function narrow(fds: number[]): void {
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi').default
  const setsockopt = koffi.load('libc.so.6').func('int setsockopt(int, int, int, void *, uint)')
  for (const fd of fds) setsockopt(fd, SOL_SOCKET, SO_SNDBUF, Buffer.from([0, 8, 0, 0]), 4)
}

t.test(
  'an outbox with batches keeps the order of every stream, however little the kernel takes',
  { skip },
  async (t) => {
    const batches = { short: 0, settled: 0 }
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            {
              weight: 8,
              arbitrary: fc.tuple(
                fc.nat(SIDES - 1),
                fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 60_000 })),
              ),
            },
            { weight: 1, arbitrary: fc.constant('finish' as const) },
            { weight: 1, arbitrary: fc.tuple(fc.constant('read' as const), fc.nat(SIDES - 1)) },
          ),
          { minLength: 10, maxLength: 150 },
        ),
        (steps) => {
          const { sys, batch } = open() as Opened
          const outbox = new Outbox(sys.memory, batch)
          const pairs = Array.from({ length: SIDES }, () => sys.socketPair())
          narrow(pairs.map(([fd]) => fd))
          const outlets = pairs.map(([fd]) => new TestOutlet(sys, fd, batches))
          const expected: Buffer[][] = pairs.map(() => [])
          const received: Buffer[][] = pairs.map(() => [])
          let serial = 0
          const finish = (): void => {
            outbox.finish()
            for (const outlet of outlets) outlet.retry()
          }
          for (const step of steps) {
            if (step === 'finish') finish()
            else if (step[0] === 'read') {
              // The outbox holds bytes where a read would land.
              finish()
              received[step[1]].push(drained(sys, pairs[step[1]][1]))
            } else {
              const [side, length] = step
              const bytes = Buffer.alloc(length)
              for (let i = 0; i < length; i++) bytes[i] = ++serial * 31
              if (!outbox.addCopy(outlets[side], bytes, 0, length)) {
                finish()
                outbox.addCopy(outlets[side], bytes, 0, length)
              }
              expected[side].push(bytes)
            }
          }
          finish()
          for (const [side, [, peer]] of pairs.entries()) {
            for (;;) {
              const bytes = drained(sys, peer)
              if (bytes.length === 0 && outlets[side].queued === 0) break
              received[side].push(bytes)
              outlets[side].retry()
            }
          }
          for (const pair of pairs) for (const fd of pair) sys.close(fd)
          batch.close()
          return expected.every((parts, side) => Buffer.concat(parts).equals(Buffer.concat(received[side])))
        },
      ),
      { numRuns: 100 },
    )
    t.ok(batches.short > 100, `${batches.short} writes of batches fell short`)
    t.equal(batches.settled, batches.short)
  },
)
