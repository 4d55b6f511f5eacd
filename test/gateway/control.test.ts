/** The control socket of a real gateway: who may speak, what hostile clients get, and cut-overs over real traffic. */

import { execFile } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import net from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { ask } from '../../src/gateway/control/client.ts'
import type { Answer } from '../../src/gateway/control/protocol.ts'
import { ControlError, ControlServer } from '../../src/gateway/control/server.ts'
import { unavailable } from '../../src/gateway/linux/syscalls.ts'
import { REQUEST, RESPONSE } from '../../src/protocols/opcua/services.ts'
import { freePort } from '../support/gateway.ts'
import { Headgate, scrape, sum } from '../support/headgate.ts'
import { adu } from '../support/modbus.ts'
import { acknowledge, hello, openedNone, openNone, request, response } from '../support/opcua.ts'
import { answer } from '../support/server.ts'
import { connect, RawTarget, until } from '../support/sockets.ts'

const read = (transaction: number) => adu(transaction, 1, [3, 0, 0, 0, 1])
const write = (transaction: number) => adu(transaction, 1, [6, 0, 7, 0, 9])

function scratch(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'headgate-control-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

interface Site {
  directory: string
  socket: string
  port: number
  metrics: number
  document: (change?: { mode?: string; functions?: number[]; rule?: object }) => object
}

/** HIST-01 is 127.0.5.1; it may read. 127.0.6.1 is nobody. */
async function site(t: Test, gateway: Record<string, unknown> = {}): Promise<Site> {
  const directory = scratch(t)
  const plc = await RawTarget.open((request) => answer(request))
  t.teardown(() => plc.close())
  const [port, metrics] = [await freePort(), await freePort()]
  const socket = join(directory, 'run', 'control.sock')
  const document: Site['document'] = ({ mode, functions = [3], rule = {} } = {}) => ({
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
          { protocol: 'Modbus/TCP', rules: [{ name: 'reads', from: ['OPS'], to: ['CELL'], functions, ...rule }] },
        ],
      },
    ],
    gateway: {
      listeners: [{ conduit: 'C1', listen: `127.0.0.1:${port}`, target: `127.0.0.1:${plc.port}` }],
      workers: 2,
      metrics: { listen: `127.0.0.1:${metrics}` },
      evidence: { directory: join(directory, 'evidence') },
      control: { socket, state_directory: join(directory, 'state') },
      drain: '1s',
      ...gateway,
    },
  })
  return { directory, socket, port, metrics, document }
}

const CUTOVER = { verb: 'cutover', conduits: ['C1'], min_baseline_days: 0, reason: 'change 4711' }

function result(answer: Answer): Record<string, unknown> {
  if (!answer.ok) throw new Error(`${answer.error} ${JSON.stringify(answer.refusals)}`)
  return answer.result
}

interface Status {
  conduits: {
    conduit: string
    mode: string
    document_mode: string
    watch: { counts: object } | null
    planned: object | null
  }[]
  policy: { sha256: string }
}
const status = async (socket: string): Promise<Status> =>
  result(await ask(socket, { verb: 'status' })) as unknown as Status
const mode = async (socket: string): Promise<string> => (await status(socket)).conduits[0].mode

