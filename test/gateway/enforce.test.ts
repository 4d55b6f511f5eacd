/** What a conduit that enforces does to real connections, on each transport. */
import net from 'node:net'
import t, { type Test } from 'tap'
import { TRANSPORTS } from '../support/gateway.ts'
import { adu, registers, subRequest, u16 } from '../support/modbus.ts'
import type { RuleText } from '../support/policy.ts'
import { answer } from '../support/server.ts'
import { type ConduitPlan, Site } from '../support/site.ts'
import { adus, type Peer, RawTarget, sleep, until } from '../support/sockets.ts'

const exception = (transaction: number, code: number, exceptionCode: number, unit = 1) =>
  adu(transaction, unit, [code | 0x80, exceptionCode])
const hexOf = (...frames: Uint8Array[]) => Buffer.concat(frames).toString('hex')
const read = (transaction: number, address = 0, quantity = 1) =>
  adu(transaction, 1, [3, ...u16(address), ...u16(quantity)])
const write = (transaction: number, address = 0, value = 1) => adu(transaction, 1, [6, ...u16(address), ...u16(value)])

/** A well-formed request of every function code: V1.1b3 §6, and two bytes of anything for the others. */
function request(code: number, address = 0): number[] {
  const at = u16(address)
  switch (code) {
    case 1:
    case 2:
    case 3:
    case 4:
      return [code, ...at, 0, 1]
    case 5:
      return [5, ...at, 0xff, 0]
    case 6:
      return [6, ...at, 0, 1]
    case 7:
    case 11:
    case 12:
    case 17:
      return [code]
    case 8:
      return [8, 0, 0, 0x12, 0x34]
    case 15:
      return [15, ...at, 0, 1, 1, 1]
    case 16:
      return [16, ...at, 0, 1, 2, 0, 1]
    case 20:
      return [20, 7, ...subRequest(4, 1, 2)]
    case 21:
      return [21, 9, ...subRequest(4, 1, 1), 0, 7]
    case 22:
      return [22, ...at, 0, 0, 0, 1]
    case 23:
      return [23, ...at, 0, 1, ...at, 0, 1, 2, 0, 1]
    case 24:
      return [24, ...at]
    case 43:
      return [43, 14, 1, 0]
    default:
      return [code, 1, 2]
  }
}

const ALL_CODES = Array.from({ length: 127 }, (_, i) => i + 1)
/** Of the issue, word for word. */
const GROUPS: Record<string, number[]> = {
  read: [1, 2, 3, 4, 7, 11, 12, 17, 20, 24, 43],
  write: [5, 6, 15, 16, 21, 22, 23],
  diagnostics: [8],
  program: [40, 42, 90, 125, 126],
  all: ALL_CODES,
}
const TABLES: Record<string, number[]> = {
  coils: [1, 5, 15],
  'discrete-inputs': [2],
  'input-registers': [4],
  'holding-registers': [3, 6, 16, 22, 23, 24],
}

const QUIRKS = {
  'unit-mismatch': (frame: Buffer) => {
    frame[6] = 0xff
    return frame
  },
  'zero-transaction-id': (frame: Buffer) => {
    frame.writeUInt16BE(0, 0)
    return frame
  },
  'transaction-id-mismatch': (frame: Buffer) => {
    frame.writeUInt16BE(0x4242, 0)
    return frame
  },
  'vendor-exceptions': (frame: Buffer) => adu(frame.readUInt16BE(0), frame[6], [frame[7] | 0x80, 0x80]),
  'trailing-bytes': (frame: Buffer) => adu(frame.readUInt16BE(0), frame[6], [...frame.subarray(7), 0]),
} as const
type QuirkName = keyof typeof QUIRKS
const QUIRK_NAMES = Object.keys(QUIRKS) as QuirkName[]

const READS: RuleText[] = [{ name: 'reads', functions: ['read'] }]
const quick = { responseMs: 250, connectMs: 1000 }

