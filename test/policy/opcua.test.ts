/** The OPC UA part of a document: the issue's own example, the prose that binds, and all that cannot be enforced. */
import { readFileSync } from 'node:fs'
import t from 'tap'
import { checkPolicy } from '../../src/policy/load.ts'
import type { OpcUaProtocol } from '../../src/policy/model.ts'
import {
  ALL_SERVICES,
  parseMethod,
  parseModeProse,
  parseNodePattern,
  parseService,
  parseThumbprint,
} from '../../src/policy/opcua-notations.ts'
import { isOpcUa } from '../../src/policy/opcua-section.ts'
import { isComplaint } from '../../src/policy/values.ts'
import { REQUEST, servicesIn } from '../../src/protocols/opcua/services.ts'

const check = (text: string) => checkPolicy('p.yaml', Buffer.from(text))

/** A document with one OPC UA protocol of these lines. */
const document = (protocol: string, mode = 'enforce', tail = ''): string => `zones:
  - { zone_id: Z2-CELL, networks: [10.20.0.0/16], assets: [{ name: OPC-01, address: 10.20.1.10 }] }
  - { zone_id: Z3-OPS, networks: [10.30.0.0/16], assets: [{ name: HIST-01, address: 10.30.1.20 }, { name: EWS-01, address: 10.30.1.21 }] }
conduits:
  - conduit_id: C1
    connects: [Z2-CELL, Z3-OPS]
    mode: ${mode}
    protocols_allowed:
      - protocol: OPC UA
${protocol.replaceAll(/^/gm, '        ')}
${tail}`

const EXAMPLE = document(`port: 4840
direction: "Z3 -> Z2"
security_mode: SignAndEncrypt
rules:
  - { name: historian, from: [HIST-01], to: [OPC-01], services: [discovery, session, browse, read, subscribe] }
  - name: setpoints
    from: [EWS-01]
    to: [OPC-01]
    services: [read, write, method]
    nodes: ["ns=2;s=Line1.*", "nsu=urn:plant:cell;i=1001-1099"]
    attributes: [Value]
    values: { "ns=2;s=Line1.Setpoint": { min: 0, max: 85 } }
    methods: ["ns=2;s=Line1/ns=2;s=Ack"]
opcua:
  handling: terminate
  security_policies: [Basic256Sha256, Aes128_Sha256_RsaOaep, Aes256_Sha256_RsaPss]
  security_modes: [SignAndEncrypt]
  user_tokens: [Anonymous, UserName]
  certificates: { own: pki/own, trusted_clients: pki/clients, trusted_servers: pki/servers }
  limits: { message_bytes: 4194304, chunks: 1024, sessions: 20, subscriptions_per_session: 10 }`)

const protocolOf = (text: string): OpcUaProtocol => {
  const { policy, findings } = check(text)
  const protocol = policy?.conduits[0].protocols[0]
  if (protocol?.kind !== 'opcua') throw new Error(JSON.stringify(findings))
  return protocol
}

t.test('a terminating conduit with rules down to values', async (t) => {
  t.same(check(EXAMPLE).findings, [])
  const protocol = protocolOf(EXAMPLE)
  t.match(protocol, {
    port: 4840,
    handling: 'terminate',
    securityModes: ['SignAndEncrypt'],
    userTokens: ['Anonymous', 'UserName'],
    messageLimits: { messageBytes: 4194304, chunks: 1024, sessions: 20, subscriptionsPerSession: 10 },
  })
  const [historian, setpoints] = protocol.rules
  t.same(
    historian.services,
    (['discovery', 'session', 'browse', 'read', 'subscribe'] as const).flatMap(servicesIn).sort((a, b) => a - b),
  )
  t.match(setpoints, {
    services: [REQUEST.Read, REQUEST.Write, REQUEST.Call],
    nodes: [
      { namespace: 2, id: { type: 'string', glob: 'Line1.*' } },
      { namespace: 'urn:plant:cell', id: { type: 'numeric', range: [1001, 1099] } },
    ],
    attributes: [13],
    values: [{ node: { namespace: 2, id: { glob: 'Line1.Setpoint' } }, min: 0, max: 85 }],
    methods: [{ object: { id: { glob: 'Line1' } }, method: { id: { glob: 'Ack' } } }],
  })
})

