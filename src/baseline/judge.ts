/**
 * One policy, applied to captured connections: the very session that runs inline, in monitor mode, with the capture's
 * clock. What monitor mode reports as would-deny is what enforce mode would deny.
 */
import { rateOf } from '../limits/gcra.ts'
import {
  ConnectionLimiter,
  type ConnectionTerms,
  limitsBytes,
  type RequestTerms,
  SharedLimits,
} from '../limits/shared-limits.ts'
import { blockHolds, formatAddress } from '../policy/address.ts'
import type { AddressBlock, Conduit, ModbusProtocol, Policy } from '../policy/model.ts'
import { PairTable, type PresentValues } from '../protocols/modbus/decide.ts'
import {
  ModbusSession,
  type ReportKind,
  type SessionCells,
  type SessionTerms,
  TOLERATE,
} from '../protocols/modbus/session.ts'
import { REASON, WOULD_DENY } from '../protocols/reason.ts'
import { type Clock, OPEN_GATE } from '../protocols/session.ts'
import { isTarget, Listeners, targetOf } from './listeners.ts'
import type { Flow } from './reassembly.ts'

/** What becomes of a message. */
export const VERDICT = {
  allowed: 0,
  /** Would be denied where the conduit enforces. */
  denied: 1,
  /** The rule's own mode is monitor: it passes, and is recorded as would-deny. */
  recorded: 2,
  /** Nothing can be said: the capture lacks what it depends on. */
  unjudged: 3,
} as const
export const VERDICTS = ['allowed', 'denied', 'recorded', 'unjudged'] as const

/** A pause after which a session's 32-bit clock can no longer be trusted, in microseconds. */
const LONG_PAUSE_US = 1.8e9

interface Line {
  conduit: Conduit
  protocol: ModbusProtocol
  terms: SessionTerms
  connections: ConnectionTerms
  requests: RequestTerms | null
  tag: number
  tables: Map<string, PairTable>
}

/** Who asks whom: of a flow to a listener, by that of the policy at hand. */
type Pair = Pick<Flow, 'clientAddress' | 'targetAddress' | 'targetPort'>

/** What a judge keeps with a connection. */
export class Case {
  readonly line: Line | null
  /** null: no rule knows the pair. */
  readonly table: PairTable | null
  session: ModbusSession | null = null
  clientSlot = -1
  targetSlot = -1
  connected = false
  lastUs = 0

  constructor(line: Line | null, table: PairTable | null) {
    this.line = line
    this.table = table
  }
}

export class Judge {
  readonly policy: Policy
  /** Of the latest message: one of `VERDICT`, and why. */
  verdict: number = VERDICT.allowed
  reason: number = REASON.allow
  rule = -1
  detail = ''
  fault = 0
  /** Quirks that a rule tolerated, and requests that were not answered in time. */
  tolerated = 0
  unanswered = 0
  private readonly clock: Clock = { us: 0, ms: 0 }
  private readonly lines: Line[] = []
  private readonly listeners: Listeners
  private readonly limits: SharedLimits
  private readonly values = new Map<string, LocalValues>()
  private flow: Flow | null = null

  constructor(policy: Policy) {
    this.policy = policy
    this.listeners = new Listeners([policy])
    this.limits = new SharedLimits(new SharedArrayBuffer(limitsBytes(1)), 0)
    for (const conduit of policy.conduits) {
      for (const protocol of conduit.protocols) {
        if (protocol.kind === 'modbus') this.lines.push(this.lineOf(conduit, protocol))
      }
    }
  }

  private lineOf(conduit: Conduit, protocol: ModbusProtocol): Line {
    const { limits, timeouts, rules } = protocol
    const { requestsPerClientPerSecond: perClient, requestsPerTargetPerSecond: perTarget } = limits
    const rate = limits.newConnectionsPerSecond
    return {
      conduit,
      protocol,
      terms: {
        monitor: true,
        onDeny: protocol.onDeny,
        ruleOnDeny: rules.map((rule) => rule.onDeny),
        ruleMonitor: Uint8Array.from(rules, (rule) => (rule.mode === 'monitor' ? 1 : 0)),
        tolerate: Uint8Array.from(rules, (rule) => rule.tolerate.reduce((bits, quirk) => bits | TOLERATE[quirk], 0)),
        responseMs: timeouts.responseMs,
        idleMs: timeouts.idleMs,
        partialFrameMs: timeouts.partialFrameMs,
        pace: false,
        paceQueue: 0,
        paceMs: 0,
        counters: scratchCells(rules.length),
        gate: OPEN_GATE,
        bounds: NO_BOUNDS,
        witnessed: false,
      },
      connections: {
        perClient: limits.connectionsPerClient ?? Number.POSITIVE_INFINITY,
        perTarget: limits.connectionsPerTarget ?? Number.POSITIVE_INFINITY,
        newConnections: rate === null ? null : rateOf(rate, Math.ceil(rate)),
      },
      requests:
        perClient === null && perTarget === null
          ? null
          : {
              perClient: perClient === null ? null : rateOf(perClient, limits.burst),
              perTarget: perTarget === null ? null : rateOf(perTarget, limits.burst),
              // How many wait for an answer depends on Headgate's own place in the line, which a capture does not have.
              inFlightPerTarget: Number.POSITIVE_INFINITY,
            },
      tag: 2 * this.lines.length + 1,
      tables: new Map(),
    }
  }

