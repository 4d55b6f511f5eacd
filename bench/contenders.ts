/** The relays that are compared, each as a child process between a port of its own and the same target. */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { unavailable } from '../src/gateway/linux/syscalls.ts'
import { VERSION } from '../src/version.ts'
import { compiled, filledIn, find, here, versionOf } from './machine.ts'
import { freePort, type Running, serve } from './processes.ts'

export interface Contender {
  name: string
  version: string
  /** Why it cannot take part; null: it can. */
  missing: string | null
  start(target: number, cpu: number | null): Promise<Running>
}

/** Connection pairs that the yardstick is configured for; HAProxy's memory depends on it. */
export const MAX_PAIRS = 4000

/** The target's address: another zone's than the clients'. */
const TARGET_HOST = '127.0.0.2'

const node = process.execPath
const haproxyFile = find('haproxy')
const nginxFile = find('nginx')
const nginxModule = '/usr/lib/nginx/modules/ngx_stream_module.so'

function haproxy(maxconn: number): Contender {
  return {
    name: 'HAProxy',
    version: haproxyFile === null ? '' : versionOf(haproxyFile, '-v'),
    missing: haproxyFile === null ? 'no haproxy (Debian package haproxy)' : null,
    async start(target, cpu) {
      const port = await freePort()
      const env = { BENCH_LISTEN: String(port), BENCH_TARGET: String(target), BENCH_MAXCONN: String(maxconn) }
      return serve(haproxyFile ?? '', ['-db', '-f', join(here, 'haproxy.cfg')], cpu, port, env)
    },
  }
}

const nginx: Contender = {
  name: 'nginx stream',
  version: nginxFile === null ? '' : versionOf(nginxFile, '-v'),
  missing:
    nginxFile === null || !existsSync(nginxModule)
      ? 'no nginx with its stream module (Debian packages nginx-core, libnginx-mod-stream)'
      : null,
  async start(target, cpu) {
    const port = await freePort()
    const file = filledIn('nginx.conf', { BENCH_LISTEN: port, BENCH_TARGET: target })
    const master = await serve(nginxFile ?? '', ['-p', dirname(file), '-c', file], cpu, port)
    // The work is done by the master's one child.
    const children = readFileSync(`/proc/${master.pid}/task/${master.pid}/children`, 'utf8')
    return { ...master, pid: Number.parseInt(children, 10) }
  },
}

const pipe: Contender = {
  name: 'Node pipe',
  version: process.version,
  missing: null,
  async start(target, cpu) {
    const port = await freePort()
    return serve(node, [join(here, 'pipe.ts'), String(port), String(target)], cpu, port)
  },
}

/** @param gateway more lines for the policy's `gateway` */
export function headgate(io: 'epoll' | 'net', workers = 1, flags: string[] = [], gateway = ''): Contender {
  return {
    name: `Headgate ${io}`,
    version: VERSION,
    missing: io === 'epoll' ? unavailable() : null,
    async start(target, cpu) {
      const port = await freePort()
      const values = {
        BENCH_LISTEN: port,
        BENCH_TARGET: target,
        BENCH_IO: io,
        BENCH_WORKERS: workers,
        BENCH_GATEWAY: gateway,
      }
      const policy = filledIn('policy.yaml', values)
      return serve(node, [...flags, join(here, 'gateway.ts'), policy], cpu, port)
    },
  }
}

/** All of them, the yardstick first. */
export const contenders = (maxPairs = MAX_PAIRS): Contender[] => [
  haproxy(maxPairs),
  headgate('epoll'),
  headgate('net'),
  nginx,
  pipe,
]

/** The Modbus/TCP server behind all of them. */
export async function startTarget(cpu: number | null): Promise<Running> {
  const port = await freePort()
  const program = compiled('mbserver')
  const args = ['--listen', `${TARGET_HOST}:${port}`, '--quiet']
  return program === null
    ? serve(node, [join(here, 'load/server.ts'), ...args], cpu, port, {}, TARGET_HOST)
    : serve(program, args, cpu, port, {}, TARGET_HOST)
}
