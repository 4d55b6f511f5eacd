/**
 * How legitimate a kind of traffic looks, and how dangerous it is: two sums of named parts, each 0…100, so that a person
 * can see why. What looks legitimate and does little harm is proposed to be allowed; nothing is allowed by this.
 */
import { FUNCTION_GROUPS, functionClass, isWrite } from '../protocols/modbus/function-codes.ts'
import { harmOfService } from './opcua-sighted.ts'
import { spanText } from './rules.ts'
import type { Sighting } from './sightings.ts'

export type Suggestion = 'allow' | 'look' | 'reject'

export interface Rank {
  legitimacy: number
  danger: number
  suggestion: Suggestion
  /** What speaks for it, and what against; in words. */
  pro: string[]
  contra: string[]
}

/** What is known of a kind beside the evidence of it. */
export interface Surroundings {
  clientKnown: 'asset' | 'network' | 'no'
  targetKnown: boolean
  /** Responses without and with an exception; null: nobody has counted. */
  answers: { good: number; exceptions: number } | null
  /** Requests between the two that were not answered in time. */
  timeouts: number
  /** Kinds of traffic that were not allowed, of the same client. */
  kindsOfClient: number
  /** When the evidence ends, in milliseconds since 1970. */
  until: number
}

const DAY_MS = 86_400_000
const HOUR_MS = 3_600_000
/** Kinds of one unknown client that make it a scanner. */
const SCAN_KINDS = 10

export function rank(one: Sighting, around: Surroundings): Rank {
  const pro: string[] = []
  const contra: string[] = []
  let legitimacy = 0
  let danger = 0
  const speaksFor = (points: number, words: string): void => {
    legitimacy += points
    pro.push(words)
  }
  const speaksAgainst = (points: number, words: string): void => {
    danger += points
    if (words !== '') contra.push(words)
  }
  if (around.clientKnown === 'asset') speaksFor(30, 'known client')
  else if (around.clientKnown === 'network') speaksFor(10, "client in a zone's network")
  if (around.targetKnown) speaksFor(10, 'known target')
  const [points, words] = recurrence(one, around.until)
  if (points > 0) speaksFor(points, words)
  const { regular } = one.intervals
  if (regular !== null && regular.share >= 0.7) speaksFor(20, `every ${intervalText(regular.ms)}`)
  const { answers } = around
  if (answers !== null && answers.good + answers.exceptions > 0) {
    const share = answers.good / (answers.good + answers.exceptions)
    if (answers.exceptions === 0 && around.timeouts === 0) speaksFor(15, 'answered without exception')
    else if (answers.good > 0)
      speaksFor(Math.round(10 * share), `${Math.round(100 * share)} % answered without exception`)
    else contra.push('answered with exceptions alone')
  }

  if (around.clientKnown !== 'asset') {
    const scans = around.kindsOfClient >= SCAN_KINDS
    speaksAgainst(around.clientKnown === 'no' ? 45 : 30, 'unknown client')
    if (scans) speaksAgainst(30, `a scan: ${around.kindsOfClient} kinds of request`)
  }
  const [harm, what] = one.protocol === 'opcua' && one.kind === 'request' ? harmOfService(one.service) : harmOf(one)
  if (harm > 0) speaksAgainst(harm, what)
  if (one.reason === 'malformed') speaksAgainst(40, 'breaks the specification')
  if (one.reason === 'security') speaksAgainst(30, 'security that the policy does not allow')
  if (one.reason === 'value') speaksAgainst(10, 'a value that a rule forbids')
  legitimacy = Math.min(100, legitimacy)
  danger = Math.min(100, danger)
  return { legitimacy, danger, suggestion: suggest(legitimacy, danger), pro, contra }
}

/** Nothing that changes a process is proposed without a look at it. */
function suggest(legitimacy: number, danger: number): Suggestion {
  if (danger >= 60 && danger >= legitimacy) return 'reject'
  return legitimacy >= 60 && danger < 40 ? 'allow' : 'look'
}

/** Days that it was seen on, of those since it was first seen; hours, where the evidence has few days. */
function recurrence(one: Sighting, until: number): [number, string] {
  const of = Math.max(1, Math.floor(until / DAY_MS) - Math.floor(one.first / DAY_MS) + 1)
  if (of >= 3) {
    const share = Math.min(1, one.days.size / of)
    return [Math.round(25 * share), `on ${one.days.size} of ${of} days`]
  }
  const hours = Math.max(1, Math.floor(until / HOUR_MS) - Math.floor(one.first / HOUR_MS) + 1)
  if (hours < 2) return one.count > 1 ? [5, 'more than once'] : [0, '']
  return [Math.round(15 * Math.min(1, one.hours.size / hours)), `in ${one.hours.size} of ${hours} hours`]
}

function harmOf({ kind, function: code, sub }: Sighting): [number, string] {
  if (code === null) return kind === 'connection' || kind === 'channel' ? [0, ''] : [30, 'no function']
  if (FUNCTION_GROUPS.program.some((one) => one.code === code)) return [70, 'a programming function']
  if (functionClass(code) !== 'public') return [70, 'a function that the specification does not define']
  if (code === 21) return [60, 'writes files']
  if (code === 8) return [sub === 0 ? 5 : 50, 'diagnostics']
  if (code === 43 && sub !== 14) return [60, 'an encapsulated interface']
  return isWrite(code) ? [45, 'a write'] : [5, '']
}

/** `1.0 s`, `5 min`, `1 d`. */
export function intervalText(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`
  return ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : spanText(ms)
}
