/**
 * Writes the evidence: chains records, signs checkpoints, rotates files, and lives through disks that are full, gone or
 * read-only. `append` only queues; all else is done behind it, one write at a time.
 *
 * A record is safe from the death of the process once its batch is written, which begins in the same turn of the event
 * loop; and from the loss of power after `fdatasync`, once a second and with each checkpoint at rotation and at stop.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Evidence } from '../../policy/model.ts'
import type { EventInput, EventRecord } from '../catalogue.ts'
import { Losses } from '../losses.ts'
import { advance, chainLine, fileName, HEAD_FILE, type Head, START } from './chain.ts'
import { EvidenceFile, FileGone, today } from './file.ts'
import { loadKey } from './key.ts'
import { type Lock, lockDirectory } from './lock.ts'
import { checkpointText, openCheckpoint, type SignerKey, signNote } from './note.ts'
import { evidenceFiles, readTail } from './tail.ts'
import { verifyFiles } from './verify.ts'

/** Bytes of records that may wait for the disk. */
export const QUEUE_BYTES = 16 << 20
const BATCH_BYTES = 512 << 10
const TICK_MS = 1000
const RETRY_MS = [1000, 15_000] as const
/** A write that takes longer is a disk that does not answer. */
const STALL_MS = 10_000
const CLOSE_MS = 5000
/** A verb that records something has the lock for a moment. */
const LOCK_MS = 3000

export interface EvidenceReport {
  /** Completes an event and gives it to the log and the sinks; to the evidence as well where `chained`. */
  tell(input: EventInput, chained: boolean): EventRecord
  /** Evidence can be written from now on, or cannot. */
  writable(yes: boolean): void
}

export class EvidenceWriter {
  /** Records written by this process. */
  written = 0
  /** Records dropped by this process. */
  lost = 0
  private terms: Evidence
  private readonly report: EvidenceReport
  private queue: string[] = []
  private queuedBytes = 0
  private readonly losses = new Losses()
  private file: EvidenceFile | null = null
  private signer: SignerKey | null = null
  private head: Head = START
  /** Records that no checkpoint covers yet, and since when. */
  private unsigned = 0
  private unsignedSince = 0
  /** Where the chain stood when the head file was last written. */
  private publishedSeq = -1
  private begun = false
  private lock: Lock | null = null
  private failing = ''
  private failures = 0
  private retry: NodeJS.Timeout | null = null
  private running: Promise<void> | null = null
  private busySince = 0
  private kept = 0
  private syncing: Promise<void> | null = null
  private syncFailure: Error | null = null
  private closing = false
  private readonly ticker: NodeJS.Timeout

  constructor(terms: Evidence, report: EvidenceReport) {
    this.terms = terms
    this.report = report
    this.ticker = setInterval(() => this.tick(), TICK_MS)
    this.ticker.unref()
  }

  get writable(): boolean {
    return this.begun && this.failing === ''
  }

  /** Bytes of records that wait for the disk. */
  get backlog(): number {
    return this.queuedBytes
  }

  get directory(): string {
    return this.terms.directory
  }

  get key(): string {
    return this.terms.key
  }

  /** Resolves when the files are open, or when it is known that they cannot be. */
  async open(): Promise<void> {
    await this.work()
  }

  /** Other intervals, sizes and `required`, from a reload. The directory and the key stay. */
  configure(terms: Evidence): void {
    this.terms = terms
  }

  /**
   * Queues a record; never waits, never throws.
   * @param body the record as JSON text
   * @param time of the record, for the account of what was lost
   */
  append(body: string, time: string): void {
    if (this.closing) return
    if (this.queuedBytes + body.length > QUEUE_BYTES) {
      this.lost++
      this.losses.add(time)
      return
    }
    this.queue.push(body)
    this.queuedBytes += body.length
    if (this.running === null && this.retry === null) void this.work()
  }

  private work(): Promise<void> {
    this.running ??= this.run().finally(() => {
      this.running = null
    })
    return this.running
  }

  private async run(): Promise<void> {
    // One turn later, so that all records of this turn go in one write.
    await new Promise((resolve) => setImmediate(resolve))
    this.busySince = Date.now()
    try {
      do {
        if (this.syncFailure !== null) throw this.syncFailure
        await this.begin()
        if (this.rotationDue) await this.rotate()
        await this.writeBatch()
        if (Date.now() - this.kept >= TICK_MS) await this.keep()
        this.busySince = Date.now()
        this.recovered()
      } while (this.queue.length > 0)
    } catch (error) {
      await this.fail(error as Error)
    } finally {
      this.busySince = 0
    }
  }

  private tick(): void {
    if (this.running !== null) {
      const stalled = this.busySince !== 0 && Date.now() - this.busySince > STALL_MS
      if (stalled && this.failing === '') this.say('the disk does not answer')
      return
    }
    if (this.retry === null) void this.work()
  }

