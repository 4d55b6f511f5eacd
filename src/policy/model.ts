/**
 * The checked policy: what `load.ts` makes of a zone-and-conduit document (IEC 62443-3-2) once every key,
 * reference, address and range has been verified. Plain data: it crosses to the worker threads by structured clone
 * and is compiled into tables there.
 */

import type { OpcUaSecurityMode, OpcUaSecurityPolicy } from '../protocols/opcua/security.ts'

/** A block of addresses in one 128-bit space; IPv4 is held as IPv4-mapped IPv6 (`::ffff:a.b.c.d`). */
export interface AddressBlock {
  /** First address of the block, as an unsigned 128-bit integer. */
  base: bigint
  /** Prefix length in the 128-bit space, 0…128 (an IPv4 /24 is 120). */
  bits: number
  /** As the operator wrote it, or the canonical form: `10.20.0.0/16`. */
  text: string
}

/** An inclusive range of integers. */
export type Range = readonly [low: number, high: number]

export type Mode = 'monitor' | 'enforce'
export type OnDeny = 'exception' | 'drop' | 'reset'
export type OnLimit = 'deny' | 'pace'

/** Place in the document, 1-based. */
export interface Position {
  line: number
  column: number
}

export interface Asset {
  name: string
  address: AddressBlock
  role: string | null
  zone: string
}

export interface Zone {
  id: string
  name: string
  /** `[1, 2]` for `"1-2"`, `[3.5, 3.5]` for `3.5`; null where the document does not say. */
  purdueLevel: Range | null
  /** SL-T as a number, 1…4 (IEC 62443-3-3), or null. */
  securityLevelTarget: number | null
  criticality: string | null
  networks: AddressBlock[]
  assets: Asset[]
  /** Assets given as prose: documentation only. */
  labels: string[]
  securityRequirements: string[]
  allowedConduits: string[] | null
}

/** One function code, optionally narrowed to a sub-function (FC 8) or an MEI type and, for MEI 14, nothing further. */
export interface FunctionSelector {
  /** Function code, 1…127. */
  code: number
  /** Sub-function of FC 8 (0…65535) or MEI type of FC 43 (0…255); null selects all. */
  sub: number | null
}

export const MODBUS_TABLES = ['coils', 'discrete-inputs', 'input-registers', 'holding-registers'] as const
export type ModbusTable = (typeof MODBUS_TABLES)[number]

/** What a written value must keep to. Registers are unsigned 16-bit; coils are 0 or 1. */
export interface ValueLimit {
  range: Range
  min: number | null
  max: number | null
  /** Largest change against the present value as last seen on this conduit; null: any. */
  maxStep: number | null
}

/** Deviations of real devices that a rule lets pass (always counted). See docs for each. */
export const QUIRKS = [
  /** The response carries another unit identifier than the request (serial gateways). */
  'unit-mismatch',
  /** The response's transaction identifier is always 0. */
  'zero-transaction-id',
  /** The response's transaction identifier is not the request's (a counter of its own). */
  'transaction-id-mismatch',
  /** An exception code outside V1.1b3 §7's table. */
  'vendor-exceptions',
  /** Bytes after the PDU's end, inside the MBAP length, in a response. */
  'trailing-bytes',
] as const
export type Quirk = (typeof QUIRKS)[number]

export interface ModbusRule {
  name: string
  action: 'allow' | 'deny'
  /** Client addresses. */
  from: AddressBlock[]
  /** Target addresses. */
  to: AddressBlock[]
  /** null: any unit identifier. */
  unitIds: Range[] | null
  functions: FunctionSelector[]
  /** null: any address. A table that is absent here may not be touched at all. */
  addresses: Partial<Record<ModbusTable, Range[]>> | null
  values: Partial<Record<ModbusTable, ValueLimit[]>> | null
  /** null: the protocol's. */
  onDeny: OnDeny | null
  /** 'monitor': what this rule (as the nearest) would deny passes and is recorded as would-deny. null: the conduit's. */
  mode: 'monitor' | null
  tolerate: Quirk[]
  /** True where the rule was derived from the prose of `direction`. */
  fromProse: boolean
  position: Position
}

