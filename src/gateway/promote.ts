/** A policy document takes the place of another: as a whole, with the former kept beside. */
import { copyFileSync, linkSync, realpathSync, renameSync, statSync, unlinkSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
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
