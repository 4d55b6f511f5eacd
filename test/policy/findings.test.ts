/** Everything that can be wrong with a document, each with its place, what was found and what was expected. */
import t from 'tap'
import { formatFinding } from '../../src/policy/findings.ts'
import { checkPolicy } from '../../src/policy/load.ts'

const check = (text: string) => checkPolicy('p.yaml', Buffer.from(text))

/** A document that is right, with room for what is wrong: `rule` replaces the rule, `protocol` and `tail` are added. */
function document({
  zones = '',
  mode = 'enforce',
  direction = '',
  rule = '',
  protocol = '',
  gateway = '',
} = {}): string {
  return `zones:
  - { zone_id: Z2-CELL, networks: [10.20.0.0/16], assets: [{ name: PLC-01, address: 10.20.1.10 }, "Spare PLC (PLC-09)"] }
  - { zone_id: Z3-OPS, networks: [10.30.0.0/16, fd00:3::/32], assets: [{ name: HIST-01, address: 10.30.1.20 }] }
  - { zone_id: Z5-ENT, assets: ["Office PCs"] }
${zones}
conduits:
  - conduit_id: C1
    connects: [Z2-CELL, Z3-OPS]
    mode: ${mode}
    protocols_allowed:
      - protocol: Modbus/TCP
        ${direction === '' ? 'port: 502' : `direction: "${direction}"`}
        rules:
          - ${rule === '' ? '{ name: reads, from: [HIST-01], to: [PLC-01], functions: [read] }' : rule}
        ${protocol}
${gateway}
`
}

const gateway = (listener: string, more = ''): string => `gateway:
  listeners:
    - ${listener}
  ${more}
`

t.test('a document without a fault has no finding', async (t) => {
  t.same(check(document()).findings, [])
  t.same(check(document({ gateway: gateway('{ conduit: C1, listen: "10.30.1.1:502", target: PLC-01 }') })).findings, [])
})

