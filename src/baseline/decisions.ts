/**
 * What a person has decided of what a draft would not allow by itself, and what is still open. An item is settled when
 * the policy allows it, when a rule with `action: deny` speaks of it, or when somebody has said that it shall not pass:
 * that is kept in a file beside the baseline, `baseline.decisions.json` for `baseline.json`.
 */
import { hash } from 'node:crypto'
import { readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { blockHolds, parseAddress } from '../policy/address.ts'
import type { ModbusRule, OpcUaRule, Policy } from '../policy/model.ts'
import { assess, type DecideItem } from './assess.ts'
import { type BaselineFile, parseBaseline } from './baseline-file.ts'
import { leadsTo, opcuaStanding, type ProtocolPlace, placesOf, standing } from './coverage.ts'
import { DRAFT_DEFAULTS } from './draft.ts'

/** Name of the baseline in the directory that a gateway keeps it in. */
export const BASELINE_NAME = 'baseline.json'

const decision = z.strictObject({
  id: z.string().regex(/^[0-9a-z]{8}$/),
  /** One line, as it was shown to whom decided. */
  what: z.string(),
  decision: z.literal('reject'),
  who: z.string(),
  why: z.string(),
  time: z.iso.datetime(),
})

const decisionsSchema = z.strictObject({
  format: z.literal('headgate-decisions'),
  version: z.literal(1),
  decisions: z.array(decision).max(100_000),
})

export type Decision = z.infer<typeof decision>

/** A decide item that nobody has settled. */
export interface OpenDecision extends DecideItem {
  /** Stays the same however often the baseline is learned anew. */
  key: string
  /** Conduits that the item's hosts are of; empty: none of the policy's. */
  conduits: string[]
}

/** What cannot be read. `message` is one line. */
export class BaselineUnreadable extends Error {}

/** @param at a baseline file, or the directory that a gateway keeps one in */
export function baselinePath(at: string): string {
  try {
    return statSync(at).isDirectory() ? join(at, BASELINE_NAME) : at
  } catch {
    return at
  }
}

const decisionsPath = (at: string): string => `${baselinePath(at).replace(/\.json$/, '')}.decisions.json`

/** @throws BaselineUnreadable, NotABaseline */
export function readBaseline(at: string): BaselineFile {
  const file = baselinePath(at)
  return parseBaseline(readText(file), file)
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new BaselineUnreadable(`${file}: ${code === 'ENOENT' ? 'no such file' : message}`)
  }
}

export interface BaselineSpan {
  /** Milliseconds since 1970; null: no traffic. */
  first: number | null
  last: number | null
  /** How long was watched, in milliseconds: pauses between captures, or between runs of a gateway, are left out. */
  watched: number
}

/** When a baseline begins and ends. @throws BaselineUnreadable, NotABaseline */
export function baselineSpan(at: string): BaselineSpan {
  return spanOf(readBaseline(at))
}

export function spanOf({ first, last, sources }: BaselineFile): BaselineSpan {
  const spans = sources
    .filter((one) => one.first !== null && one.last !== null)
    .map((one): [number, number] => [Date.parse(one.first as string), Date.parse(one.last as string)])
    .sort((a, b) => a[0] - b[0])
  let watched = 0
  let until = Number.NEGATIVE_INFINITY
  for (const [from, to] of spans) {
    watched += Math.max(0, to - Math.max(from, until))
    until = Math.max(until, to)
  }
  const [begin, end] = [first, last].map((text) => (text === null ? null : Date.parse(text)))
  if (spans.length === 0 && begin !== null && end !== null) watched = end - begin
  return { first: begin, last: end, watched }
}

/** A name for what is to be decided that survives another look at the traffic: 8 letters and digits. */
export const keyOf = (...parts: readonly (string | number | null)[]): string =>
  BigInt(`0x${hash('sha256', JSON.stringify(parts), 'hex').slice(0, 12)}`)
    .toString(36)
    .padStart(8, '0')
    .slice(-8)

