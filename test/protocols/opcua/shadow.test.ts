/**
 * A shadow policy beside the one in force on a connection that is inspected, without sockets: what differs of channels,
 * services, items, sizes and rates, and that nothing else changes.
 */
import fc from 'fast-check'
import t from 'tap'
import type { Policy } from '../../../src/policy/model.ts'
import type { IndexedRule } from '../../../src/protocols/opcua/channel-rules.ts'
import { functionLabel, REQUEST, RESPONSE } from '../../../src/protocols/opcua/services.ts'
import { type Difference, OpcUaShadow } from '../../../src/protocols/opcua/shadow.ts'
import type { OpcUaFields } from '../../../src/protocols/opcua/terms.ts'
import { REASONS, WOULD_DENY } from '../../../src/protocols/reason.ts'
import {
  acknowledge,
  certificate,
  chunk,
  hello,
  hidden,
  InspectHarness,
  messages,
  noise,
  type OpcUaText,
  opcuaPolicy,
  openedNone,
  openNone,
  openSecure,
  planOf,
  request,
  requestHeader,
  response,
  reverseHello,
  string,
  thumbprint,
} from '../../support/opcua.ts'
import { type Holders, Pipe } from '../../support/opcua-pipe.ts'
import { selfSigned } from '../../support/opcua-pki.ts'
import { CountingLimiter } from '../../support/session.ts'

const CLIENT = 0xffff7f000001n

/** What a shadow has said: `would_deny node Write ns=2;s=Line1.Mode`, and its counts. */
class Noted extends OpcUaShadow {
  readonly said: string[] = []
  readonly details: string[] = []
  readonly told: OpcUaFields[] = []
  /** Nodes of the items that differ. */
  readonly nodes: string[][] = []
  readonly blinded: string[] = []
  readonly counts: Record<string, number> = {}
  full = false

  constructor(policy: Policy | string) {
    super(typeof policy === 'string' ? policy : planOf(policy, 'shadow').candidate(CLIENT, targetOf(policy)))
  }

  protected override count(cell: number): void {
    const verdict = cell === 0 ? 'same' : `${cell < WOULD_DENY ? 'deny' : 'allow'} ${REASONS[cell % WOULD_DENY]}`
    this.counts[verdict] = (this.counts[verdict] ?? 0) + 1
  }

  protected override tell({ denied, reason, fn, detail, fields, items }: Difference): void {
    const told = fields()
    this.nodes.push(items(8).list.map(({ node }) => node))
    const what = [denied ? 'deny' : 'allow', REASONS[reason], functionLabel(fn), told.node, told.attribute]
    this.said.push(what.filter((part) => part !== undefined).join(' '))
    this.details.push(detail)
    this.told.push(told)
  }

  protected override within(): boolean {
    return !this.full
  }

  protected override blind(detail: string): void {
    this.blinded.push(detail)
  }
}

function targetOf(policy: Policy) {
  const listener = policy.gateway?.listeners[0]
  if (listener === undefined) throw new Error('no listener')
  return listener.target
}

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
const node = (name: string) => Buffer.concat([Buffer.from([3, 2, 0]), string(`Line1.${name}`)])
const readItem = (name: string) => Buffer.concat([node(name), u32(13), string(null), Buffer.from([0, 0]), string(null)])
const readBody = (...names: string[]) =>
  Buffer.concat([Buffer.alloc(8), u32(0), u32(names.length), ...names.map(readItem)])
const writeBody = (...items: [string, number][]) =>
  Buffer.concat([
    u32(items.length),
    ...items.map(([name, value]) => {
      const double = Buffer.alloc(8)
      double.writeDoubleLE(value)
      return Buffer.concat([node(name), u32(13), string(null), Buffer.from([1, 11]), double])
    }),
  ])

