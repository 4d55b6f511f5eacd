/**
 * The one memory that system calls touch, and the places that the outbox gives out in it: what would be written outside
 * is refused, whatever the numbers.
 */
import fc from 'fast-check'
import t from 'tap'
import { Holdings, holdingsBytes } from '../../../src/gateway/linux/holdings.ts'
import { AREA, Memory } from '../../../src/gateway/linux/memory.ts'
import { Outbox } from '../../../src/gateway/linux/outbox.ts'
import { unavailable } from '../../../src/gateway/linux/syscalls.ts'
import { HEAD_ROOM } from '../../../src/protocols/session.ts'

const BASE = 0x7f00_0000_0000
const memory = () => new Memory(Buffer.alloc(AREA.size), BASE)

/** What an outlet has for batches alone, where there are none. */
const ALONE = {
  fd: 0,
  queued: 0,
  mark: 0,
  sent: () => {
    throw new Error('there is no batch')
  },
  settle: () => {},
}

/** Numbers that a slip in the code, or a lie of the kernel's, could bring. */
const anyNumber = fc.oneof(
  fc.integer({ min: -10, max: AREA.size + 10 }),
  fc.integer(),
  fc.double(),
  fc.constantFrom(-1, -0, Number.NaN, Number.POSITIVE_INFINITY, Number.MAX_SAFE_INTEGER, 2 ** 31, 2 ** 32, 2 ** 32 + 1),
  fc.constantFrom(AREA.size - 1, AREA.size, AREA.size + 1, 0.5, AREA.size - 0.5),
)

t.test('a pointer is given for bytes of the memory alone', async (t) => {
  const { pointer } = { pointer: memory().pointer.bind(memory()) }
  fc.assert(
    fc.property(anyNumber, anyNumber, (at, length) => {
      const inside =
        Number.isInteger(at) && Number.isInteger(length) && at >= 0 && length >= 0 && at + length <= AREA.size
      let given: number | null = null
      try {
        given = pointer(at, length)
      } catch (error) {
        if (!(error instanceof RangeError)) throw error
      }
      return inside ? given === BASE + at : given === null
    }),
    { numRuns: 20_000 },
  )
  for (const wrong of ['0', null, undefined, [1], true, 1n]) {
    t.throws(() => pointer(wrong as unknown as number, 1), String(wrong))
    t.throws(() => pointer(0, wrong as unknown as number), String(wrong))
  }
})

t.test('an address that is none is not taken', async (t) => {
  const bytes = Buffer.alloc(AREA.size)
  for (const address of [0, -1, Number.NaN, 2 ** 63]) t.throws(() => new Memory(bytes, address), String(address))
  for (const length of [0, AREA.size - 1, AREA.size + 1]) {
    t.throws(() => new Memory(Buffer.alloc(length), BASE), `${length} bytes`)
  }
})

t.test('areas lie in the memory, one behind the other', async (t) => {
  const areas: [name: string, at: number, bytes: number][] = [
    ['turn', AREA.head, AREA.turnEnd - AREA.head],
    ['stage', AREA.stage, AREA.stageBytes],
    ['epoll', AREA.epoll, AREA.events * 12],
    ['address', AREA.address, AREA.addressBytes],
    ['address length', AREA.addressLength, 4],
    ['option', AREA.option, AREA.optionBytes],
    ['iocbs', AREA.iocbs, AREA.batch * AREA.iocbBytes],
    ['pointers to iocbs', AREA.iocbPointers, AREA.batch * 8],
    ['io events', AREA.ioEvents, AREA.batch * AREA.ioEventBytes],
    ['context', AREA.context, 8],
    ['timer', AREA.timer, AREA.timerBytes],
    ['end', AREA.size, 0],
  ]
  for (const [i, [name, at]] of areas.entries()) {
    if (i === 0) continue
    const [before, from, bytes] = areas[i - 1]
    t.ok(from + bytes <= at, `${before} ends before ${name}`)
  }
  t.equal(memory().bytes.length, AREA.size)
  for (const at of [AREA.epoll, AREA.iocbs, AREA.ioEvents]) t.equal(at % 4, 0, 'what is read as 32-bit words')
})

t.test('real memory: the kernel writes where the pointer says', { skip: unavailable() ?? false }, async (t) => {
  const { Syscalls } = await import('../../../src/gateway/linux/syscalls.ts')
  const sys = new Syscalls()
  sys.memory.bytes.fill(0xaa)
  const fd = sys.listener(0xffff7f000001n, 0, false)
  const { address, port } = sys.localAddress(fd)
  sys.close(fd)
  t.equal(address, 0xffff7f000001n)
  t.ok(port > 0)
  const untouched = sys.memory.bytes.subarray(0, AREA.address)
  t.ok(
    untouched.every((byte) => byte === 0xaa),
    'nothing before the address area',
  )
  t.ok(
    sys.memory.bytes.subarray(AREA.option + AREA.optionBytes).every((byte) => byte === 0xaa),
    'nor behind',
  )
})

