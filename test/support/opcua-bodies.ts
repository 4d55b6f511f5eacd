/** Bodies of requests that name nodes, behind their headers (OPC 10000-4 §5); and a client that sends them in clear. */
import { REQUEST, RESPONSE } from '../../src/protocols/opcua/services.ts'
import { acknowledge, hello, openedNone, openNone, request, response, string } from './opcua.ts'
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
  private sequence = 51
  private answered = 51

  constructor(packets: Packet[], client = '10.30.1.20', target = '10.20.1.5', us = 1.7e15, port = 41_000) {
    this.connection = new Connection(packets, { host: client, port }, { host: target, port: 4840 }, us).open()
    this.connection.bytes(true, hello()).bytes(false, acknowledge())
    this.connection.bytes(true, openNone(51, 1)).bytes(false, openedNone(51, 1, 7, 1))
  }

  /** @param results what stands in the response behind its header */
  ask(service: keyof typeof REQUEST, body: Buffer, results: Buffer = count(0)): this {
    const id = ++this.sequence
    this.connection.bytes(true, request(REQUEST[service], { sequence: id, request: id }, body))
    this.connection.bytes(false, response(RESPONSE[service], { sequence: ++this.answered, request: id }, results))
    return this
  }

  close(): void {
    this.connection.close()
  }
}
