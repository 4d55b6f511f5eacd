/** From an event to the bytes that a sink sends: its format, its framing, and what fits into a datagram. */
import type { SyslogSink } from '../../policy/model.ts'
import type { EventRecord } from '../catalogue.ts'
import { cef } from './cef.ts'
import { json } from './ecs.ts'
import { rfc5424 } from './rfc5424.ts'

/** RFC 5426 §3.2: every receiver should take 2048 octets. RFC 5424 §6.1 gives streams the same; ours are longer at need. */
export const MAX_DATAGRAM = 2048
/** Longest message on a stream: receivers' usual limit (rsyslog, syslog-ng: 8 KiB and more), kept well below. */
export const MAX_STREAM = 8192

export type FormatTerms = Pick<SyslogSink, 'format' | 'facility' | 'enterpriseNumber'>

function render(event: EventRecord, { format, facility, enterpriseNumber }: FormatTerms): string {
  if (format === 'cef') return cef(event, facility)
  return format === 'json' ? json(event, facility) : rfc5424(event, facility, enterpriseNumber)
}

/**
 * One event as a message without framing, in at most `most` bytes. Where it would be longer, its longest text fields
 * are cut, so that what remains is still well-formed.
 */
export function message(event: EventRecord, terms: FormatTerms, most: number): Buffer {
  let bytes = Buffer.from(render(event, terms))
  let shorter = event
  for (let keep = 256; bytes.length > most && keep >= 8; keep >>= 1) {
    shorter = cut(event, keep)
    bytes = Buffer.from(render(shorter, terms))
  }
  return bytes
}

/** Fields that are never cut: a SIEM finds events by them, or they are short anyway. */
const WHOLE = new Set(['time', 'event', 'severity', 'id', 'policy', 'first', 'last'])

function cut(event: EventRecord, keep: number): EventRecord {
  const shorter: Record<string, string | number> = { ...event }
  for (const [field, value] of Object.entries(event)) {
    if (typeof value !== 'string' || value.length <= keep || WHOLE.has(field)) continue
    shorter[field] = `${value.slice(0, keep).toWellFormed()}…`
  }
  return shorter as EventRecord
}

/** RFC 6587 §3.4.1 and RFC 5425 §4.3: the length, a space, the message; or §3.4.2: the message and a line feed. */
export function frame(bytes: Buffer, framing: SyslogSink['framing']): Buffer {
  return framing === 'octet-counting'
    ? Buffer.concat([Buffer.from(`${bytes.length} `), bytes])
    : Buffer.concat([bytes, Buffer.from('\n')])
}
