/** What `headgate status` shows of a gateway. */
import type { Policy } from '../policy/model.ts'
import { VERSION } from '../version.ts'
import type { Rollout } from './rollout/rollout.ts'

export interface Standing {
  /** In force, with the modes in force; and as its document says it. */
  policy: Policy
  document: Policy
  io: 'epoll' | 'net'
  /** By the steady clock. */
  started: number
  shadow: { sha256: string | null; judging: boolean }
  /** null: modes are the document's. */
  rollout: ReturnType<Rollout['status']> | null
}

export function statusOf({ policy, document, io, started, shadow, rollout }: Standing): Record<string, unknown> {
  const { file, sha256, conduits, gateway } = policy
  return {
    version: VERSION,
    gateway: gateway?.name,
    pid: process.pid,
    io,
    uptime_seconds: Math.round((performance.now() - started) / 1000),
    time: new Date().toISOString(),
    policy: { file, sha256 },
    shadow: gateway?.shadow == null ? null : { file: gateway.shadow, ...shadow },
    conduits: conduits.map(({ id, mode }) => ({
      conduit: id,
      mode,
      document_mode: document.conduits.find((one) => one.id === id)?.mode ?? mode,
      changed: rollout?.latest[id] ?? null,
      planned: rollout?.planned[id] ?? null,
      watch: rollout?.watches[id] ?? null,
    })),
  }
}
