/**
 * Holds a Modbus response PDU to the Modbus Application Protocol V1.1b3 §6 and §7, and to the request it answers: the
 * byte count that was asked for, the echo that a write owes. Offsets and small integers only, as in `request.ts`.
 */

import { isStandardException } from './exception-codes.ts'
import { FAULT } from './faults.ts'

/** Words of a table of outstanding requests that `noteRequest` writes for each. */
export const OWED_WORDS = 3

/**
 * Checks one response PDU, function code first, at [pdu, end) of `buf`. Never throws, never reads outside.
 * @returns 0 where the response keeps V1.1b3 or its function code is not a public one; `FAULT.TRAILING` where it does
 *   but for bytes after its end; `FAULT.EXCEPTION_CODE` where it is an exception response of two bytes with a code
 *   that §7 does not know; else another of `FAULT`
 */
export function checkResponse(buf: Uint8Array, pdu: number, end: number): number {
  // Registers read are nearly all traffic; the rest has a function of its own, so that this one is inlined.
  if (end - pdu >= 4 && (buf[pdu] === 3 || buf[pdu] === 4)) {
    const count = buf[pdu + 1]
    if (count === end - pdu - 2 && count <= 250 && (count & 1) === 0) return 0
  }
  return checkOther(buf, pdu, end)
}

function checkOther(buf: Uint8Array, pdu: number, end: number): number {
  const length = end - pdu
  if (length < 1) return FAULT.RESPONSE_LENGTH
  const code = buf[pdu]
  if (code >= 0x80) return checkException(buf, pdu, length)
  switch (code) {
    case 1: // §6.1
    case 2: {
      // §6.2
      if (length < 3) return FAULT.RESPONSE_LENGTH
      const count = buf[pdu + 1]
      if (count < 1 || count > 250) return FAULT.RESPONSE_BYTE_COUNT
      return ends(length, 2 + count)
    }
    case 3: // §6.3
    case 4: // §6.4
    case 23: {
      // §6.17
      if (length < 3) return FAULT.RESPONSE_LENGTH
      const count = buf[pdu + 1]
      if (count < 2 || count > 250 || (count & 1) !== 0) return FAULT.RESPONSE_BYTE_COUNT
      return ends(length, 2 + count)
    }
    case 5: {
      // §6.5
      if (length < 5) return FAULT.RESPONSE_LENGTH
      const value = (buf[pdu + 3] << 8) | buf[pdu + 4]
      if (value !== 0 && value !== 0xff00) return FAULT.COIL_VALUE
      return ends(length, 5)
    }
    case 6: // §6.6
      return ends(length, 5)
    case 11: // §6.9: status word and event count
      if (length < 5) return FAULT.RESPONSE_LENGTH
      return isStatusWord(buf, pdu + 1) ? ends(length, 5) : FAULT.STATUS_WORD
    case 15: // §6.11
      return checkWritten(buf, pdu, length, 1968)
    case 16: // §6.12
      return checkWritten(buf, pdu, length, 123)
    case 7: // §6.7
      return ends(length, 2)
    case 8:
      return checkDiagnostics(buf, pdu, length)
    case 12: {
      // §6.10: status word, event count, message count, 0…64 events
      if (length < 8) return FAULT.RESPONSE_LENGTH
      const count = buf[pdu + 1]
      if (count < 6 || count > 70) return FAULT.RESPONSE_BYTE_COUNT
      return isStatusWord(buf, pdu + 2) ? ends(length, 2 + count) : FAULT.STATUS_WORD
    }
    case 17: // §6.13: what the byte count holds is the device's own
      if (length < 2) return FAULT.RESPONSE_LENGTH
      return buf[pdu + 1] === 0 ? FAULT.RESPONSE_BYTE_COUNT : ends(length, 2 + buf[pdu + 1])
    case 20:
      return checkReadFileRecord(buf, pdu, length)
    case 21:
      return checkWriteFileRecord(buf, pdu, length)
    case 22: // §6.16
      return ends(length, 7)
    case 24:
      return checkReadFifoQueue(buf, pdu, length)
    case 43:
      return checkEncapsulatedInterface(buf, pdu, length)
    default:
      return 0
  }
}

/** A PDU of `length` bytes whose own fields say that it has `expected`. */
function ends(length: number, expected: number): number {
  if (length === expected) return 0
  return length > expected ? FAULT.TRAILING : FAULT.RESPONSE_LENGTH
}

/** §7: function code and exception code. A code out of the table excuses no other fault. */
function checkException(buf: Uint8Array, pdu: number, length: number): number {
  if (length < 2) return FAULT.RESPONSE_LENGTH
  const code = buf[pdu + 1]
  if (code === 0) return FAULT.EXCEPTION_ZERO
  if (isStandardException(code)) return ends(length, 2)
  return length === 2 ? FAULT.EXCEPTION_CODE : FAULT.RESPONSE_LENGTH
}

