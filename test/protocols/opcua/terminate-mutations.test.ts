/**
 * A terminating session against what can be said on a channel that is open: thousands of altered requests and responses,
 * all of them well sealed. Nothing throws, and no service or node that the rules deny reaches the server.
 */
import {
  ActivateSessionRequest,
  BinaryStream,
  BrowseRequest,
  CallRequest,
  CreateSessionRequest,
  CreateSessionResponse,
  CreateSubscriptionRequest,
  DataType,
  DataValue,
  EndpointDescription,
  GetEndpointsRequest,
  GetEndpointsResponse,
  PublishRequest,
  ReadRequest,
  ReadResponse,
  RegisterNodesRequest,
  Variant,
  WriteRequest,
} from 'node-opcua'
import t from 'tap'
import { typeIdAt } from '../../../src/protocols/opcua/chunk.ts'
import { RequestWalker } from '../../../src/protocols/opcua/requests.ts'
import { REQUEST, RESPONSE, servicesIn } from '../../../src/protocols/opcua/services.ts'
import { ruleOf } from '../../support/opcua-gateway.ts'
import { Pipe } from '../../support/opcua-pipe.ts'
import { selfSigned } from '../../support/opcua-pki.ts'

const VARIANTS = Number(process.env.HEADGATE_TEST_MUTATIONS ?? 10_000)
const LEAST_SEED = 0x2545f491

/** xorshift32: the same run each time. */
function random(seed: number): (below: number) => number {
  let x = seed | 1
  return (below) => {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    return (x >>> 0) % below
  }
}

/** A message as node-opcua encodes it, TypeId first. */
function encoded(message: { encode(stream: BinaryStream): void; schema: unknown }, typeId: number): Buffer {
  const stream = new BinaryStream(Buffer.alloc(65_536))
  message.encode(stream)
  const type = Buffer.from([1, 0, typeId & 0xff, typeId >>> 8])
  return Buffer.concat([type, stream.buffer.subarray(0, stream.length)])
}

const value = (text: number) => new DataValue({ value: new Variant({ dataType: DataType.Double, value: text }) })
const endpoint = new EndpointDescription({
  endpointUrl: 'opc.tcp://plc:4840',
  server: { applicationUri: 'urn:plc' },
  securityMode: 3,
  securityPolicyUri: 'http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256',
  userIdentityTokens: [{ policyId: 'u', tokenType: 1 }],
  transportProfileUri: 'http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary',
})

const REQUESTS = [
  encoded(new GetEndpointsRequest({ endpointUrl: 'opc.tcp://gw:4840' }), REQUEST.GetEndpoints),
  encoded(new CreateSessionRequest({ sessionName: 's', clientNonce: Buffer.alloc(32, 1) }), REQUEST.CreateSession),
  encoded(new ActivateSessionRequest({}), REQUEST.ActivateSession),
  encoded(new ReadRequest({ nodesToRead: [{ nodeId: 'ns=2;s=Line1.Setpoint', attributeId: 13 }] }), REQUEST.Read),
  encoded(
    new WriteRequest({
      nodesToWrite: [
        { nodeId: 'ns=2;s=Line1.Setpoint', attributeId: 13, value: value(80) },
        { nodeId: 'ns=2;s=Line1.Other', attributeId: 13, value: value(1) },
        { nodeId: 'ns=2;s=Line1.Setpoint', attributeId: 13, value: value(99) },
      ],
    }),
    REQUEST.Write,
  ),
  encoded(new BrowseRequest({ nodesToBrowse: [{ nodeId: 'i=85' }] }), REQUEST.Browse),
  encoded(new RegisterNodesRequest({ nodesToRegister: ['ns=2;s=Line1.Setpoint'] }), REQUEST.RegisterNodes),
  encoded(new CreateSubscriptionRequest({}), REQUEST.CreateSubscription),
  encoded(
    new CallRequest({ methodsToCall: [{ objectId: 'ns=2;s=Line1', methodId: 'ns=2;s=Ack', inputArguments: [] }] }),
    REQUEST.Call,
  ),
]

const RESPONSES = [
  encoded(new ReadResponse({ results: [value(1), value(2)] }), RESPONSE.Read),
  encoded(new GetEndpointsResponse({ endpoints: [endpoint] }), RESPONSE.GetEndpoints),
  encoded(
    new CreateSessionResponse({
      authenticationToken: 'ns=0;b=AAAAAAAAAAAAAAAAAAAAAA==',
      serverNonce: Buffer.alloc(32, 2),
      serverEndpoints: [endpoint],
    }),
    RESPONSE.CreateSession,
  ),
]

const setpoint = { text: 'x', namespace: 2, id: { type: 'string', glob: 'Line1.Setpoint' } } as const
const READS = ['discovery', 'session', 'browse', 'read', 'subscribe'].flatMap((group) => servicesIn(group as never))
const RULES = [
  ruleOf({ name: 'reads', services: READS }, 0),
  ruleOf(
    { name: 'writes', services: [REQUEST.Write], nodes: [setpoint], values: [{ node: setpoint, min: 0, max: 85 }] },
    1,
  ),
]
const ALLOWED = new Set<number>([...READS, REQUEST.Write])

