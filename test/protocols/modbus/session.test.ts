/** One Modbus session without sockets, case by case: what it forwards, answers, counts and gives up. */
import t from 'tap'
import { adu, registers, u16 } from '../../support/modbus.ts'
import type { RuleText } from '../../support/policy.ts'
import { answer } from '../../support/server.ts'
import { CountingLimiter, planOf, SessionHarness, sessionPolicy } from '../../support/session.ts'
import { adus } from '../../support/sockets.ts'

const READ = adu(1, 1, [3, 0, 0, 0, 2])
const hexOf = (...frames: Uint8Array[]) => Buffer.concat(frames).toString('hex')
const exception = (transaction: number, unit: number, code: number, exceptionCode: number) =>
  adu(transaction, unit, [code | 0x80, exceptionCode])

/** What becomes of one request under `rules`. */
function verdictOf(rules: RuleText[], pdu: number[], unit = 1): { passed: boolean; verdict: string; rule: number } {
  const harness = new SessionHarness(sessionPolicy({ rules }))
  harness.client(adu(1, unit, pdu))
  const [verdict] = Object.keys(harness.requests())
  return {
    passed: harness.targetWrites.length > 0,
    verdict: verdict.replace(/^\d+ /, ''),
    rule: harness.reports.at(-1)?.rule ?? -1,
  }
}

t.test('deny rules: they bind whatever others allow, and one that monitors opens no way', async (t) => {
  const deny: RuleText = { action: 'deny', functions: ['write'] }
  const allow = { functions: ['all'] }
  const WRITE = [6, 0, 5, 0, 1]
  t.strictSame(verdictOf([allow, deny], WRITE), { passed: false, verdict: 'deny function', rule: 1 })
  t.strictSame(verdictOf([allow, { ...deny, mode: 'monitor' }], WRITE), {
    passed: true,
    verdict: 'would_deny function',
    rule: 1,
  })

  // Nothing allows the write: the deny rule's monitoring is no leave to pass.
  const reads = { functions: ['read'] }
  t.strictSame(verdictOf([reads, { ...deny, mode: 'monitor' }], WRITE), {
    passed: false,
    verdict: 'deny function',
    rule: 0,
  })
  t.strictSame(
    verdictOf([reads, { ...deny, mode: 'monitor' }], [6, 0, 5, 0]),
    { passed: false, verdict: 'deny function', rule: 0 },
    'malformed',
  )
  t.strictSame(
    verdictOf([{ functions: ['8/0'] }, { action: 'deny', mode: 'monitor', functions: [8] }], [8, 0, 1, 0, 0, 0]),
    { passed: false, verdict: 'deny function', rule: 0 },
    'malformed, of a sub-function that no rule allows',
  )
  t.strictSame(
    verdictOf(
      [reads, { action: 'deny', mode: 'monitor', functions: [6], addresses: { 'holding-registers': [9] } }],
      WRITE,
    ),
    { passed: false, verdict: 'deny function', rule: 0 },
    'outside the addresses of a deny rule that monitors',
  )

  // A malformed write must not pass a deny rule because the allow rule beside it only monitors.
  t.strictSame(verdictOf([{ ...allow, mode: 'monitor' }, deny], [...WRITE, 0]), {
    passed: false,
    verdict: 'deny malformed',
    rule: 1,
  })
  t.strictSame(verdictOf([{ ...allow, mode: 'monitor' }], [...WRITE, 0]), {
    passed: true,
    verdict: 'would_deny malformed',
    rule: 0,
  })

  const some: RuleText = { action: 'deny', functions: [23], addresses: { 'holding-registers': ['10-19'] } }
  const touching = (read: number, write: number) => [23, ...u16(read), 0, 1, ...u16(write), 0, 1, 2, 0, 0]
  t.strictSame(verdictOf([allow, some], touching(0, 0)), { passed: true, verdict: 'allow', rule: -1 })
  t.strictSame(verdictOf([allow, some], touching(10, 0)), { passed: false, verdict: 'deny address', rule: 1 })
  t.strictSame(verdictOf([allow, some], touching(0, 19)), { passed: false, verdict: 'deny address', rule: 1 })
})