t.test('what a document leaves out', async (t) => {
  const inspect = protocolOf(
    document(
      'rules: [{ from: [HIST-01], to: [OPC-01], services: [all], certificates: ["AB:CD:' + 'EF:'.repeat(17) + '01"] }]',
    ),
  )
  t.match(inspect, {
    port: 4840,
    handling: 'inspect',
    securityModes: ['Sign', 'SignAndEncrypt'],
    securityPolicies: ['Basic256Sha256', 'Aes128_Sha256_RsaOaep', 'Aes256_Sha256_RsaPss'],
    endpointUrls: null,
    serverCertificates: null,
    reverseConnect: [],
    messageLimits: { messageBytes: 4194304, chunks: 1024 },
  })
  t.same(inspect.rules[0].services, ALL_SERVICES)
  t.notOk(inspect.rules[0].services.includes(REQUEST.SessionlessInvoke))
  t.same(inspect.rules[0].certificates, [`abcd${'ef'.repeat(17)}01`])
  const prose = protocolOf(document('direction: "Z3 -> Z2 (read only)"\nopcua: { security_modes: [Sign] }'))
  t.match(prose.rules, [{ name: 'Z3 -> Z2 (read only)', fromProse: true }])
  t.ok(prose.rules[0].services.includes(REQUEST.HistoryRead))
  for (const service of ['Write', 'Call', 'AddNodes', 'HistoryUpdate', 'RegisterServer'] as const) {
    t.notOk(prose.rules[0].services.includes(REQUEST[service]), service)
  }
})

const RULE = 'rules: [{ from: [HIST-01], to: [OPC-01], services: [all] }]'
const rule = (keys: string): string =>
  `rules: [{ from: [HIST-01], to: [OPC-01], ${keys} }]\nopcua: { security_modes: [Sign] }`

