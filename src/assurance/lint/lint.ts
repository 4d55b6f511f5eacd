/** Holds a loaded document to the lint, and takes out what it suppresses with a written reason. */

import { compareFindings, didYouMean, show } from '../../policy/findings.ts'
import type { LoadedPolicy } from '../../policy/load.ts'
import type { Finding, Suppression } from '../../policy/model.ts'
import { LINTS, type LintId } from './catalogue.ts'
import { type Hit, LINT_RULES } from './rules.ts'

export interface LintFinding extends Finding {
  id: LintId
  /** Clause of the standard, or the reason. */
  clause: string
  mend: string
  /** Ids of zones and conduits, `CONDUIT/RULE`, names of assets: what a suppression may name in `at`. */
  at: string[]
}

export interface SuppressedFinding extends LintFinding {
  /** Why it may stand, as the document says. */
  reason: string
}

export interface Linted {
  /** In the order of the document. */
  findings: LintFinding[]
  suppressed: SuppressedFinding[]
}

/** Findings of the checker that the lint tells with clause and mend. */
const TOLD_HERE: readonly string[] = [
  'overlapping-zones',
  'asset-outside-zone',
  'no-function-restriction',
  'security-none',
]

/** What the checker found and the lint does not tell anew. A document with errors has no lint. */
export const beside = ({ policy, findings }: LoadedPolicy): Finding[] =>
  findings.filter(({ id }) => policy === null || !TOLD_HERE.includes(id))

/**
 * @param loaded a document without errors; one with errors has no lint
 * @param now today, for the dates of the document
 */
export function lint({ policy, source }: Pick<LoadedPolicy, 'policy' | 'source'>, now = new Date()): Linted {
  if (policy === null) return { findings: [], suppressed: [] }
  const input = { policy, source, now }
  const hits = LINT_RULES.flatMap((rule) => rule(input))
  const used = new Set<Suppression>()
  const findings: LintFinding[] = []
  const suppressed: SuppressedFinding[] = []
  for (const hit of hits) {
    const finding = findingOf(policy.file, hit)
    const suppression = policy.suppressions.find(({ id, at }) => id === hit.id && (at === null || hit.at.includes(at)))
    if (suppression === undefined) findings.push(finding)
    else {
      used.add(suppression)
      suppressed.push({ ...finding, reason: suppression.reason })
    }
  }
  for (const suppression of policy.suppressions) {
    if (used.has(suppression)) continue
    const { id, at, position } = suppression
    const where = at === null ? '' : ` at ${show(at)}`
    const near = Object.hasOwn(LINTS, id) ? '' : didYouMean(id, Object.keys(LINTS))
    const message = `found a suppression of ${show(id)}${where}, which no finding matches${near}`
    findings.push(findingOf(policy.file, { id: 'unused-suppression', position, message, at: [] }))
  }
  return { findings: findings.sort(compareFindings), suppressed: suppressed.sort(compareFindings) }
}

function findingOf(file: string, { id, position, message, at }: Hit): LintFinding {
  const { severity, clause, mend } = LINTS[id]
  return { severity, file, ...position, id, message: `${message}; ${mend} (${clause})`, clause, mend, at }
}
