/** `headgate validate` against real gateways and servers; whole boundaries, and broken ones, which it must find. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import net from 'node:net'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { type ProbeResult, parseValidation, type ValidationFile } from '../../src/assurance/result.ts'
import { OpcUaClient } from '../../src/assurance/validate/opcua-client.ts'
import { opcuaProbes } from '../../src/assurance/validate/opcua-probes.ts'
import { type PlanOptions, planProbes, zoneOf } from '../../src/assurance/validate/plan.ts'
import { runProbes, validationFile } from '../../src/assurance/validate/run.ts'
import { loadPolicy } from '../../src/policy/load.ts'
import { OPCUA_SERVICE_GROUPS } from '../../src/protocols/opcua/services.ts'
import { freePort } from '../support/gateway.ts'
import { Headgate, policyFile } from '../support/headgate.ts'
import { lineOf, Network, noNamespaces } from '../support/netns.ts'
import { answer } from '../support/server.ts'
import { RawTarget } from '../support/sockets.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const START = `import('${root}src/cli/main.ts').then((cli) => cli.main(['node', 'headgate', ...process.argv.slice(1)]))`

interface Ran {
  code: number | null
  out: string
  err: string
}

/** The command in a process of its own, while this one goes on serving. */
function headgate(...args: string[]): Promise<Ran> {
  const child = spawn(process.execPath, ['-e', START, '--', ...args], { cwd: root })
  let out = ''
  let err = ''
  child.stdout.on('data', (data) => {
    out += data
  })
  child.stderr.on('data', (data) => {
    err += data
  })
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, out, err })))
}

const parsed = ({ out }: Ran): ValidationFile => parseValidation(out, 'stdout')
const bad = ({ probes }: ValidationFile): string[] =>
  probes.filter(({ outcome }) => outcome === 'fail').map(({ what, observed }) => `${what}: ${observed}`)
const find = ({ probes }: ValidationFile, what: RegExp): ProbeResult => {
  const found = probes.find((probe) => what.test(`${probe.group} ${probe.target} ${probe.what}`))
  if (found === undefined) throw new Error(`no probe ${what}`)
  return found
}

/** The same in this process, through the listener: exit code and output as the command has them. */
async function tried(file: string, more: Partial<PlanOptions> = {}): Promise<Ran> {
  const { policy } = loadPolicy(file)
  if (policy === null) throw new Error('the document has errors')
  const plan = await planProbes(policy, {
    from: zoneOf(policy, 'Z3'),
    source: '127.0.30.20',
    timeoutMs: 5000,
    ports: [],
    targets: ['127.0.1.10'],
    allowWriteBack: false,
    refusedFails: false,
    ...more,
  })
  const probes = await runProbes(plan.probes, { rate: 1000, onResult: () => {} })
  plan.close()
  const setting = { kind: 'boundary' as const, policy, from: 'Z3-OPS', source: null, started: new Date() }
  const code = probes.some(({ outcome }) => outcome === 'fail') ? 1 : 0
  return { code, out: JSON.stringify(validationFile(setting, probes)), err: '' }
}

/** A plant on loopback: the historian at 127.0.30.20, the PLC at 127.0.20.10, the gateway's listener at 127.0.1.10. */
function plant(listen: number, plc: number, modbus: object = {}, conduit: object = {}) {
  return {
    facility: 'Loopback',
    zones: [
      { zone_id: 'Z1-SIS', name: 'Safety Instrumented Systems', networks: ['127.0.10.0/30'], allowed_conduits: [] },
      { zone_id: 'Z2-BPCS', networks: ['127.0.20.0/24'], assets: [{ name: 'PLC-01', address: '127.0.20.10' }] },
      { zone_id: 'Z3-OPS', networks: ['127.0.30.0/24'], assets: [{ name: 'HIST-01', address: '127.0.30.20' }] },
    ],
    conduits: [
      {
        conduit_id: 'C1',
        connects: ['Z2-BPCS', 'Z3-OPS'],
        mode: 'enforce',
        protocols_allowed: [
          {
            protocol: 'Modbus/TCP',
            port: plc,
            rules: [
              {
                name: 'reading',
                from: ['HIST-01'],
                to: ['PLC-01'],
                unit_ids: ['1-16'],
                functions: [3, 4],
                addresses: { 'holding-registers': ['10-99'], 'input-registers': ['0-7'] },
              },
            ],
            ...modbus,
          },
        ],
        ...conduit,
      },
    ],
    gateway: {
      listeners: [{ conduit: 'C1', listen: `127.0.1.10:${listen}`, target: `127.0.20.10:${plc}` }],
      drain: '1s',
    },
  }
}

