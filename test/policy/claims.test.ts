/** The prose of a document held to what the document does: every form of the grammar, each of its outcomes. */
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { claimsTable, countClaims } from '../../src/assurance/claims-table.ts'
import { FORMS } from '../../src/policy/claim-forms.ts'
import type { Claim, ClaimStatus } from '../../src/policy/claims.ts'
import { checkPolicy, loadPolicy } from '../../src/policy/load.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

const RULE = { name: 'reads', from: ['HIST-01'], to: ['PLC-01'], functions: ['read'] }
const WRITE = { name: 'writes', from: ['HIST-01'], to: ['PLC-01'], functions: [6] }
const EWS = { name: 'setpoints', from: ['EWS-01'], to: ['PLC-01'], functions: [6] }
const LIMITS = { connections: { per_client: 4 } }
const MODBUS = { protocol: 'Modbus/TCP', rules: [RULE] }

interface Parts {
  mode?: 'monitor' | 'enforce'
  modbus?: object | null
  protocols?: object[]
  controls?: string[]
  /** Of the cell's zone. */
  requirements?: string[]
  cell?: object
  ops?: object
  more?: { zones?: object[]; conduits?: object[] }
  gateway?: object | null
}

/** A document that enforces, with a listener; a JSON document is YAML, one key a line. */
function load({
  mode = 'enforce',
  modbus = MODBUS,
  protocols = [],
  controls = [],
  requirements = [],
  ...parts
}: Parts) {
  const document = {
    zones: [
      {
        zone_id: 'Z2-CELL',
        purdue_level: '1-2',
        networks: ['10.20.0.0/16'],
        assets: [
          { name: 'PLC-01', address: '10.20.1.10', role: 'plc' },
          { name: 'EWS-01', address: '10.20.1.5', role: 'engineering-workstation' },
        ],
        security_requirements: requirements,
        ...parts.cell,
      },
      {
        zone_id: 'Z3-OPS',
        purdue_level: 3,
        networks: ['10.30.0.0/16'],
        assets: [{ name: 'HIST-01', address: '10.30.1.20', role: 'historian' }],
        ...parts.ops,
      },
      ...(parts.more?.zones ?? []),
    ],
    conduits: [
      {
        conduit_id: 'C1',
        connects: ['Z2-CELL', 'Z3-OPS'],
        mode,
        protocols_allowed: [...(modbus === null ? [] : [modbus]), ...protocols],
        controls,
      },
      ...(parts.more?.conduits ?? []),
    ],
    gateway:
      parts.gateway === undefined
        ? { listeners: modbus === null ? [] : [{ conduit: 'C1', listen: '10.30.0.1:502', target: 'PLC-01' }] }
        : parts.gateway,
  }
  if (document.gateway === null) delete (document as { gateway?: unknown }).gateway
  return checkPolicy('p.yaml', Buffer.from(JSON.stringify(document, null, 1)))
}

const only = (parts: Parts): Claim => {
  const { claims } = load(parts)
  if (claims.length !== 1) throw new Error(`expected one claim, found ${claims.map(({ part }) => part).join('; ')}`)
  return claims[0]
}

const control = (text: string, parts: Parts = {}): Claim => only({ controls: [text], ...parts })
const required = (text: string, parts: Parts = {}): Claim => only({ requirements: [text], ...parts })
const withRules = (...rules: object[]) => ({ modbus: { ...MODBUS, rules } })
const HTTPS = { protocol: 'HTTPS', port: 443 }

