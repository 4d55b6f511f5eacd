/** Rules inside messages: node sets, walkers, decisions, and what is taken out of a request and put into its response. */
import fc from 'fast-check'
import {
  ActivateSessionRequest,
  AddNodesRequest,
  AddNodesResponse,
  AddReferencesRequest,
  AddReferencesResponse,
  BinaryStream,
  BrowseRequest,
  BrowseResponse,
  CallRequest,
  CallResponse,
  CreateMonitoredItemsRequest,
  CreateMonitoredItemsResponse,
  CreateSessionRequest,
  CreateSubscriptionRequest,
  CreateSubscriptionResponse,
  coerceExpandedNodeId,
  coerceNodeId,
  DataType,
  DataValue,
  DeleteNodesRequest,
  DeleteNodesResponse,
  DeleteReferencesRequest,
  DeleteReferencesResponse,
  DeleteSubscriptionsRequest,
  DeleteSubscriptionsResponse,
  DiagnosticInfo,
  encodeNodeId,
  HistoryReadRequest,
  HistoryReadResponse,
  HistoryUpdateRequest,
  HistoryUpdateResponse,
  QueryFirstRequest,
  ReadRawModifiedDetails,
  ReadRequest,
  ReadResponse,
  RegisterNodesRequest,
  RegisterNodesResponse,
  ServiceFault,
  StatusCodes,
  TransferSubscriptionsRequest,
  TranslateBrowsePathsToNodeIdsRequest,
  TranslateBrowsePathsToNodeIdsResponse,
  UnregisterNodesRequest,
  UnregisterNodesResponse,
  UserNameIdentityToken,
  Variant,
  VariantArrayType,
  WriteRequest,
  WriteResponse,
} from 'node-opcua'
import t from 'tap'
import { Cursor, NodeRef, Writer } from '../../../src/protocols/opcua/binary.ts'
import { VERDICT } from '../../../src/protocols/opcua/decide.ts'
import {
  describeActivateSession,
  describeCreateSession,
  describeDenied,
  describeRequest,
} from '../../../src/protocols/opcua/describe.ts'
import { Exchanges, SEND } from '../../../src/protocols/opcua/exchanges.ts'
import { STATUS, statusOf, writeRequestHeader } from '../../../src/protocols/opcua/headers.ts'
import { Namespaces, namespaceArrayOf, writeNamespaceRead } from '../../../src/protocols/opcua/namespaces.ts'
import { compileGlob, matchGlob, NodeSet, nodeText } from '../../../src/protocols/opcua/node-id.ts'
import { RequestWalker } from '../../../src/protocols/opcua/requests.ts'
import { REQUEST } from '../../../src/protocols/opcua/services.ts'
import { SessionContext } from '../../../src/protocols/opcua/session-context.ts'
import { REASON, REASONS } from '../../../src/protocols/reason.ts'
import { hex } from '../../support/bytes.ts'
import {
  decodeMessage,
  type Encodable,
  encodeMessage,
  pattern,
  type RuleText,
  ruleTable,
} from '../../support/opcua-messages.ts'

const utf8 = (text: string) => new TextEncoder().encode(text)

function nodeBytes(text: string): Uint8Array {
  const stream = new BinaryStream(Buffer.alloc(1024))
  encodeNodeId(coerceNodeId(text), stream)
  return stream.buffer.subarray(0, stream.length)
}

function refOf(bytes: Uint8Array): NodeRef {
  const ref = new NodeRef()
  const cursor = new Cursor().open(bytes, 0, bytes.length)
  cursor.nodeId(ref)
  if (!cursor.finish()) throw new Error('not a NodeId')
  return ref
}

const verdictName = (verdict: number): string => (verdict === VERDICT.partly ? 'partly' : REASONS[verdict])

t.test('globs', async (t) => {
  const rows: [glob: string, text: string, expected: boolean][] = [
    ['Line1.*', 'Line1.Speed', true],
    ['Line1.*', 'Line1.', true],
    ['Line1.*', 'Line1', false],
    ['Line1.*', 'xLine1.Speed', false],
    ['*', '', true],
    ['', '', true],
    ['', 'a', false],
    ['a?c', 'abc', true],
    ['a?c', 'a水c', true],
    ['a?c', 'ac', false],
    ['*水', '上水', true],
    ['*a*b*', 'xxaxxbxx', true],
    ['*a*b', 'xxaxxbx', false],
    ['a\\*b', 'a*b', true],
    ['a\\*b', 'axb', false],
    ['a\\?', 'a?', true],
    ['a\\\\', 'a\\', true],
    ['dir\\file', 'dir\\file', true],
    ['line1', 'Line1', false],
  ]
  for (const [glob, text, expected] of rows) {
    const bytes = utf8(text)
    t.equal(matchGlob(compileGlob(glob), bytes, 0, bytes.length), expected, `${glob} on ${text}`)
  }
  // What the words mean, read one character at a time; and never a long time.
  const means = (glob: string[], text: string[]): boolean => {
    if (glob.length === 0) return text.length === 0
    const [first, ...rest] = glob
    if (first === '*') return means(rest, text) || (text.length > 0 && means(glob, text.slice(1)))
    return text.length > 0 && (first === '?' || first === text[0]) && means(rest, text.slice(1))
  }
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('a', 'b', '水', '*', '?'), { maxLength: 8 }),
      fc.array(fc.constantFrom('a', 'b', '水'), { maxLength: 8 }),
      (glob, text) => {
        const bytes = utf8(text.join(''))
        return matchGlob(compileGlob(glob.join('')), bytes, 0, bytes.length) === means(glob, text)
      },
    ),
    { numRuns: 3000 },
  )
  const long = utf8('a'.repeat(16_000))
  const began = performance.now()
  t.notOk(matchGlob(compileGlob('*a*a*a*a*a*a*a*a*b'), long, 0, long.length))
  t.ok(performance.now() - began < 2000, 'no explosion')
})

