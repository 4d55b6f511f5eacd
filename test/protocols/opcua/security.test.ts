/**
 * The cryptography of secure channels: published vectors, another implementation (node-opcua-crypto) on the other end,
 * and what has been tampered with.
 */
import {
  constants,
  createCipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto'
import {
  computeDerivedKeys,
  decryptBufferWithDerivedKeys,
  encryptBufferWithDerivedKeys,
  makeMessageChunkSignatureWithDerivedKeys,
  makePseudoRandomBuffer,
} from 'node-opcua-crypto'
import t from 'tap'
import { readCertificate, splitChain } from '../../../src/protocols/opcua/security/certificate.ts'
import { channelKeys, pHash } from '../../../src/protocols/opcua/security/derive.ts'
import { openAsymmetric, readOpenHeader, sealOpen } from '../../../src/protocols/opcua/security/open-chunk.ts'
import { policyByName, SECURITY_MODE, SECURITY_POLICIES } from '../../../src/protocols/opcua/security/policies.ts'
import { decrypt, encrypt, sign, verify } from '../../../src/protocols/opcua/security/rsa.ts'
import { type TrustData, TrustList } from '../../../src/protocols/opcua/security/trust.ts'
import {
  isFramed,
  openSecret,
  sealFramedSecret,
  sealSecret,
} from '../../../src/protocols/opcua/terminate/user-token.ts'
import { Authority, type Holder, selfSigned } from '../../support/opcua-pki.ts'

const SECURED = SECURITY_POLICIES.filter(({ name }) => name !== 'None')
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex')

t.test('P_SHA256: the vector that the IETF TLS list has published for TLS 1.2', async (t) => {
  const secret = hex('9bbe436ba940f017b17652849a71db35')
  const seed = Buffer.concat([Buffer.from('test label'), hex('a0ba9f936cda311827a6f796ffd5198c')])
  const expected = hex(`e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a
    6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42
    c5a72e5a5110fff70187347b66`)
  t.same(pHash('sha256', secret, seed, 100), expected)
})

t.test('P_SHA1 and P_SHA256: as node-opcua-crypto derives', async (t) => {
  const [secret, seed] = [Buffer.alloc(32, 7), Buffer.from('0123456789abcdef0123456789abcdef')]
  for (const length of [16, 20, 96, 133]) {
    t.same(pHash('sha1', secret, seed, length), makePseudoRandomBuffer(secret, seed, length, 'SHA1'))
    t.same(pHash('sha256', secret, seed, length), makePseudoRandomBuffer(secret, seed, length, 'SHA256'))
  }
})

/** node-opcua's parameters of a policy. */
const foreignOptions = (policy: (typeof SECURED)[number]) => ({
  signatureLength: policy.macBytes,
  signingKeyLength: policy.signingKeyBytes,
  encryptingKeyLength: policy.encryptingKeyBytes,
  encryptingBlockSize: 16,
  algorithm: policy.cipher,
  sha1or256: policy.hash === 'sha1' ? ('SHA1' as const) : ('SHA256' as const),
})

function chunk(body: Buffer): Buffer {
  const buf = Buffer.alloc(24 + body.length + 64)
  buf.write('MSGF')
  buf.writeUInt32LE(5, 8)
  buf.writeUInt32LE(6, 12)
  buf.writeUInt32LE(51, 16)
  buf.writeUInt32LE(1, 20)
  body.copy(buf, 24)
  return buf
}

t.test('chunks: sealed here and opened by node-opcua-crypto, and the other way', async (t) => {
  const [client, server] = [randomBytes(32), randomBytes(32)]
  for (const policy of SECURED) {
    const options = foreignOptions(policy)
    const derived = computeDerivedKeys(server, client, options)
    for (const mode of [SECURITY_MODE.Sign, SECURITY_MODE.SignAndEncrypt]) {
      const sealer = channelKeys(policy, mode, client, server)
      const opener = channelKeys(policy, mode, client, server)
      for (const length of [1, 15, 16, 17, 120, 8000, 65_000]) {
        const body = randomBytes(length)
        const buf = chunk(body)
        const end = sealer.seal(buf, 0, 24 + length)
        t.equal(buf.readUInt32LE(4), end)
        const sealed = Buffer.from(buf.subarray(0, end))
        let plain = sealed
        if (mode === SECURITY_MODE.SignAndEncrypt) {
          plain = Buffer.concat([sealed.subarray(0, 16), decryptBufferWithDerivedKeys(sealed.subarray(16), derived)])
          t.ok(!sealed.includes(body.subarray(0, 15)) || length < 15, 'the body is not in it')
        }
        const signed = plain.subarray(0, plain.length - policy.macBytes)
        t.same(makeMessageChunkSignatureWithDerivedKeys(signed, derived), plain.subarray(-policy.macBytes))
        t.same(plain.subarray(24, 24 + length), body)
        t.equal(opener.open(sealed, 0, end), true)
        t.same(Buffer.from(opener.plain.subarray(opener.plainStart + 8, opener.plainEnd)), body)
      }
      // What node-opcua seals: its padding and signature, then its encryption.
      const body = randomBytes(100)
      const head = chunk(body).subarray(0, 124)
      const padding = mode === SECURITY_MODE.SignAndEncrypt ? 15 - ((108 + policy.macBytes) % 16) : -1
      const padded = Buffer.concat([head, Buffer.alloc(padding + 1, padding)])
      padded.writeUInt32LE(padded.length + policy.macBytes, 4)
      const whole = Buffer.concat([padded, makeMessageChunkSignatureWithDerivedKeys(padded, derived)])
      const foreign =
        mode === SECURITY_MODE.Sign
          ? whole
          : Buffer.concat([whole.subarray(0, 16), encryptBufferWithDerivedKeys(whole.subarray(16), derived)])
      t.equal(opener.open(foreign, 0, foreign.length), true, `${policy.name} ${mode}`)
      t.same(Buffer.from(opener.plain.subarray(opener.plainStart + 8, opener.plainEnd)), body)
    }
  }
})

t.test('chunks: no byte can be changed, none removed, none opened with other keys', async (t) => {
  const nonces = [randomBytes(32), randomBytes(32)]
  for (const policy of SECURED) {
    for (const mode of [SECURITY_MODE.Sign, SECURITY_MODE.SignAndEncrypt]) {
      const keys = () => channelKeys(policy, mode, nonces[0], nonces[1])
      const buf = chunk(Buffer.alloc(60, 1))
      const end = keys().seal(buf, 0, 84)
      let opened = 0
      for (let at = 0; at < end; at++) {
        const altered = Buffer.from(buf.subarray(0, end))
        altered[at] ^= 1
        if (keys().open(altered, 0, end)) opened++
      }
      for (let shorter = 1; shorter < end; shorter++) if (keys().open(buf, 0, end - shorter)) opened++
      if (channelKeys(policy, mode, nonces[1], nonces[0]).open(buf, 0, end)) opened++
      t.equal(opened, 0, `${policy.name} ${mode}`)
    }
  }
})

t.test('chunks: as large as the room for their body says, and no larger', async (t) => {
  for (const policy of SECURED) {
    for (const mode of [SECURITY_MODE.Sign, SECURITY_MODE.SignAndEncrypt]) {
      const keys = channelKeys(policy, mode, randomBytes(32), randomBytes(32))
      for (let size = 8192; size < 8192 + 16; size++) {
        const room = keys.bodyRoom(size)
        const end = (body: number) => keys.seal(chunk(Buffer.alloc(body)), 0, 24 + body)
        t.ok(end(room) <= size)
        t.ok(end(room + 1) > size)
      }
    }
  }
})

const pairs = new Map<number, Holder>()
t.before(async () => {
  for (const bits of [2048, 3072, 4096]) pairs.set(bits, await selfSigned(`k${bits}`, bits))
})
const holder = (bits: number) => {
  const { der, keyPem } = pairs.get(bits) as Holder
  const certificate = readCertificate(der)
  if (certificate === null) throw new Error('unreadable')
  return { der, certificate, key: createPrivateKey(keyPem) }
}

t.test('OPN: sealed and opened with keys of 2048 to 4096 bits, of one length or two', async (t) => {
  for (const policy of SECURED) {
    const lengths = policy.keyBits[1] < 4096 ? [2048] : [2048, 3072, 4096]
    for (const from of lengths) {
      for (const to of lengths) {
        const [sender, receiver] = [holder(from), holder(to)]
        for (const length of [132, 133, 300, 700]) {
          const body = randomBytes(length)
          const sealed = sealOpen(9, policy.uri, 51, 7, body, {
            policy,
            certificates: sender.der,
            key: sender.key,
            thumbprint: receiver.certificate.thumbprint,
            receiver: receiver.certificate.key,
          })
          t.equal(sealed.readUInt32LE(4), sealed.length)
          const header = readOpenHeader(sealed, 0, sealed.length)
          if (header === null) throw new Error('no header')
          t.equal(header.policyUri, policy.uri)
          t.same(Buffer.from(header.certificates), sender.der)
          const open = (buf: Buffer) =>
            openAsymmetric(policy, receiver.key, sender.certificate.key, buf, 0, header.end, buf.length)
          const opened = open(sealed)
          t.match(opened, { sequence: 51, requestId: 7 }, `${policy.name} ${from} ${to} ${length}`)
          t.same(Buffer.from(opened?.body ?? []), body)
          for (const at of [8, header.end - 1, header.end, header.end + 200, sealed.length - 1]) {
            const altered = Buffer.from(sealed)
            altered[at] ^= 1
            t.equal(open(altered), null, `altered at ${at}`)
          }
          t.equal(open(sealed.subarray(0, -1)), null, 'cut short')
        }
      }
    }
  }
})

t.test('OPN: None has no keys', async (t) => {
  const sealed = sealOpen(0, policyByName('None').uri, 1, 2, Buffer.from('body'), null)
  const header = readOpenHeader(sealed, 0, sealed.length)
  t.match(header, { channelId: 0, policyUri: policyByName('None').uri })
  t.equal(sealed.toString('latin1').endsWith('body'), true)
})

t.test('OPN: headers that do not hold', async (t) => {
  const good = sealOpen(0, policyByName('None').uri, 1, 2, Buffer.from('body'), null)
  for (let cut = 1; cut < good.length; cut++) {
    t.ok(readOpenHeader(good, 0, good.length - cut) === null || cut <= 4, `${cut} bytes less`)
  }
  for (const at of [12, 12 + 4 + 47, 12 + 4 + 47 + 4]) {
    const altered = Buffer.from(good)
    altered.writeInt32LE(0x7fffffff, at)
    t.equal(readOpenHeader(altered, 0, altered.length), null)
    altered.writeInt32LE(-2, at)
    t.equal(readOpenHeader(altered, 0, altered.length), null)
  }
})

t.test('signatures and encryption: as OpenSSL makes them by the parameters of each policy', async (t) => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const { createSign, createVerify, privateDecrypt, publicEncrypt } = await import('node:crypto')
  const parameters = {
    Basic128Rsa15: ['RSA-SHA1', constants.RSA_PKCS1_PADDING, constants.RSA_PKCS1_PADDING, 'sha1'],
    Basic256: ['RSA-SHA1', constants.RSA_PKCS1_PADDING, constants.RSA_PKCS1_OAEP_PADDING, 'sha1'],
    Basic256Sha256: ['RSA-SHA256', constants.RSA_PKCS1_PADDING, constants.RSA_PKCS1_OAEP_PADDING, 'sha1'],
    Aes128_Sha256_RsaOaep: ['RSA-SHA256', constants.RSA_PKCS1_PADDING, constants.RSA_PKCS1_OAEP_PADDING, 'sha1'],
    Aes256_Sha256_RsaPss: ['RSA-SHA256', constants.RSA_PKCS1_PSS_PADDING, constants.RSA_PKCS1_OAEP_PADDING, 'sha256'],
  } as const
  for (const policy of SECURED) {
    const [hash, signing, encrypting, oaepHash] = parameters[policy.name as keyof typeof parameters]
    const data = Buffer.from('signed')
    const signature = sign(policy, privateKey, data)
    t.equal(createVerify(hash).update(data).verify({ key: publicKey, padding: signing }, signature), true)
    t.equal(
      verify(
        policy,
        publicKey,
        createSign(hash).update(data).sign({ key: privateKey, padding: signing, saltLength: 32 }),
        data,
      ),
      true,
    )
    t.equal(verify(policy, publicKey, signature, Buffer.from('signeD')), false)
    t.equal(verify(policy, publicKey, Buffer.alloc(3), data), false)
    const secret = randomBytes(500)
    const sealed = encrypt(policy, publicKey, secret)
    const first = privateDecrypt({ key: privateKey, padding: encrypting, oaepHash }, sealed.subarray(0, 256))
    t.same(first, secret.subarray(0, first.length))
    t.same(decrypt(policy, privateKey, sealed), secret)
    t.equal(decrypt(policy, privateKey, sealed.subarray(1)), null)
    t.same(decrypt(policy, privateKey, publicEncrypt({ key: publicKey, padding: encrypting, oaepHash }, data)), data)
  }
})

