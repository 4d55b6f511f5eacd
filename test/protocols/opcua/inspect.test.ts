/** The inspecting session, message by message: what passes, what is answered, what ends the connection. */
import t from 'tap'
import type { Policy } from '../../../src/policy/model.ts'
import { REQUEST, RESPONSE } from '../../../src/protocols/opcua/services.ts'
import {
  acknowledge,
  certificate,
  chunk,
  hello,
  hidden,
  InspectHarness,
  message,
  messages,
  noise,
  opcuaPolicy,
  openedNone,
  openNone,
  openSecure,
  policyUri,
  request,
  requestHeader,
  response,
  reverseHello,
  string,
  thumbprint,
} from '../../support/opcua.ts'

const CHANNEL = 7
const TOKEN = 1
const FAULT = 397
const DENIED = 0x801f0000

/** Reads on channels in clear, and nothing else. */
const READ_NONE = `rules: [{ name: reads, from: [Z3], to: [Z2], services: [discovery, session, browse, read, subscribe] }]
opcua: { security_modes: [None] }`
const READ_SIGN = READ_NONE.replace('[None]', '[Sign]')
const ALL_SECURE = 'rules: [{ name: all, from: [Z3], to: [Z2], services: [all] }]'

/** A harness whose channel of the policy None is open: sequence numbers 51 (client) and 1 (server) are used up. */
function onNone(policy: Policy): InspectHarness {
  const harness = new InspectHarness(policy)
  harness.client(hello())
  harness.target(acknowledge())
  harness.client(openNone(51, 1))
  harness.target(openedNone(1, 1, CHANNEL, TOKEN))
  harness.targetWrites.length = 0
  harness.clientWrites.length = 0
  return harness
}

/** A harness whose channel of a secure policy has been opened; nobody knows its mode. */
function onSecure(policy: Policy, name = 'Basic256Sha256'): InspectHarness {
  const harness = new InspectHarness(policy)
  harness.client(hello())
  harness.target(acknowledge())
  harness.client(openSecure(name))
  harness.target(openSecure(name, CHANNEL, certificate(2), certificate(1)))
  harness.targetWrites.length = 0
  harness.clientWrites.length = 0
  return harness
}

const none = (protocol = READ_NONE, mode: 'enforce' | 'monitor' = 'enforce') => opcuaPolicy({ protocol, mode })

/** Status code of the ERR that the client has got; null: none. */
function errorOf(harness: InspectHarness): number | null {
  const last = messages(harness.toClient_).at(-1)
  return last?.subarray(0, 4).toString() === 'ERRF' ? last.readUInt32LE(8) : null
}

const sequences = (bytes: Buffer): number[] => messages(bytes).map((one) => one.readUInt32LE(16))

t.test('requests and responses on a channel in clear pass as they are', async (t) => {
  const harness = onNone(none())
  const asked = Buffer.concat([
    request(REQUEST.CreateSession, { sequence: 52, request: 2 }),
    request(REQUEST.Read, { sequence: 53, request: 3 }),
    request(REQUEST.Publish, { sequence: 54, request: 4 }),
  ])
  harness.client(asked)
  t.ok(harness.toTarget_.equals(asked))
  t.equal(harness.targetWrites.length, 1, 'in one write')
  t.equal(harness.pending, 3)
  t.equal(harness.session.drained, false)
  const answered = Buffer.concat([
    response(RESPONSE.CreateSession, { sequence: 2, request: 2 }),
    response(RESPONSE.Read, { sequence: 3, request: 3 }),
  ])
  harness.target(answered)
  t.ok(harness.toClient_.equals(answered))
  t.equal(harness.pending, 1)
  t.equal(harness.session.drained, true, 'Publish does not count')
  t.equal(harness.sessions, 1)
  t.same(harness.channels(), { 'inspected None None': 1 })
  t.same(harness.requests(), {
    'Hello allow': 1,
    'OpenSecureChannel allow': 1,
    'CreateSession allow': 1,
    'Read allow': 1,
    'Publish allow': 1,
  })
  harness.session.dispose()
  t.same([harness.channels(), harness.pending, harness.sessions], [{}, 0, 0])
})

t.test('a denied request in clear is answered, and both directions are numbered anew', async (t) => {
  const harness = onNone(none())
  harness.client(request(REQUEST.Write, { sequence: 52, request: 2 }))
  t.equal(harness.toTarget_.length, 0)
  const [fault] = messages(harness.toClient_)
  // MSGF, 52 bytes, channel, token, sequence, request; ServiceFault with the request's handle and the status.
  t.equal(fault.subarray(0, 28).toString('hex'), '4d53474634000000070000000100000002000000020000000100' + '8d01')
  t.equal(fault.readUInt32LE(36), 20, 'request handle')
  t.equal(fault.readUInt32LE(40), DENIED)
  t.equal(fault.subarray(44).toString('hex'), '00ffffffff000000')
  t.match(harness.reports.at(-1), {
    kind: 'request',
    reason: 'service',
    function: 'Write',
    would: false,
    detail: /services allowed: .*read/i,
    fields: { security_policy: 'None', security_mode: 'None', visibility: 'inspected', channel_id: CHANNEL },
  })
  // The server never saw 52; the client has seen 2.
  harness.client(request(REQUEST.Read, { sequence: 53, request: 3 }))
  t.same(sequences(harness.toTarget_), [52])
  harness.clientWrites.length = 0
  harness.target(response(RESPONSE.Read, { sequence: 2, request: 3 }))
  t.same(sequences(harness.toClient_), [3])
  t.ok(
    harness.toClient_.subarray(20).equals(response(RESPONSE.Read, { sequence: 2, request: 3 }).subarray(20)),
    'nothing but the number is changed',
  )
  // A renewal is numbered as well; its number stands behind the asymmetric header.
  harness.targetWrites.length = 0
  harness.client(openNone(54, 4, 1, CHANNEL))
  t.equal(harness.toTarget_.readUInt32LE(8 + 4 + 4 + policyUri('None').length + 8), 53)
  harness.clientWrites.length = 0
  harness.target(openedNone(3, 4, CHANNEL, 2))
  t.equal(harness.toClient_.readUInt32LE(8 + 4 + 4 + policyUri('None').length + 8), 4)
  harness.client(message('CLOF', CHANNEL, 2, 55, 5, Buffer.from([1, 0, 0xc4, 1]), requestHeader(5)))
  t.equal(harness.ended, '')
  t.same(sequences(harness.toTarget_).at(-1), 54)
})

t.test('all chunks of a denied request stay here', async (t) => {
  const harness = onNone(none())
  const start = Buffer.concat([Buffer.from([1, 0, REQUEST.Write & 255, REQUEST.Write >> 8]), requestHeader(20)])
  harness.client(chunk('MSGC', { sequence: 52, request: 2 }, start))
  harness.client(chunk('MSGC', { sequence: 53, request: 2 }, noise(40_000, 3)))
  harness.client(chunk('MSGF', { sequence: 54, request: 2 }, noise(100, 4)))
  t.equal(harness.toTarget_.length, 0)
  t.equal(messages(harness.toClient_).length, 1, 'answered once')
  harness.client(request(REQUEST.Read, { sequence: 55, request: 3 }))
  t.same(sequences(harness.toTarget_), [52])
  t.equal(harness.requests()['Write deny service'], 1)
})

