/**
 * One writer at a time in an evidence directory: a Unix socket in it, on which the writer listens. The kernel ends the
 * lock with the process, however that ends; what is left in the directory then refuses connections, and is replaced.
 */
import { closeSync, linkSync, lstatSync, openSync, renameSync, unlinkSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export const LOCK_FILE = 'writer.lock'
/** `sun_path` of unix(7), without the zero at its end. */
const MAX_PATH = 107
const RETRY_MS = 50

export interface Lock {
  release(): void
}

/** Somebody else writes there. */
export class Locked extends Error {}

/** File systems that have no sockets: there the lock is done without, as it was before there was one. */
const NO_SOCKETS = ['EOPNOTSUPP', 'ENOTSUP', 'EPERM', 'EINVAL', 'ENOSYS', 'EROFS', 'ENAMETOOLONG', 'EACCES']
const UNLOCKED: Lock = { release: () => {} }

let attempts = 0

/**
 * @param ms how long to wait for whoever has it
 * @throws Locked
 */
export async function lockDirectory(directory: string, ms: number): Promise<Lock> {
  const deadline = Date.now() + ms
  for (;;) {
    const lock = await attempt(directory)
    if (lock !== null) return lock
    if (Date.now() >= deadline) throw new Locked(`another process writes evidence in ${directory}`)
    await sleep(RETRY_MS)
  }
}

async function attempt(directory: string): Promise<Lock | null> {
  // A path through the directory's descriptor is short, however long the directory's own is.
  const fd = process.platform === 'linux' ? openSync(directory, 'r') : -1
  const base = fd === -1 ? directory : `/proc/self/fd/${fd}`
  const path = join(base, LOCK_FILE)
  const own = join(base, `.lock-${process.pid}-${attempts++}`)
  try {
    if (Buffer.byteLength(own) > MAX_PATH) return UNLOCKED
    if (!(await clear(path))) return null
    const server = net.createServer((socket) => socket.destroy())
    try {
      await listen(server, own)
    } catch (error) {
      if (NO_SOCKETS.includes((error as NodeJS.ErrnoException).code ?? '')) return UNLOCKED
      throw error
    }
    try {
      // Takes the name only where nobody has it.
      linkSync(own, path)
    } catch (error) {
      server.close()
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return null
      if (NO_SOCKETS.includes((error as NodeJS.ErrnoException).code ?? '')) return UNLOCKED
      throw error
    }
    const { ino } = lstatSync(path)
    unlinkSync(own)
    server.unref()
    return { release: () => release(server, join(directory, LOCK_FILE), ino) }
  } finally {
    if (fd !== -1) closeSync(fd)
  }
}

function release(server: net.Server, path: string, ino: number): void {
  server.close()
  try {
    if (lstatSync(path, { throwIfNoEntry: false })?.ino === ino) unlinkSync(path)
  } catch {
    // A directory that is gone has no lock.
  }
}

const listen = (server: net.Server, path: string): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => {
      server.off('error', reject)
      // What fails with the lock later fails nobody.
      server.on('error', () => {})
      resolve()
    })
  })

/** Removes what a writer that was killed has left. @returns whether the name is free */
async function clear(path: string): Promise<boolean> {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  if (stats === undefined) return true
  if (!stats.isSocket()) return false
  const code = await new Promise<string>((resolve) => {
    const socket = net.connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve('')
    })
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''))
  })
  if (code === 'ENOENT') return true
  if (code !== 'ECONNREFUSED') return false
  const aside = `${path}.${process.pid}`
  try {
    renameSync(path, aside)
    // Another one may have replaced it between the look and the renaming: then it gets its name back.
    if (lstatSync(aside).ino !== stats.ino) linkSync(aside, path)
    unlinkSync(aside)
  } catch {
    return false
  }
  return true
}
