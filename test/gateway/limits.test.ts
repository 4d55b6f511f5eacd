/**
 * The limits of a conduit over real sockets: on each transport, and the same whether one worker counts or two do.
 */
import t, { type Test } from 'tap'
import { freePort, TestGateway, TRANSPORTS } from '../support/gateway.ts'
import { adu } from '../support/modbus.ts'
import { type ConduitText, modbusPolicy } from '../support/policy.ts'
import { answer } from '../support/server.ts'
import { adus, connect, type Peer, RawTarget, sleep, until } from '../support/sockets.ts'

type Limits = NonNullable<ConduitText['limits']>

const read = (transaction: number) => adu(transaction, 1, [3, 0, 0, 0, 1])
const write = (transaction: number) => adu(transaction, 1, [6, 0, 0, 0, 1])
const BUSY = 6
const exception = (transaction: number, code: number, function_ = 3) => adu(transaction, 1, [function_ | 0x80, code])
const ANSWER_BYTES = 11
const EXCEPTION_BYTES = 9

/** One conduit for each limit, so that one gateway tells of them all. */
const CONDUITS: Record<string, Pick<ConduitText, 'limits' | 'mode' | 'timeouts'>> = {
  'per-client': { limits: { connectionsPerClient: 3 } },
  'per-target': { limits: { connectionsPerTarget: 4 } },
  'new-connections': { limits: { newConnectionsPerSecond: 2 } },
  'client-rate': { limits: { requestsPerClientPerSecond: 100, burst: 10 } },
  'target-rate': { limits: { requestsPerTargetPerSecond: 100, burst: 10 } },
  'in-flight': { limits: { inFlightPerTarget: 2 } },
  'pace-flight': { limits: { inFlightPerTarget: 1, onLimit: 'pace', paceQueue: 16, paceMs: 5000 } },
  'pace-rate': { limits: { requestsPerClientPerSecond: 50, burst: 1, onLimit: 'pace', paceQueue: 16, paceMs: 5000 } },
  'pace-bounds': {
    limits: { inFlightPerTarget: 1, onLimit: 'pace', paceQueue: 4, paceMs: 200 } satisfies Limits,
    timeouts: { responseMs: 700 },
  },
  monitored: { mode: 'monitor', limits: { inFlightPerTarget: 1, connectionsPerClient: 1 } },
}

interface Site {
  gateway: TestGateway
  target: RawTarget
  open(client?: string): Promise<Peer>
}

/** Whether the gateway took the connection: it answers a request. One that is refused is reset. */
async function taken(site: Site, client?: string): Promise<Peer | null> {
  const peer = await site.open(client).catch(() => null)
  if (peer === null) return null
  peer.send(read(1))
  await until(() => peer.length > 0 || peer.state !== 'open', 'an answer or a reset')
  if (peer.state === 'open') return peer
  peer.destroy()
  return null
}

/** Requests as fast as they are answered on all connections, for that long. @returns what was answered and refused */
async function flood(peers: Peer[], ms: number): Promise<{ passed: number; busy: number; seconds: number }> {
  const began = performance.now()
  let passed = 0
  let busy = 0
  await Promise.all(
    peers.map(async (peer) => {
      for (let transaction = 1; performance.now() - began < ms; transaction += 10) {
        peer.clear()
        const sent = Array.from({ length: 10 }, (_, i) => read(transaction + i))
        peer.send(Buffer.concat(sent))
        await until(() => adus(peer.received).length === 10, 'an answer to each request')
        for (const [i, response] of adus(peer.received).entries()) {
          if (response.equals(answer(sent[i]))) passed++
          else if (response.equals(exception(transaction + i, BUSY))) busy++
          else throw new Error(`neither answered nor busy: ${response.toString('hex')}`)
        }
        await sleep(5)
      }
    }),
  )
  return { passed, busy, seconds: (performance.now() - began) / 1000 }
}

