/**
 * What an ASA configuration lets through, as flows: access-lists by first match, the implicit rules of security levels
 * where an interface has none, and what inspection takes from Modbus.
 */
import { ANY_ADDRESS, blockSpans, difference, type Flow, flow, isEmpty, meet } from '../flows.ts'
import { EMPTY, intersect, overlaps, type Spans, subtract, union } from '../sets.ts'
import type { AsaConfig, Entry, Interface } from './config.ts'
import type { Traffic } from './words.ts'

/** A flow with the lines that it comes from. */
export interface AsaFlow {
  flow: Flow
  /** `nameif` of the interfaces that it goes in by and out by. */
  ingress: string
  egress: string
  /** Entry of the access-list; null where a security level implies it. */
  entry: Entry | null
  /** What inspection does with the functions that it does not let through; null where nothing looks into it. */
  inspected: 'drop' | 'reset' | null
}

export interface Effective {
  flows: AsaFlow[]
  /** Addresses behind each interface, by nameif. */
  networks: Map<string, Spans>
}

export function effectiveFlows(config: AsaConfig): Effective {
  const networks = networksOf(config)
  const flows: AsaFlow[] = []
  for (const ingress of config.interfaces) {
    for (const egress of config.interfaces) {
      if (ingress === egress) continue
      for (const one of crossing(config, ingress, egress)) {
        const from = intersect(one.flow.from, networks.get(ingress.nameif) ?? EMPTY)
        const to = intersect(one.flow.to, networks.get(egress.nameif) ?? EMPTY)
        const held = { ...one.flow, from, to }
        if (!isEmpty(held)) flows.push(...inspect(config, networks, { ...one, flow: held }))
      }
    }
  }
  return { flows, networks }
}

/**
 * Addresses behind each interface: what is connected, routed, or in the group `NAMEIF-networks`; the more specific wins.
 * An interface of which nothing is known has all that is behind no other. Addresses that its own access-list names and
 * nobody knows a way to are behind it: excerpts leave routes out.
 */
function networksOf(config: AsaConfig): Map<string, Spans> {
  const given = config.interfaces.map(({ nameif, networks }) => {
    const routed = config.routes.filter((route) => route.nameif === nameif).map(({ block }) => block)
    return { nameif, blocks: [...networks, ...routed], group: config.networkGroups.get(`${nameif}-networks`) ?? EMPTY }
  })
  const known = new Map<string, Spans>()
  for (const { nameif, blocks, group } of given) {
    let all = group
    for (const block of blocks) {
      const closer = given
        .filter((one) => one.nameif !== nameif)
        .flatMap((one) => one.blocks.filter(({ bits }) => bits > block.bits))
      all = union(all, subtract(blockSpans([block]), blockSpans(closer)))
    }
    known.set(nameif, all)
  }
  const everything = [...known.values()].reduce(union, EMPTY)
  const named = new Map<string, Spans>()
  for (const { where, nameif, list } of config.groups) {
    if (where !== 'in' || nameif === null) continue
    for (const { traffic } of config.lists.get(list) ?? []) {
      for (const { from } of traffic) {
        if (!overlaps(from, everything)) named.set(nameif, union(named.get(nameif) ?? EMPTY, from))
      }
    }
  }
  const sources = [...named.values()].reduce(union, EMPTY)
  const strangers = targetsNobodyKnows(config, union(everything, sources))
  const outermost = [...config.interfaces].sort((a, b) => levelOf(a) - levelOf(b))[0]
  const found = new Map<string, Spans>()
  for (const { nameif, blocks, group } of given) {
    const own = union(known.get(nameif) ?? EMPTY, named.get(nameif) ?? EMPTY)
    const blank = blocks.length === 0 && group.length === 0 && !named.has(nameif)
    // Where nobody knows the way, the least trusted side is the likeliest; with two interfaces there is no choice.
    const beyond = strangers.filter(({ lists }) => {
      const others = config.interfaces.filter((one) => !lists.includes(one.nameif))
      return others.length === 1 ? others[0].nameif === nameif : outermost?.nameif === nameif && !lists.includes(nameif)
    })
    const more = beyond.map(({ to }) => to).reduce(union, EMPTY)
    found.set(nameif, blank ? subtract(ANY_ADDRESS, union(everything, sources)) : union(own, more))
  }
  return found
}

