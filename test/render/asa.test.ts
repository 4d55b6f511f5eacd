/** ASA and ISA-3000 configurations: read, imported, rendered, compared; by what they allow, not by their text. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import t from 'tap'
import { compare } from '../../src/assurance/compare/compare.ts'
import { type Side, sideOf } from '../../src/assurance/compare/side.ts'
import { comparisonJson, comparisonText, differences } from '../../src/assurance/compare/words.ts'
import { checkPolicy } from '../../src/policy/load.ts'
import { readAsaConfig } from '../../src/render/asa/config.ts'
import { effectiveFlows } from '../../src/render/asa/effective.ts'
import { importAsa } from '../../src/render/asa/import.ts'
import { renderAsa } from '../../src/render/asa/render.ts'
import { difference, modbusFunctions, spansToBlocks } from '../../src/render/flows.ts'
import { intersect, spans, subtract, union } from '../../src/render/sets.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const read = (file: string): string => readFileSync(`${root}test/fixtures/${file}`, 'utf8')
const EXAMPLE = read('assurance/isa3000.cfg')
const DOCUMENT = read('policies/zone-document.yaml')

/** What a configuration lets through, one line for each flow: `from to transport ports functions`. */
function allowed(text: string): string[] {
  return effectiveFlows(readAsaConfig(text)).flows.map(({ flow }) => {
    const blocks = (set: typeof flow.from) =>
      spansToBlocks(set)
        .map((block) => block.text)
        .join('+')
    const ports = flow.port.map(([low, high]) => (low === high ? `${low}` : `${low}-${high}`)).join('+')
    const codes = [...new Set(modbusFunctions(flow.content).map(({ code }) => code))]
    const content = codes.length === 127 ? '' : ` fc ${codes.join(',')}`
    const transport = flow.transport.map(([low, high]) => (low === high ? low : `${low}-${high}`)).join('+')
    return `${blocks(flow.from)} ${blocks(flow.to)} ${transport} ${ports}${content}`
  })
}

/** Two interfaces with a list on `in` from zone a. */
const config = (lines: string, more = ''): string => `
interface GigabitEthernet1/1
 nameif a
 security-level 90
 ip address 10.1.0.1 255.255.0.0
interface GigabitEthernet1/2
 nameif b
 security-level 50
 ip address 10.2.0.1 255.255.0.0
 ipv6 address 2001:db8:2::1/64
${more}
${lines
  .split('\n')
  .map((line) => (line.trim() === '' ? '' : `access-list A extended ${line.trim()}`))
  .join('\n')}
access-list B extended deny ip any any
access-group A in interface a
access-group B in interface b
`

t.test('sets', async (t) => {
  const number = fc.integer({ min: 0, max: 40 })
  const set = fc
    .array(fc.tuple(number, number), { maxLength: 6 })
    .map((list) => spans(list.map(([a, b]) => [BigInt(Math.min(a, b)), BigInt(Math.max(a, b))] as const)))
  const members = (of: ReturnType<typeof spans>) =>
    Array.from({ length: 42 }, (_, n) => of.some(([low, high]) => low <= BigInt(n) && BigInt(n) <= high))
  fc.assert(
    fc.property(set, set, (a, b) => {
      const [x, y] = [members(a), members(b)]
      const same = (of: ReturnType<typeof spans>, want: (n: number) => boolean) =>
        members(of).every((is, n) => is === want(n))
      return (
        same(intersect(a, b), (n) => x[n] && y[n]) &&
        same(subtract(a, b), (n) => x[n] && !y[n]) &&
        same(union(a, b), (n) => x[n] || y[n])
      )
    }),
  )
  t.pass('intersection, difference and union by their members')
})

