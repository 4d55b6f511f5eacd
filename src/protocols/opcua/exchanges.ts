/**
 * What requests of one channel have outstanding that their responses are needed for: denied items to put back, aliases
 * of RegisterNodes, subscriptions, the namespace array. Bounded: a request that would go beyond is denied.
 *
 * The way of a whole request: `RuleTable.decide`, then `send` with its verdict; of its response: `wants`, then `answer`.
 */
import { REASON } from '../reason.ts'
import { Cursor, copyOf, NodeRef, Writer } from './binary.ts'
import { type RuleTable, VERDICT } from './decide.ts'
import { isBad, ResponseHeader, STATUS, walkResponseHeader } from './headers.ts'
import { namespaceArrayOf, namespaceReadIn } from './namespaces.ts'
import { SPLICE, spliceResponse, writeAllowed } from './rewrite.ts'
import { REQUEST, RESPONSE } from './services.ts'
import { MAX_ALIASES, type SessionContext } from './session-context.ts'

/** Requests of a channel whose responses are waited for. */
const MAX_PENDING = 1024
/** Bytes that are kept of all of them together. */
const MAX_BYTES = 1 << 20

/** Services whose messages must be whole, both ways, whatever the rules say: their results are kept. */
const KEPT: ReadonlySet<number> = new Set([
  REQUEST.RegisterNodes,
  REQUEST.UnregisterNodes,
  REQUEST.CreateSubscription,
  REQUEST.DeleteSubscriptions,
  REQUEST.TransferSubscriptions,
])

/** What `send` and `answer` say. */
export const SEND = {
  /** The message goes on as it is. */
  asItIs: 0,
  /** The message to send stands in `out`. */
  rewritten: 1,
  /** The message must not go on: answer the request with a ServiceFault of `status`, for the reason `reason`. */
  refuse: 2,
} as const

interface Pending {
  request: number
  context: SessionContext
  /** Indexes of the denied items, and how many items the client had sent. */
  denied: Int32Array | null
  total: number
  /** NodeIds or subscription ids of the request, in its order. */
  list: Uint8Array | null
  /** Which result of a Read is the namespace array; -1: none. */
  namespaces: number
}

export class Exchanges {
  /** With `SEND.rewritten`: the message, TypeId first. */
  readonly out = new Writer(1024)
  /** With `SEND.refuse`. */
  status = 0
  reason = 0
  /** Subscriptions that a session may have; null: any number. */
  subscriptionLimit: number | null
  private readonly pending = new Map<number, Pending>()
  private bytes = 0
  private readonly cursor = new Cursor()
  private readonly header = new ResponseHeader()
  private readonly ref = new NodeRef()
  private readonly other = new NodeRef()

  constructor(subscriptionLimit: number | null) {
    this.subscriptionLimit = subscriptionLimit
  }

  /**
   * Whether a request must be whole before it is sent on.
   * @param verdict of `RuleTable.service`
   */
  needsRequest(verdict: number, typeId: number, context: SessionContext): boolean {
    if (verdict === VERDICT.body || KEPT.has(typeId)) return true
    return typeId === REQUEST.Read && !context.namespaces.known
  }

