/** What holds for any bytes, and for any request and response that is built from the specification. */
import fc from 'fast-check'
import t from 'tap'
import { describeRequest, describeResponse } from '../../../src/protocols/modbus/describe.ts'
import {
  checkRequest,
  describeFault,
  expectsResponse,
  FAULT,
  faultText,
} from '../../../src/protocols/modbus/request.ts'
import { checkResponse, matchResponse, noteRequest, OWED_WORDS } from '../../../src/protocols/modbus/response.ts'
import { between, onPduAlone, toHex } from '../../support/bytes.ts'
import { packBits, registers, subRequest, u16 } from '../../support/modbus.ts'

const RUNS = { numRuns: 2000 }
const word = fc.integer({ min: 0, max: 0xffff })
const byte = fc.integer({ min: 0, max: 0xff })
const words = (min: number, max: number) => fc.array(word, { minLength: min, maxLength: max })
const bits = (min: number, max: number) => fc.array(fc.boolean(), { minLength: min, maxLength: max })

/** First address and quantity, such that the range ends at 65535 or before. */
const span = (most: number) =>
  fc
    .integer({ min: 1, max: most })
    .chain((quantity) => fc.tuple(fc.integer({ min: 0, max: 65536 - quantity }), fc.constant(quantity)))
const startOf = (quantity: number) => fc.integer({ min: 0, max: 65536 - quantity })

/** A request and a response that answers it. */
interface Exchange {
  request: number[]
  response: number[]
}

const bitRead = (code: number) =>
  span(2000).chain(([address, quantity]) =>
    bits(quantity, quantity).map((values) => {
      const data = packBits(values)
      return { request: [code, ...u16(address), ...u16(quantity)], response: [code, data.length, ...data] }
    }),
  )
const registerRead = (code: number) =>
  span(125).chain(([address, quantity]) =>
    words(quantity, quantity).map((values) => ({
      request: [code, ...u16(address), ...u16(quantity)],
      response: [code, 2 * quantity, ...registers(values)],
    })),
  )
const echoed = (request: number[]): Exchange => ({ request, response: request })

const DATA_FREE = [0, 2, 4, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20]
const diagnostics = fc.oneof(
  words(1, 125).map((data) => echoed([8, 0, 0, ...registers(data)])),
  fc.constantFrom(0x0000, 0xff00).map((data) => echoed([8, 0, 1, ...u16(data)])),
  byte.map((character) => echoed([8, 0, 3, character, 0])),
  fc.constantFrom(10, 20).map((sub) => echoed([8, 0, sub, 0, 0])),
  fc.tuple(fc.constantFrom(2, 11, 12, 13, 14, 15, 16, 17, 18), word).map(([sub, count]) => ({
    request: [8, 0, sub, 0, 0],
    response: [8, 0, sub, ...u16(count)],
  })),
)

/** Records of files whose sum, with `head` bytes for each and two in front, is at most 253 bytes. */
const records = (head: number) =>
  fc
    .array(fc.tuple(fc.integer({ min: 1, max: 0xffff }), fc.integer({ min: 0, max: 9999 }), words(1, 12)), {
      minLength: 1,
      maxLength: 35,
    })
    .map((list) => {
      let room = 251
      return list
        .map(([file, record, data]) => [file, Math.min(record, 10000 - data.length), data] as const)
        .filter(([, , data]) => {
          room -= head + 2 * data.length
          return room >= 0
        })
    })

const fileRead = records(2).map((list) => {
  const request = list.flatMap(([file, record, data]) => subRequest(file, record, data.length))
  const response = list.flatMap(([, , data]) => [1 + 2 * data.length, 6, ...registers(data)])
  return { request: [20, request.length, ...request], response: [20, response.length, ...response] }
})
const fileWrite = records(7).map((list) => {
  const body = list.flatMap(([file, record, data]) => [...subRequest(file, record, data.length), ...registers(data)])
  return echoed([21, body.length, ...body])
})

const identification = fc
  .tuple(
    fc.integer({ min: 1, max: 4 }),
    byte,
    fc.constantFrom(0, 0xff),
    fc.array(fc.tuple(byte, fc.uint8Array({ maxLength: 40 })), { minLength: 1, maxLength: 5 }),
  )
  .map(([code, object, more, objects]) => {
    const list = code === 4 ? [[object, objects[0][1]] as const] : objects
    const body = list.flatMap(([id, value]) => [id, value.length, ...value])
    return { request: [43, 14, code, object], response: [43, 14, code, 0x81, more, 0, list.length, ...body] }
  })

