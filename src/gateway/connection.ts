/**
 * What every connection pair has, whatever carries its bytes: its admission by the policy, its place in the shared
 * limits, its session, its time-outs, and what the records hear of it.
 */
import type { Track } from '../baseline/entry.ts'
import type { LiveBaseline } from '../baseline/live.ts'
import { OpcUaTrack } from '../baseline/opcua-track.ts'
import { ConnectionLimiter } from '../limits/shared-limits.ts'
import { describeRequest, describeResponse } from '../protocols/modbus/describe.ts'
import { describeFault, FAULT } from '../protocols/modbus/faults.ts'
import { isWrite } from '../protocols/modbus/function-codes.ts'
import type { ModbusHost, ModbusSession, ReportKind } from '../protocols/modbus/session.ts'
import { functionChanges } from '../protocols/opcua/services.ts'
import type { Aliases } from '../protocols/opcua/session-context.ts'
import type { TerminateHost } from '../protocols/opcua/terminate/terms.ts'
import type { OpcUaReport, OpcUaWitness } from '../protocols/opcua/terms.ts'
import { REASON, REASONS, WOULD_DENY } from '../protocols/reason.ts'
import type { RequestLimiter, Session } from '../protocols/session.ts'
import type { EventInput, EventName } from '../records/catalogue.ts'
import { WATCHED } from '../records/counters.ts'
import { flowKey, OPCUA_UNIT } from './conduit-plan.ts'
import type { DataPlane } from './data-plane.ts'
import { Doubts, OpcUaDoubts } from './doubts.ts'
import { Extent } from './extent.ts'
import { ReachedItems } from './opcua-extent.ts'
import { OpcUaConnectionShadow } from './opcua-shadow.ts'
import type { ListenerPlan } from './plan.ts'
import { ConnectionShadow } from './shadow.ts'
import type { Kind } from './storm.ts'
import type { Timed } from './timer-wheel.ts'

/** The client's end of a connection. */
export interface Peer {
  address: bigint
  text: string
  port: number
}

/** After a failed dial, how long requests are answered with 0A before another is tried. */
const REDIAL_MS = 500
/** Ends of a connection that are nobody's loss. */
const ORDERLY = new Set(['', 'client closed', 'client reset', 'target closed', 'idle', 'gateway stopping'])
/** How long a closed connection's last bytes may take to leave. */
const LINGER_MS = 2000

const EVENT_OF: Record<ReportKind, readonly [EventName, EventName]> = {
  request: ['request.denied', 'request.would_deny'],
  response: ['response.denied', 'response.would_deny'],
  tolerated: ['response.tolerated', 'response.tolerated'],
  timeout: ['target.timeout', 'target.timeout'],
}

const OPCUA_EVENT_OF: Record<OpcUaReport['kind'], readonly [EventName, EventName]> = {
  request: EVENT_OF.request,
  response: EVENT_OF.response,
  channel: ['channel.denied', 'channel.would_deny'],
  downgraded: ['channel.downgraded', 'channel.downgraded'],
  opened: ['channel.opened', 'channel.opened'],
  timeout: EVENT_OF.timeout,
}

/** Reports whose events are told apart by service, not by the channel. */
const OF_MESSAGES: ReadonlySet<OpcUaReport['kind']> = new Set(['request', 'response', 'timeout'])

export abstract class Connection implements ModbusHost, TerminateHost, OpcUaWitness, Timed {
  readonly plane: DataPlane
  readonly peer: Peer
  listener: ListenerPlan
  readonly session: Session
  private clientSlot = -1
  private targetSlot = -1
  private readonly openedMs: number
  /** Whether its client's traffic was normal before a cut-over. */
  private known: boolean
  private shadow: ConnectionShadow | OpcUaConnectionShadow | null
  private bytesIn = 0
  private bytesOut = 0

