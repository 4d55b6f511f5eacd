/**
 * Policies for tests, from the keys of the document's own rules: what `loadPolicy` would make of them, without a file.
 */
import { parseBlock } from '../../src/policy/address.ts'
import type {
  AddressBlock,
  Limits,
  ModbusRule,
  ModbusTable,
  Mode,
  OnDeny,
  Policy,
  Quirk,
  Range,
  Timeouts,
  ValueLimit,
} from '../../src/policy/model.ts'
import { parseFunction } from '../../src/protocols/modbus/function-codes.ts'

/** A rule with the document's keys. Ranges are `7` or `'0-9'`; functions are codes, names or groups. */
export interface RuleText {
  name?: string
  action?: 'allow' | 'deny'
  from?: string[]
  to?: string[]
  unit_ids?: (number | string)[]
  functions: (number | string)[]
  addresses?: Partial<Record<ModbusTable, (number | string)[]>>
  values?: Partial<Record<ModbusTable, Record<string, { min?: number; max?: number; max_step?: number }>>>
  on_deny?: OnDeny
  mode?: 'monitor'
  tolerate?: Quirk[]
}

export interface ConduitText {
  id: string
  mode?: Mode
  rules: RuleText[]
  on_deny?: OnDeny
  limits?: Partial<Limits>
  timeouts?: Partial<Timeouts>
  listen: { host: string; port: number }
  target: { host: string; port: number }
}

export interface GatewayText {
  io?: 'epoll' | 'net'
  workers?: number
  metrics?: { host: string; port: number }
  drainMs?: number
  stormMs?: number
  baseline?: { directory: string }
}

const ANY = ['0.0.0.0/0', '::/0']
const position = { line: 1, column: 1 }

function block(text: string): AddressBlock {
  const parsed = parseBlock(text)
  if (typeof parsed === 'string' || 'hostBits' in parsed) throw new Error(`not a block of addresses: ${text}`)
  return parsed
}

function range(text: number | string): Range {
  const [low, high = low] = `${text}`.split('-').map(Number)
  return [low, high]
}

function valueLimits(limits: Record<string, { min?: number; max?: number; max_step?: number }>): ValueLimit[] {
  return Object.entries(limits).map(([key, { min = null, max = null, max_step = null }]) => ({
    range: range(key),
    min,
    max,
    maxStep: max_step,
  }))
}

function mapTables<T, U>(tables: Partial<Record<ModbusTable, T>> | undefined, make: (value: T) => U) {
  if (tables === undefined) return null
  return Object.fromEntries(Object.entries(tables).map(([table, value]) => [table, make(value as T)]))
}

function ruleOf(text: RuleText, index: number): ModbusRule {
  return {
    name: text.name ?? `rule ${index + 1}`,
    action: text.action ?? 'allow',
    from: (text.from ?? ANY).map(block),
    to: (text.to ?? ANY).map(block),
    unitIds: text.unit_ids?.map(range) ?? null,
    functions: text.functions.flatMap((name) => {
      const selectors = parseFunction(`${name}`)
      if (!Array.isArray(selectors)) throw new Error(`not a function: ${name}`)
      return selectors
    }),
    addresses: mapTables(text.addresses, (ranges) => ranges.map(range)),
    values: mapTables(text.values, valueLimits),
    onDeny: text.on_deny ?? null,
    mode: text.mode ?? null,
    tolerate: text.tolerate ?? [],
    fromProse: false,
    position,
  }
}

const NO_LIMITS: Limits = {
  connectionsPerClient: null,
  connectionsPerTarget: null,
  newConnectionsPerSecond: null,
  requestsPerClientPerSecond: null,
  requestsPerTargetPerSecond: null,
  burst: 1,
  inFlightPerTarget: null,
  onLimit: 'deny',
  paceQueue: 16,
  paceMs: 1000,
}

const TIMEOUTS: Timeouts = { connectMs: 3000, idleMs: 60_000, partialFrameMs: 5000, responseMs: 3000 }

/** A checked policy with a conduit and a listener for each of `conduits`. */
export function modbusPolicy(conduits: ConduitText[], gateway: GatewayText = {}): Policy {
  return {
    file: 'test.yaml',
    sha256: '0'.repeat(64),
    facility: null,
    suppressions: [],
    assessmentDate: null,
    standard: null,
    zones: [],
    conduits: conduits.map(({ id, mode = 'enforce', rules, on_deny = 'exception', limits, timeouts, target }) => ({
      id,
      name: id,
      connects: ['Z1', 'Z2'],
      securityLevel: null,
      mode,
      monitorUntil: null,
      protocols: [
        {
          kind: 'modbus',
          protocol: 'Modbus/TCP',
          port: target.port,
          direction: null,
          rules: rules.map(ruleOf),
          limits: { ...NO_LIMITS, ...limits },
          onDeny: on_deny,
          timeouts: { ...TIMEOUTS, ...timeouts },
          position,
        },
      ],
      controls: [],
      position,
    })),
    gateway: {
      name: 'test',
      workers: gateway.workers ?? 1,
      io: gateway.io ?? 'auto',
      listeners: conduits.map(({ id, listen, target }) => ({
        conduit: id,
        protocol: 'modbus',
        listen,
        target: { name: target.host, ...target, address: block(target.host) },
        position,
      })),
      syslog: [],
      spool: null,
      evidence: null,
      baseline: gateway.baseline ?? null,
      stormMs: gateway.stormMs ?? 60_000,
      metrics: gateway.metrics ?? null,
      control: null,
      shadow: null,
      log: { level: 'debug' },
      drainMs: gateway.drainMs ?? 1000,
    },
  }
}
