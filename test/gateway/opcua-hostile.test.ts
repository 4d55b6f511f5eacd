/**
 * Hostile peers of a terminating session: bytes that are altered on either side's wire, replays, floods, garbage, what
 * is too large, certificates that are not to be trusted. Whatever of security fails, the client is told the same.
 */
import { randomBytes } from 'node:crypto'
import net from 'node:net'
import { AttributeIds, type ClientSession, DataType, Variant } from 'node-opcua'
import t, { type Test } from 'tap'
import { readCertificate } from '../../src/protocols/opcua/security/certificate.ts'
import { TrustList } from '../../src/protocols/opcua/security/trust.ts'
import { readError } from '../../src/protocols/opcua/terminate/messages.ts'
import { statusName } from '../../src/protocols/opcua/terminate/status.ts'
import { type GatewayOptions, ruleOf, TestGateway } from '../support/opcua-gateway.ts'
import { type CellServer, client, startServer, temporary, withSession } from '../support/opcua-peers.ts'
import { Authority, type Holder, selfSigned } from '../support/opcua-pki.ts'
import { connect, type Peer, RawTarget, until } from '../support/sockets.ts'

let directory: string
let own: Holder
let serverHolder: Holder
let holder: Holder
let cell: CellServer
let clients = 0

t.before(async () => {
  directory = temporary(t)
  ;[own, serverHolder, holder] = await Promise.all(['gateway', 'server', 'client'].map((name) => selfSigned(name)))
  cell = await startServer(t, directory, serverHolder)
})

const open = (t: Test, options: Partial<GatewayOptions> = {}): Promise<TestGateway> =>
  TestGateway.open(t, { own, clients: [holder.der], servers: [serverHolder.der], target: cell.port, ...options })

const newClient = (t: Test, who = holder, options: Parameters<typeof client>[4] = {}) =>
  client(t, directory, `hostile${clients++}`, who, {
    serverCertificate: own.der,
    endpointMustExist: false,
    ...options,
  })

/** Whole chunks at the start of `bytes`. */
function chunks(bytes: Buffer): Buffer[] {
  const list: Buffer[] = []
  for (let at = 0; at + 8 <= bytes.length; ) {
    const end = at + bytes.readUInt32LE(at + 4)
    if (end > bytes.length || end < at + 8) break
    list.push(bytes.subarray(at, end))
    at = end
  }
  return list
}

const typeOf = (chunk: Buffer): string => chunk.toString('latin1', 0, 3)

interface Wire {
  port: number
  /** Chunks towards the port that was tapped, and from it. */
  forward: Buffer[]
  backward: Buffer[]
}

