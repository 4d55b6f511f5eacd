/**
 * A policy as an nftables ruleset for the gateway's own host, or for a Linux firewall between the zones: what no conduit
 * allows is dropped, what Headgate inspects is led to its listeners, and all else that a conduit allows passes by address
 * and port.
 */
import { formatAddress, parseAddress } from '../policy/address.ts'
import type { AddressBlock, Conduit, Listener, Policy } from '../policy/model.ts'
import type { Rendered } from './asa/render.ts'
import { type Crossing, crossingsOf } from './crossing.ts'
import {
  ANY_CONTENT,
  ANY_PORT,
  ANY_TRANSPORT,
  ANY4,
  ANY6,
  blockSpans,
  type Flow,
  ICMP,
  ICMP6,
  merge,
  spansToBlocks,
  TCP,
  UDP,
} from './flows.ts'
import { EMPTY, equal, intersect, type Spans, union, within } from './sets.ts'
import { namesFor } from './zone-names.ts'

/** Packets whose drop is told in the kernel's log: so many a second, and so many at once. */
const LOG = 'limit rate 10/second burst 50 packets'
const LOOPBACK = blockSpans([
  { base: (0xffffn << 32n) | 0x7f000000n, bits: 104, text: '127.0.0.0/8' },
  { base: 1n, bits: 128, text: '::1' },
])

export function renderNftables(policy: Policy): Rendered {
  return new Writer(policy).write()
}

type Family = 'ip' | 'ip6'
const FAMILIES: readonly (readonly [Family, Spans])[] = [
  ['ip', ANY4],
  ['ip6', ANY6],
]

class Writer {
  private readonly policy: Policy
  private readonly notes: string[] = []
  private readonly crossings: Crossing[]
  private readonly sides: Map<string, Spans>
  /** Names of the sets of zones, by family and text of their elements. */
  private readonly sets = new Map<string, { name: string; family: Family; elements: string[] }>()

  constructor(policy: Policy) {
    this.policy = policy
    const { crossings, sides, notes } = crossingsOf(policy)
    this.crossings = crossings
    this.sides = sides
    // What the pieces of a set are is of no concern to a filter of addresses and ports.
    this.notes.push(...notes.filter((note) => !note.includes('left out')))
    const names = namesFor(policy.zones, 'zone-', 24)
    for (const { id } of policy.zones) {
      for (const [family, all] of FAMILIES) {
        const elements = elementsOf(intersect(sides.get(id) ?? EMPTY, all))
        const name = `${names.get(id)?.replaceAll('-', '_')}_${family === 'ip' ? 4 : 6}`
        if (elements.length > 0) this.sets.set(`${family} ${elements.join()}`, { name, family, elements })
      }
      if ((sides.get(id) ?? EMPTY).length === 0)
        this.notes.push(`${id}: has no addresses, so that nothing of it passes`)
    }
  }

  write(): Rendered {
    const listeners = this.policy.gateway?.listeners ?? []
    const redirects = listeners.flatMap((listener) => this.redirect(listener))
    const input = listeners.flatMap((listener) => this.input(listener))
    const forward = this.forward()
    const lines = [
      '#!/usr/sbin/nft -f',
      `# Made by headgate render nftables from ${plain(this.policy.file)}, SHA-256 ${this.policy.sha256}`,
      '# Loading it again replaces the table in one step; connections that stand, stand.',
      '',
      'table inet headgate',
      'delete table inet headgate',
      '',
      'table inet headgate {',
      ...[...this.sets.values()].flatMap(({ name, family, elements }) => [
        `\tset ${name} {`,
        `\t\ttype ${family === 'ip' ? 'ipv4_addr' : 'ipv6_addr'}`,
        '\t\tflags interval',
        `\t\telements = { ${elements.join(', ')} }`,
        '\t}',
        '',
      ]),
      '\tchain forged {',
      '\t\ttype filter hook prerouting priority raw; policy accept;',
      '\t\t# An address that is not behind the interface that it comes in by: Modbus knows no other identity.',
      '\t\tfib daddr type != { broadcast, multicast } fib saddr . iif oif missing counter drop comment "forged source"',
      '\t}',
      '',
      '\tchain to_listeners {',
      '\t\ttype nat hook prerouting priority dstnat; policy accept;',
      ...redirects,
      '\t}',
      '',
      '\tchain input {',
      '\t\ttype filter hook input priority filter; policy accept;',
      ...input,
      '\t}',
      '',
      '\tchain forward {',
      '\t\ttype filter hook forward priority filter; policy drop;',
      '\t\tct state established,related counter accept',
      '\t\tct state invalid counter drop',
      ...forward,
      '\t\tjump refuse',
      '\t}',
      '',
      '\tchain refuse {',
      `\t\t${LOG} log prefix "headgate-deny " level warn`,
      '\t\tcounter drop comment "denied between zones"',
      '\t}',
      '}',
      '',
    ]
    return { text: lines.join('\n'), notes: [...new Set(this.notes)] }
  }

