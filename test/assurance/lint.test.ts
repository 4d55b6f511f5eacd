/** Every lint on the document that it is for, on the near miss beside it, and suppressed. */
import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { LINTS, type LintId } from '../../src/assurance/lint/catalogue.ts'
import { beside, lint } from '../../src/assurance/lint/lint.ts'
import { checkPolicy, loadPolicy } from '../../src/policy/load.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const NOW = new Date('2026-03-15T12:00:00Z')

const RULE = { name: 'reads', from: ['HIST-01'], to: ['PLC-01'], functions: [3] }
const WRITE = { ...RULE, name: 'writes', unit_ids: [1], functions: [6], addresses: { 'holding-registers': ['0-9'] } }
const FROM_CELL = { from: ['EWS-01'] }

interface Parts {
  cell?: object
  ops?: object
  zones?: object[]
  conduit?: object
  modbus?: object
  protocols?: object[]
  conduits?: object[]
  gateway?: object
  suppress?: object[]
}

const DMZ = { zone_id: 'Z4-DMZ', purdue_level: 3.5, networks: ['10.40.0.0/16'] }
const ENT = { zone_id: 'Z5-ENT', purdue_level: 4, networks: ['10.50.0.0/16'] }
const between = (id: string, a: string, b: string, protocols_allowed: object[] = []) => ({
  conduit_id: id,
  connects: [a, b],
  protocols_allowed,
})

/** A document that the lint has nothing to say about, but for what is added. */
function load(parts: Parts = {}) {
  const document = {
    zones: [
      {
        zone_id: 'Z2-CELL',
        purdue_level: '1-2',
        security_level_target: 'SL 2',
        networks: ['10.20.0.0/16'],
        assets: [
          { name: 'PLC-01', address: '10.20.1.10', role: 'plc' },
          { name: 'EWS-01', address: '10.20.1.5', role: 'engineering-workstation' },
        ],
        ...parts.cell,
      },
      {
        zone_id: 'Z3-OPS',
        purdue_level: 3,
        networks: ['10.30.0.0/16'],
        assets: [{ name: 'HIST-01', address: '10.30.1.20' }],
        ...parts.ops,
      },
      ...(parts.zones ?? []),
    ],
    conduits: [
      {
        conduit_id: 'C1',
        connects: ['Z2-CELL', 'Z3-OPS'],
        security_level: 'SL 2',
        mode: 'enforce',
        protocols_allowed: [
          { protocol: 'Modbus/TCP', rules: [RULE], limits: { in_flight_per_target: 4 }, ...parts.modbus },
          ...(parts.protocols ?? []),
        ],
        ...parts.conduit,
      },
      ...(parts.conduits ?? []),
    ],
    gateway: {
      listeners: [{ conduit: 'C1', listen: '10.30.0.1:502', target: 'PLC-01' }],
      evidence: { directory: '/var/lib/headgate/evidence' },
      syslog: [{ url: 'tcp://10.30.1.60:601' }],
      ...parts.gateway,
    },
    lint: { suppress: parts.suppress ?? [] },
  }
  const loaded = checkPolicy('p.yaml', Buffer.from(JSON.stringify(document, null, 1)))
  if (loaded.policy === null) throw new Error(JSON.stringify(loaded.findings))
  return loaded
}

const ids = (parts: Parts) => lint(load(parts), NOW).findings.map(({ id }) => id)
const rules = (...list: object[]) => ({ modbus: { rules: list } })
const HTTPS = (direction: string, port = 443) => ({ protocol: 'HTTPS', port, direction })
const THROUGH = (more: object = {}) => ({
  zones: [{ ...DMZ, ...more }, ENT],
  conduits: [
    between('C2', 'Z3-OPS', 'Z4-DMZ', [HTTPS('Z4 -> Z3 (patches)')]),
    between('C3', 'Z4-DMZ', 'Z5-ENT', [HTTPS('Z5 -> Z4 (portal)')]),
  ],
})
const OPCUA_RULE = { name: 'ua', from: ['HIST-01'], to: ['PLC-01'], services: ['all'] }
const CALL = { name: 'writes', ...FROM_CELL, services: ['Call'], methods: ['ns=2;s=Line1/ns=2;s=Ack'] }
const OPCUA = (mode: string, more: object = { services: ['read'] }) => ({
  protocols: [
    {
      protocol: 'OPC UA',
      opcua: { security_modes: [mode] },
      rules: [{ ...OPCUA_RULE, ...more }],
      limits: { in_flight_per_target: 1 },
    },
  ],
})

