/** A comparison in words, and as data. */
import { show } from '../../policy/findings.ts'
import { ALL_SERVICES } from '../../policy/opcua-notations.ts'
import { selectorName, subFunctionName } from '../../protocols/modbus/function-codes.ts'
import { serviceOf } from '../../protocols/opcua/services.ts'
import {
  ANY_ADDRESS,
  ANY_CONTENT,
  ANY_MODBUS,
  ANY_OPCUA,
  ANY_PORT,
  ANY_TRANSPORT,
  ANY4,
  ANY6,
  type Flow,
  ICMP,
  ICMP6,
  type ModbusFunctions,
  meet,
  modbusFunctions,
  opcuaServices,
  spansToBlocks,
  TCP,
  UDP,
} from '../../render/flows.ts'
import { equal, intersect, type Spans, size, span, subtract, union, within } from '../../render/sets.ts'
import type { Comparison, Named, Source } from './compare.ts'

export interface Difference {
  /** The file that allows it. */
  file: string
  /** Names of zones, assets, interfaces or CIDR blocks. */
  from: string[]
  to: string[]
  transport: string
  ports: string[]
  sourcePorts: string[] | null
  /** What passes: functions, services, or the words for it. */
  content: { functions: { code: number; name: string }[]; services: string[]; text: string }
  /** null: any. */
  units: string[] | null
  addresses: string[] | null
  values: string[] | null
  /** Lines of `file` that allow it; 0 where its security levels imply it. */
  lines: number[]
  /** What the other file allows for the same addresses and ports, in words. */
  other: string
  /** All of it in one sentence. */
  text: string
}

const MAX_NAMED = 6

export function differences(comparison: Comparison): Difference[] {
  const { a, b, onlyA, onlyB, sourcesA, sourcesB, names } = comparison
  return [
    ...onlyA.map((flow) => tell(flow, a.file, sourcesA, b.file, sourcesB, names)),
    ...onlyB.map((flow) => tell(flow, b.file, sourcesB, a.file, sourcesA, names)),
  ]
}

function tell(
  flow: Flow,
  file: string,
  own: readonly Source[],
  otherFile: string,
  others: readonly Source[],
  names: readonly Named[],
): Difference {
  const from = addresses(flow.from, names)
  const to = addresses(flow.to, names)
  const transport = transportName(flow.transport)
  const ports = list(flow.port, ANY_PORT)
  const sourcePorts = list(flow.sourcePort, ANY_PORT)
  const content = contentOf(flow.content)
  const units = list(flow.unit, span(0, 255))
  const registers = list(flow.address, span(0, 65535))
  const values = list(flow.value, span(0, 65535))
  const lines = [...new Set(own.filter((one) => meet(one.flow, flow) !== null).map(({ line }) => line))].sort(
    (x, y) => x - y,
  )
  const narrow = { units, registers, values }
  const there = whatElse(flow, others)
  const other = there === null ? `${otherFile} allows nothing there` : `${otherFile} allows ${there} there`
  const port =
    ports === null ? '' : ` port${ports.length === 1 && !ports[0].includes('-') ? '' : 's'} ${ports.join(', ')}`
  const source = sourcePorts === null ? '' : ` (from ports ${sourcePorts.join(', ')})`
  const what = `${content.text}${narrowWords(narrow)}`
  const text = `from ${from.join(', ')} to ${to.join(', ')}, ${transport}${port}${source}: ${what}; ${other}`
  return {
    file,
    from,
    to,
    transport,
    ports: ports ?? ['any'],
    sourcePorts,
    content,
    units,
    addresses: registers,
    values,
    lines,
    other,
    text,
  }
}

function narrowWords({
  units,
  registers,
  values,
}: {
  units: string[] | null
  registers: string[] | null
  values: string[] | null
}): string {
  return [
    units === null ? '' : `, unit identifiers ${brief(units)}`,
    registers === null ? '' : `, addresses ${brief(registers)}`,
    values === null ? '' : `, values ${brief(values)}`,
  ].join('')
}

/** What the other side allows between some of the same addresses, on some of the same ports. */
function whatElse(flow: Flow, others: readonly Source[]): string | null {
  const same = others.flatMap(({ flow: other }) => {
    const both = meet(
      { ...flow, content: ANY_CONTENT, unit: span(0, 255), address: span(0, 65535), value: span(0, 65535) },
      other,
    )
    return both === null ? [] : [both]
  })
  if (same.length === 0) return null
  const join = (key: 'content' | 'unit' | 'address' | 'value'): Spans => same.map((one) => one[key]).reduce(union)
  const narrow = {
    units: list(join('unit'), span(0, 255)),
    registers: list(join('address'), span(0, 65535)),
    values: list(join('value'), span(0, 65535)),
  }
  return `${contentOf(join('content')).text}${narrowWords(narrow)}`
}

const brief = (items: string[]): string =>
  items.length <= MAX_NAMED
    ? items.join(', ')
    : `${items.slice(0, MAX_NAMED).join(', ')} and ${items.length - MAX_NAMED} more`

/** Ranges as text; null where it is all. */
function list(set: Spans, all: Spans): string[] | null {
  return equal(set, all) ? null : set.map(([low, high]) => (low === high ? `${low}` : `${low}-${high}`))
}

