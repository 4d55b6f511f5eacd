/** Cut-overs, watches, roll-backs and what outlives a restart, on clocks of the test's own. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parseWhen } from '../../src/cli/when.ts'
import type { BaselineView } from '../../src/gateway/rollout/checks.ts'
import { type CutoverTerms, Refused, type RolloutHost } from '../../src/gateway/rollout/host.ts'
import { Rollout } from '../../src/gateway/rollout/rollout.ts'
import type { Thresholds, Who } from '../../src/gateway/rollout/state.ts'
import type { Modes } from '../../src/policy/load.ts'
import type { Finding, Mode, Policy } from '../../src/policy/model.ts'
import type { EventInput } from '../../src/records/catalogue.ts'
import { modbusPolicy, type RuleText } from '../support/policy.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
const START = Date.parse('2026-06-01T12:00:00Z')
const ALICE: Who = { user: 'alice', source: 'kernel' }

const endpoint = { host: '127.0.0.1', port: 502 }
const policyOf = (modes: Record<string, Mode>, rule: RuleText = { functions: [3] }): Policy =>
  modbusPolicy(
    Object.entries(modes).map(([id, mode]) => ({
      id,
      mode,
      rules: [rule],
      listen: endpoint,
      target: endpoint,
    })),
  )

const TERMS: CutoverTerms = {
  at: null,
  watchMinutes: 10,
  minBaselineDays: 14,
  baseline: null,
  thresholds: { denials: 3, timeouts: 10, lost: 3 },
  force: false,
}

/** A site that goes on while gateways come and go: its clocks, its disk, its document and its traffic. */
class Site implements RolloutHost {
  readonly directory: string
  readonly events: EventInput[] = []
  wall = START
  steady = 1000
  policy: Policy
  private inForce = new Map<string, Mode>()
  counted: Record<string, Thresholds> = {}
  view: BaselineView = { days: 20, why: '', undecided: [] }
  errors: Finding[] = []
  failing = ''
  /** What a roll-out gateway does before `apply`: a test's chance to kill it. */
  beforeApply: () => void = () => {}
  rollout: Rollout

  constructor(t: Test, modes: Record<string, Mode>) {
    this.directory = mkdtempSync(join(tmpdir(), 'headgate-rollout-'))
    t.teardown(() => rmSync(this.directory, { recursive: true, force: true }))
    this.policy = policyOf(modes)
    this.rollout = this.start()
  }

  /** A gateway starts: with what is on the disk, and counters at 0. */
  start(): Rollout {
    this.counted = {}
    this.steady = Math.round(this.steady / 3)
    this.events.length = 0
    this.rollout = new Rollout(this.directory, this, { steady: () => this.steady, wall: () => this.wall })
    this.takeDocument()
    this.rollout.start()
    return this.rollout
  }

  private takeDocument(): void {
    const kept = this.rollout.modesFor(this.policy)
    this.inForce = new Map(this.policy.conduits.map(({ id, mode }) => [id, kept.get(id) ?? mode]))
  }

  reload(modes: Record<string, Mode>): void {
    this.policy = policyOf(modes)
    this.takeDocument()
    this.rollout.reloaded()
  }

  /** Another document, with this rule. */
  accept(rule: RuleText): void {
    this.policy = { ...policyOf({ C1: 'monitor' }, rule), sha256: '1'.repeat(64) }
    this.takeDocument()
    this.rollout.reloaded()
  }

  async pass(ms: number, steps = 10): Promise<void> {
    for (let step = 0; step < steps; step++) {
      this.wall += ms / steps
      this.steady += ms / steps
      await this.rollout.tick()
    }
  }

  mode(conduit: string): Mode | undefined {
    return this.inForce.get(conduit)
  }
  count(conduit: string, more: Partial<Thresholds>): void {
    const counts = { ...this.counts(conduit) }
    for (const key of ['denials', 'timeouts', 'lost'] as const) counts[key] += more[key] ?? 0
    this.counted[conduit] = counts
  }
  last(name: string): EventInput | undefined {
    return this.events.findLast((event) => event.event === name)
  }

