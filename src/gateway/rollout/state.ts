/**
 * What outlives a restart: the modes that cut-overs and roll-backs have made, the cut-overs that are planned, and the
 * watches that run. One small JSON file, replaced as a whole; a crash leaves the old one or the new one.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'

const FILE = 'rollout.json'
const MAX_BYTES = 8 << 20
const FORMAT = 1

const time = z.iso.datetime()
const text = z.string().max(2000)
const mode = z.enum(['monitor', 'enforce'])
const count = z.number().min(0).max(Number.MAX_SAFE_INTEGER)

const who = z.strictObject({ user: text, source: z.enum(['kernel', 'claimed', 'gateway']) })
const thresholds = z.strictObject({ denials: count, timeouts: count, lost: count })

const override = z.strictObject({
  mode,
  /** What the document said when the mode was changed. Once it says something else, it counts again. */
  documentMode: mode,
  since: time,
  cause: z.enum(['cutover', 'rollback', 'automatic-rollback', 'promotion']),
  who,
  why: text,
})

const watch = z.strictObject({
  since: time,
  until: time,
  minutes: count,
  thresholds,
  /** What has gone wrong so far. */
  counts: thresholds,
  /** Path of the baseline that says what is normal; null: the one that the gateway keeps. */
  baseline: z.string().max(4096).nullable(),
  who,
  why: text,
})

const planned = z.strictObject({
  at: time,
  asked: time,
  watchMinutes: count,
  minBaselineDays: count,
  /** Path of the baseline; null: the one that the gateway keeps. */
  baseline: z.string().max(4096).nullable(),
  thresholds,
  force: z.boolean(),
  who,
  why: text,
})

const stateSchema = z.strictObject({
  headgate_rollout: z.literal(FORMAT),
  /** Modes that stand in place of the document's. */
  overrides: z.record(z.string(), override),
  /** The latest change of each conduit, for `status`. */
  latest: z.record(z.string(), override),
  watches: z.record(z.string(), watch),
  planned: z.record(z.string(), planned),
})

export type Who = z.infer<typeof who>
export type Thresholds = z.infer<typeof thresholds>
export type Override = z.infer<typeof override>
export type Watch = z.infer<typeof watch>
export type Planned = z.infer<typeof planned>
export type RolloutState = z.infer<typeof stateSchema>

export const emptyState = (): RolloutState => ({
  headgate_rollout: FORMAT,
  overrides: {},
  latest: {},
  watches: {},
  planned: {},
})

export class StateFile {
  readonly path: string

  /** @param directory absolute; made where there is none */
  constructor(directory: string) {
    this.path = join(directory, FILE)
  }

  /**
   * @returns the state, or why it cannot be read; then the file is kept beside as `rollout.json.bad`. Without a file
   *   there is nothing kept.
   */
  read(): { state: RolloutState; problem: string } {
    let bytes: string
    try {
      if (statSync(this.path).size > MAX_BYTES) return this.unreadable('it is too long')
      bytes = readFileSync(this.path, 'utf8')
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      return { state: emptyState(), problem: code === 'ENOENT' ? '' : message }
    }
    try {
      const parsed = stateSchema.safeParse(JSON.parse(bytes))
      if (parsed.success) return { state: parsed.data, problem: '' }
      const [issue] = parsed.error.issues
      return this.unreadable(`${issue.path.join('.')}: ${issue.message}`)
    } catch {
      return this.unreadable('it is no JSON')
    }
  }

  private unreadable(why: string): { state: RolloutState; problem: string } {
    try {
      renameSync(this.path, `${this.path}.bad`)
      return { state: emptyState(), problem: `${why}; kept as ${FILE}.bad` }
    } catch {
      return { state: emptyState(), problem: why }
    }
  }

  /** Returns once the state is on the disk. @throws where it cannot be written; then the former is still there */
  write(state: RolloutState): void {
    writeWhole(this.path, `${JSON.stringify(state, null, 1)}\n`)
  }
}

/** Replaces a file by another, which is on the disk before it takes the name. Only its owner can read it. */
export function writeWhole(path: string, text: string | Uint8Array, mode = 0o600): void {
  const directory = join(path, '..')
  mkdirSync(directory, { recursive: true, mode: 0o750 })
  const next = `${path}.new`
  const fd = openSync(next, 'w', mode)
  try {
    const bytes = typeof text === 'string' ? Buffer.from(text) : text
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  renameSync(next, path)
  syncDirectory(directory)
}

/** A rename is on the disk once its directory is (fsync(2)). */
export function syncDirectory(directory: string): void {
  const fd = openSync(directory, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
