/** The zone implementation report: each format held to a golden file, to hostile text, and opened in a real browser. */
import { spawnSync } from 'node:child_process'
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { buckets } from '../../src/assurance/report/chart.ts'
import { compliance, FRAMEWORKS } from '../../src/assurance/report/compliance.ts'
import { countLabel, gather } from '../../src/assurance/report/facts.ts'
import { REPORT_FORMATS } from '../../src/assurance/report/formats.ts'
import { markdownText } from '../../src/assurance/report/markdown.ts'
import { formatReport } from '../../src/assurance/report/report.ts'
import { escapeXml } from '../../src/assurance/report/svg.ts'
import { plain } from '../../src/assurance/report/text.ts'
import { parseValidation } from '../../src/assurance/result.ts'
import { loadPolicy } from '../../src/policy/load.ts'
import { OPCUA_SERVICE_GROUPS } from '../../src/protocols/opcua/services.ts'
import { browse, noChromium } from '../support/chromium.ts'
import { FIXTURE, fixtureFacts, golden, goldenText, POLICY } from '../support/report-fixture.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const START = `import('${root}src/cli/main.ts').then((cli) => cli.main(['node', 'headgate', ...process.argv.slice(1)]))`

function headgate(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', START, '--', ...args], {
    cwd: root,
    encoding: 'utf8',
  })
  return { code: status, out: stdout, err: stderr }
}

/** The headings of the report that assessors know, in their order. */
const HEADINGS = ['ZONE ARCHITECTURE:', 'CONDUIT CONFIGURATION:', 'VALIDATION RESULTS:']

t.test('golden: every format of the fixture', async (t) => {
  const facts = await fixtureFacts()
  for (const format of REPORT_FORMATS) t.equal(goldenText(facts, format), golden(format), format)
})

t.test('the text has the form of the known report', async (t) => {
  const lines = golden('text').split('\n')
  t.same(lines.slice(0, 2), ['IEC 62443 Zone Implementation Report', '====================================='])
  t.match(lines[2], /^Facility: /)
  t.match(lines[3], /^Implementation Date: \d{4}-\d\d-\d\d/)
  t.match(lines[4], /^Standard: IEC 62443-3-2\/3-3/)
  t.same(lines.filter((line) => /^[A-Z ]+:$/.test(line)).slice(0, 3), HEADINGS)
  const zone = lines.indexOf('  Zone Z2-BPCS: Basic Process Control System (SL-T: 2)')
  t.match(lines[zone + 1], /^ {4}Assets: 14 /)
  t.equal(lines[zone + 2], '    Conduits: C1-BPCS-OPS')
  t.match(lines[zone + 3], /^ {4}Controls: .*firewall/)
  const conduit = lines.indexOf('  Conduit C1-BPCS-OPS: Z2-BPCS <-> Z3-OPS')
  t.match(lines[conduit + 1], /^ {4}Protocols: Modbus\/TCP 502: Z3 -> Z2/)
  t.match(lines[conduit + 2], /^ {4}Firewall Rules: 1 allow \/ 1 deny/)
  t.match(lines[conduit + 3], /^ {4}DPI Enabled: Yes/)
  const results = lines.indexOf('VALIDATION RESULTS:')
  t.equal(lines[results + 1], '  Cross-zone tests: 5 pass / 1 fail')
  t.equal(lines[results + 2], '  Prohibited path tests: all blocked (2 of 2)')
  t.match(lines[results + 3], /^ {2}Protocol enforcement: NOT verified: 1 of 3: FC 5 write-single-coil/)
})

