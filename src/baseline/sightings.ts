/**
 * What the evidence tells of traffic that was, or would have been, denied: put together by kind. An event may stand for
 * many (`count`, `first`, `last`), so numbers, times and intervals are of what it stands for.
 */
import { parseFunction } from '../protocols/modbus/function-codes.ts'
import { numbersOf } from '../protocols/opcua/describe.ts'
import { SERVICES } from '../protocols/opcua/services.ts'
import { keyOf } from './decisions.ts'
import { isNarrow, lacksRule } from './opcua-sighted.ts'
import { RangeSet } from './ranges.ts'

/** Kinds that are kept apart; a scan must not take all memory. */
const MAX_SIGHTINGS = 20_000
/** Ranges of one kind. */
const MAX_RANGES = 1024
/** Hours that are told apart, for evidence of a few days. */
const MAX_HOURS = 96
/** Lengths of intervals that are told apart; each is an eighth longer than the one before. */
const PERIOD_STEP = Math.log(1.125)
const MAX_PERIODS = 64
const DAY_MS = 86_400_000
const HOUR_MS = 3_600_000

/** `shadow-deny`: passes, and a shadow policy would deny it; `shadow-allow`: the other way round. */
export type Happened = 'would-deny' | 'denied' | 'shadow-deny' | 'shadow-allow'
/** `channel`: a secure channel of OPC UA. */
export type SightingKind = 'request' | 'response' | 'connection' | 'channel'

type Fields = Record<string, unknown>

/** How long lies between two of a kind: a histogram of intervals. */
class Intervals {
  private readonly lengths = new Map<number, { number: number; sum: number }>()
  private samples = 0

  add(ms: number): void {
    if (!(ms > 0)) return
    const bucket = Math.round(Math.log(ms) / PERIOD_STEP)
    const one = this.lengths.get(bucket) ?? { number: 0, sum: 0 }
    if (one.number === 0 && this.lengths.size >= MAX_PERIODS) return
    this.lengths.set(bucket, one)
    one.number++
    one.sum += ms
    this.samples++
  }

  /** The interval that most keep to, in milliseconds, and the share of them that do; null: too few to tell. */
  get regular(): { ms: number; share: number } | null {
    if (this.samples < 4) return null
    let best = { number: 0, sum: 0 }
    for (const bucket of this.lengths.keys()) {
      const near = [bucket - 1, bucket, bucket + 1].map((at) => this.lengths.get(at) ?? { number: 0, sum: 0 })
      const number = near.reduce((sum, one) => sum + one.number, 0)
      if (number > best.number) best = { number, sum: near.reduce((sum, one) => sum + one.sum, 0) }
    }
    return { ms: best.sum / best.number, share: best.number / this.samples }
  }
}

/** One kind of traffic: who, whom, what, and why it was not allowed. */
export class Sighting {
  readonly id: string
  readonly happened: Happened
  readonly kind: SightingKind
  readonly conduit: string
  readonly client: string
  readonly target: string
  readonly port: number
  readonly reason: string
  /** null: no function, as of a connection or of bytes that are no frame. */
  readonly function: number | null
  readonly sub: number | null
  readonly protocol: 'modbus' | 'opcua'
  /** OPC UA: the service, and where kinds are told apart by them node, method and attribute, as the event writes them. */
  readonly service: string | null
  readonly node: string | null
  readonly method: string | null
  readonly attribute: string | null
  /** Requests, each with one of its items alone: of several kinds together they are no more than there were. */
  requests = 0
  /** OPC UA: items whose node events name, and those that they only count. */
  named = 0
  unnamed = 0
  /** OPC UA: something was written that is no number. */
  valueHidden = false
  /** OPC UA: a channel, each time for want of a rule alone. */
  ruleless = true
  clientAsset: string | null = null
  targetAsset: string | null = null
  /** The rule that came nearest to allowing it, of the latest event. */
  rule: string | null = null
  detail = ''
  count = 0
  /** Milliseconds since 1970. */
  first = Number.POSITIVE_INFINITY
  last = Number.NEGATIVE_INFINITY
  readonly units = new RangeSet()
  readonly addresses = new RangeSet()
  /** FC 23: those written. */
  readonly written = new RangeSet()
  /** Extremes of the values written. */
  least = Number.POSITIVE_INFINITY
  greatest = Number.NEGATIVE_INFINITY
  /** Not all units, addresses or values are known. */
  partial = false
  responses = 0
  exceptions = 0
  /** Days since 1970 (UTC), and hours. */
  readonly days = new Set<number>()
  readonly hours = new Set<number>()
  readonly intervals = new Intervals()
  /** When each worker's latest was: what two of them saw is not one after the other. */
  private readonly latest = new Map<number, number>()

