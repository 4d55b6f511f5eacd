/**
 * A terminating session on plain sockets of Node's, without the rest of the gateway: what its host is asked for is noted.
 */
import { createPrivateKey } from 'node:crypto'
import net from 'node:net'
import type { Test } from 'tap'
import { SharedSessions, sessionsBytes } from '../../src/limits/opcua-sessions.ts'
import { type IndexedRule, PairRules } from '../../src/protocols/opcua/channel-rules.ts'
import { readCertificate } from '../../src/protocols/opcua/security/certificate.ts'
import { TrustList } from '../../src/protocols/opcua/security/trust.ts'
import type { OpcUaSecurityMode, OpcUaSecurityPolicy } from '../../src/protocols/opcua/security.ts'
import { FUNCTIONS, SERVICES } from '../../src/protocols/opcua/services.ts'
import { OpenGuard } from '../../src/protocols/opcua/terminate/open-guard.ts'
import { TerminateSession } from '../../src/protocols/opcua/terminate/terminate-session.ts'
import { Target, type TerminateHost, type TerminateTerms } from '../../src/protocols/opcua/terminate/terms.ts'
import { CHANNEL_CELLS, type OpcUaFields, type OpcUaReport } from '../../src/protocols/opcua/terms.ts'
import type { Holder } from './opcua-pki.ts'

export type RuleText = Partial<IndexedRule['terms']>

export const allServices = SERVICES.filter(({ group }) => group !== 'channel' && group !== 'sessionless').map(
  ({ request }) => request,
)

export const ruleOf = (terms: RuleText, index = 0): IndexedRule => ({
  index,
  terms: {
    name: `rule ${index}`,
    action: 'allow',
    services: allServices,
    nodes: null,
    attributes: null,
    values: null,
    methods: null,
    mode: null,
    securityMode: null,
    securityPolicies: null,
    certificates: null,
    ...terms,
  } as IndexedRule['terms'],
})

export interface GatewayOptions {
  own: Holder
  /** Certificates of clients and of servers that are trusted. */
  clients: Uint8Array[]
  servers: Uint8Array[]
  target: number
  rules?: IndexedRule[]
  policies?: OpcUaSecurityPolicy[]
  modes?: OpcUaSecurityMode[]
  terms?: Partial<TerminateTerms>
}

export type Told = Omit<OpcUaReport, 'fields'> & { fields: OpcUaFields }

const CELLS = { requests: 0, responses: FUNCTIONS * 32, bytes: FUNCTIONS * 32 + 32 } as const

/** One gateway with one target; each connection has a session. */
export class TestGateway {
  readonly told: Told[] = []
  readonly ends: string[] = []
  /** Requests that would be denied, as they were answered. */
  readonly answered: { request: number; refused: boolean }[] = []
  readonly rejected: { list: string; der: Uint8Array }[] = []
  readonly sessions = new Set<TerminateSession>()
  readonly clock = { us: 0, ms: 0 }
  readonly cells = new Float64Array(CELLS.bytes + 16 + 300 + CHANNEL_CELLS + 32)
  readonly target: Target
  readonly store = new SharedSessions(new SharedArrayBuffer(sessionsBytes()), 0)
  terms: TerminateTerms
  rules: PairRules
  port = 0
  /** Bytes that went to the server. */
  sent = 0
  private readonly guard: OpenGuard
  private readonly server: net.Server
  private readonly sockets = new Set<net.Socket>()
  private readonly timer: NodeJS.Timeout
  private readonly targetPort: number

  private constructor(options: GatewayOptions, server: net.Server) {
    this.server = server
    this.targetPort = options.target
    this.tick()
    this.guard = new OpenGuard(this.clock.ms)
    this.port = (server.address() as net.AddressInfo).port
    this.target = new Target(`127.0.0.1:${options.target}`)
    this.terms = this.termsOf(options)
    this.rules = new PairRules(options.rules ?? [ruleOf({})], this.terms.securityModes)
    this.timer = setInterval(() => {
      this.tick()
      for (const session of this.sessions) session.onTimer()
    }, 50)
    server.on('connection', (socket) => this.accept(socket))
  }

