/** What the messages say that come before a secure channel's own: HEL, ACK, RHE (OPC 10000-6 §7.1.2) and OPN (§6.7.2.3). */
import { createHash } from 'node:crypto'
import { bytesAt, HEADER, MAX_URL, skipString, stringAt, u32 } from './chunk.ts'

/** The parameters of HEL and ACK; sizes in bytes, 0 for no limit. */
export interface Hello {
  receiveBuffer: number
  sendBuffer: number
  maxMessage: number
  maxChunks: number
  /** HEL alone. */
  endpointUrl: string
}

/** The least buffer that anybody may ask for: 8192, or 1024 with the policies of ECC (§7.1.2.3). */
const LEAST_BUFFER = 1024

/** HEL at [o, end). @returns null where it is malformed */
export function readHello(buf: Uint8Array, o: number, end: number): Hello | null {
  const url = o + HEADER + 20
  if (skipString(buf, url, end) !== end || end - url - 4 > MAX_URL) return null
  return parameters(buf, o, stringAt(buf, url))
}

/** ACK at [o, end). @returns null where it is malformed */
export function readAcknowledge(buf: Uint8Array, o: number, end: number): Hello | null {
  return end - o === HEADER + 20 ? parameters(buf, o, '') : null
}

function parameters(buf: Uint8Array, o: number, endpointUrl: string): Hello | null {
  const hello = {
    receiveBuffer: u32(buf, o + 12),
    sendBuffer: u32(buf, o + 16),
    maxMessage: u32(buf, o + 20),
    maxChunks: u32(buf, o + 24),
    endpointUrl,
  }
  return hello.receiveBuffer >= LEAST_BUFFER && hello.sendBuffer >= LEAST_BUFFER ? hello : null
}

/** RHE at [o, end). @returns null where it is malformed */
export function readReverseHello(
  buf: Uint8Array,
  o: number,
  end: number,
): { serverUri: string; endpointUrl: string } | null {
  const url = skipString(buf, o + HEADER, end)
  if (url === -1 || url - o - HEADER - 4 > MAX_URL) return null
  if (skipString(buf, url, end) !== end || end - url - 4 > MAX_URL) return null
  return { serverUri: stringAt(buf, o + HEADER), endpointUrl: stringAt(buf, url) }
}

/** The part of OPN that is never encrypted. */
export interface OpenHeader {
  channel: number
  policyUri: string
  /** SHA-1 thumbprint of the sender's certificate, lower-case hex; '' without one. */
  sender: string
  /** The thumbprint that the receiver's certificate is asked to have; '' without one. */
  receiver: string
  /** Offset of the sequence header: in clear with the policy None, else encrypted. */
  sequenceAt: number
}

/** OPN at [o, end). @returns null where it is malformed */
export function readOpen(buf: Uint8Array, o: number, end: number): OpenHeader | null {
  const policy = o + 12
  const certificate = end < policy ? -1 : skipString(buf, policy, end)
  if (certificate === -1 || certificate - policy - 4 > 255) return null
  const thumbprint = skipString(buf, certificate, end)
  if (thumbprint === -1) return null
  const sequenceAt = skipString(buf, thumbprint, end)
  const receiver = sequenceAt === -1 ? null : bytesAt(buf, thumbprint)
  if (receiver === null || (receiver.length !== 0 && receiver.length !== 20) || end - sequenceAt < 8) return null
  const leaf = firstCertificate(bytesAt(buf, certificate))
  if (leaf === null) return null
  return {
    channel: u32(buf, o + 8),
    policyUri: stringAt(buf, policy),
    sender: leaf.length === 0 ? '' : thumbprintOf(leaf),
    receiver: Buffer.from(receiver).toString('hex'),
    sequenceAt,
  }
}

/** SHA-1 of a certificate in DER (OPC 10000-4 §7.2: the thumbprint). */
export const thumbprintOf = (der: Uint8Array): string => createHash('sha1').update(der).digest('hex')

/**
 * The first certificate of a chain: DER certificates one behind the other (OPC 10000-4 §7.3). A chain that begins with
 * no certificate whose length can be read is malformed.
 */
function firstCertificate(chain: Uint8Array): Uint8Array | null {
  if (chain.length === 0) return chain
  if (chain.length < 4 || chain[0] !== 0x30) return null
  let length = chain[1]
  let header = 2
  if (length >= 0x80) {
    const bytes = length & 0x7f
    if (bytes === 0 || bytes > 3 || chain.length < 2 + bytes) return null
    length = 0
    for (let i = 0; i < bytes; i++) length = (length << 8) | chain[2 + i]
    header = 2 + bytes
  }
  return header + length <= chain.length ? chain.subarray(0, header + length) : null
}

/** Message security mode of an OPN request's body in clear, which begins with its type id at `o`; -1: malformed. */
export function requestedMode(buf: Uint8Array, o: number, end: number): number {
  const at = skipRequestHeader(buf, o + 4, end)
  return at === -1 || end - at < 12 ? -1 : u32(buf, at + 8)
}

/** Whether an OPN request in clear renews a token (1) or issues the first (0); -1: malformed. */
export function requestType(buf: Uint8Array, o: number, end: number): number {
  const at = skipRequestHeader(buf, o + 4, end)
  return at === -1 || end - at < 12 ? -1 : u32(buf, at + 4)
}

/** Token id and channel id of an OPN response in clear, whose body begins with its type id at `o`; null: malformed. */
export function issuedToken(buf: Uint8Array, o: number, end: number): { channel: number; token: number } | null {
  // timestamp, request handle, service result; then diagnostics and string table, which are empty in practice.
  let at = o + 4 + 16
  if (end - at < 1 + 4 + 3 || buf[at] !== 0) return null
  at += 1
  const strings = u32(buf, at) | 0
  at += 4
  for (let i = 0; i < strings && at !== -1; i++) at = skipString(buf, at, end)
  if (at === -1 || end - at < 3 || buf[at] !== 0 || buf[at + 2] !== 0) return null
  at += 3 + 4
  return end - at < 8 ? null : { channel: u32(buf, at), token: u32(buf, at + 4) }
}

/** The offset behind a RequestHeader (OPC 10000-4 §7.33); -1: malformed. */
function skipRequestHeader(buf: Uint8Array, o: number, end: number): number {
  let at = skipNodeId(buf, o, end)
  if (at === -1) return -1
  at = skipString(buf, at + 16, end)
  if (at === -1) return -1
  at = skipNodeId(buf, at + 4, end)
  if (at === -1 || at >= end) return -1
  if (buf[at] === 0) return at + 1
  return skipString(buf, at + 1, end)
}

/** The offset behind a NodeId (§5.2.2.9); -1: it is none, or not all of it is here. */
export function skipNodeId(buf: Uint8Array, o: number, end: number): number {
  if (o < 0 || o >= end) return -1
  let at: number
  switch (buf[o]) {
    case 0:
      at = o + 2
      break
    case 1:
      at = o + 4
      break
    case 2:
      at = o + 7
      break
    case 3:
    case 5:
      at = skipString(buf, o + 3, end)
      break
    case 4:
      at = o + 19
      break
    default:
      return -1
  }
  return at > end ? -1 : at
}

/** Request handle of a request in clear whose body begins with its type id at `o`; 0 where it cannot be read. */
export function requestHandle(buf: Uint8Array, o: number, end: number, typeIdBytes: number): number {
  const at = skipNodeId(buf, o + typeIdBytes, end)
  return at === -1 || end - at < 12 ? 0 : u32(buf, at + 8)
}
