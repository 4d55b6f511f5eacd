/** The page for Prometheus and for whoever looks after the process: `/metrics`, `/healthz`, `/readyz`. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Metrics } from './metrics.ts'

export class MetricsServer {
  private readonly server: Server
  /** Whether `/readyz` says so. */
  ready = false

  constructor(metrics: Metrics) {
    this.server = createServer(
      { requestTimeout: 5000, headersTimeout: 5000, maxHeaderSize: 8192 },
      (request, response) => {
        const path = (request.url ?? '').split('?', 1)[0]
        const say = (status: number, body: string, type = 'text/plain; charset=utf-8'): void => {
          response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' })
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
        else if (path === '/readyz') say(this.ready ? 200 : 503, this.ready ? 'ready\n' : 'not ready\n')
        else say(404, 'not found: /metrics, /healthz and /readyz are here\n')
      },
    )
    this.server.maxConnections = 64
    this.server.keepAliveTimeout = 5000
  }

  /** Resolves with the address once it listens; rejects where it cannot. */
  listen(host: string, port: number): Promise<string> {
    return new Promise((resolve, reject) => {
      this.server.once('error', reject)
      this.server.listen({ host, port }, () => {
        this.server.off('error', reject)
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
