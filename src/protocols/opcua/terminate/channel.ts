/**
 * One secure channel, in either role: its tokens, its sequence numbers, and how messages are cut into chunks that the
 * other end takes (OPC 10000-6 §6.7, OPC 10000-4 §5.6.2).
 */
import { randomBytes } from 'node:crypto'
import { AT, follows, MESSAGE, SEQUENCE_WRAP, setU32, u32 } from '../chunk.ts'
import type { Certificate } from '../security/certificate.ts'
import { channelKeys } from '../security/derive.ts'
import { NONE, SECURITY_MODE, type SecurityModeValue, type SecurityPolicy } from '../security/policies.ts'
import type { ChannelKeys } from '../security/symmetric.ts'

/** The largest chunk that Headgate sends or takes. */
export const MAX_CHUNK = 65_536
/** A token is taken for so much longer than it lives (OPC 10000-4 §5.6.2.1). */
const GRACE = 1.25
/** Tokens that may be in use at one time: the one in use, one before, and those of renewals that were not used yet. */
const MAX_TOKENS = 4

export interface Token {
  id: number
  /** null with security mode None. */
  sending: ChannelKeys | null
  receiving: ChannelKeys | null
  /** Milliseconds on the worker's clock. */
  sinceMs: number
  lifetimeMs: number
}

/** Chunks are made here; whoever sends one has it copied before the next is made. */
const OUT = new Uint8Array(MAX_CHUNK + 128)

export class Channel {
  id = 0
  policy: SecurityPolicy = NONE
  mode: SecurityModeValue = SECURITY_MODE.None
  /** The other end's; null with None. */
  peer: Certificate | null = null
  /** Certificates that came with it. */
  chain: readonly Certificate[] = []
  /** The largest chunk that the other end takes. */
  sendSize = MAX_CHUNK
  /** The token that messages are sent with; null before the channel is open. */
  private sending: Token | null = null
  private tokens: Token[] = []
  private sent: number
  private received = -1

  /** What `open` has found. */
  requestId = 0
  /** The body of the chunk: [bodyStart, bodyEnd) of `plain`. */
  plain: Uint8Array = OUT
  bodyStart = 0
  bodyEnd = 0
  /** Why a chunk was refused, for the records alone. */
  refusal = ''

  constructor() {
    // §6.7.2.4: numbers start below 1024; not always at the same.
    this.sent = randomBytes(2).readUInt16LE() & 0x1ff
  }

  get isOpen(): boolean {
    return this.sending !== null
  }

  nextSequence(): number {
    this.sent = this.sent > SEQUENCE_WRAP ? 1 : this.sent + 1
    return this.sent
  }

  /** Whether `sequence` is the one that must come; then the next must follow it. */
  takeSequence(sequence: number): boolean {
    if (this.received !== -1 && !follows(sequence, this.received)) return false
    this.received = sequence
    return true
  }

  /**
   * A token that both ends now have the keys of.
   * @param use whether messages are sent with it at once: the client's role; the server waits until the client does
   */
  addToken(id: number, own: Uint8Array, other: Uint8Array, sinceMs: number, lifetimeMs: number, use: boolean): void {
    const { policy, mode } = this
    const secured = mode !== SECURITY_MODE.None
    const token: Token = {
      id,
      sending: secured ? channelKeys(policy, mode, own, other) : null,
      receiving: secured ? channelKeys(policy, mode, other, own) : null,
      sinceMs,
      lifetimeMs,
    }
    this.tokens.push(token)
    if (use || this.sending === null) this.sending = token
    if (this.tokens.length > MAX_TOKENS) this.tokens.splice(this.tokens[0] === this.sending ? 1 : 0, 1)
  }

  get newest(): Token | undefined {
    return this.tokens.at(-1)
  }

  /** Milliseconds until no token is taken any more; 0: none is. */
  expires(ms: number): number {
    const token = this.newest
    return token === undefined ? 0 : Math.max(0, GRACE * token.lifetimeMs - ((ms - token.sinceMs) | 0))
  }

  /**
   * Opens a chunk of MSG or CLO; `plain`, `bodyStart`, `bodyEnd` and `requestId` then tell of it.
   * @returns false where it must not be taken, and the channel must end; `refusal` says why
   */
  open(buf: Uint8Array, start: number, end: number, ms: number): boolean {
    if (end - start < AT.body || u32(buf, start + AT.channel) !== this.id) return this.refuse('channel id')
    const id = u32(buf, start + AT.token)
    let at = this.tokens.length - 1
    while (at >= 0 && this.tokens[at].id !== id) at--
    if (at < 0) return this.refuse('unknown token')
    const token = this.tokens[at]
    if (((ms - token.sinceMs) | 0) > GRACE * token.lifetimeMs) return this.refuse('token has expired')
    const { receiving } = token
    if (receiving === null) {
      this.plain = buf
      this.bodyStart = start + AT.body
      this.bodyEnd = end
    } else {
      if (!receiving.open(buf, start, end)) return this.refuse('signature')
      this.plain = receiving.plain
      this.bodyStart = receiving.plainStart + 8
      this.bodyEnd = receiving.plainEnd
    }
    if (!this.takeSequence(u32(this.plain, this.bodyStart - 8))) return this.refuse('sequence number')
    this.requestId = u32(this.plain, this.bodyStart - 4)
    if (token !== this.sending) this.advance(token, at)
    return true
  }

  /** The other end has used a token: what is sent is secured by it from now on, unless by a newer one already. */
  private advance(token: Token, at: number): void {
    const current = this.tokens.indexOf(this.sending as Token)
    if (at < current) return
    this.sending = token
    this.tokens.splice(0, Math.max(0, at - 1))
  }

  private refuse(why: string): false {
    this.refusal = why
    return false
  }

  /** The most bytes that a body may have in one chunk to the other end. */
  get bodyRoom(): number {
    const keys = this.sending?.sending ?? null
    return keys === null ? this.sendSize - AT.body : keys.bodyRoom(this.sendSize)
  }

  /**
   * Makes one chunk of bytes [from, to) of `body`, at most `bodyRoom` of them.
   * @param type of `MESSAGE`, `final` of `CHUNK`
   * @returns where it ends in `chunk`, from 0 on
   */
  seal(type: number, final: number, requestId: number, body: Uint8Array, from: number, to: number): number {
    const token = this.sending as Token
    setU32(OUT, 0, type)
    OUT[3] = final
    setU32(OUT, AT.channel, this.id)
    setU32(OUT, AT.token, token.id)
    setU32(OUT, AT.sequence, this.nextSequence())
    setU32(OUT, AT.request, requestId)
    OUT.set(body.subarray(from, to), AT.body)
    const end = AT.body + to - from
    if (token.sending !== null) return token.sending.seal(OUT, 0, end)
    setU32(OUT, 4, end)
    return end
  }

  /** The chunk that `seal` has made. */
  get chunk(): Uint8Array {
    return OUT
  }
}

/** Whether a message of that type belongs to an open channel. */
export const isSecured = (type: number): boolean => type === MESSAGE.MSG || type === MESSAGE.CLO
