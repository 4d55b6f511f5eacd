/**
 * Clients and servers that this project did not write, through Headgate: modbus-serial everywhere, mbpoll and pymodbus
 * (Debian's `mbpoll` and `python3-pymodbus`) where they are there.
 */
import { execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import net from 'node:net'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import ModbusSerial, { ServerTCP } from 'modbus-serial'
import t, { type Test } from 'tap'
import { freePort, TestGateway, TRANSPORTS } from '../support/gateway.ts'
import { modbusPolicy } from '../support/policy.ts'
import { sleep } from '../support/sockets.ts'

// The package is CommonJS, with its class as the default export of the default export.
const ModbusRTU = ModbusSerial as unknown as typeof ModbusSerial.default
const HOST = '127.0.0.1'
const support = (name: string): string => fileURLToPath(new URL(`../support/${name}`, import.meta.url))
const run = promisify(execFile)

/** Debian's own Python has the package; another that stands before it on PATH may not. */
const PYTHON = ['/usr/bin/python3', 'python3'].find(
  (python) => spawnSync(python, ['-c', 'import pymodbus.server']).status === 0,
)
const MBPOLL = ['/usr/bin/mbpoll', '/usr/local/bin/mbpoll'].find(existsSync)

interface Store {
  holding: Uint16Array
  coils: Uint8Array
  writes: number
}

async function serial(t: Test): Promise<{ store: Store; port: number }> {
  const store: Store = {
    holding: Uint16Array.from({ length: 200 }, (_, i) => i),
    coils: new Uint8Array(200),
    writes: 0,
  }
  const port = await freePort()
  const server = new ServerTCP(
    {
      getHoldingRegister: (at: number) => store.holding[at],
      getInputRegister: (at: number) => 1000 + at,
      getCoil: (at: number) => store.coils[at] === 1,
      getDiscreteInput: (at: number) => at % 2 === 1,
      setRegister: (at: number, value: number) => {
        store.writes++
        store.holding[at] = value
      },
      setCoil: (at: number, value: boolean) => {
        store.writes++
        store.coils[at] = value ? 1 : 0
      },
    },
    { host: HOST, port, unitID: 255 },
  )
  server.on('socketError', () => {})
  await once(server, 'initialized')
  t.teardown(() => server.close(() => {}))
  return { store, port }
}

async function pymodbusServer(t: Test): Promise<number> {
  const port = await freePort()
  const child = spawn(PYTHON as string, [support('pymodbus-server.py'), HOST, `${port}`], { stdio: 'ignore' })
  t.teardown(() => child.kill('SIGKILL'))
  for (let tries = 0; tries < 300; tries++) {
    const up = await new Promise<boolean>((resolve) => {
      const socket = net.connect({ port, host: HOST })
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
      socket.once('connect', () => socket.destroy())
    })
    if (up) return port
    await sleep(50)
  }
  throw new Error('the server of pymodbus does not listen')
}

interface Answer {
  name: string
  exception: number | null
  lost?: string
  registers?: number[]
  information?: Record<string, string>
}

async function pymodbus(port: number): Promise<Answer[]> {
  const { stdout } = await run(PYTHON as string, [support('pymodbus-client.py'), HOST, `${port}`, '127.0.0.9'])
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
}

/** Code of the exception that the client got, or 0. */
async function exceptionOf(request: Promise<unknown>): Promise<number> {
  try {
    await request
    return 0
  } catch (error) {
    const { modbusCode } = error as { modbusCode?: number }
    if (modbusCode === undefined) throw error
    return modbusCode
  }
}

const READS = 10

for (const io of TRANSPORTS) {
  t.test(`clients of others on ${io}`, { timeout: 90_000 }, async (t) => {
    const { store, port } = await serial(t)
    const python = PYTHON === undefined ? port : await pymodbusServer(t)
    const conduits = {
      serial: {
        target: port,
        functions: ['read', 6, 15],
        addresses: { 'holding-registers': ['0-99'], coils: ['0-9'], 'discrete-inputs': ['0-9'] },
      },
      all: { target: python, functions: ['all'] },
      read: { target: python, functions: ['read'] },
    }
    const listen: Record<string, number> = {}
    for (const name of Object.keys(conduits)) listen[name] = await freePort()
    const gateway = await TestGateway.start(
      modbusPolicy(
        Object.entries(conduits).map(([id, { target, ...rule }]) => ({
          id,
          rules: [{ name: id, ...rule }],
          listen: { host: HOST, port: listen[id] },
          target: { host: HOST, port: target },
        })),
        { io, metrics: { host: HOST, port: await freePort() } },
      ),
    )
    t.teardown(() => gateway.stop())

    await t.test('modbus-serial', async (t) => {
      const client = new ModbusRTU()
      await client.connectTCP(HOST, { port: listen.serial })
      client.setID(1)
      client.setTimeout(5000)
      t.teardown(() => client.close(() => {}))
      t.same((await client.readHoldingRegisters(0, 5)).data, [0, 1, 2, 3, 4])
      t.same((await client.readDiscreteInputs(0, 4)).data.slice(0, 4), [false, true, false, true])
      await client.writeRegister(99, 4711)
      t.equal(store.holding[99], 4711)
      await client.writeCoils(0, [true, false, true])
      t.same([...store.coils.subarray(0, 4)], [1, 0, 1, 0])
      t.same((await client.readCoils(0, 3)).data.slice(0, 3), [true, false, true])
      const { writes } = store
      t.equal(await exceptionOf(client.writeRegister(100, 1)), 2, 'a register that it may not write')
      t.equal(await exceptionOf(client.writeRegisters(0, [1, 2])), 1, 'a function that it may not use')
      t.equal(await exceptionOf(client.writeCoil(0, true)), 1)
      t.equal(await exceptionOf(client.readHoldingRegisters(95, 6)), 2, 'a range that ends outside')
      t.equal(store.writes, writes, 'none of them reached the server')
      // Many at once: the library pipelines, and tells answers by their transaction identifiers.
      const many = await Promise.all(Array.from({ length: 200 }, (_, i) => client.readHoldingRegisters(i % 90, 4)))
      t.same(
        many.map(({ data }) => data),
        many.map((_, i) => [0, 1, 2, 3].map((k) => (i % 90) + k)),
      )
    })

    await t.test('mbpoll', { skip: MBPOLL === undefined ? 'no mbpoll here' : false }, async (t) => {
      const poll = (...args: string[]) =>
        run(MBPOLL as string, ['-m', 'tcp', '-1', '-a', '1', '-p', `${listen.serial}`, HOST, ...args]).then(
          ({ stdout }) => stdout,
          (error: { stdout: string; stderr: string }) => `${error.stdout}${error.stderr}`,
        )
      t.match(
        await poll('-t', '4', '-r', '1', '-c', '5'),
        /\[1\]:\s+0\n\[2\]:\s+1\n\[3\]:\s+2\n\[4\]:\s+3\n\[5\]:\s+4\n/,
      )
      t.match(await poll('-t', '4', '-r', '51', '--', '42'), /Written 1 references/)
      t.equal(store.holding[50], 42)
      t.match(await poll('-t', '4', '-r', '151', '--', '42'), /Illegal data address/i)
      t.match(await poll('-t', '4', '-r', '1', '--', '1', '2'), /Illegal function/i)
      t.equal(store.holding[150], 150)
      t.equal(store.holding[0], 0)
    })

    await t.test('pymodbus', { skip: PYTHON === undefined ? 'no pymodbus here' : false }, async (t) => {
      const free = await pymodbus(listen.all)
      t.ok(free.length > READS + 8, `${free.length} requests`)
      t.same(
        free.filter(({ exception, lost }) => exception !== null || lost !== undefined),
        [],
        'where all is allowed, every request is answered',
      )
      t.same(free.find(({ name }) => name === 'read holding registers')?.registers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
      t.match(free.find(({ name }) => name === 'device identification')?.information, { 0: 'pymodbus', 1: 'PM' })
      const kept = await pymodbus(listen.read)
      t.same(
        kept.map(({ name, exception }) => [name, exception]),
        kept.map(({ name }, i) => [name, i < READS ? null : 1]),
        'where reads are, every other one gets exception 01',
      )
      t.same(
        kept.filter(({ lost }) => lost !== undefined),
        [],
      )
      const { requests, responses } = await gateway.counts('read')
      t.equal(requests['write-multiple-coils deny function'], 1)
      t.equal(requests['diagnostics deny function'], 2)
      t.same(responses, { allow: READS })
    })
  })
}
