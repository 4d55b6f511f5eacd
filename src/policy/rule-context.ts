/** What the rules of all protocols have in common: where they stand, who they are for, and the prose that binds them. */
import { blocksOverlap, blockWithin } from './address.ts'
import type { Check } from './check.ts'
import { type Direction, parseDirection } from './direction.ts'
import type { Path } from './document.ts'
import { show } from './findings.ts'
import type { AddressBlock, Zone } from './model.ts'
import { type Reference, type Zones, zoneBlocks } from './zones.ts'

/** What the rules of a protocol are read in the light of. */
export interface RuleContext {
  check: Check
  zones: Zones
  /** The conduit's two zones; shorter where the document does not say. */
  connects: Zone[]
  enforce: boolean
}

export interface BoundDirection extends Direction {
  text: string
  path: Path
  from: Zone
  to: Zone
}

/** Neither rules nor a direction that they could come from. */
export function noRules({ check, enforce }: RuleContext, direction: string | undefined, path: Path): void {
  if (direction === undefined) {
    check.report(
      enforce,
      path,
      'no-rules',
      'found neither rules nor direction, expected one of them: every request is denied',
    )
  }
}

/** `direction`, with its zones found; null where there is none, or it is none. */
export function bindDirection(
  context: RuleContext,
  text: string | undefined,
  protocolPath: Path,
): BoundDirection | null {
  const { check, zones, connects } = context
  if (text === undefined) return null
  const path = [...protocolPath, 'direction']
  const direction = parseDirection(text)
  if (direction === null) {
    check.error(path, 'bad-direction', `found ${show(text)}, expected "ZONE -> ZONE (what the first may do)"`)
    return null
  }
  const from = zones.zone(check, direction.initiator, path)
  const to = zones.zone(check, direction.responder, path)
  if (from === null || to === null) return null
  for (const zone of [from, to]) {
    if (connects.length === 2 && !connects.includes(zone)) {
      const ends = connects.map((one) => one.id).join(' and ')
      check.error(path, 'outside-conduit', `found zone ${zone.id}, expected one that the conduit connects: ${ends}`)
    }
  }
  return { ...direction, text, path, from, to }
}

/** A zone without addresses matches none: a gap while monitoring, a cut when enforcing. */
export function needAddresses({ check, enforce }: RuleContext, zone: Zone, path: Path): void {
  if (zone.networks.length > 0 || zone.assets.length > 0) return
  const message = `zone ${zone.id} has neither networks nor an asset with an address, so it matches no address; expected \`networks\` in the zone`
  check.report(enforce, path, 'zone-without-addresses', message)
}

/** What `from` or `to` name. */
export function references(context: RuleContext, texts: readonly string[], path: Path): Reference[] {
  const { check, zones, connects } = context
  const found: Reference[] = []
  for (const [index, text] of texts.entries()) {
    const at = [...path, index]
    const reference = zones.reference(check, text, at)
    if (reference === null) continue
    found.push(reference)
    const ends = connects.map((one) => one.id).join(' and ')
    if (reference.zone !== null) {
      if (connects.length === 2 && !connects.includes(reference.zone)) {
        const what =
          reference.kind === 'asset'
            ? `${show(text)}, an asset of zone ${reference.zone.id}`
            : `zone ${reference.zone.id}`
        check.error(
          at,
          'outside-conduit',
          `found ${what}, expected one of the zones that the conduit connects: ${ends}`,
        )
      }
      if (reference.kind === 'zone') needAddresses(context, reference.zone, at)
    } else {
      const blocks = connects.flatMap(zoneBlocks)
      if (
        connects.every((zone) => zone.networks.length > 0) &&
        !reference.blocks.every((one) => blockWithin(one, blocks))
      ) {
        check.warn(at, 'outside-zone', `found ${text}, which is not within the networks of ${ends}`)
      }
    }
  }
  return found
}

/** Any of the reference's addresses may be the zone's. A block is taken for a zone's whose addresses nobody knows. */
export function touches(reference: Reference, zone: Zone): boolean {
  if (reference.zone !== null) return reference.zone === zone
  const blocks = zoneBlocks(zone)
  return (
    blocks.length === 0 ||
    reference.blocks.some((one) => blocks.some((block: AddressBlock) => blocksOverlap(one, block)))
  )
}

export function within(reference: Reference, zone: Zone): boolean {
  if (reference.zone !== null) return reference.zone === zone
  return reference.blocks.every((one) => blockWithin(one, zoneBlocks(zone)))
}

/** As the direction of a rule is quoted in findings. */
export const saidBy = (check: Check, direction: BoundDirection): string =>
  `${show(direction.text)} (line ${check.source.position(direction.path).line})`

/** A rule may not have the responder open connections. */
export function holdToDirection(
  check: Check,
  from: readonly Reference[],
  to: readonly Reference[],
  path: Path,
  direction: BoundDirection,
): void {
  if (direction.both) return
  if (!from.some((one) => within(one, direction.to)) || !to.some((one) => within(one, direction.from))) return
  check.error(
    [...path, 'from'],
    'against-direction',
    `found a rule from ${direction.to.id} to ${direction.from.id}, expected the direction ${saidBy(check, direction)}`,
  )
}
