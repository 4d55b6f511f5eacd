/**
 * How far requests of OPC UA reach that one event stands for: the items that were denied, by node, method and attribute,
 * and how they were answered. Off the allowed path; bounded, whatever is sent.
 */
import { numbersOf } from '../protocols/opcua/describe.ts'
import type { OpcUaItem, OpcUaItems } from '../protocols/opcua/terms.ts'
import type { EventInput } from '../records/catalogue.ts'
import type { Kind, Reach } from './storm.ts'

/** Items that are told, and characters of them; of those that are more the event says so. */
export const MOST_ITEMS = 24
const MOST_TEXT = 4096

/** One of them, as the event has it. What is 0 or not known is left out. */
interface Reached extends Omit<OpcUaItem, 'value'> {
  count: number
  /** Requests with it that were answered, and not refused; and those refused. */
  responses?: number
  exceptions?: number
  /** Extremes of the numbers written. */
  least?: number
  greatest?: number
  /** Something was written that is no number. */
  other?: true
}

const keyOf = ({ node, method = '', attribute = '' }: OpcUaItem): string => `${node}\n${method}\n${attribute}`

export class OpcUaExtent implements Reach {
  private readonly all = new Map<string, Reached>()
  private length = 0
  private more = false
  private responses = 0
  private exceptions = 0

  request({ list, more }: OpcUaItems): void {
    if (more) this.more = true
    for (const item of list) {
      const key = keyOf(item)
      let one = this.all.get(key)
      if (one === undefined) {
        if (this.all.size === MOST_ITEMS || this.length + key.length > MOST_TEXT) {
          this.more = true
          continue
        }
        this.length += key.length
        const { node, method, attribute } = item
        one = { node, method, attribute, count: 0 }
        this.all.set(key, one)
      }
      one.count++
      if (item.value !== undefined) wrote(one, item.value)
    }
  }

  /** A request with these items was answered. */
  answered({ list }: OpcUaItems, refused: boolean): void {
    const what = refused ? 'exceptions' : 'responses'
    this[what]++
    for (const item of list) {
      const one = this.all.get(keyOf(item))
      if (one !== undefined) one[what] = (one[what] ?? 0) + 1
    }
  }

  fields(): Partial<EventInput> {
    const none = this.responses + this.exceptions === 0
    return {
      nodes: this.all.size === 0 ? undefined : JSON.stringify([...this.all.values()]),
      more_nodes: this.more ? 'yes' : undefined,
      responses: none ? undefined : this.responses,
      exceptions: none ? undefined : this.exceptions,
    }
  }
}

/** The items of one request: described when they are first asked for. */
export class ReachedItems {
  private readonly describe: (most: number) => OpcUaItems
  private described: OpcUaItems | null = null

  constructor(describe: (most: number) => OpcUaItems) {
    this.describe = describe
  }

  get all(): OpcUaItems {
    this.described ??= this.describe(MOST_ITEMS)
    return this.described
  }

  /** For an event of this request alone, which names the first of several items. */
  fields(): Partial<EventInput> {
    if (this.all.list.length < 2) return {}
    const extent = new OpcUaExtent()
    extent.request(this.all)
    return extent.fields()
  }

  /** The request is one of those that an event will stand for, unless the event has told of it already. */
  extend(kind: Kind): void {
    if (kind.mixed || kind.count === 0) return
    kind.extent ??= new OpcUaExtent()
    if (kind.extent instanceof OpcUaExtent) kind.extent.request(this.all)
  }
}

function wrote(one: Reached, value: string): void {
  const numbers = numbersOf(value)
  if (numbers === null) {
    one.other = true
    return
  }
  one.least = Math.min(one.least ?? Number.POSITIVE_INFINITY, ...numbers)
  one.greatest = Math.max(one.greatest ?? Number.NEGATIVE_INFINITY, ...numbers)
}
