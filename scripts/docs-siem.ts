/** The page for SIEM engineers: every event with an example in each format, receivers' configurations, parsing hints. */
import { EVENTS, type EventName, type EventRecord, FIELDS, type SeverityName } from '../src/records/catalogue.ts'
import { cef } from '../src/records/formats/cef.ts'
import { ecsObject, json } from '../src/records/formats/ecs.ts'
import { rfc5424 } from '../src/records/formats/rfc5424.ts'
import { MEMORY_EVENTS } from '../src/records/sinks/sink.ts'

const LOCAL0 = 16
const EXAMPLE_PEN = 32473
const TIME = '2026-02-23T14:05:31.250Z'
const POLICY = '3f0d…'

/** Fields that stand in every event of a family, for the examples. */
const PAIR = {
  conduit: 'C1-BPCS-OPS',
  protocol: 'modbus',
  mode: 'enforce',
  client: '10.30.1.20',
  client_port: 49_811,
  client_asset: 'HIST-01',
  target: '10.20.1.10',
  target_port: 502,
  target_asset: 'PLC-01',
}
const WRITE = { transaction_id: 7, unit_id: 1, function: 'write-single-register', function_code: 6, address: 100 }
const CHANNEL = {
  protocol: 'opcua',
  target_port: 4840,
  endpoint_url: 'opc.tcp://10.20.1.10:4840',
  security_policy: 'Basic256Sha256',
  security_mode: 'SignAndEncrypt',
  certificate: '66f589941fed7069ffcd7b8e524035f4db1fd13d',
}
const C1 = 'C1-BPCS-OPS'
const WHO = { user: 'alice', user_source: 'kernel', why: 'change 4711' }
const SHADOW = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'
const MONITOR = { mode: 'monitor' }
const RULE = { rule: 'historian reads', reason: 'function' }

