/** How an analysis is printed: the verdict first, then what stands behind it. */
import {
  type Analysis,
  type Candidate,
  type Choice,
  type ConduitVerdict,
  namesOf,
  whatText,
} from '../baseline/analyze.ts'
import { rangeText } from '../baseline/ranges.ts'
import { plural, spanText } from '../baseline/rules.ts'
import type { Sighting, Sightings } from '../baseline/sightings.ts'

/** Kinds that the text lists; all are in JSON. */
const SHOWN = 40
/** Days that the curve shows. */
const DAYS = 28
const BAR = 40

interface TextOptions {
  colour: boolean
  /** The policy's path, as it was given. */
  file: string | null
}

/** Control characters would let a record draw on the reader's terminal. */
const visible = (text: string): string => text.replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ')

export function analysisText(analysis: Analysis, sightings: Sightings, { colour, file }: TextOptions): string {
  const paint = (code: number, text: string): string => (colour ? `\x1b[${code}m${text}\x1b[0m` : text)
  const lines: string[] = []
  for (const one of analysis.verdicts) lines.push(...verdictLines(one, paint))
  if (analysis.verdicts.length === 0) lines.push('no conduit was seen: give --policy')
  lines.push('', spanLine(analysis, sightings))
  const { allowed, denied, rejected } = analysis.settled
  const settled = [
    [allowed, 'allowed by now, or not seen since the policy is in force'],
    [denied, 'denied by a rule that says so'],
    [rejected, 'decided against'],
  ] as const
  const words = settled.filter(([n]) => n > 0).map(([n, what]) => `${n} ${what}`)
  if (words.length > 0) lines.push(`kinds of traffic that need no decision: ${words.join('; ')}`)
  if (sightings.dropped > 0) {
    lines.push(
      `${plural(sightings.dropped, 'event')} of more kinds than are kept apart are not listed: a scan, most likely`,
    )
  }
  lines.push('', ...curveLines(analysis.curve))
  if (analysis.candidates.length > 0) {
    lines.push('', 'not allowed by the policy, the most legitimate first:')
    for (const one of analysis.candidates.slice(0, SHOWN)) lines.push(...candidateLines(one, paint))
    if (analysis.candidates.length > SHOWN)
      lines.push(`  and ${analysis.candidates.length - SHOWN} more (--format json)`)
  }
  if (analysis.decide.length > 0) {
    lines.push('', 'to be decided, of the baseline:')
    for (const one of analysis.decide.slice(0, SHOWN)) lines.push(`  ${one.id}  ${visible(one.what)}`, ...ruleText(one))
    if (analysis.decide.length > SHOWN) lines.push(`  and ${analysis.decide.length - SHOWN} more (--format json)`)
  }
  if (analysis.candidates.length + analysis.decide.length > 0) {
    const policy = file === null ? '--policy FILE ' : ''
    lines.push(
      '',
      `${policy}--apply ID writes such rules into the policy; --reject ID --reason TEXT decides against one.`,
    )
  }
  return `${lines.join('\n')}\n`
}

type Paint = (code: number, text: string) => string

function verdictLines({ conduit, mode, ready, obstacles, notes }: ConduitVerdict, paint: Paint): string[] {
  const enforced = mode === 'enforce'
  const verdict = ready
    ? paint(32, enforced ? 'enforced, and nothing legitimate is denied' : 'READY TO ENFORCE')
    : paint(33, enforced ? 'enforced, with something to look at' : 'NOT READY TO ENFORCE')
  return [
    `${visible(conduit)}: ${verdict}`,
    ...[...obstacles, ...notes.map((one) => `note: ${one}`)].map((one) => visible(`  - ${one}`)),
  ]
}

const day = (ms: number): string => new Date(ms).toISOString().slice(0, 16).replace('T', ' ')

function spanLine({ first, last, watched }: Analysis, { records }: Sightings): string {
  if (first === null || last === null) return 'the evidence is empty'
  return `${day(first)} to ${day(last)} UTC, ${watched > 0 ? spanText(watched) : 'no time'} watched, ${plural(records, 'record')}`
}