  /** Clients that a listener's conduit may have: its zones, and whoever its rules name. */
  private clients(listener: Listener, conduit: Conduit): Spans {
    const protocol = conduit.protocols.find(({ kind }) => kind === listener.protocol)
    const rules = protocol === undefined || protocol.kind === 'other' ? [] : protocol.rules
    const named = blockSpans(rules.flatMap(({ from }): AddressBlock[] => from))
    return conduit.connects.map((id) => this.sides.get(id) ?? EMPTY).reduce(union, named)
  }

  /** Connections to the target's own address go to the listener: for Headgate to judge, those of strangers in the zones too. */
  private redirect(listener: Listener): string[] {
    const conduit = this.policy.conduits.find(({ id }) => id === listener.conduit) as Conduit
    const { target, listen } = listener
    const host = parseAddress(listen.host) ?? 0n
    const [family, all] = FAMILIES.find(([, set]) => within(blockSpans([target.address]), set)) ?? FAMILIES[0]
    const what = `${conduit.id}: ${target.name}`
    if (!within([[host, host]], all)) {
      this.notes.push(
        `${what}: the listener is of another family of addresses than the target; its clients have to dial the listener`,
      )
      return []
    }
    if (within([[host, host]], LOOPBACK)) {
      this.notes.push(`${what}: the listener ${listen.host} is a loopback address; only this machine reaches it`)
    }
    if (isUnspecified(listen.host)) {
      this.notes.push(`${what}: a listener on every address cannot be redirected to; give it one`)
      return []
    }
    const clients = this.match(family, 'saddr', intersect(this.clients(listener, conduit), all))
    if (clients === null) return []
    const to = family === 'ip' ? `${listen.host}:${listen.port}` : `[${formatAddress(host)}]:${listen.port}`
    const comment = commentOf(`${what} by the listener`)
    return [
      `\t\t${clients}${family} daddr ${formatAddress(target.address.base)} tcp dport ${target.port} counter dnat ${family} to ${to} ${comment}`,
    ]
  }

  /** Who may reach a listener; of everything else on this host the ruleset says nothing. */
  private input(listener: Listener): string[] {
    const conduit = this.policy.conduits.find(({ id }) => id === listener.conduit) as Conduit
    const { listen } = listener
    const host = parseAddress(listen.host) ?? 0n
    const clients = this.clients(listener, conduit)
    const lines: string[] = []
    for (const [family, all] of FAMILIES) {
      const any = isUnspecified(listen.host)
      if (!any && !within([[host, host]], all)) continue
      const where = `${any ? `meta nfproto ${family === 'ip' ? 'ipv4' : 'ipv6'} ` : `${family} daddr ${formatAddress(host)} `}tcp dport ${listen.port}`
      const from = this.match(family, 'saddr', intersect(clients, all))
      if (from !== null)
        lines.push(`\t\t${from}${where} counter accept ${commentOf(`${conduit.id}: ${listener.target.name}`)}`)
      lines.push(`\t\tiif != "lo" ${where} jump refuse`)
    }
    return lines
  }

  private forward(): string[] {
    const lines: string[] = []
    const open = this.crossings.filter((one) => this.passesUninspected(one))
    for (const { conduit, protocol, from, to } of unique(open)) {
      const own = open.filter(
        (one) => one.conduit === conduit && one.protocol === protocol && one.from === from && one.to === to,
      )
      const comment = commentOf(`${conduit.id}: ${protocol.protocol}, ${from.id} to ${to.id}`)
      for (const flow of merge(own.map((one) => one.flow))) lines.push(...this.accept(flow, comment))
    }
    return lines
  }