t.test('secrets of users: opened by whom they are meant for, and for now', async (t) => {
  const { key, certificate } = holder(2048)
  const other = holder(3072)
  const nonce = randomBytes(32)
  const secret = Buffer.from('geheim')
  for (const policy of SECURED) {
    const sealed = sealSecret(policy, certificate.key, nonce, secret)
    t.same(openSecret(policy, key, nonce, sealed), new Uint8Array(secret), policy.name)
    t.equal(openSecret(policy, key, randomBytes(32), sealed), null, 'for another nonce')
    t.equal(openSecret(policy, other.key, nonce, sealed), null, 'for another')
    t.equal(openSecret(policy, key, nonce, sealed.subarray(1)), null)
    t.equal(openSecret(policy, key, nonce, randomBytes(256)), null)
    const long = randomBytes(700)
    t.same(openSecret(policy, key, nonce, sealSecret(policy, certificate.key, nonce, long)), new Uint8Array(long))
    // A length that runs out of what is there, and one that is less than the nonce.
    for (const length of [0xffffffff, 1000, 31, 0]) {
      const plain = Buffer.concat([Buffer.alloc(4), secret, nonce])
      plain.writeUInt32LE(length)
      t.equal(openSecret(policy, key, nonce, encrypt(policy, certificate.key, plain)), null, `length ${length}`)
    }
  }
})

