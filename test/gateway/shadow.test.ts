/** A shadow policy beside the one in force: every difference told and counted, nothing changed, and promotion. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { ask } from '../../src/gateway/control/client.ts'
import type { Gateway } from '../../src/policy/model.ts'
import { type ModbusHost, ModbusSession, type Shadow } from '../../src/protocols/modbus/session.ts'
import { REASON } from '../../src/protocols/reason.ts'
import { freePort, TRANSPORTS } from '../support/gateway.ts'
import { Headgate, scrape, sum } from '../support/headgate.ts'
import { adu } from '../support/modbus.ts'
import { answer } from '../support/server.ts'
import { CountingLimiter, planOf, sessionPolicy } from '../support/session.ts'
import { connect, type Peer, RawTarget, until } from '../support/sockets.ts'

const read = (transaction: number, address = 0) => adu(transaction, 1, [3, 0, address, 0, 1])
const write = (transaction: number, value = 9) => adu(transaction, 1, [6, 0, 7, value >> 8, value & 0xff])
const inputs = (transaction: number) => adu(transaction, 1, [2, 0, 0, 0, 1])
const coils = (transaction: number) => adu(transaction, 1, [1, 0, 0, 0, 1])

interface Terms {
  mode?: 'monitor' | 'enforce'
  functions: (string | number)[]
  from?: string[]
  more?: Record<string, unknown>
  limits?: Record<string, unknown>
  ports?: number[]
  gateway?: Record<string, unknown>
}

interface Site {
  directory: string
  socket: string
  port: number
  plc: RawTarget
  text: (terms: Terms) => string
  candidate: string
  start(terms: Terms, candidate: Terms | string): Promise<Headgate>
  page(): Promise<Map<string, number>>
}

async function site(t: Test, io: 'epoll' | 'net' = TRANSPORTS[0]): Promise<Site> {
  const directory = mkdtempSync(join(tmpdir(), 'headgate-shadow-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const plc = await RawTarget.open((request) => answer(request))
  t.teardown(() => plc.close())
  const [port, metrics] = [await freePort(), await freePort()]
  const socket = join(directory, 'run', 'c.sock')
  const file = join(directory, 'policy.yaml')
  const candidate = join(directory, 'candidate.yaml')
  const text: Site['text'] = ({ mode, functions, from = ['OPS'], more, limits, ports = [port], gateway = {} }) =>
    JSON.stringify({
      zones: [
        { zone_id: 'CELL', networks: ['127.0.0.0/24'] },
        { zone_id: 'OPS', networks: ['127.0.4.0/22'], assets: [{ name: 'HIST-01', address: '127.0.5.1' }] },
      ],
      conduits: [
        {
          conduit_id: 'C1',
          connects: ['CELL', 'OPS'],
          mode,
          protocols_allowed: [
            { protocol: 'Modbus/TCP', rules: [{ name: 'one', from, to: ['CELL'], functions, ...more }], limits },
          ],
        },
      ],
      gateway: {
        io,
        workers: 1,
        listeners: ports.map((one) => ({ conduit: 'C1', listen: `127.0.0.1:${one}`, target: `127.0.0.1:${plc.port}` })),
        metrics: { listen: `127.0.0.1:${metrics}` },
        control: { socket: 'run/c.sock', state_directory: 'state' },
        shadow: 'candidate.yaml',
        storm_interval: '1m',
        drain: '1s',
        ...gateway,
      },
    })
  return {
    directory,
    socket,
    port,
    plc,
    text,
    candidate,
    async start(terms, candidateTerms) {
      writeFileSync(file, text(terms))
      writeFileSync(candidate, typeof candidateTerms === 'string' ? candidateTerms : text(candidateTerms))
      const headgate = Headgate.run(t, file)
      await headgate.ready()
      return headgate
    },
    page: () => scrape(`http://127.0.0.1:${metrics}/metrics`),
  }
}

/** Another candidate, and it judges. */
async function recast(here: Site, headgate: Headgate, terms: Terms): Promise<void> {
  const from = headgate.events.length
  writeFileSync(here.candidate, here.text(terms))
  await headgate.hangUp()
  await headgate.event('shadow.loaded', from)
}

async function exchange(peer: Peer, requests: Buffer[], bytes: number): Promise<void> {
  peer.clear()
  peer.send(Buffer.concat(requests))
  await peer.got(bytes)
}

const shadowed = (page: Map<string, number>, verdict: string, reason = ''): number =>
  sum(page, 'headgate_shadow_requests_total', { conduit: 'C1', verdict, reason })

