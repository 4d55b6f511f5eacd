/** Hashes of artefacts in the evidence: through a gateway that runs, beside one that has ended, and never past its lock. */
import { spawn } from 'node:child_process'
import { hash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { parseRequest } from '../../src/gateway/control/protocol.ts'
import { LOCK_FILE, lockDirectory } from '../../src/records/evidence/lock.ts'
import { expand, readHead } from '../../src/records/evidence/paths.ts'
import { verifyFiles } from '../../src/records/evidence/verify.ts'
import { freePort } from '../support/gateway.ts'
import { document, Headgate, policyFile, rule, scrape, sum } from '../support/headgate.ts'
import { scratch } from '../support/records.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const START = `import('${root}src/cli/main.ts').then((cli) => cli.main(['node', 'headgate', ...process.argv.slice(1)]))`

function headgate(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, ['-e', START, '--', ...args], { cwd: root })
  let out = ''
  let err = ''
  child.stdout.on('data', (data) => {
    out += data
  })
  child.stderr.on('data', (data) => {
    err += data
  })
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, out, err })))
}

async function site(t: Test, control: boolean) {
  const directory = scratch(t)
  const metrics = await freePort()
  const policy = document({
    modbus: { rules: [rule(['read'])] },
    listeners: { [`127.0.0.1:${await freePort()}`]: '127.0.0.1:9' },
    gateway: {
      name: 'gw-test',
      evidence: { directory: `${directory}/evidence` },
      metrics: { listen: `127.0.0.1:${metrics}` },
      ...(control
        ? { control: { socket: `${directory}/run/control.sock`, state_directory: `${directory}/state` } }
        : {}),
    },
  })
  return { directory, evidence: `${directory}/evidence`, policy, page: `http://127.0.0.1:${metrics}/metrics` }
}

/** The chain is whole, and what it says of artefacts. */
async function recorded(t: Test, evidence: string): Promise<Record<string, string>[]> {
  const files = await expand([evidence])
  const { finding } = await verifyFiles(files, { keys: [], headNote: await readHead(files) })
  t.equal(finding, null, 'the chain is whole')
  const lines = files.flatMap((file) => readFileSync(file, 'utf8').split('\n').slice(0, -1))
  return lines.map((line) => JSON.parse(line)).filter((one) => one.event === 'artefact.recorded')
}

const sha256 = (file: string): string => hash('sha256', readFileSync(file), 'hex')

t.test('a gateway that runs records them over its control socket', async (t) => {
  const { directory, evidence, policy, page } = await site(t, true)
  const gateway = await Headgate.start(t, policy)
  const output = `${directory}/report.html`
  const run = await headgate('report', gateway.file, '--output', output)
  t.equal(run.code, 0, run.err)
  t.match(run.err, /report\.html: hash recorded by the gateway at .*control\.sock/)
  const event = await gateway.event('artefact.recorded')
  t.match(event, { kind: 'report', file: output, sha256: sha256(output), user_source: 'kernel', severity: 'notice' })
  t.equal((await headgate('evidence', 'record', gateway.file, gateway.file, '--kind', 'import')).code, 0)
  const skipped = await headgate('report', gateway.file, '--output', output, '--no-record')
  t.equal(skipped.err, '')
  await gateway.stop()
  t.match(await recorded(t, evidence), [{ kind: 'report' }, { kind: 'import', sha256: sha256(gateway.file) }])
  t.notOk(existsSync(`${evidence}/${LOCK_FILE}`), 'the lock goes with the gateway')
  void page

  await t.test('and without one, directly', async (t) => {
    const run = await headgate('report', gateway.file, '--output', output, '--evidence', evidence)
    t.equal(run.code, 0, run.err)
    t.match(run.err, /hash recorded in .*evidence/)
    const all = await recorded(t, evidence)
    t.match(all.at(-1), { kind: 'report', sha256: sha256(output), gateway: 'gw-test', policy: sha256(gateway.file) })
    const again = await Headgate.start(t, policy)
    t.notOk(
      again.events.some(({ event }) => event === 'evidence.tampered'),
      'the next start takes it up',
    )
    await again.stop()
    t.equal((await recorded(t, evidence)).length, 3)
  })
})

