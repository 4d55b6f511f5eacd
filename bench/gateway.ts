/** Headgate as the benchmarks run it: `node gateway.ts POLICY`, the same as `headgate run POLICY` from the sources. */
import { run } from '../src/cli/run.ts'

process.exitCode = await run(process.argv[2])
