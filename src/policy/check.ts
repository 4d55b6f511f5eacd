/** Gathers the findings of one document, each with its place; turns what the schema complains of into sentences. */
import type { z } from 'zod'
import type { Path, SourceDocument } from './document.ts'
import { didYouMean, show } from './findings.ts'
import type { Finding, Position, Severity } from './model.ts'

/** More than a person reads; a document that is wrong everywhere is not worth a gigabyte of sentences. */
const MAX_FINDINGS = 1000

type Issue = z.core.$ZodIssue

export class Check {
  readonly findings: Finding[] = []
  readonly file: string
  readonly source: SourceDocument
  private readonly unsound = new Set<string>()

  constructor(file: string, source: SourceDocument) {
    this.file = file
    this.source = source
    for (const { line, column, id, message } of source.problems) this.add('error', { line, column }, id, message)
  }

  error(path: Path, id: string, message: string): void {
    this.add('error', this.source.position(path), id, message)
  }

  warn(path: Path, id: string, message: string): void {
    this.add('warning', this.source.position(path), id, message)
  }

  /** An error where `fatal`, else a warning. */
  report(fatal: boolean, path: Path, id: string, message: string): void {
    this.add(fatal ? 'error' : 'warning', this.source.position(path), id, message)
  }

  errorAtKey(path: Path, id: string, message: string): void {
    this.add('error', this.source.keyPosition(path), id, message)
  }

  errorAt(place: Position, id: string, message: string): void {
    this.add('error', place, id, message)
  }

  private add(severity: Severity, place: Position, id: string, message: string): void {
    if (this.findings.length < MAX_FINDINGS) this.findings.push({ severity, file: this.file, ...place, id, message })
  }

  get failed(): boolean {
    return this.findings.some((finding) => finding.severity === 'error')
  }

  /** Holds `value`, which stands at `path`, to a schema; every departure becomes a finding. */
  structure(schema: z.ZodType, value: unknown, path: Path = []): void {
    const result = schema.safeParse(value)
    for (const issue of result.error?.issues ?? []) this.issue(issue, schema, value, path)
  }

  /** Whether what stands at `path` has the form that the schema promises; unknown keys beside do not count. */
  sound(path: Path): boolean {
    return !this.unsound.has(path.join('\n'))
  }

  /** `value`, which stands at `path`, without those of its keys that are not sound. */
  soundPart<T extends object>(value: T, path: Path): T {
    const entries = Object.entries(value).filter(([key]) => this.sound([...path, key]))
    return Object.fromEntries(entries) as T
  }

  private issue(issue: Issue, schema: z.ZodType, value: unknown, base: Path): void {
    if (this.findings.length >= MAX_FINDINGS) return
    const inner = issue.path as (string | number)[]
    const path = [...base, ...inner]
    if (issue.code === 'unrecognized_keys') {
      const known = knownKeys(schema, inner)
      for (const key of issue.keys.slice(0, MAX_FINDINGS - this.findings.length)) {
        const message = `found unknown key ${show(key)}, expected one of: ${known.join(', ')}`
        this.errorAtKey([...path, key], 'unknown-key', `${message}${didYouMean(key, known)}`)
      }
      return
    }
    // What is wrong inside makes everything around it unfit to be relied on.
    for (let length = 0; length <= path.length; length++) this.unsound.add(path.slice(0, length).join('\n'))
    const found = reach(value, inner)
    if (issue.code === 'invalid_union') {
      const nested = issue.errors.find(
        (branch) => !branch.some((one) => one.path.length === 0 && one.code === 'invalid_type'),
      )
      if (nested !== undefined) {
        const target = unionOption(schema, inner)
        for (const one of nested) this.issue(one as Issue, target, found, path)
        return
      }
    }
    if (found === undefined && inner.length > 0) {
      const key = inner[inner.length - 1]
      const expected = issue.code === 'custom' || issue.code === 'invalid_type' ? ` (${expectation(issue)})` : ''
      this.error(path.slice(0, -1), 'missing-key', `expected key ${show(String(key))}${expected}, found none`)
      return
    }
    const hint =
      issue.code === 'invalid_value' && typeof found === 'string' ? didYouMean(found, issue.values.map(String)) : ''
    this.error(path, 'bad-value', `found ${show(found)}, expected ${expectation(issue)}${hint}`)
  }
}

function expectation(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return TYPE_NAMES[issue.expected] ?? issue.expected
    case 'invalid_value':
      return issue.values.length === 1
        ? show(issue.values[0])
        : `one of ${issue.values.map((value) => show(value)).join(', ')}`
    case 'too_small':
      return `at least ${issue.minimum}${COUNTED[issue.origin] ?? ''}`
    case 'too_big':
      return `at most ${issue.maximum}${COUNTED[issue.origin] ?? ''}`
    case 'invalid_union': {
      const each = issue.errors.map((branch) => (branch[0] === undefined ? '' : expectation(branch[0] as Issue)))
      return [...new Set(each.filter((one) => one !== ''))].join(' or ')
    }
    default:
      return issue.message
  }
}

const TYPE_NAMES: Record<string, string> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a map of keys',
  record: 'a map of keys',
}
const COUNTED: Record<string, string> = { array: ' entries', string: ' characters' }

function reach(value: unknown, path: Path): unknown {
  let at = value
  for (const step of path) {
    if (typeof at !== 'object' || at === null) return undefined
    at = (at as Record<string | number, unknown>)[step]
  }
  return at
}

type Definition = {
  type: string
  innerType?: z.ZodType
  element?: z.ZodType
  valueType?: z.ZodType
  options?: z.ZodType[]
  shape?: Record<string, z.ZodType>
}
const definition = (schema: z.ZodType): Definition => schema.def as unknown as Definition

function descend(schema: z.ZodType, path: Path): z.ZodType {
  let at = schema
  for (const step of path) {
    let def = definition(unwrap(at))
    if (def.type === 'union') def = definition(unwrap(objectOption(def.options ?? []) ?? at))
    at = def.shape?.[step] ?? def.element ?? def.valueType ?? at
  }
  return unwrap(at)
}

function unwrap(schema: z.ZodType): z.ZodType {
  let at = schema
  for (let inner = definition(at).innerType; inner !== undefined; inner = definition(at).innerType) at = inner
  return at
}

const objectOption = (options: readonly z.ZodType[]): z.ZodType | undefined =>
  options.find((option) => definition(unwrap(option)).type === 'object')

function unionOption(schema: z.ZodType, path: Path): z.ZodType {
  const at = descend(schema, path)
  return objectOption(definition(at).options ?? []) ?? at
}

function knownKeys(schema: z.ZodType, path: Path): string[] {
  const at = descend(schema, path)
  const def = definition(definition(at).type === 'union' ? unionOption(schema, path) : at)
  return Object.keys(def.shape ?? {})
}