const text = (rules: string, more: Partial<OpcUaText> & { opcua?: string; protocol?: string } = {}): OpcUaText => ({
  mode: more.mode,
  protocol: `rules: [${rules}]\nopcua: { ${more.opcua ?? 'security_modes: [None]'} }\n${more.protocol ?? ''}`,
})
const TERMINATE = 'handling: terminate, certificates: { own: own, trusted_clients: clients, trusted_servers: servers }'
const rule = (terms: string): string => `{ name: one, from: [Z3], to: [Z2], ${terms} }`
const SERVICES = 'discovery, session, Browse, read, subscribe'
const READS = rule(`services: [${SERVICES}]`)
const WRITES = rule(`services: [${SERVICES}, write]`)

class Line {
  readonly harness: InspectHarness
  readonly shadow: Noted
  private up = 51
  private down = 1
  private id = 1

  constructor(inForce: OpcUaText, candidate: OpcUaText | string, limiter: CountingLimiter | null = null) {
    this.shadow = new Noted(typeof candidate === 'string' ? candidate : opcuaPolicy(candidate))
    this.harness = new InspectHarness(opcuaPolicy(inForce), limiter, CLIENT, this.shadow)
  }

  /** A channel of the policy None. */
  open(): this {
    this.harness.client(hello())
    this.harness.target(acknowledge())
    this.harness.client(openNone(51, 1))
    this.harness.target(openedNone(1, 1, 7, 1))
    return this
  }

  ask(id: number, body: Buffer = Buffer.alloc(0)): this {
    this.id++
    this.harness.client(request(id, { sequence: ++this.up, request: this.id }, body))
    return this
  }

  /** In two chunks. */
  askLong(id: number, body: Buffer): this {
    const whole = Buffer.concat([Buffer.from([1, 0, id & 255, id >> 8]), requestHeader(20), body])
    this.id++
    this.harness.client(chunk('MSGC', { sequence: ++this.up, request: this.id }, whole.subarray(0, 60)))
    this.harness.client(chunk('MSGF', { sequence: ++this.up, request: this.id }, whole.subarray(60)))
    return this
  }

  answer(id: number, body: Buffer = Buffer.alloc(0)): this {
    this.harness.target(response(id, { sequence: ++this.down, request: this.id }, body))
    return this
  }
}

