/**
 * The ruleset of this host beside the one that the document renders to. The kernel is the judge of what a ruleset means:
 * the rendered one is loaded in a network namespace of its own, and both are read back by `nft -j`.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Policy } from '../../policy/model.ts'
import { renderNftables } from '../../render/nftables.ts'
import { type Drift, type Look, seen, unseen } from './drift.ts'

const TIMEOUT_MS = 20_000
const MAX_OUTPUT = 64 << 20
const MAX_DRIFTS = 200
/** $0 is the file; nothing of the document is ever part of the script. */
const LOAD_AND_LIST = 'nft -f "$0" && exec nft -j list ruleset'

/** What the renderer makes, and the only tables that are compared. */
const TABLES = /^headgate/

export async function lookAtNftables(policy: Policy): Promise<Look> {
  const live = await run('nft', ['-j', 'list', 'ruleset'])
  if (live.code !== 0) return unseen('nftables', `the ruleset of this host cannot be listed: ${live.why}`)
  const directory = mkdtempSync(join(tmpdir(), 'headgate-drift-'))
  try {
    const file = join(directory, 'ruleset.nft')
    writeFileSync(file, renderNftables(policy).text, { mode: 0o600 })
    const expected = await run('unshare', ['--net', 'sh', '-c', LOAD_AND_LIST, file])
    if (expected.code !== 0) {
      return unseen('nftables', `the document's ruleset cannot be loaded in a namespace of its own: ${expected.why}`)
    }
    return seen('nftables', 'compared with what the document renders to', compareRulesets(expected.out, live.out))
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

type Json = Record<string, unknown>

/** A ruleset as `nft -j list ruleset` tells it, by the name of each thing; rules by their chain, in order. */
interface Ruleset {
  things: Map<string, string>
  rules: Map<string, string[]>
  tables: Set<string>
}

/** @param text of `nft -j list ruleset` @throws Error where it is none */
export function readRuleset(text: string): Ruleset {
  const { nftables } = JSON.parse(text) as { nftables?: unknown }
  if (!Array.isArray(nftables)) throw new Error('no list of nftables')
  const ruleset: Ruleset = { things: new Map(), rules: new Map(), tables: new Set() }
  for (const item of nftables as Json[]) {
    const [kind, thing] = Object.entries(item)[0] as [string, Json]
    if (kind === 'metainfo' || typeof thing !== 'object' || thing === null) continue
    const { family, table, name, chain } = thing
    const at = `${family}/${table ?? name}`
    if (!TABLES.test(String(table ?? name))) continue
    if (kind === 'table') ruleset.tables.add(at)
    else if (kind === 'rule') {
      const key = `chain ${at}/${chain}`
      ruleset.rules.set(key, [...(ruleset.rules.get(key) ?? []), canonical(thing.expr)])
    } else ruleset.things.set(`${kind} ${at}/${name}`, canonical(thing))
  }
  return ruleset
}

/** One text for one meaning: what changes by itself is left out, elements of sets are in order. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (key, part: unknown) => {
    if (key === 'handle' || key === 'table' || key === 'family') return undefined
    if (key === 'counter' && typeof part === 'object') return null
    if (key === 'elem' && Array.isArray(part)) return part.map((one) => JSON.stringify(one)).sort()
    return part
  })
}

const short = (text: string): string => (text.length <= 300 ? text : `${text.slice(0, 299)}…`)

/** @param expected and `live`: texts of `nft -j list ruleset` */
export function compareRulesets(expected: string, live: string): Drift[] {
  const [wanted, there] = [readRuleset(expected), readRuleset(live)]
  const found: Drift[] = []
  const add = (detail: string): void => {
    if (found.length < MAX_DRIFTS) found.push({ kind: 'nftables', detail })
  }
  for (const table of wanted.tables) {
    if (!there.tables.has(table)) add(`table ${table}: found none, expected what the document renders to`)
  }
  const missing = (key: string): boolean => !there.tables.has(key.split(' ')[1].split('/').slice(0, 2).join('/'))
  for (const [key, thing] of wanted.things) {
    if (missing(key)) continue
    const other = there.things.get(key)
    if (other === undefined) add(`${key}: found none, expected ${short(thing)}`)
    else if (other !== thing) add(`${key}: found ${short(other)}, expected ${short(thing)}`)
  }
  for (const [key, thing] of there.things)
    if (!wanted.things.has(key)) add(`${key}: found ${short(thing)}, expected none`)
  for (const key of new Set([...wanted.rules.keys(), ...there.rules.keys()])) {
    if (missing(key)) continue
    const rules = wanted.rules.get(key) ?? []
    const others = there.rules.get(key) ?? []
    const lost = without(rules, others)
    const strange = without(others, rules)
    for (const rule of lost) add(`${key}: rule missing: ${short(rule)}`)
    for (const rule of strange) add(`${key}: rule that the document does not have: ${short(rule)}`)
    if (lost.length + strange.length === 0 && rules.join('\n') !== others.join('\n')) {
      add(`${key}: found its rules in another order than the document's`)
    }
  }
  return found
}

/** What of `list` is left when each of `others` has taken one that is the same. */
function without(list: readonly string[], others: readonly string[]): string[] {
  const left = [...list]
  for (const one of others) {
    const at = left.indexOf(one)
    if (at >= 0) left.splice(at, 1)
  }
  return left
}

interface Ran {
  code: number
  out: string
  why: string
}

function run(command: string, args: readonly string[]): Promise<Ran> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    const chunks: Buffer[] = []
    let length = 0
    let err = ''
    const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS)
    child.stdout.on('data', (data: Buffer) => {
      length += data.length
      if (length > MAX_OUTPUT) child.kill('SIGKILL')
      else chunks.push(data)
    })
    child.stderr.on('data', (data: Buffer) => {
      if (err.length < 4096) err += data.toString('utf8')
    })
    const end = (code: number, why: string): void => {
      clearTimeout(timer)
      resolve({ code, out: Buffer.concat(chunks).toString('utf8'), why: why.trim().split('\n')[0] })
    }
    child.once('error', (error: NodeJS.ErrnoException) =>
      end(127, error.code === 'ENOENT' ? `there is no program ${command}` : error.message),
    )
    child.once('close', (code, signal) => end(code ?? 1, err === '' ? `${command} ended with ${code ?? signal}` : err))
  })
}
