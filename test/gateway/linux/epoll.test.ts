/** The epoll transport against what a kernel does to it: dead targets, bursts, and churn. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { Syscalls, unavailable } from '../../../src/gateway/linux/syscalls.ts'
import { freePort, TestGateway } from '../../support/gateway.ts'
import { adu, u16 } from '../../support/modbus.ts'
import { type ConduitText, modbusPolicy } from '../../support/policy.ts'
import { answer } from '../../support/server.ts'
import { connect, type Peer, RawTarget, sleep, until } from '../../support/sockets.ts'

const read = (transaction: number, address: number) => adu(transaction, 1, [3, ...u16(address), 0, 4])
const RESPONSE_BYTES = 9 + 8
const without = unavailable()

interface Bench {
  gateway: TestGateway
  target: RawTarget
  port: number
}

async function open(conduit: Partial<ConduitText> = {}, target?: RawTarget): Promise<Bench> {
  const behind = target ?? (await RawTarget.open((request) => answer(request)))
  const port = await freePort()
  const policy = modbusPolicy(
    [
      {
        id: 'C1',
        rules: [{ functions: ['read'] }],
        listen: { host: '127.0.0.1', port },
        target: { host: '127.0.0.1', port: behind.port },
        ...conduit,
      },
    ],
    { io: 'epoll' },
  )
  return { gateway: await TestGateway.start(policy), target: behind, port }
}

async function close({ gateway, target }: Bench): Promise<void> {
  await gateway.stop()
  await target.close()
}

/** One transaction on an open connection: whether it was answered with what was asked for. */
async function works(peer: Peer, transaction: number): Promise<boolean> {
  peer.clear()
  peer.send(read(transaction, transaction))
  await peer.got(RESPONSE_BYTES)
  return peer.received.equals(answer(read(transaction, transaction)))
}

/** A listener whose thread sleeps until `wake`, and whose queue is full: the kernel drops what would connect. */
async function deafTarget(): Promise<{ port: number; wake: () => Promise<void> }> {
  const port = await freePort()
  const gate = new Int32Array(new SharedArrayBuffer(4))
  const source = `
    const { parentPort, workerData } = require('node:worker_threads')
    const server = require('node:net').createServer((socket) => socket.destroy())
    server.listen({ host: '127.0.0.1', port: workerData.port, backlog: 1 }, () => {
      parentPort.postMessage('listening')
      Atomics.wait(workerData.gate, 0, 0)
      setTimeout(() => process.exit(), 100)
    })`
  const worker = new Worker(source, { eval: true, workerData: { port, gate } })
  await new Promise((resolve) => worker.once('message', resolve))
  const fillers = await Promise.all([connect(port), connect(port)])
  return {
    port,
    wake: async () => {
      for (const filler of fillers) filler.destroy()
      const exited = new Promise((resolve) => worker.once('exit', resolve))
      Atomics.store(gate, 0, 1)
      Atomics.notify(gate, 0)
      await exited
    },
  }
}

t.test('a target that does not take a connection is given up in time', { skip: without ?? false }, async (t) => {
  const deaf = await deafTarget()
  const bench = await open({
    target: { host: '127.0.0.1', port: deaf.port },
    timeouts: { connectMs: 300, responseMs: 2000 },
  })
  t.teardown(async () => {
    await close(bench)
    await deaf.wake()
  })
  const began = performance.now()
  const peer = await connect(bench.port)
  peer.send(read(1, 0))
  await peer.got(9)
  const took = performance.now() - began
  t.equal(peer.hex, '00010000000301830a', 'gateway target device failed to respond')
  t.ok(took >= 290 && took < 1500, `after ${Math.round(took)} ms`)
  const event = await bench.gateway.event('target.unreachable')
  t.match(event.detail, /300 ms/)
  t.equal(peer.state, 'open', 'the client stays')
  peer.destroy()
})

