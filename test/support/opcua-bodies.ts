/** Bodies of requests that name nodes, behind their headers (OPC 10000-4 §5); and a client that sends them in clear. */
import { REQUEST, RESPONSE } from '../../src/protocols/opcua/services.ts'
import { acknowledge, hello, openedNone, openNone, request, response, reverseHello, string } from './opcua.ts'
import { Connection, type Packet } from './traffic.ts'

export const stringNode = (namespace: number, text: string): Buffer =>
  Buffer.concat([Buffer.from([3, namespace & 0xff, namespace >> 8]), string(text)])

export function numericNode(namespace: number, id: number): Buffer {
  const bytes = Buffer.from([2, namespace & 0xff, namespace >> 8, 0, 0, 0, 0])
  bytes.writeUInt32LE(id, 3)
  return bytes
}

/** An Int32. */
export function count(n: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(n)
  return bytes
}

/** A DataValue with a Double. */
function doubleValue(value: number): Buffer {
  const bytes = Buffer.from([1, 11, 0, 0, 0, 0, 0, 0, 0, 0])
  bytes.writeDoubleLE(value, 2)
  return bytes
}

const VALUE = 13
const attribute = (id: number): Buffer => Buffer.concat([count(id), string(null)])

export const writeBody = (nodes: Buffer[], value = 1, id = VALUE): Buffer =>
  Buffer.concat([count(nodes.length), ...nodes.flatMap((node) => [node, attribute(id), doubleValue(value)])])

export const readBody = (nodes: Buffer[]): Buffer =>
  Buffer.concat([
    Buffer.alloc(12),
    count(nodes.length),
    ...nodes.flatMap((node) => [node, attribute(VALUE), Buffer.alloc(2), string(null)]),
  ])

/** @param calls object and method of each */
export const callBody = (calls: [Buffer, Buffer][]): Buffer =>
  Buffer.concat([count(calls.length), ...calls.flatMap(([object, method]) => [object, method, count(0)])])

export const nodesBody = (nodes: Buffer[]): Buffer => Buffer.concat([count(nodes.length), ...nodes])

/** One client, on a channel of the policy None: each request is answered at once. */
export class OpcUaClient {
  private readonly connection: Connection
  private readonly client: boolean
  private sequence = 51
  private answered = 51

  /** @param reverse the server opens the connection, to port 4840 of the client */
  constructor(packets: Packet[], client = '10.30.1.20', target = '10.20.1.5', reverse = false) {
    this.client = !reverse
    const [from, to] = reverse ? [target, client] : [client, target]
    this.connection = new Connection(packets, { host: from, port: 41_000 }, { host: to, port: 4840 }, 1.7e15).open()
    if (reverse) this.connection.bytes(true, reverseHello())
    this.connection.bytes(this.client, hello()).bytes(!this.client, acknowledge())
    this.connection.bytes(this.client, openNone(51, 1)).bytes(!this.client, openedNone(51, 1, 7, 1))
  }

  /** @param results what stands in the response behind its header */
  ask(service: keyof typeof REQUEST, body: Buffer, results: Buffer = count(0)): this {
    const id = ++this.sequence
    this.connection.bytes(this.client, request(REQUEST[service], { sequence: id, request: id }, body))
    this.connection.bytes(
      !this.client,
      response(RESPONSE[service], { sequence: ++this.answered, request: id }, results),
    )
    return this
  }

  close(): void {
    this.connection.close()
  }
}
