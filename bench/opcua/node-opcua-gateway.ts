/**
 * The terminating gateway as one would build it from node-opcua's own channel classes: each message decoded and encoded
 * again. What Headgate's is held against. `node node-opcua-gateway.ts LISTEN SERVER-HOST:PORT CERTIFICATE SERVER.der`
 */
import { createPrivateKey, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import net, { type Socket } from 'node:net'
import {
  ActivateSessionRequest,
  ClientSecureChannelLayer,
  CreateSessionRequest,
  type CreateSessionResponse,
  type GetEndpointsResponse,
  MessageSecurityMode,
  SecurityPolicy,
  ServerSecureChannelLayer,
  SignatureData,
  StatusCodes,
} from 'node-opcua'
import { keyOperationsFromPrivateKey, readPrivateKey } from 'node-opcua-crypto'
import { policyByName } from '../../src/protocols/opcua/security/policies.ts'
import { sign } from '../../src/protocols/opcua/security/rsa.ts'

const [listen, target, path, serverPath] = process.argv.slice(2)
const certificate = readFileSync(`${path}.der`)
const serverCertificate = readFileSync(serverPath)
const key = createPrivateKey(readFileSync(`${path}.pem`))
const privateKey = readPrivateKey(`${path}.pem`)
const own = `opc.tcp://127.0.0.1:${listen}`
const real = `opc.tcp://${target}`
const POLICY = policyByName('Basic256Sha256')

const parent = {
  certificateManager: { checkCertificate: async () => StatusCodes.Good, trustCertificate: async () => {} },
  getCertificate: () => certificate,
  getCertificateChain: () => [certificate],
  getKeyOperations: () => keyOperationsFromPrivateKey(privateKey),
  getPrivateKey: () => privateKey,
  getEndpointDescription: () => ({}),
}

/** node-opcua's requests and responses, as far as they are touched here. */
interface Message {
  requestHeader: { requestHandle: number; timeoutHint: number }
  responseHeader: { requestHandle: number }
}

const HANDLE_NOT_SET = 3735928559
/** Longer than any long poll. */
const NEVER_MS = 3_600_000

function signature(...parts: Uint8Array[]): SignatureData {
  return new SignatureData({ algorithm: POLICY.signature.uri, signature: sign(POLICY, key, ...parts) })
}

class Pair {
  private readonly server: ServerSecureChannelLayer
  private upstream: Promise<ClientSecureChannelLayer> | null = null
  private readonly nonce = randomBytes(32)
  private serverNonce: Uint8Array = new Uint8Array(0)

  constructor(socket: Socket) {
    this.server = new ServerSecureChannelLayer({
      parent: parent as never,
      timeout: NEVER_MS,
      defaultSecureTokenLifetime: NEVER_MS,
    })
    this.server.on('message', (message) => void this.relay(message))
    this.server.on('abort', () => void this.upstream?.then((layer) => layer.close(() => {})).catch(() => {}))
    this.server.init(socket, (error) => error && socket.destroy())
  }

  private connect(): Promise<ClientSecureChannelLayer> {
    const secured = this.server.securityMode !== MessageSecurityMode.None
    const layer = new ClientSecureChannelLayer({
      parent: parent as never,
      securityMode: this.server.securityMode,
      securityPolicy: secured ? SecurityPolicy.Basic256Sha256 : SecurityPolicy.None,
      serverCertificate: secured ? serverCertificate : undefined,
      transportTimeout: 30_000,
      defaultTransactionTimeout: NEVER_MS,
    })
    return new Promise((resolve, reject) => layer.create(real, (error) => (error ? reject(error) : resolve(layer))))
  }

  private async relay(message: Parameters<ServerSecureChannelLayer['send_response']>[2]): Promise<void> {
    const request = message.request as unknown as Message
    const { requestHandle } = request.requestHeader
    this.upstream ??= this.connect()
    const layer = await this.upstream
    let clientNonce: Uint8Array = this.nonce
    if (request instanceof CreateSessionRequest) {
      clientNonce = request.clientNonce
      request.clientCertificate = certificate
      request.clientNonce = this.nonce
      request.endpointUrl = real
    } else if (request instanceof ActivateSessionRequest) {
      request.clientSignature = signature(serverCertificate, this.serverNonce)
    }
    request.requestHeader.requestHandle = HANDLE_NOT_SET
    request.requestHeader.timeoutHint = NEVER_MS
    layer.performMessageTransaction(request as never, (error, answer) => {
      const response = answer ?? (error as unknown as { response?: typeof answer } | null)?.response
      if (response === undefined) return this.server.close()
      response.responseHeader.requestHandle = requestHandle
      this.rewrite(response, clientNonce)
      this.server.send_response('MSG', response, message)
    })
  }

  private rewrite(response: object, clientNonce: Uint8Array): void {
    const { endpoints } = response as GetEndpointsResponse
    for (const endpoint of endpoints ?? []) {
      endpoint.endpointUrl = own
      endpoint.serverCertificate = certificate
    }
    const created = response as CreateSessionResponse
    if (created.serverSignature === undefined) return
    this.serverNonce = created.serverNonce
    created.serverCertificate = certificate
    for (const endpoint of created.serverEndpoints ?? []) {
      endpoint.endpointUrl = own
      endpoint.serverCertificate = certificate
    }
    const client = this.server.clientCertificate
    if (client !== null) created.serverSignature = signature(client, clientNonce)
  }
}

net.createServer({ noDelay: true }, (socket) => new Pair(socket)).listen({ host: '127.0.0.1', port: Number(listen) })
