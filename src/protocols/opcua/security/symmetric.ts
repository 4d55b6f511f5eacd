/**
 * Chunks of a secure channel once it is open: MSG and CLO, signed by HMAC and, in SignAndEncrypt, encrypted by AES in
 * CBC mode (OPC 10000-6 §6.7.2, §6.7.3). What is signed includes the padding, and the signature stands at the end, so
 * that it is checked before anything that it covers is looked at: there is no padding to be asked about.
 */
import {
  type Cipheriv,
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  type Decipheriv,
  type KeyObject,
  timingSafeEqual,
} from 'node:crypto'
import { AT, setU32 } from '../chunk.ts'
import { SECURITY_MODE, type SecurityModeValue, type SecurityPolicy } from './policies.ts'

const BLOCK = 16
/** Encryption begins here: behind the message header, the channel's id and the token's. */
const PLAIN_HEADER = AT.sequence
/** Sequence number and request id. */
const SEQUENCE_HEADER = 8

/** One direction of one security token: seals what this end sends, or opens what the other end has sent. */
export class ChannelKeys {
  private readonly hash: 'sha1' | 'sha256'
  private readonly mac: number
  private readonly signing: KeyObject
  private readonly encrypting: KeyObject
  private readonly algorithm: string
  private readonly iv: Uint8Array
  private readonly encrypts: boolean
  /**
   * Each chunk starts from the same vector, yet one cipher serves them all: what its chain has left of the chunk before
   * is taken out of the first block again. A cipher made for each chunk costs 1 µs more (bench: opcua).
   */
  private cipher: Cipheriv | null = null
  private decipher: Decipheriv | null = null
  private readonly chain = new Uint8Array(BLOCK)

  /** What `open` has found: the bytes that hold the sequence header and the body, and where they do. */
  plain: Uint8Array = this.chain
  /** Offset of the sequence header in `plain`; the body begins 8 bytes later. */
  plainStart = 0
  /** Where the body ends in `plain`. */
  plainEnd = 0

  constructor(
    policy: SecurityPolicy,
    mode: SecurityModeValue,
    signing: Uint8Array,
    encrypting: Uint8Array,
    iv: Uint8Array,
  ) {
    this.hash = policy.hash
    this.mac = policy.macBytes
    this.signing = createSecretKey(signing)
    this.encrypting = createSecretKey(encrypting)
    this.algorithm = policy.cipher
    this.iv = Uint8Array.from(iv)
    this.encrypts = mode === SECURITY_MODE.SignAndEncrypt
    this.chain.set(iv)
  }

  /** The most that a body may have for its chunk to take no more than `chunk` bytes. */
  bodyRoom(chunk: number): number {
    if (!this.encrypts) return chunk - AT.body - this.mac
    const blocks = Math.floor((chunk - PLAIN_HEADER) / BLOCK) * BLOCK
    return blocks - SEQUENCE_HEADER - this.mac - 1
  }

  /**
   * Secures a chunk whose headers and body lie in `buf` from `start` on; writes its size. `buf` must have room behind
   * it for padding and signature (at most 48 bytes).
   * @returns where the chunk ends
   */
  seal(buf: Uint8Array, start: number, bodyEnd: number): number {
    let end = bodyEnd
    if (this.encrypts) {
      const rest = (end - start - PLAIN_HEADER + 1 + this.mac) % BLOCK
      const padding = rest === 0 ? 0 : BLOCK - rest
      buf.fill(padding, end, end + padding + 1)
      end += padding + 1
    }
    setU32(buf, start + 4, end + this.mac - start)
    buf.set(createHmac(this.hash, this.signing).update(buf.subarray(start, end)).digest(), end)
    end += this.mac
    if (this.encrypts) this.encrypt(buf, start + PLAIN_HEADER, end)
    return end
  }

  private encrypt(buf: Uint8Array, from: number, to: number): void {
    const { chain, iv } = this
    this.cipher ??= createCipheriv(this.algorithm, this.encrypting, iv).setAutoPadding(false)
    for (let i = 0; i < BLOCK; i++) buf[from + i] ^= iv[i] ^ chain[i]
    const sealed = this.cipher.update(buf.subarray(from, to))
    buf.set(sealed, from)
    const last = sealed.length - BLOCK
    for (let i = 0; i < BLOCK; i++) chain[i] = sealed[last + i]
  }

  /**
   * Verifies, and decrypts where it has to, the chunk [start, end) of `buf`, which is not altered. `plain`, `plainStart`
   * and `plainEnd` then say where its contents lie.
   * @returns false where it is not what the holder of the keys has sent; nothing says why
   */
  open(buf: Uint8Array, start: number, end: number): boolean {
    if (!this.encrypts) {
      const bodyEnd = end - this.mac
      if (bodyEnd < start + AT.body) return false
      const digest = createHmac(this.hash, this.signing).update(buf.subarray(start, bodyEnd)).digest()
      this.plain = buf
      this.plainStart = start + AT.sequence
      this.plainEnd = bodyEnd
      return timingSafeEqual(digest, buf.subarray(bodyEnd, end))
    }
    const length = end - start - PLAIN_HEADER
    if (length < SEQUENCE_HEADER + 1 + this.mac || length % BLOCK !== 0) return false
    const plain = this.decrypt(buf, start + PLAIN_HEADER, end)
    const signed = length - this.mac
    const digest = createHmac(this.hash, this.signing)
      .update(buf.subarray(start, start + PLAIN_HEADER))
      .update(plain.subarray(0, signed))
      .digest()
    if (!timingSafeEqual(digest, plain.subarray(signed))) return false
    const bodyEnd = signed - 1 - plain[signed - 1]
    if (bodyEnd < SEQUENCE_HEADER) return false
    this.plain = plain
    this.plainStart = 0
    this.plainEnd = bodyEnd
    return true
  }

  private decrypt(buf: Uint8Array, from: number, to: number): Uint8Array {
    const { chain, iv } = this
    this.decipher ??= createDecipheriv(this.algorithm, this.encrypting, iv).setAutoPadding(false)
    const plain = this.decipher.update(buf.subarray(from, to))
    for (let i = 0; i < BLOCK; i++) plain[i] ^= iv[i] ^ chain[i]
    const last = to - BLOCK
    for (let i = 0; i < BLOCK; i++) chain[i] = buf[last + i]
    return plain
  }
}
