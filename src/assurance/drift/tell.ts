/** Tells what was found: to the gateway that runs, else in the evidence; and to Prometheus's textfile collector. */
import { renameSync, writeFileSync } from 'node:fs'
import { ask, Unreachable } from '../../gateway/control/client.ts'
import { MAX_DRIFTS } from '../../gateway/control/protocol.ts'
import type { Policy } from '../../policy/model.ts'
import { append, NotRecorded } from '../artefact.ts'
import { plain } from '../report/text.ts'
import type { Drift, Look } from './drift.ts'

const ASK_MS = 10_000
const DETAIL = 1000

/** @returns how it was told, in words, or why it was not */
export async function tell(policy: Policy, found: readonly Drift[]): Promise<string> {
  const { gateway } = policy
  const first = found.slice(0, MAX_DRIFTS).map(({ kind, conduit, detail }) => ({
    kind,
    ...(conduit === undefined ? {} : { conduit: plain(conduit).slice(0, 128) || '-' }),
    detail: plain(detail).slice(0, DETAIL) || '-',
  }))
  let why = 'the document has no gateway.control'
  if (gateway !== null && gateway.control !== null) {
    try {
      const answer = await ask(gateway.control.socket, { verb: 'drift', found: first, total: found.length }, ASK_MS)
      if (answer.ok) return `told the gateway at ${gateway.control.socket}`
      why = answer.error
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error
      why = error.message
    }
  }
  if (found.length === 0) return `nothing to tell (${why})`
  try {
    let where = ''
    for (const one of first) where = await append(policy, { event: 'drift.found', ...one })
    return `recorded ${where}`
  } catch (error) {
    if (!(error instanceof NotRecorded)) throw error
    return `NOT told: ${why}; ${error.message}`
  }
}

/** For the textfile collector of Prometheus's node exporter, which reads whole files: replaced as one. */
export function writeTextfile(file: string, looks: readonly Look[], now: Date): void {
  const lines = [
    '# HELP headgate_drift_found What the latest look of headgate drift found, by source; absent where it could not look.',
    '# TYPE headgate_drift_found gauge',
    ...looks
      .filter(({ unseen }) => unseen === null)
      .map(({ source, found }) => `headgate_drift_found{source="${source}"} ${found.length}`),
    '# HELP headgate_drift_looked_timestamp_seconds Time of that look.',
    '# TYPE headgate_drift_looked_timestamp_seconds gauge',
    `headgate_drift_looked_timestamp_seconds ${Math.floor(now.getTime() / 1000)}`,
  ]
  writeFileSync(`${file}.new`, `${lines.join('\n')}\n`)
  renameSync(`${file}.new`, file)
}
