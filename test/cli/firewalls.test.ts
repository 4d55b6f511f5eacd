/** `headgate import`, `render` and `compare` as a person and a pipeline see them. */
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { freePort } from '../support/gateway.ts'
import { document, Headgate } from '../support/headgate.ts'
import { headgate } from '../support/verbs.ts'

const DOCUMENT = 'test/fixtures/policies/zone-document.yaml'
const FIREWALL = 'test/fixtures/assurance/isa3000.cfg'

t.test('compare', async (t) => {
  const [differ, same, json, neither, none, zone] = headgate([
    ['compare', DOCUMENT, FIREWALL],
    ['compare', FIREWALL, FIREWALL],
    ['compare', '--format', 'json', FIREWALL, DOCUMENT],
    ['compare', DOCUMENT, 'README.md'],
    ['compare', DOCUMENT, 'none.cfg'],
    ['compare', '--zone', 'x', DOCUMENT, FIREWALL],
  ])
  t.equal(differ.code, 1)
  t.match(differ.out, /^test\/fixtures\/assurance\/isa3000\.cfg also allows:\n {2}from Z3-OPS \(zone-ops\) to Z2-BPCS/)
  t.match(same, { code: 0, out: /allow the same\n$/ })
  t.match(JSON.parse(json.out), { same: false, differences: [{ ports: ['502'] }] })
  t.match(neither, { code: 2, err: /README\.md is neither a policy document/ })
  t.match(none, { code: 2, err: 'headgate: cannot read none.cfg: no such file\n' })
  t.match(zone, { code: 2, err: /expected NAMEIF=ZONE/ })
})

t.test('import, check, render, compare, record', async (t) => {
  const directory = t.testdir({})
  const file = `${directory}/imported.yaml`
  const again = `${directory}/again.yaml`
  const keeper = `${directory}/keeper.yaml`
  const evidence = `${directory}/evidence`
  const port = await freePort('127.0.0.1')
  const modbus = { rules: [{ name: 'r', from: ['127.0.0.0/8'], to: ['127.0.0.0/8'], functions: [3] }] }
  const listeners = { [`127.0.0.1:${port}`]: '127.0.0.1:1' }
  writeFileSync(keeper, JSON.stringify(document({ modbus, listeners, gateway: { evidence: { directory: evidence } } })))
  const gateway = Headgate.run(t, keeper)
  await gateway.ready()
  await gateway.stop()

  const [imported, checked, printed, there, recorded, shown, unkept, wrong, compared, rendered, errors] = headgate([
    ['import', 'isa3000', FIREWALL, '--output', file],
    ['check', file],
    ['import', 'isa3000', FIREWALL],
    ['import', 'isa3000', FIREWALL, '--output', file],
    ['import', 'isa3000', FIREWALL, '--output', again, '--record', keeper],
    ['evidence', 'show', '--event', 'artefact.recorded', '--format', 'json', evidence],
    ['import', 'isa3000', FIREWALL, '--record', keeper],
    ['import', 'isa3000', DOCUMENT],
    ['compare', file, FIREWALL],
    ['render', 'isa3000', file],
    ['render', 'isa3000', 'test/fixtures/assurance/vlan.cfg'],
  ])
  t.match(imported, { code: 0, out: '', err: /^to decide: which services of OPC UA pass/ })
  t.equal(checked.code, 0)
  t.match(printed, { code: 0, out: /^# Imported from .* by headgate import isa3000/ })
  t.match(there, { code: 2, err: /it is there already/ })
  t.match(recorded, { code: 0, err: /again\.yaml: hash recorded / })
  const sha256 = createHash('sha256').update(readFileSync(again)).digest('hex')
  t.match(shown.out, new RegExp(`"kind":"import".*"${sha256}"|"${sha256}".*"kind":"import"`))
  t.match(unkept, { code: 2, err: /expected --output/ })
  t.match(wrong, { code: 2, err: /no configuration of an ASA/ })
  t.equal(compared.code, 0)
  t.match(rendered, { code: 0, out: /^access-group zone-ops-in in interface zone-ops$/m })
  t.match(rendered.err, /^note: BPCS: 10\.20\.0\.1 is made up for interface zone-bpcs/m)
  t.match(errors, { code: 1, err: /error/ })
})

t.test('render nftables and vlan', async (t) => {
  const [nft, vlan, small] = headgate([
    ['render', 'nftables', 'policies/refinery.yaml'],
    ['render', 'vlan', '--prefix', 'Fa0/', DOCUMENT],
    ['render', 'vlan', '--ports', '8', DOCUMENT],
  ])
  t.match(nft, { code: 0, out: /^table inet headgate \{$/m })
  t.match(vlan, { code: 0, out: /^interface Fa0\/24$/m })
  t.match(small, { code: 2, err: /^headgate: Z2-BPCS need 19 ports/ })
})
