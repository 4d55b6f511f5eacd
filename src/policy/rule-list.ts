/** The rules of a protocol as a list of the document: what those of all protocols begin with, and what binds each of them. */
import type { Path } from './document.ts'
import { show } from './findings.ts'
import type { AddressBlock, Position } from './model.ts'
import {
  type BoundDirection,
  holdToDirection,
  type RuleContext,
  references,
  saidBy,
  touches,
  within,
} from './rule-context.ts'
import type { OpcUaRuleDocument, RuleDocument } from './schema.ts'
import type { Reference } from './zones.ts'

/** One rule as the document has it. */
export interface Written<Raw> {
  /** Without the keys that are not sound. */
  raw: Raw
  path: Path
  from: Reference[]
  to: Reference[]
  /** What all rules begin with. */
  head: {
    name: string
    action: 'allow' | 'deny'
    from: AddressBlock[]
    to: AddressBlock[]
    mode: 'monitor' | null
    fromProse: false
    position: Position
  }
}

/** Builds each rule of a list; their names are unique. */
export function buildList<Raw extends RuleDocument | OpcUaRuleDocument, Rule extends { name: string }>(
  context: RuleContext,
  list: readonly Raw[],
  path: Path,
  build: (one: Written<Raw>) => Rule,
): { rule: Rule; written: Written<Raw> }[] {
  const { check } = context
  const names = new Map<string, number>()
  const built: { rule: Rule; written: Written<Raw> }[] = []
  for (const [index, raw] of list.entries()) {
    const at = [...path, index]
    if (typeof raw !== 'object' || raw === null) continue
    const written = read(context, raw, index, at)
    const rule = build(written)
    const before = names.get(rule.name)
    if (before !== undefined) {
      const message = `found rule name ${show(rule.name)} twice (also rule ${before + 1}), expected names that are unique`
      check.error([...at, 'name'], 'duplicate-name', message)
    }
    names.set(rule.name, index)
    built.push({ rule, written })
  }
  if (list.length === 0) check.warn(path, 'no-rules', 'found no rule: every request is denied')
  return built
}

function read<Raw extends RuleDocument | OpcUaRuleDocument>(
  context: RuleContext,
  whole: Raw,
  index: number,
  path: Path,
): Written<Raw> {
  const { check } = context
  // A rule with one bad key is still read for the rest: all that is wrong is said at once.
  const raw = check.soundPart(whole, path)
  const from = references(context, raw.from ?? [], [...path, 'from'])
  const to = references(context, raw.to ?? [], [...path, 'to'])
  const head = {
    name: raw.name ?? `rule-${index + 1}`,
    action: raw.action ?? 'allow',
    from: from.flatMap((one) => one.blocks),
    to: to.flatMap((one) => one.blocks),
    mode: raw.mode ?? null,
    fromProse: false as const,
    position: check.source.position(path),
  }
  return { raw, path, from, to, head }
}

/**
 * A rule that allows may not allow more than the direction says: the prose of the zone document is binding.
 * @param key where the document has what is allowed
 * @param surplus what is more than the direction says, and no deny rule takes away; in words
 */
export function holdToProse(
  { check }: RuleContext,
  { raw, path, from, to, head }: Written<RuleDocument | OpcUaRuleDocument>,
  direction: BoundDirection,
  key: 'functions' | 'services',
  surplus: readonly string[],
): void {
  if (head.action !== 'allow') return
  holdToDirection(check, from, to, path, direction)
  const initiates = from.some((one) => touches(one, direction.from) && !within(one, direction.to))
  // Clients in the responder's own zone cross no boundary; the prose does not speak of them.
  if (surplus.length === 0 || !(key in raw) || !(initiates || direction.both)) return
  const more = surplus.length > 4 ? ` and ${surplus.length - 4} more` : ''
  check.error(
    [...path, key],
    'wider-than-direction',
    `found ${surplus.slice(0, 4).join(', ')}${more}, expected no more than the direction says: ${saidBy(check, direction)}`,
  )
}
