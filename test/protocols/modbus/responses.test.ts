/** Every public function code's response by its bytes (V1.1b3 §6, §7), and what pairs it with its request. */
import t from 'tap'
import { describeFault, FAULT, faultText } from '../../../src/protocols/modbus/faults.ts'
import { checkResponse, matchResponse, noteRequest, OWED_WORDS } from '../../../src/protocols/modbus/response.ts'
import { hex, onPduAlone } from '../../support/bytes.ts'

type FaultName = keyof typeof FAULT
type Row = [bytes: string, meaning: string, fault?: FaultName]

const zeros = (count: number) => '00'.repeat(count)
/** Rows that hold for a response of `count` data bytes behind a byte count, whatever they are. */
const counted = (code: string, most: number): Row[] => [
  [`${code} ${most.toString(16)} ${zeros(most)}`, `the most, ${most} bytes`],
  [`${code} ff ${zeros(255)}`, 'byte count 255', 'RESPONSE_BYTE_COUNT'],
  [`${code} 00`, 'byte count 0 and no data', 'RESPONSE_LENGTH'],
  [`${code} 00 00`, 'byte count 0', 'RESPONSE_BYTE_COUNT'],
  [`${code} 02 00`, 'a byte short', 'RESPONSE_LENGTH'],
  [`${code} 02 0000 00`, 'a byte more', 'TRAILING'],
  [`${code} 02 0000 ${zeros(20)}`, 'twenty bytes more', 'TRAILING'],
  [code, 'nothing behind the function code', 'RESPONSE_LENGTH'],
]
const registers = (code: string): Row[] => [
  ...counted(code, 250),
  [`${code} 01 00`, 'odd byte count 1', 'RESPONSE_BYTE_COUNT'],
  [`${code} 03 000000`, 'odd byte count 3', 'RESPONSE_BYTE_COUNT'],
  [`${code} fc ${zeros(252)}`, 'byte count 252: 126 registers', 'RESPONSE_BYTE_COUNT'],
]
const bits = (code: string): Row[] => [
  ...counted(code, 250),
  [`${code} 01 00`, 'one byte'],
  [`${code} fb ${zeros(251)}`, 'byte count 251: 2008 bits', 'RESPONSE_BYTE_COUNT'],
]