t.test(
  'real memory: pointers are small integers, and the next worker has it',
  { skip: unavailable() ?? false },
  async (t) => {
    const { Syscalls } = await import('../../../src/gateway/linux/syscalls.ts')
    const held = new Holdings(new SharedArrayBuffer(holdingsBytes()))
    const first = new Syscalls(held)
    const last = first.memory.pointer(AREA.size - 1, 1)
    t.equal(last, last | 0, 'what V8 allocates nothing for')
    first.memory.bytes[AREA.stage] = 0x5a
    const second = new Syscalls(held)
    t.equal(second.memory.pointer(AREA.size - 1, 1), last)
    t.equal(second.memory.bytes[AREA.stage], 0x5a)
    t.not(new Syscalls().memory.pointer(AREA.size - 1, 1), last, 'another worker has its own')
  },
)

/** A read of some bytes, of which some ranges are to be sent, or bytes from elsewhere, or an early flush. */
const anyStep = fc.oneof(
  fc.record({
    kind: fc.constant('read' as const),
    length: fc.oneof(fc.integer({ min: 1, max: 600 }), fc.integer({ min: 1, max: AREA.readBytes })),
    room: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: HEAD_ROOM })),
    cuts: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 4 }),
  }),
  fc.record({ kind: fc.constant('copy' as const), length: fc.integer({ min: 1, max: 300_000 }) }),
  fc.record({ kind: fc.constant('flush' as const) }),
  fc.record({ kind: fc.constant('finish' as const) }),
)

t.test('the outbox sends all bytes, in order, and gives no byte out twice', async () => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 60 }), (steps) => {
      const owned = memory()
      const outbox = new Outbox(owned, null)
      const sent: number[] = []
      const expected: number[] = []
      let mark = 0
      const outlet = {
        ...ALONE,
        send: (from: number, to: number): void => {
          if (from < AREA.head || to > AREA.turnEnd || from >= to) throw new Error(`sends ${from}…${to}`)
          // Each write carries one mark in all its bytes: any other byte was overwritten while it waited.
          const bytes = owned.bytes.subarray(from, to)
          if (bytes.some((byte) => byte !== bytes[0])) throw new Error('bytes were overwritten while they waited')
          sent.push(bytes[0], to - from)
        },
      }
      for (const step of steps) {
        if (step.kind === 'flush') outbox.flush()
        else if (step.kind === 'finish') outbox.finish()
        else if (step.kind === 'copy') {
          const bytes = Buffer.alloc(step.length, ++mark)
          if (outbox.addCopy(outlet, bytes, 0, step.length)) expected.push(bytes[0], step.length)
          else outbox.finish()
        } else {
          const at = outbox.place(step.room)
          if (at + AREA.readBytes > AREA.turnEnd || at < step.room) throw new Error(`reads at ${at}`)
          // The part of a frame that came before goes in front, so those bytes must be free as well.
          owned.bytes.fill(0, at - step.room, at + step.length)
          outbox.landed(at + step.length)
          const ends = [...new Set(step.cuts.map((cut) => Math.round(cut * step.length)))].sort((a, b) => a - b)
          let from = 0
          for (const end of ends) {
            if (end === from) continue
            owned.bytes.fill(++mark, at + from, at + end)
            outbox.add(outlet, at + from, at + end)
            expected.push(mark & 0xff, end - from)
            from = end
          }
        }
      }
      outbox.finish()
      return JSON.stringify(sent) === JSON.stringify(expected)
    }),
    { numRuns: 300 },
  )
})

t.test('the outbox may be flushed, and added to, from within a write', async (t) => {
  const outbox = new Outbox(memory(), null)
  const order: number[] = []
  const plain = { ...ALONE, send: (from: number) => void order.push(from) }
  const nested = {
    ...ALONE,
    send: (from: number) => {
      order.push(from)
      outbox.add(plain, 900, 901)
      outbox.flush()
    },
  }
  outbox.place(0)
  outbox.landed(1000)
  outbox.add(nested, 600, 601)
  outbox.add(plain, 700, 701)
  outbox.add(plain, 800, 801)
  outbox.finish()
  t.strictSame(order, [600, 700, 800, 900])
})
