/** `headgate validate` and `headgate validate diode`: registration of the verbs. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import { diode } from './validate-diode.ts'

export interface ValidateFlags {
  from?: string
  source?: string
  target?: string[]
  ports?: string
  rate: number
  timeout: number
  maxProbes: number
  allowWriteBack: boolean
  refused: 'pass' | 'fail'
  dryRun: boolean
  format: 'text' | 'json'
  output?: string
  record: boolean
}

const collect = (value: string, before: string[] = []): string[] => [...before, value]

const number =
  (low: number, high: number) =>
  (text: string): number => {
    const value = Number(text)
    if (!/^\d+(\.\d+)?$/.test(text) || value < low || value > high) {
      throw new InvalidArgumentError(`Expected a number from ${low} to ${high}.`)
    }
    return value
  }

/** Adds the verb. Exit codes go to `process.exitCode`: 0 as the document says, 1 not so, 2 cannot be tested. */
export function validate(program: Command): void {
  const verb = program
    .command('validate')
    // Options behind `diode` are its own.
    .enablePositionalOptions()
    .description(
      'test the boundary from a host in a zone, with probes that change nothing; exit 0: as the document says, 1: not so, 2: cannot be tested',
    )
    .argument('<policy>', 'policy document (YAML)')
    .option('--from <zone>', 'zone that this host is in; required')
    .option('--source <address>', 'address of this host to come from')
    .option('--target <name>', 'only this asset, listener or address of the document; may be repeated', collect)
    .option('--ports <list>', 'ports that must not be open, beside those of the document: 22,80,8000-8010')
    .option('--rate <n>', 'probes begun in a second, at most', number(0.1, 1000), 10)
    .option('--timeout <seconds>', 'how long an answer may take', number(0.1, 60), 2)
    .option('--max-probes <n>', 'refuse to make more', number(1, 20_000), 1000)
    .option('--allow-write-back', 'also read a value and write the same value back', false)
    .addOption(
      new Option('--refused <outcome>', 'what a refusal (RST) is on a path that must not be there')
        .choices(['pass', 'fail'])
        .default('pass'),
    )
    .option('--dry-run', 'list the probes, send nothing', false)
    .addOption(new Option('--format <format>', 'how to print the results').choices(['text', 'json']).default('text'))
    .option('--output <file>', 'write the results there as JSON, for "headgate report"')
    .option('--no-record', "do not record the file's hash in the gateway's evidence")
    .action(async (policy: string, flags: ValidateFlags) => {
      const { runValidate } = await import('./validate-run.ts')
      process.exitCode = await runValidate(policy, flags)
    })
  diode(verb)
}
