/** Every public function code's request, good and bad, by its bytes (V1.1b3 §6). */
import t from 'tap'
import {
  checkRequest,
  describeFault,
  expectsResponse,
  FAULT,
  faultException,
  faultText,
} from '../../../src/protocols/modbus/request.ts'
import { hex, onPduAlone } from '../../support/bytes.ts'

type FaultName = keyof typeof FAULT
type Row = [bytes: string, meaning: string, fault?: FaultName]

const zeros = (count: number) => '00'.repeat(count)
/** FC 20 sub-requests: file 1, record 0, so many registers each. */
const reads = (...lengths: number[]) => lengths.map((n) => `06 0001 0000 ${n.toString(16).padStart(4, '0')}`).join('')

const ROWS: Record<string, Row[]> = {
  'FC 1 read coils (§6.1)': [
    ['01 0013 0013', 'the example of §6.1: 20-38'],
    ['01 0000 0001', 'least quantity'],
    ['01 0000 07d0', 'greatest quantity, 2000'],
    ['01 ffff 0001', 'the last coil'],
    ['01 f830 07d0', 'a range that ends at 65535'],
    ['01 0000 0000', 'quantity 0', 'QUANTITY'],
    ['01 0000 07d1', 'quantity 2001', 'QUANTITY'],
    ['01 0000 ffff', 'quantity 65535', 'QUANTITY'],
    ['01 ffff 0002', 'one past 65535', 'ADDRESS_OVERFLOW'],
    ['01 f831 07d0', 'the greatest range, one past 65535', 'ADDRESS_OVERFLOW'],
    ['01 ffff 07d1', 'both: the malformation counts', 'QUANTITY'],
    ['01', 'nothing behind the function code', 'LENGTH'],
    ['01 0000 00', 'a byte short', 'LENGTH'],
    ['01 0000 0001 00', 'a byte more', 'LENGTH'],
  ],
  'FC 2 read discrete inputs (§6.2)': [
    ['02 00c4 0016', 'the example of §6.2: 197-218'],
    ['02 0000 07d0', 'greatest quantity'],
    ['02 fff8 0008', 'a range that ends at 65535'],
    ['02 0000 0000', 'quantity 0', 'QUANTITY'],
    ['02 0000 07d1', 'quantity 2001', 'QUANTITY'],
    ['02 fff8 0009', 'one past 65535', 'ADDRESS_OVERFLOW'],
    ['02 0000 0001 0000', 'two bytes more', 'LENGTH'],
    ['02 0000', 'no quantity', 'LENGTH'],
  ],
  'FC 3 read holding registers (§6.3)': [
    ['03 006b 0003', 'the example of §6.3: 108-110'],
    ['03 0000 0001', 'least quantity'],
    ['03 0000 007d', 'greatest quantity, 125'],
    ['03 ffdc 0024', 'legal: 65500 + 36 ends at 65535'],
    ['03 ffff 0001', 'the last register'],
    ['03 0000 0000', 'quantity 0', 'QUANTITY'],
    ['03 0000 007e', 'quantity 126', 'QUANTITY'],
    ['03 0000 0100', 'quantity 256: its low byte is 0', 'QUANTITY'],
    ['03 0000 8001', 'quantity with the high bit', 'QUANTITY'],
    ['03 ffdc 0025', '65500 + 37 ends at 65536', 'ADDRESS_OVERFLOW'],
    ['03 ffff 0002', 'wraps to register 0', 'ADDRESS_OVERFLOW'],
    ['03 0000 00', 'a byte short', 'LENGTH'],
    ['03 0000 0001 00', 'a byte more', 'LENGTH'],
    ['03', 'nothing behind the function code', 'LENGTH'],
  ],
  'FC 4 read input registers (§6.4)': [
    ['04 0008 0001', 'the example of §6.4: register 9'],
    ['04 0000 007d', 'greatest quantity'],
    ['04 0000 0000', 'quantity 0', 'QUANTITY'],
    ['04 0000 007e', 'quantity 126', 'QUANTITY'],
    ['04 ff84 007d', 'one past 65535', 'ADDRESS_OVERFLOW'],
    ['04 ff83 007d', 'ends at 65535'],
    ['04 0000 0001 ff', 'a byte more', 'LENGTH'],
  ],
  'FC 5 write single coil (§6.5)': [
    ['05 00ac ff00', 'the example of §6.5: coil 173 on'],
    ['05 ffff 0000', 'the last coil off'],
    ['05 00ac 0001', '1 is not on', 'COIL_VALUE'],
    ['05 00ac ff01', 'low byte set', 'COIL_VALUE'],
    ['05 00ac 00ff', 'bytes the wrong way about', 'COIL_VALUE'],
    ['05 00ac 0100', '0x0100', 'COIL_VALUE'],
    ['05 00ac ffff', '0xFFFF', 'COIL_VALUE'],
    ['05 00ac ff', 'a byte short', 'LENGTH'],
    ['05 00ac ff00 00', 'a byte more', 'LENGTH'],
  ],
  'FC 6 write single register (§6.6)': [
    ['06 0001 0003', 'the example of §6.6'],
    ['06 ffff ffff', 'the last register, greatest value'],
    ['06 0001 00', 'a byte short', 'LENGTH'],
    ['06 0001 0003 00', 'a byte more', 'LENGTH'],
  ],
  'FC 7 read exception status (§6.7)': [
    ['07', 'the function code alone'],
    ['07 00', 'a byte more', 'LENGTH'],
  ],
  'FC 8 diagnostics (§6.8)': [
    ['08 0000 a537', '00 Return Query Data: the example of §6.8'],
    ['08 0000 a537 1234 5678', '00 with three words: N × 2 bytes'],
    [`08 0000 ${zeros(250)}`, '00 with the most that a PDU holds'],
    ['08 0000', '00 with no data', 'LENGTH'],
    ['08 0000 a5', '00 with half a word', 'LENGTH'],
    ['08 0000 a53700', '00 with a word and a half', 'LENGTH'],
    [`08 0000 ${zeros(252)}`, '00 longer than a PDU', 'LENGTH'],
    ['08 0001 0000', '01 Restart Communications'],
    ['08 0001 ff00', '01 and clear the event log'],
    ['08 0001 0001', '01 with another word', 'DIAGNOSTIC_DATA'],
    ['08 0001 ffff', '01 with 0xFFFF', 'DIAGNOSTIC_DATA'],
    ['08 0002 0000', '02 Return Diagnostic Register'],
    ['08 0002 0001', '02 with data', 'DIAGNOSTIC_DATA'],
    ['08 0003 3a00', '03 Change ASCII Input Delimiter to a colon'],
    ['08 0003 0000', '03 to NUL'],
    ['08 0003 3a01', '03 with the low byte set', 'DIAGNOSTIC_DATA'],
    ['08 0004 0000', '04 Force Listen Only Mode'],
    ['08 0004 0001', '04 with data', 'DIAGNOSTIC_DATA'],
    ['08 0005 0000', '05 is reserved', 'SUB_FUNCTION'],
    ['08 0009 0000', '09 is reserved', 'SUB_FUNCTION'],
    ...[10, 11, 12, 13, 14, 15, 16, 17, 18, 20].map(
      (sub): Row => [`08 00${sub.toString(16).padStart(2, '0')} 0000`, `${sub} with 0x0000`],
    ),
    ...[10, 11, 12, 13, 14, 15, 16, 17, 18, 20].map(
      (sub): Row => [`08 00${sub.toString(16).padStart(2, '0')} 0100`, `${sub} with data`, 'DIAGNOSTIC_DATA'],
    ),
    ['08 000a 0000 0000', '10 with two words', 'LENGTH'],
    ['08 0013 0000', '19 is reserved', 'SUB_FUNCTION'],
    ['08 0015 0000', '21 is reserved', 'SUB_FUNCTION'],
    ['08 0100 0000', '256 is reserved: its low byte is 00', 'SUB_FUNCTION'],
    ['08 ffff 0000', '65535 is reserved', 'SUB_FUNCTION'],
    ['08 00', 'half a sub-function', 'LENGTH'],
    ['08', 'no sub-function', 'LENGTH'],
  ],
  'FC 11 get comm event counter (§6.9)': [
    ['0b', 'the function code alone'],
    ['0b 0000', 'two bytes more', 'LENGTH'],
  ],
  'FC 12 get comm event log (§6.10)': [
    ['0c', 'the function code alone'],
    ['0c 00', 'a byte more', 'LENGTH'],
  ],
  'FC 15 write multiple coils (§6.11)': [
    ['0f 0013 000a 02 cd01', 'the example of §6.11: ten coils from 20'],
    ['0f 0000 0001 01 01', 'one coil'],
    ['0f 0000 0001 01 ff', 'pad bits set: the clause asks nothing of them in a request'],
    ['0f 0000 0008 01 ff', 'eight coils, one byte'],
    ['0f 0000 0009 02 ff01', 'nine coils, two bytes'],
    [`0f 0000 07b0 f6 ${zeros(246)}`, 'greatest quantity, 1968'],
    ['0f fff8 0008 01 00', 'a range that ends at 65535'],
    ['0f 0000 0000 00', 'quantity 0', 'QUANTITY'],
    [`0f 0000 07b1 f7 ${zeros(247)}`, 'quantity 1969', 'QUANTITY'],
    [`0f 0000 07d0 fa ${zeros(250)}`, "quantity 2000: the read limit is not the write's", 'QUANTITY'],
    ['0f 0000 0009 01 ff', 'nine coils in one byte', 'BYTE_COUNT'],
    ['0f 0000 0008 02 ff00', 'eight coils in two bytes', 'BYTE_COUNT'],
    ['0f 0000 0008 00', 'byte count 0', 'BYTE_COUNT'],
    ['0f 0000 0008 01', 'no data', 'LENGTH'],
    ['0f 0000 0008 01 ffff', 'a byte more than counted', 'LENGTH'],
    ['0f 0000 0008', 'no byte count', 'LENGTH'],
    ['0f fff9 0008 01 00', 'one past 65535', 'ADDRESS_OVERFLOW'],
  ],
  'FC 16 write multiple registers (§6.12)': [
    ['10 0001 0002 04 000a0102', 'the example of §6.12: two registers from 2'],
    [`10 0000 007b f6 ${zeros(246)}`, 'greatest quantity, 123'],
    ['10 ffff 0001 02 0000', 'the last register'],
    ['10 0000 0000 00', 'quantity 0', 'QUANTITY'],
    [`10 0000 007c f8 ${zeros(248)}`, 'quantity 124', 'QUANTITY'],
    [`10 0000 007d fa ${zeros(250)}`, "quantity 125: the read limit is not the write's", 'QUANTITY'],
    ['10 0000 0102 04 00000000', 'quantity 258: twice it ends in 04', 'QUANTITY'],
    ['10 0001 0002 03 000a01', 'odd byte count', 'BYTE_COUNT'],
    ['10 0001 0001 04 000a0102', 'one register in four bytes', 'BYTE_COUNT'],
    ['10 0001 0002 04 000a01', 'a byte short', 'LENGTH'],
    ['10 0001 0002 04 000a0102 00', 'a byte more', 'LENGTH'],
    ['10 0001 0002', 'no byte count', 'LENGTH'],
    ['10 ffff 0002 04 00000000', 'wraps to register 0', 'ADDRESS_OVERFLOW'],
  ],
  'FC 17 report server ID (§6.13)': [
    ['11', 'the function code alone'],
    ['11 00', 'a byte more', 'LENGTH'],
  ],
  'FC 20 read file record (§6.14)': [
    ['14 0e 06 0004 0001 0002 06 0003 0009 0002', 'the example of §6.14: two sub-requests'],
    ['14 07 06 ffff 270f 0001', 'file 65535, record 9999'],
    [`14 07 ${reads(124)}`, '124 registers: 252 bytes of response'],
    [`14 0e ${reads(62, 61)}`, 'two records: 252 bytes of response'],
    [`14 f5 ${reads(...new Array<number>(35).fill(1))}`, '35 sub-requests of one register'],
    ['14 07 06 0001 26ac 0064', 'records 9900-9999'],
    ['14 00', 'byte count 0', 'BYTE_COUNT'],
    ['14 06 06 0004 0001 00', 'byte count 6', 'BYTE_COUNT'],
    ['14 08 06 0004 0001 0002 00', 'byte count no multiple of 7', 'BYTE_COUNT'],
    [`14 fc ${reads(...new Array<number>(36).fill(1))}`, 'byte count 252', 'BYTE_COUNT'],
    ['14 07 06 0004 0001 0002 06 0003 0009 0002', 'two sub-requests, one counted', 'LENGTH'],
    ['14 0e 06 0004 0001 0002', 'one sub-request, two counted', 'LENGTH'],
    ['14', 'no byte count', 'LENGTH'],
    ['14 07 05 0004 0001 0002', 'reference type 5', 'REFERENCE_TYPE'],
    ['14 0e 06 0004 0001 0002 00 0003 0009 0002', 'reference type 0 in the second', 'REFERENCE_TYPE'],
    ['14 07 06 0000 0001 0002', 'file 0', 'FILE_NUMBER'],
    ['14 07 06 0001 2710 0001', 'record 10000', 'RECORD_NUMBER'],
    ['14 07 06 0001 0000 0000', 'no registers', 'RECORD_LENGTH'],
    ['14 07 06 0001 270f 0002', 'past record 9999', 'ADDRESS_OVERFLOW'],
    ['14 0e 06 0001 270f 0002 05 0001 0000 0001', 'both: the malformation counts', 'REFERENCE_TYPE'],
    [`14 07 ${reads(125)}`, '125 registers: 254 bytes of response', 'RESPONSE_TOO_LONG'],
    [`14 0e ${reads(62, 62)}`, 'two records: 254 bytes of response', 'RESPONSE_TOO_LONG'],
    [`14 07 ${reads(65535)}`, '65535 registers', 'RESPONSE_TOO_LONG'],
  ],
  'FC 21 write file record (§6.15)': [
    ['15 0d 06 0004 0007 0003 06af04be100d', 'the example of §6.15'],
    ['15 09 06 0001 270f 0001 0000', 'record 9999'],
    [`15 fb 06 0001 0000 007a ${zeros(244)}`, '122 registers, the most of one record'],
    ['15 12 06 0001 0000 0001 0000 06 0002 0000 0001 0000', 'two sub-requests'],
    ['15 00', 'byte count 0', 'BYTE_COUNT'],
    ['15 08 06 0001 0000 0001 00', 'byte count 8', 'BYTE_COUNT'],
    [`15 fc 06 0001 0000 007a ${zeros(245)}`, 'byte count 252', 'BYTE_COUNT'],
    ['15 0d 06 0004 0007 0003 06af04be10', 'a byte short', 'LENGTH'],
    ['15 0d 06 0004 0007 0003 06af04be100d 00', 'a byte more', 'LENGTH'],
    ['15', 'no byte count', 'LENGTH'],
    ['15 0d 06 0004 0007 0002 06af04be100d', 'two registers said, three there', 'RECORD_LENGTH'],
    ['15 0d 06 0004 0007 0004 06af04be100d', 'four registers said, three there', 'RECORD_LENGTH'],
    ['15 0d 06 0004 0007 ffff 06af04be100d', '65535 registers said', 'RECORD_LENGTH'],
    ['15 09 06 0004 0007 0000 0000', 'no registers', 'RECORD_LENGTH'],
    ['15 09 07 0001 0000 0001 0000', 'reference type 7', 'REFERENCE_TYPE'],
    ['15 09 06 0000 0000 0001 0000', 'file 0', 'FILE_NUMBER'],
    ['15 09 06 0001 2710 0001 0000', 'record 10000', 'RECORD_NUMBER'],
    ['15 0b 06 0001 270f 0002 00000000', 'past record 9999', 'ADDRESS_OVERFLOW'],
  ],
  'FC 22 mask write register (§6.16)': [
    ['16 0004 00f2 0025', 'the example of §6.16'],
    ['16 ffff 0000 ffff', 'the last register'],
    ['16 0004 00f2 00', 'a byte short', 'LENGTH'],
    ['16 0004 00f2 0025 00', 'a byte more', 'LENGTH'],
  ],
  'FC 23 read/write multiple registers (§6.17)': [
    ['17 0003 0006 000e 0003 06 00ff00ff00ff', 'the example of §6.17'],
    [`17 0000 007d 0000 0079 f2 ${zeros(242)}`, 'greatest quantities: 125 read, 121 written'],
    ['17 ffff 0001 ffff 0001 02 0000', 'the last register, both ways'],
    ['17 0003 0000 000e 0003 06 00ff00ff00ff', 'reads 0', 'QUANTITY'],
    ['17 0003 007e 000e 0003 06 00ff00ff00ff', 'reads 126', 'QUANTITY'],
    ['17 0003 0006 000e 0000 00', 'writes 0', 'WRITE_QUANTITY'],
    [`17 0000 0001 0000 007a f4 ${zeros(244)}`, 'writes 122', 'WRITE_QUANTITY'],
    ['17 0003 0006 000e 0003 05 00ff00ff00', 'odd byte count', 'BYTE_COUNT'],
    ['17 0003 0006 000e 0002 06 00ff00ff00ff', 'two registers in six bytes', 'BYTE_COUNT'],
    ['17 0003 0006 000e 0003 06 00ff00ff00', 'a byte short', 'LENGTH'],
    ['17 0003 0006 000e 0003 06 00ff00ff00ff 00', 'a byte more', 'LENGTH'],
    ['17 0003 0006 000e 0003', 'no byte count', 'LENGTH'],
    ['17 ffff 0002 000e 0001 02 0000', 'reads past 65535', 'ADDRESS_OVERFLOW'],
    ['17 0003 0006 ffff 0002 04 00000000', 'writes past 65535', 'ADDRESS_OVERFLOW'],
  ],
  'FC 24 read FIFO queue (§6.18)': [
    ['18 04de', 'the example of §6.18'],
    ['18 ffff', 'the last register'],
    ['18 04', 'a byte short', 'LENGTH'],
    ['18 04de 00', 'a byte more', 'LENGTH'],
  ],
  'FC 43 encapsulated interface transport (§6.19-6.21)': [
    ['2b 0e 01 00', 'MEI 14: the example of §6.21'],
    ['2b 0e 04 ff', 'MEI 14: individual access, object 255'],
    ['2b 0e 00 00', 'MEI 14: read code 0', 'READ_DEVICE_ID_CODE'],
    ['2b 0e 05 00', 'MEI 14: read code 5', 'READ_DEVICE_ID_CODE'],
    ['2b 0e 01', 'MEI 14: no object id', 'LENGTH'],
    ['2b 0e 01 00 00', 'MEI 14: a byte more', 'LENGTH'],
    ['2b 0d', 'MEI 13: no data'],
    ['2b 0d 01 02 03 04 05', 'MEI 13: data is CANopen’s'],
    [`2b 0d ${zeros(252)}`, 'MEI 13: longer than a PDU', 'LENGTH'],
    ['2b 0c 01 00', 'MEI 12', 'MEI_TYPE'],
    ['2b 0f 01 00', 'MEI 15', 'MEI_TYPE'],
    ['2b', 'no MEI type', 'LENGTH'],
  ],
  'function codes that V1.1b3 §6 does not describe': [
    ['09', 'reserved'],
    ['41 0102030405', 'user-defined, 65'],
    ['5a 0011', '90'],
    ['64 00', '100'],
    ['80', '128: for the decision to refuse, not for the form'],
  ],
  'no function code': [['', 'an empty PDU', 'LENGTH']],
}