  record(event: EventInput): void {
    this.events.push(event)
  }
  document(): Policy {
    return this.policy
  }
  modes(): Modes {
    return this.inForce
  }
  errorsWith(modes: Modes): Finding[] {
    return [...modes.values()].includes('enforce') ? this.errors : []
  }
  async apply(modes: Modes): Promise<void> {
    this.beforeApply()
    if (this.failing !== '') throw new Error(this.failing)
    this.inForce = new Map(modes)
  }
  counts(conduit: string): Thresholds {
    return this.counted[conduit] ?? { denials: 0, timeouts: 0, lost: 0 }
  }
  baseline(): BaselineView {
    return this.view
  }
  rolledBack(): void {}
}

const wouldDeny = (more: Partial<EventInput> = {}): EventInput => ({
  event: 'request.would_deny',
  conduit: 'C1',
  client_asset: 'HIST-01',
  target_asset: 'PLC-01',
  function: 'read-coils',
  reason: 'function',
  ...more,
})

async function refused(t: Test, act: Promise<unknown>, message: RegExp, checks: string[] = []): Promise<Refused> {
  const error = await act.then(
    () => null,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof Refused)) throw new Error(`not refused: ${error}`)
  t.match(error.message, message)
  t.same(
    error.refusals.map(({ check }) => check),
    checks,
  )
  return error
}

t.test('a cut-over at once, its watch, and the end of the watch', async (t) => {
  const site = new Site(t, { C1: 'monitor', C2: 'monitor' })
  await site.rollout.cutover(['C1'], TERMS, ALICE, 'change 1')
  t.equal(site.mode('C1'), 'enforce')
  t.equal(site.mode('C2'), 'monitor')
  site.count('C1', { denials: 3, timeouts: 10, lost: 3 })
  await site.pass(9 * MINUTE)
  t.equal(site.mode('C1'), 'enforce', 'at its thresholds, not above')
  t.match(site.rollout.status().watches.C1.counts, { denials: 3, timeouts: 10, lost: 3 })
  await site.pass(2 * MINUTE)
  t.match(site.last('cutover.kept'), { conduit: 'C1', denials: 3, user: 'alice' })
  t.same(site.rollout.status().watches, {})
  site.count('C1', { denials: 1000 })
  await site.pass(MINUTE)
  t.equal(site.mode('C1'), 'enforce', 'the watch is over')
  await refused(t, site.rollout.cutover(['C1'], TERMS, ALICE, 'again'), /C1 enforces already/)
})

t.test('each threshold rolls back by itself; the document may say either mode', async (t) => {
  for (const key of ['denials', 'timeouts', 'lost'] as const) {
    const site = new Site(t, { C1: 'monitor', C2: 'monitor' })
    await site.rollout.cutover(['C1', 'C2'], TERMS, ALICE, 'change 1')
    site.count('C1', { [key]: TERMS.thresholds[key] + 1 })
    await site.pass(1000, 1)
    t.equal(site.mode('C1'), 'monitor', key)
    t.equal(site.mode('C2'), 'enforce', 'the other conduit stays')
    t.match(site.last('cutover.rolled_back'), { conduit: 'C1', [key]: TERMS.thresholds[key] + 1 })
    site.start()
    t.equal(site.mode('C1'), 'monitor', 'over a restart')
    t.equal(site.mode('C2'), 'enforce')
  }
})

t.test('what went wrong before is expected to go on', async (t) => {
  const site = new Site(t, { C1: 'monitor' })
  await site.pass(MINUTE)
  // A dead target: two time-outs a minute, for half an hour.
  for (let minute = 0; minute < 30; minute++) {
    site.count('C1', { timeouts: 2 })
    await site.pass(MINUTE, 2)
  }
  await site.rollout.cutover(['C1'], { ...TERMS, watchMinutes: 60 }, ALICE, 'change 1')
  for (let minute = 0; minute < 50; minute++) {
    site.count('C1', { timeouts: 2 })
    await site.pass(MINUTE, 2)
  }
  t.equal(site.mode('C1'), 'enforce', 'a hundred of them, as before')
  for (let minute = 0; minute < 4; minute++) {
    site.count('C1', { timeouts: 8 })
    await site.pass(MINUTE, 2)
  }
  t.equal(site.mode('C1'), 'monitor', 'more than before')
})

