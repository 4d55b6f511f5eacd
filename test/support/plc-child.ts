/** A PLC in a process of its own: `node plc-child.ts HOST PORT`; prints `ready`, then each request's PDU in hex. */
import { answer } from './server.ts'
import { RawTarget } from './sockets.ts'

const [host, port] = process.argv.slice(2)
await RawTarget.open(
  (request) => {
    process.stdout.write(`pdu ${request.subarray(7).toString('hex')}\n`)
    return answer(request)
  },
  Number(port),
  host,
)
process.stdout.write('ready\n')