t.test('the rule that is named came nearest: pair, unit, function, address, value', async (t) => {
  const rules: RuleText[] = [
    { unit_ids: [9], functions: ['all'] },
    { unit_ids: [1], functions: [3] },
    { unit_ids: [1], functions: [6], addresses: { 'holding-registers': [7] } },
    {
      unit_ids: [1],
      functions: [6],
      addresses: { 'holding-registers': ['0-9'] },
      values: { 'holding-registers': { '0-9': { max: 5 } } },
    },
  ]
  t.strictSame(verdictOf(rules, [3, 0, 0, 0, 1], 2), { passed: false, verdict: 'deny unit', rule: 0 })
  t.strictSame(verdictOf(rules, [1, 0, 0, 0, 1]), { passed: false, verdict: 'deny function', rule: 1 })
  t.strictSame(verdictOf(rules, [6, 0, 10, 0, 1]), { passed: false, verdict: 'deny address', rule: 2 })
  t.strictSame(verdictOf(rules, [6, 0, 3, 0, 6]), { passed: false, verdict: 'deny value', rule: 3 })
  t.strictSame(verdictOf(rules, [6, 0, 7, 0, 6]), { passed: true, verdict: 'allow', rule: -1 })
})

t.test('max_step is held against the value last seen', async (t) => {
  const policy = sessionPolicy({
    rules: [{ functions: [3, 6, 16, 22], values: { 'holding-registers': { '0-9': { max_step: 10 } } } }],
  })
  const write = (id: number, address: number, value: number) => adu(id, 1, [6, ...u16(address), ...u16(value)])
  const readBack = (id: number, value: number, ...more: number[]) => adu(id, 1, [3, 2, ...u16(value), ...more])
  const harness = new SessionHarness(policy)
  let id = 0
  const sent = (frame: Buffer) => {
    const before = harness.targetWrites.length
    harness.client(frame)
    return harness.targetWrites.length > before
  }
  t.notOk(sent(write(++id, 5, 100)), 'nothing is known of the register yet')
  t.ok(sent(adu(++id, 1, [3, 0, 5, 0, 1])))
  harness.target(readBack(id, 100))
  t.notOk(sent(write(++id, 5, 111)))
  t.ok(sent(write(++id, 5, 110)))
  t.notOk(sent(write(++id, 5, 99)), 'a write under way counts as done')
  harness.target(write(id - 1, 5, 110))
  t.ok(sent(write(++id, 5, 120)))
  harness.target(exception(id, 1, 6, 4))
  t.notOk(sent(write(++id, 5, 120)), 'a write that failed leaves the value unknown')
  t.ok(sent(adu(++id, 1, [3, 0, 5, 0, 1])))
  harness.target(readBack(id, 120))
  t.ok(sent(write(++id, 5, 125)))
  harness.pass(3100)
  t.match(harness.reports.at(-1), { kind: 'timeout' })
  t.notOk(sent(write(++id, 5, 125)), 'one that was not answered does so too')
  t.ok(sent(write(++id, 10, 60_000)), 'a register without a limit')
  // FC 16 over two registers, one of them known: (5: 7), (6: unknown).
  t.notOk(sent(adu(++id, 1, [16, 0, 5, 0, 2, 4, ...registers([125, 0])])))
  t.equal(harness.ended, '')
})

t.test('bytes behind a tolerated response teach nothing', async (t) => {
  const policy = sessionPolicy({
    rules: [
      {
        functions: [3, 6],
        tolerate: ['trailing-bytes'],
        values: { 'holding-registers': { '0-9': { max_step: 10 } } },
      },
    ],
  })
  const harness = new SessionHarness(policy)
  harness.client(adu(1, 1, [3, 0, 0, 0, 1]))
  harness.target(adu(1, 1, [3, 2, 0, 50, 0x10, 0x00]))
  t.equal(harness.clientWrites.length, 1)
  harness.client(adu(2, 1, [6, 0, 1, 0x10, 0]))
  t.equal(harness.targetWrites.length, 1, 'register 1 was not read')
  harness.client(adu(3, 1, [6, 0, 0, 0, 55]))
  t.equal(harness.targetWrites.length, 2, 'register 0 was')
})

