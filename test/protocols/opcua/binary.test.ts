/** OPC UA Binary: hand-written bytes, what node-opcua encodes, and hostile input. */
import fc from 'fast-check'
import {
  AttributeIds,
  BinaryStream,
  coerceNodeId,
  DataType,
  DataValue,
  DiagnosticInfo,
  ExpandedNodeId,
  type ExtensionObject,
  encodeDiagnosticInfo,
  encodeExpandedNodeId,
  encodeNodeId,
  encodeVariant,
  NodeIdType,
  RequestHeader as NodeOpcUaRequestHeader,
  ReadRequest,
  resolveNodeId,
  ServiceFault,
  StatusCodes,
  Variant,
  VariantArrayType,
} from 'node-opcua'
import t from 'tap'
import {
  Cursor,
  dateTime,
  dateTimeMs,
  ENCODING_FAULT,
  encodingFaultText,
  ID_TYPE,
  isPlainText,
  MAX_NESTING,
  NodeRef,
  textAt,
  Writer,
} from '../../../src/protocols/opcua/binary.ts'
import {
  RequestHeader,
  ResponseHeader,
  STATUS,
  walkRequestHeader,
  walkResponseHeader,
  writeRequestHeader,
  writeServiceFault,
} from '../../../src/protocols/opcua/headers.ts'
import { hex, onPduAlone, toHex } from '../../support/bytes.ts'

const NONE = encodingFaultText(ENCODING_FAULT.none)

/** The fault of walking exactly these bytes, wherever they stand. */
function fault(bytes: Uint8Array, walk: (cursor: Cursor) => void): string {
  return onPduAlone(bytes, (buf, at, end) => {
    const cursor = new Cursor().open(buf, at, end)
    walk(cursor)
    cursor.finish()
    return encodingFaultText(cursor.fault)
  })
}

function encoded(write: (stream: BinaryStream) => void, size = 1 << 16): Uint8Array {
  const stream = new BinaryStream(Buffer.alloc(size))
  write(stream)
  return stream.buffer.subarray(0, stream.length)
}

t.test('NodeIds of all six encodings (OPC 10000-6 §5.2.2.9)', async (t) => {
  const rows: [bytes: string, namespace: number, type: number, id: number | string][] = [
    ['00 48', 0, ID_TYPE.numeric, 0x48],
    ['01 05 0104', 5, ID_TYPE.numeric, 0x401],
    ['02 3412 78563412', 0x1234, ID_TYPE.numeric, 0x12345678],
    ['02 0000 ffffffff', 0, ID_TYPE.numeric, 0xffffffff],
    ['03 0100 06000000 486f74e6b0b4', 1, ID_TYPE.string, 'Hot水'],
    ['03 0100 ffffffff', 1, ID_TYPE.string, ''],
    ['04 0200 912b967275fae64a8d28b404dc7daf63', 2, ID_TYPE.guid, '912b967275fae64a8d28b404dc7daf63'],
    ['05 0300 02000000 fffe', 3, ID_TYPE.opaque, 'fffe'],
  ]
  for (const [bytes, namespace, type, id] of rows) {
    const ref = new NodeRef()
    t.equal(
      fault(hex(bytes), (cursor) => cursor.nodeId(ref)),
      NONE,
      bytes,
    )
    const buf = hex(bytes)
    new Cursor().open(buf, 0, buf.length).nodeId(ref)
    const found =
      type === ID_TYPE.numeric
        ? ref.id
        : type === ID_TYPE.string
          ? textAt(buf, ref.from, ref.to)
          : toHex(buf.subarray(ref.from, ref.to))
    t.same([ref.namespace, ref.type, found, ref.start, ref.stop], [namespace, type, id, 0, buf.length], bytes)
  }
  const bad: [bytes: string, expected: number][] = [
    ['06 0000', ENCODING_FAULT.nodeId],
    ['80 48', ENCODING_FAULT.nodeId],
    ['02 3412 785634', ENCODING_FAULT.truncated],
    ['03 0100 feffffff', ENCODING_FAULT.length],
    ['03 0100 03000000 4142', ENCODING_FAULT.length],
    ['03 0100 02000000 c080', ENCODING_FAULT.text],
    ['03 0100 02000000 4100', ENCODING_FAULT.text],
    ['04 0200 912b967275fae64a8d28b404dc7daf', ENCODING_FAULT.truncated],
    ['00 48 00', ENCODING_FAULT.trailing],
    ['', ENCODING_FAULT.truncated],
  ]
  for (const [bytes, expected] of bad) {
    t.equal(
      fault(hex(bytes), (cursor) => cursor.nodeId(new NodeRef())),
      encodingFaultText(expected),
      bytes,
    )
  }
})

