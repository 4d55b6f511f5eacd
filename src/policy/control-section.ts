/** What the document's `gateway` says of the control socket and of what outlives a restart. */
import { dirname, resolve } from 'node:path'
import type { Check } from './check.ts'
import { CONTROL_DEFAULTS, type Control } from './model.ts'
import type { GatewayDocument } from './schema.ts'

/** `sun_path` of unix(7), without the zero at its end. */
const MAX_SOCKET_PATH = 107

export function buildControl(check: Check, raw: NonNullable<GatewayDocument['control']>): Control {
  // Paths in the document are relative to its own directory.
  const pathIn = (path: string): string => resolve(dirname(check.file), path)
  const socket = pathIn(raw.socket ?? CONTROL_DEFAULTS.socket)
  const length = Buffer.byteLength(socket)
  if (length > MAX_SOCKET_PATH) {
    const message = `found a path of ${length} bytes, ${socket}, expected at most ${MAX_SOCKET_PATH}: the system has no room for more`
    check.error(['gateway', 'control', 'socket'], 'path-too-long', message)
  }
  return { socket, stateDirectory: pathIn(raw.state_directory ?? CONTROL_DEFAULTS.stateDirectory) }
}
