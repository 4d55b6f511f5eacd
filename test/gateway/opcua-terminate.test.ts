/**
 * Real clients and servers of OPC UA (node-opcua) with a terminating session between them: every policy and mode, what
 * the services carry, renewals, reconnects, users, denials. What node-opcua's client does not look at is verified here
 * by its own functions: signatures, endpoint lists, certificates.
 */
import { randomBytes } from 'node:crypto'
import {
  AttributeIds,
  CreateSessionRequest,
  DataType,
  type EndpointDescription,
  GetEndpointsRequest,
  HistoryReadRequest,
  OPCUAClient,
  ReadRawModifiedDetails,
  StatusCodes,
  TimestampsToReturn,
  UserTokenType,
  Variant,
} from 'node-opcua'
import { computeSignature, verifySignature } from 'node-opcua-secure-channel'
import t, { type Test } from 'tap'
import { REQUEST, servicesIn } from '../../src/protocols/opcua/services.ts'
import { type GatewayOptions, ruleOf, TestGateway } from '../support/opcua-gateway.ts'
import {
  anna,
  type CellServer,
  type ClientOptions,
  client,
  files,
  POLICIES,
  type PolicyName,
  startServer,
  subscribe,
  temporary,
  withSession,
} from '../support/opcua-peers.ts'
import { type Holder, selfSigned } from '../support/opcua-pki.ts'
import { sleep, until } from '../support/sockets.ts'

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
  TestGateway.open(t, {
    own,
    clients: [holder.der],
    servers: [serverHolder.der],
    target: cell.port,
    ...options,
  })

const connect = (t: Test, options: ClientOptions = {}) => client(t, directory, `client${clients++}`, holder, options)
const node = (name: string): string => `ns=${cell.namespace};s=Line1.${name}`
const double = (value: number) => ({ value: new Variant({ dataType: DataType.Double, value }) })

const SECURE = ['Basic128Rsa15', 'Basic256', 'Basic256Sha256', 'Aes128_Sha256_RsaOaep', 'Aes256_Sha256_RsaPss'] as const

t.test('every policy and mode: browse, read, write, call', async (t) => {
  const gateway = await open(t, { policies: [...SECURE] })
  for (const policy of SECURE) {
    for (const mode of ['Sign', 'SignAndEncrypt'] as const) {
      const made = await connect(t, { policy, mode })
      await withSession(made, gateway.url, async (session) => {
        const browsed = await session.browse(`ns=${cell.namespace};s=Line1`)
        t.ok((browsed.references ?? []).some(({ browseName }) => browseName.name === 'Setpoint'))
        const value = cell.written.length + 30
        const nodeId = node('Setpoint')
        const write = { nodeId, attributeId: AttributeIds.Value, value: double(value) }
        t.equal(await session.write(write), StatusCodes.Good, `${policy} ${mode}`)
        t.equal((await session.read({ nodeId, attributeId: AttributeIds.Value })).value.value, value)
        t.equal(cell.written.at(-1), value)
        const called = await session.call({
          objectId: `ns=${cell.namespace};s=Line1`,
          methodId: `ns=${cell.namespace};s=Ack`,
          inputArguments: [new Variant({ dataType: DataType.UInt32, value: 21 })],
        })
        t.equal(called.outputArguments?.[0].value, 42)
      })
    }
  }
  const opened = gateway.told.filter(({ kind }) => kind === 'opened').map(({ fields }) => fields)
  for (const security_policy of SECURE) {
    for (const security_mode of ['Sign', 'SignAndEncrypt']) {
      const told = opened.find((one) => one.security_policy === security_policy && one.security_mode === security_mode)
      t.match(told, { visibility: 'inspected', certificate: /^[0-9a-f]{40}$/, server_certificate: /^[0-9a-f]{40}$/ })
    }
  }
  t.same(gateway.details('request'), [])
  t.same(gateway.details('response'), [])
  await until(() => gateway.sessions.size === 0, 'all connections to end')
  t.same(gateway.gauges, { pending: 0, sessions: 0 })
})

