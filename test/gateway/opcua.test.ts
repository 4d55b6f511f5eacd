/**
 * OPC UA inspected by a real gateway, on each transport, beside Modbus: node-opcua's client and server over None, Sign
 * and SignAndEncrypt, and raw sockets for what no client does.
 */
import {
  AttributeIds,
  type ClientSession,
  ClientSubscription,
  DataType,
  type OPCUAClient,
  TimestampsToReturn,
  Variant,
} from 'node-opcua'
import t from 'tap'
import { checkPolicy } from '../../src/policy/load.ts'
import type { Policy } from '../../src/policy/model.ts'
import { REQUEST } from '../../src/protocols/opcua/services.ts'
import { freePort, TestGateway, TRANSPORTS } from '../support/gateway.ts'
import { adu } from '../support/modbus.ts'
import { acknowledge, hello, message, openNone, request } from '../support/opcua.ts'
import {
  type CellServer,
  type ClientOptions,
  client,
  type MODES,
  startServer,
  temporary,
  withSession,
} from '../support/opcua-peers.ts'
import { type Holder, selfSigned } from '../support/opcua-pki.ts'
import { answer } from '../support/server.ts'
import { connect, RawTarget, until } from '../support/sockets.ts'

const directory = temporary(t)

let cell: CellServer
let holder: Holder

const made = (mode: keyof typeof MODES, options: ClientOptions = {}): Promise<OPCUAClient> =>
  client(t, directory, `inspected-${++clients}`, holder, {
    mode,
    policy: mode === 'None' ? 'None' : 'Basic256Sha256',
    endpointMustExist: false,
    ...options,
  })
let clients = 0

/** What the server holds, by what it has taken. */
const setpoint = (): number => cell.written.at(-1) ?? 20
const node = (name: string) => ({ nodeId: `ns=${cell.namespace};s=Line1.${name}`, attributeId: AttributeIds.Value })
const write = (session: ClientSession, value: number) =>
  session.write({ ...node('Setpoint'), value: { value: new Variant({ dataType: DataType.Double, value }) } })

interface Ports {
  server: number
  modbus: number
  modbusTarget: number
  metrics: number
  none: number
  sign: number
  encrypt: number
  nodes: number
  watch: number
}

/** Conduits of every mode, one with rules on nodes, one that watches, and one of Modbus. */
function policyOf(io: 'epoll' | 'net', ports: Ports, services = 'discovery, session, browse, read, subscribe'): Policy {
  const conduit = (id: string, protocol: string, mode = 'enforce'): string => `
  - conduit_id: ${id}
    connects: [Z1, Z2]
    mode: ${mode}
    protocols_allowed:
      - protocol: ${protocol}`
  const rule = (services: string, more = ''): string =>
    `{ name: rule, from: [127.0.0.1], to: [127.0.0.1], services: [${services}]${more} }`
  const listener = (id: string, port: number, protocol = 'OPC UA', target = ports.server): string =>
    `    - { conduit: ${id}, protocol: ${protocol}, listen: "127.0.0.1:${port}", target: "127.0.0.1:${target}" }`
  const text = `zones:
  - { zone_id: Z1, networks: [127.0.0.1/32] }
  - { zone_id: Z2, networks: [127.0.0.2/32] }
conduits:${conduit(
    'NONE',
    `OPC UA
        rules: [${rule(services)}]
        timeouts: { partial_frame: 1s }
        opcua: { security_modes: [None] }
      - protocol: Modbus/TCP
        rules: [{ from: [127.0.0.1], to: [127.0.0.1], functions: [read] }]`,
  )}${conduit(
    'SIGN',
    `OPC UA
        rules: [${rule(services)}]
        opcua: { security_modes: [Sign] }`,
  )}${conduit(
    'ENCRYPT',
    `OPC UA
        security_mode: SignAndEncrypt
        rules: [${rule('all')}]
        opcua: { security_policies: [Basic256Sha256] }`,
  )}${conduit(
    'NODES',
    `OPC UA
        rules:
          - ${rule('discovery, session, read, write, method', `, nodes: ["nsu=urn:plant:cell;s=Line1.*", "i=2255"], values: { "nsu=urn:plant:cell;s=Line1.Setpoint": { min: 0, max: 85 } }, methods: ["nsu=urn:plant:cell;s=Line1/nsu=urn:plant:cell;s=Ack"]`)}
        opcua: { security_modes: [None] }`,
  )}${conduit(
    'WATCH',
    `OPC UA
        rules: [${rule(services)}]
        opcua: { security_modes: [None, Sign] }`,
    'monitor',
  )}
gateway:
  io: ${io}
  workers: 1
  drain: 1s
  log: { level: debug }
  metrics: { listen: "127.0.0.1:${ports.metrics}" }
  listeners:
${[listener('NONE', ports.none), listener('NONE', ports.modbus, 'Modbus/TCP', ports.modbusTarget), listener('SIGN', ports.sign), listener('ENCRYPT', ports.encrypt), listener('NODES', ports.nodes), listener('WATCH', ports.watch)].join('\n')}
`
  const { policy, findings } = checkPolicy('opcua.yaml', Buffer.from(text))
  if (policy === null) throw new Error(findings.map((one) => `${one.line}: ${one.message}`).join('\n'))
  return policy
}

