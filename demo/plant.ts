/** The emulated cell: two PLCs on their own loopback addresses, made of `modbus-serial` servers with a process inside. */
import { once } from 'node:events'
import { ServerTCP } from 'modbus-serial'

export interface Plc {
  name: string
  /** Registers as they stand; the demonstration looks here for writes that should never have come through. */
  holding: Uint16Array
  /** Requests that reached the PLC, by what they were: `read`, `write`. */
  requests: { read: number; write: number }
  close(): void
}

/**
 * @param host loopback address of its own
 * @param port TCP port
 * @throws the listener's error, where the address cannot be had
 */
export async function startPlc(name: string, host: string, port: number): Promise<Plc> {
  const holding = Uint16Array.from({ length: 1000 }, (_, register) =>
    register >= 100 && register < 120 ? 1000 : register,
  )
  const coils = new Uint8Array(1000)
  const requests = { read: 0, write: 0 }
  const started = Date.now()
  // A tank whose level and temperature swing slowly, so that there is something to watch.
  const measured = (register: number): number =>
    Math.round(2000 + 1500 * Math.sin((Date.now() - started) / 20_000 + register))
  const read = <T>(value: T): T => {
    requests.read++
    return value
  }
  const write = (store: Uint16Array | Uint8Array, at: number, value: number): void => {
    requests.write++
    store[at] = value
  }
  const server = new ServerTCP(
    {
      getInputRegister: (register: number) => read(measured(register)),
      getHoldingRegister: (register: number) => read(register < 1000 ? holding[register] : 0),
      getCoil: (coil: number) => read(coils[coil] === 1),
      getDiscreteInput: (input: number) => read(input % 2 === 0),
      setRegister: (register: number, value: number) => write(holding, register, value),
      setCoil: (coil: number, value: boolean) => write(coils, coil, value ? 1 : 0),
      // The package knows it; its types do not.
      ...{ readDeviceIdentification: () => ({ 0: 'Headgate demonstration', 1: name, 2: '1.0' }) },
    },
    { host, port, unitID: 255 },
  )
  // A client that goes away is a PLC's daily bread.
  server.on('socketError', () => {})
  const failed = once(server, 'serverError').then(([error]) => Promise.reject(error))
  await Promise.race([once(server, 'initialized'), failed])
  return { name, holding, requests, close: () => server.close(() => {}) }
}
