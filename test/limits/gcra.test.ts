/** The cell rate algorithm against a bucket of tokens that is counted in the open, with a clock that never wraps. */
import fc from 'fast-check'
import t from 'tap'
import { conforms, rateOf, takeBack } from '../../src/limits/gcra.ts'

const cell = (us: number) => Int32Array.of(us | 0)

/** A bucket of `burst` tokens that gains one each `interval` microseconds; holds its level in microseconds. */
class Bucket {
  private level: number
  private last: number
  private readonly interval: number
  private readonly full: number

  constructor(interval: number, burst: number, us: number) {
    this.interval = interval
    this.full = interval * burst
    this.level = this.full
    this.last = us
  }

  take(us: number): boolean {
    this.level = Math.min(this.full, this.level + (us - this.last))
    this.last = us
    if (this.level < this.interval) return false
    this.level -= this.interval
    return true
  }
}

t.test('rates', (t) => {
  t.same(rateOf(100, 10), { interval: 10_000, tolerance: 90_000 })
  t.same(rateOf(1, 1), { interval: 1_000_000, tolerance: 0 })
  t.same(rateOf(1_000_000, 100_000), { interval: 1, tolerance: 99_999 })
  t.equal(rateOf(100, 0).tolerance, 0, 'a burst is at least one')
  const { interval, tolerance } = rateOf(1, 100_000)
  t.ok(interval + tolerance < 2 ** 31 - 2 ** 21, 'the longest run ahead fits in 32 bits, with room for clocks apart')
  t.end()
})

t.test('allows just what a bucket of tokens allows, wherever the clock wraps', (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom(1, 3, 10, 100, 997, 10_000, 1_000_000),
      fc.integer({ min: 1, max: 50 }),
      fc.constantFrom(0, 2 ** 31 - 5000, 2 ** 32 - 5000, 12_345),
      fc.array(fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 2_000_000 })), { maxLength: 200 }),
      (perSecond, burst, start, gaps) => {
        const rate = rateOf(perSecond, burst)
        const cells = cell(start)
        const bucket = new Bucket(rate.interval, burst, start)
        let us = start
        for (const gap of gaps) {
          us += gap
          if (conforms(cells, 0, rate, us | 0) !== bucket.take(us)) return false
        }
        return true
      },
    ),
    { numRuns: 300 },
  )
  t.end()
})

t.test('clocks that are read apart do not loosen the limit', (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom(10, 100, 1000),
      fc.integer({ min: 1, max: 20 }),
      fc.array(fc.tuple(fc.integer({ min: 0, max: 3000 }), fc.integer({ min: 0, max: 100_000 })), {
        minLength: 50,
        maxLength: 300,
      }),
      (perSecond, burst, arrivals) => {
        const rate = rateOf(perSecond, burst)
        const cells = cell(0)
        let us = 0
        let allowed = 0
        for (const [gap, lag] of arrivals) {
          us += gap
          // Another thread has read its clock a while ago.
          if (conforms(cells, 0, rate, Math.max(0, us - lag))) allowed++
        }
        return allowed <= burst + us / rate.interval + 1
      },
    ),
    { numRuns: 300 },
  )
  t.end()
})

t.test('a denied event counts nothing, and one taken back leaves no trace', (t) => {
  const rate = rateOf(10, 3)
  const cells = cell(0)
  for (let i = 0; i < 3; i++) t.ok(conforms(cells, 0, rate, 0))
  for (let i = 0; i < 100; i++) t.notOk(conforms(cells, 0, rate, 50_000))
  t.ok(conforms(cells, 0, rate, 100_000))
  t.notOk(conforms(cells, 0, rate, 100_000))
  takeBack(cells, 0, rate)
  t.ok(conforms(cells, 0, rate, 100_000))
  t.notOk(conforms(cells, 0, rate, 100_000))
  t.end()
})

t.test('a rate with a smaller burst than that before it does not wait for the greater one to run out', (t) => {
  const cells = cell(0)
  const generous = rateOf(1, 1000)
  for (let i = 0; i < 1000; i++) conforms(cells, 0, generous, 0)
  t.ok(conforms(cells, 0, rateOf(1, 1), 0))
  t.end()
})
