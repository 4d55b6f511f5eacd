/** The two ways of saying no on OPC UA: an ERR for the connection, a ServiceFault for a request on a channel in clear. */

import { dateTime } from './binary.ts'
import { AT, HEADER, setU32 } from './chunk.ts'
import { SERVICE_FAULT } from './services.ts'

/** Status codes that Headgate ends connections with (OPC 10000-6 annex A.2). */
export const CONNECTION_STATUS = {
  badCommunicationError: 0x80050000,
  badTimeout: 0x800a0000,
  badSecurityChecksFailed: 0x80130000,
  badUserAccessDenied: 0x801f0000,
  badRequestTooLarge: 0x80b80000,
  badSecurityModeRejected: 0x80540000,
  badSecurityPolicyRejected: 0x80550000,
  badTcpMessageTypeInvalid: 0x807e0000,
  badTcpSecureChannelUnknown: 0x807f0000,
  badTcpMessageTooLarge: 0x80800000,
  badTcpEndpointUrlInvalid: 0x80830000,
  badSecureChannelIdInvalid: 0x80220000,
  badSequenceNumberInvalid: 0x80880000,
  badConnectionClosed: 0x80ae0000,
} as const

const MAX_REASON = 512
const ERR_BYTES = Buffer.alloc(HEADER + 8 + MAX_REASON)

/** An ERR message (OPC 10000-6 §7.1.2.5). The bytes hold until the next call. */
export function errorMessage(status: number, reason: string): Uint8Array {
  const length = Math.min(ERR_BYTES.write(reason, HEADER + 8, MAX_REASON, 'utf8'), MAX_REASON)
  ERR_BYTES.write('ERRF', 0, 'latin1')
  setU32(ERR_BYTES, 4, HEADER + 8 + length)
  setU32(ERR_BYTES, HEADER, status)
  setU32(ERR_BYTES, HEADER + 4, length)
  return ERR_BYTES.subarray(0, HEADER + 8 + length)
}

/** Bytes of a fault: a chunk with a ResponseHeader and nothing else. */
export const FAULT_BYTES = AT.body + 28

/** A response in clear, of one chunk, with a ServiceFault (OPC 10000-4 §7.35). */
export function faultMessage(
  channel: number,
  token: number,
  sequence: number,
  request: number,
  handle: number,
  status: number,
  wallMs: number,
): Uint8Array {
  const bytes = new Uint8Array(FAULT_BYTES)
  const view = new DataView(bytes.buffer)
  bytes.set([0x4d, 0x53, 0x47, 0x46])
  setU32(bytes, 4, FAULT_BYTES)
  setU32(bytes, AT.channel, channel)
  setU32(bytes, AT.token, token)
  setU32(bytes, AT.sequence, sequence)
  setU32(bytes, AT.request, request)
  bytes.set([1, 0, SERVICE_FAULT & 0xff, SERVICE_FAULT >>> 8], AT.body)
  view.setBigInt64(AT.body + 4, dateTime(wallMs), true)
  setU32(bytes, AT.body + 12, handle)
  setU32(bytes, AT.body + 16, status)
  // No diagnostics; a null string table; no additional header.
  setU32(bytes, AT.body + 21, 0xffffffff)
  return bytes
}
