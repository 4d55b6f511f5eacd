/**
 * The chunk that opens or renews a secure channel: OPN, signed by the sender's certificate and encrypted to the
 * receiver's, whatever the mode (OPC 10000-6 §6.7.2.3, §6.7.4). What it says in clear is read first, so that nothing
 * is decrypted for a certificate that is not trusted.
 */
import type { KeyObject } from 'node:crypto'
import { AT, bytesAt, CHUNK, HEADER, MESSAGE, setU32, skipString, stringAt, u32 } from '../chunk.ts'
import type { SecurityPolicy } from './policies.ts'
import { blockRoom, decrypt, encrypt, keyBytes, sign, verify } from './rsa.ts'

/** SHA-1 of a certificate. */
const THUMBPRINT = 20
/** Longest URI of a security policy (§6.7.2.3, Table 42). */
const MAX_URI = 255
/** Sequence number and request id. */
export const SEQUENCE_HEADER = 8
/** The largest OPN that is taken: a chain of certificates, and a body of keys of 4096 bits. Holds a reader to it before anybody is known. */
export const MAX_OPEN_CHUNK = 16_384

/** What an OPN says in clear. */
export interface OpenHeader {
  channelId: number
  policyUri: string
  /** DER, the leaf first, where the sender has a chain; empty with None. */
  certificates: Uint8Array
  /** Of the receiver's certificate; empty with None. */
  thumbprint: Uint8Array
  /** Where the secured part begins. */
  end: number
}

/** @returns null where [start, end) holds no well-formed header */
export function readOpenHeader(buf: Uint8Array, start: number, end: number): OpenHeader | null {
  const policyAt = start + AT.token
  const certificateAt = skipString(buf, policyAt, end)
  if (certificateAt === -1 || certificateAt - policyAt > 4 + MAX_URI) return null
  const thumbprintAt = skipString(buf, certificateAt, end)
  if (thumbprintAt === -1) return null
  const headerEnd = skipString(buf, thumbprintAt, end)
  if (headerEnd === -1 || end - headerEnd < SEQUENCE_HEADER) return null
  const thumbprint = bytesAt(buf, thumbprintAt)
  if (thumbprint.length !== 0 && thumbprint.length !== THUMBPRINT) return null
  return {
    channelId: u32(buf, start + AT.channel),
    policyUri: stringAt(buf, policyAt),
    certificates: bytesAt(buf, certificateAt),
    thumbprint,
    end: headerEnd,
  }
}

/** The secured part of an OPN, in clear. */
export interface OpenBody {
  sequence: number
  requestId: number
  body: Uint8Array
}

/**
 * Decrypts and verifies. A chunk that does not decrypt is verified all the same, as zeros, so that the time that it
 * takes tells no more than the answer does.
 * @param own this end's private key
 * @param sender the public key of the sender's certificate
 * @returns null where it is not what the sender has sent to this end; nothing says why
 */
export function openAsymmetric(
  policy: SecurityPolicy,
  own: KeyObject,
  sender: KeyObject,
  buf: Uint8Array,
  start: number,
  headerEnd: number,
  end: number,
): OpenBody | null {
  const sealed = buf.subarray(headerEnd, end)
  const decrypted = decrypt(policy, own, sealed)
  const plain = decrypted ?? Buffer.alloc(sealed.length)
  const signatureAt = plain.length - keyBytes(sender)
  if (signatureAt < SEQUENCE_HEADER + 1) return null
  const signed = plain.subarray(0, signatureAt)
  const genuine = verify(policy, sender, plain.subarray(signatureAt), buf.subarray(start, headerEnd), signed)
  if (!genuine || decrypted === null) return null
  // Keys of more than 2048 bits have the padding's length in two bytes, the higher one behind the padding.
  const extra = keyBytes(own) > 256 ? 1 : 0
  const high = extra === 1 ? signed[signatureAt - 1] : 0
  const low = signed[signatureAt - 1 - extra]
  // Every byte of the padding says its length, or the lower byte of it.
  const bodyEnd = signatureAt - extra - 1 - ((high << 8) | low)
  if (bodyEnd < SEQUENCE_HEADER) return null
  return {
    sequence: u32(signed, 0),
    requestId: u32(signed, 4),
    body: signed.subarray(SEQUENCE_HEADER, bodyEnd),
  }
}

export interface Sealing {
  policy: SecurityPolicy
  /** DER of this end's certificates, the leaf first; its private key. */
  certificates: Uint8Array
  key: KeyObject
  /** The receiver's certificate. */
  thumbprint: Uint8Array
  receiver: KeyObject
}

/** An OPN chunk with that body. @param sealing null: security policy None */
export function sealOpen(
  channelId: number,
  policyUri: string,
  sequence: number,
  requestId: number,
  body: Uint8Array,
  sealing: Sealing | null,
): Buffer {
  const uri = Buffer.from(policyUri)
  const certificates = sealing?.certificates ?? null
  const thumbprint = sealing?.thumbprint ?? null
  const header = Buffer.concat([
    Buffer.alloc(AT.token),
    byteString(uri),
    byteString(certificates),
    byteString(thumbprint),
  ])
  setU32(header, 0, MESSAGE.OPN)
  header[3] = CHUNK.final
  setU32(header, AT.channel, channelId)
  const sequenceHeader = Buffer.alloc(SEQUENCE_HEADER)
  setU32(sequenceHeader, 0, sequence)
  setU32(sequenceHeader, 4, requestId)
  if (sealing === null) {
    const chunk = Buffer.concat([header, sequenceHeader, body])
    setU32(chunk, HEADER - 4, chunk.length)
    return chunk
  }
  const { policy, key, receiver } = sealing
  const room = blockRoom(policy, receiver)
  const extra = keyBytes(receiver) > 256 ? 1 : 0
  const unpadded = SEQUENCE_HEADER + body.length + 1 + extra + keyBytes(key)
  const padding = (room - (unpadded % room)) % room
  const plain = Buffer.concat([sequenceHeader, body, Buffer.alloc(1 + padding, padding & 0xff)])
  const signed = extra === 1 ? Buffer.concat([plain, Buffer.of(padding >>> 8)]) : plain
  const sealedBytes = ((unpadded + padding) / room) * keyBytes(receiver)
  setU32(header, HEADER - 4, header.length + sealedBytes)
  const signature = sign(policy, key, header, signed)
  return Buffer.concat([header, encrypt(policy, receiver, Buffer.concat([signed, signature]))])
}

function byteString(bytes: Uint8Array | null): Buffer {
  const length = Buffer.alloc(4)
  length.writeInt32LE(bytes === null ? -1 : bytes.length)
  return bytes === null ? length : Buffer.concat([length, bytes])
}
