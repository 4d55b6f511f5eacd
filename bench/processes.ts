/** Child processes of the benchmark: started on a chosen processor, waited for until they listen, always ended. */
import { type ChildProcess, spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import net from 'node:net'
import { availableParallelism } from 'node:os'
import { find } from './machine.ts'

const taskset = process.platform === 'linux' ? find('taskset') : null
/** Pinning is possible. */
export const canPin = taskset !== null

/** The last processor does the work of the one-CPU layout: the first takes most interrupts. */
export const WORK_CPU = availableParallelism() - 1
export const OTHER_CPU = Math.max(0, availableParallelism() - 2)

const children = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL')
})
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130))

export interface Running {
  pid: number
  port: number
  output: () => string
  stop(): Promise<void>
}

/**
 * Starts a program.
 * @param cpu processor that it is pinned to, where there is `taskset`; null: none
 */
export function start(
  program: string,
  args: readonly string[],
  cpu: number | null,
  env: NodeJS.ProcessEnv = {},
): ChildProcess {
  const [file, list] =
    taskset !== null && cpu !== null ? [taskset, ['-c', String(cpu), program, ...args]] : [program, [...args]]
  // taskset becomes the program (execve), so the child's pid is the program's.
  const child = spawn(file, list, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } })
  children.add(child)
  child.once('exit', () => children.delete(child))
  return child
}

/** Starts a server and waits until it accepts connections. Rejects with what it said when it ends before that. */
export async function serve(
  program: string,
  args: readonly string[],
  cpu: number | null,
  port: number,
  env: NodeJS.ProcessEnv = {},
  host = '127.0.0.1',
): Promise<Running> {
  const child = start(program, args, cpu, env)
  let output = ''
  const keep = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-4_000_000)
  }
  child.stdout?.on('data', keep)
  child.stderr?.on('data', keep)
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve())
    child.once('error', () => resolve())
  })
  const running = { pid: child.pid ?? -1, port, output: () => output, stop }
  async function stop(): Promise<void> {
    child.kill('SIGTERM')
    const kill = setTimeout(() => child.kill('SIGKILL'), 5000)
    await exited
    clearTimeout(kill)
  }
  for (let attempt = 0; attempt < 100; attempt++) {
    if (child.exitCode !== null || child.pid === undefined) throw new Error(`${program} ended: ${output.slice(-600)}`)
    if (await answers(host, port)) return running
    await sleep(100)
  }
  await stop()
  throw new Error(`${program} does not listen on port ${port}: ${output.slice(-600)}`)
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

function answers(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

let nextPort = 21_000 + (process.pid % 50) * 100
/** A free port below the range of ephemeral ports, which the load itself uses. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = nextPort++
    if (port > 32_000) nextPort = 21_000
    const free = await new Promise<boolean>((resolve) => {
      const server = net.createServer()
      server.once('error', () => resolve(false))
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
    })
    if (free) return port
  }
}

/** CPU time of all threads of a process in microseconds; from schedstat, which counts nanoseconds. NaN: not to be had. */
export function cpuMicroseconds(pid: number): number {
  try {
    let ns = 0
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      ns += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ', 1)[0])
    }
    return ns / 1000
  } catch {
    return Number.NaN
  }
}

/** Resident memory in kilobytes; NaN: not to be had. */
export function residentKb(pid: number): number {
  try {
    const line = readFileSync(`/proc/${pid}/status`, 'utf8')
      .split('\n')
      .find((l) => l.startsWith('VmRSS:'))
    return Number.parseInt((line ?? '').slice(6), 10)
  } catch {
    return Number.NaN
  }
}
