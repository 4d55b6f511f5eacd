/**
 * Dials from a host of its own: `node dial-child.ts [{"host","port","pdu"?,"from"?}…]`; prints an array of what came of
 * each: the response's PDU in hex, `connected` where nothing was asked, `refused`, or `timed out`.
 */
import { connect } from 'node:net'

interface Dial {
  host: string
  port: number
  /** Modbus request, hex. */
  pdu?: string
  /** Own address. */
  from?: string
}

const MS = 1200

function dial({ host, port, pdu, from }: Dial): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, localAddress: from })
    const end = (what: string) => {
      clearTimeout(timer)
      socket.destroy()
      resolve(what)
    }
    const timer = setTimeout(() => end('timed out'), MS)
    socket.on('error', ({ message }) => end(/ECONNREFUSED/.test(message) ? 'refused' : message))
    socket.on('close', () => end('closed'))
    socket.on('connect', () => {
      if (pdu === undefined) return end('connected')
      const body = Buffer.from(pdu, 'hex')
      const header = Buffer.from([0, 1, 0, 0, 0, body.length + 1, 1])
      socket.write(Buffer.concat([header, body]))
    })
    socket.on('data', (data) => end(data.subarray(7).toString('hex')))
  })
}

process.stdout.write(JSON.stringify(await Promise.all((JSON.parse(process.argv[2]) as Dial[]).map(dial))))
