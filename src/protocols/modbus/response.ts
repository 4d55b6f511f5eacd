/**
 * Responses held to V1.1b3 §6, and to the request that they answer. Hot path: see request.ts.
 */
import { FAULT } from './faults.ts'
import { isStandardException } from './function-codes.ts'

/**
 * @param buf the PDU is `buf[pdu…end)`; at least its function code is there
 * @returns 0 or one of `FAULT`; `TRAILING` where all is well but for bytes behind the end
 */
export function checkResponse(buf: Uint8Array, pdu: number, end: number): number {
  const length = end - pdu
  const code = buf[pdu]
  if (code >= 0x80) {
    if (length < 2) return FAULT.LENGTH
    if (length > 2) return FAULT.TRAILING
    return isStandardException(buf[pdu + 1]) ? 0 : FAULT.EXCEPTION_CODE
  }
  switch (code) {
    case 3:
    case 4:
    case 23:
      if (length < 2) return FAULT.LENGTH
      if ((buf[pdu + 1] & 1) !== 0 || buf[pdu + 1] === 0 || buf[pdu + 1] > 250) return FAULT.BYTE_COUNT
      return exactly(length, 2 + buf[pdu + 1])
    case 1:
    case 2:
      if (length < 2) return FAULT.LENGTH
      if (buf[pdu + 1] === 0 || buf[pdu + 1] > 250) return FAULT.BYTE_COUNT
      return exactly(length, 2 + buf[pdu + 1])
    case 5:
      if (length < 5) return FAULT.LENGTH
      if (buf[pdu + 4] !== 0 || (buf[pdu + 3] !== 0 && buf[pdu + 3] !== 0xff)) return FAULT.COIL_VALUE
      return exactly(length, 5)
    case 6:
    case 11:
      if (code === 11 && length >= 5 && !statusWord(buf, pdu + 1)) return FAULT.STATUS
      return exactly(length, 5)
    case 15:
      return length < 5 ? FAULT.LENGTH : quantity(buf, pdu, 1968) || exactly(length, 5)
    case 16:
      return length < 5 ? FAULT.LENGTH : quantity(buf, pdu, 123) || exactly(length, 5)
    case 7:
      return exactly(length, 2)
    case 8:
      return diagnostics(buf, pdu, length)
    case 12:
      // §6.10: status, event count, message count: 6 bytes, then 0…64 events.
      if (length < 8) return FAULT.LENGTH
      if (buf[pdu + 1] < 6 || buf[pdu + 1] > 70) return FAULT.BYTE_COUNT
      return exactly(length, 2 + buf[pdu + 1])
    case 17:
      return length < 2 ? FAULT.LENGTH : exactly(length, 2 + buf[pdu + 1])
    case 20:
      return files(buf, pdu, end)
    case 21:
      return writtenFiles(buf, pdu, end)
    case 22:
      return exactly(length, 7)
    case 24:
      return fifo(buf, pdu, length)
    case 43:
      return encapsulated(buf, pdu, end)
    default:
      return 0
  }
}

function exactly(length: number, expected: number): number {
  return length === expected ? 0 : length < expected ? FAULT.LENGTH : FAULT.TRAILING
}

function quantity(buf: Uint8Array, pdu: number, most: number): number {
  const count = (buf[pdu + 3] << 8) | buf[pdu + 4]
  if (count === 0 || count > most) return FAULT.QUANTITY
  return ((buf[pdu + 1] << 8) | buf[pdu + 2]) + count > 65536 ? FAULT.ADDRESS_OVERFLOW : 0
}

/** §6.9: all ones while a former command is processed, else zero. */
function statusWord(buf: Uint8Array, at: number): boolean {
  return buf[at] === buf[at + 1] && (buf[at] === 0 || buf[at] === 0xff)
}