for (const io of TRANSPORTS) {
  for (const mode of ['enforce', 'monitor'] as const) {
    t.test(`${io}, ${mode}: differences are events and counts, and nothing else changes`, async (t) => {
      const here = await site(t, io)
      const headgate = await here.start({ mode, functions: [3, 6] }, { functions: [3, 1], more: { unit_ids: [1] } })
      t.match(await headgate.event('shadow.loaded'), { file: here.candidate, shadow: /^[0-9a-f]{64}$/ })
      const client = await connect(here.port, '127.0.0.1', '127.0.5.1')
      const denied = mode === 'enforce' ? 9 : 10
      await exchange(client, [read(1), write(2), coils(3), read(4)], 11 + 12 + denied + 11)
      if (mode === 'enforce') t.equal(client.hex.slice(46, 64), adu(3, 1, [0x81, 1]).toString('hex'))
      const { shadow } = await headgate.event('shadow.loaded')
      t.match(await headgate.event('shadow.would_deny'), {
        conduit: 'C1',
        client_asset: 'HIST-01',
        function: 'write-single-register',
        reason: 'function',
        rule: 'one',
        address: 7,
        values: '9',
        mode,
        shadow,
      })
      t.match(await headgate.event('shadow.would_allow'), {
        function: 'read-coils',
        reason: 'function',
        rule: 'one',
        shadow,
      })
      // Denied by both: that is no difference.
      await exchange(client, [inputs(5)], denied)
      // A storm is counted, and told once.
      const many = Array.from({ length: 500 }, (_, n) => write(n))
      await exchange(client, many, 500 * 12)
      const page = await here.page()
      t.equal(shadowed(page, 'same'), 3)
      t.equal(shadowed(page, 'would_deny', 'function'), 501)
      t.equal(shadowed(page, 'would_allow', 'function'), 1)
      t.equal(sum(page, 'headgate_shadow_info', { sha256: `${shadow}` }), 1)
      t.equal(headgate.events.filter(({ event }) => event.startsWith('shadow.would')).length, 2)
      const passed = here.plc.last.hex.length / 2
      t.equal(passed, 12 * (mode === 'enforce' ? 503 : 505), 'what reaches the target is what is in force')
      client.destroy()
    })
  }
}

t.test('pairs, rates, steps and rules that monitor', async (t) => {
  const here = await site(t)
  const headgate = await here.start(
    { mode: 'enforce', functions: [3, 6] },
    {
      functions: [3, 6],
      from: ['127.0.5.0/24'],
      limits: { requests: { per_client_per_second: 10, burst: 5 } },
      more: { values: { 'holding-registers': { 0: { max: 65535 }, '1-65535': { max_step: 10 } } } },
    },
  )
  const stranger = await connect(here.port, '127.0.0.1', '127.0.6.1')
  await exchange(stranger, [read(1)], 11)
  t.match(await headgate.event('shadow.would_deny'), { client: '127.0.6.1', reason: 'pair', detail: /the connection/ })
  await until(() => headgate.events.filter(({ event }) => event === 'shadow.would_deny').length === 2, 'its request')
  let page = await here.page()
  t.equal(shadowed(page, 'would_deny', 'pair'), 1)
  t.equal(sum(page, 'headgate_shadow_connections_total', { verdict: 'would_deny', reason: 'pair' }), 1)

  const client = await connect(here.port, '127.0.0.1', '127.0.5.1')
  await exchange(client, [read(1, 7)], 11)
  // The target has said 7 of register 7 (it echoes the address): a step of 2 is within ten, one of 200 is not.
  const present = client.hex.slice(-4)
  const value = Number.parseInt(present, 16)
  await exchange(client, [write(2, value + 2), write(3, value + 202)], 24)
  page = await here.page()
  t.equal(shadowed(page, 'would_deny', 'value'), 1, 'the shadow is taught by what passes')
  await exchange(
    client,
    Array.from({ length: 30 }, (_, n) => read(n)),
    30 * 11,
  )
  page = await here.page()
  const rate = shadowed(page, 'would_deny', 'rate')
  t.ok(rate >= 20 && rate <= 30, `over its own rate: ${rate}`)
  t.equal(sum(page, 'headgate_shadow_connections_total', { verdict: 'same' }), 1)
  for (const peer of [stranger, client]) peer.destroy()

  // A rule of the candidate that monitors lets pass what it denies.
  await recast(here, headgate, { functions: [3], more: { mode: 'monitor' } })
  const again = await connect(here.port, '127.0.0.1', '127.0.5.1')
  const same = shadowed(await here.page(), 'same')
  await exchange(again, [write(1)], 12)
  t.equal(shadowed(await here.page(), 'same'), same + 1)
  again.destroy()
})

