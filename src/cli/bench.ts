/** `headgate bench`: what this machine carries; registration of the verb. */
import { type Command, InvalidArgumentError, Option } from 'commander'

export interface BenchFlags {
  connections: number
  depth: number
  seconds: number
  io: 'auto' | 'epoll' | 'net'
  workers: number | 'auto'
  format: 'text' | 'json'
}

const whole = (low: number, high: number) => (text: string) => {
  const value = Number(text)
  if (!/^\d+$/.test(text) || value < low || value > high) {
    throw new InvalidArgumentError(`Expected a whole number from ${low} to ${high}.`)
  }
  return value
}

/** Adds the verb. Its exit code goes to `process.exitCode`: 0 measured, 2 could not be measured. */
export function bench(program: Command): void {
  program
    .command('bench')
    .description('measure what this machine carries, on loopback: latency, CPU time a transaction, memory')
    .option('--connections <n>', 'clients', whole(1, 2000), 50)
    .option('--depth <n>', 'requests under way on each', whole(1, 64), 1)
    .option('--seconds <n>', 'how long each of the two measurements takes', whole(1, 600), 5)
    .option(
      '--workers <n>',
      'worker threads of the gateway',
      (text) => (text === 'auto' ? 'auto' : whole(1, 64)(text)),
      'auto',
    )
    .addOption(new Option('--io <io>', 'transport of the gateway').choices(['auto', 'epoll', 'net']).default('auto'))
    .addOption(new Option('--format <format>', 'how to print the result').choices(['text', 'json']).default('text'))
    .action(async (flags: BenchFlags) => {
      const { runBench } = await import('./bench-run.ts')
      process.exitCode = await runBench(flags)
    })
}
