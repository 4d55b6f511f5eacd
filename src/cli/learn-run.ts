/** What `headgate learn` does. */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { type DecideItem, decideText } from '../baseline/assess.ts'
import { BaselineCollector } from '../baseline/baseline.ts'
import {
  type BaselineFile,
  mergeBaselines,
  NotABaseline,
  parseBaseline,
  requestsOf,
} from '../baseline/baseline-file.ts'
import { DRAFT_DEFAULTS, draftPolicy } from '../baseline/draft.ts'
import { baselineFromEvidence } from '../baseline/from-evidence.ts'
import { CaptureUnreadable } from '../baseline/ingest.ts'
import { patchPolicy } from '../baseline/patch.ts'
import { plural } from '../baseline/rules.ts'
import { parsePort, parseWhole, placesOf, Refused, readCaptures, requirePolicy } from './captures.ts'
import { readEvidence } from './evidence-read.ts'
import type { LearnFlags } from './learn.ts'

/** Items that are named one by one on the terminal; all are in the draft. */
const SHOWN = 20

/** @returns the exit code: 0, 1 where there was no Modbus traffic to learn from, 2 cannot read or bad usage */
export async function runLearn(flags: LearnFlags): Promise<number> {
  try {
    return await learnFrom(flags)
  } catch (error) {
    if (!(error instanceof Refused || error instanceof CaptureUnreadable || error instanceof NotABaseline)) throw error
    process.stderr.write(`headgate: ${error.message}\n`)
    return 2
  }
}

async function learnFrom(flags: LearnFlags): Promise<number> {
  const { pcap = [], merge = [], evidence = [] } = flags
  if (pcap.length + merge.length + evidence.length === 0) {
    throw new Refused('nothing to learn from: give --pcap FILE, --evidence FILE or --merge FILE')
  }
  if (pcap.filter((name) => name === '-').length > 1) throw new Refused('standard input can be read once only')
  const options = {
    slack: flags.slack === undefined ? DRAFT_DEFAULTS.slack : parseWhole(flags.slack, '--slack'),
    rare: flags.rare === undefined ? DRAFT_DEFAULTS.rare : parseWhole(flags.rare, '--rare'),
  }
  // What would stop the work at its end is found before it begins.
  for (const file of [flags.output, flags.baseline]) {
    if (file !== undefined && file !== '-' && existsSync(file) && !flags.force) {
      throw new Refused(`${file} exists; give --force to overwrite it`)
    }
  }
  const policy = flags.policy === undefined ? null : requirePolicy(flags.policy)
  const baselines = merge.map(readBaseline)
  if (evidence.length > 0) {
    const learned = baselineFromEvidence(await readEvidence(evidence), evidence)
    for (const { name, notes } of learned.sources) for (const note of notes) process.stderr.write(`${name}: ${note}\n`)
    baselines.push(learned)
  }
  if (pcap.length > 0) {
    const places = placesOf(
      policy === null ? [] : [policy],
      (flags.port ?? []).map(parsePort),
      (flags.opcuaPort ?? []).map(parsePort),
    )
    const collector = new BaselineCollector()
    const sources = await readCaptures(pcap, collector, { ...places, anyPort: flags.anyPort })
    const baseline = collector.toFile()
    baseline.sources = sources.map(({ name, packets, bytes, first, last, notes }) => ({
      name,
      packets,
      bytes,
      first,
      last,
      notes,
    }))
    const missed = collector.dropped + collector.opcua.dropped
    if (missed > 0) {
      process.stderr.write(`headgate: ${plural(missed, 'message')} of too many kinds are not in the baseline\n`)
    }
    baselines.push(baseline)
  }
  const baseline = baselines.reduce(mergeBaselines)
  const json = (): string => `${JSON.stringify(baseline, null, 1)}\n`
  if (flags.baseline !== undefined && flags.baseline !== '-') write(flags.baseline, json())
  const requests = baseline.flows.reduce((sum, flow) => sum + flow.requests, 0)
  const clients = plural(baseline.clients.length, 'client')
  process.stderr.write(
    `${plural(requests, 'Modbus request')} of ${clients} to ${plural(baseline.targets.length, 'target')}\n`,
  )
  const mergeAlone =
    pcap.length + evidence.length === 0 &&
    [flags.policy, flags.output, flags.baseline].every((one) => one === undefined)
  const messages = baseline.opcua.reduce((sum, one) => sum + requestsOf(one, Object.keys(one.services)), 0)
  if (baseline.opcua.length > 0) {
    const pairs = plural(baseline.opcua.length, 'pair')
    process.stderr.write(`${plural(messages, 'OPC UA request')} of ${pairs} of client and server\n`)
  }
  if (flags.baseline === '-' || mergeAlone) process.stdout.write(json())
  if (requests === 0 && baseline.connections.length + baseline.opcua.length === 0) {
    const where = flags.pcap === undefined ? '' : '; --port, --opcua-port and --any-port say where to look for it'
    process.stderr.write(`headgate: no Modbus or OPC UA traffic found${where}\n`)
    return 1
  }
  if (mergeAlone || (flags.baseline === '-' && flags.output === undefined)) return 0
  const { text, decide } =
    policy === null ? draft(baseline, options) : patch(flags.policy as string, policy, baseline, options)
  if (flags.output === undefined || flags.output === '-') process.stdout.write(text)
  else write(flags.output, text)
  sayDecide(decide)
  return 0
}

type Options = Parameters<typeof draftPolicy>[1]

function draft(baseline: BaselineFile, options: Options): { text: string; decide: DecideItem[] } {
  const made = draftPolicy(baseline, options)
  process.stderr.write(`draft policy: ${plural(made.rules, 'rule')}\n`)
  return made
}

function patch(
  file: string,
  policy: Parameters<typeof patchPolicy>[1],
  baseline: BaselineFile,
  options: Parameters<typeof patchPolicy>[3],
): { text: string; decide: DecideItem[] } {
  const made = patchPolicy(readFileSync(file, 'utf8'), policy, baseline, options)
  const what =
    made.added.length === 0 ? 'allows all that may be allowed already' : `${plural(made.added.length, 'rule')} added`
  process.stderr.write(`${file}: ${what}\n`)
  for (const { conduit, rule } of made.added) process.stderr.write(`  ${conduit}: ${rule.name}\n`)
  return made
}

function sayDecide(decide: readonly DecideItem[]): void {
  if (decide.length === 0) return
  process.stderr.write(`${decide.length} to decide, not allowed:\n`)
  for (const item of decide.slice(0, SHOWN)) process.stderr.write(`  ${decideText(item)}\n`)
  if (decide.length > SHOWN) process.stderr.write(`  and ${decide.length - SHOWN} more\n`)
}

function readBaseline(file: string): BaselineFile {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new Refused(`${file}: ${code === 'ENOENT' ? 'no such file' : message}`)
  }
  return parseBaseline(text, file)
}

/** Whole or not at all: a full disk leaves no half of a policy behind. */
function write(file: string, text: string): void {
  try {
    writeFileSync(`${file}.new`, text)
    renameSync(`${file}.new`, file)
  } catch (error) {
    throw new Refused(`${file} cannot be written: ${(error as Error).message}`)
  }
}
