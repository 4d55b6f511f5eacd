/**
 * `headgate learn` beside tshark: megabytes a second and peak memory on the same capture, one after the other, in the
 * same run.
 */
import { spawnSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { adu, u16 } from '../test/support/modbus.ts'
import { FLAG, ipPacket, LINKS, type Packet, pcapFile } from '../test/support/traffic.ts'
import { figure, ratioText, say, table } from './stats.ts'

const CONNECTIONS = 64
const REGISTERS = 20

/**
 * Writes a capture of polls: 64 connections, FC 3 and FC 16 in turn, each request acknowledged by its response.
 * @param megabytes size, about
 * @returns requests in it
 */
export function writeCapture(file: string, megabytes: number): number {
  const blockOf = (round: number): Buffer => {
    const packets: Packet[] = []
    for (let i = 0; i < CONNECTIONS; i++) {
      const client = { host: `10.0.1.${1 + (i % 8)}`, port: 40000 + i }
      const target = { host: `10.0.2.${1 + (i >> 3)}`, port: 502 }
      const write = i % 8 === 7
      const request = write
        ? [16, ...u16(100), ...u16(4), 8, ...[1, 2, 3, 4].flatMap(u16)]
        : [3, ...u16(10 * i), ...u16(REGISTERS)]
      const response = write ? [16, ...u16(100), ...u16(4)] : [3, 2 * REGISTERS, ...new Array(2 * REGISTERS).fill(i)]
      const [ask, answer] = [adu(round & 0xffff, 1, request), adu(round & 0xffff, 1, response)]
      const [clientNext, targetNext] = [round * ask.length, round * answer.length]
      const flags = FLAG.push | FLAG.ack
      const asked = ipPacket({
        from: client,
        to: target,
        sequence: clientNext,
        acknowledged: targetNext,
        flags,
        payload: ask,
      })
      const answered = ipPacket({
        from: target,
        to: client,
        sequence: targetNext,
        acknowledged: clientNext + ask.length,
        flags,
        payload: answer,
      })
      const us = 1.7e15 + round * 1e5 + i * 1000
      packets.push(
        { us, bytes: LINKS.ethernet.wrap(asked.ip, false) },
        { us: us + 400, bytes: LINKS.ethernet.wrap(answered.ip, false) },
      )
    }
    return pcapFile(packets)
  }
  const fd = openSync(file, 'w')
  // One round is made in full; the others differ in times, sequence numbers and transaction identifiers alone.
  const template = blockOf(0)
  writeSync(fd, template, 0, 24)
  const round = Buffer.from(template.subarray(24))
  const places: { at: number; asked: number; sequenceStep: number; acknowledgedStep: number; us: number }[] = []
  for (let at = 0, n = 0; at < round.length; n++) {
    const length = round.readUInt32LE(at + 8)
    const payload = length - 14 - 40
    places.push({ at, asked: n % 2, sequenceStep: payload, acknowledgedStep: 0, us: 0 })
    at += 16 + length
  }
  for (let i = 0; i < places.length; i += 2) {
    places[i].acknowledgedStep = places[i + 1].sequenceStep
    places[i + 1].acknowledgedStep = places[i].sequenceStep
    for (const j of [i, i + 1]) places[j].us = round.readUInt32LE(places[j].at + 4)
  }
  const rounds = Math.ceil((megabytes * 1e6) / round.length)
  const batch: Buffer[] = []
  for (let n = 0; n < rounds; n++) {
    const copy = Buffer.from(round)
    for (const { at, asked, sequenceStep, acknowledgedStep, us } of places) {
      const time = n * 1e5 + us
      copy.writeUInt32LE(1_700_000_000 + Math.floor(time / 1e6), at)
      copy.writeUInt32LE(time % 1e6, at + 4)
      const tcp = at + 16 + 34
      copy.writeUInt32BE((n * sequenceStep) >>> 0, tcp + 4)
      copy.writeUInt32BE(((n + asked) * acknowledgedStep) >>> 0, tcp + 8)
      copy.writeUInt16BE(n & 0xffff, tcp + 20)
    }
    batch.push(copy)
    if (batch.length === 64 || n === rounds - 1) {
      writeSync(fd, Buffer.concat(batch))
      batch.length = 0
    }
  }
  closeSync(fd)
  return rounds * CONNECTIONS
}

interface Run {
  seconds: number
  /** Peak resident memory in MiB; null where the system does not tell. */
  peak: number | null
  output: string
}

/** Runs a program under `/usr/bin/time` where there is one, for its peak memory. */
function measure(command: string, args: string[]): Run | null {
  const timed = spawnSync('/usr/bin/time', ['-f', '%M', 'true']).status === 0
  const start = performance.now()
  const [program, all] = timed ? ['/usr/bin/time', ['-f', 'peak %M', command, ...args]] : [command, args]
  const done = spawnSync(program, all, { encoding: 'utf8', maxBuffer: 1 << 26 })
  const seconds = (performance.now() - start) / 1000
  if (done.status !== 0) return null
  const peak = /peak (\d+)/.exec(done.stderr)
  return { seconds, peak: peak === null ? null : Number(peak[1]) / 1024, output: done.stdout + done.stderr }
}

/**
 * Prints the comparison, and what `headgate replay` makes of the same capture under the policy that was learned.
 * @param asked megabytes of capture; HEADGATE_BENCH_MB overrides it
 */
export function learn(asked: number): void {
  const directory = mkdtempSync(join(tmpdir(), 'headgate-learn-'))
  try {
    const file = join(directory, 'polls.pcap')
    const requests = writeCapture(file, Number(process.env.HEADGATE_BENCH_MB ?? asked))
    const megabytes = statSync(file).size / 1e6
    const child = new URL('./learn-child.ts', import.meta.url).pathname
    const policy = join(directory, 'draft.yaml')
    const ours = measure(process.execPath, [child, 'learn', file, policy])
    if (ours === null) throw new Error('headgate learn failed')
    const counted = Number(/([\d,]+) Modbus requests/.exec(ours.output)?.[1].replaceAll(',', ''))
    if (counted !== requests) throw new Error(`headgate learn counted ${counted} requests of ${requests}`)
    const judged = measure(process.execPath, [child, 'replay', file, policy])
    if (judged === null) throw new Error('headgate replay denied some of what was learned, or failed')
    const peer = measure('tshark', ['-r', file, '-q', '-z', 'io,stat,0', '-Y', 'modbus'])
    const row = (name: string, run: Run): string[] => [
      name,
      figure(megabytes / run.seconds),
      run.peak === null ? '-' : figure(run.peak),
      peer === null ? '-' : ratioText(peer.seconds / run.seconds),
    ]
    const rows = [row('headgate learn', ours), row('headgate replay', judged)]
    if (peer !== null) rows.push(row('tshark -z io,stat,0 -Y modbus', peer))
    say('\n### Learning from captures\n')
    say(
      `${figure(megabytes)} MB of pcap, ${requests.toLocaleString('en')} requests, once each, start of the process included.\n`,
    )
    say(table(['', 'MB/s', 'peak MiB', 'to tshark'], rows))
    if (peer === null) say('\ntshark: skipped, not installed')
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
