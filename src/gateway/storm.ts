/**
 * Storm control: of events that are alike, the first speaks at once, and the rest are one event each interval with
 * their count. A scan cannot flood the records, nor grow memory; counters count all of it elsewhere.
 */
import type { EventInput } from '../records/catalogue.ts'

/** Distinct kinds of event remembered at one time; beyond them, all others count as one kind. */
const MAX_KINDS = 4096

/** What is known of all that an event stands for, beside the first of them. */
export interface Reach {
  fields(): Partial<EventInput>
}

/** Events that are alike. */
export interface Kind {
  count: number
  first: number
  last: number
  since: number
  /** The first of those held back, which stands for them all. */
  example: EventInput | null
  /** How far those held back reach; null: nobody has said, or they are of many kinds. */
  extent: Reach | null
  /** It stands for all kinds that there is no room for. */
  readonly mixed: boolean
}

export class Storm {
  private readonly kinds = new Map<string, Kind>()
  /** In milliseconds. */
  interval: number
  private readonly emit: (event: EventInput) => void

  /**
   * @param interval in milliseconds
   * @param emit takes the events that are to be told
   */
  constructor(interval: number, emit: (event: EventInput) => void) {
    this.interval = interval
    this.emit = emit
  }

  /**
   * @param key what makes events alike: event, client, target, function, reason
   * @param make builds the event; called at once, or not at all
   * @param now milliseconds since the epoch
   * @returns the kind that it was counted with, for `again`
   */
  say(key: string, now: number, make: () => EventInput): Kind {
    const known = this.kinds.get(key) ?? (this.kinds.size >= MAX_KINDS ? this.kinds.get('') : undefined)
    if (known === undefined) {
      const overflow = this.kinds.size >= MAX_KINDS
      const kind: Kind = { count: 0, first: now, last: now, since: now, example: null, extent: null, mixed: overflow }
      this.kinds.set(overflow ? '' : key, kind)
      this.emit(make())
      return kind
    }
    if (known.count++ === 0) {
      known.first = now
      known.example = make()
    }
    known.last = now
    return known
  }

  /**
   * Says what `say` has said before, without its key and without a look-up: a flood of denials costs little.
   * @returns false where nothing of the kind is being held back: it is to be said by `say`
   */
  again(kind: Kind, now: number): boolean {
    if (kind.count === 0) return false
    kind.count++
    kind.last = now
    return true
  }

  /**
   * Tells what has been held back for the interval, and forgets what has fallen silent. A clock that was set back must
   * not keep anyone silent until it is where it was.
   */
  sweep(now: number, all = false): void {
    for (const [key, kind] of this.kinds) {
      if (!all && now >= kind.since && now - kind.since < this.interval) continue
      if (kind.count === 0 || kind.example === null) {
        this.kinds.delete(key)
        continue
      }
      const times = { first: new Date(kind.first).toISOString(), last: new Date(kind.last).toISOString() }
      const detail =
        key === '' ? 'of more kinds than can be told apart; this is the first of them' : kind.example.detail
      const extent = kind.extent?.fields() ?? {}
      this.emit({ ...kind.example, detail, time: now, count: kind.count, ...times, ...extent })
      kind.count = 0
      kind.since = now
      kind.example = null
      kind.extent = null
    }
  }
}
