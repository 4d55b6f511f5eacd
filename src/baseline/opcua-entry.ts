/** What a baseline keeps of OPC UA: of a client and a server, of each service between them, of each node that it names. */
import { formatAddress } from '../policy/address.ts'
import { attributeName } from '../protocols/opcua/attributes.ts'
import type { NodeRef } from '../protocols/opcua/binary.ts'
import { nodeText } from '../protocols/opcua/node-id.ts'
import { FUNCTIONS, functionLabel } from '../protocols/opcua/services.ts'
import { hashNode, OwnNode, sameNode } from '../protocols/opcua/session-context.ts'
import type { BaselineNode, BaselineOpcUa, BaselineService } from './baseline-file.ts'
import { Span, timeText } from './entry.ts'
import type { Rate } from './rate.ts'

/** Nodes that are kept of one client, server and service. */
export const MAX_NODES = 2000
/** An identifier that is longer is not kept: no rule can name it. */
const MAX_ID_BYTES = 1024
/** Endpoint URLs of one pair. */
const MAX_URLS = 32

/** One node that a service named: with the attribute that was written, or the method that was called. */
export class NodeEntry {
  readonly node: OwnNode
  /** The method of a Call; null: the service has none. */
  readonly other: OwnNode | null
  readonly attribute: number
  requests = 0
  /** Least and greatest number that was written; null: nothing is. */
  readonly written: Float64Array | null
  stirred = false
  /** Another one of the same hash. */
  next: NodeEntry | null = null
  private readonly names: Pick<BaselineNode, 'node' | 'method' | 'attribute'>

  constructor(node: OwnNode, other: OwnNode | null, attribute: number, writes: boolean) {
    this.node = node
    this.other = other
    this.attribute = attribute
    this.written = writes ? Float64Array.of(Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY) : null
    this.names = {
      node: nodeText(node.buf, node.ref),
      method: other === null ? null : nodeText(other.buf, other.ref),
      attribute: attribute === 0 ? null : attributeName(attribute),
    }
  }

  is(buf: Uint8Array, node: NodeRef, otherBuf: Uint8Array, other: NodeRef | null, attribute: number): boolean {
    if (this.attribute !== attribute || !sameNode(this.node.buf, this.node.ref, buf, node)) return false
    if (this.other === null || other === null) return this.other === other
    return sameNode(this.other.buf, this.other.ref, otherBuf, other)
  }

  row(): BaselineNode {
    const [least, greatest] = this.written ?? [1, 0]
    return {
      ...this.names,
      requests: this.requests,
      least: least <= greatest ? least : null,
      greatest: least <= greatest ? greatest : null,
    }
  }
}

/** One client, server and service. */
export class ServiceEntry {
  readonly pair: OpcUaPair
  readonly fn: number
  requests = 0
  responses = 0
  faults = 0
  malformed = 0
  /** Requests whose nodes could not be read, and items whose node there was no room for. */
  unread = 0
  unlisted = 0
  readonly span = new Span()
  readonly rate: Rate
  stirred = false
  stirredNodes: NodeEntry[] = []
  private size = 0
  private readonly nodes = new Map<number, NodeEntry>()

  constructor(pair: OpcUaPair, fn: number, rate: Rate) {
    this.pair = pair
    this.fn = fn
    this.rate = rate
  }

  /** @returns the entry of a node; null: there is no room for another. @param budget one cell: how many more there may be */
  node(
    buf: Uint8Array,
    node: NodeRef,
    otherBuf: Uint8Array,
    other: NodeRef | null,
    attribute: number,
    writes: boolean,
    budget: Int32Array,
  ): NodeEntry | null {
    let hash = Math.imul(hashNode(buf, node) ^ attribute, 0x85ebca6b)
    if (other !== null) hash = Math.imul(hash ^ hashNode(otherBuf, other), 0xc2b2ae35)
    hash |= 0
    const first = this.nodes.get(hash) ?? null
    for (let at = first; at !== null; at = at.next) if (at.is(buf, node, otherBuf, other, attribute)) return at
    const long = node.to - node.from > MAX_ID_BYTES || (other !== null && other.to - other.from > MAX_ID_BYTES)
    if (this.size >= MAX_NODES || budget[0] <= 0 || long) return null
    this.size++
    budget[0]--
    const entry = new NodeEntry(
      new OwnNode(buf, node),
      other === null ? null : new OwnNode(otherBuf, other),
      attribute,
      writes,
    )
    entry.next = first
    this.nodes.set(hash, entry)
    return entry
  }

