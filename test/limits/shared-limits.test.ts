/** The shared table of who has how much of what, against a model; what a dead worker held; time that passes. */
import fc from 'fast-check'
import t from 'tap'
import { rateOf } from '../../src/limits/gcra.ts'
import { ConnectionLimiter, limitsBytes, SharedLimits, SLOTS } from '../../src/limits/shared-limits.ts'

const WORKERS = 3
const NONE = { perClient: Number.POSITIVE_INFINITY, perTarget: Number.POSITIVE_INFINITY, newConnections: null }
const NO_RATES = { perClient: null, perTarget: null, inFlightPerTarget: Number.POSITIVE_INFINITY }

function limits(): SharedLimits[] {
  const memory = new SharedArrayBuffer(limitsBytes(WORKERS))
  return Array.from({ length: WORKERS }, (_, worker) => new SharedLimits(memory, worker))
}

/** How many more connections the client could have, were its limit `most`. */
function room(limits: SharedLimits, client: number, target: number, most: number): number {
  let n = 0
  while (limits.connect(client, target, { ...NONE, perClient: most }, 0, false)) n++
  for (let i = 0; i < n; i++) limits.disconnect(client, target)
  return n
}

t.test('connections and requests are counted as a model counts them, by all workers together', (t) => {
  const command = fc.record({
    kind: fc.constantFrom('connect', 'disconnect', 'request', 'answer', 'die'),
    worker: fc.nat({ max: WORKERS - 1 }),
    client: fc.nat({ max: 2 }),
    force: fc.boolean(),
  })
  fc.assert(
    fc.property(
      fc.array(command, { maxLength: 200 }),
      fc.integer({ min: 1, max: 6 }),
      fc.integer({ min: 1, max: 6 }),
      fc.integer({ min: 1, max: 6 }),
      (commands, perClient, perTarget, inFlightPerTarget) => {
        const workers = limits()
        // Held by a worker that does not die.
        const clients = [1n, 2n, 3n].map((address) => workers[0].holdSlot(7, address, 0))
        const target = workers[0].holdSlot(9, 1n, 0)
        /** By worker and client. */
        const open = workers.map(() => [0, 0, 0])
        const flying = workers.map(() => 0)
        const ofClient = (client: number) => open.reduce((sum, by) => sum + by[client], 0)
        const all = (list: number[]) => list.reduce((sum, n) => sum + n, 0)
        for (const { kind, worker, client, force } of commands) {
          const mine = workers[worker]
          if (kind === 'connect') {
            const within = ofClient(client) < perClient && all(open.map(all)) < perTarget
            const terms = { perClient, perTarget, newConnections: null }
            if (mine.connect(clients[client], target, terms, 0, force) !== within) return false
            if (within || force) open[worker][client]++
          } else if (kind === 'disconnect') {
            if (open[worker][client] === 0) continue
            mine.disconnect(clients[client], target)
            open[worker][client]--
          } else if (kind === 'request') {
            const limiter = new ConnectionLimiter(mine, clients[client], target, { ...NO_RATES, inFlightPerTarget })
            const within = all(flying) < inFlightPerTarget
            if (limiter.acquire(0, force) !== within) return false
            if (within || force) flying[worker]++
          } else if (kind === 'answer') {
            if (flying[worker] === 0) continue
            mine.answered(target)
            flying[worker]--
          } else if (worker !== 0) {
            workers[0].forfeit(worker)
            open[worker] = [0, 0, 0]
            flying[worker] = 0
          }
        }
        const most = 1000
        return clients.every((slot, client) => room(workers[0], slot, target, most) === most - ofClient(client))
      },
    ),
    { numRuns: 150 },
  )
  t.end()
})

t.test('an address has one slot in a role, whoever asks, until nobody holds it', (t) => {
  const [one, two] = limits()
  const slot = one.holdSlot(7, 0xffff0a000001n, 0)
  t.equal(two.holdSlot(7, 0xffff0a000001n, 0), slot)
  t.not(two.holdSlot(8, 0xffff0a000001n, 0), slot, 'another role')
  t.not(two.holdSlot(7, 0xffff0a000002n, 0), slot, 'another address')
  const high = one.holdSlot(7, 1n << 127n, 0)
  t.not(one.holdSlot(7, 1n << 96n, 0), high, 'all 128 bits count')
  t.equal(one.holdSlot(7, 1n << 127n, 0), high)
  t.end()
})

