/** A report in each of its formats. */
import { compose } from './compose.ts'
import type { ReportFacts } from './facts.ts'
import type { ReportFormat } from './formats.ts'
import { htmlReport } from './html.ts'
import { jsonReport } from './json.ts'
import { markdownReport } from './markdown.ts'
import { textReport } from './text.ts'

const MAKE: Readonly<Record<ReportFormat, (facts: ReportFacts) => string>> = {
  text: (facts) => textReport(compose(facts)),
  markdown: (facts) => markdownReport(compose(facts)),
  html: (facts) => htmlReport(compose(facts)),
  json: jsonReport,
}

export const formatReport = (facts: ReportFacts, format: ReportFormat): string => MAKE[format](facts)
