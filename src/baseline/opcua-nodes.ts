/**
 * Nodes as a baseline and the evidence name them, as rules write them: each alone, and numeric ones in a row as a range.
 * Nothing is made wider: no glob, and no range with a node in it that was not seen.
 */
import type { MethodPattern, NodePattern } from '../policy/model.ts'
import { parseMethod, parseNodePattern } from '../policy/opcua-notations.ts'
import { isComplaint } from '../policy/values.ts'
import { Cursor, NodeRef, Writer } from '../protocols/opcua/binary.ts'
import { Namespaces } from '../protocols/opcua/namespaces.ts'
import { guidBytes, NodeSet, type NodeTerms } from '../protocols/opcua/node-id.ts'
import { joinRanges, rangeText } from './ranges.ts'

/** What stands before the identifier of a NodeId whose identifier is text. */
const STRING_ID = /^(?:ns=\d+;|nsu=[^;]+;)?s=/

/** A NodeId as a pattern of it alone; null: it cannot be: it was cut off, is not UTF-8, or is of another server. */
export function patternOf(text: string): string | null {
  if (text.includes('…') || text.includes('\uFFFD')) return null
  const at = STRING_ID.exec(text)?.[0].length
  const pattern = at === undefined ? text : text.slice(0, at) + text.slice(at).replaceAll(/[\\*?]/g, '\\$&')
  return isComplaint(parseNodePattern(pattern)) ? null : pattern
}

/** `OBJECT/METHOD`; null: it cannot be written so that it is read as this. */
export function methodText([object, method]: [string, string]): string | null {
  const [on, of] = [patternOf(object), patternOf(method)]
  const parsed = parseMethod(`${on}/${of}`)
  if (isComplaint(parsed) || parsed.length !== 1) return null
  return parsed[0].object?.text === on && parsed[0].method.text === of ? `${on}/${of}` : null
}

/** As few patterns as are exactly these nodes, in order. @param texts nodes for which `patternOf` is not null */
export function nodePatterns(texts: readonly string[]): string[] {
  const numeric = new Map<string, [number, number][]>()
  const others: string[] = []
  for (const text of new Set(texts)) {
    const [, prefix, id] = /^((?:nsu?=[^;]+;)?i=)(\d+)$/.exec(text) ?? []
    if (prefix === undefined) others.push(patternOf(text) as string)
    else numeric.set(prefix, [...(numeric.get(prefix) ?? []), [Number(id), Number(id)]])
  }
  const ranges = [...numeric].sort((a, b) => (a[0] < b[0] ? -1 : 1))
  return [
    ...ranges.flatMap(([prefix, ids]) => joinRanges(ids).map((range) => `${prefix}${rangeText(range)}`)),
    ...others.sort(),
  ]
}

const NONE_KNOWN = new Namespaces()
const sets = new WeakMap<readonly NodeTerms[], NodeSet>()
const cursor = new Cursor()
const ref = new NodeRef()

function setOf(patterns: readonly NodeTerms[]): NodeSet {
  let set = sets.get(patterns)
  if (set === undefined) {
    set = new NodeSet(patterns)
    sets.set(patterns, set)
  }
  return set
}

/**
 * Whether patterns have a node, by the very set that judges inline. The namespaces of a server are not known: a URI and an
 * index do not match.
 * @param unsure whether they may have it: what a deny rule asks
 */
export function hasNode(patterns: readonly NodePattern[], text: string, unsure = false): boolean {
  const bytes = encode(text)
  if (bytes === null) return unsure
  cursor.open(bytes, 0, bytes.length)
  cursor.expandedNodeId(ref)
  const set = setOf(patterns)
  return unsure ? set.mayHave(bytes, ref, NONE_KNOWN) : set.has(bytes, ref, NONE_KNOWN)
}

const byMethod = new WeakMap<MethodPattern, { object: NodePattern[] | null; method: NodePattern[] }>()

export function hasMethod(patterns: readonly MethodPattern[], object: string, method: string, unsure = false): boolean {
  return patterns.some((pattern) => {
    const lists = byMethod.get(pattern) ?? {
      object: pattern.object === null ? null : [pattern.object],
      method: [pattern.method],
    }
    byMethod.set(pattern, lists)
    return hasNode(lists.method, method, unsure) && (lists.object === null || hasNode(lists.object, object, unsure))
  })
}

/** The NodeId of a text as an ExpandedNodeId (OPC 10000-6 §5.2.2.10); null: it is none, or not all of it. */
function encode(text: string): Uint8Array | null {
  const parsed = parseNodePattern(patternOf(text) ?? '')
  if (isComplaint(parsed)) return null
  const { namespace, id } = parsed
  const byUri = typeof namespace === 'string'
  const writer = new Writer(64)
  const head = (encoding: number): Writer => writer.u8(encoding | (byUri ? 0x80 : 0)).u16(byUri ? 0 : namespace)
  if (id.type === 'numeric') head(2).u32(id.range[0])
  else if (id.type === 'string') head(3).string(text.replace(STRING_ID, ''))
  else if (id.type === 'guid') head(4).raw(guidBytes(id.guid))
  else head(5).byteString(Buffer.from(id.base64, 'base64'))
  if (byUri) writer.string(namespace)
  return writer.written()
}
