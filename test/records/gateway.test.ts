import { mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Storm } from '../../src/gateway/storm.ts'
import type { Policy } from '../../src/policy/model.ts'
import type { EventInput } from '../../src/records/catalogue.ts'
import { ClockWatch } from '../../src/records/clock-watch.ts'
import { freePort, TestGateway, TRANSPORTS } from '../support/gateway.ts'
import { killRounds } from '../support/kill-rounds.ts'
import { adu } from '../support/modbus.ts'
import { modbusPolicy } from '../support/policy.ts'
import { evidenceTerms, Receiver, scratch, sinkTerms } from '../support/records.ts'
import { answer } from '../support/server.ts'
import { connect, RawTarget, sleep, until } from '../support/sockets.ts'

// Most of the time is spent waiting for what the gateway looks at once a second.
t.jobs = 3

interface Site {
  policy: Policy
  port: number
  monitored: number
  target: RawTarget
}

/** An enforcing and a monitoring conduit to one target. */
async function site(io: 'epoll' | 'net' = TRANSPORTS[0]): Promise<Site> {
  const target = await RawTarget.open((request) => answer(request))
  const [port, monitored, metrics] = [await freePort(), await freePort(), await freePort()]
  const place = { host: '127.0.0.1', port: target.port }
  const policy = modbusPolicy(
    [
      { id: 'C1', rules: [{ functions: [3] }], listen: { host: '127.0.0.1', port }, target: place },
      {
        id: 'C2',
        mode: 'monitor',
        rules: [{ functions: [3] }],
        listen: { host: '127.0.0.1', port: monitored },
        target: place,
      },
    ],
    { io, metrics: { host: '127.0.0.1', port: metrics } },
  )
  return { policy, port, monitored, target }
}

const gatewayOf = (policy: Policy): NonNullable<Policy['gateway']> => policy.gateway as NonNullable<Policy['gateway']>
const read = (n: number): Buffer => adu(n, 1, [3, 0, 0, 0, 1])
const write = (n: number): Buffer => adu(n, 1, [6, 0, 0, 0, 1])

t.test(
  'evidence that is required and cannot be written: enforcing conduits deny, monitoring ones do not',
  async (t) => {
    for (const io of TRANSPORTS) {
      const { policy, port, monitored, target } = await site(io)
      const directory = scratch(t)
      const at = join(directory, 'evidence')
      gatewayOf(policy).evidence = evidenceTerms(at, { required: true, key: join(directory, 'key') })
      const gateway = await TestGateway.start(policy)
      const [client, watched] = [await connect(port), await connect(monitored)]
      client.send(read(1))
      t.equal((await client.got(11))[7], 3, 'answered while all is well')
      renameSync(at, `${at}.away`)
      await until(() => gateway.events.some((event) => event.event === 'evidence.failed'), 'it is said', 8000)
      client.clear()
      client.send(read(2))
      const denial = await client.got(9)
      t.same([denial[7], denial[8]], [0x83, 6], 'server device busy')
      watched.send(read(3))
      t.equal((await watched.got(11))[7], 3, 'a conduit that monitors never denies')
      t.equal(
        target.connections.reduce((sum, one) => sum + one.length, 0),
        24,
        'the target has seen two requests',
      )
      await until(() => gateway.events.some((event) => event.reason === 'evidence'), 'and why')
      t.equal(await gateway.sample('headgate_evidence_writable', { directory: at }), 0)
      renameSync(`${at}.away`, at)
      await until(() => gateway.events.some((event) => event.event === 'evidence.resumed'), 'it is mended', 15_000)
      client.clear()
      client.send(read(4))
      t.equal((await client.got(11))[7], 3, 'answered again')
      await gateway.stop()
      await target.close()
    }
  },
)

t.test('evidence that is not required: said, and nothing else changes', async (t) => {
  const { policy, port, target } = await site()
  const directory = scratch(t)
  const at = join(directory, 'evidence')
  gatewayOf(policy).evidence = evidenceTerms(at, { key: join(directory, 'key') })
  const gateway = await TestGateway.start(policy)
  rmSync(at, { recursive: true })
  await until(() => gateway.events.some((event) => event.event === 'evidence.failed'), 'it is said', 8000)
  const client = await connect(port)
  client.send(read(1))
  t.equal((await client.got(11))[7], 3)
  client.clear()
  client.send(write(2))
  t.equal((await client.got(9))[8], 1, 'and what is denied is denied')
  mkdirSync(at)
  await until(() => gateway.events.some((event) => event.event === 'evidence.resumed'), 'it is mended', 15_000)
  await gateway.stop()
  await target.close()
})