/** Names that make up the set exactly, the largest first; what is left as CIDR blocks. */
function addresses(set: Spans, names: readonly Named[]): string[] {
  if (equal(set, ANY_ADDRESS)) return ['any address']
  if (equal(set, ANY4)) return ['any IPv4 address']
  if (equal(set, ANY6)) return ['any IPv6 address']
  const found: string[] = []
  let rest = set
  const bySize = [...names].sort((a, b) => (size(a.set) > size(b.set) ? -1 : 1))
  for (const { name, set: named } of bySize) {
    if (rest.length === 0 || !within(named, rest)) continue
    found.push(name)
    rest = subtract(rest, named)
  }
  const plain = spansToBlocks(set).map(({ text }) => text)
  const blocks = spansToBlocks(rest).map(({ text }) => text)
  // Names say more where they say it all; a name among its neighbours' blocks says less.
  const words = rest.length > 0 && plain.length <= found.length + blocks.length ? plain : [...new Set(found), ...blocks]
  return words.length > MAX_NAMED ? [...words.slice(0, MAX_NAMED), `${words.length - MAX_NAMED} more blocks`] : words
}

function transportName(set: Spans): string {
  if (equal(set, ANY_TRANSPORT)) return 'any protocol of IP'
  const known: [Spans, string][] = [
    [TCP, 'tcp'],
    [UDP, 'udp'],
    [ICMP, 'icmp'],
    [ICMP6, 'icmp6'],
  ]
  const some = known.filter(([one]) => within(one, set)).map(([, text]) => text)
  const rest = known.reduce((left, [one]) => subtract(left, one), set)
  const numbered = rest.length === 0 ? [] : [`IP protocol ${list(rest, ANY_TRANSPORT)?.join(', ')}`]
  return [...some, ...numbered].join(', ')
}

function contentOf(content: Spans): Difference['content'] {
  const opaque = intersect(content, span(0)).length > 0
  const functions = modbusFunctions(content)
  const services = opcuaServices(content, ALL_SERVICES).map((id) => serviceOf(id)?.name ?? `${id}`)
  const named = functions.map((one) => ({ code: one.code, name: nameOf(one) }))
  if (opaque) {
    const missing = subtract(ANY_CONTENT, content)
    const but = missing.length === 0 ? '' : ` but ${words(missing)}`
    return {
      functions: named,
      services: services.length === ALL_SERVICES.length ? [] : services,
      text: `anything${but}`,
    }
  }
  return { functions: named, services, text: words(content) }
}

function words(content: Spans): string {
  const parts: string[] = []
  const modbus = intersect(content, ANY_MODBUS)
  if (equal(modbus, ANY_MODBUS)) parts.push('every Modbus function')
  else if (modbus.length > 0) {
    const functions = modbusFunctions(content)
    const shown = functions.slice(0, 8).map((one) => `${one.code} (${nameOf(one)})`)
    const more =
      functions.length > 8
        ? ` and ${functions.length - 8} more: ${codeRanges(functions.slice(8).map(({ code }) => code))}`
        : ''
    parts.push(`Modbus function${functions.length === 1 ? '' : 's'} ${shown.join(', ')}${more}`)
  }
  const opcua = intersect(content, ANY_OPCUA)
  if (equal(opcua, ANY_OPCUA)) parts.push('every OPC UA service')
  else if (opcua.length > 0) {
    const services = opcuaServices(content, ALL_SERVICES).map((id) => serviceOf(id)?.name ?? `${id}`)
    parts.push(`OPC UA service${services.length === 1 ? '' : 's'} ${brief(services)}`)
  }
  return parts.length === 0 ? 'anything else' : parts.join(' and ')
}

function nameOf({ code, sub, without }: ModbusFunctions): string {
  const name = selectorName({ code, sub })
  if (without.length === 0) return name
  return `${name} but for ${brief(without.map((one) => subFunctionName(code, one)))}`
}

function codeRanges(codes: readonly number[]): string {
  const set = [...new Set(codes)].map((code) => span(code)).reduce(union, [])
  return set.map(([low, high]) => (low === high ? `${low}` : `${low}-${high}`)).join(', ')
}

/** Lines of text for a person. */
export function comparisonText(comparison: Comparison): string[] {
  const { a, b, notes } = comparison
  const all = differences(comparison)
  const lines: string[] = []
  for (const file of [a.file, b.file]) {
    const own = all.filter((one) => one.file === file)
    if (own.length === 0) continue
    lines.push(`${file} also allows:`)
    for (const { text, lines: at } of own) {
      const where = at.filter((line) => line > 0)
      lines.push(
        `  ${text}${where.length === 0 ? '' : ` [line${where.length === 1 ? '' : 's'} ${brief(where.map(String))}]`}`,
      )
    }
  }
  if (all.length === 0) lines.push(`${a.file} and ${b.file} allow the same`)
  if (notes.length > 0) lines.push('', 'not compared, or compared with care:', ...notes.map((note) => `  ${note}`))
  for (const side of [a, b]) {
    if (side.kind !== 'asa' || side.config.notes.length === 0) continue
    lines.push('', `lines of ${side.file} that no document has a word for:`)
    for (const { line, text, why } of side.config.notes) lines.push(`  ${line}: ${show(text)}: ${why}`)
  }
  return lines
}

/** The comparison as one JSON object. */
export function comparisonJson(comparison: Comparison): Record<string, unknown> {
  const { a, b, notes } = comparison
  const side = (one: Comparison['a']) => ({
    file: one.file,
    kind: one.kind,
    unread: one.kind === 'asa' ? one.config.notes : [],
  })
  const all = differences(comparison)
  return { a: side(a), b: side(b), same: all.length === 0, differences: all, notes }
}
