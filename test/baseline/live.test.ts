/** The baseline that a gateway keeps while it monitors: the same as a capture's, over workers, reloads and restarts. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type BaselineFile, type BaselineFlow, parseBaseline } from '../../src/baseline/baseline-file.ts'
import { baselineSpan } from '../../src/baseline/decisions.ts'
import { DRAFT_DEFAULTS, draftPolicy } from '../../src/baseline/draft.ts'
import { LiveBaseline } from '../../src/baseline/live.ts'
import { checkPolicy } from '../../src/policy/load.ts'
import type { Policy } from '../../src/policy/model.ts'
import { freePort, TestGateway, TRANSPORTS } from '../support/gateway.ts'
import { leastGrown } from '../support/heap.ts'
import { adu, u16 } from '../support/modbus.ts'
import { modbusPolicy } from '../support/policy.ts'
import { scratch } from '../support/records.ts'
import { answer } from '../support/server.ts'
import { connect, type Peer, RawTarget } from '../support/sockets.ts'

t.jobs = 2

const CLIENTS = ['127.0.0.1', '127.0.0.2', '127.0.0.3']

interface Site {
  policy: Policy
  port: number
  enforced: number
  target: RawTarget
  directory: string
}

async function site(directory: string, io: 'epoll' | 'net', workers: number): Promise<Site> {
  const target = await RawTarget.open((request) => answer(request))
  const [port, enforced] = [await freePort(), await freePort()]
  const place = { host: '127.0.0.1', port: target.port }
  const at = (id: string, mode: 'monitor' | 'enforce', listen: number) => ({
    id,
    mode,
    rules: [{ functions: [3] }],
    listen: { host: '127.0.0.1', port: listen },
    target: place,
  })
  const policy = modbusPolicy([at('C1', 'monitor', port), at('C2', 'enforce', enforced)], {
    io,
    workers,
    baseline: { directory },
  })
  return { policy, port, enforced, target, directory }
}

let transaction = 0
/** Sends a request, and waits for as many bytes as its answer has. */
async function ask(peer: Peer, pdu: number[], unit = 1): Promise<void> {
  const request = adu(transaction++ & 0xffff, unit, pdu)
  peer.clear()
  peer.send(request)
  await peer.got(answer(request).length)
}

const read = (address: number, quantity: number): number[] => [3, ...u16(address), ...u16(quantity)]
const write = (address: number, value: number): number[] => [6, ...u16(address), ...u16(value)]

const kept = (directory: string): BaselineFile =>
  parseBaseline(readFileSync(join(directory, 'baseline.json'), 'utf8'), 'baseline.json')
const flowOf = (file: BaselineFile, client: string, code: number): BaselineFlow | undefined =>
  file.flows.find((flow) => flow.client === client && flow.function === code)
const seconds = (flow: BaselineFlow | undefined): number =>
  (flow?.rate.seconds ?? []).reduce((sum, [events, n]) => sum + events * n, 0)

for (const [io, workers] of TRANSPORTS.map((one, i) => [one, i === 0 ? 2 : 1] as const)) {
  t.test(`over ${io}, ${workers} worker(s), and a restart`, { timeout: 60_000 }, async (t) => {
    const directory = join(scratch(t), 'made', 'here')
    const { policy, port, enforced, target } = await site(directory, io, workers)
    t.teardown(() => target.close())
    let gateway = await TestGateway.start(policy)
    // Several connections of each client, so that more than one worker has some.
    for (const [n, client] of CLIENTS.entries()) {
      for (let c = 0; c < 4; c++) {
        const peer = await connect(port, '127.0.0.1', client)
        for (let i = 0; i < 5; i++) {
          await ask(peer, read(10 * c, 10))
          await ask(peer, write(100 + n, 50 * c + i))
        }
        await ask(peer, [90, 0, 1])
        await ask(peer, read(0, 0))
        peer.destroy()
      }
    }
    const stray = await connect(port)
    stray.send(Buffer.from([0, 1, 0, 0, 0xff, 0xff, 1, 3]))
    const strict = await connect(enforced)
    await ask(strict, read(500, 1))
    for (const one of [stray, strict]) one.destroy()
    t.equal(await gateway.stop(), 0)

    const first = kept(directory)
    for (const [n, client] of CLIENTS.entries()) {
      const [reads, writes, program] = [3, 6, 90].map((code) => flowOf(first, client, code))
      t.match(reads, { requests: 24, responses: 24, malformed: 4, addresses: { 'holding-registers': [[0, 39]] } })
      t.match(writes, { requests: 20, responses: 20, exceptions: {}, unit: 1, target: '127.0.0.1', port: target.port })
      t.strictSame(writes?.values['holding-registers'], [{ range: [100 + n, 100 + n], min: 0, max: 154, writes: 20 }])
      t.match(program, { requests: 4, responses: 0, exceptions: { 1: 4 } })
      t.equal(seconds(reads), 24, 'every request is in a second of its rate')
      t.match(
        first.clients.find((one) => one.address === client),
        { requests: 48 },
      )
    }
    t.match(first.targets, [{ address: '127.0.0.1', port: target.port, requests: 144 }])
    t.notOk(JSON.stringify(first).includes('[500,500]'), 'a conduit that enforces teaches nothing')
    const own = first.connections.find((one) => one.client === '127.0.0.1')
    t.match(own, { opened: 5, malformed: 1, unanswered: 0, targetSeen: true })
    t.match(first.sources, [{ name: 'gateway test' }])

    // What is learned in operation drafts a policy like what is learned from a capture.
    const { text } = draftPolicy(first, DRAFT_DEFAULTS)
    t.strictSame(checkPolicy('draft.yaml', Buffer.from(text)).findings, [])

    gateway = await TestGateway.start(policy)
    t.match(await gateway.event('baseline.opened'), { detail: /^9 flows since / })
    const again = await connect(port)
    await ask(again, read(90, 2))
    await ask(again, write(100, 999))
    again.destroy()
    t.equal(await gateway.stop(), 0)
    const second = kept(directory)
    const reads = flowOf(second, '127.0.0.1', 3)
    t.strictSame(reads?.addresses['holding-registers'], [
      [0, 39],
      [90, 91],
    ])
    t.match(reads, { requests: 25, first: flowOf(first, '127.0.0.1', 3)?.first })
    t.match(flowOf(second, '127.0.0.1', 6)?.values['holding-registers'], [{ min: 0, max: 999, writes: 21 }])
    t.equal(second.flows.length, first.flows.length)
    t.equal(second.sources.length, 1, 'a restart is no pause')
    t.ok(baselineSpan(directory).watched > 0)
    t.strictSame(readdirSync(directory), ['baseline.json'], 'and nothing else is left there')
  })
}

