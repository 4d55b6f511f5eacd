/** Zones and conduits as a drawing: Purdue levels as rows, zones as boxes in them, conduits as lines between the boxes. */
import type { ConduitFacts, ReportFacts, ZoneFacts } from './facts.ts'
import { drawing, escapeXml, fit } from './svg.ts'

const LEFT = 74
const BOX_WIDTH = 292
const BOX_HEIGHT = 74
const COLUMN_GAP = 40
const ROW_GAP = 66
const LANE_WIDTH = 128
const TOP = 12
const LEGEND = 44
/** A drawing of more is no drawing any more; the tables have all of them. */
const MAX_ZONES = 60
const MAX_CONDUITS = 120

interface Box {
  zone: ZoneFacts
  /** Rows that it spans, from the top. */
  top: number
  bottom: number
  column: number
  x: number
  y: number
  height: number
}

const NO_LEVEL = -1

/** Levels that the zones name, from the top of the pyramid down; zones without one come last. */
function rowsOf(zones: readonly ZoneFacts[]): number[] {
  const levels = new Set(zones.flatMap(({ level }) => (level === null ? [NO_LEVEL] : [level[0], level[1]])))
  return [...levels].sort((a, b) => b - a)
}

function place(zones: readonly ZoneFacts[], rows: readonly number[]): Box[] {
  const boxes: Box[] = []
  const ordered = zones
    .map((zone) => ({
      zone,
      top: rows.indexOf(zone.level?.[1] ?? NO_LEVEL),
      bottom: rows.indexOf(zone.level?.[0] ?? NO_LEVEL),
    }))
    // Zones that talk stand in the first column, so that their conduits are straight lines.
    .sort((a, b) => a.top - b.top || Number(a.zone.conduits.length === 0) - Number(b.zone.conduits.length === 0))
  const linked = ordered.filter(({ zone }) => zone.conduits.length > 0)
  for (const { zone, top, bottom } of [...linked, ...ordered.filter((one) => !linked.includes(one))]) {
    let column = 0
    while (boxes.some((box) => box.column === column && box.top <= bottom && top <= box.bottom)) column++
    const y = TOP + top * (BOX_HEIGHT + ROW_GAP)
    boxes.push({
      zone,
      top,
      bottom,
      column,
      x: LEFT + column * (BOX_WIDTH + COLUMN_GAP),
      y,
      height: (bottom - top) * (BOX_HEIGHT + ROW_GAP) + BOX_HEIGHT,
    })
  }
  return boxes
}

const kindOf = ({ protocols, mode }: ConduitFacts): 'enforced' | 'watched' | 'elsewhere' =>
  protocols.some(({ inspected }) => inspected) ? (mode === 'enforce' ? 'enforced' : 'watched') : 'elsewhere'

const WORDS = { enforced: 'Headgate enforces', watched: 'Headgate only watches', elsewhere: 'other devices' } as const

function box({ zone, x, y, height }: Box): string {
  const level = zone.securityLevelTarget === null ? 'SL-T not stated' : `SL-T ${zone.securityLevelTarget}`
  const networks = zone.networks.length === 0 ? 'no addresses' : zone.networks.join(', ')
  const count = `${zone.assets} asset${zone.assets === 1 ? '' : 's'}`
  return [
    `<g><title>${escapeXml(`${zone.id}: ${zone.name}`)}</title>`,
    `<rect x="${x}" y="${y}" width="${BOX_WIDTH}" height="${height}" rx="5" class="zone${zone.safety ? ' safety' : ''}"/>`,
    `<text x="${x + 14}" y="${y + 23}" class="zone-id">${escapeXml(fit(zone.id, 190, 13))}</text>`,
    `<text x="${x + BOX_WIDTH - 14}" y="${y + 23}" class="small end">${level}</text>`,
    `<text x="${x + 14}" y="${y + 42}" class="zone-name">${escapeXml(fit(zone.name, BOX_WIDTH - 28, 12))}</text>`,
    `<text x="${x + 14}" y="${y + 60}" class="small">${escapeXml(fit(`${count} · ${networks}`, BOX_WIDTH - 28, 10.5))}</text>`,
    '</g>',
  ].join('')
}

/** A name on the line, on its own ground: the conduit, what it carries, and where to find the rest. */
function label(conduit: ConduitFacts, x: number, y: number, width: number): string {
  const kind = kindOf(conduit)
  const carries = conduit.protocols
    .map(({ protocol, port }) => `${protocol}${port === null ? '' : ` ${port}`}`)
    .join(', ')
  const w = Math.min(width, 18 + 7.4 * Math.max(conduit.id.length, Math.min(carries.length, 26) * 0.85))
  return [
    `<g><title>${escapeXml(`${conduit.id}: ${conduit.name}; ${carries}; ${WORDS[kind]}`)}</title>`,
    `<rect x="${x - w / 2}" y="${y - 17}" width="${w}" height="34" rx="4" class="label ${kind}"/>`,
    `<text x="${x}" y="${y - 3}" class="conduit-id middle">${escapeXml(fit(conduit.id, w - 8, 11.5))}</text>`,
    `<text x="${x}" y="${y + 10.5}" class="small middle">${escapeXml(fit(carries, w - 8, 10))}</text></g>`,
  ].join('')
}

