/** `headgate drift`: registration of the verb. */
import { type Command, InvalidArgumentError, Option } from 'commander'

export interface DriftFlags {
  gateway: boolean
  nftables: boolean
  baseline?: string
  days: number
  tell: boolean
  textfile?: string
  format: 'text' | 'json'
}

const days = (text: string): number => {
  const value = Number(text)
  if (!(value > 0 && value <= 3660)) throw new InvalidArgumentError('Expected days, up to 3660.')
  return value
}

/** Adds the verb. Its exit code goes to `process.exitCode`: 0 none, 1 drift, 2 what was to be looked at cannot be. */
export function drift(program: Command): void {
  program
    .command('drift')
    .description(
      'hold what runs to the document: the gateway, the nftables ruleset of this host, the traffic of the last days; exit 0: no drift, 1: drift, 2: a source cannot be looked at',
    )
    .argument('<policy>', 'policy document (YAML)')
    .option('--no-gateway', 'do not ask the gateway that runs')
    .option('--nftables', 'compare the ruleset of this host with what the document renders to (root)', false)
    .option('--baseline <file>', 'baseline file, or the directory of one; default: the one that the gateway keeps')
    .option('--days <n>', 'how far back the baseline is looked at', days, 14)
    .option('--no-tell', 'raise no events, at the gateway or in the evidence')
    .option('--textfile <file>', "write the numbers for Prometheus's textfile collector")
    .addOption(new Option('--format <format>', 'how to print what was found').choices(['text', 'json']).default('text'))
    .action(async (policy: string, flags: DriftFlags) => {
      const { runDrift } = await import('./drift-run.ts')
      process.exitCode = await runDrift(policy, flags)
    })
}
