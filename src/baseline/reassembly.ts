/**
 * TCP streams out of captured segments (RFC 9293), for Modbus/TCP: each direction's bytes in order and once.
 *
 * Segments may come late, twice, overlapping, or never. What has arrived in order goes on without a copy. What is
 * early waits, bounded in bytes and time; a hole that stays is given up, counted, and the frames behind it are found
 * again. A response waits for the request bytes that its acknowledgement says the target has had, so that a request
 * and its response are seen in that order whatever order the capture has them in.
 */
import { formatAddress } from '../policy/address.ts'
import { isChain } from './boundary.ts'
import { Framer, type FrameSink } from './framer.ts'
import { type Listeners, type Place, targetOf } from './listeners.ts'
import { isChunked } from './opcua-reader.ts'
import { PACKET, PACKET_OUTCOMES, PacketDecoder } from './packet.ts'

const FIN = 1
const SYN = 2
const RST = 4
const ACK = 16

/** Connections that are followed at one time; beyond it the one that was silent longest is let go. */
const MAX_FLOWS = 1 << 15
const MAX_PENDING_BYTES = 1 << 18
const MAX_PENDING = 256
const MAX_PENDING_TOTAL = 32 << 20
const MAX_HOSTS = 1 << 18
/** How long a hole stays open, in microseconds: a retransmission comes within that. */
const HOLE_US = 3e6
/** The same where the receiver has acknowledged what the capture lacks: only a reordered capture can still have it. */
const ACKED_HOLE_US = 1e5
/** A sequence number further away than this belongs to another connection. */
const WINDOW = 1 << 20
/** Segments of a connection on an unknown port that are looked at before it is called something else. */
const PROBES = 8

export interface FlowSink extends FrameSink<Flow> {
  /** The first packet of a connection; its client and target are known. */
  onOpen(flow: Flow, us: number): void
  /** Bytes of one direction are missing: 0 where their number is not known. */
  onGap(flow: Flow, fromClient: boolean, bytes: number, us: number): void
  /** OPC UA: bytes of one direction, in order and once; the buffer is the caller's again on return. */
  onBytes(flow: Flow, fromClient: boolean, buf: Uint8Array, from: number, to: number, us: number): void
  /** Closed, replaced, let go, or the capture has ended. */
  onClose(flow: Flow, us: number): void
}

/** What the packets of a capture were, and what was missing. */
export interface StreamTally {
  /** By `PACKET_OUTCOMES`. */
  packets: Record<(typeof PACKET_OUTCOMES)[number], number>
  /** Link types that are not read, with their packets. */
  linkTypes: Map<number, number>
  /** TCP segments to or from none of the ports, or whose content is not Modbus. */
  otherTcp: number
  connections: number
  /** Of these, OPC UA. */
  opcua: number
  /** Of these, to a listener of the policy instead of its target. */
  toListeners: number
  /** Connections whose beginning the capture does not have. */
  midstream: number
  /** Connections of which one direction alone was captured. */
  oneDirection: number
  retransmitted: number
  outOfOrder: number
  gaps: number
  gapBytes: number
  /** Bytes in which no frame boundary was found. */
  skippedBytes: number
  evicted: number
}

interface Pending {
  sequence: number
  bytes: Uint8Array
  us: number
  acknowledged: number
  /** The packet was cut by the capture: bytes behind `bytes` are missing. */
  missing: number
}

class Direction {
  /** Sequence number of the next byte; meaningless until `known`. */
  next = 0
  known = false
  initial = 0
  finished = false
  seen = false
  pending: Pending[] = []
  pendingBytes = 0
  /** When the oldest hole was met; 0: there is none. */
  holeSince = 0
  readonly framer: Framer<Flow>

  constructor(flow: Flow, sink: FlowSink, fromClient: boolean) {
    this.framer = new Framer(flow, sink, fromClient, false)
  }
}

/** One TCP connection. */
export class Flow {
  readonly clientAddress: bigint
  readonly targetAddress: bigint
  readonly clientPort: number
  readonly targetPort: number
  /** What the client dialled, where that is a listener of the policy: the target is the listener's, then. */
  readonly dialled: Place | null
  readonly first: number
  readonly protocol: 'modbus' | 'opcua'
  /** Both directions: client → target, target → client. */
  readonly client: Direction
  readonly target: Direction
  /** The capture has its beginning. */
  handshake = false
  /** The target has accepted it: SYN with ACK, or data. */
  answered = false
  last: number
  /** Bytes are missing from the client's direction, or may be: an unmatched response proves nothing. */
  incomplete = false
  /** What the sink keeps with it. */
  state: unknown = null
  closed = false

