/** What a terminating session is given: the policy's terms, what is known of its target, and what it asks of its host. */
import { createHash, type KeyObject } from 'node:crypto'
import { Namespaces } from '../namespaces.ts'
import type { Certificate } from '../security/certificate.ts'
import type { TrustList } from '../security/trust.ts'
import { type SessionContext, SubscriptionOwners } from '../session-context.ts'
import type { OpcUaHost, OpcUaTerms } from '../terms.ts'
import type { Endpoint } from './endpoints.ts'
import type { OpenGuard } from './open-guard.ts'
import type { SessionStore } from './session-store.ts'

/** The gateway's own application instance. */
export interface Identity {
  /** The leaf. */
  certificate: Certificate
  /** DER, the leaf first: what is sent. */
  chain: Uint8Array
  key: KeyObject
  applicationUri: string
}

export interface TerminateTerms extends OpcUaTerms {
  own: Identity
  clients: TrustList
  servers: TrustList
  /** UserTokenType numbers. */
  userTokens: ReadonlySet<number>
  /** Sessions of the conduit; Infinity: any number. */
  maxSessions: number
  subscriptionsPerSession: number | null
  /** Of the conduit in the session store; not 0. */
  scope: number
}

/** One server, as all connections of a worker know it. */
export class Target {
  /** `host:port` that it is dialled by. */
  readonly authority: string
  /** Trusted when it was read; judged again with each channel. */
  certificate: Certificate | null = null
  /** Certificates that came with it. */
  chain: readonly Certificate[] = []
  endpoints: readonly Endpoint[] | null = null
  readonly namespaces = new Namespaces()
  readonly owners = new SubscriptionOwners()
  /** What the rules remember of each session, by the key of its token. */
  readonly contexts = new Map<string, SessionContext>()

  constructor(authority: string) {
    this.authority = authority
  }

  /** What stands for an authentication token of this server in the session store. */
  keyOf(token: Uint8Array): Buffer {
    return createHash('sha256').update(this.authority).update('\0').update(token).digest()
  }

  remember(key: string, context: SessionContext): void {
    this.contexts.delete(key)
    if (this.contexts.size >= MAX_CONTEXTS) {
      for (const oldest of this.contexts.keys()) {
        this.contexts.delete(oldest)
        break
      }
    }
    this.contexts.set(key, context)
  }
}

const MAX_CONTEXTS = 4096

export interface TerminateHost extends OpcUaHost {
  /** Closes the connection to the target, of which nothing more is wanted, and dials anew. */
  redialTarget(): void
  /** A peer's certificate was not trusted: for the folder of rejected ones. */
  rejected(list: 'clients' | 'servers', der: Uint8Array): void
}

/** What connections of a worker share beside terms and target. */
export interface TerminateShared {
  store: SessionStore
  guard: OpenGuard
}
