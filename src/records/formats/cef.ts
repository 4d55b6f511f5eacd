/**
 * ArcSight Common Event Format, CEF:0, in an RFC 5424 message with no structured data. Standard extension keys where
 * there are any; six labelled custom strings and three labelled custom numbers; the rest by `Headgate…` names.
 */
import { isIPv6 } from 'node:net'
import { VERSION } from '../../version.ts'
import { EVENTS, type EventRecord, type SeverityName } from '../catalogue.ts'
import { header, summary } from './rfc5424.ts'
import { oneLine } from './text.ts'

/** CEF's own scale: 0–3 low, 4–6 medium, 7–8 high, 9–10 very high. */
const SEVERITY: Record<SeverityName, number> = {
  emergency: 10,
  alert: 10,
  critical: 9,
  error: 7,
  warning: 6,
  notice: 4,
  info: 2,
  debug: 0,
}

/** Extension key for each field that has one. */
const KEYS: Record<string, string> = {
  id: 'externalId',
  gateway: 'dvchost',
  protocol: 'app',
  reason: 'reason',
  detail: 'msg',
  client_port: 'spt',
  client_asset: 'shost',
  target_port: 'dpt',
  target_asset: 'dhost',
  count: 'cnt',
  bytes_in: 'in',
  bytes_out: 'out',
  file: 'filePath',
  evidence_file: 'filePath',
  user: 'suser',
}

/** Fields that take a labelled custom key. */
const LABELLED: Record<string, readonly [key: string, label: string]> = {
  conduit: ['cs1', 'Conduit'],
  rule: ['cs2', 'Rule'],
  mode: ['cs3', 'Mode'],
  policy: ['cs4', 'Policy SHA-256'],
  function: ['cs5', 'Function'],
  values: ['cs6', 'Values'],
  unit_id: ['cn1', 'Unit Identifier'],
  address: ['cn2', 'Address'],
  quantity: ['cn3', 'Quantity'],
}

/** Times, in milliseconds since the epoch. */
const TIMES: Record<string, string> = { time: 'rt', first: 'start', last: 'end' }

/** Header fields: backslash and pipe are escaped, and there are no line breaks. */
const headerValue = (text: string): string => oneLine(text).replace(/[\\|]/g, '\\$&')

/** Extension values: backslash and equals sign are escaped; line breaks become `\n` and `\r`. */
export function extensionValue(value: string | number): string {
  if (typeof value === 'number') return String(value)
  return value
    .split(/(\r|\n)/)
    .map((part) => (part === '\n' ? '\\n' : part === '\r' ? '\\r' : oneLine(part).replace(/[\\=]/g, '\\$&')))
    .join('')
}

/** What was done, in one word. */
function action(event: EventRecord): string | null {
  const what = event.event.slice(event.event.indexOf('.') + 1)
  if (what === 'denied' || what === 'refused') return 'denied'
  if (what === 'would_deny' || what === 'would_refuse') return 'would-deny'
  return what === 'admitted' || what === 'tolerated' ? 'allowed' : null
}

const custom = (field: string): string =>
  `Headgate${field.replace(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase())}`

/** @returns one event as an RFC 5424 message that carries CEF, without framing */
export function cef(event: EventRecord, facility: number): string {
  const extension: string[] = []
  const add = (key: string, value: string | number): void => void extension.push(`${key}=${extensionValue(value)}`)
  const name = EVENTS[event.event]?.[1] ?? event.event
  add('cat', event.event.split('.', 1)[0])
  const act = action(event)
  if (act !== null) add('act', act)
  if (event.client !== undefined) add('proto', 'TCP')
  for (const [field, value] of Object.entries(event)) {
    if (field === 'event' || field === 'severity') continue
    if (field in TIMES) {
      const ms = Date.parse(String(value))
      if (Number.isFinite(ms)) add(TIMES[field], ms)
    } else if (field === 'client' || field === 'target') {
      // CEF:0 keeps `src` and `dst` for IPv4.
      const source = field === 'client'
      if (isIPv6(String(value))) {
        add(source ? 'c6a2' : 'c6a3', value)
        add(source ? 'c6a2Label' : 'c6a3Label', source ? 'Source IPv6 Address' : 'Destination IPv6 Address')
      } else add(source ? 'src' : 'dst', value)
    } else if (field in KEYS) add(KEYS[field], value)
    else if (field in LABELLED) {
      add(LABELLED[field][0], value)
      add(`${LABELLED[field][0]}Label`, LABELLED[field][1])
    } else add(custom(field), value)
  }
  if (event.detail === undefined) add('msg', summary(event))
  const head = ['CEF:0', 'Headgate', 'Headgate', VERSION, event.event, name, String(SEVERITY[event.severity])]
  return `${header(event, facility)} - ${head.map((part, i) => (i === 0 ? part : headerValue(part))).join('|')}|${extension.join(' ')}`
}
