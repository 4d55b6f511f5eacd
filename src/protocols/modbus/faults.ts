/**
 * What a request or response can have against the Modbus Application Protocol V1.1b3, as small integers for the hot
 * path and as sentences for events. Faults of requests and of responses are numbered apart where their sentences
 * differ, so that a fault alone tells its direction.
 */
import { FUNCTION_CODES, functionName } from './function-codes.ts'

export const FAULT = {
  NONE: 0,
  // Requests (some also in responses that echo the request).
  LENGTH: 1,
  QUANTITY: 2,
  BYTE_COUNT: 3,
  ADDRESS_OVERFLOW: 4,
  COIL_VALUE: 5,
  SUB_FUNCTION: 6,
  DIAGNOSTIC_DATA: 7,
  MEI_TYPE: 8,
  READ_DEVICE_ID_CODE: 9,
  REFERENCE_TYPE: 10,
  FILE_NUMBER: 11,
  RECORD_NUMBER: 12,
  RECORD_LENGTH: 13,
  RESPONSE_TOO_LONG: 14,
  WRITE_QUANTITY: 15,
  // Responses.
  RESPONSE_LENGTH: 16,
  RESPONSE_BYTE_COUNT: 17,
  TRAILING: 18,
  EXCEPTION_CODE: 19,
  EXCEPTION_ZERO: 20,
  FIFO_COUNT: 21,
  OBJECT_LIST: 22,
  MORE_FOLLOWS: 23,
  STATUS_WORD: 24,
  // Pairing: the response is well formed and is not the answer that the request is owed.
  MISMATCH_FUNCTION: 25,
  MISMATCH_COUNT: 26,
  MISMATCH_ECHO: 27,
} as const

export type Fault = (typeof FAULT)[keyof typeof FAULT]

const TEXT: Readonly<Record<number, string>> = {
  [FAULT.NONE]: 'no fault',
  [FAULT.LENGTH]: 'PDU length is not what the function code demands',
  [FAULT.QUANTITY]: 'quantity outside the limits of the function code',
  [FAULT.BYTE_COUNT]: 'byte count does not agree with the quantity, or is outside its limits',
  [FAULT.ADDRESS_OVERFLOW]: 'address + quantity beyond 65536 (or record beyond 9999 of a file)',
  [FAULT.COIL_VALUE]: 'coil value other than 0x0000 and 0xFF00',
  [FAULT.SUB_FUNCTION]: 'reserved sub-function of diagnostics',
  [FAULT.DIAGNOSTIC_DATA]: 'data field is not what the sub-function of diagnostics demands',
  [FAULT.MEI_TYPE]: 'MEI type other than 13 and 14',
  [FAULT.READ_DEVICE_ID_CODE]: 'read device ID code outside 1…4',
  [FAULT.REFERENCE_TYPE]: 'reference type other than 6',
  [FAULT.FILE_NUMBER]: 'file number 0',
  [FAULT.RECORD_NUMBER]: 'record number beyond 9999',
  [FAULT.RECORD_LENGTH]: 'record length 0, or records that do not end with the PDU',
  [FAULT.RESPONSE_TOO_LONG]: 'records asked for would not fit one response',
  [FAULT.WRITE_QUANTITY]: 'quantity to write outside the limits of the function code',
  [FAULT.RESPONSE_LENGTH]: 'response PDU length is not what the function code demands',
  [FAULT.RESPONSE_BYTE_COUNT]: 'response byte count outside the limits of the function code',
  [FAULT.TRAILING]: 'bytes after the end of the response PDU',
  [FAULT.EXCEPTION_CODE]: 'exception code that the specification does not know',
  [FAULT.EXCEPTION_ZERO]: 'exception code 0',
  [FAULT.FIFO_COUNT]: 'FIFO count beyond 31, or not in agreement with the byte count',
  [FAULT.OBJECT_LIST]: 'device identification objects do not end with the PDU',
  [FAULT.MORE_FOLLOWS]: 'more follows is neither 0x00 nor 0xFF',
  [FAULT.STATUS_WORD]: 'status word is neither 0x0000 nor 0xFFFF',
  [FAULT.MISMATCH_FUNCTION]: 'response carries another function code than the request',
  [FAULT.MISMATCH_COUNT]: 'response carries another amount of data than was asked for',
  [FAULT.MISMATCH_ECHO]: 'response does not echo the request',
}