/** A bar a day; flat means that nothing new comes any more. */
function curveLines(curve: Analysis['curve']): string[] {
  if (curve.length === 0) return []
  const shown = curve.slice(-DAYS)
  const most = Math.max(1, ...shown.map((one) => one.kinds))
  const lines = ['new kinds of traffic by day:']
  const before = curve.slice(0, -DAYS).reduce((sum, one) => sum + one.kinds, 0)
  if (before > 0) lines.push(`  before      ${before}`)
  for (const { day: name, kinds } of shown) {
    const bar = kinds === 0 ? '·' : '█'.repeat(Math.max(1, Math.round((kinds / most) * BAR)))
    lines.push(`  ${name}  ${bar}${kinds === 0 ? '' : ` ${kinds}`}`)
  }
  let flat = 0
  while (flat < curve.length && curve[curve.length - 1 - flat].kinds === 0) flat++
  if (flat > 0) lines.push(`  nothing new for ${plural(flat, 'day')}`)
  return lines
}

const WORDS: Readonly<Record<Candidate['suggestion'], readonly [string, number]>> = {
  allow: ['allow?', 32],
  look: ['look', 33],
  reject: ['reject?', 31],
}

function candidateLines(one: Candidate, paint: Paint): string[] {
  const { sighting, legitimacy, danger, pro, contra } = one
  const [word, colour] = WORDS[one.suggestion]
  const denied =
    sighting.happened === 'denied' ? 'denied' : `would be ${sighting.kind === 'connection' ? 'refused' : 'denied'}`
  const span = sighting.last > sighting.first ? ` in ${spanText(sighting.last - sighting.first)}` : ''
  const rule = sighting.rule === null ? '' : `, nearest rule "${sighting.rule}"`
  const why = [...pro, ...contra.map((text) => `but ${text}`)].join(', ')
  const detail = sighting.detail === '' ? '' : `: ${sighting.detail}`
  return [
    `  ${one.id}  ${paint(colour, word.padEnd(7))}  ${visible(one.what)}`,
    visible(
      `        ${sighting.count.toLocaleString('en')} ${denied}${span}, last ${day(sighting.last)}; ${sighting.conduit}, reason ${sighting.reason}${rule}${detail}`,
    ),
    `        legitimate ${legitimacy}, dangerous ${danger}: ${why}`,
    ...ruleText(one),
  ]
}

function ruleText({ lines, grants, opcua, obstacle, conduits }: Choice): string[] {
  if (lines === null) return [visible(`        not by a rule: ${obstacle}`)]
  const where =
    conduits.length === 0
      ? ''
      : ` (${grants.length > 0 || opcua.length > 0 ? 'rules' : 'by hand, the protocol'} of ${conduits[0]})`
  return [`        to allow it${where}:`, ...lines.map((line) => `          ${line}`)].map(visible)
}

/** What a shadow policy would change: denied first, for that is what hurts. */
export function shadowText(
  differences: readonly Sighting[],
  { shadow, last, uncompared }: Sightings,
  names: ((address: string) => string) | null,
): string {
  if (shadow === null) return 'no shadow policy has judged: see gateway.shadow\n'
  const lines = [
    `shadow policy ${shadow.sha256.slice(0, 12)}, judging since ${day(shadow.since)} UTC, ${spanText(last - shadow.since)}`,
  ]
  const heads = [
    ['shadow-deny', 'allowed now, and would be denied'],
    ['shadow-allow', 'denied now (or would be), and would be allowed'],
  ] as const
  for (const [happened, head] of heads) {
    const some = differences.filter((one) => one.happened === happened)
    lines.push('', `${head}: ${some.length === 0 ? 'nothing' : plural(some.length, 'kind')}`)
    for (const one of some.slice(0, SHOWN)) {
      const detail = one.detail === '' ? '' : `: ${one.detail}`
      const rule = one.rule === null ? '' : `, rule "${one.rule}"`
      // Of many requests an event names the node of one.
      const partial = one.protocol === 'opcua' && one.partial ? ' (and other items)' : ''
      lines.push(
        visible(`  ${one.count.toLocaleString('en').padStart(9)}  ${whatText(one, names ?? namesOf(one))}${partial}`),
        visible(`             ${one.conduit}, reason ${one.reason}${rule}${detail}; last ${day(one.last)}`),
      )
    }
    if (some.length > SHOWN) lines.push(`             and ${some.length - SHOWN} more (--format json)`)
  }
  if (uncompared.size > 0) lines.push('', 'not compared:')
  for (const [why, count] of [...uncompared].slice(0, SHOWN)) {
    lines.push(visible(`  ${count.toLocaleString('en').padStart(9)}  ${why}`))
  }
  if (differences.length === 0 && uncompared.size === 0)
    lines.push('', 'both policies judge alike; "headgate promote" puts the shadow policy into force')
  return `${lines.join('\n')}\n`
}

