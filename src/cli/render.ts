/** `headgate render`: a policy in the words of firewalls and switches; registration of the verbs. */
import { type Command, InvalidArgumentError } from 'commander'

export type Target = 'isa3000' | 'nftables' | 'vlan'

export interface RenderFlags {
  ports?: number
  prefix?: string
  zone?: string[]
}

const collect = (value: string, before: string[] = []): string[] => [...before, value]

function portCount(text: string): number {
  const count = /^\d{1,4}$/.test(text) ? Number(text) : 0
  if (count < 2 || count > 1024) throw new InvalidArgumentError('expected 2 to 1024')
  return count
}

function portPrefix(text: string): string {
  if (!/^[A-Za-z][A-Za-z0-9/.-]{0,60}$/.test(text)) throw new InvalidArgumentError('expected the name of an interface')
  return text
}

/** Adds the verbs. Their exit codes go to `process.exitCode`: 0 rendered, 1 the document has errors, 2 cannot be rendered. */
export function render(program: Command): void {
  const verbs = program
    .command('render')
    .description('write a policy as the configuration of a firewall or switch; what it cannot say goes to stderr')
  const verb = (name: Target, description: string): Command =>
    verbs
      .command(name)
      .description(description)
      .argument('<policy>', 'policy document (YAML)')
      .action(async (policy: string, flags: RenderFlags) => {
        const { runRender } = await import('./render-run.ts')
        process.exitCode = runRender(name, policy, flags)
      })
  verb('isa3000', 'Cisco ISA-3000: interfaces, access-lists, inspection of Modbus, logging')
  verb('nftables', 'Linux: default deny between zones, the conduits, redirection to the listeners')
  verb('vlan', 'Cisco industrial switch: a VLAN for each zone, trunk, port security, unused ports shut')
    .option('--zone <id>', 'zone whose assets are on this switch; may be repeated; default: control zones', collect)
    .option('--ports <n>', 'ports of the switch; the last is the trunk', portCount, 24)
    .option('--prefix <text>', 'what ports are called before their number', portPrefix, 'GigabitEthernet1/0/')
}
