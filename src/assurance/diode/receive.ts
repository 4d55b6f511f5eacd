/** The receiving side of a diode: counts what comes, then tries every way back. */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { setTimeout as sleep } from 'node:timers/promises'
import { nowUs, readDatagram } from './datagram.ts'
import { type Flow, Tally } from './tally.ts'

export interface ReceiveOptions {
  host: string
  port: number
  /** How long to wait for the first datagram, in milliseconds. */
  waitMs: number
  /** The flow has ended when nothing has come for so long. */
  idleMs: number
  offsetMs: number
  /** Called when the socket is open. */
  onListening(port: number): void
}

export interface Received {
  flow: Flow
  /** Where the datagrams seemed to come from; null: none came. */
  sender: { address: string; port: number } | null
}

/** A burst must not be lost here and be taken for the diode's loss. */
const BUFFER_BYTES = 8 << 20

/** @throws where the address cannot be had */
export async function receive(options: ReceiveOptions): Promise<Received> {
  const socket = await open(options.host, options.port)
  const tally = new Tally()
  let sender: Received['sender'] = null
  let last = performance.now()
  socket.on('message', (bytes: Buffer, from: RemoteInfo) => {
    if (!tally.take(readDatagram(bytes), nowUs())) return
    sender ??= { address: from.address, port: from.port }
    last = performance.now()
  })
  options.onListening(socket.address().port)
  const began = performance.now()
  for (;;) {
    await sleep(20)
    const now = performance.now()
    if (!tally.begun) {
      if (now - began > options.waitMs) break
    } else if (now - last > (tally.complete ? Math.min(300, options.idleMs) : options.idleMs)) break
  }
  socket.close()
  return { flow: tally.flow(options.offsetMs), sender }
}

export function open(host: string, port: number): Promise<Socket> {
  const socket = createSocket({ type: host.includes(':') ? 'udp6' : 'udp4' })
  return new Promise((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(port, host, () => {
      socket.off('error', reject)
      socket.on('error', () => {})
      try {
        socket.setRecvBufferSize(BUFFER_BYTES)
      } catch {
        // Then as much as the system gives.
      }
      resolve(socket)
    })
  })
}