/** The same as plain data. */
export function plainShadow(
  differences: readonly Sighting[],
  { shadow, uncompared }: Sightings,
): Record<string, unknown> {
  return {
    shadow: shadow?.sha256 ?? null,
    since: shadow === null ? null : new Date(shadow.since).toISOString(),
    would_deny: differences.filter((one) => one.happened === 'shadow-deny').map((one) => plainSighting(one)),
    would_allow: differences.filter((one) => one.happened === 'shadow-allow').map((one) => plainSighting(one)),
    not_compared: [...uncompared].map(([why, count]) => ({ why, count })),
  }
}

/** The analysis as plain data. */
export function plainAnalysis(analysis: Analysis, sightings: Sightings): Record<string, unknown> {
  const time = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString())
  const choice = ({ id, key, conduits, what, lines, obstacle }: Choice) => ({
    id,
    key,
    conduits,
    what,
    lines,
    obstacle,
  })
  return {
    ready: analysis.verdicts.length > 0 && analysis.verdicts.every((one) => one.ready || one.mode === 'enforce'),
    conduits: analysis.verdicts,
    first: time(analysis.first),
    last: time(analysis.last),
    watched_seconds: Math.round(analysis.watched / 1000),
    records: sightings.records,
    records_unread: sightings.unread,
    events_not_kept_apart: sightings.dropped,
    settled: analysis.settled,
    new_kinds_by_day: analysis.curve,
    candidates: analysis.candidates.map((one) => ({
      ...choice(one),
      suggestion: one.suggestion,
      legitimacy: one.legitimacy,
      danger: one.danger,
      pro: one.pro,
      contra: one.contra,
      ...plainSighting(one.sighting),
      answers: one.answers,
    })),
    decide: analysis.decide.map((one) => ({ ...choice(one), kind: one.item.kind, requests: one.item.requests })),
  }
}

function plainSighting(one: Sighting): Record<string, unknown> {
  const { regular } = one.intervals
  return {
    happened: one.happened,
    of: one.kind,
    client: one.client,
    client_asset: one.clientAsset,
    target: one.target,
    target_asset: one.targetAsset,
    port: one.port,
    units: one.units.toRanges().map(rangeText),
    protocol: one.protocol,
    function: one.function,
    service: one.service,
    node: one.node,
    method: one.method,
    attribute: one.attribute,
    sub: one.sub,
    addresses: one.addresses.toRanges().map(rangeText),
    write_addresses: one.written.toRanges().map(rangeText),
    more_addresses: one.partial,
    values: one.greatest >= one.least ? { least: one.least, greatest: one.greatest } : null,
    reason: one.reason,
    nearest_rule: one.rule,
    detail: one.detail,
    count: one.count,
    first: new Date(one.first).toISOString(),
    last: new Date(one.last).toISOString(),
    days: one.days.size,
    interval_ms: regular === null ? null : Math.round(regular.ms),
    interval_share: regular === null ? null : Number(regular.share.toFixed(2)),
  }
}