/** [what, protocol, where the finding stands (the text that starts there), id, message, severity] */
const faults: [string, string, string, string, RegExp, ('error' | 'warning')?][] = [
  [
    'services behind encryption',
    'rules: [{ from: [HIST-01], to: [OPC-01], services: [read] }]',
    '[read]',
    'not-enforceable',
    /cannot be seen on the encrypted channels.*handling: terminate/,
  ],
  [
    'nodes behind encryption',
    'security_mode: SignAndEncrypt\nrules: [{ from: [HIST-01], to: [OPC-01], services: [all], nodes: ["i=1"] }]',
    '["i=1"]',
    'not-enforceable',
    /found nodes/,
  ],
  ['prose behind encryption', 'direction: "Z3 -> Z2 (read only)"', '"Z3', 'not-enforceable', /services cannot be seen/],
  [
    'a wider rule',
    `direction: "Z3 -> Z2 (read only)"\n${rule('services: [read, write, method]')}`,
    '[read, write',
    'wider-than-direction',
    /found Write, Call, expected no more/,
  ],
  [
    'against the direction',
    `direction: "Z2 -> Z3"\n${rule('services: [all]')}`,
    '[HIST-01]',
    'against-direction',
    /expected the direction/,
  ],
  [
    'prose that no rule can be made of',
    'direction: "Z3 -> Z2 (when the moon is full)"',
    '"Z3',
    'prose-not-understood',
    /every request is denied/,
  ],
  ['a misspelt service', rule('services: [Raed]'), 'Raed', 'bad-value', /did you mean "read"/],
  ['a misspelt group', rule('services: [discvery]'), 'discvery', 'bad-value', /did you mean "discovery"/],
  [
    'a service that no rule may allow',
    rule('services: [SessionlessInvoke]'),
    'SessionlessInvoke',
    'bad-value',
    /expected an OPC UA service/,
  ],
  ['no services', rule('mode: monitor'), '{ from', 'missing-key', /expected key "services"/],
  [
    'a NodeId that is none',
    rule('services: [Read], nodes: ["ns=2,s=x"]'),
    '"ns=2,s=x"',
    'bad-value',
    /expected a NodeId/,
  ],
  ['a range the wrong way', rule('services: [Read], nodes: ["i=9-2"]'), '"i=9-2"', 'bad-value', /low to high/],
  [
    'an attribute that is none',
    rule('services: [Read], attributes: [Valeu]'),
    'Valeu',
    'bad-value',
    /did you mean "Value"/,
  ],
  [
    'a method that is none',
    rule('services: [Call], methods: [ConditionRefesh]'),
    'ConditionRefesh',
    'bad-value',
    /did you mean "ConditionRefresh"/,
  ],
  [
    'a thumbprint that is none',
    rule('services: [Read], certificates: ["abc"]'),
    '"abc"',
    'bad-value',
    /40 hexadecimal digits/,
  ],
  [
    'values in a deny rule',
    rule('action: deny, services: [Write], values: { "i=1": { min: 1 } }'),
    '{ "i=1"',
    'values-on-deny',
    /in a rule that allows/,
  ],
  [
    'a value limit without one',
    rule('services: [Write], values: { "i=1": {} }'),
    '{} }',
    'bad-value',
    /expected min or max/,
  ],
  [
    'min above max',
    rule('services: [Write], values: { "i=1": { min: 2, max: 1 } }'),
    '{ min',
    'bad-value',
    /min to be at most max/,
  ],
  [
    'values of no node',
    rule('services: [Write], values: { "x": { min: 2 } }'),
    '"x"',
    'bad-value',
    /expected a NodeId/,
  ],
  [
    'values without writes',
    rule('services: [Read], values: { "i=1": { min: 2 } }'),
    '{ "i=1"',
    'values-without-service',
    /limit nothing/,
    'warning',
  ],
  [
    'RegisterNodes beside a deny rule that names nodes',
    'rules:\n- { from: [HIST-01], to: [OPC-01], services: [browse] }\n- { name: secret, action: deny, from: [HIST-01], to: [OPC-01], nodes: ["i=1"] }\nopcua: { security_modes: [Sign] }',
    '[browse]',
    'not-enforceable',
    /RegisterNodes beside the deny rule "secret"/,
  ],
  [
    'a mode that is weaker than the prose',
    `security_mode: SignAndEncrypt\n${rule('services: [all]')}`,
    '[Sign]',
    'weaker-than-prose',
    /found Sign, expected SignAndEncrypt/,
  ],
  [
    'a prose of other things',
    `security_mode: VPN\n${RULE}`,
    'VPN',
    'prose-not-enforced',
    /expected None, Sign or SignAndEncrypt/,
    'warning',
  ],
  ['None', `${RULE}\nopcua: { security_modes: [None] }`, '[None]', 'security-none', /read and changed/, 'warning'],
  [
    'None as a policy without the mode',
    `${RULE}\nopcua: { security_policies: [None, Basic256Sha256] }`,
    '[None, B',
    'outside-security',
    /goes with the security mode None/,
  ],
  [
    'no policy for the mode',
    `${RULE}\nopcua: { security_modes: [None, Sign], security_policies: [None] }`,
    '[None] }',
    'outside-security',
    /expected a policy for the mode Sign/,
  ],
  [
    'a withdrawn policy',
    `${RULE}\nopcua: { security_policies: [Basic256] }`,
    '[Basic256]',
    'deprecated-policy',
    /withdrawn/,
    'warning',
  ],
  [
    'a policy that is none',
    `${RULE}\nopcua: { security_policies: [Basic256Sha265] }`,
    'Basic256Sha265',
    'bad-value',
    /did you mean "Basic256Sha256"/,
  ],
  [
    "a rule's policy outside",
    rule('services: [all], security_policies: [Basic256]'),
    '[Basic256]',
    'outside-security',
    /one of the conduit's security policies/,
  ],
  [
    "a rule's mode outside",
    rule('services: [all], security_mode: SignAndEncrypt'),
    'SignAndEncrypt',
    'outside-security',
    /one of the conduit's security modes/,
  ],
  [
    'None and terminate',
    `${RULE}\nopcua: { handling: terminate, security_modes: [None, Sign], certificates: { own: a, trusted_clients: b, trusted_servers: c } }`,
    '[None, Sign]',
    'not-enforceable',
    /proves nothing/,
  ],
  [
    'terminate without certificates',
    `${RULE}\nopcua: { handling: terminate }`,
    '{ handling',
    'missing-key',
    /expected key "certificates"/,
  ],
  [
    'certificates of its own while inspecting',
    `${RULE}\nopcua: { certificates: { own: a, trusted_clients: b, trusted_servers: c } }`,
    '{ own',
    'not-enforceable',
    /handling inspect does not have/,
  ],
  [
    'a limit of sessions while inspecting',
    `${RULE}\nopcua: { limits: { sessions: 3 } }`,
    '3 }',
    'not-enforceable',
    /a limit of sessions/,
  ],
  [
    'an endpoint URL that is none',
    `${RULE}\nopcua: { endpoint_urls: ["http://x"] }`,
    '"http://x"',
    'bad-value',
    /expected an endpoint URL/,
  ],
  ['an unknown key', `${RULE}\nopcua: { handlin: inspect }`, 'handlin', 'unknown-key', /did you mean "handling"/],
  ['exceptions of Modbus', `${RULE}\non_deny: exception`, 'on_deny', 'unknown-key', /unknown key "on_deny"/],
]