t.test('past a gateway without a control socket nothing is written', async (t) => {
  const { directory, evidence, policy } = await site(t, false)
  const gateway = await Headgate.start(t, policy)
  const output = `${directory}/report.txt`
  const run = await headgate('report', gateway.file, '--output', output)
  t.equal(run.code, 0, 'the report is there')
  t.match(run.err, /report\.txt: hash NOT recorded: another process writes evidence in/)
  t.ok(existsSync(output))
  t.equal((await headgate('evidence', 'record', gateway.file, output)).code, 2)

  // Killed: what it has left is no lock.
  gateway.signal('SIGKILL')
  await gateway.end()
  t.ok(existsSync(`${evidence}/${LOCK_FILE}`))
  const runs = await Promise.all([1, 2, 3].map(() => headgate('evidence', 'record', gateway.file, output)))
  for (const { code, err } of runs) t.equal(code, 0, err)
  t.equal((await recorded(t, evidence)).length, 3, 'three at one time, one after the other')
  t.same(
    readdirSync(evidence).filter((name) => /lock/.test(name)),
    [],
    'nothing is left',
  )
})

t.test('what cannot be recorded', async (t) => {
  const { directory, policy, evidence } = await site(t, false)
  const file = policyFile(t, policy)
  t.match(await headgate('evidence', 'record', file, file), { code: 2, err: /no gateway has written evidence in/ })
  t.match(await headgate('evidence', 'record', file, `${directory}/none`), { code: 2, err: /ENOENT/ })
  t.notOk(existsSync(evidence), 'nothing is made in its place')
  const none = policyFile(t, { zones: [{ zone_id: 'A' }], conduits: [] })
  t.match(await headgate('evidence', 'record', none, none), { code: 2, err: /neither gateway\.evidence nor/ })
})

t.test('the lock', async (t) => {
  const directory = `${scratch(t)}/${'long-'.repeat(40)}`
  mkdirSync(directory)
  const lock = await lockDirectory(directory, 0)
  await t.rejects(lockDirectory(directory, 100), /another process writes evidence/)
  lock.release()
  const [one, two] = await Promise.allSettled([lockDirectory(directory, 0), lockDirectory(directory, 0)])
  t.same([one.status, two.status].sort(), ['fulfilled', 'rejected'], 'one of two has it')
  for (const got of [one, two]) if (got.status === 'fulfilled') got.value.release()
  ;(await lockDirectory(directory, 1000)).release()
})

t.test('drift over the control socket: events and a metric', async (t) => {
  const { policy, page, directory } = await site(t, true)
  const gateway = await Headgate.start(t, policy)
  t.equal((await scrape(page)).has('headgate_drift_findings'), false, 'absent before the first look')
  const { ask } = await import('../../src/gateway/control/client.ts')
  const socket = `${directory}/run/control.sock`
  const found = [{ kind: 'nftables', detail: 'chain x: policy accept, expected drop' }]
  t.match(await ask(socket, { verb: 'drift', found, total: 3 }), { ok: true })
  t.match(await gateway.event('drift.found'), { kind: 'nftables', detail: /expected drop/, severity: 'warning' })
  t.equal(sum(await scrape(page), 'headgate_drift_findings'), 3)
  t.ok(sum(await scrape(page), 'headgate_drift_checked_timestamp_seconds') > 1.6e9)
  await ask(socket, { verb: 'drift', found: [], total: 0 })
  await gateway.event('drift.resolved')
  t.equal(sum(await scrape(page), 'headgate_drift_findings'), 0)
  const bad = [
    { verb: 'record', kind: 'Report', file: 'x', sha256: 'a'.repeat(64) },
    { verb: 'record', kind: 'report', file: 'x\n', sha256: 'A'.repeat(64) },
    { verb: 'record', kind: 'report', file: 'x', sha256: 'a'.repeat(63) },
    { verb: 'drift', found: [{ kind: 'x', detail: 'a\u001b[2J' }], total: 1 },
    { verb: 'drift', found: new Array(11).fill(found[0]), total: 11 },
  ]
  for (const request of bad) t.type(parseRequest(JSON.stringify(request)), 'string', JSON.stringify(request))
})