const ROWS: Record<string, Row[]> = {
  'FC 1 read coils (§6.1)': [['01 03 cd6b05', 'the example of §6.1'], ...bits('01')],
  'FC 2 read discrete inputs (§6.2)': [['02 03 acdb35', 'the example of §6.2'], ...bits('02')],
  'FC 3 read holding registers (§6.3)': [['03 06 022b00000064', 'the example of §6.3'], ...registers('03')],
  'FC 4 read input registers (§6.4)': [['04 02 000a', 'the example of §6.4'], ...registers('04')],
  'FC 5 write single coil (§6.5)': [
    ['05 00ac ff00', 'the example of §6.5'],
    ['05 00ac 0000', 'off'],
    ['05 00ac 0100', 'neither on nor off', 'COIL_VALUE'],
    ['05 00ac ff', 'a byte short', 'RESPONSE_LENGTH'],
    ['05 00ac ff00 00', 'a byte more', 'TRAILING'],
  ],
  'FC 6 write single register (§6.6)': [
    ['06 0001 0003', 'the example of §6.6'],
    ['06 0001 00', 'a byte short', 'RESPONSE_LENGTH'],
    ['06 0001 0003 0000', 'two bytes more', 'TRAILING'],
  ],
  'FC 7 read exception status (§6.7)': [
    ['07 6d', 'the example of §6.7'],
    ['07', 'no status', 'RESPONSE_LENGTH'],
    ['07 6d 00', 'a byte more', 'TRAILING'],
  ],
  'FC 8 diagnostics (§6.8)': [
    ['08 0000 a537', 'the example of §6.8'],
    [`08 0000 ${zeros(250)}`, '00 echoes as much as it is given'],
    ['08 0000 a5', '00 with half a word', 'RESPONSE_LENGTH'],
    ['08 0000', '00 with no data', 'RESPONSE_LENGTH'],
    ['08 000b 0012', '11: a count'],
    ['08 000b 0012 00', '11: a byte more', 'TRAILING'],
    ['08 000b 00', '11: a byte short', 'RESPONSE_LENGTH'],
    ['08 0013 0000', '19 is reserved', 'SUB_FUNCTION'],
    ['08 0015 0000', '21 is reserved', 'SUB_FUNCTION'],
    ['08 0007 0000', '07 is reserved', 'SUB_FUNCTION'],
  ],
  'FC 11 get comm event counter (§6.9)': [
    ['0b ffff 0108', 'the example of §6.9: a program is in progress'],
    ['0b 0000 0108', 'ready'],
    ['0b 0001 0108', 'a status word that is neither', 'STATUS_WORD'],
    ['0b ff00 0108', 'half a status word', 'STATUS_WORD'],
    ['0b ffff 01', 'a byte short', 'RESPONSE_LENGTH'],
    ['0b ffff 0108 00', 'a byte more', 'TRAILING'],
  ],
  'FC 12 get comm event log (§6.10)': [
    ['0c 08 0000 0108 0121 20 00', 'the example of §6.10: two events'],
    ['0c 06 ffff 0000 0000', 'no events'],
    [`0c 46 0000 0000 0000 ${zeros(64)}`, 'the most, 64 events'],
    [`0c 47 0000 0000 0000 ${zeros(65)}`, '65 events', 'RESPONSE_BYTE_COUNT'],
    ['0c 05 0000 0000 0000', 'byte count 5', 'RESPONSE_BYTE_COUNT'],
    ['0c 06 0000 0000 00', 'a byte short', 'RESPONSE_LENGTH'],
    ['0c 07 0000 0000 0000', 'an event short', 'RESPONSE_LENGTH'],
    ['0c 06 0000 0000 0000 00', 'a byte more', 'TRAILING'],
    ['0c 06 0100 0000 0000', 'a status word that is neither', 'STATUS_WORD'],
  ],
  'FC 15 write multiple coils (§6.11)': [
    ['0f 0013 000a', 'the example of §6.11'],
    ['0f 0000 07b0', 'the most, 1968: more than the 125 of registers'],
    ['0f 0000 07b1', 'quantity 1969', 'QUANTITY'],
    ['0f 0000 0000', 'quantity 0', 'QUANTITY'],
    ['0f fff8 0009', 'past 65535', 'ADDRESS_OVERFLOW'],
    ['0f fff8 0008', 'ends at 65535'],
    ['0f 0013 00', 'a byte short', 'RESPONSE_LENGTH'],
    ['0f 0013 000a 02', 'a byte more', 'TRAILING'],
  ],
  'FC 16 write multiple registers (§6.12)': [
    ['10 0001 0002', 'the example of §6.12'],
    ['10 0000 007b', 'the most, 123'],
    ['10 0000 007c', 'quantity 124', 'QUANTITY'],
    ['10 0000 0000', 'quantity 0', 'QUANTITY'],
    ['10 ffff 0002', 'past 65535', 'ADDRESS_OVERFLOW'],
    ['10 0001', 'no quantity', 'RESPONSE_LENGTH'],
    ['10 0001 0002 04 00000000', 'the request sent back', 'TRAILING'],
  ],
  'FC 17 report server ID (§6.13)': [
    ['11 02 11 ff', 'an identifier, running'],
    ['11 01 ff', 'the run indicator alone: the identifier is the device’s own'],
    ['11 00', 'nothing', 'RESPONSE_BYTE_COUNT'],
    ['11', 'no byte count', 'RESPONSE_LENGTH'],
    ['11 02 11', 'a byte short', 'RESPONSE_LENGTH'],
    ['11 02 11 ff 00', 'a byte more', 'TRAILING'],
  ],
  'FC 20 read file record (§6.14)': [
    ['14 0c 05 06 0dfe0020 05 06 33cd0040', 'the example of §6.14'],
    ['14 04 03 06 0000', 'one register'],
    [`14 fa f9 06 ${zeros(248)}`, '124 registers, the most of one record'],
    ['14 00', 'no records', 'RESPONSE_BYTE_COUNT'],
    ['14 03 02 06 00', 'half a register', 'RESPONSE_BYTE_COUNT'],
    ['14 05 04 06 000000', 'a register and a half', 'RECORD_LENGTH'],
    ['14 05 03 06 0000 00', 'a byte behind the last record', 'RECORD_LENGTH'],
    ['14 04 05 06 0000', 'a record longer than the data', 'RECORD_LENGTH'],
    ['14 04 01 06 0106', 'a record of no registers', 'RECORD_LENGTH'],
    ['14 04 03 05 0000', 'reference type 5', 'REFERENCE_TYPE'],
    ['14 0c 05 06 0dfe0020 05 06 33cd00', 'a byte short', 'RESPONSE_LENGTH'],
    ['14 04 03 06 0000 00', 'a byte more', 'TRAILING'],
    [`14 fc 03060000 f7 06 ${zeros(246)}`, 'byte count 252', 'RESPONSE_BYTE_COUNT'],
    ['14', 'no byte count', 'RESPONSE_LENGTH'],
  ],
  'FC 21 write file record (§6.15)': [
    ['15 0d 06 0004 0007 0003 06af04be100d', 'the example of §6.15'],
    [`15 fb 06 0001 0000 007a ${zeros(244)}`, 'the most'],
    ['15 08 06 0004 0007 0000 00', 'byte count 8', 'RESPONSE_BYTE_COUNT'],
    ['15 09 06 0004 0007 0000 0000', 'no registers', 'RECORD_LENGTH'],
    ['15 09 06 0004 0007 0002 0000', 'two registers said, one there', 'RECORD_LENGTH'],
    ['15 0a 06 0004 0007 0001 0000 00', 'a byte behind the last record', 'RECORD_LENGTH'],
    ['15 09 05 0004 0007 0001 0000', 'reference type 5', 'REFERENCE_TYPE'],
    ['15 09 06 0000 0007 0001 0000', 'file 0', 'FILE_NUMBER'],
    ['15 09 06 0001 2710 0001 0000', 'record 10000', 'RECORD_NUMBER'],
    ['15 09 06 0001 0000 0001 00', 'a byte short', 'RESPONSE_LENGTH'],
    ['15 09 06 0001 0000 0001 0000 00', 'a byte more', 'TRAILING'],
    ['15', 'no byte count', 'RESPONSE_LENGTH'],
  ],
  'FC 22 mask write register (§6.16)': [
    ['16 0004 00f2 0025', 'the example of §6.16'],
    ['16 0004 00f2 00', 'a byte short', 'RESPONSE_LENGTH'],
    ['16 0004 00f2 0025 00', 'a byte more', 'TRAILING'],
  ],
  'FC 23 read/write multiple registers (§6.17)': [
    ['17 0c 00fe0acd00010003000d00ff', 'the example of §6.17'],
    ...registers('17'),
  ],
  'FC 24 read FIFO queue (§6.18)': [
    ['18 0006 0002 01b8 1284', 'the example of §6.18'],
    ['18 0002 0000', 'an empty queue'],
    [`18 0040 001f ${zeros(62)}`, 'the most, 31 registers'],
    [`18 0042 0020 ${zeros(64)}`, '32 registers', 'FIFO_COUNT'],
    ['18 0006 0003 01b8 1284', 'three said, two counted', 'FIFO_COUNT'],
    ['18 0006 0001 01b8 1284', 'one said, two counted', 'FIFO_COUNT'],
    ['18 0006 0002 01b8 12', 'a byte short', 'RESPONSE_LENGTH'],
    ['18 0006 0002 01b8 1284 00', 'a byte more', 'TRAILING'],
    ['18 0002', 'no FIFO count', 'RESPONSE_LENGTH'],
  ],
  'FC 43 encapsulated interface transport (§6.19-6.21)': [
    ['2b 0e 01 01 00 00 03 00 01 41 01 02 4242 02 00', 'three objects, the last one empty'],
    ['2b 0e 01 01 ff 02 01 00 01 41', 'more follows'],
    ['2b 0e 01 01 00 00 00', 'no objects'],
    ['2b 0e 01 01 4d 00 00', 'more follows is 0x4D', 'MORE_FOLLOWS'],
    ['2b 0e 00 01 00 00 00', 'read code 0', 'READ_DEVICE_ID_CODE'],
    ['2b 0e 05 01 00 00 00', 'read code 5', 'READ_DEVICE_ID_CODE'],
    ['2b 0e 01 01 00 00 02 00 01 41', 'two objects said, one there', 'OBJECT_LIST'],
    ['2b 0e 01 01 00 00 01 00 02 41', 'an object cut short', 'OBJECT_LIST'],
    ['2b 0e 01 01 00 00 01 00', 'an object with no length', 'OBJECT_LIST'],
    ['2b 0e 01 01 00 00 01 00 01 41 42', 'a byte more', 'TRAILING'],
    ['2b 0e 01 01 00 00', 'no number of objects', 'RESPONSE_LENGTH'],
    ['2b 0d 00', 'MEI 13: data is CANopen’s'],
    ['2b 0c 00', 'MEI 12', 'MEI_TYPE'],
    ['2b', 'no MEI type', 'RESPONSE_LENGTH'],
  ],
  'exception responses (§7)': [
    ...[1, 2, 3, 4, 5, 6, 8, 10, 11].map((code): Row => [`83 ${code.toString(16).padStart(2, '0')}`, `code ${code}`]),
    ...[7, 9, 12, 31, 32, 33, 40, 64, 128, 255].map(
      (code): Row => [`83 ${code.toString(16).padStart(2, '0')}`, `code ${code} is none of §7`, 'EXCEPTION_CODE'],
    ),
    ['83 00', 'code 0', 'EXCEPTION_ZERO'],
    ['83', 'no code', 'RESPONSE_LENGTH'],
    ['83 02 00', 'a byte more', 'TRAILING'],
    ['83 40 00', 'a code of no table and a byte more: two faults, so neither is excused', 'RESPONSE_LENGTH'],
    ['da 01', 'to function code 90'],
    ['ab 01', 'to function code 43'],
    ['ff 01', 'to function code 127'],
  ],
  'function codes that V1.1b3 §6 does not describe': [
    ['5a 00fe', '90'],
    ['64', '100'],
    ['41 0102030405', 'user-defined, 65'],
  ],
  'no function code': [['', 'an empty PDU', 'RESPONSE_LENGTH']],
}

