/**
 * A terminating session in memory, between a client and a server that are the gateway's own two ends turned around:
 * whatever they are given to say is sealed as it should be, so that what is under test are the bodies.
 */

import { SharedSessions, sessionsBytes } from '../../src/limits/opcua-sessions.ts'
import type { IndexedRule } from '../../src/protocols/opcua/channel-rules.ts'
import { PairRules } from '../../src/protocols/opcua/channel-rules.ts'
import { CHUNK, MESSAGE } from '../../src/protocols/opcua/chunk.ts'
import { readCertificate } from '../../src/protocols/opcua/security/certificate.ts'
import { policyByName } from '../../src/protocols/opcua/security/policies.ts'
import type { OpcUaShadow } from '../../src/protocols/opcua/shadow.ts'
import { Front } from '../../src/protocols/opcua/terminate/front.ts'
import { Link } from '../../src/protocols/opcua/terminate/link.ts'
import { OpenGuard } from '../../src/protocols/opcua/terminate/open-guard.ts'
import { TerminateSession } from '../../src/protocols/opcua/terminate/terminate-session.ts'
import { Target, type TerminateTerms } from '../../src/protocols/opcua/terminate/terms.ts'
import type { OpcUaFields } from '../../src/protocols/opcua/terms.ts'
import { TestGateway } from './opcua-gateway.ts'
import type { Holder } from './opcua-pki.ts'

const POLICY = policyByName('Basic256Sha256')
const SIGN_AND_ENCRYPT = 3

export interface Holders {
  gateway: Holder
  server: Holder
  client: Holder
}

const certificateOf = ({ der }: Holder) => {
  const certificate = readCertificate(der)
  if (certificate === null) throw new Error('unreadable')
  return certificate
}

function targetOf(holder: Holder): Target {
  const target = new Target('127.0.0.1:4840')
  target.certificate = certificateOf(holder)
  const server = {
    applicationUri: holder.applicationUri,
    productUri: null,
    name: Uint8Array.of(0),
    type: 0,
    gatewayServerUri: null,
    discoveryProfileUri: null,
    discoveryUrls: [],
  }
  target.endpoints = [
    {
      url: 'opc.tcp://127.0.0.1:4840',
      server,
      certificate: holder.der,
      mode: SIGN_AND_ENCRYPT,
      policyUri: POLICY.uri,
      tokens: [],
      transport: null,
      level: 0,
    },
  ]
  target.namespaces.set(['http://opcfoundation.org/UA/'])
  return target
}

export class Pipe {
  /** Bodies of requests that have reached the server, and of responses that have reached the client. */
  readonly requests: Buffer[] = []
  readonly responses: Buffer[] = []
  /** What the server answers to a request: bodies of chunks. */
  answer: (body: Buffer) => Buffer[] = () => []
  ended = ''
  /** Requests that would be denied, as they were answered. */
  readonly answered: { request: number; refused: boolean }[] = []
  /** Reports: kind and fields. */
  readonly told: (OpcUaFields & { kind: string; detail: string })[] = []
  readonly session: TerminateSession
  readonly terms: TerminateTerms
  private readonly client: Link
  private readonly server: Front
  private readonly clock = { us: 0, ms: 1 }
  private readonly queue: (() => void)[] = []
  private id = 0

