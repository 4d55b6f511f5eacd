/** What is known of one connection pair that is inspected: its bytes' state, its secure channel, and its policy. */
import { REASON } from '../../reason.ts'
import type { Clock, RequestLimiter } from '../../session.ts'
import type { ChannelRules, PairRules } from '../channel-rules.ts'
import { AT, u32 } from '../chunk.ts'
import { Exchanges } from '../exchanges.ts'
import { type ChannelFacts, type InspectRules, toInspected } from '../objections.ts'
import { Outstanding } from '../outstanding.ts'
import type { OpcUaSecurityPolicy } from '../security.ts'
import { functionOfRequest, REQUEST } from '../services.ts'
import { SessionContext } from '../session-context.ts'
import type { OpcUaShadow } from '../shadow.ts'
import { Stream } from '../stream.ts'
import { MODE, type OpcUaHost, type OpcUaTerms, VISIBILITY } from '../terms.ts'

/** What comes next on the connection. */
export const PHASE = { hello: 0, acknowledge: 1, open: 2, opening: 3, channel: 4, closed: 5 } as const

export const PUBLISH = functionOfRequest(REQUEST.Publish)

const OUTSTANDING_MOST = 4096

export class InspectState {
  readonly host: OpcUaHost
  readonly clock: Clock
  terms: OpcUaTerms
  rules: InspectRules
  limiter: RequestLimiter | null
  /** null: no policy judges beside. */
  shadow: OpcUaShadow | null

  readonly up = new Stream(true)
  readonly down = new Stream(false)
  phase: number = PHASE.hello
  /** The server has opened the connection. */
  reversed = false
  /** The bytes move on before they are looked at. */
  through: boolean
  /** No OPC UA: what passes is not looked at any more. */
  blind = false
  over = false
  closing = ''
  /** The connection ends as soon as what was allowed has been sent. */
  cutting: { status: number; why: string } | null = null
  /** Behind the present message, which is RHE, the other direction's begin. */
  turning = false
  /** In milliseconds on the worker's clock. */
  phaseSince: number

  endpointUrl = ''
  /** Largest chunks, in bytes: what HEL and ACK say. */
  upMost = 0xffffffff
  downMost = 0xffffffff

  // The secure channel.
  /** Its id. */
  channel = 0
  policy: OpcUaSecurityPolicy | null = null
  certificate = ''
  serverCertificate = ''
  mode: number = MODE.undecided
  /** Bytes of a message's signature. */
  signature = 0
  /** Tokens of a channel in clear: the one in force, and the one before it. */
  token = -1
  formerToken = -1
  /** null: no mode is known yet, so no rule holds. */
  channelRules: ChannelRules | null = null

  /** Of the session that was asked for last, as its client says. */
  sessionName = ''
  userName = ''
  /** Why the channel would be refused, in monitor mode. */
  refused: number = REASON.allow

  /** Of the request at hand, where it would be denied: the index of the first item that is; else -1. */
  doubted = -1
  readonly outstanding = new Outstanding(OUTSTANDING_MOST)
  exchanges: Exchanges | null = null
  context: SessionContext | null = null

  constructor(
    host: OpcUaHost,
    clock: Clock,
    terms: OpcUaTerms,
    rules: InspectRules,
    limiter: RequestLimiter | null,
    shadow: OpcUaShadow | null,
  ) {
    this.host = host
    this.clock = clock
    this.terms = terms
    this.rules = rules
    this.limiter = limiter
    this.shadow = shadow
    this.through = terms.monitor
    this.phaseSince = clock.ms
  }

  /** Nothing is outstanding but what waits for news. */
  get drained(): boolean {
    return this.outstanding.countOthers(PUBLISH) === 0
  }

  /** The rules for the direction that the connection was opened in. */
  get pair(): PairRules {
    return this.reversed ? (this.rules.reverse ?? this.rules.pair) : this.rules.pair
  }

  /** Nothing more is judged. */
  get stopped(): boolean {
    return this.cutting !== null || this.blind
  }

  get facts(): ChannelFacts {
    const { endpointUrl, reversed, policy, mode, certificate, serverCertificate } = this
    return { endpointUrl, reversed, policy, mode, certificate, serverCertificate }
  }

  /** What the policy would do to the channel where it enforces: one of `REASON`. */
  get strictly(): number {
    const { terms, rules } = this
    return terms.monitor ? (toInspected(terms, rules, this.facts)?.reason ?? REASON.allow) : REASON.allow
  }

  /** Notes from here on what rules want remembered. What is under way is settled with what there is. */
  remember(): void {
    if (this.channelRules?.inner !== true && this.shadow?.inner !== true) return
    this.exchanges ??= new Exchanges(null)
    this.context ??= new SessionContext()
  }

  enter(phase: number): void {
    this.phase = phase
    this.phaseSince = this.clock.ms
  }

  isToken(buf: Uint8Array, o: number): boolean {
    const token = u32(buf, o + AT.token)
    return token === this.token || token === this.formerToken
  }

  /** The connection is to end, once what was allowed has been sent. */
  cut(status: number, why: string): void {
    if (this.cutting === null && !this.over) this.cutting = { status, why }
  }

  get visibility(): number {
    if (this.blind) return VISIBILITY.blind
    return this.mode <= MODE.sign ? VISIBILITY.inspected : VISIBILITY.headerOnly
  }
}