t.test('a denied request that its client takes back', async (t) => {
  const harness = onNone(none())
  const start = Buffer.concat([Buffer.from([1, 0, REQUEST.Write & 255, REQUEST.Write >> 8]), requestHeader(20)])
  harness.client(chunk('MSGC', { sequence: 52, request: 2 }, start))
  harness.client(chunk('MSGA', { sequence: 53, request: 2 }, Buffer.alloc(8)))
  harness.client(request(REQUEST.Read, { sequence: 54, request: 3 }))
  t.same(sequences(harness.toTarget_), [52])
  t.equal(harness.ended, '')
})

t.test('a request that rules look into, and that its client takes back', async (t) => {
  const inner = '{ name: writes, from: [Z3], to: [Z2], services: [write], nodes: ["ns=2;s=A"] }'
  const harness = onNone(none(READ_NONE.replace('rules: [', `rules: [${inner}, `)))
  const start = Buffer.concat([Buffer.from([1, 0, REQUEST.Write & 255, REQUEST.Write >> 8]), requestHeader(20)])
  harness.client(chunk('MSGC', { sequence: 52, request: 2 }, start))
  harness.client(chunk('MSGA', { sequence: 53, request: 2 }, Buffer.alloc(8)))
  harness.client(request(REQUEST.Browse, { sequence: 54, request: 3 }))
  t.same(sequences(harness.toTarget_), [52], 'no number is missing')
  t.equal(harness.ended, '')
})

t.test('an answer of its own never stands inside a message to the client', async (t) => {
  const harness = onNone(none())
  harness.client(request(REQUEST.Read, { sequence: 52, request: 2 }))
  const long = response(RESPONSE.Read, { sequence: 2, request: 2 }, noise(5000, 1))
  long[3] = 0x43
  harness.target(long.subarray(0, 2000))
  harness.client(request(REQUEST.Write, { sequence: 53, request: 3 }))
  t.equal(harness.toClient_.length, 2000, 'within a chunk')
  harness.target(long.subarray(2000))
  t.ok(harness.toClient_.equals(long), 'between two chunks of a message')
  const last = chunk('MSGF', { sequence: 3, request: 2 }, noise(64, 2))
  harness.target(last)
  t.ok(harness.toClient_.subarray(0, long.length + last.length).equals(Buffer.concat([long, last])))
  t.same(sequences(harness.toClient_), [2, 3, 4])
})

t.test('sequence numbers wrap, and so do those that are numbered anew', async (t) => {
  const harness = new InspectHarness(none())
  harness.client(hello())
  harness.target(acknowledge())
  harness.client(openNone(0xffffffff - 2, 1))
  harness.target(openedNone(0xffffffff - 1, 1, CHANNEL, TOKEN))
  harness.clientWrites.length = 0
  harness.targetWrites.length = 0
  harness.client(request(REQUEST.Read, { sequence: 0xffffffff - 1, request: 2 }))
  harness.client(request(REQUEST.Read, { sequence: 5, request: 3 }))
  t.same(sequences(harness.toTarget_), [0xffffffff - 1, 5])
  harness.client(request(REQUEST.Write, { sequence: 6, request: 4 }))
  t.same(sequences(harness.toClient_), [1], 'the wrap of its own numbers')
  harness.target(response(RESPONSE.Read, { sequence: 0xffffffff, request: 3 }))
  t.same(sequences(harness.toClient_), [1, 2])
  t.equal(harness.ended, '')
})

/** [what, the client's bytes on an open channel in clear, status of the ERR, reason, detail] */
const endings: [string, Buffer, number, string, RegExp][] = [
  [
    'a gap in the numbers',
    request(REQUEST.Read, { sequence: 53, request: 2 }),
    0x80880000,
    'state',
    /sequence number 53/,
  ],
  ['a number twice', request(REQUEST.Read, { sequence: 51, request: 2 }), 0x80880000, 'state', /sequence number 51/],
  [
    'another channel',
    request(REQUEST.Read, { channel: 8, sequence: 52, request: 2 }),
    0x807f0000,
    'state',
    /channel 8/,
  ],
  [
    'a token that nobody issued',
    request(REQUEST.Read, { token: 9, sequence: 52, request: 2 }),
    0x80130000,
    'state',
    /token/,
  ],
  ['no message', Buffer.from('GET / HTTP/1.1\r\n\r\n'), 0x807e0000, 'malformed', /no message/],
  ['a message shorter than its header', message('MSGF', CHANNEL, TOKEN), 0x807e0000, 'malformed', /expected 24/],
  ['a message longer than agreed', message('MSGF', Buffer.alloc(70_000)), 0x807e0000, 'malformed', /65536/],
  ['Hello again', hello(), 0x807e0000, 'state', /HEL out of its place/],
  ['Acknowledge from a client', acknowledge(), 0x807e0000, 'state', /ACK out/],
  ['ReverseHello too late', reverseHello(), 0x807e0000, 'state', /RHE out/],
  ['ERR from a client', message('ERRF', 0x80010000, string('x')), 0x807e0000, 'state', /ERR out/],
  ['a second channel', openNone(52, 2), 0x80130000, 'state', /renewal with another/],
  [
    'an OPN in chunks',
    Buffer.concat([Buffer.from('OPNC'), openNone(52, 2, 1, CHANNEL).subarray(4)]),
    0x807e0000,
    'malformed',
    /more than one chunk/,
  ],
  ['a renewal with another mode', openNone(52, 2, 1, CHANNEL, 3), 0x807e0000, 'malformed', /mode other than None/],
  [
    'an unknown chunk type',
    Buffer.concat([Buffer.from('MSGX'), request(REQUEST.Read, { sequence: 52, request: 2 }).subarray(4)]),
    0x807e0000,
    'malformed',
    /chunk type/,
  ],
  [
    'the abort of nothing',
    chunk('MSGA', { sequence: 52, request: 2 }, Buffer.alloc(8)),
    0x807e0000,
    'malformed',
    /abort of no message/,
  ],
  [
    'a type id that is cut off',
    chunk('MSGF', { sequence: 52, request: 2 }, Buffer.from([1, 0, 0x77])),
    0x807e0000,
    'malformed',
    /cut off/,
  ],
  [
    'a type id that goes on in the next chunk',
    chunk('MSGC', { sequence: 52, request: 2 }, Buffer.from([1, 0])),
    0x807e0000,
    'malformed',
    /cut off/,
  ],
  [
    'interleaved messages',
    Buffer.concat([
      Buffer.from([
        ...chunk('MSGC', { sequence: 52, request: 2 }, Buffer.concat([Buffer.from([1, 0, 0x77, 2]), requestHeader(2)])),
      ]),
      request(REQUEST.Read, { sequence: 53, request: 3 }),
    ]),
    0x807e0000,
    'malformed',
    /interleaved/,
  ],
  [
    'a request id in use',
    Buffer.concat([
      request(REQUEST.Read, { sequence: 52, request: 2 }),
      request(REQUEST.Browse, { sequence: 53, request: 2 }),
    ]),
    0x807e0000,
    'malformed',
    /request id 2/,
  ],
  [
    'CLO of another service',
    message('CLOF', CHANNEL, TOKEN, 52, 2, Buffer.from([1, 0, 0xa1, 2]), requestHeader(2)),
    0x807e0000,
    'malformed',
    /CloseSecureChannel/,
  ],
]

