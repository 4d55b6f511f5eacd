/** Medians, ratios and tables. */

export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/**
 * The median of ratios taken pair by pair: what disturbs a shared machine for a while disturbs both of a pair.
 * Rounds that either side lacks are left out.
 */
export function medianRatio(values: readonly number[], yardstick: readonly number[]): number {
  const ratios: number[] = []
  for (const [i, value] of values.entries()) if (yardstick[i] > 0 && value >= 0) ratios.push(value / yardstick[i])
  return median(ratios)
}

export const ratioText = (ratio: number): string => (Number.isFinite(ratio) ? `${ratio.toFixed(2)}×` : '-')

/** A figure with three or four digits that say something. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return '-'
  if (value >= 100) return Math.round(value).toLocaleString('en-US').replaceAll(',', ' ')
  return value >= 10 ? value.toFixed(1) : value.toFixed(2)
}

/** A Markdown table, so that a run's output can stand in docs/benchmarks.md as it is. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((cell, column) => Math.max(cell.length, 3, ...rows.map((row) => (row[column] ?? '').length)))
  const line = (cells: readonly string[]): string =>
    `| ${widths.map((width, i) => (i === 0 ? (cells[i] ?? '').padEnd(width) : (cells[i] ?? '').padStart(width))).join(' | ')} |`
  const rule = `| ${widths.map((width, i) => (i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`
  return [line(head), rule, ...rows.map(line)].join('\n')
}

export function say(text = ''): void {
  process.stdout.write(`${text}\n`)
}
