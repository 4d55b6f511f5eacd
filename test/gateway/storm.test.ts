/** Storm control: what is told at once, what is counted and told later, and what a caller may say again by its kind. */
import t from 'tap'
import { Storm } from '../../src/gateway/storm.ts'
import type { EventInput } from '../../src/records/catalogue.ts'

const event = (detail: string): EventInput => ({ event: 'request.denied', detail })

t.test('a kind said again counts as if it were said by its key, over every sweep', async (t) => {
  const told: EventInput[] = []
  const storm = new Storm(1000, (input) => told.push(input))
  let kind = storm.say('a', 0, () => event('first'))
  t.equal(storm.again(kind, 1), false, 'nothing is held back yet, so there is no example of it')
  t.equal(
    storm.say('a', 1, () => event('second')),
    kind,
  )
  t.equal(storm.again(kind, 2), true)
  t.equal(storm.again(kind, 3), true)
  storm.sweep(1500)
  t.match(told, [{ detail: 'first' }, { detail: 'second', count: 3, last: '1970-01-01T00:00:00.003Z' }])

  t.equal(storm.again(kind, 1501), false, 'told: the next is an example again')
  storm.sweep(3000)
  t.equal(storm.again(kind, 3001), false, 'forgotten: counting it would lose it')
  kind = storm.say('a', 3001, () => event('third'))
  t.equal(told.length, 3, 'told at once, as it has fallen silent')
  t.equal(told.at(-1)?.detail, 'third')
})
