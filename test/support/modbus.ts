/**
 * Builds Modbus PDUs and ADUs for tests, field by field from V1.1b3 §6, with nothing shared with the decoder under test.
 */

/** Fields as big-endian bytes: `[3, u16(0), u16(10)]`. */
export const u16 = (value: number): number[] => [(value >> 8) & 0xff, value & 0xff]

export const registers = (values: readonly number[]): number[] => values.flatMap(u16)

/** Coils packed with the first one in the least significant bit of the first byte (V1.1b3 §6.11). */
export function packBits(bits: readonly boolean[]): number[] {
  const bytes = new Array<number>(Math.ceil(bits.length / 8)).fill(0)
  for (const [i, bit] of bits.entries()) if (bit) bytes[Math.floor(i / 8)] += 2 ** (i % 8)
  return bytes
}

/** MBAP header and PDU (MODBUS Messaging on TCP/IP V1.0b §3.1.3). */
export function adu(transaction: number, unit: number, pdu: ArrayLike<number>, protocol = 0, length = pdu.length + 1) {
  return Buffer.from([...u16(transaction), ...u16(protocol), ...u16(length), unit, ...Array.from(pdu)])
}

/** One sub-request of FC 20 or FC 21. */
export const subRequest = (file: number, record: number, length: number): number[] => [
  6,
  ...u16(file),
  ...u16(record),
  ...u16(length),
]
