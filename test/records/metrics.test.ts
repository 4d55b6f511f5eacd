/** The page that Prometheus reads: every metric with its labels and values after traffic that is known; its HTTP. */
import { spawnSync } from 'node:child_process'
import net from 'node:net'
import t, { type Test } from 'tap'
import { MetricsServer } from '../../src/records/http.ts'
import { Metrics } from '../../src/records/metrics.ts'
import { Recorder } from '../../src/records/recorder.ts'
import { freePort } from '../support/gateway.ts'
import { Headgate, scrape, sum } from '../support/headgate.ts'
import { adu } from '../support/modbus.ts'
import { scratch } from '../support/records.ts'
import { answer } from '../support/server.ts'
import { connect, type Peer, RawTarget, sleep, until } from '../support/sockets.ts'

const LOOPBACK = ['127.0.0.0/8']
const read = (transaction: number, register: number) => adu(transaction, 1, [3, 0, register, 0, 1])
const write = (transaction: number, register: number) => adu(transaction, 1, [6, 0, register, 0, 1])
/** A register that the target does not answer for; one that it answers with another transaction identifier. */
const [SILENT, ODD, ZERO] = [50, 51, 52]

/** A sink that refuses. */
const SINK = 'tcp://127.0.0.1:9'

function policy(target: number, listen: number, monitored: number, metrics: number, directory: string) {
  const listeners = [
    { conduit: 'C1', listen: `127.0.0.1:${listen}`, target: 'PLC-1' },
    { conduit: 'C2', listen: `127.0.0.1:${monitored}`, target: 'PLC-1' },
  ]
  const conduit = (id: string, mode: string, rules: object[]) => ({
    conduit_id: id,
    connects: ['CELL', 'OFFICE'],
    mode,
    protocols_allowed: [{ protocol: 'Modbus/TCP', port: target, rules, timeouts: { response: '20s' } }],
  })
  return {
    zones: [{ zone_id: 'CELL', assets: [{ name: 'PLC-1', address: '127.0.0.1' }] }, { zone_id: 'OFFICE' }],
    conduits: [
      conduit('C1', 'enforce', [
        {
          name: 'reading',
          from: ['127.0.7.0/24'],
          to: LOOPBACK,
          functions: ['read'],
          addresses: { 'holding-registers': ['0-99'] },
          tolerate: ['zero-transaction-id'],
        },
        {
          name: 'doubted',
          from: ['127.0.7.0/24'],
          to: LOOPBACK,
          functions: ['write'],
          values: { 'holding-registers': { '0-9': { max: 0 } } },
          mode: 'monitor',
        },
        { name: 'never used', from: ['127.0.9.0/24'], to: LOOPBACK, functions: ['all'] },
      ]),
      conduit('C2', 'monitor', [{ name: 'polling', from: LOOPBACK, to: LOOPBACK, functions: [3] }]),
    ],
    gateway: {
      listeners,
      workers: 2,
      drain: '1s',
      metrics: { listen: `127.0.0.1:${metrics}` },
      syslog: [{ url: SINK }],
      spool: { directory: `${directory}/spool` },
      evidence: { directory: `${directory}/evidence` },
    },
  }
}

interface Site {
  headgate: Headgate
  page: string
  port: number
  connections: Peer[]
}

/** Samples of a family, `label=value …` in the order of the alphabet, without those that are 0. */
function family(samples: Map<string, number>, name: string): Record<string, number> {
  const found: Record<string, number> = {}
  for (const [sample, value] of samples) {
    if (sample.split('{', 1)[0] !== name) continue
    const labels = [...sample.matchAll(/(\w+)="([^"]*)"/g)].filter(([, , text]) => text !== '')
    found[
      labels
        .map(([, label, text]) => `${label}=${text}`)
        .sort()
        .join(' ')
    ] = value
  }
  return found
}