t.test('sets of nodes', async (t) => {
  const namespaces = new Namespaces()
  namespaces.set(['http://opcfoundation.org/UA/', 'urn:server', 'urn:plant:cell'])
  const rows: [patterns: string[], node: string, expected: boolean][] = [
    [['i=85'], 'i=85', true],
    [['i=85'], 'ns=1;i=85', false],
    [['ns=2;i=1001-1099'], 'ns=2;i=1001', true],
    [['ns=2;i=1001-1099'], 'ns=2;i=1099', true],
    [['ns=2;i=1001-1099'], 'ns=2;i=1100', false],
    [['ns=2;i=1-5', 'ns=2;i=4-9', 'ns=2;i=20'], 'ns=2;i=9', true],
    [['ns=2;i=1-5', 'ns=2;i=7-9', 'ns=2;i=20'], 'ns=2;i=6', false],
    [['ns=2;i=1-5', 'ns=2;i=7-9', 'ns=2;i=20'], 'ns=2;i=20', true],
    [['ns=2;s=Line1.*'], 'ns=2;s=Line1.Speed', true],
    [['ns=2;s=Line1.Speed'], 'ns=2;s=Line1.Speed', true],
    [['ns=2;s=Line1.Speed'], 'ns=2;s=Line1.Spee', false],
    [['ns=2;s=Line1.*'], 'ns=3;s=Line1.Speed', false],
    [['ns=2;s=85'], 'ns=2;i=85', false],
    [['nsu=urn:plant:cell;i=1001-1099'], 'ns=2;i=1050', true],
    [['nsu=urn:plant:cell;i=1001-1099'], 'ns=1;i=1050', false],
    [['nsu=urn:elsewhere;i=1001'], 'ns=2;i=1001', false],
    [['nsu=http://opcfoundation.org/UA/;i=85'], 'i=85', true],
    [['ns=1;g=72962b91-fa75-4ae6-8d28-b404dc7daf63'], 'ns=1;g=72962B91-FA75-4AE6-8D28-B404DC7DAF63', true],
    [['ns=1;g=72962b91-fa75-4ae6-8d28-b404dc7daf64'], 'ns=1;g=72962B91-FA75-4AE6-8D28-B404DC7DAF63', false],
    [['ns=1;b=AQID'], 'ns=1;b=AQID', true],
    [['ns=1;b=AQID'], 'ns=1;b=AQIE', false],
  ]
  for (const [patterns, node, expected] of rows) {
    const bytes = nodeBytes(node)
    t.equal(new NodeSet(patterns.map(pattern)).has(bytes, refOf(bytes), namespaces), expected, `${patterns} ${node}`)
  }
  // The same node in each of its encodings.
  for (const bytes of ['00 55', '01 00 5500', '02 0000 55000000']) {
    t.ok(new NodeSet([pattern('i=85')]).has(hex(bytes), refOf(hex(bytes)), namespaces), bytes)
  }
  // While the server's array is unknown, a URI allows nothing, and denies whatever may be meant.
  const unknown = new Namespaces()
  const set = new NodeSet([pattern('nsu=urn:plant:cell;i=7')])
  const bytes = nodeBytes('ns=5;i=7')
  t.notOk(set.has(bytes, refOf(bytes), unknown))
  t.ok(set.mayHave(bytes, refOf(bytes), unknown))
  t.notOk(set.mayHave(bytes, refOf(bytes), namespaces))
  // A node of another server is none of this one's; whoever denies it means it all the same.
  const remote = hex('40 55 01000000')
  const ref = new NodeRef()
  new Cursor().open(remote, 0, remote.length).expandedNodeId(ref)
  t.notOk(new NodeSet([pattern('i=85')]).has(remote, ref, namespaces))
  t.ok(new NodeSet([pattern('i=85')]).mayHave(remote, ref, namespaces))
  // As text.
  for (const node of ['i=85', 'ns=2;i=1001', 'ns=2;s=Line1.Speed', 'ns=1;b=AQID']) {
    t.equal(nodeText(nodeBytes(node), refOf(nodeBytes(node))), node)
  }
  const guid = nodeBytes('ns=1;g=72962B91-FA75-4AE6-8D28-B404DC7DAF63')
  t.equal(nodeText(guid, refOf(guid)), 'ns=1;g=72962b91-fa75-4ae6-8d28-b404dc7daf63')
})

/** Node names that the messages below act on. */
const NODES = ['ns=2;s=Line1.Speed', 'ns=2;s=Line2.Speed', 'ns=2;i=1001', 'i=2258', 'ns=1;b=AQID']

const double = (value: number) => new DataValue({ value: { dataType: DataType.Double, value } })

/** A service's request for some nodes, and the response of a server to so many. */
interface Sample {
  request: (nodes: string[]) => Encodable
  response: (count: number) => Encodable
  /** An empty message of the response's class. */
  empty: () => Encodable & { results?: unknown[] | null }
  emptyRequest: () => Encodable
  /** The nodes of node-opcua's request. */
  nodesOf: (request: never) => string[]
}

const infos = (count: number) => Array.from({ length: count }, (_, i) => new DiagnosticInfo({ symbolicId: i }))
const times = <T>(count: number, make: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => make(i))
const texts = (list: { toString(): string }[] | null | undefined) => (list ?? []).map(String)

/** node-opcua does not export its class of UpdateDataDetails (OPC 10000-11 §6.8.2), yet knows it when it decodes. */
function historyUpdate(nodes: string[]): HistoryUpdateRequest {
  const writer = new Writer().numericNodeId(0, REQUEST.HistoryUpdate)
  writeRequestHeader(writer, null, 1, 0n, 0)
  writer.i32(nodes.length)
  for (const node of nodes) {
    const body = new Writer().raw(nodeBytes(node)).u32(1).i32(2)
    for (const value of [20, 21]) body.u8(1).u8(11).double(value)
    writer.numericNodeId(0, 682).u8(1).byteString(body.written())
  }
  return decodeMessage(new HistoryUpdateRequest(), writer.written())
}