t.test('None, where the policy names it', async (t) => {
  const gateway = await open(t, { policies: ['None', 'Basic256Sha256'], modes: ['None', 'SignAndEncrypt'] })
  const made = await connect(t, { policy: 'None', mode: 'None' })
  await withSession(
    made,
    gateway.url,
    async (session) => {
      t.equal((await session.read({ nodeId: node('Setpoint'), attributeId: AttributeIds.Value })).statusCode.value, 0)
    },
    anna,
  )
})

t.test('None, where it does not: for discovery alone', async (t) => {
  const gateway = await open(t)
  const made = await connect(t, { policy: 'None', mode: 'None', endpointMustExist: false })
  await made.connect(gateway.url)
  const endpoints = await made.getEndpoints()
  t.ok(endpoints.length > 0)
  t.same([...new Set(endpoints.map(({ securityPolicyUri }) => securityPolicyUri))].sort(), [
    POLICIES.Aes128_Sha256_RsaOaep,
    POLICIES.Aes256_Sha256_RsaPss,
    POLICIES.Basic256Sha256,
  ])
  for (const { endpointUrl, server, serverCertificate, userIdentityTokens } of endpoints) {
    t.ok(endpointUrl?.startsWith(gateway.url), `${endpointUrl}`)
    t.equal(server.applicationUri, own.applicationUri)
    for (const url of server.discoveryUrls ?? []) t.ok(url?.startsWith(gateway.url), `${url}`)
    t.same(serverCertificate, own.der)
    t.notOk(userIdentityTokens?.some(({ tokenType }) => tokenType === UserTokenType.Certificate))
    t.ok(userIdentityTokens?.some(({ tokenType }) => tokenType === UserTokenType.UserName))
  }
  const servers = await made.findServers()
  t.same(
    servers.map(({ applicationUri }) => applicationUri),
    [own.applicationUri],
  )
  for (const server of servers) t.ok(server.discoveryUrls?.every((url) => url?.startsWith(gateway.url)))
  const channel = (made as unknown as { _secureChannel: StrictChannel })._secureChannel
  const request = new CreateSessionRequest({
    clientDescription: { applicationUri: holder.applicationUri },
    endpointUrl: gateway.url,
  })
  const asked = new Promise((resolve, reject) => {
    channel.performMessageTransaction(request, (error, response) => (error ? reject(error) : resolve(response)))
  })
  await t.rejects(asked, /BadSecurityModeInsufficient/)
  t.match(
    gateway.told.find(({ kind }) => kind === 'request'),
    { would: false, detail: /security policy, mode/, fields: { security_mode: 'None' } },
  )
  await made.disconnect()
})

t.test('what strict clients verify: signatures, certificates, and the same endpoints twice', async (t) => {
  const gateway = await open(t)
  for (const policy of ['Basic256Sha256', 'Aes128_Sha256_RsaOaep', 'Aes256_Sha256_RsaPss'] as const) {
    const made = await connect(t, { policy })
    await made.connect(gateway.url)
    const channel = (made as unknown as { _secureChannel: StrictChannel })._secureChannel
    const clientNonce = randomBytes(32)
    const ask = (request: unknown): Promise<never> =>
      new Promise((resolve, reject) => {
        channel.performMessageTransaction(request, (error, response) =>
          error ? reject(error) : resolve(response as never),
        )
      })
    const listed = (await ask(new GetEndpointsRequest({ endpointUrl: gateway.url }))) as {
      endpoints: EndpointDescription[]
    }
    const request = (nonce: Buffer, certificate: Buffer, applicationUri: string) =>
      new CreateSessionRequest({
        clientDescription: { applicationUri },
        endpointUrl: gateway.url,
        sessionName: 'strict',
        clientNonce: nonce,
        clientCertificate: certificate,
        requestedSessionTimeout: 60_000,
      })
    const created = (await ask(request(clientNonce, holder.der, holder.applicationUri))) as Created
    t.same(created.serverCertificate, own.der)
    const { serverSignature } = created
    t.ok(
      verifySignature(holder.der, clientNonce, serverSignature as never, own.der, POLICIES[policy]),
      `${policy}: the signature over the client's certificate and nonce is the gateway's`,
    )
    t.notOk(
      verifySignature(holder.der, randomBytes(32), serverSignature as never, own.der, POLICIES[policy]),
      'and over no other nonce',
    )
    t.equal(created.serverNonce.length, 32)
    t.same(told(created.serverEndpoints), told(listed.endpoints), 'the endpoints are those of GetEndpoints')
    t.equal(created.serverEndpoints.length, 6)
    await t.rejects(ask(request(clientNonce, holder.der, holder.applicationUri)), /BadNonceInvalid/, 'a nonce again')
    await t.rejects(ask(request(randomBytes(31), holder.der, holder.applicationUri)), /BadNonceInvalid/, 'a short one')
    await t.rejects(
      ask(request(randomBytes(32), serverHolder.der, holder.applicationUri)),
      /BadSecurityChecksFailed/,
      'a certificate that is not the channel’s',
    )
    await t.rejects(ask(request(randomBytes(32), holder.der, 'urn:somebody')), /BadCertificateUriInvalid/)
    await made.disconnect()
  }
  t.ok(computeSignature)
})