for (const [what, protocol, place, id, message, severity = 'error'] of faults) {
  t.test(what, async (t) => {
    const text = document(protocol)
    const { findings } = check(text)
    const found = findings.find((finding) => finding.id === id && message.test(finding.message))
    if (found === undefined) {
      t.fail(`no such finding among: ${findings.map((one) => `${one.id}: ${one.message}`).join('\n')}`)
      return
    }
    t.equal(found.severity, severity)
    const line = text.split('\n')[found.line - 1] ?? ''
    t.ok(line.slice(found.column - 1).startsWith(place), `stands at ${line.slice(found.column - 1)}`)
  })
}

t.test('what prose alone cannot have enforced is a warning while monitoring', async (t) => {
  const { policy, findings } = check(
    document('direction: "Z3 -> Z2 (read only)"\nsecurity_mode: SignAndEncrypt', 'monitor'),
  )
  t.match(findings, [{ id: 'not-enforceable', severity: 'warning' }])
  t.ok(policy)
})

t.test('twice in one conduit', async (t) => {
  t.match(check(document(`${RULE}\n`, 'enforce', `      - { protocol: "OPC-UA", port: 4841, ${RULE} }\n`)).findings, [
    { id: 'duplicate-name', message: /OPC UA twice/ },
  ])
})

t.test('how documents write the protocol, modes, methods and nodes', async (t) => {
  for (const name of ['OPC UA', 'opc-ua', 'OPCUA', 'OPC_UA', 'OPC UA TCP']) t.ok(isOpcUa(name), name)
  for (const name of ['OPC DA', 'OPC', 'Modbus/TCP', 'OPC UA PubSub']) t.notOk(isOpcUa(name), name)
  for (const text of ['SignAndEncrypt', 'Sign and Encrypt', 'Sign & Encrypt', 'sign_and_encrypt'])
    t.equal(parseModeProse(text), 'SignAndEncrypt', text)
  t.equal(parseModeProse('Sign'), 'Sign')
  t.equal(parseModeProse('none'), 'None')
  t.equal(parseModeProse('Firewall-enforced'), null)
  t.match(parseNodePattern('nsu=http://x/y%3Bz;s=a;b'), { namespace: 'http://x/y;z', id: { glob: 'a;b' } })
  t.match(parseNodePattern('g=09087E75-8e5e-499b-954f-f2a9603db28a'), {
    namespace: 0,
    id: { guid: '09087e75-8e5e-499b-954f-f2a9603db28a' },
  })
  t.match(parseNodePattern('ns=1;b=M/RbKBsRVkePCePcx24oRA=='), { id: { base64: 'M/RbKBsRVkePCePcx24oRA==' } })
  for (const bad of ['ns=70000;i=1', 'i=4294967296', 'i=x', 'b=%%', 'g=1', 's=', 7, null]) {
    t.ok(isComplaint(parseNodePattern(bad)), `${bad}`)
  }
  t.match(parseMethod('nsu=urn:a/b;s=x/y/ns=2;s=Ack'), [
    { object: { namespace: 'urn:a/b', id: { glob: 'x/y' } }, method: { id: { glob: 'Ack' } } },
  ])
  t.match(parseMethod('ns=2;s=a/b'), [{ object: null, method: { id: { glob: 'a/b' } } }])
  t.match(parseMethod('GetMonitoredItems'), [{ method: { id: { range: [11492, 11492] } } }, { object: null }])
  t.same(parseService('Browse'), [527])
  t.ok((parseService('browse') as number[]).length > 1)
  t.ok(isComplaint(parseThumbprint('')))
})

t.test('a listener carries either handling', async (t) => {
  const tail = `gateway:
  listeners:
    - { conduit: C1, protocol: OPC UA, listen: "10.30.1.1:4840", target: OPC-01 }
`
  for (const opcua of [
    '{ handling: terminate, certificates: { own: a, trusted_clients: b, trusted_servers: c } }',
    '{ handling: inspect }',
  ]) {
    const carried = check(document(`direction: "Z3 -> Z2"\nopcua: ${opcua}`, 'enforce', tail))
    t.equal(carried.policy?.gateway?.listeners.length, 1, carried.findings.map(({ message }) => message).join())
  }
})

t.test('the example of the page on OPC UA has no fault', async (t) => {
  const page = readFileSync(new URL('../../docs/opcua.md', import.meta.url), 'utf8')
  const example = /```yaml\n- (protocol: OPC UA\n[\s\S]*?)```/.exec(page)?.[1] ?? ''
  const { findings } = check(document(example.split('\n').slice(1).join('\n').replaceAll(/^ {2}/gm, '')))
  t.same(findings, [])
  t.not(example, '')
})
