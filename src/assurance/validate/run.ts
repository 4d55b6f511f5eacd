/** Makes the probes, no faster than asked, and says what came of each. */
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Policy } from '../../policy/model.ts'
import { VERSION } from '../../version.ts'
import { outcomes, type ProbeResult, VALIDATION_VERSION, type ValidationFile } from '../result.ts'
import type { Probe } from './probe.ts'

/** Probes that wait for an answer at one time, of those that stand alone. */
const AT_ONCE = 8

export interface RunOptions {
  /** Probes begun in a second, at most. */
  rate: number
  onResult(result: ProbeResult): void
}

/** @returns a result for each probe, in their order */
export async function runProbes(probes: readonly Probe[], { rate, onResult }: RunOptions): Promise<ProbeResult[]> {
  const results = new Map<Probe, ProbeResult>()
  const interval = 1000 / rate
  let next = Date.now()
  const one = async (probe: Probe): Promise<void> => {
    const wait = next - Date.now()
    next = Math.max(next, Date.now()) + interval
    if (wait > 0) await sleep(wait)
    const started = performance.now()
    const { observed, outcome } = await probe.run()
    const { id, group, conduit, target, what, expected } = probe
    const ms = Math.round((performance.now() - started) * 10) / 10
    const cut = (text: string, most: number): string => text.slice(0, most)
    const result: ProbeResult = {
      id,
      group,
      conduit,
      target,
      what: cut(what, 500),
      expected: cut(expected, 500),
      observed: cut(observed, 2000),
      outcome,
      ms,
    }
    results.set(probe, result)
    onResult(result)
  }
  for (const probe of probes) if (probe.shares) await one(probe)
  const alone = probes.filter(({ shares }) => !shares)
  let at = 0
  const take = async (): Promise<void> => {
    while (at < alone.length) await one(alone[at++])
  }
  await Promise.all(Array.from({ length: AT_ONCE }, take))
  return probes.map((probe) => results.get(probe) as ProbeResult)
}

export interface Setting {
  kind: ValidationFile['kind']
  policy: Pick<Policy, 'file' | 'sha256' | 'facility'>
  from: string
  source: string | null
  started: Date
}

export const validationFile = ({ policy, started, ...setting }: Setting, probes: ProbeResult[]): ValidationFile => ({
  format: 'headgate-validation',
  version: VALIDATION_VERSION,
  kind: setting.kind,
  headgate: VERSION,
  policy: { file: policy.file, sha256: policy.sha256, facility: policy.facility },
  from: setting.from,
  source: setting.source,
  host: hostname(),
  started: started.toISOString(),
  ended: new Date().toISOString(),
  probes,
})

/** As the usual validators print it: `[PASS] …`. */
const MARKS: Readonly<Record<ProbeResult['outcome'], string>> = { pass: '[PASS]', fail: '[FAIL]', skip: '[SKIP]' }

export function resultLine({ outcome, conduit, target, what, expected, observed }: ProbeResult): string {
  const place = conduit === null ? target : `${conduit} ${target}`
  return `${MARKS[outcome]} ${place}: ${what}: ${observed} (expected: ${expected})`
}

export function summaryLine(probes: readonly ProbeResult[]): string {
  const { pass, fail, skip } = outcomes(probes)
  return `${pass} passed, ${fail} failed, ${skip} not made`
}
