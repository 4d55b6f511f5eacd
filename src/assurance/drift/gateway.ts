/** The gateway that runs, by its control socket or its metrics page: the document that is in force, and each conduit's mode. */
import { ask, Unreachable } from '../../gateway/control/client.ts'
import type { Policy } from '../../policy/model.ts'
import { scrape } from '../../top/scrape.ts'
import { type Drift, type Look, seen, unseen } from './drift.ts'

const ASK_MS = 5000

interface InForce {
  by: string
  sha256: string
  file: string
  modes: Map<string, string>
}

export async function lookAtGateway(policy: Policy): Promise<Look> {
  const { gateway } = policy
  if (gateway === null) return unseen('gateway', 'the document has no gateway')
  if (gateway.control === null && gateway.metrics === null) {
    return unseen('gateway', 'the document has neither gateway.control nor gateway.metrics to ask')
  }
  let force: InForce
  try {
    force = gateway.control === null ? await byMetrics(policy) : await byControl(gateway.control.socket)
  } catch (error) {
    const { message } = error as Error
    // No permission says nothing of what runs.
    if (/no permission/.test(message)) return unseen('gateway', message)
    return seen('gateway', 'no answer', [
      { kind: 'gateway', detail: `found no gateway that answers, expected ${gateway.name}: ${message}` },
    ])
  }
  return seen('gateway', `asked ${force.by}`, compare(policy, force))
}

function compare(policy: Policy, force: InForce): Drift[] {
  const found: Drift[] = []
  if (force.sha256 !== policy.sha256) {
    found.push({
      kind: 'policy',
      detail: `found ${force.file} with SHA-256 ${force.sha256} in force, expected ${policy.sha256}`,
    })
  }
  for (const { id, mode } of policy.conduits) {
    const there = force.modes.get(id)
    if (there === undefined)
      found.push({ kind: 'mode', conduit: id, detail: 'found no such conduit in force, expected one' })
    else if (there !== mode)
      found.push({ kind: 'mode', conduit: id, detail: `found mode ${there} in force, expected ${mode}` })
  }
  for (const [id, mode] of force.modes) {
    if (policy.conduits.some((conduit) => conduit.id === id)) continue
    found.push({
      kind: 'mode',
      conduit: id.slice(0, 128),
      detail: `found a conduit in force (${mode}) that the document does not have`,
    })
  }
  return found
}

async function byControl(socket: string): Promise<InForce> {
  const answer = await ask(socket, { verb: 'status' }, ASK_MS)
  if (!answer.ok) throw new Unreachable(answer.error)
  const { policy, conduits } = answer.result as { policy?: { sha256?: unknown; file?: unknown }; conduits?: unknown }
  const list = Array.isArray(conduits) ? (conduits as { conduit?: unknown; mode?: unknown }[]) : []
  return {
    by: socket,
    sha256: String(policy?.sha256),
    file: String(policy?.file),
    modes: new Map(list.map(({ conduit, mode }) => [String(conduit), String(mode)])),
  }
}

async function byMetrics({ gateway }: Policy): Promise<InForce> {
  const { host, port } = gateway?.metrics ?? { host: '', port: 0 }
  const url = `http://${host.includes(':') ? `[${host}]` : host}:${port}/metrics`
  const page = await scrape(url)
  const [info] = page.all('headgate_policy_info')
  if (info === undefined) throw new Error(`${url} is no page of a gateway`)
  const modes = page
    .all('headgate_conduit_enforcing')
    .map(({ labels, value }): [string, string] => [labels.conduit, value === 1 ? 'enforce' : 'monitor'])
  return { by: url, sha256: info.labels.sha256 ?? '', file: info.labels.file ?? '', modes: new Map(modes) }
}
