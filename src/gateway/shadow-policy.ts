/** The shadow policy's document: read when the gateway starts, when it reloads, and whenever the file has changed. */
import { readFileSync, statSync } from 'node:fs'
import { loadPolicy } from '../policy/load.ts'
import type { Policy } from '../policy/model.ts'
import type { EventInput } from '../records/catalogue.ts'

export class ShadowPolicy {
  /** The latest that could be used; null: none. */
  policy: Policy | null = null
  bytes: Uint8Array | null = null
  private file: string | null = null
  private stamp = ''
  /** What the file's stamp was at the last look: one that is being written is let be. */
  private seen = ''
  private readonly record: (event: EventInput) => void

  constructor(record: (event: EventInput) => void) {
    this.record = record
  }

  /** Reads the file, whether it has changed or not. One that cannot be used leaves the one before. */
  read(file: string | null): void {
    if (file !== this.file) {
      this.policy = null
      this.bytes = null
    }
    this.file = file
    if (file === null) return
    this.stamp = stampOf(file)
    this.seen = this.stamp
    try {
      const { policy, findings, bytes } = loadPolicy(file)
      for (const { severity, line, column, id, message } of findings) {
        if (severity !== 'error') continue
        this.record({ event: 'shadow.rejected', file, line, column, finding: id, detail: message })
      }
      if (policy === null) return
      if (policy.gateway === null) {
        this.record({
          event: 'shadow.rejected',
          file,
          detail: 'it has no gateway section, so it says nothing of listeners',
        })
        return
      }
      this.policy = policy
      this.bytes = bytes
    } catch (error) {
      this.record({ event: 'shadow.rejected', file, detail: (error as Error).message })
    }
  }

  /** Whether the file is another than the one that was read, and has stood still since the last look. */
  get changed(): boolean {
    if (this.file === null) return false
    const stamp = stampOf(this.file)
    const still = stamp === this.seen
    this.seen = stamp
    return still && stamp !== this.stamp
  }

  /** Whether the file still has what judges. */
  get intact(): boolean {
    if (this.file === null || this.bytes === null) return false
    try {
      return readFileSync(this.file).equals(this.bytes)
    } catch {
      return false
    }
  }
}

function stampOf(file: string): string {
  try {
    const { ino, size, mtimeMs, ctimeMs } = statSync(file)
    return `${ino} ${size} ${mtimeMs} ${ctimeMs}`
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unknown'
  }
}
