/** Names of zones as other devices write them, and what of a name says which zone it is. */
import type { Zone } from '../policy/model.ts'

/** `zone-bpcs` and `Z2-BPCS` are both `bpcs`: the words that do not say that it is a zone. Empty where none are left. */
export const soundOf = (name: string): string =>
  name
    .toLowerCase()
    .split(/[^a-z0-9]+/)
    .filter((word) => word !== '' && !/^(?:zone|z\d*|vlan|if)$/.test(word))
    .join('-')

/** A name for each zone, unique among them: letters, digits and dashes, at most `length` characters. */
export function namesFor(zones: readonly Zone[], prefix: string, length: number): Map<string, string> {
  const taken = new Set<string>()
  const names = new Map<string, string>()
  for (const zone of zones) {
    const plain = zone.id
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, '-')
      .replaceAll(/^-|-$/g, '')
    const base = `${prefix}${soundOf(zone.id) || plain || 'zone'}`.slice(0, length)
    let name = base
    for (let n = 2; taken.has(name); n++) name = `${base.slice(0, length - 4)}-${n}`
    taken.add(name)
    names.set(zone.id, name)
  }
  return names
}
