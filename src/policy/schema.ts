/**
 * The policy document's form: every key, its type and what it is for. The checker, the JSON Schema for editors and the
 * reference in the docs all come from here. What a key refers to is checked in `load.ts` and its neighbours.
 */
import { z } from 'zod'
import { functionNames, parseFunction } from '../protocols/modbus/function-codes.ts'
import { EVENTS } from '../records/catalogue.ts'
import { didYouMean } from './findings.ts'
import {
  MODBUS_TABLES,
  OPCUA_SECURITY_MODES,
  OPCUA_SECURITY_POLICIES,
  OPCUA_USER_TOKENS,
  QUIRKS,
  SEVERITIES,
  SYSLOG_FORMATS,
  SYSLOG_FRAMINGS,
} from './model.ts'
import {
  parseAttribute,
  parseEndpointUrl,
  parseMethod,
  parseNodePattern,
  parseService,
  parseThumbprint,
  serviceNames,
} from './opcua-notations.ts'
import {
  Complaint,
  isComplaint,
  parseBytes,
  parseDate,
  parseDuration,
  parseFacility,
  parseHost,
  parseListen,
  parseNetwork,
  parsePurdueLevel,
  parseRange,
  parseSecurityLevel,
  parseSyslogUrl,
} from './values.ts'

type Parse = (value: unknown) => unknown

/** A value in a notation of its own. The message of its issue is what was expected. */
function notation(parse: Parse, jsonSchema: Record<string, unknown>) {
  return z
    .custom<string | number>((value) => value !== undefined && !isComplaint(parse(value)), {
      error: (issue) => {
        const result = parse(issue.input)
        return isComplaint(result) ? result.expected : ''
      },
    })
    .meta(jsonSchema)
}

const text = z.string().max(1000)
/** Names end up in logs and metrics: printable, and short enough to read. */
const name = z
  .string()
  .min(1)
  .max(128)
  .regex(/^[^\x00-\x1f\x7f-\x9f]*$/, { error: 'text without control characters' })

const textOrNumber = { type: ['string', 'integer'] }
const duration = (low: number, high: number) => notation((value) => parseDuration(value, low, high), textOrNumber)
const range = (low: number, high: number, what: string) =>
  notation((value) => parseRange(value, low, high, what), textOrNumber)

const MS = { second: 1000, minute: 60_000, hour: 3_600_000, day: 86_400_000 }
const securityLevel = notation(parseSecurityLevel, textOrNumber)
const network = notation(parseNetwork, { type: 'string' })
const port = z.int().min(1).max(65535)
const mode = z.enum(['monitor', 'enforce'])
const onDeny = z.enum(['exception', 'drop', 'reset'])
const onLimit = z.enum(['deny', 'pace'])

const asset = z.strictObject({
  name: name.describe('Name, unique in the document; rules and listeners refer to it.'),
  address: notation(parseHost, { type: 'string' }).describe('Its IPv4 or IPv6 address.'),
  role: name.optional().describe('What it is: plc, hmi, historian, engineering-workstation, …'),
})

export const zoneSchema = z.strictObject({
  zone_id: name.describe('Id of the zone; the part before the first dash is a short name for it (`Z3` for `Z3-OPS`).'),
  name: text.optional(),
  purdue_level: notation(parsePurdueLevel, { type: ['string', 'number'] })
    .optional()
    .describe('0 to 5, or a range such as "1-2".'),
  security_level_target: securityLevel.optional().describe('SL-T of IEC 62443-3-3: "SL 1" to "SL 4".'),
  criticality: text.optional(),
  description: text.optional(),
  networks: z.array(network).max(1000).optional().describe('Addresses of the zone: IPv4 or IPv6 CIDR blocks.'),
  assets: z
    .array(z.union([text, asset]))
    .max(10_000)
    .optional()
    .describe('Addressable assets ({name, address, role}), or prose that documents.'),
  security_requirements: z.array(text).max(1000).optional(),
  allowed_conduits: z.array(name).max(1000).optional().describe('Ids of the conduits that may touch the zone.'),
})

const functionEntry = z
  .custom<string | number>((value) => isNameOrCode(value) && parseFunction(value) !== null, {
    error: (issue) => {
      const near = typeof issue.input === 'string' ? nearFunction(issue.input) : ''
      return `a Modbus function: code 1 to 127, name, group (read, write, diagnostics, program, all) or function/sub-function${near}`
    },
  })
  .meta({
    anyOf: [
      { type: 'integer', minimum: 1, maximum: 127 },
      { type: 'string', examples: functionNames() },
    ],
  })

