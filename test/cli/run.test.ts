/** `headgate run` from outside: what it prints, what signals do, how it ends. */
import { chmodSync, openSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { freePort, TRANSPORTS } from '../support/gateway.ts'
import { document, Headgate, type Log, type ModbusText, policyFile, rule, scrape, sum } from '../support/headgate.ts'
import { adu } from '../support/modbus.ts'
import { answer } from '../support/server.ts'
import { connect, RawTarget, sleep, until } from '../support/sockets.ts'

const read = (transaction: number) => adu(transaction, 1, [3, 0, 0, 0, 1])
const write = (transaction: number) => adu(transaction, 1, [6, 0, 7, 0, 9])
const diagnose = (transaction: number) => adu(transaction, 1, [8, 0, 0, 0, 0])
const refused = (transaction: number, code: number, exception: number) =>
  adu(transaction, 1, [code | 0x80, exception]).toString('hex')

async function target(t: Test): Promise<RawTarget> {
  const opened = await RawTarget.open((request) => answer(request))
  t.teardown(() => opened.close())
  return opened
}

const local = (port: number): string => `127.0.0.1:${port}`

/** Whether anybody listens there. */
const open = (port: number): Promise<boolean> =>
  connect(port).then(
    (peer) => {
      peer.destroy()
      return true
    },
    () => false,
  )

for (const io of TRANSPORTS) {
  t.test(`${io}: a gateway's life`, async (t) => {
    const plc = await target(t)
    const [first, second, third, metrics] = [await freePort(), await freePort(), await freePort(), await freePort()]
    const document1 = (modbus: ModbusText, ports: number[], mode: 'enforce' | 'monitor' = 'enforce', more = {}) =>
      document({
        mode,
        modbus,
        listeners: Object.fromEntries(ports.map((port) => [local(port), local(plc.port)])),
        gateway: { io, workers: 2, metrics: { listen: local(metrics) }, drain: '8s', ...more },
      })
    const all = { rules: [rule(['read', 'write'])] }
    const headgate = await Headgate.start(t, document1(all, [first, second]))
    const { policy: former } = await headgate.ready()
    const client = await connect(first, '127.0.0.1', '127.0.5.1')
    const stranger = await connect(first, '127.0.0.1', '127.0.6.1')
    for (const peer of [client, stranger]) {
      peer.send(read(1))
      await peer.got(11)
      peer.clear()
    }

    await t.test('ready, and one JSON line an event', async (t) => {
      const ready = await headgate.ready()
      t.equal(ready.io, io)
      t.equal(ready.listeners, `${local(first)} -> ${local(plc.port)}, ${local(second)} -> ${local(plc.port)}`)
      t.equal(ready.metrics, `http://${local(metrics)}/metrics`)
      t.equal((await fetch(`http://${local(metrics)}/readyz`)).status, 200)
      client.send(Buffer.concat([read(1), diagnose(2)]))
      await client.got(11 + 9)
      t.equal(client.hex, answer(read(1)).toString('hex') + refused(2, 8, 1))
      client.clear()
      const denied = await headgate.event('request.denied')
      t.match(denied, { rule: 'all', reason: 'function', function_code: 8, gateway: 'headgate' })
      const names = headgate.events.map((event) => event.event)
      t.equal(names[0], 'gateway.starting')
      t.ok(names.indexOf('policy.loaded') < names.indexOf('gateway.ready'))
      t.match(former, /^[0-9a-f]{64}$/)
      t.ok(headgate.events.every((event) => event.policy === former && event.time && event.severity))
    })

    await t.test('a policy with errors is rejected with all of them, and the one in force stays', async (t) => {
      const from = headgate.events.length
      const bad = document1(
        { rules: [rule(['write-single-regster']), rule(['read'], { name: 'two', from: ['OFICE'] })] },
        [third],
      )
      await headgate.reload(bad)
      await until(() => headgate.events.filter((event) => event.event === 'policy.rejected').length >= 2, 'both errors')
      const rejected = headgate.events.slice(from).filter((event) => event.event === 'policy.rejected')
      t.match(rejected[0].detail, /write-single-regster.*did you mean "?write-single-register/i)
      t.match(rejected[1].detail, /OFICE.*did you mean "?OFFICE/i)
      for (const { file, line, column, severity, policy } of rejected) {
        t.match({ file, severity, policy }, { file: headgate.file, severity: 'error', policy: former })
        t.type(line, 'number')
        t.type(column, 'number')
      }
      for (const broken of ['zones: [', '', '\u0000', 'conduits: 3', '- 1']) {
        t.equal((await headgate.reload(broken)).event, 'policy.rejected', JSON.stringify(broken))
      }
      t.notOk(await open(third), 'the listener of the rejected policy is not opened')
      client.send(write(2))
      t.same(await client.got(12), write(2), 'still under the former policy')
      client.clear()
    })

    await t.test(
      'a listener that cannot be had, and a gateway gone from the document, are rejected alike',
      async (t) => {
        const taken = await target(t)
        t.match(await headgate.reload(document1(all, [first, second, taken.port])), {
          event: 'policy.rejected',
          detail: `cannot listen on ${local(taken.port)}: the address is in use`,
        })
        const { gateway: _, ...without } = document1(all, [first])
        t.equal((await headgate.reload(without)).event, 'policy.rejected')
        const page = await scrape(`http://${local(metrics)}/metrics`)
        t.equal(sum(page, 'headgate_policy_reloads_total', { result: 'rejected' }), 8)
        t.equal(sum(page, 'headgate_policy_reloads_total', { result: 'loaded' }), 0)
        t.equal(sum(page, 'headgate_policy_info', { sha256: `${former}` }), 1)
        client.send(write(3))
        t.same(await client.got(12), write(3))
        client.clear()
      },
    )

    await t.test('a good one takes effect between two frames', async (t) => {
      const held: Buffer[] = []
      plc.script = (request) => {
        held.push(request)
        return null
      }
      // One request is outstanding, one is half sent.
      const half = write(5)
      client.send(Buffer.concat([write(4), half.subarray(0, 8)]))
      await until(() => held.length === 1, 'the request at the target')
      const narrowed = { rules: [rule(['read'], { from: ['127.0.5.0/24'] })] }
      const loaded = await headgate.reload(document1(narrowed, [first, third]))
      t.equal(loaded.event, 'policy.loaded')
      t.not(loaded.policy, former)
      client.send(half.subarray(8))
      await sleep(30)
      t.equal(client.hex, '', 'its answer waits for the answer to the request before it')
      const connection = plc.connections.find((one) => one.length > 0 && one.hex.includes(held[0].toString('hex')))
      connection?.send(answer(held[0]))
      await client.got(12 + 9)
      t.equal(client.hex, write(4).toString('hex') + refused(5, 6, 1))
      t.equal(held.length, 1, 'what the new policy denies never reached the target')
      client.clear()
      plc.script = (request) => answer(request)
      client.send(read(6))
      t.same(await client.got(11), answer(read(6)), 'the connection that is still allowed stays up')
      client.clear()
    })

    await t.test('connections no longer allowed are closed; listeners come and go', async (t) => {
      t.equal(await stranger.closed(), 'fin')
      stranger.destroy()
      t.equal(client.state, 'open')
      t.notOk(await open(second), 'removed')
      t.ok(await open(third), 'added')
      const another = await connect(third, '127.0.0.1', '127.0.5.1')
      another.send(Buffer.concat([read(1), write(2)]))
      await another.got(11 + 9)
      t.equal(another.hex, answer(read(1)).toString('hex') + refused(2, 6, 1))
      another.destroy()
      const again = await connect(first, '127.0.0.1', '127.0.6.1')
      t.equal(await again.closed(), 'reset', 'a client no longer allowed is refused')
    })

    await t.test('mode: to monitor and back, even in the middle of a frame', async (t) => {
      const from = headgate.events.length
      const narrowed = { rules: [rule(['read'], { from: ['127.0.5.0/24'] })] }
      await headgate.reload(document1(narrowed, [first], 'monitor'))
      t.match(await headgate.event('mode.changed', from), { conduit: 'C1', from_mode: 'enforce', mode: 'monitor' })
      client.send(write(7))
      t.same(await client.got(12), write(7), 'a write passes')
      client.clear()
      // What monitor mode has forwarded half cannot be taken back: it goes through, and the next is denied.
      plc.last.clear()
      client.send(write(8).subarray(0, 7))
      await until(
        () => plc.connections.some((one) => one.hex.endsWith(write(8).subarray(0, 7).toString('hex'))),
        'half',
      )
      const back = headgate.events.length
      await headgate.reload(document1(narrowed, [first], 'enforce'))
      t.match(await headgate.event('mode.changed', back), { from_mode: 'monitor', mode: 'enforce' })
      client.send(write(8).subarray(7))
      t.same(await client.got(12), write(8))
      client.clear()
      client.send(write(9))
      await client.got(9)
      t.equal(client.hex, refused(9, 6, 1))
      client.clear()
      const page = await scrape(`http://${local(metrics)}/metrics`)
      t.equal(sum(page, 'headgate_conduit_enforcing', { conduit: 'C1' }), 1)
      t.equal(sum(page, 'headgate_connections', { conduit: 'C1' }), 1, 'open connections are counted over reloads')
      t.equal(sum(page, 'headgate_pending_requests'), 0)
      t.equal(sum(page, 'headgate_requests_total', { function: 'write-single-register', verdict: 'deny' }), 3)
      t.equal(sum(page, 'headgate_requests_total', { function: 'write-single-register', verdict: 'allow' }), 3)
      t.equal(sum(page, 'headgate_requests_total', { function: 'write-single-register', verdict: 'would_deny' }), 2)
    })

    await t.test('what only a start can change is said', async (t) => {
      const from = headgate.events.length
      await headgate.reload(document1(all, [first], 'enforce', { workers: 1, metrics: { listen: local(second) } }))
      t.match(await headgate.event('policy.warning', from), {
        finding: 'needs-restart',
        detail: /gateway\.metrics.*workers/,
      })
    })

    await t.test('many at once are taken one after another', async (t) => {
      const from = headgate.events.length
      for (let i = 0; i < 5; i++) headgate.signal('SIGHUP')
      await headgate.event('policy.loaded', from)
      client.send(read(10))
      t.same(await client.got(11), answer(read(10)))
    })
    await t.test('SIGTERM lets what is outstanding finish', async (t) => {
      plc.script = () => null
      const idle = await connect(first)
      for (const connection of plc.connections) connection.clear()
      client.clear()
      client.send(read(11))
      await until(() => plc.received.length === 12, 'the request at the target')
      headgate.signal('SIGTERM')
      t.equal(await idle.closed(), 'fin', 'a connection that owes nothing is closed at once')
      idle.destroy()
      for (let i = 0; i < 50 && (await open(first)); i++) await sleep(10)
      t.notOk(await open(first), 'no new connection')
      t.equal((await fetch(`http://${local(metrics)}/readyz`)).status, 503)
      t.equal((await fetch(`http://${local(metrics)}/healthz`)).status, 200)
      const from = headgate.events.length
      headgate.signal('SIGHUP')
      client.send(read(12))
      await sleep(100)
      t.equal(headgate.ended, null)
      const loaded = headgate.events.slice(from).some((event) => event.event === 'policy.loaded')
      t.notOk(loaded || (await open(first)), 'no reload any more')
      for (const connection of plc.connections) if (connection.length > 0) connection.send(answer(read(11)))
      t.equal(await client.closed(), 'fin')
      t.same(client.received, answer(read(11)), 'and nothing for the request that came after the signal')
      client.destroy()
      t.same(await headgate.end(4000), { code: 0, signal: null })
      t.same(headgate.strayLines, [])
      t.equal(headgate.stderr, '')
      t.equal(headgate.events.at(-1)?.event, 'gateway.stopped')
      t.equal((await headgate.event('gateway.stopping')).signal, 'SIGTERM')
      t.equal(new Set(headgate.events.map((event) => event.id)).size, headgate.events.length, 'ids are unique')
    })
  })
}

t.test('an end with a target that does not answer', async (t) => {
  const plc = await target(t)
  plc.script = () => null
  const start = async (io: string, drain: string) => {
    const port = await freePort()
    const policy = document({
      modbus: { rules: [rule(['read'])], timeouts: { response: '20s' } },
      listeners: { [local(port)]: local(plc.port) },
      gateway: { io, drain },
    })
    const headgate = await Headgate.start(t, policy)
    const client = await connect(port)
    const seen = plc.received.length
    client.send(read(1))
    await until(() => plc.received.length >= seen + 12, 'the request at the target')
    return { headgate, client }
  }

  for (const io of TRANSPORTS) {
    await t.test(`${io}: is waited for no longer than gateway.drain; SIGINT as well`, async (t) => {
      const { headgate, client } = await start(io, '300ms')
      const began = performance.now()
      headgate.signal('SIGINT')
      t.same(await headgate.end(), { code: 0, signal: null })
      const took = performance.now() - began
      t.ok(took > 280 && took < 2000, `${took} ms`)
      await client.closed()
      t.equal(client.length, 0)
      t.equal((await headgate.event('gateway.stopping')).signal, 'SIGINT')
    })
  }

  await t.test('a second signal waits for nothing', async (t) => {
    const { headgate } = await start('auto', '1m')
    headgate.signal('SIGTERM')
    await headgate.event('gateway.stopping')
    headgate.signal('SIGTERM')
    t.same(await headgate.end(3000), { code: 0, signal: null })
  })
})

t.test('what cannot be had: one clear line, and the exit code', async (t) => {
  const plc = await target(t)
  const taken = await target(t)
  const port = await freePort()
  const sound = (gateway = {}, listen = local(port)) =>
    document({ modbus: { rules: [rule(['read'])] }, listeners: { [listen]: local(plc.port) }, gateway })
  const withoutGateway: Partial<ReturnType<typeof sound>> = sound()
  delete withoutGateway.gateway
  const locked = policyFile(t, sound())
  chmodSync(locked, 0)
  const directory = locked.slice(0, locked.lastIndexOf('/'))
  const cases: Record<string, { file: string; code?: number; says: RegExp; skip?: string | false }> = {
    'port in use': {
      file: policyFile(t, sound({}, local(taken.port))),
      says: new RegExp(`^headgate: cannot listen on ${local(taken.port)}: the address is in use$`),
    },
    'metrics port in use': {
      file: policyFile(t, sound({ metrics: { listen: local(taken.port) } })),
      says: /^headgate: cannot listen on .* for the metrics page: the address is in use$/,
    },
    'address of another machine': {
      file: policyFile(t, sound({}, '192.0.2.1:5020')),
      says: /^headgate: cannot listen on 192\.0\.2\.1:5020: this machine has no such address$/,
    },
    'missing file': { file: `${directory}/none.yaml`, says: /^headgate: cannot read .*none\.yaml: no such file$/ },
    'no permission': {
      file: locked,
      says: /^headgate: cannot read .*: no permission$/,
      skip: process.getuid?.() === 0 && 'root may read any file',
    },
    directory: { file: directory, says: /^headgate: cannot read .*: it is a directory$/ },
    'no gateway section': { file: policyFile(t, withoutGateway), says: /^headgate: .*no gateway\.listeners/ },
    'no listeners': { file: policyFile(t, sound({ listeners: [] })), says: /^headgate: .*no gateway\.listeners/ },
    'policy with errors': {
      file: policyFile(t, sound({ workers: 'many' })),
      code: 1,
      says: /^.*policy\.yaml:\d+:\d+: error.*many/,
    },
  }
  // Two at a time: each is a process of its own.
  const names = Object.keys(cases)
  const next = async (): Promise<void> => {
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      const { file, code = 2, says, skip } = cases[name]
      await t.test(name, { skip: skip ?? false }, async (t) => {
        const headgate = Headgate.run(t, file)
        t.same(await headgate.end(), { code, signal: null })
        const lines = headgate.stderr.split('\n').filter((line) => line !== '')
        t.equal(lines.length, 1, headgate.stderr)
        t.match(lines[0], says)
        t.notOk(headgate.events.some((event) => event.event === 'gateway.ready'))
      })
    }
  }
  await Promise.all([next(), next()])
})

t.test('a log that nobody reads, or that cannot be written, stops nothing', async (t) => {
  const plc = await target(t)
  const start = async (log: Log) => {
    const [port, metrics] = [await freePort(), await freePort()]
    const policy = document({
      modbus: { rules: [rule(['read'])] },
      listeners: { [local(port)]: local(plc.port) },
      gateway: { workers: 1, metrics: { listen: local(metrics) } },
    })
    const headgate = Headgate.run(t, policyFile(t, policy), log)
    const ready = () =>
      fetch(`http://${local(metrics)}/readyz`).then(
        ({ status }) => status === 200,
        () => false,
      )
    for (let i = 0; i < 1200 && !(await ready()); i++) await sleep(25)
    const works = async (transaction: number) => {
      const client = await connect(port)
      client.send(Buffer.concat([read(transaction), write(transaction)]))
      await client.got(20)
      client.destroy()
      t.equal(client.hex, answer(read(transaction)).toString('hex') + refused(transaction, 6, 1))
    }
    await works(1)
    return { headgate, works, page: `http://${local(metrics)}/metrics` }
  }

  await t.test('stdout closed', async (t) => {
    const { headgate, works } = await start('pipe')
    await headgate.ready()
    headgate.child.stdout?.destroy()
    for (let i = 2; i < 5; i++) {
      headgate.signal('SIGHUP')
      await works(i)
    }
    t.equal(headgate.ended, null)
    t.same(await headgate.stop(), { code: 0, signal: null })
    t.equal(headgate.stderr, '')
  })

  await t.test('disk full', async (t) => {
    const { headgate, works, page } = await start(openSync('/dev/full', 'w'))
    await works(2)
    t.ok(sum(await scrape(page), 'headgate_events_total', { sink: 'log', result: 'lost' }) > 0, 'counted as lost')
    t.same(await headgate.stop(), { code: 0, signal: null })
    t.equal(headgate.stderr, '')
  })

  await t.test('a reader that does not read', async (t) => {
    const { headgate, works } = await start('unread')
    const rules = Array.from({ length: 3000 }, (_, i) => rule(['read'], { name: `r${i}`, nonsense: i }))
    writeFileSync(headgate.file, JSON.stringify(document({ modbus: { rules }, listeners: {} })))
    headgate.signal('SIGHUP')
    await sleep(1000)
    await works(2)
    t.same(await headgate.stop(), { code: 0, signal: null })
  })
})
