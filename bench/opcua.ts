/**
 * OPC UA: what inspection costs beyond a plain relay on the same transport, and what a terminating gateway costs beside
 * one of node-opcua's own channel classes. The load, and the server, are thinner than any stack: see opcua/.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { unavailable } from '../src/gateway/linux/syscalls.ts'
import { makeKey, makeOwnCertificate } from '../src/pki/make.ts'
import { listPaths, makeList, ownPaths, toPem } from '../src/pki/store.ts'
import { filledIn, here } from './machine.ts'
import { chunks } from './opcua/chunks.ts'
import { freePort, OTHER_CPU, type Running, serve, start, WORK_CPU } from './processes.ts'
import { figure, median, medianRatio, ratioText, say, table } from './stats.ts'

const node = process.execPath
const SERVER_HOST = '127.0.0.2'

/** The bar: see docs/benchmarks.md. */
const BAR = { inspect: 1.1, terminateUs: 50, times: 5 } as const

interface Result {
  perSecond: number
  cpuUs: number
  p50: number
  p99: number
  rssKb: number
  error: string | null
}

interface LoadOptions {
  port: number
  pid: number
  mode: string
  seconds: number
  depth?: number
  nodes?: number
  connections?: number
  channels?: boolean
}

export interface OpcUaOptions {
  rounds: number
  seconds: number
}

