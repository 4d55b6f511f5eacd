import dgram from 'node:dgram'
import { existsSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { Recorder } from '../../src/records/recorder.ts'
import { Spool } from '../../src/records/sinks/spool.ts'
import { denied, Receiver, scratch, sinkTerms, TestSink } from '../support/records.ts'
import { sleep, until } from '../support/sockets.ts'

const MIB = 2 ** 20
const ids = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, i) => denied(from + i).id as string)
/** What came, each event at its first coming. */
const once = (all: readonly string[]): string[] => [...new Set(all)]
/** A port that refuses. */
async function refusing(): Promise<number> {
  const receiver = await Receiver.listen()
  await receiver.close()
  return receiver.port
}

t.test('a receiver that keeps up gets every event once and in order; nothing is on the disk', async (t) => {
  const receiver = await Receiver.listen()
  const directory = scratch(t)
  const { sink, counts, ...rest } = new TestSink(sinkTerms(`tcp://127.0.0.1:${receiver.port}`), {
    directory,
    maxBytes: 100 * MIB,
  })
  await until(() => sink.up, 'connected')
  for (let n = 0; n < 3000; n++) sink.write(denied(n), JSON.stringify(denied(n)))
  await until(() => receiver.messages.length === 3000, 'all came')
  t.same(receiver.ids, ids(0, 3000))
  t.match(counts, { sent: 3000, spooled: 0, lost: 0 })
  t.same(rest.told, [])
  await sink.close()
  await receiver.close()
  t.equal(readFileSync(join(directory, readdirSync(directory)[0], 'cursor.json'), 'utf8').includes('"lost":null'), true)
  t.end()
})

t.test('filters: severity, events by name and by family', async (t) => {
  const receiver = await Receiver.listen()
  const sink = new TestSink(
    sinkTerms(`tcp://127.0.0.1:${receiver.port}`, { minSeverity: 'notice', events: ['request.*', 'policy.loaded'] }),
    null,
  )
  await until(() => sink.sink.up, 'connected')
  sink.write(denied(0))
  sink.write(denied(1, { severity: 'info' }))
  sink.write(denied(2, { event: 'response.denied' }))
  sink.write(denied(3, { event: 'policy.loaded', severity: 'notice' }))
  sink.write(denied(4, { event: 'policy.rejected', severity: 'error' }))
  sink.write(denied(5, { event: 'request.would_deny', severity: 'notice' }))
  await until(() => receiver.messages.length === 3, 'three of six')
  t.same(
    receiver.ids,
    [0, 3, 5].map((n) => denied(n).id),
  )
  await sink.sink.close()
  await receiver.close()
})

t.test('away for 100 000 events: all come when it is back, in order, and memory stays bounded', async (t) => {
  const port = await refusing()
  const sink = new TestSink(sinkTerms(`tcp://127.0.0.1:${port}`), { directory: scratch(t), maxBytes: 200 * MIB })
  await until(() => sink.names().includes('sink.down'), 'it is known to be away')
  let most = 0
  for (let n = 0; n < 100_000; n++) {
    sink.write(denied(n))
    most = Math.max(most, sink.sink.backlog.memory)
    if (n % 1000 === 0) await sleep(0)
  }
  t.equal(sink.counts.lost, 0)
  t.ok(most < 16 * MIB, `${most} bytes in memory at most`)
  const receiver = await Receiver.listen(port)
  await until(() => receiver.seen.size === 100_000 || receiver.messages.length > 150_000, 'all came', 30_000)
  t.same(receiver.ids, ids(0, 100_000), 'once each, in order')
  t.same(sink.names(), ['sink.down', 'sink.up'])
  sink.write(denied(100_000))
  await until(() => receiver.messages.length === 100_001, 'and life goes on')
  await sink.sink.close()
  await receiver.close()
})

t.test('connections that are reset at random moments: nothing is missing, and order holds', async (t) => {
  const receiver = await Receiver.listen()
  const sink = new TestSink(sinkTerms(`tcp://127.0.0.1:${receiver.port}`), {
    directory: scratch(t),
    maxBytes: 200 * MIB,
  })
  for (let n = 0; n < 20_000; n++) {
    sink.write(denied(n))
    if (n % 50 === 0) await sleep(0)
    if (n % 1700 === 1699) receiver.reset()
  }
  await until(() => receiver.seen.size === 20_000, 'all came', 20_000)
  t.same([...receiver.seen], ids(0, 20_000), 'first comings are in order; repeats have the same id')
  t.equal(sink.counts.lost, 0)
  await sink.sink.close()
  await receiver.close()
})

