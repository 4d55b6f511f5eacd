/**
 * The document's claims held to what the document does: `direction`, `security_mode`, `controls`,
 * `security_requirements` and `allowed_conduits`, each read by the grammar of `claim-forms.ts`.
 */
import { serviceOf } from '../protocols/opcua/services.ts'
import { FORMS, holdReadOnly } from './claim-forms.ts'
import {
  byRules,
  type Carried,
  clientZones,
  isCalled,
  isInspected,
  type Outcome,
  type Place,
  place,
  rulePlace,
  type Scope,
  targetZones,
} from './claim-scope.ts'
import { deniedFunction, deniedService } from './denied.ts'
import { covers, type Direction, parseDirection } from './direction.ts'
import type { Path, SourceDocument } from './document.ts'
import type { Conduit, ModbusRule, OpcUaRule, Policy, Position, Zone } from './model.ts'
import { servicesClaimed } from './opcua-rules.ts'

export const CLAIM_STATUSES = {
  'enforced-here': 'this gateway enforces it, by the rules or limits named',
  contradicted: 'something else in the document says the opposite: an error',
  'not-enforced':
    'the document has what would enforce it, or should have, and nothing enforces it yet: never counted as met',
  'enforced-elsewhere': 'a firewall, a switch, a diode or an end point has to: named, and never counted as proved here',
  'not-machine-checkable': 'only people can attest it: listed, never counted as met',
} as const
export type ClaimStatus = keyof typeof CLAIM_STATUSES

export const CLAIM_KEYS = [
  'direction',
  'security_mode',
  'controls',
  'security_requirements',
  'allowed_conduits',
] as const
export type ClaimKey = (typeof CLAIM_KEYS)[number]

/** One claim, and what became of it. `line` and `column` are those of the prose that makes it. */
export interface Claim extends Position {
  status: ClaimStatus
  key: ClaimKey
  /** Id of the zone that claims; null where a conduit does. */
  zone: string | null
  conduit: string | null
  /** Name of the protocol, with `direction` and `security_mode`. */
  protocol: string | null
  /** The prose as written. */
  text: string
  /** The part of it that this claim is about; the whole, where it makes one claim. */
  part: string
  /** Id of the form of the grammar that reads it; null where none does. */
  form: string | null
  /** Who or what holds to it: rules, limits, a firewall, people. */
  by: string
  /** In one sentence, why the status is what it is. */
  detail: string
  /** Places that speak for it (enforced here) or against it (contradicted, not enforced). */
  places: Place[]
}

const MAX_PROTOCOLS = 1000

/** Finds every claim of a document, in its order. @param value the document as plain data */
export function holdClaims(value: unknown, policy: Policy, source: SourceDocument): Claim[] {
  const document = value as { zones?: unknown; conduits?: unknown }
  const claims: Claim[] = []
  const conduits = entries(document.conduits).flatMap(([path, raw], _, all) => {
    const id = raw.conduit_id
    // A conduit named twice is an error already; the first stands for both.
    const first = all.find(([, one]) => one.conduit_id === id)?.[1] === raw
    const conduit = first ? policy.conduits.find((one) => one.id === id) : undefined
    return conduit === undefined ? [] : [{ conduit, path: ['conduits', ...path], raw }]
  })
  for (const [path, raw] of entries(document.zones)) {
    const zone = policy.zones.find((one) => one.id === raw.zone_id)
    if (zone === undefined) continue
    const touching = conduits.filter(({ conduit }) => conduit.connects.includes(zone.id))
    const scope: Scope = {
      policy,
      source,
      zone,
      conduit: null,
      conduits: touching,
      carried: touching.flatMap(({ conduit, path: at }) => carriedOf(source, conduit, at)),
    }
    const at = ['zones', ...path]
    claims.push(...texts(scope, raw.security_requirements, 'security_requirements', at))
    if (Array.isArray(raw.allowed_conduits)) claims.push(allowedConduits(scope, zone, [...at, 'allowed_conduits']))
  }
  for (const { conduit, path, raw } of conduits) {
    const carried = carriedOf(source, conduit, path)
    const scope: Scope = { policy, source, zone: null, conduit, conduits: [{ conduit, path }], carried }
    for (const one of carried) claims.push(...ofProtocol({ ...scope, carried: [one] }, one))
    claims.push(...texts(scope, raw.controls, 'controls', path))
  }
  return claims
}

function entries(list: unknown): [Path, Record<string, unknown>][] {
  return (Array.isArray(list) ? list : []).flatMap((raw, index) =>
    typeof raw === 'object' && raw !== null ? [[[index], raw] as [Path, Record<string, unknown>]] : [],
  )
}

