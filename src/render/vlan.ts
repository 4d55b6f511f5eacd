/**
 * Zones as VLANs of a Cisco industrial switch: a VLAN for each zone, a port for each asset of the zones on this switch, the
 * last port as the trunk to the firewall, every other port shut.
 *
 * A VLAN's number is ten times the zone's highest Purdue level (3.5 is 35); where two zones have one level, or none, the
 * next free number. Its name is the zone's id.
 */
import type { Policy, Zone } from '../policy/model.ts'
import type { Rendered } from './asa/render.ts'

export interface SwitchOptions {
  /** Ports of the switch; the last is the trunk. */
  ports: number
  /** What a port is called before its number. */
  prefix: string
  /** Ids of the zones whose assets are on this switch; null: those at control levels. */
  zones: readonly string[] | null
}

/** The document cannot be put on such a switch: one line for a person. */
export class SwitchTooSmall extends Error {}

/** Carries nothing: native on the trunk, and of ports that nobody uses. */
const PARKING = 999
const DMZ_LEVEL = 3.5
const SAFETY = /\bsis\b|\besd\b|safety.?instrumented|safety.?critical/i

export function renderVlan(policy: Policy, { ports, prefix, zones }: SwitchOptions): Rendered {
  const notes: string[] = []
  const numbers = vlanNumbers(policy.zones)
  const names = new Map(policy.zones.map((zone) => [zone.id, vlanName(zone.id)]))
  const here = zonesHere(policy, zones, notes)
  const groups = here.flatMap((zone) => portGroups(zone).map((group) => ({ ...group, zone })))
  const needed = groups.reduce((sum, { count }) => sum + count, 0)
  if (needed > ports - 1) {
    throw new SwitchTooSmall(
      `${here.map(({ id }) => id).join(', ')} need ${needed} ports, and a switch of ${ports} has ${ports - 1} beside its trunk: say --ports, or --zone for each switch`,
    )
  }
  const touched = new Set(policy.conduits.flatMap(({ connects }) => connects))
  // The enterprise has switches of its own; an isolated zone is on no trunk.
  const trunked = policy.zones.filter((zone) => touched.has(zone.id) && (zone.purdueLevel?.[0] ?? 0) <= DMZ_LEVEL)
  const lines = [
    `! Made by headgate render vlan from ${policy.file.replaceAll(/[^\x20-\x7e]/g, '?')}, SHA-256 ${policy.sha256}`,
    '!',
    ...policy.zones.flatMap((zone) => [`vlan ${numbers.get(zone.id)}`, ` name ${names.get(zone.id)}`]),
    `vlan ${PARKING}`,
    ' name UNUSED',
  ]
  let next = 1
  for (const { zone, kind, count } of groups) {
    lines.push('!', `interface ${portRange(prefix, next, next + count - 1)}`)
    lines.push(
      ` description ${kind} connections - Zone ${zone.id}`,
      ...accessPort(numbers.get(zone.id) ?? PARKING, kind),
    )
    next += count
  }
  if (next < ports) {
    lines.push('!', `interface ${portRange(prefix, next, ports - 1)}`, ' description Unused')
    lines.push(' switchport mode access', ` switchport access vlan ${PARKING}`, ' shutdown')
  }
  lines.push(
    '!',
    `interface ${prefix}${ports}`,
    ' description Trunk to firewall',
    ' switchport mode trunk',
    ` switchport trunk allowed vlan ${trunked.map(({ id }) => numbers.get(id)).join(',') || 'none'}`,
    ` switchport trunk native vlan ${PARKING}`,
    ' switchport nonegotiate',
    '',
  )
  return { text: lines.join('\n'), notes }
}