t.test('quirks of devices: strict denies, a rule that tolerates lets pass and counts', async (t) => {
  const good = answer(READ)
  const altered = (change: (frame: Buffer) => void) => {
    const frame = Buffer.from(good)
    change(frame)
    return frame
  }
  const quirks = {
    'unit-mismatch': altered((frame) => {
      frame[6] = 255
    }),
    'zero-transaction-id': altered((frame) => frame.writeUInt16BE(0, 0)),
    'transaction-id-mismatch': altered((frame) => frame.writeUInt16BE(0x77, 0)),
    'vendor-exceptions': adu(1, 1, [0x83, 0x80]),
    'trailing-bytes': adu(1, 1, [...good.subarray(7), 1, 2]),
  } as const
  const reasons: Record<string, string> = { 'vendor-exceptions': 'malformed', 'trailing-bytes': 'malformed' }
  const names = Object.keys(quirks) as (keyof typeof quirks)[]
  for (const [index, quirk] of names.entries()) {
    const response = quirks[quirk]
    for (const tolerated of names) {
      const harness = new SessionHarness(sessionPolicy({ rules: [{ functions: [3], tolerate: [tolerated] }] }))
      harness.client(READ)
      harness.target(response)
      // A device with identifiers of its own may count from 0.
      const passes = tolerated === quirk || (tolerated === 'transaction-id-mismatch' && quirk === 'zero-transaction-id')
      t.equal(harness.toClientHex, passes ? response.toString('hex') : '', `${quirk} where ${tolerated} is tolerated`)
      const { counters } = harness.plan.terms
      t.equal(harness.plan.cells[counters.tolerated + index], passes ? 1 : 0)
      if (passes) t.match(harness.reports, [{ kind: 'tolerated', detail: quirk }])
      else t.match(harness.reports, [{ kind: 'response', reason: reasons[quirk] ?? 'state', would: false }])
      if (!passes) {
        harness.target(good)
        t.equal(harness.toClientHex, good.toString('hex'), 'the right answer still finds its request')
      }
    }
  }
  const both = new SessionHarness(
    sessionPolicy({ rules: [{ functions: [3], tolerate: ['unit-mismatch', 'trailing-bytes'] }] }),
  )
  both.client(READ)
  both.target(
    altered((frame) => {
      frame[6] = 255
    }),
  )
  both.client(READ)
  const odd = Buffer.from(quirks['trailing-bytes'])
  odd[6] = 255
  both.target(odd)
  const { tolerated } = both.plan.terms.counters
  t.strictSame(
    [...both.plan.cells.slice(tolerated, tolerated + 5)],
    [2, 0, 0, 0, 1],
    'each quirk of a response is counted',
  )
})

t.test('a late answer is not taken for the next, though the transaction identifier comes again', async (t) => {
  const policy = sessionPolicy({ rules: [{ functions: [3] }], timeouts: { responseMs: 1000 } })
  const harness = new SessionHarness(policy)
  const request = (address: number) => adu(7, 1, [3, ...u16(address), 0, 1])
  harness.client(request(0))
  harness.pass(1100)
  t.equal(harness.toClientHex, hexOf(exception(7, 1, 3, 0x0b)))
  t.match(harness.reports, [{ kind: 'timeout' }])
  harness.client(request(1))
  t.equal(harness.drops, 1, 'the stream to the target was given up')
  t.equal(harness.redials, 1, 'and another one begun')
  harness.target(answer(request(1)))
  t.equal(harness.toClientHex, hexOf(exception(7, 1, 3, 0x0b), answer(request(1))))

  const other = new SessionHarness(policy)
  other.client(adu(1, 1, [3, 0, 0, 0, 1]))
  other.pass(1100)
  other.client(adu(2, 1, [3, 0, 5, 0, 1]))
  other.target(Buffer.concat([answer(adu(1, 1, [3, 0, 0, 0, 1])), answer(adu(2, 1, [3, 0, 5, 0, 1]))]))
  t.equal(other.toClientHex, hexOf(exception(1, 1, 3, 0x0b), answer(adu(2, 1, [3, 0, 5, 0, 1]))))
  t.equal(other.drops, 0, 'another identifier: the late answer is told from it, and dropped')
  t.strictSame(other.responses(), { allow: 1, 'deny state': 1, 'deny timeout': 1 })
  other.client(adu(1, 1, [3, 0, 0, 0, 1]))
  t.equal(other.drops, 0, 'the late answer has come: its identifier is free again')

  const counter = new SessionHarness(
    sessionPolicy({
      rules: [{ functions: [3], tolerate: ['transaction-id-mismatch'] }],
      timeouts: { responseMs: 1000 },
    }),
  )
  counter.client(adu(1, 1, [3, 0, 0, 0, 1]))
  counter.pass(1100)
  t.equal(counter.drops, 1, 'where identifiers tell nothing, the stream is given up at once')
})