for (const [what, bytes, status, reason, detail] of endings) {
  t.test(`ends the connection: ${what}`, async (t) => {
    const harness = onNone(none())
    const before = harness.toTarget_.length
    harness.client(bytes)
    t.equal(errorOf(harness), status)
    t.not(harness.ended, '')
    t.match(harness.reports.at(-1), { kind: 'request', reason, detail, would: false })
    // Of the offending message nothing has gone on; what came before it has.
    const passed = harness.toTarget_.subarray(before)
    t.ok(bytes.subarray(0, passed.length).equals(passed))
    t.ok(passed.length < bytes.length)
    // Monitor: the same is found, and all bytes pass.
    const watched = onNone(none(READ_NONE, 'monitor'))
    watched.client(bytes)
    t.ok(watched.toTarget_.equals(bytes))
    t.equal(watched.ended, '')
    t.ok(watched.reports.some((one) => one.would && one.reason === reason && detail.test(one.detail)))
  })
}

/** Requests that are no service, or none that a rule may allow: answered, and the connection lives. */
const strangers: [string, Buffer][] = [
  ['an id of no service', Buffer.from([1, 0, 0x39, 0x30])],
  ['an id of another namespace', Buffer.from([1, 2, 0x77, 0x02])],
  ['a numeric id in its long form, another namespace', Buffer.from([2, 1, 0, 0x77, 2, 0, 0])],
  ['SessionlessInvoke', Buffer.from([1, 0, REQUEST.SessionlessInvoke & 255, REQUEST.SessionlessInvoke >> 8])],
  ["the response's id", Buffer.from([1, 0, RESPONSE.Read & 255, RESPONSE.Read >> 8])],
  ['the XML encoding', Buffer.from([1, 0, 0x76, 0x02])],
  ['a string id', Buffer.from([3, 0, 0, 4, 0, 0, 0, 0x52, 0x65, 0x61, 0x64])],
  ['a GUID', Buffer.from([4, 0, 0, ...Buffer.alloc(16, 1)])],
  ['an ExpandedNodeId of this namespace', Buffer.from([0x41, 0, 0x77, 2, 1, 0, 0, 0])],
  ['a two-byte id', Buffer.from([0, 0x77])],
  ['OPN in a MSG', Buffer.from([1, 0, 446 & 255, 446 >> 8])],
]

for (const [what, id] of strangers) {
  t.test(`denied: ${what}`, async (t) => {
    const harness = onNone(
      none('rules: [{ from: [Z3], to: [Z2], services: [all] }]\nopcua: { security_modes: [None] }'),
    )
    harness.client(chunk('MSGF', { sequence: 52, request: 2 }, Buffer.concat([id, requestHeader(20)])))
    t.equal(harness.toTarget_.length, 0)
    t.match(harness.reports.at(-1), { kind: 'request', reason: 'service' })
    t.equal(harness.ended, '')
    t.equal(messages(harness.toClient_)[0].readUInt16LE(26), FAULT)
  })
}

t.test('the long numeric form of a known service is that service', async (t) => {
  const harness = onNone(none())
  const read = Buffer.concat([Buffer.from([2, 0, 0, 0x77, 2, 0, 0]), requestHeader(20)])
  harness.client(chunk('MSGF', { sequence: 52, request: 2 }, read))
  t.equal(harness.requests()['Read allow'], 1)
  const write = Buffer.concat([Buffer.from([2, 0, 0, 0xa1, 2, 0, 0]), requestHeader(30)])
  harness.client(chunk('MSGF', { sequence: 53, request: 3 }, write))
  t.equal(harness.requests()['Write deny service'], 1)
  t.equal(messages(harness.toClient_)[0].readUInt32LE(36), 30, 'the handle is found behind it')
})

/** [what, the server's bytes after a Read (52, 2), detail] */
const answers: [string, Buffer, RegExp][] = [
  ['an answer to nothing', response(RESPONSE.Read, { sequence: 2, request: 9 }), /no outstanding request/],
  ['an answer to something else', response(RESPONSE.Write, { sequence: 2, request: 2 }), /does not answer Read/],
  ['a gap in the numbers', response(RESPONSE.Read, { sequence: 4, request: 2 }), /sequence number 4/],
  ['another channel', response(RESPONSE.Read, { channel: 9, sequence: 2, request: 2 }), /channel 9/],
  ['a request', request(REQUEST.Read, { sequence: 2, request: 2 }), /does not answer Read/],
  ['Hello', hello(), /HEL out/],
  ['no message', Buffer.from('220 ftp ready\r\n'), /no message/],
]

for (const [what, bytes, detail] of answers) {
  t.test(`the server's message does not pass: ${what}`, async (t) => {
    const harness = onNone(none())
    harness.client(request(REQUEST.Read, { sequence: 52, request: 2 }))
    harness.target(bytes)
    t.match(harness.reports.at(-1), { kind: 'response', detail })
    t.not(harness.ended, '')
    t.equal(messages(harness.toClient_).length, 1, 'the client gets an ERR and nothing else')
    t.ok(errorOf(harness))
  })
}

t.test('ServiceFault, ERR and abort are answers', async (t) => {
  const harness = onNone(none())
  for (let i = 0; i < 3; i++) harness.client(request(REQUEST.Read, { sequence: 52 + i, request: 2 + i }))
  harness.target(response(FAULT, { sequence: 2, request: 2 }, Buffer.alloc(0), 0, DENIED))
  harness.target(chunk('MSGA', { sequence: 3, request: 3 }, Buffer.alloc(8)))
  t.equal(harness.pending, 1)
  const error = message('ERRF', 0x80010000, string('no'))
  harness.target(error)
  t.ok(harness.toClient_.subarray(-error.length).equals(error))
  t.same(
    harness.reports.filter(({ kind }) => kind !== 'opened'),
    [],
  )
})

t.test('Hello: endpoint URLs', async (t) => {
  const policy = opcuaPolicy({
    protocol: `rules: [{ from: [Z3], to: [Z2], services: [all] }]\nopcua: { security_modes: [None], endpoint_urls: ["opc.tcp://plc:4840"] }`,
  })
  const right = new InspectHarness(policy)
  right.client(hello())
  t.ok(right.toTarget_.equals(hello()))
  const wrong = new InspectHarness(policy)
  wrong.client(hello('opc.tcp://other:4840'))
  t.equal(wrong.toTarget_.length, 0)
  t.equal(errorOf(wrong), 0x80830000)
  t.match(wrong.reports, [
    { kind: 'channel', reason: 'security', detail: /opc.tcp:\/\/other:4840, expected opc.tcp:\/\/plc:4840/ },
  ])
  const endless = new InspectHarness(policy)
  endless.client(hello('x'.repeat(5000)))
  t.match(endless.reports, [{ reason: 'malformed' }])
})

t.test('security policies', async (t) => {
  const policy = opcuaPolicy({ protocol: `${ALL_SECURE}\nopcua: { security_policies: [Basic256Sha256] }` })
  const open = (name: string, mode: 'enforce' | 'monitor' = 'enforce'): InspectHarness => {
    const harness = new InspectHarness(
      mode === 'enforce'
        ? policy
        : opcuaPolicy({ mode, protocol: `${ALL_SECURE}\nopcua: { security_policies: [Basic256Sha256] }` }),
    )
    harness.client(hello())
    harness.target(acknowledge())
    harness.targetWrites.length = 0
    harness.client(openSecure(name))
    return harness
  }
  t.equal(open('Basic256Sha256').toTarget_.length, openSecure('Basic256Sha256').length)
  for (const name of ['Basic256', 'Aes128_Sha256_RsaOaep', 'Basic256Sha265', 'ECC_nistP256']) {
    const harness = open(name)
    t.equal(harness.toTarget_.length, 0, name)
    t.equal(errorOf(harness), 0x80550000)
    t.match(harness.reports.at(-1), { kind: 'channel', reason: 'security', detail: new RegExp(name) })
  }
  t.match(
    open('Basic256').reports.map(({ kind }) => kind),
    ['downgraded', 'channel'],
  )
  t.match(open('Basic256', 'monitor').reports.at(-1), { kind: 'channel', would: true })
})

