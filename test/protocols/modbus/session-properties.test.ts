/** What holds for every session, whatever the bytes and however they are cut: fast-check, no sockets. */
import fc from 'fast-check'
import t from 'tap'
import { adu, registers, u16 } from '../../support/modbus.ts'
import { answer } from '../../support/server.ts'
import { CountingLimiter, SessionHarness, sessionPolicy } from '../../support/session.ts'
import { adus } from '../../support/sockets.ts'

const RUNS = { numRuns: 400 }

function demand(condition: boolean, message: string): void {
  if (!condition) throw new Error(message)
}

// ------------------------------------------------------------------------------------------------ what is generated

/** A request with what must become of it: `null` allowed, else the exception code of V1.1b3 §7 that it is owed. */
interface Case {
  pdu: number[]
  unit: number
  protocol: number
  exception: number | null
}

const RULES = [
  {
    name: 'reads and setpoints',
    unit_ids: ['1-10'],
    functions: [3, 4, 6, 16, 23, '8/0'],
    addresses: { 'holding-registers': ['0-99'], 'input-registers': ['0-9'] },
    values: { 'holding-registers': { '50-59': { min: 10, max: 1000 } } },
  },
]

const unit = fc.integer({ min: 1, max: 10 })
const span = (last: number, most: number) =>
  fc
    .tuple(fc.integer({ min: 0, max: last }), fc.integer({ min: 1, max: most }))
    .map(([address, quantity]) => [address, Math.min(quantity, last - address + 1)] as const)
const request = (
  pdu: fc.Arbitrary<number[]>,
  exception: number | null,
  units: fc.Arbitrary<number> = unit,
): fc.Arbitrary<Case> => fc.record({ pdu, unit: units, protocol: fc.constant(0), exception: fc.constant(exception) })

const allowed: fc.Arbitrary<Case> = fc.oneof(
  request(
    span(99, 100).map(([a, q]) => [3, ...u16(a), ...u16(q)]),
    null,
  ),
  request(
    span(9, 10).map(([a, q]) => [4, ...u16(a), ...u16(q)]),
    null,
  ),
  request(
    fc
      .tuple(fc.integer({ min: 50, max: 59 }), fc.integer({ min: 10, max: 1000 }))
      .map(([a, v]) => [6, ...u16(a), ...u16(v)]),
    null,
  ),
  request(
    span(49, 40).map(([a, q]) => [16, ...u16(a), ...u16(q), 2 * q, ...registers(new Array(q).fill(7))]),
    null,
  ),
  request(
    fc.tuple(span(99, 20), span(49, 5)).map(([[a, q], [w, n]]) => {
      return [23, ...u16(a), ...u16(q), ...u16(w), ...u16(n), 2 * n, ...registers(new Array(n).fill(9))]
    }),
    null,
  ),
  request(
    fc.uint8Array({ minLength: 2, maxLength: 2 }).map((data) => [8, 0, 0, ...data]),
    null,
  ),
)

const denied: fc.Arbitrary<Case> = fc.oneof(
  // Unit and function: 01.
  request(fc.constant([3, 0, 0, 0, 1]), 1, fc.integer({ min: 11, max: 255 })),
  request(fc.constant([5, 0, 0, 0xff, 0]), 1),
  request(fc.constant([8, 0, 1, 0, 0]), 1),
  request(
    fc
      .integer({ min: 0, max: 255 })
      .filter((code) => ![3, 4, 6, 8, 16, 23].includes(code))
      .map((code) => [code, 1, 2]),
    1,
  ),
  // Address: 02.
  request(
    fc.integer({ min: 100, max: 65535 }).map((a) => [3, ...u16(a), 0, 1]),
    2,
  ),
  request(
    fc.integer({ min: 1, max: 99 }).map((a) => [3, ...u16(a), ...u16(101 - a)]),
    2,
  ),
  request(fc.constant([23, 0, 0, 0, 1, ...u16(100), 0, 1, 2, 0, 0]), 2),
  request(fc.constant([23, ...u16(100), 0, 1, 0, 0, 0, 1, 2, 0, 0]), 2),
  // Value, and what breaks the specification: 03.
  request(
    fc.integer({ min: 1001, max: 65535 }).map((v) => [6, ...u16(55), ...u16(v)]),
    3,
  ),
  request(
    fc.integer({ min: 126, max: 65535 }).map((q) => [3, 0, 0, ...u16(q)]),
    3,
  ),
  request(fc.constant([3, 0, 0, 0, 0]), 3),
  request(
    fc.uint8Array({ minLength: 1, maxLength: 200 }).map((more) => [6, 0, 0, 0, 0, ...more]),
    3,
  ),
  request(fc.constant([16, 0, 0, 0, 2, 2, 0, 0]), 3),
  fc.record<Case>({
    pdu: fc.constant([3, 0, 0, 0, 1]),
    unit,
    protocol: fc.integer({ min: 1, max: 65535 }),
    exception: fc.constant(3),
  }),
)

