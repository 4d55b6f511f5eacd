/**
 * What a baseline has and a policy lacks, added to the policy's own document: new rules at the end of a conduit's
 * rules, not a byte changed elsewhere.
 */
import { isMap, isSeq, type Node, parseDocument, stringify, type YAMLSeq } from 'yaml'
import { blockHolds, parseAddress } from '../policy/address.ts'
import { checkPolicy } from '../policy/load.ts'
import type { ConduitProtocol, ModbusProtocol, OpcUaProtocol, Policy, Zone } from '../policy/model.ts'
import { assess, type DecideItem, functionText, numbered } from './assess.ts'
import { type BaselineFile, type BaselineFlow, requestsOf } from './baseline-file.ts'
import { coverage, leadsTo, opcuaRest, opcuaStanding, type ProtocolPlace, placesOf, standing } from './coverage.ts'
import { type DraftOptions, ruleNode } from './draft.ts'
import type { OpcUaGrant } from './opcua-assess.ts'
import { type OpcUaDraftRule, opcuaEvidence, opcuaName, opcuaRuleNode } from './opcua-draft.ts'
import { type SightedGrant, type SightedRule, sightedEvidence, sightedRuleNode, sightedRules } from './opcua-sighted.ts'
import { buildRules, type DraftRule, evidenceText } from './rules.ts'

export interface Patch {
  text: string
  /** Rules that were added, with the conduit they were added to. */
  added: { conduit: string; rule: DraftRule | OpcUaDraftRule | SightedRule }[]
  decide: DecideItem[]
}

/** Where rules of one conduit go. */
export interface Place {
  conduit: string
  /** Index of the conduit, and of the protocol in it. */
  path: [number, number]
  protocol: ModbusProtocol
}

/** What a document shall allow. */
export interface Grant {
  flow: BaselineFlow
  /** Set: what is written must lie within, and what other rules say of values does not matter. */
  values?: { least: number; greatest: number }
}

export interface Granted {
  text: string
  added: Patch['added']
  /** What was not added, and why. */
  refused: { grant: Grant; why: string }[]
}

/**
 * @param text the document that `policy` was read from
 * @param policy the same, checked
 */
export function patchPolicy(text: string, policy: Policy, baseline: BaselineFile, options: DraftOptions): Patch {
  const { allow, opcua, decide } = assess(baseline, options)
  const items: Omit<DecideItem, 'id'>[] = decide.filter(
    ({ flow, opcua }) =>
      (flow === null || standing(policy, flow) !== 'allowed') &&
      (opcua == null || opcuaStanding(policy, opcua) !== 'allowed'),
  )
  const wanted = allow.filter((flow) => standing(policy, flow) !== 'allowed').map((flow) => ({ flow }))
  const { text: patched, added, refused } = addRules(text, policy, wanted, { slack: options.slack, label: 'learned' })
  for (const { grant, why } of refused) items.push({ ...grant.flow, kind: 'out-of-place', why, flow: null })
  const next = addOpcUa(
    patched,
    policy,
    opcua.filter((grant) => opcuaStanding(policy, grant) !== 'allowed'),
    items,
  )
  return { text: next.text, added: [...added, ...next.added], decide: numbered(items) }
}

