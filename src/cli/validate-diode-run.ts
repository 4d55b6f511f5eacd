/** What `headgate validate diode` does, on either side of the diode. */
import { receive } from '../assurance/diode/receive.ts'
import { diodeResult, flowResults, type Side, sentResults } from '../assurance/diode/results.ts'
import { reverseEcho, reverseTcp, reverseUdp } from '../assurance/diode/reverse.ts'
import { send } from '../assurance/diode/send.ts'
import type { ProbeResult } from '../assurance/result.ts'
import { CannotValidate } from '../assurance/validate/plan.ts'
import type { Observed } from '../assurance/validate/probe.ts'
import { resultLine } from '../assurance/validate/run.ts'
import { blockHolds, parseAddress } from '../policy/address.ts'
import type { Conduit, Policy } from '../policy/model.ts'
import { zoneBlocks } from '../policy/zones.ts'
import { requirePolicy } from './captures.ts'
import type { DiodeFlags } from './validate-diode.ts'
import { attempt, conclude, sayTo } from './validation.ts'

/** Ports that a way back is looked for on, beside the one that the datagrams use. */
const REVERSE_PORTS = [22, 443, 445, 502, 3389, 5450]

/** @returns the exit code */
export const runDiode = (file: string, flags: DiodeFlags): Promise<number> =>
  attempt(async () => {
    const policy = requirePolicy(file)
    const conduit = conduitOf(policy, flags.conduit)
    const started = new Date()
    const say = sayTo(flags)
    say(`Data diode of ${conduit.id} (${conduit.connects.join(', ')}), ${flags.receive ? 'receiving' : 'sending'} side`)
    const side = flags.receive ? receiveSide : sendSide
    const results = await side(policy, conduit, flags, (result) => say(resultLine(result)))
    const from = `${conduit.id} ${flags.receive ? 'receiver' : 'sender'}`.slice(0, 200)
    return conclude({ kind: 'diode', policy, from, source: flags.source ?? null, started }, results, flags)
  })

/** The conduit that was asked for, or the only one whose prose speaks of a diode. */
function conduitOf({ conduits }: Policy, id: string | undefined): Conduit {
  const speaks = conduits.filter(({ controls, protocols }) =>
    [...controls, ...protocols.map(({ direction }) => direction ?? '')].some((text) =>
      /diode|unidirectional/i.test(text),
    ),
  )
  const found = id === undefined ? (speaks.length === 1 ? speaks[0] : undefined) : conduits.find((one) => one.id === id)
  if (found !== undefined) return found
  const ids = (id === undefined ? speaks : conduits).map((one) => one.id).join(', ')
  throw new CannotValidate(
    id === undefined
      ? `which conduit has the diode? give --conduit${ids === '' ? '' : `: ${ids}`}`
      : `--conduit ${id}: expected a conduit of the document: ${ids}`,
  )
}

/** @throws CannotValidate unless the address is of a zone at an end of the conduit */
function mustBeOf(policy: Policy, { id, connects }: Conduit, option: string, host: string): void {
  const address = parseAddress(host)
  const ends = policy.zones.filter((zone) => connects.includes(zone.id))
  if (address !== null && ends.some((zone) => zoneBlocks(zone).some((block) => blockHolds(block, address)))) return
  throw new CannotValidate(
    `${option} ${host}: no address of ${connects.join(' or ')}, which ${id} connects; the document does not name it, and it is not probed`,
  )
}

/** `10.40.1.5:5450`, `[fd00::1]:5450`. */
function parsePlace(option: string, text: string | undefined): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text ?? '')
  const host = match?.[1] ?? match?.[2] ?? ''
  const port = Number(match?.[3])
  if (match === null || parseAddress(host) === null || port > 65535) {
    throw new CannotValidate(`${option}: found ${text ?? 'nothing'}, expected ADDRESS:PORT`)
  }
  return { host, port }
}

type OnResult = (result: ProbeResult) => void

async function sendSide(
  policy: Policy,
  conduit: Conduit,
  flags: DiodeFlags,
  onResult: OnResult,
): Promise<ProbeResult[]> {
  const { host, port } = parsePlace('--to', flags.to)
  mustBeOf(policy, conduit, '--to', host)
  const { count, rate, size } = flags
  const sent = await send({
    host,
    port,
    source: flags.source ?? null,
    count,
    rate,
    size,
    lingerMs: flags.linger * 1000,
  })
  const results = sentResults({ conduit: conduit.id, target: `${host}:${port}` }, sent, count)
  for (const result of results) onResult(result)
  return results
}

async function receiveSide(
  policy: Policy,
  conduit: Conduit,
  flags: DiodeFlags,
  onResult: OnResult,
): Promise<ProbeResult[]> {
  const listen = parsePlace('--listen', flags.listen)
  if (flags.reverse !== undefined) mustBeOf(policy, conduit, '--reverse', flags.reverse)
  const offsetMs = flags.clockOffset ?? null
  const received = await receive({
    ...listen,
    waitMs: flags.wait * 1000,
    idleMs: flags.idle * 1000,
    offsetMs: offsetMs ?? 0,
    onListening: (port) => process.stderr.write(`headgate: listening on ${listen.host}:${port}\n`),
  })
  const side: Side = { conduit: conduit.id, target: `${listen.host}:${listen.port}` }
  const results = flowResults(side, received.flow, { loss: flags.maxLoss / 100, p99: flags.maxP99 ?? null, offsetMs })
  for (const result of results) onResult(result)
  const host = flags.reverse ?? received.sender?.address
  const options = { source: flags.source ?? null, timeoutMs: flags.timeout * 1000 }
  if (host === undefined) return results
  // The address that datagrams seemed to come from may be anybody's.
  if (flags.reverse === undefined) mustBeOf(policy, conduit, 'sender', host)
  const back: Side = { conduit: conduit.id, target: host }
  const tries: [string, string, () => Promise<Observed>][] = [
    // The sender listens for a while only.
    ...[...new Set([...(received.sender === null ? [] : [received.sender.port]), listen.port])].map(
      (port): [string, string, () => Promise<Observed>] => [
        `udp:${port}`,
        `reverse UDP to port ${port}`,
        () => reverseUdp(host, port, port === received.sender?.port ? listen.port : 0, options),
      ],
    ),
    ...[...new Set([...REVERSE_PORTS, listen.port])].map((port): [string, string, () => Promise<Observed>] => [
      `tcp:${port}`,
      `reverse TCP connection to port ${port}`,
      () => reverseTcp(host, port, options),
    ]),
    ['icmp', 'reverse ICMP echo', () => reverseEcho(host, options)],
  ]
  for (const [id, what, run] of tries) {
    const began = performance.now()
    const result = diodeResult(back, id, what, 'blocked: timed out', await run(), 0)
    results.push({ ...result, ms: Math.round(performance.now() - began) })
    onResult(results[results.length - 1])
  }
  return results
}
