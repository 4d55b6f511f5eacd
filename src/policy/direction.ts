/**
 * The prose of `direction`: who may open connections to whom, and what the initiator may do there.
 *
 *     direction  = zone arrow zone [ "(" claim *( ( "," / ";" / "and" ) claim ) ")" ]
 *     arrow      = "->" / "→" / "<->" / "↔"
 *     claim      = functions / access / prose
 *     functions  = ( "FC" / "function code" [ "s" ] ) code *( ( "/" / "," / "-" / "and" / "or" ) code ) [ "only" ]
 *     access     = "read only" / "reads only" / "no writes" / "read/write" / "write only" / "diagnostics only" / …
 *
 * Any other claim ("unidirectional via data diode") is for people: kept as prose, never taken for a rule.
 */
import { FUNCTION_GROUPS, type FunctionSelector } from '../protocols/modbus/function-codes.ts'
import { plainDashes } from './values.ts'

export interface Direction {
  /** Zones as written: an id or its prefix. */
  initiator: string
  responder: string
  /** `<->`: either side opens connections. */
  both: boolean
  /** What the claims allow; null where none of them speaks of functions. */
  functions: FunctionSelector[] | null
  /** Claims that are not machine-readable. */
  prose: string[]
  /** Every claim of the parenthesis, in order, with what it allows; `functions` is null for prose. */
  claims: { text: string; functions: FunctionSelector[] | null }[]
}

const ARROW = /^\s*([^()<>→↔]+?)\s*(<->|->|→|↔)\s*([^()<>→↔]+?)\s*(?:\((.*)\))?\s*$/s
const CODES =
  /\b(?:FCs?|function[\s-]+codes?)\s*((?:\d{1,3})(?:\s*(?:[/,&-]|and|or)\s*(?:FC\s*)?\d{1,3})*)(?:\s+only)?(?=\s*(?:[,;]|and\b|$))/gi

const ACCESS: ReadonlyMap<string, readonly FunctionSelector[]> = new Map(
  Object.entries({
    'read only': FUNCTION_GROUPS.read,
    'reads only': FUNCTION_GROUPS.read,
    'only reads': FUNCTION_GROUPS.read,
    'only read': FUNCTION_GROUPS.read,
    read: FUNCTION_GROUPS.read,
    'read access': FUNCTION_GROUPS.read,
    'no write': [...FUNCTION_GROUPS.read, ...FUNCTION_GROUPS.diagnostics],
    'no writes': [...FUNCTION_GROUPS.read, ...FUNCTION_GROUPS.diagnostics],
    'write only': FUNCTION_GROUPS.write,
    'writes only': FUNCTION_GROUPS.write,
    'read/write': [...FUNCTION_GROUPS.read, ...FUNCTION_GROUPS.write],
    'read write': [...FUNCTION_GROUPS.read, ...FUNCTION_GROUPS.write],
    'diagnostics only': FUNCTION_GROUPS.diagnostics,
  }),
)

/** @returns what the prose says; null where it is no direction at all */
export function parseDirection(text: string): Direction | null {
  const match = ARROW.exec(plainDashes(text))
  if (match === null) return null
  const [, initiator, arrow, responder, claims = ''] = match
  let functions: FunctionSelector[] | null = null
  const prose: string[] = []
  const all: Direction['claims'] = []
  const restrict = (text: string, to: readonly FunctionSelector[]): void => {
    functions = functions === null ? [...to] : intersect(functions, to)
    all.push({ text, functions: [...to] })
  }
  const rest = claims.replaceAll(CODES, (whole, codes: string) => {
    restrict(whole.trim(), parseCodes(codes))
    return ''
  })
  for (const part of rest.split(/[,;]|\band\b/i)) {
    const claim = part.trim().replaceAll(/\s+/g, ' ')
    if (claim === '') continue
    const access = ACCESS.get(
      claim
        .toLowerCase()
        .replaceAll('-', ' ')
        .replace(/\s*\/\s*/, '/'),
    )
    if (access !== undefined) restrict(claim, access)
    else {
      prose.push(claim)
      all.push({ text: claim, functions: null })
    }
  }
  all.sort((a, b) => claims.indexOf(a.text) - claims.indexOf(b.text))
  return { initiator, responder, both: arrow === '<->' || arrow === '↔', functions, prose, claims: all }
}

/** `3/4`, `1-4`, `3, 4 and 16`. */
function parseCodes(text: string): FunctionSelector[] {
  const codes = new Set<number>()
  for (const [, first, last] of text.matchAll(/(\d{1,3})(?:\s*-\s*(\d{1,3}))?/g)) {
    for (let code = Number(first); code <= Math.min(Number(last ?? first), 127); code++) if (code > 0) codes.add(code)
  }
  return [...codes].map((code) => ({ code, sub: null }))
}

/** What both sets of selectors allow. */
export function intersect(a: readonly FunctionSelector[], b: readonly FunctionSelector[]): FunctionSelector[] {
  const both: FunctionSelector[] = []
  for (const one of a) {
    for (const other of b) {
      if (one.code !== other.code) continue
      if (one.sub === null) both.push(other)
      else if (other.sub === null || other.sub === one.sub) both.push(one)
    }
  }
  return both
}

/** Whether every request that `selector` names is among those that `set` allows. */
export const covers = (set: readonly FunctionSelector[], selector: FunctionSelector): boolean =>
  set.some((one) => one.code === selector.code && (one.sub === null || one.sub === selector.sub))
