/** Facts as the sections of a report: the three of the zone implementation report first, in its words and order. */
import { CLAIM_STATUSES, type ClaimStatus } from '../../policy/claims.ts'
import { countClaims, STATUS_WORDS } from '../claims-table.ts'
import type { ProbeResult } from '../result.ts'
import { outcomes } from '../result.ts'
import type { Block, Cell, Field, ReportDocument, Section, Tone } from './blocks.ts'
import { buckets, VERDICT_LABELS, verdictChart } from './chart.ts'
import { compliance } from './compliance.ts'
import { zoneDiagram } from './diagram.ts'
import { VERDICT_NAMES, type VerdictCounts } from './evidence-facts.ts'
import type { ConduitFacts, ReportFacts, ZoneFacts } from './facts.ts'

export const TITLE = 'IEC 62443 Zone Implementation Report'
/** Charts and their tables: one for each conduit up to so many, and so many rows. */
const MAX_CHARTS = 24
const MAX_ROWS = 500

const toned = (text: string, tone: Tone): Cell => ({ text, tone })
const list = (items: readonly string[], none = 'none'): string => (items.length === 0 ? none : items.join(', '))
const prose = (items: readonly string[], none: string): string => (items.length === 0 ? none : items.join('; '))

export function compose(facts: ReportFacts): ReportDocument {
  const { policy, implementation } = facts
  return {
    title: TITLE,
    head: [
      ['Facility', policy.facility ?? 'not stated'],
      ['Implementation Date', `${implementation.date} (${implementation.why})`],
      ['Standard', policy.standard === null ? 'IEC 62443-3-2/3-3' : `IEC 62443-3-2/3-3 (document: ${policy.standard})`],
    ],
    sections: [
      { heading: 'ZONE ARCHITECTURE', blocks: zoneBlocks(facts) },
      { heading: 'CONDUIT CONFIGURATION', blocks: [{ kind: 'entries', entries: facts.conduits.map(conduitEntry) }] },
      { heading: 'VALIDATION RESULTS', blocks: validationBlocks(facts) },
      { heading: 'RULES', blocks: ruleBlocks(facts) },
      { heading: 'CLAIMS OF THE DOCUMENT', blocks: claimBlocks(facts) },
      { heading: 'FINDINGS', blocks: findingBlocks(facts) },
      { heading: 'VERDICTS OVER TIME', blocks: verdictBlocks(facts) },
      { heading: 'EVIDENCE', blocks: evidenceBlocks(facts) },
      { heading: 'COMPLIANCE MAPPING', blocks: complianceBlocks(facts) },
      documentSection(facts),
    ],
    colophon: `Made ${facts.generated} by Headgate ${facts.version} from ${policy.file}, SHA-256 ${policy.sha256}`,
  }
}

// ------------------------------------------------------------------------------------- the sections of the old report

function zoneBlocks(facts: ReportFacts): Block[] {
  const svg = zoneDiagram(facts)
  const figure: Block[] = svg === '' ? [] : [{ kind: 'figure', svg, caption: 'Zones and conduits by Purdue level' }]
  return [...figure, { kind: 'entries', entries: facts.zones.map(zoneEntry) }]
}

const zoneEntry = (zone: ZoneFacts) => ({
  title: `Zone ${zone.id}: ${zone.name} (SL-T: ${zone.securityLevelTarget ?? 'not stated'})`,
  fields: [
    ['Assets', `${zone.assets}${zone.addressable > 0 ? ` (${zone.addressable} with an address)` : ''}`],
    ['Conduits', list(zone.conduits)],
    ['Controls', prose(zone.controls, zone.conduits.length === 0 ? 'no conduit leads here' : 'none stated')],
  ] satisfies Field[],
})

function conduitEntry(conduit: ConduitFacts) {
  const { protocols, mode } = conduit
  const carried = protocols.map(({ protocol, port, direction }) =>
    [`${protocol}${port === null ? '' : ` ${port}`}`, direction].filter((part) => part !== null).join(': '),
  )
  const inspected = protocols
    .filter((one) => one.inspected)
    .map(({ protocol, blind }) => (blind ? `${protocol}: of encrypted channels the opening alone` : protocol))
  const others = protocols.filter((one) => !one.inspected).map(({ protocol }) => protocol)
  const yes = `Yes (${list(inspected)}, ${mode === 'enforce' ? 'enforcing' : 'monitoring only'})`
  const dpi = inspected.length === 0 ? 'No' : others.length === 0 ? yes : `${yes}; No (${list(others)})`
  const rules = `${conduit.allow} allow / ${conduit.deny} deny`
  return {
    title: `Conduit ${conduit.id}: ${conduit.connects.join(' <-> ')}`,
    fields: [
      ['Protocols', prose(carried, 'none')],
      [
        'Firewall Rules',
        inspected.length === 0
          ? rules
          : `${rules}${mode === 'enforce' ? ', all else denied' : ', all else passes and is recorded'}`,
      ],
      [
        'DPI Enabled',
        toned(
          dpi,
          inspected.length === 0 || mode === 'monitor' || protocols.some(({ blind }) => blind) ? 'warn' : 'good',
        ),
      ],
    ] satisfies Field[],
  }
}