for (const mode of ['enforce', 'monitor'] as const) {
  t.test(`${mode}: services, both ways`, async (t) => {
    const line = new Line(text(READS, { mode }), text(rule('services: [discovery, session, write]'))).open()
    line
      .ask(REQUEST.CreateSession)
      .ask(REQUEST.Read, readBody('Setpoint'))
      .ask(REQUEST.Write, writeBody(['Mode', 1]))
    line.ask(REQUEST.Call)
    t.same(line.shadow.said, [
      'deny service Read ns=2;s=Line1.Setpoint Value',
      'allow service Write ns=2;s=Line1.Mode Value',
    ])
    t.match(line.shadow.details, [/services allowed: discovery, session, write/, ''])
    // OpenSecureChannel and CreateSession are allowed by both, Call is denied by both.
    t.same(line.shadow.counts, { same: 3, 'deny service': 1, 'allow service': 1 })
    t.match(line.shadow.told[0], {
      security_policy: 'None',
      channel_id: 7,
      request_id: 3,
      endpoint_url: 'opc.tcp://plc:4840',
      items: 1,
    })
  })

  t.test(`${mode}: items, nodes and values; a difference in one item is a difference`, async (t) => {
    const writes = (nodes: string): string =>
      `${READS}, { name: two, from: [Z3], to: [Z2], services: [write], nodes: [${nodes}] }`
    const line = new Line(
      text(writes('"ns=2;s=Line1.A*"'), { mode }),
      text(
        `${writes('"ns=2;s=Line1.*A"')}, { name: no, action: deny, from: [Z3], to: [Z2], services: [read], nodes: ["ns=2;s=Line1.Secret"] }`,
      ),
    ).open()
    const { shadow } = line
    // Both have AA; in force alone has AB, the candidate alone BA, none CC.
    line.ask(REQUEST.Write, writeBody(['AA', 1], ['CC', 1], ['AB', 1], ['BA', 1]))
    t.same(shadow.said, ['deny node Write ns=2;s=Line1.AB Value', 'allow node Write ns=2;s=Line1.BA Value'])
    t.same(
      shadow.told.map(({ items, denied }) => [items, denied]),
      [
        [4, 1],
        [4, 1],
      ],
    )
    t.same(shadow.counts, { same: 1, 'deny node': 1, 'allow node': 1 })
    shadow.said.length = 0
    line.ask(REQUEST.Write, writeBody(['AA', 1], ['CC', 1])).ask(REQUEST.Write, writeBody(['CC', 1]))
    t.same(shadow.said, [], 'denied alike')
    shadow.nodes.length = 0
    line.ask(REQUEST.Write, writeBody(['AB', 1], ['AC', 1])).ask(REQUEST.Write, writeBody(['BA', 1], ['CA', 1]))
    t.same(shadow.nodes, [
      ['ns=2;s=Line1.AB', 'ns=2;s=Line1.AC'],
      ['ns=2;s=Line1.BA', 'ns=2;s=Line1.CA'],
    ])
    t.same(shadow.said, ['deny node Write ns=2;s=Line1.AB Value', 'allow node Write ns=2;s=Line1.BA Value'])
    shadow.said.length = 0
    line.askLong(REQUEST.Read, readBody('AA', 'BB')).askLong(REQUEST.Read, readBody('AA', 'Secret', 'BB', 'Secret'))
    t.same(shadow.said, ['deny node Read ns=2;s=Line1.Secret Value'])
    t.match(shadow.told.at(-1), { items: 4, denied: 2 })
    t.equal(line.harness.ended, '')
  })

  t.test(
    `${mode}: a request whose body has not come when the policy in force denies it is judged all the same`,
    async (t) => {
      const candidate = `${READS}, { name: two, from: [Z3], to: [Z2], services: [write], nodes: ["ns=2;s=Line1.A*"] }`
      const line = new Line(text(READS, { mode }), text(candidate)).open()
      line.askLong(REQUEST.Write, writeBody(['AA', 1], ['BB', 1])).askLong(REQUEST.Write, writeBody(['BB', 1]))
      t.same(line.shadow.said, ['allow service Write ns=2;s=Line1.AA Value'])
      t.same(line.shadow.counts, { same: 2, 'allow service': 1 })
      const sent = messages(line.harness.toTarget_).filter((one) => one.subarray(0, 3).toString() === 'MSG').length
      t.equal(sent, mode === 'monitor' ? 4 : 0)
      t.match(
        line.harness.reports.filter(({ kind }) => kind === 'request'),
        [
          { reason: 'service', function: 'Write', would: mode === 'monitor' },
          { reason: 'service', function: 'Write', would: mode === 'monitor' },
        ],
      )
    },
  )

  t.test(`${mode}: rates of its own, and sizes`, async (t) => {
    const limiter = new CountingLimiter()
    const line = new Line(
      text(READS, { mode }),
      text(READS, { opcua: 'security_modes: [None], limits: { message_bytes: 8192 }' }),
      limiter,
    ).open()
    const { shadow } = line
    shadow.full = true
    line.ask(REQUEST.Read, readBody('A'))
    t.same(shadow.said, ['deny rate Read ns=2;s=Line1.A Value'])
    limiter.full = true
    line.ask(REQUEST.Read, readBody('B'))
    t.equal(shadow.said.length, 1, 'over both')
    shadow.full = false
    line.ask(REQUEST.Read, readBody('C'))
    t.equal(shadow.said[1], 'allow rate Read ns=2;s=Line1.C Value')
    limiter.full = false
    line.ask(REQUEST.Browse, Buffer.alloc(9000))
    t.equal(shadow.said[2], 'deny rate Browse')
    t.match(shadow.details[2], /more than 8192 bytes/)
  })
}

t.test('a rule that monitors lets pass what it denies, in both', async (t) => {
  const line = new Line(text(READS), text(rule(`services: [session], mode: monitor`))).open()
  line.ask(REQUEST.Read, readBody('A'))
  t.same(line.shadow.said, [])
})

