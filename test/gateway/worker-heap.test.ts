/** The heap that workers are given, as V8 says it has it. */
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { workerHeap } from '../../src/gateway/worker-heap.ts'
import type { Policy } from '../../src/policy/model.ts'
import { modbusPolicy } from '../support/policy.ts'

const relay = modbusPolicy([
  {
    id: 'C1',
    rules: [{ functions: ['read'] }],
    listen: { host: '127.0.0.1', port: 1502 },
    target: { host: '127.0.0.1', port: 502 },
  },
])
const terminates = (): Policy => {
  const policy = structuredClone(relay)
  const [conduit] = policy.conduits
  const opcua = { kind: 'opcua', handling: 'terminate' } as (typeof conduit.protocols)[number]
  return { ...policy, conduits: [{ ...conduit, protocols: [...conduit.protocols, opcua] }] }
}

interface Heap {
  /** Collections of the whole heap. */
  major: number
  youngMb: number
}

/** What becomes of a worker's heap that keeps all of the 32 MB that it makes. */
async function filled(io: 'epoll' | 'net', policy: Policy): Promise<Heap> {
  const source = `
    const { parentPort } = require('node:worker_threads')
    const { PerformanceObserver, constants } = require('node:perf_hooks')
    const { getHeapSpaceStatistics } = require('node:v8')
    let major = 0
    new PerformanceObserver((list) => {
      for (const { detail } of list.getEntries()) if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) major++
    }).observe({ entryTypes: ['gc'] })
    const kept = []
    for (let i = 0; i < 32 * 1024; i++) kept.push(new Array(125).fill(i))
    const young = getHeapSpaceStatistics().find((space) => space.space_name === 'new_space').space_size
    setTimeout(() => parentPort.postMessage({ major, youngMb: young / 2 ** 20, kept: kept.length }), 50)
  `
  const worker = new Worker(source, { eval: true, resourceLimits: workerHeap(io, policy) })
  return new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
}

t.test('a worker that relays has a small young generation, and room before its whole heap is marked', async (t) => {
  const { major, youngMb } = await filled('epoll', relay)
  t.equal(major, 0, 'what grows to what a worker has is not marked')
  t.ok(youngMb <= 3, `${youngMb} MB`)
  for (const [io, policy] of [
    ['net', relay],
    ['epoll', terminates()],
  ] as const) {
    const own = await filled(io, policy)
    t.ok(own.youngMb > 3, `V8's own size, ${own.youngMb} MB`)
  }
})