async function plc(t: Test): Promise<{ port: number; codes: Set<number>; writes: string[] }> {
  const codes = new Set<number>()
  const writes: string[] = []
  const target = await RawTarget.open(
    (request) => {
      codes.add(request[7])
      if (![1, 2, 3, 4].includes(request[7])) writes.push(request.subarray(7).toString('hex'))
      return answer(request)
    },
    0,
    '127.0.20.10',
  )
  t.teardown(() => target.close())
  return { port: target.port, codes, writes }
}

/** Through the listener alone: on loopback the PLC itself can be reached by everybody. */
const BY_LISTENER = [
  '--from',
  'Z3',
  '--source',
  '127.0.30.20',
  '--target',
  '127.0.1.10',
  '--rate',
  '500',
  '--format',
  'json',
]

t.test('through a gateway', async (t) => {
  const target = await plc(t)
  const listen = await freePort('127.0.1.10')
  const document = plant(listen, target.port)
  const file = policyFile(t, document)
  const gateway = await Headgate.start(t, document)

  await t.test('as the document says: all passes, and only reads reach the PLC', async (t) => {
    const run = await headgate('validate', file, ...BY_LISTENER)
    const result = parsed(run)
    t.same(bad(result), [])
    t.equal(run.code, 0, run.err)
    t.equal(result.probes.filter(({ outcome }) => outcome === 'skip').length, 0)
    t.match(find(result, /FC 3 .*address 10, unit 1/), { observed: 'answered', outcome: 'pass' })
    t.match(find(result, /FC 6 write-single-register/), { observed: /^exception 01/, outcome: 'pass' })
    t.match(find(result, /FC 3 .*address 100, outside/), { observed: /^exception 02/, outcome: 'pass' })
    t.match(find(result, /unit 0, which no rule has/), { observed: /^exception 01/, outcome: 'pass' })
    const denied = result.probes
      .filter(({ what }) => /^FC \d+/.test(what))
      .map(({ what }) => Number(/\d+/.exec(what)?.[0]))
    for (const code of [1, 2, 5, 6, 7, 8, 11, 12, 15, 16, 17, 20, 21, 22, 23, 24, 43, 77, 90, 100]) {
      t.ok(denied.includes(code), `function ${code} is tried`)
    }
    t.same([...target.codes].sort(), [3, 4])
    t.same(result.policy.sha256, loadPolicy(file).policy?.sha256)
  })

  await t.test('a client that no rule has', async (t) => {
    const run = await headgate(
      'validate',
      file,
      '--from',
      'Z3',
      '--source',
      '127.0.30.99',
      '--target',
      '127.0.1.10',
      '--format',
      'json',
    )
    t.match(parsed(run).probes, [
      { group: 'prohibited', outcome: 'pass', observed: /^(accepted, and closed at once|refused)/ },
    ])
    t.equal(run.code, 0)
  })

  await t.test('the list of probes: nothing is sent', async (t) => {
    const before = gateway.events.length
    const run = await headgate('validate', file, '--from', 'Z3-OPS', '--source', '127.0.30.20', '--dry-run')
    t.equal(run.code, 0)
    t.match(run.out, /^\[DRY RUN\] allowed: C1 PLC-01? ?.*127\.0\.1\.10:\d+: connect for Modbus\/TCP/m)
    t.match(run.out, /isolated: .*Z1-SIS 127\.0\.10\.1:502/)
    t.match(run.out, /\d+ probes; none was sent\n$/)
    t.equal(gateway.events.length, before)
  })

  await t.test('what is refused to be probed', async (t) => {
    const cases: [string[], RegExp][] = [
      [['--from', 'Z3', '--target', '127.0.99.1'], /names no such asset, listener or address; it is not probed/],
      [['--from', 'Z9'], /expected a zone of the document: Z1-SIS, Z2-BPCS, Z3-OPS/],
      [['--from', 'Z3'], /from 127\.0\.0\.1, which is no address of zone Z3-OPS/],
      [['--from', 'Z3', '--source', '127.0.20.10'], /no address of zone Z3-OPS/],
      [['--from', 'Z3', '--source', '127.0.30.20', '--max-probes', '5'], /\d+ probes, more than --max-probes 5/],
      [['--from', 'Z3', '--source', '127.0.30.20', '--ports', '1-70000'], /expected ports/],
    ]
    await Promise.all(
      cases.map(async ([args, why]) => {
        const { code, err } = await headgate('validate', file, ...args)
        t.equal(code, 2, args.join(' '))
        t.match(err, why)
      }),
    )
  })

  await t.test('write-back, where it is allowed', async (t) => {
    const run = await tried(file, { allowWriteBack: true })
    t.match(find(parsed(run), /FC 6 .*the value just read/), { observed: /^exception 01/, outcome: 'pass' })
    t.same(target.writes, [])
  })

  await t.test('a broken boundary: the gateway allows a write that the document does not', async (t) => {
    const rule = { name: 'all', from: ['Z3-OPS'], to: ['PLC-01'], functions: ['read', 'write'] }
    await gateway.reload(plant(listen, target.port, { rules: [rule] }))
    const run = await tried(file)
    const found = bad(parsed(run))
    t.equal(run.code, 1)
    t.ok(
      found.some((one) => /^FC 6 write-single-register: exception 03/.test(one)),
      found.join('\n'),
    )
    t.ok(found.some((one) => /^FC 1 read-coils: answered: the request reached the target/.test(one)))
    t.ok(found.some((one) => /address 100, outside the rule: answered/.test(one)))
    t.ok(found.some((one) => /unit 0, which no rule has: answered/.test(one)))
    t.same(
      target.writes.filter((pdu) => /^(05|06|0f|10|15|16|17)/.test(pdu)),
      [],
      'no write got through, whole or not',
    )
    const back = await tried(file, { allowWriteBack: true })
    t.ok(bad(parsed(back)).some((one) => /the value just read: answered: the request reached/.test(one)))
    const value = answer(Buffer.from('00010000000601030a0a0001'.replace('030a0a', '03000a'), 'hex'))
      .subarray(9, 11)
      .toString('hex')
    t.same(
      target.writes.filter((pdu) => /^06/.test(pdu)),
      [`06000a${value}`],
      'the value that was read',
    )
  })

  await t.test('a broken boundary: the gateway only watches', async (t) => {
    await gateway.reload(plant(listen, target.port, {}, { mode: 'monitor' }))
    target.writes.length = 0
    const run = await tried(file)
    t.equal(run.code, 1)
    const found = bad(parsed(run))
    t.ok(found.length > 15, found.join('\n'))
    // Whatever got through, no server that keeps the specification could have acted on it.
    t.ok(target.writes.every((pdu) => /^(0[5-9b-f]|1[0-8]|2b|4d|5a|64)/.test(pdu)))
    for (const pdu of target.writes.filter((one) => /^(05|06|0f|10|15|16|17)/.test(one))) {
      t.match(pdu, /^(05|06|16|1500|(0f|10)000000000?0?0?|17(00)+)$/, `${pdu} writes nothing`)
    }
    const monitor = policyFile(t, plant(listen, target.port, {}, { mode: 'monitor' }))
    const told = await tried(monitor)
    t.equal(told.code, 0, 'a document that says so is kept')
    t.match(find(parsed(told), /kinds of denied requests/), { outcome: 'skip', observed: /monitors/ })
  })

  await t.test('drop and reset', async (t) => {
    for (const onDeny of ['drop', 'reset'] as const) {
      const other = plant(listen, target.port, { on_deny: onDeny })
      await gateway.reload(other)
      const run = await tried(policyFile(t, other), { timeoutMs: 200 })
      // So short a time may be too short for an answer of a busy machine; what is denied gives none.
      const wrong = bad(parsed(run)).filter((one) => !/^FC [34] \S+ at address \d+, unit 1: no answer/.test(one))
      t.same(wrong, [], onDeny)
      t.match(find(parsed(run), /FC 6 /), { observed: onDeny === 'drop' ? 'no answer' : 'connection closed' })
    }
  })

  await t.test('a gateway that is not there', async (t) => {
    await gateway.stop()
    const run = await tried(file)
    t.equal(run.code, 1)
    t.match(find(parsed(run), /^allowed/), { outcome: 'fail', observed: /refused/ })
    const everywhere = plant(listen, target.port)
    everywhere.gateway.listeners[0].listen = `0.0.0.0:${listen}`
    const told = await tried(policyFile(t, everywhere), { targets: ['127.0.20.10'] })
    t.match(find(parsed(told), /^allowed/), { outcome: 'skip', observed: /on every address/ })
  })
})

