/**
 * The sessions of terminating OPC UA conduits, in memory that all workers share: a client that reconnects may land on
 * another worker, and its session must be activated there by what the server and the client were told last. What lies
 * here is no secret: nonces have been sent, authentication tokens lie here as hashes.
 */
import { MAX_NONCE, type SessionRecord, type SessionStore } from '../protocols/opcua/terminate/session-store.ts'

/** Sessions of all conduits together. */
export const MAX_SESSIONS = 2048

/** An entry, in bytes. */
const AT = {
  state: 0,
  scope: 4,
  /** Of the worker that has reserved it, plus one. */
  worker: 8,
  policy: 12,
  mode: 13,
  ownNonceLength: 14,
  serverNonceLength: 15,
  thumbprintLength: 16,
  nameLength: 17,
  userLength: 18,
  /** Milliseconds since 1970. */
  usedMs: 24,
  timeoutMs: 32,
  key: 40,
  ownNonce: 72,
  thumbprint: 104,
  serverNonce: 128,
  name: 256,
  user: 384,
  bytes: 512,
} as const
const STATE = { free: 0, reserved: 1, used: 2 } as const
const KEY = 32
const TEXT = 128

/** A lock, in front of the entries. */
const HEADER = 64

export const sessionsBytes = (): number => HEADER + MAX_SESSIONS * AT.bytes

/** Beyond its time-out a session is remembered for so long: clocks and networks differ. */
const GRACE_MS = 10_000
/** What servers say of time-outs is bounded: 0 or a year would keep an entry for ever. */
const LEAST_TIMEOUT_MS = 10_000
const GREATEST_TIMEOUT_MS = 24 * 3_600_000
/** A session that the server has not answered for. */
const RESERVED_MS = 60_000

export class SharedSessions implements SessionStore {
  private readonly words: Int32Array
  private readonly bytes: Uint8Array
  private readonly view: DataView
  private readonly worker: number
  private readonly now: () => number

  /**
   * @param memory of `sessionsBytes()` bytes, shared by all workers and the supervisor
   * @param now milliseconds since 1970
   */
  constructor(memory: SharedArrayBuffer, worker: number, now: () => number = Date.now) {
    this.words = new Int32Array(memory)
    this.bytes = new Uint8Array(memory)
    this.view = new DataView(memory)
    this.worker = worker
    this.now = now
  }

  reserve(scope: number, most: number): number {
    return this.locked(() => {
      let free = -1
      let count = 0
      for (let slot = 0; slot < MAX_SESSIONS; slot++) {
        const at = this.at(slot)
        if (this.expired(at)) this.clear(at)
        if (this.words[at >> 2] === STATE.free) {
          if (free === -1) free = slot
        } else if (this.words[(at + AT.scope) >> 2] === scope) count++
      }
      if (free === -1 || count >= most) return -1
      const at = this.at(free)
      this.words[at >> 2] = STATE.reserved
      this.words[(at + AT.scope) >> 2] = scope
      this.words[(at + AT.worker) >> 2] = this.worker + 1
      this.view.setFloat64(at + AT.usedMs, this.now(), true)
      this.view.setFloat64(at + AT.timeoutMs, RESERVED_MS, true)
      return free
    })
  }

  cancel(slot: number): void {
    this.locked(() => {
      const at = this.at(slot)
      const mine = this.words[(at + AT.worker) >> 2] === this.worker + 1
      if (mine && this.words[at >> 2] === STATE.reserved) this.clear(at)
    })
  }

  commit(slot: number, key: Uint8Array, record: SessionRecord): void {
    this.locked(() => {
      const at = this.at(slot)
      const timeout = Math.min(GREATEST_TIMEOUT_MS, Math.max(LEAST_TIMEOUT_MS, record.timeoutMs || 0))
      this.words[at >> 2] = STATE.used
      this.bytes[at + AT.policy] = record.policy
      this.bytes[at + AT.mode] = record.mode
      this.view.setFloat64(at + AT.usedMs, this.now(), true)
      this.view.setFloat64(at + AT.timeoutMs, timeout, true)
      this.bytes.set(key.subarray(0, KEY), at + AT.key)
      this.put(at, AT.thumbprint, AT.thumbprintLength, record.thumbprint, 20)
      this.put(at, AT.ownNonce, AT.ownNonceLength, record.ownNonce, 32)
      this.put(at, AT.serverNonce, AT.serverNonceLength, record.serverNonce, MAX_NONCE)
      this.put(at, AT.name, AT.nameLength, Buffer.from(record.name), TEXT)
      this.put(at, AT.user, AT.userLength, Buffer.from(record.user), TEXT)
    })
  }

