/** Worker threads that die, end, and serve many: what a crash costs, and that nothing is kept of those who have gone. */
import { readdirSync, readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { freePort, TRANSPORTS } from '../support/gateway.ts'
import { document, Headgate, rule, scrape, sum } from '../support/headgate.ts'
import { adu } from '../support/modbus.ts'
import { answer } from '../support/server.ts'
import { connect, type Peer, RawTarget, sleep, until } from '../support/sockets.ts'

const read = (transaction: number) => adu(transaction, 1, [3, 0, 0, 0, 1])
const local = (port: number): string => `127.0.0.1:${port}`

interface Site {
  headgate: Headgate
  target: RawTarget
  port: number
  page: string
  policy: object
}

async function site(t: Test, io: string, workers: number, limits = {}): Promise<Site> {
  const target = await RawTarget.open((request) => answer(request))
  t.teardown(() => target.close())
  const [port, metrics] = [await freePort(), await freePort()]
  const policy = document({
    modbus: { rules: [rule(['read'])], limits },
    listeners: { [local(port)]: local(target.port) },
    gateway: { io, workers, metrics: { listen: local(metrics) } },
  })
  const headgate = await Headgate.start(t, policy, { faults: true })
  return { headgate, target, port, page: `http://${local(metrics)}/metrics`, policy }
}

/** @returns whether it answered a read; a connection that nobody takes is given up after a while */
async function asks(peer: Peer, transaction: number, ms = 2000): Promise<boolean> {
  peer.clear()
  peer.send(read(transaction))
  await until(() => peer.length >= 11 || peer.state !== 'open', 'an answer', ms).catch(() => {})
  return peer.received.equals(answer(read(transaction)))
}

const descriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length

/** Rings of asynchronous I/O, of which each worker of the epoll transport has one: see `SendBatch`. */
const rings = (pid: number): number => readFileSync(`/proc/${pid}/maps`, 'latin1').split('/[aio]').length - 1

function memory(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024
}

for (const io of TRANSPORTS) {
  t.test(`${io}: a worker that dies`, async (t) => {
    const CONNECTIONS = 24
    const { headgate, port, page, policy } = await site(t, io, 2, {
      connections: { per_target: CONNECTIONS + 4 },
      in_flight_per_target: CONNECTIONS,
    })
    const peers = await Promise.all(Array.from({ length: CONNECTIONS }, () => connect(port)))
    t.teardown(() => {
      for (const peer of peers) peer.destroy()
    })
    for (const [i, peer] of peers.entries()) t.ok(await asks(peer, i))
    const before = await scrape(page)
    const open = descriptors(headgate.pid)
    t.equal(sum(before, 'headgate_connections'), CONNECTIONS)

    const died = performance.now()
    headgate.signal('SIGUSR2')
    const event = await headgate.event('worker.restarted')
    t.equal(event.severity, 'error')
    const lost = event.connections as number
    t.ok(lost > 0 && lost < CONNECTIONS, `${lost} of ${CONNECTIONS} connections lost`)
    await until(() => peers.filter((peer) => peer.state !== 'open').length === lost, 'just those to be closed')
    for (const [i, peer] of peers.entries()) {
      if (peer.state !== 'open') peer.destroy()
      else t.ok(await asks(peer, i), 'the others go on')
    }

    // The kernel spreads connections over the workers there are.
    const from = headgate.events.indexOf(event)
    const reborn = () =>
      headgate.events.slice(from).some((one) => one.event === 'connection.admitted' && one.worker === event.worker)
    while (!reborn() && performance.now() - died < 5000) {
      const peer = await connect(port)
      t.ok(await asks(peer, 1), 'a new connection is served meanwhile')
      peer.destroy()
      await sleep(20)
    }
    t.ok(performance.now() - died < 1500, `another serves in its place after ${performance.now() - died} ms`)
    const more: Peer[] = []
    t.teardown(() => {
      for (const peer of more) peer.destroy()
    })
    for (let i = 0; i < lost; i++) {
      const peer = await connect(port)
      more.push(peer)
      t.ok(await asks(peer, i), 'the limits count none of the lost')
    }
    const page2 = await scrape(page)
    t.equal(sum(page2, 'headgate_worker_restarts_total'), 1)
    t.equal(sum(page2, 'headgate_connections'), CONNECTIONS)
    t.equal(sum(page2, 'headgate_pending_requests'), 0)
    for (const [sample, value] of before) {
      if (/^headgate_\w+_total/.test(sample)) t.ok((page2.get(sample) ?? 0) >= value, `${sample} has not gone back`)
    }
    t.equal((await fetch(page.replace('/metrics', '/readyz'))).status, 200)
    for (const peer of [...peers, ...more]) peer.destroy()
    await until(() => descriptors(headgate.pid) <= open - 2 * CONNECTIONS + 2, 'descriptors of the dead to be closed')

    await t.test('a reload meanwhile is in force in the worker that takes its place', async (t) => {
      const from = headgate.events.length
      headgate.signal('SIGUSR2')
      const narrowed = JSON.parse(JSON.stringify(policy).replace('"functions":["read"]', '"functions":[1]'))
      t.equal((await headgate.reload(narrowed)).event, 'policy.loaded')
      // A thread that sleeps dies when it wakes: until then it may take a connection, which is lost with it.
      await headgate.event('worker.restarted', from)
      const peers: Peer[] = []
      for (let i = 0; i < 8; i++) {
        const peer = await connect(port)
        peers.push(peer)
        peer.send(read(i))
        await peer.got(9)
        t.same(peer.received, adu(i, 1, [0x83, 1]))
      }
      for (const peer of peers) peer.destroy()
    })
    t.same(await headgate.stop(), { code: 0, signal: null })
  })

  t.test(`${io}: the only worker dies, again and again`, async (t) => {
    const { headgate, port, page } = await site(t, io, 1)
    const open = descriptors(headgate.pid)
    const held = rings(headgate.pid)
    t.ok(held <= (io === 'epoll' ? 1 : 0))
    for (let i = 0; i < 3; i++) {
      const peer = await connect(port)
      t.ok(await asks(peer, i))
      const from = headgate.events.length
      const died = performance.now()
      headgate.signal('SIGUSR2')
      await headgate.event('worker.restarted', from)
      await peer.closed()
      peer.destroy()
      let again: Peer | null = null
      while (again === null && performance.now() - died < 5000) {
        again = await connect(port).catch(() => null)
        if (again !== null && !(await asks(again, 9))) again = null
        if (again === null) await sleep(10)
      }
      const took = performance.now() - died
      t.ok(took < 1500, `served again after ${took} ms`)
      again?.destroy()
    }
    t.equal(sum(await scrape(page), 'headgate_requests_total', { verdict: 'allow' }), 6)
    await until(() => descriptors(headgate.pid) <= open + 2, `descriptors to return to ${open}`)
    t.equal(rings(headgate.pid), held, 'what the dead had for batches is given back')
    t.same(await headgate.stop(), { code: 0, signal: null })
  })

  t.test(`${io}: a thousand connections leave nothing`, async (t) => {
    const { headgate, port, page, target } = await site(t, io, 2)
    const rounds = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i += 50) {
        const peers = await Promise.all(Array.from({ length: 50 }, () => connect(port, '127.0.0.1', '127.0.5.1')))
        for (const peer of peers) peer.send(read(i))
        await Promise.all(peers.map((peer) => peer.got(11)))
        // In each of the ways in which connections end.
        for (const [n, peer] of peers.entries()) {
          if (n % 3 === 0) peer.reset()
          else if (n % 3 === 1) peer.socket.end()
          else peer.destroy()
        }
        if (i % 100 === 0) target.clear()
        await Promise.all(peers.filter((_, n) => n % 3 === 1).map((peer) => peer.closed()))
        for (const peer of peers) peer.destroy()
      }
      for (let i = 0; i < 300 && sum(await scrape(page), 'headgate_connections') > 0; i++) await sleep(10)
    }
    await rounds(300)
    const open = descriptors(headgate.pid)
    // A heap grows until it is collected; what leaks grows again, as much, with the next thousand.
    let grown = Number.POSITIVE_INFINITY
    for (let attempt = 0; attempt < 4 && grown >= 8; attempt++) {
      const resident = memory(headgate.pid)
      await rounds(1000)
      grown = (memory(headgate.pid) - resident) / 2 ** 20
    }
    t.equal(sum(await scrape(page), 'headgate_connections'), 0)
    t.equal(sum(await scrape(page), 'headgate_pending_requests'), 0)
    await until(() => descriptors(headgate.pid) <= open, `descriptors to return to ${open}`)
    t.ok(grown < 8, `${grown} MiB more than before`)
    t.same(await headgate.stop(), { code: 0, signal: null })
  })
}
