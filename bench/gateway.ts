/** Headgate as the benchmarks run it: `node gateway.ts POLICY`, the same as `headgate run POLICY` from the sources. */
import { runGateway } from '../src/cli/run-gateway.ts'

process.exitCode = await runGateway(process.argv[2])