  constructor(
    id: string,
    happened: Happened,
    kind: SightingKind,
    fields: Fields,
    code: number | null,
    sub: number | null,
  ) {
    this.id = id
    this.happened = happened
    this.kind = kind
    this.conduit = text(fields.conduit)
    this.client = text(fields.client)
    this.target = text(fields.target)
    this.port = Number(fields.target_port ?? 502)
    this.reason = text(fields.reason)
    this.function = code
    this.sub = sub
    this.protocol = fields.protocol === 'opcua' ? 'opcua' : 'modbus'
    const of = opcuaParts(fields, kind)
    this.service = of.service
    this.node = of.node
    this.method = of.method
    this.attribute = of.attribute
  }

  /** @param listed it is one of several that the event lists, each with what is known of it: the requests counted with it */
  add(fields: Fields, listed: number | null = null): void {
    const time = Date.parse(text(fields.time))
    const count = Math.max(1, Number(fields.count ?? 1))
    const [first, last] = [fields.first, fields.last].map((one) => (one === undefined ? time : Date.parse(text(one))))
    if (![time, count, first, last].every(Number.isFinite)) return
    this.count += count
    this.requests += listed ?? count
    this.clientAsset = textOrNull(fields.client_asset) ?? this.clientAsset
    this.targetAsset = textOrNull(fields.target_asset) ?? this.targetAsset
    this.rule = textOrNull(fields.rule)
    this.detail = text(fields.detail)
    this.ruleless &&= this.protocol === 'opcua' && lacksRule(this.kind, this.reason, this.detail)
    this.responses += Number(fields.responses ?? 0)
    this.exceptions += Number(fields.exceptions ?? 0)
    const worker = Number(fields.worker ?? 0)
    const before = this.latest.get(worker)
    // Of many the mean says more than the pause before them, which may be a night.
    if (count > 1) this.intervals.add((last - first) / (count - 1))
    else if (before !== undefined) this.intervals.add(first - before)
    this.latest.set(worker, last)
    this.first = Math.min(this.first, first)
    this.last = Math.max(this.last, last)
    for (let day = Math.floor(first / DAY_MS); day <= Math.min(last / DAY_MS, first / DAY_MS + 2); day++)
      this.days.add(day)
    for (let hour = Math.floor(first / HOUR_MS); hour <= last / HOUR_MS && this.hours.size < MAX_HOURS; hour++)
      this.hours.add(hour)
    if (this.protocol === 'opcua') this.writes(fields, count, listed !== null)
    else if (this.kind === 'request') this.reaches(fields, count)
  }

  /** An event of many, or of a request with several denied items, names one node of them where it does not list them. */
  private writes(fields: Fields, count: number, listed: boolean): void {
    if (this.node === null) return
    this.named += listed ? count : 1
    if (!listed) this.unnamed += count - 1 + Math.max(1, Number(fields.denied ?? fields.items ?? 1)) - 1
    if (listed ? fields.more_nodes === 'yes' : count > 1 || Number(fields.denied ?? 1) > 1) this.partial = true
    if (this.reason !== 'value') return
    if (listed) {
      if (fields.other === true) this.valueHidden = true
      this.least = Math.min(this.least, Number(fields.least ?? Number.POSITIVE_INFINITY))
      this.greatest = Math.max(this.greatest, Number(fields.greatest ?? Number.NEGATIVE_INFINITY))
      return
    }
    if (fields.value === undefined) return
    const numbers = numbersOf(text(fields.value))
    if (numbers === null) {
      this.valueHidden = true
      return
    }
    this.least = Math.min(this.least, ...numbers)
    this.greatest = Math.max(this.greatest, ...numbers)
  }

