/**
 * Who has how much of what: connections, requests in flight and rates for every client and target, in memory that all
 * workers share. A fixed number of slots, each for one (conduit, role, address).
 *
 * What each worker holds of the shared counts is noted in words of its own, so that the supervisor can give back what
 * a worker that died still held.
 */
import { conforms, type Rate, takeBack } from './gcra.ts'

/** Slots; a gateway with more distinct clients and targets at one time refuses new ones. */
export const SLOTS = 8192
/** How far a slot may stand from where its hash would put it. */
const PROBES = 64

const SLOT = {
  tag: 0,
  address: 1,
  connections: 5,
  inFlight: 6,
  requestRate: 7,
  connectRate: 8,
  holders: 9,
  words: 16,
} as const
/** Of one worker, for one slot. */
const OWN = { connections: 0, inFlight: 1, holders: 2, words: 3 } as const

const HEADER = 16
const LOCK = 0

export function limitsBytes(workers: number): number {
  return 4 * (HEADER + SLOTS * SLOT.words + workers * SLOTS * OWN.words)
}

/** Connection limits and the rate of new connections. Infinity where there is none. */
export interface ConnectionTerms {
  perClient: number
  perTarget: number
  newConnections: Rate | null
}

/** Request limits of a conduit. Infinity or null where there is none. */
export interface RequestTerms {
  perClient: Rate | null
  perTarget: Rate | null
  inFlightPerTarget: number
}

export class SharedLimits {
  private readonly cells: Int32Array
  private readonly worker: number

  /**
   * @param memory of `limitsBytes(workers)` bytes, shared by all workers and the supervisor
   * @param worker index of this worker, 0…workers-1
   */
  constructor(memory: SharedArrayBuffer, worker: number) {
    this.cells = new Int32Array(memory)
    this.worker = worker
  }

  /**
   * The slot of an address in a role, made where there is none. Give it back with `releaseSlot`.
   * @param tag which conduit and role; any non-zero 32-bit integer
   * @param address 128-bit
   * @returns the slot, or -1 when the table has no room
   */
  holdSlot(tag: number, address: bigint, us: number): number {
    const words = [0, 1, 2, 3].map((i) => Number((address >> BigInt(32 * i)) & 0xffffffffn) | 0)
    let hash = tag
    for (const word of words) hash = Math.imul(hash ^ word, 0x9e3779b1)
    this.lock()
    try {
      let free = -1
      for (let probe = 0; probe < PROBES; probe++) {
        const slot = ((hash >>> 8) + probe) % SLOTS
        const at = HEADER + slot * SLOT.words
        if (this.cells[at] === tag && words.every((word, i) => this.cells[at + SLOT.address + i] === word)) {
          return this.hold(slot, at)
        }
        if (free === -1 && this.reusable(at, us)) free = slot
      }
      if (free === -1) return -1
      const at = HEADER + free * SLOT.words
      this.cells.fill(0, at, at + SLOT.words)
      this.cells[at] = tag
      for (const [i, word] of words.entries()) this.cells[at + SLOT.address + i] = word
      this.cells[at + SLOT.requestRate] = us
      this.cells[at + SLOT.connectRate] = us
      return this.hold(free, at)
    } finally {
      this.unlock()
    }
  }

  private hold(slot: number, at: number): number {
    Atomics.add(this.cells, at + SLOT.holders, 1)
    this.cells[this.own(slot) + OWN.holders]++
    return slot
  }

  /** Nobody holds it, and its rates have nothing more to say. */
  private reusable(at: number, us: number): boolean {
    if (this.cells[at] === 0) return true
    if (Atomics.load(this.cells, at + SLOT.holders) > 0) return false
    return ((this.cells[at + SLOT.requestRate] - us) | 0) <= 0 && ((this.cells[at + SLOT.connectRate] - us) | 0) <= 0
  }

  releaseSlot(slot: number): void {
    Atomics.sub(this.cells, HEADER + slot * SLOT.words + SLOT.holders, 1)
    this.cells[this.own(slot) + OWN.holders]--
  }

  /**
   * Counts a new connection. `force` counts it whatever the limits say (monitor mode).
   * @returns false when it is over a limit
   */
  connect(client: number, target: number, terms: ConnectionTerms, us: number, force: boolean): boolean {
    const clientAt = HEADER + client * SLOT.words
    const targetAt = HEADER + target * SLOT.words
    let within = true
    if (Atomics.add(this.cells, clientAt + SLOT.connections, 1) >= terms.perClient) within = false
    if (Atomics.add(this.cells, targetAt + SLOT.connections, 1) >= terms.perTarget) within = false
    if (within && terms.newConnections !== null) {
      within = conforms(this.cells, clientAt + SLOT.connectRate, terms.newConnections, us)
    }
    if (within || force) {
      this.cells[this.own(client) + OWN.connections]++
      this.cells[this.own(target) + OWN.connections]++
    } else {
      Atomics.sub(this.cells, clientAt + SLOT.connections, 1)
      Atomics.sub(this.cells, targetAt + SLOT.connections, 1)
    }
    return within
  }

