/** The command line: one verb a file, each loaded when it is asked for. */
import { readFileSync } from 'node:fs'
import { Command, CommanderError, Option } from 'commander'

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string
}

/** Builds the parser; `exit` is told the exit code of the verb that ran. */
export function program(exit: (code: number) => void): Command {
  const headgate = new Command('headgate')
    .description('Inline proxy for an IEC 62443 conduit: lets through only what the policy allows.')
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [verb]', 'print the help of a verb')
    .showSuggestionAfterError()
    .configureOutput({ outputError: (text, write) => write(`headgate: ${text.replace(/^error: /, '')}`) })
    .exitOverride()

  headgate
    .command('run')
    .description('carry the conduits of a policy, in the foreground, until SIGTERM; SIGHUP reloads the policy')
    .argument('<policy>', 'policy document (YAML)')
    .action(async (policy: string) => {
      const { run } = await import('./run.ts')
      exit(await run(policy))
    })

  headgate
    .command('check')
    .description('check a policy document; exit 0: clean, 1: findings, 2: cannot be read')
    .argument('<policy>', 'policy document (YAML)')
    .addOption(new Option('--format <format>', 'how to print the findings').choices(['text', 'json']).default('text'))
    .option('--strict', 'warnings count as errors', false)
    .action(async (policy: string, options: { format: 'text' | 'json'; strict: boolean }) => {
      const { check } = await import('./check.ts')
      exit(check(policy, options))
    })

  return headgate
}

/** Runs one command line; exits 2 where it is not understood. */
export async function main(argv: readonly string[]): Promise<void> {
  // Readers that go away (`headgate check … | head`) are no error of ours.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(0)
      throw error
    })
  }
  try {
    await program((code) => {
      process.exitCode = code
    }).parseAsync(argv)
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    // Help and version were asked for, and are no error; all else is a command line that is not understood.
    process.exitCode = error.exitCode === 0 ? 0 : 2
  }
}
