/** What `headgate replay` does. */
import { CaptureUnreadable, type Ingested } from '../baseline/ingest.ts'
import { type Difference, Replay, type ReplayResult, type VerdictGroup } from '../baseline/replay.ts'
import { plural } from '../baseline/rules.ts'
import { formatAddress } from '../policy/address.ts'
import type { Policy } from '../policy/model.ts'
import type { FrameFields } from '../protocols/modbus/describe.ts'
import { functionName } from '../protocols/modbus/function-codes.ts'
import type { OpcUaFields } from '../protocols/opcua/terms.ts'
import { parsePort, placesOf, Refused, readCaptures, requirePolicy } from './captures.ts'
import type { ReplayFlags } from './replay.ts'

/** Flows of one rule and reason that the text names one by one. */
const SHOWN = 8

/**
 * @returns the exit code: 0 all allowed, 1 something would be denied by the policy (whatever the one that it is compared
 *   with does), 2 cannot read or bad usage
 */
export async function runReplay(file: string, flags: ReplayFlags): Promise<number> {
  try {
    const policy = requirePolicy(file)
    const other = flags.compare === undefined ? null : requirePolicy(flags.compare)
    const policies = other === null ? [policy] : [policy, other]
    const places = placesOf(policies, (flags.port ?? []).map(parsePort), (flags.opcuaPort ?? []).map(parsePort))
    const sink = new Replay(policy, other)
    const sources = await readCaptures(flags.pcap, sink, { ...places, anyPort: flags.anyPort })
    const result = sink.result()
    const print = flags.format === 'json' ? printJson : printText
    print(sources, result, sink.otherResult(), sink.differences())
    const { counts } = result
    return counts.denied + counts.refused + counts.responsesDenied > 0 ? 1 : 0
  } catch (error) {
    if (!(error instanceof Refused || error instanceof CaptureUnreadable)) throw error
    process.stderr.write(`headgate: ${error.message}\n`)
    return 2
  }
}

type Print = (
  sources: readonly Ingested[],
  result: ReplayResult,
  reference: ReplayResult | null,
  differences: readonly Difference[],
) => void

const printJson: Print = (sources, result, reference, differences) => {
  const plain = ({ policy, counts, groups, more }: ReplayResult) => ({
    policy: policy.file,
    sha256: policy.sha256,
    counts,
    groups,
    groups_not_kept: more,
  })
  const captures = sources.map(({ name, packets, bytes, first, last, notes }) => ({
    name,
    packets,
    bytes,
    first,
    last,
    notes,
  }))
  const compare = reference === null ? {} : { compare: { ...plain(reference), differences } }
  process.stdout.write(`${JSON.stringify({ captures, ...plain(result), ...compare }, null, 2)}\n`)
}

const printText: Print = (_sources, result, reference, differences) => {
  const lines: string[] = []
  if (reference === null) lines.push(...resultText(result))
  else {
    lines.push(countsText(reference), countsText(result))
    const names = namesOf(result.policy)
    if (differences.length === 0) lines.push('no request is judged differently')
    for (const one of differences) {
      const by = one.allowedBy === null ? '' : `, allowed by "${one.allowedBy}"`
      lines.push(
        `${one.before} -> ${one.after}: ${plural(one.count, 'request')}, ${flowText(one, names)}`,
        `    reason ${one.reason}${ruleText(one)}${by}; ${span(one)}`,
        ...(one.example === null ? [] : [`    example: ${exampleText(one.example)}`]),
        ...(one.why === '' ? [] : [`    ${one.why}`]),
      )
    }
  }
  process.stdout.write(`${lines.join('\n')}\n`)
}

function countsText({ policy, counts }: ReplayResult): string {
  const parts = [
    `${plural(counts.requests, 'request')}: ${counts.allowed.toLocaleString('en')} allowed`,
    `${counts.denied.toLocaleString('en')} would be denied`,
  ]
  if (counts.recorded > 0) parts.push(`${counts.recorded.toLocaleString('en')} would pass and be recorded`)
  if (counts.refused > 0) parts.push(`${plural(counts.refused, 'connection')} would be refused`)
  if (counts.responsesDenied > 0) parts.push(`${plural(counts.responsesDenied, 'response')} would be denied`)
  if (counts.tolerated > 0) parts.push(`${plural(counts.tolerated, 'deviation')} tolerated`)
  if (counts.unanswered > 0) parts.push(`${plural(counts.unanswered, 'request')} not answered in time`)
  if (counts.unjudged > 0)
    parts.push(`${plural(counts.unjudged, 'message')} not judged (their context is not captured)`)
  if (counts.unfollowed > 0)
    parts.push(`${plural(counts.unfollowed, 'OPC UA connection')} not judged from a gap on, or for want of a beginning`)
  return `${policy.file}: ${parts.join(', ')}`
}

