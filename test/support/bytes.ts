/** Bytes for tests: hex with its spaces, and PDUs set between guard bytes. */

/** `'03 0000 000a'` → its bytes. Throws on anything that is not hex, so that a slip in a table is seen. */
export function hex(text: string): Uint8Array {
  const digits = text.replaceAll(/\s+/g, '')
  if (!/^(?:[0-9a-f]{2})*$/i.test(digits)) throw new Error(`not hex: ${text}`)
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

/** A PDU with guard bytes before and after it. */
export interface Guarded {
  buf: Uint8Array
  pdu: number
  end: number
}

/** @param guard fills `before` bytes in front of the PDU and `after` bytes behind it */
export function between(pdu: Uint8Array, guard: number, before = 11, after = 300): Guarded {
  const buf = new Uint8Array(before + pdu.length + after).fill(guard)
  buf.set(pdu, before)
  return { buf, pdu: before, end: before + pdu.length }
}

/**
 * Calls `check` on the same PDU among three kinds of neighbours and at the very end of a buffer.
 * @returns its result; throws where it depends on a byte outside the PDU
 */
export function onPduAlone<T>(pdu: Uint8Array, check: (buf: Uint8Array, pdu: number, end: number) => T): T {
  const places = [between(pdu, 0x00), between(pdu, 0xff), between(pdu, 0x06, 3), between(pdu, 0x01, 0, 0)]
  const results = places.map((place) => check(place.buf, place.pdu, place.end))
  for (const result of results) {
    if (JSON.stringify(result) !== JSON.stringify(results[0])) {
      throw new Error(`result depends on bytes outside the PDU ${toHex(pdu)}: ${JSON.stringify(results)}`)
    }
  }
  return results[0]
}
