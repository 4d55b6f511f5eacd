/**
 * What a frame says, in words, for the records. Off the hot path. Takes malformed frames as they come: a field that the
 * bytes do not hold is absent, and nothing is read outside the frame.
 */
import { functionName, subFunctionName } from './function-codes.ts'

/** Fields of an event; see the catalogue of events for each. Addresses are zero-based, as in the PDU. */
export interface FrameFields {
  /** Length of the ADU in bytes. */
  length: number
  transaction_id?: number
  unit_id?: number
  function?: string
  function_code?: number
  /** Name of the sub-function of FC 8 or the MEI type of FC 43. */
  sub_function?: string
  address?: number
  /** Coils or registers read or written; FC 20 and 21: registers of all records together. */
  quantity?: number
  write_address?: number
  write_quantity?: number
  /** The first values to be written, coils as 0 and 1; the masks of FC 22; the records of FC 20 and 21. */
  values?: string
  exception_code?: number
}

/** How many written values, or file records, an event shows. */
const SHOWN = 8
const MBAP_LENGTH = 7

/** @param buf holds the ADU of a request at [adu, end), which may be cut short or be malformed in any way */
export function describeRequest(buf: Uint8Array, adu: number, end: number): FrameFields {
  const fields = describeHeader(buf, adu, end)
  const pdu = adu + MBAP_LENGTH
  switch (fields.function_code) {
    case 1:
    case 2:
    case 3:
    case 4:
      fields.address = wordAt(buf, pdu + 1, end)
      fields.quantity = wordAt(buf, pdu + 3, end)
      break
    case 5:
      fields.address = wordAt(buf, pdu + 1, end)
      fields.quantity = 1
      fields.values = coilText(wordAt(buf, pdu + 3, end))
      break
    case 6:
      fields.address = wordAt(buf, pdu + 1, end)
      fields.quantity = 1
      fields.values = registersText(buf, pdu + 3, end)
      break
    case 8: {
      const sub = wordAt(buf, pdu + 1, end)
      if (sub !== undefined) fields.sub_function = subFunctionName(8, sub)
      fields.values = registersText(buf, pdu + 3, end)
      break
    }
    case 15:
      fields.address = wordAt(buf, pdu + 1, end)
      fields.quantity = wordAt(buf, pdu + 3, end)
      fields.values = coilsText(buf, pdu + 6, end, fields.quantity ?? 0)
      break
    case 16:
      fields.address = wordAt(buf, pdu + 1, end)
      fields.quantity = wordAt(buf, pdu + 3, end)
      fields.values = registersText(buf, pdu + 6, end)
      break
    case 20:
    case 21:
      describeRecords(fields, buf, pdu, end)
      break
    case 22: {
      fields.address = wordAt(buf, pdu + 1, end)
      fields.quantity = 1
      const or = wordAt(buf, pdu + 5, end)
      if (or !== undefined) fields.values = `and ${wordAt(buf, pdu + 3, end)} or ${or}`
      break
    }
    case 23:
      fields.address = wordAt(buf, pdu + 1, end)
      fields.quantity = wordAt(buf, pdu + 3, end)
      fields.write_address = wordAt(buf, pdu + 5, end)
      fields.write_quantity = wordAt(buf, pdu + 7, end)
      fields.values = registersText(buf, pdu + 10, end)
      break
    case 24:
      fields.address = wordAt(buf, pdu + 1, end)
      break
    case 43:
      if (pdu + 1 < end) fields.sub_function = subFunctionName(43, buf[pdu + 1])
      break
  }
  return present(fields)
}

/** @param buf holds the ADU of a response at [adu, end); an exception response gives its function and exception code */
export function describeResponse(buf: Uint8Array, adu: number, end: number): FrameFields {
  const fields = describeHeader(buf, adu, end)
  const code = fields.function_code
  if (code !== undefined && code >= 0x80) {
    fields.function_code = code & 0x7f
    fields.function = functionName(code & 0x7f)
    if (end - adu > 8) fields.exception_code = buf[adu + 8]
  }
  return fields
}

/** @param buf holds an ADU at [adu, end): as far as its MBAP header and function code go */
export function describeHeader(buf: Uint8Array, adu: number, end: number): FrameFields {
  const fields: FrameFields = { length: end - adu }
  if (end - adu >= 2) fields.transaction_id = (buf[adu] << 8) | buf[adu + 1]
  if (end - adu >= MBAP_LENGTH) fields.unit_id = buf[adu + 6]
  if (end - adu > MBAP_LENGTH) {
    fields.function_code = buf[adu + MBAP_LENGTH]
    fields.function = functionName(fields.function_code)
  }
  return fields
}

function wordAt(buf: Uint8Array, at: number, end: number): number | undefined {
  return at + 1 < end ? (buf[at] << 8) | buf[at + 1] : undefined
}

function registersText(buf: Uint8Array, from: number, end: number): string | undefined {
  const values: string[] = []
  let at = from
  for (; at + 1 < end && values.length < SHOWN; at += 2) values.push(`${wordAt(buf, at, end)}`)
  return listText(values, at + 1 < end)
}

/** V1.1b3 §6.11: the first coil is the least significant bit of the first byte. */
function coilsText(buf: Uint8Array, from: number, end: number, quantity: number): string | undefined {
  const values: string[] = []
  for (let i = 0; i < quantity && from + (i >> 3) < end && values.length < SHOWN; i++) {
    values.push(`${(buf[from + (i >> 3)] >> (i & 7)) & 1}`)
  }
  return listText(values, quantity > SHOWN)
}

function coilText(value: number | undefined): string | undefined {
  if (value === undefined) return undefined
  return value === 0 ? '0' : value === 0xff00 ? '1' : `0x${value.toString(16).toUpperCase().padStart(4, '0')}`
}

/** V1.1b3 §6.14, §6.15: sub-requests of seven bytes, in FC 21 with their registers behind them. */
function describeRecords(fields: FrameFields, buf: Uint8Array, pdu: number, end: number): void {
  const records: string[] = []
  let more = false
  let quantity = 0
  for (let at = pdu + 2; at + 7 <= end; ) {
    const length = wordAt(buf, at + 5, end) as number
    quantity += length
    if (records.length < SHOWN) {
      records.push(`file ${wordAt(buf, at + 1, end)} record ${wordAt(buf, at + 3, end)} length ${length}`)
    } else {
      more = true
    }
    at += fields.function_code === 21 ? 7 + 2 * length : 7
  }
  if (records.length > 0) fields.quantity = quantity
  fields.values = records.length > 0 ? `${records.join(', ')}${more ? ' …' : ''}` : undefined
}

function listText(values: string[], more: boolean): string | undefined {
  return values.length === 0 ? undefined : `${values.join(' ')}${more ? ' …' : ''}`
}

/** Without the fields that turned out not to be there. */
function present(fields: FrameFields): FrameFields {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as unknown as FrameFields
}
