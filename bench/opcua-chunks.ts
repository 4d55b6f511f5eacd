/**
 * Nanoseconds a chunk of OPC UA in the inspecting session, without sockets: frame, channel, token, sequence number,
 * service, rules, and the pairing of answers, with state and counters. Each chunk's sequence number is written anew
 * before each pass, which is part of the figure.
 */
import { PairRules } from '../src/protocols/opcua/channel-rules.ts'
import { InspectSession } from '../src/protocols/opcua/inspect/inspect-session.ts'
import { FUNCTIONS, OPCUA_SERVICE_GROUPS, REQUEST, RESPONSE, servicesIn } from '../src/protocols/opcua/services.ts'
import { CHANNEL_CELLS, type OpcUaHost, type OpcUaTerms } from '../src/protocols/opcua/terms.ts'
import { OPEN_GATE } from '../src/protocols/session.ts'
import { RESPONSE_BOUNDS_US } from '../src/records/counters.ts'
import { timed } from './timed.ts'

/** A read of the size that a saturated connection delivers. */
const CHUNKS = 64
const CHANNEL = 7
const TOKEN = 1
/** Bytes of a small Read's body, and of its answer's. */
const BODY = 96

const u32 = (...values: number[]): Buffer => {
  const bytes = Buffer.alloc(4 * values.length)
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value >>> 0, 4 * i)
  return bytes
}
const message = (type: string, ...parts: Buffer[]): Buffer => {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from(type), u32(8 + body.length), body])
}
const text = (value: string): Buffer => Buffer.concat([u32(value.length), Buffer.from(value)])
const NULL = u32(0xffffffff)
const NONE = text('http://opcfoundation.org/UA/SecurityPolicy#None')
const typeId = (id: number): Buffer => Buffer.from([1, 0, id & 255, id >> 8])
const requestHeader = Buffer.concat([Buffer.from([0, 0]), Buffer.alloc(16), NULL, u32(0), Buffer.alloc(3)])
const responseHeader = Buffer.concat([Buffer.alloc(16), Buffer.alloc(1), u32(0), Buffer.alloc(3)])

/** A session whose channel is open: of None where `plain`, else encrypted. */
function opened(plain: boolean): { session: InspectSession; clock: { us: number; ms: number }; sent: () => number } {
  let sent = 0
  const host: OpcUaHost = {
    toTarget: (_, from, to) => {
      sent += to - from
    },
    toClient: (_, from, to) => {
      sent += to - from
    },
    finish: (why) => {
      throw new Error(why)
    },
    reset: () => {},
    redial: () => false,
    dropTarget: () => {},
    answeredOpcUa: () => {},
    reportOpcUa: ({ kind, detail }) => {
      if (kind !== 'opened') throw new Error(detail)
    },
  }
  const mode = plain ? 'None' : 'SignAndEncrypt'
  const modes = new Set([mode] as const)
  const all = OPCUA_SERVICE_GROUPS.flatMap(servicesIn)
  const rule = {
    name: 'any',
    action: 'allow',
    services: plain ? [REQUEST.Read, REQUEST.Browse, REQUEST.CreateSession, REQUEST.ActivateSession] : all,
    nodes: null,
    attributes: null,
    values: null,
    methods: null,
    mode: null,
    securityMode: null,
    securityPolicies: null,
    certificates: null,
  } as const
  const requests = 0
  const responses = requests + FUNCTIONS * 32
  const rest = responses + 32
  const terms: OpcUaTerms = {
    monitor: false,
    endpointUrls: null,
    securityPolicies: new Set(plain ? (['None'] as const) : (['Basic256Sha256'] as const)),
    securityModes: modes,
    serverCertificates: null,
    messageBytes: 4 << 20,
    chunks: 1024,
    idleMs: 60_000,
    partialFrameMs: 3000,
    responseMs: 3000,
    counters: {
      cells: new Float64Array(new SharedArrayBuffer(1 << 17)),
      requests,
      responses,
      bytesIn: rest,
      bytesOut: rest + 1,
      pending: rest + 2,
      rules: rest + 3,
      channels: rest + 10,
      sessions: rest + 10 + CHANNEL_CELLS,
      histogram: rest + 20 + CHANNEL_CELLS,
    },
    gate: OPEN_GATE,
    bounds: Int32Array.from(RESPONSE_BOUNDS_US),
  }
  const clock = { us: 0, ms: 0 }
  const rules = { pair: new PairRules([{ index: 0, terms: rule }], modes), reverse: null }
  const session = new InspectSession(host, clock, terms, rules, null)
  const up = (bytes: Buffer): void => session.onClientBytes(bytes, 0, bytes.length)
  const down = (bytes: Buffer): void => session.onTargetBytes(bytes, 0, bytes.length)
  up(message('HELF', u32(0, 65_536, 65_536, 0, 0), text('opc.tcp://plc:4840')))
  down(message('ACKF', u32(0, 65_536, 65_536, 0, 0)))
  if (plain) {
    const head = Buffer.concat([NONE, NULL, NULL, u32(0, 1)])
    up(
      message(
        'OPNF',
        u32(0),
        head,
        typeId(REQUEST.OpenSecureChannel),
        requestHeader,
        u32(0, 0, 1),
        NULL,
        u32(3_600_000),
      ),
    )
    const token = Buffer.concat([u32(0, CHANNEL, TOKEN), Buffer.alloc(8), u32(3_600_000), NULL])
    down(message('OPNF', u32(CHANNEL), head, typeId(RESPONSE.OpenSecureChannel), responseHeader, token))
  } else {
    const certificate = Buffer.concat([Buffer.from([0x30, 0x82, 2, 0]), Buffer.alloc(512)])
    const open = Buffer.concat([
      text('http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256'),
      u32(certificate.length),
      certificate,
      u32(20),
      Buffer.alloc(20),
      Buffer.alloc(256, 0x5a),
    ])
    up(message('OPNF', u32(0), open))
    down(message('OPNF', u32(CHANNEL), open))
    up(hidden())
    down(hidden())
  }
  return { session, clock, sent: () => sent }
}

