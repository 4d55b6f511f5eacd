/**
 * Function codes of the MODBUS Application Protocol Specification V1.1b3 §5.1 and §6, their names and groups, the
 * sub-functions of FC 8 (§6.8.1), the MEI types of FC 43 (§6.19) and the exception codes (§7).
 */

/** A function code, optionally narrowed to one sub-function (FC 8) or MEI type (FC 43). */
export interface Selector {
  code: number
  sub: number | null
}

/** Public function codes. The first name is the one Headgate writes; the others are read as well. */
const NAMES: readonly (readonly [code: number, ...names: string[]])[] = [
  [1, 'read-coils'],
  [2, 'read-discrete-inputs'],
  [3, 'read-holding-registers'],
  [4, 'read-input-registers'],
  [5, 'write-single-coil', 'force-single-coil'],
  [6, 'write-single-register', 'preset-single-register'],
  [7, 'read-exception-status'],
  [8, 'diagnostics'],
  [11, 'get-comm-event-counter'],
  [12, 'get-comm-event-log'],
  [15, 'write-multiple-coils', 'force-multiple-coils'],
  [16, 'write-multiple-registers', 'preset-multiple-registers'],
  [17, 'report-server-id', 'report-slave-id'],
  [20, 'read-file-record'],
  [21, 'write-file-record'],
  [22, 'mask-write-register'],
  [23, 'read-write-multiple-registers'],
  [24, 'read-fifo-queue'],
  [43, 'encapsulated-interface', 'encapsulated-interface-transport'],
]

/** §6.8.1. Sub-functions 5-9, 19 and from 21 on are reserved. */
const DIAGNOSTICS: readonly (readonly [number, string])[] = [
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
]

const MEI_TYPES: readonly (readonly [number, string])[] = [
  [13, 'canopen-general-reference'],
  [14, 'read-device-identification'],
]

const all = Array.from({ length: 127 }, (_, i) => i + 1)
const whole = (...codes: number[]): Selector[] => codes.map((code) => ({ code, sub: null }))

/** Close to the presets of industrial DPI firewalls. */
const GROUPS: Readonly<Record<string, Selector[]>> = {
  read: [...whole(1, 2, 3, 4, 7, 11, 12, 17, 20, 24), { code: 43, sub: 14 }],
  write: whole(5, 6, 15, 16, 21, 22, 23),
  diagnostics: whole(8),
  program: whole(40, 42, 90, 125, 126),
  all: whole(...all),
}

const codeByName = new Map<string, number>()
for (const [code, ...names] of NAMES) for (const name of names) codeByName.set(name, code)
const nameByCode = new Map(NAMES.map(([code, name]) => [code, name]))
const subsOf = new Map([
  [8, DIAGNOSTICS],
  [43, MEI_TYPES],
])

/** The specification's name of a function code in kebab case; `function-90` where it has none. */
export function functionName(code: number): string {
  return nameByCode.get(code) ?? `function-${code}`
}

/** Name of a sub-function (FC 8) or MEI type (FC 43); its number as text where it has none. */
export function subFunctionName(code: number, sub: number): string {
  return subsOf.get(code)?.find(([number]) => number === sub)?.[1] ?? `${sub}`
}

/** Whether V1.1b3 §5 describes the function code. */
export const isPublic = (code: number): boolean => nameByCode.has(code)

/** Function codes that change the process or its program: the groups `write` and `program`. */
export const isWrite = (code: number): boolean =>
  GROUPS.write.some((s) => s.code === code) || GROUPS.program.some((s) => s.code === code)

/** Every word that `parseFunction` takes, for "did you mean". */
export function functionNames(): string[] {
  const subs = [...subsOf].flatMap(([code, list]) => list.map(([, name]) => `${functionName(code)}/${name}`))
  return [...codeByName.keys(), ...Object.keys(GROUPS), ...subs]
}

/**
 * Reads a function as an operator writes it: a number (`3`, `"0x03"`), a name, a group (`read`), or a sub-function or
 * MEI type behind a slash (`diagnostics/return-query-data`, `8/0`, `43/14`).
 * @returns what it selects, or null where it is none of these
 */
export function parseFunction(text: string | number): Selector[] | null {
  const word = String(text).trim().toLowerCase().replaceAll('_', '-')
  const group = GROUPS[word]
  if (group !== undefined && Object.hasOwn(GROUPS, word)) return group.map((s) => ({ ...s }))
  const slash = word.indexOf('/')
  const code = codeOf(slash === -1 ? word : word.slice(0, slash))
  if (code === null) return null
  if (slash === -1) return [{ code, sub: null }]
  const sub = subOf(code, word.slice(slash + 1))
  return sub === null ? null : [{ code, sub }]
}

function codeOf(word: string): number | null {
  const code = codeByName.get(word) ?? integer(word)
  return code !== null && code >= 1 && code <= 127 ? code : null
}

function subOf(code: number, word: string): number | null {
  const list = subsOf.get(code)
  if (list === undefined) return null
  const sub = list.find(([, name]) => name === word)?.[0] ?? integer(word)
  const most = code === 8 ? 0xffff : 0xff
  return sub !== null && sub <= most ? sub : null
}

const integer = (word: string): number | null => (/^(0x[0-9a-f]{1,4}|\d{1,5})$/.test(word) ? Number(word) : null)

/** Exception codes (V1.1b3 §7) with the specification's meaning in short. */
export const EXCEPTIONS: ReadonlyMap<number, { name: string; meaning: string }> = new Map([
  [1, { name: 'illegal-function', meaning: 'The function code received is not an allowable action for the server.' }],
  [
    2,
    { name: 'illegal-data-address', meaning: 'The data address received is not an allowable address for the server.' },
  ],
  [
    3,
    {
      name: 'illegal-data-value',
      meaning: 'A value in the query data field is not an allowable value for the server.',
    },
  ],
  [4, { name: 'server-device-failure', meaning: 'An unrecoverable error occurred while the server was acting.' }],
  [5, { name: 'acknowledge', meaning: 'The server has accepted the request; processing it takes a long time.' }],
  [6, { name: 'server-device-busy', meaning: 'The server is processing a long-duration command; try again later.' }],
  [8, { name: 'memory-parity-error', meaning: 'The extended file area failed to pass a consistency check.' }],
  [10, { name: 'gateway-path-unavailable', meaning: 'The gateway could not reach the target.' }],
  [11, { name: 'gateway-target-failed-to-respond', meaning: 'No response was obtained from the target device.' }],
])

export const isStandardException = (code: number): boolean =>
  (code >= 1 && code <= 6) || code === 8 || code === 10 || code === 11