t.test('aliases of RegisterNodes are facts that both know', async (t) => {
  const registering = 'discovery, session, browse, read, subscribe, write, RegisterNodes'
  const candidate = `${rule(`services: [${registering}], nodes: ["ns=2;s=Line1.A*"]`)}`
  const line = new Line(text(rule(`services: [${registering}]`)), text(candidate)).open()
  const alias = (id: number): Buffer => Buffer.from([1, 2, id, 0])
  const read = (id: number): Buffer =>
    Buffer.concat([
      Buffer.alloc(8),
      u32(0),
      u32(1),
      alias(id),
      u32(13),
      string(null),
      Buffer.from([0, 0]),
      string(null),
    ])
  line.ask(REQUEST.RegisterNodes, Buffer.concat([u32(2), node('A'), node('AB')]))
  line.answer(RESPONSE.RegisterNodes, Buffer.concat([u32(2), alias(70), alias(71)]))
  line.ask(REQUEST.Read, read(70)).ask(REQUEST.Read, read(72))
  t.same(line.shadow.said, ['deny node Read ns=2;i=72 Value'])
  t.equal(line.harness.ended, '')
})

t.test('what is remembered for the candidate alone denies nothing where there is no room for more', async (t) => {
  const subscribes = rule('services: [session, read, CreateSubscription]')
  const line = new Line(text(subscribes), text(`${subscribes.replace('}', ', nodes: ["ns=2;s=A"] }')}`)).open()
  for (let n = 0; n < 1030; n++) line.ask(REQUEST.CreateSubscription, Buffer.alloc(26))
  const sent = messages(line.harness.toTarget_).filter((one) => one.subarray(0, 3).toString() === 'MSG')
  t.equal(sent.length, 1030)
  t.same(line.shadow.counts, { same: 1031 })
  t.equal(line.harness.pending, 1030)
})

t.test('channels: what one policy alone would open', async (t) => {
  const sign = rule('services: [all]')
  const secure = (line: Line, name = 'Basic256Sha256'): Line => {
    line.harness.client(hello())
    line.harness.target(acknowledge())
    line.harness.client(openSecure(name))
    line.harness.target(openSecure(name, 7, certificate(2), certificate(1)))
    return line
  }
  const encrypt = (line: Line): Line => {
    line.harness.client(hidden('MSGF', 160, 1))
    line.harness.target(hidden('MSGF', 160, 2))
    line.harness.client(hidden('MSGF', 160, 3))
    return line
  }
  const secured = (more = '') => text(sign, { opcua: `security_modes: [Sign, SignAndEncrypt]${more}` })
  const inForce = secured()

  await t.test('its mode', async (t) => {
    const line = encrypt(secure(new Line(inForce, text(sign, { opcua: 'security_modes: [Sign]' }))))
    t.same(line.shadow.said, ['deny security OpenSecureChannel'])
    t.match(line.shadow.told[0], { security_mode: 'SignAndEncrypt', security_policy: 'Basic256Sha256' })
    t.match(line.shadow.details, [/security mode SignAndEncrypt, expected Sign/])
    // Its two requests would not have come.
    t.same(line.shadow.counts, { 'deny security': 3 })
  })

  await t.test('its policy, its certificates, its endpoint', async (t) => {
    for (const [more, detail] of [
      [', security_policies: [Aes256_Sha256_RsaPss]', /security policy Basic256Sha256/],
      [', endpoint_urls: ["opc.tcp://other:4840"]', /endpoint URL opc.tcp:\/\/plc:4840, expected/],
      [`, server_certificates: ["${thumbprint(certificate(9))}"]`, /server certificate/],
    ] as const) {
      const line = encrypt(secure(new Line(inForce, secured(more))))
      t.same(line.shadow.said, ['deny security OpenSecureChannel'], more)
      t.match(line.shadow.details, [detail])
      // The other way round: the policy in force refuses at once, and the candidate has nothing against it so far.
      const other = secure(new Line(secured(more), inForce))
      t.same(other.shadow.said, ['allow security OpenSecureChannel'], more)
      t.not(other.harness.ended, '')
    }
    const named = rule(`services: [all], certificates: ["${thumbprint(certificate(9))}"]`)
    const line = encrypt(secure(new Line(inForce, text(named, { opcua: 'security_modes: [Sign, SignAndEncrypt]' }))))
    t.match(line.shadow.details, [/no rule for a client with this certificate/])
  })

  await t.test('in monitor mode the channel goes on, and its requests differ as it does', async (t) => {
    const line = encrypt(
      secure(new Line({ ...text(sign, { opcua: 'security_modes: [Sign]' }), mode: 'monitor' }, inForce)),
    )
    t.same(line.shadow.said, ['allow security OpenSecureChannel'])
    t.same(line.shadow.counts, { 'allow security': 3 })
  })

  await t.test('a security policy that Headgate does not know is refused by any', async (t) => {
    const line = encrypt(secure(new Line({ ...inForce, mode: 'monitor' }, inForce), 'Homemade'))
    t.same([line.shadow.said, line.shadow.counts, line.shadow.blinded], [[], {}, []])
  })

  await t.test('a candidate that terminates: what is hidden is not compared', async (t) => {
    const terminating = text(READS, { opcua: `${TERMINATE}, security_modes: [SignAndEncrypt]` })
    const line = encrypt(secure(new Line(inForce, terminating)))
    t.same(line.shadow.said, [])
    t.equal(line.shadow.blinded.length, 2)
    t.same(line.shadow.counts, { same: 1 }, 'the channel')
  })

  await t.test('no listener, or no rule for the pair', async (t) => {
    const line = new Line(text(READS), 'no such listener').open().ask(REQUEST.Read, readBody('A'))
    t.same(line.shadow.said, ['deny pair OpenSecureChannel', 'deny pair Read ns=2;s=Line1.A Value'])
    t.match(line.shadow.details, ['no such listener', 'no such listener'])
  })
})

