/** What `headgate drift` does. */
import { lookAtBaseline } from '../assurance/drift/baseline.ts'
import type { Look } from '../assurance/drift/drift.ts'
import { lookAtGateway } from '../assurance/drift/gateway.ts'
import { lookAtNftables } from '../assurance/drift/nftables.ts'
import { tell, writeTextfile } from '../assurance/drift/tell.ts'
import { plain } from '../assurance/report/text.ts'
import { VERSION } from '../version.ts'
import { Refused, requirePolicy } from './captures.ts'
import type { DriftFlags } from './drift.ts'

/** @returns the exit code */
export async function runDrift(file: string, flags: DriftFlags): Promise<number> {
  try {
    const policy = requirePolicy(file)
    const now = new Date()
    const looks: Look[] = []
    if (flags.gateway) looks.push(await lookAtGateway(policy))
    if (flags.nftables) looks.push(await lookAtNftables(policy))
    const baseline = flags.baseline ?? policy.gateway?.baseline?.directory
    if (baseline !== undefined) looks.push(lookAtBaseline(policy, baseline, flags.days, now))
    const found = looks.flatMap((look) => look.found)
    if (flags.format === 'json') {
      const { sha256 } = policy
      const answer = {
        format: 'headgate-drift',
        version: 1,
        headgate: VERSION,
        time: now.toISOString(),
        policy: { file, sha256 },
        looks,
      }
      process.stdout.write(`${JSON.stringify(answer, null, 2)}\n`)
    } else {
      for (const line of looks.flatMap(lines)) process.stdout.write(`${plain(line)}\n`)
      process.stdout.write(`${found.length} found in ${looks.length} sources\n`)
    }
    if (flags.textfile !== undefined) writeTextfile(flags.textfile, looks, now)
    // What could not be looked at is not what is as it should be.
    const blind = looks.some((look) => look.unseen !== null)
    if (flags.tell && !(blind && found.length === 0)) {
      process.stderr.write(`headgate: ${plain(await tell(policy, found))}\n`)
    }
    if (found.length > 0) return 1
    return blind || looks.length === 0 ? 2 : 0
  } catch (error) {
    if (!(error instanceof Refused || 'code' in (error as object))) throw error
    process.stderr.write(`headgate: ${(error as Error).message}\n`)
    return 2
  }
}

function lines({ source, unseen, seen, found }: Look): string[] {
  if (unseen !== null) return [`[UNSEEN] ${source}: ${unseen}`]
  if (found.length === 0) return [`[OK] ${source}: ${seen}`]
  return found.map(
    ({ kind, conduit, detail }) => `[DRIFT] ${kind}${conduit === undefined ? '' : ` ${conduit}`}: ${detail}`,
  )
}
