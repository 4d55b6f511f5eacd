/** OPC UA in a draft: a conduit for each pair of zones and port, with rules by service. */
import { OPCUA_SECURITY_MODES, OPCUA_SECURITY_POLICIES } from '../protocols/opcua/security.ts'
import { requestsOf } from './baseline-file.ts'
import type { OpcUaGrant } from './opcua-assess.ts'
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
}

/** @param before how many conduits there are already */
export function opcuaConduitsOf(grants: readonly OpcUaGrant[], places: Places, before: number): OpcUaConduit[] {
  const nameOf = (address: string): string => places.assetOf.get(address)?.name ?? address
  const parts = new Map<string, OpcUaConduit>()
  for (const grant of grants) {
    const { row, services } = grant
    const client = places.zoneOf.get(row.client) as ProposedZone
    const target = places.zoneOf.get(row.target) as ProposedZone
    const key = `${client.id} ${target.id} ${row.port}`
    const id = `C${before + parts.size + 1}`
    const part = parts.get(key) ?? { id, client, target, port: row.port, rules: [], modes: [], policies: [], urls: [] }
    parts.set(key, part)
    const like = part.rules.find(
      ({ grants: [one] }) => one.row.client === row.client && one.services.join() === services.join(),
    )
    if (like !== undefined) like.grants.push(grant)
    else part.rules.push({ name: '', grants: [grant] })
    // What an encrypted channel carries cannot be held to a rule by service: it is for a person to decide.
    const seen = row.channels.filter(({ mode }) => mode !== 'SignAndEncrypt')
    const modes = seen.map(({ mode }) => (mode === 'in clear' ? 'None' : mode))
    part.modes = known(OPCUA_SECURITY_MODES, [...part.modes, ...modes])
    part.policies = known(OPCUA_SECURITY_POLICIES, [...part.policies, ...seen.map(({ policy }) => policy)])
    part.urls = [...new Set([...part.urls, ...row.endpoint_urls])].sort()
  }
  for (const part of parts.values()) {
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
  const [{ row, services, securityMode }] = grants
  return {
    name,
    from: [nameOf(row.client)],
    to: [...new Set(grants.map((one) => nameOf(one.row.target)))],
    services,
    ...(securityMode === null ? {} : { security_mode: securityMode }),
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
        opcua: {
          handling: 'inspect',
          security_modes: one.modes,
          security_policies: one.policies,
          ...(one.urls.length > 0 ? { endpoint_urls: one.urls } : {}),
        },
      },
    ],
  }
}

/** What a rule rests on, as a comment. */
export function opcuaEvidence({ grants }: OpcUaDraftRule): string {
  const first = grants.reduce((least, { row }) => (row.first < least ? row.first : least), grants[0].row.first)
  const last = grants.reduce((most, { row }) => (row.last > most ? row.last : most), grants[0].row.last)
  const counts = new Map<string, number>()
  for (const { row, services } of grants) {
    for (const name of services) counts.set(name, (counts.get(name) ?? 0) + requestsOf(row, [name]))
  }
  const all = [...counts.values()].reduce((sum, n) => sum + n, 0)
  const shown = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 6)
  const list = shown.map(([name, n]) => `${name} ${n.toLocaleString('en')}`).join(', ')
  const more = counts.size > shown.length ? ', \u2026' : ''
  return ` ${plural(all, 'request')} in ${spanText(Date.parse(last) - Date.parse(first))}: ${list}${more}`
}