t.test('what a pair without a rule in force asks for', async (t) => {
  const here = await site(t)
  const headgate = await here.start(
    { mode: 'enforce', functions: [3], from: ['127.0.5.0/24'] },
    { functions: [3], from: ['OPS'] },
  )
  const refused = await connect(here.port, '127.0.0.1', '127.0.6.1')
  t.equal(await refused.closed(), 'reset')
  t.match(await headgate.event('shadow.would_allow'), { client: '127.0.6.1', reason: 'pair' })
  t.equal(sum(await here.page(), 'headgate_shadow_connections_total', { verdict: 'would_allow', reason: 'pair' }), 1)
  // The candidate has no such listener: it would carry nothing.
  await recast(here, headgate, { functions: [3], ports: [await freePort()] })
  const client = await connect(here.port, '127.0.0.1', '127.0.5.1')
  await exchange(client, [read(1)], 11)
  t.match(await headgate.event('shadow.would_deny'), { detail: /no such listener/ })
  client.destroy()
})

t.test('a candidate that comes, goes, changes and breaks', async (t) => {
  const here = await site(t)
  const headgate = await here.start({ mode: 'enforce', functions: [3] }, '{')
  t.match(await headgate.event('shadow.rejected'), { severity: 'error', file: here.candidate, line: 1 })
  const client = await connect(here.port, '127.0.0.1', '127.0.5.1')
  await exchange(client, [read(1)], 11)
  t.equal(shadowed(await here.page(), 'same'), 0)
  t.match(await ask(here.socket, { verb: 'promote', reason: 'x' }), {
    ok: false,
    error: /no shadow policy that judges/,
  })
  // Found without a signal, once it stands still.
  writeFileSync(here.candidate, here.text({ functions: [1] }))
  const { shadow } = await headgate.event('shadow.loaded')
  await exchange(client, [read(2)], 11)
  t.equal(shadowed(await here.page(), 'would_deny', 'function'), 1)
  const from = headgate.events.length
  writeFileSync(here.candidate, 'zones: [')
  await headgate.event('shadow.rejected', from)
  await exchange(client, [read(3)], 11)
  t.equal(shadowed(await here.page(), 'would_deny', 'function'), 2, 'the one before goes on')
  t.equal(sum(await here.page(), 'headgate_shadow_info', { sha256: `${shadow}` }), 1)
  t.match(await ask(here.socket, { verb: 'promote', reason: 'x' }), { ok: false, error: /has changed since it judges/ })
  const gone = headgate.events.length
  writeFileSync(headgate.file, here.text({ mode: 'enforce', functions: [3], gateway: { shadow: undefined } }))
  t.equal((await headgate.hangUp()).event, 'policy.loaded')
  t.match(await headgate.event('shadow.loaded', gone), { detail: /none is asked for/ })
  await exchange(client, [read(4)], 11)
  t.equal(shadowed(await here.page(), 'would_deny', 'function'), 2)
  t.equal(client.state, 'open', 'one connection, all the way')
  client.destroy()
})

t.test('promotion: the document is replaced, the former kept, modes stay', async (t) => {
  const here = await site(t)
  const former = { functions: [3] }
  const headgate = await here.start(former, { mode: 'enforce', functions: [3, 6] })
  const promote = () => ask(here.socket, { verb: 'promote', reason: 'change 9' })
  const client = await connect(here.port, '127.0.0.1', '127.0.5.1')
  const beside = () => readdirSync(here.directory).filter((name) => name.startsWith('policy.yaml.'))

  writeFileSync(headgate.file, here.text({ functions: [4] }))
  t.match(await promote(), { ok: false, error: /policy\.yaml has changed since it was put into force/ })
  writeFileSync(headgate.file, here.text(former))
  mkdirSync(`${headgate.file}.new`)
  t.match(await promote(), { ok: false, error: /cannot be replaced: EISDIR/ })
  t.equal(readFileSync(headgate.file, 'utf8'), here.text(former))
  rmSync(`${headgate.file}.new`, { recursive: true })
  t.same(beside(), [])

  const wanted = readFileSync(here.candidate, 'utf8')
  const promoted = await promote()
  t.match(promoted, { ok: true })
  t.equal(readFileSync(headgate.file, 'utf8'), wanted)
  t.equal(beside().length, 1)
  t.equal(readFileSync(join(here.directory, beside()[0]), 'utf8'), here.text(former))
  t.match(await headgate.event('policy.promoted'), {
    why: 'change 9',
    file: headgate.file,
    detail: /kept as policy\.yaml\./,
  })
  const status = await ask(here.socket, { verb: 'status' })
  t.match(status, {
    result: {
      conduits: [{ conduit: 'C1', mode: 'monitor', document_mode: 'enforce', changed: { cause: 'promotion' } }],
      shadow: { judging: false },
    },
  })
  t.match(await headgate.event('shadow.loaded', 3), { detail: /it is the policy in force/ })
  await exchange(client, [write(1)], 12)
  t.match(await promote(), { ok: false, error: /the policy in force already/ })

  // A candidate whose listener cannot be had: all is as it was.
  const taken = await RawTarget.open(() => null)
  t.teardown(() => taken.close())
  const from = headgate.events.length
  writeFileSync(here.candidate, here.text({ functions: [3], ports: [here.port, taken.port] }))
  await headgate.event('shadow.loaded', from)
  t.match(await promote(), { ok: false, error: /the policy in force stays: cannot listen/ })
  t.equal(readFileSync(headgate.file, 'utf8'), wanted)
  t.equal(beside().length, 1)
  t.match((await ask(here.socket, { verb: 'status' })) as object, { result: { conduits: [{ mode: 'monitor' }] } })
  client.destroy()
  headgate.signal('SIGKILL')
  await headgate.end()
  const again = Headgate.run(t, headgate.file)
  await again.ready()
  t.match(await again.event('mode.restored'), { conduit: 'C1', mode: 'monitor', cause: 'promotion' })
})

