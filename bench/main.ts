/**
 * `npm run bench [-- SECTION… --full --rounds N --seconds S]`: how fast Headgate is on this machine, beside what others
 * use. Prints Markdown. Sections: decoder proxy connections latency memory records learn opcua soak.
 */
import { parseArgs } from 'node:util'
import { contenders } from './contenders.ts'
import { gccVersion, machineClass } from './machine.ts'
import { say } from './stats.ts'

const SECTIONS = ['decoder', 'proxy', 'connections', 'latency', 'memory', 'records', 'learn', 'opcua', 'soak']
const DEFAULT = ['decoder', 'proxy', 'connections', 'latency', 'memory']

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { full: { type: 'boolean' }, rounds: { type: 'string' }, seconds: { type: 'string' } },
})
const full = values.full === true
const unknown = positionals.filter((section) => !SECTIONS.includes(section))
const rounds = Number(values.rounds ?? (full ? 7 : 5))
const seconds = Number(values.seconds ?? (full ? 2 : 0.5))
if (unknown.length > 0 || !(rounds >= 1) || !(seconds > 0)) {
  process.stderr.write(`usage: npm run bench [-- ${SECTIONS.join(' | ')} …] [--full] [--rounds N] [--seconds S]\n`)
  process.exit(2)
}
const wanted = positionals.length > 0 ? positionals : full ? SECTIONS : DEFAULT

say('## Headgate benchmark\n')
say(`${machineClass()}. ${gccVersion() ?? 'No gcc: C parts are skipped, and the load comes from Node.'}`)
for (const { name, version, missing } of contenders())
  say(`- ${name}: ${missing === null ? version : `skipped, ${missing}`}`)

for (const section of SECTIONS) {
  if (!wanted.includes(section)) continue
  if (section === 'decoder') (await import('./decoder.ts')).decoder()
  else if (section === 'proxy') {
    await (await import('./proxy.ts')).proxy({
      rounds,
      seconds,
      fullField: full || positionals.length > 0,
      twoCpus: full,
    })
  } else if (section === 'connections') await (await import('./connections.ts')).connections(rounds)
  else if (section === 'latency') await (await import('./latency.ts')).latency({ rounds, seconds: full ? 5 : 1 })
  else if (section === 'memory') await (await import('./memory.ts')).memory()
  else if (section === 'records') await (await import('./records.ts')).records()
  else if (section === 'learn') (await import('./learn.ts')).learn(full ? 1000 : 200)
  else if (section === 'opcua') await (await import('./opcua.ts')).opcua({ rounds, seconds })
  else await (await import('./soak.ts')).soak(full ? 10 : 1)
}
