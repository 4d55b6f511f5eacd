/** What validations have in common: how they end, and what stands in their way. */
import { writeFileSync } from 'node:fs'
import { plain } from '../assurance/report/text.ts'
import type { ProbeResult } from '../assurance/result.ts'
import { CannotValidate } from '../assurance/validate/plan.ts'
import { type Setting, summaryLine, validationFile } from '../assurance/validate/run.ts'
import type { Policy } from '../policy/model.ts'
import { Refused } from './captures.ts'
import { recordMade } from './record.ts'

export interface ValidationFlags {
  format: 'text' | 'json'
  output?: string
  record: boolean
}

/** One line of text, where text is asked for. */
export const sayTo =
  ({ format }: Pick<ValidationFlags, 'format'>) =>
  (line: string): void => {
    if (format === 'text') process.stdout.write(`${plain(line)}\n`)
  }

/** Tells and writes what came of it. @returns the exit code */
export async function conclude(
  setting: Setting & { policy: Policy },
  results: ProbeResult[],
  flags: ValidationFlags,
): Promise<number> {
  const json = `${JSON.stringify(validationFile(setting, results), null, 2)}\n`
  sayTo(flags)(summaryLine(results))
  if (flags.format === 'json') process.stdout.write(json)
  if (flags.output !== undefined) {
    writeFileSync(flags.output, json)
    if (flags.record) await recordMade(setting.policy, 'validation', [{ file: flags.output, content: json }])
  }
  return results.some(({ outcome }) => outcome === 'fail') ? 1 : 0
}

/** @returns the exit code of `validate`; 2 with one line where it cannot be done */
export async function attempt(validate: () => Promise<number>): Promise<number> {
  try {
    return await validate()
  } catch (error) {
    if (!(error instanceof CannotValidate || error instanceof Refused || 'code' in (error as object))) throw error
    process.stderr.write(`headgate: ${(error as Error).message}\n`)
    return 2
  }
}
