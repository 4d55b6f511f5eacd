/** What the records hear of an inspected connection: its counters and gauges, and its events. */
import { REASON, WOULD_DENY } from '../../reason.ts'
import { AT } from '../chunk.ts'
import { isOfItem } from '../decide.ts'
import { describeDenied, describeItems, describeRequest } from '../describe.ts'
import { listText } from '../objections.ts'
import { FUNCTION, functionLabel } from '../services.ts'
import type { FieldSource } from '../shadow.ts'
import {
  CHANNEL_MODES,
  channelCell,
  MODE,
  NO_ITEMS,
  noItems,
  type OpcUaFields,
  type OpcUaItems,
  type OpcUaReport,
  policyIndex,
  VISIBILITIES,
} from '../terms.ts'
import { type InspectState, PHASE, PUBLISH } from './state.ts'

/** Cells a function has: one a reason for denials, one a reason for would-denials. */
const VERDICTS = WOULD_DENY * 2

export class Records implements FieldSource {
  private readonly state: InspectState
  /** Cell of the gauge that this channel is counted in; -1: none. */
  gauge = -1
  sessions = 0
  private downgraded = false

  constructor(state: InspectState) {
    this.state = state
  }

  /** Says once of a channel that it asks for less than the policy wants. */
  downgrade(what: string): void {
    const { state } = this
    if (this.downgraded) return
    this.downgraded = true
    const wanted = [...state.terms.securityModes].join(' or ')
    const detail = `${what}, where the policy wants ${wanted} and ${listText(state.terms.securityPolicies)}`
    this.report('downgraded', REASON.security, state.terms.monitor, -1, FUNCTION.unknown, detail, null)
  }

  /** Forgets an outstanding request that nobody will answer. */
  forget(at: number): void {
    const { state } = this
    if (at === -1) return
    const fn = state.outstanding.functionAt(at)
    state.outstanding.remove(at)
    state.terms.counters.cells[state.terms.counters.pending]--
    if (fn !== PUBLISH) state.limiter?.release()
  }

  /** Tells of requests that the server has not answered in time. Publish waits for as long as there is no news. */
  overdue(): void {
    const { outstanding, terms, clock } = this.state
    for (;;) {
      const at = outstanding.overdue(clock.us, terms.responseMs * 1000, PUBLISH)
      if (at === -1) return
      const fn = outstanding.functionAt(at)
      const request_id = outstanding.idAt(at)
      const detail = `no answer within ${terms.responseMs} ms`
      this.report('timeout', REASON.timeout, terms.monitor, -1, fn, detail, () => ({
        function: functionLabel(fn),
        request_id,
      }))
    }
  }

  count(fn: number, cell: number, rule: number): void {
    const { cells, requests, rules } = this.state.terms.counters
    cells[requests + fn * VERDICTS + cell]++
    if (rule >= 0) cells[rules + rule * 3 + (cell === REASON.allow ? 0 : cell < WOULD_DENY ? 1 : 2)]++
  }

  countPending(by: number): void {
    const { state } = this
    const { counters } = state.terms
    counters.cells[counters.pending] += by
    for (let at = 0; at < state.outstanding.size; at++) {
      if (state.outstanding.functionAt(at) !== PUBLISH) state.limiter?.release()
    }
  }

  /** Counts the channel among those that are open, or no longer (-1). */
  countChannel(by: 1 | -1): void {
    const { state } = this
    const { cells, channels } = state.terms.counters
    if (by === -1) {
      if (this.gauge !== -1) cells[this.gauge]--
      this.gauge = -1
    } else if (state.phase >= PHASE.channel) {
      this.gauge = channels + channelCell(state.visibility, policyIndex(state.policy), state.mode)
      cells[this.gauge]++
    }
  }

  /** @param at offset of the item that is told; -1: the first, -2: the first that is denied, -3: nothing can be read */
  reportRequest(
    reason: number,
    would: boolean,
    rule: number,
    fn: number,
    detail: string,
    buf: Uint8Array,
    o: number,
    end: number,
    at: number,
  ): void {
    const { state } = this
    const { table } = state.channelRules ?? {}
    const hidden = at === -3 || state.mode > MODE.sign
    const body = o + AT.body
    const aliases = state.context?.aliases ?? null
    const denials =
      at === -2 && table !== undefined && table.denials.count > 0 && isOfItem(reason) ? table.denials : null
    state.doubted = would ? (denials?.index(0) ?? 0) : -1
    const more = (): OpcUaFields => {
      const fields: OpcUaFields = { function: functionLabel(fn), request_id: state.up.request }
      if (hidden) return fields
      const told =
        denials === null
          ? describeRequest(buf, body, end, Math.max(at, -1), aliases)
          : describeDenied(buf, body, end, denials, aliases)
      return { ...told, ...fields }
    }
    const items = (most: number): OpcUaItems =>
      hidden ? NO_ITEMS : describeItems(fn, buf, body, end, denials, reason, most, aliases)
    this.report('request', reason, would, rule, fn, detail, more, state.up.request, items)
  }

  report(
    kind: OpcUaReport['kind'],
    reason: number,
    would: boolean,
    rule: number,
    fn: number,
    detail: string,
    more: (() => OpcUaFields) | null,
    request = 0,
    items: OpcUaReport['items'] = noItems,
  ): void {
    const fields = (): OpcUaFields => ({ ...this.fields(), ...more?.() })
    this.state.host.reportOpcUa({ kind, reason, would, rule, fn, detail, fields, request, items })
  }

  /** What every event of the connection has. */
  private fields(): OpcUaFields {
    const { state } = this
    return {
      endpoint_url: state.endpointUrl.slice(0, 256),
      ...(state.phase >= PHASE.open && state.policy !== null
        ? { security_policy: state.policy, security_mode: CHANNEL_MODES[state.mode] }
        : {}),
      ...(state.phase >= PHASE.channel
        ? { channel_id: state.channel, visibility: VISIBILITIES[state.visibility] }
        : {}),
      certificate: state.certificate,
      server_certificate: state.serverCertificate,
      session: state.sessionName,
      user: state.userName,
    }
  }

  /** Of the request at hand. */
  shadowFields(): OpcUaFields {
    const { up, phase } = this.state
    return { ...this.fields(), ...(phase >= PHASE.channel ? { request_id: up.request } : {}) }
  }
}
