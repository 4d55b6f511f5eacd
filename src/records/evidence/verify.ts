/**
 * Verifies evidence files as a stream, in constant memory: the chain, the checkpoints in it, and where it ends. Names
 * the first record that was altered, removed, inserted, reordered or cut off.
 */
import { open } from 'node:fs/promises'
import { basename } from 'node:path'
import { type Front, type Head, hashLine, MAX_LINE, NO_HASH, readFront } from './chain.ts'
import { openCheckpoint, parseVerifierKey, readCheckpoint, type VerifierKey } from './note.ts'

const CHUNK_BYTES = 1 << 20

export interface Place {
  file: string
  /** Line in the file, from 1. */
  line: number
}

export interface TamperFinding extends Place {
  kind: 'altered' | 'removed' | 'inserted' | 'reordered' | 'cut'
  /** Number of the first record that is not as it was written. */
  seq: number
  /** One sentence for a person. */
  message: string
}

export interface VerifyReport {
  files: number
  bytes: number
  records: number
  checkpoints: number
  /** Number of the first record; above 0 where earlier files were not given. */
  firstSeq: number
  firstTime: string | null
  lastTime: string | null
  /** Records after the last checkpoint: chained, yet not signed. */
  unsigned: number
  /** A last line without its end, as a crash leaves it. */
  torn: { file: string; bytes: number } | null
  /** Verifier keys that the checkpoints were held against. */
  keys: string[]
  /** Whether there is a signed head that says how far the records must reach; if not for want of one, why. */
  headKnown: boolean
  headFault: string | null
  finding: TamperFinding | null
}

export interface VerifyOptions {
  /** Keys that are trusted; none: those that the files themselves name. */
  keys: readonly VerifierKey[]
  /** The signed note that says how far the records must reach, read before the files: `head.note`. */
  headNote?: string | null
  /** Bytes of the last file that count, where it is still being written. */
  limit?: number
}

/** A line that does not follow from those before it. It takes the next line to tell why. */
interface Suspect extends Head, Place {
  /** Whether it has the form of a record. */
  record: boolean
  prev: string
}

class ChainVerifier {
  records = 0
  checkpoints = 0
  firstSeq = -1
  unsigned = 0
  finding: TamperFinding | null = null
  readonly keys: VerifierKey[]
  private readonly trusting: boolean
  private readonly known: Head | null
  private knownHash: string | null = null
  private head: Head | null = null
  private last: Place = { file: '', line: 0 }
  private suspect: Suspect | null = null
  private signedUpTo = -1
  /** Number of a record that is missing so far. */
  private missing = -1
  private readonly front: Front = { seq: 0, prev: NO_HASH, checkpoint: false }

  constructor(keys: readonly VerifierKey[], known: Head | null) {
    this.keys = [...keys]
    this.trusting = keys.length === 0
    this.known = known
  }

  /** Takes the line from `from` up to `to`, its line feed excluded. */
  line(bytes: Buffer, from: number, to: number, place: Place): void {
    const { front } = this
    const record = readFront(bytes, from, to, front)
    this.records++
    if (this.finding !== null) {
      // It only remains to tell whether what is missing stands elsewhere.
      if (record && front.seq === this.missing) this.foundLater(place)
      return
    }
    const line = bytes.subarray(from, to)
    const hash = hashLine(line)
    if (this.suspect !== null) {
      this.judge(this.suspect, record ? { seq: front.seq, hash: front.prev } : null)
      if (record && front.seq === this.missing) this.foundLater(place)
      return
    }
    const { head } = this
    if (!record || (head !== null && (front.seq !== head.seq || front.prev !== head.hash))) {
      if (head === null) this.find('altered', 0, place, 'the first line is no record of an evidence file')
      else this.suspect = { record, seq: front.seq, prev: front.prev, hash, ...place }
      return
    }
    if (head === null) this.begin(place)
    if (place.line === 1 && this.trusting) this.learnKey(line)
    if (front.checkpoint) this.checkpoint(line, place)
    else this.unsigned++
    this.head = { seq: front.seq + 1, hash }
    this.last = { ...place }
    if (this.known?.seq === front.seq + 1) this.knownHash = hash
  }

  private begin(place: Place): void {
    const { seq, prev } = this.front
    this.firstSeq = seq
    if (seq === 0 && prev !== NO_HASH) this.find('altered', 0, place, 'record 0 names a record before it')
  }

  private learnKey(line: Buffer): void {
    const key = (parse(line) as { public_key?: unknown } | null)?.public_key
    if (typeof key !== 'string' || this.keys.some((known) => known.text === key)) return
    try {
      this.keys.push(parseVerifierKey(key))
    } catch {
      // A checkpoint will say that there is no key for it.
    }
  }

