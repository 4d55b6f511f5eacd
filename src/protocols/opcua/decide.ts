/**
 * The decision on one OPC UA request: compiled tables for the rules of one pair of addresses, as far as they hold for
 * the channel (its security mode, policy and certificate).
 *
 * By service first: one look-up, and the end of it where no rule for the service says more. Then item by item of the
 * request's list: node, attribute, method, value. An item is allowed when one rule allows all of it and no deny rule
 * has it; an item that is not allowed is denied alone where the service answers each item by itself.
 */
import { REASON } from '../reason.ts'
import { attributeName } from './attributes.ts'
import { Cursor } from './binary.ts'
import { NodeSet, type NodeTerms } from './node-id.ts'
import { hasNodes, RequestWalker } from './requests.ts'
import {
  FUNCTIONS,
  functionOfRequest,
  OPCUA_SERVICE_GROUPS,
  REQUEST,
  SERVICES,
  serviceOf,
  servicesIn,
} from './services.ts'
import type { SessionContext } from './session-context.ts'
import { valuesKeep } from './values.ts'

/** The terms of a rule that a decision needs; the checked policy's rule has this shape. */
export interface RuleTerms {
  readonly name: string
  readonly action: 'allow' | 'deny'
  /** Type ids of requests. */
  readonly services: readonly number[]
  readonly nodes: readonly NodePattern[] | null
  /** Attribute ids. */
  readonly attributes: readonly number[] | null
  readonly values:
    | readonly { readonly node: NodePattern; readonly min: number | null; readonly max: number | null }[]
    | null
  /** Methods, by themselves or on an object; with them, `nodes` does not matter to Call. */
  readonly methods: readonly MethodTerms[] | null
  readonly mode: 'monitor' | null
}

export interface NodePattern extends NodeTerms {
  readonly text: string
}

export interface MethodTerms {
  readonly text: string
  readonly object: NodePattern | null
  readonly method: NodePattern
}

/** What `service` and `decide` say beside the reasons. */
export const VERDICT = {
  /** `service`: the whole body must be seen. */
  body: -1,
  /** `decide`: some items are denied, see `denials`; the others are allowed. */
  partly: -2,
} as const

/** Services with a result for each item, in `results` and `diagnosticInfos`. */
const BY_ITEM: ReadonlySet<number> = new Set(
  SERVICES.map(({ request }): number => request).filter(
    (request) => hasNodes(request) && request !== REQUEST.RegisterNodes && request !== REQUEST.UnregisterNodes,
  ),
)

/** Whether a service answers each item of its list by itself. */
export const answersByItem = (request: number): boolean => BY_ITEM.has(request)

/** Whether a reason is found in an item of a request's list, so that `denials` of the table have it. */
export const isOfItem = (reason: number): boolean =>
  reason === REASON.node || reason === REASON.attribute || reason === REASON.value

const HAS_ATTRIBUTE: ReadonlySet<number> = new Set([
  REQUEST.Read,
  REQUEST.Write,
  REQUEST.HistoryRead,
  REQUEST.HistoryUpdate,
  REQUEST.CreateMonitoredItems,
  REQUEST.QueryFirst,
])

/** Services that reach nodes which their requests do not name. */
const REACHES: ReadonlySet<number> = new Set([REQUEST.QueryFirst, REQUEST.TransferSubscriptions])

const HAS_VALUE: ReadonlySet<number> = new Set([REQUEST.Write, REQUEST.HistoryUpdate, REQUEST.AddNodes])

/** How near a rule came: the later, the nearer. */
const STAGE = { allow: 0, service: 1, node: 2, attribute: 3, value: 4 } as const
const STAGE_REASON = [REASON.allow, REASON.service, REASON.node, REASON.attribute, REASON.value] as const

