/** Probes of an OPC UA server or of the conduit before it: modes that it offers, and a service that must be refused. */
import { blockHolds } from '../../policy/address.ts'
import type { AddressBlock, OpcUaProtocol } from '../../policy/model.ts'
import { modeAtLeast, OPCUA_SECURITY_MODES, type OpcUaSecurityMode, policyOf } from '../../protocols/opcua/security.ts'
import { REQUEST } from '../../protocols/opcua/services.ts'
import { OpcUaClient, OpcUaFailure, statusText } from './opcua-client.ts'
import { fail, type Observed, type Probe, pass, skip } from './probe.ts'
import type { Place, ReachOptions } from './reach.ts'

/** What a server says of a request without a session: it was reached (OPC 10000-4 §7.39.2). */
const FROM_A_SERVER = new Map([
  [0x80250000, 'BadSessionIdInvalid'],
  [0x80260000, 'BadSessionClosed'],
  [0x80270000, 'BadSessionNotActivated'],
  [0x800f0000, 'BadNothingToDo'],
])

export interface OpcUaPath {
  conduit: string
  protocol: OpcUaProtocol
  place: Place
  /** For a person. */
  target: string
  options: ReachOptions
  /** A listener of the gateway, which can refuse services; else a server on its own. */
  carried: boolean
  /** Address that is seen, and of the target. */
  pair: { source: bigint; target: bigint }
}

/** The weakest mode that the document has for the pair. */
function leastMode(protocol: OpcUaProtocol): OpcUaSecurityMode {
  const claimed = OPCUA_SECURITY_MODES.find((mode) => protocol.securityMode?.replaceAll(/[\s&]/g, '') === mode)
  const allowed = OPCUA_SECURITY_MODES.find((mode) => protocol.securityModes.includes(mode)) ?? 'None'
  return claimed !== undefined && modeAtLeast(claimed, allowed) ? claimed : allowed
}

const holds = (blocks: readonly AddressBlock[], address: bigint): boolean =>
  blocks.some((block) => blockHolds(block, address))

export function opcuaProbes(path: OpcUaPath): Probe[] {
  const { conduit, protocol, place, target, carried } = path
  const id = (what: string): string => `${conduit}:${place.host}:${place.port}:${what}`.slice(0, 200)
  const least = leastMode(protocol)
  const probes: Probe[] = [
    {
      id: id('modes'),
      group: 'security',
      conduit,
      target,
      what: 'GetEndpoints: security modes and policies offered',
      expected: `nothing below ${least}; of policies, ${protocol.securityPolicies.join(', ')}`,
      run: () => offered(path, least),
    },
  ]
  const writes = protocol.rules.some(
    (rule) =>
      rule.action === 'allow' &&
      rule.services.includes(REQUEST.Write) &&
      holds(rule.from, path.pair.source) &&
      holds(rule.to, path.pair.target),
  )
  // Over a channel without security: one that the document does not want carries discovery alone.
  if (carried && (!writes || least !== 'None')) {
    probes.push({
      id: id('write'),
      group: 'enforcement',
      conduit,
      target,
      what: 'Write of no nodes, outside of any session, over a channel without security',
      expected: 'refused before it reaches the server',
      run: () => refused(path),
    })
  }
  return probes
}

async function offered({ place, options, protocol }: OpcUaPath, least: OpcUaSecurityMode): Promise<Observed> {
  let client: OpcUaClient | null = null
  try {
    client = await OpcUaClient.open(place, options)
    const endpoints = await client.endpoints()
    if (endpoints.length === 0) return fail('no endpoint')
    const names = [
      ...new Set(endpoints.map(({ mode, policy }) => `${mode ?? 'no mode'}/${policyOf(policy) ?? policy}`)),
    ]
    const bad = endpoints.filter(({ mode, policy }) => {
      const known = policyOf(policy)
      return mode === null || !modeAtLeast(mode, least) || known === null || !protocol.securityPolicies.includes(known)
    })
    const text = `offers ${names.slice(0, 12).join(', ')}`
    return bad.length === 0 ? pass(text) : fail(text)
  } catch (error) {
    return failure(error)
  } finally {
    client?.close()
  }
}

/** A channel that cannot be had, since the conduit refuses it, has nothing to offer. */
function failure(error: unknown): Observed {
  if (!(error instanceof OpcUaFailure)) throw error
  return error.message.startsWith('not connected') ? skip(error.message) : fail(error.message)
}

async function refused({ place, options }: OpcUaPath): Promise<Observed> {
  let client: OpcUaClient
  try {
    client = await OpcUaClient.open(place, options)
  } catch (error) {
    if (!(error instanceof OpcUaFailure)) throw error
    if (error.message.startsWith('not connected') || error.message === 'no answer') return skip(error.message)
    return pass(`no channel without security: ${error.message}`)
  }
  try {
    const status = await client.emptyWrite()
    if (status === 0) return fail('answered: the request reached the server')
    const server = FROM_A_SERVER.get(status)
    return server === undefined
      ? pass(`ServiceFault ${statusText(status)}`)
      : fail(`${server}: the request reached the server`)
  } catch (error) {
    if (!(error instanceof OpcUaFailure)) throw error
    return error.message === 'no answer' ? fail('no answer') : pass(error.message)
  } finally {
    client.close()
  }
}
