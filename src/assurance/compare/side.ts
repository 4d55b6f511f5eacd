/** One of the two things that are compared: a policy document or a firewall's configuration, told apart by their words. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { MAX_DOCUMENT_BYTES } from '../../policy/document.ts'
import { formatFinding } from '../../policy/findings.ts'
import { checkPolicy } from '../../policy/load.ts'
import type { Policy } from '../../policy/model.ts'
import { type AsaConfig, readAsaConfig } from '../../render/asa/config.ts'
import { type Effective, effectiveFlows } from '../../render/asa/effective.ts'
import { looksLikeAsa } from '../../render/asa/statements.ts'

export type Side =
  | { kind: 'document'; file: string; policy: Policy }
  | { kind: 'asa'; file: string; config: AsaConfig; effective: Effective }

/** A file that cannot be compared: one line for a person, and the findings where it is a document with errors. */
export class SideUnreadable extends Error {
  readonly findings: string[]
  constructor(message: string, findings: string[] = []) {
    super(message)
    this.findings = findings
  }
}

/** @throws SideUnreadable where the file cannot be read, or is a document with errors */
export function readSide(file: string): Side {
  return sideOf(file, readConfiguration(file))
}

export function sideOf(file: string, text: string): Side {
  if (looksLikeAsa(text)) {
    const config = readAsaConfig(text)
    return { kind: 'asa', file, config, effective: effectiveFlows(config) }
  }
  const { policy, findings } = checkPolicy(file, Buffer.from(text))
  if (policy !== null) return { kind: 'document', file, policy }
  const errors = findings.filter(({ severity }) => severity === 'error').map(formatFinding)
  throw new SideUnreadable(`${file} is neither a policy document without errors nor an ASA configuration`, errors)
}

/** A text file of bounded size. @throws SideUnreadable */
export function readConfiguration(file: string): string {
  let descriptor: number | null = null
  try {
    descriptor = openSync(file, 'r')
    if (fstatSync(descriptor).isDirectory()) throw new SideUnreadable(`cannot read ${file}: it is a directory`)
    const buffer = Buffer.allocUnsafe(MAX_DOCUMENT_BYTES + 1)
    let length = 0
    for (let n = -1; n !== 0 && length < buffer.length; length += n) {
      n = readSync(descriptor, buffer, length, buffer.length - length, null)
    }
    if (length > MAX_DOCUMENT_BYTES)
      throw new SideUnreadable(`cannot read ${file}: longer than ${MAX_DOCUMENT_BYTES} bytes`)
    return buffer.toString('utf8', 0, length)
  } catch (error) {
    if (error instanceof SideUnreadable) throw error
    const { code, message } = error as NodeJS.ErrnoException
    throw new SideUnreadable(`cannot read ${file}: ${code === 'ENOENT' ? 'no such file' : message}`)
  } finally {
    if (descriptor !== null) closeSync(descriptor)
  }
}
