/** The lines of an ASA configuration as statements, with what stands indented beneath them. */

export interface Statement {
  /** 1-based. */
  line: number
  /** Without the blanks around it. */
  text: string
  words: string[]
  children: Statement[]
}

const MAX_DEPTH = 8

/** Reads lines; those that begin with `!`, `#` or `:` are comments. */
export function readStatements(text: string): Statement[] {
  const top: Statement[] = []
  const open: { indent: number; list: Statement[] }[] = [{ indent: -1, list: top }]
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    const body = raw.trim()
    if (body === '' || /^[!#:]/.test(body)) continue
    const indent = raw.length - raw.trimStart().length
    while (open.length > 1 && (open.at(-1)?.indent ?? -1) >= indent) open.pop()
    const statement = { line: index + 1, text: body, words: body.split(/\s+/), children: [] }
    open.at(-1)?.list.push(statement)
    if (open.length <= MAX_DEPTH) open.push({ indent, list: statement.children })
  }
  return top
}

/** Whether a text looks like such a configuration: to tell it from a policy document. */
export function looksLikeAsa(text: string): boolean {
  return /^(?:access-list \S+ (?:extended|remark|standard|line)\b|access-group \S+ |\s+nameif \S|object-group (?:network|service) |ASA Version )/m.test(
    text,
  )
}