/** [what, claim, form, status, by or detail] */
const cases: [string, Claim, string | null, ClaimStatus, RegExp][] = [
  ['L3 reads', control('Block all write operations from L3'), 'no-writes-from', 'enforced-here', /rule "reads"/],
  [
    'L3 writes',
    control('block all write operations from L3', withRules(RULE, WRITE)),
    'no-writes-from',
    'contradicted',
    /"writes" allows writing from Z3-OPS/,
  ],
  [
    'L3 and above',
    control('Deny writes from level 3 or above', withRules(WRITE)),
    'no-writes-from',
    'contradicted',
    /Z3-OPS/,
  ],
  [
    'L4 alone, L3 writes',
    control('Deny writes from level 4', withRules(WRITE)),
    'no-writes-from',
    'enforced-here',
    /writes/,
  ],
  ['a zone writes', control('no writes from Z3', withRules(WRITE)), 'no-writes-from', 'contradicted', /Z3-OPS/],
  [
    'a zone that is not there',
    control('no writes from Z7'),
    'no-writes-from',
    'not-machine-checkable',
    /no zone of that name/,
  ],
  [
    'L3 writes by FC 23',
    control('block all writes from L3', withRules({ ...RULE, functions: [23] })),
    'no-writes-from',
    'contradicted',
    /reads/,
  ],
  [
    'L3 programs',
    control('block all writes from L3', withRules({ ...RULE, functions: [90] })),
    'no-writes-from',
    'contradicted',
    /reads/,
  ],
  [
    'the engineer writes',
    control('block all writes from L3', withRules(RULE, EWS)),
    'no-writes-from',
    'enforced-here',
    /setpoints/,
  ],
  [
    'a denied write',
    control('block all writes from L3', withRules(RULE, { ...WRITE, action: 'deny' })),
    'no-writes-from',
    'enforced-here',
    /reads/,
  ],
  [
    'monitoring',
    control('block all writes from L3', { mode: 'monitor' }),
    'no-writes-from',
    'not-enforced',
    /monitor mode, which blocks nothing/,
  ],
  [
    'monitoring and writing',
    control('block all writes from L3', { mode: 'monitor', ...withRules(WRITE) }),
    'no-writes-from',
    'contradicted',
    /writes/,
  ],
  [
    'no listener',
    control('block all writes from L3', { gateway: {} }),
    'no-writes-from',
    'not-enforced',
    /no listener/,
  ],
  [
    'no gateway',
    control('block all writes from L3', { gateway: null }),
    'no-writes-from',
    'not-enforced',
    /no listener/,
  ],
  [
    'a rule on trial',
    control('block all writes from L3', withRules({ ...RULE, mode: 'monitor' })),
    'no-writes-from',
    'not-enforced',
    /"reads" is still in monitor/,
  ],
  [
    'nothing that Headgate carries',
    control('block all writes from L3', { modbus: null, protocols: [HTTPS] }),
    'no-writes-from',
    'enforced-elsewhere',
    /firewall/,
  ],

  [
    'read only from L3',
    required('Read-only access from Level 3 for data acquisition'),
    'read-only-from',
    'enforced-here',
    /reads/,
  ],
  [
    'read only, L3 writes',
    required('Read-only access from Level 3 for data acquisition', withRules(WRITE)),
    'read-only-from',
    'contradicted',
    /writes/,
  ],
  [
    'engineer writes',
    required('Write access restricted to engineering workstation subnet', withRules(RULE, EWS)),
    'writes-restricted-to',
    'enforced-here',
    /setpoints/,
  ],
  [
    'historian writes',
    required('Write access restricted to engineering workstation subnet', withRules(WRITE)),
    'writes-restricted-to',
    'contradicted',
    /lets 10\.30\.1\.20 write/,
  ],
  [
    'by name',
    required('Writes only from EWS-01', withRules(EWS)),
    'writes-restricted-to',
    'enforced-here',
    /setpoints/,
  ],
  [
    'by a name that nobody has',
    required('Writes only from EWS-02', withRules(EWS)),
    'writes-restricted-to',
    'contradicted',
    /called "ews 02"/,
  ],
  [
    'whole zone writes',
    required('Writes only from EWS-01', withRules({ ...EWS, from: ['Z2-CELL'] })),
    'writes-restricted-to',
    'contradicted',
    /10\.20\.0\.0\/16/,
  ],

  ['pairs', control('Allowlisted source/destination IP pairs'), 'pairs', 'enforced-here', /reads/],
  [
    'any client',
    control('Allowlisted source/destination IP pairs', withRules({ ...RULE, from: ['0.0.0.0/0'] })),
    'pairs',
    'contradicted',
    /any address/,
  ],
  [
    'any client by IPv6',
    control('Whitelisted hosts', withRules({ ...RULE, from: ['::/0'] })),
    'pairs',
    'contradicted',
    /any address/,
  ],
  [
    'a zone without addresses',
    control('Allowlisted IP pairs', {
      mode: 'monitor',
      ops: { networks: [], assets: [] },
      ...withRules({ ...RULE, from: ['Z3-OPS'] }),
    }),
    'pairs',
    'not-enforced',
    /does not give/,
  ],

  [
    'limits',
    control('Connection rate limiting', { modbus: { ...MODBUS, limits: LIMITS } }),
    'rate-limit',
    'enforced-here',
    /connections\.per_client: 4/,
  ],
  ['no limits', control('Connection rate limiting'), 'rate-limit', 'contradicted', /no limit/],
  [
    'only a limit of requests in flight',
    control('Connection rate limiting', { modbus: { ...MODBUS, limits: { in_flight_per_target: 1 } } }),
    'rate-limit',
    'contradicted',
    /no limit/,
  ],
  ['no limits yet', control('Connection rate limiting', { mode: 'monitor' }), 'rate-limit', 'not-enforced', /no limit/],
  [
    'limits while monitoring',
    control('Request rate limits', { mode: 'monitor', modbus: { ...MODBUS, limits: LIMITS } }),
    'rate-limit',
    'not-enforced',
    /monitor mode/,
  ],

  ['functions', control('Function code filtering'), 'function-filtering', 'enforced-here', /reads/],
  [
    'all functions',
    control('Function code filtering', withRules({ ...RULE, functions: ['all'] })),
    'function-filtering',
    'contradicted',
    /every function/,
  ],
  ['DPI here', control('Industrial firewall with OT protocol DPI'), 'inspection', 'enforced-here', /decoded/],
  [
    'DPI elsewhere',
    control('Industrial firewall with OT protocol DPI (Acme 3000)', { modbus: null, protocols: [HTTPS] }),
    'inspection',
    'enforced-elsewhere',
    /Acme 3000/,
  ],
  ['default deny here', control('Default deny'), 'default-deny', 'enforced-here', /default/],
  [
    'default deny, other protocols',
    control('Default deny between zones', { protocols: [HTTPS] }),
    'default-deny',
    'enforced-elsewhere',
    /firewall has to deny the rest/,
  ],
  [
    'SIEM',
    control('All denials are sent to the SIEM', { gateway: { syslog: [{ url: 'tcp://10.30.1.60:601' }] } }),
    'siem',
    'enforced-here',
    /10\.30\.1\.60/,
  ],
  ['no SIEM', control('All denials are sent to the SIEM'), 'siem', 'contradicted', /no syslog/],
  ['firewall', control('Next-gen firewall with SSL inspection'), 'firewall', 'enforced-elsewhere', /boundary firewall/],
  ['switch', control('Port security on every switch port'), 'switch', 'enforced-elsewhere', /switch/],
  [
    'diode',
    control('Data diode for historian replication (Waterfall Security)'),
    'diode',
    'enforced-elsewhere',
    /Waterfall Security/,
  ],
  ['people', control('MFA required for all remote access sessions'), 'attested', 'not-machine-checkable', /mfa/],
  ['poetry', control('Operators are kind to the plant'), null, 'not-machine-checkable', /no form of the grammar/],

  [
    'remote access',
    required('No remote access permitted under any circumstances'),
    'no-remote-access',
    'enforced-elsewhere',
    /no conduit/,
  ],
  [
    'RDP',
    required('No remote access permitted under any circumstances', { protocols: [{ protocol: 'RDP', port: 3389 }] }),
    'no-remote-access',
    'contradicted',
    /allows RDP/,
  ],
  [
    'air gap with a conduit',
    required('Physically isolated (air-gapped)'),
    'air-gap',
    'contradicted',
    /C1 connects the zone/,
  ],
  ['internet', required('No direct internet access'), 'no-internet', 'enforced-elsewhere', /level 5/],
  [
    'internet by level',
    required('No direct internet access', { ops: { purdue_level: 5 } }),
    'no-internet',
    'contradicted',
    /C1/,
  ],
  [
    'below the DMZ',
    only({ ops: { security_requirements: ['No direct access to any OT zone below DMZ'] } }),
    'nothing-below-dmz',
    'contradicted',
    /leads below/,
  ],
]

