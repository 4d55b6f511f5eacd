/** What an operator does with certificates: makes, trusts, rejects, lists, renews. `headgate pki` prints what comes back. */
import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { Certificate } from '../protocols/opcua/security/certificate.ts'
import { nameOf, type PkiDirectories } from './load.ts'
import { makeKey, makeOwnCertificate, type OwnCertificateOptions } from './make.ts'
import {
  certificateName,
  listPaths,
  makeList,
  ownPaths,
  PkiError,
  readCertificateFile,
  readCertificates,
  readOwn,
  type Stored,
  toPem,
  writeWhole,
} from './store.ts'

export interface InitOptions {
  commonName: string | null
  organization: string | null
  applicationUri: string | null
  hosts: string[]
  bits: number
  days: number
  /** Replaces a certificate that is there. */
  force: boolean
}

export interface Entry {
  list: 'own' | 'clients' | 'servers'
  state: 'own' | 'trusted' | 'issuer' | 'rejected'
  name: string
  thumbprint: string
  applicationUri: string
  notBefore: string
  notAfter: string
  /** Whole days until it expires; negative: it has. */
  days: number
  file: string
}

const DAY_MS = 86_400_000
/** What is common to OPC UA applications: RFC 2396, and `urn:` by convention. */
const URI = /^[a-z][a-z0-9+.-]*:[^\s"<>\\^`{|}]{1,250}$/i

/** Makes the gateway's own certificate, and the directories of the trust lists. */
export async function initialize(directories: PkiDirectories, options: InitOptions): Promise<Entry> {
  const { own } = directories
  const paths = ownPaths(own)
  if (!options.force && (existsSync(paths.certificate) || existsSync(paths.key))) {
    throw new PkiError(`${own}: has a certificate already; "headgate pki renew" renews it, --force replaces it`)
  }
  const host = hostname()
  const applicationUri = options.applicationUri ?? `urn:${host}:headgate`
  if (!URI.test(applicationUri)) throw new PkiError(`application URI ${JSON.stringify(applicationUri)}: no URI`)
  const certificate = {
    commonName: options.commonName ?? `Headgate on ${host}`,
    organization: options.organization,
    applicationUri,
    hosts: options.hosts.length > 0 ? options.hosts : [host],
    days: options.days,
  }
  if (existsSync(paths.certificate)) keepFormer(own)
  const entry = await writeOwn(own, await makeKey(options.bits), certificate)
  for (const list of [directories.trustedClients, directories.trustedServers]) makeList(list)
  return entry
}

async function writeOwn(own: string, keyPem: string, options: OwnCertificateOptions): Promise<Entry> {
  const paths = ownPaths(own)
  const der = await makeOwnCertificate(keyPem, options)
  // The key first: a certificate without its key is told, a key without a certificate is not used.
  writeWhole(paths.key, keyPem, 0o600)
  writeWhole(paths.certificate, toPem([der]))
  const [leaf] = readOwn(own).chain
  return entryOf('own', 'own', paths.certificate, leaf)
}

/** The certificate and key that are replaced stay, by their thumbprint. */
function keepFormer(own: string): string {
  const paths = ownPaths(own)
  let name = new Date().toISOString().replaceAll(':', '')
  try {
    name = readCertificateFile(paths.certificate)[0].thumbprintHex.toUpperCase()
  } catch {
    // What cannot be read is kept by the time at which it was replaced.
  }
  const former = join(own, 'former')
  mkdirSync(former, { recursive: true, mode: 0o700 })
  for (const [file, kind] of [
    [paths.certificate, 'certificate'],
    [paths.key, 'key'],
  ] as const) {
    if (existsSync(file)) writeWhole(join(former, `${name}.${kind}.pem`), readFileSync(file), 0o600)
  }
  return former
}

/**
 * A new certificate of the same name, application URI and hosts. Peers have to trust it anew, whatever its key.
 * @param newBits length of a new key, in bits; null: the key stays
 */
export async function renew(
  own: string,
  days: number,
  newBits: number | null,
): Promise<{ entry: Entry; former: string }> {
  const { chain, keyPem, applicationUri } = readOwn(own)
  const [leaf] = chain
  if (!leaf.selfIssued) {
    throw new PkiError(`${ownPaths(own).certificate}: was issued by an authority, which has to renew it`)
  }
  const subject = leaf.x509.subject
  const options = {
    commonName: nameOf(leaf),
    organization: /(?:^|\n)O=(.*)/.exec(subject)?.[1] ?? null,
    applicationUri,
    hosts: hostsOf(leaf),
    days,
  }
  const former = keepFormer(own)
  const entry = await writeOwn(own, newBits === null ? keyPem : await makeKey(newBits), options)
  return { entry, former }
}

/** DNS names and addresses of the subject alternative name. */
const hostsOf = (certificate: Certificate): string[] =>
  [...(certificate.x509.subjectAltName ?? '').matchAll(/(?:^|, )(?:DNS|IP Address):([^,]+)/g)].map(([, host]) => host)

/** Every certificate, and what could not be read. */
export function list(directories: PkiDirectories): { entries: Entry[]; unusable: string[] } {
  const entries: Entry[] = []
  const unusable: string[] = []
  try {
    const { chain } = readOwn(directories.own)
    entries.push(entryOf('own', 'own', ownPaths(directories.own).certificate, chain[0]))
  } catch (error) {
    if (!(error instanceof PkiError)) throw error
    unusable.push(error.message)
  }
  for (const [list, directory] of listsOf(directories)) {
    const paths = listPaths(directory)
    for (const [state, path] of [
      ['trusted', paths.trusted],
      ['issuer', paths.issuers],
      ['rejected', paths.rejected],
    ] as const) {
      const read = readCertificates(path)
      for (const { file, why } of read.unusable) unusable.push(`${file}: ${why}`)
      for (const { file, certificate } of read.certificates) entries.push(entryOf(list, state, file, certificate))
    }
  }
  return { entries, unusable }
}

type ListName = 'clients' | 'servers'

const listsOf = ({ trustedClients, trustedServers }: PkiDirectories): [ListName, string][] => [
  ['clients', trustedClients],
  ['servers', trustedServers],
]

function entryOf(list: Entry['list'], state: Entry['state'], file: string, certificate: Certificate): Entry {
  return {
    list,
    state,
    name: nameOf(certificate),
    thumbprint: certificate.thumbprintHex.toUpperCase(),
    applicationUri: certificate.uris[0] ?? '',
    notBefore: new Date(certificate.notBefore).toISOString(),
    notAfter: new Date(certificate.notAfter).toISOString(),
    days: Math.floor((certificate.notAfter - Date.now()) / DAY_MS),
    file,
  }
}

/**
 * Puts a certificate into a trust list: one of the rejected by its thumbprint (or a beginning of it that is no other's),
 * or one of a file.
 * @param which list; null: that which has rejected it
 */
export function trust(directories: PkiDirectories, what: string, which: ListName | null): Entry[] {
  if (existsSync(what) && statSync(what).isFile()) {
    if (which === null) throw new PkiError(`${what}: say for which list, with --list clients or --list servers`)
    const [leaf, ...rest] = readCertificateFile(what)
    if (rest.length > 0) throw new PkiError(`${what}: ${rest.length + 1} certificates; one at a time is trusted`)
    return [place(directories, which, leaf)]
  }
  const found = listsOf(directories)
    .filter(([name]) => which === null || name === which)
    .flatMap(([name, directory]) =>
      readCertificates(listPaths(directory).rejected).certificates.map((stored) => ({ name, stored })),
    )
  const matching = found.filter(({ stored }) => isMeant(stored, what))
  oneOf(
    matching.map(({ stored }) => stored),
    what,
    'rejected',
  )
  return matching.map(({ name, stored }) => {
    const entry = place(directories, name, stored.certificate)
    rmSync(stored.file, { force: true })
    return entry
  })
}

function place(directories: PkiDirectories, which: ListName, certificate: Certificate): Entry {
  const directory = which === 'clients' ? directories.trustedClients : directories.trustedServers
  makeList(directory)
  const file = join(listPaths(directory).trusted, certificateName(certificate))
  writeWhole(file, certificate.der)
  return entryOf(which, 'trusted', file, certificate)
}

/** Takes a trusted certificate out of its list, and keeps it among the rejected. */
export function reject(directories: PkiDirectories, what: string, which: ListName | null): Entry[] {
  const found = listsOf(directories)
    .filter(([name]) => which === null || name === which)
    .flatMap(([name, directory]) =>
      readCertificates(listPaths(directory).trusted).certificates.map((stored) => ({ name, directory, stored })),
    )
  const matching = found.filter(({ stored }) => isMeant(stored, what))
  oneOf(
    matching.map(({ stored }) => stored),
    what,
    'trusted',
  )
  return matching.map(({ name, directory, stored }) => {
    if (readCertificateFile(stored.file).length > 1) {
      throw new PkiError(`${stored.file}: has several certificates; split it first`)
    }
    makeList(directory)
    const file = join(listPaths(directory).rejected, certificateName(stored.certificate))
    writeWhole(file, stored.certificate.der)
    rmSync(stored.file, { force: true })
    return entryOf(name, 'rejected', file, stored.certificate)
  })
}

function isMeant({ file, certificate }: Stored, what: string): boolean {
  const wanted = what.replaceAll(/[:\s]/g, '').toLowerCase()
  if (/^[0-9a-f]{6,40}$/.test(wanted) && certificate.thumbprintHex.startsWith(wanted)) return true
  return file === what
}

/** The same certificate may be in both lists; two that begin alike are one too many. */
function oneOf(found: readonly Stored[], what: string, state: string): void {
  const thumbprints = new Set(found.map(({ certificate }) => certificate.thumbprintHex))
  if (thumbprints.size === 0) {
    throw new PkiError(
      `${what}: no ${state} certificate of this thumbprint, and no such file; "headgate pki list" shows what there is`,
    )
  }
  if (thumbprints.size > 1) throw new PkiError(`${what}: ${thumbprints.size} certificates begin so; give more digits`)
}