  constructor({ gateway, server, client }: Holders, rules: IndexedRule[], shadow: OpcUaShadow | null = null) {
    const termsOf = (own: Holder, clients: Holder[], servers: Holder[]): TerminateTerms =>
      TestGateway.prototype.termsOf.call({ cells: new Float64Array(30_000) } as never, {
        own,
        clients: clients.map(({ der }) => der),
        servers: servers.map(({ der }) => der),
        target: 0,
      })
    this.terms = termsOf(gateway, [client], [server])
    const { clock, queue } = this
    const copy = (bytes: Uint8Array, from: number, to: number): Uint8Array => Uint8Array.from(bytes.subarray(from, to))
    const later = (bytes: Uint8Array, take: (buf: Uint8Array, start: number, end: number) => void): void => {
      queue.push(() => take(bytes, 0, bytes.length))
    }
    this.session = new TerminateSession(
      {
        toTarget: (buf, from, to) => later(copy(buf, from, to), (b, s, e) => this.server.feed(b, s, e)),
        toClient: (buf, from, to) => later(copy(buf, from, to), (b, s, e) => this.client.feed(b, s, e)),
        finish: (why) => {
          this.ended ||= why
        },
        reset: () => {},
        redial: () => false,
        dropTarget: () => {},
        redialTarget: () => {},
        rejected: () => {},
        answeredOpcUa: (request, refused) => void this.answered.push({ request, refused }),
        // What an event would carry is made, so that what makes it is under test as well.
        reportOpcUa: ({ kind, detail, fields }) => void this.told.push({ kind, detail, ...fields() }),
      },
      clock,
      this.terms,
      new PairRules(rules, this.terms.securityModes),
      targetOf(server),
      { store: new SharedSessions(new SharedArrayBuffer(sessionsBytes()), 0), guard: new OpenGuard(0) },
      '127.0.0.1',
      null,
      shadow,
    )
    this.server = new Front({
      terms: termsOf(server, [gateway], []),
      guard: new OpenGuard(0),
      peer: 'gateway',
      toClient: (buf, from, to) => later(copy(buf, from, to), (b, s, e) => this.session.onTargetBytes(b, s, e)),
      ms: () => clock.ms,
      knowsCertificate: () => true,
      onHello: () => this.server.acknowledge({ receiveBuffer: 8192, sendBuffer: 8192, maxMessage: 0, maxChunks: 0 }),
      onOpenRequest: (lifetime) => this.server.grant(lifetime),
      onRequest: (final) => this.served(final),
      onClose: () => {},
      rejectClient: () => {},
      onRefusal: (_status, _reason, why) => {
        this.ended ||= `the server refuses: ${why}`
      },
      onWouldRefuse: () => {},
    })
    this.client = new Link({
      terms: termsOf(client, [], [gateway]),
      target: targetOf(gateway),
      toTarget: (buf, from, to) => later(copy(buf, from, to), (b, s, e) => this.session.onClientBytes(b, s, e)),
      ms: () => clock.ms,
      onAcknowledge: () => this.client.open(POLICY, SIGN_AND_ENCRYPT, 3_600_000),
      onOpen: () => {},
      onResponse: () => {
        const { plain, bodyStart, bodyEnd } = this.client.channel
        this.responses.push(Buffer.from(plain.slice(bodyStart, bodyEnd)))
        return true
      },
      redial: () => {},
      rejectServer: () => {},
      onFailure: (_status, why) => {
        this.ended ||= `the client: ${why}`
      },
    })
    this.client.greet({ receiveBuffer: 8192, sendBuffer: 8192, maxMessage: 0, maxChunks: 0 }, 'opc.tcp://gw:4840')
    this.run()
  }

  private served(final: number): boolean {
    const { channel } = this.server
    const body = Buffer.from(channel.plain.slice(channel.bodyStart, channel.bodyEnd))
    this.requests.push(body)
    if (final !== CHUNK.final) return true
    const chunks = this.answer(body)
    for (const [i, chunk] of chunks.entries()) {
      const flag = i === chunks.length - 1 ? CHUNK.final : CHUNK.intermediate
      const end = channel.seal(MESSAGE.MSG, flag, channel.requestId, chunk, 0, chunk.length)
      const bytes = Uint8Array.from(channel.chunk.subarray(0, end))
      this.queue.push(() => this.session.onTargetBytes(bytes, 0, bytes.length))
    }
    return true
  }

  get open(): boolean {
    return this.ended === '' && this.client.phase === 'open'
  }

  /** Sends a request, each body in a chunk of its own. */
  send(bodies: Buffer[]): void {
    const { channel } = this.client
    this.id++
    for (const [i, body] of bodies.entries()) {
      const flag = i === bodies.length - 1 ? CHUNK.final : CHUNK.intermediate
      const end = channel.seal(MESSAGE.MSG, flag, this.id, body, 0, body.length)
      const bytes = Uint8Array.from(channel.chunk.subarray(0, end))
      this.queue.push(() => this.session.onClientBytes(bytes, 0, bytes.length))
    }
    this.run()
  }

  /** Time in which nobody says anything. */
  pass(ms: number): void {
    for (let left = ms; left > 0; left -= 100) {
      this.clock.ms += 100
      this.clock.us += 100_000
      this.session.onTimer()
    }
    this.run()
  }

  private run(): void {
    for (let next = this.queue.shift(); next !== undefined; next = this.queue.shift()) {
      this.clock.ms++
      next()
    }
  }
}
