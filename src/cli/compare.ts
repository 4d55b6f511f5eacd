/** `headgate compare`: what one configuration allows and the other does not; registration of the verb. */
import { type Command, Option } from 'commander'

export interface CompareFlags {
  format: 'text' | 'json'
  /** `NAMEIF=ZONE`. */
  zone?: string[]
}

const collect = (value: string, before: string[] = []): string[] => [...before, value]

/** Adds the verb. Its exit code goes to `process.exitCode`: 0 they allow the same, 1 they differ, 2 cannot be compared. */
export function compare(program: Command): void {
  program
    .command('compare')
    .description('what one allows that the other does not; exit 0: the same, 1: they differ, 2: cannot be compared')
    .argument('<a>', 'policy document, or configuration of an ASA or ISA-3000')
    .argument('<b>', 'the other')
    .option('--zone <nameif=zone>', 'zone of the document that an interface is in; may be repeated', collect)
    .addOption(new Option('--format <format>', 'how to print it').choices(['text', 'json']).default('text'))
    .action(async (a: string, b: string, flags: CompareFlags) => {
      const { runCompare } = await import('./compare-run.ts')
      process.exitCode = runCompare(a, b, flags)
    })
}
