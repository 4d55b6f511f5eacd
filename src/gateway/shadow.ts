/**
 * The shadow policy on one connection: it judges each request in the same pass as the policy in force, with limits of its
 * own, and where the two differ that is counted and told. What is alike is counted and nothing else.
 */
import type { PairTable } from '../protocols/modbus/decide.ts'
import { describeRequest } from '../protocols/modbus/describe.ts'
import { describeFault, FAULT } from '../protocols/modbus/faults.ts'
import type { Shadow } from '../protocols/modbus/session.ts'
import { comparedCell, REASON, REASONS, WOULD_DENY } from '../protocols/reason.ts'
import type { EventInput } from '../records/catalogue.ts'
import type { Peer } from './connection.ts'
import type { DataPlane } from './data-plane.ts'
import { ModbusConduit } from './modbus-conduit.ts'
import type { ListenerPlan, ShadowListener } from './plan.ts'
import { ShadowLimits } from './shadow-limits.ts'
import type { Kind } from './storm.ts'

/** What a shadow policy would say of a connection, beside what became of it. `REASON.allow`: admitted. */
export function compareAdmission(plane: DataPlane, listener: ListenerPlan, peer: Peer, reason: number): void {
  const { shadow, conduit } = listener
  if (shadow === null) return
  const candidate = shadow.conduit?.knows(peer.address, shadow.target) === true ? REASON.allow : REASON.pair
  // Limits of connections are not compared: a shadow admits nobody, so it cannot know how many there would be.
  if (reason === REASON.rate) return
  const { cells, bases } = conduit
  cells[bases.shadowConnections + comparedCell(reason, candidate)]++
  if ((reason === REASON.allow) === (candidate === REASON.allow)) return
  const event = reason === REASON.allow ? 'shadow.would_deny' : 'shadow.would_allow'
  plane.storm.say(`${event} ${shadow.sha256} ${listener.key} ${peer.text}`, plane.wallMs(), () => ({
    event,
    ...plane.pairFields(listener, peer),
    reason: REASONS[reason === REASON.allow ? candidate : reason],
    shadow: shadow.sha256,
    detail: shadow.conduit === null ? absenceOf(shadow) : `the connection; ${NO_PAIR}`,
  }))
}

/** Why a shadow policy has nothing for a connection. */
export function absenceOf({ conduit, instead }: ShadowListener): string {
  if (conduit !== null) return 'it has no rule for this client and target'
  return instead === null
    ? 'the shadow policy has no such listener'
    : `the shadow policy's listener there is for ${instead}, and not for this protocol`
}

const NO_PAIR = 'rules for this client and target are in one of the two policies alone'

export class ConnectionShadow implements Shadow {
  private readonly plane: DataPlane
  private readonly listener: ListenerPlan
  private readonly peer: Peer
  private readonly shadow: ShadowListener
  /** null: it denies all, since no rule of its knows the pair. */
  private readonly table: PairTable | null
  private readonly limits: ShadowLimits
  private readonly monitored: Uint8Array
  private readonly rules: readonly { name: string }[]
  /** Of the latest request. */
  private reason: number = REASON.allow
  private rule = -1
  private said: Kind | null = null
  private saidKey = -1

  constructor(plane: DataPlane, listener: ListenerPlan, shadow: ShadowListener, peer: Peer) {
    this.plane = plane
    this.listener = listener
    this.peer = peer
    this.shadow = shadow
    const conduit = shadow.conduit instanceof ModbusConduit ? shadow.conduit : null
    this.table = conduit?.table(peer.address, shadow.target) ?? null
    this.monitored = conduit?.terms.ruleMonitor ?? new Uint8Array(0)
    this.rules = conduit?.protocol.rules ?? []
    this.limits = new ShadowLimits(plane, shadow, peer)
  }

  dispose(): void {
    this.limits.dispose()
  }

  judge(buf: Uint8Array, adu: number, end: number): void {
    const { table, limits } = this
    if (table === null) {
      this.reason = REASON.pair
      return
    }
    const reason = table.decide(buf, adu + 6, end)
    this.rule = table.rule
    this.reason = reason !== REASON.allow && this.rule >= 0 && this.monitored[this.rule] === 1 ? REASON.allow : reason
    if (this.reason !== REASON.allow || limits.within()) return
    const passes = this.rule >= 0 && this.monitored[this.rule] === 1
    if (!passes) this.reason = REASON.rate
  }

  settle(buf: Uint8Array, adu: number, end: number, reason: number): void {
    const { cells, bases } = this.listener.conduit
    const cell = comparedCell(reason, this.reason)
    cells[bases.shadow + cell]++
    if (cell !== 0) this.tell(buf, adu, end, cell)
  }

  private tell(buf: Uint8Array, adu: number, end: number, cell: number): void {
    const { plane, listener, peer } = this
    const code = buf[adu + 7]
    const key = (code << 8) | cell
    if (this.said !== null && key === this.saidKey && plane.storm.again(this.said, plane.wallMs())) return
    const denied = cell < WOULD_DENY
    const event = denied ? 'shadow.would_deny' : 'shadow.would_allow'
    // What another candidate has said is not this one's.
    const which = `${this.shadow.sha256} ${listener.conduit.conduit.id}`
    const kind = `${event} ${which} ${peer.text} ${listener.key} ${code} ${cell}`
    this.said = plane.storm.say(kind, plane.wallMs(), (): EventInput => {
      return {
        event,
        ...plane.pairFields(listener, peer),
        ...describeRequest(buf, adu, end),
        rule: this.rule >= 0 && this.table !== null ? this.rules[this.rule]?.name : undefined,
        reason: REASONS[cell % WOULD_DENY],
        shadow: this.shadow.sha256,
        detail: denied ? this.explain(buf, adu, end, code) : '',
      }
    })
    this.saidKey = key
  }

  private explain(buf: Uint8Array, adu: number, end: number, code: number): string {
    if (this.table === null) return absenceOf(this.shadow)
    if (this.reason === REASON.rate) return 'over a limit of requests of the shadow policy'
    if (this.table.fault !== FAULT.NONE) return describeFault(this.table.fault, buf, adu + 7, end)
    return this.table.explain(this.reason, code)
  }
}
