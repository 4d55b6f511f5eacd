/**
 * The baseline of OPC UA that a gateway keeps while it monitors: real clients and a real server, inspected and
 * terminated, over restarts; and, without sockets, that it costs no memory and is the same however the bytes come.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AttributeIds, type ClientSession, DataType, StatusCodes, Variant } from 'node-opcua'
import t, { type Test } from 'tap'
import { BaselineCollector } from '../../src/baseline/baseline.ts'
import { type BaselineFile, type BaselineOpcUa, parseBaseline } from '../../src/baseline/baseline-file.ts'
import { DRAFT_DEFAULTS, draftPolicy } from '../../src/baseline/draft.ts'
import { ingest } from '../../src/baseline/ingest.ts'
import { BaselineKeeper } from '../../src/baseline/keeper.ts'
import { LiveBaseline } from '../../src/baseline/live.ts'
import type { OpcUaTrack } from '../../src/baseline/opcua-track.ts'
import { checkPolicy } from '../../src/policy/load.ts'
import { CHUNK } from '../../src/protocols/opcua/chunk.ts'
import { REQUEST, RESPONSE } from '../../src/protocols/opcua/services.ts'
import { freePort, TRANSPORTS } from '../support/gateway.ts'
import { Headgate } from '../support/headgate.ts'
import { leastGrown } from '../support/heap.ts'
import {
  chunk,
  hello,
  openedNone,
  openNone,
  request,
  requestHeader,
  response,
  string,
  typeId,
} from '../support/opcua.ts'
import { count, numericNode, readBody, stringNode, writeBody } from '../support/opcua-bodies.ts'
import { type CellServer, client, startServer, subscribe, temporary, withSession } from '../support/opcua-peers.ts'
import { type Holder, selfSigned, trusting } from '../support/opcua-pki.ts'
import { readTurns } from '../support/pcap.ts'
import { until } from '../support/sockets.ts'
import { headgate as verbs } from '../support/verbs.ts'

const fixture = (name: string) => new URL(`../fixtures/captures/${name}`, import.meta.url).pathname

interface Site {
  directory: string
  inspected: number
  terminated: number
  document: object
}

const everybody = { from: ['127.0.0.1'], to: ['127.0.0.2'] }

async function siteOf(t: Test, io: string, cell: CellServer, own: Holder, holders: [Holder, Holder]): Promise<Site> {
  const [inspected, terminated, root] = [await freePort(), await freePort(), temporary(t)]
  const pki = trusting(root, own, holders[0], holders[1])
  const conduit = (id: string, opcua: object) => ({
    conduit_id: id,
    connects: ['CELL', 'OFFICE'],
    mode: 'monitor',
    protocols_allowed: [
      { protocol: 'OPC UA', rules: [{ name: 'sessions', ...everybody, services: ['discovery', 'session'] }], opcua },
    ],
  })
  const directory = join(root, 'kept')
  const target = `127.0.0.2:${cell.port}`
  return {
    directory,
    inspected,
    terminated,
    document: {
      zones: [
        { zone_id: 'CELL', networks: ['127.0.0.2/32'] },
        { zone_id: 'OFFICE', networks: ['127.0.0.1/32'] },
      ],
      conduits: [
        conduit('C1', { security_modes: ['None', 'Sign'] }),
        conduit('C2', { handling: 'terminate', certificates: pki }),
      ],
      gateway: {
        io,
        workers: 1,
        drain: '1s',
        baseline: { directory },
        control: { socket: join(root, 'control.sock'), state_directory: join(root, 'state') },
        listeners: [
          { conduit: 'C1', protocol: 'OPC UA', listen: `127.0.0.1:${inspected}`, target },
          { conduit: 'C2', protocol: 'OPC UA', listen: `127.0.0.1:${terminated}`, target },
        ],
      },
    },
  }
}

const kept = (directory: string): BaselineFile =>
  parseBaseline(readFileSync(join(directory, 'baseline.json'), 'utf8'), 'baseline.json')

t.test('real clients, inspected and terminated', { timeout: 120_000 }, async (t) => {
  const directory = temporary(t)
  const [own, server, holder] = await Promise.all(['gateway', 'server', 'client'].map((name) => selfSigned(name)))
  const cell = await startServer(t, directory, server, { host: '127.0.0.2', hostname: '127.0.0.2' })
  const node = (name: string) => `ns=${cell.namespace};s=Line1.${name}`
  const write = (session: ClientSession, name: string, variant: Variant) =>
    session.write({ nodeId: node(name), attributeId: AttributeIds.Value, value: { value: variant } })
  const double = (value: number) => new Variant({ dataType: DataType.Double, value })
  let clients = 0
  /** The same of each client: ten setpoints, large values both ways, a call, news, an alias, what the server refuses. */
  const work = async (mode: 'None' | 'Sign' | 'SignAndEncrypt', port: number): Promise<void> => {
    const policy = mode === 'None' ? 'None' : 'Basic256Sha256'
    const options = { mode, policy, endpointMustExist: false } as const
    const made = await client(t, directory, `live${clients++}`, holder, options)
    await withSession(made, `opc.tcp://127.0.0.1:${port}`, async (session) => {
      for (let i = 1; i <= 10; i++) t.equal(await write(session, 'Setpoint', double(i)), StatusCodes.Good)
      await session.read({ nodeId: node('Big'), attributeId: AttributeIds.Value })
      await write(session, 'Store', new Variant({ dataType: DataType.ByteString, value: Buffer.alloc(150_000, 1) }))
      const ack = { objectId: `ns=${cell.namespace};s=Line1`, methodId: `ns=${cell.namespace};s=Ack` }
      await session.call({ ...ack, inputArguments: [new Variant({ dataType: DataType.UInt32, value: 1 })] })
      const [alias] = await session.registerNodes([node('Setpoint')])
      await session.write({ nodeId: alias, attributeId: AttributeIds.Value, value: { value: double(-4.5) } })
      const { subscription, values } = subscribe(session, node('Counter'))
      await until(() => values.length >= 2, 'notifications')
      await subscription.terminate()
    })
  }
  const holds = (t: Test, row: BaselineOpcUa | undefined, times: number): void => {
    if (row === undefined) throw new Error('no row')
    const { Write, Read, Call, CreateMonitoredItems, RegisterNodes } = row.services
    t.match(Write, { requests: 12 * times, responses: 12 * times, faults: 0, malformed: 0, unread: 0, unlisted: 0 })
    t.strictSame(
      Write.nodes.map((one) => [one.node, one.attribute, one.requests, one.least, one.greatest]),
      [
        [node('Setpoint'), 'Value', 11 * times, -4.5, 10],
        [node('Store'), 'Value', times, null, null],
      ],
      'an alias counts as what it stands for',
    )
    t.match(Call.nodes, [
      { node: `ns=${cell.namespace};s=Line1`, method: `ns=${cell.namespace};s=Ack`, attribute: null, requests: times },
    ])
    t.ok(Read.nodes.some((one) => one.node === node('Big') && one.requests === times))
    t.match(CreateMonitoredItems.nodes, [{ node: node('Counter'), requests: times }])
    t.match(RegisterNodes.nodes, [{ node: node('Setpoint'), requests: times }])
    for (const [name, service] of Object.entries(row.services)) {
      t.equal(
        service.rate.seconds.reduce((sum, [events, n]) => sum + events * n, 0),
        service.requests,
        `${name}: every request is in a second of its rate`,
      )
      t.ok(service.first >= row.first && service.last <= row.last, `${name} lies within its connections`)
    }
    t.notOk(row.services.encrypted)
    t.notOk(row.services.unknown)
    t.equal(row.garbage, 0)
  }
  for (const io of TRANSPORTS) {
    const site = await siteOf(t, io, cell, own, [holder, server])
    let headgate = await Headgate.start(t, site.document)
    await work('None', site.inspected)
    await work('Sign', site.inspected)
    t.match(await headgate.stop(), { code: 0 })
    const first = kept(site.directory)
    t.equal(first.opcua.length, 1)
    const [row] = first.opcua
    holds(t, row, 2)
    t.match(row, { client: '127.0.0.1', target: '127.0.0.2', port: cell.port })
    const kinds = row.channels.map(({ policy, mode }) => `${policy} ${mode}`)
    t.strictSame(kinds.sort(), ['Basic256Sha256 Sign', 'None None'])
    t.match(row.endpoint_urls, [`opc.tcp://127.0.0.1:${site.inspected}`])
    t.match(first.sources, [{ name: /^gateway / }])
    t.strictSame(first.flows, [], 'nothing of it is taken for Modbus')

    headgate = await Headgate.start(t, site.document)
    t.match(await headgate.event('baseline.opened'), { detail: /^\d\d flows since / })
    await work('SignAndEncrypt', site.terminated)
    if (io === TRANSPORTS[0]) {
      // A cut-over asks of OPC UA what it asks of Modbus/TCP: how long, and what nobody has decided on.
      const named = ['--policy', headgate.file, '--reason', 'a test']
      const [none, nothing] = [join(directory, 'none.jsonl'), '0s']
      writeFileSync(none, '')
      const analyzed = ['analyze', none, '--policy', headgate.file, '--min-baseline', nothing]
      const [refused, listed] = verbs([
        ['cutover', 'C1', ...named],
        [...analyzed, '--format', 'json'],
      ])
      t.match(refused, { code: 1, err: /C1 baseline: the baseline spans 0\.0 days, expected 14 days\n/ })
      t.match(refused.err, /C1 decide: D\d rare-write: .*Write of ns=\d;s=Line1\.Store, seen 2 times in all\n/)
      t.match(refused.err, /C1 decide: D\d rare-write: .*Call of ns=\d;s=Line1\/ns=\d;s=Ack, seen 2 times in all\n/)
      const { decide } = JSON.parse(listed.out) as { decide: { id: string }[] }
      const [applied] = verbs([[...analyzed, '--apply', ...decide.map(({ id }) => id)]])
      t.match(applied.err, /2 rules added/)
      t.match(await headgate.hangUp(), { event: 'policy.loaded' })
      const [done] = verbs([['cutover', 'C1', '--min-baseline', '0', ...named]])
      t.match(done, { code: 0, out: /C1: enforces/ })
      const made = await client(t, directory, 'enforced', holder, {
        mode: 'None',
        policy: 'None',
        endpointMustExist: false,
      })
      await withSession(made, `opc.tcp://127.0.0.1:${site.inspected}`, async (session) => {
        const bytes = new Variant({ dataType: DataType.ByteString, value: Buffer.alloc(10) })
        t.equal(await write(session, 'Store', bytes), StatusCodes.Good, 'what was accepted')
        await t.rejects(write(session, 'Setpoint', double(1)), /BadUserAccessDenied/, 'and no other node')
      })
    }
    t.match(await headgate.stop(), { code: 0 })
    const second = kept(site.directory)
    t.equal(second.opcua.length, 1)
    holds(t, second.opcua[0], 3)
    t.equal(second.first, first.first)
    t.equal(second.sources.length, 1, 'a restart is no pause')
    t.ok(second.opcua[0].channels.some((one) => one.mode === 'SignAndEncrypt' && one.opened > 0))

    // What is learned in operation drafts a policy like what is learned from a capture.
    for (const [baseline, handling] of [
      [first, 'inspect'],
      [second, 'terminate'],
    ] as const) {
      const { text, decide } = draftPolicy(baseline, DRAFT_DEFAULTS)
      const { policy, findings } = checkPolicy('draft.yaml', Buffer.from(text))
      t.strictSame(
        findings.filter((one) => one.severity === 'error'),
        [],
      )
      const [protocol] = policy?.conduits[0].protocols ?? []
      t.match(protocol, {
        kind: 'opcua',
        handling,
        securityModes: handling === 'terminate' ? ['Sign', 'SignAndEncrypt'] : ['None', 'Sign'],
      })
      const kinds = ['rare-write', 'rare-write', ...(handling === 'terminate' ? ['opaque'] : [])]
      t.strictSame(
        decide.map((one) => one.kind).sort(),
        kinds.sort(),
        'the large value, the call, and the channel in clear',
      )
      t.match(text, /nodes:\n +- ns=\d;s=Line1\.Setpoint\n +attributes: \[ Value \]/)
    }
  }
})

