/**
 * What keeps key exchanges from being a burden: each costs two RSA operations of a private key, so there are so many a
 * second for one client and for all, and none for a nonce that was used before (OPC 10000-4 §5.6.2.2).
 */

/** Key exchanges of one client: a burst, then one in so many milliseconds. */
const CLIENT = { burst: 20, everyMs: 100 } as const
/** Of all clients of a worker together: about a twentieth of a processor. */
const ALL = { burst: 100, everyMs: 15 } as const
const MAX_CLIENTS = 4096
/** Nonces that are remembered: those of an hour or so. */
const MAX_NONCES = 8192

interface Bucket {
  /** Theoretical arrival time (GCRA), milliseconds on the worker's clock. */
  due: number
}

function conforms(bucket: Bucket, ms: number, { burst, everyMs }: { burst: number; everyMs: number }): boolean {
  const ahead = (bucket.due - ms) | 0
  if (ahead > (burst - 1) * everyMs) return false
  bucket.due = (ahead > 0 ? bucket.due : ms) + everyMs
  return true
}

export class OpenGuard {
  private readonly all: Bucket = { due: 0 }
  private readonly clients = new Map<string, Bucket>()
  private nonces = new Set<string>()
  private former = new Set<string>()

  constructor(ms: number) {
    this.all.due = ms
  }

  /** Whether a client may have another key exchange now. */
  allows(client: string, ms: number): boolean {
    let bucket = this.clients.get(client)
    if (bucket === undefined) {
      if (this.clients.size >= MAX_CLIENTS) this.clients.clear()
      bucket = { due: ms }
      this.clients.set(client, bucket)
    }
    return conforms(bucket, ms, CLIENT) && conforms(this.all, ms, ALL)
  }

  /** Whether a nonce comes for the first time, as far as is remembered. */
  isFresh(nonce: Uint8Array): boolean {
    const text = Buffer.from(nonce).toString('latin1')
    if (this.nonces.has(text) || this.former.has(text)) return false
    if (this.nonces.size >= MAX_NONCES / 2) {
      this.former = this.nonces
      this.nonces = new Set()
    }
    this.nonces.add(text)
    return true
  }
}
