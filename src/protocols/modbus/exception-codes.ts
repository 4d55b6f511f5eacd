/** Exception codes of the Modbus Application Protocol V1.1b3 §7. */

export interface ExceptionCode {
  code: number
  name: string
  /** What the specification says it means. */
  meaning: string
}

export const EXCEPTION = {
  ILLEGAL_FUNCTION: 0x01,
  ILLEGAL_DATA_ADDRESS: 0x02,
  ILLEGAL_DATA_VALUE: 0x03,
  SERVER_DEVICE_FAILURE: 0x04,
  ACKNOWLEDGE: 0x05,
  SERVER_DEVICE_BUSY: 0x06,
  MEMORY_PARITY_ERROR: 0x08,
  GATEWAY_PATH_UNAVAILABLE: 0x0a,
  GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND: 0x0b,
} as const

/** Every exception code of §7, by code. */
export const EXCEPTIONS: ReadonlyMap<number, ExceptionCode> = new Map(
  (
    [
      [
        EXCEPTION.ILLEGAL_FUNCTION,
        'illegal-function',
        'The function code received in the query is not an allowable action for the server.',
      ],
      [
        EXCEPTION.ILLEGAL_DATA_ADDRESS,
        'illegal-data-address',
        'The data address received in the query is not an allowable address for the server: the combination of reference number and transfer length is invalid.',
      ],
      [
        EXCEPTION.ILLEGAL_DATA_VALUE,
        'illegal-data-value',
        'A value contained in the query data field is not an allowable value for the server: a fault in the structure of the remainder of a complex request, such as an implied length that is incorrect.',
      ],
      [
        EXCEPTION.SERVER_DEVICE_FAILURE,
        'server-device-failure',
        'An unrecoverable error occurred while the server was attempting to perform the requested action.',
      ],
      [
        EXCEPTION.ACKNOWLEDGE,
        'acknowledge',
        'The server has accepted the request and is processing it, but a long duration of time will be required to do so.',
      ],
      [
        EXCEPTION.SERVER_DEVICE_BUSY,
        'server-device-busy',
        'The server is engaged in processing a long-duration program command; the client should retransmit the message later.',
      ],
      [
        EXCEPTION.MEMORY_PARITY_ERROR,
        'memory-parity-error',
        'The server attempted to read a record file, but detected a parity error in the memory (function codes 20 and 21).',
      ],
      [
        EXCEPTION.GATEWAY_PATH_UNAVAILABLE,
        'gateway-path-unavailable',
        'The gateway was unable to allocate an internal communication path from the input port to the output port for processing the request.',
      ],
      [
        EXCEPTION.GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND,
        'gateway-target-device-failed-to-respond',
        'No response was obtained from the target device; usually the device is not present on the network.',
      ],
    ] as [number, string, string][]
  ).map(([code, name, meaning]) => [code, { code, name, meaning }]),
)

/** @returns the name of an exception code, 0…255; `exception-7` where V1.1b3 §7 has none */
export function exceptionName(code: number): string {
  return EXCEPTIONS.get(code)?.name ?? `exception-${code}`
}

/** @returns whether V1.1b3 §7 knows the exception code: 1…6, 8, 0x0A, 0x0B */
export function isStandardException(code: number): boolean {
  // A bit for each code: no look-up on the way of an exception response.
  return code < 32 && ((0b1101_0111_1110 >> code) & 1) === 1
}