  disconnect(client: number, target: number): void {
    Atomics.sub(this.cells, HEADER + client * SLOT.words + SLOT.connections, 1)
    Atomics.sub(this.cells, HEADER + target * SLOT.words + SLOT.connections, 1)
    this.cells[this.own(client) + OWN.connections]--
    this.cells[this.own(target) + OWN.connections]--
  }

  /** Counts one request; see `RequestLimiter.acquire` of the Modbus session. */
  request(client: number, target: number, terms: RequestTerms, us: number, force: boolean): boolean {
    const { cells } = this
    const clientAt = HEADER + client * SLOT.words
    const targetAt = HEADER + target * SLOT.words
    let within = true
    if (Atomics.add(cells, targetAt + SLOT.inFlight, 1) >= terms.inFlightPerTarget) within = false
    if (within && terms.perClient !== null && !conforms(cells, clientAt + SLOT.requestRate, terms.perClient, us)) {
      within = false
    }
    if (within && terms.perTarget !== null && !conforms(cells, targetAt + SLOT.requestRate, terms.perTarget, us)) {
      within = false
      if (terms.perClient !== null) takeBack(cells, clientAt + SLOT.requestRate, terms.perClient)
    }
    if (within || force) cells[this.own(target) + OWN.inFlight]++
    else Atomics.sub(cells, targetAt + SLOT.inFlight, 1)
    return within
  }

  answered(target: number): void {
    Atomics.sub(this.cells, HEADER + target * SLOT.words + SLOT.inFlight, 1)
    this.cells[this.own(target) + OWN.inFlight]--
  }

  /** Gives back all that a worker held. For the supervisor, when that worker has died. */
  forfeit(worker: number): void {
    const base = HEADER + SLOTS * SLOT.words + worker * SLOTS * OWN.words
    // A worker that died within `holdSlot` took the lock with it.
    Atomics.compareExchange(this.cells, LOCK, worker + 1, 0)
    for (let slot = 0; slot < SLOTS; slot++) {
      const at = HEADER + slot * SLOT.words
      const own = base + slot * OWN.words
      Atomics.sub(this.cells, at + SLOT.connections, this.cells[own + OWN.connections])
      Atomics.sub(this.cells, at + SLOT.inFlight, this.cells[own + OWN.inFlight])
      Atomics.sub(this.cells, at + SLOT.holders, this.cells[own + OWN.holders])
      this.cells.fill(0, own, own + OWN.words)
    }
  }

  /** Keeps theoretical arrival times within what 32 bits tell apart. For the supervisor, about once a minute. */
  age(us: number): void {
    for (let slot = 0; slot < SLOTS; slot++) {
      for (const rate of [SLOT.requestRate, SLOT.connectRate]) {
        const at = HEADER + slot * SLOT.words + rate
        const tat = Atomics.load(this.cells, at)
        if (((tat - us) | 0) < 0) Atomics.compareExchange(this.cells, at, tat, us)
      }
    }
  }

  private own(slot: number): number {
    return HEADER + SLOTS * SLOT.words + (this.worker * SLOTS + slot) * OWN.words
  }

  /** Held for a few hundred nanoseconds, when a connection is admitted; never while a frame is decided on. */
  private lock(): void {
    while (Atomics.compareExchange(this.cells, LOCK, 0, this.worker + 1) !== 0) {
      Atomics.wait(this.cells, LOCK, this.worker + 1, 1)
    }
  }

  private unlock(): void {
    Atomics.store(this.cells, LOCK, 0)
    Atomics.notify(this.cells, LOCK, 1)
  }
}

/** The limits of one connection, between its client's and its target's slot. */
export class ConnectionLimiter {
  private readonly limits: SharedLimits
  private readonly client: number
  private readonly target: number
  private readonly terms: RequestTerms

  constructor(limits: SharedLimits, client: number, target: number, terms: RequestTerms) {
    this.limits = limits
    this.client = client
    this.target = target
    this.terms = terms
  }

  acquire(us: number, force: boolean): boolean {
    return this.limits.request(this.client, this.target, this.terms, us, force)
  }

  release(): void {
    this.limits.answered(this.target)
  }
}