  constructor(sink: FlowSink, protocol: Flow['protocol'], client: Place, server: Place, target: Place, us: number) {
    this.protocol = protocol
    this.clientAddress = client.address
    this.targetAddress = target.address
    this.clientPort = client.port
    this.targetPort = target.port
    this.dialled = target === server ? null : server
    this.first = us
    this.last = us
    this.client = new Direction(this, sink, true)
    this.target = new Direction(this, sink, false)
  }
}

/** A place in the flow table: a pair of endpoints, whose lower one is `a`. */
class Slot {
  a = 0
  b = 0
  ports = 0
  v6 = false
  /** Endpoint `a` is the client. */
  aIsClient = false
  /** null: nothing is followed here (not Modbus). */
  flow: Flow | null = null
  probes = 0
  last = 0
  chain = -1
  hash = 0
}

const BUCKETS = 1 << 16
/** What the streams of a port are; 0: not followed. */
const MODBUS = 1
const OPCUA = 2

export interface ReassemblyOptions {
  /** TCP ports of Modbus targets, and of OPC UA servers. */
  ports: Iterable<number>
  opcuaPorts?: Iterable<number>
  /** Look for both on every port. */
  anyPort: boolean
  /** What is sent to one of these is told as sent to its target. */
  listeners?: Listeners
}

export class Reassembly {
  readonly tally: StreamTally = {
    packets: Object.fromEntries(PACKET_OUTCOMES.map((name) => [name, 0])) as StreamTally['packets'],
    linkTypes: new Map(),
    otherTcp: 0,
    connections: 0,
    opcua: 0,
    toListeners: 0,
    midstream: 0,
    oneDirection: 0,
    retransmitted: 0,
    outOfOrder: 0,
    gaps: 0,
    gapBytes: 0,
    skippedBytes: 0,
    evicted: 0,
  }
  private readonly sink: FlowSink
  private readonly decoder = new PacketDecoder()
  private readonly isPort = new Uint8Array(65536)
  private readonly anyPort: boolean
  private readonly listeners: Listeners | null
  private readonly outcomes = new Float64Array(PACKET_OUTCOMES.length)
  private readonly heads = new Int32Array(BUCKETS).fill(-1)
  private readonly slots: Slot[] = []
  private hand = 0
  private readonly hosts = new Map<string, number>()
  private pendingTotal = 0
  private now = 0

  constructor(sink: FlowSink, options: ReassemblyOptions) {
    this.sink = sink
    this.anyPort = options.anyPort
    this.listeners = options.listeners ?? null
    for (const port of options.opcuaPorts ?? []) this.isPort[port] = OPCUA
    for (const port of options.ports) this.isPort[port] = MODBUS
  }

  /** One captured packet; see `PacketSink`. */
  onPacket(buf: Uint8Array, at: number, end: number, linkType: number, us: number): void {
    const { decoder } = this
    const outcome = decoder.decode(buf, at, end, linkType)
    this.outcomes[outcome]++
    if (outcome !== PACKET.tcp) {
      if (outcome === PACKET.link) this.tally.linkTypes.set(linkType, (this.tally.linkTypes.get(linkType) ?? 0) + 1)
      return
    }
    this.now = us
    const { sourcePort, destinationPort } = decoder
    if (!this.anyPort && (this.isPort[sourcePort] | this.isPort[destinationPort]) === 0) {
      this.tally.otherTcp++
      return
    }
    const slot = this.find(buf)
    if (slot !== null) this.segment(slot, buf, us)
  }

  /** The capture has ended: what waits is handed out as far as it can be. */
  finish(): void {
    for (const slot of this.slots) this.close(slot, this.now)
    for (const [i, name] of PACKET_OUTCOMES.entries()) this.tally.packets[name] = this.outcomes[i]
  }

  // ------------------------------------------------------------------------------------------------------ the table

