/** A worker thread of the data plane: takes policies from the main thread, and runs a transport under them. */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { SharedSessions } from '../limits/opcua-sessions.ts'
import { SharedLimits } from '../limits/shared-limits.ts'
import { OpenGuard } from '../protocols/opcua/terminate/open-guard.ts'
import { DataPlane } from './data-plane.ts'
import { EpollTransport } from './linux/epoll-transport.ts'
import { Holdings } from './linux/holdings.ts'
import type { FromWorker, ToWorker, WorkerSetup } from './messages.ts'
import { NetTransport } from './net/net-transport.ts'
import { Plan } from './plan.ts'
import type { Transport } from './transport.ts'

/** How long sockets that are still closing may keep the thread. */
const EXIT_MS = 200

const setup = workerData as WorkerSetup
const port = parentPort
if (port === null) throw new Error('worker.ts runs as a worker thread')
const say = (message: FromWorker): void => port.postMessage(message)

const plane = new DataPlane(new SharedLimits(setup.limits, setup.index), setup.index, (events) =>
  say({ type: 'events', events }),
)
plane.onShare = (share) => say({ type: 'baseline', share })
plane.onRejected = (conduit, list, der) => say({ type: 'rejected', conduit, list, der })
plane.onDrained = () => say({ type: 'drained' })
/** Kept over reloads. */
const terminate = {
  store: new SharedSessions(setup.sessions, setup.index),
  guard: new OpenGuard(plane.clock.ms),
  targets: new Map(),
}
const transport = open()
const listening = new Set<string>()

function open(): Transport {
  const shared = setup.workers > 1
  if (setup.io === 'net') {
    port?.on('message', take)
    return new NetTransport(plane, shared)
  }
  // The loop never returns to Node's, so messages are fetched when the eventfd says that there are some.
  const epoll = new EpollTransport(plane, shared, new Holdings(setup.holdings), fetch)
  say({ type: 'wake', fd: epoll.wakeFd })
  return epoll
}

function fetch(): void {
  for (;;) {
    const received = port === null ? undefined : receiveMessageOnPort(port)
    if (received === undefined) return
    take(received.message as ToWorker)
  }
}

function take(message: ToWorker): void {
  if (message.type === 'policy') adopt(message)
  else if (message.type === 'drain') {
    for (const key of listening) transport.unlisten(key)
    listening.clear()
    plane.drain()
  } else {
    plane.stop()
    transport.stop()
    port?.close()
    setTimeout(() => process.exit(0), EXIT_MS).unref()
  }
}

/** Nothing in here waits: the loop of the epoll transport runs no promise. */
function adopt({
  version,
  policy,
  layout,
  cells,
  targets,
  shadow,
  normal,
  pki,
}: Extract<ToWorker, { type: 'policy' }>): void {
  const { values, gate } = setup
  const shared = { layout, cells: new Float64Array(cells), values, targets, gate, normal }
  const plan = new Plan(policy, { ...shared, terminate: { ...terminate, pki } }, shadow)
  for (const key of [...listening]) {
    if (plan.listeners.has(key)) continue
    transport.unlisten(key)
    listening.delete(key)
  }
  plane.adopt(plan)
  let open = 1
  let failed = false
  const opened = (key: string, code: string | null): void => {
    open--
    if (code !== null && !failed) {
      failed = true
      say({ type: 'failed', version, listen: key, code })
    } else if (code === null && key !== '') listening.add(key)
    if (open === 0 && !failed) say({ type: 'adopted', version })
  }
  for (const [key, listener] of plan.listeners) {
    if (listening.has(key)) continue
    open++
    transport.listen(listener, (code) => opened(key, code))
  }
  opened('', null)
}

if (setup.io === 'epoll') fetch()
transport.run()
