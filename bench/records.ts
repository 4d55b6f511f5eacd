/**
 * What the records cost: evidence appended and verified, and whether a sink that is dead disturbs the traffic.
 *
 * Floors: 50 000 records appended a second; 200 MB verified a second on one core; allowed traffic beside 10 000 denials
 * a second within 5 % of what it is with no sink.
 */
import { hash } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RECORD_DEFAULTS } from '../src/policy/model.ts'
import type { EventRecord } from '../src/records/catalogue.ts'
import { evidenceFiles } from '../src/records/evidence/tail.ts'
import { verifyFiles } from '../src/records/evidence/verify.ts'
import { EvidenceWriter } from '../src/records/evidence/writer.ts'
import { headgate } from './contenders.ts'
import { withField } from './field.ts'
import { load } from './load.ts'
import { canPin, freePort, residentKb, WORK_CPU } from './processes.ts'
import { figure, median, medianRatio, say, table } from './stats.ts'

const RECORDS = 300_000
const TURNS = 500
const ROUNDS = 5
const DENIALS_PER_SECOND = 10_000

const denied = (n: number): EventRecord =>
  ({
    time: '2026-02-23T14:05:31.250Z',
    event: 'request.denied',
    severity: 'warning',
    id: `0mlzk2p4a-9d21c07e-${n.toString(36).padStart(7, '0')}`,
    gateway: 'gw-unit3',
    policy: 'a'.repeat(64),
    conduit: 'C1-BPCS-OPS',
    protocol: 'modbus',
    mode: 'enforce',
    client: '10.30.1.20',
    client_port: 49_811,
    client_asset: 'HIST-01',
    target: '10.20.1.10',
    target_port: 502,
    target_asset: 'PLC-01',
    rule: 'historian reads',
    reason: 'function',
    transaction_id: n & 0xffff,
    unit_id: 1,
    function: 'write-single-register',
    function_code: 6,
    address: n & 0xffff,
    exception_code: 1,
  }) as EventRecord

async function appendAll(directory: string): Promise<number> {
  const writer: EvidenceWriter = new EvidenceWriter(
    {
      directory,
      required: false,
      key: join(directory, 'evidence.key'),
      checkpointRecords: RECORD_DEFAULTS.checkpointRecords,
      checkpointMs: RECORD_DEFAULTS.checkpointMs,
      rotateBytes: RECORD_DEFAULTS.rotateBytes,
      rotateDaily: true,
    },
    {
      tell: (event) => ({ time: new Date().toISOString(), severity: 'info', ...event }) as EventRecord,
      writable: () => {},
    },
  )
  await writer.open()
  const begun = performance.now()
  // The workers' events come in batches, a turn of the event loop apart.
  for (let n = 0; n < RECORDS; n += TURNS) {
    for (let i = n; i < n + TURNS; i++) {
      const record = denied(i)
      writer.append(JSON.stringify(record), record.time)
    }
    while (writer.backlog > 4 << 20) await new Promise((resolve) => setImmediate(resolve))
  }
  await writer.close()
  const seconds = (performance.now() - begun) / 1000
  if (writer.lost > 0) throw new Error(`${writer.lost} records lost`)
  return RECORDS / seconds
}

/** What one SHA-256 of a line costs here, whatever is done around it: MB/s. */
function hashing(bytes: number): number {
  const line = Buffer.alloc(bytes, 'a')
  const begun = performance.now()
  const count = 100_000
  for (let i = 0; i < count; i++) hash('sha256', line, 'hex')
  return (count * bytes) / 1e6 / ((performance.now() - begun) / 1000)
}

async function evidence(): Promise<void> {
  const appended: number[] = []
  const verified: number[] = []
  const hashed: number[] = []
  let lineBytes = 0
  for (let round = 0; round < ROUNDS; round++) {
    const directory = mkdtempSync(join(tmpdir(), 'headgate-bench-records-'))
    try {
      appended.push(await appendAll(directory))
      const files = (await evidenceFiles(directory)).map((name) => join(directory, name))
      const begun = performance.now()
      const report = await verifyFiles(files, { keys: [] })
      verified.push(report.bytes / 1e6 / ((performance.now() - begun) / 1000))
      if (report.finding !== null) throw new Error(report.finding.message)
      lineBytes = Math.round(report.bytes / report.records)
      hashed.push(hashing(lineBytes))
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  }
  say(`${figure(RECORDS)} records of ${lineBytes} bytes, chained, signed and synced; medians of ${ROUNDS}.\n`)
  const rows = [
    ['append, with JSON and the last sync', `${figure(median(appended))} records/s`, '50 000 records/s'],
    ['verify', `${figure(median(verified))} MB/s`, '200 MB/s'],
    ['of which nothing but SHA-256 of each line', `${figure(median(hashed))} MB/s`, '-'],
  ]
  say(table(['evidence', 'here', 'floor'], rows))
}

async function deadSink(): Promise<void> {
  const spool = mkdtempSync(join(tmpdir(), 'headgate-bench-spool-'))
  const dead = `syslog: [{ url: "tcp://127.0.0.1:${await freePort()}" }]\n  spool: { directory: ${spool} }`
  const cpu = canPin ? WORK_CPU : null
  const field = [headgate('epoll', 1), headgate('epoll', 1, [], dead)]
  try {
    await withField(field, WORK_CPU, WORK_CPU, async (started) => {
      if (started.length < 2) return
      const tps: number[][] = [[], []]
      const before = started.map(({ running }) => residentKb(running.pid))
      for (let round = 0; round < ROUNDS; round++) {
        for (let turn = 0; turn < 2; turn++) {
          const i = (turn + round) % 2
          const { port } = started[i].running
          const [allowed] = await Promise.all([
            load({ port, connections: 50, depth: 1, seconds: 2, cpu }),
            load({ port, connections: 4, depth: 64, seconds: 2, denied: 100, rate: DENIALS_PER_SECOND, cpu }),
          ])
          tps[i][round] = allowed.tps
        }
      }
      const ratio = medianRatio(tps[1], tps[0])
      const grown = started.map(({ running }, i) => residentKb(running.pid) - before[i])
      say(`\nAllowed requests beside ${figure(DENIALS_PER_SECOND)} denials/s on the same worker, 50 connections.\n`)
      const rows = [
        ['no sink', figure(median(tps[0])), '1.00×', `${figure(grown[0] / 1024)} MiB`],
        [
          'a dead sink, with its spool',
          figure(median(tps[1])),
          `${ratio.toFixed(3)}×`,
          `${figure(grown[1] / 1024)} MiB`,
        ],
      ]
      say(table(['sink', 'allowed tx/s', 'to no sink (floor 0.95×)', 'memory grown by'], rows))
    })
  } finally {
    rmSync(spool, { recursive: true, force: true })
  }
}

export async function records(): Promise<void> {
  say('\n### Records\n')
  await evidence()
  await deadSink()
}
