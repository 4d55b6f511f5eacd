/**
 * An inspecting session without sockets, for tests: notes all it asks of its host, and holds it to the buffers it is
 * given. And the bytes of the messages that tests speak with: written by hand, so that they do not share the
 * product's mistakes.
 */
import { createHash } from 'node:crypto'
import type { OpcUaConduit } from '../../src/gateway/opcua-conduit.ts'
import { Plan } from '../../src/gateway/plan.ts'
import { checkPolicy } from '../../src/policy/load.ts'
import type { Policy } from '../../src/policy/model.ts'
import type { InspectSession } from '../../src/protocols/opcua/inspect/inspect-session.ts'
import { functionLabel } from '../../src/protocols/opcua/services.ts'
import type { OpcUaShadow } from '../../src/protocols/opcua/shadow.ts'
import {
  CHANNEL_CELLS,
  channelLabels,
  type OpcUaFields,
  type OpcUaHost,
  type OpcUaItems,
  type OpcUaReport,
} from '../../src/protocols/opcua/terms.ts'
import { REASONS, WOULD_DENY } from '../../src/protocols/reason.ts'
import type { RequestLimiter } from '../../src/protocols/session.ts'
import { layoutOf } from '../../src/records/counters.ts'

/** A document with one OPC UA conduit from 127.0.0.1 to 127.0.0.2:4840. */
export interface OpcUaText {
  mode?: 'monitor' | 'enforce'
  /** Lines of the protocol: `rules:`, `opcua:`, … */
  protocol: string
  listen?: string
  target?: string
  gateway?: string
}

export function opcuaDocument({ mode = 'enforce', protocol, listen, target, gateway = '' }: OpcUaText): string {
  return `zones:
  - { zone_id: Z2, networks: [127.0.0.2/32] }
  - { zone_id: Z3, networks: [127.0.0.1/32] }
conduits:
  - conduit_id: C1
    connects: [Z2, Z3]
    mode: ${mode}
    protocols_allowed:
      - protocol: OPC UA
${protocol.replaceAll(/^/gm, '        ')}
gateway:
  listeners:
    - { conduit: C1, protocol: OPC UA, listen: "${listen ?? '127.0.0.1:4841'}", target: "${target ?? '127.0.0.2:4840'}" }
${gateway.replaceAll(/^/gm, '  ')}
`
}

/** @throws with its findings where the document has an error */
export function opcuaPolicy(text: OpcUaText): Policy {
  const { policy, findings } = checkPolicy('test.yaml', Buffer.from(opcuaDocument(text)))
  if (policy === null) throw new Error(findings.map((one) => `${one.line}: ${one.message}`).join('\n'))
  return policy
}

export interface Told {
  kind: OpcUaReport['kind']
  reason: string
  would: boolean
  rule: number
  function: string
  detail: string
  fields: OpcUaFields
  items: OpcUaItems
}

const GUARD = 0xaa
const HEAD = 300
const CLIENT = 0xffff7f000001n

export class InspectHarness implements OpcUaHost {
  readonly clock = { us: 1000, ms: 1 }
  readonly session: InspectSession
  plan: OpcUaConduit
  readonly reports: Told[] = []
  /** Requests that would be denied, as they were answered. */
  readonly answered: { request: number; refused: boolean }[] = []
  readonly targetWrites: Buffer[] = []
  readonly clientWrites: Buffer[] = []
  ended = ''
  private current: { buf: Uint8Array; start: number; end: number } | null = null

  constructor(
    policy: Policy,
    limiter: RequestLimiter | null = null,
    client = CLIENT,
    shadow: OpcUaShadow | null = null,
  ) {
    this.plan = planOf(policy)
    const target = policy.gateway?.listeners[0].target
    if (target === undefined) throw new Error('no listener')
    this.session = this.plan.open(this as never, this.clock, target, client, limiter, shadow) as InspectSession
  }

  adopt(policy: Policy, limiter: RequestLimiter | null = null, shadow: OpcUaShadow | null = null): void {
    this.plan = planOf(policy)
    const target = policy.gateway?.listeners[0].target
    if (target === undefined) throw new Error('no listener')
    this.plan.adopt(this.session, target, CLIENT, limiter, shadow)
  }

  get toTarget_(): Buffer {
    return Buffer.concat(this.targetWrites)
  }

  get toClient_(): Buffer {
    return Buffer.concat(this.clientWrites)
  }

  client(bytes: Uint8Array): void {
    this.feed(bytes, (buf, start, end) => this.session.onClientBytes(buf, start, end))
  }

  target(bytes: Uint8Array): void {
    this.feed(bytes, (buf, start, end) => this.session.onTargetBytes(buf, start, end))
  }

