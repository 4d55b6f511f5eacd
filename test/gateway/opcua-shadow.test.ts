/**
 * A shadow policy beside one in force on OPC UA, inspected and terminated, on both transports: real clients and a real
 * server; every difference an event and a count, what the analysis makes of them, and promotion.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AttributeIds, type ClientSession, DataType, StatusCodes, Variant } from 'node-opcua'
import t, { type Test } from 'tap'
import { ask } from '../../src/gateway/control/client.ts'
import { freePort, type GatewayEvent, TRANSPORTS } from '../support/gateway.ts'
import { Headgate, scrape, sum } from '../support/headgate.ts'
import { anna, type CellServer, client, startServer, temporary, withSession } from '../support/opcua-peers.ts'
import { type Holder, selfSigned, trusting } from '../support/opcua-pki.ts'
import { until } from '../support/sockets.ts'
import { headgate as verbs } from '../support/verbs.ts'

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

interface Site {
  directory: string
  io: string
  inspect: number
  terminate: number
  metrics: number
}

async function siteOf(t: Test, io: string): Promise<Site> {
  const root = temporary(t)
  trusting(root, own, holder, server)
  return { directory: root, io, inspect: await freePort(), terminate: await freePort(), metrics: await freePort() }
}

/** What differs between two documents. */
interface Terms {
  mode?: 'monitor' | 'enforce'
  inspect: { rules: object[]; opcua: object; limits?: object }
  terminate: { rules: object[]; opcua?: object }
  inspectPort?: number
}

const everybody = { from: ['127.0.0.0/8'], to: ['127.0.0.0/8'] }
const node = (name: string): string => `ns=${cell.namespace};s=Line1.${name}`
const reads = (more: object = {}) => ({
  name: 'reads',
  ...everybody,
  services: ['discovery', 'session', 'Browse', 'read', 'subscribe'],
  ...more,
})
const allows = (name: string, services: string[], more: object = {}) => ({ name, ...everybody, services, ...more })

const textOf = (site: Site, { mode = 'enforce', inspect, terminate, inspectPort = site.inspect }: Terms): string => {
  const conduit = (id: string, protocol: object) => ({
    conduit_id: id,
    connects: ['CELL', 'OFFICE'],
    mode,
    protocols_allowed: [{ protocol: 'OPC UA', ...protocol }],
  })
  const certificates = { own: 'own', trusted_clients: 'clients', trusted_servers: 'servers' }
  const { opcua = {} } = terminate
  const listener = (id: string, port: number) => ({
    conduit: id,
    protocol: 'OPC UA',
    listen: `127.0.0.1:${port}`,
    target: `127.0.0.1:${cell.port}`,
  })
  return JSON.stringify({
    zones: [{ zone_id: 'CELL' }, { zone_id: 'OFFICE' }],
    conduits: [
      conduit('INSPECT', inspect),
      conduit('TERMINATE', {
        rules: terminate.rules,
        security_mode: 'SignAndEncrypt',
        opcua: { handling: 'terminate', certificates, ...opcua },
      }),
    ],
    gateway: {
      io: site.io,
      workers: 1,
      listeners: [listener('INSPECT', inspectPort), listener('TERMINATE', site.terminate)],
      metrics: { listen: `127.0.0.1:${site.metrics}` },
      control: { socket: 'run/c.sock', state_directory: 'state' },
      shadow: 'candidate.yaml',
      storm_interval: '1m',
      drain: '1s',
    },
  })
}

async function start(t: Test, site: Site, inForce: Terms, candidate: Terms): Promise<Headgate> {
  const file = join(site.directory, 'policy.yaml')
  writeFileSync(file, textOf(site, inForce))
  writeFileSync(join(site.directory, 'candidate.yaml'), textOf(site, candidate))
  const headgate = Headgate.run(t, file)
  await headgate.ready()
  await headgate.event('shadow.loaded')
  return headgate
}

const value = (name: string) => ({ nodeId: node(name), attributeId: AttributeIds.Value })
const double = (number: number) => ({ value: { value: new Variant({ dataType: DataType.Double, value: number }) } })
const callAck = (session: ClientSession) =>
  session.call({
    objectId: `ns=${cell.namespace};s=Line1`,
    methodId: `ns=${cell.namespace};s=Ack`,
    inputArguments: [new Variant({ dataType: DataType.UInt32, value: 1 })],
  })

const connect = (t: Test, options: Parameters<typeof client>[4] = {}) =>
  client(t, directory, `shadow${clients++}`, holder, { endpointMustExist: false, ...options })

const differences = (headgate: Headgate, conduit: string): GatewayEvent[] =>
  headgate.events.filter((one) => one.event.startsWith('shadow.would') && one.conduit === conduit)

