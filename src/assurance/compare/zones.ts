/** Zones of both sides brought together: which interface is which zone, and what stands for addresses that nobody gives. */
import { isCalled } from '../../policy/claim-scope.ts'
import type { AddressBlock, Policy, Zone } from '../../policy/model.ts'
import { zoneBlocks } from '../../policy/zones.ts'
import type { Interface } from '../../render/asa/config.ts'
import type { Effective } from '../../render/asa/effective.ts'
import { blockSpans, spansToBlocks } from '../../render/flows.ts'
import { EMPTY, overlaps, type Spans } from '../../render/sets.ts'
import { soundOf } from '../../render/zone-names.ts'

/** Which zone of the document each interface is; those that are no zone's are left out. */
export function matchInterfaces(
  policy: Policy,
  interfaces: readonly Interface[],
  { networks }: Effective,
  given: ReadonlyMap<string, string>,
): Map<string, Zone> {
  const matched = new Map<string, Zone>()
  for (const one of interfaces) {
    const zone =
      byName(policy, given.get(one.nameif)) ??
      byName(policy, /\bzone:?\s+([^\s,()]+)/i.exec(one.description ?? '')?.[1]) ??
      bySound(policy, one.nameif) ??
      byAddress(policy, networks.get(one.nameif) ?? EMPTY)
    if (zone !== null) matched.set(one.nameif, zone)
  }
  return matched
}

const only = (zones: Zone[]): Zone | null => (zones.length === 1 ? zones[0] : null)

const byName = (policy: Policy, name: string | undefined): Zone | null =>
  name === undefined ? null : only(policy.zones.filter((zone) => isCalled(zone, name)))

function bySound(policy: Policy, nameif: string): Zone | null {
  const word = soundOf(nameif)
  return word === '' ? null : only(policy.zones.filter((zone) => soundOf(zone.id) === word))
}

function byAddress(policy: Policy, networks: Spans): Zone | null {
  return only(policy.zones.filter((zone) => overlaps(blockSpans(zoneBlocks(zone)), networks)))
}

/** What stands for the addresses of a zone, where they are not those that its document gives. */
export interface Standing {
  blocks: AddressBlock[]
  /** All of the zone, for a comparison in which single addresses mean nothing. */
  all: Spans
}

/** IPv6's discard prefix (RFC 6666) has room for zones of which nobody knows an address. */
const NOWHERE = 0x0100n << 112n

export function unknownZone(index: number): Standing {
  const all: Spans = [[NOWHERE + (BigInt(index) << 32n), NOWHERE + (BigInt(index) << 32n) + 0xffffffffn]]
  return { blocks: spansToBlocks(all), all }
}
