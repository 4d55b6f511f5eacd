/** Bytes of a capture: a file, a gzip file or standard input, read into the caller's buffer. */
import { type FileHandle, open } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { constants, createGunzip } from 'node:zlib'

/** A capture cannot be read at all. `message` is one line for the operator. */
export class CaptureUnreadable extends Error {}

export interface ByteSource {
  readonly name: string
  /** Bytes on disk; null where that is not known (standard input). */
  readonly size: number | null
  /** Bytes of `size` that have been read. */
  readonly position: number
  /** Damage met on the way: what was read before it has been handed out. */
  readonly damage: string | null
  /** @returns bytes put at `buffer[at…]`, at most `length`; 0 at the end */
  read(buffer: Uint8Array, at: number, length: number): Promise<number>
  close(): Promise<void>
}

/** @param name a path, or `-` for standard input. Throws `CaptureUnreadable`. */
export async function openSource(name: string): Promise<ByteSource> {
  if (name === '-') return streamOf('standard input', process.stdin)
  let file: FileHandle
  try {
    file = await open(name)
  } catch (error) {
    throw new CaptureUnreadable(`${name}: ${reasonOf(error)}`)
  }
  try {
    const stat = await file.stat()
    if (stat.isDirectory()) throw new CaptureUnreadable(`${name}: is a directory, expected a capture file`)
    // A pipe or device has no place to read a magic from and go back.
    if (!stat.isFile()) return await streamOf(name, file.createReadStream())
    const magic = new Uint8Array(2)
    const { bytesRead } = await file.read(magic, 0, 2, 0)
    return bytesRead === 2 && isGzip(magic)
      ? new GzipSource(name, stat.size, file)
      : new FileSource(name, stat.size, file)
  } catch (error) {
    await file.close().catch(() => {})
    throw error instanceof CaptureUnreadable ? error : new CaptureUnreadable(`${name}: ${reasonOf(error)}`)
  }
}

/** RFC 1952 §2.3.1 */
const isGzip = (bytes: Uint8Array): boolean => bytes[0] === 0x1f && bytes[1] === 0x8b

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  EACCES: 'no permission to read it',
  EISDIR: 'is a directory, expected a capture file',
}

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  return REASONS[code ?? ''] ?? message
}

class FileSource implements ByteSource {
  readonly name: string
  readonly size: number
  position = 0
  damage: string | null = null
  private readonly file: FileHandle

  constructor(name: string, size: number, file: FileHandle) {
    this.name = name
    this.size = size
    this.file = file
  }

  async read(buffer: Uint8Array, at: number, length: number): Promise<number> {
    try {
      const { bytesRead } = await this.file.read(buffer, at, length, this.position)
      this.position += bytesRead
      return bytesRead
    } catch (error) {
      this.damage = `cannot be read beyond byte ${this.position}: ${reasonOf(error)}`
      return 0
    }
  }

  close(): Promise<void> {
    return this.file.close()
  }
}

/** Chunks of a stream, copied out as the caller asks for them. */
class StreamSource implements ByteSource {
  readonly name: string
  readonly size: number | null = null
  damage: string | null = null
  protected readonly stream: Readable
  private readonly chunks: AsyncIterator<Uint8Array>
  private chunk: Uint8Array
  private given = 0
  private total = 0

  constructor(name: string, stream: Readable, first: Uint8Array | null) {
    this.name = name
    this.stream = stream
    this.chunks = stream[Symbol.asyncIterator]()
    this.chunk = first ?? new Uint8Array(0)
  }

  get position(): number {
    return this.total
  }

  async read(buffer: Uint8Array, at: number, length: number): Promise<number> {
    while (this.given === this.chunk.length) {
      try {
        const next = await this.chunks.next()
        if (next.done === true) return 0
        this.chunk = next.value
        this.given = 0
      } catch (error) {
        this.damage = reasonOf(error)
        return 0
      }
    }
    const take = Math.min(length, this.chunk.length - this.given)
    buffer.set(this.chunk.subarray(this.given, this.given + take), at)
    this.given += take
    this.total += take
    return take
  }

  async close(): Promise<void> {
    this.stream.destroy()
  }
}

/** What has been decompressed is used, wherever the file breaks off. */
const GUNZIP = { chunkSize: 1 << 20, finishFlush: constants.Z_SYNC_FLUSH }

class GzipSource extends StreamSource {
  override readonly size: number
  private readonly raw: { bytesRead: number; destroy(): void }

  constructor(name: string, size: number, file: FileHandle) {
    const raw = file.createReadStream({ start: 0, highWaterMark: 1 << 18 })
    const plain = createGunzip(GUNZIP)
    raw.on('error', (error) => plain.destroy(error))
    super(name, raw.pipe(plain), null)
    this.raw = raw
    this.size = size
  }

  override get position(): number {
    return this.raw.bytesRead
  }

  override async close(): Promise<void> {
    await super.close()
    this.raw.destroy()
  }
}

/** A stream cannot be looked at before it is read: its first bytes tell whether it is gzip. */
async function streamOf(name: string, stream: Readable): Promise<ByteSource> {
  const first: Buffer[] = []
  let length = 0
  const chunks = stream.iterator({ destroyOnReturn: false })
  try {
    while (length < 2) {
      const next = await chunks.next()
      if (next.done === true) break
      first.push(next.value)
      length += next.value.length
    }
  } catch (error) {
    throw new CaptureUnreadable(`${name}: ${reasonOf(error)}`)
  }
  await chunks.return?.()
  const start = Buffer.concat(first)
  if (length < 2 || !isGzip(start)) return new StreamSource(name, stream, start)
  const plain = createGunzip(GUNZIP)
  plain.write(start)
  stream.on('error', (error) => plain.destroy(error))
  return new StreamSource(name, stream.pipe(plain), null)
}
