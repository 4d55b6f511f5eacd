/** `docs/reference/claims.md` and `docs/reference/lint.md`: made from the grammar and the catalogue of the code. */
import { LINTS } from '../src/assurance/lint/catalogue.ts'
import { FORMS } from '../src/policy/claim-forms.ts'
import { CLAIM_STATUSES } from '../src/policy/claims.ts'

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ')

export function claimsPage(generated: string): string {
  const forms = FORMS.map(
    ({ id, grammar, meaning, example }) => `| \`${id}\` | ${cell(grammar)} | ${cell(meaning)} | ${cell(example)} |`,
  )
  const statuses = Object.entries(CLAIM_STATUSES).map(([status, text]) => `| \`${status}\` | ${cell(text)} |`)
  return `${generated}
# Claims

What a zone-and-conduit document says in prose binds. \`headgate check --claims POLICY\` reads every \`direction\`,
\`security_mode\`, \`controls\`, \`security_requirements\` and \`allowed_conduits\`, and prints what became of each claim, by
which rule or limit, with the lines.

| outcome | meaning |
| --- | --- |
${statuses.join('\n')}

## Grammar

    text       = part [ "(" part ")" ]                  ; each part that a form reads is a claim of its own
    direction  = zone arrow zone [ "(" claim *( ( "," / ";" / "and" ) claim ) ")" ]
    arrow      = "->" / "→" / "<->" / "↔"              ; who opens connections to whom
    claim      = functions / access / form
    functions  = ( "FC" / "function code" [ "s" ] ) code *( ( "/" / "," / "-" / "and" / "or" ) code ) [ "only" ]
    access     = "read only" / "no writes" / "read/write" / "write only" / "diagnostics only"
    LEVEL      = ( "level " / "L" ) number [ "+" / " or above" / " and above" ]
    ZONE       = a zone's id, or the part of it before the first dash

A part is read in lower case, with blanks and dashes as one blank. The first of these forms that matches reads it; words
in capitals stand for something of the document, \`…\` for any words, \`|\` for a choice. What no form reads is for people.

| form | grammar | held to | example |
| --- | --- | --- | --- |
${forms.join('\n')}
`
}

export function lintPage(generated: string): string {
  const rows = Object.entries(LINTS).map(
    ([id, { severity, title, clause, mend }]) =>
      `| \`${id}\` | ${severity} | ${cell(title)} | ${cell(clause)} | ${cell(mend)} |`,
  )
  return `${generated}
# Lint

\`headgate check POLICY\` holds a document without errors to these. A finding may stand with a written reason, which is
listed with the findings and in the report:

    lint:
      suppress:
        - { id: conduit-below-target, at: C3-DMZ-ENT, reason: "Accepted by the risk assessment of 2026-02-23, item 14." }

\`at\` is a zone, a conduit, an asset or \`CONDUIT/RULE\`; without it the suppression is for the whole document. Warnings
alone leave the exit code at 0; \`--strict\` makes it 1.

| id | severity | found | clause or reason | mend |
| --- | --- | --- | --- | --- |
${rows.join('\n')}
`
}
