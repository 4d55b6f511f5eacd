/** A worker thread of the data plane: takes policies from the main thread, and runs a transport under them. */
import { parentPort, workerData } from 'node:worker_threads'
import { SharedLimits } from '../limits/shared-limits.ts'
import { DataPlane } from './data-plane.ts'
import type { FromWorker, ToWorker, WorkerSetup } from './messages.ts'
import { NetTransport } from './net/net-transport.ts'
import { Plan } from './plan.ts'
import type { Transport } from './transport.ts'

const DRAIN_POLL_MS = 20

const setup = workerData as WorkerSetup
const port = parentPort
if (port === null) throw new Error('worker.ts runs as a worker thread')
const say = (message: FromWorker): void => port.postMessage(message)

const limits = new SharedLimits(setup.limits, setup.index)
const plane = new DataPlane(limits, setup.index, (events) => say({ type: 'events', events }))
const transport: Transport = new NetTransport(plane, setup.workers > 1)
const listening = new Set<string>()

async function adopt(message: Extract<ToWorker, { type: 'policy' }>): Promise<void> {
  const { policy, layout, cells, targets, version } = message
  const plan = new Plan(policy, { layout, cells: new Float64Array(cells), values: setup.values, targets })
  for (const key of [...listening]) {
    if (plan.listeners.has(key)) continue
    transport.unlisten(key)
    listening.delete(key)
  }
  plane.adopt(plan)
  for (const [key, listener] of plan.listeners) {
    if (listening.has(key)) continue
    try {
      await transport.listen(listener)
      listening.add(key)
    } catch (error) {
      const { code, message: text } = error as NodeJS.ErrnoException
      say({ type: 'failed', version, listen: key, code: code ?? text })
      return
    }
  }
  say({ type: 'adopted', version })
}

function drain(): void {
  for (const key of listening) transport.unlisten(key)
  listening.clear()
  plane.drain()
  const poll = setInterval(() => {
    if (plane.size > 0) return
    clearInterval(poll)
    say({ type: 'drained' })
  }, DRAIN_POLL_MS)
}

port.on('message', (message: ToWorker) => {
  if (message.type === 'policy') void adopt(message)
  else if (message.type === 'drain') drain()
  else {
    plane.stop()
    transport.stop()
    port.close()
    // Sockets that are still closing keep the thread no longer than this.
    setTimeout(() => process.exit(0), 200).unref()
  }
})
transport.run()