for (const [what, claim, form, status, why] of cases) {
  t.test(`${claim.part}: ${what}`, async (t) => {
    t.equal(claim.form, form)
    t.equal(claim.status, status, claim.detail)
    t.match(`${claim.by}: ${claim.detail}`, why)
    if (status === 'contradicted') t.ok(claim.places.length > 0, 'says where the other line is')
  })
}

t.test('no other word hides what rules can be held to', async (t) => {
  const claim = control('Block all vendor writes from L3', withRules(WRITE))
  t.match(claim, { form: 'no-writes-from', status: 'contradicted' })
})

t.test('what a deny rule takes is no contradiction', async (t) => {
  const all = { ...RULE, from: ['Z2-CELL', 'Z3-OPS'], functions: [3, 6, 16], name: 'all' }
  const deny = { name: 'no', action: 'deny', from: ['Z3-OPS'], to: ['PLC-01'], functions: ['write'] }
  const of = (...rules: object[]) => control('block all writes from L3', withRules(...rules)).status
  t.equal(of(all), 'contradicted')
  t.equal(of(all, deny), 'enforced-here')
  t.equal(of(all, { ...deny, functions: [6] }), 'contradicted', 'another function is left')
  t.equal(of(all, { ...deny, from: ['HIST-01'] }), 'contradicted', 'another client is left')
  t.equal(of(all, { ...deny, to: ['EWS-01'] }), 'contradicted', 'another target is left')
  t.equal(of(all, { ...deny, unit_ids: [1] }), 'contradicted', 'another unit is left')
  t.equal(of(all, { ...deny, mode: 'monitor' }), 'contradicted', 'it only watches')
})