// They mostly wait.
t.jobs = 2
for (const io of TRANSPORTS) {
  for (const workers of [1, 2]) {
    t.test(`${io}, ${workers} workers`, { buffered: true }, async (t) => {
      const sites = await open(t, io, workers)
      await connections(t, sites)
      await rates(t, sites)
      await inFlight(t, sites)
      await pacing(t, sites)
      await monitoring(t, sites)
      if (workers === 2) {
        const seen = new Set(sites['client-rate'].gateway.events.map((event) => event.worker))
        t.ok(seen.has(0) && seen.has(1), 'both workers had connections')
      }
    })
  }
}

async function open(t: Test, io: 'epoll' | 'net', workers: number): Promise<Record<string, Site>> {
  const conduits: ConduitText[] = []
  const targets: RawTarget[] = []
  for (const [id, terms] of Object.entries(CONDUITS)) {
    const target = await RawTarget.open((request) => answer(request))
    t.teardown(() => target.close())
    targets.push(target)
    conduits.push({
      id,
      ...terms,
      rules: [{ functions: ['read'] }],
      listen: { host: '127.0.0.1', port: await freePort() },
      target: { host: target.host, port: target.port },
    })
  }
  const metrics = { host: '127.0.0.1', port: await freePort() }
  const gateway = await TestGateway.start(modbusPolicy(conduits, { io, workers, metrics }))
  t.teardown(() => gateway.stop())
  const peers: Peer[] = []
  t.teardown(() => {
    for (const peer of peers) peer.destroy()
  })
  return Object.fromEntries(
    conduits.map(({ id, listen }, i) => [
      id,
      {
        gateway,
        target: targets[i],
        open: async (client = '127.0.7.1') => {
          const peer = await connect(listen.port, listen.host, client)
          peers.push(peer)
          return peer
        },
      },
    ]),
  )
}

async function connections(t: Test, sites: Record<string, Site>): Promise<void> {
  await t.test('connections of one client, and to one target', async (t) => {
    for (const [id, most, client] of [
      ['per-client', 3, () => '127.0.7.1'],
      ['per-target', 4, (i: number) => `127.0.7.${i + 1}`],
    ] as const) {
      const site = sites[id]
      const peers: Peer[] = []
      for (let i = 0; i < most; i++) {
        const peer = await taken(site, client(i))
        t.ok(peer, `${id}: connection ${i + 1}`)
        if (peer) peers.push(peer)
      }
      for (let i = 0; i < 4; i++) t.notOk(await taken(site, client(most + i)), `${id}: one too many`)
      t.equal(site.target.connections.length, most, 'the target was not dialled for those refused')
      const other = await taken(site, '127.0.8.8')
      t.equal(other !== null, id === 'per-client', 'another client')
      other?.destroy()
      peers.pop()?.destroy()
      let next: Peer | null = null
      for (let i = 0; i < 100 && next === null; i++) {
        next = await taken(site, client(0))
        if (next === null) await sleep(10)
      }
      t.ok(next, 'when one has gone, another may come')
      t.notOk(await taken(site, client(0)))
      const event = await site.gateway.event('connection.refused', { conduit: id })
      t.match(event, { reason: 'rate', detail: 'over a limit of connections' })
      t.ok(((await site.gateway.counts(id)).connections['deny rate'] ?? 0) >= 5)
    }
  })

  await t.test('new connections each second', async (t) => {
    const site = sites['new-connections']
    const began = performance.now()
    let passed = 0
    for (let i = 0; i < 8; i++) if (await taken(site)) passed++
    const most = 2 + Math.floor(((performance.now() - began) / 1000) * 2 + 1)
    t.ok(passed >= 2 && passed <= most, `${passed} of at most ${most}`)
    t.ok(passed < 8)
    t.ok(await taken(site, '127.0.8.8'), 'another client has a rate of its own')
    await sleep(550)
    t.ok(await taken(site), 'after half a second there is room for one')
    t.notOk(await taken(site))
  })
}