const cases = fc.array(fc.oneof({ weight: 3, arbitrary: allowed }, { weight: 2, arbitrary: denied }), {
  minLength: 1,
  maxLength: 30,
})
/** Where to cut a stream: steps, taken round and round. */
const cuts = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 8 })

function* cut(bytes: Uint8Array, steps: readonly number[]): Generator<Uint8Array> {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const step = steps[i % steps.length]
    yield bytes.subarray(at, at + step)
    at += step
  }
}

const frameOf = ({ pdu, unit, protocol }: Case, transaction: number) => adu(transaction, unit, pdu, protocol)
const exceptionTo = (frame: Buffer, code: number) =>
  adu(frame.readUInt16BE(0), frame[6], [(frame[7] | 0x80) & 0xff, code])

/** What must come of `list`: bytes to the target, and to the client once the target has answered in order. */
function expectation(list: readonly Case[]): { sent: Buffer; target: string; client: string } {
  const frames = list.map((c, i) => frameOf(c, i * 7 + 1))
  const target = frames.filter((_, i) => list[i].exception === null)
  const client = frames.map((frame, i) => {
    const { exception } = list[i]
    return exception === null ? answer(frame) : exceptionTo(frame, exception)
  })
  return {
    sent: Buffer.concat(frames),
    target: Buffer.concat(target).toString('hex'),
    client: Buffer.concat(client).toString('hex'),
  }
}

const enforcing = sessionPolicy({ rules: RULES })
const monitoring = sessionPolicy({ rules: RULES, mode: 'monitor' })

// ---------------------------------------------------------------------------------------------------- enforce mode

t.test(
  'however the streams are cut: the allowed frames reach the target, all answers the client, in order',
  async () => {
    fc.assert(
      fc.property(cases, cuts, cuts, fc.constantFrom(0, 0xff, 3), (list, clientCuts, targetCuts, guard) => {
        const { sent, target, client } = expectation(list)
        const harness = new SessionHarness(enforcing, { guard })
        for (const piece of cut(sent, clientCuts)) harness.client(piece)
        demand(harness.toTargetHex === target, `target saw ${harness.toTargetHex}, not ${target}`)
        const answers = Buffer.concat(adus(Buffer.concat(harness.targetWrites)).map(answer))
        for (const piece of cut(answers, targetCuts)) harness.target(piece)
        demand(harness.toClientHex === client, `client saw ${harness.toClientHex}, not ${client}`)
        demand(harness.pending === 0 && harness.session.drained, 'something is still outstanding')
        const counts = Object.entries(harness.requests())
        const sum = (verdict: string) => counts.filter(([k]) => k.includes(verdict)).reduce((s, [, n]) => s + n, 0)
        demand(sum('allow') === list.filter((c) => c.exception === null).length, 'allowed requests counted')
        demand(sum('deny') === list.filter((c) => c.exception !== null).length, 'denied requests counted')
        demand(harness.reports.length === sum('deny'), 'each denial is reported')
      }),
      RUNS,
    )
  },
)

t.test('answers come whenever the target gives them, between any two reads of the client', async () => {
  fc.assert(
    fc.property(
      cases,
      cuts,
      fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 6 }),
      (list, steps, pace) => {
        const { sent, target, client } = expectation(list)
        const harness = new SessionHarness(enforcing)
        let answered = 0
        let turn = 0
        for (const piece of cut(sent, steps)) {
          harness.client(piece)
          const frames = adus(Buffer.concat(harness.targetWrites))
          const upTo = Math.min(frames.length, answered + pace[turn++ % pace.length])
          if (upTo > answered) harness.target(Buffer.concat(frames.slice(answered, upTo).map(answer)))
          answered = upTo
        }
        const rest = adus(Buffer.concat(harness.targetWrites)).slice(answered).map(answer)
        if (rest.length > 0) harness.target(Buffer.concat(rest))
        demand(harness.toTargetHex === target, 'target')
        demand(harness.toClientHex === client, `client saw ${harness.toClientHex}, not ${client}`)
      },
    ),
    RUNS,
  )
})