  /** A connection begins. The verdict is on the connection: its pair, and the limits of connections. */
  open(flow: Flow, us: number): Case {
    this.settle(VERDICT.allowed, REASON.allow)
    this.tick(us)
    const [line, table] = this.find(flow)
    const one = new Case(line, table)
    if (line === null || table === null) {
      this.settle(VERDICT.denied, REASON.pair)
      return one
    }
    one.clientSlot = this.limits.holdSlot(line.tag, flow.clientAddress, this.clock.us)
    one.targetSlot = this.limits.holdSlot(line.tag + 1, flow.targetAddress, this.clock.us)
    if (one.clientSlot === -1 || one.targetSlot === -1) return one
    one.connected = true
    const within = this.limits.connect(one.clientSlot, one.targetSlot, line.connections, this.clock.us, true)
    // Of a connection that was open before the capture began nobody knows when it came.
    if (!within && flow.handshake) {
      this.settle(VERDICT.denied, REASON.rate)
      this.detail = 'over a limit of connections'
    }
    return one
  }

  close(one: Case): void {
    one.session?.dispose()
    if (one.connected && one.clientSlot !== -1) this.limits.disconnect(one.clientSlot, one.targetSlot)
    for (const slot of [one.clientSlot, one.targetSlot]) if (slot !== -1) this.limits.releaseSlot(slot)
  }

  /** Judges `buf[adu…end)`: a frame, or bytes that are none. The verdict is in the fields. */
  message(one: Case, flow: Flow, fromClient: boolean, buf: Uint8Array, adu: number, end: number, us: number): void {
    this.tick(us)
    this.flow = flow
    if (one.line === null || one.table === null) {
      // Inline there would be no response: nothing is to be said of it.
      if (fromClient) this.settle(VERDICT.denied, REASON.pair)
      else this.settle(VERDICT.allowed, REASON.allow)
      return
    }
    const session = this.sessionOf(one, us)
    this.settle(VERDICT.allowed, REASON.allow)
    if (fromClient) {
      session.onClientBytes(buf, adu, end)
      if (this.verdict === VERDICT.allowed) this.rule = one.table.rule
    } else session.onTargetBytes(buf, adu, end)
  }

  /** What would have been allowed in place of the latest denied request: one line. */
  explain(one: Case, code: number): string {
    if (this.detail !== '') return this.detail
    if (one.line === null) return 'no conduit carries Modbus/TCP between the two on this port'
    return one.table === null ? 'no rule for this client and target' : one.table.explain(this.reason, code)
  }

  /** The conduit of a connection; null where none lies between the two. */
  conduitOf(one: Case): string | null {
    return one.line?.conduit.id ?? null
  }

  ruleName(one: Case): string | null {
    return one.line?.protocol.rules[this.rule]?.name ?? null
  }

  private settle(verdict: number, reason: number): void {
    this.verdict = verdict
    this.reason = reason
    this.rule = -1
    this.fault = 0
    this.detail = ''
  }

  private tick(us: number): void {
    this.clock.us = us | 0
    this.clock.ms = (us / 1000) | 0
  }

  private sessionOf(one: Case, us: number): ModbusSession {
    const { line, table } = one as { line: Line; table: PairTable }
    const pause = us - one.lastUs
    one.lastUs = us
    if (one.session !== null && pause < LONG_PAUSE_US) {
      if (pause > line.terms.responseMs * 1000) one.session.onTimer()
      return one.session
    }
    one.session?.dispose()
    const limiter =
      line.requests === null || one.clientSlot === -1 || one.targetSlot === -1
        ? null
        : new ConnectionLimiter(this.limits, one.clientSlot, one.targetSlot, line.requests)
    const nothing = (): void => {}
    const host = {
      toTarget: nothing,
      toClient: nothing,
      finish: nothing,
      reset: nothing,
      dropTarget: nothing,
      soon: nothing,
      redial: () => true,
      witness: nothing,
      report: (
        kind: ReportKind,
        reason: number,
        _would: boolean,
        rule: number,
        _buf: Uint8Array | null,
        _adu: number,
        _end: number,
        detail: string,
      ) => this.report(line, table, kind, reason, rule, detail),
    }
    one.session = new ModbusSession(host, this.clock, line.terms, table, limiter)
    return one.session
  }