t.test('checks refuse, say what would mend it, and are overridden by force', async (t) => {
  const site = new Site(t, { C1: 'monitor' })
  site.view = {
    days: 3.21,
    why: '',
    undecided: ['D1 rare-write: EWS-01 -> PLC-01', 'D2', 'D3', 'D4', 'D5', 'D6', 'D7'],
  }
  site.rollout.hear(wouldDeny())
  site.rollout.hear(wouldDeny({ count: 16 }))
  site.rollout.hear(wouldDeny({ client_asset: undefined, client: '10.9.9.9' }))
  site.rollout.hear(wouldDeny({ conduit: 'C2' }))
  const error = await refused(t, site.rollout.cutover(['C1'], TERMS, ALICE, 'x'), /8 things stand against it/, [
    'baseline',
    ...new Array(6).fill('decide'),
    'would-deny',
  ])
  const found = error.refusals.map((one) => one.found)
  t.match(found[0], /spans 3\.2 days, expected 14 days/)
  t.match(found[1], /EWS-01 -> PLC-01/)
  t.match(found[6], /2 more items/)
  t.match(found[7], /HIST-01 .* read-coils of PLC-01 \(function\), 17 times, last at 2026-06-01T12:00:00/)
  t.ok(error.refusals.every((one) => one.mend.length > 20))
  t.equal(site.mode('C1'), 'monitor')
  const { overridden } = await site.rollout.cutover(['C1'], { ...TERMS, force: true }, ALICE, 'x')
  t.equal((overridden as unknown[]).length, 8)
  t.equal(site.mode('C1'), 'enforce')

  const bare = new Site(t, { C1: 'monitor' })
  bare.view = { days: null, why: 'no baseline is kept', undecided: [] }
  await refused(t, bare.rollout.cutover(['C1'], TERMS, ALICE, 'x'), /1 thing stands/, ['baseline'])
  bare.errors = [{ severity: 'error', id: 'x', file: 'p.yaml', line: 3, column: 4, message: 'zone without addresses' }]
  await refused(t, bare.rollout.cutover(['C1'], { ...TERMS, force: true }, ALICE, 'x'), /./, ['policy', 'baseline'])
  bare.errors = []
  await bare.rollout.cutover(['C1'], { ...TERMS, minBaselineDays: 0 }, ALICE, 'x')
  t.equal(bare.mode('C1'), 'enforce', 'no baseline asked for')
})

t.test('a would-deny counts for 24 hours, over restarts too', async (t) => {
  const site = new Site(t, { C1: 'monitor' })
  site.rollout.hear(wouldDeny())
  await site.pass(MINUTE)
  site.start()
  await refused(t, site.rollout.cutover(['C1'], TERMS, ALICE, 'x'), /./, ['would-deny'])
  await site.pass(23 * HOUR)
  await refused(t, site.rollout.cutover(['C1'], TERMS, ALICE, 'x'), /./, ['would-deny'])
  await site.pass(HOUR)
  await site.rollout.cutover(['C1'], TERMS, ALICE, 'x')
  t.equal(site.mode('C1'), 'enforce')
  // Many kinds: bounded, and still refused.
  const flooded = new Site(t, { C1: 'monitor' })
  for (let i = 0; i < 3000; i++) flooded.rollout.hear(wouldDeny({ target_asset: `PLC-${i}` }))
  const error = await refused(
    t,
    flooded.rollout.cutover(['C1'], TERMS, ALICE, 'x'),
    /./,
    new Array(6).fill('would-deny'),
  )
  t.match(error.refusals[5].found, /more than could be kept/)
  await flooded.pass(MINUTE)
  t.ok(readFileSync(join(flooded.directory, 'would-deny.json')).length < 300_000)
})

