/** The state of a roll-out on the disk: what would not outlive a restart is not done, save a way back. */
import type { EventInput } from '../../records/catalogue.ts'
import { Refused } from './host.ts'
import { type RolloutState, StateFile } from './state.ts'

export class StateKeeper {
  state: RolloutState
  /** Why what was kept could not be read; '': it could. */
  readonly problem: string
  private readonly file: StateFile
  private readonly record: (event: EventInput) => void
  private failed = false

  /** Reads what was kept. @param directory of the state */
  constructor(directory: string, record: (event: EventInput) => void) {
    this.file = new StateFile(directory)
    this.record = record
    const { state, problem } = this.file.read()
    this.state = state
    this.problem = problem
  }

  get path(): string {
    return this.file.path
  }

  /** @throws Refused where it cannot be written: what would not outlive a restart is not done */
  write(next: RolloutState): void {
    try {
      this.file.write(next)
      this.state = next
      this.failed = false
    } catch (error) {
      throw new Refused('the state cannot be written, so it would not outlive a restart', [
        {
          conduit: '',
          check: 'state',
          found: `${this.file.path}: ${(error as Error).message}`,
          mend: 'free the disk, or mend the permissions',
        },
      ])
    }
  }

  /** Makes it the state, and writes it where that can be done. */
  keep(next: RolloutState): void {
    this.state = next
    this.attempt(() => {
      this.file.write(next)
      this.failed = false
    })
  }

  /** Writes something that belongs to the state; that it cannot is said once, until the state itself can be written. */
  attempt(write: () => void): void {
    try {
      write()
    } catch (error) {
      const { message } = error as Error
      if (!this.failed) this.record({ event: 'state.failed', file: this.file.path, detail: message })
      this.failed = true
    }
  }
}
