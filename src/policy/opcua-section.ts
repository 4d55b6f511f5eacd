/** An OPC UA protocol of a conduit: its rules, what its channels must be like, and how Headgate carries them. */
import { DEPRECATED_POLICIES, modeAtLeast } from '../protocols/opcua/security.ts'
import type { Check } from './check.ts'
import type { Path } from './document.ts'
import { show } from './findings.ts'
import { buildLimits, buildTimeouts } from './limits-section.ts'
import { OPCUA_SECURITY_MODES, type OpcUaProtocol, type OpcUaSecurityMode, type OpcUaSecurityPolicy } from './model.ts'
import { parseModeProse, parseThumbprint } from './opcua-notations.ts'
import { buildOpcUaRules } from './opcua-rules.ts'
import { pathIn } from './records-section.ts'
import { type RuleContext, references } from './rule-context.ts'
import type { OpcUaDocument } from './schema.ts'
import { parseBytes } from './values.ts'

const DEFAULT_PORT = 4840
const DEFAULT_POLICIES: readonly OpcUaSecurityPolicy[] = [
  'Basic256Sha256',
  'Aes128_Sha256_RsaOaep',
  'Aes256_Sha256_RsaPss',
]
const DEFAULT_LIMITS = { messageBytes: 4 * 2 ** 20, chunks: 1024 }

type Section = NonNullable<OpcUaDocument['opcua']>

/** How documents write the name of the protocol. */
export const isOpcUa = (protocol: string): boolean => /^opc[\s_-]?ua([\s/_-]*(tcp|binary))?$/i.test(protocol.trim())

export function buildOpcUa(context: RuleContext, document: OpcUaDocument, path: Path): OpcUaProtocol {
  const { check } = context
  // Rules are read one by one, each as far as it is sound; of the other keys only those that are.
  const raw = { ...check.soundPart(document, path), protocol: document.protocol }
  if (document.rules !== undefined) raw.rules = Array.isArray(document.rules) ? document.rules : []
  const at = [...path, 'opcua']
  const given: Section = typeof document.opcua === 'object' && document.opcua !== null ? document.opcua : {}
  const section = check.soundPart(given, at)
  const handling = section.handling ?? 'inspect'
  const securityModes = buildModes(context, raw, section, path)
  const securityPolicies = buildPolicies(check, section, securityModes, at)
  holdToHandling(check, given, handling, securityModes, at)
  const { message_bytes: bytes, chunks, sessions, subscriptions_per_session: subscriptions } = section.limits ?? {}
  return {
    kind: 'opcua',
    protocol: raw.protocol,
    port: raw.port ?? DEFAULT_PORT,
    direction: raw.direction ?? null,
    securityMode: raw.security_mode ?? null,
    rules: buildOpcUaRules(context, raw, { handling, securityModes, securityPolicies }, path),
    handling,
    securityPolicies,
    securityModes,
    userTokens: section.user_tokens ?? ['Anonymous', 'UserName'],
    endpointUrls: section.endpoint_urls?.map(String) ?? null,
    serverCertificates: section.server_certificates?.map((one) => parseThumbprint(one) as string) ?? null,
    reverseConnect: references(context, section.reverse_connect ?? [], [...at, 'reverse_connect']).flatMap(
      (one) => one.blocks,
    ),
    certificates: buildCertificates(check, section, handling, at),
    messageLimits: {
      messageBytes:
        bytes === undefined ? DEFAULT_LIMITS.messageBytes : (parseBytes(bytes, 0, Number.MAX_SAFE_INTEGER) as number),
      chunks: chunks ?? DEFAULT_LIMITS.chunks,
      sessions: sessions ?? null,
      subscriptionsPerSession: subscriptions ?? null,
    },
    limits: buildLimits(check, raw, path),
    timeouts: buildTimeouts(raw),
    position: check.source.position(path),
  }
}

