/** The report as JSON for other programs: the facts, the mapping, and nothing that is for the eye alone. */
import { compliance } from './compliance.ts'
import type { ReportFacts } from './facts.ts'

/** Raised when a reader of an older version would misunderstand the file. */
export const REPORT_VERSION = 1
const HOUR_MS = 3_600_000

export function jsonReport(facts: ReportFacts): string {
  const { evidence, ...rest } = facts
  const verdicts = [...evidence.verdicts].flatMap(([conduit, hours]) =>
    [...hours]
      .sort((a, b) => a[0] - b[0])
      .map(([hour, counts]) => ({ conduit, hour: new Date(hour * HOUR_MS).toISOString(), ...counts })),
  )
  const reasons = [...evidence.reasons].map(([key, count]) => {
    const at = key.indexOf('\n')
    return { conduit: key.slice(0, at), reason: key.slice(at + 1), count }
  })
  const report = {
    format: 'headgate-report',
    version: REPORT_VERSION,
    headgate: rest.version,
    ...Object.fromEntries(Object.entries(rest).filter(([key]) => key !== 'version')),
    evidence: { ...evidence, verdicts, reasons, counts: Object.fromEntries(evidence.counts) },
    compliance: compliance(facts),
  }
  return `${JSON.stringify(report, null, 2)}\n`
}
