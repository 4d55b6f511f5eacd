/**
 * What known assets would have been denied in the last 24 hours, by conduit: one entry for each kind, bounded, and on the
 * disk so that a restart does not forget it. It is fed by the events of the workers, of which storm control has made one
 * for each kind and interval; so a kind is known at once, and its number after the interval.
 */
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import type { EventInput } from '../../records/catalogue.ts'
import { readsOf } from './settled.ts'
import { writeWhole } from './state.ts'

const FILE = 'would-deny.json'
const MAX_BYTES = 16 << 20
/** Kinds kept of one conduit; of more, only their number is kept. */
const MAX_KINDS = 1000
export const LEDGER_MS = 24 * 3_600_000

const range = z.tuple([z.number(), z.number()])
const readsSchema = z.strictObject({
  client: z.string(),
  target: z.string(),
  port: z.number(),
  code: z.number(),
  units: z.array(range),
  addresses: z.array(range),
})

/** Requests that read, as far as `settled.ts` has to know them. */
export type Reads = z.infer<typeof readsSchema>

/** The same of OPC UA: a service that reads, and that no rule spoke of. */
const serviceSchema = z.strictObject({ client: z.string(), target: z.string(), port: z.number(), service: z.string() })
export type ServiceRead = z.infer<typeof serviceSchema>

const kindSchema = z.strictObject({
  conduit: z.string(),
  /** Asset that asked, what it asked, and why it would have been denied. */
  client: z.string(),
  target: z.string(),
  what: z.string(),
  reason: z.string(),
  count: z.number(),
  /** Milliseconds since the epoch. */
  first: z.number(),
  last: z.number(),
  /** SHA-256 of the document that they were last seen under; empty: of an earlier one. */
  policy: z.string(),
  /** null: nothing can be said of what other documents would make of them. */
  reads: z.union([readsSchema, serviceSchema]).nullable(),
})
const fileSchema = z.strictObject({
  headgate_would_deny: z.literal(1),
  kinds: z.array(kindSchema).max(100_000),
  overflow: z.record(z.string(), z.number()),
})

export type WouldDeny = z.infer<typeof kindSchema>

const EVENTS = new Set(['request.would_deny', 'response.would_deny', 'connection.would_refuse', 'channel.would_deny'])

/** What was denied where no request was. */
const UNASKED: Readonly<Record<string, string>> = {
  'connection.would_refuse': 'connection',
  'channel.would_deny': 'channel',
}

export class Ledger {
  readonly path: string
  private readonly kinds = new Map<string, WouldDeny>()
  /** By conduit: when a kind was last seen that there was no room for. */
  private overflow = new Map<string, number>()
  private dirty = false

  /** @param directory of the state; what cannot be read there is left alone: the ledger begins anew */
  constructor(directory: string) {
    this.path = join(directory, FILE)
    try {
      if (statSync(this.path).size > MAX_BYTES) return
      const file = fileSchema.parse(JSON.parse(readFileSync(this.path, 'utf8')))
      for (const kind of file.kinds) this.kinds.set(keyOf(kind), kind)
      this.overflow = new Map(Object.entries(file.overflow))
    } catch {
      // None yet, or none that can be used.
    }
  }

  /**
   * Takes an event of a worker. One that stands for many comes after the interval, when another document may be in force.
   * @param policy SHA-256 of the document in force
   * @param since when it came into force
   */
  hear(event: EventInput, now: number, policy: string, since: number): void {
    if (!EVENTS.has(event.event) || event.client_asset == null) return
    const count = Number(event.count ?? 1)
    const last = event.last == null ? now : Math.min(now, Date.parse(String(event.last)) || now)
    const isFormer = last < since
    const kind: WouldDeny = {
      conduit: String(event.conduit ?? ''),
      client: String(event.client_asset),
      target: String(event.target_asset ?? event.target ?? ''),
      what: String(event.function ?? UNASKED[event.event] ?? 'message'),
      reason: String(event.reason ?? ''),
      count,
      first: last,
      last,
      policy: isFormer ? '' : policy,
      reads: readsOf(event, undefined),
    }
    const key = keyOf(kind)
    const known = this.kinds.get(key)
    if (known !== undefined) {
      known.count += count
      known.last = Math.max(known.last, last)
      if (!isFormer) known.policy = policy
      known.reads = readsOf(event, known.reads)
    } else if (this.room(kind.conduit)) this.kinds.set(key, kind)
    else this.overflow.set(kind.conduit, last)
    this.dirty = true
  }

  private room(conduit: string): boolean {
    let kinds = 0
    for (const kind of this.kinds.values()) if (kind.conduit === conduit) kinds++
    return kinds < MAX_KINDS
  }

  /** Kinds of a conduit that were seen in the last 24 hours, the latest first. A clock that was set back forgets none. */
  recent(conduit: string, now: number): WouldDeny[] {
    const recent = [...this.kinds.values()].filter((kind) => kind.conduit === conduit && now - kind.last < LEDGER_MS)
    return recent.sort((a, b) => b.last - a.last)
  }

  /** Whether there were more kinds in that time than could be kept. */
  overflowed(conduit: string, now: number): boolean {
    return now - (this.overflow.get(conduit) ?? Number.NEGATIVE_INFINITY) < LEDGER_MS
  }

  /** Writes what has changed, and forgets what is too old. @throws where it cannot be written */
  save(now: number): void {
    for (const [key, kind] of this.kinds) {
      if (now - kind.last < LEDGER_MS) continue
      this.kinds.delete(key)
      this.dirty = true
    }
    if (!this.dirty) return
    const overflow = Object.fromEntries(this.overflow)
    const file = { headgate_would_deny: 1, kinds: [...this.kinds.values()], overflow }
    writeWhole(this.path, `${JSON.stringify(file)}\n`)
    this.dirty = false
  }
}

const keyOf = ({ conduit, client, target, what, reason }: WouldDeny): string =>
  [conduit, client, target, what, reason].join('\n')