const SAMPLES: Record<string, Sample> = {
  Read: {
    request: (nodes) => new ReadRequest({ nodesToRead: nodes.map((nodeId) => ({ nodeId, attributeId: 13 })) }),
    response: (n) => new ReadResponse({ results: times(n, double), diagnosticInfos: infos(n) }),
    empty: () => new ReadResponse(),
    emptyRequest: () => new ReadRequest(),
    nodesOf: (r: ReadRequest) => texts(r.nodesToRead?.map((one) => one.nodeId)),
  },
  Write: {
    request: (nodes) =>
      new WriteRequest({ nodesToWrite: nodes.map((nodeId) => ({ nodeId, attributeId: 13, value: double(20) })) }),
    response: (n) => new WriteResponse({ results: times(n, () => StatusCodes.Good) }),
    empty: () => new WriteResponse(),
    emptyRequest: () => new WriteRequest(),
    nodesOf: (r: WriteRequest) => texts(r.nodesToWrite?.map((one) => one.nodeId)),
  },
  Browse: {
    request: (nodes) => new BrowseRequest({ nodesToBrowse: nodes.map((nodeId) => ({ nodeId, resultMask: 63 })) }),
    response: (n) =>
      new BrowseResponse({
        results: times(n, (i) => ({
          continuationPoint: Buffer.from([i]),
          references: times(i, (j) => ({
            referenceTypeId: 'i=35',
            isForward: true,
            nodeId: coerceExpandedNodeId(`ns=1;i=${j}`),
            browseName: { namespaceIndex: 1, name: `n${j}` },
            displayName: { locale: 'en', text: `n${j}` },
            nodeClass: 2,
            typeDefinition: coerceExpandedNodeId('i=63'),
          })),
        })),
      }),
    empty: () => new BrowseResponse(),
    emptyRequest: () => new BrowseRequest(),
    nodesOf: (r: BrowseRequest) => texts(r.nodesToBrowse?.map((one) => one.nodeId)),
  },
  TranslateBrowsePathsToNodeIds: {
    request: (nodes) =>
      new TranslateBrowsePathsToNodeIdsRequest({
        browsePaths: nodes.map((startingNode) => ({
          startingNode,
          relativePath: { elements: [{ referenceTypeId: 'i=33', targetName: { namespaceIndex: 1, name: 'x' } }] },
        })),
      }),
    response: (n) =>
      new TranslateBrowsePathsToNodeIdsResponse({
        results: times(n, (i) => ({
          targets: [{ targetId: coerceExpandedNodeId(`ns=1;i=${i}`), remainingPathIndex: 0xffffffff }],
        })),
        diagnosticInfos: infos(n),
      }),
    empty: () => new TranslateBrowsePathsToNodeIdsResponse(),
    emptyRequest: () => new TranslateBrowsePathsToNodeIdsRequest(),
    nodesOf: (r: TranslateBrowsePathsToNodeIdsRequest) => texts(r.browsePaths?.map((one) => one.startingNode)),
  },
  CreateMonitoredItems: {
    request: (nodes) =>
      new CreateMonitoredItemsRequest({
        subscriptionId: 1,
        itemsToCreate: nodes.map((nodeId) => ({
          itemToMonitor: { nodeId, attributeId: 13 },
          requestedParameters: { clientHandle: 1, samplingInterval: 100, queueSize: 1 },
        })),
      }),
    response: (n) => new CreateMonitoredItemsResponse({ results: times(n, (i) => ({ monitoredItemId: i + 1 })) }),
    empty: () => new CreateMonitoredItemsResponse(),
    emptyRequest: () => new CreateMonitoredItemsRequest(),
    nodesOf: (r: CreateMonitoredItemsRequest) => texts(r.itemsToCreate?.map((one) => one.itemToMonitor.nodeId)),
  },
  HistoryRead: {
    request: (nodes) =>
      new HistoryReadRequest({
        historyReadDetails: new ReadRawModifiedDetails({ numValuesPerNode: 10 }),
        nodesToRead: nodes.map((nodeId) => ({ nodeId })),
      }),
    response: (n) =>
      new HistoryReadResponse({ results: times(n, () => ({ continuationPoint: Buffer.from('01', 'hex') })) }),
    empty: () => new HistoryReadResponse(),
    emptyRequest: () => new HistoryReadRequest(),
    nodesOf: (r: HistoryReadRequest) => texts(r.nodesToRead?.map((one) => one.nodeId)),
  },
  HistoryUpdate: {
    request: historyUpdate,
    response: (n) =>
      new HistoryUpdateResponse({
        results: times(n, () => ({ operationResults: [StatusCodes.Good], diagnosticInfos: infos(1) })),
        diagnosticInfos: infos(n),
      }),
    empty: () => new HistoryUpdateResponse(),
    emptyRequest: () => new HistoryUpdateRequest(),
    nodesOf: (r: HistoryUpdateRequest) =>
      texts(r.historyUpdateDetails?.map((one) => (one as unknown as { nodeId?: object } | null)?.nodeId ?? '')),
  },
  AddNodes: {
    request: (nodes) =>
      new AddNodesRequest({
        nodesToAdd: nodes.map((parentNodeId) => ({
          parentNodeId: parentNodeId as never,
          referenceTypeId: 'i=35',
          browseName: { name: 'new' },
        })),
      }),
    response: (n) => new AddNodesResponse({ results: times(n, (i) => ({ addedNodeId: `ns=1;i=${i}` })) }),
    empty: () => new AddNodesResponse(),
    emptyRequest: () => new AddNodesRequest(),
    nodesOf: (r: AddNodesRequest) => texts(r.nodesToAdd?.map((one) => one.parentNodeId)),
  },
  AddReferences: {
    request: (nodes) =>
      new AddReferencesRequest({
        referencesToAdd: nodes.map((sourceNodeId) => ({ sourceNodeId, targetNodeId: sourceNodeId as never })),
      }),
    response: (n) => new AddReferencesResponse({ results: times(n, () => StatusCodes.Good) }),
    empty: () => new AddReferencesResponse(),
    emptyRequest: () => new AddReferencesRequest(),
    nodesOf: (r: AddReferencesRequest) => texts(r.referencesToAdd?.map((one) => one.sourceNodeId)),
  },
  DeleteNodes: {
    request: (nodes) => new DeleteNodesRequest({ nodesToDelete: nodes.map((nodeId) => ({ nodeId })) }),
    response: (n) => new DeleteNodesResponse({ results: times(n, () => StatusCodes.Good) }),
    empty: () => new DeleteNodesResponse(),
    emptyRequest: () => new DeleteNodesRequest(),
    nodesOf: (r: DeleteNodesRequest) => texts(r.nodesToDelete?.map((one) => one.nodeId)),
  },
  DeleteReferences: {
    request: (nodes) =>
      new DeleteReferencesRequest({
        referencesToDelete: nodes.map((sourceNodeId) => ({ sourceNodeId, targetNodeId: sourceNodeId as never })),
      }),
    response: (n) => new DeleteReferencesResponse({ results: times(n, () => StatusCodes.Good) }),
    empty: () => new DeleteReferencesResponse(),
    emptyRequest: () => new DeleteReferencesRequest(),
    nodesOf: (r: DeleteReferencesRequest) => texts(r.referencesToDelete?.map((one) => one.sourceNodeId)),
  },
  Call: {
    request: (nodes) =>
      new CallRequest({
        methodsToCall: nodes.map((objectId) => ({
          objectId,
          methodId: objectId,
          inputArguments: [new Variant({ dataType: DataType.Double, value: 1 })],
        })),
      }),
    response: (n) =>
      new CallResponse({
        results: times(n, () => ({
          inputArgumentResults: [StatusCodes.Good],
          inputArgumentDiagnosticInfos: infos(1),
          outputArguments: [new Variant({ dataType: DataType.String, value: 'done' })],
        })),
      }),
    empty: () => new CallResponse(),
    emptyRequest: () => new CallRequest(),
    nodesOf: (r: CallRequest) => texts(r.methodsToCall?.map((one) => one.objectId)),
  },
}

