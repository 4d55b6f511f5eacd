/**
 * The demonstration plant, on loopback: real clients, real servers, and Headgate between them in enforce mode.
 *
 *     npm start                 goes on until Ctrl-C
 *     npm start -- --once       one round; exits 0 only if every outcome was the expected one
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs, styleText } from 'node:util'
import { loadPolicy } from '../src/policy/load.ts'
import { exceptionName } from '../src/protocols/modbus/exception-codes.ts'
import { type Actor, engineer, historian, intruder, type Outcome, type Step, stranger } from './actors.ts'
import { joinPolicies, leaks, type OpcUaPart, reached, startOpcUaPart } from './opcua.ts'
import { type Plc, startPlc } from './plant.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
/** Carried side by side by one gateway. */
const POLICIES = ['policies/refinery.yaml', 'policies/opcua-line.yaml', 'policies/opcua-inspect.yaml']
const ROUND_MS = 4000

interface Tally {
  steps: number
  unexpected: string[]
}

async function main(): Promise<number> {
  const { values: options } = parseArgs({ options: { once: { type: 'boolean', default: false } } })
  const directory = mkdtempSync(join(tmpdir(), 'headgate-demonstration-'))
  const file = joinPolicies(
    directory,
    POLICIES.map((name) => `${root}${name}`),
  )
  const plcs: Plc[] = []
  const stopping = new AbortController()
  let gateway: Headgate | undefined
  let opcua: OpcUaPart | undefined
  const actors: Actor[] = []
  const stop = (): void => stopping.abort()
  process.on('SIGINT', stop).on('SIGTERM', stop)
  try {
    const { policy } = loadPolicy(file)
    const { listeners, metrics } = policy?.gateway ?? { listeners: [], metrics: null }
    if (!policy || metrics === null) throw new Error(`a policy is not usable: npx headgate check ${POLICIES.join(' ')}`)
    const modbus = listeners.filter(({ protocol }) => protocol === 'modbus')
    for (const { target } of modbus) plcs.push(await startPlc(target.name, target.host, target.port))
    opcua = await startOpcUaPart(directory, policy)
    gateway = await Headgate.start(file)
    for (const actor of [historian, engineer, intruder, stranger]) actors.push(await actor(modbus[0].listen))
    actors.push(...opcua.actors)
    const page = `http://${metrics.host}:${metrics.port}`
    say('')
    say(`  ${bold('Headgate')} stands before two PLCs and two OPC UA servers, by ${POLICIES.join(', ')}, and enforces.`)
    for (const { target, listen, protocol } of listeners) {
      const handling = policy.conduits.flatMap(({ protocols }) => protocols).find(({ kind }) => kind === protocol)
      const name = handling?.kind === 'opcua' ? 'OPC UA' : 'Modbus'
      say(
        `  ${target.name.padEnd(8)} ${`${target.host}:${target.port}`.padEnd(18)} ${name}, through ${listen.host}:${listen.port}`,
      )
    }
    say(`  metrics  ${page}/metrics   health ${page}/readyz`)
    say(
      `  ${green('✓')} answered by the target   ${red('✗')} refused by Headgate${options.once ? '' : '   Ctrl-C ends'}`,
    )
    say('')
    const tally: Tally = { steps: 0, unexpected: [] }
    const plant: Plant = { plcs, opcua }
    do {
      for (const actor of actors) await round(actor, plant, gateway, tally, stopping.signal)
      if (!options.once) await sleep(ROUND_MS, undefined, { signal: stopping.signal }).catch(() => {})
    } while (!options.once && !stopping.signal.aborted && gateway.running)
    if (!gateway.running) tally.unexpected.push('the gateway has ended')
    if (options.once) await check(page, plcs, tally)
    tally.unexpected.push(...leaks(opcua.plants))
    summary(tally)
    return tally.unexpected.length === 0 ? 0 : 1
  } finally {
    for (const actor of actors) await actor.close()
    await gateway?.stop()
    await opcua?.close()
    for (const plc of plcs) plc.close()
    rmSync(directory, { recursive: true, force: true })
  }
}

interface Plant {
  plcs: readonly Plc[]
  opcua: OpcUaPart
}

/** One after another, so that what Headgate says of a request stands beneath it. */
async function round(actor: Actor, plant: Plant, gateway: Headgate, tally: Tally, signal: AbortSignal): Promise<void> {
  for (const step of actor.steps) {
    if (signal.aborted) return
    const before = changes(plant)
    gateway.takeEvents()
    const outcome = await step.run()
    tally.steps++
    const expected = asExpected(step, outcome)
    const leaked = step.expect !== 'answer' && changes(plant) !== before
    const who = `${actor.name.padEnd(11)} ${actor.address.padEnd(12)} → ${actor.target}`
    say(`${now()}  ${who}  ${step.what.padEnd(42)} ${mark(outcome)}${expected ? '' : red('  NOT EXPECTED')}`)
    if (!expected) tally.unexpected.push(`${actor.name} ${step.what}: ${plain(outcome)}, expected ${step.expect}`)
    if (leaked) tally.unexpected.push(`${actor.name} ${step.what}: it reached the target`)
    if (step.reason !== undefined && !told.has(step)) await explain(gateway, step.reason)
    told.add(step)
  }
}

