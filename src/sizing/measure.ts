/**
 * What this machine carries: a load, a target and the gateway of this installation, on loopback. The figure to size by is
 * the gateway's CPU time for each transaction; transactions a second here are bounded by the load and the target, which
 * take the same cores.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Worker } from 'node:worker_threads'
import { type LoadResult, load } from './load.ts'

export interface SizingOptions {
  connections: number
  depth: number
  seconds: number
  io: 'auto' | 'epoll' | 'net'
  workers: number | 'auto'
  /** The command that runs a gateway: program and arguments before `run POLICY`. */
  headgate: readonly string[]
}

export interface Sizing {
  cores: number
  io: string
  /** Load and target without a gateway between them. */
  direct: LoadResult
  through: LoadResult
  /** Gateway's CPU time for a transaction in microseconds; null where the system does not tell. */
  cpuPerTransaction: number | null
  /** What one core would carry if it did nothing else; null as above. */
  perCore: number | null
  /** Resident memory of the gateway in bytes; null as above. */
  memory: number | null
}

const CLIENT = '127.0.0.1'

/** @throws Error with one line where the gateway does not start or an answer is not right */
export async function measure(options: SizingOptions): Promise<Sizing> {
  const { connections, depth, seconds } = options
  const directory = mkdtempSync(join(tmpdir(), 'headgate-bench-'))
  const target = new Worker(new URL(import.meta.url.endsWith('.ts') ? './target.ts' : './target.js', import.meta.url), {
    workerData: { host: CLIENT },
  })
  let gateway: ChildProcess | null = null
  try {
    const { port } = await new Promise<{ port: number }>((resolve, reject) => {
      target.once('message', resolve).once('error', reject)
    })
    const run = (to: number, onWindow: (edge: 'start' | 'end') => void): Promise<LoadResult> =>
      load({ host: CLIENT, port: to, localAddress: CLIENT, connections, depth, durationMs: seconds * 1000, onWindow })
    const direct = await run(port, () => {})
    const listen = await freePort()
    const file = join(directory, 'policy.yaml')
    writeFileSync(file, policy(listen, port, options))
    const started = await start(options.headgate, file)
    gateway = started.child
    const pid = gateway.pid ?? 0
    const cpu: (number | null)[] = []
    let memory: number | null = null
    const through = await run(listen, (edge) => {
      cpu.push(cpuSeconds(pid))
      if (edge === 'end') memory = resident(pid)
    })
    const [before, after] = cpu
    const spent = before === null || after === null ? null : after - before
    const cpuPerTransaction = spent === null ? null : (spent / Math.max(1, through.transactions)) * 1e6
    const perCore = cpuPerTransaction === null || cpuPerTransaction === 0 ? null : 1e6 / cpuPerTransaction
    return { cores: availableParallelism(), io: started.io, direct, through, cpuPerTransaction, perCore, memory }
  } finally {
    gateway?.kill('SIGTERM')
    await target.terminate()
    rmSync(directory, { recursive: true, force: true })
  }
}

async function start(headgate: readonly string[], file: string): Promise<{ child: ChildProcess; io: string }> {
  const [command, ...args] = headgate
  const child = spawn(command, [...args, 'run', file], { stdio: ['ignore', 'pipe', 'pipe'] })
  let complaint = ''
  child.stderr.on('data', (text: Buffer) => {
    if (complaint.length < 4000) complaint += text
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => reject(new Error(`the gateway ended with exit code ${code}: ${complaint.trim()}`)))
    createInterface({ input: child.stdout }).on('line', (line) => {
      const event = JSON.parse(line) as { event: string; io?: string }
      if (event.event === 'gateway.ready') resolve({ child, io: event.io ?? '' })
    })
  })
}

/** A policy as plants write it: one pair, two functions, address ranges. */
const policy = (listen: number, target: number, { io, workers }: SizingOptions): string => `zones:
  - { zone_id: TARGET, assets: [{ name: PLC, address: ${CLIENT} }] }
  - { zone_id: CLIENT }
conduits:
  - conduit_id: BENCH
    connects: [TARGET, CLIENT]
    mode: enforce
    protocols_allowed:
      - protocol: Modbus/TCP
        rules:
          - name: reading
            from: [${CLIENT}]
            to: [PLC]
            unit_ids: [1-16]
            functions: [3, 4]
            addresses: { holding-registers: [0-999], input-registers: [0-127] }
gateway:
  io: ${io}
  workers: ${workers}
  log: { level: info }
  listeners: [{ conduit: BENCH, listen: "${CLIENT}:${listen}", target: "PLC:${target}" }]
`

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, CLIENT, () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}

/** User and system time of a process so far, in seconds (proc(5), /proc/PID/stat fields 14 and 15, in ticks of 10 ms). */
function cpuSeconds(pid: number): number | null {
  const fields = read(`/proc/${pid}/stat`)?.split(') ')[1]?.split(' ')
  return fields === undefined ? null : (Number(fields[11]) + Number(fields[12])) / 100
}

function resident(pid: number): number | null {
  const match = /VmRSS:\s+(\d+) kB/.exec(read(`/proc/${pid}/status`) ?? '')
  return match === null ? null : Number(match[1]) * 1024
}

function read(file: string): string | null {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return null
  }
}