const START = 1.7e15

/** What a live baseline has, all of it. */
function taken(baseline: LiveBaseline) {
  const rows = []
  while (baseline.stirred) rows.push(...baseline.take(64).opcua)
  return rows
}

function openTrack(baseline: LiveBaseline, whole = true): OpcUaTrack {
  baseline.clock[0] = START
  const track = baseline.opcua.open(1n, 2n, 4840, whole)
  if (track === null) throw new Error('no room')
  return track
}

/** Of each service: requests, responses, faults, malformed and unread ones, and nodes with how often. */
function summary(rows: ReturnType<typeof taken>): Record<string, unknown[]> {
  const all: Record<string, unknown[]> = {}
  const nodes: Record<string, Record<string, number>> = {}
  for (const { services } of rows) {
    for (const [name, one] of Object.entries(services)) {
      const counts = [one.requests, one.responses, one.faults, one.malformed, one.unread, one.unlisted]
      const before = (all[name] ?? counts.map(() => 0)) as number[]
      all[name] = counts.map((n, i) => n + before[i])
      nodes[name] ??= {}
      for (const { node, method, attribute, requests } of one.nodes) {
        const key = [node, method, attribute].join(' ')
        nodes[name][key] = (nodes[name][key] ?? 0) + requests
      }
    }
  }
  for (const [name, list] of Object.entries(nodes)) all[name].push(list)
  return all
}

