/** `headgate bench` measures a real gateway; a bad figure on its command line is told. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const bench = (...args: string[]) =>
  spawnSync(
    process.execPath,
    ['-e', `import('${main}').then((cli) => cli.main(['', '', ...process.argv.slice(1)]))`, '--', 'bench', ...args],
    { encoding: 'utf8' },
  )

t.test('a short measurement', { timeout: 60_000 }, async (t) => {
  const { status, stdout, stderr } = bench('--seconds', '1', '--connections', '4', '--workers', '1', '--format', 'json')
  t.equal(status, 0, stderr)
  const { direct, through, io, cpuPerTransaction } = JSON.parse(stdout)
  t.ok(direct.transactions > 100 && through.transactions > 100)
  t.ok(through.p50 > 0 && through.p99 >= through.p50)
  t.match(io, /^(epoll|net)$/)
  if (process.platform === 'linux') t.ok(cpuPerTransaction > 0.1 && cpuPerTransaction < 1000)
})

t.test('bad figures', async (t) => {
  for (const args of [
    ['--seconds', '0'],
    ['--connections', 'many'],
    ['--depth', '65'],
    ['--workers', 'none'],
    ['--io', 'tcp'],
  ]) {
    const { status, stderr } = bench(...args)
    t.equal(status, 2, args.join(' '))
    t.match(stderr, /^headgate: option '--\w+ <\w+>' argument '\w+' is invalid\./, args.join(' '))
  }
})
