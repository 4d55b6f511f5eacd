/** The order in which a turn's events are looked at: by descriptor, each once, none lost. */
import fc from 'fast-check'
import t from 'tap'
import { EventOrder } from '../../../src/gateway/linux/event-order.ts'
import { AREA } from '../../../src/gateway/linux/memory.ts'

/** Events of these descriptors, as `epoll_wait` leaves them. */
function eventsOf(fds: readonly number[]): Int32Array {
  const words = new Int32Array(AREA.events * 3).fill(-1)
  for (const [i, fd] of fds.entries()) words[i * 3 + 1] = fd
  return words
}

t.test('events out of order are put in order, turn after turn, whatever came before', async () => {
  const turn = fc.uniqueArray(fc.oneof(fc.nat(1500), fc.nat(70_000)), { minLength: 1, maxLength: AREA.events })
  fc.assert(
    fc.property(fc.array(turn, { minLength: 1, maxLength: 5 }), (turns) => {
      const order = new EventOrder()
      for (const fds of turns) {
        const places = order.arrange(eventsOf(fds), fds.length)
        if (places === null) continue
        const looked = Array.from(places.subarray(0, fds.length), (place) => fds[place])
        const sorted = [...fds].sort((a, b) => a - b)
        if (JSON.stringify(looked) !== JSON.stringify(sorted)) return false
      }
      return true
    }),
    { numRuns: 300 },
  )
})

t.test('only many events that are much out of order are worth it', async (t) => {
  const order = new EventOrder()
  const upwards = Array.from({ length: 400 }, (_, i) => 10 + i)
  const downwards = [...upwards].reverse()
  t.equal(order.arrange(eventsOf(upwards), 400), null, 'in order')
  t.equal(order.arrange(eventsOf([...upwards.slice(200), ...upwards.slice(0, 200)]), 400), null, 'one step back')
  t.equal(order.arrange(eventsOf(downwards.slice(0, 40)), 40), null, 'few')
  t.not(order.arrange(eventsOf(downwards), 400), null)
})
