/** From documents to the checked policy: the examples, the prose that binds, the notations, hostile files. */
import { createHash } from 'node:crypto'
import { chmodSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import t from 'tap'
import { parseDirection } from '../../src/policy/direction.ts'
import { formatFinding } from '../../src/policy/findings.ts'
import { checkPolicy, loadPolicy, PolicyUnreadable } from '../../src/policy/load.ts'
import { joinRanges } from '../../src/policy/modbus-rules.ts'
import type { ModbusProtocol } from '../../src/policy/model.ts'
import {
  isComplaint,
  parseDuration,
  parsePurdueLevel,
  parseSecurityLevel,
  splitEndpoint,
} from '../../src/policy/values.ts'
import { FUNCTION_GROUPS } from '../../src/protocols/modbus/function-codes.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const ZONE_DOCUMENT = `${root}test/fixtures/policies/zone-document.yaml`

t.test('an assessment without a word for machines loads, and its prose is the rule', async (t) => {
  const bare = loadPolicy(ZONE_DOCUMENT)
  t.same(
    bare.findings.filter((finding) => finding.severity === 'error'),
    [],
  )
  const text = readFileSync(ZONE_DOCUMENT, 'utf8')
  t.equal(bare.policy?.sha256, createHash('sha256').update(text).digest('hex'))
  t.match(
    bare.policy?.conduits.map((conduit) => [conduit.id, conduit.mode]),
    [
      ['C1-BPCS-OPS', 'monitor'],
      ['C2-OPS-DMZ', 'monitor'],
      ['C3-DMZ-ENT', 'monitor'],
    ],
  )
  // With addresses for its zones, the direction becomes a rule from one to the other.
  const addressed = text
    .replace('    purdue_level: "1-2"', '    networks: [10.20.0.0/16]\n    purdue_level: "1-2"')
    .replace('    purdue_level: 3\n', '    networks: [10.30.0.0/16]\n    purdue_level: 3\n')
  const { policy } = checkPolicy('z.yaml', Buffer.from(addressed))
  const modbus = policy?.conduits[0].protocols.find((one): one is ModbusProtocol => one.kind === 'modbus')
  t.match(modbus?.rules, [
    {
      name: 'Z3 -> Z2 (read only, FC 3/4 only)',
      action: 'allow',
      from: [{ text: '10.30.0.0/16' }],
      to: [{ text: '10.20.0.0/16' }],
      functions: [
        { code: 3, sub: null },
        { code: 4, sub: null },
      ],
      addresses: null,
      fromProse: true,
    },
  ])
  t.equal(modbus?.rules.length, 1)
})

t.test('every example policy is clean', async (t) => {
  const files = readdirSync(`${root}policies`).filter((file) => file.endsWith('.yaml'))
  t.ok(files.length >= 3)
  for (const file of files) t.same(loadPolicy(`${root}policies/${file}`).findings.map(formatFinding), [], file)
})

t.test('prose of directions', async (t) => {
  const codes = (text: string): number[] | null | undefined => {
    const direction = parseDirection(text)
    return direction === null ? undefined : (direction.functions?.map((one) => one.code).sort((a, b) => a - b) ?? null)
  }
  const read = [...FUNCTION_GROUPS.read].map((one) => one.code).sort((a, b) => a - b)
  t.same(codes('Z3 -> Z2'), null)
  t.same(codes('Z3 -> Z2 (read only)'), read)
  t.same(codes('Z3 → Z2 (Read-Only)'), read)
  t.same(codes('Z3 -> Z2 (read only, FC 3/4 only)'), [3, 4])
  t.same(codes('Z3 -> Z2 (FC 3, 4 and 16 only)'), [3, 4, 16])
  t.same(codes('Z3 -> Z2 (FC3/FC4)'), [3, 4])
  t.same(codes('Z3 -> Z2 (function codes 1-4)'), [1, 2, 3, 4])
  t.same(codes('Z3 -> Z2 (read only, FC 6 only)'), [], 'what contradicts itself allows nothing')
  t.equal(parseDirection('Z3 <-> Z2 (read only)')?.both, true)
  t.same(parseDirection('Z3-OPS -> Z4-DMZ (unidirectional via data diode)'), {
    initiator: 'Z3-OPS',
    responder: 'Z4-DMZ',
    both: false,
    functions: null,
    prose: ['unidirectional via data diode'],
    claims: [{ text: 'unidirectional via data diode', functions: null }],
  })
  t.same(parseDirection('Z3 -> Z2 (no FC 5)')?.prose.length, 1, 'a negation is not taken for its opposite')
  t.equal(parseDirection('Z3 to Z2'), null)
  t.equal(parseDirection('Z3 -> Z2 -> Z1'), null)
})

t.test('notations', async (t) => {
  t.equal(parseSecurityLevel('SL 2'), 2)
  t.equal(parseSecurityLevel(3), 3)
  t.equal(parseSecurityLevel('sl-t 1'), 1)
  t.ok(isComplaint(parseSecurityLevel('SL 5')))
  t.same(parsePurdueLevel('1-2'), [1, 2])
  t.same(parsePurdueLevel(3.5), [3.5, 3.5])
  t.ok(isComplaint(parsePurdueLevel('2-1')))
  const ms = (text: unknown) => parseDuration(text, 0, 1e12)
  t.same(
    [ms('500ms'), ms('5s'), ms(5), ms('2m'), ms('1h'), ms('0.5'), ms('1d')],
    [500, 5000, 5000, 120_000, 3_600_000, 500, 86_400_000],
  )
  t.ok([ms('5 weeks'), ms(-1), ms(''), ms(null), ms([5])].every(isComplaint))
  t.same(splitEndpoint('10.0.0.1:502'), { host: '10.0.0.1', port: 502 })
  t.same(splitEndpoint('[fd00::1]:502'), { host: 'fd00::1', port: 502 })
  t.same(splitEndpoint('fd00::1'), { host: 'fd00::1', port: null })
  t.same(splitEndpoint('PLC-01'), { host: 'PLC-01', port: null })
  t.equal(splitEndpoint('10.0.0.1:99999'), null)
  t.same(
    joinRanges([
      [10, 19],
      [0, 9],
      [30, 30],
      [15, 25],
    ]),
    [
      [0, 25],
      [30, 30],
    ],
  )
})

t.test('documents as others write them', async (t) => {
  const text = `zones:
  - { zone_id: Z2, networks: [10.20.0.0/16] }
  - { zone_id: Z3, networks: [10.30.0.0/16] }
conduits:
  - conduit_id: C1
    connects: [Z2, Z3]
    protocols_allowed:
      - protocol: MODBUS TCP
        direction: "Z3 –> Z2 (FC 1–4, 6)"
        rules:
          - &reads { name: reads, from: [Z3], to: [Z2], functions: [FC3, 0x04, "fc 02", READ_COILS], on_deny: drop }
          - { <<: *reads, name: one, functions: [6], addresses: { holding-registers: ["100–119", 0x80 - 0x8F] } }
`
  for (const form of [text, `\ufeff${text}`, text.replaceAll('\n', '\r\n')]) {
    const { policy, findings } = checkPolicy('p.yaml', Buffer.from(form))
    t.same(findings, [])
    const rules = (policy?.conduits[0].protocols[0] as ModbusProtocol | undefined)?.rules
    t.match(rules, [
      { name: 'reads', functions: [{ code: 3 }, { code: 4 }, { code: 2 }, { code: 1 }], onDeny: 'drop' },
      { name: 'one', from: [{ text: '10.30.0.0/16' }], functions: [{ code: 6 }], onDeny: 'drop' },
    ])
    t.same(rules?.[1].addresses, {
      'holding-registers': [
        [100, 119],
        [128, 143],
      ],
    })
    t.equal(rules?.length, 2)
  }
})

t.test('defaults suit slow PLCs, and every figure can be set', async (t) => {
  const text = (more: string): string => `zones:
  - { zone_id: A, networks: [10.1.0.0/16] }
  - { zone_id: B, networks: [10.2.0.0/16] }
conduits:
  - conduit_id: C
    connects: [A, B]
    protocols_allowed:
      - protocol: modbus
        rules: [{ from: [A], to: [B], functions: [3] }]
${more}
`
  const modbus = (more: string) => {
    const { policy, findings } = checkPolicy('p', Buffer.from(text(more)))
    t.same(findings, [])
    return policy?.conduits[0].protocols[0] as ModbusProtocol
  }
  t.match(modbus(''), {
    port: 502,
    onDeny: 'exception',
    timeouts: { connectMs: 5000, idleMs: 3_600_000, partialFrameMs: 10_000, responseMs: 5000 },
    limits: {
      connectionsPerClient: null,
      inFlightPerTarget: null,
      burst: 1,
      onLimit: 'deny',
      paceQueue: 16,
      paceMs: 1000,
    },
    rules: [{ name: 'rule-1', unitIds: null, addresses: null, onDeny: null, mode: null, tolerate: [] }],
  })
  const set = modbus(`        port: 5502
        on_deny: reset
        on_limit: pace
        pace: { queue: 4, time: 250ms }
        timeouts: { connect: 1s, idle: 10m, partial_frame: 2s, response: 700ms }
        limits:
          connections: { per_client: 1, per_target: 2, new_per_second: 3 }
          requests: { per_client_per_second: 4, per_target_per_second: 55 }
          in_flight_per_target: 1`)
  t.match(set, {
    port: 5502,
    onDeny: 'reset',
    timeouts: { connectMs: 1000, idleMs: 600_000, partialFrameMs: 2000, responseMs: 700 },
    limits: {
      connectionsPerClient: 1,
      connectionsPerTarget: 2,
      newConnectionsPerSecond: 3,
      requestsPerClientPerSecond: 4,
      requestsPerTargetPerSecond: 55,
      burst: 6,
      inFlightPerTarget: 1,
      onLimit: 'pace',
      paceQueue: 4,
      paceMs: 250,
    },
  })
})

t.test('files that cannot be read are told in one line', async (t) => {
  const directory = t.testdir({ 'big.yaml': '#'.repeat((1 << 20) + 1), 'locked.yaml': 'zones: []' })
  mkdirSync(`${directory}/folder`)
  t.throws(
    () => loadPolicy(`${directory}/none.yaml`),
    new PolicyUnreadable(`cannot read ${directory}/none.yaml: no such file`),
  )
  t.throws(() => loadPolicy(`${directory}/folder`), { message: /it is a directory/ })
  t.throws(() => loadPolicy(`${directory}/big.yaml`), { message: /longer than 1048576 bytes/ })
  if (process.getuid?.() === 0) return t.comment('no permission: not tried, root may read everything')
  chmodSync(`${directory}/locked.yaml`, 0)
  t.throws(() => loadPolicy(`${directory}/locked.yaml`), { message: /no permission/ })
})

t.test('hostile documents end in findings, in bounded time', async (t) => {
  const bomb = [
    'a0: &a0 [x,x,x,x,x,x,x,x]',
    ...Array.from({ length: 20 }, (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i},`.repeat(8)}]`),
  ]
  const hostile: [string, string | Buffer][] = [
    ['empty', ''],
    ['only a comment', '# nothing'],
    ['null', 'null'],
    ['binary', Buffer.from([0xff, 0xfe, 0, 1, 2, 3, 0x80])],
    ['aliases that multiply', bomb.join('\n')],
    ['an alias to itself', 'zones: &z [*z]\nconduits: *z'],
    ['deep brackets', `zones: ${'['.repeat(20_000)}`],
    ['deep indentation', Array.from({ length: 1500 }, (_, i) => `${' '.repeat(i)}a:`).join('\n')],
    ['many keys', Array.from({ length: 50_000 }, (_, i) => `k${i}: 1`).join('\n')],
    [
      '__proto__',
      'zones: []\nconduits: []\n__proto__: { polluted: true }\nconstructor: { prototype: { polluted: true } }',
    ],
    [
      'lists of nothing',
      'zones: [null, 1, [], {}]\nconduits: [null, 1, [], {}, { conduit_id: C, connects: 5, protocols_allowed: [null, 5, {}, { protocol: Modbus/TCP, rules: 7 }, { protocol: modbus, rules: [null, 5, {}] }] }]\ngateway: { listeners: [null, 5, {}], syslog: 5, metrics: 7 }',
    ],
    ['two documents', 'zones: []\n---\nconduits: []'],
  ]
  for (const [what, text] of hostile) {
    const started = process.cpuUsage().user
    const { policy, findings } = checkPolicy('h.yaml', Buffer.from(text))
    t.equal(policy, null, what)
    t.ok(findings.length > 0, `${what}: ${findings[0] && formatFinding(findings[0])}`)
    t.ok(process.cpuUsage().user - started < 10e6, `${what}: bounded time`)
  }
  t.equal(({} as { polluted?: boolean }).polluted, undefined)
})

t.test('any damage to a good document ends in findings or a policy, never in an exception', async (_t) => {
  const good = readFileSync(`${root}policies/monitor-first.yaml`, 'utf8')
  const pieces = [
    '',
    ' ',
    '\n',
    '[',
    ']',
    '{',
    '}',
    ':',
    '- ',
    '&a ',
    '*a',
    '!!binary ',
    'null',
    '-1',
    '"',
    "'",
    '\t',
    '%',
    '99999999999999999999',
    '.inf',
    '\u0000',
    '~',
  ]
  fc.assert(
    fc.property(
      fc.nat(good.length),
      fc.nat(40),
      fc.oneof(fc.constantFrom(...pieces), fc.string({ maxLength: 12 })),
      (at, cut, piece) => {
        const { policy, findings } = checkPolicy(
          'm.yaml',
          Buffer.from(good.slice(0, at) + piece + good.slice(at + cut)),
        )
        const failed = findings.some((finding) => finding.severity === 'error')
        return (
          (policy === null) === failed &&
          findings.every((one) => one.line >= 1 && one.column >= 1 && !one.message.includes('\n'))
        )
      },
    ),
    { numRuns: 200 },
  )
})