t.test('compliance: facts and gaps, never a bare tick', async (t) => {
  const facts = await fixtureFacts()
  const mapped = compliance(facts)
  for (const { name, controls } of mapped) {
    for (const { id, shown, missing } of controls)
      t.ok(shown.length + missing.length > 0, `${name} ${id} says something`)
  }
  const of = (id: string) => mapped.flatMap(({ controls }) => controls).find((one) => one.id === id)
  t.match(of('SR 5.1')?.shown.join('\n'), /no conduit reaches the safety zone: Z1-SIS/)
  t.match(of('SR 2.1')?.missing.join('\n'), /1 probe found something else/)
  t.match(of('SR 3.9')?.shown.join('\n'), /verified/)
  t.same(of('PE-3')?.shown, [], 'what people attest is never shown as met')
  t.match(of('PE-3')?.missing.join('\n'), /USB ports disabled/)
  const wanted = [
    'SR 1.1',
    'SR 2.1',
    'SR 2.8',
    'SR 3.1',
    'SR 5.1',
    'SR 5.2',
    'SR 6.1',
    'SR 6.2',
    'SR 7.1',
    'SC-7',
    'SI-4',
    'PE-3',
  ]
  for (const id of wanted) t.ok(of(id), id)
  t.match(FRAMEWORKS.map(({ name }) => name).join(), /NIST CSF.*27001.*SOC 2/)

  // The same document with nothing to show for it.
  const { policy, findings, claims } = loadPolicy(POLICY)
  if (policy === null) throw new Error('the fixture has errors')
  const bare = await gather({
    policy,
    findings,
    suppressed: [],
    claims,
    evidence: [],
    keys: [],
    validations: [],
    implementationDate: null,
    now: new Date(0),
  })
  const without = compliance(bare).flatMap(({ controls }) => controls)
  t.same(without.find(({ id }) => id === 'SR 2.8')?.missing[0], 'no evidence was given')
  t.match(formatReport(bare, 'text'), /Cross-zone tests: not tested/)
  t.match(formatReport(bare, 'text'), /Implementation Date: 1970-01-01 \(day of this report; no sound evidence/)
})

t.test('what is encrypted past the gateway is not told as inspected', async (t) => {
  const rules = [{ name: 'all', from: ['B'], to: ['A'], services: OPCUA_SERVICE_GROUPS }]
  const opcua = { protocol: 'OPC UA', security_mode: 'SignAndEncrypt', rules }
  const document = {
    zones: [
      { zone_id: 'A', networks: ['127.0.0.0/24'] },
      { zone_id: 'B', networks: ['127.0.1.0/24'] },
    ],
    conduits: [{ conduit_id: 'C', connects: ['A', 'B'], mode: 'enforce', protocols_allowed: [opcua] }],
    gateway: { listeners: [{ conduit: 'C', protocol: 'OPC UA', listen: '127.0.0.1:4841', target: '127.0.0.2:4840' }] },
  }
  const file = `${t.testdir({ 'opcua.yaml': JSON.stringify(document) })}/opcua.yaml`
  const run = headgate('report', file, '--no-record')
  t.match(run.out, /DPI Enabled: Yes \(OPC UA: of encrypted channels the opening alone, enforcing\)/)
  t.match(run.out, /Missing: .*messages on encrypted channels of OPC UA are not read/)
  t.notMatch(run.out, /every OPC UA message is decoded/)
})

t.test('evidence that was tampered with is told everywhere, and shows nothing', async (t) => {
  const directory = t.testdir({})
  cpSync(`${FIXTURE}/evidence`, directory, { recursive: true })
  const file = `${directory}/evidence-000000000000.jsonl`
  writeFileSync(file, readFileSync(file, 'utf8').replace('"reason":"address"', '"reason":"addresz"'))
  const run = headgate('report', POLICY, '--evidence', directory, '--no-record')
  t.equal(run.code, 1, 'the exit code says so')
  t.match(run.out, /Verified: NO \(altered\): .* was altered/)
  t.match(run.out, /From evidence that does not verify: nothing below can be relied on/)
  t.match(run.out, /Chain head: no signature holds/)
  t.match(
    run.out,
    /SR 2\.8 Auditable events\n {6}Shown here: events go to tcp.*\n {6}Missing: the evidence does not verify/,
  )
  t.match(run.out, /Implementation Date: .*no sound evidence/)
  const sound = headgate('report', POLICY, '--evidence', `${FIXTURE}/evidence`, '--no-record', '--format', 'json')
  t.equal(sound.code, 0, sound.err)
  t.match(JSON.parse(sound.out), { format: 'headgate-report', evidence: { sound: true } })
  // A key that did not sign it.
  const other = 'headgate-evidence/0000000000000000+00000000+AQ'
  t.match(headgate('report', POLICY, '--evidence', directory, '--key', other).err, /not a verifier key/)
})

t.test('validations from elsewhere', async (t) => {
  const good = JSON.parse(readFileSync(`${FIXTURE}/validation.json`, 'utf8'))
  const directory = t.testdir({
    'other.json': JSON.stringify({ ...good, policy: { ...good.policy, sha256: 'f'.repeat(64) } }),
    'text.json': '{',
    'list.json': '[]',
  })
  const other = headgate('report', POLICY, '--validation', `${directory}/other.json`, '--no-record')
  t.equal(other.code, 0, 'a failed probe of another document is no failure of this one')
  t.match(other.out, /Cross-zone tests: not tested/)
  t.match(other.out, /Counts: no: made for another document, SHA-256 f{64}/)
  const mine = headgate('report', POLICY, '--validation', `${FIXTURE}/validation.json`, '--no-record')
  t.equal(mine.code, 1, 'a failed probe of this one is')
  for (const name of ['text', 'list', 'none']) {
    const { code, err } = headgate('report', POLICY, '--validation', `${directory}/${name}.json`)
    t.equal(code, 2, name)
    t.match(err, /^headgate: .{10,300}\n$/, 'one line')
  }
  const hostile: [unknown, RegExp][] = [
    [{ ...good, probes: [{ ...good.probes[0], outcome: 'ok' }] }, /probes\.0\.outcome/],
    [{ ...good, probes: [good.probes[0], good.probes[0]] }, /told twice/],
    [{ ...good, summary: { pass: 1000 } }, /summary/],
    [{ ...good, probes: [{ ...good.probes[0], what: 'x'.repeat(501) }] }, /what/],
    [{ ...good, version: 2 }, /version/],
  ]
  for (const [file, why] of hostile) t.throws(() => parseValidation(JSON.stringify(file), 'v.json'), why)
  t.throws(() => parseValidation('{"a":', 'v.json'), /not JSON/)
})

/** What would do something if it were not escaped. */
const HOSTILE = [
  '<script>alert(1)</script>',
  '"><img src=x onerror=alert(1)>',
  "' onload='alert(1)",
  ']]></svg><a href="javascript:alert(1)">x</a>',
  '[click](javascript:alert(1)) ![x](http://127.0.0.1/x.png)',
  '| a | b |\n|---|\n# heading',
  '</style><style>*{display:none}</style>',
  '\u001b[2J\u001b]0;title\u0007 \u202edrawkcab www.example.com user@example.com http://example.com `code` **bold**',
]

function hostileFacts(t: Test) {
  const { policy, findings, claims } = loadPolicy(POLICY)
  if (policy === null) throw new Error('the fixture has errors')
  const text = HOSTILE.join(' ')
  const zones = policy.zones.map((zone) => ({ ...zone, name: text, labels: [text], securityRequirements: [text] }))
  const conduits = policy.conduits.map((conduit) => ({
    ...conduit,
    name: text,
    controls: [text],
    protocols: conduit.protocols.map((protocol) => ({ ...protocol, protocol: text, direction: text })),
  }))
  const good = JSON.parse(readFileSync(`${FIXTURE}/validation.json`, 'utf8'))
  const probes = good.probes.map((one: object) => ({
    ...one,
    what: text,
    target: HOSTILE[0],
    observed: text,
    outcome: 'fail',
  }))
  const validation = `${t.testdir({ 'v.json': JSON.stringify({ ...good, host: HOSTILE[1], probes }) })}/v.json`
  return gather({
    policy: { ...policy, facility: text, standard: text, assessmentDate: text, zones, conduits } as typeof policy,
    suppressed: [],
    findings: [...findings, { id: 'x', severity: 'error', file: 'f', line: 1, column: 1, message: text }],
    claims: claims.map((claim) => ({ ...claim, part: text, by: text, detail: text })),
    evidence: [`${FIXTURE}/evidence/evidence-000000000000.jsonl`],
    keys: [],
    validations: [validation],
    implementationDate: null,
    now: new Date(0),
  })
}

t.test('hostile text stays text', async (t) => {
  const facts = await hostileFacts(t)
  const html = formatReport(facts, 'html')
  t.notMatch(html, /<(script|img|a href="javascript|iframe|object)/i)
  t.equal(html.match(/<style>/g)?.length, 1)
  t.notMatch(html, /<[^>]*\son\w+\s*=/i, 'no handler in any tag')
  for (const format of ['text', 'markdown', 'html'] as const) {
    t.notMatch(
      formatReport(facts, format),
      /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/,
      `${format}: no control character`,
    )
  }
  const markdown = formatReport(facts, 'markdown')
  t.notMatch(markdown, /(?<!\\)\[click|<script|<img|^# heading/m)
  t.notMatch(markdown, /(?<!\\)`code|www\.example|http:\/\/|r@example/, 'no code, no bare link')
  const table = markdown.split('\n').filter((line) => line.startsWith('| '))
  t.ok(table.length > 10)
  t.ok(table.every((line) => line.endsWith(' |')))
  t.equal(markdownText('a|b'), 'a\\|b')
  t.equal(escapeXml(`<&>"'`), '&lt;&amp;&gt;&quot;&#39;')
  t.equal(plain('a\u001b[2J\nb\u202e'), 'a [2J b')
})

t.test('small parts', async (t) => {
  t.equal(countLabel('Allen-Bradley ControlLogix PLCs (PLC-01 through PLC-12)'), 12)
  t.equal(countLabel('Triconex 3008 Safety Controllers (SIS-01, SIS-02)'), 2)
  t.equal(countLabel('SIS Engineering Workstation'), 1)
  t.equal(countLabel('odd (PLC-12 through PLC-01)'), 1)
  const one = { denied: 1, refused: 0, would_deny: 0 }
  t.equal(
    buckets(
      new Map([
        [10, one],
        [15, one],
      ]),
    ).length,
    6,
    'hours, gaps included',
  )
  t.equal(
    buckets(
      new Map([
        [0, one],
        [24 * 9, one],
      ]),
    ).length,
    10,
    'days',
  )
  t.ok(
    buckets(
      new Map([
        [0, one],
        [24 * 3000, one],
      ]),
    ).length <= 92,
    'never more than paper can show',
  )
  t.same(
    buckets(
      new Map([
        [0, one],
        [24 * 3000, one],
      ]),
    ).reduce((sum, { counts }) => sum + counts.denied, 0),
    2,
    'nothing is lost',
  )
})

t.test('the command', async (t) => {
  const directory = t.testdir({ 'bad.yaml': 'zones: []\n' })
  const outputs = ['r.txt', 'r.md', 'r.html', 'r.json'].map((name) => `${directory}/${name}`)
  const run = headgate('report', POLICY, ...outputs.flatMap((path) => ['--output', path]), '--no-record')
  t.same(run, { code: 0, out: '', err: '' })
  const starts = [/^IEC 62443 Zone/, /^# IEC 62443/, /^<!doctype html>/, /^\{\n/]
  for (const [i, path] of outputs.entries()) t.match(readFileSync(path, 'utf8'), starts[i], path)
  t.match(headgate('report', POLICY, '--implementation-date', '2026-02-30'), { code: 2, err: /expected a day/ })
  t.match(headgate('report', `${directory}/bad.yaml`), { code: 1, err: /error: / })
  t.match(headgate('report', `${directory}/none.yaml`), { code: 2, err: /no such file/ })
  t.match(headgate('report', POLICY, '--evidence', directory), { code: 2, err: /no evidence files/ })
})

t.test('in a browser', { skip: noChromium() }, async (t) => {
  const facts = await fixtureFacts()
  const hostile = await hostileFacts(t)
  const directory = t.testdir({
    'report.html': formatReport(facts, 'html'),
    'hostile.html': formatReport(hostile, 'html'),
  })
  const context = await browse(t)
  for (const name of ['report', 'hostile']) {
    const page = await context.newPage()
    const complaints: string[] = []
    const requests: string[] = []
    page.on('console', (message) => complaints.push(message.text()))
    page.on('pageerror', (error) => complaints.push(error.message))
    page.on('dialog', (dialog) => {
      complaints.push(`dialog ${dialog.message()}`)
      void dialog.dismiss()
    })
    page.on('request', (request) => requests.push(request.url()))
    await page.goto(`file://${directory}/${name}.html`)
    const headings = await page.locator('h2').allTextContents()
    t.same(
      headings.slice(0, 3),
      HEADINGS.map((one) => one.slice(0, -1)),
      `${name}: headings`,
    )
    t.equal(await page.locator('h1').textContent(), 'IEC 62443 Zone Implementation Report')
    t.equal(await page.locator('script, img, iframe, [onload], [onerror], a[href^="javascript"]').count(), 0)
    t.ok((await page.locator('svg[role=img] > title').count()) >= 2, 'drawings have names')
    const wide = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')
    t.equal(wide, 0, `${name}: nothing sticks out`)
    const pdf = await page.pdf({ preferCSSPageSize: true, printBackground: true })
    t.equal(pdf.subarray(0, 5).toString(), '%PDF-')
    t.ok(pdf.length > 20_000, 'it prints')
    t.same(complaints, [], `${name}: no complaint`)
    t.same(requests, [`file://${directory}/${name}.html`], 'nothing else is fetched')
    await page.close()
  }
})
