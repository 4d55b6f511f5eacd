/** A closed loop of Modbus/TCP clients: each keeps so many reads under way, and checks every answer. */
import { connect, type Socket } from 'node:net'

export interface LoadOptions {
  host: string
  port: number
  /** Source address, so that the pair of addresses is one that the policy allows. */
  localAddress: string
  connections: number
  /** Requests under way on each connection. */
  depth: number
  /** How long to measure, in milliseconds, after a tenth of that to warm up. */
  durationMs: number
  /** Called when the warm-up ends, and when the measurement does. */
  onWindow(edge: 'start' | 'end'): void
}

export interface LoadResult {
  transactions: number
  seconds: number
  /** In microseconds. */
  p50: number
  p99: number
}

/** FC 3, ten registers from address 0 (V1.1b3 §6.3). */
const REQUEST_BYTES = 12
const RESPONSE_BYTES = 9 + 20
/** Latencies are counted in buckets of this many microseconds, up to one second. */
const BUCKET_US = 5
const BUCKETS = 200_000

/** @throws the first connection's error, or one that names the first answer that was not right */
export function load(options: LoadOptions): Promise<LoadResult> {
  const { connections, depth, durationMs } = options
  const histogram = new Uint32Array(BUCKETS + 1)
  const sockets: Socket[] = []
  let counting = false
  let transactions = 0

  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      for (const socket of sockets) socket.destroy()
      reject(error)
    }
    const one = (): void => {
      const socket = connect({
        host: options.host,
        port: options.port,
        localAddress: options.localAddress,
        noDelay: true,
      })
      sockets.push(socket)
      // One burst of `depth` requests, with transaction identifiers 0…depth-1, sent anew when all are answered.
      const burst = Buffer.alloc(REQUEST_BYTES * depth)
      for (let i = 0; i < depth; i++) {
        burst.writeUInt16BE(i, i * REQUEST_BYTES)
        burst.set([0, 0, 0, 6, 1, 3, 0, 0, 0, 10], i * REQUEST_BYTES + 2)
      }
      let sent = 0n
      let held: Buffer = Buffer.alloc(0)
      let answered = 0
      const send = (): void => {
        sent = process.hrtime.bigint()
        socket.write(burst)
      }
      socket.once('connect', send)
      socket.once('error', fail)
      socket.once('close', () => fail(new Error('a connection was closed')))
      socket.on('data', (data: Buffer) => {
        held = held.length === 0 ? data : Buffer.concat([held, data])
        while (held.length >= RESPONSE_BYTES) {
          if (held[7] !== 3) return fail(new Error(`a read was answered with ${held.toString('hex', 0, 16)}`))
          held = held.subarray(RESPONSE_BYTES)
          answered++
          if (!counting) continue
          transactions++
          const us = Number(process.hrtime.bigint() - sent) / 1000
          histogram[Math.min(BUCKETS, Math.floor(us / BUCKET_US))]++
        }
        if (answered === depth) {
          answered = 0
          send()
        }
      })
    }
    for (let i = 0; i < connections; i++) one()
    let started = 0n
    setTimeout(() => {
      counting = true
      started = process.hrtime.bigint()
      options.onWindow('start')
    }, durationMs / 10)
    setTimeout(() => {
      counting = false
      options.onWindow('end')
      const seconds = Number(process.hrtime.bigint() - started) / 1e9
      for (const socket of sockets) {
        socket.removeAllListeners('close')
        socket.destroy()
      }
      resolve({ transactions, seconds, p50: quantile(histogram, 0.5), p99: quantile(histogram, 0.99) })
    }, durationMs * 1.1)
  })
}

function quantile(histogram: Uint32Array, q: number): number {
  const total = histogram.reduce((sum, count) => sum + count, 0)
  let seen = 0
  for (const [bucket, count] of histogram.entries()) {
    seen += count
    if (count > 0 && seen >= total * q) return (bucket + 1) * BUCKET_US
  }
  return 0
}