  find(key: Uint8Array): number {
    return this.locked(() => {
      for (let slot = 0; slot < MAX_SESSIONS; slot++) {
        const at = this.at(slot)
        if (this.words[at >> 2] === STATE.used && !this.expired(at) && this.has(at, key)) return slot
      }
      return -1
    })
  }

  read(slot: number): SessionRecord {
    return this.locked(() => {
      const at = this.at(slot)
      return {
        thumbprint: this.get(at, AT.thumbprint, AT.thumbprintLength),
        policy: this.bytes[at + AT.policy],
        mode: this.bytes[at + AT.mode],
        ownNonce: this.get(at, AT.ownNonce, AT.ownNonceLength),
        serverNonce: this.get(at, AT.serverNonce, AT.serverNonceLength),
        timeoutMs: this.view.getFloat64(at + AT.timeoutMs, true),
        name: Buffer.from(this.get(at, AT.name, AT.nameLength)).toString('utf8'),
        user: Buffer.from(this.get(at, AT.user, AT.userLength)).toString('utf8'),
      }
    })
  }

  renew(slot: number, key: Uint8Array, ownNonce: Uint8Array, serverNonce: Uint8Array, user: string): boolean {
    return this.locked(() => {
      const at = this.at(slot)
      if (this.words[at >> 2] !== STATE.used || !this.has(at, key)) return false
      this.put(at, AT.ownNonce, AT.ownNonceLength, ownNonce, 32)
      this.put(at, AT.serverNonce, AT.serverNonceLength, serverNonce, MAX_NONCE)
      this.put(at, AT.user, AT.userLength, Buffer.from(user), TEXT)
      this.view.setFloat64(at + AT.usedMs, this.now(), true)
      return true
    })
  }

  touch(slot: number, key: Uint8Array): void {
    this.locked(() => {
      const at = this.at(slot)
      if (this.words[at >> 2] === STATE.used && this.has(at, key)) {
        this.view.setFloat64(at + AT.usedMs, this.now(), true)
      }
    })
  }

  remove(slot: number, key: Uint8Array): void {
    this.locked(() => {
      const at = this.at(slot)
      if (this.words[at >> 2] === STATE.used && this.has(at, key)) this.clear(at)
    })
  }

  /** Gives back what a worker that died was about to make. Its sessions stay: their clients will come again. */
  forfeit(worker: number): void {
    Atomics.compareExchange(this.words, 0, worker + 1, 0)
    this.locked(() => {
      for (let slot = 0; slot < MAX_SESSIONS; slot++) {
        const at = this.at(slot)
        const reserved = this.words[at >> 2] === STATE.reserved
        if (reserved && this.words[(at + AT.worker) >> 2] === worker + 1) this.clear(at)
      }
    })
  }

  private at(slot: number): number {
    return HEADER + slot * AT.bytes
  }

  private has(at: number, key: Uint8Array): boolean {
    for (let i = 0; i < KEY; i++) if (this.bytes[at + AT.key + i] !== key[i]) return false
    return true
  }

  private expired(at: number): boolean {
    if (this.words[at >> 2] === STATE.free) return false
    const idle = this.now() - this.view.getFloat64(at + AT.usedMs, true)
    return idle > this.view.getFloat64(at + AT.timeoutMs, true) + GRACE_MS
  }

  private clear(at: number): void {
    this.bytes.fill(0, at, at + AT.bytes)
  }

  private put(at: number, field: number, lengthField: number, value: Uint8Array, most: number): void {
    const length = Math.min(most, value.length)
    this.bytes[at + lengthField] = length
    this.bytes.set(value.subarray(0, length), at + field)
  }

  private get(at: number, field: number, lengthField: number): Uint8Array {
    const from = at + field
    return Uint8Array.from(this.bytes.subarray(from, from + this.bytes[at + lengthField]))
  }

  /** Held for some microseconds, when a session is made, taken over or ended; once a second for one in use. */
  private locked<T>(work: () => T): T {
    while (Atomics.compareExchange(this.words, 0, 0, this.worker + 1) !== 0) {
      Atomics.wait(this.words, 0, this.worker + 1, 1)
    }
    try {
      return work()
    } finally {
      Atomics.store(this.words, 0, 0)
      Atomics.notify(this.words, 0, 1)
    }
  }
}