/** One rule, ready to be matched. */
class Matcher {
  readonly index: number
  readonly terms: RuleTerms
  readonly deny: boolean
  readonly monitor: boolean
  private readonly services: ReadonlySet<number>
  private readonly nodes: NodeSet | null
  private readonly attributes: Uint8Array | null
  private readonly values: { nodes: NodeSet; min: number | null; max: number | null }[]
  private readonly methods: { object: NodeSet | null; method: NodeSet }[] | null

  constructor(index: number, terms: RuleTerms) {
    this.index = index
    this.terms = terms
    this.deny = terms.action === 'deny'
    this.monitor = terms.mode === 'monitor'
    this.services = new Set(terms.services)
    this.nodes = terms.nodes === null ? null : new NodeSet(terms.nodes)
    this.attributes = terms.attributes === null ? null : bits(terms.attributes)
    this.values = (terms.values ?? []).map(({ node, min, max }) => ({ nodes: new NodeSet([node]), min, max }))
    this.methods =
      terms.methods?.map(({ object, method }) => ({
        object: object === null ? null : new NodeSet([object]),
        method: new NodeSet([method]),
      })) ?? null
  }

  /** Whether the rule speaks of this service. A deny rule that names nodes, say, does not speak of CreateSession. */
  covers(request: number): boolean {
    if (!this.services.has(request)) return false
    if (!this.deny) return true
    const { nodes, attributes, methods } = this
    if (request === REQUEST.Call) return methods !== null || attributes === null
    if (nodes !== null && !hasNodes(request) && !REACHES.has(request)) return false
    if (attributes !== null && !HAS_ATTRIBUTE.has(request)) return false
    return methods === null || nodes !== null || attributes !== null
  }

  /** Whether more than the service must be known. */
  narrowed(request: number): boolean {
    if (request === REQUEST.Call) return this.methods !== null || this.nodes !== null
    if (request === REQUEST.TransferSubscriptions) return this.nodes !== null || this.attributes !== null
    if (this.nodes !== null && (hasNodes(request) || REACHES.has(request))) return true
    if (this.attributes !== null && HAS_ATTRIBUTE.has(request)) return true
    return !this.deny && this.values.length > 0 && HAS_VALUE.has(request)
  }

  /** How far the walker's item keeps to this allow rule. */
  stage(walker: RequestWalker, places: Places, context: SessionContext): number {
    const { namespaces } = context
    if (walker.typeId === REQUEST.Call && this.methods !== null) {
      for (const { object, method } of this.methods) {
        if (!method.has(places.otherBuf, places.other, namespaces)) continue
        if (object === null || object.has(places.nodeBuf, places.node, namespaces)) return STAGE.allow
      }
      return STAGE.node
    }
    const { nodes, attributes } = this
    if (nodes !== null) {
      if (!nodes.has(places.nodeBuf, places.node, namespaces)) return STAGE.node
      if (walker.hasOther && !nodes.has(places.otherBuf, places.other, namespaces)) return STAGE.node
    }
    const { attribute } = walker
    if (attributes !== null && attribute !== 0 && !hasBit(attributes, attribute)) return STAGE.attribute
    if (this.values.length > 0 && !this.valued(walker, places, context)) return STAGE.value
    return STAGE.allow
  }

  private valued(walker: RequestWalker, places: Places, { namespaces }: SessionContext): boolean {
    const { valueAt, values, hidesValue } = walker
    if (!hidesValue && (valueAt === -1 || walker.attribute !== VALUE_ATTRIBUTE)) return true
    for (const { nodes, min, max } of this.values) {
      // A limit that may be meant for the node holds for it.
      const limited = hidesValue
        ? walker.hasOther && nodes.mayHave(places.otherBuf, places.other, namespaces)
        : nodes.mayHave(places.nodeBuf, places.node, namespaces)
      if (!limited) continue
      if (hidesValue || !valuesKeep(walker.buf, valueAt, walker.itemEnd, values, min, max)) return false
    }
    return true
  }