t.test(
  're-used transaction identifiers in flight: each request has its own answer, first come first served',
  async (t) => {
    const harness = new SessionHarness(sessionPolicy({ rules: [{ functions: [3] }] }))
    const requests = [1, 2, 3].map((quantity) => adu(0, 1, [3, 0, 0, ...u16(quantity)]))
    harness.client(Buffer.concat([...requests, requests[0]]))
    const answers = requests.map(answer)
    harness.target(Buffer.concat([...answers, answers[0]]))
    t.equal(harness.toClientHex, hexOf(...answers, answers[0]))
    harness.target(answers[0])
    t.strictSame(harness.responses(), { allow: 4, 'deny state': 1 })
  },
)

t.test('a write is answered by its echo and by nothing else', async (t) => {
  for (const [pdu, wrong] of [
    [
      [6, 0, 1, 0, 9],
      [6, 0, 1, 0, 8],
    ],
    [
      [5, 0, 1, 0xff, 0],
      [5, 0, 1, 0, 0],
    ],
    [
      [16, 0, 1, 0, 1, 2, 0, 9],
      [16, 0, 1, 0, 2],
    ],
    [
      [22, 0, 1, 0, 9, 0, 1],
      [22, 0, 1, 0, 9, 0, 2],
    ],
  ]) {
    const harness = new SessionHarness(sessionPolicy({ rules: [{ functions: ['write'] }] }))
    harness.client(adu(1, 1, pdu))
    harness.target(adu(1, 1, wrong))
    t.equal(harness.toClientHex, '', `FC ${pdu[0]}`)
    t.strictSame(harness.responses(), { 'deny state': 1 })
    harness.target(answer(adu(1, 1, pdu)))
    t.equal(harness.clientWrites.length, 1)
  }
})

t.test('Force Listen Only Mode is forwarded and owed no answer', async (t) => {
  const harness = new SessionHarness(sessionPolicy({ rules: [{ functions: [8, 3] }] }))
  harness.client(Buffer.concat([adu(1, 1, [8, 0, 4, 0, 0]), READ]))
  t.equal(harness.pending, 1)
  harness.target(answer(READ))
  t.equal(harness.toClientHex, hexOf(answer(READ)))
})

t.test('the target: down, lost, closed, garbled, silent in the middle of a frame', async (t) => {
  const policy = sessionPolicy({ rules: [{ functions: [3] }], timeouts: { partialFrameMs: 500 } })
  const two = [adu(1, 1, [3, 0, 0, 0, 1]), adu(2, 9, [3, 0, 0, 0, 1])]

  const down = new SessionHarness(policy)
  down.client(Buffer.concat(two))
  down.session.onTargetLost(false)
  t.equal(down.toClientHex, hexOf(exception(1, 1, 3, 0x0a), exception(2, 9, 3, 0x0a)))
  down.redialling = false
  down.client(two[0])
  t.equal(down.clientWrites.length, 2, 'while no dial may be tried: 0A at once')
  t.strictSame(down.requests(), { '3 allow': 2, '3 deny timeout': 1 })
  down.redialling = true
  down.client(two[0])
  t.equal(down.targetWrites.length, 2)
  down.target(answer(two[0]))
  t.equal(down.clientWrites.length, 3)

  const lost = new SessionHarness(policy)
  lost.client(Buffer.concat(two))
  lost.target(answer(two[1]).subarray(0, 5))
  lost.session.onTargetLost(true)
  t.equal(lost.toClientHex, hexOf(exception(1, 1, 3, 0x0b), exception(2, 9, 3, 0x0b)))
  lost.client(two[0])
  lost.target(answer(two[0]))
  t.equal(lost.clientWrites.length, 2, 'the part of a frame from before is forgotten')

  const closed = new SessionHarness(policy)
  closed.client(two[0])
  closed.session.onTargetEnd()
  t.equal(closed.toClientHex, hexOf(exception(1, 1, 3, 0x0b)))
  t.equal(closed.ended, 'finish')

  const garbled = new SessionHarness(policy)
  garbled.client(Buffer.concat(two))
  garbled.target(Buffer.concat([answer(two[0]), Buffer.from('HTTP/1.1 400 Bad Request\r\n'), answer(two[1])]))
  t.equal(garbled.toClientHex, hexOf(answer(two[0]), exception(2, 9, 3, 0x0b)))
  t.equal(garbled.drops, 1)
  t.equal(garbled.ended, '', "the client's connection stays")

  const stuck = new SessionHarness(policy)
  stuck.client(two[0])
  stuck.target(answer(two[0]).subarray(0, 8))
  stuck.pass(600)
  t.equal(stuck.drops, 1)
  t.equal(stuck.toClientHex, hexOf(exception(1, 1, 3, 0x0b)))
})

