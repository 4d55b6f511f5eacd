/**
 * The rules of one pair of addresses, as far as they hold for a secure channel: its policy, its mode and its client's
 * certificate. Compiled for each kind of channel when it is first seen.
 */
import { RuleTable, type RuleTerms } from './decide.ts'
import { modeAtLeast, type OpcUaSecurityMode, type OpcUaSecurityPolicy } from './security.ts'
import { SERVICES, servicesIn } from './services.ts'

/** What of a rule says which channels it is for; the checked policy's rule has this shape. */
export interface ChannelRuleTerms extends RuleTerms {
  readonly securityMode: OpcUaSecurityMode | null
  readonly securityPolicies: readonly OpcUaSecurityPolicy[] | null
  readonly certificates: readonly string[] | null
}

export interface IndexedRule {
  index: number
  terms: ChannelRuleTerms
}

/** What a channel is like. */
export interface ChannelTraits {
  policy: OpcUaSecurityPolicy
  mode: OpcUaSecurityMode
  /** SHA-1 thumbprint of the client's certificate, lower-case hex; '' without one. */
  certificate: string
}

/** Kinds of channels that one pair remembers the tables of: clients choose them, within the policy. */
const MAX_TABLES = 64

const ALL = SERVICES.filter(({ group }) => group !== 'channel' && group !== 'sessionless').length
const DISCOVERY: readonly number[] = servicesIn('discovery')

export class ChannelRules {
  readonly table: RuleTable
  /** Only services that a client needs before it can open a secure channel. */
  readonly discoveryOnly: boolean
  /** Index of the rule that allows a channel into which Headgate cannot look; -1: none does. */
  readonly hidden: number
  /** Whether a rule speaks of what stands inside of messages. */
  readonly inner: boolean
  /** Index of the first rule that allows anything; -1: none. */
  readonly first: number
  private readonly others: readonly IndexedRule[]

  constructor(rules: readonly IndexedRule[], others: readonly IndexedRule[], discoveryOnly: boolean) {
    this.table = new RuleTable(rules)
    this.others = others
    this.discoveryOnly = discoveryOnly
    const allowing = rules.filter(({ terms }) => terms.action === 'allow')
    this.first = allowing[0]?.index ?? -1
    this.inner = rules.some(({ terms }) => !isFlat(terms))
    const denied = rules.some(({ terms }) => terms.action === 'deny' && terms.mode !== 'monitor')
    this.hidden = denied ? -1 : (allowing.find(({ terms }) => isWhole(terms))?.index ?? -1)
  }

  /** Whether a channel of another kind would have had a rule for this request. */
  elsewhere(typeId: number): boolean {
    return this.others.some(({ terms }) => terms.action === 'allow' && terms.services.includes(typeId))
  }
}

/** Whether a rule allows everything, so that nothing has to be seen to keep to it. */
const isWhole = (terms: RuleTerms): boolean => terms.services.length === ALL && isFlat(terms)

const isFlat = ({ nodes, attributes, values, methods }: RuleTerms): boolean =>
  nodes === null && attributes === null && values === null && methods === null

export class PairRules {
  private readonly rules: readonly IndexedRule[]
  private readonly modes: ReadonlySet<OpcUaSecurityMode>
  private readonly tables = new Map<string, ChannelRules>()

  /**
   * @param rules of the pair, in the document's order
   * @param modes that the protocol allows its channels
   */
  constructor(rules: readonly IndexedRule[], modes: ReadonlySet<OpcUaSecurityMode>) {
    this.rules = rules
    this.modes = modes
  }

  /** Whether any rule could allow anything. */
  get allows(): boolean {
    return this.rules.some(({ terms }) => terms.action === 'allow')
  }

  /** Whether a rule is for clients with this certificate, whatever else the channel is like. */
  knowsCertificate(certificate: string): boolean {
    return this.rules.some(({ terms }) => terms.action === 'allow' && names(terms.certificates, certificate))
  }

  /** Whether a rule is for channels of this policy, whatever else they are like. */
  knowsPolicy(policy: OpcUaSecurityPolicy): boolean {
    return this.rules.some(({ terms }) => terms.action === 'allow' && names(terms.securityPolicies, policy))
  }

  forChannel(traits: ChannelTraits): ChannelRules {
    const known = this.rules.some(({ terms }) => terms.certificates?.includes(traits.certificate))
    // Certificates that no rule names are all alike.
    const key = `${traits.policy} ${traits.mode} ${known ? traits.certificate : traits.certificate === ''}`
    let found = this.tables.get(key)
    if (found === undefined) {
      found = this.compile(traits)
      if (this.tables.size < MAX_TABLES) this.tables.set(key, found)
    }
    return found
  }

  private compile(traits: ChannelTraits): ChannelRules {
    const holding: IndexedRule[] = []
    const others: IndexedRule[] = []
    const plain = this.modes.has(traits.mode)
    for (const rule of this.rules) {
      if (plain && isFor(rule.terms, traits)) holding.push(rule)
      else {
        others.push(rule)
        // Without discovery on None no client could find out how to open anything better.
        if (traits.mode === 'None' && rule.terms.action === 'allow') {
          const services = rule.terms.services.filter((one) => DISCOVERY.includes(one))
          const terms = { ...rule.terms, services, nodes: null, attributes: null, values: null, methods: null }
          if (services.length > 0) holding.push({ index: rule.index, terms })
        }
      }
    }
    return new ChannelRules(holding, others, traits.mode === 'None' && !plain)
  }
}

const isFor = (terms: ChannelRuleTerms, { policy, mode, certificate }: ChannelTraits): boolean =>
  (terms.securityMode === null || modeAtLeast(mode, terms.securityMode)) &&
  names(terms.securityPolicies, policy) &&
  names(terms.certificates, certificate)

const names = <T>(list: readonly T[] | null, one: T): boolean => list === null || list.includes(one)
