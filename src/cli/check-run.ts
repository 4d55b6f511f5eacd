/** What `headgate check` does: everything that is wrong with a policy document, at once. */
import { claimsTable } from '../assurance/claims-table.ts'
import { beside, lint } from '../assurance/lint/lint.ts'
import { compareFindings, formatFinding } from '../policy/findings.ts'
import { loadPolicy, PolicyUnreadable } from '../policy/load.ts'
import type { Finding } from '../policy/model.ts'
import type { CheckFlags } from './check.ts'

/**
 * Findings go to stdout: as lines, or as one JSON object `{ file, sha256, ok, errors, warnings, findings, suppressed }`; with
 * `claims` the table of claims stands between them and the verdict, or in the object.
 * @returns the exit code: 0 clean, 1 errors (or warnings, where strict), 2 where the file cannot be read
 */
export function runCheck(file: string, options: CheckFlags): number {
  let loaded: ReturnType<typeof loadPolicy>
  try {
    loaded = loadPolicy(file)
  } catch (error) {
    if (!(error instanceof PolicyUnreadable)) throw error
    process.stderr.write(`headgate: ${error.message}\n`)
    return 2
  }
  const { policy, claims } = loaded
  const { findings: linted, suppressed } = lint(loaded)
  const findings: Finding[] = [...beside(loaded), ...linted].sort(compareFindings)
  const errors = count(findings, 'error')
  const warnings = count(findings, 'warning')
  const ok = errors === 0 && !(options.strict && warnings > 0)
  if (options.format === 'json') {
    const sha256 = policy?.sha256 ?? null
    const answer = { file, sha256, ok, errors, warnings, findings, suppressed, ...(options.claims ? { claims } : {}) }
    process.stdout.write(`${JSON.stringify(answer, null, 2)}\n`)
  } else {
    for (const finding of findings) process.stdout.write(`${formatFinding(finding)}\n`)
    for (const { id, line, message, reason } of suppressed) {
      const found = message.split(';', 1)[0]
      process.stdout.write(`${file}:${line}: suppressed: ${found} [${id}]: ${JSON.stringify(reason)}\n`)
    }
    if (options.claims) process.stdout.write(`${claimsTable(claims).join('\n')}\n\n`)
    const verdict = ok ? 'ok' : 'not usable'
    process.stdout.write(`${file}: ${verdict}: ${plural(errors, 'error')}, ${plural(warnings, 'warning')}\n`)
  }
  return ok ? 0 : 1
}

const count = (findings: readonly Finding[], severity: Finding['severity']): number =>
  findings.filter((finding) => finding.severity === severity).length

const plural = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`