/** Every figure null where the document sets no limit. */
export interface Limits {
  connectionsPerClient: number | null
  connectionsPerTarget: number | null
  /** New connections a second, per client. */
  newConnectionsPerSecond: number | null
  requestsPerClientPerSecond: number | null
  requestsPerTargetPerSecond: number | null
  /** Requests that may come at once above the rate (GCRA burst tolerance), ≥ 1. */
  burst: number
  inFlightPerTarget: number | null
  onLimit: OnLimit
  /** With `pace`: how many requests of a connection may wait, and for how long. */
  paceQueue: number
  paceMs: number
}

/** All in milliseconds. */
export interface Timeouts {
  connectMs: number
  idleMs: number
  partialFrameMs: number
  responseMs: number
}

export interface ModbusProtocol {
  kind: 'modbus'
  /** As written: `Modbus/TCP`. */
  protocol: string
  port: number
  direction: string | null
  rules: ModbusRule[]
  limits: Limits
  onDeny: OnDeny
  timeouts: Timeouts
  position: Position
}

export {
  OPCUA_SECURITY_MODES,
  OPCUA_SECURITY_POLICIES,
  type OpcUaSecurityMode,
  type OpcUaSecurityPolicy,
} from '../protocols/opcua/security.ts'

export const OPCUA_USER_TOKENS = ['Anonymous', 'UserName', 'IssuedToken'] as const

/** A NodeId, a range of numeric ones, or a glob of string ones, as a rule writes it (OPC 10000-6 §5.3.1.10). */
export interface NodePattern {
  /** As written. */
  text: string
  /** Namespace index, or namespace URI (`nsu=`), which the server's namespace array resolves. */
  namespace: number | string
  /**
   * numeric: low to high; string: a glob (`*` any run, `?` one character, a backslash takes the next of these as it is);
   * guid: canonical lower-case text; opaque: base64.
   */
  id:
    | { type: 'numeric'; range: Range }
    | { type: 'string'; glob: string }
    | { type: 'guid'; guid: string }
    | { type: 'opaque'; base64: string }
}

/** What may be written to the Value attribute of nodes: every number of the value, arrays included, is held to it. */
export interface NodeValueLimit {
  node: NodePattern
  min: number | null
  max: number | null
}

/** A method by the object that it is called on and its own NodeId; null: on any object. */
export interface MethodPattern {
  text: string
  object: NodePattern | null
  method: NodePattern
}

export interface OpcUaRule {
  name: string
  action: 'allow' | 'deny'
  from: AddressBlock[]
  to: AddressBlock[]
  /** Type ids (ns=0 DefaultBinary encoding ids) of the requests allowed, ascending. */
  services: number[]
  /** null: any node. */
  nodes: NodePattern[] | null
  /** Attribute ids (OPC 10000-6 annex A.1), 1…27; null: any. */
  attributes: number[] | null
  values: NodeValueLimit[] | null
  /** null: any method, where `services` has Call (which a rule with methods has). `nodes` do not matter to methods. */
  methods: MethodPattern[] | null
  /** What the channel must be at least; null: the protocol's. */
  securityMode: OpcUaSecurityMode | null
  securityPolicies: OpcUaSecurityPolicy[] | null
  /** SHA-1 thumbprints of client certificates, lower-case hex; null: any. */
  certificates: string[] | null
  mode: 'monitor' | null
  fromProse: boolean
  position: Position
}

export interface OpcUaLimits {
  messageBytes: number
  chunks: number
  /** null: no limit. */
  sessions: number | null
  subscriptionsPerSession: number | null
}

