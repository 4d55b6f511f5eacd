/** `headgate render`: a policy in the words of firewalls and switches; registration of the verbs. */
import type { Command } from 'commander'

export type Target = 'isa3000' | 'nftables'

/** Adds the verbs. Their exit codes go to `process.exitCode`: 0 rendered, 1 the document has errors, 2 cannot be read. */
export function render(program: Command): void {
  const verbs = program
    .command('render')
    .description('write a policy as the configuration of a firewall or switch; what it cannot say goes to stderr')
  const verb = (name: Target, description: string): Command =>
    verbs
      .command(name)
      .description(description)
      .argument('<policy>', 'policy document (YAML)')
      .action(async (policy: string) => {
        const { runRender } = await import('./render-run.ts')
        process.exitCode = runRender(name, policy)
      })
  verb('isa3000', 'Cisco ISA-3000: interfaces, access-lists, inspection of Modbus, logging')
  verb('nftables', 'Linux: default deny between zones, the conduits, redirection to the listeners')
}
