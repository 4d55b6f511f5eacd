/** One Modbus/TCP request and what comes of it, for probes: no state is kept between requests. */
import type net from 'node:net'
import { exceptionName } from '../../protocols/modbus/exception-codes.ts'
import { type Place, type ReachOptions, reach } from './reach.ts'

export type Answer =
  | { kind: 'response'; pdu: Buffer }
  | { kind: 'exception'; code: number }
  /** Nothing came in time; the connection stayed. */
  | { kind: 'silence' }
  | { kind: 'closed' }
  /** Bytes that are no answer to the request. */
  | { kind: 'nonsense' }
  | { kind: 'unconnected'; reach: string }

/** MBAP header and PDU (MODBUS Messaging on TCP/IP V1.0b §3.1.3). */
export function frame(transaction: number, unit: number, pdu: readonly number[]): Buffer {
  const length = pdu.length + 1
  return Buffer.from([transaction >> 8, transaction & 255, 0, 0, length >> 8, length & 255, unit, ...pdu])
}

export class ModbusClient {
  private readonly place: Place
  private readonly options: ReachOptions
  private socket: net.Socket | null = null
  private transaction = 0x4847

  constructor(place: Place, options: ReachOptions) {
    this.place = place
    this.options = options
  }

  /** Sends one request, on the connection that there is or a new one. Never rejects. */
  async ask(unit: number, pdu: readonly number[]): Promise<Answer> {
    if (this.socket === null || this.socket.destroyed) {
      // What is closed at once shows by the answer.
      const reached = await reach(this.place, { ...this.options, settleMs: 0 })
      if (reached.socket === null) return { kind: 'unconnected', reach: reached.reach }
      this.socket = reached.socket
    }
    this.transaction = (this.transaction + 1) & 0xffff
    const answer = await exchange(this.socket, frame(this.transaction, unit, pdu), this.options.timeoutMs)
    if (answer.kind === 'closed' || answer.kind === 'nonsense') this.close()
    return answer
  }

  close(): void {
    this.socket?.destroy()
    this.socket = null
  }
}

function exchange(socket: net.Socket, request: Buffer, timeoutMs: number): Promise<Answer> {
  return new Promise((resolve) => {
    let held = Buffer.alloc(0)
    const end = (answer: Answer): void => {
      clearTimeout(timer)
      socket.removeAllListeners()
      socket.on('error', () => {})
      resolve(answer)
    }
    const timer = setTimeout(() => end({ kind: 'silence' }), timeoutMs)
    socket.on('error', () => end({ kind: 'closed' }))
    socket.on('close', () => end({ kind: 'closed' }))
    socket.on('end', () => end({ kind: 'closed' }))
    socket.on('data', (data) => {
      held = Buffer.concat([held, data])
      for (;;) {
        if (held.length < 8) return
        const length = held.readUInt16BE(4)
        if (held.readUInt16BE(2) !== 0 || length < 2 || length > 254) return end({ kind: 'nonsense' })
        if (held.length < 6 + length) return
        if (held.readUInt16BE(0) === request.readUInt16BE(0))
          return end(answerOf(held.subarray(7, 6 + length), request[7]))
        // A late answer to a request before this one.
        held = held.subarray(6 + length)
      }
    })
    socket.write(request)
  })
}

function answerOf(pdu: Buffer, asked: number): Answer {
  if (pdu[0] === asked) return { kind: 'response', pdu: Buffer.from(pdu) }
  return pdu[0] === (asked | 0x80) && pdu.length === 2 ? { kind: 'exception', code: pdu[1] } : { kind: 'nonsense' }
}
export function answerText(answer: Answer): string {
  switch (answer.kind) {
    case 'response':
      return 'answered'
    case 'exception':
      return `exception ${String(answer.code).padStart(2, '0')} (${exceptionName(answer.code)})`
    case 'silence':
      return 'no answer'
    case 'closed':
      return 'connection closed'
    case 'nonsense':
      return 'bytes that are no answer'
    case 'unconnected':
      return `not connected: ${answer.reach}`
  }
}
