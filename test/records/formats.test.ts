import fc from 'fast-check'
import t from 'tap'
import { siemPage } from '../../scripts/docs-siem.ts'
import { EVENTS, type EventRecord } from '../../src/records/catalogue.ts'
import { cef, extensionValue } from '../../src/records/formats/cef.ts'
import { json } from '../../src/records/formats/ecs.ts'
import { frame, MAX_DATAGRAM, message } from '../../src/records/formats/message.ts'
import { header, paramValue, rfc5424 } from '../../src/records/formats/rfc5424.ts'
import { denied } from '../support/records.ts'

/** Text that a hostile device, name or document could hold. */
const hostile = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc
    .array(
      fc.constantFrom(
        '"',
        '\\',
        ']',
        '[',
        '=',
        '|',
        '\n',
        '\r',
        '\0',
        ' ',
        'x=',
        ' src=1.2.3.4',
        '\u2028',
        '\u0085',
        '\ud800',
        'ñ',
      ),
      { maxLength: 30 },
    )
    .map((parts) => parts.join('')),
)
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufffe\ud800-\udfff]/u

const HEADER = /^<(\d{1,3})>1 \S+ \S+ headgate \d+ \S+ /

t.test('whatever a field holds, it stays in its field and on its line', (t) => {
  fc.assert(
    fc.property(hostile, hostile, hostile, (detail, rule, gateway) => {
      const event = denied(1, { detail, rule, gateway })
      const texts = [rfc5424(event, 16, 32473), cef(event, 16), json(event, 16)]
      for (const text of texts) {
        if (CONTROL.test(text) && !text.includes('\ufffe'))
          throw new Error(`a control character in ${JSON.stringify(text)}`)
        if (!HEADER.test(text)) throw new Error(`header of ${JSON.stringify(text)}`)
      }
      // RFC 5424 §6: exactly one element, then a space.
      const data = texts[0].replace(HEADER, '')
      const element = /^\[[^ \]"=]+(?: [^ \]"=]+="(?:[^"\\\]]|\\["\\\]])*")*\](?= )/.exec(data)
      const names = [...(element?.[0] ?? '').matchAll(/ ([^ \]"=]+)="(?:[^"\\\]]|\\["\\\]])*"/g)].map(
        (match) => match[1],
      )
      const { time: _, event: __, gateway: ___, ...fields } = event
      if (names.join() !== Object.keys(fields).join()) throw new Error(`fields ${names}`)
      // CEF: seven headers, and no key that is not one of ours.
      const parts = texts[1].slice(texts[1].indexOf('CEF:0')).match(/(?:[^|\\]|\\.)*\|/gs) ?? []
      if (parts.length < 7) throw new Error('CEF header')
      const extension = texts[1].slice(texts[1].indexOf('CEF:0') + parts.slice(0, 7).join('').length)
      const keys = [...extension.matchAll(/(?:^| )(\w+)=/g)].map((match) => match[1])
      const allowed = [...cef(denied(1, { detail: 'a', rule: 'b', gateway: 'c' }), 16).matchAll(/[| ](\w+)=/g)].map(
        (match) => match[1],
      )
      if (keys.join() !== allowed.join()) throw new Error(`CEF keys ${keys}`)
      const ecs = JSON.parse(texts[2].replace(HEADER, '').slice(2))
      if (ecs.headgate.detail !== detail.toWellFormed() || ecs.rule.name !== rule.toWellFormed())
        throw new Error('JSON values')
    }),
    { numRuns: 1500 },
  )
  t.end()
})

t.test('escapes, to the byte', (t) => {
  t.equal(paramValue('a"b\\c]d[e'), 'a\\"b\\\\c\\]d[e')
  t.equal(paramValue('a\nb\0c\u0085d'), 'a b c d')
  t.equal(extensionValue('a=b\\c|d\ne\r'), 'a\\=b\\\\c|d\\ne\\r')
  t.match(cef(denied(1, { gateway: 'x|y' }), 16), /CEF:0\|Headgate\|Headgate\|[^|]+\|request\.denied\|/)
  t.equal(header(denied(1, { gateway: 'gw unit\n3' }), 16).split(' ')[2], 'gw_unit_3', 'a host name is one word')
  t.match(header(denied(1), 0), /^<4>1 /)
  t.match(header(denied(1, { severity: 'critical' }), 23), /^<186>1 /)
  t.end()
})

t.test('a datagram is never longer than receivers take, and always well-formed', (t) => {
  const long = denied(1, { detail: 'ü"'.repeat(4000), values: '1,'.repeat(3000), rule: 'r'.repeat(900) })
  for (const format of ['rfc5424', 'cef', 'json'] as const) {
    const bytes = message(long, { format, facility: 16, enterpriseNumber: 32473 }, MAX_DATAGRAM)
    t.ok(bytes.length <= MAX_DATAGRAM, `${format}: ${bytes.length} bytes`)
    const text = bytes.toString()
    t.ok(text.includes(denied(1).id as string), 'the id is whole')
    if (format === 'json') t.ok(JSON.parse(text.slice(text.indexOf('{'))))
    if (format === 'rfc5424') t.match(text, /^[^[]*\[headgate@32473( \w+="(?:[^"\\\]]|\\["\\\]])*")+\] /)
  }
  t.end()
})

t.test('framing', (t) => {
  t.equal(frame(Buffer.from('<1>ñ'), 'octet-counting').toString(), '5 <1>ñ', 'counts bytes, not characters')
  t.equal(frame(Buffer.from('<1>x'), 'non-transparent').toString(), '<1>x\n')
  t.end()
})

t.test('IPv6 has keys of its own in CEF:0', (t) => {
  const text = cef(denied(1, { client: 'fd00::1', target: 'fd00::2' } as Partial<EventRecord>), 16)
  t.match(text, / c6a2=fd00::1 c6a2Label=Source IPv6 Address .*c6a3=fd00::2 c6a3Label=Destination IPv6 Address/)
  t.notMatch(text, / src=| dst=/)
  t.end()
})

t.test('ECS: only values that it allows', (t) => {
  const types = [
    'access',
    'admin',
    'allowed',
    'change',
    'connection',
    'creation',
    'deletion',
    'denied',
    'end',
    'error',
    'group',
    'indicator',
    'info',
    'installation',
    'protocol',
    'start',
    'user',
  ]
  for (const event of Object.keys(EVENTS)) {
    const text = json(denied(1, { event: event as EventRecord['event'] }), 16)
    const { event: fields } = JSON.parse(text.slice(text.indexOf('{')))
    t.ok(
      fields.type.every((type: string) => types.includes(type)),
      `${event}: ${fields.type}`,
    )
    t.ok(['network', 'configuration', 'process', 'host'].includes(fields.category[0]))
    t.ok([undefined, 'success', 'failure'].includes(fields.outcome))
    t.equal(fields.type.includes('denied'), /denied|refused/.test(event), event)
  }
  t.end()
})

t.test('the page for SIEM engineers has every event, in every format', (t) => {
  const page = siemPage()
  for (const name of Object.keys(EVENTS)) {
    const section = page.slice(page.indexOf(`### ${name}\n`)).split('\n### ', 1)[0]
    t.match(section, new RegExp(`headgate 812 ${name} \\[headgate@32473 `))
    t.match(section, new RegExp(`\\|${name}\\|`))
    t.match(section, `"action":"${name}"`)
  }
  t.end()
})
