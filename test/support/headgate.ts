/**
 * `headgate run` as a process of its own, for tests: a policy file as an operator writes it, signals, exit code, log
 * lines, and the metrics page. JSON is YAML, so a document is an object.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import type { GatewayEvent } from './gateway.ts'
import { until } from './sockets.ts'

const MAIN = new URL('../../src/cli/main.ts', import.meta.url).href
const FAULTS = fileURLToPath(new URL('./faults.ts', import.meta.url))
const CACHE = fileURLToPath(new URL('../../node_modules/.cache/headgate-tests', import.meta.url))
const COMMAND = `import(${JSON.stringify(MAIN)}).then((cli) => cli.main(['node', 'headgate', ...process.argv.slice(1)]))`

/** What `protocols_allowed` says of Modbus/TCP, with the document's own keys. */
export interface ModbusText {
  rules: Record<string, unknown>[]
  [key: string]: unknown
}

export interface DocumentText {
  mode?: 'monitor' | 'enforce'
  modbus: ModbusText
  /** Address listened on to the target's. */
  listeners: Record<string, string>
  gateway?: Record<string, unknown>
}

/** A document with one conduit, C1, that carries any pair of loopback's addresses. */
export function document({ mode = 'enforce', modbus, listeners, gateway = {} }: DocumentText) {
  return {
    zones: [{ zone_id: 'CELL' }, { zone_id: 'OFFICE' }],
    conduits: [
      {
        conduit_id: 'C1',
        connects: ['CELL', 'OFFICE'],
        mode,
        protocols_allowed: [{ protocol: 'Modbus/TCP', ...modbus }],
      },
    ],
    gateway: {
      listeners: Object.entries(listeners).map(([listen, target]) => ({ conduit: 'C1', listen, target })),
      drain: '2s',
      ...gateway,
    },
  }
}

/** A rule for everybody. */
export const rule = (functions: (string | number)[], more: Record<string, unknown> = {}) => ({
  name: 'all',
  from: ['127.0.0.0/8'],
  to: ['127.0.0.0/8'],
  functions,
  ...more,
})

/** Where stdout goes: into `events`, into a pipe that nobody reads, or to a descriptor. */
export type Log = 'pipe' | 'unread' | number

export interface Ended {
  code: number | null
  signal: string | null
}

export class Headgate {
  readonly events: GatewayEvent[] = []
  /** Lines of stdout that are no JSON objects. */
  readonly strayLines: string[] = []
  readonly child: ChildProcess
  readonly file: string
  stderr = ''
  ended: Ended | null = null

  /** @param faults lets SIGUSR2 end a worker thread */
  private constructor(t: Test, file: string, { log, faults }: { log: Log; faults: boolean }) {
    this.file = file
    const preload = faults ? ['--import', FAULTS] : []
    const stdout = log === 'unread' ? 'pipe' : log
    this.child = spawn(process.execPath, [...preload, '-e', COMMAND, 'run', file], {
      stdio: ['ignore', stdout, 'pipe'],
      // Each start compiles anew otherwise, which takes longer than all else that it does.
      env: { ...process.env, NODE_COMPILE_CACHE: CACHE },
    })
    this.child.stderr?.on('data', (chunk) => {
      this.stderr += chunk
    })
    if (log === 'pipe' && this.child.stdout)
      createInterface({ input: this.child.stdout }).on('line', (line) => this.take(line))
    this.child.once('close', (code, signal) => {
      this.ended = { code, signal }
    })
    t.teardown(async () => {
      if (this.ended === null) this.child.kill('SIGKILL')
      await this.end().catch(() => {})
    })
  }

  private take(line: string): void {
    try {
      this.events.push(JSON.parse(line))
    } catch {
      this.strayLines.push(line)
    }
  }

  /** Runs `headgate run FILE`; the caller waits for `ready()` or `end()`. */
  static run(t: Test, file: string, log: Log = 'pipe'): Headgate {
    return new Headgate(t, file, { log, faults: false })
  }

  /** Writes the document to a file, and waits until the gateway is ready. */
  static async start(t: Test, policy: object, options: { faults?: boolean } = {}): Promise<Headgate> {
    const headgate = new Headgate(t, policyFile(t, policy), { log: 'pipe', faults: options.faults ?? false })
    await headgate.ready()
    return headgate
  }

  async ready(): Promise<GatewayEvent> {
    await until(() => this.ended !== null || this.find('gateway.ready') !== undefined, 'gateway.ready', 15_000)
    const ready = this.find('gateway.ready')
    if (ready === undefined) throw new Error(`headgate ended with ${JSON.stringify(this.ended)}: ${this.stderr}`)
    return ready
  }

  private find(name: string, from = 0): GatewayEvent | undefined {
    return this.events.slice(from).find((event) => event.event === name)
  }

  /** The next event of that name, from the `from`th on, once it is there. */
  async event(name: string, from = 0): Promise<GatewayEvent> {
    await until(() => this.find(name, from) !== undefined, `event ${name}`)
    return this.find(name, from) as GatewayEvent
  }

  /** Writes another document, sends SIGHUP, and waits for what became of it: `policy.loaded` or `policy.rejected`. */
  async reload(policy: object | string): Promise<GatewayEvent> {
    writeFileSync(this.file, typeof policy === 'string' ? policy : JSON.stringify(policy))
    return await this.hangUp()
  }

  async hangUp(): Promise<GatewayEvent> {
    const from = this.events.length
    const told = () => this.find('policy.loaded', from) ?? this.find('policy.rejected', from)
    this.signal('SIGHUP')
    await until(() => told() !== undefined, 'policy.loaded or policy.rejected')
    return told() as GatewayEvent
  }

  signal(name: NodeJS.Signals): void {
    this.child.kill(name)
  }

  async end(ms = 10_000): Promise<Ended> {
    await until(() => this.ended !== null, 'the end of headgate', ms)
    return this.ended as Ended
  }

  /** SIGTERM, and its end. */
  async stop(): Promise<Ended> {
    this.signal('SIGTERM')
    return await this.end()
  }

  get pid(): number {
    return this.child.pid as number
  }
}

/** The document in a file of its own, in a directory that goes with the test. */
export function policyFile(t: Test, policy: object | string): string {
  const directory = mkdtempSync(join(tmpdir(), 'headgate-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const file = join(directory, 'policy.yaml')
  writeFileSync(file, typeof policy === 'string' ? policy : JSON.stringify(policy))
  return file
}

/** A page's samples: name with its labels, as printed, to value. */
export async function scrape(page: string): Promise<Map<string, number>> {
  const samples = new Map<string, number>()
  for (const line of (await (await fetch(page)).text()).split('\n')) {
    const space = line.lastIndexOf(' ')
    if (space > 0 && !line.startsWith('#')) samples.set(line.slice(0, space), Number(line.slice(space + 1)))
  }
  return samples
}

/** The sum of the samples of that name with those labels. */
export function sum(samples: Map<string, number>, name: string, labels: Record<string, string> = {}): number {
  let total = 0
  for (const [sample, value] of samples) {
    if (sample.split('{', 1)[0] !== name) continue
    if (Object.entries(labels).every(([key, wanted]) => sample.includes(`${key}="${wanted}"`))) total += value
  }
  return total
}
