/** The report as one HTML page: no script, nothing fetched, made for A4 as for a screen. */
import { type Block, type Cell, cellText, cellTone, type Field, type ReportDocument } from './blocks.ts'
import { STYLE } from './style.ts'
import { escapeXml } from './svg.ts'

/** Long words without a place to break (hashes, keys, lists of addresses) break anywhere. */
const isToken = (text: string): boolean => /^\S{33,}$/.test(text)

function inline(cell: Cell): string {
  const text = escapeXml(cellText(cell))
  const body = text
    .split(' ')
    .map((word) => (isToken(word) ? `<code>${word}</code>` : word))
    .join(' ')
  const tone = cellTone(cell)
  return tone === null ? body : `<span class="${tone}">${body}</span>`
}

const value = (of: Field[1]): string =>
  Array.isArray(of) ? `<ul>${of.map((one) => `<li>${inline(one)}</li>`).join('')}</ul>` : inline(of as Cell)

const definitions = (fields: readonly Field[], kind = ''): string =>
  `<dl${kind === '' ? '' : ` class="${kind}"`}>${fields.map(([name, of]) => `<div><dt>${escapeXml(name)}</dt><dd>${value(of)}</dd></div>`).join('')}</dl>`

function blockHtml(block: Block): string {
  switch (block.kind) {
    case 'text':
      return `<p>${inline(block.text)}</p>`
    case 'fields':
      return definitions(block.fields)
    case 'entries':
      return `<div class="entries">${block.entries.map(({ title, fields }) => `<article><h3>${escapeXml(title)}</h3>${definitions(fields)}</article>`).join('')}</div>`
    case 'figure':
      return `<figure>${block.svg}<figcaption>${escapeXml(block.caption)}</figcaption></figure>`
    case 'table': {
      if (block.rows.length === 0) return ''
      const caption = block.caption === '' ? '' : `<caption>${escapeXml(block.caption)}</caption>`
      const head = block.columns.map((name) => `<th scope="col">${escapeXml(name)}</th>`).join('')
      const rows = block.rows.map(
        ([first, ...rest]) =>
          `<tr><th scope="row">${inline(first)}</th>${rest.map((cell) => `<td>${inline(cell)}</td>`).join('')}</tr>`,
      )
      return `<table class="${block.shape}">${caption}<thead><tr>${head}</tr></thead><tbody>${rows.join('')}</tbody></table>`
    }
  }
}

const slug = (heading: string): string => heading.toLowerCase().replaceAll(/[^a-z]+/g, '-')

export function htmlReport(report: ReportDocument): string {
  const contents = report.sections
    .map(({ heading }) => `<li><a href="#${slug(heading)}">${escapeXml(heading)}</a></li>`)
    .join('')
  const sections = report.sections.map(
    ({ heading, blocks }) =>
      `<section id="${slug(heading)}"><h2>${escapeXml(heading)}</h2>${blocks.map(blockHtml).join('\n')}</section>`,
  )
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>${escapeXml(report.title)}</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>${escapeXml(report.title)}</h1>
${definitions(report.head, 'head')}
</header>
<nav aria-label="Contents"><ol>${contents}</ol></nav>
<main>
${sections.join('\n')}
</main>
<footer>${escapeXml(report.colophon)}</footer>
</body>
</html>
`
}
