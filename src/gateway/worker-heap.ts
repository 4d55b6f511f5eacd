/**
 * The heap of a worker thread: such that no collection under load is long. A relay on the epoll loop allocates next to
 * nothing for a message, so that what its young generation holds when that is full at last is mostly alive, and is all
 * copied in one pause: 16 MB of it were 4 ms. A small one is emptied while the worker starts, and costs a connection
 * pair 1.7 KB of resident memory in place of 4 (bench: soak, memory).
 */
import { setFlagsFromString } from 'node:v8'
import type { ResourceLimits } from 'node:worker_threads'
import type { Policy } from '../policy/model.ts'

/** All of the young generation: V8 makes three parts of it. */
const YOUNG_MB = 3
/** V8 marks the whole heap (4 to 6 ms) each time that it has grown so much; a worker at work has some 20 MB. */
const OLD_MB = 64

/**
 * To be asked for before each worker is started.
 * @returns what a worker's heap is held to; {}: V8's own sizes, for those that decode whole messages into objects
 */
export function workerHeap(io: 'epoll' | 'net', policy: Policy): ResourceLimits {
  const terminates = policy.conduits.some(({ protocols }) =>
    protocols.some((protocol) => protocol.kind === 'opcua' && protocol.handling === 'terminate'),
  )
  if (io !== 'epoll' || terminates) return {}
  // Read by V8 when it makes the next heap; nothing else changes.
  setFlagsFromString(`--initial-old-space-size=${OLD_MB}`)
  return { maxYoungGenerationSizeMb: YOUNG_MB }
}
