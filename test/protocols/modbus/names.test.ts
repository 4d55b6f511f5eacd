/** What operators may write for a function, and what frames are called in events. */
import t from 'tap'
import { describeRequest, describeResponse, type FrameFields } from '../../../src/protocols/modbus/describe.ts'
import {
  EXCEPTIONS,
  exceptionName,
  FUNCTION_CODES,
  FUNCTION_GROUPS,
  functionClass,
  functionName,
  functionNames,
  isStandardException,
  isWrite,
  parseFunction,
  selectorName,
  subFunctionName,
} from '../../../src/protocols/modbus/function-codes.ts'
import { hex, onPduAlone } from '../../support/bytes.ts'

/** `8/0` → a selector; `3` → one that takes all. */
const one = (text: string) => {
  const [code, sub] = text.split('/').map(Number)
  return { code, sub: sub ?? null }
}

t.test('functions as operators write them', async (t) => {
  const rows: [text: string | number, selectors: string][] = [
    [3, '3'],
    ['3', '3'],
    ['03', '3'],
    ['0x03', '3'],
    ['FC3', '3'],
    ['fc 3', '3'],
    ['FC03', '3'],
    [127, '127'],
    [1, '1'],
    ['function-90', '90'],
    ['read-holding-registers', '3'],
    ['Read Holding Registers', '3'],
    ['read_holding_registers', '3'],
    ['READ_HOLDING_REGISTERS', '3'],
    [' read-coils ', '1'],
    ['force-single-coil', '5'],
    ['preset-single-register', '6'],
    ['force-multiple-coils', '15'],
    ['preset-multiple-registers', '16'],
    ['report-slave-id', '17'],
    ['report-server-id', '17'],
    ['REPORT_SLAVE_ID', '17'],
    ['read/write multiple registers', '23'],
    ['ENCAP_INTERFACE_TRANSPORT', '43'],
    ['encapsulated_interface_transport', '43'],
    ['encapsulated-interface', '43'],
    ['diagnostics', '8'],
    ['diagnostics/return-query-data', '8/0'],
    ['diagnostics / return query data', '8/0'],
    ['Diagnostics/Return_Query_Data', '8/0'],
    ['diagnostics/0', '8/0'],
    ['8/0', '8/0'],
    ['8/0x0a', '8/10'],
    ['0x08/20', '8/20'],
    ['diagnostics/return-slave-message-count', '8/14'],
    ['diagnostics/sub-function-19', '8/19'],
    ['8/65535', '8/65535'],
    ['force-listen-only-mode', '8/4'],
    ['encapsulated-interface/read-device-identification', '43/14'],
    ['encapsulated-interface/canopen-general-reference', '43/13'],
    ['43/14', '43/14'],
    ['0x2B/0x0E', '43/14'],
    ['43/255', '43/255'],
    ['43/mei-type-15', '43/15'],
    ['read-device-identification', '43/14'],
    ['read', '1 2 3 4 7 11 12 17 20 24 43/14'],
    ['WRITE', '5 6 15 16 21 22 23'],
    ['program', '40 42 90 125 126'],
  ]
  for (const [text, selectors] of rows) {
    t.strictSame(parseFunction(text), selectors.split(' ').map(one), `${text}`)
  }
  t.strictSame(
    parseFunction('all'),
    Array.from({ length: 127 }, (_, i) => ({ code: i + 1, sub: null })),
  )
})

t.test('what is no function', async (t) => {
  const texts = ['', ' ', '0', 0, 128, '128', -1, 3.5, Number.NaN, Number.POSITIVE_INFINITY, '3.0', '0x80', '1e1', '+3']
  const words = ['raed', 'read-coil', 'toString', 'constructor', '__proto__', 'function-0', 'function-128', 'fc', '/']
  const slashes = [
    '3/4',
    '8/',
    '/0',
    '8/65536',
    '43/256',
    '8/-1',
    '43/return-query-data',
    '8/0/0',
    'read/3',
    '99999999',
  ]
  for (const text of [...texts, ...words, ...slashes]) t.equal(parseFunction(text), null, `${text}`)
})

t.test('names are read back as what they name', async (t) => {
  for (let code = 1; code < 128; code++) t.strictSame(parseFunction(functionName(code)), [{ code, sub: null }])
  const selectors = [0, 1, 4, 10, 19, 20, 300].map((sub) => ({ code: 8, sub }))
  for (const selector of [...selectors, { code: 43, sub: 13 }, { code: 43, sub: 14 }, { code: 43, sub: 99 }]) {
    t.strictSame(parseFunction(selectorName(selector)), [selector], selectorName(selector))
  }
  for (const name of functionNames()) t.not(parseFunction(name), null, name)
  t.equal(new Set(functionNames()).size, functionNames().length, 'once each')
})

t.test('a caller may change what it was given', async (t) => {
  const first = parseFunction('read')
  if (first === null) return t.fail('read is a group')
  first[0].code = 99
  t.equal(parseFunction('read')?.[0].code, 1)
})

