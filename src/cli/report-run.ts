/** What `headgate report` does: facts gathered once, written in as many formats as asked for. */
import { writeFileSync } from 'node:fs'
import { extname } from 'node:path'
import { beside, lint } from '../assurance/lint/lint.ts'
import { gather, type ReportFacts } from '../assurance/report/facts.ts'
import type { ReportFormat } from '../assurance/report/formats.ts'
import { formatReport } from '../assurance/report/report.ts'
import { compareFindings, formatFinding } from '../policy/findings.ts'
import { loadPolicy } from '../policy/load.ts'
import { expand, readKey } from '../records/evidence/paths.ts'
import { recordMade } from './record.ts'
import type { ReportFlags } from './report.ts'

const BY_NAME: Readonly<Record<string, ReportFormat>> = {
  '.html': 'html',
  '.htm': 'html',
  '.md': 'markdown',
  '.json': 'json',
}

/** @returns the exit code */
export async function runReport(file: string, flags: ReportFlags): Promise<number> {
  try {
    const loaded = loadPolicy(file)
    const { policy, findings, claims } = loaded
    if (policy === null) {
      for (const finding of findings) process.stderr.write(`${formatFinding(finding)}\n`)
      return 1
    }
    const now = new Date()
    const linted = lint(loaded, now)
    const facts = await gather({
      policy,
      findings: [...beside(loaded), ...linted.findings].sort(compareFindings),
      suppressed: linted.suppressed,
      claims,
      evidence: await expand(flags.evidence ?? []),
      keys: (flags.key ?? []).map((key) => readKey('--key', key)),
      validations: flags.validation ?? [],
      implementationDate: dateOf(flags.implementationDate),
      now,
    })
    const made: { file: string; content: string }[] = []
    for (const output of flags.output ?? [null]) {
      const format = flags.format ?? BY_NAME[extname(output ?? '').toLowerCase()] ?? 'text'
      const text = formatReport(facts, format)
      if (output === null) process.stdout.write(text)
      else {
        writeFileSync(output, text)
        made.push({ file: output, content: text })
      }
    }
    if (flags.record) await recordMade(policy, 'report', made)
    return holds(facts) ? 0 : 1
  } catch (error) {
    process.stderr.write(`headgate: ${(error as Error).message}\n`)
    return 2
  }
}

function dateOf(text: string | undefined): string | null {
  if (text === undefined) return null
  const time = /^\d{4}-\d\d-\d\d$/.test(text) ? new Date(`${text}T00:00:00Z`) : null
  if (time === null || Number.isNaN(time.getTime()) || time.toISOString().slice(0, 10) !== text) {
    throw new Error(`--implementation-date: found ${text}, expected a day such as 2026-02-23`)
  }
  return text
}

/** Whether nothing in the report is plainly wrong. What is missing is for the auditor to weigh. */
const holds = ({ evidence, validations, claims }: ReportFacts): boolean =>
  evidence.chains.every(({ verify }) => verify.finding === null) &&
  validations.every(
    ({ validation, current }) => !current || validation.probes.every(({ outcome }) => outcome !== 'fail'),
  ) &&
  claims.every(({ status }) => status !== 'contradicted')
