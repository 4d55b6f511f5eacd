/** `headgate run`: the gateway; registration of the verb. */
import type { Command } from 'commander'

/** Adds the verb. Its exit code goes to `process.exitCode`: 0 stopped as asked, 1 policy with errors, 2 cannot start. */
export function run(program: Command): void {
  program
    .command('run')
    .description('carry the conduits of a policy, in the foreground, until SIGTERM; SIGHUP reloads the policy')
    .argument('<policy>', 'policy document (YAML)')
    .action(async (policy: string) => {
      const { runGateway } = await import('./run-gateway.ts')
      process.exitCode = await runGateway(policy)
    })
}
