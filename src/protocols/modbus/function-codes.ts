/**
 * Names of the Modbus Application Protocol V1.1b3: function codes (§5, §6), sub-functions of function code 8 (§6.8.1),
 * MEI types of function code 43 (§6.19), the groups a policy may name, and exception codes (§7).
 */

/** One function code, optionally narrowed to a sub-function of FC 8 or an MEI type of FC 43. */
export interface FunctionSelector {
  /** Function code, 1…127. */
  code: number
  /** Sub-function of FC 8 (0…65535) or MEI type of FC 43 (0…255); null selects all. */
  sub: number | null
}

/** What V1.1b3 §5 and annex A say of a function code. */
export type FunctionClass = 'public' | 'user-defined' | 'reserved' | 'unassigned'

export interface FunctionCode {
  code: number
  name: string
  /** Section of V1.1b3 that defines it, e.g. `6.3`. */
  section: string
  /** Groups that hold it whole; FC 43 is in `read` with MEI type 14 alone, so it names none. */
  groups: readonly FunctionGroup[]
  class: 'public'
  /** Other names in use: older specifications, Snort, Zeek, Wireshark, Cisco. Input only. */
  aliases: readonly string[]
}

export type FunctionGroup = 'read' | 'write' | 'diagnostics' | 'program' | 'all'

export const DIAGNOSTICS = 8
export const ENCAPSULATED_INTERFACE = 43
export const MEI_CANOPEN_GENERAL_REFERENCE = 13
export const MEI_READ_DEVICE_IDENTIFICATION = 14

const row = (code: number, section: string, group: 'read' | 'write' | null, name: string, ...aliases: string[]) => {
  const groups: FunctionGroup[] = group === null ? ['all'] : [group, 'all']
  return { code, name, section, groups, class: 'public', aliases } as FunctionCode
}

/** Every public function code of V1.1b3 §6, by code. */
export const FUNCTION_CODES: ReadonlyMap<number, FunctionCode> = new Map(
  [
    row(1, '6.1', 'read', 'read-coils', 'read-coil-status'),
    row(2, '6.2', 'read', 'read-discrete-inputs', 'read-input-status', 'read-discretes'),
    row(3, '6.3', 'read', 'read-holding-registers', 'read-multiple-registers'),
    row(4, '6.4', 'read', 'read-input-registers'),
    row(5, '6.5', 'write', 'write-single-coil', 'write-coil', 'force-single-coil'),
    row(6, '6.6', 'write', 'write-single-register', 'write-register', 'preset-single-register'),
    row(7, '6.7', 'read', 'read-exception-status'),
    { ...row(8, '6.8', null, 'diagnostics', 'diagnostic'), groups: ['diagnostics', 'all'] } as FunctionCode,
    row(11, '6.9', 'read', 'get-comm-event-counter', 'fetch-comm-event-counter', 'fetch-communication-event-counter'),
    row(12, '6.10', 'read', 'get-comm-event-log', 'fetch-comm-event-log', 'fetch-communication-event-log'),
    row(15, '6.11', 'write', 'write-multiple-coils', 'write-coils', 'force-multiple-coils'),
    row(16, '6.12', 'write', 'write-multiple-registers', 'write-registers', 'preset-multiple-registers'),
    row(17, '6.13', 'read', 'report-server-id', 'report-slave-id'),
    row(20, '6.14', 'read', 'read-file-record', 'read-general-reference'),
    row(21, '6.15', 'write', 'write-file-record', 'write-general-reference'),
    row(22, '6.16', 'write', 'mask-write-register', 'mask-write-4x-register'),
    row(
      23,
      '6.17',
      'write',
      'read-write-multiple-registers',
      'read/write-multiple-registers',
      'read-write-registers',
      'read-write-4x-registers',
    ),
    row(24, '6.18', 'read', 'read-fifo-queue'),
    row(
      43,
      '6.19',
      null,
      'encapsulated-interface',
      'encapsulated-interface-transport',
      'encap-interface-transport',
      'mei',
    ),
  ].map((entry) => [entry.code, entry]),
)

