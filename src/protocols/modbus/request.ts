/**
 * Requests held to the MODBUS Application Protocol Specification V1.1b3 §6: lengths, quantities, byte counts, values.
 * Hot path: offsets into the received buffer, no allocation, never an exception, nothing read outside the PDU.
 */
import { FAULT } from './faults.ts'

/** FC 8, sub-function 4: Force Listen Only Mode, the one request that is never answered (§6.8.1). */
const FORCE_LISTEN_ONLY = 4

/**
 * @param buf the PDU is `buf[pdu…end)`; `buf[pdu]` is the function code
 * @returns 0, or one of `FAULT`. Function codes that §5 does not describe have no form to break: 0.
 */
export function checkRequest(buf: Uint8Array, pdu: number, end: number): number {
  const length = end - pdu
  switch (buf[pdu]) {
    case 3:
    case 4:
      return length === 5 ? span(buf, pdu, 125) : FAULT.LENGTH
    case 1:
    case 2:
      return length === 5 ? span(buf, pdu, 2000) : FAULT.LENGTH
    case 6:
      return length === 5 ? 0 : FAULT.LENGTH
    case 16:
      if (length < 6) return FAULT.LENGTH
      return counted(buf, pdu, length, 123, ((buf[pdu + 3] << 8) | buf[pdu + 4]) * 2)
    case 5:
      if (length !== 5) return FAULT.LENGTH
      return buf[pdu + 4] === 0 && (buf[pdu + 3] === 0 || buf[pdu + 3] === 0xff) ? 0 : FAULT.COIL_VALUE
    case 15:
      if (length < 6) return FAULT.LENGTH
      return counted(buf, pdu, length, 1968, (((buf[pdu + 3] << 8) | buf[pdu + 4]) + 7) >> 3)
    case 23:
      return readWrite(buf, pdu, length)
    case 7:
    case 11:
    case 12:
    case 17:
      return length === 1 ? 0 : FAULT.LENGTH
    case 8:
      return diagnostics(buf, pdu, length)
    case 20:
      return readFile(buf, pdu, end)
    case 21:
      return writeFile(buf, pdu, end)
    case 22:
      return length === 7 ? 0 : FAULT.LENGTH
    case 24:
      return length === 3 ? 0 : FAULT.LENGTH
    case 43:
      return encapsulated(buf, pdu, length)
    default:
      return 0
  }
}

/** Start address and quantity (§6.1-6.4). */
function span(buf: Uint8Array, pdu: number, most: number): number {
  const quantity = (buf[pdu + 3] << 8) | buf[pdu + 4]
  if (quantity === 0 || quantity > most) return FAULT.QUANTITY
  return ((buf[pdu + 1] << 8) | buf[pdu + 2]) + quantity > 65536 ? FAULT.ADDRESS_OVERFLOW : 0
}

/** Start address, quantity, byte count, data (§6.11, §6.12). */
function counted(buf: Uint8Array, pdu: number, length: number, most: number, bytes: number): number {
  const fault = span(buf, pdu, most)
  if (fault === FAULT.QUANTITY) return fault
  if (buf[pdu + 5] !== bytes) return FAULT.BYTE_COUNT
  return length === 6 + bytes ? fault : FAULT.LENGTH
}

/** §6.17: at most 125 registers read, 121 written. */
function readWrite(buf: Uint8Array, pdu: number, length: number): number {
  if (length < 10) return FAULT.LENGTH
  const read = span(buf, pdu, 125)
  const write = span(buf, pdu + 4, 121)
  if (read === FAULT.QUANTITY || write === FAULT.QUANTITY) return FAULT.QUANTITY
  const bytes = ((buf[pdu + 7] << 8) | buf[pdu + 8]) * 2
  if (buf[pdu + 9] !== bytes) return FAULT.BYTE_COUNT
  if (length !== 10 + bytes) return FAULT.LENGTH
  return read !== 0 ? read : write
}

