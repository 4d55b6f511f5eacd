/** Flows that may be allowed, put together into as few rules as say exactly the same. */
import { MODBUS_TABLES, type ModbusTable } from '../policy/model.ts'
import { functionClass, isWrite, selectorName } from '../protocols/modbus/function-codes.ts'
import { type BaselineFlow, mergeValues } from './baseline-file.ts'
import { joinRanges, rangeText } from './ranges.ts'

/** A rule as the document has it, with what it rests on. */
export interface DraftRule {
  name: string
  /** Addresses of clients and targets. */
  from: string[]
  to: string[]
  unitIds: string[]
  functions: string[]
  /** null: none of the functions has addresses, or none can be named (file records). */
  addresses: Partial<Record<ModbusTable, string[]>> | null
  evidence: BaselineFlow[]
  /** Bounds of what is written to its addresses; absent: none. */
  values?: { least: number; greatest: number }
}

/**
 * A rule's ranges hold for all its functions, so functions that use the same table differently stand apart: what is
 * read may not be written.
 */
type Kind = 'read' | 'write' | 'read-write' | 'fifo' | 'file' | 'file-write' | 'other'

function kindOf(code: number): Kind {
  if (code === 23) return 'read-write'
  if (code === 24) return 'fifo'
  if (code === 20) return 'file'
  if (code === 21) return 'file-write'
  if (isWrite(code)) return functionClass(code) === 'public' ? 'write' : 'other'
  return functionClass(code) === 'public' ? 'read' : 'other'
}

const VERBS: Readonly<Record<Kind, string>> = {
  read: 'reads',
  write: 'writes',
  'read-write': 'reads and writes',
  fifo: 'reads FIFO queues of',
  file: 'reads files of',
  'file-write': 'writes files of',
  other: 'uses functions of',
}

interface Grant {
  kind: Kind
  functions: string[]
  addresses: DraftRule['addresses']
  evidence: BaselineFlow[]
}

export interface RuleOptions {
  /** Reads: ranges with at most this many unused addresses between them become one. Writes stay as they were seen. */
  slack: number
  /** The name of an address in the names of rules. */
  nameOf: (address: string) => string
  /** Names that are taken. */
  taken?: ReadonlySet<string>
}

export function buildRules(flows: readonly BaselineFlow[], options: RuleOptions): DraftRule[] {
  // By client, target, kind and unit first; then units, targets and clients with the same grant are joined in turn.
  const grants = new Map<string, { client: string; target: string; unit: number; grant: Grant }>()
  for (const flow of flows) {
    const kind = kindOf(flow.function)
    const key = `${flow.client} ${flow.target} ${kind} ${flow.unit}`
    const one = grants.get(key) ?? {
      client: flow.client,
      target: flow.target,
      unit: flow.unit,
      grant: { kind, functions: [], addresses: null, evidence: [] },
    }
    grants.set(key, one)
    one.grant.evidence.push(flow)
  }
  for (const { grant } of grants.values()) settle(grant, options.slack)
  const byUnits = group(
    [...grants.values()],
    ({ client, target, grant }) => [client, target, termsOf(grant)],
    (ones) => ({
      ...ones[0],
      units: sortedUnits(ones.map((one) => one.unit)),
      evidence: ones.flatMap((one) => one.grant.evidence),
    }),
  )
  const byTargets = group(
    byUnits,
    ({ client, units, grant }) => [client, units, termsOf(grant)],
    (ones) => ({
      ...ones[0],
      to: unique(ones.map((one) => one.target)),
      evidence: ones.flatMap((one) => one.evidence),
    }),
  )
  const byClients = group(
    byTargets,
    ({ to, units, grant }) => [to, units, termsOf(grant)],
    (ones) => ({
      ...ones[0],
      from: unique(ones.map((one) => one.client)),
      evidence: ones.flatMap((one) => one.evidence),
    }),
  )
  const taken = new Set(options.taken)
  return byClients.map(({ from, to, units, grant, evidence }) => ({
    name: ruleName(from, to, grant.kind, options.nameOf, taken),
    from,
    to,
    unitIds: units,
    functions: grant.functions,
    addresses: grant.addresses,
    evidence,
  }))
}

function group<T, U>(ones: readonly T[], key: (one: T) => unknown, join: (group: T[]) => U): U[] {
  const groups = new Map<string, T[]>()
  for (const one of ones) {
    const name = JSON.stringify(key(one))
    const members = groups.get(name)
    if (members === undefined) groups.set(name, [one])
    else members.push(one)
  }
  return [...groups.values()].map(join)
}

