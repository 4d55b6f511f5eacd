/** `headgate top`: what it makes of two scrapes, and of pages that are none. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { parse, Scrape } from '../../src/top/scrape.ts'
import { view } from '../../src/top/view.ts'

const page = (allowed: number, denied: number, cpu: number, slow: number): string => `
# HELP headgate_build_info Version.
# TYPE headgate_build_info gauge
headgate_build_info{version="1.2.3",node="24.0.0"} 1
headgate_policy_info{sha256="0123456789abcdef",file="p\\"o\\\\l.yaml"} 1
headgate_conduit_enforcing{conduit="C1"} 1
headgate_connections{conduit="C1",protocol="modbus"} 7
headgate_pending_requests{conduit="C1"} 2
headgate_requests_total{conduit="C1",protocol="modbus",function="read-coils",verdict="allow",reason=""} ${allowed}
headgate_requests_total{conduit="C1",protocol="modbus",function="write-single-coil",verdict="deny",reason="function"} ${denied}
headgate_worker_cpu_seconds_total{worker="0"} ${cpu}
headgate_response_seconds_bucket{le="0.001",conduit="C1",target="FAST"} 100
headgate_response_seconds_bucket{le="+Inf",conduit="C1",target="FAST"} 100
headgate_response_seconds_sum{conduit="C1",target="FAST"} 0.05
headgate_response_seconds_count{conduit="C1",target="FAST"} 100
headgate_response_seconds_bucket{le="0.001",conduit="C1",target="SLOW"} 0
headgate_response_seconds_bucket{le="0.25",conduit="C1",target="SLOW"} ${slow}
headgate_response_seconds_bucket{le="+Inf",conduit="C1",target="SLOW"} ${slow}
headgate_response_seconds_sum{conduit="C1",target="SLOW"} ${slow * 0.2}
headgate_response_seconds_count{conduit="C1",target="SLOW"} ${slow}
headgate_events_total{sink="log",result="lost"} 0
`

t.test('the text format is read as Prometheus writes it', async (t) => {
  const samples = parse('a 1\nb{x="1",y="q\\"\\\\\\n}"} 2.5\n# a 9\nc{} +Inf\nnonsense\nd{x="unclosed} 3\n')
  t.same(samples.get('a'), [{ labels: {}, value: 1 }])
  t.same(samples.get('b'), [{ labels: { x: '1', y: 'q"\\\n}' }, value: 2.5 }])
  t.same(samples.get('c'), [{ labels: {}, value: Number.POSITIVE_INFINITY }])
  t.equal(samples.has('d'), false)
})

t.test('rates come from two scrapes', async (t) => {
  const text = view(new Scrape(page(1500, 30, 10.5, 20), 12), new Scrape(page(500, 10, 10, 10), 10)).join('\n')
  t.match(text, /headgate 1\.2\.3 .* policy p"o\\l\.yaml 0123456789ab/)
  t.match(text, /C1 modbus +enforce +7 +500 +10 +0 +2$/m, 'connections, allowed and denied a second, pending')
  t.match(text, /^0 +25\.0 %$/m, 'half a second of CPU in two seconds')
  t.match(text, /SLOW +200 ms +≤ 250 ms +5\nFAST +0\.50 ms +≤ 1\.00 ms +0$/m, 'the slowest target first')
  t.match(text, /C1 write-single-coil function +10 +30$/m)
})

t.test('a gateway that was restarted shows no negative rates, and no control character gets through', async (t) => {
  const text = view(new Scrape(page(0, 0, 0, 1), 12), new Scrape(page(500, 10, 10, 10), 10)).join('\n')
  t.notMatch(text, /-\d/)
  const hostile = new Scrape('headgate_policy_info{sha256="x",file="\\n\u001b[2J"} 1\n', 1)
  t.ok(view(hostile, null).every((line) => !/[\u0000-\u001f]/.test(line)))
})

t.test('from the command line', async (t) => {
  let scrapes = 0
  const server = createServer((_, response) => response.end(page(1000 * ++scrapes, 0, scrapes, 10)))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as { port: number }
  const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
  const top = async (...args: string[]) => {
    const child = spawn(process.execPath, [
      '-e',
      `import('${main}').then((cli) => cli.main(['', '', ...process.argv.slice(1)]))`,
      '--',
      'top',
      ...args,
    ])
    const text = { out: '', err: '' }
    child.stdout.on('data', (chunk) => {
      text.out += chunk
    })
    child.stderr.on('data', (chunk) => {
      text.err += chunk
    })
    const [code] = await once(child, 'close')
    return { code, ...text }
  }
  const seen = await top('--url', `http://127.0.0.1:${port}/metrics`, '--once', '--interval', '0.5')
  t.equal(seen.code, 0, seen.err)
  t.match(seen.out, /C1 modbus +enforce +7 +[12],\d{3}/)
  t.match(await top('--url', 'http://127.0.0.1:1/metrics'), { code: 2, out: '', err: /nobody listens there/ })
  t.match(await top('--once', 'policies/quick-start.yaml'), { code: 2, err: /has no gateway\.metrics/ })
  t.match(await top(), { code: 2, err: /give its policy, or --url/ })

  // util-linux's script(1) gives it a terminal.
  const script = spawnSync('script', ['--version'])
  await t.test('in a terminal', { skip: script.status === 0 ? false : 'no script(1) here' }, async (t) => {
    const live = async (port: number, keys: string) => {
      const command = `'${process.execPath}' -e "import('${main}').then((cli) => cli.main(['', '', ...process.argv.slice(1)]))" -- top --url http://127.0.0.1:${port}/metrics --interval 0.2`
      const child = spawn('script', ['-qec', `stty rows 12 columns 60; ${command}`, '/dev/null'])
      t.teardown(() => child.kill('SIGKILL'))
      let out = ''
      let asked = false
      child.stdout.on('data', (chunk) => {
        out += chunk
        if (!asked && /C1 modbus/.test(out)) child.stdin.write(keys)
        asked ||= /C1 modbus/.test(out)
      })
      const [code] = await once(child, 'close')
      return { code, out }
    }
    const seen = await live(port, 'q')
    t.equal(seen.code, 0, 'q leaves')
    t.ok(
      seen.out.includes('\x1b[?1049h') && seen.out.trimEnd().endsWith('\x1b[?25h\x1b[?1049l'),
      'the screen is given back',
    )
    t.notMatch(seen.out, /[^\r\n]{200}/, 'no line is longer than the terminal, colours aside')
    t.match(await live(1, 'q'), { code: 2, out: /nobody listens there/ }, 'without a page it ends, and does not hang')
  })
})
