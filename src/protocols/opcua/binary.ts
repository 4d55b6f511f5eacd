/**
 * OPC UA Binary (OPC 10000-6 §5.2): a cursor that walks encoded values by offsets, and a writer.
 *
 * The cursor never throws, never reads outside [at, end) and makes nothing: a value is skipped, or its place is left in
 * fields. At the first fault it notes which and moves to its end, where every further read gives 0; so a caller may
 * read on and ask for `fault` once. Every loop is bounded by the bytes that are there, since an array's count is held
 * to what its elements take at least.
 */

/** What an encoding can have against it. */
export const ENCODING_FAULT = {
  none: 0,
  truncated: 1,
  length: 2,
  count: 3,
  nodeId: 4,
  variant: 5,
  dimensions: 6,
  nesting: 7,
  text: 8,
  mask: 9,
  extensionObject: 10,
  trailing: 11,
} as const

const FAULT_TEXT: readonly string[] = [
  'no fault',
  'the message ends within a value',
  'a length that is negative (and not -1) or runs beyond the message',
  'an array count that is negative (and not -1) or more than the message could hold',
  'a NodeId of an encoding that OPC 10000-6 §5.2.2.9 does not have',
  'a Variant of a type that OPC 10000-6 §5.2.2.16 does not have, or a single Variant within a Variant',
  'array dimensions that do not agree with the array',
  'values nested deeper than 100 levels',
  'a NodeId whose text is not UTF-8, holds a NUL or is longer than 4 096 characters',
  'reserved bits of an encoding mask',
  'an ExtensionObject whose encoding byte is not 0, 1 or 2',
  'bytes behind the end of the message',
]

export const encodingFaultText = (fault: number): string => FAULT_TEXT[fault] ?? `fault ${fault}`

/** Levels of Variants, DataValues and DiagnosticInfos within each other (OPC 10000-6 §5.2.2.12, §5.2.2.16). */
export const MAX_NESTING = 100
/** OPC 10000-3 §8.2.4: 4 096 characters, of at most four bytes. */
const MAX_ID_BYTES = 4 * 4096

/** Built-in types by their Variant ids (OPC 10000-6 §5.1.2). */
export const TYPE = {
  null: 0,
  boolean: 1,
  sbyte: 2,
  byte: 3,
  int16: 4,
  uint16: 5,
  int32: 6,
  uint32: 7,
  int64: 8,
  uint64: 9,
  float: 10,
  double: 11,
  string: 12,
  dateTime: 13,
  guid: 14,
  byteString: 15,
  xmlElement: 16,
  nodeId: 17,
  expandedNodeId: 18,
  statusCode: 19,
  qualifiedName: 20,
  localizedText: 21,
  extensionObject: 22,
  dataValue: 23,
  variant: 24,
  diagnosticInfo: 25,
} as const

/** Bytes of a value by its type; 0: as many as it says itself. */
const FIXED = Uint8Array.of(0, 1, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8, 0, 8, 16, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0)
/** The fewest bytes that a value of a type takes. */
const LEAST = Uint8Array.of(0, 1, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8, 4, 8, 16, 4, 4, 2, 2, 4, 6, 1, 3, 1, 1, 1)

export const ID_TYPE = { numeric: 0, string: 1, guid: 2, opaque: 3 } as const

/** Where an encoded NodeId or ExpandedNodeId stands, and what of it is a number. */
export class NodeRef {
  /** Namespace index; of no meaning where the namespace is given by URI. */
  namespace = 0
  /** One of `ID_TYPE`. */
  type = 0
  /** The numeric identifier, 0…2^32-1. */
  id = 0
  /** The bytes of a string, GUID or opaque identifier: [from, to). */
  from = 0
  to = 0
  /** The whole encoding: [start, stop). */
  start = 0
  stop = 0
  /** The namespace URI of an ExpandedNodeId: [uriFrom, uriTo); -1: none. */
  uriFrom = -1
  uriTo = -1
  /** Server index of an ExpandedNodeId; 0: this server. */
  server = 0

  /** OPC 10000-3 §8.2.4: namespace 0 with 0, an empty text or zeros for identifier. */
  isNull(buf: Uint8Array): boolean {
    if (this.namespace !== 0 || this.uriFrom !== -1) return false
    if (this.type === ID_TYPE.numeric) return this.id === 0
    if (this.type !== ID_TYPE.guid) return this.from === this.to
    for (let i = this.from; i < this.to; i++) if (buf[i] !== 0) return false
    return true
  }

