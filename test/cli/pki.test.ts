/** `headgate pki` as an operator uses it, with OpenSSL as the judge of what it makes. */
import { spawnSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { loadPki, type PkiDirectories } from '../../src/pki/load.ts'
import { makeKey } from '../../src/pki/make.ts'
import { initialize, reject, trust } from '../../src/pki/manage.ts'
import { keepRejected } from '../../src/pki/rejected.ts'
import { readOwn, toPem } from '../../src/pki/store.ts'
import { Authority, selfSigned, store } from '../support/opcua-pki.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const START = `import('${root}src/cli/main.ts').then((cli) => cli.main(['node', 'headgate', ...process.argv.slice(1)]))`

function headgate(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', START, '--', 'pki', ...args], {
    cwd: root,
    encoding: 'utf8',
    // Each start compiles anew otherwise.
    env: { ...process.env, NODE_COMPILE_CACHE: join(root, 'node_modules/.cache/headgate-tests') },
  })
  return { code: status, out: stdout, err: stderr }
}

async function initialized(directory: string): Promise<PkiDirectories> {
  const [own, trustedClients, trustedServers] = ['own', 'clients', 'servers'].map((name) => join(directory, name))
  const directories = { own, trustedClients, trustedServers }
  const options = {
    commonName: null,
    organization: null,
    applicationUri: null,
    hosts: [],
    bits: 2048,
    days: 9,
    force: false,
  }
  await initialize(directories, options)
  return directories
}

const POLICY = `zones: [{ zone_id: Z2 }, { zone_id: Z3 }]
conduits:
  - conduit_id: C1
    connects: [Z2, Z3]
    mode: monitor
    protocols_allowed:
      - protocol: OPC UA
        rules: [{ name: all, from: [Z3], to: [Z2], services: [read] }]
        opcua:
          handling: terminate
          certificates: { own: pki/own, trusted_clients: pki/clients, trusted_servers: pki/servers }
gateway:
  listeners: [{ conduit: C1, protocol: OPC UA, listen: "10.30.1.1:4840", target: "10.20.1.10:4840" }]
`

t.test('from nothing to a renewed certificate', async (t) => {
  const directory = t.testdir({ 'policy.yaml': POLICY })
  const policy = join(directory, 'policy.yaml')
  const own = join(directory, 'pki', 'own')
  const made = headgate(
    'init',
    policy,
    '--org',
    'Plant 3',
    '--uri',
    'urn:plant:gw',
    '--host',
    'gw.plant',
    '--host',
    '10.30.1.1',
  )
  t.equal(made.code, 0, made.err)
  t.match(made.out, /application URI {2}urn:plant:gw/)
  const key = join(own, 'private', 'headgate.pem')
  t.equal(statSync(key).mode & 0o777, 0o600)
  t.equal(statSync(join(own, 'private')).mode & 0o077, 0, 'nor is the directory for others')
  const { chain } = readOwn(own)
  const pem = readFileSync(join(own, 'certs', 'headgate.pem'))
  const certificate = new X509Certificate(pem)
  t.match(certificate.subjectAltName, 'URI:urn:plant:gw, DNS:gw.plant, IP Address:10.30.1.1')
  t.match(certificate.subject, /O=Plant 3/)
  const openssl = spawnSync('openssl', ['x509', '-noout', '-text', '-in', join(own, 'certs', 'headgate.pem')], {
    encoding: 'utf8',
  })
  if (openssl.status === null) t.comment('no openssl here: its reading is skipped')
  else {
    t.match(openssl.stdout, /Digital Signature, Non Repudiation, Key Encipherment, Data Encipherment, Certificate Sign/)
    t.match(openssl.stdout, /CA:FALSE/)
    t.match(openssl.stdout, /TLS Web Server Authentication, TLS Web Client Authentication/)
    t.match(openssl.stdout, /Signature Algorithm: sha256WithRSAEncryption/)
  }
  t.match(readdirSync(join(directory, 'pki', 'servers', 'trusted')).sort(), ['certs', 'crl'])

  const again = headgate('init', policy)
  t.match(again, { code: 2, err: /has a certificate already; "headgate pki renew"/ })
  const renewed = headgate('renew', policy, '--days', '90')
  t.equal(renewed.code, 0, renewed.err)
  const next = readOwn(own)
  t.not(next.chain[0].thumbprintHex, chain[0].thumbprintHex)
  t.equal(next.applicationUri, 'urn:plant:gw')
  t.match(next.chain[0].x509.subjectAltName, 'URI:urn:plant:gw, DNS:gw.plant, IP Address:10.30.1.1')
  t.match(next.chain[0].x509.subject, /O=Plant 3/)
  const former = join(own, 'former', `${chain[0].thumbprintHex.toUpperCase()}.certificate.pem`)
  t.equal(new X509Certificate(readFileSync(former)).fingerprint, certificate.fingerprint, 'the former is kept')
  t.equal(next.keyPem, readFileSync(key, 'latin1'))
  t.equal(headgate('renew', policy, '--new-key', '3072').code, 0)
  t.equal(readOwn(own).chain[0].keyBits, 3072)

  const listed = headgate('list', policy, '--format', 'json')
  t.equal(listed.code, 0, listed.err)
  t.match(JSON.parse(listed.out), {
    certificates: [{ list: 'own', state: 'own', applicationUri: 'urn:plant:gw' }],
    unusable: [],
  })
})

