/** The nftables ruleset: its text, real `nft`, and a plant of namespaces in which it really blocks and passes. */
import { spawnSync } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { checkPolicy, loadPolicy } from '../../src/policy/load.ts'
import type { Policy } from '../../src/policy/model.ts'
import { renderNftables } from '../../src/render/nftables.ts'
import { policyFile } from '../support/headgate.ts'
import { lineOf, Network, noNamespaces } from '../support/netns.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const START = `import('${root}src/cli/main.ts').then((cli) => cli.main(['node', 'headgate', ...process.argv.slice(1)]))`

/** Control, operations and enterprise, each behind an interface of the gateway; IPv4 and IPv6. */
const SITE = {
  zones: [
    {
      zone_id: 'Z2-BPCS',
      networks: ['10.20.1.0/24', 'fd00:20::/64'],
      assets: [{ name: 'PLC-01', address: '10.20.1.10' }],
    },
    {
      zone_id: 'Z3-OPS',
      networks: ['10.30.0.0/16', 'fd00:30::/64'],
      assets: [{ name: 'HIST-01', address: '10.30.1.20' }],
    },
    { zone_id: 'Z5-ENT', networks: ['10.50.1.0/24'] },
  ],
  conduits: [
    {
      conduit_id: 'C1',
      connects: ['Z2-BPCS', 'Z3-OPS'],
      mode: 'enforce',
      protocols_allowed: [
        { protocol: 'Modbus/TCP', rules: [{ name: 'reads', from: ['HIST-01'], to: ['PLC-01'], functions: [3] }] },
        { protocol: 'HTTPS', port: 443, direction: 'Z3 -> Z2' },
        { protocol: 'NTP', port: 123, direction: 'Z2 -> Z3' },
        { protocol: 'Files', ports: ['8000-8010', 8080], direction: 'Z3 -> Z2', from: ['HIST-01'], to: ['PLC-01'] },
        { protocol: 'ping', direction: 'Z3 -> Z2' },
      ],
    },
    {
      conduit_id: 'C2',
      connects: ['Z3-OPS', 'Z5-ENT'],
      protocols_allowed: [{ protocol: 'RDP', port: 3389, direction: 'Z5 -> Z3' }],
    },
  ],
  gateway: { listeners: [{ conduit: 'C1', listen: '10.30.1.1:502', target: 'PLC-01' }] },
}

const policyOf = (document: object): Policy => {
  const { policy, findings } = checkPolicy('site.yaml', Buffer.from(JSON.stringify(document)))
  if (policy === null) throw new Error(JSON.stringify(findings))
  return policy
}
const lines = (text: string): string[] => text.split('\n').map((line) => line.trim())

t.test('the text', async (t) => {
  const { text, notes } = renderNftables(policyOf(SITE))
  const all = lines(text)
  const has = (line: string) => t.ok(all.includes(line), line)
  has('elements = { 10.30.0.0/16 }')
  has('elements = { fd00:30::/64 }')
  has('type filter hook forward priority filter; policy drop;')
  has('ct state established,related counter accept')
  has(
    'ip saddr { 10.20.1.0/24, 10.30.0.0/16 } ip daddr 10.20.1.10 tcp dport 502 counter dnat ip to 10.30.1.1:502 comment "C1: PLC-01 by the listener"',
  )
  has(
    'ip saddr @zone_ops_4 ip daddr @zone_bpcs_4 tcp dport 443 ct state new counter accept comment "C1: HTTPS, Z3-OPS to Z2-BPCS"',
  )
  has(
    'ip6 saddr @zone_ops_6 ip6 daddr @zone_bpcs_6 tcp dport 443 ct state new counter accept comment "C1: HTTPS, Z3-OPS to Z2-BPCS"',
  )
  has(
    'ip saddr @zone_bpcs_4 ip daddr @zone_ops_4 udp dport 123 ct state new counter accept comment "C1: NTP, Z2-BPCS to Z3-OPS"',
  )
  has(
    'ip saddr 10.30.1.20 ip daddr 10.20.1.10 tcp dport { 8000-8010, 8080 } ct state new counter accept comment "C1: Files, Z3-OPS to Z2-BPCS"',
  )
  has(
    'ip saddr @zone_ops_4 ip daddr @zone_bpcs_4 meta l4proto icmp ct state new counter accept comment "C1: ping, Z3-OPS to Z2-BPCS"',
  )
  has(
    'ip6 saddr @zone_ops_6 ip6 daddr @zone_bpcs_6 meta l4proto ipv6-icmp ct state new counter accept comment "C1: ping, Z3-OPS to Z2-BPCS"',
  )
  has(
    'ip saddr @zone_ent_4 ip daddr @zone_ops_4 tcp dport 3389 ct state new counter accept comment "C2: RDP, Z5-ENT to Z3-OPS"',
  )
  t.notOk(
    all.some((line) => line.includes('502') && line.includes('ct state new')),
    'what Headgate inspects has no way around it',
  )
  t.notOk(all.some((line) => line.includes('@zone_ent_4') && line.includes('bpcs')))
  t.same(notes, [])
})