async function site(t: Test): Promise<Site> {
  const target = await RawTarget.open((request) => {
    const register = request.readUInt16BE(8)
    if (register === SILENT) return null
    const response = answer(request)
    if (register === ODD) response[0] ^= 0x55
    if (register === ZERO) response.writeUInt16BE(0, 0)
    return response
  })
  t.teardown(() => target.close())
  const [port, monitored, metrics] = [await freePort(), await freePort(), await freePort()]
  const headgate = await Headgate.start(t, policy(target.port, port, monitored, metrics, scratch(t)))
  const open = async (port: number, address: string): Promise<Peer> => {
    const peer = await connect(port, '127.0.0.1', address)
    t.teardown(() => peer.destroy())
    return peer
  }
  // 3 reads, one write that only its rule's mode lets pass, one read elsewhere, one function that no rule has.
  const client = await open(port, '127.0.7.1')
  client.send(
    Buffer.concat([read(1, 0), read(2, 1), read(3, 99), write(4, 0), read(5, 100), adu(6, 1, [8, 0, 0, 0, 0])]),
  )
  await client.got(3 * 11 + 12 + 9 + 9)
  client.send(Buffer.concat([read(7, ZERO), read(8, ODD), read(9, SILENT)]))
  await until(() => target.received.length === 12 * 7, 'all that is allowed at the target')
  const refused = await open(port, '127.0.8.1')
  await refused.closed()
  const other = await open(monitored, '127.0.8.1')
  other.send(Buffer.concat([read(1, 0), write(2, 0)]))
  await other.got(11 + 12)
  await until(() => headgate.events.some((event) => event.event === 'response.denied'), 'the response nobody asked for')
  return { headgate, page: `http://127.0.0.1:${metrics}/metrics`, port: metrics, connections: [client, other] }
}