t.test('the same as of a capture, however the bytes come', async (t) => {
  for (const name of ['opcua-none.pcap', 'opcua-read.pcap', 'opcua-encrypted.pcap']) {
    const collector = new BaselineCollector()
    await ingest(fixture(name), collector, { ports: [502], opcuaPorts: [4840], anyPort: false })
    const [expected] = collector.toFile().opcua
    const whole: Record<string, unknown[]> = {}
    for (const [service, one] of Object.entries(expected.services)) {
      const counts = [one.requests, one.responses, one.faults, one.malformed, one.unread, one.unlisted]
      const nodes = one.nodes.map((each) => [[each.node, each.method, each.attribute].join(' '), each.requests])
      whole[service] = [...counts, Object.fromEntries(nodes)]
    }
    for (const size of [1, 7, 61, 1448, 65_536]) {
      const baseline = new LiveBaseline()
      for (const turns of readTurns(fixture(name), 4840)) {
        const track = openTrack(baseline)
        for (const { fromClient, payload } of turns) {
          for (let at = 0; at < payload.length; at += size) {
            const buf = Uint8Array.from(payload.subarray(at, at + size))
            track.sawBytes(fromClient, buf, 0, buf.length)
            buf.fill(0x55)
          }
        }
        track.close()
      }
      t.strictSame(summary(taken(baseline)), whole, `${name} in pieces of ${size}`)
    }
  }
})