/** The modes that channels may have, strongest last; held to the prose, which binds. */
function buildModes({ check }: RuleContext, raw: OpcUaDocument, section: Section, path: Path): OpcUaSecurityMode[] {
  const prose = raw.security_mode === undefined ? null : parseModeProse(raw.security_mode)
  if (raw.security_mode !== undefined && prose === null) {
    const message = `found ${show(raw.security_mode)}, which no channel can be held to; expected None, Sign or SignAndEncrypt`
    check.warn([...path, 'security_mode'], 'prose-not-enforced', message)
  }
  const least = prose ?? 'Sign'
  if (section.security_modes === undefined) return OPCUA_SECURITY_MODES.filter((mode) => modeAtLeast(mode, least))
  const modes = OPCUA_SECURITY_MODES.filter((mode) => section.security_modes?.includes(mode))
  for (const mode of modes) {
    if (prose === null || modeAtLeast(mode, prose)) continue
    const place = [...path, 'opcua', 'security_modes']
    const message = `found ${mode}, expected ${prose} or better, as security_mode says (line ${check.source.position([...path, 'security_mode']).line})`
    check.error(place, 'weaker-than-prose', message)
  }
  return modes
}

function buildPolicies(
  check: Check,
  section: Section,
  modes: readonly OpcUaSecurityMode[],
  at: Path,
): OpcUaSecurityPolicy[] {
  const none = modes.includes('None')
  const secure = modes.some((mode) => mode !== 'None')
  const place = [...at, 'security_policies']
  const given = section.security_policies
  const policies = [...new Set(given ?? [...(none ? (['None'] as const) : []), ...(secure ? DEFAULT_POLICIES : [])])]
  if (policies.includes('None') && !none) {
    const message = 'found None, which goes with the security mode None alone; discovery passes on it all the same'
    check.error(place, 'outside-security', message)
  }
  if (none && !policies.includes('None')) policies.unshift('None')
  if (secure && policies.every((policy) => policy === 'None')) {
    const message = `found None alone, expected a policy for the mode ${modes.filter((mode) => mode !== 'None').join(' and ')}`
    check.error(place, 'outside-security', message)
  }
  for (const policy of DEPRECATED_POLICIES) {
    if (!policies.includes(policy)) continue
    const message = `found ${policy}, which the OPC Foundation has withdrawn as no longer secure; expected ${DEFAULT_POLICIES.join(', ')}`
    check.warn(place, 'deprecated-policy', message)
  }
  if (none) {
    const message = `found the security mode None: everything on such a channel can be read and changed on its way`
    check.warn(
      section.security_modes === undefined ? at.slice(0, -1) : [...at, 'security_modes'],
      'security-none',
      message,
    )
  }
  return policies
}

/** Keys that mean nothing, or cannot be enforced, with the handling that was chosen. */
function holdToHandling(
  check: Check,
  section: Section,
  handling: OpcUaProtocol['handling'],
  modes: readonly OpcUaSecurityMode[],
  at: Path,
): void {
  const refuse = (path: Path, what: string): void =>
    check.error(path, 'not-enforceable', `found ${what}, which handling ${handling} does not have`)
  if (handling === 'terminate') {
    if (modes.includes('None')) {
      const message =
        'found the mode None with handling terminate, expected Sign or SignAndEncrypt: Headgate ends no channel that proves nothing; discovery passes on None all the same'
      check.error([...at, 'security_modes'], 'not-enforceable', message)
    }
    if (section.reverse_connect !== undefined) refuse([...at, 'reverse_connect'], 'reverse_connect')
    return
  }
  if (section.user_tokens !== undefined) refuse([...at, 'user_tokens'], 'user_tokens')
  if (section.certificates !== undefined) refuse([...at, 'certificates'], 'certificates')
  if (section.limits?.sessions !== undefined) refuse([...at, 'limits', 'sessions'], 'a limit of sessions')
  if (section.limits?.subscriptions_per_session !== undefined)
    refuse([...at, 'limits', 'subscriptions_per_session'], 'a limit of subscriptions')
}

function buildCertificates(
  check: Check,
  section: Section,
  handling: OpcUaProtocol['handling'],
  at: Path,
): OpcUaProtocol['certificates'] {
  if (handling === 'inspect') return null
  if (section.certificates === undefined) {
    if (check.sound([...at, 'certificates'])) {
      const message =
        'expected key "certificates" (own, trusted_clients, trusted_servers) with handling terminate, found none'
      check.error(at, 'missing-key', message)
    }
    return null
  }
  const { own, trusted_clients: clients, trusted_servers: servers } = section.certificates
  return { own: pathIn(check, own), trustedClients: pathIn(check, clients), trustedServers: pathIn(check, servers) }
}