t.test('pins of certificates', async (t) => {
  const [client, server] = [certificate(1), certificate(2)]
  const protocol = `rules: [{ from: [Z3], to: [Z2], services: [all], certificates: ["${thumbprint(client)}"] }]
opcua: { server_certificates: ["${thumbprint(server).toUpperCase()}"] }`
  const open = (sender: Buffer, receiver: Buffer): InspectHarness => {
    const harness = new InspectHarness(opcuaPolicy({ protocol }))
    harness.client(hello())
    harness.target(acknowledge())
    harness.targetWrites.length = 0
    harness.client(openSecure('Basic256Sha256', 0, sender, receiver))
    return harness
  }
  const right = open(client, server)
  t.not(right.toTarget_.length, 0)
  // A chain is judged by its first certificate.
  t.not(open(Buffer.concat([client, certificate(9)]), server).toTarget_.length, 0)
  const stranger = open(certificate(3), server)
  t.equal(stranger.toTarget_.length, 0)
  t.equal(errorOf(stranger), 0x80130000)
  t.match(stranger.reports.at(-1), { kind: 'channel', fields: { certificate: thumbprint(certificate(3)) } })
  t.match(open(client, certificate(4)).reports.at(-1), { kind: 'channel', detail: /server certificate/ })
  // The server shows another certificate than the client was told to ask for.
  right.target(openSecure('Basic256Sha256', CHANNEL, certificate(5), client))
  t.match(right.reports.at(-1), {
    kind: 'channel',
    detail: /server certificate/,
    fields: { server_certificate: thumbprint(certificate(5)) },
  })
  t.not(right.ended, '')
  // What is no certificate has no thumbprint.
  t.match(open(Buffer.from('not DER, not at all'), server).reports.at(-1), { reason: 'malformed' })
})

t.test('None is for discovery alone where the policy wants more', async (t) => {
  const harness = onNone(opcuaPolicy({ protocol: ALL_SECURE }))
  harness.client(request(REQUEST.GetEndpoints, { sequence: 52, request: 2 }))
  harness.target(response(RESPONSE.GetEndpoints, { sequence: 2, request: 2 }))
  t.equal(harness.requests()['GetEndpoints allow'], 1)
  for (const [i, name] of (['CreateSession', 'Read', 'RegisterServer'] as const).entries()) {
    harness.targetWrites.length = 0
    harness.client(request(REQUEST[name], { sequence: 53 + i, request: 3 + i }))
    t.equal(harness.toTarget_.length, 0, name)
    t.equal(harness.requests()[`${name} deny security`], 1)
  }
  t.match(
    harness.reports.find(({ kind }) => kind === 'downgraded'),
    { detail: /CreateSession on a channel of the mode None/ },
  )
  t.equal(harness.ended, '')
  // Where the rules know no discovery either, nothing begins on None.
  const strict = new InspectHarness(opcuaPolicy({ protocol: READ_SIGN.replace('discovery, ', '') }))
  strict.client(hello())
  strict.target(acknowledge())
  strict.client(openNone(51, 1))
  t.equal(errorOf(strict), 0x80550000)
})

t.test('a signed channel is known by its first request, and inspected', async (t) => {
  const harness = onSecure(opcuaPolicy({ protocol: READ_SIGN }))
  t.same(harness.channels(), { 'header only Basic256Sha256 undecided': 1 })
  const create = request(REQUEST.CreateSession, { sequence: 1000, request: 1 }, noise(37, 1), 32)
  harness.client(create)
  t.ok(harness.toTarget_.equals(create))
  t.same(harness.channels(), { 'inspected Basic256Sha256 Sign': 1 })
  harness.target(response(RESPONSE.CreateSession, { sequence: 77, request: 1 }, noise(21, 1), 32))
  t.equal(harness.sessions, 1)
  harness.client(request(REQUEST.Read, { sequence: 1001, request: 2 }, noise(16, 2), 32))
  t.equal(harness.requests()['Read allow'], 1)
  const before = harness.toTarget_.length
  harness.client(request(REQUEST.Write, { sequence: 1002, request: 3 }, noise(16, 2), 32))
  t.equal(harness.toTarget_.length, before, 'the denied request stays here')
  t.equal(errorOf(harness), DENIED)
  t.match(harness.reports.at(-1), {
    kind: 'request',
    reason: 'service',
    function: 'Write',
    fields: { security_mode: 'Sign' },
  })
})

t.test('an encrypted channel is known by the first answer; until then one message passes', async (t) => {
  const harness = onSecure(opcuaPolicy({ protocol: ALL_SECURE }))
  const first = [hidden('MSGC', 8176, 1), hidden('MSGF', 512, 2)]
  const second = hidden('MSGF', 256, 3)
  harness.client(Buffer.concat([...first, second]))
  t.ok(harness.toTarget_.equals(Buffer.concat(first)), 'all chunks of the first')
  t.equal(harness.session.congested, true)
  harness.client(hidden('MSGF', 128, 4))
  t.ok(harness.toTarget_.equals(Buffer.concat(first)))
  const answer = hidden('MSGF', 512, 5)
  harness.target(answer)
  t.ok(harness.toClient_.equals(answer))
  t.ok(harness.toTarget_.equals(Buffer.concat([...first, second, hidden('MSGF', 128, 4)])), 'then what waited')
  t.equal(harness.session.congested, false)
  t.same(harness.channels(), { 'header only Basic256Sha256 SignAndEncrypt': 1 })
  t.equal(harness.requests()['encrypted allow'], 3)
  t.match(harness.reports, [{ kind: 'opened', fields: { security_mode: 'SignAndEncrypt', visibility: 'header only' } }])
})

t.test('an encrypted channel where rules name services', async (t) => {
  const sign = onSecure(opcuaPolicy({ protocol: READ_SIGN }))
  sign.client(hidden('MSGF', 512, 1))
  t.equal(sign.toTarget_.length, 0)
  t.equal(errorOf(sign), 0x80540000)
  t.match(sign.reports.at(-1), { kind: 'channel', reason: 'security', detail: /neither a known service/ })
})

t.test('a signed channel where only encrypted ones are allowed', async (t) => {
  const policy = opcuaPolicy({ protocol: `security_mode: SignAndEncrypt\n${ALL_SECURE}` })
  const harness = onSecure(policy)
  harness.client(request(REQUEST.CreateSession, { sequence: 1, request: 1 }, Buffer.alloc(0), 32))
  t.equal(harness.toTarget_.length, 0)
  t.equal(errorOf(harness), 0x80540000)
  t.match(
    harness.reports.map(({ kind }) => kind),
    ['downgraded', 'channel'],
  )
  t.match(harness.reports[0], { detail: /mode Sign, where the policy wants SignAndEncrypt/ })
})

/** What a hostile client on a signed channel does to look encrypted: [what, its messages; the server answers in clear] */
const disguises: [string, Buffer[]][] = [
  // 24 + 8 + 32 is 16 more than a multiple of the block.
  [
    'no service, padded to the block',
    [
      chunk('MSGF', { sequence: 0x12345678, request: 9 }, noise(24, 1), 32),
      chunk(
        'MSGF',
        { sequence: 0x9abcdef0, request: 10 },
        Buffer.concat([Buffer.from([1, 0, 0xa1, 2]), noise(20, 2)]),
        32,
      ),
    ],
  ],
  [
    'a type id in two chunks',
    [
      chunk('MSGC', { sequence: 0x12345678, request: 9 }, Buffer.concat([Buffer.from([3, 0]), noise(22, 1)]), 32),
      chunk('MSGF', { sequence: 0x12345679, request: 9 }, noise(24, 3), 32),
    ],
  ],
]

