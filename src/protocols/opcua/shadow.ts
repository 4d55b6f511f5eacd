/**
 * A second policy beside the one in force, on one connection of OPC UA: what it would say of the secure channel and of each
 * request, item by item, told where the two differ. It answers nothing and remembers nothing of its own: aliases,
 * subscriptions and namespaces are the session's, for they are what is so, and not what is allowed.
 *
 * The way of a request: `judge` before anything is made of it, then `settle` with what the policy in force says.
 */
import { comparedCell, REASON, WOULD_DENY } from '../reason.ts'
import type { ChannelRules } from './channel-rules.ts'
import { answersByItem, Denials, isOfItem, type RuleTable, VERDICT } from './decide.ts'
import { describeActivateSession, describeDenied, describeItems, describeRequest } from './describe.ts'
import { type ChannelFacts, type InspectRules, type Objection, toInspected, toTerminated } from './objections.ts'
import { bodyFaultText, RequestWalker } from './requests.ts'
import { OPCUA_SECURITY_MODES } from './security.ts'
import { functionOfRequest, REQUEST } from './services.ts'
import type { Aliases, SessionContext } from './session-context.ts'
import { MODE, noItems, type OpcUaFields, type OpcUaItems, type OpcUaTerms } from './terms.ts'

/** The candidate, for one pair of addresses. */
export interface ShadowTerms {
  terms: Pick<
    OpcUaTerms,
    'endpointUrls' | 'securityPolicies' | 'securityModes' | 'serverCertificates' | 'messageBytes' | 'chunks'
  >
  rules: InspectRules
  /** Names of user identity tokens that it takes, where it terminates; null: it inspects. */
  userTokens: ReadonlySet<string> | null
}

/** One difference between the two. */
export interface Difference {
  /** It passes, and would be denied; else the other way round. */
  denied: boolean
  /** One of `REASON`: the candidate's, or the one in force. */
  reason: number
  /** Index of the candidate's rule; -1: none. */
  rule: number
  /** Index of the function. */
  fn: number
  detail: string
  /** Called where the event is told, which is not each time. */
  fields: () => OpcUaFields
  /** The items that differ, at most so many; called before `tell` returns, or not at all. */
  items: (most: number) => OpcUaItems
}

/** What a session knows of the request at hand, and of its channel. */
export interface FieldSource {
  shadowFields(): OpcUaFields
}

/** The candidate's verdict cannot be known. */
const UNKNOWN = -3

/** The function that differences of channels are told as. */
export const OPEN = functionOfRequest(REQUEST.OpenSecureChannel)
const NO_FIELDS: FieldSource = { shadowFields: () => ({}) }

export abstract class OpcUaShadow {
  /** Its rules reach into messages, so that what answers bring must be known. */
  inner = false
  private readonly candidate: ShadowTerms | null
  /** Why there is no candidate. */
  private readonly absence: string
  private facts: ChannelFacts | null = null
  /** Both policies have been asked about the channel. */
  private compared = false
  /** What the policy in force would do to the channel where it enforces. */
  private inForce: number = REASON.allow
  private objection: Objection | null = null
  private rules: ChannelRules | null = null

  // The request at hand.
  private typeId = 0
  private buf: Uint8Array = new Uint8Array(0)
  private at = 0
  private end = 0
  private aliases: Aliases | null = null
  private verdict: number = REASON.allow
  private rule = -1
  private token = ''
  /** It is larger than one of the two allows, and that was told. */
  private oversized = false
  private readonly walker = new RequestWalker()
  private readonly onlyHere = new Denials()
  private readonly onlyThere = new Denials()
  private readonly all = new Denials()

  /** @param candidate or why it has nothing for this connection, so that it denies all */
  protected constructor(candidate: ShadowTerms | string) {
    this.candidate = typeof candidate === 'string' ? null : candidate
    this.absence = typeof candidate === 'string' ? candidate : ''
  }

  /** @param cell 0: alike; a reason: would be denied for it; `WOULD_DENY` + a reason in force: would be allowed */
  protected abstract count(cell: number): void
  protected abstract tell(difference: Difference): void
  /** Counts a request by the candidate's own rates. @returns whether it is within them */
  protected abstract within(): boolean
  /** What is carried cannot be compared. */
  protected abstract blind(detail: string, fields: () => OpcUaFields): void

