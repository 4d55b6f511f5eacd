/** RFC 5424 messages with structured data: header, `[headgate@PEN name="value" …]`, and a sentence. */
import { hostname } from 'node:os'
import { type EventRecord, SEVERITIES } from '../catalogue.ts'
import { oneLine, token } from './text.ts'

const HOST = token(hostname(), 255)

/** The header (§6.2), up to and with MSGID: the event's name. HOSTNAME is the gateway's name. */
export function header(event: EventRecord, facility: number): string {
  const priority = facility * 8 + SEVERITIES.indexOf(event.severity)
  const host = event.gateway === undefined || event.gateway === '' ? HOST : token(String(event.gateway), 255)
  return `<${priority}>1 ${event.time} ${host} headgate ${process.pid} ${token(event.event, 32)}`
}

/** §6.3.3: quote, backslash and closing bracket are escaped by a backslash. */
export function paramValue(value: string | number): string {
  return typeof value === 'number' ? String(value) : oneLine(value).replace(/["\\\]]/g, '\\$&')
}

/** PARAM-NAME (§6.3.3): printable US-ASCII without `=`, `]`, `"`. */
const paramName = (name: string): string => token(name, 32).replace(/[=\]"]/g, '_')

/** @returns one event as a message (§6), without framing; `enterprise` is the private enterprise number of the SD-ID */
export function rfc5424(event: EventRecord, facility: number, enterprise: number): string {
  let data = ''
  for (const name in event) {
    if (name === 'time' || name === 'event' || name === 'gateway') continue
    data += ` ${paramName(name)}="${paramValue(event[name])}"`
  }
  return `${header(event, facility)} [headgate@${enterprise}${data}] ${summary(event)}`
}

/** What a person reads first: the event, who spoke to whom, what was asked, and why it was denied. */
export function summary(event: EventRecord): string {
  const { client, target, reason, detail, count } = event
  const who = client === undefined ? '' : ` ${event.client_asset ?? client} -> ${event.target_asset ?? target ?? '?'}`
  const what = event.function === undefined ? '' : ` ${event.function}`
  const why = reason === undefined ? '' : ` (${reason})`
  const times = count === undefined ? '' : ` x${count}`
  const more = detail === undefined || detail === '' ? '' : `: ${detail}`
  return oneLine(`${event.event}${who}${what}${why}${times}${more}`)
}