t.test('what cannot be framed ends the connection, after the answers that are owed', async () => {
  const bad = fc.oneof(
    fc.constantFrom(0, 1, 255, 256, 65535).map((length) => Buffer.from([9, 9, 0, 0, ...u16(length), 1, 3, 0, 0, 0, 1])),
    fc.constantFrom('GET / HTTP/1.1\r\n\r\n', 'SSH-2.0-OpenSSH_9.6\r\n').map((text) => Buffer.from(text)),
  )
  fc.assert(
    fc.property(cases, bad, cases, cuts, (list, garbage, after, steps) => {
      const { sent, target, client } = expectation(list)
      const harness = new SessionHarness(enforcing)
      const bytes = Buffer.concat([sent, garbage, expectation(after).sent])
      for (const piece of cut(bytes, steps)) harness.client(piece)
      demand(harness.toTargetHex === target, `target saw ${harness.toTargetHex}, not ${target}`)
      const answers = adus(Buffer.concat(harness.targetWrites)).map(answer)
      if (answers.length > 0) {
        demand(harness.ended === '', 'closed before the answers came')
        harness.target(Buffer.concat(answers))
      }
      demand(harness.toClientHex === client, 'client')
      demand(harness.ended === 'finish', 'the connection is closed')
    }),
    RUNS,
  )
})

t.test('on_deny reset: what was allowed before is sent, nothing after, however it is cut', async () => {
  const policy = sessionPolicy({ rules: RULES, on_deny: 'reset' })
  fc.assert(
    fc.property(cases, denied, cases, cuts, (list, wrong, after, steps) => {
      const before = list.filter((c) => c.exception === null)
      const sent = Buffer.concat([...before, wrong, ...after].map((c, i) => frameOf(c, i + 1)))
      const target = Buffer.concat(before.map((c, i) => frameOf(c, i + 1))).toString('hex')
      const harness = new SessionHarness(policy)
      for (const piece of cut(sent, steps)) harness.client(piece)
      demand(harness.ended === 'reset', 'reset')
      demand(harness.toTargetHex === target, `target saw ${harness.toTargetHex}, not ${target}`)
      demand(harness.toClientHex === '', 'nothing is said')
    }),
    RUNS,
  )
})

t.test('on_deny drop: nothing is said', async () => {
  const policy = sessionPolicy({ rules: RULES, on_deny: 'drop' })
  fc.assert(
    fc.property(cases, cuts, (list, steps) => {
      const harness = new SessionHarness(policy)
      for (const piece of cut(expectation(list).sent, steps)) harness.client(piece)
      const frames = adus(Buffer.concat(harness.targetWrites))
      if (frames.length > 0) harness.target(Buffer.concat(frames.map(answer)))
      demand(harness.toTargetHex === expectation(list).target, 'target')
      demand(harness.toClientHex === Buffer.concat(frames.map(answer)).toString('hex'), 'client')
    }),
    RUNS,
  )
})

t.test('responses: each passes once, in any order, and no other passes', async () => {
  const junk = fc.oneof(
    fc.constant('duplicate' as const),
    fc.constant('unknown' as const),
    fc.constant('unit' as const),
    fc.constant('function' as const),
    fc.constant('short' as const),
  )
  fc.assert(
    fc.property(
      fc.array(allowed, { minLength: 1, maxLength: 20 }),
      fc.array(fc.nat(), { minLength: 20, maxLength: 20 }),
      fc.array(junk, { minLength: 1, maxLength: 20 }),
      cuts,
      (list, order, kinds, steps) => {
        const harness = new SessionHarness(enforcing)
        const frames = list.map((c, i) => frameOf(c, i + 1))
        harness.client(Buffer.concat(frames))
        const shuffled = frames.map((frame, i) => [order[i], answer(frame)] as const).sort((a, b) => a[0] - b[0])
        const good: Buffer[] = []
        const stream: Buffer[] = []
        for (const [i, [, response]] of shuffled.entries()) {
          const kind = kinds[i % kinds.length]
          const wrong = Buffer.from(response)
          if (kind === 'unknown') wrong.writeUInt16BE(60_000, 0)
          else if (kind === 'unit') wrong[6] ^= 0x40
          else if (kind === 'function') wrong[7] = 1
          else if (kind === 'short') wrong.writeUInt16BE(2, 4)
          if (kind === 'short') stream.push(wrong.subarray(0, 8), response)
          else if (kind === 'duplicate') stream.push(response, response)
          else stream.push(wrong, response)
          good.push(response)
        }
        for (const piece of cut(Buffer.concat(stream), steps)) harness.target(piece)
        const got = harness.toClientHex
        demand(
          got === Buffer.concat(good).toString('hex'),
          `client saw ${got}, not ${Buffer.concat(good).toString('hex')}`,
        )
        const denials = Object.entries(harness.responses()).filter(([verdict]) => verdict.startsWith('deny'))
        demand(denials.reduce((sum, [, n]) => sum + n, 0) === shuffled.length, 'each of the others is counted')
        demand(harness.pending === 0, 'pending')
      },
    ),
    RUNS,
  )
})