const EXAMPLES: { [K in EventName]?: Record<string, string | number> } = {
  'gateway.starting': { version: '0.1.0', file: '/etc/headgate/policy.yaml' },
  'gateway.ready': {
    version: '0.1.0',
    io: 'epoll',
    listeners: '10.30.1.1:502 -> PLC-01',
    metrics: 'http://127.0.0.1:9464/metrics',
  },
  'gateway.stopping': { signal: 'SIGTERM' },
  'gateway.io': { io: 'net', detail: 'koffi cannot be loaded' },
  'policy.loaded': { file: '/etc/headgate/policy.yaml' },
  'policy.rejected': {
    file: '/etc/headgate/policy.yaml',
    line: 41,
    column: 15,
    finding: 'dangling-reference',
    detail: 'found "PLC-1", expected an asset; did you mean "PLC-01"?',
  },
  'policy.warning': {
    file: '/etc/headgate/policy.yaml',
    line: 12,
    column: 5,
    finding: 'unreachable-target',
    detail: 'found PLC-03, which no rule allows anyone to reach',
  },
  'mode.changed': { conduit: C1, from_mode: 'monitor', mode: 'enforce', cause: 'cutover', ...WHO },
  'mode.restored': {
    conduit: C1,
    mode: 'enforce',
    document_mode: 'monitor',
    cause: 'cutover',
    ...WHO,
    detail: 'the document says monitor; enforce since 2026-02-23T02:00:00.412Z, by a cut-over, stays in force',
  },
  'mode.superseded': {
    conduit: C1,
    mode: 'monitor',
    document_mode: 'monitor',
    detail: 'the document now says monitor, where it said enforce: it counts again',
  },
  'cutover.scheduled': { conduit: C1, at: '2026-02-24T02:00:00.000Z', ...WHO },
  'cutover.cancelled': { conduit: C1, at: '2026-02-24T02:00:00.000Z', ...WHO },
  'cutover.failed': {
    conduit: C1,
    at: '2026-02-24T02:00:00.000Z',
    detail: 'a would-deny of HIST-01 in the last 24 hours: read-coils of PLC-01, 17 times',
    ...WHO,
  },
  'cutover.kept': { conduit: C1, mode: 'enforce', denials: 0, timeouts: 0, lost: 0 },
  'cutover.rolled_back': {
    conduit: C1,
    mode: 'monitor',
    denials: 4,
    timeouts: 0,
    lost: 0,
    detail: '4 denials of traffic that was normal before, more than 3',
  },
  'control.accepted': { verb: 'reload', ...WHO },
  'control.refused': { verb: 'cutover', conduit: C1, detail: 'the baseline spans 3.2 days, expected 14', ...WHO },
  'control.failed': { control: '/run/headgate/control.sock', detail: 'EMFILE' },
  'state.failed': { file: '/var/lib/headgate/rollout.json', detail: 'ENOSPC: no space left on device, write' },
  'state.unreadable': { file: '/var/lib/headgate/rollout.json', detail: 'it is no JSON; kept as rollout.json.bad' },
  'shadow.loaded': { file: '/etc/headgate/candidate.yaml', shadow: SHADOW },
  'shadow.rejected': {
    file: '/etc/headgate/candidate.yaml',
    line: 41,
    column: 15,
    finding: 'dangling-reference',
    detail: 'found "PLC-1", expected an asset; did you mean "PLC-01"?',
  },
  'shadow.would_deny': { ...PAIR, ...RULE, ...WRITE, quantity: 1, shadow: SHADOW },
  'shadow.would_allow': { ...PAIR, ...RULE, ...WRITE, quantity: 1, shadow: SHADOW },
  'shadow.not_compared': {
    ...PAIR,
    protocol: 'opcua',
    shadow: SHADOW,
    detail: 'the shadow policy terminates the channel, and encryption hides its requests',
  },
  'policy.promoted': {
    file: '/etc/headgate/policy.yaml',
    shadow: SHADOW,
    ...WHO,
    detail: 'the former is kept as policy.yaml.2026-02-23T02-00-00-412Z',
  },
  'connection.admitted': PAIR,
  'connection.refused': { ...PAIR, reason: 'pair', detail: 'no rule for this client and target' },
  'connection.would_refuse': { ...PAIR, ...MONITOR, reason: 'pair' },
  'connection.closed': { ...PAIR, bytes_in: 2400, bytes_out: 5800, duration_ms: 61_000 },
  'request.denied': {
    ...PAIR,
    ...RULE,
    ...WRITE,
    quantity: 1,
    values: '4096',
    length: 12,
    exception_code: 1,
    detail: 'no rule allows write-single-register',
  },
  'request.would_deny': {
    ...PAIR,
    ...MONITOR,
    ...RULE,
    ...WRITE,
    count: 17,
    first: '2026-02-23T14:04:31.250Z',
    last: '2026-02-23T14:05:30.900Z',
  },
  'response.denied': {
    ...PAIR,
    reason: 'state',
    transaction_id: 8,
    unit_id: 1,
    function: 'read-holding-registers',
    function_code: 3,
  },
  'response.would_deny': {
    ...PAIR,
    ...MONITOR,
    reason: 'malformed',
    transaction_id: 8,
    unit_id: 1,
    function: 'read-holding-registers',
    function_code: 3,
  },
  'response.tolerated': { ...PAIR, detail: 'unit-mismatch' },
  'channel.opened': { ...PAIR, ...CHANNEL, rule: 'historian reads', visibility: 'header only', channel_id: 12 },
  'channel.denied': {
    ...PAIR,
    ...CHANNEL,
    reason: 'security',
    detail: 'security policy Basic256',
    security_policy: 'Basic256',
    security_mode: 'undecided',
  },
  'channel.would_deny': { ...PAIR, ...CHANNEL, ...MONITOR, reason: 'security', detail: 'security policy Basic256' },
  'channel.downgraded': {
    ...PAIR,
    ...CHANNEL,
    reason: 'security',
    security_mode: 'Sign',
    detail: 'a channel of the mode Sign, where the policy wants SignAndEncrypt and Basic256Sha256',
  },
  'target.unreachable': { ...PAIR, reason: 'timeout', detail: 'ECONNREFUSED' },
  'target.timeout': { ...PAIR, reason: 'timeout' },
  'target.dropped': PAIR,
  'worker.restarted': { worker: 1, connections: 12, detail: 'exited' },
  'worker.failed': { worker: 1, detail: 'exited; given up' },
  'baseline.opened': {
    file: '/var/lib/headgate/baseline/baseline.json',
    detail: '38 flows since 2026-02-09T08:12:40.001Z',
  },
  'baseline.failed': {
    file: '/var/lib/headgate/baseline/baseline.json',
    detail: 'ENOSPC: no space left on device, write',
  },
  'baseline.resumed': { file: '/var/lib/headgate/baseline/baseline.json' },
  'baseline.set_aside': {
    file: '/var/lib/headgate/baseline/baseline.json.damaged-2026-02-23T021034.512Z',
    detail: '/var/lib/headgate/baseline/baseline.json: not JSON: Unexpected end of JSON input',
  },
  'baseline.full': {
    file: '/var/lib/headgate/baseline/baseline.json',
    detail: 'more kinds of traffic than are kept apart: what is new is not in the baseline',
    count: 12,
  },
  'sink.down': { sink: 'tls://10.30.1.60:6514', detail: 'connect ECONNREFUSED 10.30.1.60:6514' },
  'sink.up': { sink: 'tls://10.30.1.60:6514' },
  'events.lost': {
    sink: 'tls://10.30.1.60:6514',
    count: 1803,
    first: '2026-02-23T02:11:09.004Z',
    last: '2026-02-23T03:40:52.120Z',
  },
  'spool.failed': { sink: 'tls://10.30.1.60:6514', detail: 'ENOSPC: no space left on device, write' },
  'spool.resumed': { sink: 'tls://10.30.1.60:6514' },
  'artefact.recorded': { kind: 'report', file: 'report.html', sha256: '9f2c…', user: 'alice', user_source: 'kernel' },
  'drift.found': {
    kind: 'nftables',
    detail: 'chain inet/headgate/forward: policy accept, expected drop',
    user: 'root',
    user_source: 'kernel',
  },
  'drift.resolved': {},
  'evidence.opened': {
    evidence_file: 'evidence-000000012345.jsonl',
    public_key: 'headgate-evidence/5f6c1f727adade93+ab96395d+Aeu2p5xX…',
  },
  'evidence.closed': { evidence_file: '/var/lib/headgate/evidence', detail: 'goes on in /srv/evidence' },
  'evidence.key_created': { public_key: 'headgate-evidence/5f6c1f727adade93+ab96395d+Aeu2p5xX…' },
  'evidence.key_exposed': {
    detail: '/var/lib/headgate/evidence/evidence.key has mode 0644, expected 0600: others may sign with it',
  },
  'evidence.repaired': { evidence_file: 'evidence-000000012345.jsonl', bytes: 210 },
  'evidence.failed': { evidence_file: '/var/lib/headgate/evidence', detail: 'ENOSPC: no space left on device, write' },
  'evidence.resumed': { evidence_file: '/var/lib/headgate/evidence' },
  'evidence.tampered': {
    evidence_file: 'evidence-000000012345.jsonl',
    detail: 'evidence-000000012345.jsonl:31: record 12375 was altered',
  },
  'clock.jumped': { offset_ms: 3_600_000, detail: 'the clock was set forward by 3600 s' },
}

