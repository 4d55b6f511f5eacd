/** Bad input, bad peers and bad luck on real sockets: nothing crashes, leaks or grows, and others do not notice. */
import { execFileSync, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { TRANSPORTS } from '../support/gateway.ts'
import { adu, registers, u16 } from '../support/modbus.ts'
import { answer } from '../support/server.ts'
import { type ConduitPlan, Site } from '../support/site.ts'
import { adus, connect, type Peer, sleep, until } from '../support/sockets.ts'

const MB = 1 << 20
const hexOf = (...frames: Uint8Array[]) => Buffer.concat(frames).toString('hex')
const read = (transaction: number, address = 0, quantity = 1) =>
  adu(transaction & 0xffff, 1, [3, ...u16(address), ...u16(quantity)])
const write = (transaction: number) => adu(transaction & 0xffff, 1, [6, 0, 0, 0, 1])
const denial = (transaction: number, code = 6) => adu(transaction & 0xffff, 1, [code | 0x80, 1])
const LONG_WRITE = adu(7, 1, [16, 0, 0, 0, 123, 246, ...registers(Array.from({ length: 123 }, (_, i) => i * 257))])

const reads = [{ functions: ['read'] }]
const PLANS = {
  witness: { rules: reads },
  plain: { rules: reads, timeouts: { partialFrameMs: 300, responseMs: 1000 } },
  writes: { rules: [{ functions: ['read', 'write'] }] },
  watched: { mode: 'monitor', rules: reads },
  deaf: { rules: reads, timeouts: { responseMs: 60_000 } },
  'watched deaf': { mode: 'monitor', rules: reads },
} as const satisfies Record<string, Omit<ConduitPlan, 'rules'> & { rules: readonly object[] }>

/** Reads all the while on a conduit of its own, and remembers what it had to wait. */
class Witness {
  slowest = 0
  answers = 0
  private stopped = false
  private readonly done: Promise<void>

  constructor(client: Peer) {
    this.done = this.run(client)
  }

  private async run(client: Peer): Promise<void> {
    for (let id = 1; !this.stopped; id++) {
      const frame = read(id, id & 0xfff, 3)
      client.clear()
      const start = performance.now()
      client.send(frame)
      await until(() => client.length >= 15 || client.state !== 'open', 'an answer to the witness')
      this.slowest = Math.max(this.slowest, performance.now() - start)
      if (client.hex !== hexOf(answer(frame))) throw new Error(`the witness asked ${id} and was told ${client.hex}`)
      this.answers++
      await sleep(3)
    }
    client.destroy()
  }

  async stop(): Promise<void> {
    this.stopped = true
    await this.done
  }
}

/** Bytes from a fixed seed (xorshift32), so that a failure can be had again. */
function noise(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length)
  let x = seed | 1
  for (let i = 0; i < length; i++) {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    bytes[i] = x
  }
  return bytes
}