  copy(other: NodeRef): void {
    this.namespace = other.namespace
    this.type = other.type
    this.id = other.id
    this.from = other.from
    this.to = other.to
    this.start = other.start
    this.stop = other.stop
    this.uriFrom = other.uriFrom
    this.uriTo = other.uriTo
    this.server = other.server
  }
}

const EMPTY = new Uint8Array(0)
const SCRATCH = new Uint8Array(8)
const SCRATCH_VIEW = new DataView(SCRATCH.buffer)

export class Cursor {
  buf: Uint8Array = EMPTY
  at = 0
  end = 0
  fault: number = ENCODING_FAULT.none
  /** The bytes of the String or ByteString read last: [from, to); from -1: null. */
  from = -1
  to = -1
  /** The head of the Variant read last. */
  variantType = 0
  variantIsArray = false
  variantHasDimensions = false
  /** Elements of the Variant: 1 where it is no array, 0 where it is null or a null array. */
  variantCount = 0

  open(buf: Uint8Array, at: number, end: number): this {
    this.buf = buf
    this.at = at
    this.end = Math.min(end, buf.length)
    this.fault = ENCODING_FAULT.none
    if (at < 0 || at > this.end) this.fail(ENCODING_FAULT.truncated)
    return this
  }

  /** Notes the first fault and moves to the end. */
  fail(fault: number): void {
    if (this.fault === ENCODING_FAULT.none) this.fault = fault
    this.at = this.end
  }

  /** The message must end here. */
  finish(): boolean {
    if (this.at !== this.end) this.fail(ENCODING_FAULT.trailing)
    return this.fault === ENCODING_FAULT.none
  }

  skip(bytes: number): void {
    if (bytes > this.end - this.at) this.fail(ENCODING_FAULT.truncated)
    else this.at += bytes
  }

  u8(): number {
    if (this.at >= this.end) {
      this.fail(ENCODING_FAULT.truncated)
      return 0
    }
    return this.buf[this.at++]
  }

  u16(): number {
    const { at, buf } = this
    if (this.end - at < 2) {
      this.fail(ENCODING_FAULT.truncated)
      return 0
    }
    this.at = at + 2
    return buf[at] | (buf[at + 1] << 8)
  }

  i32(): number {
    const { at, buf } = this
    if (this.end - at < 4) {
      this.fail(ENCODING_FAULT.truncated)
      return 0
    }
    this.at = at + 4
    return buf[at] | (buf[at + 1] << 8) | (buf[at + 2] << 16) | (buf[at + 3] << 24)
  }

  u32(): number {
    return this.i32() >>> 0
  }

  float(): number {
    SCRATCH_VIEW.setInt32(0, this.i32(), true)
    return SCRATCH_VIEW.getFloat32(0, true)
  }

  double(): number {
    SCRATCH_VIEW.setInt32(0, this.i32(), true)
    SCRATCH_VIEW.setInt32(4, this.i32(), true)
    return SCRATCH_VIEW.getFloat64(0, true)
  }

  /**
   * A String, ByteString or XmlElement (§5.2.2.4, §5.2.2.7); its bytes are then [from, to), from -1 for null. The text
   * is not looked at.
   */
  bytes(): void {
    const length = this.i32()
    if (length < 0) {
      if (length !== -1) this.fail(ENCODING_FAULT.length)
      this.from = -1
      this.to = -1
      return
    }
    if (length > this.end - this.at) {
      this.fail(ENCODING_FAULT.length)
      this.from = -1
      this.to = -1
      return
    }
    this.from = this.at
    this.at += length
    this.to = this.at
  }

  /** The count of an array whose elements take `least` bytes or more each; 0 where it is null (§5.2.5). */
  count(least: number): number {
    const count = this.i32()
    if (count < -1 || count > (this.end - this.at) / least) {
      this.fail(ENCODING_FAULT.count)
      return 0
    }
    return count === -1 ? 0 : count
  }

  /** §5.2.2.9. An identifier that is text must be what every server reads alike. */
  nodeId(ref: NodeRef): void {
    ref.start = this.at
    const encoding = this.u8()
    ref.uriFrom = -1
    ref.uriTo = -1
    ref.server = 0
    this.identifier(encoding, ref)
    ref.stop = this.at
  }

  /** §5.2.2.10. */
  expandedNodeId(ref: NodeRef): void {
    ref.start = this.at
    const encoding = this.u8()
    ref.uriFrom = -1
    ref.uriTo = -1
    ref.server = 0
    this.identifier(encoding & 0x3f, ref)
    if ((encoding & 0x80) !== 0) {
      this.bytes()
      // A null URI leaves the index to say the namespace.
      if (this.from !== -1 && this.to > this.from) {
        ref.uriFrom = this.from
        ref.uriTo = this.to
      }
    }
    if ((encoding & 0x40) !== 0) ref.server = this.u32()
    ref.stop = this.at
  }

