/** What `headgate validate` hands over: its file's schema, and reading one that may come from anywhere. */
import { z } from 'zod'

/** Raised when a reader of an older version would misunderstand the file. */
export const VALIDATION_VERSION = 1
/** Longest file that is read, in bytes, and most probes in it. */
export const MAX_VALIDATION_BYTES = 16 << 20
const MAX_PROBES = 20_000

/** What a probe is for; the report's three lines of results are made of these. */
export const PROBE_GROUPS = ['allowed', 'prohibited', 'isolated', 'enforcement', 'security', 'diode'] as const
export type ProbeGroup = (typeof PROBE_GROUPS)[number]

const text = (most: number) => z.string().max(most)
const time = z.iso.datetime()

const probe = z.strictObject({
  /** Unique in the file. */
  id: text(200),
  group: z.enum(PROBE_GROUPS),
  conduit: text(128).nullable(),
  target: text(200),
  what: text(500),
  expected: text(500),
  observed: text(2000),
  outcome: z.enum(['pass', 'fail', 'skip']),
  ms: z.number().min(0).max(1e9),
})

export const validationSchema = z.strictObject({
  format: z.literal('headgate-validation'),
  version: z.literal(VALIDATION_VERSION),
  kind: z.enum(['boundary', 'diode']),
  headgate: text(40),
  policy: z.strictObject({
    file: text(4096),
    sha256: z.string().regex(/^[0-9a-f]{64}$/),
    facility: text(1000).nullable(),
  }),
  /** Zone that the probes came from, and the address where one was bound. */
  from: text(200),
  source: text(100).nullable(),
  host: text(300),
  started: time,
  ended: time,
  probes: z.array(probe).max(MAX_PROBES),
})

export type ValidationFile = z.infer<typeof validationSchema>
export type ProbeResult = z.infer<typeof probe>

/** Not a validation. `message` is one line. */
export class NotAValidation extends Error {}

/** @param name for messages. Throws `NotAValidation`. */
export function parseValidation(content: string, name: string): ValidationFile {
  let json: unknown
  try {
    json = JSON.parse(content)
  } catch (error) {
    throw new NotAValidation(`${name}: not JSON: ${(error as Error).message.split('\n')[0].slice(0, 200)}`)
  }
  const parsed = validationSchema.safeParse(json)
  if (parsed.success) {
    const ids = new Set(parsed.data.probes.map((one) => one.id))
    if (ids.size < parsed.data.probes.length)
      throw new NotAValidation(`${name}: not a validation: a probe is told twice`)
    return parsed.data
  }
  const [issue] = parsed.error.issues
  const where = issue.path.join('.')
  throw new NotAValidation(`${name}: not a validation: ${where === '' ? '' : `${where}: `}${issue.message}`)
}

export const outcomes = (probes: readonly ProbeResult[]): Record<ProbeResult['outcome'], number> => {
  const counts = { pass: 0, fail: 0, skip: 0 }
  for (const { outcome } of probes) counts[outcome]++
  return counts
}