export interface OpcUaCertificates {
  /** Directory with the gateway's own certificate and key, and directories of trust lists; absolute. */
  own: string
  trustedClients: string
  trustedServers: string
}

export interface OpcUaProtocol {
  kind: 'opcua'
  /** As written: `OPC UA`. */
  protocol: string
  port: number
  direction: string | null
  /** As written: prose of the zone document, binding. */
  securityMode: string | null
  rules: OpcUaRule[]
  /** inspect: the channel is the client's and the server's; terminate: Headgate ends it and opens its own. */
  handling: 'inspect' | 'terminate'
  securityPolicies: OpcUaSecurityPolicy[]
  securityModes: OpcUaSecurityMode[]
  userTokens: (typeof OPCUA_USER_TOKENS)[number][]
  /** Inspect: endpoint URLs of Hello that are let pass; null: any. */
  endpointUrls: string[] | null
  /** Thumbprints that servers are held to, lower-case hex; null: any. */
  serverCertificates: string[] | null
  /** Reverse connect: clients that a server may open a connection to; empty: none. */
  reverseConnect: AddressBlock[]
  /** With terminate. */
  certificates: OpcUaCertificates | null
  messageLimits: OpcUaLimits
  limits: Limits
  timeouts: Timeouts
  position: Position
}

/** A protocol the document allows and Headgate does not inspect (HTTPS, RDP, PI-to-PI …). */
export interface OtherProtocol {
  kind: 'other'
  protocol: string
  /** What it runs on; where the document does not say: what the protocol's name does, tcp for most. */
  transport: 'tcp' | 'udp' | 'icmp' | 'any'
  port: number | null
  /** More ports, or ranges of them. */
  ports: Range[] | null
  /** Who may open it to whom; null: all of the direction's zones. */
  from: AddressBlock[] | null
  to: AddressBlock[] | null
  direction: string | null
  securityMode: string | null
  position: Position
}

export type ConduitProtocol = ModbusProtocol | OpcUaProtocol | OtherProtocol

export interface Conduit {
  id: string
  name: string
  connects: [string, string]
  securityLevel: number | null
  mode: Mode
  /** Last day (`2026-03-31`) on which it may still be in monitor, or null. */
  monitorUntil: string | null
  protocols: ConduitProtocol[]
  controls: string[]
  position: Position
}

export interface Listener {
  conduit: string
  protocol: 'modbus' | 'opcua'
  /** Address to listen on; host is an IP literal. */
  listen: { host: string; port: number }
  /** The fixed target. `name` is the asset's name, or the address as text. */
  target: { name: string; host: string; port: number; address: AddressBlock }
  position: Position
}

/** RFC 5424 §6.2.1 severities, by number. */
export const SEVERITIES = ['emergency', 'alert', 'critical', 'error', 'warning', 'notice', 'info', 'debug'] as const
export type SeverityName = (typeof SEVERITIES)[number]

export const SYSLOG_FORMATS = ['rfc5424', 'cef', 'json'] as const
export const SYSLOG_FRAMINGS = ['octet-counting', 'non-transparent'] as const

export interface SyslogSink {
  /** `udp://host:port`, `tcp://host:port`, `tls://host:port`; the sink's name in events and metrics. */
  url: string
  transport: 'udp' | 'tcp' | 'tls'
  host: string
  port: number
  /** What the message carries: structured data (RFC 5424 §6.3), CEF, or JSON with the field names of ECS. */
  format: (typeof SYSLOG_FORMATS)[number]
  /** RFC 6587 §3.4; of no meaning for UDP. Default octet-counting. */
  framing: (typeof SYSLOG_FRAMINGS)[number]
  /** RFC 5424 facility number, 0…23; default 16 (local0). */
  facility: number
  /** Private enterprise number of the structured data's id; default 32473, which RFC 5612 reserves for examples. */
  enterpriseNumber: number
  /** Events less severe are left out; default info. */
  minSeverity: SeverityName
  /** Event names, or families such as `request.*`; null: all. */
  events: string[] | null
  /** With transport tls; paths are absolute. */
  tls: SyslogTls | null
}

