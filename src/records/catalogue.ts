/**
 * The one list of events: their names, severities and fields. The log, syslog and the generated reference all come
 * from it.
 */
import { SEVERITIES, type SeverityName } from '../policy/model.ts'
import type { REASONS } from '../protocols/reason.ts'

export { SEVERITIES, type SeverityName }

export const EVENTS = {
  'gateway.starting': ['info', 'The gateway has read its policy and opens its listeners.'],
  'gateway.ready': ['info', 'All listeners, the metrics page and the sinks are up.'],
  'gateway.stopping': ['info', 'A signal asked the gateway to stop: no new connections; outstanding requests finish.'],
  'gateway.stopped': ['info', 'The gateway has stopped.'],
  'gateway.io': ['notice', 'The transport that was asked for cannot be had here; another is used.'],
  'policy.loaded': ['notice', 'A policy took effect.'],
  'policy.rejected': ['error', 'A reload was refused; the policy in force stays.'],
  'policy.warning': ['warning', 'The policy has a finding that does not keep it from taking effect.'],
  'mode.changed': ['warning', 'A conduit went from monitor to enforce, or back.'],
  'connection.admitted': ['info', 'A client was admitted by the address pairs of its conduit.'],
  'connection.refused': ['warning', 'A connection was closed before its target was dialled.'],
  'connection.would_refuse': ['notice', 'As connection.refused, in monitor mode: the connection went on.'],
  'connection.closed': ['info', 'An admitted connection has ended.'],
  'request.denied': ['notice', 'A request did not reach its target. A denied write is a warning.'],
  'request.would_deny': ['notice', 'A request that would be denied passed, since its conduit or rule monitors.'],
  'response.denied': ['warning', 'A response did not reach its client.'],
  'response.would_deny': ['notice', 'A response that would be denied passed, since its conduit monitors.'],
  'response.tolerated': ['info', 'A response passed for a quirk that its rule tolerates.'],
  'target.unreachable': ['error', 'A target could not be connected to.'],
  'target.timeout': ['warning', 'A target did not answer a request in time.'],
  'target.dropped': ['warning', 'The connection to a target was given up, as its stream could no longer be trusted.'],
  'worker.restarted': ['error', 'A worker thread has died, and another was started; its connections are lost.'],
  'worker.failed': ['critical', 'A worker thread cannot be started.'],
  'descriptors.exhausted': ['critical', 'No file descriptor or memory was left for a connection; it was shed.'],
  'sink.down': ['error', 'A sink does not take events.'],
  'sink.up': ['notice', 'A sink takes events again.'],
  'events.lost': ['error', 'Events had to be dropped, since a sink or the disk was away for too long.'],
  'spool.failed': ['error', 'The spool cannot be written: what a sink cannot take beyond its memory will be lost.'],
  'spool.resumed': ['notice', 'The spool can be written again.'],
  'evidence.opened': ['info', 'An evidence file begins. Carries the public key that its checkpoints are checked by.'],
  'evidence.key_created': ['notice', 'There was no signing key, so one was made. Keep its public half elsewhere.'],
  'evidence.key_exposed': ['warning', 'The signing key can be read by others than its owner.'],
  'evidence.repaired': [
    'warning',
    'The last line of an evidence file was cut off by a crash; the rest of it was removed.',
  ],
  'evidence.failed': ['critical', 'Evidence cannot be written.'],
  'evidence.resumed': ['notice', 'Evidence can be written again.'],
  'evidence.tampered': ['critical', 'An evidence file was altered, or cannot be verified.'],
  'baseline.opened': ['info', 'The baseline of what monitoring conduits carry is kept from now on.'],
  'baseline.failed': ['error', 'The baseline cannot be read or written; it is kept in memory.'],
  'baseline.resumed': ['notice', 'The baseline can be written again.'],
  'baseline.set_aside': [
    'warning',
    'What stood in the place of the baseline is none: it was renamed, and a new one begins.',
  ],
  'baseline.full': ['warning', 'The baseline has room for no more kinds of traffic.'],
  'clock.jumped': ['warning', "The system's clock was set by more than a second."],
} as const satisfies Record<string, readonly [SeverityName, string]>

export type EventName = keyof typeof EVENTS
export type ReasonName = (typeof REASONS)[number]

