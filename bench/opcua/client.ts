/**
 * The load of the OPC UA benchmark: Reads from a template over real channels and sessions, a number of them under way at
 * one time. Prints one line of JSON. `node client.ts --port N --certificate PATH …`
 */
import { randomBytes } from 'node:crypto'
import net, { type Socket } from 'node:net'
import { parseArgs } from 'node:util'
import {
  ActivateSessionRequest,
  AnonymousIdentityToken,
  BinaryStream,
  CreateSessionRequest,
  CreateSessionResponse,
  encodeNodeId,
  GetEndpointsRequest,
  GetEndpointsResponse,
  type MessageSecurityMode,
} from 'node-opcua'
import { Cursor, dateTime, Writer } from '../../src/protocols/opcua/binary.ts'
import { MESSAGE, messageType, setU32 } from '../../src/protocols/opcua/chunk.ts'
import { ResponseHeader, walkResponseHeader, writeRequestHeader } from '../../src/protocols/opcua/headers.ts'
import { type Certificate, readCertificate } from '../../src/protocols/opcua/security/certificate.ts'
import { policyByName, SECURITY_MODE } from '../../src/protocols/opcua/security/policies.ts'
import { sign } from '../../src/protocols/opcua/security/rsa.ts'
import type { OpcUaSecurityPolicy } from '../../src/protocols/opcua/security.ts'
import { REQUEST, RESPONSE } from '../../src/protocols/opcua/services.ts'
import { cpuMicroseconds, residentKb } from '../processes.ts'
import { Channel, frames, hello, type ModeName, readOwnFiles } from './wire.ts'

const { values: options } = parseArgs({
  options: {
    port: { type: 'string' },
    certificate: { type: 'string' },
    policy: { type: 'string', default: 'Basic256Sha256' },
    mode: { type: 'string', default: 'SignAndEncrypt' },
    connections: { type: 'string', default: '1' },
    depth: { type: 'string', default: '16' },
    nodes: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '1' },
    warmup: { type: 'string', default: '0.3' },
    pid: { type: 'string' },
    /** Opens and closes channels instead of reading. */
    channels: { type: 'boolean', default: false },
  },
})
const port = Number(options.port)
const own = readOwnFiles(options.certificate ?? '')
const mode = SECURITY_MODE[options.mode as ModeName]
const policy = policyByName(mode === SECURITY_MODE.None ? 'None' : (options.policy as OpcUaSecurityPolicy))
const url = `opc.tcp://127.0.0.1:${port}`

/** A connection whose messages are waited for one at a time, until its reads begin. */
class Client {
  readonly channel = new Channel()
  readonly socket: Socket
  onMessage: (buf: Buffer, start: number, end: number) => void = () => {}
  private fail: (error: Error) => void = () => {}

  private constructor(socket: Socket) {
    this.socket = socket
    frames(socket, (buf, start, end) => this.onMessage(buf, start, end))
    socket.on('error', (error) => this.fail(error))
    socket.on('close', () => this.fail(new Error('the connection was closed')))
  }

  static connect(): Promise<Client> {
    return new Promise((resolve, reject) => {
      const socket = net.connect({ host: '127.0.0.1', port, noDelay: true })
      socket.once('error', reject)
      socket.once('connect', () => {
        socket.removeListener('error', reject)
        resolve(new Client(socket))
      })
    })
  }

