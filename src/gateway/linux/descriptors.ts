/**
 * Which descriptors a worker holds that Node.js does not know of, in memory that outlives the worker: nobody else would
 * close them when it dies, and a listener without a loop would go on taking connections.
 */

/** The kernel's own limit, `fs.nr_open`, unless it was raised. */
const MAX_DESCRIPTORS = 1 << 20

export const descriptorsBytes = (): number => MAX_DESCRIPTORS / 8

export class Descriptors {
  private readonly bits: Uint8Array

  /** @param memory of `descriptorsBytes()` bytes; only the worker writes, while it lives */
  constructor(memory: SharedArrayBuffer) {
    this.bits = new Uint8Array(memory)
  }

  opened(fd: number): void {
    if (fd < MAX_DESCRIPTORS) this.bits[fd >>> 3] |= 1 << (fd & 7)
  }

  /** To be called before the descriptor is closed: after, its number may be another thread's. */
  closing(fd: number): void {
    if (fd < MAX_DESCRIPTORS) this.bits[fd >>> 3] &= ~(1 << (fd & 7))
  }

  /** Those that are open. */
  list(): number[] {
    const list: number[] = []
    for (const [at, byte] of this.bits.entries()) {
      for (let bit = 0; byte >>> bit !== 0; bit++) if (((byte >>> bit) & 1) === 1) list.push(at * 8 + bit)
    }
    return list
  }
}
