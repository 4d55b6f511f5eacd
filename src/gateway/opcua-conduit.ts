/** An OPC UA conduit as a worker uses it: rules compiled when a pair of addresses is first seen. */
import { blockHolds } from '../policy/address.ts'
import type { Conduit, OpcUaProtocol } from '../policy/model.ts'
import { PairRules } from '../protocols/opcua/channel-rules.ts'
import { InspectSession } from '../protocols/opcua/inspect/inspect-session.ts'
import type { InspectRules } from '../protocols/opcua/objections.ts'
import type { OpcUaShadow, ShadowTerms } from '../protocols/opcua/shadow.ts'
import type { OpcUaTerms, OpcUaWitness } from '../protocols/opcua/terms.ts'
import { type Clock, OPEN_GATE, type RequestLimiter, type Session } from '../protocols/session.ts'
import { type CellBases, RESPONSE_BOUNDS_US } from '../records/counters.ts'
import { type Beside, ConduitPlan, type PlanContext, rulesFor, type Target } from './conduit-plan.ts'
import type { Connection } from './connection.ts'

/** Pairs of addresses whose rules are remembered: bounded, since monitor mode admits any client. */
const MAX_PAIRS = 4096

export class OpcUaConduit extends ConduitPlan {
  readonly kind: string
  readonly protocol: OpcUaProtocol
  /** What all listeners of the conduit share; sessions get theirs from `termsFor`. */
  readonly terms: OpcUaTerms
  private readonly pairs = new Map<string, PairRules>()
  private readonly byTarget = new Map<string, OpcUaTerms>()

  constructor(conduit: Conduit, protocol: OpcUaProtocol, bases: CellBases, context: PlanContext) {
    super(conduit, protocol, bases, context)
    this.protocol = protocol
    this.kind = `opcua ${protocol.handling}`
    const { timeouts, messageLimits } = protocol
    this.terms = {
      monitor: this.monitor,
      endpointUrls: setOf(protocol.endpointUrls),
      securityPolicies: new Set(protocol.securityPolicies),
      securityModes: new Set(protocol.securityModes),
      serverCertificates: setOf(protocol.serverCertificates),
      messageBytes: messageLimits.messageBytes,
      chunks: messageLimits.chunks,
      idleMs: timeouts.idleMs,
      partialFrameMs: timeouts.partialFrameMs,
      responseMs: timeouts.responseMs,
      counters: { cells: context.cells, ...bases, histogram: -1 },
      gate: context.gate ?? OPEN_GATE,
      bounds: Int32Array.from(RESPONSE_BOUNDS_US),
    }
  }

  knows(client: bigint, target: Target): boolean {
    const { pair, reverse } = this.rules(client, target)
    return pair.allows || reverse !== null
  }

  open(
    host: Connection,
    clock: Clock,
    target: Target,
    client: bigint,
    limiter: RequestLimiter | null,
    shadow: Beside | null,
  ): Session {
    const rules = this.rules(client, target)
    return new InspectSession(host, clock, this.termsFor(target.name), rules, limiter, shadow as OpcUaShadow | null)
  }

  adopt(session: Session, target: Target, client: bigint, limiter: RequestLimiter | null, shadow: Beside | null): void {
    const rules = this.rules(client, target)
    ;(session as InspectSession).adopt(this.termsFor(target.name), rules, limiter, shadow as OpcUaShadow | null)
  }

  /** What it would judge a connection by, as a shadow policy's. */
  candidate(client: bigint, target: Target): ShadowTerms {
    const { handling, userTokens } = this.protocol
    const rules = this.rules(client, target)
    return { terms: this.terms, rules, userTokens: handling === 'terminate' ? new Set(userTokens) : null }
  }

  override watch(session: Session, witness: OpcUaWitness | null): void {
    ;(session as InspectSession).witness = witness
  }

  /** The rules for a client that connects to the target, and for a server that does so by reverse connect. */
  private rules(client: bigint, target: Target): InspectRules {
    const { base } = target.address
    const reversible = this.protocol.reverseConnect.some((block) => blockHolds(block, base))
    const reverse = reversible ? this.pair(base, client) : null
    return { pair: this.pair(client, base), reverse: reverse?.allows === true ? reverse : null }
  }

  protected pair(client: bigint, server: bigint): PairRules {
    const indexes = rulesFor(this.protocol.rules, client, server)
    const key = indexes.join(',')
    let pair = this.pairs.get(key)
    if (pair === undefined) {
      const rules = indexes.map((index) => ({ index, terms: this.protocol.rules[index] }))
      pair = new PairRules(rules, this.terms.securityModes)
      if (this.pairs.size < MAX_PAIRS) this.pairs.set(key, pair)
    }
    return pair
  }

  protected termsFor(target: string): OpcUaTerms {
    let terms = this.byTarget.get(target)
    if (terms === undefined) {
      terms = { ...this.terms, counters: { ...this.terms.counters, histogram: this.histogramOf(target) } }
      this.byTarget.set(target, terms)
    }
    return terms
  }
}

const setOf = (list: readonly string[] | null): ReadonlySet<string> | null => (list === null ? null : new Set(list))