interface StrictChannel {
  performMessageTransaction(request: unknown, callback: (error: Error | null, response?: unknown) => void): void
}
interface Created {
  serverCertificate: Buffer
  serverNonce: Buffer
  serverSignature: unknown
  serverEndpoints: EndpointDescription[]
}

/** What clients compare (OPC 10000-4 §5.7.2.2); all else a server may leave out of CreateSession. */
const told = (endpoints: EndpointDescription[]) =>
  endpoints.map((endpoint) => {
    const { endpointUrl, securityMode, securityPolicyUri, userIdentityTokens, transportProfileUri, securityLevel } =
      endpoint
    const tokens = userIdentityTokens?.map(({ policyId, tokenType }) => [policyId, tokenType])
    const { applicationUri } = endpoint.server
    return [applicationUri, endpointUrl, securityMode, securityPolicyUri, tokens, transportProfileUri, securityLevel]
  })

t.test('large messages, subscriptions, history', async (t) => {
  const gateway = await open(t)
  const made = await connect(t)
  await withSession(made, gateway.url, async (session) => {
    const read = await session.read({ nodeId: node('Big'), attributeId: AttributeIds.Value })
    t.equal(read.value.value.length, 400_000)
    t.ok((read.value.value as Buffer).every((byte) => byte === 0xab))
    const bytes = randomBytes(300_000)
    const value = { value: new Variant({ dataType: DataType.ByteString, value: bytes }) }
    t.equal(await session.write({ nodeId: node('Store'), attributeId: AttributeIds.Value, value }), StatusCodes.Good)
    const stored = await session.read({ nodeId: node('Store'), attributeId: AttributeIds.Value })
    t.same(stored.value.value, bytes)
    const { subscription, values } = subscribe(session, node('Counter'))
    await until(() => values.length >= 5, 'five notifications')
    await subscription.terminate()
    const history = await session.historyRead(
      new HistoryReadRequest({
        historyReadDetails: new ReadRawModifiedDetails({
          startTime: new Date(Date.now() - 3_600_000),
          endTime: new Date(),
          numValuesPerNode: 100,
        }),
        timestampsToReturn: TimestampsToReturn.Both,
        nodesToRead: [{ nodeId: node('Setpoint') }],
      }),
    )
    t.equal(history.results?.length, 1)
    t.equal(history.results?.[0].statusCode.isGoodish(), true)
  })
  t.same(gateway.details('response'), [])
})

t.test('renewals on both sides while a client reads and waits for news', async (t) => {
  const gateway = await open(t)
  const reading = async (mode: 'Sign' | 'SignAndEncrypt'): Promise<void> => {
    const made = await connect(t, { mode, defaultSecureTokenLifetime: 2000 })
    let renewals = 0
    made.on('security_token_renewed', () => renewals++)
    await withSession(made, gateway.url, async (session) => {
      const end = performance.now() + 20_000
      while (renewals < 2 && performance.now() < end) {
        const read = await session.read({ nodeId: node('Setpoint'), attributeId: AttributeIds.Value })
        if (read.statusCode.value !== 0) t.fail(`${read.statusCode}`)
        await sleep(20)
      }
      t.ok(renewals >= 2, `${renewals} renewals`)
      // What was sent by the token before has run out by now.
      await sleep(1000)
      t.equal((await session.read({ nodeId: node('Setpoint'), attributeId: AttributeIds.Value })).statusCode.value, 0)
    })
  }
  await Promise.all([reading('Sign'), reading('SignAndEncrypt')])
  t.same(gateway.details('channel'), [])
})