t.test(
  'cut over, watched by real denials, rolled back by itself, over restarts, and all of it in the evidence',
  async (t) => {
    const { document, socket, port, metrics, directory } = await site(t)
    let headgate = await Headgate.start(t, document())
    const { control } = await headgate.ready()
    t.equal(control, socket)
    const historian = await connect(port, '127.0.0.1', '127.0.5.1')
    historian.send(Buffer.concat([read(1), write(2)]))
    await historian.got(11 + 12)
    historian.clear()

    await headgate.event('request.would_deny')
    const refused = await ask(socket, CUTOVER)
    t.match(refused, {
      ok: false,
      refusals: [{ conduit: 'C1', check: 'would-deny', found: /HIST-01 .*write-single-register/ }],
    })
    t.match(await headgate.event('control.refused'), {
      verb: 'cutover',
      conduit: 'C1',
      why: 'change 4711',
      detail: /HIST-01/,
    })
    t.equal(await mode(socket), 'monitor')

    result(await ask(socket, { ...CUTOVER, force: true }))
    const changed = await headgate.event('mode.changed')
    t.match(changed, {
      conduit: 'C1',
      from_mode: 'monitor',
      mode: 'enforce',
      cause: 'cutover',
      forced: 'yes',
      why: 'change 4711',
    })
    t.equal(changed.user_source, unavailable() === null ? 'kernel' : 'claimed')
    t.equal(changed.user, userInfo().username)
    t.match(await headgate.event('control.accepted'), { verb: 'cutover', forced: 'yes', detail: /HIST-01/ })
    historian.send(write(3))
    await historian.got(9)
    t.equal(historian.hex, adu(3, 1, [0x86, 1]).toString('hex'), 'the open connection is held to the rules')
    historian.clear()

    // The gateway is killed: what was decided stays, and so does the watch.
    headgate.signal('SIGKILL')
    await headgate.end()
    historian.destroy()
    t.ok(existsSync(socket), 'a stale socket is left')
    headgate = await restart(t, headgate.file)
    t.match(await headgate.event('mode.restored'), { conduit: 'C1', mode: 'enforce', document_mode: 'monitor' })
    t.equal(await mode(socket), 'enforce')
    const stranger = await connect(port, '127.0.0.1', '127.0.6.1')
    const again = await connect(port, '127.0.0.1', '127.0.5.1')
    for (let n = 0; n < 20; n++) stranger.send(write(n))
    await stranger.got(20 * 9)
    for (let n = 0; n < 3; n++) again.send(write(n))
    await again.got(3 * 9)
    await sleep(1200)
    t.equal(await mode(socket), 'enforce', 'strangers do not count, and three denials are not above three')
    t.match((await status(socket)).conduits[0].watch, { counts: { denials: 3, lost: 0 } })
    // A reload in the middle of a watch.
    t.equal((await headgate.hangUp()).event, 'policy.loaded')
    t.equal(await mode(socket), 'enforce')
    again.clear()
    again.send(write(9))
    await again.got(9)
    const rolledBack = await headgate.event('cutover.rolled_back')
    t.match(rolledBack, { severity: 'critical', conduit: 'C1', mode: 'monitor', denials: 4 })
    t.match(await headgate.event('mode.changed'), { cause: 'automatic-rollback', mode: 'monitor', user: 'headgate' })
    again.clear()
    again.send(write(10))
    t.same(await again.got(12), write(10), 'the flow works again, on the same connection')
    const page = await scrape(`http://127.0.0.1:${metrics}/metrics`)
    t.equal(sum(page, 'headgate_rollbacks_total', { conduit: 'C1', cause: 'automatic-rollback' }), 1)
    t.equal(sum(page, 'headgate_known_client_denials_total', { conduit: 'C1' }), 4)
    t.equal(sum(page, 'headgate_conduit_enforcing', { conduit: 'C1' }), 0)
    for (const peer of [again, stranger]) peer.destroy()
    await headgate.stop()
    t.notOk(existsSync(socket), 'gone after an orderly end')
    const evidence = readdirSync(join(directory, 'evidence'))
      .filter((name) => name.endsWith('.jsonl'))
      .map((name) => readFileSync(join(directory, 'evidence', name), 'utf8'))
      .join('')
    for (const event of [
      'control.refused',
      'control.accepted',
      'mode.changed',
      'mode.restored',
      'cutover.rolled_back',
    ]) {
      t.match(evidence, `"event":"${event}"`)
    }
  },
)

async function restart(t: Test, file: string): Promise<Headgate> {
  const headgate = Headgate.run(t, file)
  await headgate.ready()
  return headgate
}