t.test('time-outs of the client: a frame that never ends, and silence', async (t) => {
  const policy = sessionPolicy({ rules: [{ functions: [3] }], timeouts: { partialFrameMs: 500, idleMs: 5000 } })
  const slow = new SessionHarness(policy)
  for (const byte of READ.subarray(0, 10)) {
    slow.client(Buffer.from([byte]))
    slow.pass(60)
  }
  t.equal(slow.ended, 'finish', 'a byte now and then does not keep a frame open')
  t.match(slow.reports, [{ kind: 'request', reason: 'malformed' }])

  const idle = new SessionHarness(policy)
  idle.client(READ)
  idle.target(answer(READ))
  idle.pass(4900)
  t.equal(idle.ended, '')
  idle.client(READ)
  idle.target(answer(READ))
  idle.pass(4900)
  t.equal(idle.ended, '')
  idle.pass(200)
  t.equal(idle.ended, 'finish')

  const monitored = new SessionHarness(
    sessionPolicy({ mode: 'monitor', rules: [{ functions: [3] }], timeouts: { partialFrameMs: 500, idleMs: 1000 } }),
  )
  monitored.client(READ.subarray(0, 3))
  monitored.pass(5000)
  t.equal(monitored.ended, '', 'monitor mode closes nothing')
})

t.test('the client half-closes: what is outstanding is answered first', async (t) => {
  const harness = new SessionHarness(sessionPolicy({ rules: [{ functions: [3] }] }))
  harness.client(Buffer.concat([READ, adu(2, 1, [6, 0, 0, 0, 0])]))
  harness.session.onClientEnd()
  t.equal(harness.ended, '')
  harness.target(answer(READ))
  t.equal(harness.toClientHex, hexOf(answer(READ), exception(2, 1, 6, 1)))
  t.equal(harness.ended, 'finish')
})

t.test('pacing: held back in order, bounded in number and time, and judged anew by a new policy', async (t) => {
  const conduit = {
    limits: { onLimit: 'pace', paceQueue: 3, paceMs: 500 },
    rules: [{ functions: [3, 6] }],
  } as const
  const policy = sessionPolicy({ ...conduit, rules: [{ functions: [3, 6] }] })
  const frames = [3, 6, 3, 3, 3].map((code, i) => adu(i + 1, 1, [code, 0, 0, 0, 1]))
  const limiter = new CountingLimiter()
  limiter.full = true
  const harness = new SessionHarness(policy, { limiter })
  harness.client(Buffer.concat(frames))
  t.equal(harness.targetWrites.length, 0)
  t.equal(harness.toClientHex, '', 'the answers to those beyond the queue wait for their turn')
  limiter.full = false
  harness.session.onPace()
  t.equal(harness.toTargetHex, hexOf(...frames.slice(0, 3)))
  harness.target(Buffer.concat(frames.slice(0, 3).map(answer)))
  t.equal(harness.toClientHex, hexOf(...frames.slice(0, 3).map(answer), exception(4, 1, 3, 6), exception(5, 1, 3, 6)))
  t.equal(limiter.held, 0)

  limiter.full = true
  harness.client(frames[0])
  harness.pass(600)
  t.match(harness.reports.at(-1), { reason: 'rate', exception: 6 })
  t.equal(harness.clientWrites.at(-1)?.toString('hex'), hexOf(exception(1, 1, 3, 6)))

  harness.client(Buffer.concat(frames.slice(0, 3)))
  const sentBefore = harness.targetWrites.length
  const stricter = planOf(sessionPolicy({ ...conduit, rules: [{ functions: [3] }] }))
  const listener = policy.gateway?.listeners[0]
  if (listener === undefined) throw new Error('no listener')
  const table = stricter.table(0xffff7f000001n, listener.target)
  if (table === null) throw new Error('no table')
  harness.clientWrites.length = 0
  harness.session.adopt(stricter.terms, table, limiter)
  limiter.full = false
  harness.session.onPace()
  const sent = Buffer.concat(harness.targetWrites.slice(sentBefore))
  t.strictSame(
    adus(sent).map((frame) => frame[7]),
    [3, 3],
    'the write that waited is not sent any more',
  )
  harness.target(Buffer.concat([answer(frames[0]), answer(frames[2])]))
  t.equal(harness.toClientHex, hexOf(answer(frames[0]), exception(2, 1, 6, 1), answer(frames[2])))
})

