/** The baseline as a file: what a plant's traffic was, as JSON that other programs can read; its schema and merging. */
import { z } from 'zod'
import { MODBUS_TABLES } from '../policy/model.ts'
import { DEVIATIONS } from './outstanding.ts'
import { joinRanges } from './ranges.ts'
import { figuresOf, mergeHistograms } from './rate.ts'

/** Raised when a reader of an older version would misunderstand the file. */
export const BASELINE_VERSION = 1

const count = z.number().int().min(0)
const word = z.number().int().min(0).max(65535)
const address = z.union([z.ipv4(), z.ipv6()])
const time = z.iso.datetime()
const range = z.tuple([word, word]).refine(([low, high]) => low <= high, 'a range begins with its lower end')

const rate = z
  .strictObject({
    p50: count,
    p99: count,
    max: count,
    seconds: z
      .array(z.tuple([count, count]))
      .describe('[events in one second, number of such seconds]; from 128 on in steps, each named by its greatest'),
  })
  .describe('events a second, over the seconds that have any')

const tables = <T extends z.ZodType>(what: T) => z.partialRecord(z.enum(MODBUS_TABLES), what)

const flow = z.strictObject({
  client: address,
  target: address,
  port: word,
  unit: z.number().int().min(0).max(255),
  function: z.number().int().min(0).max(255).describe('function code'),
  sub: word.nullable().describe('sub-function of FC 8, MEI type of FC 43; null for all other functions'),
  requests: count.describe('malformed ones included'),
  responses: count.describe('responses that are no exception'),
  exceptions: z.record(z.string().regex(/^\d{1,3}$/), count).describe('by exception code; 0: not known which'),
  malformed: count.describe('requests that break the specification'),
  deviations: z
    .partialRecord(z.enum(DEVIATIONS), count)
    .describe('responses that a strict conduit would not let through: by quirk, malformed, or not what was asked for'),
  first: time,
  last: time,
  addresses: tables(z.array(range)).describe('addresses used, zero-based, of well-formed requests; FC 23: both parts'),
  values: tables(z.array(z.strictObject({ range, min: word, max: word, writes: count }))).describe(
    'values written, by addresses with the same extremes and the same number of writes (to each of them)',
  ),
  rate,
})

const client = z.strictObject({
  address,
  requests: count,
  rate,
  connecting: rate.describe('new connections a second'),
  concurrent: count.describe('most connections open at one time'),
})

const target = z.strictObject({ address, port: word, requests: count, rate, concurrent: count })

const connection = z.strictObject({
  client: address,
  target: address,
  port: word,
  opened: count,
  unanswered: count.describe('the target never answered the connection, or refused it'),
  idle: count.describe('answered, and no request was sent'),
  malformed: count.describe('requests that have no function: wrong protocol identifier or MBAP length'),
  unsolicited: count.describe('responses that answer no request'),
  targetSeen: z.boolean().describe("the target's direction was captured"),
  gapBytes: count,
  first: time,
  last: time,
})

const node = z.strictObject({
  node: z.string().max(8192).describe('NodeId; the object of a Call'),
  method: z.string().max(8192).nullable().describe('NodeId of the method of a Call; null for all other services'),
  attribute: z.string().max(64).nullable().describe('that was written; null for services that write nothing'),
  requests: count.describe('items that named it; NodeIds that RegisterNodes gave out count as what they stand for'),
  least: z.number().nullable().describe('least number that was written; null: none'),
  greatest: z.number().nullable(),
})

const service = z.strictObject({
  requests: count.describe('malformed ones included'),
  responses: count.describe('that are no fault'),
  faults: count.describe('a ServiceFault, or a service result that is bad'),
  malformed: count.describe('requests that name nodes, and break the specification'),
  unread: count.describe('requests whose nodes could not be read: bytes of them are missing, or they are too long'),
  unlisted: count.describe('items of a node that is not in `nodes`: there was no room for another'),
  first: time,
  last: time,
  rate,
  nodes: z.array(node).describe('by node, attribute and method; of services that read, browse, subscribe, write, call'),
})