/** §6.9, §6.10: all ones while a program command is being processed, else all zeros. */
function isStatusWord(buf: Uint8Array, at: number): boolean {
  return buf[at] === buf[at + 1] && (buf[at] === 0 || buf[at] === 0xff)
}

/** §6.11, §6.12: address and quantity of what was written. */
function checkWritten(buf: Uint8Array, pdu: number, length: number, limit: number): number {
  if (length < 5) return FAULT.RESPONSE_LENGTH
  const quantity = (buf[pdu + 3] << 8) | buf[pdu + 4]
  if (quantity < 1 || quantity > limit) return FAULT.QUANTITY
  if (((buf[pdu + 1] << 8) | buf[pdu + 2]) + quantity > 65536) return FAULT.ADDRESS_OVERFLOW
  return ends(length, 5)
}

/** §6.8 */
function checkDiagnostics(buf: Uint8Array, pdu: number, length: number): number {
  if (length < 5) return FAULT.RESPONSE_LENGTH
  const sub = (buf[pdu + 1] << 8) | buf[pdu + 2]
  if (sub === 0) return (length & 1) === 1 ? 0 : FAULT.RESPONSE_LENGTH
  if (sub > 20 || sub === 19 || (sub > 4 && sub < 10)) return FAULT.SUB_FUNCTION
  return ends(length, 5)
}

/** §6.14: each record has a length of its own, which counts the reference type and the registers. */
function checkReadFileRecord(buf: Uint8Array, pdu: number, length: number): number {
  if (length < 2) return FAULT.RESPONSE_LENGTH
  const count = buf[pdu + 1]
  if (count < 4 || count > 251) return FAULT.RESPONSE_BYTE_COUNT
  if (length < 2 + count) return FAULT.RESPONSE_LENGTH
  const last = pdu + 2 + count
  let at = pdu + 2
  while (at < last) {
    if (last - at < 4) return FAULT.RECORD_LENGTH
    const size = buf[at]
    if (size < 3 || (size & 1) === 0) return FAULT.RECORD_LENGTH
    if (buf[at + 1] !== 6) return FAULT.REFERENCE_TYPE
    at += 1 + size
  }
  return at === last ? ends(length, 2 + count) : FAULT.RECORD_LENGTH
}

/** §6.15: an echo of the request. */
function checkWriteFileRecord(buf: Uint8Array, pdu: number, length: number): number {
  if (length < 2) return FAULT.RESPONSE_LENGTH
  const count = buf[pdu + 1]
  if (count < 9 || count > 251) return FAULT.RESPONSE_BYTE_COUNT
  if (length < 2 + count) return FAULT.RESPONSE_LENGTH
  const last = pdu + 2 + count
  let at = pdu + 2
  while (at < last) {
    if (last - at < 9) return FAULT.RECORD_LENGTH
    if (buf[at] !== 6) return FAULT.REFERENCE_TYPE
    if ((buf[at + 1] | buf[at + 2]) === 0) return FAULT.FILE_NUMBER
    if (((buf[at + 3] << 8) | buf[at + 4]) > 9999) return FAULT.RECORD_NUMBER
    const registers = (buf[at + 5] << 8) | buf[at + 6]
    if (registers === 0) return FAULT.RECORD_LENGTH
    at += 7 + 2 * registers
  }
  return at === last ? ends(length, 2 + count) : FAULT.RECORD_LENGTH
}

/** §6.18: byte count (two bytes), FIFO count ≤ 31, that many registers. */
function checkReadFifoQueue(buf: Uint8Array, pdu: number, length: number): number {
  if (length < 5) return FAULT.RESPONSE_LENGTH
  const count = (buf[pdu + 1] << 8) | buf[pdu + 2]
  const queued = (buf[pdu + 3] << 8) | buf[pdu + 4]
  if (queued > 31 || count !== 2 + 2 * queued) return FAULT.FIFO_COUNT
  return ends(length, 3 + count)
}

/** §6.21: read code, conformity level, more follows, next object id, number of objects, objects. */
function checkEncapsulatedInterface(buf: Uint8Array, pdu: number, length: number): number {
  if (length < 2) return FAULT.RESPONSE_LENGTH
  const type = buf[pdu + 1]
  if (type === 13) return 0
  if (type !== 14) return FAULT.MEI_TYPE
  if (length < 7) return FAULT.RESPONSE_LENGTH
  if (buf[pdu + 2] < 1 || buf[pdu + 2] > 4) return FAULT.READ_DEVICE_ID_CODE
  if (buf[pdu + 4] !== 0 && buf[pdu + 4] !== 0xff) return FAULT.MORE_FOLLOWS
  let at = 7
  for (let objects = buf[pdu + 6]; objects > 0; objects--) {
    if (length - at < 2) return FAULT.OBJECT_LIST
    at += 2 + buf[pdu + at + 1]
    if (at > length) return FAULT.OBJECT_LIST
  }
  return ends(length, at)
}

