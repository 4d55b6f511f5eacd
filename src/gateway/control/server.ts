/**
 * The control socket: a local Unix socket, guarded by its file's permissions. One request at a time from each
 * connection; lines are bounded, connections are few, and whoever is slow or speaks nonsense is let go.
 */
import { chmodSync, lstatSync, mkdirSync, statSync, unlinkSync } from 'node:fs'
import net from 'node:net'
import { dirname } from 'node:path'
import { Peers } from './peer.ts'
import { type Answer, MAX_REQUEST, parseRequest, type Request } from './protocol.ts'

/** Nobody else may read or write it (unix(7): connecting takes permission to write). */
const MODE = 0o660
const MAX_CONNECTIONS = 64
/** So that one user cannot keep the others out. */
const MAX_PER_USER = 8
/** From one line to the next, for the whole of a line, and for an answer to be read. */
const PATIENCE_MS = 10_000

/** The socket cannot be had: one line for a person. */
export class ControlError extends Error {}

export interface Asker {
  user: string
  source: 'kernel' | 'claimed'
}

/** Does what is asked for. Never rejects. */
export type Answerer = (request: Request, asker: Asker) => Promise<Answer>

export class ControlServer {
  private readonly server: net.Server
  private readonly peers = new Peers()
  private readonly path: string
  private readonly answer: Answerer
  private readonly open = new Map<net.Socket, number>()
  private inode = 0
  private readonly patienceMs: number

  /** @param failed hears of what goes wrong once the socket is open */
  constructor(path: string, answer: Answerer, failed: (why: string) => void, patienceMs: number = PATIENCE_MS) {
    this.patienceMs = patienceMs
    this.path = path
    this.answer = answer
    this.server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => this.take(socket))
    this.server.on('error', (error: NodeJS.ErrnoException) => failed(error.code ?? error.message))
  }

  /** @throws ControlError */
  async listen(): Promise<void> {
    this.checkDirectory()
    await this.clear()
    await new Promise<void>((resolve, reject) => {
      const failed = (error: NodeJS.ErrnoException): void =>
        reject(new ControlError(`cannot open the control socket ${this.path}: ${error.code ?? error.message}`))
      this.server.once('error', failed)
      // Bound before `listen` returns: there is no moment in which the file is open to others.
      const former = process.umask(0o777 & ~MODE)
      try {
        this.server.listen(this.path, () => {
          this.server.off('error', failed)
          resolve()
        })
      } finally {
        process.umask(former)
      }
    })
    chmodSync(this.path, MODE)
    this.inode = lstatSync(this.path).ino
  }

  /** Whoever may write to the directory could put a socket of their own in its place. */
  private checkDirectory(): void {
    const directory = dirname(this.path)
    try {
      mkdirSync(directory, { recursive: true, mode: 0o755 })
    } catch (error) {
      throw new ControlError(
        `cannot make ${directory} for the control socket: ${(error as NodeJS.ErrnoException).code}`,
      )
    }
    const { mode, uid } = statSync(directory)
    if ((mode & 0o022) !== 0) {
      const found = (mode & 0o7777).toString(8)
      throw new ControlError(
        `the directory of the control socket, ${directory}, has mode ${found}: others than its owner may write there; chmod go-w ${directory}`,
      )
    }
    const own = process.getuid?.() ?? uid
    if (uid !== own && uid !== 0) {
      throw new ControlError(
        `the directory of the control socket, ${directory}, is user ${uid}'s, expected ${own}'s or root's`,
      )
    }
  }

  /** What a gateway that was killed has left is removed; what another one listens on, or is no socket, is not. */
  private async clear(): Promise<void> {
    const stats = lstatSync(this.path, { throwIfNoEntry: false })
    if (stats === undefined) return
    if (!stats.isSocket())
      throw new ControlError(`the control socket's path ${this.path} is taken by a file that is no socket`)
    const code = await new Promise<string>((resolve) => {
      const socket = net.connect(this.path)
      socket.once('connect', () => {
        socket.destroy()
        resolve('')
      })
      socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    })
    if (code === 'ENOENT') return
    if (code !== 'ECONNREFUSED') {
      const why = code === '' ? 'another gateway listens on it' : code
      throw new ControlError(`cannot open the control socket ${this.path}: ${why}`)
    }
    unlinkSync(this.path)
  }

  private take(socket: net.Socket): void {
    // A reader that has gone is no error of ours.
    socket.on('error', () => socket.destroy())
    const peer = this.peers.of(socket)
    const uid = peer?.uid ?? -1
    let same = 0
    for (const other of this.open.values()) if (other === uid) same++
    if (this.open.size >= MAX_CONNECTIONS || same >= MAX_PER_USER) {
      end(socket, { ok: false, error: 'too many connections to the control socket' })
      return
    }
    this.open.set(socket, uid)
    socket.once('close', () => this.open.delete(socket))
    new Conversation(socket, this.patienceMs, async (text) => {
      const request = parseRequest(text)
      if (typeof request === 'string') return { ok: false, error: `not a request: ${request}` }
      const asker: Asker =
        peer === null ? { user: request.user ?? 'unknown', source: 'claimed' } : { user: peer.user, source: 'kernel' }
      return { id: request.id, ...(await this.answer(request, asker)) }
    })
  }

  /** Takes no more, and removes the socket's file where it is still its own. */
  async close(): Promise<void> {
    if (!this.server.listening) return
    const ended = new Promise<void>((resolve) => this.server.close(() => resolve()))
    for (const socket of this.open.keys()) socket.destroy()
    await ended
    // Node.js has removed it, unless somebody has put another in its place.
    if (lstatSync(this.path, { throwIfNoEntry: false })?.ino === this.inode) unlinkSync(this.path)
  }
}

