/** What a worker asks of a transport: listeners opened and closed, and in time the end of its loop. */
import type { ListenerPlan } from './plan.ts'

export interface Transport {
  readonly name: 'net' | 'epoll'
  /** Opens a listener; rejects where its address cannot be had. */
  listen(listener: ListenerPlan): Promise<void>
  /** Closes a listener; its connections stay. */
  unlisten(key: string): void
  /** Runs until `stop`; a transport on Node's own event loop returns at once. */
  run(): void
  stop(): void
}
