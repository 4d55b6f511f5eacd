/** `headgate check` as a person, an editor and a pipeline see it. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = fileURLToPath(new URL('../..', import.meta.url))
const START = `import('${root}src/cli/main.ts').then((cli) => cli.main(['node', 'headgate', ...process.argv.slice(1)]))`

function headgate(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', START, '--', ...args], {
    cwd: root,
    encoding: 'utf8',
  })
  return { code: status, out: stdout, err: stderr }
}

t.test('check', async (t) => {
  const directory = t.testdir({ 'bad.yaml': 'zones: []\nconduits: []\nzons: []\n', 'text.yaml': '\u0007 {' })

  const clean = headgate('check', 'policies/refinery.yaml')
  t.match(clean, { code: 0, out: /^policies\/refinery\.yaml: ok: 0 errors, 0 warnings\n$/m, err: '' })
  t.match(
    clean.out,
    /^policies\/refinery\.yaml:\d+: suppressed: found no syslog.*\[enforce-without-siem\]: "A demonstration/m,
  )
  t.equal(headgate('check', '--strict', 'policies/refinery.yaml').code, 0, 'what is suppressed is no warning')

  const warned = headgate('check', 'test/fixtures/policies/zone-document.yaml')
  t.equal(warned.code, 0, 'warnings alone do not fail')
  t.match(
    warned.out,
    /^test\/fixtures\/policies\/zone-document\.yaml:\d+:\d+: warning: .* \[zone-without-addresses\]$/m,
  )
  t.equal(headgate('check', '--strict', 'test/fixtures/policies/zone-document.yaml').code, 1, 'unless strict')

  const bad = headgate('check', `${directory}/bad.yaml`)
  t.equal(bad.code, 1)
  t.match(bad.out, new RegExp(`^${directory}/bad.yaml:3:1: error: found unknown key "zons".*did you mean "zones"`))

  const json = headgate('check', '--format', 'json', `${directory}/bad.yaml`)
  t.equal(json.code, 1)
  t.match(JSON.parse(json.out), {
    ok: false,
    errors: 1,
    warnings: 0,
    findings: [{ file: `${directory}/bad.yaml`, line: 3, column: 1, severity: 'error', id: 'unknown-key' }],
  })

  const missing = headgate('check', `${directory}/none.yaml`)
  t.same(missing, { code: 2, out: '', err: `headgate: cannot read ${directory}/none.yaml: no such file\n` })
})

t.test('a command line that is not understood ends with 2 and says why', async (t) => {
  for (const [args, message] of [
    [['chek', 'x'], /^headgate: unknown command 'chek'\n\(Did you mean check\?\)\n$/],
    [['check'], /^headgate: missing required argument 'policy'\n$/],
    [['check', '--format', 'xml', 'x'], /^headgate: option '--format <format>' argument 'xml' is invalid/],
    [['check', '--stric', 'x'], /^headgate: unknown option '--stric'/],
    [['check', 'a', 'b'], /^headgate: too many arguments/],
  ] as const) {
    const { code, out, err } = headgate(...args)
    t.match(err, message, args.join(' '))
    t.same([code, out], [2, ''], args.join(' '))
  }
  t.match(headgate('--version'), { code: 0, out: /^\d+\.\d+\.\d+\n$/ })
  t.match(headgate('--help'), { code: 0, out: /^Usage: headgate/ })
})

t.test('check --claims prints what became of every claim', async (t) => {
  const { code, out } = headgate('check', '--claims', 'policies/refinery.yaml')
  t.equal(code, 0)
  t.match(out, /^\d+ +C1-BPCS-OPS +controls +"Connection rate limiting" +enforced here\n +limits connections/m)
  t.match(out, /\d+ {2}attested by people: .*never counted as met\n\npolicies\/refinery\.yaml: ok/)
  const json = JSON.parse(headgate('check', '--claims', '--format', 'json', 'policies/refinery.yaml').out)
  t.match(
    json.claims.find(({ form }: { form: string }) => form === 'rate-limit'),
    { status: 'enforced-here', key: 'controls', conduit: 'C1-BPCS-OPS', places: [{ what: 'limits of Modbus/TCP' }] },
  )
})
