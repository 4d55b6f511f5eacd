/** A YAML document with the place of every key and value in it, read from bytes that nobody has checked yet. */
import {
  type Document,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  type Range,
  visit,
} from 'yaml'
import type { Position } from './model.ts'

/** Longest document that is read, in bytes: room for thousands of rules. */
export const MAX_DOCUMENT_BYTES = 1 << 20
const MAX_PROBLEMS = 100

export type Path = readonly (string | number)[]

export interface DocumentProblem extends Position {
  id: string
  message: string
}

export class SourceDocument {
  /** The document as plain data; undefined where it could not be read at all. */
  readonly value: unknown
  /** What the YAML parser found: syntax errors, duplicate keys, unknown anchors. */
  readonly problems: DocumentProblem[] = []
  private readonly document: Document.Parsed | null = null
  private readonly lines = new LineCounter()

  /** @param bytes the file's bytes, UTF-8; YAML 1.2, of which JSON is a part */
  constructor(bytes: Uint8Array) {
    let text: string
    try {
      text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    } catch {
      this.problem({ line: 1, column: 1 }, 'not-utf-8', 'found bytes that are not UTF-8, expected UTF-8 text')
      return
    }
    try {
      // The parser's own search for duplicate keys takes quadratic time. With the level 'silent' it would not even say
      // that a second document follows, which nobody reads. Merge keys (`<<`) are YAML 1.1's; people use them.
      const options = {
        lineCounter: this.lines,
        prettyErrors: false,
        stringKeys: true,
        uniqueKeys: false,
        merge: true,
        logLevel: 'error' as const,
      }
      this.document = parseDocument(text, options)
      for (const { pos, message } of [...this.document.errors, ...this.document.warnings]) {
        this.problem(this.at(pos[0]), 'yaml', `not YAML: ${message.split('\n')[0]}`)
      }
      this.findDuplicates(this.document)
      if (this.findUnresolved(this.document)) return
      this.value = this.document.toJS({ maxAliasCount: 100 })
    } catch (error) {
      // Aliases that multiply, or nesting by indentation beyond the stack.
      const { message } = error as Error
      const why = error instanceof RangeError ? 'nested too deep' : message.split('\n')[0]
      this.problem({ line: 1, column: 1 }, 'yaml', `the document cannot be read: ${why}`)
    }
  }

  private problem(place: Position, id: string, message: string): void {
    // A file that is not YAML at all breaks on every line of it.
    if (this.problems.length < MAX_PROBLEMS) this.problems.push({ ...place, id, message })
  }

  private findDuplicates(document: Document.Parsed): void {
    visit(document, {
      Map: (_, map) => {
        const first = new Map<string, Position>()
        for (const { key } of map.items) {
          if (!isScalar(key) || !key.range || isMerge(key)) continue
          const place = this.at(key.range[0])
          const before = first.get(String(key.value))
          if (before === undefined) first.set(String(key.value), place)
          else {
            const where = `first given in line ${before.line}`
            this.problem(place, 'duplicate-key', `found key "${key.value}" twice (${where}), expected it once`)
          }
        }
      },
    })
  }

  /** Aliases whose anchor is not there: without it nothing is known of the document's data. */
  private findUnresolved(document: Document.Parsed): boolean {
    let found = false
    visit(document, {
      Alias: (_, alias) => {
        if (alias.resolve(document) !== undefined) return
        found = true
        const message = `found alias *${alias.source}, expected an anchor &${alias.source} before it`
        this.problem(this.at(alias.range?.[0] ?? 0), 'yaml', message)
      },
    })
    return found
  }

  private at(offset: number): Position {
    const { line, col } = this.lines.linePos(offset)
    return { line: Math.max(line, 1), column: Math.max(col, 1) }
  }

  /** Place of the value at `path`, or of the nearest thing around it that the document has. */
  position(path: Path): Position {
    return this.locate(path, false)
  }

  /** Place of the key that `path` ends with. */
  keyPosition(path: Path): Position {
    return this.locate(path, true)
  }

  private locate(path: Path, key: boolean): Position {
    let node: unknown = this.document?.contents
    let offset = 0
    const remember = (candidate: unknown): void => {
      const range = isNode(candidate) ? (candidate.range as Range | null | undefined) : null
      if (range) offset = range[0]
    }
    remember(node)
    for (const [depth, step] of path.entries()) {
      // Aliases share their anchor's node; the place of the alias itself is what the reader needs.
      const inner =
        isNode(node) && node.toJS !== undefined && this.document !== null ? resolve(node, this.document) : node
      if (isMap(inner)) {
        const pair = inner.items.find(
          (item) => isPair(item) && isScalar(item.key) && !isMerge(item.key) && String(item.key.value) === `${step}`,
        )
        if (pair === undefined) {
          // Merged in from elsewhere: the merge is the nearest thing.
          const merge = inner.items.find((item) => isPair(item) && isMerge(item.key))
          if (merge !== undefined) remember(merge.key)
          break
        }
        if (depth === path.length - 1 && key) {
          remember(pair.key)
          break
        }
        remember(pair.value ?? pair.key)
        if (pair.value === null) remember(pair.key)
        node = pair.value
      } else if (isSeq(inner) && typeof step === 'number' && step < inner.items.length) {
        node = inner.items[step]
        remember(node)
      } else break
    }
    return this.at(offset)
  }
}

const isMerge = (key: unknown): boolean => isScalar(key) && key.value === '<<' && key.type === 'PLAIN'

function resolve(node: unknown, document: Document.Parsed): unknown {
  const alias = node as { source?: string; resolve?: (doc: Document.Parsed) => unknown }
  return typeof alias.source === 'string' && typeof alias.resolve === 'function' ? alias.resolve(document) : node
}
