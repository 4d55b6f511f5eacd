/** `headgate run POLICY`: the gateway in the foreground, until SIGTERM or SIGINT. */
import { Gateway, StartError } from '../gateway/gateway.ts'
import { formatFinding } from '../policy/findings.ts'
import { loadPolicy, PolicyUnreadable } from '../policy/load.ts'

/**
 * @returns the exit code: 0 after a stop that was asked for, 1 where the policy has errors, 2 where something that the
 *   gateway needs cannot be had
 */
export async function run(file: string): Promise<number> {
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
    const gateway = new Gateway(loaded.policy)
    const stopped = untilStopped(gateway, file)
    await gateway.start(loaded.findings)
    await gateway.stop(await stopped)
    return 0
  } catch (error) {
    if (!(error instanceof StartError)) throw error
    process.stderr.write(`headgate: ${error.message}\n`)
    return 2
  }
}

/** SIGHUP reloads, one at a time and in order; resolves with the signal that asks for an end. */
function untilStopped(gateway: Gateway, file: string): Promise<string> {
  let reloads = Promise.resolve()
  process.on('SIGHUP', () => {
    reloads = reloads.then(() => reload(gateway, file))
  })
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => resolve(signal))
  })
}

async function reload(gateway: Gateway, file: string): Promise<void> {
  try {
    const { policy, findings } = loadPolicy(file)
    await gateway.reload(policy, findings)
  } catch (error) {
    gateway.reject(file, (error as Error).message)
  }
}
