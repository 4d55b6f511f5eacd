import { mkdirSync, readFileSync } from 'node:fs'
import type net from 'node:net'
import { join } from 'node:path'
import tls from 'node:tls'
import t from 'tap'
import type { SyslogSink } from '../../src/policy/model.ts'
import type { EventRecord } from '../../src/records/catalogue.ts'
import { VERSION } from '../../src/version.ts'
import {
  type Certificates,
  certificates,
  OPENSSL,
  RSYSLOGD,
  SYSLOG_NG,
  startRsyslog,
  startSyslogNg,
} from '../support/daemons.ts'
import { freePort } from '../support/gateway.ts'
import { denied, scratch, sinkTerms, TestSink } from '../support/records.ts'
import { sleep, until } from '../support/sockets.ts'

type Tap = Pick<typeof t, 'match' | 'equal'>

/** What a client, an asset's name or a device could make of a field. */
const UGLY = 'a"b\\c]d=e|f\ng\r\nh\ti\0j\u0085k\u2028l ñ 日本 <13>1 [x y="z"]'
/** As it must arrive where control characters cannot: each of them is a space. */
const PLAIN = UGLY.replace(/[\u0000-\u001f\u0085\u2028]/g, ' ')

const events: EventRecord[] = [
  denied(1, { detail: UGLY, target_asset: UGLY, rule: UGLY }),
  denied(2, {
    event: 'request.would_deny',
    severity: 'notice',
    count: 17,
    first: '2026-02-23T10:00:00.000Z',
    last: '2026-02-23T10:00:59.000Z',
  }),
  denied(3, { event: 'policy.loaded', severity: 'notice', file: '/etc/headgate/policy.yaml' }),
  denied(4, { event: 'evidence.tampered', severity: 'critical' }),
]

const tlsOf = (own: Certificates): Partial<SyslogSink> => ({
  tls: { ca: own.ca, cert: own.client.cert, key: own.client.key, serverName: null },
})

/** Sends the events to each sink and closes it. */
async function send(sinks: SyslogSink[]): Promise<void> {
  for (const terms of sinks) {
    const sink = new TestSink(terms, null)
    await until(() => sink.sink.up, `${terms.url} is up: ${JSON.stringify(sink.told)}`)
    for (const event of events) sink.write(event)
    await sink.sink.close()
    if (sink.counts.lost > 0) throw new Error(`${sink.counts.lost} lost`)
  }
}

/** RFC 5424 §6.3 read back: the parameters of the one element. */
function parameters(data: string): Record<string, string> {
  const element = /^\[([^ ]+)((?: [^ =]+="(?:[^"\\\]]|\\["\\\]])*")*)\]$/.exec(data)
  if (element === null) throw new Error(`not one well-formed element: ${data}`)
  const found: Record<string, string> = { 'SD-ID': element[1] }
  for (const [, name, value] of element[2].matchAll(/ ([^ =]+)="((?:[^"\\\]]|\\["\\\]])*)"/g)) {
    found[name] = value.replace(/\\(["\\\]])/g, '$1')
  }
  return found
}

const expected = (event: EventRecord): Record<string, string> => {
  const { time: _, event: __, gateway: ___, ...fields } = event
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, String(value) === UGLY ? PLAIN : String(value)]),
  )
}

/** CEF's extension read back: escapes undone. */
function cefOf(message: string): { head: string[]; extension: Record<string, string> } {
  const parts = message.match(/(?:[^|\\]|\\.)+/gs) ?? []
  const head = parts.slice(0, 7).map((part) => part.replace(/\\([|\\])/g, '$1'))
  const extension: Record<string, string> = {}
  for (const [, key, value] of parts
    .slice(7)
    .join('|')
    .matchAll(/(\w+)=((?:[^=\\]|\\.)*?)(?= \w+=|$)/gs)) {
    extension[key] = value.replace(/\\([=\\nr])/g, (_, c: string) => (c === 'n' ? '\n' : c === 'r' ? '\r' : c))
  }
  return { head, extension }
}

function checkCef(t: Tap, message: string): void {
  const { head, extension } = cefOf(message)
  t.match(head, [
    'CEF:0',
    'Headgate',
    'Headgate',
    VERSION,
    'request.denied',
    'A request did not reach its target. A denied write is a warning.',
    '6',
  ])
  t.match(extension, {
    act: 'denied',
    rt: String(Date.parse(denied(1).time)),
    externalId: denied(1).id,
    src: '10.30.1.5',
    spt: '40000',
    dst: '10.20.1.10',
    dpt: '502',
    proto: 'TCP',
    app: 'modbus',
    reason: 'function',
    cs1: 'C1',
    cs1Label: 'Conduit',
    cn1: '1',
    cn1Label: 'Unit Identifier',
    HeadgateFunctionCode: '6',
    dvchost: 'gw-unit3',
  })
  // Line breaks have an escape of their own; other control characters have not.
  t.equal(extension.msg, UGLY.replace(/[\0\t\u0085\u2028]/g, ' '))
  t.equal(extension.cs2, extension.msg)
}

