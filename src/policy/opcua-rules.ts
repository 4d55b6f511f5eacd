/** The rules of one OPC UA protocol of a conduit: those given, or the one that `direction` spells out. */
import { READ_ONLY_GROUPS, REQUEST, type ServiceGroup, serviceOf, servicesIn } from '../protocols/opcua/services.ts'
import { blocksOverlap } from './address.ts'
import type { Check } from './check.ts'
import { deniedService } from './denied.ts'
import type { Path } from './document.ts'
import { show } from './findings.ts'
import type { MethodPattern, NodePattern, NodeValueLimit, OpcUaProtocol, OpcUaRule, Zone } from './model.ts'
import {
  ALL_SERVICES,
  parseAttribute,
  parseMethod,
  parseNodePattern,
  parseService,
  parseThumbprint,
} from './opcua-notations.ts'
import { type BoundDirection, bindDirection, needAddresses, noRules, type RuleContext } from './rule-context.ts'
import { buildList, holdToProse, type Written } from './rule-list.ts'
import type { OpcUaDocument, OpcUaRuleDocument } from './schema.ts'
import { type Complaint, isComplaint } from './values.ts'
import { zoneBlocks } from './zones.ts'

/** What the channels of the protocol may be like, as far as rules have to be held to it. */
export type ChannelTerms = Pick<OpcUaProtocol, 'handling' | 'securityModes' | 'securityPolicies'>

/** Keys of a rule that nothing but a message's body can be held to. */
const INNER_KEYS = ['nodes', 'attributes', 'values', 'methods'] as const

/** Services that set values. */
const WITH_VALUES: readonly number[] = [REQUEST.Write, REQUEST.HistoryUpdate, REQUEST.AddNodes]

const ACCESS: ReadonlyMap<string, readonly ServiceGroup[]> = new Map([
  ...['read only', 'reads only', 'only reads', 'only read', 'read', 'read access', 'no write', 'no writes'].map(
    (claim) => [claim, READ_ONLY_GROUPS] as const,
  ),
  ...['read/write', 'read write'].map((claim) => [claim, [...READ_ONLY_GROUPS, 'write']] as const),
  ['browse only', ['discovery', 'session', 'browse']],
  ['subscribe only', ['discovery', 'session', 'browse', 'subscribe']],
  ['discovery only', ['discovery']],
])

interface ServiceDirection extends BoundDirection {
  /** Type ids that the claims allow; null where none of them speaks of services. */
  services: number[] | null
  /** Claims that no rule can be made of. */
  vague: string[]
}

export function buildOpcUaRules(
  context: RuleContext,
  raw: OpcUaDocument,
  channel: ChannelTerms,
  path: Path,
): OpcUaRule[] {
  const bound = bindDirection(context, raw.direction, path)
  const direction = bound === null ? null : { ...bound, ...claims(bound.text) }
  if (raw.rules === undefined) {
    if (direction !== null) return fromProse(context, direction, channel)
    noRules(context, raw.direction, path)
    return []
  }
  if (direction !== null && direction.vague.length > 0) {
    const said = direction.vague.map((claim) => show(claim)).join(', ')
    const message = `found ${said}, which no rule can be held to; the rest of the direction binds`
    context.check.warn(direction.path, 'prose-not-enforced', message)
  }
  const built = buildList(context, raw.rules, [...path, 'rules'], (written) =>
    buildRule(context.check, written, channel),
  )
  const rules = built.map(({ rule }) => rule)
  if (direction !== null) {
    for (const { rule, written } of built) {
      const wider = rule.services.filter(
        (service) =>
          direction.services !== null && !direction.services.includes(service) && !deniedService(rules, rule, service),
      )
      holdToProse(
        context,
        written,
        direction,
        'services',
        wider.map((one) => serviceOf(one)?.name ?? String(one)),
      )
    }
  }
  holdAliases(context.check, rules, raw.rules, channel, path)
  return rules
}

/** Type ids of the services that one claim of a direction allows; null where it does not speak of services. */
export function servicesClaimed(claim: string): number[] | null {
  const word = claim
    .toLowerCase()
    .replaceAll('-', ' ')
    .replace(/\s*\/\s*/, '/')
  return ACCESS.get(word)?.flatMap(servicesIn) ?? null
}