  /** Milliseconds on the worker's clock when the dial began; -1: not dialling. */
  protected dialling = -1
  protected targetUp = false
  private failedMs = -1
  /** Why it is being closed; '' while it is not. */
  protected ending = ''
  protected endingMs = 0
  protected gone = false
  /** What was last said of a request, and the verdict (would-deny, function code, reason) that it was said of. */
  private said: Kind | null = null
  private saidVerdict = -1
  /** Its part in the baseline; null: none is kept. */
  private track: Track | OpcUaTrack | null = null
  /** The baseline that `track` is of. */
  private tracker: LiveBaseline | null = null
  private reached = false
  /** Requests that would be denied and whose answers are to come; null: there were none yet. */
  private doubts: Doubts | null = null
  private opcuaDoubts: OpcUaDoubts | null = null

  protected constructor(plane: DataPlane, listener: ListenerPlan, peer: Peer, slots: readonly [number, number]) {
    this.plane = plane
    this.peer = peer
    this.listener = listener
    ;[this.clientSlot, this.targetSlot] = slots
    this.openedMs = plane.clock.ms
    this.known = plane.knows(peer)
    const { conduit } = listener
    this.shadow = this.cast()
    this.session = conduit.open(this, plane.clock, listener.target, peer.address, this.limiter(), this.shadow)
    conduit.cells[conduit.bases.open]++
    this.follow()
  }

  /** What the shadow policy judges this connection by. */
  private cast(): ConnectionShadow | OpcUaConnectionShadow | null {
    const { plane, listener, peer } = this
    const { shadow, conduit } = listener
    if (shadow === null) return null
    const Kind = conduit.kind === 'modbus' ? ConnectionShadow : OpcUaConnectionShadow
    return new Kind(plane, listener, shadow, peer)
  }

  private limiter(): RequestLimiter | null {
    const terms = this.listener.conduit.requestTerms
    return terms === null ? null : new ConnectionLimiter(this.plane.limits, this.clientSlot, this.targetSlot, terms)
  }

  abstract toTarget(buf: Uint8Array, from: number, to: number): void
  abstract toClient(buf: Uint8Array, from: number, to: number): void
  /** Begins the graceful close of both sides. */
  protected abstract close(): void
  /** Ends both sides at once, by RST where `rst`. */
  protected abstract abort(rst: boolean): void
  protected abstract dial(): void
  protected abstract hangUp(): void

  finish(reason: string): void {
    if (this.ending !== '') return
    this.ending = reason
    this.endingMs = this.plane.clock.ms
    this.close()
    this.plane.wheel.add(this, this.plane.clock.ms, LINGER_MS)
  }

  reset(reason: string): void {
    if (this.gone) return
    this.ending = reason
    this.abort(true)
  }

  redial(): boolean {
    const { ms } = this.plane.clock
    if (this.ending !== '' || (this.failedMs !== -1 && ms - this.failedMs < REDIAL_MS)) return false
    this.startDial()
    return true
  }

  soon(): void {
    this.plane.lookSoon(this)
  }

  protected startDial(): void {
    this.dialling = this.plane.clock.ms
    this.targetUp = false
    this.dial()
  }

  dropTarget(reason: string): void {
    this.tell('target.dropped', { reason: 'state', detail: reason })
    this.targetUp = false
    this.dialling = -1
    this.hangUp()
  }

  redialTarget(): void {
    this.hangUp()
    this.startDial()
  }

  rejected(list: 'clients' | 'servers', der: Uint8Array): void {
    this.plane.onRejected(this.listener.conduit.conduit.id, list, der)
  }

  /** The dial has succeeded. */
  protected connected(): void {
    this.dialling = -1
    this.failedMs = -1
    this.targetUp = true
    this.reached = true
  }

  /** The target's connection failed or was lost by an error. */
  protected targetFailed(why: string): void {
    if (this.ending !== '' || this.gone) return
    const wasUp = this.targetUp
    this.targetUp = false
    this.dialling = -1
    if (!wasUp) {
      countWatched(this.listener, WATCHED.timeouts)
      this.failedMs = this.plane.clock.ms
      this.tell('target.unreachable', { reason: 'timeout', detail: why })
    }
    if (this.session.monitoring) this.reset(wasUp ? 'target reset' : 'target unreachable')
    else this.session.onTargetLost(wasUp)
  }

  /** After a call of the session's that no event of this connection led to: a new policy, pacing, the end. */
  afterCall(): void {}

