/** A policy as the configuration of an ISA-3000: interfaces, access-lists, inspection of Modbus, logging. */
import { formatAddress, parseAddress } from '../../policy/address.ts'
import type { AddressBlock, Policy, Zone } from '../../policy/model.ts'
import { FUNCTION_CODES, functionName, selectorName } from '../../protocols/modbus/function-codes.ts'
import { type Crossing, crossingsOf } from '../crossing.ts'
import {
  ANY_ADDRESS,
  ANY_CONTENT,
  ANY_MODBUS,
  ANY_PORT,
  ANY_TRANSPORT,
  ANY4,
  ANY6,
  blockSpans,
  difference,
  type Flow,
  isIPv4,
  meet,
  merge,
  modbusFunctions,
  spansToBlocks,
  without,
} from '../flows.ts'
import { EMPTY, equal, intersect, numbers, type Spans, span, union } from '../sets.ts'
import { namesFor } from '../zone-names.ts'
import { FUNC_CODE_NAMES, PROTOCOLS, TRAP_LEVELS } from './names.ts'

export interface Rendered {
  text: string
  /** What the policy says and the configuration cannot, or has to be decided by a person. */
  notes: string[]
}

/** Trust by Purdue level, as sites commonly set it: control above operations above the DMZ above the enterprise. */
const SECURITY_LEVELS: readonly (readonly [level: number, security: number])[] = [
  [0, 98],
  [1, 95],
  [2, 90],
  [3, 70],
  [3.5, 50],
  [4, 30],
  [5, 10],
]

const securityLevel = ({ purdueLevel }: Zone): number =>
  SECURITY_LEVELS.find(([level]) => level >= (purdueLevel?.[1] ?? 3.5))?.[1] ?? 50

export function renderAsa(policy: Policy): Rendered {
  return new AsaWriter(policy).write()
}

class AsaWriter {
  private readonly policy: Policy
  private readonly notes: string[] = []
  private readonly zones: Zone[]
  private readonly nameifs: Map<string, string>
  private readonly sides: Map<string, Spans>
  private readonly crossings: Crossing[]
  /** Groups of networks, by their text. */
  private readonly groups = new Map<string, { name: string; lines: string[] }>()

  constructor(policy: Policy) {
    this.policy = policy
    const { crossings, sides, notes } = crossingsOf(policy)
    this.crossings = crossings
    this.sides = sides
    this.notes.push(...notes)
    const touched = new Set(policy.conduits.flatMap(({ connects }) => connects))
    this.zones = policy.zones.filter(({ id }) => touched.has(id))
    this.nameifs = namesFor(this.zones, 'zone-', 48)
    for (const zone of policy.zones) {
      if (!touched.has(zone.id)) this.notes.push(`${zone.id}: no conduit touches it; it has no interface`)
    }
  }

  write(): Rendered {
    // The groups of whole zones are named before any entry asks for one.
    const interfaces = this.interfaces()
    const lists = this.accessLists()
    const inspection = this.inspection()
    const lines = [
      `! Made by headgate render isa3000 from ${this.policy.file.replaceAll(/[^\x20-\x7e]/g, '?')}, SHA-256 ${this.policy.sha256}`,
      ...interfaces,
      ...[...this.groups.values()].flatMap(({ lines: own }) => own),
      '!',
      ...lists,
      ...inspection,
      ...this.logging(),
      '',
    ]
    return { text: lines.join('\n'), notes: [...new Set(this.notes)] }
  }

  private nameif(zone: Zone): string {
    return this.nameifs.get(zone.id) as string
  }

  private interfaces(): string[] {
    return this.zones.flatMap((zone, index) => {
      const nameif = this.nameif(zone)
      const side = this.sides.get(zone.id) ?? EMPTY
      const connected = zone.networks.find((network) => isIPv4(network) && network.bits <= 126)
      const lines = [
        '!',
        `interface GigabitEthernet1/${index + 1}`,
        ` description Zone ${zone.id}`,
        ` nameif ${nameif}`,
        ` security-level ${securityLevel(zone)}`,
      ]
      if (connected === undefined) {
        lines.push(' no ip address')
        this.notes.push(`${zone.id}: has no IPv4 network; decide the address of interface ${nameif}`)
      } else {
        const own = freeAddress(connected, this.policy)
        lines.push(` ip address ${formatAddress(own)} ${maskOf(connected)}`)
        this.notes.push(`${zone.id}: ${formatAddress(own)} is made up for interface ${nameif}; decide which it is`)
      }
      lines.push(' no shutdown')
      const rest = connected === undefined ? side : blockSpans([connected])
      if (side.length > 0 && !equal(rest, side)) this.group(`${nameif}-networks`, side)
      if (connected === undefined && side.length > 0) this.group(`${nameif}-networks`, side)
      if (side.length === 0) this.notes.push(`${zone.id}: has no addresses, so that nothing of it is allowed`)
      return lines
    })
  }