/** Rules for services of OPC UA that no rule allows yet; what cannot be added is to be decided on. */
function addOpcUa(
  text: string,
  policy: Policy,
  grants: readonly OpcUaGrant[],
  items: Omit<DecideItem, 'id'>[],
): Pick<Patch, 'text' | 'added'> {
  const nameOf = namesIn(policy)
  const added: Patch['added'] = []
  let patched = text
  const taken = new Set(policy.conduits.flatMap(({ protocols }) => protocols.flatMap(ruleNames)))
  for (const grant of grants) {
    const { row, services } = grant
    const { client, target, port, first, last } = row
    const found = between(policy, row, 'opcua')
    let why = typeof found === 'string' ? found : null
    if (typeof found !== 'string') {
      const rest = opcuaRest(policy, grant) ?? grant
      const base = opcuaName(rest, nameOf)
      let name = base
      for (let n = 2; taken.has(name); n++) name = `${base.slice(0, 114)} (${n})`
      const rule = { name, grants: [rest] }
      const lines = opcuaEvidence(rule).map((line) => `# learned: ${line}`)
      const next = insert(patched, found.at, opcuaRuleNode(rule, nameOf), lines)
      why = next === null ? 'its conduit has no list of rules to add to' : firstError(policy.file, next)
      if (next !== null && why === null) {
        patched = next
        taken.add(name)
        added.push({ conduit: found.conduit.id, rule })
        continue
      }
    }
    const requests = requestsOf(row, services)
    const nothing = { unit: null, function: null, sub: null, flow: null }
    items.push({
      kind: 'out-of-place',
      client,
      target,
      port,
      ...nothing,
      requests,
      first,
      last,
      why: why ?? '',
      services,
    })
  }
  return { text: patched, added }
}

const ruleNames = (protocol: ConduitProtocol): string[] =>
  protocol.kind === 'other' ? [] : protocol.rules.map(({ name }) => name)

export interface GrantOptions {
  /** Reads: ranges with at most this many unused addresses between them become one. */
  slack: number
  /** The first word of the comment above each rule. */
  label: string
}

/** The names of addresses in a policy: its assets'; any other address stands for itself. */
export function namesIn(policy: Policy): (address: string) => string {
  const names = new Map(policy.zones.flatMap((zone) => zone.assets.map((one) => [one.address.base, one.name] as const)))
  return (address) => names.get(parseAddress(address) ?? -1n) ?? address
}

/**
 * Adds rules for what no rule allows yet; where a rule denies it, or no conduit carries it, says so.
 * @param text the document that `policy` was read from
 */
export function addRules(text: string, policy: Policy, grants: readonly Grant[], options: GrantOptions): Granted {
  const refused: Granted['refused'] = []
  const byConduit = new Map<string, { place: Place; flows: BaselineFlow[]; valued: Grant[] }>()
  const partial = new Set<BaselineFlow>()
  const sourceOf = new Map<BaselineFlow, Grant>()
  for (const grant of grants) {
    const place = placeOf(policy, grant.flow)
    if (typeof place === 'string') {
      refused.push({ grant, why: place })
      continue
    }
    const { rest, deniedBy } = coverage(place.protocol, grant.flow)
    if (deniedBy !== null) {
      refused.push({ grant, why: `rule "${deniedBy.name}" of conduit ${place.conduit} denies it` })
      continue
    }
    const known = byConduit.get(place.conduit) ?? { place, flows: [], valued: [] }
    byConduit.set(place.conduit, known)
    if (grant.values !== undefined) known.valued.push(grant)
    else if (rest !== null) {
      known.flows.push(rest)
      sourceOf.set(rest, grant)
      if (rest !== grant.flow) partial.add(rest)
    }
  }
  const nameOf = namesIn(policy)
  const added: Patch['added'] = []
  let patched = text
  for (const { place, flows, valued } of byConduit.values()) {
    const taken = new Set(place.protocol.rules.map((rule) => rule.name))
    const drafted = buildRules(flows, { slack: options.slack, nameOf, taken }).map((rule) => ({
      rule,
      given: rule.evidence.map((flow) => sourceOf.get(flow) as Grant),
    }))
    for (const { rule } of drafted) taken.add(rule.name)
    for (const grant of valued) {
      const [rule] = buildRules([grant.flow], { slack: 0, nameOf, taken })
      taken.add(rule.name)
      drafted.push({ rule: { ...rule, values: grant.values }, given: [grant] })
    }
    for (const { rule, given } of drafted) {
      const partly = rule.evidence.some((one) => partial.has(one))
      const comments = evidenceText(rule).map(
        (line, n) => `# ${options.label}: ${partly && n === 0 ? 'among ' : ''}${line}`,
      )
      const next = insert(patched, place.path, ruleNode(rule, nameOf), comments)
      const why = next === null ? 'its conduit has no list of rules to add to' : firstError(policy.file, next)
      if (next === null || why !== null) {
        for (const grant of given) refused.push({ grant, why: why as string })
        continue
      }
      patched = next
      added.push({ conduit: place.conduit, rule })
    }
  }
  return { text: patched, added, refused }
}

