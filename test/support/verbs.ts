/** Command lines, one after the other in one process of their own: what each printed, and its exit code. */
import { spawnSync } from 'node:child_process'

const MAIN = new URL('../../src/cli/main.ts', import.meta.url).href

const VERBS = `
import { program } from ${JSON.stringify(MAIN)}
const print = process.stdout.write.bind(process.stdout)
const results = []
for (const args of JSON.parse(process.argv[1])) {
  const result = { code: 0, out: '', err: '' }
  process.stdout.write = (text) => (result.out += text) !== ''
  process.stderr.write = (text) => (result.err += text) !== ''
  process.exitCode = 0
  await program().parseAsync(args, { from: 'user' })
  result.code = process.exitCode
  results.push(result)
}
process.exitCode = 0
print(JSON.stringify(results))
`

export interface Printed {
  code: number
  out: string
  err: string
}

/**
 * @param lines arguments of each, the verb first
 * @param input standard input of all
 */
export function headgate(lines: string[][], input?: Uint8Array): Printed[] {
  const node = ['--input-type=module', '-e', VERBS, '--', JSON.stringify(lines)]
  const cwd = new URL('../..', import.meta.url).pathname
  const { status, stdout, stderr } = spawnSync(process.execPath, node, {
    encoding: 'utf8',
    cwd,
    input,
    maxBuffer: 1 << 26,
  })
  if (status !== 0) throw new Error(stderr)
  return JSON.parse(stdout)
}
