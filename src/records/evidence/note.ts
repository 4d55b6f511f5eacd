/**
 * Signed notes (C2SP signed-note, https://c2sp.org/signed-note) with Ed25519, and the checkpoints of an evidence file
 * as such. A checkpoint's text has the three lines of C2SP tlog-checkpoint: origin, number of records, hash. The hash is
 * the head of the chain, and no Merkle root: a tool that checks signed notes can check it, a Merkle proof cannot be had.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, hash, type KeyObject, sign, verify } from 'node:crypto'
import type { Head } from './chain.ts'

/** Signature type identifier of Ed25519. */
const ED25519 = 0x01
/** DER of a SubjectPublicKeyInfo for Ed25519 (RFC 8410 §4), up to the 32 bytes of the key. */
const SPKI = Buffer.from('302a300506032b6570032100', 'hex')
/** Most signatures of a note that are looked at. */
const MAX_SIGNATURES = 16

export interface VerifierKey {
  name: string
  /** First four bytes of SHA-256(name, line feed, type, key). */
  id: Buffer
  key: KeyObject
  /** `name+id+key`, as the format writes it. */
  text: string
}

export interface SignerKey {
  verifier: VerifierKey
  key: KeyObject
}

function verifierOf(name: string, raw: Buffer): VerifierKey {
  const typed = Buffer.concat([Buffer.from([ED25519]), raw])
  const id = hash('sha256', Buffer.concat([Buffer.from(`${name}\n`), typed]), 'buffer').subarray(0, 4)
  const key = createPublicKey({ key: Buffer.concat([SPKI, raw]), format: 'der', type: 'spki' })
  return { name, id, key, text: `${name}+${id.toString('hex')}+${typed.toString('base64')}` }
}

/** A verifier key from its text. @throws Error with one line that says what is wrong */
export function parseVerifierKey(text: string): VerifierKey {
  const match = /^([^\s+]{1,256})\+([0-9a-f]{8})\+([A-Za-z0-9+/]{43,44}=?)$/.exec(text.trim())
  const typed = match === null ? Buffer.alloc(0) : Buffer.from(match[3], 'base64')
  if (match === null || typed.length !== 33 || typed[0] !== ED25519) {
    throw new Error('not a verifier key: expected name+id+key of an Ed25519 signed note')
  }
  const verifier = verifierOf(match[1], typed.subarray(1))
  if (verifier.id.toString('hex') !== match[2]) throw new Error('the id in the verifier key is not that of its key')
  return verifier
}

/** A new Ed25519 key, as PEM (PKCS #8). */
export const newKey = (): string =>
  generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' }) as string

/** @throws Error where the PEM holds no Ed25519 key */
export function signerOf(pem: string): SignerKey {
  const key = createPrivateKey(pem)
  if (key.asymmetricKeyType !== 'ed25519') throw new Error(`expected an Ed25519 key, found ${key.asymmetricKeyType}`)
  const raw = createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(SPKI.length)
  // The name tells keys apart, whatever the gateway is called: it is made from the key.
  const name = `headgate-evidence/${hash('sha256', raw, 'hex').slice(0, 16)}`
  return { verifier: verifierOf(name, raw), key }
}

/** The text of a checkpoint: all records before `head.seq` are in the chain that ends in `head.hash`. */
export const checkpointText = (origin: string, head: Head): string =>
  `${origin}\n${head.seq}\n${Buffer.from(head.hash, 'hex').toString('base64')}\n`

/** @param text ends in a line feed */
export function signNote(text: string, signer: SignerKey): string {
  const { verifier, key } = signer
  const signature = Buffer.concat([verifier.id, sign(null, Buffer.from(text), key)])
  return `${text}\n— ${verifier.name} ${signature.toString('base64')}\n`
}

export interface Checkpoint extends Head {
  origin: string
}

/**
 * Opens a signed checkpoint.
 * @returns what it says, or in words why it says nothing that can be relied on
 */
export function openCheckpoint(note: string, keys: readonly VerifierKey[]): Checkpoint | string {
  const end = note.lastIndexOf('\n\n')
  if (end < 0 || !note.endsWith('\n') || note.length > 65536) return 'not a signed note'
  const text = note.slice(0, end + 1)
  let signed = false
  for (const line of note
    .slice(end + 2, -1)
    .split('\n')
    .slice(0, MAX_SIGNATURES)) {
    const match = /^— (\S+) ([A-Za-z0-9+/]+={0,2})$/.exec(line)
    if (match === null) return 'a signature line of the note is malformed'
    const signature = Buffer.from(match[2], 'base64')
    const known = keys.find((key) => key.name === match[1] && key.id.equals(signature.subarray(0, 4)))
    if (known === undefined) continue
    if (!verify(null, Buffer.from(text), known.key, signature.subarray(4))) return 'the signature is wrong'
    signed = true
  }
  return signed ? readCheckpoint(note) : 'no signature by a known key'
}

/** As `openCheckpoint`, without a look at the signatures. */
export function readCheckpoint(note: string): Checkpoint | string {
  const match = /^([^\n]+)\n(0|[1-9]\d{0,15})\n([A-Za-z0-9+/]{43}=)\n/.exec(note)
  if (match === null) return 'the note is no checkpoint'
  return { origin: match[1], seq: Number(match[2]), hash: Buffer.from(match[3], 'base64').toString('hex') }
}