for (const [what, [first, second]] of disguises) {
  t.test(`disguised: ${what}`, async (t) => {
    const harness = onSecure(opcuaPolicy({ protocol: ALL_SECURE }))
    harness.client(Buffer.concat([first, second]))
    t.ok(harness.toTarget_.length <= first.length, 'no more than the first chunk passes')
    if (harness.ended === '') harness.target(response(FAULT, { sequence: 1, request: 9 }, Buffer.alloc(8), 32))
    t.not(harness.ended, '')
    t.ok(harness.toTarget_.length <= first.length)
    t.match(harness.reports.at(-1), { kind: 'request', reason: 'service' })
  })
}

t.test('reverse connect', async (t) => {
  const protocol = `rules: [{ from: [Z2], to: [Z3], services: [discovery, session, read] }]
opcua: { security_modes: [None], reverse_connect: [Z2], endpoint_urls: ["opc.tcp://plc:4840"] }`
  // The server, at 127.0.0.1 in Z3, connects to the client in Z2.
  const harness = new InspectHarness(opcuaPolicy({ protocol }))
  harness.client(Buffer.concat([reverseHello()]))
  t.ok(harness.toTarget_.equals(reverseHello()))
  harness.target(hello())
  harness.client(acknowledge())
  harness.target(openNone(51, 1))
  harness.client(openedNone(1, 1, CHANNEL, TOKEN))
  harness.target(request(REQUEST.Read, { sequence: 52, request: 2 }))
  harness.client(response(RESPONSE.Read, { sequence: 2, request: 2 }))
  const before = harness.toClient_.length
  harness.target(request(REQUEST.Write, { sequence: 53, request: 3 }))
  t.equal(harness.toClient_.length, before, 'the write does not reach the server')
  const fault = messages(harness.toTarget_).at(-1)
  t.equal(fault?.readUInt16LE(26), FAULT, 'its client is answered')
  t.equal(harness.requests()['Read allow'], 1)
  t.equal(harness.ended, '')
  const elsewhere = new InspectHarness(opcuaPolicy({ protocol }))
  elsewhere.client(reverseHello('opc.tcp://elsewhere:4840'))
  t.equal(elsewhere.toTarget_.length, 0)
  t.match(elsewhere.reports, [{ kind: 'channel', detail: /elsewhere/ }])
  const unlisted = new InspectHarness(none())
  unlisted.client(reverseHello())
  t.equal(unlisted.toTarget_.length, 0)
  t.match(unlisted.reports, [{ kind: 'channel', detail: /may not open connections/ }])
  const backwards = new InspectHarness(opcuaPolicy({ protocol }))
  backwards.client(hello())
  t.match(backwards.reports, [{ kind: 'channel', reason: 'pair' }], 'and the server may not ask for anything itself')
})

t.test("reverse connect and encryption: what waits is the target's, and the server is read", async (t) => {
  const protocol = `rules: [{ from: [Z2], to: [Z3], services: [all] }]
opcua: { reverse_connect: [Z2] }`
  const harness = new InspectHarness(opcuaPolicy({ protocol }))
  harness.client(reverseHello())
  harness.target(hello())
  harness.client(acknowledge())
  harness.target(openSecure('Basic256Sha256'))
  harness.client(openSecure('Basic256Sha256', CHANNEL, certificate(2), certificate(1)))
  const before = harness.toClient_.length
  const [first, second] = [hidden('MSGF', 512, 1), hidden('MSGF', 256, 2)]
  harness.target(Buffer.concat([first, second]))
  t.ok(harness.toClient_.subarray(before).equals(first))
  t.equal(harness.session.congested, false)
  harness.client(hidden('MSGF', 512, 3))
  t.ok(harness.toClient_.subarray(before).equals(Buffer.concat([first, second])))
})

t.test('a rule in monitor mode lets pass what it would deny', async (t) => {
  const protocol = `rules:
  - { name: reads, from: [Z3], to: [Z2], services: [discovery, session, read], mode: monitor }
opcua: { security_modes: [None] }`
  const harness = onNone(none(protocol))
  const write = request(REQUEST.Write, { sequence: 52, request: 2 })
  harness.client(write)
  t.ok(harness.toTarget_.equals(write))
  t.match(harness.reports.at(-1), { kind: 'request', would: true, reason: 'service', function: 'Write' })
  t.equal(harness.requests()['Write would_deny service'], 1)
  harness.target(response(RESPONSE.Write, { sequence: 2, request: 2 }))
  t.equal(harness.ended, '')
  t.equal(harness.pending, 0)
})

t.test('an endless first message on a channel whose mode is not known', async (t) => {
  const protocol = `${ALL_SECURE}\nopcua: { limits: { message_bytes: 20000, chunks: 4 } }`
  const harness = onSecure(opcuaPolicy({ protocol }))
  for (let i = 0; i < 6 && harness.ended === ''; i++) harness.client(hidden('MSGC', 512, 2 * i + 1))
  t.equal(messages(harness.toTarget_).length, 4)
  t.match(harness.reports.at(-1), { reason: 'rate' })
})

t.test('limits of a message', async (t) => {
  const protocol = READ_NONE.replace('[None] }', '[None], limits: { message_bytes: 20000, chunks: 3 } }')
  const many = onNone(none(protocol))
  const start = Buffer.concat([Buffer.from([1, 0, REQUEST.Read & 255, REQUEST.Read >> 8]), requestHeader(20)])
  many.client(chunk('MSGC', { sequence: 52, request: 2 }, start))
  for (let i = 0; i < 3; i++) many.client(chunk('MSGC', { sequence: 53 + i, request: 2 }, noise(100, i)))
  t.equal(errorOf(many), 0x80800000)
  t.match(many.reports.at(-1), { reason: 'rate', detail: /20000 bytes or 3 chunks/ })
  const long = onNone(none(protocol))
  long.client(request(REQUEST.Read, { sequence: 52, request: 2 }, noise(21_000, 1)))
  t.equal(errorOf(long), 0x80800000)
  const answered = onNone(none(protocol))
  answered.client(request(REQUEST.Read, { sequence: 52, request: 2 }))
  answered.target(response(RESPONSE.Read, { sequence: 2, request: 2 }, noise(21_000, 1)))
  t.match(answered.reports.at(-1), { kind: 'response', reason: 'rate' })
})

t.test('the buffers that Hello and Acknowledge agree on bound the chunks', async (t) => {
  const harness = new InspectHarness(none())
  harness.client(hello('opc.tcp://plc:4840', 131_072))
  harness.target(acknowledge(131_072))
  harness.client(openNone(51, 1))
  harness.target(openedNone(1, 1, CHANNEL, TOKEN))
  const long = request(REQUEST.Read, { sequence: 52, request: 2 }, noise(100_000, 1))
  harness.client(long)
  t.ok(harness.toTarget_.subarray(-long.length).equals(long), 'of more than 64 KiB where they say so')
  const small = new InspectHarness(none())
  small.client(hello('opc.tcp://plc:4840', 131_072))
  small.target(acknowledge(8192))
  small.client(openNone(51, 1))
  small.target(openedNone(1, 1, CHANNEL, TOKEN))
  small.client(request(REQUEST.Read, { sequence: 52, request: 2 }, noise(9000, 1)))
  t.match(small.reports.at(-1), { reason: 'malformed', detail: /expected 24 to 8192/ })
})