t.test('a reload begins and ends it; what is no baseline is put aside', { timeout: 60_000 }, async (t) => {
  const directory = scratch(t)
  writeFileSync(join(directory, 'baseline.json'), '{"format":"headgate-ba')
  const { policy, port, target } = await site(directory, TRANSPORTS[0], 1)
  t.teardown(() => target.close())
  const without = structuredClone(policy)
  if (without.gateway !== null) without.gateway.baseline = null
  const gateway = await TestGateway.start(without)
  const peer = await connect(port)
  await ask(peer, read(0, 1))
  await gateway.reload(policy)
  t.match(await gateway.event('baseline.set_aside'), { severity: 'warning', detail: /not JSON/ })
  await ask(peer, read(1, 1))
  await ask(peer, read(2, 1))
  await gateway.reload(without)
  await ask(peer, read(3, 1))
  const file = kept(directory)
  t.strictSame(flowOf(file, '127.0.0.1', 3)?.addresses, { 'holding-registers': [[1, 2]] })
  t.match(file.connections, [{ opened: 1, idle: 0 }])
  t.match(
    readdirSync(directory).filter((name) => name.includes('damaged')),
    [/^baseline\.json\.damaged-\d/],
  )
  peer.destroy()
  t.equal(await gateway.stop(), 0)
})

t.test('a frame that was seen before costs no memory', async (t) => {
  const baseline = new LiveBaseline()
  const track = baseline.open(1n, 2n, 502)
  if (track === null) throw new Error('no room')
  const frames = [read(0, 10), read(40, 10), write(100, 7), [15, 0, 3, 0, 12, 2, 0xff, 0x0f]].map((pdu) =>
    adu(1, 1, pdu),
  )
  const answers = frames.map((frame) => new Uint8Array(answer(frame)))
  const requests = frames.map((frame) => new Uint8Array(frame))
  baseline.clock[0] = 1.7e15
  const round = (count: number): void => {
    for (let i = 0; i < count; i++) {
      const n = i & 3
      baseline.request(track, requests[n], 0, requests[n].length)
      baseline.response(track, answers[n], 0, answers[n].length, true)
      baseline.clock[0] += 13
    }
  }
  round(200_000)
  const least = leastGrown(() => round(100_000))
  t.ok(least < 400_000, `${least} bytes for 200,000 frames`)
  const share = baseline.take(100)
  t.equal(share.flows.length, 3)
  t.equal(
    share.flows.reduce((sum, flow) => sum + flow.requests, 0),
    700_000,
  )
  t.notOk(baseline.stirred, 'all is taken')
})

t.test('no more rows are kept than there is room for', async (t) => {
  const baseline = new LiveBaseline()
  for (let n = 0; n < 200; n++) {
    const track = baseline.open(BigInt(n), 2n, 502)
    if (track === null) continue
    for (let unit = 0; unit < 60; unit++) {
      const frame = new Uint8Array(adu(1, unit, read(0, 1)))
      baseline.request(track, frame, 0, frame.length)
    }
  }
  let rows = 0
  let dropped = 0
  while (baseline.stirred) {
    const share = baseline.take(256)
    t.ok(share.flows.length <= 256)
    rows += share.flows.length
    dropped += share.dropped
  }
  t.equal(rows, 10_000)
  t.equal(dropped, 2_000)
})
