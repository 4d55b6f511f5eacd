/**
 * The load generator for machines without gcc: closed loop only, with mbload.c's options of the same names and its
 * JSON line. It is slower than the relays it loads, so what it measures well is their CPU time for each transaction.
 */
import net from 'node:net'
import { parseArgs } from 'node:util'
import { cpuMicroseconds, residentKb, sleep } from '../processes.ts'

const text = { type: 'string' } as const
const flag = { type: 'boolean' } as const
const { values } = parseArgs({
  options: {
    target: text,
    connections: text,
    pipeline: text,
    duration: text,
    warmup: text,
    'proc-pid': text,
    'write-pct': text,
    'expect-write-exc': text,
    'read-span': text,
    'check-values': flag,
    prime: flag,
    'rst-close': flag,
  },
})
const [host, port] = (values.target ?? '127.0.0.1:15020').split(':')
const connections = Number(values.connections ?? 1)
const depth = Number(values.pipeline ?? 1)
const writePercent = Number(values['write-pct'] ?? 0)
const writeException = Number(values['expect-write-exc'] ?? 0)
const pid = Number(values['proc-pid'] ?? -1)
const span = Number(values['read-span'] ?? 1)
const QUANTITY = 10

let measuring = false
let stopping = false
let transactions = 0
let errors = 0
let firstError: string | undefined
const latencies: number[] = []

function wrong(what: string): void {
  errors++
  firstError ??= what
}

/** One connection; each answer is checked against the request that it must belong to. */
class Client {
  readonly socket: net.Socket
  /** By transaction identifier: when it was sent (ms), its address, and whether it is a write. */
  private readonly sent = new Map<number, { at: number; address: number; write: boolean }>()
  private transaction = 0
  private part: Buffer = Buffer.alloc(0)
  answered = 0

  constructor(socket: net.Socket) {
    this.socket = socket
    socket.on('data', (chunk) => this.onData(chunk))
    socket.on('error', (error) => wrong(error.message))
    socket.on('end', () => wrong('closed by peer'))
  }

  fill(limit: number): void {
    if (stopping) return
    const requests: Buffer[] = []
    while (this.sent.size < limit) {
      this.transaction = (this.transaction + 1) & 0xffff
      const write = Math.random() * 100 < writePercent
      const address = write ? 50_000 : this.transaction % span
      const request = Buffer.from([0, 0, 0, 0, 0, 6, 1, write ? 6 : 3, 0, 0, 0, QUANTITY])
      request.writeUInt16BE(this.transaction, 0)
      request.writeUInt16BE(address, 8)
      this.sent.set(this.transaction, { at: performance.now(), address, write })
      requests.push(request)
    }
    if (requests.length > 0) this.socket.write(Buffer.concat(requests))
  }

  private onData(chunk: Buffer): void {
    const buf = this.part.length === 0 ? chunk : Buffer.concat([this.part, chunk])
    let o = 0
    while (buf.length - o >= 9) {
      const next = o + 6 + buf.readUInt16BE(o + 4)
      if (next > buf.length) break
      this.check(buf, o, next)
      o = next
    }
    this.part = buf.subarray(o)
    this.fill(depth)
  }

  private check(buf: Buffer, o: number, next: number): void {
    const request = this.sent.get(buf.readUInt16BE(o))
    if (request === undefined) {
      wrong('a transaction identifier that is not outstanding')
      return
    }
    this.sent.delete(buf.readUInt16BE(o))
    this.answered++
    const { address, write, at } = request
    const right = write
      ? writeException === 0
        ? buf[o + 7] === 6
        : buf[o + 7] === 0x86 && buf[o + 8] === writeException
      : buf[o + 7] === 3 &&
        next - o === 9 + 2 * QUANTITY &&
        (!values['check-values'] || buf.readUInt16BE(o + 9) === ((address * 40503 + 31153) & 0xffff))
    if (!right) wrong(`unexpected response ${buf.subarray(o, Math.min(next, o + 16)).toString('hex')}`)
    if (!measuring) return
    transactions++
    latencies.push((performance.now() - at) * 1000)
  }
}

const began = performance.now()
const clients = await Promise.all(
  Array.from(
    { length: connections },
    () =>
      new Promise<Client>((resolve, reject) => {
        const socket = net.connect({ host, port: Number(port), noDelay: true }, () => resolve(new Client(socket)))
        socket.once('error', reject)
      }),
  ),
)
const connected = performance.now()
for (const client of clients) client.fill(1)
while (errors === 0 && clients.some((client) => client.answered === 0)) await sleep(1)
const primed = performance.now()
for (const client of clients) client.fill(depth)
await sleep(Number(values.warmup ?? 0.5) * 1000)
measuring = true
const cpuBefore = cpuMicroseconds(pid)
const start = performance.now()
await sleep(Number(values.duration ?? 5) * 1000)
measuring = false
const elapsed = (performance.now() - start) / 1000
const cpu = cpuMicroseconds(pid) - cpuBefore
stopping = true

latencies.sort((a, b) => a - b)
const quantile = (q: number): number => latencies[Math.min(latencies.length - 1, Math.floor(q * latencies.length))] ?? 0
const report = {
  tool: 'generator',
  connections,
  pipeline: depth,
  tps: transactions / elapsed,
  tx: transactions,
  errors_total: errors,
  first_error: firstError,
  lat_us: { p50: quantile(0.5), p99: quantile(0.99), p999: quantile(0.999), max: quantile(1) },
  proc: pid === -1 ? undefined : { cpu_us_per_tx: cpu / Math.max(1, transactions), rss_kb: residentKb(pid) },
  connect_s: (connected - began) / 1000,
  prime_s: (primed - connected) / 1000,
}
process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(errors === 0 ? 0 : 1))