/** The protocol that a rule for it would go into; a sentence where none can. */
export function opcuaPlaceOf(policy: Policy, grant: SightedGrant): ProtocolPlace | string {
  const found = between(policy, grant, 'opcua')
  if (typeof found === 'string') return found
  const { id } = found.conduit
  const { rules, handling, securityModes } = found.protocol as OpcUaProtocol
  if (rules.some((rule) => rule.fromProse))
    return `conduit ${id} has no rules but its direction, and ${grant.service} is not in that`
  if (handling === 'inspect' && securityModes.includes('SignAndEncrypt'))
    return `conduit ${id} allows encrypted channels, on which no rule can be held to services: decide on handling: terminate, or on security_modes without SignAndEncrypt`
  return found
}

/** Adds rules for OPC UA that the evidence shows: all of them, or none. @returns a sentence where one cannot be added */
export function addSighted(
  text: string,
  policy: Policy,
  grants: readonly SightedGrant[],
  label: string,
): Pick<Patch, 'text' | 'added'> | string {
  const nameOf = namesIn(policy)
  const byPlace = new Map<string, { place: ProtocolPlace; own: SightedGrant[] }>()
  for (const grant of grants) {
    const place = opcuaPlaceOf(policy, grant)
    if (typeof place === 'string') return place
    const known = byPlace.get(place.at.join()) ?? { place, own: [] }
    byPlace.set(place.at.join(), known)
    known.own.push(grant)
  }
  const added: Patch['added'] = []
  let patched = text
  for (const { place, own } of byPlace.values()) {
    for (const rule of sightedRules(own, nameOf, new Set(place.protocol.rules.map(({ name }) => name)))) {
      const next = insert(patched, place.at, sightedRuleNode(rule, nameOf), [`# ${label}:${sightedEvidence(rule)}`])
      const why = next === null ? 'its conduit has no list of rules to add to' : firstError(policy.file, next)
      if (next === null || why !== null) return why as string
      patched = next
      added.push({ conduit: place.conduit.id, rule })
    }
  }
  return { text: patched, added }
}

/** @returns the conduit that a flow belongs to; a sentence where there is none */
export function placeOf(policy: Policy, flow: BaselineFlow): Place | string {
  const found = between(policy, flow, 'modbus')
  if (typeof found === 'string') return found
  const protocol = found.protocol as ModbusProtocol
  if (protocol.rules.some((rule) => rule.fromProse)) {
    return `conduit ${found.conduit.id} has no rules but its direction, and ${functionText(flow.function, flow.sub)} is not in that`
  }
  return { conduit: found.conduit.id, path: found.at, protocol }
}

/** @returns the conduit between a client and a target that carries a protocol; a sentence where there is none */
function between(
  policy: Policy,
  pair: Pick<BaselineFlow, 'client' | 'target' | 'port'>,
  kind: 'modbus' | 'opcua',
): ProtocolPlace | string {
  const [client, target] = [zoneOf(policy, pair.client), zoneOf(policy, pair.target)]
  if (client === null) return `${pair.client} is in no zone of the policy`
  if (target === null) return `${pair.target} is in no zone of the policy`
  if (client === target) return `both are in zone ${client.id}: no conduit lies between them`
  const all = placesOf(policy, kind).filter(
    ({ conduit }) => conduit.connects.includes(client.id) && conduit.connects.includes(target.id),
  )
  const found = all.find((place) => leadsTo(policy, place, pair))
  if (found !== undefined) return found
  const port = all.length === 0 ? '' : ` on port ${pair.port}`
  return `no conduit carries ${kind === 'modbus' ? 'Modbus/TCP' : 'OPC UA'} between ${client.id} and ${target.id}${port}`
}