async function check(t: Test, site: Site<keyof typeof PLANS>): Promise<void> {
  const { gateway } = site

  t.test('marks: many clients at once, and none sees what is another’s', async (t) => {
    const ask = async (name: 'plain' | 'watched', number: number) => {
      const client = await site.connect(name)
      let expected = Buffer.alloc(0)
      for (let round = 0; round < 10; round++) {
        const frames = Array.from({ length: 10 }, (_, i) =>
          read(round * 10 + i, number * 1000 + round * 10 + i, 1 + (i % 5)),
        )
        expected = Buffer.concat([expected, ...frames.map(answer)])
        client.send(Buffer.concat(frames))
        if (name === 'plain' && number % 3 === 0) {
          client.send(write(round))
          expected = Buffer.concat([expected, denial(round)])
        }
        await client.got(expected.length)
      }
      t.equal(client.hex, expected.toString('hex'), `client ${number} of ${name}`)
      client.destroy()
    }
    const numbers = Array.from({ length: 15 }, (_, i) => i + 1)
    await Promise.all(numbers.flatMap((number) => [ask('plain', number), ask('watched', number + 20)]))
  })

  t.test('garbage: HTTP, TLS, SSH, zeros and noise', async (t) => {
    const target = site.target('plain')
    const seen = target.received.length
    const texts = [
      'GET / HTTP/1.0\r\n\r\n',
      'SSH-2.0-x\r\n',
      '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
      '\0'.repeat(1000),
    ]
    const all = [
      ...texts.map((text) => Buffer.from(text, 'latin1')),
      ...Array.from({ length: 16 }, (_, i) => noise(20_000, i + 77)),
    ]
    await Promise.all(
      all.map(async (bytes) => {
        const client = await site.connect('plain')
        client.send(bytes)
        await client.closed()
        t.ok(
          adus(client.received).every((frame) => frame[7] >= 0x80),
          'exceptions, if anything',
        )
        client.destroy()
      }),
    )
    t.equal(target.received.length, seen, 'the target sees nothing of it')
    await Promise.all(
      all.map(async (bytes) => {
        const before = site.target('watched').connections.length
        const client = await site.connect('watched')
        client.send(bytes)
        await until(
          () =>
            site
              .target('watched')
              .connections.slice(before)
              .some((c) => c.received.equals(bytes)),
          'the bytes',
        )
        client.destroy()
      }),
    )
  })

  t.test('a frame cut at every possible byte', async (t) => {
    const cut = async (name: 'writes' | 'plain' | 'watched') => {
      const client = await site.connect(name)
      const index = site.target(name).connections.length
      await until(() => site.target(name).connections.length >= index, 'the dial')
      const each = name === 'plain' ? denial(7, 16) : answer(LONG_WRITE)
      for (let at = 1; at < LONG_WRITE.length; at++) {
        client.send(LONG_WRITE.subarray(0, at))
        await sleep(1)
        client.send(LONG_WRITE.subarray(at))
        if (at % 16 === 0) await client.got(each.length * at)
      }
      await client.got(each.length * (LONG_WRITE.length - 1))
      t.equal(client.hex, each.toString('hex').repeat(LONG_WRITE.length - 1), name)
      const last = site.target(name).last.received
      t.equal(last.length, name === 'plain' ? 0 : LONG_WRITE.length * (LONG_WRITE.length - 1), `${name}: at the target`)
      client.destroy()
    }
    await Promise.all([cut('writes'), cut('plain'), cut('watched')])
  })

  t.test('a response cut at every possible byte', async (t) => {
    const target = site.target('deaf')
    target.script = () => null
    const client = await site.connect('deaf')
    await until(() => target.connections.length > 0, 'the dial')
    const { last } = target
    const whole = Buffer.concat([answer(read(1, 5, 30)), answer(read(2, 6, 1))])
    for (let at = 1; at < whole.length; at++) {
      client.clear()
      client.send(Buffer.concat([read(1, 5, 30), write(9), read(2, 6, 1)]))
      await last.got(24 * at)
      last.send(whole.subarray(0, at))
      await sleep(1)
      last.send(whole.subarray(at))
      await client.got(whole.length + 9)
      const expected = hexOf(answer(read(1, 5, 30)), denial(9), answer(read(2, 6, 1)))
      if (client.hex !== expected) t.equal(client.hex, expected, `cut at ${at}`)
    }
    t.equal(last.length, 24 * (whole.length - 1))
    client.destroy()
  })

  t.test('10 000 frames in one write', async (t) => {
    const count = 10_000
    const ids = Array.from({ length: count }, (_, i) => i)
    const run = async (name: 'plain' | 'watched', mixed: boolean) => {
      const client = await site.connect(name)
      const frames = ids.map((id) => (mixed && id % 2 === 1 ? write(id) : read(id, id)))
      const expected = frames.map((frame, id) =>
        name === 'plain' && mixed && id % 2 === 1 ? denial(id) : answer(frame),
      )
      client.send(Buffer.concat(frames))
      const bytes = Buffer.concat(expected)
      await until(() => client.length >= bytes.length, `${name}: ${bytes.length} bytes, not ${client.length}`, 15_000)
      t.ok(
        client.received.equals(bytes),
        `${name}, ${mixed ? 'every other one a write' : 'reads'}: each answered, in order`,
      )
      client.destroy()
    }
    await run('plain', false)
    await run('plain', true)
    await run('watched', true)
  })

  t.test('half-closed sockets', async (t) => {
    for (const name of ['plain', 'watched'] as const) {
      const client = await site.connect(name)
      client.socket.end(Buffer.concat([read(1), read(2)]))
      await client.got(22)
      t.equal(await client.closed(), 'fin', name)
      t.equal(client.hex, hexOf(answer(read(1)), answer(read(2))), `${name}: the answers come first`)
      const other = await site.connect(name)
      const before = site.target(name)
      other.send(read(3))
      await other.got(11)
      before.last.socket.end()
      t.equal(await other.closed(), 'fin', `${name}: the target's end is told to the client`)
      other.destroy()
    }
    const part = await site.connect('plain')
    part.socket.end(read(1).subarray(0, 9))
    t.equal(await part.closed(), 'fin', 'in the middle of a frame')
  })

  t.test('resets at any moment, of either side', async (t) => {
    const stages: ((client: Peer, name: 'plain' | 'watched') => Promise<void>)[] = [
      async (client) => client.reset(),
      async (client) => {
        client.send(read(1).subarray(0, 8))
        await sleep(5)
        client.reset()
      },
      async (client) => {
        client.send(Buffer.concat(Array.from({ length: 500 }, (_, i) => read(i, 0, 125))))
        client.reset()
      },
      async (client) => {
        client.send(Buffer.concat(Array.from({ length: 500 }, (_, i) => read(i, 0, 125))))
        await client.got(1000)
        client.reset()
      },
      async (client, name) => {
        client.send(read(1))
        await client.got(11)
        site.target(name).last.reset()
        if (name === 'watched') t.equal(await client.closed(), 'reset', 'monitor mode hands a reset on')
        else {
          await sleep(20)
          t.equal(client.state, 'open', 'the client stays')
          client.send(read(2))
          await client.got(22)
          t.equal(client.hex, hexOf(answer(read(1)), answer(read(2))), 'and has its answer from another connection')
        }
        client.reset()
      },
      async (client, name) => {
        const target = site.target(name)
        target.script = (frame, connection) => {
          connection.socket.write(answer(frame).subarray(0, 8), () => connection.reset())
          return null
        }
        client.send(read(1))
        if (name === 'watched') await client.closed()
        else {
          await client.got(9)
          t.equal(client.hex, hexOf(adu(1, 1, [0x83, 0x0b])), 'lost in the middle of a response')
        }
        target.script = answer
        client.reset()
      },
      async (client, name) => {
        const target = site.target(name)
        target.onConnection = (connection) => connection.reset()
        const other = await site.connect(name)
        other.send(read(1))
        await other.got(name === 'plain' ? 9 : 0)
        target.onConnection = () => {}
        other.reset()
        client.reset()
      },
    ]
    for (const name of ['plain', 'watched'] as const) {
      for (const stage of stages) await stage(await site.connect(name), name)
    }
  })

  t.test('a target that accepts and closes, and one that is slow', async (t) => {
    const target = site.target('plain')
    target.onConnection = (connection) => connection.socket.end()
    for (let i = 0; i < 10; i++) {
      const client = await site.connect('plain')
      client.send(read(1))
      t.equal(await client.closed(), 'fin')
      t.ok(
        ['', hexOf(adu(1, 1, [0x83, 0x0b]))].includes(client.hex),
        'closed, with 0B where the request had come first',
      )
      client.destroy()
    }
    target.onConnection = () => {}
    target.script = (frame, connection) => {
      setTimeout(() => connection.send(answer(frame)), 60)
      return null
    }
    const client = await site.connect('plain')
    client.send(Buffer.concat([read(1), read(2)]))
    await client.got(22)
    t.equal(client.hex, hexOf(answer(read(1)), answer(read(2))))
    target.script = answer
    client.destroy()
  })

  t.test('slow clients: a frame that never ends is given up', async (t) => {
    const silent = await site.connect('plain')
    const trickle = await site.connect('plain')
    const start = performance.now()
    silent.send(LONG_WRITE.subarray(0, 100))
    const timer = setInterval(() => trickle.socket.writable && trickle.send(Buffer.from([0])), 20)
    trickle.send(LONG_WRITE.subarray(0, 20))
    await silent.closed()
    await trickle.closed()
    clearInterval(timer)
    const took = performance.now() - start
    t.ok(took > 280 && took < 1500, `within ${Math.round(took)} ms of 300`)
    const watched = await site.connect('watched')
    watched.send(LONG_WRITE.subarray(0, 100))
    await sleep(400)
    t.equal(watched.state, 'open', 'monitor mode waits')
    for (const client of [silent, trickle, watched]) client.destroy()
  })

  /** Bytes that the gateway has read of a conduit's clients, once it reads no more. */
  const readSoFar = async (conduit: string): Promise<number> => {
    let before = -1
    for (;;) {
      const now = await gateway.sample('headgate_bytes_total', { conduit, direction: 'in' })
      if (now === before) return now
      before = now
      await sleep(100)
    }
  }

  t.test('a client that never reads', async (t) => {
    const memory = gateway.memory()
    for (const frame of [write(1), read(1, 0, 125)]) {
      const before = await readSoFar('plain')
      const client = await site.connect('plain')
      client.socket.pause()
      const flood = Buffer.alloc(48 * MB, frame)
      client.send(flood)
      const taken = (await readSoFar('plain')) - before
      // What the kernel holds of the answers is a few megabytes; the gateway's own queue is bounded far below.
      t.ok(taken > 0 && taken < flood.length / 2, `FC ${frame[7]}: ${taken} bytes of ${flood.length} were taken`)
      client.reset()
    }
    const grown = gateway.memory() - memory
    t.ok(grown < 120 * MB, `memory grew by ${grown >> 20} MB`)
  })

  t.test('a target that never reads, then does', async (t) => {
    const memory = gateway.memory()
    for (const name of ['deaf', 'watched deaf'] as const) {
      const target = site.target(name)
      target.script = () => null
      target.onConnection = (connection) => connection.socket.pause()
      const dials = target.connections.length
      const before = await readSoFar(name)
      const client = await site.connect(name)
      // In monitor mode the bytes may be anything.
      const stream =
        name === 'deaf' ? Buffer.concat(Array.from({ length: 20_000 }, (_, i) => read(i))) : noise(32 * MB, 5)
      client.send(stream)
      const taken = (await readSoFar(name)) - before
      const connection = await target.connection(dials)
      t.ok(taken > 0 && taken < stream.length * 0.7, `${name}: ${taken} bytes of ${stream.length} were taken`)
      connection.socket.resume()
      if (name === 'watched deaf') {
        await until(() => connection.length >= stream.length, 'all bytes at the target', 20_000)
        t.ok(connection.received.equals(stream), 'every byte, unchanged and in order')
      } else {
        await sleep(100)
        t.ok(stream.subarray(0, connection.length).equals(connection.received), 'what the target has is in order')
        const held = connection.length / 12
        t.ok(held >= 256 && held < 12_000, `${held} requests are outstanding, no more are read`)
      }
      client.reset()
    }
    const grown = gateway.memory() - memory
    t.ok(grown < 120 * MB, `memory grew by ${grown >> 20} MB`)
  })
}