  /** Adopts what a new policy says, or closes. */
  adopt(listener: ListenerPlan | undefined): void {
    const former = this.listener.conduit
    const moved =
      listener === undefined ||
      listener.conduit.kind !== former.kind ||
      listener.target.address.base !== this.listener.target.address.base ||
      listener.target.port !== this.listener.target.port
    if (moved) {
      this.session.close('no longer in the policy')
      return
    }
    this.said = null
    this.known = this.plane.knows(this.peer)
    const { conduit } = listener
    former.cells[former.bases.open]--
    conduit.cells[conduit.bases.open]++
    this.listener = listener
    const known = conduit.knows(this.peer.address, listener.target)
    const slots = this.plane.holdSlots(listener, this.peer)
    if ((!known && !conduit.monitor) || slots === null) {
      if (slots !== null) this.plane.releaseSlots(slots)
      this.session.close('no longer allowed by the policy')
      return
    }
    this.plane.limits.connect(slots[0], slots[1], conduit.connectionTerms, this.plane.clock.us, true)
    const [client, target] = [this.clientSlot, this.targetSlot]
    ;[this.clientSlot, this.targetSlot] = slots
    this.follow()
    const { shadow } = this
    this.shadow = this.cast()
    conduit.adopt(this.session, listener.target, this.peer.address, this.limiter(), this.shadow)
    shadow?.dispose()
    this.plane.limits.disconnect(client, target)
    this.plane.releaseSlots([client, target])
  }

  onTimer(): number {
    if (this.gone) return 0
    const { ms } = this.plane.clock
    if (this.ending !== '') {
      if (ms - this.endingMs >= LINGER_MS) {
        this.abort(false)
        return 0
      }
      return LINGER_MS - (ms - this.endingMs)
    }
    let wait = this.session.onTimer()
    const { connectMs } = this.listener.conduit.protocol.timeouts
    if (this.dialling !== -1) {
      const left = connectMs - (ms - this.dialling)
      if (left <= 0) {
        this.hangUp()
        this.targetFailed(`no connection within ${connectMs} ms`)
      } else wait = Math.min(wait, left)
    }
    return this.ending === '' ? Math.min(wait, connectMs) : 0
  }

  /** Counts bytes for the record of the connection's end. */
  protected carried(fromClient: number, fromTarget: number): void {
    this.bytesIn += fromClient
    this.bytesOut += fromTarget
  }

  /** Both sides are closed: gives everything back. */
  protected end(): void {
    if (this.gone) return
    this.gone = true
    this.session.dispose()
    this.shadow?.dispose()
    this.unfollow()
    const { conduit } = this.listener
    conduit.cells[conduit.bases.open]--
    this.plane.limits.disconnect(this.clientSlot, this.targetSlot)
    this.plane.releaseSlots([this.clientSlot, this.targetSlot])
    this.plane.forget(this)
    const known = this.known || this.listener.conduit.normal?.clients.has(this.peer.address) === true
    if (!ORDERLY.has(this.ending) && known) countWatched(this.listener, WATCHED.lost)
    this.tell('connection.closed', {
      detail: this.ending === '' ? 'closed by its ends' : this.ending,
      bytes_in: this.bytesIn,
      bytes_out: this.bytesOut,
      duration_ms: this.plane.clock.ms - this.openedMs,
    })
  }

  // ----------------------------------------------------------------------------------------------------- baseline

  /** Takes part in the baseline that is kept, or no longer does. */
  private follow(): void {
    const { plane, listener, peer } = this
    const { conduit, target } = listener
    const baseline = conduit.monitor ? plane.baseline : null
    if (baseline === this.tracker) return
    this.unfollow()
    this.tracker = baseline
    if (baseline === null) return
    baseline.clock[0] = plane.wallMs() * 1000
    const { address } = peer
    if (conduit.protocol.kind === 'opcua') {
      const whole = this.openedMs === plane.clock.ms && this.bytesIn + this.bytesOut === 0
      this.track = baseline.opcua.open(address, target.address.base, target.port, whole)
      conduit.watch(this.session, this.track === null ? null : this)
    } else this.track = baseline.open(address, target.address.base, target.port)
  }