/** [what, document, where the finding stands (the text that starts there), message, severity] */
const faults: [string, string, string, RegExp, ('error' | 'warning')?][] = [
  ['unknown key', document({ protocol: 'limts: {}' }), 'limts', /unknown key "limts".*did you mean "limits"/],
  ['unknown key at the top', `${document()}gatway: {}\n`, 'gatway', /unknown key "gatway".*did you mean "gateway"/],
  [
    'unknown key in a rule',
    document({ rule: '{ from: [HIST-01], to: [PLC-01], functions: [3], unit_id: [1] }' }),
    'unit_id',
    /unknown key "unit_id".*did you mean "unit_ids"/,
  ],
  [
    'unknown key in an asset',
    document({ zones: '  - { zone_id: Z9, assets: [{ name: X, addres: 10.9.0.1, address: 10.9.0.2 }] }' }),
    'addres: ',
    /did you mean "address"/,
  ],
  [
    'duplicate key',
    document({ protocol: 'on_deny: drop\n        on_deny: reset' }),
    'on_deny: reset',
    /key "on_deny" twice \(first given in line 15\)/,
  ],
  ['missing key', document({ rule: '{ name: x, from: [HIST-01], functions: [3] }' }), '{ name: x', /expected key "to"/],
  [
    'missing functions',
    document({ rule: '{ name: x, from: [HIST-01], to: [PLC-01] }' }),
    '{ name: x',
    /expected key "functions".*\[all\]/,
  ],
  [
    'wrong type',
    document({ rule: '{ name: [x], from: [HIST-01], to: [PLC-01], functions: [3] }' }),
    '[x]',
    /found \["x"\], expected text/,
  ],
  [
    'wrong word',
    document({ mode: 'enforced' }),
    'enforced',
    /found "enforced", expected one of "monitor", "enforce"; did you mean "enforce"/,
  ],
  [
    'port out of range',
    document({ protocol: 'timeouts: { connect: 0s }' }),
    '0s',
    /found "0s", expected a duration from 10ms to 5m/,
  ],
  [
    'negative limit',
    document({ protocol: 'limits: { connections: { per_client: 0 } }' }),
    '0 }',
    /found 0, expected at least 1/,
  ],
  [
    'dangling asset',
    document({ rule: '{ from: [HIST-1], to: [PLC-01], functions: [3] }' }),
    'HIST-1]',
    /found "HIST-1", expected an asset, a zone or a CIDR block; did you mean "HIST-01"/,
  ],
  [
    'asset that is only prose',
    document({ rule: '{ from: [HIST-01], to: [PLC-09], functions: [3] }' }),
    'PLC-09]',
    /zone Z2-CELL has as prose alone.*\{ name: PLC-09, address: … \}/,
  ],
  [
    'bad address in a rule',
    document({ rule: '{ from: [10.30.1.300], to: [PLC-01], functions: [3] }' }),
    '10.30.1.300',
    /found "10.30.1.300", expected an IPv4 or IPv6 address/,
  ],
  [
    'octal-looking address',
    document({ rule: '{ from: [10.30.01.1], to: [PLC-01], functions: [3] }' }),
    '10.30.01.1',
    /expected an IPv4 or IPv6 address/,
  ],
  [
    'host bits',
    document({ rule: '{ from: [10.30.1.1/16], to: [PLC-01], functions: [3] }' }),
    '10.30.1.1/16',
    /expected no address bits behind the prefix: 10\.30\.0\.0\/16/,
  ],
  [
    'prefix too long',
    document({ rule: '{ from: ["fd00::/129"], to: [PLC-01], functions: [3] }' }),
    '"fd00::/129"',
    /prefix length of 0 to 32 \(IPv4\) or 0 to 128/,
  ],
  [
    'unknown function',
    document({ rule: '{ from: [HIST-01], to: [PLC-01], functions: [read-coil] }' }),
    'read-coil',
    /found "read-coil".*did you mean "read-coils"/,
  ],
  [
    'function code 0',
    document({ rule: '{ from: [HIST-01], to: [PLC-01], functions: [0] }' }),
    '0]',
    /found 0, expected a Modbus function/,
  ],
  [
    'function code 128',
    document({ rule: '{ from: [HIST-01], to: [PLC-01], functions: [128] }' }),
    '128]',
    /found 128, expected a Modbus function/,
  ],
  [
    'unknown table',
    document({ rule: '{ from: [HIST-01], to: [PLC-01], functions: [3], addresses: { holding-register: [1] } }' }),
    'holding-register:',
    /did you mean "holding-registers"/,
  ],
  [
    'address over 65535',
    document({ rule: '{ from: [HIST-01], to: [PLC-01], functions: [3], addresses: { coils: [0-65536] } }' }),
    '0-65536',
    /expected an address 0 to 65535/,
  ],
  [
    'reversed range',
    document({ rule: '{ from: [HIST-01], to: [PLC-01], functions: [3], addresses: { coils: [9-1] } }' }),
    '9-1',
    /expected a range from low to high/,
  ],
  [
    'unit over 255',
    document({ rule: '{ from: [HIST-01], to: [PLC-01], functions: [3], unit_ids: [256] }' }),
    '256',
    /expected a unit identifier 0 to 255/,
  ],
  [
    'values of a table that cannot be written',
    document({
      rule: '{ from: [HIST-01], to: [PLC-01], functions: [4], values: { input-registers: { 1: { max: 5 } } } }',
    }),
    '{ 1: {',
    /input-registers, which cannot be written/,
  ],
  [
    'min above max',
    document({
      rule: '{ from: [HIST-01], to: [PLC-01], functions: [6], values: { holding-registers: { 1: { min: 6, max: 5 } } } }',
    }),
    '{ min: 6',
    /min 6 above max 5/,
  ],
  [
    'coil value',
    document({ rule: '{ from: [HIST-01], to: [PLC-01], functions: [5], values: { coils: { 1: { max: 2 } } } }' }),
    '{ max: 2',
    /a coil is off or on/,
  ],
  [
    'overlapping values',
    document({
      rule: '{ from: [HIST-01], to: [PLC-01], functions: [6], values: { holding-registers: { 1-5: { max: 2 }, 5-6: { max: 3 } } } }',
    }),
    '5-6',
    /overlaps 1-5/,
  ],
  [
    'values in a deny rule',
    document({ rule: '{ action: deny, from: [HIST-01], to: [PLC-01], values: { coils: { 1: { max: 1 } } } }' }),
    '{ coils',
    /values in a deny rule/,
  ],
  [
    'quirk',
    document({ rule: '{ from: [HIST-01], to: [PLC-01], functions: [3], tolerate: [trailing-byte] }' }),
    'trailing-byte',
    /did you mean "trailing-bytes"/,
  ],
  [
    'rule mode',
    document({ rule: '{ from: [HIST-01], to: [PLC-01], functions: [3], mode: enforce }' }),
    'enforce }',
    /found "enforce", expected "monitor"/,
  ],
  [
    'zone of another conduit',
    document({ rule: '{ from: [Z5-ENT], to: [PLC-01], functions: [3] }' }),
    'Z5-ENT]',
    /found zone Z5-ENT, expected one of the zones that the conduit connects: Z2-CELL and Z3-OPS/,
  ],
  ['bad direction', document({ direction: 'Z3 to Z2' }), '"Z3 to Z2"', /expected "ZONE -> ZONE/],
  [
    'direction of unknown zones',
    document({ direction: 'Z7 -> Z2' }),
    '"Z7',
    /found "Z7", expected a zone of this document/,
  ],
  [
    'rule wider than the prose',
    document({
      direction: 'Z3 -> Z2 (read only, FC 3/4 only)',
      rule: '{ from: [HIST-01], to: [PLC-01], functions: [3, 6] }',
    }),
    '[3, 6]',
    /found write-single-register \(6\), expected no more than the direction says: "Z3 -> Z2 .*" \(line 12\)/,
  ],
  [
    'rule against the direction',
    document({ direction: 'Z3 -> Z2', rule: '{ from: [PLC-01], to: [HIST-01], functions: [3] }' }),
    '[PLC-01]',
    /found a rule from Z2-CELL to Z3-OPS/,
  ],
  [
    'claim that is not machine-readable',
    document({ direction: 'Z3 -> Z2 (read only, at night)' }),
    '"Z3',
    /found "at night", which no rule can be held to/,
    'warning',
  ],
  ['zone twice', document({ zones: '  - { zone_id: Z3-OPS }' }), 'Z3-OPS }', /zone "Z3-OPS" twice/],
  [
    'prefix of two zones',
    document({ zones: '  - { zone_id: Z3-LAB }', rule: '{ from: [Z3], to: [PLC-01], functions: [3] }' }),
    'Z3]',
    /could be any of Z3-OPS, Z3-LAB/,
  ],
  [
    'asset name twice',
    document({ zones: '  - { zone_id: Z9, assets: [{ name: PLC-01, address: 10.9.0.1 }] }' }),
    'PLC-01, address: 10.9',
    /asset "PLC-01" twice/,
  ],
  [
    'address twice',
    document({ zones: '  - { zone_id: Z9, assets: [{ name: X, address: "::ffff:10.20.1.10" }] }' }),
    '"::ffff:10.20',
    /already the address of PLC-01/,
  ],
  [
    'asset outside its zone',
    document({ zones: '  - { zone_id: Z9, networks: [10.9.0.0/24], assets: [{ name: X, address: 10.9.1.1 }] }' }),
    '10.9.1.1',
    /expected an address in Z9's networks: 10.9.0.0\/24/,
    'warning',
  ],
  [
    'overlapping zones',
    document({ zones: '  - { zone_id: Z9, networks: [10.30.7.0/24] }' }),
    '[10.30.7.0',
    /overlaps 10.30.0.0\/16 of zone Z3-OPS/,
    'warning',
  ],
  [
    'rule name twice',
    document({
      rule: '{ name: a, from: [HIST-01], to: [PLC-01], functions: [3] }\n          - { name: a, from: [HIST-01], to: [PLC-01], functions: [4] }',
    }),
    'a, from: [HIST-01], to: [PLC-01], functions: [4]',
    /rule name "a" twice/,
  ],
  [
    'conduit of a listener',
    document({ gateway: gateway('{ conduit: C2, listen: "10.30.1.1:502", target: PLC-01 }') }),
    'C2,',
    /found "C2", expected a conduit of this document; did you mean "C1"/,
  ],
  [
    'target of a listener',
    document({ gateway: gateway('{ conduit: C1, listen: "10.30.1.1:502", target: PLC-1 }') }),
    'PLC-1 }',
    /found "PLC-1".*did you mean "PLC-01"/,
  ],
  [
    'listener without target',
    document({ gateway: gateway('{ conduit: C1, listen: "10.30.1.1:502" }') }),
    '{ conduit',
    /expected key "target" in a listener/,
  ],
  [
    'listen without port',
    document({ gateway: gateway('{ conduit: C1, listen: 10.30.1.1, target: PLC-01 }') }),
    '10.30.1.1, t',
    /expected an address and a port/,
  ],
  [
    'listen twice',
    document({
      gateway: gateway(
        '{ conduit: C1, listen: "10.30.1.1:502", target: PLC-01 }\n    - { conduit: C1, listen: "10.30.1.1:502", target: 10.20.1.11 }',
      ),
    }),
    '"10.30.1.1:502", target: 10.20',
    /twice/,
  ],
  [
    'loop',
    document({ gateway: gateway('{ conduit: C1, listen: "10.20.1.10:502", target: PLC-01 }') }),
    'PLC-01 }',
    /the listener's own address/,
  ],
  [
    'target that no rule knows',
    document({ gateway: gateway('{ conduit: C1, listen: "10.30.1.1:502", target: 10.20.1.11 }') }),
    '10.20.1.11',
    /no rule of conduit C1 allows anyone to reach/,
    'warning',
  ],
  [
    'allowed conduit that is none',
    document({ zones: '  - { zone_id: Z9, allowed_conduits: [C7] }' }),
    'C7]',
    /found "C7", expected a conduit/,
  ],
  [
    'conduit of three zones',
    document().replace('[Z2-CELL, Z3-OPS]', '[Z2-CELL, Z3-OPS, Z5-ENT]'),
    '[Z2-CELL, Z3',
    /at most 2 entries/,
  ],
  ['not YAML', 'zones: [\nconduits: {{', 'conduits', /not YAML/],
  [
    'a second document, which nobody would read',
    `${document()}---\nconduits: []\n`,
    '---',
    /not YAML: .*multiple documents/,
  ],
  [
    'alias without its anchor',
    document({ rule: '{ from: [HIST-01], to: *plcs, functions: [3] }' }),
    '*plcs',
    /alias \*plcs.*anchor &plcs/,
  ],
  [
    'merge of what is no map',
    document({ rule: '{ <<: 7, from: [HIST-01], to: [PLC-01], functions: [3] }' }),
    'zones:',
    /cannot be read: Merge sources must be maps/,
  ],
  [
    'unknown key that was merged in',
    document({ protocol: 'timeouts: &t { connect: 5s }\n        limits: { <<: *t }' }),
    '<<',
    /unknown key "connect"/,
  ],
  [
    'letters that changed places',
    document({ rule: '{ from: [HIST-01], to: [PLC-01], functions: [raed] }' }),
    'raed',
    /did you mean "read"/,
  ],
  [
    'codes as prose has them',
    document({ rule: '{ from: [HIST-01], to: [PLC-01], functions: [FC 03/04] }' }),
    'FC 03/04',
    /did you mean the list \[3, 4\]/,
  ],
  ['not a map', '- 1\n', '-', /expected a map/],
  [
    'control character in a name',
    document({ rule: '{ name: "a\\nb", from: [HIST-01], to: [PLC-01], functions: [3] }' }),
    '"a\\nb"',
    /without control characters/,
  ],
]

t.test('each fault is found where it stands', async (t) => {
  for (const [what, text, marker, message, severity = 'error'] of faults) {
    const { policy, findings } = check(text)
    const offset = text.lastIndexOf(marker)
    const line = text.slice(0, offset).split('\n').length
    const column = offset - text.lastIndexOf('\n', offset - 1)
    const hit = findings.find((finding) => message.test(finding.message))
    t.ok(hit, `${what}: ${findings.map(formatFinding).join(' | ') || 'no finding'}`)
    if (what !== 'not YAML') t.match(hit, { file: 'p.yaml', line, column, severity }, `${what}: place`)
    t.equal(policy === null, severity === 'error', `${what}: usable only where it is a warning`)
  }
})

t.test('all faults of a document come at once, in its order', async (t) => {
  const text = document({
    mode: 'enforcing',
    rule: '{ nam: x, from: [HIST-1], to: [PLC-1], functions: [reed], addresses: { coils: [70000] } }',
    gateway: gateway('{ conduit: C9, listen: nowhere, target: PLC-1 }', 'workers: 0'),
  })
  const { findings } = check(text)
  const found = findings.map((finding) => finding.message)
  for (const part of ['enforcing', '"nam"', '"HIST-1"', '"PLC-1"', '"reed"', '70000', '"C9"', '"nowhere"', 'found 0']) {
    t.ok(
      found.some((message) => message.includes(part)),
      part,
    )
  }
  const lines = findings.map((finding) => finding.line)
  t.same(
    lines,
    [...lines].sort((a, b) => a - b),
  )
})

t.test('a zone without addresses is a gap while monitoring and an error to enforce', async (t) => {
  const direction = 'Z5-ENT -> Z2 (read only)'
  const text = (mode: string): string =>
    document({ mode })
      .replace('Z3-OPS]', 'Z5-ENT]')
      .replace(/rules:\n.*/, `direction: "${direction}"`)
  t.match(check(text('monitor')).findings, [{ id: 'zone-without-addresses', severity: 'warning' }])
  t.match(check(text('enforce')).findings, [{ id: 'zone-without-addresses', severity: 'error' }])
})

t.test('findings are bounded', async (t) => {
  const keys = Array.from({ length: 5000 }, (_, index) => `k${index}: 1`).join('\n')
  t.ok(check(`${document()}${keys}\n`).findings.length <= 1000)
})
