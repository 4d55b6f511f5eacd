/** What `headgate top` shows: lines of text made of two scrapes. */
import type { Sample, Scrape } from './scrape.ts'

const VERDICTS = ['allow', 'deny', 'would_deny'] as const
/** Rows of the lists that have no end of their own. */
const ROWS = 8

/**
 * @param before the scrape before, for rates; null on the first
 * @returns lines without control characters of their own, for a terminal of any width
 */
export function view(now: Scrape, before: Scrape | null): string[] {
  const rate = (metric: string, labels: Record<string, string> = {}): number => {
    if (before === null) return 0
    // A gateway that was restarted counts from nothing again.
    return Math.max(0, now.sum(metric, labels) - before.sum(metric, labels)) / (now.at - before.at)
  }
  return [
    ...heading(now),
    '',
    ...conduits(now, rate),
    ...section('WORKER', ['CPU'], workers(now, before)),
    ...section('SLOWEST TARGET', ['MEAN', 'P99', 'ANSWERS/S'], targets(now, before)),
    ...section('DENIED', ['EACH SECOND', 'IN ALL'], denials(now, rate)),
  ]
}

type Rate = (metric: string, labels?: Record<string, string>) => number

function heading(now: Scrape): string[] {
  const { version = '?' } = now.all('headgate_build_info')[0]?.labels ?? {}
  const { file = '?', sha256 = '?' } = now.all('headgate_policy_info')[0]?.labels ?? {}
  const started = now.sum('process_start_time_seconds')
  const up = started === 0 ? '?' : duration(Date.now() / 1000 - started)
  const memory = (now.sum('process_resident_memory_bytes') / 2 ** 20).toFixed(0)
  const lost = now.sum('headgate_events_total', { result: 'lost' })
  const losses = lost > 0 ? `   EVENTS LOST ${lost}` : ''
  return [`headgate ${version}   up ${up}   ${memory} MiB   policy ${printable(file)} ${sha256.slice(0, 12)}${losses}`]
}

function conduits(now: Scrape, rate: Rate): string[] {
  const rows = now.all('headgate_connections').map(({ labels: { conduit, protocol } }) => {
    const mode = now.sum('headgate_conduit_enforcing', { conduit }) === 1 ? 'enforce' : 'monitor'
    const each = VERDICTS.map((verdict) => figure(rate('headgate_requests_total', { conduit, protocol, verdict })))
    const open = now.sum('headgate_connections', { conduit, protocol })
    const pending = now.sum('headgate_pending_requests', { conduit })
    return [`${conduit} ${protocol}`, mode, figure(open), ...each, figure(pending)]
  })
  return table(['CONDUIT', 'MODE', 'CONN', 'ALLOW/S', 'DENY/S', 'WOULD DENY/S', 'PENDING'], rows)
}

function workers(now: Scrape, before: Scrape | null): string[][] {
  const metric = 'headgate_worker_cpu_seconds_total'
  return now.all(metric).map(({ labels, value }) => {
    const spent = before === null ? 0 : Math.max(0, value - before.sum(metric, labels))
    return [labels.worker, before === null ? '' : `${((spent / (now.at - before.at)) * 100).toFixed(1)} %`]
  })
}

/** By the 99th percentile of the answers since the last scrape; where there were none, of all. */
function targets(now: Scrape, before: Scrape | null): string[][] {
  const metric = 'headgate_response_seconds'
  return now
    .all(`${metric}_count`)
    .map(({ labels }) => {
      const since = (name: string, extra: Record<string, string> = {}): number => {
        const all = now.sum(name, { ...labels, ...extra })
        return before === null ? all : all - before.sum(name, { ...labels, ...extra })
      }
      const recent = Math.max(0, since(`${metric}_count`))
      const use = recent > 0 ? since : (name: string, extra = {}) => now.sum(name, { ...labels, ...extra })
      const count = use(`${metric}_count`)
      const buckets = now
        .all(`${metric}_bucket`)
        .filter((one) => Object.keys(labels).every((key) => one.labels[key] === labels[key]))
      const p99 = quantile(buckets, (le) => use(`${metric}_bucket`, { le }), count * 0.99)
      const mean = count > 0 ? use(`${metric}_sum`) / count : 0
      const each = before === null ? 0 : recent / (now.at - before.at)
      return { name: `${labels.target ?? labels.conduit}`, count, mean, p99, each }
    })
    .filter((one) => one.count > 0)
    .sort((a, b) => b.p99 - a.p99 || b.mean - a.mean)
    .slice(0, ROWS)
    .map((one) => [one.name, millis(one.mean), `≤ ${millis(one.p99)}`, figure(one.each)])
}

/** Upper bound of the bucket that holds the rank. */
function quantile(buckets: readonly Sample[], countOf: (le: string) => number, rank: number): number {
  const bounds = buckets.map(({ labels }) => labels.le).sort((a, b) => bound(a) - bound(b))
  return bound(bounds.find((le) => countOf(le) >= rank) ?? '+Inf')
}

const bound = (le: string): number => (le === '+Inf' ? Number.POSITIVE_INFINITY : Number(le))

function denials(now: Scrape, rate: Rate): string[][] {
  return now
    .all('headgate_requests_total')
    .filter(({ labels, value }) => labels.verdict !== 'allow' && value > 0)
    .map(({ labels, value }) => ({ labels, value, each: rate('headgate_requests_total', labels) }))
    .sort((a, b) => b.each - a.each || b.value - a.value)
    .slice(0, ROWS)
    .map(({ labels, value, each }) => {
      const would = labels.verdict === 'would_deny' ? ' (passed)' : ''
      return [`${labels.conduit} ${labels.function} ${labels.reason}${would}`, figure(each), figure(value)]
    })
}

function section(title: string, columns: readonly string[], rows: string[][]): string[] {
  return rows.length === 0 ? [] : ['', ...table([title, ...columns], rows)]
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [head, ...rows].map((row) => row.map(printable))
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  return all.map((row) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  '),
  )
}

/** Labels come from a page that anybody may have written. */
const printable = (text: string): string => text.replaceAll(/[\x00-\x1f\x7f-\x9f]/g, '?')

const figure = (n: number): string =>
  n > 0 && n < 10 && !Number.isInteger(n) ? n.toFixed(1) : Math.round(n).toLocaleString('en')

const millis = (seconds: number): string =>
  Number.isFinite(seconds) ? `${(seconds * 1000).toFixed(seconds < 0.01 ? 2 : 0)} ms` : '> 5 s'

function duration(seconds: number): string {
  const [d, h, m] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60]
  if (d > 0) return `${d}d ${h}h`
  return h > 0 ? `${h}h ${m}m` : `${m}m ${Math.floor(seconds) % 60}s`
}