t.test('users, where the candidate terminates', async (t) => {
  const token = (id: number, fields: Buffer): Buffer =>
    Buffer.concat([
      ...[string(null), string(null), u32(0), u32(0)],
      ...[Buffer.from([1, 0, id & 255, id >> 8, 1]), string(fields)],
      ...[string(null), string(null)],
    ])
  const anonymous = token(321, string('anonymous'))
  const named = token(324, Buffer.concat([string('user'), string('anna'), string('x'), string(null)]))
  const sign = text(READS, { opcua: 'security_modes: [Sign]' })
  const candidate = text(READS, { opcua: `${TERMINATE}, security_modes: [Sign], user_tokens: [UserName]` })
  const { harness, shadow } = new Line(sign, candidate)
  harness.client(hello())
  harness.target(acknowledge())
  harness.client(openSecure('Basic256Sha256'))
  harness.target(openSecure('Basic256Sha256', 7, certificate(2), certificate(1)))
  const SIGNATURE = 32
  harness.client(request(REQUEST.ActivateSession, { sequence: 2, request: 2 }, anonymous, SIGNATURE))
  t.same(shadow.said, ['deny security ActivateSession'])
  t.match(shadow.details, ['user identity token Anonymous'])
  harness.client(request(REQUEST.ActivateSession, { sequence: 3, request: 3 }, named, SIGNATURE))
  harness.client(request(REQUEST.Read, { sequence: 4, request: 4 }, readBody('A'), SIGNATURE))
  t.equal(shadow.said.length, 1)
  t.same(shadow.counts, { same: 3, 'deny security': 1 })
  harness.client(request(REQUEST.Write, { sequence: 5, request: 5 }, writeBody(['A', 1]), SIGNATURE))
  t.match(harness.reports.at(-1)?.fields, { user: 'anna' }, 'who it is, is learnt all the same')
})