/** Every field an event may carry, besides `time` and `event`. */
export const FIELDS = {
  id: ['string', 'Unique for each event, in order of time: lets a SIEM drop repeats.'],
  severity: ['string', 'By RFC 5424: critical, error, warning, notice, info.'],
  gateway: ['string', "The gateway's name."],
  policy: ['string', 'SHA-256 of the policy document in force.'],
  conduit: ['string', 'Conduit id.'],
  protocol: ['string', 'modbus.'],
  mode: ['string', 'monitor or enforce: of the conduit, or of the rule where it has its own.'],
  rule: ['string', 'The rule that decided; for a denial, the rule that came nearest to allowing it.'],
  reason: ['string', 'pair, unit, function, address, value, rate, malformed, state, timeout, evidence.'],
  detail: ['string', 'What was found and what was expected, for a person.'],
  client: ['string', "The client's address."],
  client_port: ['integer', "The client's port."],
  client_asset: ['string', 'The asset with that address.'],
  target: ['string', "The target's address."],
  target_port: ['integer', "The target's port."],
  target_asset: ['string', 'The asset with that address.'],
  transaction_id: ['integer', 'Transaction identifier of the MBAP header.'],
  unit_id: ['integer', 'Unit identifier.'],
  function: ['string', 'Name of the function code.'],
  function_code: ['integer', 'Function code.'],
  sub_function: ['string', 'Sub-function of FC 8, or MEI type of FC 43.'],
  address: ['integer', 'First address, zero-based as in the PDU.'],
  quantity: ['integer', 'Number of coils or registers.'],
  write_address: ['integer', 'FC 23: first address written.'],
  write_quantity: ['integer', 'FC 23: number of registers written.'],
  values: ['string', 'The first values to be written.'],
  length: ['integer', 'Length of the frame in bytes.'],
  exception_code: ['integer', 'Exception code of the answer, or of the response.'],
  count: ['integer', 'How many alike this event stands for.'],
  units: ['string', 'Unit identifiers of all that this event stands for.'],
  addresses: ['string', 'Addresses of all that this event stands for; FC 23: those read.'],
  write_addresses: ['string', 'FC 23: addresses written by all that this event stands for.'],
  more_addresses: ['string', 'yes: there are more units or addresses than are told.'],
  least: ['integer', 'Least value written by all that this event stands for; coils: 0 or 1.'],
  greatest: ['integer', 'Greatest value written by all that this event stands for.'],
  responses: ['integer', 'Monitor mode: how many were answered without an exception.'],
  exceptions: ['integer', 'Monitor mode: how many were answered with an exception.'],
  first: ['string', 'Time of the first of them.'],
  last: ['string', 'Time of the last of them.'],
  worker: ['integer', 'Index of the worker thread.'],
  connections: ['integer', 'Number of connections.'],
  listeners: ['string', 'Addresses listened on.'],
  metrics: ['string', 'Address of the metrics page.'],
  io: ['string', 'Transport: epoll or net.'],
  version: ['string', "Headgate's version."],
  file: ['string', 'Path of the policy document, or of the baseline.'],
  line: ['integer', 'Line in the policy document.'],
  column: ['integer', 'Column in the policy document.'],
  finding: ['string', 'Id of the finding.'],
  from_mode: ['string', 'Mode before.'],
  sink: ['string', 'The sink: log, or its URL.'],
  signal: ['string', 'The signal received.'],
  offset_ms: ['integer', 'How far the clock was set: forward, or back where negative.'],
  public_key: ['string', 'Verifier key of the evidence: C2SP signed note, name+id+key.'],
  evidence_file: ['string', 'Path or name of an evidence file.'],
  bytes: ['integer', 'How many bytes were removed.'],
  required: ['string', 'yes: conduits that enforce deny while evidence cannot be written.'],
  bytes_in: ['integer', 'Bytes from the client.'],
  bytes_out: ['integer', 'Bytes to the client.'],
  duration_ms: ['integer', 'How long the connection lasted.'],
} as const

export type FieldName = keyof typeof FIELDS

/** An event as the gateway reports it; the recorder adds the rest. */
export type EventInput = { event: EventName; severity?: SeverityName; time?: number } & {
  [K in Exclude<FieldName, 'severity' | 'id' | 'gateway' | 'policy'>]?: string | number | null
}

/** An event as it is written. */
export type EventRecord = Record<string, string | number> & { time: string; event: EventName; severity: SeverityName }
