/** The corpus of evasions on OPC UA, each case over real sockets: on each transport, in enforce and in monitor mode. */
import { readFileSync } from 'node:fs'
import net from 'node:net'
import t, { type Test } from 'tap'
import { checkPolicy } from '../../src/policy/load.ts'
import type { Policy } from '../../src/policy/model.ts'
import { freePort, TestGateway, TRANSPORTS } from '../support/gateway.ts'
import { messages } from '../support/opcua.ts'
import { connect, Peer, until } from '../support/sockets.ts'

type Bytes = string | { repeat: [string, number] }

interface Turn {
  from: 'client' | 'server'
  /** Hexadecimal, one entry for each TCP segment. */
  segments: Bytes[]
}

interface Case {
  id: string
  title: string
  policy: string
  opening: string
  turns: Turn[]
  expected: {
    outcome: 'answered' | 'ends' | 'passes'
    reason?: string
    status?: number
    target_sees: string
    event?: 'channel' | 'response'
  }
}

interface Corpus {
  policies: Record<string, string[]>
  openings: Record<string, Turn[]>
  cases: Case[]
}

const corpus: Corpus = JSON.parse(readFileSync(new URL('../evasions/opcua.json', import.meta.url), 'utf8'))
const segmentOf = (bytes: Bytes): Buffer =>
  Buffer.from(typeof bytes === 'string' ? bytes : bytes.repeat[0].repeat(bytes.repeat[1]), 'hex')
const bytesOf = (segments: readonly Bytes[]): Buffer => Buffer.concat(segments.map(segmentOf))
const sentBy = (turns: readonly Turn[], from: Turn['from']): Buffer =>
  Buffer.concat(turns.filter((turn) => turn.from === from).map(({ segments }) => bytesOf(segments)))

const SERVICE_FAULT = 397
const ACCESS_DENIED = 0x801f0000
/** How long nothing may come before it is believed that nothing will. */
const SILENCE_MS = 30

/** A server that says nothing of itself. */
class Target {
  readonly peers: Peer[] = []
  private readonly server: net.Server

  constructor() {
    this.server = net.createServer({ allowHalfOpen: true }, (socket) => this.peers.push(new Peer(socket)))
  }

  async open(): Promise<number> {
    const port = await freePort()
    await new Promise<void>((resolve) => this.server.listen(port, '127.0.0.1', resolve))
    return port
  }

  close(): void {
    for (const peer of this.peers) peer.destroy()
    this.server.close()
  }
}

function policyOf(
  io: string,
  mode: string,
  ports: ReadonlyMap<string, number>,
  target: number,
  metrics: number,
): Policy {
  const names = Object.keys(corpus.policies)
  const text = `zones:
  - { zone_id: Z2, networks: [127.0.0.1/32] }
  - { zone_id: Z3, networks: [127.7.0.0/16] }
conduits:
${names
  .map(
    (name) => `  - conduit_id: ${name}
    connects: [Z2, Z3]
    mode: ${mode}
    protocols_allowed:
      - protocol: OPC UA
${corpus.policies[name].map((line) => `        ${line}`).join('\n')}`,
  )
  .join('\n')}
gateway:
  io: ${io}
  workers: 1
  metrics: { listen: "127.0.0.1:${metrics}" }
  listeners:
${names.map((name) => `    - { conduit: ${name}, protocol: OPC UA, listen: "127.0.0.1:${ports.get(name)}", target: "127.0.0.1:${target}" }`).join('\n')}
`
  const { policy, findings } = checkPolicy('evasions.yaml', Buffer.from(text))
  if (policy === null) throw new Error(findings.map((one) => `${one.line}: ${one.message}`).join('\n'))
  return policy
}

/** Plays a case: each turn once what came before it has arrived, as far as it is to arrive. */
async function play(t: Test, one: Case, port: number, target: Target, from: string, enforce: boolean): Promise<void> {
  const turns = [...corpus.openings[one.opening], ...one.turns]
  const prelude = sentBy(corpus.openings[one.opening], 'client')
  const { outcome, status, reason = '', target_sees: sees } = one.expected
  const all = !enforce || sees === '*'
  const wanted = all ? sentBy(turns, 'client') : Buffer.concat([prelude, Buffer.from(sees, 'hex')])
  const before = target.peers.length
  const peer = await connect(port, '127.0.0.1', from)
  await until(() => target.peers.length > before, 'the dial')
  const server = target.peers[before]
  let asked = 0
  let answered = 0
  for (const turn of turns) {
    const bytes = bytesOf(turn.segments)
    if (turn.from === 'client') {
      await peer.sendSegments(turn.segments.map(segmentOf))
      asked += bytes.length
      const arriving = Math.min(asked, wanted.length)
      await until(() => server.length >= arriving || peer.state !== 'open', `${arriving} bytes at the server`)
    } else {
      server.send(bytes)
      answered += bytes.length
      await until(() => peer.length >= answered || peer.state !== 'open', `${answered} bytes at the client`)
    }
  }
  const said = sentBy(turns, 'server')
  if (!enforce || outcome === 'passes') {
    t.ok(server.received.equals(wanted), 'the server gets every byte')
    t.ok(peer.received.equals(said), 'and the client every one of its')
    t.equal(peer.state, 'open')
  } else if (outcome === 'answered') {
    await until(() => peer.length >= said.length + 52, 'the fault')
    const fault = messages(peer.received.subarray(said.length))[0]
    t.equal(fault.readUInt16LE(26), SERVICE_FAULT)
    t.equal(fault.readUInt32LE(40), ACCESS_DENIED, reason)
    await new Promise((resolve) => setTimeout(resolve, SILENCE_MS))
    t.ok(server.received.equals(wanted), 'the server gets what it may, and no more')
    t.equal(peer.state, 'open', 'the connection lives')
  } else {
    await peer.closed()
    const error = messages(peer.received).at(-1)
    t.equal(error?.toString('latin1', 0, 4), 'ERRF')
    t.equal(error?.readUInt32LE(8), status, reason)
    t.ok(server.received.equals(wanted), 'the server gets what it may, and no more')
  }
  peer.destroy()
  server.destroy()
}

t.test(`${corpus.cases.length} cases`, async (t) => {
  t.equal(new Set(corpus.cases.map(({ id }) => id)).size, corpus.cases.length)
  for (const io of TRANSPORTS) {
    for (const mode of ['enforce', 'monitor'] as const) {
      const target = new Target()
      const targetPort = await target.open()
      t.teardown(() => target.close())
      const ports = new Map<string, number>()
      for (const name of Object.keys(corpus.policies)) ports.set(name, await freePort())
      const gateway = await TestGateway.start(policyOf(io, mode, ports, targetPort, await freePort()))
      t.teardown(() => gateway.stop())
      for (const [i, one] of corpus.cases.entries()) {
        const from = `127.7.0.${i + 1}`
        await t.test(`${io} ${mode}: ${one.id}: ${one.title}`, async (t) => {
          await play(t, one, ports.get(one.policy) as number, target, from, mode === 'enforce')
          const { reason, event = 'request' } = one.expected
          if (reason === undefined) {
            t.same(
              gateway.events.filter((told) => told.client === from && /deny|denied/.test(told.event)),
              [],
              'nothing is found',
            )
            return
          }
          const name = `${event}.${mode === 'enforce' ? 'denied' : 'would_deny'}`
          t.ok(await gateway.event(name, { client: from, reason, conduit: one.policy }), `${name} ${reason}`)
        })
      }
      await gateway.stop()
    }
  }
})