t.test('past a gateway: filtered, refused, open', async (t) => {
  const target = await plc(t)
  const document = plant(await freePort('127.0.1.10'), target.port)
  const file = policyFile(t, document)
  const output = `${t.testdir({})}/validation.json`
  const run = await headgate(
    'validate',
    file,
    '--from',
    'Z3',
    '--source',
    '127.0.30.20',
    '--target',
    'PLC-01',
    '--rate',
    '500',
    '--output',
    output,
  )
  t.equal(run.code, 1)
  const result = parseValidation(readFileSync(output, 'utf8'), output)
  t.match(find(result, new RegExp(`PLC-01 127.0.20.10:${target.port} `)), {
    group: 'prohibited',
    outcome: 'fail',
    observed: 'connected',
  })
  t.match(find(result, /PLC-01 127.0.20.10:44818 /), { outcome: 'pass', observed: /^refused/ })
  t.match(
    run.out,
    new RegExp(
      `^\\[FAIL\\] PLC-01 127\\.0\\.20\\.10:${target.port}: connect to port ${target.port}: connected \\(expected: no connection\\)$`,
      'm',
    ),
  )
  t.match(run.out, /^\d+ passed, \d+ failed, \d+ not made\n$/m)
  const strict = await headgate(
    'validate',
    file,
    '--from',
    'Z3',
    '--source',
    '127.0.30.20',
    '--target',
    'PLC-01',
    '--refused',
    'fail',
    '--rate',
    '500',
    '--format',
    'json',
  )
  t.match(find(parsed(strict), /PLC-01 127.0.20.10:44818 /), { outcome: 'fail', observed: /^refused/ })
  // A safety zone that answers, if only with a refusal.
  const sis = await headgate(
    'validate',
    file,
    '--from',
    'Z3',
    '--source',
    '127.0.30.20',
    '--rate',
    '500',
    '--format',
    'json',
  )
  t.match(find(parsed(sis), /isolated Z1-SIS 127.0.10.1:502/), { outcome: 'fail', observed: /^refused/ })
})

