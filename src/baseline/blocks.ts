/** Buffers that are lent and come back: bounded all together, and allocated once where the same sizes are wanted again. */

/** Sizes are powers of two, from 2^LEAST to 2^MOST bytes. */
const LEAST = 12
const MOST = 20

export class Blocks {
  private readonly free: Uint8Array[][] = Array.from({ length: MOST + 1 }, () => [])
  /** Bytes that may still be allocated. */
  private left: number

  /** @param bytes of all buffers, lent or not */
  constructor(bytes: number) {
    this.left = bytes
  }

  /** @returns a buffer of at least `length` bytes, of any content; null: it is too long, or there is no room */
  lend(length: number): Uint8Array | null {
    const size = Math.max(LEAST, 32 - Math.clz32(length - 1))
    if (size > MOST) return null
    const found = this.free[size].pop()
    if (found !== undefined) return found
    if (this.left < 2 ** size) this.drop()
    if (this.left < 2 ** size) return null
    this.left -= 2 ** size
    return new Uint8Array(2 ** size)
  }

  /** Takes back what `lend` gave. */
  give(block: Uint8Array): void {
    this.free[31 - Math.clz32(block.length)].push(block)
  }

  /** What is not lent makes room for other sizes. */
  private drop(): void {
    for (const [size, blocks] of this.free.entries()) {
      this.left += blocks.length * 2 ** size
      blocks.length = 0
    }
  }
}
