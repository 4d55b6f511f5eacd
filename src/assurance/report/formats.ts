/** Names of the formats that a report can have. */
export const REPORT_FORMATS = ['text', 'markdown', 'html', 'json'] as const
export type ReportFormat = (typeof REPORT_FORMATS)[number]