t.test('what is counted', async (t) => {
  const { headgate, page, port, connections } = await site(t)
  const samples = await scrape(page)
  const text = await (await fetch(page)).text()
  const all = (name: string) => family(samples, `headgate_${name}`)

  t.same(all('requests_total'), {
    'conduit=C1 function=read-holding-registers protocol=modbus verdict=allow': 6,
    'conduit=C1 function=read-holding-registers protocol=modbus reason=address verdict=deny': 1,
    'conduit=C1 function=write-single-register protocol=modbus reason=value verdict=would_deny': 1,
    'conduit=C1 function=diagnostics protocol=modbus reason=function verdict=deny': 1,
    'conduit=C2 function=read-holding-registers protocol=modbus verdict=allow': 1,
    'conduit=C2 function=write-single-register protocol=modbus reason=function verdict=would_deny': 1,
  })
  t.same(all('responses_total'), {
    'conduit=C1 protocol=modbus verdict=allow': 5,
    'conduit=C1 protocol=modbus reason=state verdict=deny': 1,
    'conduit=C2 protocol=modbus verdict=allow': 2,
  })
  t.same(all('connections_total'), {
    'conduit=C1 protocol=modbus verdict=allow': 1,
    'conduit=C1 protocol=modbus reason=pair verdict=deny': 1,
    'conduit=C2 protocol=modbus verdict=allow': 1,
  })
  t.same(all('connections'), { 'conduit=C1 protocol=modbus': 1, 'conduit=C2 protocol=modbus': 1 })
  t.same(all('pending_requests'), { 'conduit=C1': 2, 'conduit=C2': 0 }, 'one silent, one answered amiss')
  t.same(all('bytes_total'), {
    'conduit=C1 direction=in protocol=modbus': 9 * 12,
    'conduit=C1 direction=out protocol=modbus': 3 * 11 + 12 + 9 + 9 + 11,
    'conduit=C2 direction=in protocol=modbus': 2 * 12,
    'conduit=C2 direction=out protocol=modbus': 11 + 12,
  })
  t.equal(connections[0].length, 3 * 11 + 12 + 9 + 9 + 11, 'which is what the client saw')
  t.same(
    all('rule_requests_total'),
    {
      'conduit=C1 rule=reading verdict=allow': 6,
      'conduit=C1 rule=reading verdict=deny': 2,
      'conduit=C1 rule=doubted verdict=allow': 0,
      'conduit=C1 rule=doubted verdict=would_deny': 1,
      'conduit=C1 rule=never used verdict=allow': 0,
      'conduit=C2 rule=polling verdict=allow': 1,
      'conduit=C2 rule=polling verdict=would_deny': 1,
    },
    'a rule that nothing used shows as 0',
  )
  t.same(all('tolerated_total'), { 'conduit=C1 quirk=zero-transaction-id': 1 })
  t.same(all('conduit_enforcing'), { 'conduit=C1': 1, 'conduit=C2': 0 })
  const { policy: sha256, version } = await headgate.ready()
  t.same(all('policy_info'), { [`file=${headgate.file} sha256=${sha256}`]: 1 })
  t.same(Object.values(all('build_info')), [1])
  t.match(Object.keys(all('build_info'))[0], `version=${version}`)
  t.same(all('policy_reloads_total'), { 'result=loaded': 0, 'result=rejected': 0 })
  t.same(all('worker_restarts_total'), { '': 0 })
  t.same(all('events_total')['result=lost sink=log'], 0)
  let sent = -1
  for (let i = 0; i < 50 && sent !== headgate.events.length; i++) {
    sent = family(await scrape(page), 'headgate_events_total')['result=sent sink=log']
    if (sent !== headgate.events.length) await sleep(20)
  }
  t.equal(sent, headgate.events.length, 'one event a line of the log')

  t.same(all('sink_up'), { [`sink=${SINK}`]: 0 })
  t.ok(all('spool_bytes')[`sink=${SINK}`] > 0, 'what waits for the sink')
  t.ok(all('events_total')[`result=spooled sink=${SINK}`] > 0)
  t.same(Object.values(all('evidence_writable')), [1])
  t.match(Object.keys(all('evidence_writable'))[0], /^directory=.*evidence$/)
  t.ok(all('evidence_records_total')['result=written'] > 0)

  const seconds = all('response_seconds_count')
  const counts = Object.entries(seconds).map(([labels, count]) => [labels.includes('conduit=C1') ? 'C1' : 'C2', count])
  t.same(Object.fromEntries(counts), { C1: 5, C2: 2 })
  t.equal(sum(samples, 'headgate_response_seconds_bucket', { le: '+Inf' }), 7)
  const spent = sum(samples, 'headgate_response_seconds_sum')
  t.ok(spent > 0 && spent < 2, `${spent} s in all`)
  const buckets = [...samples].filter(([s]) => s.startsWith('headgate_response_seconds_bucket') && s.includes('"C1"'))
  t.ok(
    buckets.every(([, n], i) => i === 0 || n >= buckets[i - 1][1]),
    'buckets are cumulative',
  )
  t.ok(samples.has('process_cpu_seconds_total'), "the process's own")
  t.ok([...samples.keys()].some((sample) => sample.startsWith('process_open_fds')))

  t.notMatch(text, /127\.0\.[78]\./, 'no client is a label')
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  t.equal(new Set(lines.map((line) => line.slice(0, line.lastIndexOf(' ')))).size, lines.length, 'no sample twice')

  await t.test('promtool', { skip: absent('promtool') }, (t) => {
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' })
    t.equal(`${stdout}${stderr}`, '')
    t.equal(status, 0)
    t.end()
  })

  await t.test('HTTP', async (t) => {
    const at = (path: string) => `http://127.0.0.1:${port}${path}`
    const get = async (path: string, method = 'GET') => {
      const response = await fetch(at(path), { method })
      return [response.status, await response.text()] as const
    }
    t.match((await fetch(page)).headers.get('content-type'), /^text\/plain; version=0\.0\.4/)
    t.same(await get('/healthz'), [200, 'ok\n'])
    t.same(await get('/readyz'), [200, 'ready\n'])
    t.equal((await get('/metrics?collect=all'))[0], 200)
    for (const path of ['/', '/metrics/', '/METRICS', '/../etc/passwd', '/%00', '/healthzz']) {
      t.equal((await get(path))[0], 404, path)
    }
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
      for (const path of ['/metrics', '/readyz', '/none'])
        t.equal((await get(path, method))[0], 405, `${method} ${path}`)
    }
    t.equal((await fetch(page, { method: 'POST', body: 'x' })).headers.get('allow'), 'GET, HEAD')
    t.same(await get('/metrics', 'HEAD'), [200, ''])
  })

  await t.test('hostile HTTP', async (t) => {
    const raw = async (bytes: string | Buffer): Promise<string> => {
      const peer = await connect(port)
      peer.send(Buffer.from(bytes))
      await peer.closed(9000)
      peer.destroy()
      return peer.received.toString('latin1')
    }
    t.match(await raw('\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'), /^HTTP\/1\.1 400 /, 'TLS')
    t.match(await raw(read(1, 0)), /^HTTP\/1\.1 400 /, 'Modbus')
    t.match(await raw(`GET /metrics HTTP/1.1\r\nhost: x\r\na: ${'b'.repeat(20_000)}\r\n\r\n`), /^HTTP\/1\.1 431 /)
    t.match(await raw('GET /metrics HTTP/1.1\r\n\r\n'), /^HTTP\/1\.1 400 /, 'no host')
    t.match(await raw('CONNECT plc:502 HTTP/1.1\r\nhost: plc:502\r\n\r\n'), /^(HTTP\/1\.1 4|$)/, 'no tunnel')
    const pipelined = await connect(port)
    pipelined.send(Buffer.from('GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(300)))
    await until(() => (pipelined.received.toString().match(/HTTP\/1\.1 200/g) ?? []).length === 300, '300 answers')
    pipelined.destroy()

    // More connections than it takes, none of which ever ends its request.
    const slow = await Promise.all(Array.from({ length: 100 }, () => connect(port)))
    for (const peer of slow) peer.send(Buffer.from('GET /metrics HTTP/1.1\r\nhost: x\r\na: '))
    const began = performance.now()
    const trickle = setInterval(() => {
      for (const peer of slow) if (peer.state === 'open') peer.send(Buffer.from('b'))
    }, 200)
    await Promise.all(slow.map((peer) => peer.closed(9000)))
    clearInterval(trickle)
    t.ok(performance.now() - began < 8000, 'all are given up')
    for (const peer of slow) peer.destroy()
    t.equal((await fetch(page)).status, 200, 'and the page is there')
    const [, client] = connections
    client.clear()
    client.send(read(20, 98))
    t.same(await client.got(11), answer(read(20, 98)), 'and the conduit has not noticed')
  })
})

t.test('/readyz tells when it is ready, and /healthz that it lives', async (t) => {
  let ready = false
  const recorder = new Recorder({ level: 'error' })
  const server = new MetricsServer(new Metrics(recorder, '0'), () => ready)
  const page = await server.listen('127.0.0.1', 0)
  t.teardown(() => recorder.close())
  const status = async (path: string) => (await fetch(new URL(path, page))).status
  t.same([await status('/readyz'), await status('/healthz'), await status('/metrics')], [503, 200, 200])
  ready = true
  t.equal(await status('/readyz'), 200)
  ready = false
  t.equal(await status('/readyz'), 503)
  const idle = net.connect(Number(new URL(page).port), '127.0.0.1').on('error', () => {})
  await new Promise((resolve) => idle.once('connect', resolve))
  await server.close()
  await t.rejects(fetch(page), 'closed, whoever was connected')
  idle.destroy()
})

/** @returns why a test of that program is skipped; false where it is there */
function absent(program: string): string | false {
  return spawnSync(program, ['--version']).error === undefined ? false : `${program} is not installed`
}
