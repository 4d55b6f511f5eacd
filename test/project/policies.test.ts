/**
 * Each example policy as it stands: `headgate run` carries it, with a PLC at its target's address and clients at its
 * zones'. Those that the demonstration runs are tested there, on the same addresses; those that need certificates in
 * test/gateway/opcua-run.test.ts.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { loadPolicy } from '../../src/policy/load.ts'
import { Headgate, scrape, sum } from '../support/headgate.ts'
import { adu } from '../support/modbus.ts'
import { answer } from '../support/server.ts'
import { connect, RawTarget } from '../support/sockets.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const demonstration = readdirSync(`${root}demo`)
  .filter((name) => name.endsWith('.ts'))
  .map((name) => readFileSync(`${root}demo/${name}`, 'utf8'))
  .join('')

const READ = [3, 0, 0, 0, 2]
const READ_COILS = [1, 0, 0, 0, 8]
const WRITE = [6, 0, 7, 0, 9]
const START_PUMP = [5, 0, 1, 0xff, 0]

interface Example {
  /** [client, request PDU, what it gets: `passes`, `closed`, or the exception code]. */
  exchanges: [from: string, pdu: number[], outcome: 'passes' | 'closed' | number][]
  /** What the metrics page says afterwards: requests by verdict. */
  verdicts?: Record<string, number>
}

const EXAMPLES: Record<string, Example> = {
  'quick-start.yaml': {
    exchanges: [
      ['127.0.3.7', READ, 'passes'],
      ['127.0.3.7', WRITE, 1],
      ['127.0.3.7', [8, 0, 1, 0, 0], 1],
      ['127.0.4.7', READ, 'closed'],
    ],
  },
  'monitor-first.yaml': {
    exchanges: [
      ['127.0.33.10', READ, 'passes'],
      ['127.0.33.10', START_PUMP, 'passes'],
      ['127.0.33.10', READ_COILS, 'passes'],
      ['127.0.33.11', START_PUMP, 'passes'],
      ['127.0.66.6', WRITE, 'passes'],
    ],
    // The last three are no rule's, and pass since the conduit monitors.
    verdicts: { allow: 2, would_deny: 3, deny: 0 },
  },
}

async function check(t: Test, file: string): Promise<void> {
  const { policy } = loadPolicy(file)
  const listeners = policy?.gateway?.listeners ?? []
  const example = EXAMPLES[file.slice(file.lastIndexOf('/') + 1)] ?? { exchanges: [] }
  const plcs = await Promise.all(listeners.map(({ target }) => RawTarget.open(answer, target.port, target.host)))
  t.teardown(() => Promise.all(plcs.map((plc) => plc.close())))
  const headgate = Headgate.run(t, file)
  const { metrics } = await headgate.ready()
  for (const [i, [from, pdu, outcome]] of example.exchanges.entries()) {
    const { listen } = listeners[0]
    const client = await connect(listen.port, listen.host, from)
    const request = adu(i + 1, 1, pdu)
    client.send(request)
    const what = `${from}, FC ${pdu[0]}: ${outcome}`
    if (outcome === 'closed') await client.closed()
    else {
      const expected = outcome === 'passes' ? answer(request) : adu(i + 1, 1, [pdu[0] | 0x80, outcome])
      t.equal((await client.got(expected.length)).toString('hex'), expected.toString('hex'), what)
    }
    t.equal(plcs[0].received.includes(request), outcome === 'passes', `${what}: what the PLC has seen`)
    client.destroy()
  }
  if (example.verdicts !== undefined) {
    const page = await scrape(String(metrics))
    for (const [verdict, count] of Object.entries(example.verdicts)) {
      t.equal(sum(page, 'headgate_requests_total', { verdict }), count, verdict)
    }
  }
  t.same(await headgate.stop(), { code: 0, signal: null })
}

const files = readdirSync(`${root}policies`).filter((name) => name.endsWith('.yaml'))
t.ok(Object.keys(EXAMPLES).every((name) => files.includes(name)))
for (const name of files) {
  if (demonstration.includes(`policies/${name}`)) continue
  if (readFileSync(`${root}policies/${name}`, 'utf8').includes('handling: terminate')) continue
  t.test(name, { timeout: 30_000 }, (t) => check(t, `${root}policies/${name}`))
}
