/** What evidence files say for a report: whether they are as they were written, and what happened, by conduit and hour. */
import { stat } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import type { VerifierKey } from '../../records/evidence/note.ts'
import { readHead } from '../../records/evidence/paths.ts'
import { eachLine, inOrder, type VerifyReport, verifyFiles } from '../../records/evidence/verify.ts'

/** Verdicts that leave a record; what is allowed is counted on the metrics page, and leaves none. */
export const VERDICT_EVENTS: Readonly<Record<string, VerdictName>> = {
  'request.denied': 'denied',
  'response.denied': 'denied',
  'connection.refused': 'refused',
  'channel.denied': 'refused',
  'request.would_deny': 'would_deny',
  'response.would_deny': 'would_deny',
  'connection.would_refuse': 'would_deny',
  'channel.would_deny': 'would_deny',
}
export const VERDICT_NAMES = ['denied', 'refused', 'would_deny'] as const
export type VerdictName = (typeof VERDICT_NAMES)[number]
export type VerdictCounts = Record<VerdictName, number>

/** Most conduits, reasons, policies and hours that are told apart; evidence may come from anywhere. */
const MAX_KEYS = 2000
const HOUR_MS = 3_600_000
const MAX_NOTABLE = 200

export interface Chain {
  directory: string
  files: string[]
  verify: VerifyReport
  /** Number and hash of the last record that a good signature covers; null: none. */
  head: { seq: number; hash: string } | null
  /** Keys were given by the operator, and not learned from the files. */
  trusted: boolean
}

export interface PolicyUse {
  sha256: string
  records: number
  first: string
  last: string
  /** First time that it took effect; null: not in these files. */
  loaded: string | null
}

export interface EvidenceFacts {
  chains: Chain[]
  /** Every chain verifies, and there is one. */
  sound: boolean
  records: number
  /** By conduit, then hour since the epoch. */
  verdicts: Map<string, Map<number, VerdictCounts>>
  /** By conduit and reason. */
  reasons: Map<string, number>
  policies: PolicyUse[]
  /** Events that an auditor asks about. */
  notable: { time: string; event: string; detail: string }[]
  notableMore: number
  counts: Map<string, number>
  artefacts: { time: string; kind: string; file: string; sha256: string }[]
  unreadable: number
}

type Fields = Record<string, unknown>

const NOTABLE = new Set([
  'mode.changed',
  'policy.rejected',
  'evidence.tampered',
  'evidence.failed',
  'evidence.repaired',
  'evidence.key_exposed',
  'events.lost',
  'clock.jumped',
  'drift.found',
  'drift.resolved',
  'mode.restored',
  'mode.superseded',
  'cutover.failed',
  'cutover.kept',
  'control.refused',
  'cutover.rolled_back',
])

class Tally {
  readonly verdicts: EvidenceFacts['verdicts'] = new Map()
  readonly reasons: EvidenceFacts['reasons'] = new Map()
  readonly policies = new Map<string, PolicyUse>()
  readonly notable: EvidenceFacts['notable'] = []
  readonly counts: EvidenceFacts['counts'] = new Map()
  readonly artefacts: EvidenceFacts['artefacts'] = []
  notableMore = 0
  unreadable = 0

  take(record: Fields): void {
    const { event, time, conduit, policy } = record
    if (typeof event !== 'string' || typeof time !== 'string') return
    const at = Date.parse(time)
    if (Number.isNaN(at)) return
    const count = typeof record.count === 'number' && record.count >= 1 ? Math.floor(record.count) : 1
    bump(this.counts, event, count)
    if (typeof policy === 'string' && /^[0-9a-f]{64}$/.test(policy)) this.use(policy, time, event)
    const verdict = VERDICT_EVENTS[event]
    if (verdict !== undefined && typeof conduit === 'string') {
      this.count(conduit, at, verdict, count)
      if (typeof record.reason === 'string') bump(this.reasons, `${conduit}\n${record.reason}`, count)
    }
    if (event === 'artefact.recorded') this.artefact(record, time)
    if (!NOTABLE.has(event)) return
    if (this.notable.length >= MAX_NOTABLE) this.notableMore++
    else this.notable.push({ time, event, detail: detailOf(record) })
  }