  private report(line: Line, table: PairTable, kind: ReportKind, reason: number, rule: number, detail: string): void {
    if (kind === 'tolerated') {
      this.tolerated++
      return
    }
    if (kind === 'timeout') {
      this.unanswered++
      return
    }
    const incomplete = kind === 'response' && reason === REASON.state && (this.flow as Flow).incomplete
    const recorded = rule >= 0 && line.protocol.rules[rule].mode === 'monitor'
    this.settle(incomplete ? VERDICT.unjudged : recorded ? VERDICT.recorded : VERDICT.denied, reason)
    this.rule = rule
    this.detail = detail
    this.fault = table.fault
  }

  /**
   * The conduit whose rules know the pair; where none does, the one that leads to the port and has the target in its
   * zones, so that the denial is told where an operator would look for it. A listener's is its own conduit, whoever comes.
   */
  private find(flow: Flow): [Line | null, PairTable | null] {
    const listener = flow.dialled === null ? null : this.listeners.at('modbus', flow.dialled)
    if (listener !== null) {
      const line = this.lines.find(({ conduit }) => conduit.id === listener.conduit) ?? null
      const { address, port } = targetOf(listener)
      const pair = { clientAddress: flow.clientAddress, targetAddress: address, targetPort: port }
      return [line, line === null ? null : this.table(line, pair)]
    }
    const open = this.lines.filter((line) => this.leadsTo(line, flow))
    for (const line of open) {
      const table = this.table(line, flow)
      if (table !== null) return [line, table]
    }
    const near = open.find(({ conduit }) => {
      const zones = this.policy.zones.filter((zone) => conduit.connects.includes(zone.id))
      const holds = (address: bigint): boolean =>
        zones.some(({ networks, assets }) =>
          [...networks, ...assets.map((asset) => asset.address)].some((block) => blockHolds(block, address)),
        )
      return holds(flow.clientAddress) && holds(flow.targetAddress)
    })
    return [near ?? null, null]
  }

  /** The port is the conduit's, or that of one of its listeners' targets. */
  private leadsTo({ conduit, protocol }: Line, flow: Flow): boolean {
    const { targetAddress: address, targetPort: port } = flow
    return protocol.port === port || isTarget(this.policy, conduit.id, { address, port }, 'modbus')
  }

  private table(line: Line, flow: Pair): PairTable | null {
    const { rules } = line.protocol
    const holds = (blocks: readonly AddressBlock[], address: bigint): boolean =>
      blocks.some((block) => blockHolds(block, address))
    const indexes = [...rules.keys()].filter(
      (i) => holds(rules[i].from, flow.clientAddress) && holds(rules[i].to, flow.targetAddress),
    )
    if (!indexes.some((i) => rules[i].action === 'allow')) return null
    const key = `${indexes.join(',')} ${flow.targetAddress}`
    let table = line.tables.get(key)
    if (table === undefined) {
      const stepped = rules.some((rule) => rule.values?.['holding-registers']?.some((value) => value.maxStep !== null))
      table = new PairTable(
        indexes.map((index) => ({ index, terms: rules[index] })),
        stepped ? this.valuesOf(line, flow) : null,
      )
      line.tables.set(key, table)
    }
    return table
  }

  /** Readers of a target teach what its writers are held to. */
  private valuesOf(line: Line, flow: Pair): PresentValues {
    const place = `${formatAddress(flow.targetAddress)} ${flow.targetPort}`
    let values = this.values.get(place)
    if (values === undefined) {
      values = new LocalValues()
      this.values.set(place, values)
    }
    for (const rule of line.protocol.rules) {
      for (const { range, maxStep } of rule.values?.['holding-registers'] ?? []) {
        if (maxStep !== null) values.watched.fill(1, range[0], range[1] + 1)
      }
    }
    return values
  }
}

/** How long answers took is not asked here. */
const NO_BOUNDS = new Int32Array(0)

/** Room for what a session counts; nobody reads it. */
function scratchCells(rules: number): SessionCells {
  const verdicts = 2 * WOULD_DENY
  const responses = 256 * verdicts
  const rest = responses + verdicts
  return {
    cells: new Float64Array(rest + 16 + 3 * rules),
    requests: 0,
    responses,
    bytesIn: rest,
    bytesOut: rest + 1,
    pending: rest + 2,
    tolerated: rest + 3,
    histogram: rest + 10,
    rules: rest + 16,
  }
}

class LocalValues implements PresentValues {
  readonly watched = new Uint8Array(65536)
  private readonly values = new Map<number, number>()

  get(unit: number, register: number): number {
    return this.values.get((unit << 16) | register) ?? -1
  }

  set(unit: number, register: number, value: number): void {
    if (this.watched[register] === 1) this.values.set((unit << 16) | register, value)
  }
}