t.test('every form has a case, and reads its own example', async (t) => {
  const tried = new Set(cases.map(([, , form]) => form))
  for (const form of FORMS) {
    if (!['security-mode', 'read-only', 'ends-in-dmz'].includes(form.id)) t.ok(tried.has(form.id), form.id)
    const example = control(form.example.replace(/ \(.*\)/, ''), { mode: 'monitor' })
    t.equal(example.form, form.id, form.example)
  }
})

t.test('connections that end in the DMZ', async (t) => {
  const dmz = {
    zone_id: 'Z4-DMZ',
    purdue_level: 3.5,
    networks: ['10.40.0.0/16'],
    security_requirements: ['No direct traffic traversal - all connections terminate in DMZ'],
  }
  const ent = { zone_id: 'Z5-ENT', purdue_level: 4, networks: ['10.50.0.0/16'] }
  const past = (conduit: object) => only({ more: { zones: [dmz, ent], conduits: [conduit] } })
  t.match(past({ conduit_id: 'C3', connects: ['Z4-DMZ', 'Z5-ENT'] }), {
    form: 'ends-in-dmz',
    status: 'enforced-elsewhere',
  })
  t.match(past({ conduit_id: 'C3', connects: ['Z3-OPS', 'Z5-ENT'] }), {
    status: 'contradicted',
    detail: /C3 connects Z3-OPS and Z5-ENT, past Z4-DMZ/,
  })
  const rule = { name: 'through', from: ['10.50.0.1'], to: ['10.20.1.10'], functions: [3] }
  t.match(
    past({
      conduit_id: 'C3',
      connects: ['Z4-DMZ', 'Z5-ENT'],
      protocols_allowed: [{ protocol: 'Modbus/TCP', rules: [rule] }],
    }),
    {
      status: 'contradicted',
      detail: /"through" reaches past Z4-DMZ/,
    },
  )
})