t.test('a receiver that accepts and never reads is given up; its events go to the next one', async (t) => {
  const hung = await Receiver.listen(0, false)
  const sink = new TestSink(
    sinkTerms(`tcp://127.0.0.1:${hung.port}`),
    { directory: scratch(t), maxBytes: 200 * MIB },
    { stallMs: 400 },
  )
  await until(() => sink.sink.up, 'connected')
  // More than both kernels' buffers take.
  const many = 40_000
  let most = 0
  for (let n = 0; n < many; n++) {
    sink.write(denied(n))
    most = Math.max(most, sink.sink.backlog.memory)
    if (n % 500 === 0) await sleep(0)
  }
  await until(() => sink.names().includes('sink.down'), 'it is noticed', 15_000)
  t.match(sink.told.find((event) => event.event === 'sink.down')?.detail, /has taken nothing for 400 ms/)
  t.ok(most < 40 * MIB, `${most} bytes in memory at most`)
  const { port } = hung
  await hung.close()
  const receiver = await Receiver.listen(port)
  await until(() => receiver.seen.size === many, 'all came', 30_000)
  t.same([...receiver.seen], ids(0, many))
  t.equal(sink.counts.lost, 0)
  await sink.sink.close()
  await receiver.close()
})

t.test('what fits nowhere is counted, and told with its times when the sink is back', async (t) => {
  for (const spool of [null, { directory: scratch(t), maxBytes: MIB }]) {
    const port = await refusing()
    const sink = new TestSink(sinkTerms(`tcp://127.0.0.1:${port}`), spool)
    for (let n = 0; n < 20_000; n++) {
      sink.write(denied(n))
      if (n % 1000 === 0) await sleep(0)
    }
    const kept = 20_000 - sink.counts.lost
    t.ok(sink.counts.lost > 5000 && kept > 1000, `${kept} kept`)
    const receiver = await Receiver.listen(port)
    await until(() => receiver.messages.length === kept, 'what was kept has come', 10_000)
    t.same(receiver.ids, ids(0, kept), 'the first ones, in order')
    const lost = sink.told.find((event) => event.event === 'events.lost')
    t.match(lost, { count: sink.counts.lost, first: denied(kept).time, last: denied(19_999).time })
    await sink.sink.close()
    await receiver.close()
  }
})

t.test('the spool survives a restart, a kill, and a torn line', async (t) => {
  const directory = scratch(t)
  const port = await refusing()
  const terms = sinkTerms(`tcp://127.0.0.1:${port}`)
  const before = new TestSink(terms, { directory, maxBytes: 100 * MIB })
  for (let n = 0; n < 5000; n++) before.write(denied(n))
  await sleep(20)
  // Not closed: as far as the disk is concerned, this is how kill -9 leaves it.
  const [own] = readdirSync(directory)
  const segment = join(directory, own, readdirSync(join(directory, own)).filter((name) => name.startsWith('spool-'))[0])
  writeFileSync(segment, '{"event":"request.de', { flag: 'a' })
  const second = scratch(t)
  const copy = join(second, own)
  const { cpSync } = await import('node:fs')
  cpSync(join(directory, own), copy, { recursive: true })
  await before.sink.close()
  const after = new TestSink(terms, { directory: second, maxBytes: 100 * MIB })
  for (let n = 5000; n < 6000; n++) after.write(denied(n))
  const receiver = await Receiver.listen(port)
  await until(() => receiver.messages.length >= 6000, 'all came', 10_000)
  t.same(receiver.ids, ids(0, 6000))
  await after.sink.close()
  await receiver.close()
  t.notOk(existsSync(join(copy, 'spool-1000000001.jsonl')), 'what was sent is not kept')
})

t.test('stopped in good order: what was sent does not come again', async (t) => {
  const directory = scratch(t)
  const receiver = await Receiver.listen()
  const terms = sinkTerms(`tcp://127.0.0.1:${receiver.port}`)
  for (const round of [0, 1, 2]) {
    const sink = new TestSink(terms, { directory, maxBytes: 10 * MIB })
    await until(() => sink.sink.up, 'connected')
    for (let n = round * 100; n < round * 100 + 100; n++) sink.write(denied(n))
    await sink.sink.close()
  }
  await until(() => receiver.messages.length >= 300, 'all came')
  t.same(receiver.ids, ids(0, 300))
  await receiver.close()
})

t.test('a spool that cannot be written: said, and memory is used instead', async (t) => {
  const file = join(scratch(t), 'file')
  writeFileSync(file, '')
  const port = await refusing()
  const sink = new TestSink(sinkTerms(`tcp://127.0.0.1:${port}`), { directory: file, maxBytes: 10 * MIB })
  for (let n = 0; n < 100; n++) sink.write(denied(n))
  await sleep(20)
  t.match(sink.names(), ['spool.failed'])
  await sink.sink.close()
})

t.test('UDP: nobody there is noticed, and what waited comes when somebody is', async (t) => {
  const closed = dgram.createSocket('udp4')
  await new Promise<void>((resolve) => closed.bind(0, '127.0.0.1', resolve))
  const { port } = closed.address()
  await new Promise<void>((resolve) => closed.close(resolve))
  const sink = new TestSink(sinkTerms(`udp://127.0.0.1:${port}`), { directory: scratch(t), maxBytes: 10 * MIB })
  await sleep(20)
  sink.write(denied(0))
  await until(() => sink.names().includes('sink.down'), 'ICMP says that nobody listens')
  for (let n = 1; n < 200; n++) sink.write(denied(n))
  const got: string[] = []
  const receiver = dgram.createSocket('udp4')
  receiver.on('message', (message) => got.push(/ id="([^"]*)"/.exec(message.toString())?.[1] ?? ''))
  await new Promise<void>((resolve) => receiver.bind(port, '127.0.0.1', resolve))
  await until(() => once(got).length === 200, 'all came', 10_000)
  t.same(once(got), ids(0, 200))
  t.match(sink.names(), ['sink.down', 'sink.up'])
  await sink.sink.close()
  receiver.close()
})

