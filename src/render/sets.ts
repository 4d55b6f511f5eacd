/** Sets of whole numbers as ranges in order, none touching the next: addresses, ports, functions. */

export type Span = readonly [low: bigint, high: bigint]
export type Spans = readonly Span[]

export const EMPTY: Spans = []

/** Any spans, made disjoint, in order, and joined where they touch. */
export function spans(list: Iterable<Span>): Spans {
  const joined: [bigint, bigint][] = []
  for (const [low, high] of [...list].sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0))) {
    const last = joined.at(-1)
    if (last !== undefined && low <= last[1] + 1n) last[1] = high > last[1] ? high : last[1]
    else joined.push([low, high])
  }
  return joined
}

export const span = (low: number | bigint, high: number | bigint = low): Spans => [[BigInt(low), BigInt(high)]]

export const union = (a: Spans, b: Spans): Spans => (a.length === 0 ? b : b.length === 0 ? a : spans([...a, ...b]))

export function intersect(a: Spans, b: Spans): Spans {
  const both: Span[] = []
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const low = a[i][0] > b[j][0] ? a[i][0] : b[j][0]
    const high = a[i][1] < b[j][1] ? a[i][1] : b[j][1]
    if (low <= high) both.push([low, high])
    if (a[i][1] < b[j][1]) i++
    else j++
  }
  return both
}

/** What is in `a` and not in `b`. */
export function subtract(a: Spans, b: Spans): Spans {
  const left: Span[] = []
  let j = 0
  for (const [low, high] of a) {
    let from = low
    while (j < b.length && b[j][1] < from) j++
    for (let k = j; k < b.length && b[k][0] <= high && from <= high; k++) {
      if (b[k][0] > from) left.push([from, b[k][0] - 1n])
      if (b[k][1] + 1n > from) from = b[k][1] + 1n
    }
    if (from <= high) left.push([from, high])
  }
  return left
}

export const overlaps = (a: Spans, b: Spans): boolean => intersect(a, b).length > 0
export const within = (a: Spans, b: Spans): boolean => subtract(a, b).length === 0
export const equal = (a: Spans, b: Spans): boolean =>
  a.length === b.length && a.every(([low, high], i) => low === b[i][0] && high === b[i][1])

/** How many numbers it holds. */
export const size = (a: Spans): bigint => a.reduce((sum, [low, high]) => sum + high - low + 1n, 0n)

/** Every number, where there are not many. */
export function* numbers(a: Spans): Generator<number> {
  for (const [low, high] of a) for (let n = low; n <= high; n++) yield Number(n)
}
