/**
 * What must hold of the inspecting session whatever comes: any cut of the bytes gives the same verdicts and the same
 * bytes; what is denied never leaves; monitor mode changes nothing; nothing throws. And 10 000 mutations of recorded
 * conversations, with a reader of its own for what has reached the server.
 */
import fc from 'fast-check'
import t from 'tap'
import type { Policy } from '../../../src/policy/model.ts'
import { REQUEST, RESPONSE, type ServiceName } from '../../../src/protocols/opcua/services.ts'
import {
  acknowledge,
  chunk,
  hello,
  hidden,
  InspectHarness,
  messages,
  noise,
  opcuaPolicy,
  openedNone,
  openNone,
  openSecure,
  request,
  requestHeader,
  response,
  string,
} from '../../support/opcua.ts'
import { readTurns } from '../../support/pcap.ts'

const CHANNEL = 7
const READ = `rules: [{ name: reads, from: [Z3], to: [Z2], services: [discovery, session, browse, read, subscribe] }]
opcua: { security_modes: [None] }`
const POLICY = {
  enforce: opcuaPolicy({ protocol: READ }),
  monitor: opcuaPolicy({ protocol: READ, mode: 'monitor' }),
} as const
/** In the body of everything that is denied, and nowhere else. */
const MARK = Buffer.from('!DENIED!')

interface Turn {
  fromClient: boolean
  bytes: Buffer
}

interface Asked {
  service: ServiceName
  /** Chunks that it takes. */
  chunks: number
  length: number
  answered: boolean
  aborted: boolean
}

const asked = fc.record<Asked>({
  service: fc.constantFrom<ServiceName>('Read', 'Browse', 'CreateSession', 'Publish', 'Write', 'Call', 'AddNodes'),
  chunks: fc.constantFrom(1, 1, 1, 2, 3),
  length: fc.integer({ min: 0, max: 600 }),
  answered: fc.boolean(),
  aborted: fc.boolean(),
})

const DENIED: ReadonlySet<ServiceName> = new Set(['Write', 'Call', 'AddNodes'])

/** The two sides' messages, where the server numbers as if it had got only what it should. */
function conversation(list: readonly Asked[]): Turn[] {
  const turns: Turn[] = [
    { fromClient: true, bytes: hello() },
    { fromClient: false, bytes: acknowledge() },
    { fromClient: true, bytes: openNone(51, 1) },
    { fromClient: false, bytes: openedNone(1, 1, CHANNEL, 1) },
  ]
  let up = 51
  let down = 1
  for (const [i, { service, chunks, length, answered, aborted }] of list.entries()) {
    const id = 2 + i
    const denied = DENIED.has(service)
    const body = Buffer.concat([
      Buffer.from([1, 0, REQUEST[service] & 255, REQUEST[service] >> 8]),
      requestHeader(id * 10),
      denied ? MARK : Buffer.alloc(0),
      noise(length, i + 1).map((byte) => byte | 0x80),
      denied ? MARK : Buffer.alloc(0),
    ])
    const part = Math.ceil(body.length / chunks)
    const parts = Array.from({ length: Math.ceil(body.length / part) }, (_, n) =>
      body.subarray(n * part, (n + 1) * part),
    )
    // A type id must be whole in the first chunk.
    for (const [n, piece] of parts.entries()) {
      const last = n === parts.length - 1
      const type = !last ? 'MSGC' : aborted && n > 0 ? 'MSGA' : 'MSGF'
      turns.push({ fromClient: true, bytes: chunk(type, { sequence: ++up, request: id }, piece) })
    }
    if (!answered || denied || (aborted && parts.length > 1)) continue
    turns.push({
      fromClient: false,
      bytes: response(RESPONSE[service], { sequence: ++down, request: id }, noise(length, i + 50)),
    })
  }
  return turns
}

