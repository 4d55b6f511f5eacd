/**
 * The main thread's part in certificates: reads them for each terminating conduit when a policy is loaded, keeps what
 * peers were refused with, and warns before one expires.
 */
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

/** Keeps the certificate of a peer that was refused. @returns the event; null where it is known already */
export function keepRefused(
  policy: Policy,
  conduit: string,
  list: 'clients' | 'servers',
  der: Uint8Array,
): EventInput | null {
  const directories = terminating(policy).get(conduit)
  if (directories === undefined) return null
  const directory = list === 'clients' ? directories.trustedClients : directories.trustedServers
  try {
    const file = keepRejected(directory, der)
    if (file === null) return null
    return {
      event: 'certificate.rejected',
      conduit,
      protocol: 'opcua',
      file,
      detail: `a certificate of ${list} that are not trusted`,
    }
  } catch (error) {
    return {
      event: 'certificate.rejected',
      conduit,
      protocol: 'opcua',
      detail: `cannot be kept: ${(error as Error).message}`,
    }
  }
}