t.test('ExpandedNodeIds as node-opcua writes them', async (t) => {
  const ref = new NodeRef()
  const ids = [
    new ExpandedNodeId(NodeIdType.NUMERIC, 85, 0, 'urn:plant:cell', 7),
    new ExpandedNodeId(NodeIdType.STRING, 'Line1', 3, '', 0),
  ]
  for (const id of ids) {
    const bytes = encoded((stream) => encodeExpandedNodeId(id, stream))
    const cursor = new Cursor().open(bytes, 0, bytes.length)
    cursor.expandedNodeId(ref)
    t.ok(cursor.finish())
    t.equal(textAt(bytes, ref.uriFrom, ref.uriTo), id.namespaceUri ?? '')
    t.equal(ref.server, id.serverIndex)
    t.equal(ref.namespace, id.namespace)
  }
})

t.test('null NodeIds', async (t) => {
  for (const [bytes, expected] of [
    ['00 00', true],
    ['02 0000 00000000', true],
    ['03 0000 ffffffff', true],
    ['04 0000 00000000000000000000000000000000', true],
    ['00 01', false],
    ['01 01 0000', false],
    ['04 0000 00000000000000000000000000000001', false],
  ] as const) {
    const buf = hex(bytes)
    const ref = new NodeRef()
    new Cursor().open(buf, 0, buf.length).nodeId(ref)
    t.equal(ref.isNull(buf), expected, bytes)
  }
})

t.test('Variants and DataValues by hand', async (t) => {
  const rows: [bytes: string, expected: number][] = [
    ['00', ENCODING_FAULT.none],
    ['0b 0000000000405540', ENCODING_FAULT.none],
    ['86 02000000 01000000 02000000', ENCODING_FAULT.none],
    ['86 ffffffff', ENCODING_FAULT.none],
    // Two by two, with its dimensions; then with dimensions that say six.
    ['c3 04000000 01020304 02000000 02000000 02000000', ENCODING_FAULT.none],
    ['c3 04000000 01020304 02000000 02000000 03000000', ENCODING_FAULT.dimensions],
    ['c3 04000000 01020304 02000000 feffffff feffffff', ENCODING_FAULT.dimensions],
    // Dimensions without an array; a Variant alone in a Variant; a type of 26; an array of nulls.
    ['43 01', ENCODING_FAULT.dimensions],
    ['18 01 01', ENCODING_FAULT.variant],
    ['1a 00', ENCODING_FAULT.variant],
    ['80 01000000', ENCODING_FAULT.variant],
    // An array of Variants may hold others.
    ['98 02000000 01 01 98 01000000 00', ENCODING_FAULT.none],
    // A count of 2^31-1 bytes in a message of nine.
    ['83 ffffff7f 00000000', ENCODING_FAULT.count],
    ['83 feffffff', ENCODING_FAULT.count],
    ['0c 02000000 4142', ENCODING_FAULT.none],
    ['0c 02000000 41', ENCODING_FAULT.length],
    ['16 00 05 01 02000000 4142', ENCODING_FAULT.none],
    ['16 00 05 03 02000000 4142', ENCODING_FAULT.extensionObject],
    ['15 03 00000000 00000000', ENCODING_FAULT.none],
    ['15 04 00000000', ENCODING_FAULT.mask],
  ]
  for (const [bytes, expected] of rows) {
    t.equal(
      fault(hex(bytes), (cursor) => cursor.skipVariant()),
      encodingFaultText(expected),
      bytes,
    )
  }
  // Value, status, both timestamps, both picoseconds.
  const full = hex('3f 01 01 00000080 0000000000000001 1111 0000000000000002 2222')
  t.equal(
    fault(full, (cursor) => cursor.skipDataValue()),
    NONE,
  )
  t.equal(
    fault(hex('40'), (cursor) => cursor.skipDataValue()),
    encodingFaultText(ENCODING_FAULT.mask),
  )
})