/** @returns the fault in one sentence, without the bytes at hand */
export function faultText(fault: number): string {
  return TEXT[fault] ?? `fault ${fault}`
}

/**
 * @returns the exception code that answers a request with this fault: 2 (illegal data address) where the addresses run
 *   past the end of the table, 3 (illegal data value) for everything else (V1.1b3 §7)
 */
export function faultException(fault: number): 2 | 3 {
  return fault === FAULT.ADDRESS_OVERFLOW ? 2 : 3
}

/** Bytes of a request PDU, function code included, as the clause puts it. */
const REQUEST_LENGTH: Readonly<Record<number, string>> = {
  7: '1',
  8: '5 (or 3 + an even number of data bytes for sub-function 0)',
  11: '1',
  12: '1',
  15: '6 + byte count',
  16: '6 + byte count',
  17: '1',
  20: '2 + byte count',
  21: '2 + byte count',
  22: '7',
  23: '10 + byte count',
  24: '3',
  43: '4 for MEI type 14, at least 2 for MEI type 13',
}

const RESPONSE_LENGTH: Readonly<Record<number, string>> = {
  5: '5',
  6: '5',
  7: '2',
  8: '5 (or 3 + an even number of data bytes for sub-function 0)',
  11: '5',
  15: '5',
  16: '5',
  22: '7',
  24: '3 + byte count',
  43: 'at least 7 for MEI type 14, at least 2 for MEI type 13',
}

/** Limits of the quantity read or written. */
const QUANTITY: Readonly<Record<number, string>> = {
  1: '1…2000',
  2: '1…2000',
  3: '1…125',
  4: '1…125',
  15: '1…1968',
  16: '1…123',
  23: '1…125',
}

/**
 * The fault in one sentence, with what was found and what was expected: for events, off the hot path.
 * @param fault of `checkRequest`, `checkResponse` or `matchResponse`
 * @param buf holds the PDU at [pdu, end)
 */
export function describeFault(fault: number, buf: Uint8Array, pdu: number, end: number): string {
  const length = end - pdu
  if (length < 1) return 'PDU without a function code'
  const raw = buf[pdu]
  const code = raw & 0x7f
  const detail = raw >= 0x80 ? describeException(fault, buf, pdu, length) : describeFields(fault, buf, pdu, length)
  const section = raw >= 0x80 ? '7' : FUNCTION_CODES.get(code)?.section
  const clause = section === undefined ? '' : ` (V1.1b3 §${section})`
  return `${functionName(code)}: ${detail ?? faultText(fault)}${clause}`
}

/** A sentence of values, or null where one of them is not there: no more can be said then than `faultText` says. */
function known(strings: TemplateStringsArray, ...values: (string | number | null | undefined)[]): string | null {
  return values.some((value) => value === null || value === undefined) ? null : String.raw(strings, ...values)
}

function describeException(fault: number, buf: Uint8Array, pdu: number, length: number): string | null {
  if (fault === FAULT.EXCEPTION_CODE && length > 1) {
    return `exception code ${buf[pdu + 1]}, expected 1…6, 8, 10 or 11`
  }
  if (fault === FAULT.RESPONSE_LENGTH || fault === FAULT.TRAILING) {
    return `exception response of ${bytes(length)}, expected 2`
  }
  return null
}