/** `FC 3/4`, as prose has it, is two entries of a list. */
function nearFunction(text: string): string {
  const codes = /^\s*(?:fcs?)?\s*\d+(?:\s*[/,&+-]\s*(?:fc)?\s*\d+)+\s*$/i.test(text) ? (text.match(/\d+/g) ?? []) : []
  const all = codes.map(Number).filter((code) => parseFunction(code) !== null)
  if (all.length > 0 && all.length === codes.length) return `; did you mean the list [${all.join(', ')}]?`
  return didYouMean(text, functionNames())
}

const isNameOrCode = (value: unknown): value is string | number =>
  typeof value === 'string' || typeof value === 'number'

const addressRange = range(0, 65535, 'an address')
const tables = <T extends z.ZodType>(of: T) =>
  z.strictObject(
    Object.fromEntries(MODBUS_TABLES.map((table) => [table, of.optional()])) as Record<string, z.ZodOptional<T>>,
  )

const valueLimit = z.strictObject({
  min: z.int().min(0).max(65535).optional().describe('Least value that may be written.'),
  max: z.int().min(0).max(65535).optional().describe('Greatest value that may be written.'),
  max_step: z
    .int()
    .min(0)
    .max(65535)
    .optional()
    .describe('Largest change against the present value, as last read or written through this conduit.'),
})

const references = z.array(name).min(1).max(10_000)

export const ruleSchema = z.strictObject({
  name: name.optional().describe('Unique among the rules of the protocol; in events and metrics. Default: rule-N.'),
  description: text.optional(),
  action: z
    .enum(['allow', 'deny'])
    .optional()
    .describe('Default: allow. A deny rule that matches denies, whatever others allow.'),
  from: references.describe('Clients: assets, zones or CIDR blocks.'),
  to: references.describe('Targets: assets, zones or CIDR blocks.'),
  unit_ids: z
    .array(range(0, 255, 'a unit identifier'))
    .min(1)
    .max(256)
    .optional()
    .describe('Default: any.'),
  functions: z
    .array(functionEntry)
    .min(1)
    .max(256)
    .optional()
    .describe(
      'Function codes, names, groups, or function/sub-function. Required, save in a deny rule, where none means all.',
    ),
  addresses: tables(z.array(addressRange).min(1).max(4096))
    .optional()
    .describe('By table, zero-based as in the PDU. Default: any. A table that is left out may not be touched.'),
  values: tables(z.record(z.string(), valueLimit))
    .optional()
    .describe('Limits for written values, by table and address range. Coils are 0 or 1; registers unsigned.'),
  on_deny: onDeny.optional().describe("What a denial by this rule does. Default: the protocol's."),
  mode: z
    .literal('monitor')
    .optional()
    .describe('What this rule, as the nearest, would deny passes and is recorded as would-deny.'),
  tolerate: z
    .array(z.enum(QUIRKS))
    .max(QUIRKS.length)
    .optional()
    .describe('Quirks of the target to let pass, counted.'),
})

const positive = (most: number) => z.int().min(1).max(most)

export const limitsSchema = z.strictObject({
  connections: z
    .strictObject({
      per_client: positive(65535).optional().describe('Connections at one time from one client.'),
      per_target: positive(65535).optional().describe('Connections at one time to one target.'),
      new_per_second: positive(100_000).optional().describe('New connections each second from one client.'),
    })
    .optional(),
  requests: z
    .strictObject({
      per_client_per_second: positive(1_000_000).optional(),
      per_target_per_second: positive(1_000_000).optional(),
      burst: positive(100_000)
        .optional()
        .describe('Requests that may come at once. Default: 1/10 of the rate, at least 1.'),
    })
    .optional(),
  in_flight_per_target: positive(65535).optional().describe('Requests that may wait for the answers of one target.'),
  on_limit: onLimit.optional().describe('As `on_limit` of the protocol.'),
})

export const paceSchema = z.strictObject({
  queue: positive(256).optional().describe('Requests of one connection that may wait. Default: 16.'),
  time: duration(10, MS.minute).optional().describe('How long one may wait before it is denied. Default: 1s.'),
})