  // ------------------------------------------------------------------------------------------------------- channel

  /** The policy in force has refused the channel, of which no more will be known. */
  refused(facts: ChannelFacts, reason: number, source = NO_FIELDS): void {
    this.compare(facts, reason, source, true)
  }

  /**
   * The channel is open, and all is known of it.
   * @param reason why the policy in force would refuse it if it did not monitor
   * @param anew whether it has been counted before, by another shadow policy
   */
  opened(facts: ChannelFacts, reason: number, source = NO_FIELDS, anew = false): void {
    this.compare(facts, reason, source, !anew)
    // A security policy that Headgate does not know is refused whatever a policy says.
    this.compared = facts.policy !== null
  }

  private compare(facts: ChannelFacts, reason: number, source: FieldSource, counts: boolean): void {
    const { candidate } = this
    this.facts = facts
    this.inForce = reason
    this.objection = this.object(facts)
    this.rules = null
    this.inner = false
    if (candidate !== null && this.objection === null && facts.policy !== null && facts.mode !== MODE.undecided) {
      const pair = facts.reversed ? candidate.rules.reverse : candidate.rules.pair
      const { policy, certificate } = facts
      this.rules = pair?.forChannel({ policy, mode: OPCUA_SECURITY_MODES[facts.mode], certificate }) ?? null
      this.inner = this.rules?.inner === true || candidate.userTokens !== null
    }
    if (facts.policy === null && reason === REASON.allow) return
    const here = this.objection?.reason ?? REASON.allow
    const cell = comparedCell(reason, here)
    if (counts) this.count(cell)
    if (cell === 0) return
    const denied = cell < WOULD_DENY
    const partly = facts.mode === MODE.undecided ? 'as far as it was seen' : ''
    this.tell({
      denied,
      reason: denied ? here : reason,
      rule: -1,
      fn: OPEN,
      detail: denied ? (this.objection?.detail ?? '') : partly,
      fields: () => source.shadowFields(),
      items: noItems,
    })
  }

  private object(facts: ChannelFacts): Objection | null {
    const { candidate, absence } = this
    if (candidate === null) return { reason: REASON.pair, detail: absence, status: 0, downgrade: '' }
    const { terms, rules, userTokens } = candidate
    return userTokens === null ? toInspected(terms, rules, facts) : toTerminated(terms, rules, facts)
  }

  // ------------------------------------------------------------------------------------------------------ requests

  /** Whether a request must be whole to be judged. */
  needsBody(typeId: number): boolean {
    const { rules } = this
    if (!this.compared || rules === null) return false
    if (typeId === REQUEST.ActivateSession && this.candidate?.userTokens != null) return true
    return rules.table.service(typeId) === VERDICT.body
  }

  /**
   * Judges a request, of which `buf[at…end)` is at hand from the TypeId on.
   * @param whole whether that is all of its body
   * @param context null: nothing is known of its session
   */
  judge(
    typeId: number,
    buf: Uint8Array,
    at: number,
    end: number,
    whole: boolean,
    context: SessionContext | null,
  ): void {
    this.typeId = typeId
    this.buf = buf
    this.at = at
    this.end = end
    this.aliases = context?.aliases ?? null
    this.rule = -1
    this.verdict = this.compared ? this.decide(typeId, buf, at, end, whole, context) : UNKNOWN
  }

  private decide(
    typeId: number,
    buf: Uint8Array,
    at: number,
    end: number,
    whole: boolean,
    context: SessionContext | null,
  ): number {
    const { rules, objection } = this
    if (objection !== null || rules === null) return objection?.reason ?? UNKNOWN
    const { table } = rules
    let verdict = table.service(typeId)
    if (verdict === VERDICT.body) {
      if (!whole || context === null) return UNKNOWN
      verdict = table.decide(buf, at, end, context)
    }
    this.rule = table.rule
    if (verdict === REASON.service && rules.elsewhere(typeId)) return REASON.security
    if (verdict !== REASON.allow && verdict !== VERDICT.partly) return verdict
    if (typeId === REQUEST.ActivateSession && whole && !this.takesUser(buf, at, end)) return REASON.security
    if (this.answers && !this.within()) return REASON.rate
    // What cannot be answered cannot be denied in part.
    return verdict === VERDICT.partly && !this.answers ? table.denials.reason(0) : verdict
  }