const urlOf = (port: number): string => `opc.tcp://127.0.0.1:${port}`

const within = <T>(one: OPCUAClient, port: number, work: (session: ClientSession) => Promise<T>): Promise<T> =>
  withSession(one, urlOf(port), work)

t.test('real clients and servers', async (t) => {
  const [own, its] = await Promise.all([selfSigned('server'), selfSigned('inspected')])
  holder = its
  cell = await startServer(t, directory, own)
  const modbus = await RawTarget.open(answer, 0, '127.0.0.1')
  t.teardown(() => modbus.close())
  for (const io of TRANSPORTS) {
    const ports: Ports = {
      server: cell.port,
      modbus: await freePort(),
      modbusTarget: modbus.port,
      metrics: await freePort(),
      none: await freePort(),
      sign: await freePort(),
      encrypt: await freePort(),
      nodes: await freePort(),
      watch: await freePort(),
    }
    const gateway = await TestGateway.start(policyOf(io, ports))
    t.teardown(() => gateway.stop())

    t.test(`${io}: None: what is allowed works, a denied write is answered, the session lives`, async (t) => {
      await within(await made('None'), ports.none, async (session) => {
        t.equal((await session.read(node('Setpoint'))).value.value, setpoint())
        t.equal((await session.read(node('Big'))).value.value.length, 400_000)
        const browsed = await session.browse(`ns=${cell.namespace};s=Line1`)
        t.ok((browsed.references ?? []).length >= 3)
        const written = cell.written.length
        const refused = await write(session, 30).catch((error: Error) => error)
        t.match(refused, { message: /BadUserAccessDenied/ })
        const called = await session
          .call({
            objectId: `ns=${cell.namespace};s=Line1`,
            methodId: `ns=${cell.namespace};s=Ack`,
            inputArguments: [],
          })
          .catch((error: Error) => error)
        t.match(called, { message: /BadUserAccessDenied/ })
        t.equal(cell.written.length, written)
        t.equal((await session.read(node('Setpoint'))).value.value, setpoint(), 'after it')
        const subscription = ClientSubscription.create(session, {
          requestedPublishingInterval: 50,
          publishingEnabled: true,
        })
        const item = await subscription.monitor(
          node('Counter'),
          { samplingInterval: 20, queueSize: 10 },
          TimestampsToReturn.Both,
        )
        let changes = 0
        item.on('changed', () => changes++)
        await until(() => changes >= 3, 'notifications')
        await write(session, 31).catch(() => {})
        const before = changes
        await until(() => changes > before + 1, 'notifications after another denial')
        await subscription.terminate()
        t.equal(
          await gateway.sample('headgate_opcua_channels', { conduit: 'NONE', visibility: 'inspected', mode: 'None' }),
          1,
        )
        t.equal(await gateway.sample('headgate_opcua_sessions', { conduit: 'NONE' }), 1)
      })
      const labels = { conduit: 'NONE', function: 'Write', verdict: 'deny', reason: 'service' }
      t.equal(await gateway.sample('headgate_requests_total', labels), 2)
      t.match(await gateway.event('request.denied', { function: 'Write' }), {
        severity: 'warning',
        conduit: 'NONE',
        protocol: 'opcua',
        rule: 'rule',
        reason: 'service',
        node: `ns=${cell.namespace};s=Line1.Setpoint`,
        attribute: 'Value',
        value: '30',
        security_policy: 'None',
        security_mode: 'None',
        visibility: 'inspected',
        endpoint_url: urlOf(ports.none),
      })
      await gateway.event('connection.closed', { conduit: 'NONE' })
      t.equal(await gateway.sample('headgate_opcua_channels', { conduit: 'NONE' }), 0)
      t.equal(await gateway.sample('headgate_opcua_sessions', { conduit: 'NONE' }), 0)
    })

    t.test(`${io}: Sign: inspected; a denied write never arrives and ends the connection`, async (t) => {
      const written = cell.written.length
      await within(await made('Sign'), ports.sign, async (session) => {
        t.equal((await session.read(node('Big'))).value.value.length, 400_000)
        t.equal(
          await gateway.sample('headgate_opcua_channels', { conduit: 'SIGN', visibility: 'inspected', mode: 'Sign' }),
          1,
        )
        await t.rejects(write(session, 40))
      })
      t.equal(cell.written.length, written)
      t.match(await gateway.event('request.denied', { conduit: 'SIGN', function: 'Write' }), {
        security_mode: 'Sign',
        security_policy: 'Basic256Sha256',
        session: /ClientSession/,
        certificate: /^[0-9a-f]{40}$/,
        server_certificate: /^[0-9a-f]{40}$/,
      })
      t.test('the client comes back with its session', async (t) => {
        const patient = await made('Sign', {
          connectionStrategy: { maxRetry: 10, initialDelay: 20, maxDelay: 100 },
          keepSessionAlive: false,
        })
        await within(patient, ports.sign, async (session) => {
          const restored = new Promise((resolve) => patient.once('connection_reestablished', () => resolve(true)))
          await write(session, 41).catch(() => {})
          await restored
          t.equal((await session.read(node('Setpoint'))).value.value, setpoint())
        })
        t.equal(cell.written.length, written)
      })
    })

    t.test(`${io}: SignAndEncrypt: header only; weaker channels are refused`, async (t) => {
      await within(await made('SignAndEncrypt'), ports.encrypt, async (session) => {
        t.equal((await session.read(node('Big'))).value.value.length, 400_000)
        t.equal((await write(session, 50)).name, 'Good')
        const labels = {
          conduit: 'ENCRYPT',
          visibility: 'header only',
          policy: 'Basic256Sha256',
          mode: 'SignAndEncrypt',
        }
        t.equal(await gateway.sample('headgate_opcua_channels', labels), 1)
      })
      t.ok(
        (await gateway.sample('headgate_requests_total', {
          conduit: 'ENCRYPT',
          function: 'encrypted',
          verdict: 'allow',
        })) > 3,
      )
      t.match(await gateway.event('channel.opened', { conduit: 'ENCRYPT', security_mode: 'SignAndEncrypt' }), {
        visibility: 'header only',
        security_policy: 'Basic256Sha256',
      })
      await t.rejects(within(await made('Sign'), ports.encrypt, async (session) => session.read(node('Setpoint'))))
      t.match(await gateway.event('channel.downgraded', { conduit: 'ENCRYPT', security_mode: 'Sign' }), {
        reason: 'security',
      })
      await t.rejects(within(await made('None'), ports.encrypt, async (session) => session.read(node('Setpoint'))))
      await t.rejects(
        within(await made('SignAndEncrypt', { policy: 'Aes256_Sha256_RsaPss' }), ports.encrypt, async (session) =>
          session.read(node('Setpoint')),
        ),
      )
      t.match(await gateway.event('channel.denied', { conduit: 'ENCRYPT', security_policy: 'Aes256_Sha256_RsaPss' }), {
        detail: /security policy Aes256_Sha256_RsaPss/,
      })
    })

    t.test(`${io}: rules on nodes, values and methods of a namespace by its URI`, async (t) => {
      await within(await made('None'), ports.nodes, async (session) => {
        await session.readNamespaceArray()
        const written = cell.written.length
        t.equal((await write(session, 60)).name, 'Good')
        const denied = await write(session, 86).catch((error: Error) => error)
        t.match(`${denied}`, /BadUserAccessDenied/)
        t.same(cell.written.slice(written), [60])
        const [own, other] = await session.read([
          node('Setpoint'),
          { nodeId: 'i=2258', attributeId: AttributeIds.Value },
        ])
        t.equal(own.value.value, 60)
        t.equal(other.statusCode.name, 'BadUserAccessDenied', 'one item of the list')
        const calls = cell.calls
        const [called] = await session.call([
          {
            objectId: `ns=${cell.namespace};s=Line1`,
            methodId: `ns=${cell.namespace};s=Ack`,
            inputArguments: [new Variant({ dataType: DataType.UInt32, value: 2 })],
          },
        ])
        t.equal(called.statusCode.name, 'Good')
        t.equal(cell.calls, calls + 1)
        const elsewhere = await session
          .call({
            objectId: 'i=2253',
            methodId: 'i=11492',
            inputArguments: [new Variant({ dataType: DataType.UInt32, value: 1 })],
          })
          .then(({ statusCode }) => statusCode.name)
          .catch((error: Error) => error.message)
        t.match(elsewhere, /BadUserAccessDenied/)
      })
    })

    t.test(`${io}: monitor: all of it passes, and is told`, async (t) => {
      for (const mode of ['None', 'Sign'] as const) {
        await within(await made(mode), ports.watch, async (session) => {
          t.equal((await write(session, 70)).name, 'Good', mode)
          t.equal((await session.read(node('Big'))).value.value.length, 400_000)
        })
      }
      t.match(await gateway.event('request.would_deny', { conduit: 'WATCH', function: 'Write' }), {
        reason: 'service',
        mode: 'monitor',
      })
      const labels = { conduit: 'WATCH', function: 'Write', verdict: 'would_deny' }
      t.equal(await gateway.sample('headgate_requests_total', labels), 2)
    })

    t.test(`${io}: Modbus beside it, on the same conduit`, async (t) => {
      const peer = await connect(ports.modbus, '127.0.0.1')
      peer.send(adu(1, 1, [3, 0, 0, 0, 1]))
      await until(() => peer.received.length >= 11, 'an answer')
      peer.send(adu(2, 1, [6, 0, 0, 0, 1]))
      await until(() => peer.received.length >= 20, 'an exception')
      t.equal(peer.received.subarray(-2).toString('hex'), '8601')
      peer.socket.destroy()
      t.equal(
        await gateway.sample('headgate_requests_total', { conduit: 'NONE', protocol: 'modbus', verdict: 'deny' }),
        1,
      )
    })

    t.test(`${io}: raw sockets: Hello in time, nonsense, a write before the session`, async (t) => {
      const silent = await connect(ports.none, '127.0.0.1')
      await silent.closed()
      t.equal(silent.received.subarray(0, 4).toString(), 'ERRF')
      t.equal(silent.received.readUInt32LE(8), 0x800a0000)
      const nonsense = await connect(ports.none, '127.0.0.1')
      nonsense.send(Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'))
      await nonsense.closed()
      t.equal(nonsense.received.subarray(0, 4).toString(), 'ERRF')
      const hurried = await connect(ports.none, '127.0.0.1')
      hurried.send(hello(urlOf(ports.none)))
      await until(() => hurried.received.length >= acknowledge().length, 'ACK')
      hurried.send(openNone(1, 1))
      await until(() => hurried.received.length > acknowledge().length, 'OPN')
      const opened = hurried.received.subarray(acknowledge().length)
      const [channel, token] = [opened.readUInt32LE(8), opened.readUInt32LE(opened.length - 20)]
      const place = { channel, token, sequence: 2, request: 2 }
      const before = hurried.received.length
      for (const byte of request(REQUEST.Write, place)) hurried.send(Buffer.from([byte]))
      await until(() => hurried.received.length >= before + 52, 'a fault')
      t.equal(hurried.received.readUInt32LE(before + 40), 0x801f0000)
      hurried.send(message('CLOF', channel, token, 3, 3, Buffer.from([1, 0, 0xc4, 1])))
      hurried.socket.destroy()
    })

    t.test(`${io}: reload: a channel that is up gets new rules; sessions stay`, async (t) => {
      await within(await made('None'), ports.none, async (session) => {
        await t.rejects(write(session, 80))
        await gateway.reload(policyOf(io, ports, 'discovery, session, browse, read, subscribe, write'))
        t.equal((await write(session, 81)).name, 'Good')
        await gateway.reload(policyOf(io, ports))
        await t.rejects(write(session, 82))
        t.equal((await session.read(node('Setpoint'))).value.value, 81)
      })
    })
  }
})