for (const [group, rows] of Object.entries(ROWS)) {
  t.test(group, async (t) => {
    for (const [bytes, meaning, fault = 'NONE'] of rows) {
      const found = onPduAlone(hex(bytes), checkResponse)
      t.equal(faultText(found), faultText(FAULT[fault]), `${bytes.slice(0, 60)}: ${meaning}`)
    }
  })
}

t.test('faults of responses are described', async (t) => {
  const rows: [bytes: string, text: string][] = [
    ['83 40', 'read-holding-registers: exception code 64, expected 1…6, 8, 10 or 11 (V1.1b3 §7)'],
    ['83 02 00', 'read-holding-registers: exception response of 3 bytes, expected 2 (V1.1b3 §7)'],
    ['03 03 000000', 'read-holding-registers: byte count 3, expected an even number 2…250 (V1.1b3 §6.3)'],
    ['03 04 0000', 'read-holding-registers: response PDU of 4 bytes, expected 2 + byte count (V1.1b3 §6.3)'],
    ['0b 0001 0108', 'get-comm-event-counter: status word 0x0001, expected 0x0000 or 0xFFFF (V1.1b3 §6.9)'],
    ['2b 0e 01 01 4d 00 00', 'encapsulated-interface: more follows 0x4D, expected 0x00 or 0xFF (V1.1b3 §6.19)'],
    ['05 00ac ff00 00', 'write-single-coil: bytes after the end of the response PDU (V1.1b3 §6.5)'],
  ]
  for (const [bytes, text] of rows) {
    t.equal(
      onPduAlone(hex(bytes), (buf, pdu, end) => describeFault(checkResponse(buf, pdu, end), buf, pdu, end)),
      text,
    )
  }
})

