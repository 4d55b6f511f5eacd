/** `headgate analyze`: is it time to enforce; registration of the verb. */
import { type Command, Option } from 'commander'

/** Options as commander hands them over. */
export interface AnalyzeFlags {
  policy?: string
  baseline?: string
  minBaseline: string
  apply?: string[]
  reject?: string[]
  reason?: string
  shadow: boolean
  format: 'text' | 'json'
}

/** Adds the verb. Its exit code goes to `process.exitCode`: 0 ready to enforce, 1 not ready, 2 cannot read or bad usage. */
export function analyze(program: Command): void {
  program
    .command('analyze')
    .description(
      'what would have been denied, ranked, with the policy lines that would allow it; exit 0: ready to enforce, 1: not, 2: cannot be read',
    )
    .argument('[evidence...]', 'evidence files, or directories of them; default: where the policy keeps it')
    .option('--policy <file>', 'policy in force: what it allows by now is left out, and lines are made for it')
    .option('--baseline <file>', 'baseline, or a directory of one; default: where the policy keeps it')
    .option('--min-baseline <time>', 'how long must have been watched, such as 14d or 12h', '14d')
    .option('--apply <id...>', 'write the rules that allow these into the policy; comments and order are kept')
    .option('--reject <id...>', 'decide that these shall not pass; kept beside the baseline')
    .option('--reason <text>', 'why; with --reject')
    .option(
      '--shadow',
      'what the shadow policy would change, in place of the rest; exit 1: it would deny what passes',
      false,
    )
    .addOption(new Option('--format <format>', 'how to print the result').choices(['text', 'json']).default('text'))
    .action(async (evidence: string[], flags: AnalyzeFlags) => {
      const { runAnalyze } = await import('./analyze-run.ts')
      process.exitCode = await runAnalyze(evidence, flags)
    })
}