/** RsaEncryptedSecret (OPC 10000-4 §7.40.2.3), written by hand. */
function rsaEncryptedSecret(policy: (typeof SECURED)[number], to: KeyObject, nonce: Buffer, secret: Buffer): Buffer {
  const string = (bytes: Buffer): Buffer => {
    const length = Buffer.alloc(4)
    length.writeInt32LE(bytes.length)
    return Buffer.concat([length, bytes])
  }
  const [signing, encrypting, iv] = [policy.signingKeyBytes, policy.encryptingKeyBytes, 16].map((length) =>
    randomBytes(length),
  )
  const keyData = encrypt(policy, to, Buffer.concat([string(signing), string(encrypting), string(iv)]))
  const keyLength = Buffer.alloc(2)
  keyLength.writeUInt16LE(keyData.length)
  const clear = Buffer.concat([string(nonce), string(secret)])
  const padding = (16 - ((clear.length + 2) % 16)) % 16
  const cipher = createCipheriv(policy.cipher, encrypting, iv).setAutoPadding(false)
  const size = Buffer.alloc(2)
  size.writeUInt16LE(padding)
  const payload = cipher.update(Buffer.concat([clear, Buffer.alloc(padding, padding), size]))
  const body = Buffer.concat([
    string(Buffer.from(policy.uri)),
    string(Buffer.alloc(20)),
    Buffer.alloc(8),
    keyLength,
    keyData,
    payload,
  ])
  const head = Buffer.from('010089440100000000', 'hex')
  head.writeUInt32LE(body.length + policy.macBytes, 5)
  const signed = Buffer.concat([head, body])
  return Buffer.concat([signed, createHmac(policy.hash, signing).update(signed).digest()])
}

