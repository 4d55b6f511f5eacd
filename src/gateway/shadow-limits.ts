/** A shadow policy's rates of requests on one connection: counted in slots of its own, beside those in force. */
import { ConnectionLimiter } from '../limits/shared-limits.ts'
import type { Peer } from './connection.ts'
import type { DataPlane, Slots } from './data-plane.ts'
import type { ShadowListener } from './plan.ts'

export class ShadowLimits {
  private readonly plane: DataPlane
  private readonly slots: Slots | null = null
  private readonly limiter: ConnectionLimiter | null = null

  constructor(plane: DataPlane, { conduit, target }: ShadowListener, peer: Peer) {
    this.plane = plane
    const requests = conduit?.requestTerms ?? null
    if (requests === null || conduit === null) return
    this.slots = plane.holdSlots({ conduit, target }, peer)
    if (this.slots === null) return
    // How many wait for an answer depends on what is let through, which a shadow has no part in.
    const terms = { ...requests, inFlightPerTarget: Number.POSITIVE_INFINITY }
    this.limiter = new ConnectionLimiter(plane.limits, this.slots[0], this.slots[1], terms)
  }

  /** Counts a request. @returns whether it is within the rates */
  within(): boolean {
    const { limiter } = this
    if (limiter === null) return true
    const within = limiter.acquire(this.plane.clock.us, true)
    limiter.release()
    return within
  }

  dispose(): void {
    if (this.slots !== null) this.plane.releaseSlots(this.slots)
  }
}
