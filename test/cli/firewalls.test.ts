/** `headgate import`, `render` and `compare` as a person and a pipeline see them. */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { freePort } from '../support/gateway.ts'
import { document, Headgate } from '../support/headgate.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const START = `import('${root}src/cli/main.ts').then((cli) => cli.main(['node', 'headgate', ...process.argv.slice(1)]))`
const DOCUMENT = 'test/fixtures/policies/zone-document.yaml'
const FIREWALL = 'test/fixtures/assurance/isa3000.cfg'

function headgate(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', START, '--', ...args], {
    cwd: root,
    encoding: 'utf8',
  })
  return { code: status, out: stdout, err: stderr }
}

t.test('compare', async (t) => {
  const { code, out } = headgate('compare', DOCUMENT, FIREWALL)
  t.equal(code, 1)
  t.match(out, /^test\/fixtures\/assurance\/isa3000\.cfg also allows:\n {2}from Z3-OPS \(zone-ops\) to Z2-BPCS/)
  t.match(headgate('compare', FIREWALL, FIREWALL), { code: 0, out: /allow the same\n$/ })
  const json = headgate('compare', '--format', 'json', FIREWALL, DOCUMENT)
  t.match(JSON.parse(json.out), { same: false, differences: [{ ports: ['502'] }] })
  t.match(headgate('compare', DOCUMENT, 'README.md'), { code: 2, err: /README\.md is neither a policy document/ })
  t.match(headgate('compare', DOCUMENT, 'none.cfg'), { code: 2, err: 'headgate: cannot read none.cfg: no such file\n' })
  t.match(headgate('compare', '--zone', 'x', DOCUMENT, FIREWALL), { code: 2, err: /expected NAMEIF=ZONE/ })
})

t.test('import, check, render, compare', async (t) => {
  const directory = t.testdir({})
  const file = `${directory}/imported.yaml`
  const { code, out, err } = headgate('import', 'isa3000', FIREWALL, '--output', file)
  t.match({ code, out }, { code: 0, out: '' })
  t.match(err, /^to decide: which services of OPC UA pass/)
  t.equal(headgate('check', file).code, 0)
  t.equal(headgate('import', 'isa3000', FIREWALL).out.split('\n')[0].includes('headgate import isa3000'), true)
  t.match(headgate('import', 'isa3000', FIREWALL, '--output', file), { code: 2, err: /it is there already/ })
  const keeper = `${directory}/keeper.yaml`
  const evidence = `${directory}/evidence`
  const port = await freePort('127.0.0.1')
  const modbus = { rules: [{ name: 'r', from: ['127.0.0.0/8'], to: ['127.0.0.0/8'], functions: [3] }] }
  const listeners = { [`127.0.0.1:${port}`]: '127.0.0.1:1' }
  writeFileSync(keeper, JSON.stringify(document({ modbus, listeners, gateway: { evidence: { directory: evidence } } })))
  const gateway = Headgate.run(t, keeper)
  await gateway.ready()
  await gateway.stop()
  const recorded = headgate('import', 'isa3000', FIREWALL, '--output', `${directory}/again.yaml`, '--record', keeper)
  t.match(recorded, { code: 0, err: /again\.yaml: hash recorded / })
  const sha256 = createHash('sha256')
    .update(readFileSync(`${directory}/again.yaml`))
    .digest('hex')
  const shown = headgate('evidence', 'show', '--event', 'artefact.recorded', '--format', 'json', evidence)
  t.match(shown.out, new RegExp(`"kind":"import".*"${sha256}"|"${sha256}".*"kind":"import"`))
  t.match(headgate('import', 'isa3000', FIREWALL, '--record', keeper), { code: 2, err: /expected --output/ })
  t.match(headgate('import', 'isa3000', DOCUMENT), { code: 2, err: /no configuration of an ASA/ })
  t.equal(headgate('compare', file, FIREWALL).code, 0)
  const rendered = headgate('render', 'isa3000', file)
  t.equal(rendered.code, 0)
  t.match(rendered.out, /^access-group zone-ops-in in interface zone-ops$/m)
  t.match(rendered.err, /^note: BPCS: 10\.20\.0\.1 is made up for interface zone-bpcs/m)
  t.match(headgate('render', 'isa3000', 'test/fixtures/assurance/vlan.cfg'), { code: 1, err: /error/ })
})

t.test('render nftables and vlan', async (t) => {
  t.match(headgate('render', 'nftables', 'policies/refinery.yaml'), { code: 0, out: /^table inet headgate \{$/m })
  t.match(headgate('render', 'vlan', '--prefix', 'Fa0/', DOCUMENT), { code: 0, out: /^interface Fa0\/24$/m })
  t.match(headgate('render', 'vlan', '--ports', '8', DOCUMENT), { code: 2, err: /^headgate: Z2-BPCS need 19 ports/ })
  t.match(headgate('render', 'vlan', '--ports', 'x', DOCUMENT), { code: 2, err: /expected 2 to 1024/ })
})
