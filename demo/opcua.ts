/**
 * The OPC UA part of the demonstration: a line behind a terminating gateway, a packaging cell past an inspecting one,
 * and the certificates that all of them need to know of each other, made anew each time.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { MessageSecurityMode, setErrorLogger, setWarningLogger } from 'node-opcua'
import { parse, stringify } from 'yaml'
import { makeKey, makeOwnCertificate } from '../src/pki/make.ts'
import { listPaths, makeList, ownPaths, toPem } from '../src/pki/store.ts'
import type { Policy } from '../src/policy/model.ts'
import type { Actor } from './actors.ts'
import {
  lineEngineer,
  lineHistorian,
  lineImpostor,
  type OpcUaClient,
  opcUaClient,
  supervision,
} from './opcua-actors.ts'
import { type OpcUaPlant, startOpcUaPlant } from './opcua-plant.ts'

/** What of a policy's document is put together. */
interface Document {
  zones: unknown[]
  conduits: unknown[]
  gateway: { listeners: unknown[] }
}

/**
 * One policy of several: their zones, conduits and listeners side by side, and the rest of the first one.
 * @returns the file that it was written to, in `directory`
 */
export function joinPolicies(directory: string, files: readonly string[]): string {
  const [first, ...others] = files.map((file) => parse(readFileSync(file, 'utf8')) as Document)
  for (const other of others) {
    first.zones.push(...other.zones)
    first.conduits.push(...other.conduits)
    first.gateway.listeners.push(...other.gateway.listeners)
  }
  const file = join(directory, 'policy.yaml')
  writeFileSync(file, stringify(first))
  return file
}

export interface OpcUaPart {
  plants: OpcUaPlant[]
  /** The actors, once the gateway is ready. */
  actors: Actor[]
  close(): Promise<void>
}

// What node-opcua has to say of clients that are cut would stand between the lines of the demonstration.
setErrorLogger(() => {})
setWarningLogger(() => {})

/** @param directory where the policy stands, and the certificates will */
export async function startOpcUaPart(directory: string, policy: Policy): Promise<OpcUaPart> {
  const place = (name: string): { target: { host: string; port: number }; listen: { host: string; port: number } } => {
    const listener = policy.gateway?.listeners.find(({ target }) => target.name === name)
    if (listener === undefined) throw new Error(`the policy has no listener for ${name}`)
    return listener
  }
  const folder = (name: string): string => {
    const path = join(directory, name)
    mkdirSync(path, { recursive: true })
    return path
  }
  const pki = join(directory, 'pki')
  const gateway = await makeGatewayCertificate(pki, place('OPC-01').listen.host)

  const plants: OpcUaPlant[] = []
  for (const name of ['OPC-01', 'OPC-02']) {
    const { host, port } = place(name).target
    plants.push(await startOpcUaPlant(name, folder(name), host, port))
  }
  const [line, packaging] = plants
  await line.trust(gateway)
  trust(join(pki, 'servers'), 'OPC-01', line.certificate)

  const { SignAndEncrypt, Sign } = MessageSecurityMode
  const client = (name: string, address: string, target: 'OPC-01' | 'OPC-02'): Promise<OpcUaClient> => {
    const [mode, certificate] =
      target === 'OPC-01' ? [SignAndEncrypt, gateway] : ([Sign, packaging.certificate] as const)
    return opcUaClient(name, folder(name), address, place(target).listen, mode, certificate)
  }
  const historian = await client('historian', '127.0.70.20', 'OPC-01')
  const engineer = await client('engineer', '127.0.60.5', 'OPC-01')
  const impostor = await client('impostor', '127.0.70.20', 'OPC-01')
  const viewer = await client('supervision', '127.0.71.20', 'OPC-02')
  trust(join(pki, 'clients'), 'historian', historian.certificate)
  trust(join(pki, 'clients'), 'engineer', engineer.certificate)
  await packaging.trust(viewer.certificate)
  return {
    plants,
    actors: [lineHistorian(historian), lineEngineer(engineer), lineImpostor(impostor), supervision(viewer)],
    close: async () => {
      for (const plant of plants) await plant.close()
    },
  }
}

/** What `headgate pki init` does. @returns the certificate, DER */
async function makeGatewayCertificate(pki: string, host: string): Promise<Buffer> {
  const key = await makeKey(2048)
  const certificate = await makeOwnCertificate(key, {
    commonName: 'Headgate',
    organization: null,
    applicationUri: 'urn:headgate:demonstration',
    hosts: [host],
    days: 30,
  })
  const own = ownPaths(join(pki, 'own'))
  mkdirSync(join(own.certificate, '..'), { recursive: true })
  mkdirSync(join(own.key, '..'), { recursive: true, mode: 0o700 })
  writeFileSync(own.certificate, toPem([certificate]))
  writeFileSync(own.key, key, { mode: 0o600 })
  makeList(join(pki, 'clients'))
  makeList(join(pki, 'servers'))
  return certificate
}

/** What `headgate pki trust` does. */
function trust(list: string, name: string, certificate: Buffer): void {
  writeFileSync(join(listPaths(list).trusted, `${name}.pem`), toPem([certificate]))
}

/** What reached the servers: written values and called methods. */
export const reached = (plants: readonly OpcUaPlant[]): number =>
  plants.reduce((total, { written, called }) => total + written.length + called.length, 0)

/** What should never have come through, in words. */
export function leaks([line, packaging]: readonly OpcUaPlant[]): string[] {
  const bad = line.written.filter((text) => !text.startsWith('Line1.') || Number(text.split(' = ')[1]) > 85)
  const wrong = [...line.called.filter((name) => name !== 'Line1.Ack'), ...packaging.written, ...packaging.called]
  return [...bad, ...wrong].map((text) => `reached an OPC UA server: ${text}`)
}
