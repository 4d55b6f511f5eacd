/** `headgate drift`: gateways, rulesets and traffic that are as the document says, and each of them when it is not. */
import { spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { lookAtBaseline } from '../../src/assurance/drift/baseline.ts'
import { compareRulesets } from '../../src/assurance/drift/nftables.ts'
import { type BaselineFlow, emptyBaseline } from '../../src/baseline/baseline-file.ts'
import { checkPolicy, loadPolicy } from '../../src/policy/load.ts'
import { renderNftables } from '../../src/render/nftables.ts'
import { freePort } from '../support/gateway.ts'
import { document, Headgate, policyFile, rule, scrape, sum } from '../support/headgate.ts'
import { Network, noNamespaces } from '../support/netns.ts'
import { scratch } from '../support/records.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const START = `import('${root}src/cli/main.ts').then((cli) => cli.main(['node', 'headgate', ...process.argv.slice(1)]))`

interface Ran {
  code: number | null
  out: string
  err: string
}

function headgate(...args: string[]): Promise<Ran> {
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

t.test('the gateway that runs, by its control socket', async (t) => {
  const directory = scratch(t)
  const metrics = await freePort()
  const listen = await freePort()
  const site = (mode: 'monitor' | 'enforce', functions: string[] = ['read']) =>
    document({
      mode,
      modbus: { rules: [rule(functions)] },
      listeners: { [`127.0.0.1:${listen}`]: '127.0.0.1:9' },
      gateway: {
        evidence: { directory: `${directory}/evidence` },
        metrics: { listen: `127.0.0.1:${metrics}` },
        control: { socket: `${directory}/run/control.sock`, state_directory: `${directory}/state` },
      },
    })
  const gateway = await Headgate.start(t, site('enforce'))
  const page = `http://127.0.0.1:${metrics}/metrics`

  const none = await headgate('drift', gateway.file)
  t.match(none, { code: 0, out: /^\[OK\] gateway: asked .*control\.sock\n0 found in 1 sources\n$/ }, none.err)
  t.equal(sum(await scrape(page), 'headgate_drift_findings'), 0)

  // The file was changed, and nobody has reloaded.
  writeFileSync(gateway.file, JSON.stringify(site('monitor', ['read', 'write'])))
  const textfile = `${directory}/headgate.prom`
  const drifted = await headgate('drift', gateway.file, '--textfile', textfile)
  t.equal(drifted.code, 1)
  t.match(drifted.out, /^\[DRIFT\] policy: found .* in force, expected [0-9a-f]{64}$/m)
  t.match(drifted.out, /^\[DRIFT\] mode C1: found mode enforce in force, expected monitor$/m)
  t.match(await gateway.event('drift.found'), { kind: 'policy', user_source: 'kernel' })
  t.equal(sum(await scrape(page), 'headgate_drift_findings'), 2)
  t.match(readFileSync(textfile, 'utf8'), /^headgate_drift_found\{source="gateway"\} 2$/m)
  const before = gateway.events.length
  t.equal((await headgate('drift', gateway.file, '--no-tell')).code, 1)
  t.equal(gateway.events.slice(before).filter(({ event }) => event === 'drift.found').length, 0)

  // Reloaded: what drifted is resolved.
  await gateway.hangUp()
  t.equal((await headgate('drift', gateway.file)).code, 0)
  await gateway.event('drift.resolved')

  // Nobody answers: the finding is in the evidence all the same.
  await gateway.stop()
  const gone = await headgate('drift', gateway.file)
  t.match(gone, { code: 1, out: /^\[DRIFT\] gateway: found no gateway that answers/, err: /recorded in .*evidence/ })
  t.match(
    (await headgate('evidence', 'show', `${directory}/evidence`, '--event', 'drift.found', '--format', 'json')).out,
    /no gateway that answers/,
  )
  t.equal((await headgate('evidence', 'verify', `${directory}/evidence`)).code, 0)
})

t.test('the gateway that runs, by its metrics page', async (t) => {
  const metrics = await freePort()
  const site = document({
    modbus: { rules: [rule(['read'])] },
    listeners: { [`127.0.0.1:${await freePort()}`]: '127.0.0.1:9' },
    gateway: { metrics: { listen: `127.0.0.1:${metrics}` } },
  })
  const gateway = await Headgate.start(t, site)
  t.match(await headgate('drift', gateway.file), { code: 0, out: /^\[OK\] gateway: asked http:.*\/metrics/ })
  const other = policyFile(t, { ...site, facility: 'another' })
  t.match(await headgate('drift', other), {
    code: 1,
    out: /^\[DRIFT\] policy/,
    err: /NOT told: the document has no gateway\.control/,
  })
  const neither = policyFile(t, { zones: [{ zone_id: 'A' }], conduits: [] })
  t.match(await headgate('drift', neither), { code: 2, out: /^\[UNSEEN\] gateway: the document has no gateway/ })
  t.equal((await headgate('drift', neither, '--no-gateway')).code, 2, 'to look at nothing is not to find nothing')
})

// ------------------------------------------------------------------------------------------------------------ traffic

const rate = { p50: 1, p99: 1, max: 1, seconds: [[1, 3]] as [number, number][] }
const flow = (more: Partial<BaselineFlow>): BaselineFlow => ({
  client: '10.30.1.20',
  target: '10.20.1.10',
  port: 502,
  unit: 1,
  function: 3,
  sub: null,
  requests: 9,
  responses: 9,
  exceptions: {},
  malformed: 0,
  deviations: {},
  first: '2026-02-01T00:00:00.000Z',
  last: '2026-02-28T00:00:00.000Z',
  addresses: { 'holding-registers': [[0, 9]] },
  values: {},
  rate,
  ...more,
})

t.test('traffic of the last days', async (t) => {
  const { policy } = loadPolicy('test/fixtures/report/policy.yaml')
  if (policy === null) throw new Error('the fixture has errors')
  const write = flow({ function: 6, client: '10.30.1.30' })
  const old = flow({ function: 5, addresses: {}, last: '2026-02-10T00:00:00.000Z' })
  const file = `${t.testdir({ 'b.json': JSON.stringify({ ...emptyBaseline(), flows: [flow({}), write, old] }) })}/b.json`
  const now = new Date('2026-03-01T00:00:00Z')
  const look = lookAtBaseline(policy, file, 14, now)
  t.match(look, { unseen: null, seen: /^2 kinds of traffic in the last 14 days/ })
  t.match(look.found, [
    { kind: 'baseline', detail: /write-single-register \(6\) from MES-01 \(10\.30\.1\.30\) to PLC-01/ },
  ])
  t.equal(lookAtBaseline(policy, file, 60, now).found.length, 2)
  t.match(lookAtBaseline(policy, `${file}x`, 14, now), { unseen: /no such file/, found: [] })
})

t.test('traffic of the last days, OPC UA', async (t) => {
  const { policy } = checkPolicy(
    'p.yaml',
    Buffer.from(`zones:
  - { zone_id: A, networks: [10.20.0.0/16], assets: [{ name: OPC-01, address: 10.20.1.5 }] }
  - { zone_id: B, networks: [10.30.0.0/16] }
conduits:
  - conduit_id: C
    connects: [A, B]
    protocols_allowed:
      - protocol: OPC UA
        rules:
          - { name: r, from: [B], to: [A], services: [discovery, session, read] }
          - { name: w, from: [B], to: [A], services: [write], nodes: ["ns=2;s=a"] }
        opcua: { security_modes: [Sign] }
`),
  )
  if (policy === null) throw new Error('the document has errors')
  const [first, last] = ['2026-02-01T00:00:00.000Z', '2026-02-28T00:00:00.000Z']
  const node = (name: string, requests: number) => ({
    ...{ node: `ns=2;s=${name}`, method: null, attribute: 'Value', requests, least: null, greatest: null },
  })
  const service = (nodes: object[], more: object = {}) => ({
    ...{ requests: 9, responses: 9, faults: 0, malformed: 0, unread: 0, unlisted: 0, first, last, rate, nodes },
    ...more,
  })
  const row = {
    ...{
      client: '10.30.1.20',
      target: '10.20.1.5',
      port: 4840,
      opened: 1,
      reversed: 0,
      responses: 0,
      faults: 0,
      channels: [],
    },
    ...{ endpoint_urls: [], garbage: 0, gapBytes: 0, first, last },
    services: {
      OpenSecureChannel: service([]),
      Read: service([]),
      Write: service([node('a', 4), node('b', 2), node('c', 1)]),
      Call: service([], { last: '2026-02-10T00:00:00.000Z' }),
    },
  }
  const file = `${t.testdir({ 'b.json': JSON.stringify({ ...emptyBaseline(), opcua: [row] }) })}/b.json`
  const look = lookAtBaseline(policy, file, 14, new Date('2026-03-01T00:00:00Z'))
  t.match(look, { unseen: null, seen: /^2 kinds of traffic in the last 14 days/ })
  t.match(
    look.found.map(({ detail }) => detail),
    [/^found Write of ns=2;s=b, ns=2;s=c from 10\.30\.1\.20 to OPC-01 \(10\.20\.1\.5\) port 4840, 3 requests, /],
  )
})

// ----------------------------------------------------------------------------------------------------------- nftables

const DOCUMENT = {
  zones: [
    { zone_id: 'Z2-BPCS', networks: ['10.20.1.0/24'], assets: [{ name: 'PLC-01', address: '10.20.1.10' }] },
    { zone_id: 'Z3-OPS', networks: ['10.30.1.0/24'], assets: [{ name: 'HIST-01', address: '10.30.1.20' }] },
  ],
  conduits: [
    {
      conduit_id: 'C1',
      connects: ['Z2-BPCS', 'Z3-OPS'],
      mode: 'enforce',
      protocols_allowed: [
        {
          protocol: 'Modbus/TCP',
          port: 502,
          rules: [{ name: 'reading', from: ['HIST-01'], to: ['PLC-01'], functions: [3] }],
        },
        { protocol: 'HTTPS', port: 443, direction: 'Z3 -> Z2' },
      ],
    },
  ],
  gateway: { listeners: [{ conduit: 'C1', listen: '10.30.1.1:502', target: 'PLC-01' }] },
}

t.test('rulesets: what is told and what is not', async (t) => {
  const list = (...items: object[]): string => JSON.stringify({ nftables: [{ metainfo: {} }, ...items] })
  const table = { table: { family: 'inet', name: 'headgate', handle: 1 } }
  const chain = { chain: { family: 'inet', table: 'headgate', name: 'f', handle: 2, policy: 'drop' } }
  const counted = (packets: number, port: number) => ({
    rule: {
      family: 'inet',
      table: 'headgate',
      chain: 'f',
      handle: packets,
      expr: [{ match: { right: port } }, { counter: { packets, bytes: 1 } }],
    },
  })
  const set = (...elem: string[]) => ({ set: { family: 'inet', table: 'headgate', name: 's', handle: 9, elem } })
  const other = { rule: { family: 'inet', table: 'docker', chain: 'x', handle: 1, expr: [] } }
  const wanted = list(table, chain, counted(0, 1), counted(0, 2), set('a', 'b'))
  t.same(compareRulesets(wanted, list(table, chain, counted(7, 1), counted(8, 2), set('b', 'a'), other)), [])
  const details = (live: string): string[] => compareRulesets(wanted, live).map(({ detail }) => detail)
  t.match(details(list()), [/^table inet\/headgate: found none/])
  t.match(details(list(table, chain, counted(0, 2), counted(0, 1), set('a', 'b'))), [/another order/])
  t.match(details(list(table, chain, counted(0, 1), set('a', 'b'))), [/rule missing: .*"right":2/])
  t.match(details(list(table, chain, counted(0, 1), counted(0, 2), counted(0, 3), set('a', 'b'))), [
    /does not have: .*"right":3/,
  ])
  t.match(details(list(table, chain, counted(0, 1), counted(0, 2), set('a'))), [/^set inet\/headgate\/s: found/])
  t.throws(() => compareRulesets(wanted, '{'), /JSON/)
  t.throws(() => compareRulesets(wanted, '{}'), /no list/)
})

t.test('the ruleset of a host', { skip: noNamespaces('nft', 'unshare') }, async (t: Test) => {
  const network = new Network(t, ['fw'])
  const file = policyFile(t, DOCUMENT)
  const { policy } = checkPolicy(file, readFileSync(file))
  if (policy === null) throw new Error('the document has errors')
  const { text } = renderNftables(policy)
  const look = () =>
    network.run('fw', process.execPath, '-e', START, '--', 'drift', file, '--no-gateway', '--nftables', '--no-tell')

  const bare = await look()
  t.match(bare, { code: 1, out: /^\[DRIFT\] nftables: table inet\/headgate: found none/ }, bare.err)
  network.nft('fw', text)
  const whole = await look()
  t.match(whole, { code: 0, out: /^\[OK\] nftables/ }, whole.out + whole.err)
  // What somebody does in a hurry.
  const chain = /chain (\S+) \{[^}]*hook forward/.exec(text)?.[1] ?? ''
  network.exec('fw', 'nft', 'insert', 'rule', 'inet', 'headgate', chain, 'tcp', 'dport', '3389', 'accept')
  const open = await look()
  t.equal(open.code, 1)
  t.match(
    open.out,
    new RegExp(`^\\[DRIFT\\] nftables: chain inet/headgate/${chain}: rule that the document does not have: .*3389`),
  )
})
