/** Everything that a report says, gathered from the document, the evidence and the validations; no format in it yet. */
import { readFileSync, statSync } from 'node:fs'
import type { Claim } from '../../policy/claims.ts'
import type { AddressBlock, Conduit, Finding, Policy, Zone } from '../../policy/model.ts'
import { FUNCTION_GROUPS, type FunctionSelector, selectorName } from '../../protocols/modbus/function-codes.ts'
import { attributeName } from '../../protocols/opcua/attributes.ts'
import { serviceOf } from '../../protocols/opcua/services.ts'
import type { VerifierKey } from '../../records/evidence/note.ts'
import { isBlind } from '../../render/policy-flows.ts'
import { VERSION } from '../../version.ts'
import { isSafetyZone } from '../lint/levels.ts'
import type { SuppressedFinding } from '../lint/lint.ts'
import {
  MAX_VALIDATION_BYTES,
  NotAValidation,
  outcomes,
  type ProbeGroup,
  parseValidation,
  type ValidationFile,
} from '../result.ts'
import { type EvidenceFacts, evidenceFacts } from './evidence-facts.ts'

export interface ZoneFacts {
  id: string
  name: string
  level: readonly [number, number] | null
  securityLevelTarget: number | null
  criticality: string | null
  networks: string[]
  /** Assets that the zone has, as far as its prose can be counted, and how many of them have an address. */
  assets: number
  addressable: number
  conduits: string[]
  controls: string[]
  requirements: string[]
  safety: boolean
}

export interface RuleFacts {
  name: string
  protocol: string
  action: 'allow' | 'deny'
  from: string[]
  to: string[]
  what: string[]
  /** The rule's own; null: the conduit's. */
  mode: 'monitor' | null
}

export interface ProtocolFacts {
  protocol: string
  port: number | null
  direction: string | null
  securityMode: string | null
  /** Headgate reads its messages: a listener of the gateway carries it. */
  inspected: boolean
  /** Of it, channels may be encrypted that Headgate does not end: it sees their opening alone. */
  blind: boolean
  /** Headgate can read it, and no listener carries it. */
  unused: boolean
  limits: boolean
}

export interface ConduitFacts {
  id: string
  name: string
  connects: readonly [string, string]
  securityLevel: number | null
  mode: 'monitor' | 'enforce'
  protocols: ProtocolFacts[]
  rules: RuleFacts[]
  allow: number
  deny: number
  controls: string[]
}

export interface ValidationFacts {
  file: string
  validation: ValidationFile
  /** Of this very document. */
  current: boolean
}

export interface ReportFacts {
  generated: string
  version: string
  policy: Pick<Policy, 'file' | 'sha256' | 'facility' | 'assessmentDate' | 'standard'>
  gateway: {
    name: string
    evidence: boolean
    evidenceRequired: boolean
    syslog: { url: string; tls: boolean }[]
    metrics: boolean
  } | null
  implementation: { date: string; why: string }
  zones: ZoneFacts[]
  conduits: ConduitFacts[]
  claims: Claim[]
  findings: Finding[]
  /** Findings that the document lets stand, each with its written reason. */
  suppressed: SuppressedFinding[]
  validations: ValidationFacts[]
  evidence: EvidenceFacts
}

export interface ReportSources {
  policy: Policy
  findings: readonly Finding[]
  suppressed: readonly SuppressedFinding[]
  claims: readonly Claim[]
  /** Evidence files, directories already taken apart. */
  evidence: readonly string[]
  keys: readonly VerifierKey[]
  validations: readonly string[]
  /** `YYYY-MM-DD`; null: as the evidence says. */
  implementationDate: string | null
  now: Date
}

