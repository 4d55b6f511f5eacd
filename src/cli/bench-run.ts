/** What `headgate bench` does: measures, and says what the figures mean for the size of a box. */
import { fileURLToPath } from 'node:url'
import { measure, type Sizing } from '../sizing/measure.ts'
import type { BenchFlags } from './bench.ts'

/** @returns the exit code: 0, or 2 with one line where nothing could be measured */
export async function runBench(flags: BenchFlags): Promise<number> {
  const own = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './main.ts' : './main.js', import.meta.url))
  const headgate = [
    process.execPath,
    '-e',
    `import(${JSON.stringify(own)}).then((cli) => cli.main(['', '', ...process.argv.slice(1)]))`,
    '--',
  ]
  try {
    const sizing = await measure({ ...flags, headgate })
    process.stdout.write(flags.format === 'json' ? `${JSON.stringify(sizing, null, 2)}\n` : text(sizing, flags))
    return 0
  } catch (error) {
    process.stderr.write(`headgate: ${(error as Error).message}\n`)
    return 2
  }
}

function text({ cores, io, direct, through, cpuPerTransaction, perCore, memory }: Sizing, flags: BenchFlags): string {
  const row = (label: string, a: string, b: string): string => `${label.padEnd(28)}${a.padStart(14)}${b.padStart(20)}\n`
  const count = (n: number): string => Math.round(n).toLocaleString('en')
  const rate = (r: typeof direct): string => count(r.transactions / r.seconds)
  const ms = (us: number): string => `${(us / 1000).toFixed(2)} ms`
  const unknown = 'not told here'
  let out = `FC 3 of ten registers, ${flags.connections} connections, ${flags.depth} under way on each; ${cores} cores, transport ${io}\n\n`
  out += row('', 'direct', 'through Headgate')
  out += row('transactions/s', rate(direct), rate(through))
  out += row('latency p50', ms(direct.p50), ms(through.p50))
  out += row('latency p99', ms(direct.p99), ms(through.p99))
  out += row('gateway CPU/transaction', '', cpuPerTransaction === null ? unknown : `${cpuPerTransaction.toFixed(2)} µs`)
  out += row('gateway memory', '', memory === null ? unknown : `${count(memory / 2 ** 20)} MiB`)
  if (perCore !== null) {
    out += `\nOne core of this machine that does nothing else carries about ${count(perCore)} transactions/s.\n`
    out += 'Size for half of that; load and target ran on the same cores, so transactions/s above are no limit.\n'
  }
  return out
}
