/** Can a TCP connection be had, and if not, how does it fail: the difference says where a packet came to. */
import { createSocket } from 'node:dgram'
import net from 'node:net'

export type Reach =
  /** Connected, and still so after a moment. */
  | 'open'
  /** Connected, and closed by the other side at once: something that listens does not want this client. */
  | 'closed'
  /** A RST came back: there is a path to whoever sent it, the host itself or a firewall that rejects. */
  | 'refused'
  /** Nothing came back: a firewall that drops, or no such host. */
  | 'filtered'
  /** This machine has no route there, or a router said so. */
  | 'unreachable'

export interface Reached {
  reach: Reach
  /** The socket, where it is open: the caller's to destroy. */
  socket: net.Socket | null
  /** The system's word for a failure. */
  code: string
}

export interface Place {
  host: string
  port: number
}

export interface ReachOptions {
  /** Address to come from; null: as the machine's routes have it. */
  source: string | null
  timeoutMs: number
  /** How long a connection must last to count as open; default 400 ms. */
  settleMs?: number
}

/** A gateway that refuses a client accepts first, and closes when it has looked. */
const SETTLE_MS = 400

/** Never rejects. */
export function reach(
  { host, port }: Place,
  { source, timeoutMs, settleMs = SETTLE_MS }: ReachOptions,
): Promise<Reached> {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port, localAddress: source ?? undefined, noDelay: true })
    let connected = false
    let done = false
    const end = (reach: Reach, code = ''): void => {
      if (done) return
      done = true
      clearTimeout(timer)
      socket.removeAllListeners()
      socket.on('error', () => {})
      if (reach !== 'open') socket.destroy()
      resolve({ reach, socket: reach === 'open' ? socket : null, code })
    }
    let timer = setTimeout(() => end('filtered'), timeoutMs)
    socket.on('connect', () => {
      connected = true
      clearTimeout(timer)
      timer = setTimeout(() => end('open'), settleMs)
    })
    socket.on('end', () => end('closed'))
    socket.on('close', () => end('closed'))
    // Bytes nobody asked for are left where they are; the protocol's own probe reads them.
    socket.on('error', (error: NodeJS.ErrnoException) =>
      end(connected ? 'closed' : reachOf(error.code ?? ''), error.code),
    )
  })
}

function reachOf(code: string): Reach {
  if (code === 'ECONNREFUSED' || code === 'ECONNRESET') return 'refused'
  if (code === 'ETIMEDOUT') return 'filtered'
  return 'unreachable'
}

export const REACH_WORDS: Readonly<Record<Reach, string>> = {
  open: 'connected',
  closed: 'accepted, and closed at once',
  refused: 'refused (RST): the host, or a firewall that rejects, was reached',
  filtered: 'filtered: no answer',
  unreachable: 'no way there',
}

/** The address that this machine would come from, by its routes; null: none. No packet is sent. */
export function localAddressTowards({ host, port }: Place): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
    const end = (address: string | null): void => {
      socket.close()
      resolve(address)
    }
    socket.on('error', () => end(null))
    try {
      socket.connect(port, host, () => end(socket.address().address))
    } catch {
      end(null)
    }
  })
}