/** Writes and calls that have come through. */
const changes = ({ plcs, opcua }: Plant): number => sum(plcs) + reached(opcua.plants)
const sum = (plcs: readonly Plc[]): number => plcs.reduce((total, plc) => total + plc.requests.write, 0)

/** What Headgate recorded of a step. Alike events are told once a minute, so each step waits for its own but once. */
const told = new Set<Step>()

async function explain(gateway: Headgate, reason: string): Promise<void> {
  for (let wait = 0; wait < 20; wait++) {
    const event = gateway.takeEvents().find((one) => one.reason === reason)
    if (event !== undefined) {
      const nearest = event.rule === undefined ? '' : `, nearest rule "${event.rule}"`
      say(dim(`          ${event.event}: ${reason}${nearest}${event.detail === undefined ? '' : ` (${event.detail})`}`))
      return
    }
    await sleep(25)
  }
}

function asExpected(step: Step, outcome: Outcome): boolean {
  if (outcome.kind === 'exception') return outcome.code === step.expect
  return outcome.kind === 'status' ? outcome.name === step.expect : outcome.kind === step.expect
}

function plain(outcome: Outcome): string {
  if (outcome.kind === 'answer') return `answered ${outcome.text}`
  if (outcome.kind === 'exception') {
    return `exception ${outcome.code.toString(16).padStart(2, '0').toUpperCase()} ${exceptionName(outcome.code)}`
  }
  if (outcome.kind === 'status') return outcome.name
  return outcome.kind === 'closed' ? 'connection closed' : 'no answer'
}

function mark(outcome: Outcome): string {
  return outcome.kind === 'answer' ? green(`✓ ${outcome.text}`) : red(`✗ ${plain(outcome)}`)
}

/** Holds the counters to what was seen: denied requests were counted, and none was allowed that should not be. */
async function check(page: string, plcs: readonly Plc[], tally: Tally): Promise<void> {
  const text = await (await fetch(`${page}/metrics`)).text()
  const denied = [...text.matchAll(/^headgate_requests_total\{[^}]*verdict="deny[^}]*\} (\d+)$/gm)]
  const count = denied.reduce((total, [, figure]) => total + Number(figure), 0)
  say('')
  say(`  headgate_requests_total: ${count} denied; writes that reached the PLCs: ${sum(plcs)}`)
  if (count < 16) tally.unexpected.push(`the metrics page counts ${count} denied requests, expected 16 or more`)
}

function summary(tally: Tally): void {
  const ok = tally.unexpected.length === 0
  say('')
  say(
    `  ${tally.steps} exchanges, ${ok ? green('every outcome was the expected one') : red(`${tally.unexpected.length} not expected`)}`,
  )
  for (const line of tally.unexpected) say(red(`    ${line}`))
}

interface GatewayEvent {
  event: string
  reason?: string
  rule?: string
  detail?: string
}

/** The real thing: `headgate run` as a process of its own. */
class Headgate {
  private readonly child: ChildProcess
  private events: GatewayEvent[] = []
  running = true

  private constructor(child: ChildProcess) {
    this.child = child
  }

  static start(policy: string): Promise<Headgate> {
    // Its own process group: Ctrl-C reaches the demonstration, which then stops the gateway in order.
    const child = spawn(process.execPath, [`${root}bin/headgate.js`, 'run', policy], {
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    })
    const gateway = new Headgate(child)
    return new Promise((resolve, reject) => {
      child.once('exit', (code) => {
        gateway.running = false
        reject(new Error(`headgate run ended with exit code ${code}`))
      })
      createInterface({ input: child.stdout as NodeJS.ReadableStream & NodeJS.ReadableStream }).on('line', (line) => {
        const event = JSON.parse(line) as GatewayEvent
        if (event.event === 'gateway.ready') resolve(gateway)
        if (gateway.events.length < 1000) gateway.events.push(event)
      })
    })
  }

  takeEvents(): GatewayEvent[] {
    const taken = this.events
    this.events = []
    return taken
  }

  async stop(): Promise<void> {
    if (!this.running) return
    const ended = new Promise((resolve) => this.child.once('exit', resolve))
    this.child.kill('SIGTERM')
    await ended
  }
}

const colored = process.stdout.isTTY && !process.env.NO_COLOR
const paint = (style: Parameters<typeof styleText>[0]) => (text: string) => (colored ? styleText(style, text) : text)
const green = paint('green')
const red = paint('red')
const dim = paint('dim')
const bold = paint('bold')
const now = (): string => new Date().toISOString().slice(11, 19)
const say = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

main().then(
  (code) => {
    process.exitCode = code
    // Sockets of the emulated PLCs may linger.
    setTimeout(() => process.exit(code), 500).unref()
  },
  (error: NodeJS.ErrnoException & { address?: string; port?: number }) => {
    const busy =
      error.code === 'EADDRINUSE' ? ` (is another demonstration running? ${error.address}:${error.port})` : ''
    const loopback =
      error.code === 'EADDRNOTAVAIL' ? ' (the demonstration needs all of 127.0.0.0/8, as Linux has it)' : ''
    process.stderr.write(`npm start: ${error.message}${busy}${loopback}\n`)
    process.exit(2)
  },
)