/** §6.8.1. */
function diagnostics(buf: Uint8Array, pdu: number, length: number): number {
  if (length < 3) return FAULT.LENGTH
  const sub = (buf[pdu + 1] << 8) | buf[pdu + 2]
  // Return Query Data echoes whatever it is given; "N x 2 bytes" (§6.8).
  if (sub === 0) return length >= 5 && (length & 1) === 1 ? 0 : FAULT.LENGTH
  if (sub === 19 || sub > 20 || (sub > 4 && sub < 10)) return FAULT.SUB_FUNCTION
  if (length !== 5) return FAULT.LENGTH
  const high = buf[pdu + 3]
  const low = buf[pdu + 4]
  if (sub === 1) return low === 0 && (high === 0 || high === 0xff) ? 0 : FAULT.SUB_FUNCTION_DATA
  // Change ASCII Input Delimiter: CHAR, 00.
  if (sub === 3) return low === 0 ? 0 : FAULT.SUB_FUNCTION_DATA
  return high === 0 && low === 0 ? 0 : FAULT.SUB_FUNCTION_DATA
}

/** §6.14: sub-requests of 7 bytes; what they ask for must fit into one response. */
function readFile(buf: Uint8Array, pdu: number, end: number): number {
  if (end - pdu < 2) return FAULT.LENGTH
  const count = buf[pdu + 1]
  if (count < 7 || count > 245 || count % 7 !== 0) return FAULT.BYTE_COUNT
  if (end - pdu !== 2 + count) return FAULT.LENGTH
  let response = 2
  for (let at = pdu + 2; at < end; at += 7) {
    if (buf[at] !== 6) return FAULT.FILE_REFERENCE
    const records = (buf[at + 5] << 8) | buf[at + 6]
    if (fileSpan(buf, at, records) !== 0) return FAULT.FILE_RECORD
    response += 2 + records * 2
  }
  return response > 253 ? FAULT.QUANTITY : 0
}

/** §6.15: sub-requests of 7 bytes and their registers, ending exactly with the PDU. */
function writeFile(buf: Uint8Array, pdu: number, end: number): number {
  if (end - pdu < 2) return FAULT.LENGTH
  const count = buf[pdu + 1]
  if (count < 9 || count > 251) return FAULT.BYTE_COUNT
  if (end - pdu !== 2 + count) return FAULT.LENGTH
  let at = pdu + 2
  while (at < end) {
    if (end - at < 7) return FAULT.LENGTH
    if (buf[at] !== 6) return FAULT.FILE_REFERENCE
    const records = (buf[at + 5] << 8) | buf[at + 6]
    if (fileSpan(buf, at, records) !== 0) return FAULT.FILE_RECORD
    at += 7 + records * 2
  }
  return at === end ? 0 : FAULT.LENGTH
}

/** File number from 1, record numbers 0…9999 (0x270F), at least one record. */
function fileSpan(buf: Uint8Array, at: number, records: number): number {
  const file = (buf[at + 1] << 8) | buf[at + 2]
  const first = (buf[at + 3] << 8) | buf[at + 4]
  return file === 0 || records === 0 || first > 9999 || first + records > 10000 ? FAULT.FILE_RECORD : 0
}

/** §6.19-6.21. */
function encapsulated(buf: Uint8Array, pdu: number, length: number): number {
  if (length < 2) return FAULT.LENGTH
  const type = buf[pdu + 1]
  if (type === 13) return 0
  if (type !== 14) return FAULT.MEI_TYPE
  if (length !== 4) return FAULT.LENGTH
  return buf[pdu + 2] >= 1 && buf[pdu + 2] <= 4 ? 0 : FAULT.DEVICE_ID_CODE
}

/** Whether a request is answered at all: all are but FC 8 sub-function 4. */
export function expectsResponse(buf: Uint8Array, pdu: number, end: number): boolean {
  return buf[pdu] !== 8 || end - pdu < 3 || ((buf[pdu + 1] << 8) | buf[pdu + 2]) !== FORCE_LISTEN_ONLY
}
