/**
 * Who speaks to the PLCs, and what should become of it. The honest ones use `modbus-serial`; the intruder writes its
 * frames by hand, since no library sends such things.
 */
import { connect, type Socket } from 'node:net'
import ModbusSerial from 'modbus-serial'

// The package is CommonJS, with its class as the default export of the default export.
const ModbusRTU = ModbusSerial as unknown as typeof ModbusSerial.default

/** What the client saw: the value read, an exception, or the end of its connection. */
export type Outcome =
  | { kind: 'answer'; text: string }
  | { kind: 'exception'; code: number }
  /** OPC UA: the name of a status code. */
  | { kind: 'status'; name: string }
  | { kind: 'closed' }
  | { kind: 'silence' }

export interface Step {
  what: string
  /** `answer`, `closed`, or the exception code or the name of the status that should come. */
  expect: string | number
  /** The reason that Headgate should give for a denial. */
  reason?: string
  run(): Promise<Outcome>
}

export interface Actor {
  name: string
  address: string
  target: string
  steps: Step[]
  close(): Promise<void>
}

export interface Endpoint {
  host: string
  port: number
}

const TIMEOUT_MS = 3000

/** A client of the plant, with its own source address. */
async function client(address: string, to: Endpoint, unit: number) {
  const modbus = new ModbusRTU()
  await modbus.connectTCP(to.host, { port: to.port, localAddress: address } as Parameters<typeof modbus.connectTCP>[1])
  modbus.setTimeout(TIMEOUT_MS)
  modbus.setID(unit)
  return modbus
}

type Modbus = Awaited<ReturnType<typeof client>>

async function outcome(request: Promise<unknown>, text: (result: never) => string): Promise<Outcome> {
  try {
    return { kind: 'answer', text: text((await request) as never) }
  } catch (error) {
    const { modbusCode, name } = error as { modbusCode?: number; name?: string }
    if (modbusCode !== undefined) return { kind: 'exception', code: modbusCode }
    return { kind: name === 'TransactionTimedOutError' ? 'silence' : 'closed' }
  }
}

const values = ({ data }: { data: number[] }): string => data.slice(0, 4).join(' ') + (data.length > 4 ? ' …' : '')
const identification = ({ data }: { data: Record<string, string> }): string => Object.values(data).join(', ')
const done = (): string => 'done'

export async function historian(to: Endpoint): Promise<Actor> {
  const address = '127.0.30.20'
  const modbus: Modbus = await client(address, to, 1)
  return {
    name: 'historian',
    address,
    target: 'PLC-01',
    steps: [
      {
        what: 'reads holding registers 0-9',
        expect: 'answer',
        run: () => outcome(modbus.readHoldingRegisters(0, 10), values),
      },
      {
        what: 'reads input registers 0-3',
        expect: 'answer',
        run: () => outcome(modbus.readInputRegisters(0, 4), values),
      },
    ],
    close: async () => modbus.close(() => {}),
  }
}

export async function engineer(to: Endpoint): Promise<Actor> {
  const address = '127.0.20.5'
  const modbus: Modbus = await client(address, to, 1)
  let setpoint = 1000
  return {
    name: 'engineer',
    address,
    target: 'PLC-01',
    steps: [
      {
        what: 'reads setpoints 100-109',
        expect: 'answer',
        run: () => outcome(modbus.readHoldingRegisters(100, 10), values),
      },
      {
        what: 'writes setpoint 105, a step of 100',
        expect: 'answer',
        run: () => {
          setpoint = setpoint === 1000 ? 1100 : 1000
          return outcome(modbus.writeRegister(105, setpoint), done)
        },
      },
      {
        what: 'writes setpoints 110-111',
        expect: 'answer',
        run: () => outcome(modbus.writeRegisters(110, [7, 8]), done),
      },
      {
        what: 'reads the device identification',
        expect: 'answer',
        run: () => outcome(modbus.readDeviceIdentification(1, 0), identification),
      },
      {
        what: 'mistypes setpoint 105: 45000',
        expect: 3,
        reason: 'value',
        run: () => outcome(modbus.writeRegister(105, 45_000), done),
      },
      {
        what: 'writes register 500, which is no setpoint',
        expect: 2,
        reason: 'address',
        run: () => outcome(modbus.writeRegister(500, 1), done),
      },
    ],
    close: async () => modbus.close(() => {}),
  }
}

