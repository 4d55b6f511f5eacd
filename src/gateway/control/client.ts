/** The other end of the control socket: one request, one answer. */
import net from 'node:net'
import { userInfo } from 'node:os'
import { type Answer, MAX_ANSWER } from './protocol.ts'

/** The gateway cannot be reached: one line for a person. */
export class Unreachable extends Error {}

const WHY: Record<string, string> = {
  ENOENT: 'no such socket: is the gateway running, and has its policy "gateway.control"?',
  ECONNREFUSED: 'nobody listens: is the gateway running?',
  EACCES: 'no permission: the socket is for its owner and group',
}

/**
 * @param request without `user`, which is added
 * @throws Unreachable where there is no gateway, or it does not answer in `ms`
 */
export function ask(path: string, request: Record<string, unknown>, ms = 60_000): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(path)
    const chunks: Buffer[] = []
    let length = 0
    const fail = (why: string): void => {
      clearTimeout(timer)
      socket.destroy()
      reject(new Unreachable(`control socket ${path}: ${why}`))
    }
    const timer = setTimeout(() => fail(`no answer within ${ms / 1000} s`), ms)
    socket.on('error', (error: NodeJS.ErrnoException) => fail(WHY[error.code ?? ''] ?? error.message))
    socket.on('connect', () => socket.write(`${JSON.stringify({ user: claimed(), ...request })}\n`))
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      length += chunk.length
      if (length > MAX_ANSWER) fail('the answer is too long')
      else if (chunk.includes(10)) {
        clearTimeout(timer)
        socket.destroy()
        try {
          resolve(JSON.parse(Buffer.concat(chunks).toString('utf8').split('\n', 1)[0]) as Answer)
        } catch {
          fail('the answer is no JSON')
        }
      }
    })
    socket.on('end', () => fail('closed without an answer'))
  })
}

/** Counts only where the gateway's system does not tell who asks. */
function claimed(): string {
  try {
    return userInfo().username.slice(0, 64)
  } catch {
    return `uid ${process.getuid?.() ?? '?'}`
  }
}