  private unfollow(): void {
    const { track, tracker } = this
    this.track = null
    this.tracker = null
    if (track === null || tracker === null) return
    tracker.clock[0] = this.plane.wallMs() * 1000
    if (track instanceof OpcUaTrack) {
      this.listener.conduit.watch(this.session, null)
      track.close()
    } else tracker.close(track, this.reached)
  }

  witness(fromClient: boolean, buf: Uint8Array, adu: number, end: number): void {
    const { doubts } = this
    if (doubts !== null && doubts.size > 0 && !fromClient && end - adu > 7) doubts.answered(buf, adu)
    const { track, tracker } = this
    if (track === null || tracker === null || track instanceof OpcUaTrack) return
    tracker.clock[0] = this.plane.wallMs() * 1000
    if (!fromClient) tracker.response(track, buf, adu, end, true)
    else if (end === adu) tracker.garbage(track)
    else tracker.request(track, buf, adu, end)
  }

  sawBytes(fromClient: boolean, buf: Uint8Array, from: number, to: number): void {
    this.opcuaTrack()?.sawBytes(fromClient, buf, from, to)
  }

  sawChannel(policy: string, mode: string, endpointUrl: string): void {
    this.opcuaTrack()?.sawChannel(policy, mode, endpointUrl)
  }

  sawChunk(
    fromClient: boolean,
    requestId: number,
    flag: number,
    buf: Uint8Array,
    from: number,
    to: number,
    aliases: Aliases | null,
  ): void {
    this.opcuaTrack()?.sawChunk(fromClient, requestId, flag, buf, from, to, aliases)
  }

  /** What is kept of the connection, whose baseline knows what time it is. */
  private opcuaTrack(): OpcUaTrack | null {
    const { track, tracker } = this
    if (tracker === null || !(track instanceof OpcUaTrack)) return null
    tracker.clock[0] = this.plane.wallMs() * 1000
    return track
  }

  // ------------------------------------------------------------------------------------------------------ records

  report(
    kind: ReportKind,
    reason: number,
    would: boolean,
    rule: number,
    buf: Uint8Array | null,
    adu: number,
    end: number,
    detail: string,
    exception: number,
  ): void {
    const { storm } = this.plane
    const code = buf === null || adu + 7 >= end ? 0 : kind === 'request' ? buf[adu + 7] : buf[adu + 7] & 0x7f
    if (kind === 'timeout') countWatched(this.listener, WATCHED.timeouts)
    else if (kind !== 'tolerated' && !would && (this.known || this.normal(code, buf === null ? 0 : buf[adu + 6]))) {
      countWatched(this.listener, WATCHED.denials)
    }
    const verdict = kind === 'request' ? (would ? 0x10000 : 0) | (code << 8) | reason : -1
    const again = this.said !== null && verdict === this.saidVerdict && storm.again(this.said, this.plane.wallMs())
    if (again) {
      this.extend(this.said as Kind, reason, would, buf, adu, end)
      return
    }
    const event = EVENT_OF[kind][would ? 1 : 0]
    const said = storm.say(`${event} ${this.pairKey} ${code} ${reason}`, this.plane.wallMs(), () => {
      const rules = this.listener.conduit.protocol.rules
      const frame =
        buf === null ? {} : kind === 'request' ? describeRequest(buf, adu, end) : describeResponse(buf, adu, end)
      const input: EventInput = {
        ...this.event(event),
        ...frame,
        mode: would ? 'monitor' : this.listener.conduit.conduit.mode,
        rule: rule >= 0 ? rules[rule]?.name : undefined,
        reason: kind === 'tolerated' ? undefined : REASONS[reason],
        detail: detail !== '' || buf === null ? detail : this.explain(kind, reason, code, buf, adu, end),
      }
      if (exception > 0 && !would) input.exception_code = exception
      if (event === 'request.denied' && isWrite(code)) input.severity = 'warning'
      return input
    })
    if (verdict === -1) return
    this.said = said
    this.saidVerdict = verdict
    this.extend(said, reason, would, buf, adu, end)
  }