class Limiter {
  held = 0
  full = false
  acquire(_us: number, force: boolean): boolean {
    if (!this.full || force) this.held++
    return !this.full
  }
  release(): void {
    this.held--
  }
}

t.test('over a limit of requests: answered in clear, held back where nothing can be answered', async (t) => {
  const limiter = new Limiter()
  const harness = onNone(none())
  harness.adopt(none(), limiter)
  harness.client(request(REQUEST.Read, { sequence: 52, request: 2 }))
  t.equal(limiter.held, 1)
  limiter.full = true
  harness.client(request(REQUEST.Read, { sequence: 53, request: 3 }))
  t.equal(messages(harness.toClient_)[0].readUInt32LE(40), 0x80100000, 'BadTooManyOperations')
  harness.target(response(RESPONSE.Read, { sequence: 2, request: 2 }))
  t.equal(limiter.held, 0)
  limiter.full = false
  harness.client(request(REQUEST.Publish, { sequence: 54, request: 4 }))
  t.equal(limiter.held, 0, 'a Publish is not in flight')

  const signed = onSecure(opcuaPolicy({ protocol: READ_SIGN }))
  signed.client(request(REQUEST.CreateSession, { sequence: 10, request: 1 }, Buffer.alloc(5), 32))
  signed.adopt(opcuaPolicy({ protocol: READ_SIGN }), limiter)
  limiter.full = true
  const read = request(REQUEST.Read, { sequence: 11, request: 2 }, Buffer.alloc(0), 32)
  const before = signed.toTarget_.length
  signed.client(read)
  t.equal(signed.toTarget_.length, before)
  t.equal(signed.session.waiting, true)
  t.equal(signed.session.congested, true)
  signed.pass(100)
  t.equal(signed.toTarget_.length, before)
  limiter.full = false
  signed.pass(20)
  t.ok(signed.toTarget_.subarray(before).equals(read))
  t.equal(signed.session.waiting, false)
  t.equal(signed.ended, '')
})

t.test('what does not come in time', async (t) => {
  const policy = opcuaPolicy({ protocol: `${READ_NONE}\ntimeouts: { partial_frame: 3s, idle: 10s }` })
  const silent = new InspectHarness(policy)
  silent.pass(2900)
  t.equal(silent.ended, '')
  silent.pass(200)
  t.match(silent.reports, [{ reason: 'timeout', detail: /no Hello within 3000 ms/ }])
  t.equal(errorOf(silent), 0x800a0000)
  const slow = onNone(policy)
  slow.client(request(REQUEST.Read, { sequence: 52, request: 2 }).subarray(0, 40))
  slow.pass(3100)
  t.match(slow.reports.at(-1), { kind: 'request', reason: 'timeout', detail: /no whole message/ })
  const half = onNone(policy)
  half.client(request(REQUEST.Read, { sequence: 52, request: 2 }, noise(2000, 1)).subarray(0, 1000))
  half.pass(3100)
  t.match(half.reports.at(-1), { kind: 'request', reason: 'timeout' })
  const idle = onNone(policy)
  idle.pass(10_100)
  t.equal(idle.ended, 'idle')
})

t.test('requests that are not answered in time are told once, and their answers pass all the same', async (t) => {
  for (const mode of ['monitor', 'enforce'] as const) {
    const harness = onNone(opcuaPolicy({ mode, protocol: `${READ_NONE}\ntimeouts: { response: 2s }` }))
    harness.client(request(REQUEST.Publish, { sequence: 52, request: 2 }))
    harness.client(request(REQUEST.Read, { sequence: 53, request: 3 }))
    harness.pass(1000)
    harness.client(request(REQUEST.Browse, { sequence: 54, request: 4 }))
    harness.pass(500)
    harness.target(response(RESPONSE.Browse, { sequence: 2, request: 4 }))
    const timeouts = () => harness.reports.filter(({ kind }) => kind === 'timeout')
    t.strictSame(timeouts(), [], mode)
    harness.pass(20_000)
    t.match(timeouts(), [
      {
        reason: 'timeout',
        would: mode === 'monitor',
        function: 'Read',
        detail: 'no answer within 2000 ms',
        fields: { function: 'Read', request_id: 3, channel_id: CHANNEL },
      },
    ])
    t.equal(timeouts().length, 1, 'once, and no Publish')
    harness.target(response(RESPONSE.Read, { sequence: 3, request: 3 }))
    t.equal(messages(harness.toClient_).length, 2, 'the late answer passes')
    t.strictSame(harness.responses(), { allow: 3 }, 'that to OPN among them')
    t.equal(harness.pending, 1)
    t.equal(harness.ended, '')
  }
})

t.test('what would be denied is listed, and how it is answered is told', async (t) => {
  const value = Buffer.concat([Buffer.from([1, 11]), Buffer.alloc(8)])
  const item = (id: number): Buffer =>
    Buffer.concat([Buffer.from([1, 2, id, 0]), Buffer.from([13, 0, 0, 0]), string(null), value])
  const items = (...ids: number[]): Buffer => Buffer.concat([Buffer.from([ids.length, 0, 0, 0]), ...ids.map(item)])
  const codes = (...statuses: number[]): Buffer => {
    const bytes = Buffer.alloc(4 + 4 * statuses.length)
    bytes.writeInt32LE(statuses.length)
    for (const [i, status] of statuses.entries()) bytes.writeUInt32LE(status, 4 + 4 * i)
    return bytes
  }
  const rules = `rules:
  - { name: some, from: [Z3], to: [Z2], services: [session, write, read], nodes: ["ns=2;i=1-9"] }
opcua: { security_modes: [None] }`
  const harness = onNone(opcuaPolicy({ mode: 'monitor', protocol: rules }))
  const write = (n: number, body: Buffer) =>
    harness.client(request(REQUEST.Write, { sequence: 52 + n, request: 2 + n }, body))
  const reply = (n: number, body: Buffer, status = 0) =>
    harness.target(response(RESPONSE.Write, { sequence: 2 + n, request: 2 + n }, body, 0, status))
  const told = () => harness.reports.at(-1)
  write(0, items(3, 20, 21))
  t.match(told(), { kind: 'request', reason: 'node', would: true, fields: { node: 'ns=2;i=20', denied: 2 } })
  t.strictSame(told()?.items, {
    list: [20, 21].map((id) => ({ node: `ns=2;i=${id}`, attribute: 'Value', value: '0' })),
    more: false,
  })
  reply(0, codes(0x80000000, 0, 0x80000000))
  t.strictSame(harness.answered.at(-1), { request: 2, refused: false }, 'the first item that would be denied is good')
  write(1, items(3, 20))
  reply(1, codes(0, 0x803b0000))
  t.strictSame(harness.answered.at(-1), { request: 3, refused: true }, 'BadNotWritable')
  write(2, items(30))
  reply(2, Buffer.alloc(0), 0x80340000)
  t.strictSame(harness.answered.at(-1), { request: 4, refused: true }, 'a bad service result')
  write(3, items(...Array.from({ length: 20 }, (_, i) => 30 + i)))
  t.equal(told()?.items.list.length, 8)
  t.equal(told()?.items.more, true)
  harness.target(response(FAULT, { sequence: 5, request: 5 }))
  t.strictSame(harness.answered.at(-1), { request: 5, refused: true }, 'a fault')
  write(4, items(3, 4))
  reply(4, codes(0x803b0000, 0))
  t.equal(harness.answered.length, 4, 'of what is allowed nobody asks')
  write(5, items(30))
  reply(5, codes(0).subarray(0, 3))
  t.strictSame(harness.answered.at(-1), { request: 7, refused: false }, 'cut short: the service result alone')
})