/** Entries that could not be read are no protocols of the policy: the rest are found again by their places. */
function carriedOf(source: SourceDocument, conduit: Conduit, conduitPath: Path): Carried[] {
  let index = 0
  return conduit.protocols.map((protocol) => {
    const pathOf = (at: number): Path => [...conduitPath, 'protocols_allowed', at]
    const here = (at: number): boolean => {
      const { line, column } = source.position(pathOf(at))
      return line === protocol.position.line && column === protocol.position.column
    }
    while (index < MAX_PROTOCOLS && !here(index)) index++
    return { conduit, protocol, conduitPath, path: pathOf(index++) }
  })
}

function texts(scope: Scope, list: unknown, key: ClaimKey, path: Path): Claim[] {
  return (Array.isArray(list) ? list : []).flatMap((text, index) =>
    typeof text === 'string' ? readText(scope, text, key, [...path, key, index]) : [],
  )
}

/** `head (more)` makes a claim of each part that a form reads; what no form reads goes with the head. */
function readText(scope: Scope, text: string, key: ClaimKey, path: Path): Claim[] {
  const match = /^([^()]*)\(([^()]*)\)([^()]*)$/s.exec(text)
  const parts = match === null ? [text] : [`${match[1]} ${match[3]}`, match[2]]
  const read = parts.map((part) => part.trim().replaceAll(/\s+/g, ' ')).map((part) => ({ part, form: formOf(part) }))
  const known = read.filter(({ form }) => form !== null)
  // A form of both parts reads once; a head that no form reads is still a claim.
  const claims = read[0].form === null ? [read[0], ...known] : known
  const once = claims.filter((one, index) => claims.findIndex((other) => other.form === one.form) === index)
  return once.map(({ part, form }) => claimOf(scope, key, path, text, part, form))
}

type Form = (typeof FORMS)[number]
const normal = (part: string): string =>
  part
    .toLowerCase()
    .replaceAll(/[\s-]+/g, ' ')
    .trim()
const formOf = (part: string): Form | null => FORMS.find((form) => form.pattern.test(normal(part))) ?? null

function claimOf(scope: Scope, key: ClaimKey, path: Path, text: string, part: string, form: Form | null): Claim {
  const match = form?.pattern.exec(normal(part)) ?? null
  const outcome: Outcome =
    form === null || match === null
      ? { status: 'not-machine-checkable', by: 'people', detail: 'no form of the grammar reads it; people attest it' }
      : form.hold(scope, match, text)
  return finish(scope, key, path, text, part, form?.id ?? null, outcome)
}

function finish(
  scope: Scope,
  key: ClaimKey,
  path: Path,
  text: string,
  part: string,
  form: string | null,
  { status, by, detail, places = [] }: Outcome,
): Claim {
  const protocol = key === 'direction' || key === 'security_mode' ? (scope.carried[0]?.protocol.protocol ?? null) : null
  return {
    ...scope.source.position(path),
    status,
    key,
    zone: scope.zone?.id ?? null,
    conduit: scope.conduit?.id ?? null,
    protocol,
    text,
    part,
    form,
    by,
    detail,
    places,
  }
}

function allowedConduits(scope: Scope, zone: Zone, path: Path): Claim {
  const allowed = zone.allowedConduits ?? []
  const stranger = scope.conduits.find(({ conduit }) => !allowed.includes(conduit.id))
  const text = allowed.length === 0 ? 'no conduits' : allowed.join(', ')
  const outcome: Outcome =
    stranger === undefined
      ? {
          status: 'enforced-elsewhere',
          by: 'boundary firewall, and the conduits of this document',
          detail: `no other conduit of this document touches ${zone.id}; that no other path exists is for the firewall's default deny`,
        }
      : {
          status: 'contradicted',
          by: `conduit ${stranger.conduit.id}`,
          detail: `conduit ${stranger.conduit.id} connects ${zone.id}, which does not allow it`,
          places: [place(scope, [...stranger.path, 'connects'], `connects of ${stranger.conduit.id}`)],
        }
  return finish(scope, 'allowed_conduits', path, text, text, 'allowed-conduits', outcome)
}

function ofProtocol(scope: Scope, one: Carried): Claim[] {
  const { direction } = one.protocol
  const raw = scope.source.value as { conduits: { protocols_allowed: { security_mode?: unknown }[] }[] }
  const [, conduit, , protocol] = one.path as [string, number, string, number]
  const securityMode = raw.conduits[conduit]?.protocols_allowed[protocol]?.security_mode
  const claims: Claim[] = []
  if (direction !== null) claims.push(...ofDirection(scope, one, direction))
  if (typeof securityMode === 'string')
    claims.push(...readText(scope, securityMode, 'security_mode', [...one.path, 'security_mode']))
  return claims
}

