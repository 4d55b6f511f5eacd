/** Artefacts of other verbs recorded in the evidence: what was made is told on stderr where it was not. */
import { artefactOf, NotRecorded, recordArtefact } from '../assurance/artefact.ts'
import type { ArtefactKind } from '../assurance/kinds.ts'
import type { Policy } from '../policy/model.ts'

/** A document whose gateway keeps evidence has its artefacts in it. A failure is told, and changes no exit code. */
export async function recordMade(
  policy: Policy,
  kind: ArtefactKind,
  made: readonly { file: string; content: string }[],
): Promise<void> {
  if (policy.gateway === null || (policy.gateway.evidence === null && policy.gateway.control === null)) return
  for (const { file, content } of made) {
    try {
      const how = await recordArtefact(policy, artefactOf(kind, file, content))
      process.stderr.write(`headgate: ${file}: hash recorded ${how}\n`)
    } catch (error) {
      if (!(error instanceof NotRecorded)) throw error
      process.stderr.write(`headgate: ${file}: hash NOT recorded: ${error.message}\n`)
    }
  }
}
