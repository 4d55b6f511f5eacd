/**
 * A real gateway for tests: started in a process of its own with a given policy, its events read from its log and its
 * counters from its metrics page, both as an operator has them.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import net from 'node:net'
import { createInterface } from 'node:readline'
import { unavailable } from '../../src/gateway/linux/syscalls.ts'
import type { Policy } from '../../src/policy/model.ts'
import { until } from './sockets.ts'

export type GatewayEvent = Record<string, string | number> & { event: string }

/** Numbers by verdict. */
export type Counts = Record<'requests' | 'responses' | 'connections', Record<string, number>>

/** The transports that can be had here. */
export const TRANSPORTS: readonly ('epoll' | 'net')[] = unavailable() === null ? ['epoll', 'net'] : ['net']

const LOWEST_PORT = 15_000
const PORTS = 15_000
/** Tests that run side by side have neighbouring process ids: a step near the golden section keeps their ports apart. */
let nextPort = LOWEST_PORT + ((process.pid * 9271) % PORTS)

/** A port of loopback that nobody listens on, below the range that the kernel takes clients' ports from. */
export async function freePort(host = '127.0.0.1'): Promise<number> {
  for (let tries = 0; tries < PORTS; tries++) {
    const port = nextPort
    nextPort = LOWEST_PORT + ((nextPort - LOWEST_PORT + 1) % PORTS)
    const free = await new Promise<boolean>((resolve) => {
      const server = net.createServer()
      server.once('error', () => resolve(false))
      server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)))
    })
    if (free) return port
  }
  throw new Error(`no free port on ${host}`)
}

export class TestGateway {
  readonly events: GatewayEvent[] = []
  private readonly child: ChildProcess
  private policy: Policy
  private exited = false

  private constructor(child: ChildProcess, policy: Policy) {
    this.child = child
    this.policy = policy
    if (child.stdout === null) throw new Error('the child has no stdout')
    createInterface({ input: child.stdout }).on('line', (line) => this.events.push(JSON.parse(line)))
    child.once('exit', () => {
      this.exited = true
    })
  }

  /** Resolves once the gateway is ready; rejects with why it cannot start. */
  static async start(policy: Policy): Promise<TestGateway> {
    const child = fork(new URL('./gateway-child.ts', import.meta.url), {
      serialization: 'advanced',
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
      execArgv: [],
    })
    const gateway = new TestGateway(child, policy)
    try {
      await gateway.give(policy)
    } catch (error) {
      child.kill('SIGKILL')
      throw error
    }
    return gateway
  }

  get pid(): number {
    return this.child.pid as number
  }

  get alive(): boolean {
    return !this.exited
  }

  private give(policy: Policy): Promise<void> {
    this.policy = policy
    return new Promise((resolve, reject) => {
      this.child.once('message', (answer: { error?: string }) =>
        answer.error === undefined ? resolve() : reject(new Error(answer.error)),
      )
      this.child.once('exit', (code) => reject(new Error(`the gateway exited with ${code}`)))
      this.child.send(policy)
    })
  }

  async reload(policy: Policy): Promise<void> {
    await this.give(policy)
  }

  /** Sends a signal and waits for the end. @returns the exit code */
  async stop(): Promise<number | null> {
    if (this.exited) return this.child.exitCode
    const ended = new Promise<number | null>((resolve) => this.child.once('close', (code) => resolve(code)))
    this.child.kill('SIGTERM')
    const kill = setTimeout(() => this.child.kill('SIGKILL'), 10_000)
    const code = await ended
    clearTimeout(kill)
    return code
  }

  /** kill -9. */
  kill(): void {
    this.child.kill('SIGKILL')
  }

  /** Open descriptors of the process that are sockets. */
  sockets(): number {
    const directory = `/proc/${this.pid}/fd`
    return readdirSync(directory, { withFileTypes: true }).filter((entry) => isSocket(`${directory}/${entry.name}`))
      .length
  }

  /** Resident memory of the process in bytes. */
  memory(): number {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8')
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024
  }

  /** The metrics page by sample: name with its labels, as printed, to value. */
  async metrics(): Promise<Map<string, number>> {
    const at = this.policy.gateway?.metrics
    if (!at) throw new Error('the policy has no metrics page')
    const page = await (await fetch(`http://${at.host}:${at.port}/metrics`)).text()
    const samples = new Map<string, number>()
    for (const line of page.split('\n')) {
      const space = line.lastIndexOf(' ')
      if (space > 0 && !line.startsWith('#')) samples.set(line.slice(0, space), Number(line.slice(space + 1)))
    }
    return samples
  }

  /**
   * Verdicts of one conduit, from one look at the page: `read-coils allow`, `write-single-coil deny function` to their
   * number; of responses and connections the verdict alone. Those that are 0 are left out.
   */
  async counts(conduit: string): Promise<Counts> {
    const counts: Counts = { requests: {}, responses: {}, connections: {} }
    for (const [sample, value] of await this.metrics()) {
      const family = /^headgate_(requests|responses|connections)_total\{/.exec(sample)?.[1] as keyof Counts | undefined
      if (family === undefined || value === 0) continue
      const labels = labelsOf(sample)
      if (labels.conduit !== conduit) continue
      counts[family][[labels.function, labels.verdict, labels.reason].filter((part) => part).join(' ')] = value
    }
    return counts
  }

  /** One sample by its name and some of its labels; 0 where there is none. */
  async sample(name: string, labels: Record<string, string>): Promise<number> {
    let sum = 0
    for (const [sample, value] of await this.metrics()) {
      if (sample.split('{')[0] !== name) continue
      const found = labelsOf(sample)
      if (Object.entries(labels).every(([key, wanted]) => found[key] === wanted)) sum += value
    }
    return sum
  }

  /** The first event of that name with those fields, once it is there. */
  async event(name: string, fields: Record<string, string | number> = {}): Promise<GatewayEvent> {
    const matches = (event: GatewayEvent) =>
      event.event === name && Object.entries(fields).every(([key, value]) => event[key] === value)
    await until(() => this.events.some(matches), `event ${name} ${JSON.stringify(fields)}`)
    return this.events.find(matches) as GatewayEvent
  }
}

function labelsOf(sample: string): Record<string, string> {
  return Object.fromEntries([...sample.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key, value]))
}

function isSocket(link: string): boolean {
  try {
    // The link's text is `socket:[inode]`; following it would fail.
    return readlinkSync(link).startsWith('socket:')
  } catch {
    return false
  }
}