/** A step of a session's life. */
type Step =
  | { do: 'send'; list: Case[]; steps: number[] }
  | { do: 'answer'; count: number }
  | { do: 'lose'; connected: boolean }
  | { do: 'pass'; ms: number }
  | { do: 'full'; full: boolean }
  | { do: 'reload'; strict: boolean }

const life = fc.array(
  fc.oneof(
    fc.record({ do: fc.constant('send' as const), list: cases, steps: cuts }),
    fc.record({ do: fc.constant('answer' as const), count: fc.integer({ min: 1, max: 10 }) }),
    fc.record({ do: fc.constant('lose' as const), connected: fc.boolean() }),
    fc.record({ do: fc.constant('pass' as const), ms: fc.constantFrom(1, 100, 600, 1200) }),
    fc.record({ do: fc.constant('full' as const), full: fc.boolean() }),
    fc.record({ do: fc.constant('reload' as const), strict: fc.boolean() }),
  ),
  { minLength: 1, maxLength: 15 },
) as fc.Arbitrary<Step[]>

t.test(
  'whatever happens: each request has one answer, in order; denied ones are never sent; nothing is left held',
  async () => {
    for (const pace of [true, false]) {
      const terms = {
        timeouts: { responseMs: 1000, idleMs: 1e9 },
        limits: { onLimit: pace ? 'pace' : 'deny', paceQueue: 5, paceMs: 500 },
      } as const
      const policy = sessionPolicy({ ...terms, rules: RULES })
      const stricter = sessionPolicy({ ...terms, rules: RULES.map((rule) => ({ ...rule, functions: [3] })) })
      fc.assert(
        fc.property(life, (steps) => {
          const limiter = new CountingLimiter()
          const harness = new SessionHarness(policy, { limiter })
          let transaction = 0
          const known = new Map<number, Case>()
          let answered = 0
          let strict = false
          let sentBefore = 0
          const heeded = () =>
            !strict ||
            sentSoFar()
              .slice(sentBefore)
              .every((frame) => frame[7] === 3)
          const sentSoFar = () => adus(Buffer.concat(harness.targetWrites))
          for (const step of steps) {
            if (step.do === 'send') {
              const frames = step.list.map((c) => {
                transaction++
                known.set(transaction, c)
                return frameOf(c, transaction)
              })
              for (const piece of cut(Buffer.concat(frames), step.steps)) harness.client(piece)
            } else if (step.do === 'answer') {
              const frames = sentSoFar()
              const upTo = Math.min(frames.length, answered + step.count)
              if (upTo > answered) harness.target(Buffer.concat(frames.slice(answered, upTo).map(answer)))
              answered = upTo
            } else if (step.do === 'lose') {
              harness.session.onTargetLost(step.connected)
              answered = sentSoFar().length
            } else if (step.do === 'pass') harness.pass(step.ms)
            else if (step.do === 'full') limiter.full = step.full
            else {
              strict = step.strict
              sentBefore = sentSoFar().length
              harness.adopt(strict ? stricter : policy, limiter)
            }
            demand(heeded(), 'what the new policy denies is not sent any more')
          }
          limiter.full = false
          harness.pass(3000)
          demand(heeded(), 'nor when what was held back gets its turn')
          demand(harness.ended === '', 'the connection stays')
          demand(harness.pending === 0 && harness.session.pending === 0, `pending ${harness.pending}`)
          demand(!harness.session.waiting && harness.session.drained, 'nothing waits')
          demand(limiter.held === 0, `the limiter still holds ${limiter.held}`)
          const sent = sentSoFar().map((frame) => frame.readUInt16BE(0))
          demand(new Set(sent).size === sent.length, 'no request is sent twice')
          for (const id of sent) demand(known.get(id)?.exception === null, `denied request ${id} was sent`)
          demand(
            sent.every((id, i) => i === 0 || id > sent[i - 1]),
            'requests keep their order',
          )
          const seen = adus(Buffer.concat(harness.clientWrites)).map((frame) => frame.readUInt16BE(0))
          demand(seen.length === transaction, `${transaction} requests, ${seen.length} answers`)
          demand(
            seen.every((id, i) => id === i + 1),
            `answers out of order: ${seen}`,
          )
        }),
        { numRuns: 300 },
      )
    }
  },
)