for (const [group, rows] of Object.entries(ROWS)) {
  t.test(group, async (t) => {
    for (const [bytes, meaning, fault = 'NONE'] of rows) {
      const pdu = hex(bytes)
      const found = onPduAlone(pdu, checkRequest)
      t.equal(faultText(found), faultText(FAULT[fault]), `${bytes.slice(0, 60)}: ${meaning}`)
    }
  })
}

t.test('a request cut short anywhere is at fault, but for those of free length', async (t) => {
  // Collected, not asserted one by one: tap takes milliseconds for an assertion.
  const wrong: string[] = []
  for (const [bytes, meaning, fault] of Object.values(ROWS).flat()) {
    const pdu = hex(bytes)
    if (fault !== undefined || pdu.length < 2 || pdu[0] > 43) continue
    for (let length = 1; length < pdu.length; length++) {
      const cut = pdu.subarray(0, length)
      const free = (cut[0] === 8 && cut[2] === 0 && length >= 5 && length % 2 === 1) || (cut[0] === 43 && cut[1] === 13)
      const bad = onPduAlone(cut, checkRequest) !== 0
      if (bad === (free && length > 1)) wrong.push(`${meaning}: ${length} of ${pdu.length} bytes`)
    }
  }
  t.strictSame(wrong, [])
})

