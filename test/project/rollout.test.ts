/**
 * The whole way of a roll-out, with the demonstration's plant and actors: monitored, analyzed, accepted, cut over; then a
 * legitimate flow appears that the policy lacks, and the conduit goes back to monitor by itself.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type Actor, type Endpoint, engineer, historian, type Outcome, stranger } from '../../demo/actors.ts'
import { startPlc } from '../../demo/plant.ts'
import { loadPolicy } from '../../src/policy/load.ts'
import { freePort } from '../support/gateway.ts'
import { Headgate } from '../support/headgate.ts'
import { until } from '../support/sockets.ts'
import { headgate as run } from '../support/verbs.ts'

const CONDUIT = 'C1-BPCS-OPS'

/** The refinery's policy, in monitor mode, without the historian's rule for input registers. */
async function refinery(t: Test): Promise<{ file: string; directory: string }> {
  const directory = mkdtempSync(join(tmpdir(), 'headgate-plant-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  const [port, metrics] = [await freePort('127.0.1.10'), await freePort()]
  const changes: [string, string][] = [
    ['    mode: enforce', '    mode: monitor'],
    ['            functions: [3, 4]\n', '            functions: [3]\n'],
    ['holding-registers: [0-999], input-registers: [0-127]', 'holding-registers: [0-999]'],
    [
      '  metrics: { listen: "127.0.0.1:9464" }',
      `  metrics: { listen: "127.0.0.1:${metrics}" }
  evidence: { directory: evidence }
  baseline: { directory: baseline }
  control: { socket: run/control.sock, state_directory: state }`,
    ],
  ]
  let text = readFileSync(new URL('../../policies/refinery.yaml', import.meta.url), 'utf8')
  for (const [from, to] of changes) {
    if (!text.includes(from)) throw new Error(`the refinery's policy has no ${from}`)
    text = text.replace(from, to)
  }
  const file = join(directory, 'policy.yaml')
  writeFileSync(file, text.replaceAll('5020', `${port}`))
  return { file, directory }
}

/** Steps of an actor that are expected to be answered, `times` over. @returns what became of each */
async function rounds(actor: Actor, times: number): Promise<string[]> {
  const outcomes: string[] = []
  for (let round = 0; round < times; round++) {
    for (const step of actor.steps) if (step.expect === 'answer') outcomes.push((await step.run()).kind)
  }
  return outcomes
}

t.test('monitored, analyzed, accepted, cut over, and rolled back by itself', async (t) => {
  const { file, directory } = await refinery(t)
  const { policy } = loadPolicy(file)
  const listeners = policy?.gateway?.listeners ?? []
  t.equal(listeners.length, 2)
  for (const { target } of listeners) {
    const plc = await startPlc(target.name, target.host, target.port)
    t.teardown(() => plc.close())
  }
  const front: Endpoint = listeners[0].listen
  const analyze = (more: string[] = []) => [
    'analyze',
    '--policy',
    file,
    '--min-baseline',
    '0s',
    '--format',
    'json',
    ...more,
  ]
  const act = (verb: string, more: string[] = []) => [
    verb,
    CONDUIT,
    '--policy',
    file,
    '--reason',
    'roll-out of unit 3',
    ...more,
  ]

  // Weeks of monitor mode, in short: the baseline is learned from it, and the evidence says what would be denied.
  let gateway = Headgate.run(t, file)
  await gateway.ready()
  let [reader, writer] = [await historian(front), await engineer(front)]
  t.ok([...(await rounds(reader, 12)), ...(await rounds(writer, 12))].every((outcome) => outcome === 'answer'))
  for (const actor of [reader, writer]) await actor.close()
  t.match(await gateway.event('request.would_deny'), { client_asset: 'HIST-01', function: 'read-input-registers' })
  await gateway.stop()

  const [before] = run([analyze()])
  t.equal(before.code, 1, 'not ready to enforce')
  const { candidates } = JSON.parse(before.out)
  t.equal(candidates.length, 1, before.out)
  t.match(candidates[0], { client_asset: 'HIST-01' })
  const [applied, after, checked] = run([analyze(['--apply', candidates[0].key]), analyze(), ['check', file]])
  t.match(applied.err, /1 rule added/)
  t.equal(JSON.parse(after.out).candidates.length, 0)
  t.equal(checked.code, 0, checked.out)
  t.match(readFileSync(file, 'utf8'), /# Unit 3 of a refinery/, 'comments are kept')

  // Two weeks have not passed; what was accepted stands in the way no longer.
  gateway = Headgate.run(t, file)
  await gateway.ready()
  ;[reader, writer] = [await historian(front), await engineer(front)]
  const [early, done, status] = run([
    act('cutover'),
    act('cutover', ['--min-baseline', '0', '--watch', '5']),
    ['status', '--policy', file],
  ])
  t.equal(early.code, 1)
  t.match(early.err, /refused: 1 thing stands against it/)
  t.match(
    early.err,
    /baseline: the baseline spans 0\.0 days, expected 14 days\n {4}mend: let it monitor for 14 days more/,
  )
  t.equal(done.code, 0, done.err)
  t.match(done.out, /C1-BPCS-OPS: enforces, watched for 5 minutes/)
  t.match(status.out, /conduit {2}C1-BPCS-OPS {2}enforce {2}\(the document says monitor\)/)
  t.match(status.out, /denials 0 of 3, timeouts 0 of 10, lost 0 of 3/)
  t.match(await gateway.event('mode.changed'), { conduit: CONDUIT, mode: 'enforce', cause: 'cutover' })

  // What was learned goes on; strangers are turned away, which is what it is for.
  t.ok([...(await rounds(reader, 3)), ...(await rounds(writer, 3))].every((outcome) => outcome === 'answer'))
  const intruding = await stranger(front)
  for (let tries = 0; tries < 6; tries++) t.equal((await intruding.steps[0].run()).kind, 'closed')
  await intruding.close()
  t.notOk(gateway.events.some(({ event }) => event === 'cutover.rolled_back'))

  // A new recipe: the engineer now writes register 500, which nobody has thought of.
  const recipe = writer.steps.find(({ what }) => what.includes('register 500'))
  if (recipe === undefined) throw new Error('the engineer has no such step')
  const denied: Outcome[] = []
  for (let n = 0; n < 4; n++) denied.push(await recipe.run())
  t.same(denied, new Array(4).fill({ kind: 'exception', code: 2 }))
  t.match(await gateway.event('cutover.rolled_back'), {
    conduit: CONDUIT,
    severity: 'critical',
    denials: 4,
    mode: 'monitor',
  })
  t.equal((await recipe.run()).kind, 'answer', 'the plant goes on, and nobody was woken')
  const [ended, verified] = run([
    ['status', '--policy', file, '--format', 'json'],
    ['evidence', 'verify', join(directory, 'evidence')],
  ])
  t.match(JSON.parse(ended.out).conduits[0], {
    conduit: CONDUIT,
    mode: 'monitor',
    watch: null,
    changed: { cause: 'automatic-rollback', why: /4 denials/ },
  })
  t.equal(verified.code, 0, verified.out)

  // What is to be decided on now is what brought it back.
  await until(() => gateway.events.some(({ event }) => event === 'request.would_deny'), 'the new flow')
  for (const actor of [reader, writer]) await actor.close()
  await gateway.stop()
  const [again] = run([analyze()])
  t.equal(again.code, 1)
  t.match(again.out, /EWS-01/)
})
