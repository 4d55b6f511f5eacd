/** The command line: one file a verb, whose work is loaded when it is asked for. */
import { Command, CommanderError } from 'commander'
import { VERSION } from '../version.ts'
import { analyze } from './analyze.ts'
import { bench } from './bench.ts'
import { check } from './check.ts'
import { compare } from './compare.ts'
import { control } from './control.ts'
import { drift } from './drift.ts'
import { evidence } from './evidence.ts'
import { importing } from './import.ts'
import { learn } from './learn.ts'
import { pki } from './pki.ts'
import { render } from './render.ts'
import { replay } from './replay.ts'
import { report } from './report.ts'
import { run } from './run.ts'
import { top } from './top.ts'
import { validate } from './validate.ts'

/** The parser, with every verb. */
export function program(): Command {
  const headgate = new Command('headgate')
    .description('Inline proxy for an IEC 62443 conduit: lets through only what the policy allows.')
    .version(VERSION, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [verb]', 'print the help of a verb')
    .showSuggestionAfterError()
    // Options behind a verb are its own.
    .enablePositionalOptions()
    .configureOutput({ outputError: (text, write) => write(`headgate: ${text.replace(/^error: /, '')}`) })
    .exitOverride()
  const verbs = [
    run,
    check,
    compare,
    importing,
    render,
    control,
    learn,
    replay,
    analyze,
    drift,
    validate,
    report,
    evidence,
    pki,
    top,
  ]
  for (const verb of [...verbs, bench]) verb(headgate)
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
    await program().parseAsync(argv)
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    // Help and version were asked for, and are no error; all else is a command line that is not understood.
    process.exitCode = error.exitCode === 0 ? 0 : 2
  }
}