t.test('property: a shadow changes nothing of what a session does, and sees every request once', (t) => {
  const rule = { functions: ['read', 'write'], addresses: { 'holding-registers': ['0-9'], coils: ['0-3'] } }
  const frame = fc.oneof(
    fc.tuple(fc.constantFrom(1, 3, 4, 5, 6, 8, 43), fc.nat(12)).map(([code, address]) => [code, 0, address, 0, 1]),
    fc.uint8Array({ minLength: 1, maxLength: 8 }).map((bytes) => [...bytes]),
  )
  const run = (
    frames: number[][],
    cuts: number[],
    monitor: boolean,
    limited: boolean,
    shadow: Shadow | null,
  ): string => {
    const said: string[] = []
    const hex = (buf: Uint8Array, from: number, to: number): string =>
      Buffer.from(buf.subarray(from, to)).toString('hex')
    const host: ModbusHost = {
      toTarget: (buf, from, to) => said.push(`> ${hex(buf, from, to)}`),
      toClient: (buf, from, to) => said.push(`< ${hex(buf, from, to)}`),
      finish: (why) => said.push(`finish ${why}`),
      reset: (why) => said.push(`reset ${why}`),
      redial: () => true,
      dropTarget: (why) => said.push(`drop ${why}`),
      report: (kind, reason, would, index) => said.push(`${kind} ${reason} ${would} ${index}`),
      witness: () => {},
      soon: () => {},
    }
    const policy = sessionPolicy({ mode: monitor ? 'monitor' : 'enforce', rules: [rule] })
    const plan = planOf(policy)
    const table = plan.table(0xffff7f000001n, (policy.gateway as Gateway).listeners[0].target) ?? plan.noTable()
    const limiter = limited ? new CountingLimiter() : null
    if (limiter !== null) limiter.full = frames.length % 2 === 0
    const session = new ModbusSession(host, { us: 0, ms: 0 }, plan.terms, table, limiter, shadow)
    const stream = Buffer.concat(frames.map((pdu, n) => adu(n, 1, pdu)))
    let at = 0
    for (const cut of [...cuts, stream.length]) {
      const end = Math.min(stream.length, at + cut)
      const buf = new Uint8Array(260 + end - at)
      buf.set(stream.subarray(at, end), 260)
      session.onClientBytes(buf, 260, 260 + end - at)
      at = end
    }
    // In how many writes the bytes leave is not at issue.
    return said.join('\n').replace(/\n> /g, '')
  }
  fc.assert(
    fc.property(
      fc.array(frame, { minLength: 1, maxLength: 20 }),
      fc.array(fc.nat(40), { maxLength: 10 }),
      fc.boolean(),
      fc.boolean(),
      (frames, cuts, monitor, limited) => {
        let judged = 0
        let settled = 0
        const shadow: Shadow = {
          judge: () => {
            judged++
          },
          settle: (_, adu, end, reason) => {
            settled++
            if (!(end > adu && reason >= REASON.allow)) throw new Error('not a request')
          },
        }
        const without = run(frames, cuts, monitor, limited, null)
        const beside = run(frames, cuts, monitor, limited, shadow)
        if (without !== beside) throw new Error(`${without}\n--- with a shadow:\n${beside}`)
        if (judged !== settled || judged !== frames.length)
          throw new Error(`${judged} judged, ${settled} settled, ${frames.length} frames`)
      },
    ),
    { numRuns: 300 },
  )
  t.end()
})