const currentProbes = ({ validations }: ReportFacts): ProbeResult[] =>
  validations.filter(({ current }) => current).flatMap(({ validation }) => validation.probes)

function validationBlocks(facts: ReportFacts): Block[] {
  const probes = currentProbes(facts)
  const blocks: Block[] = [
    {
      kind: 'fields',
      fields: [
        ['Cross-zone tests', crossZone(probes)],
        ['Prohibited path tests', verdictOf(probes, ['prohibited', 'isolated'], 'all blocked', 'exceptions')],
        [
          'Protocol enforcement',
          verdictOf(probes, ['enforcement'], 'function code filtering verified', 'NOT verified'),
        ],
        ...(probes.some(({ group }) => group === 'security')
          ? [['Security modes', verdictOf(probes, ['security'], 'none weaker than claimed', 'NOT as claimed')] as const]
          : []),
        ...(probes.some(({ group }) => group === 'diode')
          ? [['Data diode', verdictOf(probes, ['diode'], 'one way, as claimed', 'NOT as claimed')] as const]
          : []),
      ],
    },
  ]
  if (facts.validations.length > 0) {
    blocks.push({
      kind: 'table',
      caption: 'Validations',
      shape: 'records',
      columns: ['File', 'From', 'Time', 'Result', 'Counts'],
      rows: facts.validations.map(({ file, validation, current }) => {
        const { pass, fail, skip } = outcomes(validation.probes)
        return [
          file,
          `${validation.from} (${validation.host}${validation.source === null ? '' : `, from ${validation.source}`})`,
          `${validation.started} to ${validation.ended}`,
          `${pass} pass / ${fail} fail / ${skip} not made`,
          current ? 'yes' : toned(`no: made for another document, SHA-256 ${validation.policy.sha256}`, 'bad'),
        ]
      }),
    })
  }
  const bad = probes.filter(({ outcome }) => outcome !== 'pass')
  if (bad.length > 0) {
    blocks.push({
      kind: 'table',
      caption: `Probes that did not pass${bad.length > MAX_ROWS ? ` (the first ${MAX_ROWS} of ${bad.length})` : ''}`,
      shape: 'records',
      columns: ['Probe', 'Target', 'Expected', 'Observed', 'Outcome'],
      rows: bad
        .slice(0, MAX_ROWS)
        .map(({ what, target, expected, observed, outcome }) => [
          what,
          target,
          expected,
          observed,
          outcome === 'fail' ? toned('fail', 'bad') : toned('not made', 'warn'),
        ]),
    })
  }
  return blocks
}

function crossZone(probes: readonly ProbeResult[]): Cell {
  const { pass, fail, skip } = outcomes(probes)
  if (probes.length === 0) return toned('not tested', 'warn')
  const counts = `${pass} pass / ${fail} fail${skip > 0 ? ` / ${skip} not made` : ''}`
  return toned(counts, fail > 0 ? 'bad' : skip > 0 ? 'warn' : 'good')
}

function verdictOf(probes: readonly ProbeResult[], groups: readonly string[], good: string, bad: string): Cell {
  const mine = probes.filter(({ group }) => groups.includes(group))
  const { pass, fail, skip } = outcomes(mine)
  if (pass + fail === 0) return toned('not tested', 'warn')
  if (fail > 0) {
    const which = mine.filter(({ outcome }) => outcome === 'fail').map(({ what, target }) => `${what} (${target})`)
    const shown = which.slice(0, 5).join('; ')
    return toned(`${bad}: ${fail} of ${pass + fail}: ${shown}${which.length > 5 ? '; …' : ''}`, 'bad')
  }
  if (skip > 0) return toned(`${good} as far as tested (${pass} of ${pass + skip})`, 'warn')
  return toned(`${good} (${pass} of ${pass})`, 'good')
}

// --------------------------------------------------------------------------------------------------- the document's own

function ruleBlocks({ conduits }: ReportFacts): Block[] {
  const blocks: Block[] = conduits
    .filter(({ rules }) => rules.length > 0)
    .map(({ id, rules, mode }) => ({
      kind: 'table',
      caption: `${id}, ${mode}`,
      shape: 'records',
      columns: ['Rule', 'Action', 'From', 'To', 'What'],
      rows: rules.map((rule) => [
        rule.name,
        rule.mode === 'monitor' ? toned(`${rule.action} (denials only watched)`, 'warn') : rule.action,
        list(rule.from, 'nobody'),
        list(rule.to, 'nothing'),
        prose([rule.protocol, ...rule.what], ''),
      ]),
    }))
  return blocks.length > 0 ? blocks : [{ kind: 'text', text: 'The document has no rule that Headgate enforces.' }]
}