for (const io of TRANSPORTS) {
  t.test(`hostile peers on ${io}`, { timeout: 90_000 }, async (t) => {
    const site = await Site.open(io, PLANS as unknown as Record<keyof typeof PLANS, ConduitPlan>)
    const { gateway } = site
    // One connection first, so that what is opened once and kept is open already.
    const first = await site.connect('witness')
    first.send(read(1))
    await first.got(11)
    first.destroy()
    await until(() => site.target('witness').last.state !== 'open', 'its target to be closed')
    await gateway.metrics()
    await sleep(100)
    const sockets = gateway.sockets()
    const witness = new Witness(await site.connect('witness'))
    t.teardown(() => site.close())
    await check(t, site)
    t.test('afterwards', async (t) => {
      await witness.stop()
      t.ok(witness.answers > 200, `the witness had ${witness.answers} answers, all of them right`)
      // Peers and witness share this process, so that its own work is in the figure: no verdict hangs on it.
      t.comment(`the witness waited ${Math.round(witness.slowest)} ms at most`)
      for (const name of Object.keys(PLANS) as (keyof typeof PLANS)[]) site.target(name).clear()
      await until(() => gateway.sockets() <= sockets, `${gateway.sockets()} sockets to become ${sockets} again`)
      t.equal(await gateway.sample('headgate_connections', {}), 0, 'no connection is counted as open')
      t.equal(await gateway.sample('headgate_pending_requests', {}), 0, 'nor a request as pending')
      t.ok(gateway.alive)
      const wrong = gateway.events.filter(({ event }) => event.startsWith('worker') || event.startsWith('descriptors'))
      t.strictSame(wrong, [])
    })
  })
}