  // ------------------------------------------------------------------------------------------------ opening the files

  private async begin(): Promise<void> {
    if (this.file !== null) return
    const { directory, key } = this.terms
    if (!this.begun) {
      await mkdir(directory, { recursive: true, mode: 0o750 })
      this.lock ??= await lockDirectory(directory, LOCK_MS)
      const loaded = await loadKey(key)
      this.signer = loaded.signer
      if (loaded.created) {
        const detail = `made ${key}; keep its public half where the evidence is not`
        this.report.tell({ event: 'evidence.key_created', public_key: loaded.signer.verifier.text, detail }, true)
      }
      if (loaded.exposed !== '') this.report.tell({ event: 'evidence.key_exposed', detail: loaded.exposed }, true)
      await this.takeUp(directory)
      this.begun = true
      if (this.failing === '') this.report.writable(true)
      return
    }
    await this.reopen()
  }

  /** Goes on where an earlier run of the gateway has ended. */
  private async takeUp(directory: string): Promise<void> {
    const tail = await readTail(directory)
    this.head = tail.head ?? START
    let fault = tail.fault
    const note = await readFile(join(directory, HEAD_FILE), 'utf8').catch(() => null)
    if (note !== null && this.signer !== null) {
      const signed = openCheckpoint(note, [this.signer.verifier])
      if (typeof signed !== 'string' && signed.seq > this.head.seq) {
        fault = `${signed.seq - this.head.seq} records are missing at the end, from number ${this.head.seq} on`
        // The gap stays visible: numbers that were used are not used again.
        this.head = { seq: signed.seq, hash: signed.hash }
      }
    }
    if (tail.file !== null && fault === '') {
      const path = join(directory, tail.file)
      this.file = await EvidenceFile.resume(path, tail.size)
      if (tail.size === 0) await this.writeHeader(this.file)
      if (tail.torn > 0) {
        const detail = 'the line was being written when the gateway was killed or the power failed'
        this.report.tell({ event: 'evidence.repaired', evidence_file: tail.file, bytes: tail.torn, detail }, true)
      }
      if (tail.size > 0) void this.verifyLast(path, tail.size)
      return
    }
    if (fault !== '') this.report.tell({ event: 'evidence.tampered', detail: fault }, true)
    await this.newFile()
  }

  /** Looks through the file that is gone on with, while the gateway already runs. */
  private async verifyLast(path: string, size: number): Promise<void> {
    try {
      const { finding } = await verifyFiles([path], { keys: [], limit: size })
      if (finding !== null) {
        this.report.tell({ event: 'evidence.tampered', evidence_file: path, detail: finding.message }, true)
      }
    } catch {
      // It could be opened for writing; what goes wrong with reading it shows there as well.
    }
  }

  private async reopen(): Promise<void> {
    const last = (await evidenceFiles(this.terms.directory)).at(-1)
    if (last !== undefined && this.lastPath === join(this.terms.directory, last)) {
      try {
        this.file = await EvidenceFile.resume(this.lastPath, this.lastSize)
        return
      } catch (error) {
        if (!(error instanceof FileGone)) throw error
        this.report.tell({ event: 'evidence.tampered', evidence_file: last, detail: error.message }, true)
      }
    }
    await this.newFile()
  }

  private lastPath = ''
  private lastSize = 0

  private async newFile(): Promise<void> {
    const file = await EvidenceFile.create(this.terms.directory, fileName(this.head.seq))
    try {
      await this.writeHeader(file)
    } catch (error) {
      await file.close().catch(() => {})
      this.lastPath = file.path
      this.lastSize = 0
      throw error
    }
    this.file = file
  }

  private async writeHeader(file: EvidenceFile): Promise<void> {
    const public_key = this.signer?.verifier.text
    const record = this.report.tell({ event: 'evidence.opened', evidence_file: file.name, public_key }, false)
    const line = chainLine(this.head, JSON.stringify(record))
    await file.append(Buffer.from(`${line}\n`))
    this.commit(advance(this.head, line), 1, this.unsigned + 1)
  }

  // --------------------------------------------------------------------------------------------------------- writing

  private commit(head: Head, records: number, unsigned: number): void {
    this.head = head
    this.written += records
    if (unsigned > 0 && this.unsigned === 0) this.unsignedSince = Date.now()
    this.unsigned = unsigned
  }

  private checkpointLine(head: Head): string {
    if (this.signer === null) throw new Error('no key to sign with')
    const note = signNote(checkpointText(this.signer.verifier.name, head), this.signer)
    const body = { note, time: new Date().toISOString(), event: 'evidence.checkpoint' }
    return chainLine(head, JSON.stringify(body))
  }