  private checkpoint(line: Buffer, place: Place): void {
    const { seq, prev } = this.front
    const note = (parse(line) as { note?: unknown } | null)?.note
    const opened = typeof note === 'string' ? openCheckpoint(note, this.keys) : 'not a signed note'
    if (typeof opened === 'string') {
      this.find('altered', seq, place, `the checkpoint in record ${seq} does not hold: ${opened}`)
      return
    }
    if (opened.seq !== seq || opened.hash !== prev) {
      const from = Math.max(this.signedUpTo, this.firstSeq)
      const what = `records ${from} to ${seq - 1} are not those that the checkpoint in record ${seq} has signed`
      this.find('altered', from, place, `${what}: they were changed, and the chain made anew`)
      return
    }
    this.checkpoints++
    this.signedUpTo = seq + 1
    this.unsigned = 0
  }

  private find(kind: TamperFinding['kind'], seq: number, place: Place, message: string): void {
    this.finding ??= { kind, seq, ...place, message: `${place.file}:${place.line}: ${message}` }
  }

  /** @param next the line after the suspect: its number, and its hash of the suspect; null: no record, or the end */
  private judge(suspect: Suspect, next: Head | null): void {
    const head = this.head as Head
    const { last } = this
    const here: Place = { file: suspect.file, line: suspect.line }
    const expected = head.seq
    const goesOn = next !== null && next.seq === expected && next.hash === head.hash
    if (!suspect.record) {
      if (goesOn)
        this.find('inserted', expected, here, `a line that is no record was inserted before record ${expected}`)
      else this.find('altered', expected, here, `record ${expected} was altered: it is no record any more`)
    } else if (suspect.seq === expected) {
      if (goesOn) this.find('inserted', expected, here, `a record was inserted before record ${expected}`)
      else if (next !== null && next.hash !== suspect.hash) {
        this.find('altered', expected, here, `record ${expected} was altered`)
      } else this.find('altered', expected - 1, last, `record ${expected - 1} was altered`)
    } else if (goesOn) {
      const what = suspect.seq > expected ? 'reordered' : 'inserted'
      const moved = `record ${suspect.seq} stands before record ${expected}`
      this.find(
        what,
        suspect.seq > expected ? expected : suspect.seq,
        here,
        what === 'reordered' ? moved : `${moved} again`,
      )
    } else if (next !== null && next.seq === expected + 1) {
      this.find('altered', expected, here, `record ${expected} was altered: it says that it is record ${suspect.seq}`)
    } else if (suspect.seq > expected) {
      const to = suspect.seq - 1
      const what = to === expected ? `record ${expected} is missing` : `records ${expected} to ${to} are missing`
      this.find('removed', expected, here, what)
      this.missing = expected
    } else if (suspect.seq === expected - 1 && next?.seq === expected && next.hash === suspect.hash) {
      this.find('inserted', suspect.seq, last, `a record was inserted before record ${suspect.seq}`)
    } else
      this.find('inserted', suspect.seq, here, `record ${suspect.seq} stands here again, after record ${expected - 1}`)
  }

  private foundLater(place: Place): void {
    const { finding, missing } = this
    this.missing = -1
    if (finding === null) return
    const where = `${place.file}:${place.line}`
    finding.kind = 'reordered'
    finding.message = `${finding.file}:${finding.line}: record ${missing} is not in its place; it stands at ${where}`
  }

  /** @param signed whether the note about the end has a good signature */
  end(signed: boolean): void {
    if (this.suspect !== null && this.finding === null) this.judge(this.suspect, null)
    const { head, known, last } = this
    if (this.finding !== null || known === null || head === null || !signed) return
    if (known.seq > head.seq) {
      const missing = known.seq - head.seq
      this.find('cut', head.seq, last, `cut off after record ${head.seq - 1}: ${missing} more had been written`)
    } else if (this.knownHash !== null && this.knownHash !== known.hash) {
      const from = Math.max(this.signedUpTo, this.firstSeq)
      const what = `records ${from} to ${known.seq - 1} are not those that the signed head knows`
      this.find('altered', from, last, `${what}: at least one was altered`)
    }
  }
}

function parse(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString())
  } catch {
    return null
  }
}

/**
 * @param paths the files; their order does not matter
 * @throws Error where a file cannot be read
 */