/**
 * Set in the first word beside the function code where more is known of what is owed: of FC 1…4 the byte count, in the
 * same word's upper half; of others what the other two words say.
 */
const KNOWN = 0x100
const COUNT_SHIFT = 16

/**
 * Writes what answer a request is owed, for `matchResponse`: three words at `words[at…at+2]`. A request too short to
 * say (it can only have passed in monitor mode) is owed no more than its function code.
 * @param buf holds the request PDU at [pdu, end)
 */
export function noteRequest(buf: Uint8Array, pdu: number, end: number, words: Int32Array, at: number): void {
  const code = end - pdu < 5 ? 0 : buf[pdu]
  if (code >= 1 && code <= 4) noteRead(code, (buf[pdu + 3] << 8) | buf[pdu + 4], words, at)
  else noteOther(buf, pdu, end, words, at)
}

/**
 * `noteRequest` for a read of FC 1…4.
 * @param quantity coils, discrete inputs or registers asked for
 */
export function noteRead(code: number, quantity: number, words: Int32Array, at: number): void {
  const count = code < 3 ? (quantity + 7) >> 3 : quantity << 1
  // What no byte count can be is owed none, and not that of a smaller number.
  words[at] = code | KNOWN | ((count > 255 ? 0xffff : count) << COUNT_SHIFT)
}

/** Whether a request of function `code`, noted at `at`, is a read of FC 1…4 that asked for `count` bytes. */
export function awaitsRead(code: number, words: Int32Array, at: number, count: number): boolean {
  return words[at] === (code | KNOWN | (count << COUNT_SHIFT)) && code <= 4
}

function noteOther(buf: Uint8Array, pdu: number, end: number, words: Int32Array, at: number): void {
  const length = end - pdu
  const code = length < 1 ? 0 : buf[pdu]
  words[at] = code
  words[at + 1] = 0
  words[at + 2] = 0
  switch (code) {
    case 23:
      if (length < 5) return
      words[at + 1] = ((buf[pdu + 3] << 8) | buf[pdu + 4]) << 1
      break
    case 22:
      if (length < 7) return
      words[at + 1] = word32(buf, pdu + 1)
      words[at + 2] = (buf[pdu + 5] << 8) | buf[pdu + 6]
      break
    case 5:
    case 6:
    case 15:
    case 16:
      if (length < 5) return
      words[at + 1] = word32(buf, pdu + 1)
      break
    case 8:
      if (length < 3) return
      words[at + 1] = (buf[pdu + 1] << 8) | buf[pdu + 2]
      if (echoesData(words[at + 1])) words[at + 2] = digest(buf, pdu + 3, end)
      break
    case 20:
      noteFileLengths(buf, pdu, end, words, at)
      return
    case 21:
      words[at + 1] = length
      words[at + 2] = digest(buf, pdu + 1, end)
      break
    case 43:
      if (length < 2) return
      words[at + 1] = buf[pdu + 1]
      // Read code and object id, which MEI type 14 alone has.
      if (words[at + 1] === 14 && length === 4) words[at + 2] = (buf[pdu + 2] << 8) | buf[pdu + 3]
      break
    default:
      return
  }
  words[at] = code | KNOWN
}

/**
 * Compares a response with what `noteRequest` wrote of the request. The response has passed `checkResponse`, or failed
 * it with `FAULT.TRAILING` or `FAULT.EXCEPTION_CODE` alone. An exception response answers any request of its function.
 * @returns 0 where it answers the request, else `FAULT.MISMATCH_…`
 */
export function matchResponse(buf: Uint8Array, pdu: number, end: number, words: Int32Array, at: number): number {
  const noted = words[at]
  if (end - pdu >= 2 && buf[pdu] <= 4 && buf[pdu] === (noted & 0xff) && (noted & KNOWN) !== 0) {
    return buf[pdu + 1] === noted >>> COUNT_SHIFT ? 0 : FAULT.MISMATCH_COUNT
  }
  return matchOther(buf, pdu, end, words, at)
}

