/** Verdicts over time as stacked bars that can be told apart without colour. */
import { VERDICT_NAMES, type VerdictCounts } from './evidence-facts.ts'
import { drawing, escapeXml } from './svg.ts'

export interface Bucket {
  label: string
  counts: VerdictCounts
}

const HOUR_MS = 3_600_000
/** More bars than this cannot be told apart on paper. */
const MAX_BARS = 92

export const VERDICT_LABELS: Readonly<Record<(typeof VERDICT_NAMES)[number], string>> = {
  denied: 'denied',
  refused: 'connection refused',
  would_deny: 'would be denied',
}

const total = (counts: VerdictCounts): number => VERDICT_NAMES.reduce((sum, name) => sum + counts[name], 0)

/** Hours put together into bars of an hour, a day, or as many days as it takes; gaps are bars of nothing. */
export function buckets(hours: ReadonlyMap<number, VerdictCounts>): Bucket[] {
  if (hours.size === 0) return []
  const all = [...hours.keys()]
  const first = all.reduce((a, b) => Math.min(a, b))
  const last = all.reduce((a, b) => Math.max(a, b))
  const byHour = last - first < 48
  const days = Math.ceil((Math.floor(last / 24) - Math.floor(first / 24) + 1) / MAX_BARS)
  const step = byHour ? 1 : 24 * days
  const origin = byHour ? first : Math.floor(first / 24) * 24
  const bars: Bucket[] = []
  for (let at = origin; at <= last; at += step) {
    const label = new Date(at * HOUR_MS).toISOString()
    bars.push({
      label: byHour ? `${label.slice(5, 10)} ${label.slice(11, 13)}:00` : label.slice(0, 10),
      counts: { denied: 0, refused: 0, would_deny: 0 },
    })
  }
  for (const [hour, counts] of hours) {
    const bar = bars[Math.floor((hour - origin) / step)].counts
    for (const name of VERDICT_NAMES) bar[name] += counts[name]
  }
  return bars
}

/** The next of 1, 2, 5, 10, 20 … that is not less. */
function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)))
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= least) ?? 10 * power
}

const WIDTH = 720
const HEIGHT = 190
const LEFT = 52
const TOP = 26
const BOTTOM = 30
const INNER_WIDTH = WIDTH - LEFT - 8
const INNER_HEIGHT = HEIGHT - TOP - BOTTOM

const short = (n: number): string =>
  n >= 1e6 ? `${+(n / 1e6).toFixed(1)}M` : n >= 10_000 ? `${+(n / 1e3).toFixed(1)}k` : `${n}`

/** @param id unique on the page: names of patterns hang on it */
export function verdictChart(id: string, name: string, bars: readonly Bucket[]): string {
  const most = Math.max(1, ...bars.map(({ counts }) => total(counts)))
  const step = niceStep(most / 4)
  const top = Math.ceil(most / step) * step
  const y = (value: number): number => TOP + INNER_HEIGHT * (1 - value / top)
  const parts = [
    `<defs><pattern id="${id}-p" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="5" height="5" class="hatch-ground"/><rect width="2" height="5" class="hatch-line"/></pattern></defs>`,
  ]
  for (let value = 0; value <= top; value += step) {
    parts.push(
      `<line x1="${LEFT}" x2="${WIDTH - 8}" y1="${y(value)}" y2="${y(value)}" class="${value === 0 ? 'axis' : 'grid'}"/>`,
      `<text x="${LEFT - 7}" y="${y(value) + 3.5}" class="tick end">${short(value)}</text>`,
    )
  }
  const slot = INNER_WIDTH / bars.length
  const width = Math.min(34, Math.max(1.5, slot * 0.72))
  const labelled = Math.max(1, Math.ceil(bars.length / 8))
  for (const [i, { label, counts }] of bars.entries()) {
    const x = LEFT + slot * i + (slot - width) / 2
    let under = 0
    const said = VERDICT_NAMES.map((one) => `${counts[one]} ${VERDICT_LABELS[one]}`).join(', ')
    parts.push(`<g><title>${escapeXml(`${label}: ${said}`)}</title>`)
    for (const one of VERDICT_NAMES) {
      if (counts[one] === 0) continue
      const height = Math.max(1, y(under) - y(under + counts[one]))
      const fill = one === 'would_deny' ? ` fill="url(#${id}-p)"` : ''
      parts.push(
        `<rect x="${x.toFixed(1)}" y="${(y(under) - height).toFixed(1)}" width="${width.toFixed(1)}" height="${height.toFixed(1)}" class="bar-${one.replace('_', '-')}"${fill}/>`,
      )
      under += counts[one]
    }
    parts.push('</g>')
    if (i % labelled === 0) {
      parts.push(
        `<text x="${(x + width / 2).toFixed(1)}" y="${HEIGHT - 11}" class="tick middle">${escapeXml(label)}</text>`,
      )
    }
  }
  let x = LEFT
  for (const one of VERDICT_NAMES) {
    const fill = one === 'would_deny' ? ` fill="url(#${id}-p)"` : ''
    parts.push(
      `<rect x="${x}" y="5" width="11" height="11" class="bar-${one.replace('_', '-')}"${fill}/>`,
      `<text x="${x + 16}" y="14.5" class="tick">${VERDICT_LABELS[one]}</text>`,
    )
    x += 36 + VERDICT_LABELS[one].length * 6.4
  }
  const all = bars.reduce((sum, { counts }) => sum + total(counts), 0)
  const description = `${all} verdicts in ${bars.length} bars from ${bars[0].label} to ${bars[bars.length - 1].label}; at most ${most} in one. The table below has the numbers.`
  return drawing(id, WIDTH, HEIGHT, name, description, parts.join(''))
}
