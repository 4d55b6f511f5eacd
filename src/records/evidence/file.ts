/**
 * One evidence file that is being written. Knows how much of it is whole: after a failed write, what came behind that is
 * cut off before anything else is written.
 */
import { constants } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'

/** The file on the disk is no longer the one that was written. */
export class FileGone extends Error {}

const { O_APPEND, O_CREAT, O_EXCL, O_RDWR } = constants

export class EvidenceFile {
  readonly path: string
  /** Bytes that are known to be written. */
  size: number
  /** UTC day on which the file was begun. */
  readonly day: string
  private handle: FileHandle
  private dirty = false

  private constructor(path: string, handle: FileHandle, size: number, day: string) {
    this.path = path
    this.handle = handle
    this.size = size
    this.day = day
  }

  get name(): string {
    return basename(this.path)
  }

  /** @throws where there is such a file, or none can be made */
  static async create(directory: string, name: string): Promise<EvidenceFile> {
    const path = join(directory, name)
    const handle = await open(path, O_RDWR | O_APPEND | O_CREAT | O_EXCL, 0o640)
    const file = new EvidenceFile(path, handle, 0, today())
    await syncDirectory(directory)
    return file
  }

  /** Goes on with a file; whatever is behind its first `size` bytes is removed. */
  static async resume(path: string, size: number): Promise<EvidenceFile> {
    const handle = await open(path, O_RDWR | O_APPEND)
    try {
      const stats = await handle.stat()
      if (stats.size < size) throw new FileGone(`${basename(path)} has ${stats.size} bytes, expected ${size}`)
      if (stats.size > size) {
        await handle.truncate(size)
        await handle.sync()
      }
      const begun = stats.birthtimeMs > 0 ? stats.birthtime : stats.mtime
      return new EvidenceFile(path, handle, size, begun.toISOString().slice(0, 10))
    } catch (error) {
      await handle.close().catch(() => {})
      throw error
    }
  }

  /** Writes all of `bytes`, or rejects; what was written of them then does not count. */
  async append(bytes: Buffer): Promise<void> {
    this.dirty = true
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.handle.write(bytes, done, bytes.length - done, null)
      done += bytesWritten
    }
    this.size += bytes.length
  }

  /** Makes what was written survive a loss of power. @returns whether there was anything to do */
  async sync(): Promise<boolean> {
    if (!this.dirty) return false
    // What is written while the disk works is dirty again.
    this.dirty = false
    try {
      await this.handle.datasync()
    } catch (error) {
      this.dirty = true
      throw error
    }
    return true
  }

  /** @throws FileGone where the path no longer leads to this file, or somebody else has changed its length */
  async check(): Promise<void> {
    const [mine, there] = await Promise.all([this.handle.stat(), stat(this.path).catch(absent)])
    if (there === null) throw new FileGone(`${this.path} is gone`)
    if (there.ino !== mine.ino || there.dev !== mine.dev) throw new FileGone(`${this.path} is another file now`)
    if (mine.size !== this.size) {
      throw new FileGone(`${this.path} has ${mine.size} bytes, expected ${this.size}: somebody else has changed it`)
    }
  }

  close(): Promise<void> {
    return this.handle.close()
  }
}

const absent = (error: NodeJS.ErrnoException): null => {
  if (error.code !== 'ENOENT') throw error
  return null
}

export const today = (): string => new Date().toISOString().slice(0, 10)

async function syncDirectory(directory: string): Promise<void> {
  // A name that is lost with the power would take the whole file with it.
  const handle = await open(directory, 'r').catch(() => null)
  await handle?.sync().catch(() => {})
  await handle?.close()
}