const servicesUnder = Object.entries(SAMPLES)
const nodeList = fc.array(fc.constantFrom(...NODES), { minLength: 0, maxLength: 8 })

t.test("the walker's items are those that node-opcua encoded", async (t) => {
  for (const [service, { request }] of servicesUnder) {
    fc.assert(
      fc.property(nodeList, (nodes) => {
        const bytes = encodeMessage(request(nodes))
        const walker = new RequestWalker()
        if (!walker.open(bytes, 0, bytes.length)) throw new Error(`${service}: fault ${walker.fault}`)
        const found: string[] = []
        let at = walker.countAt + 4
        while (walker.next()) {
          found.push(nodeText(bytes, walker.node))
          if (walker.itemAt !== at) throw new Error('items have gaps')
          at = walker.itemEnd
        }
        if (walker.fault !== 0 || at !== bytes.length) throw new Error(`${service}: fault ${walker.fault}`)
        return JSON.stringify(found) === JSON.stringify(nodes)
      }),
      { numRuns: 60 },
    )
    // Cut short or longer by a byte, it is malformed, and denied as such.
    const bytes = encodeMessage(request(NODES))
    const table = ruleTable({ services: [service], nodes: ['ns=2;s=*', 'ns=2;i=1-9999', 'i=2258', 'ns=1;b=AQID'] })
    const context = new SessionContext()
    t.equal(verdictName(table.decide(bytes, 0, bytes.length, context)), 'allow', service)
    t.equal(verdictName(table.decide(bytes, 0, bytes.length - 1, context)), 'malformed', `${service} cut`)
    const longer = Uint8Array.from([...bytes, 0])
    t.equal(verdictName(table.decide(longer, 0, longer.length, context)), 'malformed', `${service} with a byte more`)
  }
})

t.test('a denied item leaves the request, and its result stands in place', async (t) => {
  for (const [service, sample] of servicesUnder) {
    fc.assert(
      fc.property(nodeList, (nodes) => {
        const bytes = encodeMessage(sample.request(nodes))
        const table = ruleTable({ services: [service], nodes: ['ns=2;s=Line1.*', 'ns=2;i=1000-1100'] })
        const allowed = nodes.filter((node) => node.startsWith('ns=2;s=Line1') || node === 'ns=2;i=1001')
        const context = new SessionContext()
        const verdict = table.decide(bytes, 0, bytes.length, context)
        if (allowed.length === nodes.length) return verdict === REASON.allow
        if (allowed.length === 0) return verdict === REASON.node && table.denials.count === nodes.length
        if (verdict !== VERDICT.partly) return false
        const exchanges = new Exchanges(null)
        const sent = exchanges.send(7, table, verdict, bytes, 0, bytes.length, context)
        if (sent !== SEND.rewritten || !exchanges.wants(7)) return false
        const left = decodeMessage(sample.emptyRequest(), exchanges.out.written())
        if (JSON.stringify(sample.nodesOf(left as never)) !== JSON.stringify(allowed)) return false
        const response = encodeMessage(sample.response(allowed.length))
        if (exchanges.answer(7, response, 0, response.length) !== SEND.rewritten) return false
        const answer = decodeMessage(sample.empty(), exchanges.out.written())
        const results = answer.results ?? []
        const status = (one: unknown) =>
          (one as { statusCode?: { value: number } }).statusCode?.value ?? (one as { value: number }).value
        const refused = results.map((one) => status(one) === STATUS.badUserAccessDenied)
        return JSON.stringify(refused) === JSON.stringify(nodes.map((node) => !allowed.includes(node)))
      }),
      { numRuns: 60 },
    )
    t.pass(service)
  }
})

