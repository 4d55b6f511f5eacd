/**
 * Sets of nodes as rules write them, matched on encoded NodeIds (OPC 10000-6 §5.2.2.9) by offset. A numeric NodeId has
 * three encodings and is the same node in each; text is compared byte by byte, as UTF-8.
 */
import { ID_TYPE, type NodeRef, textAt } from './binary.ts'
import { type Namespaces, UNKNOWN_NAMESPACE } from './namespaces.ts'

/** A node or some nodes; the checked policy's pattern has this shape. */
export interface NodeTerms {
  /** Namespace index, or namespace URI. */
  readonly namespace: number | string
  readonly id:
    | { readonly type: 'numeric'; readonly range: readonly [number, number] }
    | { readonly type: 'string'; readonly glob: string }
    | { readonly type: 'guid'; readonly guid: string }
    | { readonly type: 'opaque'; readonly base64: string }
}

/** Tokens of a compiled glob; those below 256 are bytes. */
const ONE = 256
const MANY = 257

/**
 * A glob as tokens: `*` is any run, `?` one character, and a backslash takes the next `*`, `?` or backslash as it
 * stands. Any other backslash is itself.
 */
export function compileGlob(glob: string): Uint16Array {
  const tokens: number[] = []
  const bytes = new TextEncoder().encode(glob)
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]
    if (byte === 0x5c && (bytes[i + 1] === 0x2a || bytes[i + 1] === 0x3f || bytes[i + 1] === 0x5c)) {
      tokens.push(bytes[++i])
    } else if (byte === 0x2a) {
      if (tokens.at(-1) !== MANY) tokens.push(MANY)
    } else {
      tokens.push(byte === 0x3f ? ONE : byte)
    }
  }
  return Uint16Array.from(tokens)
}

/**
 * Whether a glob matches all of [from, to), which is UTF-8. Only the last run is ever widened: at most length × tokens
 * steps, and no stack.
 */
export function matchGlob(tokens: Uint16Array, buf: Uint8Array, from: number, to: number): boolean {
  let at = from
  let token = 0
  let runToken = -1
  let runAt = 0
  while (at < to) {
    const want = token < tokens.length ? tokens[token] : -1
    if (want === MANY) {
      token++
      if (token === tokens.length) return true
      runToken = token
      runAt = at
    } else if (want === buf[at]) {
      token++
      at++
    } else if (want === ONE && (buf[at] & 0xc0) !== 0x80) {
      token++
      at++
      while (at < to && (buf[at] & 0xc0) === 0x80) at++
    } else if (runToken !== -1) {
      token = runToken
      at = ++runAt
    } else {
      return false
    }
  }
  while (token < tokens.length && tokens[token] === MANY) token++
  return token === tokens.length
}

/** FNV-1a, as a 32-bit integer. */
export function hashBytes(buf: Uint8Array, from: number, to: number): number {
  let hash = 0x811c9dc5
  for (let i = from; i < to; i++) hash = Math.imul(hash ^ buf[i], 0x01000193)
  return hash | 0
}

export function sameBytes(a: Uint8Array, buf: Uint8Array, from: number, to: number): boolean {
  if (a.length !== to - from) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== buf[from + i]) return false
  return true
}

/** Identifiers that are byte for byte known, by their hashes. */
class ByteSet {
  private readonly byHash = new Map<number, Uint8Array[]>()

  add(bytes: Uint8Array): void {
    const hash = hashBytes(bytes, 0, bytes.length)
    const same = this.byHash.get(hash)
    if (same === undefined) this.byHash.set(hash, [bytes])
    else same.push(bytes)
  }

  has(buf: Uint8Array, from: number, to: number): boolean {
    const same = this.byHash.get(hashBytes(buf, from, to))
    if (same === undefined) return false
    for (let i = 0; i < same.length; i++) if (sameBytes(same[i], buf, from, to)) return true
    return false
  }
}

/** The patterns of one namespace. */
class Group {
  readonly namespace: number | string
  /** Ranges of numeric identifiers, ascending and apart from each other. */
  private low = new Float64Array(0)
  private high = new Float64Array(0)
  private strings: ByteSet | null = null
  private readonly globs: Uint16Array[] = []
  private guids: ByteSet | null = null
  private opaques: ByteSet | null = null

