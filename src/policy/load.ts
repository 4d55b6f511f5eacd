/** From a policy's file to the checked policy, with everything that is wrong with it said at once. */
import { createHash } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { z } from 'zod'
import { Check } from './check.ts'
import { type Claim, holdClaims } from './claims.ts'
import { buildConduits } from './conduits.ts'
import { MAX_DOCUMENT_BYTES, SourceDocument } from './document.ts'
import { compareFindings, show } from './findings.ts'
import { buildGateway } from './gateway-section.ts'
import type { Finding, Mode, Policy, Suppression } from './model.ts'
import { isOpcUa } from './opcua-section.ts'
import { documentSchema } from './schema.ts'
import { Zones } from './zones.ts'

/** The file cannot be read at all: one line for a person. */
export class PolicyUnreadable extends Error {}

export interface LoadedPolicy {
  /** null where there is an error among the findings. */
  policy: Policy | null
  /** All errors and warnings, in the order of the document. */
  findings: Finding[]
  /** Every claim of the document, and what became of it; as far as it could be read where there are errors. */
  claims: Claim[]
  /** What is told in `lint` of the document, for `assurance/lint.ts`; the places of things in it. */
  source: SourceDocument
  /** The document as it was read. */
  bytes: Uint8Array
}

/** Modes by conduit id that stand in place of the document's: what a cut-over or a roll-back has made of them. */
export type Modes = ReadonlyMap<string, Mode>
const AS_WRITTEN: Modes = new Map()

/** @throws PolicyUnreadable where there is no such file, no permission, or far too much of it */
export function loadPolicy(file: string): LoadedPolicy {
  return checkPolicy(file, readBounded(file))
}

/**
 * @param file path, for messages
 * @param bytes the document as it stands in the file
 * @param modes what stands in place of the document's own
 */
export function checkPolicy(file: string, bytes: Uint8Array, modes: Modes = AS_WRITTEN): LoadedPolicy {
  const source = new SourceDocument(bytes)
  const check = new Check(file, source)
  const policy = source.value === undefined ? null : build(check, bytes, modes)
  const claims = policy === null ? [] : holdClaims(source.value, policy, source)
  reportClaims(check, claims)
  check.findings.sort(compareFindings)
  return { policy: check.failed ? null : policy, findings: check.findings, claims, source, bytes }
}

/**
 * A contradiction is an error. Those of a direction or a security mode have been told where the rule or mode is; those of
 * allowed_conduits the lint tells, where a reason may let them stand.
 */
function reportClaims(check: Check, claims: readonly Claim[]): void {
  for (const { status, key, form, protocol, line, column, part, detail, places } of claims) {
    const told =
      key === 'allowed_conduits' ||
      (key === 'direction' && form !== 'diode') ||
      (form === 'security-mode' && protocol !== null && isOpcUa(protocol))
    if (status !== 'contradicted' || told) continue
    const where = places[0] === undefined ? '' : ` (line ${places[0].line})`
    const message = `found the claim ${show(part)}, which the document contradicts: ${detail}${where}; expected one of the two to change`
    check.errorAt({ line, column }, 'claim-contradicted', message)
  }
}

function build(check: Check, bytes: Uint8Array, modes: Modes): Policy | null {
  const { value } = check.source
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    check.error([], 'bad-value', 'found no policy document, expected a map with the keys zones and conduits')
    return null
  }
  check.structure(documentSchema(z.unknown()), value)
  const document = value as Record<string, unknown>
  const zones = new Zones(check, document.zones)
  const conduits = buildConduits(check, zones, document.conduits, modes)
  const gateway = buildGateway(check, zones, conduits, document.gateway)
  return {
    file: check.file,
    sha256: createHash('sha256').update(bytes).digest('hex'),
    facility: textOrNull(document.facility),
    assessmentDate: textOrNull(document.assessment_date),
    standard: textOrNull(document.standard),
    zones: zones.all,
    conduits,
    gateway,
    suppressions: suppressions(check, document.lint),
  }
}

function suppressions(check: Check, raw: unknown): Suppression[] {
  if (raw === undefined || !check.sound(['lint'])) return []
  const { suppress = [] } = raw as { suppress?: { id: string; at?: string; reason: string }[] }
  return suppress.map(({ id, at = null, reason }, index) => {
    return { id, at, reason, position: check.source.position(['lint', 'suppress', index]) }
  })
}

const textOrNull = (value: unknown): string | null => (typeof value === 'string' ? value : null)

function readBounded(file: string): Uint8Array {
  let descriptor: number
  try {
    descriptor = openSync(file, 'r')
  } catch (error) {
    throw new PolicyUnreadable(`cannot read ${file}: ${reason(error as NodeJS.ErrnoException)}`)
  }
  try {
    if (fstatSync(descriptor).isDirectory()) throw new PolicyUnreadable(`cannot read ${file}: it is a directory`)
    const buffer = Buffer.allocUnsafe(MAX_DOCUMENT_BYTES + 1)
    let length = 0
    for (let n = -1; n !== 0 && length < buffer.length; length += n) {
      n = readSync(descriptor, buffer, length, buffer.length - length, null)
    }
    if (length > MAX_DOCUMENT_BYTES) {
      throw new PolicyUnreadable(`cannot read ${file}: longer than ${MAX_DOCUMENT_BYTES} bytes`)
    }
    return buffer.subarray(0, length)
  } catch (error) {
    if (error instanceof PolicyUnreadable) throw error
    throw new PolicyUnreadable(`cannot read ${file}: ${reason(error as NodeJS.ErrnoException)}`)
  } finally {
    closeSync(descriptor)
  }
}

const REASONS: Record<string, string> = {
  ENOENT: 'no such file',
  EACCES: 'no permission',
  EISDIR: 'it is a directory',
  ENOTDIR: 'a part of the path is not a directory',
}

const reason = (error: NodeJS.ErrnoException): string => REASONS[error.code ?? ''] ?? error.message