  private reaches(fields: Fields, count: number): void {
    // Without a list of them the event's own is one of `count`.
    this.include(this.units, fields.units ?? fields.unit_id)
    if (fields.addresses !== undefined) this.include(this.addresses, fields.addresses)
    else if (fields.address !== undefined) {
      const [address, quantity] = [Number(fields.address), Number(fields.quantity ?? 1)]
      this.include(this.addresses, `${address}-${address + quantity - 1}`)
      if (count > 1) this.partial = true
    }
    if (fields.write_addresses !== undefined) this.include(this.written, fields.write_addresses)
    else if (fields.write_address !== undefined) {
      const [address, quantity] = [Number(fields.write_address), Number(fields.write_quantity ?? 1)]
      this.include(this.written, `${address}-${address + quantity - 1}`)
    }
    if (fields.more_addresses === 'yes') this.partial = true
    if (fields.least !== undefined) {
      this.least = Math.min(this.least, Number(fields.least))
      this.greatest = Math.max(this.greatest, Number(fields.greatest))
      return
    }
    if (this.function === null || !VALUED.has(this.function)) return
    if (text(fields.values).endsWith('…')) this.partial = true
    for (const value of writtenIn(fields)) {
      this.least = Math.min(this.least, value)
      this.greatest = Math.max(this.greatest, value)
    }
  }

  /** @param ranges `7`, or `0-9, 20` */
  private include(set: RangeSet, ranges: unknown): void {
    if (ranges === undefined) return
    for (const [, low, high] of text(ranges).matchAll(/(\d+)(?:-(\d+))?/g)) {
      const [from, to] = [Number(low), Number(high ?? low)]
      if (from <= to && to <= 65535 && !set.add(from, to, set.size < MAX_RANGES)) this.partial = true
    }
  }
}

const text = (value: unknown): string => (typeof value === 'string' || typeof value === 'number' ? String(value) : '')
const textOrNull = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null)

/** Functions whose events show the values that they write. */
const VALUED = new Set([5, 6, 15, 16, 23])

const writtenIn = (fields: Fields): number[] => (text(fields.values).match(/\b\d+\b/g) ?? []).map(Number)

/** Items that one event may list: more than gateways do. */
const MAX_ITEMS = 256

/** What an event lists of OPC UA, each item as fields in place of the event's own; null: kinds of it are told by no node, or it lists none. */
function itemsOf(fields: Fields): Fields[] | null {
  if (!isNarrow(text(fields.function), text(fields.reason)) || typeof fields.nodes !== 'string') return null
  let list: unknown
  try {
    list = JSON.parse(fields.nodes)
  } catch {
    return null
  }
  if (!Array.isArray(list) || list.length === 0 || list.length > MAX_ITEMS) return null
  if (!list.every((one) => typeof one === 'object' && one !== null && typeof one.node === 'string')) return null
  return list.map(({ node, method, attribute, count = 1, responses = 0, exceptions = 0, least, greatest, other }) => ({
    ...{ node, method, attribute, count, responses, exceptions, least, greatest, other },
  }))
}

const codeOf = ({ function_code: code }: Fields): number | null => (typeof code === 'number' && code > 0 ? code : null)

/** What tells kinds of OPC UA apart. */
function opcuaParts(
  fields: Fields,
  kind: SightingKind,
): Record<'service' | 'node' | 'method' | 'attribute', string | null> {
  const service = fields.protocol === 'opcua' && kind === 'request' ? textOrNull(fields.function) : null
  if (service === null || !isNarrow(service, text(fields.reason)))
    return { service, node: null, method: null, attribute: null }
  const [node, method, attribute] = [fields.node, fields.method, fields.attribute].map(textOrNull)
  return { service, node, method, attribute }
}

