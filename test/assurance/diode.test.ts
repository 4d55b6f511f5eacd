/** `headgate validate diode`: a diode made of namespaces, one that leaks, one that loses; and what comes out, counted. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import t from 'tap'
import { HEADER_BYTES, readDatagram, writeDatagram } from '../../src/assurance/diode/datagram.ts'
import { flowResults } from '../../src/assurance/diode/results.ts'
import { Tally } from '../../src/assurance/diode/tally.ts'
import { parseValidation, type ValidationFile } from '../../src/assurance/result.ts'
import { policyFile } from '../support/headgate.ts'
import { Network, noNamespaces } from '../support/netns.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const START = `import('${root}src/cli/main.ts').then((cli) => cli.main(['node', 'headgate', ...process.argv.slice(1)]))`
const RUN = Buffer.from('0123456789abcdef', 'hex')

const datagram = (sequence: number, total = 10, run = RUN): Buffer => {
  const bytes = Buffer.alloc(64)
  writeDatagram(bytes, run, sequence, total)
  return bytes
}

t.test('what comes out is counted', async (t) => {
  const tally = new Tally()
  const base = Date.now() * 1000
  const take = (sequence: number, ms: number): void => {
    tally.take({ run: 'a', sequence, total: 10, sentUs: base }, base + ms * 1000)
  }
  for (const [sequence, ms] of [
    [0, 1],
    [1, 2],
    [3, 3],
    [2, 4],
    [3, 5],
    [5, 6],
    [9, 7],
  ])
    take(sequence, ms)
  tally.take({ run: 'b', sequence: 4, total: 10, sentUs: base }, base)
  tally.take(null, base)
  t.match(tally.flow(0), { total: 10, delivered: 6, lost: 4, reordered: 1, duplicates: 1, foreign: 2 })
  t.same(tally.flow(0).latency, { min: 1, p50: 4, p99: 7, max: 7 })
  t.same(tally.flow(0.5).latency, { min: 0.5, p50: 3.5, p99: 6.5, max: 6.5 })
  const side = { conduit: 'C2', target: 'x' }
  const outcomes = (loss: number, p99: number | null, offsetMs: number | null) =>
    flowResults(side, tally.flow(offsetMs ?? 0), { loss, p99, offsetMs }).map(({ outcome }) => outcome)
  t.same(outcomes(0.4, 7, 0), ['pass', 'fail', 'pass'])
  t.same(outcomes(0.39, 6, 0), ['fail', 'fail', 'fail'])
  t.same(outcomes(0.4, 7, 2)[2], 'skip', 'earlier than it was sent: the clocks say nothing')
  t.match(
    flowResults(side, tally.flow(0), { loss: 0, p99: null, offsetMs: null })[2].observed,
    /clock offset not stated, taken as 0/,
  )
  t.match(flowResults(side, new Tally().flow(0), { loss: 1, p99: null, offsetMs: null }), [
    { outcome: 'fail', observed: 'nothing came' },
  ])
})

t.test('datagrams: what is written is read, all else is refused', async (t) => {
  t.match(readDatagram(datagram(3)), { run: '0123456789abcdef', sequence: 3, total: 10 })
  for (const bytes of [
    Buffer.alloc(0),
    datagram(3).subarray(0, HEADER_BYTES - 1),
    datagram(10),
    datagram(0, 0),
    datagram(0, 1_000_001),
    Buffer.concat([datagram(0), Buffer.alloc(1400)]),
  ]) {
    t.equal(readDatagram(bytes), null)
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.nat(31), fc.nat(255), (noise, at, value) => {
      readDatagram(Buffer.from(noise))
      const bytes = datagram(1)
      bytes[at] = value
      const read = readDatagram(bytes)
      new Tally().take(read, 0)
      return read === null || read.sequence < read.total
    }),
  )
})

const DOCUMENT = {
  zones: [
    { zone_id: 'Z3-OPS', networks: ['10.30.1.0/24'], assets: [{ name: 'HIST-01', address: '10.30.1.20' }] },
    { zone_id: 'Z4-DMZ', networks: ['10.35.1.0/24'], assets: [{ name: 'DMZ-HIST-01', address: '10.35.1.20' }] },
  ],
  conduits: [
    {
      conduit_id: 'C2-OPS-DMZ',
      connects: ['Z3-OPS', 'Z4-DMZ'],
      protocols_allowed: [{ protocol: 'PI-to-PI', port: 5450, direction: 'Z3 -> Z4 (unidirectional via data diode)' }],
      controls: ['Data diode for historian replication'],
    },
  ],
}

t.test('what is refused', async (t) => {
  const file = policyFile(t, DOCUMENT)
  const other = policyFile(t, { ...DOCUMENT, conduits: [] })
  const cases: [string, string[], RegExp][] = [
    [file, ['--to', '192.0.2.1:5450'], /the document does not name it, and it is not probed/],
    [file, ['--to', 'hist:5450'], /expected ADDRESS:PORT/],
    [file, ['--receive', '--listen', '127.0.0.1:0', '--reverse', '192.0.2.1'], /not probed/],
    [other, ['--to', '10.35.1.20:5450'], /which conduit has the diode/],
  ]
  for (const [policy, args, why] of cases) {
    const { status, stderr } = spawnSync(process.execPath, ['-e', START, '--', 'validate', 'diode', policy, ...args], {
      encoding: 'utf8',
    })
    t.equal(status, 2, args.join(' '))
    t.match(stderr, why)
  }
})

t.test('in namespaces', { skip: noNamespaces('nft', 'ping') }, async (t) => {
  const network = new Network(t, ['ops', 'diode', 'dmz'])
  network.link('ops', '10.30.1.20/24', 'diode', '10.30.1.1/24')
  network.link('dmz', '10.35.1.20/24', 'diode', '10.35.1.1/24')
  network.route('ops', '10.30.1.1')
  network.route('dmz', '10.35.1.1')
  network.forward('diode')
  const file = policyFile(t, DOCUMENT)
  const forward = (rules: string): void =>
    network.nft('diode', `table inet diode { chain f { type filter hook forward priority 0; policy drop; ${rules} }; }`)
  const ONE_WAY = 'ip saddr 10.30.1.20 udp dport 5450 accept;'

  const both = async (
    linger: string,
    ...more: string[]
  ): Promise<{ receiver: ValidationFile; sender: ValidationFile; codes: unknown[]; text: string }> => {
    const directory = t.testdir({})
    const [to, from] = [`${directory}/receiver.json`, `${directory}/sender.json`]
    const common = [file, '--output']
    const receiving = network.spawn(
      'dmz',
      process.execPath,
      ...['-e', START, '--', 'validate', 'diode', ...common, to, '--receive', '--listen', '10.35.1.20:5450'],
      ...['--clock-offset', '0', '--timeout', '0.4', '--idle', '1', '--wait', '60', ...more],
    )
    let text = ''
    let ready = ''
    receiving.stdout?.on('data', (data) => {
      text += data
    })
    const ended = new Promise((resolve) => receiving.once('close', resolve))
    await new Promise<void>((resolve) => {
      receiving.stderr?.on('data', (data) => {
        ready += data
        if (ready.includes('listening on')) resolve()
      })
      void ended.then(() => resolve())
    })
    const sending = network.run(
      'ops',
      process.execPath,
      ...['-e', START, '--', 'validate', 'diode', ...common, from, '--to', '10.35.1.20:5450'],
      ...['--count', '300', '--rate', '1000', '--linger', linger],
    )
    const [receiverCode, sent] = await Promise.all([ended, sending])

    return {
      receiver: parseValidation(readFileSync(to, 'utf8'), to),
      sender: parseValidation(readFileSync(from, 'utf8'), from),
      codes: [receiverCode, sent.code],
      text,
    }
  }
  const found = ({ probes }: ValidationFile, id: RegExp) => probes.filter((probe) => id.test(probe.id))

  forward(ONE_WAY)
  const whole = await both('4')
  t.same(whole.codes, [0, 0], whole.text)
  t.match(found(whole.receiver, /:forward/), [{ outcome: 'pass', observed: '300 of 300 delivered, 0 lost (0 %)' }])
  t.match(found(whole.receiver, /:order/), [{ outcome: 'pass', observed: '0 out of order, 0 twice, 0 of others' }])
  t.match(found(whole.receiver, /:latency/), [
    { outcome: 'pass', observed: /^p50 [\d.]+ ms, p99 [\d.]+ ms, .*clock offset 0 ms as stated/ },
  ])
  const tcp = found(whole.receiver, /:tcp:/)
  t.ok(tcp.length >= 6 && tcp.every(({ observed, outcome }) => observed === 'timed out' && outcome === 'pass'))
  t.match(found(whole.receiver, /:icmp/), [{ outcome: 'pass', observed: 'timed out' }])
  t.match(found(whole.receiver, /:udp:5450/), [{ outcome: 'pass', observed: /nothing came back/ }])
  t.match(found(whole.sender, /:back/), [{ outcome: 'pass', observed: '0 came back' }])
  t.match(whole.text, /^\[PASS\] C2-OPS-DMZ 10\.35\.1\.20:5450: forward flow: 300 of 300 delivered/m)
  t.match(whole.text, /^\[PASS\] C2-OPS-DMZ 10\.30\.1\.20: reverse TCP connection to port 22: timed out/m)

  // A path back, on which nobody listens: refusals give it away.
  forward('accept;')
  const leaking = await both('4')
  t.same(leaking.codes, [1, 1])
  t.match(found(leaking.receiver, /:tcp:22/), [{ outcome: 'fail', observed: /^refused: .*path back/ }])
  t.match(found(leaking.receiver, /:icmp/), [{ outcome: 'fail', observed: 'answered' }])
  t.match(found(leaking.receiver, /:udp:5450/), [{ outcome: 'fail', observed: /^refused: .*path back/ }])
  t.match(found(leaking.sender, /:back/), [{ outcome: 'fail', observed: /^[1-9]\d* came back/ }])

  // One in ten is lost on the way.
  forward(`ip saddr 10.30.1.20 udp dport 5450 numgen inc mod 10 0 drop; ${ONE_WAY}`)
  const losing = await both('0', '--max-loss', '5')
  t.equal(losing.codes[0], 1)
  t.match(found(losing.receiver, /:forward/), [{ outcome: 'fail', observed: '270 of 300 delivered, 30 lost (10 %)' }])
})
