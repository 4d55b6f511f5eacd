/**
 * Hosts of a plant as network namespaces of one machine: each with its own addresses, routes, firewall and loopback,
 * linked by virtual Ethernet pairs.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import type { Test } from 'tap'

let count = 0
const run = (command: string, ...args: string[]): string => {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', timeout: 20_000 })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr.trim()}`)
  return stdout
}

/** What a test is skipped with; false: namespaces can be had. */
export function noNamespaces(...programs: string[]): string | false {
  if (process.platform !== 'linux') return 'no network namespaces here: this is no Linux'
  if (process.getuid?.() !== 0) return 'no network namespaces here: not root'
  for (const program of ['ip', ...programs]) {
    if (spawnSync('which', [program]).status !== 0)
      return `no ${program} here (Debian: ${program === 'nft' ? 'nftables' : 'iproute2'})`
  }
  const name = `hgtest-${process.pid}`
  const { status, stderr } = spawnSync('ip', ['netns', 'add', name], { encoding: 'utf8' })
  if (status !== 0) return `no network namespaces here: ${stderr.trim().split('\n')[0]}`
  const up = spawnSync('ip', ['netns', 'exec', name, 'ip', 'link', 'set', 'lo', 'up'], { encoding: 'utf8' })
  const table = programs.includes('nft')
    ? spawnSync('ip', ['netns', 'exec', name, 'nft', 'add', 'table', 'inet', 'probe'], { encoding: 'utf8' })
    : up
  spawnSync('ip', ['netns', 'del', name])
  const failed = [up, table].find((one) => one.status !== 0)
  return failed === undefined ? false : `network namespaces do not work here: ${failed.stderr.trim().split('\n')[0]}`
}

export interface Ran {
  code: number | null
  out: string
  err: string
}

export class Network {
  private readonly names = new Map<string, string>()
  private readonly children: ChildProcess[] = []
  private links = 0
  private readonly id = `hg${process.pid.toString(36)}${(count++).toString(36)}`

  constructor(t: Test, hosts: readonly string[]) {
    t.teardown(async () => {
      for (const child of this.children) {
        if (child.exitCode !== null || child.signalCode !== null) continue
        const gone = new Promise((resolve) => child.once('close', resolve))
        child.kill('SIGKILL')
        await gone
      }
      for (const name of this.names.values()) spawnSync('ip', ['netns', 'del', name])
    })
    for (const host of hosts) {
      const name = `${this.id}-${host}`
      run('ip', 'netns', 'add', name)
      this.names.set(host, name)
      this.exec(host, 'ip', 'link', 'set', 'lo', 'up')
    }
  }

  private name(host: string): string {
    const name = this.names.get(host)
    if (name === undefined) throw new Error(`no host ${host}`)
    return name
  }

  /** A cable between two hosts, with an address (`10.0.0.1/24`) at each end. */
  link(a: string, addressA: string, b: string, addressB: string): void {
    const [one, two] = [`${this.id}a${this.links}`, `${this.id}b${this.links}`]
    this.links++
    run('ip', 'link', 'add', one, 'netns', this.name(a), 'type', 'veth', 'peer', 'name', two, 'netns', this.name(b))
    for (const [host, device, address] of [
      [a, one, addressA],
      [b, two, addressB],
    ]) {
      this.exec(host, 'ip', 'addr', 'add', address, 'dev', device, ...(address.includes(':') ? ['nodad'] : []))
      this.exec(host, 'ip', 'link', 'set', device, 'up')
    }
  }

  route(host: string, via: string): void {
    this.exec(host, 'ip', 'route', 'add', 'default', 'via', via)
  }

  forward(host: string): void {
    this.exec(host, 'sysctl', '-q', '-w', 'net.ipv4.ip_forward=1')
  }

  /** Replaces the host's ruleset. */
  nft(host: string, rules: string): void {
    const { status, stderr } = spawnSync('ip', ['netns', 'exec', this.name(host), 'nft', '-f', '-'], {
      input: `flush ruleset\n${rules}\n`,
      encoding: 'utf8',
    })
    if (status !== 0) throw new Error(`nft: ${stderr}`)
  }

  exec(host: string, command: string, ...args: string[]): string {
    return run('ip', 'netns', 'exec', this.name(host), command, ...args)
  }

  /** Runs a program on a host to its end, with this process's loop going on. */
  async run(host: string, command: string, ...args: string[]): Promise<Ran> {
    const child = this.spawn(host, command, ...args)
    let out = ''
    let err = ''
    child.stdout?.on('data', (data) => {
      out += data
    })
    child.stderr?.on('data', (data) => {
      err += data
    })
    const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
    return { code, out, err }
  }

  spawn(host: string, command: string, ...args: string[]): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', this.name(host), command, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.children.push(child)
    return child
  }
}

/** Resolves with the first line of a child's stdout that matches. */
export function lineOf(child: ChildProcess, pattern: RegExp, ms = 20_000): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    let err = ''
    const timer = setTimeout(() => reject(new Error(`no ${pattern} in: ${text}${err}`)), ms)
    child.stderr?.on('data', (data) => {
      err += data
    })
    child.once('close', () => reject(new Error(`ended without ${pattern}: ${text}${err}`)))
    child.stdout?.on('data', (data) => {
      text += data
      const line = text.split('\n').find((one) => pattern.test(one))
      if (line === undefined) return
      clearTimeout(timer)
      resolve(line)
    })
  })
}
