/**
 * The baseline that a gateway keeps while it monitors: the main thread's part. Puts the workers' shares together and
 * writes the file, whole or not at all, every half minute and at the end. A restart goes on where the file is; a crash
 * loses what came since it was written.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { EventInput } from '../records/catalogue.ts'
import {
  type BaselineFile,
  type BaselineOpcUa,
  type BaselineSource,
  emptyBaseline,
  flowKey,
  mergeBaselines,
  NO_RATE,
  NotABaseline,
  nodeKey,
  pairKey,
  parseBaseline,
} from './baseline-file.ts'
import { BASELINE_NAME } from './decisions.ts'
import type { BaselineShare, Seconds } from './live.ts'
import type { OpcUaShare } from './opcua-gatherer.ts'
import { bucketOf, figuresOf } from './rate.ts'

const SAVE_MS = 30_000
/** After this, no worker counts events of a second any more. */
const SETTLED_S = 20
/** A pause that is longer than this was no restart: what is watched then is told apart. */
const PAUSE_MS = 600_000
/** Rows of flows in the file; beyond them only those that are there are kept up. */
const MAX_FLOWS = 20_000
const MAX_PAIRS = 10_000
/** Nodes of OPC UA in the file, of all clients and services together. */
const MAX_NODES = 100_000
const MAX_SOURCES = 1000

/** Counts of seconds that are not over yet, by what they are counted for. */
class Settling {
  private readonly seconds = new Map<string, Map<number, number>>()

  add(key: string, counts: Seconds): void {
    if (counts.length === 0) return
    const sums = this.seconds.get(key) ?? new Map<number, number>()
    this.seconds.set(key, sums)
    for (const [second, events] of counts) sums.set(second, (sums.get(second) ?? 0) + events)
  }

  /** The histogram of the seconds before `until`, which are forgotten. */
  take(key: string, until: number): [number, number][] {
    const sums = this.seconds.get(key)
    if (sums === undefined) return []
    const histogram = new Map<number, number>()
    for (const [second, events] of sums) {
      if (second >= until) continue
      sums.delete(second)
      const bucket = bucketOf(events)
      histogram.set(bucket, (histogram.get(bucket) ?? 0) + 1)
    }
    if (sums.size === 0) this.seconds.delete(key)
    return [...histogram].sort((a, b) => a[0] - b[0])
  }

  keys(): string[] {
    return [...this.seconds.keys()]
  }
}

export class BaselineKeeper {
  readonly directory: string
  private baseline: BaselineFile = emptyBaseline()
  private readonly settling = new Settling()
  /** Most connections at one time, by host and worker. */
  private readonly concurrent = new Map<string, Map<number, number>>()
  /** When this gateway watches; what is before it is in the file. */
  private source: BaselineSource
  private readonly tell: (event: EventInput) => void
  private readonly watching: () => boolean
  private timer: NodeJS.Timeout | null = null
  private saving: Promise<void> = Promise.resolve()
  /** What was there before has been read: until then nothing is written over it. */
  private loaded = false
  private failed = false
  private full = false
  /** Nodes of OPC UA in the file. */
  private nodes = 0

  /**
   * @param gateway its name
   * @param watching whether a conduit monitors now
   * @param tell takes events
   */
  constructor(directory: string, gateway: string, watching: () => boolean, tell: (event: EventInput) => void) {
    this.directory = directory
    this.watching = watching
    this.tell = tell
    const now = new Date().toISOString()
    this.source = { name: `gateway ${gateway}`, packets: 0, bytes: 0, first: now, last: now, notes: [] }
  }

  private get file(): string {
    return join(this.directory, BASELINE_NAME)
  }

  async open(): Promise<void> {
    await this.load().catch((error: Error) => this.fail(error))
    const { first, flows, opcua } = this.baseline
    const services = opcua.reduce((sum, row) => sum + Object.keys(row.services).length, 0)
    const since = first === null ? 'nothing yet' : `${flows.length + services} flows since ${first}`
    this.tell({ event: 'baseline.opened', file: this.file, detail: since })
    this.timer = setInterval(() => void this.save(), SAVE_MS)
    this.timer.unref()
  }