t.test('entries of access-lists', async (t) => {
  const cases: [string, string, string[]][] = [
    ['host to host', 'permit tcp host 10.1.0.5 host 10.2.0.6 eq 502', ['10.1.0.5 10.2.0.6 6 502']],
    [
      'masks, not wildcards',
      'permit udp 10.1.4.0 255.255.255.0 10.2.8.0 255.255.248.0 range 100 200',
      ['10.1.4.0/24 10.2.8.0/21 17 100-200'],
    ],
    [
      'any is what is behind the interfaces',
      'permit tcp any any eq https',
      ['10.1.0.0/16 2001:db8:2::/64+10.2.0.0/16 6 443'],
    ],
    ['any4', 'permit tcp any4 any4 eq ssh', ['10.1.0.0/16 10.2.0.0/16 6 22']],
    ['IPv6', 'permit tcp any host 2001:db8:2::5 eq www', ['10.1.0.0/16 2001:db8:2::5 6 80']],
    ['operators', 'permit tcp host 10.1.0.5 host 10.2.0.6 gt 65533', ['10.1.0.5 10.2.0.6 6 65534-65535']],
    ['lt', 'permit tcp host 10.1.0.5 host 10.2.0.6 lt 2', ['10.1.0.5 10.2.0.6 6 0-1']],
    ['neq', 'permit tcp host 10.1.0.5 host 10.2.0.6 neq 22', ['10.1.0.5 10.2.0.6 6 0-21+23-65535']],
    ['logged', 'permit tcp host 10.1.0.5 host 10.2.0.6 eq 22 log warnings interval 60', ['10.1.0.5 10.2.0.6 6 22']],
    ['inactive', 'permit tcp host 10.1.0.5 host 10.2.0.6 eq 22 inactive', []],
    ['a protocol by number', 'permit 47 host 10.1.0.5 host 10.2.0.6', ['10.1.0.5 10.2.0.6 47 0-65535']],
    [
      'the first match decides',
      'deny tcp host 10.1.0.5 any eq 22\npermit tcp 10.1.0.4 255.255.255.254 host 10.2.0.6 eq 22',
      ['10.1.0.4 10.2.0.6 6 22'],
    ],
    [
      'a denial behind changes nothing',
      'permit tcp host 10.1.0.5 host 10.2.0.6 eq 22\ndeny ip any any',
      ['10.1.0.5 10.2.0.6 6 22'],
    ],
    ['what is not behind the interface does not come in', 'permit tcp 10.2.9.0 255.255.255.0 host 10.2.0.6 eq 22', []],
    [
      'routes that an excerpt leaves out',
      'permit tcp host 172.16.0.1 host 172.17.0.1 eq 22',
      ['172.16.0.1 172.17.0.1 6 22'],
    ],
  ]
  for (const [what, lines, wanted] of cases) t.same(allowed(config(lines)), wanted, what)
})

t.test('objects and groups', async (t) => {
  const objects = `
name 10.1.0.9 HIST-01
object network PLC
 host 10.2.0.10
object network RANGE
 range 10.2.0.20 10.2.0.21
object service MODBUS
 service tcp destination eq 502
object-group network PLCS
 network-object object PLC
 network-object host 10.2.0.12
 group-object MORE
object-group network MORE
 network-object 10.2.4.0 255.255.255.0
object-group service WEB tcp
 port-object eq www
 port-object range 8080 8081
object-group service ANY-WEB
 service-object tcp destination eq 443
 service-object udp destination eq 443
object-group protocol BOTH
 protocol-object tcp
 protocol-object udp`
  const of = (line: string) => allowed(config(line, objects))
  t.same(of('permit tcp host HIST-01 object PLC eq 502'), ['10.1.0.9 10.2.0.10 6 502'])
  t.same(of('permit tcp host HIST-01 object-group PLCS eq 502'), ['10.1.0.9 10.2.0.10+10.2.0.12+10.2.4.0/24 6 502'])
  t.same(of('permit object MODBUS host HIST-01 object RANGE'), ['10.1.0.9 10.2.0.20/31 6 502'])
  t.same(of('permit tcp host HIST-01 object PLC object-group WEB'), ['10.1.0.9 10.2.0.10 6 80+8080-8081'])
  t.same(of('permit object-group ANY-WEB host HIST-01 object PLC'), [
    '10.1.0.9 10.2.0.10 6 443',
    '10.1.0.9 10.2.0.10 17 443',
  ])
  t.same(of('permit object-group BOTH host HIST-01 object PLC eq 53'), ['10.1.0.9 10.2.0.10 6+17 53'])
  for (const [line, why] of [
    ['permit tcp host HIST-01 object NOBODY eq 502', /no object network is called NOBODY/],
    ['permit tcp host HIST-01 object-group BOTH eq 502', /no object-group network is called BOTH/],
    ['permit tcp user OT\\\\x any object PLC', /users and security groups/],
    ['permit tcp 10.1.0.0 255.0.255.0 object PLC', /no mask: its bits are not in one run/],
    ['deny tcp object NOBODY any', /what it denies may be allowed by an entry behind it/],
    ['permit tcp any', /expected an address at the end of the line/],
    ['permit tcp any object PLC eq modbus', /modbus is no port/],
  ] as const) {
    const { notes } = readAsaConfig(config(line, objects))
    t.match(notes.at(-1), { text: `access-list A extended ${line}`, why }, line)
  }
  const loop = config('permit tcp any object-group L', 'object-group network L\n group-object L')
  t.match(
    readAsaConfig(loop).notes.map(({ why }) => why),
    [/contains itself/, /contains itself/],
  )
})

