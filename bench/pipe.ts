/** The plainest relay that Node can be: two sockets piped into each other. `node pipe.ts LISTEN TARGET` */
import net from 'node:net'

const [listen, target] = process.argv.slice(2).map(Number)

net
  .createServer({ noDelay: true }, (client) => {
    const upstream = net.connect({ host: '127.0.0.2', port: target, noDelay: true })
    const end = (): void => {
      client.destroy()
      upstream.destroy()
    }
    client.on('error', end).on('close', end)
    upstream.on('error', end).on('close', end)
    client.pipe(upstream)
    upstream.pipe(client)
  })
  .listen({ host: '127.0.0.1', port: listen, backlog: 4096 })
