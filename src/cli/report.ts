/** `headgate report`: the zone implementation report; registration of the verb. */
import { type Command, Option } from 'commander'
import { REPORT_FORMATS, type ReportFormat } from '../assurance/report/formats.ts'

export interface ReportFlags {
  evidence?: string[]
  key?: string[]
  validation?: string[]
  format?: ReportFormat
  output?: string[]
  implementationDate?: string
  record: boolean
}

const collect = (value: string, before: string[] = []): string[] => [...before, value]

/**
 * Adds the verb. Its exit code goes to `process.exitCode`: 0 made, 1 made and something in it does not hold, or a policy
 * with errors, 2 cannot be made.
 */
export function report(program: Command): void {
  program
    .command('report')
    .description(
      'write the IEC 62443 zone implementation report; exit 0: made, 1: made, and evidence, a probe or a claim in it does not hold, 2: cannot be made',
    )
    .argument('<policy>', 'policy document (YAML)')
    .option('--evidence <files...>', 'evidence files, or directories of them')
    .option('--key <key>', 'verifier key of the evidence that is trusted, or a file with one; may be repeated', collect)
    .option('--validation <files...>', 'results of "headgate validate" (JSON)')
    .addOption(new Option('--format <format>', 'default: by the name of the output, else text').choices(REPORT_FORMATS))
    .option('--output <file>', 'where to write it; may be repeated, for several formats; default: stdout', collect)
    .option('--implementation-date <date>', 'YYYY-MM-DD; default: when the evidence first has this document in force')
    .option('--no-record', "do not record the report's hash in the gateway's evidence; what goes to stdout never is")
    .action(async (policy: string, flags: ReportFlags) => {
      const { runReport } = await import('./report-run.ts')
      process.exitCode = await runReport(policy, flags)
    })
}
