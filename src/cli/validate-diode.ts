/** `headgate validate diode`: registration of the verb. */
import { type Command, InvalidArgumentError, Option } from 'commander'
import { HEADER_BYTES, MAX_COUNT, MAX_SIZE } from '../assurance/diode/datagram.ts'

export interface DiodeFlags {
  receive: boolean
  conduit?: string
  to?: string
  listen?: string
  reverse?: string
  source?: string
  count: number
  rate: number
  size: number
  linger: number
  wait: number
  idle: number
  timeout: number
  maxLoss: number
  maxP99?: number
  clockOffset?: number
  format: 'text' | 'json'
  output?: string
  record: boolean
}

const number =
  (low: number, high: number, whole = false) =>
  (text: string): number => {
    const value = Number(text)
    if (!/^-?\d+(\.\d+)?$/.test(text) || value < low || value > high || (whole && !Number.isInteger(value))) {
      throw new InvalidArgumentError(`Expected a ${whole ? 'whole ' : ''}number from ${low} to ${high}.`)
    }
    return value
  }

/** Adds the verb under `validate`. Exit codes: 0 one way as claimed, 1 not so, 2 cannot be tested. */
export function diode(validate: Command): void {
  validate
    .command('diode')
    .description(
      'test a data diode: numbered datagrams from the sending side, counted on the receiving one, and no way back; exit 0: one way, 1: not so, 2: cannot be tested',
    )
    .argument('<policy>', 'policy document (YAML)')
    .option('--receive', 'this is the receiving side', false)
    .option('--conduit <id>', 'conduit with the diode; default: the one whose prose speaks of a diode')
    .option('--to <address:port>', 'sending side: where the datagrams go')
    .option('--listen <address:port>', 'receiving side: where they arrive')
    .option('--reverse <address>', 'receiving side: address of the sending side, for ways back; default: as seen')
    .option('--source <address>', 'address of this host to come from')
    .option('--count <n>', 'datagrams', number(1, MAX_COUNT, true), 1000)
    .option('--rate <n>', 'datagrams a second', number(1, 20_000), 200)
    .option('--size <bytes>', 'of a datagram', number(HEADER_BYTES, MAX_SIZE, true), 512)
    .option('--linger <seconds>', 'sending side: how long to listen for what comes back', number(0, 600), 60)
    .option('--wait <seconds>', 'receiving side: how long to wait for the first', number(1, 3600), 120)
    .option('--idle <seconds>', 'receiving side: the flow has ended after such a silence', number(0.5, 60), 3)
    .option('--timeout <seconds>', 'how long a way back may take', number(0.2, 60), 3)
    .option('--max-loss <percent>', 'more is a failure', number(0, 100), 0)
    .option('--max-p99 <ms>', 'more latency is a failure; default: it is measured alone', number(0, 3_600_000))
    .option(
      '--clock-offset <ms>',
      "the receiver's clock less the sender's, as known from elsewhere",
      number(-3_600_000, 3_600_000),
    )
    .addOption(new Option('--format <format>', 'how to print the results').choices(['text', 'json']).default('text'))
    .option('--output <file>', 'write the results there as JSON, for "headgate report"')
    .option('--no-record', "do not record the file's hash in the gateway's evidence")
    .action(async (policy: string, flags: DiodeFlags) => {
      const { runDiode } = await import('./validate-diode-run.ts')
      process.exitCode = await runDiode(policy, flags)
    })
}
