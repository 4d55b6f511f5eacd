/**
 * The evidence, validation and golden reports of `test/fixtures/report`. After a change to the policy there, or to a
 * format:
 *
 *     node test/support/report-fixture.ts evidence   makes the evidence and the validation anew, by the real writer
 *     node test/support/report-fixture.ts golden     takes the reports as they are now; read the diff
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { lint } from '../../src/assurance/lint/lint.ts'
import { gather, type ReportFacts } from '../../src/assurance/report/facts.ts'
import { REPORT_FORMATS, type ReportFormat } from '../../src/assurance/report/formats.ts'
import { formatReport } from '../../src/assurance/report/report.ts'
import type { ProbeResult, ValidationFile } from '../../src/assurance/result.ts'
import { loadPolicy } from '../../src/policy/load.ts'
import type { EventRecord } from '../../src/records/catalogue.ts'
import { readKey } from '../../src/records/evidence/paths.ts'
import { evidenceFiles } from '../../src/records/evidence/tail.ts'
import { denied, evidenceTerms, TestEvidence } from './records.ts'

/** Relative to the project's root, from which tests run: paths stand in the reports. */
export const FIXTURE = 'test/fixtures/report'
export const POLICY = `${FIXTURE}/policy.yaml`
const EVIDENCE = `${FIXTURE}/evidence`
const VALIDATION = `${FIXTURE}/validation.json`
const NAMES: Record<ReportFormat, string> = {
  text: 'report.txt',
  markdown: 'report.md',
  html: 'report.html',
  json: 'report.json',
}

export async function fixtureFacts(): Promise<ReportFacts> {
  const loaded = loadPolicy(POLICY)
  const { policy, claims } = loaded
  if (policy === null) throw new Error('the fixture has errors')
  const { findings, suppressed } = lint(loaded, new Date('2026-03-01T06:00:00Z'))
  const facts = await gather({
    policy,
    findings,
    suppressed,
    claims,
    evidence: (await evidenceFiles(EVIDENCE)).map((name) => join(EVIDENCE, name)),
    keys: [readKey('--key', `${EVIDENCE}/evidence.key.pub`)],
    validations: [VALIDATION],
    implementationDate: null,
    now: new Date('2026-03-01T06:00:00Z'),
  })
  return { ...facts, version: '0.0.0-test' }
}

/** What a golden file holds: the style of the page is judged by eye. */
export const goldenText = (facts: ReportFacts, format: ReportFormat): string =>
  formatReport(facts, format).replace(/<style>[\s\S]*<\/style>/, '<style></style>')

export const golden = (format: ReportFormat): string => readFileSync(`${FIXTURE}/golden/${NAMES[format]}`, 'utf8')

const HOUR = 3_600_000

async function makeEvidence(): Promise<void> {
  const { policy } = loadPolicy(POLICY)
  if (policy === null) throw new Error('the fixture has errors')
  rmSync(EVIDENCE, { recursive: true, force: true })
  const evidence = new TestEvidence(evidenceTerms(EVIDENCE, { checkpointRecords: 20 }))
  await evidence.writer.open()
  const base = Date.parse('2026-02-23T08:00:00Z')
  const at = (hours: number): string => new Date(base + hours * HOUR).toISOString()
  const say = (hours: number, event: string, more: object = {}): void =>
    evidence.append({ time: at(hours), event, severity: 'notice', policy: policy.sha256, ...more } as EventRecord)
  say(0, 'policy.loaded', { file: 'policy.yaml' })
  const reasons = ['function', 'address', 'pair', 'rate']
  for (let n = 0; n < 60; n++) {
    const event = n < 30 ? 'request.would_deny' : n % 7 === 0 ? 'connection.refused' : 'request.denied'
    const reason = reasons[(n * 5) % 4]
    evidence.append(
      denied(n, {
        time: at(1 + n * 2.1),
        policy: policy.sha256,
        conduit: 'C1-BPCS-OPS',
        event,
        reason,
        count: 1 + (n % 9),
      } as Partial<EventRecord>),
    )
    if (n === 29) say(2 + n * 2.1, 'mode.changed', { conduit: 'C1-BPCS-OPS', from_mode: 'monitor', mode: 'enforce' })
  }
  say(130, 'artefact.recorded', { kind: 'validation', file: 'validation.json', sha256: 'c'.repeat(64) })
  await evidence.writer.close()
  // The private key has done its work.
  rmSync(`${EVIDENCE}/evidence.key`)
  writeFileSync(VALIDATION, `${JSON.stringify(makeValidation(policy.sha256), null, 2)}\n`)
}

function makeValidation(sha256: string): ValidationFile {
  const probe = (
    id: string,
    group: ProbeResult['group'],
    what: string,
    more: Partial<ProbeResult> = {},
  ): ProbeResult => ({
    id,
    group,
    conduit: 'C1-BPCS-OPS',
    target: 'PLC-01 10.20.1.10:502',
    what,
    expected: 'connects',
    observed: 'connected',
    outcome: 'pass',
    ms: 2,
    ...more,
  })
  const refused = { expected: 'exception 01', observed: 'exception 01 (illegal function)' }
  return {
    format: 'headgate-validation',
    version: 1,
    kind: 'boundary',
    headgate: '0.0.0-test',
    policy: { file: 'policy.yaml', sha256, facility: 'Petrochemical Refinery - Unit 3' },
    from: 'Z3-OPS',
    source: '10.30.1.20',
    host: 'hist-01',
    started: '2026-02-28T14:00:00.000Z',
    ended: '2026-02-28T14:00:21.000Z',
    probes: [
      probe('allowed:1', 'allowed', 'connect to the conduit'),
      probe('prohibited:1', 'prohibited', 'connect past the gateway', {
        expected: 'no connection',
        observed: 'filtered',
      }),
      probe('isolated:1', 'isolated', 'connect to SIS-01', {
        conduit: null,
        target: 'Z1-SIS 10.10.0.1:502',
        expected: 'no connection',
        observed: 'filtered',
      }),
      probe('enforcement:read', 'enforcement', 'FC 3 read-holding-registers', {
        expected: 'answered',
        observed: 'answered',
      }),
      probe('enforcement:write', 'enforcement', 'FC 6 write-single-register', refused),
      probe('enforcement:coil', 'enforcement', 'FC 5 write-single-coil', {
        ...refused,
        observed: 'answered: the request reached the target',
        outcome: 'fail',
      }),
    ],
  }
}

async function makeGolden(): Promise<void> {
  const facts = await fixtureFacts()
  for (const format of REPORT_FORMATS) {
    const path = `${FIXTURE}/golden/${NAMES[format]}`
    writeFileSync(`${path}.new`, goldenText(facts, format))
    renameSync(`${path}.new`, path)
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv[2] === 'evidence') await makeEvidence()
  await makeGolden()
}