  /** Writes what is queued, up to a batch, with the checkpoints that fall due within it. */
  private async writeBatch(final = false): Promise<void> {
    if (this.file === null) return
    const { checkpointRecords, checkpointMs } = this.terms
    const lines: string[] = []
    let { head, unsigned } = this
    let taken = 0
    let bytes = 0
    const sign = (): void => {
      const line = this.checkpointLine(head)
      head = advance(head, line)
      lines.push(line)
      unsigned = 0
    }
    for (; taken < this.queue.length && bytes < BATCH_BYTES; taken++) {
      const line = chainLine(head, this.queue[taken])
      head = advance(head, line)
      lines.push(line)
      bytes += line.length
      if (++unsigned >= checkpointRecords) sign()
    }
    const overdue = this.unsigned > 0 && Date.now() - this.unsignedSince >= checkpointMs
    if (unsigned > 0 && (final || overdue)) sign()
    if (lines.length === 0) return
    lines.push('')
    await this.file.append(Buffer.from(lines.join('\n')))
    this.commit(head, lines.length - 1, unsigned)
    for (let i = 0; i < taken; i++) this.queuedBytes -= this.queue[i].length
    this.queue.splice(0, taken)
  }

  private get rotationDue(): boolean {
    const { file, terms } = this
    return file !== null && (file.size >= terms.rotateBytes || (terms.rotateDaily && file.day < today()))
  }

  private async rotate(): Promise<void> {
    const { file } = this
    if (file === null) return
    if (this.unsigned > 0) {
      const line = this.checkpointLine(this.head)
      await file.append(Buffer.from(`${line}\n`))
      this.commit(advance(this.head, line), 1, 0)
    }
    await this.syncing
    await this.settle(file, this.head)
    this.file = null
    await file.close()
    await this.newFile()
  }

  /** Once a second: is the file still there, is it on the disk, and what is the latest head. */
  private async keep(): Promise<void> {
    this.kept = Date.now()
    const { file } = this
    if (file === null) return
    await file.check()
    if (this.syncing !== null) return
    // Records are written on meanwhile; a disk that is slow to sync only makes the head come later.
    this.syncing = this.settle(file, this.head)
      .catch((error) => {
        this.syncFailure = error as Error
      })
      .finally(() => {
        this.syncing = null
      })
  }

  /** Everything up to `head` survives a loss of power, and says so. */
  private async settle(file: EvidenceFile, head: Head): Promise<void> {
    await file.sync()
    if (head.seq !== this.publishedSeq) await this.publishHead(head)
  }

  /** A cut at the end of the last file shows against this note. */
  private async publishHead(head: Head): Promise<void> {
    if (this.signer === null) return
    const path = join(this.terms.directory, HEAD_FILE)
    await writeFile(`${path}.new`, signNote(checkpointText(this.signer.verifier.name, head), this.signer))
    await rename(`${path}.new`, path)
    this.publishedSeq = head.seq
  }

  // -------------------------------------------------------------------------------------------------------- failures

  private async fail(error: Error): Promise<void> {
    const { file } = this
    this.syncFailure = null
    this.file = null
    if (file !== null) {
      this.lastPath = file.path
      this.lastSize = file.size
      await file.close().catch(() => {})
    }
    if (error instanceof FileGone && file !== null) {
      this.report.tell({ event: 'evidence.tampered', evidence_file: file.name, detail: error.message }, true)
    }
    if (this.failing === '') this.say(error.message)
    if (this.closing) return
    const wait = Math.min(RETRY_MS[1], RETRY_MS[0] * 2 ** this.failures++)
    this.retry = setTimeout(() => {
      this.retry = null
      void this.work()
    }, wait)
    this.retry.unref()
  }

  private say(why: string): void {
    this.failing = why
    this.report.writable(false)
    const required = this.terms.required ? 'yes' : undefined
    this.report.tell({ event: 'evidence.failed', evidence_file: this.terms.directory, detail: why, required }, true)
  }

  private recovered(): void {
    this.failures = 0
    if (this.failing === '') return
    this.failing = ''
    this.report.writable(true)
    this.report.tell({ event: 'evidence.resumed', evidence_file: this.terms.directory }, true)
    const lost = this.losses.take()
    if (lost !== null) this.report.tell({ event: 'events.lost', sink: 'evidence', ...lost }, true)
  }

  /** Writes what is queued and a last checkpoint; for a bounded time. */
  async close(): Promise<void> {
    this.closing = true
    clearInterval(this.ticker)
    if (this.retry !== null) clearTimeout(this.retry)
    const end = async (): Promise<void> => {
      await this.running
      if (this.failing !== '' && this.queue.length > 0) await this.run()
      while (this.queue.length > 0 && this.failing === '') await this.run()
      if (this.file === null) return
      try {
        await this.writeBatch(true)
        await this.syncing
        await this.settle(this.file, this.head)
        await this.file.close()
      } catch (error) {
        await this.fail(error as Error)
      }
    }
    await Promise.race([end(), new Promise((resolve) => setTimeout(resolve, CLOSE_MS).unref())])
    this.lock?.release()
    this.lock = null
  }
}