  /** Whether the candidate could answer on this channel: else requests over a rate wait. */
  private get answers(): boolean {
    return this.candidate?.userTokens != null || this.facts?.mode === MODE.none
  }

  private takesUser(buf: Uint8Array, at: number, end: number): boolean {
    const taken = this.candidate?.userTokens
    if (taken == null) return true
    const identity = describeActivateSession(buf, at, end)
    this.token = identity?.token ?? ''
    // Nobody but the user can sign with a user certificate, so that no gateway that terminates takes one.
    return identity === null || (identity.token !== 'X509' && taken.has(identity.token))
  }

  /**
   * What the policy in force does with the request that was judged, or would do where it enforces.
   * @param verdict a reason, or `VERDICT.partly`
   * @param denials with `VERDICT.partly`, or where all items are denied
   */
  settle(verdict: number, denials: Denials, source: FieldSource): void {
    if (!this.compared) return
    const { inForce, verdict: here } = this
    const there = inForce === REASON.allow ? verdict : inForce
    if (here === UNKNOWN) {
      this.blind('the request was denied before all of it had come', () => this.fields(source, null))
      return
    }
    if (here !== VERDICT.partly && there !== VERDICT.partly) {
      this.settleWhole(here, there, denials, source)
      return
    }
    this.settleItems(here, there, denials, source)
  }

  private settleWhole(here: number, there: number, denials: Denials, source: FieldSource): void {
    const cell = comparedCell(there, here)
    this.count(cell)
    if (cell === 0) return
    // Of a channel that one of the two refuses, the channel's own event has told; a pair may want rules for its requests.
    const refusal = this.inForce !== REASON.allow ? this.inForce : (this.objection?.reason ?? REASON.allow)
    if (refusal !== REASON.allow && refusal !== REASON.pair) return
    const own = this.rules?.table.denials ?? null
    if (cell < WOULD_DENY) this.differ(true, here, this.rule, isOfItem(here) ? own : null, source)
    else this.differ(false, there, this.rule, isOfItem(there) ? denials : null, source)
  }

  /** One of the two denies some items: a difference in one item is a difference. */
  private settleItems(here: number, there: number, denials: Denials, source: FieldSource): void {
    const { onlyHere, onlyThere } = this
    const table = this.rules?.table as RuleTable
    const own = this.deniedIn(here, table.denials, this.rule)
    minus(onlyHere, own, there, denials)
    // `deniedIn` has one list for all items, and at most one of the two denies all.
    minus(onlyThere, this.deniedIn(there, denials, -1), here, table.denials)
    if (onlyHere.count === 0 && onlyThere.count === 0) this.count(0)
    if (onlyHere.count > 0) {
      this.count(onlyHere.reason(0))
      this.differ(true, onlyHere.reason(0), onlyHere.rule(0), onlyHere, source)
    }
    if (onlyThere.count > 0) {
      this.count(WOULD_DENY + onlyThere.reason(0))
      // Which of the candidate's rules has an item that it allows is not known, where it denies others.
      const rule = here === VERDICT.partly ? -1 : this.rule
      this.differ(false, onlyThere.reason(0), rule, onlyThere, source)
    }
  }

  /** The denied items by a verdict: all of them, where it denies the whole. */
  private deniedIn(verdict: number, denials: Denials, rule: number): Denials {
    const { all, walker } = this
    if (verdict === VERDICT.partly) return denials
    all.clear()
    if (verdict === REASON.allow) return all
    if (!walker.open(this.buf, this.at, this.end)) return all
    const known = isOfItem(verdict) && denials.count === walker.count && answersByItem(this.typeId)
    if (known) return denials
    while (walker.next()) all.add(walker.index, walker.itemAt, walker.itemEnd, verdict, rule)
    return all
  }

