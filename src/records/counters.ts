/**
 * Where the data plane counts: one `Float64Array` in shared memory for each worker, laid out by the policy. A worker
 * adds to its cells without a lock or a call; the control plane reads them when Prometheus asks.
 */
import type { Policy } from '../policy/model.ts'
import { FUNCTIONS } from '../protocols/opcua/services.ts'
import { CHANNEL_CELLS } from '../protocols/opcua/terms.ts'
import { WOULD_DENY } from '../protocols/reason.ts'

/** Cells for one message kind: one a reason, and one a reason found in monitor mode. */
export const VERDICTS = WOULD_DENY * 2

/** Upper bounds of the response time histogram in microseconds: from a PLC on the next switch to a serial gateway. */
export const RESPONSE_BOUNDS_US = [
  250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1e6, 5e6,
]

/** Quirks in the order of the session's `TOLERATE`. */
const QUIRK_CELLS = 5

/** Cells by which a cut-over is watched; of connections and requests of known clients, and of targets. */
export const WATCHED = {
  /** Requests, responses and connections that were denied, of a client whose traffic was normal before. */
  denials: 0,
  /** Requests that a target did not answer in time, and targets that could not be reached. */
  timeouts: 1,
  /** Connections of known clients that ended otherwise than by their ends. */
  lost: 2,
} as const

/** Indexes of the cells of one conduit's protocol. */
export interface CellBases {
  conduit: string
  protocol: 'modbus' | 'opcua'
  /** Number of functions: function codes of Modbus, services and messages of OPC UA. */
  functions: number
  /** `functions` × `VERDICTS`. */
  requests: number
  responses: number
  connections: number
  /** Bytes client → target, and target → client. */
  bytesIn: number
  bytesOut: number
  /** Gauges. */
  open: number
  pending: number
  tolerated: number
  /** What a cut-over is watched by, in the order of `WATCHED`. */
  watched: number
  /** OPC UA alone. Gauges: open channels (`channelCell`) and sessions. */
  channels: number
  sessions: number
  /**
   * Requests, and connections, by what the shadow policy makes of them: a cell of `VERDICTS` for those that would be
   * denied (by its reason), one for those that would be allowed (by the reason in force), and 0 for those alike.
   */
  shadow: number
  shadowConnections: number
  /** Allowed, denied and would-denied, for each rule. */
  rules: number
  ruleNames: string[]
  /** Response times of each target of a listener: a cell for each bound, one above them, the sum in microseconds. */
  targets: { name: string; histogram: number }[]
}

/** Cells of one histogram of response times. */
export const HISTOGRAM_CELLS = RESPONSE_BOUNDS_US.length + 2

export interface CounterLayout {
  conduits: CellBases[]
  /** The worker's CPU time, in microseconds. */
  cpu: number
  /** Cells in all. */
  size: number
}

const CODES = 256

/** The layout for a policy: a block for each protocol of each conduit that Headgate carries. */
export function layoutOf(policy: Policy): CounterLayout {
  let size = 0
  const take = (cells: number): number => {
    const at = size
    size += cells
    return at
  }
  const cpu = take(1)
  const conduits: CellBases[] = []
  for (const conduit of policy.conduits) {
    for (const protocol of conduit.protocols) {
      if (protocol.kind === 'other') continue
      const opcua = protocol.kind === 'opcua'
      const functions = opcua ? FUNCTIONS : CODES
      conduits.push({
        conduit: conduit.id,
        protocol: protocol.kind,
        functions,
        requests: take(functions * VERDICTS),
        responses: take(VERDICTS),
        connections: take(VERDICTS),
        bytesIn: take(1),
        bytesOut: take(1),
        open: take(1),
        pending: take(1),
        tolerated: take(opcua ? 0 : QUIRK_CELLS),
        watched: take(3),
        channels: take(opcua ? CHANNEL_CELLS : 0),
        sessions: take(opcua ? 1 : 0),
        shadow: take(VERDICTS),
        shadowConnections: take(VERDICTS),
        rules: take(protocol.rules.length * 3),
        ruleNames: protocol.rules.map((rule) => rule.name),
        targets: targetsOf(policy, conduit.id, protocol.kind).map((name) => ({
          name,
          histogram: take(HISTOGRAM_CELLS),
        })),
      })
    }
  }
  return { conduits, cpu, size }
}

function targetsOf(policy: Policy, conduit: string, protocol: string): string[] {
  const listeners =
    policy.gateway?.listeners.filter((one) => one.conduit === conduit && one.protocol === protocol) ?? []
  return [...new Set(listeners.map((listener) => listener.target.name))]
}

export const cellsBytes = (layout: CounterLayout): number => layout.size * Float64Array.BYTES_PER_ELEMENT
