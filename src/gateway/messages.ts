/** What the main thread and the workers say to each other. */
import type { BaselineShare } from '../baseline/live.ts'
import type { PkiData } from '../pki/load.ts'
import type { Policy } from '../policy/model.ts'
import type { EventInput } from '../records/catalogue.ts'
import type { CounterLayout } from '../records/counters.ts'
import type { NormalTraffic } from './conduit-plan.ts'

export interface WorkerSetup {
  index: number
  workers: number
  io: 'epoll' | 'net'
  /** Memory of `SharedLimits` and of `SharedPresentValues`. */
  limits: SharedArrayBuffer
  values: SharedArrayBuffer
  /** Memory of `SharedSessions`. */
  sessions: SharedArrayBuffer
  /** Memory of `Holdings`, this worker's own and before that of the one whose place it takes. */
  holdings: SharedArrayBuffer
  /** One shared cell, `Recorder.gate`. */
  gate: Int32Array
}

export type ToWorker =
  | {
      type: 'policy'
      version: number
      policy: Policy
      layout: CounterLayout
      cells: SharedArrayBuffer
      targets: Map<string, number>
      /** The policy that judges beside; null: none. */
      shadow: Policy | null
      /** By conduit. */
      pki: Map<string, PkiData>
      /** What is normal on conduits whose cut-over is watched. */
      normal: ReadonlyMap<string, NormalTraffic>
    }
  | { type: 'drain' }
  | { type: 'stop' }

export type FromWorker =
  | { type: 'adopted'; version: number }
  /** A listener could not be opened. */
  | { type: 'failed'; version: number; listen: string; code: string }
  | { type: 'events'; events: EventInput[] }
  /** What a baseline of the traffic has more of. */
  | { type: 'baseline'; share: BaselineShare }
  | { type: 'drained' }
  /** The certificate of a peer that is not trusted. */
  | { type: 'rejected'; conduit: string; list: 'clients' | 'servers'; der: Uint8Array }
  /** The eventfd that wakes the worker's own loop after a message. */
  | { type: 'wake'; fd: number }
