/** The page for Prometheus and for whoever looks after the process: `/metrics`, `/healthz`, `/readyz`. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Metrics } from './metrics.ts'

/** For a whole request, and for a connection that asks nothing. */
const TIMEOUT_MS = 5000

export class MetricsServer {
  private readonly server: Server

  /** @param ready whether `/readyz` says so */
  constructor(metrics: Metrics, ready: () => boolean) {
    this.server = createServer(
      { requestTimeout: TIMEOUT_MS, headersTimeout: TIMEOUT_MS, connectionsCheckingInterval: 500, maxHeaderSize: 8192 },
      (request, response) => {
        const path = (request.url ?? '').split('?', 1)[0]
        const say = (status: number, body: string, type = 'text/plain; charset=utf-8'): void => {
          const allow = status === 405 ? { allow: 'GET, HEAD' } : {}
          response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store', ...allow })
          response.end(request.method === 'HEAD' ? undefined : body)
        }
        request.resume()
        if (request.method !== 'GET' && request.method !== 'HEAD') say(405, 'method not allowed\n')
        else if (path === '/metrics') {
          metrics.page().then(
            (page) => say(200, page, metrics.registry.contentType),
            (error: Error) => say(500, `${error.message}\n`),
          )
        } else if (path === '/healthz') say(200, 'ok\n')
        else if (path === '/readyz') say(ready() ? 200 : 503, ready() ? 'ready\n' : 'not ready\n')
        else say(404, 'not found: /metrics, /healthz and /readyz are here\n')
      },
    )
    this.server.maxConnections = 64
    this.server.keepAliveTimeout = TIMEOUT_MS
  }

  /** Resolves with the address once it listens; rejects where it cannot. */
  listen(host: string, port: number): Promise<string> {
    return new Promise((resolve, reject) => {
      this.server.once('error', reject)
      this.server.listen({ host, port }, () => {
        this.server.off('error', reject)
        // No descriptor is left for one more connection: the data plane tells of it.
        this.server.on('error', () => {})
        const { address, port: bound, family } = this.server.address() as AddressInfo
        resolve(`http://${family === 'IPv6' ? `[${address}]` : address}:${bound}/metrics`)
      })
    })
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.server.close(() => resolve())
      this.server.closeAllConnections()
    })
  }
}