/** A denied write is a warning, whatever the list says of denials in general. */
const SEVERITY: { [K in EventName]?: SeverityName } = { 'request.denied': 'warning' }

function example(event: EventName, number: number): EventRecord {
  return {
    time: TIME,
    event,
    severity: SEVERITY[event] ?? EVENTS[event][0],
    id: `0mlzk2p4a-9d21c07e-${number.toString(36).padStart(7, '0')}`,
    gateway: 'gw-unit3',
    policy: POLICY,
    ...EXAMPLES[event],
  } as unknown as EventRecord
}

/** The process's number would change with each run. */
const stable = (line: string): string => line.replace(` headgate ${process.pid} `, ' headgate 812 ')

/** @returns the whole page, Markdown */
export function siemPage(): string {
  const names = Object.keys(EVENTS) as EventName[]
  const sections = names.map((name, number) => {
    const event = example(name, number)
    return `### ${name}

${EVENTS[name][1]} Severity: ${event.severity}.

\`\`\`
${stable(rfc5424(event, LOCAL0, EXAMPLE_PEN))}
${stable(cef(event, LOCAL0))}
${stable(json(event, LOCAL0))}
\`\`\`
`
  })
  const denied = JSON.stringify(JSON.parse(ecsObject(example('request.denied', 0), LOCAL0)), null, 2)
  return `<!-- Generated by \`npm run docs\`; edit the code it comes from. -->
# For SIEM engineers

## What a gateway sends

Each sink of \`gateway.syslog\` gets its own format and filter; every message is an RFC 5424 syslog message.

| format | header | structured data | message |
| --- | --- | --- | --- |
| \`rfc5424\` (default) | RFC 5424 | \`[headgate@PEN name="value" …]\`, all fields | a sentence for a person |
| \`cef\` | RFC 5424 | none | \`CEF:0|Headgate|Headgate|version|event|name|severity|extension\` |
| \`json\` | RFC 5424 | none | one JSON object, field names of the Elastic Common Schema 8.11 |

- HOSTNAME is the gateway's name, APP-NAME \`headgate\`, MSGID the event's name. Facility: \`local0\`, unless the policy says
  otherwise.
- PEN is \`enterprise_number\`; 32473 is the one that RFC 5612 reserves for examples. Set your own organisation's.
- Transports: UDP (RFC 5426, at most 2048 bytes: the longest text fields are cut, never the structure), TCP (RFC 6587),
  TLS 1.2 and 1.3 (RFC 5425 with the cipher suites of RFC 9662). Framing is octet counting, or \`non-transparent\`.
- **At least once, in order.** Syslog has no acknowledgement, so after a connection breaks, what may not have been read is
  sent again. Drop repeats by \`id\` (CEF \`externalId\`, ECS \`event.id\`); ids sort in the order of events within one run.
- While a receiver is away, its events go to the spool on the disk (\`gateway.spool\`), and come from there in order when it
  is back. Without a spool, ${MEMORY_EVENTS} events wait in memory. What fits nowhere is counted
  (\`headgate_events_total{sink,result="lost"}\`), and told by \`events.lost\` with \`count\`, \`first\` and \`last\`.
- Alike events (same event, client, target, function, reason) are told once each \`storm_interval\` (one minute), with
  \`count\`, \`first\` and \`last\`. An event without \`count\` stands for itself. Sum \`count\`, or 1 where there is none.
- **Nothing from the wire can break out of its field**: control characters become spaces (CEF: line breaks become \`\\n\`;
  JSON: \`\\u\` escapes), and quotes, backslashes, brackets, pipes and equals signs are escaped by each format's rules.

The spool is written before the event loop turns, so that it survives the death of the process, and is synced to the disk
once a second: a loss of power may cost what was spooled in the last second. It belongs on a local disk. Where it cannot be
written, \`spool.failed\` says so, and up to 8 MiB wait in memory. A sink takes at most about 40 MiB of memory: up to 16 MiB
that wait, 12 MiB that were sent and may be lost, 8 MiB on their way to the spool.

## Severities

| severity | what it means |
| --- | --- |
| critical | evidence was tampered with or cannot be written, workers cannot be started, no descriptors left |
| error | a sink, the spool, a target or a policy failed |
| warning | a denied write or response, a refused connection, a changed mode, a clock that jumped |
| notice | a denied read, a would-deny, a loaded policy, a sink that is back |
| info | connections, start and stop |

CEF: critical 9, error 7, warning 6, notice 4, info 2.

## What to alert on

| question | rfc5424 | json |
| --- | --- | --- |
| Who tried to write what they may not? | MSGID \`request.denied\`, severity warning | \`event.action: request.denied\` and \`log.level: warning\` |
| What would enforcement break? | MSGID \`request.would_deny\` | \`event.action: request.would_deny\` |
| Is somebody scanning? | \`connection.refused\`, \`reason="pair"\` | \`event.action: connection.refused\` |
| Was the evidence touched? | MSGID \`evidence.tampered\` | \`event.action: evidence.tampered\` |
| Are events missing? | MSGID \`events.lost\` | \`event.action: events.lost\` |
| Did the rules change? | MSGID \`policy.loaded\`, \`mode.changed\` | \`event.category: configuration\` |

## Receivers

Both configurations are those that Headgate's own tests run.

### rsyslog

\`\`\`
global(maxMessageSize="64k"
  defaultNetstreamDriverCAFile="/etc/rsyslog.d/ca.pem"
  defaultNetstreamDriverCertFile="/etc/rsyslog.d/siem.pem"
  defaultNetstreamDriverKeyFile="/etc/rsyslog.d/siem.key")
module(load="imtcp")
input(type="imtcp" port="6514" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
template(name="headgate" type="list" option.jsonf="on") {
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="gateway" name="hostname" format="jsonf")
  property(outname="event" name="msgid" format="jsonf")
  property(outname="fields" name="structured-data" format="jsonf")
  property(outname="message" name="msg" format="jsonf")
}
if $app-name == "headgate" then action(type="omfile" file="/var/log/headgate.jsonl" template="headgate")
\`\`\`

\`mmpstrucdata\` takes the structured data apart into \`$!rfc5424-sd!headgate@PEN!…\`. rsyslog's default \`maxMessageSize\` of
8 KiB is enough; 64 KiB does no harm.

### syslog-ng

\`\`\`
source headgate {
  syslog(transport("tls") port(6514)
    tls(key-file("/etc/syslog-ng/siem.key") cert-file("/etc/syslog-ng/siem.pem")
        ca-file("/etc/syslog-ng/ca.pem") peer-verify(required-trusted)));
};
destination headgate { file("/var/log/headgate.jsonl"
  template("$(format-json --scope rfc5424 --key .SDATA.*)\\n")); };
log { source(headgate); destination(headgate); };
\`\`\`

\`syslog()\` reads octet counting; for \`framing: non-transparent\` use \`network(… flags(syslog-protocol))\`. The fields are
\`\${.SDATA.headgate@PEN.client}\` and so on.

The gateway's side of both:

\`\`\`yaml
gateway:
  syslog:
    - url: tls://10.30.1.60:6514
      ca: certs/siem-ca.pem
      cert: certs/gw-unit3.pem
      key: certs/gw-unit3.key
  spool: { directory: /var/lib/headgate/spool }
\`\`\`

## Parsing

- \`rfc5424\`: parameter names are the field names of [the reference](reference/events.md) (${Object.keys(FIELDS).length} of them); values are text.
- \`cef\`: \`src\`, \`spt\`, \`shost\`, \`dst\`, \`dpt\`, \`dhost\`, \`act\`, \`app\`, \`reason\`, \`msg\`, \`rt\`, \`start\`, \`end\`, \`cnt\`, \`externalId\`;
  \`cs1\` Conduit, \`cs2\` Rule, \`cs3\` Mode, \`cs4\` Policy SHA-256, \`cs5\` Function, \`cs6\` Values; \`cn1\` Unit Identifier, \`cn2\`
  Address, \`cn3\` Quantity; the rest is \`Headgate…\`. IPv6 addresses are \`c6a2\` and \`c6a3\`.
- \`json\`: allow and deny are in \`event.type\` and \`event.action\`. \`event.outcome\` is \`success\` where Headgate did what it set
  out to do: a blocked request is a success. What ECS has no name for is under \`headgate\`.

A denied write in \`json\`, laid out:

\`\`\`json
${denied}
\`\`\`

## Events

Each with an example line in \`rfc5424\`, \`cef\` and \`json\`.

${sections.join('\n')}`
}
