/**
 * Secrets of users: passwords and issued tokens, encrypted to the certificate of whoever they are meant for
 * (OPC 10000-4 §7.40). The gateway opens what was encrypted to it, and encrypts it anew to the server.
 */
import { createDecipheriv, createHmac, type KeyObject, timingSafeEqual } from 'node:crypto'
import { Cursor, NodeRef } from '../binary.ts'
import type { SecurityPolicy } from '../security/policies.ts'
import { decrypt, encrypt } from '../security/rsa.ts'

/** Binary encoding ids of the tokens. */
export const TOKEN_ENCODING = { Anonymous: 321, UserName: 324, X509: 327, Issued: 940 } as const
/** Binary encoding id of RsaEncryptedSecret, which is written as an ExtensionObject (§7.40.2.3). */
const RSA_ENCRYPTED_SECRET = 17546
const RSA_ENCRYPTED_SECRET_TYPE = 17545

/** Longest secret in bytes; a password has a few dozen, a token of an issuer some thousand. */
const MAX_SECRET = 16_384

/**
 * The secret in `sealed`, of either format.
 * @param nonce the server nonce that this end gave last: what was encrypted for another is refused
 * @returns null where it is not meant for this end, or not for now; nothing says why
 */
export function openSecret(
  policy: SecurityPolicy,
  own: KeyObject,
  nonce: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | null {
  if (sealed.length > 2 * MAX_SECRET) return null
  const framed = openFramed(policy, own, nonce, sealed)
  return framed === undefined ? openLegacy(policy, own, nonce, sealed) : framed
}

/** §7.40.2.2: length, secret and nonce in encrypted blocks. */
function openLegacy(policy: SecurityPolicy, own: KeyObject, nonce: Uint8Array, sealed: Uint8Array): Uint8Array | null {
  const plain = decrypt(policy, own, sealed)
  if (plain === null || plain.length < 4 + nonce.length) return null
  const length = plain.readUInt32LE(0)
  // Some clients pad the last block with zeros.
  if (length < nonce.length || length > plain.length - 4) return null
  const secretEnd = 4 + length - nonce.length
  const told = plain.subarray(secretEnd, 4 + length)
  if (!timingSafeEqual(told, nonce)) return null
  const secret = Uint8Array.from(plain.subarray(4, secretEnd))
  plain.fill(0)
  return secret
}

/** @param nonce the server's */
export function sealSecret(policy: SecurityPolicy, server: KeyObject, nonce: Uint8Array, secret: Uint8Array): Buffer {
  const plain = Buffer.alloc(4 + secret.length + nonce.length)
  plain.writeUInt32LE(secret.length + nonce.length, 0)
  plain.set(secret, 4)
  plain.set(nonce, 4 + secret.length)
  const sealed = encrypt(policy, server, plain)
  plain.fill(0)
  return sealed
}

/** §7.40.2.3, RsaEncryptedSecret. @returns undefined where `sealed` is not of this format */
function openFramed(
  policy: SecurityPolicy,
  own: KeyObject,
  nonce: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | null | undefined {
  const cursor = new Cursor().open(sealed, 0, sealed.length)
  const type = new NodeRef()
  cursor.nodeId(type)
  if (cursor.fault !== 0 || type.namespace !== 0 || type.type !== 0) return undefined
  if (type.id !== RSA_ENCRYPTED_SECRET && type.id !== RSA_ENCRYPTED_SECRET_TYPE) return undefined
  if (cursor.u8() !== 1 || cursor.u32() !== sealed.length - cursor.at) return undefined
  const take = (): Uint8Array => {
    cursor.bytes()
    return cursor.from === -1 ? new Uint8Array(0) : sealed.subarray(cursor.from, cursor.to)
  }
  if (Buffer.from(take()).toString('utf8') !== policy.uri) return null
  take() // The sender's certificate, or its thumbprint: not needed by who decrypts.
  cursor.skip(8)
  const keyLength = cursor.u16()
  const keyAt = cursor.at
  cursor.skip(keyLength)
  if (cursor.fault !== 0) return null
  const keyData = decrypt(policy, own, sealed.subarray(keyAt, keyAt + keyLength))
  const { signingKeyBytes, encryptingKeyBytes, macBytes } = policy
  const payloadAt = cursor.at
  const payloadEnd = sealed.length - macBytes
  if (keyData === null || keyData.length < 1) return null
  // Three ByteStrings: signing key, encrypting key, initialization vector.
  const keys = new Cursor().open(keyData, 0, keyData.length)
  const part = (length: number): Uint8Array | null => {
    keys.bytes()
    return keys.to - keys.from === length ? keyData.subarray(keys.from, keys.to) : null
  }
  const [signing, encrypting, iv] = [part(signingKeyBytes), part(encryptingKeyBytes), part(16)]
  if (signing === null || encrypting === null || iv === null || payloadEnd <= payloadAt) return null
  if ((payloadEnd - payloadAt) % 16 !== 0) return null
  const mac = createHmac(policy.hash, signing).update(sealed.subarray(0, payloadEnd)).digest()
  if (!timingSafeEqual(mac, sealed.subarray(payloadEnd))) return null
  const decipher = createDecipheriv(policy.cipher, encrypting, iv).setAutoPadding(false)
  const payload = new Cursor()
  const plain = decipher.update(sealed.subarray(payloadAt, payloadEnd))
  payload.open(plain, 0, plain.length)
  payload.bytes()
  const told = payload.from === -1 ? new Uint8Array(0) : plain.subarray(payload.from, payload.to)
  payload.bytes()
  if (payload.fault !== 0 || told.length !== nonce.length || !timingSafeEqual(told, nonce)) return null
  return payload.from === -1 ? new Uint8Array(0) : Uint8Array.from(plain.subarray(payload.from, payload.to))
}