t.test('any bytes at all: nothing is thrown, nothing outside is heeded, and what passes is whole frames', async () => {
  const anything = fc.array(
    fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      cases.map((list) => new Uint8Array(expectation(list).sent)),
      // Right headers over any PDU, so that framing does not end it all at once.
      fc
        .tuple(fc.uint8Array({ minLength: 1, maxLength: 253 }), fc.integer({ min: 0, max: 0xffff }))
        .map(([pdu, id]) => {
          return new Uint8Array(adu(id, 1, pdu))
        }),
    ),
    { maxLength: 8 },
  )
  for (const policy of [enforcing, monitoring]) {
    fc.assert(
      fc.property(anything, anything, cuts, (fromClient, fromTarget, steps) => {
        const outcome = [0, 0xff].map((guard) => {
          const harness = new SessionHarness(policy, { guard })
          for (const bytes of fromClient) for (const piece of cut(bytes, steps)) harness.client(piece)
          for (const bytes of fromTarget) for (const piece of cut(bytes, steps)) harness.target(piece)
          harness.pass(4000)
          return JSON.stringify([
            harness.toTargetHex,
            harness.toClientHex,
            harness.requests(),
            harness.responses(),
            harness.reports,
            harness.ended,
          ])
        })
        demand(outcome[0] === outcome[1], `the outcome depends on bytes outside: ${outcome[0]} ${outcome[1]}`)
      }),
      RUNS,
    )
  }
})

// ---------------------------------------------------------------------------------------------------- monitor mode

t.test('monitor: every byte passes at once and unchanged, whatever it is', async () => {
  const chunks = fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 10 })
  const mixed = fc.tuple(chunks, cases, cuts).map(([noise, list, steps]) => {
    return [...noise, ...cut(expectation(list).sent, steps)]
  })
  fc.assert(
    fc.property(mixed, mixed, (fromClient, fromTarget) => {
      const harness = new SessionHarness(monitoring)
      for (const [i, bytes] of fromClient.entries()) {
        harness.client(bytes)
        demand(Buffer.compare(harness.targetWrites[i], bytes) === 0, 'one write for each read, the same bytes')
        if (i < fromTarget.length) harness.target(fromTarget[i])
      }
      for (const bytes of fromTarget.slice(fromClient.length)) harness.target(bytes)
      demand(harness.toTargetHex === Buffer.concat(fromClient).toString('hex'), 'to the target')
      demand(harness.toClientHex === Buffer.concat(fromTarget).toString('hex'), 'to the client')
      demand(harness.ended === '', 'the connection stays')
    }),
    RUNS,
  )
})

t.test('monitor says would-deny of what enforce mode denies, and of nothing else, however it is cut', async () => {
  fc.assert(
    fc.property(cases, cuts, cuts, (list, one, other) => {
      const { sent } = expectation(list)
      const watcher = new SessionHarness(monitoring)
      for (const piece of cut(sent, one)) watcher.client(piece)
      const enforcer = new SessionHarness(enforcing)
      for (const piece of cut(sent, other)) enforcer.client(piece)
      const denied = Object.fromEntries(
        Object.entries(enforcer.requests()).map(([verdict, n]) => [verdict.replace(' deny', ' would_deny'), n]),
      )
      demand(
        JSON.stringify(watcher.requests()) === JSON.stringify(denied),
        `${JSON.stringify(watcher.requests())} is not ${JSON.stringify(denied)}`,
      )
    }),
    { numRuns: 200 },
  )
})

t.test('monitor: the answers of all that is well formed are known, denied or not', async () => {
  const readable = cases.map((list) => list.filter((c) => c.exception !== 3 && c.pdu.length > 3 && c.pdu[0] < 0x80))
  fc.assert(
    fc.property(readable, cuts, (list, steps) => {
      const frames = list.map((c, i) => frameOf(c, i + 1))
      const harness = new SessionHarness(monitoring)
      for (const piece of cut(Buffer.concat(frames), steps)) harness.client(piece)
      for (const piece of cut(Buffer.concat(frames.map(answer)), steps)) harness.target(piece)
      const expected = frames.length === 0 ? {} : { allow: frames.length }
      demand(
        JSON.stringify(harness.responses()) === JSON.stringify(expected),
        `${JSON.stringify(harness.responses())}, not ${frames.length}`,
      )
      demand(harness.pending === 0, 'pending')
    }),
    RUNS,
  )
})
