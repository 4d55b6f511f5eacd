/** `headgate import isa3000`: a firewall's configuration as a policy document; registration of the verbs. */
import { type Command, Option } from 'commander'

export interface ImportFlags {
  output?: string
  /** Document whose gateway keeps the hash of what was imported. */
  record?: string
  format: 'text' | 'json'
}

/** Adds the verb. Its exit code goes to `process.exitCode`: 0 done, 1 the document does not pass the checks, 2 cannot be read. */
export function importing(program: Command): void {
  const verbs = program.command('import').description("make a policy document of a firewall's configuration")
  verbs
    .command('isa3000')
    .description(
      'Cisco ISA-3000 or ASA; the document to stdout, what has no equivalent to stderr; exit 1: to be mended',
    )
    .argument('<file>', 'configuration, as `show running-config` prints it')
    .option('-o, --output <file>', 'write the document to a new file instead of stdout')
    .option('--record <policy>', "record the new file's hash in the evidence of this document's gateway; with --output")
    .addOption(
      new Option('--format <format>', 'how to print what has no equivalent').choices(['text', 'json']).default('text'),
    )
    .action(async (file: string, flags: ImportFlags) => {
      const { runImport } = await import('./import-run.ts')
      process.exitCode = await runImport(file, flags)
    })
}