/** Plays a conversation with each side's bytes cut at these places (in thousandths). */
function play(policy: 'enforce' | 'monitor' | Policy, turns: readonly Turn[], cuts: readonly number[]): InspectHarness {
  const harness = new InspectHarness(typeof policy === 'string' ? POLICY[policy] : policy)
  for (const { fromClient, bytes } of turns) {
    const places = [
      0,
      ...cuts.map((cut) => Math.floor((cut * bytes.length) / 1000)).sort((a, b) => a - b),
      bytes.length,
    ]
    for (let i = 1; i < places.length; i++) {
      const piece = bytes.subarray(places[i - 1], places[i])
      if (fromClient) harness.client(piece)
      else harness.target(piece)
    }
  }
  return harness
}

/** Turns of one side that follow one another, as one. */
function joined(turns: readonly Turn[]): Turn[] {
  const list: Turn[] = []
  for (const turn of turns) {
    const last = list.at(-1)
    if (last?.fromClient === turn.fromClient) last.bytes = Buffer.concat([last.bytes, turn.bytes])
    else list.push({ ...turn })
  }
  return list
}

/** The bytes of a fault carry the time. */
function withoutTime(bytes: Buffer): string {
  return messages(bytes)
    .map((one) => {
      if (one.length === 52 && one.readUInt16LE(26) === 397) one.fill(0, 28, 36)
      return one.toString('hex')
    })
    .join('\n')
}

const outcome = (harness: InspectHarness) => ({
  target: harness.toTarget_.toString('hex'),
  client: withoutTime(harness.toClient_),
  requests: harness.requests(),
  responses: harness.responses(),
  pending: harness.pending,
  ended: harness.ended,
})

const sequencesOf = (bytes: Buffer): number[] =>
  messages(bytes)
    .filter((one) => one.subarray(0, 3).toString() === 'MSG')
    .map((one) => one.readUInt32LE(16))

const cuts = fc.array(fc.integer({ min: 0, max: 1000 }), { maxLength: 12 })

t.test('any cut of the bytes gives the same; what is denied never leaves; numbers have no gap', async () => {
  fc.assert(
    fc.property(fc.array(asked, { maxLength: 10 }), cuts, (list, cuts) => {
      const turns = conversation(list)
      const whole = play('enforce', turns, [])
      const same = (one: unknown, other: unknown): void => {
        if (JSON.stringify(one) !== JSON.stringify(other)) throw new Error('another outcome')
      }
      same(outcome(play('enforce', turns, cuts)), outcome(whole))
      same(outcome(play('enforce', joined(turns), cuts)).target, outcome(whole).target)
      if (whole.toTarget_.includes(MARK)) throw new Error('a denied request has left')
      for (const [bytes, first] of [
        [whole.toTarget_, 52],
        [whole.toClient_, 2],
      ] as const) {
        for (const [i, sequence] of sequencesOf(bytes).entries()) {
          if (sequence !== first + i) throw new Error(`number ${sequence} in place ${i}`)
        }
      }
      const denied = list.filter(({ service }) => DENIED.has(service)).length
      const counted = Object.entries(whole.requests()).filter(([what]) => what.endsWith('deny service'))
      if (counted.reduce((sum, [, count]) => sum + count, 0) !== denied) throw new Error('not all denials are counted')
      if (whole.ended !== '') throw new Error(`ended: ${whole.ended}`)
    }),
    { numRuns: 400 },
  )
})

t.test('monitor mode passes every byte, and finds what enforce mode does', async () => {
  fc.assert(
    fc.property(fc.array(asked, { maxLength: 10 }), cuts, (list, cuts) => {
      const turns = conversation(list)
      const watched = play('monitor', turns, cuts)
      const side = (fromClient: boolean): Buffer =>
        Buffer.concat(turns.filter((turn) => turn.fromClient === fromClient).map(({ bytes }) => bytes))
      if (!watched.toTarget_.equals(side(true)) || !watched.toClient_.equals(side(false)))
        throw new Error('bytes changed')
      const verdicts = (harness: InspectHarness) =>
        Object.fromEntries(
          Object.entries(harness.requests()).map(([what, count]) => [what.replace('would_deny', 'deny'), count]),
        )
      const enforced = play('enforce', turns, [])
      if (JSON.stringify(verdicts(watched)) !== JSON.stringify(verdicts(enforced))) throw new Error('other verdicts')
    }),
    { numRuns: 300 },
  )
})