const PLANS = {
  pairs: {
    rules: [{ name: 'historian', from: ['127.8.0.0/24', '127.9.0.1'], to: ['127.0.0.0/8'], functions: ['read'] }],
  },
  elsewhere: { rules: [{ functions: ['read'], to: ['10.0.0.0/8'] }] },
  six: { host: '::1', rules: [{ functions: ['read'], from: ['::1/128'] }] },
  units: { rules: [{ unit_ids: [1, '10-12'], functions: ['read'] }] },
  ...Object.fromEntries(Object.keys(GROUPS).map((group) => [`group ${group}`, { rules: [{ functions: [group] }] }])),
  ...Object.fromEntries(
    Object.keys(TABLES).map((table) => [
      `table ${table}`,
      { rules: [{ functions: ['all'], addresses: { [table]: ['10-19'] } }] },
    ]),
  ),
  values: {
    rules: [
      {
        functions: [3, 6, 16],
        addresses: { 'holding-registers': ['0-19'] },
        values: { 'holding-registers': { '0-9': { min: 5, max: 100 }, '10-19': { max_step: 20 } } },
      },
    ],
  },
  drop: { on_deny: 'drop', rules: READS },
  reset: { on_deny: 'reset', rules: READS },
  mixed: {
    rules: [
      { name: 'unit 1', unit_ids: [1], functions: ['read'] },
      { name: 'unit 2', unit_ids: [2], functions: ['read'], on_deny: 'drop' },
      { name: 'unit 3', unit_ids: [3], functions: ['read'], on_deny: 'reset' },
      { name: 'unit 4', unit_ids: [4], functions: ['read'], mode: 'monitor' },
    ],
  },
  order: { rules: READS, script: () => null },
  silent: { rules: READS, script: () => null, timeouts: quick },
  late: { rules: READS, script: () => null, timeouts: quick },
  down: { rules: READS, timeouts: quick },
  busy: { rules: READS, limits: { requestsPerClientPerSecond: 1, burst: 3 } },
  paced: {
    rules: READS,
    limits: { requestsPerTargetPerSecond: 100, burst: 1, onLimit: 'pace', paceQueue: 20, paceMs: 3000 },
  },
  single: { rules: READS, script: () => null, limits: { inFlightPerTarget: 1, onLimit: 'pace' } },
  crowd: { rules: READS, limits: { connectionsPerClient: 2 } },
  reload: { rules: READS },
  leave: { rules: READS },
  ...Object.fromEntries(
    QUIRK_NAMES.flatMap((quirk) => {
      const script = (frame: Buffer) => QUIRKS[quirk](answer(frame))
      return [
        [`strict ${quirk}`, { rules: READS, script, timeouts: quick }],
        [`lax ${quirk}`, { rules: [{ functions: ['read'], tolerate: [quirk] }], script, timeouts: quick }],
      ]
    }),
  ),
} as Record<string, ConduitPlan>

/** Sends one request and returns its answer: `''` where it is dropped, which a read behind it tells. */
async function ask(client: Peer, frame: Buffer): Promise<string> {
  client.clear()
  const probe = read(0xeeee)
  client.send(Buffer.concat([frame, probe]))
  await until(() => client.hex.endsWith(hexOf(answer(probe))), `the answer to the probe, not ${client.hex}`)
  return client.hex.slice(0, -2 * answer(probe).length)
}