export const timeoutsSchema = z.strictObject({
  connect: duration(10, 5 * MS.minute)
    .optional()
    .describe('To open the connection to the target. Default: 5s.'),
  idle: duration(MS.second, 30 * MS.day)
    .optional()
    .describe('Without a byte in either direction. Default: 1h.'),
  partial_frame: duration(10, MS.hour).optional().describe('From the first byte of a frame to its last. Default: 10s.'),
  response: duration(10, 29 * MS.minute)
    .optional()
    .describe("For the target's answer to a request. Default: 5s."),
})

const protocolName = name.describe(
  'Name of the protocol: Modbus/TCP, OPC UA, or any other that Headgate does not carry.',
)
const direction = text.describe(
  'Initiator and responder, and what the initiator may do: "Z3 -> Z2 (read only, FC 3/4 only)". Binding.',
)

export const modbusSchema = z.strictObject({
  protocol: protocolName,
  port: port.optional().describe("The targets' port. Default: 502."),
  direction: direction.optional(),
  security_mode: text.optional().describe('Prose.'),
  description: text.optional(),
  rules: z
    .array(ruleSchema)
    .max(10_000)
    .optional()
    .describe('What is allowed; all else is denied. Default: what `direction` says.'),
  limits: limitsSchema.optional(),
  on_limit: onLimit.optional().describe('deny (default), or pace: hold a request back for a bounded time.'),
  pace: paceSchema.optional(),
  on_deny: onDeny
    .optional()
    .describe('exception (default): answer with an exception; drop: say nothing; reset: close both sides with RST.'),
  timeouts: timeoutsSchema.optional(),
})

const file = z
  .string()
  .min(1)
  .max(4096)
  .regex(/^[^\0]*$/, { error: 'a path' })

const node = notation(parseNodePattern, { type: 'string' })
const thumbprint = notation(parseThumbprint, { type: 'string' })
const securityMode = z.enum(OPCUA_SECURITY_MODES)
const securityPolicies = z.array(z.enum(OPCUA_SECURITY_POLICIES)).min(1).max(OPCUA_SECURITY_POLICIES.length)

const nodeValue = z.strictObject({
  min: z.number().optional().describe('Least number that may be written.'),
  max: z.number().optional().describe('Greatest number that may be written.'),
})

export const opcuaRuleSchema = z.strictObject({
  name: name.optional().describe('Unique among the rules of the protocol; in events and metrics. Default: rule-N.'),
  description: text.optional(),
  action: z
    .enum(['allow', 'deny'])
    .optional()
    .describe('Default: allow. A deny rule that matches denies, whatever others allow.'),
  from: references.describe('Clients: assets, zones or CIDR blocks.'),
  to: references.describe('Servers: assets, zones or CIDR blocks.'),
  services: z
    .array(notation(parseService, { type: 'string', enum: serviceNames() }))
    .min(1)
    .max(100)
    .optional()
    .describe(
      'Services by group or by name; `all` for every one. Required, save in a deny rule, where none means all.',
    ),
  nodes: z
    .array(node)
    .min(1)
    .max(10_000)
    .optional()
    .describe(
      'NodeIds that items may name: with ranges ("i=1-99"), globs ("s=Line1.*"), namespace URIs ("nsu="). Default: any.',
    ),
  attributes: z
    .array(notation(parseAttribute, textOrNumber))
    .min(1)
    .max(27)
    .optional()
    .describe('Attributes that items may name. Default: any.'),
  values: z
    .record(z.string(), nodeValue)
    .optional()
    .describe('Limits for written values by NodeId: every number of the value, those of arrays too.'),
  methods: z
    .array(notation(parseMethod, { type: 'string' }))
    .min(1)
    .max(1000)
    .optional()
    .describe(
      'Methods that may be called: "OBJECT/METHOD" as NodeIds, a method alone, or GetMonitoredItems, ResendData, ConditionRefresh, ConditionRefresh2. Default: any.',
    ),
  security_mode: securityMode.optional().describe("What the channel must have at least. Default: the protocol's."),
  security_policies: securityPolicies.optional().describe("Security policies of the channel. Default: the protocol's."),
  certificates: z
    .array(thumbprint)
    .min(1)
    .max(1000)
    .optional()
    .describe('SHA-1 thumbprints of the client certificates that the rule is for. Default: any.'),
  mode: z
    .literal('monitor')
    .optional()
    .describe('What this rule, as the nearest, would deny passes and is recorded as would-deny.'),
})