function checkEcs(t: Tap, message: string): void {
  const ecs = JSON.parse(message)
  t.match(ecs, {
    '@timestamp': denied(1).time,
    event: {
      kind: 'event',
      category: ['network'],
      type: ['protocol', 'denied'],
      action: 'request.denied',
      outcome: 'success',
      id: denied(1).id,
      reason: 'function',
    },
    log: { level: 'warning', syslog: { priority: 132, severity: { code: 4, name: 'warning' } } },
    observer: { name: 'gw-unit3', vendor: 'Headgate', type: 'firewall' },
    source: { ip: '10.30.1.5', port: 40_000 },
    destination: { ip: '10.20.1.10', port: 502, domain: UGLY },
    network: { transport: 'tcp', protocol: 'modbus' },
    rule: { name: UGLY, ruleset: 'C1' },
    related: { ip: ['10.30.1.5', '10.20.1.10'] },
    headgate: { function: 'write-single-register', function_code: 6, detail: UGLY },
  })
}

const own = OPENSSL ? certificates(scratch(t)) : null

t.test('rsyslog', { skip: RSYSLOGD === null || own === null ? 'no rsyslogd (or openssl) here' : false }, async (t) => {
  if (own === null) return
  const directory = scratch(t)
  const ports = { udp: await freePort(), tcp: await freePort(), tls: await freePort() }
  const daemon = await startRsyslog(directory, ports, own)
  t.teardown(() => daemon.stop())
  const tls = `tls://127.0.0.1:${ports.tls}`
  await send([
    sinkTerms(`udp://127.0.0.1:${ports.udp}`),
    sinkTerms(`tcp://127.0.0.1:${ports.tcp}`),
    sinkTerms(`tcp://127.0.0.1:${ports.tcp}`, { framing: 'non-transparent' }),
    sinkTerms(tls, { ...tlsOf(own), enterpriseNumber: 12345, facility: 13 }),
    sinkTerms(`tcp://127.0.0.1:${ports.tcp}`, { format: 'cef' }),
    sinkTerms(`tcp://127.0.0.1:${ports.tcp}`, { format: 'json' }),
  ])
  const all = await daemon.written(events.length * 6)
  t.equal(all.length, events.length * 6, 'no field has become a message')
  const structured = all.filter((one) => one['structured-data'] !== '-')
  for (const input of ['udp', 'tcp', 'tls']) {
    const got = structured.filter((one) => one.inputname === input)
    t.equal(got.length, input === 'tcp' ? events.length * 2 : events.length, input)
    for (const [i, message] of got.entries()) {
      const event = events[i % events.length]
      const secure = input === 'tls'
      t.match(message, {
        hostname: 'gw-unit3',
        'app-name': 'headgate',
        procid: String(process.pid),
        msgid: event.event,
      })
      t.equal(Number(message.pri), (secure ? 13 : 16) * 8 + [4, 5, 5, 2][i % events.length], 'facility and severity')
      t.equal(new Date(message.timereported).toISOString(), event.time)
      t.same(parameters(message['structured-data']), {
        'SD-ID': `headgate@${secure ? 12345 : 32473}`,
        ...expected(event),
      })
      t.notMatch(message.msg, /[\u0000-\u001f]|#\d{3}/, 'no control character, escaped by the receiver or not')
    }
  }
  const plain = all.filter((one) => one['structured-data'] === '-' && one.msgid === 'request.denied')
  checkCef(t, plain.find((one) => one.msg.includes('CEF:0'))?.msg.trim() ?? '')
  checkEcs(t, plain.find((one) => one.msg.includes('@timestamp'))?.msg.trim() ?? '{}')
  const stranger = new TestSink(
    sinkTerms(tls, { tls: { ca: own.otherCa, cert: null, key: null, serverName: null } }),
    null,
  )
  await until(() => stranger.names().includes('sink.down'), 'a receiver of another CA is not believed')
  t.match(stranger.told[0]?.detail, /self-signed|unable to verify|unable to get/)
  await stranger.sink.close()
})

t.test(
  'syslog-ng',
  { skip: SYSLOG_NG === null || own === null ? 'no syslog-ng (or openssl) here' : false },
  async (t) => {
    if (own === null) return
    const directory = scratch(t)
    mkdirSync(join(directory, 'x'))
    const ports = { udp: await freePort(), tcp: await freePort(), tls: 0 }
    await freePort()
    ports.tls = await freePort()
    const daemon = await startSyslogNg(directory, ports, own)
    t.teardown(() => daemon.stop())
    const tls = `tls://127.0.0.1:${ports.tls}`
    await send([
      sinkTerms(`udp://127.0.0.1:${ports.udp}`),
      sinkTerms(`tcp://127.0.0.1:${ports.tcp}`),
      sinkTerms(`tcp://127.0.0.1:${ports.tcp + 1}`, { framing: 'non-transparent' }),
      sinkTerms(tls, tlsOf(own)),
      sinkTerms(`tcp://127.0.0.1:${ports.tcp}`, { format: 'cef' }),
      sinkTerms(`tcp://127.0.0.1:${ports.tcp}`, { format: 'json' }),
    ])
    const all = (await daemon.written(events.length * 6)) as Record<string, unknown>[]
    t.equal(all.length, events.length * 6, 'no field has become a message')
    const sdata = (one: Record<string, unknown>): Record<string, string> | undefined =>
      (one._SDATA as Record<string, Record<string, string>> | undefined)?.['headgate@32473']
    for (const source of ['udp', 'tcp', 'lines', 'tls']) {
      const got = all.filter((one) => one.source === source && sdata(one) !== undefined)
      t.equal(got.length, events.length, source)
      for (const [i, message] of got.entries()) {
        t.match(message, { host: 'gw-unit3', program: 'headgate', pid: String(process.pid), msgid: events[i].event })
        t.equal(Number(message.pri), 128 + [4, 5, 5, 2][i])
        t.same(sdata(message), expected(events[i]), 'structured data as syslog-ng reads it')
      }
    }
    const plain = all
      .filter((one) => sdata(one) === undefined && one.msgid === 'request.denied')
      .map((one) => String(one.msg))
    checkCef(t, plain.find((one) => one.startsWith('CEF:0')) ?? '')
    checkEcs(t, plain.find((one) => one.startsWith('{')) ?? '{}')

    // The receiver asks for a client certificate; it must be the one, and its own name the one that was asked for.
    const refused: [string, SyslogSink['tls'], RegExp][] = [
      [
        'another name',
        { ca: own.ca, cert: own.client.cert, key: own.client.key, serverName: 'other.test' },
        /does not match|not in the cert/,
      ],
      [
        'a file that is not there',
        { ca: join(directory, 'none.pem'), cert: null, key: null, serverName: null },
        /ENOENT/,
      ],
    ]
    for (const [what, terms, why] of refused) {
      const sink = new TestSink(sinkTerms(tls, { tls: terms }), null)
      await until(() => sink.names().includes('sink.down'), what)
      t.match(sink.told[0]?.detail, why, what)
      await sink.sink.close()
    }
    const named = new TestSink(
      sinkTerms(tls, { tls: { ca: own.ca, cert: own.client.cert, key: own.client.key, serverName: 'siem.test' } }),
      null,
    )
    await until(() => named.sink.up, 'the name of the certificate is as good as its address')
    await named.sink.close()
    const anonymous = new TestSink(
      sinkTerms(tls, { tls: { ca: own.ca, cert: null, key: null, serverName: null } }),
      null,
    )
    anonymous.write(denied(99))
    await until(() => anonymous.names().includes('sink.down'), 'without a client certificate, the receiver hangs up')
    await sleep(100)
    await anonymous.sink.close()
    t.equal((await daemon.written(events.length * 6)).length, events.length * 6, 'and takes nothing')
  },
)

t.test('TLS by RFC 9662', { skip: own === null ? 'no openssl here' : false }, async (t) => {
  const { ca, server: files } = own as Certificates
  const keys = { cert: readFileSync(files.cert), key: readFileSync(files.key) }
  /** What the sink says of a receiver: the cipher suite that they agreed on, or why there is none. */
  const offer = async (options: tls.TlsOptions): Promise<string> => {
    let suite = ''
    const server = tls.createServer({ ...keys, ...options }, (socket) => {
      suite = socket.getCipher().standardName
      socket.on('error', () => {}).resume()
    })
    server.on('tlsClientError', () => {})
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as net.AddressInfo
    const sink = new TestSink(
      sinkTerms(`tls://127.0.0.1:${port}`, { tls: { ca, cert: null, key: null, serverName: null } }),
      null,
    )
    await until(() => (sink.sink.up && suite !== '') || sink.names().includes('sink.down'), 'an outcome')
    const outcome = sink.sink.up ? suite : String(sink.told[0]?.detail)
    await sink.sink.close()
    server.close()
    return outcome
  }
  const two = { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const
  t.match(await offer({}), /^TLS_AES_/, 'TLS 1.3 where it can be had')
  t.equal(
    await offer({ ...two, ciphers: 'ECDHE-RSA-AES128-GCM-SHA256' }),
    'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256',
    '§4: the suite that everybody must have',
  )
  const weak = { ...two, minVersion: 'TLSv1' } as const
  t.match(await offer({ ...weak, ciphers: 'AES128-SHA:@SECLEVEL=0' }), /^TLS: .*handshake failure$/, "RFC 5425's suite")
  t.match(await offer({ ...weak, ciphers: 'ECDHE-RSA-AES128-SHA256' }), /^TLS: .*handshake failure$/, 'no CBC')
  t.match(
    await offer({ minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT:@SECLEVEL=0' }),
    /^TLS: .*protocol version$/,
    'nothing before TLS 1.2',
  )
})
