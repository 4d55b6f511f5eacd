/**
 * Holds a Modbus request PDU to the Modbus Application Protocol V1.1b3 §6: lengths, quantities, byte counts, address
 * ranges, coil values, sub-functions. Every allowed frame passes here, so: offsets and small integers only.
 */
import { FAULT } from './faults.ts'

export { describeFault, FAULT, faultException, faultText } from './faults.ts'

/** Largest Modbus PDU in bytes (V1.1b3 §4.1). */
export const MAX_PDU = 253

/** The largest quantity that a read of coils, inputs or registers may ask for (V1.1b3 §6.1 to §6.4); other codes: 0. */
export function readLimit(code: number): number {
  if (code === 1 || code === 2) return 2000
  return code === 3 || code === 4 ? 125 : 0
}

/**
 * Checks one request PDU, function code first, at [pdu, end) of `buf`. Never throws, never reads outside.
 * @returns 0 where the request keeps V1.1b3 or its function code is not a public one; else the first of `FAULT` found,
 *   malformations before address overflow (V1.1b3 §7 answers these with exception 03 and 02)
 */
export function checkRequest(buf: Uint8Array, pdu: number, end: number): number {
  const length = end - pdu
  if (length < 1) return FAULT.LENGTH
  switch (buf[pdu]) {
    case 1: // §6.1
    case 2: // §6.2
    case 3: // §6.3
    case 4: {
      // §6.4
      if (length !== 5) return FAULT.LENGTH
      const quantity = (buf[pdu + 3] << 8) | buf[pdu + 4]
      if (quantity < 1 || quantity > readLimit(buf[pdu])) return FAULT.QUANTITY
      return ((buf[pdu + 1] << 8) | buf[pdu + 2]) + quantity > 65536 ? FAULT.ADDRESS_OVERFLOW : 0
    }
    case 5: {
      // §6.5
      if (length !== 5) return FAULT.LENGTH
      const value = (buf[pdu + 3] << 8) | buf[pdu + 4]
      return value === 0xff00 || value === 0 ? 0 : FAULT.COIL_VALUE
    }
    case 6: // §6.6
      return length === 5 ? 0 : FAULT.LENGTH
    case 15: {
      // §6.11; pad bits of the last byte may hold anything: the clause asks no value of them in a request
      if (length < 6) return FAULT.LENGTH
      const quantity = (buf[pdu + 3] << 8) | buf[pdu + 4]
      if (quantity < 1 || quantity > 1968) return FAULT.QUANTITY
      const count = buf[pdu + 5]
      if (count !== (quantity + 7) >> 3) return FAULT.BYTE_COUNT
      if (length !== 6 + count) return FAULT.LENGTH
      return ((buf[pdu + 1] << 8) | buf[pdu + 2]) + quantity > 65536 ? FAULT.ADDRESS_OVERFLOW : 0
    }
    case 16: {
      // §6.12
      if (length < 6) return FAULT.LENGTH
      const quantity = (buf[pdu + 3] << 8) | buf[pdu + 4]
      if (quantity < 1 || quantity > 123) return FAULT.QUANTITY
      const count = buf[pdu + 5]
      if (count !== quantity << 1) return FAULT.BYTE_COUNT
      if (length !== 6 + count) return FAULT.LENGTH
      return ((buf[pdu + 1] << 8) | buf[pdu + 2]) + quantity > 65536 ? FAULT.ADDRESS_OVERFLOW : 0
    }
    case 23: {
      // §6.17
      if (length < 10) return FAULT.LENGTH
      const quantity = (buf[pdu + 3] << 8) | buf[pdu + 4]
      if (quantity < 1 || quantity > 125) return FAULT.QUANTITY
      const written = (buf[pdu + 7] << 8) | buf[pdu + 8]
      if (written < 1 || written > 121) return FAULT.WRITE_QUANTITY
      const count = buf[pdu + 9]
      if (count !== written << 1) return FAULT.BYTE_COUNT
      if (length !== 10 + count) return FAULT.LENGTH
      if (((buf[pdu + 1] << 8) | buf[pdu + 2]) + quantity > 65536) return FAULT.ADDRESS_OVERFLOW
      return ((buf[pdu + 5] << 8) | buf[pdu + 6]) + written > 65536 ? FAULT.ADDRESS_OVERFLOW : 0
    }
    case 7: // §6.7
    case 11: // §6.9
    case 12: // §6.10
    case 17: // §6.13
      return length === 1 ? 0 : FAULT.LENGTH
    case 8:
      return checkDiagnostics(buf, pdu, length)
    case 20:
      return checkReadFileRecord(buf, pdu, length)
    case 21:
      return checkWriteFileRecord(buf, pdu, end)
    case 22: // §6.16
      return length === 7 ? 0 : FAULT.LENGTH
    case 24: // §6.18
      return length === 3 ? 0 : FAULT.LENGTH
    case 43:
      return checkEncapsulatedInterface(buf, pdu, length)
    default:
      return 0
  }
}