t.test('every built-in type as node-opcua writes it, alone and as array', async (t) => {
  const samples: [DataType, unknown][] = [
    [DataType.Boolean, true],
    [DataType.SByte, -3],
    [DataType.Byte, 200],
    [DataType.Int16, -300],
    [DataType.UInt16, 60_000],
    [DataType.Int32, -70_000],
    [DataType.UInt32, 4_000_000_000],
    [DataType.Int64, [0xffffffff, 0xfffffffe]],
    [DataType.UInt64, [1, 2]],
    [DataType.Float, 1.5],
    [DataType.Double, Math.PI],
    [DataType.String, 'valve'],
    [DataType.DateTime, new Date('2026-02-23T00:00:00Z')],
    [DataType.Guid, '72962B91-FA75-4AE6-8D28-B404DC7DAF63'],
    [DataType.ByteString, Buffer.from('0102', 'hex')],
    [DataType.XmlElement, '<a/>'],
    [DataType.NodeId, resolveNodeId('ns=3;s=Line1')],
    [DataType.ExpandedNodeId, new ExpandedNodeId(NodeIdType.NUMERIC, 85, 0, 'urn:x', 1)],
    [DataType.StatusCode, StatusCodes.BadUserAccessDenied],
    [DataType.QualifiedName, { namespaceIndex: 1, name: 'q' }],
    [DataType.LocalizedText, { locale: 'de', text: 'Ventil' }],
    [DataType.ExtensionObject, new ReadRequest({ nodesToRead: [{ nodeId: 'i=85', attributeId: 13 }] })],
    [
      DataType.DataValue,
      new DataValue({ value: { dataType: DataType.Double, value: 1 }, sourceTimestamp: new Date() }),
    ],
  ]
  for (const [dataType, value] of samples) {
    for (const arrayType of [VariantArrayType.Scalar, VariantArrayType.Array]) {
      const variant = new Variant({
        dataType,
        arrayType,
        value: arrayType === VariantArrayType.Scalar ? value : [value, value, value],
      })
      const bytes = encoded((stream) => encodeVariant(variant, stream))
      t.equal(
        fault(bytes, (cursor) => cursor.skipVariant()),
        NONE,
        `${DataType[dataType]} ${VariantArrayType[arrayType]}`,
      )
      for (let cut = 0; cut < bytes.length; cut += 1 + (cut >> 3)) {
        t.not(
          fault(bytes.subarray(0, cut), (cursor) => cursor.skipVariant()),
          NONE,
          `${DataType[dataType]} cut at ${cut}`,
        )
      }
    }
  }
  const info = new DiagnosticInfo({
    symbolicId: 1,
    locale: 2,
    additionalInfo: 'more',
    innerStatusCode: StatusCodes.BadDecodingError,
    innerDiagnosticInfo: new DiagnosticInfo({ namespaceURI: 4, localizedText: 3 }),
  })
  t.equal(
    fault(
      encoded((stream) => encodeDiagnosticInfo(info, stream)),
      (cursor) => cursor.skipDiagnosticInfo(),
    ),
    NONE,
  )
})

t.test('nesting is bounded, and a bomb of counts costs no more than its bytes', async (t) => {
  // Arrays of one Variant, within each other; DataValues within DataValues; DiagnosticInfos.
  const variants = (levels: number) => hex(`${'98 01000000'.repeat(levels)} 00`)
  t.equal(
    fault(variants(MAX_NESTING), (cursor) => cursor.skipVariant()),
    NONE,
  )
  const deep = encodingFaultText(ENCODING_FAULT.nesting)
  t.equal(
    fault(variants(MAX_NESTING + 1), (cursor) => cursor.skipVariant()),
    deep,
  )
  t.equal(
    fault(variants(100_000), (cursor) => cursor.skipVariant()),
    deep,
  )
  t.equal(
    fault(hex('17 01'.repeat(100_000)), (cursor) => cursor.skipVariant()),
    deep,
  )
  t.equal(
    fault(hex('40'.repeat(100_000)), (cursor) => cursor.skipDiagnosticInfo()),
    deep,
  )
  t.equal(
    fault(hex(`${'40'.repeat(MAX_NESTING)} 00`), (cursor) => cursor.skipDiagnosticInfo()),
    NONE,
  )
})