/** What the parenthesis of a direction says of services. */
function claims(text: string): { services: number[] | null; vague: string[] } {
  let services: number[] | null = null
  const vague: string[] = []
  const inside = /\((.*)\)/s.exec(text)?.[1] ?? ''
  for (const part of inside.split(/[,;]|\band\b/i)) {
    const claim = part.trim().replaceAll(/\s+/g, ' ')
    if (claim === '') continue
    const allowed = servicesClaimed(claim)
    if (allowed === null) {
      vague.push(claim)
      continue
    }
    services = services === null ? allowed : services.filter((one) => allowed.includes(one))
  }
  return { services, vague }
}

/** The rule where no rules are given: all that the prose allows, from zone to zone. */
function fromProse(context: RuleContext, direction: ServiceDirection, channel: ChannelTerms): OpcUaRule[] {
  const { check, enforce } = context
  if (direction.vague.length > 0) {
    const said = direction.vague.map((claim) => show(claim)).join(', ')
    const message = `found ${said}, which no rule can be made of; expected \`rules\`, or a direction such as "Z3 -> Z2 (read only)": every request is denied`
    check.report(enforce, direction.path, 'prose-not-understood', message)
    return []
  }
  if (direction.services === null) {
    const message = `found no restriction of services in ${show(direction.text)}: all are allowed`
    check.warn(direction.path, 'no-function-restriction', message)
  } else if (blind(channel)) {
    const message = `found ${show(direction.text)}, whose services cannot be seen on the encrypted channels that are allowed here; ${MEND}`
    check.report(enforce, direction.path, 'not-enforceable', message)
  }
  const ends: [Zone, Zone][] = [[direction.from, direction.to]]
  if (direction.both) ends.push([direction.to, direction.from])
  for (const zone of [direction.from, direction.to]) needAddresses(context, zone, direction.path)
  return ends.map(([from, to], index) => ({
    name: index === 0 ? direction.text : `${direction.text} (back)`,
    action: 'allow',
    from: zoneBlocks(from),
    to: zoneBlocks(to),
    services: ascending(direction.services ?? ALL_SERVICES),
    nodes: null,
    attributes: null,
    values: null,
    methods: null,
    securityMode: null,
    securityPolicies: null,
    certificates: null,
    mode: null,
    fromProse: true,
    position: check.source.position(direction.path),
  }))
}

/** Whether services may be hidden by encryption that Headgate does not end. */
const blind = ({ handling, securityModes }: ChannelTerms): boolean =>
  handling === 'inspect' && securityModes.includes('SignAndEncrypt')

const MEND = 'expected `handling: terminate`, or `security_modes` without SignAndEncrypt, or `services: [all]`'

function buildRule(check: Check, { raw, path, head }: Written<OpcUaRuleDocument>, channel: ChannelTerms): OpcUaRule {
  const rule: OpcUaRule = {
    ...head,
    services: buildServices(check, raw, head.action, path),
    nodes: parsed<NodePattern>(raw.nodes, parseNodePattern),
    attributes: parsed<number>(raw.attributes, parseAttribute)?.sort((a, b) => a - b) ?? null,
    values: buildValues(check, raw, head.action, path),
    methods: parsed<MethodPattern[]>(raw.methods, parseMethod)?.flat() ?? null,
    securityMode: raw.security_mode ?? null,
    securityPolicies: raw.security_policies ?? null,
    certificates: parsed<string>(raw.certificates, parseThumbprint),
  }
  holdToChannel(check, rule, raw, channel, path)
  return rule
}

/** Entries of a list that is sound, by what they mean; null where there is no list. */
function parsed<T>(list: readonly unknown[] | undefined, parse: (value: unknown) => T | Complaint): T[] | null {
  return list === undefined ? null : list.map(parse).filter((one): one is T => !isComplaint(one))
}

const ascending = (services: readonly number[]): number[] => [...new Set(services)].sort((a, b) => a - b)

function buildServices(check: Check, raw: OpcUaRuleDocument, action: 'allow' | 'deny', path: Path): number[] {
  if (raw.services !== undefined) {
    // Who names methods means that they may be called.
    const called = raw.methods === undefined ? [] : [REQUEST.Call]
    return ascending([...(parsed<number[]>(raw.services, parseService)?.flat() ?? []), ...called])
  }
  if (action === 'allow' && check.sound([...path, 'services'])) {
    const message = 'expected key "services" (groups or names; [all] for every service), found none'
    check.error(path, 'missing-key', message)
  }
  return [...ALL_SERVICES]
}

