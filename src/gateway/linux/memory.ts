/**
 * The one piece of memory that system calls read and write. Every pointer that leaves for the kernel is made here, from
 * an offset and a length that lie within it.
 */

/** Where things stand in the memory, in bytes. */
export const AREA = {
  /** Room for the part of a frame that came before what is read now. */
  head: 0,
  /** `recv` writes here. */
  read: 512,
  readBytes: 65536,
  /** What is sent from elsewhere is copied here first. */
  stage: 512 + 65536,
  stageBytes: 1 << 18,
  /** `struct epoll_event` × `events`. */
  epoll: 512 + 65536 + (1 << 18),
  events: 512,
  /** `struct sockaddr_in6`, and its length behind it. */
  address: 512 + 65536 + (1 << 18) + 512 * 12,
  addressBytes: 28,
  addressLength: 512 + 65536 + (1 << 18) + 512 * 12 + 32,
  /** Values of socket options, and of the eventfd. */
  option: 512 + 65536 + (1 << 18) + 512 * 12 + 40,
  optionBytes: 16,
  size: 512 + 65536 + (1 << 18) + 512 * 12 + 64,
} as const

export class Memory {
  readonly bytes: Buffer
  /** Words of the epoll area: events, then the descriptor, then a word of no use, for each. */
  readonly words: Int32Array
  private readonly base: number

  /** @param addressOf gives the address of a buffer's first byte */
  constructor(addressOf: (bytes: Buffer) => bigint | number) {
    this.bytes = Buffer.allocUnsafeSlow(AREA.size)
    this.words = new Int32Array(this.bytes.buffer, this.bytes.byteOffset + AREA.epoll, AREA.events * 3)
    this.base = Number(addressOf(this.bytes))
    if (!Number.isSafeInteger(this.base) || this.base <= 0) throw new RangeError('no address for the memory')
  }

  /**
   * The pointer to `at`, for a system call that may touch `length` bytes from there.
   * @throws RangeError where any of them lies outside
   */
  pointer(at: number, length: number): number {
    // Written so that NaN and fractions fail as well.
    if (!((at | 0) === at && (length | 0) === length && at >= 0 && length >= 0 && at + length <= AREA.size)) {
      throw new RangeError(`${length} bytes at ${at} are outside of ${AREA.size}`)
    }
    return this.base + at
  }
}