export async function verifyFiles(paths: readonly string[], options: VerifyOptions): Promise<VerifyReport> {
  const note = options.headNote ?? null
  const head = note === null ? null : readCheckpoint(note)
  const chain = new ChainVerifier(options.keys, typeof head === 'string' ? null : head)
  const report = { files: paths.length, bytes: 0, firstTime: null, lastTime: null, torn: null } as Partial<VerifyReport>
  const ordered = await inOrder(paths)
  let lastLine = ''
  let lastFrom = 0
  let lastTo = 0
  for (const [index, path] of ordered.entries()) {
    const isLast = index === ordered.length - 1
    const place: Place = { file: basename(path), line: 0 }
    const limit = isLast ? (options.limit ?? Number.POSITIVE_INFINITY) : Number.POSITIVE_INFINITY
    const take = (bytes: Buffer, from: number, to: number): void => {
      place.line++
      if (report.firstTime === null) report.firstTime = timeOf(bytes.toString('utf8', from, to))
      chain.line(bytes, from, to, place)
      lastFrom = from
      lastTo = to
    }
    const rest = await eachLine(path, limit, take, (bytes) => {
      // The buffer is about to be used again.
      if (lastTo > 0) lastLine = bytes.toString('utf8', lastFrom, lastTo)
      lastTo = 0
    })
    report.bytes = (report.bytes ?? 0) + rest.bytes
    if (rest.torn !== null) {
      if (isLast) report.torn = { file: path, bytes: rest.torn.length }
      else {
        place.line++
        chain.line(rest.torn, 0, rest.torn.length, place)
      }
    }
  }
  // Only now it is known which keys the files name.
  const opened = note === null ? null : openCheckpoint(note, chain.keys)
  const headFault = typeof opened === 'string' ? opened : null
  chain.end(headFault === null)
  return {
    ...report,
    headKnown: note !== null && headFault === null,
    headFault,
    records: chain.records,
    checkpoints: chain.checkpoints,
    firstSeq: Math.max(chain.firstSeq, 0),
    lastTime: timeOf(lastLine),
    unsigned: chain.unsigned,
    keys: chain.keys.map((key) => key.text),
    finding: chain.finding,
  } as VerifyReport
}

const timeOf = (line: string): string | null => /"time":"([0-9TZ:.+-]{10,40})"/.exec(line)?.[1] ?? null

/** By the number of their first record; empty files are left out. */
export async function inOrder(paths: readonly string[]): Promise<string[]> {
  const known: { path: string; seq: number }[] = []
  const front: Front = { seq: 0, prev: NO_HASH, checkpoint: false }
  for (const path of paths) {
    const handle = await open(path, 'r')
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(256), 0, 256, 0)
      // Only the front counts here; whether the line is whole shows when it is read.
      if (bytesRead === 256) buffer[255] = 0x7d
      const sound = readFront(buffer, 0, bytesRead, front)
      if (bytesRead > 0) known.push({ path, seq: sound ? front.seq : -1 })
    } finally {
      await handle.close()
    }
  }
  // A first line that cannot be read keeps the place that the file's name gives it.
  for (const one of known) if (one.seq < 0) one.seq = Number(/(\d{12,})\.jsonl$/.exec(one.path)?.[1] ?? 0)
  return known.sort((a, b) => a.seq - b.seq).map((one) => one.path)
}

/**
 * Calls `take` for each line of a file with a buffer that is used again.
 * @returns how many bytes were read, and what stands behind the last line feed
 */
export async function eachLine(
  path: string,
  limit: number,
  take: (bytes: Buffer, from: number, to: number) => void,
  recycle: (bytes: Buffer) => void | Promise<void> = () => {},
): Promise<{ bytes: number; torn: Buffer | null }> {
  const handle = await open(path, 'r')
  try {
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES + MAX_LINE)
    let filled = 0
    let position = 0
    for (;;) {
      const want = Math.min(buffer.length - filled, CHUNK_BYTES, limit - position)
      const { bytesRead } = want > 0 ? await handle.read(buffer, filled, want, position) : { bytesRead: 0 }
      position += bytesRead
      const end = filled + bytesRead
      let from = 0
      let feed = buffer.indexOf(0x0a, filled)
      while (feed >= 0 && feed < end) {
        take(buffer, from, feed)
        from = feed + 1
        feed = buffer.indexOf(0x0a, from)
      }
      await recycle(buffer)
      if (bytesRead === 0) return { bytes: position, torn: from < end ? Buffer.from(buffer.subarray(from, end)) : null }
      // A line longer than any that is written counts as several, none of which is a record.
      if (end - from >= MAX_LINE) {
        take(buffer, from, end)
        from = end
      }
      buffer.copyWithin(0, from, end)
      filled = end - from
    }
  } finally {
    await handle.close()
  }
}