/** @throws Error with one line where a file cannot be read, or is none of its kind */
export async function gather(sources: ReportSources): Promise<ReportFacts> {
  const { policy, findings, claims, now } = sources
  const evidence = await evidenceFacts(sources.evidence, sources.keys)
  const { gateway } = policy
  return {
    generated: now.toISOString(),
    version: VERSION,
    policy: {
      file: policy.file,
      sha256: policy.sha256,
      facility: policy.facility,
      assessmentDate: policy.assessmentDate,
      standard: policy.standard,
    },
    gateway:
      gateway === null
        ? null
        : {
            name: gateway.name,
            evidence: gateway.evidence !== null,
            evidenceRequired: gateway.evidence?.required ?? false,
            syslog: gateway.syslog.map(({ url, transport }) => ({ url, tls: transport === 'tls' })),
            metrics: gateway.metrics !== null,
          },
    implementation: implementationOf(policy, evidence, sources.implementationDate, now),
    zones: policy.zones.map((zone) => zoneFacts(policy, zone)),
    conduits: policy.conduits.map((conduit) => conduitFacts(policy, conduit)),
    claims: [...claims],
    findings: [...findings],
    suppressed: [...sources.suppressed],
    validations: sources.validations.map((file) => readValidation(file, policy)),
    evidence,
  }
}

function implementationOf(
  { sha256 }: Policy,
  { policies, sound }: EvidenceFacts,
  given: string | null,
  now: Date,
): ReportFacts['implementation'] {
  if (given !== null) return { date: given, why: 'as given' }
  const use = policies.find((one) => one.sha256 === sha256)
  if (sound && use !== undefined) {
    const since = use.loaded ?? use.first
    return { date: since.slice(0, 10), why: 'this document first took effect, by the evidence' }
  }
  return {
    date: now.toISOString().slice(0, 10),
    why: 'day of this report; no sound evidence of this document in force',
  }
}

function readValidation(file: string, policy: Policy): ValidationFacts {
  if (statSync(file).size > MAX_VALIDATION_BYTES) throw new NotAValidation(`${file}: too long to be a validation`)
  const validation = parseValidation(readFileSync(file, 'utf8'), file)
  return { file, validation, current: validation.policy.sha256 === policy.sha256 }
}

// ------------------------------------------------------------------------------------------------------------ zones

/** Assets that one line of prose stands for: `PLC-01 through PLC-12` are twelve, `SIS-01, SIS-02` two. */
export function countLabel(label: string): number {
  const span = /([A-Za-z]+-?)(\d{1,4}) (?:through|to|-|–) \1(\d{1,4})/.exec(label)
  if (span !== null) return Math.max(1, Number(span[3]) - Number(span[2]) + 1)
  const inside = /\(([^()]*)\)/.exec(label)?.[1].split(/,|\band\b/) ?? []
  return Math.max(1, inside.filter((one) => /^\s*[A-Za-z][\w-]*-\d+\s*$/.test(one)).length)
}

function zoneFacts({ conduits, gateway }: Policy, zone: Zone): ZoneFacts {
  const own = conduits.filter(({ connects }) => connects.includes(zone.id))
  const carried = own.filter(({ id }) => gateway?.listeners.some(({ conduit }) => conduit === id))
  return {
    id: zone.id,
    name: zone.name,
    level: zone.purdueLevel,
    securityLevelTarget: zone.securityLevelTarget,
    criticality: zone.criticality,
    networks: zone.networks.map(({ text }) => text),
    assets: zone.assets.length + zone.labels.reduce((sum, label) => sum + countLabel(label), 0),
    addressable: zone.assets.length,
    conduits: own.map(({ id }) => id),
    controls: [
      ...carried.map(({ id, mode }) => `Headgate ${gateway?.name} on ${id}: deep packet inspection, ${mode}`),
      ...new Set(own.flatMap(({ controls }) => controls)),
    ],
    requirements: zone.securityRequirements,
    safety: isSafetyZone(zone),
  }
}

// --------------------------------------------------------------------------------------------------------- conduits

const limited = (limits: object): boolean =>
  Object.entries(limits).some(
    ([key, value]) => /^(connections|newConnections|requests|inFlight)/.test(key) && value !== null,
  )

