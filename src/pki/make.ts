/** Makes Headgate's own application instance certificate (OPC 10000-6 §6.2.2). */
import { createPrivateKey, createPublicKey, type KeyObject, randomBytes, webcrypto } from 'node:crypto'
import ipaddr from 'ipaddr.js'
import { loadX509 } from './x509.ts'

export interface OwnCertificateOptions {
  /** Of the subject. */
  commonName: string
  organization: string | null
  /** Goes into the subject alternative name, and must be what the gateway says of itself. */
  applicationUri: string
  /** DNS names and IP addresses that clients reach the gateway by. */
  hosts: string[]
  days: number
}

const ALGORITHM = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' } as const
/** Clocks of a plant differ: valid from a little before now. */
const BACKDATED_MS = 5 * 60_000

/** A new RSA key, PKCS#8 PEM. @param bits 2048, 3072 or 4096 */
export async function makeKey(bits: number): Promise<string> {
  const { privateKey } = await webcrypto.subtle.generateKey(
    { ...ALGORITHM, modulusLength: bits, publicExponent: Uint8Array.of(1, 0, 1) },
    true,
    ['sign', 'verify'],
  )
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', privateKey))
  return createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }).export({
    format: 'pem',
    type: 'pkcs8',
  }) as string
}

/** A certificate for the key that it is signed by, DER. @param keyPem RSA private key */
export async function makeOwnCertificate(keyPem: string, options: OwnCertificateOptions): Promise<Buffer> {
  const x509 = await loadX509()
  const { subtle } = webcrypto
  const privateKey = createPrivateKey(keyPem)
  const spki = der(createPublicKey(privateKey), 'spki')
  const keys = {
    privateKey: await subtle.importKey('pkcs8', der(privateKey, 'pkcs8'), ALGORITHM, false, ['sign']),
    publicKey: await subtle.importKey('spki', spki, ALGORITHM, true, ['verify']),
  }
  const { KeyUsageFlags: usage } = x509
  const subject = [{ CN: [options.commonName] }]
  if (options.organization !== null) subject.push({ O: [options.organization] } as never)
  const now = Date.now()
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: serialNumber(),
      name: subject as never,
      notBefore: new Date(now - BACKDATED_MS),
      notAfter: new Date(now + options.days * 86_400_000),
      signingAlgorithm: ALGORITHM,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        // Self-signed, so that it signs itself: OPC 10000-6 Table 36 has keyCertSign for those.
        new x509.KeyUsagesExtension(
          usage.digitalSignature |
            usage.nonRepudiation |
            usage.keyEncipherment |
            usage.dataEncipherment |
            usage.keyCertSign,
          true,
        ),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
        new x509.SubjectAlternativeNameExtension([
          { type: 'url', value: options.applicationUri },
          ...options.hosts.map((value) => ({
            type: ipaddr.isValid(value) ? ('ip' as const) : ('dns' as const),
            value,
          })),
        ]),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
        await x509.AuthorityKeyIdentifierExtension.create(keys.publicKey),
      ],
    },
    webcrypto as never,
  )
  return Buffer.from(certificate.rawData)
}

const der = (key: KeyObject, type: 'pkcs8' | 'spki'): Buffer => key.export({ format: 'der', type: type as 'spki' })

/** Positive, and of 16 bytes. */
function serialNumber(): string {
  const bytes = randomBytes(16)
  bytes[0] = (bytes[0] & 0x7f) | 0x40
  return bytes.toString('hex')
}
