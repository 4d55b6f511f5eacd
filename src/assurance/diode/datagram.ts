/**
 * The datagrams that are sent through a diode:
 *
 *     offset  0   HGDIODE1
 *             8   run, 8 bytes: tells one test from another
 *             16  sequence number, from 0
 *             20  how many are sent in all
 *             24  time of sending, in microseconds since 1970 by the sender's clock
 *             32  zeros up to the size that was asked for
 *
 * All integers are big-endian. Time comes from the system's clock, as nothing else is common to both sides.
 */
const MAGIC = Buffer.from('HGDIODE1')
export const HEADER_BYTES = 32
export const MAX_COUNT = 1_000_000
/** Fits an Ethernet frame in one piece, with IPv6 and UDP. */
export const MAX_SIZE = 1400

export interface Datagram {
  run: string
  sequence: number
  total: number
  sentUs: number
}

/** Microseconds since 1970. */
export const nowUs = (): number => (performance.timeOrigin + performance.now()) * 1000

export function writeDatagram(bytes: Buffer, run: Buffer, sequence: number, total: number): void {
  MAGIC.copy(bytes, 0)
  run.copy(bytes, 8, 0, 8)
  bytes.writeUInt32BE(sequence, 16)
  bytes.writeUInt32BE(total, 20)
  bytes.writeBigUInt64BE(BigInt(Math.round(nowUs())), 24)
}

/** @returns null where it is none: from somebody else, or no longer as it was sent */
export function readDatagram(bytes: Buffer): Datagram | null {
  if (bytes.length < HEADER_BYTES || bytes.length > MAX_SIZE || !bytes.subarray(0, 8).equals(MAGIC)) return null
  const sequence = bytes.readUInt32BE(16)
  const total = bytes.readUInt32BE(20)
  const sentUs = Number(bytes.readBigUInt64BE(24))
  if (total < 1 || total > MAX_COUNT || sequence >= total || !Number.isSafeInteger(sentUs)) return null
  return { run: bytes.toString('hex', 8, 16), sequence, total, sentUs }
}