/** The zone of an asset with this address; else the zone of the smallest network that holds it. */
function zoneOf(policy: Policy, text: string): Zone | null {
  const address = parseAddress(text)
  if (address === null) return null
  const asset = policy.zones.find((zone) => zone.assets.some((one) => one.address.base === address))
  if (asset !== undefined) return asset
  let best: Zone | null = null
  let bits = -1
  for (const zone of policy.zones) {
    for (const block of zone.networks) {
      if (block.bits <= bits || !blockHolds(block, address)) continue
      best = zone
      bits = block.bits
    }
  }
  return best
}

/**
 * @param comments lines above the rule, with their #
 * @returns the document with the rule behind the last of its conduit's; null where there is no list to add to
 */
function insert(
  text: string,
  [i, j]: [number, number],
  node: Record<string, unknown>,
  comments: readonly string[],
): string | null {
  const document = parseDocument(text)
  const rules = document.getIn(['conduits', i, 'protocols_allowed', j, 'rules'], true) as YAMLSeq | undefined
  if (!isSeq(rules) || !rules.range) return null
  if (rules.flow === true || rules.items.length === 0) {
    const end = rules.range[1] - 1
    if (text[end] !== ']') return null
    const before = text.slice(0, end).trimEnd()
    const comma = before.endsWith('[') || before.endsWith(',') ? '' : ','
    return `${before}${comma} ${JSON.stringify(node)} ${text.slice(end)}`
  }
  const last = rules.items[rules.items.length - 1] as Node
  if (!isMap(last) || !last.range) return null
  const [start, valueEnd] = last.range
  const lineStart = text.lastIndexOf('\n', start - 1) + 1
  const dash = text.lastIndexOf('-', start)
  if (dash < lineStart) return null
  const indent = ' '.repeat(dash - lineStart)
  // Behind the last line of the last rule, and what comment that line ends with.
  let at = valueEnd
  if (text[at - 1] !== '\n') {
    const newline = text.indexOf('\n', at)
    at = newline === -1 ? text.length : newline + 1
  }
  const eol = text.includes('\r\n') ? '\r\n' : '\n'
  const lines = [...comments, ...ruleLines(node)]
  const block = lines.map((line) => `${indent}${line}${eol}`).join('')
  const head = text.slice(0, at)
  return `${head}${head.endsWith('\n') ? '' : eol}${block}${text.slice(at)}`
}

/** The rule in block form, its lists on one line each, but for long ones of nodes. */
export function ruleLines(node: Record<string, unknown>): string[] {
  const flat = (value: unknown): string => stringify(value, { collectionStyle: 'flow', lineWidth: 0 }).trimEnd()
  return Object.entries(node).flatMap(([key, value], index) => {
    const head = `${index === 0 ? '- ' : '  '}${key}:`
    // Nodes by the dozen are read one below the other.
    if ((key === 'nodes' || key === 'methods') && Array.isArray(value) && value.length > FLAT_NODES)
      return [head, ...value.map((one) => `    - ${flat(one)}`)]
    return [`${head} ${flat(value)}`]
  })
}

/** Nodes that stand on one line. */
const FLAT_NODES = 4

/** @returns the first error that `check` has with a document; null: it is sound */
function firstError(file: string, text: string): string | null {
  const { findings, policy } = checkPolicy(file, Buffer.from(text))
  if (policy !== null) return null
  return findings.find((one) => one.severity === 'error')?.message ?? 'the document could not be read back'
}
