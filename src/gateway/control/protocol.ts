/**
 * What goes over the control socket: one JSON object a line, in both directions; `docs/reference/control.md` is the
 * same for people.
 */
import { z } from 'zod'
import { CUTOVER_DEFAULTS, type Refusal } from '../rollout/terms.ts'

/** Longest request, in bytes, line feed included. */
export const MAX_REQUEST = 16 * 1024
/** Drifts that are told one by one; all are counted. */
export const MAX_DRIFTS = 10
/** Longest answer that a client reads. */
export const MAX_ANSWER = 16 << 20

/** Control characters would break out of a log line or a terminal. */
const line = (most: number) =>
  z
    .string()
    .trim()
    .min(1)
    .max(most)
    .regex(/^[^\x00-\x1f\x7f-\x9f]*$/, { error: 'text without control characters' })

const conduits = z.array(line(128)).min(1).max(1000)
const reason = line(500)
const id = z.union([z.string().max(64), z.number()]).optional()
/** Who the client says that it is: counts where the system does not tell. */
const user = line(64).optional()
const limit = z.int().min(0).max(1_000_000)
const { thresholds } = CUTOVER_DEFAULTS

export const requestSchema = z.discriminatedUnion('verb', [
  z.strictObject({ id, user, verb: z.literal('status') }),
  z.strictObject({
    id,
    user,
    verb: z.literal('cutover'),
    conduits,
    reason,
    at: z.iso.datetime({ offset: true }).optional(),
    watch_minutes: z.number().min(0).max(10_080).default(CUTOVER_DEFAULTS.watchMinutes),
    min_baseline_days: z.number().min(0).max(3660).default(CUTOVER_DEFAULTS.minBaselineDays),
    baseline: z.string().min(1).max(4096).startsWith('/').optional(),
    max_denials: limit.default(thresholds.denials),
    max_timeouts: limit.default(thresholds.timeouts),
    max_lost: limit.default(thresholds.lost),
    force: z.boolean().default(false),
  }),
  z.strictObject({ id, user, verb: z.literal('rollback'), conduits, reason }),
  z.strictObject({ id, user, verb: z.literal('cancel'), conduits, reason }),
  z.strictObject({ id, user, verb: z.literal('reload'), reason }),
  z.strictObject({ id, user, verb: z.literal('promote'), reason }),
  z.strictObject({
    id,
    user,
    verb: z.literal('record'),
    kind: z.string().regex(/^[a-z][a-z-]{0,31}$/, { error: 'a word such as report' }),
    file: line(1000),
    sha256: z.string().regex(/^[0-9a-f]{64}$/, { error: 'a SHA-256 in lower-case hex' }),
  }),
  z.strictObject({
    id,
    user,
    verb: z.literal('drift'),
    found: z
      .array(z.strictObject({ kind: line(32), conduit: line(128).optional(), detail: line(1000) }))
      .max(MAX_DRIFTS),
    total: z.int().min(0).max(1_000_000),
  }),
])

export type Request = z.infer<typeof requestSchema>
export type Verb = Request['verb']

export type Answer =
  | { id?: string | number; ok: true; result: Record<string, unknown> }
  | { id?: string | number; ok: false; error: string; refusals?: readonly Refusal[] }

/** @returns the request, or one line that says what is wrong with it */
export function parseRequest(text: string): Request | string {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return 'not JSON'
  }
  const parsed = requestSchema.safeParse(value)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  return `${issue.path.join('.') || 'request'}: ${issue.message}`.slice(0, 500)
}
