/**
 * What a policy has against a secure channel, as far as the channel is known: its endpoint URL, its security policy and
 * client's certificate, its server's certificate, its mode. Off the hot path: once a channel, or twice.
 */
import { REASON } from '../reason.ts'
import type { ChannelRules, PairRules } from './channel-rules.ts'
import { CONNECTION_STATUS } from './errors.ts'
import { OPCUA_SECURITY_MODES, type OpcUaSecurityMode, type OpcUaSecurityPolicy } from './security.ts'
import { MODE, type OpcUaTerms } from './terms.ts'

export interface Objection {
  /** One of `REASON`. */
  reason: number
  detail: string
  /** What a client is told that may not go on. */
  status: number
  /** The channel, where it asks for less security than the policy wants; '' where it does not. */
  downgrade: string
}

/** What is known of a channel, or not yet. */
export interface ChannelFacts {
  endpointUrl: string
  /** The server has opened the connection. */
  reversed: boolean
  /** null: none that Headgate knows, or not known yet. */
  policy: OpcUaSecurityPolicy | null
  /** One of `MODE`. */
  mode: number
  /** SHA-1 thumbprints in lower-case hex; '': none, or not known yet. */
  certificate: string
  serverCertificate: string
}

type ChannelTerms = Pick<OpcUaTerms, 'endpointUrls' | 'securityPolicies' | 'securityModes' | 'serverCertificates'>

/** The rules for a pair of addresses: for a client that connects, and for a server that does (RHE). */
export interface InspectRules {
  pair: PairRules
  /** null: this server may not open connections to that client. */
  reverse: PairRules | null
}

const objection = (reason: number, detail: string, status: number, downgrade = ''): Objection => ({
  reason,
  detail,
  status,
  downgrade,
})

export function toEndpoint({ endpointUrls }: ChannelTerms, url: string): Objection | null {
  if (endpointUrls === null || endpointUrls.has(url)) return null
  const detail = `endpoint URL ${url}, expected ${listText(endpointUrls)}`
  return objection(REASON.security, detail, CONNECTION_STATUS.badTcpEndpointUrlInvalid)
}

export const toPair = (): Objection =>
  objection(REASON.pair, 'no rule for this client and target', CONNECTION_STATUS.badUserAccessDenied)

export const toReverse = (): Objection =>
  objection(
    REASON.security,
    'a server may not open connections to this client',
    CONNECTION_STATUS.badTcpEndpointUrlInvalid,
  )

const toSecurityPolicy = (policy: OpcUaSecurityPolicy): Objection => {
  const detail = `security policy ${policy}`
  const status = CONNECTION_STATUS.badSecurityPolicyRejected
  return objection(REASON.security, detail, status, `a channel of the policy ${policy}`)
}

function toCertificate(pair: PairRules, certificate: string): Objection | null {
  if (pair.knowsCertificate(certificate)) return null
  const detail = 'no rule for a client with this certificate'
  return objection(REASON.security, detail, CONNECTION_STATUS.badSecurityChecksFailed)
}

function toSecurityMode({ securityModes }: ChannelTerms, mode: OpcUaSecurityMode): Objection | null {
  if (securityModes.has(mode)) return null
  const detail = `security mode ${mode}, expected ${listText(securityModes)}`
  return objection(REASON.security, detail, CONNECTION_STATUS.badSecurityModeRejected, `a channel of the mode ${mode}`)
}

/** The policy, and the client's certificate. */
export function toPolicy(
  { securityPolicies }: ChannelTerms,
  pair: PairRules,
  policy: OpcUaSecurityPolicy,
  certificate: string,
): Objection | null {
  if (policy === 'None') {
    return pair.forChannel({ policy, mode: 'None', certificate: '' }).first === -1 ? toSecurityPolicy(policy) : null
  }
  if (!securityPolicies.has(policy) || !pair.knowsPolicy(policy)) return toSecurityPolicy(policy)
  return toCertificate(pair, certificate)
}

/** @param thumbprint of the server's certificate, as the client names it, or as the server shows it */
export function toServer({ serverCertificates }: ChannelTerms, thumbprint: string): Objection | null {
  if (thumbprint === '' || serverCertificates === null || serverCertificates.has(thumbprint)) return null
  const detail = `server certificate ${thumbprint}, expected ${listText(serverCertificates)}`
  return objection(REASON.security, detail, CONNECTION_STATUS.badSecurityChecksFailed)
}

/** @param rules that hold for a channel of this policy and mode */
export function toMode(
  terms: ChannelTerms,
  rules: ChannelRules,
  policy: OpcUaSecurityPolicy | null,
  mode: OpcUaSecurityMode,
): Objection | null {
  const other = mode === 'None' ? null : toSecurityMode(terms, mode)
  if (other !== null) return other
  const status = CONNECTION_STATUS.badSecurityModeRejected
  if (rules.first === -1) {
    const channel = `a channel of ${policy} with the mode ${mode}`
    return objection(REASON.security, `no rule for ${channel}`, status, channel)
  }
  if (mode !== 'SignAndEncrypt' || rules.hidden !== -1) return null
  return objection(REASON.security, 'encryption hides what the rules speak of', status)
}

/**
 * What a policy that inspects has against a channel, of what is known of it; null: nothing.
 * A mode that is undecided, and a policy that is not known, are not judged.
 */
export function toInspected(terms: ChannelTerms, rules: InspectRules, facts: ChannelFacts): Objection | null {
  const { reversed, policy, mode, certificate } = facts
  const pair = reversed ? rules.reverse : rules.pair
  if (pair === null) return toReverse()
  const early = toEndpoint(terms, facts.endpointUrl) ?? (pair.allows ? null : toPair())
  if (early !== null || policy === null) return early
  const late = toPolicy(terms, pair, policy, certificate) ?? toServer(terms, facts.serverCertificate)
  if (late !== null || mode === MODE.undecided) return late
  const name = OPCUA_SECURITY_MODES[mode]
  return toMode(terms, pair.forChannel({ policy, mode: name, certificate }), policy, name)
}

/**
 * The same of a policy that terminates: None is there for discovery, which the rules see to, and nothing is hidden. Who is
 * trusted stands in its trust lists, and not in the policy.
 */
export function toTerminated(terms: ChannelTerms, { pair }: InspectRules, facts: ChannelFacts): Objection | null {
  const { policy, mode, certificate } = facts
  const early = toEndpoint(terms, facts.endpointUrl) ?? (pair.allows ? null : toPair())
  if (early !== null || policy === null) return early
  if (policy === 'None') return toServer(terms, facts.serverCertificate)
  if (!terms.securityPolicies.has(policy)) return toSecurityPolicy(policy)
  return (
    (certificate === '' ? null : toCertificate(pair, certificate)) ??
    (mode === MODE.undecided ? null : toSecurityMode(terms, OPCUA_SECURITY_MODES[mode])) ??
    toServer(terms, facts.serverCertificate)
  )
}

/** At most four of them. */
export const listText = (list: ReadonlySet<string>): string => {
  const texts = [...list]
  return texts.length > 4 ? `${texts.slice(0, 4).join(', ')} …` : texts.join(', ')
}
