/** What `headgate top` does: looks at the metrics page again and again, and draws what it says. */
import { setTimeout as sleep } from 'node:timers/promises'
import { loadPolicy, PolicyUnreadable } from '../policy/load.ts'
import { type Scrape, scrape } from '../top/scrape.ts'
import { view } from '../top/view.ts'
import type { TopFlags } from './top.ts'

const HOME_AND_CLEAR = '\x1b[H\x1b[J'
const ALTERNATE_SCREEN = '\x1b[?1049h\x1b[?25l'
const MAIN_SCREEN = '\x1b[?25h\x1b[?1049l'

/** @returns the exit code: 0, or 2 with one line where there is no page */
export async function runTop(file: string | undefined, flags: TopFlags): Promise<number> {
  try {
    const url = flags.url ?? pageOf(file)
    const live = process.stdout.isTTY && !flags.once
    return live ? await watch(url, flags.interval) : await print(url, flags.interval, flags.once)
  } catch (error) {
    process.stderr.write(`headgate: ${(error as Error).message}\n`)
    return 2
  }
}

function pageOf(file: string | undefined): string {
  if (file === undefined) throw new Error('which gateway? give its policy, or --url of its metrics page')
  try {
    const { policy } = loadPolicy(file)
    if (policy === null) throw new Error(`${file} has errors; see headgate check ${file}`)
    const metrics = policy.gateway?.metrics
    if (!metrics) throw new Error(`${file} has no gateway.metrics, so there is nothing to look at`)
    return `http://${metrics.host.includes(':') ? `[${metrics.host}]` : metrics.host}:${metrics.port}/metrics`
  } catch (error) {
    throw error instanceof PolicyUnreadable ? new Error(error.message) : error
  }
}

/** Without a terminal: one view after another, each after its interval. */
async function print(url: string, interval: number, once: boolean): Promise<number> {
  let before = await scrape(url)
  for (;;) {
    await sleep(interval * 1000)
    const now = await scrape(url)
    process.stdout.write(`${view(now, before).join('\n')}\n${once ? '' : '\n'}`)
    if (once) return 0
    before = now
  }
}

async function watch(url: string, interval: number): Promise<number> {
  // Before the terminal is touched: where there is no page, there is one line and no more.
  let before: Scrape | null = await scrape(url)
  const leaving = new AbortController()
  const leave = (): void => leaving.abort()
  const { stdin, stdout } = process
  stdin.setRawMode?.(true)
  stdin.on('data', (keys: Buffer) => {
    if (/[qQ\x03\x04\x1b]/.test(keys.toString('latin1'))) leave()
  })
  process.once('SIGTERM', leave)
  stdout.write(ALTERNATE_SCREEN)
  try {
    while (!leaving.signal.aborted) {
      let lines: string[]
      try {
        const now = await scrape(url)
        lines = view(now, before)
        before = now
      } catch (error) {
        // A gateway that restarts is back in a moment; its counters begin anew.
        lines = [(error as Error).message]
        before = null
      }
      const { rows = 24, columns = 80 } = stdout
      stdout.write(
        HOME_AND_CLEAR +
          lines
            .slice(0, rows - 1)
            .map((line) => line.slice(0, columns))
            .join('\n'),
      )
      await sleep(interval * 1000, undefined, { signal: leaving.signal }).catch(() => {})
    }
  } finally {
    stdout.write(MAIN_SCREEN)
    stdin.setRawMode?.(false)
    stdin.pause()
  }
  return 0
}