t.test('security levels, where an interface has no list', async (t) => {
  const two = (more: string) => config('', '').replace(/access-.*\n/g, '') + more
  t.same(allowed(two('')), ['10.1.0.0/16 2001:db8:2::/64+10.2.0.0/16 0-255 0-65535'], 'from the higher to the lower')
  const global = 'access-list G extended permit tcp any any eq 22\naccess-group G global\n'
  t.same(allowed(two(global)).sort(), [
    '10.1.0.0/16 2001:db8:2::/64+10.2.0.0/16 6 22',
    '2001:db8:2::/64+10.2.0.0/16 10.1.0.0/16 6 22',
  ])
  const out = 'access-list O extended permit tcp any host 10.2.0.6 eq 22\naccess-group O out interface b\n'
  t.same(allowed(two(out)), ['10.1.0.0/16 10.2.0.6 6 22'])
})

t.test('inspection of Modbus', async (t) => {
  const inspect = (map: string, classes = ' class inspection_default\n  inspect modbus M', more = '') =>
    `policy-map type inspect modbus M\n${map}\n${more}\npolicy-map global_policy\n${classes}\n`
  const of = (tail: string) => allowed(`${config('permit tcp host 10.1.0.5 host 10.2.0.6 eq 502')}${tail}`)
  const one = '10.1.0.5 10.2.0.6 6 502'
  t.same(
    of(inspect(' parameters\n  match func-code read-coils\n  match func-code force-single-coil  action drop log')),
    [`${one} fc 1`],
  )
  const but = (...codes: number[]) =>
    Array.from({ length: 127 }, (_, n) => n + 1)
      .filter((code) => !codes.includes(code))
      .join(',')
  t.same(
    of(inspect(' match func-code write-single-coil\n  drop log')),
    [`${one} fc ${but(5)}`],
    'only what is dropped is listed: the rest passes',
  )
  t.same(of(inspect(' match not func-code 3\n  reset')), [`${one} fc 3`])
  t.same(of(inspect(' match func-code range 1 4')), [`${one} fc 1,2,3,4`])
  const classed = 'class-map type inspect modbus match-any W\n match func-code 5\n match func-code 6\n'
  t.same(of(inspect(' class W\n  drop log', undefined, classed)), [`${one} fc ${but(5, 6)}`])
  t.same(
    of(inspect(' match func-code 3', ' class OTHER\n  inspect modbus M', 'class-map OTHER\n match port tcp eq 5020')),
    [one],
    'another port',
  )
  t.same(
    of(
      inspect(
        ' match func-code 3',
        ' class OTHER\n  inspect modbus M',
        'class-map OTHER\n match port tcp range 500 510',
      ),
    ),
    [`${one} fc 3`],
  )
  const listed = 'access-list C extended permit tcp any host 10.2.0.7 eq 502\nclass-map OTHER\n match access-list C'
  t.same(of(inspect(' match func-code 3', ' class OTHER\n  inspect modbus M', listed)), [one], 'another target')
  const unused = readAsaConfig(`${config('')}${inspect(' match func-code 3').replace('global_policy', 'mine')}`)
  t.match(unused.notes, [{ why: /no service-policy applies it/ }])
})

