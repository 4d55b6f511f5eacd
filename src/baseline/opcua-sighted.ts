/**
 * What a rule would have to say to allow OPC UA traffic that the evidence shows: harmless services by name alone; what
 * changes a process, and what a rule is narrower than, by node, attribute and method, never wider than was seen.
 */
import { blockHolds, parseAddress } from '../policy/address.ts'
import type { AddressBlock, NodePattern, OpcUaProtocol, OpcUaRule, Policy } from '../policy/model.ts'
import { ATTRIBUTES } from '../protocols/opcua/attributes.ts'
import { READ_ONLY_GROUPS, SERVICES } from '../protocols/opcua/services.ts'
import { leadsTo, type ProtocolPlace, placesOf } from './coverage.ts'
import type { OpcUaGrant } from './opcua-assess.ts'
import { opcuaName } from './opcua-draft.ts'
import { hasMethod, hasNode, methodText, nodePatterns, patternOf } from './opcua-nodes.ts'
import { plural, spanText } from './rules.ts'
import type { Sighting } from './sightings.ts'

/** One service of one client and server, as narrow as it was seen. Nodes are NodeIds as events write them. */
export interface SightedGrant {
  client: string
  target: string
  port: number
  service: string
  /** null: any. */
  nodes: string[] | null
  attribute: string | null
  /** A Call's object, and the method of it. */
  method: [string, string] | null
  /** What is written must lie within; null: no bounds. */
  values: { least: number; greatest: number } | null
  count: number
  first: number
  last: number
}

/** One rule of the document; grants that differ in their nodes alone share it. */
export interface SightedRule {
  name: string
  grants: SightedGrant[]
}

const GROUP_OF: ReadonlyMap<string, string> = new Map(SERVICES.map(({ name, group }) => [name, group]))
const HARMLESS: ReadonlySet<string> = new Set(READ_ONLY_GROUPS)
const MENDED = new Set(['pair', 'service', 'node', 'attribute', 'value'])

/** What a service may do to a process: points of danger, and in words. */
export function harmOfService(service: string | null): [number, string] {
  const group = GROUP_OF.get(service ?? '')
  if (group === 'channel') return [0, '']
  if (group === undefined) return [30, service === 'encrypted' ? 'hidden by encryption' : 'no service']
  if (group === 'write' || group === 'history-write') return [45, 'a write']
  if (group === 'method') return [45, 'a call of a method']
  if (group === 'node-management') return [70, 'changes the address space']
  return HARMLESS.has(group) ? [5, ''] : [50, `${service} changes the server itself`]
}

/** @returns what would have to be allowed; a sentence where no rule can be made of what is known */
export function sightedGrant(one: Sighting): SightedGrant | string {
  const { kind, client, target, port, reason, service, node, method, attribute, count, first, last } = one
  if (kind !== 'request' || !MENDED.has(reason)) return mendOpcUa(one)
  const group = GROUP_OF.get(service ?? '')
  if (service === null || group === undefined || group === 'channel' || group === 'sessionless') return mendOpcUa(one)
  const grant: SightedGrant = {
    ...{ client, target, port, service, nodes: null, attribute: null, method: null, values: null },
    ...{ count, first, last },
  }
  if (!isNarrow(service, reason)) return grant
  if (node === null) return `the evidence does not name the node that ${service} reaches: write the rule by hand`
  const named = method === null ? [node] : [node, method]
  const unnamed = named.find((text) => patternOf(text) === null)
  if (unnamed !== undefined) return `${unnamed} cannot be written in a rule: write a pattern for it by hand`
  if (service === 'Call') {
    if (method === null) return 'the evidence does not name the method: write the rule by hand'
    if (methodText([node, method]) === null) return `${node}/${method} can be read in two ways: write the rule by hand`
    return { ...grant, method: [node, method] }
  }
  if (reason === 'value') {
    if (one.valueHidden || one.greatest < one.least)
      return 'a value that is no number, and that a rule has bounds for: change the bounds by hand'
    grant.values = { least: one.least, greatest: one.greatest }
  }
  return { ...grant, nodes: named, attribute }
}