t.test('another candidate: an open channel is asked about anew, and not counted again', async (t) => {
  const line = new Line(text(WRITES), text(WRITES)).open().ask(REQUEST.Write, writeBody(['A', 1]))
  const next = new Noted(opcuaPolicy(text(rule('services: [write], nodes: ["ns=2;s=Line1.B"]'))))
  line.harness.adopt(opcuaPolicy(text(WRITES)), null, next)
  line.ask(REQUEST.Write, writeBody(['A', 1])).ask(REQUEST.Write, writeBody(['B', 1]))
  t.same(next.said, ['deny node Write ns=2;s=Line1.A Value'])
  t.same(next.counts, { 'deny node': 1, same: 1 })
  t.same(line.shadow.counts, { same: 2 })
  line.harness.adopt(opcuaPolicy(text(WRITES)), null, null)
  line.ask(REQUEST.Write, writeBody(['A', 1]))
  t.same(next.counts, { 'deny node': 1, same: 1 })
})

interface Asked {
  id: number
  names: string[]
  chunks: number
  junk: boolean
  answered: boolean
}

t.test('property: a shadow changes nothing, and sees every request once', async () => {
  const names = ['AA', 'AB', 'BA', 'BB']
  const asked: fc.Arbitrary<Asked> = fc.record({
    id: fc.constantFrom(REQUEST.Read, REQUEST.Write, REQUEST.Browse, REQUEST.Call, REQUEST.CreateSession),
    names: fc.array(fc.constantFrom(...names), { minLength: 1, maxLength: 4 }),
    chunks: fc.constantFrom(1, 1, 2),
    junk: fc.boolean(),
    answered: fc.boolean(),
  })
  const inner = (nodes: string) => `${READS}, { name: two, from: [Z3], to: [Z2], services: [write], nodes: [${nodes}] }`
  const texts = [text(READS), text(WRITES), text(inner('"ns=2;s=Line1.A*"')), text(inner('"ns=2;s=Line1.*A"'))]
  const policies = texts.map((one) => opcuaPolicy(one))
  const watching = texts.map((one) => opcuaPolicy({ ...one, mode: 'monitor' }))
  const play = (inForce: Policy, shadow: Noted | null, list: readonly Asked[], cut: number) => {
    const harness = new InspectHarness(inForce, null, CLIENT, shadow)
    const both = (bytes: Buffer, fromClient: boolean): void => {
      const at = Math.floor((cut * bytes.length) / 100)
      for (const piece of [bytes.subarray(0, at), bytes.subarray(at)]) {
        if (fromClient) harness.client(piece)
        else harness.target(piece)
      }
    }
    both(hello(), true)
    both(acknowledge(), false)
    both(openNone(51, 1), true)
    both(openedNone(1, 1, 7, 1), false)
    let [up, down] = [51, 1]
    for (const [i, { id, names, chunks, junk, answered }] of list.entries()) {
      const items =
        id === REQUEST.Write ? writeBody(...names.map((name): [string, number] => [name, i])) : readBody(...names)
      const body = Buffer.concat([
        Buffer.from([1, 0, id & 255, id >> 8]),
        requestHeader(10 * i),
        junk ? noise(40, i + 1) : items,
      ])
      const half = chunks === 2 ? 70 : body.length
      if (chunks === 2) both(chunk('MSGC', { sequence: ++up, request: i + 2 }, body.subarray(0, half)), true)
      both(chunk('MSGF', { sequence: ++up, request: i + 2 }, chunks === 2 ? body.subarray(half) : body), true)
      // What was denied has been answered; a second answer would be refused in either case alike.
      if (answered && id === REQUEST.Browse) {
        both(response(RESPONSE.Browse, { sequence: ++down, request: i + 2 }, noise(20, i + 1)), false)
      }
    }
    const faultless = messages(harness.toClient_).map((one) => {
      if (one.length === 52 && one.readUInt16LE(26) === 397) one.fill(0, 28, 36)
      return one.toString('hex')
    })
    const { pending, ended } = harness
    // Of a request that was gathered an event can tell more.
    const reports = harness.reports.map((one) => ({ ...one, fields: null, items: null }))
    return JSON.stringify([
      harness.toTarget_.toString('hex'),
      faultless,
      harness.requests(),
      harness.responses(),
      pending,
      ended,
      reports,
    ])
  }
  fc.assert(
    fc.property(
      fc.array(asked, { minLength: 1, maxLength: 12 }),
      fc.nat(100),
      fc.nat(3),
      fc.nat(3),
      fc.boolean(),
      (list, cut, own, other, monitor) => {
        const inForce = (monitor ? watching : policies)[own]
        const shadow = new Noted(policies[other])
        const without = play(inForce, null, list, cut)
        const beside = play(inForce, shadow, list, cut)
        if (without !== beside) throw new Error(`${without}\n--- with a shadow:\n${beside}`)
        const judged = Object.values(shadow.counts).reduce((sum, count) => sum + count, 0)
        // A request with items of both kinds counts in both.
        const double =
          shadow.said.length -
          Object.entries(shadow.counts).reduce((sum, [verdict, count]) => sum + (verdict === 'same' ? 0 : count), 0)
        if (double !== 0) throw new Error('told and counted differ')
        const most = list.length + 1
        if (judged < most || judged > 2 * most) throw new Error(`${judged} judged of ${most}`)
        if (own === other && shadow.said.length > 0) throw new Error(`the same policy differs: ${shadow.said}`)
      },
    ),
    { numRuns: 300 },
  )
})