function conduitFacts(policy: Policy, conduit: Conduit): ConduitFacts {
  const listeners = (policy.gateway?.listeners ?? []).filter((one) => one.conduit === conduit.id)
  const rules: RuleFacts[] = []
  const protocols = conduit.protocols.map((protocol): ProtocolFacts => {
    const inspected = listeners.some((one) => one.protocol === protocol.kind)
    if (protocol.kind !== 'other') {
      for (const rule of protocol.rules) rules.push({ protocol: protocol.protocol, ...ruleFacts(policy.zones, rule) })
    }
    return {
      protocol: protocol.protocol,
      port: protocol.port,
      direction: protocol.direction,
      securityMode: 'securityMode' in protocol ? protocol.securityMode : null,
      inspected,
      blind: inspected && protocol.kind === 'opcua' && isBlind(protocol),
      unused: protocol.kind !== 'other' && !inspected,
      limits: protocol.kind !== 'other' && limited(protocol.limits),
    }
  })
  return {
    id: conduit.id,
    name: conduit.name,
    connects: conduit.connects,
    securityLevel: conduit.securityLevel,
    mode: conduit.mode,
    protocols,
    rules,
    allow: rules.filter((rule) => rule.action === 'allow').length,
    deny: rules.filter((rule) => rule.action === 'deny').length,
    controls: conduit.controls,
  }
}

/** Blocks of addresses, by the names of the assets that have them. */
const blocks = (zones: readonly Zone[], list: readonly AddressBlock[]): string[] =>
  list.map(({ base, bits, text }) => {
    const asset = zones.flatMap(({ assets }) => assets).find(({ address }) => address.base === base && bits === 128)
    return asset === undefined ? text : `${asset.name} (${text})`
  })

/** Functions, with groups by their names where all of one are there. */
function functionText(selectors: readonly FunctionSelector[]): string {
  const left = new Set(selectors.map(selectorName))
  const groups = (['all', 'read', 'write', 'diagnostics', 'program'] as const).filter((group) => {
    const members = FUNCTION_GROUPS[group].map(selectorName)
    if (!members.every((one) => left.has(one))) return false
    for (const one of members) left.delete(one)
    return true
  })
  return [...groups.map((group) => `all of ${group}`), ...left].join(', ') || 'none'
}

const ranges = (list: readonly (readonly [number, number])[]): string =>
  list.map(([low, high]) => (low === high ? `${low}` : `${low}-${high}`)).join(', ')

type AnyRule = Extract<Conduit['protocols'][number], { rules: unknown }>['rules'][number]

/** What a rule of any protocol allows or denies, in words; keys that its protocol does not have are not there. */
function ruleFacts(zones: readonly Zone[], rule: AnyRule): Omit<RuleFacts, 'protocol'> {
  const what: string[] = []
  if ('functions' in rule) {
    what.push(`functions ${functionText(rule.functions)}`)
    if (rule.unitIds !== null) what.push(`units ${ranges(rule.unitIds)}`)
    for (const [table, list] of Object.entries(rule.addresses ?? {})) what.push(`${table} ${ranges(list)}`)
    if (rule.values !== null) what.push(`values of ${Object.keys(rule.values).join(', ')} limited`)
  }
  if ('services' in rule) {
    what.push(`services ${rule.services.map((id) => serviceOf(id)?.name ?? `${id}`).join(', ') || 'none'}`)
    if (rule.nodes !== null) what.push(`nodes ${rule.nodes.map(({ text }) => text).join(', ')}`)
    if (rule.attributes !== null) what.push(`attributes ${rule.attributes.map(attributeName).join(', ')}`)
    if (rule.methods !== null) what.push(`methods ${rule.methods.map(({ text }) => text).join(', ')}`)
    if (rule.values !== null) what.push('values limited')
    if (rule.securityMode !== null) what.push(`at least ${rule.securityMode}`)
    if (rule.certificates !== null) what.push(`${rule.certificates.length} client certificates`)
  }
  return {
    name: rule.name,
    action: rule.action,
    from: blocks(zones, rule.from),
    to: blocks(zones, rule.to),
    what,
    mode: rule.mode,
  }
}

// ------------------------------------------------------------------------------------------------------ validations

export interface GroupCounts {
  pass: number
  fail: number
  skip: number
}

/** Probes of the validations of this very document, by what they are for. */
export function probeCounts(facts: ReportFacts, groups: readonly ProbeGroup[]): GroupCounts {
  const probes = facts.validations
    .filter(({ current }) => current)
    .flatMap(({ validation }) => validation.probes)
    .filter(({ group }) => groups.includes(group))
  return outcomes(probes)
}