async function rates(t: Test, sites: Record<string, Site>): Promise<void> {
  await t.test('requests each second', async (t) => {
    const MS = 800
    const peers = async (id: string, client: string) =>
      await Promise.all(Array.from({ length: 6 }, () => sites[id].open(client)))
    const [first, second] = [await peers('client-rate', '127.0.7.1'), await peers('client-rate', '127.0.7.2')]
    const together = [...(await peers('target-rate', '127.0.7.1')), ...(await peers('target-rate', '127.0.7.2'))]
    const results = await Promise.all([flood(first, MS), flood(second, MS), flood(together, MS)])
    for (const [i, { passed, busy, seconds }] of results.entries()) {
      const most = 10 + 100 * seconds + 1
      t.ok(passed <= most, `${passed} passed in ${seconds} s, at most ${most}`)
      // The last batch of the slowest connection ends after the others have stopped asking.
      t.ok(passed >= 0.85 * 100 * (MS / 1000), `${passed} passed: what the limit leaves is had`)
      t.ok(busy > passed, `${busy} refused`)
      const id = i === 2 ? 'target-rate' : 'client-rate'
      t.match(await sites[id].gateway.event('request.denied', { conduit: id }), {
        reason: 'rate',
        exception_code: BUSY,
      })
    }
    for (const [id, of] of [
      ['client-rate', results.slice(0, 2)],
      ['target-rate', results.slice(2)],
    ] as const) {
      const passed = of.reduce((sum, one) => sum + one.passed, 0)
      t.equal(sites[id].target.received.length, 12 * passed, 'the target got just those')
      t.match(await sites[id].gateway.counts(id), {
        requests: {
          'read-holding-registers allow': passed,
          'read-holding-registers deny rate': of.reduce((sum, one) => sum + one.busy, 0),
        },
      })
    }
  })
}

async function inFlight(t: Test, sites: Record<string, Site>): Promise<void> {
  await t.test('requests in flight to one target', async (t) => {
    const { target, open, gateway } = sites['in-flight']
    const held: [Buffer, Peer][] = []
    target.script = (request, connection) => {
      held.push([request, connection])
      return null
    }
    const peers = await Promise.all(Array.from({ length: 6 }, (_, i) => open(`127.0.7.${i + 1}`)))
    for (const peer of peers.slice(0, 2)) peer.send(read(1))
    await until(() => held.length === 2, 'two requests at the target')
    for (const peer of peers.slice(2)) {
      peer.send(read(2))
      await peer.got(EXCEPTION_BYTES)
      t.same(peer.received, exception(2, BUSY))
      peer.clear()
    }
    t.equal(held.length, 2, 'no more than two')
    t.equal(await gateway.sample('headgate_pending_requests', { conduit: 'in-flight' }), 2)
    const [[request, connection]] = held
    connection.send(answer(request))
    await until(() => peers.some((peer) => peer.length === ANSWER_BYTES), 'the answer')
    peers[2].send(read(3))
    await until(() => held.length === 3, 'a place is free again')
    for (const [request, connection] of held.slice(1)) connection.send(answer(request))
    await peers[2].got(ANSWER_BYTES)
    t.same(peers[2].received, answer(read(3)))
    // A client that goes away gives its place back as well, whatever its target does.
    held.length = 0
    for (const peer of peers.slice(3, 5)) peer.send(read(4))
    await until(() => held.length === 2, 'two more')
    for (const peer of peers.slice(3, 5)) peer.reset()
    peers[5].clear()
    for (let i = 0; i < 200 && held.length === 2; i++) {
      peers[5].send(read(5))
      await sleep(10)
    }
    t.equal(held.length > 2, true, 'given back')
  })
}

