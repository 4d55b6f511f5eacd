/** A minute's part of `npm run fuzz`, which does ten million frames. */
import t from 'tap'
import { fuzz } from '../support/fuzz.ts'
import { TRANSPORTS } from '../support/gateway.ts'

const FRAMES = 40_000

for (const io of TRANSPORTS) {
  t.test(`${FRAMES} frames over ${io}, cut at random`, { timeout: 60_000 }, async (t) => {
    const seed = Date.now() | 0
    t.comment(`seed ${seed}`)
    t.same(await fuzz({ io, frames: FRAMES, seed }), { frames: FRAMES, verdicts: FRAMES }, `seed ${seed}`)
  })
}
