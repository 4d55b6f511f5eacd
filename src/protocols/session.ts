/**
 * What the gateway and its transports ask of a session, whatever its protocol: one connection pair without its sockets.
 * It takes bytes by offset from the client or the target, and tells its host what to forward, what to answer and when
 * to close. Beside this, each session has `adopt` for its own kind of terms, and a way of its own to report verdicts.
 */

/** The most bytes that a session may want before those received: see `Session.clientRoom`. */
export const HEAD_ROOM = 512

/** The clock of a worker: set once a batch of input, read by all its sessions. */
export interface Clock {
  /** Microseconds since some start, as a wrapping signed 32-bit integer. */
  us: number
  /** Milliseconds since the same start, wrapping alike. */
  ms: number
}

/** Rates and in-flight limits of one connection, counted in memory that all workers share. */
export interface RequestLimiter {
  /** Counts one request; false when it is over a limit (then nothing is counted, unless `force`). */
  acquire(us: number, force: boolean): boolean
  /** The request is answered or given up. */
  release(): void
}

/** The gate of a session that nothing shuts: see `evidence.required`. */
export const OPEN_GATE = new Int32Array(1)

/** What a session asks of whoever holds its sockets. No call may re-enter the session. */
export interface SessionHost {
  /** Sends or queues a copy; the buffer is the caller's again on return. */
  toTarget(buf: Uint8Array, from: number, to: number): void
  toClient(buf: Uint8Array, from: number, to: number): void
  /** Closes the client's side with FIN once all that is queued has been sent, then the target's. */
  finish(reason: string): void
  /** Closes both sides with RST at once. */
  reset(reason: string): void
  /** The target's connection was lost or given up: starts another one. False while it may not yet be tried again. */
  redial(): boolean
  /** Closes the target's connection, whose stream can no longer be trusted. The client's stays. */
  dropTarget(reason: string): void
}

export interface Session {
  /** Requests that the target owes an answer. */
  readonly pending: number
  /**
   * Bytes before the next ones from the client that must be the session's to write: a part of a frame waits to be put
   * there. At most `HEAD_ROOM`, mostly 0: what is read lies close together, and in the cache.
   */
  readonly clientRoom: number
  /** The same before the next bytes from the target. */
  readonly targetRoom: number
  /** True while no more should be read from the client. */
  readonly congested: boolean
  /** True when nothing is owed to the client any more. */
  readonly drained: boolean
  /** True where something waits to be paced: `onPace` wants to be called every few milliseconds. */
  readonly waiting: boolean
  /** The bytes pass as they come, whatever is found in them. */
  readonly monitoring: boolean
  /**
   * Bytes [start, end) from the client. `buf` has `clientRoom` writable bytes before `start`; its content from there to
   * `end` is the session's to change.
   */
  onClientBytes(buf: Uint8Array, start: number, end: number): void
  /** Bytes from the target; the same demands on `buf`, with `targetRoom`. */
  onTargetBytes(buf: Uint8Array, start: number, end: number): void
  /** The client has closed its side. */
  onClientEnd(): void
  /** The target has closed its side. */
  onTargetEnd(): void
  /** The target could not be reached (`connected` false), or its connection was lost. */
  onTargetLost(connected: boolean): void
  /** Looks after what is due. @returns in how many milliseconds it wants to be called again, at most */
  onTimer(): number
  onPace(): void
  /** Takes no more requests; closes once what is outstanding is answered. */
  close(why: string): void
  /** The connection is gone: gives back what it held of shared limits and gauges. */
  dispose(): void
}
