/**
 * Reads capture files: pcap (draft-ietf-opsawg-pcap, micro- and nanoseconds, both byte orders) and pcapng
 * (draft-ietf-opsawg-pcapng). Packets are handed out as offsets into one buffer that is filled again and again, so a
 * capture of any size needs the same memory.
 */
import type { ByteSource } from './source.ts'

/** Takes one packet: its bytes are `buf[at…end)` and the buffer is the reader's again on return. */
export interface PacketSink {
  /**
   * @param linkType LINKTYPE_ value (https://www.tcpdump.org/linktypes.html)
   * @param us microseconds since 1970
   */
  onPacket(buf: Uint8Array, at: number, end: number, linkType: number, us: number): void
}

/** What reading came to. */
export interface CaptureTally {
  packets: number
  /** Bytes of the file, uncompressed, that were understood. */
  bytes: number
  /** Packets that the capture cut short (`captured` less than `original`). */
  snapped: number
  /** Blocks and packets too long for any real one, passed over. */
  oversized: number
  /** Packets whose interface the file does not describe, passed over. */
  orphaned: number
  /** Packets that are older than the one before them by more than a second. */
  backwards: number
  /** Where and why reading stopped before the end; null: it did not. */
  stopped: string | null
}

/** Longest packet or block that is taken: twice the longest snapshot length in use. */
export const MAX_BLOCK = 1 << 19
const BUFFER = 1 << 20
const MAX_INTERFACES = 65536

interface Interface {
  linkType: number
  snapLength: number
  /** Microseconds in a unit of its time stamps. */
  unit: number
  /** Microseconds to add. */
  offset: number
}

const PCAP_MAGIC = 0xa1b2c3d4
const PCAP_NANO_MAGIC = 0xa1b23c4d
const SECTION_HEADER = 0x0a0d0d0a
const BYTE_ORDER = 0x1a2b3c4d

export class CaptureReader {
  readonly tally: CaptureTally = {
    packets: 0,
    bytes: 0,
    snapped: 0,
    oversized: 0,
    orphaned: 0,
    backwards: 0,
    stopped: null,
  }
  private readonly source: ByteSource
  private readonly sink: PacketSink
  private readonly onProgress: () => void
  // No Buffer, whose slice() would be the same memory: what is kept of a packet must not change when this is read into.
  private readonly buf = new Uint8Array(BUFFER)
  private at = 0
  private end = 0
  /** Bytes of the file before `buf[0]`. */
  private base = 0
  private little = true
  private lastTime = 0
  private interfaces: Interface[] = []

  /** @param onProgress called now and then, for a progress bar */
  constructor(source: ByteSource, sink: PacketSink, onProgress: () => void = () => {}) {
    this.source = source
    this.sink = sink
    this.onProgress = onProgress
  }

  /** Reads to the end, or to where the file makes no more sense. Never throws for what the file holds. */
  async read(): Promise<CaptureTally> {
    if (!(await this.fill(4)))
      this.stop(this.end === 0 ? 'the file is empty' : 'the file is shorter than a magic number')
    else {
      const magic = this.u32be(0)
      const swapped = this.u32le(0)
      if (magic === SECTION_HEADER) await this.readPcapng()
      else if (magic === PCAP_MAGIC || magic === PCAP_NANO_MAGIC) await this.readPcap(false, magic)
      else if (swapped === PCAP_MAGIC || swapped === PCAP_NANO_MAGIC) await this.readPcap(true, swapped)
      else {
        const hex = magic.toString(16).padStart(8, '0')
        this.stop(`not a capture file: it begins with ${hex}, expected the magic number of pcap or pcapng`)
      }
    }
    this.tally.bytes = this.base + this.at
    if (this.source.damage !== null) this.tally.stopped = this.source.damage
    this.onProgress()
    return this.tally
  }

  private stop(why: string): void {
    this.tally.stopped ??= why
  }

  private get offset(): number {
    return this.base + this.at
  }

  /** Makes `length` bytes (≤ `MAX_BLOCK` + headers) available at `at`. False where the file ends before. */
  private async fill(length: number): Promise<boolean> {
    if (this.end - this.at >= length) return true
    if (this.at > 0) {
      this.buf.copyWithin(0, this.at, this.end)
      this.base += this.at
      this.end -= this.at
      this.at = 0
    }
    while (this.end < length) {
      const count = await this.source.read(this.buf, this.end, BUFFER - this.end)
      if (count === 0) return false
      this.end += count
    }
    this.onProgress()
    return true
  }

  /** Passes over `length` bytes of any number. */
  private async skip(length: number): Promise<boolean> {
    let left = length
    for (;;) {
      const step = Math.min(left, this.end - this.at)
      this.at += step
      left -= step
      if (left === 0) return true
      if (!(await this.fill(1))) return false
    }
  }

  private u32be(offset: number): number {
    const at = this.at + offset
    const { buf } = this
    return ((buf[at] << 24) | (buf[at + 1] << 16) | (buf[at + 2] << 8) | buf[at + 3]) >>> 0
  }

  private u32le(offset: number): number {
    const at = this.at + offset
    const { buf } = this
    return ((buf[at + 3] << 24) | (buf[at + 2] << 16) | (buf[at + 1] << 8) | buf[at]) >>> 0
  }

  private u32(offset: number): number {
    return this.little ? this.u32le(offset) : this.u32be(offset)
  }

  private u16(offset: number): number {
    const at = this.at + offset
    const { buf } = this
    return this.little ? buf[at] | (buf[at + 1] << 8) : (buf[at] << 8) | buf[at + 1]
  }

