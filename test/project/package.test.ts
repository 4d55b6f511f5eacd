/** What `npm pack` makes installs with production dependencies alone, and carries traffic. */
import { spawn, spawnSync } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = fileURLToPath(new URL('../..', import.meta.url))
/** npm's own settings of the surrounding `npm test` would steer the inner one. */
const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith('npm_')))

t.test('the packed tarball', { timeout: 110_000 }, async (t) => {
  const directory = t.testdir({ 'package.json': '{ "private": true }' })
  const npm = (...args: string[]) => spawnSync('npm', args, { cwd: directory, env, encoding: 'utf8' })

  const packed = npm('pack', '--ignore-scripts', '--json', root)
  t.equal(packed.status, 0, packed.stderr)
  const [{ filename, files }] = JSON.parse(packed.stdout) as [{ filename: string; files: { path: string }[] }]
  const paths = files.map((file) => file.path)
  for (const file of ['bin/headgate.js', 'dist/cli/main.js', 'policies/refinery.yaml', 'LICENSE', 'README.md']) {
    t.ok(paths.includes(file), `${file} is in the package`)
  }
  t.same(
    paths.filter((path) => /^(src|test|bench|demo|node_modules|\.)/.test(path)),
    [],
    'and nothing of the workshop',
  )

  const installed = npm('install', '--omit=dev', '--no-audit', '--no-fund', '--prefer-offline', `./${filename}`)
  if (installed.status !== 0 && /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT/.test(installed.stderr)) {
    t.pass('installs', { skip: 'the package registry cannot be reached' })
    return
  }
  t.equal(installed.status, 0, installed.stderr)
  const modules = readdirSync(`${directory}/node_modules`)
  t.notOk(
    modules.some((name) => ['tap', 'typescript', 'node', 'modbus-serial'].includes(name)),
    'production packages alone',
  )

  // A target that answers one register, and the gateway from the package before it.
  const target = createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (request) => socket.write(Buffer.from([...request.subarray(0, 4), 0, 5, 1, 3, 2, 0x12, 0x34])))
  })
  await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve))
  t.teardown(() => target.close())
  const { port } = target.address() as { port: number }
  const listen = await freePort()
  writeFileSync(`${directory}/policy.yaml`, policy(listen, port))
  const headgate = `${directory}/node_modules/.bin/headgate`
  const checked = spawnSync(process.execPath, [headgate, 'check', 'policy.yaml'], { cwd: directory, encoding: 'utf8' })
  t.same([checked.status, checked.stderr], [0, ''], checked.stdout)

  const gateway = spawn(process.execPath, [headgate, 'run', 'policy.yaml'], { cwd: directory })
  t.teardown(() => gateway.kill('SIGKILL'))
  const ended = new Promise((resolve) => gateway.once('exit', resolve))
  await new Promise<void>((resolve, reject) => {
    gateway.once('exit', (code) => reject(new Error(`the gateway ended with ${code}`)))
    createInterface({ input: gateway.stdout }).on('line', (line) => {
      if (JSON.parse(line).event === 'gateway.ready') resolve()
    })
  })
  const client = connect(listen, '127.0.0.1')
  t.teardown(() => client.destroy())
  const answer = new Promise<Buffer>((resolve) => client.once('data', resolve))
  client.write(Buffer.from([0, 1, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1]))
  t.equal((await answer).toString('hex'), '000100000005010302' + '1234', 'a read passes')
  const refusal = new Promise<Buffer>((resolve) => client.once('data', resolve))
  client.write(Buffer.from([0, 2, 0, 0, 0, 6, 1, 6, 0, 0, 0, 1]))
  t.equal((await refusal).toString('hex'), '00020000000301' + '8601', 'a write is refused with exception 01')
  client.end()
  gateway.kill('SIGTERM')
  t.equal(await ended, 0, 'SIGTERM ends it in order')
})

/** A port below the ephemeral range, where no outgoing connection can take it first. */
async function freePort(): Promise<number> {
  for (let port = 21_000 + (process.pid % 5000); ; port++) {
    const server = createServer()
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false))
      server.listen(port, '127.0.0.1', () => resolve(true))
    })
    if (!free) continue
    await new Promise((resolve) => server.close(resolve))
    return port
  }
}

const policy = (listen: number, target: number): string => `zones:
  - { zone_id: CELL, networks: [127.0.0.0/8] }
  - { zone_id: OPS, networks: [127.0.0.0/8] }
conduits:
  - conduit_id: C
    connects: [CELL, OPS]
    mode: enforce
    protocols_allowed:
      - protocol: Modbus/TCP
        rules: [{ from: [127.0.0.1], to: [127.0.0.1], functions: [read] }]
gateway:
  workers: 1
  listeners: [{ conduit: C, listen: "127.0.0.1:${listen}", target: "127.0.0.1:${target}" }]
`
