/** Floods of what is denied, over real sockets: all of it is counted, little of it is told, and nothing is lost. */
import { readFileSync } from 'node:fs'
import t from 'tap'
import { Storm } from '../../src/gateway/storm.ts'
import type { EventInput } from '../../src/records/catalogue.ts'
import { freePort, type GatewayEvent, TRANSPORTS } from '../support/gateway.ts'
import { document, Headgate, rule, scrape, sum } from '../support/headgate.ts'
import { adu } from '../support/modbus.ts'
import { answer } from '../support/server.ts'
import { connect, RawTarget, until } from '../support/sockets.ts'

const write = (transaction: number) => adu(transaction, 1, [6, 0, 7, 0, 9])
const DENIED_BYTES = 9

/** Resident memory of a process in MiB. */
function memory(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}

/** How many happenings the events stand for. */
const told = (events: readonly GatewayEvent[]): number => events.reduce((n, event) => n + Number(event.count ?? 1), 0)

for (const io of TRANSPORTS) {
  t.test(`${io}: a flood of denied requests, and of connections`, async (t) => {
    const target = await RawTarget.open((request) => answer(request))
    t.teardown(() => target.close())
    const [port, metrics] = [await freePort(), await freePort()]
    const policy = document({
      modbus: { rules: [rule(['read'], { from: ['127.0.7.0/24'] })] },
      listeners: { [`127.0.0.1:${port}`]: `127.0.0.1:${target.port}` },
      gateway: { io, workers: 2, storm_interval: '1s', metrics: { listen: `127.0.0.1:${metrics}` } },
    })
    const headgate = await Headgate.start(t, policy)
    const page = () => scrape(`http://127.0.0.1:${metrics}/metrics`)
    const of = (name: string) => headgate.events.filter((event) => event.event === name)
    const before = memory(headgate.pid)

    const CONNECTIONS = 4
    const BATCHES = 80
    const BATCH = 250
    const began = performance.now()
    await Promise.all(
      Array.from({ length: CONNECTIONS }, async () => {
        const peer = await connect(port, '127.0.0.1', '127.0.7.1')
        const batch = Buffer.concat(Array.from({ length: BATCH }, (_, i) => write(i)))
        for (let i = 0; i < BATCHES; i++) {
          peer.clear()
          peer.send(batch)
          await peer.got(BATCH * DENIED_BYTES)
        }
        peer.destroy()
      }),
    )
    const REFUSED = 200
    for (let i = 0; i < REFUSED; i++) {
      const peer = await connect(port, '127.0.0.1', '127.0.8.1').catch(() => null)
      if (peer === null) continue
      await peer.closed()
      peer.destroy()
    }
    const seconds = (performance.now() - began) / 1000
    const requests = CONNECTIONS * BATCHES * BATCH
    const counted = await page()
    t.equal(sum(counted, 'headgate_requests_total', { verdict: 'deny', reason: 'function' }), requests)
    t.equal(sum(counted, 'headgate_connections_total', { verdict: 'deny', reason: 'pair' }), REFUSED)
    t.equal(target.received.length, 0)
    const grown = memory(headgate.pid) - before
    t.ok(grown < 48, `${grown} MiB more than before ${requests} denials`)

    // What has been held back is told within the interval, without anybody asking.
    await until(() => told(of('request.denied')) === requests, 'all denials to be told', 6000)
    t.same(await headgate.stop(), { code: 0, signal: null })
    for (const [name, all] of [
      ['request.denied', requests],
      ['connection.refused', REFUSED],
    ] as const) {
      const events = of(name)
      t.equal(told(events), all, `${name}: what is told adds up`)
      // For each of two workers: the first at once, then one an interval.
      const most = 2 * (1 + Math.ceil(seconds + 2))
      t.ok(events.length <= most, `${name}: ${events.length} events, at most ${most}`)
      t.notOk(events[0].count, 'the first speaks at once')
      for (const event of events.filter((one) => one.count)) {
        t.ok(event.first <= event.last && event.last <= event.time, 'with their times')
      }
    }
    t.match(of('request.denied').at(-1), { client: '127.0.7.1', function: 'write-single-register', rule: 'all' })
  })
}