  /** Whether this deny rule has the walker's item. */
  hits(walker: RequestWalker, places: Places, { namespaces }: SessionContext): boolean {
    const { nodes, attributes, methods } = this
    if (walker.typeId === REQUEST.Call && methods !== null) {
      for (const { object, method } of methods) {
        if (!method.mayHave(places.otherBuf, places.other, namespaces)) continue
        if (object === null || object.mayHave(places.nodeBuf, places.node, namespaces)) return true
      }
      return false
    }
    if (attributes !== null && !hasBit(attributes, walker.attribute)) return false
    if (nodes === null || nodes.mayHave(places.nodeBuf, places.node, namespaces)) return true
    return walker.hasOther && nodes.mayHave(places.otherBuf, places.other, namespaces)
  }
}

const VALUE_ATTRIBUTE = 13

function bits(attributes: readonly number[]): Uint8Array {
  const set = new Uint8Array(32)
  for (const attribute of attributes) if (attribute < 32) set[attribute] = 1
  return set
}

const hasBit = (set: Uint8Array, attribute: number): boolean => attribute < 32 && set[attribute] === 1

/** The item's nodes behind their aliases: where their bytes are, and where among them. */
class Places {
  nodeBuf: Uint8Array = new Uint8Array(0)
  node = new RequestWalker().node
  otherBuf: Uint8Array = this.nodeBuf
  other = this.node

  resolve(walker: RequestWalker, { aliases }: SessionContext): void {
    this.nodeBuf = walker.buf
    this.node = walker.node
    this.otherBuf = walker.buf
    this.other = walker.other
    if (aliases.size === 0) return
    const node = aliases.resolve(walker.buf, walker.node)
    if (node !== null) {
      this.nodeBuf = node.buf
      this.node = node.ref
    }
    const other = walker.hasOther ? aliases.resolve(walker.buf, walker.other) : null
    if (other !== null) {
      this.otherBuf = other.buf
      this.other = other.ref
    }
  }
}

/** Words of an entry of `Denials`. */
const WORD = { index: 0, from: 1, to: 2, reason: 3, rule: 4, words: 5 } as const

/** The denied items of a request, in their order. */
export class Denials {
  count = 0
  private words = new Int32Array(WORD.words * 16)

  clear(): void {
    this.count = 0
  }

  /** @param index of the item, which stands at [from, to), @param rule the one that came nearest */
  add(index: number, from: number, to: number, reason: number, rule: number): void {
    const at = WORD.words * this.count++
    if (at === this.words.length) {
      const more = new Int32Array(2 * at)
      more.set(this.words)
      this.words = more
    }
    this.words[at + WORD.index] = index
    this.words[at + WORD.from] = from
    this.words[at + WORD.to] = to
    this.words[at + WORD.reason] = reason
    this.words[at + WORD.rule] = rule
  }

  index(n: number): number {
    return this.words[WORD.words * n + WORD.index]
  }

  from(n: number): number {
    return this.words[WORD.words * n + WORD.from]
  }

  to(n: number): number {
    return this.words[WORD.words * n + WORD.to]
  }

  reason(n: number): number {
    return this.words[WORD.words * n + WORD.reason]
  }

  rule(n: number): number {
    return this.words[WORD.words * n + WORD.rule]
  }

  /** Indexes of the items, ascending; a copy. */
  indexes(): Int32Array {
    return Int32Array.from({ length: this.count }, (_, n) => this.index(n))
  }
}

const BY_SERVICE = { deny: 0, allow: 1, body: 2 } as const

/**
 * The compiled rules. `service` and `decide` leave their findings in fields, so that nothing is allocated: they hold
 * until the next call. What a rule in monitor mode would deny is allowed, and noted in `wouldRule` and `wouldReason`.
 */