  /** The next message. */
  private next(): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.fail = reject
      this.onMessage = (buf, start, end) => {
        this.onMessage = () => {}
        const message = Buffer.from(buf.subarray(start, end))
        if (messageType(message, 0) === MESSAGE.ERR) reject(new Error(`ERR ${message.toString('latin1', 8)}`))
        else resolve(message)
      }
    })
  }

  async open(server: Certificate | null): Promise<void> {
    const secured = server !== null
    this.socket.write(hello(url))
    await this.next()
    const none = policyByName('None')
    const chunk = this.channel.openRequest(secured ? policy : none, secured ? mode : SECURITY_MODE.None, own, server)
    this.socket.write(chunk)
    const message = await this.next()
    this.channel.takeOpenResponse(own, message, 0, message.length)
  }

  async ask(requestId: number, typeId: number, message: { encode(stream: BinaryStream): void }): Promise<Buffer> {
    const stream = new BinaryStream(Buffer.alloc(60_000))
    message.encode(stream)
    const body = new Writer().numericNodeId(0, typeId).raw(stream.buffer.subarray(0, stream.length)).written()
    this.channel.send(this.socket, MESSAGE.MSG, requestId, body)
    const answer = await this.next()
    const opened = this.channel.open(answer, 0, answer.length)
    return Buffer.from(opened.buf.subarray(opened.at, opened.end))
  }

  /** @returns the session's authentication token as encoded */
  async session(server: Certificate | null): Promise<Uint8Array> {
    const request = new CreateSessionRequest({
      requestHeader: { timestamp: new Date(), requestHandle: 2 },
      clientDescription: { applicationUri: own.certificate.uris[0] },
      endpointUrl: url,
      sessionName: 'bench',
      clientNonce: randomBytes(32),
      clientCertificate: server === null ? undefined : Buffer.from(own.certificate.der),
      requestedSessionTimeout: 3_600_000,
    })
    const answer = await this.ask(2, REQUEST.CreateSession, request)
    const created = decoded(new CreateSessionResponse(), answer, RESPONSE.CreateSession)
    const token = new BinaryStream(Buffer.alloc(256))
    encodeNodeId(created.authenticationToken, token)
    const algorithm = policy.signature.uri
    await this.ask(
      3,
      REQUEST.ActivateSession,
      new ActivateSessionRequest({
        requestHeader: {
          timestamp: new Date(),
          requestHandle: 3,
          authenticationToken: created.authenticationToken,
        },
        clientSignature:
          server === null
            ? undefined
            : { algorithm, signature: sign(policy, own.key, created.serverCertificate, created.serverNonce) },
        userIdentityToken: new AnonymousIdentityToken({ policyId: 'anonymous' }),
      }),
    )
    return token.buffer.subarray(0, token.length)
  }
}

function decoded<T extends { decode(stream: BinaryStream): void }>(into: T, body: Buffer, typeId: number): T {
  const cursor = new Cursor().open(body, 0, body.length)
  const found = cursor.typeId()
  if (found !== typeId) throw new Error(`type id ${found}, expected ${typeId}: ${body.toString('hex')}`)
  into.decode(new BinaryStream(body.subarray(cursor.at)))
  return into
}

async function serverCertificate(): Promise<Certificate | null> {
  if (mode === SECURITY_MODE.None) return null
  const client = await Client.connect()
  await client.open(null)
  const request = new GetEndpointsRequest({
    requestHeader: { timestamp: new Date(), requestHandle: 1 },
    endpointUrl: url,
  })
  const { endpoints } = decoded(
    new GetEndpointsResponse(),
    await client.ask(1, REQUEST.GetEndpoints, request),
    RESPONSE.GetEndpoints,
  )
  client.socket.destroy()
  const wanted = endpoints?.find(
    (one) => one.securityPolicyUri === policy.uri && one.securityMode === (mode as number as MessageSecurityMode),
  )
  if (wanted === undefined) throw new Error(`no endpoint with ${policy.name} and ${options.mode}`)
  return readCertificate(wanted.serverCertificate)
}

/** Reads until told to stop: `depth` under way, each answered one followed by another. */
class Reader {
  readonly client: Client
  reads = 0
  private requestId = 10
  private readonly body: Uint8Array
  private readonly handleAt: number
  private readonly header = new ResponseHeader()
  private readonly cursor = new Cursor()
  private running = true
  private readonly began: number[] = []
  readonly latencies: number[] = []
  error: string | null = null

  constructor(client: Client, token: Uint8Array, nodes: number) {
    this.client = client
    const writer = new Writer().numericNodeId(0, REQUEST.Read)
    this.handleAt = writer.length + token.length + 8
    writeRequestHeader(writer, token, 0, dateTime(Date.now()), 10_000).double(0).u32(2).i32(nodes)
    for (let i = 0; i < nodes; i++) {
      writer.u8(3).u16(2).string(`Line1.Value${i}`).u32(13).i32(-1).u16(0).i32(-1)
    }
    this.body = writer.written().slice()
  }