  /**
   * Whether what is denied is of a flow that the baseline has and the rules allow.
   * @param code function code, or the index of an OPC UA function; then `unit` is `OPCUA_UNIT`
   */
  private normal(code: number, unit: number): boolean {
    const { conduit, target } = this.listener
    const { normal } = conduit
    if (normal === null || !normal.clients.has(this.peer.address)) return false
    return normal.flows.has(flowKey(this.peer.address, target.address.base, target.port, unit, code))
  }

  /** A request is one of those that an event will stand for. */
  private extend(kind: Kind, reason: number, would: boolean, buf: Uint8Array | null, adu: number, end: number): void {
    if (buf === null || kind.mixed) return
    if (kind.count > 0) {
      kind.extent ??= new Extent()
      if (kind.extent instanceof Extent) kind.extent.request(buf, adu, end, reason !== REASON.malformed)
    }
    if (!would || !this.session.monitoring || end - adu <= 7) return
    this.doubts ??= new Doubts()
    this.doubts.add(kind, buf, adu)
  }

  private explain(kind: ReportKind, reason: number, code: number, buf: Uint8Array, adu: number, end: number): string {
    if (reason === REASON.rate) return 'over a limit of requests'
    const session = this.session as ModbusSession
    if (session.fault !== FAULT.NONE) return describeFault(session.fault, buf, adu + 7, end)
    return kind === 'request' ? session.explain(reason, code) : ''
  }

  reportOpcUa(report: OpcUaReport): void {
    const { kind, reason, would, rule, fn, detail, fields } = report
    if (kind === 'timeout') countWatched(this.listener, WATCHED.timeouts)
    const denied = kind === 'request' || kind === 'response' || kind === 'channel'
    if (denied && !would && (this.known || this.normal(fn, OPCUA_UNIT))) countWatched(this.listener, WATCHED.denials)
    const event = OPCUA_EVENT_OF[kind][would ? 1 : 0]
    // Channels of different security are told apart.
    const { security_policy: policy, security_mode: mode } = OF_MESSAGES.has(kind) ? {} : fields()
    const key = `${event} ${this.pairKey} ${fn} ${reason} ${policy} ${mode}`
    const items = new ReachedItems(report.items)
    const said = this.plane.storm.say(key, this.plane.wallMs(), () => {
      const { conduit, protocol } = this.listener.conduit
      const input: EventInput = {
        ...this.event(event),
        ...fields(),
        mode: would ? 'monitor' : conduit.mode,
        rule: rule >= 0 ? protocol.rules[rule]?.name : undefined,
        reason: reason === REASON.allow ? undefined : REASONS[reason],
        detail,
      }
      if (event === 'request.denied' && functionChanges(fn)) input.severity = 'warning'
      return kind === 'request' ? { ...input, ...items.fields() } : input
    })
    if (kind !== 'request' || said.mixed) return
    items.extend(said)
    // How it is answered, where it passes.
    if (!would || report.request === 0) return
    this.opcuaDoubts ??= new OpcUaDoubts()
    this.opcuaDoubts.add(said, report.request, items.all)
  }

  answeredOpcUa(request: number, refused: boolean): void {
    this.opcuaDoubts?.answered(request, refused)
  }

  private get pairKey(): string {
    return `${this.listener.conduit.conduit.id} ${this.peer.text} ${this.listener.key}`
  }

  private tell(event: EventName, fields: Partial<EventInput>): void {
    this.plane.storm.say(`${event} ${this.pairKey}`, this.plane.wallMs(), () => ({ ...this.event(event), ...fields }))
  }

  admitted(): void {
    this.tell('connection.admitted', {})
  }

  private event(event: EventName): EventInput {
    return { event, ...this.plane.pairFields(this.listener, this.peer) }
  }
}

/** Counts a connection's verdict where its conduit counts. */
export function countConnection(listener: ListenerPlan, reason: number, would: boolean): void {
  const { cells, bases } = listener.conduit
  cells[bases.connections + (would ? WOULD_DENY : 0) + reason]++
}

/** Counts what a cut-over of the conduit is watched by: one of `WATCHED`. */
export function countWatched(listener: ListenerPlan, cell: number): void {
  const { cells, bases } = listener.conduit
  cells[bases.watched + cell]++
}
