/**
 * Where the events of one sink wait on the disk: JSON Lines in segments, read in the order in which they were written.
 *
 * What is appended is written in the same turn of the event loop, so that it survives the death of the process, and
 * reaches the disk itself (`fdatasync`) within a second. A line that a crash has torn is skipped. The place up to which
 * all has been sent is kept once a second: what is behind it is sent again after a crash.
 */
import {
  closeSync,
  existsSync,
  fdatasync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { Losses, type Lost } from '../losses.ts'

const SEGMENT_BYTES = 8 << 20
const READ_BYTES = 256 << 10
/** Bytes that may wait in memory while the disk does not take them. */
const PENDING_BYTES = 8 << 20
const RETRY_MS = 2000
/** Numbers of segments begin here, so that there is room before them. */
const FIRST = 1_000_000_000

/** A place between two events. */
export interface Position {
  segment: number
  offset: number
}

export interface Spooled {
  body: string
  /** The place behind it. */
  end: Position
}

export interface SpoolReport {
  failed(why: string): void
  resumed(): void
}

export class Spool {
  readonly losses: Losses
  private readonly directory: string
  private readonly maxBytes: number
  private readonly report: SpoolReport
  /** Size of each segment, in order. */
  private readonly segments = new Map<number, number>()
  private total = 0
  private fd = -1
  private writing = 0
  private pending: string[] = []
  private pendingBytes = 0
  private pendingTime = ''
  private scheduled = false
  private place: Position = { segment: FIRST, offset: 0 }
  private confirmed: Position = { segment: FIRST, offset: 0 }
  /** Behind the last event that was given to be sent. */
  private handed: Position = { segment: FIRST, offset: 0 }
  private saved = ''
  private chunk: Spooled[] = []
  private chunkAt = 0
  private failing = false
  private failedAt = 0
  private dirty = false
  private readonly timer: NodeJS.Timeout

  /**
   * Takes over what an earlier run has left.
   * @param directory of this sink alone; made where there is none
   * @param maxBytes that its segments may have together
   */
  constructor(directory: string, maxBytes: number, report: SpoolReport) {
    this.directory = directory
    this.maxBytes = maxBytes
    this.report = report
    let lost: Lost | null = null
    try {
      mkdirSync(directory, { recursive: true, mode: 0o750 })
      lost = this.takeUp()
    } catch (error) {
      this.fail(error as Error)
    }
    this.losses = new Losses(lost)
    this.timer = setInterval(() => this.keep(), 1000)
    this.timer.unref()
  }

  private takeUp(): Lost | null {
    for (const name of readdirSync(this.directory).sort()) {
      const match = /^spool-(\d{10})\.jsonl$/.exec(name)
      if (match === null) continue
      const { size } = statSync(join(this.directory, name))
      this.segments.set(Number(match[1]), size)
      this.total += size
    }
    let lost: Lost | null = null
    const [first] = this.segments.keys()
    this.place = { segment: first ?? FIRST, offset: 0 }
    try {
      const cursor = JSON.parse(readFileSync(join(this.directory, 'cursor.json'), 'utf8'))
      lost = cursor.lost ?? null
      if (this.segments.has(cursor.segment)) {
        this.place = { segment: Number(cursor.segment), offset: Number(cursor.offset) || 0 }
      }
    } catch {
      // None yet, or torn: then all that is there is sent again.
    }
    this.confirmed = this.place
    this.dropBefore(this.place.segment)
    this.writing = Math.max(FIRST, ...this.segments.keys()) + 1
    return lost
  }

  /** Whether all that was spooled has been read. */
  get drained(): boolean {
    return this.chunkAt >= this.chunk.length && this.pending.length === 0 && !this.unread
  }

  private get unread(): boolean {
    for (const [segment, size] of this.segments) {
      if (segment > this.place.segment || (segment === this.place.segment && size > this.place.offset)) return size > 0
    }
    return false
  }

  get bytes(): number {
    return this.total + this.pendingBytes
  }

  /**
   * @param body an event as JSON text
   * @param time of the event, for the account of what was lost
   * @returns whether it was kept
   */
  append(body: string, time: string): boolean {
    const full = this.total + this.pendingBytes + body.length > this.maxBytes
    if (full || (this.failing && this.pendingBytes + body.length > PENDING_BYTES)) {
      this.losses.add(time)
      return false
    }
    this.pending.push(body)
    this.pendingBytes += body.length + 1
    this.pendingTime = time
    if (!this.scheduled) {
      this.scheduled = true
      setImmediate(() => {
        this.scheduled = false
        this.flush()
      })
    }
    return true
  }

  private flush(): void {
    if (this.pending.length === 0 || (this.failing && Date.now() - this.failedAt < RETRY_MS)) return
    try {
      if (this.fd === -1) {
        this.fd = openSync(this.path(this.writing), 'ax', 0o640)
        this.segments.set(this.writing, 0)
      }
      const size = this.segments.get(this.writing) ?? 0
      const bytes = Buffer.from(`${this.pending.join('\n')}\n`)
      try {
        for (let done = 0; done < bytes.length; ) done += writeSync(this.fd, bytes, done)
      } catch (error) {
        // Half a line would be taken for a torn one, and what was whole before it would be there twice.
        ftruncateSync(this.fd, size)
        throw error
      }
      this.dirty = true
      this.total += bytes.length
      this.segments.set(this.writing, size + bytes.length)
      this.pending = []
      this.pendingBytes = 0
      if (size + bytes.length >= SEGMENT_BYTES) this.endSegment()
      if (this.failing) {
        this.failing = false
        this.report.resumed()
      }
    } catch (error) {
      this.fail(error as Error)
    }
  }

  private endSegment(): void {
    if (this.fd === -1) return
    const { fd } = this
    this.fd = -1
    fdatasync(fd, () => closeSync(fd))
    this.writing++
  }

  private fail(error: Error): void {
    this.failedAt = Date.now()
    if (this.fd !== -1) {
      closeSync(this.fd)
      this.fd = -1
      this.writing++
    }
    if (this.failing) return
    this.failing = true
    this.report.failed(error.message)
  }

  /** Once a second: the disk, the cursor, and another try where the disk did not take anything. */
  private keep(): void {
    if (this.fd !== -1 && !existsSync(this.path(this.writing))) {
      this.loseSegment(this.writing)
      this.fail(new Error(`${this.path(this.writing)} is gone`))
    }
    this.flush()
    if (this.dirty && this.fd !== -1) {
      this.dirty = false
      fdatasync(this.fd, () => {})
    }
    this.saveCursor()
  }

  private saveCursor(): void {
    const text = JSON.stringify({ ...this.confirmed, lost: this.losses.some })
    if (text === this.saved) return
    try {
      const path = join(this.directory, 'cursor.json')
      writeFileSync(`${path}.new`, text)
      renameSync(`${path}.new`, path)
      this.saved = text
    } catch {
      // Then more is sent again after a crash than need be.
    }
  }

  /** The next event, or null: none for now. */
  next(): Spooled | null {
    if (this.chunkAt >= this.chunk.length) this.readChunk()
    const entry = this.chunk[this.chunkAt]
    if (entry === undefined) return null
    this.chunkAt++
    this.handed = entry.end
    return entry
  }

  private readChunk(): void {
    this.chunk = []
    this.chunkAt = 0
    this.flush()
    for (const [segment, size] of this.segments) {
      if (segment < this.place.segment) continue
      if (segment > this.place.segment) this.place = { segment, offset: 0 }
      if (this.place.offset >= size) continue
      if (this.readLines(segment, size)) return
    }
  }

  /** @returns whether there was an event in what it read */
  private readLines(segment: number, size: number): boolean {
    let bytes: Buffer
    try {
      const fd = openSync(this.path(segment), 'r')
      try {
        // A longer line than that is none of ours.
        bytes = Buffer.allocUnsafe(Math.min(READ_BYTES * 4, size - this.place.offset))
        bytes = bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, this.place.offset))
      } finally {
        closeSync(fd)
      }
    } catch {
      this.loseSegment(segment)
      return false
    }
    let from = 0
    for (let feed = bytes.indexOf(0x0a); feed >= 0 && from < READ_BYTES; feed = bytes.indexOf(0x0a, from)) {
      const body = bytes.toString('utf8', from, feed)
      from = feed + 1
      if (body.startsWith('{') && body.endsWith('}')) {
        this.chunk.push({ body, end: { segment, offset: this.place.offset + from } })
      }
    }
    this.place = { segment, offset: from === 0 ? size : this.place.offset + from }
    return this.chunk.length > 0
  }

  /** Somebody has removed a segment that was not sent yet. */
  private loseSegment(segment: number): void {
    this.total -= this.segments.get(segment) ?? 0
    this.segments.delete(segment)
    this.losses.add(new Date().toISOString())
  }

  /** All events up to `position` need not be sent again. */
  confirm(position: Position): void {
    this.confirmed = position
    this.dropBefore(position.segment)
    const { handed } = this
    if (!this.drained || position.segment !== handed.segment || position.offset !== handed.offset) return
    // Nothing waits any more: the last segment may go as well.
    this.endSegment()
    this.dropBefore(this.writing)
    this.place = { segment: this.writing, offset: 0 }
    this.confirmed = this.place
  }

  private dropBefore(segment: number): void {
    for (const [number, size] of this.segments) {
      if (number >= segment) continue
      this.segments.delete(number)
      this.total -= size
      rmSync(this.path(number), { force: true })
    }
  }

  /**
   * Puts events before all others: they were sent, yet perhaps never received. Positions that were handed out before
   * hold no more.
   */
  prepend(bodies: readonly string[]): void {
    this.flush()
    const rest = this.chunk[this.chunkAt]
    if (rest !== undefined) {
      this.place = { segment: rest.end.segment, offset: rest.end.offset - Buffer.byteLength(rest.body) - 1 }
    }
    this.chunk = []
    this.chunkAt = 0
    if (bodies.length === 0) {
      this.confirmed = this.place
      return
    }
    try {
      this.replaceFront(bodies)
    } catch (error) {
      this.losses.add(new Date().toISOString(), bodies.length)
      this.fail(error as Error)
    }
  }

  /**
   * The segment that is being read becomes what is put before, and what is left of it. A crash at any moment leaves the
   * one or the other, to be read from its start: events may come twice, none is skipped.
   */
  private replaceFront(bodies: readonly string[]): void {
    const { segment, offset } = this.place
    this.dropBefore(segment)
    const size = this.segments.get(segment)
    if (size === undefined || segment === this.writing) this.endSegment()
    const front = size === undefined ? Math.min(this.writing, ...this.segments.keys()) - 1 : segment
    const left = size === undefined ? Buffer.alloc(0) : readFileSync(this.path(segment)).subarray(offset, size)
    this.place = { segment: front, offset: 0 }
    this.confirmed = this.place
    this.saveCursor()
    const bytes = Buffer.concat([Buffer.from(`${bodies.join('\n')}\n`), left])
    const path = this.path(front)
    writeFileSync(`${path}.new`, bytes, { mode: 0o640 })
    renameSync(`${path}.new`, path)
    this.total += bytes.length - (size ?? 0)
    const others = [...this.segments].filter(([number]) => number !== front)
    this.segments.clear()
    this.segments.set(front, bytes.length)
    for (const [number, length] of others) this.segments.set(number, length)
  }

  private path(segment: number): string {
    return join(this.directory, `spool-${String(segment).padStart(10, '0')}.jsonl`)
  }

  /** Writes what is pending. */
  close(): void {
    clearInterval(this.timer)
    this.failedAt = 0
    this.flush()
    if (this.pending.length > 0) this.losses.add(this.pendingTime, this.pending.length)
    this.endSegment()
    this.saveCursor()
  }
}
