/** The shadow policy on one connection of OPC UA: its differences as events, under storm control, and as counts. */
import { functionLabel } from '../protocols/opcua/services.ts'
import { type Difference, OPEN, OpcUaShadow, type ShadowTerms } from '../protocols/opcua/shadow.ts'
import type { OpcUaFields } from '../protocols/opcua/terms.ts'
import { REASONS, WOULD_DENY } from '../protocols/reason.ts'
import type { EventInput } from '../records/catalogue.ts'
import type { Peer } from './connection.ts'
import type { DataPlane } from './data-plane.ts'
import { OpcUaConduit } from './opcua-conduit.ts'
import { ReachedItems } from './opcua-extent.ts'
import type { ListenerPlan, ShadowListener } from './plan.ts'
import { absenceOf } from './shadow.ts'
import { ShadowLimits } from './shadow-limits.ts'
import type { Kind } from './storm.ts'

export class OpcUaConnectionShadow extends OpcUaShadow {
  private readonly plane: DataPlane
  private readonly listener: ListenerPlan
  private readonly peer: Peer
  private readonly shadow: ShadowListener
  private readonly limits: ShadowLimits
  private readonly ruleNames: readonly { name: string }[]

  constructor(plane: DataPlane, listener: ListenerPlan, shadow: ShadowListener, peer: Peer) {
    super(candidateOf(shadow, peer))
    this.plane = plane
    this.listener = listener
    this.peer = peer
    this.shadow = shadow
    this.limits = new ShadowLimits(plane, shadow, peer)
    this.ruleNames = shadow.conduit?.protocol.rules ?? []
  }

  dispose(): void {
    this.limits.dispose()
  }

  protected override count(cell: number): void {
    const { cells, bases } = this.listener.conduit
    cells[bases.shadow + cell]++
  }

  protected override within(): boolean {
    return this.limits.within()
  }

  protected override tell(difference: Difference): void {
    const { denied, reason, rule, fn, detail, fields } = difference
    const event = denied ? 'shadow.would_deny' : 'shadow.would_allow'
    const { security_policy: policy, security_mode: mode } = fn === OPEN ? fields() : {}
    const items = new ReachedItems(difference.items)
    const said = this.say(event, `${fn} ${denied ? reason : WOULD_DENY + reason} ${policy} ${mode}`, () => ({
      ...fields(),
      function: functionLabel(fn),
      rule: rule >= 0 ? this.ruleNames[rule]?.name : undefined,
      reason: REASONS[reason],
      detail,
      ...items.fields(),
    }))
    items.extend(said)
  }

  protected override blind(detail: string, fields: () => OpcUaFields): void {
    this.say('shadow.not_compared', detail, () => ({ ...fields(), detail }))
  }

  private say(event: EventInput['event'], key: string, fields: () => Omit<EventInput, 'event'>): Kind {
    const { plane, listener, peer } = this
    // What another candidate has said is not this one's.
    const which = `${this.shadow.sha256} ${listener.conduit.conduit.id}`
    const kind = `${event} ${which} ${peer.text} ${listener.key} ${key}`
    return plane.storm.say(kind, plane.wallMs(), () => ({
      event,
      ...plane.pairFields(listener, peer),
      ...fields(),
      shadow: this.shadow.sha256,
    }))
  }
}

/** What the shadow policy has for a client at its listener; else why it has nothing. */
function candidateOf(shadow: ShadowListener, peer: Peer): ShadowTerms | string {
  const { conduit, target } = shadow
  if (!(conduit instanceof OpcUaConduit)) return absenceOf(shadow)
  if (!conduit.knows(peer.address, target)) return absenceOf(shadow)
  return conduit.candidate(peer.address, target)
}