function describeFields(fault: number, buf: Uint8Array, pdu: number, length: number): string | null {
  const code = buf[pdu]
  const word = (at: number) => (at + 2 <= length ? (buf[pdu + at] << 8) | buf[pdu + at + 1] : null)
  const byte = (at: number) => (at < length ? buf[pdu + at] : null)
  switch (fault) {
    case FAULT.LENGTH:
      return `PDU of ${bytes(length)}, expected ${REQUEST_LENGTH[code] ?? '5'}`
    case FAULT.RESPONSE_LENGTH:
      return `response PDU of ${bytes(length)}, expected ${RESPONSE_LENGTH[code] ?? '2 + byte count'}`
    case FAULT.QUANTITY:
      return known`quantity ${word(3)}, expected ${QUANTITY[code]}`
    case FAULT.WRITE_QUANTITY:
      return known`quantity to write ${word(7)}, expected 1…121`
    case FAULT.BYTE_COUNT:
      return describeByteCount(code, word(code === 23 ? 7 : 3), byte(code === 23 ? 9 : code < 20 ? 5 : 1))
    case FAULT.RESPONSE_BYTE_COUNT:
      return known`byte count ${byte(1)}, expected ${RESPONSE_BYTE_COUNT[code] ?? 'at least 1'}`
    case FAULT.ADDRESS_OVERFLOW:
      return code === 20 || code === 21
        ? 'records beyond 9999, the last of a file'
        : describeOverflow(word(1), word(3), code === 23 ? word(5) : null, word(7))
    case FAULT.COIL_VALUE:
      return known`coil value ${hex(word(3), 4)}, expected 0x0000 or 0xFF00`
    case FAULT.SUB_FUNCTION:
      return known`sub-function ${word(1)} is reserved, expected 0…4, 10…18 or 20`
    case FAULT.DIAGNOSTIC_DATA:
      return known`data field ${hex(word(3), 4)} of sub-function ${word(1)}, expected ${diagnosticData(word(1))}`
    case FAULT.MEI_TYPE:
      return known`MEI type ${byte(1)}, expected 13 or 14`
    case FAULT.READ_DEVICE_ID_CODE:
      return known`read device ID code ${byte(2)}, expected 1…4`
    case FAULT.MORE_FOLLOWS:
      return known`more follows ${hex(byte(4), 2)}, expected 0x00 or 0xFF`
    case FAULT.STATUS_WORD:
      return known`status word ${hex(word(code === 12 ? 2 : 1), 4)}, expected 0x0000 or 0xFFFF`
    case FAULT.FIFO_COUNT:
      return known`FIFO count ${word(3)} in a byte count of ${word(1)}, expected at most 31 and byte count 2 + 2 × FIFO count`
    default:
      return null
  }
}

const RESPONSE_BYTE_COUNT: Readonly<Record<number, string>> = {
  1: '1…250',
  2: '1…250',
  3: 'an even number 2…250',
  4: 'an even number 2…250',
  12: '6…70',
  20: '4…251, records and all',
  21: '9…251',
  23: 'an even number 2…250',
}

function describeByteCount(code: number, quantity: number | null, count: number | null): string | null {
  if (code === 20) return known`byte count ${count}, expected a multiple of 7 in 7…245`
  if (code === 21) return known`byte count ${count}, expected 9…251`
  const owed = quantity === null ? null : code === 15 ? (quantity + 7) >> 3 : 2 * quantity
  return known`byte count ${count}, expected ${owed} for quantity ${quantity}`
}

function describeOverflow(
  address: number | null,
  quantity: number | null,
  writeAddress: number | null,
  writeQuantity: number | null,
): string | null {
  const readFits = address !== null && quantity !== null && address + quantity <= 65536
  return writeAddress !== null && readFits
    ? known`write address ${writeAddress} + quantity ${writeQuantity} runs past 65535`
    : known`address ${address} + quantity ${quantity} runs past 65535`
}

function diagnosticData(sub: number | null): string {
  if (sub === 1) return '0x0000 or 0xFF00'
  return sub === 3 ? 'a character and 0x00' : '0x0000'
}

const bytes = (count: number) => `${count} byte${count === 1 ? '' : 's'}`

function hex(value: number | null, digits: number): string | null {
  return value === null ? null : `0x${value.toString(16).toUpperCase().padStart(digits, '0')}`
}