  /**
   * An allowed request, or one that is allowed in part, is to be sent on.
   * @param verdict of `table.decide` on it: `REASON.allow` or `VERDICT.partly`
   */
  send(
    requestId: number,
    table: RuleTable,
    verdict: number,
    buf: Uint8Array,
    at: number,
    end: number,
    context: SessionContext,
  ): number {
    const { walker, denials } = table
    const request = walker.typeId
    const partly = verdict === VERDICT.partly
    const kept = KEPT.has(request)
    const reads = request === REQUEST.Read && !context.namespaces.known
    if (!partly && !kept && !reads) return SEND.asItIs
    let namespaces = -1
    if (reads) {
      this.out.reset()
      if (partly) writeAllowed(this.out, at, end, walker, denials)
      this.cursor.open(buf, walker.bodyAt, end)
      namespaces = namespaceReadIn(this.cursor)
      // The response comes without the denied items; a denied namespace array is none.
      if (partly) namespaces = shifted(namespaces, denials.indexes())
      if (!partly && namespaces === -1) return SEND.asItIs
    }
    const list = kept ? this.listOf(request, buf, walker.bodyAt, end) : null
    if (kept && list === null) return this.refuse(STATUS.badDecodingError, REASON.malformed)
    const denied = partly ? denials.indexes() : null
    const bytes = (list?.length ?? 0) + (denied?.byteLength ?? 0)
    if (this.pending.size >= MAX_PENDING || this.bytes + bytes > MAX_BYTES || this.pending.has(requestId)) {
      return this.refuse(STATUS.badTooManyOperations, REASON.rate)
    }
    if (request === REQUEST.RegisterNodes) {
      if (context.aliases.size + walker.count > MAX_ALIASES) {
        return this.refuse(STATUS.badTooManyOperations, REASON.rate)
      }
      context.registering++
    } else if (request === REQUEST.CreateSubscription) {
      if (this.overSubscribed(context, 1)) return this.refuse(STATUS.badTooManySubscriptions, REASON.rate)
      context.subscribing++
    } else if (request === REQUEST.TransferSubscriptions) {
      if (this.overSubscribed(context, (list as Uint8Array).length / 4)) {
        return this.refuse(STATUS.badTooManySubscriptions, REASON.rate)
      }
      context.subscribing += (list as Uint8Array).length / 4
    }
    this.bytes += bytes
    this.pending.set(requestId, { request, context, denied, total: walker.count, list, namespaces })
    if (!partly) return SEND.asItIs
    writeAllowed(this.out.reset(), at, end, walker, denials)
    return SEND.rewritten
  }

  private overSubscribed(context: SessionContext, more: number): boolean {
    const limit = this.subscriptionLimit
    return limit !== null && context.subscriptions.size + context.subscribing + more > limit
  }

  private refuse(status: number, reason: number): number {
    this.status = status
    this.reason = reason
    return SEND.refuse
  }

  /** The ids that a request names, as a copy of their encodings; null where its body is malformed. */
  private listOf(request: number, buf: Uint8Array, at: number, end: number): Uint8Array | null {
    const cursor = this.cursor.open(buf, at, end)
    let from = at
    let to = at
    switch (request) {
      case REQUEST.CreateSubscription:
        // OPC 10000-4 §5.13.2: interval, lifetime, keep-alive, notifications, enabled, priority
        cursor.skip(22)
        break
      case REQUEST.RegisterNodes:
      case REQUEST.UnregisterNodes: {
        const count = cursor.count(2)
        from = cursor.at
        for (let i = 0; i < count && cursor.fault === 0; i++) cursor.nodeId(this.ref)
        to = cursor.at
        break
      }
      default: {
        const count = cursor.count(4)
        from = cursor.at
        cursor.skip(4 * count)
        to = cursor.at
        // §5.13.7: sendInitialValues
        if (request === REQUEST.TransferSubscriptions) cursor.skip(1)
      }
    }
    return cursor.finish() ? copyOf(buf, from, to) : null
  }

  /** Whether the response to this request must be whole before it is sent on. */
  wants(requestId: number): boolean {
    return this.pending.has(requestId)
  }

  /**
   * A whole response to a request that `wants` has. With `SEND.refuse` it is not what the request is owed, and the
   * client is owed a ServiceFault.
   */
  answer(requestId: number, buf: Uint8Array, at: number, end: number): number {
    const pending = this.pending.get(requestId)
    if (pending === undefined) return SEND.asItIs
    this.drop(requestId)
    const { request, context, denied, total, list, namespaces } = pending
    if (namespaces !== -1) {
      const uris = namespaceArrayOf(buf, at, end, namespaces)
      if (uris !== null) context.namespaces.set(uris)
    }
    if (list !== null && !this.learn(request, context, list, buf, at, end)) {
      return this.refuse(STATUS.badUnexpectedError, REASON.malformed)
    }
    if (denied === null) return SEND.asItIs
    const spliced = spliceResponse(this.out.reset(), buf, at, end, request, denied, total)
    if (spliced === SPLICE.asItIs) return SEND.asItIs
    return spliced === SPLICE.written ? SEND.rewritten : this.refuse(STATUS.badUnexpectedError, REASON.malformed)
  }