/** As many differences have been told. */
const told = (headgate: Headgate, conduit: string, number: number): Promise<void> =>
  until(() => differences(headgate, conduit).length >= number, `${number} differences`)

const brief = ({ event, reason, function: service, node, method, attribute }: GatewayEvent): string =>
  [event.slice('shadow.would_'.length), reason, service, node, method, attribute]
    .filter((one) => one !== undefined)
    .join(' ')

for (const io of TRANSPORTS) {
  t.test(
    `${io}: inspected and terminated, every difference is told and counted, and nothing else changes`,
    async (t) => {
      const site = await siteOf(t, io)
      const deny = { action: 'deny', nodes: [node('Counter')] }
      const headgate = await start(
        t,
        site,
        {
          inspect: {
            rules: [reads(), allows('calls', ['method'])],
            opcua: { security_modes: ['None', 'Sign'] },
          },
          terminate: { rules: [reads(), allows('setpoints', ['write'], { nodes: [node('Setpoint')] })] },
        },
        {
          inspect: {
            rules: [reads(), allows('writes', ['write'], { nodes: [node('Setpoint')] }), allows('no', ['read'], deny)],
            opcua: { security_modes: ['None'] },
          },
          terminate: {
            rules: [reads(), allows('stores', ['write'], { nodes: [node('Store')] }), allows('no', ['read'], deny)],
            opcua: { user_tokens: ['UserName'] },
          },
        },
      )
      const metric = async (conduit: string, verdict: string, reason = '') =>
        sum(await scrape(`http://127.0.0.1:${site.metrics}/metrics`), 'headgate_shadow_requests_total', {
          conduit,
          verdict,
          reason,
        })

      // Inspected, in clear.
      const written = cell.written.length
      await withSession(
        await connect(t, { policy: 'None', mode: 'None' }),
        `opc.tcp://127.0.0.1:${site.inspect}`,
        async (session) => {
          const name = { nodeId: node('Counter'), attributeId: AttributeIds.BrowseName }
          const both = await session.read([value('Setpoint'), value('Counter'), name])
          t.same(
            both.map(({ statusCode }) => statusCode.name),
            ['Good', 'Good', 'Good'],
          )
          t.equal((await callAck(session)).statusCode, StatusCodes.Good)
          await t.rejects(session.write({ ...value('Setpoint'), ...double(41) }), /BadUserAccessDenied/)
          for (let n = 0; n < 5; n++) await callAck(session)
        },
      )
      t.equal(cell.written.length, written)
      await told(headgate, 'INSPECT', 3)
      t.same(differences(headgate, 'INSPECT').map(brief).sort(), [
        `allow service Write ${node('Setpoint')} Value`,
        `deny node Read ${node('Counter')} Value`,
        `deny service Call ns=${cell.namespace};s=Line1 ns=${cell.namespace};s=Ack`,
      ])
      const [read] = differences(headgate, 'INSPECT').filter((one) => one.function === 'Read')
      const { shadow } = await headgate.event('shadow.loaded')
      t.match(read, {
        rule: 'no',
        items: 3,
        denied: 2,
        security_policy: 'None',
        mode: 'enforce',
        shadow,
        detail: /rule "no" denies it/,
      })
      t.same(JSON.parse(`${read.nodes}`), [
        { node: node('Counter'), attribute: 'Value', count: 1 },
        { node: node('Counter'), attribute: 'BrowseName', count: 1 },
      ])
      t.match(read, { protocol: 'opcua', client: '127.0.0.1', target_port: cell.port, visibility: 'inspected' })
      t.same(
        [await metric('INSPECT', 'would_deny', 'service'), await metric('INSPECT', 'would_deny', 'node')],
        [6, 1],
        'counted each time, told once',
      )
      t.equal(await metric('INSPECT', 'would_allow', 'service'), 1)
      t.ok((await metric('INSPECT', 'same')) >= 4)

      // Inspected, signed: the candidate would not have the channel.
      await withSession(await connect(t, { mode: 'Sign' }), `opc.tcp://127.0.0.1:${site.inspect}`, async (session) => {
        t.equal((await session.read(value('Setpoint'))).statusCode, StatusCodes.Good)
      })
      t.match(
        differences(headgate, 'INSPECT').find((one) => one.function === 'OpenSecureChannel'),
        {
          event: 'shadow.would_deny',
          reason: 'security',
          security_mode: 'Sign',
          security_policy: 'Basic256Sha256',
          detail: /security (policy|mode)/,
        },
      )
      t.ok((await metric('INSPECT', 'would_deny', 'security')) >= 4, 'its requests count as it does')

      // Terminated, encrypted.
      const url = `opc.tcp://127.0.0.1:${site.terminate}`
      await withSession(await connect(t, { endpointMustExist: true }), url, async (session) => {
        const both = await session.read([value('Setpoint'), value('Counter')])
        t.same(
          both.map(({ statusCode }) => statusCode.name),
          ['Good', 'Good'],
        )
        const store = new Variant({ dataType: DataType.ByteString, value: Buffer.alloc(20_000, 1) })
        const statuses = await session.write([
          { ...value('Setpoint'), ...double(42) },
          { ...value('Store'), value: { value: store } },
        ])
        t.same(
          statuses.map(({ name }) => name),
          ['Good', 'BadUserAccessDenied'],
        )
        await t.rejects(callAck(session), /BadUserAccessDenied/, 'denied by both')
      })
      await withSession(await connect(t, { endpointMustExist: true }), url, async () => {}, anna)
      t.equal(cell.written.at(-1), 42)
      await told(headgate, 'TERMINATE', 4)
      t.same(differences(headgate, 'TERMINATE').map(brief).sort(), [
        `allow node Write ${node('Store')} Value`,
        `deny node Read ${node('Counter')} Value`,
        `deny node Write ${node('Setpoint')} Value`,
        'deny security ActivateSession',
      ])
      t.match(
        differences(headgate, 'TERMINATE').find((one) => one.function === 'ActivateSession'),
        { detail: 'user identity token Anonymous', security_mode: 'SignAndEncrypt' },
      )
      t.equal(await metric('TERMINATE', 'would_deny', 'security'), 1, 'and anna is taken by both')
      t.equal(await metric('TERMINATE', 'would_deny', 'node'), 2)
      t.equal(await metric('TERMINATE', 'would_allow', 'node'), 1)

      if (io !== TRANSPORTS[0]) return
      // What the analysis makes of it.
      const evidence = join(site.directory, 'evidence.jsonl')
      writeFileSync(evidence, headgate.events.map((one, seq) => `${JSON.stringify({ seq, ...one })}\n`).join(''))
      const [text, json] = verbs([
        ['analyze', '--shadow', evidence],
        ['analyze', '--shadow', evidence, '--format', 'json'],
      ])
      t.equal(text.code, 1)
      t.match(text.out, new RegExp(`1  127\\.0\\.0\\.1 -> .* Read ${node('Counter')} Value\\n`))
      const plain = JSON.parse(json.out)
      t.equal(plain.shadow, shadow)
      const kinds = (list: { of: string; service: string | null; node: string | null }[]): string[] =>
        list.map(({ of, service, node }) => `${of} ${service} ${node}`).sort()
      t.same(kinds(plain.would_allow), [`request Write ${node('Setpoint')}`, `request Write ${node('Store')}`])
      t.same(kinds(plain.would_deny), [
        'channel null null',
        'request ActivateSession null',
        `request Call ns=${cell.namespace};s=Line1`,
        `request Read ${node('Counter')}`,
        `request Read ${node('Counter')}`,
        `request Read ${node('Counter')}`,
        `request Write ${node('Setpoint')}`,
      ])

      // Promoted: the candidate is in force, and judges beside no more.
      const socket = join(site.directory, 'run', 'c.sock')
      const wanted = readFileSync(join(site.directory, 'candidate.yaml'), 'utf8')
      t.match(await ask(socket, { verb: 'promote', reason: 'change 11' }), { ok: true })
      t.equal(readFileSync(headgate.file, 'utf8'), wanted)
      await withSession(
        await connect(t, { endpointMustExist: true }),
        url,
        async (session) => {
          const both = await session.read([value('Setpoint'), value('Counter')])
          t.same(
            both.map(({ statusCode }) => statusCode.name),
            ['Good', 'BadUserAccessDenied'],
          )
        },
        anna,
      )
      t.equal(await metric('TERMINATE', 'would_deny', 'node'), 2, 'nothing is compared any more')
    },
  )
}

