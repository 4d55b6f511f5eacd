/**
 * Real receivers of syslog: rsyslog and syslog-ng as Debian has them, started with a configuration of the test's on
 * loopback. Found on PATH and in the usual places, or where HEADGATE_TEST_RSYSLOGD (with HEADGATE_TEST_RSYSLOG_MODULES,
 * its modules' directory, and HEADGATE_TEST_RSYSLOG_LIBS, that of its libraries) and HEADGATE_TEST_SYSLOG_NG say.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { delimiter, join } from 'node:path'
import { until } from './sockets.ts'

function find(name: string, variable: string): string | null {
  const given = process.env[variable]
  if (given) return existsSync(given) ? given : null
  const places = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']
  return places.map((place) => join(place, name)).find((path) => existsSync(path)) ?? null
}

export const RSYSLOGD = find('rsyslogd', 'HEADGATE_TEST_RSYSLOGD')
export const SYSLOG_NG = find('syslog-ng', 'HEADGATE_TEST_SYSLOG_NG')
export const OPENSSL = spawnSync('openssl', ['version']).status === 0

export interface Certificates {
  ca: string
  server: { cert: string; key: string }
  client: { cert: string; key: string }
  /** Of a CA that nobody trusts. */
  otherCa: string
}

/** A CA, a server for 127.0.0.1 and siem.test, and a client, all good for two days. */
export function certificates(directory: string): Certificates {
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' })
  const own = (name: string, subject: string): void =>
    openssl(
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '2',
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.pem`,
      '-subj',
      subject,
    )
  own('ca', '/CN=Headgate test CA')
  own('other', '/CN=Another CA')
  for (const [name, subject, extensions] of [
    ['server', '/CN=siem.test', 'subjectAltName=IP:127.0.0.1,DNS:siem.test\nextendedKeyUsage=serverAuth\n'],
    ['client', '/CN=gw-unit3', 'extendedKeyUsage=clientAuth\n'],
  ]) {
    writeFileSync(join(directory, `${name}.ext`), extensions)
    openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', subject)
    openssl(
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-days',
      '2',
      '-extfile',
      `${name}.ext`,
      '-out',
      `${name}.pem`,
    )
  }
  const at = (name: string): string => join(directory, name)
  return {
    ca: at('ca.pem'),
    server: { cert: at('server.pem'), key: at('server.key') },
    client: { cert: at('client.pem'), key: at('client.key') },
    otherCa: at('other.pem'),
  }
}

export interface DaemonPorts {
  udp: number
  tcp: number
  tls: number
}

export class Daemon {
  private readonly child: ChildProcess
  private readonly output: string
  private said = ''

  private constructor(child: ChildProcess, output: string) {
    this.child = child
    this.output = output
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (data) => (this.said += data))
  }

  static async start(
    command: string,
    args: string[],
    env: NodeJS.ProcessEnv,
    output: string,
    port: number,
  ): Promise<Daemon> {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } })
    const daemon = new Daemon(child, output)
    const end = Date.now() + 10_000
    for (;;) {
      if (child.exitCode !== null || Date.now() > end) {
        await daemon.stop()
        throw new Error(`${command} does not start: ${daemon.said}`)
      }
      const open = await new Promise<boolean>((resolve) => {
        const socket = net.connect(port, '127.0.0.1', () => resolve(socket.destroy() !== null))
        socket.on('error', () => resolve(false))
      })
      if (open) return daemon
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  /** What it has written, a JSON object for each message. */
  async written(count: number): Promise<Record<string, string>[]> {
    const lines = (): string[] =>
      existsSync(this.output) ? readFileSync(this.output, 'utf8').split('\n').slice(0, -1) : []
    await until(() => lines().length >= count, `${count} messages, there are ${lines().length}: ${this.said}`, 10_000)
    return lines().map((line) => JSON.parse(line))
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const ended = new Promise((resolve) => this.child.once('exit', resolve))
    this.child.kill('SIGTERM')
    const kill = setTimeout(() => this.child.kill('SIGKILL'), 3000)
    await ended
    clearTimeout(kill)
  }
}

export function startRsyslog(directory: string, ports: DaemonPorts, { ca, server }: Certificates): Promise<Daemon> {
  const output = join(directory, 'rsyslog.jsonl')
  const config = join(directory, 'rsyslog.conf')
  const property = (name: string, more = ''): string =>
    `  property(outname="${name}" name="${name}" format="jsonf"${more})\n`
  writeFileSync(
    config,
    `global(workDirectory="${directory}" maxMessageSize="64k" net.enableDNS="off" net.permitACLWarning="off"
  parser.escapeControlCharactersOnReceive="on"
  defaultNetstreamDriverCAFile="${ca}" defaultNetstreamDriverCertFile="${server.cert}"
  defaultNetstreamDriverKeyFile="${server.key}")
module(load="imudp")
module(load="imtcp")
template(name="all" type="list" option.jsonf="on") {
${property('pri')}${property('timereported', ' dateFormat="rfc3339"')}${property('hostname')}${property('app-name')}${property('procid')}${property('msgid')}${property('structured-data')}${property('msg')}${property('inputname')}}
input(type="imudp" address="127.0.0.1" port="${ports.udp}" name="udp")
input(type="imtcp" address="127.0.0.1" port="${ports.tcp}" name="tcp")
input(type="imtcp" address="127.0.0.1" port="${ports.tls}" name="tls" streamDriver.name="gtls" streamDriver.mode="1"
  streamDriver.authMode="x509/certvalid")
action(type="omfile" file="${output}" template="all" asyncWriting="off" flushOnTXEnd="on")
`,
  )
  const modules = process.env.HEADGATE_TEST_RSYSLOG_MODULES
  const args = ['-n', '-f', config, '-i', join(directory, 'rsyslog.pid'), ...(modules ? ['-M', modules] : [])]
  const libraries = process.env.HEADGATE_TEST_RSYSLOG_LIBS
  return Daemon.start(RSYSLOGD as string, args, libraries ? { LD_LIBRARY_PATH: libraries } : {}, output, ports.tls)
}

export function startSyslogNg(directory: string, ports: DaemonPorts, { ca, server }: Certificates): Promise<Daemon> {
  const output = join(directory, 'syslog-ng.jsonl')
  const config = join(directory, 'syslog-ng.conf')
  const version = /Config version: (\S+)/.exec(
    execFileSync(SYSLOG_NG as string, ['--version'], { encoding: 'utf8' }),
  )?.[1]
  writeFileSync(
    config,
    `@version: ${version ?? '3.35'}
options { keep-hostname(yes); chain-hostnames(no); use-dns(no); log-msg-size(65536); stats-freq(0); keep-timestamp(yes); };
source udp { syslog(transport("udp") ip(127.0.0.1) port(${ports.udp})); };
source tcp { syslog(transport("tcp") ip(127.0.0.1) port(${ports.tcp})); };
source lines { network(transport("tcp") ip(127.0.0.1) port(${ports.tcp + 1}) flags(syslog-protocol)); };
source tls { syslog(transport("tls") ip(127.0.0.1) port(${ports.tls})
  tls(key-file("${server.key}") cert-file("${server.cert}") ca-file("${ca}") peer-verify(required-trusted))); };
destination all { file("${output}" flush-lines(1) template("$(format-json --pair pri=$PRI --pair time=$R_ISODATE
  --pair stamp=$S_ISODATE --pair host=$HOST --pair program=$PROGRAM --pair pid=$PID --pair msgid=$MSGID --pair msg=$MSG
  --pair source=$SOURCE --key .SDATA.* )\\n")); };
log { source(udp); source(tcp); source(lines); source(tls); destination(all); };
`.replace(/\n {2}--/g, ' --'),
  )
  const args = [
    '-F',
    '--no-caps',
    '-f',
    config,
    '-R',
    join(directory, 'ng.persist'),
    '-c',
    join(directory, 'ng.ctl'),
    '-p',
    join(directory, 'ng.pid'),
  ]
  return Daemon.start(SYSLOG_NG as string, args, {}, output, ports.tls)
}
