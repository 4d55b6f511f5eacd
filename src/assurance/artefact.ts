/**
 * An artefact (report, validation, import) recorded in the evidence with its SHA-256: by the gateway, where one runs, over
 * its control socket; else by this process, while it alone has the evidence's lock.
 */
import { hash } from 'node:crypto'
import { existsSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { ask, Unreachable } from '../gateway/control/client.ts'
import type { Policy } from '../policy/model.ts'
import { EVENTS, type EventInput, type EventRecord } from '../records/catalogue.ts'
import { LOCK_FILE } from '../records/evidence/lock.ts'
import { EvidenceWriter } from '../records/evidence/writer.ts'
import type { ArtefactKind } from './kinds.ts'

export interface Artefact {
  kind: ArtefactKind
  file: string
  sha256: string
}

/** It is not in the evidence: one line that says why. */
export class NotRecorded extends Error {}

const ASK_MS = 10_000

export const artefactOf = (kind: ArtefactKind, file: string, bytes: string | Uint8Array): Artefact => ({
  kind,
  file: resolve(file),
  sha256: hash('sha256', bytes, 'hex'),
})

/** @returns how it was recorded, in words. @throws NotRecorded */
export async function recordArtefact(policy: Policy, { kind, file, sha256 }: Artefact): Promise<string> {
  const { gateway } = policy
  if (gateway === null || (gateway.evidence === null && gateway.control === null)) {
    throw new NotRecorded(`${policy.file} has neither gateway.evidence nor gateway.control`)
  }
  if (gateway.control !== null) {
    const { socket } = gateway.control
    try {
      const answer = await ask(socket, { verb: 'record', kind, file, sha256 }, ASK_MS)
      if (!answer.ok) throw new NotRecorded(`the gateway refused to record it: ${answer.error}`)
      return `by the gateway at ${socket}`
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error
      // A socket that is there and does not let this user in says that a gateway runs.
      if (gateway.evidence === null || !/no such socket|nobody listens/.test(error.message)) {
        throw new NotRecorded(error.message)
      }
    }
  }
  return append(policy, { event: 'artefact.recorded', kind, file, sha256 })
}

/** Appends an event to evidence that no gateway writes at the moment. @throws NotRecorded */
export async function append(policy: Policy, input: EventInput): Promise<string> {
  const terms = policy.gateway?.evidence ?? null
  if (terms === null) throw new NotRecorded(`${policy.file} has no gateway.evidence`)
  const { directory, key } = terms
  if (!existsSync(directory) || !existsSync(key)) {
    throw new NotRecorded(`no gateway has written evidence in ${directory} on this machine`)
  }
  const own = process.getuid?.()
  const { uid } = statSync(directory)
  // Files of another user would keep the gateway from going on with them.
  if (own !== undefined && uid !== own) {
    throw new NotRecorded(`${directory} is user ${uid}'s: run as that user, or over the control socket of the gateway`)
  }
  const problems: string[] = []
  const writer: EvidenceWriter = new EvidenceWriter(terms, {
    tell: (event, chained) => {
      const record = complete(policy, event)
      if (event.event === 'evidence.failed') problems.push(String(event.detail))
      else if (chained) writer.append(JSON.stringify(record), record.time)
      return record
    },
    writable: () => {},
  })
  await writer.open()
  if (!writer.writable) {
    await writer.close()
    const why = problems[0] ?? 'the evidence cannot be written'
    const hint = existsSync(`${directory}/${LOCK_FILE}`) ? '; a gateway with gateway.control records it itself' : ''
    throw new NotRecorded(`${why}${hint}`)
  }
  const record = complete(policy, input)
  const before = writer.written
  writer.append(JSON.stringify(record), record.time)
  await writer.close()
  if (writer.written === before || writer.lost > 0)
    throw new NotRecorded(problems[0] ?? 'the evidence cannot be written')
  return `in ${directory}`
}

let sequence = 0

/** As the recorder completes one. */
function complete(policy: Policy, { event, severity, time, ...fields }: EventInput): EventRecord {
  const now = time ?? Date.now()
  const own = `${now.toString(36).padStart(9, '0')}-${process.pid.toString(16)}-${(sequence++).toString(36)}`
  const given = Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined && value !== null && value !== ''),
  )
  return {
    time: new Date(now).toISOString(),
    event,
    severity: severity ?? EVENTS[event][0],
    id: own,
    gateway: policy.gateway?.name ?? '',
    policy: policy.sha256,
    ...given,
  } as unknown as EventRecord
}