/** Every public function code, built from V1.1b3 §6 and from nothing of the decoder. */
const exchanges: fc.Arbitrary<Exchange> = fc.oneof(
  bitRead(1),
  bitRead(2),
  registerRead(3),
  registerRead(4),
  fc.tuple(word, fc.constantFrom(0, 0xff00)).map(([address, value]) => echoed([5, ...u16(address), ...u16(value)])),
  fc.tuple(word, word).map(([address, value]) => echoed([6, ...u16(address), ...u16(value)])),
  byte.map((status) => ({ request: [7], response: [7, status] })),
  diagnostics,
  fc.tuple(fc.constantFrom(0, 0xffff), word).map(([status, events]) => ({
    request: [11],
    response: [11, ...u16(status), ...u16(events)],
  })),
  fc
    .tuple(fc.constantFrom(0, 0xffff), word, word, fc.uint8Array({ maxLength: 64 }))
    .map(([status, events, all, log]) => ({
      request: [12],
      response: [12, 6 + log.length, ...u16(status), ...u16(events), ...u16(all), ...log],
    })),
  bits(1, 1968).chain((values) =>
    startOf(values.length).map((address) => {
      const data = packBits(values)
      const head = [15, ...u16(address), ...u16(values.length)]
      return { request: [...head, data.length, ...data], response: head }
    }),
  ),
  words(1, 123).chain((values) =>
    startOf(values.length).map((address) => {
      const head = [16, ...u16(address), ...u16(values.length)]
      return { request: [...head, 2 * values.length, ...registers(values)], response: head }
    }),
  ),
  fc.uint8Array({ minLength: 1, maxLength: 251 }).map((id) => ({ request: [17], response: [17, id.length, ...id] })),
  fileRead,
  fileWrite,
  fc.tuple(word, word, word).map((fields) => echoed([22, ...registers(fields)])),
  fc.tuple(span(125), words(1, 121)).chain(([[address, quantity], values]) =>
    fc.tuple(startOf(values.length), words(quantity, quantity)).map(([start, read]) => ({
      request: [
        23,
        ...u16(address),
        ...u16(quantity),
        ...u16(start),
        ...u16(values.length),
        2 * values.length,
        ...registers(values),
      ],
      response: [23, 2 * quantity, ...registers(read)],
    })),
  ),
  fc.tuple(word, words(0, 31)).map(([address, queue]) => ({
    request: [24, ...u16(address)],
    response: [24, ...u16(2 + 2 * queue.length), ...u16(queue.length), ...registers(queue)],
  })),
  identification,
  fc.tuple(fc.uint8Array({ maxLength: 20 }), fc.uint8Array({ maxLength: 20 })).map(([asked, given]) => ({
    request: [43, 13, ...asked],
    response: [43, 13, ...given],
  })),
)

/** PDUs that look like Modbus far enough to reach every branch: a function code of §6, then anything. */
const likely = fc
  .tuple(
    fc.constantFrom(1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 15, 16, 17, 20, 21, 22, 23, 24, 43, 90, 0x83, 0xab),
    fc.uint8Array({ maxLength: 260 }),
    fc.array(fc.tuple(fc.integer({ min: 0, max: 20 }), fc.constantFrom(0, 1, 2, 4, 6, 7, 9, 13, 14, 0xff)), {
      maxLength: 8,
    }),
  )
  .map(([code, rest, marks]) => {
    const pdu = Uint8Array.from([code, ...rest])
    for (const [at, value] of marks) if (at + 1 < pdu.length) pdu[at + 1] = value
    return pdu
  })
const anyPdu = fc.oneof(fc.uint8Array({ maxLength: 260 }), likely)

/** Fails a property with the bytes at hand. */
function demand(condition: boolean, message: string): void {
  if (!condition) throw new Error(message)
}

t.test('the decoder never throws, and heeds no byte outside the PDU', async () => {
  fc.assert(
    fc.property(anyPdu, anyPdu, (pdu, other) => {
      onPduAlone(pdu, checkRequest)
      onPduAlone(pdu, checkResponse)
      onPduAlone(pdu, expectsResponse)
      const notes = onPduAlone(pdu, (buf, start, end) => {
        const owed = new Int32Array(OWED_WORDS)
        noteRequest(buf, start, end, owed, 0)
        return [...owed]
      })
      const fault = onPduAlone(other, checkResponse)
      const excused = fault === 0 || fault === FAULT.TRAILING || fault === FAULT.EXCEPTION_CODE
      if (excused) onPduAlone(other, (buf, start, end) => matchResponse(buf, start, end, Int32Array.from(notes), 0))
    }),
    RUNS,
  )
})

