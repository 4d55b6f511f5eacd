/** `headgate replay`: what a policy would have denied of past traffic; registration of the verb. */
import { type Command, Option } from 'commander'

/** Options as commander hands them over. */
export interface ReplayFlags {
  pcap: string[]
  compare?: string
  port?: string[]
  opcuaPort?: string[]
  anyPort: boolean
  format: 'text' | 'json'
}

/** Adds the verb. Its exit code goes to `process.exitCode`: 0, 1 where anything would be denied, 2 cannot read. */
export function replay(program: Command): void {
  program
    .command('replay')
    .description('judge captured traffic by a policy; exit 0: all allowed, 1: some would be denied, 2: cannot be read')
    .argument('<policy>', 'policy document (YAML)')
    .requiredOption('--pcap <file...>', 'captures: pcap or pcapng, gzip or not; - is standard input')
    .option('--compare <other>', 'show what changes from this policy (say, the one in force)')
    .option('--port <port...>', 'more TCP ports of targets, beside 502 and those of the policies')
    .option('--opcua-port <port...>', 'more TCP ports of OPC UA servers, beside 4840 and those of the policy')
    .option('--any-port', 'look for Modbus and OPC UA on every port, by content', false)
    .addOption(new Option('--format <format>', 'how to print the result').choices(['text', 'json']).default('text'))
    .action(async (policy: string, flags: ReplayFlags) => {
      const { runReplay } = await import('./replay-run.ts')
      process.exitCode = await runReplay(policy, flags)
    })
}
