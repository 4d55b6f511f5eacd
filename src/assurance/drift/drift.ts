/** What runs, held to what the document says: each source is looked at alone, and says what it found or why it could not. */

export interface Drift {
  /** What was looked at: gateway, policy, mode, nftables, baseline. */
  kind: string
  conduit?: string
  /** What was found and what was expected. */
  detail: string
}

export interface Look {
  source: string
  /** Why it could not be looked at; null: it was. */
  unseen: string | null
  found: Drift[]
  /** In words, what was seen. */
  seen: string
}

export const unseen = (source: string, why: string): Look => ({ source, unseen: why, found: [], seen: '' })
export const seen = (source: string, words: string, found: Drift[]): Look => ({
  source,
  unseen: null,
  found,
  seen: words,
})