t.test(
  'reads that the document in force allows by now are no longer open; writes have to have been quiet',
  async (t) => {
    const read = (more: Partial<EventInput> = {}) =>
      wouldDeny({
        ...{ client: '127.0.0.9', target: '127.0.0.1', target_port: 502, unit_id: 1, function_code: 1 },
        ...{ address: 0, quantity: 10, ...more },
      })
    /** The events happen under one document, and a cut-over is asked for under another. */
    const open = async (events: EventInput[], rule: RuleText, again: EventInput[] = []): Promise<boolean> => {
      const site = new Site(t, { C1: 'monitor' })
      for (const event of events) site.rollout.hear(event)
      await site.pass(MINUTE)
      site.start()
      site.accept(rule)
      for (const event of again) site.rollout.hear(event)
      return site.rollout.cutover(['C1'], TERMS, ALICE, 'x').then(
        () => false,
        () => true,
      )
    }
    const coils = (...ranges: string[]): RuleText => ({ functions: [1], addresses: { coils: ranges } })
    t.equal(await open([read()], coils('0-9')), false, 'allowed by now')
    t.equal(await open([read()], { functions: [1] }), false)
    t.equal(await open([read()], coils('0-8')), true, 'not all of it')
    t.equal(await open([read()], { ...coils('0-9'), from: ['127.0.0.8/32'] }), true, 'not for this client')
    t.equal(await open([read()], { ...coils('0-9'), unit_ids: [2] }), true)
    t.equal(await open([read()], { functions: [3] }), true)
    const more = read({ address: 0, quantity: 1, count: 7, addresses: '0-20, 30', units: '1-3' })
    t.equal(await open([read(), more], coils('0-20')), true, 'what the later events stood for as well')
    t.equal(await open([read(), more], coils('0-20', '30')), false)
    t.equal(await open([read({ count: 7, more_addresses: 'yes' })], { functions: [1] }), true, 'who knows what else')
    t.equal(await open([read()], coils('0-9'), [read()]), true, 'seen again, under the document in force')
    const write = read({ function: 'write-single-register', function_code: 6 })
    t.equal(await open([write], { functions: ['read', 'write'] }), true)
    t.equal(await open([read({ reason: 'malformed' })], { functions: [1] }), true)
    t.equal(await open([wouldDeny({ event: 'connection.would_refuse', reason: 'pair' })], { functions: [1] }), true)
  },
)

t.test('planned: made at its time, over a restart, and once', async (t) => {
  const site = new Site(t, { C1: 'monitor', C2: 'monitor' })
  const at = site.wall + 14 * HOUR
  await site.rollout.cutover(['C1', 'C2'], { ...TERMS, at }, ALICE, 'night')
  t.match(site.last('cutover.scheduled'), {
    conduit: 'C2',
    at: new Date(at).toISOString(),
    user: 'alice',
    why: 'night',
  })
  await refused(t, site.rollout.cutover(['C1'], TERMS, ALICE, 'two at once'), /planned for .* by alice/)
  await site.pass(13 * HOUR)
  t.equal(site.mode('C1'), 'monitor')
  site.start()
  t.equal(Object.keys(site.rollout.status().planned).length, 2)
  await site.pass(59 * MINUTE)
  t.equal(site.mode('C1'), 'monitor')
  await site.pass(2 * MINUTE)
  t.equal(site.mode('C1'), 'enforce')
  t.equal(site.mode('C2'), 'enforce')
  t.same(site.rollout.status().planned, {})
  t.equal(site.rollout.status().watches.C1.minutes, 10)
  await site.rollout.rollback(['C1'], ALICE, 'no')
  site.wall = at - HOUR
  await site.pass(2 * HOUR)
  t.equal(site.mode('C1'), 'monitor', 'a clock that is set back does not make it again')
})

