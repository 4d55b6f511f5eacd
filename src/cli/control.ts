/** `headgate cutover|rollback|cancel|reload|promote|status`: what is said to a gateway that runs; registration of the verbs. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import { CUTOVER_DEFAULTS } from '../gateway/rollout/terms.ts'

export interface SocketFlags {
  socket?: string
  policy?: string
}
export interface ActFlags extends SocketFlags {
  reason: string
}
export interface CutoverFlags extends ActFlags {
  at?: string
  watch: number
  minBaseline: number
  baseline?: string
  maxDenials: number
  maxTimeouts: number
  maxLost: number
  force: boolean
}
export interface StatusFlags extends SocketFlags {
  format: 'text' | 'json'
}

const number = (most: number, whole: boolean) => (text: string) => {
  const value = text.trim() === '' ? Number.NaN : Number(text)
  if (!(value >= 0 && value <= most) || (whole && !Number.isInteger(value))) {
    throw new InvalidArgumentError(`Expected ${whole ? 'a whole number' : 'a number'} from 0 to ${most}.`)
  }
  return value
}

const toGateway = (command: Command): Command =>
  command
    .option('--socket <path>', 'control socket of the gateway; default: /run/headgate/control.sock')
    .option('--policy <policy>', "the gateway's policy document, for the path of its control socket")

const withReason = (command: Command): Command =>
  toGateway(command).requiredOption('--reason <text>', 'why: goes into the records, with who')

/** Adds the verbs. Their exit codes go to `process.exitCode`: 0 done, 1 refused, 2 the gateway cannot be reached. */
export function control(program: Command): void {
  const { thresholds, watchMinutes, minBaselineDays } = CUTOVER_DEFAULTS
  const cutover = program
    .command('cutover')
    .description(
      'turn conduits of a running gateway from monitor to enforce, after checks; watched, with a roll-back by itself',
    )
    .argument('<conduits...>', 'ids of conduits; all or none of them')
    .option('--at <time>', 'not now, but then: 02:00 (the next), 2026-12-01T02:00, 2026-12-01T02:00+01:00')
    .option(
      '--watch <minutes>',
      'how long a roll-back by itself may follow; 0: none',
      number(10_080, false),
      watchMinutes,
    )
    .option(
      '--min-baseline <days>',
      'refuse where less was watched; 0: no baseline is asked for',
      number(3660, false),
      minBaselineDays,
    )
    .option('--baseline <file>', 'baseline file, or the directory of one; default: the one that the gateway keeps')
    .option(
      '--max-denials <n>',
      'roll back at more denials of traffic that was normal before',
      number(1_000_000, true),
      thresholds.denials,
    )
    .option(
      '--max-timeouts <n>',
      'roll back at more unanswered requests and unreachable targets than before',
      number(1_000_000, true),
      thresholds.timeouts,
    )
    .option(
      '--max-lost <n>',
      'roll back at more lost connections of known clients than before',
      number(1_000_000, true),
      thresholds.lost,
    )
    .option('--force', 'override what the checks refuse; recorded', false)
  withReason(cutover).action(async (conduits: string[], flags: CutoverFlags) => {
    const { runCutover } = await import('./control-run.ts')
    process.exitCode = await runCutover(conduits, flags)
  })
  const acts = [
    ['rollback', 'turn conduits of a running gateway back to monitor, at once'],
    ['cancel', 'cancel planned cut-overs'],
  ] as const
  for (const [verb, description] of acts) {
    const command = program.command(verb).description(description).argument('<conduits...>', 'ids of conduits')
    withReason(command).action(async (conduits: string[], flags: ActFlags) => {
      const { runAct } = await import('./control-run.ts')
      process.exitCode = await runAct(verb, conduits, flags)
    })
  }
  const reload = program
    .command('reload')
    .description('put the policy document into force as it now stands, as SIGHUP does')
  withReason(reload).action(async (flags: ActFlags) => {
    const { runAct } = await import('./control-run.ts')
    process.exitCode = await runAct('reload', [], flags)
  })
  const promote = program
    .command('promote')
    .description(
      'put the shadow policy in the place of the policy document, keep the former beside, and reload; modes stay',
    )
  withReason(promote).action(async (flags: ActFlags) => {
    const { runAct } = await import('./control-run.ts')
    process.exitCode = await runAct('promote', [], flags)
  })
  const status = program
    .command('status')
    .description('print the modes of a running gateway, planned cut-overs, watches and the policy in force')
    .addOption(new Option('--format <format>', 'how to print it').choices(['text', 'json']).default('text'))
  toGateway(status).action(async (flags: StatusFlags) => {
    const { runStatus } = await import('./control-run.ts')
    process.exitCode = await runStatus(flags)
  })
}
