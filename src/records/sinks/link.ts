/** What a sink needs of its transport. */
import type { SyslogSink } from '../../policy/model.ts'
import { StreamLink } from './stream-link.ts'
import { UdpLink } from './udp-link.ts'

export interface LinkEvents {
  /** Messages may be sent, for the first time or again. */
  opened(): void
  /** There is room again. */
  drained(): void
  /**
   * The link has ended, and cannot be opened again.
   * @param orderly the receiver has closed its side after it had read what came before
   */
  closed(why: string, orderly: boolean): void
}

export interface Link {
  /** Whether a message may be sent now. */
  readonly ready: boolean
  /** How much of what was sent may still be lost with the link: bytes, or age in milliseconds. */
  readonly doubt: { bytes: number } | { ms: number }
  /** Takes one message without framing. Never throws. */
  send(message: Buffer): void
  /** Ends it; resolves with whether all that was sent was taken in order. */
  end(ms: number): Promise<boolean>
  /** Gives it up. */
  destroy(): void
}

export interface LinkTiming {
  /** How long a connection may take to open. */
  connectMs: number
  /** A receiver that takes nothing for so long is given up. */
  stallMs: number
}

export const LINK_TIMING: LinkTiming = { connectMs: 10_000, stallMs: 30_000 }

export const openLink = (sink: SyslogSink, events: LinkEvents, timing: LinkTiming, probe: boolean): Link =>
  sink.transport === 'udp' ? new UdpLink(sink, events, probe) : new StreamLink(sink, events, timing)
