/** The rules of one Modbus protocol of a conduit: those given, or the one that `direction` spells out. */
import {
  FUNCTION_GROUPS,
  type FunctionSelector,
  parseFunction,
  selectorName,
} from '../protocols/modbus/function-codes.ts'
import type { Check } from './check.ts'
import { deniedFunction } from './denied.ts'
import { covers } from './direction.ts'
import type { Path } from './document.ts'
import { show } from './findings.ts'
import { MODBUS_TABLES, type ModbusRule, type ModbusTable, type Range, type ValueLimit, type Zone } from './model.ts'
import { type BoundDirection, bindDirection, needAddresses, noRules, type RuleContext } from './rule-context.ts'
import { buildList, holdToProse, type Written } from './rule-list.ts'
import type { ModbusDocument, RuleDocument } from './schema.ts'
import { isComplaint, parseRange } from './values.ts'
import { zoneBlocks } from './zones.ts'

/** Tables that can be written (V1.1b3 §4.3). */
const WRITABLE: readonly ModbusTable[] = ['coils', 'holding-registers']

export function buildRules(context: RuleContext, raw: ModbusDocument, path: Path): ModbusRule[] {
  const direction = bindDirection(context, raw.direction, path)
  if (raw.rules === undefined) {
    if (direction !== null) return fromProse(context, direction)
    noRules(context, raw.direction, path)
    return []
  }
  if (direction !== null && direction.prose.length > 0) {
    const claims = direction.prose.map((claim) => show(claim)).join(', ')
    context.check.warn(
      direction.path,
      'prose-not-enforced',
      `found ${claims}, which no rule can be held to; the rest of the direction binds`,
    )
  }
  const built = buildList(context, raw.rules, [...path, 'rules'], (written) => buildRule(context.check, written))
  const rules = built.map(({ rule }) => rule)
  if (direction === null) return rules
  for (const { rule, written } of built) {
    const wider = rule.functions.filter(
      (selector) =>
        direction.functions !== null &&
        !covers(direction.functions, selector) &&
        !deniedFunction(rules, rule, selector),
    )
    const names = wider.map((one) => `${selectorName(one)} (${one.code})`)
    holdToProse(context, written, direction, 'functions', names)
  }
  return rules
}

/** The rule where no rules are given: all that the prose allows, from zone to zone. */
function fromProse(context: RuleContext, direction: BoundDirection): ModbusRule[] {
  const { check, enforce } = context
  if (direction.prose.length > 0) {
    const claims = direction.prose.map((claim) => show(claim)).join(', ')
    const message = `found ${claims}, which no rule can be made of; expected \`rules\`, or a direction such as "Z3 -> Z2 (read only)": every request is denied`
    check.report(enforce, direction.path, 'prose-not-understood', message)
    return []
  }
  if (direction.functions === null) {
    check.warn(
      direction.path,
      'no-function-restriction',
      `found no restriction of functions in ${show(direction.text)}: all are allowed`,
    )
  }
  const ends: [Zone, Zone][] = [[direction.from, direction.to]]
  if (direction.both) ends.push([direction.to, direction.from])
  for (const zone of [direction.from, direction.to]) needAddresses(context, zone, direction.path)
  return ends.map(([from, to], index) => ({
    name: index === 0 ? direction.text : `${direction.text} (back)`,
    action: 'allow',
    from: zoneBlocks(from),
    to: zoneBlocks(to),
    unitIds: null,
    functions: direction.functions ?? [...FUNCTION_GROUPS.all],
    addresses: null,
    values: null,
    onDeny: null,
    mode: null,
    tolerate: [],
    fromProse: true,
    position: check.source.position(direction.path),
  }))
}

function buildRule(check: Check, { raw, path, head }: Written<RuleDocument>): ModbusRule {
  const addresses = buildAddresses(raw)
  return {
    ...head,
    unitIds: raw.unit_ids === undefined ? null : raw.unit_ids.map((one) => parseRange(one, 0, 255, '') as Range),
    functions: buildFunctions(check, raw, head.action, path),
    addresses,
    values: buildValues(check, raw, head.action, addresses, path),
    onDeny: raw.on_deny ?? null,
    tolerate: [...new Set(raw.tolerate ?? [])],
  }
}

