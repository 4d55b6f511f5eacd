/** What `headgate run` does: the gateway in the foreground, until SIGTERM or SIGINT. */
import { Gateway, StartError } from '../gateway/gateway.ts'
import { formatFinding } from '../policy/findings.ts'
import { loadPolicy, PolicyUnreadable } from '../policy/load.ts'

/**
 * @returns the exit code: 0 after a stop that was asked for, 1 where the policy has errors, 2 where something that the
 *   gateway needs cannot be had
 */
export async function runGateway(file: string): Promise<number> {
  let loaded: ReturnType<typeof loadPolicy>
  try {
    loaded = loadPolicy(file)
  } catch (error) {
    if (!(error instanceof PolicyUnreadable)) throw error
    process.stderr.write(`headgate: ${error.message}\n`)
    return 2
  }
  if (loaded.policy === null) {
    for (const finding of loaded.findings) process.stderr.write(`${formatFinding(finding)}\n`)
    return 1
  }
  try {
    const gateway = new Gateway(loaded.policy, loaded.bytes)
    const starting = gateway.start(loaded.findings)
    const stopped = untilStopped(gateway, file, starting)
    await starting
    await gateway.stop(await stopped)
    return 0
  } catch (error) {
    if (!(error instanceof StartError)) throw error
    process.stderr.write(`headgate: ${error.message}\n`)
    return 2
  }
}

/**
 * SIGHUP reloads, one at a time and in order, from the start's end to the signal that asks for an end; resolves with
 * that. A second one asks not to wait for what is outstanding.
 */
function untilStopped(gateway: Gateway, file: string, starting: Promise<void>): Promise<string> {
  let reloads = starting.catch(() => {})
  let waiting = false
  let stopping = false
  process.on('SIGHUP', () => {
    // One that has not begun will read the file as it is then.
    if (waiting) return
    waiting = true
    reloads = reloads.then(() => {
      waiting = false
      return stopping ? undefined : reload(gateway, file)
    })
  })
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        if (stopping) gateway.hurry()
        stopping = true
        // A reload that is under way ends first: the workers take one thing after another.
        void reloads.then(() => resolve(signal))
      })
    }
  })
}

async function reload(gateway: Gateway, file: string): Promise<void> {
  try {
    const { policy, findings, bytes } = loadPolicy(file)
    await gateway.reload(policy, findings, bytes)
  } catch (error) {
    gateway.reject(file, (error as Error).message)
  }
}
