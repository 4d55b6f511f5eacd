/**
 * Last known values of holding registers, shared by all workers, for rules with `max_step`. Open addressing in a fixed
 * table: each entry is a key word and a value word.
 */
export const VALUE_ENTRIES = 1 << 16
const PROBES = 256

export const valuesBytes = (): number => VALUE_ENTRIES * 8

/** The registers of one target that a rule has a step for. */
export class SharedPresentValues {
  private readonly cells: Int32Array
  private readonly target: number
  private readonly watched: Uint8Array

  /**
   * @param memory of `valuesBytes()` bytes
   * @param target index of the target, 0…126
   * @param watched 65 536 flags by register: those to remember
   */
  constructor(memory: SharedArrayBuffer, target: number, watched: Uint8Array) {
    this.cells = new Int32Array(memory)
    this.target = target
    this.watched = watched
  }

  get(unit: number, register: number): number {
    if (this.watched[register] !== 1) return -1
    const at = this.find(unit, register, false)
    return at === -1 ? -1 : Atomics.load(this.cells, at + 1) - 1
  }

  set(unit: number, register: number, value: number): void {
    if (this.watched[register] !== 1) return
    const at = this.find(unit, register, true)
    if (at !== -1) Atomics.store(this.cells, at + 1, value + 1)
  }

  private find(unit: number, register: number, make: boolean): number {
    const key = ((this.target + 1) << 24) | (unit << 16) | register
    const hash = Math.imul(key, 0x9e3779b1) >>> 0
    for (let probe = 0; probe < PROBES; probe++) {
      const at = ((hash + probe) & (VALUE_ENTRIES - 1)) * 2
      let found = Atomics.load(this.cells, at)
      if (found === 0) {
        if (!make) return -1
        found = Atomics.compareExchange(this.cells, at, 0, key)
        if (found === 0) return at
      }
      if (found === key) return at
    }
    return -1
  }
}
