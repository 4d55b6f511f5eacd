/**
 * From a captured frame to its TCP segment, by offsets: Ethernet with VLAN and QinQ tags, Linux cooked (v1, v2), raw
 * IP, BSD loopback; IPv4 (RFC 791), IPv6 with extension headers (RFC 8200), TCP (RFC 9293). Allocates nothing.
 */

/** What became of a packet. */
export const PACKET = {
  tcp: 0,
  /** A link type that is not read. */
  link: 1,
  /** Not IP: ARP, LLDP, PROFINET … */
  notIp: 2,
  notTcp: 3,
  /** Part of an IP datagram: never put together. */
  fragment: 4,
  /** Headers cut short or inconsistent. */
  broken: 5,
} as const

export const PACKET_OUTCOMES = Object.keys(PACKET) as (keyof typeof PACKET)[]

/** LINKTYPE_ values that are read. */
const LINK = {
  null: 0,
  ethernet: 1,
  rawBsd: 12,
  rawOpenBsd: 14,
  raw: 101,
  loop: 108,
  sll: 113,
  ipv4: 228,
  ipv6: 229,
  sll2: 276,
} as const

const ETHER_IPV4 = 0x0800
const ETHER_IPV6 = 0x86dd
const MAX_TAGS = 4
const MAX_EXTENSIONS = 8

/** Fields of the segment that `decode` read last. Offsets are into its buffer. */
export class PacketDecoder {
  v6 = false
  source = 0
  destination = 0
  sourcePort = 0
  destinationPort = 0
  /** Unsigned 32 bits. */
  sequence = 0
  acknowledged = 0
  /** FIN 1, SYN 2, RST 4, PSH 8, ACK 16. */
  flags = 0
  payload = 0
  payloadEnd = 0
  /** Payload bytes on the wire; more than were captured in a snapped packet. */
  payloadLength = 0

  /** @returns one of `PACKET`; the fields hold a segment where it is `tcp` */
  decode(buf: Uint8Array, at: number, end: number, linkType: number): number {
    switch (linkType) {
      case LINK.ethernet:
        return end - at < 14 ? PACKET.broken : this.ether(buf, at + 12, end)
      case LINK.sll:
        return end - at < 16 ? PACKET.broken : this.ether(buf, at + 14, end)
      case LINK.sll2:
        if (end - at < 20) return PACKET.broken
        return this.network(buf, at + 20, end, (buf[at] << 8) | buf[at + 1])
      case LINK.raw:
      case LINK.rawBsd:
      case LINK.rawOpenBsd:
      case LINK.ipv4:
      case LINK.ipv6:
        return this.ip(buf, at, end)
      case LINK.null:
      case LINK.loop:
        return this.loopback(buf, at, end)
      default:
        return PACKET.link
    }
  }

  /** The address family is in the byte order of the machine that captured, and its number for IPv6 differs. */
  private loopback(buf: Uint8Array, at: number, end: number): number {
    if (end - at < 4) return PACKET.broken
    const family = buf[at] | buf[at + 1] | buf[at + 2] | buf[at + 3]
    return family === 2 || family === 10 || family === 24 || family === 28 || family === 30
      ? this.ip(buf, at + 4, end)
      : PACKET.notIp
  }

  /** @param at of the EtherType */
  private ether(buf: Uint8Array, at: number, end: number): number {
    return this.network(buf, at + 2, end, (buf[at] << 8) | buf[at + 1])
  }

  private network(buf: Uint8Array, start: number, end: number, etherType: number): number {
    let at = start
    let type = etherType
    for (let tags = 0; type === 0x8100 || type === 0x88a8 || type === 0x9100; tags++) {
      if (tags === MAX_TAGS || end - at < 4) return PACKET.broken
      type = (buf[at + 2] << 8) | buf[at + 3]
      at += 4
    }
    return type === ETHER_IPV4 || type === ETHER_IPV6 ? this.ip(buf, at, end) : PACKET.notIp
  }

  private ip(buf: Uint8Array, at: number, end: number): number {
    if (end - at < 1) return PACKET.broken
    const version = buf[at] >> 4
    if (version === 4) return this.ipv4(buf, at, end)
    return version === 6 ? this.ipv6(buf, at, end) : PACKET.notIp
  }

  private ipv4(buf: Uint8Array, at: number, end: number): number {
    if (end - at < 20) return PACKET.broken
    const header = (buf[at] & 15) << 2
    // A length of 0 is what segmentation offload leaves of a packet that is yet to be cut up.
    const total = (buf[at + 2] << 8) | buf[at + 3] || end - at
    if (header < 20 || total < header) return PACKET.broken
    if ((((buf[at + 6] << 8) | buf[at + 7]) & 0x3fff) !== 0) return PACKET.fragment
    if (buf[at + 9] !== 6) return PACKET.notTcp
    this.v6 = false
    this.source = at + 12
    this.destination = at + 16
    return this.tcp(buf, at + header, end, total - header)
  }

  private ipv6(buf: Uint8Array, at: number, end: number): number {
    if (end - at < 40) return PACKET.broken
    let length = (buf[at + 4] << 8) | buf[at + 5] || end - at - 40
    let next = buf[at + 6]
    let o = at + 40
    for (let headers = 0; next !== 6; headers++) {
      let size = 0
      if (next === 0 || next === 43 || next === 60 || next === 135) size = 8
      else if (next === 44) size = 8
      else if (next === 51) size = 8
      else return PACKET.notTcp
      if (headers === MAX_EXTENSIONS || end - o < size) return PACKET.broken
      if (next === 44) {
        // RFC 6946: offset 0 and no more fragments is a whole packet.
        if ((((buf[o + 2] << 8) | buf[o + 3]) & 0xfff9) !== 0) return PACKET.fragment
      } else size = next === 51 ? (buf[o + 1] + 2) << 2 : (buf[o + 1] + 1) << 3
      next = buf[o]
      o += size
      length -= size
      if (length < 0 || o > end) return PACKET.broken
    }
    this.v6 = true
    this.source = at + 8
    this.destination = at + 24
    return this.tcp(buf, o, end, length)
  }

  /** @param length bytes of the segment, header included, as IP says */
  private tcp(buf: Uint8Array, at: number, end: number, length: number): number {
    if (end - at < 20 || length < 20) return PACKET.broken
    const header = (buf[at + 12] >> 4) << 2
    if (header < 20 || length < header) return PACKET.broken
    this.sourcePort = (buf[at] << 8) | buf[at + 1]
    this.destinationPort = (buf[at + 2] << 8) | buf[at + 3]
    this.sequence = ((buf[at + 4] << 24) | (buf[at + 5] << 16) | (buf[at + 6] << 8) | buf[at + 7]) >>> 0
    this.acknowledged = ((buf[at + 8] << 24) | (buf[at + 9] << 16) | (buf[at + 10] << 8) | buf[at + 11]) >>> 0
    this.flags = buf[at + 13]
    this.payload = Math.min(at + header, end)
    // Ethernet pads short frames: what IP does not count is not payload.
    this.payloadEnd = Math.min(at + length, end)
    this.payloadLength = length - header
    return PACKET.tcp
  }
}
