/** RequestHeader and ResponseHeader (OPC 10000-4 §7.32, §7.33), and the fault that stands for a response. */
import { REASON } from '../reason.ts'
import { Cursor, NodeRef, type Writer } from './binary.ts'
import { SERVICE_FAULT } from './services.ts'

/** Status codes that Headgate answers with (OPC 10000-6 annex A.2). */
export const STATUS = {
  good: 0,
  badUserAccessDenied: 0x801f0000,
  badDecodingError: 0x80070000,
  badServiceUnsupported: 0x800b0000,
  badTooManyOperations: 0x80100000,
  badTooManySubscriptions: 0x80770000,
  badTooManySessions: 0x80560000,
  badTooManyPublishRequests: 0x80780000,
  badRequestTooLarge: 0x80b80000,
  badResponseTooLarge: 0x80b90000,
  badResourceUnavailable: 0x80040000,
  badUnexpectedError: 0x80010000,
  badInvalidState: 0x80af0000,
  badSubscriptionIdInvalid: 0x80280000,
} as const

/** What a client is told of a request that was denied for `reason`. */
export function statusOf(reason: number): number {
  switch (reason) {
    case REASON.malformed:
      return STATUS.badDecodingError
    case REASON.rate:
      return STATUS.badTooManyOperations
    case REASON.state:
      return STATUS.badInvalidState
    case REASON.evidence:
      return STATUS.badResourceUnavailable
    default:
      return STATUS.badUserAccessDenied
  }
}

export class RequestHeader {
  /** The session's authentication token. */
  readonly token = new NodeRef()
  /** Offset of the timestamp, eight bytes; the requestHandle is behind it. */
  timestampAt = 0
  requestHandle = 0
  returnDiagnostics = 0
  /** The audit entry id: [auditFrom, auditTo); -1: null. */
  auditFrom = -1
  auditTo = -1
  timeoutHint = 0
}

/** Walks the RequestHeader at the cursor, which stands behind the TypeId. */
export function walkRequestHeader(cursor: Cursor, header: RequestHeader): void {
  cursor.nodeId(header.token)
  header.timestampAt = cursor.at
  cursor.skip(8)
  header.requestHandle = cursor.u32()
  header.returnDiagnostics = cursor.u32()
  cursor.bytes()
  header.auditFrom = cursor.from
  header.auditTo = cursor.to
  header.timeoutHint = cursor.u32()
  cursor.skipExtensionObject()
}

export class ResponseHeader {
  timestampAt = 0
  requestHandle = 0
  /** StatusCode of the service. */
  serviceResult = 0
}

/** Bad: the two uppermost bits are 10 (OPC 10000-4 §7.39.1). */
export const isBad = (status: number): boolean => status >>> 30 >= 2

/** Walks the ResponseHeader at the cursor, which stands behind the TypeId. */
export function walkResponseHeader(cursor: Cursor, header: ResponseHeader): void {
  header.timestampAt = cursor.at
  cursor.skip(8)
  header.requestHandle = cursor.u32()
  header.serviceResult = cursor.u32()
  cursor.skipDiagnosticInfo()
  const strings = cursor.count(4)
  for (let i = 0; i < strings && cursor.fault === 0; i++) cursor.bytes()
  cursor.skipExtensionObject()
}

/** Whether a response, TypeId first, says only that its service has failed: by a ServiceFault, or by its header. */
export function isRefusal(buf: Uint8Array, at: number, end: number): boolean {
  const cursor = new Cursor().open(buf, at, end)
  const header = new ResponseHeader()
  cursor.typeId()
  walkResponseHeader(cursor, header)
  return isBad(header.serviceResult)
}

/** @param timestamp DateTime, see `dateTime` */
export function writeResponseHeader(writer: Writer, requestHandle: number, status: number, timestamp: bigint): Writer {
  return writer.i64(timestamp).u32(requestHandle).u32(status).u8(0).i32(-1).u8(0).u8(0).u8(0)
}

/** A ServiceFault (OPC 10000-4 §7.35), TypeId first: the body of a MSG chunk behind its sequence header, 28 bytes. */
export function writeServiceFault(writer: Writer, requestHandle: number, status: number, timestamp: bigint): Writer {
  return writeResponseHeader(writer.numericNodeId(0, SERVICE_FAULT), requestHandle, status, timestamp)
}

/**
 * @param token the session's authentication token as encoded; null: the null NodeId
 * @param timestamp DateTime, see `dateTime`; servers refuse a request without a plausible one
 * @param timeoutHint milliseconds; 0: none
 */
export function writeRequestHeader(
  writer: Writer,
  token: Uint8Array | null,
  requestHandle: number,
  timestamp: bigint,
  timeoutHint: number,
): Writer {
  if (token === null) writer.u8(0).u8(0)
  else writer.raw(token)
  return writer.i64(timestamp).u32(requestHandle).u32(0).i32(-1).u32(timeoutHint).u8(0).u8(0).u8(0)
}
