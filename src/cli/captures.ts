/** What the verbs that read captures have in common. */
import { type Ingested, ingest } from '../baseline/ingest.ts'
import { Listeners } from '../baseline/listeners.ts'
import type { FlowSink } from '../baseline/reassembly.ts'
import { plural } from '../baseline/rules.ts'
import { formatFinding } from '../policy/findings.ts'
import { type LoadedPolicy, loadPolicy, PolicyUnreadable } from '../policy/load.ts'
import type { Policy } from '../policy/model.ts'
import { Progress } from './progress.ts'

/** A verb cannot go on: one line (or several findings) for the operator, and exit code 2. */
export class Refused extends Error {}

/** @throws Refused where the policy cannot be read, or has errors */
export function requirePolicy(file: string): Policy {
  let loaded: LoadedPolicy
  try {
    loaded = loadPolicy(file)
  } catch (error) {
    if (error instanceof PolicyUnreadable) throw new Refused(error.message)
    throw error
  }
  if (loaded.policy !== null) return loaded.policy
  const errors = loaded.findings.filter((finding) => finding.severity === 'error')
  throw new Refused([...errors.map(formatFinding), `${file} has errors; "headgate check" shows all`].join('\n'))
}

/**
 * Where to look: 502, and 4840 for OPC UA; ports and listeners that the policies name, and ports asked for. What goes to
 * a listener is its target's traffic.
 */
export function placesOf(
  policies: readonly Policy[],
  asked: readonly number[],
  askedOpcUa: readonly number[],
): { ports: number[]; opcuaPorts: number[]; listeners: Listeners } {
  const ports = { modbus: new Set([502, ...asked]), opcua: new Set([4840, ...askedOpcUa]) }
  for (const policy of policies) {
    for (const { protocols } of policy.conduits) {
      for (const protocol of protocols) if (protocol.kind !== 'other') ports[protocol.kind].add(protocol.port)
    }
    for (const { protocol, listen, target } of policy.gateway?.listeners ?? []) {
      ports[protocol].add(listen.port).add(target.port)
    }
  }
  for (const port of asked) ports.opcua.delete(port)
  for (const port of askedOpcUa) ports.modbus.delete(port)
  return { ports: [...ports.modbus], opcuaPorts: [...ports.opcua], listeners: new Listeners(policies) }
}

/** Reads all captures into one sink, with a progress bar, and says on stderr what each one had. */
export async function readCaptures(
  names: readonly string[],
  sink: FlowSink,
  options: ReturnType<typeof placesOf> & { anyPort: boolean },
): Promise<Ingested[]> {
  const progress = new Progress()
  const read: Ingested[] = []
  try {
    for (const name of names) {
      const onProgress = (source: { name: string; position: number; size: number | null }): void =>
        progress.update(source.name, source.position, source.size)
      const one = await ingest(name, sink, { ...options, onProgress })
      progress.clear()
      process.stderr.write(`${one.name}: ${plural(one.packets, 'packet')}, ${plural(one.bytes, 'byte')}\n`)
      for (const note of one.notes) process.stderr.write(`${one.name}: ${note}\n`)
      read.push(one)
    }
  } finally {
    progress.clear()
  }
  return read
}

/** @throws Refused for anything but a port */
export function parsePort(text: string): number {
  const port = Number(text)
  if (!/^\d{1,5}$/.test(text) || port < 1 || port > 65535)
    throw new Refused(`found port "${text}", expected 1 to 65535`)
  return port
}

/** @throws Refused for anything but a whole number that is not negative */
export function parseWhole(text: string, what: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new Refused(`found ${what} "${text}", expected a whole number`)
  return Number(text)
}
