/**
 * The frames of the OPC UA connection protocol and of its secure conversation (OPC 10000-6 §7.1.2, §6.7.2), by offsets
 * into the bytes as they were received. Nothing is copied and nothing is allocated; all integers are little-endian.
 *
 *     offset  every message          HEL / ACK            ERR            RHE               OPN                    MSG / CLO
 *     0       type (3 bytes)
 *     3       'F', 'C' or 'A'
 *     4       size, all included
 *     8                              protocol version     error          server URI        secure channel id      secure channel id
 *     12                             receive buffer size  reason         endpoint URL      security policy URI    token id
 *     16                             send buffer size                                      sender's certificate   sequence number
 *     20                             max message size                                      receiver's thumbprint  request id
 *     24                             max chunk count                                       sequence number        type id, body
 *     28                             HEL: endpoint URL                                     request id, body
 */

/** The three letters of a message type, as `messageType` reads them. */
export const MESSAGE = {
  HEL: 0x4c4548,
  ACK: 0x4b4341,
  ERR: 0x525245,
  RHE: 0x454852,
  OPN: 0x4e504f,
  MSG: 0x47534d,
  CLO: 0x4f4c43,
} as const

/** The chunk type at offset 3 (§6.7.2.2): the last chunk, one before the last, and one that takes the message back. */
export const CHUNK = { final: 0x46, intermediate: 0x43, abort: 0x41 } as const

/** Bytes of the header that all messages have (§7.1.2.2). */
export const HEADER = 8

/** Offsets in MSG and CLO. */
export const AT = { channel: 8, token: 12, sequence: 16, request: 20, body: 24 } as const

/** The least that HEL and ACK may name for a buffer (§7.1.2.3). */
export const MIN_BUFFER = 8192
/** Endpoint URLs and reasons may take fewer bytes than this (§7.1.2.3, §7.1.2.5). */
export const MAX_URL = 4096
/** HEL with the longest URL. */
export const MAX_HELLO = HEADER + 20 + 4 + MAX_URL

/**
 * Sequence numbers wrap from above this to below `SEQUENCE_RESTART` (§6.7.2.4, for all policies but those of ECC).
 */
export const SEQUENCE_WRAP = 0xffffffff - 1024
export const SEQUENCE_RESTART = 1024

/** The three letters at `o`. */
export const messageType = (buf: Uint8Array, o: number): number => buf[o] | (buf[o + 1] << 8) | (buf[o + 2] << 16)

/** UInt32 at `o`. */
export const u32 = (buf: Uint8Array, o: number): number =>
  (buf[o] | (buf[o + 1] << 8) | (buf[o + 2] << 16) | (buf[o + 3] << 24)) >>> 0

export function setU32(buf: Uint8Array, o: number, value: number): void {
  buf[o] = value
  buf[o + 1] = value >>> 8
  buf[o + 2] = value >>> 16
  buf[o + 3] = value >>> 24
}

/** Size of the message that begins at `o`, its header included. */
export const messageSize = (buf: Uint8Array, o: number): number => u32(buf, o + 4)

/** Whether a sequence number may follow another on the same channel and in the same direction. */
export const follows = (sequence: number, before: number): boolean =>
  sequence === before + 1 || (before > SEQUENCE_WRAP && sequence < SEQUENCE_RESTART)

/** What `typeIdAt` returns where there is no type id of namespace 0 in numeric form, or not all of it. */
export const NO_TYPE_ID = -1
export const SHORT_TYPE_ID = -2

/**
 * The type id that a message's body begins with: a NodeId (§5.2.2.9) in one of its numeric forms, of namespace 0. No
 * other form is used by the encodings that the specification defines, so that any other is no service.
 * @returns its identifier; `SHORT_TYPE_ID` where [o, end) does not hold all of it; else `NO_TYPE_ID`
 */
export function typeIdAt(buf: Uint8Array, o: number, end: number): number {
  if (o >= end) return SHORT_TYPE_ID
  switch (buf[o]) {
    case 0x01:
      if (end - o < 4) return SHORT_TYPE_ID
      return buf[o + 1] === 0 ? buf[o + 2] | (buf[o + 3] << 8) : NO_TYPE_ID
    case 0x00:
      return end - o < 2 ? SHORT_TYPE_ID : buf[o + 1]
    case 0x02:
      if (end - o < 7) return SHORT_TYPE_ID
      return (buf[o + 1] | buf[o + 2]) === 0 ? u32(buf, o + 3) : NO_TYPE_ID
    default:
      return NO_TYPE_ID
  }
}

/** Bytes that a type id's numeric form takes: the body goes on behind it. */
export const typeIdLength = (buf: Uint8Array, o: number): number => (buf[o] === 0x01 ? 4 : buf[o] === 0x00 ? 2 : 7)

/** The longest numeric form of a type id. */
export const MAX_TYPE_ID_BYTES = 7

/**
 * The end of a String or ByteString (§5.2.2.4, §5.2.2.7) that begins at `o`.
 * @returns the offset behind it; -1 where it does not lie within [o, end)
 */
export function skipString(buf: Uint8Array, o: number, end: number): number {
  if (end - o < 4) return -1
  const length = u32(buf, o) | 0
  if (length === -1) return o + 4
  if (length < -1 || length > end - o - 4) return -1
  return o + 4 + length
}

/** Text of a String at `o`, whose end `skipString` has found; '' for null. */
export function stringAt(buf: Uint8Array, o: number): string {
  const length = u32(buf, o) | 0
  return length <= 0 ? '' : Buffer.from(buf.buffer, buf.byteOffset + o + 4, length).toString('utf8')
}

/** Bytes of a ByteString at `o`, whose end `skipString` has found: a view, not a copy. */
export function bytesAt(buf: Uint8Array, o: number): Uint8Array {
  const length = u32(buf, o) | 0
  return length <= 0 ? buf.subarray(o, o) : buf.subarray(o + 4, o + 4 + length)
}