/** Zones whose assets are on the switch, with what was asked for that is not there. */
function zonesHere(policy: Policy, wanted: readonly string[] | null, notes: string[]): Zone[] {
  const touched = new Set(policy.conduits.flatMap(({ connects }) => connects))
  const isSafety = (zone: Zone): boolean => SAFETY.test(`${zone.id} ${zone.name} ${zone.criticality ?? ''}`)
  if (wanted === null) {
    const control = policy.zones.filter(
      (zone) => touched.has(zone.id) && (zone.purdueLevel?.[0] ?? 0) < 3 && !isSafety(zone),
    )
    for (const zone of policy.zones.filter(isSafety)) {
      notes.push(`${zone.id}: a safety instrumented system has a switch of its own; say --zone ${zone.id} for it alone`)
    }
    for (const zone of policy.zones) {
      if (!control.includes(zone) && !isSafety(zone))
        notes.push(`${zone.id}: no ports on this switch; say --zone ${zone.id} for its own`)
    }
    return control
  }
  const found = wanted.map((name) => policy.zones.find(({ id }) => id === name || id.split('-')[0] === name))
  for (const [index, zone] of found.entries()) {
    if (zone === undefined) throw new SwitchTooSmall(`found --zone ${wanted[index]}, expected a zone of the document`)
  }
  const zones = found.filter((zone) => zone !== undefined)
  if (zones.some(isSafety) && zones.length > 1)
    notes.push('a safety instrumented system shares this switch with other zones')
  return zones
}

/** By zone id. */
export function vlanNumbers(zones: readonly Zone[]): Map<string, number> {
  const taken = new Set<number>([PARKING])
  const numbers = new Map<string, number>()
  for (const zone of zones) {
    let number = Math.round(10 * (zone.purdueLevel?.[1] ?? 10)) || 1
    while (taken.has(number)) number++
    taken.add(number)
    numbers.set(zone.id, number)
  }
  return numbers
}

/** Names of VLANs have at most 32 characters. */
const vlanName = (id: string): string => id.replaceAll(/[^A-Za-z0-9_-]+/g, '-').slice(0, 32)

const KINDS: readonly (readonly [pattern: RegExp, kind: string])[] = [
  [/\bplcs?\b|controllogix/i, 'PLC'],
  [/\bhmis?\b/i, 'HMI'],
  [/workstation|\bews\b/i, 'Workstation'],
]
const kindOf = (text: string): string => KINDS.find(([pattern]) => pattern.test(text))?.[1] ?? 'Device'

/** Ports that a zone's assets take, by what they are: addressable ones, and those that prose counts. */
function portGroups(zone: Zone): { kind: string; count: number }[] {
  const counts = new Map<string, number>()
  const add = (kind: string, count: number) => counts.set(kind, (counts.get(kind) ?? 0) + count)
  const named = new Set(zone.assets.map(({ name }) => name))
  for (const { name, role } of zone.assets) add(kindOf(`${role ?? ''} ${name.replaceAll(/[-_]/g, ' ')}`), 1)
  for (const label of zone.labels) add(kindOf(label), countOf(label, named))
  const order = [...KINDS.map(([, kind]) => kind), 'Device']
  return order.flatMap((kind) => {
    const count = counts.get(kind) ?? 0
    return count === 0 ? [] : [{ kind, count }]
  })
}

/** `PLCs (PLC-01 through PLC-12)` are 12, `(SIS-01, SIS-02)` two, anything else one; those that are assets are counted already. */
function countOf(label: string, named: ReadonlySet<string>): number {
  const range = /\b([A-Za-z][\w-]*?)(\d{1,4})\s*(?:through|to|-|–|\.\.)\s*\1(\d{1,4})\b/.exec(label)
  if (range !== null) {
    const [, stem, first, last] = range
    const each = Array.from(
      { length: Math.max(0, Number(last) - Number(first) + 1) },
      (_, index) => `${stem}${String(Number(first) + index).padStart(first.length, '0')}`,
    )
    return each.filter((name) => !named.has(name)).length
  }
  const names = [...new Set(label.match(/\b[A-Z][A-Z0-9-]*-\d+\b/g) ?? [])]
  return names.length === 0 ? 1 : names.filter((name) => !named.has(name)).length
}

function portRange(prefix: string, first: number, last: number): string {
  return first === last ? `${prefix}${first}` : `range ${prefix}${first}-${last}`
}

/** One device, known by its address; a controller's port goes down when another shows up, since nobody plugs there. */
const accessPort = (vlan: number, kind: string): string[] => [
  ' switchport mode access',
  ` switchport access vlan ${vlan}`,
  ' switchport port-security',
  ' switchport port-security maximum 1',
  ' switchport port-security mac-address sticky',
  ` switchport port-security violation ${kind === 'PLC' ? 'shutdown' : 'restrict'}`,
  ' spanning-tree portfast',
  ' spanning-tree bpduguard enable',
  ' no cdp enable',
  ' no lldp transmit',
]
