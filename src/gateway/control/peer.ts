/** Who is at the other end of the control socket, as the kernel tells it. */
import { closeSync, openSync, readSync } from 'node:fs'
import type { Socket } from 'node:net'
import { Syscalls, unavailable } from '../linux/syscalls.ts'

const PASSWD = '/etc/passwd'
const MAX_PASSWD = 1 << 20
const CACHE_MS = 60_000

export class Peers {
  private readonly syscalls: Syscalls | null = unavailable() === null ? new Syscalls() : null
  private readonly names = new Map<number, string>()
  private namesMs = Number.NEGATIVE_INFINITY

  /** @returns the user's id and name, or null where the system, or Node.js, does not tell */
  of(socket: Socket): { uid: number; user: string } | null {
    // Node.js keeps the descriptor in its handle, for which there is no public name; where that changes, nobody is named.
    const fd = (socket as unknown as { _handle?: { fd?: unknown } })._handle?.fd
    if (this.syscalls === null || typeof fd !== 'number' || fd < 0) return null
    try {
      const { uid } = this.syscalls.peer(fd)
      return { uid, user: this.name(uid) }
    } catch {
      return null
    }
  }

  /** By `/etc/passwd`; a user who is kept elsewhere is named by the number. */
  private name(uid: number): string {
    const now = performance.now()
    if (now - this.namesMs > CACHE_MS) {
      this.namesMs = now
      this.names.clear()
      for (const line of readPasswd().split('\n')) {
        const [name, , id] = line.split(':')
        if (/^\d+$/.test(id ?? '') && !this.names.has(Number(id))) this.names.set(Number(id), name)
      }
    }
    return this.names.get(uid) ?? `uid ${uid}`
  }
}

function readPasswd(): string {
  try {
    const fd = openSync(PASSWD, 'r')
    try {
      const bytes = Buffer.allocUnsafe(MAX_PASSWD)
      return bytes.toString('utf8', 0, readSync(fd, bytes, 0, MAX_PASSWD, 0))
    } finally {
      closeSync(fd)
    }
  } catch {
    return ''
  }
}