t.test('a direction makes a claim of its arrow, and of each part of its parenthesis', async (t) => {
  const of = (direction: string, rules: object[] | undefined, parts: Parts = {}) =>
    load({ ...parts, modbus: { ...MODBUS, rules, direction } }).claims.map(({ part, form, status }) => [
      part,
      form,
      status,
    ])
  t.same(of('Z3 -> Z2 (read only, FC 3/4 only)', [{ ...RULE, functions: [3, 4] }]), [
    ['Z3 -> Z2', 'arrow', 'enforced-here'],
    ['read only', 'functions', 'enforced-here'],
    ['FC 3/4 only', 'functions', 'enforced-here'],
  ])
  t.same(of('Z3 -> Z2 (read only, FC 3/4 only)', [RULE]), [
    ['Z3 -> Z2', 'arrow', 'enforced-here'],
    ['read only', 'functions', 'enforced-here'],
    ['FC 3/4 only', 'functions', 'contradicted'],
  ])
  t.same(of('Z2 -> Z3 (read only)', [RULE])[0], ['Z2 -> Z3', 'arrow', 'contradicted'])
  t.same(of('Z3 -> Z2 (FC 3 only)', undefined), [
    ['Z3 -> Z2', 'arrow', 'enforced-here'],
    ['FC 3 only', 'functions', 'enforced-here'],
  ])
  const [arrow, diode, other] = load({
    modbus: null,
    protocols: [
      { protocol: 'PI-to-PI', port: 5450, direction: 'Z2 <-> Z3 (unidirectional via data diode, on Sundays)' },
    ],
  }).claims
  t.match(arrow, { status: 'enforced-elsewhere', protocol: 'PI-to-PI' })
  t.match(diode, { status: 'contradicted', detail: /both ways/ })
  t.match(other, { part: 'on Sundays', status: 'not-machine-checkable' })
})

t.test('a security mode', async (t) => {
  const of = (protocol: object) => load({ modbus: null, protocols: [protocol] }).claims.at(-1)
  t.match(of({ protocol: 'PI Web API', security_mode: 'SignAndEncrypt' }), {
    form: 'security-mode',
    status: 'enforced-elsewhere',
  })
  const modbus = load({ modbus: { ...MODBUS, security_mode: 'SignAndEncrypt' } })
  t.match(modbus.claims.at(-1), { status: 'contradicted', detail: /neither signatures nor encryption/ })
  t.equal(modbus.policy, null, 'and the document does not load')
})

t.test('OPC UA', async (t) => {
  const reads = { name: 'ua', from: ['HIST-01'], to: ['PLC-01'], services: ['read'] }
  const of = (more: object, parts: Parts = {}) =>
    load({ modbus: null, protocols: [{ protocol: 'OPC UA', rules: [reads], ...more }], ...parts })
  const signed = { opcua: { security_modes: ['Sign'] } }
  const monitor = { mode: 'monitor' } as const
  t.match(of({ security_mode: 'SignAndEncrypt', rules: [{ ...reads, services: ['all'] }] }, monitor).claims, [
    { form: 'security-mode', status: 'not-enforced', by: 'security_modes: SignAndEncrypt' },
  ])
  const weaker = of({ security_mode: 'SignAndEncrypt', ...signed })
  t.match(weaker.claims, [{ status: 'contradicted', detail: /Sign is allowed as well/ }])
  t.same(
    weaker.findings.map(({ id }) => id),
    ['weaker-than-prose'],
    'told once',
  )
  const read = of({ direction: 'Z3 -> Z2 (read only)', ...signed }, monitor).claims
  t.match(read, [
    { part: 'Z3 -> Z2', status: 'not-enforced' },
    { part: 'read only', status: 'not-enforced' },
  ])
  const writes = { ...reads, services: ['write'] }
  t.match(of({ direction: 'Z3 -> Z2 (read/write)', rules: [writes], ...signed }, monitor).claims[1], {
    part: 'read/write',
    status: 'not-enforced',
  })
  t.match(of({ direction: 'Z3 -> Z2 (read only)', rules: [writes], ...signed }, monitor).claims[1], {
    part: 'read only',
    status: 'contradicted',
    detail: /"ua" allows Write as well/,
  })
  t.match(of({ rules: [writes], ...signed }, { controls: ['Block all writes from L3'] }).claims, [
    { status: 'contradicted', detail: /"ua" allows writing from Z3-OPS/ },
  ])
})

