/** What the gateway and the sessions of OPC UA, inspecting or terminating, say to each other. */
import type { SessionHost } from '../session.ts'
import {
  OPCUA_SECURITY_MODES,
  OPCUA_SECURITY_POLICIES,
  type OpcUaSecurityMode,
  type OpcUaSecurityPolicy,
} from './security.ts'
import type { Aliases } from './session-context.ts'

/**
 * How much of a secure channel Headgate sees. *Inspected*: every message. *Header only*: the sizes of its messages,
 * and what they were opened with, since encryption hides the rest. *Blind*: nothing any more; while monitoring, bytes
 * pass that are no OPC UA.
 */
export const VISIBILITIES = ['inspected', 'header only', 'blind'] as const
export const VISIBILITY = { inspected: 0, headerOnly: 1, blind: 2 } as const

/** Modes as counters know them: those of the specification, and that of a channel whose mode is not known yet. */
export const CHANNEL_MODES = [...OPCUA_SECURITY_MODES, 'undecided'] as const
export const MODE = { none: 0, sign: 1, signAndEncrypt: 2, undecided: 3 } as const
/** Policies as counters know them. */
export const CHANNEL_POLICIES = [...OPCUA_SECURITY_POLICIES, 'unknown'] as const

/** Cells that count open channels: for each visibility, policy and mode. */
export const CHANNEL_CELLS = VISIBILITIES.length * CHANNEL_POLICIES.length * CHANNEL_MODES.length

/** Index among them. */
export const channelCell = (visibility: number, policy: number, mode: number): number =>
  (visibility * CHANNEL_POLICIES.length + policy) * CHANNEL_MODES.length + mode

/** What `channelCell` was made of. */
export const channelLabels = (cell: number): { visibility: string; policy: string; mode: string } => ({
  visibility: VISIBILITIES[Math.floor(cell / CHANNEL_MODES.length / CHANNEL_POLICIES.length)],
  policy: CHANNEL_POLICIES[Math.floor(cell / CHANNEL_MODES.length) % CHANNEL_POLICIES.length],
  mode: CHANNEL_MODES[cell % CHANNEL_MODES.length],
})

export const policyIndex = (policy: OpcUaSecurityPolicy | null): number =>
  policy === null ? OPCUA_SECURITY_POLICIES.length : OPCUA_SECURITY_POLICIES.indexOf(policy)

/** Where a conduit's counters stand in `cells`; see records/counters.ts for the layout. */
export interface OpcUaCells {
  cells: Float64Array
  requests: number
  responses: number
  bytesIn: number
  bytesOut: number
  pending: number
  rules: number
  channels: number
  sessions: number
  histogram: number
}

/** What the policy says to all sessions of one conduit; made anew on each reload. */
export interface OpcUaTerms {
  monitor: boolean
  /** null: any. */
  endpointUrls: ReadonlySet<string> | null
  securityPolicies: ReadonlySet<OpcUaSecurityPolicy>
  securityModes: ReadonlySet<OpcUaSecurityMode>
  /** SHA-1 thumbprints in lower-case hex; null: any. */
  serverCertificates: ReadonlySet<string> | null
  messageBytes: number
  chunks: number
  idleMs: number
  partialFrameMs: number
  /** For an answer; later is told, and changes nothing. */
  responseMs: number
  counters: OpcUaCells
  /** One cell: not 0 while an enforcing conduit denies everything (`evidence.required`). Other threads write it. */
  gate: Int32Array
  /** Upper bounds of the response time histogram, in microseconds. */
  bounds: Int32Array
}

/** Fields of an event; see the catalogue of events for each. */
export interface OpcUaFields {
  /** The service. */
  function?: string
  node?: string
  method?: string
  attribute?: string
  value?: string
  items?: number
  denied?: number
  security_policy?: string
  security_mode?: string
  visibility?: string
  certificate?: string
  server_certificate?: string
  endpoint_url?: string
  channel_id?: number
  request_id?: number
  session?: string
  user?: string
  status?: string
  length?: number
}

/** One item of a request, in words: an event's fields of these names. */
export interface OpcUaItem {
  node: string
  method?: string
  attribute?: string
  value?: string
}

export interface OpcUaItems {
  list: readonly OpcUaItem[]
  /** There are more than were asked for, or that are denied for another reason. */
  more: boolean
}

export const NO_ITEMS: OpcUaItems = { list: [], more: false }
/** Of a report that is about no items. */
export const noItems = (): OpcUaItems => NO_ITEMS

export interface OpcUaReport {
  /**
   * `channel`: the secure channel, or the connection that it needs, is refused; `opened`: it is there; `timeout`: the
   * server has not answered a request in time.
   */
  kind: 'request' | 'response' | 'channel' | 'downgraded' | 'opened' | 'timeout'
  reason: number
  /** Would be denied: it passed, since the conduit or the rule monitors. */
  would: boolean
  /** Index of the rule that decided or came nearest; -1: none. */
  rule: number
  /** Index of the function, see `services.ts`. */
  fn: number
  detail: string
  /** Called where the event is told, which is not each time. */
  fields: () => OpcUaFields
  /** Of a request: its id on the channel, by which `answeredOpcUa` tells of it; else 0. */
  request: number
  /** Of a request: the items that are meant, at most so many; called before the report returns, or not at all. */
  items: (most: number) => OpcUaItems
}

/** What a session of OPC UA asks of its host beside what all sessions do. */
export interface OpcUaHost extends SessionHost {
  /** Off the allowed path: one verdict, for the records. */
  reportOpcUa(report: OpcUaReport): void
  /** A request that was reported as one that would be denied is answered. @param refused by a bad status */
  answeredOpcUa(request: number, refused: boolean): void
}

/** Sees what a connection carries, and changes nothing: a session calls it for each message, so it makes nothing. */
export interface OpcUaWitness {
  /** Handling inspect: bytes of one direction as they came. */
  sawBytes(fromClient: boolean, buf: Uint8Array, from: number, to: number): void
  /** Handling terminate: a secure channel is open. */
  sawChannel(policy: string, mode: string, endpointUrl: string): void
  /**
   * Handling terminate: a chunk's body, decrypted.
   * @param requestId the client's
   * @param flag one of `CHUNK`
   * @param aliases of the session that it belongs to
   */
  sawChunk(
    fromClient: boolean,
    requestId: number,
    flag: number,
    buf: Uint8Array,
    from: number,
    to: number,
    aliases: Aliases | null,
  ): void
}
