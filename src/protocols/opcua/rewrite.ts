/**
 * Takes denied items out of a request, and puts their results into the response where the client expects them
 * (OPC 10000-4 §5: `results` and `diagnosticInfos` have the order of the request's list).
 */
import { Cursor, type Writer } from './binary.ts'
import type { Denials } from './decide.ts'
import { isBad, ResponseHeader, STATUS, walkResponseHeader } from './headers.ts'
import type { RequestWalker } from './requests.ts'
import { REQUEST, serviceOf } from './services.ts'

/**
 * The request without its denied items.
 * @param walker the one that has walked the request [at, end), @param denials some of its items, not all
 */
export function writeAllowed(writer: Writer, at: number, end: number, walker: RequestWalker, denials: Denials): Writer {
  const { buf, countAt, count } = walker
  writer.copy(buf, at, countAt).i32(count - denials.count)
  let from = countAt + 4
  for (let n = 0; n < denials.count; n++) {
    writer.copy(buf, from, denials.from(n))
    from = denials.to(n)
  }
  return writer.copy(buf, from, end)
}

/** How `spliceResponse` found the response. */
export const SPLICE = {
  /** Written anew, with the denied items' results in place. */
  written: 0,
  /** A fault of the whole service, which stands for all items: it goes to the client as it is. */
  asItIs: 1,
  /** Not the response that the request is owed. */
  mismatch: 2,
} as const

const cursor = new Cursor()
const header = new ResponseHeader()

/**
 * The response [at, end) with a result BadUserAccessDenied for each denied item.
 * @param request type id of the request
 * @param denied indexes of the denied items, ascending
 * @param total items of the request as the client sent it
 */
export function spliceResponse(
  writer: Writer,
  buf: Uint8Array,
  at: number,
  end: number,
  request: number,
  denied: Int32Array,
  total: number,
): number {
  cursor.open(buf, at, end)
  const typeId = cursor.typeId()
  walkResponseHeader(cursor, header)
  if (cursor.fault !== 0) return SPLICE.mismatch
  if (isBad(header.serviceResult)) return SPLICE.asItIs
  if (typeId !== serviceOf(request)?.response) return SPLICE.mismatch
  const left = total - denied.length
  const countAt = cursor.at
  if (cursor.count(1) !== left) return SPLICE.mismatch
  writer.copy(buf, at, countAt).i32(total)
  splice(
    writer,
    buf,
    denied,
    total,
    () => skipResult(request),
    () => writeDenied(writer, request),
  )
  const infosAt = cursor.at
  const infos = cursor.count(1)
  if (infos === 0) {
    writer.copy(buf, infosAt, cursor.at)
  } else {
    if (infos !== left) return SPLICE.mismatch
    writer.i32(total)
    splice(
      writer,
      buf,
      denied,
      total,
      () => cursor.skipDiagnosticInfo(),
      () => writer.u8(0),
    )
  }
  return cursor.finish() ? SPLICE.written : SPLICE.mismatch
}

/** Copies an array's elements in runs, with new ones at the denied indexes. */
function splice(
  writer: Writer,
  buf: Uint8Array,
  denied: Int32Array,
  total: number,
  skip: () => void,
  write: () => void,
): void {
  let from = cursor.at
  let next = 0
  for (let i = 0; i < total && cursor.fault === 0; i++) {
    if (next < denied.length && denied[next] === i) {
      writer.copy(buf, from, cursor.at)
      from = cursor.at
      write()
      next++
    } else {
      skip()
    }
  }
  writer.copy(buf, from, cursor.at)
}

function skipResult(request: number): void {
  switch (request) {
    case REQUEST.Read:
      cursor.skipDataValue()
      return
    case REQUEST.HistoryRead:
      // statusCode, continuationPoint, historyData
      cursor.skip(4)
      cursor.bytes()
      cursor.skipExtensionObject()
      return
    case REQUEST.HistoryUpdate:
      // statusCode, operationResults, diagnosticInfos
      cursor.skip(4)
      cursor.skip(4 * cursor.count(4))
      skipDiagnosticInfos()
      return
    case REQUEST.Call: {
      // statusCode, inputArgumentResults, inputArgumentDiagnosticInfos, outputArguments
      cursor.skip(4)
      cursor.skip(4 * cursor.count(4))
      skipDiagnosticInfos()
      const outputs = cursor.count(1)
      for (let i = 0; i < outputs && cursor.fault === 0; i++) cursor.skipVariant()
      return
    }
    case REQUEST.CreateMonitoredItems:
      // statusCode, monitoredItemId, revisedSamplingInterval, revisedQueueSize, filterResult
      cursor.skip(20)
      cursor.skipExtensionObject()
      return
    case REQUEST.Browse: {
      // statusCode, continuationPoint, references
      cursor.skip(4)
      cursor.bytes()
      const references = cursor.count(18)
      for (let i = 0; i < references && cursor.fault === 0; i++) skipReference()
      return
    }
    case REQUEST.TranslateBrowsePathsToNodeIds: {
      // statusCode, targets: targetId, remainingPathIndex
      cursor.skip(4)
      const targets = cursor.count(6)
      for (let i = 0; i < targets && cursor.fault === 0; i++) {
        cursor.skipNodeId(true)
        cursor.skip(4)
      }
      return
    }
    case REQUEST.AddNodes:
      // statusCode, addedNodeId
      cursor.skip(4)
      cursor.skipNodeId()
      return
    default:
      // Write, AddReferences, DeleteNodes, DeleteReferences: StatusCode
      cursor.skip(4)
  }
}

function skipDiagnosticInfos(): void {
  const infos = cursor.count(1)
  for (let i = 0; i < infos && cursor.fault === 0; i++) cursor.skipDiagnosticInfo()
}

/** ReferenceDescription (OPC 10000-4 §7.30). */
function skipReference(): void {
  cursor.skipNodeId()
  cursor.skip(1)
  cursor.skipNodeId(true)
  cursor.skipQualifiedName()
  cursor.skipLocalizedText()
  cursor.skip(4)
  cursor.skipNodeId(true)
}

function writeDenied(writer: Writer, request: number): void {
  const status = STATUS.badUserAccessDenied
  switch (request) {
    case REQUEST.Read:
      // A DataValue of a status alone.
      writer.u8(0x02).u32(status)
      return
    case REQUEST.HistoryRead:
      writer.u32(status).i32(-1).u8(0).u8(0).u8(0)
      return
    case REQUEST.HistoryUpdate:
      writer.u32(status).i32(-1).i32(-1)
      return
    case REQUEST.Call:
      writer.u32(status).i32(-1).i32(-1).i32(-1)
      return
    case REQUEST.CreateMonitoredItems:
      writer.u32(status).u32(0).double(0).u32(0).u8(0).u8(0).u8(0)
      return
    case REQUEST.Browse:
      writer.u32(status).i32(-1).i32(-1)
      return
    case REQUEST.TranslateBrowsePathsToNodeIds:
      writer.u32(status).i32(-1)
      return
    case REQUEST.AddNodes:
      writer.u32(status).u8(0).u8(0)
      return
    default:
      writer.u32(status)
  }
}