t.test('users: good, bad, none where the policy wants one', async (t) => {
  const gateway = await open(t)
  for (const policy of ['Basic256Sha256', 'Aes256_Sha256_RsaPss'] as const) {
    const good = await connect(t, { policy })
    await withSession(good, gateway.url, async (session) => t.ok(session.sessionId), anna)
    const bad = await connect(t, { policy })
    await bad.connect(gateway.url)
    await t.rejects(
      bad.createSession({ type: UserTokenType.UserName, userName: 'anna', password: 'falsch' }),
      /BadUserAccessDenied|BadIdentityTokenRejected/,
    )
    await bad.disconnect()
  }
  t.same(gateway.details('request'), [], 'passwords are the server’s to judge')
  const named = await open(t, { terms: { userTokens: new Set([1]) } })
  const nobody = await connect(t)
  await nobody.connect(named.url)
  await t.rejects(nobody.createSession(), /ANONYMOUS/i)
  await nobody.disconnect()
})

t.test('a cut connection: the session goes on over the next, its subscription too', async (t) => {
  const gateway = await open(t)
  const made = OPCUAClient.create({
    applicationName: 'again',
    applicationUri: holder.applicationUri,
    ...files(directory, 'again', holder),
    securityMode: 3,
    securityPolicy: POLICIES.Basic256Sha256,
    connectionStrategy: { maxRetry: 20, initialDelay: 50, maxDelay: 200 },
    keepSessionAlive: true,
  })
  t.teardown(() => made.disconnect().catch(() => {}))
  await withSession(
    made,
    gateway.url,
    async (session) => {
      const token = session.authenticationToken?.toString()
      const { values } = subscribe(session, node('Counter'), 1000)
      await until(() => values.length >= 2, 'notifications')
      const before = cell.server.engine.cumulatedSessionCount
      for (let round = 0; round < 2; round++) {
        gateway.cutClients()
        await until(() => made.isReconnecting, 'the client to see it')
        await until(() => !made.isReconnecting, 'the reconnect', 15_000)
        const from = values.length
        await until(() => values.length >= from + 3, 'notifications again', 10_000)
      }
      t.equal(session.authenticationToken?.toString(), token, 'the same session')
      t.equal(cell.server.engine.cumulatedSessionCount, before, 'the server has made no other')
    },
    anna,
  )
  t.same(gateway.details('channel'), [])
})

t.test('denied: the request or the item alone, and the session lives', async (t) => {
  const { namespace } = cell
  const services = ['discovery', 'session', 'browse', 'read', 'subscribe'].flatMap((group) =>
    servicesIn(group as never),
  )
  const setpoint = { text: 'x', namespace, id: { type: 'string', glob: 'Line1.Setpoint' } } as const
  const rules = [
    ruleOf({ name: 'reads', services }, 0),
    ruleOf(
      { name: 'setpoint', services: [REQUEST.Write], nodes: [setpoint], values: [{ node: setpoint, min: 0, max: 85 }] },
      1,
    ),
  ]
  const gateway = await open(t, { rules })
  const made = await connect(t)
  const written = cell.written.length
  await withSession(made, gateway.url, async (session) => {
    const write = (name: string, value: number) => ({
      nodeId: node(name),
      attributeId: AttributeIds.Value,
      value: double(value),
    })
    t.equal(await session.write(write('Setpoint', 80)), StatusCodes.Good)
    t.equal(await session.write(write('Setpoint', 86)), StatusCodes.BadUserAccessDenied)
    t.equal(await session.write(write('Counter', 1)), StatusCodes.BadUserAccessDenied)
    t.same(
      (await session.write([write('Counter', 1), write('Big', 2)])).map(({ name }) => name),
      ['BadUserAccessDenied', 'BadUserAccessDenied'],
    )
    t.same(
      (await session.write([write('Counter', 1), write('Setpoint', 81), write('Setpoint', 99)])).map(
        ({ name }) => name,
      ),
      ['BadUserAccessDenied', 'Good', 'BadUserAccessDenied'],
    )
    const call = {
      objectId: `ns=${namespace};s=Line1`,
      methodId: `ns=${namespace};s=Ack`,
      inputArguments: [new Variant({ dataType: DataType.UInt32, value: 1 })],
    }
    const calls = cell.calls
    await t.rejects(session.call(call), /BadUserAccessDenied/)
    t.equal(cell.calls, calls)
    t.equal((await session.read({ nodeId: node('Setpoint'), attributeId: AttributeIds.Value })).value.value, 81)
  })
  t.same(cell.written.slice(written), [80, 81], 'no denied value has reached the server')
  const told = gateway.told.filter(({ kind }) => kind === 'request')
  t.match(told[0], { would: false, rule: 1, fields: { node: node('Setpoint'), value: '86', session: /.+/ } })
  t.equal(told.length, 5)
  t.match(told[4], { detail: /services allowed/ })
})