t.test('whatever becomes of the bytes, no denied node leaves', async () => {
  const allowed = (node: string) => node.startsWith('ns=2;s=Line1.')
  const mutation = fc.record({ at: fc.nat(), value: fc.nat({ max: 255 }), cut: fc.option(fc.nat(), { freq: 6 }) })
  fc.assert(
    fc.property(
      fc.constantFrom(...servicesUnder),
      nodeList,
      fc.array(mutation, { minLength: 1, maxLength: 4 }),
      ([service, sample], nodes, mutations) => {
        let bytes = encodeMessage(sample.request(nodes))
        for (const { at, value, cut } of mutations) {
          bytes[at % bytes.length] = value
          if (cut !== null && bytes.length > 8) bytes = bytes.slice(0, 4 + (cut % (bytes.length - 4)))
        }
        const table = ruleTable({ services: [service], nodes: ['ns=2;s=Line1.*'] })
        const context = new SessionContext()
        const verdict = table.decide(bytes, 0, bytes.length, context)
        if (verdict !== REASON.allow && verdict !== VERDICT.partly) return true
        const exchanges = new Exchanges(null)
        const sent = exchanges.send(1, table, verdict, bytes, 0, bytes.length, context)
        const out = sent === SEND.rewritten ? exchanges.out.written() : bytes
        let read: Encodable
        try {
          read = decodeMessage(sample.emptyRequest(), out)
        } catch {
          return true
        }
        return sample.nodesOf(read as never).every(allowed)
      },
    ),
    { numRuns: 4000 },
  )
})

t.test('decisions', async (t) => {
  const write = (nodeId: string, value: DataValue, attributeId = 13) =>
    new WriteRequest({ nodesToWrite: [{ nodeId, attributeId, value }] })
  const read = (nodeId: string, attributeId = 13) => new ReadRequest({ nodesToRead: [{ nodeId, attributeId }] })
  const call = (objectId: string, methodId: string) => new CallRequest({ methodsToCall: [{ objectId, methodId }] })
  const variant = (dataType: DataType, value: unknown, arrayType = VariantArrayType.Scalar) =>
    new DataValue({ value: new Variant({ dataType, value, arrayType }) })
  const setpoint = 'ns=2;s=Line1.Setpoint'
  const setpoints: RuleText = {
    services: ['read', 'write'],
    nodes: ['ns=2;s=Line1.*'],
    attributes: ['Value'],
    values: { [setpoint]: { min: 0, max: 85 } },
    methods: ['ns=2;s=Line1/ns=2;s=Ack', 'GetMonitoredItems'],
  }
  const withCall = { ...setpoints, services: ['read', 'write', 'method'] }
  const readAll: RuleText = { services: ['read', 'browse'] }
  const rows: [name: string, rules: RuleText[], message: Encodable, expected: string][] = [
    ['a service that no rule has', [readAll], write(setpoint, double(1)), 'service'],
    ['a service without more', [readAll], read('ns=9;i=1'), 'allow'],
    ['a value within', [setpoints], write(setpoint, double(85)), 'allow'],
    ['a value above', [setpoints], write(setpoint, double(85.0001)), 'value'],
    ['a value below', [setpoints], write(setpoint, double(-0.1)), 'value'],
    ['not a number', [setpoints], write(setpoint, double(Number.NaN)), 'value'],
    ['infinity', [{ ...setpoints, values: { [setpoint]: { min: 0 } } }], write(setpoint, double(Infinity)), 'value'],
    ['a Byte', [setpoints], write(setpoint, variant(DataType.Byte, 200)), 'value'],
    ['an Int16 below', [setpoints], write(setpoint, variant(DataType.Int16, -1)), 'value'],
    ['an SByte below', [setpoints], write(setpoint, variant(DataType.SByte, -1)), 'value'],
    ['an Int32', [setpoints], write(setpoint, variant(DataType.Int32, 85)), 'allow'],
    ['a UInt32 that is no Int32', [setpoints], write(setpoint, variant(DataType.UInt32, 0xffffffff)), 'value'],
    ['an Int64 below', [setpoints], write(setpoint, variant(DataType.Int64, [0xffffffff, 0xffffffff])), 'value'],
    ['a UInt64', [setpoints], write(setpoint, variant(DataType.UInt64, [0, 85])), 'allow'],
    ['a UInt64 above 2^53', [setpoints], write(setpoint, variant(DataType.UInt64, [0xffffffff, 85])), 'value'],
    ['a Float', [setpoints], write(setpoint, variant(DataType.Float, 84.5)), 'allow'],
    ['a Boolean', [setpoints], write(setpoint, variant(DataType.Boolean, true)), 'allow'],
    ['text under a limit', [setpoints], write(setpoint, variant(DataType.String, '12')), 'value'],
    ['a DateTime under a limit', [setpoints], write(setpoint, variant(DataType.DateTime, new Date(0))), 'value'],
    ['no value', [setpoints], write(setpoint, new DataValue({ statusCode: StatusCodes.Good })), 'value'],
    [
      'an array within',
      [setpoints],
      write(setpoint, variant(DataType.Double, [1, 85], VariantArrayType.Array)),
      'allow',
    ],
    [
      'an array with one above',
      [setpoints],
      write(setpoint, variant(DataType.Double, [1, 86], VariantArrayType.Array)),
      'value',
    ],
    ['an empty array', [setpoints], write(setpoint, variant(DataType.Double, [], VariantArrayType.Array)), 'value'],
    [
      'Variants with one above',
      [setpoints],
      write(
        setpoint,
        variant(
          DataType.Variant,
          [1, 90].map((value) => new Variant({ dataType: DataType.Double, value })),
          VariantArrayType.Array,
        ),
      ),
      'value',
    ],
    ['a node without limit', [setpoints], write('ns=2;s=Line1.Name', variant(DataType.String, 'x')), 'allow'],
    ['another attribute', [setpoints], write(setpoint, double(1), 17), 'attribute'],
    ['another node', [setpoints], write('ns=2;s=Line2.Setpoint', double(1)), 'node'],
    ['a method', [withCall], call('ns=2;s=Line1', 'ns=2;s=Ack'), 'allow'],
    ['another method', [withCall], call('ns=2;s=Line1', 'ns=2;s=Start'), 'node'],
    ['a method on another object', [withCall], call('ns=2;s=Line2', 'ns=2;s=Ack'), 'node'],
    ['a method by its name', [withCall], call('i=2253', 'i=11492'), 'allow'],
    [
      'a method where nodes are named',
      [{ services: ['method'], nodes: ['ns=2;s=A'] }],
      call('ns=2;s=A', 'ns=2;s=B'),
      'node',
    ],
    ['any method', [{ services: ['method'] }], call('ns=2;s=A', 'ns=2;s=B'), 'allow'],
    ['one of two rules', [setpoints, readAll], read('ns=9;i=1'), 'allow'],
    ['the nearer rule', [{ services: ['write'], nodes: ['i=1'] }, setpoints], write(setpoint, double(99)), 'value'],
    ['a deny rule', [{ action: 'deny', nodes: ['ns=2;s=Line1.*'] }, { services: ['all'] }], read(setpoint), 'node'],
    [
      'beside a deny rule',
      [{ action: 'deny', nodes: ['ns=2;s=Line1.*'] }, { services: ['all'] }],
      read('i=85'),
      'allow',
    ],
    [
      'a deny rule for a service',
      [{ services: ['all'] }, { action: 'deny', services: ['write'] }],
      write(setpoint, double(1)),
      'service',
    ],
    [
      'a deny rule for an attribute leaves others',
      [{ services: ['all'] }, { action: 'deny', services: ['write'], attributes: ['AccessLevel'] }],
      write(setpoint, double(1)),
      'allow',
    ],
    [
      'a deny rule for an attribute',
      [{ services: ['all'] }, { action: 'deny', services: ['write'], attributes: ['AccessLevel'] }],
      write(setpoint, double(1), 17),
      'node',
    ],
    [
      'a deny rule for a method',
      [{ services: ['all'] }, { action: 'deny', methods: ['ns=2;s=Line1/ns=2;s=Ack'] }],
      call('ns=2;s=Line1', 'ns=2;s=Ack'),
      'node',
    ],
    [
      'a deny rule for a method leaves reads',
      [{ services: ['all'] }, { action: 'deny', methods: ['ns=2;s=Line1/ns=2;s=Ack'] }],
      read(setpoint),
      'allow',
    ],
    [
      'a deny rule by namespace URI, while it is unknown',
      [{ services: ['all'] }, { action: 'deny', nodes: ['nsu=urn:x;s=Line1.*'] }],
      read(setpoint),
      'node',
    ],
    ['a query where nodes are named', [{ services: ['query'], nodes: ['i=1'] }], new QueryFirstRequest(), 'node'],
    ['a query', [{ services: ['query'] }], new QueryFirstRequest(), 'allow'],
    ['an empty list', [setpoints], new ReadRequest({ nodesToRead: [] }), 'allow'],
    [
      'history of another attribute',
      [{ services: ['history-read'], attributes: ['EventNotifier'] }],
      SAMPLES.HistoryRead.request(['i=1']),
      'attribute',
    ],
    [
      'history values above',
      [{ services: ['history-write'], values: { 'i=1': { max: 20 } } }],
      SAMPLES.HistoryUpdate.request(['i=1']),
      'value',
    ],
    [
      'history values within',
      [{ services: ['history-write'], values: { 'i=1': { max: 21 } } }],
      SAMPLES.HistoryUpdate.request(['i=1']),
      'allow',
    ],
    [
      'subscriptions of others',
      [{ services: ['subscribe'], nodes: ['i=1'] }],
      new TransferSubscriptionsRequest({ subscriptionIds: [5] }),
      'node',
    ],
    ['no rules at all', [], read('i=1'), 'service'],
  ]
  for (const [name, rules, message, expected] of rows) {
    const bytes = encodeMessage(message)
    const table = ruleTable(...rules)
    t.equal(verdictName(table.decide(bytes, 0, bytes.length, new SessionContext())), expected, name)
    if (expected !== 'allow') t.ok(table.explain(REASON[expected as keyof typeof REASON]).length > 0, `${name}: why`)
  }
  const far = encodeMessage(read(setpoint))
  const walker = new RequestWalker()
  walker.open(far, 0, far.length)
  walker.next()
  far.fill(0xff, walker.node.stop, walker.node.stop + 4)
  t.equal(ruleTable(setpoints).decide(far, 0, far.length, new SessionContext()), REASON.attribute)

  t.test('what is no service is denied by every rule', async (t) => {
    const table = ruleTable({ services: ['all'] })
    for (const typeId of [-1, 0, 15903, 446, 706, 40_000, 0x12345678]) t.equal(table.service(typeId), REASON.service)
    t.equal(table.service(REQUEST.Read), REASON.allow)
  })
})

