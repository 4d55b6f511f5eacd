/** Who speaks OPC UA in the demonstration: clients by `node-opcua`, each from its own loopback address. */
import { connect } from 'node:net'
import { join } from 'node:path'
import {
  type ClientSession,
  DataType,
  type MessageSecurityMode,
  makeReverseClientTransportFactory,
  OPCUACertificateManager,
  OPCUAClient,
  type OPCUAClientOptions,
  SecurityPolicy,
  type StatusCode,
  StatusCodes,
} from 'node-opcua'
import type { Actor, Endpoint, Outcome, Step } from './actors.ts'
import { NAMESPACE } from './opcua-plant.ts'

const TIMEOUT_MS = 10_000

export interface OpcUaClient {
  address: string
  /** Its own certificate, DER. */
  certificate: Buffer
  /** Connects and opens a session; again where it was cut. */
  session(): Promise<ClientSession>
  close(): Promise<void>
}

/**
 * @param directory of its own, for its certificates
 * @param address that it comes from
 * @param to where Headgate listens
 * @param serverCertificate of the gateway, or of the server past it: it was installed, so that nothing is asked before
 */
export async function opcUaClient(
  name: string,
  directory: string,
  address: string,
  to: Endpoint,
  securityMode: MessageSecurityMode,
  serverCertificate: Buffer,
): Promise<OpcUaClient> {
  const certificates = new OPCUACertificateManager({
    rootFolder: join(directory, 'pki'),
    // What the client thinks of its server is not what is shown here.
    automaticallyAcceptUnknownCertificate: true,
    keySize: 2048,
  })
  await certificates.initialize()
  const applicationUri = `urn:plant:client:${name}`
  const certificateFile = join(directory, 'certificate.pem')
  await certificates.createSelfSignedCertificate({
    applicationUri,
    dns: [],
    ip: [address],
    outputFile: certificateFile,
    startDate: new Date(Date.now() - 60_000),
    subject: `/CN=${name}`,
    validity: 30,
  })
  const endpointUrl = `opc.tcp://${to.host}:${to.port}`
  const make = (): OPCUAClient =>
    OPCUAClient.create({
      applicationName: name,
      applicationUri,
      certificateFile,
      privateKeyFile: certificates.privateKey,
      clientCertificateManager: certificates,
      securityMode,
      securityPolicy: SecurityPolicy.Basic256Sha256,
      serverCertificate,
      // An inspected server names its own address, which is not Headgate's.
      endpointMustExist: false,
      connectionStrategy: { maxRetry: 0, initialDelay: 10, maxDelay: 20 },
      transportTimeout: TIMEOUT_MS,
      requestedSessionTimeout: 60_000,
      keepSessionAlive: false,
      // node-opcua knows no local address: it takes a socket that is connected already, as for reverse connect.
      transportFactory: makeReverseClientTransportFactory(
        () =>
          new Promise((resolve, reject) => {
            const socket = connect({ host: to.host, port: to.port, localAddress: address, noDelay: true })
            socket.once('error', reject)
            socket.once('connect', () => {
              socket.removeListener('error', reject)
              socket.pause()
              resolve({ socket, endpointUrl, serverUri: '' } as never)
            })
          }),
      ),
    } as OPCUAClientOptions)
  let client: OPCUAClient | null = null
  let session: ClientSession | null = null
  const drop = async (): Promise<void> => {
    const [oldSession, oldClient] = [session, client]
    session = null
    client = null
    await oldSession?.close().catch(() => {})
    await oldClient?.disconnect().catch(() => {})
  }
  return {
    address,
    certificate: make().getCertificate(),
    async session() {
      if (
        session !== null &&
        client?.isReconnecting === false &&
        (session as ClientSession & { isChannelValid(): boolean }).isChannelValid()
      )
        return session
      await drop()
      client = make()
      await client.connect(endpointUrl)
      session = await client.createSession()
      return session
    },
    close: drop,
  }
}

/** What a status means to the demonstration. */
function outcomeOf(status: StatusCode, text: string): Outcome {
  return status.isGood() ? { kind: 'answer', text } : { kind: 'status', name: status.name }
}

async function outcome(work: () => Promise<Outcome>): Promise<Outcome> {
  try {
    return await work()
  } catch (error) {
    const { response, message } = error as {
      response?: { responseHeader: { serviceResult: StatusCode } }
      message: string
    }
    const status = response?.responseHeader.serviceResult
    if (status !== undefined) return { kind: 'status', name: status.name }
    const named = /\b(Bad[A-Z]\w+)/.exec(message)?.[1]
    return named !== undefined && named in StatusCodes ? { kind: 'status', name: named } : { kind: 'closed' }
  }
}

/** Steps that a client takes, by what it knows of the server's nodes. */
class Steps {
  private readonly client: OpcUaClient
  private index = 0

  constructor(client: OpcUaClient) {
    this.client = client
  }

  private async node(session: ClientSession, name: string): Promise<string> {
    if (this.index === 0) this.index = (await session.readNamespaceArray()).indexOf(NAMESPACE)
    return `ns=${this.index};s=${name}`
  }

