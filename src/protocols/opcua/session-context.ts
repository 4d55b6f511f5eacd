/**
 * What the rules of one OPC UA session remember: the aliases that RegisterNodes gave it, its subscriptions, and the
 * namespaces of its server. All of it is bounded. A session outlives its channel, so this belongs to the session's
 * authentication token and not to a connection.
 */
import { copyOf, NodeRef } from './binary.ts'
import { Namespaces } from './namespaces.ts'
import { hashBytes } from './node-id.ts'

/** Aliases of one session; RegisterNodes beyond is denied. */
export const MAX_ALIASES = 4096

/** A node in bytes of its own. */
export class OwnNode {
  readonly buf: Uint8Array
  readonly ref = new NodeRef()

  constructor(buf: Uint8Array, ref: NodeRef) {
    this.buf = copyOf(buf, ref.start, ref.stop)
    this.ref.copy(ref)
    this.ref.from -= ref.start
    this.ref.to -= ref.start
    this.ref.stop -= ref.start
    this.ref.start = 0
  }
}

interface Alias {
  alias: OwnNode
  node: OwnNode
}

/** Of a NodeId without server or namespace URI, whatever its encoding. */
export function hashNode(buf: Uint8Array, ref: NodeRef): number {
  const id = ref.type === 0 ? ref.id | 0 : hashBytes(buf, ref.from, ref.to)
  return Math.imul(id ^ (ref.namespace << 8) ^ ref.type, 0x9e3779b1) | 0
}

export function sameNode(a: Uint8Array, refA: NodeRef, b: Uint8Array, refB: NodeRef): boolean {
  if (refA.namespace !== refB.namespace || refA.type !== refB.type) return false
  if (refA.type === 0) return refA.id === refB.id
  const length = refA.to - refA.from
  if (length !== refB.to - refB.from) return false
  for (let i = 0; i < length; i++) if (a[refA.from + i] !== b[refB.from + i]) return false
  return true
}

/** NodeIds that a server gave for others (OPC 10000-4 §5.8.5). */
export class Aliases {
  size = 0
  private readonly byHash = new Map<number, Alias[]>()

  /** The node that an alias stands for; null: it is none. Allocates nothing. */
  resolve(buf: Uint8Array, ref: NodeRef): OwnNode | null {
    if (this.size === 0) return null
    const same = this.byHash.get(hashNode(buf, ref))
    if (same === undefined) return null
    for (let i = 0; i < same.length; i++) {
      if (sameNode(same[i].alias.buf, same[i].alias.ref, buf, ref)) return same[i].node
    }
    return null
  }

  /** Notes that the server gave `alias` for `node`. @returns false where there is no room */
  add(aliasBuf: Uint8Array, alias: NodeRef, nodeBuf: Uint8Array, node: NodeRef): boolean {
    // An alias of an alias is one of the node behind it.
    const real = this.resolve(nodeBuf, node) ?? new OwnNode(nodeBuf, node)
    this.remove(aliasBuf, alias)
    if (sameNode(aliasBuf, alias, real.buf, real.ref)) return true
    if (this.size >= MAX_ALIASES) return false
    const hash = hashNode(aliasBuf, alias)
    const entry = { alias: new OwnNode(aliasBuf, alias), node: real }
    const same = this.byHash.get(hash)
    if (same === undefined) this.byHash.set(hash, [entry])
    else same.push(entry)
    this.size++
    return true
  }

  remove(buf: Uint8Array, ref: NodeRef): void {
    const hash = hashNode(buf, ref)
    const same = this.byHash.get(hash)
    const index = same?.findIndex(({ alias }) => sameNode(alias.buf, alias.ref, buf, ref)) ?? -1
    if (same === undefined || index === -1) return
    same.splice(index, 1)
    if (same.length === 0) this.byHash.delete(hash)
    this.size--
  }
}

/** Who made a subscription, by its id on the server; for a target and its clients together. */
export class SubscriptionOwners {
  private readonly owners = new Map<number, string>()
  private readonly most: number

  constructor(most = 65_536) {
    this.most = most
  }

  set(subscription: number, owner: string): void {
    this.owners.delete(subscription)
    if (this.owners.size >= this.most) {
      for (const oldest of this.owners.keys()) {
        this.owners.delete(oldest)
        break
      }
    }
    this.owners.set(subscription, owner)
  }

  delete(subscription: number): void {
    this.owners.delete(subscription)
  }

  owns(owner: string, subscription: number): boolean {
    return this.owners.get(subscription) === owner
  }
}

export class SessionContext {
  readonly aliases = new Aliases()
  /** Requests of RegisterNodes that the server has not answered: until then their aliases are unknown. */
  registering = 0
  /** Ids of the session's subscriptions. */
  readonly subscriptions = new Set<number>()
  /** Requests of CreateSubscription that the server has not answered. */
  subscribing = 0
  /** The server's, which its sessions may share. */
  readonly namespaces: Namespaces
  readonly owners: SubscriptionOwners
  /** Whose subscriptions the session may take over: the client's address, certificate and user, as one text. */
  owner: string

  constructor(namespaces = new Namespaces(), owners = new SubscriptionOwners(), owner = '') {
    this.namespaces = namespaces
    this.owners = owners
    this.owner = owner
  }
}
