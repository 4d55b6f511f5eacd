/** The sending side of a diode: sends numbered datagrams, and listens for what must not come back. */

import { randomBytes } from 'node:crypto'
import { createSocket, type Socket } from 'node:dgram'
import { setTimeout as sleep } from 'node:timers/promises'
import { writeDatagram } from './datagram.ts'

export interface SendOptions {
  host: string
  port: number
  /** Address to send from; null: as the machine's routes have it. */
  source: string | null
  count: number
  /** Datagrams a second. */
  rate: number
  size: number
  /** How long to listen after the last one, in milliseconds. */
  lingerMs: number
}

export interface Sent {
  sent: number
  /** Errors of sending, by their codes. */
  errors: Map<string, number>
  /** Datagrams that came back. */
  back: number
  /** ICMP says that the port is closed: something on the far side has answered. */
  refused: number
}

/** @throws where the socket cannot be had */
export async function send({ host, port, source, count, rate, size, lingerMs }: SendOptions): Promise<Sent> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  const result: Sent = { sent: 0, errors: new Map(), back: 0, refused: 0 }
  const note = (error: NodeJS.ErrnoException): void => {
    if (error.code === 'ECONNREFUSED') result.refused++
    else result.errors.set(error.code ?? error.message, (result.errors.get(error.code ?? error.message) ?? 0) + 1)
  }
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(0, source ?? undefined, () =>
      // Connected, so that what ICMP says of it is told here.
      socket.connect(port, host, () => {
        socket.off('error', reject)
        resolve()
      }),
    )
  })
  socket.on('error', note)
  socket.on('message', () => {
    result.back++
  })
  const run = randomBytes(8)
  const began = performance.now()
  for (let sequence = 0; sequence < count; sequence++) {
    const ahead = (sequence / rate) * 1000 - (performance.now() - began)
    if (ahead > 1) await sleep(ahead)
    const bytes = Buffer.alloc(size)
    writeDatagram(bytes, run, sequence, count)
    // A refusal of an earlier datagram is told instead of sending this one: it goes again.
    let code = await sendOne(socket, bytes)
    for (let tries = 0; code === 'ECONNREFUSED' && tries < 3; tries++) {
      result.refused++
      code = await sendOne(socket, bytes)
    }
    if (code === '') result.sent++
    else result.errors.set(code, (result.errors.get(code) ?? 0) + 1)
  }
  await sleep(lingerMs)
  await new Promise<void>((resolve) => socket.close(() => resolve()))
  return result
}

/** @returns the error's code; '': none */
const sendOne = (socket: Socket, bytes: Buffer): Promise<string> =>
  new Promise((resolve) => {
    socket.send(bytes, (error) =>
      resolve(error === null ? '' : ((error as NodeJS.ErrnoException).code ?? error.message)),
    )
  })
