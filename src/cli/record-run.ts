/** What `headgate evidence record` does. */
import { readFileSync } from 'node:fs'
import { artefactOf, recordArtefact } from '../assurance/artefact.ts'
import { requirePolicy } from './captures.ts'
import type { RecordFlags } from './evidence.ts'

/** @returns the exit code: 0 all recorded, 2 one is not */
export async function runRecord(file: string, names: readonly string[], { kind }: RecordFlags): Promise<number> {
  try {
    const policy = requirePolicy(file)
    const artefacts = names.map((name) => artefactOf(kind, name, readFileSync(name)))
    for (const artefact of artefacts) {
      const how = await recordArtefact(policy, artefact)
      process.stdout.write(`${artefact.sha256}  ${artefact.file}  recorded ${how}\n`)
    }
    return 0
  } catch (error) {
    process.stderr.write(`headgate: ${(error as Error).message}\n`)
    return 2
  }
}