t.test('allowed_conduits', async (t) => {
  const of = (allowed: string[]) => load({ cell: { allowed_conduits: allowed } })
  t.match(of(['C1']).claims[0], { key: 'allowed_conduits', status: 'enforced-elsewhere', zone: 'Z2-CELL' })
  t.match(of([]).claims[0], { status: 'contradicted', detail: /C1 connects Z2-CELL, which does not allow it/ })
})

t.test('a contradiction is an error at its line, which names the other line', async (t) => {
  const { policy, findings, claims } = load({
    controls: ['block all write operations from L3'],
    ...withRules(RULE, WRITE),
  })
  t.equal(policy, null)
  const [{ line, places }] = claims
  t.match(findings, [
    { severity: 'error', id: 'claim-contradicted', line, message: new RegExp(`\\(line ${places[0].line}\\)`) },
  ])
  t.not(line, places[0].line)
  const twice = load({ modbus: { ...MODBUS, direction: 'Z3 -> Z2 (FC 3 only)' } })
  t.same(
    twice.findings.map(({ id }) => id),
    ['wider-than-direction'],
    'a rule against its direction is told once',
  )
})

t.test('what a deny rule takes away whole is not allowed: neither a direction nor a claim is against it', async (t) => {
  const all = { ...RULE, name: 'all', functions: ['all'] }
  const denies = { name: 'no more', action: 'deny', from: ['Z3'], to: ['Z2'] }
  const of = (...rules: object[]) =>
    load({ modbus: { ...MODBUS, direction: 'Z3 -> Z2 (FC 3 only)', rules, limits: LIMITS } })
  const told = ({ findings }: ReturnType<typeof load>) =>
    findings.filter(({ severity }) => severity === 'error').map(({ id, message }) => [id, message] as const)
  const wide = { ...RULE, name: 'wide', functions: ['read-holding-registers', 6, 16] }
  const writes = [6, 16]
  const held = of(wide, { ...denies, functions: writes })
  t.same(told(held), [])
  t.match(
    held.claims.filter(({ part }) => part === 'FC 3 only'),
    [{ status: 'enforced-here' }],
  )
  t.match(told(of(wide)), [
    ['wider-than-direction', /found write-single-register \(6\), write-multiple-registers \(16\)/],
  ])
  const cases: [string, object, RegExp?][] = [
    ['one of two', { ...denies, functions: [16] }, /found write-single-register \(6\), expected/],
    ['another client', { ...denies, from: ['10.30.1.21'], functions: writes }],
    ['other targets', { ...denies, to: ['EWS-01'], functions: writes }],
    ['some units', { ...denies, unit_ids: ['1-9'], functions: writes }],
    ['some addresses', { ...denies, addresses: { 'holding-registers': ['0-99'] }, functions: writes }],
    ['it watches only', { ...denies, mode: 'monitor', functions: writes }],
  ]
  for (const [what, deny, message = /found write-single-register/] of cases) {
    t.match(told(of(wide, deny)), [['wider-than-direction', message]], what)
  }
  t.same(told(of(wide, { ...denies, from: ['10.30.1.20/32'], functions: writes })), [], 'the clients that the rule has')
  const units = of({ ...wide, unit_ids: ['2-5'] }, { ...denies, unit_ids: ['1-9'], functions: writes })
  t.same(told(units), [], 'the units that the rule has')
  t.match(told(of(all, { ...denies, functions: ['write', 'diagnostics'] })), [
    ['wider-than-direction', /expected no more/],
  ])

  const ua = { name: 'ua', from: ['HIST-01'], to: ['PLC-01'], services: ['read', 'write', 'method'] }
  const opcua = (...rules: object[]) =>
    load({
      modbus: null,
      protocols: [
        { protocol: 'OPC UA', direction: 'Z3 -> Z2 (read only)', rules, opcua: { security_modes: ['Sign'] } },
      ],
      mode: 'monitor',
    })
  const changes = { ...denies, services: ['write', 'method'] }
  t.same(told(opcua(ua, changes)), [])
  t.match(
    opcua(ua, changes).claims.filter(({ part }) => part === 'read only'),
    [{ status: 'not-enforced' }],
    'not contradicted',
  )
  t.match(told(opcua(ua)), [['wider-than-direction', /found Write, Call, expected/]])
  for (const more of [
    { nodes: ['ns=2;i=1'] },
    { attributes: ['Value'] },
    { certificates: [`AB:${'CD:'.repeat(18)}EF`] },
    { security_mode: 'Sign' },
    { security_policies: ['Basic256Sha256'] },
    { mode: 'monitor' },
    { services: ['write'] },
  ]) {
    t.match(told(opcua(ua, { ...changes, ...more })), [['wider-than-direction', /Call/]], JSON.stringify(more))
  }
  const blocked = (more: object) =>
    load({
      modbus: null,
      protocols: [{ protocol: 'OPC UA', rules: [ua, { ...changes, ...more }], opcua: { security_modes: ['Sign'] } }],
      controls: ['Block all writes from L3'],
      mode: 'monitor',
    }).claims[0].status
  t.equal(blocked({}), 'not-enforced')
  t.equal(blocked({ security_mode: 'Sign' }), 'contradicted', 'denied on some channels only')
})