  private feed(bytes: Uint8Array, take: (buf: Uint8Array, start: number, end: number) => void): void {
    if (this.ended !== '' || bytes.length === 0) return
    // As the epoll transport has it: a `slice` of a Buffer is no copy.
    const buf = Buffer.alloc(HEAD + bytes.length + 100, GUARD)
    buf.set(bytes, HEAD)
    const end = HEAD + bytes.length
    this.current = { buf, start: HEAD, end }
    take(buf, HEAD, end)
    this.current = null
    for (let at = 0; at < buf.length; at++) {
      if ((at < HEAD || at >= end) && buf[at] !== GUARD) throw new Error(`wrote outside the bytes, at ${at}`)
    }
    // The buffer is the transport's again: what the session keeps must be a copy.
    buf.fill(0x55)
  }

  pass(ms: number): void {
    for (let left = ms; left > 0 && this.ended === ''; left -= 20) {
      const step = Math.min(20, left)
      this.clock.ms += step
      this.clock.us = (this.clock.us + step * 1000) | 0
      if (this.session.waiting) this.session.onPace()
      if (this.ended === '') this.session.onTimer()
    }
  }

  private copy(buf: Uint8Array, from: number, to: number): Buffer {
    if (from > to || from < 0 || to > buf.length) throw new Error(`asked to send [${from}, ${to}) of ${buf.length}`)
    if (buf === this.current?.buf && (from < this.current.start || to > this.current.end)) {
      throw new Error(`asked to send [${from}, ${to}) outside [${this.current.start}, ${this.current.end})`)
    }
    return Buffer.from(buf.slice(from, to))
  }

  toTarget(buf: Uint8Array, from: number, to: number): void {
    if (this.ended !== '') throw new Error('sends to the target after the end')
    this.targetWrites.push(this.copy(buf, from, to))
  }

  toClient(buf: Uint8Array, from: number, to: number): void {
    if (this.ended !== '') throw new Error('sends to the client after the end')
    this.clientWrites.push(this.copy(buf, from, to))
  }

  finish(reason: string): void {
    this.ended ||= reason
  }

  reset(reason: string): void {
    this.ended ||= reason
  }

  redial(): boolean {
    return false
  }

  dropTarget(): void {}

  answeredOpcUa(request: number, refused: boolean): void {
    this.answered.push({ request, refused })
  }

  reportOpcUa({ kind, reason, would, rule, fn, detail, fields, items }: OpcUaReport): void {
    this.reports.push({
      items: items(8),
      kind,
      reason: REASONS[reason],
      would,
      rule,
      function: functionLabel(fn),
      detail,
      fields: fields(),
    })
  }

  /** Requests by verdict: `Write deny service` → number. */
  requests(): Record<string, number> {
    const { requests, functions } = this.plan.bases
    const counts: Record<string, number> = {}
    for (let fn = 0; fn < functions; fn++) {
      for (let cell = 0; cell < 2 * WOULD_DENY; cell++) {
        const count = this.plan.cells[requests + fn * 2 * WOULD_DENY + cell]
        if (count !== 0) counts[`${functionLabel(fn)} ${verdict(cell)}`] = count
      }
    }
    return counts
  }

  responses(): Record<string, number> {
    const counts: Record<string, number> = {}
    for (let cell = 0; cell < 2 * WOULD_DENY; cell++) {
      const count = this.plan.cells[this.plan.bases.responses + cell]
      if (count !== 0) counts[verdict(cell)] = count
    }
    return counts
  }

  /** The gauge of channels: `inspected Basic256Sha256 Sign` → number. */
  channels(): Record<string, number> {
    const counts: Record<string, number> = {}
    for (let cell = 0; cell < CHANNEL_CELLS; cell++) {
      const count = this.plan.cells[this.plan.bases.channels + cell]
      const { visibility, policy, mode } = channelLabels(cell)
      if (count !== 0) counts[`${visibility} ${policy} ${mode}`] = count
    }
    return counts
  }

  get pending(): number {
    return this.plan.cells[this.plan.bases.pending]
  }

  get sessions(): number {
    return this.plan.cells[this.plan.bases.sessions]
  }
}

/** @param role as that of a shadow policy, which carries nothing */
export function planOf(policy: Policy, role?: string): OpcUaConduit {
  const layout = layoutOf(policy)
  const plan = new Plan(policy, {
    layout,
    cells: new Float64Array(layout.size),
    values: new SharedArrayBuffer(8),
    targets: new Map(),
    role,
  })
  const [listener] = plan.listeners.values()
  return listener.conduit as OpcUaConduit
}

function verdict(cell: number): string {
  if (cell === 0) return 'allow'
  return `${cell < WOULD_DENY ? 'deny' : 'would_deny'} ${REASONS[cell % WOULD_DENY]}`
}

// ------------------------------------------------------------------------------------------------------- messages

const u32le = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value >>> 0)
  return bytes
}

export const string = (text: string | Buffer | null): Buffer => {
  if (text === null) return u32le(0xffffffff)
  const bytes = Buffer.from(text)
  return Buffer.concat([u32le(bytes.length), bytes])
}

