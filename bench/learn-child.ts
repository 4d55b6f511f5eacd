/** `headgate learn` or `headgate replay` on one capture, as a process of its own, so that its memory can be told. */
import { runLearn } from '../src/cli/learn-run.ts'
import { runReplay } from '../src/cli/replay-run.ts'

const [verb, capture, policy] = process.argv.slice(2)
process.exitCode =
  verb === 'learn'
    ? await runLearn({ pcap: [capture], output: policy, anyPort: false, force: true })
    : await runReplay(policy, { pcap: [capture], anyPort: false, format: 'text' })