const termsOf = ({ kind, functions, addresses }: Grant): unknown => [kind, functions, addresses]
const unique = (texts: readonly string[]): string[] => [...new Set(texts)]
const sortedUnits = (units: readonly number[]): string[] =>
  joinRanges(units.map((unit) => [unit, unit] as const)).map(rangeText)

/** The functions and the ranges of a grant, out of the flows that it rests on. */
function settle(grant: Grant, slack: number): void {
  const flows = [...grant.evidence].sort((a, b) => a.function - b.function || (a.sub ?? 0) - (b.sub ?? 0))
  grant.functions = unique(flows.map(({ function: code, sub }) => selectorName({ code, sub })))
  if (grant.kind === 'file' || grant.kind === 'file-write') return
  const tables: Partial<Record<ModbusTable, string[]>> = {}
  for (const table of MODBUS_TABLES) {
    const ranges = flows.flatMap((flow) => flow.addresses[table] ?? [])
    if (ranges.length > 0) tables[table] = joinRanges(ranges, grant.kind === 'read' ? slack : 0).map(rangeText)
  }
  if (Object.keys(tables).length > 0) grant.addresses = tables
}

/** Longest list of names that a rule's name spells out. */
const SPELT = 2

function ruleName(
  from: readonly string[],
  to: readonly string[],
  kind: Kind,
  nameOf: (address: string) => string,
  taken: Set<string>,
): string {
  const list = (ones: readonly string[], what: string): string =>
    ones.length > SPELT ? `${ones.length} ${what}` : ones.map(nameOf).join(' and ')
  const verb =
    from.length > 1 ? VERBS[kind].replace(/^reads and writes/, 'read and write').replace(/s( |$)/, '$1') : VERBS[kind]
  const base = `${list(from, 'clients')} ${verb} ${list(to, 'targets')}`.slice(0, 120)
  let name = base
  for (let n = 2; taken.has(name); n++) name = `${base} (${n})`
  taken.add(name)
  return name
}

/** `1 request`, `12,000 requests`. */
export const plural = (n: number, what: string): string => `${n.toLocaleString('en')} ${what}${n === 1 ? '' : 's'}`

/** What a rule rests on, in one or two lines. */
export function evidenceText(rule: DraftRule): string[] {
  const { evidence } = rule
  const requests = evidence.reduce((sum, one) => sum + one.requests - one.malformed, 0)
  const first = evidence.reduce((least, one) => (one.first < least ? one.first : least), evidence[0].first)
  const last = evidence.reduce((most, one) => (one.last > most ? one.last : most), evidence[0].last)
  const exceptions = evidence.reduce((sum, one) => sum + Object.values(one.exceptions).reduce((a, b) => a + b, 0), 0)
  const answered = exceptions === 0 ? '' : `, ${exceptions.toLocaleString('en')} answered with an exception`
  const lines = [
    `${plural(requests, 'request')} in ${spanText(Date.parse(last) - Date.parse(first))}, last ${last.slice(0, 16).replace('T', ' ')} UTC${answered}`,
  ]
  const values = valuesText(evidence)
  if (values !== null) lines.push(`values written: ${values}`)
  return lines
}

/** How many ranges of values a comment spells out. */
const VALUE_ROWS = 6

export function valuesText(flows: readonly BaselineFlow[]): string | null {
  const parts: string[] = []
  for (const table of MODBUS_TABLES) {
    const written = flows.flatMap((flow) => flow.values[table] ?? [])
    const rows = mergeValues(written.map((row) => ({ ...row, writes: 0 })))
    if (rows.length === 0) continue
    const shown = rows
      .slice(0, VALUE_ROWS)
      .map(({ range, min, max }) => `${rangeText(range)}: ${min === max ? min : `${min}…${max}`}`)
    parts.push(`${table} ${shown.join(', ')}${rows.length > VALUE_ROWS ? ` and ${rows.length - VALUE_ROWS} more` : ''}`)
  }
  return parts.length === 0 ? null : parts.join('; ')
}

/** `3 d 4 h`, `12 min`, `8 s`. */
export function spanText(ms: number): string {
  const seconds = Math.max(1, Math.round(ms / 1000))
  const units: [number, string][] = [
    [86400, 'd'],
    [3600, 'h'],
    [60, 'min'],
    [1, 's'],
  ]
  const at = units.findIndex(([size]) => seconds >= size)
  const [size, name] = units[at]
  const whole = Math.floor(seconds / size)
  const rest = at < units.length - 1 ? Math.floor((seconds % size) / units[at + 1][0]) : 0
  return rest === 0 ? `${whole} ${name}` : `${whole} ${name} ${rest} ${units[at + 1][1]}`
}
