/** Sessions in shared memory: limits, time-outs, two workers, one that dies. */
import { createHash, randomBytes } from 'node:crypto'
import t from 'tap'
import { MAX_SESSIONS, SharedSessions, sessionsBytes } from '../../src/limits/opcua-sessions.ts'
import { MAX_NONCE, type SessionRecord } from '../../src/protocols/opcua/terminate/session-store.ts'

const keyOf = (text: string): Buffer => createHash('sha256').update(text).digest()

const record = (more: Partial<SessionRecord> = {}): SessionRecord => ({
  thumbprint: new Uint8Array(randomBytes(20)),
  policy: 3,
  mode: 3,
  ownNonce: new Uint8Array(randomBytes(32)),
  serverNonce: new Uint8Array(randomBytes(32)),
  timeoutMs: 60_000,
  name: 'Historian',
  user: '',
  ...more,
})

function workers() {
  const time = { ms: 1_000_000 }
  const memory = new SharedArrayBuffer(sessionsBytes())
  const [one, two] = [0, 1].map((index) => new SharedSessions(memory, index, () => time.ms))
  return { time, one, two }
}

t.test('what one worker notes, another finds', async (t) => {
  const { one, two } = workers()
  const key = keyOf('a')
  const noted = record({ serverNonce: new Uint8Array(randomBytes(MAX_NONCE)), user: 'ä'.repeat(100) })
  const slot = one.reserve(1, 5)
  t.equal(two.find(key), -1, 'not before it is there')
  one.commit(slot, key, noted)
  t.equal(two.find(key), slot)
  t.same(two.read(slot), { ...noted, user: 'ä'.repeat(64) }, 'names as far as there is room')
  t.equal(two.find(keyOf('b')), -1)
  const [own, server] = [new Uint8Array(randomBytes(32)), new Uint8Array(randomBytes(40))]
  t.equal(two.renew(slot, key, own, server, 'anna'), true)
  t.match(one.read(slot), { ownNonce: own, serverNonce: server, user: 'anna', name: 'Historian' })
  t.equal(two.renew(slot, keyOf('b'), own, server, 'eve'), false, 'not with another token')
  two.remove(slot, keyOf('b'))
  t.equal(one.find(key), slot)
  two.remove(slot, key)
  t.equal(one.find(key), -1)
})

t.test('limits are of a conduit, over all workers; a place is given back', async (t) => {
  const { one, two } = workers()
  const first = one.reserve(1, 2)
  one.commit(first, keyOf('1'), record())
  const second = two.reserve(1, 2)
  t.not(second, -1)
  t.equal(one.reserve(1, 2), -1, 'one that is being made counts')
  t.not(one.reserve(2, 1), -1, 'of another conduit')
  one.cancel(second)
  t.equal(one.reserve(1, 2), -1, 'nobody gives back what another worker has taken')
  two.cancel(second)
  t.not(one.reserve(1, 2), -1)
  one.cancel(first)
  t.equal(one.find(keyOf('1')), first, 'nor one that is there')
})

t.test('a session that nobody uses is forgotten after its time-out; one in use is not', async (t) => {
  const { time, one } = workers()
  const used = one.reserve(1, 5)
  one.commit(used, keyOf('used'), record({ timeoutMs: 60_000 }))
  const idle = one.reserve(1, 5)
  one.commit(idle, keyOf('idle'), record({ timeoutMs: 60_000 }))
  const endless = one.reserve(1, 5)
  one.commit(endless, keyOf('endless'), record({ timeoutMs: Number.POSITIVE_INFINITY }))
  for (let i = 0; i < 3; i++) {
    time.ms += 30_000
    one.touch(used, keyOf('used'))
  }
  t.equal(one.find(keyOf('idle')), -1)
  t.equal(one.find(keyOf('used')), used)
  time.ms += 25 * 3_600_000
  t.equal(one.find(keyOf('endless')), -1, 'what a server says is bounded')
  for (const timeoutMs of [0, Number.NaN, -5]) {
    const slot = one.reserve(1, 50)
    one.commit(slot, keyOf(`${timeoutMs}`), record({ timeoutMs }))
    t.equal(one.find(keyOf(`${timeoutMs}`)), slot)
  }
})

t.test('a worker that dies: its sessions stay, what it was about to make does not', async (t) => {
  const { one, two } = workers()
  const slot = one.reserve(1, 2)
  one.commit(slot, keyOf('stays'), record())
  one.reserve(1, 2)
  t.equal(two.reserve(1, 2), -1)
  two.forfeit(0)
  t.not(two.reserve(1, 2), -1)
  t.equal(two.find(keyOf('stays')), slot)
})

t.test('a full table has no room, and says so', async (t) => {
  const { one } = workers()
  for (let i = 0; i < MAX_SESSIONS; i++) if (one.reserve(1, Number.POSITIVE_INFINITY) === -1) t.fail(`${i}`)
  t.equal(one.reserve(1, Number.POSITIVE_INFINITY), -1)
  t.equal(one.reserve(2, 5), -1)
})
