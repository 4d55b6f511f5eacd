/**
 * `npm run soak [-- MINUTES]`: saturation for minutes, with memory over time, every pause of the garbage collector in
 * every thread, and the longest wait of a client.
 *
 * Pauses are read from V8's own trace (`--trace-gc`): a worker on the epoll loop never returns to Node's event loop, so
 * no PerformanceObserver would ever be called there.
 */
import { contenders, headgate } from './contenders.ts'
import { withField } from './field.ts'
import { type LoadResult, load } from './load.ts'
import { compiled } from './machine.ts'
import { canPin, residentKb, sleep, WORK_CPU } from './processes.ts'
import { figure, say, table } from './stats.ts'

const CONNECTIONS = 50
const DEPTH = 16
const SAMPLES = 10
const PROBE_MS = 1000

interface Pause {
  isolate: string
  /** Milliseconds since the isolate began. */
  at: number
  kind: string
  ms: number
}

/** `[1234:0x5581] 567 ms: Scavenge 12.3 (15.0) -> 11.8 (16.0) MB, pooled: 0 MB, 0.42 / 0.00 ms  …` */
const LINE = /^\[\d+:(0x[0-9a-f]+)\]\s+(\d+) ms: (.+?) \d[\d.]* \(.*?MB.*?, ([\d.]+) \/ /

export function pausesOf(trace: string): Pause[] {
  const pauses: Pause[] = []
  for (const line of trace.split('\n')) {
    const match = LINE.exec(line)
    if (match === null) continue
    pauses.push({ isolate: match[1], at: Number(match[2]), kind: match[3].trim(), ms: Number(match[4]) })
  }
  return pauses
}

export async function soak(minutes: number): Promise<void> {
  const io = headgate('epoll').missing === null ? 'epoll' : 'net'
  say(`\n### Soak: ${minutes} minute${minutes === 1 ? '' : 's'} at saturation, Headgate ${io}\n`)
  if (compiled('mbload') === null) {
    say('skipped, no gcc')
    return
  }
  const cpu = canPin ? WORK_CPU : null
  await withField([headgate(io, 1, ['--trace-gc'])], WORK_CPU, WORK_CPU, async ([{ running }]) => {
    const { port, pid } = running
    await load({ port, connections: CONNECTIONS, depth: DEPTH, seconds: 5, cpu })
    const skip = running.output().length
    const seconds = minutes * 60
    const began = Date.now()
    const saturating = load({ port, pid, connections: CONNECTIONS, depth: DEPTH, seconds, warmup: 0, cpu })
    const probes: LoadResult[] = []
    const samples: [number, number][] = []
    while (Date.now() - began < seconds * 1000 - PROBE_MS) {
      if (Date.now() - began >= (samples.length * seconds * 1000) / SAMPLES) {
        samples.push([(Date.now() - began) / 1000, residentKb(pid) / 1024])
      }
      probes.push(await load({ port, connections: 1, depth: 64, rate: 20, seconds: PROBE_MS / 1000, warmup: 0, cpu }))
      await sleep(10)
    }
    const total = await saturating
    say(
      `${figure(total.transactions)} transactions, ${figure(total.tps)}/s, ${figure(total.cpuPerTx)} µs CPU each, no wrong answer.\n`,
    )
    say(
      `A client that asks 20 times a second waited ${figure(Math.max(...probes.map((probe) => probe.max)) / 1000)} ms at most.\n`,
    )
    say(
      table(
        ['after s', 'RSS MB'],
        samples.map(([at, mb]) => [figure(at), mb.toFixed(1)]),
      ),
    )
    const byIsolate = Map.groupBy(pausesOf(running.output().slice(skip)), (pause) => pause.isolate)
    // The main thread's isolate is the first that V8 makes, and the first to collect.
    const main = pausesOf(running.output())[0]?.isolate
    const rows = [...byIsolate].map(([isolate, pauses]) => [
      isolate === main ? 'main' : 'worker',
      String(pauses.length),
      String(pauses.filter((pause) => pause.kind.startsWith('Mark')).length),
      figure(Math.max(...pauses.map((pause) => pause.ms))),
    ])
    say(
      `\n${rows.length === 0 ? 'No collection in any thread.' : table(['thread', 'collections', 'of them major', 'longest pause, ms'], rows)}`,
    )
  })
}

if (import.meta.main) {
  const minutes = Number(process.argv[2] ?? 10)
  if (!(minutes > 0)) {
    process.stderr.write('usage: npm run soak [-- MINUTES]\n')
    process.exit(2)
  }
  say(
    contenders()
      .map(({ name, version }) => `${name} ${version}`)
      .find((line) => line.startsWith('Headgate')),
  )
  await soak(minutes)
}