export const message = (type: string, ...parts: (Buffer | number)[]): Buffer => {
  const body = Buffer.concat(parts.map((part) => (typeof part === 'number' ? u32le(part) : part)))
  return Buffer.concat([Buffer.from(type), u32le(8 + body.length), body])
}

export const hello = (url = 'opc.tcp://plc:4840', buffer = 65_536): Buffer =>
  message('HELF', 0, buffer, buffer, 0, 0, string(url))
export const acknowledge = (buffer = 65_536): Buffer => message('ACKF', 0, buffer, buffer, 0, 0)
export const reverseHello = (url = 'opc.tcp://plc:4840'): Buffer => message('RHEF', string('urn:plc'), string(url))

export const policyUri = (policy: string): string => `http://opcfoundation.org/UA/SecurityPolicy#${policy}`

export const typeId = (id: number): Buffer => Buffer.from([1, 0, id & 0xff, id >>> 8])
const EIGHT = Buffer.alloc(8)
const NO_EXTENSION = Buffer.alloc(3)

/** Without the type id. The authentication token is `ns=1;b=…` of 16 bytes. */
export const requestHeader = (handle: number): Buffer =>
  Buffer.concat([
    Buffer.from([5, 1, 0]),
    string(Buffer.alloc(16, 7)),
    EIGHT,
    u32le(handle),
    u32le(0),
    string(null),
    u32le(10_000),
    NO_EXTENSION,
  ])

export const responseHeader = (handle: number, status = 0): Buffer =>
  Buffer.concat([EIGHT, u32le(handle), u32le(status), Buffer.from([0]), u32le(0), NO_EXTENSION])

/** OPN request of the policy None: `requestType` 0 issues, 1 renews. */
export const openNone = (sequence: number, request: number, requestType = 0, channel = 0, mode = 1): Buffer =>
  message(
    'OPNF',
    channel,
    string(policyUri('None')),
    string(null),
    string(null),
    sequence,
    request,
    typeId(446),
    requestHeader(request),
    0,
    requestType,
    mode,
    string(null),
    3_600_000,
  )

export const openedNone = (sequence: number, request: number, channel: number, token: number): Buffer =>
  message(
    'OPNF',
    channel,
    string(policyUri('None')),
    string(null),
    string(null),
    sequence,
    request,
    typeId(449),
    responseHeader(request),
    0,
    channel,
    token,
    EIGHT,
    3_600_000,
    string(Buffer.alloc(0)),
  )

/** A certificate's outline: DER of a SEQUENCE. */
export const certificate = (fill: number, length = 700): Buffer =>
  Buffer.concat([Buffer.from([0x30, 0x82, length >>> 8, length & 0xff]), Buffer.alloc(length, fill)])

/** OPN of a secure policy: what is behind the header is as good as random. */
export const openSecure = (policy: string, channel = 0, sender = certificate(1), receiver = certificate(2)): Buffer =>
  message(
    'OPNF',
    channel,
    string(policyUri(policy)),
    string(sender),
    string(Buffer.from(thumbprint(receiver), 'hex')),
    noise(512, channel + 1),
  )

export const thumbprint = (der: Uint8Array): string => createHash('sha1').update(der).digest('hex')

/** Bytes as good as random, the same for the same seed. */
export function noise(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length)
  let state = seed | 1
  for (let i = 0; i < length; i++) {
    state = Math.imul(state, 1_664_525) + 1_013_904_223
    bytes[i] = state >>> 24
  }
  return bytes
}

export interface Place {
  channel?: number
  token?: number
  sequence: number
  request: number
}

/** A chunk in clear; `signature` bytes of it behind its body. */
export const chunk = (type: string, place: Place, body: Buffer, signature = 0): Buffer =>
  message(
    type,
    place.channel ?? 7,
    place.token ?? 1,
    place.sequence,
    place.request,
    body,
    Buffer.alloc(signature, 0x99),
  )

/** A request with nothing but its header. */
export const request = (id: number, place: Place, more: Buffer = Buffer.alloc(0), signature = 0): Buffer =>
  chunk('MSGF', place, Buffer.concat([typeId(id), requestHeader(place.request * 10), more]), signature)

export const response = (id: number, place: Place, more: Buffer = Buffer.alloc(0), signature = 0, status = 0): Buffer =>
  chunk('MSGF', place, Buffer.concat([typeId(id), responseHeader(place.request * 10, status), more]), signature)

/** A chunk that encryption hides: a multiple of the cipher's block. */
export const hidden = (type: string, length: number, seed: number, channel = 7): Buffer =>
  message(type, channel, 1, noise(length - (length % 16), seed))

/** Splits bytes into messages by their sizes. */
export function messages(bytes: Buffer): Buffer[] {
  const list: Buffer[] = []
  for (let at = 0; at < bytes.length; ) {
    const size = bytes.readUInt32LE(at + 4)
    list.push(bytes.subarray(at, at + size))
    at += size
  }
  return list
}
