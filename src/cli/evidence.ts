/** `headgate evidence verify|record|show`: registration of the verbs. */
import { type Command, Option } from 'commander'
import { ARTEFACT_KINDS, type ArtefactKind } from '../assurance/kinds.ts'

export interface VerifyFlags {
  key?: string[]
  format: 'text' | 'json'
}

export const SHOW_FORMATS = ['table', 'json', 'csv'] as const

export interface ShowFlags {
  since?: string
  until?: string
  conduit?: string[]
  reason?: string[]
  event?: string[]
  format: (typeof SHOW_FORMATS)[number]
}

export interface RecordFlags {
  kind: ArtefactKind
}

/** An option that may be given more than once; a list after one would swallow the files. */
const collect = (value: string, before: string[] = []): string[] => [...before, value]

/** Adds the verbs. Their exit codes go to `process.exitCode`: 0, 1 where evidence does not hold, 2 where it cannot be read. */
export function evidence(program: Command): void {
  const verbs = program.command('evidence').description('verify and read the evidence of a gateway')
  verbs
    .command('verify')
    .description('is the evidence as it was written; exit 0: yes, 1: no, and where, 2: cannot be read')
    .argument('<files...>', 'evidence files, or directories of them')
    .option(
      '--key <key>',
      'verifier key that is trusted (name+id+key), or a file with one; may be repeated; default: as the files say',
      collect,
    )
    .addOption(new Option('--format <format>', 'how to print what was found').choices(['text', 'json']).default('text'))
    .action(async (files: string[], flags: VerifyFlags) => {
      const { runVerify } = await import('./evidence-run.ts')
      process.exitCode = await runVerify(files, flags)
    })
  verbs
    .command('record')
    .description('record the SHA-256 of files in the evidence, by the gateway that runs or, where none does, directly')
    .argument('<policy>', "the gateway's policy document")
    .argument('<files...>', 'files whose hashes are recorded')
    .addOption(new Option('--kind <kind>', 'what they are').choices(ARTEFACT_KINDS).default('other'))
    .action(async (policy: string, files: string[], flags: RecordFlags) => {
      const { runRecord } = await import('./record-run.ts')
      process.exitCode = await runRecord(policy, files, flags)
    })
  verbs
    .command('show')
    .description('print records; they are not verified')
    .argument('<files...>', 'evidence files, or directories of them')
    .option('--since <time>', 'from this time on: 2026-02-23, 2026-02-23T14:00:00Z, or how long ago: 90m, 24h, 7d')
    .option('--until <time>', 'up to this time, written alike')
    .option('--conduit <id>', 'of this conduit; may be repeated', collect)
    .option('--reason <reason>', 'denied for this reason; may be repeated', collect)
    .option('--event <name>', 'this event, or a family such as request.*; may be repeated', collect)
    .addOption(new Option('--format <format>', 'how to print them').choices(SHOW_FORMATS).default('table'))
    .action(async (files: string[], flags: ShowFlags) => {
      const { runShow } = await import('./evidence-run.ts')
      process.exitCode = await runShow(files, flags)
    })
}
