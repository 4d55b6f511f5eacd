/** From captures to policies and back: what was learned is allowed, what is new is not, and a person's words stay. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { type DecideItem, isAbout } from '../../src/baseline/assess.ts'
import { BaselineCollector } from '../../src/baseline/baseline.ts'
import { type BaselineFile, flowKey, mergeBaselines, parseBaseline } from '../../src/baseline/baseline-file.ts'
import { DRAFT_DEFAULTS, draftPolicy } from '../../src/baseline/draft.ts'
import { ingest } from '../../src/baseline/ingest.ts'
import { Listeners } from '../../src/baseline/listeners.ts'
import { patchPolicy } from '../../src/baseline/patch.ts'
import { Replay, type ReplayResult, type VerdictGroup } from '../../src/baseline/replay.ts'
import { checkPolicy } from '../../src/policy/load.ts'
import type { Policy } from '../../src/policy/model.ts'
import { adu, u16 } from '../support/modbus.ts'
import { readTurns } from '../support/pcap.ts'
import { Connection, type Endpoint, type Packet, pcapFile, random } from '../support/traffic.ts'
import { headgate } from '../support/verbs.ts'

const directory = mkdtempSync(join(tmpdir(), 'headgate-learn-'))
t.teardown(() => rmSync(directory, { recursive: true, force: true }))
const fixture = (name: string) => new URL(`../fixtures/captures/${name}`, import.meta.url).pathname
const PORTS = { ports: [502], anyPort: false }

let number = 0
function capture(packets: Packet[]): string {
  const file = join(directory, `${number++}.pcap`)
  writeFileSync(file, pcapFile(packets.sort((a, b) => a.us - b.us)))
  return file
}

async function learnFile(...files: string[]): Promise<BaselineFile> {
  const collector = new BaselineCollector()
  for (const file of files) await ingest(file, collector, PORTS)
  return collector.toFile()
}

function policyOf(text: string): Policy {
  const { policy, findings } = checkPolicy('policy.yaml', Buffer.from(text))
  const errors = findings.filter((one) => one.severity === 'error')
  if (policy === null) throw new Error(`not a policy: ${JSON.stringify(errors)}\n${text}`)
  return policy
}

async function replayFile(policy: Policy, file: string, other: Policy | null = null): Promise<Replay> {
  const replay = new Replay(policy, other)
  await ingest(file, replay, PORTS)
  return replay
}

/** Denied groups that no decide item is about. */
function surprises({ groups }: ReplayResult, decide: readonly DecideItem[]): unknown[] {
  return groups.filter((group) => group.verdict === 'denied' && !decide.some((item) => isAbout(item, group)))
}

const START = 1_700_000_000_000_000
const HISTORIAN = '10.30.1.20'
const HMI = '10.30.1.21'
const EWS = '10.30.2.5'
const INTRUDER = '10.30.1.99'
const plc = (n: number) => ({ host: `10.20.1.${n}`, port: 502 })
const read = (code: number, address: number, quantity: number) => [code, ...u16(address), ...u16(quantity)]
const answer = (request: number[]): number[] => {
  const quantity = (request[3] << 8) | request[4]
  const bytes = request[0] < 3 ? (quantity + 7) >> 3 : 2 * quantity
  return [request[0], bytes, ...new Array<number>(bytes).fill(0)]
}
const write = (address: number, value: number) => [6, ...u16(address), ...u16(value)]

interface PlantOptions {
  /** With an intruder, a download, malformed frames. */
  rough?: boolean
  seconds?: number
  from?: number
}