t.test('what the ruleset cannot do is told', async (t) => {
  const told = (document: object) => renderNftables(policyOf(document)).notes.join('\n')
  const { gateway, ...without } = SITE
  t.ok(gateway)
  t.match(told(without), /C1, Modbus\/TCP: no listener carries it, so that nothing of it passes/)
  const listener = (listen: string, target = 'PLC-01') => ({
    ...SITE,
    gateway: { listeners: [{ conduit: 'C1', listen, target }] },
  })
  t.match(told(listener('127.0.1.1:502')), /loopback address/)
  t.match(told(listener('[fd00:30::1]:502')), /another family/)
  t.match(told(listener('0.0.0.0:502')), /listener on every address/)
  const [c1] = SITE.conduits
  const wide = {
    ...c1,
    protocols_allowed: [
      { protocol: 'Modbus/TCP', rules: [{ name: 'r', from: ['HIST-01'], to: ['Z2-BPCS'], functions: [3] }] },
    ],
  }
  t.match(
    told({ ...SITE, conduits: [wide] }),
    /targets without a listener are not reached; those with one are 10\.20\.1\.10/,
  )
  const broken = { ...c1, protocols_allowed: [{ protocol: 'Ha"\\; drop', port: 443, direction: 'Z3 -> Z2' }] }
  t.match(
    renderNftables(policyOf({ ...without, conduits: [broken] })).text,
    /comment "C1: Ha''; drop, Z3-OPS to Z2-BPCS"$/m,
    'no name breaks out of its comment',
  )
})

const skip = noNamespaces('nft')

t.test('real nft takes it, for every policy there is', { skip }, async (t) => {
  const network = new Network(t, ['fw'])
  const directory = t.testdir({})
  const examples = readdirSync(`${root}policies`).filter((file) => file.endsWith('.yaml'))
  const policies = [
    ...examples.map((file): [string, Policy | null] => [file, loadPolicy(`${root}policies/${file}`).policy]),
    ['zone document', loadPolicy(`${root}test/fixtures/policies/zone-document.yaml`).policy] as [string, Policy | null],
    ['site', policyOf(SITE)] as [string, Policy | null],
  ]
  for (const [what, policy] of policies) {
    const file = `${directory}/rules.nft`
    writeFileSync(file, renderNftables(policy as Policy).text)
    network.exec('fw', 'nft', '-c', '-f', file)
    network.exec('fw', 'nft', '-f', file)
    network.exec('fw', 'nft', '-f', file)
    t.match(
      network.exec('fw', 'nft', 'list', 'table', 'inet', 'headgate'),
      /hook forward priority filter; policy drop;/,
      `${what}: twice`,
    )
  }
})

interface Dial {
  host: string
  port: number
  pdu?: string
  from?: string
}

