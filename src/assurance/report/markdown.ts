/** The report as Markdown (CommonMark with GitHub's tables). */
import { type Block, type Cell, cellText, type Field, type ReportDocument } from './blocks.ts'
import { plain } from './text.ts'

/** What Markdown, the HTML in it or GitHub's bare links could take for more than itself (CommonMark §2.4). */
const SPECIAL = /[\\`*_{}[\]#|~<>&@]|:(?=\/)|\bwww(?=\.)/gi
const ENTITIES: Record<string, string> = { '<': '&lt;', '>': '&gt;', '&': '&amp;', ':': '&#58;', '@': '&#64;' }

/** One line of text that means itself. */
export const markdownText = (text: string): string =>
  plain(text).replaceAll(SPECIAL, (found) => ENTITIES[found] ?? (found.length === 3 ? 'w&#119;w' : `\\${found}`))

/** Where a line begins with text: list marks and headings begin nothing there either. */
const atStart = (text: string): string => text.replace(/^(\d+)([.)])/, '$1\\$2').replace(/^([-+=])/, '\\$1')

const TONES = { good: '', bad: '**', warn: '*', quiet: '' } as const

function inline(cell: Cell): string {
  const text = markdownText(cellText(cell))
  const mark = typeof cell === 'string' ? '' : TONES[cell.tone]
  return text === '' ? '' : `${mark}${text}${mark}`
}

function fieldLines([name, value]: Field): string[] {
  const label = `- ${markdownText(name)}:`
  if (!Array.isArray(value)) return [`${label} ${inline(value as Cell)}`]
  if (value.length === 0) return [`${label} none`]
  return [label, ...value.map((one) => `  - ${atStart(inline(one))}`)]
}

function blockLines(block: Block): string[] {
  switch (block.kind) {
    case 'text':
      return [atStart(inline(block.text)), '']
    case 'fields':
      return [...block.fields.flatMap(fieldLines), '']
    case 'entries':
      return block.entries.flatMap(({ title, fields }) => [
        `### ${markdownText(title)}`,
        '',
        ...fields.flatMap(fieldLines),
        '',
      ])
    case 'figure':
      return []
    case 'table': {
      if (block.rows.length === 0) return []
      const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
      return [
        ...(block.caption === '' ? [] : [`${markdownText(block.caption)}:`, '']),
        row(block.columns.map(markdownText)),
        row(block.columns.map(() => '---')),
        ...block.rows.map((cells) => row(cells.map(inline))),
        '',
      ]
    }
  }
}

export function markdownReport(report: ReportDocument): string {
  const lines = [`# ${markdownText(report.title)}`, '', ...report.head.flatMap(fieldLines), '']
  for (const { heading, blocks } of report.sections) {
    lines.push(`## ${markdownText(heading)}`, '', ...blocks.flatMap(blockLines))
  }
  lines.push('---', '', atStart(markdownText(report.colophon)))
  return `${lines.join('\n')}\n`
}