/** A channel of the policy None, opened. */
function opened(baseline: LiveBaseline): OpcUaTrack {
  const track = openTrack(baseline)
  const steps: [boolean, Buffer][] = [
    [true, hello()],
    [true, openNone(1, 1)],
    [false, openedNone(1, 1, 7, 1)],
  ]
  for (const [fromClient, bytes] of steps) track.sawBytes(fromClient, bytes, 0, bytes.length)
  return track
}

t.test('a message that was seen before costs no memory', async (t) => {
  const baseline = new LiveBaseline()
  const track = opened(baseline)
  const nodes = Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? stringNode(2, `Line1.Tag${i}`) : numericNode(3, i)))
  const place = { sequence: 51, request: 51 }
  const up = [
    request(REQUEST.Read, place, readBody(nodes)),
    request(REQUEST.Write, place, writeBody(nodes.slice(0, 5), 70)),
    request(REQUEST.Publish, place, count(0)),
  ].map((bytes) => new Uint8Array(bytes))
  const down = [RESPONSE.Read, RESPONSE.Write, RESPONSE.Publish].map(
    (id) => new Uint8Array(response(id, place, Buffer.alloc(400))),
  )
  const round = (messages: number): void => {
    for (let i = 0; i < messages; i++) {
      const n = i % 3
      // Every seventh comes in two pieces.
      const cut = i % 7 === 0 ? 60 : 0
      if (cut > 0) track.sawBytes(true, up[n], 0, cut)
      track.sawBytes(true, up[n], cut, up[n].length)
      track.sawBytes(false, down[n], 0, down[n].length)
      baseline.clock[0] += 13
    }
  }
  round(50_000)
  const least = leastGrown(() => round(100_000))
  t.ok(least < 400_000, `${least} bytes for 200,000 messages`)
  const { Read, Write, Publish } = summary(taken(baseline)) as Record<string, number[]>
  t.equal(Read[0] + Write[0] + Publish[0], 550_000)
  t.equal(Read[1] + Write[1] + Publish[1], 550_000, 'each is answered')
  t.equal(Object.keys(Read[6]).length, 20)
  t.notOk(baseline.stirred, 'all is taken')
})

