/** Loaded before Headgate by tests of its worker threads: SIGUSR2 ends the oldest of them, as a crash would. */
import type { Worker } from 'node:worker_threads'

const workers: Worker[] = []
process.on('worker', (worker) => {
  workers.push(worker)
  worker.once('exit', () => workers.splice(workers.indexOf(worker), 1))
})
process.on('SIGUSR2', () => void workers[0]?.terminate())