t.test('a reload from monitor to enforce waits for the end of a frame that is partly through', async (t) => {
  const rules: RuleText[] = [{ functions: [3] }]
  const enforce = sessionPolicy({ rules })
  const harness = new SessionHarness(sessionPolicy({ mode: 'monitor', rules }))
  const write = adu(2, 1, [6, 0, 0, 0, 1])
  harness.client(write.subarray(0, 9))
  const next = planOf(enforce)
  const listener = enforce.gateway?.listeners[0]
  if (listener === undefined) throw new Error('no listener')
  harness.session.adopt(next.terms, next.table(0xffff7f000001n, listener.target) ?? next.noTable(), null)
  t.ok(harness.session.monitoring)
  harness.client(write.subarray(9))
  t.notOk(harness.session.monitoring)
  harness.client(write)
  t.equal(harness.toTargetHex, write.toString('hex'), 'the first went through, the second did not')
})

t.test('monitor: a session that is to close does so when its last request is given up', async (t) => {
  const harness = new SessionHarness(
    sessionPolicy({ mode: 'monitor', rules: [{ functions: [3] }], timeouts: { responseMs: 1000 } }),
  )
  harness.client(READ)
  harness.session.close('no longer in the policy')
  t.equal(harness.ended, '')
  harness.pass(1100)
  t.equal(harness.ended, 'finish')
})

t.test('a flood in one read: a hundred thousand denied requests are all answered, in order', async (t) => {
  const harness = new SessionHarness(sessionPolicy({ rules: [{ functions: [3] }] }))
  const count = 100_000
  const frames = Array.from({ length: count }, (_, i) => adu(i & 0xffff, 1, [6, 0, 0, 0, 0]))
  harness.client(Buffer.concat(frames))
  const answers = Buffer.concat(harness.clientWrites)
  t.equal(answers.length, 9 * count)
  let wrong = 0
  for (let i = 0; i < count; i++) if (answers.readUInt16BE(9 * i) !== (i & 0xffff) || answers[9 * i + 8] !== 1) wrong++
  t.equal(wrong, 0)
  t.strictSame(harness.requests(), { '6 deny function': count })
})

t.test('a gate that is shut denies what the rules allow, from the next read on', async (t) => {
  const harness = new SessionHarness(sessionPolicy({ rules: [{ functions: ['read'] }] }))
  const { gate } = harness.plan.terms
  t.teardown(() => {
    gate[0] = 0
  })
  harness.client(READ)
  harness.target(answer(READ))
  gate[0] = 1
  harness.client(Buffer.concat([READ, READ]))
  t.equal(harness.toTargetHex, hexOf(READ), 'nothing more has reached the target')
  t.strictSame(harness.requests(), { '3 allow': 1, '3 deny evidence': 2 })
  t.equal(harness.reports.at(-1)?.exception, 6, 'server device busy')
  gate[0] = 0
  harness.client(READ)
  t.equal(harness.toTargetHex, hexOf(READ, READ))
})

