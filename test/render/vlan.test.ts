/** Zones as VLANs: held to the example that stands beside the zone document, setting by setting. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { checkPolicy, loadPolicy } from '../../src/policy/load.ts'
import type { Policy } from '../../src/policy/model.ts'
import { renderVlan, vlanNumbers } from '../../src/render/vlan.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const DOCUMENT = loadPolicy(`${root}test/fixtures/policies/zone-document.yaml`).policy as Policy
const EXAMPLE = readFileSync(`${root}test/fixtures/assurance/vlan.cfg`, 'utf8')
const SWITCH = { ports: 24, prefix: 'GigabitEthernet1/0/', zones: null }

/** Settings of each port, and names of VLANs, of a switch's configuration. */
function settings(text: string): { vlans: Map<number, string>; ports: Map<number, Set<string>> } {
  const vlans = new Map<number, string>()
  const ports = new Map<number, Set<string>>()
  let here: Set<string>[] = []
  let vlan = 0
  for (const line of text.split('\n')) {
    const word = line.trim()
    if (word === '' || /^[!#]/.test(word)) continue
    const range = /^interface (?:range )?GigabitEthernet1\/0\/(\d+)(?:-(\d+))?$/.exec(word)
    if (range !== null) {
      const [first, last] = [Number(range[1]), Number(range[2] ?? range[1])]
      here = []
      for (let port = first; port <= last; port++) {
        if (ports.has(port)) throw new Error(`port ${port} twice`)
        const one = new Set<string>()
        ports.set(port, one)
        here.push(one)
      }
    } else if (/^vlan \d+$/.test(word)) vlan = Number(word.slice(5))
    else if (/^name /.test(word)) vlans.set(vlan, word.slice(5))
    else if (!/^description/.test(word)) for (const one of here) one.add(word)
  }
  return { vlans, ports }
}

t.test('the zone document gives the example: the same VLANs, ports and trunk', async (t) => {
  const { text, notes } = renderVlan(DOCUMENT, SWITCH)
  const [ours, theirs] = [settings(text), settings(EXAMPLE)]
  for (const [vlan, name] of theirs.vlans) t.ok(ours.vlans.has(vlan), `VLAN ${vlan}, ${name}`)
  t.same(
    [...ours.vlans],
    [
      [10, 'Z1-SIS'],
      [20, 'Z2-BPCS'],
      [30, 'Z3-OPS'],
      [35, 'Z4-DMZ'],
      [40, 'Z5-ENT'],
      [999, 'UNUSED'],
    ],
  )
  t.equal(ours.ports.size, 24)
  for (const [port, wanted] of theirs.ports) {
    // The document has an engineering workstation, for which the example has no port.
    if (port === 19) continue
    const found = ours.ports.get(port) ?? new Set()
    for (const setting of wanted) t.ok(found.has(setting), `port ${port}: ${setting}`)
  }
  t.ok(ours.ports.get(19)?.has('switchport access vlan 20'))
  t.match(notes.join('\n'), /Z1-SIS: a safety instrumented system has a switch of its own/)
})

t.test('every port is either one device of one zone, the trunk, or shut', async (t) => {
  const { ports } = settings(renderVlan(DOCUMENT, { ...SWITCH, ports: 28, zones: ['Z3', 'Z4-DMZ'] }).text)
  const kinds = [...ports.values()].map((one) => {
    if (one.has('switchport mode trunk')) return 'trunk'
    if (one.has('shutdown')) return one.has('switchport access vlan 999') ? 'shut' : 'shut, and not parked'
    return one.has('switchport port-security maximum 1') ? [...one].find((line) => /access vlan/.test(line)) : 'open'
  })
  const count = (kind: string) => kinds.filter((one) => one === kind).length
  t.same(
    [count('switchport access vlan 30'), count('switchport access vlan 35'), count('shut'), count('trunk')],
    [4, 4, 19, 1],
  )
})

t.test('numbers and names', async (t) => {
  const of = (zones: object[]) => {
    const { policy } = checkPolicy('p', Buffer.from(JSON.stringify({ zones, conduits: [] })))
    return [...vlanNumbers((policy as Policy).zones)]
  }
  t.same(
    of([
      { zone_id: 'A', purdue_level: 2 },
      { zone_id: 'B', purdue_level: '1-2' },
      { zone_id: 'C' },
      { zone_id: 'D' },
      { zone_id: 'E', purdue_level: 0 },
    ]),
    [
      ['A', 20],
      ['B', 21],
      ['C', 100],
      ['D', 101],
      ['E', 1],
    ],
  )
})

t.test('assets, and prose that counts them, each once', async (t) => {
  const assets = [
    { name: 'PLC-01', address: '10.1.0.1', role: 'plc' },
    { name: 'EWS-01', address: '10.1.0.2', role: 'engineering-workstation' },
    'PLCs (PLC-01 through PLC-03)',
    'Gateways (GW-01, GW-02)',
    'A printer',
  ]
  const document = {
    zones: [
      { zone_id: 'A', purdue_level: 1, assets },
      { zone_id: 'B', purdue_level: 3 },
    ],
    conduits: [{ conduit_id: 'C', connects: ['A', 'B'] }],
  }
  const policy = checkPolicy('p', Buffer.from(JSON.stringify(document))).policy as Policy
  const { text } = renderVlan(policy, { ports: 10, prefix: 'Fa0/', zones: null })
  t.match(text, /interface range Fa0\/1-3\n description PLC connections - Zone A/)
  t.match(text, /interface Fa0\/4\n description Workstation connections/)
  t.match(text, /interface range Fa0\/5-7\n description Device connections/)
  t.match(text, /interface range Fa0\/8-9\n description Unused/)
  t.throws(() => renderVlan(policy, { ports: 7, prefix: 'Fa0/', zones: null }), /need 7 ports, and a switch of 7 has 6/)
  t.throws(() => renderVlan(policy, { ports: 7, prefix: 'Fa0/', zones: ['X'] }), /expected a zone of the document/)
})