  /** Reads what there is. What is no baseline is put aside, and said. */
  private async load(): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o750 })
    const text = await readFile(this.file, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null
      throw error
    })
    try {
      if (text !== null) this.baseline = mergeBaselines(parseBaseline(text, this.file), this.baseline)
    } catch (error) {
      if (!(error instanceof NotABaseline)) throw error
      await this.setAside(error.message)
    }
    this.nodes = this.baseline.opcua
      .flatMap((row) => Object.values(row.services))
      .reduce((sum, { nodes }) => sum + nodes.length, 0)
    this.resume()
    this.loaded = true
  }

  /** A restart goes on with the span of time that it broke off. */
  private resume(): void {
    const { sources } = this.baseline
    const last = sources.at(-1)
    if (last?.name !== this.source.name || last.last === null) return
    const pause = Date.parse(this.source.first as string) - Date.parse(last.last)
    if ((pause >= 0 && pause < PAUSE_MS) || sources.length >= MAX_SOURCES) this.source = sources.pop() as BaselineSource
  }

  private async setAside(why: string): Promise<void> {
    const aside = `${this.file}.damaged-${new Date().toISOString().replaceAll(':', '')}`
    await rename(this.file, aside)
    this.tell({ event: 'baseline.set_aside', file: aside, detail: why })
  }

  /** Takes a worker's share. */
  take(worker: number, share: BaselineShare): void {
    const { baseline } = this
    const known = new Set(baseline.flows.map(flowKey))
    const pairs = new Set(baseline.connections.map(pairKey))
    let { dropped } = share
    const room = <T>(rows: T[], key: (row: T) => string, there: Set<string>, most: number): T[] =>
      rows.filter((row) => {
        const name = key(row)
        const kept = there.has(name) || there.size < most
        if (kept) there.add(name)
        else dropped++
        return kept
      })
    const flows = room(share.flows, flowKey, known, MAX_FLOWS)
    const connections = room(share.connections, pairKey, pairs, MAX_PAIRS)
    const opcua = room(share.opcua, pairKey, new Set(baseline.opcua.map(pairKey)), MAX_PAIRS)
    for (const flow of flows) this.settling.add(`f ${flowKey(flow)}`, flow.seconds)
    const listed = opcua.map((row) => this.services(row, baseline))
    for (const { services } of listed) for (const { unlisted } of Object.values(services)) dropped += unlisted
    const delta: BaselineFile = {
      ...emptyBaseline(),
      connections,
      flows: flows.map(({ seconds: _, ...flow }) => ({ ...flow, rate: NO_RATE })),
      opcua: listed,
    }
    for (const { address, port, requests, seconds, connecting, concurrent } of share.hosts) {
      const name = port === undefined ? address : `${address} ${port}`
      const key = port === undefined ? `c ${name}` : `t ${name}`
      this.settling.add(key, seconds)
      const most = this.most(key, worker, concurrent)
      if (port === undefined) {
        this.settling.add(`n ${name}`, connecting)
        delta.clients.push({ address, requests, rate: NO_RATE, connecting: NO_RATE, concurrent: most })
      } else delta.targets.push({ address, port, requests, rate: NO_RATE, concurrent: most })
    }
    for (const { first, last } of [...connections, ...opcua]) {
      if (first > last) continue
      if (delta.first === null || first < delta.first) delta.first = first
      if (delta.last === null || last > delta.last) delta.last = last
    }
    this.baseline = mergeBaselines(baseline, delta)
    if (dropped > 0 && !this.full) {
      this.full = true
      const detail = 'more kinds of traffic than are kept apart: what is new is not in the baseline'
      this.tell({ event: 'baseline.full', file: this.file, detail, count: dropped })
    }
  }

  /** A row of the file; of nodes that there is no room for the items are counted. */
  private services(row: OpcUaShare<Seconds>, { opcua }: BaselineFile): BaselineOpcUa {
    const present = opcua.find((one) => pairKey(one) === pairKey(row))?.services ?? {}
    const services: BaselineOpcUa['services'] = {}
    for (const [name, { seconds, ...service }] of Object.entries(row.services)) {
      this.settling.add(`o ${pairKey(row)} ${name}`, seconds)
      const known = new Set(Object.hasOwn(present, name) ? present[name].nodes.map(nodeKey) : [])
      const nodes = service.nodes.filter((one) => known.has(nodeKey(one)) || this.nodes++ < MAX_NODES)
      const left = service.nodes.reduce((sum, one) => sum + (nodes.includes(one) ? 0 : one.requests), 0)
      services[name] = { ...service, nodes, unlisted: service.unlisted + left, rate: NO_RATE }
    }
    return { ...row, services }
  }

  /** Each worker's most may have been at another time than the others': the sum is not too low. */
  private most(key: string, worker: number, concurrent: number): number {
    const workers = this.concurrent.get(key) ?? new Map<number, number>()
    this.concurrent.set(key, workers)
    workers.set(worker, Math.max(workers.get(worker) ?? 0, concurrent))
    return [...workers.values()].reduce((sum, one) => sum + one, 0)
  }

  /** The baseline as it is now. */
  private current(all: boolean): BaselineFile {
    if (this.watching()) this.source.last = new Date().toISOString()
    this.settle(all ? Number.POSITIVE_INFINITY : Math.floor(Date.now() / 1000) - SETTLED_S)
    return { ...this.baseline, sources: [...this.baseline.sources, this.source] }
  }

  /** Puts seconds that are over into the rates. */
  private settle(until: number): void {
    const taken = new Map(this.settling.keys().map((key) => [key, this.settling.take(key, until)]))
    const settled = <T extends { seconds: [number, number][] }>(rate: T, key: string) => {
      const more = taken.get(key)
      if (more === undefined || more.length === 0) return rate
      const sums = new Map(rate.seconds)
      for (const [events, n] of more) sums.set(events, (sums.get(events) ?? 0) + n)
      const seconds = [...sums].sort((a, b) => a[0] - b[0])
      return { ...figuresOf(seconds), seconds }
    }
    const { clients, targets, flows, opcua } = this.baseline
    this.baseline = {
      ...this.baseline,
      clients: clients.map((one) => ({
        ...one,
        rate: settled(one.rate, `c ${one.address}`),
        connecting: settled(one.connecting, `n ${one.address}`),
      })),
      targets: targets.map((one) => ({ ...one, rate: settled(one.rate, `t ${one.address} ${one.port}`) })),
      flows: flows.map((one) => ({ ...one, rate: settled(one.rate, `f ${flowKey(one)}`) })),
      opcua: opcua.map((row) => ({
        ...row,
        services: Object.fromEntries(
          Object.entries(row.services).map(([name, one]) => [
            name,
            { ...one, rate: settled(one.rate, `o ${pairKey(row)} ${name}`) },
          ]),
        ),
      })),
    }
  }

  /** Writes the file. Never rejects: what fails is said once. */
  save(all = false): Promise<void> {
    this.saving = this.saving.then(() => this.write(all))
    return this.saving
  }

  private async write(all: boolean): Promise<void> {
    try {
      if (!this.loaded) await this.load()
      await writeFile(`${this.file}.new`, `${JSON.stringify(this.current(all), null, 1)}\n`, { mode: 0o640 })
      await rename(`${this.file}.new`, this.file)
    } catch (error) {
      this.fail(error as Error)
      return
    }
    if (this.failed) this.tell({ event: 'baseline.resumed', file: this.file })
    this.failed = false
  }

  private fail(error: Error): void {
    if (!this.failed) this.tell({ event: 'baseline.failed', file: this.file, detail: error.message })
    this.failed = true
  }

  /** Writes all there is, and stops. */
  async close(): Promise<void> {
    if (this.timer !== null) clearInterval(this.timer)
    await this.save(true)
  }
}
