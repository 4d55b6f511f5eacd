/** Past traffic against a policy: what it would have denied, grouped; and what changes from one policy to another. */
import { formatAddress } from '../policy/address.ts'
import type { Policy } from '../policy/model.ts'
import { describeRequest, describeResponse, type FrameFields } from '../protocols/modbus/describe.ts'
import { describeFault } from '../protocols/modbus/faults.ts'
import { FUNCTION, functionLabel } from '../protocols/opcua/services.ts'
import type { OpcUaFields, OpcUaReport } from '../protocols/opcua/terms.ts'
import { REASONS } from '../protocols/reason.ts'
import { timeText } from './entry.ts'
import { type Case, Judge, VERDICT, VERDICTS } from './judge.ts'
import { type OpcUaCase, OpcUaJudge } from './opcua-judge.ts'
import type { Flow, FlowSink } from './reassembly.ts'

/** Groups beyond this number are counted together. */
const MAX_GROUPS = 10_000
/** Services and reasons that are told apart by node: what a drafted rule names nodes of, and what is denied for its node. */
const BY_NODE: ReadonlySet<string> = new Set(['Write', 'HistoryUpdate', 'Call', 'node', 'attribute', 'value'])

export type MessageKind = 'connection' | 'request' | 'response'

/** Messages with one verdict for one reason, between one client and one target. */
export interface VerdictGroup {
  verdict: (typeof VERDICTS)[number]
  kind: MessageKind
  conduit: string | null
  /** The rule that denied, or came nearest to allowing. */
  rule: string | null
  reason: string
  client: string
  target: string
  port: number
  unit: number | null
  function: number | null
  /** OPC UA: the service; null for Modbus. */
  service: string | null
  /** OPC UA: of what is told apart by it, the first node that was denied, and the method on it. */
  node: string | null
  method: string | null
  count: number
  first: string
  last: string
  /** The first such message, decoded. */
  example: FrameFields | OpcUaFields | null
  /** What is wrong with it, or what would have been allowed in its place. */
  why: string
}

/** Requests on whose verdict two policies differ: `before` under the one that is compared with. */
export interface Difference extends Omit<VerdictGroup, 'verdict' | 'kind'> {
  before: (typeof VERDICTS)[number]
  after: (typeof VERDICTS)[number]
  /** The rule that allows, under the policy that does. */
  allowedBy: string | null
}

export interface ReplayCounts {
  connections: number
  refused: number
  requests: number
  allowed: number
  denied: number
  recorded: number
  responses: number
  responsesDenied: number
  /** Messages that the capture does not suffice to judge. */
  unjudged: number
  /** OPC UA: connections of which the beginning is not there, or a part: nothing is said of what comes behind a gap. */
  unfollowed: number
  tolerated: number
  unanswered: number
}

export interface ReplayResult {
  policy: Policy
  counts: ReplayCounts
  /** Denied first, by count. */
  groups: VerdictGroup[]
  /** Groups that were too many to keep: messages in them. */
  more: number
}

interface Timed<T> {
  group: T
  first: number
  last: number
}

/** The verdicts of one policy. */
class Docket {
  readonly judge: Judge
  readonly opcua: OpcUaJudge
  /** OPC UA: requests that would pass and be recorded. */
  private recorded = 0
  readonly counts: ReplayCounts = {
    connections: 0,
    refused: 0,
    requests: 0,
    allowed: 0,
    denied: 0,
    recorded: 0,
    responses: 0,
    responsesDenied: 0,
    unjudged: 0,
    unfollowed: 0,
    tolerated: 0,
    unanswered: 0,
  }
  more = 0
  private readonly groups = new Map<string, Timed<VerdictGroup>>()

  constructor(policy: Policy) {
    this.judge = new Judge(policy)
    this.opcua = new OpcUaJudge(policy, (report, one, flow, us) => this.noteOpcUa(report, one, flow, us))
  }

  openOpcUa(flow: Flow, us: number): OpcUaCase {
    const one = this.opcua.open(flow)
    this.counts.connections++
    if (!flow.handshake) this.counts.unfollowed++
    else if (!one.known) {
      this.counts.refused++
      const why =
        one.line === null || one.line.protocol.port !== flow.targetPort
          ? 'no conduit carries OPC UA between the two on this port'
          : 'no rule for this client and target'
      this.count('denied', 'connection', 'pair', one.line?.conduit.id ?? null, null, null, flow, us, null, why)
    }
    return one
  }