t.test('the evidence gate shuts all of it', async (t) => {
  const policy = none()
  const harness = onNone(policy)
  ;(harness.plan.terms.gate as Int32Array)[0] = 1
  harness.client(request(REQUEST.Read, { sequence: 52, request: 2 }))
  t.equal(harness.requests()['Read deny evidence'], 1)
  t.equal(harness.toTarget_.length, 0)
  ;(harness.plan.terms.gate as Int32Array)[0] = 0
  harness.client(request(REQUEST.Read, { sequence: 53, request: 3 }))
  t.equal(harness.requests()['Read allow'], 1)
})

t.test('reload: new rules hold for the next message of the channel that there is', async (t) => {
  const harness = onNone(none())
  harness.client(request(REQUEST.Read, { sequence: 52, request: 2 }))
  harness.adopt(none(READ_NONE.replace('read, ', '')))
  t.equal(harness.pending, 1)
  harness.client(request(REQUEST.Read, { sequence: 53, request: 3 }))
  t.equal(harness.requests()['Read deny service'], 1)
  harness.adopt(none(READ_NONE, 'monitor'))
  t.equal(harness.session.monitoring, false, 'what is numbered anew stays so')
  harness.client(request(REQUEST.Write, { sequence: 54, request: 4 }))
  t.equal(harness.requests()['Write would_deny service'], 1)
  t.same(sequences(harness.toTarget_), [52, 53])
  harness.adopt(opcuaPolicy({ protocol: READ_SIGN.replace('discovery, ', '') }))
  t.not(harness.ended, '', 'a channel that the new policy refuses is cut')
  t.equal(errorOf(harness), 0x80550000)
})

t.test('reload: from monitor to enforce between two messages', async (t) => {
  const harness = onNone(none(READ_NONE, 'monitor'))
  harness.client(request(REQUEST.Write, { sequence: 52, request: 2 }).subarray(0, 30))
  harness.adopt(none())
  t.equal(harness.session.monitoring, true, 'not within a message')
  harness.client(request(REQUEST.Write, { sequence: 52, request: 2 }).subarray(30))
  t.equal(harness.session.monitoring, false)
  harness.target(response(RESPONSE.Write, { sequence: 2, request: 2 }))
  const before = harness.toTarget_.length
  harness.client(request(REQUEST.Write, { sequence: 53, request: 3 }))
  t.equal(harness.toTarget_.length, before)
  harness.client(request(REQUEST.Read, { sequence: 54, request: 4 }))
  t.same(sequences(harness.toTarget_), [52, 53])
  t.same(sequences(harness.toClient_), [2, 3])
})

t.test('reload: what could not be read cannot be enforced', async (t) => {
  const harness = onNone(none(READ_NONE, 'monitor'))
  harness.client(Buffer.from('nonsense'))
  t.same(harness.channels(), { 'blind None None': 1 })
  harness.client(request(REQUEST.Write, { sequence: 52, request: 2 }))
  t.match(harness.reports.at(-1), { would: true, reason: 'malformed' })
  harness.adopt(none())
  t.not(harness.ended, '')
})

t.test('an end asked for waits for what is outstanding, Publish apart', async (t) => {
  const harness = onNone(none())
  harness.client(request(REQUEST.Read, { sequence: 52, request: 2 }))
  harness.client(request(REQUEST.Publish, { sequence: 53, request: 3 }))
  harness.session.close('gateway stopping')
  t.equal(harness.ended, '')
  harness.target(response(RESPONSE.Read, { sequence: 2, request: 2 }))
  t.equal(harness.ended, 'gateway stopping')
  t.equal(messages(harness.toClient_).length, 2)
  const secure = onSecure(opcuaPolicy({ protocol: ALL_SECURE }))
  secure.session.close('gateway stopping')
  t.equal(secure.ended, 'gateway stopping')
})

t.test('the target is lost', async (t) => {
  const harness = new InspectHarness(none())
  harness.client(hello())
  harness.session.onTargetLost(false)
  t.equal(errorOf(harness), 0x80050000)
  t.equal(harness.ended, 'target unreachable')
})

t.test('a channel of another certificate has another rule', async (t) => {
  const [one, other] = [certificate(1), certificate(3)]
  const protocol = `rules:
  - { name: engineer, from: [Z3], to: [Z2], services: [all], certificates: ["${thumbprint(one)}"] }
  - { name: others, from: [Z3], to: [Z2], services: [discovery, session, read] }
opcua: { security_modes: [Sign] }`
  for (const [sender, allowed] of [
    [one, true],
    [other, false],
  ] as const) {
    const harness = new InspectHarness(opcuaPolicy({ protocol }))
    harness.client(hello())
    harness.target(acknowledge())
    harness.client(openSecure('Basic256Sha256', 0, sender))
    harness.target(openSecure('Basic256Sha256', CHANNEL, certificate(2), sender))
    harness.client(request(REQUEST.CreateSession, { sequence: 9, request: 1 }, Buffer.alloc(5), 32))
    t.equal(harness.ended, '')
    harness.client(request(REQUEST.Write, { sequence: 10, request: 2 }, Buffer.alloc(5), 32))
    t.equal(harness.requests()[allowed ? 'Write allow' : 'Write deny security'], 1)
  }
})

// ---------------------------------------------------------------------------------------------------- rules on nodes

const NODES = `rules:
  - name: line
    from: [Z3]
    to: [Z2]
    services: [discovery, session, browse, read, write]
    nodes: ["ns=2;s=Line1.*"]
    values: { "ns=2;s=Line1.Setpoint": { max: 85 } }
opcua: { security_modes: [None] }`

const u32 = (value: number): Buffer => Buffer.from([value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24])
const nodeId = (text: string): Buffer => Buffer.concat([Buffer.from([3, 2, 0]), string(text)])
/** ReadRequest behind its header: the Value of each node. */
const reading = (...nodes: string[]): Buffer =>
  Buffer.concat([
    Buffer.alloc(8),
    u32(0),
    u32(nodes.length),
    ...nodes.flatMap((node) => [nodeId(node), u32(13), string(null), Buffer.alloc(2), string(null)]),
  ])
/** WriteRequest behind its header: a Double for the Value of each node. */
const writing = (...items: [string, number][]): Buffer =>
  Buffer.concat([
    u32(items.length),
    ...items.flatMap(([node, value]) => {
      const double = Buffer.alloc(8)
      double.writeDoubleLE(value)
      return [nodeId(node), u32(13), string(null), Buffer.from([1, 11]), double]
    }),
  ])
/** Results of Read: UInt32 values. */
const values = (...numbers: number[]): Buffer =>
  Buffer.concat([u32(numbers.length), ...numbers.flatMap((one) => [Buffer.from([1, 7]), u32(one)]), u32(0)])

const onNodes = (mode: 'enforce' | 'monitor' = 'enforce') => onNone(none(NODES, mode))