/** Targets of access-lists that are behind no interface, with the interfaces whose lists name them. */
function targetsNobodyKnows(config: AsaConfig, known: Spans): { to: Spans; lists: string[] }[] {
  return config.groups.flatMap(({ where, nameif, list }) => {
    if (where !== 'in' || nameif === null) return []
    const targets = (config.lists.get(list) ?? []).flatMap(({ traffic }) => traffic.map(({ to }) => to))
    return targets.filter((to) => !overlaps(to, known)).map((to) => ({ to, lists: [nameif] }))
  })
}

/** ASA's default: 100 for an interface called inside, 0 for all others. */
export const levelOf = ({ nameif, level }: Interface): number => level ?? (nameif === 'inside' ? 100 : 0)

const flowOf = ({ transport, from, sourcePort, to, port }: Traffic): Flow =>
  flow({ transport, from, sourcePort, to, port })

type Crossing = Pick<AsaFlow, 'flow' | 'ingress' | 'egress' | 'entry' | 'inspected'>

/** What may go from one interface to another, before addresses are looked at. */
function crossing(config: AsaConfig, ingress: Interface, egress: Interface): Crossing[] {
  const entriesOf = (where: 'in' | 'out' | 'global', nameif: string | null): Entry[] | null => {
    const groups = config.groups.filter((one) => one.where === where && one.nameif === nameif)
    return groups.length === 0 ? null : groups.flatMap(({ list }) => config.lists.get(list) ?? [])
  }
  const own = entriesOf('in', ingress.nameif)
  const global = entriesOf('global', null)
  const ends = { ingress: ingress.nameif, egress: egress.nameif, inspected: null }
  let passing: Crossing[]
  if (own === null && global === null) {
    const [from, to] = [levelOf(ingress), levelOf(egress)]
    if (from < to || (from === to && !config.sameSecurity)) return []
    passing = [{ ...ends, entry: null, flow: flow({ from: ANY_ADDRESS, to: ANY_ADDRESS }) }]
  } else passing = firstMatch([...(own ?? []), ...(global ?? [])]).map((one) => ({ ...ends, ...one }))
  const out = entriesOf('out', egress.nameif)
  if (out === null) return passing
  const leaving = firstMatch(out)
  return passing.flatMap((one) =>
    leaving.flatMap((other) => {
      const both = meet(one.flow, other.flow)
      return both === null ? [] : [{ ...one, flow: both }]
    }),
  )
}

/** What each entry that permits lets through, less what those before it deny. */
function firstMatch(entries: readonly Entry[]): { entry: Entry; flow: Flow }[] {
  const denied: Flow[] = []
  const passing: { entry: Entry; flow: Flow }[] = []
  for (const entry of entries) {
    const flows = entry.traffic.map(flowOf).filter((one) => !isEmpty(one))
    if (entry.action === 'deny') denied.push(...flows)
    else for (const one of denied.length === 0 ? flows : difference(flows, denied)) passing.push({ entry, flow: one })
  }
  return passing
}

/** The first class that a connection is in says which functions pass. */
function inspect(config: AsaConfig, networks: Map<string, Spans>, one: AsaFlow): AsaFlow[] {
  let rest: Flow[] = [one.flow]
  const found: AsaFlow[] = []
  for (const { traffic, nameif, content, action } of config.inspections) {
    const behind = nameif === null ? null : (networks.get(nameif) ?? EMPTY)
    if (behind !== null && one.ingress !== nameif && one.egress !== nameif) continue
    const classes = traffic.map(flowOf)
    for (const part of rest) {
      for (const other of classes) {
        const both = meet(part, other)
        if (both === null) continue
        const passes = { ...both, content: intersect(both.content, content) }
        if (!isEmpty(passes)) found.push({ ...one, flow: passes, inspected: action })
      }
    }
    if (classes.length > 0) rest = difference(rest, classes)
  }
  for (const part of rest) found.push({ ...one, flow: part })
  return found
}