t.test('of nodes there are no more than there is room for, and what had none is counted', async (t) => {
  const baseline = new LiveBaseline()
  const track = opened(baseline)
  const place = { sequence: 52, request: 52 }
  const saw = (bytes: Buffer): void => track.sawBytes(true, bytes, 0, bytes.length)
  for (let from = 0; from < 2500; from += 100) {
    const nodes = Array.from({ length: 100 }, (_, i) => numericNode(2, from + i))
    saw(request(REQUEST.Write, place, writeBody(nodes)))
  }
  saw(request(REQUEST.Read, place, readBody([stringNode(2, 'x'.repeat(2000)), numericNode(0, 2258)])))
  const rows = taken(baseline)
  t.ok(rows.length > 30, 'taken some at a time')
  const { Write, Read } = summary(rows) as Record<string, number[]>
  t.strictSame([Write[0], Write[5], Object.keys(Write[6]).length], [25, 500, 2000])
  t.strictSame([Read[5], Object.keys(Read[6])], [1, ['i=2258  ']], 'nor names that no rule can have')
})

t.test('what cannot be read is said', async (t) => {
  const baseline = new LiveBaseline()
  const track = opened(baseline)
  const saw = (bytes: Buffer, fromClient = true): void => track.sawBytes(fromClient, bytes, 0, bytes.length)
  let id = 60
  const place = () => ({ sequence: ++id, request: id })
  const node = [stringNode(2, 'a')]
  saw(request(REQUEST.Write, place(), writeBody(node).subarray(0, -3)))
  saw(request(REQUEST.Write, place(), Buffer.concat([writeBody(node), Buffer.from([0])])))
  const half = request(REQUEST.Write, place(), writeBody(node))
  saw(half.subarray(0, 80))
  track.lose(true, half.length - 80)
  const parts = writeBody([stringNode(2, 'b'), stringNode(2, 'c')])
  const at = place()
  const begin = Buffer.concat([typeId(REQUEST.Write), requestHeader(1), parts.subarray(0, 10)])
  saw(chunk('MSGC', at, begin))
  saw(chunk('MSGF', { ...at, sequence: ++id }, parts.subarray(10)))
  const taken_ = place()
  saw(chunk('MSGC', taken_, begin))
  saw(chunk('MSGA', { ...taken_, sequence: ++id }, Buffer.concat([count(0), string(null)])))
  const faulty = place()
  saw(request(REQUEST.Call, faulty, count(0)))
  saw(response(RESPONSE.Call, faulty, Buffer.alloc(8), 0, 0x80ab0000), false)
  const { Write, Call } = summary(taken(baseline)) as Record<string, number[]>
  t.strictSame(Write.slice(0, 6), [5, 0, 0, 2, 1, 0], 'two malformed, one of which a part is missing')
  t.strictSame(Write[6], { 'ns=2;s=b  Value': 1, 'ns=2;s=c  Value': 1 }, 'what was taken back names nothing')
  t.strictSame(Call.slice(0, 3), [1, 0, 1], 'a service result that is bad is a fault')

  // As a session that terminates shows its messages.
  const other = new LiveBaseline()
  const shown = openTrack(other)
  shown.sawChannel('Basic256Sha256', 'SignAndEncrypt', 'opc.tcp://here')
  const body = Buffer.concat([typeId(REQUEST.Write), requestHeader(1), parts])
  shown.sawChunk(true, 9, CHUNK.intermediate, body, 0, 20, null)
  shown.sawChunk(true, 9, CHUNK.final, body, 20, body.length, null)
  const rows = taken(other)
  t.match(rows, [{ channels: [{ policy: 'Basic256Sha256', mode: 'SignAndEncrypt', opened: 1 }] }])
  t.strictSame(summary(rows).Write, [1, 0, 0, 0, 0, 0, { 'ns=2;s=b  Value': 1, 'ns=2;s=c  Value': 1 }])
})