t.test('an address overflow is answered with exception 02, all else with 03 (§7)', async (t) => {
  for (const [name, fault] of Object.entries(FAULT)) {
    t.equal(faultException(fault), name === 'ADDRESS_OVERFLOW' ? 2 : 3, name)
  }
})

t.test('faults are described with what was found and what was expected', async (t) => {
  const rows: [bytes: string, text: string][] = [
    ['01 0000 07d1', 'read-coils: quantity 2001, expected 1…2000 (V1.1b3 §6.1)'],
    ['03 0000 0000', 'read-holding-registers: quantity 0, expected 1…125 (V1.1b3 §6.3)'],
    ['03 0000 00', 'read-holding-registers: PDU of 4 bytes, expected 5 (V1.1b3 §6.3)'],
    ['04 ffff 0002', 'read-input-registers: address 65535 + quantity 2 runs past 65535 (V1.1b3 §6.4)'],
    ['05 0000 0001', 'write-single-coil: coil value 0x0001, expected 0x0000 or 0xFF00 (V1.1b3 §6.5)'],
    ['07 00', 'read-exception-status: PDU of 2 bytes, expected 1 (V1.1b3 §6.7)'],
    ['08 0013 0000', 'diagnostics: sub-function 19 is reserved, expected 0…4, 10…18 or 20 (V1.1b3 §6.8)'],
    ['08 0001 0001', 'diagnostics: data field 0x0001 of sub-function 1, expected 0x0000 or 0xFF00 (V1.1b3 §6.8)'],
    ['0f 0000 0009 01 ff', 'write-multiple-coils: byte count 1, expected 2 for quantity 9 (V1.1b3 §6.11)'],
    ['10 0000 007c f8', 'write-multiple-registers: quantity 124, expected 1…123 (V1.1b3 §6.12)'],
    ['14 08 00', 'read-file-record: byte count 8, expected a multiple of 7 in 7…245 (V1.1b3 §6.14)'],
    ['15 00', 'write-file-record: byte count 0, expected 9…251 (V1.1b3 §6.15)'],
    [
      '17 0000 0001 0000 007a f4',
      'read-write-multiple-registers: quantity to write 122, expected 1…121 (V1.1b3 §6.17)',
    ],
    [
      '17 0000 0001 ffff 0002 04 00000000',
      'read-write-multiple-registers: write address 65535 + quantity 2 runs past 65535 (V1.1b3 §6.17)',
    ],
    [
      '17 0000 0001 0000 0001 04 00000000',
      'read-write-multiple-registers: byte count 4, expected 2 for quantity 1 (V1.1b3 §6.17)',
    ],
    ['2b 0f', 'encapsulated-interface: MEI type 15, expected 13 or 14 (V1.1b3 §6.19)'],
    ['2b 0e 05 00', 'encapsulated-interface: read device ID code 5, expected 1…4 (V1.1b3 §6.19)'],
  ]
  for (const [bytes, text] of rows) {
    const pdu = hex(bytes)
    t.equal(
      onPduAlone(pdu, (buf, start, end) => describeFault(checkRequest(buf, start, end), buf, start, end)),
      text,
    )
  }
})

