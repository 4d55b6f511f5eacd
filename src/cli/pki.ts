/** `headgate pki init|trust|reject|list|renew`: registration of the verbs. */
import { type Command, InvalidArgumentError, Option } from 'commander'

export interface PlaceFlags {
  conduit?: string
}

export interface InitFlags extends PlaceFlags {
  name?: string
  org?: string
  uri?: string
  host?: string[]
  bits: string
  days: number
  force?: boolean
}

export interface ListFlags extends PlaceFlags {
  format: 'text' | 'json'
}

export interface TrustFlags extends PlaceFlags {
  list?: 'clients' | 'servers'
}

export interface RenewFlags extends PlaceFlags {
  days: number
  newKey?: string | boolean
}

const collect = (value: string, before: string[] = []): string[] => [...before, value]

function days(text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1 || value > 36_500)
    throw new InvalidArgumentError('a number of days is expected.')
  return value
}

const BITS = ['2048', '3072', '4096']
const PLACE = 'policy file with a terminating OPC UA conduit, or a directory that holds own, clients and servers'

/** Adds the verbs. Their exit codes go to `process.exitCode`: 0, 1 where a certificate has expired, 2 where it cannot be done. */
export function pki(program: Command): void {
  const verbs = program.command('pki').description('certificates of terminating OPC UA conduits')
  const verb = (name: string, text: string) =>
    verbs
      .command(name)
      .description(text)
      .argument('<place>', PLACE)
      .option('--conduit <id>', 'of this conduit, where the policy has several that terminate')
  verb('init', "make the gateway's own certificate and key, and the directories of the trust lists")
    .option('--name <name>', 'common name; default: Headgate on the host')
    .option('--org <name>', 'organization')
    .option('--uri <uri>', 'application URI; default: urn:HOST:headgate')
    .option(
      '--host <name>',
      'DNS name or address that clients use; may be repeated; default: as the listeners',
      collect,
    )
    .addOption(new Option('--bits <bits>', 'length of the RSA key').choices(BITS).default('2048'))
    .option('--days <days>', 'how long it is valid', days, 1825)
    .option('--force', 'replace a certificate that is there; it is kept beside')
    .action(async (place: string, flags: InitFlags) => {
      const { runInit } = await import('./pki-run.ts')
      process.exitCode = await runInit(place, flags)
    })
  verb('list', 'show every certificate: own, trusted, issuers, rejected; exit 1 where one in use has expired')
    .addOption(new Option('--format <format>', 'how to print them').choices(['text', 'json']).default('text'))
    .action(async (place: string, flags: ListFlags) => {
      const { runList } = await import('./pki-run.ts')
      process.exitCode = await runList(place, flags)
    })
  const which = () =>
    new Option('--list <list>', 'which trust list; default: where it is found').choices(['clients', 'servers'])
  verb('trust', 'trust a certificate: one of the rejected by its thumbprint, or one of a file')
    .argument('<certificate>', 'thumbprint (SHA-1, or how it begins), or a file in DER or PEM')
    .addOption(which())
    .action(async (place: string, certificate: string, flags: TrustFlags) => {
      const { runTrust } = await import('./pki-run.ts')
      process.exitCode = await runTrust(place, certificate, flags)
    })
  verb('reject', 'trust a certificate no longer')
    .argument('<certificate>', 'thumbprint (SHA-1, or how it begins), or its file')
    .addOption(which())
    .action(async (place: string, certificate: string, flags: TrustFlags) => {
      const { runReject } = await import('./pki-run.ts')
      process.exitCode = await runReject(place, certificate, flags)
    })
  verb('renew', "replace the gateway's own certificate by a new one of the same names; the old one is kept beside")
    .option('--days <days>', 'how long it is valid', days, 1825)
    .addOption(new Option('--new-key [bits]', 'with a new key, of that many bits').choices(BITS))
    .action(async (place: string, flags: RenewFlags) => {
      const { runRenew } = await import('./pki-run.ts')
      process.exitCode = await runRenew(place, flags)
    })
}
