/** What `headgate compare` does. */
import { compare } from '../assurance/compare/compare.ts'
import { readSide, SideUnreadable } from '../assurance/compare/side.ts'
import { comparisonJson, comparisonText } from '../assurance/compare/words.ts'
import { TooManyPieces } from '../render/flows.ts'
import type { CompareFlags } from './compare.ts'

/** @returns the exit code: 0 where they allow the same, 1 where not, 2 where they cannot be compared */
export function runCompare(a: string, b: string, flags: CompareFlags): number {
  const interfaces = new Map<string, string>()
  for (const one of flags.zone ?? []) {
    const [nameif, zone] = one.split('=')
    if (!nameif || !zone) return fail(`found --zone ${one}, expected NAMEIF=ZONE`)
    interfaces.set(nameif, zone)
  }
  try {
    const comparison = compare(readSide(a), readSide(b), interfaces)
    if (!comparison.comparable) {
      const why = comparison.notes.length === 0 ? '' : `:\n${comparison.notes.map((note) => `  ${note}`).join('\n')}`
      return fail(`nothing of ${a} and ${b} can be compared${why}`)
    }
    const text =
      flags.format === 'json'
        ? JSON.stringify(comparisonJson(comparison), null, 2)
        : comparisonText(comparison).join('\n')
    process.stdout.write(`${text}\n`)
    return comparison.onlyA.length + comparison.onlyB.length === 0 ? 0 : 1
  } catch (error) {
    if (error instanceof SideUnreadable) return fail([error.message, ...error.findings].join('\n'))
    if (error instanceof TooManyPieces) return fail(`${a} and ${b} cannot be compared: ${error.message}`)
    throw error
  }
}

function fail(message: string): number {
  process.stderr.write(`headgate: ${message}\n`)
  return 2
}
