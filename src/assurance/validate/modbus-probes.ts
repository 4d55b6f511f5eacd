/**
 * Probes through a Modbus conduit: a read that a rule allows works, and each class of function that no rule allows is
 * refused.
 *
 * A probe must not change a process even where nothing stops it. Reads are sent whole. Of every other function the PDU is
 * sent so that a server has nothing to act on: without its address and data, or with a quantity of 0, which V1.1b3 has
 * every server refuse with exception 03. Headgate looks at the function first (decision 1), so the answer tells who gave
 * it: exception 01 for a function that the policy denies, exception 03 from a server that was reached.
 */
import { blockHolds } from '../../policy/address.ts'
import type { Conduit, Listener, ModbusProtocol, ModbusRule, ModbusTable } from '../../policy/model.ts'
import { PairTable } from '../../protocols/modbus/decide.ts'
import { functionClass, selectorName } from '../../protocols/modbus/function-codes.ts'
import { exceptionOf } from '../../protocols/modbus/session.ts'
import { REASON, REASONS } from '../../protocols/reason.ts'
import { type Answer, answerText, frame, type ModbusClient } from './modbus-client.ts'
import { fail, type Observed, type Probe, pass, skip } from './probe.ts'

/** A harmless PDU for each class of function: data access, then diagnostics, then what only vendors know. */
const HARMLESS: readonly (readonly number[])[] = [
  [1, 0, 0, 0, 1],
  [2, 0, 0, 0, 1],
  [3, 0, 0, 0, 1],
  [4, 0, 0, 0, 1],
  // Single writes have no quantity that could be 0: the function code alone.
  [5],
  [6],
  [7],
  // Return Query Data: an echo (§6.8.1, sub-function 0).
  [8, 0, 0, 0x48, 0x47],
  [11],
  [12],
  [15, 0, 0, 0, 0, 0],
  [16, 0, 0, 0, 0, 0],
  [17],
  [20, 0],
  [21, 0],
  [22],
  [23, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  [24],
  // CANopen general reference without its reference, and Read Device Identification, basic (§6.20, §6.21).
  [43, 13],
  [43, 14, 1, 0],
  // A user-defined code, a reserved one that programming tools use, and one that nobody was given.
  [100],
  [90],
  [77],
]

const READ_TABLES: Readonly<Record<number, ModbusTable>> = {
  1: 'coils',
  2: 'discrete-inputs',
  3: 'holding-registers',
  4: 'input-registers',
}

export interface ModbusPath {
  conduit: Conduit
  protocol: ModbusProtocol
  listener: Listener
  /** Address that the gateway sees. */
  source: bigint
  /** For a person: asset and address. */
  target: string
  client: ModbusClient
  allowWriteBack: boolean
}

/** The rules for the pair, compiled as the gateway compiles them; null: it denies the pair. */
export function tableOf(path: Pick<ModbusPath, 'protocol' | 'listener' | 'source'>): PairTable | null {
  const { rules } = path.protocol
  const indexes = [...rules.keys()].filter(
    (index) =>
      rules[index].from.some((block) => blockHolds(block, path.source)) &&
      rules[index].to.some((block) => blockHolds(block, path.listener.target.address.base)),
  )
  if (!indexes.some((index) => rules[index].action === 'allow')) return null
  return new PairTable(
    indexes.map((index) => ({ index, terms: rules[index] })),
    null,
  )
}

interface Judged {
  reason: number
  /** The rule that decided, or came nearest. */
  rule: ModbusRule | null
}

function judge(path: ModbusPath, table: PairTable, unit: number, pdu: readonly number[]): Judged {
  const bytes = frame(0, unit, pdu)
  const reason = table.decide(bytes, 6, bytes.length)
  return { reason, rule: path.protocol.rules[table.rule] ?? null }
}

const word = (value: number): [number, number] => [value >> 8, value & 255]
const nameOf = (pdu: readonly number[]): string => {
  const code = pdu[0]
  const kind = functionClass(code)
  if (kind !== 'public') return `FC ${code} ${kind}`
  const sub = code === 43 ? pdu[1] : code === 8 ? (pdu[1] << 8) | pdu[2] : null
  return `FC ${code} ${selectorName({ code, sub: sub ?? null })}`
}

export function modbusProbes(path: ModbusPath): Probe[] {
  const table = tableOf(path)
  if (table === null) return []
  const reads = allowedReads(path, table)
  const unit = reads[0]?.unit ?? unitOf(path, table)
  const probes = reads.map((read) => readProbe(path, read))
  for (const [index, pdu] of HARMLESS.entries()) {
    const judged = judge(path, table, unit, pdu)
    if (judged.reason !== REASON.function && judged.reason !== REASON.unit) continue
    probes.push(deniedProbe(path, `function:${pdu[0]}:${index}`, nameOf(pdu), unit, pdu, judged))
  }
  for (const read of reads) {
    const outside = [read.high + 1, read.low - 1].find((address) => {
      if (address < 0 || address > 65535) return false
      return judge(path, table, read.unit, [read.code, ...word(address), 0, 1]).reason === REASON.address
    })
    if (outside === undefined) continue
    const pdu = [read.code, ...word(outside), 0, 1]
    const what = `${nameOf(pdu)} at address ${outside}, outside the rule`
    probes.push(
      deniedProbe(path, `address:${read.code}:${outside}`, what, read.unit, pdu, judge(path, table, read.unit, pdu)),
    )
  }
  const [read] = reads
  if (read !== undefined) {
    const pdu = [read.code, ...word(read.low), 0, 1]
    const stranger = [...Array(256).keys()].find((one) => judge(path, table, one, pdu).reason === REASON.unit)
    if (stranger !== undefined) {
      const what = `${nameOf(pdu)} of unit ${stranger}, which no rule has`
      probes.push(deniedProbe(path, `unit:${stranger}`, what, stranger, pdu, judge(path, table, stranger, pdu)))
    }
  }
  if (path.allowWriteBack) probes.push(...writeBacks(path, table, reads))
  return unique(probes).map((probe) => ({ ...probe, shares: true }))
}

const unique = (probes: readonly Probe[]): Probe[] => [...new Map(probes.map((one) => [one.id, one])).values()]

const unitOf = (path: ModbusPath, table: PairTable): number =>
  table.matchers.map(({ index }) => path.protocol.rules[index].unitIds?.[0]?.[0] ?? 1)[0] ?? 1

// ------------------------------------------------------------------------------------------------------ allowed reads

interface Read {
  rule: ModbusRule
  code: number
  unit: number
  low: number
  high: number
}

/** One read for each rule and function that allows it, at the first address that it names. */
function allowedReads(path: ModbusPath, table: PairTable): Read[] {
  const reads: Read[] = []
  for (const { index } of table.matchers) {
    const rule = path.protocol.rules[index]
    if (rule.action !== 'allow') continue
    const unit = rule.unitIds?.[0]?.[0] ?? 1
    for (const [text, name] of Object.entries(READ_TABLES)) {
      const code = Number(text)
      if (!rule.functions.some((one) => one.code === code)) continue
      const [low, high] = rule.addresses === null ? [0, 65535] : (rule.addresses[name]?.[0] ?? [-1, -1])
      if (low < 0 || judge(path, table, unit, [code, ...word(low), 0, 1]).reason !== REASON.allow) continue
      if (!reads.some((one) => one.code === code && one.unit === unit && one.low === low)) {
        reads.push({ rule, code, unit, low, high })
      }
    }
  }
  return reads
}

const label = (path: ModbusPath, id: string): string =>
  `${path.conduit.id}:${path.listener.listen.host}:${path.listener.listen.port}:${id}`.slice(0, 200)

function readProbe(path: ModbusPath, { rule, code, unit, low }: Read): Probe {
  const pdu = [code, ...word(low), 0, 1]
  return {
    id: label(path, `read:${unit}:${code}:${low}`),
    group: 'enforcement',
    conduit: path.conduit.id,
    target: path.target,
    what: `${nameOf(pdu)} at address ${low}, unit ${unit}`,
    expected: `answered (rule "${rule.name}")`.slice(0, 500),
    run: async () => {
      const answer = await path.client.ask(unit, pdu)
      if (answer.kind === 'response') return pass(answerText(answer))
      // A rule for every address says nothing of which ones the target has; Headgate itself denies none of them.
      if (answer.kind === 'exception' && answer.code === 2 && rule.addresses === null) {
        return pass(`${answerText(answer)}: the target was reached, and has no such address`)
      }
      if (answer.kind === 'exception' && answer.code === 6) return skip(`${answerText(answer)}: over a limit`)
      return fail(answerText(answer))
    },
  }
}

// --------------------------------------------------------------------------------------------------- denied requests

function deniedProbe(
  path: ModbusPath,
  id: string,
  what: string,
  unit: number,
  pdu: readonly number[],
  judged: Judged,
): Probe {
  const { reason, rule } = judged
  const onDeny = rule?.onDeny ?? path.protocol.onDeny
  const code = exceptionOf(reason)
  const expected = {
    exception: `exception ${String(code).padStart(2, '0')} (denied: ${REASONS[reason]})`,
    drop: 'no answer',
    reset: 'connection closed',
  }[onDeny]
  const probe = {
    id: label(path, id),
    group: 'enforcement' as const,
    conduit: path.conduit.id,
    target: path.target,
    what,
    expected,
  }
  if (rule?.mode === 'monitor') {
    return { ...probe, run: async () => skip(`not sent: rule "${rule.name}" only watches, so it would pass`) }
  }
  return { ...probe, run: async () => weigh(await path.client.ask(unit, pdu), onDeny, code) }
}

function weigh(answer: Answer, onDeny: ModbusProtocol['onDeny'], code: number): Observed {
  const text = answerText(answer)
  if (answer.kind === 'response') return fail(`${text}: the request reached the target`)
  if (answer.kind === 'unconnected') return fail(text)
  if (answer.kind === 'exception') {
    if (onDeny === 'exception' && answer.code === code) return pass(text)
    if (answer.code === 6) return skip(`${text}: over a limit`)
    return fail(`${text}: given by the target, or for another reason`)
  }
  if (onDeny === 'drop' && answer.kind === 'silence') return pass(text)
  if (onDeny === 'reset' && answer.kind === 'closed') return pass(text)
  return fail(text)
}

// -------------------------------------------------------------------------------------------------------- write-backs

/** Reads one register or coil, and writes the same value to it: whole, as only `--allow-write-back` may. */
function writeBacks(path: ModbusPath, table: PairTable, reads: readonly Read[]): Probe[] {
  return reads.flatMap((read) => {
    const write = read.code === 3 ? 6 : read.code === 1 ? 5 : 0
    if (write === 0) return []
    const judged = judge(path, table, read.unit, [write, ...word(read.low), 0, 0])
    // A limit of values may allow one value and not another: the present one is not known yet.
    if (judged.reason === REASON.value) return []
    const back = (value: number): number[] => [write, ...word(read.low), ...word(value)]
    const allowed = judged.reason === REASON.allow
    const what = `${nameOf([write])} at address ${read.low}, the value just read`
    const denied = deniedProbe(path, `write-back:${write}:${read.low}`, what, read.unit, back(0), judged)
    return [
      {
        ...denied,
        expected: allowed ? `answered (rule "${judged.rule?.name}")`.slice(0, 500) : denied.expected,
        run: async () => {
          if (!allowed && judged.rule?.mode === 'monitor') return denied.run()
          const before = await path.client.ask(read.unit, [read.code, ...word(read.low), 0, 1])
          if (before.kind !== 'response') return skip(`not written, as it could not be read: ${answerText(before)}`)
          const value = presentValue(before.pdu, write)
          if (value === null) return skip('not written, as the answer to the read was malformed')
          const answer = await path.client.ask(read.unit, back(value))
          if (!allowed) return weigh(answer, judged.rule?.onDeny ?? path.protocol.onDeny, exceptionOf(judged.reason))
          return answer.kind === 'response' ? pass(answerText(answer)) : fail(answerText(answer))
        },
      },
    ]
  })
}

/** The register's value, or FF00 and 0000 for a coil (§6.1, §6.3, §6.5). */
function presentValue(pdu: Buffer, write: number): number | null {
  if (write === 6) return pdu.length === 4 && pdu[1] === 2 ? pdu.readUInt16BE(2) : null
  return pdu.length === 3 && pdu[1] === 1 ? (pdu[2] & 1) * 0xff00 : null
}
