/** Last known register values in shared memory, against a map. */
import fc from 'fast-check'
import t from 'tap'
import { SharedPresentValues, VALUE_ENTRIES, valuesBytes } from '../../src/limits/present-values.ts'

const all = new Uint8Array(65536).fill(1)

t.test('what was set is what is there, for each target, unit and register alone', (t) => {
  const edge = (max: number) => fc.oneof(fc.constantFrom(0, 1, max - 1, max), fc.nat({ max }))
  fc.assert(
    fc.property(
      fc.array(fc.tuple(edge(126), edge(255), edge(65535), edge(65535)), { minLength: 1, maxLength: 300 }),
      (entries) => {
        const memory = new SharedArrayBuffer(valuesBytes())
        const model = new Map<string, number>()
        for (const [target, unit, register, value] of entries) {
          new SharedPresentValues(memory, target, all).set(unit, register, value)
          model.set(`${target} ${unit} ${register}`, value)
        }
        return entries.every(
          ([target, unit, register]) =>
            new SharedPresentValues(memory, target, all).get(unit, register) ===
            model.get(`${target} ${unit} ${register}`),
        )
      },
    ),
    { numRuns: 60 },
  )
  t.end()
})

t.test('what nobody has read is unknown', (t) => {
  const memory = new SharedArrayBuffer(valuesBytes())
  const values = new SharedPresentValues(memory, 0, all)
  t.equal(values.get(1, 2), -1)
  values.set(1, 2, 0)
  t.equal(values.get(1, 2), 0, 'zero is a value')
  t.equal(values.get(2, 1), -1)
  t.equal(new SharedPresentValues(memory, 1, all).get(1, 2), -1, 'another target')
  t.end()
})

t.test('only what a rule watches takes room', (t) => {
  const watched = new Uint8Array(65536)
  watched[7] = 1
  const memory = new SharedArrayBuffer(valuesBytes())
  const values = new SharedPresentValues(memory, 0, watched)
  for (let register = 0; register < 65536; register++) values.set(1, register, 5)
  t.equal(values.get(1, 7), 5)
  t.equal(values.get(1, 8), -1)
  t.equal(new Int32Array(memory).filter((word) => word !== 0).length, 2)
  t.end()
})

t.test('a full table forgets nothing, gives no wrong value, and ends its search', (t) => {
  const memory = new SharedArrayBuffer(valuesBytes())
  const values = new SharedPresentValues(memory, 0, all)
  for (let unit = 0; unit < 3; unit++) {
    for (let register = 0; register < 65536; register += 2) values.set(unit, register, (register + unit) & 0xffff)
  }
  let known = 0
  for (let unit = 0; unit < 3; unit++) {
    for (let register = 0; register < 65536; register += 2) {
      const value = values.get(unit, register)
      if (value === -1) continue
      known++
      if (value !== ((register + unit) & 0xffff)) throw new Error(`unit ${unit} register ${register}: ${value}`)
    }
  }
  t.ok(known > 0.9 * VALUE_ENTRIES && known <= VALUE_ENTRIES, `${known} of ${VALUE_ENTRIES}`)
  values.set(0, 0, 99)
  t.equal(values.get(0, 0), 99, 'what is known is still kept up')
  t.end()
})