  private identifier(encoding: number, ref: NodeRef): void {
    ref.type = ID_TYPE.numeric
    ref.namespace = 0
    ref.id = 0
    ref.from = this.at
    ref.to = this.at
    switch (encoding) {
      case 0:
        ref.id = this.u8()
        return
      case 1:
        ref.namespace = this.u8()
        ref.id = this.u16()
        return
      case 2:
        ref.namespace = this.u16()
        ref.id = this.u32()
        return
      case 3:
      case 5:
        ref.namespace = this.u16()
        this.bytes()
        ref.type = encoding === 3 ? ID_TYPE.string : ID_TYPE.opaque
        if (this.from === -1) return
        ref.from = this.from
        ref.to = this.to
        if (encoding === 3 && !isPlainText(this.buf, ref.from, ref.to)) this.fail(ENCODING_FAULT.text)
        return
      case 4:
        ref.namespace = this.u16()
        ref.type = ID_TYPE.guid
        ref.from = this.at
        this.skip(16)
        ref.to = ref.from + (this.fault === ENCODING_FAULT.none ? 16 : 0)
        return
      default:
        this.fail(ENCODING_FAULT.nodeId)
    }
  }

  skipNodeId(expanded = false): void {
    const encoding = this.u8()
    switch (expanded ? encoding & 0x3f : encoding) {
      case 0:
        this.skip(1)
        break
      case 1:
        this.skip(3)
        break
      case 2:
        this.skip(6)
        break
      case 3:
      case 5:
        this.skip(2)
        this.bytes()
        break
      case 4:
        this.skip(18)
        break
      default:
        this.fail(ENCODING_FAULT.nodeId)
    }
    if (!expanded) return
    if ((encoding & 0x80) !== 0) this.bytes()
    if ((encoding & 0x40) !== 0) this.skip(4)
  }

  /** The TypeId of an encoded message: a numeric NodeId of namespace 0 (§5.2.9), of any of its encodings; else -1. */
  typeId(): number {
    const encoding = this.u8()
    let namespace = 0
    let id = 0
    if (encoding === 0) {
      id = this.u8()
    } else if (encoding === 1) {
      namespace = this.u8()
      id = this.u16()
    } else if (encoding === 2) {
      namespace = this.u16()
      id = this.u32()
    } else {
      this.fail(ENCODING_FAULT.nodeId)
    }
    return this.fault === ENCODING_FAULT.none && namespace === 0 ? id : -1
  }

  skipQualifiedName(): void {
    this.skip(2)
    this.bytes()
  }

  skipLocalizedText(): void {
    const mask = this.u8()
    if ((mask & ~0x03) !== 0) this.fail(ENCODING_FAULT.mask)
    if ((mask & 0x01) !== 0) this.bytes()
    if ((mask & 0x02) !== 0) this.bytes()
  }

  /**
   * The head of an ExtensionObject (§5.2.2.15): its type's NodeId is left in `type`, its body is then [from, to), from
   * -1 where it has none. Moves behind it.
   * @returns the encoding: 0 no body, 1 ByteString (binary), 2 XmlElement
   */
  extensionObject(type: NodeRef): number {
    this.nodeId(type)
    return this.extensionBody()
  }

  skipExtensionObject(): void {
    this.skipNodeId(false)
    this.extensionBody()
  }

  private extensionBody(): number {
    const encoding = this.u8()
    if (encoding > 2) this.fail(ENCODING_FAULT.extensionObject)
    if (encoding === 0) {
      this.from = -1
      this.to = -1
    } else {
      this.bytes()
    }
    return encoding
  }

  /** §5.2.2.12. */
  skipDiagnosticInfo(depth = 0): void {
    for (let level = depth; ; level++) {
      if (level > MAX_NESTING) this.fail(ENCODING_FAULT.nesting)
      const mask = this.u8()
      if ((mask & 0x80) !== 0) this.fail(ENCODING_FAULT.mask)
      if ((mask & 0x01) !== 0) this.skip(4)
      if ((mask & 0x02) !== 0) this.skip(4)
      if ((mask & 0x04) !== 0) this.skip(4)
      if ((mask & 0x08) !== 0) this.skip(4)
      if ((mask & 0x10) !== 0) this.bytes()
      if ((mask & 0x20) !== 0) this.skip(4)
      if ((mask & 0x40) === 0 || this.fault !== ENCODING_FAULT.none) return
    }
  }

