/** Resident memory for each idle connection pair: all pairs opened, one transaction on each, then nothing. */
import { contenders } from './contenders.ts'
import { withField } from './field.ts'
import { load } from './load.ts'
import { compiled, descriptorLimit } from './machine.ts'
import { canPin, residentKb, WORK_CPU } from './processes.ts'
import { figure, say, table } from './stats.ts'

const PAIRS = 9000
/** Descriptors that a relay needs besides its pairs. */
const SPARE = 200

export async function memory(): Promise<void> {
  // A pair is two descriptors.
  const pairs = Math.min(PAIRS, Math.floor((descriptorLimit() - SPARE) / 2))
  say(`\n### Memory of ${pairs} idle connection pairs\n`)
  if (compiled('mbload') === null) {
    say('skipped, no gcc')
    return
  }
  const cpu = canPin ? WORK_CPU : null
  await withField(contenders(pairs + SPARE), WORK_CPU, WORK_CPU, async (started) => {
    const rows: string[][] = []
    for (const { name, running } of started) {
      const { port, pid } = running
      // What is allocated once, by the first connections and by the compiler, is no pair's.
      await load({ port, connections: 100, depth: 1, seconds: 1, cpu })
      const before = residentKb(pid)
      const { rssKb } = await load({
        port,
        pid,
        connections: pairs,
        depth: 1,
        seconds: 0,
        perConnection: 1,
        hold: 3,
        cpu,
      })
      rows.push([name, figure(before / 1024), figure(rssKb / 1024), figure((rssKb - before) / pairs)])
    }
    say(table(['relay', 'RSS before, MB', 'with the pairs, MB', 'KB a pair'], rows))
  })
}