const opcuaSection = z.strictObject({
  handling: z
    .enum(['inspect', 'terminate'])
    .optional()
    .describe(
      "inspect (default): the secure channel is the client's and the server's; terminate: Headgate ends it and opens its own.",
    ),
  security_policies: securityPolicies
    .optional()
    .describe(
      'Default: Basic256Sha256, Aes128_Sha256_RsaOaep, Aes256_Sha256_RsaPss; None where a mode of None is allowed.',
    ),
  security_modes: z
    .array(securityMode)
    .min(1)
    .max(OPCUA_SECURITY_MODES.length)
    .optional()
    .describe('Default: what `security_mode` says, or better; Sign and SignAndEncrypt where it says nothing.'),
  user_tokens: z
    .array(z.enum(OPCUA_USER_TOKENS))
    .min(1)
    .max(OPCUA_USER_TOKENS.length)
    .optional()
    .describe('terminate: identities that clients are offered. Default: Anonymous, UserName.'),
  endpoint_urls: z
    .array(notation(parseEndpointUrl, { type: 'string' }))
    .min(1)
    .max(1000)
    .optional()
    .describe('Endpoint URLs that a Hello may name. Default: any.'),
  server_certificates: z
    .array(thumbprint)
    .min(1)
    .max(1000)
    .optional()
    .describe('SHA-1 thumbprints of the server certificates. Default: any.'),
  reverse_connect: references
    .optional()
    .describe('Clients that a server may open the connection to (RHE). Default: none.'),
  certificates: z
    .strictObject({
      own: file.describe("Directory of the gateway's own certificate and key."),
      trusted_clients: file.describe('Directory of the clients that are trusted.'),
      trusted_servers: file.describe('Directory of the servers that are trusted.'),
    })
    .optional()
    .describe('terminate: see `headgate pki`.'),
  limits: z
    .strictObject({
      message_bytes: notation((value) => parseBytes(value, 8192, 2 ** 30), textOrNumber)
        .optional()
        .describe('Longest message. Default: 4 MiB.'),
      chunks: positive(65_535).optional().describe('Chunks of one message. Default: 1024.'),
      sessions: positive(65_535).optional().describe('Sessions of one server at one time. Default: no limit.'),
      subscriptions_per_session: positive(65_535).optional().describe('Default: no limit.'),
    })
    .optional(),
})

export const opcuaSchema = z.strictObject({
  protocol: protocolName,
  port: port.optional().describe("The servers' port. Default: 4840."),
  direction: direction.optional(),
  security_mode: text
    .optional()
    .describe('Prose: None, Sign or SignAndEncrypt are binding; anything else is for people.'),
  description: text.optional(),
  rules: z
    .array(opcuaRuleSchema)
    .max(10_000)
    .optional()
    .describe('What is allowed; all else is denied. Default: what `direction` says.'),
  opcua: opcuaSection.optional().describe('How the conduit carries OPC UA, and what its channels must be like.'),
  limits: limitsSchema.optional(),
  timeouts: timeoutsSchema.optional(),
})

/** A protocol that this version does not look into; its keys are for people and for other tools. */
export const otherProtocolSchema = z.looseObject({
  protocol: protocolName,
  port: port.optional(),
  ports: z
    .array(range(1, 65535, 'a port'))
    .min(1)
    .max(1000)
    .optional()
    .describe('More ports, or ranges of them, for the filters that are rendered.'),
  transport: z
    .enum(['tcp', 'udp', 'icmp', 'any'])
    .optional()
    .describe("What it runs on, for the filters that are rendered. Default: by the protocol's name; tcp for most."),
  from: references.optional().describe("Who opens it: assets, zones or CIDR blocks. Default: the direction's zone."),
  to: references.optional().describe("To whom. Default: the direction's zone."),
  direction: direction.optional(),
  security_mode: text.optional(),
})

const conduitSchema = <T extends z.ZodType>(protocol: T) =>
  z.strictObject({
    conduit_id: name,
    name: text.optional(),
    description: text.optional(),
    connects: z.array(name).length(2).describe('The two zones.'),
    security_level: securityLevel.optional(),
    mode: mode.optional().describe('monitor (default): forward all, record what would be denied; enforce: deny it.'),
    monitor_until: notation(parseDate, { type: 'string', format: 'date' })
      .optional()
      .describe('Last day on which the conduit, or a rule of it, may be in monitor. `check` warns after it.'),
    protocols_allowed: z.array(protocol).max(1000).optional(),
    controls: z.array(text).max(1000).optional().describe('What the conduit claims to do, as prose.'),
  })

