/**
 * Application instance certificates (OPC 10000-6 §6.2.2): what of one is judged, read once. OpenSSL reads them; what
 * Node.js does not hand on, the key usage, is read here.
 */
import { createHash, type KeyObject, X509Certificate } from 'node:crypto'

/** Bits of the KeyUsage extension (RFC 5280 §4.2.1.3). */
export const KEY_USAGE = {
  digitalSignature: 1,
  nonRepudiation: 2,
  keyEncipherment: 4,
  dataEncipherment: 8,
  keyAgreement: 16,
  keyCertSign: 32,
  cRLSign: 64,
} as const

/** A chain has no more certificates than this, the leaf included. */
export const MAX_CHAIN = 5
/** The most bytes that a certificate may take. */
const MAX_CERTIFICATE = 8192

export interface Certificate {
  der: Uint8Array
  x509: X509Certificate
  /** SHA-1 of the DER: as bytes, and in lower-case hex. */
  thumbprint: Uint8Array
  thumbprintHex: string
  key: KeyObject
  /** Length of an RSA key, in bits; 0 for other kinds of key. */
  keyBits: number
  /** URIs of the subject alternative name; the first is the application's. */
  uris: string[]
  /** Milliseconds since 1970. */
  notBefore: number
  notAfter: number
  /** Bits of `KEY_USAGE`; -1 where the extension is missing. */
  keyUsage: number
  ca: boolean
  selfIssued: boolean
}

/** @returns null where `der` is no certificate that can be read */
export function readCertificate(der: Uint8Array): Certificate | null {
  if (der.length === 0 || der.length > MAX_CERTIFICATE || certificateLength(der, 0) !== der.length) return null
  try {
    const bytes = Uint8Array.from(der)
    const x509 = new X509Certificate(bytes)
    const key = x509.publicKey
    const thumbprint = createHash('sha1').update(bytes).digest()
    return {
      der: bytes,
      x509,
      thumbprint,
      thumbprintHex: thumbprint.toString('hex'),
      key,
      keyBits: key.asymmetricKeyType === 'rsa' ? (key.asymmetricKeyDetails?.modulusLength ?? 0) : 0,
      uris: urisOf(x509.subjectAltName ?? ''),
      notBefore: Date.parse(x509.validFrom),
      notAfter: Date.parse(x509.validTo),
      keyUsage: keyUsageOf(bytes),
      ca: x509.ca,
      selfIssued: x509.subject === x509.issuer,
    }
  } catch {
    return null
  }
}

/**
 * A chain as it is sent: certificates one behind the other, the leaf first (OPC 10000-6 §6.2.3).
 * @returns null where it is none
 */
export function splitChain(bytes: Uint8Array): Uint8Array[] | null {
  const chain: Uint8Array[] = []
  for (let at = 0; at < bytes.length; ) {
    const length = certificateLength(bytes, at)
    if (length === -1 || chain.length === MAX_CHAIN) return null
    chain.push(bytes.subarray(at, at + length))
    at += length
  }
  return chain.length === 0 ? null : chain
}

/** Length of the DER SEQUENCE at `at`, its header included; -1 where there is none that fits. */
function certificateLength(bytes: Uint8Array, at: number): number {
  const element = readElement(bytes, at, bytes.length)
  return element === null || element.tag !== 0x30 ? -1 : element.end - at
}

/** `subjectAltName` as Node.js prints it: `URI:urn:a:b, DNS:x, URI:"with, a comma"`. */
function urisOf(names: string): string[] {
  const uris: string[] = []
  for (const [, quoted, plain] of names.matchAll(/(?:^|, )URI:(?:("(?:[^"\\]|\\.)*")|([^,]*))/g)) {
    if (quoted === undefined) uris.push(plain)
    else {
      try {
        uris.push(JSON.parse(quoted))
      } catch {
        // Not one that OpenSSL's text can be taken back from: it is no application URI.
      }
    }
  }
  return uris
}

interface Element {
  tag: number
  start: number
  end: number
}

/** The DER element at `at` (X.690 §8.1), of one tag byte and a length of at most three; null where it does not fit. */
function readElement(bytes: Uint8Array, at: number, end: number): Element | null {
  if (end - at < 2) return null
  let length = bytes[at + 1]
  let start = at + 2
  if (length >= 0x80) {
    const count = length & 0x7f
    if (count === 0 || count > 3 || end - start < count) return null
    length = 0
    for (let i = 0; i < count; i++) length = (length << 8) | bytes[start + i]
    start += count
  }
  return length > end - start ? null : { tag: bytes[at], start, end: start + length }
}

/** The elements within one. */
function* within(bytes: Uint8Array, { start, end }: Element): Generator<Element> {
  for (let at = start; at < end; ) {
    const element = readElement(bytes, at, end)
    if (element === null) return
    yield element
    at = element.end
  }
}

/** 2.5.29.15 */
const KEY_USAGE_ID = Buffer.from('0603551d0f', 'hex')

/** Bits of the KeyUsage extension; -1 where there is none. Bit 0 of the BIT STRING is its first byte's highest. */
function keyUsageOf(der: Uint8Array): number {
  const certificate = readElement(der, 0, der.length)
  const tbs = certificate && readElement(der, certificate.start, certificate.end)
  if (!tbs) return -1
  for (const field of within(der, tbs)) {
    // [3] extensions
    if (field.tag !== 0xa3) continue
    const list = readElement(der, field.start, field.end)
    if (list === null) return -1
    for (const extension of within(der, list)) {
      const parts = [...within(der, extension)]
      const id = parts[0]
      if (id === undefined || !KEY_USAGE_ID.equals(der.subarray(extension.start, id.end))) continue
      const octets = parts.at(-1)
      const bits = octets && readElement(der, octets.start, octets.end)
      if (bits?.tag !== 0x03 || bits.end - bits.start < 2) return -1
      let usage = 0
      for (let bit = 0; bit < 8; bit++) if ((der[bits.start + 1] & (0x80 >> bit)) !== 0) usage |= 1 << bit
      return usage
    }
  }
  return -1
}