function linesText(places: readonly { line: number }[]): string {
  const lines = [...new Set(places.map(({ line }) => `${line}`))]
  return lines.length === 0 ? '' : ` (line${lines.length === 1 ? '' : 's'} ${list(lines)})`
}

const STATUS_TONES: Readonly<Record<ClaimStatus, Tone>> = {
  'enforced-here': 'good',
  contradicted: 'bad',
  'not-enforced': 'bad',
  'enforced-elsewhere': 'quiet',
  'not-machine-checkable': 'warn',
}

function claimBlocks({ claims }: ReportFacts): Block[] {
  if (claims.length === 0) return [{ kind: 'text', text: 'The document makes no claims in prose.' }]
  const counts = Object.entries(countClaims(claims)) as [ClaimStatus, number][]
  return [
    {
      kind: 'fields',
      fields: counts.map(([status, count]): Field => {
        const text = `${count} (${CLAIM_STATUSES[status]})`
        return [STATUS_WORDS[status], count > 0 && STATUS_TONES[status] === 'bad' ? toned(text, 'bad') : text]
      }),
    },
    {
      kind: 'table',
      caption: 'Claims',
      shape: 'records',
      columns: ['Claim', 'Outcome', 'Where', 'By', 'Why'],
      rows: claims.map(({ part, status, key, zone, conduit, protocol, line, by, detail, places }) => [
        part,
        toned(STATUS_WORDS[status], STATUS_TONES[status]),
        `${prose(
          [conduit ?? zone ?? '', protocol ?? ''].filter((one) => one !== ''),
          '',
        )}: ${key}, line ${line}`,
        by,
        `${detail}${linesText(places)}`,
      ]),
    },
  ]
}

function findingBlocks({ findings, suppressed }: ReportFacts): Block[] {
  const blocks: Block[] =
    findings.length === 0
      ? [{ kind: 'text', text: 'No open findings.' }]
      : [
          {
            kind: 'table',
            caption: 'Open',
            shape: 'records',
            columns: ['Finding', 'Severity', 'Line', 'What'],
            rows: findings.map(({ id, severity, line, message }) => [
              id,
              severity === 'error' ? toned('error', 'bad') : toned('warning', 'warn'),
              `${line}`,
              message,
            ]),
          },
        ]
  if (suppressed.length > 0) {
    blocks.push({
      kind: 'table',
      caption: 'Left to stand, with a written reason',
      shape: 'records',
      columns: ['Finding', 'Line', 'Reason', 'What'],
      rows: suppressed.map(({ id, line, reason, message }) => [id, `${line}`, toned(reason, 'warn'), message]),
    })
  }
  return blocks
}

// ---------------------------------------------------------------------------------------------------------- evidence

function verdictBlocks({ evidence, conduits }: ReportFacts): Block[] {
  if (evidence.chains.length === 0) return [{ kind: 'text', text: toned('No evidence was given.', 'warn') }]
  const blocks: Block[] = []
  if (!evidence.sound) {
    blocks.push({
      kind: 'text',
      text: toned('From evidence that does not verify: nothing below can be relied on.', 'bad'),
    })
  }
  const order = [...new Set([...conduits.map(({ id }) => id), ...evidence.verdicts.keys()])]
  const shown = order.filter((id) => evidence.verdicts.has(id))
  if (shown.length === 0) blocks.push({ kind: 'text', text: 'Nothing was denied, and nothing would have been.' })
  for (const [index, id] of shown.slice(0, MAX_CHARTS).entries()) {
    const bars = buckets(evidence.verdicts.get(id) as ReadonlyMap<number, VerdictCounts>)
    const used = bars.filter(({ counts }) => VERDICT_NAMES.some((name) => counts[name] > 0))
    blocks.push(
      {
        kind: 'figure',
        svg: verdictChart(`chart-${index}`, `Verdicts of ${id} over time`, bars),
        caption: `${id}: verdicts over time`,
      },
      {
        kind: 'table',
        caption: `${id}, time in UTC`,
        shape: 'columns',
        columns: ['time', ...VERDICT_NAMES.map((name) => VERDICT_LABELS[name])],
        rows: used.map(({ label, counts }) => [label, ...VERDICT_NAMES.map((name) => `${counts[name]}`)]),
      },
    )
    const reasons = [...evidence.reasons]
      .filter(([key]) => key.startsWith(`${id}\n`))
      .sort((a, b) => b[1] - a[1])
      .map(([key, count]) => `${key.slice(id.length + 1)} ${count}`)
    blocks.push({ kind: 'fields', fields: [['By reason', list(reasons)]] })
  }
  if (shown.length > MAX_CHARTS) {
    blocks.push({
      kind: 'text',
      text: `${shown.length - MAX_CHARTS} more conduits have verdicts; the JSON report has them.`,
    })
  }
  return blocks
}