t.test('an event that stands for many says how far they reach, and how they were answered', async (t) => {
  const target = await RawTarget.open((request) => answer(request))
  t.teardown(() => target.close())
  const port = await freePort()
  const policy = document({
    mode: 'monitor',
    modbus: { rules: [rule([4])] },
    listeners: { [`127.0.0.1:${port}`]: `127.0.0.1:${target.port}` },
    gateway: { workers: 1, storm_interval: '1h' },
  })
  const headgate = await Headgate.start(t, policy)
  const peer = await connect(port)
  let n = 0
  const ask = async (unit: number, pdu: number[]): Promise<void> => {
    const request = adu(++n, unit, pdu)
    peer.clear()
    peer.send(request)
    await peer.got(answer(request).length)
  }
  const write = (unit: number, address: number, value: number) => ask(unit, [6, 0, address, value >> 8, value & 0xff])
  for (const [unit, address, value] of [
    [1, 7, 5],
    [1, 8, 300],
    [2, 40, 7],
    [3, 9, 1],
  ])
    await write(unit, address, value)
  await ask(9, [4, 0, 0, 0, 1])
  for (let i = 0; i < 40; i++) await ask(1, [3, 0, 4 * i, 0, 2])
  for (let i = 0; i < 3; i++) await ask(1, [90, 0])
  await ask(1, [23, 0, 10, 0, 2, 0, 20, 0, 1, 2, 0, 9])
  await ask(1, [23, 0, 10, 0, 2, 0, 30, 0, 1, 2, 0, 1])
  peer.destroy()
  t.same(await headgate.stop(), { code: 0, signal: null })
  const held = (code: number) => headgate.events.find((event) => event.function_code === code && event.count)
  t.match(held(6), {
    event: 'request.would_deny',
    count: 3,
    units: '1-3',
    addresses: '8-9, 40',
    least: 1,
    greatest: 300,
    responses: 3,
    exceptions: 0,
  })
  t.match(held(3), { count: 39, units: '1', more_addresses: 'yes', responses: 39 })
  t.match(held(3)?.addresses, /^4-5, 8-9, .*, 96-97$/, 'no more than are told')
  t.match(held(90), { count: 2, responses: 0, exceptions: 2 })
  t.match(held(23), { count: 1, addresses: '10-11', write_addresses: '30', least: 1, greatest: 1, responses: 1 })
  const first = headgate.events.find((event) => event.function_code === 6)
  t.match(first, { address: 7, unit_id: 1 })
  t.notOk(first?.units, 'one alone says it by itself')
})

t.test('more kinds than it remembers: bounded, all counted, and said to be many', (t) => {
  const said: EventInput[] = []
  const storm = new Storm(1000, (event) => said.push(event))
  const KINDS = 50_000
  let made = 0
  for (let i = 0; i < KINDS; i++) {
    storm.say(`client ${i}`, i, () => {
      made++
      return { event: 'request.denied', client: `${i}`, detail: 'its own' }
    })
  }
  t.ok(said.length <= 4097, `${said.length} events for ${KINDS} kinds`)
  t.ok(made <= 4098, 'those held back are not even built')
  storm.sweep(KINDS + 1000)
  const [last] = said.slice(-1)
  t.equal(
    said.reduce((n, event) => n + Number(event.count ?? 1), 0),
    KINDS,
  )
  t.match(last.detail, /more kinds than can be told apart/)
  storm.sweep(KINDS + 3000)
  storm.say('client 1', KINDS + 3001, () => ({ event: 'request.denied', detail: 'again' }))
  t.equal(said.at(-1)?.detail, 'again', 'what has fallen silent is forgotten')
  t.end()
})
