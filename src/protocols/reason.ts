/**
 * Why a message was denied, as the small integers that decisions, counters and events share. Their order is the order
 * in which a Modbus request is judged, so that a greater one means a rule that came nearer to allowing it.
 */
export const REASON = {
  allow: 0,
  /** Client and target are no pair of any rule. */
  pair: 1,
  unit: 2,
  function: 3,
  address: 4,
  value: 5,
  /** Over a limit of rate, number or requests in flight. */
  rate: 6,
  /** Breaks the protocol's specification. */
  malformed: 7,
  /** A response that answers no outstanding request; a message out of its place. */
  state: 8,
  /** The target could not be reached, or did not answer in time. */
  timeout: 9,
  /** OPC UA: security policy, mode or certificate. */
  security: 10,
  service: 11,
  node: 12,
  /** The conduit denies everything, since evidence is required and cannot be written. */
  evidence: 13,
  /** OPC UA: an attribute of a node that a rule names. */
  attribute: 14,
} as const

/** Names of the reasons, by their integers. */
export const REASONS = Object.keys(REASON) as (keyof typeof REASON)[]

/** Added to a reason that was found in monitor mode: the message passed. */
export const WOULD_DENY = 16

/**
 * What a shadow policy makes of a message, as a cell: 0 where it is as in force (both deny: that is the same, whatever
 * their reasons), the candidate's reason where it would deny what passes, and `WOULD_DENY` + the reason in force where it
 * would allow what is denied.
 */
export function comparedCell(inForce: number, candidate: number): number {
  if (inForce === REASON.allow) return candidate
  return candidate === REASON.allow ? WOULD_DENY + inForce : 0
}
