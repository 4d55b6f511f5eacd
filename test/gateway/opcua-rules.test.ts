/**
 * Rules inside, with node-opcua's server and clients and a terminating session between them: what a list loses, aliases,
 * namespace URIs, subscriptions. (Writes and calls: opcua-terminate.test.ts.)
 */
import {
  AttributeIds,
  ClientMonitoredItemGroup,
  type ClientSubscription,
  DataType,
  type DataValue,
  HistoryReadRequest,
  makeBrowsePath,
  ReadRawModifiedDetails,
  StatusCodes,
  TimestampsToReturn,
  TransferSubscriptionsRequest,
  Variant,
} from 'node-opcua'
import t, { type Test } from 'tap'
import type { IndexedRule } from '../../src/protocols/opcua/channel-rules.ts'
import { REASON } from '../../src/protocols/reason.ts'
import { type GatewayOptions, ruleOf, TestGateway } from '../support/opcua-gateway.ts'
import { type RuleText, ruleTerms } from '../support/opcua-messages.ts'
import { type CellServer, client, startServer, temporary, withSession } from '../support/opcua-peers.ts'
import { type Holder, selfSigned } from '../support/opcua-pki.ts'
import { until } from '../support/sockets.ts'

let directory: string
let own: Holder
let serverHolder: Holder
let holders: Holder[]
let cell: CellServer
let clients = 0

t.before(async () => {
  directory = temporary(t)
  const names = ['gateway', 'server', 'client', 'other']
  ;[own, serverHolder, ...holders] = await Promise.all(names.map((name) => selfSigned(name)))
  cell = await startServer(t, directory, serverHolder)
})

const rulesOf = (...texts: RuleText[]): IndexedRule[] =>
  texts.map((text, index) => ruleOf(ruleTerms(text, index), index))

const open = (t: Test, rules: IndexedRule[], terms: GatewayOptions['terms'] = {}): Promise<TestGateway> =>
  TestGateway.open(t, {
    own,
    clients: holders.map(({ der }) => der),
    servers: [serverHolder.der],
    target: cell.port,
    rules,
    terms,
  })

const connect = (t: Test, which = 0) => client(t, directory, `rules${clients++}`, holders[which])
const node = (name: string): string => `ns=${cell.namespace};s=Line1.${name}`
const LINE = 'nsu=urn:plant:cell;s='
const names = (statuses: { name: string }[]): string[] => statuses.map(({ name }) => name)
const DENIED = 'BadUserAccessDenied'
/** What a client needs before it comes to nodes; i=0-99999 is the standard's own. */
const AROUND: RuleText = { services: ['discovery', 'session', 'subscribe', 'read', 'browse'], nodes: ['i=0-99999'] }

t.test('lists lose what is denied: read, browse, translate, history', async (t) => {
  const gateway = await open(
    t,
    rulesOf(AROUND, { services: ['read', 'browse', 'history-read'], nodes: [`${LINE}Line1`, `${LINE}Line1.Setpoint`] }),
  )
  await withSession(await connect(t), gateway.url, async (session) => {
    const read = ['Counter', 'Setpoint', 'Store'].map((name) => ({
      nodeId: node(name),
      attributeId: AttributeIds.Value,
    }))
    const values = await session.read([...read, { nodeId: 'i=2258', attributeId: AttributeIds.Value }])
    t.same(names(values.map(({ statusCode }) => statusCode)), [DENIED, 'Good', DENIED, 'Good'])
    t.type(values[1].value.value, 'number')

    const browsed = await session.browse([`ns=${cell.namespace};s=Line1`, node('Counter'), 'i=85'])
    t.same(names(browsed.map(({ statusCode }) => statusCode)), ['Good', DENIED, 'Good'])
    t.ok((browsed[2].references ?? []).some(({ browseName }) => browseName.name === 'Line1'))

    const paths = [makeBrowsePath('i=84', '/Objects/Server'), makeBrowsePath(node('Counter'), '/x')]
    t.same(names((await session.translateBrowsePath(paths)).map(({ statusCode }) => statusCode)), ['Good', DENIED])

    const history = await session.historyRead(
      new HistoryReadRequest({
        historyReadDetails: new ReadRawModifiedDetails({
          startTime: new Date(Date.now() - 60_000),
          endTime: new Date(),
          numValuesPerNode: 10,
        }),
        nodesToRead: [{ nodeId: node('Counter') }, { nodeId: node('Setpoint') }],
      }),
    )
    const [denied, allowed] = history.results ?? []
    t.equal(denied.statusCode.name, DENIED)
    t.not(allowed.statusCode.name, DENIED)
  })
  const told = gateway.told.filter(({ kind }) => kind === 'request')
  t.match(told[0], { reason: REASON.node, fields: { node: node('Counter'), attribute: 'Value', items: 4, denied: 2 } })
})