/** Says one thing and closes, whatever the other end does. */
function end(socket: net.Socket, answer: Answer): void {
  socket.end(`${JSON.stringify(answer)}\n`)
  setTimeout(() => socket.destroy(), 1000).unref()
}

/** Lines in, lines out, one at a time. */
class Conversation {
  private readonly socket: net.Socket
  private readonly patienceMs: number
  private readonly handle: (text: string) => Promise<Answer>
  private line: Buffer = Buffer.alloc(0)
  private timer: NodeJS.Timeout
  private busy = false
  private ended = false
  /** What comes now is not read any more. */
  private over = false

  constructor(socket: net.Socket, patienceMs: number, handle: (text: string) => Promise<Answer>) {
    this.socket = socket
    this.patienceMs = patienceMs
    this.handle = handle
    this.timer = this.patience()
    socket.on('data', (chunk: Buffer) => this.feed(chunk))
    socket.once('end', () => {
      this.ended = true
      if (!this.busy) socket.end()
    })
    socket.once('close', () => clearTimeout(this.timer))
    socket.resume()
  }

  private patience(): NodeJS.Timeout {
    clearTimeout(this.timer)
    return setTimeout(() => this.socket.destroy(), this.patienceMs).unref()
  }

  private feed(chunk: Buffer): void {
    if (this.over) return
    this.line = this.line.length === 0 ? chunk : Buffer.concat([this.line, chunk])
    if (!this.busy) void this.next()
  }

  private async next(): Promise<void> {
    const at = this.line.indexOf(10)
    if (at === -1 ? this.line.length >= MAX_REQUEST : at >= MAX_REQUEST) {
      clearTimeout(this.timer)
      this.over = true
      end(this.socket, { ok: false, error: `not a request: longer than ${MAX_REQUEST} bytes` })
      return
    }
    if (at === -1) return
    this.busy = true
    this.socket.pause()
    clearTimeout(this.timer)
    const text = this.line.toString('utf8', 0, at)
    this.line = this.line.subarray(at + 1)
    const answer = await this.handle(text)
    if (this.socket.destroyed) return
    this.timer = this.patience()
    const malformed = !answer.ok && answer.error.startsWith('not a request')
    this.socket.write(`${JSON.stringify(answer)}\n`, () => {
      this.busy = false
      this.timer = this.patience()
      if (malformed || (this.ended && this.line.indexOf(10) === -1)) {
        this.over = true
        this.socket.end()
        setTimeout(() => this.socket.destroy(), 1000).unref()
        return
      }
      this.socket.resume()
      void this.next()
    })
  }
}
