/** Real traffic as the oracle: what the decoder reads against what Zeek logged of the same packets. */
import { readFileSync } from 'node:fs'
import t from 'tap'
import { describeRequest, describeResponse } from '../../../src/protocols/modbus/describe.ts'
import { FAULT, faultText } from '../../../src/protocols/modbus/faults.ts'
import { exceptionName, parseFunction } from '../../../src/protocols/modbus/function-codes.ts'
import { checkRequest } from '../../../src/protocols/modbus/request.ts'
import { checkResponse, matchResponse, noteRequest, OWED_WORDS } from '../../../src/protocols/modbus/response.ts'
import { type Conversation, readConversations } from '../../support/pcap.ts'

const fixture = (name: string) => new URL(`../../fixtures/captures/${name}`, import.meta.url).pathname

/** The ADUs of a payload, by the length field of each MBAP header. */
function frames(payload: Buffer): Buffer[] {
  const list: Buffer[] = []
  for (let at = 0; at < payload.length; ) {
    const end = at + 6 + payload.readUInt16BE(at + 4)
    if (end > payload.length) throw new Error(`frame at ${at} is cut short`)
    list.push(payload.subarray(at, end))
    at = end
  }
  return list
}

/** Each request with the response that follows it: these captures have one request in flight. */
function transactions({ client, server }: Conversation): { request: Buffer; response: Buffer }[] {
  const responses = frames(server.payload)
  const requests = frames(client.payload)
  if (requests.length !== responses.length)
    throw new Error(`${requests.length} requests, ${responses.length} responses`)
  return requests.map((request, i) => ({ request, response: responses[i] }))
}

/** What the checks say of an exchange: of the request, of the response, and of the two together. */
function verdicts(request: Buffer, response: Buffer): [string, string, string] {
  const owed = new Int32Array(OWED_WORDS)
  noteRequest(request, 7, request.length, owed, 0)
  return [
    faultText(checkRequest(request, 7, request.length)),
    faultText(checkResponse(response, 7, response.length)),
    faultText(matchResponse(response, 7, response.length, owed, 0)),
  ]
}

const FINE = faultText(FAULT.NONE)

/** Rows of a Zeek log, by the names of its `#fields`; an unset field is absent. */
function zeekLog(file: string): Record<string, string>[] {
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n')
  const names = lines
    .find((line) => line.startsWith('#fields'))
    ?.split('\t')
    .slice(1)
  if (names === undefined) throw new Error('no #fields line')
  return lines
    .filter((line) => !line.startsWith('#'))
    .map((line) => line.split('\t').map((value, i) => [names[i], value] as const))
    .map((pairs) => Object.fromEntries(pairs.filter(([, value]) => value !== '-')))
}

/** Zeek's `ILLEGAL_DATA_ADDRESS` and `Return Diagnostic Register` in the project's way of writing. */
const kebab = (text: string | undefined) => text?.toLowerCase().replaceAll(/[ _]/g, '-')

