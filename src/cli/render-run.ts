/** What `headgate render` does. */
import { formatFinding } from '../policy/findings.ts'
import { loadPolicy, PolicyUnreadable } from '../policy/load.ts'
import type { Policy } from '../policy/model.ts'
import { type Rendered, renderAsa } from '../render/asa/render.ts'
import { TooManyPieces } from '../render/flows.ts'
import { renderNftables } from '../render/nftables.ts'
import type { Target } from './render.ts'

const RENDERERS: Record<Target, (policy: Policy) => Rendered> = {
  isa3000: renderAsa,
  nftables: renderNftables,
}

/** @returns the exit code: 0 rendered, 1 where the document has errors, 2 where it cannot be read or rendered */
export function runRender(target: Target, file: string): number {
  try {
    const { policy, findings } = loadPolicy(file)
    if (policy === null) {
      for (const finding of findings) process.stderr.write(`${formatFinding(finding)}\n`)
      return 1
    }
    const { text, notes } = RENDERERS[target](policy)
    process.stdout.write(text)
    for (const note of notes) process.stderr.write(`note: ${note}\n`)
    return 0
  } catch (error) {
    const known = error instanceof PolicyUnreadable || error instanceof TooManyPieces
    if (!known) throw error
    process.stderr.write(`headgate: ${error.message}\n`)
    return 2
  }
}