  private noteOpcUa(report: OpcUaReport, one: OpcUaCase, flow: Flow, us: number): void {
    const { kind, reason, rule, fn, detail } = report
    if (kind === 'opened' || kind === 'downgraded' || kind === 'timeout') return
    const at = one.line?.protocol.rules[rule] ?? null
    const name = at?.name ?? null
    const recorded = at?.mode === 'monitor'
    if (recorded && kind === 'request') this.recorded++
    const verdict = recorded ? 'recorded' : 'denied'
    const what = kind === 'channel' ? 'connection' : kind
    if (what === 'connection' && one.known && !recorded) this.counts.refused++
    const why = one.known ? REASONS[reason] : 'pair'
    const service = fn === FUNCTION.unknown ? null : functionLabel(fn)
    this.count(verdict, what, why, one.line?.conduit.id ?? null, name, service, flow, us, report.fields(), detail)
  }

  private count(
    verdict: VerdictGroup['verdict'],
    kind: MessageKind,
    reason: string,
    conduit: string | null,
    rule: string | null,
    service: string | null,
    flow: Flow,
    us: number,
    example: OpcUaFields | null,
    why: string,
  ): void {
    const names = place(flow)
    const narrow = kind === 'request' && service !== null && (BY_NODE.has(service) || BY_NODE.has(reason))
    const [node, method] = [example?.node, example?.method].map((one) => (narrow ? (one ?? null) : null))
    const { client, target, port } = names
    const key = ['opcua', verdict, kind, reason, conduit, rule, service, node, method, client, target, port].join('\n')
    const known = this.groups.get(key)
    if (known !== undefined) {
      known.group.count++
      known.first = Math.min(known.first, us)
      known.last = Math.max(known.last, us)
      return
    }
    if (this.groups.size === MAX_GROUPS) {
      this.more++
      return
    }
    const group = {
      verdict,
      kind,
      conduit,
      rule,
      reason,
      ...names,
      unit: null,
      function: null,
      service,
      node,
      method,
      count: 1,
    }
    this.groups.set(key, { first: us, last: us, group: { ...group, first: '', last: '', example, why } })
  }

  open(flow: Flow, us: number): Case {
    const one = this.judge.open(flow, us)
    this.counts.connections++
    if (this.judge.verdict === VERDICT.denied) {
      this.counts.refused++
      this.note('connection', one, flow, null, 0, 0, us)
    }
    return one
  }

  message(one: Case, flow: Flow, fromClient: boolean, buf: Uint8Array, adu: number, end: number, us: number): void {
    const { judge, counts } = this
    judge.message(one, flow, fromClient, buf, adu, end, us)
    const { verdict } = judge
    if (fromClient) {
      counts.requests++
      if (verdict === VERDICT.allowed) counts.allowed++
      else if (verdict === VERDICT.denied) counts.denied++
      else if (verdict === VERDICT.recorded) counts.recorded++
    } else {
      counts.responses++
      if (verdict === VERDICT.denied) counts.responsesDenied++
    }
    if (verdict === VERDICT.unjudged) counts.unjudged++
    else if (verdict !== VERDICT.allowed) this.note(fromClient ? 'request' : 'response', one, flow, buf, adu, end, us)
  }

  private note(
    kind: MessageKind,
    one: Case,
    flow: Flow,
    buf: Uint8Array | null,
    adu: number,
    end: number,
    us: number,
  ): void {
    const { judge } = this
    const framed = buf !== null && end - adu > 7
    const unit = framed ? buf[adu + 6] : -1
    const code = framed ? buf[adu + 7] : -1
    const key = `${judge.verdict} ${kind} ${judge.rule} ${judge.reason} ${flow.clientAddress} ${flow.targetAddress} ${flow.targetPort} ${unit} ${code}`
    const known = this.groups.get(key)
    if (known !== undefined) {
      known.group.count++
      known.first = Math.min(known.first, us)
      known.last = Math.max(known.last, us)
      return
    }
    if (this.groups.size === MAX_GROUPS) {
      this.more++
      return
    }
    this.groups.set(key, {
      first: us,
      last: us,
      group: {
        verdict: VERDICTS[judge.verdict],
        kind,
        conduit: judge.conduitOf(one),
        rule: judge.ruleName(one),
        reason: REASONS[judge.reason],
        ...place(flow),
        unit: unit < 0 ? null : unit,
        function: code < 0 ? null : kind === 'response' ? code & 0x7f : code,
        service: null,
        node: null,
        method: null,
        count: 1,
        first: '',
        last: '',
        example: buf === null ? null : describe(kind, buf, adu, end),
        why: this.why(kind, one, buf, adu, end, code),
      },
    })
  }