function matchOther(buf: Uint8Array, pdu: number, end: number, words: Int32Array, at: number): number {
  const length = end - pdu
  const noted = words[at]
  const code = noted & 0xff
  if (length < 1) return FAULT.MISMATCH_FUNCTION
  if (buf[pdu] !== code) return buf[pdu] === (code | 0x80) ? 0 : FAULT.MISMATCH_FUNCTION
  if ((noted & KNOWN) === 0) return 0
  switch (code) {
    case 1:
    case 2:
    case 3:
    case 4:
      return FAULT.MISMATCH_COUNT
    case 23:
      return length >= 2 && buf[pdu + 1] === words[at + 1] ? 0 : FAULT.MISMATCH_COUNT
    case 5:
    case 6:
    case 15:
    case 16:
      return length >= 5 && word32(buf, pdu + 1) === words[at + 1] ? 0 : FAULT.MISMATCH_ECHO
    case 22:
      if (length < 7 || word32(buf, pdu + 1) !== words[at + 1]) return FAULT.MISMATCH_ECHO
      return ((buf[pdu + 5] << 8) | buf[pdu + 6]) === words[at + 2] ? 0 : FAULT.MISMATCH_ECHO
    case 8:
      return matchDiagnostics(buf, pdu, end, words, at)
    case 20:
      return matchFileLengths(buf, pdu, end, words, at)
    case 21:
      return length >= words[at + 1] && digest(buf, pdu + 1, pdu + words[at + 1]) === words[at + 2]
        ? 0
        : FAULT.MISMATCH_ECHO
    case 43:
      return matchEncapsulatedInterface(buf, pdu, length, words, at)
    default:
      return 0
  }
}

function word32(buf: Uint8Array, at: number): number {
  return (buf[at] << 24) | (buf[at + 1] << 16) | (buf[at + 2] << 8) | buf[at + 3]
}

/** §6.8.1: sub-functions whose normal response is an echo of the request; those left return a register or counter. */
function echoesData(sub: number): boolean {
  return sub === 0 || sub === 1 || sub === 3 || sub === 10 || sub === 20
}

function matchDiagnostics(buf: Uint8Array, pdu: number, end: number, words: Int32Array, at: number): number {
  if (end - pdu < 3) return FAULT.MISMATCH_ECHO
  const sub = (buf[pdu + 1] << 8) | buf[pdu + 2]
  if (sub !== words[at + 1]) return FAULT.MISMATCH_ECHO
  if (!echoesData(sub)) return 0
  // But for Return Query Data the field is one word; what follows it is trailing.
  const last = sub === 0 ? end : Math.min(end, pdu + 5)
  return digest(buf, pdu + 3, last) === words[at + 2] ? 0 : FAULT.MISMATCH_ECHO
}

/** §6.21: read code as asked; individual access (code 4) returns the one object that was asked for. */
function matchEncapsulatedInterface(
  buf: Uint8Array,
  pdu: number,
  length: number,
  words: Int32Array,
  at: number,
): number {
  if (length < 2 || buf[pdu + 1] !== words[at + 1]) return FAULT.MISMATCH_ECHO
  const asked = words[at + 2]
  if (asked === 0) return 0
  if (length < 7 || buf[pdu + 2] !== asked >> 8) return FAULT.MISMATCH_ECHO
  if (asked >> 8 !== 4) return 0
  if (buf[pdu + 6] !== 1) return FAULT.MISMATCH_COUNT
  return length > 7 && buf[pdu + 7] === (asked & 0xff) ? 0 : FAULT.MISMATCH_ECHO
}

/** §6.14: the record lengths asked for, in their order. */
function noteFileLengths(buf: Uint8Array, pdu: number, end: number, words: Int32Array, at: number): void {
  let count = 0
  let hash = FNV_OFFSET
  for (let record = pdu + 2; record + 7 <= end; record += 7) {
    hash = mix(mix(hash, buf[record + 5]), buf[record + 6])
    count++
  }
  if (count === 0) return
  words[at] = 20 | KNOWN
  words[at + 1] = count
  words[at + 2] = hash
}

function matchFileLengths(buf: Uint8Array, pdu: number, end: number, words: Int32Array, at: number): number {
  if (end - pdu < 2) return FAULT.MISMATCH_COUNT
  const last = Math.min(end, pdu + 2 + buf[pdu + 1])
  let count = 0
  let hash = FNV_OFFSET
  for (let record = pdu + 2; record < last; record += 1 + buf[record]) {
    const registers = (buf[record] - 1) >> 1
    hash = mix(mix(hash, registers >> 8), registers & 0xff)
    count++
  }
  return count === words[at + 1] && hash === words[at + 2] ? 0 : FAULT.MISMATCH_COUNT
}

const FNV_OFFSET = 0x811c9dc5 | 0

/** One step of FNV-1a on 32 bits: an echo is told from another by three words, not by a copy of the request. */
function mix(hash: number, byte: number): number {
  return Math.imul(hash ^ byte, 0x01000193)
}

function digest(buf: Uint8Array, from: number, to: number): number {
  let hash = FNV_OFFSET
  for (let at = from; at < to; at++) hash = mix(hash, buf[at])
  return hash
}