/** Families of events that are counted, with what each is of. */
const EVENT_OF: Readonly<Record<string, readonly [Happened, SightingKind]>> = {
  'request.would_deny': ['would-deny', 'request'],
  'request.denied': ['denied', 'request'],
  'response.would_deny': ['would-deny', 'response'],
  'response.denied': ['denied', 'response'],
  'connection.would_refuse': ['would-deny', 'connection'],
  'connection.refused': ['denied', 'connection'],
  'channel.would_deny': ['would-deny', 'channel'],
  'channel.denied': ['denied', 'channel'],
  'shadow.would_deny': ['shadow-deny', 'request'],
  'shadow.would_allow': ['shadow-allow', 'request'],
}

/** Kinds of channels, and endpoint URLs, of one client, target and port. */
const MAX_CHANNELS = 64
const MAX_URLS = 32
const DISCOVERY: ReadonlySet<string> = new Set(
  SERVICES.filter(({ group }) => group === 'discovery').map(({ name }) => name),
)

export interface Channels {
  kinds: Map<string, { policy: string; mode: string; opened: number; requests: number }>
  urls: Set<string>
}

/** All that the evidence tells. */
export class Sightings {
  readonly all = new Map<string, Sighting>()
  /** On what the policy in force and the latest shadow policy differ. */
  readonly differences = new Map<string, Sighting>()
  /** SHA-256 of the latest shadow policy, and since when it judges; null: there was none. */
  shadow: { sha256: string; since: number } | null = null
  /** What could not be compared, by the reason why. */
  readonly uncompared = new Map<string, number>()
  /** Events of more kinds than are kept apart. */
  dropped = 0
  /** Records read, and lines that are none. */
  records = 0
  unread = 0
  /** Milliseconds since 1970; infinite where there is no record. */
  first = Number.POSITIVE_INFINITY
  last = Number.NEGATIVE_INFINITY
  /** OPC UA: channels of each client, target and port. */
  readonly channels = new Map<string, Channels>()
  /** Requests that a target did not answer in time, by client, target and port. */
  readonly timeouts = new Map<string, number>()
  /** When each policy was last put into force, by its SHA-256. */
  readonly policies = new Map<string, number>()

  /** Takes one record of the evidence. */
  add(fields: Fields): void {
    const event = text(fields.event)
    const time = Date.parse(text(fields.time))
    this.records++
    if (Number.isFinite(time)) {
      this.first = Math.min(this.first, time)
      this.last = Math.max(this.last, time)
    }
    if (event === 'shadow.loaded' && text(fields.shadow) !== '') this.differencesOf(text(fields.shadow), time)
    if (event === 'shadow.not_compared') this.notCompared(fields, time)
    if (event === 'policy.loaded') this.policies.set(text(fields.policy), time)
    if (event === 'target.timeout') {
      const key = `${text(fields.client)} ${text(fields.target)} ${text(fields.target_port)}`
      this.timeouts.set(key, (this.timeouts.get(key) ?? 0) + Number(fields.count ?? 1))
    }
    if (fields.protocol === 'opcua') this.channel(event, fields)
    const what = Object.hasOwn(EVENT_OF, event) ? EVENT_OF[event] : undefined
    const protocol = text(fields.protocol)
    if (what === undefined || (protocol !== 'modbus' && protocol !== 'opcua')) return
    const [happened] = what
    const code = codeOf(fields)
    const kind = happened.startsWith('shadow') ? comparedKind(protocol, code, fields.function) : what[1]
    const into = happened.startsWith('shadow') ? this.differencesOf(text(fields.shadow), time) : this.all
    const listed = kind === 'request' && protocol === 'opcua' ? itemsOf(fields) : null
    if (listed === null) this.sight(into, happened, kind, fields, null)
    else {
      const count = Number(fields.count ?? 1)
      for (const [i, item] of listed.entries()) {
        this.sight(into, happened, kind, { ...fields, ...item }, i === 0 ? count : 0)
      }
    }
  }

