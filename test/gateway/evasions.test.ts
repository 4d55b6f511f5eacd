/** The corpus of evasions, each case over real sockets: on each transport, in enforce and in monitor mode. */
import { readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { functionName } from '../../src/protocols/modbus/function-codes.ts'
import { freePort, TestGateway, TRANSPORTS } from '../support/gateway.ts'
import { adu } from '../support/modbus.ts'
import { type ConduitText, modbusPolicy, type RuleText } from '../support/policy.ts'
import { answer } from '../support/server.ts'
import { adus, connect, type Peer, RawTarget, sleep, until } from '../support/sockets.ts'

type Bytes = string | { repeat: [string, number] }

interface Verdict {
  function: number | null
  verdict: 'allow' | 'deny'
  reason?: string
  exception?: number | null
}

interface Case {
  id: string
  title: string
  direction: 'request' | 'response'
  policy: string
  client: Bytes[]
  greeting?: string
  target?: 'silent' | string[]
  expected: {
    requests: (Verdict | { repeat: [Verdict, number] })[]
    responses?: { verdict: 'allow' | 'deny'; reason?: string }[]
    target_sees: Bytes
    client_sees?: Bytes[]
    connection: 'stays' | 'closes'
    target_connection?: 'dropped'
  }
}

interface Corpus {
  policies: Record<string, { rules: RuleText[]; timeouts?: { responseMs: number } }>
  cases: Case[]
}

const corpus: Corpus = JSON.parse(readFileSync(new URL('../evasions/modbus.json', import.meta.url), 'utf8'))

const bytesOf = (bytes: Bytes): Buffer =>
  Buffer.from(typeof bytes === 'string' ? bytes : bytes.repeat[0].repeat(bytes.repeat[1]), 'hex')
const verdictsOf = (list: Case['expected']['requests']): Verdict[] =>
  list.flatMap((one) => ('repeat' in one ? new Array<Verdict>(one.repeat[1]).fill(one.repeat[0]) : [one]))

/** Sent last where the connection stays: when it is answered, all before it has been dealt with. */
const LAST = adu(0xfffe, 247, [3, 0, 0, 0, 1])
const LAST_RULE: RuleText = { name: 'last', unit_ids: [247], functions: [3], addresses: { 'holding-registers': [0] } }

/** All that the client must see in enforce mode. */
function clientSees(one: Case): Buffer {
  if (one.expected.client_sees) return Buffer.concat(one.expected.client_sees.map(bytesOf))
  const allowed = adus(bytesOf(one.expected.target_sees))
  const stream = Buffer.concat(one.client.map(bytesOf))
  const frames = adus(stream)
  return Buffer.concat(
    verdictsOf(one.expected.requests).flatMap(({ verdict, exception }, i) => {
      if (verdict === 'allow') return [answer(allowed.shift() as Buffer)]
      if (typeof exception !== 'number') return []
      return [adu(frames[i].readUInt16BE(0), frames[i][6], [(frames[i][7] | 0x80) & 0xff, exception])]
    }),
  )
}

type Numbers = Record<string, number>

/** What `after` has more than `before`. */
function difference(before: Numbers, after: Numbers): Numbers {
  const entries = Object.entries(after).map(([key, value]) => [key, value - (before[key] ?? 0)] as const)
  return Object.fromEntries(entries.filter(([, value]) => value !== 0))
}

function tally(keys: string[]): Numbers {
  const counts: Numbers = {}
  for (const key of keys) counts[key] = (counts[key] ?? 0) + 1
  return counts
}

const sorted = (counts: Numbers): Numbers => Object.fromEntries(Object.entries(counts).sort())

function verdictText(verdict: 'allow' | 'deny', reason: string | undefined, monitor: boolean): string {
  return verdict === 'allow' ? 'allow' : `${monitor ? 'would_deny' : 'deny'} ${reason}`
}

class Lane {
  readonly target: RawTarget
  readonly mode: 'enforce' | 'monitor'
  readonly ports: ReadonlyMap<string, number>
  /** Bytes that the target has sent, in order. */
  private sent: Buffer[] = []
  private one: Case | null = null
  private answered = false
  /** Conduits in monitor mode whose counts depend on how the kernel cut what came behind a bad header. */
  private readonly unframed = new Set<string>()
  private readonly events: { id: string; fields: Record<string, string | number>; exception?: number | null }[] = []
  /** Requests expected to be counted, by conduit. */
  private readonly expected = new Map<string, Numbers>()

  constructor(target: RawTarget, mode: 'enforce' | 'monitor', ports: ReadonlyMap<string, number>) {
    this.target = target
    this.mode = mode
    this.ports = ports
    target.script = (request) => this.respond(request)
    target.onConnection = (connection) => {
      if (this.one?.greeting) connection.send(this.note(Buffer.from(this.one.greeting, 'hex')))
    }
  }

  private note(bytes: Buffer): Buffer {
    this.sent.push(bytes)
    return bytes
  }

  private respond(request: Buffer): Buffer | null {
    const script = this.one?.target
    if (request.equals(LAST) || script === undefined) return this.note(answer(request))
    if (script === 'silent' || this.answered) return null
    this.answered = true
    return this.note(Buffer.from(script.join(''), 'hex'))
  }

  get bytesSent(): Buffer {
    return Buffer.concat(this.sent)
  }

  /** Responses counted since `before`. */
  private async counts(gateway: TestGateway, conduit: string, before: Numbers = {}): Promise<Numbers> {
    return difference(before, (await gateway.counts(conduit)).responses)
  }

  private expect(conduit: string, requests: string[]): void {
    const counts = this.expected.get(conduit) ?? {}
    for (const key of requests) counts[key] = (counts[key] ?? 0) + 1
    this.expected.set(conduit, counts)
  }

  /** Each denial is an event of its own, for the clients differ. Looked for at the end: events leave in batches. */
  async checkEvents(t: Test, gateway: TestGateway): Promise<void> {
    for (const { id, fields, exception } of this.events) {
      const event = await gateway.event('request.denied', fields)
      t.equal(event.exception_code ?? null, exception, `${id}: the event`)
    }
  }

  /** What was counted of all cases together: the page says of every request what became of it, and of no other. */
  async checkRequests(t: Test, gateway: TestGateway): Promise<void> {
    for (const [conduit, expected] of this.expected) {
      if (this.unframed.has(conduit)) continue
      t.strictSame(sorted((await gateway.counts(conduit)).requests), sorted(expected), `${conduit}: requests counted`)
    }
  }

  /** Monitor mode counts after it has sent, so that the counts may come a moment later than the bytes. */
  private async checkResponses(t: Test, gateway: TestGateway, one: Case, conduit: string, before: Numbers) {
    const { responses = [], target_connection } = one.expected
    const monitor = this.mode === 'monitor'
    // Without a connection to drop, monitor mode waits for the answer that was lost in the noise.
    const list = monitor && target_connection === 'dropped' ? responses.slice(0, 1) : responses
    const words = list.map(({ verdict, reason }) => verdictText(verdict, reason, monitor))
    const expected = sorted(tally(monitor ? words : [...words, 'allow']))
    let found = sorted(await this.counts(gateway, conduit, before))
    for (let tries = 0; tries < 20 && JSON.stringify(found) !== JSON.stringify(expected); tries++) {
      await sleep(5)
      found = sorted(await this.counts(gateway, conduit, before))
    }
    t.strictSame(found, expected, `${one.id}: responses`)
  }

  async run(t: Test, gateway: TestGateway, one: Case, index: number): Promise<void> {
    const conduit = `${one.policy} ${this.mode}`
    this.one = one
    this.sent = []
    this.answered = false
    this.target.clear()
    const before = one.direction === 'response' ? await this.counts(gateway, conduit) : {}
    // A client of its own for each case: its events are told apart, and none is collapsed with another's.
    const from = `127.1.${this.mode === 'enforce' ? 1 : 2}.${index + 1}`
    const client = await connect(this.ports.get(conduit) as number, '127.0.0.1', from)
    await this.target.connection(0)
    if (one.greeting) {
      if (this.mode === 'enforce') {
        const denied = async () => (await this.counts(gateway, conduit, before))['deny state'] === 1
        for (let tries = 0; !(await denied()) && tries < 500; tries++);
      } else await client.got(one.greeting.length / 2)
    }
    await client.sendSegments(one.client.map(bytesOf))
    if (this.mode === 'enforce') await this.enforced(t, gateway, one, client, conduit, before, from)
    else await this.monitored(t, gateway, one, client, conduit, before, from)
    client.destroy()
  }

  private async enforced(
    t: Test,
    gateway: TestGateway,
    one: Case,
    client: Peer,
    conduit: string,
    before: Numbers,
    from: string,
  ): Promise<void> {
    const { expected } = one
    const sees = [clientSees(one)]
    const target = [bytesOf(expected.target_sees)]
    const verdicts = verdictsOf(expected.requests).map((v) => ({ ...v, name: functionName(v.function ?? 0) }))
    const requests = verdicts.map(({ name, verdict, reason }) => `${name} ${verdictText(verdict, reason, false)}`)
    await client.got(sees[0].length)
    if (expected.connection === 'stays') {
      client.send(LAST)
      sees.push(answer(LAST))
      target.push(LAST)
      requests.push('read-holding-registers allow')
      await client.got(Buffer.concat(sees).length)
      t.equal(client.state, 'open', `${one.id}: the connection stays`)
    } else {
      await client.closed()
      await until(() => this.target.last.state !== 'open', 'the target to be closed')
    }
    t.equal(client.hex, Buffer.concat(sees).toString('hex'), `${one.id}: what the client sees`)
    t.equal(
      this.target.received.toString('hex'),
      Buffer.concat(target).toString('hex'),
      `${one.id}: what the target sees`,
    )
    t.equal(this.target.connections.length, expected.target_connection === 'dropped' ? 2 : 1, `${one.id}: dials`)
    this.expect(conduit, requests)
    if (one.direction === 'response') await this.checkResponses(t, gateway, one, conduit, before)
    for (const { function: code, verdict, reason, exception } of verdicts) {
      if (verdict === 'allow') continue
      const fields = { client: from, reason: reason as string, conduit }
      this.events.push({ id: one.id, exception, fields: code === null ? fields : { ...fields, function_code: code } })
    }
  }

  private async monitored(
    t: Test,
    gateway: TestGateway,
    one: Case,
    client: Peer,
    conduit: string,
    before: Numbers,
    from: string,
  ): Promise<void> {
    const bytes = Buffer.concat(one.client.map(bytesOf))
    await until(() => this.target.received.length >= bytes.length, `${bytes.length} bytes at the target`)
    await until(() => client.length >= this.bytesSent.length, `${this.bytesSent.length} bytes at the client`)
    t.equal(this.target.received.toString('hex'), bytes.toString('hex'), `${one.id}: every byte reaches the target`)
    t.equal(client.hex, this.bytesSent.toString('hex'), `${one.id}: every byte reaches the client`)
    t.equal(client.state, 'open', `${one.id}: the connection stays`)
    const verdicts = verdictsOf(one.expected.requests)
    // Behind a header that gives no end, no frame can be told from another: as many are noticed as reads began there.
    if (verdicts.some((verdict) => verdict.function === null)) {
      await gateway.event('request.would_deny', { client: from, reason: 'malformed' })
      this.unframed.add(conduit)
      return
    }
    this.expect(
      conduit,
      verdicts.map(({ function: code, verdict, reason }) =>
        [functionName(code as number), verdictText(verdict, reason, true)].join(' '),
      ),
    )
    if (one.direction === 'response') await this.checkResponses(t, gateway, one, conduit, before)
  }
}

t.test('the corpus is whole', async (t) => {
  t.ok(corpus.cases.length > 150)
  t.equal(new Set(corpus.cases.map(({ id }) => id)).size, corpus.cases.length, 'ids are unique')
  for (const { id, policy } of corpus.cases) t.ok(Object.hasOwn(corpus.policies, policy), `${id}: ${policy}`)
})

for (const io of TRANSPORTS) {
  t.test(`evasions on ${io}`, { timeout: 60_000 }, async (t) => {
    const lanes = await Promise.all(
      (['enforce', 'monitor'] as const).map(async (mode) => {
        const target = await RawTarget.open(() => null)
        const ports = new Map<string, number>()
        for (const name of Object.keys(corpus.policies)) ports.set(`${name} ${mode}`, await freePort())
        return new Lane(target, mode, ports)
      }),
    )
    const conduits = lanes.flatMap((lane): ConduitText[] =>
      Object.entries(corpus.policies).map(([name, { rules, timeouts }]) => ({
        id: `${name} ${lane.mode}`,
        mode: lane.mode,
        rules: [...rules, LAST_RULE],
        timeouts,
        listen: { host: '127.0.0.1', port: lane.ports.get(`${name} ${lane.mode}`) as number },
        target: { host: '127.0.0.1', port: lane.target.port },
      })),
    )
    const metrics = { host: '127.0.0.1', port: await freePort() }
    const gateway = await TestGateway.start(modbusPolicy(conduits, { io, metrics }))
    t.teardown(async () => {
      await gateway.stop()
      await Promise.all(lanes.map((lane) => lane.target.close()))
    })
    await Promise.all(
      lanes.map(async (lane) => {
        for (const [index, one] of corpus.cases.entries()) await lane.run(t, gateway, one, index)
        await lane.checkRequests(t, gateway)
        await lane.checkEvents(t, gateway)
      }),
    )
  })
}
