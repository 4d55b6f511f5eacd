/** Captures in, frames out: opens each file, follows its streams, and says what could not be used. */

import type { BaselineSource } from './baseline-file.ts'
import { CaptureReader, type CaptureTally, type PacketSink } from './capture.ts'
import { timeText } from './entry.ts'
import { type FlowSink, Reassembly, type ReassemblyOptions, type StreamTally } from './reassembly.ts'
import { plural } from './rules.ts'
import { type ByteSource, CaptureUnreadable, openSource } from './source.ts'

export { CaptureUnreadable } from './source.ts'

export interface Ingested extends BaselineSource {
  capture: CaptureTally
  streams: StreamTally
}

export interface IngestOptions extends ReassemblyOptions {
  /** Told now and then how far a source is. */
  onProgress?: (source: ByteSource) => void
}

/** Link types by their LINKTYPE_ name, for messages. */
const LINK_NAMES: Readonly<Record<number, string>> = { 105: 'IEEE 802.11', 127: 'radiotap', 147: 'USER0', 220: 'USB' }

/**
 * Reads one capture into the sink. Throws `CaptureUnreadable` where it cannot be opened, or is no capture at all.
 * @param name a path, or `-` for standard input
 */
export async function ingest(name: string, sink: FlowSink, options: IngestOptions): Promise<Ingested> {
  const source = await openSource(name)
  try {
    const streams = new Reassembly(sink, options)
    const span = new Span(streams)
    const reader = new CaptureReader(source, span, () => options.onProgress?.(source))
    const capture = await reader.read()
    streams.finish()
    if (capture.packets === 0 && capture.stopped !== null && !isEmpty(capture)) {
      throw new CaptureUnreadable(`${source.name}: ${capture.stopped}`)
    }
    return {
      name: source.name,
      packets: capture.packets,
      bytes: capture.bytes,
      first: capture.packets > 0 ? timeText(span.first) : null,
      last: capture.packets > 0 ? timeText(span.last) : null,
      notes: notes(capture, streams.tally),
      capture,
      streams: streams.tally,
    }
  } finally {
    await source.close().catch(() => {})
  }
}

/** A capture that was started and has no packet is a capture: nothing happened, or nothing was written yet. */
const isEmpty = (capture: CaptureTally): boolean => capture.stopped === 'the file is empty'

/** Remembers when the capture begins and ends. */
class Span implements PacketSink {
  first = Number.POSITIVE_INFINITY
  last = Number.NEGATIVE_INFINITY
  private readonly streams: Reassembly

  constructor(streams: Reassembly) {
    this.streams = streams
  }

  onPacket(buf: Uint8Array, at: number, end: number, linkType: number, us: number): void {
    if (us < this.first) this.first = us
    if (us > this.last) this.last = us
    this.streams.onPacket(buf, at, end, linkType, us)
  }
}

/** What a person must know before trusting the result: one line each. */
function notes(capture: CaptureTally, streams: StreamTally): string[] {
  const lines: string[] = []
  const say = (n: number, text: string): void => {
    if (n > 0) lines.push(text)
  }
  if (capture.stopped !== null) lines.push(capture.stopped)
  const { packets } = streams
  say(capture.snapped, `${plural(capture.snapped, 'packet')} cut short by the capture (snapshot length)`)
  say(capture.oversized, `${plural(capture.oversized, 'block')} of more than 512 KiB not read`)
  say(capture.orphaned, `${plural(capture.orphaned, 'packet')} of an interface that the file does not describe`)
  say(capture.backwards, `time goes back by more than a second ${plural(capture.backwards, 'time')}`)
  for (const [type, n] of streams.linkTypes) {
    const name = LINK_NAMES[type]
    lines.push(
      `${plural(n, 'packet')} of link type ${type}${name === undefined ? '' : ` (${name})`}, which is not read`,
    )
  }
  say(packets.broken, `${plural(packets.broken, 'packet')} with headers cut short or inconsistent`)
  say(packets.fragment, `${plural(packets.fragment, 'IP fragment')} not put together`)
  say(streams.gaps, `${plural(streams.gaps, 'gap')} in TCP streams, ${plural(streams.gapBytes, 'byte')} missing`)
  say(streams.skippedBytes, `${plural(streams.skippedBytes, 'byte')} without a frame boundary passed over`)
  say(
    streams.toListeners,
    `${plural(streams.toListeners, 'connection')} to the gateway's listeners, told by their targets`,
  )
  say(streams.midstream, `${plural(streams.midstream, 'connection')} whose beginning is not in the capture`)
  say(streams.oneDirection, `${plural(streams.oneDirection, 'connection')} of which one direction alone was captured`)
  say(streams.evicted, `${plural(streams.evicted, 'connection')} let go because too many were open`)
  return lines
}
