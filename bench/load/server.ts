/**
 * A Modbus/TCP server for machines without gcc, with the registers of mbserver.c: register `a` holds
 * (a × 40503 + 31153) mod 65536. Answers FC 3 and 4 (V1.1b3 §6.3, §6.4), others with exception 01.
 * `node server.ts --listen HOST:PORT`
 */
import net from 'node:net'
import { parseArgs } from 'node:util'

const { values } = parseArgs({ options: { listen: { type: 'string' }, quiet: { type: 'boolean' } } })
const [host, port] = (values.listen ?? '127.0.0.1:15020').split(':')

/** @returns the response ADU to the request ADU at [o, next) */
function answer(buf: Buffer, o: number): Buffer {
  const code = buf[o + 7]
  const quantity = buf.readUInt16BE(o + 10)
  const reads = (code === 3 || code === 4) && quantity >= 1 && quantity <= 125
  const response = Buffer.alloc(reads ? 9 + 2 * quantity : 9)
  buf.copy(response, 0, o, o + 8)
  response.writeUInt16BE(response.length - 6, 4)
  if (reads) {
    response[8] = 2 * quantity
    const address = buf.readUInt16BE(o + 8)
    for (let i = 0; i < quantity; i++) response.writeUInt16BE(((address + i) * 40503 + 31153) & 0xffff, 9 + 2 * i)
  } else {
    response[7] |= 0x80
    response[8] = code === 3 || code === 4 ? 3 : 1
  }
  return response
}

net
  .createServer({ noDelay: true }, (socket) => {
    let part: Buffer = Buffer.alloc(0)
    socket.on('error', () => socket.destroy())
    socket.on('data', (chunk) => {
      const buf = part.length === 0 ? chunk : Buffer.concat([part, chunk])
      const responses: Buffer[] = []
      let o = 0
      while (buf.length - o >= 12) {
        const next = o + 6 + buf.readUInt16BE(o + 4)
        if (next > buf.length) break
        responses.push(answer(buf, o))
        o = next
      }
      part = buf.subarray(o)
      if (responses.length > 0) socket.write(Buffer.concat(responses))
    })
  })
  .listen({ host, port: Number(port), backlog: 4096 })