const opcua = z.strictObject({
  client: address,
  target: address,
  port: word,
  opened: count.describe('connections'),
  reversed: count.describe('of these, opened by the server to `port` of the client (reverse connect)'),
  services: z
    .record(z.string().max(64), service)
    .describe('by name; encrypted: on channels that hide it; unknown: of no service'),
  responses: count.describe('faults, and responses whose request was not seen, included'),
  faults: count,
  channels: z
    .array(
      z.strictObject({
        policy: z.string().max(64),
        mode: z.string().max(32),
        opened: count,
        requests: count.describe('those of discovery, and of the channel itself, left out'),
      }),
    )
    .describe('security policy and mode; unknown, or in clear: the capture does not have their opening'),
  endpoint_urls: z.array(z.string().max(4096)).describe('that clients asked for'),
  garbage: count.describe('bytes that belong to no chunk'),
  gapBytes: count,
  first: time,
  last: time,
})

const source = z.strictObject({
  name: z.string(),
  packets: count,
  bytes: count,
  first: time.nullable(),
  last: time.nullable(),
  notes: z.array(z.string()).describe('what could not be used, and why'),
})

export const baselineSchema = z.strictObject({
  format: z.literal('headgate-baseline'),
  version: z.literal(BASELINE_VERSION),
  first: time.nullable(),
  last: time.nullable(),
  sources: z.array(source),
  clients: z.array(client),
  targets: z.array(target),
  connections: z.array(connection),
  flows: z.array(flow),
  opcua: z.array(opcua).default([]).describe('OPC UA, by client and target'),
})

export type BaselineFile = z.infer<typeof baselineSchema>
export type BaselineFlow = z.infer<typeof flow>
export type BaselineClient = z.infer<typeof client>
export type BaselineTarget = z.infer<typeof target>
export type BaselineConnection = z.infer<typeof connection>
export type BaselineOpcUa = z.infer<typeof opcua>
export type BaselineService = z.infer<typeof service>
export type BaselineNode = z.infer<typeof node>
export type BaselineSource = z.infer<typeof source>
type RateRow = z.infer<typeof rate>

/** Of what is not counted by the second, or not yet. */
export const NO_RATE: RateRow = { p50: 0, p99: 0, max: 0, seconds: [] }

/** Not a baseline. `message` is one line. */
export class NotABaseline extends Error {}

/** @param name for messages. Throws `NotABaseline`. */
export function parseBaseline(text: string, name: string): BaselineFile {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new NotABaseline(`${name}: not JSON: ${(error as Error).message.replaceAll(/\s+/g, ' ')}`)
  }
  const { version } = (value ?? {}) as { version?: unknown }
  if (typeof version === 'number' && version > BASELINE_VERSION) {
    throw new NotABaseline(`${name}: baseline of version ${version}, this Headgate reads up to ${BASELINE_VERSION}`)
  }
  const parsed = baselineSchema.safeParse(value)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw new NotABaseline(`${name}: not a baseline: ${issue.path.join('.') || 'document'}: ${issue.message}`)
}

export function emptyBaseline(): BaselineFile {
  return {
    format: 'headgate-baseline',
    version: BASELINE_VERSION,
    first: null,
    last: null,
    sources: [],
    clients: [],
    targets: [],
    connections: [],
    flows: [],
    opcua: [],
  }
}

/** Both together. Counts add up, so merging a baseline with itself counts its traffic twice. */
export function mergeBaselines(a: BaselineFile, b: BaselineFile): BaselineFile {
  return {
    format: a.format,
    version: a.version,
    first: earlier(a.first, b.first),
    last: later(a.last, b.last),
    sources: [...a.sources, ...b.sources],
    clients: mergeRows(a.clients, b.clients, (row) => row.address, mergeClients),
    targets: mergeRows(a.targets, b.targets, (row) => `${row.address} ${row.port}`, mergeTargets),
    connections: mergeRows(a.connections, b.connections, pairKey, mergeConnections),
    flows: mergeRows(a.flows, b.flows, flowKey, mergeFlows),
    opcua: mergeRows(a.opcua, b.opcua, pairKey, mergeOpcUa),
  }
}

/** Names a client and a target. */
export const pairKey = (row: { client: string; target: string; port: number }): string =>
  `${row.client} ${row.target} ${row.port}`