  /** The mask of a DataValue (§5.2.2.17); its Variant, if 0x01 is set, is next. */
  dataValueMask(): number {
    const mask = this.u8()
    if ((mask & 0xc0) !== 0) this.fail(ENCODING_FAULT.mask)
    return mask
  }

  /** What follows the Variant of a DataValue: status, timestamps, picoseconds. */
  skipDataValueRest(mask: number): void {
    let bytes = 0
    if ((mask & 0x02) !== 0) bytes += 4
    if ((mask & 0x04) !== 0) bytes += 8
    if ((mask & 0x10) !== 0) bytes += 2
    if ((mask & 0x08) !== 0) bytes += 8
    if ((mask & 0x20) !== 0) bytes += 2
    this.skip(bytes)
  }

  skipDataValue(depth = 0): void {
    const mask = this.dataValueMask()
    if ((mask & 0x01) !== 0) this.skipVariant(depth + 1)
    this.skipDataValueRest(mask)
  }

  /**
   * The head of a Variant (§5.2.2.16), left in `variantType`, `variantIsArray`, `variantHasDimensions` and
   * `variantCount`. So many values follow, and then `skipDimensions(count)` if it has them.
   */
  variantHead(): void {
    const encoding = this.u8()
    const type = encoding & 0x3f
    this.variantType = type
    this.variantIsArray = (encoding & 0x80) !== 0
    this.variantHasDimensions = (encoding & 0x40) !== 0
    this.variantCount = 0
    if (type > TYPE.diagnosticInfo) {
      this.fail(ENCODING_FAULT.variant)
    } else if (this.variantIsArray) {
      if (type === TYPE.null) this.fail(ENCODING_FAULT.variant)
      else this.variantCount = this.count(LEAST[type])
    } else if (this.variantHasDimensions) {
      this.fail(ENCODING_FAULT.dimensions)
    } else if (type === TYPE.variant) {
      this.fail(ENCODING_FAULT.variant)
    } else if (type !== TYPE.null) {
      this.variantCount = 1
    }
  }

  /** The dimensions of an array of `count` elements: their product must be the count. */
  skipDimensions(count: number): void {
    const dimensions = this.count(4)
    let product = dimensions === 0 ? 0 : 1
    for (let i = 0; i < dimensions && this.fault === ENCODING_FAULT.none; i++) {
      const length = this.i32()
      if (length < 0) this.fail(ENCODING_FAULT.dimensions)
      // Beyond 2^53 the product is no longer exact, nor can it become the count again unless a length is 0.
      product *= length
    }
    if (product !== count) this.fail(ENCODING_FAULT.dimensions)
  }

  skipVariant(depth = 0): void {
    if (depth > MAX_NESTING) {
      this.fail(ENCODING_FAULT.nesting)
      return
    }
    this.variantHead()
    const count = this.variantCount
    const dimensions = this.variantHasDimensions
    this.skipValues(this.variantType, count, depth)
    if (dimensions) this.skipDimensions(count)
  }

  /** `count` values of a built-in type, one behind the other. */
  skipValues(type: number, count: number, depth: number): void {
    if (FIXED[type] !== 0) {
      this.skip(FIXED[type] * count)
      return
    }
    for (let i = 0; i < count && this.fault === ENCODING_FAULT.none; i++) this.skipValue(type, depth)
  }

  private skipValue(type: number, depth: number): void {
    switch (type) {
      case TYPE.string:
      case TYPE.byteString:
      case TYPE.xmlElement:
        this.bytes()
        return
      case TYPE.nodeId:
        this.skipNodeId(false)
        return
      case TYPE.expandedNodeId:
        this.skipNodeId(true)
        return
      case TYPE.qualifiedName:
        this.skipQualifiedName()
        return
      case TYPE.localizedText:
        this.skipLocalizedText()
        return
      case TYPE.extensionObject:
        this.skipExtensionObject()
        return
      case TYPE.dataValue:
        this.skipDataValue(depth + 1)
        return
      case TYPE.variant:
        this.skipVariant(depth + 1)
        return
      case TYPE.diagnosticInfo:
        this.skipDiagnosticInfo(depth + 1)
        return
      default:
        this.fail(ENCODING_FAULT.variant)
    }
  }
}

/**
 * Whether [from, to) is UTF-8 in its shortest form (RFC 3629) without NUL, and no longer than an identifier may be. A
 * server that reads anything else would read it as some other text than the rules did.
 */
