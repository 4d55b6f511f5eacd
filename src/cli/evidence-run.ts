/** What `headgate evidence verify|show` do. */
import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { isComplaint, parseDuration } from '../policy/values.ts'
import { HEAD_FILE } from '../records/evidence/chain.ts'
import { parseVerifierKey, type VerifierKey } from '../records/evidence/note.ts'
import { FORMATS, matches, type ShowFilter } from '../records/evidence/show.ts'
import { evidenceFiles } from '../records/evidence/tail.ts'
import { eachLine, inOrder, type VerifyReport, verifyFiles } from '../records/evidence/verify.ts'
import type { ShowFlags, VerifyFlags } from './evidence.ts'

/** What was asked for cannot be done: one line for a person. */
class Unusable extends Error {}

/** Directories stand for the evidence files in them. */
async function expand(paths: readonly string[]): Promise<string[]> {
  const files: string[] = []
  for (const path of paths) {
    if (!statSync(path).isDirectory()) {
      files.push(path)
      continue
    }
    const names = await evidenceFiles(path)
    if (names.length === 0) throw new Unusable(`no evidence files in ${path}`)
    files.push(...names.map((name) => join(path, name)))
  }
  return files
}

const failed = (error: unknown): number => {
  const { message } = error as Error
  process.stderr.write(`headgate: ${message}\n`)
  return 2
}

function readKey(text: string): VerifierKey {
  const key = text.includes('+') && !text.includes('.pub') ? text : readFileSync(text, 'utf8')
  try {
    return parseVerifierKey(key)
  } catch (error) {
    throw new Unusable(`--key ${text}: ${(error as Error).message}`)
  }
}

/** The signed head beside the files, where the newest file of its directory is one of them. */
async function readHead(files: readonly string[]): Promise<string | null> {
  for (const directory of new Set(files.map((file) => dirname(file)))) {
    const newest = (await evidenceFiles(directory)).at(-1)
    if (newest === undefined || !files.some((file) => dirname(file) === directory && basename(file) === newest))
      continue
    try {
      return readFileSync(join(directory, HEAD_FILE), 'utf8')
    } catch {
      // Then a cut at the very end does not show, and the report says so.
    }
  }
  return null
}

export async function runVerify(paths: readonly string[], flags: VerifyFlags): Promise<number> {
  try {
    const keys = (flags.key ?? []).map(readKey)
    const files = await expand(paths)
    // Before the files: a gateway that runs writes on.
    const headNote = await readHead(files)
    const report = await verifyFiles(files, { keys, headNote })
    process.stdout.write(
      flags.format === 'json' ? `${JSON.stringify(report, null, 2)}\n` : text(report, keys.length > 0),
    )
    return report.finding === null ? 0 : 1
  } catch (error) {
    return failed(error)
  }
}

function text(report: VerifyReport, trusted: boolean): string {
  const { records, files, firstSeq, firstTime, lastTime, checkpoints, unsigned, torn, keys, finding } = report
  const last = firstSeq + records - 1
  const lines = [
    `records      ${records} in ${files} file${files === 1 ? '' : 's'} (${report.bytes} bytes), numbers ${firstSeq} to ${last}`,
    `times        ${firstTime ?? '-'} to ${lastTime ?? '-'}`,
    `checkpoints  ${checkpoints}, ${unsigned === 0 ? 'the last one covers all' : `${unsigned} records after the last one`}`,
    ...keys.map(
      (key) => `key          ${key}${trusted ? '' : ' (as the files say: compare it with the one you keep)'}`,
    ),
  ]
  if (firstSeq > 0) lines.push(`note         begins at record ${firstSeq}: earlier files were not given`)
  if (torn !== null) {
    lines.push(
      `note         the last line is torn (${torn.bytes} bytes): the mark of a crash; the next start of the gateway repairs it`,
    )
  }
  if (report.headFault !== null) lines.push(`note         the signed head does not count: ${report.headFault}`)
  else if (!report.headKnown)
    lines.push('note         no signed head beside the files: a cut at the very end would not show')
  lines.push(finding === null ? 'verified     yes' : `NOT VERIFIED (${finding.kind}) ${finding.message}`)
  return `${lines.join('\n')}\n`
}

/** @returns milliseconds since the epoch; a duration counts back from now */
function parseTime(option: string, value: string): number {
  const ago = parseDuration(value, 0, 1e15)
  if (/[a-z]$/i.test(value) && !value.endsWith('Z') && !isComplaint(ago)) return Date.now() - ago
  const time = /^\d{4}-\d\d-\d\d/.test(value) ? Date.parse(value) : Number.NaN
  if (Number.isNaN(time))
    throw new Unusable(`${option}: found ${value}, expected a time such as 2026-02-23T14:00:00Z, or 24h`)
  return time
}

export async function runShow(paths: readonly string[], flags: ShowFlags): Promise<number> {
  try {
    const filter: ShowFilter = {
      since: flags.since === undefined ? Number.NEGATIVE_INFINITY : parseTime('--since', flags.since),
      until: flags.until === undefined ? Number.POSITIVE_INFINITY : parseTime('--until', flags.until),
      conduits: flags.conduit ?? null,
      reasons: flags.reason ?? null,
      events: flags.event ?? null,
    }
    const format = FORMATS[flags.format]
    let waiting = format.head
    let unread = 0
    for (const file of await inOrder(await expand(paths))) {
      const flush = async (): Promise<void> => {
        const text = waiting
        waiting = ''
        if (text !== '' && !process.stdout.write(text)) await once(process.stdout, 'drain')
      }
      const take = (bytes: Buffer, from: number, to: number): void => {
        try {
          const record = JSON.parse(bytes.toString('utf8', from, to)) as Record<string, unknown>
          if (matches(record, filter)) waiting += format.line(record)
        } catch {
          unread++
        }
      }
      await eachLine(file, Number.POSITIVE_INFINITY, take, flush)
      await flush()
    }
    if (unread > 0)
      process.stderr.write(`headgate: ${unread} lines are no records; "headgate evidence verify" says more\n`)
    return 0
  } catch (error) {
    return failed(error)
  }
}
