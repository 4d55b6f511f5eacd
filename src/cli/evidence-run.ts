/** What `headgate evidence verify|show` do. */
import { once } from 'node:events'
import { isComplaint, parseDuration } from '../policy/values.ts'
import { expand, readHead, readKey } from '../records/evidence/paths.ts'
import { FORMATS, matches, type ShowFilter } from '../records/evidence/show.ts'
import { eachLine, inOrder, type VerifyReport, verifyFiles } from '../records/evidence/verify.ts'
import type { ShowFlags, VerifyFlags } from './evidence.ts'

/** What was asked for cannot be done: one line for a person. */
class Unusable extends Error {}

const failed = (error: unknown): number => {
  const { message } = error as Error
  process.stderr.write(`headgate: ${message}\n`)
  return 2
}

export async function runVerify(paths: readonly string[], flags: VerifyFlags): Promise<number> {
  try {
    const keys = (flags.key ?? []).map((key) => readKey('--key', key))
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
