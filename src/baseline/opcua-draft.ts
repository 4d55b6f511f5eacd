/** OPC UA in a draft: a conduit for each pair of zones and port, with rules by service. */
import { OPCUA_SECURITY_MODES, OPCUA_SECURITY_POLICIES } from '../protocols/opcua/security.ts'
import { type BaselineNode, type BaselineOpcUa, requestsOf } from './baseline-file.ts'
import { isEndpointUrl, isTerminated, nodeName, type OpcUaGrant, valueText } from './opcua-assess.ts'
import { methodText, nodePatterns } from './opcua-nodes.ts'
import type { Places, ProposedZone } from './places.ts'
import { plural, spanText } from './rules.ts'

/** One rule, with what it rests on: grants of one client for the same services, to one server or several. */
export interface OpcUaDraftRule {
  name: string
  grants: OpcUaGrant[]
}

export interface OpcUaConduit {
  id: string
  client: ProposedZone
  target: ProposedZone
  port: number
  rules: OpcUaDraftRule[]
  modes: string[]
  policies: string[]
  urls: string[]
  /** Encrypted channels end at the gateway. */
  terminated: boolean
  /** Clients to which servers open the connection. */
  reverse: string[]
}

/** @param before how many conduits there are already */
export function opcuaConduitsOf(grants: readonly OpcUaGrant[], places: Places, before: number): OpcUaConduit[] {
  const nameOf = (address: string): string => places.assetOf.get(address)?.name ?? address
  const parts = new Map<string, OpcUaConduit>()
  for (const grant of grants) {
    const { row } = grant
    const client = places.zoneOf.get(row.client) as ProposedZone
    const target = places.zoneOf.get(row.target) as ProposedZone
    const key = `${client.id} ${target.id} ${row.port}`
    const id = `C${before + parts.size + 1}`
    const none = { rules: [], modes: [], policies: [], urls: [], terminated: false, reverse: [] }
    const part = parts.get(key) ?? { id, client, target, port: row.port, ...none }
    parts.set(key, part)
    const terms = termsOf(grant)
    const like = part.rules.find(({ grants: [one] }) => one.row.client === row.client && termsOf(one) === terms)
    if (like !== undefined) like.grants.push(grant)
    else part.rules.push({ name: '', grants: [grant] })
    if (row.reversed > 0) part.reverse = [...new Set([...part.reverse, row.client])].sort()
    part.terminated ||= isTerminated(row)
    // What a channel carries that stays encrypted cannot be held to a rule by service: it is for a person to decide.
    const open = row.channels.filter(({ mode }) => mode !== 'SignAndEncrypt' || isTerminated(row))
    // Discovery passes on None whatever the modes are.
    const used = open.filter(({ requests }) => requests > 0)
    const seen = used.length > 0 ? used : open
    const modes = seen.map(({ mode }) => (mode === 'in clear' ? 'None' : mode))
    part.modes = known(OPCUA_SECURITY_MODES, [...part.modes, ...modes])
    part.policies = known(OPCUA_SECURITY_POLICIES, [...part.policies, ...seen.map(({ policy }) => policy)])
    part.urls = [...new Set([...part.urls, ...row.endpoint_urls.filter(isEndpointUrl)])].sort()
  }
  for (const part of parts.values()) {
    if (part.terminated) {
      part.modes = part.modes.filter((mode) => mode !== 'None')
      part.policies = part.policies.filter((policy) => policy !== 'None')
    }
    // A channel that was open before the capture began tells nothing of its policy.
    if (part.modes.length === 0) part.modes = ['None']
    if (part.policies.length === 0 || (part.modes.includes('None') && !part.policies.includes('None')))
      part.policies = ['None', ...part.policies]
    const taken = new Set<string>()
    for (const rule of part.rules) {
      const names = [...new Set(rule.grants.map(({ row }) => nameOf(row.target)))]
      const base = `${opcuaName(rule.grants[0], nameOf, names)}`
      let name = base
      for (let n = 2; taken.has(name); n++) name = `${base} (${n})`
      taken.add(name)
      rule.name = name
    }
  }
  return [...parts.values()]
}

/** What one rule says beside its hosts. */
const termsOf = ({ services, nodes }: OpcUaGrant): string => JSON.stringify([services, nodes?.map(nodeName).sort()])

/** In the specification's order. */
const known = (all: readonly string[], some: readonly string[]): string[] => all.filter((one) => some.includes(one))

/** `HIST-01 reads OPC-01`. */
export function opcuaName(
  { row, services }: { row: Pick<OpcUaGrant['row'], 'client' | 'target'>; services: readonly string[] },
  nameOf: (address: string) => string,
  targets: readonly string[] = [nameOf(row.target)],
): string {
  const [only] = services
  const verb =
    services.length > 1
      ? 'reads'
      : only === 'Write'
        ? 'writes'
        : only === 'Call'
          ? 'calls methods of'
          : `uses ${only} of`
  const list = targets.length > 2 ? `${targets.length} servers` : targets.join(' and ')
  return `${nameOf(row.client)} ${verb} ${list}`.slice(0, 120)
}

export function opcuaRuleNode({ name, grants }: OpcUaDraftRule, nameOf: (address: string) => string) {
  const [{ row, services, securityMode, nodes }] = grants
  return {
    name,
    from: [nameOf(row.client)],
    to: [...new Set(grants.map((one) => nameOf(one.row.target)))],
    services,
    ...(nodes === null ? {} : nodeTerms(nodes)),
    ...(securityMode === null ? {} : { security_mode: securityMode }),
  }
}

/** What of a rule names nodes, or methods. */
function nodeTerms(nodes: readonly BaselineNode[]) {
  const [{ method, attribute }] = nodes
  if (method !== null)
    return { methods: nodes.map((one) => methodText([one.node, one.method as string]) as string).sort() }
  return {
    nodes: nodePatterns(nodes.map(({ node }) => node)),
    ...(attribute === null ? {} : { attributes: [attribute] }),
  }
}