const hidden = (): Buffer => message('MSGF', u32(CHANNEL, TOKEN), Buffer.alloc(BODY + 32, 0xc3))

const readChunk = (request: boolean, id: number): Buffer =>
  message(
    'MSGF',
    u32(CHANNEL, TOKEN, 0, id),
    typeId(request ? REQUEST.Read : RESPONSE.Read),
    request ? requestHeader : responseHeader,
    Buffer.alloc(BODY),
  )

/** Writes sequence numbers from `first` on. */
function number(buf: Buffer, first: number): void {
  const size = buf.length / CHUNKS
  for (let i = 0; i < CHUNKS; i++) {
    const at = i * size + 16
    const value = first + i
    buf[at] = value
    buf[at + 1] = value >>> 8
    buf[at + 2] = value >>> 16
    buf[at + 3] = value >>> 24
  }
}

/** Figures of each round, by what was measured. */
export function opcuaChunks(): [what: string, ns: number[]][] {
  const ids = Array.from({ length: CHUNKS }, (_, i) => i)
  const plain = opened(true)
  const asked = Buffer.concat(ids.map((id) => readChunk(true, 100 + id)))
  const answered = Buffer.concat(ids.map((id) => readChunk(false, 100 + id)))
  let next = 1
  const clear = timed(2 * CHUNKS, () => {
    number(asked, next)
    number(answered, next)
    next += CHUNKS
    plain.clock.us += 300
    plain.session.onClientBytes(asked, 0, asked.length)
    plain.clock.us += 300
    plain.session.onTargetBytes(answered, 0, answered.length)
  })
  if (plain.session.pending !== 0 || plain.sent() === 0) throw new Error('the session did not pair all responses')
  const secret = opened(false)
  const chunks = Buffer.concat(ids.map(hidden))
  const encrypted = timed(CHUNKS, () => secret.session.onClientBytes(chunks, 0, chunks.length))
  return [
    ['Headgate: OPC UA inspected, a chunk in clear (whole session: Read and its answer)', clear],
    ['Headgate: OPC UA inspected, a chunk that is encrypted', encrypted],
  ]
}