  /** A group of networks; one for each set, by the first name that it is asked for. */
  private group(name: string, set: Spans): string {
    const members = spansToBlocks(set).map((block) => ` network-object ${memberOf(block)}`)
    const key = members.join('\n')
    const known = this.groups.get(key)
    if (known !== undefined) return known.name
    this.groups.set(key, { name, lines: ['!', `object-group network ${name}`, ...members] })
    return name
  }

  private addressOf(set: Spans): string {
    if (equal(set, ANY_ADDRESS)) return 'any'
    if (equal(set, ANY4)) return 'any4'
    if (equal(set, ANY6)) return 'any6'
    const blocks = spansToBlocks(set)
    if (blocks.length === 1) return memberOf(blocks[0])
    return `object-group ${this.group(`addresses-${this.groups.size + 1}`, set)}`
  }

  private accessLists(): string[] {
    const lines: string[] = []
    for (const zone of this.zones) {
      const list = `${this.nameif(zone)}-in`
      const own = this.crossings.filter(({ from }) => from === zone)
      for (const { conduit, protocol, to } of dedupe(own)) {
        lines.push(`! ${conduit.id}: ${zone.id} to ${to.id}, ${protocol.protocol.replaceAll(/[^\x20-\x7e]/g, '?')}`)
        const flows = own.filter((one) => one.conduit === conduit && one.protocol === protocol && one.to === to)
        // Functions, units and registers are for the inspection: the list opens the port once for each pair.
        for (const flow of merge(flows.map((one) => opened(one.flow)))) {
          lines.push(...this.entries(flow).map((entry) => `access-list ${list} extended permit ${entry}`))
        }
      }
      lines.push(`access-list ${list} extended deny ip any any log`, '!')
    }
    for (const zone of this.zones) lines.push(`access-group ${this.nameif(zone)}-in in interface ${this.nameif(zone)}`)
    return lines
  }

  /** One entry for each protocol and range of ports: `tcp SOURCE DESTINATION eq 502`. */
  private entries(flow: Flow): string[] {
    const [from, to] = [this.addressOf(flow.from), this.addressOf(flow.to)]
    const protocols = equal(flow.transport, ANY_TRANSPORT) ? ['ip'] : [...numbers(flow.transport)].map(protocolName)
    const ports = equal(flow.port, ANY_PORT)
      ? ['']
      : flow.port.map(([low, high]) => (low === high ? ` eq ${low}` : ` range ${low} ${high}`))
    return protocols.flatMap((protocol) => ports.map((port) => `${protocol} ${from} ${to}${port}`))
  }

  private inspection(): string[] {
    const cells = this.modbusCells()
    if (cells.length === 0) return []
    const groups = new Map<string, { content: Spans; cells: Flow[] }>()
    for (const cell of cells) {
      const key = codesOf(cell.content).join(',')
      const same = groups.get(key)
      groups.set(key, { content: cell.content, cells: [...(same?.cells ?? []), cell] })
    }
    const all = [...groups.values()]
    // One set of functions on the usual port is inspected as devices come: by the class of default ports.
    const plain = all.length === 1 && cells.every(({ port }) => equal(port, span(502))) && !this.uninspected(span(502))
    const lines: string[] = []
    for (const [index, { content, cells: own }] of all.entries()) {
      const name = plain ? 'inspection_default' : `modbus-${index + 1}`
      if (plain) lines.push('!', 'class-map inspection_default', ' match default-inspection-traffic')
      else {
        lines.push(
          '!',
          ...own
            .flatMap((cell) => this.entries({ ...cell, content: ANY_CONTENT }))
            .map((entry) => `access-list ${name} extended permit ${entry}`),
        )
        lines.push(`class-map ${name}`, ` match access-list ${name}`)
      }
      lines.push('!', ...this.inspectMap(plain ? 'MODBUS-INSPECT' : `MODBUS-${index + 1}`, content))
    }
    lines.push('!', 'policy-map global_policy')
    for (const index of all.keys()) {
      lines.push(` class ${plain ? 'inspection_default' : `modbus-${index + 1}`}`)
      lines.push(`  inspect modbus ${plain ? 'MODBUS-INSPECT' : `MODBUS-${index + 1}`}`)
    }
    return [...lines, 'service-policy global_policy global']
  }

  /** Whether any flow that nothing looks into runs on one of these ports. */
  private uninspected(ports: Spans): boolean {
    return this.crossings.some(
      ({ protocol, flow }) => protocol.kind !== 'modbus' && intersect(flow.port, ports).length > 0,
    )
  }