export class RuleTable {
  /** Index of the rule that allowed, or came nearest to allowing; -1: none. */
  rule = -1
  /** Index of a rule in monitor mode that would have denied; -1: none. */
  wouldRule = -1
  wouldReason = 0
  /** Offset of the first item that it would have denied; -1: it is the whole request. */
  wouldAt = -1
  /** Behind `malformed`: see `bodyFaultText`. */
  fault = 0
  /** With `VERDICT.partly`, or where all items are denied. */
  readonly denials = new Denials()
  /** The walker of the last `decide`: header and count. */
  readonly walker = new RequestWalker()

  private readonly matchers: readonly Matcher[]
  private readonly verdicts = new Uint8Array(FUNCTIONS)
  private readonly rules = new Int32Array(FUNCTIONS).fill(-1)
  private readonly wouldRules = new Int32Array(FUNCTIONS).fill(-1)
  private readonly denying: Matcher[][] = []
  private readonly allowing: Matcher[][] = []
  private readonly places = new Places()
  private readonly cursor = new Cursor()
  private itemRule = -1

  /** @param rules of the pair and channel, with their indexes in the conduit's protocol, in the document's order */
  constructor(rules: readonly { index: number; terms: RuleTerms }[]) {
    this.matchers = rules.map(({ index, terms }) => new Matcher(index, terms))
    for (let i = 0; i < FUNCTIONS; i++) {
      this.denying.push([])
      this.allowing.push([])
      this.rules[i] = this.matchers.find((matcher) => !matcher.deny)?.index ?? -1
    }
    for (const { request, group } of SERVICES) {
      if (group !== 'channel' && group !== 'sessionless') this.compile(request)
    }
  }

  private compile(request: number): void {
    const at = functionOfRequest(request)
    const covering = this.matchers.filter((matcher) => matcher.covers(request))
    const denying = covering.filter((matcher) => matcher.deny)
    const allowing = covering.filter((matcher) => !matcher.deny)
    this.denying[at] = denying.filter((matcher) => matcher.narrowed(request))
    this.allowing[at] = allowing
    const flat = denying.filter((matcher) => !matcher.narrowed(request))
    const whole = allowing.find((matcher) => !matcher.narrowed(request))
    const denied = flat.find((matcher) => !matcher.monitor)
    this.wouldRules[at] = flat.find((matcher) => matcher.monitor)?.index ?? -1
    if (denied !== undefined) {
      this.rules[at] = denied.index
    } else if (this.denying[at].length > 0 || (allowing.length > 0 && whole === undefined)) {
      this.verdicts[at] = BY_SERVICE.body
    } else if (whole !== undefined) {
      this.verdicts[at] = BY_SERVICE.allow
      this.rules[at] = whole.index
    } else if (this.matchers.find((matcher) => !matcher.deny)?.monitor) {
      this.verdicts[at] = BY_SERVICE.allow
      this.wouldRules[at] = this.rules[at]
    }
  }

  /**
   * Decides by the service alone. Allocates nothing.
   * @param typeId of the request; whatever is no service is denied
   * @returns `REASON.allow`, `REASON.service`, or `VERDICT.body`: ask `decide` with the whole message
   */
  service(typeId: number): number {
    const at = functionOfRequest(typeId)
    this.rule = this.rules[at]
    this.fault = 0
    this.wouldRule = this.wouldRules[at]
    this.wouldReason = REASON.service
    this.wouldAt = -1
    const verdict = this.verdicts[at]
    if (verdict === BY_SERVICE.body) return VERDICT.body
    return verdict === BY_SERVICE.allow ? REASON.allow : REASON.service
  }

  /**
   * Decides on a whole request. Throws nothing, reads `buf[at…end)` alone, and allocates nothing for a request that is
   * allowed.
   * @param at offset of the TypeId, @param end behind the body
   * @returns `REASON.allow`, `VERDICT.partly`, or the reason of the denial of the whole
   */
  decide(buf: Uint8Array, at: number, end: number, context: SessionContext): number {
    const { walker, denials } = this
    denials.clear()
    const walked = walker.open(buf, at, end)
    const verdict = this.service(walker.typeId)
    if (verdict !== VERDICT.body) return verdict
    const fn = functionOfRequest(walker.typeId)
    if (REACHES.has(walker.typeId)) return this.reaches(fn, end, context)
    if (!walked) return this.malformed(fn)
    if (context.registering > 0) {
      // The server may already have given an alias that is not known here: what it stands for cannot be judged.
      this.rule = this.allowing[fn][0]?.index ?? this.rule
      return REASON.state
    }
    return this.items(fn, context)
  }