t.test('planned: what speaks against it when it is due', async (t) => {
  const plan = async (name: string, change: (site: Site) => void | Promise<void>): Promise<Site> => {
    const site = new Site(t, { C1: 'monitor' })
    await site.rollout.cutover(['C1'], { ...TERMS, at: site.wall + HOUR }, ALICE, name)
    await change(site)
    await site.pass(65 * MINUTE, 65)
    return site
  }
  const denied = await plan('would-deny', (site) => site.rollout.hear(wouldDeny()))
  t.equal(denied.mode('C1'), 'monitor')
  t.match(denied.last('cutover.failed'), { conduit: 'C1', user: 'alice', detail: /HIST-01/ })
  t.same(denied.rollout.status().planned, {})

  const down = await plan('down', (site) => {
    site.wall += 3 * HOUR
    site.start()
  })
  t.equal(down.mode('C1'), 'monitor')
  t.match(down.last('cutover.failed'), { detail: /due 12\d minutes ago/ })

  const jumped = await plan('jump', (site) => {
    site.wall += 400 * DAY
  })
  t.equal(jumped.mode('C1'), 'monitor')
  const late = await plan('a little late', (site) => {
    site.wall += 70 * MINUTE
  })
  t.equal(late.mode('C1'), 'enforce', 'ten minutes late is still the maintenance window')

  const failing = await plan('failing', (site) => {
    site.failing = 'a worker does not answer'
  })
  t.equal(failing.mode('C1'), 'monitor')
  t.match(failing.last('cutover.failed'), { detail: /a worker does not answer/ })

  const edited = await plan('document', (site) => site.reload({ C1: 'enforce' }))
  t.match(edited.last('cutover.cancelled'), { conduit: 'C1', detail: /enforce already/ })
  const removed = await plan('removed', (site) => site.reload({ C9: 'monitor' }))
  t.match(removed.last('cutover.cancelled'), { conduit: 'C1', detail: /no longer has/ })

  const site = new Site(t, { C1: 'monitor' })
  for (const at of [site.wall, site.wall - 1, 0]) {
    await refused(t, site.rollout.cutover(['C1'], { ...TERMS, at }, ALICE, 'x'), /is past/)
  }
  await refused(t, site.rollout.cutover(['C1'], { ...TERMS, at: site.wall + 400 * DAY }, ALICE, 'x'), /a year ahead/)
  await site.rollout.cutover(['C1'], { ...TERMS, at: site.wall + HOUR }, ALICE, 'x')
  site.rollout.cancel(['C1'], ALICE, 'not tonight')
  t.match(site.last('cutover.cancelled'), { conduit: 'C1', why: 'not tonight' })
  await site.pass(2 * HOUR)
  t.equal(site.mode('C1'), 'monitor')
  t.throws(() => site.rollout.cancel(['C1'], ALICE, 'again'), /no cut-over planned/)
  await refused(t, site.rollout.cutover(['C1', 'C7'], TERMS, ALICE, 'x'), /no conduit C7; there are: C1/)
  await refused(t, site.rollout.cutover(['C1', 'C1'], TERMS, ALICE, 'x'), /named twice/)
})

t.test('a watch goes on over a restart, and is not shortened by clocks that are set', async (t) => {
  const site = new Site(t, { C1: 'monitor' })
  await site.rollout.cutover(['C1'], TERMS, ALICE, 'x')
  site.count('C1', { denials: 2 })
  await site.pass(4 * MINUTE)
  site.start()
  t.equal(site.mode('C1'), 'enforce')
  t.match(site.last('mode.restored'), { conduit: 'C1', mode: 'enforce', document_mode: 'monitor', user: 'alice' })
  t.equal(site.rollout.status().watches.C1.counts.denials, 2)
  // The clock is set forward by a day: six minutes are left all the same.
  site.wall += DAY
  await site.pass(5 * MINUTE)
  t.ok(site.rollout.status().watches.C1, 'still watched')
  t.equal(Math.round((Date.parse(site.rollout.status().watches.C1.until) - site.wall) / MINUTE), 1)
  site.count('C1', { denials: 2 })
  await site.pass(1000, 1)
  t.equal(site.mode('C1'), 'monitor', 'two before the restart and two after are four')

  const back = new Site(t, { C1: 'monitor' })
  await back.rollout.cutover(['C1'], TERMS, ALICE, 'x')
  back.wall -= 30 * DAY
  back.start()
  await back.pass(11 * MINUTE)
  t.match(back.last('cutover.kept'), { conduit: 'C1' }, 'a clock that is set back does not make it longer')
})