t.test('rules in monitor mode let pass and say so', async (t) => {
  const write = encodeMessage(SAMPLES.Write.request(['ns=2;s=Line1.Speed', 'ns=2;s=Line2.Speed']))
  const decide = (...rules: RuleText[]) => {
    const table = ruleTable(...rules)
    const verdict = verdictName(table.decide(write, 0, write.length, new SessionContext()))
    return [verdict, table.rule, table.wouldRule, table.wouldRule === -1 ? '' : REASONS[table.wouldReason]]
  }
  const line1: RuleText = { services: ['write'], nodes: ['ns=2;s=Line1.*'] }
  t.same(decide({ ...line1, mode: 'monitor' }), ['allow', 0, 0, 'node'])
  t.same(decide({ services: ['read'], mode: 'monitor' }), ['allow', 0, 0, 'service'])
  t.same(decide({ services: ['write'] }, { ...line1, action: 'deny', mode: 'monitor' }), ['allow', 0, 1, 'node'])
  t.same(decide({ ...line1, mode: 'monitor' }, { action: 'deny', nodes: ['ns=2;s=Line2.*'] }).slice(0, 2), [
    'partly',
    1,
  ])
})

t.test('aliases of RegisterNodes', async (t) => {
  const context = new SessionContext()
  const exchanges = new Exchanges(null)
  const table = ruleTable({ services: ['browse', 'read'] }, { services: ['write'], nodes: ['ns=2;s=Line1.*'] })
  const send = (id: number, message: Encodable) => {
    const bytes = encodeMessage(message)
    const verdict = table.decide(bytes, 0, bytes.length, context)
    if (verdict !== REASON.allow && verdict !== VERDICT.partly) return verdictName(verdict)
    return exchanges.send(id, table, verdict, bytes, 0, bytes.length, context) === SEND.refuse
      ? verdictName(exchanges.reason)
      : 'sent'
  }
  const answer = (id: number, message: Encodable) => {
    const bytes = encodeMessage(message)
    return exchanges.answer(id, bytes, 0, bytes.length)
  }
  const writeTo = (node: string) => SAMPLES.Write.request([node])
  t.equal(send(1, new RegisterNodesRequest({ nodesToRegister: ['ns=2;s=Line1.Speed', 'ns=2;s=Line2.Speed'] })), 'sent')
  // The alias may be there, and is not known.
  t.equal(send(2, writeTo('ns=2;s=Line1.Speed')), 'state')
  t.equal(statusOf(REASON.state), STATUS.badInvalidState)
  t.equal(answer(1, new RegisterNodesResponse({ registeredNodeIds: ['ns=9;i=1', 'ns=2;s=Line1.X'] })), SEND.asItIs)
  t.equal(send(3, writeTo('ns=9;i=1')), 'sent', 'the alias of an allowed node')
  t.equal(send(4, writeTo('ns=2;s=Line1.X')), 'node', 'the alias of another node, whatever it looks like')
  t.equal(send(5, writeTo('ns=9;i=2')), 'node', 'no alias')
  // The server gives the same alias again, for another node.
  t.equal(send(20, new RegisterNodesRequest({ nodesToRegister: ['ns=2;s=Line2.Speed'] })), 'sent')
  answer(20, new RegisterNodesResponse({ registeredNodeIds: ['ns=9;i=1'] }))
  t.equal(send(21, writeTo('ns=9;i=1')), 'node')
  t.equal(send(22, new RegisterNodesRequest({ nodesToRegister: ['ns=2;s=Line1.Speed'] })), 'sent')
  answer(22, new RegisterNodesResponse({ registeredNodeIds: ['ns=9;i=1'] }))
  t.equal(send(23, writeTo('ns=9;i=1')), 'sent')
  t.equal(send(6, new UnregisterNodesRequest({ nodesToUnregister: ['ns=9;i=1'] })), 'sent')
  t.equal(answer(6, new UnregisterNodesResponse({})), SEND.asItIs)
  t.equal(send(7, writeTo('ns=9;i=1')), 'node', 'the alias is gone')
  // A response with another number of nodes is not what the request is owed.
  t.equal(send(8, new RegisterNodesRequest({ nodesToRegister: ['i=1'] })), 'sent')
  t.equal(answer(8, new RegisterNodesResponse({ registeredNodeIds: [] })), SEND.refuse)
  t.equal(context.registering, 0)
  // Bounded: nodes in the end, requests that are not answered in the end.
  const many = new RegisterNodesRequest({ nodesToRegister: times(5000, (i) => `ns=3;i=${i}`) })
  t.equal(send(9, many), 'rate')
  let sent = 0
  while (sent < 5000 && send(100 + sent, new RegisterNodesRequest({ nodesToRegister: ['i=1'] })) === 'sent') sent++
  t.equal(sent, 1024)
  exchanges.clear()
  t.equal(context.registering, 0)
})