async function check(t: Test, site: Site<string>): Promise<void> {
  const { gateway } = site

  t.test('address pairs are judged before the target is dialled', async (t) => {
    for (const from of ['127.8.0.1', '127.8.0.255', '127.9.0.1']) {
      const client = await site.connect('pairs', from)
      client.send(read(1))
      await client.got(11)
      t.equal(client.hex, hexOf(answer(read(1))), from)
      client.destroy()
    }
    const dials = site.target('pairs').connections.length
    for (const [name, from] of [
      ['pairs', '127.8.1.0'],
      ['pairs', '127.9.0.2'],
      ['elsewhere', '127.8.0.1'],
    ]) {
      const client = await site.connect(name, from)
      t.equal(await client.closed(), 'reset', `${name} from ${from}`)
      t.match(await gateway.event('connection.refused', { client: from }), { reason: 'pair', conduit: name })
    }
    t.equal(site.target('pairs').connections.length, dials)
    t.equal(site.target('elsewhere').connections.length, 0)
    t.strictSame((await gateway.counts('pairs')).connections, { allow: 3, 'deny pair': 2 })
  })

  t.test('IPv6', async (t) => {
    const client = await site.connect('six')
    client.send(Buffer.concat([read(1), write(2)]))
    await client.got(20)
    t.equal(client.hex, hexOf(answer(read(1)), exception(2, 6, 1)))
    t.match(await gateway.event('request.denied', { conduit: 'six' }), { client: '::1', target: '::1' })
    client.destroy()
  })

  t.test('unit identifiers', async (t) => {
    const client = await site.connect('units')
    for (const unit of [0, 1, 2, 9, 10, 11, 12, 13, 255]) {
      const frame = adu(unit, unit, [3, 0, 0, 0, 1])
      const allowed = [1, 10, 11, 12].includes(unit)
      t.equal(
        await ask(client, frame),
        allowed ? hexOf(answer(frame)) : hexOf(exception(unit, 3, 1, unit)),
        `unit ${unit}`,
      )
    }
    client.destroy()
  })

  for (const [group, codes] of Object.entries(GROUPS)) {
    t.test(`group ${group}: its functions and no other`, async (t) => {
      const client = await site.connect(`group ${group}`)
      const frames = ALL_CODES.map((code) => adu(code, 1, request(code)))
      client.send(Buffer.concat(frames))
      const answers = frames.map((frame, i) => (codes.includes(i + 1) ? answer(frame) : exception(i + 1, i + 1, 1)))
      await client.got(Buffer.concat(answers).length)
      t.equal(client.hex, hexOf(...answers))
      const seen = adus(site.target(`group ${group}`).received).map((frame) => frame[7])
      t.strictSame(seen, codes)
      client.destroy()
    })
  }

  t.test('group read has FC 43 for MEI type 14 alone', async (t) => {
    const client = await site.connect('group read')
    client.send(adu(1, 1, [43, 13, 0, 0]))
    await client.got(9)
    t.equal(client.hex, hexOf(exception(1, 43, 1)))
    client.destroy()
  })

  for (const [table, codes] of Object.entries(TABLES)) {
    t.test(`${table}: addresses 10-19 of that table and of no other`, async (t) => {
      const client = await site.connect(`table ${table}`)
      const all = Object.values(TABLES).flat()
      const frames: Buffer[] = []
      const answers: Buffer[] = []
      for (const code of all) {
        for (const address of [9, 10, 19, 20]) {
          const frame = adu(code * 100 + address, 1, request(code, address))
          const within = codes.includes(code) && address >= 10 && address <= 19
          frames.push(frame)
          answers.push(within ? answer(frame) : exception(code * 100 + address, code, 2))
        }
      }
      // Files lie in no table.
      for (const code of [20, 21]) {
        frames.push(adu(code, 1, request(code)))
        answers.push(exception(code, code, 2))
      }
      client.send(Buffer.concat(frames))
      await client.got(Buffer.concat(answers).length)
      t.equal(client.hex, hexOf(...answers))
      client.destroy()
    })
  }

  t.test('values: limits, and steps from what another connection has read', async (t) => {
    const [writer, reader] = [await site.connect('values'), await site.connect('values')]
    const outcome = async (frame: Buffer) => {
      writer.clear()
      writer.send(frame)
      await writer.got(9)
      return writer.received[7] & 0x80 ? `exception ${writer.received[8]}` : 'written'
    }
    t.equal(await outcome(write(1, 0, 4)), 'exception 3')
    t.equal(await outcome(write(2, 0, 5)), 'written')
    t.equal(await outcome(write(3, 9, 100)), 'written')
    t.equal(await outcome(write(4, 9, 101)), 'exception 3')
    t.equal(await outcome(adu(5, 1, [16, 0, 8, 0, 2, 4, ...registers([50, 101])])), 'exception 3')
    t.equal(await outcome(write(6, 12, 1000)), 'exception 3', 'the present value is not known')
    reader.send(read(7, 12, 1))
    const present = (await reader.got(11)).readUInt16BE(9)
    t.equal(await outcome(write(8, 12, present + 21)), 'exception 3')
    t.equal(await outcome(write(9, 12, present + 20)), 'written')
    t.equal(await outcome(write(10, 12, present - 1)), 'exception 3', 'the step is from what was written')
    t.equal(await outcome(write(11, 12, present)), 'written')
    writer.destroy()
    reader.destroy()
  })

  t.test('on_deny: drop', async (t) => {
    const client = await site.connect('drop')
    client.send(Buffer.concat([write(1), read(2), write(3), read(4)]))
    await client.got(22)
    await sleep(30)
    t.equal(client.hex, hexOf(answer(read(2)), answer(read(4))))
    t.equal(site.target('drop').received.toString('hex'), hexOf(read(2), read(4)))
    client.destroy()
  })

  t.test('on_deny: reset closes both sides by RST; what was allowed before is sent', async (t) => {
    const client = await site.connect('reset')
    client.send(read(1))
    await client.got(11)
    client.send(Buffer.concat([read(2), write(3), read(4)]))
    t.equal(await client.closed(), 'reset')
    const target = site.target('reset').last
    await until(() => target.state !== 'open', 'the target to be closed')
    t.equal(target.state, 'reset')
    t.equal(target.hex, hexOf(read(1), read(2)))
  })

  t.test('a rule has its own on_deny and its own mode', async (t) => {
    const client = await site.connect('mixed')
    const to = (unit: number) => adu(unit, unit, [6, 0, 0, 0, 1])
    t.equal(await ask(client, to(1)), hexOf(exception(1, 6, 1, 1)))
    t.equal(await ask(client, to(2)), '')
    t.equal(await ask(client, to(4)), hexOf(answer(to(4))), 'the rule that comes nearest monitors')
    t.equal(await ask(client, to(5)), hexOf(exception(5, 6, 1, 5)))
    client.send(to(3))
    t.equal(await client.closed(), 'reset')
    const written = adus(site.target('mixed').received).filter((frame) => frame[7] === 6)
    t.strictSame(
      written.map((frame) => frame[6]),
      [4],
    )
    t.match(await gateway.event('request.would_deny', { conduit: 'mixed' }), {
      rule: 'unit 4',
      mode: 'monitor',
      reason: 'function',
    })
    t.strictSame((await gateway.counts('mixed')).requests['write-single-register would_deny function'], 1)
  })

  t.test('answers to denied requests wait for those before them', async (t) => {
    const client = await site.connect('order')
    const target = await site.target('order').connection(0)
    client.send(Buffer.concat([write(1), read(2), write(3), read(4), write(5), write(6)]))
    await target.got(24)
    // It may wait for the target's next response, yet not for long (decision 33).
    await client.got(9)
    await sleep(20)
    t.equal(client.hex, hexOf(exception(1, 6, 1)), 'only what nothing precedes')
    target.send(answer(read(2)))
    await client.got(9 + 11 + 9)
    await sleep(20)
    t.equal(client.hex, hexOf(exception(1, 6, 1), answer(read(2)), exception(3, 6, 1)))
    target.send(answer(read(4)).subarray(0, 5))
    await sleep(20)
    t.equal(client.length, 29, 'not into the middle of a response')
    target.send(answer(read(4)).subarray(5))
    await client.got(29 + 11 + 18)
    t.equal(client.hex.slice(58), hexOf(answer(read(4)), exception(5, 6, 1), exception(6, 6, 1)))
    // The same transaction identifier for all.
    client.clear()
    client.send(Buffer.concat([read(0, 1), write(0), read(0, 2), read(0, 3, 2)]))
    await target.got(60)
    target.send(Buffer.concat([answer(read(0, 1)), answer(read(0, 2)), answer(read(0, 3, 2))]))
    await client.got(44)
    t.equal(client.hex, hexOf(answer(read(0, 1)), exception(0, 6, 1), answer(read(0, 2)), answer(read(0, 3, 2))))
    client.destroy()
  })

  t.test('a silent target: 0B in its name, and the connection stays', async (t) => {
    const client = await site.connect('silent')
    client.send(Buffer.concat([read(1), write(2), read(3)]))
    await client.got(27)
    t.equal(client.hex, hexOf(exception(1, 3, 0x0b), exception(2, 6, 1), exception(3, 3, 0x0b)))
    t.equal(client.state, 'open')
    t.match(await gateway.event('target.timeout', { conduit: 'silent' }), { reason: 'timeout' })
    site.target('silent').script = answer
    client.clear()
    client.send(read(4))
    await client.got(11)
    t.equal(client.hex, hexOf(answer(read(4))))
    t.equal(site.target('silent').connections.length, 1)
    client.destroy()
  })

  t.test('late, duplicate and unsolicited responses never reach the client', async (t) => {
    const client = await site.connect('late')
    const target = await site.target('late').connection(0)
    client.send(read(1, 100))
    await client.got(9)
    client.clear()
    client.send(read(2, 200))
    await target.got(24)
    const right = answer(read(2, 200))
    target.send(Buffer.concat([answer(read(1, 100)), answer(read(9, 900)), right, right]))
    await client.got(11)
    client.send(read(3, 300))
    await target.got(36)
    target.send(answer(read(3, 300)))
    await client.got(22)
    t.equal(client.hex, hexOf(right, answer(read(3, 300))))
    t.strictSame((await gateway.counts('late')).responses, { allow: 2, 'deny state': 3, 'deny timeout': 1 })
    client.destroy()
  })

  t.test('a target that is down: 0A in its name; the connection stays, and works once it is up', async (t) => {
    const { port } = site.target('down')
    await site.target('down').close()
    const client = await site.connect('down')
    client.send(Buffer.concat([read(1), write(2)]))
    await client.got(18)
    t.equal(client.hex, hexOf(exception(1, 3, 0x0a), exception(2, 6, 1)))
    t.match(await gateway.event('target.unreachable', { conduit: 'down' }), { detail: 'ECONNREFUSED' })
    const target = await RawTarget.open(answer, port)
    client.clear()
    let tries = 0
    for (; client.received[7] !== 3 && tries < 40; tries++) {
      await sleep(50)
      client.clear()
      client.send(read(3))
      await client.got(9)
      await sleep(5)
    }
    t.equal(client.hex, hexOf(answer(read(3))), `after ${tries} tries`)
    t.equal(client.state, 'open')
    // The target restarts: its connections are reset in the middle of a request.
    target.script = (_, connection) => {
      connection.reset()
      return null
    }
    client.clear()
    client.send(read(4))
    await client.got(9)
    t.equal(client.hex, hexOf(exception(4, 3, 0x0b)))
    target.script = answer
    client.clear()
    client.send(read(5))
    await client.got(11)
    t.equal(client.hex, hexOf(answer(read(5))), 'dialled anew at once')
    client.destroy()
    await target.close()
  })

  for (const [index, quirk] of QUIRK_NAMES.entries()) {
    t.test(`quirk ${quirk}: denied, or tolerated and counted`, async (t) => {
      const clients = [await site.connect(`strict ${quirk}`), await site.connect(`lax ${quirk}`)]
      const frame = read(77 + index)
      for (const client of clients) client.send(frame)
      await Promise.all(clients.map((client) => client.got(9)))
      t.equal(clients[0].hex, hexOf(exception(77 + index, 3, 0x0b)))
      t.equal(clients[1].hex, hexOf(QUIRKS[quirk](answer(frame))))
      const strict = await gateway.counts(`strict ${quirk}`)
      const reason = quirk === 'vendor-exceptions' || quirk === 'trailing-bytes' ? 'malformed' : 'state'
      t.strictSame(strict.responses, { [`deny ${reason}`]: 1, 'deny timeout': 1 })
      t.equal(await gateway.sample('headgate_tolerated_total', { conduit: `lax ${quirk}`, quirk }), 1)
      t.equal(await gateway.sample('headgate_tolerated_total', { conduit: `strict ${quirk}` }), 0)
      t.match(await gateway.event('response.tolerated', { conduit: `lax ${quirk}` }), { detail: quirk })
      for (const client of clients) client.destroy()
    })
  }

  t.test('limits: over the rate 06; paced instead, all in order; one in flight; connections', async (t) => {
    const busy = await site.connect('busy')
    busy.send(Buffer.concat([1, 2, 3, 4].map((id) => read(id))))
    await busy.got(42)
    t.equal(busy.hex, hexOf(answer(read(1)), answer(read(2)), answer(read(3)), exception(4, 3, 6)))
    busy.destroy()

    const paced = await site.connect('paced')
    const ids = Array.from({ length: 20 }, (_, i) => i + 1)
    const start = performance.now()
    paced.send(Buffer.concat(ids.flatMap((id) => (id === 10 ? [write(id)] : [read(id)]))))
    await paced.got(19 * 11 + 9)
    const took = performance.now() - start
    t.equal(paced.hex, hexOf(...ids.map((id) => (id === 10 ? exception(id, 6, 1) : answer(read(id))))))
    t.ok(took > 150, `100 a second: 19 took ${Math.round(took)} ms`)
    paced.destroy()

    const single = await site.connect('single')
    const target = await site.target('single').connection(0)
    single.send(Buffer.concat([read(1), read(2), read(3)]))
    for (const id of [1, 2, 3]) {
      await target.got(12 * id)
      await sleep(10)
      t.equal(target.length, 12 * id, 'one request in flight')
      target.send(answer(read(id)))
    }
    await single.got(33)
    t.equal(single.hex, hexOf(answer(read(1)), answer(read(2)), answer(read(3))))
    single.destroy()

    const from = '127.10.0.1'
    const crowd = [await site.connect('crowd', from), await site.connect('crowd', from)]
    for (const client of crowd) client.send(read(1))
    await Promise.all(crowd.map((client) => client.got(11)))
    const third = await site.connect('crowd', from)
    t.equal(await third.closed(), 'reset')
    t.match(await gateway.event('connection.refused', { client: from }), { reason: 'rate' })
    crowd[0].destroy()
    await until(() => site.target('crowd').connections[0].state !== 'open', 'its target to be closed')
    const fourth = await site.connect('crowd', from)
    fourth.send(read(1))
    await fourth.got(11)
    t.equal(fourth.state, 'open', 'its place is given back')
    for (const client of [...crowd, fourth]) client.destroy()
  })

  t.test('reload: what is still allowed stays up under the new rules; what is not is closed', async (t) => {
    const stays = await site.connect('reload', '127.11.0.1')
    const leaves = await site.connect('leave', '127.11.0.2')
    for (const client of [stays, leaves]) client.send(read(1))
    await Promise.all([stays.got(11), leaves.got(11)])
    await gateway.reload(
      site.policy({
        reload: { rules: [{ functions: ['read', 6] }] },
        leave: { rules: [{ functions: ['read'], from: ['127.12.0.0/16'] }] },
      }),
    )
    stays.clear()
    stays.send(Buffer.concat([write(2), adu(3, 1, request(5))]))
    await stays.got(21)
    t.equal(stays.hex, hexOf(answer(write(2)), exception(3, 5, 1)))
    t.equal(await leaves.closed(), 'fin')
    leaves.destroy()
    t.match(await gateway.event('connection.closed', { client: '127.11.0.2' }), {
      detail: 'no longer allowed by the policy',
    })
    // Another reload, with a request outstanding: its answer still comes.
    const held = await site.connect('order')
    const target = site.target('order')
    await until(() => target.connections.length > 1, 'the dial')
    held.send(Buffer.concat([read(1), write(2)]))
    await target.last.got(12)
    await gateway.reload(site.policy({ order: { mode: 'monitor' } }))
    target.last.send(answer(read(1)))
    await held.got(20)
    t.equal(held.hex, hexOf(answer(read(1)), exception(2, 6, 1)))
    held.clear()
    held.send(write(3))
    await target.last.got(24)
    t.equal(target.last.hex, hexOf(read(1), write(3)), 'monitor mode from then on')
    t.match(await gateway.event('mode.changed', { conduit: 'order' }), { from_mode: 'enforce', mode: 'monitor' })
    for (const client of [stays, held]) client.destroy()
  })
}