t.test('the table of V1.1b3', async (t) => {
  t.strictSame([...FUNCTION_CODES.keys()], [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 15, 16, 17, 20, 21, 22, 23, 24, 43])
  t.equal(functionName(23), 'read-write-multiple-registers')
  t.equal(functionName(90), 'function-90')
  t.equal(subFunctionName(8, 4), 'force-listen-only-mode')
  t.equal(subFunctionName(8, 19), 'sub-function-19')
  t.equal(subFunctionName(43, 14), 'read-device-identification')
  t.equal(subFunctionName(43, 15), 'mei-type-15')
  const classes: [string, number[]][] = [
    ['public', [1, 8, 24, 43]],
    ['reserved', [9, 10, 13, 14, 41, 42, 90, 91, 125, 126, 127]],
    ['user-defined', [65, 72, 100, 110]],
    ['unassigned', [18, 19, 25, 40, 44, 64, 73, 99, 111, 124]],
  ]
  for (const [name, codes] of classes) for (const code of codes) t.equal(functionClass(code), name, `${code}`)
  for (const [name, selectors] of Object.entries(FUNCTION_GROUPS)) {
    for (const { code, sub } of selectors) {
      const entry = FUNCTION_CODES.get(code)
      if (sub === null && entry !== undefined) t.ok(entry.groups.includes(name as 'read'), `${code} names ${name}`)
    }
  }
  const writes = Array.from({ length: 256 }, (_, code) => code).filter(isWrite)
  t.strictSame(writes, [5, 6, 15, 16, 21, 22, 23, 40, 42, 90, 125, 126])
})

t.test('exception codes of §7', async (t) => {
  const standard = Array.from({ length: 256 }, (_, code) => code).filter(isStandardException)
  t.strictSame(standard, [1, 2, 3, 4, 5, 6, 8, 10, 11])
  t.strictSame([...EXCEPTIONS.keys()], standard)
  t.equal(exceptionName(2), 'illegal-data-address')
  t.equal(exceptionName(7), 'exception-7')
})

t.test('requests in the words of an event', async (t) => {
  const rows: [adu: string, fields: Partial<FrameFields>][] = [
    ['0001 0000 0006 04 03 006b 0003', { address: 107, quantity: 3 }],
    ['0001 0000 0006 04 05 00ac ff00', { address: 172, quantity: 1, values: '1' }],
    ['0001 0000 0006 04 05 00ac 0000', { address: 172, quantity: 1, values: '0' }],
    ['0001 0000 0006 04 05 00ac 0001', { address: 172, quantity: 1, values: '0x0001' }],
    ['0001 0000 0006 04 06 0001 0003', { address: 1, quantity: 1, values: '3' }],
    ['0001 0000 0009 04 0f 0013 000a 02 cd01', { address: 19, quantity: 10, values: '1 0 1 1 0 0 1 1 …' }],
    ['0001 0000 0008 04 0f 0013 0003 01 05', { address: 19, quantity: 3, values: '1 0 1' }],
    ['0001 0000 000b 04 10 0001 0002 04 000a0102', { address: 1, quantity: 2, values: '10 258' }],
    [
      '0001 0000 0019 04 10 0001 0009 12 0001 0002 0003 0004 0005 0006 0007 0008 0009',
      { address: 1, quantity: 9, values: '1 2 3 4 5 6 7 8 …' },
    ],
    ['0001 0000 0006 04 08 0004 0000', { sub_function: 'force-listen-only-mode', values: '0' }],
    ['0001 0000 0006 04 08 0013 0000', { sub_function: 'sub-function-19', values: '0' }],
    ['0001 0000 0008 04 16 0004 00f2 0025', { address: 4, quantity: 1, values: 'and 242 or 37' }],
    [
      '0001 0000 000d 04 17 0003 0006 000e 0001 02 00ff',
      { address: 3, quantity: 6, write_address: 14, write_quantity: 1, values: '255' },
    ],
    [
      '0001 0000 0011 04 14 0e 06 0004 0001 0002 06 0003 0009 0002',
      { quantity: 4, values: 'file 4 record 1 length 2, file 3 record 9 length 2' },
    ],
    ['0001 0000 000f 04 15 0d 06 0004 0007 0003 06af04be100d', { quantity: 3, values: 'file 4 record 7 length 3' }],
    ['0001 0000 0004 04 18 04de', { address: 1246 }],
    ['0001 0000 0005 04 2b 0e 01 00', { sub_function: 'read-device-identification' }],
    ['0001 0000 0004 04 5a 0011', {}],
    ['0001 0000 0004 04 03 006b', { address: 107 }],
    ['0001 0000 0002 04 10', {}],
    ['0001 0000 0003 04 2b 0f', { sub_function: 'mei-type-15' }],
  ]
  for (const [bytes, fields] of rows) {
    const adu = hex(bytes)
    t.strictSame(onPduAlone(adu, describeRequest), {
      length: adu.length,
      transaction_id: 1,
      unit_id: 4,
      function_code: adu[7],
      function: functionName(adu[7]),
      ...fields,
    })
  }
})

t.test('frames cut short and garbage have the fields that are there', async (t) => {
  const adu = hex('1234 0000 000d 04 17 0003 0006 000e 0001 02 00ff')
  const whole = onPduAlone(adu, describeRequest)
  for (let length = 0; length < adu.length; length++) {
    const fields = onPduAlone(adu.subarray(0, length), describeRequest)
    for (const [name, value] of Object.entries(fields)) {
      t.equal(value, name === 'length' ? length : whole[name as keyof FrameFields], `${length} bytes: ${name}`)
    }
  }
  t.strictSame(onPduAlone(hex('47'), describeRequest), { length: 1 })
  t.strictSame(onPduAlone(hex('0001 0000 0001 07'), describeResponse), { length: 7, transaction_id: 1, unit_id: 7 })
})

t.test('an exception response gives the function it answers and its code', async (t) => {
  t.strictSame(onPduAlone(hex('0001 0000 0003 04 83 02'), describeResponse), {
    length: 9,
    transaction_id: 1,
    unit_id: 4,
    function_code: 3,
    function: 'read-holding-registers',
    exception_code: 2,
  })
})