function buildFunctions(check: Check, raw: RuleDocument, action: 'allow' | 'deny', path: Path): FunctionSelector[] {
  if (raw.functions !== undefined) {
    const selectors = raw.functions.flatMap((entry) => parseFunction(entry) ?? [])
    return [...new Map(selectors.map((one) => [`${one.code}/${one.sub}`, one])).values()]
  }
  if (action === 'allow' && check.sound([...path, 'functions'])) {
    check.error(
      path,
      'missing-key',
      'expected key "functions" (codes, names or groups; [all] for every function), found none',
    )
  }
  return [...FUNCTION_GROUPS.all]
}

function buildAddresses(raw: RuleDocument): ModbusRule['addresses'] {
  if (raw.addresses === undefined) return null
  const tables: Partial<Record<ModbusTable, Range[]>> = {}
  for (const table of MODBUS_TABLES) {
    const ranges = raw.addresses[table]
    if (ranges !== undefined) tables[table] = joinRanges(ranges.map((one) => parseRange(one, 0, 65535, '') as Range))
  }
  return tables
}

/** In order, with neighbours and overlaps made one: a request over 0-9 and 10-19 is within both together. */
export function joinRanges(ranges: readonly Range[]): Range[] {
  const joined: [number, number][] = []
  for (const [low, high] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = joined.at(-1)
    if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high)
    else joined.push([low, high])
  }
  return joined
}

function buildValues(
  check: Check,
  raw: RuleDocument,
  action: 'allow' | 'deny',
  addresses: ModbusRule['addresses'],
  path: Path,
): ModbusRule['values'] {
  if (raw.values === undefined) return null
  const at = [...path, 'values']
  if (action === 'deny')
    check.error(at, 'values-on-deny', 'found values in a deny rule, expected them in a rule that allows')
  const tables: Partial<Record<ModbusTable, ValueLimit[]>> = {}
  for (const table of MODBUS_TABLES) {
    const limits = raw.values[table]
    if (limits === undefined) continue
    if (!WRITABLE.includes(table)) {
      check.error(
        [...at, table],
        'not-writable',
        `found values for ${table}, which cannot be written; expected ${WRITABLE.join(' or ')}`,
      )
      continue
    }
    const seen: ValueLimit[] = []
    for (const [key, limit] of Object.entries(limits)) {
      const place = [...at, table, key]
      const range = parseRange(key, 0, 65535, 'an address')
      if (isComplaint(range)) {
        check.errorAtKey(place, 'bad-value', `found ${show(key)}, expected ${range.expected}`)
        continue
      }
      const most = table === 'coils' ? 1 : 65535
      const { min = null, max = null, max_step: maxStep = null } = limit
      if (min === null && max === null && maxStep === null)
        check.error(place, 'bad-value', 'found no limit, expected min, max or max_step')
      if (min !== null && max !== null && min > max)
        check.error(place, 'bad-value', `found min ${min} above max ${max}, expected min to be at most max`)
      if ((min ?? 0) > most || (max ?? 0) > most)
        check.error(place, 'bad-value', 'found a limit above 1, expected 0 or 1: a coil is off or on')
      if (table === 'coils' && maxStep !== null)
        check.error(place, 'bad-value', 'found max_step for coils, expected it for holding-registers')
      const other = seen.find((one) => one.range[0] <= range[1] && range[0] <= one.range[1])
      if (other !== undefined) {
        check.errorAtKey(
          place,
          'overlapping-values',
          `found ${key}, which overlaps ${other.range[0]}-${other.range[1]}; expected one limit for each address`,
        )
      }
      const allowed = addresses?.[table]
      if (addresses !== null && !allowed?.some(([low, high]) => low <= range[0] && range[1] <= high)) {
        check.warn(
          place,
          'values-outside-addresses',
          `found limits for ${key}, which is not within the rule's addresses of ${table}`,
        )
      }
      seen.push({ range, min, max, maxStep })
    }
    tables[table] = seen
  }
  return tables
}
