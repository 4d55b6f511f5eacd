/**
 * One policy, applied to captured OPC UA connections: the very session that inspects inline, in monitor mode. What it
 * reports as would-deny is what enforce mode would deny. It follows a channel from its opening: of a connection whose
 * beginning the capture lacks, and of what comes behind a gap, nothing is said.
 */
import { blockHolds } from '../policy/address.ts'
import type { AddressBlock, Conduit, OpcUaProtocol, Policy } from '../policy/model.ts'
import { PairRules } from '../protocols/opcua/channel-rules.ts'
import { InspectSession } from '../protocols/opcua/inspect/inspect-session.ts'
import { OPCUA_SECURITY_MODES, OPCUA_SECURITY_POLICIES } from '../protocols/opcua/security.ts'
import { FUNCTIONS } from '../protocols/opcua/services.ts'
import { CHANNEL_CELLS, type OpcUaHost, type OpcUaReport, type OpcUaTerms } from '../protocols/opcua/terms.ts'
import { WOULD_DENY } from '../protocols/reason.ts'
import { type Clock, OPEN_GATE } from '../protocols/session.ts'
import { isTarget, Listeners, targetOf } from './listeners.ts'
import type { Flow } from './reassembly.ts'

const VERDICTS = 2 * WOULD_DENY

interface Line {
  conduit: Conduit
  protocol: OpcUaProtocol
  terms: OpcUaTerms
  pairs: Map<string, PairRules>
}

type TermsOf = Pick<
  OpcUaProtocol,
  'rules' | 'timeouts' | 'messageLimits' | 'endpointUrls' | 'securityPolicies' | 'securityModes' | 'serverCertificates'
>

const NOWHERE: TermsOf = {
  rules: [],
  timeouts: { connectMs: 0, idleMs: 0, partialFrameMs: 0, responseMs: 0 },
  messageLimits: { messageBytes: 1 << 30, chunks: 1 << 20, sessions: null, subscriptionsPerSession: null },
  endpointUrls: null,
  securityPolicies: [...OPCUA_SECURITY_POLICIES],
  securityModes: [...OPCUA_SECURITY_MODES],
  serverCertificates: null,
}

/** No rule for a client and a server. */
const NOBODY = new PairRules([], new Set(OPCUA_SECURITY_MODES))

/** What a judge keeps with a connection. */
export class OpcUaCase {
  readonly line: Line | null
  /** A rule knows the pair. */
  readonly known: boolean
  /** null: nothing is said of it any more. */
  session: InspectSession | null = null

  constructor(line: Line | null, known: boolean) {
    this.line = line
    this.known = known
  }
}

/** Counts of requests, by what would become of them. */
export interface OpcUaCounts {
  requests: number
  wouldDeny: number
  responses: number
  responsesWouldDeny: number
}

export class OpcUaJudge {
  private readonly lines: Line[] = []
  /** For connections that no conduit carries: their requests are read, and none is allowed. */
  private readonly nowhere: OpcUaTerms
  private readonly clock: Clock = { us: 0, ms: 0 }
  private readonly policy: Policy
  private readonly listeners: Listeners
  private readonly cells = new Float64Array(2 * FUNCTIONS * VERDICTS + CHANNEL_CELLS + 4096)
  private readonly onReport: (report: OpcUaReport, one: OpcUaCase, flow: Flow, us: number) => void
  private us = 0

  constructor(policy: Policy, onReport: (report: OpcUaReport, one: OpcUaCase, flow: Flow, us: number) => void) {
    this.policy = policy
    this.listeners = new Listeners([policy])
    this.onReport = onReport
    for (const conduit of policy.conduits) {
      for (const protocol of conduit.protocols) {
        if (protocol.kind === 'opcua')
          this.lines.push({ conduit, protocol, terms: this.terms(protocol), pairs: new Map() })
      }
    }
    this.nowhere = this.terms(NOWHERE)
  }

  private terms(protocol: TermsOf): OpcUaTerms {
    const { timeouts, messageLimits } = protocol
    const requests = 0
    const responses = FUNCTIONS * VERDICTS
    const rest = responses + VERDICTS
    const set = (list: readonly string[] | null): ReadonlySet<string> | null => (list === null ? null : new Set(list))
    return {
      monitor: true,
      endpointUrls: set(protocol.endpointUrls),
      securityPolicies: new Set(protocol.securityPolicies),
      securityModes: new Set(protocol.securityModes),
      serverCertificates: set(protocol.serverCertificates),
      messageBytes: messageLimits.messageBytes,
      chunks: messageLimits.chunks,
      idleMs: timeouts.idleMs,
      partialFrameMs: timeouts.partialFrameMs,
      responseMs: timeouts.responseMs,
      counters: {
        cells: this.cells,
        requests,
        responses,
        bytesIn: rest,
        bytesOut: rest + 1,
        pending: rest + 2,
        sessions: rest + 3,
        histogram: rest + 10,
        channels: rest + 100,
        // A conduit may have any number of rules: what counts them goes where nobody reads, and no further.
        rules: rest + 100 + CHANNEL_CELLS,
      },
      gate: OPEN_GATE,
      bounds: new Int32Array(0),
    }
  }

