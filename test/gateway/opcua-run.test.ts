/**
 * `headgate run` with a terminating conduit beside a Modbus one, on both transports: real clients and a real server,
 * events, metrics, the folder of rejected certificates, reloads, sessions that move to another worker.
 */
import { copyFileSync, readdirSync, rmSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { AttributeIds, DataType, OPCUAClient, StatusCodes, Variant } from 'node-opcua'
import t, { type Test } from 'tap'
import { initialize } from '../../src/pki/manage.ts'
import { freePort, TRANSPORTS } from '../support/gateway.ts'
import { Headgate, policyFile, scrape, sum } from '../support/headgate.ts'
import {
  anna,
  type CellServer,
  client,
  files,
  POLICIES,
  startServer,
  subscribe,
  temporary,
  withSession,
} from '../support/opcua-peers.ts'
import { Authority, type Holder, selfSigned, store, storeOwn, trusting } from '../support/opcua-pki.ts'
import { connect as dial, until } from '../support/sockets.ts'

let directory: string
let own: Holder
let server: Holder
let holder: Holder
let cell: CellServer
let clients = 0

t.before(async () => {
  directory = temporary(t)
  ;[own, server, holder] = await Promise.all(['gateway', 'server', 'client'].map((name) => selfSigned(name)))
  cell = await startServer(t, directory, server)
})

type Pki = ReturnType<typeof trusting>

const pkiOf = (t: Test): Pki => trusting(temporary(t), own, holder, server)

interface Text {
  port: number
  modbus: number
  metrics: number
  io: string
  pki: Pki
  rules?: object[]
  opcua?: object
  mode?: string
  workers?: number
}

const everybody = { from: ['127.0.0.0/8'], to: ['127.0.0.0/8'] }
const READS = { name: 'reads', ...everybody, services: ['discovery', 'session', 'browse', 'read', 'subscribe'] }
const SETPOINT = {
  name: 'setpoints',
  ...everybody,
  services: ['write'],
  nodes: ['nsu=urn:plant:cell;s=Line1.Setpoint'],
  values: { 'nsu=urn:plant:cell;s=Line1.Setpoint': { min: 0, max: 85 } },
}

const documentOf = ({
  port,
  modbus,
  metrics,
  io,
  pki,
  rules = [READS, SETPOINT],
  opcua = {},
  mode = 'enforce',
  workers = 2,
}: Text) => ({
  zones: [{ zone_id: 'CELL' }, { zone_id: 'OFFICE' }],
  conduits: [
    {
      conduit_id: 'C1',
      connects: ['CELL', 'OFFICE'],
      mode,
      protocols_allowed: [
        {
          protocol: 'OPC UA',
          security_mode: 'SignAndEncrypt',
          rules,
          opcua: { handling: 'terminate', certificates: pki, ...opcua },
        },
        { protocol: 'Modbus/TCP', rules: [{ name: 'plc', ...everybody, functions: [3] }] },
      ],
    },
  ],
  gateway: {
    workers,
    io,
    metrics: { listen: `127.0.0.1:${metrics}` },
    drain: '2s',
    listeners: [
      { conduit: 'C1', protocol: 'OPC UA', listen: `127.0.0.1:${port}`, target: `127.0.0.1:${cell.port}` },
      { conduit: 'C1', protocol: 'Modbus/TCP', listen: `127.0.0.1:${modbus}`, target: '127.0.0.1:502' },
    ],
  },
})

/** Bytes as they come, until the wire is cut. */
async function relay(t: Test, to: number | net.TcpNetConnectOpts): Promise<{ port: number; cut(): void }> {
  const sockets = new Set<net.Socket>()
  const server = net.createServer((near) => {
    const far = net.connect(typeof to === 'number' ? { port: to, host: '127.0.0.1' } : to)
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => sockets.delete(socket))
    }
    near.pipe(far).pipe(near)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const cut = (): void => {
    for (const socket of sockets) socket.resetAndDestroy()
  }
  t.teardown(() => {
    cut()
    server.close()
  })
  return { port: (server.address() as net.AddressInfo).port, cut }
}

const connect = (t: Test, who = holder, options: Parameters<typeof client>[4] = {}) =>
  client(t, directory, `run${clients++}`, who, options)
const node = (name: string): string => `ns=${cell.namespace};s=Line1.${name}`
const write = (name: string, value: number) => ({
  nodeId: node(name),
  attributeId: AttributeIds.Value,
  value: { value: new Variant({ dataType: DataType.Double, value }) },
})

for (const io of TRANSPORTS) {
  t.test(`${io}: services, items, large messages, news; what is told and counted`, async (t) => {
    const [port, modbus, metrics, pki] = [await freePort(), await freePort(), await freePort(), pkiOf(t)]
    const url = `opc.tcp://127.0.0.1:${port}`
    const headgate = await Headgate.start(t, documentOf({ port, modbus, metrics, io, pki }))
    const written = cell.written.length
    const made = await connect(t)
    await withSession(
      made,
      url,
      async (session) => {
        t.equal(
          (await session.read({ nodeId: node('Big'), attributeId: AttributeIds.Value })).value.value.length,
          400_000,
        )
        t.equal(await session.write(write('Setpoint', 50)), StatusCodes.Good, 'by namespace URI')
        t.same(
          (await session.write([write('Setpoint', 86), write('Setpoint', 51)])).map(({ name }) => name),
          ['BadUserAccessDenied', 'Good'],
        )
        const call = {
          objectId: `ns=${cell.namespace};s=Line1`,
          methodId: `ns=${cell.namespace};s=Ack`,
          inputArguments: [new Variant({ dataType: DataType.UInt32, value: 1 })],
        }
        await t.rejects(session.call(call), /BadUserAccessDenied/)
        const { values } = subscribe(session, node('Counter'))
        await until(() => values.length >= 3, 'notifications')
        const page = await scrape(`http://127.0.0.1:${metrics}/metrics`)
        t.equal(sum(page, 'headgate_opcua_channels', { policy: 'Basic256Sha256', mode: 'SignAndEncrypt' }), 1)
        t.equal(sum(page, 'headgate_opcua_sessions', { conduit: 'C1' }), 1)
        t.equal(sum(page, 'headgate_requests_total', { function: 'Write', verdict: 'allow' }), 1)
        t.equal(sum(page, 'headgate_requests_total', { function: 'Write', verdict: 'deny' }), 1)
        t.equal(sum(page, 'headgate_requests_total', { function: 'Call', verdict: 'deny' }), 1)
        t.ok(sum(page, 'headgate_certificate_expiry_seconds', { kind: 'own' }) > 86_400)
        t.equal([...page.keys()].filter((name) => name.startsWith('headgate_certificate_expiry_seconds')).length, 3)
      },
      anna,
    )
    t.same(cell.written.slice(written), [50, 51])
    const denied = await headgate.event('request.denied')
    t.match(denied, {
      conduit: 'C1',
      protocol: 'opcua',
      rule: 'setpoints',
      reason: 'value',
      function: 'Write',
      node: node('Setpoint'),
      attribute: 'Value',
      value: '86',
      user: 'anna',
      session: /.+/,
      severity: 'warning',
      security_policy: 'Basic256Sha256',
      security_mode: 'SignAndEncrypt',
      visibility: 'inspected',
      certificate: /^[0-9a-f]{40}$/,
      status: 'BadUserAccessDenied',
      client: '127.0.0.1',
    })
    t.match(await headgate.event('channel.opened'), { visibility: 'inspected' })
    const { code } = await headgate.stop()
    t.equal(code, 0)
    t.equal(headgate.stderr, '')
  })

  t.test(
    `${io}: an unknown client, seen and then trusted; certificates reloaded; a client no longer trusted`,
    async (t) => {
      const [port, modbus, metrics, pki] = [await freePort(), await freePort(), await freePort(), pkiOf(t)]
      const url = `opc.tcp://127.0.0.1:${port}`
      const headgate = await Headgate.start(t, documentOf({ port, modbus, metrics, io, pki, workers: 1 }))
      const stranger = await selfSigned('stranger')
      const options = { serverCertificate: own.der, endpointMustExist: false }
      const first = await connect(t, stranger, options)
      await t.rejects(first.connect(url))
      await first.disconnect()
      t.match(await headgate.event('channel.denied'), { reason: 'security', detail: /BadCertificateUntrusted/ })
      t.match(await headgate.event('certificate.rejected'), { file: /stranger/ })
      const rejected = join(pki.trusted_clients, 'rejected', 'certs')
      t.match(readdirSync(rejected), [/^stranger \[[0-9A-F]{40}\]\.der$/])
      store(pki.trusted_clients, 'trusted', 'stranger.der', stranger.der)
      t.match(await headgate.hangUp(), { event: 'policy.loaded' })
      const second = await connect(t, stranger)
      await second.connect(url)
      const session = await second.createSession()
      t.equal((await session.read({ nodeId: node('Setpoint'), attributeId: AttributeIds.Value })).statusCode.value, 0)
      const sessions = cell.server.engine.currentSessionCount
      rmSync(join(pki.trusted_clients, 'trusted', 'certs', 'stranger.der'))
      t.match(await headgate.hangUp(), { event: 'policy.loaded' })
      await until(() => cell.server.engine.currentSessionCount === sessions - 1, 'the session to be closed upstream')
      await t.rejects(session.read({ nodeId: node('Setpoint'), attributeId: AttributeIds.Value }))
      await second.disconnect().catch(() => {})
      storeOwn(pki.own, { ...own, keyPem: stranger.keyPem })
      t.match(await headgate.hangUp(), { event: 'policy.rejected', detail: /not the key of/ })
      const third = await connect(t)
      await withSession(third, url, async (session) => t.ok(session.sessionId, 'the policy in force stays'))
    },
  )

  t.test(`${io}: a session goes on over another connection, whichever worker has it`, async (t) => {
    const [port, modbus, metrics, pki] = [await freePort(), await freePort(), await freePort(), pkiOf(t)]
    const headgate = await Headgate.start(t, documentOf({ port, modbus, metrics, io, pki, workers: 3 }))
    const wire = await relay(t, port)
    const made = OPCUAClient.create({
      applicationName: 'moving',
      applicationUri: holder.applicationUri,
      ...files(directory, `moving${io}`, holder),
      securityMode: 3,
      securityPolicy: POLICIES.Basic256Sha256,
      connectionStrategy: { maxRetry: 30, initialDelay: 50, maxDelay: 200 },
      keepSessionAlive: true,
    })
    t.teardown(() => made.disconnect().catch(() => {}))
    await withSession(
      made,
      `opc.tcp://127.0.0.1:${wire.port}`,
      async (session) => {
        const token = session.authenticationToken?.toString()
        const before = cell.server.engine.cumulatedSessionCount
        for (let round = 0; round < 2; round++) {
          wire.cut()
          await until(() => made.isReconnecting, 'the client to see it')
          await until(() => !made.isReconnecting, 'the reconnect', 20_000)
          const read = await session.read({ nodeId: node('Setpoint'), attributeId: AttributeIds.Value })
          t.equal(read.statusCode.value, 0)
        }
        t.equal(session.authenticationToken?.toString(), token)
        t.equal(cell.server.engine.cumulatedSessionCount, before)
      },
      anna,
    )
    const workers = new Set(
      headgate.events.filter(({ event }) => event === 'channel.opened').map(({ worker }) => worker),
    )
    t.comment(`channels in ${workers.size} workers`)
  })
}

t.test('the example policy as it stands, with certificates of `headgate pki` beside it', async (t) => {
  const place = temporary(t)
  const file = join(place, 'opcua-terminate.yaml')
  copyFileSync(new URL('../../policies/opcua-terminate.yaml', import.meta.url), file)
  const pki = ['own', 'clients', 'servers'].map((name) => join(place, 'pki', name))
  const [ownPath, trustedClients, trustedServers] = pki
  const options = {
    commonName: null,
    organization: null,
    applicationUri: null,
    hosts: [],
    bits: 2048,
    days: 400,
    force: false,
  }
  await initialize({ own: ownPath, trustedClients, trustedServers }, options)
  store(trustedClients, 'trusted', 'client.der', holder.der)
  store(trustedServers, 'trusted', 'server.der', server.der)
  const its = await startServer(t, temporary(t), server, { port: 4840, host: '127.0.2.10' })
  const headgate = Headgate.run(t, file)
  await headgate.ready()
  const gateway = { port: 4840, host: '127.0.1.3' }
  const workstation = await relay(t, { ...gateway, localAddress: '127.0.3.8' })
  await withSession(await connect(t), `opc.tcp://127.0.0.1:${workstation.port}`, async (session) => {
    t.equal(await session.write(write('Setpoint', 85)), StatusCodes.Good)
    t.equal(await session.write(write('Setpoint', 85.1)), StatusCodes.BadUserAccessDenied)
    t.equal(
      await session.write(write('Big', 1)),
      StatusCodes.BadTypeMismatch,
      'the rule has the node, the server says no',
    )
  })
  const historian = await relay(t, { ...gateway, localAddress: '127.0.3.7' })
  await withSession(await connect(t), `opc.tcp://127.0.0.1:${historian.port}`, async (session) => {
    t.equal((await session.read({ nodeId: node('Setpoint'), attributeId: AttributeIds.Value })).value.value, 85)
    await t.rejects(session.write(write('Setpoint', 50)), /BadUserAccessDenied/)
  })
  const stranger = await dial(gateway.port, gateway.host, '127.0.4.7')
  await stranger.closed()
  stranger.destroy()
  t.same(its.written, [85])
  t.equal((await headgate.stop()).code, 0)
})

t.test('monitor: terminates, lets pass, tells', async (t) => {
  const [port, modbus, metrics, pki] = [await freePort(), await freePort(), await freePort(), pkiOf(t)]
  const headgate = await Headgate.start(t, documentOf({ port, modbus, metrics, io: 'auto', pki, mode: 'monitor' }))
  const made = await connect(t)
  await withSession(made, `opc.tcp://127.0.0.1:${port}`, async (session) => {
    t.equal(await session.write(write('Setpoint', 99)), StatusCodes.Good)
  })
  t.match(await headgate.event('request.would_deny'), {
    function: 'Write',
    value: '99',
    reason: 'value',
    mode: 'monitor',
  })
})

t.test('certificates that cannot be used keep the gateway from starting, with the mend', async (t) => {
  const [port, modbus, metrics] = [await freePort(), await freePort(), await freePort()]
  const pki = pkiOf(t)
  const text = { port, modbus, metrics, io: 'auto', pki }
  const missing = Headgate.run(
    t,
    policyFile(t, documentOf({ ...text, pki: { ...pki, own: join(pki.own, 'nowhere') } })),
  )
  t.equal((await missing.end()).code, 2)
  t.match(
    missing.stderr,
    /^headgate: conduit C1: .*headgate\.pem: there is no such file; make one with: headgate pki init\n$/,
  )
  const authority = await Authority.make('CA')
  const day = 86_400_000
  const issued = await authority.issue('late', { notAfter: new Date(Date.now() + 5 * day) })
  store(pki.trusted_servers, 'trusted', 'late.der', issued.der)
  store(pki.trusted_servers, 'issuers', 'ca.der', authority.der)
  store(pki.trusted_servers, 'trusted', 'junk.der', Buffer.from('junk'))
  const headgate = await Headgate.start(t, documentOf(text))
  const events = headgate.events.filter(({ event }) => `${event}`.startsWith('certificate.'))
  t.match(events, [
    { event: 'certificate.warning', detail: /junk\.der: no certificate/ },
    { event: 'certificate.warning', detail: /ca\.der: an authority without a revocation list/ },
    { event: 'certificate.expiring', detail: /late, expires in 4 days/ },
  ])
})