t.test('secrets of users, as RsaEncryptedSecret', async (t) => {
  const { key, certificate } = holder(2048)
  const nonce = randomBytes(32)
  const secret = Buffer.from('ein längeres Geheimnis')
  for (const policy of SECURED) {
    const sealed = rsaEncryptedSecret(policy, certificate.key, nonce, secret)
    t.same(openSecret(policy, key, nonce, sealed), new Uint8Array(secret), policy.name)
    t.equal(openSecret(policy, key, randomBytes(32), sealed), null)
    const anew = sealFramedSecret(policy, certificate.key, certificate.thumbprint, nonce, secret, Date.now())
    t.same(openSecret(policy, key, nonce, anew), new Uint8Array(secret), 'as the gateway makes it for the server')
    t.same(
      [isFramed(sealed), isFramed(anew), isFramed(sealSecret(policy, certificate.key, nonce, secret))],
      [true, true, false],
    )
    let opened = 0
    for (let at = 9; at < sealed.length; at += 7) {
      const altered = Buffer.from(sealed)
      altered[at] ^= 1
      if (openSecret(policy, key, nonce, altered) !== null) opened++
    }
    for (let cut = 1; cut < sealed.length; cut += 13) {
      if (openSecret(policy, key, nonce, sealed.subarray(0, -cut)) !== null) opened++
    }
    t.equal(opened, 0, 'no byte can be changed')
  }
})

