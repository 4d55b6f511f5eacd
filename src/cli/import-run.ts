/** What `headgate import isa3000` does. */
import { writeFileSync } from 'node:fs'
import { readConfiguration, SideUnreadable } from '../assurance/compare/side.ts'
import { formatFinding } from '../policy/findings.ts'
import { checkPolicy, loadPolicy, PolicyUnreadable } from '../policy/load.ts'
import { importAsa } from '../render/asa/import.ts'
import { looksLikeAsa } from '../render/asa/statements.ts'
import { TooManyPieces } from '../render/flows.ts'
import type { ImportFlags } from './import.ts'
import { recordMade } from './record.ts'

/** @returns the exit code: 0 where the document passes the checks, 1 where not, 2 where there is nothing to import */
export async function runImport(file: string, flags: ImportFlags): Promise<number> {
  if (flags.record !== undefined && flags.output === undefined) return fail('expected --output with --record')
  try {
    const keeper = flags.record === undefined ? null : loadPolicy(flags.record).policy
    if (flags.record !== undefined && keeper === null) return fail(`${flags.record} has errors; see headgate check`)
    const text = readConfiguration(file)
    if (!looksLikeAsa(text)) return fail(`${file} is no configuration of an ASA or ISA-3000`)
    const imported = importAsa(file, text)
    const { findings } = checkPolicy(flags.output ?? 'imported document', Buffer.from(imported.text))
    const errors = findings.filter(({ severity }) => severity === 'error')
    if (flags.output === undefined) process.stdout.write(imported.text)
    else {
      writeFileSync(flags.output, imported.text, { flag: 'wx' })
      if (keeper !== null) await recordMade(keeper, 'import', [{ file: flags.output, content: imported.text }])
    }
    const { notes, decide } = imported
    if (flags.format === 'json') process.stderr.write(`${JSON.stringify({ notes, decide, findings }, null, 2)}\n`)
    else {
      for (const note of notes)
        process.stderr.write(`${file}:${note.line}: no equivalent: ${JSON.stringify(note.text)}: ${note.why}\n`)
      for (const one of decide) process.stderr.write(`to decide: ${one}\n`)
      for (const finding of errors) process.stderr.write(`${formatFinding(finding)}\n`)
    }
    return errors.length === 0 ? 0 : 1
  } catch (error) {
    if (error instanceof SideUnreadable || error instanceof PolicyUnreadable) return fail(error.message)
    if (error instanceof TooManyPieces) return fail(`${file}: its entries leave too many pieces to be told`)
    const { code, path, message } = error as NodeJS.ErrnoException
    if (code === undefined || path === undefined) throw error
    return fail(`cannot write ${path}: ${code === 'EEXIST' ? 'it is there already' : message}`)
  }
}

function fail(message: string): number {
  process.stderr.write(`headgate: ${message}\n`)
  return 2
}