function diagnostics(buf: Uint8Array, pdu: number, length: number): number {
  if (length < 5) return FAULT.LENGTH
  const sub = (buf[pdu + 1] << 8) | buf[pdu + 2]
  if (sub === 0) return (length & 1) === 1 ? 0 : FAULT.LENGTH
  if (sub === 19 || sub > 20 || (sub > 3 && sub < 10)) return FAULT.SUB_FUNCTION
  return exactly(length, 5)
}

/** §6.14: groups of length, reference type, registers. */
function files(buf: Uint8Array, pdu: number, end: number): number {
  if (end - pdu < 2) return FAULT.LENGTH
  const count = buf[pdu + 1]
  if (count < 4 || count > 251) return FAULT.BYTE_COUNT
  const stop = pdu + 2 + count
  if (stop > end) return FAULT.LENGTH
  let at = pdu + 2
  while (at < stop) {
    // The length counts the reference type and the registers.
    if (stop - at < 2 || buf[at] < 3 || (buf[at] & 1) === 0) return FAULT.BYTE_COUNT
    if (buf[at + 1] !== 6) return FAULT.FILE_REFERENCE
    at += 1 + buf[at]
  }
  if (at !== stop) return FAULT.BYTE_COUNT
  return stop < end ? FAULT.TRAILING : 0
}

/** §6.15: the echo of the request. */
function writtenFiles(buf: Uint8Array, pdu: number, end: number): number {
  if (end - pdu < 2) return FAULT.LENGTH
  const count = buf[pdu + 1]
  if (count < 9 || count > 251) return FAULT.BYTE_COUNT
  return exactly(end - pdu, 2 + count)
}

/** §6.18: byte count (with the FIFO count's two bytes), FIFO count ≤ 31, registers. */
function fifo(buf: Uint8Array, pdu: number, length: number): number {
  if (length < 5) return FAULT.LENGTH
  const bytes = (buf[pdu + 1] << 8) | buf[pdu + 2]
  const count = (buf[pdu + 3] << 8) | buf[pdu + 4]
  if (count > 31) return FAULT.FIFO_COUNT
  if (bytes !== 2 + count * 2) return FAULT.BYTE_COUNT
  return exactly(length, 3 + bytes)
}

/** §6.21: MEI type, code, conformity, more follows, next object, number of objects, objects. */
function encapsulated(buf: Uint8Array, pdu: number, end: number): number {
  if (end - pdu < 2) return FAULT.LENGTH
  if (buf[pdu + 1] === 13) return 0
  if (buf[pdu + 1] !== 14) return FAULT.MEI_TYPE
  if (end - pdu < 7) return FAULT.LENGTH
  if (buf[pdu + 2] < 1 || buf[pdu + 2] > 4) return FAULT.DEVICE_ID_CODE
  let at = pdu + 7
  for (let i = buf[pdu + 6]; i > 0; i--) {
    if (end - at < 2) return FAULT.OBJECTS
    at += 2 + buf[at + 1]
  }
  return at === end ? 0 : at < end ? FAULT.TRAILING : FAULT.OBJECTS
}

/**
 * Notes what a request owes, for `matchResponse`: three words at `words[at…at+3)`. The request has passed
 * `checkRequest`, or is of monitor mode and may be cut short: then the words are as good as what is there.
 */
export function noteRequest(buf: Uint8Array, pdu: number, end: number, words: Int32Array, at: number): void {
  words[at + 1] = 0
  words[at + 2] = 0
  switch (buf[pdu]) {
    case 3:
    case 4:
    case 23:
      words[at] = ((buf[pdu + 3] << 8) | buf[pdu + 4]) * 2
      return
    case 1:
    case 2:
      words[at] = (((buf[pdu + 3] << 8) | buf[pdu + 4]) + 7) >> 3
      return
    case 5:
    case 6:
    case 15:
    case 16:
      words[at] = (buf[pdu + 1] << 24) | (buf[pdu + 2] << 16) | (buf[pdu + 3] << 8) | buf[pdu + 4]
      return
    case 22:
      words[at] = (buf[pdu + 1] << 24) | (buf[pdu + 2] << 16) | (buf[pdu + 3] << 8) | buf[pdu + 4]
      words[at + 1] = (buf[pdu + 5] << 8) | buf[pdu + 6]
      return
    case 8:
      words[at] = (buf[pdu + 1] << 8) | buf[pdu + 2]
      words[at + 1] = hash(buf, pdu + 3, end)
      return
    case 20:
      words[at] = fileLengths(buf, pdu, end)
      return
    case 21:
      words[at] = hash(buf, pdu + 1, end)
      words[at + 1] = end - pdu
      return
    case 43:
      words[at] = (buf[pdu + 1] << 8) | (buf[pdu + 1] === 14 ? buf[pdu + 2] : 0)
      return
    default:
      words[at] = 0
  }
}