t.test('what the baseline has of others than assets is normal as well', async (t) => {
  const { document, socket, port } = await site(t, { baseline: { directory: 'baseline' } })
  const narrow = () => document({ rule: { addresses: { 'holding-registers': ['0-9'] } } })
  let headgate = await Headgate.start(t, narrow())
  const reader = await connect(port, '127.0.0.1', '127.0.7.1')
  const scanner = await connect(port, '127.0.0.1', '127.0.7.2')
  const far = (n: number) => adu(n, 1, [3, 0, 50, 0, 1])
  for (let n = 0; n < 20; n++) reader.send(read(n))
  // Seen, and not allowed: no more normal for having been seen.
  for (let n = 0; n < 20; n++) scanner.send(far(n))
  await Promise.all([reader.got(20 * 11), scanner.got(20 * 11)])
  for (const peer of [reader, scanner]) peer.destroy()
  await headgate.stop()
  t.ok(existsSync(join(dirname(headgate.file), 'baseline', 'baseline.json')))
  headgate = await restart(t, headgate.file)
  t.match(await ask(socket, { ...CUTOVER, min_baseline_days: 1 }), { ok: false, refusals: [{ check: 'baseline' }] })
  result(await ask(socket, { ...CUTOVER, force: true }))
  for (const [from, expected] of [
    ['127.0.7.2', 0],
    ['127.0.7.3', 0],
    ['127.0.7.1', 2],
  ] as const) {
    const client = await connect(port, '127.0.0.1', from)
    client.send(Buffer.concat([far(1), far(2)]))
    await client.got(2 * 9)
    t.match((await status(socket)).conduits[0].watch, { counts: { denials: expected } }, from)
    client.destroy()
  }
  // Restarted, it still knows; then two more are too many.
  headgate.signal('SIGKILL')
  await headgate.end()
  headgate = await restart(t, headgate.file)
  const client = await connect(port, '127.0.0.1', '127.0.7.1')
  client.send(Buffer.concat([far(1), far(2), far(3), far(4)]))
  await client.got(4 * 9)
  await headgate.event('cutover.rolled_back')
  client.destroy()
})