/** A host of the operations zone that somebody has taken over: it may read, and tries the rest. */
export async function intruder(to: Endpoint): Promise<Actor> {
  const address = '127.0.30.30'
  const raw = new RawClient(address, to)
  const step = (what: string, expect: Step['expect'], reason: string, pdu: number[], unit = 1): Step => ({
    what,
    expect,
    reason,
    run: () => raw.ask(unit, Buffer.from(pdu)),
  })
  return {
    name: 'intruder',
    address,
    target: 'PLC-01',
    steps: [
      step('writes a coil', 1, 'function', [5, 0, 0, 0xff, 0]),
      step('writes a register', 1, 'function', [6, 0, 105, 0xff, 0xff]),
      step('writes registers', 1, 'function', [16, 0, 105, 0, 1, 2, 0xff, 0xff]),
      step('writes by read/write registers', 1, 'function', [23, 0, 0, 0, 1, 0, 105, 0, 1, 2, 0xff, 0xff]),
      step('diagnostics: restart communications', 1, 'function', [8, 0, 1, 0xff, 0]),
      step('an unknown function, 90', 1, 'function', [90, 0, 2]),
      step('reads registers it may not', 2, 'address', [3, 0x27, 0x10, 0, 10]),
      step('a malformed frame: quantity 0', 3, 'malformed', [3, 0, 0, 0, 0]),
      {
        what: 'a frame with a false length',
        expect: 'closed',
        reason: 'malformed',
        run: () => raw.send(Buffer.from([0, 1, 0, 0, 0xff, 0xff, 1, 3, 0, 0, 0, 1])),
      },
    ],
    close: async () => raw.close(),
  }
}

/** A host of the enterprise network, which no rule knows. */
export async function stranger(to: Endpoint): Promise<Actor> {
  const address = '127.0.50.66'
  const raw = new RawClient(address, to)
  return {
    name: 'stranger',
    address,
    target: 'PLC-01',
    steps: [
      {
        what: 'connects and reads',
        expect: 'closed',
        reason: 'pair',
        run: () => raw.ask(1, Buffer.from([3, 0, 0, 0, 1])),
      },
    ],
    close: async () => raw.close(),
  }
}

/** Sends any bytes, and tells what came back. Connects anew where the last connection was closed. */
class RawClient {
  private readonly address: string
  private readonly to: Endpoint
  private socket: Socket | null = null
  private transaction = 0

  constructor(address: string, to: Endpoint) {
    this.address = address
    this.to = to
  }

  ask(unit: number, pdu: Buffer): Promise<Outcome> {
    const header = Buffer.alloc(7)
    this.transaction = (this.transaction + 1) & 0xffff
    header.writeUInt16BE(this.transaction, 0)
    header.writeUInt16BE(pdu.length + 1, 4)
    header[6] = unit
    return this.send(Buffer.concat([header, pdu]))
  }

  send(frame: Buffer): Promise<Outcome> {
    const socket =
      this.socket ?? connect({ host: this.to.host, port: this.to.port, localAddress: this.address, noDelay: true })
    this.socket = socket
    return new Promise((resolve) => {
      const end = (outcome: Outcome): void => {
        clearTimeout(timer)
        socket.removeAllListeners()
        socket.on('error', () => {})
        if (outcome.kind === 'closed') {
          socket.destroy()
          this.socket = null
        }
        resolve(outcome)
      }
      const timer = setTimeout(() => end({ kind: 'silence' }), TIMEOUT_MS)
      socket.once('error', () => end({ kind: 'closed' }))
      socket.once('end', () => end({ kind: 'closed' }))
      socket.once('data', (answer: Buffer) =>
        end(
          answer.length > 8 && answer[7] >= 0x80
            ? { kind: 'exception', code: answer[8] }
            : { kind: 'answer', text: answer.subarray(7).toString('hex') },
        ),
      )
      socket.write(frame)
    })
  }

  close(): void {
    this.socket?.destroy()
  }
}
