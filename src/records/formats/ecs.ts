/**
 * JSON with the field names of the Elastic Common Schema, in an RFC 5424 message with no structured data. What ECS has
 * no name for stands under `headgate`. Allow and deny are in `event.type` and `event.action`; `event.outcome` only says
 * whether what the gateway set out to do was done: a request that was blocked is a success.
 */
import { isIP } from 'node:net'
import { VERSION } from '../../version.ts'
import { type EventRecord, SEVERITIES } from '../catalogue.ts'
import { header, summary } from './rfc5424.ts'

const ECS_VERSION = '8.11.0'

/** category, type and outcome of the kinds of event (ECS: categorization fields; only values that it allows). */
function categories(name: string): { category: string[]; type: string[]; outcome?: 'success' | 'failure' } {
  const [family, what] = name.split('.')
  switch (family) {
    case 'connection':
      if (what === 'closed') return { category: ['network'], type: ['connection', 'end'] }
      if (what === 'admitted') return { category: ['network'], type: ['connection', 'start', 'allowed'] }
      return what === 'refused'
        ? { category: ['network'], type: ['connection', 'denied'], outcome: 'success' }
        : { category: ['network'], type: ['connection', 'allowed'] }
    case 'channel':
      if (what === 'downgraded') return { category: ['network'], type: ['connection', 'info'] }
      return what === 'denied'
        ? { category: ['network'], type: ['connection', 'denied'], outcome: 'success' }
        : { category: ['network'], type: ['connection', 'allowed'] }
    case 'request':
    case 'response':
      return what === 'denied'
        ? { category: ['network'], type: ['protocol', 'denied'], outcome: 'success' }
        : { category: ['network'], type: ['protocol', 'allowed'] }
    case 'target':
      return { category: ['network'], type: ['connection', 'error'], outcome: 'failure' }
    case 'policy':
    case 'mode':
    case 'cutover':
      return what === 'rejected' || what === 'failed'
        ? { category: ['configuration'], type: ['change', 'error'], outcome: 'failure' }
        : { category: ['configuration'], type: what === 'warning' ? ['info'] : ['change'] }
    case 'artefact':
      return { category: ['configuration'], type: ['info'] }
    case 'drift':
      return { category: ['configuration'], type: what === 'found' ? ['change', 'error'] : ['info'] }
    case 'control':
      return what === 'accepted'
        ? { category: ['configuration'], type: ['change'], outcome: 'success' }
        : { category: ['configuration'], type: [what === 'refused' ? 'denied' : 'error'], outcome: 'failure' }
    case 'gateway':
      return { category: ['process'], type: [what === 'starting' ? 'start' : what === 'stopped' ? 'end' : 'info'] }
    case 'worker':
      return { category: ['process'], type: ['error'] }
    default:
      return { category: ['host'], type: ['info'] }
  }
}

/** Where a field stands in ECS, as a path; numbers stay numbers. */
const PATHS: Record<string, string> = {
  time: '@timestamp',
  id: 'event.id',
  event: 'event.action',
  reason: 'event.reason',
  first: 'event.start',
  last: 'event.end',
  gateway: 'observer.name',
  client: 'source.address',
  client_port: 'source.port',
  client_asset: 'source.domain',
  target: 'destination.address',
  target_port: 'destination.port',
  target_asset: 'destination.domain',
  protocol: 'network.protocol',
  rule: 'rule.name',
  conduit: 'rule.ruleset',
  bytes_in: 'source.bytes',
  bytes_out: 'destination.bytes',
  file: 'file.path',
  user: 'user.name',
}

type Tree = { [key: string]: Tree | string | number | string[] }

/** @returns the JSON object; every string is escaped so that it stays on its line in any receiver */
export function ecsObject(event: EventRecord, facility: number): string {
  const code = SEVERITIES.indexOf(event.severity)
  const { category, type, outcome } = categories(event.event)
  const tree: Tree = {
    '@timestamp': event.time,
    ecs: { version: ECS_VERSION },
    message: summary(event),
    event: { kind: 'event', category, type, dataset: 'headgate', module: 'headgate', severity: code },
    log: {
      level: event.severity,
      syslog: { priority: facility * 8 + code, severity: { code, name: event.severity }, facility: { code: facility } },
    },
    observer: { vendor: 'Headgate', product: 'Headgate', type: 'firewall', version: VERSION },
  }
  if (outcome !== undefined) (tree.event as Tree).outcome = outcome
  if (event.client !== undefined) tree.network = { transport: 'tcp' }
  const related: string[] = []
  for (const [field, value] of Object.entries(event)) {
    if (field === 'severity') continue
    put(tree, PATHS[field] ?? `headgate.${field}`, value)
    if ((field === 'client' || field === 'target') && isIP(String(value)) !== 0) {
      put(tree, field === 'client' ? 'source.ip' : 'destination.ip', value)
      if (!related.includes(String(value))) related.push(String(value))
    }
  }
  if (related.length > 0) tree.related = { ip: related }
  return JSON.stringify(tree).replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

function put(tree: Tree, path: string, value: string | number): void {
  if (path.startsWith('@')) {
    tree[path] = value
    return
  }
  const [first, second] = path.split('.')
  tree[first] ??= {}
  const branch = tree[first] as Tree
  branch[second] = typeof value === 'string' ? value.toWellFormed() : value
}

/** @returns one event as an RFC 5424 message that carries JSON, without framing */
export function json(event: EventRecord, facility: number): string {
  return `${header(event, facility)} - ${ecsObject(event, facility)}`
}
