/** The report as plain text, in the form of the zone implementation report that assessors know. */
import { oneLine } from '../../records/formats/text.ts'
import { type Block, cellText, type Entry, type Field, type ReportDocument } from './blocks.ts'

/** Marks that turn the direction of the text around them, or are not seen at all. */
const INVISIBLE = /[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]/g

/** One line that draws on no terminal and reads as it is. */
export const plain = (text: string): string => oneLine(text).replace(INVISIBLE, '').trim()

const fieldLine = ([name, value]: Field, indent: string): string[] => {
  if (!Array.isArray(value)) return [`${indent}${plain(name)}: ${plain(cellText(value as string))}`]
  if (value.length === 0) return [`${indent}${plain(name)}: none`]
  return [`${indent}${plain(name)}:`, ...value.map((one) => `${indent}  - ${plain(cellText(one))}`)]
}

const entryLines = ({ title, fields }: Entry): string[] => [
  `  ${plain(title)}`,
  ...fields.flatMap((field) => fieldLine(field, '    ')),
]

function blockLines(block: Block): string[] {
  if (block.kind === 'text') return [`  ${plain(cellText(block.text))}`]
  if (block.kind === 'fields') return block.fields.flatMap((field) => fieldLine(field, '  '))
  if (block.kind === 'entries') return block.entries.flatMap(entryLines)
  if (block.kind === 'figure' || block.rows.length === 0) return []
  const rows = block.rows.map((row) => row.map((cell) => plain(cellText(cell))))
  if (block.shape === 'columns') {
    const all = [block.columns, ...rows]
    const widths = block.columns.map((_, i) => Math.max(...all.map((row) => row[i].length)))
    return all.map((row) => `    ${row.map((cell, i) => cell.padEnd(widths[i])).join('  ')}`.trimEnd())
  }
  return rows.flatMap(([title, ...values]) => [
    `    ${title}`,
    ...values.flatMap((value, i) => (value === '' ? [] : [`      ${block.columns[i + 1]}: ${value}`])),
  ])
}

export function textReport(report: ReportDocument): string {
  const lines = [report.title, '='.repeat(report.title.length + 1)]
  for (const field of report.head) lines.push(...fieldLine(field, ''))
  for (const { heading, blocks } of report.sections) {
    lines.push('', `${heading}:`)
    for (const block of blocks) {
      if (block.kind === 'table' && block.rows.length > 0 && block.caption !== '')
        lines.push(`  ${plain(block.caption)}:`)
      lines.push(...blockLines(block))
    }
  }
  lines.push('', plain(report.colophon))
  return `${lines.join('\n')}\n`
}