const listener = z.strictObject({
  conduit: name.describe('Id of the conduit it carries.'),
  protocol: name.optional().describe('Default: Modbus/TCP.'),
  listen: notation(parseListen, { type: 'string' }).optional().describe('Own address and port: "10.30.1.1:502".'),
  target: name.optional().describe("Asset or address, with `:port` where it is not the protocol's."),
  transparent: z.boolean().optional().describe('Whole subnets by TPROXY; not in this version.'),
})

/** An event's name, or a family of them. */
function parseEventName(value: unknown): string | Complaint {
  const names = Object.keys(EVENTS)
  if (typeof value !== 'string') return new Complaint('the name of an event, or a family such as "request.*"')
  const known = value.endsWith('.*') ? names.some((one) => one.startsWith(value.slice(0, -1))) : names.includes(value)
  const families = [...new Set(names.map((one) => `${one.split('.')[0]}.*`))]
  const near = didYouMean(value, [...names, ...families])
  return known ? value : new Complaint(`the name of an event, or a family of them: ${families.join(', ')}${near}`)
}

const syslogSink = z.strictObject({
  url: notation(parseSyslogUrl, { type: 'string' }).describe(
    'udp://host:514, tcp://host:601 or tls://host:6514; the port may be left out where it is this one.',
  ),
  format: z
    .enum(SYSLOG_FORMATS)
    .optional()
    .describe('rfc5424 (default): structured data; cef: ArcSight; json: field names of the Elastic Common Schema.'),
  framing: z
    .enum(SYSLOG_FRAMINGS)
    .optional()
    .describe(
      'RFC 6587, for tcp and tls. Default: octet-counting. non-transparent ends each message with a line feed.',
    ),
  facility: notation(parseFacility, textOrNumber).optional().describe('Default: local0.'),
  enterprise_number: z
    .int()
    .min(0)
    .max(2 ** 32 - 1)
    .optional()
    .describe('Your private enterprise number, for the id of the structured data. Default: 32473 (for examples).'),
  min_severity: z.enum(SEVERITIES).optional().describe('Events that are less severe are left out. Default: info.'),
  events: z
    .array(notation(parseEventName, { type: 'string' }))
    .min(1)
    .max(100)
    .optional()
    .describe('Names of events, or families such as request.*. Default: all.'),
  ca: file
    .optional()
    .describe("tls: PEM file of the CAs that may vouch for the receiver. Default: Node.js's own list."),
  cert: file.optional().describe('tls: PEM file of the client certificate; with `key`.'),
  key: file.optional().describe("tls: PEM file of the client certificate's key."),
  server_name: name
    .optional()
    .describe("tls: name that the receiver's certificate must have. Default: the URL's host."),
})

const spool = z.strictObject({
  directory: file.describe('Where events wait for a sink that is away. Made where there is none; on a local disk.'),
  max_bytes: notation((value) => parseBytes(value, 2 ** 20, 2 ** 44), textOrNumber)
    .optional()
    .describe('For each sink: 1 MiB or more. Default: 1 GiB. What does not fit is counted as lost.'),
})

const evidence = z.strictObject({
  directory: file.describe('Where the evidence files are; made where there is none.'),
  required: z
    .boolean()
    .optional()
    .describe('true: conduits that enforce deny everything while evidence cannot be written. Default: false.'),
  key: file
    .optional()
    .describe('PEM file of the Ed25519 signing key; made where there is none. Default: evidence.key beside.'),
  checkpoint_records: positive(1_000_000).optional().describe('Records between two signed checkpoints. Default: 1000.'),
  checkpoint_interval: duration(MS.second, MS.day).optional().describe('Longest time without one. Default: 1m.'),
  rotate_bytes: notation((value) => parseBytes(value, 2 ** 16, 2 ** 40), textOrNumber)
    .optional()
    .describe('A new file begins at this size. Default: 64 MiB.'),
  rotate_daily: z.boolean().optional().describe('A new file begins each day (UTC). Default: true.'),
})

const baseline = z.strictObject({
  directory: file.describe('Where baseline.json is kept; made where there is none. It is written every half minute.'),
})

const control = z.strictObject({
  socket: file.optional().describe('Path of the Unix socket; mode 0660. Default: /run/headgate/control.sock.'),
  state_directory: file
    .optional()
    .describe('Where modes, planned cut-overs and watches are kept over a restart. Default: /var/lib/headgate.'),
})

