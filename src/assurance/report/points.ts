/**
 * The points that a report can make, each with what this document, evidence and validation show for it, and what they do
 * not show. Controls of the standards refer to these points, so that none of them is ever a bare tick.
 */
import type { ClaimStatus } from '../../policy/claims.ts'
import type { ConduitFacts, ReportFacts } from './facts.ts'
import { probeCounts } from './facts.ts'

export interface Point {
  /** What is shown, each with its number or name. */
  shown: string[]
  /** What is not. */
  missing: string[]
}

export type PointName = keyof ReturnType<typeof points>

const point = (): Point => ({ shown: [], missing: [] })
const names = (list: readonly { id: string }[]): string => list.map(({ id }) => id).join(', ')
const some = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`

const carried = ({ protocols }: ConduitFacts): boolean => protocols.some(({ inspected }) => inspected)

export function points(facts: ReportFacts) {
  return {
    zones: zones(facts),
    safety: safety(facts),
    boundary: boundary(facts),
    inspection: inspection(facts),
    rules: rules(facts),
    limits: limits(facts),
    validated: validated(facts),
    filtering: filtering(facts),
    channels: channels(facts),
    oneWay: oneWay(facts),
    records: records(facts),
    protectedRecords: protectedRecords(facts),
    recordFailure: recordFailure(facts),
    forwarding: forwarding(facts),
    monitoring: monitoring(facts),
    clock: clock(facts),
    configuration: configuration(facts),
    claims: claims(facts),
    people: people(facts),
    premises: premises(facts),
    findings: findings(facts),
  } satisfies Record<string, Point>
}

function zones({ zones, conduits }: ReportFacts): Point {
  const { shown, missing } = point()
  if (zones.length > 0)
    shown.push(`${some(zones.length, 'zone')} and ${some(conduits.length, 'conduit')} are defined in the document`)
  else missing.push('the document defines no zone')
  const unplaced = zones.filter(({ networks, addressable }) => networks.length === 0 && addressable === 0)
  if (unplaced.length > 0) missing.push(`zones without an address, which nothing can be held to: ${names(unplaced)}`)
  const untargeted = zones.filter(({ securityLevelTarget }) => securityLevelTarget === null)
  if (untargeted.length > 0) missing.push(`zones without a security level target: ${names(untargeted)}`)
  return { shown, missing }
}

function safety(facts: ReportFacts): Point {
  const { shown, missing } = point()
  const safe = facts.zones.filter((zone) => zone.safety)
  const open = safe.filter(({ conduits }) => conduits.length > 0)
  const closed = safe.filter(({ conduits }) => conduits.length === 0)
  if (closed.length > 0) shown.push(`no conduit reaches the safety zone: ${names(closed)}`)
  if (open.length > 0) missing.push(`a conduit reaches the safety zone: ${names(open)}`)
  const { pass, fail } = probeCounts(facts, ['isolated'])
  if (pass > 0) shown.push(`${some(pass, 'probe')} of safety zones from outside found no way in`)
  if (fail > 0) missing.push(`${some(fail, 'probe')} reached a safety zone`)
  if (safe.length > 0 && pass + fail === 0) missing.push('isolation of the safety zone was not tested')
  return { shown, missing }
}

function boundary({ conduits }: ReportFacts): Point {
  const { shown, missing } = point()
  const enforcing = conduits.filter((one) => one.mode === 'enforce' && carried(one))
  const watching = conduits.filter((one) => one.mode === 'monitor' && carried(one))
  const elsewhere = conduits.filter((one) => !carried(one))
  if (enforcing.length > 0)
    shown.push(`the document has Headgate enforce on ${names(enforcing)}: what no rule allows is denied`)
  if (watching.length > 0) missing.push(`only watched, nothing is blocked: ${names(watching)}`)
  if (elsewhere.length > 0)
    missing.push(`not carried by Headgate, so its blocking is not shown here: ${names(elsewhere)}`)
  const partly = enforcing.flatMap(({ id, rules }) =>
    rules.filter(({ mode }) => mode === 'monitor').map(({ name }) => `"${name}" of ${id}`),
  )
  if (partly.length > 0) missing.push(`rules that only watch: ${partly.join(', ')}`)
  return { shown, missing }
}

function inspection({ conduits }: ReportFacts): Point {
  const { shown, missing } = point()
  for (const { id, protocols, mode } of conduits) {
    const read = protocols.filter(({ inspected, blind }) => inspected && !blind).map(({ protocol }) => protocol)
    const blind = protocols.filter((one) => one.blind).map(({ protocol }) => protocol)
    if (blind.length > 0) {
      shown.push(
        `${id}: the opening of each ${blind.join(' and ')} channel is read, and all of those that are not encrypted`,
      )
      missing.push(`${id}: messages on encrypted channels of ${blind.join(' and ')} are not read`)
    }
    const unread = protocols.filter(({ inspected }) => !inspected).map(({ protocol }) => protocol)
    if (read.length > 0) shown.push(`${id}: every ${read.join(' and ')} message is decoded (${mode})`)
    if (unread.length > 0) missing.push(`${id}: ${unread.join(', ')} not read by Headgate`)
  }
  return { shown, missing }
}

function rules({ conduits }: ReportFacts): Point {
  const { shown, missing } = point()
  for (const conduit of conduits.filter(carried)) {
    const allowing = conduit.rules.filter(({ action }) => action === 'allow')
    shown.push(`${conduit.id}: ${some(conduit.allow, 'rule')} allow, ${conduit.deny} deny, all else is denied`)
    const wide = allowing.filter(({ from, to }) =>
      [...from, ...to].some((block) => /\/(\d|1\d)$/.test(block) || block === '::/0'),
    )
    if (wide.length > 0)
      missing.push(
        `${conduit.id}: rules for very wide address blocks: ${wide.map(({ name }) => `"${name}"`).join(', ')}`,
      )
  }
  if (shown.length === 0) missing.push('no conduit with rules is carried by Headgate')
  return { shown, missing }
}

function limits({ conduits }: ReportFacts): Point {
  const { shown, missing } = point()
  for (const conduit of conduits.filter(carried)) {
    for (const { protocol, inspected, limits } of conduit.protocols) {
      if (!inspected) continue
      if (limits) shown.push(`${conduit.id}: ${protocol} has limits of connections or rates`)
      else missing.push(`${conduit.id}: ${protocol} has no limits`)
    }
  }
  if (shown.length + missing.length === 0) missing.push('no conduit is carried by Headgate')
  return { shown, missing }
}

function tested(facts: ReportFacts, groups: Parameters<typeof probeCounts>[1], what: string): Point {
  const { shown, missing } = point()
  const { pass, fail, skip } = probeCounts(facts, groups)
  if (pass > 0) shown.push(`${what}: ${some(pass, 'probe')} found what the document says`)
  if (fail > 0) missing.push(`${what}: ${some(fail, 'probe')} found something else`)
  if (skip > 0) missing.push(`${what}: ${some(skip, 'probe')} could not be made`)
  if (pass + fail + skip === 0) missing.push(`${what}: not tested`)
  return { shown, missing }
}

function validated(facts: ReportFacts): Point {
  const all = tested(facts, ['allowed', 'prohibited', 'isolated'], 'paths across the boundary')
  const stale = facts.validations.filter(({ current }) => !current).length
  if (stale > 0) all.missing.push(`${some(stale, 'validation')} of another document or version does not count`)
  return all
}

const filtering = (facts: ReportFacts): Point => tested(facts, ['enforcement'], 'filtering of functions and services')
function channels(facts: ReportFacts): Point {
  const opcua = facts.conduits.some(({ protocols }) => protocols.some(({ protocol }) => /opc/i.test(protocol)))
  const { pass, fail, skip } = probeCounts(facts, ['security'])
  if (!opcua && pass + fail + skip === 0) {
    return {
      shown: [],
      missing: ['Modbus/TCP has neither encryption nor authentication: its integrity rests on the network'],
    }
  }
  return tested(facts, ['security'], 'security modes of OPC UA endpoints')
}

function oneWay(facts: ReportFacts): Point {
  const stated = facts.conduits.flatMap(({ id, controls, protocols }) =>
    [...controls, ...protocols.map(({ direction }) => direction ?? '')].some((text) =>
      /diode|unidirectional/i.test(text),
    )
      ? [id]
      : [],
  )
  if (stated.length === 0) return point()
  return tested(facts, ['diode'], `data diode of ${stated.join(', ')}`)
}

function records({ evidence, conduits }: ReportFacts): Point {
  const { shown, missing } = point()
  if (evidence.chains.length === 0) return { shown, missing: ['no evidence was given'] }
  let denied = 0
  let would = 0
  for (const hours of evidence.verdicts.values()) {
    for (const counts of hours.values()) {
      denied += counts.denied + counts.refused
      would += counts.would_deny
    }
  }
  if (!evidence.sound) return { shown, missing: ['the evidence does not verify, so its records show nothing'] }
  shown.push(`${some(evidence.records, 'record')}: ${denied} denied or refused, ${would} that would have been denied`)
  const known = new Set(conduits.map(({ id }) => id))
  const strange = [...evidence.verdicts.keys()].filter((id) => !known.has(id))
  if (strange.length > 0)
    missing.push(`records of conduits that this document does not have: ${strange.slice(0, 10).join(', ')}`)
  return { shown, missing }
}

function protectedRecords({ evidence, policy }: ReportFacts): Point {
  const { shown, missing } = point()
  for (const { directory, verify, trusted } of evidence.chains) {
    if (verify.finding !== null) {
      missing.push(`${directory} does not verify: ${verify.finding.message}`)
      continue
    }
    shown.push(`${directory}: chained by SHA-256 and signed (Ed25519), verified, ${verify.checkpoints} checkpoints`)
    if (!trusted) missing.push(`${directory}: verified by the key that the files name, not by one kept elsewhere`)
    if (verify.unsigned > 0) missing.push(`${directory}: ${some(verify.unsigned, 'record')} at the end not yet signed`)
    if (!verify.headKnown)
      missing.push(`${directory}: no signed head beside the files: a cut at the end would not show`)
    if (verify.firstSeq > 0)
      missing.push(`${directory}: begins at record ${verify.firstSeq}: earlier files were not given`)
  }
  if (evidence.chains.length === 0) missing.push('no evidence was given')
  else if (!evidence.policies.some(({ sha256 }) => sha256 === policy.sha256)) {
    missing.push('no record was made under this version of the document')
  }
  return { shown, missing }
}

function recordFailure({ gateway, evidence }: ReportFacts): Point {
  const { shown, missing } = point()
  if (gateway?.evidenceRequired) shown.push('conduits that enforce deny everything while evidence cannot be written')
  else if (gateway?.evidence) missing.push('evidence is not required: traffic goes on while it cannot be written')
  else missing.push('the gateway writes no evidence')
  for (const event of ['evidence.failed', 'events.lost'] as const) {
    const count = evidence.counts.get(event) ?? 0
    if (count > 0) missing.push(`${event} was recorded ${count} times`)
  }
  return { shown, missing }
}

function forwarding({ gateway }: ReportFacts): Point {
  const { shown, missing } = point()
  for (const { url, tls } of gateway?.syslog ?? []) {
    shown.push(`events go to ${url}`)
    if (!tls) missing.push(`events to ${url} travel without encryption`)
  }
  if (shown.length === 0) missing.push('events go to no SIEM')
  return { shown, missing }
}

function monitoring({ gateway, evidence }: ReportFacts): Point {
  const { shown, missing } = point()
  if (gateway === null) missing.push('the document has no gateway: nothing is watched')
  else {
    shown.push(`gateway ${gateway.name} records each denial as it happens`)
    if (gateway.metrics) shown.push('counters of every verdict are on its metrics page')
    else missing.push('no metrics page')
  }
  const drift = evidence.counts.get('drift.found') ?? 0
  if (drift > 0) missing.push(`drift.found was recorded ${drift} times`)
  return { shown, missing }
}

function clock({ evidence }: ReportFacts): Point {
  if (evidence.chains.length === 0) return { shown: [], missing: ['no evidence was given'] }
  if (!evidence.sound) return { shown: [], missing: ['the evidence does not verify'] }
  const jumps = evidence.counts.get('clock.jumped') ?? 0
  const from = evidence.chains[0].verify.firstTime
  const shown = [`every record has its time in UTC, from ${from ?? '-'} on`]
  return jumps === 0
    ? { shown, missing: ['where the clock gets its time from is not known here'] }
    : { shown, missing: [`the clock was set by more than a second ${jumps} times`] }
}

function configuration({ policy, evidence }: ReportFacts): Point {
  const shown = [`the document in force is identified by its SHA-256: ${policy.sha256}`]
  const uses = evidence.sound ? evidence.policies.length : 0
  if (uses > 0) shown.push(`the evidence names ${some(uses, 'version')} of it, with the times that each was in force`)
  return { shown, missing: uses > 0 ? [] : ['no evidence of which version was in force when'] }
}

function claims({ claims }: ReportFacts): Point {
  const { shown, missing } = point()
  const tell = (list: string[], status: ClaimStatus, what: string): void => {
    const count = claims.filter((one) => one.status === status).length
    if (count > 0) list.push(`${some(count, 'claim')} of the document ${what}`)
  }
  tell(shown, 'enforced-here', 'enforced by a rule or limit here')
  tell(missing, 'contradicted', 'contradicted by the document itself')
  tell(missing, 'not-enforced', 'that nothing enforces yet')
  tell(missing, 'enforced-elsewhere', 'for other devices to enforce, not shown here')
  return { shown, missing }
}

/** Claims whose form says what they are about, or that speak of it in these words. */
function attested({ claims }: ReportFacts, about: RegExp): Point {
  const said = claims.filter(({ status, part }) => status !== 'enforced-here' && about.test(part))
  if (said.length === 0) return { shown: [], missing: ['the document states nothing about it'] }
  return {
    shown: [],
    missing: said.map(({ part, line }) => `stated in line ${line}, for people to attest: ${part}`),
  }
}

const people = (facts: ReportFacts): Point =>
  attested(facts, /\b(MFA|multi-?factor|authenticat|account|user|session|remote access|authoriz|jump)/i)
const premises = (facts: ReportFacts): Point =>
  attested(facts, /\b(physical|lock|door|cabinet|badge|guard|air-?gap|USB|removable)/i)

function findings({ findings, suppressed }: ReportFacts): Point {
  const left = suppressed.map(({ id, line, reason }) => `finding ${id} in line ${line} left to stand: ${reason}`)
  if (findings.length === 0) return { shown: ['no open finding in the document'], missing: left }
  const errors = findings.filter(({ severity }) => severity === 'error').length
  return {
    shown: [],
    missing: [
      `open findings in the document: ${some(errors, 'error')}, ${some(findings.length - errors, 'warning')}`,
      ...left,
    ],
  }
}
