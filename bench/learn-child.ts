/** What `headgate learn` does with a capture, as a process of its own, so that its memory can be told. */
import { BaselineCollector } from '../src/baseline/baseline.ts'
import { ingest } from '../src/baseline/ingest.ts'

const collector = new BaselineCollector()
await ingest(process.argv[2], collector, { ports: [502], anyPort: false })
const { flows } = collector.toFile()
console.log(`requests ${flows.reduce((sum, flow) => sum + flow.requests, 0)}`)