/** Where a conduit that terminates is proposed to keep them: see `headgate pki`. */
const CERTIFICATES = { own: 'pki/own', trusted_clients: 'pki/clients', trusted_servers: 'pki/servers' }

const HEAD_ROOM = 1.5

/** The busiest second of each service, as if all came in one second, with head room. */
function limitsOf(rows: readonly BaselineOpcUa[]) {
  const [clients, targets] = [new Map<string, number>(), new Map<string, number>()]
  for (const row of new Set(rows)) {
    const busiest = Object.values(row.services).reduce((sum, { rate }) => sum + rate.max, 0)
    clients.set(row.client, (clients.get(row.client) ?? 0) + busiest)
    targets.set(row.target, (targets.get(row.target) ?? 0) + busiest)
  }
  const most = (sums: ReadonlyMap<string, number>, limit: number): number =>
    Math.min(limit, Math.max(1, ...[...sums.values()].map((sum) => Math.ceil(sum * HEAD_ROOM))))
  return {
    per_client_per_second: most(clients, 1_000_000),
    per_target_per_second: most(targets, 1_000_000),
    burst: Math.min(100_000, 2 * most(targets, 1_000_000)),
  }
}

export function opcuaConduitNode(one: OpcUaConduit, nameOf: (address: string) => string): Record<string, unknown> {
  return {
    conduit_id: one.id,
    name: `${one.client.name} to ${one.target.name}, OPC UA`,
    connects: [one.target.id, one.client.id],
    mode: 'monitor',
    protocols_allowed: [
      {
        protocol: 'OPC UA',
        port: one.port,
        direction: `${one.client.id} -> ${one.target.id}`,
        rules: one.rules.map((rule) => opcuaRuleNode(rule, nameOf)),
        limits: { requests: limitsOf(one.rules.flatMap(({ grants }) => grants.map(({ row }) => row))) },
        opcua: {
          handling: one.terminated ? 'terminate' : 'inspect',
          ...(one.terminated ? { certificates: CERTIFICATES } : {}),
          security_modes: one.modes,
          security_policies: one.policies,
          ...(one.urls.length > 0 ? { endpoint_urls: one.urls } : {}),
          ...(one.reverse.length > 0 ? { reverse_connect: one.reverse.map(nameOf) } : {}),
        },
      },
    ],
  }
}

/** Nodes and services that a comment spells out. */
const SHOWN = 6

/** What a rule rests on, in one or two lines. */
export function opcuaEvidence({ grants }: OpcUaDraftRule): string[] {
  const spans = grants.flatMap(({ row, services }) => services.map((name) => row.services[name] ?? row))
  const first = spans.reduce((least, one) => (one.first < least ? one.first : least), spans[0].first)
  const last = spans.reduce((most, one) => (one.last > most ? one.last : most), spans[0].last)
  const span = spanText(Date.parse(last) - Date.parse(first))
  if (grants[0].nodes !== null)
    return [
      nodeEvidence(
        grants.flatMap(({ nodes }) => nodes ?? []),
        span,
      ),
    ]
  const counts = new Map<string, number>()
  for (const { row, services } of grants) {
    for (const name of services) counts.set(name, (counts.get(name) ?? 0) + requestsOf(row, [name]))
  }
  const all = [...counts.values()].reduce((sum, n) => sum + n, 0)
  const shown = [...counts].sort((a, b) => b[1] - a[1]).slice(0, SHOWN)
  const list = shown.map(([name, n]) => `${name} ${n.toLocaleString('en')}`).join(', ')
  const read = readEvidence(grants)
  return [
    `${plural(all, 'request')} in ${span}: ${list}${counts.size > shown.length ? ', \u2026' : ''}`,
    ...(read === null ? [] : [read]),
  ]
}

function nodeEvidence(nodes: readonly BaselineNode[], span: string): string {
  const counts = new Map<string, number>()
  for (const one of nodes) {
    const text = `${nodeName(one)}${valueText(one)}`
    counts.set(text, (counts.get(text) ?? 0) + one.requests)
  }
  const all = [...counts.values()].reduce((sum, n) => sum + n, 0)
  const shown = [...counts].sort((a, b) => b[1] - a[1]).slice(0, SHOWN)
  const list = shown.map(([text, n]) => `${text} ${plural(n, 'time')}`).join(', ')
  return `${plural(all, 'item')} in ${span}: ${list}${counts.size > shown.length ? ', \u2026' : ''}`
}

/** By namespace, how many nodes the services named that a rule allows for any node; null: none did. */
function readEvidence(grants: readonly OpcUaGrant[]): string | null {
  const nodes = new Set<string>()
  let more = 0
  for (const { row, services } of grants) {
    for (const name of services) {
      const service = row.services[name]
      for (const { node } of service?.nodes ?? []) nodes.add(node)
      more += (service?.unlisted ?? 0) + (service?.unread ?? 0)
    }
  }
  if (nodes.size === 0) return null
  const namespaces = new Map<string, number>()
  for (const node of nodes) {
    const name = /^nsu?=([^;]+);/.exec(node)?.[1] ?? '0'
    namespaces.set(name, (namespaces.get(name) ?? 0) + 1)
  }
  const list = [...namespaces]
    .sort()
    .slice(0, SHOWN)
    .map(([name, n]) => `${n.toLocaleString('en')} of namespace ${name}`)
  const rest = more === 0 ? '' : `, and ${more.toLocaleString('en')} times others`
  return `of any node; named were ${list.join(', ')}${namespaces.size > SHOWN ? ', \u2026' : ''}${rest}`
}
