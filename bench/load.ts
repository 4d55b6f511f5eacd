/** Runs a load against one contender: by the C generator where there is gcc, else by the one in Node. */
import { compiled, here } from './machine.ts'
import { start } from './processes.ts'

export interface LoadOptions {
  port: number
  connections: number
  /** Outstanding requests of each connection. */
  depth: number
  seconds: number
  warmup?: number
  /** Process whose CPU time is measured. */
  pid?: number
  /** Percent of requests that are writes which must be answered with an exception. */
  denied?: number
  /** Open loop: requests a second in all, on a fixed schedule. */
  rate?: number
  /** Instead of `seconds`: requests of each connection, and how long connections stay open after them. */
  perConnection?: number
  hold?: number
  cpu: number | null
}

export interface LoadResult {
  tps: number
  /** CPU of `pid` for each transaction, in microseconds; NaN where not measured. */
  cpuPerTx: number
  p50: number
  p99: number
  p999: number
  max: number
  /** Seconds until all connections stood, and then until each had its first answer. */
  connectSeconds: number
  primeSeconds: number
  rssKb: number
  transactions: number
}

interface Report {
  tps: number
  tx: number
  errors_total: number
  first_error?: string
  lat_us: { p50: number; p99: number; p999: number; max: number }
  proc?: { cpu_us_per_tx: number; rss_kb: number }
  connect_s: number
  prime_s: number
}

/** The generator and its leading arguments. */
function generator(): [program: string, args: string[]] {
  const program = compiled('mbload')
  return program === null ? [process.execPath, [`${here}load/generator.ts`]] : [program, []]
}

/**
 * Rejects where any response was wrong: a fast relay of wrong answers is no relay.
 */
export async function load(options: LoadOptions): Promise<LoadResult> {
  const [program, lead] = generator()
  const args = [...lead, '--target', `127.0.0.1:${options.port}`, '--prime', '--rst-close']
  const add = (name: string, value: number | undefined): void => {
    if (value !== undefined) args.push(name, String(value))
  }
  add('--connections', options.connections)
  add('--pipeline', options.depth)
  if (options.perConnection === undefined) {
    add('--duration', options.seconds)
    add('--warmup', options.warmup ?? 0.2)
  } else add('--per-conn-count', options.perConnection)
  add('--hold', options.hold)
  add('--rate', options.rate)
  add('--proc-pid', options.pid)
  if (options.denied !== undefined) {
    add('--write-pct', options.denied)
    add('--expect-write-exc', 1)
  }
  args.push('--read-span', '100', '--check-values')
  const child = start(program, args, options.cpu)
  let stdout = ''
  let stderr = ''
  child.stdout?.on('data', (chunk) => {
    stdout += chunk
  })
  child.stderr?.on('data', (chunk) => {
    stderr += chunk
  })
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', () => resolve())
  })
  if (stdout === '') throw new Error(`the load generator failed: ${stderr}`)
  const report = JSON.parse(stdout) as Report
  if (report.errors_total > 0)
    throw new Error(`${report.errors_total} errors under load, the first: ${report.first_error}`)
  return {
    tps: report.tps,
    cpuPerTx: report.proc?.cpu_us_per_tx ?? Number.NaN,
    p50: report.lat_us.p50,
    p99: report.lat_us.p99,
    p999: report.lat_us.p999,
    max: report.lat_us.max,
    connectSeconds: report.connect_s,
    primeSeconds: report.prime_s,
    rssKb: report.proc?.rss_kb ?? Number.NaN,
    transactions: report.tx,
  }
}