  private find(buf: Uint8Array): Slot | null {
    const { decoder } = this
    const { v6, sourcePort, destinationPort } = decoder
    const from = v6 ? this.hostOf(buf, decoder.source) : word32(buf, decoder.source)
    const to = v6 ? this.hostOf(buf, decoder.destination) : word32(buf, decoder.destination)
    if (v6 && (from < 0 || to < 0)) {
      this.tally.evicted++
      return null
    }
    const lower = from < to || (from === to && sourcePort < destinationPort)
    const a = lower ? from : to
    const b = lower ? to : from
    const ports = lower ? (sourcePort << 16) | destinationPort : (destinationPort << 16) | sourcePort
    let hash = Math.imul(a ^ Math.imul(b, 0x85ebca6b) ^ Math.imul(ports, 0xc2b2ae35), 0x9e3779b1)
    hash = (hash ^ (hash >>> 15)) & (BUCKETS - 1)
    for (let i = this.heads[hash]; i !== -1; ) {
      const slot = this.slots[i]
      if (slot.a === a && slot.b === b && slot.ports === ports && slot.v6 === v6) {
        this.fromA = lower
        return slot
      }
      i = slot.chain
    }
    this.fromA = lower
    const slot = this.take(hash)
    slot.a = a
    slot.b = b
    slot.ports = ports
    slot.v6 = v6
    return slot
  }

  /** Whether the packet at hand was sent by the lower endpoint. */
  private fromA = false

  private take(hash: number): Slot {
    let index = this.slots.length
    if (index < MAX_FLOWS) this.slots.push(new Slot())
    else {
      index = this.oldest()
      this.unlink(index)
      if (this.slots[index].flow !== null && !(this.slots[index].flow as Flow).closed) this.tally.evicted++
      this.close(this.slots[index], this.now)
      this.slots[index] = new Slot()
    }
    const slot = this.slots[index]
    slot.hash = hash
    slot.chain = this.heads[hash]
    this.heads[hash] = index
    return slot
  }

  /** Of sixteen in turn the one that was silent longest; those that are nothing, or closed, go first. */
  private oldest(): number {
    let best = -1
    let least = Number.POSITIVE_INFINITY
    for (let i = 0; i < 16; i++) {
      this.hand = (this.hand + 1) % MAX_FLOWS
      const slot = this.slots[this.hand]
      const since = slot.flow === null || slot.flow.closed ? slot.last - 1e15 : slot.last
      if (since < least) {
        least = since
        best = this.hand
      }
    }
    return best
  }

  private unlink(index: number): void {
    const { hash, chain } = this.slots[index]
    if (this.heads[hash] === index) {
      this.heads[hash] = chain
      return
    }
    for (let i = this.heads[hash]; i !== -1; i = this.slots[i].chain) {
      if (this.slots[i].chain === index) {
        this.slots[i].chain = chain
        return
      }
    }
  }

  private hostOf(buf: Uint8Array, at: number): number {
    const key = String.fromCharCode(...buf.subarray(at, at + 16))
    let id = this.hosts.get(key)
    if (id === undefined) {
      if (this.hosts.size === MAX_HOSTS) return -1
      id = this.hosts.size
      this.hosts.set(key, id)
    }
    return id
  }

  // ------------------------------------------------------------------------------------------------------- segments

  private segment(slot: Slot, buf: Uint8Array, us: number): void {
    const { decoder } = this
    const { flags } = decoder
    slot.last = us
    if ((flags & (SYN | ACK)) === SYN) this.opening(slot, buf, us)
    let flow = slot.flow
    if (flow === null) {
      flow = this.adopt(slot, buf, us)
      if (flow === null) return
    }
    flow.last = us
    const fromClient = slot.aIsClient === this.fromA
    const direction = fromClient ? flow.client : flow.target
    direction.seen = true
    if (!fromClient && (flags & RST) === 0) flow.answered = true
    if ((flags & SYN) !== 0) {
      if (!direction.known) begin(direction, decoder.sequence)
      return
    }
    if ((flags & RST) !== 0) {
      this.close(slot, us)
      return
    }
    if (decoder.payloadLength > 0) {
      if (flow.closed) return
      this.data(flow, direction, fromClient ? flow.target : flow.client, buf, us)
    }
    if ((flags & FIN) !== 0) {
      direction.finished = true
      if (flow.client.finished && flow.target.finished && noneWaiting(flow)) this.close(slot, us)
    }
  }

  /** A client's SYN: another connection between the same endpoints, or the same SYN again. */
  private opening(slot: Slot, buf: Uint8Array, us: number): void {
    const { decoder } = this
    const { flow } = slot
    if (flow !== null && slot.aIsClient === this.fromA && flow.handshake && !flow.closed) {
      const { client } = flow
      if (client.known && client.initial === decoder.sequence) return
    }
    if (flow !== null) this.close(slot, us)
    slot.flow = null
    slot.probes = 0
    if (!this.anyPort && this.isPort[decoder.destinationPort] === 0) return
    slot.aIsClient = this.fromA
    // On an unknown port the content decides.
    if (this.isPort[decoder.destinationPort] !== 0) this.open(slot, buf, us, this.isPort[decoder.destinationPort], true)
    else slot.probes = -1
  }