/** [id, what suppresses it, documents that have it, near misses] */
const cases: [LintId, string, Record<string, Parts>, Record<string, Parts>][] = [
  [
    'sis-conduit',
    'C2',
    {
      'by id': { zones: [{ zone_id: 'Z1-SIS' }], conduits: [between('C2', 'Z1-SIS', 'Z2-CELL')] },
      'by name': {
        zones: [{ zone_id: 'Z1', name: 'Safety Instrumented Systems' }],
        conduits: [between('C2', 'Z1', 'Z2-CELL')],
      },
      'by criticality': {
        zones: [{ zone_id: 'Z1', criticality: 'Safety Critical' }],
        conduits: [between('C2', 'Z1', 'Z2-CELL')],
      },
    },
    {
      'no conduit': { zones: [{ zone_id: 'Z1-SIS' }] },
      'another word': {
        zones: [{ zone_id: 'Z1-ANALYSIS', name: 'Basis of design' }],
        conduits: [between('C2', 'Z1-ANALYSIS', 'Z2-CELL')],
      },
    },
  ],
  [
    'sis-with-bpcs',
    'Z2-CELL',
    {
      'prose beside an asset': {
        cell: {
          assets: [
            'Triconex 3008 Safety Controller',
            { name: 'PLC-01', address: '10.20.1.10', role: 'plc' },
            { name: 'EWS-01', address: '10.20.1.5' },
          ],
        },
      },
      'by role': {
        cell: {
          assets: [
            { name: 'LS-1', address: '10.20.1.9', role: 'safety-controller' },
            { name: 'PLC-01', address: '10.20.1.10', role: 'plc' },
          ],
        },
      },
    },
    {
      'a safety PLC and its workstation': {
        zones: [{ zone_id: 'Z1-SIS', assets: ['Safety PLC (SIS-01)', 'SIS Engineering Workstation'] }],
      },
    },
  ],
  [
    'enterprise-to-control',
    'C2',
    { 'level 4 to 1-2': { zones: [ENT], conduits: [between('C2', 'Z5-ENT', 'Z2-CELL')] } },
    {
      'level 4 to DMZ': { zones: [DMZ, ENT], conduits: [between('C2', 'Z5-ENT', 'Z4-DMZ')] },
      'level unknown': { zones: [{ zone_id: 'Z5-ENT' }], conduits: [between('C2', 'Z5-ENT', 'Z2-CELL')] },
    },
  ],
  [
    'bypasses-dmz',
    'C2',
    {
      'level 4 to 3': { zones: [ENT], conduits: [between('C2', 'Z5-ENT', 'Z3-OPS')] },
      'level 4-5 to 3': { zones: [{ ...ENT, purdue_level: '4-5' }], conduits: [between('C2', 'Z3-OPS', 'Z5-ENT')] },
    },
    { 'DMZ to 3': { zones: [DMZ], conduits: [between('C2', 'Z4-DMZ', 'Z3-OPS')] } },
  ],
  [
    'dmz-traversal',
    'Z4-DMZ',
    {
      'the same protocol in and out': THROUGH(),
      'a rule past it': {
        zones: [DMZ, ENT],
        conduits: [
          between('C2', 'Z3-OPS', 'Z4-DMZ', [
            {
              protocol: 'Modbus/TCP',
              limits: { in_flight_per_target: 1 },
              rules: [{ name: 'through', from: ['10.50.0.9'], to: ['10.30.1.20'], functions: [3] }],
            },
          ]),
        ],
      },
    },
    {
      'the zone says that it ends there': THROUGH({ security_requirements: ['all connections terminate in DMZ'] }),
      'another port behind': {
        ...THROUGH(),
        conduits: [
          between('C2', 'Z3-OPS', 'Z4-DMZ', [HTTPS('Z4 -> Z3', 8443)]),
          between('C3', 'Z4-DMZ', 'Z5-ENT', [HTTPS('Z5 -> Z4')]),
        ],
      },
      'both outward': {
        ...THROUGH(),
        conduits: [
          between('C2', 'Z3-OPS', 'Z4-DMZ', [HTTPS('Z4 -> Z3')]),
          between('C3', 'Z4-DMZ', 'Z5-ENT', [HTTPS('Z4 -> Z5')]),
        ],
      },
    },
  ],
  [
    'conduit-not-allowed',
    'Z2-CELL',
    { 'an empty list': { cell: { allowed_conduits: [] } } },
    { 'no list': {}, named: { cell: { allowed_conduits: ['C1'] } } },
  ],
  [
    'conduit-below-target',
    'C1',
    { 'SL 1 at SL-T 2': { conduit: { security_level: 'SL 1' } } },
    { 'no target': { conduit: { security_level: 'SL 1' }, cell: { security_level_target: undefined } } },
  ],
  [
    'overlapping-zones',
    'Z9',
    { 'one in the other': { zones: [{ zone_id: 'Z9', networks: ['10.30.7.0/24'] }] } },
    { 'side by side': { zones: [{ zone_id: 'Z9', networks: ['10.31.0.0/16'] }] } },
  ],
  [
    'asset-outside-zone',
    'HIST-02',
    {
      outside: {
        ops: {
          assets: [
            { name: 'HIST-01', address: '10.30.1.20' },
            { name: 'HIST-02', address: '10.31.1.20' },
          ],
        },
      },
    },
    { 'a zone without networks': { zones: [{ zone_id: 'Z9', assets: [{ name: 'HIST-02', address: '10.31.1.20' }] }] } },
  ],
  [
    'writes-from-above',
    'C1/writes',
    {
      'level 3': rules(WRITE),
      'by prose': { modbus: { rules: undefined, direction: 'Z3 -> Z2 (write only)' } },
      'a block that holds level 3': rules({ ...WRITE, from: ['10.0.0.0/8'] }),
      programming: rules({ ...WRITE, functions: [90] }),
    },
    {
      'the cell itself': rules({ ...WRITE, ...FROM_CELL }),
      'what a deny rule takes': rules(
        { ...WRITE, from: ['Z2-CELL', 'Z3-OPS'] },
        { name: 'no', action: 'deny', from: ['Z3-OPS'], to: ['PLC-01'], functions: ['write'] },
      ),
      'a rule that denies': rules(RULE, { ...WRITE, action: 'deny' }),
      reads: rules(RULE),
    },
  ],
  [
    'all-functions',
    'C1/reads',
    {
      all: rules({ ...RULE, ...FROM_CELL, functions: ['all'], unit_ids: [1] }),
      prose: { modbus: { rules: undefined, direction: 'Z3 -> Z2' } },
      'every service': OPCUA('Sign', { name: 'reads', from: ['EWS-01'] }),
    },
    {
      'every service of a channel that nobody can look into': OPCUA('SignAndEncrypt', { from: ['EWS-01'] }),
      'all groups': rules({ ...RULE, functions: ['read', 'diagnostics'] }),
      'denied as a whole': rules(RULE, { ...RULE, name: 'none', action: 'deny', functions: undefined }),
    },
  ],
  [
    'write-any-unit',
    'C1/writes',
    { 'no unit_ids': rules({ ...WRITE, ...FROM_CELL, unit_ids: undefined }) },
    { 'reading any unit': rules({ ...RULE, functions: ['read'] }), 'a unit named': rules({ ...WRITE, ...FROM_CELL }) },
  ],
  [
    'write-any-address',
    'C1/writes',
    {
      'no addresses': rules({ ...WRITE, ...FROM_CELL, addresses: undefined }),
      'a call of any method': OPCUA('Sign', { ...CALL, methods: undefined }),
      'a write of any node beside a call': OPCUA('Sign', { ...CALL, services: ['Call', 'Write'] }),
    },
    {
      'methods named': OPCUA('Sign', CALL),
      'reading any address': rules({ ...RULE, functions: ['read'] }),
      'addresses named': rules({ ...WRITE, ...FROM_CELL }),
    },
  ],
  [
    'opcua-below-claim',
    'C1',
    { 'Sign where encryption is claimed': { ...OPCUA('Sign'), conduit: { controls: ['All OPC UA is encrypted'] } } },
    {
      'encrypted as claimed': { ...OPCUA('SignAndEncrypt', {}), conduit: { controls: ['All OPC UA is encrypted'] } },
      'nothing claimed': OPCUA('Sign'),
    },
  ],
  ['opcua-none', 'C1', { None: OPCUA('None') }, { Sign: OPCUA('Sign') }],
  [
    'no-limits',
    'C1',
    { none: { modbus: { limits: undefined } } },
    { 'one of them': { modbus: { limits: { connections: { per_client: 1 } } } } },
  ],
  [
    'enforce-without-evidence',
    'C1',
    { 'no evidence': { gateway: { evidence: undefined } } },
    {
      monitoring: { conduit: { mode: 'monitor' }, gateway: { evidence: undefined } },
      'nothing carried': { gateway: { evidence: undefined, listeners: [] } },
    },
  ],
  [
    'enforce-without-siem',
    'C1',
    { 'no syslog': { gateway: { syslog: [] } } },
    { monitoring: { conduit: { mode: 'monitor' }, gateway: { syslog: undefined } } },
  ],
  [
    'monitor-overdue',
    'C1',
    {
      yesterday: { conduit: { mode: 'monitor', monitor_until: '2026-03-14' } },
      'a rule of a conduit that enforces': {
        ...rules({ ...RULE, mode: 'monitor' }),
        conduit: { monitor_until: '2026-03-14' },
      },
    },
    {
      today: { conduit: { mode: 'monitor', monitor_until: '2026-03-15' } },
      'it enforces': { conduit: { monitor_until: '2026-03-14' } },
      'no date': { conduit: { mode: 'monitor' } },
    },
  ],
]

