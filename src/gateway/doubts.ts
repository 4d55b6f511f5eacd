/**
 * Requests that would be denied and whose answers are to come: the event that stands for one tells how it was answered.
 * Of each connection so many; beyond, the oldest gives way, for it was not answered.
 */
import type { OpcUaItems } from '../protocols/opcua/terms.ts'
import { Extent } from './extent.ts'
import { OpcUaExtent } from './opcua-extent.ts'
import type { Kind } from './storm.ts'

const MOST = 32

/** Of Modbus, by the identifiers that a frame has. */
export class Doubts {
  /** How many there are. */
  size = 0
  private readonly keys = new Int32Array(MOST)
  private readonly kinds: (Kind | null)[] = new Array(MOST).fill(null)
  private next = 0

  /** `buf` has the request's ADU at `adu`, eight bytes at least. */
  add(kind: Kind, buf: Uint8Array, adu: number): void {
    const at = this.next
    this.next = (at + 1) % MOST
    if (this.kinds[at] === null) this.size++
    this.keys[at] = identifiers(buf, adu)
    this.kinds[at] = kind
  }

  /** `buf` has a response's ADU at `adu`, eight bytes at least. */
  answered(buf: Uint8Array, adu: number): void {
    const key = identifiers(buf, adu) & ~0x80
    for (let at = 0; at < MOST; at++) {
      const kind = this.kinds[at]
      if (this.keys[at] !== key || kind === null) continue
      if (kind.extent instanceof Extent) kind.extent.answered((buf[adu + 7] & 0x80) !== 0)
      this.kinds[at] = null
      this.size--
      return
    }
  }
}

/** Transaction identifier, unit identifier, function code. */
const identifiers = (buf: Uint8Array, adu: number): number =>
  (buf[adu] << 24) | (buf[adu + 1] << 16) | (buf[adu + 6] << 8) | buf[adu + 7]

/** Of OPC UA, by request id. */
export class OpcUaDoubts {
  private readonly all = new Map<number, { kind: Kind; items: OpcUaItems }>()

  add(kind: Kind, request: number, items: OpcUaItems): void {
    this.all.set(request, { kind, items })
    if (this.all.size > MOST) this.all.delete(this.all.keys().next().value as number)
  }

  /** @param refused by a bad status */
  answered(request: number, refused: boolean): void {
    const doubt = this.all.get(request)
    if (doubt === undefined) return
    this.all.delete(request)
    const { extent } = doubt.kind
    if (extent instanceof OpcUaExtent) extent.answered(doubt.items, refused)
  }
}
