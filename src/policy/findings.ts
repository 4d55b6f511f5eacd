/** What `check` says of a place in a policy document, and how it is printed. */
import { distance } from 'fastest-levenshtein'
import type { Finding } from './model.ts'

/** `file:line:column: severity: message [id]`, as editors and terminals link it. */
export function formatFinding(finding: Finding): string {
  const { file, line, column, severity, message, id } = finding
  return `${file}:${line}:${column}: ${severity}: ${message} [${id}]`
}

/** By place in the document; errors before warnings at the same place. */
export function compareFindings(a: Finding, b: Finding): number {
  return a.line - b.line || a.column - b.column || a.severity.localeCompare(b.severity) || a.id.localeCompare(b.id)
}

/** @returns `; did you mean "…"?` where one of the candidates is near, else the empty string */
export function didYouMean(text: string, candidates: Iterable<string>): string {
  const wanted = text.toLowerCase()
  if (wanted.length > 64) return ''
  let best: string | null = null
  let least = Math.max(1, Math.floor(wanted.length / 3)) + 1
  for (const candidate of candidates) {
    const word = candidate.toLowerCase()
    const steps = swapped(wanted, word) ? 1 : distance(wanted, word)
    if (steps < least) {
      least = steps
      best = candidate
    }
  }
  return best === null ? '' : `; did you mean "${best}"?`
}

/** `raed` for `read`: two letters changed places. */
function swapped(a: string, b: string): boolean {
  if (a.length !== b.length) return false
  let at = 0
  while (at < a.length && a[at] === b[at]) at++
  return at + 1 < a.length && a[at] === b[at + 1] && a[at + 1] === b[at] && a.slice(at + 2) === b.slice(at + 2)
}

/** A value of the document as a message shows it: JSON, cut to a readable length, control characters escaped. */
export function show(value: unknown): string {
  const text = value === undefined ? 'nothing' : asJson(value)
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`
}

function asJson(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value)
  } catch {
    return 'a structure that contains itself'
  }
}