t.test('lines without an equivalent are listed, every one', async (t) => {
  const { notes } = readAsaConfig(`hostname isa
! a comment
nat (a,b) source static any any
interface Management1/1
 management-only
 shutdown
${config('permit tcp host 10.1.0.5 host 10.2.0.6 eq 502')}
access-list A remark who knows why
access-list S standard permit any4
http server enable
frobnicate the bar
 deeply
  and more
logging buffered warnings
policy-map global_policy
 class inspection_default
  inspect dns preset_dns_map
`)
  t.same(
    notes.map(({ line, text }) => [line, text]),
    [
      [1, 'hostname isa'],
      [3, 'nat (a,b) source static any any'],
      [4, 'interface Management1/1'],
      [5, 'management-only'],
      [6, 'shutdown'],
      [23, 'access-list A remark who knows why'],
      [24, 'access-list S standard permit any4'],
      [25, 'http server enable'],
      [26, 'frobnicate the bar'],
      [27, 'deeply'],
      [28, 'and more'],
      [29, 'logging buffered warnings'],
      [32, 'inspect dns preset_dns_map'],
    ],
  )
  for (const { why } of notes) t.ok(why.length > 5, why)
})

t.test('the example, imported', async (t) => {
  const { text, notes, decide } = importAsa('isa3000.cfg', EXAMPLE)
  const { policy, findings } = checkPolicy('i.yaml', Buffer.from(text))
  t.same(findings, [], 'passes the checks')
  t.same(notes, [])
  t.match(decide.join('\n'), /which services of OPC UA pass/)
  t.match(policy, {
    zones: [
      { id: 'BPCS', networks: [{ text: '10.20.0.0/16' }] },
      { id: 'OPS', networks: [{ text: '10.30.0.0/16' }] },
    ],
    conduits: [
      {
        protocols: [
          {
            kind: 'modbus',
            port: 502,
            onDeny: 'drop',
            rules: [{ name: 'line 18', functions: [{ code: 1 }, { code: 2 }, { code: 3 }, { code: 4 }] }],
          },
          { kind: 'opcua', port: 4840 },
        ],
      },
    ],
    gateway: { syslog: [{ url: 'udp://10.30.1.60:514', minSeverity: 'info' }] },
  })
  const again = renderAsa(policy as NonNullable<typeof policy>).text
  const { onlyA, onlyB, sourcesA } = compare(sideOf('again.cfg', again), sideOf('isa3000.cfg', EXAMPLE))
  t.ok(sourcesA.length > 0)
  t.same([onlyA, onlyB], [[], []], 'and rendered again says the same')
  t.match(again, /logging host zone-ops 10\.30\.1\.60$/m)
  t.same(readAsaConfig(again).notes, [], 'and every line of it is read')
})

