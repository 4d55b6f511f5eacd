/**
 * What a Modbus server that keeps the specification answers to a request: built field by field from V1.1b3 §6, with
 * nothing shared with the code under test. Reads give register values that tell their address.
 */
import { adu, registers, u16 } from './modbus.ts'

/** The value of a register that is read: `address` mixed so that neighbours differ in both bytes. */
export const valueAt = (address: number): number => (address * 0x0101 + 0x1234) & 0xffff

const values = (address: number, quantity: number): number[] =>
  registers(Array.from({ length: quantity }, (_, i) => valueAt(address + i)))

/** @returns the response ADU to a well-formed request ADU; to any other, exception 1 or 3 as §7 has it */
export function answer(request: Buffer): Buffer {
  const transaction = request.readUInt16BE(0)
  return adu(transaction, request[6], pdu(request.subarray(7)))
}

function pdu(request: Buffer): number[] {
  const code = request[0]
  const word = (at: number): number => (at + 1 < request.length ? request.readUInt16BE(at) : 0)
  switch (code) {
    case 1:
    case 2: {
      const count = Math.ceil(word(3) / 8)
      return [code, count, ...new Array<number>(count).fill(0x55)]
    }
    case 3:
    case 4:
    case 23:
      return [code, 2 * word(3), ...values(word(1), word(3))]
    case 5:
    case 6:
    case 22:
    case 8:
    case 21:
      return [...request]
    case 7:
      return [code, 0x6d]
    case 11:
      return [code, 0, 0, ...u16(264)]
    case 12:
      return [code, 8, 0, 0, ...u16(264), ...u16(289), 0x20, 0]
    case 15:
    case 16:
      return [...request.subarray(0, 5)]
    case 17:
      return [code, 2, 1, 0xff]
    case 20: {
      const records: number[] = []
      for (let at = 2; at + 7 <= request.length; at += 7) {
        records.push(1 + 2 * word(at + 5), 6, ...values(word(at + 3), word(at + 5)))
      }
      return [code, records.length, ...records]
    }
    case 24:
      return [code, ...u16(6), ...u16(2), ...u16(440), ...u16(4740)]
    case 43:
      if (request[1] !== 14) return [code, request[1], 0]
      return [code, 14, request[2], 1, 0, 0, 1, request[3] ?? 0, 3, 0x41, 0x42, 0x43]
    default:
      return [code | 0x80, 1]
  }
}