/** A historian and an HMI that poll three PLCs, the HMI with set-points, an engineer who is there now and then. */
function plant({ rough = false, seconds = 60, from = START }: PlantOptions = {}): Packet[] {
  const packets: Packet[] = []
  const next = random(7)
  for (let n = 1; n <= 3; n++) {
    const history = new Connection(packets, { host: HISTORIAN, port: 41000 + n }, plc(n), from + n * 1000).open()
    const panel = new Connection(packets, { host: HMI, port: 42000 + n }, plc(n), from + n * 1500).open()
    for (let s = 0; s < seconds; s++) {
      history.us = from + s * 1e6 + n * 1000
      for (const request of [read(3, 0, 20), read(3, 24, 10), read(4, 100, 8)]) history.ask(1, request, answer(request))
      panel.us = from + s * 1e6 + n * 1500 + 300_000
      for (const request of [read(1, 0, 16), read(3, 0, 40)]) panel.ask(1, request, answer(request))
      for (let i = 0; i < 2; i++) {
        const request = write(100 + (s % 5), Math.floor(next() * 400))
        panel.ask(1, request, request)
      }
    }
    history.close()
    panel.close()
  }
  const engineer = new Connection(packets, { host: EWS, port: 43000 }, plc(1), from + 5e6).open()
  for (let i = 0; i < 20; i++) engineer.ask(1, read(3, 500, 50), answer(read(3, 500, 50)), 100_000)
  engineer.ask(1, [43, 14, 1, 0], [43, 14, 1, 1, 0, 0, 1, 0, 2, 65, 66])
  if (!rough) return packets
  engineer.ask(1, [16, ...u16(200), ...u16(1), 2, 0, 5], [16, ...u16(200), ...u16(1)])
  engineer.ask(1, [90, 0, 1], [90, 0, 254])
  engineer.ask(1, [8, ...u16(1), ...u16(0)], [8, ...u16(1), ...u16(0)])
  engineer.ask(1, read(3, 0, 0), [0x83, 3])
  engineer.bytes(true, adu(99, 1, read(3, 0, 1), 5))
  engineer.close()
  for (let n = 0; n < 20; n++) {
    new Connection(packets, { host: INTRUDER, port: 50000 + n }, plc(n), from + 2e6 + n * 1e4).refused()
  }
  const scan = new Connection(packets, { host: INTRUDER, port: 51000 }, plc(1), from + 3e6).open()
  for (let unit = 0; unit < 40; unit++) scan.ask(unit, read(3, 0, 1), [0x83, 11])
  scan.close()
  return packets
}

