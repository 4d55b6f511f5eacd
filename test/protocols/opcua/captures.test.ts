/** Real traffic as the oracle: what the inspecting session counts against what tshark's dissector reads in it. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import t from 'tap'
import { SERVICES } from '../../../src/protocols/opcua/services.ts'
import { InspectHarness, opcuaPolicy } from '../../support/opcua.ts'
import { readTurns } from '../../support/pcap.ts'

const fixture = (name: string) => new URL(`../../fixtures/captures/${name}`, import.meta.url).pathname
const ORACLE: Record<string, Record<string, number>> = JSON.parse(readFileSync(fixture('opcua-services.json'), 'utf8'))

const ANY = `rules: [{ name: any, from: [Z3], to: [Z2], services: [all] }]
opcua:
  security_modes: [None, Sign, SignAndEncrypt]
  security_policies: [None, Basic128Rsa15, Basic256, Basic256Sha256, Aes128_Sha256_RsaOaep, Aes256_Sha256_RsaPss]`

/** All messages with a type id in clear, by tshark: type id → how many. */
function tshark(file: string): Record<string, number> | null {
  const args = [
    '-r',
    file,
    '-d',
    'tcp.port==4840,opcua',
    '-Y',
    'opcua',
    '-T',
    'fields',
    '-e',
    'opcua.servicenodeid.numeric',
  ]
  const { status, stdout } = spawnSync('tshark', args, { encoding: 'utf8' })
  if (status !== 0) return null
  const counts: Record<string, number> = {}
  for (const id of stdout.split(/[\n,]/)) if (id !== '') counts[id] = (counts[id] ?? 0) + 1
  return counts
}

for (const [file, expected] of Object.entries(ORACLE)) {
  t.test(file, async (t) => {
    t.test('the histogram is what tshark reads', async (t) => {
      const read = tshark(fixture(file))
      if (read === null) t.comment('tshark is not here')
      else t.same(read, expected)
    })
    for (const mode of ['enforce', 'monitor'] as const) {
      const requests: Record<string, number> = {}
      for (const turns of readTurns(fixture(file), 4840)) {
        const harness = new InspectHarness(opcuaPolicy({ mode, protocol: ANY }))
        for (const { fromClient, payload } of turns) {
          if (fromClient) harness.client(payload)
          else harness.target(payload)
        }
        t.same(
          harness.reports.filter(({ kind }) => kind !== 'opened'),
          [],
          `${mode}: nothing is found`,
        )
        const sent = (side: boolean): Buffer =>
          Buffer.concat(turns.filter((turn) => turn.fromClient === side).map((turn) => turn.payload))
        t.ok(harness.toTarget_.equals(sent(true)), `${mode}: all of the client's bytes reach the server as they are`)
        t.ok(harness.toClient_.equals(sent(false)), `${mode}: and the server's the client`)
        for (const [what, count] of Object.entries(harness.requests())) {
          const [name, verdict] = what.split(' ')
          t.equal(verdict, 'allow', what)
          requests[name] = (requests[name] ?? 0) + count
        }
        harness.session.dispose()
        t.same([harness.channels(), harness.pending, harness.sessions], [{}, 0, 0], 'nothing is left in the gauges')
      }
      for (const { name, request } of SERVICES) {
        // OPN and CLO are counted, and seen in clear by tshark on None alone.
        const seen = requests[name] ?? 0
        const oracle = expected[request] ?? 0
        if (name === 'OpenSecureChannel' || name === 'CloseSecureChannel') t.ok(seen >= oracle, `${mode}: ${name}`)
        else t.equal(seen, oracle, `${mode}: ${name}`)
      }
    }
  })
}