  private open(slot: Slot, buf: Uint8Array, us: number, protocol: number, handshake: boolean): Flow {
    const { decoder } = this
    const source = { address: addressAt(buf, decoder.source, decoder.v6), port: decoder.sourcePort }
    const destination = { address: addressAt(buf, decoder.destination, decoder.v6), port: decoder.destinationPort }
    const fromClient = slot.aIsClient === this.fromA
    const [client, server] = fromClient ? [source, destination] : [destination, source]
    const name = protocol === OPCUA ? 'opcua' : 'modbus'
    const listener = this.listeners?.at(name, server) ?? null
    const flow = new Flow(this.sink, name, client, server, listener === null ? server : targetOf(listener), us)
    flow.handshake = handshake
    flow.incomplete = !handshake
    slot.flow = flow
    this.tally.connections++
    if (protocol === OPCUA) this.tally.opcua++
    if (listener !== null) this.tally.toListeners++
    if (!handshake) this.tally.midstream++
    this.sink.onOpen(flow, us)
    return flow
  }

  /** A packet of a connection whose SYN was not seen, or whose content is still to tell what it is. */
  private adopt(slot: Slot, buf: Uint8Array, us: number): Flow | null {
    const { decoder } = this
    const toPort = this.isPort[decoder.destinationPort] !== 0
    const fromPort = this.isPort[decoder.sourcePort] !== 0
    if ((decoder.flags & RST) !== 0) return null
    if (toPort || fromPort) {
      // Where both ports are a target's, the first packet is taken for the client's, unless it is a SYN's answer.
      const fromClient = toPort && !(fromPort && (decoder.flags & SYN) !== 0)
      slot.aIsClient = fromClient === this.fromA
      const accepted = !fromClient && (decoder.flags & (SYN | ACK)) === (SYN | ACK)
      const protocol = this.isPort[fromClient ? decoder.destinationPort : decoder.sourcePort]
      const flow = this.open(slot, buf, us, protocol, accepted)
      // A target's SYN says where the client's stream begins, too: the client's own may come late or not at all.
      if (accepted) begin(flow.client, (decoder.acknowledged - 1) >>> 0)
      return flow
    }
    const { payload, payloadEnd } = decoder
    if (payloadEnd === payload || slot.probes >= PROBES) {
      this.tally.otherTcp++
      return null
    }
    const handshake = slot.probes === -1
    const asOpcUa = isChunked(buf, payload, payloadEnd)
    const asRequest = asOpcUa || isChain(buf, payload, payloadEnd, true, true, 1)
    const asResponse = isChain(buf, payload, payloadEnd, false, true, 1)
    if (handshake) {
      // The client speaks first in Modbus.
      if (slot.aIsClient !== this.fromA || !asRequest) slot.probes = PROBES
      if (slot.probes === PROBES) {
        this.tally.otherTcp++
        return null
      }
      const flow = this.open(slot, buf, us, asOpcUa ? OPCUA : MODBUS, true)
      flow.client.known = true
      flow.client.next = decoder.sequence
      flow.client.framer.synced = true
      return flow
    }
    if (!asRequest && !asResponse) {
      slot.probes++
      this.tally.otherTcp++
      return null
    }
    // A write and its echo look alike, as chunks of OPC UA do: then the lower port is the target's.
    const fromClient = asOpcUa || (asRequest && asResponse) ? decoder.destinationPort < decoder.sourcePort : asRequest
    slot.aIsClient = fromClient === this.fromA
    return this.open(slot, buf, us, asOpcUa ? OPCUA : MODBUS, false)
  }

