/** A gateway in a process of its own: takes its policy, and later ones, from the parent's messages. */
import { Gateway } from '../../src/gateway/gateway.ts'
import type { Policy } from '../../src/policy/model.ts'

let gateway: Gateway | null = null

process.on('message', async (policy: Policy) => {
  try {
    if (gateway === null) {
      gateway = new Gateway(policy)
      await gateway.start([])
      process.on('SIGTERM', async () => {
        await gateway?.stop('SIGTERM')
        process.disconnect()
      })
    } else await gateway.reload(policy, [])
    process.send?.({ memory: process.memoryUsage.rss() })
  } catch (error) {
    process.send?.({ error: (error as Error).message })
  }
})

// A test that dies leaves no gateway behind.
process.once('disconnect', () => setTimeout(() => process.exit(0), 3000).unref())
