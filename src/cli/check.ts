/** `headgate check`: a policy document held to all its rules; registration of the verb. */
import { type Command, Option } from 'commander'

export interface CheckFlags {
  format: 'text' | 'json'
  /** Warnings count as errors. */
  strict: boolean
  /** Print what the document claims, and what became of each claim. */
  claims: boolean
}

/** Adds the verb. Its exit code goes to `process.exitCode`: 0 clean, 1 findings, 2 cannot read. */
export function check(program: Command): void {
  program
    .command('check')
    .description('check a policy document; exit 0: clean, 1: findings, 2: cannot be read')
    .argument('<policy>', 'policy document (YAML)')
    .addOption(new Option('--format <format>', 'how to print the findings').choices(['text', 'json']).default('text'))
    .option('--strict', 'warnings count as errors', false)
    .option(
      '--claims',
      'print every claim of the document: enforced here, contradicted, elsewhere, or by people',
      false,
    )
    .action(async (policy: string, flags: CheckFlags) => {
      const { runCheck } = await import('./check-run.ts')
      process.exitCode = runCheck(policy, flags)
    })
}