  private why(kind: MessageKind, one: Case, buf: Uint8Array | null, adu: number, end: number, code: number): string {
    const { judge } = this
    if (judge.fault !== 0 && buf !== null) return describeFault(judge.fault, buf, adu + 7, end)
    return kind === 'response' ? judge.detail : judge.explain(one, code)
  }

  /** OPC UA: requests that would be denied, by pair and service. */
  deniedServices(): Map<string, VerdictGroup> {
    const all = new Map<string, VerdictGroup>()
    for (const group of sorted(this.groups.values())) {
      if (group.service === null || group.kind !== 'request' || group.verdict !== 'denied') continue
      const key = [group.client, group.target, group.port, group.service].join(' ')
      const known = all.get(key)
      all.set(key, known === undefined ? group : { ...known, count: known.count + group.count })
    }
    return all
  }

  result(): ReplayResult {
    const { judge, recorded } = this
    const opcua = this.opcua.counts()
    const counts = {
      ...this.counts,
      requests: this.counts.requests + opcua.requests,
      allowed: this.counts.allowed + opcua.requests - opcua.wouldDeny,
      denied: this.counts.denied + opcua.wouldDeny - recorded,
      recorded: this.counts.recorded + recorded,
      responses: this.counts.responses + opcua.responses,
      responsesDenied: this.counts.responsesDenied + opcua.responsesWouldDeny,
    }
    counts.tolerated = judge.tolerated
    counts.unanswered = judge.unanswered
    return { policy: judge.policy, counts, groups: sorted(this.groups.values()), more: this.more }
  }
}

const describe = (kind: MessageKind, buf: Uint8Array, adu: number, end: number): FrameFields =>
  kind === 'response' ? describeResponse(buf, adu, end) : describeRequest(buf, adu, end)

const place = (flow: Flow) => ({
  client: formatAddress(flow.clientAddress),
  target: formatAddress(flow.targetAddress),
  port: flow.targetPort,
})

function sorted<T extends { count: number; first: string; last: string }>(groups: Iterable<Timed<T>>): T[] {
  return [...groups]
    .map(({ group, first, last }) => ({ ...group, first: timeText(first), last: timeText(last) }))
    .sort((a, b) => b.count - a.count)
}

/** Judges what a capture holds by one policy, or by two side by side. */
export class Replay implements FlowSink {
  private readonly docket: Docket
  private readonly other: Docket | null
  private readonly changed = new Map<string, Timed<Difference>>()

  /** @param other the policy to compare with: what differs is told as a change from it to `policy` */
  constructor(policy: Policy, other: Policy | null = null) {
    this.docket = new Docket(policy)
    this.other = other === null ? null : new Docket(other)
  }

  onOpen(flow: Flow, us: number): void {
    const begin = (docket: Docket): Case | OpcUaCase =>
      flow.protocol === 'opcua' ? docket.openOpcUa(flow, us) : docket.open(flow, us)
    flow.state = [begin(this.docket), this.other === null ? null : begin(this.other)]
  }

  onClose(flow: Flow): void {
    if (flow.protocol === 'opcua') {
      this.lose(flow)
      return
    }
    const [one, two] = flow.state as [Case, Case | null]
    this.docket.judge.close(one)
    if (two !== null) this.other?.judge.close(two)
  }

  onGap(flow: Flow): void {
    // What comes behind a gap is of a channel whose state is not known.
    if (flow.protocol !== 'opcua' || !this.lose(flow)) return
    this.docket.counts.unfollowed++
    if (this.other !== null) this.other.counts.unfollowed++
  }

