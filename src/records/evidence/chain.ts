/**
 * The form of an evidence file: JSON Lines, each with its sequence number and the SHA-256 of the line before it, in
 * this order and with no space, so that both are found without parsing:
 *
 *     {"seq":12,"prev":"<64 hex digits>","time":…}
 *     {"seq":13,"prev":"<64 hex digits>","note":"<signed note>",…}     a checkpoint
 */
import { hash } from 'node:crypto'

/** What the first record of all has in the place of its predecessor's hash. */
export const NO_HASH = '0'.repeat(64)
/** Longest line, in bytes. */
export const MAX_LINE = 1 << 20

/** Where a chain stands: the next sequence number, and the hash of the last line. */
export interface Head {
  seq: number
  hash: string
}

export const START: Head = { seq: 0, hash: NO_HASH }

/** SHA-256 of a line without its line feed, lower-case hex. */
export const hashLine = (line: string | Uint8Array): string => hash('sha256', line, 'hex')

/**
 * The line that follows `head`, without its line feed.
 * @param body the record as JSON text of an object that is not empty
 */
export const chainLine = (head: Head, body: string): string =>
  `{"seq":${head.seq},"prev":"${head.hash}",${body.slice(1)}`

/** The head after `line`. */
export const advance = (head: Head, line: string): Head => ({ seq: head.seq + 1, hash: hashLine(line) })

const PREFIX = Buffer.from('{"seq":')
const PREV = Buffer.from(',"prev":"')
const NOTE = Buffer.from('","note":"')

/** What stands at the front of a line: fields are set by `readFront`, and hold until its next call. */
export interface Front {
  seq: number
  prev: string
  /** Whether the line is a checkpoint. */
  checkpoint: boolean
}

const starts = (bytes: Buffer, at: number, what: Buffer): boolean => {
  for (let i = 0; i < what.length; i++) if (bytes[at + i] !== what[i]) return false
  return true
}

/**
 * Reads the front of the line at `from` up to `to`, its line feed excluded.
 * @returns whether there is one: a sequence number, a hash, and more behind them
 */
export function readFront(bytes: Buffer, from: number, to: number, front: Front): boolean {
  let at = from + PREFIX.length
  if (to - from < 96 || !starts(bytes, from, PREFIX)) return false
  let seq = 0
  const digits = at
  for (; at - digits < 16 && bytes[at] >= 0x30 && bytes[at] <= 0x39; at++) seq = seq * 10 + bytes[at] - 0x30
  if (at === digits || (bytes[digits] === 0x30 && at - digits > 1) || !starts(bytes, at, PREV)) return false
  at += PREV.length
  if (at + 66 > to || bytes[to - 1] !== 0x7d) return false
  front.seq = seq
  front.prev = bytes.toString('latin1', at, at + 64)
  front.checkpoint = starts(bytes, at + 64, NOTE)
  return bytes[at + 64] === 0x22 && bytes[at + 65] === 0x2c
}

/** `evidence-000000001234.jsonl`: the sequence number of the file's first record, so that names sort as the files follow. */
export const fileName = (seq: number): string => `evidence-${String(seq).padStart(12, '0')}.jsonl`
export const isEvidenceFile = (name: string): boolean => /^evidence-\d{12,}\.jsonl$/.test(name)
/** The latest signed note, for what no checkpoint in the files covers yet. */
export const HEAD_FILE = 'head.note'
