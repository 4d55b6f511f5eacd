/**
 * What a terminating conduit needs of the certificates on disk, read when a policy is loaded, as plain data that crosses
 * to the workers. Runs on the main thread.
 */
import { webcrypto } from 'node:crypto'
import type { Certificate } from '../protocols/opcua/security/certificate.ts'
import { plainSerial, type Revocations, type TrustData } from '../protocols/opcua/security/trust.ts'
import { keyExposure, listPaths, ownPaths, readCertificates, readLists, readOwn, type Stored } from './store.ts'
import { loadX509 } from './x509.ts'

export interface PkiData {
  own: {
    /** DER, the leaf first. */
    chain: Uint8Array[]
    /** PEM. */
    key: string
    applicationUri: string
  }
  clients: TrustData
  servers: TrustData
}

/** Something that expires. */
export interface Expiry {
  kind: 'own' | 'trusted' | 'issuer' | 'crl'
  /** Common name of the subject, or of a list's issuer. */
  name: string
  thumbprint: string
  file: string
  /** Milliseconds since 1970. */
  notAfter: number
}

export interface LoadedPki {
  data: PkiData
  expiries: Expiry[]
  /** One line each. */
  warnings: string[]
}

export interface PkiDirectories {
  own: string
  trustedClients: string
  trustedServers: string
}

/** Throws `PkiError` where the gateway's own certificate or key cannot be used; all else is a warning. */
export async function loadPki({ own, trustedClients, trustedServers }: PkiDirectories): Promise<LoadedPki> {
  const warnings: string[] = []
  const expiries: Expiry[] = []
  const { chain, keyPem, applicationUri } = readOwn(own)
  if (keyExposure(own) !== 0) {
    warnings.push(`${ownPaths(own).key}: can be read by others than its owner; mend with: chmod 600`)
  }
  for (const certificate of chain) expiries.push(expiryOf('own', certificate, ownPaths(own).certificate))
  const clients = await loadList(trustedClients, expiries, warnings)
  const servers = trustedServers === trustedClients ? clients : await loadList(trustedServers, expiries, warnings)
  return {
    data: { own: { chain: chain.map(({ der }) => der), key: keyPem, applicationUri }, clients, servers },
    expiries,
    warnings,
  }
}

async function loadList(list: string, expiries: Expiry[], warnings: string[]): Promise<TrustData> {
  const paths = listPaths(list)
  const trusted = readCertificates(paths.trusted)
  const issuers = readCertificates(paths.issuers)
  for (const { file, why } of [...trusted.unusable, ...issuers.unusable]) warnings.push(`${file}: ${why}`)
  for (const { file, certificate } of trusted.certificates) expiries.push(expiryOf('trusted', certificate, file))
  for (const { file, certificate } of issuers.certificates) expiries.push(expiryOf('issuer', certificate, file))
  const authorities = [...trusted.certificates, ...issuers.certificates].filter(({ certificate }) => certificate.ca)
  const revocations: Revocations[] = []
  for (const directory of [paths.trustedLists, paths.issuerLists]) {
    const { lists, unusable } = readLists(directory)
    for (const { file, why } of unusable) warnings.push(`${file}: ${why}`)
    for (const { file, der } of lists) {
      const read = await readRevocations(der, authorities).catch((error: Error) => error.message)
      if (typeof read === 'string') warnings.push(`${file}: ${read}`)
      else {
        revocations.push(read.revocations)
        if (read.revocations.nextUpdate !== null) {
          const { nextUpdate, issuer } = read.revocations
          expiries.push({ kind: 'crl', name: read.name, thumbprint: issuer, file, notAfter: nextUpdate })
        }
      }
    }
  }
  const listed = new Set(revocations.map(({ issuer }) => issuer))
  for (const { file, certificate } of authorities) {
    if (!listed.has(certificate.thumbprintHex)) {
      warnings.push(`${file}: an authority without a revocation list: what it has issued is refused until there is one`)
    }
  }
  const ders = (stored: Stored[]): Uint8Array[] => stored.map(({ certificate }) => certificate.der)
  return { trusted: ders(trusted.certificates), issuers: ders(issuers.certificates), revocations: newest(revocations) }
}

/** A list counts once one of the authorities has signed it (RFC 5280 §5.1.1.3). @returns what is wrong as a string */
async function readRevocations(
  der: Uint8Array,
  authorities: readonly Stored[],
): Promise<{ revocations: Revocations & { thisUpdate: number }; name: string } | string> {
  const x509 = await loadX509()
  const crl = new x509.X509Crl(der)
  for (const { certificate } of authorities) {
    if (crl.issuer !== new x509.X509Certificate(certificate.der).subject) continue
    const publicKey = new x509.PublicKey(certificate.key.export({ format: 'der', type: 'spki' }))
    if (!(await crl.verify({ publicKey }, webcrypto as never))) continue
    return {
      name: nameOf(certificate),
      revocations: {
        issuer: certificate.thumbprintHex,
        nextUpdate: crl.nextUpdate?.getTime() ?? null,
        thisUpdate: crl.thisUpdate.getTime(),
        serials: crl.entries.map((entry) => plainSerial(entry.serialNumber)),
      },
    }
  }
  return 'a revocation list of no authority in this trust list, or not signed by it'
}

/** Of several lists of one authority the newest counts. */
function newest(lists: Revocations[]): Revocations[] {
  const byIssuer = new Map<string, Revocations & { thisUpdate: number }>()
  for (const list of lists as (Revocations & { thisUpdate: number })[]) {
    const before = byIssuer.get(list.issuer)
    if (before === undefined || before.thisUpdate < list.thisUpdate) byIssuer.set(list.issuer, list)
  }
  return [...byIssuer.values()]
}

function expiryOf(kind: Expiry['kind'], certificate: Certificate, file: string): Expiry {
  const { thumbprintHex, notAfter } = certificate
  return { kind, name: nameOf(certificate), thumbprint: thumbprintHex, file, notAfter }
}

export const nameOf = (certificate: Certificate): string =>
  /(?:^|\n)CN=(.*)/.exec(certificate.x509.subject)?.[1] ?? certificate.x509.subject.replaceAll('\n', ', ')