export function isPlainText(buf: Uint8Array, from: number, to: number): boolean {
  if (to - from > MAX_ID_BYTES) return false
  let characters = 0
  for (let i = from; i < to; characters++) {
    const lead = buf[i++]
    if (lead < 0x80) {
      if (lead === 0) return false
      continue
    }
    if (lead < 0xc2 || lead > 0xf4) return false
    const more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3
    if (to - i < more) return false
    const second = buf[i]
    if (lead === 0xe0 && second < 0xa0) return false
    if (lead === 0xed && second > 0x9f) return false
    if (lead === 0xf0 && second < 0x90) return false
    if (lead === 0xf4 && second > 0x8f) return false
    for (const last = i + more; i < last; i++) if ((buf[i] & 0xc0) !== 0x80) return false
  }
  return characters <= 4096
}

/** Seconds from 1601-01-01 to 1970-01-01, in milliseconds. */
const EPOCH_MS = 11_644_473_600_000n

/** A DateTime (§5.2.2.5): 100 ns intervals since 1601-01-01 UTC, from milliseconds since 1970. */
export const dateTime = (ms: number): bigint => (BigInt(Math.floor(ms)) + EPOCH_MS) * 10_000n

/** Milliseconds since 1970 of a DateTime. */
export const dateTimeMs = (ticks: bigint): number => Number(ticks / 10_000n - EPOCH_MS)

const ENCODER = new TextEncoder()
const DECODER = new TextDecoder()

/** The bytes [from, to) in memory of their own. `slice` does that to a Uint8Array, and shares those of a Buffer. */
export const copyOf = (buf: Uint8Array, from: number, to: number): Uint8Array => new Uint8Array(buf.subarray(from, to))

/** The text at [from, to); '' where from is -1. Allocates. */
export const textAt = (buf: Uint8Array, from: number, to: number): string =>
  from === -1 ? '' : DECODER.decode(buf.subarray(from, to))

/** Writes encoded values one behind the other into a buffer of its own, which grows. */
export class Writer {
  buf: Uint8Array
  length = 0
  private view: DataView

  constructor(capacity = 256) {
    this.buf = new Uint8Array(capacity)
    this.view = new DataView(this.buf.buffer)
  }

  reset(): this {
    this.length = 0
    return this
  }

  /** What was written; a view that the next write may change. */
  written(): Uint8Array {
    return this.buf.subarray(0, this.length)
  }

  /** Makes room for `bytes` more. @returns the offset to write them at, which is then behind the end */
  private grow(bytes: number): number {
    const at = this.length
    const length = at + bytes
    if (length > this.buf.length) {
      const grown = new Uint8Array(Math.max(length, 2 * this.buf.length))
      grown.set(this.buf.subarray(0, at))
      this.buf = grown
      this.view = new DataView(grown.buffer)
    }
    this.length = length
    return at
  }

  u8(value: number): this {
    const at = this.grow(1)
    this.buf[at] = value
    return this
  }

  boolean(value: boolean): this {
    return this.u8(value ? 1 : 0)
  }

  u16(value: number): this {
    const at = this.grow(2)
    this.view.setUint16(at, value, true)
    return this
  }

  i32(value: number): this {
    const at = this.grow(4)
    this.view.setInt32(at, value, true)
    return this
  }

  u32(value: number): this {
    return this.i32(value)
  }

  i64(value: bigint): this {
    const at = this.grow(8)
    this.view.setBigInt64(at, value, true)
    return this
  }

  double(value: number): this {
    const at = this.grow(8)
    this.view.setFloat64(at, value, true)
    return this
  }

  /** Bytes as they stand, without a length. */
  raw(bytes: Uint8Array): this {
    const at = this.grow(bytes.length)
    this.buf.set(bytes, at)
    return this
  }

  /** The bytes [from, to) of another buffer, as they stand. */
  copy(buf: Uint8Array, from: number, to: number): this {
    return from === to ? this : this.raw(buf.subarray(from, to))
  }

  byteString(bytes: Uint8Array | null): this {
    return bytes === null ? this.i32(-1) : this.i32(bytes.length).raw(bytes)
  }

  string(text: string | null): this {
    return this.byteString(text === null ? null : ENCODER.encode(text))
  }

  /** A numeric NodeId in its shortest encoding. */
  numericNodeId(namespace: number, id: number): this {
    if (namespace === 0 && id < 256) return this.u8(0).u8(id)
    if (namespace < 256 && id < 65536) return this.u8(1).u8(namespace).u16(id)
    return this.u8(2).u16(namespace).u32(id)
  }

  /** Overwrites four bytes that were written at `at`. */
  patchU32(at: number, value: number): this {
    if (at + 4 <= this.length) this.view.setUint32(at, value, true)
    return this
  }
}
