/** Claims of a document as a table for people. */
import { CLAIM_STATUSES, type Claim, type ClaimStatus } from '../policy/claims.ts'
import { show } from '../policy/findings.ts'

export const STATUS_WORDS: Record<ClaimStatus, string> = {
  'enforced-here': 'enforced here',
  contradicted: 'CONTRADICTED',
  'not-enforced': 'NOT ENFORCED',
  'enforced-elsewhere': 'enforced elsewhere',
  'not-machine-checkable': 'attested by people',
}

/** How many claims have each status; every status has its number. */
export function countClaims(claims: readonly Claim[]): Record<ClaimStatus, number> {
  const statuses = Object.keys(CLAIM_STATUSES) as ClaimStatus[]
  const counts = statuses.map((status) => [status, claims.filter((claim) => claim.status === status).length])
  return Object.fromEntries(counts)
}

/** Lines of text: what was claimed where, what became of it, by what, and why. */
export function claimsTable(claims: readonly Claim[]): string[] {
  const rows = claims.map((claim) => [
    `${claim.line}`,
    claim.conduit ?? claim.zone ?? '',
    claim.protocol === null ? claim.key : `${claim.key} (${claim.protocol})`,
    show(claim.part),
    STATUS_WORDS[claim.status],
  ])
  const head = ['line', 'where', 'key', 'claim', 'outcome']
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column].length)))
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => cell.padEnd(widths[column]))
      .join('  ')
      .trimEnd()
  return [
    line(head),
    ...rows.flatMap((row, index) => {
      const { by, detail, places } = claims[index]
      const lines = [...new Set(places.map((one) => one.line))]
      const where = lines.length === 0 ? '' : ` (line${lines.length === 1 ? '' : 's'} ${lines.join(', ')})`
      return [line(row), `${' '.repeat(widths[0])}    ${by}${where}: ${detail}`]
    }),
    '',
    ...Object.entries(countClaims(claims)).map(
      ([status, n]) =>
        `${String(n).padStart(4)}  ${STATUS_WORDS[status as ClaimStatus].toLowerCase()}: ${CLAIM_STATUSES[status as ClaimStatus]}`,
    ),
  ]
}