/** By verdict, conduit, rule and reason; under each the flows. */
function resultText(result: ReplayResult): string[] {
  const lines = [countsText(result)]
  const names = namesOf(result.policy)
  const heads = new Map<string, VerdictGroup[]>()
  for (const group of result.groups) {
    const key = [group.verdict, group.kind, group.conduit, group.rule, group.reason].join('\n')
    heads.set(key, [...(heads.get(key) ?? []), group])
  }
  const sum = (groups: readonly VerdictGroup[]): number => groups.reduce((all, one) => all + one.count, 0)
  for (const groups of [...heads.values()].sort((a, b) => sum(b) - sum(a))) {
    const [head] = groups
    const first = groups.reduce((least, one) => (one.first < least ? one.first : least), head.first)
    const last = groups.reduce((most, one) => (one.last > most ? one.last : most), head.last)
    const where = head.conduit === null ? 'no conduit' : head.conduit
    const refused = head.kind === 'connection' ? 'would be refused' : 'would be denied'
    const verdict = head.verdict === 'denied' ? refused : 'would pass and be recorded'
    lines.push(
      '',
      `${plural(sum(groups), head.kind)} ${verdict}: ${where}, reason ${head.reason}${ruleText(head)}; ${span({ first, last })}`,
    )
    for (const one of groups.slice(0, SHOWN))
      lines.push(`  ${one.count.toLocaleString('en').padStart(9)}  ${flowText(one, names)}`)
    if (groups.length > SHOWN) lines.push(`             and ${groups.length - SHOWN} more`)
    if (head.example !== null) lines.push(`    example: ${exampleText(head.example)}`)
    if (head.why !== '') lines.push(`    ${head.why}`)
  }
  if (result.more > 0) lines.push('', `and ${plural(result.more, 'message')} in more groups than are kept apart`)
  return lines
}

const ruleText = ({ rule }: { rule: string | null }): string => (rule === null ? '' : `, nearest rule "${rule}"`)
const span = ({ first, last }: { first: string; last: string }): string =>
  first === last ? first : `${first} to ${last}`

function flowText(
  one: Pick<VerdictGroup, 'client' | 'target' | 'port' | 'unit' | 'function' | 'service' | 'node' | 'method'>,
  names: ReadonlyMap<string, string>,
): string {
  const host = (address: string): string => (names.has(address) ? `${names.get(address)} (${address})` : address)
  const usual = one.port === 502 || one.port === 4840
  const port = usual ? '' : ` port ${one.port}`
  const unit = one.unit === null ? '' : ` unit ${one.unit}`
  const code = one.function === null ? '' : ` ${functionName(one.function)} (${one.function})`
  const service = [one.service, one.node, one.method].flatMap((part) => (part === null ? [] : ` ${part}`)).join('')
  return `${host(one.client)} -> ${host(one.target)}${port}${unit}${code}${service}`
}

/** `transaction 7, unit 1, write-single-register, address 100, quantity 1, values 5`. */
function exampleText(all: FrameFields | OpcUaFields): string {
  const fields = all as Record<string, unknown>
  const labels: [keyof FrameFields | keyof OpcUaFields, string][] = [
    ['transaction_id', 'transaction'],
    ['unit_id', 'unit'],
    ['function', ''],
    ['sub_function', ''],
    ['address', 'address'],
    ['quantity', 'quantity'],
    ['write_address', 'write address'],
    ['write_quantity', 'write quantity'],
    ['values', 'values'],
    ['exception_code', 'exception'],
    ['security_policy', 'policy'],
    ['security_mode', 'mode'],
    ['node', 'node'],
    ['method', 'method'],
    ['attribute', 'attribute'],
    ['value', 'value'],
    ['endpoint_url', 'endpoint'],
    ['length', 'bytes'],
  ]
  return labels
    .filter(([key]) => fields[key] !== undefined && fields[key] !== '')
    .map(([key, label]) => `${label} ${fields[key]}`.trim())
    .join(', ')
}

const namesOf = (policy: Policy): Map<string, string> =>
  new Map(
    policy.zones.flatMap((zone) => zone.assets.map((one) => [formatAddress(one.address.base), one.name] as const)),
  )