  /** Something happened to it. */
  stir(): void {
    if (this.stirred) return
    this.stirred = true
    this.pair.stirredServices.push(this)
  }

  /** What there is of it, and of at most so many nodes that something happened to; the rest is for the next row. */
  row(most: number): Omit<BaselineService, 'rate'> {
    const nodes = this.stirredNodes.splice(0, most).map((node) => {
      const row = node.row()
      node.requests = 0
      node.stirred = false
      return row
    })
    return {
      requests: this.requests,
      responses: this.responses,
      faults: this.faults,
      malformed: this.malformed,
      unread: this.unread,
      unlisted: this.unlisted,
      first: timeText(this.span.first),
      last: timeText(this.span.last),
      nodes,
    }
  }

  /** Begins the counts anew; which nodes there are stays. */
  forget(): void {
    this.requests = this.responses = this.faults = this.malformed = this.unread = this.unlisted = 0
    this.span.forget()
    this.stirred = false
  }
}

/** Policy and mode of a channel, by their names; `unknown` where its opening was not seen. */
export interface ChannelKind {
  policy: string
  mode: string
}

/** Channels of one kind. */
export interface ChannelEntry extends ChannelKind {
  opened: number
  /** But those of discovery, which passes on None whatever a conduit asks for. */
  requests: number
}

/** One client and one server. */
export class OpcUaPair {
  readonly client: bigint
  readonly target: bigint
  readonly port: number
  opened = 0
  /** Of these, by the server. */
  reversed = 0
  responses = 0
  faults = 0
  readonly channels = new Map<string, ChannelEntry>()
  readonly urls = new Set<string>()
  garbage = 0
  gapBytes = 0
  readonly span = new Span()
  readonly services: (ServiceEntry | null)[] = new Array(FUNCTIONS).fill(null)
  stirred = false
  stirredServices: ServiceEntry[] = []

  constructor(client: bigint, target: bigint, port: number) {
    this.client = client
    this.target = target
    this.port = port
  }

  url(text: string): void {
    if (this.urls.size < MAX_URLS) this.urls.add(text)
  }

  /** A channel is open. @returns what is counted of those of its kind */
  channel({ policy, mode }: ChannelKind): ChannelEntry {
    const key = `${policy} ${mode}`
    const one = this.channels.get(key) ?? { policy, mode, opened: 0, requests: 0 }
    this.channels.set(key, one)
    one.opened++
    return one
  }

  row(): Omit<BaselineOpcUa, 'services'> {
    return {
      client: formatAddress(this.client),
      target: formatAddress(this.target),
      port: this.port,
      opened: this.opened,
      reversed: this.reversed,
      responses: this.responses,
      faults: this.faults,
      channels: [...this.channels.values()].map((one) => ({ ...one })),
      endpoint_urls: [...this.urls],
      garbage: this.garbage,
      gapBytes: this.gapBytes,
      first: timeText(this.span.first),
      last: timeText(this.span.last),
    }
  }

  /** Begins the counts anew; kinds of channels and URLs stay. */
  forget(): void {
    this.opened = this.reversed = this.responses = this.faults = this.garbage = this.gapBytes = 0
    for (const one of this.channels.values()) one.opened = one.requests = 0
    this.span.forget()
    this.stirred = false
  }
}

export const serviceName = ({ fn }: ServiceEntry): string => functionLabel(fn)