// ----------------------------------------------------------------------------------------------------- terminated

/** Rules in the words of a policy, and the candidate's judge of them, for a channel that ends at the gateway. */
class Terminated {
  readonly pipe: Pipe
  readonly shadow: Noted

  constructor(holders: Holders, inForce: Policy, candidate: Policy) {
    this.shadow = new Noted(candidate)
    this.pipe = new Pipe(holders, rulesOf(inForce), this.shadow)
    this.pipe.answer = () => []
  }
}

/** For channels of Basic256Sha256 that are encrypted, as the pipe has them. */
const terminated = (rules: string): Policy =>
  opcuaPolicy(text(rules, { opcua: `${TERMINATE}, security_modes: [SignAndEncrypt]` }))

function rulesOf(policy: Policy): IndexedRule[] {
  const [protocol] = policy.conduits[0].protocols
  if (protocol.kind !== 'opcua') throw new Error('no OPC UA')
  return protocol.rules.map((terms, index) => ({ index, terms }))
}

const bodyOf = (id: number, body: Buffer): Buffer =>
  Buffer.concat([Buffer.from([1, 0, id & 255, id >> 8]), requestHeader(7), body])

t.test('terminated', async (t) => {
  const [gateway, server, client] = await Promise.all(['gateway', 'server', 'client'].map((name) => selfSigned(name)))
  const holders = { gateway, server, client }
  const inner = (nodes: string) => `${READS}, { name: two, from: [Z3], to: [Z2], services: [write], nodes: [${nodes}] }`
  /** In chunks of their own. */
  const cut = (body: Buffer): Buffer[] => [body.subarray(0, 60), body.subarray(60)]

  await t.test('items, of one chunk and of several; sizes', async (t) => {
    const { pipe, shadow } = new Terminated(holders, terminated(WRITES), terminated(inner('"ns=2;s=Line1.A*"')))
    t.ok(pipe.open)
    pipe.send([bodyOf(REQUEST.Write, writeBody(['AA', 1], ['BB', 2]))])
    pipe.send(cut(bodyOf(REQUEST.Write, writeBody(['AA', 1]))))
    const long = bodyOf(REQUEST.Write, writeBody(['CC', 1]))
    pipe.send(cut(long))
    t.same(shadow.said, ['deny node Write ns=2;s=Line1.BB Value', 'deny node Write ns=2;s=Line1.CC Value'])
    t.match(shadow.told[0], {
      items: 2,
      denied: 1,
      security_mode: 'SignAndEncrypt',
      visibility: 'inspected',
      request_id: 1,
    })
    t.same(shadow.counts, { same: 2, 'deny node': 2 })
    t.ok(pipe.requests.at(-1)?.equals(long), 'gathered for the shadow, and sent as it came')
  })

  await t.test('what is denied before all of it has come', async (t) => {
    const { pipe, shadow } = new Terminated(holders, terminated(READS), terminated(inner('"ns=2;s=Line1.A*"')))
    pipe.send(cut(bodyOf(REQUEST.Write, writeBody(['AA', 1], ['BB', 2]))))
    pipe.send(cut(bodyOf(REQUEST.Write, writeBody(['BB', 1]))))
    pipe.send([bodyOf(REQUEST.Write, writeBody(['BB', 1]))])
    t.same(shadow.said, ['allow service Write ns=2;s=Line1.AA Value'])
    t.same(shadow.counts, { same: 3, 'allow service': 1 })
    t.equal(pipe.requests.length, 0)
    t.equal(pipe.responses.length, 3, 'each is answered once')
    t.ok(pipe.open)
  })

  await t.test('property: a shadow changes nothing', async () => {
    const policies = [READS, WRITES, inner('"ns=2;s=Line1.A*"'), inner('"ns=2;s=Line1.*A"')].map(terminated)
    const one = fc.record({
      id: fc.constantFrom(REQUEST.Read, REQUEST.Write, REQUEST.Browse, REQUEST.Call),
      names: fc.array(fc.constantFrom('AA', 'AB', 'BA', 'BB'), { minLength: 1, maxLength: 4 }),
      long: fc.boolean(),
      junk: fc.boolean(),
    })
    const play = (
      own: number,
      shadow: Noted | null,
      list: { id: number; names: string[]; long: boolean; junk: boolean }[],
    ) => {
      const pipe = new Pipe(holders, rulesOf(policies[own]), shadow)
      for (const [i, { id, names, long, junk }] of list.entries()) {
        const items =
          id === REQUEST.Write ? writeBody(...names.map((name): [string, number] => [name, i])) : readBody(...names)
        const body = bodyOf(id, junk ? noise(40, i + 1) : items)
        pipe.send(long ? cut(body) : [body])
      }
      // The time stands behind the type id of an answer.
      const answers = pipe.responses.map((body) => `${body.toString('hex', 0, 4)} ${body.toString('hex', 12)}`)
      return JSON.stringify([Buffer.concat(pipe.requests).toString('hex'), answers, pipe.ended])
    }
    fc.assert(
      fc.property(fc.array(one, { minLength: 1, maxLength: 8 }), fc.nat(3), fc.nat(3), (list, own, other) => {
        const shadow = new Noted(policies[other])
        const [without, beside] = [play(own, null, list), play(own, shadow, list)]
        if (without !== beside) throw new Error(`${without}\n--- with a shadow:\n${beside}`)
        const judged = Object.values(shadow.counts).reduce((sum, count) => sum + count, 0)
        if (judged < list.length + 1) throw new Error(`${judged} judged of ${list.length + 1}`)
        if (own === other && shadow.said.length > 0) throw new Error(`the same policy differs: ${shadow.said}`)
      }),
      { numRuns: 30 },
    )
  })
})

t.test('a server that connects by itself, where the candidate does not let it', async (t) => {
  const reverse = 'security_modes: [None], reverse_connect: [127.0.0.2/32]'
  const rules = `${READS}, { name: back, from: [Z2], to: [Z3], services: [discovery, session, read] }`
  for (const [inForce, candidate, said] of [
    [text(rules, { opcua: reverse }), text(READS), 'deny security OpenSecureChannel'],
    [text(READS), text(rules, { opcua: reverse }), 'allow security OpenSecureChannel'],
  ] as const) {
    const { harness, shadow } = new Line(inForce, candidate)
    harness.client(reverseHello())
    harness.target(hello())
    harness.client(acknowledge())
    harness.target(openNone(51, 1))
    harness.client(openedNone(1, 1, 7, 1))
    t.same(shadow.said, [said])
  }
})
