/** What `headgate pki` does: finds the directories, calls one function of `pki/manage.ts`, prints. */
import { statSync } from 'node:fs'
import { join } from 'node:path'
import type { PkiDirectories } from '../pki/load.ts'
import { type Entry, initialize, list, reject, renew, trust } from '../pki/manage.ts'
import { PkiError } from '../pki/store.ts'
import { formatFinding } from '../policy/findings.ts'
import { loadPolicy, PolicyUnreadable } from '../policy/load.ts'
import type { InitFlags, ListFlags, PlaceFlags, RenewFlags, TrustFlags } from './pki.ts'

interface Place {
  directories: PkiDirectories
  /** Hosts of the conduit's listeners. */
  hosts: string[]
}

const RELOAD = 'A gateway that runs reads it when it reloads: kill -HUP, or systemctl reload headgate.'

/** @throws PkiError where there are no such directories */
function placeOf(place: string, { conduit }: PlaceFlags): Place {
  let directory: boolean
  try {
    directory = statSync(place).isDirectory()
  } catch (error) {
    throw new PkiError(
      `${place}: ${(error as NodeJS.ErrnoException).code === 'ENOENT' ? 'no such file or directory' : error}`,
    )
  }
  if (directory) {
    const [own, trustedClients, trustedServers] = ['own', 'clients', 'servers'].map((name) => join(place, name))
    return { directories: { own, trustedClients, trustedServers }, hosts: [] }
  }
  const { policy, findings } = loadPolicy(place)
  if (policy === null) {
    throw new PkiError(
      findings
        .filter(({ severity }) => severity === 'error')
        .map(formatFinding)
        .join('\n'),
    )
  }
  const found = policy.conduits.flatMap(({ id, protocols }) =>
    protocols.flatMap((protocol) =>
      protocol.kind === 'opcua' && protocol.certificates !== null ? [{ id, certificates: protocol.certificates }] : [],
    ),
  )
  const chosen = conduit === undefined ? found : found.filter(({ id }) => id === conduit)
  if (chosen.length === 0) {
    throw new PkiError(`${place}: no OPC UA conduit ${conduit ?? ''} with handling: terminate`.replace('  ', ' '))
  }
  if (new Set(chosen.map(({ certificates }) => JSON.stringify(certificates))).size > 1) {
    throw new PkiError(
      `${place}: several conduits terminate; say which, with --conduit ${chosen.map(({ id }) => id).join('|')}`,
    )
  }
  const ids = chosen.map(({ id }) => id)
  const listeners = policy.gateway?.listeners.filter((listener) => ids.includes(listener.conduit)) ?? []
  const hosts = listeners.map(({ listen }) => listen.host).filter((host) => host !== '0.0.0.0' && host !== '::')
  return { directories: chosen[0].certificates, hosts: [...new Set(hosts)] }
}

/** Runs one verb; what cannot be done is one line on stderr, and exit code 2. */
async function run(work: () => Promise<number> | number): Promise<number> {
  try {
    return await work()
  } catch (error) {
    const { code, path, message } = error as NodeJS.ErrnoException
    const known = error instanceof PkiError || error instanceof PolicyUnreadable
    if (!known && code === undefined) throw error
    process.stderr.write(`headgate: ${known ? message : `${path ?? ''}: ${code}`}\n`)
    return 2
  }
}

const say = (text: string): void => {
  process.stdout.write(`${text}\n`)
}

const describe = (entry: Entry): string =>
  `${printable(entry.name)}\n  thumbprint       ${entry.thumbprint}\n  application URI  ${printable(entry.applicationUri)}\n` +
  `  valid            ${entry.notBefore} to ${entry.notAfter}\n  file             ${entry.file}`

export const runInit = (place: string, flags: InitFlags): Promise<number> =>
  run(async () => {
    const { directories, hosts } = placeOf(place, flags)
    const entry = await initialize(directories, {
      commonName: flags.name ?? null,
      organization: flags.org ?? null,
      applicationUri: flags.uri ?? null,
      hosts: flags.host ?? hosts,
      bits: Number(flags.bits),
      days: flags.days,
      force: flags.force ?? false,
    })
    say(describe(entry))
    say('Servers and clients have to trust this certificate: give them the file.')
    return 0
  })

export const runList = (place: string, flags: ListFlags): Promise<number> =>
  run(() => {
    const { entries, unusable } = list(placeOf(place, flags).directories)
    if (flags.format === 'json') say(JSON.stringify({ certificates: entries, unusable }, null, 2))
    else {
      const rows = entries.map(({ list, state, thumbprint, days, name, applicationUri }) => [
        list,
        state,
        thumbprint,
        days < 0 ? 'expired' : `${days} days`,
        name,
        applicationUri,
      ])
      for (const line of table([['list', 'state', 'thumbprint', 'expires', 'name', 'application URI'], ...rows]))
        say(line)
      for (const line of unusable) process.stderr.write(`headgate: ${line}\n`)
    }
    if (unusable.length > 0) return 2
    return entries.some(({ state, days }) => state !== 'rejected' && days < 0) ? 1 : 0
  })

function table(rows: string[][]): string[] {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => printable(row[column]).length)))
  return rows.map((row) =>
    row
      .map((cell, column) => printable(cell).padEnd(widths[column]))
      .join('  ')
      .trimEnd(),
  )
}

/** Names come from certificates of anybody. */
const printable = (text: string): string => text.replaceAll(/[\p{Cc}\p{Cf}]/gu, '?').slice(0, 80)

export const runTrust = (place: string, certificate: string, flags: TrustFlags): Promise<number> =>
  run(() => {
    for (const entry of trust(placeOf(place, flags).directories, certificate, flags.list ?? null)) {
      say(`trusted among ${entry.list}: ${describe(entry)}`)
    }
    say(RELOAD)
    return 0
  })

export const runReject = (place: string, certificate: string, flags: TrustFlags): Promise<number> =>
  run(() => {
    for (const entry of reject(placeOf(place, flags).directories, certificate, flags.list ?? null)) {
      say(`no longer trusted among ${entry.list}: ${describe(entry)}`)
    }
    say(RELOAD)
    return 0
  })

export const runRenew = (place: string, flags: RenewFlags): Promise<number> =>
  run(async () => {
    const { directories } = placeOf(place, flags)
    const bits = flags.newKey === undefined ? null : flags.newKey === true ? 2048 : Number(flags.newKey)
    const { entry, former } = await renew(directories.own, flags.days, bits)
    say(describe(entry))
    say(`The former one is kept in ${former}. Servers and clients have to trust the new one first.`)
    say(RELOAD)
    return 0
  })
