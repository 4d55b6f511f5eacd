/**
 * Whether what would have been denied under an earlier document is allowed by the one in force: what was analyzed and
 * accepted is no longer open. Of reads alone, which their addresses decide; a write has to have been quiet for its time.
 */
import { type BaselineFlow, NO_RATE } from '../../baseline/baseline-file.ts'
import { coverage, modbusOf, serviceStanding } from '../../baseline/coverage.ts'
import { joinRanges } from '../../baseline/ranges.ts'
import type { ModbusTable, Policy } from '../../policy/model.ts'
import { READ_ONLY_GROUPS, SERVICES } from '../../protocols/opcua/services.ts'
import type { EventInput } from '../../records/catalogue.ts'
import type { Reads, ServiceRead, WouldDeny } from './ledger.ts'

/** The tables of the functions that only read. */
const TABLE: Record<number, ModbusTable> = {
  1: 'coils',
  2: 'discrete-inputs',
  3: 'holding-registers',
  4: 'input-registers',
}
/** Reasons that another document may mend. */
const MENDABLE = new Set(['pair', 'unit', 'function', 'address'])
/** Ranges of one kind that are kept; of more, nothing is concluded. */
const MOST = 64

/** Services of OPC UA that only read, by name. */
const READING: ReadonlySet<string> = new Set(
  SERVICES.filter(({ group }) => (READ_ONLY_GROUPS as readonly string[]).includes(group)).map(({ name }) => name),
)

/** What an event says of requests that read, beside what is known of them; null: nothing can be concluded of it. */
export function readsOf(event: EventInput, before: WouldDeny['reads'] | undefined): WouldDeny['reads'] {
  if (before !== null && event.protocol === 'opcua') return serviceOf(event)
  return before != null && 'service' in before ? null : modbusReadsOf(event, before)
}

/** An event that stands for several requests names the node of one: only what is denied for its service is whole. */
function serviceOf(event: EventInput): ServiceRead | null {
  const service = String(event.function ?? '')
  if (event.event !== 'request.would_deny' || !READING.has(service)) return null
  if (event.reason !== 'pair' && event.reason !== 'service') return null
  return { client: String(event.client), target: String(event.target), port: Number(event.target_port), service }
}

function modbusReadsOf(event: EventInput, before: Reads | null | undefined): Reads | null {
  const { function_code: code, client, target, target_port: port } = event
  if (before === null || event.event !== 'request.would_deny' || event.more_addresses === 'yes') return null
  if (!(Number(code) in TABLE) || !MENDABLE.has(String(event.reason))) return null
  const units = [...(before?.units ?? []), ...ranges(event.units ?? event.unit_id)]
  const addresses = [...(before?.addresses ?? []), ...ranges(event.addresses ?? spanOf(event))]
  const reads: Reads = {
    client: String(client),
    target: String(target),
    port: Number(port),
    code: Number(code),
    units: joinRanges(units),
    addresses: joinRanges(addresses),
  }
  return reads.addresses.length > MOST || reads.addresses.length * reads.units.length === 0 ? null : reads
}

const spanOf = ({ address, quantity }: EventInput): string | undefined =>
  address == null || quantity == null || Number(quantity) < 1
    ? undefined
    : `${address}-${Number(address) + Number(quantity) - 1}`

/** `0-9, 12` */
function ranges(text: string | number | null | undefined): [number, number][] {
  if (text == null || text === '') return []
  return `${text}`.split(',').map((part) => {
    const [low, high = low] = part.trim().split('-').map(Number)
    return [low, high]
  })
}

/** @param sha256 of the document in force */
export function allowedByNow(policy: Policy, { conduit, policy: seenUnder, reads }: WouldDeny): boolean {
  if (reads === null || seenUnder === policy.sha256) return false
  if ('service' in reads) return serviceStanding(policy, conduit, reads) === 'allowed'
  const protocols = modbusOf(policy).filter((place) => place.conduit.id === conduit)
  const { client, target, port, code, addresses } = reads
  const flow = {
    ...{ client, target, port, function: code, sub: null, requests: 1, responses: 0, exceptions: {}, malformed: 0 },
    ...{ deviations: {}, first: '', last: '', addresses: { [TABLE[code]]: addresses }, values: {}, rate: NO_RATE },
  } as unknown as Omit<BaselineFlow, 'unit'>
  for (const [low, high] of reads.units) {
    for (let unit = low; unit <= high; unit++) {
      const allowed = protocols.some(({ protocol }) => {
        const { rest, deniedBy } = coverage(protocol, { ...flow, unit })
        return rest === null && deniedBy === null
      })
      if (!allowed) return false
    }
  }
  return true
}