  private count(conduit: string, at: number, verdict: VerdictName, count: number): void {
    let hours = this.verdicts.get(conduit)
    if (hours === undefined) {
      if (this.verdicts.size >= MAX_KEYS) return
      hours = new Map()
      this.verdicts.set(conduit, hours)
    }
    const hour = Math.floor(at / HOUR_MS)
    let counts = hours.get(hour)
    if (counts === undefined) {
      // Two years of hours; beyond that, the last one stands for the rest.
      if (hours.size >= 24 * 731) return
      counts = { denied: 0, refused: 0, would_deny: 0 }
      hours.set(hour, counts)
    }
    counts[verdict] += count
  }

  private use(sha256: string, time: string, event: string): void {
    let use = this.policies.get(sha256)
    if (use === undefined) {
      if (this.policies.size >= MAX_KEYS) return
      use = { sha256, records: 0, first: time, last: time, loaded: null }
      this.policies.set(sha256, use)
    }
    use.records++
    if (time < use.first) use.first = time
    if (time > use.last) use.last = time
    if (event === 'policy.loaded') use.loaded ??= time
  }

  private artefact({ kind, file, sha256 }: Fields, time: string): void {
    if (typeof kind !== 'string' || typeof file !== 'string' || typeof sha256 !== 'string') return
    if (this.artefacts.length < MAX_KEYS) this.artefacts.push({ time, kind, file, sha256 })
  }
}

function bump(map: Map<string, number>, key: string, by: number): void {
  if (map.has(key) || map.size < MAX_KEYS) map.set(key, (map.get(key) ?? 0) + by)
}

function detailOf(record: Fields): string {
  const { conduit, from_mode, mode, detail } = record
  if (record.event === 'mode.changed') return `${conduit}: ${from_mode} to ${mode}`
  return [conduit, detail].filter((part) => typeof part === 'string').join(': ')
}

/** @param files evidence files; those of one directory are one chain. @throws Error where one cannot be read */
export async function evidenceFacts(files: readonly string[], keys: readonly VerifierKey[]): Promise<EvidenceFacts> {
  const tally = new Tally()
  const chains: Chain[] = []
  const directories = Map.groupBy(new Set(files), (file) => dirname(file))
  for (const [directory, paths] of directories) {
    // Before the files: a gateway that runs writes on.
    const headNote = await readHead(paths)
    const ordered = await inOrder(paths)
    const limit = ordered.length === 0 ? 0 : (await stat(ordered[ordered.length - 1])).size
    const verify = await verifyFiles(paths, { keys, headNote, limit })
    let head: Chain['head'] = null
    for (const [index, file] of ordered.entries()) {
      const last = index === ordered.length - 1
      await eachLine(file, last ? limit : Number.POSITIVE_INFINITY, (bytes, from, to) => {
        try {
          const record = JSON.parse(bytes.toString('utf8', from, to)) as Fields
          const { seq, prev, note } = record
          if (typeof note === 'string' && typeof seq === 'number' && typeof prev === 'string')
            head = { seq, hash: prev }
          tally.take(record)
        } catch {
          tally.unreadable++
        }
      })
    }
    chains.push({
      directory,
      files: ordered.map((file) => basename(file)),
      verify,
      // A checkpoint counts only where all of the chain holds.
      head: verify.finding === null ? head : null,
      trusted: keys.length > 0,
    })
  }
  return {
    chains,
    sound: chains.length > 0 && chains.every(({ verify }) => verify.finding === null),
    records: chains.reduce((sum, { verify }) => sum + verify.records, 0),
    verdicts: tally.verdicts,
    reasons: tally.reasons,
    policies: [...tally.policies.values()].sort((a, b) => a.first.localeCompare(b.first)),
    notable: tally.notable,
    notableMore: tally.notableMore,
    counts: tally.counts,
    artefacts: tally.artefacts,
    unreadable: tally.unreadable,
  }
}