/** Notes a request between guard words, and matches a response with it. */
function match(request: string, response: string): number {
  const words = new Int32Array(OWED_WORDS + 4).fill(0x5a5a5a5a)
  onPduAlone(hex(request), (buf, pdu, end) => {
    noteRequest(buf, pdu, end, words, 2)
    return [...words]
  })
  const guards = [words[0], words[1], words[OWED_WORDS + 2], words[OWED_WORDS + 3]]
  if (guards.some((word) => word !== 0x5a5a5a5a)) throw new Error('noteRequest wrote more than its words')
  return onPduAlone(hex(response), (buf, pdu, end) => matchResponse(buf, pdu, end, words, 2))
}

t.test('a response answers its request and no other', async (t) => {
  const rows: [request: string, response: string, meaning: string, fault?: FaultName][] = [
    ['01 0013 0013', '01 03 cd6b05', '19 coils are three bytes'],
    ['01 0013 0010', '01 02 cd6b', '16 coils are two'],
    ['01 0013 0010', '01 03 cd6b05', '16 coils are not three', 'MISMATCH_COUNT'],
    ['01 0000 07d0', `01 fa ${zeros(250)}`, '2000 coils are 250'],
    ['02 0000 0008', '02 01 00', 'eight inputs are one byte'],
    ['02 0000 0009', '02 01 00', 'nine are not', 'MISMATCH_COUNT'],
    ['03 006b 0003', '03 06 022b00000064', 'three registers are six bytes'],
    ['03 006b 0003', '03 02 022b', 'a register read earlier: off by one', 'MISMATCH_COUNT'],
    ['03 0000 007d', `03 fa ${zeros(250)}`, '125 registers are 250 bytes'],
    ['04 0000 0001', '04 04 00000000', 'more than asked for', 'MISMATCH_COUNT'],
    ['04 0000 0001', '04 02 0000', 'as asked for'],
    ['04 0000 0001', '03 02 0000', 'another function', 'MISMATCH_FUNCTION'],
    ['05 00ac ff00', '05 00ac ff00', 'echo'],
    ['05 00ac ff00', '05 00ac 0000', 'off for on', 'MISMATCH_ECHO'],
    ['05 00ac ff00', '05 00ad ff00', 'another coil', 'MISMATCH_ECHO'],
    ['06 ffff ffff', '06 ffff ffff', 'echo of all ones'],
    ['06 0001 0003', '06 0001 0004', 'another value', 'MISMATCH_ECHO'],
    ['06 8001 0003', '06 0001 0003', 'another register', 'MISMATCH_ECHO'],
    ['0f 0013 000a 02 cd01', '0f 0013 000a', 'address and quantity'],
    ['0f 0013 000a 02 cd01', '0f 0013 000b', 'another quantity', 'MISMATCH_ECHO'],
    ['10 0001 0002 04 000a0102', '10 0001 0002', 'address and quantity'],
    ['10 0001 0002 04 000a0102', '10 0002 0002', 'another address', 'MISMATCH_ECHO'],
    ['07', '07 6d', 'any status'],
    ['0b', '0b ffff 0108', 'any counter'],
    ['0c', '0c 06 0000 0000 0000', 'any log'],
    ['11', '11 02 11ff', 'any identifier'],
    ['08 0000 a537', '08 0000 a537', 'echo'],
    ['08 0000 a537', '08 0000 a538', 'other data', 'MISMATCH_ECHO'],
    ['08 0000 a537', '08 0000 a537 a537', 'more data', 'MISMATCH_ECHO'],
    ['08 0000 a537 0000', '08 0000 a537', 'less data', 'MISMATCH_ECHO'],
    ['08 0001 ff00', '08 0001 ff00', 'echo'],
    ['08 0001 ff00', '08 0001 0000', 'other data', 'MISMATCH_ECHO'],
    ['08 0003 3a00', '08 0003 3b00', 'another delimiter', 'MISMATCH_ECHO'],
    ['08 000a 0000', '08 000a 0000', 'echo'],
    ['08 000a 0000', '08 000a 0001', 'cleared, and not 0', 'MISMATCH_ECHO'],
    ['08 0014 0000', '08 0014 0001', 'cleared, and not 0', 'MISMATCH_ECHO'],
    ['08 000b 0000', '08 000b 1234', 'a count'],
    ['08 000b 0000', '08 000c 1234', 'another count', 'MISMATCH_ECHO'],
    ['08 0002 0000', '08 0002 ffff', 'a register'],
    ['14 0e 06 0004 0001 0002 06 0003 0009 0002', '14 0c 05 06 0dfe0020 05 06 33cd0040', 'as asked for'],
    ['14 0e 06 0004 0001 0002 06 0003 0009 0002', '14 06 05 06 0dfe0020', 'one record of two', 'MISMATCH_COUNT'],
    ['14 0e 06 0004 0001 0001 06 0003 0009 0002', '14 0a 05 06 00000000 03 06 0000', 'other order', 'MISMATCH_COUNT'],
    ['14 07 06 0004 0001 0002', '14 04 03 06 0000', 'one register of two', 'MISMATCH_COUNT'],
    ['15 0d 06 0004 0007 0003 06af04be100d', '15 0d 06 0004 0007 0003 06af04be100d', 'echo'],
    ['15 0d 06 0004 0007 0003 06af04be100d', '15 0d 06 0004 0007 0003 06af04be100e', 'other data', 'MISMATCH_ECHO'],
    ['15 0d 06 0004 0007 0003 06af04be100d', '15 09 06 0004 0007 0001 06af', 'less of it', 'MISMATCH_ECHO'],
    ['15 09 06 0004 0007 0001 06af', '15 0d 06 0004 0007 0003 06af04be100d', 'more of it', 'MISMATCH_ECHO'],
    ['16 0004 00f2 0025', '16 0004 00f2 0025', 'echo'],
    ['16 0004 00f2 0025', '16 0004 00f2 0026', 'another OR mask', 'MISMATCH_ECHO'],
    ['16 0004 00f2 0025', '16 0004 00f3 0025', 'another AND mask', 'MISMATCH_ECHO'],
    ['16 0004 00f2 0025', '16 0005 00f2 0025', 'another register', 'MISMATCH_ECHO'],
    ['17 0003 0006 000e 0003 06 00ff00ff00ff', '17 0c 00fe0acd00010003000d00ff', 'six registers are read'],
    ['17 0003 0006 000e 0003 06 00ff00ff00ff', '17 06 00fe0acd0001', 'as many as are written', 'MISMATCH_COUNT'],
    ['18 04de', '18 0006 0002 01b8 1284', 'any queue'],
    ['2b 0e 01 00', '2b 0e 01 01 00 00 01 00 01 41', 'read code as asked'],
    ['2b 0e 01 00', '2b 0e 02 01 00 00 01 00 01 41', 'another read code', 'MISMATCH_ECHO'],
    ['2b 0e 04 02', '2b 0e 04 81 00 00 01 02 01 41', 'the object asked for'],
    ['2b 0e 04 02', '2b 0e 04 81 00 00 01 03 01 41', 'another object', 'MISMATCH_ECHO'],
    ['2b 0e 04 02', '2b 0e 04 81 00 00 02 02 01 41 03 01 42', 'two objects', 'MISMATCH_COUNT'],
    ['2b 0e 04 00', '2b 0e 04 81 00 00 00', 'no object', 'MISMATCH_COUNT'],
    ['2b 0d 01', '2b 0d 02 03', 'MEI 13: any data'],
    ['2b 0d 01', '2b 0e 01 01 00 00 00', 'another MEI type', 'MISMATCH_ECHO'],
    ['03 006b 0003', '83 02', 'an exception answers any request of its function'],
    ['2b 0e 01 00', 'ab 01', 'of FC 43 as well'],
    ['03 006b 0003', '84 02', 'of its function alone', 'MISMATCH_FUNCTION'],
    ['5a 0011', '5a 00fe 1234', 'a function that V1.1b3 does not describe'],
    ['5a 0011', '64 00fe', '90 is not 100', 'MISMATCH_FUNCTION'],
    ['5a 0011', 'da 01', 'its exception'],
  ]
  for (const [request, response, meaning, fault = 'NONE'] of rows) {
    t.equal(faultText(match(request, response)), faultText(FAULT[fault]), `${request} → ${response}: ${meaning}`)
  }
})