t.test('subscriptions: how many, and whose', async (t) => {
  const context = new SessionContext(new Namespaces(), undefined, 'client A')
  const exchanges = new Exchanges(2)
  const table = ruleTable({ services: ['subscribe'], nodes: ['i=2258'] })
  let id = 0
  const send = (message: Encodable, on = context) => {
    const bytes = encodeMessage(message)
    const verdict = table.decide(bytes, 0, bytes.length, on)
    if (verdict !== REASON.allow) return verdictName(verdict)
    const sent = exchanges.send(id + 1, table, verdict, bytes, 0, bytes.length, on)
    if (sent === SEND.refuse) return verdictName(exchanges.reason)
    id++
    return 'sent'
  }
  const answer = (message: Encodable) => {
    const bytes = encodeMessage(message)
    return exchanges.answer(id, bytes, 0, bytes.length)
  }
  const create = () => new CreateSubscriptionRequest({ requestedPublishingInterval: 100 })
  t.equal(send(create()), 'sent')
  answer(new CreateSubscriptionResponse({ subscriptionId: 11 }))
  t.equal(send(create()), 'sent')
  t.equal(send(create()), 'rate', 'one that is not answered counts')
  t.equal(exchanges.status, STATUS.badTooManySubscriptions)
  answer(new CreateSubscriptionResponse({ subscriptionId: 12 }))
  t.equal(send(new DeleteSubscriptionsRequest({ subscriptionIds: [11, 12] })), 'sent')
  answer(new DeleteSubscriptionsResponse({ results: [StatusCodes.Good, StatusCodes.BadNoSubscription] }))
  t.same([...context.subscriptions], [12])
  // Another session of the same client may take one over, another client may not.
  const again = new SessionContext(context.namespaces, context.owners, 'client A')
  const other = new SessionContext(context.namespaces, context.owners, 'client B')
  const transfer = new TransferSubscriptionsRequest({ subscriptionIds: [12], sendInitialValues: true })
  t.equal(send(transfer, other), 'node')
  t.equal(send(transfer, again), 'sent')
})