t.test('a table that is full says so, and takes others when its holders have gone', (t) => {
  const [one, two] = limits()
  const held: number[] = []
  let refused = 0
  for (let address = 0n; address < BigInt(SLOTS) + 500n; address++) {
    const slot = one.holdSlot(7, address, 0)
    if (slot === -1) refused++
    else held.push(slot)
  }
  t.equal(new Set(held).size, held.length, 'no slot has two holders')
  t.ok(held.length > 0.95 * SLOTS, `${held.length} of ${SLOTS} are used`)
  t.ok(refused >= 500)
  for (const slot of held) one.releaseSlot(slot)
  let again = 0
  for (let address = 1_000_000n; address < 1_000_000n + BigInt(SLOTS) / 2n; address++) {
    if (two.holdSlot(7, address, 1) !== -1) again++
  }
  t.equal(again, SLOTS / 2)
  t.end()
})

t.test('a client cannot shed its rate by leaving: its slot stays until the rate has nothing more to say', (t) => {
  const [one] = limits()
  const terms = { ...NONE, newConnections: rateOf(1, 2) }
  const target = one.holdSlot(9, 1n, 0)
  const come = (us: number): boolean => {
    const client = one.holdSlot(7, 5n, us)
    const passed = one.connect(client, target, terms, us, false)
    if (passed) one.disconnect(client, target)
    one.releaseSlot(client)
    return passed
  }
  t.same([come(0), come(0), come(0)], [true, true, false])
  for (let address = 100n; address < 100n + 6n * BigInt(SLOTS); address++) {
    const slot = one.holdSlot(7, address, 0)
    if (slot !== -1) one.releaseSlot(slot)
  }
  t.notOk(come(500_000))
  t.ok(come(1_000_000))
  t.end()
})

t.test('what one limit refuses costs nothing of another', (t) => {
  const [one] = limits()
  const client = one.holdSlot(7, 1n, 0)
  const target = one.holdSlot(9, 1n, 0)
  const terms = { perClient: rateOf(1, 5), perTarget: rateOf(1, 1), inFlightPerTarget: 100 }
  t.ok(one.request(client, target, terms, 0, false))
  for (let i = 0; i < 50; i++) t.notOk(one.request(client, target, terms, 0, false))
  let left = 0
  while (one.request(client, target, { ...terms, perTarget: null }, 0, false)) left++
  t.equal(left, 4, "the client's own rate lost only what passed")
  t.end()
})

t.test('the dead hold nothing: neither counts, nor slots, nor the lock', (t) => {
  const memory = new SharedArrayBuffer(limitsBytes(2))
  const [living, dying] = [new SharedLimits(memory, 0), new SharedLimits(memory, 1)]
  const client = dying.holdSlot(7, 1n, 0)
  const target = dying.holdSlot(9, 1n, 0)
  living.holdSlot(9, 1n, 0)
  for (let i = 0; i < 3; i++) dying.connect(client, target, NONE, 0, false)
  for (let i = 0; i < 2; i++) dying.request(client, target, { ...NO_RATES, inFlightPerTarget: 2 }, 0, false)
  t.notOk(living.request(client, target, { ...NO_RATES, inFlightPerTarget: 2 }, 0, false))
  // As a worker leaves it that dies within `holdSlot`.
  Atomics.store(new Int32Array(memory), 0, 2)
  living.forfeit(1)
  t.ok(living.request(client, target, { ...NO_RATES, inFlightPerTarget: 1 }, 0, false))
  const held = living.holdSlot(7, 1n, 0)
  t.equal(held, client)
  t.equal(room(living, held, target, 10), 10)
  living.forfeit(1)
  t.equal(room(living, held, target, 10), 10, 'and only once')
  t.end()
})

t.test('the lock of a living worker is not taken from it', (t) => {
  const memory = new SharedArrayBuffer(limitsBytes(2))
  const cells = new Int32Array(memory)
  Atomics.store(cells, 0, 1)
  new SharedLimits(memory, 0).forfeit(1)
  t.equal(Atomics.load(cells, 0), 1)
  t.end()
})

t.test('however long a client is silent, it has its whole burst again', (t) => {
  const MINUTE = 60_000_000
  for (const minutes of [1, 20, 35, 36, 60, 71, 72, 73, 143, 600]) {
    const [one] = limits()
    const client = one.holdSlot(7, 1n, 0)
    const target = one.holdSlot(9, 1n, 0)
    const terms = { ...NO_RATES, perClient: rateOf(1, 1000) }
    const burst = (us: number): number => {
      let n = 0
      while (one.request(client, target, terms, us | 0, false)) n++
      return n
    }
    t.equal(burst(0), 1000)
    for (let minute = 1; minute <= minutes; minute++) one.age((minute * MINUTE) | 0)
    t.equal(burst(minutes * MINUTE), Math.min(1000, minutes * 60), `${minutes} minutes`)
  }
  t.end()
})
