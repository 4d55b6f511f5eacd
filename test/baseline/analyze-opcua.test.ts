/** OPC UA from a real gateway's evidence: what a client of node-opcua does beyond the policy is listed, accepted, and passes. */
import { readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { AttributeIds, type ClientSession, DataType, Variant } from 'node-opcua'
import t from 'tap'
import { analyze } from '../../src/baseline/analyze.ts'
import { Sightings } from '../../src/baseline/sightings.ts'
import { MOST_ITEMS, OpcUaExtent } from '../../src/gateway/opcua-extent.ts'
import { checkPolicy } from '../../src/policy/load.ts'
import { freePort } from '../support/gateway.ts'
import { Headgate, policyFile } from '../support/headgate.ts'
import { client, startServer, temporary, withSession } from '../support/opcua-peers.ts'
import { selfSigned } from '../support/opcua-pki.ts'
import { headgate } from '../support/verbs.ts'

const [MES, SERVER] = ['127.0.0.1', '127.0.2.1']

const POLICY = (listen: number, target: number): string => `# kept by hand
zones:
  - { zone_id: CELL, networks: [127.0.2.0/24], assets: [{ name: OPC-01, address: ${SERVER} }] }
  - { zone_id: OPS, networks: [127.0.0.0/24], assets: [{ name: MES-01, address: ${MES} }] }
conduits:
  - conduit_id: C1
    connects: [CELL, OPS]
    mode: monitor
    protocols_allowed:
      - protocol: OPC UA
        rules:
          # agreed in 2024
          - name: looking
            from: [MES-01]
            to: [OPC-01]
            services: [discovery, session, browse]
          - name: counter
            from: [MES-01]
            to: [OPC-01]
            services: [read]
            nodes: ["ns=2;s=Line1.Counter"]
        opcua: { security_modes: [None], security_policies: [None] }
gateway:
  workers: 1
  listeners:
    - { conduit: C1, protocol: OPC UA, listen: "127.0.0.1:${listen}", target: "${SERVER}:${target}" }
  storm_interval: 1s
  evidence: { directory: evidence }
`

interface Plain {
  conduits: { conduit: string; ready: boolean; obstacles: string[] }[]
  candidates: {
    id: string
    service: string | null
    node: string | null
    method: string | null
    reason: string
    danger: number
    lines: string[] | null
    obstacle: string | null
    suggestion: string
  }[]
  settled: Record<string, number>
}

t.test('monitored, analyzed, accepted; then nothing of it would be denied', { timeout: 120_000 }, async (t) => {
  const directory = temporary(t)
  const [server, holder] = await Promise.all([selfSigned('server'), selfSigned('client')])
  const cell = await startServer(t, directory, server, { host: SERVER, hostname: SERVER })
  t.equal(cell.namespace, 2)
  const listen = await freePort()
  const file = policyFile(t, POLICY(listen, cell.port))
  const made = () => client(t, directory, 'mes', holder, { mode: 'None', policy: 'None', endpointMustExist: false })
  const work = async (session: ClientSession): Promise<void> => {
    const value = { value: new Variant({ dataType: DataType.Double, value: 42 }) }
    await session.write({ nodeId: 'ns=2;s=Line1.Setpoint', attributeId: AttributeIds.Value, value })
    await session.read({ nodeId: 'ns=2;s=Line1.Setpoint', attributeId: AttributeIds.Value })
    await session.read({ nodeId: 'ns=2;s=Line1.Counter', attributeId: AttributeIds.Value })
    const inputArguments = [new Variant({ dataType: DataType.UInt32, value: 2 })]
    await session.call({ objectId: 'ns=2;s=Line1', methodId: 'ns=2;s=Ack', inputArguments })
  }
  const evidence = join(dirname(file), 'evidence')
  /** @returns what would have been denied */
  const go = async (): Promise<unknown[]> => {
    const gateway = Headgate.run(t, file)
    await gateway.ready()
    await withSession(await made(), `opc.tcp://127.0.0.1:${listen}`, work)
    t.same(await gateway.stop(), { code: 0, signal: null })
    return gateway.events.filter((one) => /would_|denied|refused/.test(`${one.event}`))
  }
  t.ok((await go()).length >= 3)
  t.strictSame(cell.written, [42])
  t.equal(cell.calls, 1)

  const run = (...args: string[]) => headgate([['analyze', '--policy', file, ...args]])[0]
  const json = (): Plain => JSON.parse(run('--min-baseline', '0s', '--format', 'json').out)
  const first = json()
  const of = (service: string, node: string) =>
    first.candidates.find((one) => one.service === service && one.node === node) as Plain['candidates'][number]
  const [write, call, read] = [
    of('Write', 'ns=2;s=Line1.Setpoint'),
    of('Call', 'ns=2;s=Line1'),
    of('Read', 'ns=2;s=Line1.Setpoint'),
  ]
  t.match(write, { reason: 'service', danger: 45, suggestion: 'look' })
  t.match(write.lines, [
    '- name: MES-01 writes OPC-01',
    '  from: [ MES-01 ]',
    '  to: [ OPC-01 ]',
    '  services: [ Write ]',
    '  nodes: [ ns=2;s=Line1.Setpoint ]',
    '  attributes: [ Value ]',
  ])
  t.match(call, { reason: 'service', method: 'ns=2;s=Ack', danger: 45 })
  t.match(call.lines?.at(-1), 'methods: [ ns=2;s=Line1/ns=2;s=Ack ]')
  t.match(read, { reason: 'node', danger: 5 })
  t.match(read.lines?.slice(3, 5), ['  services: [ Read ]', '  nodes: [ ns=2;s=Line1.Setpoint ]'])
  t.notOk(of('Read', 'ns=2;s=Line1.Counter'), 'what a rule allows is in no event')
  t.equal(first.conduits[0].ready, false)
  t.match(first.conduits[0].obstacles[0], /of known assets would have been denied in the last 24 hours/)
  t.match(
    run().out,
    /look +MES-01 \(127\.0\.0\.1\) -> OPC-01 \(127\.0\.2\.1\) port \d+ Write ns=2;s=Line1\.Setpoint Value\n/,
  )

  const before = readFileSync(file, 'utf8')
  const applied = run('--min-baseline', '0s', '--apply', ...first.candidates.map((one) => one.id))
  t.match(applied.err, /rules? added; reload the gateway/)
  t.match(applied.out, /^C1: READY TO ENFORCE\n/)
  t.equal(applied.code, 0)
  const after = readFileSync(file, 'utf8')
  const kept = after.split('\n').filter((line) => before.split('\n').includes(line))
  t.equal(kept.length >= before.split('\n').length, true, 'comments and order are kept')
  t.match(after, /# accepted \d{4}-\d\d-\d\d: 1 request\n/)
  t.not(checkPolicy('policy.yaml', Buffer.from(after)).policy, null, 'check passes')
  t.equal(headgate([['check', file]])[0].code, 0)
  t.match(json(), { candidates: [], settled: { allowed: first.candidates.length } })

  rmSync(evidence, { recursive: true })
  t.strictSame(await go(), [], 'the gateway itself has nothing against it any more')
  t.equal(cell.written.length, 2)
  t.strictSame(json().candidates, [], 'another run would be denied nothing')
})

t.test('one round finds all that was folded, and how it was answered', { timeout: 120_000 }, async (t) => {
  const directory = temporary(t)
  const [server, holder] = await Promise.all([selfSigned('server'), selfSigned('client')])
  const cell = await startServer(t, directory, server, { host: SERVER, hostname: SERVER })
  const listen = await freePort()
  const file = policyFile(t, POLICY(listen, cell.port).replace('storm_interval: 1s', 'storm_interval: 1h'))
  const made = await client(t, directory, 'mes', holder, { mode: 'None', policy: 'None', endpointMustExist: false })
  const gateway = Headgate.run(t, file)
  await gateway.ready()
  const of = (name: string, value: Variant) => ({
    nodeId: `ns=2;s=Line1.${name}`,
    attributeId: AttributeIds.Value,
    value: { value },
  })
  await withSession(made, `opc.tcp://127.0.0.1:${listen}`, async (session) => {
    for (let n = 0; n < 5; n++) {
      // The server takes the first two; it has no such node as the others.
      await session.write([
        of('Setpoint', new Variant({ dataType: DataType.Double, value: n })),
        of('Store', new Variant({ dataType: DataType.ByteString, value: Buffer.from('x') })),
      ])
      await session.write(of(`Missing${n % 2}`, new Variant({ dataType: DataType.Double, value: n })))
      const inputArguments = [new Variant({ dataType: DataType.UInt32, value: 2 })]
      await session.call({ objectId: 'ns=2;s=Line1', methodId: 'ns=2;s=Ack', inputArguments })
    }
  })
  await gateway.stop()
  const folded = gateway.events.filter(({ event, count }) => event === 'request.would_deny' && Number(count) > 1)
  const writes = folded.find((one) => one.function === 'Write')
  t.match(writes, { count: 9, responses: 4, exceptions: 5 })
  t.match(JSON.parse(`${writes?.nodes}`), [
    { node: 'ns=2;s=Line1.Missing0', attribute: 'Value', count: 3, exceptions: 3, least: 0, greatest: 4 },
    { node: 'ns=2;s=Line1.Setpoint', attribute: 'Value', count: 4, responses: 4, least: 1, greatest: 4 },
    { node: 'ns=2;s=Line1.Store', count: 4, responses: 4, other: true },
    { node: 'ns=2;s=Line1.Missing1', count: 2, exceptions: 2 },
  ])
  const { candidates } = JSON.parse(
    headgate([['analyze', '--policy', file, '--min-baseline', '0s', '--format', 'json']])[0].out,
  ) as { candidates: { service: string; node: string; count: number; pro: string[]; contra: string[] }[] }
  const found = (service: string, name: string) =>
    candidates.find((one) => one.service === service && one.node === `ns=2;s=${name}`)
  for (const name of ['Line1.Setpoint', 'Line1.Store']) {
    t.match(found('Write', name), { count: 5, pro: /answered without exception/ }, name)
    t.notMatch(`${found('Write', name)?.contra}`, /others show again/)
  }
  t.match(found('Write', 'Line1.Missing0')?.contra, /answered with exceptions alone/)
  t.match(found('Write', 'Line1.Missing1')?.contra, /answered with exceptions alone/)
  t.match(found('Call', 'Line1'), { count: 5, pro: /answered without exception/ })
})

t.test('a list of items is bounded, and whatever it says is read with care', (t) => {
  const extent = new OpcUaExtent()
  for (let n = 0; n < 40; n++) extent.request({ list: [{ node: `ns=2;i=${n}` }], more: false })
  t.equal(extent.fields().more_nodes, 'yes')
  t.equal(JSON.parse(`${extent.fields().nodes}`).length, MOST_ITEMS)
  const long = new OpcUaExtent()
  for (let n = 0; n < 20; n++) long.request({ list: [{ node: `ns=2;s=${n}${'x'.repeat(900)}` }], more: false })
  t.ok(`${long.fields().nodes}`.length < 8192)
  t.equal(long.fields().more_nodes, 'yes')
  const base = { time: '2026-11-25T01:00:00.000Z', protocol: 'opcua', conduit: 'C1', client: MES, target: SERVER }
  for (const nodes of [
    '',
    '[',
    '7',
    '[]',
    '[null]',
    '[{"node":1}]',
    JSON.stringify(new Array(300).fill({ node: 'i=1' })),
  ]) {
    const sightings = new Sightings()
    const fields = { event: 'request.would_deny', reason: 'service', function: 'Write', node: 'ns=2;s=A', count: 3 }
    sightings.add({ ...base, ...fields, nodes })
    const [one] = sightings.all.values()
    t.match(one, { node: 'ns=2;s=A', count: 3, partial: true }, nodes.slice(0, 20))
  }
  t.end()
})

t.test('what no rule can mend stands in the way, with what is to be decided', (t) => {
  const sightings = new Sightings()
  const base = { time: '2026-11-25T01:00:00.000Z', protocol: 'opcua', conduit: 'C1', client: MES, target: SERVER }
  const add = (fields: Record<string, unknown>): void =>
    sightings.add({ event: 'request.would_deny', target_port: 4840, ...base, ...fields })
  add({ event: 'channel.would_deny', reason: 'security', detail: 'Basic256 is not allowed' })
  add({ reason: 'service', function: 'encrypted' })
  add({ reason: 'malformed', function: 'Write' })
  add({ reason: 'service', function: 'unknown' })
  add({ reason: 'service', function: 'Write', node: `ns=2;s=${'x'.repeat(90)}…`, attribute: 'Value' })
  add({ reason: 'value', function: 'Write', node: 'ns=2;s=A', attribute: 'Value', value: 'structure' })
  add({ reason: 'service', function: 'DeleteNodes', node: 'ns=2;s=a*b', count: 3 })
  add({ reason: 'value', function: 'Write', node: 'ns=2;i=7', attribute: 'Value', value: '12.5' })
  const { candidates, verdicts } = analyze({ sightings, policy: null, baseline: null, decisions: [], minBaselineMs: 0 })
  t.equal(candidates.length, 8, 'nothing is skipped')
  const found = (test: (one: (typeof candidates)[number]) => boolean) => candidates.find(test)
  t.match(
    found(({ sighting }) => sighting.kind === 'channel')?.obstacle,
    /Basic256 is not allowed.*handling: terminate/,
  )
  t.match(found(({ sighting }) => sighting.service === 'encrypted')?.obstacle, /encryption hides it: decide/)
  t.match(found(({ sighting }) => sighting.reason === 'malformed')?.obstacle, /mend the sender/)
  t.match(found(({ sighting }) => sighting.service === 'unknown')?.obstacle, /no service/)
  t.match(found(({ sighting }) => sighting.node?.endsWith('…') === true)?.obstacle, /cannot be written in a rule/)
  t.match(found(({ sighting }) => sighting.node === 'ns=2;s=A')?.obstacle, /no number/)
  const globbed = found(({ sighting }) => sighting.service === 'DeleteNodes')
  t.match(globbed?.lines?.join('\n'), 'ns=2;s=a\\*b', 'a star in a name is no pattern')
  t.match(globbed, { danger: 100, contra: [/unknown client/, /address space/, /others show again/] })
  const bounded = found(({ sighting }) => sighting.node === 'ns=2;i=7')
  t.match(bounded?.lines?.at(-1), /values: \{ "?ns=2;i=7"?: \{ min: 12\.5, max: 12\.5 \} \}/)
  t.equal(verdicts[0].conduit, 'C1')
  t.end()
})

t.test('a channel that only lacked a rule is settled by the rules for what its client asks', (t) => {
  const sightings = new Sightings()
  const base = { time: '2026-11-25T01:00:00.000Z', protocol: 'opcua', conduit: 'C1', client: MES, target: SERVER }
  const add = (fields: Record<string, unknown>): void =>
    sightings.add({ event: 'channel.would_deny', function: 'OpenSecureChannel', target_port: 4840, ...base, ...fields })
  add({ reason: 'pair', detail: 'no rule for this client and target' })
  add({ reason: 'security', detail: 'no rule for a channel of Basic256Sha256 with the mode Sign' })
  const under = (text: string) => {
    const { policy } = checkPolicy('policy.yaml', Buffer.from(text))
    return analyze({ sightings, policy, baseline: null, decisions: [], minBaselineMs: 0 })
  }
  const ruled = POLICY(4840, 4840)
  const other = ruled.replaceAll('from: [MES-01]', 'from: [127.0.0.99]')
  const before = under(other)
  t.match(
    before.candidates.map(({ obstacle }) => obstacle),
    [/opens once a rule allows what this client asks/, /opens once a rule allows what this client asks/],
  )
  t.equal(before.verdicts[0].ready, false)
  t.match(under(ruled), { candidates: [], settled: { allowed: 2 }, verdicts: [{ ready: true }] })
  // What the conduit has against a channel is not mended by a rule, even if it came only once.
  add({ reason: 'security', detail: 'security policy None' })
  t.equal(under(ruled).candidates.length, 1)
  t.match(under(ruled).candidates[0].obstacle, /security policy None.*handling: terminate/)
  t.end()
})