  constructor(namespace: number | string, patterns: readonly NodeTerms[]) {
    this.namespace = namespace
    const ranges: [number, number][] = []
    for (const { id } of patterns) {
      if (id.type === 'numeric') {
        ranges.push([id.range[0], id.range[1]])
      } else if (id.type === 'guid') {
        this.guids ??= new ByteSet()
        this.guids.add(guidBytes(id.guid))
      } else if (id.type === 'opaque') {
        this.opaques ??= new ByteSet()
        this.opaques.add(Uint8Array.from(Buffer.from(id.base64, 'base64')))
      } else {
        const tokens = compileGlob(id.glob)
        if (tokens.some((token) => token > 255)) {
          this.globs.push(tokens)
        } else {
          this.strings ??= new ByteSet()
          this.strings.add(Uint8Array.from(tokens))
        }
      }
    }
    ranges.sort((a, b) => a[0] - b[0])
    const joined: [number, number][] = []
    for (const [low, high] of ranges) {
      const last = joined.at(-1)
      if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high)
      else joined.push([low, high])
    }
    this.low = Float64Array.from(joined, ([low]) => low)
    this.high = Float64Array.from(joined, ([, high]) => high)
  }

  hasIdentifier(buf: Uint8Array, ref: NodeRef): boolean {
    switch (ref.type) {
      case ID_TYPE.numeric:
        return this.hasNumber(ref.id)
      case ID_TYPE.string:
        if (this.strings?.has(buf, ref.from, ref.to)) return true
        for (let i = 0; i < this.globs.length; i++) {
          if (matchGlob(this.globs[i], buf, ref.from, ref.to)) return true
        }
        return false
      case ID_TYPE.guid:
        return this.guids?.has(buf, ref.from, ref.to) ?? false
      default:
        return this.opaques?.has(buf, ref.from, ref.to) ?? false
    }
  }

  private hasNumber(id: number): boolean {
    const { low, high } = this
    let first = 0
    let last = low.length
    while (first < last) {
      const middle = (first + last) >>> 1
      if (id < low[middle]) last = middle
      else if (id > high[middle]) first = middle + 1
      else return true
    }
    return false
  }
}

export class NodeSet {
  private readonly groups: readonly Group[]

  constructor(patterns: readonly NodeTerms[]) {
    const byNamespace = Map.groupBy(patterns, ({ namespace }) => namespace)
    this.groups = [...byNamespace].map(([namespace, terms]) => new Group(namespace, terms))
  }

  /** Whether the node is for certain one of the set: what an allow rule asks. Allocates nothing but for a URI. */
  has(buf: Uint8Array, ref: NodeRef, namespaces: Namespaces): boolean {
    if (ref.server !== 0) return false
    return this.matches(buf, ref, namespaces, false)
  }

  /**
   * Whether the node may be one of the set: what a deny rule asks. While the server's namespace array is not known, a
   * namespace URI may be any index.
   */
  mayHave(buf: Uint8Array, ref: NodeRef, namespaces: Namespaces): boolean {
    return this.matches(buf, ref, namespaces, true)
  }

  private matches(buf: Uint8Array, ref: NodeRef, namespaces: Namespaces, unsure: boolean): boolean {
    const uri = ref.uriFrom === -1 ? null : textAt(buf, ref.uriFrom, ref.uriTo)
    const index = uri === null ? ref.namespace : namespaces.indexOf(uri)
    for (let i = 0; i < this.groups.length; i++) {
      const group = this.groups[i]
      const { namespace } = group
      const resolved = typeof namespace === 'number' ? namespace : namespaces.indexOf(namespace)
      const same =
        (resolved >= 0 && resolved === index) ||
        (uri !== null && uri === namespace) ||
        (unsure && (resolved === UNKNOWN_NAMESPACE || index === UNKNOWN_NAMESPACE))
      if (same && group.hasIdentifier(buf, ref)) return true
    }
    return false
  }
}

/** §5.2.2.6: the first three parts are little-endian numbers, the last eight bytes stand as they are written. */
const GUID_ORDER = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15] as const

/** @param text as `g=` has it; lower case or upper */
export function guidBytes(text: string): Uint8Array {
  const bytes = Buffer.from(text.replaceAll('-', ''), 'hex')
  return Uint8Array.from(GUID_ORDER, (from) => bytes[from])
}

function guidText(buf: Uint8Array, from: number): string {
  const digits = GUID_ORDER.map((at) => buf[from + at].toString(16).padStart(2, '0')).join('')
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}

/** Characters of an identifier or URI that an event shows. */
const SHOWN = 256

const cut = (text: string): string => (text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text)

/** A NodeId as text (OPC 10000-6 §5.3.1.10), bounded; namespace 0 is left out. Off the hot path. */
export function nodeText(buf: Uint8Array, ref: NodeRef): string {
  const server = ref.server === 0 ? '' : `svr=${ref.server};`
  // §5.3.1.11: % and ; of a URI are escaped.
  const uri = ref.uriFrom === -1 ? null : cut(textAt(buf, ref.uriFrom, ref.uriTo))
  const escaped = uri?.replaceAll('%', '%25').replaceAll(';', '%3B')
  const namespace = escaped !== undefined ? `nsu=${escaped};` : ref.namespace === 0 ? '' : `ns=${ref.namespace};`
  return `${server}${namespace}${identifierText(buf, ref)}`
}

function identifierText(buf: Uint8Array, ref: NodeRef): string {
  switch (ref.type) {
    case ID_TYPE.numeric:
      return `i=${ref.id}`
    case ID_TYPE.string:
      return `s=${cut(textAt(buf, ref.from, Math.min(ref.to, ref.from + 4 * SHOWN)))}`
    case ID_TYPE.guid:
      return ref.to - ref.from === 16 ? `g=${guidText(buf, ref.from)}` : 'g='
    default: {
      const to = Math.min(ref.to, ref.from + 192)
      const base64 = Buffer.from(buf.subarray(ref.from, to)).toString('base64')
      return `b=${base64}${to < ref.to ? '…' : ''}`
    }
  }
}