for (const io of TRANSPORTS) {
  t.test(`enforce on ${io}`, { timeout: 60_000 }, async (t) => {
    const site = await Site.open(io, PLANS)
    await check(t, site)
    t.test('stopping: what is outstanding is answered, then all is closed', async (t) => {
      const client = await site.connect('late')
      const target = site.target('late')
      client.send(read(1))
      await until(() => target.last.length >= 12 && target.connections.length > 1, 'the request')
      const stopped = site.gateway.stop()
      await sleep(50)
      const refused = await site.connect('units').then(
        () => false,
        () => true,
      )
      t.ok(refused, 'nobody is let in any more')
      target.last.send(answer(read(1)))
      t.equal(await client.closed(), 'fin')
      t.equal(client.hex, hexOf(answer(read(1))))
      t.equal(await stopped, 0)
      t.ok(site.gateway.events.some(({ event }) => event === 'gateway.stopped'))
      await site.close()
    })
  })
}

t.test('a port that is taken is said so', async (t) => {
  const server = net.createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as net.AddressInfo
  for (const io of TRANSPORTS) {
    const { modbusPolicy } = await import('../support/policy.ts')
    const { TestGateway } = await import('../support/gateway.ts')
    const listen = { host: '127.0.0.1', port }
    const policy = modbusPolicy([{ id: 'C1', rules: READS, listen, target: listen }], { io })
    await t.rejects(TestGateway.start(policy), { message: `cannot listen on 127.0.0.1:${port}: the address is in use` })
  }
  server.close()
})