t.test('items: a Read of allowed nodes passes as it is', async (t) => {
  const harness = onNodes()
  const read = request(REQUEST.Read, { sequence: 52, request: 2 }, reading('Line1.A', 'Line1.B'))
  harness.client(read.subarray(0, 60))
  harness.client(read.subarray(60))
  t.ok(harness.toTarget_.equals(read))
  const answer = response(RESPONSE.Read, { sequence: 2, request: 2 }, values(1, 2))
  harness.target(answer)
  t.ok(harness.toClient_.equals(answer))
})

t.test('items: the denied one stays here, and its result comes back in place', async (t) => {
  const harness = onNodes()
  harness.client(request(REQUEST.Read, { sequence: 52, request: 2 }, reading('Line1.A', 'Line2.X', 'Line1.B')))
  t.equal(harness.ended, '')
  const sent = request(REQUEST.Read, { sequence: 52, request: 2 }, reading('Line1.A', 'Line1.B'))
  t.equal(harness.toTarget_.toString('hex'), sent.toString('hex'), 'the others go on')
  t.match(harness.reports.at(-1), {
    kind: 'request',
    reason: 'node',
    function: 'Read',
    fields: { node: 'ns=2;s=Line2.X', items: 3, denied: 1, attribute: 'Value' },
  })
  harness.target(response(RESPONSE.Read, { sequence: 2, request: 2 }, values(1, 2)))
  const [answer] = messages(harness.toClient_)
  const body = answer.subarray(28 + 24)
  // Three results: a value, the status BadUserAccessDenied alone, a value.
  t.equal(body.readUInt32LE(), 3)
  t.equal(body.subarray(4, 10).toString('hex'), '010701000000')
  t.equal(body.subarray(10, 15).toString('hex'), '0200001f80')
  t.equal(body.subarray(15, 21).toString('hex'), '010702000000')
  t.equal(harness.requests()['Read deny node'], 1)
  t.notOk(harness.requests()['Read allow'], 'counted once')
  // From here on what goes on is numbered anew.
  harness.client(request(REQUEST.CloseSession, { sequence: 53, request: 3 }))
  t.same(sequences(harness.toTarget_), [52, 53])
})

t.test('items: values, and all of a list', async (t) => {
  const harness = onNodes()
  const fine = request(
    REQUEST.Write,
    { sequence: 52, request: 2 },
    writing(['Line1.Setpoint', 85], ['Line1.Other', 900]),
  )
  harness.client(fine)
  t.ok(harness.toTarget_.equals(fine))
  harness.client(request(REQUEST.Write, { sequence: 53, request: 3 }, writing(['Line1.Setpoint', 85.5])))
  t.ok(harness.toTarget_.equals(fine), 'nothing of it goes on')
  const fault = messages(harness.toClient_)[0]
  t.equal(fault.readUInt16LE(26), FAULT)
  t.equal(fault.readUInt32LE(36), 30)
  t.match(harness.reports.at(-1), { reason: 'value', fields: { node: 'ns=2;s=Line1.Setpoint', value: '85.5' } })
  harness.client(request(REQUEST.Write, { sequence: 54, request: 4 }, writing(['Line1.Other', 1])))
  t.same(sequences(harness.toTarget_), [52, 53])
})

t.test('items: a request of several chunks is judged as one', async (t) => {
  const whole = request(REQUEST.Write, { sequence: 52, request: 2 }, writing(['Line1.Setpoint', 86]))
  const cut = 24 + 60
  const chunks = [
    chunk('MSGC', { sequence: 52, request: 2 }, whole.subarray(24, cut)),
    chunk('MSGF', { sequence: 53, request: 2 }, whole.subarray(cut)),
  ]
  const harness = onNodes()
  for (const one of chunks) harness.client(one)
  t.equal(harness.toTarget_.length, 0)
  t.equal(harness.requests()['Write deny value'], 1)
  const allowed = onNodes()
  const fine = chunks.map((one) => Buffer.from(one))
  fine[1].writeDoubleLE(84, fine[1].length - 8)
  for (const one of fine) allowed.client(one)
  t.ok(allowed.toTarget_.equals(Buffer.concat(fine)))
})

t.test('items: a body that is none is denied', async (t) => {
  const harness = onNodes()
  const longer = Buffer.concat([writing(['Line1.A', 1]), Buffer.alloc(3)])
  harness.client(request(REQUEST.Write, { sequence: 52, request: 2 }, longer))
  t.equal(harness.toTarget_.length, 0)
  t.match(harness.reports.at(-1), { reason: 'malformed', function: 'Write' })
})

t.test('items: monitor mode says the same and changes nothing', async (t) => {
  const harness = onNodes('monitor')
  const asked = Buffer.concat([
    request(REQUEST.Read, { sequence: 52, request: 2 }, reading('Line1.A', 'Line2.X')),
    request(REQUEST.Write, { sequence: 53, request: 3 }, writing(['Line1.Setpoint', 86])),
  ])
  harness.client(asked)
  t.ok(harness.toTarget_.equals(asked))
  const answered = response(RESPONSE.Read, { sequence: 2, request: 2 }, values(1, 2))
  harness.target(answered)
  t.ok(harness.toClient_.equals(answered))
  t.match(
    harness.reports.filter(({ kind }) => kind === 'request'),
    [
      { reason: 'node', would: true, fields: { denied: 1 } },
      { reason: 'value', would: true },
    ],
  )
  t.same(
    Object.keys(harness.requests()).filter((one) => /would/.test(one)),
    ['Read would_deny node', 'Write would_deny value'],
  )
})

t.test('items: on a signed channel one that is denied ends the connection', async (t) => {
  const harness = onSecure(opcuaPolicy({ protocol: NODES.replace('[None]', '[Sign]') }))
  harness.client(request(REQUEST.CreateSession, { sequence: 9, request: 1 }, Buffer.alloc(5), 32))
  const read = request(REQUEST.Read, { sequence: 10, request: 2 }, reading('Line1.A'), 32)
  harness.client(read)
  t.ok(harness.toTarget_.subarray(-read.length).equals(read))
  const before = harness.toTarget_.length
  harness.client(request(REQUEST.Read, { sequence: 11, request: 3 }, reading('Line1.A', 'Line2.X'), 32))
  t.equal(harness.toTarget_.length, before)
  t.equal(errorOf(harness), DENIED)
})

t.test('items: the alias that a server gives for a node is that node', async (t) => {
  const harness = onNodes()
  const registering = (...nodes: string[]): Buffer => Buffer.concat([u32(nodes.length), ...nodes.map(nodeId)])
  harness.client(request(REQUEST.RegisterNodes, { sequence: 52, request: 2 }, registering('Line1.A')))
  // The server gives ns=9;i=5 for it.
  const alias = Buffer.from([1, 9, 5, 0])
  harness.target(response(RESPONSE.RegisterNodes, { sequence: 2, request: 2 }, Buffer.concat([u32(1), alias])))
  const before = harness.toTarget_.length
  const byAlias = (id: Buffer): Buffer =>
    Buffer.concat([Buffer.alloc(8), u32(0), u32(1), id, u32(13), string(null), Buffer.alloc(2), string(null)])
  harness.client(request(REQUEST.Read, { sequence: 53, request: 3 }, byAlias(alias)))
  t.ok(harness.toTarget_.length > before, 'allowed as Line1.A')
  harness.client(request(REQUEST.Read, { sequence: 54, request: 4 }, byAlias(Buffer.from([1, 9, 6, 0]))))
  t.equal(harness.requests()['Read deny node'], 1, 'an alias that nobody gave')
  harness.client(request(REQUEST.RegisterNodes, { sequence: 55, request: 5 }, registering('Line2.X')))
  t.equal(harness.requests()['RegisterNodes deny node'], 1)
})
