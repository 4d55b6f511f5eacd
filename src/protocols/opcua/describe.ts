/**
 * What a request says, in words, for the records. Off the hot path. Takes malformed messages as they come: a field that
 * the bytes do not hold is absent. Never a password, a key or a token.
 */
import { attributeName } from './attributes.ts'
import { Cursor, copyOf, dateTimeMs, NodeRef, TYPE, textAt } from './binary.ts'
import { type Denials, isOfItem } from './decide.ts'
import { RequestHeader, ResponseHeader, walkRequestHeader, walkResponseHeader } from './headers.ts'
import { nodeText } from './node-id.ts'
import { RequestWalker } from './requests.ts'
import { functionChanges, functionLabel, functionOfRequest, REQUEST, RESPONSE } from './services.ts'
import type { Aliases } from './session-context.ts'
import { NO_ITEMS, type OpcUaItem, type OpcUaItems } from './terms.ts'

/** Fields of an event; see the catalogue of events for each. */
export interface RequestFields {
  /** The service. */
  function?: string
  /** The NodeId of the item that is told, as text: the object of a Call. */
  node?: string
  /** The method of a Call, the new node of AddNodes, the target of a reference. */
  method?: string
  attribute?: string
  /** What was to be written. */
  value?: string
  /** Items of the request, and how many of them are meant. */
  items?: number
  denied?: number
}

/** Characters of a value that an event shows, and elements of an array. */
const SHOWN_TEXT = 128
const SHOWN_ELEMENTS = 8

/**
 * @param at offset of the TypeId, @param end behind the body
 * @param itemAt offset of the item to tell; -1: the first
 * @param aliases of the session: a NodeId that RegisterNodes gave out is told as the node that rules are asked about
 */
export function describeRequest(
  buf: Uint8Array,
  at: number,
  end: number,
  itemAt = -1,
  aliases: Aliases | null = null,
): RequestFields {
  const walker = new RequestWalker()
  const walked = walker.open(buf, at, end)
  const fields: RequestFields = {}
  if (walker.typeId !== -1) fields.function = functionLabel(functionOfRequest(walker.typeId))
  if (!walked) return fields
  fields.items = walker.count
  while (walker.next()) {
    if (itemAt !== -1 && walker.itemAt !== itemAt) continue
    fields.node = realText(buf, walker.node, aliases)
    if (walker.hasOther) fields.method = realText(buf, walker.other, aliases)
    if (walker.attribute !== 0) fields.attribute = attributeName(walker.attribute)
    if (walker.valueAt !== -1) fields.value = valueText(buf, walker.valueAt, walker.itemEnd)
    break
  }
  return fields
}

function realText(buf: Uint8Array, ref: NodeRef, aliases: Aliases | null): string {
  const real = aliases?.resolve(buf, ref) ?? null
  return real === null ? nodeText(buf, ref) : nodeText(real.buf, real.ref)
}

/** A request of which some or all items are denied: the first of them, and how many they are. */
export function describeDenied(
  buf: Uint8Array,
  at: number,
  end: number,
  denials: Denials,
  aliases: Aliases | null = null,
): RequestFields {
  if (denials.count === 0) return describeRequest(buf, at, end, -1, aliases)
  const fields = describeRequest(buf, at, end, denials.from(0), aliases)
  fields.denied = denials.count
  return fields
}

/**
 * The items of a request that a denial is about: those that are denied for `reason`, or all where it is about no item.
 * None where they do not matter: the reason is found in no item, and the request changes nothing.
 * @param fn index of its function
 * @param most how many are told
 */
export function describeItems(
  fn: number,
  buf: Uint8Array,
  at: number,
  end: number,
  denials: Denials | null,
  reason: number,
  most: number,
  aliases: Aliases | null = null,
): OpcUaItems {
  if (!isOfItem(reason) && !functionChanges(fn)) return NO_ITEMS
  const walker = new RequestWalker()
  if (!walker.open(buf, at, end)) return NO_ITEMS
  const list: OpcUaItem[] = []
  for (let n = 0; walker.next(); ) {
    if (denials !== null) {
      if (n === denials.count) break
      if (walker.itemAt !== denials.from(n)) continue
      if (denials.reason(n++) !== reason) return { list, more: true }
    }
    if (list.length === most) return { list, more: true }
    const item: OpcUaItem = { node: realText(buf, walker.node, aliases) }
    if (walker.hasOther) item.method = realText(buf, walker.other, aliases)
    if (walker.attribute !== 0) item.attribute = attributeName(walker.attribute)
    if (walker.valueAt !== -1) item.value = valueText(buf, walker.valueAt, walker.itemEnd)
    list.push(item)
  }
  return { list, more: false }
}