t.test('an encrypted channel: any cut gives the same bytes', async () => {
  const policy = opcuaPolicy({ protocol: 'rules: [{ from: [Z3], to: [Z2], services: [all] }]' })
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 32, max: 9000 }), { minLength: 1, maxLength: 6 }), cuts, (sizes, cuts) => {
      const harness = new InspectHarness(policy)
      const opening = openSecure('Basic256Sha256')
      const opened = openSecure('Basic256Sha256', CHANNEL)
      const asked = Buffer.concat(sizes.map((size, i) => hidden('MSGF', size, i + 1)))
      const answers = Buffer.concat(sizes.map((size, i) => hidden('MSGF', size, i + 77)))
      const feed = (bytes: Buffer, take: (piece: Buffer) => void): void => {
        const places = [
          0,
          ...cuts.map((cut) => Math.floor((cut * bytes.length) / 1000)).sort((a, b) => a - b),
          bytes.length,
        ]
        for (let i = 1; i < places.length; i++) take(bytes.subarray(places[i - 1], places[i]))
      }
      feed(hello(), (piece) => harness.client(piece))
      feed(acknowledge(), (piece) => harness.target(piece))
      feed(opening, (piece) => harness.client(piece))
      feed(opened, (piece) => harness.target(piece))
      feed(asked, (piece) => harness.client(piece))
      feed(answers, (piece) => harness.target(piece))
      if (!harness.toTarget_.equals(Buffer.concat([hello(), opening, asked]))) throw new Error('client bytes changed')
      if (!harness.toClient_.equals(Buffer.concat([acknowledge(), opened, answers])))
        throw new Error('server bytes changed')
    }),
    { numRuns: 200 },
  )
})

const LINE = `rules: [{ name: line, from: [Z3], to: [Z2], services: [discovery, session, read, write], nodes: ["ns=2;s=Line1.*"] }]
opcua: { security_modes: [None] }`
const LINE_POLICY = opcuaPolicy({ protocol: LINE })

const u32 = (value: number): Buffer => Buffer.from([value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24])

/** A Read, or a Write of Booleans, of these nodes, cut into chunks. */
function items(write: boolean, nodes: readonly string[], chunks: number, sequence: number, id: number): Buffer[] {
  const body = Buffer.concat([
    Buffer.from([1, 0, REQUEST[write ? 'Write' : 'Read'] & 255, REQUEST[write ? 'Write' : 'Read'] >> 8]),
    requestHeader(id * 10),
    ...(write ? [] : [Buffer.alloc(12)]),
    u32(nodes.length),
    ...nodes.flatMap((node) => [
      Buffer.from([3, 2, 0]),
      string(node),
      u32(13),
      string(null),
      ...(write ? [Buffer.from([1, 1, 1])] : [Buffer.alloc(2), string(null)]),
    ]),
  ])
  const part = Math.ceil(body.length / chunks)
  return Array.from({ length: Math.ceil(body.length / part) }, (_, n) =>
    chunk(
      (n + 1) * part >= body.length ? 'MSGF' : 'MSGC',
      { sequence: sequence + n, request: id },
      body.subarray(n * part, (n + 1) * part),
    ),
  )
}

