/**
 * What a worker holds of the kernel's that Node.js does not know of, in memory that outlives the worker: nobody else
 * would give it back when it dies, and a listener without a loop would go on taking connections.
 */

/** The kernel's own limit, `fs.nr_open`, unless it was raised. */
const MAX_DESCRIPTORS = 1 << 20

const BITS_BYTES = MAX_DESCRIPTORS / 8

export const descriptorsBytes = (): number => BITS_BYTES + 8

export class Descriptors {
  private readonly bits: Uint8Array
  private readonly contexts: Float64Array

  /** @param memory of `descriptorsBytes()` bytes; only the worker writes, while it lives */
  constructor(memory: SharedArrayBuffer) {
    this.bits = new Uint8Array(memory, 0, BITS_BYTES)
    this.contexts = new Float64Array(memory, BITS_BYTES, 1)
  }

  opened(fd: number): void {
    if (fd < MAX_DESCRIPTORS) this.bits[fd >>> 3] |= 1 << (fd & 7)
  }

  /** To be called before the descriptor is closed: after, its number may be another thread's. */
  closing(fd: number): void {
    if (fd < MAX_DESCRIPTORS) this.bits[fd >>> 3] &= ~(1 << (fd & 7))
  }

  /** The context of asynchronous I/O (`Syscalls.ioSetup`): the worker in the dead one's place destroys it. 0: none */
  get context(): number {
    return this.contexts[0]
  }

  set context(context: number) {
    this.contexts[0] = context
  }

  /** Those that are open, for the one who closes them: they are noted no longer. */
  take(): number[] {
    const list: number[] = []
    for (const [at, byte] of this.bits.entries()) {
      for (let bit = 0; byte >>> bit !== 0; bit++) if (((byte >>> bit) & 1) === 1) list.push(at * 8 + bit)
    }
    this.bits.fill(0)
    return list
  }
}
