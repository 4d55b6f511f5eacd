/** Peers that were not trusted, kept for an operator: so many of each list, the oldest give way. */
import { readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { readCertificate } from '../protocols/opcua/security/certificate.ts'
import { certificateName, listPaths, makeList, writeWhole } from './store.ts'

/** Anybody can present a certificate: files of one list. */
const MAX_REJECTED = 100

/** Writes a certificate to the rejected ones of a trust list. @returns the file; null where it is there already */
export function keepRejected(list: string, der: Uint8Array): string | null {
  const certificate = readCertificate(der)
  if (certificate === null) return null
  const { rejected } = listPaths(list)
  makeList(list)
  const name = certificateName(certificate)
  const names = readdirSync(rejected).filter((one) => !one.startsWith('.'))
  if (names.includes(name)) return null
  if (names.length >= MAX_REJECTED) {
    const aged = names.map((one) => ({ one, ms: statSync(join(rejected, one)).mtimeMs })).sort((a, b) => a.ms - b.ms)
    for (const { one } of aged.slice(0, names.length - MAX_REJECTED + 1)) rmSync(join(rejected, one), { force: true })
  }
  const file = join(rejected, name)
  writeWhole(file, der)
  return file
}
