/** OPC UA out of captures: counted as tshark counts it, drafted by service, replayed through the session that inspects. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { assess, isAbout } from '../../src/baseline/assess.ts'
import { BaselineCollector } from '../../src/baseline/baseline.ts'
import { type BaselineFile, mergeBaselines, parseBaseline, requestsOf } from '../../src/baseline/baseline-file.ts'
import { openDecisions } from '../../src/baseline/decisions.ts'
import { DRAFT_DEFAULTS, draftPolicy } from '../../src/baseline/draft.ts'
import { ingest } from '../../src/baseline/ingest.ts'
import { patchPolicy } from '../../src/baseline/patch.ts'
import { Replay } from '../../src/baseline/replay.ts'
import { baselineView, normalTraffic } from '../../src/gateway/rollout/baseline.ts'
import { checks } from '../../src/gateway/rollout/checks.ts'
import { Ledger } from '../../src/gateway/rollout/ledger.ts'
import { checkPolicy } from '../../src/policy/load.ts'
import type { Policy } from '../../src/policy/model.ts'
import { functionOfName, SERVICES } from '../../src/protocols/opcua/services.ts'
import {
  callBody,
  nodesBody,
  numericNode,
  OpcUaClient,
  readBody,
  stringNode,
  writeBody,
} from '../support/opcua-bodies.ts'
import { readTurns } from '../support/pcap.ts'
import { Connection, type Packet, pcapFile } from '../support/traffic.ts'
import { headgate } from '../support/verbs.ts'

const directory = mkdtempSync(join(tmpdir(), 'headgate-opcua-'))
t.teardown(() => rmSync(directory, { recursive: true, force: true }))
const fixture = (name: string) => new URL(`../fixtures/captures/${name}`, import.meta.url).pathname
/** Messages by type id, as tshark reads them; test/protocols/opcua/captures.test.ts holds the list to tshark itself. */
const ORACLE: Record<string, Record<string, number>> = JSON.parse(readFileSync(fixture('opcua-services.json'), 'utf8'))
const OPTIONS = { ports: [502], opcuaPorts: [4840], anyPort: false }

let number = 0
function capture(packets: Packet[]): string {
  const file = join(directory, `${number++}.pcap`)
  writeFileSync(file, pcapFile([...packets].sort((a, b) => a.us - b.us)))
  return file
}

async function learn(file: string, options = OPTIONS): Promise<BaselineFile> {
  const collector = new BaselineCollector()
  const source = await ingest(file, collector, options)
  return {
    ...collector.toFile(),
    sources: [{ name: file, packets: source.packets, bytes: 0, first: null, last: null, notes: source.notes }],
  }
}

/** Services by name, without those of the channel, which tshark reads on None alone. */
function counted(baseline: BaselineFile): Record<string, number> {
  const sum: Record<string, number> = {}
  for (const { services } of baseline.opcua) {
    for (const [name, { requests }] of Object.entries(services)) {
      if (!/SecureChannel$|^encrypted$/.test(name)) sum[name] = (sum[name] ?? 0) + requests
    }
  }
  return sum
}

function expected(name: string): Record<string, number> {
  const rows = SERVICES.filter((one) => one.group !== 'channel' && ORACLE[name][one.request] !== undefined)
  return Object.fromEntries(rows.map((one) => [one.name, ORACLE[name][one.request]]))
}

const START = 1_700_000_000_000_000

/** The same bytes between two hosts of their own: in the captures client and server share one. */
function apart(name: string, port = 4840): Packet[] {
  const packets: Packet[] = []
  for (const [n, turns] of readTurns(fixture(name), 4840).entries()) {
    const client = { host: '10.30.1.20', port: 41000 + n }
    const one = new Connection(packets, client, { host: '10.20.1.5', port }, START + n * 1e6).open()
    for (const { fromClient, payload } of turns) {
      for (let at = 0; at < payload.length; at += 1400) one.bytes(fromClient, payload.subarray(at, at + 1400))
    }
    one.close()
  }
  return packets
}

function policyOf(text: string): Policy {
  const { policy, findings } = checkPolicy('policy.yaml', Buffer.from(text))
  if (policy === null) throw new Error(`${JSON.stringify(findings)}\n${text}`)
  return policy
}

async function replay(policy: Policy, file: string, other: Policy | null = null): Promise<Replay> {
  const sink = new Replay(policy, other)
  await ingest(file, sink, OPTIONS)
  return sink
}

