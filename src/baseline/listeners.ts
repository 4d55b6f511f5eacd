/**
 * A capture taken between clients and a gateway has the listeners' own addresses in the targets' place: what was sent
 * to one is traffic of its target, and of its conduit.
 */
import { parseAddress } from '../policy/address.ts'
import type { Listener, Policy } from '../policy/model.ts'

export interface Place {
  address: bigint
  port: number
}

const keyOf = (protocol: string, { address, port }: Place): string => `${protocol} ${address} ${port}`

export class Listeners {
  private readonly all = new Map<string, Listener>()

  /**
   * @param policies of two with a listener at one place the first counts. One that listens on every address (0.0.0.0, ::)
   *   is left out: the document does not say which addresses are the gateway's own.
   */
  constructor(policies: readonly Policy[]) {
    for (const { gateway } of policies) {
      for (const listener of gateway?.listeners ?? []) {
        const { host, port } = listener.listen
        const address = parseAddress(host)
        if (address === null || address === 0n || address === 0xffff_0000_0000n) continue
        const key = keyOf(listener.protocol, { address, port })
        if (!this.all.has(key)) this.all.set(key, listener)
      }
    }
  }

  /** The listener at an address and port; null where none is known. */
  at(protocol: Listener['protocol'], place: Place): Listener | null {
    return this.all.size === 0 ? null : (this.all.get(keyOf(protocol, place)) ?? null)
  }
}

/**
 * Whether a listener of a conduit leads to a place.
 * @param protocol of the listener; null: any
 */
export const isTarget = (
  { gateway }: Policy,
  conduit: string,
  { address, port }: Place,
  protocol: Listener['protocol'] | null = null,
): boolean =>
  (gateway?.listeners ?? []).some(
    (one) =>
      one.conduit === conduit &&
      (protocol === null || one.protocol === protocol) &&
      one.target.port === port &&
      one.target.address.base === address,
  )

/** Where a listener leads. */
export const targetOf = ({ target }: Listener): Place => ({ address: target.address.base, port: target.port })