  start(depth: number): void {
    this.client.onMessage = (buf, start, end) => this.answered(buf, start, end)
    this.client.socket.on('close', () => {
      if (this.running) this.error ??= 'the connection was closed'
    })
    for (let i = 0; i < depth; i++) this.ask()
  }

  stop(): void {
    this.running = false
    this.client.socket.destroy()
  }

  private ask(): void {
    setU32(this.body, this.handleAt, ++this.requestId)
    this.began.push(performance.now())
    this.client.channel.send(this.client.socket, MESSAGE.MSG, this.requestId, this.body)
  }

  private answered(buf: Buffer, start: number, end: number): void {
    this.reads++
    // One of 64 is looked into; the server has answered nothing else, and what is not a Read's answer has another size.
    if ((this.reads & 63) === 0 || end - start < 64) this.look(buf, start, end)
    const began = this.began.shift() ?? 0
    if ((this.reads & 7) === 0) this.latencies.push(performance.now() - began)
    if (this.running) this.ask()
  }

  private look(buf: Buffer, start: number, end: number): void {
    try {
      const opened = this.client.channel.open(buf, start, end)
      this.cursor.open(opened.buf, opened.at, opened.end)
      const typeId = this.cursor.typeId()
      walkResponseHeader(this.cursor, this.header)
      if (typeId !== RESPONSE.Read || this.header.serviceResult !== 0) {
        this.error ??= `type id ${typeId}, status ${this.header.serviceResult.toString(16)}`
      }
    } catch (error) {
      this.error ??= (error as Error).message
    }
  }
}

const sleep = (seconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, seconds * 1000))
const pid = options.pid === undefined ? null : Number(options.pid)
const cpu = (): number => (pid === null ? Number.NaN : cpuMicroseconds(pid))

async function reads(): Promise<object> {
  const server = await serverCertificate()
  const readers: Reader[] = []
  for (let i = 0; i < Number(options.connections); i++) {
    const client = await Client.connect()
    await client.open(server)
    readers.push(new Reader(client, await client.session(server), Number(options.nodes)))
  }
  const total = (): number => readers.reduce((sum, { reads }) => sum + reads, 0)
  for (const reader of readers) reader.start(Number(options.depth))
  await sleep(Number(options.warmup))
  const [from, cpuFrom, began] = [total(), cpu(), performance.now()]
  await sleep(Number(options.seconds))
  const [to, cpuTo, ended] = [total(), cpu(), performance.now()]
  const rssKb = pid === null ? Number.NaN : residentKb(pid)
  for (const reader of readers) reader.stop()
  const latencies = readers.flatMap((reader) => reader.latencies).sort((a, b) => a - b)
  const at = (share: number): number => 1000 * (latencies[Math.floor(latencies.length * share)] ?? Number.NaN)
  return {
    perSecond: (to - from) / ((ended - began) / 1000),
    cpuUs: (cpuTo - cpuFrom) / (to - from),
    p50: at(0.5),
    p99: at(0.99),
    rssKb,
    error: readers.find(({ error }) => error !== null)?.error ?? null,
  }
}

async function channels(): Promise<object> {
  const server = await serverCertificate()
  const end = performance.now() + 1000 * Number(options.seconds)
  const [began, cpuFrom] = [performance.now(), cpu()]
  let opened = 0
  let error: string | null = null
  const one = async (): Promise<void> => {
    while (performance.now() < end && error === null) {
      try {
        const client = await Client.connect()
        await client.open(server)
        opened++
        client.channel.send(client.socket, MESSAGE.CLO, 2, closeBody())
        client.socket.destroy()
      } catch (failure) {
        error = (failure as Error).message
      }
    }
  }
  await Promise.all(Array.from({ length: Number(options.connections) }, one))
  return {
    perSecond: opened / ((performance.now() - began) / 1000),
    cpuUs: (cpu() - cpuFrom) / opened,
    p50: Number.NaN,
    p99: Number.NaN,
    rssKb: Number.NaN,
    error,
  }
}

const closeBody = (): Uint8Array =>
  writeRequestHeader(
    new Writer().numericNodeId(0, REQUEST.CloseSecureChannel),
    null,
    2,
    dateTime(Date.now()),
    1000,
  ).written()

const result = options.channels ? await channels() : await reads()
process.stdout.write(`${JSON.stringify(result)}\n`)
process.exit(0)