interface Link {
  conduit: ConduitFacts
  upper: Box
  lower: Box
}

/** Two boxes of one column with nothing between them. */
const adjacent = ({ upper, lower }: Link, boxes: readonly Box[]): boolean =>
  upper.column === lower.column &&
  upper !== lower &&
  !boxes.some((one) => one.column === upper.column && one.top > upper.bottom && one.bottom < lower.top)

function links(conduits: readonly ConduitFacts[], boxes: readonly Box[]): Link[] {
  return conduits.flatMap((conduit) => {
    const [a, b] = conduit.connects.map((id) => boxes.find(({ zone }) => zone.id === id))
    if (a === undefined || b === undefined || a === b) return []
    return [a.top <= b.top ? { conduit, upper: a, lower: b } : { conduit, upper: b, lower: a }]
  })
}

export function zoneDiagram(facts: ReportFacts): string {
  const zones = facts.zones.slice(0, MAX_ZONES)
  if (zones.length === 0) return ''
  const rows = rowsOf(zones)
  const boxes = place(zones, rows)
  const all = links(facts.conduits.slice(0, MAX_CONDUITS), boxes)
  const straight = all.filter((link) => adjacent(link, boxes))
  const around = all.filter((link) => !straight.includes(link))
  const columns = Math.max(...boxes.map(({ column }) => column)) + 1
  const right = LEFT + columns * BOX_WIDTH + (columns - 1) * COLUMN_GAP
  const width = Math.max(right + around.length * LANE_WIDTH + 14, 560)
  const bottom = TOP + rows.length * (BOX_HEIGHT + ROW_GAP) - ROW_GAP + 12
  const parts: string[] = []
  for (const [row, level] of rows.entries()) {
    const y = TOP + row * (BOX_HEIGHT + ROW_GAP)
    if (row > 0)
      parts.push(`<line x1="8" x2="${width - 8}" y1="${y - ROW_GAP / 2}" y2="${y - ROW_GAP / 2}" class="level-line"/>`)
    const words = level === NO_LEVEL ? ['Level', 'not stated'] : ['Level', `${level}`]
    parts.push(
      `<text x="10" y="${y + 26}" class="small">${words[0]}</text>`,
      `<text x="10" y="${y + (level === NO_LEVEL ? 41 : 49)}" class="${level === NO_LEVEL ? 'small' : 'level'}">${words[1]}</text>`,
    )
  }
  const names: string[] = []
  const pairs = Map.groupBy(straight, ({ upper, lower }) => `${boxes.indexOf(upper)} ${boxes.indexOf(lower)}`)
  for (const group of pairs.values()) {
    const share = BOX_WIDTH / group.length
    for (const [i, { conduit, upper, lower }] of group.entries()) {
      const x = upper.x + share * (i + 0.5)
      const [from, to] = [upper.y + upper.height, lower.y]
      parts.push(`<path d="M${x} ${from}V${to}" class="conduit ${kindOf(conduit)}"/>`)
      names.push(label(conduit, x, (from + to) / 2, share - 6))
    }
  }
  for (const [i, { conduit, upper, lower }] of around.entries()) {
    const lane = right + 10 + LANE_WIDTH * (i + 0.5)
    // Ends of several lines on one box must not lie on one another.
    const from = upper.y + 16 + ((i * 13) % (BOX_HEIGHT - 28))
    const to = lower.y + 16 + ((i * 13 + (upper.top === lower.top ? 22 : 0)) % (BOX_HEIGHT - 28))
    const middle = (Math.min(from, to) + Math.max(from, to)) / 2
    parts.push(
      `<path d="M${upper.x + BOX_WIDTH} ${from}H${lane}V${to}H${lower.x + BOX_WIDTH}" class="conduit ${kindOf(conduit)}"/>`,
    )
    names.push(label(conduit, lane, middle, LANE_WIDTH - 8))
  }
  const kinds = ['enforced', 'watched', 'elsewhere'] as const
  const legend = kinds.map((kind, i) => {
    const x = LEFT + [0, 150, 322][i]
    const y = bottom + 20
    return `<path d="M${x} ${y}h30" class="conduit ${kind}"/><text x="${x + 38}" y="${y + 3.5}" class="small">${WORDS[kind]}</text>`
  })
  const left = facts.zones.length - zones.length + facts.conduits.length - all.length
  const said = all.map(
    ({ conduit }) => `${conduit.id} connects ${conduit.connects.join(' and ')} (${WORDS[kindOf(conduit)]})`,
  )
  const description = `${zones.length} zones in ${rows.length} levels. ${said.join('. ')}${left > 0 ? `. ${left} more are in the tables alone` : ''}`
  // Boxes cover the lines that pass behind them; names lie on top of all.
  const body = [...parts, ...boxes.map(box), ...names, ...legend].join('')
  return drawing('zones', width, bottom + LEGEND, 'Zones and conduits by Purdue level', description, body)
}
