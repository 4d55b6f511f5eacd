/** From a real gateway's evidence to "ready to enforce": ranked, explained, accepted or rejected, comments kept. */
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'
import { analyze } from '../../src/baseline/analyze.ts'
import { parseBaseline } from '../../src/baseline/baseline-file.ts'
import { readDecisions } from '../../src/baseline/decisions.ts'
import { rank } from '../../src/baseline/rank.ts'
import { Sightings } from '../../src/baseline/sightings.ts'
import { freePort } from '../support/gateway.ts'
import { Headgate, policyFile } from '../support/headgate.ts'
import { adu, u16 } from '../support/modbus.ts'
import { answer } from '../support/server.ts'
import { connect, type Peer, RawTarget, sleep } from '../support/sockets.ts'
import { headgate } from '../support/verbs.ts'

const [HISTORIAN, ENGINEER, STRANGER, PLC] = ['127.0.1.20', '127.0.1.30', '127.0.1.99', '127.0.2.1']

const POLICY = (listen: number, target: number): string => `# Unit 3, kept by hand
zones:
  - zone_id: CELL # the cell
    networks: [127.0.2.0/24]
    assets: [{ name: PLC-01, address: ${PLC}, role: plc }]
    allowed_conduits: [C1]
  - zone_id: OPS
    networks: [127.0.1.0/24]
    assets:
      - { name: HIST-01,   address: ${HISTORIAN} }
      - { name: EWS-01, address: ${ENGINEER} }
    allowed_conduits: [C1]
conduits:
  - conduit_id: C1
    connects: [CELL, OPS]
    mode: monitor
    protocols_allowed:
      - protocol: Modbus/TCP
        rules:
          # what the historian needs
          - name: history # agreed in 2024
            from: [HIST-01]
            to: [PLC-01]
            functions: [3]
            addresses: { holding-registers: [0-9] }
          - name: setpoint
            from: [EWS-01]
            to: [PLC-01]
            functions: [6]
            addresses: { holding-registers: [100] }
            values: { holding-registers: { 100: { max: 500 } } }
gateway:
  workers: 1
  listeners:
    - { conduit: C1, listen: "127.0.0.1:${listen}", target: "${PLC}:${target}" }
  storm_interval: 1s
  evidence: { directory: evidence }
  baseline: { directory: baseline }
`

let transaction = 0
async function ask(peer: Peer, pdu: number[], unit = 1): Promise<void> {
  const request = adu(transaction++ & 0xffff, unit, pdu)
  peer.clear()
  peer.send(request)
  await peer.got(9)
}

const read = (address: number, quantity: number): number[] => [3, ...u16(address), ...u16(quantity)]
const write = (address: number, value: number): number[] => [6, ...u16(address), ...u16(value)]

interface Plain {
  ready: boolean
  conduits: { conduit: string; ready: boolean; obstacles: string[]; notes: string[] }[]
  candidates: (Record<string, unknown> & {
    id: string
    what: string
    client: string
    function: number
    reason: string
  })[]
  decide: { id: string; what: string; kind: string }[]
  settled: Record<string, number>
  new_kinds_by_day: { day: string; kinds: number }[]
}

