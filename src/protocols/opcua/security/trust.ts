/**
 * Who is trusted: the steps of OPC 10000-4 §6.1.3 (Table 106) on a peer's certificate, against trust lists that were
 * read elsewhere and come as plain data. The checks that cost an RSA operation come last.
 */
import { type Certificate, KEY_USAGE, MAX_CHAIN, readCertificate } from './certificate.ts'
import type { SecurityPolicy } from './policies.ts'

/** A revocation list whose signature was verified when it was read. */
export interface Revocations {
  /** Thumbprint of the authority that has issued it, lower-case hex. */
  issuer: string
  /** Milliseconds since 1970; null: it does not say when the next comes. */
  nextUpdate: number | null
  /** Serial numbers, upper-case hex without leading zeros. */
  serials: string[]
}

/** Trust lists as they cross to the workers: DER certificates. */
export interface TrustData {
  trusted: Uint8Array[]
  /** Authorities that are not trusted by themselves, and complete chains. */
  issuers: Uint8Array[]
  revocations: Revocations[]
}

/** Status codes of OPC 10000-6 annex A.2 that a certificate is refused with. */
export const CERTIFICATE_STATUS = {
  Good: 0,
  BadCertificateInvalid: 0x80120000,
  BadCertificateTimeInvalid: 0x80140000,
  BadCertificateIssuerTimeInvalid: 0x80150000,
  BadCertificateUriInvalid: 0x80170000,
  BadCertificateUseNotAllowed: 0x80180000,
  BadCertificateIssuerUseNotAllowed: 0x80190000,
  BadCertificateUntrusted: 0x801a0000,
  BadCertificateRevocationUnknown: 0x801b0000,
  BadCertificateIssuerRevocationUnknown: 0x801c0000,
  BadCertificateRevoked: 0x801d0000,
  BadCertificateIssuerRevoked: 0x801e0000,
  BadCertificateChainIncomplete: 0x810d0000,
  BadCertificatePolicyCheckFailed: 0x81140000,
} as const
export type CertificateStatus = keyof typeof CERTIFICATE_STATUS

/** OPC 10000-6 Table 36: both, as the key signs and decrypts. nonRepudiation is asked for too, and often forgotten. */
const LEAF_USAGE = KEY_USAGE.digitalSignature | KEY_USAGE.keyEncipherment | KEY_USAGE.dataEncipherment

/** Verdicts on chains that are remembered. */
const REMEMBERED = 256

export class TrustList {
  private readonly trusted = new Map<string, Certificate>()
  private readonly authorities: Certificate[] = []
  private readonly revocations = new Map<string, { nextUpdate: number | null; serials: Set<string> }>()
  /** Chains that were found to hold, by the leaf's thumbprint and the policy: RSA once, not with every channel. */
  private readonly held = new Map<string, Certificate[]>()

  constructor(data: TrustData) {
    for (const der of data.trusted) this.add(der, true)
    for (const der of data.issuers) this.add(der, false)
    for (const { issuer, nextUpdate, serials } of data.revocations) {
      this.revocations.set(issuer, { nextUpdate, serials: new Set(serials) })
    }
  }

  private add(der: Uint8Array, trusted: boolean): void {
    const certificate = readCertificate(der)
    if (certificate === null) return
    if (trusted) this.trusted.set(certificate.thumbprintHex, certificate)
    if (certificate.ca) this.authorities.push(certificate)
  }

  /**
   * Judges a peer's certificate.
   * @param leaf the certificate; `sent`: those that came with it
   * @param now milliseconds since 1970
   */
  judge(leaf: Certificate, sent: readonly Certificate[], policy: SecurityPolicy, now: number): CertificateStatus {
    const [least, greatest] = policy.keyBits
    if (leaf.keyBits < least || leaf.keyBits > greatest) return 'BadCertificatePolicyCheckFailed'
    if (leaf.keyUsage !== -1 && (leaf.keyUsage & LEAF_USAGE) !== LEAF_USAGE) return 'BadCertificateUseNotAllowed'
    if (now < leaf.notBefore || now > leaf.notAfter) return 'BadCertificateTimeInvalid'
    const chain = this.chain(leaf, sent)
    if (typeof chain === 'string') return chain
    for (const [depth, certificate] of chain.entries()) {
      const issuer = chain[depth + 1]
      if (depth > 0 && (now < certificate.notBefore || now > certificate.notAfter)) {
        return 'BadCertificateIssuerTimeInvalid'
      }
      if (issuer === undefined) continue
      const list = this.revocations.get(issuer.thumbprintHex)
      if (list === undefined || (list.nextUpdate !== null && now > list.nextUpdate)) {
        return depth === 0 ? 'BadCertificateRevocationUnknown' : 'BadCertificateIssuerRevocationUnknown'
      }
      if (list.serials.has(serialOf(certificate))) {
        return depth === 0 ? 'BadCertificateRevoked' : 'BadCertificateIssuerRevoked'
      }
    }
    return 'Good'
  }

  /** The chain from the leaf to the authority that has signed itself; all of its signatures hold, and one is trusted. */
  private chain(leaf: Certificate, sent: readonly Certificate[]): Certificate[] | CertificateStatus {
    const known = this.held.get(leaf.thumbprintHex)
    if (known !== undefined) return known
    // Somebody who is not on the list, and whose issuer nobody here has heard of, is told so without an RSA operation.
    const listed = this.trusted.has(leaf.thumbprintHex)
    if (leaf.selfIssued && !listed) return 'BadCertificateUntrusted'
    const chain = [leaf]
    let trusted = listed
    while (!chain[chain.length - 1].selfIssued) {
      if (chain.length === MAX_CHAIN) return 'BadCertificateChainIncomplete'
      const last = chain[chain.length - 1]
      const issuer = this.issuerOf(last, sent)
      if (issuer === null) return trusted ? 'BadCertificateChainIncomplete' : 'BadCertificateUntrusted'
      if (issuer.keyUsage !== -1 && (issuer.keyUsage & KEY_USAGE.keyCertSign) === 0) {
        return 'BadCertificateIssuerUseNotAllowed'
      }
      chain.push(issuer)
      trusted ||= this.trusted.has(issuer.thumbprintHex)
    }
    if (!trusted) return 'BadCertificateUntrusted'
    for (const [depth, certificate] of chain.entries()) {
      const issuer = chain[depth + 1] ?? certificate
      if (!certificate.x509.verify(issuer.key)) return 'BadCertificateInvalid'
    }
    if (this.held.size >= REMEMBERED) this.held.clear()
    this.held.set(leaf.thumbprintHex, chain)
    return chain
  }

  private issuerOf(certificate: Certificate, sent: readonly Certificate[]): Certificate | null {
    const issued = (candidate: Certificate): boolean => candidate.ca && certificate.x509.checkIssued(candidate.x509)
    return this.authorities.find(issued) ?? sent.find(issued) ?? null
  }
}

/** As `Revocations` has it. */
export const serialOf = (certificate: Certificate): string => plainSerial(certificate.x509.serialNumber)

export const plainSerial = (hex: string): string => hex.toUpperCase().replace(/^0+(?=.)/, '')