function mutate(body: Buffer, below: (n: number) => number): Buffer {
  const altered = Buffer.from(body)
  for (let i = below(4); i >= 0; i--) {
    const at = below(altered.length)
    switch (below(5)) {
      case 0:
        altered[at] ^= 1 << below(8)
        break
      case 1:
        altered[at] = below(256)
        break
      case 2:
        if (at + 4 <= altered.length) altered.writeInt32LE([-1, 0, 1, 0x7fffffff, -2, 65_536][below(6)], at)
        break
      case 3:
        return altered.subarray(0, Math.max(1, at))
      default:
        altered.copyWithin(at, below(altered.length), altered.length)
    }
  }
  return altered
}

/** Some messages go in several chunks. */
function inChunks(body: Buffer, below: (n: number) => number): Buffer[] {
  if (below(4) !== 0 || body.length < 3) return [body]
  const at = 1 + below(body.length - 1)
  return [body.subarray(0, at), body.subarray(at)]
}

t.test('how a request is answered that would be denied is told', async (t) => {
  const [gateway, server, client] = await Promise.all(['gateway', 'server', 'client'].map((name) => selfSigned(name)))
  const read = ruleOf({ services: [REQUEST.Read] })
  const pipe = new Pipe({ gateway, server, client }, [read])
  pipe.terms.monitor = true
  const results = (...statuses: number[]): Buffer => {
    const bytes = Buffer.alloc(4 + 24 + 4 + 4 * statuses.length + 4)
    bytes.set([1, 0, RESPONSE.Write & 255, RESPONSE.Write >> 8])
    bytes.writeInt32LE(statuses.length, 28)
    for (const [i, status] of statuses.entries()) bytes.writeUInt32LE(status, 32 + 4 * i)
    return bytes
  }
  const write = encoded(
    new WriteRequest({ nodesToWrite: [{ nodeId: 'ns=2;s=A', attributeId: 13, value: value(80) }] }),
    REQUEST.Write,
  )
  pipe.answer = () => [results(0)]
  pipe.send([write])
  pipe.answer = () => [results(0x803b0000)]
  pipe.send([write])
  t.match(
    pipe.told.filter(({ kind }) => kind === 'request'),
    [{ function: 'Write', node: 'ns=2;s=A' }, { function: 'Write' }],
  )
  t.strictSame(pipe.answered, [
    { request: 1, refused: false },
    { request: 2, refused: true },
  ])
  t.equal(pipe.responses.length, 2)
  pipe.session.dispose()
})

t.test('requests that are not answered in time are told once', async (t) => {
  const [gateway, server, client] = await Promise.all(['gateway', 'server', 'client'].map((name) => selfSigned(name)))
  const pipe = new Pipe({ gateway, server, client }, [ruleOf({})])
  const publish = encoded(new PublishRequest({}), REQUEST.Publish)
  const read = encoded(new ReadRequest({ nodesToRead: [{ nodeId: 'i=2258', attributeId: 13 }] }), REQUEST.Read)
  pipe.send([publish])
  pipe.send([read])
  t.equal(pipe.requests.length, 2)
  const timeouts = () => pipe.told.filter(({ kind }) => kind === 'timeout')
  pipe.pass(4000)
  t.strictSame(timeouts(), [])
  pipe.pass(20_000)
  t.match(timeouts(), [
    { function: 'Read', request_id: 2, detail: 'no answer within 5000 ms', security_mode: 'SignAndEncrypt' },
  ])
  t.equal(timeouts().length, 1)
  t.equal(pipe.open, true)
  pipe.session.dispose()
})

t.test(`${VARIANTS} altered requests and responses`, async (t) => {
  const [gateway, server, client] = await Promise.all(['gateway', 'server', 'client'].map((name) => selfSigned(name)))
  const below = random(LEAST_SEED)
  let pipe = new Pipe({ gateway, server, client }, RULES)
  let [opened, reached, answered] = [1, 0, 0]
  const problems: string[] = []
  const walker = new RequestWalker()
  for (let i = 0; i < VARIANTS; i++) {
    if (!pipe.open) {
      answered += pipe.responses.length
      pipe.session.dispose()
      pipe = new Pipe({ gateway, server, client }, RULES)
      opened++
    }
    pipe.answer = () => inChunks(mutate(RESPONSES[below(RESPONSES.length)], below), below)
    pipe.requests.length = 0
    const body = below(3) === 0 ? REQUESTS[below(REQUESTS.length)] : mutate(REQUESTS[below(REQUESTS.length)], below)
    pipe.send(inChunks(body, below))
    // Services that pass as bytes come in the chunks that they were sent in: the first has the type id.
    const [first] = pipe.requests
    if (first === undefined) continue
    reached++
    const typeId = typeIdAt(first, 0, first.length)
    if (!ALLOWED.has(typeId)) problems.push(`i=${typeId} reached the server: ${body.toString('hex')}`)
    if (typeId !== REQUEST.Write) continue
    const whole = Buffer.concat(pipe.requests)
    if (!walker.open(whole, 0, whole.length)) problems.push(`a malformed Write: ${whole.toString('hex')}`)
    while (walker.next()) {
      const name = walker.buf.subarray(walker.node.from, walker.node.to)
      if (Buffer.from(name).toString() !== 'Line1.Setpoint') problems.push(`a write to ${name}`)
    }
  }
  answered += pipe.responses.length
  t.same(problems.slice(0, 3), [])
  t.ok(reached > VARIANTS / 10, `${reached} have reached the server, over ${opened} channels`)
  t.ok(answered > VARIANTS / 10, `${answered} answers`)
  t.ok(
    pipe.terms.counters.cells.every((cell) => cell >= 0),
    'no gauge below nothing',
  )
})