t.test('trust and reject, by thumbprint and by file', async (t) => {
  const directory = t.testdir({})
  const directories = await initialized(directory)
  const [one, two] = [await selfSigned('one'), await selfSigned('two')]
  const clients = directories.trustedClients
  t.ok(keepRejected(clients, one.der))
  t.equal(keepRejected(clients, one.der), null, 'once')
  t.equal(keepRejected(clients, Buffer.from('junk')), null)
  const thumbprint = fingerprint(one.der).replaceAll(':', '')
  const line = new RegExp(`^clients +rejected +${thumbprint} +\\d+ days +one +urn:headgate:test:one$`, 'm')
  t.match(headgate('list', directory).out, line)
  const trusted = headgate('trust', directory, thumbprint.slice(0, 8).toLowerCase())
  t.equal(trusted.code, 0, trusted.err)
  t.match(trusted.out, /trusted among clients/)
  t.same(readdirSync(join(clients, 'rejected', 'certs')), [])
  t.same(readdirSync(join(clients, 'trusted', 'certs')), [`one [${thumbprint}].der`])
  const file = join(directory, 'two.pem')
  writeFileSync(file, toPem([two.der]))
  t.throws(() => trust(directories, file, null), /say for which list/)
  t.match(trust(directories, file, 'servers'), [{ list: 'servers', state: 'trusted', name: 'two' }])
  t.equal(readdirSync(join(directory, 'servers', 'trusted', 'certs')).length, 1)
  const rejected = headgate('reject', directory, fingerprint(one.der))
  t.equal(rejected.code, 0, rejected.err)
  t.same(readdirSync(join(clients, 'rejected', 'certs')), [`one [${thumbprint}].der`])
  t.throws(() => trust(directories, 'abcdef', null), /abcdef: no rejected certificate of this thumbprint/)
  t.throws(() => reject(directories, 'abcdef', null), /abcdef: no trusted certificate/)
  const options = { commonName: null, organization: null, hosts: [], bits: 2048, days: 1, force: true }
  await t.rejects(initialize(directories, { ...options, applicationUri: 'no uri' }), /no URI/)
  t.match(headgate('list', join(directory, 'nowhere')), { code: 2, err: /nowhere: no such file or directory/ })
  t.match(headgate('init', directory, '--bits', '1024', '--days', '0'), {
    code: 2,
    err: /2048, 3072, 4096|number of days/,
  })
})

t.test('only so many rejected ones are kept', async (t) => {
  const directory = t.testdir({})
  const key = await makeKey(2048)
  for (let i = 0; i < 103; i++) t.ok(keepRejected(directory, (await selfSigned(`c${i}`, 2048, key)).der))
  t.equal(readdirSync(join(directory, 'rejected', 'certs')).length, 100)
})

const fingerprint = (der: Buffer): string => new X509Certificate(der).fingerprint

t.test('what stands in the directories is hostile as well', async (t) => {
  const directory = t.testdir({})
  const { own, trustedClients: clients } = await initialized(directory)
  const evil = await selfSigned('\u001b[31mevil/../../etc')
  const file = keepRejected(clients, evil.der) as string
  t.match(file.slice(clients.length), /^\/rejected\/certs\/[A-Za-z0-9._-]+ \[[0-9A-F]{40}\]\.der$/)
  t.notMatch(headgate('list', directory).out, /\u001b/)
  store(clients, 'trusted', 'junk.der', Buffer.alloc(100, 0x30))
  store(clients, 'trusted', 'large.der', Buffer.alloc(70_000))
  store(clients, 'trustedLists', 'junk.crl', Buffer.from('junk'))
  mkdirSync(join(clients, 'trusted', 'certs', 'folder'))
  const { warnings } = await loadPki({ own, trustedClients: clients, trustedServers: clients })
  t.match(warnings.sort(), [/junk\.der: a certificate that cannot be read/, /large\.der: 70000 bytes/, /junk\.crl/])
  t.match(headgate('list', directory), { code: 2, err: /junk\.der/ })
})

t.test('revocation lists: of an authority in the list, signed by it, the newest', async (t) => {
  const directory = t.testdir({})
  const directories = await initialized(directory)
  const [authority, other] = [await Authority.make('Plant CA'), await Authority.make('Plant CA')]
  store(directories.trustedClients, 'trusted', 'ca.der', authority.der)
  const without = await loadPki(directories)
  t.match(without.warnings, [/ca\.der: an authority without a revocation list/])
  store(directories.trustedClients, 'trustedLists', 'a.crl', await authority.revoke(['01']))
  await new Promise((resolve) => setTimeout(resolve, 1100))
  store(directories.trustedClients, 'trustedLists', 'b.crl', await authority.revoke(['01', '0a0b']))
  store(directories.trustedClients, 'trustedLists', 'forged.crl', await other.revoke([]))
  const { data, warnings, expiries } = await loadPki(directories)
  t.match(warnings, [/forged\.crl: a revocation list of no authority in this trust list, or not signed by it/])
  t.match(data.clients.revocations, [{ serials: ['1', 'A0B'] }])
  t.equal(expiries.filter(({ kind }) => kind === 'crl').length, 2)
})