t.test('a document that is sound has no finding', async (t) => {
  t.same(ids({}), [])
})

for (const [id, at, hits, misses] of cases) {
  t.test(id, async (t) => {
    for (const [what, parts] of Object.entries(hits)) {
      const loaded = load(parts)
      const found = lint(loaded, NOW).findings.filter((finding) => finding.id === id)
      t.equal(found.length, 1, `${what}: found once`)
      const [finding] = found
      t.equal(finding?.severity, LINTS[id].severity)
      t.equal(finding?.clause, LINTS[id].clause)
      t.ok(finding?.message.startsWith('found ') && finding.message.includes(LINTS[id].mend), finding?.message)
      t.ok((finding?.line ?? 0) > 1, 'at its line')
    }
    for (const [what, parts] of Object.entries(misses)) t.notOk(ids(parts).includes(id), what)
    const [parts] = Object.values(hits)
    const reason = 'the plant manager has accepted the risk'
    const calmed = lint(load({ ...parts, suppress: [{ id, at, reason }] }), NOW)
    t.notOk(
      calmed.findings.some((one) => one.id === id || one.id === 'unused-suppression'),
      'suppressed',
    )
    t.match(calmed.suppressed, [{ id, reason }], 'and listed with its reason')
    const elsewhere = lint(load({ ...parts, suppress: [{ id, at: 'ELSEWHERE', reason }] }), NOW)
    t.ok(
      elsewhere.findings.some((one) => one.id === id),
      'not by a suppression for another place',
    )
    t.ok(elsewhere.findings.some((one) => one.id === 'unused-suppression'))
  })
}

