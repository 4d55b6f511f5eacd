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
import { checkPolicy } from '../../src/policy/load.ts'
import type { Policy } from '../../src/policy/model.ts'
import { SERVICES } from '../../src/protocols/opcua/services.ts'
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
  t.strictSame(none.channels, [{ policy: 'None', mode: 'None', opened: 2 }])
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
  const [half] = headgate([['replay', draft, '--pcap', middle]])
  t.match(half.out, /1 message not judged/)
})
