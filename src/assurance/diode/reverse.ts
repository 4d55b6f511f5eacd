/**
 * Ways back through a diode, from the receiving side. Silence is what a diode gives. A refusal is an answer: whoever gave
 * it was reached, so there is a path back.
 */
import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { setTimeout as sleep } from 'node:timers/promises'
import { fail, type Observed, pass, skip } from '../validate/probe.ts'
import { REACH_WORDS, type ReachOptions, reach } from '../validate/reach.ts'

export async function reverseTcp(host: string, port: number, options: ReachOptions): Promise<Observed> {
  const { reach: reached, socket, code } = await reach({ host, port }, { ...options, settleMs: 0 })
  socket?.destroy()
  if (reached === 'filtered') return pass('timed out')
  if (reached === 'unreachable') return pass(`${REACH_WORDS.unreachable} (${code})`)
  return fail(reached === 'refused' ? 'refused: a refusal came back, so there is a path back' : REACH_WORDS[reached])
}

const DATAGRAMS = 5

/** @param fromPort port to come from, so that a sender that takes answers from there alone hears them; 0: any */
export async function reverseUdp(
  host: string,
  port: number,
  fromPort: number,
  { source, timeoutMs }: ReachOptions,
): Promise<Observed> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  let refused = false
  let answered = false
  let unreachable = ''
  socket.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ECONNREFUSED') refused = true
    else unreachable = error.code ?? error.message
  })
  socket.on('message', () => {
    answered = true
  })
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject)
      socket.bind(fromPort, source ?? undefined, () => socket.connect(port, host, resolve))
    })
    for (let i = 0; i < DATAGRAMS; i++) {
      socket.send(Buffer.from('HGREVERSE'), (error) => {
        const { code } = (error ?? {}) as NodeJS.ErrnoException
        if (code === 'ECONNREFUSED') refused = true
        else if (error !== null) unreachable = code ?? 'error'
      })
      await sleep(timeoutMs / DATAGRAMS)
    }
  } catch (error) {
    unreachable = (error as NodeJS.ErrnoException).code ?? (error as Error).message
  } finally {
    socket.close()
  }
  if (answered) return fail('answered')
  if (refused) return fail('refused: ICMP says that the port is closed, so there is a path back')
  return pass(
    unreachable === '' ? 'nothing came back; the sender tells whether they arrived' : `no way there (${unreachable})`,
  )
}

/** By the system's ping, as raw sockets are not to be had. */
export async function reverseEcho(host: string, { source, timeoutMs }: ReachOptions): Promise<Observed> {
  const seconds = Math.max(1, Math.ceil(timeoutMs / 1000))
  const from = source === null ? [] : ['-I', source]
  const child = spawn('ping', ['-n', '-c', '2', '-i', '0.3', '-W', `${seconds}`, ...from, host], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data: Buffer) => {
      if (text.length < 4096) text += data.toString('latin1')
    })
  }
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs + 5000)
  const code = await new Promise<number | null>((resolve) => {
    child.once('error', () => resolve(127))
    child.once('close', resolve)
  })
  clearTimeout(timer)
  if (code === 127) return skip('no ping here')
  if (code === 0) return fail('answered')
  if (/permitted|denied|unknown host|invalid|usage/i.test(text))
    return skip(`ping: ${text.trim().split('\n')[0].slice(0, 200)}`)
  const said = /From (\S+?):? .*?(unreachable|prohibited|filtered)/i.exec(text)
  if (said !== null && said[1] === host) return fail(`${said[2]}, said by ${host} itself: there is a path back`)
  return pass(said === null ? 'timed out' : `no way there, said ${said[1]}`)
}
