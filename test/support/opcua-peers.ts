/** Real OPC UA peers: a node-opcua server with a cell's nodes, and clients, with certificates that a test has made. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  AttributeIds,
  ClientMonitoredItem,
  type ClientSession,
  ClientSubscription,
  DataType,
  MessageSecurityMode,
  nodesets,
  OPCUACertificateManager,
  OPCUAClient,
  type OPCUAClientOptions,
  OPCUAServer,
  type OPCUAServerOptions,
  SecurityPolicy,
  StatusCodes,
  TimestampsToReturn,
  type UserIdentityInfo,
  UserTokenType,
  Variant,
} from 'node-opcua'
import type { Test } from 'tap'
import { toPem } from '../../src/pki/store.ts'
import type { Holder } from './opcua-pki.ts'

export const POLICIES = {
  None: SecurityPolicy.None,
  Basic128Rsa15: SecurityPolicy.Basic128Rsa15,
  Basic256: SecurityPolicy.Basic256,
  Basic256Sha256: SecurityPolicy.Basic256Sha256,
  Aes128_Sha256_RsaOaep: SecurityPolicy.Aes128_Sha256_RsaOaep,
  Aes256_Sha256_RsaPss: SecurityPolicy.Aes256_Sha256_RsaPss,
} as const
export type PolicyName = keyof typeof POLICIES

export const MODES = {
  None: MessageSecurityMode.None,
  Sign: MessageSecurityMode.Sign,
  SignAndEncrypt: MessageSecurityMode.SignAndEncrypt,
} as const

/** A directory that goes with the test. */
export function temporary(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'headgate-opcua-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** Certificate and key as files, for node-opcua. */
export function files(directory: string, name: string, holder: Holder, chain: Uint8Array[] = []) {
  const certificateFile = join(directory, `${name}.pem`)
  const privateKeyFile = join(directory, `${name}.key`)
  writeFileSync(certificateFile, toPem([holder.der, ...chain]))
  writeFileSync(privateKeyFile, holder.keyPem)
  return { certificateFile, privateKeyFile }
}

/** Takes every certificate: what is under test is Headgate's judgement. */
async function manager(directory: string, name: string): Promise<OPCUACertificateManager> {
  const certificates = new OPCUACertificateManager({
    rootFolder: join(directory, name),
    automaticallyAcceptUnknownCertificate: true,
    keySize: 2048,
  })
  await certificates.initialize()
  return certificates
}

export interface CellServer {
  server: OPCUAServer
  port: number
  /** Values written to Setpoint, in order. */
  written: number[]
  /** Calls of Ack. */
  calls: number
  namespace: number
}

/** A server with Setpoint, Counter, Big (400 kB), Store (takes 300 kB), Ack and a history of Setpoint. */
export async function startServer(
  t: Test,
  directory: string,
  holder: Holder,
  options: Partial<OPCUAServerOptions> = {},
): Promise<CellServer> {
  const server = new OPCUAServer({
    port: 0,
    host: '127.0.0.1',
    hostname: '127.0.0.1',
    nodeset_filename: [nodesets.standard],
    ...files(directory, 'server', holder),
    serverCertificateManager: await manager(directory, 'server-pki'),
    userCertificateManager: await manager(directory, 'server-users'),
    serverInfo: { applicationUri: holder.applicationUri },
    securityPolicies: Object.values(POLICIES),
    securityModes: Object.values(MODES),
    userManager: { isValidUser: (user: string, password: string) => user === 'anna' && password === 'geheim' },
    ...options,
  } as OPCUAServerOptions)
  await server.initialize()
  const cell: CellServer = { server, port: 0, written: [], calls: 0, namespace: 0 }
  buildCell(server, cell)
  await server.start()
  t.teardown(() => server.shutdown(0))
  const address = (server.endpoints[0] as unknown as { _server: { address(): { port: number } } })._server.address()
  cell.port = address.port
  return cell
}

function buildCell(server: OPCUAServer, cell: CellServer): void {
  const { addressSpace } = server.engine
  if (!addressSpace) throw new Error('no address space')
  const namespace = addressSpace.registerNamespace('urn:plant:cell')
  cell.namespace = namespace.index
  const line = namespace.addObject({
    browseName: 'Line1',
    nodeId: 's=Line1',
    organizedBy: addressSpace.rootFolder.objects,
  })
  let setpoint = 20
  const variable = namespace.addVariable({
    componentOf: line,
    browseName: 'Setpoint',
    nodeId: 's=Line1.Setpoint',
    dataType: 'Double',
    minimumSamplingInterval: 50,
    value: {
      get: () => new Variant({ dataType: DataType.Double, value: setpoint }),
      set: (value: Variant) => {
        setpoint = value.value as number
        cell.written.push(setpoint)
        return StatusCodes.Good
      },
    },
  })
  addressSpace.installHistoricalDataNode(variable)
  let counter = 0
  namespace.addVariable({
    componentOf: line,
    browseName: 'Counter',
    nodeId: 's=Line1.Counter',
    dataType: 'UInt32',
    minimumSamplingInterval: 20,
    value: { get: () => new Variant({ dataType: DataType.UInt32, value: counter++ }) },
  })
  namespace.addVariable({
    componentOf: line,
    browseName: 'Big',
    nodeId: 's=Line1.Big',
    dataType: 'ByteString',
    value: { get: () => new Variant({ dataType: DataType.ByteString, value: Buffer.alloc(400_000, 0xab) }) },
  })
  let stored: Buffer = Buffer.alloc(0)
  namespace.addVariable({
    componentOf: line,
    browseName: 'Store',
    nodeId: 's=Line1.Store',
    dataType: 'ByteString',
    value: {
      get: () => new Variant({ dataType: DataType.ByteString, value: stored }),
      set: (value: Variant) => {
        stored = value.value as Buffer
        return StatusCodes.Good
      },
    },
  })
  const method = namespace.addMethod(line, {
    browseName: 'Ack',
    nodeId: 's=Ack',
    inputArguments: [{ name: 'n', dataType: DataType.UInt32, description: { text: 'n' } }],
    outputArguments: [{ name: 'twice', dataType: DataType.UInt32, description: { text: 'twice' } }],
  })
  method.bindMethod((inputs, _context, callback) => {
    cell.calls++
    const outputArguments = [new Variant({ dataType: DataType.UInt32, value: 2 * (inputs[0].value as number) })]
    callback(null, { statusCode: StatusCodes.Good, outputArguments })
  })
}

export interface ClientOptions extends Partial<OPCUAClientOptions> {
  policy?: PolicyName
  mode?: keyof typeof MODES
}

/** A client that does not try again by itself. */
export async function client(
  t: Test,
  directory: string,
  name: string,
  holder: Holder,
  { policy = 'Basic256Sha256', mode = 'SignAndEncrypt', ...options }: ClientOptions = {},
): Promise<OPCUAClient> {
  const made = OPCUAClient.create({
    applicationName: name,
    applicationUri: holder.applicationUri,
    ...files(directory, name, holder),
    clientCertificateManager: await manager(directory, `${name}-pki`),
    securityMode: MODES[mode],
    securityPolicy: POLICIES[policy],
    endpointMustExist: true,
    connectionStrategy: { maxRetry: 0, initialDelay: 10, maxDelay: 20 },
    transportTimeout: 20_000,
    keepSessionAlive: false,
    ...options,
  } as OPCUAClientOptions)
  t.teardown(() => made.disconnect().catch(() => {}))
  return made
}

export const anna: UserIdentityInfo = { type: UserTokenType.UserName, userName: 'anna', password: 'geheim' }

/** News of a node, as they come. @param lifetime in publishing intervals of 50 ms */
export function subscribe(session: ClientSession, nodeId: string, lifetime = 100) {
  const subscription = ClientSubscription.create(session, {
    requestedPublishingInterval: 50,
    requestedLifetimeCount: lifetime,
    requestedMaxKeepAliveCount: 5,
    publishingEnabled: true,
  })
  const item = ClientMonitoredItem.create(
    subscription,
    { nodeId, attributeId: AttributeIds.Value },
    { samplingInterval: 20, queueSize: 10, discardOldest: true },
    TimestampsToReturn.Both,
  )
  const values: unknown[] = []
  item.on('changed', (change) => values.push(change.value.value))
  return { subscription, values }
}

/** Connects, opens a session, and closes both when `work` is done. */
export async function withSession<T>(
  made: OPCUAClient,
  url: string,
  work: (session: ClientSession) => Promise<T>,
  user?: UserIdentityInfo,
): Promise<T> {
  await made.connect(url)
  try {
    const session = await made.createSession(user)
    try {
      return await work(session)
    } finally {
      await session.close().catch(() => {})
    }
  } finally {
    await made.disconnect().catch(() => {})
  }
}
