/**
 * The security policies of OPC UA (OPC 10000-7 §6.6, profiles "SecurityPolicy [A/B] - …"): which algorithms, key
 * lengths and nonces each means. None of elliptic curves: `node:crypto` has them, no device on the conduit asks yet.
 */
import { constants } from 'node:crypto'
import { type OpcUaSecurityPolicy, policyUri } from '../security.ts'

export interface SecurityPolicy {
  name: OpcUaSecurityPolicy
  uri: string
  /** Of the key derivation (P_SHA1, P_SHA256) and of HMAC, which signs messages. */
  hash: 'sha1' | 'sha256'
  /** Length of a message's signature, in bytes. */
  macBytes: number
  /** Lengths of the derived keys, in bytes. */
  signingKeyBytes: number
  encryptingKeyBytes: number
  cipher: 'aes-128-cbc' | 'aes-256-cbc'
  /** SecureChannelNonceLength, in bytes. */
  nonceBytes: number
  /** How certificates' keys sign. */
  signature: { hash: 'RSA-SHA1' | 'RSA-SHA256'; pss: boolean; uri: string }
  /** How certificates' keys encrypt; `overhead` is what the padding takes of each block, in bytes. */
  encryption: { padding: number; oaepHash: 'sha1' | 'sha256'; overhead: number; uri: string }
  /** Least and greatest length of certificates' keys, in bits. */
  keyBits: readonly [number, number]
}

const RSA_SHA1 = { hash: 'RSA-SHA1', pss: false, uri: 'http://www.w3.org/2000/09/xmldsig#rsa-sha1' } as const
const RSA_SHA256 = {
  hash: 'RSA-SHA256',
  pss: false,
  uri: 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256',
} as const
const PSS_SHA256 = {
  hash: 'RSA-SHA256',
  pss: true,
  uri: 'http://opcfoundation.org/UA/security/rsa-pss-sha2-256',
} as const

const PKCS1 = {
  padding: constants.RSA_PKCS1_PADDING,
  oaepHash: 'sha1',
  overhead: 11,
  uri: 'http://www.w3.org/2001/04/xmlenc#rsa-1_5',
} as const
const OAEP_SHA1 = {
  padding: constants.RSA_PKCS1_OAEP_PADDING,
  oaepHash: 'sha1',
  overhead: 42,
  uri: 'http://www.w3.org/2001/04/xmlenc#rsa-oaep',
} as const
const OAEP_SHA256 = {
  padding: constants.RSA_PKCS1_OAEP_PADDING,
  oaepHash: 'sha256',
  overhead: 66,
  uri: 'http://opcfoundation.org/UA/security/rsa-oaep-sha2-256',
} as const

const SHA1 = { hash: 'sha1', macBytes: 20 } as const
const SHA256 = { hash: 'sha256', macBytes: 32, signingKeyBytes: 32, nonceBytes: 32 } as const
const AES128 = { cipher: 'aes-128-cbc', encryptingKeyBytes: 16 } as const
const AES256 = { cipher: 'aes-256-cbc', encryptingKeyBytes: 32 } as const

/** No nonces, no signatures; the algorithms are there to keep one shape, and are never used. */
export const NONE: SecurityPolicy = {
  name: 'None',
  uri: policyUri('None'),
  hash: 'sha256',
  macBytes: 0,
  signingKeyBytes: 0,
  nonceBytes: 0,
  ...AES256,
  signature: RSA_SHA256,
  encryption: OAEP_SHA1,
  keyBits: [0, 16_384],
}

export const SECURITY_POLICIES: readonly SecurityPolicy[] = [
  NONE,
  {
    name: 'Basic128Rsa15',
    uri: policyUri('Basic128Rsa15'),
    ...SHA1,
    signingKeyBytes: 16,
    nonceBytes: 16,
    ...AES128,
    signature: RSA_SHA1,
    encryption: PKCS1,
    keyBits: [1024, 2048],
  },
  {
    name: 'Basic256',
    uri: policyUri('Basic256'),
    ...SHA1,
    signingKeyBytes: 24,
    nonceBytes: 32,
    ...AES256,
    signature: RSA_SHA1,
    encryption: OAEP_SHA1,
    keyBits: [1024, 2048],
  },
  {
    name: 'Basic256Sha256',
    uri: policyUri('Basic256Sha256'),
    ...SHA256,
    ...AES256,
    signature: RSA_SHA256,
    encryption: OAEP_SHA1,
    keyBits: [2048, 4096],
  },
  {
    name: 'Aes128_Sha256_RsaOaep',
    uri: policyUri('Aes128_Sha256_RsaOaep'),
    ...SHA256,
    ...AES128,
    signature: RSA_SHA256,
    encryption: OAEP_SHA1,
    keyBits: [2048, 4096],
  },
  {
    name: 'Aes256_Sha256_RsaPss',
    uri: policyUri('Aes256_Sha256_RsaPss'),
    ...SHA256,
    ...AES256,
    signature: PSS_SHA256,
    encryption: OAEP_SHA256,
    keyBits: [2048, 4096],
  },
]

const BY_URI = new Map(SECURITY_POLICIES.map((policy) => [policy.uri, policy]))
const BY_NAME = new Map<string, SecurityPolicy>(SECURITY_POLICIES.map((policy) => [policy.name, policy]))

export const policyByUri = (uri: string): SecurityPolicy | undefined => BY_URI.get(uri)

export const policyByName = (name: OpcUaSecurityPolicy): SecurityPolicy => BY_NAME.get(name) as SecurityPolicy

/** MessageSecurityMode (OPC 10000-4 §7.20), by its value on the wire. */
export const SECURITY_MODE = { None: 1, Sign: 2, SignAndEncrypt: 3 } as const
export type SecurityModeValue = (typeof SECURITY_MODE)[keyof typeof SECURITY_MODE]
