/** What a conduit's protocol is to a worker, whatever the protocol: its limits, its counters, and who it admits. */
import { rateOf } from '../limits/gcra.ts'
import type { ConnectionTerms, RequestTerms } from '../limits/shared-limits.ts'
import { blockHolds, formatAddress } from '../policy/address.ts'
import type {
  AddressBlock,
  Conduit,
  ConduitProtocol,
  Limits,
  Listener,
  OtherProtocol,
  Policy,
} from '../policy/model.ts'
import type { Shadow } from '../protocols/modbus/session.ts'
import type { OpcUaShadow } from '../protocols/opcua/shadow.ts'
import type { OpcUaWitness } from '../protocols/opcua/terms.ts'
import type { Clock, RequestLimiter, Session } from '../protocols/session.ts'
import type { CellBases, CounterLayout } from '../records/counters.ts'
import type { Connection } from './connection.ts'
import type { TerminateContext } from './terminate-conduit.ts'

/** What a worker needs of its surroundings to compile a policy. */
export interface PlanContext {
  layout: CounterLayout
  cells: Float64Array
  /** Memory of `SharedPresentValues`. */
  values: SharedArrayBuffer
  /** Index of each target that has had a rule with `max_step`, by `host:port`; kept over reloads. */
  targets: ReadonlyMap<string, number>
  /** `SessionTerms.gate`; absent: nothing shuts it. */
  gate?: Int32Array
  /** Before the names of clients and targets in the shared limits: a shadow policy's are counted apart. */
  role?: string
  /** The shadow policy, which wants values known as well. */
  beside?: Policy
  /** For OPC UA conduits that terminate. */
  terminate?: TerminateContext
  /** By conduit id, while a cut-over is watched. */
  normal?: ReadonlyMap<string, NormalTraffic>
}

/** What a baseline has of a conduit that its rules allow: a denial of it is no good sign. */
export interface NormalTraffic {
  clients: ReadonlySet<bigint>
  /** By `flowKey`. */
  flows: ReadonlySet<string>
}

/** In place of a unit identifier in the key of a flow of OPC UA, whose function is that of its service. */
export const OPCUA_UNIT = -1

export const flowKey = (client: bigint, target: bigint, port: number, unit: number, code: number): string =>
  `${client} ${target} ${port} ${unit} ${code}`

export type CarriedProtocol = Exclude<ConduitProtocol, OtherProtocol>
export type Target = Listener['target']

/** What judges a connection's requests by the shadow policy. */
export type Beside = Shadow | OpcUaShadow

export abstract class ConduitPlan {
  readonly conduit: Conduit
  abstract readonly protocol: CarriedProtocol
  /** Tells kinds of sessions apart: one of another kind cannot go on under this plan. */
  abstract readonly kind: string
  readonly bases: CellBases
  readonly cells: Float64Array
  readonly monitor: boolean
  /** null: nothing of it is known beside its assets. */
  readonly normal: NormalTraffic | null
  readonly connectionTerms: ConnectionTerms
  /** null: no limit on requests. */
  readonly requestTerms: RequestTerms | null
  /** Tags of this conduit's clients and targets in the shared limits. */
  readonly clientTag: number
  readonly targetTag: number

  protected constructor(conduit: Conduit, protocol: CarriedProtocol, bases: CellBases, context: PlanContext) {
    this.conduit = conduit
    this.bases = bases
    this.cells = context.cells
    this.monitor = conduit.mode === 'monitor'
    this.normal = context.normal?.get(conduit.id) ?? null
    this.connectionTerms = connectionTerms(protocol.limits)
    this.requestTerms = requestTerms(protocol.limits)
    this.clientTag = tag(`${context.role ?? ''}${conduit.id}\n${protocol.kind}\nclient`)
    this.targetTag = tag(`${context.role ?? ''}${conduit.id}\n${protocol.kind}\ntarget`)
  }

  /** Whether a rule could allow the client anything at the target. */
  abstract knows(client: bigint, target: Target): boolean
  /** The session of a new connection. @param shadow judges its requests beside; null: none */
  abstract open(
    host: Connection,
    clock: Clock,
    target: Target,
    client: bigint,
    limiter: RequestLimiter | null,
    shadow: Beside | null,
  ): Session
  /** Puts a session of this kind under this plan. */
  abstract adopt(
    session: Session,
    target: Target,
    client: bigint,
    limiter: RequestLimiter | null,
    shadow: Beside | null,
  ): void

  /** Has a session of this kind show all that it sees; null: no more. Those of Modbus tell their host by themselves. */
  watch(_session: Session, _witness: OpcUaWitness | null): void {}

  /** Cell of the target's response times; -1: not counted. */
  protected histogramOf(target: string): number {
    return this.bases.targets.find((one) => one.name === target)?.histogram ?? -1
  }
}

function connectionTerms(limits: Limits): ConnectionTerms {
  const rate = limits.newConnectionsPerSecond
  return {
    perClient: orNone(limits.connectionsPerClient),
    perTarget: orNone(limits.connectionsPerTarget),
    newConnections: rate === null ? null : rateOf(rate, Math.ceil(rate)),
  }
}

function requestTerms(limits: Limits): RequestTerms | null {
  const { requestsPerClientPerSecond: perClient, requestsPerTargetPerSecond: perTarget, inFlightPerTarget } = limits
  if (perClient === null && perTarget === null && inFlightPerTarget === null) return null
  return {
    perClient: perClient === null ? null : rateOf(perClient, limits.burst),
    perTarget: perTarget === null ? null : rateOf(perTarget, limits.burst),
    inFlightPerTarget: orNone(inFlightPerTarget),
  }
}

const orNone = (limit: number | null): number => limit ?? Number.POSITIVE_INFINITY

/** Indexes of the rules that are for a pair of addresses. */
export function rulesFor(
  rules: readonly { from: AddressBlock[]; to: AddressBlock[] }[],
  client: bigint,
  target: bigint,
): number[] {
  const holds = (blocks: AddressBlock[], address: bigint): boolean => blocks.some((block) => blockHolds(block, address))
  return [...rules.keys()].filter((index) => holds(rules[index].from, client) && holds(rules[index].to, target))
}

export const targetKey = (target: Target): string => `${formatAddress(target.address.base)} ${target.port}`

/** FNV-1a, 32 bits, never 0. */
function tag(text: string): number {
  let h = 0x811c9dc5 | 0
  for (const byte of Buffer.from(text)) h = Math.imul(h ^ byte, 0x01000193)
  return h | 1
}