export const gatewaySchema = z.strictObject({
  name: name.optional().describe('In every event. Default: headgate.'),
  workers: z
    .union([z.literal('auto'), z.int().min(1).max(64)])
    .optional()
    .describe('Worker threads; auto (default): as many as cores.'),
  io: z
    .enum(['auto', 'epoll', 'net'])
    .optional()
    .describe('Transport. auto (default): epoll where it can be had, else net.'),
  listeners: z.array(listener).max(1024).optional(),
  syslog: z.array(syslogSink).max(16).optional(),
  metrics: z
    .strictObject({ listen: notation(parseListen, { type: 'string' }) })
    .optional()
    .describe('Page for Prometheus, with /healthz and /readyz.'),
  log: z.strictObject({ level: z.enum(['debug', 'info', 'warn', 'error']).optional() }).optional(),
  drain: duration(0, 10 * MS.minute)
    .optional()
    .describe('How long SIGTERM waits for outstanding requests. Default: 5s.'),
  console: z.looseObject({}).optional().describe('Not in this version.'),
  spool: spool.optional().describe('Default: none; what a sink cannot take beyond 10 000 events in memory is lost.'),
  evidence: evidence.optional().describe('Chained and signed files of all events. Default: none.'),
  baseline: baseline
    .optional()
    .describe(
      'What conduits that monitor carry is learned: clients, functions, addresses, values, rates. Default: no.',
    ),
  control: control
    .optional()
    .describe(
      'Local socket for cutover, rollback, status and the like. Default: none; `control: {}` has all defaults.',
    ),
  shadow: file
    .optional()
    .describe('Policy document that judges live traffic beside this one; every difference is told. Default: none.'),
  storm_interval: duration(MS.second, MS.hour)
    .optional()
    .describe('Alike events are told once in this time, with their number. Default: 1m.'),
})

const suppression = z.strictObject({
  id: name.describe('Id of the finding, such as conduit-below-target.'),
  at: name.optional().describe('Zone, conduit, asset, or CONDUIT/RULE that it is for. Default: wherever it is found.'),
  reason: z.string().min(10).max(1000).describe('Why it may stand; listed with the findings.'),
})

/** @param protocol schema of one entry of `protocols_allowed` */
export const documentSchema = <T extends z.ZodType>(protocol: T) =>
  z.strictObject({
    facility: text.optional(),
    assessment_date: text.optional(),
    standard: text.optional(),
    description: text.optional(),
    zones: z.array(zoneSchema).max(1000),
    conduits: z.array(conduitSchema(protocol)).max(1000),
    gateway: gatewaySchema.optional(),
    lint: z
      .strictObject({
        suppress: z.array(suppression).max(1000).optional().describe('Findings of the lint that may stand.'),
      })
      .optional(),
  })

export type ZoneDocument = z.infer<typeof zoneSchema>
export type RuleDocument = z.infer<typeof ruleSchema>
export type ModbusDocument = z.infer<typeof modbusSchema>
export type OpcUaRuleDocument = z.infer<typeof opcuaRuleSchema>
export type OpcUaDocument = z.infer<typeof opcuaSchema>
export type OtherProtocolDocument = z.infer<typeof otherProtocolSchema>
export type GatewayDocument = z.infer<typeof gatewaySchema>
export type ConduitDocument = z.infer<ReturnType<typeof conduitSchema<z.ZodUnknown>>>

/** JSON Schema (draft 2020-12) of a policy document, for editors. */
export function jsonSchema(): Record<string, unknown> {
  const convert = (schema: z.ZodType) => {
    const { $schema, ...rest } = z.toJSONSchema(schema, { unrepresentable: 'any', io: 'input' })
    return rest
  }
  // By the protocol's name, as the checker chooses: in a plain union the loose form would let every mistake pass.
  const protocol = z.unknown().meta({
    type: 'object',
    if: { properties: { protocol: { type: 'string', pattern: '^[Mm][Oo][Dd][Bb][Uu][Ss]' } }, required: ['protocol'] },
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema, not a promise
    then: convert(modbusSchema),
    else: {
      if: {
        properties: { protocol: { type: 'string', pattern: '^[Oo][Pp][Cc][ _-]?[Uu][Aa]' } },
        required: ['protocol'],
      },
      // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema, not a promise
      then: convert(opcuaSchema),
      else: convert(otherProtocolSchema),
    },
  })
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Headgate policy: IEC 62443-3-2 zone-and-conduit document',
    ...convert(documentSchema(protocol)),
  }
}
