/** Raw peers for tests: a client and a target that note every byte they get, and send what they are told to. */
import net from 'node:net'

/** How long a test waits for what must come. */
const PATIENCE_MS = 5000

/** Resolves once `condition` holds; rejects with `what` was waited for. */
export async function until(condition: () => boolean, what: string, ms = PATIENCE_MS): Promise<void> {
  const end = performance.now() + ms
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${what}`)
    await sleep(1)
    // On a busy machine the next timer is due before the loop gets to its immediates, which would wait for ever.
    await new Promise((resolve) => setImmediate(resolve))
  }
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** Whole ADUs at the start of `bytes`, by the length field of each MBAP header. */
export function adus(bytes: Buffer): Buffer[] {
  const list: Buffer[] = []
  for (let at = 0; at + 6 <= bytes.length; ) {
    const end = at + 6 + bytes.readUInt16BE(at + 4)
    if (end > bytes.length) break
    list.push(bytes.subarray(at, end))
    at = end
  }
  return list
}

/** One end of a connection. */
export class Peer {
  readonly socket: net.Socket
  private readonly chunks: Buffer[] = []
  private whole: Buffer | null = null
  /** `fin` once the other side has closed its direction, `reset` once it has reset. */
  state: 'open' | 'fin' | 'reset' = 'open'
  length = 0

  constructor(socket: net.Socket) {
    this.socket = socket
    socket.setNoDelay(true)
    socket.on('data', (chunk) => {
      this.chunks.push(chunk)
      this.length += chunk.length
      this.whole = null
    })
    socket.on('end', () => {
      if (this.state === 'open') this.state = 'fin'
    })
    socket.on('error', () => {
      this.state = 'reset'
    })
  }

  /** All that was received. */
  get received(): Buffer {
    this.whole ??= Buffer.concat(this.chunks)
    return this.whole
  }

  get hex(): string {
    return this.received.toString('hex')
  }

  /** Forgets what was received. */
  clear(): void {
    this.chunks.length = 0
    this.length = 0
    this.whole = null
  }

  send(bytes: Uint8Array): void {
    this.socket.write(bytes)
  }

  /** Each segment alone: what is written next waits until the kernel had time to deliver this one. */
  async sendSegments(segments: readonly Uint8Array[]): Promise<void> {
    for (const [i, segment] of segments.entries()) {
      if (i > 0) await sleep(3)
      this.send(segment)
    }
  }

  async got(bytes: number): Promise<Buffer> {
    await until(() => this.length >= bytes || this.state !== 'open', `${bytes} bytes, not ${this.hex.slice(0, 200)}`)
    return this.received
  }

  async closed(ms?: number): Promise<'fin' | 'reset'> {
    await until(() => this.state !== 'open', 'the connection to be closed', ms)
    return this.state as 'fin' | 'reset'
  }

  reset(): void {
    this.socket.resetAndDestroy()
  }

  destroy(): void {
    this.socket.destroy()
  }
}

/** Connects; the connection is half-open capable, so that a FIN of either side can be told. */
export async function connect(port: number, host = '127.0.0.1', localAddress?: string): Promise<Peer> {
  const socket = net.connect({ port, host, localAddress, allowHalfOpen: true })
  const peer = new Peer(socket)
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    // Refused by RST as soon as it was accepted: a connection that was reset.
    socket.once('error', (error: NodeJS.ErrnoException) => (error.code === 'ECONNRESET' ? resolve() : reject(error)))
  })
  return peer
}

/** What a target does with each ADU it gets: bytes to send now, or null. */
export type Script = (request: Buffer, connection: Peer) => Uint8Array | null

export class RawTarget {
  readonly connections: Peer[] = []
  readonly port: number
  readonly host: string
  script: Script
  /** Called for each new connection, before anything is read. */
  onConnection: (connection: Peer) => void = () => {}
  private readonly server: net.Server

  private constructor(server: net.Server, script: Script) {
    this.server = server
    this.script = script
    const at = server.address() as net.AddressInfo
    this.port = at.port
    this.host = at.address
    server.on('connection', (socket) => this.accept(socket))
  }

  static async open(script: Script, port = 0, host = '127.0.0.1'): Promise<RawTarget> {
    const server = net.createServer({ allowHalfOpen: true, noDelay: true })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ port, host }, resolve)
    })
    return new RawTarget(server, script)
  }

  private accept(socket: net.Socket): void {
    const peer = new Peer(socket)
    this.connections.push(peer)
    this.onConnection(peer)
    let rest: Buffer = Buffer.alloc(0)
    socket.on('data', (chunk) => {
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
      const frames = adus(rest)
      const out: Uint8Array[] = []
      for (const frame of frames) {
        rest = rest.subarray(frame.length)
        const answer = this.script(frame, peer)
        if (answer !== null) out.push(answer)
      }
      if (out.length > 0) socket.write(Buffer.concat(out))
    })
    socket.on('end', () => socket.end())
  }

  /** The latest connection. */
  get last(): Peer {
    return this.connections[this.connections.length - 1]
  }

  /** All bytes of all connections, in order of connection. */
  get received(): Buffer {
    return Buffer.concat(this.connections.map((connection) => connection.received))
  }

  async connection(index: number): Promise<Peer> {
    await until(() => this.connections.length > index, `connection ${index + 1} to the target`)
    return this.connections[index]
  }

  /** Forgets the connections of before. */
  clear(): void {
    for (const connection of this.connections) connection.destroy()
    this.connections.length = 0
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.server.close(resolve))
    this.clear()
    await closed
  }
}