t.test('monitor mode: all passes, and what would be denied is told', async (t) => {
  const services = ['discovery', 'session', 'browse', 'read'].flatMap((group) => servicesIn(group as never))
  const gateway = await open(t, { rules: [ruleOf({ services })], terms: { monitor: true } })
  const made = await connect(t)
  await withSession(made, gateway.url, async (session) => {
    const write = { nodeId: node('Setpoint'), attributeId: AttributeIds.Value, value: double(77) }
    t.equal(await session.write(write), StatusCodes.Good)
  })
  t.equal(cell.written.at(-1), 77)
  t.match(
    gateway.told.filter(({ kind }) => kind === 'request'),
    [{ would: true, fields: { node: node('Setpoint'), value: '77' } }],
  )
})

t.test('the limit of sessions, over connections', async (t) => {
  const gateway = await open(t, { terms: { maxSessions: 2 } })
  const sessions = []
  for (let i = 0; i < 2; i++) {
    const made = await connect(t)
    await made.connect(gateway.url)
    sessions.push(await made.createSession())
  }
  const third = await connect(t)
  await third.connect(gateway.url)
  await t.rejects(third.createSession(), /BadTooManySessions/)
  t.match(
    gateway.told.find(({ kind }) => kind === 'request'),
    { detail: 'over the limit of sessions' },
  )
  await sessions[0].close()
  const made = await third.createSession()
  t.ok(made.sessionId, 'room again')
  t.equal(gateway.gauges.sessions, 2)
})

t.test('a client that is cut leaves no session on the server', async (t) => {
  const gateway = await open(t)
  const made = await connect(t)
  await made.connect(gateway.url)
  const before = cell.server.engine.currentSessionCount
  await made.createSession()
  t.equal(cell.server.engine.currentSessionCount, before + 1)
  for (const session of gateway.sessions) session.close('gateway stopping')
  await until(() => cell.server.engine.currentSessionCount === before, 'the session to be closed')
  await until(() => gateway.sessions.size === 0, 'the connection to end')
  t.same(gateway.gauges, { pending: 0, sessions: 0 })
})

const policyNames = Object.keys(POLICIES) as PolicyName[]
t.test('security below the policy’s', async (t) => {
  const gateway = await open(t, { policies: ['Aes256_Sha256_RsaPss'], modes: ['SignAndEncrypt'] })
  for (const policy of policyNames.filter((name) => name !== 'None' && name !== 'Aes256_Sha256_RsaPss')) {
    // A client that knows the server's certificate asks for no endpoints.
    const made = await connect(t, { policy, serverCertificate: own.der, endpointMustExist: false })
    await t.rejects(made.connect(gateway.url), `${policy} is refused`)
    t.match(gateway.details('channel').at(-1), `security policy ${policy}`)
  }
  const made = await connect(t, {
    policy: 'Aes256_Sha256_RsaPss',
    mode: 'Sign',
    serverCertificate: own.der,
    endpointMustExist: false,
  })
  await t.rejects(made.connect(gateway.url))
  t.match(gateway.details('channel').at(-1), 'message security mode Sign')
})
