/** `headgate learn`: a baseline and a draft policy from captures and evidence; registration of the verb. */
import type { Command } from 'commander'

/** Options as commander hands them over. */
export interface LearnFlags {
  pcap?: string[]
  merge?: string[]
  evidence?: string[]
  policy?: string
  output?: string
  baseline?: string
  port?: string[]
  opcuaPort?: string[]
  anyPort: boolean
  slack?: string
  rare?: string
  force: boolean
}

/** Adds the verb. Its exit code goes to `process.exitCode`: 0, 1 where no Modbus was found, 2 cannot read. */
export function learn(program: Command): void {
  program
    .command('learn')
    .description(
      'learn what is normal from captures or evidence: a baseline, and a draft policy that allows it and no more',
    )
    .option('--pcap <file...>', 'captures: pcap or pcapng, gzip or not; - is standard input')
    .option('--evidence <file...>', 'evidence of a gateway that monitors: what its policy did not allow')
    .option('--merge <file...>', 'baselines to put together')
    .option('--policy <file>', 'existing policy: print it with what it lacks added, and nothing else changed')
    .option('-o, --output <file>', 'where the policy goes; default: standard output')
    .option('--baseline <file>', 'where the baseline goes (JSON); - is standard output, in place of the policy')
    .option('--port <port...>', 'more TCP ports of targets, beside 502 and those of the policy')
    .option('--opcua-port <port...>', 'more TCP ports of OPC UA servers, beside 4840 and those of the policy')
    .option('--any-port', 'look for Modbus and OPC UA on every port, by content', false)
    .option('--slack <n>', 'reads: join ranges with at most this many unused addresses between them (8)')
    .option('--rare <n>', 'a write seen fewer times than this has to be decided on (10)')
    .option('--force', 'overwrite files that exist', false)
    .action(async (flags: LearnFlags) => {
      const { runLearn } = await import('./learn-run.ts')
      process.exitCode = await runLearn(flags)
    })
}