/** What an item of a baseline would have to be allowed, as the evidence would have it. */
export function decidedGrants({ row, services, nodes }: OpcUaGrant): SightedGrant[] {
  const { client, target, port } = row
  return services.flatMap((service): SightedGrant[] => {
    const known = row.services[service]
    if (known === undefined) return []
    const [first, last] = [known.first, known.last].map((text) => Date.parse(text))
    const one = { client, target, port, service, attribute: null, method: null, values: null, first, last }
    if (nodes === null) return [{ ...one, nodes: null, count: known.requests }]
    return nodes.map(({ node, method, attribute, requests: count }) =>
      method === null
        ? { ...one, nodes: [node], attribute, count }
        : { ...one, nodes: null, method: [node, method], count },
    )
  })
}

/** Whether a kind is told apart by node: what does harm is allowed no wider than it was seen. */
export const isNarrow = (service: string, reason: string): boolean =>
  reason === 'node' || reason === 'attribute' || reason === 'value' || !HARMLESS.has(GROUP_OF.get(service) ?? '')

/** How `toMode` begins where the conduit has nothing against a channel, and no rule is for one. */
const NO_RULE = 'no rule for a channel of '

/** Whether an event tells of a channel for which only a rule was missing. */
export const lacksRule = (kind: string, reason: string, detail: string): boolean =>
  kind === 'channel' && (reason === 'pair' || (reason === 'security' && detail.startsWith(NO_RULE)))

/** A channel for which there was no rule needs none of its own: one for what the client asks opens it. */
export function isOpenedByNow(policy: Policy, { conduit, client, target, port, ruleless }: Sighting): boolean {
  if (!ruleless) return false
  return (placesOf(policy, 'opcua') as ProtocolPlace<OpcUaProtocol>[]).some(
    (place) =>
      place.conduit.id === conduit &&
      leadsTo(policy, place, { client, target, port }) &&
      place.protocol.rules.some(
        (rule) =>
          rule.action === 'allow' &&
          rule.mode !== 'monitor' &&
          isAnyChannel(rule) &&
          holds(rule.from, client) &&
          holds(rule.to, target),
      ),
  )
}

/** Why no rule mends it, and what a person has to decide. */
function mendOpcUa({ kind, reason, service, detail, ruleless }: Sighting): string {
  if (ruleless) return 'a channel has none of its own: it opens once a rule allows what this client asks'
  if (service === 'encrypted' || reason === 'security' || kind === 'channel') {
    const why = service === 'encrypted' ? 'encryption hides it' : `the channel's security${detail && ` (${detail})`}`
    return `${why}: decide whether to terminate it (handling: terminate), to change the security that is allowed (security_modes, security_policies, certificates, endpoint_urls), or to mend the client`
  }
  if (reason === 'malformed') return 'what breaks the specification is not let through; mend the sender'
  if (reason === 'rate')
    return `a limit does: decide on ${kind === 'connection' ? 'limits.connections' : 'the limits of the protocol'}`
  if (kind === 'connection') return 'a connection whose requests were not seen: decide who it is, and what it may ask'
  if (service === 'SessionlessInvoke') return 'a request inside a request, which no rule may allow; mend the client'
  if (service === 'unknown' || service === null) return 'a request of no service that is known; look at the client'
  return `no rule can (reason ${reason}): decide whether the peer is to be mended`
}

/** What a policy says of it: a rule allows it, a rule denies it, or neither. A namespace's URI and its index are not matched. */
export function sightedStanding(
  policy: Policy,
  grant: SightedGrant,
  nearest: string | null,
): 'allowed' | 'denied' | 'open' {
  const request = SERVICES.find(({ name }) => name === grant.service)?.request ?? -1
  for (const place of placesOf(policy, 'opcua') as ProtocolPlace<OpcUaProtocol>[]) {
    if (!leadsTo(policy, place, grant)) continue
    const rules = place.protocol.rules.filter(
      (rule) => holds(rule.from, grant.client) && holds(rule.to, grant.target) && rule.services.includes(request),
    )
    if (rules.some((rule) => rule.action === 'deny' && rule.name === nearest)) return 'denied'
    const sure = rules.filter((rule) => rule.mode !== 'monitor' && isAnyChannel(rule))
    const denying = sure.filter((rule) => rule.action === 'deny')
    if (denying.some((rule) => isWhole(rule) || reaches(rule, grant))) return 'denied'
    const allowing = sure.filter((rule) => rule.action === 'allow')
    if (allowing.some((rule) => (isWhole(rule) && rule.values === null) || reaches(rule, grant))) return 'allowed'
  }
  return 'open'
}