/** Names a flow: client, target, port, unit, function, sub-function. */
export const flowKey = (row: Pick<BaselineFlow, 'client' | 'target' | 'port' | 'unit' | 'function' | 'sub'>): string =>
  `${pairKey(row)} ${row.unit} ${row.function} ${row.sub ?? '-'}`

function mergeRows<T>(a: T[], b: T[], key: (row: T) => string, merge: (x: T, y: T) => T): T[] {
  const rows = new Map(a.map((row) => [key(row), row]))
  for (const row of b) {
    const present = rows.get(key(row))
    rows.set(key(row), present === undefined ? row : merge(present, row))
  }
  return [...rows.values()]
}

export const earlier = <T extends string | null>(a: T, b: T): T => (a === null || (b !== null && b < a) ? b : a)
export const later = <T extends string | null>(a: T, b: T): T => (a === null || (b !== null && b > a) ? b : a)

function mergeRates(a: RateRow, b: RateRow): RateRow {
  const seconds = mergeHistograms(a.seconds, b.seconds)
  return { ...figuresOf(seconds), seconds }
}

function mergeClients(a: BaselineClient, b: BaselineClient): BaselineClient {
  return {
    address: a.address,
    requests: a.requests + b.requests,
    rate: mergeRates(a.rate, b.rate),
    connecting: mergeRates(a.connecting, b.connecting),
    concurrent: Math.max(a.concurrent, b.concurrent),
  }
}

function mergeTargets(a: BaselineTarget, b: BaselineTarget): BaselineTarget {
  return {
    address: a.address,
    port: a.port,
    requests: a.requests + b.requests,
    rate: mergeRates(a.rate, b.rate),
    concurrent: Math.max(a.concurrent, b.concurrent),
  }
}

function mergeConnections(a: BaselineConnection, b: BaselineConnection): BaselineConnection {
  return {
    ...a,
    opened: a.opened + b.opened,
    unanswered: a.unanswered + b.unanswered,
    idle: a.idle + b.idle,
    malformed: a.malformed + b.malformed,
    unsolicited: a.unsolicited + b.unsolicited,
    targetSeen: a.targetSeen || b.targetSeen,
    gapBytes: a.gapBytes + b.gapBytes,
    first: earlier(a.first, b.first),
    last: later(a.last, b.last),
  }
}

function mergeFlows(a: BaselineFlow, b: BaselineFlow): BaselineFlow {
  const addresses: BaselineFlow['addresses'] = {}
  const values: BaselineFlow['values'] = {}
  for (const table of MODBUS_TABLES) {
    const ranges = [...(a.addresses[table] ?? []), ...(b.addresses[table] ?? [])]
    if (ranges.length > 0) addresses[table] = joinRanges(ranges)
    const written = [...(a.values[table] ?? []), ...(b.values[table] ?? [])]
    if (written.length > 0) values[table] = mergeValues(written)
  }
  return {
    ...a,
    requests: a.requests + b.requests,
    responses: a.responses + b.responses,
    exceptions: addCounts(a.exceptions, b.exceptions),
    deviations: addCounts(a.deviations, b.deviations),
    malformed: a.malformed + b.malformed,
    first: earlier(a.first, b.first),
    last: later(a.last, b.last),
    addresses,
    values,
    rate: mergeRates(a.rate, b.rate),
  }
}

function mergeOpcUa(a: BaselineOpcUa, b: BaselineOpcUa): BaselineOpcUa {
  const channels = mergeRows(
    a.channels,
    b.channels,
    ({ policy, mode }) => `${policy} ${mode}`,
    (x, y) => ({ ...x, opened: x.opened + y.opened, requests: x.requests + y.requests }),
  )
  return {
    ...a,
    opened: a.opened + b.opened,
    reversed: a.reversed + b.reversed,
    services: mergeServices(a.services, b.services),
    responses: a.responses + b.responses,
    faults: a.faults + b.faults,
    channels,
    endpoint_urls: [...new Set([...a.endpoint_urls, ...b.endpoint_urls])],
    garbage: a.garbage + b.garbage,
    gapBytes: a.gapBytes + b.gapBytes,
    first: earlier(a.first, b.first),
    last: later(a.last, b.last),
  }
}

/** Nodes of one service; of more, the items are counted as unlisted. */
export const MAX_LISTED = 4000

