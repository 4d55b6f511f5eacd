/** What the document's `gateway` says of the records: syslog sinks, their spool, the evidence, storm control. */
import { accessSync, constants, existsSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import type { Check } from './check.ts'
import type { Path } from './document.ts'
import { show } from './findings.ts'
import {
  type BaselineTerms,
  type Evidence,
  type Gateway,
  RECORD_DEFAULTS,
  type Spool,
  type SyslogSink,
} from './model.ts'
import type { GatewayDocument } from './schema.ts'
import { isComplaint, parseBytes, parseDuration, parseFacility, parseSyslogUrl } from './values.ts'

type SinkDocument = NonNullable<GatewayDocument['syslog']>[number]

const TLS_KEYS = ['ca', 'cert', 'key', 'server_name'] as const

/** Paths in the document are relative to its own directory. */
export const pathIn = (check: Check, path: string): string => resolve(dirname(check.file), path)

const bytes = (value: unknown, otherwise: number): number =>
  value === undefined ? otherwise : (parseBytes(value, 0, Number.MAX_SAFE_INTEGER) as number)
const duration = (value: unknown, otherwise: number): number =>
  value === undefined ? otherwise : (parseDuration(value, 0, Number.MAX_SAFE_INTEGER) as number)

export function buildRecords(
  check: Check,
  document: GatewayDocument,
): Pick<Gateway, 'syslog' | 'spool' | 'evidence' | 'baseline' | 'stormMs'> {
  const sound = (key: string): boolean => check.sound(['gateway', key])
  const syslog: SyslogSink[] = []
  for (const [index, raw] of (sound('syslog') ? (document.syslog ?? []) : []).entries()) {
    const path = ['gateway', 'syslog', index]
    const sink = buildSink(check, raw, path)
    const twin = syslog.findIndex((one) => one.url === sink.url)
    if (twin >= 0) {
      const first = check.source.position(['gateway', 'syslog', twin])
      const message = `found ${show(raw.url)} twice (also line ${first.line}), expected one sink for each receiver`
      check.error([...path, 'url'], 'duplicate-address', message)
    }
    syslog.push(sink)
  }
  const spool = sound('spool') && document.spool !== undefined ? buildSpool(check, document.spool) : null
  const evidence = sound('evidence') && document.evidence !== undefined ? buildEvidence(check, document.evidence) : null
  if (spool !== null && evidence !== null && spool.directory === evidence.directory) {
    check.error(
      ['gateway', 'spool', 'directory'],
      'shared-directory',
      `found ${show(document.spool?.directory)} for the evidence as well, expected a directory of its own: a spool that is full must not stop the evidence`,
    )
  }
  const baseline = sound('baseline') && document.baseline !== undefined ? buildBaseline(check, document.baseline) : null
  return {
    syslog,
    spool,
    evidence,
    baseline,
    stormMs: sound('storm_interval')
      ? duration(document.storm_interval, RECORD_DEFAULTS.stormMs)
      : RECORD_DEFAULTS.stormMs,
  }
}

function buildSink(check: Check, raw: SinkDocument, path: Path): SyslogSink {
  const url = parseSyslogUrl(raw.url)
  if (isComplaint(url)) throw new Error('the schema let a syslog URL pass that cannot be read')
  const secure = url.transport === 'tls'
  for (const key of TLS_KEYS) {
    if (raw[key] === undefined) continue
    if (!secure) {
      check.error([...path, key], 'not-tls', `found ${key} with ${show(raw.url)}, expected a url with tls://`)
    } else if (key !== 'server_name') readable(check, pathIn(check, raw[key]), [...path, key])
  }
  if (secure && (raw.cert === undefined) !== (raw.key === undefined)) {
    const [there, missing] = raw.cert === undefined ? ['key', 'cert'] : ['cert', 'key']
    check.error([...path, there], 'missing-key', `found ${there} without ${missing}, expected both or none`)
  }
  if (url.transport === 'udp' && raw.framing !== undefined) {
    const message = `found framing with ${show(raw.url)}, which has none: each message is a datagram`
    check.warn([...path, 'framing'], 'without-effect', message)
  }
  const file = (value: string | undefined): string | null => (value === undefined ? null : pathIn(check, value))
  return {
    url: String(raw.url),
    ...url,
    format: raw.format ?? 'rfc5424',
    framing: raw.framing ?? 'octet-counting',
    facility: raw.facility === undefined ? 16 : (parseFacility(raw.facility) as number),
    enterpriseNumber: raw.enterprise_number ?? RECORD_DEFAULTS.enterpriseNumber,
    minSeverity: raw.min_severity ?? RECORD_DEFAULTS.minSeverity,
    events: raw.events?.map(String) ?? null,
    tls: secure
      ? { ca: file(raw.ca), cert: file(raw.cert), key: file(raw.key), serverName: raw.server_name ?? null }
      : null,
  }
}

/** A certificate that is missing here may well be there where the gateway runs: a warning. */
function readable(check: Check, path: string, at: Path): void {
  try {
    accessSync(path, constants.R_OK)
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : 'it cannot be read'
    check.warn(at, 'unreadable-file', `found ${path}, expected a PEM file: ${why} here`)
  }
}

function buildSpool(check: Check, raw: NonNullable<GatewayDocument['spool']>): Spool {
  return { directory: pathIn(check, raw.directory), maxBytes: bytes(raw.max_bytes, RECORD_DEFAULTS.spoolBytes) }
}

function buildBaseline(check: Check, raw: NonNullable<GatewayDocument['baseline']>): BaselineTerms {
  const directory = pathIn(check, raw.directory)
  warnUnwritable(check, directory, 'baseline')
  return { directory }
}

function warnUnwritable(check: Check, directory: string, key: 'evidence' | 'baseline'): void {
  if (!existsSync(directory) || writable(directory)) return
  const message = `found ${directory}, expected a directory that this user may write to`
  check.warn(['gateway', key, 'directory'], 'unwritable-directory', message)
}

function buildEvidence(check: Check, raw: NonNullable<GatewayDocument['evidence']>): Evidence {
  const directory = pathIn(check, raw.directory)
  warnUnwritable(check, directory, 'evidence')
  return {
    directory,
    required: raw.required ?? false,
    key: raw.key === undefined ? join(directory, 'evidence.key') : pathIn(check, raw.key),
    checkpointRecords: raw.checkpoint_records ?? RECORD_DEFAULTS.checkpointRecords,
    checkpointMs: duration(raw.checkpoint_interval, RECORD_DEFAULTS.checkpointMs),
    rotateBytes: bytes(raw.rotate_bytes, RECORD_DEFAULTS.rotateBytes),
    rotateDaily: raw.rotate_daily ?? true,
  }
}

function writable(directory: string): boolean {
  try {
    accessSync(directory, constants.W_OK)
    return true
  } catch {
    return false
  }
}