const isWhole = (rule: OpcUaRule): boolean => rule.nodes === null && rule.attributes === null && rule.methods === null

/** A rule for some channels only may not be asked about the next one. */
const isAnyChannel = (rule: OpcUaRule): boolean =>
  rule.securityMode === null && rule.securityPolicies === null && rule.certificates === null

/** Whether a rule has all that a grant names. */
function reaches(rule: OpcUaRule, grant: SightedGrant): boolean {
  if (grant.method !== null && rule.methods !== null) return hasMethod(rule.methods, ...grant.method)
  const nodes = grant.nodes ?? grant.method
  // By service alone it is as much as any node.
  if (nodes === null) return rule.nodes === null && rule.attributes === null
  if (rule.nodes !== null && !nodes.every((text) => hasNode(rule.nodes as NodePattern[], text))) return false
  if (rule.attributes !== null && grant.attribute !== null) {
    if (!rule.attributes.includes(ATTRIBUTES.indexOf(grant.attribute as (typeof ATTRIBUTES)[number]))) return false
  }
  const limits = (rule.values ?? []).filter(({ node }) => nodes.some((text) => hasNode([node], text)))
  if (limits.length === 0 || grant.values === null) return true
  const { least, greatest } = grant.values
  return limits.every(({ min, max }) => (min === null || least >= min) && (max === null || greatest <= max))
}

function holds(blocks: readonly AddressBlock[], text: string): boolean {
  const address = parseAddress(text)
  return address !== null && blocks.some((block) => blockHolds(block, address))
}

/** As few rules as say exactly the same. */
export function sightedRules(
  grants: readonly SightedGrant[],
  nameOf: (address: string) => string,
  taken: ReadonlySet<string> = new Set(),
): SightedRule[] {
  const parts = new Map<string, SightedGrant[]>()
  for (const grant of grants) {
    const { client, target, port, service, nodes, attribute, method } = grant
    const apart = nodes === null && method === null ? [] : [service, attribute, method !== null]
    // A bound holds for its node in all of a rule's grants.
    const key = JSON.stringify([client, target, port, ...apart, grant.values !== null])
    parts.set(key, [...(parts.get(key) ?? []), grant])
  }
  const names = new Set(taken)
  return [...parts.values()].map((own) => {
    const [{ client, target }] = own
    const services = [...new Set(own.map((one) => one.service))]
    const base = opcuaName({ row: { client, target }, services }, nameOf)
    let name = base
    for (let n = 2; names.has(name); n++) name = `${base.slice(0, 114)} (${n})`
    names.add(name)
    return { name, grants: own }
  })
}

export function sightedRuleNode({ name, grants }: SightedRule, nameOf: (address: string) => string) {
  const [{ client, target, attribute }] = grants
  const nodes = nodePatterns(grants.flatMap((one) => one.nodes ?? []))
  const methods = unique(grants.flatMap((one) => (one.method === null ? [] : [methodText(one.method) as string])))
  const limits = new Map<string, { min: number; max: number }>()
  for (const one of grants) {
    const { values } = one
    if (values === null) continue
    for (const text of one.nodes ?? []) {
      const pattern = patternOf(text) as string
      const { min, max } = limits.get(pattern) ?? { min: values.least, max: values.greatest }
      limits.set(pattern, { min: Math.min(min, values.least), max: Math.max(max, values.greatest) })
    }
  }
  return {
    name,
    from: [nameOf(client)],
    to: [nameOf(target)],
    services: unique(grants.map((one) => one.service)),
    ...(nodes.length > 0 ? { nodes } : {}),
    ...(attribute !== null ? { attributes: [attribute] } : {}),
    ...(methods.length > 0 ? { methods } : {}),
    ...(limits.size > 0 ? { values: Object.fromEntries(limits) } : {}),
  }
}

const unique = (list: readonly string[]): string[] => [...new Set(list)]

/** What a rule rests on, as a comment. */
export function sightedEvidence({ grants }: SightedRule): string {
  const count = grants.reduce((sum, one) => sum + one.count, 0)
  const span = Math.max(...grants.map((one) => one.last)) - Math.min(...grants.map((one) => one.first))
  return ` ${plural(count, 'request')}${span > 0 ? ` in ${spanText(span)}` : ''}`
}