for (const name of Object.keys(ORACLE)) {
  t.test(`${name}: as tshark counts it`, async (t) => {
    const baseline = await learn(fixture(name))
    t.strictSame(counted(baseline), expected(name))
    t.strictSame(parseBaseline(JSON.stringify(baseline), 'x'), baseline, 'the file keeps to its own schema')
    const byContent = await learn(capture(apart(name, 51_210)), { ports: [502], opcuaPorts: [], anyPort: true })
    t.strictSame(counted(byContent), expected(name), 'found by its content, on a port of its own')
    t.strictSame(byContent.flows, [], 'and not taken for Modbus')
    t.match(byContent.opcua, [{ client: '10.30.1.20', target: '10.20.1.5', port: 51_210 }])
    const twice = mergeBaselines(baseline, baseline)
    t.equal(twice.opcua.length, baseline.opcua.length)
    t.equal(twice.opcua[0].responses, 2 * baseline.opcua[0].responses)
  })
}

t.test('what the channels were', async (t) => {
  const kinds = async (name: string) => (await learn(capture(apart(name)))).opcua[0]
  const none = await kinds('opcua-none.pcap')
  t.strictSame(none.channels, [{ policy: 'None', mode: 'None', opened: 2, requests: 27 }])
  t.match(none.endpoint_urls, [/^opc\.tcp:\/\//])
  const encrypted = await kinds('opcua-encrypted.pcap')
  t.match(encrypted.channels, [
    { policy: 'None', mode: 'None' },
    { policy: /^(Basic|Aes)/, mode: 'SignAndEncrypt' },
  ])
  t.ok(encrypted.services.encrypted.requests > 0)
})

t.test('met in the middle, and with a hole: what can be read is read, the rest is counted', async (t) => {
  const packets = apart('opcua-read.pcap')
  const whole = (await learn(capture(packets))).opcua[0]
  const late = await learn(capture(packets.slice(Math.floor(packets.length / 2))))
  t.match(late.opcua[0].channels, [{ policy: 'unknown', mode: 'in clear' }])
  const [half, all] = [late.opcua[0], whole].map((row) => row.services.Read.requests)
  t.ok(half > 0 && half < all, `${half} reads of ${all}`)
  t.match(late.sources[0].notes.join(), /1 connection whose beginning is not in the capture/)
  // A client's segment is missing: its requests, and no more.
  const asked = packets.findIndex((one, i) => i > packets.length / 2 && one.bytes.length > 100)
  const holed = await learn(capture(packets.filter((_, i) => i !== asked)))
  t.match(holed.sources[0].notes.join(), /1 gap in TCP streams/)
  t.equal(holed.opcua[0].gapBytes > 0, true)
  const messages = (row: BaselineFile['opcua'][number]) => requestsOf(row, Object.keys(row.services)) + row.responses
  t.equal(messages(holed.opcua[0]), messages(whole) - 1, 'one message of one segment')
})

t.test('a draft allows what it may, and its replay denies decide items alone', async (t) => {
  for (const name of Object.keys(ORACLE)) {
    const file = capture(apart(name))
    const baseline = await learn(file)
    const { text, decide } = draftPolicy(baseline)
    const { policy, findings } = checkPolicy('draft.yaml', Buffer.from(text))
    t.strictSame(
      findings.filter((one) => one.severity === 'error'),
      [],
      `${name}: check has no error`,
    )
    const { groups, counts } = (await replay(policy as Policy, file)).result()
    const surprises = groups.filter(
      (group) => group.verdict === 'denied' && !decide.some((item) => isAbout(item, group)),
    )
    t.strictSame(surprises, [], `${name}: nothing but decide items is denied`)
    t.ok(counts.allowed > 0, `${name}: ${counts.allowed} allowed`)
    for (const item of decide) t.match(text, `# decide ${item.id} ${item.kind}: `)
  }
  const { text, decide } = draftPolicy(await learn(capture(apart('opcua-none.pcap'))))
  t.strictSame(
    decide.map((one) => [one.kind, one.services]),
    [
      ['rare-write', ['Write']],
      ['rare-write', ['Call']],
      ['program', ['AddNodes']],
    ],
  )
  t.match(text, /address: 10\.20\.1\.5, role: opcua-server/)
  t.match(text, /# \d+ requests in .*: Publish 11, /)
  t.match(text, /security_modes: \[ None \]\n +security_policies: \[ None \]/)
  t.match(draftPolicy(await learn(capture(apart('opcua-encrypted.pcap')))).decide, [
    { kind: 'opaque', services: ['encrypted'] },
  ])
})

t.test('decided: a rule settles an item, and a patch does not list it again', async (t) => {
  const baseline = await learn(capture(apart('opcua-none.pcap')))
  const { text } = draftPolicy(baseline)
  const lines = text.split('\n')
  const at = lines.findIndex((line) => line.includes('#- name: D1'))
  const chosen = lines
    .map((line, i) => (i >= at && /^ *#[- ] ?\s*[-\w]/.test(line) && i < at + 4 ? line.replace('#', '') : line))
    .join('\n')
  const policy = policyOf(chosen)
  const kinds = (list: { services?: string[] }[]) => list.map((one) => one.services?.join())
  t.strictSame(kinds(openDecisions(policyOf(text), baseline, [])), ['Write', 'Call', 'AddNodes'])
  t.strictSame(kinds(openDecisions(policy, baseline, [])), ['Call', 'AddNodes'])
  t.strictSame(kinds(patchPolicy(chosen, policy, baseline, DRAFT_DEFAULTS).decide), ['Call', 'AddNodes'])
  t.equal(assess(baseline, { rare: 0 }).decide.length, 1, 'where no write is rare, the address space is left')
  const file = capture(apart('opcua-none.pcap'))
  const changed = (await replay(policy, file, policyOf(text))).differences()
  t.match(changed, [{ before: 'denied', after: 'allowed', service: 'Write', count: 2 }])
})

t.test('a patch adds services to the conduit that there is', async (t) => {
  const baseline = await learn(capture(apart('opcua-none.pcap')))
  const mine = `# by hand
zones:
  - { zone_id: A, networks: [10.20.0.0/16] }
  - { zone_id: B, networks: [10.30.0.0/16] }
conduits:
  - conduit_id: C
    connects: [A, B]
    protocols_allowed:
      - protocol: OPC UA # the MES
        rules:
          - { name: looking, from: [B], to: [A], services: [discovery, session, browse] }
        opcua: { security_modes: [None], security_policies: [None] }
`
  const { text, added, decide } = patchPolicy(mine, policyOf(mine), baseline, DRAFT_DEFAULTS)
  t.equal(added.length, 1)
  t.match(text, /# learned: \d+ requests in .*Publish 11/)
  t.match(text, /services: \[ Publish, (\w+, )*Read(, \w+)* \]|services: \[ [^\]]*Read[^\]]* \]/)
  t.notMatch(text.slice(mine.indexOf('looking') + 100), /CreateSession/, 'what is allowed is not added again')
  t.equal(text.split('\n').filter((line) => mine.split('\n').includes(line)).length, mine.split('\n').length)
  t.strictSame(
    decide.map((one) => one.services?.join()),
    ['Write', 'Call', 'AddNodes'],
  )
  t.equal(
    patchPolicy(text, policyOf(text), baseline, DRAFT_DEFAULTS).text,
    text,
    'a second time there is nothing to add',
  )
})

t.test('the command line says it', async (t) => {
  const file = capture(apart('opcua-none.pcap'))
  const draft = join(directory, 'draft.yaml')
  const [learned, replayed, json] = headgate([
    ['learn', '--pcap', file, '-o', draft],
    ['replay', draft, '--pcap', file],
    ['replay', draft, '--pcap', file, '--format', 'json'],
  ])
  t.match(learned.err, /33 OPC UA requests of 1 pair of client and server\n/)
  t.equal(replayed.code, 1)
  t.match(replayed.out, /4 {2}HIST-01 \(10\.30\.1\.20\) -> OPC-01 \(10\.20\.1\.5\) AddNodes\n/)
  t.match(JSON.parse(json.out), { counts: { requests: 35, denied: 7, allowed: 28 } })
  const middle = capture(apart('opcua-none.pcap').slice(8))
  const torn = apart('opcua-none.pcap')
  torn.splice(20, 1)
  const [half, most] = headgate([
    ['replay', draft, '--pcap', middle],
    ['replay', draft, '--pcap', capture(torn), '--compare', draft],
  ])
  const said = /1 OPC UA connection not judged from a gap on, or for want of a beginning/g
  t.match(half.out, said)
  t.notMatch(half.out, /message/)
  t.equal(most.out.match(said)?.length, 2, 'said of both policies')
})

const tag = (name: string): Buffer => stringNode(2, `Line1.${name}`)
const [SETPOINT, RARE, LONG] = [tag('Setpoint'), tag('Rare'), stringNode(2, 'x'.repeat(400))]
const [LINE, ACK, RESET] = [stringNode(2, 'Line1'), stringNode(2, 'Ack'), stringNode(2, 'Reset')]

/** A capture of what `work` asks. */
function session(work: (client: OpcUaClient) => void, reverse = false): string {
  const packets: Packet[] = []
  const client = new OpcUaClient(packets, undefined, undefined, reverse)
  client.ask('CreateSession', Buffer.alloc(0)).ask('ActivateSession', Buffer.alloc(0))
  work(client)
  client.close()
  return capture(packets)
}

const textOf = (rule: object): string => JSON.stringify(rule)

t.test('nodes: what was written and called often is allowed, each by name; the rest is decided on', async (t) => {
  const file = session((client) => {
    for (let i = 0; i < 12; i++) {
      client.ask('Write', writeBody([SETPOINT], i - 2)).ask('Read', readBody([tag('Speed'), numericNode(0, 2258)]))
      client.ask('Write', writeBody([1003, 1001, 1002, 1005].map((id) => numericNode(3, id))))
      client.ask('Write', writeBody([SETPOINT], 1, 4)).ask('Call', callBody([[LINE, ACK]]))
      client.ask('Write', writeBody([LONG]))
    }
    client.ask('Write', writeBody([SETPOINT, RARE], 7)).ask('Write', writeBody([tag('Other')]))
    client.ask('Call', callBody([[LINE, RESET]])).ask('Write', writeBody([SETPOINT]).subarray(0, -4))
    client.ask('RegisterNodes', nodesBody([tag('Alias')]), nodesBody([numericNode(9, 77)]))
    for (let i = 0; i < 10; i++) client.ask('Write', writeBody([numericNode(9, 77)]))
  })
  const baseline = await learn(file)
  const { text, decide } = draftPolicy(baseline)
  const policy = policyOf(text)
  const rules = policy.conduits[0].protocols.flatMap((one) => (one.kind === 'opcua' ? one.rules : []))
  t.strictSame(
    rules.map(({ name, nodes, attributes, methods }) => [
      name,
      nodes?.map((one) => one.text) ?? null,
      attributes,
      methods?.map((one) => one.text) ?? null,
    ]),
    [
      ['HMI-01 reads OPC-01', null, null, null],
      [
        'HMI-01 writes OPC-01',
        ['ns=3;i=1001-1003', 'ns=3;i=1005', 'ns=2;s=Line1.Alias', 'ns=2;s=Line1.Setpoint'],
        [13],
        null,
      ],
      ['HMI-01 writes OPC-01 (2)', ['ns=2;s=Line1.Setpoint'], [4], null],
      ['HMI-01 calls methods of OPC-01', null, null, ['ns=2;s=Line1/ns=2;s=Ack']],
    ],
    'numbers in a row are a range, nothing is made wider, an alias is what it stands for',
  )
  const [{ services }] = baseline.opcua
  const busiest = Math.ceil(1.5 * Object.values(services).reduce((sum, { rate }) => sum + rate.max, 0))
  t.match(policy.conduits[0].protocols[0], {
    limits: { requestsPerClientPerSecond: busiest, requestsPerTargetPerSecond: busiest, burst: 2 * busiest },
  })
  t.match(text, /# \d+ items in .*: ns=2;s=Line1\.Setpoint = -2…9 13 times, /)
  t.match(text, /# of any node; named were 1 of namespace 0, \d of namespace 2/)
  t.strictSame(
    decide.map((one) => [one.kind, one.services?.join(), one.requests]),
    [
      ['rare-write', 'Write', 1],
      ['rare-write', 'Write', 1],
      ['unlisted', 'Write', 12],
      ['rare-write', 'Call', 1],
      ['malformed', 'Write', 1],
    ],
  )
  t.match(text, /#- name: D1 .*\n.*\n.*\n.*services: \[ Write \]\n *# {2}nodes:\n *# {4}- ns=2;s=Line1\.Rare\n/)
  const { groups } = (await replay(policy, file)).result()
  const denied = groups.filter((group) => group.verdict === 'denied')
  t.strictSame(
    denied.map((one) => [one.service, one.node?.slice(0, 20) ?? null, one.method, one.reason, one.count]).sort(),
    [
      ['Call', 'ns=2;s=Line1', 'ns=2;s=Reset', 'node', 1],
      ['Write', 'ns=2;s=Line1.Other', null, 'node', 1],
      ['Write', 'ns=2;s=Line1.Rare', null, 'node', 1],
      ['Write', null, null, 'malformed', 1],
      ['Write', 'ns=2;s=xxxxxxxxxxxxx', null, 'node', 12],
    ]
      .map((row) => row.map((part) => (typeof part === 'string' ? part.slice(0, 20) : part)))
      .sort(),
  )
  for (const group of denied)
    t.ok(
      decide.some((item) => isAbout(item, group)),
      textOf(group),
    )
  t.notOk(
    decide.some((item) => isAbout(item, { ...denied[0], service: 'Call', node: 'ns=2;s=Line1', method: 'ns=2;s=New' })),
    'another method is not what was decided on',
  )

  // A rule settles the node that it names, and no other.
  const open = (document: string) =>
    openDecisions(policyOf(document), baseline, []).map((one) => one.opcua?.nodes?.[0].node)
  t.strictSame(open(text), ['ns=2;s=Line1.Rare', 'ns=2;s=Line1.Other', undefined, 'ns=2;s=Line1', undefined])
  const wider = text.replace('- ns=2;s=Line1.Alias', (line) => `${line}\n              - ns=2;s=Line1.R*`)
  t.strictSame(open(wider), ['ns=2;s=Line1.Other', undefined, 'ns=2;s=Line1', undefined], 'a pattern has it as well')
})

t.test('nodes: whatever is learned, its replay denies decide items alone', async (t) => {
  // A linear congruential generator: each run the same.
  let seed = 4711
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
    return Math.floor((seed / 2 ** 32) * below)
  }
  const node = (): Buffer => {
    const n = random(12)
    if (n < 4) return numericNode(random(2) + 1, 100 + n)
    return stringNode(2, ['a', 'b*', 'c?', 'd\\\\e', 'ns=1;i=5', 'g/ns=2;s=h', 'é', 'k;l'][n - 4])
  }
  for (let run = 0; run < 12; run++) {
    const file = session((client) => {
      for (let i = 0; i < 60; i++) {
        const nodes = Array.from({ length: 1 + random(3) }, node)
        const kind = random(4)
        if (kind === 0) client.ask('Read', readBody(nodes))
        else if (kind === 1) client.ask('Write', writeBody(nodes, random(100), random(5) === 0 ? 4 : 13))
        else if (kind === 2) client.ask('Call', callBody(nodes.map((one) => [one, node()])))
        else client.ask('RegisterNodes', nodesBody(nodes), nodesBody(nodes.map((_, n) => numericNode(8, n))))
        if (random(6) === 0) client.ask('Write', writeBody([numericNode(8, random(3))]))
      }
    })
    const rare = 1 + random(6)
    const baseline = await learn(file)
    const { text, decide } = draftPolicy(baseline, { ...DRAFT_DEFAULTS, rare })
    const { groups } = (await replay(policyOf(text), file)).result()
    const surprises = groups.filter((one) => one.verdict === 'denied' && !decide.some((item) => isAbout(item, one)))
    t.strictSame(surprises, [], `run ${run}, rare below ${rare}`)
    const again = patchPolicy(text, policyOf(text), baseline, { ...DRAFT_DEFAULTS, rare })
    t.equal(again.text, text, 'and nothing is left to add')
  }
})

t.test('analyze lists what is to be decided, --apply writes it, and comments stay', async (t) => {
  const file = session((client) => {
    for (let i = 0; i < 12; i++) client.ask('Write', writeBody([SETPOINT], i)).ask('Read', readBody([RARE]))
    for (let i = 0; i < 3; i++) client.ask('Write', writeBody([RARE, numericNode(3, 7 + i)], 5))
    client.ask('Call', callBody([[LINE, RESET]])).ask('AddNodes', Buffer.alloc(8))
  })
  const baseline = await learn(file)
  const [kept, policy, evidence] = ['kept.json', 'mine.yaml', 'none.jsonl'].map((name) => join(directory, name))
  writeFileSync(kept, JSON.stringify(baseline))
  writeFileSync(evidence, '')
  const mine = `# by hand
zones:
  - { zone_id: A, networks: [10.20.0.0/16] }
  - { zone_id: B, networks: [10.30.0.0/16] } # the MES
conduits:
  - conduit_id: C
    connects: [A, B]
    protocols_allowed:
      - protocol: OPC UA
        rules:
          # agreed in 2024
          - { name: looking, from: [B], to: [A], services: [discovery, session, read] } # and no more
        opcua: { security_modes: [None], security_policies: [None] }
`
  writeFileSync(policy, mine)
  const analyzed = ['analyze', evidence, '--policy', policy, '--baseline', kept, '--min-baseline', '0s']
  interface Listed {
    decide: { id: string; what: string; lines: string[] | null; obstacle: string | null }[]
  }
  const [first] = headgate([[...analyzed, '--format', 'json']])
  const { decide } = JSON.parse(first.out) as Listed
  const of = (what: RegExp) => decide.find((one) => what.test(one.what))
  t.equal(decide.length, 6, 'five rare ones, and the change of the address space')
  t.match(of(/Write of ns=2;s=Line1\.Rare = 5/)?.lines, [
    '- name: 10.30.1.20 writes 10.20.1.5',
    '  from: [ 10.30.1.20 ]',
    '  to: [ 10.20.1.5 ]',
    '  services: [ Write ]',
    '  nodes: [ ns=2;s=Line1.Rare ]',
    '  attributes: [ Value ]',
  ])
  const ids = [/Line1\.Rare/, /ns=3;i=7/, /ns=3;i=8/, /Reset/, /AddNodes/].map((what) => of(what)?.id ?? '')
  const [applied, again] = headgate([
    [...analyzed, '--apply', ...ids],
    [...analyzed, '--format', 'json'],
  ])
  t.match(applied.err, /3 rules added/)
  const text = readFileSync(policy, 'utf8')
  t.equal(
    text.slice(0, mine.indexOf('        opcua:')),
    mine.slice(0, mine.indexOf('        opcua:')),
    'not a byte of it changed',
  )
  t.match(text, /# accepted \d{4}-\d\d-\d\d: 5 requests in 1 s\n/)
  t.match(text, /nodes: \[ ns=3;i=7-8, ns=2;s=Line1\.Rare \]/)
  t.match(text, /methods: \[ ns=2;s=Line1\/ns=2;s=Reset \]/)
  t.strictSame(
    (JSON.parse(again.out) as Listed).decide.map((one) => one.what.slice(one.what.indexOf('Write of'))),
    ['Write of ns=3;i=9 = 5, seen once in all'],
    'what was not chosen stays open',
  )
})

t.test('who connects and asks nothing is told, and a scan as one', async (t) => {
  const packets: Packet[] = []
  const dial = (client: string, target: string) =>
    new Connection(packets, { host: client, port: 41_000 }, { host: target, port: 4840 }, START).open().close()
  dial('10.30.1.20', '10.20.1.5')
  for (let n = 1; n <= 12; n++) dial('10.30.1.99', `10.20.1.${n}`)
  const { decide } = draftPolicy(await learn(capture(packets)))
  t.match(decide, [
    { kind: 'no-request', client: '10.30.1.20', target: '10.20.1.5', why: '1 connection, and no request of OPC UA' },
    { kind: 'scan', client: '10.30.1.99', target: null, why: 'connected to 12 servers of OPC UA, and asked nothing' },
  ])
  t.equal(decide.length, 2)
  t.ok(
    isAbout(decide[1], {
      kind: 'connection',
      client: '10.30.1.99',
      target: '10.20.1.7',
      unit: null,
      function: null,
      reason: 'pair',
    }),
  )
})

t.test('reverse connect: who asks is the client, whoever opened the connection', async (t) => {
  const file = session((client) => {
    for (let i = 0; i < 12; i++) client.ask('Write', writeBody([SETPOINT], i)).ask('Read', readBody([RARE]))
    client.ask('Write', writeBody([RARE]))
  }, true)
  const baseline = await learn(file)
  t.equal(baseline.opcua.length, 1)
  t.match(baseline.opcua, [
    { client: '10.30.1.20', target: '10.20.1.5', port: 4840, opened: 1, reversed: 1, garbage: 0 },
  ])
  t.match(baseline.opcua[0].services, { Write: { requests: 13, responses: 13 }, Read: { requests: 12, responses: 12 } })
  const { text, decide } = draftPolicy(baseline)
  t.match(text, /reverse_connect:\n +- HMI-01\n/)
  const { groups, counts } = (await replay(policyOf(text), file)).result()
  t.match(
    groups.filter((one) => one.verdict === 'denied'),
    [{ service: 'Write', node: 'ns=2;s=Line1.Rare', count: 1 }],
  )
  t.equal(counts.allowed, 29)
  t.strictSame(
    decide.map((one) => one.kind),
    ['rare-write'],
  )
  t.equal(patchPolicy(text, policyOf(text), baseline, DRAFT_DEFAULTS).text, text, 'nothing is left to add')
})

t.test('learned from evidence: what its events hold, and what they do not is said', async (t) => {
  const file = join(directory, 'events.jsonl')
  const at = (s: number): string => new Date(1.77e12 + 1000 * s).toISOString()
  const pair = { conduit: 'C', protocol: 'opcua', client: '10.30.1.20', target: '10.20.1.5', target_port: 4840 }
  const channel = { security_policy: 'Basic256Sha256', security_mode: 'Sign', endpoint_url: 'opc.tcp://opc:4840' }
  const would = (s: number, service: string, more: object) => ({
    ...{ time: at(s), event: 'request.would_deny', reason: 'service', function: service, ...pair, ...channel },
    ...more,
  })
  const node = (name: string) => ({ node: `ns=2;s=${name}`, attribute: 'Value', items: 1 })
  const events = [
    { time: at(0), event: 'channel.opened', ...pair, ...channel },
    {
      time: at(0),
      event: 'channel.opened',
      ...pair,
      ...channel,
      security_mode: 'SignAndEncrypt',
      visibility: 'header only',
    },
    ...Array.from({ length: 12 }, (_, i) => would(10 * i, 'Write', node('Setpoint'))),
    would(200, 'Write', { ...node('Rare'), items: 3 }),
    would(210, 'Call', { node: 'ns=2;s=Line1', method: 'ns=2;s=Ack', items: 1 }),
    would(900, 'Read', { node: 'ns=2;s=Speed', items: 1, count: 600, first: at(300), last: at(900) }),
    would(901, 'Write', { ...node('Setpoint'), reason: 'malformed' }),
    { ...would(902, 'Read', {}), event: 'response.would_deny', reason: 'state' },
  ]
  writeFileSync(file, events.map((one) => `${JSON.stringify(one)}\n`).join(''))
  const [json, drafted] = headgate([
    ['learn', '--evidence', file, '--baseline', '-'],
    ['learn', '--evidence', file],
  ])
  t.match(json.err, /of OPC UA no event tells the answers/)
  t.match(json.err, /2 items of OPC UA are in events that stand for several, and name the node of one/)
  t.match(json.err, /1 kind of channels, connections and responses of OPC UA are left out/)
  const [row] = parseBaseline(json.out, 'learned').opcua
  t.strictSame(row.channels, [{ policy: 'Basic256Sha256', mode: 'Sign', opened: 1, requests: 15 + 600 }])
  t.match(row, { opened: 1, endpoint_urls: ['opc.tcp://opc:4840'] })
  const { Write, Read, Call } = row.services
  t.match(Write, { requests: 14, malformed: 1, unlisted: 2, responses: 0, first: at(0), last: at(901) })
  t.strictSame(
    Write.nodes.map((one) => [one.node, one.attribute, one.requests]),
    [
      ['ns=2;s=Setpoint', 'Value', 13],
      ['ns=2;s=Rare', 'Value', 1],
    ],
  )
  t.match(Read, { requests: 600, nodes: [], rate: { max: 1 } })
  t.match(Call.nodes, [{ node: 'ns=2;s=Line1', method: 'ns=2;s=Ack', requests: 1 }])
  const policy = policyOf(drafted.out)
  const [protocol] = policy.conduits[0].protocols
  t.match(protocol, {
    kind: 'opcua',
    handling: 'inspect',
    securityModes: ['Sign'],
    endpointUrls: ['opc.tcp://opc:4840'],
  })
  t.match(drafted.out, /services: \[ Write \]\n +nodes:\n +- ns=2;s=Setpoint\n/)
  t.match(
    drafted.err,
    /unlisted: .*Write of nodes that are not in the baseline: 2 items not kept or not named, 0 requests not readable/,
  )
})

t.test('what a cut-over asks of a baseline, and of what would have been denied', async (t) => {
  const file = session((client) => {
    for (let i = 0; i < 12; i++) client.ask('Write', writeBody([SETPOINT], i)).ask('Read', readBody([RARE]))
    client.ask('Call', callBody([[LINE, RESET]]))
  })
  const kept = join(directory, 'cutover.json')
  const baseline = await learn(file)
  const sources = [{ ...baseline.sources[0], first: '2026-01-01T00:00:00.000Z', last: '2026-01-08T00:00:00.000Z' }]
  writeFileSync(kept, JSON.stringify({ ...baseline, sources }))
  const document = (rules: string): Policy =>
    policyOf(`zones:
  - { zone_id: A, networks: [10.20.0.0/16], assets: [{ name: OPC-01, address: 10.20.1.5 }] }
  - { zone_id: B, networks: [10.30.0.0/16], assets: [{ name: MES-01, address: 10.30.1.20 }] }
conduits:
  - conduit_id: C
    connects: [A, B]
    protocols_allowed:
      - protocol: OPC UA
        rules: [${rules}]
        opcua: { security_modes: [None], security_policies: [None] }
`)
  const rule = (name: string, more: string): string => `{ name: ${name}, from: [B], to: [A], ${more} }`
  const [SESSIONS, READS] = [rule('s', 'services: [discovery, session]'), rule('r', 'services: [read]')]
  const WRITES = rule('w', 'services: [write], nodes: ["ns=2;s=Line1.Setpoint"]')
  const CALLS = rule('c', 'services: [method], methods: ["ns=2;s=Line1/ns=2;s=Reset"]')
  const before = document(SESSIONS)

  const view = baselineView(before, 'C', kept)
  t.equal(view.days, 7)
  t.match(view.undecided, [/^D\d rare-write: MES-01 -> OPC-01: Call of ns=2;s=Line1\/ns=2;s=Reset, seen once in all$/])
  t.strictSame(baselineView(document(`${SESSIONS}, ${CALLS}`), 'C', kept).undecided, [])

  // Traffic that was normal before: what all of is allowed.
  const normal = (policy: Policy): string[] =>
    [...normalTraffic(policy, 'C', kept).flows].map((one) => one.split(' ').slice(3).join(' '))
  const key = (service: string): string => `-1 ${functionOfName(service)}`
  t.strictSame(normal(before), ['CreateSession', 'ActivateSession'].map(key))
  t.ok(normal(document(`${SESSIONS}, ${WRITES}`)).includes(key('Write')))
  t.notOk(normal(document(`${SESSIONS}, ${WRITES.replace('Setpoint', 'Other')}`)).includes(key('Write')))

  // A read that a newer document allows is open no more; a write has to have been quiet.
  const ledger = new Ledger(directory)
  const now = Date.now()
  const refusedRead = {
    event: 'request.would_deny' as const,
    conduit: 'C',
    protocol: 'opcua' as const,
    client_asset: 'MES-01',
    client: '10.30.1.20',
    target: '10.20.1.5',
    target_port: 4840,
    reason: 'service',
    function: 'Read',
  }
  for (const service of ['Read', 'Write']) {
    ledger.hear({ ...refusedRead, function: service }, now - 40_000, before.sha256, now - 60_000)
  }
  const found = (policy: Policy): string[] =>
    checks(policy, 'C', 0, { days: 20, why: '', undecided: [] }, ledger, now).map((one) => one.found)
  t.equal(found(before).length, 2)
  t.match(found(document(`${SESSIONS}, ${READS}, ${WRITES}`)), [
    /^MES-01 would have been denied in the last 24 hours: Write of /,
  ])
  t.equal(found(document(`${SESSIONS}, ${WRITES}`)).length, 2)
  t.equal(found(document(`${SESSIONS}, ${READS.replace(' }', ', nodes: ["i=85"] }')}`)).length, 2, 'not by some nodes')

  // What an interval has held back of the time before a reload is told after it, and is of the former document.
  const accepted = document(`${SESSIONS}, ${READS}, ${WRITES}`)
  const held = (ms: number): void => {
    const times = { first: new Date(now - 50_000).toISOString(), last: new Date(now - ms).toISOString(), count: 50 }
    ledger.hear({ ...refusedRead, ...times }, now, accepted.sha256, now - 10_000)
  }
  held(12_000)
  t.equal(found(accepted).length, 1)
  t.match(
    found(before),
    [/: Read of .*, 51 times/, /: Write of /],
    'under the former it stands, by when it was last seen',
  )
  held(5000)
  t.equal(found(accepted).length, 2, 'denied under the document that was thought to allow it')
})
