/** Limits and time-outs, which all protocols write alike. */
import type { Check } from './check.ts'
import type { Path } from './document.ts'
import type { Limits, Timeouts } from './model.ts'
import type { ModbusDocument } from './schema.ts'
import { parseDuration } from './values.ts'

type LimitsPart = Pick<ModbusDocument, 'limits' | 'on_limit' | 'pace'>

export const DEFAULT_TIMEOUTS: Timeouts = {
  connectMs: 5000,
  idleMs: 3_600_000,
  partialFrameMs: 10_000,
  responseMs: 5000,
}
const DEFAULT_PACE = { queue: 16, ms: 1000 }

/** @param raw what of a protocol's document speaks of limits */
export function buildLimits(check: Check, raw: LimitsPart, path: Path): Limits {
  const { connections, requests, in_flight_per_target: inFlight, on_limit: inner } = raw.limits ?? {}
  if (inner !== undefined && raw.on_limit !== undefined && inner !== raw.on_limit) {
    check.error(
      [...path, 'on_limit'],
      'bad-value',
      `found on_limit: ${raw.on_limit} here and ${inner} in limits, expected it once`,
    )
  }
  const perClient = requests?.per_client_per_second ?? null
  const perTarget = requests?.per_target_per_second ?? null
  const pace =
    raw.pace?.time === undefined
      ? DEFAULT_PACE.ms
      : (parseDuration(raw.pace.time, 0, Number.MAX_SAFE_INTEGER) as number)
  return {
    connectionsPerClient: connections?.per_client ?? null,
    connectionsPerTarget: connections?.per_target ?? null,
    newConnectionsPerSecond: connections?.new_per_second ?? null,
    requestsPerClientPerSecond: perClient,
    requestsPerTargetPerSecond: perTarget,
    burst: requests?.burst ?? Math.max(1, Math.ceil(Math.max(perClient ?? 0, perTarget ?? 0) / 10)),
    inFlightPerTarget: inFlight ?? null,
    onLimit: raw.on_limit ?? inner ?? 'deny',
    paceQueue: raw.pace?.queue ?? DEFAULT_PACE.queue,
    paceMs: pace,
  }
}

export function buildTimeouts({ timeouts = {} }: Pick<ModbusDocument, 'timeouts'>): Timeouts {
  const ms = (value: string | number | undefined, otherwise: number): number =>
    value === undefined ? otherwise : (parseDuration(value, 0, Number.MAX_SAFE_INTEGER) as number)
  return {
    connectMs: ms(timeouts.connect, DEFAULT_TIMEOUTS.connectMs),
    idleMs: ms(timeouts.idle, DEFAULT_TIMEOUTS.idleMs),
    partialFrameMs: ms(timeouts.partial_frame, DEFAULT_TIMEOUTS.partialFrameMs),
    responseMs: ms(timeouts.response, DEFAULT_TIMEOUTS.responseMs),
  }
}