t.test('OPC UA: what endpoints offer, by a real server', async (t) => {
  const { OPCUAServer, MessageSecurityMode, SecurityPolicy, OPCUACertificateManager } = await import('node-opcua')
  const port = await freePort()
  const directory = t.testdir({})
  const certificates = new OPCUACertificateManager({
    rootFolder: `${directory}/pki`,
    automaticallyAcceptUnknownCertificate: true,
  })
  const server = new OPCUAServer({
    port,
    host: '127.0.0.1',
    hostname: '127.0.0.1',
    serverCertificateManager: certificates,
    securityModes: [MessageSecurityMode.None, MessageSecurityMode.SignAndEncrypt],
    securityPolicies: [SecurityPolicy.None, SecurityPolicy.Basic256Sha256],
  })
  await server.start()
  t.teardown(async () => {
    await server.shutdown(0)
    await certificates.dispose()
  })
  const place = { host: '127.0.0.1', port }
  const options = { source: null, timeoutMs: 5000 }
  const client = await OpcUaClient.open(place, options)
  const endpoints = await client.endpoints()
  client.close()
  t.same(new Set(endpoints.map(({ mode }) => mode)), new Set(['None', 'SignAndEncrypt']))
  const protocol = (mode: string) => {
    const file = policyFile(t, {
      zones: [
        { zone_id: 'A', networks: ['127.0.0.0/24'] },
        { zone_id: 'B', networks: ['127.0.1.0/24'] },
      ],
      conduits: [
        {
          conduit_id: 'C',
          connects: ['A', 'B'],
          protocols_allowed: [{ protocol: 'OPC UA', port, direction: 'B -> A (read only)', security_mode: mode }],
        },
      ],
    })
    const found = loadPolicy(file).policy?.conduits[0].protocols[0]
    if (found?.kind !== 'opcua') throw new Error('no OPC UA in the policy')
    return found
  }
  const probes = (mode: string, more: object = {}) =>
    opcuaProbes({
      conduit: 'C',
      protocol: protocol(mode),
      place,
      target: 'x',
      options,
      carried: true,
      pair: { source: 0n, target: 0n },
      ...more,
    })
  const [modes, write] = probes('SignAndEncrypt')
  t.match(await modes.run(), { outcome: 'fail', observed: /None\/None/ }, 'a mode below the claimed one is found')
  t.match(
    await write.run(),
    { outcome: 'fail', observed: /BadSession\w+: the request reached the server/ },
    'nothing refuses before the server',
  )

  await t.test('through a gateway that inspects', async (t) => {
    const listen = await freePort()
    const document = {
      zones: [
        { zone_id: 'A', networks: ['127.0.0.0/24'], assets: [{ name: 'OPC-01', address: '127.0.0.1' }] },
        { zone_id: 'B', networks: ['127.0.1.0/24'] },
      ],
      conduits: [
        {
          conduit_id: 'C',
          connects: ['A', 'B'],
          mode: 'enforce',
          protocols_allowed: [
            {
              protocol: 'OPC UA',
              port,
              rules: [{ name: 'all', from: ['B'], to: ['OPC-01'], services: OPCUA_SERVICE_GROUPS }],
              security_mode: 'SignAndEncrypt',
            },
          ],
        },
      ],
      gateway: {
        listeners: [{ conduit: 'C', protocol: 'OPC UA', listen: `127.0.0.1:${listen}`, target: 'OPC-01' }],
        drain: '1s',
      },
    }
    const gateway = await Headgate.start(t, document)
    const args = ['--from', 'B', '--source', '127.0.1.5', '--target', 'OPC-01', '--rate', '500', '--format', 'json']
    const run = await headgate('validate', gateway.file, ...args)
    t.equal(run.code, 1, run.err)
    t.match(find(parsed(run), /connect for OPC UA/), { outcome: 'pass' })
    t.match(find(parsed(run), /Write of no nodes/), { outcome: 'pass' }, 'the gateway refuses it before the server')
    t.match(
      find(parsed(run), /GetEndpoints/),
      { outcome: 'fail', observed: /offers .*None\/None/ },
      'the server offers more than it may',
    )
  })

  // What is no server, and one that says no.
  const scripts: [string, (socket: net.Socket) => void, RegExp][] = [
    ['silent', () => {}, /no answer/],
    ['closing', (socket) => socket.on('data', () => socket.destroy()), /closed|reset/],
    [
      'nonsense',
      (socket) => socket.on('data', () => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n')),
      /no OPC UA message|acknowledgement/,
    ],
    [
      'huge',
      (socket) => socket.on('data', () => socket.write(Buffer.from('ACKFffffff7f', 'latin1'))),
      /no OPC UA message/,
    ],
    [
      'ERR',
      (socket) => socket.on('data', () => socket.write(Buffer.from('45525246100000000000558000000000', 'hex'))),
      /ERR 0x80550000/,
    ],
  ]
  for (const [name, script, why] of scripts) {
    const sockets: net.Socket[] = []
    const raw = net.createServer((socket) => {
      sockets.push(socket)
      socket.on('error', () => {})
      script(socket)
    })
    await new Promise<void>((resolve) => raw.listen(0, '127.0.0.1', resolve))
    const at = { host: '127.0.0.1', port: (raw.address() as net.AddressInfo).port }
    const [offer, refusal] = probes('SignAndEncrypt', { place: at, options: { source: null, timeoutMs: 300 } })
    t.match(await offer.run(), { outcome: 'fail', observed: why }, name)
    const { outcome } = await refusal.run()
    t.equal(outcome, name === 'silent' ? 'skip' : 'pass', `${name}: nothing can be written there`)
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => raw.close(resolve))
  }
})

