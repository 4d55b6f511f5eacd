/** What is wrong with a PDU by the specification, as small integers; 0 is nothing. */
export const FAULT = {
  NONE: 0,
  /** Shorter or longer than its function and counts say. */
  LENGTH: 1,
  QUANTITY: 2,
  BYTE_COUNT: 3,
  COIL_VALUE: 4,
  /** Address + quantity is beyond 65 536: the one fault that V1.1b3 answers with exception 02. */
  ADDRESS_OVERFLOW: 5,
  SUB_FUNCTION: 6,
  SUB_FUNCTION_DATA: 7,
  FILE_REFERENCE: 8,
  FILE_RECORD: 9,
  MEI_TYPE: 10,
  DEVICE_ID_CODE: 11,
  /** A response: an exception code that §7 does not list. */
  EXCEPTION_CODE: 12,
  /** A response that is whole, with bytes behind its end. */
  TRAILING: 13,
  FIFO_COUNT: 14,
  OBJECTS: 15,
  STATUS: 16,
  /** A response whose byte count is not what the request asked for. */
  MISMATCH_COUNT: 17,
  /** A response that does not echo what the request owes it. */
  MISMATCH_ECHO: 18,
} as const

const TEXTS: readonly string[] = [
  '',
  'PDU length does not fit the function',
  'quantity is 0 or beyond the limit of the function',
  'byte count does not fit the quantity or the length',
  'coil value is neither 0x0000 nor 0xFF00',
  'address + quantity is beyond 65536',
  'reserved sub-function',
  'data of the sub-function is not what V1.1b3 §6.8.1 allows',
  'file reference type is not 6',
  'file record number or length is out of range',
  'MEI type is neither 13 nor 14',
  'read device identification code is not 1…4',
  'exception code is not one of V1.1b3 §7',
  'bytes behind the end of the response',
  'FIFO count is above 31',
  'object list does not end with the PDU',
  'status word is neither 0x0000 nor 0xFFFF',
  'byte count is not what the request asked for',
  'does not echo the request',
]

/** One clause for a person. */
export const faultText = (fault: number): string => TEXTS[fault] ?? ''

/** The exception code by which a server answers a request with this fault (V1.1b3 §6, §7). */
export const faultException = (fault: number): 2 | 3 => (fault === FAULT.ADDRESS_OVERFLOW ? 2 : 3)
