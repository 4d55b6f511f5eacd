/**
 * Kills a gateway at random moments while it denies as fast as it can, with evidence and a spool; starts it again; and
 * holds it to its word: what was on the disk before the kill is there after it, the evidence verifies, and every event
 * that was spooled reaches the receiver.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { HEAD_FILE } from '../../src/records/evidence/chain.ts'
import { evidenceFiles } from '../../src/records/evidence/tail.ts'
import { verifyFiles } from '../../src/records/evidence/verify.ts'
import { freePort, TestGateway } from './gateway.ts'
import { adu } from './modbus.ts'
import { modbusPolicy } from './policy.ts'
import { evidenceTerms, Receiver, sinkTerms } from './records.ts'
import { connect, type Peer, RawTarget, sleep, until } from './sockets.ts'

/** Whole lines of the files with that ending, in all directories below. */
function wholeLines(directory: string, wanted: RegExp): string[] {
  const lines: string[] = []
  for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort()) {
    if (!wanted.test(name)) continue
    const text = readFileSync(join(directory, name), 'utf8')
    lines.push(
      ...text
        .slice(0, text.lastIndexOf('\n') + 1)
        .split('\n')
        .slice(0, -1),
    )
  }
  return lines
}

const idOf = (line: string): string => /"id":"([^"]*)"/.exec(line)?.[1] ?? ''

/** Clients with addresses of their own, each with every function code: none is like another, so all speak. */
async function load(port: number, round: number, over: () => boolean): Promise<void> {
  for (let host = 1; !over(); host++) {
    let peer: Peer
    try {
      peer = await connect(port, '127.0.0.1', `127.${round + 1}.${(host >> 8) & 255}.${host & 255 || 1}`)
      peer.send(Buffer.concat(Array.from({ length: 40 }, (_, i) => adu(i, 1, [5 + i, 0, 0, 0, 0]))))
      await sleep(2)
      peer.destroy()
    } catch {
      return
    }
  }
}

/** @throws Error with what did not hold */
export async function killRounds(rounds: number, say: (text: string) => void): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'headgate-kill-'))
  const evidence = join(directory, 'evidence')
  const spool = join(directory, 'spool')
  const target = await RawTarget.open(() => null)
  const [port, sinkPort] = [await freePort(), await freePort()]
  const policy = modbusPolicy(
    [
      {
        id: 'C1',
        rules: [{ functions: [3] }],
        listen: { host: '127.0.0.1', port },
        target: { host: '127.0.0.1', port: target.port },
      },
    ],
    { stormMs: 1000 },
  )
  if (policy.gateway === null) throw new Error('no gateway')
  policy.gateway.evidence = evidenceTerms(evidence, { checkpointRecords: 100, rotateBytes: 2 << 20 })
  policy.gateway.spool = { directory: spool, maxBytes: 1 << 30 }
  policy.gateway.syslog = [sinkTerms(`tcp://127.0.0.1:${sinkPort}`)]
  const chained = new Set<string>()
  const spooled = new Set<string>()
  let repaired = 0
  try {
    for (let round = 0; round < rounds; round++) {
      const gateway = await TestGateway.start(policy)
      let over = false
      const clients = [load(port, round, () => over), load(port, round + 100, () => over)]
      await sleep(100 + Math.random() * 400)
      const before = { evidence: wholeLines(evidence, /\.jsonl$/), spool: wholeLines(spool, /spool-\d+\.jsonl$/) }
      gateway.kill()
      over = true
      await Promise.all(clients)
      for (const line of before.spool) spooled.add(idOf(line))
      const after = new Set(wholeLines(evidence, /\.jsonl$/))
      const missing = before.evidence.filter((line) => !after.has(line))
      if (missing.length > 0) throw new Error(`round ${round}: ${missing.length} evidence records are gone`)
      for (const line of before.evidence) chained.add(line)
      repaired += gateway.events.filter((event) => event.event === 'evidence.repaired').length
      const files = (await evidenceFiles(evidence)).map((name) => join(evidence, name))
      const report = await verifyFiles(files, { keys: [], headNote: readFileSync(join(evidence, HEAD_FILE), 'utf8') })
      if (report.finding !== null) throw new Error(`round ${round}: ${report.finding.message}`)
      say(
        `round ${round + 1}: ${report.records} records verified, ${spooled.size} events spooled${report.torn === null ? '' : ', torn line'}`,
      )
    }
    const receiver = await Receiver.listen(sinkPort)
    const gateway = await TestGateway.start(policy)
    await until(() => [...spooled].every((id) => receiver.seen.has(id)), 'all that was spooled has come', 30_000)
    await gateway.stop()
    await receiver.close()
    const now = new Set(wholeLines(evidence, /\.jsonl$/))
    const lost = [...chained].filter((line) => !now.has(line))
    if (lost.length > 0) throw new Error(`${lost.length} evidence records are gone in the end`)
    say(
      `${rounds} kills: ${chained.size} evidence records and ${spooled.size} spooled events, none missing; ${repaired} torn lines repaired`,
    )
  } finally {
    await target.close()
    rmSync(directory, { recursive: true, force: true })
  }
}
