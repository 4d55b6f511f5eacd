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
  let value: number
  switch (type) {
    case TYPE.boolean:
      value = cursor.u8() === 0 ? 0 : 1
      break
    case TYPE.sbyte:
      value = (cursor.u8() << 24) >> 24
      break
    case TYPE.byte:
      value = cursor.u8()
      break
    case TYPE.int16:
      value = (cursor.u16() << 16) >> 16
      break
    case TYPE.uint16:
      value = cursor.u16()
      break
    case TYPE.int32:
      value = cursor.i32()
      break
    case TYPE.uint32:
      value = cursor.u32()
      break
    case TYPE.int64:
    case TYPE.uint64: {
      const lower = cursor.u32()
      const upper = type === TYPE.int64 ? cursor.i32() : cursor.u32()
      if (upper < -EXACT_HIGH || upper >= EXACT_HIGH) {
        const exact = (BigInt(upper) << 32n) + BigInt(lower)
        return exact >= min && exact <= max && cursor.fault === 0
      }
      value = upper * 2 ** 32 + lower
      break
    }
    case TYPE.float:
      value = cursor.float()
      break
    case TYPE.double:
      value = cursor.double()
      break
    case TYPE.dataValue:
      return dataValueKeeps(min, max, depth + 1)
    case TYPE.variant:
      return variantKeeps(min, max, depth + 1)
    default:
      return false
  }
  return Number.isFinite(value) && value >= min && value <= max && cursor.fault === 0
}