t.test('in namespaces: historian, gateway, PLC', { skip: noNamespaces('nft') }, async (t) => {
  const network = new Network(t, ['hist', 'gw', 'plc', 'sis'])
  network.link('hist', '10.30.1.20/24', 'gw', '10.30.1.1/24')
  network.link('plc', '10.20.1.10/24', 'gw', '10.20.1.1/24')
  network.link('sis', '10.10.1.10/24', 'gw', '10.10.1.1/24')
  network.route('hist', '10.30.1.1')
  network.route('plc', '10.20.1.1')
  network.route('sis', '10.10.1.1')
  network.forward('gw')
  const CLOSED = 'table inet fw { chain f { type filter hook forward priority 0; policy drop; }; }'
  const OPEN = 'table inet fw { chain f { type filter hook forward priority 0; policy accept; }; }'
  network.nft('gw', CLOSED)
  const document = {
    zones: [
      {
        zone_id: 'Z1-SIS',
        name: 'Safety Instrumented Systems',
        networks: ['10.10.1.0/24'],
        assets: [{ name: 'SIS-01', address: '10.10.1.10' }],
        allowed_conduits: [],
      },
      { zone_id: 'Z2-BPCS', networks: ['10.20.1.0/24'], assets: [{ name: 'PLC-01', address: '10.20.1.10' }] },
      { zone_id: 'Z3-OPS', networks: ['10.30.1.0/24'], assets: [{ name: 'HIST-01', address: '10.30.1.20' }] },
    ],
    conduits: [
      {
        conduit_id: 'C1',
        connects: ['Z2-BPCS', 'Z3-OPS'],
        mode: 'enforce',
        protocols_allowed: [
          {
            protocol: 'Modbus/TCP',
            port: 502,
            rules: [{ name: 'reading', from: ['HIST-01'], to: ['PLC-01'], functions: [3, 4] }],
          },
        ],
      },
    ],
    gateway: { listeners: [{ conduit: 'C1', listen: '10.30.1.1:502', target: 'PLC-01' }] },
  }
  const file = policyFile(t, document)
  const node = process.execPath
  await lineOf(network.spawn('plc', node, `${root}test/support/plc-child.ts`, '10.20.1.10', '502'), /^ready/)
  await lineOf(network.spawn('sis', node, `${root}test/support/plc-child.ts`, '10.10.1.10', '502'), /^ready/)
  await lineOf(network.spawn('gw', node, '-e', START, '--', 'run', file), /gateway\.ready/)
  const validate = (...args: string[]) =>
    network.run(
      'hist',
      node,
      '-e',
      START,
      '--',
      'validate',
      file,
      '--from',
      'Z3',
      '--rate',
      '200',
      '--timeout',
      '0.5',
      '--format',
      'json',
      ...args,
    )

  const whole = await validate()
  t.equal(whole.code, 0, whole.err)
  t.same(bad(parsed(whole)), [])
  t.match(find(parsed(whole), /PLC-01 10\.20\.1\.10:502/), { outcome: 'pass', observed: /^filtered/ })
  t.match(find(parsed(whole), /SIS-01 10\.10\.1\.10:502/), {
    group: 'isolated',
    outcome: 'pass',
    observed: /^filtered/,
  })
  t.ok(parsed(whole).probes.filter(({ group }) => group === 'enforcement').length > 15)

  network.nft('gw', OPEN)
  const broken = await validate()
  t.equal(broken.code, 1, 'a firewall that lets everything pass is found')
  t.match(find(parsed(broken), /PLC-01 10\.20\.1\.10:502/), { outcome: 'fail', observed: 'connected' })
  t.match(find(parsed(broken), /SIS-01 10\.10\.1\.10:502/), { outcome: 'fail', observed: 'connected' })
  t.match(find(parsed(broken), /SIS-01 10\.10\.1\.10:22 /), { outcome: 'fail', observed: /^refused/ })
  t.match(find(parsed(broken), /PLC-01 10\.20\.1\.10:22 /), { outcome: 'pass', observed: /^refused/ })

  network.nft('gw', CLOSED.replace('policy drop;', 'policy drop; meta l4proto tcp reject with tcp reset;'))
  const rejecting = await validate('--target', 'PLC-01')
  t.equal(rejecting.code, 0)
  t.match(find(parsed(rejecting), /PLC-01 10\.20\.1\.10:502/), { outcome: 'pass', observed: /^refused/ })
  const strict = await validate('--target', 'PLC-01', '--refused', 'fail')
  t.equal(strict.code, 1, 'a refusal counts where it is asked to')
})