async function pacing(t: Test, sites: Record<string, Site>): Promise<void> {
  await t.test('pace: one in flight, in order, nothing refused', async (t) => {
    const { target, open, gateway } = sites['pace-flight']
    let inFlight = 0
    let most = 0
    target.script = (request, connection) => {
      most = Math.max(most, ++inFlight)
      setTimeout(() => {
        inFlight--
        connection.send(answer(request))
      }, 5)
      return null
    }
    const peers = await Promise.all(Array.from({ length: 4 }, (_, i) => open(`127.0.7.${i + 1}`)))
    // A denied request stands among those that wait: its answer waits with them.
    const asked = [read(1), read(2), write(3), read(4), read(5), read(6)]
    for (const peer of peers) peer.send(Buffer.concat(asked))
    const expected = Buffer.concat(asked.map((one) => (one[7] === 6 ? exception(3, 1, 6) : answer(one))))
    for (const peer of peers) t.same(await peer.got(expected.length), expected)
    t.equal(most, 1)
    t.equal((await gateway.counts('pace-flight')).requests['read-holding-registers allow'], 20)
  })

  await t.test('pace: a rate', async (t) => {
    const { target, open } = sites['pace-rate']
    const times: number[] = []
    target.script = (request) => {
      times.push(performance.now())
      return answer(request)
    }
    const peers = await Promise.all([open(), open()])
    const asked = Array.from({ length: 6 }, (_, i) => read(i))
    for (const peer of peers) peer.send(Buffer.concat(asked))
    const expected = Buffer.concat(asked.map(answer))
    for (const peer of peers) t.same(await peer.got(expected.length), expected)
    const took = times[times.length - 1] - times[0]
    // Twelve requests, 20 ms apart.
    t.ok(took > 11 * 20 - 10 && took < 1500, `${took} ms`)
  })

  await t.test('pace: bounded in number and in time', async (t) => {
    const { target, open, gateway } = sites['pace-bounds']
    target.script = () => null
    const peer = await open()
    const began = performance.now()
    peer.send(Buffer.concat(Array.from({ length: 8 }, (_, i) => read(i))))
    // The first goes to the target, which is silent; four wait, for 200 ms; three find no place.
    const expected = [exception(0, 0x0b), ...Array.from({ length: 7 }, (_, i) => exception(i + 1, BUSY))]
    t.same(await peer.got(8 * EXCEPTION_BYTES), Buffer.concat(expected))
    const took = performance.now() - began
    t.ok(took >= 690 && took < 2000, `${took} ms: in order, behind the one that the target owes`)
    t.equal(target.received.length, 12)
    const { requests } = await gateway.counts('pace-bounds')
    t.equal(requests['read-holding-registers deny rate'], 7)
    t.equal(await gateway.sample('headgate_pending_requests', { conduit: 'pace-bounds' }), 0)

    const alone = await open('127.0.7.2')
    target.script = (request) => (request[1] === 99 ? null : answer(request))
    alone.send(Buffer.concat([read(99), read(1)]))
    await sleep(250)
    t.equal(alone.length, 0)
    await alone.got(2 * EXCEPTION_BYTES)
    t.same(alone.received, Buffer.concat([exception(99, 0x0b), exception(1, BUSY)]))
    alone.clear()
    alone.send(read(2))
    t.same(await alone.got(ANSWER_BYTES), answer(read(2)), 'and all is well again')
  })
}

async function monitoring(t: Test, sites: Record<string, Site>): Promise<void> {
  await t.test('monitor: all pass, and what a limit would deny is counted', async (t) => {
    const { open, gateway } = sites.monitored
    const peers = await Promise.all([open(), open(), open()])
    for (const peer of peers) peer.send(Buffer.concat([read(1), read(2), read(3)]))
    const expected = Buffer.concat([read(1), read(2), read(3)].map(answer))
    for (const peer of peers) t.same(await peer.got(expected.length), expected)
    const { requests, connections } = await gateway.counts('monitored')
    t.same(connections, { allow: 1, 'would_deny rate': 2 })
    const would = requests['read-holding-registers would_deny rate']
    t.ok(would >= 6 && would <= 8, `${would} of 9: one in flight at a time`)
    t.equal(requests['read-holding-registers allow'], 9 - would)
  })
}