  private lose(flow: Flow): boolean {
    const [one, two] = flow.state as [OpcUaCase, OpcUaCase | null]
    if (two !== null) this.other?.opcua.lose(two)
    return this.docket.opcua.lose(one)
  }

  onBytes(flow: Flow, fromClient: boolean, buf: Uint8Array, from: number, to: number, us: number): void {
    const [one, two] = flow.state as [OpcUaCase, OpcUaCase | null]
    this.docket.opcua.bytes(one, fromClient, buf, from, to, us)
    if (two !== null) this.other?.opcua.bytes(two, fromClient, buf, from, to, us)
  }

  onGarbage(flow: Flow, fromClient: boolean, buf: Uint8Array, at: number, end: number, us: number): void {
    this.onFrame(flow, fromClient, buf, at, end, us)
  }

  onFrame(flow: Flow, fromClient: boolean, buf: Uint8Array, adu: number, end: number, us: number): void {
    const [one, two] = flow.state as [Case, Case | null]
    this.docket.message(one, flow, fromClient, buf, adu, end, us)
    if (two === null || this.other === null) return
    this.other.message(two, flow, fromClient, buf, adu, end, us)
    if (fromClient && this.docket.judge.verdict !== this.other.judge.verdict)
      this.differ(one, two, flow, buf, adu, end, us)
  }

  private differ(one: Case, two: Case, flow: Flow, buf: Uint8Array, adu: number, end: number, us: number): void {
    const [before, after] = [(this.other as Docket).judge, this.docket.judge]
    const [unit, code] = end - adu > 7 ? [buf[adu + 6], buf[adu + 7]] : [-1, -1]
    const key = `${before.verdict} ${after.verdict} ${before.rule} ${after.rule} ${before.reason} ${after.reason} ${flow.clientAddress} ${flow.targetAddress} ${flow.targetPort} ${unit} ${code}`
    const known = this.changed.get(key)
    if (known !== undefined) {
      known.group.count++
      known.first = Math.min(known.first, us)
      known.last = Math.max(known.last, us)
      return
    }
    if (this.changed.size === MAX_GROUPS) return
    // The side that does not allow has the reason to tell; where both object, the second.
    const [objecting, its, allowing, theirs] =
      after.verdict === VERDICT.allowed ? [before, two, after, one] : [after, one, before, two]
    this.changed.set(key, {
      first: us,
      last: us,
      group: {
        before: VERDICTS[before.verdict],
        after: VERDICTS[after.verdict],
        conduit: objecting.conduitOf(its),
        rule: objecting.ruleName(its),
        reason: REASONS[objecting.reason],
        allowedBy: allowing.verdict === VERDICT.allowed ? allowing.ruleName(theirs) : null,
        ...place(flow),
        unit: unit < 0 ? null : unit,
        function: code < 0 ? null : code,
        service: null,
        node: null,
        method: null,
        count: 1,
        first: '',
        last: '',
        example: describeRequest(buf, adu, end),
        why: objecting.fault !== 0 ? describeFault(objecting.fault, buf, adu + 7, end) : objecting.explain(its, code),
      },
    })
  }

  result(): ReplayResult {
    return this.docket.result()
  }

  /** Under the policy that is compared with; null where there is none. */
  otherResult(): ReplayResult | null {
    return this.other?.result() ?? null
  }

  differences(): Difference[] {
    return [...sorted(this.changed.values()), ...this.opcuaDifferences()].sort((a, b) => b.count - a.count)
  }

  /** By pair and service: how many requests more, or fewer, would be denied. */
  private opcuaDifferences(): Difference[] {
    if (this.other === null) return []
    const [before, after] = [this.other.deniedServices(), this.docket.deniedServices()]
    return [...new Set([...before.keys(), ...after.keys()])].flatMap((key): Difference[] => {
      const [was, is] = [before.get(key), after.get(key)]
      const change = (is?.count ?? 0) - (was?.count ?? 0)
      const group = (change > 0 ? is : was) as VerdictGroup
      const { verdict: _, kind: __, ...rest } = group ?? {}
      if (change === 0 || group === undefined) return []
      const [from, to] = change > 0 ? (['allowed', 'denied'] as const) : (['denied', 'allowed'] as const)
      return [{ ...rest, before: from, after: to, allowedBy: null, count: Math.abs(change) }]
    })
  }
}