/** Sub-functions of function code 8 (V1.1b3 §6.8.1); those absent are reserved. */
const DIAGNOSTIC_NAMES: ReadonlyMap<number, string> = new Map([
  [0, 'return-query-data'],
  [1, 'restart-communications-option'],
  [2, 'return-diagnostic-register'],
  [3, 'change-ascii-input-delimiter'],
  [4, 'force-listen-only-mode'],
  [10, 'clear-counters-and-diagnostic-register'],
  [11, 'return-bus-message-count'],
  [12, 'return-bus-communication-error-count'],
  [13, 'return-bus-exception-error-count'],
  [14, 'return-server-message-count'],
  [15, 'return-server-no-response-count'],
  [16, 'return-server-nak-count'],
  [17, 'return-server-busy-count'],
  [18, 'return-bus-character-overrun-count'],
  [20, 'clear-overrun-counter-and-flag'],
])

/** MEI types of function code 43 (V1.1b3 §6.20, §6.21). */
const MEI_NAMES: ReadonlyMap<number, string> = new Map([
  [MEI_CANOPEN_GENERAL_REFERENCE, 'canopen-general-reference'],
  [MEI_READ_DEVICE_IDENTIFICATION, 'read-device-identification'],
])

/** Older names of sub-functions: server was slave, flags were two words. Input only. */
const SUB_ALIASES: ReadonlyMap<string, string> = new Map([
  ['restart-communication-option', 'restart-communications-option'],
  ['restart-comm-option', 'restart-communications-option'],
  ['return-slave-message-count', 'return-server-message-count'],
  ['return-slave-no-response-count', 'return-server-no-response-count'],
  ['return-slave-nak-count', 'return-server-nak-count'],
  ['return-slave-busy-count', 'return-server-busy-count'],
  ['clear-overrun-counter', 'clear-overrun-counter-and-flag'],
  ['canopen', 'canopen-general-reference'],
  ['read-device-id', 'read-device-identification'],
])

const whole = (code: number): FunctionSelector => ({ code, sub: null })

/** The groups a policy may name; close to the presets of industrial firewalls. */
export const FUNCTION_GROUPS: Readonly<Record<FunctionGroup, readonly FunctionSelector[]>> = {
  read: [
    ...[1, 2, 3, 4, 7, 11, 12, 17, 20, 24].map(whole),
    { code: ENCAPSULATED_INTERFACE, sub: MEI_READ_DEVICE_IDENTIFICATION },
  ],
  write: [5, 6, 15, 16, 21, 22, 23].map(whole),
  diagnostics: [whole(DIAGNOSTICS)],
  /** What programming tools of several makers use: outside the specification, and able to change a controller. */
  program: [40, 42, 90, 125, 126].map(whole),
  all: Array.from({ length: 127 }, (_, index) => whole(index + 1)),
}

/** Reserved for legacy products: V1.1b3 annex A. */
const RESERVED = new Set([9, 10, 13, 14, 41, 42, 90, 91, 125, 126, 127])

const CODE_BY_NAME = new Map<string, number>()
for (const { code, name, aliases } of FUNCTION_CODES.values()) {
  for (const text of [name, ...aliases]) CODE_BY_NAME.set(text, code)
}

const SUB_BY_NAME: Readonly<Record<number, ReadonlyMap<string, number>>> = {
  [DIAGNOSTICS]: new Map([...DIAGNOSTIC_NAMES].map(([sub, name]) => [name, sub])),
  [ENCAPSULATED_INTERFACE]: new Map([...MEI_NAMES].map(([sub, name]) => [name, sub])),
}

/** @returns the name of a function code, 0…255; `function-90` where the specification has none */
export function functionName(code: number): string {
  return FUNCTION_CODES.get(code)?.name ?? `function-${code}`
}

/** @returns what V1.1b3 §5 and annex A make of a function code, 0…255 */
export function functionClass(code: number): FunctionClass {
  if (FUNCTION_CODES.has(code)) return 'public'
  if (RESERVED.has(code)) return 'reserved'
  return (code >= 65 && code <= 72) || (code >= 100 && code <= 110) ? 'user-defined' : 'unassigned'
}

/** @returns whether a function code changes the process or its program: the groups `write` and `program` */
export function isWrite(code: number): boolean {
  return [...FUNCTION_GROUPS.write, ...FUNCTION_GROUPS.program].some((selector) => selector.code === code)
}