t.test('rules on nodes: any cut gives the same, and no denied node leaves', async () => {
  const node = fc.constantFrom('Line1.A', 'Line1.Setpoint', `Line2.${MARK}`, `${MARK}`)
  const one = fc.record({
    write: fc.boolean(),
    nodes: fc.array(node, { minLength: 1, maxLength: 6 }),
    chunks: fc.constantFrom(1, 1, 2, 3),
  })
  fc.assert(
    fc.property(fc.array(one, { maxLength: 8 }), cuts, (list, cuts) => {
      let sequence = 52
      const turns: Turn[] = conversation([])
      for (const [i, { write, nodes, chunks }] of list.entries()) {
        const parts = items(write, nodes, chunks, sequence, 2 + i)
        sequence += parts.length
        turns.push(...parts.map((bytes) => ({ fromClient: true, bytes })))
      }
      const whole = play(LINE_POLICY, turns, [])
      for (const other of [play(LINE_POLICY, turns, cuts), play(LINE_POLICY, joined(turns), cuts)]) {
        if (JSON.stringify(outcome(other)) !== JSON.stringify(outcome(whole))) throw new Error('another outcome')
      }
      if (whole.toTarget_.includes(MARK)) throw new Error('a denied node has left')
      if (whole.ended !== '') throw new Error(`ended: ${whole.ended}`)
      for (const [i, number] of sequencesOf(whole.toTarget_).entries()) {
        if (number !== 52 + i) throw new Error(`number ${number} in place ${i}`)
      }
      const denied = list.filter(({ nodes }) => nodes.some((name) => name.includes(`${MARK}`))).length
      const counted = Object.entries(whole.requests()).filter(([what]) => what.endsWith('deny node'))
      if (counted.reduce((sum, [, count]) => sum + count, 0) !== denied) throw new Error('not all denials are counted')
    }),
    { numRuns: 300 },
  )
})

t.test('no bytes make it throw, or write outside of what it was given', async () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    fc.constantFrom(
      hello(),
      acknowledge(),
      openNone(51, 1),
      openNone(52, 2, 1, CHANNEL),
      openedNone(1, 1, CHANNEL, 1),
      openSecure('Basic256Sha256'),
      openSecure('Basic256Sha256', CHANNEL),
      request(REQUEST.Read, { sequence: 52, request: 2 }),
      request(REQUEST.Write, { sequence: 52, request: 2 }, MARK),
      response(RESPONSE.Read, { sequence: 2, request: 2 }),
      hidden('MSGF', 256, 1),
      hidden('MSGC', 256, 2),
      hidden('CLOF', 64, 3),
    ),
  )
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.boolean(), piece, fc.integer({ min: 0, max: 5000 })), { maxLength: 12 }),
      fc.constantFrom('enforce' as const, 'monitor' as const),
      (pieces, mode) => {
        const harness = new InspectHarness(POLICY[mode])
        const given = { client: [] as Buffer[], target: [] as Buffer[] }
        for (const [fromClient, bytes, wait] of pieces) {
          if (harness.ended !== '') break
          ;(fromClient ? given.client : given.target).push(bytes)
          if (fromClient) harness.client(bytes)
          else harness.target(bytes)
          harness.pass(wait)
        }
        if (mode === 'monitor') {
          if (!harness.toTarget_.equals(Buffer.concat(given.client))) throw new Error('client bytes changed')
          if (!harness.toClient_.equals(Buffer.concat(given.target))) throw new Error('server bytes changed')
        } else if (harness.toTarget_.includes(MARK)) throw new Error('a denied request has left')
        if (harness.pending < 0 || harness.sessions < 0) throw new Error('a gauge is below zero')
        harness.session.dispose()
        if (harness.pending !== 0 || Object.keys(harness.channels()).length > 0) throw new Error('left in a gauge')
      },
    ),
    { numRuns: 1500 },
  )
})

// ------------------------------------------------------------------------------------------------------- mutations

const VARIANTS = 10_000
const fixture = (name: string) => new URL(`../../fixtures/captures/${name}`, import.meta.url).pathname

/** Numbers as good as random, the same each run. */
function generator(seed: number): (below: number) => number {
  let state = seed | 1
  return (below) => {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9
    state ^= state >>> 13
    return (state >>> 0) % below
  }
}

/**
 * Type ids of the requests that a server in clear would take from these bytes: by its own reading of §6.7.2, with none
 * of the product's code. A server reads a NodeId in any of its numeric forms.
 */