t.test('in a plant of namespaces it really blocks and passes', { skip, timeout: 110_000 }, async (t) => {
  const network = new Network(t, ['plc', 'hist', 'ent', 'gw'])
  network.link('gw', '10.20.1.1/24', 'plc', '10.20.1.10/24')
  network.link('gw', '10.30.1.1/24', 'hist', '10.30.1.20/24')
  network.link('gw', '10.50.1.1/24', 'ent', '10.50.1.30/24')
  network.link('gw', 'fd00:20::1/64', 'plc', 'fd00:20::10/64')
  network.link('gw', 'fd00:30::1/64', 'hist', 'fd00:30::20/64')
  for (const [host, via] of [
    ['plc', '10.20.1.1'],
    ['hist', '10.30.1.1'],
    ['ent', '10.50.1.1'],
  ])
    network.route(host, via)
  network.exec('plc', 'ip', '-6', 'route', 'add', 'default', 'via', 'fd00:20::1')
  network.exec('hist', 'ip', '-6', 'route', 'add', 'default', 'via', 'fd00:30::1')
  network.forward('gw')
  network.exec('gw', 'sysctl', '-q', '-w', 'net.ipv6.conf.all.forwarding=1')

  const node = process.execPath
  const file = policyFile(t, SITE)
  const serve = (host: string, address: string, port: number) => {
    const child = network.spawn(host, node, `${root}test/support/plc-child.ts`, address, `${port}`)
    const pdus: string[] = []
    child.stdout?.on('data', (data) =>
      pdus.push(
        ...String(data)
          .split('\n')
          .filter((line) => line.startsWith('pdu ')),
      ),
    )
    return lineOf(child, /^ready/).then(() => pdus)
  }
  const [pdus] = await Promise.all([
    serve('plc', '10.20.1.10', 502),
    serve('plc', '10.20.1.10', 443),
    serve('plc', '10.20.1.10', 8005),
    serve('plc', '10.20.1.10', 22),
    serve('plc', 'fd00:20::10', 443),
    serve('plc', 'fd00:20::10', 502),
    serve('hist', '10.30.1.20', 443),
    serve('hist', '10.30.1.20', 3389),
    lineOf(network.spawn('gw', node, '-e', START, '--', 'run', file), /gateway\.ready/),
  ])
  const dial = async (host: string, dials: Dial[]): Promise<string[]> => {
    const { out, err } = await network.run(host, node, `${root}test/support/dial-child.ts`, JSON.stringify(dials))
    if (err !== '') throw new Error(err)
    return JSON.parse(out)
  }
  const plc = '10.20.1.10'
  const READ = '0300000002'
  const WRITE = '0600000007'

  t.same(await dial('hist', [{ host: plc, port: 502, pdu: WRITE }]), [WRITE], 'without the ruleset everybody writes')
  t.same(pdus.splice(0), [`pdu ${WRITE}`])
  network.nft('gw', renderNftables(policyOf(SITE)).text)

  t.same(
    await dial('hist', [
      { host: plc, port: 502, pdu: READ },
      { host: plc, port: 502, pdu: WRITE },
      { host: '10.30.1.1', port: 502, pdu: READ },
      { host: plc, port: 443 },
      { host: plc, port: 8005 },
      { host: plc, port: 22 },
      { host: 'fd00:20::10', port: 443 },
      { host: 'fd00:20::10', port: 502 },
    ]),
    ['030412341335', '8601', '030412341335', 'connected', 'connected', 'timed out', 'connected', 'timed out'],
    'reads by the listener, writes refused, other protocols by port, IPv6 alike',
  )
  t.same(pdus, [`pdu ${READ}`, `pdu ${READ}`], 'the PLC saw no write')
  t.same(
    await dial('ent', [
      { host: plc, port: 502, pdu: READ },
      { host: '10.30.1.1', port: 502, pdu: READ },
      { host: plc, port: 443 },
      { host: '10.30.1.20', port: 443 },
      { host: '10.30.1.20', port: 3389 },
    ]),
    ['timed out', 'timed out', 'timed out', 'timed out', 'connected'],
    'the enterprise reaches what its conduit says',
  )
  t.same(await dial('plc', [{ host: '10.30.1.20', port: 443 }]), ['timed out'], 'control opens nothing but what it may')
  if (spawnSync('which', ['ping']).status === 0) {
    t.match(network.exec('hist', 'ping', '-c1', '-W2', plc), /1 received/)
    t.throws(() => network.exec('ent', 'ping', '-c1', '-W1', plc))
  } else t.comment('no ping here (Debian: iputils-ping): ICMP is not tried')

  network.exec('ent', 'ip', 'addr', 'add', '10.30.1.99/32', 'dev', 'lo')
  t.same(await dial('ent', [{ host: plc, port: 443, from: '10.30.1.99' }]), ['timed out'], 'a forged address')
  const counted = network.exec('gw', 'nft', 'list', 'table', 'inet', 'headgate')
  for (const what of [
    'forged source',
    'denied between zones',
    'C1: PLC-01 by the listener',
    'C1: HTTPS, Z3-OPS to Z2-BPCS',
    'C2: RDP, Z5-ENT to Z3-OPS',
  ]) {
    t.match(counted, new RegExp(`counter packets [1-9]\\d* bytes .*"${what}"`), `counted: ${what}`)
  }
  t.match(counted, /counter packets 0 bytes 0 accept comment "C1: NTP/)
})
