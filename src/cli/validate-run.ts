/** What `headgate validate` does: plans the probes, makes them, tells what came of each. */
import { writeFileSync } from 'node:fs'
import { plain } from '../assurance/report/text.ts'
import type { ProbeResult } from '../assurance/result.ts'
import { CannotValidate, FORBIDDEN_PORTS, planProbes, zoneOf } from '../assurance/validate/plan.ts'
import { resultLine, runProbes, summaryLine, validationFile } from '../assurance/validate/run.ts'
import { parseAddress } from '../policy/address.ts'
import { Refused, requirePolicy } from './captures.ts'
import { recordMade } from './record.ts'
import type { ValidateFlags } from './validate.ts'

/** @returns the exit code */
export async function runValidate(file: string, flags: ValidateFlags): Promise<number> {
  try {
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
    const text = flags.format === 'text'
    const say = (line: string): void => void process.stdout.write(`${plain(line)}\n`)
    if (flags.dryRun) {
      if (text)
        for (const { group, conduit, target, what, expected } of probes)
          say(`[DRY RUN] ${group}: ${conduit === null ? '' : `${conduit} `}${target}: ${what} (expected: ${expected})`)
      else
        process.stdout.write(
          `${JSON.stringify(
            probes.map(({ run: _, ...probe }) => probe),
            null,
            2,
          )}\n`,
        )
      if (text) say(`${probes.length} probes; none was sent`)
      return 0
    }
    const started = new Date()
    const onResult = (result: ProbeResult): void => {
      if (text) say(resultLine(result))
    }
    let results: ProbeResult[]
    try {
      results = await runProbes(probes, { rate: flags.rate, onResult })
    } finally {
      plan.close()
    }
    const setting = { kind: 'boundary' as const, policy, from: from.id, source, started }
    const json = `${JSON.stringify(validationFile(setting, results), null, 2)}\n`
    if (text) say(summaryLine(results))
    else process.stdout.write(json)
    if (flags.output !== undefined) {
      writeFileSync(flags.output, json)
      if (flags.record) await recordMade(policy, 'validation', [{ file: flags.output, content: json }])
    }
    return results.some(({ outcome }) => outcome === 'fail') ? 1 : 0
  } catch (error) {
    if (!(error instanceof CannotValidate || error instanceof Refused || 'code' in (error as object))) throw error
    process.stderr.write(`headgate: ${(error as Error).message}\n`)
    return 2
  }
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
