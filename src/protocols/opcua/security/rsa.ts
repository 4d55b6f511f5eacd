/**
 * What certificates' keys do: sign, verify, encrypt and decrypt, by the algorithms of a security policy
 * (OPC 10000-6 §6.7.4, OPC 10000-4 §7.32, §7.40). Plain text of any length goes in blocks.
 */
import { constants, createSign, createVerify, type KeyObject, privateDecrypt, publicEncrypt } from 'node:crypto'
import type { SecurityPolicy } from './policies.ts'

/** Length of a key's modulus, in bytes. */
export const keyBytes = (key: KeyObject): number => (key.asymmetricKeyDetails?.modulusLength ?? 0) >>> 3

/** Bytes of plain text that one block of an encryption takes. */
export const blockRoom = (policy: SecurityPolicy, key: KeyObject): number => keyBytes(key) - policy.encryption.overhead

const padding = ({ signature }: SecurityPolicy): { padding: number; saltLength?: number } =>
  signature.pss
    ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
    : { padding: constants.RSA_PKCS1_PADDING }

export function sign(policy: SecurityPolicy, key: KeyObject, ...parts: Uint8Array[]): Buffer {
  const signer = createSign(policy.signature.hash)
  for (const part of parts) signer.update(part)
  return signer.sign({ key, ...padding(policy) })
}

export function verify(policy: SecurityPolicy, key: KeyObject, signature: Uint8Array, ...parts: Uint8Array[]): boolean {
  const verifier = createVerify(policy.signature.hash)
  for (const part of parts) verifier.update(part)
  try {
    return verifier.verify({ key, ...padding(policy) }, signature)
  } catch {
    return false
  }
}

/** Encrypts in blocks of `blockRoom`; the last may be shorter. */
export function encrypt(policy: SecurityPolicy, key: KeyObject, plain: Uint8Array): Buffer {
  const { padding, oaepHash } = policy.encryption
  const room = blockRoom(policy, key)
  const blocks: Buffer[] = []
  for (let at = 0; at < plain.length; at += room) {
    blocks.push(publicEncrypt({ key, padding, oaepHash }, plain.subarray(at, at + room)))
  }
  return Buffer.concat(blocks)
}

/**
 * Decrypts blocks of the key's length.
 * @returns null where they are none, or one is not what the public key made
 */
export function decrypt(policy: SecurityPolicy, key: KeyObject, sealed: Uint8Array): Buffer | null {
  const { padding, oaepHash } = policy.encryption
  const length = keyBytes(key)
  if (sealed.length === 0 || sealed.length % length !== 0) return null
  const blocks: Buffer[] = []
  try {
    for (let at = 0; at < sealed.length; at += length) {
      blocks.push(privateDecrypt({ key, padding, oaepHash }, sealed.subarray(at, at + length)))
    }
  } catch {
    return null
  }
  return Buffer.concat(blocks)
}