t.test('text of identifiers: UTF-8 in its shortest form (RFC 3629)', async (t) => {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 6 }),
        fc.string({ unit: 'grapheme', maxLength: 6 }).map((text) => new TextEncoder().encode(text)),
        fc.array(fc.constantFrom(0xc0, 0xe0, 0xed, 0xf0, 0xf4, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0x41), {
          maxLength: 6,
        }),
      ),
      (list) => {
        const bytes = Uint8Array.from(list)
        let valid = !bytes.includes(0)
        try {
          decoder.decode(bytes)
        } catch {
          valid = false
        }
        return isPlainText(bytes, 0, bytes.length) === valid
      },
    ),
    { numRuns: 5000 },
  )
  const long = new TextEncoder().encode('é'.repeat(4097))
  t.notOk(isPlainText(long, 0, long.length))
  t.ok(isPlainText(long, 2, long.length))
})

t.test('no input makes a walk throw, or read beyond its end', async () => {
  const walks: ((cursor: Cursor) => void)[] = [
    (cursor) => cursor.skipVariant(),
    (cursor) => cursor.skipDataValue(),
    (cursor) => cursor.skipDiagnosticInfo(),
    (cursor) => cursor.nodeId(new NodeRef()),
    (cursor) => cursor.expandedNodeId(new NodeRef()),
    (cursor) => walkRequestHeader(cursor, new RequestHeader()),
    (cursor) => walkResponseHeader(cursor, new ResponseHeader()),
  ]
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), fc.nat({ max: walks.length - 1 }), (bytes, which) => {
      fault(bytes, walks[which])
    }),
    { numRuns: 3000 },
  )
})

t.test('headers, against node-opcua', async (t) => {
  const token = coerceNodeId('ns=1;g=72962B91-FA75-4AE6-8D28-B404DC7DAF63')
  const request = new ReadRequest({
    requestHeader: new NodeOpcUaRequestHeader({
      authenticationToken: token,
      requestHandle: 4711,
      returnDiagnostics: 3,
      auditEntryId: 'audit',
      timeoutHint: 9000,
      additionalHeader: new ReadRequest({}) as ExtensionObject,
    }),
    nodesToRead: [{ nodeId: 'i=85', attributeId: AttributeIds.Value }],
  })
  const bytes = encoded((stream) => request.requestHeader.encode(stream))
  const cursor = new Cursor().open(bytes, 0, bytes.length)
  const header = new RequestHeader()
  walkRequestHeader(cursor, header)
  t.ok(cursor.finish())
  t.same(
    [header.requestHandle, header.returnDiagnostics, textAt(bytes, header.auditFrom, header.auditTo)],
    [4711, 3, 'audit'],
  )
  t.equal(header.timeoutHint, 9000)
  t.equal(toHex(bytes.subarray(header.token.start, header.token.stop)), toHex(encoded((s) => encodeNodeId(token, s))))

  const now = Date.parse('2026-02-23T12:34:56.789Z')
  t.equal(dateTimeMs(dateTime(now)), now)
  const fault = writeServiceFault(new Writer(8), 4711, STATUS.badUserAccessDenied, dateTime(now)).written()
  t.equal(fault.length, 28)
  const decoded = new ServiceFault()
  decoded.decode(new BinaryStream(Buffer.from(fault.subarray(4))))
  t.equal(decoded.responseHeader.requestHandle, 4711)
  t.equal(decoded.responseHeader.serviceResult, StatusCodes.BadUserAccessDenied)
  t.equal(decoded.responseHeader.timestamp?.getTime(), now)
  const answer = new ResponseHeader()
  const read = new Cursor().open(fault, 0, fault.length)
  t.equal(read.typeId(), 397)
  walkResponseHeader(read, answer)
  t.ok(read.finish())
  t.same([answer.requestHandle, answer.serviceResult], [4711, STATUS.badUserAccessDenied])

  const asked = writeRequestHeader(
    new Writer(4),
    encoded((s) => encodeNodeId(token, s)),
    9,
    dateTime(now),
    5000,
  )
  const back = new NodeOpcUaRequestHeader()
  back.decode(new BinaryStream(Buffer.from(asked.written())))
  t.equal(back.authenticationToken.toString(), token.toString())
  t.same([back.requestHandle, back.timeoutHint, back.timestamp?.getTime()], [9, 5000, now])
})

t.test('status codes are the ones that node-opcua knows by those names', async (t) => {
  for (const [name, code] of Object.entries(STATUS)) {
    const known = StatusCodes as unknown as Record<string, { value: number }>
    t.equal(known[name[0].toUpperCase() + name.slice(1)].value, code, name)
  }
})