  /** What nothing looks into; what Headgate does has a listener, or no way. */
  private passesUninspected({ conduit, protocol, flow }: Crossing): boolean {
    if (protocol.kind === 'other') return true
    const listeners = (this.policy.gateway?.listeners ?? []).filter(
      (one) => one.conduit === conduit.id && one.protocol === protocol.kind,
    )
    const reached = blockSpans(listeners.map(({ target }) => target.address))
    const where = `${conduit.id}, ${protocol.protocol}`
    if (listeners.length === 0 && equal(flow.content, ANY_CONTENT)) return true
    if (listeners.length === 0)
      this.notes.push(`${where}: no listener carries it, so that nothing of it passes; add one to the gateway`)
    else if (!within(flow.to, reached)) {
      this.notes.push(
        `${where}: targets without a listener are not reached; those with one are ${spansToBlocks(reached)
          .map(({ text }) => text)
          .join(', ')}`,
      )
    }
    return false
  }

  private accept(flow: Flow, comment: string): string[] {
    return FAMILIES.flatMap(([family, all]) => {
      const from = this.match(family, 'saddr', intersect(flow.from, all))
      const to = this.match(family, 'daddr', intersect(flow.to, all))
      const transport = transportOf(flow, family)
      if (from === null || to === null || transport === null) return []
      const any = from === '' && to === '' ? `meta nfproto ${family === 'ip' ? 'ipv4' : 'ipv6'} ` : ''
      return [`\t\t${any}${from}${to}${transport}ct state new counter accept ${comment}`]
    })
  }

  /** `ip saddr @zone_ops_4 `, empty for any address, null for none. */
  private match(family: Family, side: 'saddr' | 'daddr', set: Spans): string | null {
    if (set.length === 0) return null
    const all = family === 'ip' ? ANY4 : ANY6
    if (equal(set, all)) return ''
    const elements = elementsOf(set)
    const known = this.sets.get(`${family} ${elements.join()}`)
    if (known !== undefined) return `${family} ${side} @${known.name} `
    return `${family} ${side} ${elements.length === 1 ? elements[0] : `{ ${elements.join(', ')} }`} `
  }
}

const elementsOf = (set: Spans): string[] => spansToBlocks(set).map(({ text }) => text)

const isUnspecified = (host: string): boolean => {
  const base = parseAddress(host)
  return base === 0n || base === 0xffffn << 32n
}

function unique(crossings: readonly Crossing[]): Crossing[] {
  const same = (a: Crossing, b: Crossing): boolean =>
    a.conduit === b.conduit && a.protocol === b.protocol && a.from === b.from && a.to === b.to
  return crossings.filter((one, index) => crossings.findIndex((other) => same(one, other)) === index)
}

/** `tcp dport { 80, 443 } `; null where the family has none of it. */
function transportOf({ transport, port }: Flow, family: Family): string | null {
  const icmp = family === 'ip' ? ICMP : ICMP6
  if (equal(transport, ANY_TRANSPORT)) return ''
  const ports = port.map(([low, high]) => (low === high ? `${low}` : `${low}-${high}`))
  const dport = equal(port, ANY_PORT) ? '' : `th dport ${ports.length === 1 ? ports[0] : `{ ${ports.join(', ')} }`} `
  if (equal(transport, TCP)) return dport === '' ? 'meta l4proto tcp ' : dport.replace('th', 'tcp')
  if (equal(transport, UDP)) return dport === '' ? 'meta l4proto udp ' : dport.replace('th', 'udp')
  if (within(transport, union(ICMP, ICMP6))) {
    if (!within(icmp, transport)) return null
    return family === 'ip' ? 'meta l4proto icmp ' : 'meta l4proto ipv6-icmp '
  }
  return `meta l4proto { ${transport.map(([low, high]) => (low === high ? `${low}` : `${low}-${high}`)).join(', ')} } ${dport}`
}

const plain = (text: string): string => text.replaceAll(/[^\x20-\x7e]/g, '?')
/** The kernel keeps 128 bytes of it. */
const commentOf = (text: string): string => `comment "${plain(text).replaceAll(/["\\]/g, "'").slice(0, 120)}"`