/** §6.8: sub-functions 5…9, 19 and above 20 are reserved; each of the others says what its data field holds. */
function checkDiagnostics(buf: Uint8Array, pdu: number, length: number): number {
  if (length < 5) return FAULT.LENGTH
  const sub = (buf[pdu + 1] << 8) | buf[pdu + 2]
  // Return Query Data: N × 2 bytes of anything.
  if (sub === 0) return (length & 1) === 1 && length <= MAX_PDU ? 0 : FAULT.LENGTH
  if (sub > 20 || sub === 19 || (sub > 4 && sub < 10)) return FAULT.SUB_FUNCTION
  if (length !== 5) return FAULT.LENGTH
  const data = (buf[pdu + 3] << 8) | buf[pdu + 4]
  if (data === 0) return 0
  if (sub === 1) return data === 0xff00 ? 0 : FAULT.DIAGNOSTIC_DATA
  if (sub === 3) return (data & 0xff) === 0 ? 0 : FAULT.DIAGNOSTIC_DATA
  return FAULT.DIAGNOSTIC_DATA
}

/** §6.14: sub-requests of 7 bytes, whose answers fit one response: 2 + Σ (2 + 2 × record length) ≤ 253. */
function checkReadFileRecord(buf: Uint8Array, pdu: number, length: number): number {
  if (length < 2) return FAULT.LENGTH
  const count = buf[pdu + 1]
  if (count < 7 || count > 245 || count % 7 !== 0) return FAULT.BYTE_COUNT
  if (length !== 2 + count) return FAULT.LENGTH
  let response = 2
  let overflow = 0
  for (let at = pdu + 2; at < pdu + length; at += 7) {
    const fault = checkSubRequest(buf, at)
    if (fault !== 0 && fault !== FAULT.ADDRESS_OVERFLOW) return fault
    overflow |= fault
    response += 2 + 2 * ((buf[at + 5] << 8) | buf[at + 6])
    if (response > MAX_PDU) return FAULT.RESPONSE_TOO_LONG
  }
  return overflow
}

/** §6.15: sub-requests of 7 bytes and their records, which end with the PDU. */
function checkWriteFileRecord(buf: Uint8Array, pdu: number, end: number): number {
  if (end - pdu < 2) return FAULT.LENGTH
  const count = buf[pdu + 1]
  if (count < 9 || count > 251) return FAULT.BYTE_COUNT
  if (end - pdu !== 2 + count) return FAULT.LENGTH
  let overflow = 0
  let at = pdu + 2
  while (at < end) {
    if (end - at < 7) return FAULT.RECORD_LENGTH
    const fault = checkSubRequest(buf, at)
    if (fault !== 0 && fault !== FAULT.ADDRESS_OVERFLOW) return fault
    overflow |= fault
    at += 7 + 2 * ((buf[at + 5] << 8) | buf[at + 6])
    if (at > end) return FAULT.RECORD_LENGTH
  }
  return overflow
}

/** The 7 bytes that begin each sub-request of §6.14 and §6.15: reference type, file, record number, record length. */
function checkSubRequest(buf: Uint8Array, at: number): number {
  if (buf[at] !== 6) return FAULT.REFERENCE_TYPE
  if ((buf[at + 1] | buf[at + 2]) === 0) return FAULT.FILE_NUMBER
  const record = (buf[at + 3] << 8) | buf[at + 4]
  if (record > 9999) return FAULT.RECORD_NUMBER
  const registers = (buf[at + 5] << 8) | buf[at + 6]
  if (registers === 0) return FAULT.RECORD_LENGTH
  return record + registers > 10000 ? FAULT.ADDRESS_OVERFLOW : 0
}

/** §6.19…§6.21: MEI type 14 is four bytes with a read code 1…4; what follows MEI type 13 is CANopen's (CiA 309). */
function checkEncapsulatedInterface(buf: Uint8Array, pdu: number, length: number): number {
  if (length < 2) return FAULT.LENGTH
  const type = buf[pdu + 1]
  if (type === 13) return length <= MAX_PDU ? 0 : FAULT.LENGTH
  if (type !== 14) return FAULT.MEI_TYPE
  if (length !== 4) return FAULT.LENGTH
  const code = buf[pdu + 2]
  return code >= 1 && code <= 4 ? 0 : FAULT.READ_DEVICE_ID_CODE
}

/**
 * @param buf holds the request PDU at [pdu, end)
 * @returns false for Force Listen Only Mode alone, which the specification leaves unanswered (V1.1b3 §6.8.1, 04)
 */
export function expectsResponse(buf: Uint8Array, pdu: number, end: number): boolean {
  return end - pdu < 3 || buf[pdu] !== 8 || ((buf[pdu + 1] << 8) | buf[pdu + 2]) !== 4
}
