/**
 * Real traffic through real sockets: the client's side of each capture is sent to Headgate, the target answers with what
 * was captured, and Zeek's log of the same packets says what must have been counted.
 */
import { readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { parseFunction } from '../../src/protocols/modbus/function-codes.ts'
import { type GatewayEvent, TRANSPORTS } from '../support/gateway.ts'
import { adu } from '../support/modbus.ts'
import { type Conversation, readConversations } from '../support/pcap.ts'
import { type ConduitPlan, Site } from '../support/site.ts'
import { adus, type Peer, until } from '../support/sockets.ts'

const fixture = (name: string) => new URL(`../fixtures/captures/${name}`, import.meta.url).pathname

/** What is asked and answered on one captured connection. These captures have one request in flight. */
interface Exchange {
  requests: Buffer[]
  responses: Buffer[]
}

const exchangesOf = (conversation: Conversation): Exchange => ({
  requests: adus(conversation.client.payload),
  responses: adus(conversation.server.payload),
})

const CAPTURES = {
  'modbus-all-functions': readConversations(fixture('modbus-all-functions.pcap'), 502).map(exchangesOf),
  'modbus-coils': readConversations(fixture('modbus-coils.pcap'), 502).map(exchangesOf),
  'modbus-encapsulated-interface': readConversations(fixture('modbus-encapsulated-interface.pcap'), 502).map(
    exchangesOf,
  ),
}
type Capture = keyof typeof CAPTURES

/** One row of Zeek's `modbus_detailed.log`: names of its `#fields` to their values, unset ones absent. */
type Row = Record<string, string>

function zeekRows(): Row[] {
  const lines = readFileSync(fixture('modbus-all-functions.zeek-modbus_detailed.log'), 'utf8').trimEnd().split('\n')
  const names = (lines.find((line) => line.startsWith('#fields')) as string).split('\t').slice(1)
  return lines
    .filter((line) => !line.startsWith('#'))
    .map((line) => {
      const pairs = line.split('\t').map((value, i) => [names[i], value])
      return Object.fromEntries(pairs.filter(([, value]) => value !== '-'))
    })
}

/** Zeek's function codes, one for each request: `tid` and the client's port tell a request from another. */
function zeekRequests(): Map<string, number> {
  const requests = new Map<string, number>()
  for (const row of zeekRows()) {
    const [selector] = parseFunction(row.func) ?? []
    if (selector === undefined) throw new Error(`Zeek's ${row.func}`)
    requests.set(`${row['id.orig_p']} ${row.tid}`, selector.code)
  }
  return requests
}

const WRITES = [5, 6, 15, 16, 21, 22, 23]
/** FC 20 and 21 with a byte count of 0: V1.1b3 §6.14 and §6.15 want one sub-request at least. */
const MALFORMED = [20, 21]

const PLANS: Record<string, ConduitPlan> = {}
for (const mode of ['enforce', 'monitor'] as const) {
  for (const name of Object.keys(CAPTURES)) {
    PLANS[`${name} ${mode} all`] = { mode, rules: [{ functions: ['all'] }], timeouts: { responseMs: 200 } }
    PLANS[`${name} ${mode} read`] = { mode, rules: [{ functions: ['read'] }], timeouts: { responseMs: 200 } }
  }
}

/** Sends each request when the one before it was answered, as the captured client did. @returns what came back */
async function replay(
  site: Site<string>,
  conduit: string,
  exchange: Exchange,
): Promise<{ client: Peer; seen: Buffer[] }> {
  const target = site.target(conduit)
  const dials = target.connections.length
  target.script = (request) => {
    const index = exchange.requests.findIndex((one) => one.equals(request))
    return index === -1 ? null : exchange.responses[index]
  }
  const client = await site.connect(conduit)
  await target.connection(dials)
  const seen: Buffer[] = []
  for (const request of exchange.requests) {
    client.clear()
    client.send(request)
    await until(() => adus(client.received).length === 1, `an answer to ${request.toString('hex')}`)
    seen.push(client.received)
  }
  return { client, seen }
}

const sum = (counts: Record<string, number>, ending: RegExp): number =>
  Object.entries(counts).reduce((total, [key, value]) => total + (ending.test(key) ? value : 0), 0)

async function check(t: Test, site: Site<string>): Promise<void> {
  const { gateway } = site

  t.test('monitor: every byte of every capture passes both ways', async (t) => {
    for (const name of Object.keys(CAPTURES) as Capture[]) {
      for (const rules of ['all', 'read']) {
        const conduit = `${name} monitor ${rules}`
        for (const exchange of CAPTURES[name]) {
          const { client, seen } = await replay(site, conduit, exchange)
          t.equal(site.target(conduit).last.hex, Buffer.concat(exchange.requests).toString('hex'), conduit)
          t.equal(Buffer.concat(seen).toString('hex'), Buffer.concat(exchange.responses).toString('hex'), conduit)
          client.destroy()
        }
      }
    }
  })

  t.test('modbus-all-functions: counted as Zeek has logged it', async (t) => {
    const zeek = zeekRequests()
    t.equal(zeek.size, 24)
    const codes = [...zeek.values()]
    const writes = codes.filter((code) => WRITES.includes(code)).length
    const others = codes.filter((code) => [8, 43].includes(code)).length
    // Of FC 43 the capture has MEI type 14 alone, which is a read.
    const mei = zeekRows().filter((row) => row.mei_type === 'Read Device Identification').length
    t.ok(writes > 5 && mei > 0, `${writes} writes, ${mei} of MEI type 14`)
    const watched = (await gateway.counts('modbus-all-functions monitor read')).requests
    t.equal(sum(watched, /./), zeek.size, 'as many requests as Zeek saw')
    t.equal(sum(watched, /would_deny function$/), writes + others - mei, 'writes and diagnostics would be denied')
    t.equal(sum(watched, /would_deny malformed$/), 1, 'FC 20 without a sub-request')
    const exceptions = zeekRows().filter((row) => row.exception_code !== undefined)
    t.equal(exceptions.length, 1)
  })

  t.test('modbus-all-functions, enforced with all functions: what keeps the specification passes', async (t) => {
    const conduit = 'modbus-all-functions enforce all'
    for (const exchange of CAPTURES['modbus-all-functions']) {
      const { client, seen } = await replay(site, conduit, exchange)
      for (const [i, request] of exchange.requests.entries()) {
        const malformed = MALFORMED.includes(request[7])
        const expected = malformed
          ? adu(request.readUInt16BE(0), request[6], [request[7] | 0x80, 3])
          : exchange.responses[i]
        t.equal(seen[i].toString('hex'), expected.toString('hex'), `FC ${request[7]}`)
      }
      client.destroy()
    }
    const counts = await gateway.counts(conduit)
    t.equal(sum(counts.requests, / allow$/), zeekRequests().size - MALFORMED.length)
    t.equal(sum(counts.requests, / deny malformed$/), MALFORMED.length)
    t.strictSame(
      counts.responses,
      { allow: zeekRequests().size - MALFORMED.length },
      'every response answers its request',
    )
  })

  t.test('modbus-all-functions, enforced read-only: each row of Zeek’s is an event or a pass', async (t) => {
    const conduit = 'modbus-all-functions enforce read'
    const seenEvents: GatewayEvent[] = []
    const rows = zeekRows()
    for (const exchange of CAPTURES['modbus-all-functions']) {
      const { client } = await replay(site, conduit, exchange)
      for (const request of exchange.requests) {
        const code = request[7]
        const passes = !WRITES.includes(code) && code !== 8 && !MALFORMED.includes(code)
        const reached = adus(site.target(conduit).received).some((frame) => frame.equals(request))
        t.equal(reached, passes, `FC ${code}, transaction ${request.readUInt16BE(0)}`)
        if (passes) continue
        // One event for each function and reason of this client: the first.
        const event = await gateway.event('request.denied', { conduit, function_code: code })
        seenEvents.push(event)
      }
      client.destroy()
    }
    for (const event of new Set(seenEvents)) {
      const row = rows.find(({ tid, func }) => {
        return Number(tid) === event.transaction_id && parseFunction(func)?.[0].code === event.function_code
      })
      t.ok(row, `Zeek has transaction ${event.transaction_id}, ${event.function}`)
      t.equal(event.unit_id, Number(row?.unit))
      if (row?.address !== undefined && event.address !== undefined) t.equal(event.address, Number(row.address))
      if (row?.quantity !== undefined && event.quantity !== undefined) t.equal(event.quantity, Number(row.quantity))
      if (row?.request_values !== undefined) t.equal(event.values, row.request_values.replaceAll(',', ' '))
    }
  })

  t.test('modbus-coils: sixteen connections; read-only lets the reads pass', async (t) => {
    const conduit = 'modbus-coils enforce read'
    const conversations = CAPTURES['modbus-coils']
    t.equal(conversations.length, 16)
    const clients: Peer[] = []
    for (const exchange of conversations) {
      const { client, seen } = await replay(site, conduit, exchange)
      for (const [i, request] of exchange.requests.entries()) {
        const expected = request[7] === 1 ? exchange.responses[i] : adu(request.readUInt16BE(0), request[6], [0x8f, 1])
        t.equal(seen[i].toString('hex'), expected.toString('hex'))
      }
      clients.push(client)
    }
    t.strictSame((await gateway.counts(conduit)).requests, {
      'read-coils allow': 8,
      'write-multiple-coils deny function': 8,
    })
    t.strictSame((await gateway.counts(conduit)).connections, { allow: 16 })
    for (const client of clients) client.destroy()
  })

  t.test('modbus-encapsulated-interface: a response that breaks §6.21 is not believed', async (t) => {
    const conduit = 'modbus-encapsulated-interface enforce read'
    const exchange: Exchange = {
      requests: CAPTURES['modbus-encapsulated-interface'].flatMap(({ requests }) => requests),
      responses: CAPTURES['modbus-encapsulated-interface'].flatMap(({ responses }) => responses),
    }
    const { client, seen } = await replay(site, conduit, exchange)
    const [first, second] = exchange.requests
    t.equal(
      seen[0].toString('hex'),
      adu(first.readUInt16BE(0), first[6], [0xab, 0x0b]).toString('hex'),
      '0B in its place',
    )
    t.equal(seen[1].toString('hex'), exchange.responses[1].toString('hex'), 'the exception of the other passes')
    t.equal(second[7], 43)
    t.strictSame((await gateway.counts(conduit)).responses, { allow: 1, 'deny malformed': 1, 'deny timeout': 1 })
    t.match(await gateway.event('response.denied', { conduit }), { reason: 'malformed', function_code: 43 })
    client.destroy()
  })
}

for (const io of TRANSPORTS) {
  t.test(`captures on ${io}`, { timeout: 60_000 }, async (t) => {
    const site = await Site.open(io, PLANS)
    t.teardown(() => site.close())
    await check(t, site)
  })
}
