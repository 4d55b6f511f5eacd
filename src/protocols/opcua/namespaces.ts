/**
 * The namespace array of one server (OPC 10000-3 §8.2.2, OPC 10000-5 §6.3.1): what the namespace indexes of its NodeIds
 * mean. A terminating session asks for it before the client's first request; an inspecting one learns it from a Read of
 * the client's own.
 */
import { Cursor, NodeRef, TYPE, textAt, type Writer } from './binary.ts'
import { isBad, ResponseHeader, walkResponseHeader, writeRequestHeader } from './headers.ts'
import { REQUEST, RESPONSE } from './services.ts'

/** Server_NamespaceArray, in namespace 0. */
export const NAMESPACE_ARRAY = 2255
const STANDARD = 'http://opcfoundation.org/UA/'
/** A server has a handful; more than this is not believed. */
const MAX_NAMESPACES = 4096

/** What `indexOf` says of a URI that the server does not have, or may have. */
export const NO_NAMESPACE = -1
export const UNKNOWN_NAMESPACE = -2

export class Namespaces {
  /** Whether the server's array has been read. */
  known = false
  private indexes: ReadonlyMap<string, number> = new Map([[STANDARD, 0]])

  /** The index of a namespace URI; `NO_NAMESPACE`, or `UNKNOWN_NAMESPACE` while the array has not been read. */
  indexOf(uri: string): number {
    return this.indexes.get(uri) ?? (this.known ? NO_NAMESPACE : UNKNOWN_NAMESPACE)
  }

  /** @param uris the server's array, index by index */
  set(uris: readonly string[]): void {
    const indexes = new Map<string, number>()
    // Of two indexes for one URI the first counts, as OPC 10000-3 §8.2.2 has each URI once.
    for (const [index, uri] of uris.entries()) if (!indexes.has(uri)) indexes.set(uri, index)
    // OPC 10000-3 §8.2.2: index 0 is the standard's, whatever a server says.
    indexes.set(STANDARD, 0)
    this.indexes = indexes
    this.known = true
  }
}

/**
 * A Read of the namespace array's Value, TypeId first: the body of a MSG behind its sequence header.
 * @param token the session's authentication token as encoded
 * @param timestamp DateTime, see `dateTime`
 */
export function writeNamespaceRead(writer: Writer, token: Uint8Array, requestHandle: number, timestamp: bigint): void {
  writeRequestHeader(writer.numericNodeId(0, REQUEST.Read), token, requestHandle, timestamp, 10_000)
  // maxAge 0, timestamps: neither; one ReadValueId: Value (13), no index range, no data encoding.
  writer.double(0).u32(3).i32(1).numericNodeId(0, NAMESPACE_ARRAY).u32(13).i32(-1).u16(0).i32(-1)
}

/**
 * The namespace array in the response to a Read.
 * @param index which of the Read's results it is
 * @returns null where the response is not well formed, or has no such array
 */
export function namespaceArrayOf(buf: Uint8Array, at: number, end: number, index = 0): string[] | null {
  const cursor = new Cursor().open(buf, at, end)
  const header = new ResponseHeader()
  if (cursor.typeId() !== RESPONSE.Read) return null
  walkResponseHeader(cursor, header)
  const results = cursor.count(1)
  if (isBad(header.serviceResult) || index >= results) return null
  for (let i = 0; i < index; i++) cursor.skipDataValue()
  const mask = cursor.dataValueMask()
  if ((mask & 0x01) === 0) return null
  cursor.variantHead()
  const count = cursor.variantCount
  if (cursor.variantType !== TYPE.string || !cursor.variantIsArray || count === 0 || count > MAX_NAMESPACES) return null
  const uris: string[] = []
  for (let i = 0; i < count && cursor.fault === 0; i++) {
    cursor.bytes()
    uris.push(textAt(buf, cursor.from, cursor.to))
  }
  return cursor.fault === 0 ? uris : null
}

/**
 * Where a Read asks for the whole of the namespace array.
 * @returns the index among its nodes; -1: nowhere, or the request is not well formed
 */
export function namespaceReadIn(cursor: Cursor): number {
  // maxAge, timestampsToReturn
  cursor.skip(12)
  const count = cursor.count(16)
  const node = new NodeRef()
  for (let i = 0; i < count && cursor.fault === 0; i++) {
    cursor.nodeId(node)
    const attribute = cursor.u32()
    cursor.bytes()
    const whole = cursor.to <= cursor.from
    cursor.skipQualifiedName()
    if (cursor.fault !== 0) return -1
    if (whole && attribute === 13 && node.namespace === 0 && node.type === 0 && node.id === NAMESPACE_ARRAY) return i
  }
  return -1
}