const noPrlimit = spawnSync('prlimit', ['--version']).error === undefined ? false : 'no prlimit (util-linux)'
const limitDescriptors = (pid: number, limit: number): void =>
  void execFileSync('prlimit', ['--pid', String(pid), `--nofile=${limit}:`])

/** CPU time of a process so far, in seconds. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

for (const io of TRANSPORTS) {
  t.test(`no descriptor left on ${io}`, { skip: noPrlimit, timeout: 60_000 }, async (t) => {
    const site = await Site.open(io, { C1: { rules: reads } })
    t.teardown(() => site.close())
    const { gateway } = site
    const port = site.policy({}).gateway?.listeners[0].listen.port as number
    /** One transaction on an open connection: whether it was answered with what was asked for. */
    const works = async (peer: Peer, id: number): Promise<boolean> => {
      peer.clear()
      peer.send(read(id, id))
      await peer.got(11)
      return peer.received.equals(answer(read(id, id)))
    }
    const established = await connect(port)
    t.ok(await works(established, 1))
    const idle = gateway.sockets()

    await t.test('connections beyond the limit are shed and told, those that stand stay', async (t) => {
      const used = new Set(readdirSync(`/proc/${gateway.pid}/fd`).map(Number))
      let free = 0
      while (used.has(free)) free++
      limitDescriptors(gateway.pid, free + 20)
      const peers = await Promise.all(Array.from({ length: 60 }, () => connect(port)))
      const event = await gateway.event('descriptors.exhausted')
      t.match(event.detail, /^accept.*; connections are shed$/)
      const open = () => peers.filter((peer) => peer.state === 'open')
      // Each takes two descriptors.
      await until(() => open().length <= 10, 'the rest to be shed')
      t.ok(open().length > 0, `${open().length} were taken`)
      for (const [i, peer] of open().entries()) t.ok(await works(peer, 100 + i))
      t.ok(await works(established, 2))
      for (const peer of peers) peer.destroy()
      await until(() => gateway.sockets() <= idle, 'the descriptors to be given back')
      const another = await connect(port)
      t.ok(await works(another, 3), 'a new connection is taken again')
      another.destroy()
      await until(() => gateway.sockets() <= idle, 'its descriptors to be given back')
    })

    await t.test('none at all: nothing spins, and all is well once there are some', async (t) => {
      limitDescriptors(gateway.pid, 3)
      let waiting: Peer | null = null
      if (io === 'epoll') {
        waiting = await connect(port)
        waiting.send(read(7, 7))
      } else {
        await gateway.event('descriptors.exhausted', {
          detail: 'no descriptor is left: listeners are closed until there are some',
        })
        await t.rejects(connect(port), { code: 'ECONNREFUSED' })
      }
      await sleep(100)
      const before = cpuSeconds(gateway.pid)
      await sleep(500)
      t.ok(cpuSeconds(gateway.pid) - before < 0.25, `${cpuSeconds(gateway.pid) - before} s of CPU in half a second`)
      t.ok(await works(established, 4))
      t.equal(waiting?.length ?? 0, 0)
      limitDescriptors(gateway.pid, 4096)
      for (let tries = 0; waiting === null && tries < 100; tries++) {
        waiting = await connect(port).catch(() => null)
        if (waiting === null) await sleep(50)
        else waiting.send(read(7, 7))
      }
      t.ok(waiting !== null, 'connections are taken again')
      await waiting?.got(11)
      t.ok(waiting?.received.equals(answer(read(7, 7))))
      waiting?.destroy()
    })
  })
}
