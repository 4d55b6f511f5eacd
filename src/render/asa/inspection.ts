/** Where an ASA configuration looks into Modbus, and which functions it lets through there. */
import { ANY_ADDRESS, ANY_MODBUS, ANY_PORT, TCP } from '../flows.ts'
import { EMPTY, type Spans, span, subtract, union } from '../sets.ts'
import type { Entry, Inspection } from './config.ts'
import type { Statement } from './statements.ts'
import { actionsOf, Cursor, functionsOf, operator, type Traffic, Unread } from './words.ts'

interface ModbusMap {
  content: Spans
  action: 'drop' | 'reset'
  line: number
}

/** How lines without an equivalent are listed. */
export interface Listing {
  note(place: { line: number; text: string }, why: string): void
  /** Runs `read`; where the line cannot be read, it is listed. */
  try(statement: Statement, read: () => void): void
  /** A statement, and all beneath it. */
  unknown(statement: Statement, why: string): void
}

export class Inspections {
  private readonly listing: Listing
  private readonly lists: ReadonlyMap<string, readonly Entry[]>
  private readonly maps = new Map<string, ModbusMap>()
  private readonly modbusClasses = new Map<string, Statement>()
  private readonly classes = new Map<string, Statement>()
  private readonly policies = new Map<string, Statement>()
  private readonly applied: { name: string; nameif: string | null; line: number }[] = []
  private readonly found: Inspection[] = []

  constructor(listing: Listing, lists: ReadonlyMap<string, readonly Entry[]>) {
    this.listing = listing
    this.lists = lists
  }

  /** Takes up what a statement defines. */
  collect(statement: Statement): void {
    const [verb, kind, inspect, protocol] = statement.words
    if (verb === 'policy-map' && kind !== 'type') this.policies.set(kind ?? '', statement)
    if (verb !== 'class-map') return
    if (kind !== 'type') this.classes.set(statement.words.at(-1) ?? '', statement)
    else if (inspect === 'inspect' && protocol === 'modbus') {
      this.modbusClasses.set(statement.words.at(-1) ?? '', statement)
    }
  }

  classMap(statement: Statement): void {
    const { words } = statement
    if (words[1] === 'type' && !(words[2] === 'inspect' && words[3] === 'modbus')) {
      this.listing.unknown(statement, 'a class for an inspection that Headgate has no word for')
    }
  }

  /** `policy-map type inspect modbus NAME`. */
  inspectMap(statement: Statement): void {
    const [, , type, protocol, name] = statement.words
    if (type !== 'inspect' || protocol !== 'modbus' || name === undefined) {
      this.listing.unknown(statement, 'an inspection that Headgate has no word for')
      return
    }
    const lists = { allowed: EMPTY, denied: EMPTY, action: 'drop' as 'drop' | 'reset' }
    this.modbusMatches(statement.children, lists, null)
    // Where functions are listed without an action, the list is what passes; else all passes but what is dropped.
    const base = lists.allowed.length > 0 ? lists.allowed : ANY_MODBUS
    this.maps.set(name, { content: subtract(base, lists.denied), action: lists.action, line: statement.line })
  }

  private modbusMatches(
    children: readonly Statement[],
    lists: { allowed: Spans; denied: Spans; action: 'drop' | 'reset' },
    above: string[] | null,
  ): void {
    for (const child of children) {
      const [verb, second] = child.words
      if (verb === 'parameters') this.modbusMatches(child.children, lists, null)
      else if (verb === 'description') continue
      else if (verb === 'class') {
        const inner = this.modbusClasses.get(second ?? '')
        if (inner === undefined) this.listing.note(child, `no class-map type inspect modbus is called ${second}`)
        else this.modbusMatches(inner.children, lists, actionsOf(child.children))
      } else if (verb === 'match') {
        this.listing.try(child, () => {
          const { content, actions } = functionsOf(child.words.slice(1))
          const all = [...actions, ...actionsOf(child.children), ...(above ?? [])]
          const drop = all.some((word) => /^(?:drop|drop-connection|reset|deny|block)$/.test(word))
          if (all.includes('reset')) lists.action = 'reset'
          if (drop) lists.denied = union(lists.denied, content)
          else lists.allowed = union(lists.allowed, content)
        })
      } else this.listing.note(child, 'not known in an inspection of Modbus')
    }
  }