/**
 * @param code function code; only 8 and 43 have sub-functions
 * @param sub sub-function of FC 8 or MEI type of FC 43
 * @returns its name; `sub-function-19` or `mei-type-15` where the specification has none
 */
export function subFunctionName(code: number, sub: number): string {
  if (code === ENCAPSULATED_INTERFACE) return MEI_NAMES.get(sub) ?? `mei-type-${sub}`
  return (code === DIAGNOSTICS ? DIAGNOSTIC_NAMES.get(sub) : undefined) ?? `sub-function-${sub}`
}

/** @returns a selector as an operator would write it: `diagnostics/return-query-data` */
export function selectorName(selector: FunctionSelector): string {
  const name = functionName(selector.code)
  return selector.sub === null ? name : `${name}/${subFunctionName(selector.code, selector.sub)}`
}

/** Every name that `parseFunction` takes, aliases left out: functions, groups, sub-functions; for "did you mean". */
export function functionNames(): string[] {
  const names = [...FUNCTION_CODES.values()].map(({ name }) => name)
  const subs = [DIAGNOSTICS, ENCAPSULATED_INTERFACE].flatMap((code) =>
    [...SUB_BY_NAME[code].keys()].map((sub) => `${functionName(code)}/${sub}`),
  )
  return [...new Set([...names, ...Object.keys(FUNCTION_GROUPS), ...subs])]
}

/**
 * Reads one entry of a policy's `functions`.
 * @param text a function code 1…127 as number or text (`3`, `"0x03"`, `FC3`), a name or alias (case, spaces and
 *   underscores do not matter), a group, or function/sub-function for FC 8 and FC 43 (`diagnostics/0`, `43/14`)
 * @returns what it selects; null where it names nothing
 */
export function parseFunction(text: string | number): FunctionSelector[] | null {
  if (typeof text === 'number') return inRange(text, 1, 127) ? [whole(text)] : null
  const word = normal(text)
  if (Object.hasOwn(FUNCTION_GROUPS, word)) return FUNCTION_GROUPS[word as FunctionGroup].map((one) => ({ ...one }))
  const code = parseCode(word)
  if (code !== null) return [whole(code)]
  const slash = word.indexOf('/')
  if (slash < 0) return parseLoneSub(word)
  const parent = parseCode(word.slice(0, slash).trim())
  if (parent !== DIAGNOSTICS && parent !== ENCAPSULATED_INTERFACE) return null
  const sub = parseSub(parent, word.slice(slash + 1))
  return sub === null ? null : [{ code: parent, sub }]
}

/** `Read_Holding Registers ` → `read-holding-registers`. */
function normal(text: string): string {
  return text
    .trim()
    .toLowerCase()
    .replaceAll(/\s*\/\s*/g, '/')
    .replaceAll(/[\s_]+/g, '-')
}

function parseCode(word: string): number | null {
  const named = CODE_BY_NAME.get(word)
  if (named !== undefined) return named
  const number = parseNumber(word.replace(/^(?:function-|fc-?)/, ''))
  return number !== null && inRange(number, 1, 127) ? number : null
}

function parseSub(code: number, word: string): number | null {
  const named = SUB_BY_NAME[code].get(SUB_ALIASES.get(word) ?? word)
  if (named !== undefined) return named
  const number = parseNumber(word.replace(code === DIAGNOSTICS ? /^sub-function-/ : /^(?:mei-type-|mei-)/, ''))
  return number !== null && inRange(number, 0, code === DIAGNOSTICS ? 0xffff : 0xff) ? number : null
}

/** A sub-function's name says by itself which function it belongs to. */
function parseLoneSub(word: string): FunctionSelector[] | null {
  for (const code of [DIAGNOSTICS, ENCAPSULATED_INTERFACE]) {
    const sub = SUB_BY_NAME[code].get(SUB_ALIASES.get(word) ?? word)
    if (sub !== undefined) return [{ code, sub }]
  }
  return null
}

function parseNumber(word: string): number | null {
  return /^(?:\d{1,5}|0x[0-9a-f]{1,4})$/.test(word) ? Number(word) : null
}

function inRange(value: number, low: number, high: number): boolean {
  return Number.isInteger(value) && value >= low && value <= high
}

export {
  EXCEPTION,
  EXCEPTIONS,
  type ExceptionCode,
  exceptionName,
  isStandardException,
} from './exception-codes.ts'
