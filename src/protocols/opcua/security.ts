/** Names of security: policies by their URIs (OPC 10000-7 §6.6), message security modes (OPC 10000-4 §7.20). */

export const OPCUA_SECURITY_POLICIES = [
  'None',
  'Basic128Rsa15',
  'Basic256',
  'Basic256Sha256',
  'Aes128_Sha256_RsaOaep',
  'Aes256_Sha256_RsaPss',
] as const
export type OpcUaSecurityPolicy = (typeof OPCUA_SECURITY_POLICIES)[number]

/** Weakest first; the number of a mode on the wire is its index and one (0 is Invalid). */
export const OPCUA_SECURITY_MODES = ['None', 'Sign', 'SignAndEncrypt'] as const
export type OpcUaSecurityMode = (typeof OPCUA_SECURITY_MODES)[number]

/** SHA-1 and RSA PKCS#1 1.5: withdrawn by the OPC Foundation in version 1.04 of the specification. */
export const DEPRECATED_POLICIES: readonly OpcUaSecurityPolicy[] = ['Basic128Rsa15', 'Basic256']

export const POLICY_URI_PREFIX = 'http://opcfoundation.org/UA/SecurityPolicy#'

export const policyUri = (policy: OpcUaSecurityPolicy): string => POLICY_URI_PREFIX + policy

/** The policy of a URI; null for a URI that Headgate does not know. */
export function policyOf(uri: string): OpcUaSecurityPolicy | null {
  if (!uri.startsWith(POLICY_URI_PREFIX)) return null
  const name = uri.slice(POLICY_URI_PREFIX.length)
  return OPCUA_SECURITY_POLICIES.find((policy) => policy === name) ?? null
}

/** Whether `mode` is at least as strong as `least`. */
export const modeAtLeast = (mode: OpcUaSecurityMode, least: OpcUaSecurityMode): boolean =>
  OPCUA_SECURITY_MODES.indexOf(mode) >= OPCUA_SECURITY_MODES.indexOf(least)