  policyMap(statement: Statement): void {
    for (const child of statement.children) {
      if (child.words[0] !== 'class') {
        if (child.words[0] !== 'description') this.listing.note(child, 'not known in a policy-map')
        continue
      }
      for (const action of child.children) {
        if (action.words[0] === 'inspect' && action.words[1] === 'modbus') continue
        const why =
          action.words[0] === 'inspect'
            ? `Headgate has no inspection of ${action.words[1]}`
            : 'not known in a policy-map'
        this.listing.note(action, why)
      }
    }
  }

  servicePolicy(statement: Statement): void {
    const [, name, where, nameif] = statement.words
    if (where === 'global') this.applied.push({ name, nameif: null, line: statement.line })
    else if (where === 'interface' && nameif !== undefined) this.applied.push({ name, nameif, line: statement.line })
    else this.listing.note(statement, 'expected `global` or `interface NAME`')
  }

  /** In the order of the device: policies of interfaces before the global one, classes as they stand. */
  applyPolicies(): Inspection[] {
    // Devices come with `service-policy global_policy global`, and excerpts leave it out.
    const applied = [...this.applied]
    if (this.policies.has('global_policy') && !applied.some(({ nameif }) => nameif === null)) {
      applied.push({ name: 'global_policy', nameif: null, line: 0 })
    }
    applied.sort((a, b) => Number(a.nameif === null) - Number(b.nameif === null))
    const used = new Set<string>()
    for (const { name, nameif, line } of applied) {
      const policy = this.policies.get(name)
      if (policy === undefined) {
        this.listing.note({ line, text: `service-policy ${name}` }, `no policy-map is called ${name}`)
        continue
      }
      used.add(name)
      for (const child of policy.children) this.inspection(child, nameif)
    }
    for (const [name, statement] of this.policies) {
      const inspects = statement.children.some(({ children }) => children.some(({ words }) => words[1] === 'modbus'))
      if (inspects && !used.has(name))
        this.listing.note(statement, 'no service-policy applies it: Modbus is not looked into by it')
    }
    return this.found
  }

  private inspection(statement: Statement, nameif: string | null): void {
    const action = statement.children.find(({ words }) => words[0] === 'inspect' && words[1] === 'modbus')
    if (statement.words[0] !== 'class' || action === undefined) return
    const name = action.words[2]
    const map = name === undefined ? { content: ANY_MODBUS, action: 'drop' as const } : this.maps.get(name)
    if (map === undefined) {
      this.listing.note(action, `no policy-map type inspect modbus is called ${name}`)
      return
    }
    this.listing.try(statement, () => {
      const traffic = this.classTraffic(statement.words[1] ?? '')
      this.found.push({ traffic, nameif, content: map.content, action: map.action, line: action.line })
    })
  }

  /** What a class-map of layer 3 and 4 matches. */
  private classTraffic(name: string): Traffic[] {
    const tcp = (port: Spans): Traffic => ({
      transport: TCP,
      from: ANY_ADDRESS,
      sourcePort: ANY_PORT,
      to: ANY_ADDRESS,
      port,
    })
    if (name === 'class-default') return [tcp(ANY_PORT)]
    const statement = this.classes.get(name)
    if (statement === undefined) {
      if (name === 'inspection_default') return [tcp(span(502))]
      throw new Unread(`no class-map is called ${name}`)
    }
    return statement.children.flatMap((child): Traffic[] => {
      const [verb, what, second] = child.words
      if (verb !== 'match') return []
      if (what === 'any') return [tcp(ANY_PORT)]
      if (what === 'default-inspection-traffic') return [tcp(span(502))]
      if (what === 'port') {
        const port = operator(new Cursor(child.words.slice(3)))
        if (port === null || second !== 'tcp') throw new Unread(`"${child.text}": Modbus runs on ports of tcp`)
        return [tcp(port)]
      }
      if (what !== 'access-list') throw new Unread(`"${child.text}" is not known in a class`)
      const entries = this.lists.get(second ?? '')
      if (entries === undefined) throw new Unread(`no access-list is called ${second}`)
      if (entries.some(({ action }) => action === 'deny')) {
        throw new Unread(`access-list ${second} of a class has denials: which traffic is looked into cannot be told`)
      }
      return entries.flatMap(({ traffic }) => traffic)
    })
  }
}