/** The numbers of a value's text, as `valueText` writes them; null where it is no number, or not all of them are there. */
export function numbersOf(text: string): number[] | null {
  const words = text.replace(/^\[|\]$/g, '').split(' ')
  // Bytes and status codes are written as 0x…
  return words.every((word) => /^-?\d+(\.\d+)?(e[+-]?\d+)?$/.test(word)) ? words.map(Number) : null
}

/** The DataValue at `at`: `12.5`, `"text"`, `1 2 3 …`, `structure`; bounded. */
export function valueText(buf: Uint8Array, at: number, end: number): string {
  const cursor = new Cursor().open(buf, at, end)
  const mask = cursor.dataValueMask()
  return (mask & 0x01) === 0 ? 'no value' : variantText(cursor, 0)
}

function variantText(cursor: Cursor, depth: number): string {
  cursor.variantHead()
  const { variantType: type, variantCount: count, variantIsArray: isArray } = cursor
  if (cursor.fault !== 0) return 'malformed'
  if (!isArray) return count === 0 ? 'null' : elementText(cursor, type, depth)
  const shown: string[] = []
  for (let i = 0; i < count && i < SHOWN_ELEMENTS && cursor.fault === 0; i++) {
    shown.push(elementText(cursor, type, depth))
  }
  return `[${shown.join(' ')}${count > SHOWN_ELEMENTS ? ` … ${count}` : ''}]`
}

function elementText(cursor: Cursor, type: number, depth: number): string {
  const text = element(cursor, type, depth)
  return cursor.fault === 0 ? text : 'malformed'
}

function element(cursor: Cursor, type: number, depth: number): string {
  switch (type) {
    case TYPE.boolean:
      return cursor.u8() === 0 ? 'false' : 'true'
    case TYPE.sbyte:
      return `${(cursor.u8() << 24) >> 24}`
    case TYPE.byte:
      return `${cursor.u8()}`
    case TYPE.int16:
      return `${(cursor.u16() << 16) >> 16}`
    case TYPE.uint16:
      return `${cursor.u16()}`
    case TYPE.int32:
      return `${cursor.i32()}`
    case TYPE.uint32:
      return `${cursor.u32()}`
    case TYPE.int64:
    case TYPE.uint64:
    case TYPE.dateTime: {
      const low = BigInt(cursor.u32())
      const high = BigInt(type === TYPE.uint64 ? cursor.u32() : cursor.i32())
      const value = (high << 32n) + low
      return type === TYPE.dateTime ? dateText(value) : `${value}`
    }
    case TYPE.float:
      // Seven digits are all that a float has.
      return `${Number(cursor.float().toPrecision(7))}`
    case TYPE.double:
      return `${cursor.double()}`
    case TYPE.string:
    case TYPE.xmlElement:
      cursor.bytes()
      return cursor.from === -1 ? 'null' : JSON.stringify(shortText(cursor))
    case TYPE.byteString: {
      cursor.bytes()
      if (cursor.from === -1) return 'null'
      const shown = Math.min(cursor.to, cursor.from + SHOWN_TEXT / 2)
      return `0x${Buffer.from(cursor.buf.subarray(cursor.from, shown)).toString('hex')}${shown < cursor.to ? '…' : ''}`
    }
    case TYPE.nodeId: {
      const ref = new NodeRef()
      cursor.nodeId(ref)
      return cursor.fault === 0 ? nodeText(cursor.buf, ref) : ''
    }
    case TYPE.statusCode:
      return `0x${cursor.u32().toString(16).padStart(8, '0')}`
    case TYPE.qualifiedName: {
      const namespace = cursor.u16()
      cursor.bytes()
      return `${namespace}:${shortText(cursor)}`
    }
    case TYPE.localizedText: {
      const mask = cursor.u8()
      if ((mask & 0x01) !== 0) cursor.bytes()
      if ((mask & 0x02) === 0) return 'null'
      cursor.bytes()
      return JSON.stringify(shortText(cursor))
    }
    case TYPE.variant:
      return depth > 3 ? '…' : variantText(cursor, depth + 1)
    case TYPE.extensionObject:
      cursor.skipExtensionObject()
      return 'structure'
    default:
      cursor.skipValues(type, 1, depth)
      return TYPE_NAMES.get(type) ?? 'value'
  }
}

