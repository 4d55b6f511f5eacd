/** Evidence as a person names it: files, directories of them, the signed head beside them, keys. */
import { readFileSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { HEAD_FILE } from './chain.ts'
import { parseVerifierKey, type VerifierKey } from './note.ts'
import { evidenceFiles } from './tail.ts'

/** Directories stand for the evidence files in them. @throws Error with one line where there is none */
export async function expand(paths: readonly string[]): Promise<string[]> {
  const files: string[] = []
  for (const path of paths) {
    if (!statSync(path).isDirectory()) {
      files.push(path)
      continue
    }
    const names = await evidenceFiles(path)
    if (names.length === 0) throw new Error(`no evidence files in ${path}`)
    files.push(...names.map((name) => join(path, name)))
  }
  return files
}

/**
 * A verifier key, or a file with one.
 * @param option that it was given with, for the message
 * @throws Error with one line where it is none
 */
export function readKey(option: string, text: string): VerifierKey {
  const key = text.includes('+') && !text.includes('.pub') ? text : readFileSync(text, 'utf8')
  try {
    return parseVerifierKey(key)
  } catch (error) {
    throw new Error(`${option} ${text}: ${(error as Error).message}`)
  }
}

/** The signed head beside the files, where the newest file of its directory is one of them. */
export async function readHead(files: readonly string[]): Promise<string | null> {
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
