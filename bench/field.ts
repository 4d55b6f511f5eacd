/** The relays that a section compares, started between their ports and one target, and stopped whatever happens. */
import { type Contender, startTarget } from './contenders.ts'
import { canPin, type Running } from './processes.ts'
import { say } from './stats.ts'

export interface Started {
  name: string
  running: Running
}

/**
 * @param relayCpu processor of the relays; @param loadCpu of the target (and of the load, which the caller starts)
 * @param body gets those that can take part
 */
export async function withField(
  field: readonly Contender[],
  relayCpu: number,
  loadCpu: number,
  body: (started: readonly Started[], target: Running) => Promise<void>,
): Promise<void> {
  const running: Running[] = []
  try {
    const target = await startTarget(canPin ? loadCpu : null)
    running.push(target)
    const started: Started[] = []
    for (const contender of field) {
      if (contender.missing !== null) {
        say(`${contender.name}: skipped, ${contender.missing}`)
        continue
      }
      const relay = await contender.start(target.port, canPin ? relayCpu : null)
      running.push(relay)
      started.push({ name: contender.name, running: relay })
    }
    await body(started, target)
  } finally {
    for (const process of running.reverse()) await process.stop()
  }
}