  private packet(from: number, length: number, original: number, linkType: number, us: number): void {
    const { tally } = this
    tally.packets++
    if (length < original) tally.snapped++
    if (us < this.lastTime - 1e6) tally.backwards++
    this.lastTime = us
    this.sink.onPacket(this.buf, from, from + length, linkType, us)
  }

  private async readPcap(little: boolean, magic: number): Promise<void> {
    this.little = little
    if (!(await this.fill(24))) {
      this.stop('the file ends within its header')
      return
    }
    // The upper bits say whether frames end with a check sequence; those bytes lie behind the IP packet.
    const linkType = this.u32(20) & 0x0fffffff
    const fraction = magic === PCAP_NANO_MAGIC ? 1e-3 : 1
    this.at += 24
    for (;;) {
      // Whole records in the buffer are taken without waiting.
      while (this.end - this.at >= 16) {
        const captured = this.u32(8)
        if (captured > MAX_BLOCK || this.end - this.at < 16 + captured) break
        const us = this.u32(0) * 1e6 + this.u32(4) * fraction
        this.packet(this.at + 16, captured, this.u32(12), linkType, us)
        this.at += 16 + captured
      }
      if (!(await this.fill(16))) {
        if (this.end > this.at) this.stop(`cut short at byte ${this.offset}: the file ends within a packet's header`)
        return
      }
      const captured = this.u32(8)
      if (captured > MAX_BLOCK) {
        this.tally.oversized++
        this.stop(`damaged at byte ${this.offset}: a packet of ${captured} bytes; the rest was not read`)
        return
      }
      if (!(await this.fill(16 + captured))) {
        this.stop(`cut short at byte ${this.offset}: the file ends within a packet`)
        return
      }
    }
  }

  private async readPcapng(): Promise<void> {
    for (;;) {
      if (!(await this.fill(12))) {
        if (this.end > this.at) this.stop(`cut short at byte ${this.offset}: the file ends within a block's header`)
        return
      }
      // Its first field reads the same in both byte orders; the next but one tells which it is.
      if (this.u32be(0) === SECTION_HEADER && !this.section()) return
      const type = this.u32(0)
      const length = this.u32(4)
      if (length < 12 || length % 4 !== 0) {
        this.stop(`damaged at byte ${this.offset}: a block of ${length} bytes; the rest was not read`)
        return
      }
      if (length > MAX_BLOCK) {
        this.tally.oversized++
        if (await this.skip(length)) continue
        this.stop('cut short: the file ends within a block')
        return
      }
      if (!(await this.fill(length))) {
        this.stop(`cut short at byte ${this.offset}: the file ends within a block`)
        return
      }
      if (this.u32(length - 4) !== length) {
        this.stop(`damaged at byte ${this.offset}: a block's two lengths disagree; the rest was not read`)
        return
      }
      this.block(type, length)
      this.at += length
    }
  }

  private section(): boolean {
    if (this.u32le(8) === BYTE_ORDER) this.little = true
    else if (this.u32be(8) === BYTE_ORDER) this.little = false
    else {
      this.stop(`damaged at byte ${this.offset}: a section without a byte order`)
      return false
    }
    this.interfaces = []
    return true
  }

  private block(type: number, length: number): void {
    switch (type) {
      case 1:
        if (length >= 20 && this.interfaces.length < MAX_INTERFACES) this.interfaces.push(this.readInterface(length))
        return
      case 2: // the obsolete Packet Block: a 16-bit interface, and drops
        if (length >= 32) this.timedPacket(this.u16(8), length)
        return
      case 3: {
        const [one] = this.interfaces
        if (length < 16) return
        if (one === undefined) {
          this.tally.orphaned++
          return
        }
        const original = this.u32(8)
        const captured = Math.min(original, one.snapLength === 0 ? original : one.snapLength, length - 16)
        this.packet(this.at + 12, captured, original, one.linkType, this.lastTime)
        return
      }
      case 6:
        if (length >= 32) this.timedPacket(this.u32(8), length)
    }
  }

  private timedPacket(number: number, length: number): void {
    const one = this.interfaces[number]
    if (one === undefined) {
      this.tally.orphaned++
      return
    }
    const us = (this.u32(12) * 4294967296 + this.u32(16)) * one.unit + one.offset
    this.packet(this.at + 28, Math.min(this.u32(20), length - 32), this.u32(24), one.linkType, us)
  }

  /** §4.2: options if_tsresol (9) and if_tsoffset (14) say what a time stamp means. */
  private readInterface(length: number): Interface {
    const one: Interface = { linkType: this.u16(8), snapLength: this.u32(12), unit: 1, offset: 0 }
    let at = 16
    while (at + 4 <= length - 4) {
      const code = this.u16(at)
      const size = this.u16(at + 2)
      if (code === 0 || at + 4 + size > length - 4) break
      if (code === 9 && size >= 1) {
        const resolution = this.buf[this.at + at + 4]
        const exponent = resolution & 0x7f
        one.unit = 1e6 * ((resolution & 0x80) !== 0 ? 2 ** -exponent : 10 ** -exponent)
      } else if (code === 14 && size >= 8) {
        const [first, second] = [this.u32(at + 4), this.u32(at + 8)]
        one.offset = 1e6 * (this.little ? (second | 0) * 4294967296 + first : (first | 0) * 4294967296 + second)
      }
      at += 4 + ((size + 3) & ~3)
    }
    return one
  }
}