export async function opcua({ rounds, seconds }: OpcUaOptions): Promise<void> {
  chunks()
  const directory = mkdtempSync(join(tmpdir(), 'headgate-bench-opcua-'))
  try {
    await new Field(directory, rounds, Math.max(seconds, 1)).run()
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

class Field {
  private readonly directory: string
  private readonly rounds: number
  private readonly seconds: number
  private server: Running | null = null
  private loadCpu = OTHER_CPU

  constructor(directory: string, rounds: number, seconds: number) {
    this.directory = directory
    this.rounds = rounds
    this.seconds = seconds
  }

  async run(): Promise<void> {
    await this.makeCertificates()
    // What inspection adds is a microsecond: on one CPU a figure repeats, since batches are then of one size.
    await this.beside(WORK_CPU, () => this.inspection())
    await this.beside(OTHER_CPU, async () => {
      await this.termination()
      await this.channels()
    })
  }

  /** With the server, and the load, on a processor. */
  private async beside(cpu: number, section: () => Promise<void>): Promise<void> {
    const port = await freePort()
    const args = [join(here, 'opcua/server.ts'), SERVER_HOST, String(port), join(this.directory, 'server')]
    this.loadCpu = cpu
    this.server = await serve(node, args, cpu, port, {}, SERVER_HOST)
    try {
      await section()
    } finally {
      await this.server.stop()
    }
  }

  private get target(): number {
    return this.server?.port ?? 0
  }

  /** Certificates of all, and the gateway's in Headgate's own layout. */
  private async makeCertificates(): Promise<void> {
    const ders = new Map<string, Buffer>()
    for (const name of ['server', 'client', 'gateway']) {
      const key = await makeKey(2048)
      const applicationUri = `urn:headgate:bench:${name}`
      const options = {
        commonName: name,
        organization: null,
        applicationUri,
        hosts: ['127.0.0.1', SERVER_HOST],
        days: 2,
      }
      const der = await makeOwnCertificate(key, options)
      ders.set(name, der)
      writeFileSync(join(this.directory, `${name}.der`), der)
      writeFileSync(join(this.directory, `${name}.pem`), key)
      if (name !== 'gateway') continue
      const own = ownPaths(join(this.directory, 'own'))
      mkdirSync(join(own.certificate, '..'), { recursive: true })
      mkdirSync(join(own.key, '..'), { recursive: true, mode: 0o700 })
      writeFileSync(own.certificate, toPem([der]))
      writeFileSync(own.key, key, { mode: 0o600 })
    }
    for (const name of ['client', 'server']) {
      const list = join(this.directory, `${name}s`)
      makeList(list)
      writeFileSync(join(listPaths(list).trusted, `${name}.der`), ders.get(name) ?? '')
    }
  }

  // ---------------------------------------------------------------------------------------------------- contenders

  private async headgate(io: string, values: Record<string, string>, flags: string[] = []): Promise<Running> {
    const port = await freePort()
    const policy = filledIn('opcua-policy.yaml', {
      BENCH_LISTEN: port,
      BENCH_TARGET: this.target,
      BENCH_IO: io,
      BENCH_RULE: '',
      BENCH_SERVICES: '[discovery, session, browse, read]',
      ...values,
    })
    return serve(node, [...flags, join(here, 'gateway.ts'), policy], WORK_CPU, port)
  }

  private inspecting(io: string, mode: string, plain: boolean): Promise<Running> {
    const flags = plain ? preloaded('opcua/plain.ts') : []
    const services = mode === 'SignAndEncrypt' ? '[all]' : '[discovery, session, browse, read]'
    const values = { BENCH_OPCUA: `{ handling: inspect, security_modes: [${mode}] }`, BENCH_SERVICES: services }
    return this.headgate(io, values, flags)
  }

  private terminating(rule = '', flags: string[] = []): Promise<Running> {
    const at = (name: string): string => JSON.stringify(join(this.directory, name))
    const certificates = `{ own: ${at('own')}, trusted_clients: ${at('clients')}, trusted_servers: ${at('servers')} }`
    const modes = '[Sign, SignAndEncrypt]'
    const section = `{ handling: terminate, security_modes: ${modes}, certificates: ${certificates} }`
    return this.headgate('net', { BENCH_OPCUA: section, BENCH_RULE: rule }, flags)
  }

  private async nodeOpcUa(): Promise<Running> {
    const port = await freePort()
    const files = [join(this.directory, 'gateway'), join(this.directory, 'server.der')]
    const program = join(here, 'opcua/node-opcua-gateway.ts')
    return serve(node, [program, String(port), `${SERVER_HOST}:${this.target}`, ...files], WORK_CPU, port)
  }

  private async pipe(): Promise<Running> {
    const port = await freePort()
    return serve(node, [join(here, 'pipe.ts'), String(port), String(this.target)], WORK_CPU, port)
  }

  // ---------------------------------------------------------------------------------------------------------- load

  private async load(options: LoadOptions): Promise<Result> {
    const { port, pid, mode, seconds, depth = 16, nodes = 1, connections = 1, channels = false } = options
    const args = [join(here, 'opcua/client.ts'), '--certificate', join(this.directory, 'client')]
    const figures = { port, pid, mode, seconds, depth, nodes, connections }
    for (const [name, value] of Object.entries(figures)) args.push(`--${name}`, String(value))
    if (channels) args.push('--channels')
    const child = start(node, args, this.loadCpu)
    let stdout = ''
    let stderr = ''
    child.stdout?.on('data', (chunk) => {
      stdout += chunk
    })
    child.stderr?.on('data', (chunk) => {
      stderr += chunk
    })
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', () => resolve())
    })
    const line = stdout.trim().split('\n').at(-1) ?? ''
    if (!line.startsWith('{')) throw new Error(`the load failed: ${stderr.slice(-600)}`)
    const result = JSON.parse(line) as Result
    if (result.error !== null) throw new Error(`an error under load: ${result.error}`)
    return result
  }

  /** All of them in turn, in each round; the order turns from round to round. */
  private async measure(entries: readonly Running[], options: Omit<LoadOptions, 'port' | 'pid' | 'seconds'>) {
    const results: Result[][] = entries.map(() => [])
    for (const { port, pid } of entries) await this.load({ ...options, port, pid, seconds: 2 })
    for (let round = 0; round < this.rounds; round++) {
      for (let turn = 0; turn < entries.length; turn++) {
        const e = (turn + round) % entries.length
        const { port, pid } = entries[e]
        results[e][round] = await this.load({ ...options, port, pid, seconds: this.seconds })
      }
    }
    return results
  }

  // ------------------------------------------------------------------------------------------------------ sections

  private async inspection(): Promise<void> {
    const transports = unavailable() === null ? ['epoll', 'net'] : ['net']
    for (const mode of ['None', 'Sign', 'SignAndEncrypt']) {
      say(`\n### OPC UA, inspected: ${mode}${mode === 'None' ? '' : ', Basic256Sha256'}\n`)
      const entries: [string, Running][] = [['Node pipe', await this.pipe()]]
      for (const io of transports) {
        entries.push([`plain relay, ${io}`, await this.inspecting(io, mode, true)])
        entries.push([`Headgate inspect, ${io}`, await this.inspecting(io, mode, false)])
      }
      try {
        const results = await this.measure(
          entries.map(([, running]) => running),
          { mode },
        )
        const rows = entries.map(([name], e) => {
          const cpu = results[e].map(({ cpuUs }) => cpuUs)
          const ratio = name.startsWith('Headgate')
            ? medianRatio(
                cpu,
                results[e - 1].map(({ cpuUs }) => cpuUs),
              )
            : NaN
          const verdict = Number.isNaN(ratio) ? '' : ratio <= BAR.inspect ? 'met' : 'missed'
          return [name, ...figures(results[e]), ratioText(ratio), verdict]
        })
        say(table([...HEAD, 'CPU to plain relay', `at most ${BAR.inspect}×`], rows))
      } finally {
        for (const [, running] of entries) await running.stop()
      }
    }
  }

  private async termination(): Promise<void> {
    const narrow = 'nodes: ["nsu=urn:bench;s=Line1.*"]'
    const entries: [string, Running][] = [
      ['node-opcua channel classes', await this.nodeOpcUa()],
      ['Headgate terminate', await this.terminating()],
      ['Headgate terminate, node rules', await this.terminating(narrow)],
    ]
    const running = entries.map(([, one]) => one)
    try {
      for (const [title, options] of [
        ['SignAndEncrypt, 16 Reads under way', { mode: 'SignAndEncrypt' }],
        ['SignAndEncrypt, one Read at a time', { mode: 'SignAndEncrypt', depth: 1 }],
        ['SignAndEncrypt, 50 values a Read', { mode: 'SignAndEncrypt', nodes: 50 }],
        ['Sign, 16 Reads under way', { mode: 'Sign' }],
      ] as const) {
        say(`\n### OPC UA, terminated: ${title}\n`)
        const results = await this.measure(running, options)
        const rows = entries.map(([name], e) => {
          const times = medianRatio(
            results[e].map(({ perSecond }) => perSecond),
            results[0].map(({ perSecond }) => perSecond),
          )
          const cpu = median(results[e].map(({ cpuUs }) => cpuUs))
          const small = title.startsWith('SignAndEncrypt, 16')
          const met = cpu <= BAR.terminateUs && times >= BAR.times
          return [name, ...figures(results[e]), ratioText(times), e === 0 || !small ? '' : met ? 'met' : 'missed']
        })
        say(table([...HEAD, 'Reads/s, ratio', `≤ ${BAR.terminateUs} µs, ≥ ${BAR.times}×`], rows))
      }
    } finally {
      for (const one of running) await one.stop()
    }
  }

  private async channels(): Promise<void> {
    const entries: [string, Running][] = [
      ['node-opcua channel classes', await this.nodeOpcUa()],
      ['Headgate terminate', await this.terminating('', preloaded('opcua/unguarded.ts'))],
    ]
    try {
      say('\n### OPC UA, terminated: channels opened and closed, four at a time\n')
      say('With the limit lifted that Headgate holds key exchanges to.\n')
      const options = { mode: 'SignAndEncrypt', channels: true, connections: 4 }
      const results = await this.measure(
        entries.map(([, running]) => running),
        options,
      )
      const rows = entries.map(([name], e) => [
        name,
        figure(median(results[e].map(({ perSecond }) => perSecond))),
        figure(median(results[e].map(({ cpuUs }) => cpuUs)) / 1000),
      ])
      say(table(['gateway', 'channels/s', 'CPU, ms each'], rows))
    } finally {
      for (const [, running] of entries) await running.stop()
    }
  }
}

/** Worker threads take the flag along. */
const preloaded = (file: string): string[] => ['--import', pathToFileURL(join(here, file)).href]

const HEAD = ['relay', 'Reads/s', 'CPU µs/Read', 'p50 µs', 'p99 µs', 'RSS MB']

const figures = (results: readonly Result[]): string[] => [
  figure(median(results.map(({ perSecond }) => perSecond))),
  figure(median(results.map(({ cpuUs }) => cpuUs))),
  figure(median(results.map(({ p50 }) => p50))),
  figure(median(results.map(({ p99 }) => p99))),
  figure(median(results.map(({ rssKb }) => rssKb)) / 1024),
]