t.test('an answer that comes before responses waits for them, though not for long', async (t) => {
  const rules = [{ functions: ['read'] }]
  const write = adu(7, 1, [6, 0, 5, 0, 1])
  const mixed = Buffer.concat([write, adu(1, 1, [3, 0, 0, 0, 1]), adu(2, 1, [3, 0, 0, 0, 1])])
  const replies = [adu(1, 1, [3, 2, 0, 9]), adu(2, 1, [3, 2, 0, 9])]

  const quick = new SessionHarness(sessionPolicy({ rules }))
  quick.client(mixed)
  t.equal(quick.clientWrites.length, 0)
  t.equal(quick.soons, 1, 'asks to be looked at')
  quick.target(Buffer.concat(replies))
  t.equal(quick.clientWrites.length, 1, 'one write')
  t.equal(quick.toClientHex, hexOf(exception(7, 1, 6, 1), ...replies), 'in the order of the requests')

  const slow = new SessionHarness(sessionPolicy({ rules }))
  slow.client(mixed)
  slow.pass(20)
  t.equal(slow.toClientHex, hexOf(exception(7, 1, 6, 1)), 'the target is silent: the answer is sent')
  slow.client(adu(8, 1, [6, 0, 5, 0, 1]))
  slow.pass(40)
  t.equal(slow.clientWrites.length, 1, 'one behind the reads waits for their responses')
  slow.target(Buffer.concat(replies))
  t.equal(slow.toClientHex, hexOf(exception(7, 1, 6, 1), ...replies, exception(8, 1, 6, 1)))

  const alone = new SessionHarness(sessionPolicy({ rules }))
  alone.client(Buffer.concat(Array.from({ length: 1000 }, (_, i) => adu(i, 1, [6, 0, 5, 0, 1]))))
  t.equal(
    alone.toClientHex,
    hexOf(...Array.from({ length: 1000 }, (_, i) => exception(i, 1, 6, 1))),
    'with nothing to wait for, at once',
  )
  t.equal(alone.soons, 0)
})

t.test('any number of answers stand between responses, in order, whole, and in as many writes as reads', async (t) => {
  const rules = [{ functions: ['read'] }]
  for (const denied of [1, 2, 27, 28, 29, 30, 31, 120]) {
    const requests: Uint8Array[] = []
    const replies: Uint8Array[] = []
    const owed: Uint8Array[] = []
    for (let i = 0; i <= denied; i++) {
      const read = [adu(i * 2, 1, [3, 0, i, 0, 3]), adu(i * 2, 1, [3, 6, 0, i, 1, 2, 3, 4])]
      requests.push(read[0], adu(i * 2 + 1, 1, [6, 0, 5, 0, 1]))
      replies.push(read[1])
      owed.push(read[1], exception(i * 2 + 1, 1, 6, 1))
    }
    for (const cut of [0, 1, 7, 14]) {
      const harness = new SessionHarness(sessionPolicy({ rules }))
      harness.client(Buffer.concat(requests))
      const bytes = Buffer.concat(replies)
      const at = cut === 0 ? bytes.length : 15 * Math.floor(denied / 2) + cut
      harness.target(bytes.subarray(0, at))
      if (at < bytes.length) harness.target(bytes.subarray(at))
      t.equal(harness.toClientHex, hexOf(...owed), `${denied} denied, cut ${cut} bytes into a response`)
      t.equal(harness.clientWrites.length, cut === 0 || at < 15 ? 1 : 2, 'a write for each read with a whole response')
      t.equal(harness.session.pending, 0)
    }
  }

  // A response that answers nothing is cut out between them.
  const harness = new SessionHarness(sessionPolicy({ rules }))
  harness.client(Buffer.concat([READ, adu(2, 1, [6, 0, 5, 0, 1]), adu(3, 1, [3, 0, 0, 0, 2])]))
  const [first, stray, last] = [1, 9, 3].map((transaction) => adu(transaction, 1, [3, 4, 0, transaction, 0, 0]))
  harness.target(Buffer.concat([stray, first, stray, last, stray]))
  t.equal(harness.toClientHex, hexOf(first, exception(2, 1, 6, 1), last))
  t.equal(harness.clientWrites.length, 1)
})

t.test('paced requests that a reload denies leave no gap that a later one falls into', async (t) => {
  const terms = { limits: { onLimit: 'pace', paceQueue: 5, paceMs: 500 } } as const
  const policy = (functions: number[]) => sessionPolicy({ ...terms, rules: [{ functions }] })
  const limiter = new CountingLimiter()
  const harness = new SessionHarness(policy([3, 6]), { limiter })
  const read = (transaction: number) => adu(transaction, 1, [3, 0, transaction, 0, 1])
  const write = (transaction: number) => adu(transaction, 1, [6, 0, transaction, 0, 7])
  limiter.full = true
  harness.client(Buffer.concat([read(1), write(2), read(3)]))
  harness.adopt(policy([3]), limiter)
  harness.adopt(policy([3, 6]), limiter)
  const later = [write(4), read(5), write(6)]
  harness.client(Buffer.concat(later))
  limiter.full = false
  harness.pass(20)
  t.equal(harness.toTargetHex, Buffer.concat([read(1), read(3), ...later]).toString('hex'), 'each once, in order')
})