  private sight(
    into: Map<string, Sighting>,
    happened: Happened,
    kind: SightingKind,
    fields: Fields,
    listed: number | null,
  ): void {
    const protocol = text(fields.protocol)
    const code = codeOf(fields)
    const sub = code === null ? null : subOf(code, fields.sub_function)
    const of = opcuaParts(fields, kind)
    const apart = protocol === 'opcua' ? ['opcua', of.service, of.node, of.method, of.attribute] : []
    const { conduit, client, target, target_port: port, reason } = fields
    const id = keyOf(happened, kind, ...[conduit, client, target, port, reason].map(text), code, sub, ...apart)
    let sighting = into.get(id)
    if (sighting === undefined) {
      if (into.size >= MAX_SIGHTINGS) {
        this.dropped += Number(fields.count ?? 1)
        return
      }
      sighting = new Sighting(id, happened, kind, fields, code, sub)
      into.set(id, sighting)
    }
    sighting.add(fields, listed)
  }

  private notCompared(fields: Fields, time: number): void {
    this.differencesOf(text(fields.shadow), time)
    const why = `${text(fields.conduit)}: ${text(fields.detail)}`
    if (this.uncompared.size >= MAX_RANGES && !this.uncompared.has(why)) return
    this.uncompared.set(why, (this.uncompared.get(why) ?? 0) + Number(fields.count ?? 1))
  }

  /** Notes what an event says of its channel. */
  private channel(event: string, fields: Fields): void {
    const key = `${text(fields.client)} ${text(fields.target)} ${text(fields.target_port)}`
    let one = this.channels.get(key)
    if (one === undefined) {
      if (this.channels.size >= MAX_SIGHTINGS) return
      one = { kinds: new Map(), urls: new Set() }
      this.channels.set(key, one)
    }
    const url = text(fields.endpoint_url).slice(0, 4096)
    if (url !== '' && one.urls.size < MAX_URLS) one.urls.add(url)
    const policy = text(fields.security_policy).slice(0, 64)
    const mode = text(fields.security_mode).slice(0, 32)
    // What stays encrypted is learned nothing of.
    const hidden = mode === 'SignAndEncrypt' && fields.visibility !== 'inspected'
    if (policy === '' || mode === '' || mode === 'undecided' || hidden) return
    const kind = one.kinds.get(`${policy} ${mode}`) ?? { policy, mode, opened: 0, requests: 0 }
    if (one.kinds.size >= MAX_CHANNELS && kind.opened + kind.requests === 0) return
    one.kinds.set(`${policy} ${mode}`, kind)
    const count = Math.max(1, Number(fields.count ?? 1)) || 1
    if (event === 'channel.opened') kind.opened += count
    else if (event.startsWith('request.') && !DISCOVERY.has(text(fields.function))) kind.requests += count
  }

  /** Another shadow policy begins anew. */
  private differencesOf(sha256: string, time: number): Map<string, Sighting> {
    if (this.shadow?.sha256 !== sha256) {
      this.differences.clear()
      this.uncompared.clear()
      this.shadow = { sha256, since: time }
    }
    return this.differences
  }
}

/** A shadow policy tells of connections and channels by the same events as of requests. */
function comparedKind(protocol: string, code: number | null, service: unknown): SightingKind {
  if (protocol === 'modbus') return code === null ? 'connection' : 'request'
  if (service === undefined) return 'connection'
  return service === 'OpenSecureChannel' ? 'channel' : 'request'
}

/** The number of a sub-function, from its name. */
function subOf(code: number, name: unknown): number | null {
  if (typeof name !== 'string' || (code !== 8 && code !== 43)) return null
  return parseFunction(`${code}/${name}`)?.[0]?.sub ?? null
}