  termsOf(options: GatewayOptions): TerminateTerms {
    const { own, clients, servers, policies, modes, terms } = options
    const certificate = readCertificate(own.der)
    if (certificate === null) throw new Error('own certificate')
    return {
      monitor: false,
      endpointUrls: null,
      securityPolicies: new Set(policies ?? ['Basic256Sha256', 'Aes128_Sha256_RsaOaep', 'Aes256_Sha256_RsaPss']),
      securityModes: new Set(modes ?? ['Sign', 'SignAndEncrypt']),
      serverCertificates: null,
      messageBytes: 4_194_304,
      chunks: 1024,
      idleMs: 60_000,
      partialFrameMs: 5000,
      responseMs: 5000,
      counters: {
        cells: this.cells,
        requests: CELLS.requests,
        responses: CELLS.responses,
        bytesIn: CELLS.bytes,
        bytesOut: CELLS.bytes + 1,
        pending: CELLS.bytes + 2,
        sessions: CELLS.bytes + 3,
        rules: CELLS.bytes + 16,
        channels: CELLS.bytes + 16 + 300,
        histogram: CELLS.bytes + 16 + 300 + CHANNEL_CELLS,
      },
      gate: new Int32Array(1),
      bounds: Int32Array.of(1000, 1_000_000),
      own: { certificate, chain: own.der, key: createPrivateKey(own.keyPem), applicationUri: own.applicationUri },
      clients: new TrustList({ trusted: clients, issuers: [], revocations: [] }),
      servers: new TrustList({ trusted: servers, issuers: [], revocations: [] }),
      userTokens: new Set([0, 1, 3]),
      maxSessions: 20,
      subscriptionsPerSession: null,
      scope: 1,
      ...terms,
    }
  }

  static async open(t: Test, options: GatewayOptions): Promise<TestGateway> {
    const server = net.createServer({ allowHalfOpen: true, noDelay: true })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const gateway = new TestGateway(options, server)
    t.teardown(() => gateway.stop())
    return gateway
  }

  get url(): string {
    return `opc.tcp://127.0.0.1:${this.port}`
  }

  get gauges() {
    return { pending: this.cells[CELLS.bytes + 2], sessions: this.cells[CELLS.bytes + 3] }
  }

  /** Reports of a kind, by reason and detail. */
  details(kind: OpcUaReport['kind']): string[] {
    return this.told.filter((report) => report.kind === kind).map(({ detail }) => detail)
  }

  private tick(): void {
    const now = performance.now()
    this.clock.ms = now | 0
    this.clock.us = (now * 1000) | 0
  }

  private accept(client: net.Socket): void {
    let target = net.connect({ port: this.targetPort, host: '127.0.0.1', noDelay: true })
    let session: TerminateSession | null = null
    const wire = (socket: net.Socket): void => {
      this.sockets.add(socket)
      socket.on('data', (chunk) => {
        if (socket !== target) return
        this.tick()
        session?.onTargetBytes(chunk, 0, chunk.length)
        // The buffer is the transport's again: what the session keeps must be a copy.
        chunk.fill(0x55)
      })
      socket.on('error', () => {})
      socket.on('close', () => {
        this.sockets.delete(socket)
        if (socket === target) session?.onTargetLost(true)
      })
    }
    const host: TerminateHost = {
      toTarget: (buf, from, to) => {
        this.sent += to - from
        target.write(Buffer.from(buf.slice(from, to)))
      },
      toClient: (buf, from, to) => {
        if (!client.destroyed) client.write(Buffer.from(buf.slice(from, to)))
      },
      finish: (reason) => {
        this.ends.push(reason)
        client.end()
        target.end()
      },
      reset: () => client.resetAndDestroy(),
      redial: () => false,
      dropTarget: () => {},
      redialTarget: () => {
        target.end()
        target = net.connect({ port: this.targetPort, host: '127.0.0.1', noDelay: true })
        wire(target)
      },
      rejected: (list, der) => this.rejected.push({ list, der }),
      answeredOpcUa: (request, refused) => this.answered.push({ request, refused }),
      reportOpcUa: (report) => this.told.push({ ...report, fields: report.fields() }),
    }
    session = new TerminateSession(
      host,
      this.clock,
      this.terms,
      this.rules,
      this.target,
      { store: this.store, guard: this.guard },
      client.remoteAddress ?? '',
      null,
    )
    const mine = session
    this.sessions.add(mine)
    wire(target)
    this.sockets.add(client)
    client.on('data', (chunk) => {
      this.tick()
      mine.onClientBytes(chunk, 0, chunk.length)
      chunk.fill(0x55)
    })
    client.on('end', () => mine.onClientEnd())
    client.on('error', () => {})
    client.on('close', () => {
      this.sockets.delete(client)
      this.sessions.delete(mine)
      mine.dispose()
      target.destroySoon()
    })
  }

  /** Cuts every connection's client side, as a network would. */
  cutClients(): void {
    for (const socket of this.sockets) if (socket.localPort === this.port) socket.resetAndDestroy()
  }

  stop(): void {
    clearInterval(this.timer)
    for (const socket of this.sockets) socket.destroy()
    this.server.close()
  }
}
