/** What `headgate validate` does: plans the probes, makes them, tells what came of each. */
import type { ProbeResult } from '../assurance/result.ts'
import { CannotValidate, FORBIDDEN_PORTS, planProbes, zoneOf } from '../assurance/validate/plan.ts'
import type { Probe } from '../assurance/validate/probe.ts'
import { resultLine, runProbes } from '../assurance/validate/run.ts'
import { parseAddress } from '../policy/address.ts'
import { requirePolicy } from './captures.ts'
import type { ValidateFlags } from './validate.ts'
import { attempt, conclude, sayTo } from './validation.ts'

/** @returns the exit code */
export const runValidate = (file: string, flags: ValidateFlags): Promise<number> =>
  attempt(async () => {
    const policy = requirePolicy(file)
    if (flags.from === undefined) throw new CannotValidate('which zone is this host in? give --from ZONE')
    const from = zoneOf(policy, flags.from)
    const source = flags.source ?? null
    if (source !== null && parseAddress(source) === null) throw new CannotValidate(`--source ${source}: not an address`)
    const plan = await planProbes(policy, {
      from,
      source,
      timeoutMs: flags.timeout * 1000,
      ports: [...FORBIDDEN_PORTS, ...parsePorts(flags.ports)],
      targets: flags.target ?? null,
      allowWriteBack: flags.allowWriteBack,
      refusedFails: flags.refused === 'fail',
    })
    const { probes } = plan
    if (probes.length > flags.maxProbes) {
      throw new CannotValidate(
        `${probes.length} probes, more than --max-probes ${flags.maxProbes}: narrow them with --target, or allow more`,
      )
    }
    const say = sayTo(flags)
    if (flags.dryRun) return sayDry(probes, flags)
    const started = new Date()
    let results: ProbeResult[]
    try {
      results = await runProbes(probes, { rate: flags.rate, onResult: (result) => say(resultLine(result)) })
    } finally {
      plan.close()
    }
    return conclude({ kind: 'boundary', policy, from: from.id, source, started }, results, flags)
  })

/** What would be probed. */
function sayDry(probes: readonly Probe[], flags: ValidateFlags): number {
  const say = sayTo(flags)
  for (const { group, conduit, target, what, expected } of probes)
    say(`[DRY RUN] ${group}: ${conduit === null ? '' : `${conduit} `}${target}: ${what} (expected: ${expected})`)
  say(`${probes.length} probes; none was sent`)
  const plain = probes.map(({ run: _, ...probe }) => probe)
  if (flags.format === 'json') process.stdout.write(`${JSON.stringify(plain, null, 2)}\n`)
  return 0
}

/** `22,80,8000-8010`. @throws CannotValidate */
function parsePorts(text: string | undefined): number[] {
  if (text === undefined) return []
  const ports: number[] = []
  for (const part of text.split(',')) {
    const match = /^\s*(\d{1,5})(?:-(\d{1,5}))?\s*$/.exec(part)
    const [low, high] = match === null ? [0, 0] : [Number(match[1]), Number(match[2] ?? match[1])]
    if (low < 1 || high > 65535 || low > high || high - low > 1024) {
      throw new CannotValidate(`--ports ${text}: found ${part}, expected ports such as 22,80,8000-8010`)
    }
    for (let port = low; port <= high; port++) ports.push(port)
  }
  return ports
}