  private data(flow: Flow, direction: Direction, other: Direction, buf: Uint8Array, us: number): void {
    const { decoder } = this
    const { sequence, payload, payloadEnd, payloadLength } = decoder
    if (!direction.known) {
      direction.known = true
      direction.next = sequence
    }
    if (direction.holeSince !== 0) this.expire(flow, direction, other, us)
    if (other.holeSince !== 0) this.expire(flow, other, direction, us)
    let delta = (sequence - direction.next) | 0
    if (delta > WINDOW || delta < -WINDOW) {
      this.gap(flow, direction, 0, us)
      this.discard(direction)
      direction.next = sequence
      delta = 0
    }
    const early = delta > 0 || (direction.pending.length > 0 && delta === 0) || this.ahead(other)
    if (early && delta + payloadLength > 0) {
      if (delta > 0) this.tally.outOfOrder++
      this.wait(flow, direction, other, buf, us)
      if (direction.pending.length > 0) this.drain(flow, direction, other)
      return
    }
    const from = payload - delta
    if (payloadLength + delta <= 0) {
      this.tally.retransmitted++
      return
    }
    if (delta < 0) this.tally.retransmitted++
    this.deliver(flow, direction, buf, Math.min(from, payloadEnd), payloadEnd, payloadLength + delta, us)
    if (other.pending.length > 0) this.drain(flow, other, direction)
  }

  /** The packet at hand acknowledges bytes of the other direction that have not been seen. */
  private ahead(other: Direction): boolean {
    const { decoder } = this
    return other.known && other.seen && (decoder.flags & ACK) !== 0 && isAhead(decoder.acknowledged, other)
  }

  /** Hands out `buf[from…to)`, the next bytes of a direction, of which `length` were on the wire. */
  private deliver(
    flow: Flow,
    direction: Direction,
    buf: Uint8Array,
    from: number,
    to: number,
    length: number,
    us: number,
  ): void {
    direction.next = (direction.next + (to - from)) >>> 0
    if (to > from) {
      if (flow.protocol === 'opcua') this.sink.onBytes(flow, direction === flow.client, buf, from, to, us)
      else direction.framer.feed(buf, from, to, us)
    }
    const missing = length - (to - from)
    if (missing > 0) {
      this.gap(flow, direction, missing, us)
      direction.next = (direction.next + missing) >>> 0
    }
  }

  private gap(flow: Flow, direction: Direction, bytes: number, us: number): void {
    this.tally.gaps++
    this.tally.gapBytes += bytes
    direction.framer.lose(bytes)
    if (direction === flow.client) flow.incomplete = true
    this.sink.onGap(flow, direction === flow.client, bytes, us)
  }

  // -------------------------------------------------------------------------------------------------- what must wait

  private wait(flow: Flow, direction: Direction, other: Direction, buf: Uint8Array, us: number): void {
    const { sequence, payload, payloadEnd, payloadLength, acknowledged, flags } = this.decoder
    const bytes = buf.slice(payload, payloadEnd)
    const { pending } = direction
    let i = pending.length
    while (i > 0 && ((sequence - pending[i - 1].sequence) | 0) < 0) i--
    pending.splice(i, 0, {
      sequence,
      bytes,
      us,
      acknowledged: (flags & ACK) !== 0 ? acknowledged : other.next,
      missing: payloadLength - bytes.length,
    })
    direction.pendingBytes += bytes.length
    this.pendingTotal += bytes.length
    if (direction.holeSince === 0) direction.holeSince = us
    if (
      pending.length > MAX_PENDING ||
      direction.pendingBytes > MAX_PENDING_BYTES ||
      this.pendingTotal > MAX_PENDING_TOTAL
    ) {
      this.giveUp(flow, direction, other, us)
    }
  }

  /** Hands out what waits, as far as it is next and not ahead of the other direction; then the same over there. */
  private drain(flow: Flow, direction: Direction, other: Direction): void {
    let one = direction
    let two = other
    // Each round hands something out, or is the last of its direction.
    for (let idle = 0; idle < 2; ) {
      idle = this.drainOne(flow, one, two) ? 0 : idle + 1
      const swap = one
      one = two
      two = swap
    }
  }

  private drainOne(flow: Flow, direction: Direction, other: Direction): boolean {
    const { pending } = direction
    let moved = false
    while (pending.length > 0) {
      const [first] = pending
      if (((first.sequence - direction.next) | 0) > 0) break
      if (other.known && other.seen && isAhead(first.acknowledged, other)) break
      pending.shift()
      this.release(first, direction)
      this.handOut(flow, direction, first)
      moved = true
    }
    if (pending.length === 0) direction.holeSince = 0
    else if (moved) direction.holeSince = pending[0].us
    return moved
  }

  private handOut(flow: Flow, direction: Direction, one: Pending): void {
    const delta = (one.sequence - direction.next) | 0
    const length = one.bytes.length + one.missing + delta
    if (delta < 0) this.tally.retransmitted++
    if (length <= 0) return
    this.deliver(flow, direction, one.bytes, Math.min(-delta, one.bytes.length), one.bytes.length, length, one.us)
  }

