/** What `headgate cutover`, `rollback`, `cancel`, `reload` and `status` do: one request over the control socket. */
import { resolve } from 'node:path'
import { ask, Unreachable } from '../gateway/control/client.ts'
import type { Answer } from '../gateway/control/protocol.ts'
import type { Override, Planned, Watch } from '../gateway/rollout/state.ts'
import { loadPolicy, PolicyUnreadable } from '../policy/load.ts'
import { CONTROL_DEFAULTS } from '../policy/model.ts'
import type { ActFlags, CutoverFlags, SocketFlags, StatusFlags } from './control.ts'
import { parseWhen, showTime } from './when.ts'

const fail = (message: string): number => {
  process.stderr.write(`headgate: ${message}\n`)
  return 2
}

/** Control characters would let an answer draw on the terminal. */
const visible = (text: string): string => text.replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ')
const print = (line: string): void => void process.stdout.write(`${visible(line)}\n`)

/** @returns the socket's path, or why there is none */
function socketOf({ socket, policy }: SocketFlags): { path: string } | { error: string } {
  if (socket !== undefined) return { path: resolve(socket) }
  if (policy === undefined) return { path: CONTROL_DEFAULTS.socket }
  try {
    const { policy: loaded } = loadPolicy(policy)
    if (loaded === null) return { error: `${policy} has errors ("headgate check ${policy}"); give --socket` }
    const control = loaded.gateway?.control ?? null
    return control === null ? { error: `${policy} has no gateway.control` } : { path: control.socket }
  } catch (error) {
    if (!(error instanceof PolicyUnreadable)) throw error
    return { error: error.message }
  }
}

/** Asks, and prints a refusal. @returns the exit code, or what was answered */
async function say(flags: SocketFlags, request: Record<string, unknown>): Promise<number | Record<string, unknown>> {
  const socket = socketOf(flags)
  if ('error' in socket) return fail(socket.error)
  let answer: Answer
  try {
    answer = await ask(socket.path, request)
  } catch (error) {
    if (!(error instanceof Unreachable)) throw error
    return fail(error.message)
  }
  if (answer.ok) return answer.result
  process.stderr.write(`headgate: refused: ${visible(answer.error)}\n`)
  for (const { conduit, check, found, mend } of answer.refusals ?? []) {
    process.stderr.write(`${visible(`  ${conduit} ${check}: ${found}`)}\n${visible(`    mend: ${mend}`)}\n`)
  }
  return 1
}

export async function runCutover(conduits: readonly string[], flags: CutoverFlags): Promise<number> {
  const at = flags.at === undefined ? null : parseWhen(flags.at, Date.now())
  if (typeof at === 'string') return fail(`--at: ${at}`)
  const result = await say(flags, {
    verb: 'cutover',
    conduits,
    reason: flags.reason,
    at: at === null ? undefined : new Date(at).toISOString(),
    watch_minutes: flags.watch,
    min_baseline_days: flags.minBaseline,
    baseline: flags.baseline === undefined ? undefined : resolve(flags.baseline),
    max_denials: flags.maxDenials,
    max_timeouts: flags.maxTimeouts,
    max_lost: flags.maxLost,
    force: flags.force,
  })
  if (typeof result === 'number') return result
  for (const { conduit, check, found } of (result.overridden ?? []) as {
    conduit: string
    check: string
    found: string
  }[]) {
    print(`overridden: ${conduit} ${check}: ${found}`)
  }
  for (const conduit of conduits) {
    if (at !== null) print(`${conduit}: cut-over planned for ${showTime(at)}`)
    else if (flags.watch > 0) print(`${conduit}: enforces, watched for ${flags.watch} minutes`)
    else print(`${conduit}: enforces, not watched`)
  }
  return 0
}

const DONE = { rollback: 'monitors', cancel: 'cut-over cancelled', reload: '', promote: '' } as const

export async function runAct(verb: keyof typeof DONE, conduits: readonly string[], flags: ActFlags): Promise<number> {
  const named = conduits.length === 0 ? {} : { conduits }
  const result = await say(flags, { verb, reason: flags.reason, ...named })
  if (typeof result === 'number') return result
  if (verb === 'reload' || verb === 'promote') {
    const { file, sha256 } = result.policy as { file: string; sha256: string }
    print(`in force: ${file} ${sha256}`)
    if (verb === 'promote') print(`the former is kept as ${result.kept}`)
  }
  for (const conduit of conduits) print(`${conduit}: ${DONE[verb]}`)
  return 0
}

interface StatusView {
  version: string
  gateway: string
  pid: number
  io: string
  uptime_seconds: number
  policy: { file: string; sha256: string }
  shadow: { file: string; sha256: string | null; judging: boolean } | null
  conduits: {
    conduit: string
    mode: string
    document_mode: string
    changed: Override | null
    planned: Planned | null
    watch: Watch | null
  }[]
}

export async function runStatus(flags: StatusFlags): Promise<number> {
  const result = await say(flags, { verb: 'status' })
  if (typeof result === 'number') return result
  if (flags.format === 'json') {
    process.stdout.write(`${JSON.stringify(result, null, 2)}\n`)
    return 0
  }
  const status = result as unknown as StatusView
  print(
    `gateway  ${status.gateway}, Headgate ${status.version}, ${status.io}, pid ${status.pid}, up ${uptime(status.uptime_seconds)}`,
  )
  print(`policy   ${status.policy.file} ${status.policy.sha256}`)
  const { shadow } = status
  if (shadow !== null) {
    const judges = shadow.judging ? '' : shadow.sha256 === null ? '  (cannot be used)' : '  (the same as in force)'
    print(`shadow   ${shadow.file} ${shadow.sha256 ?? ''}${judges}`)
  }
  const width = Math.max(...status.conduits.map(({ conduit }) => conduit.length))
  for (const { conduit, mode, document_mode, changed, planned, watch } of status.conduits) {
    const differs = mode === document_mode ? '' : `  (the document says ${document_mode})`
    print(`conduit  ${conduit.padEnd(width)}  ${mode}${differs}`)
    const more = (line: string): void => print(`         ${''.padEnd(width)}  ${line}`)
    if (changed !== null)
      more(`${changed.mode} by ${changed.cause} since ${changed.since}, ${changed.who.user}: ${changed.why}`)
    if (planned !== null)
      more(`cut-over planned for ${showTime(Date.parse(planned.at))}, ${planned.who.user}: ${planned.why}`)
    if (watch !== null) {
      const counts = (['denials', 'timeouts', 'lost'] as const).map(
        (key) => `${key} ${watch.counts[key]} of ${watch.thresholds[key]}`,
      )
      more(`watched until ${watch.until}: ${counts.join(', ')}`)
    }
  }
  return 0
}

function uptime(seconds: number): string {
  const minutes = Math.floor(seconds / 60)
  if (minutes < 1) return `${seconds} s`
  if (minutes < 60) return `${minutes} min`
  return minutes < 2880 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${Math.floor(minutes / 1440)} days`
}