t.test('monitored items: news of those that are allowed, and of no other', async (t) => {
  const gateway = await open(t, rulesOf(AROUND, { services: ['subscribe'], nodes: [`${LINE}Line1.Counter`] }))
  await withSession(await connect(t), gateway.url, async (session) => {
    const subscription = await session.createSubscription2({
      requestedPublishingInterval: 50,
      requestedLifetimeCount: 1000,
      requestedMaxKeepAliveCount: 10,
      publishingEnabled: true,
    })
    const news = new Map<number, number>()
    const items = ['Setpoint', 'Counter', 'Big'].map((name) => ({
      nodeId: node(name),
      attributeId: AttributeIds.Value,
    }))
    const group = ClientMonitoredItemGroup.create(
      subscription,
      items,
      { samplingInterval: 20, queueSize: 10, discardOldest: true },
      TimestampsToReturn.Both,
    )
    group.on('changed', (_: unknown, __: DataValue, index: number) => news.set(index, (news.get(index) ?? 0) + 1))
    await until(() => (news.get(1) ?? 0) >= 3, 'three changes of Counter')
    t.same([...news.keys()], [1])
    t.same(
      group.monitoredItems.map((item) => item.statusCode.name),
      [DENIED, 'Good', DENIED],
    )
    await subscription.terminate()
  })
})

t.test('RegisterNodes: an alias is judged as the node behind it', async (t) => {
  const gateway = await open(
    t,
    rulesOf(
      AROUND,
      { services: ['browse'] },
      {
        services: ['read', 'write'],
        nodes: [`${LINE}Line1.Setpoint`],
        values: { [`${LINE}Line1.Setpoint`]: { min: 0, max: 85 } },
      },
    ),
  )
  const written = cell.written.length
  await withSession(await connect(t), gateway.url, async (session) => {
    const [setpoint, store] = await session.registerNodes([node('Setpoint'), node('Store')])
    t.not(String(setpoint), node('Setpoint'), 'the server gives out aliases')
    const write = (nodeId: typeof setpoint, value: number) =>
      session.write({
        nodeId,
        attributeId: AttributeIds.Value,
        value: { value: new Variant({ dataType: DataType.Double, value }) },
      })
    t.equal((await write(setpoint, 61)).name, 'Good')
    t.equal((await write(setpoint, 86)).name, DENIED)
    t.equal((await write(store, 1)).name, DENIED)
    t.equal((await session.read({ nodeId: setpoint, attributeId: AttributeIds.Value })).value.value, 61)
    t.equal((await session.read({ nodeId: store, attributeId: AttributeIds.Value })).statusCode.name, DENIED)
    await session.unregisterNodes([setpoint])
    t.equal((await write(setpoint, 62)).name, DENIED, 'an alias that was given back is none')
  })
  t.same(cell.written.slice(written), [61])
})

t.test('subscriptions: as many as the policy says, and taken over by whoever made them', async (t) => {
  const gateway = await open(t, rulesOf(AROUND), { subscriptionsPerSession: 1 })
  const make = (session: Parameters<Parameters<typeof withSession>[2]>[0]) =>
    session.createSubscription2({ requestedPublishingInterval: 100, publishingEnabled: true })
  await withSession(await connect(t), gateway.url, async (session) => {
    const first: ClientSubscription = await make(session)
    await t.rejects(make(session), /BadTooManySubscriptions/)
    const transfer = () => new TransferSubscriptionsRequest({ subscriptionIds: [first.subscriptionId] })
    const take = (which: number) =>
      connect(t, which).then((made) =>
        withSession(made, gateway.url, async (other) => {
          const transferring = other as unknown as {
            transferSubscriptions(
              request: TransferSubscriptionsRequest,
            ): Promise<{ results: { statusCode: unknown }[] }>
          }
          return transferring.transferSubscriptions(transfer())
        }),
      )
    await t.rejects(take(1), /BadUserAccessDenied/, 'another client')
    const { results } = await take(0)
    t.equal(results[0].statusCode, StatusCodes.Good, 'another session of the same client')
  })
})