function buildValues(
  check: Check,
  raw: OpcUaRuleDocument,
  action: 'allow' | 'deny',
  path: Path,
): NodeValueLimit[] | null {
  if (raw.values === undefined) return null
  const at = [...path, 'values']
  if (action === 'deny')
    check.error(at, 'values-on-deny', 'found values in a deny rule, expected them in a rule that allows')
  const limits: NodeValueLimit[] = []
  for (const [key, { min = null, max = null }] of Object.entries(raw.values)) {
    const place = [...at, key]
    const node = parseNodePattern(key)
    if (isComplaint(node)) {
      check.errorAtKey(place, 'bad-value', `found ${show(key)}, expected ${node.expected}`)
      continue
    }
    if (min === null && max === null) check.error(place, 'bad-value', 'found no limit, expected min or max')
    if (min !== null && max !== null && min > max)
      check.error(place, 'bad-value', `found min ${min} above max ${max}, expected min to be at most max`)
    limits.push({ node, min, max })
  }
  return limits
}

/** A rule may ask for nothing that the channels of the conduit hide, and for no channel that the conduit refuses. */
function holdToChannel(check: Check, rule: OpcUaRule, raw: OpcUaRuleDocument, channel: ChannelTerms, path: Path): void {
  const inner = INNER_KEYS.filter((key) => raw[key] !== undefined)
  if (blind(channel)) {
    const keys = rule.services.length === ALL_SERVICES.length ? inner : (['services', ...inner] as const)
    for (const key of keys) {
      const message = `found ${key}, which cannot be seen on the encrypted channels that are allowed here; ${MEND}`
      check.error([...path, key], 'not-enforceable', message)
    }
  }
  if (raw.values !== undefined && !rule.services.some((service) => WITH_VALUES.includes(service))) {
    const message = 'found values in a rule without Write: they limit nothing'
    check.warn([...path, 'values'], 'values-without-service', message)
  }
  for (const policy of rule.securityPolicies ?? []) {
    if (channel.securityPolicies.includes(policy)) continue
    const message = `found ${policy}, expected one of the conduit's security policies: ${channel.securityPolicies.join(', ')}`
    check.error([...path, 'security_policies'], 'outside-security', message)
  }
  if (rule.securityMode !== null && !channel.securityModes.includes(rule.securityMode)) {
    const message = `found ${rule.securityMode}, expected one of the conduit's security modes: ${channel.securityModes.join(', ')}`
    check.error([...path, 'security_mode'], 'outside-security', message)
  }
}

/**
 * An inspecting session follows the NodeIds that RegisterNodes gives out as long as its connection lasts. An OPC UA
 * session that goes on over another one takes them along: no allow rule has them there, yet no deny rule either.
 */
function holdAliases(
  check: Check,
  rules: readonly OpcUaRule[],
  raw: readonly OpcUaRuleDocument[],
  { handling }: ChannelTerms,
  path: Path,
): void {
  if (handling === 'terminate') return
  const meet = (a: OpcUaRule, b: OpcUaRule): boolean =>
    a.from.some((one) => b.from.some((other) => blocksOverlap(one, other))) &&
    a.to.some((one) => b.to.some((other) => blocksOverlap(one, other)))
  for (const denying of rules) {
    if (denying.action !== 'deny' || (denying.nodes === null && denying.methods === null)) continue
    for (const [index, rule] of raw.entries()) {
      const allowing = rules.find(({ name }) => name === (rule?.name ?? `rule-${index + 1}`))
      if (allowing?.action !== 'allow' || !allowing.services.includes(REQUEST.RegisterNodes)) continue
      if (!meet(denying, allowing)) continue
      const message = `found RegisterNodes beside the deny rule ${show(denying.name)}, which names nodes: handling inspect does not follow the NodeIds that it gives out to another connection; expected \`handling: terminate\`, or services by name without RegisterNodes`
      check.error([...path, 'rules', index, 'services'], 'not-enforceable', message)
    }
  }
}