t.test('modbus-all-functions: row by row as Zeek read it', async (t) => {
  const rows = zeekLog(fixture('modbus-all-functions.zeek-modbus_detailed.log'))
  const seen = new Set<string>()
  const exchanges = readConversations(fixture('modbus-all-functions.pcap'), 502).flatMap((conversation) =>
    transactions(conversation).map((transaction) => ({ ...transaction, from: conversation.client.from })),
  )
  t.equal(exchanges.length, 24)
  for (const { request, response, from } of exchanges) {
    const asked = describeRequest(request, 0, request.length)
    const answered = describeResponse(response, 0, response.length)
    const [host, port] = from.split(':')
    const matching = rows.filter(
      (row) => row['id.orig_h'] === host && row['id.orig_p'] === port && row.tid === `${asked.transaction_id}`,
    )
    // Zeek writes one row for a pair it has matched, and one each for FC 7 and FC 17.
    t.equal(matching.length, asked.function_code === 7 || asked.function_code === 17 ? 2 : 1, `${asked.function}`)
    for (const row of matching) {
      seen.add(JSON.stringify(row))
      t.strictSame(
        {
          tid: asked.transaction_id,
          unit: asked.unit_id,
          func: [{ code: asked.function_code, sub: null }],
          exception: answered.exception_code === undefined ? undefined : exceptionName(answered.exception_code),
          sub: (row.request_subfunction_code ?? row.mei_type) ? asked.sub_function : undefined,
          values: row.request_values === undefined ? undefined : asked.values,
          address: row.address === undefined ? undefined : asked.address,
          // Zeek gives 0 for the records of FC 20 and 21, of which there are none here, and FC 24's FIFO count.
          quantity: row.quantity === undefined ? undefined : (asked.quantity ?? 0),
        },
        {
          tid: Number(row.tid),
          unit: Number(row.unit),
          func: parseFunction(row.func),
          exception: kebab(row.exception_code),
          sub: kebab(row.request_subfunction_code ?? row.mei_type),
          values: row.request_values?.replaceAll(',', ' '),
          address: row.address === undefined ? undefined : Number(row.address),
          quantity: row.quantity === undefined ? undefined : Number(row.quantity),
        },
        `${row.tid} ${row.func}`,
      )
      t.equal(answered.transaction_id, asked.transaction_id)
      t.equal(answered.function_code, asked.function_code)
    }
  }
  t.equal(seen.size + 2, rows.length, 'every row of the log was met (two of them are twins)')
})

t.test('modbus-all-functions: what breaks the specification', async (t) => {
  // FC 20 and FC 21 with a byte count of 0: §6.14 and §6.15 want one sub-request at least.
  const broken: Record<number, [number, number]> = {
    16: [FAULT.BYTE_COUNT, FAULT.RESPONSE_BYTE_COUNT],
    17: [FAULT.BYTE_COUNT, FAULT.RESPONSE_BYTE_COUNT],
  }
  const [first, second] = readConversations(fixture('modbus-all-functions.pcap'), 502)
  for (const { request, response } of transactions(first)) {
    const [wrong = FAULT.NONE, wrongAnswer = FAULT.NONE] = broken[request.readUInt16BE(0)] ?? []
    const expected = [faultText(wrong), faultText(wrongAnswer), FINE]
    t.strictSame(verdicts(request, response), expected, `${request.toString('hex')} ${response.toString('hex')}`)
  }
  for (const { request, response } of transactions(second)) {
    t.strictSame(verdicts(request, response), [FINE, FINE, FINE], 'the exception of another connection')
  }
})

t.test('modbus-coils: sixteen connections that read and write coils', async (t) => {
  const conversations = readConversations(fixture('modbus-coils.pcap'), 502)
  const exchanges = conversations.flatMap(transactions)
  const wrong = exchanges.filter(({ request, response }) => verdicts(request, response).some((text) => text !== FINE))
  t.equal(conversations.length, 16)
  t.strictSame(wrong, [])
  const asked = exchanges.map(({ request }) => describeRequest(request, 0, request.length))
  t.equal(asked.filter((fields) => fields.function === 'read-coils').length, 8)
  // What each connection wrote, the next one read: the packets say so themselves.
  const written = asked.filter((fields) => fields.function === 'write-multiple-coils').map((fields) => fields.values)
  const read = exchanges
    .filter(({ request }) => request[7] === 1)
    .map(({ response }) => [0, 1, 2].map((bit) => (response[9] >> bit) & 1).join(' '))
  t.strictSame(read, written)
})

t.test('modbus-encapsulated-interface: a device that breaks §6.21, and an exception', async (t) => {
  const exchanges = readConversations(fixture('modbus-encapsulated-interface.pcap'), 502).flatMap(transactions)
  t.strictSame(
    exchanges.map(({ request, response }) => verdicts(request, response)),
    [
      // More follows is 0x4D; four bytes come after a list of no objects.
      [FINE, faultText(FAULT.MORE_FOLLOWS), FINE],
      [FINE, FINE, FINE],
    ],
  )
  const [, second] = exchanges
  const fields = describeResponse(second.response, 0, second.response.length)
  t.equal(fields.function, 'encapsulated-interface')
  t.equal(fields.exception_code, 4)
})