function mergeServices(a: BaselineOpcUa['services'], b: BaselineOpcUa['services']): BaselineOpcUa['services'] {
  const all = { ...a }
  for (const [name, one] of Object.entries(b)) {
    all[name] = Object.hasOwn(a, name) ? mergeService(a[name], one) : one
  }
  return all
}

function mergeService(a: BaselineService, b: BaselineService): BaselineService {
  const nodes = mergeRows(a.nodes, b.nodes, nodeKey, mergeNodes)
  const over = nodes.slice(MAX_LISTED).reduce((sum, one) => sum + one.requests, 0)
  return {
    requests: a.requests + b.requests,
    responses: a.responses + b.responses,
    faults: a.faults + b.faults,
    malformed: a.malformed + b.malformed,
    unread: a.unread + b.unread,
    unlisted: a.unlisted + b.unlisted + over,
    first: earlier(a.first, b.first),
    last: later(a.last, b.last),
    rate: mergeRates(a.rate, b.rate),
    nodes: over === 0 ? nodes : nodes.slice(0, MAX_LISTED),
  }
}

/** Requests of some services; those that there are none of count nothing. */
export const requestsOf = ({ services }: BaselineOpcUa, names: readonly string[]): number =>
  names.reduce((sum, name) => sum + (Object.hasOwn(services, name) ? services[name].requests : 0), 0)

/** Names a node among those of one service. */
export const nodeKey = ({ node, method, attribute }: BaselineNode): string => JSON.stringify([node, method, attribute])

function mergeNodes(a: BaselineNode, b: BaselineNode): BaselineNode {
  const least = a.least === null || b.least === null ? (a.least ?? b.least) : Math.min(a.least, b.least)
  const greatest =
    a.greatest === null || b.greatest === null ? (a.greatest ?? b.greatest) : Math.max(a.greatest, b.greatest)
  return { ...a, requests: a.requests + b.requests, least, greatest }
}

function addCounts<K extends string>(a: Partial<Record<K, number>>, b: Partial<Record<K, number>>): Record<K, number> {
  const sum = { ...a } as Record<K, number>
  for (const [key, n] of Object.entries(b) as [K, number][]) sum[key] = (sum[key] ?? 0) + n
  return sum
}

export interface ValueRow {
  range: [number, number]
  min: number
  max: number
  /** How many times each address of the range was written. */
  writes: number
}

/** One row for each address, whatever flows they come from; neighbours that are alike together. */
export function mergeValues(rows: readonly ValueRow[]): ValueRow[] {
  const places = new Map<number, ValueRow>()
  for (const { range, min, max, writes } of rows) {
    for (let at = range[0]; at <= range[1]; at++) {
      const one = places.get(at) ?? { range: [at, at], min, max, writes: 0 }
      places.set(at, one)
      one.min = Math.min(one.min, min)
      one.max = Math.max(one.max, max)
      one.writes += writes
    }
  }
  return groupValues([...places.values()].sort((a, b) => a.range[0] - b.range[0]))
}

/** Neighbours that are alike in one row. @param rows ascending, apart */
export function groupValues(rows: readonly ValueRow[]): ValueRow[] {
  const groups: ValueRow[] = []
  for (const { range, min, max, writes } of rows) {
    const last = groups.at(-1)
    const alike = last !== undefined && last.min === min && last.max === max && last.writes === writes
    if (alike && last.range[1] === range[0] - 1) last.range[1] = range[1]
    else groups.push({ range: [range[0], range[1]], min, max, writes })
  }
  return groups
}

/** The values of a flow that were written to `addresses`. */
export function valuesWithin(flow: BaselineFlow, addresses: BaselineFlow['addresses']): BaselineFlow['values'] {
  const values: BaselineFlow['values'] = {}
  for (const table of MODBUS_TABLES) {
    const rows = (flow.values[table] ?? []).flatMap((row) =>
      (addresses[table] ?? [])
        .map(([low, high]): [number, number] => [Math.max(low, row.range[0]), Math.min(high, row.range[1])])
        .filter(([low, high]) => low <= high)
        .map((part) => ({ ...row, range: part })),
    )
    if (rows.length > 0) values[table] = rows
  }
  return values
}