  private differ(denied: boolean, reason: number, rule: number, differing: Denials | null, source: FieldSource): void {
    const fn = functionOfRequest(Math.max(0, this.typeId))
    const items = (most: number): OpcUaItems => {
      const { buf, at, end, aliases } = this
      return describeItems(fn, buf, at, end, differing, reason, most, aliases)
    }
    const detail = denied ? this.explain(reason, rule) : ''
    this.tell({ denied, reason, rule, fn, detail, fields: () => this.fields(source, differing), items })
  }

  private fields(source: FieldSource, differing: Denials | null): OpcUaFields {
    const { buf, at, end, aliases } = this
    const told =
      differing === null ? describeRequest(buf, at, end, -1, aliases) : describeDenied(buf, at, end, differing, aliases)
    return { ...told, ...source.shadowFields() }
  }

  private explain(reason: number, rule: number): string {
    if (this.objection !== null) return this.objection.detail
    if (reason === REASON.rate) return 'over a limit of requests of the shadow policy'
    const { rules, typeId } = this
    if (rules === null) return ''
    if (reason === REASON.malformed) return bodyFaultText(rules.table.fault)
    if (reason === REASON.security && typeId === REQUEST.ActivateSession && this.token !== '') {
      return `user identity token ${this.token}`
    }
    if (reason === REASON.security) return 'allowed on a channel of other security or with another certificate'
    return rules.table.explain(reason, rule, typeId)
  }

  // -------------------------------------------------------------------------------------------------- what is hidden

  /** A request that encryption hides, and that passes. */
  hidden(fn: number, source: FieldSource): void {
    if (!this.compared) return
    const { candidate, inForce, objection } = this
    if (candidate !== null && objection === null && candidate.userTokens !== null) {
      const detail = 'the shadow policy terminates the channel, and encryption hides its requests'
      this.blind(detail, () => source.shadowFields())
      return
    }
    const here = objection?.reason ?? REASON.allow
    const cell = comparedCell(inForce, here)
    this.count(cell)
    if (cell === 0 || here !== REASON.pair) return
    const detail = objection?.detail ?? ''
    const fields = (): OpcUaFields => source.shadowFields()
    this.tell({ denied: true, reason: here, rule: -1, fn, detail, fields, items: noItems })
  }

  /**
   * Another chunk of a message.
   * @param chunks, @param bytes of the message up to here
   * @param fits whether it is within the limits of the policy in force
   */
  sized(chunks: number, bytes: number, fits: boolean, fn: number, source: FieldSource): void {
    if (chunks === 1) this.oversized = false
    const { candidate, objection } = this
    if (this.oversized || !this.compared || candidate === null || objection !== null) return
    const fitsHere = chunks <= candidate.terms.chunks && bytes <= candidate.terms.messageBytes
    if (fitsHere && fits) return
    this.oversized = true
    if (fitsHere === fits || this.inForce !== REASON.allow) return
    const { messageBytes, chunks: most } = candidate.terms
    const reason = candidate.userTokens === null ? REASON.rate : REASON.malformed
    this.count(fits ? reason : WOULD_DENY + reason)
    const detail = fits ? `a message of more than ${messageBytes} bytes or ${most} chunks` : 'the size of the message'
    const fields = (): OpcUaFields => ({ ...source.shadowFields(), length: bytes })
    this.tell({ denied: fits, reason, rule: -1, fn, detail, fields, items: noItems })
  }
}

/** Puts into `rest` the items of `some` that a verdict with its denials does not deny. */
function minus(rest: Denials, some: Denials, verdict: number, denials: Denials): void {
  rest.clear()
  if (verdict !== REASON.allow && verdict !== VERDICT.partly) return
  let other = 0
  for (let n = 0; n < some.count; n++) {
    const index = some.index(n)
    if (verdict === VERDICT.partly) {
      while (other < denials.count && denials.index(other) < index) other++
      if (other < denials.count && denials.index(other) === index) continue
    }
    rest.add(index, some.from(n), some.to(n), some.reason(n), some.rule(n))
  }
}