t.test('a suppression needs a reason, and an id that exists', async (t) => {
  t.throws(() => load({ suppress: [{ id: 'no-limits', reason: 'because' }] }), /at least 10 characters/)
  t.throws(() => load({ suppress: [{ id: 'no-limits' }] }), /expected key \\"reason\\"/)
  const [finding] = lint(load({ suppress: [{ id: 'no-limit', reason: 'a reason that is long enough' }] }), NOW).findings
  t.match(finding, { id: 'unused-suppression', message: /did you mean "no-limits"/ })
})

t.test('monitor_until is a day', async (t) => {
  for (const monitor_until of ['2026-02-30', 'tomorrow', '2026-2-3', 20260301]) {
    t.throws(() => load({ conduit: { monitor_until } }), /a day, such as/)
  }
})

t.test('every lint has a case', async (t) => {
  const tried = new Set<string>([...cases.map(([id]) => id), 'unused-suppression'])
  t.same(
    Object.keys(LINTS).filter((id) => !tried.has(id)),
    [],
  )
})

t.test('what the checker says of the same is told once, with its clause', async (t) => {
  const loaded = load({ zones: [{ zone_id: 'Z9', networks: ['10.30.7.0/24'] }] })
  t.same(
    loaded.findings.map(({ id }) => id),
    ['overlapping-zones'],
  )
  t.same(beside(loaded), [])
})

t.test('the example policies are clean, or say why not', async (t) => {
  for (const file of readdirSync(`${root}policies`).filter((one) => one.endsWith('.yaml'))) {
    const { findings, suppressed } = lint(loadPolicy(`${root}policies/${file}`))
    t.same(findings, [], file)
    for (const { reason } of suppressed) t.ok(reason.length > 20, `${file}: ${reason}`)
  }
})

t.test('the zone document of an assessment loads, with warnings', async (t) => {
  const loaded = loadPolicy(`${root}test/fixtures/policies/zone-document.yaml`)
  t.same(
    lint(loaded, NOW).findings.map(({ id, at, line }) => [id, at[0], line]),
    [
      ['no-limits', 'C1-BPCS-OPS', 91],
      ['no-limits', 'C1-BPCS-OPS', 95],
      ['conduit-below-target', 'C3-DMZ-ENT', 124],
    ],
  )
})