export interface SyslogTls {
  /** CA certificates, PEM; null: those that Node.js ships. */
  ca: string | null
  /** Client certificate and key, PEM; both or none. */
  cert: string | null
  key: string | null
  /** Name that the server's certificate must have; null: the URL's host. */
  serverName: string | null
}

/** Where events wait for a sink that is away. */
export interface Spool {
  /** Absolute path. */
  directory: string
  /** Bytes that the events of one sink may take; default 1 GiB. */
  maxBytes: number
}

export interface Evidence {
  /** Absolute path of the evidence files and, by default, of the key. */
  directory: string
  /** Conduits that enforce deny everything while evidence cannot be written; default false. */
  required: boolean
  /** PEM file of the Ed25519 signing key, made where there is none; absolute. Default `evidence.key` in the directory. */
  key: string
  /** A checkpoint is signed after so many records, and so long after a record that none covers. Defaults 1000 and 60 s. */
  checkpointRecords: number
  checkpointMs: number
  /** A file is closed at this size (default 64 MiB), and when the day (UTC) changes if `rotateDaily` (default). */
  rotateBytes: number
  rotateDaily: boolean
}

/** What conduits that monitor carry is kept as a baseline. */
export interface BaselineTerms {
  /** Absolute path. */
  directory: string
}

export const RECORD_DEFAULTS = {
  enterpriseNumber: 32473,
  minSeverity: 'info',
  spoolBytes: 2 ** 30,
  checkpointRecords: 1000,
  checkpointMs: 60_000,
  rotateBytes: 64 * 2 ** 20,
  stormMs: 60_000,
} as const

/** The control socket; paths are absolute. */
export interface Control {
  socket: string
  stateDirectory: string
}

export const CONTROL_DEFAULTS = { socket: '/run/headgate/control.sock', stateDirectory: '/var/lib/headgate' } as const

export interface Gateway {
  name: string
  /** Number of worker threads; 0: as many as cores (`auto`). */
  workers: number
  io: 'auto' | 'epoll' | 'net'
  listeners: Listener[]
  syslog: SyslogSink[]
  /** null: what a sink cannot take beyond its memory is lost. */
  spool: Spool | null
  evidence: Evidence | null
  baseline: BaselineTerms | null
  /** Alike events are told once in this time, in milliseconds; default 60 s. */
  stormMs: number
  metrics: { host: string; port: number } | null
  /** null: no socket, and modes are the document's. */
  control: Control | null
  /** Absolute path of the policy document that judges beside; null: none. */
  shadow: string | null
  log: { level: 'debug' | 'info' | 'warn' | 'error' }
  /** How long SIGTERM waits for outstanding requests, in milliseconds. */
  drainMs: number
}

export interface Policy {
  /** Path as given by the operator. */
  file: string
  /** Of the document's bytes, lower-case hex. */
  sha256: string
  facility: string | null
  /** As written: of the assessment that the document comes from, and the standard that it was made by. */
  assessmentDate: string | null
  standard: string | null
  zones: Zone[]
  conduits: Conduit[]
  gateway: Gateway | null
  /** Findings of the lint that may stand. */
  suppressions: Suppression[]
}

/** A finding of the lint that may stand, and why. */
export interface Suppression {
  id: string
  /** Zone, conduit or `CONDUIT/RULE` that it is for; null: wherever it is found. */
  at: string | null
  reason: string
  position: Position
}

export type Severity = 'error' | 'warning'

/** What `check` says of one place in the document. */
export interface Finding extends Position {
  severity: Severity
  /** Stable id, e.g. `unknown-key`, `dangling-reference`. */
  id: string
  file: string
  /** What was found, what was expected, and the mend: one line. */
  message: string
}