/** An OPC UA server without security that grants a channel, and answers requests to Read while it is `awake`. */
async function opcuaServer(t: Test): Promise<{ port: number; asked: number; awake: boolean }> {
  const state = { port: 0, asked: 0, awake: true }
  const server = net.createServer((socket) => {
    let kept = Buffer.alloc(0)
    let sequence = 1
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      kept = Buffer.concat([kept, chunk])
      while (kept.length >= 8 && kept.length >= kept.readUInt32LE(4)) {
        const one = kept.subarray(0, kept.readUInt32LE(4))
        kept = kept.subarray(one.length)
        const type = one.toString('latin1', 0, 3)
        if (type === 'HEL') socket.write(acknowledge())
        else if (type === 'OPN') socket.write(openedNone(sequence++, 1, 7, 1))
        else if (type === 'MSG') {
          state.asked++
          const place = { sequence, request: one.readUInt32LE(20) }
          if (!state.awake || one.readUInt16LE(26) !== REQUEST.Read) continue
          sequence++
          socket.write(response(RESPONSE.Read, place))
        }
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  state.port = (server.address() as net.AddressInfo).port
  return state
}

t.test('requests of OPC UA that the server leaves unanswered roll back as well', async (t) => {
  const server = await opcuaServer(t)
  const { document, socket, port } = await site(t)
  const opcua = {
    protocol: 'OPC UA',
    rules: [{ name: 'reads', from: ['OPS'], to: ['CELL'], services: ['session', 'read', 'subscribe'] }],
    opcua: { security_modes: ['None'], security_policies: ['None'] },
    timeouts: { response: '400ms' },
  }
  const whole = document() as { conduits: { protocols_allowed: object[] }[]; gateway: { listeners: object[] } }
  whole.conduits[0].protocols_allowed = [opcua]
  whole.gateway.listeners = [
    { conduit: 'C1', protocol: 'OPC UA', listen: `127.0.0.1:${port}`, target: `127.0.0.1:${server.port}` },
  ]
  const headgate = await Headgate.start(t, whole)
  await headgate.ready()
  const client = await connect(port, '127.0.0.1', '127.0.5.1')
  client.send(hello())
  await client.got(28)
  client.clear()
  client.send(openNone(51, 1))
  await client.got(100)
  client.clear()
  const readOpcUa = (n: number) => request(REQUEST.Read, { sequence: 52 + n, request: 2 + n })
  client.send(readOpcUa(0))
  await client.got(50)
  result(await ask(socket, { ...CUTOVER, max_timeouts: 2, force: true }))
  client.clear()
  client.send(readOpcUa(1))
  await client.got(50)
  server.awake = false
  const publish = request(REQUEST.Publish, { sequence: 54, request: 4 })
  client.send(Buffer.concat([publish, readOpcUa(3), readOpcUa(4)]))
  await until(() => server.asked === 5, 'the requests to reach the server')
  await headgate.event('target.timeout')
  await sleep(1200)
  t.equal(await mode(socket), 'enforce', 'two are not above two, and Publish waits for as long as it likes')
  t.match((await status(socket)).conduits[0].watch, { counts: { denials: 0, timeouts: 2, lost: 0 } })
  client.send(readOpcUa(5))
  t.match(await headgate.event('cutover.rolled_back'), {
    conduit: 'C1',
    mode: 'monitor',
    denials: 0,
    timeouts: 3,
    detail: /3 requests that a target left without an answer, or targets not reached, more than 2/,
  })
  t.match(await headgate.event('target.timeout'), {
    function: 'Read',
    detail: 'no answer within 400 ms',
    severity: 'warning',
  })
  client.destroy()
  await headgate.stop()
})

t.test('a planned cut-over is made by the gateway itself; verbs that are refused', async (t) => {
  const { document, socket } = await site(t)
  const headgate = await Headgate.start(t, document())
  const at = new Date(Date.now() + 1500).toISOString()
  result(await ask(socket, { ...CUTOVER, at, watch_minutes: 0 }))
  t.match(await ask(socket, CUTOVER), { ok: false, error: /planned for/ })
  t.match((await status(socket)).conduits[0].planned, { at, why: 'change 4711' })
  t.match(await headgate.event('mode.changed'), { mode: 'enforce', cause: 'cutover' })
  t.equal(await mode(socket), 'enforce')
  const both = await Promise.all([
    ask(socket, { verb: 'rollback', conduits: ['C1'], reason: 'one' }),
    ask(socket, { verb: 'rollback', conduits: ['C1'], reason: 'two' }),
  ])
  t.same(both.map((one) => one.ok).sort(), [false, true], 'one after another: the second finds it done')
  const two = await Promise.all([ask(socket, CUTOVER), ask(socket, CUTOVER)])
  t.same(two.map((one) => one.ok).sort(), [false, true])
  t.match(await ask(socket, { ...CUTOVER, conduits: ['C9'] }), { ok: false, error: 'no conduit C9; there are: C1' })

  writeFileSync(headgate.file, '{')
  t.match(await ask(socket, { verb: 'reload', reason: 'x' }), { ok: false, error: /the policy in force stays/ })
  t.equal(await mode(socket), 'enforce')
  const { sha256 } = (await status(socket)).policy
  writeFileSync(headgate.file, JSON.stringify(document({ functions: [3, 6] })))
  t.match(result(await ask(socket, { verb: 'reload', reason: 'x' })), { policy: { file: headgate.file } })
  t.not((await status(socket)).policy.sha256, sha256)
  t.equal(await mode(socket), 'enforce', 'rules were reloaded, the mode stays')
  writeFileSync(headgate.file, JSON.stringify(document({ mode: 'enforce' })))
  result(await ask(socket, { verb: 'reload', reason: 'x' }))
  writeFileSync(headgate.file, JSON.stringify(document({ mode: 'monitor' })))
  result(await ask(socket, { verb: 'reload', reason: 'x' }))
  t.equal(await mode(socket), 'monitor', 'the document says so, and has changed its mind')
})

t.test('killed at any moment around a change of mode', async (t) => {
  const { document, socket, directory } = await site(t, { workers: 1, evidence: undefined, metrics: undefined })
  let headgate = await Headgate.start(t, document())
  const file = join(directory, 'state', 'rollout.json')
  for (const delay of [0, 2, 5, 12]) {
    const before = await mode(socket)
    const request = before === 'monitor' ? CUTOVER : { verb: 'rollback', conduits: ['C1'], reason: 'x' }
    const former = existsSync(file) ? statSync(file).ino : 0
    const asked = ask(socket, request).catch(() => null)
    // From when the decision is on the disk on.
    await until(() => existsSync(file) && statSync(file).ino !== former, 'the state')
    if (delay > 0) await sleep(delay)
    headgate.signal('SIGKILL')
    await headgate.end()
    await asked
    const kept = JSON.parse(readFileSync(file, 'utf8'))
    headgate = await restart(t, headgate.file)
    t.equal(await mode(socket), before === 'monitor' ? 'enforce' : 'monitor', `after ${delay} ms`)
    t.equal(kept.overrides.C1?.mode, before === 'monitor' ? 'enforce' : undefined)
  }
})

// ------------------------------------------------------------------------------------------------------- the socket

const ROOT = process.getuid?.() === 0 && unavailable() === null ? false : 'only root can be another user; Linux on x64'

const ECHO = async (): Promise<Answer> => ({ ok: true, result: { here: 1 } })

async function server(t: Test, path: string, answerer = ECHO, patienceMs?: number): Promise<ControlServer> {
  const opened = new ControlServer(path, answerer, () => {}, patienceMs)
  t.teardown(() => opened.close())
  await opened.listen()
  return opened
}

t.test('permissions, stale sockets and what stands in the way', async (t) => {
  const directory = scratch(t)
  const path = join(directory, 'made', 'c.sock')
  const former = process.umask(0)
  t.teardown(() => process.umask(former))
  const first = await server(t, path)
  t.equal(lstatSync(path).mode & 0o777, 0o660, 'whatever the umask')
  t.equal(process.umask(), 0, 'which is left as it was')
  await t.rejects(server(t, path), { message: /another gateway listens on it/ })
  t.same(await ask(path, { verb: 'status' }), { ok: true, result: { here: 1 } }, 'the first is undisturbed')
  await first.close()
  t.notOk(existsSync(path))

  writeFileSync(path, 'keep me')
  await t.rejects(server(t, path), { message: /taken by a file that is no socket/ })
  t.equal(readFileSync(path, 'utf8'), 'keep me')
  rmSync(path)

  for (const mode of [0o777, 0o775, 0o1777]) {
    const open = join(directory, `open-${mode.toString(8)}`)
    mkdirSync(open)
    chmodSync(open, mode)
    const error = await server(t, join(open, 'c.sock')).catch((thrown: unknown) => thrown)
    t.type(error, ControlError)
    t.match((error as Error).message, /others than its owner may write there; chmod go-w/)
    t.notOk(existsSync(join(open, 'c.sock')))
  }
  const gone = await ask(join(directory, 'none.sock'), { verb: 'status' }).catch((thrown: Error) => thrown.message)
  t.match(gone, /no such socket: is the gateway running/)
})

t.test('other users: kept out, or named as the kernel knows them', { skip: ROOT }, async (t) => {
  const directory = scratch(t)
  const path = join(directory, 'c.sock')
  const askers: unknown[] = []
  await server(t, path, async (...args: unknown[]) => {
    askers.push(args[1])
    return { ok: true, result: {} }
  })
  chmodSync(directory, 0o755)
  const nobody = 65534
  const say = `
    const socket = require('net').connect(${JSON.stringify(path)}, () => socket.write('{"verb":"status","user":"root"}\\n'))
    socket.on('error', (error) => { console.log(error.code); process.exit() })
    socket.on('data', (data) => { console.log(String(data).trim()); process.exit() })`
  const as = async (gid: number): Promise<string> => {
    const options = { uid: nobody, gid, cwd: '/', encoding: 'utf8', timeout: 10_000 } as const
    const { stdout } = await promisify(execFile)(process.execPath, ['-e', say], options)
    return stdout.trim()
  }
  t.equal(await as(nobody), 'EACCES', 'not of the group')
  chownSync(path, 0, nobody)
  t.equal(await as(nobody), '{"ok":true,"result":{}}')
  t.same(askers, [{ user: 'nobody', source: 'kernel' }], 'whatever it says of itself')
})

t.test('hostile clients: garbage, slow, many, silent', async (t) => {
  const path = join(scratch(t), 'c.sock')
  let answered = 0
  await server(
    t,
    path,
    async () => {
      answered++
      return { ok: true, result: {} }
    },
    1500,
  )
  /** Sends, and gives all that came until the end. */
  const exchange = (bytes: Buffer | string, half = true): Promise<string> =>
    new Promise((resolve) => {
      const socket = net.connect(path)
      let text = ''
      socket.on('data', (chunk) => {
        text += chunk
      })
      socket.on('error', () => {})
      socket.on('close', () => resolve(text))
      socket.write(bytes)
      if (half) socket.end()
    })
  const garbage: (string | Buffer)[] = [
    '\n',
    '{}\n',
    'null\n',
    '[]\n',
    '"x"\n',
    Buffer.from([0, 255, 254, 10]),
    '{"verb":"status"\n',
    '{"verb":"explode"}\n',
    '{"verb":"status","more":1}\n',
    '{"verb":"rollback","conduits":["C1"]}\n',
    '{"verb":"rollback","conduits":["C1"],"reason":"  "}\n',
    '{"verb":"rollback","conduits":["C1"],"reason":"a\\u001b[2Jb"}\n',
    '{"verb":"rollback","conduits":[],"reason":"x"}\n',
    '{"verb":"cutover","conduits":["C1"],"reason":"x","at":"02:00"}\n',
    '{"verb":"cutover","conduits":["C1"],"reason":"x","watch_minutes":-1}\n',
    '{"verb":"cutover","conduits":["C1"],"reason":"x","watch_minutes":1e300}\n',
    '{"verb":"cutover","conduits":["C1"],"reason":"x","baseline":"relative"}\n',
    `{"verb":"reload","reason":"${'x'.repeat(501)}"}\n`,
    `${'x'.repeat(20_000)}`,
    `${'['.repeat(15_000)}\n`,
    Buffer.alloc(1 << 20, 120),
  ]
  for (const bytes of garbage) {
    const text = await exchange(bytes)
    t.match(JSON.parse(text), { ok: false, error: /^not a request: / }, bytes.toString('latin1', 0, 60))
    t.equal(text.split('\n').length, 2, 'one answer, and the end')
  }
  t.equal(answered, 0)
  t.equal(await exchange(''), '', 'nothing said, nothing answered')
  t.equal(await exchange('{"verb":"sta'), '', 'half a request')
  // Split at each byte, several in one write, and all are answered in order.
  const line = '{"verb":"status","id":7}\n'
  const split = new Promise<string>((resolve) => {
    const socket = net.connect(path)
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk
    })
    socket.on('close', () => resolve(text))
    void (async () => {
      for (const byte of line) {
        socket.write(byte)
        await new Promise(setImmediate)
      }
      socket.end(line.repeat(5))
    })()
  })
  t.equal(await split, '{"id":7,"ok":true,"result":{}}\n'.repeat(6))

  // Eight that say nothing are all that one user gets; they are let go, and then there is room again.
  const silent = Array.from({ length: 8 }, () => net.connect(path))
  for (const socket of silent) socket.on('error', () => {})
  await Promise.all(silent.map((socket) => new Promise((resolve) => socket.once('connect', resolve))))
  t.match(await ask(path, { verb: 'status' }), { ok: false, error: /too many connections/ })
  const ended = silent.map((socket) => new Promise((resolve) => socket.once('close', resolve)))
  for (const socket of silent) socket.resume()
  // One trickles: a byte now and then does not keep it alive.
  const trickle = setInterval(() => silent[0].write('{'), 400)
  t.teardown(() => clearInterval(trickle))
  await Promise.all(ended)
  t.equal((await ask(path, { verb: 'status' })).ok, true)
})

t.test('a client that does not read its answer is let go', async (t) => {
  const path = join(scratch(t), 'c.sock')
  const long = 'x'.repeat(4 << 20)
  await server(t, path, async () => ({ ok: true, result: { long } }), 1500)
  const socket = net.connect(path)
  socket.on('error', () => {})
  await new Promise((resolve) => socket.once('connect', resolve))
  socket.pause()
  socket.write('{"verb":"status"}\n')
  t.match(await ask(path, { verb: 'status' }), { ok: true }, 'others are answered meanwhile')
  await sleep(2000)
  socket.resume()
  const length = await new Promise<number>((resolve) => {
    let bytes = 0
    socket.on('data', (chunk) => {
      bytes += chunk.length
    })
    socket.on('close', () => resolve(bytes))
  })
  t.ok(length < long.length, 'cut off')
})