t.test('certificates: what is judged of them', async (t) => {
  const { der } = pairs.get(2048) as Holder
  const certificate = readCertificate(der)
  t.match(certificate, {
    uris: ['urn:headgate:test:k2048'],
    keyBits: 2048,
    ca: false,
    selfIssued: true,
    thumbprintHex: createHash('sha1').update(der).digest('hex'),
  })
  t.equal(certificate?.keyUsage, 1 | 2 | 4 | 8 | 32)
  t.equal(readCertificate(Buffer.concat([der, Buffer.of(0)])), null, 'a byte more')
  t.equal(readCertificate(der.subarray(0, -1)), null)
  t.same(splitChain(Buffer.concat([der, der])), [der, der])
  t.equal(splitChain(Buffer.concat([der, Buffer.of(0x30, 5)])), null)
  t.equal(splitChain(Buffer.alloc(0)), null)
  t.equal(splitChain(Buffer.concat(Array(6).fill(der))), null, 'a chain without end')
})

t.test('trust: the steps of OPC 10000-4 Table 106', async (t) => {
  const now = Date.now()
  const day = 86_400_000
  const root = await Authority.make('Root')
  const plant = await root.intermediate('Plant')
  const other = await Authority.make('Root')
  const good = await root.issue('good', { serialNumber: '01' })
  const policy = policyByName('Basic256Sha256')
  const { KeyUsageFlags } = await import('@peculiar/x509')
  const list = (holder: Authority, serials: string[] = [], nextUpdate: number | null = now + day) => ({
    issuer: readCertificate(holder.der)?.thumbprintHex as string,
    serials,
    nextUpdate,
  })
  const judge = (leaf: Buffer, data: Partial<TrustData>, sent: Buffer[] = [], by = policy) => {
    const read = (der: Buffer) => readCertificate(der) as NonNullable<ReturnType<typeof readCertificate>>
    const trust = new TrustList({ trusted: [], issuers: [], revocations: [], ...data })
    return trust.judge(read(leaf), sent.map(read), by, now)
  }
  const self = pairs.get(2048) as Holder
  t.equal(judge(self.der, { trusted: [self.der] }), 'Good')
  t.equal(judge(self.der, {}), 'BadCertificateUntrusted')
  t.equal(judge(self.der, { issuers: [self.der] }), 'BadCertificateUntrusted', 'issuers are not trusted')
  const revocations = [list(root)]
  t.equal(judge(good.der, { trusted: [root.der], revocations }), 'Good')
  t.equal(judge(good.der, { trusted: [good.der], issuers: [root.der], revocations }), 'Good')
  t.equal(judge(good.der, { issuers: [root.der], revocations }), 'BadCertificateUntrusted')
  t.equal(judge(good.der, { issuers: [root.der], revocations }, [root.der]), 'BadCertificateUntrusted')
  t.equal(judge(good.der, {}, [root.der]), 'BadCertificateUntrusted', 'a chain that vouches for itself')
  t.equal(judge(good.der, { trusted: [good.der] }), 'BadCertificateChainIncomplete')
  t.equal(judge(good.der, { trusted: [root.der] }), 'BadCertificateRevocationUnknown')
  t.equal(
    judge(good.der, { trusted: [root.der], revocations: [list(root, [], now - 1)] }),
    'BadCertificateRevocationUnknown',
  )
  t.equal(judge(good.der, { trusted: [root.der], revocations: [list(root, ['1'])] }), 'BadCertificateRevoked')
  t.equal(judge(good.der, { trusted: [root.der], revocations: [list(root, ['2'])] }), 'Good')
  const forged = judge(good.der, { trusted: [other.der], revocations: [list(other)] })
  t.ok(
    ['BadCertificateInvalid', 'BadCertificateUntrusted'].includes(forged),
    `another authority of that name: ${forged}`,
  )
  const leaf = await plant.issue('leaf')
  const both = [list(root), list(plant)]
  t.equal(judge(leaf.der, { trusted: [root.der], revocations: both }, [plant.der]), 'Good', 'the chain that was sent')
  t.equal(judge(leaf.der, { trusted: [root.der], issuers: [plant.der], revocations: both }), 'Good')
  t.equal(judge(leaf.der, { trusted: [plant.der], issuers: [root.der], revocations: both }), 'Good')
  t.equal(judge(leaf.der, { trusted: [root.der], revocations: both }), 'BadCertificateUntrusted', 'a link is missing')
  const serial = readCertificate(plant.der)?.x509.serialNumber as string
  const revokedIssuer = [list(root, [serial.replace(/^0+/, '')]), list(plant)]
  t.equal(
    judge(leaf.der, { trusted: [root.der], revocations: revokedIssuer }, [plant.der]),
    'BadCertificateIssuerRevoked',
  )
  t.equal(
    judge(leaf.der, { trusted: [root.der], revocations: [list(plant)] }, [plant.der]),
    'BadCertificateIssuerRevocationUnknown',
  )
  const past = await root.issue('past', { notBefore: new Date(now - 2 * day), notAfter: new Date(now - day) })
  const future = await root.issue('future', { notBefore: new Date(now + day), notAfter: new Date(now + 2 * day) })
  const signOnly = await root.issue('sign', { usage: KeyUsageFlags.digitalSignature })
  for (const [holder, status] of [
    [past, 'BadCertificateTimeInvalid'],
    [future, 'BadCertificateTimeInvalid'],
    [signOnly, 'BadCertificateUseNotAllowed'],
  ] as const) {
    t.equal(judge(holder.der, { trusted: [root.der], revocations }), status)
  }
  const large = pairs.get(4096) as Holder
  t.equal(
    judge(large.der, { trusted: [large.der] }, [], policyByName('Basic256')),
    'BadCertificatePolicyCheckFailed',
    '4096 bits with a policy of at most 2048',
  )
  t.equal(createPublicKey(createPrivateKey(good.keyPem)).asymmetricKeyType, 'rsa')
})
