/** `node bench/kill.ts [ROUNDS]`: kills a gateway under load, 50 times unless told otherwise, and holds it to its word. */
import { killRounds } from '../test/support/kill-rounds.ts'
import { say } from './stats.ts'

await killRounds(Number(process.argv[2] ?? 50), say)