t.test('dead peers are looked for on both sides', { skip: without ?? false }, async (t) => {
  const bench = await open()
  t.teardown(() => close(bench))
  const peer = await connect(bench.port)
  t.ok(await works(peer, 1))
  // /proc/net/tcp: addresses as hex, state, queues, then which timer runs (2: keep-alive) and until when, in 1/100 s.
  const hexPort = (port: number): string => port.toString(16).toUpperCase().padStart(4, '0')
  const rows = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
  const timers = (local: number | null, remote: number | null): string[] =>
    rows
      .filter((row) => row[3] === '01')
      .filter((row) => local === null || row[1].endsWith(`:${hexPort(local)}`))
      .filter((row) => remote === null || row[2].endsWith(`:${hexPort(remote)}`))
      .map((row) => row[5])
  for (const [side, timer] of [
    ['client', timers(bench.port, null)],
    ['target', timers(null, bench.target.port)],
  ] as const) {
    t.equal(timer.length, 1, side)
    const [kind, when] = timer[0].split(':')
    const seconds = Number.parseInt(when, 16) / 100
    t.equal(kind, '02', `${side}: the keep-alive timer runs`)
    t.ok(seconds > 0 && seconds <= 30, `${side}: ${seconds} s`)
  }
  peer.destroy()

  // TCP_USER_TIMEOUT (18 of IPPROTO_TCP) shows nowhere but in getsockopt(2).
  const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi').default
  const getsockopt = koffi.load('libc.so.6').func('int getsockopt(int, int, int, void *, void *)')
  const sys = new Syscalls()
  const listener = sys.listener(0xffff7f000001n, 0, false)
  const { port } = sys.localAddress(listener)
  const dialled = sys.connect(0xffff7f000001n, port)
  const accepted = sys.accept(listener)
  for (const [name, fd] of Object.entries({ accepted, dialled })) {
    const value = Buffer.alloc(4)
    const length = Buffer.from([4, 0, 0, 0])
    t.equal(getsockopt(fd, 6, 18, value, length), 0)
    t.equal(value.readInt32LE(0), 30_000, `${name}: milliseconds that sent bytes may stay unacknowledged`)
  }
  for (const fd of [listener, dialled, accepted]) sys.close(fd)
})

t.test(
  'a burst of new connections and an established one do not starve each other',
  { skip: without ?? false },
  async (t) => {
    // Target and clients share a thread with the polling of all of them: on a busy machine an answer takes its time.
    const bench = await open({ timeouts: { responseMs: 30_000 } })
    t.teardown(() => close(bench))
    const established = await connect(bench.port)
    t.ok(await works(established, 1))
    let longest = 0
    let rounds = 0
    let bursting = true
    const steady = (async () => {
      while (bursting) {
        const began = performance.now()
        if (!(await works(established, ++rounds & 0xff))) {
          throw new Error(`a wrong answer in round ${rounds}: ${established.received.toString('hex')}`)
        }
        longest = Math.max(longest, performance.now() - began)
      }
    })()
    const began = performance.now()
    const peers = await Promise.all(
      Array.from({ length: 200 }, async (_, i) => {
        const peer = await connect(bench.port)
        return { peer, right: await works(peer, i) }
      }),
    )
    const took = performance.now() - began
    bursting = false
    await steady
    t.ok(peers.every(({ right }) => right))
    t.ok(rounds > 2, `${rounds} transactions of the established one meanwhile`)
    // This process is client and target as well, so the figure is mostly its own.
    t.ok(longest < took, `${Math.round(longest)} ms, while the burst took ${Math.round(took)} ms`)
    for (const { peer } of peers) peer.destroy()
  },
)

t.test('a thousand connections, cut off at every stage, while one goes on', { skip: without ?? false }, async (t) => {
  const bench = await open({ rules: [{ functions: ['read'] }] })
  t.teardown(() => close(bench))
  const steady = await connect(bench.port)
  t.ok(await works(steady, 1))
  const sockets = bench.gateway.sockets()
  const stages: ((peer: Peer, i: number) => Promise<void> | void)[] = [
    () => {},
    (peer) => peer.send(read(1, 0).subarray(0, 5)),
    (peer) => peer.send(Buffer.concat([read(1, 0), read(2, 0), read(3, 0).subarray(0, 7)])),
    async (peer, i) => void (await works(peer, i)),
    (peer) => peer.send(adu(9, 1, [6, 0, 1, 0, 1])),
    async (peer) => {
      peer.send(read(1, 0))
      await sleep(1)
      bench.target.last.reset()
    },
  ]
  for (let round = 0; round < 20; round++) {
    await Promise.all(
      Array.from({ length: 50 }, async (_, n) => {
        const i = round * 50 + n
        const peer = await connect(bench.port)
        await stages[round % stages.length](peer, i % 200)
        if (i % 2 === 0) peer.reset()
        else peer.destroy()
      }),
    )
    // Descriptors are used again at once; what belongs to others would show here.
    t.ok(await works(steady, round))
  }
  t.equal(steady.state, 'open')
  await until(() => bench.gateway.sockets() <= sockets, 'all descriptors to be given back')
})
