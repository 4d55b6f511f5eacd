/**
 * The main thread's part in certificates: reads them for each terminating conduit when a policy is loaded, keeps what
 * peers were refused with, and warns before one expires.
 */
import { createHash } from 'node:crypto'
import { type Expiry, loadPki, type PkiData } from '../pki/load.ts'
import { keepRejected } from '../pki/rejected.ts'
import { PkiError } from '../pki/store.ts'
import type { OpcUaCertificates, Policy } from '../policy/model.ts'
import type { EventInput } from '../records/catalogue.ts'

const DAY_MS = 86_400_000
/** Warned of from so many days before on, once a day. */
const WARN_DAYS = 30

export interface ConduitExpiry extends Expiry {
  conduit: string
}

export interface Certificates {
  /** By conduit. */
  pki: Map<string, PkiData>
  expiries: ConduitExpiry[]
  /** One line each. */
  warnings: { conduit: string; text: string }[]
}

/** Rejects with `PkiError` where a conduit's own certificate cannot be used. */
export async function loadCertificates(policy: Policy): Promise<Certificates> {
  const loaded: Certificates = { pki: new Map(), expiries: [], warnings: [] }
  for (const [conduit, directories] of terminating(policy)) {
    const { data, expiries, warnings } = await loadPki(directories).catch((error: Error) => {
      throw error instanceof PkiError ? new PkiError(`conduit ${conduit}: ${error.message}`) : error
    })
    loaded.pki.set(conduit, data)
    loaded.expiries.push(...expiries.map((expiry) => ({ ...expiry, conduit })))
    loaded.warnings.push(...warnings.map((text) => ({ conduit, text })))
  }
  return loaded
}

function terminating(policy: Policy): Map<string, OpcUaCertificates> {
  const found = new Map<string, OpcUaCertificates>()
  const carried = new Set(policy.gateway?.listeners.filter((one) => one.protocol === 'opcua').map((one) => one.conduit))
  for (const { id, protocols } of policy.conduits) {
    if (!carried.has(id)) continue
    for (const protocol of protocols) {
      if (protocol.kind === 'opcua' && protocol.certificates !== null) found.set(id, protocol.certificates)
    }
  }
  return found
}

/** Events for what has expired or soon will. */
export function expiryEvents(expiries: readonly ConduitExpiry[], now: number): EventInput[] {
  return expiries.flatMap(({ conduit, kind, name, thumbprint, file, notAfter }) => {
    const days = Math.floor((notAfter - now) / DAY_MS)
    if (days > WARN_DAYS) return []
    const what = {
      own: "the gateway's own certificate",
      trusted: 'a trusted certificate',
      issuer: 'an authority',
      crl: 'a revocation list',
    }
    const when = days < 0 ? `has expired ${-days} days ago` : `expires in ${days} days`
    return [
      {
        event: days < 0 ? ('certificate.expired' as const) : ('certificate.expiring' as const),
        conduit,
        protocol: 'opcua',
        certificate: thumbprint,
        file,
        detail: `${what[kind]}, ${name}, ${when}`,
      },
    ]
  })
}

/** Refused certificates that are remembered, and how many are kept in a minute: anybody can come with new ones. */
const MAX_KNOWN = 1000
const KEPT_A_MINUTE = 20

/** Keeps the certificates of peers that were refused, each once. */
export class RejectedKeeper {
  private readonly known = new Set<string>()
  private kept: number[] = []

  /** @param now milliseconds since 1970. @returns the event; null where there is nothing new to tell */
  keep(policy: Policy, conduit: string, list: 'clients' | 'servers', der: Uint8Array, now: number): EventInput | null {
    const directories = terminating(policy).get(conduit)
    const key = `${conduit} ${list} ${createHash('sha1').update(der).digest('hex')}`
    if (directories === undefined || this.known.has(key)) return null
    this.kept = this.kept.filter((ms) => Math.abs(now - ms) < 60_000)
    if (this.kept.length >= KEPT_A_MINUTE) return null
    this.kept.push(now)
    if (this.known.size >= MAX_KNOWN) this.known.clear()
    this.known.add(key)
    const directory = list === 'clients' ? directories.trustedClients : directories.trustedServers
    const event = { event: 'certificate.rejected', conduit, protocol: 'opcua' } as const
    try {
      const file = keepRejected(directory, der)
      if (file === null) return null
      return { ...event, file, detail: `a certificate that is not among the trusted ${list}` }
    } catch (error) {
      return { ...event, detail: `cannot be kept: ${(error as Error).message}` }
    }
  }
}