const TYPE_NAMES: ReadonlyMap<number, string> = new Map(Object.entries(TYPE).map(([name, type]) => [type, name]))

function dateText(ticks: bigint): string {
  const ms = dateTimeMs(ticks)
  return Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : `${ticks}`
}

function shortText({ buf, from, to }: Cursor): string {
  const text = textAt(buf, from, Math.min(to, from + 4 * SHOWN_TEXT))
  return text.length > SHOWN_TEXT ? `${text.slice(0, SHOWN_TEXT)}…` : text
}

/** The session's name and the client's application URI in a CreateSession request (OPC 10000-4 §5.6.2). */
export function describeCreateSession(
  buf: Uint8Array,
  at: number,
  end: number,
): { sessionName: string; applicationUri: string } | null {
  const cursor = new Cursor().open(buf, at, end)
  if (cursor.typeId() !== REQUEST.CreateSession) return null
  walkRequestHeader(cursor, new RequestHeader())
  // ApplicationDescription (§7.2): applicationUri, productUri, applicationName, applicationType, gatewayServerUri,
  // discoveryProfileUri, discoveryUrls
  cursor.bytes()
  const applicationUri = shortText(cursor)
  cursor.bytes()
  cursor.skipLocalizedText()
  cursor.skip(4)
  cursor.bytes()
  cursor.bytes()
  const urls = cursor.count(4)
  for (let i = 0; i < urls && cursor.fault === 0; i++) cursor.bytes()
  // serverUri, endpointUrl, sessionName
  cursor.bytes()
  cursor.bytes()
  cursor.bytes()
  return cursor.fault === 0 ? { sessionName: shortText(cursor), applicationUri } : null
}

/** The authentication token in a CreateSession response, as encoded; null: none. */
export function sessionTokenOf(buf: Uint8Array, at: number, end: number): Uint8Array | null {
  const cursor = new Cursor().open(buf, at, end)
  if (cursor.typeId() !== RESPONSE.CreateSession) return null
  walkResponseHeader(cursor, new ResponseHeader())
  const ref = new NodeRef()
  cursor.nodeId(ref)
  cursor.nodeId(ref)
  return cursor.fault === 0 ? copyOf(buf, ref.start, ref.stop) : null
}

/** User identity tokens by the type ids of their encodings (OPC 10000-4 §7.40). */
const IDENTITIES: ReadonlyMap<number, 'Anonymous' | 'UserName' | 'X509' | 'IssuedToken'> = new Map([
  [321, 'Anonymous'],
  [324, 'UserName'],
  [327, 'X509'],
  [940, 'IssuedToken'],
])

export interface Identity {
  token: 'Anonymous' | 'UserName' | 'X509' | 'IssuedToken'
  /** With UserName. */
  user: string | null
}

/** Who activates a session, in an ActivateSession request (OPC 10000-4 §5.6.3); null where it does not say. */
export function describeActivateSession(buf: Uint8Array, at: number, end: number): Identity | null {
  const cursor = new Cursor().open(buf, at, end)
  if (cursor.typeId() !== REQUEST.ActivateSession) return null
  walkRequestHeader(cursor, new RequestHeader())
  // clientSignature, clientSoftwareCertificates, localeIds
  cursor.bytes()
  cursor.bytes()
  const certificates = cursor.count(8)
  for (let i = 0; i < 2 * certificates && cursor.fault === 0; i++) cursor.bytes()
  const locales = cursor.count(4)
  for (let i = 0; i < locales && cursor.fault === 0; i++) cursor.bytes()
  const type = new NodeRef()
  const encoding = cursor.extensionObject(type)
  if (cursor.fault !== 0 || type.namespace !== 0 || type.type !== 0) return null
  // OPC 10000-4 §5.6.3: a null token is Anonymous.
  const token = type.id === 0 && encoding === 0 ? 'Anonymous' : IDENTITIES.get(type.id)
  if (token === undefined) return null
  if (token !== 'UserName' || encoding !== 1) return { token, user: null }
  const inner = new Cursor().open(buf, cursor.from, cursor.to)
  // policyId, userName
  inner.bytes()
  inner.bytes()
  return { token, user: inner.fault === 0 ? shortText(inner) : null }
}