t.test('every fault has a sentence of its own, and can be described on any PDU', async (t) => {
  t.equal(new Set(Object.values(FAULT).map(faultText)).size, Object.keys(FAULT).length)
  const wrong: string[] = []
  const pdus = ['', '03', '03 00', '83', '83 00', '2b', '14 01 02', '17 0000 0001 0000'].map(hex)
  for (const [name, fault] of Object.entries(FAULT)) {
    t.match(faultText(fault), /\w+ \w+/, name)
    for (const pdu of pdus) {
      const text = onPduAlone(pdu, (buf, start, end) => describeFault(fault, buf, start, end))
      if (/undefined|null|NaN/.test(text))
        wrong.push(`${name} on ${pdu.length} bytes of function code ${pdu[0]}: ${text}`)
    }
  }
  t.strictSame(wrong, [])
})

t.test('Force Listen Only Mode alone is left unanswered (§6.8.1)', async (t) => {
  const answered = (bytes: string) => onPduAlone(hex(bytes), expectsResponse)
  t.equal(answered('08 0004 0000'), false)
  t.equal(answered('08 0004 0001'), false, 'whatever its data: no answer is owed')
  for (const bytes of ['08 0000 0004', '08 0104 0000', '08 0001 0000', '08 00', '08', '03 0004 0000', '06 0004 0000']) {
    t.equal(answered(bytes), true, bytes)
  }
})
