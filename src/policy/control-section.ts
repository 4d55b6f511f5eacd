/** What the document's `gateway` says of the control socket, of what outlives a restart, and of a shadow policy. */
import { resolve } from 'node:path'
import type { Check } from './check.ts'
import { CONTROL_DEFAULTS, type Control } from './model.ts'
import { pathIn } from './records-section.ts'
import type { GatewayDocument } from './schema.ts'

/** `sun_path` of unix(7), without the zero at its end. */
const MAX_SOCKET_PATH = 107

export function buildControl(check: Check, raw: NonNullable<GatewayDocument['control']>): Control {
  const socket = pathIn(check, raw.socket ?? CONTROL_DEFAULTS.socket)
  const length = Buffer.byteLength(socket)
  if (length > MAX_SOCKET_PATH) {
    const message = `found a path of ${length} bytes, ${socket}, expected at most ${MAX_SOCKET_PATH}: the system has no room for more`
    check.error(['gateway', 'control', 'socket'], 'path-too-long', message)
  }
  return { socket, stateDirectory: pathIn(check, raw.state_directory ?? CONTROL_DEFAULTS.stateDirectory) }
}

/** Another document that judges beside: read when the gateway runs, and never in the way of this one. */
export function buildShadow(check: Check, raw: string): string {
  const file = pathIn(check, raw)
  if (file === resolve(check.file)) {
    check.warn(
      ['gateway', 'shadow'],
      'without-effect',
      'found the document itself, which says what it says: no difference',
    )
  }
  return file
}
