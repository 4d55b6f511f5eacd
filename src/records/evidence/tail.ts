/**
 * The end of the evidence that there is: where a gateway that starts goes on. Tells a last line that a crash has torn
 * (no line feed behind it, or the zeros that a file system leaves after a loss of power) from one that was altered.
 */
import { type FileHandle, open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type Front, type Head, hashLine, isEvidenceFile, MAX_LINE, NO_HASH, readFront } from './chain.ts'

export interface Tail {
  /** Name of the last file; null: there is none. */
  file: string | null
  /** Bytes of it up to the end of its last whole line. */
  size: number
  /** Bytes behind that: a torn line. */
  torn: number
  /** After the last whole line of all files; null where there is none. */
  head: Head | null
  /** What is wrong with the last whole line, in words; empty: nothing. */
  fault: string
}

/** Names of the evidence files in a directory, in their order. */
export async function evidenceFiles(directory: string): Promise<string[]> {
  return (await readdir(directory)).filter(isEvidenceFile).sort((a, b) => a.length - b.length || (a < b ? -1 : 1))
}

export async function readTail(directory: string): Promise<Tail> {
  const names = await evidenceFiles(directory)
  const tail: Tail = { file: null, size: 0, torn: 0, head: null, fault: '' }
  for (const name of names.reverse()) {
    const handle = await open(join(directory, name), 'r')
    try {
      const end = await lastLine(handle)
      if (tail.file === null) {
        tail.file = name
        tail.size = end.size
        tail.torn = end.torn
      }
      if (end.line === null) continue
      const front: Front = { seq: 0, prev: NO_HASH, checkpoint: false }
      if (readFront(end.line, 0, end.line.length, front)) tail.head = { seq: front.seq + 1, hash: hashLine(end.line) }
      else tail.fault = `the last line of ${name} is no record`
      return tail
    } finally {
      await handle.close()
    }
  }
  return tail
}

/** The last line with a line feed, and how many bytes stand before its end and behind it. */
async function lastLine(handle: FileHandle): Promise<{ line: Buffer | null; size: number; torn: number }> {
  const { size: total } = await handle.stat()
  const from = Math.max(0, total - 2 * MAX_LINE)
  const bytes = Buffer.alloc(total - from)
  let filled = 0
  while (filled < bytes.length) {
    const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, from + filled)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  const end = bytes.lastIndexOf(0x0a, filled - 1)
  if (filled === 0 || end < 0) return { line: null, size: from, torn: total - from }
  const start = end === 0 ? 0 : bytes.lastIndexOf(0x0a, end - 1) + 1
  return { line: bytes.subarray(start, end), size: from + end + 1, torn: total - from - end - 1 }
}
