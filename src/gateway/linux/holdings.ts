/**
 * What a worker holds of the kernel's that Node.js does not know of, noted in memory that outlives the worker: nobody
 * else would give it back when it dies, and a listener without a loop would go on taking connections. Descriptors are
 * closed for it; its memory and its context go to the worker that takes its place.
 */

/** The kernel's own limit, `fs.nr_open`, unless it was raised. */
const MAX_DESCRIPTORS = 1 << 20

const BITS_BYTES = MAX_DESCRIPTORS / 8
const MEMORY = 0
const CONTEXT = 1

export const holdingsBytes = (): number => BITS_BYTES + 16

export class Holdings {
  private readonly bits: Uint8Array
  private readonly addresses: Float64Array

  /** @param memory of `holdingsBytes()` bytes; only the worker writes, while it lives */
  constructor(memory: SharedArrayBuffer) {
    this.bits = new Uint8Array(memory, 0, BITS_BYTES)
    this.addresses = new Float64Array(memory, BITS_BYTES, 2)
  }

  opened(fd: number): void {
    if (fd < MAX_DESCRIPTORS) this.bits[fd >>> 3] |= 1 << (fd & 7)
  }

  /** To be called before the descriptor is closed: after, its number may be another thread's. */
  closing(fd: number): void {
    if (fd < MAX_DESCRIPTORS) this.bits[fd >>> 3] &= ~(1 << (fd & 7))
  }

  /** Where the memory of its system calls is (`Syscalls.memory`), which is not unmapped while the process lives. 0: none */
  get memory(): number {
    return this.addresses[MEMORY]
  }

  set memory(address: number) {
    this.addresses[MEMORY] = address
  }

  /** The context of its batches (`Syscalls.ioSetup`). 0: none */
  get context(): number {
    return this.addresses[CONTEXT]
  }

  set context(context: number) {
    this.addresses[CONTEXT] = context
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