function ofDirection(scope: Scope, one: Carried, text: string): Claim[] {
  const path = [...one.path, 'direction']
  const direction = parseDirection(text)
  // Where it is no direction, the checker has said so.
  if (direction === null) return []
  const arrow = `${direction.initiator} ${direction.both ? '<->' : '->'} ${direction.responder}`
  const claims = [finish(scope, 'direction', path, text, arrow, 'arrow', holdArrow(scope, one, direction))]
  for (const { text: part, functions } of direction.claims) {
    const services = one.protocol.kind === 'opcua' ? servicesClaimed(part) : null
    if (functions !== null || services !== null) {
      const outcome =
        services === null
          ? holdFunctions(scope, one, direction, functions ?? [])
          : holdServices(scope, one, direction, services)
      claims.push(finish(scope, 'direction', path, text, part, 'functions', outcome))
    } else claims.push(claimOf(scope, 'direction', path, text, part, formOf(part)))
  }
  return claims
}

function holdArrow(scope: Scope, one: Carried, direction: Direction): Outcome {
  const { conduit, protocol } = one
  if (!isInspected(protocol)) {
    const port = 'port' in protocol && protocol.port !== null ? ` port ${protocol.port}` : ''
    return {
      status: 'enforced-elsewhere',
      by: 'boundary firewall',
      detail: `Headgate does not carry ${protocol.protocol}${port}; the firewall of ${conduit.id} has to (headgate render nftables or isa3000)`,
    }
  }
  const against = protocol.rules.find(
    (rule) =>
      rule.action === 'allow' &&
      !direction.both &&
      clientZones(scope, one, rule).some((zone) => isCalled(zone, direction.responder)) &&
      targetZones(scope, one, rule).some((zone) => isCalled(zone, direction.initiator)) &&
      !clientZones(scope, one, rule).some((zone) => isCalled(zone, direction.initiator)),
  )
  if (against !== undefined) {
    const detail = `rule "${against.name}" goes from ${direction.responder} to ${direction.initiator}`
    return { status: 'contradicted', by: `rule "${against.name}"`, detail, places: [rulePlace(against)] }
  }
  return byRules(
    scope,
    one,
    protocol.rules.filter((rule) => rule.action === 'allow'),
    'what no rule allows is denied',
  )
}

/** Whether a rule allows something to clients on the side that a direction starts from. */
function initiates(scope: Scope, one: Carried, direction: Direction, rule: ModbusRule | OpcUaRule): boolean {
  return (
    rule.action === 'allow' &&
    clientZones(scope, one, rule).some(
      (zone) => isCalled(zone, direction.initiator) || (direction.both && isCalled(zone, direction.responder)),
    )
  )
}

function holdServices(scope: Scope, one: Carried, direction: Direction, services: readonly number[]): Outcome {
  const rules = one.protocol.kind === 'opcua' ? one.protocol.rules : []
  const crossing = rules.filter((rule) => initiates(scope, one, direction, rule))
  const surplus = (rule: OpcUaRule): number[] =>
    rule.services.filter((id) => !services.includes(id) && !deniedService(rules, rule, id))
  const wider = crossing.find((rule) => surplus(rule).length > 0)
  if (wider === undefined) return byRules(scope, one, crossing, 'they allow no other service')
  const names = surplus(wider).map((id) => serviceOf(id)?.name ?? String(id))
  const detail = `rule "${wider.name}" allows ${names.slice(0, 8).join(', ')}${names.length > 8 ? ', …' : ''} as well`
  return { status: 'contradicted', by: `rule "${wider.name}"`, detail, places: [rulePlace(wider)] }
}

function holdFunctions(
  scope: Scope,
  one: Carried,
  direction: Direction,
  functions: NonNullable<Direction['functions']>,
): Outcome {
  const { protocol } = one
  if (protocol.kind !== 'modbus') {
    if (isInspected(protocol)) return holdReadOnly({ ...scope, carried: [one] })
    return {
      status: 'enforced-elsewhere',
      by: `${protocol.protocol} end points, or a firewall that inspects it`,
      detail: `Headgate does not carry ${protocol.protocol} of ${one.conduit.id}, and a filter of ports cannot tell`,
    }
  }
  const crossing = protocol.rules.filter((rule) => initiates(scope, one, direction, rule))
  const surplus = (rule: ModbusRule): number[] =>
    rule.functions
      .filter((selector) => !covers(functions, selector) && !deniedFunction(protocol.rules, rule, selector))
      .map(({ code }) => code)
  const wider = crossing.find((rule) => surplus(rule).length > 0)
  if (wider !== undefined) {
    const codes = surplus(wider)
    const some = [...new Set(codes)].slice(0, 8).join(', ')
    const detail = `rule "${wider.name}" allows function codes ${some}${codes.length > 8 ? ', …' : ''} as well`
    return { status: 'contradicted', by: `rule "${wider.name}"`, detail, places: [rulePlace(wider)] }
  }
  return byRules(scope, one, crossing, 'they allow no other function')
}
