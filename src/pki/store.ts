/**
 * Certificates on disk, in the layout that OPC UA products share (OPC 10000-12 §7.8.2 as directories): a directory of
 * the gateway's own, and trust lists.
 *
 *     own/certs/headgate.pem        certificate, and the chain behind it where an authority has issued it
 *     own/private/headgate.pem      its private key, for its owner alone
 *     LIST/trusted/certs            who is trusted: certificates of peers, or of authorities
 *     LIST/trusted/crl              revocation lists of those authorities
 *     LIST/issuers/certs, crl       authorities that complete a chain and are not trusted by themselves
 *     LIST/rejected/certs           peers that were not trusted, for an operator to look at
 *
 * Certificates and lists are DER or PEM, under any name. All that is read is bounded.
 */
import { createPrivateKey, type KeyObject } from 'node:crypto'
import { type Dirent, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { type Certificate, readCertificate, splitChain } from '../protocols/opcua/security/certificate.ts'

/** The most bytes that are read of a certificate's file, and of a revocation list's. */
const MAX_CERTIFICATE_FILE = 64 * 1024
const MAX_LIST_FILE = 16 * 1024 * 1024
/** Files of one directory that are looked at. */
const MAX_FILES = 1000

/** What an operator is told of the store, with the path and the mend. */
export class PkiError extends Error {}

export const ownPaths = (own: string) => ({
  certificate: join(own, 'certs', 'headgate.pem'),
  key: join(own, 'private', 'headgate.pem'),
})

export const listPaths = (list: string) => ({
  trusted: join(list, 'trusted', 'certs'),
  trustedLists: join(list, 'trusted', 'crl'),
  issuers: join(list, 'issuers', 'certs'),
  issuerLists: join(list, 'issuers', 'crl'),
  rejected: join(list, 'rejected', 'certs'),
})

/** Makes the directories of a trust list. */
export function makeList(list: string): void {
  for (const path of Object.values(listPaths(list))) mkdirSync(path, { recursive: true })
}

export interface Stored {
  file: string
  certificate: Certificate
}

/** Content that cannot be used, and why. */
export interface Unusable {
  file: string
  why: string
}

/** Certificates in a directory; one that is not there has none. */
export function readCertificates(directory: string): { certificates: Stored[]; unusable: Unusable[] } {
  const certificates: Stored[] = []
  const unusable: Unusable[] = []
  for (const file of files(directory, unusable)) {
    try {
      for (const certificate of readCertificateFile(file)) certificates.push({ file, certificate })
    } catch (error) {
      unusable.push({ file, why: (error as Error).message })
    }
  }
  return { certificates, unusable }
}

/** DER of each revocation list in a directory. */
export function readLists(directory: string): { lists: { file: string; der: Buffer }[]; unusable: Unusable[] } {
  const lists: { file: string; der: Buffer }[] = []
  const unusable: Unusable[] = []
  for (const file of files(directory, unusable)) {
    try {
      const bytes = readBounded(file, MAX_LIST_FILE)
      const blocks = pemBlocks(bytes, 'X509 CRL')
      for (const der of blocks.length === 0 ? [bytes] : blocks) lists.push({ file, der })
    } catch (error) {
      unusable.push({ file, why: (error as Error).message })
    }
  }
  return { lists, unusable }
}

function files(directory: string, unusable: Unusable[]): string[] {
  let entries: Dirent[]
  try {
    entries = readdirSync(directory, { withFileTypes: true })
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT') unusable.push({ file: directory, why: code ?? message })
    return []
  }
  const names = entries.filter((entry) => !entry.isDirectory() && !entry.name.startsWith('.')).map(({ name }) => name)
  if (names.length > MAX_FILES) {
    unusable.push({ file: directory, why: `${names.length} files; the first ${MAX_FILES} by name are read` })
  }
  return names
    .sort()
    .slice(0, MAX_FILES)
    .map((name) => join(directory, name))
}

function readBounded(file: string, most: number): Buffer {
  const stat = statSync(file)
  if (!stat.isFile()) throw new PkiError('no regular file')
  if (stat.size > most) throw new PkiError(`${stat.size} bytes; at most ${most} are read`)
  return readFileSync(file)
}

/** Certificates of a file, in order: PEM blocks, or DER one behind the other. Throws `PkiError` with what is wrong. */
export function readCertificateFile(file: string): Certificate[] {
  const bytes = readBounded(file, MAX_CERTIFICATE_FILE)
  const blocks = pemBlocks(bytes, 'CERTIFICATE')
  const ders = blocks.length > 0 ? blocks : splitChain(bytes)
  const certificates = ders?.map((der) => readCertificate(der)) ?? []
  if (certificates.length === 0) throw new PkiError('no certificate in DER or PEM')
  return certificates.map((certificate) => {
    if (certificate === null) throw new PkiError('a certificate that cannot be read')
    return certificate
  })
}

function pemBlocks(bytes: Buffer, label: string): Buffer[] {
  if (!bytes.subarray(0, MAX_CERTIFICATE_FILE).includes('-----BEGIN ')) return []
  const pattern = new RegExp(`-----BEGIN ${label}-----([A-Za-z0-9+/=\\s]*)-----END ${label}-----`, 'g')
  return [...bytes.toString('latin1').matchAll(pattern)].map(([, base64]) => Buffer.from(base64, 'base64'))
}

export const toPem = (ders: readonly Uint8Array[]): string =>
  ders
    .map((der) => Buffer.from(der).toString('base64'))
    .map(
      (text) =>
        `-----BEGIN CERTIFICATE-----\n${(text.match(/.{1,64}/g) ?? []).join('\n')}\n-----END CERTIFICATE-----\n`,
    )
    .join('')

export interface Own {
  /** The leaf first. */
  chain: Certificate[]
  key: KeyObject
  keyPem: string
  /** Of the certificate's subject alternative name. */
  applicationUri: string
}

/** The gateway's own certificate and key; throws `PkiError` with the path and the mend where they cannot be used. */
export function readOwn(own: string): Own {
  const paths = ownPaths(own)
  const mend = `make one with: headgate pki init`
  let chain: Certificate[]
  let keyPem: string
  try {
    chain = readCertificateFile(paths.certificate)
    keyPem = readBounded(paths.key, MAX_CERTIFICATE_FILE).toString('latin1')
  } catch (error) {
    const { code, message, path } = error as NodeJS.ErrnoException
    throw new PkiError(
      code === 'ENOENT' ? `${path}: there is no such file; ${mend}` : `${path ?? paths.certificate}: ${message}`,
    )
  }
  let key: KeyObject
  try {
    key = createPrivateKey(keyPem)
  } catch {
    throw new PkiError(`${paths.key}: no private key in PEM that can be read (an encrypted one cannot)`)
  }
  const [leaf] = chain
  if (leaf.keyBits < 2048 || leaf.keyBits > 4096) {
    throw new PkiError(`${paths.certificate}: an RSA key of 2048 to 4096 bits is needed; ${mend} --force`)
  }
  if (!leaf.x509.checkPrivateKey(key)) throw new PkiError(`${paths.key}: not the key of ${paths.certificate}`)
  if (leaf.uris.length === 0) {
    throw new PkiError(
      `${paths.certificate}: no URI in its subject alternative name, which OPC UA asks for; ${mend} --force`,
    )
  }
  return { chain, key, keyPem, applicationUri: leaf.uris[0] }
}

/** Bits of the mode that others than the owner have on the key; 0 where that cannot be told. */
export function keyExposure(own: string): number {
  try {
    return process.platform === 'win32' ? 0 : statSync(ownPaths(own).key).mode & 0o077
  } catch {
    return 0
  }
}

/** Writes a file whole or not at all; `mode` from the first byte. */
export function writeWhole(file: string, content: string | Uint8Array, mode = 0o644): void {
  mkdirSync(dirname(file), { recursive: true, mode: mode === 0o600 ? 0o700 : 0o755 })
  const temporary = join(dirname(file), `.${basename(file)}.${process.pid}`)
  rmSync(temporary, { force: true })
  writeFileSync(temporary, content, { mode, flag: 'wx' })
  renameSync(temporary, file)
}

/** A file's name for a certificate: its subject's common name, as far as a name may have it, and its thumbprint. */
export function certificateName(certificate: Certificate): string {
  const common = /(?:^|\n)CN=(.*)/.exec(certificate.x509.subject)?.[1] ?? 'certificate'
  return `${common
    .replace(/[^A-Za-z0-9._-]+/g, '_')
    .replace(/^[._]+/, '')
    .slice(0, 64)} [${certificate.thumbprintHex.toUpperCase()}].der`
}