t.test('the draft allows what was learned, and nothing silently', async (t) => {
  const file = capture(plant({ rough: true }))
  const baseline = await learnFile(file)
  t.strictSame(parseBaseline(JSON.stringify(baseline), 'baseline'), baseline, 'the file keeps to its own schema')
  const { text, decide } = draftPolicy(baseline)
  const { policy, findings } = checkPolicy('draft.yaml', Buffer.from(text))
  t.strictSame(findings, [], 'check passes without a word')
  const result = (await replayFile(policy as Policy, file)).result()
  t.strictSame(surprises(result, decide), [], 'nothing but decide items is denied')
  t.match(result.counts, { denied: 45, allowed: 60 * 3 * 7 + 21 })
  t.strictSame([...new Set(decide.map((item) => item.kind))].sort(), [
    'diagnostics',
    'malformed',
    'program',
    'rare-write',
    'scan',
  ])
  for (const item of decide) {
    const seen = result.groups.some((group) => group.verdict === 'denied' && isAbout(item, group))
    t.ok(seen, `${item.id} ${item.kind} is denied by the draft`)
    t.match(text, new RegExp(`^ *# decide ${item.id} ${item.kind}: `, 'm'))
  }
  const rules = (policy as Policy).conduits.flatMap(({ protocols }) =>
    protocols.flatMap((one) => (one.kind === 'modbus' ? one.rules : [])),
  )
  const named = (start: string) => rules.filter((rule) => rule.name.startsWith(start))
  t.strictSame(named('HIST')[0].addresses, { 'holding-registers': [[0, 33]], 'input-registers': [[100, 107]] })
  t.equal(named('HIST').length, 1, 'one rule for three PLCs that are read alike')
  const [writes] = rules.filter((rule) => rule.name.startsWith('HMI') && rule.name.includes('writes'))
  t.strictSame(writes.functions, [{ code: 6, sub: null }])
  t.strictSame(writes.addresses, { 'holding-registers': [[100, 104]] }, 'writes are not widened')
  t.notOk(rules.some((rule) => rule.from.some((block) => block.text === INTRUDER)))
  t.match(text, /# 5,?40 requests in 59 s/)
  t.match(text, /# values written: holding-registers 100: /)
  const roles = (policy as Policy).zones.flatMap((zone) => zone.assets.map((asset) => [asset.address.text, asset.role]))
  t.strictSame(Object.fromEntries(roles), {
    [HISTORIAN]: 'historian',
    [HMI]: 'hmi',
    [EWS]: 'engineering-workstation',
    '10.20.1.1': 'plc',
    '10.20.1.2': 'plc',
    '10.20.1.3': 'plc',
  })
  const zoneOf = (policy as Policy).zones.map((zone) => [zone.id, zone.networks.map((one) => one.text)])
  t.strictSame(zoneOf, [
    ['Z1-CONTROL', ['10.20.1.0/24']],
    ['Z2-OPERATIONS', ['10.30.1.0/24']],
    ['Z3-OPERATIONS', ['10.30.2.0/24']],
  ])
})

t.test('slack joins what is read, never what is written', async (t) => {
  const packets: Packet[] = []
  const one = new Connection(packets, { host: HMI, port: 40000 }, plc(1), START).open()
  for (let i = 0; i < 12; i++) {
    for (const address of [0, 5, 20]) {
      one.ask(1, read(3, address, 2), answer(read(3, address, 2)))
      one.ask(1, write(address, 1), write(address, 1))
    }
  }
  const baseline = await learnFile(capture(packets))
  const ranges = (slack: number) => {
    const [protocol] = policyOf(draftPolicy(baseline, { ...DRAFT_DEFAULTS, slack }).text).conduits[0].protocols
    return protocol.kind === 'modbus' ? protocol.rules.map((rule) => rule.addresses?.['holding-registers']) : []
  }
  const written = [
    [0, 0],
    [5, 5],
    [20, 20],
  ]
  t.strictSame(ranges(0), [
    [
      [0, 1],
      [5, 6],
      [20, 21],
    ],
    written,
  ])
  t.strictSame(ranges(3), [
    [
      [0, 6],
      [20, 21],
    ],
    written,
  ])
  t.strictSame(ranges(100), [[[0, 21]], written])
})

t.test('a register that is written rarely is to be decided on, however busy its neighbours are', async (t) => {
  const packets: Packet[] = []
  const one = new Connection(packets, { host: HMI, port: 40000 }, plc(1), START).open()
  for (let i = 0; i < 30; i++) {
    one.ask(1, write(100, i), write(100, i))
    const block = [16, ...u16(200), ...u16(4), 8, ...new Array<number>(8).fill(i)]
    one.ask(1, block, block.slice(0, 5))
    one.ask(1, [22, ...u16(300), 0xff, 0x0f, 0, i], [22, ...u16(300), 0xff, 0x0f, 0, i])
  }
  for (let i = 0; i < 3; i++) one.ask(1, write(101, 7), write(101, 7))
  const once = [16, ...u16(203), ...u16(2), 4, ...new Array<number>(4).fill(1)]
  one.ask(1, once, once.slice(0, 5))
  one.ask(1, [22, ...u16(301), 0, 0xff, 0, 1], [22, ...u16(301), 0, 0xff, 0, 1])
  const file = capture(packets)
  const { text, decide } = draftPolicy(await learnFile(file))
  const [protocol] = policyOf(text).conduits[0].protocols
  const rules = protocol.kind === 'modbus' ? protocol.rules : []
  t.strictSame(
    rules.map((rule) => rule.addresses),
    [
      {
        'holding-registers': [
          [100, 100],
          [200, 203],
          [300, 300],
        ],
      },
    ],
  )
  t.strictSame(
    decide.map((item) => [item.kind, item.function, item.requests, item.why]),
    [
      ['rare-write', 6, 3, 'writes to holding-registers 101, none written more than 3 times'],
      ['rare-write', 16, 1, 'writes to holding-registers 204, written once'],
      ['rare-write', 22, 1, 'writes to holding-registers 301, written once'],
    ],
  )
  const result = (await replayFile(policyOf(text), file)).result()
  t.match(result.counts, { denied: 5, allowed: 90 })
  t.strictSame(surprises(result, decide), [])
})

t.test('a decide item, uncommented, is a rule that allows it', async (t) => {
  const file = capture(plant({ rough: true }))
  const { text, decide } = draftPolicy(await learnFile(file))
  const lines = text.split('\n')
  const from = lines.findIndex((line) => line.includes('decide') && line.includes('rare-write'))
  const start = lines.findIndex((line, i) => i > from && /^ *#- name/.test(line))
  const end = lines.findIndex((line, i) => i > start && !/^ *# {2}\w/.test(line))
  const chosen = lines.map((line, i) => (i >= start && i < end ? line.replace('#', '') : line)).join('\n')
  const before = (await replayFile(policyOf(text), file)).result()
  const after = (await replayFile(policyOf(chosen), file)).result()
  t.equal(after.counts.denied, before.counts.denied - 1)
  t.strictSame(surprises(after, decide), [])
})

/** A copy of a capture in which the clients have an address of their own: in two, client and target share one. */
function apart(name: string): string {
  const bytes = readFileSync(fixture(name))
  for (let at = 24; at < bytes.length; at += 16 + bytes.readUInt32LE(at + 8)) {
    const ip = at + 16 + 14
    const tcp = ip + (bytes[ip] & 15) * 4
    const toTarget = bytes.readUInt16BE(tcp + 2) === 502
    bytes.set([10, 99, 0, 1], toTarget ? ip + 12 : ip + 16)
  }
  const file = join(directory, name)
  writeFileSync(file, bytes)
  return file
}

t.test('real captures: a draft of each passes check, and denies decide items alone', async (t) => {
  const captures: Record<string, string[]> = {
    'modbus-all-functions.pcap': ['malformed', 'refused'],
    'modbus-coils.pcap': [],
    'modbus-encapsulated-interface.pcap': ['deviation', 'refused'],
  }
  for (const [name, expected] of Object.entries(captures)) {
    const file = apart(name)
    const baseline = await learnFile(file)
    const { text, decide } = draftPolicy(baseline, { ...DRAFT_DEFAULTS, rare: 0 })
    const result = (await replayFile(policyOf(text), file)).result()
    t.strictSame(surprises(result, decide), [], name)
    // No rare writes here, so what is left to decide is what breaks the specification, or is not a read or a write.
    const kinds = new Set(decide.map((item) => item.kind))
    t.strictSame([...kinds].sort(), expected, `${name}: to decide`)
    t.ok(result.counts.allowed > 0)
  }
})

t.test('devices with quirks: found, named with their mend, and let pass once that is written', async (t) => {
  const packets: Packet[] = []
  const one = new Connection(packets, { host: HISTORIAN, port: 40000 }, plc(1), START).open()
  for (let i = 0; i < 20; i++) {
    one.bytes(true, adu(2 * i + 1, 1, read(3, 0, 2)))
    one.bytes(false, adu(0, 1, answer(read(3, 0, 2))))
    one.bytes(true, adu(2 * i + 2, 1, read(4, 0, 2)))
    one.bytes(false, adu(2 * i + 2, 9, [...answer(read(4, 0, 2)), 0, 0]))
  }
  const file = capture(packets)
  const { text, decide } = draftPolicy(await learnFile(file))
  t.strictSame(
    decide.map((item) => [item.kind, item.function, item.why.replace(/.*add /, '')]),
    [
      ['deviation', 3, '"tolerate: [zero-transaction-id]" to the rule'],
      ['deviation', 4, '"tolerate: [unit-mismatch, trailing-bytes]" to the rule'],
    ],
  )
  const strict = (await replayFile(policyOf(text), file)).result()
  t.match(strict.counts, { allowed: 40, responsesDenied: 40 })
  t.strictSame(surprises(strict, decide), [])
  const mended = text.replace(
    'addresses:',
    'tolerate: [zero-transaction-id, unit-mismatch, trailing-bytes]\n            addresses:',
  )
  t.match((await replayFile(policyOf(mended), file)).result().counts, { responsesDenied: 0, tolerated: 60 })
})

t.test('what the other half brings is new', async (t) => {
  const first = capture(plant({ seconds: 40 }))
  const later = plant({ seconds: 40, from: START + 1e9 })
  const newcomer = new Connection(later, { host: '10.30.1.77', port: 44000 }, plc(2), START + 1.001e9).open()
  for (let i = 0; i < 12; i++) newcomer.ask(1, read(3, 0, 5), answer(read(3, 0, 5)))
  const wider = new Connection(later, { host: HMI, port: 44001 }, plc(1), START + 1.002e9).open()
  wider.ask(1, write(110, 3), write(110, 3))
  wider.ask(1, [5, ...u16(9), 0xff, 0], [5, ...u16(9), 0xff, 0])
  const second = capture(later)
  const policy = policyOf(draftPolicy(await learnFile(first)).text)
  const { groups, counts } = (await replayFile(policy, second)).result()
  t.equal(counts.denied, 14)
  t.match(
    groups
      .filter((one) => one.kind === 'request')
      .map(({ client, function: code, reason, count }) => ({ client, code, reason, count })),
    [
      { client: '10.30.1.77', code: 3, reason: 'pair', count: 12 },
      { client: HMI, code: 6, reason: 'address', count: 1 },
      { client: HMI, code: 5, reason: 'function', count: 1 },
    ],
  )
  const [, outside] = groups.filter((one) => one.kind === 'request')
  t.match(outside, {
    rule: /^HMI-01 writes/,
    why: 'holding-registers allowed: 100-104',
    example: { function: 'write-single-register', address: 110, values: '3' },
  })
})

t.test('merging halves is learning the whole', async (t) => {
  const whole = capture(plant({ rough: true }))
  const [a, b] = [capture(plant({ seconds: 30 })), capture(plant({ seconds: 30, from: START + 3600e6, rough: true }))]
  const merged = mergeBaselines(await learnFile(a), await learnFile(b))
  const together = await learnFile(a, b)
  const rows = (file: BaselineFile) => Object.fromEntries(file.flows.map((flow) => [flowKey(flow), flow]))
  t.strictSame(rows(merged), rows(together))
  t.strictSame(merged.targets, together.targets)
  t.strictSame([merged.first, merged.last], [together.first, together.last])
  const once = await learnFile(whole)
  const twice = mergeBaselines(once, once)
  t.equal(twice.flows[0].requests, 2 * once.flows[0].requests)
  t.strictSame(twice.flows[0].addresses, once.flows[0].addresses)
  t.throws(
    () => parseBaseline('{"format":"headgate-baseline","version":2}', 'x'),
    /version 2, this Headgate reads up to 1/,
  )
  t.throws(() => parseBaseline('[]', 'x'), /x: not a baseline/)
  t.throws(() => parseBaseline('{', 'x'), /x: not JSON/)
})

/** A person's policy, with a person's spacing. */
const HANDMADE = `# Unit 3, kept by hand
zones:
  - zone_id: Z2-BPCS   # the cell
    networks: [10.20.0.0/16]
    assets:
        - {name: "PLC-A",  address: 10.20.1.1}
    allowed_conduits: [C1]
  - { zone_id: Z3-OPS, networks: [10.30.0.0/16], allowed_conduits: [C1] }

conduits:
  - conduit_id: C1
    connects: [Z2-BPCS, Z3-OPS]
    protocols_allowed:
      - protocol: Modbus/TCP
        # what the historian needs
        rules:
        - name: history   # agreed in 2024
          from: [ ${HISTORIAN} ]
          to: [Z2-BPCS]
          functions: [3,4]
          addresses:
            holding-registers: [ 0-999 ]
            input-registers: [0-127] # all of it

        # nobody else
        limits: {requests: {per_client_per_second: 200,   burst: 50}}
    controls:
      - 'Firewall'
`

t.test('a patch adds rules, and changes nothing else', async (t) => {
  const file = capture(plant({ rough: true }))
  const baseline = await learnFile(file)
  const policy = policyOf(HANDMADE)
  const { text, added, decide } = patchPolicy(HANDMADE, policy, baseline, DRAFT_DEFAULTS)
  const before = HANDMADE.split('\n')
  const after = text.split('\n')
  let at = 0
  const fresh = after.filter((line) => {
    if (line === before[at]) at++
    else return true
    return false
  })
  t.equal(at, before.length, 'every line is still there, in its order')
  t.ok(
    fresh.every((line) => /^ {8}(?:# learned: |- name: | {2}\w+: )/.test(line)),
    fresh.join('\n'),
  )
  t.notOk(
    added.some(({ rule }) => 'from' in rule && rule.from.includes(HISTORIAN)),
    'what is allowed is not added again',
  )
  t.notMatch(text, /learned: among/, 'nothing of these flows was allowed before')
  t.match(text, /from: \[ ?10\.30\.1\.21 ?\]\n +to: \[ ?PLC-A, 10\.20\.1\.2, 10\.20\.1\.3 ?\]/)
  const result = (await replayFile(policyOf(text), file)).result()
  t.strictSame(surprises(result, decide), [])
  t.strictSame(
    patchPolicy(text, policyOf(text), baseline, DRAFT_DEFAULTS).text,
    text,
    'a second time there is nothing to add',
  )
})

t.test('a patch never widens what a person has narrowed', async (t) => {
  const baseline = await learnFile(capture(plant()))
  const patch = (text: string) => patchPolicy(text, policyOf(text), baseline, DRAFT_DEFAULTS)
  const flow = HANDMADE.replace(
    / {8}rules:[\s\S]*?\n\n/,
    `        rules: [{from: [${HISTORIAN}], to: [Z2], functions: [read]}]\n\n`,
  )
  t.match(
    patch(flow).text,
    /rules: \[\{from: \[10\.30\.1\.20\], to: \[Z2\], functions: \[read\]\}, \{"name":/,
    'rules on one line',
  )
  const empty = HANDMADE.replace(/ {8}rules:[\s\S]*?\n\n/, '        rules: []\n\n')
  t.equal(patch(empty).added.length > 2, true, 'no rule yet')
  const prose = HANDMADE.replace(/ {8}rules:[\s\S]*?\n\n/, '        direction: "Z3 -> Z2 (read only)"\n\n')
  t.equal(patch(prose).text, prose, 'prose is the rule')
  t.match(patch(prose).decide, [{ kind: 'out-of-place', function: 6, why: /no rules but its direction/ }])
  const readOnly = HANDMADE.replace('        # what the historian needs', '        direction: "Z3 -> Z2 (read only)"')
  const { text, decide } = patch(readOnly)
  t.notMatch(text, /write-single-register/)
  t.match(decide[0].why, /expected no more than the direction says/)
  const denied = HANDMADE.replace(
    '        - name: history',
    `        - {name: no, action: deny, from: [${HMI}], to: [Z2]}\n        - name: history`,
  )
  t.match(patch(denied).decide[0].why, /rule "no" of conduit C1 denies it/)
  const elsewhere = HANDMADE.replace('networks: [10.30.0.0/16]', 'networks: [10.30.1.0/24]')
  t.match(patch(elsewhere).decide[0].why, '10.30.2.5 is in no zone of the policy')
  const windows = HANDMADE.replaceAll('\n', '\r\n')
  t.notMatch(patch(windows).text, /[^\r]\n/, 'line ends are kept')
})

const RULES = (rules: string, limits = ''): Policy =>
  policyOf(`zones:
  - { zone_id: A, networks: [10.20.0.0/16] }
  - { zone_id: B, networks: [10.30.0.0/16] }
conduits:
  - conduit_id: C
    connects: [A, B]
    mode: enforce
    protocols_allowed:
      - protocol: Modbus/TCP
        ${limits}
        rules:
          ${rules}
`)

t.test('replay: values, steps, limits, rules that only watch, responses', async (t) => {
  const packets: Packet[] = []
  const one = new Connection(packets, { host: HMI, port: 40000 }, plc(1), START).open()
  one.ask(1, read(3, 100, 1), [3, 2, ...u16(50)])
  one.ask(1, write(100, 60), write(100, 60))
  one.ask(1, write(100, 90), write(100, 90))
  one.ask(1, write(101, 7), write(101, 7))
  one.ask(1, read(3, 0, 2), [3, 2, 0, 0])
  one.bytes(false, adu(77, 1, [3, 2, 0, 0]))
  one.us += 8e6
  for (let i = 0; i < 10; i++) one.ask(1, read(4, 0, 1), [4, 2, 0, 0])
  const file = capture(packets)
  const rules = `- { name: r, from: [B], to: [A], functions: [3, 4] }
          - { name: w, from: [B], to: [A], functions: [6], values: { holding-registers: { 100: { max_step: 20 } } }, addresses: { holding-registers: [100] } }`
  const limits = 'limits: { requests: { per_client_per_second: 2, burst: 6 } }'
  const { counts, groups } = (await replayFile(RULES(rules, limits), file)).result()
  const brief = groups
    .map(({ kind, reason, rule, count, verdict }) => [kind, verdict, reason, rule ?? '-', count].join(' '))
    .sort()
  t.strictSame(brief, [
    'request denied address w 1',
    'request denied rate r 4',
    'request denied value w 1',
    'response denied state - 2',
  ])
  t.match(counts, { requests: 15, allowed: 9, denied: 6, responses: 16, responsesDenied: 2 })
  const slow: Packet[] = []
  const tardy = new Connection(slow, { host: HMI, port: 40000 }, plc(1), START).open()
  tardy.bytes(true, adu(1, 1, read(3, 0, 1)))
  tardy.us += 6e6
  tardy.bytes(false, adu(1, 1, [3, 2, 0, 0]))
  const late = (await replayFile(RULES(rules), capture(slow))).result()
  t.match(late.counts, { unanswered: 1, responsesDenied: 1 }, 'later than the response time-out')
  const watching = rules.replace('name: w,', 'name: w, mode: monitor,')
  const soft = (await replayFile(RULES(watching), file)).result()
  t.match(soft.counts, { denied: 0, recorded: 2, allowed: 13 })
  const middle = capture(packets.slice(4))
  const half = (await replayFile(RULES(rules), middle)).result()
  t.match(half.counts, { unjudged: 3, responsesDenied: 0 }, 'a response whose request may be missing is not judged')
})

t.test('replay: two policies side by side', async (t) => {
  const file = capture(plant())
  const old = RULES('- { name: all reads, from: [B], to: [A], functions: [read] }')
  const next = RULES(`- { name: narrow, from: [B], to: [A], functions: [3], addresses: { holding-registers: [0-99] } }
          - { name: set-points, from: [${HMI}], to: [A], functions: [6] }`)
  const replay = await replayFile(next, file, old)
  const brief = replay
    .differences()
    .map((one) => [one.before, one.after, one.function, one.reason, one.rule, one.allowedBy, one.count])
  const sum = (code: number, before: string) =>
    brief.filter((one) => one[2] === code && one[0] === before).reduce((all, one) => all + (one[6] as number), 0)
  t.equal(sum(6, 'denied'), 360, 'writes: now allowed')
  t.equal(sum(4, 'allowed'), 180, 'input registers: now denied')
  t.equal(sum(3, 'allowed'), 20, 'registers beyond 99: now denied')
  t.equal(sum(3, 'denied'), 0)
  t.match(
    brief.find((one) => one[2] === 6),
    ['denied', 'allowed', 6, 'function', 'all reads', 'set-points', 120],
  )
  t.strictSame((await replayFile(old, file, old)).differences(), [])
})

t.test('the command line', async (t) => {
  const file = capture(plant({ rough: true }))
  const draft = join(directory, 'draft.yaml')
  const baseline = join(directory, 'baseline.json')
  const clean = capture(plant({ seconds: 5 }))
  const [learned, again, merged, fine, rough, json, compared] = headgate([
    ['learn', '--pcap', file, '-o', draft, '--baseline', baseline],
    ['learn', '--pcap', file, '-o', draft],
    ['learn', '--merge', baseline, baseline],
    ['replay', draft, '--pcap', clean],
    ['replay', draft, '--pcap', file],
    ['replay', draft, '--pcap', file, '--format', 'json'],
    ['replay', draft, '--pcap', clean, '--compare', draft],
  ])
  t.match(learned, { code: 0, out: '' })
  const summary = /1,325 Modbus requests of 4 clients to 20 targets\ndraft policy: 4 rules\n6 to decide, not allowed:\n/
  t.match(learned.err, summary)
  t.notMatch(learned.err, /\r/, 'no progress bar where nobody watches')
  const [piped] = headgate([['learn', '--pcap', '-']], readFileSync(file))
  t.equal(piped.out.replace('standard input', file), readFileSync(draft, 'utf8'), 'standard input gives the same')
  t.match(again, { code: 2, err: /exists; give --force to overwrite it\n$/ })
  t.equal(merged.code, 0)
  const once = parseBaseline(readFileSync(baseline, 'utf8'), 'baseline')
  t.equal(parseBaseline(merged.out, 'merged').targets[0].requests, 2 * once.targets[0].requests)
  t.match(fine, { code: 0, out: /: 126 requests: 126 allowed, 0 would be denied\n$/ })
  t.match(rough, { code: 1, out: /1 request would be denied: C2, reason malformed, nearest rule/ })
  t.match(rough.out, /example: transaction \d+, unit 1, write-multiple-registers, address 200, quantity 1, values 5/)
  t.match(JSON.parse(json.out), { policy: draft, counts: { requests: 1326, denied: 45 } })
  t.equal(json.code, 1)
  t.match(compared, { code: 0, out: /no request is judged differently\n$/ })
})

const THROUGH = `
zones:
  - { zone_id: A, networks: [10.20.0.0/16], assets: [{ name: PLC-07, address: 10.20.1.7 }, { name: MES, address: 10.20.1.8 }] }
  - { zone_id: B, networks: [10.30.0.0/16] }
conduits:
  - conduit_id: C1
    connects: [A, B]
    protocols_allowed:
      - { protocol: Modbus/TCP, port: 502, rules: [{ name: reads, from: [10.30.1.20], to: [PLC-07], functions: [read] }] }
      - protocol: OPC UA
        port: 4840
        rules: [{ name: looking, from: [10.30.1.20], to: [MES], services: [discovery, session, browse, read] }]
        opcua: { security_modes: [None], security_policies: [None] }
  - conduit_id: C2
    connects: [A, B]
    protocols_allowed:
      - { protocol: Modbus/TCP, port: 502, rules: [{ name: all, from: [10.30.1.21], to: [PLC-07], functions: [all] }] }
gateway:
  name: gw
  listeners:
    - { conduit: C1, protocol: Modbus/TCP, listen: "10.30.9.1:1502", target: "10.20.1.7:502" }
    - { conduit: C2, protocol: Modbus/TCP, listen: "10.30.9.2:502", target: "10.20.1.7:502" }
    - { conduit: C1, protocol: OPC UA, listen: "10.30.9.1:4841", target: "10.20.1.8:4840" }
`

t.test("a capture of the clients' side of a gateway: its listeners' addresses are their targets", async (t) => {
  const policy = policyOf(THROUGH)
  const file = join(directory, 'through.yaml')
  writeFileSync(file, THROUGH)
  /** The real frames of two captures, from a client to wherever it dials. */
  const dialled = (plc: Endpoint, mes: Endpoint, from = HISTORIAN): string => {
    const packets: Packet[] = []
    const sides = [readTurns(fixture('modbus-all-functions.pcap'), 502), readTurns(fixture('opcua-none.pcap'), 4840)]
    for (const [i, turns] of sides.flat().entries()) {
      const opcua = i >= sides[0].length
      const one = new Connection(packets, { host: from, port: 41000 + i }, opcua ? mes : plc, START + i * 1e6).open()
      for (const { fromClient, payload } of turns) {
        for (let at = 0; at < payload.length; at += 1400) one.bytes(fromClient, payload.subarray(at, at + 1400))
      }
      one.close()
    }
    return capture(packets)
  }
  const straight = dialled({ host: '10.20.1.7', port: 502 }, { host: '10.20.1.8', port: 4840 })
  const listeners = [
    { host: '10.30.9.1', port: 1502 },
    { host: '10.30.9.1', port: 4841 },
  ] as const
  const through = dialled(...listeners)
  const [direct, same, other, learned, before] = headgate([
    ['replay', file, '--pcap', straight, '--format', 'json'],
    ['replay', file, '--pcap', through, '--format', 'json'],
    ['replay', file, '--pcap', dialled({ host: '10.30.9.2', port: 502 }, listeners[1]), '--format', 'json'],
    ['learn', '--pcap', through, '--policy', file, '-o', join(directory, 'patched.yaml'), '--baseline', '-'],
    ['learn', '--pcap', straight, '--policy', file, '-o', join(directory, 'as-before.yaml'), '--baseline', '-'],
  ])
  t.match(same.err, /\d+ connections to the gateway's listeners, told by their targets\n/)
  const verdicts = ({ out }: { out: string }) => {
    const { counts, groups } = JSON.parse(out)
    return { counts, groups }
  }
  t.strictSame(verdicts(same), verdicts(direct))
  const { counts, groups } = verdicts(same)
  t.ok(counts.allowed > 20 && counts.denied > 20, `${counts.allowed} allowed, ${counts.denied} denied`)
  t.strictSame([...new Set(groups.map((one: VerdictGroup) => `${one.conduit} ${one.target}:${one.port}`))].sort(), [
    'C1 10.20.1.7:502',
    'C1 10.20.1.8:4840',
  ])
  const refused = verdicts(other).groups.filter(({ kind }: VerdictGroup) => kind === 'connection')
  t.match(refused, [{ conduit: 'C2', reason: 'pair', target: '10.20.1.7', client: HISTORIAN }], 'by its own conduit')
  const rows = ({ out }: { out: string }) => ({ ...JSON.parse(out), sources: [] })
  t.strictSame(rows(learned), rows(before), 'what is learned is of the targets')
  t.equal(
    readFileSync(join(directory, 'patched.yaml'), 'utf8'),
    readFileSync(join(directory, 'as-before.yaml'), 'utf8'),
  )
  const places = { ports: [502, 1502], opcuaPorts: [4840, 4841], anyPort: false }
  const unknown = new Replay(policy)
  await ingest(through, unknown, places)
  const { connections, refused: all } = unknown.result().counts
  t.equal(all, connections, 'where listeners are not known, nobody may go there')
  const compared = new Replay(policyOf(THROUGH.replace('10.30.9.1:1502', '10.30.9.3:1502')), policy)
  await ingest(through, compared, { ...places, listeners: new Listeners([policy]) })
  t.equal(compared.result().counts.allowed, counts.allowed, 'a policy without that listener judges by the target')
})

t.test('the command line: one clear line, exit 2, and nothing written', async (t) => {
  const bad = join(directory, 'bad.pcap')
  writeFileSync(bad, 'not a capture')
  const policy = join(directory, 'bad.yaml')
  writeFileSync(policy, 'zones: []\nconduit: []\n')
  const out = join(directory, 'never.yaml')
  const cases: [string[], RegExp][] = [
    [['learn'], /^headgate: nothing to learn from: give --pcap FILE, --evidence FILE or --merge FILE\n$/],
    [
      ['learn', '--pcap', bad, '-o', out],
      /^headgate: .*bad\.pcap: not a capture file: it begins with 6e6f7420, expected .*\n$/,
    ],
    [['learn', '--pcap', join(directory, 'none.pcap')], /^headgate: .*none\.pcap: no such file\n$/],
    [['learn', '--merge', policy], /^headgate: .*bad\.yaml: not JSON: .*\n$/],
    [['learn', '--pcap', bad, '--port', '70000'], /^headgate: found port "70000", expected 1 to 65535\n$/],
    [['learn', '--pcap', bad, '--slack', '-1'], /^headgate: found --slack "-1", expected a whole number\n$/],
    [['replay', policy, '--pcap', bad], /bad\.yaml:2:1: error: .*\n.*has errors; "headgate check" shows all\n$/],
    [['replay', join(directory, 'none.yaml'), '--pcap', bad], /^headgate: .*none\.yaml.*\n$/],
  ]
  const silent = join(directory, 'silent.pcap')
  writeFileSync(silent, pcapFile([]))
  const empty = join(directory, 'empty.jsonl')
  writeFileSync(empty, '')
  const found = [
    ['learn', '--evidence', empty],
    ['learn', '--pcap', silent],
  ]
  const results = headgate([...cases.map(([args]) => args), ...found])
  for (const [i, [args, line]] of cases.entries()) {
    t.match(results[i], { code: 2, err: line, out: '' }, args.slice(0, 3).join(' '))
  }
  t.notOk(existsSync(out))
  t.match(results.at(-1), {
    code: 1,
    err: /no Modbus or OPC UA traffic found; --port, --opcua-port and --any-port say/,
  })
  t.match(results.at(-2), { code: 1, err: /no Modbus or OPC UA traffic found\n$/ })
})
