import { execFileSync, spawnSync } from 'node:child_process'
import { createPublicKey, verify } from 'node:crypto'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Evidence } from '../../src/policy/model.ts'
import { chainLine, HEAD_FILE, hashLine } from '../../src/records/evidence/chain.ts'
import { newKey, openCheckpoint, parseVerifierKey, signerOf, signNote } from '../../src/records/evidence/note.ts'
import { evidenceFiles } from '../../src/records/evidence/tail.ts'
import { type VerifyReport, verifyFiles } from '../../src/records/evidence/verify.ts'
import { Recorder } from '../../src/records/recorder.ts'
import { denied, evidenceTerms, scratch, TestEvidence } from '../support/records.ts'
import { sleep, until } from '../support/sockets.ts'

// Most of the time is spent waiting for what the writer looks at once a second.
t.jobs = 4

/** Writes `count` records and stops in an orderly way. @returns the directory */
async function written(directory: string, count: number, more: Partial<Evidence> = {}): Promise<TestEvidence> {
  const evidence = new TestEvidence(evidenceTerms(directory, more))
  await evidence.writer.open()
  for (let n = 0; n < count; n++) evidence.append(denied(n))
  await evidence.writer.close()
  return evidence
}

async function report(directory: string, withHead = true): Promise<VerifyReport> {
  const files = (await evidenceFiles(directory)).map((name) => join(directory, name))
  const headNote = withHead ? readFileSync(join(directory, HEAD_FILE), 'utf8') : null
  return verifyFiles(files, { keys: [], headNote })
}

const lines = (path: string): string[] => readFileSync(path, 'utf8').split('\n').slice(0, -1)
const fileOf = async (directory: string, index = 0): Promise<string> =>
  join(directory, (await evidenceFiles(directory)).at(index) as string)

t.test('what is written verifies: every record, checkpoints by number, one at the end', async (t) => {
  const directory = scratch(t)
  await written(directory, 250, { checkpointRecords: 100 })
  const found = await report(directory)
  // Two records of its own come first: the file's header, and the key that was made.
  t.match(found, { records: 255, checkpoints: 3, unsigned: 0, finding: null, torn: null, headKnown: true, firstSeq: 0 })
  const key = join(directory, 'evidence.key')
  t.equal(statSync(key).mode & 0o777, 0o600, 'the key is its owner’s alone')
  t.equal(readFileSync(`${key}.pub`, 'utf8').trim(), found.keys[0], 'its public half stands beside it')
  const records = lines(await fileOf(directory)).map((line) => JSON.parse(line))
  t.equal(records[0].public_key, found.keys[0], 'and in the header of the file')
  t.equal(
    records.find((record) => record.event === 'evidence.key_created').public_key,
    found.keys[0],
    'and in an event',
  )
  t.same(
    records.map((record) => record.seq),
    records.map((_, i) => i),
    'numbers without a gap',
  )
})

t.test('a checkpoint is a C2SP signed note that independent code can check', async (t) => {
  const directory = scratch(t)
  await written(directory, 3)
  const all = lines(await fileOf(directory))
  const last = JSON.parse(all[all.length - 1])
  const [text, signature] = [last.note.slice(0, last.note.indexOf('\n\n') + 1), last.note.split(' ').at(-1)]
  // By hand, from the format's text: no code of Headgate's.
  const [name, id, ...typed] = readFileSync(join(directory, 'evidence.key.pub'), 'utf8').trim().split('+')
  const raw = Buffer.from(typed.join('+'), 'base64')
  t.equal(raw[0], 1, 'Ed25519')
  const key = createPublicKey({
    key: { kty: 'OKP', crv: 'Ed25519', x: raw.subarray(1).toString('base64url') },
    format: 'jwk',
  })
  const bytes = Buffer.from(signature, 'base64')
  t.equal(bytes.subarray(0, 4).toString('hex'), id)
  t.ok(verify(null, Buffer.from(text), key, bytes.subarray(4)), 'the signature covers the text')
  t.equal(text, `${name}\n${last.seq}\n${Buffer.from(last.prev, 'hex').toString('base64')}\n`)
  t.equal(hashLine(all[all.length - 2]), last.prev, 'and the text the line before')
})