/** Between two ends, by whole chunks: `alter` may change each, or give several for it. */
async function tap(
  t: Test,
  to: number,
  alter: (chunk: Buffer, index: number, forward: boolean) => Buffer | Buffer[],
): Promise<Wire> {
  const wire: Wire = { port: 0, forward: [], backward: [] }
  const sockets = new Set<net.Socket>()
  const server = net.createServer((near) => {
    const far = net.connect({ port: to, host: '127.0.0.1', noDelay: true })
    const pipe = (from: net.Socket, into: net.Socket, forward: boolean): void => {
      let rest: Buffer = Buffer.alloc(0)
      let index = 0
      from.on('data', (bytes) => {
        rest = Buffer.concat([rest, bytes])
        for (const chunk of chunks(rest)) {
          ;(forward ? wire.forward : wire.backward).push(Buffer.from(chunk))
          for (const out of [alter(Buffer.from(chunk), index++, forward)].flat()) into.write(out)
          rest = rest.subarray(chunk.length)
        }
      })
      from.on('error', () => {})
      from.on('close', () => into.end())
      sockets.add(from)
    }
    pipe(near, far, true)
    pipe(far, near, false)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  wire.port = (server.address() as net.AddressInfo).port
  return wire
}

const errors = (wire: Wire): string[] =>
  wire.backward
    .filter((chunk) => typeOf(chunk) === 'ERR')
    .map((chunk) => {
      const { status, reason } = readError(chunk, 0, chunk.length)
      return `${statusName(status)} ${reason}`
    })

const flip = (chunk: Buffer, at: number): Buffer => {
  chunk[at < 0 ? chunk.length + at : at] ^= 0x01
  return chunk
}

const SAME = 'BadSecurityChecksFailed The connection is closed by a gateway.'
const read = (session: ClientSession) =>
  session.read({ nodeId: `ns=${cell.namespace};s=Line1.Setpoint`, attributeId: AttributeIds.Value })

t.test('one text for all that fails in security, wherever the client’s bytes were altered', async (t) => {
  const header = 12 + 4 + 57 + 4 + holder.der.length + 4
  const alterations: [string, string, (chunk: Buffer) => Buffer | Buffer[]][] = [
    ['receiver thumbprint', 'OPN', (chunk) => flip(chunk, header + 3)],
    ['first cipher block', 'OPN', (chunk) => flip(chunk, header + 25)],
    ['a middle byte', 'OPN', (chunk) => flip(chunk, header + 300)],
    ['the last byte', 'OPN', (chunk) => flip(chunk, -1)],
    ['the last block is random', 'OPN', (chunk) => Buffer.concat([chunk.subarray(0, -256), randomBytes(256)])],
    ['a byte of the certificate’s key', 'OPN', (chunk) => flip(chunk, 12 + 4 + 57 + 4 + 300)],
    ['a byte of the certificate’s signature', 'OPN', (chunk) => flip(chunk, 12 + 4 + 57 + 4 + holder.der.length - 3)],
    ['channel id', 'MSG', (chunk) => flip(chunk, 8)],
    ['token id', 'MSG', (chunk) => flip(chunk, 12)],
    ['the first encrypted byte', 'MSG', (chunk) => flip(chunk, 16)],
    ['the last byte', 'MSG', (chunk) => flip(chunk, -1)],
    ['the padding', 'MSG', (chunk) => flip(chunk, -33)],
    ['type', 'MSG', (chunk) => Buffer.concat([Buffer.from('CLO'), chunk.subarray(3)])],
    ['final', 'MSG', (chunk) => Buffer.concat([Buffer.from('MSGC'), chunk.subarray(4)])],
    ['twice', 'MSG', (chunk) => [chunk, Buffer.from(chunk)]],
  ]
  for (const [what, type, alter] of alterations) {
    const gateway = await open(t)
    let done = false
    const wire = await tap(t, gateway.port, (chunk, _index, forward) => {
      if (!forward || done || typeOf(chunk) !== type) return chunk
      done = true
      return alter(chunk)
    })
    const made = await newClient(t)
    await t.rejects(
      withSession(made, `opc.tcp://127.0.0.1:${wire.port}`, (session) => read(session)),
      `${type}: ${what}`,
    )
    await until(() => errors(wire).length > 0, `ERR for ${what}`)
    t.same(errors(wire), [SAME], `${type}: ${what}`)
    t.equal(gateway.details('channel').length, 1, `${type}: ${what}: told once`)
    await made.disconnect().catch(() => {})
  }
  t.equal(cell.server.engine.currentSessionCount, 0, 'no session is left behind')
})

t.test('one text, whatever the certificate has against it', async (t) => {
  const authority = await Authority.make('CA')
  const day = 86_400_000
  const expired = await authority.issue('expired', {
    notAfter: new Date(Date.now() - day),
    notBefore: new Date(Date.now() - 2 * day),
  })
  const revoked = await authority.issue('revoked', { serialNumber: '42' })
  const weak = await authority.issue('weak', { usage: 1 })
  const stranger = await selfSigned('stranger')
  const issuer = readCertificate(authority.der)?.thumbprintHex as string
  const revocations = [{ issuer, nextUpdate: null, serials: ['42'] }]
  const trust = new TrustList({ trusted: [authority.der], issuers: [], revocations })
  const gateway = await open(t, { terms: { clients: trust } })
  for (const [who, status] of [
    [expired, 'BadCertificateTimeInvalid'],
    [revoked, 'BadCertificateRevoked'],
    [weak, 'BadCertificateUseNotAllowed'],
    [stranger, 'BadCertificateUntrusted'],
  ] as const) {
    const wire = await tap(t, gateway.port, (chunk) => chunk)
    const made = await newClient(t, who)
    await t.rejects(made.connect(`opc.tcp://127.0.0.1:${wire.port}`))
    await until(() => errors(wire).length > 0, 'ERR')
    t.same(errors(wire), [SAME])
    t.match(gateway.details('channel').at(-1), status)
    await made.disconnect().catch(() => {})
  }
  t.same(
    gateway.rejected.map(({ list, der }) => [list, Buffer.from(der).equals(stranger.der)]),
    [['clients', true]],
    'for an operator to look at',
  )
  const good = await authority.issue('good', { serialNumber: '43' })
  const made = await newClient(t, good)
  await withSession(made, gateway.url, async (session) => t.equal((await read(session)).statusCode.value, 0))
})

t.test('a rule’s certificates, before any key exchange', async (t) => {
  const gateway = await open(t, { rules: [ruleOf({ certificates: ['00'.repeat(20)] })] })
  const made = await newClient(t)
  await t.rejects(made.connect(gateway.url))
  t.match(gateway.details('channel').at(-1), /no rule for client certificate/)
})

t.test('a hostile or foreign server', async (t) => {
  const other = await selfSigned('other')
  const untrusting = await open(t, { servers: [other.der] })
  const first = await newClient(t)
  await t.rejects(first.connect(untrusting.url))
  t.match(untrusting.details('channel').at(-1), /server certificate [0-9a-f]{40}: BadCertificateUntrusted/)
  t.match(untrusting.rejected, [{ list: 'servers' }])
  const pinned = await open(t, { terms: { serverCertificates: new Set(['00'.repeat(20)]) } })
  const second = await newClient(t)
  await t.rejects(second.connect(pinned.url))
  t.match(pinned.details('channel').at(-1), /none of those that the policy names/)
  const alterations: [string, string, number, (chunk: Buffer) => Buffer | Buffer[]][] = [
    ['OPN response', 'OPN', 1, (chunk) => flip(chunk, -1)],
    ['OPN response of another', 'OPN', 1, (chunk) => flip(chunk, 12 + 4 + 57 + 4 + 300)],
    ['a response', 'MSG', 1, (chunk) => flip(chunk, -1)],
    ['a response twice', 'MSG', 1, (chunk) => [chunk, chunk]],
    ['garbage', 'MSG', 1, () => randomBytes(64)],
    ['too large', 'MSG', 1, () => Buffer.from('4d534746ffffff7f', 'hex')],
  ]
  for (const [what, type, skip, alter] of alterations) {
    let seen = 0
    const wire = await tap(t, cell.port, (chunk, _index, forward) => {
      if (forward || typeOf(chunk) !== type || seen++ !== skip) return chunk
      return alter(chunk)
    })
    const gateway = await open(t, { target: wire.port })
    const made = await newClient(t)
    await t.rejects(
      withSession(made, gateway.url, (session) => read(session)),
      what,
    )
    t.equal(gateway.details('channel').length, 1, what)
    t.ok(
      wire.forward.every((chunk) => typeOf(chunk) !== 'ERR'),
      'a client’s role sends no ERR',
    )
    await made.disconnect().catch(() => {})
  }
})

/** HEL as clients send it. */
const hello = (url = 'opc.tcp://x:4840'): Buffer => {
  const message = Buffer.alloc(32 + url.length)
  message.write('HELF')
  message.writeUInt32LE(message.length, 4)
  message.writeUInt32LE(65_536, 12)
  message.writeUInt32LE(65_536, 16)
  message.writeUInt32LE(url.length, 28)
  message.write(url, 32)
  return message
}

async function greeted(gateway: TestGateway): Promise<Peer> {
  const peer = await connect(gateway.port)
  peer.send(hello())
  await peer.got(28)
  return peer
}

t.test('garbage, wrong order, sizes: before anybody is known', async (t) => {
  const gateway = await open(t)
  const cases: [string, Buffer, string][] = [
    ['garbage', randomBytes(32).fill(0x47, 0, 3), 'BadTcpMessageTypeInvalid'],
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n'), 'BadTcpMessageTypeInvalid'],
    ['OPN before HEL', Buffer.from('4f504e4610000000', 'hex'), 'BadTcpMessageTypeInvalid'],
    ['MSG before HEL', Buffer.from('4d53474610000000', 'hex'), 'BadTcpMessageTypeInvalid'],
    ['HEL of 2 GB', Buffer.from('48454c46ffffff7f', 'hex'), 'BadTcpMessageTooLarge'],
    ['HEL of 7 bytes', Buffer.from('48454c4607000000', 'hex'), 'BadTcpMessageTypeInvalid'],
    ['HEL whose URL runs out of it', flip(hello(), 30), 'BadConnectionRejected'],
  ]
  for (const [what, bytes, status] of cases) {
    const peer = await connect(gateway.port)
    peer.send(bytes)
    await peer.closed()
    peer.destroy()
    const { received } = peer
    t.equal(typeOf(received), 'ERR', what)
    t.equal(statusName(received.readUInt32LE(8)), status, what)
  }
  for (const [what, bytes] of [
    ['HEL twice', hello()],
    ['MSG before OPN', Buffer.from('4d53474618000000', 'hex')],
    ['OPN of 1 MB', Buffer.from('4f504e4600001000', 'hex')],
    [
      'OPN of a policy without end',
      Buffer.concat([Buffer.from('4f504e461a000000000000007fffff7f', 'hex'), Buffer.alloc(10)]),
    ],
  ] as const) {
    const peer = await greeted(gateway)
    peer.clear()
    peer.send(bytes)
    await peer.closed()
    peer.destroy()
    t.equal(typeOf(peer.received), 'ERR', what)
  }
  await until(() => gateway.sessions.size === 0, 'all to end')
})

t.test('memory before anybody is known is bounded', async (t) => {
  const acknowledge = Buffer.from('41434b461c000000000000000000010000000100000000000000000000', 'hex').subarray(0, 28)
  const server = await RawTarget.open(() => null)
  server.onConnection = (connection) => connection.send(acknowledge)
  t.teardown(() => server.close())
  const gateway = await open(t, { target: server.port })
  const peers = await Promise.all(Array.from({ length: 200 }, () => greeted(gateway)))
  const before = process.memoryUsage().arrayBuffers
  // The most that an OPN may have, less a byte.
  const part = Buffer.concat([Buffer.from('4f504e4600400000', 'hex'), Buffer.alloc(16_375)])
  for (const peer of peers) peer.send(part)
  await until(() => [...gateway.sessions].every((session) => session.heldBytes === part.length), 'all parts to be held')
  const each = (process.memoryUsage().arrayBuffers - before) / peers.length
  t.ok(each < 120_000, `${each} bytes each`)
  for (const peer of peers) peer.destroy()
  await until(() => gateway.sessions.size === 0, 'all to end')
})

t.test('a recorded key exchange, replayed; and a flood of them', async (t) => {
  const gateway = await open(t)
  const wire = await tap(t, gateway.port, (chunk) => chunk)
  const made = await newClient(t)
  await withSession(made, `opc.tcp://127.0.0.1:${wire.port}`, (session) => read(session))
  const opn = wire.forward.find((chunk) => typeOf(chunk) === 'OPN') as Buffer
  const outcomes: string[] = []
  for (let i = 0; i < 40; i++) {
    const peer = await greeted(gateway)
    peer.clear()
    peer.send(opn)
    await peer.closed()
    peer.destroy()
    outcomes.push(statusName(peer.received.readUInt32LE(8)))
  }
  t.equal(outcomes[0], 'BadSecurityChecksFailed')
  t.match(gateway.details('channel')[0], /used before/)
  t.ok(outcomes.filter((status) => status === 'BadTcpServerTooBusy').length >= 10, `${outcomes}`)
  t.ok(outcomes.every((status) => ['BadSecurityChecksFailed', 'BadTcpServerTooBusy'].includes(status)))
})

t.test('a message larger than was agreed: refused, and nothing of it reaches the server whole', async (t) => {
  const gateway = await open(t, { terms: { messageBytes: 100_000 } })
  // What the gateway's Acknowledge says of sizes is made greater on the wire, so that the client sends all the same.
  const wire = await tap(t, gateway.port, (chunk, _index, forward) => {
    if (!forward && typeOf(chunk) === 'ACK') chunk.fill(0, 20, 28)
    return chunk
  })
  const made = await newClient(t)
  const nodeId = `ns=${cell.namespace};s=Line1.Store`
  await withSession(made, `opc.tcp://127.0.0.1:${wire.port}`, async (session) => {
    const value = { value: new Variant({ dataType: DataType.ByteString, value: Buffer.alloc(300_000) }) }
    await t.rejects(session.write({ nodeId, attributeId: AttributeIds.Value, value }), /BadRequestTooLarge/)
  })
  t.match(gateway.details('request'), [/over 100000 bytes/])
  // node-opcua's server ends the channel at an abort chunk, which it cannot read where it is encrypted.
  const again = await newClient(t)
  await withSession(again, gateway.url, async (session) => {
    const stored = await session.read({ nodeId, attributeId: AttributeIds.Value })
    t.not(stored.value.value?.length, 300_000)
  })
})