  private step(
    what: string,
    expect: Step['expect'],
    work: (session: ClientSession) => Promise<Outcome>,
    reason?: string,
  ) {
    return { what, expect, reason, run: () => outcome(async () => work(await this.client.session())) }
  }

  browse(): Step {
    return this.step('browses the objects', 'answer', async (session) => {
      const { references, statusCode } = await session.browse('i=85')
      const names = (references ?? [])
        .map(({ browseName }) => browseName.name)
        .filter((name) => name?.startsWith('Line'))
      return outcomeOf(statusCode, names.join(', '))
    })
  }

  read(...names: string[]): Step {
    return this.step(`reads ${names.join(', ')}`, 'answer', async (session) => {
      const nodes = await Promise.all(names.map((name) => this.node(session, name)))
      const values = await session.read(nodes.map((nodeId) => ({ nodeId })))
      const bad = values.find(({ statusCode }) => statusCode.isNot(StatusCodes.Good))
      const text = values.map(({ value }) => Number(value.value).toFixed(1)).join(' ')
      return outcomeOf(bad?.statusCode ?? StatusCodes.Good, text)
    })
  }

  write(name: string, value: number, expect: Step['expect'] = 'answer', reason?: string): Step {
    const work = async (session: ClientSession): Promise<Outcome> => {
      const nodeId = await this.node(session, name)
      const status = await session.write({
        nodeId,
        attributeId: 13,
        value: { value: { dataType: DataType.Double, value } },
      })
      return outcomeOf(status, 'done')
    }
    return this.step(`writes ${name} = ${value}`, expect, work, reason)
  }

  /** Two values at once, of which the second is denied: the first one is written all the same. */
  writeBoth(): Step {
    const work = async (session: ClientSession): Promise<Outcome> => {
      const nodes = await Promise.all(['Line1.Setpoint', 'Line2.Setpoint'].map((name) => this.node(session, name)))
      const value = { value: { dataType: DataType.Double, value: 55 } }
      const statuses = await session.write(nodes.map((nodeId) => ({ nodeId, attributeId: 13, value })))
      return { kind: 'answer', text: statuses.map(({ name }) => name).join(', ') }
    }
    return this.step('writes setpoints of lines 1 and 2 at once', 'answer', work, 'node')
  }

  call(object: string, method: string, expect: Step['expect'] = 'answer', reason?: string): Step {
    const work = async (session: ClientSession): Promise<Outcome> => {
      const [objectId, methodId] = [await this.node(session, object), await this.node(session, `${object}.${method}`)]
      const { statusCode } = await session.call({ objectId, methodId, inputArguments: [] })
      return outcomeOf(statusCode, 'done')
    }
    return this.step(`calls ${object}.${method}`, expect, work, reason)
  }

  connect(expect: Step['expect'], reason: string): Step {
    return this.step('opens a session', expect, async () => ({ kind: 'answer', text: 'opened' }), reason)
  }
}

const DENIED = 'BadUserAccessDenied'

const actor = (name: string, target: string, client: OpcUaClient, steps: Step[]): Actor => ({
  name,
  address: client.address,
  target,
  steps,
  close: () => client.close(),
})

/** Through the terminating gateway, on SignAndEncrypt: who may read. */
export function lineHistorian(client: OpcUaClient): Actor {
  const steps = new Steps(client)
  return actor('historian', 'OPC-01', client, [
    steps.browse(),
    steps.read('Line1.Speed', 'Line2.Speed'),
    steps.write('Line1.Setpoint', 60, DENIED, 'service'),
    steps.call('Line1', 'Ack', DENIED, 'service'),
  ])
}

/** Through the terminating gateway, on SignAndEncrypt: who may write one line's setpoint, within limits. */
export function lineEngineer(client: OpcUaClient): Actor {
  const steps = new Steps(client)
  return actor('engineer', 'OPC-01', client, [
    steps.read('Line1.Setpoint'),
    steps.write('Line1.Setpoint', 60),
    steps.write('Line1.Setpoint', 120, DENIED, 'value'),
    steps.write('Line2.Setpoint', 60, DENIED, 'node'),
    steps.writeBoth(),
    steps.call('Line1', 'Ack'),
    steps.call('Line1', 'Start', DENIED, 'node'),
  ])
}

/** An allowed address, and a certificate that nobody trusts. */
export function lineImpostor(client: OpcUaClient): Actor {
  return actor('impostor', 'OPC-01', client, [new Steps(client).connect('closed', 'security')])
}

/** Past the inspecting gateway, on Sign: reads pass, and what is denied ends the connection. */
export function supervision(client: OpcUaClient): Actor {
  const steps = new Steps(client)
  return actor('supervision', 'OPC-02', client, [
    steps.browse(),
    steps.read('Line1.Speed'),
    steps.write('Line1.Setpoint', 60, 'closed', 'service'),
    steps.read('Line1.Setpoint'),
  ])
}
