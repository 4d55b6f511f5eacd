/** An OPC UA conduit that terminates, as a worker uses it: the gateway's identity, trust lists, and the servers it knows. */
import { createPrivateKey } from 'node:crypto'
import type { PkiData } from '../pki/load.ts'
import { formatAddress } from '../policy/address.ts'
import type { Conduit, OpcUaProtocol } from '../policy/model.ts'
import { readCertificate } from '../protocols/opcua/security/certificate.ts'
import { TrustList } from '../protocols/opcua/security/trust.ts'
import type { OpcUaShadow } from '../protocols/opcua/shadow.ts'
import { TOKEN_TYPE } from '../protocols/opcua/terminate/endpoints.ts'
import { TerminateSession } from '../protocols/opcua/terminate/terminate-session.ts'
import { Target as OpcUaTarget, type TerminateShared, type TerminateTerms } from '../protocols/opcua/terminate/terms.ts'
import type { OpcUaWitness } from '../protocols/opcua/terms.ts'
import type { Clock, RequestLimiter, Session } from '../protocols/session.ts'
import type { CellBases } from '../records/counters.ts'
import type { Beside, PlanContext, Target } from './conduit-plan.ts'
import type { Connection } from './connection.ts'
import { OpcUaConduit } from './opcua-conduit.ts'

/** What a worker keeps for its terminating conduits over reloads. */
export interface TerminateContext extends TerminateShared {
  /** By conduit. */
  pki: ReadonlyMap<string, PkiData>
  /** By `host:port`. */
  targets: Map<string, OpcUaTarget>
}

export class TerminateConduit extends OpcUaConduit {
  private readonly shared: TerminateContext
  private readonly own: Pick<TerminateTerms, 'own' | 'clients' | 'servers'>
  private readonly terminating = new Map<string, TerminateTerms>()

  constructor(conduit: Conduit, protocol: OpcUaProtocol, bases: CellBases, context: PlanContext) {
    super(conduit, protocol, bases, context)
    const pki = context.terminate?.pki.get(conduit.id)
    if (context.terminate === undefined || pki === undefined) throw new Error(`${conduit.id}: no certificates`)
    this.shared = context.terminate
    this.own = identityOf(pki)
  }

  override open(
    host: Connection,
    clock: Clock,
    target: Target,
    client: bigint,
    limiter: RequestLimiter | null,
    shadow: Beside | null,
  ): Session {
    const { shared } = this
    const beside = shadow as OpcUaShadow | null
    const peer = formatAddress(client)
    const rules = this.pair(client, target.address.base)
    const server = this.targetOf(target)
    return new TerminateSession(host, clock, this.termsOf(target), rules, server, shared, peer, limiter, beside)
  }

  override adopt(
    session: Session,
    target: Target,
    client: bigint,
    limiter: RequestLimiter | null,
    shadow: Beside | null,
  ): void {
    const rules = this.pair(client, target.address.base)
    ;(session as TerminateSession).adopt(this.termsOf(target), rules, limiter, shadow as OpcUaShadow | null)
  }

  override watch(session: Session, witness: OpcUaWitness | null): void {
    ;(session as TerminateSession).watch(witness)
  }

  private termsOf(target: Target): TerminateTerms {
    let terms = this.terminating.get(target.name)
    if (terms === undefined) {
      const { userTokens, messageLimits } = this.protocol
      terms = {
        ...this.termsFor(target.name),
        ...this.own,
        userTokens: new Set(userTokens.map((name) => TOKEN_TYPE[name])),
        maxSessions: messageLimits.sessions ?? Number.POSITIVE_INFINITY,
        subscriptionsPerSession: messageLimits.subscriptionsPerSession,
        scope: this.clientTag,
      }
      this.terminating.set(target.name, terms)
    }
    return terms
  }

  private targetOf({ host, port }: Target): OpcUaTarget {
    const authority = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
    let target = this.shared.targets.get(authority)
    if (target === undefined) {
      target = new OpcUaTarget(authority)
      this.shared.targets.set(authority, target)
    }
    return target
  }
}

function identityOf({ own, clients, servers }: PkiData): Pick<TerminateTerms, 'own' | 'clients' | 'servers'> {
  const certificate = readCertificate(own.chain[0])
  if (certificate === null) throw new Error("the gateway's own certificate cannot be read")
  return {
    own: {
      certificate,
      chain: Buffer.concat(own.chain),
      key: createPrivateKey(own.key),
      applicationUri: own.applicationUri,
    },
    clients: new TrustList(clients),
    servers: new TrustList(servers),
  }
}
