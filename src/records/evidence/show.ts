/** Records of the evidence for a person or another program: which ones, and how they are printed. */

export interface ShowFilter {
  /** Milliseconds since the epoch. */
  since: number
  until: number
  /** null: all. */
  conduits: readonly string[] | null
  reasons: readonly string[] | null
  events: readonly string[] | null
}

type Fields = Record<string, unknown>

export function matches(record: Fields, filter: ShowFilter): boolean {
  const time = Date.parse(String(record.time))
  // A record that stands for many is of all the time that they took.
  const first = record.first === undefined ? time : Date.parse(String(record.first))
  if (time < filter.since || first > filter.until) return false
  if (filter.conduits !== null && !filter.conduits.includes(String(record.conduit))) return false
  if (filter.reasons !== null && !filter.reasons.includes(String(record.reason))) return false
  const event = String(record.event)
  if (filter.events === null) return event !== 'evidence.checkpoint'
  return filter.events.some((one) => one === event || (one.endsWith('.*') && event.startsWith(one.slice(0, -1))))
}

const COLUMNS = [
  'seq',
  'time',
  'severity',
  'event',
  'conduit',
  'rule',
  'reason',
  'client',
  'target',
  'function',
  'count',
  'detail',
]
/** Widths in the table; the last column is as wide as it is. */
const WIDTHS = [8, 24, 8, 22, 16, 20, 9, 22, 22, 28, 6, 0]

function cell(record: Fields, column: string): string {
  if (column === 'client' || column === 'target') return String(record[`${column}_asset`] ?? record[column] ?? '')
  return String(record[column] ?? '')
}

/** Control characters would let a record draw on the reader's terminal. */
const visible = (text: string): string => text.replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ')

const row = (cells: readonly string[]): string =>
  `${cells
    .map((text, i) => visible(text).padEnd(WIDTHS[i]))
    .join(' ')
    .trimEnd()}\n`

/** RFC 4180; a cell that a spreadsheet would take for a formula is made text by an apostrophe. */
function csvCell(value: unknown): string {
  const plain = String(value ?? '')
  const text = typeof value === 'string' && /^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

export interface ShowFormat {
  head: string
  line(record: Fields): string
}

const CSV_COLUMNS = [
  ...['seq', 'time', 'id', 'severity', 'event', 'gateway', 'policy', 'conduit', 'protocol', 'mode', 'rule', 'reason'],
  ...['client', 'client_port', 'client_asset', 'target', 'target_port', 'target_asset', 'unit_id', 'function_code'],
  ...['function', 'address', 'quantity', 'values', 'exception_code', 'count', 'first', 'last', 'detail'],
]

export const FORMATS: Record<'table' | 'json' | 'csv', ShowFormat> = {
  table: { head: row(COLUMNS), line: (record) => row(COLUMNS.map((column) => cell(record, column))) },
  json: { head: '', line: (record) => `${JSON.stringify(record)}\n` },
  csv: {
    head: `${CSV_COLUMNS.join(',')}\r\n`,
    line: (record) => `${CSV_COLUMNS.map((column) => csvCell(record[column])).join(',')}\r\n`,
  },
}
