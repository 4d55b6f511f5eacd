/** What a diode's two sides have found, as the results of a validation. */
import type { ProbeResult } from '../result.ts'
import type { Observed } from '../validate/probe.ts'
import type { Sent } from './send.ts'
import type { Flow } from './tally.ts'

export interface Bounds {
  /** Share of the datagrams that may be lost, 0 to 1. */
  loss: number
  /** Milliseconds; null: any. */
  p99: number | null
  /** As the operator stated it; null: not stated. */
  offsetMs: number | null
}

export interface Side {
  conduit: string | null
  target: string
}

export const diodeResult = (
  { conduit, target }: Side,
  id: string,
  what: string,
  expected: string,
  { observed, outcome }: Observed,
  ms = 0,
): ProbeResult => ({ id: `diode:${id}`, group: 'diode', conduit, target, what, expected, observed, outcome, ms })

const outcome = (good: boolean): ProbeResult['outcome'] => (good ? 'pass' : 'fail')
const percent = (share: number): string => `${Math.round(share * 100_000) / 1000} %`

/** Delivery, order and latency, as the receiver counts them. */
export function flowResults(side: Side, flow: Flow, bounds: Bounds): ProbeResult[] {
  const { total, delivered, lost, reordered, duplicates, foreign, latency } = flow
  if (total === 0) {
    const observed = `nothing came${foreign > 0 ? `; ${foreign} datagrams of others did` : ''}`
    return [diodeResult(side, 'forward', 'forward flow', 'datagrams arrive', { observed, outcome: 'fail' })]
  }
  const share = lost / total
  const results = [
    diodeResult(side, 'forward', 'forward flow', `at most ${percent(bounds.loss)} lost`, {
      observed: `${delivered} of ${total} delivered, ${lost} lost (${percent(share)})`,
      outcome: outcome(share <= bounds.loss),
    }),
    diodeResult(side, 'order', 'order of the forward flow', 'none out of order, none twice, none of others', {
      observed: `${reordered} out of order, ${duplicates} twice, ${foreign} of others`,
      outcome: outcome(reordered + duplicates + foreign === 0),
    }),
  ]
  if (latency === null) return results
  const { min, p50, p99, max } = latency
  const offset =
    bounds.offsetMs === null ? 'clock offset not stated, taken as 0' : `clock offset ${bounds.offsetMs} ms as stated`
  const figures = `p50 ${p50} ms, p99 ${p99} ms, least ${min} ms, most ${max} ms; ${offset}`
  // Nothing arrives before it was sent: then the clocks differ by more than the way takes.
  const impossible = min < 0
  results.push(
    diodeResult(
      side,
      'latency',
      'replication latency',
      bounds.p99 === null ? 'measured' : `p99 at most ${bounds.p99} ms`,
      {
        observed: impossible ? `${figures}: the clocks differ by more than that, so it means nothing` : figures,
        outcome: impossible ? 'skip' : outcome(bounds.p99 === null || p99 <= bounds.p99),
      },
    ),
  )
  return results
}

/** What the sender alone can tell. */
export function sentResults(side: Side, { sent, errors, back, refused }: Sent, count: number): ProbeResult[] {
  const failed = [...errors].map(([code, n]) => `${code} ${n} times`).join(', ')
  return [
    diodeResult(side, 'sent', 'datagrams sent', `${count} sent; the receiver tells how many arrived`, {
      observed: `${sent} sent${failed === '' ? '' : `, ${failed}`}`,
      outcome: outcome(sent === count),
    }),
    diodeResult(side, 'back', 'datagrams that come back', 'none, and no refusal', {
      observed:
        refused > 0
          ? `${back} came back, ${refused} refusals (ICMP): a refusal proves a path back`
          : `${back} came back`,
      outcome: outcome(back === 0 && refused === 0),
    }),
  ]
}
