/** How a server answers: whether it says no. Off the hot path; the answer may be cut off anywhere. */
import { Cursor } from './binary.ts'
import { isBad, ResponseHeader, walkResponseHeader } from './headers.ts'
import { RESPONSE, SERVICE_FAULT } from './services.ts'

/** Services whose results are StatusCodes alone (OPC 10000-4 §5): that of any item can be read. */
const STATUS_CODES: ReadonlySet<number> = new Set([
  RESPONSE.Write,
  RESPONSE.DeleteNodes,
  RESPONSE.AddReferences,
  RESPONSE.DeleteReferences,
  RESPONSE.DeleteMonitoredItems,
  RESPONSE.SetMonitoringMode,
  RESPONSE.DeleteSubscriptions,
  RESPONSE.SetPublishingMode,
])
/** Services each of whose results begins with a StatusCode: that of the first item can be read. */
const BEGINS_WITH_STATUS: ReadonlySet<number> = new Set([
  RESPONSE.Call,
  RESPONSE.AddNodes,
  RESPONSE.HistoryUpdate,
  RESPONSE.HistoryRead,
  RESPONSE.Browse,
  RESPONSE.TranslateBrowsePathsToNodeIds,
  RESPONSE.CreateMonitoredItems,
  RESPONSE.ModifyMonitoredItems,
  RESPONSE.TransferSubscriptions,
])

/**
 * Whether the answer `buf[at…end)`, from its TypeId on, is a fault, or bad for the service, or for the item at `index`
 * where that can be read.
 */
export function isRefused(buf: Uint8Array, at: number, end: number, index: number): boolean {
  const cursor = new Cursor().open(buf, at, end)
  const type = cursor.typeId()
  if (type === SERVICE_FAULT) return true
  const header = new ResponseHeader()
  walkResponseHeader(cursor, header)
  if (isBad(header.serviceResult)) return true
  if (cursor.fault !== 0) return false
  const each = STATUS_CODES.has(type)
  if (!each && !(index === 0 && (BEGINS_WITH_STATUS.has(type) || type === RESPONSE.Read))) return false
  if (cursor.i32() <= index) return false
  cursor.skip(4 * index)
  // A DataValue without a value, and with a status (OPC 10000-6 §5.2.2.17).
  if (type === RESPONSE.Read && (cursor.u8() & 0x03) !== 0x02) return false
  const status = cursor.u32()
  return cursor.fault === 0 && isBad(status)
}