  /** The request will not be answered. */
  drop(requestId: number): void {
    const pending = this.pending.get(requestId)
    if (pending === undefined) return
    this.pending.delete(requestId)
    const { request, context, denied, list } = pending
    this.bytes -= (list?.length ?? 0) + (denied?.byteLength ?? 0)
    if (request === REQUEST.RegisterNodes) context.registering--
    else if (request === REQUEST.CreateSubscription) context.subscribing--
    else if (request === REQUEST.TransferSubscriptions) context.subscribing -= (list as Uint8Array).length / 4
  }

  /** The channel is gone. */
  clear(): void {
    for (const requestId of [...this.pending.keys()]) this.drop(requestId)
  }

  /** Notes what a response says of aliases and subscriptions. @returns false where it is not what the request is owed */
  private learn(
    request: number,
    context: SessionContext,
    list: Uint8Array,
    buf: Uint8Array,
    at: number,
    end: number,
  ): boolean {
    const { cursor, header } = this
    cursor.open(buf, at, end)
    const typeId = cursor.typeId()
    walkResponseHeader(cursor, header)
    if (cursor.fault !== 0) return false
    if (isBad(header.serviceResult)) return true
    switch (request) {
      case REQUEST.RegisterNodes:
        return typeId === RESPONSE.RegisterNodes && this.learnAliases(context, list, buf)
      case REQUEST.UnregisterNodes:
        if (typeId !== RESPONSE.UnregisterNodes || !cursor.finish()) return false
        cursor.open(list, 0, list.length)
        while (cursor.at < cursor.end) {
          cursor.nodeId(this.ref)
          context.aliases.remove(list, this.ref)
        }
        return true
      case REQUEST.CreateSubscription: {
        if (typeId !== RESPONSE.CreateSubscription) return false
        const subscription = cursor.u32()
        // revisedPublishingInterval, revisedLifetimeCount, revisedMaxKeepAliveCount
        cursor.skip(16)
        if (!cursor.finish()) return false
        context.subscriptions.add(subscription)
        context.owners.set(subscription, context.owner)
        return true
      }
      case REQUEST.DeleteSubscriptions:
        return typeId === RESPONSE.DeleteSubscriptions && this.learnDeleted(context, list)
      default:
        return typeId === RESPONSE.TransferSubscriptions && this.learnTransferred(context, list)
    }
  }

  private learnAliases(context: SessionContext, list: Uint8Array, buf: Uint8Array): boolean {
    const { cursor, ref, other } = this
    const asked = new Cursor().open(list, 0, list.length)
    const count = cursor.count(2)
    const from = cursor.at
    for (let i = 0; i < count && cursor.fault === 0; i++) {
      cursor.nodeId(ref)
      asked.nodeId(other)
    }
    if (!cursor.finish() || !asked.finish()) return false
    cursor.open(buf, from, cursor.end)
    asked.open(list, 0, list.length)
    for (let i = 0; i < count; i++) {
      cursor.nodeId(ref)
      asked.nodeId(other)
      if (!context.aliases.add(buf, ref, list, other)) return false
    }
    return true
  }

  private learnDeleted(context: SessionContext, list: Uint8Array): boolean {
    const { cursor } = this
    const count = cursor.count(4)
    if (count !== list.length / 4) return false
    const ids = new Cursor().open(list, 0, list.length)
    for (let i = 0; i < count; i++) {
      const status = cursor.u32()
      const subscription = ids.u32()
      if (isBad(status) && status !== STATUS.badSubscriptionIdInvalid) continue
      context.subscriptions.delete(subscription)
      context.owners.delete(subscription)
    }
    return cursor.fault === 0
  }

  private learnTransferred(context: SessionContext, list: Uint8Array): boolean {
    const { cursor } = this
    const count = cursor.count(8)
    if (count !== list.length / 4) return false
    const ids = new Cursor().open(list, 0, list.length)
    for (let i = 0; i < count && cursor.fault === 0; i++) {
      const status = cursor.u32()
      cursor.skip(4 * cursor.count(4))
      const subscription = ids.u32()
      if (isBad(status)) continue
      context.subscriptions.add(subscription)
      context.owners.set(subscription, context.owner)
    }
    return cursor.fault === 0
  }
}

/** Where an index stands once the denied ones are taken out; -1: it is one of them, or was none. */
function shifted(index: number, denied: Int32Array): number {
  if (index === -1 || denied.includes(index)) return -1
  return index - denied.filter((one) => one < index).length
}
