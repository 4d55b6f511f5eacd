/** New connections while established ones saturate the relay: how long until the last of 500 has its first answer. */
import { contenders } from './contenders.ts'
import { withField } from './field.ts'
import { load } from './load.ts'
import { compiled } from './machine.ts'
import { canPin, sleep, WORK_CPU } from './processes.ts'
import { figure, median, medianRatio, ratioText, say, table } from './stats.ts'

const ESTABLISHED = 300
const NEW = 500

export async function connections(rounds: number): Promise<void> {
  say(`\n### ${NEW} new connections while ${ESTABLISHED} saturate the relay\n`)
  if (compiled('mbload') === null) {
    say('skipped, no gcc')
    return
  }
  const cpu = canPin ? WORK_CPU : null
  await withField(contenders(), WORK_CPU, WORK_CPU, async (started) => {
    const answered: number[][] = started.map(() => [])
    const kept: number[][] = started.map(() => [])
    for (let round = 0; round < rounds; round++) {
      for (let turn = 0; turn < started.length; turn++) {
        const i = (turn + round) % started.length
        const { port } = started[i].running
        const saturating = load({ port, connections: ESTABLISHED, depth: 1, seconds: 1.2, warmup: 0.1, cpu })
        await sleep(600)
        const fresh = await load({ port, connections: NEW, depth: 1, seconds: 0, perConnection: 1, cpu })
        answered[i][round] = (fresh.connectSeconds + fresh.primeSeconds) * 1000
        kept[i][round] = (await saturating).max / 1000
      }
    }
    const rows = started.map(({ name }, i) => [
      name,
      figure(median(answered[i])),
      ratioText(medianRatio(answered[i], answered[0])),
      figure(median(kept[i])),
    ])
    const head = ['relay', 'all answered, ms', `to ${started[0].name}`, 'longest wait of the established, ms']
    say(table(head, rows))
  })
}
