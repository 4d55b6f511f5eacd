/**
 * Open-loop latency at half of the yardstick's greatest load: requests leave on a fixed schedule, and latency counts
 * from the scheduled time, so that a stall is felt by every request that it delays (coordinated omission corrected).
 */
import { contenders } from './contenders.ts'
import { withField } from './field.ts'
import { type LoadResult, load } from './load.ts'
import { compiled } from './machine.ts'
import { canPin, WORK_CPU } from './processes.ts'
import { figure, median, medianRatio, ratioText, say, table } from './stats.ts'

const CONNECTIONS = 50

export async function latency({ rounds, seconds }: { rounds: number; seconds: number }): Promise<void> {
  say('\n### Open-loop latency at half load\n')
  if (compiled('mbload') === null) {
    say('skipped, no gcc')
    return
  }
  const cpu = canPin ? WORK_CPU : null
  await withField(contenders(), WORK_CPU, WORK_CPU, async (started) => {
    let greatest = Number.NaN
    for (const { running } of started) {
      const { tps } = await load({ port: running.port, connections: CONNECTIONS, depth: 1, seconds: 1.5, cpu })
      if (Number.isNaN(greatest)) greatest = tps
    }
    const rate = Math.round(greatest / 2)
    const results: LoadResult[][] = started.map(() => [])
    for (let round = 0; round < rounds; round++) {
      for (let turn = 0; turn < started.length; turn++) {
        const i = (turn + round) % started.length
        const { port, pid } = started[i].running
        results[i][round] = await load({ port, pid, connections: CONNECTIONS, depth: 64, rate, seconds, cpu })
      }
    }
    say(`${figure(rate)} requests/s over ${CONNECTIONS} connections, half of what ${started[0].name} carries.\n`)
    const rows = started.map(({ name }, i) => {
      const of = (key: 'p50' | 'p99' | 'p999'): number[] => results[i].map((result) => result[key])
      const ratio = medianRatio(
        of('p99'),
        results[0].map((result) => result.p99),
      )
      return [name, figure(median(of('p50'))), figure(median(of('p99'))), ratioText(ratio), figure(median(of('p999')))]
    })
    say(table(['relay', 'p50 µs', 'p99 µs', `p99 to ${started[0].name}`, 'p99.9 µs'], rows))
  })
}