t.test(
  'loads, mode changes, start and stop are in the evidence and at the sink, each with the policy’s hash',
  async (t) => {
    const { policy, target } = await site()
    const receiver = await Receiver.listen()
    gatewayOf(policy).evidence = evidenceTerms(join(scratch(t), 'evidence'))
    gatewayOf(policy).syslog = [sinkTerms(`tcp://127.0.0.1:${receiver.port}`)]
    gatewayOf(policy).spool = { directory: join(scratch(t), 'spool'), maxBytes: 1 << 20 }
    const gateway = await TestGateway.start(policy)
    const next = structuredClone(policy)
    next.sha256 = '1'.repeat(64)
    next.conduits[1].mode = 'enforce'
    await gateway.reload(next)
    await gateway.stop()
    await until(() => receiver.messages.some((one) => one.includes('gateway.stopped')), 'the last event')
    const names = receiver.messages.map((one) => one.split(' ')[5])
    for (const name of [
      'gateway.starting',
      'evidence.key_created',
      'policy.loaded',
      'gateway.ready',
      'mode.changed',
      'gateway.stopping',
      'gateway.stopped',
    ]) {
      t.ok(names.includes(name), name)
    }
    const loaded = receiver.messages.filter((one) => one.includes(' policy.loaded '))
    t.match(loaded[0], `policy="${'0'.repeat(64)}"`)
    t.match(loaded[1], `policy="${'1'.repeat(64)}"`)
    await receiver.close()
    await target.close()
  },
)

t.test(
  'a dead sink and a scan of 65 536 requests: a handful of events, all counted, traffic undisturbed',
  async (t) => {
    const { policy, port, target } = await site()
    gatewayOf(policy).syslog = [sinkTerms(`tcp://127.0.0.1:${await freePort()}`)]
    gatewayOf(policy).spool = { directory: scratch(t), maxBytes: 1 << 20 }
    const gateway = await TestGateway.start(policy)
    const scan = await connect(port)
    const before = gateway.memory()
    for (let address = 0; address < 65_536; address += 256) {
      scan.send(
        Buffer.concat(
          Array.from({ length: 256 }, (_, i) => adu(i, 1, [6, (address + i) >> 8, (address + i) & 255, 0, 1])),
        ),
      )
      if (address % 4096 === 0) await sleep(1)
    }
    const client = await connect(port)
    client.send(read(1))
    await client.got(11)
    await until(() => scan.length === 65_536 * 9, 'every one is answered', 10_000)
    t.match(await gateway.counts('C1'), { requests: { 'write-single-register deny function': 65_536 } })
    const told = gateway.events.filter((event) => event.event === 'request.denied')
    t.equal(told.length, 1, 'the first speaks at once, the others wait for the interval')
    t.ok(gateway.memory() - before < 64 << 20, 'memory')
    await gateway.stop()
    const last = gateway.events.filter((event) => event.event === 'request.denied').at(-1)
    t.equal(last?.count, 65_535, 'the rest are one event')
    t.ok(String(last?.first) <= String(last?.last))
    await target.close()
  },
)

t.test('killed at random moments under load', async (t) => {
  await killRounds(3, (text) => t.comment(text))
})

t.test(
  'storm control: a new key speaks at once, a silent one is forgotten, a clock that is set back harms nobody',
  (t) => {
    const said: EventInput[] = []
    const storm = new Storm(60_000, (event) => said.push(event))
    const say = (key: string, now: number): void => {
      storm.say(key, now, () => ({ event: 'request.denied', detail: key }))
    }
    for (let i = 0; i < 1000; i++) say('a', 1000 + i)
    say('b', 2000)
    t.same(
      said.map((event) => event.detail),
      ['a', 'b'],
    )
    storm.sweep(61_000)
    t.match(said[2], {
      count: 999,
      first: new Date(1001).toISOString(),
      last: new Date(1999).toISOString(),
      detail: 'a',
    })
    storm.sweep(62_000)
    storm.sweep(122_000)
    say('a', 122_001)
    t.equal(said.length, 4, 'after an interval of silence it speaks at once')
    say('a', 122_002)
    storm.sweep(5000)
    t.match(said[4], { count: 1 }, 'the clock was set back: told now, not in two minutes')
    // 10 000 keys in one interval: each costs memory once, up to a bound, and those beyond it are one kind.
    for (let i = 0; i < 10_000; i++) say(`k${i}`, 6000)
    t.ok(said.length > 4000 && said.length < 4200, `${said.length} events`)
    storm.sweep(100_000, true)
    t.equal(
      said.reduce((sum, event) => sum + Number(event.count ?? 1), 0),
      1000 + 1 + 2 + 10_000,
      'all are counted',
    )
    t.end()
  },
)

t.test('clock jumps are told, drift is not', (t) => {
  let wall = 1e12
  let steady = 0
  const told: EventInput[] = []
  const watch = new ClockWatch(
    (event) => told.push(event),
    () => wall,
    () => steady,
  )
  t.teardown(() => watch.stop())
  const pass = (ms: number, off = 0): void => {
    steady += ms
    wall += ms + off
    watch.look()
  }
  for (let i = 0; i < 1000; i++) pass(1000, 10)
  t.same(told, [])
  pass(1000, 3_600_000)
  pass(1000)
  pass(1000, -7_200_000)
  t.match(told, [{ event: 'clock.jumped', offset_ms: 3_600_000 }, { offset_ms: -7_200_000 }])
  t.end()
})
