/** Zones and their assets: checked, and found again by what a rule calls them. */
import { blocksOverlap, blockWithin } from './address.ts'
import type { Check } from './check.ts'
import type { Path } from './document.ts'
import { didYouMean, show } from './findings.ts'
import type { AddressBlock, Asset, Zone } from './model.ts'
import type { ZoneDocument } from './schema.ts'
import { isComplaint, parseHost, parseNetwork, parsePurdueLevel, parseSecurityLevel } from './values.ts'

/** What a reference in a rule stands for. */
export interface Reference {
  text: string
  kind: 'asset' | 'zone' | 'block'
  /** The zone that the reference names, or that its asset is in; null for a block of addresses. */
  zone: Zone | null
  blocks: AddressBlock[]
}

const orNull = <T>(value: T): Exclude<T, { expected: string }> | null =>
  isComplaint(value) ? null : (value as Exclude<T, { expected: string }>)

export class Zones {
  readonly all: Zone[] = []
  private readonly byName = new Map<string, Zone[]>()
  private readonly assets = new Map<string, Asset>()
  private readonly byAddress = new Map<bigint, Asset>()

  /** Reads as much of `zones` as has the right form; the schema has already spoken of the rest. */
  constructor(check: Check, zones: unknown) {
    if (!Array.isArray(zones)) return
    for (const [index, zone] of zones.entries()) {
      if (typeof zone === 'object' && zone !== null) this.add(check, zone as Partial<ZoneDocument>, ['zones', index])
    }
    this.findOverlaps(check)
  }

  private add(check: Check, raw: Partial<ZoneDocument>, path: Path): void {
    if (typeof raw.zone_id !== 'string') return
    const zone: Zone = {
      id: raw.zone_id,
      name: typeof raw.name === 'string' ? raw.name : raw.zone_id,
      purdueLevel: orNull(parsePurdueLevel(raw.purdue_level)),
      securityLevelTarget: orNull(parseSecurityLevel(raw.security_level_target)),
      criticality: typeof raw.criticality === 'string' ? raw.criticality : null,
      networks: list(raw.networks).flatMap((network) => orNull(parseNetwork(network)) ?? []),
      assets: [],
      labels: list(raw.assets).filter((asset) => typeof asset === 'string'),
      securityRequirements: list(raw.security_requirements).filter((one) => typeof one === 'string'),
      allowedConduits: Array.isArray(raw.allowed_conduits) ? raw.allowed_conduits.map(String) : null,
    }
    const twin = this.all.find((one) => one.id === zone.id)
    if (twin !== undefined)
      check.error([...path, 'zone_id'], 'duplicate-name', `found zone ${show(zone.id)} twice, expected it once`)
    this.all.push(zone)
    for (const called of new Set([zone.id, zone.id.split('-')[0]])) {
      this.byName.set(called, [...(this.byName.get(called) ?? []), zone])
    }
    for (const [index, asset] of list(raw.assets).entries()) {
      if (typeof asset === 'object' && asset !== null) this.addAsset(check, zone, asset, [...path, 'assets', index])
    }
  }

  private addAsset(
    check: Check,
    zone: Zone,
    raw: { name?: unknown; address?: unknown; role?: unknown },
    path: Path,
  ): void {
    const address = orNull(parseHost(raw.address))
    if (typeof raw.name !== 'string' || address === null) return
    const before = this.assets.get(raw.name)
    if (before !== undefined) {
      const message = `found asset ${show(raw.name)} twice (also in zone ${before.zone}), expected names that are unique`
      check.error([...path, 'name'], 'duplicate-name', message)
    }
    const other = this.byAddress.get(address.base)
    if (other !== undefined) {
      const message = `found ${address.text}, which is already the address of ${other.name} in zone ${other.zone}`
      check.error([...path, 'address'], 'duplicate-address', `${message}; expected one asset for each address`)
    }
    if (zone.networks.length > 0 && !blockWithin(address, zone.networks)) {
      const networks = zone.networks.map((network) => network.text).join(', ')
      check.warn(
        [...path, 'address'],
        'asset-outside-zone',
        `found ${address.text}, expected an address in ${zone.id}'s networks: ${networks}`,
      )
    }
    const asset = { name: raw.name, address, role: typeof raw.role === 'string' ? raw.role : null, zone: zone.id }
    this.assets.set(asset.name, asset)
    this.byAddress.set(address.base, asset)
    zone.assets.push(asset)
  }

  private findOverlaps(check: Check): void {
    for (const [index, zone] of this.all.entries()) {
      for (const other of this.all.slice(0, index)) {
        const pair = zone.networks.flatMap((a) =>
          other.networks.filter((b) => blocksOverlap(a, b)).map((b) => [a, b]),
        )[0]
        if (pair === undefined || zone.id === other.id) continue
        const message = `found ${pair[0].text}, which overlaps ${pair[1].text} of zone ${other.id}; an address belongs to one zone`
        check.warn(['zones', index, 'networks'], 'overlapping-zones', message)
      }
    }
  }

  asset(name: string): Asset | null {
    return this.assets.get(name) ?? null
  }

  /** By id or unambiguous prefix; a finding, and null, where there is none. */
  zone(check: Check, text: string, path: Path): Zone | null {
    const found = this.byName.get(text) ?? []
    const exact = found.find((zone) => zone.id === text) ?? (found.length === 1 ? found[0] : null)
    if (exact !== null) return exact
    const message =
      found.length > 1
        ? `found ${show(text)}, which could be any of ${found.map((zone) => zone.id).join(', ')}; expected a zone's id`
        : `found ${show(text)}, expected a zone of this document${didYouMean(text, this.byName.keys())}`
    check.error(path, 'dangling-reference', message)
    return null
  }

  /** An asset, a zone or a block of addresses, as `from` and `to` name them. */
  reference(check: Check, text: string, path: Path): Reference | null {
    const asset = this.assets.get(text)
    if (asset !== undefined) {
      const zone = this.all.find((one) => one.id === asset.zone) ?? null
      return { text, kind: 'asset', zone, blocks: [asset.address] }
    }
    if (this.byName.has(text)) {
      const zone = this.zone(check, text, path)
      return zone === null ? null : { text, kind: 'zone', zone, blocks: zoneBlocks(zone) }
    }
    const block = parseNetwork(text)
    if (!isComplaint(block)) return { text, kind: 'block', zone: null, blocks: [block] }
    check.error(path, 'dangling-reference', this.unknown(text, block.expected))
    return null
  }

  private unknown(text: string, expected: string): string {
    if (/^[\d.:a-f]*[.:/][\d.:a-f/]*$/i.test(text)) return `found ${show(text)}, expected ${expected}`
    for (const zone of this.all) {
      const label = zone.labels.find((one) => one.split(/[^\w-]+/).includes(text))
      if (label === undefined) continue
      return `found ${show(text)}, which zone ${zone.id} has as prose alone (${show(label)}); expected an asset with an address: { name: ${text}, address: … }`
    }
    const names = [...this.assets.keys(), ...this.byName.keys()]
    return `found ${show(text)}, expected an asset, a zone or a CIDR block${didYouMean(text, names)}`
  }
}

/** All addresses that are known to be of a zone. */
export const zoneBlocks = (zone: Zone): AddressBlock[] => [
  ...zone.networks,
  ...zone.assets.map((asset) => asset.address).filter((address) => !blockWithin(address, zone.networks)),
]

const list = <T>(value: readonly T[] | undefined): readonly T[] => (Array.isArray(value) ? value : [])
