/**
 * OPC UA in a draft: what a rule may allow by itself (discovery, sessions, browsing, reading, subscriptions; writes and
 * calls that are routine), and what a person has to decide on: rare writes, changes of the address space, and channels
 * that hide what they carry.
 */
import type { ServiceClass } from '../protocols/opcua/services.ts'
import { READ_ONLY_GROUPS, SERVICES } from '../protocols/opcua/services.ts'
import type { DecideItem } from './assess.ts'
import { type BaselineFile, type BaselineOpcUa, requestsOf } from './baseline-file.ts'
import { plural } from './rules.ts'

/** Services that one rule may allow, for one client and one server. */
export interface OpcUaGrant {
  row: BaselineOpcUa
  /** Names of services; `all` for a channel that hides them. */
  services: string[]
  /** What the channel has to be; null: whatever the protocol allows. */
  securityMode: string | null
}

const GROUP_OF = new Map<string, ServiceClass>(SERVICES.map(({ name, group }) => [name, group]))
const HARMLESS = new Set<string | undefined>(READ_ONLY_GROUPS)
/** Routine where it is frequent. */
const WRITES = new Set<string | undefined>(['write', 'history-write', 'method'])

export function assessOpcUa(
  baseline: BaselineFile,
  rare: number,
): { allow: OpcUaGrant[]; decide: Omit<DecideItem, 'id'>[] } {
  const allow: OpcUaGrant[] = []
  const decide: Omit<DecideItem, 'id'>[] = []
  for (const row of baseline.opcua) {
    const object = (
      kind: DecideItem['kind'],
      services: string[],
      requests: number,
      why: string,
      grant: boolean,
    ): void => {
      const { client, target, port, first, last } = row
      const opcua = grant ? { row, services, securityMode: null } : null
      const nothing = { unit: null, function: null, sub: null, flow: null }
      decide.push({ kind, client, target, port, ...nothing, requests, first, last, why, services, opcua })
    }
    const names = Object.keys(row.services)
    if (row.client === row.target) {
      const requests = requestsOf(row, names)
      object('same-host', names, requests, 'client and server are one host: no conduit lies between them', false)
      continue
    }
    const of = (groups: ReadonlySet<string | undefined>) => names.filter((name) => groups.has(GROUP_OF.get(name)))
    const harmless = of(HARMLESS)
    if (harmless.length > 0) allow.push({ row, services: harmless, securityMode: null })
    for (const name of of(WRITES)) {
      const times = row.services[name].requests
      if (times >= rare) allow.push({ row, services: [name], securityMode: null })
      else object('rare-write', [name], times, `${name}, seen ${times === 1 ? 'once' : `${times} times`} in all`, true)
    }
    for (const name of names) {
      const group = GROUP_OF.get(name)
      const why = `${name} changes the server itself`
      if (group === 'node-management' || group === 'registration')
        object('program', [name], requestsOf(row, [name]), why, true)
      else if (group === 'sessionless')
        object('program', [name], requestsOf(row, [name]), 'a request inside a request', false)
    }
    const [unknown, encrypted] = ['unknown', 'encrypted'].map((name) => requestsOf(row, [name]))
    if (unknown > 0) object('unknown-function', ['unknown'], unknown, 'requests of no service', false)
    if (encrypted > 0) {
      const mend =
        'terminate them (handling: terminate), or allow all or nothing (services: [all], security_modes: [SignAndEncrypt])'
      const why = `${plural(encrypted, 'message')} on encrypted channels, into which Headgate cannot look: ${mend}`
      object('opaque', ['encrypted'], encrypted, why, true)
      const last = decide[decide.length - 1]
      last.opcua = { row, services: ['all'], securityMode: 'SignAndEncrypt' }
    }
    if (row.garbage > 0) object('malformed', [], 0, `${plural(row.garbage, 'byte')} that belong to no chunk`, false)
  }
  return { allow, decide }
}

/** Whether what was denied on OPC UA is what an item is about. */
export function isAboutOpcUa(
  services: readonly string[],
  denied: { kind: string; reason: string; service?: string | null },
): boolean {
  if (denied.reason === 'pair') return true
  if (services.includes('encrypted')) {
    return (
      denied.reason === 'security' ||
      ['encrypted', 'OpenSecureChannel', 'CloseSecureChannel'].includes(denied.service ?? '')
    )
  }
  return denied.kind === 'request' && services.includes(denied.service ?? '')
}