function received(bytes: Buffer): number[] {
  const ids: number[] = []
  let open = -1
  for (let at = 0; at + 8 <= bytes.length; ) {
    const type = bytes.toString('latin1', at, at + 3)
    const size = bytes.readUInt32LE(at + 4)
    if (size < 8) break
    if (type === 'MSG' && at + 28 <= bytes.length && size >= 26) {
      const request = bytes.readUInt32LE(at + 20)
      if (request !== open) {
        const form = bytes[at + 24] & 0x3f
        if (form === 1 && bytes[at + 25] === 0) ids.push(bytes.readUInt16LE(at + 26))
        else if (form === 2 && at + 31 <= bytes.length) ids.push(bytes.readUInt32LE(at + 27))
      }
      open = bytes[at + 3] === 0x43 ? request : -1
    }
    at += size
  }
  return ids
}

const FORBIDDEN: ReadonlySet<number> = new Set([
  REQUEST.Write,
  REQUEST.Call,
  REQUEST.AddNodes,
  REQUEST.DeleteNodes,
  REQUEST.HistoryUpdate,
  REQUEST.SessionlessInvoke,
])

/** One conversation, its messages torn, turned, doubled, dropped or made of other bytes. */
function mutate(turns: readonly Turn[], random: (below: number) => number): Turn[] {
  const list = turns.map((turn) => ({ ...turn }))
  for (let n = 1 + random(4); n > 0; n--) {
    const i = random(list.length)
    const { bytes } = list[i]
    const at = random(Math.max(1, bytes.length))
    switch (random(8)) {
      case 0:
      case 1: {
        const copy = Buffer.from(bytes)
        copy[random(4) === 0 ? random(Math.min(32, copy.length)) : at] ^= 1 << random(8)
        list[i].bytes = copy
        break
      }
      case 2:
        list[i].bytes = Buffer.concat([
          bytes.subarray(0, at),
          bytes.subarray(Math.min(bytes.length, at + 1 + random(8))),
        ])
        break
      case 3:
        list[i].bytes = Buffer.concat([bytes.subarray(0, at), noise(1 + random(12), at + 1), bytes.subarray(at)])
        break
      case 4:
        list.splice(i, 0, { ...list[random(list.length)] })
        break
      case 5:
        if (list.length > 2) list.splice(i, 1)
        break
      case 6: {
        const copy = Buffer.from(bytes)
        if (copy.length > 8) copy.writeUInt32LE([0, 7, 24, copy.length + 1, 65_537, 0xffffffff][random(6)], 4)
        list[i].bytes = copy
        break
      }
      default: {
        // A forbidden request in place of an honest one, with its numbers.
        const copy = Buffer.from(bytes)
        if (copy.toString('latin1', 0, 3) === 'MSG' && copy.length > 28)
          copy.writeUInt16LE([...FORBIDDEN][random(6)], 26)
        if (random(3) === 0 && copy.length > 4) copy[3] = [0x43, 0x41, 0x46][random(3)]
        list[i].bytes = copy
      }
    }
  }
  return list
}

t.test(`${VARIANTS} mutations of recorded conversations`, async (t) => {
  const recorded = ['opcua-none.pcap', 'opcua-read.pcap', 'opcua-encrypted.pcap']
    .flatMap((file) => readTurns(fixture(file), 4840))
    .map((turns) => turns.map(({ fromClient, payload }): Turn => ({ fromClient, bytes: payload })).slice(0, 40))
  const random = generator(20_261_124)
  let passed = 0
  for (let variant = 0; variant < VARIANTS; variant++) {
    const turns = mutate(recorded[variant % recorded.length], random)
    const mode = variant % 4 === 3 ? 'monitor' : 'enforce'
    const harness = new InspectHarness(POLICY[mode])
    for (const { fromClient, bytes } of turns) {
      if (fromClient) harness.client(bytes)
      else harness.target(bytes)
    }
    if (mode === 'enforce') {
      const ids = received(harness.toTarget_)
      passed += ids.length
      const bad = ids.filter((id) => FORBIDDEN.has(id))
      if (bad.length > 0) {
        t.fail(`variant ${variant}: ${bad} has passed`)
        return
      }
    }
    harness.session.dispose()
    if (harness.pending !== 0 || harness.sessions !== 0) {
      t.fail(`variant ${variant}: left in a gauge`)
      return
    }
  }
  t.ok(passed > VARIANTS, `${passed} requests have passed, none of them denied`)
})
