/** What `headgate render` does. */
import { formatFinding } from '../policy/findings.ts'
import { loadPolicy, PolicyUnreadable } from '../policy/load.ts'
import type { Policy } from '../policy/model.ts'
import { type Rendered, renderAsa } from '../render/asa/render.ts'
import { TooManyPieces } from '../render/flows.ts'
import { renderNftables } from '../render/nftables.ts'
import { renderVlan, SwitchTooSmall } from '../render/vlan.ts'
import type { RenderFlags, Target } from './render.ts'

function rendered(target: Target, policy: Policy, { ports = 24, prefix = '', zone }: RenderFlags): Rendered {
  if (target === 'isa3000') return renderAsa(policy)
  return target === 'nftables' ? renderNftables(policy) : renderVlan(policy, { ports, prefix, zones: zone ?? null })
}

/** @returns the exit code: 0 rendered, 1 where the document has errors, 2 where it cannot be read or rendered */
export function runRender(target: Target, file: string, flags: RenderFlags): number {
  try {
    const { policy, findings } = loadPolicy(file)
    if (policy === null) {
      for (const finding of findings) process.stderr.write(`${formatFinding(finding)}\n`)
      return 1
    }
    const { text, notes } = rendered(target, policy, flags)
    process.stdout.write(text)
    for (const note of notes) process.stderr.write(`note: ${note}\n`)
    return 0
  } catch (error) {
    const known = [PolicyUnreadable, TooManyPieces, SwitchTooSmall].some((one) => error instanceof one)
    if (!known) throw error
    process.stderr.write(`headgate: ${(error as Error).message}\n`)
    return 2
  }
}