t.test(
  'a name that does not resolve, a port that refuses: one event each, tried again with growing pauses',
  async (t) => {
    let tries = 0
    const server = net.createServer((socket) => {
      tries++
      socket.destroy()
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as net.AddressInfo
    const sink = new TestSink(sinkTerms(`tcp://127.0.0.1:${port}`), null, { backoffMs: [20, 300] })
    await sleep(1000)
    // 20, 40, 80, 160, 300, 300 … each shortened by up to a half.
    t.ok(tries >= 4 && tries <= 12, `${tries} tries in a second`)
    await sink.sink.close()
    server.close()
    const lost = new TestSink(sinkTerms('tcp://no-such-host.invalid:514'), null)
    await until(() => lost.names().includes('sink.down'), 'the name is unknown', 10_000)
    await lost.sink.close()
  },
)

t.test('the spool by itself: prepend, positions, segments, for any order of calls', async (t) => {
  const directory = scratch(t)
  const report = { failed: (why: string) => t.fail(why), resumed: () => {} }
  let spool = new Spool(directory, 100 * MIB, report)
  /** What the spool must give, in order. */
  let model: string[] = []
  let taken: { body: string; end: { segment: number; offset: number } }[] = []
  let number = 0
  let seed = 7
  const random = (below: number): number => {
    seed = (seed * 1103515245 + 12345) & 0x7fffffff
    return seed % below
  }
  for (let step = 0; step < 3000; step++) {
    const what = random(10)
    if (what < 4) {
      for (let i = random(200); i >= 0; i--) {
        const body = JSON.stringify({ n: number++, pad: 'x'.repeat(random(2000)) })
        spool.append(body, '')
        model.push(body)
      }
    } else if (what < 7) {
      for (let i = random(300); i >= 0; i--) {
        const entry = spool.next()
        if (entry === null) {
          t.equal(model.length, 0, 'nothing is left out')
          break
        }
        if (entry.body !== model.shift()) return t.fail(`out of order at step ${step}`)
        taken.push(entry)
      }
    } else if (what < 9) {
      const count = random(taken.length + 1)
      if (count > 0) spool.confirm(taken[count - 1].end)
      taken = taken.slice(count)
    } else {
      spool.prepend(taken.map((entry) => entry.body))
      model = [...taken.map((entry) => entry.body), ...model]
      taken = []
      if (random(3) === 0) {
        spool.close()
        spool = new Spool(directory, 100 * MIB, report)
      }
    }
    if (spool.drained !== (model.length === 0)) return t.fail(`drained is ${spool.drained} at step ${step}`)
  }
  for (let entry = spool.next(); entry !== null; entry = spool.next()) {
    if (entry.body !== model.shift()) return t.fail('out of order at the end')
    spool.confirm(entry.end)
  }
  t.equal(model.length, 0)
  t.ok(spool.bytes === 0, 'all is gone from the disk')
  spool.close()
})

t.test('a sink whose settings change by a reload misses nothing of what happens meanwhile', async (t) => {
  const receiver = await Receiver.listen()
  const directory = scratch(t)
  const recorder = new Recorder({ level: 'error', fd: openSync('/dev/null', 'w') })
  const terms = (facility: number, url = `tcp://127.0.0.1:${receiver.port}`) => ({
    name: 'gw',
    syslog: [sinkTerms(url, { facility })],
    spool: { directory, maxBytes: 100 * MIB },
    evidence: null,
  })
  let n = 0
  const happen = (): void => recorder.record({ event: 'request.denied', detail: `event ${n++}` })
  const seen = (): Set<string> => new Set(receiver.messages.map((one) => /event \d+/.exec(one)?.[0] ?? ''))
  await recorder.configure('a'.repeat(64), terms(16))
  happen()
  await until(() => seen().size === 1, 'the first')
  // Reloads faster than a connection ends, the last of them to settings that were there before.
  for (const facility of [17, 18, 16, 17]) {
    await recorder.configure('a'.repeat(64), terms(facility))
    for (let i = 0; i < 100; i++) happen()
  }
  await until(() => seen().size === n, `all ${n}`)
  t.equal(recorder.sinks.length, 1)
  t.match(receiver.messages.at(-1), /^<139>|^<141>/, 'by the last settings: local1')
  // A reload, and at once the end.
  await recorder.configure('a'.repeat(64), terms(20))
  happen()
  await recorder.close()
  await until(() => seen().size === n, 'the last as well')
  t.equal(recorder.results.get(`tcp://127.0.0.1:${receiver.port}`)?.lost ?? 0, 0)
  await receiver.close()
})
