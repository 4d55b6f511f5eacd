/** What a worker asks of a transport: listeners opened and closed, and its loop. */
import type { ListenerPlan } from './plan.ts'

export interface Transport {
  /**
   * Opens a listener.
   * @param done is called with null, or with the code of the error (`EADDRINUSE`); at once, or later
   */
  listen(listener: ListenerPlan, done: (code: string | null) => void): void
  /** Closes a listener; its connections stay. */
  unlisten(key: string): void
  /** Carries connections until `stop`; on Node's own event loop it returns at once. */
  run(): void
  stop(): void
}