export function decisionKey(item: DecideItem): string {
  const { kind, client, target, port, unit, function: code, sub, services = [], opcua } = item
  const [node, ...more] = opcua?.nodes ?? []
  const named = node === undefined || more.length > 0 ? [] : [node.node, node.method, node.attribute]
  return keyOf('decide', kind, client, target, port, unit, code, sub, ...services, ...named)
}

/** What was decided; nothing where there is no such file. @throws BaselineUnreadable */
export function readDecisions(at: string): Decision[] {
  const file = decisionsPath(at)
  if (statSync(file, { throwIfNoEntry: false }) === undefined) return []
  let value: unknown
  try {
    value = JSON.parse(readText(file))
  } catch (error) {
    throw error instanceof BaselineUnreadable ? error : new BaselineUnreadable(`${file}: not JSON`)
  }
  const parsed = decisionsSchema.safeParse(value)
  if (parsed.success) return parsed.data.decisions
  const [issue] = parsed.error.issues
  throw new BaselineUnreadable(
    `${file}: not a list of decisions: ${issue.path.join('.') || 'document'}: ${issue.message}`,
  )
}

/** Writes decisions beside the ones there are; a newer one of the same item takes the older one's place. */
export function addDecisions(at: string, decisions: readonly Decision[]): void {
  const all = new Map(readDecisions(at).map((one) => [one.id, one]))
  for (const one of decisions) all.set(one.id, one)
  const file = decisionsPath(at)
  const document = { format: 'headgate-decisions', version: 1, decisions: [...all.values()] }
  writeFileSync(`${file}.new`, `${JSON.stringify(document, null, 1)}\n`)
  renameSync(`${file}.new`, file)
}

/**
 * What of a baseline is still to be decided under a policy.
 * @param at the baseline's file, or the directory that a gateway keeps it in
 * @throws BaselineUnreadable, NotABaseline
 */
export function unresolvedDecisions(policy: Policy, at: string): OpenDecision[] {
  return openDecisions(policy, readBaseline(at), readDecisions(at))
}

export function openDecisions(policy: Policy, baseline: BaselineFile, decided: readonly Decision[]): OpenDecision[] {
  const settled = new Set(decided.map((one) => one.id))
  return assess(baseline, { rare: DRAFT_DEFAULTS.rare })
    .decide.map((item) => ({ ...item, key: decisionKey(item), conduits: conduitsOf(policy, item) }))
    .filter((item) => !settled.has(item.key) && !isSettled(policy, item))
}

const isSettled = (policy: Policy, { flow, opcua }: DecideItem): boolean =>
  (flow !== null && standing(policy, flow) !== 'open') || (opcua != null && opcuaStanding(policy, opcua) !== 'open')

/**
 * Conduits that the item's hosts are of: both of them, by zone or by rule; where there is none, those of its target (a
 * client in no zone). A scan has no one target: those of its client.
 */
function conduitsOf(policy: Policy, { client, target, port, services }: DecideItem): string[] {
  const places = placesOf(policy, services === undefined ? 'modbus' : 'opcua').filter(
    (place) => target === null || port === null || leadsTo(policy, place, { client, target, port }),
  )
  const has = ({ conduit, protocol }: ProtocolPlace, text: string, side: 'from' | 'to'): boolean => {
    const address = parseAddress(text)
    if (address === null) return false
    const zones = policy.zones.filter((zone) => conduit.connects.includes(zone.id))
    const blocks = [
      ...zones.flatMap((zone) => [...zone.networks, ...zone.assets.map((asset) => asset.address)]),
      ...(protocol.rules as (ModbusRule | OpcUaRule)[]).flatMap((rule) => rule[side]),
    ]
    return blocks.some((block) => blockHolds(block, address))
  }
  const ofClient = places.filter((place) => has(place, client, 'from'))
  if (target === null) return ofClient.map(({ conduit }) => conduit.id)
  const both = ofClient.filter((place) => has(place, target, 'to'))
  return (both.length > 0 ? both : places.filter((place) => has(place, target, 'to'))).map(({ conduit }) => conduit.id)
}
