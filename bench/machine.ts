/** What this machine has: processors, tools and their versions. What is absent is skipped with one line. */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, release, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const here = fileURLToPath(new URL('.', import.meta.url))

/** Where compiled tools and filled-in configurations go; removed at exit. */
export const scratch = mkdtempSync(join(tmpdir(), 'headgate-bench-'))
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }))

export function find(program: string): string | null {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/usr/local/sbin']
  for (const folder of folders) {
    const file = join(folder, program)
    if (folder !== '' && existsSync(file)) return file
  }
  return null
}

/** First line that a program says of its version, wherever it says it. */
export function versionOf(file: string, ...args: string[]): string {
  const { stdout, stderr } = spawnSync(file, args, { encoding: 'utf8' })
  return `${stdout}${stderr}`.split('\n', 1)[0].trim()
}

const gcc = process.platform === 'linux' ? find('gcc') : null
const built = new Map<string, string | null>()

/**
 * Compiles bench/load/NAME.c.
 * @returns the program, or null where there is no gcc
 */
export function compiled(name: string): string | null {
  const known = built.get(name)
  if (known !== undefined) return known
  let program: string | null = null
  if (gcc !== null) {
    program = join(scratch, name)
    execFileSync(gcc, ['-O2', '-Wall', '-Wextra', '-o', program, join(here, 'load', `${name}.c`)], { stdio: 'inherit' })
  }
  built.set(name, program)
  return program
}

export const gccVersion = (): string | null => (gcc === null ? null : versionOf(gcc, '--version'))

/**
 * Fills `${NAME}` in a configuration of this folder, `${BENCH_DIRECTORY}` with a directory of its own.
 * @returns the path of the filled-in copy, which stands in that directory
 */
export function filledIn(file: string, values: Record<string, string | number>): string {
  const directory = mkdtempSync(join(scratch, 'config-'))
  const all: Record<string, string | number> = { ...values, BENCH_DIRECTORY: directory }
  const text = readFileSync(join(here, file), 'utf8').replaceAll(/\$\{(\w+)\}/g, (whole, name: string) =>
    name in all ? String(all[name]) : whole,
  )
  const path = join(directory, file)
  writeFileSync(path, text)
  return path
}

export function machineClass(): string {
  const { model } = cpus()[0] ?? { model: 'unknown processor' }
  const memory = Math.round(totalmem() / 2 ** 30)
  return `${availableParallelism()} × ${model.trim()}, ${memory} GB, ${process.platform} ${release().split('-', 1)[0]}, Node ${process.versions.node}`
}

/** Descriptors that one process may have (the soft limit, which child processes inherit). */
export function descriptorLimit(): number {
  if (!existsSync('/proc/self/limits')) return 1024
  const line = readFileSync('/proc/self/limits', 'utf8')
    .split('\n')
    .find((l) => l.startsWith('Max open files'))
  const soft = line?.slice(26).trim().split(/\s+/, 1)[0]
  return soft === undefined ? 1024 : soft === 'unlimited' ? 1_000_000 : Number(soft)
}
