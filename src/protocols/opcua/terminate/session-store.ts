/** Where sessions are noted, for all connections of all workers: a session outlives the connection it was made on. */

export interface SessionRecord {
  /** SHA-1 of the client's certificate; empty with None. */
  thumbprint: Uint8Array
  /** Index of the security policy, and mode, of the channel that it was made on. */
  policy: number
  mode: number
  /** The server nonce that the client was given last. */
  ownNonce: Uint8Array
  /** The server's last; at most `MAX_NONCE`. */
  serverNonce: Uint8Array
  /** Milliseconds. */
  timeoutMs: number
  name: string
  user: string
}

/** Longest server nonce that is remembered. */
export const MAX_NONCE = 128

export interface SessionStore {
  /** Room for one more session of a conduit; -1 where it has `most` already, or none is left. */
  reserve(scope: number, most: number): number
  /** A session that could not be made after all. */
  cancel(slot: number): void
  /** @param key 32 bytes that stand for the target and the authentication token */
  commit(slot: number, key: Uint8Array, record: SessionRecord): void
  /** @returns the slot, or -1 */
  find(key: Uint8Array): number
  read(slot: number): SessionRecord
  /** New nonces, and who the user is. False where the session is gone. */
  renew(slot: number, key: Uint8Array, ownNonce: Uint8Array, serverNonce: Uint8Array, user: string): boolean
  /** The session is in use: it lives for its time-out from now. */
  touch(slot: number, key: Uint8Array): void
  remove(slot: number, key: Uint8Array): void
}