t.test(
  'monitor mode; rates; a candidate whose listener is of another handling or protocol, or is not there',
  async (t) => {
    const site = await siteOf(t, TRANSPORTS[0])
    const all = allows('all', ['all'])
    const inForce: Terms = {
      mode: 'monitor',
      inspect: { rules: [reads()], opcua: { security_modes: ['None'] } },
      terminate: { rules: [all], opcua: {} },
    }
    const headgate = await start(t, site, inForce, {
      ...inForce,
      inspect: { rules: [reads(), allows('writes', ['write'])], opcua: { security_modes: ['None'] } },
      terminate: { rules: [all], opcua: { handling: 'inspect', certificates: undefined } },
    })
    const url = `opc.tcp://127.0.0.1:${site.inspect}`
    await withSession(await connect(t, { policy: 'None', mode: 'None' }), url, async (session) => {
      t.equal(await session.write({ ...value('Setpoint'), ...double(50) }), StatusCodes.Good, 'it only monitors')
    })
    await told(headgate, 'INSPECT', 1)
    t.same(differences(headgate, 'INSPECT').map(brief), [`allow service Write ${node('Setpoint')} Value`])
    // The candidate would see nothing but the channel, and allow all of it.
    const terminated = `opc.tcp://127.0.0.1:${site.terminate}`
    await withSession(await connect(t, { endpointMustExist: true }), terminated, async (session) => {
      t.equal((await session.read(value('Setpoint'))).statusCode, StatusCodes.Good)
    })
    t.same(differences(headgate, 'TERMINATE'), [])

    /** Another candidate, and it judges. @returns from where on its events stand */
    const recast = async (candidate: string): Promise<number> => {
      const from = headgate.events.length
      writeFileSync(join(site.directory, 'candidate.yaml'), candidate)
      await headgate.hangUp()
      await headgate.event('shadow.loaded', from)
      return from
    }
    const since = (from: number, name: string): GatewayEvent[] =>
      headgate.events.slice(from).filter(({ event }) => event === name)

    // Rates in slots of its own.
    const limits = { requests: { per_client_per_second: 5, burst: 5 } }
    let from = await recast(textOf(site, { ...inForce, inspect: { ...inForce.inspect, limits } }))
    await withSession(await connect(t, { policy: 'None', mode: 'None' }), url, async (session) => {
      for (let n = 0; n < 40; n++) await session.read(value('Setpoint'))
    })
    const page = await scrape(`http://127.0.0.1:${site.metrics}/metrics`)
    const over = sum(page, 'headgate_shadow_requests_total', {
      conduit: 'INSPECT',
      verdict: 'would_deny',
      reason: 'rate',
    })
    t.ok(over > 0 && over < 45, `over its own rate: ${over}`)
    t.match(since(from, 'shadow.would_deny')[0], {
      reason: 'rate',
      detail: /over a limit of requests of the shadow policy/,
    })

    // A candidate that terminates what is inspected now: encryption hides what it would judge.
    const encrypted = { ...inForce, inspect: { rules: [all], opcua: { security_modes: ['SignAndEncrypt'] } } }
    const certificates = { own: 'own', trusted_clients: 'clients', trusted_servers: 'servers' }
    writeFileSync(headgate.file, textOf(site, encrypted))
    from = await recast(
      textOf(site, {
        ...encrypted,
        inspect: {
          rules: [reads()],
          opcua: { handling: 'terminate', security_modes: ['SignAndEncrypt'], certificates },
        },
      }),
    )
    await withSession(await connect(t), url, async (session) => {
      t.equal((await session.read(value('Setpoint'))).statusCode, StatusCodes.Good)
    })
    await until(() => since(from, 'shadow.not_compared').length > 0, 'what cannot be compared')
    t.match(since(from, 'shadow.not_compared')[0], {
      conduit: 'INSPECT',
      detail: /encryption hides/,
      visibility: 'header only',
    })
    // The rate of the one before may still be told.
    t.same(
      since(from, 'shadow.would_deny').filter((one) => one.reason !== 'rate'),
      [],
    )

    // No listener there, or one of another protocol.
    writeFileSync(headgate.file, textOf(site, inForce))
    const without = textOf(site, { ...inForce, inspectPort: await freePort() })
    const other = JSON.parse(without)
    other.conduits[0].protocols_allowed.push({
      protocol: 'Modbus/TCP',
      rules: [{ name: 'plc', ...everybody, functions: [3] }],
    })
    other.gateway.listeners.push({
      conduit: 'INSPECT',
      protocol: 'Modbus/TCP',
      listen: `127.0.0.1:${site.inspect}`,
      target: '127.0.0.1:502',
    })
    for (const [candidate, detail] of [
      [without, 'the shadow policy has no such listener'],
      [JSON.stringify(other), "the shadow policy's listener there is for Modbus/TCP, and not for this protocol"],
    ]) {
      from = await recast(candidate)
      await withSession(await connect(t, { policy: 'None', mode: 'None' }), url, async (session) => {
        t.equal((await session.read(value('Setpoint'))).statusCode, StatusCodes.Good)
      })
      await until(() => since(from, 'shadow.would_deny').some((one) => one.function === 'Read'), 'its requests')
      const denied = since(from, 'shadow.would_deny').filter((one) => one.detail === detail)
      t.ok(denied.every((one) => one.reason === 'pair'))
      t.ok(['OpenSecureChannel', 'CreateSession', 'Read'].every((name) => denied.some((one) => one.function === name)))
    }
  },
)
