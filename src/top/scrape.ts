/** One scrape of a gateway's metrics page, as numbers that can be asked for by labels. */
import { get } from 'node:http'

export interface Sample {
  labels: Record<string, string>
  value: number
}

/** Samples by the metric's name; when they were taken, in seconds. */
export class Scrape {
  readonly at: number
  private readonly samples: ReadonlyMap<string, Sample[]>

  constructor(text: string, at: number) {
    this.at = at
    this.samples = parse(text)
  }

  all(metric: string): readonly Sample[] {
    return this.samples.get(metric) ?? []
  }

  /** Sum of the samples that have these labels. */
  sum(metric: string, labels: Readonly<Record<string, string>> = {}): number {
    let sum = 0
    for (const sample of this.all(metric)) {
      if (Object.entries(labels).every(([name, value]) => sample.labels[name] === value)) sum += sample.value
    }
    return sum
  }
}

/** A line of the text format 0.0.4: name, labels, value. */
const LINE = /^([a-zA-Z_:][\w:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? (\S+)/
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g
const ESCAPES: Record<string, string> = { n: '\n', '"': '"', '\\': '\\' }

export function parse(text: string): Map<string, Sample[]> {
  const samples = new Map<string, Sample[]>()
  for (const line of text.split('\n')) {
    const match = line.startsWith('#') ? null : LINE.exec(line)
    if (match === null) continue
    const labels: Record<string, string> = {}
    for (const [, name, value] of (match[2] ?? '').matchAll(LABEL)) {
      labels[name] = value.replaceAll(/\\(.)/g, (_, char: string) => ESCAPES[char] ?? char)
    }
    const value = match[3] === '+Inf' ? Number.POSITIVE_INFINITY : Number(match[3])
    const list = samples.get(match[1])
    if (list === undefined) samples.set(match[1], [{ labels, value }])
    else list.push({ labels, value })
  }
  return samples
}

/** Largest page that is read, in bytes. */
const MAX_PAGE = 64 << 20
const TIMEOUT_MS = 3000

/** @throws Error with one line where the page cannot be had */
export function scrape(url: string): Promise<Scrape> {
  return new Promise((resolve, reject) => {
    const request = get(url, { timeout: TIMEOUT_MS }, (response) => {
      if (response.statusCode !== 200) {
        response.resume()
        reject(new Error(`${url} answered ${response.statusCode}`))
        return
      }
      const chunks: Buffer[] = []
      let length = 0
      response.on('data', (chunk: Buffer) => {
        length += chunk.length
        if (length > MAX_PAGE) request.destroy(new Error(`${url}: the page is too long`))
        else chunks.push(chunk)
      })
      response.on('end', () => resolve(new Scrape(Buffer.concat(chunks).toString('utf8'), performance.now() / 1000)))
    })
    request.on('timeout', () => request.destroy(new Error(`${url} does not answer`)))
    request.on('error', (error: NodeJS.ErrnoException) => {
      reject(new Error(error.code === 'ECONNREFUSED' ? `${url}: nobody listens there` : error.message))
    })
  })
}
