/** What is still to be decided: settled by a rule, by a rule that denies, or by a person's word; and how long was watched. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type BaselineFile, emptyBaseline } from '../../src/baseline/baseline-file.ts'
import { addDecisions, baselineSpan, readDecisions, spanOf, unresolvedDecisions } from '../../src/baseline/decisions.ts'
import { checkPolicy } from '../../src/policy/load.ts'
import type { Policy } from '../../src/policy/model.ts'

const rate = { p50: 1, p99: 1, max: 1, seconds: [[1, 3]] as [number, number][] }
const [first, last] = ['2026-02-23T06:00:00.000Z', '2026-02-24T06:00:00.000Z']
const pair = { client: '10.30.2.5', target: '10.20.1.1', port: 502 }

const baseline: BaselineFile = {
  ...emptyBaseline(),
  first,
  last,
  connections: [
    {
      ...pair,
      opened: 1,
      unanswered: 0,
      idle: 0,
      malformed: 2,
      unsolicited: 0,
      targetSeen: true,
      gapBytes: 0,
      first,
      last,
    },
  ],
  flows: [
    {
      ...pair,
      unit: 1,
      function: 6,
      sub: null,
      requests: 3,
      responses: 3,
      exceptions: {},
      malformed: 0,
      deviations: {},
      first,
      last,
      addresses: { 'holding-registers': [[100, 100]] },
      values: { 'holding-registers': [{ range: [100, 100], min: 1, max: 5, writes: 3 }] },
      rate,
    },
  ],
}

function policy(rules: string): Policy {
  const text = `zones:
  - { zone_id: CELL, networks: [10.20.0.0/16] }
  - { zone_id: OPS, networks: [10.30.0.0/16] }
conduits:
  - conduit_id: C1
    connects: [CELL, OPS]
    protocols_allowed:
      - protocol: Modbus/TCP
        rules: [${rules}]
  - conduit_id: C2
    connects: [CELL, OPS]
    protocols_allowed: [{ protocol: Modbus/TCP, port: 1502, rules: [{ from: [OPS], to: [CELL], functions: [read] }] }]
`
  const { policy: checked, findings } = checkPolicy('policy.yaml', Buffer.from(text))
  if (checked === null) throw new Error(JSON.stringify(findings))
  return checked
}

t.test('what settles an item', async (t) => {
  const directory = t.testdir({ 'baseline.json': JSON.stringify(baseline) })
  const open = (rules: string) => unresolvedDecisions(policy(rules), directory)
  const reads = '{ from: [OPS], to: [CELL], functions: [read] }'
  const items = open(reads)
  t.match(items, [
    { kind: 'rare-write', conduits: ['C1'], function: 6 },
    { kind: 'malformed', conduits: ['C1'], function: null },
  ])
  t.strictSame(
    unresolvedDecisions(policy(reads), join(directory, 'baseline.json')).map((one) => one.key),
    items.map((one) => one.key),
    'the file itself does as well, and keys stay',
  )
  const kinds = (rules: string) => open(rules).map((one) => one.kind)
  const addresses = 'addresses: { holding-registers: [100] }'
  t.strictSame(kinds(`{ from: [OPS], to: [CELL], functions: [6], ${addresses} }`), ['malformed'], 'allowed')
  t.strictSame(kinds(`{ from: [OPS], to: [CELL], functions: [6], addresses: { holding-registers: [101] } }`), [
    'rare-write',
    'malformed',
  ])
  t.strictSame(kinds(`${reads}, { action: deny, from: [10.30.2.5], to: [CELL], functions: [write] }`), ['malformed'])
  const [write, malformed] = items
  const said = { decision: 'reject' as const, who: 'anna', why: 'nobody knows the tool', time: first }
  addDecisions(directory, [{ id: malformed.key, what: 'malformed', ...said }])
  t.strictSame(kinds(reads), ['rare-write'], 'said by a person')
  addDecisions(directory, [
    { id: write.key, what: 'rare write', ...said },
    { id: write.key, what: 'rare write', ...said, why: 'second thoughts' },
  ])
  t.strictSame(kinds(reads), [])
  t.match(readDecisions(directory), [{ why: 'nobody knows the tool' }, { why: 'second thoughts' }])
  writeFileSync(join(directory, 'baseline.decisions.json'), '{"format":"headgate-decisions"}')
  t.throws(() => open(reads), /not a list of decisions: version/, 'a file that is none is no list of nothing')
  t.throws(() => unresolvedDecisions(policy(reads), join(directory, 'other.json')), /other\.json: no such file/)
})

t.test('how long was watched leaves pauses out', async (t) => {
  const directory = t.testdir({ 'baseline.json': JSON.stringify(baseline) })
  t.strictSame(baselineSpan(directory), { first: Date.parse(first), last: Date.parse(last), watched: 86_400_000 })
  const source = (from: string, to: string) => ({ name: 'x', packets: 1, bytes: 1, first: from, last: to, notes: [] })
  const sources = [
    source('2026-02-23T23:00:00.000Z', last),
    source(first, '2026-02-23T08:00:00.000Z'),
    source('2026-02-23T07:00:00.000Z', '2026-02-23T09:00:00.000Z'),
  ]
  t.equal(spanOf({ ...baseline, sources }).watched, 10 * 3_600_000)
  t.strictSame(spanOf(emptyBaseline()), { first: null, last: null, watched: 0 })
})
