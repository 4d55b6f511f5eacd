/** `npm start -- --once`: the whole plant, the real gateway, every outcome. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = fileURLToPath(new URL('../..', import.meta.url))

t.test('one round of the demonstration', { timeout: 60_000 }, async (t) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['demo/main.ts', '--once'], {
    cwd: root,
    encoding: 'utf8',
  })
  t.equal(status, 0, stderr)
  t.match(stdout, /every outcome was the expected one/)
  t.match(stdout, /historian .* reads holding registers 0-9 +✓ 0 1 2 3/)
  t.match(stdout, /intruder .* writes a register +✗ exception 01 illegal-function/)
  t.match(stdout, /request\.denied: function, nearest rule "operations read"/)
  t.match(stdout, /stranger .* ✗ connection closed/)
  t.match(stdout, /historian .* → OPC-01 +reads Line1\.Speed, Line2\.Speed +✓ \d+\.\d \d+\.\d/)
  t.match(stdout, /historian .* writes Line1\.Setpoint = 60 +✗ BadUserAccessDenied/)
  t.match(stdout, /services allowed: discovery, session, browse, read, subscribe\)/)
  t.match(stdout, /engineer .* writes Line1\.Setpoint = 60 +✓ done/)
  t.match(stdout, /engineer .* writes Line1\.Setpoint = 120 +✗ BadUserAccessDenied/)
  t.match(stdout, /engineer .* writes setpoints of lines 1 and 2 at once +✓ Good, BadUserAccessDenied/)
  t.match(stdout, /engineer .* calls Line1\.Start +✗ BadUserAccessDenied/)
  t.match(stdout, /impostor .* opens a session +✗ connection closed/)
  t.match(stdout, /supervision .* → OPC-02 +writes Line1\.Setpoint = 60 +✗ connection closed/)
  t.match(stdout, /http:\/\/127\.0\.0\.1:9464\/metrics/)
})