t.test('keys and notes that are not what they say are refused', (t) => {
  const signer = signerOf(newKey())
  const { text } = signer.verifier
  t.equal(parseVerifierKey(text).text, text)
  const [name, id, key] = text.split(/\+(?=[0-9a-f]{8}\+)|(?<=\+[0-9a-f]{8})\+/)
  for (const bad of ['', 'x', `${name}+00000000+${key}`, `${name}x+${id}+${key}`, `${name}+${id}+${key.slice(4)}`]) {
    t.throws(() => parseVerifierKey(bad))
  }
  const note = signNote(`origin\n7\n${Buffer.alloc(32, 1).toString('base64')}\n`, signer)
  t.match(openCheckpoint(note, [signer.verifier]), { seq: 7, hash: '01'.repeat(32) })
  t.equal(openCheckpoint(note, [signerOf(newKey()).verifier]), 'no signature by a known key')
  t.equal(openCheckpoint(note.replace('\n7\n', '\n8\n'), [signer.verifier]), 'the signature is wrong')
  t.equal(openCheckpoint(note.slice(0, -1), [signer.verifier]), 'not a signed note')
  t.end()
})

t.test('every kind of tampering is found and named', async (t) => {
  const origin = scratch(t)
  await written(origin, 60, { checkpointRecords: 20 })
  const source = lines(await fileOf(origin))
  const swap = (text: string): string => text.replace('write-single-register', 'read-holding-registers')
  /** Chains all lines anew from `from` on, as somebody with the program but without the key could. */
  const rechain = (all: string[], from: number): string[] => {
    const made = all.slice(0, from)
    for (const line of all.slice(from)) {
      const body = line.replace(/^\{"seq":\d+,"prev":"[0-9a-f]{64}",/, '{')
      const before = made.at(-1)
      made.push(chainLine({ seq: made.length, hash: before === undefined ? '0'.repeat(64) : hashLine(before) }, body))
    }
    return made
  }
  const splice = (at: number, remove: number, ...put: string[]): string[] => source.toSpliced(at, remove, ...put)
  const forged = (at: number): string =>
    chainLine({ seq: at, hash: hashLine(source[at - 1]) }, JSON.stringify({ time: 'x', event: 'request.allowed' }))
  const cases: [string, string[], { kind: string; seq: number; line?: number }][] = [
    ['a field changed', splice(30, 1, swap(source[30])), { kind: 'altered', seq: 30, line: 31 }],
    ['the first record changed', splice(0, 1, source[0].replace('info', 'warn')), { kind: 'altered', seq: 0, line: 1 }],
    [
      'its hash of the one before changed',
      splice(30, 1, source[30].replace(/"prev":"./, '"prev":"x')),
      { kind: 'altered', seq: 30 },
    ],
    ['its number changed', splice(30, 1, source[30].replace('"seq":30', '"seq":31')), { kind: 'altered', seq: 30 }],
    [
      'its number changed to a low one',
      splice(30, 1, source[30].replace('"seq":30', '"seq":3')),
      { kind: 'altered', seq: 30 },
    ],
    ['a record turned to rubbish', splice(30, 1, 'rubbish'), { kind: 'altered', seq: 30, line: 31 }],
    ['a record cut short', splice(30, 1, source[30].slice(0, 150)), { kind: 'altered', seq: 30, line: 31 }],
    ['a space added', splice(30, 1, `${source[30]} `), { kind: 'altered', seq: 30 }],
    ['a record removed', splice(30, 1), { kind: 'removed', seq: 30, line: 31 }],
    ['ten records removed', splice(30, 10), { kind: 'removed', seq: 30, line: 31 }],
    ['two neighbours exchanged', splice(30, 2, source[31], source[30]), { kind: 'reordered', seq: 30, line: 31 }],
    ['a record moved back', splice(45, 0, source[30]).toSpliced(30, 1), { kind: 'reordered', seq: 30, line: 31 }],
    ['a record moved forward', splice(45, 1).toSpliced(30, 0, source[45]), { kind: 'reordered', seq: 30, line: 31 }],
    ['a record twice', splice(31, 0, source[30]), { kind: 'inserted', seq: 30, line: 32 }],
    ['an old record again', splice(31, 0, source[10]), { kind: 'inserted', seq: 10, line: 32 }],
    ['a blank line', splice(31, 0, ''), { kind: 'inserted', seq: 31, line: 32 }],
    ['a line of text', splice(31, 0, '# nothing'), { kind: 'inserted', seq: 31, line: 32 }],
    ['a forged record that fits', splice(31, 0, forged(31)), { kind: 'inserted', seq: 31, line: 32 }],
    ['a change with the chain made anew', rechain(splice(30, 1, swap(source[30])), 30), { kind: 'altered', seq: 21 }],
    ['a removal with the chain made anew', rechain(splice(30, 1), 30), { kind: 'altered', seq: 21 }],
    ['cut off at the end', source.slice(0, -3), { kind: 'cut', seq: source.length - 3 }],
    ['cut off up to a checkpoint', source.slice(0, 21), { kind: 'cut', seq: 21 }],
    [
      'the last record changed',
      [...source.slice(0, -2), swap(source.at(-2) as string), source.at(-1) as string],
      { kind: 'altered', seq: source.length - 2 },
    ],
    ['a checkpoint changed', splice(20, 1, source[20].replace(/(— \S+ \S{20})./, '$1!')), { kind: 'altered', seq: 20 }],
  ]
  const directory = scratch(t)
  const path = join(directory, 'evidence-000000000000.jsonl')
  const headNote = readFileSync(join(origin, HEAD_FILE), 'utf8')
  const verified = async (all: string[]): Promise<VerifyReport> => {
    writeFileSync(path, all.map((line) => `${line}\n`).join(''))
    return verifyFiles([path], { keys: [], headNote })
  }
  t.equal((await verified(source)).finding, null, 'untouched')
  for (const [what, all, wanted] of cases) {
    const { finding } = await verified(all)
    t.match(finding, wanted, `${what}: ${finding?.message}`)
  }
  const stranger = signerOf(newKey()).verifier
  writeFileSync(path, source.map((line) => `${line}\n`).join(''))
  const other = await verifyFiles([path], { keys: [stranger] })
  t.match(other.finding, { kind: 'altered', seq: 20 }, 'signed by another key than the trusted one')
})

t.test('rotation by size: the chain goes on, whatever order the files are given in', async (t) => {
  const directory = scratch(t)
  const evidence = new TestEvidence(evidenceTerms(directory, { rotateBytes: 20_000, checkpointRecords: 1000 }))
  await evidence.writer.open()
  for (let n = 0; n < 200; n++) {
    evidence.append(denied(n))
    // However busy the machine: files are ended between batches.
    if (n % 10 === 0) await until(() => evidence.writer.backlog === 0, 'what was appended is written')
  }
  await evidence.writer.close()
  const names = await evidenceFiles(directory)
  t.ok(names.length >= 3, `${names.length} files`)
  t.match(await report(directory), { finding: null, unsigned: 0 })
  const files = names.map((name) => join(directory, name))
  t.equal((await verifyFiles(files.toReversed(), { keys: [] })).finding, null)
  for (const file of files)
    t.match(JSON.parse(lines(file).at(-1) as string), { event: 'evidence.checkpoint' }, 'each ends signed')
  const without = await verifyFiles(files.toSpliced(1, 1), { keys: [] })
  t.match(without.finding, { kind: 'removed', line: 1 }, 'a missing file is missed')
  const middle = await verifyFiles(files.slice(1), { keys: [] })
  t.equal(middle.finding, null, 'later files stand for themselves')
  t.ok(middle.firstSeq > 0)
  truncateSync(files[1], statSync(files[1]).size - 10)
  t.match(
    (await verifyFiles(files, { keys: [] })).finding,
    { kind: 'altered' },
    'a torn line in the middle is no crash',
  )
})

t.test('a line torn by a crash is told apart, repaired, and the chain goes on', async (t) => {
  for (const [what, tail] of [
    ['half a line', '{"seq":999,"prev":"00'],
    ['zeros after a loss of power', '\0'.repeat(5000)],
  ] as const) {
    const directory = scratch(t)
    await written(directory, 10)
    appendFileSync(await fileOf(directory), tail)
    t.match(await report(directory), { finding: null, torn: { bytes: tail.length } }, `${what}: seen, and no tampering`)
    const next = await written(directory, 5)
    t.match(
      next.told.find((event) => event.event === 'evidence.repaired'),
      { bytes: tail.length },
    )
    t.notOk(next.names().includes('evidence.tampered'))
    t.match(await report(directory), { finding: null, torn: null })
    t.equal((await evidenceFiles(directory)).length, 1, 'in the same file')
  }
})

t.test('a gateway that starts says what was done to its files, and never uses a number again', async (t) => {
  const directory = scratch(t)
  await written(directory, 20)
  const path = await fileOf(directory)
  const all = lines(path)
  writeFileSync(path, `${all.slice(0, 12).join('\n')}\n`)
  const cut = await written(directory, 5)
  t.match(cut.told.find((event) => event.event === 'evidence.tampered')?.detail, /11 records are missing at the end/)
  t.match((await report(directory)).finding, { kind: 'removed', seq: 12 }, 'and the gap stays')

  const altered = scratch(t)
  await written(altered, 20)
  const text = readFileSync(await fileOf(altered), 'utf8')
  writeFileSync(await fileOf(altered), text.replace('"unit_id":1', '"unit_id":2'))
  const evidence = new TestEvidence(evidenceTerms(altered))
  await evidence.writer.open()
  await until(() => evidence.names().includes('evidence.tampered'), 'the last file is looked through')
  await evidence.writer.close()
})

t.test('time alone makes a checkpoint', async (t) => {
  const directory = scratch(t)
  const evidence = new TestEvidence(evidenceTerms(directory, { checkpointMs: 1000 }))
  await evidence.writer.open()
  evidence.append(denied(1))
  const count = async (): Promise<number> => (await report(directory, false)).checkpoints
  const end = Date.now() + 5000
  while ((await count()) === 0 && Date.now() < end) await sleep(100)
  t.equal(await count(), 1)
  await evidence.writer.close()
})

t.test('a directory that goes away: said, kept in memory, resumed when it is back', async (t) => {
  const parent = scratch(t)
  const directory = join(parent, 'evidence')
  const evidence = new TestEvidence(evidenceTerms(directory, { key: join(parent, 'key') }))
  await evidence.writer.open()
  evidence.append(denied(1))
  await sleep(20)
  renameSync(directory, join(parent, 'elsewhere'))
  await until(() => evidence.names().includes('evidence.failed'), 'it is noticed within seconds', 20_000)
  t.same(evidence.states, [true, false])
  evidence.append(denied(2))
  await sleep(50)
  t.notOk(existsSync(directory), 'and the directory is not made again: something may have to be mounted there')
  mkdirSync(directory)
  await until(() => evidence.names().includes('evidence.resumed'), 'it is back', 20_000)
  await evidence.writer.close()
  const both = [join(parent, 'elsewhere'), directory]
  const files = (
    await Promise.all(both.map(async (at) => (await evidenceFiles(at)).map((name) => join(at, name))))
  ).flat()
  const found = await verifyFiles(files, { keys: [] })
  t.equal(found.finding, null, 'with the files of before, the chain is whole')
  const ids = files.flatMap(lines).map((line) => JSON.parse(line).id)
  t.ok(ids.includes('test-0000001') && ids.includes('test-0000002'), 'nothing is missing')
})

t.test('a file that somebody removes or writes to while it is open', async (t) => {
  for (const harm of ['remove', 'append'] as const) {
    const directory = scratch(t)
    const evidence = new TestEvidence(evidenceTerms(directory))
    await evidence.writer.open()
    const path = await fileOf(directory)
    if (harm === 'remove') rmSync(path)
    else appendFileSync(path, 'x')
    await until(
      () => evidence.names().includes('evidence.resumed'),
      `${harm}: noticed, and gone on in another way`,
      30_000,
    )
    t.ok(evidence.names().includes('evidence.tampered'))
    evidence.append(denied(1))
    await evidence.writer.close()
  }
})

const root = process.getuid?.() === 0
const tmpfs = (directory: string): boolean =>
  root && spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', directory]).status === 0

t.test('a full disk', async (t) => {
  const directory = scratch(t)
  if (!tmpfs(directory)) {
    t.comment('skipped: needs root, to mount a small tmpfs')
    return
  }
  t.teardown(() => spawnSync('umount', ['-l', directory]))
  const evidence = new TestEvidence(evidenceTerms(directory))
  await evidence.writer.open()
  let n = 0
  const filler = join(directory, 'filler')
  writeFileSync(filler, Buffer.alloc(100_000))
  while (!evidence.names().includes('evidence.failed') && n < 5000) {
    evidence.append(denied(n++))
    if (n % 20 === 0) await sleep(1)
  }
  t.match(evidence.told.find((event) => event.event === 'evidence.failed')?.detail, /ENOSPC/)
  for (let i = 0; i < 10; i++) evidence.append(denied(n++))
  rmSync(filler)
  await until(() => evidence.names().includes('evidence.resumed'), 'there is room again', 20_000)
  await evidence.writer.close()
  const found = await report(directory)
  t.match(found, { finding: null, torn: null })
  const ids = lines(await fileOf(directory)).map((line) => JSON.parse(line).id)
  const wanted = Array.from({ length: n }, (_, i) => denied(i).id)
  t.same(
    ids.filter((id) => id?.startsWith('test-')),
    wanted,
    'every record once, in order',
  )
})

t.test('the command line: exit codes, and what it prints', async (t) => {
  const directory = scratch(t)
  await written(directory, 10)
  const cli = (...args: string[]) =>
    spawnSync(
      process.execPath,
      [
        '-e',
        `import(${JSON.stringify(new URL('../../src/cli/main.ts', import.meta.url).href)}).then((cli) => cli.main(process.argv))`,
        'headgate',
        'evidence',
        ...args,
      ],
      { encoding: 'utf8' },
    )
  const good = cli('verify', directory)
  t.equal(good.status, 0)
  t.match(good.stdout, /records {6}13 in 1 file[^\n]*\n[\s\S]*verified {5}yes\n$/)
  t.equal(cli('verify', '--key', join(directory, 'evidence.key.pub'), directory).status, 0)
  t.equal(
    cli('verify', '--key', signerOf(newKey()).verifier.text, directory).status,
    1,
    'another key than the trusted one',
  )
  t.match(cli('verify', '--format', 'json', directory).stdout, /"finding": null/)
  t.equal(cli('verify', join(directory, 'none')).status, 2)
  const rows = cli('show', '--reason', 'function', '--format', 'csv', directory).stdout.trim().split('\r\n')
  t.equal(rows.length, 11)
  t.equal(cli('show', '--conduit', 'C2', '--format', 'json', directory).stdout, '')
  t.equal(
    cli('show', '--since', '2026-02-23T10:00:00.005Z', '--event', 'request.*', '--format', 'json', directory)
      .stdout.trim()
      .split('\n').length,
    5,
  )
  t.equal(cli('show', '--since', 'yesterday', directory).status, 2)
  t.match(cli('show', directory).stdout, /^seq +time +severity/)
  writeFileSync(
    await fileOf(directory),
    readFileSync(await fileOf(directory), 'utf8').replace('"unit_id":1', '"unit_id":9'),
  )
  const bad = cli('verify', directory)
  t.equal(bad.status, 1)
  t.match(bad.stdout, /NOT VERIFIED \(altered\) evidence-000000000000\.jsonl:\d+: record \d+ was altered/)
})

t.test('memory stays where it is, however long the file', async (t) => {
  const directory = scratch(t)
  const evidence = new TestEvidence(evidenceTerms(directory))
  await evidence.writer.open()
  for (let n = 0; n < 60_000; n++) {
    evidence.append(denied(n))
    if (n % 1000 === 0) await sleep(0)
  }
  await evidence.writer.close()
  const program = `
    const { verifyFiles } = await import(${JSON.stringify(new URL('../../src/records/evidence/verify.ts', import.meta.url).href)})
    const found = await verifyFiles(process.argv.slice(1), { keys: [] })
    console.log(JSON.stringify({ bytes: found.bytes, ok: found.finding === null, rss: process.memoryUsage().rss }))`
  const run = (...files: string[]): { bytes: number; ok: boolean; rss: number } =>
    JSON.parse(
      execFileSync(process.execPath, ['--max-semi-space-size=2', '--input-type=module', '-e', program, ...files], {
        encoding: 'utf8',
      }),
    )
  const small = scratch(t)
  await written(small, 10)
  const little = run(await fileOf(small))
  const much = run(await fileOf(directory))
  t.ok(much.ok && much.bytes > 20e6, `${(much.bytes / 1e6).toFixed(0)} MB`)
  t.ok(much.rss - little.rss < 25e6, `${((much.rss - little.rss) / 1e6).toFixed(1)} MB more than for ten records`)
})

t.test('the files are for their owner and group alone', async (t) => {
  const directory = scratch(t)
  await written(join(directory, 'evidence'), 1)
  for (const name of readdirSync(join(directory, 'evidence')).filter((one) => one.endsWith('.jsonl'))) {
    t.equal(statSync(join(directory, 'evidence', name)).mode & 0o007, 0)
  }
})

t.test('evidence that ends by a policy says so as its last record', async (t) => {
  const directory = scratch(t)
  const recorder = new Recorder({ level: 'error', fd: openSync('/dev/null', 'w') })
  const terms = (name: string | null) => ({
    name: 'gw',
    syslog: [],
    spool: null,
    evidence: name === null ? null : evidenceTerms(join(directory, name)),
  })
  for (const [policy, name] of [
    ['a', 'first'],
    ['b', 'second'],
    ['c', null],
  ] as const) {
    await recorder.configure(policy.repeat(64), terms(name))
    recorder.record({ event: 'policy.loaded' })
  }
  await recorder.close()
  for (const [name, policy, severity, detail] of [
    ['first', 'b', 'notice', /goes on in .*second/],
    ['second', 'c', 'warning', /asks for no evidence/],
  ] as const) {
    t.match(await report(join(directory, name)), { finding: null })
    const records = lines(await fileOf(join(directory, name))).map((line) => JSON.parse(line))
    t.equal(records.at(-1).event, 'evidence.checkpoint')
    t.match(records.at(-2), { event: 'evidence.closed', policy: policy.repeat(64), severity, detail })
  }
})