t.test('nothing is read outside the PDU', async () => {
  fc.assert(
    fc.property(anyPdu, fc.integer({ min: 0, max: 20 }), (bytes, before) => {
      const { buf, pdu, end } = between(bytes, 0, before, 20)
      // A view that says no to every index outside the PDU.
      const watched = new Proxy(buf, {
        get(target, key) {
          if (typeof key === 'string' && /^\d+$/.test(key)) {
            const index = Number(key)
            demand(index >= pdu && index < end, `read ${index} outside [${pdu}, ${end}) of ${toHex(bytes)}`)
          }
          return Reflect.get(target, key, target)
        },
      })
      checkRequest(watched, pdu, end)
      const fault = checkResponse(watched, pdu, end)
      expectsResponse(watched, pdu, end)
      const owed = new Int32Array(OWED_WORDS)
      noteRequest(watched, pdu, end, owed, 0)
      if (fault === 0 || fault === FAULT.TRAILING) matchResponse(watched, pdu, end, owed, 0)
      describeFault(fault, watched, pdu, end)
      describeRequest(watched, pdu, end)
      describeResponse(watched, pdu, end)
    }),
    { numRuns: 1000 },
  )
})

t.test('every request of the specification passes, and its response answers it', async () => {
  fc.assert(
    fc.property(exchanges, ({ request, response }) => {
      demand(request.length <= 253 && response.length <= 253, `built too long: ${request.length}, ${response.length}`)
      const fault = onPduAlone(Uint8Array.from(request), checkRequest)
      demand(fault === 0, `request ${toHex(Uint8Array.from(request))}: ${faultText(fault)}`)
      const wrong = onPduAlone(Uint8Array.from(response), checkResponse)
      demand(wrong === 0, `response ${toHex(Uint8Array.from(response))}: ${faultText(wrong)}`)
      demand(answers(request, response) === 0, `${toHex(Uint8Array.from(request))} is answered by its response`)
      demand(answers(request, [request[0] | 0x80, 2]) === 0, 'an exception answers it')
    }),
    { numRuns: 3000 },
  )
})

t.test('a response of another function code answers nothing', async () => {
  fc.assert(
    fc.property(exchanges, exchanges, (a, b) => {
      const match = answers(a.request, b.response)
      demand((match === FAULT.MISMATCH_FUNCTION) === (a.request[0] !== b.request[0]), `${match}`)
    }),
    RUNS,
  )
})

t.test('an echo with any one bit turned is no echo', async () => {
  const echoes = exchanges.filter(({ request, response }) => {
    const code = request[0]
    return [5, 6, 15, 16, 21, 22].includes(code) && response.length > 1
  })
  fc.assert(
    fc.property(echoes, fc.nat(), ({ request, response }, turn) => {
      const altered = Uint8Array.from(response)
      const at = 1 + (turn % (response.length - 1))
      altered[at] ^= 1 << (turn % 8)
      const fault = onPduAlone(altered, checkResponse)
      // What is left is malformed, or tolerated as trailing, or well formed: the latter two must not match.
      if (fault !== 0 && fault !== FAULT.TRAILING) return
      demand(answers(request, [...altered]) !== 0, `${toHex(altered)} passes for ${toHex(Uint8Array.from(response))}`)
    }),
    RUNS,
  )
})

t.test('a byte more is trailing in a response, and at fault in a request', async () => {
  fc.assert(
    fc.property(exchanges, fc.uint8Array({ minLength: 1, maxLength: 4 }), ({ request, response }, more) => {
      const free = (pdu: number[]) => (pdu[0] === 8 && pdu[2] === 0) || (pdu[0] === 43 && pdu[1] === 13)
      if (free(request)) return
      demand(onPduAlone(Uint8Array.from([...request, ...more]), checkRequest) !== 0, 'request')
      const longer = [...response, ...more]
      const fault = onPduAlone(Uint8Array.from(longer), checkResponse)
      demand(fault === FAULT.TRAILING, `${toHex(Uint8Array.from(longer))}: ${faultText(fault)}`)
      demand(answers(request, longer) === 0, `${toHex(Uint8Array.from(longer))} still answers`)
    }),
    RUNS,
  )
})

t.test('requests that are left unanswered are Force Listen Only Mode and no others', async () => {
  fc.assert(
    fc.property(
      fc.oneof(
        exchanges.map(({ request }) => request),
        fc.constantFrom(...DATA_FREE.map((sub) => [8, 0, sub, 0, 0])),
      ),
      (request) => {
        const silent = request[0] === 8 && request[1] === 0 && request[2] === 4
        demand(onPduAlone(Uint8Array.from(request), expectsResponse) === !silent, `${request}`)
      },
    ),
    RUNS,
  )
})

function answers(request: number[], response: number[]): number {
  const owed = new Int32Array(OWED_WORDS)
  noteRequest(Uint8Array.from(request), 0, request.length, owed, 0)
  return matchResponse(Uint8Array.from(response), 0, response.length, owed, 0)
}