t.test('the namespace array: asked for, or seen in a Read of the client', async (t) => {
  const writer = new Writer()
  writeNamespaceRead(writer, nodeBytes('ns=1;i=77'), 5, 133_000_000_000_000_000n)
  const asked = decodeMessage(new ReadRequest(), writer.written())
  t.equal(String(asked.nodesToRead?.[0].nodeId), 'ns=0;i=2255')
  t.equal(asked.nodesToRead?.[0].attributeId, 13)
  t.equal(String(asked.requestHeader.authenticationToken), 'ns=1;i=77')
  const array = ['http://opcfoundation.org/UA/', 'urn:server', 'urn:plant:cell']
  const value = new DataValue({ value: { dataType: DataType.String, arrayType: VariantArrayType.Array, value: array } })
  const response = encodeMessage(new ReadResponse({ results: [double(1), value] }))
  t.same(namespaceArrayOf(response, 0, response.length, 1), array)
  t.equal(namespaceArrayOf(response, 0, response.length, 0), null)
  t.equal(namespaceArrayOf(response, 0, response.length, 2), null)
  t.equal(namespaceArrayOf(response, 0, response.length - 9, 1), null)

  const context = new SessionContext()
  const exchanges = new Exchanges(null)
  const table = ruleTable({ services: ['read'], nodes: ['i=1-3000', 'nsu=urn:plant:cell;s=*'] })
  const read = (...nodes: string[]) => encodeMessage(SAMPLES.Read.request(nodes))
  const before = read('ns=2;s=Line1')
  t.equal(table.decide(before, 0, before.length, context), REASON.node)
  const learning = read('ns=2;s=Line1', 'i=85', 'i=2255')
  const verdict = table.decide(learning, 0, learning.length, context)
  t.equal(verdict, VERDICT.partly)
  t.equal(exchanges.send(1, table, verdict, learning, 0, learning.length, context), SEND.rewritten)
  t.equal(exchanges.answer(1, response, 0, response.length), SEND.rewritten)
  t.equal(decodeMessage(new ReadResponse(), exchanges.out.written()).results?.length, 3)
  t.equal(table.decide(before, 0, before.length, context), REASON.allow)
})

t.test('responses that are not what a rewritten request is owed', async (t) => {
  const send = () => {
    const context = new SessionContext()
    const exchanges = new Exchanges(null)
    const table = ruleTable({ services: ['read'], nodes: ['ns=2;s=Line1.*'] })
    const bytes = encodeMessage(SAMPLES.Read.request(['ns=2;s=Line1.A', 'ns=2;s=Line2.A']))
    exchanges.send(1, table, table.decide(bytes, 0, bytes.length, context), bytes, 0, bytes.length, context)
    return exchanges
  }
  const rows: [Encodable, number][] = [
    [SAMPLES.Read.response(1), SEND.rewritten],
    [SAMPLES.Read.response(2), SEND.refuse],
    [SAMPLES.Read.response(0), SEND.refuse],
    [SAMPLES.Write.response(1), SEND.refuse],
    [new ReadResponse({ results: [double(1)], diagnosticInfos: infos(2) }), SEND.refuse],
    [new ReadResponse({ responseHeader: { serviceResult: StatusCodes.BadSessionClosed }, results: [] }), SEND.asItIs],
  ]
  for (const [message, expected] of rows) {
    const bytes = encodeMessage(message)
    t.equal(send().answer(1, bytes, 0, bytes.length), expected)
  }
  const fault = new BinaryStream(Buffer.alloc(200))
  new ServiceFault({ responseHeader: { serviceResult: StatusCodes.BadSessionIdInvalid } }).encode(fault)
  const bytes = Uint8Array.from([1, 0, 0x8d, 1, ...fault.buffer.subarray(0, fault.length)])
  t.equal(send().answer(1, bytes, 0, bytes.length), SEND.asItIs)
})

t.test('in words', async (t) => {
  const write = encodeMessage(
    new WriteRequest({
      nodesToWrite: [
        { nodeId: 'ns=2;s=Line1.A', attributeId: 13, value: double(20.5) },
        {
          nodeId: 'ns=2;s=Line2.B',
          attributeId: 13,
          value: new DataValue({
            value: { dataType: DataType.String, arrayType: VariantArrayType.Array, value: times(20, (i) => `v${i}`) },
          }),
        },
      ],
    }),
  )
  t.same(describeRequest(write, 0, write.length), {
    function: 'Write',
    items: 2,
    node: 'ns=2;s=Line1.A',
    attribute: 'Value',
    value: '20.5',
  })
  const table = ruleTable({ services: ['write'], nodes: ['ns=2;s=Line1.*'] })
  table.decide(write, 0, write.length, new SessionContext())
  t.same(describeDenied(write, 0, write.length, table.denials), {
    function: 'Write',
    items: 2,
    denied: 1,
    node: 'ns=2;s=Line2.B',
    attribute: 'Value',
    value: '["v0" "v1" "v2" "v3" "v4" "v5" "v6" "v7" … 20]',
  })
  const call = encodeMessage(new CallRequest({ methodsToCall: [{ objectId: 'ns=2;s=Line1', methodId: 'ns=2;s=Ack' }] }))
  t.match(describeRequest(call, 0, call.length), { function: 'Call', node: 'ns=2;s=Line1', method: 'ns=2;s=Ack' })

  const create = encodeMessage(
    new CreateSessionRequest({ clientDescription: { applicationUri: 'urn:hist' }, sessionName: 'historian' }),
  )
  t.same(describeCreateSession(create, 0, create.length), { sessionName: 'historian', applicationUri: 'urn:hist' })
  const activate = encodeMessage(
    new ActivateSessionRequest({
      userIdentityToken: new UserNameIdentityToken({
        policyId: 'user',
        userName: 'operator',
        password: Buffer.from('secret'),
      }),
    }),
  )
  t.same(describeActivateSession(activate, 0, activate.length), { token: 'UserName', user: 'operator' })

  fc.assert(
    fc.property(fc.constantFrom(write, call, create, activate), fc.nat(), fc.nat({ max: 255 }), (bytes, at, value) => {
      const mutated = bytes.slice(0, Math.max(4, bytes.length - (value % 7)))
      mutated[at % mutated.length] = value
      describeRequest(mutated, 0, mutated.length)
      describeCreateSession(mutated, 0, mutated.length)
      describeActivateSession(mutated, 0, mutated.length)
    }),
    { numRuns: 2000 },
  )
})