t.test('whatever comes, it keeps to its bounds, its schema, and to what a policy may say', async (t) => {
  // A linear congruential generator: each run the same.
  let seed = 7
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
    return Math.floor((seed / 2 ** 32) * below)
  }
  const all = ['opcua-none.pcap', 'opcua-read.pcap', 'opcua-encrypted.pcap'].flatMap((name) =>
    readTurns(fixture(name), 4840),
  )
  const directory = temporary(t)
  const keeper = new BaselineKeeper(
    directory,
    'test',
    () => true,
    () => {},
  )
  await keeper.open()
  const baseline = new LiveBaseline()
  for (let round = 0; round < 400; round++) {
    baseline.clock[0] = START + round * 1e5
    const track = baseline.opcua.open(BigInt(random(3)), BigInt(9 + random(2)), 4840, random(2) === 0)
    if (track === null) throw new Error('no room')
    for (const { fromClient, payload } of all[random(all.length)]) {
      const bytes = Uint8Array.from(payload)
      for (let n = random(4); n > 0; n--) bytes[random(bytes.length)] ^= random(3) === 0 ? random(256) : 1 << random(8)
      if (random(50) === 0) track.lose(fromClient, 5)
      for (let at = 0; at < bytes.length; ) {
        const piece = bytes.slice(at, at + 1 + random(random(4) === 0 ? 10 : 2000))
        at += piece.length
        track.sawBytes(random(300) === 0 ? !fromClient : fromClient, piece, 0, piece.length)
      }
      if (random(3) > 0) continue
      const from = random(bytes.length)
      const to = from + random(bytes.length - from + 1)
      track.sawChunk(fromClient, random(9), Object.values(CHUNK)[random(3)], bytes, from, to, null)
    }
    track.close()
    if (round % 40 === 0) while (baseline.stirred) keeper.take(0, baseline.take(64))
  }
  while (baseline.stirred) keeper.take(0, baseline.take(64))
  await keeper.close()
  const file = kept(directory)
  t.ok(file.opcua.length >= 6)
  const { text } = draftPolicy(file, DRAFT_DEFAULTS)
  const { findings } = checkPolicy('draft.yaml', Buffer.from(text))
  t.strictSame(
    findings.filter((one) => one.severity === 'error'),
    [],
  )
})

t.test('met in the middle of a signed channel: the length of its signatures is found', async (t) => {
  const baseline = new LiveBaseline()
  const track = openTrack(baseline, false)
  const place = { sequence: 900, request: 900 }
  for (let i = 0; i < 3; i++) {
    const bytes = request(REQUEST.Write, place, writeBody([stringNode(2, 'a')]), 32)
    track.sawBytes(true, bytes, 0, bytes.length)
  }
  const rows = taken(baseline)
  t.match(rows[0].channels, [{ policy: 'unknown', mode: 'in clear' }])
  t.strictSame(summary(rows).Write, [3, 0, 0, 0, 0, 0, { 'ns=2;s=a  Value': 3 }])
})
