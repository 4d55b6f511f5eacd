/** What `headgate analyze` does. */
import { chmodSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { type Analysis, type AnalyzeInput, analyze, type Choice } from '../baseline/analyze.ts'
import { decideText } from '../baseline/assess.ts'
import { NotABaseline } from '../baseline/baseline-file.ts'
import {
  addDecisions,
  BaselineUnreadable,
  baselinePath,
  type Decision,
  readBaseline,
  readDecisions,
} from '../baseline/decisions.ts'
import { addRules, addSighted, namesIn } from '../baseline/patch.ts'
import { plural } from '../baseline/rules.ts'
import type { Policy } from '../policy/model.ts'
import { isComplaint, parseDuration } from '../policy/values.ts'
import type { AnalyzeFlags } from './analyze.ts'
import { analysisText, plainAnalysis, plainShadow, shadowText } from './analyze-text.ts'
import { Refused, requirePolicy } from './captures.ts'
import { readEvidence } from './evidence-read.ts'

/** @returns the exit code: 0 ready to enforce, 1 not ready, 2 cannot read or bad usage */
export async function runAnalyze(evidence: readonly string[], flags: AnalyzeFlags): Promise<number> {
  try {
    return await run(evidence, flags)
  } catch (error) {
    const known = [Refused, BaselineUnreadable, NotABaseline].some((kind) => error instanceof kind)
    if (!known && (error as NodeJS.ErrnoException).code === undefined) throw error
    process.stderr.write(`headgate: ${(error as Error).message}\n`)
    return 2
  }
}

async function run(evidence: readonly string[], flags: AnalyzeFlags): Promise<number> {
  const minBaselineMs = parseDuration(flags.minBaseline, 0, 1e12)
  if (isComplaint(minBaselineMs)) throw new Refused(`--min-baseline: found ${flags.minBaseline}, expected such as 14d`)
  const policy = flags.policy === undefined ? null : requirePolicy(flags.policy)
  if (flags.apply !== undefined && policy === null)
    throw new Refused('--apply writes into a policy: give --policy FILE')
  if (flags.reject !== undefined && (flags.reason ?? '').trim() === '') throw new Refused('--reject wants a --reason')
  const kept = policy?.gateway?.baseline?.directory
  const at = flags.baseline ?? kept ?? null
  if (flags.reject !== undefined && at === null) {
    throw new Refused('--reject is kept beside the baseline: give --baseline, or gateway.baseline in the policy')
  }
  const paths = evidence.length > 0 ? evidence : [policy?.gateway?.evidence?.directory ?? '']
  if (paths[0] === '') throw new Refused('nothing to analyze: give evidence files, or a policy with gateway.evidence')
  const sightings = await readEvidence(paths)
  if (flags.shadow) {
    const differences = [...sightings.differences.values()].sort((a, b) => b.count - a.count)
    process.stdout.write(
      flags.format === 'json'
        ? `${JSON.stringify(plainShadow(differences, sightings), null, 2)}\n`
        : shadowText(differences, sightings, policy === null ? null : namesIn(policy)),
    )
    return differences.some((one) => one.happened === 'shadow-deny') ? 1 : 0
  }
  // A baseline that was asked for must be there; one that the gateway has not written yet need not.
  const baseline = flags.baseline !== undefined || (at !== null && exists(at)) ? readBaseline(at as string) : null
  const decisions = at === null ? [] : readDecisions(at)
  const input: AnalyzeInput = { sightings, policy, baseline, decisions, minBaselineMs }
  let analysis = analyze(input)
  if (flags.apply !== undefined) analysis = apply(flags.apply, flags.policy as string, input, analysis)
  if (flags.reject !== undefined) {
    const chosen = choose(flags.reject, analysis)
    // An item of the baseline is settled together with all that shows it.
    const shown = analysis.shown.filter(({ by }) => by.every((one) => chosen.includes(one)))
    const items = shown.map(({ item }) => ({ key: item.key, what: decideText(item).replace(/^\S+ /, '') }))
    addDecisions(
      at as string,
      [...chosen, ...items].map((one) => decisionOn(one, flags.reason as string)),
    )
    process.stderr.write(`${baselinePath(at as string)}: ${plural(chosen.length, 'decision')} kept beside it\n`)
    analysis = analyze({ ...input, decisions: readDecisions(at as string) })
  }
  const ready = analysis.verdicts.length > 0 && analysis.verdicts.every((one) => one.ready || one.mode === 'enforce')
  process.stdout.write(
    flags.format === 'json'
      ? `${JSON.stringify(plainAnalysis(analysis, sightings), null, 2)}\n`
      : analysisText(analysis, sightings, { colour: process.stdout.isTTY === true, file: flags.policy ?? null }),
  )
  return ready ? 0 : 1
}

const exists = (at: string): boolean => statSync(baselinePath(at), { throwIfNoEntry: false }) !== undefined

/** @throws Refused where an id names nothing, or several */
function choose(ids: readonly string[], { candidates, decide }: Analysis): Choice[] {
  const all: Choice[] = [...candidates, ...decide]
  return ids.map((id) => {
    const found = all.filter((one) => id.length >= 4 && one.key.startsWith(id))
    if (found.length === 1) return found[0]
    throw new Refused(found.length === 0 ? `${id}: there is nothing of that id to decide on` : `${id}: names several`)
  })
}

function decisionOn({ key, what }: Pick<Choice, 'key' | 'what'>, why: string): Decision {
  return { id: key, what, decision: 'reject', who: userName(), why: why.trim(), time: new Date().toISOString() }
}

/** A user without an entry in the password file has a number alone. */
function userName(): string {
  try {
    return userInfo().username
  } catch {
    return `uid ${process.getuid?.() ?? '?'}`
  }
}

/** Writes the rules that allow what was chosen; the analysis is of the policy as it is then. */
function apply(ids: readonly string[], file: string, input: AnalyzeInput, analysis: Analysis): Analysis {
  const chosen = choose(ids, analysis)
  const without = chosen.find((one) => one.grants.length === 0 && one.opcua.length === 0)
  if (without !== undefined) throw new Refused(`${without.id}: no rule can allow it: ${without.obstacle}`)
  const text = readFileSync(file, 'utf8')
  const grants = chosen.flatMap((one) => one.grants)
  const label = `accepted ${new Date().toISOString().slice(0, 10)}`
  const done = addRules(text, input.policy as Policy, grants, { slack: 0, label })
  const [refused] = done.refused
  // All or nothing: a person who reads "refused" finds the document as it was.
  if (refused !== undefined) throw new Refused(`${file} was not changed: ${refused.why}`)
  const opcua = addSighted(
    done.text,
    input.policy as Policy,
    chosen.flatMap((one) => one.opcua),
    label,
  )
  if (typeof opcua === 'string') throw new Refused(`${file} was not changed: ${opcua}`)
  const added = [...done.added, ...opcua.added]
  write(file, opcua.text)
  process.stderr.write(`${file}: ${plural(added.length, 'rule')} added; reload the gateway to put it into force\n`)
  for (const { conduit, rule } of added) process.stderr.write(`  ${conduit}: ${rule.name}\n`)
  return analyze({ ...input, policy: requirePolicy(file) })
}

/** Whole or not at all, with the permissions that the file has. */
function write(file: string, text: string): void {
  const { mode } = statSync(file)
  writeFileSync(`${file}.new`, text)
  chmodSync(`${file}.new`, mode & 0o7777)
  renameSync(`${file}.new`, file)
}