t.test('what is to be decided, and kept, of other configurations', async (t) => {
  const text = config(
    `permit tcp host 10.1.0.5 host 10.2.0.6 eq 502
     permit tcp any object PLC eq https
     permit udp host 10.1.0.5 eq 123 host 10.2.0.6 eq ntp
     permit icmp any any echo
     permit tcp host 10.1.0.5 host 10.2.0.6 range 2000 2010
     permit 47 host 10.1.0.5 host 10.2.0.6`,
    'object network PLC\n host 10.2.0.10',
  )
  const imported = importAsa('x.cfg', text)
  const { policy, findings } = checkPolicy('i.yaml', Buffer.from(imported.text))
  t.same(
    findings.filter(({ severity }) => severity === 'error'),
    [],
  )
  t.match(imported.decide.join('\n'), /which functions of Modbus pass: nothing looks into port 502, opened in line \d+/)
  t.match(
    imported.notes.map(({ why }) => why),
    [/source ports/, /type of ICMP/, /a document has no word for/],
  )
  t.match(
    policy?.conduits[0].protocols.map(({ protocol }) => protocol),
    ['Modbus/TCP', 'HTTPS', 'NTP', 'ICMP', 'tcp 2000-2010'],
  )
  t.match(policy?.zones[1].assets, [{ name: 'PLC', address: { text: '10.2.0.10' } }])
  t.match(imported.text, /^# {3}\d+: access-list A extended permit 47 /m, 'listed at the head as well')
})

t.test('hostile configurations end in notes, in bounded time', async (t) => {
  for (const [what, text] of [
    ['deep', Array.from({ length: 3000 }, (_, n) => `${' '.repeat(n)}class x`).join('\n')],
    ['long', `access-list A extended permit tcp ${'any '.repeat(50_000)}`],
    [
      'many',
      Array.from(
        { length: 8000 },
        (_, n) => `access-list A extended permit tcp host 10.1.${n >> 8}.${n & 255} any eq ${n % 65536}`,
      ).join('\n'),
    ],
    [
      'prototype',
      'object network __proto__\n host 10.1.1.1\nobject-group network constructor\n group-object toString\n__proto__ x',
    ],
    [
      'empty words',
      'interface\naccess-list\naccess-list A extended\naccess-group\nobject\nobject-group\nlogging\nroute\npolicy-map\nclass-map\nservice-policy\nname',
    ],
  ]) {
    const started = process.cpuUsage().user
    const imported = importAsa('h.cfg', text)
    t.type(imported.text, 'string', what)
    t.ok(process.cpuUsage().user - started < 8e6, `${what}: bounded time`)
  }
})

const side = (document: object | string): Side =>
  sideOf('d.yaml', typeof document === 'string' ? document : JSON.stringify(document))

t.test('the two examples disagree in two functions of Modbus, and in nothing else', async (t) => {
  const comparison = compare(sideOf('zone-document.yaml', DOCUMENT), sideOf('isa3000.cfg', EXAMPLE))
  const all = differences(comparison)
  t.equal(all.length, 1)
  t.match(all[0], {
    file: 'isa3000.cfg',
    from: ['Z3-OPS (zone-ops)'],
    to: ['Z2-BPCS (zone-bpcs)'],
    transport: 'tcp',
    ports: ['502'],
    content: {
      functions: [
        { code: 1, name: 'read-coils' },
        { code: 2, name: 'read-discrete-inputs' },
      ],
    },
    units: null,
    lines: [18],
    other: 'zone-document.yaml allows Modbus functions 3 (read-holding-registers), 4 (read-input-registers) there',
  })
  const text = comparisonText(comparison).join('\n')
  t.match(text, /conduit C2-OPS-DMZ is not compared: isa3000\.cfg has no interface in Z4-DMZ/)
  const turned = comparisonJson(compare(sideOf('isa3000.cfg', EXAMPLE), sideOf('zone-document.yaml', DOCUMENT)))
  t.match(turned, { same: false, differences: [{ file: 'isa3000.cfg' }], a: { kind: 'asa' }, b: { kind: 'document' } })
})

const RULE = { name: 'reads', from: ['HIST'], to: ['Z2-CELL'], functions: [3, 4] }
const site = (rules: object[], more: object = {}, protocols: object[] = []) => ({
  zones: [
    { zone_id: 'Z2-CELL', networks: ['10.20.0.0/16'], assets: [{ name: 'PLC', address: '10.20.1.10' }] },
    {
      zone_id: 'Z3-OPS',
      networks: ['10.30.0.0/16', '2001:db8:3::/48'],
      assets: [{ name: 'HIST', address: '10.30.1.20' }],
    },
  ],
  conduits: [
    {
      conduit_id: 'C1',
      connects: ['Z2-CELL', 'Z3-OPS'],
      protocols_allowed: [{ protocol: 'Modbus/TCP', rules, ...more }, ...protocols],
    },
  ],
})

t.test('documents compared', async (t) => {
  const told = (a: object, b: object) => differences(compare(side(a), side(b))).map(({ text, file }) => [file, text])
  const base = site([RULE])
  const swapped = site([
    { ...RULE, functions: [4], to: ['10.20.128.0/17'], name: 'b' },
    { ...RULE, functions: [3, 4], to: ['10.20.0.0/17'], name: 'c' },
    { ...RULE, functions: [3], to: ['10.20.128.0/17'], name: 'd' },
  ])
  t.same(told(base, swapped), [], 'other rules for the same set')
  t.match(told(base, site([{ ...RULE, unit_ids: ['1-16'] }])), [
    [/d/, /Modbus functions 3 .*, 4 .*, unit identifiers 0, 17-255; .* unit identifiers 1-16 there/],
  ])
  t.match(told(base, site([{ ...RULE, to: ['PLC'] }])), [[/d/, /to 10\.20\.0\.0\/24, /]])
  t.match(told(base, site([{ ...RULE, addresses: { 'holding-registers': ['0-99'], 'input-registers': ['0-99'] } }])), [
    [/d/, /addresses 100-65535/],
  ])
  t.match(told(base, site([RULE, { name: 'no', action: 'deny', from: ['HIST'], to: ['PLC'], functions: [4] }])), [
    [/d/, /from HIST to PLC, tcp port 502: Modbus function 4 /],
  ])
  t.match(told(base, site([RULE], { port: 5020 })).length, 2)
  t.match(told(base, site([RULE], {}, [{ protocol: 'HTTPS', port: 443, direction: 'Z3 -> Z2' }])), [
    [/d/, /from Z3-OPS to Z2-CELL, tcp port 443: anything; .* allows nothing there/],
  ])
  const limited = (min: number) =>
    site([{ ...RULE, functions: [6], values: { 'holding-registers': { '0-9': { min, max: 100 } } } }])
  t.match(told(limited(0), limited(10)), [[/d/, /write-single-register.*addresses 0-9, values 0-9;/]])
  const ua = (services: string[]) =>
    site([RULE], {}, [
      {
        protocol: 'OPC UA',
        opcua: { security_modes: ['Sign'] },
        rules: [{ name: 'u', from: ['HIST'], to: ['PLC'], services }],
      },
    ])
  t.match(told(ua(['read', 'write']), ua(['read'])), [[/d/, /OPC UA service Write/]])
})

t.test('a document and its rendering; what an ISA-3000 cannot say is told', async (t) => {
  const rendered = (document: object) => {
    const one = side(document) as Extract<Side, { kind: 'document' }>
    return renderAsa(one.policy)
  }
  const same = (document: object) => {
    const { onlyA, onlyB } = compare(side(document), sideOf('r.cfg', rendered(document).text))
    return [onlyA.length, onlyB.length]
  }
  t.same(same(site([RULE])), [0, 0])
  const many = site([
    RULE,
    { name: 'w', from: ['10.30.2.0/24'], to: ['PLC'], functions: [6, 16, 90] },
    { name: 'x', from: ['10.30.2.7', '2001:db8:3::7'], to: ['PLC'], functions: [3] },
    { name: 'n', action: 'deny', from: ['10.30.2.9'], to: ['PLC'], functions: [16] },
  ])
  t.same(same(many), [0, 0], 'several sets of functions')
  t.match(rendered(many).text, /class modbus-2\n {2}inspect modbus MODBUS-2/)
  const inside = site([RULE, { name: 'e', from: ['10.20.9.9'], to: ['PLC'], functions: [6] }])
  t.same(same(inside), [0, 0], 'what stays within a zone crosses no firewall')
  t.match(rendered(inside).notes.join('\n'), /stays within Z2-CELL/)
  const narrow = site([{ ...RULE, unit_ids: [1], functions: ['diagnostics/0'] }])
  t.match(
    rendered(narrow).notes.join('\n'),
    /unit identifiers of Modbus\/TCP cannot be told apart[\s\S]*sub-function diagnostics\/return-query-data/,
  )
  const [only] = [differences(compare(side(narrow), sideOf('r.cfg', rendered(narrow).text)))]
  t.ok(
    only.every(({ file }) => file === 'r.cfg'),
    'the firewall allows more, never less',
  )
  const others = site([RULE], {}, [
    { protocol: 'HTTPS', port: 443, direction: 'Z3 -> Z2' },
    { protocol: 'NTP', port: 123, direction: 'Z2 <-> Z3' },
    { protocol: 'Web', ports: ['8000-8010', 8080], direction: 'Z3 -> Z2', from: ['HIST'], to: ['PLC'] },
    { protocol: 'ping', direction: 'Z3 -> Z2' },
  ])
  t.same(same(others), [0, 0], 'protocols that Headgate does not carry')
})

t.test('document → ISA-3000 → document keeps every tuple that is allowed', async (t) => {
  const block = (zone: number) =>
    fc.oneof(
      fc.constant(['Z2-CELL', 'Z3-OPS'][zone]),
      fc
        .tuple(fc.nat(3), fc.integer({ min: 18, max: 32 }))
        .map(([third, bits]) => `10.${20 + zone * 10}.${bits > 23 ? third : 0}.0/${bits}`),
      fc.nat(3).map((last) => (zone === 1 ? `2001:db8:3::${last}` : `10.20.1.${last}`)),
      fc.constant(zone === 1 ? '10.31.0.9' : '10.20.0.0/16'),
    )
  const rule = fc
    .record({
      turned: fc.boolean(),
      action: fc.constantFrom('allow', 'allow', 'allow', 'deny'),
      from: fc.array(block(1), { minLength: 1, maxLength: 3 }),
      to: fc.array(block(0), { minLength: 1, maxLength: 3 }),
      functions: fc.array(
        fc.oneof(fc.integer({ min: 1, max: 127 }), fc.constantFrom('read', 'write', 'all', 'diagnostics/0', '43/14')),
        { minLength: 1, maxLength: 4 },
      ),
      units: fc.boolean(),
    })
    .map(({ turned, from, to, units, ...rest }) => ({
      ...rest,
      from: [...new Set(turned ? to : from)],
      to: [...new Set(turned ? from : to)],
      ...(units ? { unit_ids: ['1-16'] } : {}),
    }))
  const other = fc
    .record({ port: fc.constantFrom(443, 502, 5450), transport: fc.constantFrom('tcp', 'udp'), back: fc.boolean() })
    .map(({ port, transport, back }) => ({
      protocol: `p${port}${transport}`,
      port,
      transport,
      direction: back ? 'Z2 -> Z3' : 'Z3 -> Z2',
    }))
  let carried = 0
  fc.assert(
    fc.property(fc.array(rule, { minLength: 1, maxLength: 5 }), fc.array(other, { maxLength: 2 }), (rules, others) => {
      const named = rules.map((one, index) => ({ name: `r${index}`, ...one }))
      const document = side(site(named, {}, others)) as Extract<Side, { kind: 'document' }>
      const { text } = renderAsa(document.policy)
      const firewall = sideOf('r.cfg', text)
      const back = sideOf('b.yaml', importAsa('r.cfg', text).text)
      const there = compare(document, firewall)
      carried += there.sourcesA.length
      // Units and sub-functions widen; without them nothing is added either.
      const exact = rules.every(
        (one) =>
          !('unit_ids' in one) &&
          one.functions.every((code) => typeof code === 'number' || code === 'write' || code === 'all'),
      )
      if (there.onlyA.length > 0 || (exact && there.onlyB.length > 0)) throw new Error(comparisonText(there).join('\n'))
      if (back.kind !== 'document' || there.sourcesA.length === 0) return
      const lost = compare(firewall, back)
      const kept = lost.onlyA.filter(
        (one) =>
          difference(
            [one],
            lost.sourcesB.map(({ flow }) => flow),
          ).length > 0,
      )
      if (kept.some(({ content }) => modbusFunctions(content).length > 0))
        throw new Error(comparisonText(lost).join('\n'))
    }),
    { numRuns: 60, seed: 7 },
  )
  t.ok(carried > 100, `${carried} flows`)
})