/**
 * Whether a response (that has passed `checkResponse`, or has `TRAILING` bytes) gives what `noteRequest` noted. The
 * function codes agree. An exception answers any request of its function.
 * @returns 0, `MISMATCH_COUNT` or `MISMATCH_ECHO`
 */
export function matchResponse(buf: Uint8Array, pdu: number, end: number, words: Int32Array, at: number): number {
  switch (buf[pdu]) {
    case 1:
    case 2:
    case 3:
    case 4:
    case 23:
      return buf[pdu + 1] === words[at] ? 0 : FAULT.MISMATCH_COUNT
    case 5:
    case 6:
    case 15:
    case 16:
      return words[at] === four(buf, pdu + 1) ? 0 : FAULT.MISMATCH_ECHO
    case 22:
      return words[at] === four(buf, pdu + 1) && words[at + 1] === ((buf[pdu + 5] << 8) | buf[pdu + 6])
        ? 0
        : FAULT.MISMATCH_ECHO
    case 8: {
      const sub = (buf[pdu + 1] << 8) | buf[pdu + 2]
      if (sub !== words[at]) return FAULT.MISMATCH_ECHO
      // §6.8.1: these echo their data; the others return a register or a counter.
      const echoes = sub < 2 || sub === 3 || sub === 10 || sub === 20
      return !echoes || hash(buf, pdu + 3, end) === words[at + 1] ? 0 : FAULT.MISMATCH_ECHO
    }
    case 20:
      return fileResponseLengths(buf, pdu) === words[at] ? 0 : FAULT.MISMATCH_COUNT
    case 21:
      return hash(buf, pdu + 1, Math.min(end, pdu + words[at + 1])) === words[at] ? 0 : FAULT.MISMATCH_ECHO
    case 43: {
      const answer = (buf[pdu + 1] << 8) | (buf[pdu + 1] === 14 ? buf[pdu + 2] : 0)
      return answer === words[at] ? 0 : FAULT.MISMATCH_ECHO
    }
    default:
      return 0
  }
}

function four(buf: Uint8Array, at: number): number {
  return (buf[at] << 24) | (buf[at + 1] << 16) | (buf[at + 2] << 8) | buf[at + 3]
}

/** FNV-1a, 32 bits. Tells an echo from another answer; it need not withstand an adversary, who is the target itself. */
function hash(buf: Uint8Array, from: number, to: number): number {
  let h = 0x811c9dc5 | 0
  for (let i = from; i < to; i++) h = Math.imul(h ^ buf[i], 0x01000193)
  return h
}

/** FC 20: a number made of the registers that each sub-request asks for, in order. */
function fileLengths(buf: Uint8Array, pdu: number, end: number): number {
  let h = 0
  for (let at = pdu + 2; at + 7 <= end; at += 7) h = Math.imul(h, 257) + ((buf[at + 5] << 8) | buf[at + 6]) + 1
  return h | 0
}

function fileResponseLengths(buf: Uint8Array, pdu: number): number {
  let h = 0
  const stop = pdu + 2 + buf[pdu + 1]
  for (let at = pdu + 2; at < stop; at += 1 + buf[at]) h = Math.imul(h, 257) + ((buf[at] - 1) >> 1) + 1
  return h | 0
}
