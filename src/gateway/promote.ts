/** A policy document takes the place of another: as a whole, with the former kept beside. */
import { copyFileSync, linkSync, readFileSync, realpathSync, renameSync, statSync, unlinkSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { formatFinding } from '../policy/findings.ts'
import { checkPolicy, type Modes } from '../policy/load.ts'
import type { Finding, Policy } from '../policy/model.ts'
import { Refused } from './rollout/host.ts'
import { syncDirectory, writeWhole } from './rollout/state.ts'

export interface Replaced {
  /** Name of the former, beside. */
  kept: string
  /** Puts the former back. */
  undo(): void
}

/** @throws where it cannot be written; then the former is still there */
export function replaceDocument(document: string, bytes: Uint8Array, now: Date): Replaced {
  // A link stays a link: what it points to is replaced.
  const file = realpathSync(document)
  const kept = join(dirname(file), `${basename(file)}.${now.toISOString().replace(/[:.]/g, '-')}`)
  try {
    linkSync(file, kept)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'EOPNOTSUPP' && code !== 'EMLINK') throw error
    copyFileSync(file, kept)
  }
  try {
    writeWhole(file, bytes, statSync(file).mode & 0o777)
  } catch (error) {
    unlinkSync(kept)
    throw error
  }
  return {
    kept: basename(kept),
    undo: () => {
      renameSync(kept, file)
      syncDirectory(dirname(file))
    },
  }
}

/** A shadow policy, its document, and whether that is still what its file has. */
export interface Candidate {
  candidate: Policy
  written: Uint8Array
  intact: boolean
}

/**
 * The shadow policy as the document in force would be.
 * @param bytes of the document in force; null: it has none
 * @returns it with its own modes, and its findings with those in force
 * @throws Refused where it may not take that place
 */
export function promotable(
  { candidate, written, intact }: Candidate,
  inForce: Policy,
  bytes: Uint8Array | null,
  modes: Modes,
): { document: Policy; findings: Finding[] } {
  const { file } = inForce
  if (candidate.sha256 === inForce.sha256) throw new Refused('the shadow policy is the policy in force already')
  if (!intact) {
    throw new Refused(`${candidate.file} has changed since it judges: let it judge as it is now, or restore it`)
  }
  if (bytes === null || !readFileSync(file).equals(bytes)) {
    throw new Refused(`${file} has changed since it was put into force: "headgate reload", or restore it`)
  }
  const inPlace = checkPolicy(file, written, modes)
  const asWritten = checkPolicy(file, written)
  const document = asWritten.policy
  if (inPlace.policy === null || document === null) {
    const findings = document === null ? asWritten.findings : inPlace.findings
    const errors = findings.filter((finding) => finding.severity === 'error').map(formatFinding)
    throw new Refused(`with the modes in force it has errors: ${errors.join('; ')}`)
  }
  if (pathsOf(document) !== pathsOf(candidate)) {
    throw new Refused(`paths in ${candidate.file} are relative to its own directory, and would mean others in ${file}`)
  }
  return { document, findings: inPlace.findings }
}

/** What a document says of its gateway, with its paths made absolute. */
const pathsOf = ({ gateway }: Policy): string =>
  JSON.stringify({ ...gateway, listeners: [] }, (_, value) => (typeof value === 'bigint' ? `${value}` : value))