t.test('document against state: what wins, and that it is said', async (t) => {
  const site = new Site(t, { C1: 'monitor', C2: 'enforce' })
  await site.rollout.cutover(['C1'], { ...TERMS, watchMinutes: 0 }, ALICE, 'x')
  await site.rollout.rollback(['C2'], ALICE, 'line stopped')
  site.start()
  t.same([site.mode('C1'), site.mode('C2')], ['enforce', 'monitor'], 'the document has not changed its mind')
  t.match(
    site.events.map(({ event, conduit }) => [event, conduit]),
    [
      ['mode.restored', 'C1'],
      ['mode.restored', 'C2'],
    ],
  )
  // The same modes in another document: nothing changes.
  site.reload({ C1: 'monitor', C2: 'enforce', C3: 'monitor' })
  t.same([site.mode('C1'), site.mode('C2')], ['enforce', 'monitor'])
  // Somebody writes the mode into the document: it counts, now and from then on.
  site.reload({ C1: 'enforce', C2: 'monitor' })
  t.same([site.mode('C1'), site.mode('C2')], ['enforce', 'monitor'])
  t.same(site.rollout.status().latest, {})
  t.match(site.last('mode.superseded'), { conduit: 'C2', document_mode: 'monitor' })
  site.reload({ C1: 'monitor', C2: 'enforce' })
  t.same([site.mode('C1'), site.mode('C2')], ['monitor', 'enforce'])

  const gone = new Site(t, { C1: 'monitor' })
  await gone.rollout.cutover(['C1'], TERMS, ALICE, 'x')
  gone.reload({ C2: 'monitor' })
  t.match(gone.last('mode.superseded'), { conduit: 'C1', detail: /no longer has it/ })
  gone.reload({ C1: 'monitor' })
  t.equal(gone.mode('C1'), 'monitor', 'a conduit that comes back begins anew')
  t.same(gone.rollout.status().watches, {})
})

t.test('a reload during a watch: the watch goes on, unless the document ends it', async (t) => {
  const site = new Site(t, { C1: 'monitor' })
  await site.rollout.cutover(['C1'], TERMS, ALICE, 'x')
  site.count('C1', { denials: 2 })
  site.reload({ C1: 'monitor', C2: 'monitor' })
  await site.pass(MINUTE)
  site.reload({ C1: 'enforce' })
  t.ok(site.rollout.status().watches.C1, 'now the document says the same')
  site.count('C1', { denials: 2 })
  await site.pass(1000, 1)
  t.equal(site.mode('C1'), 'monitor')
  site.start()
  t.equal(site.mode('C1'), 'monitor', 'rolled back, though the document says enforce')
  t.match(site.last('mode.restored'), { mode: 'monitor', document_mode: 'enforce', cause: 'automatic-rollback' })
})

t.test('killed between the decision and what follows from it', async (t) => {
  const site = new Site(t, { C1: 'monitor' })
  const snapshot = (): string => readFileSync(join(site.directory, 'rollout.json'), 'utf8')
  let kept = ''
  site.beforeApply = () => {
    kept = snapshot()
  }
  await site.rollout.cutover(['C1'], TERMS, ALICE, 'x')
  // What the disk had when the mode was about to change is what the next start finds.
  writeFileSync(join(site.directory, 'rollout.json'), kept)
  site.start()
  t.equal(site.mode('C1'), 'enforce')
  t.ok(site.rollout.status().watches.C1, 'and watched')
  await site.rollout.rollback(['C1'], ALICE, 'x')
  writeFileSync(join(site.directory, 'rollout.json'), kept)
  site.start()
  t.equal(site.mode('C1'), 'monitor', 'of a roll-back alike')
  // Half a file under its temporary name is of no matter.
  writeFileSync(join(site.directory, 'rollout.json.new'), '{"headgate_ro')
  site.start()
  t.notOk(site.last('state.unreadable'))
})

t.test('a state that cannot be read or written', async (t) => {
  for (const text of [
    '',
    '{',
    '[]',
    '{"headgate_rollout":2}',
    '{"headgate_rollout":1,"overrides":{"C1":{"mode":"off"}}}',
  ]) {
    const site = new Site(t, { C1: 'monitor' })
    const file = join(site.directory, 'rollout.json')
    writeFileSync(file, text)
    site.start()
    t.equal(site.mode('C1'), 'monitor', 'the document counts')
    t.match(site.last('state.unreadable'), { file, detail: /kept as rollout\.json\.bad/ }, text)
    t.equal(readFileSync(`${file}.bad`, 'utf8'), text)
    await site.rollout.cutover(['C1'], TERMS, ALICE, 'x')
    t.ok(existsSync(file))
  }
  const site = new Site(t, { C1: 'monitor' })
  await site.rollout.cutover(['C1'], TERMS, ALICE, 'x')
  // A directory in the file's place cannot be written by anybody, root included.
  const temporary = join(site.directory, 'rollout.json.new')
  rmSync(temporary, { force: true })
  mkdirSync(temporary)
  await site.rollout.rollback(['C1'], ALICE, 'in spite of the disk')
  t.equal(site.mode('C1'), 'monitor', 'a roll-back does not depend on the disk')
  t.match(site.last('state.failed'), { detail: /EISDIR/ })
  await refused(t, site.rollout.cutover(['C1'], TERMS, ALICE, 'x'), /would not outlive a restart/, ['state'])
  t.equal(site.mode('C1'), 'monitor', 'a cut-over does')
  rmSync(temporary, { recursive: true })
  await site.rollout.cutover(['C1'], TERMS, ALICE, 'x')
  t.equal(site.mode('C1'), 'enforce')
})

