/** Whether the numbers that a DataValue holds keep to limits (OPC 10000-6 §5.2.2.16, §5.2.2.17). */
import { Cursor, MAX_NESTING, TYPE } from './binary.ts'

/** Beyond ±2^53 an integer is not exact as a double. */
const EXACT_HIGH = 1 << 21

const cursor = new Cursor()

/**
 * Whether each of `count` DataValues from `at` on holds nothing but numbers, at least one, all from `min` to `max`. A
 * Boolean is 0 or 1. Text, structures, NaN, infinities, an empty value: no.
 * @param min null: none, @param max null: none
 */
export function valuesKeep(
  buf: Uint8Array,
  at: number,
  end: number,
  count: number,
  min: number | null,
  max: number | null,
): boolean {
  const low = min ?? -Infinity
  const high = max ?? Infinity
  cursor.open(buf, at, end)
  for (let i = 0; i < count; i++) if (!dataValueKeeps(low, high, 0)) return false
  return count > 0 && cursor.fault === 0
}

function dataValueKeeps(min: number, max: number, depth: number): boolean {
  const mask = cursor.dataValueMask()
  if ((mask & 0x01) === 0 || !variantKeeps(min, max, depth + 1)) return false
  cursor.skipDataValueRest(mask)
  return cursor.fault === 0
}

function variantKeeps(min: number, max: number, depth: number): boolean {
  if (depth > MAX_NESTING) return false
  cursor.variantHead()
  const type = cursor.variantType
  const count = cursor.variantCount
  const dimensions = cursor.variantHasDimensions
  if (count === 0) return false
  for (let i = 0; i < count; i++) if (!numberKeeps(type, min, max, depth)) return false
  if (dimensions) cursor.skipDimensions(count)
  return cursor.fault === 0
}

function numberKeeps(type: number, min: number, max: number, depth: number): boolean {
  switch (type) {
    case TYPE.int64:
    case TYPE.uint64: {
      const lower = cursor.u32()
      const upper = type === TYPE.int64 ? cursor.i32() : cursor.u32()
      if (upper < -EXACT_HIGH || upper >= EXACT_HIGH) {
        const exact = (BigInt(upper) << 32n) + BigInt(lower)
        return exact >= min && exact <= max && cursor.fault === 0
      }
      const value = upper * 2 ** 32 + lower
      return value >= min && value <= max && cursor.fault === 0
    }
    case TYPE.dataValue:
      return dataValueKeeps(min, max, depth + 1)
    case TYPE.variant:
      return variantKeeps(min, max, depth + 1)
  }
  const value = smallNumber(type)
  return Number.isFinite(value) && value >= min && value <= max && cursor.fault === 0
}

/** The number at the cursor, of any type but the integers of 64 bits; NaN: there is none, and the cursor stands still. */
function smallNumber(type: number): number {
  switch (type) {
    case TYPE.boolean:
      return cursor.u8() === 0 ? 0 : 1
    case TYPE.sbyte:
      return (cursor.u8() << 24) >> 24
    case TYPE.byte:
      return cursor.u8()
    case TYPE.int16:
      return (cursor.u16() << 16) >> 16
    case TYPE.uint16:
      return cursor.u16()
    case TYPE.int32:
      return cursor.i32()
    case TYPE.uint32:
      return cursor.u32()
    case TYPE.float:
      return cursor.float()
    case TYPE.double:
      return cursor.double()
    default:
      return Number.NaN
  }
}

/**
 * Widens `extremes`, a least and a greatest number, by the numbers of `count` DataValues from `at` on. Integers beyond
 * ±2^53 are as near as a double comes to them. What is no number is passed over.
 */
export function includeNumbers(buf: Uint8Array, at: number, end: number, count: number, extremes: Float64Array): void {
  cursor.open(buf, at, end)
  for (let i = 0; i < count && cursor.fault === 0; i++) {
    const mask = cursor.dataValueMask()
    if ((mask & 0x01) !== 0 && !includeVariant(extremes)) return
    cursor.skipDataValueRest(mask)
  }
}

/** @returns false where the cursor does not stand behind the Variant: it holds no numbers */
function includeVariant(extremes: Float64Array): boolean {
  cursor.variantHead()
  const type = cursor.variantType
  const count = cursor.variantCount
  const dimensions = cursor.variantHasDimensions
  const wide = type === TYPE.int64 || type === TYPE.uint64
  for (let i = 0; i < count && cursor.fault === 0; i++) {
    const lower = wide ? cursor.u32() : 0
    const value = wide ? (type === TYPE.int64 ? cursor.i32() : cursor.u32()) * 2 ** 32 + lower : smallNumber(type)
    if (Number.isNaN(value) && type !== TYPE.float && type !== TYPE.double) return false
    if (!Number.isFinite(value) || cursor.fault !== 0) continue
    if (value < extremes[0]) extremes[0] = value
    if (value > extremes[1]) extremes[1] = value
  }
  if (dimensions) cursor.skipDimensions(count)
  return true
}
