/**
 * The OPC UA server behind the relays of the benchmark: real channels and sessions, and Reads answered from a template,
 * so that it is never what is measured. `node server.ts HOST PORT CERTIFICATE`
 */
import { randomBytes } from 'node:crypto'
import net, { type Socket } from 'node:net'
import {
  ActivateSessionResponse,
  ApplicationType,
  BinaryStream,
  CloseSessionResponse,
  CreateSessionRequest,
  CreateSessionResponse,
  DataType,
  DataValue,
  EndpointDescription,
  GetEndpointsResponse,
  MessageSecurityMode,
  ReadResponse,
  UserTokenType,
  Variant,
  VariantArrayType,
} from 'node-opcua'
import { Cursor, dateTime, Writer } from '../../src/protocols/opcua/binary.ts'
import { MESSAGE, messageType, setU32 } from '../../src/protocols/opcua/chunk.ts'
import { RequestHeader, walkRequestHeader, writeResponseHeader } from '../../src/protocols/opcua/headers.ts'
import { namespaceReadIn } from '../../src/protocols/opcua/namespaces.ts'
import { SECURITY_POLICIES } from '../../src/protocols/opcua/security/policies.ts'
import { sign } from '../../src/protocols/opcua/security/rsa.ts'
import { REQUEST, RESPONSE } from '../../src/protocols/opcua/services.ts'
import { Channel, frames, hello, readOwnFiles } from './wire.ts'

const [host, port, path] = process.argv.slice(2)
const own = readOwnFiles(path)
const applicationUri = own.certificate.uris[0]
const url = `opc.tcp://${host}:${port}`

const ENDPOINTS = SECURITY_POLICIES.flatMap((policy) =>
  (policy.name === 'None'
    ? [MessageSecurityMode.None]
    : [MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt]
  ).map(
    (securityMode) =>
      new EndpointDescription({
        endpointUrl: url,
        server: {
          applicationUri,
          applicationName: { text: 'bench' },
          applicationType: ApplicationType.Server,
          discoveryUrls: [url],
        },
        serverCertificate: Buffer.from(own.certificate.der),
        securityMode,
        securityPolicyUri: policy.uri,
        userIdentityTokens: [{ policyId: 'anonymous', tokenType: UserTokenType.Anonymous }],
        transportProfileUri: 'http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary',
        securityLevel: 1,
      }),
  ),
)

interface Message {
  encode(stream: BinaryStream): void
}

function encoded(typeId: number, message: Message): Uint8Array {
  const stream = new BinaryStream(Buffer.alloc(BUFFER_BYTES))
  message.encode(stream)
  return new Writer().numericNodeId(0, typeId).raw(stream.buffer.subarray(0, stream.length)).written()
}
const BUFFER_BYTES = 60_000

const NAMESPACES = encoded(
  RESPONSE.Read,
  new ReadResponse({
    results: [
      new DataValue({
        value: new Variant({
          dataType: DataType.String,
          arrayType: VariantArrayType.Array,
          value: ['http://opcfoundation.org/UA/', applicationUri, 'urn:bench'],
        }),
      }),
    ],
  }),
)

/** Responses to a Read of so many nodes: Double, source and server timestamp. */
const templates = new Map<number, Uint8Array>()
const HANDLE_AT = 12

function readTemplate(count: number): Uint8Array {
  let template = templates.get(count)
  if (template === undefined) {
    const now = dateTime(Date.now())
    const writer = writeResponseHeader(new Writer().numericNodeId(0, RESPONSE.Read), 0, 0, now).i32(count)
    for (let i = 0; i < count; i++) writer.u8(0x0d).u8(11).double(i).i64(now).i64(now)
    template = writer.i32(-1).written().slice()
    templates.set(count, template)
  }
  return template
}

const cursor = new Cursor()
const header = new RequestHeader()

function answer(channel: Channel, buf: Uint8Array, at: number, end: number): Uint8Array | null {
  cursor.open(buf, at, end)
  const typeId = cursor.typeId()
  walkRequestHeader(cursor, header)
  const responseHeader = { requestHandle: header.requestHandle, timestamp: new Date(0) }
  switch (typeId) {
    case REQUEST.Read: {
      const body = cursor.at
      cursor.skip(12)
      const count = cursor.count(16)
      const response =
        count === 1 && namespaceReadIn(cursor.open(buf, body, end)) === 0 ? NAMESPACES : readTemplate(count)
      setU32(response, HANDLE_AT, header.requestHandle)
      return response
    }
    case REQUEST.GetEndpoints:
      return encoded(RESPONSE.GetEndpoints, new GetEndpointsResponse({ responseHeader, endpoints: ENDPOINTS }))
    case REQUEST.CreateSession: {
      const request = new CreateSessionRequest()
      request.decode(new BinaryStream(Buffer.from(buf.subarray(at + 4, end))))
      const secured = channel.peer !== null
      const response = new CreateSessionResponse({
        responseHeader,
        sessionId: `ns=1;i=${randomBytes(4).readUInt32LE()}`,
        authenticationToken: `ns=1;i=${randomBytes(4).readUInt32LE()}`,
        revisedSessionTimeout: 3_600_000,
        serverNonce: randomBytes(32),
        serverCertificate: secured ? Buffer.from(own.certificate.der) : undefined,
        serverEndpoints: ENDPOINTS,
        serverSignature: secured
          ? {
              algorithm: channel.policy.signature.uri,
              signature: sign(channel.policy, own.key, request.clientCertificate, request.clientNonce),
            }
          : undefined,
      })
      return encoded(RESPONSE.CreateSession, response)
    }
    case REQUEST.ActivateSession:
      return encoded(
        RESPONSE.ActivateSession,
        new ActivateSessionResponse({ responseHeader, serverNonce: randomBytes(32) }),
      )
    case REQUEST.CloseSession:
      return encoded(RESPONSE.CloseSession, new CloseSessionResponse({ responseHeader }))
    default:
      return null
  }
}

function serve(socket: Socket): void {
  const channel = new Channel()
  socket.on('error', () => socket.destroy())
  frames(socket, (buf, start, end) => {
    try {
      const type = messageType(buf, start)
      if (type === MESSAGE.HEL) socket.write(hello(null))
      else if (type === MESSAGE.OPN) socket.write(channel.takeOpenRequest(own, buf, start, end))
      else if (type === MESSAGE.CLO) socket.end()
      else {
        const opened = channel.open(buf, start, end)
        const body = answer(channel, opened.buf, opened.at, opened.end)
        if (body === null) socket.destroy()
        else channel.send(socket, MESSAGE.MSG, opened.requestId, body)
      }
    } catch (error) {
      process.stderr.write(`server: ${(error as Error).message}\n`)
      socket.destroy()
    }
  })
}

net.createServer({ noDelay: true }, serve).listen({ host, port: Number(port), backlog: 1024 })
