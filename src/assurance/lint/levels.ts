/** What zones and assets are, by their levels and names. */
import type { Zone } from '../../policy/model.ts'

/** The industrial DMZ in the Purdue model as sites use it. */
export const DMZ_LEVEL = 3.5

const low = (zone: Zone): number | null => zone.purdueLevel?.[0] ?? null
const high = (zone: Zone): number | null => zone.purdueLevel?.[1] ?? null

/** Level 4 or above, all of it. */
export const isEnterprise = (zone: Zone): boolean => (low(zone) ?? 0) >= 4
/** Level 2 or below, some of it. */
export const isControl = (zone: Zone): boolean => (low(zone) ?? 9) <= 2
/** Some of it is below the DMZ. */
export const isBelowDmz = (zone: Zone): boolean => (low(zone) ?? 9) < DMZ_LEVEL
export const isDmz = (zone: Zone): boolean =>
  zone.purdueLevel === null
    ? /\bi?dmz\b/i.test(`${zone.id} ${zone.name}`)
    : low(zone) === DMZ_LEVEL && high(zone) === DMZ_LEVEL
/** Level 3 or above, some of it. */
export const reachesOperations = (zone: Zone): boolean => (high(zone) ?? 0) >= 3

const SIS = /\bsis\b|\besd\b|safety.?instrumented|safety.?critical|emergency.?shut.?down/i
const SIS_ASSET = /\bsis\b|\besd\b|\bsafety\b|\btriconex\b|\bhima\b|logic.?solver/i
const BPCS_ASSET =
  /\bplcs?\b|\bhmis?\b|\bdcs\b|\bscada\b|\brtus?\b|\bcontrollogix\b|\bcontrollers?\b|engineering.?workstation|\bpac\b/i

export const isSafetyZone = (zone: Zone): boolean => SIS.test(`${zone.id} ${zone.name} ${zone.criticality ?? ''}`)

/** Assets, or prose about them, that are of a safety instrumented system, and those of basic process control. */
export function safetyAndControlAssets(zone: Zone): { safety: string[]; control: string[] } {
  const all = [
    ...zone.assets.map(({ name, role }) => [name, `${name} ${role ?? ''}`]),
    ...zone.labels.map((label) => [label, label]),
  ]
  const words = all.map(([name, text]) => [name, text.replaceAll('_', ' ')])
  const safety = words.filter(([, text]) => SIS_ASSET.test(text)).map(([name]) => name)
  const control = words.filter(([, text]) => !SIS_ASSET.test(text) && BPCS_ASSET.test(text)).map(([name]) => name)
  return { safety, control }
}