  private items(fn: number, context: SessionContext): number {
    const { walker, denials } = this
    let allowedBy = -1
    while (walker.next()) {
      this.places.resolve(walker, context)
      const reason = this.item(fn, context)
      if (reason === REASON.allow) allowedBy = this.itemRule
      else denials.add(walker.index, walker.itemAt, walker.itemEnd, reason, this.itemRule)
    }
    if (walker.fault !== 0) return this.malformed(fn)
    if (walker.count === 0) return this.empty(fn)
    if (denials.count === 0) {
      this.rule = allowedBy
      return REASON.allow
    }
    this.rule = denials.rule(0)
    if (denials.count < walker.count && BY_ITEM.has(walker.typeId)) return VERDICT.partly
    return denials.reason(0)
  }

  /** A list of nothing touches nothing: the server says what it thinks of it. */
  private empty(fn: number): number {
    const [allowing] = this.allowing[fn]
    if (allowing === undefined) return REASON.service
    this.rule = allowing.index
    return REASON.allow
  }

  /** One item. Leaves the rule in `itemRule`. */
  private item(fn: number, context: SessionContext): number {
    const { walker, places } = this
    const denying = this.denying[fn]
    for (let i = 0; i < denying.length; i++) {
      const matcher = denying[i]
      if (!matcher.hits(walker, places, context)) continue
      if (matcher.monitor) {
        this.would(matcher.index, REASON.node)
        continue
      }
      this.itemRule = matcher.index
      return REASON.node
    }
    let nearest: Matcher | undefined
    let stage = 0
    const allowing = this.allowing[fn]
    for (let i = 0; i < allowing.length; i++) {
      const matcher = allowing[i]
      const reached = matcher.stage(walker, places, context)
      if (reached === STAGE.allow) {
        this.itemRule = matcher.index
        return REASON.allow
      }
      if (reached > stage) {
        stage = reached
        nearest = matcher
      }
    }
    if (nearest === undefined) {
      stage = STAGE.service
      nearest = this.matchers.find((matcher) => !matcher.deny)
    }
    this.itemRule = nearest?.index ?? -1
    if (nearest?.monitor) {
      this.would(nearest.index, STAGE_REASON[stage])
      return REASON.allow
    }
    return STAGE_REASON[stage]
  }

  private would(rule: number, reason: number): void {
    if (this.wouldRule !== -1) return
    this.wouldRule = rule
    this.wouldReason = reason
    this.wouldAt = this.walker.itemAt
  }

  /**
   * What a malformed request would touch cannot be known: a deny rule for its service has it, so that an allow rule in
   * monitor mode does not let it through.
   */
  private malformed(fn: number): number {
    const { walker } = this
    this.denials.clear()
    this.fault = walker.fault
    const judge = this.denying[fn].find((matcher) => !matcher.monitor) ?? this.allowing[fn][0]
    this.rule = judge?.index ?? this.rule
    if (judge === undefined) return REASON.service
    if (!judge.monitor) return REASON.malformed
    this.wouldRule = judge.index
    this.wouldReason = REASON.malformed
    this.wouldAt = -1
    return REASON.allow
  }

