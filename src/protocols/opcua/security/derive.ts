/** Keys of a security token, from the nonces that its two ends have exchanged (OPC 10000-6 §6.7.5). */
import { createHmac, createSecretKey } from 'node:crypto'
import type { SecurityModeValue, SecurityPolicy } from './policies.ts'
import { ChannelKeys } from './symmetric.ts'

/**
 * P_hash of RFC 5246 §5, with an empty label: `length` bytes of HMAC(secret, A(i) + seed), A(i) = HMAC(secret, A(i-1)).
 */
export function pHash(hash: 'sha1' | 'sha256', secret: Uint8Array, seed: Uint8Array, length: number): Buffer {
  const key = createSecretKey(secret)
  const blocks: Buffer[] = []
  let a: Uint8Array = seed
  for (let made = 0; made < length; made += blocks[0].length) {
    a = createHmac(hash, key).update(a).digest()
    blocks.push(createHmac(hash, key).update(a).update(seed).digest())
  }
  return Buffer.concat(blocks).subarray(0, length)
}

/**
 * The keys by which one end secures what it sends (Table 47).
 * @param own nonce of that end
 * @param other nonce of the other end
 */
export function channelKeys(
  policy: SecurityPolicy,
  mode: SecurityModeValue,
  own: Uint8Array,
  other: Uint8Array,
): ChannelKeys {
  const { signingKeyBytes, encryptingKeyBytes } = policy
  const bytes = pHash(policy.hash, other, own, signingKeyBytes + encryptingKeyBytes + 16)
  const encryptingEnd = signingKeyBytes + encryptingKeyBytes
  const keys = new ChannelKeys(
    policy,
    mode,
    bytes.subarray(0, signingKeyBytes),
    bytes.subarray(signingKeyBytes, encryptingEnd),
    bytes.subarray(encryptingEnd),
  )
  bytes.fill(0)
  return keys
}
