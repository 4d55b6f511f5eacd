/** What of a document is in force: conduits may have other modes than it says, and some settings wait for a restart. */
import { checkPolicy, type LoadedPolicy, type Modes } from '../policy/load.ts'
import type { Mode, Policy } from '../policy/model.ts'

export const NO_MODES: Modes = new Map()

export const modesOf = (policy: Policy): Map<string, Mode> => new Map(policy.conduits.map(({ id, mode }) => [id, mode]))

/** @param bytes the document; null: the policy came without one */
export function overlaid(
  document: Policy,
  bytes: Uint8Array | null,
  modes: Modes,
): Pick<LoadedPolicy, 'policy' | 'findings'> {
  if (document.conduits.every(({ id, mode }) => (modes.get(id) ?? mode) === mode)) {
    return { policy: document, findings: [] }
  }
  if (bytes !== null) return checkPolicy(document.file, bytes, modes)
  const conduits = document.conduits.map((conduit) => ({ ...conduit, mode: modes.get(conduit.id) ?? conduit.mode }))
  return { policy: { ...document, conduits }, findings: [] }
}

/** Settings of the gateway's that a reload would change but cannot. */
export function keptUntilRestart(former: Policy, next: Policy): string {
  const settings = ['metrics', 'workers', 'io', 'log', 'control'] as const
  const changed = settings.filter(
    (key) => JSON.stringify(former.gateway?.[key]) !== JSON.stringify(next.gateway?.[key]),
  )
  return changed.map((key) => `gateway.${key}`).join(', ')
}