  /**
   * Services that reach nodes which their requests do not name. A query reads whatever it finds. TransferSubscriptions
   * takes over items that were judged when they were made, for whoever made them: so it is allowed for one's own.
   */
  private reaches(fn: number, end: number, context: SessionContext): number {
    const { walker } = this
    const transfer = walker.typeId === REQUEST.TransferSubscriptions
    if (walker.fault !== 0) return this.malformed(fn)
    const own = transfer && this.ownSubscriptions(end, context)
    if (walker.fault !== 0) return this.malformed(fn)
    const allowing = this.allowing[fn]
    if (own && allowing.length > 0) {
      this.rule = allowing[0].index
      return REASON.allow
    }
    const denied = this.denying[fn].find((matcher) => !matcher.monitor)
    const would = this.denying[fn].find((matcher) => matcher.monitor)
    if (denied !== undefined) {
      this.rule = denied.index
      return REASON.node
    }
    const whole = allowing.find((matcher) => !matcher.narrowed(walker.typeId))
    const judge = whole ?? allowing[0]
    this.rule = judge?.index ?? this.rule
    if (would !== undefined) {
      this.wouldRule = would.index
      this.wouldReason = REASON.node
    }
    if (whole !== undefined) return REASON.allow
    if (judge === undefined) return REASON.service
    if (!judge.monitor) return REASON.node
    this.wouldRule = judge.index
    this.wouldReason = REASON.node
    return REASON.allow
  }

  /** OPC 10000-4 §5.13.7: subscriptionIds, sendInitialValues. */
  private ownSubscriptions(end: number, context: SessionContext): boolean {
    const { cursor, walker } = this
    cursor.open(walker.buf, walker.bodyAt, end)
    const count = cursor.count(4)
    let own = true
    for (let i = 0; i < count; i++) if (!context.owners.owns(context.owner, cursor.u32())) own = false
    cursor.skip(1)
    cursor.finish()
    walker.fault = cursor.fault
    return own && cursor.fault === 0
  }

  /** What would have been allowed in place of what was denied: one line for a person, off the allowed path. */
  explain(reason: number, rule = this.rule, typeId = this.walker.typeId): string {
    const terms = this.matchers.find(({ index }) => index === rule)?.terms
    if (terms === undefined) return 'no rule for this client and target'
    if (terms.action === 'deny') return `rule "${terms.name}" denies it`
    switch (reason) {
      case REASON.service:
        return `services allowed: ${list(serviceNames(terms.services))}`
      case REASON.node:
        if (typeId === REQUEST.Call && terms.methods !== null) {
          return `methods allowed: ${list(terms.methods.map(({ text }) => text))}`
        }
        if (typeId === REQUEST.QueryFirst) return 'a query reads nodes that it does not name, and the rule names nodes'
        if (typeId === REQUEST.TransferSubscriptions) {
          return 'subscriptions of others may hold nodes that the rule does not name'
        }
        return `nodes allowed: ${list((terms.nodes ?? []).map(({ text }) => text))}`
      case REASON.attribute:
        return `attributes allowed: ${list((terms.attributes ?? []).map((id) => attributeName(id)))}`
      case REASON.value:
        return `values allowed: ${list((terms.values ?? []).map(valueText))}`
      case REASON.state:
        return 'nodes cannot be judged while a RegisterNodes is unanswered'
      default:
        return ''
    }
  }
}

/** Groups where a rule has all of one, services by their names where it has some. */
function serviceNames(services: readonly number[]): string[] {
  const names: string[] = []
  for (const group of OPCUA_SERVICE_GROUPS) {
    const ids = servicesIn(group)
    const has = ids.filter((id) => services.includes(id))
    if (has.length === ids.length) names.push(group)
    else names.push(...has.map((id) => serviceOf(id)?.name ?? `${id}`))
  }
  return names
}

const valueText = ({ node, min, max }: { node: NodePattern; min: number | null; max: number | null }): string =>
  `${node.text}: ${min === null ? 'at most' : max === null ? `at least ${min}` : `${min} to`} ${max ?? ''}`.trimEnd()

const list = (texts: readonly string[]): string =>
  texts.length === 0 ? 'none' : texts.length > 16 ? `${texts.slice(0, 16).join(', ')} …` : texts.join(', ')
