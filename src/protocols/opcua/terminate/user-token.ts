/**
 * Secrets of users: passwords and issued tokens, encrypted to the certificate of whoever they are meant for
 * (OPC 10000-4 §7.40). The gateway opens what was encrypted to it, and encrypts it anew to the server.
 */
import { createCipheriv, createDecipheriv, createHmac, type KeyObject, randomBytes, timingSafeEqual } from 'node:crypto'
import { Cursor, dateTime, NodeRef, Writer } from '../binary.ts'
import type { SecurityPolicy } from '../security/policies.ts'
import { decrypt, encrypt } from '../security/rsa.ts'

/** Binary encoding ids of the tokens. */
export const TOKEN_ENCODING = { Anonymous: 321, UserName: 324, X509: 327, Issued: 940 } as const
/** Id of the data type RsaEncryptedSecret, which stands before it as before an ExtensionObject (§7.40.2.3). */
const RSA_ENCRYPTED_SECRET = 17545

/** Longest secret in bytes; a password has a few dozen, a token of an issuer some thousand. */
const MAX_SECRET = 16_384
const BLOCK = 16

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

/** Whether a secret is an RsaEncryptedSecret: a client takes that where its server is known to. */
export function isFramed(sealed: Uint8Array): boolean {
  const cursor = new Cursor().open(sealed, 0, sealed.length)
  const type = new NodeRef()
  cursor.nodeId(type)
  const is = type.namespace === 0 && type.type === 0 && type.id === RSA_ENCRYPTED_SECRET
  return cursor.fault === 0 && is && cursor.u8() === 1 && cursor.u32() === sealed.length - cursor.at
}

/**
 * The same as an RsaEncryptedSecret.
 * @param thumbprint of the server's certificate
 * @param now milliseconds since 1970
 */
export function sealFramedSecret(
  policy: SecurityPolicy,
  server: KeyObject,
  thumbprint: Uint8Array,
  nonce: Uint8Array,
  secret: Uint8Array,
  now: number,
): Buffer {
  const { signingKeyBytes, encryptingKeyBytes, macBytes } = policy
  const [signing, encrypting, iv] = [signingKeyBytes, encryptingKeyBytes, BLOCK].map((length) => randomBytes(length))
  const keys = new Writer().byteString(signing).byteString(encrypting).byteString(iv)
  const keyData = encrypt(policy, server, keys.written())
  const clear = new Writer().byteString(nonce).byteString(secret)
  const padding = (BLOCK - ((clear.length + 2) % BLOCK)) % BLOCK
  for (let i = 0; i < padding; i++) clear.u8(padding)
  const cipher = createCipheriv(policy.cipher, encrypting, iv).setAutoPadding(false)
  const payload = cipher.update(clear.u16(padding).written())
  const body = new Writer().string(policy.uri).byteString(thumbprint).i64(dateTime(now)).u16(keyData.length)
  body.raw(keyData).raw(payload)
  const message = new Writer()
    .numericNodeId(0, RSA_ENCRYPTED_SECRET)
    .u8(1)
    .u32(body.length + macBytes)
  const signed = message.raw(body.written()).written()
  const sealed = Buffer.concat([signed, createHmac(policy.hash, signing).update(signed).digest()])
  for (const bytes of [keys.buf, clear.buf]) bytes.fill(0)
  return sealed
}

/** §7.40.2.3, RsaEncryptedSecret. @returns undefined where `sealed` is not of this format */
function openFramed(
  policy: SecurityPolicy,
  own: KeyObject,
  nonce: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | null | undefined {
  if (!isFramed(sealed)) return undefined
  const cursor = new Cursor().open(sealed, 0, sealed.length)
  cursor.nodeId(new NodeRef())
  cursor.skip(5)
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
  const [signing, encrypting, iv] = [part(signingKeyBytes), part(encryptingKeyBytes), part(BLOCK)]
  if (signing === null || encrypting === null || iv === null || payloadEnd <= payloadAt) return null
  if ((payloadEnd - payloadAt) % BLOCK !== 0) return null
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
