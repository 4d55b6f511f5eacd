/** The emulated OPC UA servers of the demonstration, by `node-opcua`: each on its own loopback address. */
import { join } from 'node:path'
import {
  DataType,
  nodesets,
  OPCUACertificateManager,
  OPCUAServer,
  type OPCUAServerOptions,
  StatusCodes,
  Variant,
} from 'node-opcua'

export const NAMESPACE = 'urn:plant:line'

export interface OpcUaPlant {
  name: string
  /** The server's own certificate, DER. */
  certificate: Buffer
  /** Values that reached it, in order: `Line1.Setpoint = 60`. */
  written: string[]
  /** Methods that were called. */
  called: string[]
  /** Trusts a client: the gateway, or whoever comes to it directly. */
  trust(certificate: Buffer): Promise<void>
  close(): Promise<void>
}

/**
 * @param directory of its own, for its certificates
 * @param host loopback address of its own
 */
export async function startOpcUaPlant(
  name: string,
  directory: string,
  host: string,
  port: number,
): Promise<OpcUaPlant> {
  const certificates = new OPCUACertificateManager({ rootFolder: join(directory, 'pki'), keySize: 2048 })
  await certificates.initialize()
  const applicationUri = `urn:plant:${name}`
  const certificateFile = join(directory, 'certificate.pem')
  await certificates.createSelfSignedCertificate({
    applicationUri,
    dns: [],
    ip: [host],
    outputFile: certificateFile,
    startDate: new Date(Date.now() - 60_000),
    subject: `/CN=${name}`,
    validity: 30,
  })
  const server = new OPCUAServer({
    host,
    hostname: host,
    port,
    nodeset_filename: [nodesets.standard],
    serverInfo: { applicationUri },
    certificateFile,
    privateKeyFile: certificates.privateKey,
    serverCertificateManager: certificates,
    buildInfo: { productName: name },
  } as OPCUAServerOptions)
  await server.initialize()
  const plant: OpcUaPlant = {
    name,
    certificate: server.getCertificate(),
    written: [],
    called: [],
    trust: async (certificate) => {
      await certificates.trustCertificate(certificate)
    },
    close: () => server.shutdown(0),
  }
  build(server, plant)
  await server.start()
  return plant
}

function build(server: OPCUAServer, plant: OpcUaPlant): void {
  const { addressSpace } = server.engine
  if (addressSpace === null) throw new Error('the server has no address space')
  const namespace = addressSpace.registerNamespace(NAMESPACE)
  const began = Date.now()
  for (const line of ['Line1', 'Line2']) {
    const object = namespace.addObject({
      browseName: line,
      nodeId: `s=${line}`,
      organizedBy: addressSpace.rootFolder.objects,
    })
    const speed = () => 40 + 10 * Math.sin((Date.now() - began) / 10_000)
    namespace.addVariable({
      componentOf: object,
      browseName: 'Speed',
      nodeId: `s=${line}.Speed`,
      dataType: 'Double',
      minimumSamplingInterval: 100,
      value: { get: () => new Variant({ dataType: DataType.Double, value: speed() }) },
    })
    let setpoint = 50
    namespace.addVariable({
      componentOf: object,
      browseName: 'Setpoint',
      nodeId: `s=${line}.Setpoint`,
      dataType: 'Double',
      minimumSamplingInterval: 100,
      value: {
        get: () => new Variant({ dataType: DataType.Double, value: setpoint }),
        set: ({ value }: Variant) => {
          setpoint = value as number
          plant.written.push(`${line}.Setpoint = ${setpoint}`)
          return StatusCodes.Good
        },
      },
    })
    for (const method of ['Ack', 'Start']) {
      namespace.addMethod(object, { browseName: method, nodeId: `s=${line}.${method}` }).bindMethod((_, __, done) => {
        plant.called.push(`${line}.${method}`)
        done(null, { statusCode: StatusCodes.Good, outputArguments: [] })
      })
    }
  }
}