t.test('a roll-back that fails is tried again', async (t) => {
  const site = new Site(t, { C1: 'monitor' })
  await site.rollout.cutover(['C1'], TERMS, ALICE, 'x')
  site.failing = 'a worker does not answer'
  site.count('C1', { lost: 4 })
  await site.pass(1000, 2)
  t.equal(site.mode('C1'), 'enforce')
  t.match(site.last('cutover.failed'), { conduit: 'C1', detail: /a worker does not answer/ })
  const told = site.events.length
  await site.pass(3000, 6)
  t.equal(site.events.length, told, 'not at each look')
  site.failing = ''
  await site.pass(3000, 6)
  t.equal(site.mode('C1'), 'monitor')
  t.match(site.last('cutover.rolled_back'), { lost: 4 })
})

t.test('times that a person writes', (t) => {
  const zone = process.env.TZ
  t.teardown(() => {
    if (zone === undefined) delete process.env.TZ
    else process.env.TZ = zone
  })
  process.env.TZ = 'Europe/Berlin'
  const noon = Date.parse('2026-06-01T10:00:00Z')
  const spring = Date.parse('2026-03-28T20:00:00Z')
  const autumn = Date.parse('2026-10-24T20:00:00Z')
  const rows: [string, number, string | RegExp][] = [
    ['13:00', noon, '2026-06-01T11:00:00.000Z'],
    ['12:00', noon, '2026-06-02T10:00:00.000Z'],
    ['02:00', noon, '2026-06-02T00:00:00.000Z'],
    ['24:00', noon, /there is no/],
    ['02:60', noon, /there is no/],
    ['2:00', noon, /expected a time/],
    ['tomorrow', noon, /expected a time/],
    ['', noon, /expected a time/],
    ['2026-06-02', noon, /expected a time/],
    ['2026-12-01T02:00', noon, '2026-12-01T01:00:00.000Z'],
    ['2026-12-01 02:00:30', noon, '2026-12-01T01:00:30.000Z'],
    ['2026-12-01T02:00Z', noon, '2026-12-01T02:00:00.000Z'],
    ['2026-12-01T02:00-05:00', noon, '2026-12-01T07:00:00.000Z'],
    ['2026-02-30T02:00', noon, /there is no/],
    ['2026-02-30T02:00Z', noon, /there is no/],
    ['2026-13-01T02:00', noon, /there is no/],
    // Clocks go forward from 02:00 to 03:00, and back from 03:00 to 02:00.
    ['02:30', spring, /no 02:30 on 2026-03-29 here: the clocks change/],
    ['2026-03-29T02:30', spring, /the clocks change/],
    ['2026-03-29T02:30+01:00', spring, '2026-03-29T01:30:00.000Z'],
    ['03:00', spring, '2026-03-29T01:00:00.000Z'],
    ['02:30', Date.parse('2026-03-29T10:00:00Z'), '2026-03-30T00:30:00.000Z'],
    ['02:30', autumn, '2026-10-25T00:30:00.000Z'],
    ['2026-10-25T02:30+01:00', autumn, '2026-10-25T01:30:00.000Z'],
  ]
  for (const [text, now, expected] of rows) {
    const time = parseWhen(text, now)
    if (typeof expected === 'string')
      t.equal(typeof time === 'number' ? new Date(time).toISOString() : time, expected, text)
    else t.match(time, expected, text)
  }
  t.end()
})