  private release(one: Pending, direction: Direction): void {
    direction.pendingBytes -= one.bytes.length
    this.pendingTotal -= one.bytes.length
  }

  private discard(direction: Direction): void {
    for (const one of direction.pending) this.release(one, direction)
    direction.pending = []
    direction.holeSince = 0
  }

  private expire(flow: Flow, direction: Direction, other: Direction, us: number): void {
    const [first] = direction.pending
    if (first === undefined) {
      direction.holeSince = 0
      return
    }
    const held = ((first.sequence - direction.next) | 0) <= 0
    // Bytes that the other side has acknowledged will not be sent again.
    const acknowledged = held || ((this.decoder.flags & ACK) !== 0 && other.seen && isAcknowledged(other, direction))
    if (us - direction.holeSince > (acknowledged ? ACKED_HOLE_US : HOLE_US)) this.giveUp(flow, direction, other, us)
  }

  /** The hole before what waits stays: it is counted, and what waits is handed out behind it. */
  private giveUp(flow: Flow, direction: Direction, other: Direction, us: number): void {
    const [first] = direction.pending
    if (first === undefined) return
    const missing = (first.sequence - direction.next) | 0
    if (missing > 0) {
      this.gap(flow, direction, missing, us)
      direction.next = first.sequence
    } else {
      const unseen = (first.acknowledged - other.next) | 0
      // It waits for bytes of the other direction that the capture has not: they come before what waits over there.
      const until = other.pending.length > 0 ? (other.pending[0].sequence - other.next) | 0 : unseen
      const bytes = Math.max(0, Math.min(unseen, until))
      if (bytes > 0) {
        this.gap(flow, other, bytes, us)
        other.next = (other.next + bytes) >>> 0
      } else {
        // Neither can go first: no two real stacks say this of each other.
        direction.pending.shift()
        this.release(first, direction)
        this.handOut(flow, direction, first)
      }
    }
    this.drain(flow, direction, other)
  }

  private close(slot: Slot, us: number): void {
    const { flow } = slot
    if (flow === null || flow.closed) return
    while (!noneWaiting(flow)) {
      const [direction, other] = next(flow)
      this.giveUp(flow, direction, other, us)
    }
    flow.closed = true
    flow.client.framer.lose(0)
    flow.target.framer.lose(0)
    this.tally.skippedBytes += flow.client.framer.skipped + flow.target.framer.skipped
    if (flow.client.seen !== flow.target.seen) this.tally.oneDirection++
    this.sink.onClose(flow, us)
  }
}

/** @param initial sequence number of the SYN */
function begin(direction: Direction, initial: number): void {
  direction.known = true
  direction.initial = initial
  direction.next = (initial + 1) >>> 0
  direction.framer.synced = true
}

/** Of two directions that wait, the one whose oldest segment came first. */
function next(flow: Flow): [Direction, Direction] {
  const { client, target } = flow
  if (target.pending.length === 0) return [client, target]
  if (client.pending.length === 0) return [target, client]
  return client.pending[0].us <= target.pending[0].us ? [client, target] : [target, client]
}

const noneWaiting = (flow: Flow): boolean => flow.client.pending.length + flow.target.pending.length === 0

/** A FIN takes a sequence number of its own. */
const isAhead = (acknowledged: number, other: Direction): boolean => {
  const ahead = (acknowledged - other.next) | 0
  return ahead > (other.finished ? 1 : 0) && ahead < WINDOW
}

/** Something that waits or was seen from `other` acknowledges bytes beyond the hole in `direction`. */
const isAcknowledged = (other: Direction, direction: Direction): boolean =>
  other.pending.some((one) => ((one.acknowledged - direction.next) | 0) > 0)

const word32 = (buf: Uint8Array, at: number): number =>
  (buf[at] << 24) | (buf[at + 1] << 16) | (buf[at + 2] << 8) | buf[at + 3]

/** As a 128-bit integer, IPv4 mapped into IPv6. */
function addressAt(buf: Uint8Array, at: number, v6: boolean): bigint {
  if (!v6) return 0xffff_0000_0000n | BigInt(word32(buf, at) >>> 0)
  let address = 0n
  for (let i = 0; i < 16; i++) address = (address << 8n) | BigInt(buf[at + i])
  return address
}

/** `10.0.0.5:502`, `[fd00::5]:502`. */
export function endpointText(address: bigint, port: number): string {
  const text = formatAddress(address)
  return text.includes(':') ? `[${text}]:${port}` : `${text}:${port}`
}
