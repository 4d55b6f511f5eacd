/** Certificates for tests: made by Headgate's own maker, and what an authority issues and revokes. */
import { createPrivateKey, createPublicKey, webcrypto } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { makeKey, makeOwnCertificate } from '../../src/pki/make.ts'
import { listPaths, makeList, ownPaths, toPem } from '../../src/pki/store.ts'
import { loadX509 } from '../../src/pki/x509.ts'

export interface Holder {
  der: Buffer
  keyPem: string
  applicationUri: string
}

const ALGORITHM = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' } as const
const DAY_MS = 86_400_000

/** A self-signed application instance certificate. */
export async function selfSigned(name: string, bits = 2048, keyPem?: string): Promise<Holder> {
  const key = keyPem ?? (await makeKey(bits))
  const applicationUri = `urn:headgate:test:${name}`
  const options = { commonName: name, organization: null, applicationUri, hosts: ['localhost', '127.0.0.1'], days: 400 }
  return { der: await makeOwnCertificate(key, options), keyPem: key, applicationUri }
}

export interface IssueOptions {
  notBefore?: Date
  notAfter?: Date
  applicationUri?: string
  /** KeyUsageFlags; absent: as OPC 10000-6 Table 36 asks. */
  usage?: number
  serialNumber?: string
  /** Makes it an authority. */
  ca?: boolean
}

/** An authority for tests: issues, and revokes. */
export class Authority {
  readonly der: Buffer
  readonly name: string
  readonly keyPem: string

  private constructor(name: string, keyPem: string, der: Buffer) {
    this.name = name
    this.keyPem = keyPem
    this.der = der
  }

  static async make(name: string, bits = 2048): Promise<Authority> {
    const keyPem = await makeKey(bits)
    const x509 = await loadX509()
    const certificate = await x509.X509CertificateGenerator.createSelfSigned(
      {
        name: `CN=${name}`,
        notBefore: new Date(Date.now() - DAY_MS),
        notAfter: new Date(Date.now() + 400 * DAY_MS),
        signingAlgorithm: ALGORITHM,
        keys: await pair(keyPem),
        extensions: [
          new x509.BasicConstraintsExtension(true, undefined, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        ],
      },
      webcrypto as never,
    )
    return new Authority(name, keyPem, Buffer.from(certificate.rawData))
  }

  async issue(name: string, options: IssueOptions = {}): Promise<Holder> {
    const x509 = await loadX509()
    const keyPem = await makeKey(2048)
    const { KeyUsageFlags: flags } = x509
    const usage = flags.digitalSignature | flags.nonRepudiation | flags.keyEncipherment | flags.dataEncipherment
    const applicationUri = options.applicationUri ?? `urn:headgate:test:${name}`
    const certificate = await x509.X509CertificateGenerator.create(
      {
        subject: `CN=${name}`,
        issuer: `CN=${this.name}`,
        serialNumber: options.serialNumber,
        notBefore: options.notBefore ?? new Date(Date.now() - DAY_MS),
        notAfter: options.notAfter ?? new Date(Date.now() + 400 * DAY_MS),
        signingAlgorithm: ALGORITHM,
        signingKey: (await pair(this.keyPem)).privateKey,
        publicKey: (await pair(keyPem)).publicKey,
        extensions: [
          new x509.BasicConstraintsExtension(options.ca ?? false, undefined, true),
          new x509.KeyUsagesExtension(options.usage ?? (options.ca ? flags.keyCertSign | flags.cRLSign : usage), true),
          new x509.SubjectAlternativeNameExtension([
            { type: 'url', value: applicationUri },
            { type: 'dns', value: 'localhost' },
          ]),
        ],
      },
      webcrypto as never,
    )
    return { der: Buffer.from(certificate.rawData), keyPem, applicationUri }
  }

  /** An authority below this one. */
  async intermediate(name: string): Promise<Authority> {
    const { der, keyPem } = await this.issue(name, { ca: true })
    return new Authority(name, keyPem, der)
  }

  /** A revocation list with those serial numbers. */
  async revoke(serials: string[], nextUpdate = new Date(Date.now() + DAY_MS)): Promise<Buffer> {
    const x509 = await loadX509()
    const list = await x509.X509CrlGenerator.create(
      {
        issuer: `CN=${this.name}`,
        thisUpdate: new Date(),
        nextUpdate,
        entries: serials.map((serialNumber) => ({ serialNumber, revocationDate: new Date() })),
        signingAlgorithm: ALGORITHM,
        signingKey: (await pair(this.keyPem)).privateKey,
      },
      webcrypto as never,
    )
    return Buffer.from(list.rawData)
  }
}

async function pair(keyPem: string) {
  const { subtle } = webcrypto
  const key = createPrivateKey(keyPem)
  const pkcs8 = key.export({ format: 'der', type: 'pkcs8' })
  const spki = createPublicKey(key).export({ format: 'der', type: 'spki' })
  return {
    privateKey: await subtle.importKey('pkcs8', pkcs8, ALGORITHM, true, ['sign']),
    publicKey: await subtle.importKey('spki', spki, ALGORITHM, true, ['verify']),
  }
}

/** Puts a certificate and its key where Headgate looks for its own. */
export function storeOwn(directory: string, holder: Holder, chain: Buffer[] = []): void {
  const paths = ownPaths(directory)
  put(paths.certificate, toPem([holder.der, ...chain]))
  put(paths.key, holder.keyPem, 0o600)
}

export type Where = keyof ReturnType<typeof listPaths>

/** Puts a certificate or a revocation list into a trust list. */
export function store(list: string, where: Where, name: string, der: Buffer): string {
  makeList(list)
  const file = join(listPaths(list)[where], name)
  put(file, der)
  return file
}

/** Directories under `root` with the gateway's own certificate, and with a client and a server trusted; as a policy names them. */
export function trusting(root: string, own: Holder, client: Holder, server: Holder) {
  const pki = { own: join(root, 'own'), trusted_clients: join(root, 'clients'), trusted_servers: join(root, 'servers') }
  storeOwn(pki.own, own)
  store(pki.trusted_clients, 'trusted', 'client.der', client.der)
  store(pki.trusted_servers, 'trusted', 'server.der', server.der)
  return pki
}

function put(file: string, content: string | Buffer, mode = 0o644): void {
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, content, { mode })
}