t.test('monitored, analyzed, accepted, ready', { timeout: 90_000 }, async (t) => {
  const target = await RawTarget.open(
    (request) => (request[6] > 3 ? adu(request.readUInt16BE(0), request[6], [0x83, 11]) : answer(request)),
    0,
    PLC,
  )
  t.teardown(() => target.close())
  const file = policyFile(t, POLICY(await freePort(), target.port))
  const port = Number(/127\.0\.0\.1:(\d+)/.exec(readFileSync(file, 'utf8'))?.[1])
  const gateway = Headgate.run(t, file)
  await gateway.ready()
  const [historian, engineer, stranger] = await Promise.all(
    [HISTORIAN, ENGINEER, STRANGER].map((host) => connect(port, '127.0.0.1', host)),
  )
  for (let i = 0; i < 60; i++) {
    await ask(historian, read(0, 10))
    // Not in the policy: every 40 ms, and answered.
    await ask(historian, read(40 + 2 * (i % 3), 2))
    if (i % 20 === 0) await ask(engineer, write(100, 600 + i))
    await sleep(40)
  }
  await ask(engineer, [90, 0])
  for (let unit = 0; unit < 30; unit++) await ask(stranger, read(0, 1), unit)
  for (const peer of [historian, engineer, stranger]) peer.destroy()
  t.same(await gateway.stop(), { code: 0, signal: null })

  const run = (...args: string[]) => headgate([['analyze', ...args]])[0]
  const json = (...args: string[]): Plain => JSON.parse(run('--policy', file, '--format', 'json', ...args).out)
  const first = json()
  t.equal(first.ready, false)
  t.match(
    first.candidates.map(({ client, function: code, reason, suggestion }) =>
      [client, code, reason, suggestion].join(' '),
    ),
    [
      `${HISTORIAN} 3 address allow`,
      `${ENGINEER} 6 value look`,
      `${ENGINEER} 90 function reject`,
      `${STRANGER} 3 pair reject`,
    ],
    'the most legitimate first',
  )
  const [history, setpoint, program, scan] = first.candidates
  t.match(history, {
    count: 60,
    addresses: ['40-45'],
    client_asset: 'HIST-01',
    answers: { exceptions: 0 },
    contra: [],
  })
  const pro = history.pro as string[]
  t.ok(
    ['known client', 'known target', 'answered without exception'].every((words) => pro.includes(words)),
    `${pro}`,
  )
  t.match(setpoint, { values: { least: 600, greatest: 640 }, count: 3 })
  t.match(scan, { units: ['0-29'], answers: { good: 3 }, contra: ['unknown client', /a scan: 30 kinds/] })
  t.match(first.conduits[0].obstacles, [
    /^2 kinds of traffic of known assets would have been denied in the last 24 hours: /,
    /^2 to be decided: /,
    /^the baseline has \d+ s, expected 14 d$/,
  ])
  t.match(first.conduits[0].notes, [/^2 kinds of traffic will be denied, as it looks rightly: /])
  t.equal(
    first.new_kinds_by_day.reduce((sum, one) => sum + one.kinds, 0),
    4,
    'who, whom, what: whatever the unit and the address',
  )

  const text = run('--policy', file)
  t.equal(text.code, 1)
  t.match(text.out, /^C1: NOT READY TO ENFORCE\n {2}- 2 kinds/)
  t.match(
    text.out,
    new RegExp(
      `  ${history.id}  allow\\?  +HIST-01 \\(${HISTORIAN}\\) -> PLC-01 \\(${PLC}\\) port ${target.port} unit 1 read-holding-registers \\(3\\) 40-45\n`,
    ),
  )
  t.match(text.out, /to allow it \(rules of C1\):\n {10}- name: HIST-01 reads PLC-01\n {12}from: \[ HIST-01 \]\n/)
  t.match(text.out, /values: \{ holding-registers: \{ "?100"?: \{ min: 600, max: 640 \} \} \}/)
  t.notMatch(text.out, '\x1b', 'no colours where nobody watches')

  // Accepted: rules are added, and nothing else is changed.
  const before = readFileSync(file, 'utf8')
  const original = join(dirname(file), 'original.yaml')
  writeFileSync(original, before)
  const applied = run('--policy', file, '--min-baseline', '0s', '--apply', history.id, setpoint.id)
  t.match(applied.err, /2 rules added; reload the gateway/)
  const after = readFileSync(file, 'utf8')
  const added = after.split('\n').filter((line) => !before.split('\n').includes(line))
  t.equal(
    after
      .split('\n')
      .filter((line) => !added.includes(line))
      .join('\n'),
    before,
    'comments and order are kept',
  )
  t.match(added.join('\n'), /# accepted \d{4}-\d\d-\d\d: 60 requests in \d s/)
  t.match(applied.out, /^C1: NOT READY TO ENFORCE\n {2}- 2 to be decided: /)
  t.equal(applied.code, 1)
  const second = json('--min-baseline', '0s')
  t.match(second, { ready: false, settled: { allowed: 2, denied: 0, rejected: 0 } })
  t.strictSame(
    second.candidates.map((one) => one.id),
    [program.id, scan.id],
  )

  // Refused: nothing is written.
  t.match(run('--policy', file, '--apply', 'zzzz'), { code: 2, err: /zzzz: there is nothing of that id to decide on/ })
  t.match(run('--policy', file, '--reject', program.id), { code: 2, err: /--reject wants a --reason/ })
  t.equal(readFileSync(file, 'utf8'), after)

  // Decided against: kept beside the baseline, with who and why.
  const rejected = run(
    '--policy',
    file,
    '--min-baseline',
    '0s',
    '--reject',
    program.id,
    scan.id,
    '--reason',
    'not in operation',
  )
  t.equal(rejected.code, 0)
  t.match(rejected.out, /^C1: READY TO ENFORCE\n/)
  t.match(readDecisions(join(dirname(file), 'baseline')), [
    { why: 'not in operation', decision: 'reject' },
    { what: /127\.0\.1\.99/ },
  ])
  t.match(json('--min-baseline', '0s'), { candidates: [], settled: { allowed: 2, rejected: 2 }, ready: true })

  // Learning from the same evidence adds what may be allowed, and lists the rest.
  const [patched, drafted] = headgate([
    ['learn', '--evidence', join(dirname(file), 'evidence'), '--policy', original],
    ['learn', '--evidence', join(dirname(file), 'evidence'), '--baseline', '-'],
  ])
  t.match(patched.out, /# learned: 60 requests in \d s[^\n]*\n {10}- name: HIST-01 reads PLC-01\n/)
  t.match(patched.err, /what the policy allowed is in no event/)
  t.match(patched.err, /D\d program: .* function-90 \(90\)/)
  t.match(patched.err, /D\d scan: 127\.0\.1\.99/)
  const learned = parseBaseline(drafted.out, 'evidence')
  t.match(
    learned.flows.find((flow) => flow.client === HISTORIAN),
    { requests: 60, addresses: { 'holding-registers': [[40, 45]] }, exceptions: {} },
  )

  // A rule that denies is a decision as well; and without a policy all of it is open.
  writeFileSync(
    file,
    before.replace(
      '          # what the',
      `          - { action: deny, from: [OPS], to: [CELL], functions: [90] }\n          # what the`,
    ),
  )
  t.match(json(), { settled: { rejected: 2, denied: 0 } })
  const bare = headgate([['analyze', join(dirname(file), 'evidence'), '--format', 'json']])[0]
  const all: Plain = JSON.parse(bare.out)
  t.equal(all.candidates.length, 4)
  t.match(all.conduits, [{ conduit: 'C1', ready: false }])
})

const DAY = 86_400_000
const START = Date.parse('2026-02-09T06:00:00Z')
const event = (ms: number, more: Record<string, unknown>): Record<string, unknown> => ({
  time: new Date(ms).toISOString(),
  event: 'request.would_deny',
  protocol: 'modbus',
  conduit: 'C1',
  client: '10.30.1.20',
  target: '10.20.1.1',
  target_port: 502,
  function_code: 3,
  unit_id: 1,
  address: 40,
  quantity: 2,
  reason: 'address',
  policy: 'a',
  ...more,
})
/** A minute's worth: `count` requests from `first` on, `period` apart. */
const minute = (first: number, count: number, period: number, more: Record<string, unknown> = {}) => {
  const last = first + (count - 1) * period
  const times = { first: new Date(first).toISOString(), last: new Date(last).toISOString() }
  return event(last, { count, ...times, ...more })
}
const sighted = (records: Record<string, unknown>[]): Sightings => {
  const sightings = new Sightings()
  for (const one of records) sightings.add(one)
  return sightings
}
const only = (records: Record<string, unknown>[]) => [...sighted(records).all.values()][0]

t.test('what one event stands for: numbers, days, intervals', async (t) => {
  const polled = only(
    Array.from({ length: 10 }, (_, i) => minute(START + i * DAY, 60, 1000, { client_asset: 'HIST-01' })),
  )
  t.match(polled, { count: 600, first: START, clientAsset: 'HIST-01' })
  t.equal(polled.days.size, 10)
  t.ok(Math.abs((polled.intervals.regular?.ms ?? 0) - 1000) < 60, 'nights between do not hide it')
  const slow = only(Array.from({ length: 12 }, (_, i) => event(START + i * 600_000, {})))
  t.match(slow.intervals.regular, { ms: 600_000, share: 1 })
  const odd = only([0, 7, 9, 200, 1000, 1003, 5000].map((s) => event(START + s * 1000, {})))
  t.ok((odd.intervals.regular?.share ?? 1) < 0.7, 'a person clicks at no fixed interval')
  const twice = only(
    [0, 1, 2, 3, 4, 5].flatMap((i) => [0, 1].map((worker) => event(START + i * 5000 + worker * 300, { worker }))),
  )
  t.match(twice.intervals.regular, { ms: 5000, share: 1 }, 'what two workers saw is not one after the other')
  t.equal(only([event(START, { time: 'never' })]).count, 0, 'a time that is none counts nothing')
})

t.test('how far it reaches is known from the lists, and said not to be where they are not', async (t) => {
  const listed = only([
    event(START, {}),
    minute(START + 1000, 9, 10, { units: '1-3, 7', addresses: '42-49, 60', least: 3, greatest: 90 }),
  ])
  t.strictSame(
    [listed.units.toRanges(), listed.addresses.toRanges()],
    [
      [
        [1, 3],
        [7, 7],
      ],
      [
        [40, 49],
        [60, 60],
      ],
    ],
  )
  t.match(listed, { partial: false, least: 3, greatest: 90 })
  t.equal(only([minute(START, 9, 10)]).partial, true, 'an older gateway told the first of them alone')
  t.equal(only([event(START, { function_code: 16, values: '5 900 …' })]).greatest, 900)
  t.equal(only([event(START, { addresses: '70000-70001, 5-2, x' })]).addresses.size, 0, 'what is no range is none')
})

t.test('ranked: what speaks for it, what against', async (t) => {
  const around = {
    clientKnown: 'asset' as const,
    targetKnown: true,
    answers: { good: 600, exceptions: 0 },
    timeouts: 0,
    kindsOfClient: 1,
    until: START + 9 * DAY,
  }
  const days = (more: Record<string, unknown>) =>
    only(Array.from({ length: 10 }, (_, i) => minute(START + i * DAY, 60, 1000, more)))
  const best = rank(days({}), around)
  t.match(best, { legitimacy: 100, danger: 5, suggestion: 'allow' })
  t.match(rank(days({ function_code: 6 }), around), { danger: 45, suggestion: 'look' }, 'a write wants a look')
  t.match(
    rank(days({ function_code: 90 }), around),
    { danger: 70, suggestion: 'look' },
    'and so does programming that is routine',
  )
  const stranger = { ...around, clientKnown: 'no' as const, answers: { good: 0, exceptions: 9 }, kindsOfClient: 40 }
  t.match(rank(only([event(START, {})]), stranger), {
    suggestion: 'reject',
    contra: [/exceptions alone/, 'unknown client', /40 kinds/],
  })
  t.ok(rank(days({}), { ...around, timeouts: 3 }).legitimacy < best.legitimacy)
  t.notOk(rank(days({}), { ...around, answers: null }).pro.includes('answered without exception'))
})

t.test('a flat curve, and a scan that is more than can be listed', async (t) => {
  const records = [0, 0, 0, 1, 5].map((day, i) =>
    event(START + day * DAY, { function_code: 1 + (i % 4), client: `10.30.1.${i}` }),
  )
  records.push(event(START + 9 * DAY, { event: 'gateway.ready' }))
  const none = { policy: null, baseline: null, decisions: [], minBaselineMs: 14 * DAY }
  const { curve, verdicts, watched } = analyze({ sightings: sighted(records), ...none })
  t.strictSame(
    curve.map((one) => one.kinds),
    [3, 1, 0, 0, 0, 1, 0, 0, 0, 0],
  )
  t.equal(watched, 9 * DAY)
  t.match(verdicts[0].obstacles, [/5 kinds .* may be legitimate/, 'the evidence covers 9 d, expected 14 d'])
  const many = sighted(
    Array.from({ length: 25_000 }, (_, i) =>
      event(START + i, { client: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}` }),
    ),
  )
  t.equal(many.all.size, 20_000)
  t.equal(many.dropped, 5_000)
  t.strictSame(analyze({ sightings: sighted([]), ...none }).curve, [])
})

t.test('what a shadow policy would change', async (t) => {
  const shadow = (name: string, sha: string, more: Record<string, unknown>) =>
    event(START, { event: name, shadow: sha, ...more })
  const unread = { protocol: 'opcua', function_code: undefined, reason: undefined }
  const item = { ...unread, function: 'Read', reason: 'node', node: 'ns=2;s=A', attribute: 'Value' }
  const records = [
    shadow('shadow.loaded', 'old', {}),
    shadow('shadow.would_deny', 'old', { function_code: 1 }),
    shadow('shadow.not_compared', 'old', { ...unread, detail: 'of another' }),
    shadow('shadow.loaded', 'new', {}),
    shadow('shadow.would_deny', 'new', { rule: 'reads', detail: 'functions allowed: 4', client_asset: 'HIST-01' }),
    { ...minute(START, 59, 1000), event: 'shadow.would_deny', shadow: 'new' },
    shadow('shadow.would_allow', 'new', { function_code: 6, reason: 'function' }),
    shadow('shadow.would_allow', 'new', { function_code: undefined, reason: 'pair', client: '10.9.9.9' }),
    shadow('shadow.would_deny', 'new', { ...item, target_port: 4840, items: 3, denied: 2 }),
    shadow('shadow.would_deny', 'new', { ...unread, function: 'OpenSecureChannel', reason: 'security' }),
    shadow('shadow.not_compared', 'new', { ...unread, detail: 'encryption hides it', count: 7 }),
  ]
  const directory = t.testdir({
    'evidence.jsonl': records
      .map((one, seq) => JSON.stringify({ seq, ...one }))
      .join('\n')
      .concat('\n'),
    'none.jsonl': `${JSON.stringify(event(START, {}))}\n`,
  })
  const [text, json, none] = headgate([
    ['analyze', '--shadow', join(directory, 'evidence.jsonl')],
    ['analyze', '--shadow', join(directory, 'evidence.jsonl'), '--format', 'json'],
    ['analyze', '--shadow', join(directory, 'none.jsonl')],
  ])
  t.equal(text.code, 1)
  t.match(text.out, /allowed now, and would be denied: 3 kinds\n {9}60 {2}HIST-01 \(10\.30\.1\.20\) -> /)
  t.match(text.out, / {10}1 {2}.* Read ns=2;s=A Value \(and other items\)\n/)
  t.match(text.out, /\nnot compared:\n {10}7 {2}C1: encryption hides it\n$/)
  t.match(text.out, /denied now \(or would be\), and would be allowed: 2 kinds\n/)
  t.match(JSON.parse(json.out), {
    shadow: 'new',
    would_deny: [
      { function: 3, count: 60 },
      { of: 'request', service: 'Read', node: 'ns=2;s=A', attribute: 'Value' },
      { of: 'channel', reason: 'security' },
    ],
    not_compared: [{ why: 'C1: encryption hides it', count: 7 }],
    would_allow: [
      { function: 6, of: 'request' },
      { of: 'connection', client: '10.9.9.9' },
    ],
  })
  t.match(none, { code: 0, out: /no shadow policy has judged/ })
})
