/** `headgate top`: a live view of a gateway; registration of the verb. */
import { type Command, InvalidArgumentError } from 'commander'

export interface TopFlags {
  url?: string
  interval: number
  once: boolean
}

const seconds = (text: string): number => {
  const value = Number(text)
  if (!(value >= 0.2 && value <= 3600)) throw new InvalidArgumentError('Expected seconds, from 0.2 to 3600.')
  return value
}

/** Adds the verb. Its exit code goes to `process.exitCode`: 0 left by its user, 2 the metrics page cannot be had. */
export function top(program: Command): void {
  program
    .command('top')
    .description('watch a gateway: connections, requests, verdicts, CPU for each worker, slowest targets; q leaves')
    .argument('[policy]', "the gateway's policy document, for the address of its metrics page")
    .option('--url <url>', 'the metrics page itself: http://127.0.0.1:9464/metrics')
    .option('--interval <seconds>', 'between two looks', seconds, 1)
    .option('--once', 'print one view of one interval, and leave', false)
    .action(async (policy: string | undefined, flags: TopFlags) => {
      const { runTop } = await import('./top-run.ts')
      process.exitCode = await runTop(policy, flags)
    })
}