  open(flow: Flow): OpcUaCase {
    const reversed = this.reversed(flow)
    const [line, pair] = reversed === null ? this.find(flow) : [reversed.line, NOBODY]
    const reverse = reversed?.pair ?? null
    const one = new OpcUaCase(line, pair.allows || reverse !== null)
    if (!flow.handshake) return one
    const nothing = (): void => {}
    const host: OpcUaHost = {
      toTarget: nothing,
      toClient: nothing,
      finish: nothing,
      reset: nothing,
      dropTarget: nothing,
      redial: () => true,
      reportOpcUa: (report) => this.onReport(report, one, flow, this.us),
      answeredOpcUa: nothing,
    }
    one.session = new InspectSession(host, this.clock, line?.terms ?? this.nowhere, { pair, reverse }, null)
    return one
  }

  bytes(one: OpcUaCase, fromClient: boolean, buf: Uint8Array, from: number, to: number, us: number): void {
    this.us = us
    this.clock.us = us | 0
    this.clock.ms = (us / 1000) | 0
    if (one.session === null) return
    if (fromClient) one.session.onClientBytes(buf, from, to)
    else one.session.onTargetBytes(buf, from, to)
  }

  /** What comes now cannot be judged. @returns whether it could until now */
  lose(one: OpcUaCase): boolean {
    const { session } = one
    session?.dispose()
    one.session = null
    return session !== null
  }

  counts(): OpcUaCounts {
    const sum = (from: number, to: number, would: boolean): number => {
      let all = 0
      for (let i = from; i < to; i++) {
        const cell = i % VERDICTS
        if (!would || cell !== 0) all += this.cells[i]
      }
      return all
    }
    const requests = FUNCTIONS * VERDICTS
    return {
      requests: sum(0, requests, false),
      wouldDeny: sum(0, requests, true),
      responses: sum(requests, requests + VERDICTS, false),
      responsesWouldDeny: sum(requests, requests + VERDICTS, true),
    }
  }

  /** What rules say of a connection that a server opens: to a client to which a conduit lets it, where no rule is for the other way. */
  private reversed(flow: Flow): { line: Line; pair: PairRules } | null {
    const { clientAddress, targetAddress } = flow
    for (const line of this.lines) {
      if (!holds(line.protocol.reverseConnect, targetAddress) || !this.leadsTo(line, flow)) continue
      const pair = this.pair(line, targetAddress, clientAddress)
      if (pair !== null && this.pair(line, clientAddress, targetAddress) === null) return { line, pair }
    }
    return null
  }

  private find(flow: Flow): [Line | null, PairRules] {
    const none = (line: Line | null) =>
      [line, new PairRules([], new Set(line?.protocol.securityModes ?? OPCUA_SECURITY_MODES))] as [
        Line | null,
        PairRules,
      ]
    const listener = flow.dialled === null ? null : this.listeners.at('opcua', flow.dialled)
    if (listener !== null) {
      const line = this.lines.find(({ conduit }) => conduit.id === listener.conduit) ?? null
      const pair = line === null ? null : this.pair(line, flow.clientAddress, targetOf(listener).address)
      return pair === null ? none(line) : [line, pair]
    }
    const open = this.lines.filter((line) => this.leadsTo(line, flow))
    for (const line of open) {
      const pair = this.pair(line, flow.clientAddress, flow.targetAddress)
      if (pair !== null) return [line, pair]
    }
    const near = open.find(({ conduit }) => {
      const zones = this.policy.zones.filter((zone) => conduit.connects.includes(zone.id))
      const within = (address: bigint): boolean =>
        zones.some(({ networks, assets }) => holds([...networks, ...assets.map((asset) => asset.address)], address))
      return within(flow.clientAddress) && within(flow.targetAddress)
    })
    return none(near ?? null)
  }

  /** What the rules that know a pair say; null where none allows it anything. */
  private pair(line: Line, client: bigint, target: bigint): PairRules | null {
    const { rules } = line.protocol
    const indexes = [...rules.keys()].filter((i) => holds(rules[i].from, client) && holds(rules[i].to, target))
    if (!indexes.some((i) => rules[i].action === 'allow')) return null
    const key = indexes.join(',')
    let pair = line.pairs.get(key)
    if (pair === undefined) {
      pair = new PairRules(
        indexes.map((index) => ({ index, terms: rules[index] })),
        line.terms.securityModes,
      )
      line.pairs.set(key, pair)
    }
    return pair
  }

  /** The port is the conduit's, or that of one of its listeners' targets. */
  private leadsTo({ conduit, protocol }: Line, flow: Flow): boolean {
    const { targetAddress: address, targetPort: port } = flow
    return protocol.port === port || isTarget(this.policy, conduit.id, { address, port })
  }
}

const holds = (blocks: readonly AddressBlock[], address: bigint): boolean =>
  blocks.some((block) => blockHolds(block, address))