  /** Pairs of addresses that are held to the same functions, no pair twice. */
  private modbusCells(): Flow[] {
    let cells: Flow[] = []
    for (const { conduit, protocol, flow } of this.crossings) {
      if (protocol.kind === 'opcua' && !equal(flow.content, ANY_CONTENT)) {
        this.notes.push(
          `${conduit.id}: services of ${protocol.protocol} cannot be told apart; every one passes the firewall`,
        )
      }
      if (protocol.kind !== 'modbus') continue
      const { unit, address, value } = flow
      const narrow = [
        equal(unit, span(0, 255)) ? null : 'unit identifiers',
        equal(address, span(0, 65535)) ? null : 'addresses',
        equal(value, span(0, 65535)) ? null : 'values',
      ].filter((one) => one !== null)
      if (narrow.length > 0) {
        this.notes.push(
          `${conduit.id}: ${narrow.join(', ')} of ${protocol.protocol} cannot be told apart; every one passes the firewall`,
        )
      }
      let pending: Flow[] = [opened(flow)]
      const next: Flow[] = []
      for (const cell of cells) {
        const pair = opened(cell)
        for (const one of pending) {
          const both = meet(one, pair)
          if (both === null) continue
          next.push({ ...both, content: union(cell.content, flow.content) })
        }
        next.push(
          ...pending.reduce(
            (left: Flow[], one) => left.flatMap((part) => without(part, { ...one, content: ANY_CONTENT })),
            [cell],
          ),
        )
        pending = pending.flatMap((one) => without(one, pair))
      }
      cells = merge([...next, ...pending.map((one) => ({ ...one, content: flow.content }))])
    }
    const open = this.crossings.filter(({ protocol }) => protocol.kind !== 'modbus').map(({ flow }) => opened(flow))
    return open.length === 0 ? cells : difference(cells, open)
  }

  private inspectMap(name: string, content: Spans): string[] {
    const allowed = codesOf(content)
    for (const { code, sub } of modbusFunctions(content)) {
      if (sub === null) continue
      const what = selectorName({ code, sub })
      this.notes.push(`sub-function ${what} cannot be told apart: all of ${functionName(code)} passes the firewall`)
    }
    const everything = allowed.length === 127
    const denied = [...FUNCTION_CODES.keys()].filter((code) => !allowed.includes(code))
    return [
      `policy-map type inspect modbus ${name}`,
      ' parameters',
      ...(everything ? [] : allowed.map((code) => `  match func-code ${funcCode(code)}`)),
      ...denied.map((code) => `  match func-code ${funcCode(code)} action drop log`),
    ]
  }

  private logging(): string[] {
    const lines: string[] = []
    let trap: string | undefined
    for (const { host, transport, port, url, minSeverity } of this.policy.gateway?.syslog ?? []) {
      const zone = this.zones.find(({ id }) => meetsHost(this.sides.get(id) ?? EMPTY, host))
      if (zone === undefined || transport === 'tls') {
        this.notes.push(
          `${url}: ${transport === 'tls' ? 'TLS needs a trustpoint' : 'is in no zone'}; decide how the device logs`,
        )
        continue
      }
      trap ??= TRAP_LEVELS.find(([, severity]) => severity === minSeverity)?.[0]
      const how = transport === 'udp' && port === 514 ? '' : ` ${transport}/${port}`
      lines.push(`logging host ${this.nameif(zone)} ${host}${how}`)
    }
    return lines.length === 0 ? [] : ['!', 'logging enable', `logging trap ${trap ?? 'informational'}`, ...lines]
  }
}

/** The pair and port of a flow, whatever passes on it. */
const opened = (flow: Flow): Flow => ({
  ...flow,
  content: ANY_CONTENT,
  unit: span(0, 255),
  address: span(0, 65535),
  value: span(0, 65535),
})

function dedupe(crossings: readonly Crossing[]): Crossing[] {
  return crossings.filter(
    (one, index) =>
      crossings.findIndex(
        (other) => other.conduit === one.conduit && other.protocol === one.protocol && other.to === one.to,
      ) === index,
  )
}

/** Function codes of which any sub-function is there. */
const codesOf = (content: Spans): number[] => [
  ...new Set(modbusFunctions(intersect(content, ANY_MODBUS)).map(({ code }) => code)),
]

const funcCode = (code: number): string =>
  FUNC_CODE_NAMES.get(code) ?? (FUNCTION_CODES.has(code) ? functionName(code) : `${code}`)

const NAMES_OF_PROTOCOLS = new Map([...PROTOCOLS].reverse().map(([name, number]) => [number, name]))
const protocolName = (number: number): string => NAMES_OF_PROTOCOLS.get(number) ?? `${number}`

const maskOf = ({ bits }: AddressBlock): string =>
  formatAddress((0xffffn << 32n) | ((0xffffffffn << BigInt(128 - bits)) & 0xffffffffn))

/** `host A`, `NETWORK MASK` or `PREFIX/LENGTH`, as entries and groups have it. */
function memberOf(block: AddressBlock): string {
  const address = formatAddress(block.base)
  if (block.bits === 128) return `host ${address}`
  return isIPv4(block) ? `${address} ${maskOf(block)}` : `${address}/${block.bits}`
}

/** The first address of a network that no asset has. */
function freeAddress(network: AddressBlock, { zones }: Policy): bigint {
  const taken = new Set(zones.flatMap(({ assets }) => assets.map(({ address }) => address.base)))
  let address = network.base + 1n
  while (taken.has(address)) address += 1n
  return address
}

function meetsHost(side: Spans, host: string): boolean {
  const base = parseAddress(host)
  return base !== null && intersect(side, [[base, base]]).length > 0
}