function evidenceBlocks({ evidence, policy }: ReportFacts): Block[] {
  if (evidence.chains.length === 0) return [{ kind: 'text', text: toned('No evidence was given.', 'warn') }]
  const blocks: Block[] = [
    {
      kind: 'entries',
      entries: evidence.chains.map(({ directory, files, verify, head, trusted }) => ({
        title: `Chain ${directory}`,
        fields: [
          [
            'Verified',
            verify.finding === null
              ? toned('yes', 'good')
              : toned(`NO (${verify.finding.kind}): ${verify.finding.message}`, 'bad'),
          ],
          [
            'Records',
            `${verify.records}, numbers ${verify.firstSeq} to ${verify.firstSeq + verify.records - 1}, in ${files.length} files`,
          ],
          ['Times', `${verify.firstTime ?? '-'} to ${verify.lastTime ?? '-'}`],
          ['Signatures', `${verify.checkpoints} checkpoints (Ed25519); ${verify.unsigned} records after the last`],
          [
            'Chain head',
            head === null ? toned('no signature holds', 'bad') : `record ${head.seq - 1}, SHA-256 ${head.hash}`,
          ],
          ['Signed head beside the files', verify.headKnown ? 'holds' : toned(verify.headFault ?? 'none', 'warn')],
          ...verify.keys.map(
            (key): Field => [
              'Key',
              trusted ? key : toned(`${key} (as the files say: compare it with the one you keep)`, 'warn'),
            ],
          ),
        ] satisfies Field[],
      })),
    },
  ]
  if (evidence.policies.length > 0) {
    blocks.push({
      kind: 'table',
      caption: 'Versions of the document in force',
      shape: 'records',
      columns: ['SHA-256', 'Records', 'From', 'To', 'This document'],
      rows: evidence.policies
        .slice(-MAX_ROWS)
        .map(({ sha256, records, first, last }) => [
          sha256,
          `${records}`,
          first,
          last,
          sha256 === policy.sha256 ? 'yes' : 'no',
        ]),
    })
  }
  if (evidence.notable.length > 0) {
    blocks.push({
      kind: 'table',
      caption: `Events to look at${evidence.notableMore > 0 ? ` (${evidence.notableMore} more in the files)` : ''}`,
      shape: 'records',
      columns: ['Event', 'Time', 'Detail'],
      rows: evidence.notable.map(({ time, event, detail }) => [event, time, detail]),
    })
  }
  if (evidence.artefacts.length > 0) {
    blocks.push({
      kind: 'table',
      caption: 'Artefacts recorded',
      shape: 'records',
      columns: ['File', 'Kind', 'Time', 'SHA-256'],
      rows: evidence.artefacts.slice(-MAX_ROWS).map(({ time, kind, file, sha256 }) => [file, kind, time, sha256]),
    })
  }
  return blocks
}

function complianceBlocks(facts: ReportFacts): Block[] {
  return [
    {
      kind: 'text',
      text: 'For each control, what this report shows and what it does not. Whether that is enough is for the auditor to say.',
    },
    ...compliance(facts).map(
      ({ name, controls }): Block => ({
        kind: 'table',
        caption: name,
        shape: 'records',
        columns: ['Control', 'Shown here', 'Missing'],
        rows: controls.map(({ id, title, shown, missing }) => [
          `${id} ${title}`,
          shown.length === 0 ? toned('nothing', 'warn') : shown.join('; '),
          missing.length === 0 ? 'nothing that this report looks for' : toned(missing.join('; '), 'warn'),
        ]),
      }),
    ),
  ]
}

function documentSection({ policy, gateway }: ReportFacts): Section {
  const fields: Field[] = [
    ['File', policy.file],
    ['SHA-256', policy.sha256],
    ['Assessment date', policy.assessmentDate ?? 'not stated'],
    ['Standard', policy.standard ?? 'not stated'],
    ['Gateway', gateway?.name ?? toned('none', 'warn')],
  ]
  if (gateway !== null) {
    fields.push(
      [
        'Evidence',
        gateway.evidence ? `written${gateway.evidenceRequired ? ', and required' : ''}` : toned('none', 'warn'),
      ],
      ['SIEM', gateway.syslog.length === 0 ? toned('none', 'warn') : list(gateway.syslog.map(({ url }) => url))],
      ['Metrics page', gateway.metrics ? 'yes' : 'no'],
    )
  }
  return { heading: 'DOCUMENT', blocks: [{ kind: 'fields', fields }] }
}