t.test('the zone document of an assessment: every claim comes out, none as met that is not', async (t) => {
  const { claims, findings, policy } = loadPolicy(`${root}test/fixtures/policies/zone-document.yaml`)
  t.ok(policy !== null, 'it loads')
  t.ok(findings.every(({ severity }) => severity === 'warning'))
  const counts = countClaims(claims)
  t.equal(counts['enforced-here'], 0, 'no gateway carries it')
  t.equal(counts.contradicted, 0)
  const texts = new Set(claims.map(({ line }) => line))
  for (const line of [
    17, 18, 19, 20, 21, 33, 34, 35, 36, 37, 50, 51, 52, 53, 54, 67, 68, 69, 70, 71, 81, 82, 83, 93, 94, 97, 98,
  ]) {
    t.ok(texts.has(line), `line ${line}`)
  }
  const at = (line: number) => claims.filter((claim) => claim.line === line).map(({ status }) => status)
  t.same(at(36), ['not-machine-checkable'], 'USB ports')
  t.same(at(69), ['enforced-elsewhere'], 'diode')
  t.same(at(102), ['not-enforced', 'not-enforced'], 'function code filtering, and what it says in brackets')
  t.same(at(134), ['not-machine-checkable'], 'MFA')
})

t.test('the example policy enforces what it claims', async (t) => {
  const { claims } = loadPolicy(`${root}policies/refinery.yaml`)
  const of = claims.filter(({ conduit }) => conduit === 'C1-BPCS-OPS')
  t.ok(of.length >= 8)
  t.same([...new Set(of.map(({ status }) => status))], ['enforced-here'])
  t.match(
    of.find(({ form }) => form === 'rate-limit'),
    { places: [{ what: 'limits of Modbus/TCP' }] },
  )
  const table = claimsTable(claims).join('\n')
  t.match(table, /^line +where +key +claim +outcome$/m)
  t.match(
    table,
    /C1-BPCS-OPS +controls +"Connection rate limiting" +enforced here\n +limits connections\.per_client: 8.*\(line \d+\)/,
  )
})

t.test('claims of a document that is wrong everywhere end in no exception', async (t) => {
  for (const text of [
    'zones: [null, 5, {zone_id: A, security_requirements: [5, null, "air-gapped"], allowed_conduits: 7}]\nconduits: [{conduit_id: C, controls: [[], "(", ")("]}]',
    'zones: []\nconduits: [{conduit_id: C, connects: [A], protocols_allowed: [null, {protocol: 5}, {protocol: X, direction: "A -> B", security_mode: [1]}]}]',
    'zones: {}\nconduits: {}',
  ]) {
    const { policy, claims } = checkPolicy('h.yaml', Buffer.from(text))
    t.equal(policy, null)
    t.ok(Array.isArray(claims))
  }
})
