/**
 * Closed-loop throughput, CPU time for each transaction and latency of the relays, side by side: interleaved, in an
 * order that turns from round to round, as medians of ratios taken pair by pair.
 */
import { contenders } from './contenders.ts'
import { withField } from './field.ts'
import { type LoadResult, load } from './load.ts'
import { compiled } from './machine.ts'
import { canPin, OTHER_CPU, type Running, WORK_CPU } from './processes.ts'
import { figure, median, medianRatio, ratioText, say, table } from './stats.ts'

export interface Cell {
  connections: number
  depth: number
}

export const CELLS: readonly Cell[] = [1, 50, 500].flatMap((connections) =>
  [1, 16].map((depth) => ({ connections, depth })),
)

export interface ProxyOptions {
  rounds: number
  seconds: number
  /** Rounds that nginx, Headgate net and the Node pipe take part in. */
  fullField: boolean
  twoCpus: boolean
}

interface Series {
  tps: number[]
  cpu: number[]
  p50: number[]
  p99: number[]
}

const empty = (): Series => ({ tps: [], cpu: [], p50: [], p99: [] })

function note(series: Series, round: number, result: LoadResult): void {
  series.tps[round] = result.tps
  series.cpu[round] = result.cpuPerTx
  series.p50[round] = result.p50
  series.p99[round] = result.p99
}

/** Who runs in a round: a relay, and the share of writes that must be denied. */
interface Entry {
  label: string
  running: Running
  denied?: number
}

async function measure(entries: readonly Entry[], options: ProxyOptions, loadCpu: number | null): Promise<Series[][]> {
  const results = CELLS.map(() => entries.map(empty))
  for (let round = 0; round < options.rounds; round++) {
    for (const [c, { connections, depth }] of CELLS.entries()) {
      for (let turn = 0; turn < entries.length; turn++) {
        const e = (turn + round + c) % entries.length
        const { running, denied } = entries[e]
        const result = await load({
          port: running.port,
          pid: running.pid,
          connections,
          depth,
          denied,
          seconds: options.seconds,
          cpu: loadCpu,
        })
        note(results[c][e], round, result)
      }
    }
  }
  return results
}

/** Every relay meets the load before it is measured: compilers and caches are warm for all of them. */
async function warm(entries: readonly Entry[], loadCpu: number | null): Promise<void> {
  for (const { running, denied } of entries) {
    for (const depth of [1, 16]) {
      await load({ port: running.port, connections: 50, depth, denied, seconds: 0.7, warmup: 0, cpu: loadCpu })
    }
  }
}

export async function proxy(options: ProxyOptions): Promise<void> {
  await layout('one CPU for load, relay and target', options, WORK_CPU, WORK_CPU)
  if (options.twoCpus && OTHER_CPU !== WORK_CPU) {
    await layout('two CPUs: one for the relay, one for load and target', options, WORK_CPU, OTHER_CPU)
  }
}

async function layout(title: string, options: ProxyOptions, relayCpu: number, loadCpu: number): Promise<void> {
  // HAProxy and Headgate epoll, or all of them; without gcc the load is too slow to need but a short field.
  const field = contenders().filter((_, i) => options.fullField || i < 2 || compiled('mbload') === null)
  await withField(field, relayCpu, loadCpu, async (started) => {
    const entries: Entry[] = started.map(({ name, running }) => ({ label: name, running }))
    const own = started.find(({ name }) => name === OWN)
    if (own !== undefined)
      entries.splice(entries.findIndex((entry) => entry.label === OWN) + 1, 0, {
        label: DENIED,
        running: own.running,
        denied: 10,
      })
    const cpu = canPin ? loadCpu : null
    await warm(entries, cpu)
    report(title, entries, await measure(entries, options, cpu))
  })
}

const OWN = 'Headgate epoll'
const DENIED = 'Headgate epoll, 10 % denied'

function report(title: string, entries: readonly Entry[], results: readonly Series[][]): void {
  const labels = entries.map((entry) => entry.label)
  const yardstick = labels.includes('HAProxy') ? labels.indexOf('HAProxy') : labels.indexOf('Node pipe')
  const own = labels.indexOf(OWN)
  say(`\n### Relays: ${title}\n`)
  say(
    `Ratios to ${labels[yardstick]}, whose own figures stand in its row; of "${DENIED}" to Headgate epoll without denials.\n`,
  )
  for (const [c, { connections, depth }] of CELLS.entries()) {
    say(`**${connections} connection${connections === 1 ? '' : 's'} × depth ${depth}**\n`)
    const rows = labels.map((label, e) => {
      const series = results[c][e]
      if (e === yardstick) {
        return [
          label,
          figure(median(series.tps)),
          figure(median(series.cpu)),
          figure(median(series.p50)),
          figure(median(series.p99)),
        ]
      }
      const to = results[c][label === DENIED ? own : yardstick]
      const ratio = (key: keyof Series): string => ratioText(medianRatio(series[key], to[key]))
      return [label, ratio('tps'), ratio('cpu'), ratio('p50'), ratio('p99')]
    })
    say(`${table(['relay', 'transactions/s', 'CPU µs/transaction', 'p50 µs', 'p99 µs'], rows)}\n`)
  }
}