t.test('bytes after the end of a response do not hide that it is the answer', async (t) => {
  const rows: [request: string, response: string][] = [
    ['01 0013 0013', '01 03 cd6b05 00'],
    ['03 006b 0003', '03 06 022b00000064 0000'],
    ['05 00ac ff00', '05 00ac ff00 00'],
    ['06 0001 0003', '06 0001 0003 ff'],
    ['08 0001 ff00', '08 0001 ff00 00'],
    ['08 000b 0000', '08 000b 1234 00'],
    ['10 0001 0002 04 000a0102', '10 0001 0002 04 000a0102'],
    ['14 07 06 0004 0001 0001', '14 04 03 06 0000 00'],
    ['15 09 06 0001 0000 0001 0000', '15 09 06 0001 0000 0001 0000 00'],
    ['16 0004 00f2 0025', '16 0004 00f2 0025 00'],
    ['17 0003 0001 000e 0001 02 0000', '17 02 0000 00'],
    ['18 04de', '18 0002 0000 00'],
    ['2b 0e 01 00', '2b 0e 01 01 00 00 01 00 01 41 42'],
    ['03 006b 0003', '83 02 00'],
  ]
  for (const [request, response] of rows) {
    t.equal(faultText(onPduAlone(hex(response), checkResponse)), faultText(FAULT.TRAILING), response)
    t.equal(match(request, response), 0, `${request} → ${response}`)
  }
})

t.test('a request too short to say what it is owed is owed its function alone (monitor mode)', async (t) => {
  const whole = ['01 0000 0008', '03 0000 0001', '05 0000 ff00', '08 0000 1234', '10 0000 0001 02 0000', '17 0000 0001']
  for (const bytes of [...whole, '14 07', '16 0004 00f2 0025', '2b 0e 01 00']) {
    const code = bytes.slice(0, 2)
    t.equal(match(code, `${code} 02 0000`), 0, `${code} cut behind its function code`)
    t.equal(match(code, '7f 00'), FAULT.MISMATCH_FUNCTION)
  }
})
